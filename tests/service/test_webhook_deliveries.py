"""Deliveries: real messages to real servers on this machine, and the ways in which they do not arrive."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest

from halfrate.core.job import JobState
from halfrate.core.webhooks import RETRIES, DeliveryState, Webhook
from halfrate.service.deliverer import Deliverer
from halfrate.service.outgoing import Outgoing
from halfrate.service.webhooks import KEY, OLD_KEY, Webhooks, signing_keys
from halfrate.store.store import Store
from halfrate.store.webhooks import WebhookStore

from ..store.records import a_job, shards
from .receiver import Receiver, receiving, soon, unwrapped

pytestmark = pytest.mark.timeout(120)

SIGNING = "k3y-" + "0123456789abcdefghijklmnopqrstuv"
ENVIRON = {KEY: SIGNING}
LOOPBACK = ("127.0.0.0/8",)


class MovedClock:
    """The machine's clock, and so many seconds more."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return time.time() + self.ahead

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


class Office:
    """A store, and processes that send what is recorded there."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.url = f"sqlite:///{folder / 'halfrate.db'}"
        self.stack = stack
        self.clock = MovedClock()
        self.store = stack.enter_context(closing(Store.open(self.url)))
        self.said: list[tuple[str, str, str]] = []
        self.defects: list[Exception] = []
        self._jobs = 0

    @property
    def webhooks(self) -> Webhooks:
        return Webhooks(self.store.webhooks, self.clock, "w", environ=ENVIRON)

    def add(self, url: str, **options: Any) -> tuple[Webhook, str]:
        options.setdefault("allowed", LOOPBACK)
        return self.webhooks.add(url, allow_http=True, **options)

    def happen(self, count: int = 1, team: str = "default") -> list[str]:
        """Jobs that end; their ids."""
        ids = [f"job-{self._jobs + number}" for number in range(count)]
        self._jobs += count
        for job_id in ids:
            job = a_job(job_id, tags={"team": team})
            self.store.add_job(job, shards(1, job_id))
            ended = msgspec.structs.replace(job, state=JobState.DONE, finished_at=self.clock.now())
            self.store.save_job(ended, self.clock.now())
        return ids

    def tried_just_now(self) -> bool:
        """Whether the newest delivery was, and let go of."""
        return (self.store.webhooks.deliveries()[0].tried_at or 0.0) > self.clock.now() - 3_600

    def states(self) -> list[str]:
        """Of what was recorded, the oldest first."""
        return [one.state.value for one in reversed(self.store.webhooks.deliveries(limit=1_000))]

    def deliverer(self, **options: Any) -> Deliverer:
        options.setdefault("owner", "w")
        options.setdefault("store", self.store.webhooks)
        options.setdefault("keys", lambda: signing_keys(ENVIRON))
        return Deliverer(
            clock=self.clock,
            say=lambda event, webhook, why: self.said.append((event, webhook, why)),
            failed=lambda error, _: self.defects.append(error),
            **options,
        )

    @contextmanager
    def sending(self, **options: Any) -> Generator[None]:
        """Somebody sends what is due, in a thread, until the end of the block."""
        deliverer = self.deliverer(**options)
        loops: list[asyncio.AbstractEventLoop] = []

        async def run() -> None:
            loops.append(asyncio.get_running_loop())
            await deliverer.run()

        thread = threading.Thread(target=lambda: asyncio.run(run()))
        thread.start()
        try:
            soon(lambda: loops)
            yield
        finally:
            loops[0].call_soon_threadsafe(deliverer.stop)
            thread.join(60)
            assert not thread.is_alive()
        assert self.defects == []


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with ExitStack() as stack:
        yield Office(tmp_path, stack)


# ---------------------------------------------------------------- what arrives


def test_what_happens_arrives_signed_and_once(office: Office) -> None:
    with receiving() as receiver, office.sending():
        webhook, secret = office.add(receiver.url)
        (job_id,) = office.happen()
        soon(lambda: office.states() == ["delivered"])
        time.sleep(1.2)
    (got,) = receiver.got
    event = unwrapped(secret, got)
    assert (event.type, event.data.id) == ("job.done", job_id)
    (sent,) = office.webhooks.deliveries()
    assert got.id == event.id == sent.event_id
    assert (sent.status, sent.tries, sent.webhook_id) == (200, 1, webhook.id)
    assert got.headers["content-type"] == "application/json"
    assert got.headers["user-agent"].startswith("halfrate/")
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert got.path == "/hooks"
    # Another's secret does not fit.
    _, other = office.add(receiver.url)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        unwrapped(other, got)
    assert office.said == []


def test_while_a_key_is_changed_both_secrets_fit(office: Office) -> None:
    with receiving() as receiver:
        webhook, old = office.add(receiver.url)
        office.happen()
        environ = {KEY: SIGNING[::-1], OLD_KEY: SIGNING}
        with office.sending(keys=lambda: signing_keys(environ)):
            soon(lambda: receiver.got)
    new = Webhooks(office.store.webhooks, office.clock, "w", environ=environ).secret(webhook.id)
    assert new != old
    for secret in (old, new):
        assert unwrapped(secret, receiver.got[0]).type == "job.done"


def test_each_is_told_of_what_it_wants_and_of_its_team_alone(office: Office) -> None:
    with receiving() as mine, receiving() as theirs, receiving() as batches, office.sending():
        office.add(mine.url, team="search")
        office.add(theirs.url, team="ads")
        office.add(batches.url, team="search", events=["batch.*"])
        office.happen(2, team="search")
        office.happen(1, team="ads")
        soon(lambda: office.states() == ["delivered"] * 3)
    assert (len(mine.got), len(theirs.got), len(batches.got)) == (2, 1, 0)


def test_what_was_recorded_while_nobody_sent_is_sent_later(office: Office) -> None:
    with receiving() as receiver:
        office.add(receiver.url)
        jobs = office.happen(3)
        assert receiver.got == []
        with office.sending():
            soon(lambda: office.states() == ["delivered"] * 3)
    assert sorted(msgspec.json.decode(got.body)["data"]["id"] for got in receiver.got) == jobs


# ---------------------------------------------------------------- what does not


def test_a_failure_is_tried_again_under_the_same_id_and_by_the_schedule(office: Office) -> None:
    statuses = [500, 302, 404, 200]
    with receiving(lambda number: statuses[number]) as receiver, office.sending():
        _, secret = office.add(receiver.url)
        office.happen()
        for number, pause in enumerate((*RETRIES[:3], 0.0), start=1):
            soon(lambda number=number: len(receiver.got) == number)
            soon(lambda number=number: office.store.webhooks.deliveries()[0].status == statuses[number - 1])
            (kept,) = office.store.webhooks.deliveries()
            assert kept.tries == number
            if pause:
                assert kept.next_at is not None
                assert pause - 2.0 < kept.next_at - office.clock.now() <= 1.2 * pause
                office.clock.ahead += 1.2 * pause
        assert office.states() == ["delivered"]
    assert len({got.id for got in receiver.got}) == 1
    assert len({got.body for got in receiver.got}) == 1
    # Each try is signed when it is made.
    assert len({got.headers["webhook-timestamp"] for got in receiver.got}) == 4
    with pytest.raises(openai.InvalidWebhookSignatureError, match="too new"):
        unwrapped(secret, receiver.got[3])
    assert unwrapped(secret, receiver.got[0]).type == "job.done"


def test_nothing_is_sent_before_its_time(office: Office) -> None:
    with receiving(lambda _: 500) as receiver, office.sending():
        office.add(receiver.url)
        office.happen()
        soon(lambda: receiver.got)
        time.sleep(2.5)
        assert len(receiver.got) == 1


def test_after_ten_tries_it_is_given_up_and_can_be_sent_again(office: Office) -> None:
    with receiving(lambda number: 500 if number < 10 else 204) as receiver, office.sending():
        webhook, _ = office.add(receiver.url)
        office.happen()
        for number in range(1, 11):
            soon(lambda number=number: len(receiver.got) == number)
            soon(office.tried_just_now)
            office.clock.ahead += 2 * 86_400
        soon(lambda: office.states() == ["failed"])
        office.clock.ahead += 5 * 86_400
        time.sleep(1.2)
        assert len(receiver.got) == 10
        (kept,) = office.webhooks.deliveries(state=DeliveryState.FAILED)
        assert office.said == [("webhook given up", webhook.id, f"{kept.event_id}: answered 500")]
        assert office.webhooks.replay(kept.event_id) == 1
        soon(lambda: office.states() == ["delivered"])
    assert len(receiver.got) == 11
    assert set(receiver.ids()) == {kept.event_id}
    assert len({got.body for got in receiver.got}) == 1


def test_a_redirect_is_not_followed(office: Office) -> None:
    with receiving() as elsewhere:
        with (
            receiving(lambda _: (307, {"location": elsewhere.url})) as receiver,
            office.sending(),
        ):
            office.add(receiver.url)
            office.happen()
            soon(lambda: receiver.got and office.store.webhooks.deliveries()[0].status == 307)
        assert elsewhere.connections == 0
    assert office.states() == ["waiting"]


def test_who_is_gone_is_disabled_and_the_others_are_told(office: Office) -> None:
    with receiving(lambda _: 410) as gone, receiving() as there, office.sending():
        webhook, _ = office.add(gone.url)
        office.add(there.url)
        office.happen()
        soon(lambda: office.said and there.got)
        assert office.said[0] == ("webhook disabled", webhook.id, "it answered 410")
        office.happen(2)
        soon(lambda: len(there.got) == 3)
        time.sleep(1.2)
        assert len(gone.got) == 1
        assert [one.disabled_at is None for one in office.webhooks.all()] == [False, True]
        (kept,) = office.webhooks.deliveries(webhook_id=webhook.id)
        assert (kept.state, kept.status) == ("failed", 410)


def test_what_waits_for_one_who_is_gone_is_not_sent(office: Office) -> None:
    with receiving(lambda number: 410 if number else 500) as receiver, office.sending():
        webhook, _ = office.add(receiver.url)
        office.happen()
        soon(lambda: receiver.got)
        office.happen()
        soon(lambda: len(receiver.got) == 2)
        soon(lambda: office.webhooks.all()[0].disabled_at is not None)
        office.clock.ahead += 10.0
        soon(lambda: office.states() == ["failed", "failed"])
        assert len(receiver.got) == 2
        first = office.webhooks.deliveries()[-1]
        assert first.problem == "the webhook is disabled"
        office.webhooks.enable(webhook.id)
        assert office.webhooks.replay(first.event_id) == 1
        soon(lambda: len(receiver.got) == 3)


def test_who_asks_for_time_is_given_it(office: Office) -> None:
    with receiving(lambda _: (429, {"retry-after": "600"})) as receiver, office.sending():
        office.add(receiver.url)
        office.happen()
        soon(lambda: office.store.webhooks.deliveries()[0].status == 429)
        assert receiver.got
        next_at = office.store.webhooks.deliveries()[0].next_at
        assert next_at is not None
        assert 595 < next_at - office.clock.now() <= 600


def test_who_is_not_there_is_tried_again_and_it_says_why(office: Office) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with office.sending():
        office.add(f"http://127.0.0.1:{port}/x")
        office.happen()
        soon(lambda: office.store.webhooks.deliveries()[0].problem)
    assert office.store.webhooks.deliveries()[0].problem == "no connection to the host"
    assert office.states() == ["waiting"]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 banana\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000,
    ],
    ids=["nothing", "part", "ssh", "no status", "a long header"],
)
def test_what_is_no_answer_is_a_failure(office: Office, said: bytes) -> None:
    with _speaking(said) as port, office.sending():
        office.add(f"http://127.0.0.1:{port}/x")
        office.happen()
        soon(lambda: office.store.webhooks.deliveries()[0].problem)
    assert office.states() == ["waiting"]
    assert office.store.webhooks.deliveries()[0].status is None


def test_a_body_without_end_is_not_read(office: Office) -> None:
    """The status says all that there is to know."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n"
    sent: list[int] = []
    with _speaking(head, for_ever=sent) as port, office.sending():
        office.add(f"http://127.0.0.1:{port}/x")
        office.happen()
        soon(lambda: office.states() == ["delivered"])
        soon(lambda: len(sent) == 2)
    assert sent[1] < 50 << 20


@contextmanager
def _speaking(said: bytes, for_ever: list[int] | None = None) -> Generator[int]:
    """A server that answers all that it is asked with these bytes, and perhaps goes on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(10)
                    connection.recv(65_536)
                    connection.sendall(said)
                    if for_ever is not None:
                        _talk(connection, for_ever)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            thread.join()


def _talk(connection: socket.socket, sent: list[int]) -> None:
    sent.append(0)
    count = 0
    try:
        while count < 100 << 20:
            count += connection.send(b"x" * 65_536)
    except OSError:
        pass
    sent.append(count)


# ---------------------------------------------------------------- slow ones


def test_one_who_does_not_answer_holds_up_nobody(office: Office) -> None:
    release = threading.Event()

    def answer(_number: int) -> int:
        release.wait(30)
        return 200

    with receiving(answer) as slow, receiving() as quick:
        office.add(slow.url)
        office.add(quick.url)
        office.happen(30)
        with office.sending():
            soon(lambda: len(quick.got) == 30)
            # It has what one may have at a time, and no more.
            assert len(slow.got) == 4
            release.set()
            soon(lambda: office.states() == ["delivered"] * 60)
    assert len(set(slow.ids())) == 30


def test_who_takes_too_long_is_hung_up_on_and_tried_again(office: Office) -> None:
    release = threading.Event()

    def answer(number: int) -> int:
        if not number:
            release.wait(30)
        return 200

    with receiving(answer) as receiver, office.sending(outgoing=Outgoing(timeout=4.0)):
        office.add(receiver.url)
        office.happen()
        soon(lambda: office.store.webhooks.deliveries()[0].problem)
        assert office.store.webhooks.deliveries()[0].problem == "no answer within 4 s"
        assert office.states() == ["waiting"]
        office.clock.ahead += 10
        soon(lambda: office.states() == ["delivered"])
        release.set()
    assert len(receiver.got) == 2
    assert len(set(receiver.ids())) == 1


def test_many_webhooks_are_told_side_by_side(office: Office) -> None:
    with receiving(lambda _: time.sleep(0.2) or 200) as receiver:
        for _ in range(40):
            office.add(receiver.url)
        office.happen()
        began = time.monotonic()
        with office.sending():
            soon(lambda: office.states() == ["delivered"] * 40)
        assert time.monotonic() - began < 6.0
    assert len(set(receiver.ids())) == 1
    assert len(receiver.got) == 40


# ---------------------------------------------------------------- processes that die, and several at once


def test_who_dies_in_the_middle_costs_a_copy_under_the_same_id(office: Office) -> None:
    """Somebody has claimed it, and is never heard of again."""
    with receiving() as receiver:
        webhook, _ = office.add(receiver.url)
        office.happen()
        store = office.store.webhooks
        (lost,) = store.claim("dead", office.clock.now(), 30.0, {webhook.id: 4})
        with office.sending():
            time.sleep(1.5)
            assert receiver.got == []
            office.clock.ahead += 31
            soon(lambda: office.states() == ["delivered"])
    assert receiver.ids() == [lost.delivery.event_id]
    assert store.deliveries()[0].tries == 2


def test_who_dies_every_time_sends_no_more_than_the_schedule_has(office: Office) -> None:
    with receiving() as receiver:
        webhook, _ = office.add(receiver.url)
        office.happen()
        for _ in range(len(RETRIES) + 1):
            assert office.store.webhooks.claim("dead", office.clock.now(), 30.0, {webhook.id: 4})
            office.clock.ahead += 31
        with office.sending():
            soon(lambda: office.states() == ["failed"])
    assert receiver.got == []
    assert office.store.webhooks.deliveries()[0].problem == "every try was broken off"


def test_several_send_each_thing_once(office: Office) -> None:
    with receiving() as receiver, ExitStack() as stack:
        office.add(receiver.url)
        for number in range(3):
            other = stack.enter_context(closing(Store.open(office.url)))
            stack.enter_context(office.sending(owner=f"w{number}", store=other.webhooks))
        office.happen(40)
        soon(lambda: office.states() == ["delivered"] * 40, 30)
        time.sleep(1.2)
    assert len(receiver.got) == 40
    assert len(set(receiver.ids())) == 40


def test_who_is_stopped_ends_what_is_under_way(office: Office) -> None:
    with receiving(lambda _: time.sleep(1.0) or 200) as receiver:
        office.add(receiver.url)
        office.happen()
        with office.sending():
            soon(lambda: receiver.got)
        assert office.states() == ["delivered"]


def test_a_database_that_fails_for_a_while_costs_nothing(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    from halfrate.base.errors import StoreBusy
    from halfrate.service import deliverer

    monkeypatch.setattr(deliverer, "_LATER", 0.1)
    failures = [2]

    class Failing(WebhookStore):
        def due_webhooks(self, now: float) -> list[str]:
            if failures[0]:
                failures[0] -= 1
                raise StoreBusy("The database is held.")
            return super().due_webhooks(now)

    with receiving() as receiver:
        office.add(receiver.url)
        office.happen()
        with office.sending(store=Failing(office.store._connector)):
            soon(lambda: office.states() == ["delivered"])
        assert len(receiver.got) == 1
    assert office.said == [("webhooks wait", "", "The database is held.")]


def test_without_a_key_nothing_is_sent_and_no_try_is_used_up(office: Office) -> None:
    environ: dict[str, str] = {}
    with receiving() as receiver:
        office.add(receiver.url)
        office.happen()
        with office.sending(keys=lambda: signing_keys(environ)):
            soon(lambda: office.said)
        ((event, _, why),) = office.said
        assert event == "webhooks wait"
        assert KEY in why
        assert receiver.got == []
        assert [(one.state, one.tries) for one in office.store.webhooks.deliveries()] == [("waiting", 0)]


# ---------------------------------------------------------------- fairness


def test_slots_are_shared_and_come_round(office: Office) -> None:
    slots: Callable[[list[str]], dict[str, int]] = office.deliverer()._slots
    assert slots(["a"]) == {"a": 4}
    assert slots([]) == {}
    names = [f"wh-{number:03}" for number in range(100)]
    deliverer = office.deliverer()
    first = deliverer._slots(names)
    assert sum(first.values()) == 64
    assert set(first.values()) == {1}
    second = deliverer._slots(names)
    # Those who had no turn come first now.
    assert set(names) - set(first) <= set(second)
    deliverer._busy.update({"wh-000": 4, "wh-001": 3})
    third = deliverer._slots(["wh-000", "wh-001", "wh-002"])
    assert third == {"wh-001": 1, "wh-002": 4}


def test_what_is_remembered_of_webhooks_does_not_grow(office: Office) -> None:
    with receiving() as receiver:
        office.add(receiver.url)
        office.happen(5)
        deliverer = office.deliverer()

        async def run() -> None:
            task = asyncio.create_task(deliverer.run())
            await asyncio.to_thread(soon, lambda: office.states() == ["delivered"] * 5)
            deliverer.stop()
            await task

        asyncio.run(run())
    assert dict(deliverer._busy) == {}


def test_receivers_do_not_lie(tmp_path: Path) -> None:
    """The witness of these tests sees what is sent, and counts it."""
    with (
        receiving(lambda number: 200 + number) as receiver,
        socket.create_connection(("127.0.0.1", receiver.port)) as raw,
    ):
        raw.sendall(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi")
        assert raw.recv(100).startswith(b"HTTP/1.0 200")
        assert isinstance(receiver, Receiver)
        assert (receiver.connections, receiver.got[0].body) == (1, b"hi")
