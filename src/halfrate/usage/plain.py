"""A plain table of calls, as CSV or TSV with a header, or as JSONL: the form for every log that has no reader here.

`time` and `model` have to be there, and `input_tokens` or `output_tokens`; everything else may be left out. Columns
that are not in this list are passed over, but `tag.NAME`, which is a tag.

| Column | Meaning |
| --- | --- |
| `time` | when the call began: ISO 8601 (without a zone it is UTC), or seconds or milliseconds since 1970 |
| `provider` | as in `openai`; without it the model is its maker's |
| `model` | as the provider names it, or `PROVIDER/MODEL` |
| `endpoint` | the route, or the kind of call |
| `job`, `team`, `key` | what the call was for, whose it was, by which key |
| `user` | the end user |
| `session` | what calls of one conversation, or of one piece of work, have in common |
| `input_tokens` | all that was read, cached ones and those written to a cache among them |
| `cached_tokens` | those read from a cache |
| `cache_write_tokens`, `cache_write_1h_tokens` | those written to one for five minutes, and for an hour |
| `output_tokens` | all that was written, reasoning included |
| `duration_s`, `first_token_s` | seconds to the end, and to the first token |
| `stream`, `tools` | `true` or `false`: the answer was streamed; tools were offered |
| `status` | the HTTP status, or `ok` or `error` |
| `cost_usd` | what it cost, if known |
| `tier` | `batch`, `flex`, `standard` or `priority` |
| `deadline_s` | seconds within which the answer was wanted |
| `calls` | how many calls the line stands for; 1 |
| `span_s` | seconds that they were spread over; 0 |
"""

from functools import lru_cache
from typing import Any, Final, cast

import msgspec

from halfrate.core.audit_call import NO_TAGS, Call
from halfrate.usage import values
from halfrate.usage.formats import Format, Meaning

TAG: Final = "tag."
_MOST_TAGS: Final = 50


class _Row(msgspec.Struct, gc=False):
    time: Any = None
    provider: Any = None
    model: Any = None
    endpoint: Any = None
    job: Any = None
    team: Any = None
    key: Any = None
    user: Any = None
    session: Any = None
    input_tokens: Any = None
    cached_tokens: Any = None
    cache_write_tokens: Any = None
    cache_write_1h_tokens: Any = None
    output_tokens: Any = None
    duration_s: Any = None
    first_token_s: Any = None
    stream: Any = None
    tools: Any = None
    status: Any = None
    cost_usd: Any = None
    tier: Any = None
    deadline_s: Any = None
    calls: Any = None
    span_s: Any = None


COLUMNS: Final = _Row.__struct_fields__


@lru_cache(maxsize=32)
def _with_tags(names: tuple[str, ...]) -> type[msgspec.Struct]:
    extra: list[Any] = [(f"tag_{i}", Any, None) for i in range(len(names))]
    return msgspec.defstruct(
        "_Tagged", extra, bases=(_Row,), rename={f"tag_{i}": name for i, name in enumerate(names)}, gc=False
    )


@lru_cache(maxsize=32)
def _tag_fields(row: type[Any]) -> tuple[tuple[str, str], ...]:
    fields = msgspec.structs.fields(row)[len(COLUMNS) :]
    return tuple((field.name, field.encode_name.removeprefix(TAG)) for field in fields)


def _tags(row: Any) -> dict[str, str]:
    named = _tag_fields(cast("type[Any]", type(row)))
    if not named:
        return NO_TAGS
    return values.tag_table({name: getattr(row, field) for field, name in named})


class _Kind(msgspec.Struct, frozen=True, gc=False):
    """What calls of the same kind have in common."""

    provider: str | None
    model: str | None
    endpoint: str | None
    job: str | None
    team: str | None
    key: str | None
    stream: bool | None
    tools: bool | None
    status: int | None
    tier: str | None
    deadline: float | None


@lru_cache(maxsize=4096)
def _kind(*given: Any) -> _Kind:
    """Kinds of calls are few: each is understood once."""
    provider, model, endpoint, job, team, key, stream, tools, status, tier, deadline = given
    name = values.text
    return _Kind(
        values.provider(provider),
        name(model),
        name(endpoint),
        name(job),
        name(team),
        name(key),
        values.truth(stream),
        values.truth(tools),
        values.status(status),
        values.tier(tier),
        values.length(deadline),
    )


def _kind_of(row: Any) -> _Kind:
    given = (
        *(row.provider, row.model, row.endpoint, row.job, row.team, row.key),
        *(row.stream, row.tools, row.status, row.tier, row.deadline_s),
    )
    try:
        return _kind(*given)
    except TypeError:
        # A list or an object stands where a name should.
        return _kind.__wrapped__(*given)


def _call(row: Any) -> Meaning:
    count, length = values.count, values.length
    kind = _kind_of(row)
    if kind.model is None:
        return None
    tags = _tags(row) if type(row) is not _Row else NO_TAGS
    cached = count(row.cached_tokens) if row.cached_tokens else 0
    write_5m = count(row.cache_write_tokens) if row.cache_write_tokens else 0
    write_1h = count(row.cache_write_1h_tokens) if row.cache_write_1h_tokens else 0
    return Call(
        values.moment(row.time) if row.time else None,
        (length(row.span_s) or 0.0) if row.span_s else 0.0,
        count(row.calls) if row.calls else 1,
        kind.provider,
        kind.model,
        kind.endpoint,
        kind.job or values.job_of(tags),
        kind.team or tags.get("team"),
        kind.key,
        values.text(row.user) if row.user else None,
        values.text(row.session) if row.session else None,
        tags,
        values.split_input(count(row.input_tokens), cached, write_5m + write_1h),
        cached,
        write_5m,
        write_1h,
        count(row.output_tokens),
        length(row.duration_s),
        length(row.first_token_s) if row.first_token_s else None,
        kind.stream,
        kind.tools,
        kind.status,
        values.dollars(row.cost_usd) if row.cost_usd else None,
        kind.tier,
        kind.deadline,
    )


def _rows(names: frozenset[str]) -> type[msgspec.Struct]:
    tags = tuple(sorted(name for name in names if name.startswith(TAG) and len(name) > len(TAG)))
    return _with_tags(tags[:_MOST_TAGS]) if tags else _Row


def _fits(names: frozenset[str]) -> bool:
    return {"time", "model"} <= names and bool(names & {"input_tokens", "output_tokens"})


PLAIN: Final = Format(
    name="plain", title="plain table of calls", fits=_fits, rows=_rows, read=_call, inside=("calls", "data")
)
