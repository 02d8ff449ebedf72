"""halfrate's own gateway log: JSONL, one object before an attempt at a call is sent, and one as it ends.

Version 1. Fields that a call has nothing to say for are left out. A line with `begun` is of an attempt that has only
begun; without one with the same number in `ended` behind it, nobody knows what became of it. A call that is tried at
several models has several attempts.

| Field | Meaning |
| --- | --- |
| `log` | `halfrate/1`: by this the log is known |
| `begun`, `ended` | the number that the log's writer has given the attempt that begins, or has ended |
| `time` | when the call came, ISO 8601 in UTC |
| `id` | the request's id, as the caller got it |
| `team`, `key` | whose key it was, and its name; never the key itself |
| `user` | the end user that the request named (OpenAI `user` or `safety_identifier`, Anthropic `metadata.user_id`) |
| `job`, `tags` | what the call was for, and other tags: an object of texts |
| `session` | the conversation or piece of work that the caller named |
| `endpoint` | `chat`, `responses`, `embeddings`, `messages`, `generate` |
| `account`, `provider` | whose model it was; no account where the caller brought a key of the caller's own |
| `model`, `served` | the model that was asked for, and the one that answered |
| `tier` | `batch`, `flex`, `standard` or `priority`: how it was served |
| `stream`, `tools` | whether the answer was streamed, and whether tools were offered |
| `deadline` | seconds within which the caller wanted the answer |
| `tokens` | `input` (uncached alone), `cached`, `write_5m`, `write_1h`, `output`; parts of these are `reasoning`, |
| | `audio_output` and `image_output` (of output), `audio_input` (of input), `audio_cached` (of cached) |
| `cost_picodollars` | what it cost; left out where the price is unknown |
| `realtime_picodollars`, `uncached_picodollars` | what it would have cost in the usual tier, and without a cache |
| `doubt` | nobody knows whether it is billed: it broke off, or its answer says nothing of tokens |
| `duration`, `first_token` | seconds to the end of the answer, and to its first token |
| `status` | the HTTP status that the caller got |
"""

from functools import lru_cache
from typing import Any, Final

import msgspec

from halfrate.core.audit_call import NO_TAGS, Call
from halfrate.usage import values
from halfrate.usage.formats import Format

VERSION: Final = "halfrate/1"
BEGUN: Final = b'{"log":"%b","begun":' % VERSION.encode()
"""How the line of an attempt that has only begun begins."""
_ENDED: Final = b'{"log":"%b","ended":' % VERSION.encode()
_MOST: Final = 10**21
"""Picodollars that a call may cost: what is more is no cost."""


class LoggedTokens(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Tokens of a call by kind, none of them counted twice in the first five."""

    input: int = 0
    cached: int = 0
    write_5m: int = 0
    write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_cached: int = 0
    audio_output: int = 0
    image_output: int = 0


class Logged(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A line of the log. `log` comes first."""

    log: str = ""
    begun: int | None = None
    ended: int | None = None
    time: str = ""
    id: str = ""
    team: str | None = None
    key: str | None = None
    user: str | None = None
    job: str | None = None
    tags: dict[str, str] = NO_TAGS
    session: str | None = None
    endpoint: str | None = None
    account: str | None = None
    provider: str | None = None
    model: str | None = None
    served: str | None = None
    tier: str | None = None
    stream: bool | None = None
    tools: bool | None = None
    deadline: float | None = None
    tokens: LoggedTokens = LoggedTokens()
    cost_picodollars: int | None = None
    realtime_picodollars: int | None = None
    uncached_picodollars: int | None = None
    doubt: bool = False
    duration: float | None = None
    first_token: float | None = None
    status: int | None = None


class _Kind(msgspec.Struct, frozen=True, gc=False):
    """What calls of the same kind have in common."""

    provider: str | None
    model: str | None
    endpoint: str | None
    job: str | None
    team: str | None
    key: str | None
    tier: str | None
    status: int | None


@lru_cache(maxsize=4096)
def _kind(*given: Any) -> _Kind:
    """Kinds of calls are few: each is understood once."""
    provider, served, model, endpoint, job, team, key, tier, status = given
    name = values.text
    return _Kind(
        values.provider(provider),
        name(served) or name(model),
        name(endpoint),
        name(job),
        name(team),
        name(key),
        values.tier(tier),
        values.status(status),
    )


def _call(row: Logged) -> Call | None:
    if row.begun is not None:
        # What became of it stands further down.
        return None
    kind = _kind(
        *(row.provider, row.served, row.model, row.endpoint, row.job, row.team, row.key, row.tier, row.status)
    )
    tokens, count, length = row.tokens, values.count, values.length
    cost = row.cost_picodollars
    return Call(
        values.moment(row.time),
        0.0,
        1,
        kind.provider,
        kind.model,
        kind.endpoint,
        kind.job or values.job_of(row.tags),
        kind.team,
        kind.key,
        values.text(row.user),
        values.text(row.session),
        row.tags,
        count(tokens.input),
        count(tokens.cached),
        count(tokens.write_5m),
        count(tokens.write_1h),
        count(tokens.output),
        length(row.duration),
        length(row.first_token),
        # A gateway knows what it did: what is left out was not so.
        bool(row.stream),
        bool(row.tools),
        kind.status,
        cost if cost is not None and 0 <= cost < _MOST else None,
        kind.tier,
        length(row.deadline),
    )


_encode = msgspec.json.Encoder().encode


def _rows(_names: frozenset[str]) -> type[msgspec.Struct]:
    return Logged


def _fits(names: frozenset[str]) -> bool:
    return {"log", "time", "tokens"} <= names or {"log", "time", "begun"} <= names


GATEWAY: Final = Format(
    name="halfrate", title="halfrate's gateway log", fits=_fits, rows=_rows, read=_call, inside=("calls",)
)


class Begun(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """What is known of an attempt before it is sent."""

    team: str
    key: str
    tags: dict[str, str]
    endpoint: str
    account: str | None
    provider: str
    model: str


class Ended(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """What is known of an attempt only when it has ended. `duration` is always there."""

    duration: float
    user: str | None = None
    served: str | None = None
    tier: str | None = None
    stream: bool | None = None
    tools: bool | None = None
    tokens: LoggedTokens = LoggedTokens()
    cost_picodollars: int | None = None
    realtime_picodollars: int | None = None
    uncached_picodollars: int | None = None
    doubt: bool = False
    first_token: float | None = None
    status: int | None = None


def facts(begun: Begun) -> bytes:
    """What both lines of an attempt say, and those of all others like it, in their form."""
    return _encode(begun)[1:-1]


def begun_line(number: int, time: str, request_id: str, told: bytes) -> bytes:
    """The beginning of an attempt as it stands in the log, with its newline. `told`: as of `facts`."""
    return b'%b%d,"time":"%b","id":"%b",%b}\n' % (
        BEGUN, number, time.encode(), request_id.encode(), told,
    )  # fmt: skip


def ended_line(number: int, time: str, request_id: str, told: bytes, ended: Ended) -> bytes:
    """The end of an attempt, of which the other arguments are as of its beginning."""
    return b'%b%d,"time":"%b","id":"%b",%b,%b\n' % (
        _ENDED, number, time.encode(), request_id.encode(), told, _encode(ended)[1:],
    )  # fmt: skip


def line(row: Logged) -> bytes:
    """A call as it stands in the log, with its newline."""
    if row.log != VERSION:
        row = msgspec.structs.replace(row, log=VERSION)
    return _encode(row) + b"\n"
