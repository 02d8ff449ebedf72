"""Helicone's requests: what its export tool (`npx @helicone/export`) writes, and replies of
`/v1/request/query-clickhouse`.

Sources: docs.helicone.ai "Export Data" and "Sessions" (2026-10); `examples/export/typescript/index.ts` and
`packages/llm-mapper/types.ts` in Helicone/helicone (read 2026-11). What they say, and what follows:

* The export is sorted by time, the newest first. `latency` and `delay_ms` are milliseconds, so is
  `time_to_first_token`, which only streamed answers have.
* The CSV has twelve columns, and among them neither tokens of a cache nor anything of streaming.
* `prompt_tokens` of Anthropic's models hold no cached ones; of others they do, unless the total says otherwise.
* Sessions are properties: `Helicone-Session-Id`, `Helicone-Session-Name`.
* An answer out of Helicone's own cache names the request that it repeats in `cache_reference_id`: it is no call.
"""

from typing import Any, Final

import msgspec

from halfrate.core.audit_call import Call
from halfrate.usage import values
from halfrate.usage.formats import Format, Meaning

_NO_REFERENCE: Final = "00000000-0000-0000-0000-000000000000"
_MILLI: Final = 0.001


class _Row(msgspec.Struct, gc=False):
    request_created_at: Any = None
    request_path: Any = None
    request_body: Any = None
    request_user_id: Any = None
    request_properties: Any = None
    properties: Any = None
    request_model: Any = None
    response_model: Any = None
    model: Any = None
    model_override: Any = None
    provider: Any = None
    response_status: Any = None
    delay_ms: Any = None
    latency: Any = None
    time_to_first_token: Any = msgspec.UNSET
    total_tokens: Any = None
    prompt_tokens: Any = None
    prompt_cache_read_tokens: Any = None
    prompt_cache_write_tokens: Any = None
    completion_tokens: Any = None
    cost: Any = None
    cost_usd: Any = msgspec.field(default=None, name="costUSD")
    prompt_id: Any = None
    cache_reference_id: Any = None


def _uncached(row: _Row, provider: str | None, cached: int, written: int) -> int:
    read, total = values.count(row.prompt_tokens), values.count(row.total_tokens)
    apart = provider == "anthropic" or total == read + cached + written + values.count(row.completion_tokens)
    return read if apart and cached + written else values.split_input(read, cached, written)


def _streamed(row: _Row, body: Any) -> bool | None:
    asked = values.truth(values.inner(body, "stream"))
    if asked is not None or row.time_to_first_token is msgspec.UNSET:
        return asked
    return bool(values.length(row.time_to_first_token))


def _call(row: _Row) -> Meaning:
    if row.cache_reference_id and row.cache_reference_id != _NO_REFERENCE:
        return None
    provider = values.provider(row.provider)
    cached, written = values.count(row.prompt_cache_read_tokens), values.count(row.prompt_cache_write_tokens)
    tags = values.tags(row.request_properties or row.properties)
    body = values.nested(row.request_body)
    took = values.length(row.delay_ms, _MILLI)
    cost = values.dollars(row.cost)
    path = values.text(row.request_path)
    return Call(
        time=values.moment(row.request_created_at),
        provider=provider,
        model=next(
            (
                name
                for given in (row.response_model, row.model_override, row.model, row.request_model)
                if (name := values.text(given)) is not None
            ),
            None,
        ),
        endpoint=path.partition("?")[0] if path is not None else None,
        job=values.job_of(tags) or tags.get("Helicone-Session-Name") or values.text(row.prompt_id),
        team=tags.get("team") or tags.get("Team"),
        user=values.text(row.request_user_id),
        session=tags.get("Helicone-Session-Id"),
        tags=tags,
        input=_uncached(row, provider, cached, written),
        cached=cached,
        write_5m=written,
        output=values.count(row.completion_tokens),
        duration=took if took is not None else values.length(row.latency, _MILLI),
        first_token=values.length(row.time_to_first_token, _MILLI)
        if row.time_to_first_token is not msgspec.UNSET
        else None,
        stream=_streamed(row, body),
        tools=bool(values.inner(body, "tools")) if isinstance(body, dict) and body else None,
        status=values.status(row.response_status),
        cost=cost if cost is not None else values.dollars(row.cost_usd),
        tier=values.tier(values.inner(body, "service_tier")),
    )


def _rows(_names: frozenset[str]) -> type[msgspec.Struct]:
    return _Row


def _fits(names: frozenset[str]) -> bool:
    return "request_created_at" in names and bool(
        names & {"prompt_tokens", "response_status", "request_id", "response_id"}
    )


HELICONE: Final = Format(name="helicone", title="Helicone requests", fits=_fits, rows=_rows, read=_call)
