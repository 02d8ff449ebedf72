"""Messages requests of all kinds as chats and back, and completions as messages and back: nothing is lost on the way.

The way back is the translation that was there before. The official SDKs' own types judge every form.
"""

import json
from typing import Any, Final, TypeAlias

import msgspec
import pytest
from anthropic.types import Message
from hypothesis import given
from hypothesis import strategies as st

from halfrate.providers.translation import Untranslatable, answer_from, request_to
from halfrate.providers.translation.messages import to_chat, to_message

from .test_translation_answers import _no_extras, judge_answer
from .test_translation_requests import (
    UNHURRIED,
    _listed,
    judge_anthropic,
    judge_openai,
    names,
    objects,
    scalars,
    schemas,
    words,
)

Json: TypeAlias = dict[str, Any]

# -- requests in Anthropic's form ----------------------------------------------------------------------------------

marks = st.just({}) | st.sampled_from([{}, {"ttl": "5m"}, {"ttl": "1h"}]).map(
    lambda ttl: {"cache_control": {"type": "ephemeral", **ttl}}
)


def _with_marks(blocks: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.tuples(blocks, marks).map(lambda pair: {**pair[0], **pair[1]})


texts = _with_marks(words.map(lambda text: {"type": "text", "text": text}))
_SOURCES: Final = st.sampled_from(["iVBORw0KGgo=", "AAAA"]).map(
    lambda data: {"type": "base64", "media_type": "image/png", "data": data}
) | names.map(lambda name: {"type": "url", "url": f"https://example.org/{name}.png"})
images = _with_marks(_SOURCES.map(lambda source: {"type": "image", "source": source}))
spoken = words | st.lists(texts, min_size=1, max_size=2)
shown = words | st.lists(texts | images, min_size=1, max_size=3)


@st.composite
def results(draw: st.DrawFn, call_id: str) -> Json:
    out = {"type": "tool_result", "tool_use_id": call_id, **draw(marks)}
    return out | draw(
        st.fixed_dictionaries(
            {},
            optional={"content": words | st.lists(texts, max_size=2), "is_error": st.booleans()},
        )
    )


@st.composite
def talks(draw: st.DrawFn, tools: list[str]) -> list[Json]:
    messages: list[Json] = [{"role": "user", "content": draw(shown)}]
    count = 0
    for _ in range(draw(st.integers(0, 3))):
        if not tools or draw(st.booleans()):
            messages.append({"role": "assistant", "content": draw(spoken)})
            messages.append({"role": "user", "content": draw(shown)})
            continue
        uses: list[Json] = []
        for name in draw(st.lists(st.sampled_from(tools), min_size=1, max_size=3)):
            count += 1
            uses.append(
                {"type": "tool_use", "id": f"toolu_{count}", "name": name, "input": draw(objects)}
                | draw(marks)
            )
        said = draw(st.permutations([*uses, *draw(st.lists(texts, max_size=2))]))
        messages.append({"role": "assistant", "content": said})
        told = [draw(results(use["id"])) for use in draw(st.permutations(uses))]
        after = draw(st.lists(texts | images, max_size=2))
        if after and draw(st.booleans()):
            messages += [{"role": "user", "content": told}, {"role": "user", "content": after}]
        else:
            messages.append({"role": "user", "content": [*told, *after]})
    return messages


@st.composite
def toolboxes(draw: st.DrawFn) -> list[Json]:
    tools: list[Json] = []
    for name in draw(st.lists(names, max_size=3, unique=True)):
        tool: Json = {"name": name, "input_schema": draw(schemas()), **draw(marks)}
        optional = {"description": words, "strict": st.booleans(), "type": st.just("custom")}
        tools.append(tool | draw(st.fixed_dictionaries({}, optional=optional)))
    return tools


@st.composite
def choices(draw: st.DrawFn, tools: list[Json], *, thinks: bool) -> Json:
    kinds: list[Json] = [{"type": "auto"}, {"type": "none"}]
    # Claude cannot be made to call a tool while it thinks.
    if tools and not thinks:
        kinds += [{"type": "any"}, {"type": "tool", "name": draw(st.sampled_from(tools))["name"]}]
    choice = draw(st.sampled_from(kinds))
    if choice["type"] == "none" or draw(st.booleans()):
        return choice
    return {**choice, "disable_parallel_tool_use": draw(st.booleans())}


efforts = st.sampled_from(["low", "medium", "high", "xhigh", "max"])


@st.composite
def minds(draw: st.DrawFn) -> Json:
    """How hard to think, and what of sampling goes with it."""
    if draw(st.booleans()):
        off = draw(st.just({}) | st.just({"thinking": {"type": "disabled"}}))
        name = draw(st.sampled_from(["temperature", "top_p"]))
        return off | draw(st.fixed_dictionaries({}, optional={name: st.floats(0, 1)}))
    thinking = {"thinking": {"type": "adaptive", **draw(st.just({}) | st.just({"display": "omitted"}))}}
    config = {"output_config": {"effort": draw(efforts)}}
    return draw(st.sampled_from([thinking, config, {**thinking, **config}]))


@st.composite
def asks(draw: st.DrawFn) -> Json:
    tools = draw(toolboxes())
    body: Json = {"model": "claude-x", "max_tokens": draw(st.integers(1, 10_000))}
    body["messages"] = draw(talks([tool["name"] for tool in tools]))
    body |= draw(minds()) | draw(marks)
    thinks = "effort" in body.get("output_config", {}) or body.get("thinking", {}).get("type") == "adaptive"
    optional: dict[str, st.SearchStrategy[Any]] = {
        "system": spoken,
        "stop_sequences": st.lists(words, max_size=4),
        "metadata": st.fixed_dictionaries({}, optional={"user_id": words}),
        "service_tier": st.sampled_from(["auto", "standard_only"]),
        "tools": st.just(tools),
        "tool_choice": choices(tools, thinks=thinks),
        "stream": st.just(value=False),
    }
    body |= draw(st.fixed_dictionaries({}, optional=optional))
    if tools:
        body["tools"] = tools
    if draw(st.booleans()):
        form = {"type": "json_schema", "schema": draw(schemas())}
        body["output_config"] = {**body.get("output_config", {}), "format": form}
    return body


# -- what a request says, read by readers that know nothing of the translation ----------------------------------------


def told(body: Json) -> list[tuple[Any, ...]]:
    """The conversation: in each turn the texts before the calls, the results in the order of their ids."""
    turns: list[tuple[str, list[Json]]] = [("system", _listed(body.get("system")))]
    for message in body["messages"]:
        blocks = _listed(message["content"])
        if turns[-1][0] == message["role"]:
            turns[-1] = (message["role"], turns[-1][1] + blocks)
        else:
            turns.append((message["role"], blocks))
    said: list[tuple[Any, ...]] = []
    for role, blocks in turns:
        plain = [(role, block.get("text") or block["source"]) for block in blocks if block["type"] in _PLAIN]
        uses = [("call", b["id"], b["name"], b["input"]) for b in blocks if b["type"] == "tool_use"]
        got = [("result", b["tool_use_id"], _told(b)) for b in blocks if b["type"] == "tool_result"]
        said += [*sorted(got), *plain, *uses]
    return said


_PLAIN: Final = {"text", "image"}


def _told(result: Json) -> list[str]:
    said = [block["text"] for block in _listed(result.get("content"))]
    if result.get("is_error"):
        return [f"Error: {said[0]}", *said[1:]] if said else ["Error"]
    return said


def _asked(body: Json) -> Json:
    """Everything but the conversation, as the way back gives it."""
    out: Json = {"max_tokens": body["max_tokens"]}
    config = dict(body.get("output_config", {}))
    thinking = body.get("thinking", {}).get("type")
    if thinking == "disabled":
        out["thinking"] = {"type": "disabled"}
    elif thinking or "effort" in config:
        out["thinking"] = {"type": "adaptive"}
        config.setdefault("effort", "high")
    if config:
        out["output_config"] = config
    for name in ("temperature", "top_p"):
        if body.get(name, 1) != 1:
            out[name] = body[name]
    for name in ("stop_sequences", "metadata"):
        if body.get(name):
            out[name] = body[name]
    if body.get("tools"):
        kept = {"name", "description", "input_schema", "strict"}
        out["tools"] = [
            {name: tool[name] for name in tool if name in kept and tool[name] is not False}
            for tool in body["tools"]
        ]
        choice = {name: value for name, value in body.get("tool_choice", {}).items() if value is not False}
        if choice not in ({}, {"type": "auto"}):
            out["tool_choice"] = choice
    return out


@UNHURRIED
@given(asks())
def test_every_request_is_a_chat_and_comes_back_whole(body: Json) -> None:
    judge_anthropic(body)
    before = json.dumps(body)
    chat = to_chat(body, "gpt-x")
    assert json.dumps(body) == before
    judge_openai(chat)
    assert chat["model"] == "gpt-x"
    back = request_to("anthropic", chat)
    assert told(back) == told(body)
    options = {name: value for name, value in back.items() if name not in {"system", "messages"}}
    assert options == _asked(body)
    assert (chat.get("service_tier") == "default") == (body.get("service_tier") == "standard_only")


def _objects(value: Any, path: str) -> list[tuple[str, Json]]:
    """Every object of a request, with its path; what is in a schema or an input is the user's own."""
    found: list[tuple[str, Json]] = []
    if isinstance(value, dict):
        found.append((path, value))
        for name, inner in value.items():
            if name not in {"input_schema", "schema", "input"}:
                found += _objects(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            found += _objects(inner, f"{path}[{place}]")
    return found


@UNHURRIED
@given(asks(), st.data())
def test_a_field_that_nobody_knows_is_found_wherever_it_stands(body: Json, data: st.DataObject) -> None:
    # Marks are shared between the blocks that a strategy makes.
    body = json.loads(json.dumps(body))
    path, place = data.draw(st.sampled_from(_objects(body, "")))
    place["halfrate_knows_it_not"] = data.draw(scalars.filter(lambda value: value is not None))
    with pytest.raises(Untranslatable) as caught:
        to_chat(body, "gpt-x")
    assert caught.value.field == (f"{path}." if path else "") + "halfrate_knows_it_not"


# -- completions -------------------------------------------------------------------------------------------------------


def judge_message(message: Json) -> Message:
    judged = Message.model_validate_json(json.dumps(message), strict=True)
    _no_extras(judged)
    return judged


def completion(
    content: Any = "Yes.", finish: str | None = "stop", usage: Json | None = None, **said: Any
) -> Json:
    message = {"role": "assistant", "content": content, "refusal": None, **said}
    return {
        "id": "chatcmpl-Bq1",
        "object": "chat.completion",
        "created": 7,
        "model": "gpt-x-2026",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": usage or {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
    }


def call(arguments: Any, call_id: str | None = "call_1", name: str = "weather") -> Json:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def message(**given: Any) -> Json:
    """What becomes of a completion; Anthropic's own type judges it."""
    asked = completion(**given)
    before = json.dumps(asked)
    out = to_message(asked)
    assert json.dumps(asked) == before
    judge_message(out)
    return out


def test_an_answer_is_a_message() -> None:
    assert message() == {
        "id": "msg_Bq1",
        "type": "message",
        "role": "assistant",
        "model": "gpt-x-2026",
        "content": [{"type": "text", "text": "Yes."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {
            "input_tokens": 9,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 4,
        },
    }


@pytest.mark.parametrize(
    ("given", "expected"), [("chatcmpl-a", "msg_a"), ("msg_a", "msg_a"), ("3f9c", "msg_3f9c")]
)
def test_the_id_is_the_completions(given: str, expected: str) -> None:
    assert to_message({**completion(), "id": given})["id"] == expected


@pytest.mark.parametrize(
    ("finish", "calls", "reason"),
    [
        ("stop", False, "end_turn"),
        (None, False, "end_turn"),
        ("eos", False, "end_turn"),
        ("tool_calls", False, "end_turn"),
        ("stop", True, "tool_use"),
        (None, True, "tool_use"),
        ("tool_calls", True, "tool_use"),
        ("function_call", True, "tool_use"),
        ("length", True, "max_tokens"),
        ("length", False, "max_tokens"),
        ("model_length", False, "model_context_window_exceeded"),
        ("content_filter", True, "refusal"),
        ("error", False, "refusal"),
    ],
)
def test_why_an_answer_ended(finish: str | None, calls: bool, reason: str) -> None:
    out = message(finish=finish, tool_calls=[call("{}")] if calls else None)
    assert out["stop_reason"] == reason
    if reason == "refusal":
        assert out["stop_details"]["explanation"] == f"The model gave no whole answer: {finish}."
    else:
        assert out["stop_details"] is None


def test_a_refusal_is_said_and_explained() -> None:
    out = message(content=None, refusal="I cannot.")
    assert out["content"] == [{"type": "text", "text": "I cannot."}]
    assert out["stop_reason"] == "refusal"
    assert out["stop_details"] == {"type": "refusal", "category": None, "explanation": "I cannot."}


@pytest.mark.parametrize("content", [None, "", []])
def test_an_answer_without_words_is_empty(content: Any) -> None:
    assert message(content=content)["content"] == []


def test_of_an_answer_in_parts_the_texts_are_kept() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
        {"type": "text", "text": "Yes."},
    ]
    assert message(content=parts)["content"] == [{"type": "text", "text": "Yes."}]


DEEP: Final = '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ('{"city": "Oslo"}', {"city": "Oslo"}),
        ({"city": "Oslo"}, {"city": "Oslo"}),
        ("", {}),
        (None, {}),
        ('{"city": "Os', {"INVALID_JSON": '{"city": "Os'}),
        ('["Oslo"]', {"INVALID_JSON": '["Oslo"]'}),
        ("null", {"INVALID_JSON": "null"}),
        ('{"a": NaN}', {"INVALID_JSON": '{"a": NaN}'}),
        (" ", {"INVALID_JSON": " "}),
        pytest.param(DEEP, {"INVALID_JSON": DEEP}, id="deep"),
        ('{"a": 1e999}', {"INVALID_JSON": '{"a": 1e999}'}),
    ],
)
def test_the_input_of_a_call(arguments: Any, read: Json) -> None:
    out = message(content="Let me look.", tool_calls=[call(arguments), call("{}", None)])
    assert out["content"] == [
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": read},
        {"type": "tool_use", "id": "toolu_Bq1_1", "name": "weather", "input": {}},
    ]


def test_half_a_surrogate_pair_is_no_json() -> None:
    out = to_message(completion(tool_calls=[call('{"a": "\ud800"}')]))
    assert out["content"][1]["input"] == {"INVALID_JSON": '{"a": "\ud800"}'}


def test_a_cut_off_call_can_be_sent_back() -> None:
    said = message(content=None, finish="length", tool_calls=[call('{"city": "Os')])["content"]
    told = {"type": "tool_result", "tool_use_id": "call_1", "content": "no JSON", "is_error": True}
    talk = [{"role": "user", "content": "Oslo?"}, {"role": "assistant", "content": said}]
    chat = to_chat({"max_tokens": 5, "messages": [*talk, {"role": "user", "content": [told]}]}, "gpt-x")
    judge_openai(chat)
    arguments = chat["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"INVALID_JSON": '{"city": "Os'}


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
                "completion_tokens_details": {"reasoning_tokens": 40},
            },
            (10, 30, 60, 50, {"thinking_tokens": 40}),
        ),
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": None}, (10, 0, 0, 5, None)),
        ({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 20}}, (0, 0, 20, 0, None)),
    ],
)
def test_tokens_are_counted_as_anthropic_counts_them(usage: Json, counted: tuple[Any, ...]) -> None:
    got = message(usage=usage)["usage"]
    assert (
        got["input_tokens"],
        got["cache_creation_input_tokens"],
        got["cache_read_input_tokens"],
        got["output_tokens"],
        got.get("output_tokens_details"),
    ) == counted


def test_without_usage_tokens_are_none_at_all() -> None:
    bare = completion()
    del bare["usage"]
    assert judge_message(to_message(bare)).usage.output_tokens == 0


@pytest.mark.parametrize(
    "body",
    [{}, {**completion(), "choices": []}, {**completion(), "id": None}, {"error": {"message": "no"}}],
)
def test_what_is_no_completion_is_not_made_one(body: Json) -> None:
    with pytest.raises(msgspec.ValidationError):
        to_message(body)


calls = st.lists(st.tuples(names, objects), max_size=3)
reasons = st.sampled_from(["stop", "length", "tool_calls", "content_filter", "function_call"])
counts = st.lists(st.integers(0, 10_000), min_size=5, max_size=5)


@UNHURRIED
@given(st.none() | st.text(max_size=20), st.none() | words, calls, reasons, counts)
def test_every_completion_is_a_message_and_comes_back_whole(
    content: str | None, refusal: str | None, asked: list[tuple[str, Json]], finish: str, tokens: list[int]
) -> None:
    plain, cached, written, out, thought = tokens
    usage = {
        "prompt_tokens": plain + cached + written,
        "completion_tokens": out,
        "total_tokens": plain + cached + written + out,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }
    made = [call(json.dumps(given), f"call_{n}", name) for n, (name, given) in enumerate(asked)]
    given = completion(content, finish, usage, refusal=refusal, **({"tool_calls": made} if made else {}))
    judge_answer(given)
    told = to_message(given)
    judge_message(told)
    back = answer_from("anthropic", told, model=given["model"], created=7, answer_id=given["id"])
    judge_answer(back)
    assert back["usage"] == usage
    said = back["choices"][0]["message"]
    assert (said["content"] or "") == (content or "") + (refusal or "")
    got = [
        (one["id"], one["function"]["name"], json.loads(one["function"]["arguments"]))
        for one in said.get("tool_calls", [])
    ]
    assert got == [(f"call_{n}", name, given) for n, (name, given) in enumerate(asked)]
    if refusal or finish == "content_filter":
        expected = "content_filter"
        assert said["refusal"] == (refusal or "The model gave no whole answer: content_filter.")
    elif finish == "length":
        expected = "length"
    else:
        expected = "tool_calls" if asked else "stop"
    assert back["choices"][0]["finish_reason"] == expected
