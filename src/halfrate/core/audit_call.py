"""One call of a model as a log tells of it, whoever kept the log. What the log does not say is None."""

import msgspec

NO_TAGS: dict[str, str] = {}
"""Of every call without tags: it saves a dictionary a call. Never written to."""


class Call(msgspec.Struct, gc=False):
    """A call, or a bucket of calls that an export has already added up.

    Readers of a row a call give what they know in the order of the fields: by name it takes eight times as long.

    Args:
        time: when it began, seconds since 1970; of a bucket, its beginning.
        span: seconds that a bucket covers; 0 for one call.
        calls: how many; 0 where a bucket does not say how many.
        provider: as halfrate names it, or as the log does where it is unknown here.
        model: as the log names it.
        endpoint: the route or the kind of call.
        job: what the call was for, where the log has a name for that.
        user: the end user that somebody's application named: a person, or what stands for one.
        session: what calls of one piece of work have in common: a conversation, a trace.
        input: tokens that were neither read from a cache nor written to one.
        duration: seconds from start to end.
        first_token: seconds to the first token.
        status: the HTTP status; 200 and 500 stand for "went well" and "failed" where a log says no more.
        cost: picodollars, as the log has it.
        tier: batch, flex, standard or priority.
        deadline: seconds in which whoever asked wanted the answer.
        bill: it is a line of a bill: money, and no tokens.
        long: the tokens of a bucket are of requests above a price step, where the export says so.
    """

    time: float | None = None
    span: float = 0.0
    calls: int = 1
    provider: str | None = None
    model: str | None = None
    endpoint: str | None = None
    job: str | None = None
    team: str | None = None
    key: str | None = None
    user: str | None = None
    session: str | None = None
    tags: dict[str, str] = NO_TAGS
    input: int = 0
    cached: int = 0
    write_5m: int = 0
    write_1h: int = 0
    output: int = 0
    duration: float | None = None
    first_token: float | None = None
    stream: bool | None = None
    tools: bool | None = None
    status: int | None = None
    cost: int | None = None
    tier: str | None = None
    deadline: float | None = None
    bill: bool = False
    long: bool | None = None
