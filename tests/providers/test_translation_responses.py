"""OpenAI's Responses API over chats: the SDK's own types judge what comes out, and nothing is dropped unsaid."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from halfrate.providers.translation.fields import Untranslatable
from halfrate.providers.translation.responses import response_events, to_chat, to_response
from halfrate.providers.translation.streams_chunks import StreamFault
from halfrate.providers.translation.streams_responses import ResponseEvents

ASKED: dict[str, Any] = {"model": "m", "input": "Hello"}
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
TOOL = {
    "type": "function",
    "name": "weather",
    "description": "The weather.",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
    "strict": True,
}


def completion(message: dict[str, Any], finish: str = "stop", **more: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 5,
        "model": "m-1",
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}},
        **more,
    }


def told(response: dict[str, Any]) -> Response:
    """The response as OpenAI's SDK understands it, strictly."""
    return TypeAdapter(Response).validate_python(response, strict=True)


# ---------------------------------------------------------------- requests


def test_a_text_is_a_message_and_instructions_stand_before_it() -> None:
    chat = to_chat({**ASKED, "instructions": "Be short.", "max_output_tokens": 9, "temperature": 0.5}, "n")
    assert chat == {
        "model": "n",
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello"}],
        "max_completion_tokens": 9,
        "temperature": 0.5,
    }


def test_a_conversation_goes_over_with_its_calls_and_their_results() -> None:
    items = [
        {"role": "developer", "content": "Be kind."},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What is this?"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="},
            ],
        },
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Let me see.", "annotations": []}],
        },
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "weather", "arguments": '{"a":1}'},
        {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "Rain."},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "Sun."}]},
    ]
    messages = to_chat({**ASKED, "input": items}, "n")["messages"]
    call = {"type": "function", "function": {"name": "weather", "arguments": "{}"}}
    assert messages == [
        {"role": "developer", "content": "Be kind."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {
                    "type": "image_url",
                    "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"},
                },
                {
                    "type": "file",
                    "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="},
                },
            ],
        },
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"a":1}'}},
                {"id": "c2", **call},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "Rain."},
        {"role": "tool", "tool_call_id": "c2", "content": "Sun."},
    ]


def test_tools_and_forms_go_over() -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    chat = to_chat(
        {
            **ASKED,
            "tools": [TOOL],
            "tool_choice": {"type": "function", "name": "weather"},
            "parallel_tool_calls": False,
            "text": {
                "format": {"type": "json_schema", "name": "answer", "schema": schema, "strict": True},
                "verbosity": "low",
            },
            "reasoning": {"effort": "low"},
            "metadata": {"run": "7"},
            "store": True,
        },
        "n",
    )
    function = {key: value for key, value in TOOL.items() if key != "type"}
    assert chat["tools"] == [{"type": "function", "function": function}]
    assert chat["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert chat["parallel_tool_calls"] is False
    assert chat["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": True},
    }
    assert chat["verbosity"] == "low"
    assert chat["reasoning_effort"] == "low"
    assert "metadata" not in chat


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "robot", "content": "Hi"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": "Hi", "mood": "good"}]}, "input[0].mood"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]},
            "input[0].content[0].file_data",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "input[0].content[0].type",
        ),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
        ({"stream": True}, "stream"),
        ({"something_new": 1}, "something_new"),
    ],
)
def test_what_has_no_equivalent_is_refused_by_its_path(more: dict[str, Any], field: str) -> None:
    with pytest.raises(Untranslatable) as refused:
        to_chat({**ASKED, **more}, "n")
    assert refused.value.field == field


# ---------------------------------------------------------------- answers


def test_an_answer_is_what_the_sdk_understands() -> None:
    asked = {**ASKED, "instructions": "Be short.", "metadata": {"run": "7"}, "tools": [TOOL]}
    response = told(to_response(completion({"content": "Hello there"}), asked))
    assert response.output_text == "Hello there"
    assert (response.id, response.model, response.status) == ("resp_1", "m-1", "completed")
    assert response.instructions == "Be short."
    assert response.usage is not None
    usage = response.usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (7, 3, 10)
    assert usage.input_tokens_details.cached_tokens == 2


@pytest.mark.parametrize(
    ("finish", "status", "because"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
    ],
)
def test_an_answer_that_is_not_whole_says_so(finish: str, status: str, because: str | None) -> None:
    response = told(to_response(completion({"content": "Hel"}, finish), ASKED))
    assert response.status == status
    assert (response.incomplete_details and response.incomplete_details.reason) == because


def test_calls_and_refusals_are_items_of_their_own() -> None:
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"a":1}'}},
        {"type": "function", "function": {"name": "time", "arguments": {"b": 2}}},
    ]
    response = told(to_response(completion({"content": None, "refusal": "No.", "tool_calls": calls}), ASKED))
    refused, first, second = response.output
    assert refused.type == "message"
    assert refused.content[0].type == "refusal"
    assert first.type == "function_call"
    assert second.type == "function_call"
    assert (first.call_id, first.arguments) == ("c1", '{"a":1}')
    assert json.loads(second.arguments) == {"b": 2}


texts = st.text(max_size=20)


def function_call(number: str | None, name: str, arguments: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": "function",
        "function": {"name": name, "arguments": json.dumps(arguments)},
    }


calls = st.builds(
    function_call,
    st.one_of(st.none(), st.text(min_size=1, max_size=5)),
    st.text(min_size=1, max_size=5),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
messages = st.fixed_dictionaries(
    {
        "content": st.one_of(st.none(), texts),
        "refusal": st.one_of(st.none(), texts),
        "tool_calls": st.one_of(st.none(), st.lists(calls, max_size=3)),
    }
)


@given(messages, st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
def test_a_stream_put_together_is_the_whole_answer(message: dict[str, Any], finish: str) -> None:
    response = to_response(completion(message, finish), ASKED)
    told(response)
    events = response_events(response)
    for event in events:
        EVENT.validate_python(event, strict=True)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["response"] == response
    items: list[dict[str, Any]] = []
    for event in events:
        match event["type"]:
            case "response.output_item.added":
                items.append(json.loads(json.dumps(event["item"])))
            case "response.content_part.added":
                items[event["output_index"]]["content"].append(dict(event["part"]))
            case "response.output_text.delta":
                items[event["output_index"]]["content"][event["content_index"]]["text"] += event["delta"]
            case "response.refusal.delta":
                items[event["output_index"]]["content"][event["content_index"]]["refusal"] += event["delta"]
            case "response.function_call_arguments.delta":
                items[event["output_index"]]["arguments"] += event["delta"]
            case "response.output_item.done":
                items[event["output_index"]]["status"] = "completed"
            case _:
                pass
    assert items == response["output"]


@given(messages)
def test_an_answer_can_be_said_again_in_the_next_turn(message: dict[str, Any]) -> None:
    output = to_response(completion(message), ASKED)["output"]
    asked = {
        **ASKED,
        "input": [{"role": "user", "content": "Hello"}, *output, {"role": "user", "content": "Go on"}],
    }
    said = to_chat(asked, "n")["messages"]
    assert said[0]["content"] == "Hello"
    assert said[-1]["content"] == "Go on"
    spoken = "".join(one["content"] or "" for one in said[1:-1])
    assert spoken == (message["content"] or "") + (message["refusal"] or "")
    called = [call["function"]["name"] for one in said for call in one.get("tool_calls", ())]
    assert called == [call["function"]["name"] for call in message["tool_calls"] or ()]


# ---------------------------------------------------------------- piece by piece


def chunks_of(message: dict[str, Any], finish: str, cuts: list[int]) -> list[dict[str, Any]]:
    """A completion as a provider streams it, its texts cut into pieces as `cuts` has it."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 5, "model": "m-1"}
    found: list[dict[str, Any]] = []

    def say(delta: dict[str, Any], reason: str | None = None) -> None:
        found.append({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

    def pieces(text: str) -> list[str]:
        size = (cuts[len(found) % len(cuts)] if cuts else 0) or len(text) or 1
        return [text[at : at + size] for at in range(0, len(text), size)]

    say({"role": "assistant", "content": ""})
    for field in ("content", "refusal"):
        for piece in pieces(message[field] or ""):
            say({field: piece})
    for index, call in enumerate(message["tool_calls"] or ()):
        function = {"name": call["function"]["name"], "arguments": ""}
        say({"tool_calls": [{"index": index, "id": call["id"], "type": "function", "function": function}]})
    for index, call in enumerate(message["tool_calls"] or ()):
        for piece in pieces(call["function"]["arguments"]):
            say({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    say({}, finish)
    used = completion(message)["usage"]
    return [*found, {**head, "choices": [], "usage": used}]


@given(
    messages,
    st.sampled_from(["stop", "length", "tool_calls", "content_filter"]),
    st.lists(st.integers(1, 5), max_size=4),
)
def test_what_comes_piece_by_piece_is_the_whole_answer(
    message: dict[str, Any], finish: str, cuts: list[int]
) -> None:
    translation = ResponseEvents(ASKED)
    events = [event for chunk in chunks_of(message, finish, cuts) for event in translation.chunk(chunk)]
    events += translation.end()
    for event in events:
        EVENT.validate_python(event, strict=True)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["response"] == to_response(completion(message, finish), ASKED)


def test_a_stream_without_an_answer_is_none() -> None:
    with pytest.raises(StreamFault):
        ResponseEvents(ASKED).end()
    with pytest.raises(StreamFault):
        ResponseEvents(ASKED).chunk({"choices": 7})
