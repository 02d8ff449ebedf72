"""Chats of all kinds, given to every family and read back. The official SDKs' own types judge both ends."""

import base64
import json
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

import botocore.session
import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from botocore.validate import ParamValidator
from google.genai import types as google
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import BaseModel, TypeAdapter

from halfrate.providers.translation import Family, Untranslatable, request_to

Json: TypeAlias = dict[str, Any]

_OPENAI = TypeAdapter(CompletionCreateParamsNonStreaming)
_CLAUDE = TypeAdapter(MessageCreateParamsNonStreaming)
_CONVERSE = botocore.session.get_session().get_service_model("bedrock-runtime").operation_model("Converse")

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


# -- the judges ----------------------------------------------------------------------------------------------------


def _drained(value: Any) -> Any:
    """What a validator made of a value. Lists of TypedDicts are validated only while they are gone through."""
    if isinstance(value, BaseModel):
        return _drained(value.model_dump(exclude_unset=True))
    if isinstance(value, dict):
        return {name: _drained(inner) for name, inner in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [_drained(inner) for inner in value]
    return value


def judge_openai(body: Json) -> None:
    known = {name: value for name, value in body.items() if name != "top_k"}
    # Fields of other names would be missing in what comes back.
    assert _drained(_OPENAI.validate_python(known)) == known


def judge_anthropic(body: Json) -> None:
    # The SDK of version 2026-10-21 knows them no longer; halfrate speaks version 2023-06-01.
    known = {name: value for name, value in body.items() if name not in {"temperature", "top_p", "top_k"}}
    known["model"] = "claude-x"
    assert _drained(_CLAUDE.validate_python(known)) == known


def judge_gemini(body: Json) -> None:
    models: dict[str, type[BaseModel]] = {
        "systemInstruction": google.Content,
        "toolConfig": google.ToolConfig,
        "generationConfig": google.GenerationConfig,
    }
    for name, value in body.items():
        if name == "contents":
            for content in value:
                google.Content.model_validate_json(json.dumps(content))
        elif name == "tools":
            for tool in value:
                google.Tool.model_validate_json(json.dumps(tool))
        else:
            models[name].model_validate_json(json.dumps(value))


def judge_converse(body: Json) -> None:
    report = ParamValidator().validate({"modelId": "amazon.nova-x", **body}, _CONVERSE.input_shape)
    assert not report.has_errors(), report.generate_report()


JUDGES: Final[dict[Family, Callable[[Json], None]]] = {
    "anthropic": judge_anthropic,
    "gemini": judge_gemini,
    "converse": judge_converse,
}


# -- chats in OpenAI's form ----------------------------------------------------------------------------------------

words = st.text(min_size=1, max_size=20).filter(str.strip)
names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_-]{0,20}", fullmatch=True)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
objects = st.dictionaries(
    st.text(max_size=8), scalars | st.lists(scalars, max_size=3) | st.dictionaries(words, scalars), max_size=3
)
efforts = st.sampled_from(["minimal", "low", "medium", "high"])


def _text_part(text: str) -> Json:
    return {"type": "text", "text": text}


def _image_part(url: str) -> Json:
    return {"type": "image_url", "image_url": {"url": url}}


def _data_url(media_type: str, raw: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(raw).decode()}"


def _message(role: str, content: str | list[Json]) -> Json:
    return {"role": role, "content": content}


@st.composite
def schemas(draw: st.DrawFn) -> Json:
    kinds = draw(st.dictionaries(names, st.sampled_from(["string", "integer", "boolean"]), max_size=3))
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in kinds.items()},
        "required": list(kinds),
        "additionalProperties": False,
    }


@st.composite
def user_messages(draw: st.DrawFn, family: Family) -> Json:
    if draw(st.booleans()):
        return {"role": "user", "content": draw(words)}
    text = st.builds(_text_part, words)
    types = st.sampled_from(["image/png", "image/jpeg", "image/webp"])
    data = st.builds(_data_url, types, st.binary(min_size=1, max_size=40))
    links = st.builds("https://example.org/{}.png".format, names)
    urls = data | links if family == "anthropic" else data
    image = st.builds(_image_part, urls)
    return {"role": "user", "content": draw(st.lists(text | image, min_size=1, max_size=3))}


@st.composite
def conversations(draw: st.DrawFn, family: Family, functions: list[str]) -> list[Json]:
    text_parts = st.lists(st.builds(_text_part, words), min_size=1, max_size=2)
    system = st.builds(_message, st.sampled_from(["system", "developer"]), words | text_parts)
    messages = [*draw(st.lists(system, max_size=2)), draw(user_messages(family))]
    count = 0
    for _ in range(draw(st.integers(0, 3))):
        if not functions or draw(st.booleans()):
            messages.append({"role": "assistant", "content": draw(words | text_parts)})
            messages.append(draw(user_messages(family)))
            continue
        calls: list[Json] = []
        for name in draw(st.lists(st.sampled_from(functions), min_size=1, max_size=3)):
            count += 1
            function = {"name": name, "arguments": json.dumps(draw(objects))}
            calls.append({"id": f"call_{count}", "type": "function", "function": function})
        messages.append({"role": "assistant", "content": draw(st.none() | words), "tool_calls": calls})
        for call in draw(st.permutations(calls)):
            content = draw(words | text_parts)
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": content})
        if draw(st.booleans()):
            messages.append(draw(user_messages(family)))
    return messages


@st.composite
def toolboxes(draw: st.DrawFn) -> list[Json]:
    tools: list[Json] = []
    for name in draw(st.lists(names, max_size=3, unique=True)):
        function: Json = {"name": name}
        function |= draw(
            st.fixed_dictionaries(
                {}, optional={"description": words, "parameters": schemas(), "strict": st.booleans()}
            )
        )
        tools.append({"type": "function", "function": function})
    return tools


def limits() -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries(
        {},
        optional={
            "max_completion_tokens": st.integers(1, 10_000),
            "stop": words | st.lists(words, max_size=4),
            "n": st.just(1),
            "store": st.just(value=False),
            "stream": st.none() | st.just(value=False),
            "logprobs": st.just(value=False),
            "presence_penalty": st.just(0),
            "frequency_penalty": st.just(0.0),
            "service_tier": st.sampled_from(["auto", "default"]),
            "verbosity": st.just("medium"),
            "logit_bias": st.none(),
        },
    )


@st.composite
def forms(draw: st.DrawFn) -> Json:
    inner: Json = {"name": draw(names), "schema": draw(schemas()), "strict": draw(st.booleans())}
    return {"type": "json_schema", "json_schema": inner}


@st.composite
def sampling(draw: st.DrawFn, family: Family) -> Json:
    unit = st.floats(0, 1)
    if family == "converse":
        return draw(
            st.fixed_dictionaries(
                {}, optional={"temperature": unit, "top_p": unit, "reasoning_effort": efforts}
            )
        )
    if family == "gemini":
        penalty = st.floats(-2, 2)
        optional: dict[str, st.SearchStrategy[Any]] = {
            "temperature": st.floats(0, 2),
            "top_p": unit,
            "top_k": st.integers(1, 100),
            "frequency_penalty": penalty,
            "presence_penalty": penalty,
            "seed": st.integers(-(2**31), 2**31 - 1),
            "n": st.integers(1, 8),
            "reasoning_effort": efforts,
        }
        said = draw(st.fixed_dictionaries({}, optional=optional))
        return said | draw(st.just({}) | st.just({"logprobs": True, "top_logprobs": 3}))
    said = draw(st.fixed_dictionaries({}, optional={"user": words}))
    if draw(st.booleans()):
        return said | {"reasoning_effort": draw(efforts | st.sampled_from(["xhigh", "max"]))}
    one_of = st.sampled_from(["temperature", "top_p"]).flatmap(
        lambda name: st.fixed_dictionaries({name: unit})
    )
    return said | draw(st.just({}) | one_of) | draw(st.just({}) | st.just({"top_k": 5}))


@st.composite
def chats(draw: st.DrawFn, family: Family) -> Json:
    tools: list[Json] = draw(toolboxes()) if family != "converse" else []
    functions = [tool["function"]["name"] for tool in tools]
    model = draw(st.sampled_from(["gemini-2.5-flash", "gemini-3.1-pro"])) if family == "gemini" else "model-x"
    body: Json = {"model": model, "messages": draw(conversations(family, functions))}
    body |= draw(limits()) | draw(sampling(family))
    if tools:
        body["tools"] = tools
        body["tool_choice"] = draw(st.sampled_from(["auto", "none"]))
        if "reasoning_effort" not in body and draw(st.booleans()):
            named = {"type": "function", "function": {"name": draw(st.sampled_from(functions))}}
            body["tool_choice"] = draw(st.sampled_from(["required", named]))
        if family == "anthropic":
            body["parallel_tool_calls"] = draw(st.booleans())
    if family != "converse" and not (tools and "2.5" in model) and draw(st.booleans()):
        body["response_format"] = draw(forms())
    elif draw(st.booleans()):
        body["response_format"] = {"type": "text"}
    return body


# -- what a conversation says, read out of every form by readers that know nothing of the translation ---------------

Said: TypeAlias = tuple[Any, ...]


def _listed(content: Any) -> list[Json]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content or []


def said_openai(body: Json) -> list[Said]:
    said: list[Said] = []
    waiting: dict[str, Said | None] = {}
    calls: dict[str, str] = {}
    for message in body["messages"]:
        role = "system" if message["role"] == "developer" else message["role"]
        texts = _listed(message.get("content"))
        if role == "tool":
            call_id = message["tool_call_id"]
            waiting[call_id] = ("result", calls[call_id], [part["text"] for part in texts])
            if all(waiting.values()):
                said += [result for result in waiting.values() if result]
                waiting = {}
            continue
        for part in texts:
            if part["type"] == "text":
                said.append((role, part["text"]))
            else:
                said.append((role, *_image(part["image_url"]["url"])))
        for call in message.get("tool_calls", ()):
            function = call["function"]
            calls[call["id"]] = function["name"]
            waiting[call["id"]] = None
            said.append(("call", function["name"], json.loads(function["arguments"])))
    return said


def _image(url: str) -> Said:
    if url.startswith("https:"):
        return ("link", url)
    head, data = url.split(",")
    return ("image", head.removeprefix("data:").removesuffix(";base64"), base64.b64decode(data))


def said_anthropic(body: Json) -> list[Said]:
    said: list[Said] = [("system", block["text"]) for block in _listed(body.get("system"))]
    names_of: dict[str, str] = {}
    for message in body["messages"]:
        for block in _listed(message["content"]):
            if block["type"] == "text":
                said.append((message["role"], block["text"]))
            elif block["type"] == "image":
                source = block["source"]
                if source["type"] == "url":
                    said.append((message["role"], "link", source["url"]))
                else:
                    raw = base64.b64decode(source["data"])
                    said.append((message["role"], "image", source["media_type"], raw))
            elif block["type"] == "tool_use":
                assert message["role"] == "assistant"
                names_of[block["id"]] = block["name"]
                said.append(("call", block["name"], block["input"]))
            else:
                assert (block["type"], message["role"]) == ("tool_result", "user")
                texts = [part["text"] for part in _listed(block["content"])]
                said.append(("result", names_of[block["tool_use_id"]], texts))
    return said


def said_gemini(body: Json) -> list[Said]:
    roles = {"user": "user", "model": "assistant"}
    said: list[Said] = [
        ("system", part["text"]) for part in body.get("systemInstruction", {}).get("parts", [])
    ]
    for content in body["contents"]:
        role = roles[content["role"]]
        for part in content["parts"]:
            if "text" in part:
                said.append((role, part["text"]))
            elif "inlineData" in part:
                blob = part["inlineData"]
                said.append((role, "image", blob["mimeType"], base64.b64decode(blob["data"])))
            elif "functionCall" in part:
                assert role == "assistant"
                said.append(("call", part["functionCall"]["name"], part["functionCall"]["args"]))
            else:
                assert role == "user"
                output = part["functionResponse"]["response"]["output"]
                texts = [output] if isinstance(output, str) else output
                said.append(("result", part["functionResponse"]["name"], texts))
    return said


def said_converse(body: Json) -> list[Said]:
    said: list[Said] = [("system", block["text"]) for block in body.get("system", [])]
    for message in body["messages"]:
        for block in message["content"]:
            if "text" in block:
                said.append((message["role"], block["text"]))
            else:
                image = block["image"]
                raw = base64.b64decode(image["source"]["bytes"])
                said.append((message["role"], "image", f"image/{image['format']}", raw))
    return said


READERS: Final[dict[Family, Callable[[Json], list[Said]]]] = {
    "anthropic": said_anthropic,
    "gemini": said_gemini,
    "converse": said_converse,
}


def _check(family: Family, body: Json) -> Json:
    judge_openai(body)
    before = json.dumps(body)
    out = request_to(family, body)
    assert json.dumps(body) == before
    JUDGES[family](out)
    assert READERS[family](out) == said_openai(body)
    return out


@UNHURRIED
@given(chats("anthropic"))
def test_anthropic_takes_every_chat_and_is_told_all_of_it(body: Json) -> None:
    out = _check("anthropic", body)
    roles = [message["role"] for message in out["messages"]]
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
    tools = [
        (tool["name"], tool.get("description"), tool.get("strict", False)) for tool in out.get("tools", [])
    ]
    assert tools == _tools(body)
    assert out["max_tokens"] == body.get("max_completion_tokens", 4096)
    if body.get("response_format", {}).get("type") == "json_schema":
        assert out["output_config"]["format"]["schema"] == body["response_format"]["json_schema"]["schema"]


@UNHURRIED
@given(chats("gemini"))
def test_gemini_takes_every_chat_and_is_told_all_of_it(body: Json) -> None:
    out = _check("gemini", body)
    declared = out["tools"][0]["functionDeclarations"] if "tools" in out else []
    assert [(tool["name"], tool.get("description")) for tool in declared] == [
        tool[:2] for tool in _tools(body)
    ]
    config = out.get("generationConfig", {})
    for ours, theirs in (
        ("temperature", "temperature"),
        ("top_p", "topP"),
        ("seed", "seed"),
        ("top_k", "topK"),
    ):
        assert config.get(theirs) == body.get(ours)
    if body.get("response_format", {}).get("type") == "json_schema":
        assert config["responseJsonSchema"] == body["response_format"]["json_schema"]["schema"]


@UNHURRIED
@given(chats("converse"))
def test_converse_takes_every_chat_and_is_told_all_of_it(body: Json) -> None:
    out = _check("converse", body)
    roles = [message["role"] for message in out["messages"]]
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
    config = out.get("inferenceConfig", {})
    assert (config.get("temperature"), config.get("topP")) == (body.get("temperature"), body.get("top_p"))


def _tools(body: Json) -> list[tuple[Any, ...]]:
    functions = [tool["function"] for tool in body.get("tools", [])]
    return [(f["name"], f.get("description"), f.get("strict", False)) for f in functions]


# -- whatever else a request may hold --------------------------------------------------------------------------------


def _objects(value: Any, path: str) -> list[tuple[str, Json]]:
    """Every object of a request, with its path; what is in a schema is the user's own."""
    found: list[tuple[str, Json]] = []
    if isinstance(value, dict):
        found.append((path, value))
        for name, inner in value.items():
            if name not in {"parameters", "schema"}:
                found += _objects(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            found += _objects(inner, f"{path}[{place}]")
    return found


FAMILIES: Final[list[Family]] = ["anthropic", "gemini", "converse"]


@UNHURRIED
@given(st.sampled_from(FAMILIES).flatmap(lambda family: st.tuples(st.just(family), chats(family))), st.data())
def test_a_field_that_nobody_knows_is_found_wherever_it_stands(
    chat: tuple[Family, Json], data: st.DataObject
) -> None:
    family, body = chat
    path, place = data.draw(st.sampled_from(_objects(body, "")))
    place["halfrate_knows_it_not"] = data.draw(scalars.filter(lambda value: value is not None))
    with pytest.raises(Untranslatable) as caught:
        request_to(family, body)
    assert caught.value.field == (f"{path}." if path else "") + "halfrate_knows_it_not"
