"""Langfuse's observations: from blob storage, from the UI's export, or from the public API, as JSON, JSONL or CSV.

Sources: langfuse.com "Blob Storage Export Field Reference" and "Observations API" (2026-10), langfuse/langfuse#5568 and
#9386. What they say, and what follows:

* Blob storage writes `snake_case`, the UI and the API `camelCase`; the public API answers `{"data": [...]}`.
* Only observations of type GENERATION and EMBEDDING are calls of a model.
* `usage_details` are units by kind; `input` is to hold no cached tokens, but some integrations send it with them. Where
  `total` is input and output alone, it holds them.
* `completion_start_time` and `time_to_first_token` are null unless the answer was streamed.
* `latency` is in seconds, but in milliseconds in old integrations: start and end are believed before it.
* Timestamps have no zone, and are in UTC. In CSV, objects are JSON in a cell.
"""

from typing import Any, Final, cast

import msgspec

from halfrate.core.audit_call import Call
from halfrate.usage import values
from halfrate.usage.formats import Format, Meaning

_CALLS: Final = frozenset({"GENERATION", "EMBEDDING"})


class _Row(msgspec.Struct, gc=False):
    type: Any = None
    name: Any = None
    trace_id: Any = None
    trace_name: Any = None
    session_id: Any = None
    user_id: Any = None
    start_time: Any = None
    end_time: Any = None
    completion_start_time: Any = msgspec.UNSET
    time_to_first_token: Any = msgspec.UNSET
    latency: Any = None
    model: Any = None
    provided_model_name: Any = None
    usage_details: Any = None
    usage: Any = None
    total_cost: Any = None
    calculated_total_cost: Any = None
    tool_calls: Any = msgspec.UNSET
    tool_definitions: Any = msgspec.UNSET
    level: Any = None
    tags: Any = None
    trace_tags: Any = None
    environment: Any = None
    prompt_name: Any = None


_Camel = msgspec.defstruct(
    "_Camel",
    [(field.name, Any, field.default) for field in msgspec.structs.fields(_Row)],
    rename="camel",
    gc=False,
)


class _Tokens(msgspec.Struct, gc=False):
    input: int = 0
    cached: int = 0
    write_5m: int = 0
    write_1h: int = 0
    output: int = 0


def _tokens(usage: Any) -> _Tokens:
    found = _Tokens()
    if type(usage) is not dict:
        return found
    total = None
    for kind, given in cast("dict[str, Any]", usage).items():
        units = values.count(given)
        if kind in {"total", "totalTokens", "total_tokens"}:
            total = units
        elif "cach" in kind:
            if "creat" in kind or "write" in kind:
                if "1h" in kind:
                    found.write_1h += units
                else:
                    found.write_5m += units
            else:
                found.cached += units
        elif "output" in kind or "completion" in kind:
            found.output += units
        elif "input" in kind or "prompt" in kind:
            found.input += units
    kept = found.cached + found.write_5m + found.write_1h
    if kept and total == found.input + found.output:
        found.input = values.split_input(found.input, found.cached, found.write_5m + found.write_1h)
    return found


def _filled(*given: Any) -> bool | None:
    """Whether any of these has something in it; None where the export has none of them."""
    said = False
    for value in given:
        if value is not msgspec.UNSET:
            if value and value not in ("[]", "{}"):
                return True
            said = True
    return False if said else None


def _call(row: Any) -> Meaning:
    model = values.text(row.provided_model_name) or values.text(row.model)
    kind = values.text(row.type)
    if kind not in _CALLS and (kind is not None or model is None):
        return None
    start, end = values.moment(row.start_time), values.moment(row.end_time)
    took = end - start if start is not None and end is not None and end >= start else None
    first = values.moment(row.completion_start_time) if row.completion_start_time else None
    tokens = _tokens(values.nested(row.usage_details) or values.nested(row.usage))
    tags = values.tags(row.tags or row.trace_tags)
    environment = values.text(row.environment)
    if environment is not None and environment != "default":
        tags = {"environment": environment, **tags}
    name = values.text(row.name)
    cost = values.dollars(row.total_cost)
    return Call(
        start,
        0.0,
        1,
        None,
        model,
        name,
        values.job_of(tags) or values.text(row.trace_name) or values.text(row.prompt_name) or name,
        tags.get("team"),
        None,
        values.text(row.user_id),
        values.text(row.session_id) or values.text(row.trace_id),
        tags,
        tokens.input,
        tokens.cached,
        tokens.write_5m,
        tokens.write_1h,
        tokens.output,
        took if took is not None else values.length(row.latency),
        first - start if first is not None and start is not None and first >= start else None,
        _filled(row.completion_start_time, row.time_to_first_token),
        _filled(row.tool_calls, row.tool_definitions),
        500 if row.level == "ERROR" else 200 if row.level else None,
        cost if cost is not None else values.dollars(row.calculated_total_cost),
    )


def _rows(names: frozenset[str]) -> type[msgspec.Struct]:
    return _Camel if "startTime" in names else _Row


def _fits(names: frozenset[str]) -> bool:
    about = {"type", "model", "provided_model_name", "providedModelName", "usage_details", "usageDetails"}
    return (
        {"trace_id", "start_time"} <= names
        or {"traceId", "startTime"} <= names
        or ({"startTime", "traceName"} <= names)
    ) and bool(names & about)


LANGFUSE: Final = Format(
    name="langfuse",
    title="Langfuse observations",
    fits=_fits,
    rows=_rows,
    read=_call,
    inside=("data", "observations"),
)
