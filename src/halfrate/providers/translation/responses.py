"""Requests of OpenAI's Responses API as chat completions requests, and completions as responses.

For models whose providers know chats alone. Facts are from the types of OpenAI's SDK 3.54.0 and the API reference
("Responses") as of 2026-11.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from halfrate.providers.translation.chats import Completion, OutputDetails, PromptDetails, Usage, texts_in
from halfrate.providers.translation.fields import Fields
from halfrate.providers.translation.options import opened

__all__ = ["echoed", "to_chat", "to_response"]

_TITLE: Final = "a chat"
_MOST: Final = 10_000_000
_SAYS_NOTHING: Final[dict[str, tuple[Any, ...]]] = {
    "background": (False,),
    "include": ([], ["reasoning.encrypted_content"]),
    "store": (True, False),
    "stream_options": ({},),
    "top_logprobs": (0,),
    "truncation": ("disabled",),
}
"""Values that ask for what is done anyway. Nobody keeps what is answered, whether it is to be stored or not: a call
that is passed on is over when it is answered."""
_OVER: Final = (
    "temperature",
    "top_p",
    "parallel_tool_calls",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "service_tier",
)
"""Fields that mean the same in a chat, and are for its provider to judge."""
_CHOICES: Final = frozenset({"auto", "none", "required"})
_ROLES: Final = frozenset({"user", "assistant", "system", "developer"})
_ECHOED: Final[dict[str, Any]] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "temperature": None,
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
}
"""What a response says again of what was asked, and what it says where nothing was."""


def echoed(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a response says again of its request."""
    return _ECHOED | {name: body[name] for name in _ECHOED if body.get(name) is not None}


def to_chat(body: Mapping[str, Any], model: str) -> dict[str, Any]:
    """A request as a chat completions request.

    Every field is translated, or means nothing, or is refused. Not word for word:

    - `instructions` are the first message, a system's. `max_output_tokens` becomes `max_completion_tokens`.
    - Calls of functions that stand one behind the other are one message of the assistant's, with a text before them.
    - What was thought in earlier turns (`reasoning` items) is left out: no chat takes it.
    - Metadata is the gateway's matter: tags.

    Refused, among others: what leans on something that is kept elsewhere (`previous_response_id`, `conversation`,
    `prompt`, references to items, files by their ids), tools that run at OpenAI, and `truncation` "auto".

    Args:
        body: the request, decoded; not changed. Its own `model` is not looked at.
        model: what the chat is to name as its model.

    Raises:
        Untranslatable: a field has no equivalent in a chat, or makes no sense.
    """
    fields = opened(body, _TITLE, _SAYS_NOTHING)
    out: dict[str, Any] = {"model": model}
    instructions = fields.text("instructions")
    said = [{"role": "system", "content": instructions}] if instructions else []
    out["messages"] = said + _messages(fields)
    if not out["messages"]:
        raise fields.refusal("input", "is missing")
    most = fields.whole("max_output_tokens", 1, _MOST)
    if most is not None:
        out["max_completion_tokens"] = most
    for name in _OVER:
        value = fields.take(name)
        if value is not None:
            out[name] = value
    out |= _tools(fields) | _text(fields) | _reasoning(fields)
    fields.mapping("metadata")
    if fields.flag("stream"):
        raise fields.refusal("stream", "asks for the answer in pieces, and it comes whole")
    fields.finish()
    return out


def _messages(fields: Fields) -> list[dict[str, Any]]:
    given = fields.take("input")
    if given is None:
        return []
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    found: list[dict[str, Any]] = []
    for item in Fields({"input": given}, _TITLE).each("input"):
        _add(found, item)
    return found


def _add(found: list[dict[str, Any]], item: Fields) -> None:
    """One item of the conversation, behind what was said before it."""
    kind = item.text("type") or "message"
    # What an item of an earlier answer is called, and how it ended there.
    item.take("id")
    item.take("status")
    match kind:
        case "message":
            role = item.needed_text("role")
            if role not in _ROLES:
                raise item.refusal("role", f"is {role!r}, which is none of OpenAI's")
            item.take("phase")
            found.append({"role": role, "content": _content(item, role)})
        case "function_call":
            call = {
                "id": item.needed_text("call_id"),
                "type": "function",
                "function": {"name": item.needed_text("name"), "arguments": item.needed_text("arguments")},
            }
            last = found[-1] if found else {}
            if last.get("role") == "assistant":
                last.setdefault("tool_calls", []).append(call)
            else:
                found.append({"role": "assistant", "content": None, "tool_calls": [call]})
        case "function_call_output":
            message = {"role": "tool", "tool_call_id": item.needed_text("call_id")}
            found.append({**message, "content": _content(item, "tool", "output")})
        case "reasoning":
            return
        case _:
            raise item.refusal("type", f"is {kind!r}, which has no equivalent with {_TITLE}")
    item.finish()


def _content(item: Fields, role: str, name: str = "content") -> Any:
    given = item.take(name)
    if given is None:
        raise item.refusal(name, "is missing")
    if isinstance(given, str):
        return given
    parts = Fields({name: given}, _TITLE, item.path).each(name)
    found = [_part(part, role) for part in parts]
    if role in {"assistant", "tool"} and all(part["type"] == "text" for part in found):
        # A string is understood everywhere.
        return "".join(part["text"] for part in found)
    return found


def _part(part: Fields, role: str) -> dict[str, Any]:
    kind = part.needed_text("type")
    match kind:
        case "input_text" | "output_text":
            text: dict[str, Any] = {"type": "text", "text": part.needed_text("text")}
            part.values("annotations")
            part.values("logprobs")
        case "refusal" if role == "assistant":
            text = {"type": "text", "text": part.needed_text("refusal")}
        case "input_image" if role != "assistant":
            image: dict[str, Any] = {"url": part.needed_text("image_url")}
            detail = part.text("detail")
            if detail is not None:
                image["detail"] = detail
            text = {"type": "image_url", "image_url": image}
        case "input_file" if role != "assistant":
            file = {key: value for key in ("filename", "file_data") if (value := part.text(key)) is not None}
            if "file_data" not in file:
                raise part.refusal("file_data", "is missing: a file that lies elsewhere cannot be sent along")
            text = {"type": "file", "file": file}
        case _:
            raise part.refusal("type", f"is {kind!r}, which has no equivalent with {_TITLE}")
    part.finish()
    return text


def _tools(fields: Fields) -> dict[str, Any]:
    functions: list[dict[str, Any]] = []
    for tool in fields.each("tools"):
        kind = tool.needed_text("type")
        if kind != "function":
            raise tool.refusal("type", f"is {kind!r}, which runs at OpenAI alone")
        function: dict[str, Any] = {"name": tool.needed_text("name")}
        description, parameters = tool.text("description"), tool.mapping("parameters")
        if description:
            function["description"] = description
        if parameters is not None:
            function["parameters"] = parameters
        if tool.flag("strict"):
            function["strict"] = True
        tool.finish()
        functions.append({"type": "function", "function": function})
    out: dict[str, Any] = {"tools": functions} if functions else {}
    choice = fields.take("tool_choice")
    if isinstance(choice, str) and choice in _CHOICES:
        return out | ({"tool_choice": choice} if functions and choice != "auto" else {})
    if isinstance(choice, dict):
        named = Fields(cast("dict[str, Any]", choice), _TITLE, "tool_choice")
        if named.needed_text("type") == "function":
            out["tool_choice"] = {"type": "function", "function": {"name": named.needed_text("name")}}
            named.finish()
            return out
    if choice is not None:
        raise fields.refusal("tool_choice", f"has no equivalent with {_TITLE}")
    return out


def _text(fields: Fields) -> dict[str, Any]:
    """The form of the answer."""
    text = fields.inner("text")
    if text is None:
        return {}
    out: dict[str, Any] = {}
    verbosity = text.text("verbosity")
    if verbosity is not None:
        out["verbosity"] = verbosity
    form = text.inner("format")
    text.finish()
    if form is None:
        return out
    match form.needed_text("type"):
        case "text":
            pass
        case "json_object":
            out["response_format"] = {"type": "json_object"}
        case "json_schema":
            schema: dict[str, Any] = {
                "name": form.needed_text("name"),
                "schema": form.mapping("schema") or {},
            }
            description = form.text("description")
            if description:
                schema["description"] = description
            if form.flag("strict"):
                schema["strict"] = True
            out["response_format"] = {"type": "json_schema", "json_schema": schema}
        case kind:
            raise form.refusal("type", f"is {kind!r}, which has no equivalent with {_TITLE}")
    form.finish()
    return out


def _reasoning(fields: Fields) -> dict[str, Any]:
    reasoning = fields.inner("reasoning")
    if reasoning is None:
        return {}
    effort = reasoning.text("effort")
    for name in ("summary", "generate_summary"):
        if reasoning.text(name) not in {None, "auto"}:
            raise reasoning.refusal(name, f"asks for thoughts, which {_TITLE} does not show")
    reasoning.finish()
    return {"reasoning_effort": effort} if effort is not None else {}


# ---------------------------------------------------------------- answers


def to_response(completion: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """A chat completion as a response.

    - The id is the completion's, with `resp_` for `chatcmpl-`; those of its items are made of it.
    - An answer that was cut off, or held back, is `incomplete`, and says why.
    - What the model thought is left out.

    Args:
        completion: the completion, decoded; not changed.
        asked: the request in the form of responses, of which a response says some fields again.

    Raises:
        msgspec.ValidationError: it is no chat completion, or one without choices.
    """
    read = msgspec.convert(completion, Completion)
    choice = read.choices[0]
    name = name_of(read.id)
    items: list[dict[str, Any]] = []
    content = [text_part(text) for text in texts_in(choice.message.content)]
    if choice.message.refusal:
        content.append({"type": "refusal", "refusal": choice.message.refusal})
    if content:
        items.append(message_item(name, content))
    for number, call in enumerate(choice.message.tool_calls or ()):
        items.append(call_item(name, number, call.id, call.function.name, written(call.function.arguments)))
    return response_of(
        read.id, int(read.created or 0), read.model, asked, items, choice.finish_reason, read.usage
    )


def response_of(
    completion_id: str,
    created: int,
    model: str,
    asked: Mapping[str, Any],
    items: list[dict[str, Any]],
    finish_reason: str | None,
    usage: Usage | None,
    *,
    begun: bool = False,
) -> dict[str, Any]:
    """A response. `begun`: it is not over yet."""
    because = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(finish_reason or "")
    status = "in_progress" if begun else "incomplete" if because else "completed"
    found: dict[str, Any] = {
        **echoed(asked),
        "id": f"resp_{name_of(completion_id)}",
        "object": "response",
        "created_at": created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": because} if because and not begun else None,
        "model": model,
        "output": items,
    }
    if usage is not None:
        found["usage"] = counted(usage)
    return found


def name_of(completion_id: str) -> str:
    return completion_id.removeprefix("chatcmpl-").removeprefix("msg_")


def text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def message_item(name: str, content: list[dict[str, Any]], status: str = "completed") -> dict[str, Any]:
    return {"type": "message", "id": f"msg_{name}", "status": status, "role": "assistant", "content": content}


def call_item(
    name: str, number: int, given_id: str | None, function: str, arguments: str, status: str = "completed"
) -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": f"fc_{name}_{number}",
        "call_id": given_id or f"call_{name}_{number}",
        "name": function,
        "arguments": arguments,
        "status": status,
    }


def written(arguments: str | dict[str, Any] | None) -> str:
    """Arguments of a call as OpenAI has them: JSON in a string."""
    if isinstance(arguments, dict):
        return msgspec.json.encode(arguments).decode()
    return arguments or "{}"


def counted(usage: Usage) -> dict[str, Any]:
    """Tokens in the words of responses."""
    prompt, output = (
        usage.prompt_tokens_details or PromptDetails(),
        usage.completion_tokens_details or OutputDetails(),
    )
    read, made = usage.prompt_tokens or 0, usage.completion_tokens or 0
    return {
        "input_tokens": read,
        "input_tokens_details": {
            "cached_tokens": prompt.cached_tokens or 0,
            "cache_write_tokens": prompt.cache_write_tokens or 0,
        },
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": output.reasoning_tokens or 0},
        "total_tokens": read + made,
    }


# ---------------------------------------------------------------- streams


def response_events(response: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A whole response as the events of its stream (API reference, "Streaming events"), each with its `type`."""
    begun: dict[str, Any] = {**response, "status": "in_progress", "output": [], "incomplete_details": None}
    begun.pop("usage", None)
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for place, item in enumerate(response["output"]):
        events += _item_events(place, item)
    events.append({"type": f"response.{response['status']}", "response": dict(response)})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def _item_events(place: int, item: Mapping[str, Any]) -> list[dict[str, Any]]:
    where = {"output_index": place, "item_id": item["id"]}
    match item["type"]:
        case "message":
            shown: dict[str, Any] = {**item, "status": "in_progress", "content": []}
            inner = [
                event
                for index, part in enumerate(item["content"])
                for event in _part_events({**where, "content_index": index}, part)
            ]
        case "function_call":
            shown = {**item, "status": "in_progress", "arguments": ""}
            kind = "response.function_call_arguments"
            inner = [
                {"type": f"{kind}.delta", **where, "delta": item["arguments"]},
                {"type": f"{kind}.done", **where, "arguments": item["arguments"], "name": item["name"]},
            ]
        case _:
            shown, inner = dict(item), []
    return [
        {"type": "response.output_item.added", "output_index": place, "item": shown},
        *inner,
        {"type": "response.output_item.done", "output_index": place, "item": dict(item)},
    ]


def _part_events(where: Mapping[str, Any], part: Mapping[str, Any]) -> list[dict[str, Any]]:
    field = "text" if part["type"] == "output_text" else "refusal"
    kind = f"response.{part['type']}"
    more: dict[str, Any] = {"logprobs": []} if field == "text" else {}
    return [
        {"type": "response.content_part.added", **where, "part": {**part, field: ""}},
        {"type": f"{kind}.delta", **where, "delta": part[field], **more},
        {"type": f"{kind}.done", **where, field: part[field], **more},
        {"type": "response.content_part.done", **where, "part": dict(part)},
    ]
