"""Anthropic's Message Batches API at the gateway, through the official SDK; the emulator's meter is the witness."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anthropic
import pytest
from anthropic.types.messages import MessageBatch

from halfrate.core.budgets import Budget
from halfrate.core.surface import BatchState
from halfrate.service.batches import MessagesAsk

from .house import SLOW, House, by_hand, ledger_is_meter, until_sent
from .messages import CLAUDE, counts, make, request, results_of, wait

BAD = "invalid_request_error"
pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("model", [CLAUDE, f"anthropic/{CLAUDE}"])
@pytest.mark.parametrize("style", ["x-api-key", "bearer"])
def test_a_batch_comes_back_as_from_anthropic(house: Callable[..., House], model: str, style: str) -> None:
    at = house()
    _, key = at.key()
    client = at.messages(key)
    if style == "bearer":
        client = anthropic.Anthropic(base_url=at.server.url, auth_token=key, max_retries=0)
    batch = make(client, (request(f"row-{n}", model) for n in range(12)))
    assert batch.id.startswith("msgbatch_")
    assert (batch.type, batch.processing_status) == ("message_batch", "in_progress")
    assert batch.request_counts.processing == 12
    assert batch.expires_at - batch.created_at == timedelta(days=1)
    batch = wait(client, batch)
    assert (batch.cancel_initiated_at, batch.archived_at) == (None, None)
    assert batch.ended_at is not None
    assert batch.ended_at >= batch.created_at
    assert batch.results_url == f"{at.server.url}/v1/messages/batches/{batch.id}/results"
    found = results_of(client, batch)
    assert sorted(found) == sorted(f"row-{n}" for n in range(12))
    for result in found.values():
        assert result.type == "succeeded"
        assert result.message.role == "assistant"
        assert result.message.content[0].text
        assert result.message.model.startswith(CLAUDE)
        assert result.message.usage.service_tier == "batch"
    ledger_is_meter(at)
    # At a deadline of its own a batch's rows would be run in real time; at 24h they never are.
    assert {line.keys for line in at.service.costs(by=("tier",))} == {("batch",)}
    assert at.meter()["rows_received"] == 12


def test_the_async_client_sees_the_same_life(house: Callable[..., House]) -> None:
    at = house()
    _, key = at.key()

    async def life() -> tuple[set[str], list[str]]:
        async with anthropic.AsyncAnthropic(base_url=at.server.url, api_key=key, max_retries=0) as client:
            requests: Any = [request(f"row-{n}") for n in range(5)]
            batch = await client.messages.batches.create(requests=requests)
            while batch.processing_status != "ended":
                await asyncio.sleep(0.1)
                batch = await client.messages.batches.retrieve(batch.id)
            names = {one.custom_id async for one in await client.messages.batches.results(batch.id)}
            listed = [one.id async for one in client.messages.batches.list()]
            await client.messages.batches.delete(batch.id)
            return names, [*listed, *[one.id async for one in client.messages.batches.list()]]

    names, listed = asyncio.run(life())
    assert names == {f"row-{n}" for n in range(5)}
    assert len(listed) == 1
    ledger_is_meter(at)


def test_params_reach_anthropic_byte_for_byte(house: Callable[..., House]) -> None:
    """Only what stands between the fields of the envelope is ours."""
    at = house()
    client = at.messages(at.key()[1])
    params = (
        '{ "max_tokens" :20,"model":"claude-haiku-4-5",\t"temperature":1.0, '
        '"messages":[{"role":"user","content":"\\u00e4 \\/ \u00e4 \\n"}] }'
    )
    body = f'{{"requests": [ {{"params": {params}, "custom_id": "a"}} ]\n}}'.encode()
    batch = client.post(
        "/v1/messages/batches",
        cast_to=MessageBatch,
        content=body,
        options={"headers": {"content-type": "application/json"}},
    )
    (result,) = results_of(client, wait(client, batch)).values()
    # The SDK's version of the API takes no temperature, and says so: as without a gateway.
    assert result.type == "errored"
    assert "temperature" in result.error.error.message
    (job,) = at.service.jobs()
    assert job.spec.options["version"] == "2026-10-21"
    kept = at.service.files(job.id).snapshot("jsonl").read_bytes()
    assert kept == f'{{"custom_id":"a","params":{params}}}\n'.encode()
    old = client.with_options(default_headers={"anthropic-version": "2023-06-01"})
    again = make(
        old, [request("b", temperature=1.0)], extra_headers={"anthropic-beta": "output-300k-2026-03-24"}
    )
    assert [one.type for one in results_of(old, wait(old, again)).values()] == ["succeeded"]
    options = {"version": "2023-06-01", "beta": "output-300k-2026-03-24"}
    assert options in [job.spec.options for job in at.service.jobs()]


def test_rows_that_cannot_be_run_are_errored_and_the_others_are_run(house: Callable[..., House]) -> None:
    at = house("row-error:status=400,match=refused")
    client = at.messages(at.key("me", models=["anthropic/*", "openai/gpt-4.1-nano", "nobody/*"])[1])
    requests: list[dict[str, Any]] = [
        *(request(f"fine-{n}") for n in range(8)),
        *(request(f"named-{n}", f"anthropic/{CLAUDE}") for n in range(3)),
        request("refused"),
        request("unknown", "gtp-5-mimi"),
        request("forbidden", "gpt-4.1-mini"),
        request("foreign", "gpt-4.1-nano", top_k=5),
        request("number", 7),
        request("streams", stream=True),
        {"custom_id": "empty", "params": {}},
    ]
    batch = wait(client, make(client, requests))
    found = results_of(client, batch)
    said = {name: one.error.error.message for name, one in found.items() if one.type == "errored"}
    assert {one.error.error.type for one in found.values() if one.type == "errored"} == {BAD}
    assert sorted(said) == sorted(one["custom_id"] for one in requests[11:])
    assert "gtp-5-mimi" in said["unknown"]
    assert "may not ask" in said["forbidden"]
    assert said["foreign"].startswith("top_k: ")
    assert said["number"].startswith("model: ")
    assert said["streams"].startswith("stream: ")
    assert said["empty"].startswith("model: ")
    # What rows are called between here and the provider is nobody's business.
    assert "hr-" not in json.dumps(said)
    assert at.meter()["rows_received"] == 12
    assert len(at.service.jobs()) == 2
    ledger_is_meter(at)


def test_models_of_others_are_asked_in_anthropics_form_and_answer_in_it(house: Callable[..., House]) -> None:
    at = house("row-error:status=400,match=refused")
    client = at.messages(at.key()[1])
    requests = [
        *(request(f"openai-{n}", "gpt-4.1-mini") for n in range(5)),
        *(request(f"gemini-{n}", "gemini-2.5-flash") for n in range(4)),
        *(request(f"claude-{n}") for n in range(3)),
        request("refused", "gpt-4.1-mini"),
        request("foreign", "gpt-4.1-mini", top_k=5),
    ]
    batch = wait(client, make(client, requests))
    found = results_of(client, batch)
    assert batch.request_counts.model_dump() == counts(succeeded=12, errored=2)
    for name, one in found.items():
        if name in {"refused", "foreign"}:
            assert one.type == "errored"
            assert one.error.error.type == BAD
            continue
        assert one.type == "succeeded"
        assert one.message.type == "message"
        assert one.message.content[0].type == "text"
        assert one.message.model.startswith(
            {"openai": "gpt-4.1-mini", "gemini": "gemini-2.5-flash", "claude": CLAUDE}[name.partition("-")[0]]
        )
    assert len(at.service.jobs()) == 3
    assert at.meter()["rows_received"] == 13
    ledger_is_meter(at)


def test_a_create_that_anthropic_answered_into_the_void_is_paid_once(house: Callable[..., House]) -> None:
    at = house("create-lost:provider=anthropic")
    client = at.messages(at.key()[1])
    batch = wait(client, make(client, (request(f"row-{n}") for n in range(8))))
    assert batch.request_counts.model_dump() == counts(succeeded=8)
    assert len(results_of(client, batch)) == 8
    assert at.meter()["creates_received"] == 1
    ledger_is_meter(at)


def test_rows_that_no_attempt_found_time_for_are_expired(house: Callable[..., House]) -> None:
    at = house("batch-expire:done=0.5,rate=1")
    client = at.messages(at.key()[1])
    batch = wait(client, make(client, (request(f"row-{n}") for n in range(64))), seconds=60)
    found = results_of(client, batch)
    assert {one.type for one in found.values()} == {"succeeded", "expired"}
    ledger_is_meter(at)


def test_whatever_comes_from_anthropic_every_request_has_one_line_of_its_form(
    house: Callable[..., House],
) -> None:
    at = house(
        "row-malformed:times=2",
        "row-missing:times=2",
        "row-duplicate:times=2",
        "row-unknown:times=2",
        "row-no-id:times=2",
        "row-status-zero:rate=0.2",
        "row-unicode:times=2",
    )
    client = at.messages(at.key()[1])
    batch = wait(client, make(client, (request(f"row-{n}") for n in range(40))))
    found = results_of(client, batch)
    assert set(found) == {f"row-{n}" for n in range(40)}
    for result in found.values():
        if result.type == "errored":
            assert result.error.error.type
            assert result.error.error.message


def test_a_batch_of_which_nothing_can_be_run_ends_with_every_row_errored(house: Callable[..., House]) -> None:
    at = house()
    key, text = at.key()
    client = at.messages(text)
    at.service.set_budget(Budget(name="key", value=key.id, stop=1_000))
    over = results_of(client, wait(client, make(client, (request(f"row-{n}") for n in range(4)))))
    assert {one.error.error.type for one in over.values()} == {BAD}
    assert all("budget" in one.error.error.message.lower() for one in over.values())
    many = results_of(client, wait(client, make(client, (request(f"r{n}", f"none-{n}") for n in range(30)))))
    assert [one.type for one in many.values()] == ["errored"] * 30
    assert at.meter()["rows_received"] == 0
    assert at.service.jobs() == []


def test_a_cancelled_batch_delivers_what_was_finished(house: Callable[..., House]) -> None:
    at = house(pace=SLOW)
    client = at.messages(at.key()[1])
    batch = make(client, [*(request(f"row-{n}") for n in range(6)), request("bad", stream=True)])
    until_sent(at)
    canceling = client.messages.batches.cancel(batch.id)
    assert canceling.processing_status == "canceling"
    assert canceling.cancel_initiated_at is not None
    assert canceling.request_counts.model_dump() == counts(processing=7)
    assert client.messages.batches.cancel(batch.id).cancel_initiated_at == canceling.cancel_initiated_at
    batch = wait(client, canceling)
    found = results_of(client, batch)
    assert {one.type for name, one in found.items() if name != "bad"} <= {"canceled", "succeeded"}
    assert batch.request_counts.canceled > 0
    with pytest.raises(anthropic.BadRequestError, match="ended"):
        client.messages.batches.cancel(batch.id)
    assert not at.paid_twice()


def test_cancelled_before_it_was_looked_at_or_while_it_is_finalizing_every_row_has_its_line(
    house: Callable[..., House],
) -> None:
    at = house()
    key, _ = at.key()
    with by_hand(at) as hand:
        service, keeper = hand.service, hand.keeper

        def made() -> str:
            body = hand.shelf.incoming()
            body.write(json.dumps({"requests": [request("a"), request("b", "none")]}).encode())
            try:
                return keeper.create_messages(key, MessagesAsk(body_digest="d"), body).id
            finally:
                body.close()

        def step() -> BatchState:
            return hand.step(100).state

        early = made()
        keeper.cancel(key.team, "anthropic", early)
        assert step() is BatchState.CANCELLED
        late = made()
        assert [step() for _ in range(2)] == [BatchState.VALIDATING, BatchState.IN_PROGRESS]
        (job,) = service.jobs()
        service.cancel(job.id)
        service.conclude(job.id)
        asyncio.run(service.work(drain=True))
        assert step() is BatchState.FINALIZING
        assert keeper.cancel(key.team, "anthropic", late) is not None
        assert step() is BatchState.CANCELLED
        for batch_id, expected in ((early, ["canceled", "canceled"]), (late, ["canceled", "errored"])):
            batch = keeper.find(key.team, "anthropic", batch_id)
            assert batch is not None
            path = keeper.results(batch)
            assert path is not None
            lines = [json.loads(line) for line in path.read_bytes().splitlines()]
            assert [line["result"]["type"] for line in lines] == expected
        assert list((service.home.root / "gateway" / "batches").iterdir()) == []
        assert list((service.home.root / "gateway" / "incoming").iterdir()) == []
    assert at.meter()["rows_received"] == 0
