"""Requests of Anthropic's Messages API as chat completions requests of OpenAI's, and completions as messages.

The other way round from the rest of the package: here a caller speaks Anthropic's form, and the model behind it takes
OpenAI's. Facts are from the types of Anthropic's SDK 2.12.0 and OpenAI's 3.54.0, and the pages of both APIs as of
2026-10.
"""

import re
from typing import Any, Final, cast

import msgspec

from halfrate.providers.translation.anthropic import EFFORTS
from halfrate.providers.translation.blocks import messages, system, unmark
from halfrate.providers.translation.chats import Call, Completion, PromptDetails, Said, Usage, texts_in
from halfrate.providers.translation.completion import read_arguments
from halfrate.providers.translation.fields import Fields, Untranslatable
from halfrate.providers.translation.options import opened, texts

__all__ = ["to_chat", "to_message"]

_TITLE: Final = "OpenAI"
_STOPS: Final = 4
_MOST: Final = 10_000_000
_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")

_SAYS_NOTHING: Final[dict[str, tuple[Any, ...]]] = {
    "mcp_servers": ([],),
    "service_tier": ("auto",),
    "speed": ("standard",),
    "temperature": (1,),
    "top_p": (1,),
}
"""Values that ask for what is done anyway: Anthropic's defaults, where OpenAI does the same."""

_CHOICES: Final = {"auto": "auto", "any": "required", "none": "none"}

_DEFAULT_EFFORT: Final = "high"
"""How hard Claude thinks that is told to think and not how hard; with OpenAI that differs from model to model."""

_NAMED_SCHEMAS: Final = frozenset(
    {"properties", "$defs", "definitions", "patternProperties", "dependentSchemas"}
)
"""Words of a schema under which schemas stand by names of the user's."""

_DATA: Final = frozenset({"enum", "const", "default", "examples", "required"})
"""Words of a schema under which no schema stands."""

MALFORMED: Final = "INVALID_JSON"
"""Under what name arguments stand that are no JSON object: the one in Anthropic's page on fine-grained tool streaming,
for tool inputs that are not JSON."""

_REASONS: Final = {
    "stop": "end_turn",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "length": "max_tokens",
    "content_filter": "refusal",
    # Together's, beside OpenAI's (together 3.1.1).
    "eos": "end_turn",
    # Mistral's, beside OpenAI's (mistralai 3.7.0).
    "model_length": "model_context_window_exceeded",
}


def to_chat(body: dict[str, Any], model: str) -> dict[str, Any]:
    """A Messages request as a chat completions request.

    Every field is translated, or means nothing, or is refused. Not word for word:

    - `max_tokens` becomes `max_completion_tokens`, which all models take, and which counts thinking as Anthropic does.
    - Marks of a cache (`cache_control`) are dropped: they change the price of a request, not its answer.
    - What a tool said that failed (`is_error`) begins with "Error: ".
    - The assistant's texts stand before its calls, wherever they stood among them.
    - How hard to think: `output_config.effort` by the same name, with `thinking` adaptive or without it; adaptive
      without an effort is Anthropic's "high"; disabled is "none". A budget of tokens is refused: chats know none.
    - JSON of a schema is asked for strictly, as Anthropic always does, and strict tools are strict. OpenAI's strict
      form knows no optional properties: schemas with some are refused.
    - `service_tier` "standard_only" becomes "default"; `metadata.user_id` becomes `user`.
    - An empty text says nothing and is left out, and so are fields that are null or at a default that both share.

    Refused, among others: top_k, stream, container, mcp_servers, inference_geo, tools that run on Anthropic's servers
    or have a form of Anthropic's own, documents, search results, citations, images that a tool shows or that are files,
    thoughts of Claude's, and a last message of the assistant's, which asks for it to be written on.

    Args:
        body: the request, decoded; not changed. Its own `model` is not looked at.
        model: what the chat is to name as its model.

    Returns:
        The body: `model`, `messages`, `max_completion_tokens`, and as asked for `tools`, `tool_choice`,
        `parallel_tool_calls`, `reasoning_effort`, `response_format`, `stop`, `temperature`, `top_p`, `user`,
        `service_tier`.

    Raises:
        Untranslatable: a field has no equivalent in a chat, or makes no sense.
    """
    fields = opened(body, _TITLE, _SAYS_NOTHING)
    unmark(fields)
    out: dict[str, Any] = {"model": model, "messages": [*system(fields), *messages(fields)]}
    most = fields.whole("max_tokens", 1, _MOST)
    if most is None:
        raise fields.refusal("max_tokens", "is missing")
    out["max_completion_tokens"] = most
    out |= _tools(fields)
    config = fields.inner("output_config") or Fields({}, _TITLE, "output_config")
    out |= _effort(fields, config) | _format(fields, config)
    config.finish()
    stops = texts(fields, "stop_sequences", _STOPS)
    if stops:
        out["stop"] = stops
    out |= _sampling(fields) | _user(fields) | _tier(fields)
    if fields.flag("stream"):
        raise fields.refusal("stream", "asks for the answer in pieces, and it comes whole")
    fields.finish()
    return out


def _tools(fields: Fields) -> dict[str, Any]:
    """The tools and the choice among them. OpenAI refuses to be told of a choice where there are no tools."""
    functions = [_tool(tool) for tool in fields.each("tools")]
    names = [function["name"] for function in functions]
    if len(set(names)) < len(names):
        raise fields.refusal("tools", "defines two tools of one name")
    out: dict[str, Any] = {}
    choice = fields.inner("tool_choice")
    if choice is not None:
        kind = choice.needed_text("type")
        if kind == "tool":
            name = choice.needed_text("name")
            if name not in names:
                raise choice.refusal("name", f"is {name!r}, which is none of the tools")
            out["tool_choice"] = {"type": "function", "function": {"name": name}}
        elif kind not in _CHOICES:
            raise choice.refusal("type", f"is {kind!r}, which has no equivalent with {_TITLE}")
        elif kind == "any" and not functions:
            raise fields.refusal("tool_choice", "asks for a call, and there are no tools")
        elif kind != "auto":
            out["tool_choice"] = _CHOICES[kind]
        if kind != "none" and choice.flag("disable_parallel_tool_use"):
            out["parallel_tool_calls"] = False
        choice.finish()
    if not functions:
        return {}
    return {"tools": [{"type": "function", "function": function} for function in functions], **out}


def _tool(tool: Fields) -> dict[str, Any]:
    kind = tool.text("type") or "custom"
    if kind != "custom":
        raise tool.refusal("type", f"is {kind!r}, which has no equivalent with {_TITLE}")
    unmark(tool)
    name = tool.needed_text("name")
    if not _TOOL_NAME.fullmatch(name):
        raise tool.refusal("name", f"is {name!r}: {_TITLE} takes 64 letters, digits, _ and - at most")
    function: dict[str, Any] = {"name": name}
    description = tool.text("description")
    if description:
        function["description"] = description
    schema = tool.mapping("input_schema")
    if schema is None:
        raise tool.refusal("input_schema", "is missing")
    function["parameters"] = schema
    if tool.flag("strict"):
        _check_strict(schema, tool.at("input_schema"))
        function["strict"] = True
    # How an input is sent that is streamed: here always as it comes.
    tool.flag("eager_input_streaming")
    if tool.flag("defer_loading"):
        raise tool.refusal("defer_loading", f"has no equivalent with {_TITLE}")
    if tool.values("input_examples"):
        raise tool.refusal("input_examples", f"has no equivalent with {_TITLE}")
    if tool.values("allowed_callers") not in ([], ["direct"]):
        raise tool.refusal("allowed_callers", "names others than the model itself")
    tool.finish()
    return function


def _effort(fields: Fields, config: Fields) -> dict[str, Any]:
    """How hard the model is to think."""
    effort = config.text("effort")
    if effort is not None and effort not in EFFORTS.values():
        raise config.refusal("effort", f"is {effort!r}, which is none of Anthropic's")
    thinking = fields.inner("thinking")
    if thinking is None:
        return {"reasoning_effort": effort} if effort else {}
    kind = thinking.needed_text("type")
    if kind == "disabled":
        if effort:
            raise config.refusal("effort", f"stands beside thinking turned off: with {_TITLE} they are one")
        effort = "none"
    elif kind == "adaptive":
        effort = effort or _DEFAULT_EFFORT
        if thinking.text("display") not in {None, "omitted"}:
            raise thinking.refusal("display", f"asks for thoughts, which {_TITLE} does not show in a chat")
    elif kind == "enabled":
        raise thinking.refusal(
            "budget_tokens",
            f"is a number of tokens, and {_TITLE} is told how hard to think: "
            "use thinking of type 'adaptive' with output_config.effort",
        )
    else:
        raise thinking.refusal("type", f"is {kind!r}, which has no equivalent with {_TITLE}")
    thinking.finish()
    return {"reasoning_effort": effort}


def _format(fields: Fields, config: Fields) -> dict[str, Any]:
    """The form of the answer; `output_format` is the field's older place."""
    form, older = config.inner("format"), fields.inner("output_format")
    if form is not None and older is not None:
        raise fields.refusal("output_format", "stands beside output_config.format")
    form = form or older
    if form is None:
        return {}
    kind = form.needed_text("type")
    if kind != "json_schema":
        raise form.refusal("type", f"is {kind!r}, which has no equivalent with {_TITLE}")
    schema = form.mapping("schema")
    if schema is None:
        raise form.refusal("schema", "is missing")
    form.finish()
    _check_strict(schema, form.at("schema"))
    # OpenAI wants a name, which means nothing.
    inner = {"name": "answer", "strict": True, "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": inner}}


def _check_strict(node: Any, path: str) -> None:
    """Refuse a schema that OpenAI's strict form does not take: every object has to be closed and to require all of its
    properties. Anthropic demands the former as well."""
    if isinstance(node, list):
        for index, inner in enumerate(cast("list[Any]", node)):
            _check_strict(inner, f"{path}[{index}]")
    if not isinstance(node, dict):
        return
    schema = cast("dict[str, Any]", node)
    kinds = schema.get("type")
    if "properties" in schema or kinds == "object" or (isinstance(kinds, list) and "object" in kinds):
        _check_object(schema, path)
    for word, inner in schema.items():
        if word in _NAMED_SCHEMAS:
            for name, named in _named(inner).items():
                _check_strict(named, f"{path}.{word}.{name}")
        elif word not in _DATA:
            _check_strict(inner, f"{path}.{word}")


def _check_object(schema: dict[str, Any], path: str) -> None:
    if schema.get("additionalProperties") is not False:
        raise Untranslatable(f"{path}.additionalProperties", "is not false, which a strict schema demands")
    required = schema.get("required")
    needed = cast("list[Any]", required) if isinstance(required, list) else []
    for name in _named(schema.get("properties")):
        if name not in needed:
            raise Untranslatable(
                f"{path}.properties.{name}",
                f"is not required, and {_TITLE}'s strict form knows no optional properties: "
                "require it, and let it be null",
            )


def _named(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _sampling(fields: Fields) -> dict[str, Any]:
    """Temperature and top_p, which mean the same to both; OpenAI's temperature only goes further."""
    given = Fields({name: fields.take(name) for name in ("temperature", "top_p")}, "Anthropic")
    found = {name: given.number(name, 0, 1) for name in ("temperature", "top_p")}
    return {name: value for name, value in found.items() if value is not None}


def _user(fields: Fields) -> dict[str, Any]:
    metadata = fields.inner("metadata")
    if metadata is None:
        return {}
    user = metadata.text("user_id")
    metadata.finish()
    return {"user": user} if user else {}


def _tier(fields: Fields) -> dict[str, Any]:
    tier = fields.text("service_tier")
    if tier is None:
        return {}
    if tier != "standard_only":
        raise fields.refusal("service_tier", f"is {tier!r}, which has no equivalent with {_TITLE}")
    return {"service_tier": "default"}


def to_message(completion: dict[str, Any]) -> dict[str, Any]:
    """A chat completion as an Anthropic message.

    - The id is the completion's, with `msg_` for `chatcmpl-`.
    - Only the first choice is told: `to_chat` never asks for more. What the model thought is left out.
    - A refusal is a text, and stands in `stop_details.explanation` as well; the stop reason is `refusal`. So it is
      where the reason is one that nobody knows: the answer is not called whole.
    - Arguments of a call that are no JSON object, as where the answer was cut off, are the input
      `{"INVALID_JSON": <the text as it came>}`.
    - `stop_sequence` is null: chats do not say which text they stopped at, nor that they did.
    - Tokens are 0 where the completion has no `usage`: a message has to say them.

    Args:
        completion: the completion, decoded; not changed.

    Returns:
        The message: `id`, `type`, `role`, `model`, `content` with blocks `text` and `tool_use`, `stop_reason`,
        `stop_sequence`, `stop_details`, and `usage`, of whose `input_tokens` those read from the cache and written
        to it are no part.

    Raises:
        msgspec.ValidationError: it is no chat completion, or one without choices.
    """
    read = msgspec.convert(completion, Completion)
    choice = read.choices[0]
    calls = [_use(call, call_id(read.id, n)) for n, call in enumerate(choice.message.tool_calls or [])]
    message = choice.message
    return {
        **head(read.id, read.model),
        "content": [*({"type": "text", "text": text} for text in _said(message)), *calls],
        **ending(choice.finish_reason, message.refusal or "", calls=bool(calls)),
        "usage": counted(read.usage or Usage()),
    }


def head(completion_id: str, model: str) -> dict[str, Any]:
    """What a message says before all else."""
    return {"id": f"msg_{_name(completion_id)}", "type": "message", "role": "assistant", "model": model}


def call_id(completion_id: str, number: int) -> str:
    """What a call is known by that has no id."""
    return f"toolu_{_name(completion_id)}_{number}"


def _name(completion_id: str) -> str:
    return completion_id.removeprefix("chatcmpl-").removeprefix("msg_")


def _said(message: Said) -> list[str]:
    return [text for text in (*texts_in(message.content), message.refusal) if text]


def _use(call: Call, otherwise: str) -> dict[str, Any]:
    given = call.function.arguments or {}
    read = read_arguments(given) if isinstance(given, str) else given
    return {
        "type": "tool_use",
        "id": call.id or otherwise,
        "name": call.function.name,
        "input": {MALFORMED: given} if read is None else read,
    }


def ending(finish_reason: str | None, refusal: str, *, calls: bool) -> dict[str, Any]:
    """Why a message ended: `stop_reason`, `stop_sequence`, `stop_details`. `calls`: whether there are any in it."""
    reason = "refusal" if refusal else _REASONS.get(finish_reason or "stop", "refusal")
    # OpenAI says "stop" of a call that was demanded by name (vllm-project/vllm, pull request 25054).
    if reason in {"end_turn", "tool_use"}:
        reason = "tool_use" if calls else "end_turn"
    details = None
    if reason == "refusal":
        because = refusal or f"The model gave no whole answer: {finish_reason}."
        details = {"type": "refusal", "category": None, "explanation": because}
    return {"stop_reason": reason, "stop_sequence": None, "stop_details": details}


def counted(usage: Usage) -> dict[str, Any]:
    """OpenAI's prompt includes what was read from a cache and what was written to one; Anthropic's input does not."""
    prompt = usage.prompt_tokens_details or PromptDetails()
    cached, written = prompt.cached_tokens or 0, prompt.cache_write_tokens or 0
    counted: dict[str, Any] = {
        "input_tokens": max((usage.prompt_tokens or 0) - cached - written, 0),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.completion_tokens or 0,
    }
    output = usage.completion_tokens_details
    if output is not None and output.reasoning_tokens is not None:
        counted["output_tokens_details"] = {"thinking_tokens": output.reasoning_tokens}
    return counted
