"""Answers that are streamed: in pieces that make up the whole, at their pace, and cut off by a fault."""

import http.client
import json
import time
from typing import Any

import pytest

from halfrate.emulator import Emulator, Pace, ScaledClock

from .conftest import Build
from .driver import ANTHROPIC, CHAT, Driver, chat_body, claude_params

MESSAGES = "/v1/messages"
FLASH = "/gemini/v1beta/models/gemini-2.5-flash"
TOOL: Any = {
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def documents(body: bytes) -> list[Any]:
    """What the events of a stream hold."""
    data = [line[6:] for line in body.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(one) for one in data if one != "[DONE]"]


def deltas(body: bytes) -> list[Any]:
    return [choice["delta"] for one in documents(body) for choice in one["choices"]]


@pytest.mark.parametrize("path", [CHAT, f"/xai{CHAT}", f"/mistral{CHAT}"])
def test_a_chat_comes_word_by_word_and_a_call_bit_by_bit(driver: Driver, path: str) -> None:
    model = {CHAT: "gpt-5-mini", f"/xai{CHAT}": "grok-4.3"}.get(path, "mistral-small-latest")
    whole = driver.json("POST", path, chat_body("hi there", model))["choices"][0]["message"]["content"]
    found = deltas(driver.send("POST", path, chat_body("hi there", model, stream=True)).read())
    assert found[0]["role"] == "assistant"
    assert len(found) > 5
    assert "".join(delta.get("content") or "" for delta in found) == whole
    tools: Any = {"tools": [{"type": "function", "function": TOOL}], "tool_choice": "required"}
    called = deltas(driver.send("POST", path, chat_body("hi", model, stream=True, **tools)).read())
    calls = [call for delta in called for call in delta.get("tool_calls") or ()]
    assert {call["index"] for call in calls} == {0}
    assert [call["function"].get("name") for call in calls] == ["weather"] + [None] * (len(calls) - 1)
    assert json.loads("".join(call["function"]["arguments"] for call in calls))["city"]


def test_a_message_comes_word_by_word_and_an_input_bit_by_bit(driver: Driver) -> None:
    def events(**more: Any) -> list[Any]:
        answer = driver.send("POST", MESSAGES, claude_params("hi", stream=True, **more), headers=ANTHROPIC)
        return documents(answer.read())

    said = [event["delta"]["text"] for event in events() if event["type"] == "content_block_delta"]
    assert len(said) > 3
    tool = {"name": "weather", "input_schema": TOOL["parameters"]}
    called = events(tools=[tool], tool_choice={"type": "any"})
    written = [event["delta"]["partial_json"] for event in called if event["type"] == "content_block_delta"]
    # The first says nothing, as the service's.
    assert written[0] == ""
    assert len(written) > 2
    assert json.loads("".join(written))["city"]
    assert {"type": "ping"} in called


def test_geminis_events_each_say_what_was_used_so_far(driver: Driver) -> None:
    body: Any = {"contents": [{"parts": [{"text": "hi there"}]}]}
    key = {"x-goog-api-key": "key-1"}
    whole = driver.json("POST", f"{FLASH}:generateContent", body, headers=key)
    answer = driver.send("POST", f"{FLASH}:streamGenerateContent", body, headers=key, query="alt=sse")
    events = documents(answer.read())
    parts = [part for event in events for part in event["candidates"][0]["content"]["parts"]]
    (told,) = whole["candidates"][0]["content"]["parts"]
    assert len(parts) > 2
    assert "".join(part["text"] for part in parts) == told["text"]
    assert ["finishReason" in event["candidates"][0] for event in events][-2:] == [False, True]
    prompt = whole["usageMetadata"]["promptTokenCount"]
    assert {event["usageMetadata"]["promptTokenCount"] for event in events} == {prompt}
    assert events[-1]["usageMetadata"] == whole["usageMetadata"]


def test_mistral_refuses_to_be_asked_what_a_stream_used(driver: Driver) -> None:
    asked = chat_body("hi", "mistral-small-latest", stream=True, stream_options={"include_usage": True})
    refused = driver.send("POST", f"/mistral{CHAT}", asked)
    assert refused.status == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "stream_options"]
    assert documents(
        driver.send("POST", f"/mistral{CHAT}", chat_body("hi", "mistral-small-latest", stream=True)).read()
    )[-1]["usage"]


def test_a_stream_comes_while_it_is_written(build: Build) -> None:
    driver = build(pace=Pace(realtime=1.0, realtime_per_token=0.1))
    found = driver.send("POST", CHAT, chat_body("hi", "gpt-5-mini", stream=True)).delivery
    assert found.work_seconds == pytest.approx(1.0 + found.written_seconds)
    assert found.written_seconds > 1.0


def test_the_first_piece_of_a_stream_is_there_before_the_last() -> None:
    clock = ScaledClock()
    pace = Pace(realtime=0.0, realtime_per_token=0.05)
    with Emulator(clock=clock, pace=pace) as emulator, emulator.running() as url:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
        began = time.monotonic()
        body = json.dumps(chat_body("hi", "gpt-5-mini", stream=True))
        connection.request("POST", CHAT, body, {"authorization": "Bearer key-1"})
        reply = connection.getresponse()
        assert reply.status == 200
        reply.readline()
        first = time.monotonic() - began
        reply.read()
        whole = time.monotonic() - began
        connection.close()
    assert first < whole / 2


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_a_stream_that_is_cut_off_is_billed(build: Build, path: str) -> None:
    driver = build(faults=["realtime-cut:fraction=0.5"])
    body = chat_body("hi", "gpt-5-mini", stream=True) if path == CHAT else claude_params("hi", stream=True)
    found = driver.send("POST", path, body, headers=None if path == CHAT else ANTHROPIC)
    assert found.delivery.truncate_after == len(found.read()) // 2
    assert driver.meter()["realtime_billed"] == 1
