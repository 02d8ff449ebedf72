"""Webhooks of the gateway: who is told of what its callers' batches came to."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from halfrate.base.errors import SettingsError
from halfrate.core.webhooks import DeliveryState, Webhook
from halfrate.gateway.logs import Log
from halfrate.gateway.server import Server
from halfrate.service.home import Home
from halfrate.service.jobs import Service
from halfrate.service.webhooks import KEY

from ..service.receiver import Got, Receiver, receiving, soon, unwrapped
from ..store.databases import PostgresDatabase
from ..store.server import Server as Postgres
from .house import SLOW, House, chat, make, open_house, running, until_sent, wait
from .messages import make as make_messages
from .messages import request

pytestmark = pytest.mark.timeout(180)

SIGNING = "k3y-" + "0123456789abcdefghijklmnopqrstuv"
SECRET = "whsec_c2VjcmV0LW9mLXRoZS1lbXVsYXRvcg=="


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv(KEY, SIGNING)
    with receiving() as receiver:
        yield receiver


def tell(at: House, receiver: Receiver, **options: Any) -> tuple[Webhook, str]:
    return at.service.webhooks.add(receiver.url, allow_http=True, allowed=["127.0.0.1"], **options)


def events(receiver: Receiver, secret: str) -> list[tuple[str, str]]:
    """(type, id) of all that came, by OpenAI's own client."""
    found = [unwrapped(secret, got) for got in receiver.got]
    return [(event.type, event.data.id) for event in found]


def delivered(at: House) -> bool:
    found = at.service.webhooks.deliveries()
    return bool(found) and all(one.state is DeliveryState.DELIVERED for one in found)


# ---------------------------------------------------------------- out


def test_who_made_a_batch_is_told_of_its_end_and_finds_it_ended(
    house: Callable[..., House], receiver: Receiver
) -> None:
    at = house()
    client = at.client(at.key(team="search")[1])
    statuses: list[str] = []

    def answer(number: int) -> int:
        # What is told has happened: whoever asks on hearing of it finds it so.
        event = json.loads(receiver.got[number].body)
        if event["type"].startswith("batch."):
            batch = client.batches.retrieve(event["data"]["id"])
            statuses.append(f"{batch.status} {bool(batch.output_file_id)}")
        return 204

    receiver.answer = answer
    _, secret = tell(at, receiver, team="search")
    batch = wait(client, make(client, chat("gpt-4.1-mini", 5)))
    soon(lambda: len(receiver.got) == 2)
    found = events(receiver, secret)
    assert ("batch.completed", batch.id) in found
    (job,) = at.service.jobs()
    assert sorted(found) == [("batch.completed", batch.id), ("job.done", job.id)]
    soon(lambda: delivered(at))
    assert statuses == ["completed True"]
    assert "defect" not in at.log.getvalue()


def test_who_has_a_call_in_the_background_is_told_of_its_answer(
    house: Callable[..., House], receiver: Receiver
) -> None:
    at = house()
    client = at.client(at.key(team="search")[1])
    statuses: list[str] = []

    def answer(number: int) -> int:
        event = json.loads(receiver.got[number].body)
        statuses.append(client.responses.retrieve(event["data"]["id"]).status or "")
        return 204

    receiver.answer = answer
    _, secret = tell(at, receiver, team="search", events=["response.*", "call.*", "batch.*"])
    asked = {"model": "gpt-4.1-mini+8h", "input": "Say hello."}
    made = client.responses.create(**asked, background=True)  # type: ignore[call-overload]
    # Who waits on the line hears it there.
    client.responses.create(**asked, max_output_tokens=50)  # type: ignore[call-overload]
    soon(lambda: delivered(at))
    assert events(receiver, secret) == [("response.completed", made.id)]
    assert statuses == ["completed"]


def test_batches_of_anthropics_surface_are_told_of_in_the_same_words(
    house: Callable[..., House], receiver: Receiver
) -> None:
    at = house()
    _, secret = tell(at, receiver, events=["batch.*"])
    client = at.messages(at.key()[1])
    batch = make_messages(client, [request("a"), request("b")])
    soon(lambda: receiver.got, 30)
    assert events(receiver, secret) == [("batch.completed", batch.id)]
    assert client.messages.batches.retrieve(batch.id).processing_status == "ended"


def test_failed_cancelled_and_expired_batches_are_told_of_as_such(
    house: Callable[..., House], receiver: Receiver
) -> None:
    at = house(pace=SLOW)
    _, secret = tell(at, receiver, events=["batch.*"])
    client = at.client(at.key()[1])
    failed = make(client, ["no json"])
    soon(lambda: len(receiver.got) == 1, 30)
    cancelled = make(client, chat("gpt-4.1-mini", 3))
    until_sent(at)
    client.batches.cancel(cancelled.id)
    soon(lambda: len(receiver.got) == 2, 60)
    assert events(receiver, secret) == [("batch.failed", failed.id), ("batch.cancelled", cancelled.id)]


def test_a_batch_that_expires_is_told_of_as_such(house: Callable[..., House], receiver: Receiver) -> None:
    at = house("batch-expire:done=0.5,rate=1")
    _, secret = tell(at, receiver, events=["batch.*"])
    client = at.client(at.key()[1])
    batch = make(client, chat("gpt-4.1-mini", 4))
    soon(lambda: receiver.got, 60)
    assert events(receiver, secret) == [("batch.expired", batch.id)]


def test_a_team_is_told_of_nothing_of_anothers(house: Callable[..., House], receiver: Receiver) -> None:
    at = house()
    with receiving() as other:
        tell(at, receiver, team="search")
        _, secret = tell(at, other, team="ads")
        for team in ("search", "ads"):
            client = at.client(at.key(team, team=team)[1])
            batch = wait(client, make(client, chat("gpt-4.1-mini", 2)))
        soon(lambda: delivered(at) and len(other.got) == 2 and len(receiver.got) == 2)
        ours = {msg["data"]["id"] for msg in (json.loads(got.body) for got in other.got)}
        theirs = {msg["data"]["id"] for msg in (json.loads(got.body) for got in receiver.got)}
        assert batch.id in ours
        assert not ours & theirs
        assert len(events(other, secret)) == 2


def test_a_receiver_that_was_away_is_told_later_and_may_be_told_again(
    house: Callable[..., House], receiver: Receiver
) -> None:
    at = house()
    receiver.answer = lambda number: 503 if number < 1 else 200
    webhook, secret = tell(at, receiver, events=["batch.*"])
    client = at.client(at.key()[1])
    batch = wait(client, make(client, chat("gpt-4.1-mini", 2)))
    # Five seconds, as the schedule has it, and what it is spread by.
    soon(lambda: delivered(at), 20)
    assert len(receiver.got) == 2
    assert receiver.got[1].at - receiver.got[0].at >= 4.5
    assert at.service.webhooks.replay(since=0.0, webhook_id=webhook.id) == 1
    soon(lambda: len(receiver.got) == 3)
    assert len(set(receiver.ids())) == 1
    assert events(receiver, secret) == [("batch.completed", batch.id)] * 3


def test_no_secret_of_a_webhook_is_in_a_file_a_database_or_a_log(
    house: Callable[..., House], receiver: Receiver
) -> None:
    at = house()
    receiver.answer = lambda number: 410 if number else 200
    webhook, secret = tell(at, receiver)
    client = at.client(at.key()[1])
    wait(client, make(client, chat("gpt-4.1-mini", 2)))
    soon(lambda: "webhook disabled" in at.log.getvalue())
    written = b"".join(path.read_bytes() for path in at.service.home.root.rglob("*") if path.is_file())
    assert webhook.id.encode() in written
    signatures = [got.headers["webhook-signature"].removeprefix("v1,") for got in receiver.got]
    for hidden in (SIGNING, secret, secret.removeprefix("whsec_"), *signatures):
        assert hidden.encode() not in written
        assert hidden not in at.log.getvalue()
    # Nor where it is: receivers have secrets of theirs in that.
    assert receiver.url not in at.log.getvalue()


def test_a_gateway_that_could_not_sign_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Service(Home(root=tmp_path)) as service:
        log = Log(service.clock)
        monkeypatch.delenv(KEY, raising=False)
        with running(service):
            pass
        monkeypatch.setenv(KEY, SIGNING)
        service.webhooks.add("https://93.184.216.34/x")
        monkeypatch.delenv(KEY)
        # Before it listens: the address is not to be had.
        with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SettingsError, match=KEY):
            Server(service, log, port=taken.getsockname()[1])


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


def test_two_gateways_over_one_database_tell_of_each_thing_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: Postgres, receiver: Receiver
) -> None:
    database = PostgresDatabase(postgres)
    receiver.answer = lambda _: time.sleep(0.05) or 200
    with ExitStack() as stack:
        at = stack.enter_context(open_house(tmp_path, monkeypatch, database=database.url))
        second = stack.enter_context(Service(at.service.home))
        server, log = stack.enter_context(running(second))
        _, secret = tell(at, receiver, events=["batch.*"])
        key = at.key()[1]
        clients = [
            openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
            for url in (at.server.url, server.url)
        ]
        made = [make(clients[number % 2], chat("gpt-4.1-mini", 2)).id for number in range(10)]
        soon(lambda: len(receiver.got) >= 10, 90)
        time.sleep(2.5)
        assert sorted(events(receiver, secret)) == sorted(("batch.completed", batch_id) for batch_id in made)
        assert len(set(receiver.ids())) == 10
        assert delivered(at)
        for text in (at.log.getvalue(), log.getvalue()):
            assert "defect" not in text


def test_the_witness_is_a_witness() -> None:
    """The receiver's judge knows a message that was not signed with a secret."""
    got = Got(
        "/",
        {"webhook-id": "e", "webhook-timestamp": str(int(time.time())), "webhook-signature": "v1,x"},
        b"{}",
        0.0,
    )
    with pytest.raises(openai.InvalidWebhookSignatureError):
        unwrapped(SECRET, got)
