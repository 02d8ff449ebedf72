"""What providers tell the gateway: who is believed, and what comes of it."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import openai
import pytest
from starlette.requests import Request

from halfrate.base.errors import StoreBusy
from halfrate.emulator import Emulator, Pace, ScaledClock, WebhookTarget
from halfrate.emulator._webhooks import sign
from halfrate.gateway.webhooks import ProviderWebhooks
from halfrate.service.home import Home, Timing
from halfrate.service.jobs import Service

from ..service.providers import VARIABLES, write_settings
from ..service.receiver import soon
from ..store.records import a_job, shards, with_batch, with_room
from .house import House, chat, make, running, until_sent, wait
from .office import PATIENCE, Answer, Office

pytestmark = pytest.mark.timeout(180)

SECRET = "whsec_c2VjcmV0LW9mLXRoZS1lbXVsYXRvcg=="
OTHER_SECRET = "whsec_YW5vdGhlci1zZWNyZXQtb2YtdGhlLXRlc3Rz"


@contextlib.contextmanager
def patient_house(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *faults: str
) -> Generator[tuple[House, openai.OpenAI]]:
    """A gateway that looks at a batch for the first time after a minute, and a provider that tells it of its end."""
    clock = ScaledClock()
    pace = Pace(validate=0.3, queue=0.3, per_1000_rows=1.0, finalize=0.3, cancel=0.3)
    timing = Timing(settle=0.5, poll_first=60.0, poll_most=60.0)
    monkeypatch.setenv("OPENAI_WEBHOOK_SECRET", SECRET)
    with Emulator(seed=1, clock=clock, pace=pace, faults=list(faults)) as emulator, emulator.running() as url:
        for variables in (*emulator.environment(url).values(), VARIABLES):
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
        monkeypatch.setenv("HALFRATE_SETTINGS", str(write_settings(folder)))
        with (
            Service(Home(root=folder / "home", timing=timing)) as service,
            running(service) as (server, log),
        ):
            emulator.add_webhook(WebhookTarget(f"{server.url}/v1/halfrate/webhooks/openai/openai", SECRET))
            at = House(emulator, clock, service, server)
            at.log = log
            yield at, at.client(at.key()[1])


@pytest.mark.parametrize("fault", ["", "webhook-duplicate", "webhook-replay:seconds=900"])
def test_a_batch_ends_when_its_provider_says_so_and_not_at_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    with patient_house(tmp_path, monkeypatch, *([fault] if fault else [])) as (at, client):
        batch = wait(client, make(client, chat("gpt-4.1-mini", 5)), seconds=40)
        assert batch.status == "completed"
        log = at.log.getvalue()
        assert '"path":"/v1/halfrate/webhooks/openai/openai","status":200' in log
        if "replay" in fault:
            soon(lambda: '"path":"/v1/halfrate/webhooks/openai/openai","status":401' in at.log.getvalue())
        for hidden in ("batch.completed", SECRET, "webhook-signature", "evt_", "v1,"):
            assert hidden not in log
        assert at.paid_twice() == 0


@pytest.mark.parametrize("fault", ["webhook-lost", "webhook-bad-signature"])
def test_without_its_providers_word_a_batch_waits_for_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """What the test before shows is the webhook's doing."""
    with patient_house(tmp_path, monkeypatch, fault) as (at, client):
        batch = make(client, chat("gpt-4.1-mini", 5))
        until_sent(at)
        if fault == "webhook-bad-signature":
            soon(lambda: '"status":401' in at.log.getvalue(), 20)
        time.sleep(8)
        assert client.batches.retrieve(batch.id).status == "in_progress"


def test_a_hint_that_is_early_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider's own answer counts: the batch is looked at, is not over, and is looked at again in its turn."""
    with patient_house(tmp_path, monkeypatch, "webhook-early:seconds=4") as (at, client):
        batch = make(client, chat("gpt-4.1-mini", 5))
        soon(lambda: "webhooks/openai" in at.log.getvalue(), 20)
        time.sleep(1.5)
        assert client.batches.retrieve(batch.id).status == "in_progress"


OPENAI = "openai@https://api.openai.com/v1"
GEMINI = "gemini@https://generativelanguage.googleapis.com"


@pytest.fixture
def told(office: Office, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Office:
    """A gateway at which nobody works, with accounts and secrets."""
    for name in ("OPENAI_BASE_URL", "GOOGLE_GEMINI_BASE_URL", "GOOGLE_API_KEY", "GEMINI_WEBHOOK_SECRET"):
        monkeypatch.delenv(name, raising=False)
    settings = tmp_path / "settings.toml"
    settings.write_text(
        '[accounts.eu]\nprovider = "openai"\nkey_variable = "EU_KEY"\nbase_url = "https://eu.api.openai.com/v1"\n'
        '[accounts.keyless]\nprovider = "openai"\nkey_variable = "NO_KEY"\n'
    )
    for name, value in {
        "HALFRATE_SETTINGS": str(settings),
        "OPENAI_API_KEY": "sk-1",
        "EU_KEY": "sk-2",
        "GEMINI_API_KEY": "g-1",
        "OPENAI_WEBHOOK_SECRET": SECRET,
        "OPENAI_WEBHOOK_SECRET_EU": OTHER_SECRET,
        "OPENAI_WEBHOOK_SECRET_KEYLESS": SECRET,
        "OPENAI_WEBHOOK_SECRET_NOBODY": SECRET,
        "OPENAI_WEBHOOK_SECRET_GEMINI": SECRET,
    }.items():
        monkeypatch.setenv(name, value)
    return office


def awaited(office: Office, batch_id: str, account: str = OPENAI) -> Callable[[], bool]:
    """A batch that is to be looked at in a few hours; tells whether it is to be looked at now."""
    store = office.service._store
    job_id = f"job-{len(store.jobs())}"
    store.add_job(a_job(job_id, account=account), shards(1, job_id, account=account))
    with_room(store, account)
    now = office.clock.now()
    (shard,) = store.claim("w", now, 60.0, job_id=job_id)
    store.save(with_batch(shard, batch_id, next_at=now + 9_999.0), "w")

    def hinted() -> bool:
        due = store.next_due(job_id)
        assert due is not None
        return due <= office.clock.now()

    assert not hinted()
    return hinted


def body_of(batch_id: str, kind: str = "batch.completed") -> bytes:
    event = {"id": "evt_1", "object": "event", "created_at": 1, "type": kind, "data": {"id": batch_id}}
    return json.dumps(event).encode()


def post(
    office: Office,
    body: bytes,
    where: str = "openai/openai",
    *,
    secret: str = SECRET,
    message_id: str = "evt_1",
    late: float = 0.0,
    **headers: str,
) -> Answer:
    """An event as the provider sends it, signed by the emulator's code."""
    timestamp = int(office.clock.now() - late)
    given = {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secret, message_id, timestamp, body),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return office.call("POST", f"/v1/halfrate/webhooks/{where}", body, given, key="")


def test_what_is_signed_is_heeded_without_a_key(told: Office) -> None:
    hinted, other = awaited(told, "batch_a"), awaited(told, "batch_b")
    assert post(told, body_of("batch_a")).document == {"received": True}
    assert hinted()
    assert not other()


@pytest.mark.parametrize("kind", ["batch.failed", "batch.expired", "batch.cancelled", "batch.succeeded"])
def test_every_end_is_heeded(told: Office, kind: str) -> None:
    hinted = awaited(told, "batch_a")
    assert post(told, body_of("batch_a", kind)).status == 200
    assert hinted()


def test_each_account_has_a_secret_and_batches_of_its_own(told: Office) -> None:
    here, there = awaited(told, "batch_a"), awaited(told, "batch_a", "eu=openai@https://eu.api.openai.com/v1")
    assert post(told, body_of("batch_a"), "openai/eu", secret=SECRET).status == 401
    assert not there()
    assert post(told, body_of("batch_a"), "openai/eu", secret=OTHER_SECRET).status == 200
    assert there()
    assert not here()


@pytest.mark.parametrize("named", ["batches/abc123", "abc123"])
def test_geminis_events_are_heeded(told: Office, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.setenv("GEMINI_WEBHOOK_SECRET", OTHER_SECRET)
    hinted = awaited(told, "batches/abc123", GEMINI)
    event = {
        "type": "batch.succeeded",
        "version": "v1",
        "timestamp": "2026-01-22T12:00:00Z",
        "data": {"id": named, "output_file_uri": "files/x"},
    }
    assert post(told, json.dumps(event).encode(), "gemini/gemini", secret=SECRET).status == 401
    assert not hinted()
    assert post(told, json.dumps(event).encode(), "gemini/gemini", secret=OTHER_SECRET).status == 200
    assert hinted()


def test_one_of_several_signatures_is_enough(told: Office) -> None:
    hinted = awaited(told, "batch_a")
    body, now = body_of("batch_a"), int(told.clock.now())
    both = f"{sign(OTHER_SECRET, 'evt_1', now, body)} {sign(SECRET, 'evt_1', now, body)}"
    assert post(told, body, webhook_signature=both, webhook_timestamp=str(now)).status == 200
    assert hinted()


def test_what_is_not_signed_by_the_provider_just_now_is_refused(told: Office) -> None:
    hinted = awaited(told, "batch_a")
    body = body_of("batch_a")
    now = str(int(told.clock.now()))
    refused = [
        post(told, body, secret=OTHER_SECRET),
        post(told, body, late=301),
        post(told, body, late=-302),
        post(told, body, webhook_id="evt_2"),
        post(told, body, webhook_timestamp="soon"),
        post(told, body, webhook_signature="v1,AAAA"),
        post(told, body, webhook_signature=""),
        told.call("POST", "/v1/halfrate/webhooks/openai/openai", body, key=""),
        told.call("POST", "/v1/halfrate/webhooks/openai/openai", body),
        told.call(
            "POST", "/v1/halfrate/webhooks/openai/openai", body, {"webhook-id": "e", "webhook-timestamp": now}
        ),
    ]
    signed = sign(SECRET, "evt_1", int(now), body)
    refused.append(post(told, body + b" ", webhook_signature=signed, webhook_timestamp=now))
    assert [answer.status for answer in refused] == [401] * len(refused)
    assert len({answer.body for answer in refused}) == 1
    assert not hinted()
    assert post(told, body, late=295).status == 200
    assert hinted()


def test_no_account_and_no_secret_look_the_same(told: Office) -> None:
    body = body_of("batch_a")
    answers = [
        post(told, body, where)
        for where in (
            "gemini/gemini",  # an account, no secret
            "openai/unknown",  # neither
            "openai/nobody",  # a secret, no account
            "openai/keyless",  # an account that is not set up
            "openai/gemini",  # another provider's account, with a secret
            "gemini/openai",
            "openai/EU",
            "openai/..",
            "openai/" + "x" * 65,
        )
    ]
    assert [answer.status for answer in answers] == [404] * len(answers)
    assert len({answer.body for answer in answers}) == 1
    # Whatever is signed, and however.
    assert post(told, body, "openai/unknown", secret=OTHER_SECRET).body == answers[0].body


def test_a_secret_that_is_too_short_is_none(told: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    for short in ("", "x", "whsec_", "whsec_YWJj"):
        monkeypatch.setenv("OPENAI_WEBHOOK_SECRET", short)
        assert post(told, body_of("batch_a"), secret=SECRET).status == 404


def test_what_is_signed_and_of_no_use_is_taken_and_does_nothing(told: Office) -> None:
    hinted = awaited(told, "batch_a")
    for number, body in enumerate(
        (
            body_of("batch_nobody"),
            body_of("batch_a", "batch.in_progress"),
            body_of("batch_a", "response.completed"),
            body_of("' OR 1 = 1 --"),
            b'{"type":"batch.completed","data":null}',
            b"no json",
            b"",
        )
    ):
        assert post(told, body, message_id=f"evt_{number}").status == 200
    assert not hinted()


def test_what_comes_again_is_taken_and_not_heeded_again(told: Office) -> None:
    hinted = awaited(told, "batch_a")
    assert post(told, body_of("batch_a")).status == 200
    assert hinted()
    # Under the same id, also with another batch in it, it is the same message; under another it is not.
    later = awaited(told, "batch_b")
    assert post(told, body_of("batch_b")).status == 200
    assert not later()
    assert post(told, body_of("batch_b"), message_id="evt_2").status == 200
    assert later()


def test_who_works_is_roused_when_there_is_something_to_look_at_and_not_else(told: Office) -> None:
    roused: list[int] = []
    taking = ProviderWebhooks(told.service, lambda: roused.append(1))

    async def take(batch_id: str, message_id: str) -> int:
        body, now = body_of(batch_id), int(told.clock.now())
        given = {
            "webhook-id": message_id,
            "webhook-timestamp": str(now),
            "webhook-signature": sign(SECRET, message_id, now, body),
        }
        scope = {
            "type": "http",
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "path_params": {"account": "openai"},
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        return (await taking.openai(Request(scope, receive))).status_code

    awaited(told, "batch_a")
    assert asyncio.run(take("batch_nobody", "evt_1")) == 200
    assert roused == []
    assert asyncio.run(take("batch_a", "evt_2")) == 200
    assert roused == [1]


def test_what_could_not_be_heeded_is_heeded_when_it_comes_again(
    told: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    hinted = awaited(told, "batch_a")

    def busy(*_args: Any) -> bool:
        raise StoreBusy("The database is held.")

    with monkeypatch.context() as patch:
        patch.setattr(told.service._store, "hint", busy)
        assert post(told, body_of("batch_a")).status == 503
    told.forgive()
    assert not hinted()
    assert post(told, body_of("batch_a")).status == 200
    assert hinted()


def test_a_large_body_is_not_taken(told: Office) -> None:
    hinted = awaited(told, "batch_a")
    event = json.loads(body_of("batch_a"))
    fits = json.dumps({**event, "more": "x" * 65_000}).encode()
    assert len(fits) <= 65_536
    assert post(told, json.dumps({**event, "more": "x" * 65_536}).encode()).status == 413
    assert not hinted()
    assert post(told, fits).status == 200
    assert hinted()


def test_an_unsigned_call_is_refused_before_its_body_is_read(told: Office) -> None:
    with socket.create_connection(("127.0.0.1", told.port), PATIENCE) as connection:
        head = "POST /v1/halfrate/webhooks/openai/openai HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 401")


def test_other_ways_to_call_it(told: Office) -> None:
    assert told.call("GET", "/v1/halfrate/webhooks/openai/openai", key="").status == 405
    assert told.call("POST", "/v1/halfrate/webhooks/anthropic/anthropic", b"", key="").status == 404
    assert told.call("POST", "/v1/halfrate/webhooks/", b"", key="").status == 404
    # What lies beside it still takes a key.
    assert told.call("POST", "/v1/halfrate/webhooks", b"", key="").status == 401
    assert told.call("GET", "/v1/halfrate/webhooksx/y", key="").status == 401


def test_nothing_that_was_sent_is_in_the_log(told: Office) -> None:
    awaited(told, "batch_marked")
    post(told, body_of("batch_marked"), message_id="evt_marked")
    post(told, body_of("batch_marked"), message_id="evt_marked", secret=OTHER_SECRET)
    log = told.log.getvalue()
    assert log.count('"path":"/v1/halfrate/webhooks/openai/openai"') == 2
    for hidden in ("marked", "v1,", SECRET.removeprefix("whsec_")):
        assert hidden not in log


def test_what_is_remembered_of_messages_is_bounded(told: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    from halfrate.gateway import webhooks

    monkeypatch.setattr(webhooks, "_MOST_REMEMBERED", 3)
    for number in range(6):
        assert post(told, body_of("batch_nobody"), message_id=f"evt_{number}").status == 200
    hinted = awaited(told, "batch_a")
    # Long forgotten, so heeded: which does no harm.
    assert post(told, body_of("batch_a"), message_id="evt_0").status == 200
    assert hinted()
    later = awaited(told, "batch_b")
    assert post(told, body_of("batch_b"), message_id="evt_5").status == 200
    assert not later()
