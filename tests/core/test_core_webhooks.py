"""Webhooks: how they are signed and checked, and when they are tried again. OpenAI's own client is the judge."""

import base64
import json
import time
from collections.abc import Iterator

import msgspec
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfrate.core.job import JobState
from halfrate.core.surface import ENDED
from halfrate.core.webhooks import (
    EVENTS,
    NO_TEAM,
    RETRIES,
    TOLERANCE,
    Answer,
    Delivery,
    DeliveryState,
    Event,
    Webhook,
    derived_secret,
    ended_batch,
    given_up,
    pause_after,
    read_secret,
    show_secret,
    sign,
    tried,
    verified,
)
from halfrate.service.keys import TEAM

SECRET = bytes(range(32))
OTHER = bytes(range(1, 33))
BODY = Event("evt_1", "batch.completed", "batch_7", 1_790_000_000.5).body().encode()
NOW = 1_790_000_000.0
DELIVERY = Delivery(
    webhook_id="wh_1",
    event_id="evt_1",
    type="batch.completed",
    subject="batch_7",
    body=BODY.decode(),
    created_at=NOW,
)


@pytest.fixture(scope="module")
def judge() -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="k", webhook_secret=show_secret(SECRET)) as client:
        yield client


def headers(*secrets: bytes, at: float | None = None, message_id: str = "evt_1") -> dict[str, str]:
    timestamp = int(time.time() if at is None else at)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secrets, message_id, timestamp, BODY),
    }


# ---------------------------------------------------------------- what is told


def test_the_events_are_the_ends_of_batches_and_calls_and_the_states_that_jobs_stop_in() -> None:
    batches = {f"batch.{state}" for state in ENDED}
    jobs = {f"job.{state}" for state in JobState if state is not JobState.OPEN}
    calls = {f"{kind}.{end}" for kind in ("call", "response") for end in ("completed", "failed", "cancelled")}
    assert set(EVENTS) == batches | jobs | calls
    assert len(EVENTS) == len(set(EVENTS))
    assert NO_TEAM == TEAM


def test_an_event_is_in_openais_form_and_says_no_more_than_an_id() -> None:
    assert json.loads(BODY) == {
        "id": "evt_1",
        "object": "event",
        "created_at": 1_790_000_000,
        "type": "batch.completed",
        "data": {"id": "batch_7"},
    }


def test_who_is_told_of_what() -> None:
    webhook = Webhook(id="wh_1", team="search", url="https://example.com", created_at=1.0)
    assert all(webhook.wants(event) for event in EVENTS)
    some = msgspec.structs.replace(webhook, events=("batch.*", "job.stopped"))
    assert [event for event in EVENTS if some.wants(event)] == [*EVENTS[:4], "job.stopped"]
    assert not any(msgspec.structs.replace(some, disabled_at=2.0).wants(event) for event in EVENTS)


# ---------------------------------------------------------------- signatures


def test_openais_client_takes_what_is_signed_here(judge: openai.OpenAI) -> None:
    found = judge.webhooks.unwrap(BODY, headers(SECRET))
    assert found.type == "batch.completed"
    assert found.data.id == "batch_7"
    # With two keys in use, whichever of the two it knows.
    assert judge.webhooks.unwrap(BODY, headers(OTHER, SECRET)).id == "evt_1"
    with pytest.raises(openai.InvalidWebhookSignatureError):
        judge.webhooks.unwrap(BODY, headers(OTHER))
    with pytest.raises(openai.InvalidWebhookSignatureError):
        judge.webhooks.unwrap(BODY.replace(b"completed", b"cancelled"), headers(SECRET))


def test_a_signature_is_what_the_specification_says() -> None:
    """Worked out beforehand with the `standardwebhooks` package."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert (
        sign([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


def check(given: dict[str, str], *secrets: bytes, body: bytes = BODY, now: float = NOW) -> bool:
    return verified(
        secrets or (SECRET,),
        given["webhook-id"],
        given["webhook-timestamp"],
        given["webhook-signature"],
        body,
        now,
    )


def test_what_is_signed_is_taken_and_nothing_else() -> None:
    good = headers(SECRET, at=NOW)
    assert check(good)
    assert check(good, OTHER, SECRET)
    assert check({**good, "webhook-signature": f"v1,AAAA v2,x  {good['webhook-signature']}"})
    assert check(headers(OTHER, SECRET, at=NOW))
    assert not check(good, OTHER)
    assert not check(good, body=BODY + b" ")
    for name, value in (
        ("webhook-id", "evt_2"),
        ("webhook-id", ""),
        ("webhook-id", "e" * 300),
        ("webhook-timestamp", str(int(NOW) + 1)),
        ("webhook-timestamp", ""),
        ("webhook-timestamp", "-5"),
        ("webhook-timestamp", "1e9"),
        ("webhook-timestamp", "9" * 400),
        ("webhook-timestamp", "\N{ARABIC-INDIC DIGIT ONE}"),
        ("webhook-signature", ""),
        ("webhook-signature", "v1,"),
        ("webhook-signature", good["webhook-signature"].removeprefix("v1,")),
        ("webhook-signature", good["webhook-signature"].replace("v1,", "v1a,")),
        ("webhook-signature", good["webhook-signature"][:-1]),
        ("webhook-signature", "v1,\xe9"),
    ):
        assert not check({**good, name: value}), (name, value)


def test_what_is_old_or_from_the_future_is_not_taken() -> None:
    good = headers(SECRET, at=NOW)
    assert check(good, now=NOW + TOLERANCE)
    assert check(good, now=NOW - TOLERANCE)
    assert not check(good, now=NOW + TOLERANCE + 1)
    assert not check(good, now=NOW - TOLERANCE - 1)


def test_a_long_row_of_signatures_is_not_looked_through() -> None:
    good = headers(SECRET, at=NOW)
    many = " ".join(["v1,AAAA"] * 1_000)
    assert not check({**good, "webhook-signature": f"{many} {good['webhook-signature']}"})


@given(st.binary(max_size=200), st.text(alphabet=st.characters(max_codepoint=255), max_size=60))
def test_whatever_comes_nothing_is_raised(body: bytes, text: str) -> None:
    assert not verified((SECRET,), text, str(int(NOW)), text, body, NOW)
    assert not verified((SECRET,), "evt", text, "v1,x", body, NOW)
    ended_batch(body)


def test_a_secret_of_a_webhook_is_its_own_and_the_keys() -> None:
    secret = derived_secret("a key", "wh_1")
    assert len(secret) == 32
    assert secret == derived_secret("a key", "wh_1")
    assert len({secret, derived_secret("a key", "wh_2"), derived_secret("another", "wh_1")}) == 3


def test_a_providers_secret_is_read_in_each_of_its_forms() -> None:
    text = base64.b64encode(SECRET).decode()
    assert read_secret(f"whsec_{text}") == (SECRET,)
    assert read_secret(f" whsec_{text.rstrip('=')}\n") == (SECRET,)
    assert read_secret(text) == (SECRET, text.encode())
    assert read_secret("a secret, but no base64") == (b"a secret, but no base64",)
    for short in ("", " ", "whsec_", "whsec_YWJj", "whsec_%%%%", "short", "YWJj"):
        assert read_secret(short) == (), short


# ---------------------------------------------------------------- the schedule


def test_there_are_ten_tries_over_three_days() -> None:
    pauses = [pause_after(number, 0.0) for number in range(1, 11)]
    assert pauses == [*RETRIES, None]
    assert RETRIES[:4] == (5.0, 300.0, 1_800.0, 7_200.0)
    assert 3 * 86_400 < sum(RETRIES) < 4 * 86_400


@given(st.integers(1, 9), st.floats(0, 1))
def test_pauses_are_spread_and_never_shorter(number: int, draw: float) -> None:
    pause = pause_after(number, draw)
    assert pause is not None
    assert RETRIES[number - 1] <= pause <= RETRIES[number - 1] * 1.2


def after(tries: int, answer: Answer, draw: float = 0.0) -> Delivery:
    return tried(msgspec.structs.replace(DELIVERY, tries=tries), answer, NOW, draw)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_what_is_answered_with_success_is_delivered(status: int) -> None:
    found = after(3, Answer(status=status))
    assert (found.state, found.next_at, found.status, found.tried_at) == ("delivered", None, status, NOW)


@pytest.mark.parametrize("status", [100, 301, 302, 307, 400, 401, 404, 429, 500, 503])
def test_everything_else_is_tried_again(status: int) -> None:
    found = after(2, Answer(status=status))
    assert (found.state, found.next_at, found.status) == ("waiting", NOW + 300.0, status)


def test_no_answer_is_tried_again_and_says_why() -> None:
    found = after(1, Answer(problem="no connection"), draw=1.0)
    assert (found.state, found.next_at, found.problem) == ("waiting", NOW + 6.0, "no connection")
    assert after(2, Answer(status=200)).problem == ""


def test_the_last_try_that_fails_is_the_end() -> None:
    assert after(9, Answer(status=500)).state is DeliveryState.WAITING
    found = after(10, Answer(status=500))
    assert (found.state, found.next_at) == ("failed", None)


def test_who_is_gone_is_not_asked_again() -> None:
    found = after(1, Answer(status=410))
    assert (found.state, found.next_at) == ("failed", None)
    assert given_up(DELIVERY, "disabled").state is DeliveryState.FAILED


def test_who_asks_for_time_is_given_it_within_a_day() -> None:
    assert after(1, Answer(status=429, retry_after=120.0)).next_at == NOW + 120.0
    assert after(2, Answer(status=429, retry_after=120.0)).next_at == NOW + 300.0
    assert after(1, Answer(status=503, retry_after=1e9)).next_at == NOW + 86_400.0


# ---------------------------------------------------------------- what providers say


@pytest.mark.parametrize(
    "kind",
    ["batch.completed", "batch.succeeded", "batch.failed", "batch.expired", "batch.cancelled", "Batch.Succeeded"],
)  # fmt: skip
def test_the_end_of_a_batch_is_known_by_all_of_its_names(kind: str) -> None:
    told = {"type": kind, "version": "v1", "data": {"id": "batch_1", "output_file_uri": "x"}}
    assert ended_batch(json.dumps(told).encode()) == "batch_1"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'{"type":"batch.completed"',
        b'{"type":"batch.completed"}',
        b'{"type":"batch.completed","data":{"id":7}}',
        b'{"type":"batch.completed","data":[]}',
        b'{"type":"batch.in_progress","data":{"id":"batch_1"}}',
        b'{"type":"response.completed","data":{"id":"resp_1"}}',
        b'{"type":"my.batch.completed","data":{"id":"batch_1"}}',
        b'{"type":7,"data":{"id":"batch_1"}}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_what_tells_of_no_end_names_no_batch(body: bytes) -> None:
    assert ended_batch(body) == ""
