"""Anthropic's usage and costs: replies of `/v1/organizations/usage_report/messages` and of
`/v1/organizations/cost_report`, and the Console's export of usage as CSV.

Sources: platform.claude.com, API reference, "Get Messages Usage Report" and "Get Cost Report" (2026-10); the header of
the Console's CSV as tools that read it have it (2026). What they say, and what follows:

* `{"data": [{"starting_at", "ending_at", "results": [...]}]}`. Tokens are apart by kind; nobody says how many calls.
* Buckets are minutes, hours or days; the CSV has days. There is nothing of single calls in either.
* `service_tier` is batch where it was one. `context_window` says which calls were above 200,000 tokens.
* `amount` of the cost report is in cents, as decimal text: "123.45" is $1.23.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from halfrate.core.audit_call import Call
from halfrate.usage import values
from halfrate.usage.formats import Format

_DAY: Final = 86400.0
_SHORT: Final = frozenset({"0-200k", "≤ 200k", "<= 200k"})


class _Row(msgspec.Struct, gc=False):
    """A page, or a bucket."""

    data: Any = None
    results: Any = None
    starting_at: Any = None
    ending_at: Any = None


class _Result(msgspec.Struct, gc=False):
    uncached_input_tokens: Any = None
    cache_creation: Any = None
    cache_read_input_tokens: Any = None
    output_tokens: Any = None
    api_key_id: Any = None
    workspace_id: Any = None
    model: Any = None
    service_tier: Any = None
    context_window: Any = None
    amount: Any = None
    description: Any = None


class _Line(msgspec.Struct, gc=False):
    """Of the Console's CSV."""

    usage_date_utc: Any = None
    model_version: Any = None
    api_key: Any = None
    workspace: Any = None
    usage_type: Any = None
    context_window: Any = None
    usage_input_tokens_no_cache: Any = None
    usage_input_tokens_cache_write_5m: Any = None
    usage_input_tokens_cache_write_1h: Any = None
    usage_input_tokens_cache_read: Any = None
    usage_output_tokens: Any = None


def _long(window: Any) -> bool | None:
    name = values.text(window)
    return None if name is None else name not in _SHORT


def _of_line(row: _Line) -> Call:
    return Call(
        time=values.moment(row.usage_date_utc),
        span=_DAY,
        calls=0,
        provider="anthropic",
        model=values.text(row.model_version),
        endpoint="messages",
        team=values.text(row.workspace),
        key=values.text(row.api_key),
        input=values.count(row.usage_input_tokens_no_cache),
        cached=values.count(row.usage_input_tokens_cache_read),
        write_5m=values.count(row.usage_input_tokens_cache_write_5m),
        write_1h=values.count(row.usage_input_tokens_cache_write_1h),
        output=values.count(row.usage_output_tokens),
        tier=values.tier(row.usage_type),
        long=_long(row.context_window),
    )


def _of_result(row: _Result, start: float | None, span: float) -> Call:
    if row.amount is not None:
        cents = values.number(row.amount)
        return Call(
            time=start,
            span=span,
            calls=0,
            provider="anthropic",
            model=values.text(row.model),
            endpoint=values.text(row.description),
            team=values.text(row.workspace_id),
            cost=values.dollars(cents / 100) if cents is not None else None,
            tier=values.tier(row.service_tier),
            bill=True,
        )
    return Call(
        time=start,
        span=span,
        calls=0,
        provider="anthropic",
        model=values.text(row.model),
        endpoint="messages",
        team=values.text(row.workspace_id),
        key=values.text(row.api_key_id),
        input=values.count(row.uncached_input_tokens),
        cached=values.count(row.cache_read_input_tokens),
        write_5m=values.count(values.inner(row.cache_creation, "ephemeral_5m_input_tokens")),
        write_1h=values.count(values.inner(row.cache_creation, "ephemeral_1h_input_tokens")),
        output=values.count(row.output_tokens),
        tier=values.tier(row.service_tier),
        long=_long(row.context_window),
    )


def _bucket(given: Any) -> list[Call]:
    start, end = (values.moment(values.inner(given, name)) for name in ("starting_at", "ending_at"))
    span = end - start if start is not None and end is not None and end > start else _DAY
    results = values.inner(given, "results")
    if not isinstance(results, list):
        return []
    return [
        _of_result(msgspec.convert(one, _Result), start, span)
        for one in cast("list[Any]", results)
        if isinstance(one, Mapping)
    ]


def _calls(row: Any) -> list[Call]:
    if isinstance(row, _Line):
        return [_of_line(row)]
    if isinstance(row.data, list):
        return [call for one in cast("list[Any]", row.data) for call in _bucket(one)]
    return _bucket({"starting_at": row.starting_at, "ending_at": row.ending_at, "results": row.results})


def _rows(names: frozenset[str]) -> type[msgspec.Struct]:
    return _Line if "usage_date_utc" in names else _Row


def _fits(names: frozenset[str]) -> bool:
    return {"starting_at", "ending_at"} <= names or {"usage_date_utc", "model_version"} <= names


ANTHROPIC: Final = Format(
    name="anthropic", title="Anthropic usage and costs", fits=_fits, rows=_rows, read=_calls
)
