"""LiteLLM's spend log: rows of the table `LiteLLM_SpendLogs` as CSV, JSON or JSONL, and replies of `/spend/logs`.

Sources: `litellm/proxy/schema.prisma` and `litellm/proxy/spend_tracking/spend_tracking_utils.py` in BerriAI/litellm
(read 2026-11), docs.litellm.ai "Spend Tracking" (2026-10-10). What they say, and what follows:

* `prompt_tokens` hold cached ones and those written to a cache; `metadata.usage_object` has them apart since 2025-05.
* `completionStartTime` is the `endTime` unless the answer was streamed.
* `session_id` is a random one where the caller named none: sessions that never repeat say nothing.
* `cache_hit` is `True` where LiteLLM's own cache answered: no provider was asked, so it is no call.
* `call_type` `aretrieve_batch` is where LiteLLM books what a batch cost.
* `end_user` is whom the request named; `user` is the owner of the key, and no end user.
* tags may be `name:value`; LiteLLM adds `User-Agent: ...` of its own.
"""

from functools import lru_cache
from typing import Any, Final

import msgspec

from halfrate.core.audit_call import Call
from halfrate.usage import values
from halfrate.usage.formats import Format, Meaning

_ENDPOINTS: Final = {
    "completion": "chat",
    "acompletion": "chat",
    "embedding": "embeddings",
    "aembedding": "embeddings",
    "responses": "responses",
    "aresponses": "responses",
    "anthropic_messages": "messages",
    "aretrieve_batch": "batches",
    "retrieve_batch": "batches",
    "amoderation": "moderations",
    "moderation": "moderations",
}


class _Row(msgspec.Struct, gc=False):
    call_type: Any = None
    api_key: Any = None
    spend: Any = None
    prompt_tokens: Any = None
    completion_tokens: Any = None
    start: Any = msgspec.field(default=None, name="startTime")
    end: Any = msgspec.field(default=None, name="endTime")
    first: Any = msgspec.field(default=None, name="completionStartTime")
    model: Any = None
    model_group: Any = None
    custom_llm_provider: Any = None
    metadata: Any = None
    cache_hit: Any = None
    request_tags: Any = None
    team_id: Any = None
    end_user: Any = None
    session_id: Any = None
    status: Any = None
    proxy_server_request: Any = None


class _Hour(msgspec.Struct, gc=False):
    ephemeral_1h_input_tokens: Any = None


class _Details(msgspec.Struct, gc=False):
    cached_tokens: Any = None
    cache_creation_token_details: _Hour | None = None


class _Usage(msgspec.Struct, gc=False):
    cache_read_input_tokens: Any = None
    cache_creation_input_tokens: Any = None
    prompt_tokens_details: _Details | None = None
    service_tier: Any = None


class _Metadata(msgspec.Struct, gc=False):
    usage_object: _Usage | None = None
    additional_usage_values: _Usage | None = None
    user_api_key_alias: Any = None
    user_api_key_team_alias: Any = None
    status: Any = None


_NOTHING: Final = _Metadata()
_decode = msgspec.json.Decoder(_Metadata).decode
_FAULTS: Final = (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError)


def _metadata(value: Any) -> _Metadata:
    try:
        if isinstance(value, str):
            return _decode(value) if value[:1] == "{" else _NOTHING
        return msgspec.convert(value, _Metadata) if isinstance(value, dict) else _NOTHING
    except _FAULTS:
        return _NOTHING


def _cache(about: _Metadata) -> tuple[int, int, int]:
    """Tokens read from a cache, written to one for five minutes, and for an hour."""
    for usage in (about.usage_object, about.additional_usage_values):
        if usage is None:
            continue
        details = usage.prompt_tokens_details
        read = values.count(usage.cache_read_input_tokens)
        if not read and details is not None:
            read = values.count(details.cached_tokens)
        written = values.count(usage.cache_creation_input_tokens)
        if not read and not written:
            continue
        hour = None if details is None else details.cache_creation_token_details
        for_hour = 0 if hour is None else min(written, values.count(hour.ephemeral_1h_input_tokens))
        return read, written - for_hour, for_hour
    return 0, 0, 0


def _plain_tag(tags: dict[str, str]) -> str | None:
    return next((value for name, value in tags.items() if name == value), None) if tags else None


class _Kind(msgspec.Struct, frozen=True, gc=False):
    """What calls of the same kind have in common."""

    provider: str | None
    model: str | None
    endpoint: str | None
    team: str | None
    key: str | None
    status: int | None
    batched: bool


@lru_cache(maxsize=4096)
def _kind(*given: Any) -> _Kind:
    """Kinds of calls are few: each is understood once."""
    call_type, provider, model, group, team, team_id, key, api_key, status, said = given
    name = values.text
    kind = name(call_type)
    return _Kind(
        values.provider(provider),
        name(model) or name(group),
        _ENDPOINTS.get(kind, kind) if kind is not None else None,
        name(team) or name(team_id),
        name(key) or name(api_key),
        values.status(status) or values.status(said),
        kind is not None and kind.endswith("retrieve_batch"),
    )


def _kind_of(row: _Row, about: _Metadata) -> _Kind:
    given = (
        *(row.call_type, row.custom_llm_provider, row.model, row.model_group),
        *(about.user_api_key_team_alias, row.team_id, about.user_api_key_alias, row.api_key),
        *(row.status, about.status),
    )
    try:
        return _kind(*given)
    except TypeError:
        # A list or an object stands where a name should.
        return _kind.__wrapped__(*given)


def _call(row: _Row) -> Meaning:
    if row.cache_hit == "True" or row.cache_hit is True:
        return None
    about = _metadata(row.metadata)
    kind = _kind_of(row, about)
    start, end = values.moment(row.start), values.moment(row.end)
    first = end if row.first == row.end else values.moment(row.first)
    took = end - start if start is not None and end is not None and end >= start else None
    ahead = first - start if start is not None and first is not None and first >= start else None
    streamed = None if ahead is None or took is None else ahead < took
    body = (
        values.nested(row.proxy_server_request) if row.proxy_server_request not in (None, "", "{}") else None
    )
    asked = None if body is None else values.truth(values.inner(body, "stream"))
    cached, write_5m, write_1h = _cache(about)
    tags = values.tags(row.request_tags)
    return Call(
        start,
        0.0,
        1,
        kind.provider,
        kind.model,
        kind.endpoint,
        values.job_of(tags) or _plain_tag(tags),
        kind.team or tags.get("team"),
        kind.key,
        values.text(row.end_user) if row.end_user else None,
        values.text(row.session_id),
        tags,
        values.split_input(values.count(row.prompt_tokens), cached, write_5m + write_1h),
        cached,
        write_5m,
        write_1h,
        values.count(row.completion_tokens),
        took,
        ahead if streamed else None,
        asked if asked is not None else streamed,
        bool(values.inner(body, "tools")) if isinstance(body, dict) and body else None,
        kind.status,
        values.dollars(row.spend),
        "batch" if kind.batched else _tier(about),
    )


def _tier(about: _Metadata) -> str | None:
    return None if about.usage_object is None else values.tier(about.usage_object.service_tier)


def _rows(_names: frozenset[str]) -> type[msgspec.Struct]:
    return _Row


def _fits(names: frozenset[str]) -> bool:
    return {"startTime", "spend"} <= names and bool(names & {"call_type", "prompt_tokens", "request_id"})


LITELLM: Final = Format(name="litellm", title="LiteLLM spend log", fits=_fits, rows=_rows, read=_call)
SUMMARY: Final = frozenset({"startTime", "spend", "users", "models"})
"""Fields of what `/spend/logs` answers when it adds up by day, as it does unless told `summarize=false`."""
