"""`halfrate serve` in a process of its own, killed while it tells others what happened: nothing is lost, and what comes
twice has one id."""

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from halfrate.emulator import Emulator, Pace, ScaledClock
from halfrate.service.webhooks import KEY

from ..cli.shell import Shell
from ..service.receiver import receiving, soon, unwrapped
from .house import chat
from .test_gateway_kills import Served, insist, make, upload

pytestmark = [pytest.mark.kill, pytest.mark.timeout(240)]

SIGNING = "k3y-" + "0123456789abcdefghijklmnopqrstuv"
BATCHES = 5


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    clock = ScaledClock()
    pace = Pace(validate=0.05, queue=0.05, per_1000_rows=4.0, finalize=0.05, cancel=0.05)
    with Emulator(seed=1, clock=clock, pace=pace) as emulator, emulator.running() as url:
        shell = Shell(tmp_path, emulator, clock, url)
        shell.env[KEY] = SIGNING
        yield shell


def told(shell: Shell, url: str) -> str:
    """Have a URL told of batches; its secret."""
    words = ["--event", "batch.*", "--allow-http", "--allow-private", "127.0.0.1"]
    return shell("webhooks", "add", url, *words).out.strip()


def asked(served: Served, key: str, number: int) -> str:
    """A batch is made, however often the gateway goes away meanwhile."""
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{served.port}/v1", api_key=key, max_retries=0)
    lines = chat("gpt-4.1-mini", 4)
    for line in lines:
        line["body"]["messages"][0]["content"] += f" Batch {number}."
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    file_id = insist(lambda headers: upload(client, text, headers))
    return insist(lambda headers: make(client, file_id, headers))


def test_kills_at_any_instant_lose_no_event_and_repeat_few(shell: Shell) -> None:
    draw = random.Random(int(os.environ.get("KILL_SEED", "1")))
    kills = 0
    # Slow to answer, so that kills find messages under way.
    with receiving(lambda _: time.sleep(draw.uniform(0, 0.4)) or 200) as receiver:
        secret = told(shell, receiver.url)
        key = shell("keys", "create", "me").out.strip()
        served = Served(shell)
        served.start()
        made: set[str] = set()
        for number in range(BATCHES):
            made.add(asked(served, key, number))
            time.sleep(draw.uniform(0, 2.0))
            served.end(signal.SIGKILL)
            kills += 1
            served.start()

        def ends() -> Counter[tuple[str, str]]:
            return Counter((json.loads(got.body)["data"]["id"], got.id) for got in receiver.got)

        # What was under way at a kill waits for the end of a lease.
        soon(lambda: {batch_id for batch_id, _ in ends()} == made, 120)
        soon(
            lambda: (
                not json.loads(shell("webhooks", "deliveries", "--state", "waiting", "--json").out or "[]")
            ),
            90,
        )
        assert served.end(signal.SIGTERM) == 0
        # One event a batch, and a copy at most for each kill.
        assert len(ends()) == BATCHES
        assert sum(ends().values()) <= BATCHES + kills
        assert {unwrapped(secret, got).type for got in receiver.got} == {"batch.completed"}
    assert "defect" not in served.log()


def test_a_kill_while_a_message_is_under_way_costs_a_copy_of_it(shell: Shell) -> None:
    release = threading.Event()

    def answer(number: int) -> int:
        if not number:
            release.wait(60)
        return 200

    with receiving(answer) as receiver:
        secret = told(shell, receiver.url)
        key = shell("keys", "create", "me").out.strip()
        served = Served(shell)
        served.start()
        batch_id = asked(served, key, 0)
        soon(lambda: receiver.got, 60)
        served.end(signal.SIGKILL)
        release.set()
        (before,) = json.loads(shell("webhooks", "deliveries", "--json").out)
        assert (before["state"], before["tries"]) == ("waiting", 1)
        served.start()
        soon(lambda: len(receiver.got) == 2, 60)
        soon(lambda: json.loads(shell("webhooks", "deliveries", "--json").out)[0]["state"] == "delivered")
        assert served.end(signal.SIGTERM) == 0
        (after,) = json.loads(shell("webhooks", "deliveries", "--json").out)
        assert (after["event"], after["tries"]) == (before["event"], 2)
        assert receiver.ids() == [before["event"]] * 2
        assert {got.body for got in receiver.got} == {receiver.got[0].body}
        assert unwrapped(secret, receiver.got[1]).data.id == batch_id


def test_two_processes_over_one_home_tell_of_each_thing_once(shell: Shell) -> None:
    with receiving(lambda _: time.sleep(0.1) or 200) as receiver:
        secret = told(shell, receiver.url)
        key = shell("keys", "create", "me").out.strip()
        gateways = [Served(shell), Served(shell)]
        for served in gateways:
            served.start()
        made = {asked(gateways[number % 2], key, number) for number in range(8)}
        soon(lambda: len(receiver.got) >= 8, 90)
        time.sleep(3.0)
        assert [served.end(signal.SIGTERM) for served in gateways] == [0, 0]
        assert len(receiver.got) == len(set(receiver.ids())) == 8
        assert {unwrapped(secret, got).data.id for got in receiver.got} == made


def test_a_gateway_that_could_not_sign_says_what_to_set(shell: Shell) -> None:
    told(shell, "http://127.0.0.1:9/x")
    shell("keys", "create", "me")
    del shell.env[KEY]
    ran = shell.finish(shell.start("serve", "--port", "0", env={KEY: ""}))
    assert ran.code == 2
    assert KEY in ran.err
    assert "openssl rand" in ran.err
