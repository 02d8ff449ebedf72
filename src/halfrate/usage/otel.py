"""OpenTelemetry spans of GenAI calls: OTLP as JSON, in documents or one `resourceSpans` message a line.

Sources: opentelemetry.io "OpenTelemetry Protocol File Exporter" and the semantic conventions for generative client AI
spans, 1.36 to 1.41 (2026-10). What they say, and what follows:

* A span is a call if `gen_ai.operation.name` is one of chat, generate_content, text_completion and embeddings. Spans of
  agents and tools are not, and repeat the tokens of the calls beneath them.
* `gen_ai.usage.input_tokens` should hold cached ones; where it is less than they are, it does not. Before 1.37 the
  tokens were `prompt_tokens` and `completion_tokens`, and the provider was `gen_ai.system`.
* Whether an answer was streamed stands in `gen_ai.request.stream`, which is new: most spans do not say.
* Numbers of 64 bits are texts in OTLP's JSON, and times are nanoseconds.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import msgspec

from halfrate.core.audit_call import NO_TAGS, Call
from halfrate.usage import values
from halfrate.usage.formats import Format

_ENDPOINTS: Final = {
    "chat": "chat",
    "generate_content": "generate",
    "text_completion": "completions",
    "embeddings": "embeddings",
}
_TOOL_ENDS: Final = ("tool_calls", "tool_call", "tool_use", "function_call")
_SKIPPED: Final = ("gen_ai.", "server.", "http.", "openai.", "telemetry.", "aws.", "azure.")


class _Row(msgspec.Struct, gc=False):
    """A message, a part of it, or a span."""

    resource_spans: Any = msgspec.field(default=None, name="resourceSpans")
    resource: Any = None
    scope_spans: Any = msgspec.field(default=None, name="scopeSpans")
    spans: Any = None
    trace: Any = msgspec.field(default=None, name="traceId")
    name: Any = None
    start: Any = msgspec.field(default=None, name="startTimeUnixNano")
    end: Any = msgspec.field(default=None, name="endTimeUnixNano")
    attributes: Any = None
    status: Any = None


def _objects(value: Any) -> list[dict[str, Any]]:
    if type(value) is not list:
        return []
    return [cast("dict[str, Any]", one) for one in cast("list[Any]", value) if type(one) is dict]


def _value(value: Any) -> Any:
    """What an AnyValue holds."""
    if type(value) is not dict:
        return value
    for kind, held in cast("dict[str, Any]", value).items():
        if kind == "arrayValue":
            return [_value(one) for one in _objects(values.inner(held, "values"))]
        return held
    return None


def _attributes(given: Any) -> dict[str, Any]:
    if type(given) is dict:
        return cast("dict[str, Any]", given)
    return {
        name: _value(one.get("value")) for one in _objects(given) if isinstance(name := one.get("key"), str)
    }


def _first(of: Mapping[str, Any], *names: str) -> Any:
    return next((of[name] for name in names if of.get(name) not in (None, "")), None)


def _call(span: Mapping[str, Any], resource: Mapping[str, Any]) -> Call | None:
    about = _attributes(span.get("attributes"))
    operation = values.text(_first(about, "gen_ai.operation.name"))
    tokens_in = _first(about, "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
    if operation not in _ENDPOINTS and (operation is not None or tokens_in is None):
        return None
    start, end = values.moment(span.get("startTimeUnixNano")), values.moment(span.get("endTimeUnixNano"))
    read = values.count(tokens_in)
    cached = values.count(_first(about, "gen_ai.usage.cache_read.input_tokens"))
    written = values.count(
        _first(about, "gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens")
    )
    tags = _tags(about, resource)
    ahead = values.length(_first(about, "gen_ai.response.time_to_first_chunk"))
    streamed = values.truth(_first(about, "gen_ai.request.stream"))
    name = values.text(_first(about, "gen_ai.prompt.name", "gen_ai.agent.name"))
    service = values.text(_first(resource, "service.name"))
    return Call(
        time=start,
        provider=values.provider(_first(about, "gen_ai.provider.name", "gen_ai.system")),
        model=values.text(_first(about, "gen_ai.response.model", "gen_ai.request.model")),
        endpoint=_ENDPOINTS[operation] if operation is not None else "chat",
        job=values.job_of(tags) or name or service,
        team=tags.get("team") or values.text(_first(resource, "service.namespace")),
        user=values.text(_first(about, "user.id", "enduser.id")),
        session=values.text(_first(about, "gen_ai.conversation.id", "session.id"))
        or values.text(span.get("traceId")),
        tags=tags,
        input=values.split_input(read, cached, written),
        cached=cached,
        write_5m=written,
        output=values.count(_first(about, "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")),
        duration=end - start if start is not None and end is not None and end >= start else None,
        first_token=ahead,
        stream=True if ahead is not None else streamed,
        tools=_tools(about),
        status=_status(span.get("status"), about),
        tier=values.tier(
            _first(about, "openai.response.service_tier", "gen_ai.openai.response.service_tier")
        ),
    )


def _tools(about: Mapping[str, Any]) -> bool | None:
    if _first(about, "gen_ai.tool.definitions") is not None:
        return True
    ends = about.get("gen_ai.response.finish_reasons")
    # That none was called says nothing of whether any was offered.
    return True if isinstance(ends, (str, list)) and any(end in ends for end in _TOOL_ENDS) else None


def _status(given: Any, about: Mapping[str, Any]) -> int | None:
    fault = values.status(about.get("error.type"))
    if fault is not None:
        return fault
    code = values.inner(given, "code")
    if about.get("error.type") or code in (2, "STATUS_CODE_ERROR"):
        return 500
    return 200 if given is not None else None


def _tags(about: Mapping[str, Any], resource: Mapping[str, Any]) -> dict[str, str]:
    found = {name: value for name, value in {**resource, **about}.items() if not name.startswith(_SKIPPED)}
    return values.tag_table(found) if found else NO_TAGS


def _of_resource(message: Mapping[str, Any]) -> Iterator[Call]:
    resource = _attributes(values.inner(message.get("resource"), "attributes"))
    for scope in _objects(message.get("scopeSpans") or message.get("instrumentationLibrarySpans")):
        for span in _objects(scope.get("spans")):
            call = _call(span, resource)
            if call is not None:
                yield call


def _calls(row: _Row) -> list[Call]:
    if row.resource_spans is not None:
        return [call for one in _objects(row.resource_spans) for call in _of_resource(one)]
    if row.scope_spans is not None:
        return list(_of_resource({"resource": row.resource, "scopeSpans": row.scope_spans}))
    span = {
        "traceId": row.trace,
        "startTimeUnixNano": row.start,
        "endTimeUnixNano": row.end,
        "attributes": row.attributes,
        "status": row.status,
    }
    call = _call(span, {})
    return [] if call is None else [call]


def _rows(_names: frozenset[str]) -> type[msgspec.Struct]:
    return _Row


def _fits(names: frozenset[str]) -> bool:
    return bool(names & {"resourceSpans", "scopeSpans"}) or {"startTimeUnixNano", "attributes"} <= names


OTEL: Final = Format(
    name="otel",
    title="OpenTelemetry spans",
    fits=_fits,
    rows=_rows,
    read=_calls,
    inside=("resourceSpans", "spans"),
)
