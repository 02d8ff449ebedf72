"""Calls that can wait: the official SDKs as clients, the emulator's meter as the witness."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import anthropic
import msgspec
import openai
import pytest
from openai.types.responses import Response

from halfrate.base.money import PICO
from halfrate.emulator import Pace
from halfrate.service.jobs import Service

from ..service.providers import MODELS
from .house import QUICK, SLOW, House, end, ledger_is_meter, running, until, until_sent

Open = Callable[..., House]
ASKED: list[Any] = [{"role": "user", "content": "What is a quick brown fox, and what does it do all day?"}]
PATIENT = {"halfrate-deadline": "8h"}
# Two have embeddings alone.
CHATS = [model for name, model in MODELS.items() if name not in {"voyage", "cohere"}]


def asked(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def waiting(house: House) -> int:
    """How many calls wait to be answered."""
    return house.service.deferred.count()


def ended(client: openai.OpenAI, call_id: str) -> dict[str, Any]:
    """A call in the background, at its end."""
    found: Any = {}

    def look() -> bool:
        found.update(client.get(f"/halfrate/calls/{call_id}", cast_to=object))
        return found["status"] not in {"queued", "in_progress"}

    until(look)
    return found


def ended_response(client: openai.OpenAI, response: Response) -> Response:
    deadline = time.monotonic() + 20
    while response.status in {"queued", "in_progress"}:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        response = client.responses.retrieve(response.id)
    return response


# ---------------------------------------------------------------- by a held line


def test_a_call_that_can_wait_is_answered_at_the_price_of_a_batch(house: Open) -> None:
    home = house()
    client = home.client(home.key()[1])
    raw = client.chat.completions.with_raw_response.create(
        model="gpt-4.1-mini", messages=ASKED, extra_headers=PATIENT
    )
    assert raw.parse().choices[0].message.content
    assert raw.headers["x-halfrate-tier"] == "batch"
    assert raw.headers["x-halfrate-model"] == "openai/gpt-4.1-mini"
    meter = home.meter()
    assert meter["rows_billed"] == 1
    assert meter["realtime_billed"] == 0
    assert Decimal(raw.headers["x-halfrate-cost-usd"]) * PICO == meter["picodollars"] > 0
    ledger_is_meter(home)


def test_the_deadline_may_stand_behind_the_name_of_the_model(house: Open) -> None:
    home = house()
    raw = home.client(home.key()[1]).chat.completions.with_raw_response.create(
        model="gpt-4.1-mini+8h", messages=ASKED
    )
    assert raw.headers["x-halfrate-tier"] == "batch"
    assert raw.parse().model.startswith("gpt-4.1-mini")


def test_calls_of_many_callers_go_together_and_each_gets_its_own_answer(house: Open) -> None:
    home = house()
    key = home.key()[1]

    async def ask() -> None:
        client = openai.AsyncOpenAI(base_url=f"{home.server.url}/v1", api_key=key, max_retries=0)

        async def one(number: int) -> None:
            reply = await client.chat.completions.create(
                model="gpt-4.1-mini", messages=asked(f"Parcel {number}"), extra_headers=PATIENT
            )
            # The emulator says again what it was asked.
            assert f"Parcel {number}”" in (reply.choices[0].message.content or "")

        async with client:
            await asyncio.gather(*map(one, range(120)))

    asyncio.run(ask())
    meter = home.meter()
    assert meter["rows_billed"] == 120
    assert meter["creates_received"] <= 3
    assert meter["realtime_billed"] == 0
    ledger_is_meter(home)
    assert waiting(home) == 0


def test_messages_wait_as_well_and_both_kinds_of_client_may(house: Open) -> None:
    home = house()
    key = home.key()[1]
    raw = home.messages(key).messages.with_raw_response.create(
        model="claude-haiku-4-5", max_tokens=50, messages=ASKED, extra_headers=PATIENT
    )
    assert raw.parse().content
    assert raw.headers["x-halfrate-tier"] == "batch"

    async def ask() -> None:
        async with anthropic.AsyncAnthropic(base_url=home.server.url, api_key=key, max_retries=0) as client:
            message = await client.messages.create(
                model="gpt-4.1-mini", max_tokens=50, messages=ASKED, extra_headers=PATIENT
            )
            assert message.type == "message"
            assert message.content

    asyncio.run(ask())
    assert home.meter()["rows_billed"] == 2
    ledger_is_meter(home)


@pytest.mark.parametrize("model", CHATS)
def test_every_provider_answers_chats_and_messages_that_wait(house: Open, model: str) -> None:
    home = house()
    key = home.key()[1]
    reply = home.client(key).chat.completions.with_raw_response.create(
        model=model, messages=ASKED, max_tokens=40, extra_headers=PATIENT
    )
    assert reply.parse().choices[0].message.content
    message = home.messages(key).messages.with_raw_response.create(
        model=model, max_tokens=40, messages=asked("And a lazy dog?"), extra_headers=PATIENT
    )
    assert message.parse().content
    # Bedrock takes no batch of a row or two.
    tier = "standard" if model.startswith("bedrock") else "batch"
    assert {reply.headers["x-halfrate-tier"], message.headers["x-halfrate-tier"]} == {tier}
    ledger_is_meter(home)
    meter = home.meter()
    assert meter["rows_billed"] + meter["realtime_billed"] == 2


def test_responses_and_embeddings_wait(house: Open) -> None:
    home = house()
    client = home.client(home.key()[1])
    response = client.responses.create(model="gpt-4.1-mini", input="Say hello.", extra_headers=PATIENT)
    assert response.output_text
    found = client.embeddings.create(
        model="text-embedding-3-small", input=["one", "two"], extra_headers=PATIENT
    )
    assert [one.index for one in found.data] == [0, 1]
    assert home.meter()["rows_billed"] == 2
    ledger_is_meter(home)


@pytest.mark.parametrize(
    "model", ["claude-haiku-4-5", "gemini/gemini-2.5-flash", "groq/llama-3.3-70b-versatile"]
)
def test_responses_wait_for_models_that_know_chats_alone(house: Open, model: str) -> None:
    home = house()
    client = home.client(home.key()[1])
    raw = client.responses.with_raw_response.create(
        model=model, input="Say hello.", instructions="Be short.", max_output_tokens=50, extra_headers=PATIENT
    )
    response = raw.parse()
    assert response.output_text
    assert response.instructions == "Be short."
    assert response.usage is not None
    assert raw.headers["x-halfrate-tier"] == "batch"
    made = client.responses.create(
        model=model, input="Say goodbye.", max_output_tokens=50, background=True, extra_headers=PATIENT
    )
    assert ended_response(client, made).output_text
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(
            model=model, input="More.", previous_response_id="resp_1", extra_headers=PATIENT
        )
    assert refused.value.param == "previous_response_id"
    assert home.meter()["rows_billed"] == 2
    ledger_is_meter(home)


def test_a_chat_or_message_that_waits_may_be_streamed(house: Open) -> None:
    home = house()
    key = home.key()[1]
    options: Any = {"include_usage": True}
    with home.client(key).chat.completions.create(
        model="gpt-4.1-mini", messages=ASKED, stream=True, stream_options=options, extra_headers=PATIENT
    ) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert chunks[-1].usage is not None
    with home.messages(key).messages.stream(
        model="claude-haiku-4-5", max_tokens=50, messages=ASKED, extra_headers=PATIENT
    ) as events:
        assert events.get_final_text()
    assert home.meter()["rows_billed"] == 2
    ledger_is_meter(home)


# ---------------------------------------------------------------- when it cannot wait


def test_a_deadline_that_is_too_near_is_kept_in_real_time_and_the_reply_says_so(house: Open) -> None:
    home = house()
    client = home.client(home.key()[1])
    raw = client.chat.completions.with_raw_response.create(
        model="gpt-4.1-mini", messages=ASKED, extra_headers={"halfrate-deadline": "1m"}
    )
    assert raw.parse().choices
    assert raw.headers["x-halfrate-tier"] == "standard"
    meter = home.meter()
    assert (meter["rows_billed"], meter["realtime_billed"]) == (0, 1)
    assert Decimal(raw.headers["x-halfrate-cost-usd"]) * PICO == meter["picodollars"]


def test_flex_serves_what_a_batch_cannot_where_there_is_time_for_it(house: Open) -> None:
    home = house()
    client = home.client(home.key()[1])
    raw = client.chat.completions.with_raw_response.create(
        model="gpt-5-mini", messages=ASKED, extra_headers={"halfrate-deadline": "45m"}
    )
    assert raw.parse().choices
    assert raw.headers["x-halfrate-tier"] == "flex"
    assert Decimal(raw.headers["x-halfrate-cost-usd"]) * PICO == home.meter()["picodollars"]


def test_a_model_without_batches_answers_at_once(house: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    home = house()
    monkeypatch.setenv("OPENAI_COMPATIBLE_BASE_URL", os.environ["OPENAI_BASE_URL"])
    monkeypatch.setenv("OPENAI_COMPATIBLE_API_KEY", "key-1")
    raw = home.client(home.key()[1]).chat.completions.with_raw_response.create(
        model="openai-compatible/gpt-4.1-nano", messages=ASKED, extra_headers=PATIENT
    )
    assert raw.headers["x-halfrate-tier"] == "standard"
    assert raw.parse().choices


# ---------------------------------------------------------------- asked again


def test_the_same_key_means_the_same_call(house: Open) -> None:
    home = house()
    key = home.key()[1]
    headers = {**PATIENT, "idempotency-key": "order-7"}

    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{home.server.url}/v1", api_key=key, max_retries=0) as client:
            replies = await asyncio.gather(
                *(
                    client.chat.completions.create(
                        model="gpt-4.1-mini", messages=ASKED, extra_headers=headers
                    )
                    for _ in range(5)
                )
            )
        return [reply.id for reply in replies]

    first = set(asyncio.run(ask()))
    # And once more, when it has long been answered.
    again = home.client(key).chat.completions.create(
        model="gpt-4.1-mini", messages=ASKED, extra_headers=headers
    )
    assert first == {again.id}
    assert home.meter()["rows_billed"] == 1
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        home.client(key).chat.completions.create(
            model="gpt-4.1-mini", messages=asked("Something else"), extra_headers=headers
        )
    assert refused.value.code == "idempotency_key_reused"
    # Another team's keys are its own.
    other = home.client(home.key("you", team="others")[1])
    assert (
        other.chat.completions.create(model="gpt-4.1-mini", messages=ASKED, extra_headers=headers).id
        != again.id
    )
    assert home.meter()["rows_billed"] == 2


def test_the_same_key_means_the_same_call_in_real_time_as_well(house: Open) -> None:
    home = house()
    client = home.client(home.key()[1])
    headers = {"halfrate-deadline": "1m", "idempotency-key": "order-8"}
    replies = [
        client.chat.completions.with_raw_response.create(
            model="gpt-4.1-mini", messages=ASKED, extra_headers=headers
        )
        for _ in range(3)
    ]
    assert len({reply.parse().id for reply in replies}) == 1
    assert {reply.headers["x-halfrate-tier"] for reply in replies} == {"standard"}
    assert home.meter()["realtime_billed"] == 1
    ledger = home.client(home.key()[1]).get("/halfrate/cost", cast_to=object)
    assert ledger["total"]["rows"] == 1  # type: ignore[index]


def test_a_client_that_loses_patience_and_asks_again_pays_once(house: Open) -> None:
    home = house(pace=Pace(validate=0.5, queue=0.5, per_1000_rows=1.0, finalize=0.2, cancel=0.1))
    # As the SDKs do by themselves, without a key of their own.
    client = openai.OpenAI(
        base_url=f"{home.server.url}/v1", api_key=home.key()[1], max_retries=20, timeout=0.4
    )
    with client:
        reply = client.chat.completions.create(model="gpt-4.1-mini", messages=ASKED, extra_headers=PATIENT)
    assert reply.choices
    assert home.meter()["rows_billed"] == 1


def test_a_gateway_that_is_ended_leaves_calls_to_the_next(house: Open) -> None:
    home = house(pace=Pace(validate=0.5, queue=0.5, per_1000_rows=1.0, finalize=0.2, cancel=0.1))
    key = home.key()[1]
    headers = {**PATIENT, "idempotency-key": "night-1"}
    with contextlib.suppress(openai.APIConnectionError, openai.APITimeoutError):
        home.client(key, timeout=0.5).chat.completions.create(
            model="gpt-4.1-mini", messages=ASKED, extra_headers=headers
        )
    assert waiting(home) == 1
    end(home.server)
    with Service(home.service.home) as service, running(service) as (server, _):
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)
        with client:
            assert client.chat.completions.create(
                model="gpt-4.1-mini", messages=ASKED, extra_headers=headers
            ).choices
    assert home.meter()["rows_billed"] == 1


# ---------------------------------------------------------------- in the background


def test_a_response_in_the_background_is_polled_as_openai_s_is(house: Open) -> None:
    home = house()
    client = home.client(home.key()[1])
    made = client.responses.create(
        model="gpt-4.1-mini",
        input="Say hello.",
        instructions="Be short.",
        metadata={"run": "7"},
        background=True,
        extra_headers=PATIENT,
    )
    assert made.status == "queued"
    assert made.background
    assert made.id.startswith("resp_")
    assert made.instructions == "Be short."
    done = ended_response(client, made)
    assert done.status == "completed"
    assert done.id == made.id
    assert done.background
    assert done.output_text
    assert home.meter()["rows_billed"] == 1
    assert client.delete(f"/responses/{made.id}", cast_to=object) == {
        "id": made.id,
        "object": "response",
        "deleted": True,
    }
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
    ledger_is_meter(home)


def test_a_response_in_the_background_without_a_deadline_runs_at_once(house: Open) -> None:
    home = house()
    client = home.client(home.key()[1])
    made = client.responses.create(model="gpt-4.1-mini", input="Say hello.", background=True)
    assert ended_response(client, made).output_text
    assert home.meter()["realtime_billed"] == 1


def test_any_call_may_run_in_the_background(house: Open) -> None:
    home = house()
    key = home.key()[1]
    client = home.client(key)
    headers = {**PATIENT, "halfrate-background": "true"}
    made: Any = client.post(
        "/chat/completions",
        cast_to=object,
        body={"model": "gpt-4.1-mini", "messages": ASKED},
        options={"headers": headers},
    )
    assert made["object"] == "halfrate.call"
    assert made["status"] == "queued"
    found = ended(client, made["id"])
    assert found["status"] == "completed"
    assert found["tier"] == "batch"
    assert found["response"]["status_code"] == 200
    assert found["response"]["body"]["choices"]
    assert Decimal(found["cost_usd"]) * PICO == home.meter()["picodollars"]
    # What is another team's does not exist.
    other = home.client(home.key("you", team="others")[1])
    for path in (f"/halfrate/calls/{made['id']}", f"/responses/{made['id']}"):
        with pytest.raises(openai.NotFoundError):
            other.get(path, cast_to=object)
    with pytest.raises(openai.NotFoundError):
        other.post(f"/halfrate/calls/{made['id']}/cancel", cast_to=object)


def test_a_call_that_was_not_sent_can_be_cancelled_and_costs_nothing(
    house: Open,
) -> None:
    # What is gathered stays open for as long as this test takes.
    home = house(timing=msgspec.structs.replace(QUICK, gather=60.0))
    key = home.key()[1]
    client = home.client(key)
    first = client.responses.create(
        model="gpt-4.1-mini", input="Say hello.", background=True, extra_headers=PATIENT
    )
    second = client.responses.create(
        model="gpt-4.1-mini", input="Say goodbye.", background=True, extra_headers=PATIENT
    )
    assert client.responses.cancel(first.id).status == "cancelled"
    assert client.responses.retrieve(first.id).status == "cancelled"
    # Twice does no harm.
    assert client.responses.cancel(first.id).status == "cancelled"
    # A gateway that ends carries on what it has gathered, without what was cancelled.
    end(home.server)
    with Service(home.service.home) as service, running(service) as (server, _):
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)
        with client:
            assert ended_response(client, second).status == "completed"
    assert home.meter()["rows_billed"] == 1


def test_a_call_that_was_sent_cannot_be_cancelled(house: Open) -> None:
    home = house(pace=SLOW)
    client = home.client(home.key()[1])
    made = client.responses.create(
        model="gpt-4.1-mini", input="Say hello.", background=True, extra_headers=PATIENT
    )
    until_sent(home)
    with pytest.raises(openai.ConflictError) as refused:
        client.responses.cancel(made.id)
    assert refused.value.code == "call_not_cancellable"
    assert client.responses.retrieve(made.id).status == "in_progress"


# ---------------------------------------------------------------- what fails


def test_a_call_that_its_provider_refuses_is_answered_with_that(house: Open) -> None:
    home = house("row-error:match=Bad,status=400")
    client = home.client(home.key()[1])
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="gpt-4.1-mini", messages=asked("Bad"), extra_headers=PATIENT)
    # In the provider's own words.
    assert refused.value.body
    assert refused.value.response.headers["x-halfrate-cost-usd"] == "0"
    assert client.chat.completions.create(
        model="gpt-4.1-mini", messages=asked("Good"), extra_headers=PATIENT
    ).choices
    ledger_is_meter(home)
    assert waiting(home) == 0


def test_what_cannot_be_asked_is_refused_at_once(house: Open) -> None:
    home = house()
    client = home.client(home.key()[1])
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model="claude-haiku-4-5", messages=ASKED, logprobs=True, extra_headers=PATIENT
        )
    assert refused.value.param == "logprobs"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nobody/has-this", messages=ASKED, extra_headers=PATIENT)
    for headers in (
        {"halfrate-deadline": "soon"},
        {"halfrate-deadline": "2001-01-01"},
        {**PATIENT, "halfrate-background": "perhaps"},
        {**PATIENT, "idempotency-key": "k" * 256},
        {**PATIENT, "x-halfrate-provider-key": "sk-of-the-caller"},
    ):
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="gpt-4.1-mini", messages=ASKED, extra_headers=headers)
    with pytest.raises(openai.BadRequestError) as streamed:
        client.responses.create(model="gpt-4.1-mini", input="Hi.", stream=True, extra_headers=PATIENT)
    assert streamed.value.param == "stream"
    assert waiting(home) == 0
    assert home.meter()["creates_received"] == 0


def test_a_key_asks_no_model_that_it_may_not(house: Open) -> None:
    home = house()
    client = home.client(home.key("narrow", models=("openai/gpt-4.1-nano",))[1])
    with pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.create(model="gpt-4.1-mini", messages=ASKED, extra_headers=PATIENT)
    assert waiting(home) == 0
