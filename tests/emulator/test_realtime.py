"""Realtime calls: tiers, limits by the minute, how long they take, and what goes wrong with them."""

from typing import Any

import anthropic
import openai
import pytest

from halfrate.emulator import Emulator, Limits, ManualClock, Pace, ScaledClock

from .conftest import Build
from .driver import ANTHROPIC, CHAT, CLAUDE, Driver, chat_body, chat_rows, claude_params

MESSAGES = "/v1/messages"
FLEX = {"service_tier": "flex"}


def chat(driver: Driver, text: str = "hi", model: str = "gpt-5-mini", **more: Any) -> Any:
    return driver.send("POST", CHAT, chat_body(text, model, **more))


def message(driver: Driver, text: str = "hi", **more: Any) -> Any:
    return driver.send("POST", MESSAGES, claude_params(text, **more), headers=ANTHROPIC)


def limits_of(response: Any, prefix: str) -> dict[str, str]:
    return {
        name.removeprefix(prefix): value
        for name, value in response.headers.items()
        if name.startswith(prefix)
    }


# ---------------------------------------------------------------- tiers


@pytest.mark.parametrize("path", [CHAT, "/v1/responses"])
def test_the_reply_says_which_tier_it_was_served_in(driver: Driver, path: str) -> None:
    body = chat_body("x", "gpt-5-mini") if path == CHAT else {"model": "gpt-5-mini", "input": "x"}
    served = {
        "auto": "default",
        "default": "default",
        "flex": "flex",
        "priority": "priority",
        "fast": "priority",
    }
    for asked, tier in served.items():
        assert driver.json("POST", path, {**body, "service_tier": asked})["service_tier"] == tier
    assert driver.json("POST", path, body)["service_tier"] == "default"


def test_a_model_without_flex_refuses_and_one_without_priority_serves(driver: Driver) -> None:
    refused = chat(driver, model="gpt-4.1-mini", **FLEX)
    assert refused.status == 400
    error = refused.json()["error"]
    assert (error["param"], error["message"]) == ("service_tier", "Invalid service_tier argument")
    assert chat(driver, service_tier="cheap").status == 400
    assert chat(driver, model="gpt-5-nano", service_tier="priority").json()["service_tier"] == "default"
    assert driver.meter()["realtime_refused"] == {"400": 2}


def test_flex_unavailable_and_tier_changed(build: Build) -> None:
    driver = build(faults=["flex-unavailable", "tier-changed"])
    assert chat(driver).status == 200
    refused = chat(driver, **FLEX)
    assert (refused.status, refused.json()["error"]["code"]) == (429, "resource_unavailable")
    assert chat(driver, **FLEX).json()["service_tier"] == "default"
    assert chat(driver, **FLEX).json()["service_tier"] == "flex"
    assert driver.meter()["rows_by_tier"] == {"standard": 2, "flex": 1}


def test_openai_indents_its_realtime_replies(driver: Driver) -> None:
    body = chat(driver).read()
    assert body.startswith(b'{\n  "id": "chatcmpl-')


# ---------------------------------------------------------------- limits


def test_requests_by_the_minute(build: Build) -> None:
    driver = build(limits=Limits(openai_requests_per_minute=60))
    first = chat(driver, "0")
    assert limits_of(first, "x-ratelimit-") == {
        "limit-requests": "60",
        "remaining-requests": "59",
        "reset-requests": "1s",
    }
    assert {chat(driver, str(n)).status for n in range(1, 60)} == {200}
    refused = chat(driver, "60")
    assert refused.status == 429
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    assert "Limit 60, Used 60, Requested 1" in error["message"]
    assert (refused.headers["retry-after"], refused.headers["retry-after-ms"]) == ("1", "1000")
    assert limits_of(refused, "x-ratelimit-")["reset-requests"] == "1m0s"
    driver.clock.advance(1)
    assert [chat(driver, "60").status, chat(driver, "61").status] == [200, 429]
    # Another model, or another project, has a budget of its own.
    assert chat(driver, "x", "gpt-4.1-mini").status == 200
    other = driver.send("POST", CHAT, chat_body("x", "gpt-5-mini"), headers={"authorization": "Bearer key-2"})
    assert other.status == 200
    assert driver.meter()["realtime_refused"] == {"429": 2}


def test_a_refused_call_counts_against_the_minute_too(build: Build) -> None:
    driver = build(limits=Limits(openai_requests_per_minute=60))
    for n in range(60):
        chat(driver, str(n))
    driver.clock.advance(0.5)
    assert chat(driver).status == 429
    driver.clock.advance(0.5)
    assert chat(driver).status == 429
    driver.clock.advance(1)
    assert chat(driver).status == 200


def test_a_limit_can_be_enforced_by_the_second(build: Build) -> None:
    driver = build(limits=Limits(openai_requests_per_minute=120, burst_seconds=1))
    assert [chat(driver, str(n)).status for n in range(3)] == [200, 200, 429]
    driver.clock.advance(1)
    assert [chat(driver, str(n)).status for n in range(3)] == [200, 200, 429]


def test_tokens_by_the_minute_count_what_may_be_answered(build: Build) -> None:
    driver = build(limits=Limits(openai_tokens_per_minute=6_000))
    first = chat(driver, "hi", max_completion_tokens=1_000)
    assert limits_of(first, "x-ratelimit-") == {
        "limit-tokens": "6000",
        "remaining-tokens": "5000",
        "reset-tokens": "10s",
    }
    assert chat(driver, "hi", max_completion_tokens=5_000).status == 200
    refused = chat(driver, "hi", max_completion_tokens=500)
    assert (refused.status, refused.json()["error"]["type"]) == (429, "tokens")
    assert refused.headers["retry-after"] == "5"
    driver.clock.advance(5)
    assert chat(driver, "hi", max_completion_tokens=500).status == 200
    too_large = chat(driver, "hi", max_completion_tokens=6_001)
    assert "Request too large" in too_large.json()["error"]["message"]
    assert "retry-after" not in too_large.headers


def test_anthropic_limits(build: Build) -> None:
    limits = Limits(
        anthropic_requests_per_minute=3,
        anthropic_input_tokens_per_minute=30_000,
        anthropic_output_tokens_per_minute=8_000,
    )
    driver = build(limits=limits)
    shown = limits_of(message(driver), "anthropic-ratelimit-")
    assert shown["requests-limit"] == "3"
    assert shown["requests-remaining"] == "2"
    assert shown["requests-reset"].endswith("Z")
    assert shown["input-tokens-remaining"] == "30000"
    assert shown["output-tokens-remaining"] == "8000"
    assert shown["tokens-limit"] == "8000"
    assert [message(driver).status for _ in range(3)] == [200, 200, 429]
    refused = message(driver)
    error = refused.json()["error"]
    assert (error["type"], refused.headers["retry-after"]) == ("rate_limit_error", "20")
    assert "3 requests per minute" in error["message"]
    driver.clock.advance(20)
    assert message(driver).status == 200


def test_anthropic_counts_what_was_written_when_it_is_written(build: Build) -> None:
    driver = build(limits=Limits(anthropic_output_tokens_per_minute=40))
    answered = message(driver, "hello there", max_tokens=4_000)
    written = answered.json()["usage"]["output_tokens"]
    assert 20 < written < 40
    # There is some of it left, so the next call is let in, and overdraws it.
    assert message(driver, "hello again").status == 200
    refused = message(driver, "and again")
    assert "output tokens per minute" in refused.json()["error"]["message"]
    driver.clock.advance(60)
    assert message(driver, "and again").status == 200


def test_too_many_at_once(build: Build) -> None:
    driver = build(pace=Pace(realtime=10), limits=Limits(realtime_at_once=2))
    assert [chat(driver).status, message(driver).status, chat(driver).status] == [200, 200, 200]
    refused, overloaded = chat(driver), message(driver)
    assert (refused.status, refused.json()["error"]["code"]) == (503, "server_is_overloaded")
    assert overloaded.status == 200
    assert (message(driver).status, message(driver).json()["error"]["type"]) == (529, "overloaded_error")
    driver.clock.advance(10)
    assert chat(driver).status == 200


# ---------------------------------------------------------------- time


def test_how_long_an_answer_takes(build: Build) -> None:
    driver = build(pace=Pace(realtime=2, realtime_per_token=0.1, realtime_flex=3))
    plain = chat(driver, max_completion_tokens=10)
    assert plain.delivery.work_seconds == pytest.approx(3)
    assert chat(driver, max_completion_tokens=10, **FLEX).delivery.work_seconds == pytest.approx(9)
    assert message(driver, max_tokens=10).delivery.work_seconds == pytest.approx(3)


def test_times_differ_from_call_to_call_and_not_from_run_to_run(build: Build) -> None:
    def times() -> list[float]:
        driver = build(pace=Pace(realtime=2, realtime_spread=0.5))
        return [chat(driver, str(n)).delivery.work_seconds for n in range(200)]

    first = times()
    assert first == times()
    assert min(first) < 1
    assert max(first) > 3
    assert sorted(first)[100] == pytest.approx(2, rel=0.2)


def test_a_served_answer_takes_its_time_by_the_worlds_clock() -> None:
    with Emulator(clock=ScaledClock(100), pace=Pace(realtime=20)) as emulator, emulator.running() as url:
        before = emulator.clock.now()
        with openai.OpenAI(base_url=emulator.openai_base_url(url), api_key="x", max_retries=0) as client:
            client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "x"}])
        assert emulator.clock.now() - before >= 20


def test_a_served_answer_waits_for_a_clock_that_is_moved_by_hand() -> None:
    clock = ManualClock()
    with Emulator(clock=clock, pace=Pace(realtime=3600)) as emulator, emulator.running() as url:
        base = emulator.openai_base_url(url)
        with openai.OpenAI(base_url=base, api_key="x", max_retries=0, timeout=0.5) as client:
            with pytest.raises(openai.APITimeoutError):
                client.chat.completions.create(
                    model="gpt-5-mini", messages=[{"role": "user", "content": "x"}]
                )
            # The clock is moved while the call waits.
            import threading

            mover = threading.Timer(0.1, clock.advance, (3600,))
            mover.start()
            client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "x"}])
            mover.join()


# ---------------------------------------------------------------- faults


def test_realtime_error_says_when_to_come_back(build: Build) -> None:
    driver = build(faults=["realtime-error:status=529,retry_after=4,provider=anthropic"])
    assert chat(driver).status == 200
    refused = message(driver)
    assert (refused.status, refused.headers["retry-after"]) == (529, "4")
    assert driver.meter()["realtime_billed"] == 1


def test_realtime_burst(build: Build) -> None:
    driver = build(faults=["realtime-burst:status=429,seconds=30,retry_after=5"])
    assert [chat(driver).status for _ in range(3)] == [429] * 3
    assert chat(driver).headers["retry-after"] == "5"
    # A burst is one provider's.
    assert message(driver).status == 200
    driver.clock.advance(29)
    assert chat(driver).status == 429
    driver.clock.advance(1)
    assert chat(driver).status == 200
    assert driver.meter()["realtime_refused"] == {"429": 5}


def test_realtime_lost_slow_and_cut_are_billed(build: Build) -> None:
    driver = build(
        faults=["realtime-lost:times=2", "realtime-slow:times=2,seconds=7", "realtime-cut:times=2"]
    )
    found = [chat(driver), message(driver), chat(driver), message(driver)]
    assert [one.delivery.drop for one in found] == [True, True, False, False]
    assert [one.delivery.hold_seconds for one in found] == [7, 7, 0, 0]
    first = found[0]
    assert first.delivery.truncate_after == len(first.read()) // 2
    assert found[2].delivery.truncate_after is None
    assert driver.meter()["realtime_billed"] == 4


# ---------------------------------------------------------------- the official SDKs


def test_the_openai_sdk_sees_tiers_and_limits(openai_client: openai.OpenAI, url: str) -> None:
    messages: Any = [{"role": "user", "content": "hi"}]
    whole = openai_client.chat.completions.create(model="gpt-5-mini", messages=messages, service_tier="flex")
    assert whole.service_tier == "flex"
    reply = openai_client.responses.create(model="gpt-5-mini", input="hi", service_tier="priority")
    assert (reply.service_tier, bool(reply.output_text)) == ("priority", True)
    vector = openai_client.embeddings.create(model="text-embedding-3-small", input="hi")
    assert len(vector.data[0].embedding) == 1536
    stream = openai_client.chat.completions.create(
        model="gpt-5-mini", messages=messages, service_tier="flex", stream=True
    )
    assert {chunk.service_tier for chunk in stream} == {"flex"}
    with pytest.raises(openai.BadRequestError) as refused:
        openai_client.chat.completions.create(model="gpt-4o", messages=messages, service_tier="flex")
    assert refused.value.param == "service_tier"
    limits = Limits(openai_requests_per_minute=600)
    with Emulator(limits=limits, pace=Pace.instant()) as tight, tight.running() as address:
        client = openai_client.with_options(base_url=tight.openai_base_url(address))
        raw = client.chat.completions.with_raw_response.create(model="gpt-5-mini", messages=messages)
        assert raw.headers["x-ratelimit-remaining-requests"] == "599"
        assert raw.parse().choices[0].message.content
        tight.add_fault("rate-limit:on=realtime,retry_after=1")
        with pytest.raises(openai.RateLimitError) as limited:
            client.chat.completions.create(model="gpt-5-mini", messages=messages)
        assert limited.value.response.headers["retry-after"] == "1"
        # Its own retries wait as they are told to, and get through.
        tight.add_fault("rate-limit:on=realtime,retry_after=0.01")
        patient = client.with_options(max_retries=1)
        assert patient.chat.completions.create(model="gpt-5-mini", messages=messages).id


def test_the_anthropic_sdk_sees_limits(anthropic_client: anthropic.Anthropic) -> None:
    limits = Limits(anthropic_requests_per_minute=50, anthropic_input_tokens_per_minute=30_000)
    with Emulator(limits=limits, pace=Pace.instant()) as tight, tight.running() as address:
        client = anthropic_client.with_options(base_url=tight.anthropic_base_url(address))
        messages: Any = [{"role": "user", "content": "hi"}]
        raw = client.messages.with_raw_response.create(model=CLAUDE, max_tokens=10, messages=messages)
        assert raw.headers["anthropic-ratelimit-requests-remaining"] == "49"
        assert raw.parse().usage.service_tier == "standard"
        tight.add_fault("realtime-error:status=529")
        with pytest.raises(anthropic.APIStatusError) as overloaded:
            client.messages.create(model=CLAUDE, max_tokens=10, messages=messages)
        assert overloaded.value.status_code == 529


def test_a_lost_reply_is_a_connection_error_to_the_sdks(
    openai_client: openai.OpenAI, anthropic_client: anthropic.Anthropic, emulator: Emulator
) -> None:
    messages: Any = [{"role": "user", "content": "hi"}]
    emulator.add_fault("realtime-lost:times=2")
    with pytest.raises(openai.APIConnectionError):
        openai_client.chat.completions.create(model="gpt-5-mini", messages=messages)
    with pytest.raises(anthropic.APIConnectionError):
        anthropic_client.messages.create(model=CLAUDE, max_tokens=10, messages=messages)
    emulator.add_fault("realtime-cut")
    with pytest.raises((openai.APIError, ValueError)):
        openai_client.chat.completions.create(model="gpt-5-mini", messages=messages)
    assert emulator.meter.snapshot()["realtime_billed"] == 3


def test_batches_know_nothing_of_all_this(build: Build) -> None:
    driver = build(limits=Limits(openai_requests_per_minute=1, realtime_at_once=1))
    batch = driver.look(driver.batch(chat_rows(5)))
    assert batch["request_counts"]["completed"] == 5
