"""The official, unmodified Anthropic SDK through real sockets."""

import asyncio
import json
import time
from typing import Any

import anthropic
import pydantic
import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from anthropic.types.messages import MessageBatchSucceededResult
from anthropic.types.messages.batch_create_params import Request

from halfrate.emulator import Emulator, Pace

from .driver import CLAUDE, claude_params, claude_rows

OLD = {"anthropic-version": "2023-06-01"}


def make_batch(client: anthropic.Anthropic, rows: list[dict[str, Any]]):
    requests: Any = rows
    return client.messages.batches.create(requests=requests)


def test_the_tutorial_as_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch guide's own steps: create, poll processing_status, iterate over results."""
    pace = Pace(validate=0, queue=0.1, per_1000_rows=1, finalize=0.05)
    with Emulator(pace=pace) as emulator, emulator.running() as url:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", emulator.anthropic_base_url(url))
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
        client = anthropic.Anthropic()
        message_batch = client.messages.batches.create(
            requests=[
                Request(
                    custom_id="my-first-request",
                    params=MessageCreateParamsNonStreaming(
                        model="claude-opus-5-5",
                        max_tokens=1024,
                        messages=[{"role": "user", "content": "Hello, world"}],
                    ),
                ),
                Request(
                    custom_id="my-second-request",
                    params=MessageCreateParamsNonStreaming(
                        model="claude-opus-5-5",
                        max_tokens=1024,
                        messages=[{"role": "user", "content": "Hi again, friend"}],
                    ),
                ),
            ]
        )
        assert message_batch.request_counts.processing == 2
        while message_batch.processing_status != "ended":
            time.sleep(0.02)
            message_batch = client.messages.batches.retrieve(message_batch.id)
        found: dict[str, str] = {}
        for result in client.messages.batches.results(message_batch.id):
            match result.result:
                case MessageBatchSucceededResult(message=message):
                    found[result.custom_id] = message.content[0].type
                case other:
                    found[result.custom_id] = other.type
        client.close()
    assert found == {"my-first-request": "text", "my-second-request": "text"}


def test_every_field_of_an_ended_batch(anthropic_client: anthropic.Anthropic) -> None:
    made = make_batch(anthropic_client, claude_rows(3))
    assert (made.processing_status, made.results_url, made.ended_at) == ("in_progress", None, None)
    assert (made.expires_at - made.created_at).total_seconds() == 86_400
    ended = anthropic_client.messages.batches.retrieve(made.id)
    assert ended.processing_status == "ended"
    assert ended.request_counts.model_dump() == {
        "processing": 0,
        "succeeded": 3,
        "errored": 0,
        "canceled": 0,
        "expired": 0,
    }
    assert ended.ended_at is not None
    assert (ended.archived_at, ended.cancel_initiated_at) == (None, None)
    results = list(anthropic_client.messages.batches.results(made.id))
    assert {one.custom_id for one in results} == {"a-0", "a-1", "a-2"}
    first: Any = results[0].result
    assert first.message.model == "claude-haiku-4-5-20251001"
    assert first.message.usage.service_tier == "batch"


def test_listing_pages_both_ways(anthropic_client: anthropic.Anthropic) -> None:
    ids = [make_batch(anthropic_client, claude_rows(1)).id for _ in range(5)]
    newest_first = ids[::-1]
    assert [one.id for one in anthropic_client.messages.batches.list(limit=2)] == newest_first
    page = anthropic_client.messages.batches.list(limit=2, after_id=newest_first[1])
    assert ([one.id for one in page.data], page.has_more) == (newest_first[2:4], True)
    back = anthropic_client.messages.batches.list(limit=2, before_id=newest_first[3])
    assert [one.id for one in back.data] == newest_first[1:3]


def test_cancel_and_delete(anthropic_client: anthropic.Anthropic) -> None:
    with Emulator(pace=Pace(queue=60, cancel=0.05)) as slow, slow.running() as address:
        client = anthropic_client.with_options(base_url=address)
        batch = make_batch(client, claude_rows(2))
        with pytest.raises(anthropic.BadRequestError):
            client.messages.batches.delete(batch.id)
        with pytest.raises(anthropic.AnthropicError, match="results_url"):
            client.messages.batches.results(batch.id)
        canceling = client.messages.batches.cancel(batch.id)
        assert canceling.processing_status == "canceling"
        assert canceling.cancel_initiated_at is not None
        deadline = time.monotonic() + 10
        while (batch := client.messages.batches.retrieve(batch.id)).processing_status != "ended":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert batch.request_counts.canceled == 2
        assert {one.result.type for one in client.messages.batches.results(batch.id)} == {"canceled"}
        assert client.messages.batches.delete(batch.id).type == "message_batch_deleted"
        with pytest.raises(anthropic.NotFoundError):
            client.messages.batches.retrieve(batch.id)


def test_params_are_looked_at_late(anthropic_client: anthropic.Anthropic) -> None:
    rows = [
        {"custom_id": "fine", "params": claude_params("hi")},
        {"custom_id": "stream", "params": claude_params("hi", stream=True)},
        {"custom_id": "speed", "params": claude_params("hi", speed="fast")},
        {"custom_id": "zero", "params": claude_params("hi") | {"max_tokens": 0}},
        {"custom_id": "warm", "params": claude_params("hi", temperature=1.0)},
        {"custom_id": "model", "params": claude_params("hi") | {"model": "claude-none"}},
        {"custom_id": "empty", "params": {}},
    ]
    batch = make_batch(anthropic_client, rows)
    found: dict[str, str] = {}
    for one in anthropic_client.messages.batches.results(batch.id):
        result = one.result
        found[one.custom_id] = result.error.error.type if result.type == "errored" else result.type
    bad = "invalid_request_error"
    assert found.pop("fine") == "succeeded"
    assert found.pop("model") == "not_found_error"
    assert found == dict.fromkeys(["stream", "speed", "zero", "warm", "empty"], bad)
    old = anthropic_client.with_options(default_headers=OLD)
    again = make_batch(old, [rows[4]])
    assert [one.result.type for one in old.messages.batches.results(again.id)] == ["succeeded"]


@pytest.mark.parametrize("custom_id", ["", "a.b", "ü", "x" * 65, "two words"])
def test_custom_ids_have_a_narrow_alphabet(anthropic_client: anthropic.Anthropic, custom_id: str) -> None:
    with pytest.raises(anthropic.BadRequestError, match="custom_id"):
        make_batch(anthropic_client, [{"custom_id": custom_id, "params": claude_params("hi")}])


def test_error_classes(anthropic_client: anthropic.Anthropic, emulator: Emulator) -> None:
    with pytest.raises(anthropic.AuthenticationError):
        anthropic_client.with_options(api_key="bad-key").models.list()
    with pytest.raises(anthropic.NotFoundError) as missing:
        anthropic_client.messages.batches.retrieve("msgbatch_nobody")
    assert missing.value.request_id
    with pytest.raises(anthropic.BadRequestError):
        make_batch(anthropic_client, [])
    with pytest.raises(anthropic.BadRequestError, match="unique"):
        make_batch(anthropic_client, [*claude_rows(1), *claude_rows(1)])
    emulator.add_fault("queue-full:retry_after=7")
    with pytest.raises(anthropic.RateLimitError) as limited:
        make_batch(anthropic_client, claude_rows(1))
    assert limited.value.response.headers["retry-after"] == "7"
    emulator.add_fault("poll-error:status=529")
    with pytest.raises(anthropic.APIStatusError) as overloaded:
        anthropic_client.messages.batches.retrieve("msgbatch_nobody")
    body: Any = overloaded.value.body
    assert body["error"]["type"] == "overloaded_error"
    emulator.add_fault("create-lost")
    with pytest.raises(anthropic.APIConnectionError):
        make_batch(anthropic_client, claude_rows(1))
    assert len(list(anthropic_client.messages.batches.list())) == 1


def test_both_ways_to_authenticate(emulator: Emulator, url: str) -> None:
    for client in (
        anthropic.Anthropic(base_url=url, max_retries=0, api_key="k"),
        anthropic.Anthropic(base_url=url, max_retries=0, auth_token="k"),
    ):
        with client:
            made = make_batch(client, claude_rows(1))
            assert client.messages.batches.retrieve(made.id).id == made.id
    assert emulator.meter.snapshot()["batches_created"] == 2


def test_messages_whole_and_streamed(anthropic_client: anthropic.Anthropic) -> None:
    messages: Any = [{"role": "user", "content": "My parcel is late"}]
    whole = anthropic_client.messages.create(model=CLAUDE, max_tokens=100, messages=messages)
    first: Any = whole.content[0]
    assert "My parcel is late" in first.text
    with anthropic_client.messages.stream(model=CLAUDE, max_tokens=100, messages=messages) as stream:
        assert "".join(stream.text_stream) == first.text
        assert stream.get_final_message().usage.output_tokens == whole.usage.output_tokens
    count = anthropic_client.messages.count_tokens(model=CLAUDE, messages=messages)
    assert count.input_tokens == whole.usage.input_tokens
    short = anthropic_client.messages.create(model=CLAUDE, max_tokens=2, messages=messages)
    assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 2)


class Ticket(pydantic.BaseModel):
    category: str
    urgent: bool


def test_structured_output_and_tools(anthropic_client: anthropic.Anthropic) -> None:
    messages: Any = [{"role": "user", "content": "The app shows a bug"}]
    parsed = anthropic_client.messages.parse(
        model=CLAUDE, max_tokens=200, messages=messages, output_format=Ticket
    )
    assert isinstance(parsed.parsed_output, Ticket)
    schema: Any = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    written = anthropic_client.messages.create(
        model=CLAUDE,
        max_tokens=200,
        messages=messages,
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    first: Any = written.content[0]
    assert isinstance(json.loads(first.text)["n"], int)
    called = anthropic_client.messages.create(
        model=CLAUDE,
        max_tokens=200,
        messages=messages,
        tools=[{"name": "sort", "input_schema": schema}],
        tool_choice={"type": "tool", "name": "sort"},
    )
    call: Any = called.content[0]
    assert (called.stop_reason, call.name, isinstance(call.input["n"], int)) == ("tool_use", "sort", True)


def test_the_long_output_beta(anthropic_client: anthropic.Anthropic) -> None:
    requests: Any = claude_rows(1)
    made = anthropic_client.beta.messages.batches.create(betas=["output-300k-2026-03-24"], requests=requests)
    results = list(anthropic_client.beta.messages.batches.results(made.id))
    assert [one.custom_id for one in results] == ["a-0"]


def test_models(anthropic_client: anthropic.Anthropic) -> None:
    ids = [model.id for model in anthropic_client.models.list(limit=2)]
    assert "claude-haiku-4-5-20251001" in ids
    assert len(ids) == len(set(ids)) == 6
    assert anthropic_client.models.retrieve(CLAUDE).type == "model"


async def _async_life(emulator: Emulator) -> list[str]:
    async with (
        emulator.serve() as url,
        anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as client,
    ):
        requests: Any = claude_rows(4)
        for _ in range(3):
            await client.messages.batches.create(requests=requests)
        batches = [one async for one in client.messages.batches.list(limit=1)]
        assert len(batches) == 3
        return [one.custom_id async for one in await client.messages.batches.results(batches[0].id)]


def test_the_async_client(emulator: Emulator) -> None:
    assert sorted(asyncio.run(_async_life(emulator))) == ["a-0", "a-1", "a-2", "a-3"]
