"""`halfrate serve` in a process of its own, killed at any instant and started again; the meter is the witness."""

import contextlib
import functools
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from halfrate.emulator import Emulator, Pace, ScaledClock, fingerprint

from ..cli.shell import Shell
from .house import ENDED, chat, lines_of

pytestmark = [pytest.mark.kill, pytest.mark.timeout(240)]

T = TypeVar("T")
ROWS = 25
BATCHES = 4


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    clock = ScaledClock()
    # Slow enough that a kill finds batches in every state.
    pace = Pace(
        validate=0.1,
        queue=0.1,
        per_1000_rows=4.0,
        finalize=0.1,
        cancel=0.1,
        realtime=0.03,
        realtime_spread=0.5,
    )
    with Emulator(seed=1, clock=clock, pace=pace) as emulator, emulator.running() as url:
        yield Shell(tmp_path, emulator, clock, url)


class Served:
    """The gateway, on one port through all of its lives."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._shell.folder / "serve.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "halfrate", "serve", "--port", str(self.port), "--quiet"],
                env={**os.environ, **self._shell.env},
                stderr=log,
            )
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/healthz")
                if connection.getresponse().status == 200:
                    connection.close()
                    return
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(40)

    def log(self) -> str:
        return (self._shell.folder / "serve.log").read_text()


def insist(call: Callable[[dict[str, str]], T]) -> T:
    """What a client does whose gateway goes away: it asks again, and says so as the SDKs do."""
    for again in range(200):
        try:
            return call({"x-stainless-retry-count": str(again)})
        except openai.APIConnectionError:
            time.sleep(0.1)
    raise AssertionError("the gateway did not come back")


def upload(client: openai.OpenAI, text: bytes, headers: dict[str, str]) -> str:
    return client.files.create(file=("rows.jsonl", text), purpose="batch", extra_headers=headers).id


def make(client: openai.OpenAI, file_id: str, headers: dict[str, str]) -> str:
    return client.batches.create(
        input_file_id=file_id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        extra_headers=headers,
    ).id


def test_a_gateway_that_is_killed_loses_no_row_and_pays_for_none_twice(shell: Shell) -> None:
    seed = int(os.environ.get("KILL_SEED", "1"))
    draw = random.Random(seed)
    key = shell("keys", "create", "me").out.strip()
    served = Served(shell)
    served.start()
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{served.port}/v1", api_key=key, max_retries=0)
    models = ["gpt-4.1-mini", "anthropic/claude-haiku-4-5", "gpt-4.1-nano"]
    batches: dict[str, int] = {}
    for number in range(BATCHES):
        lines = chat(models[number % 3], ROWS)
        for line in lines:
            line["body"]["messages"][0]["content"] += f" Batch {number}."
        if number % 2:
            # Two models: two jobs, of which a kill may find one made.
            for line in lines[: ROWS // 2]:
                line["body"]["model"] = models[(number + 1) % 3]
        text = "".join(json.dumps(line) + "\n" for line in lines).encode()
        file_id = insist(functools.partial(upload, client, text))
        batches[insist(functools.partial(make, client, file_id))] = ROWS
        time.sleep(draw.uniform(0, 0.3))
        served.end(signal.SIGKILL)
        served.start()
    for _ in range(3):
        time.sleep(draw.uniform(0.05, 0.8))
        served.end(signal.SIGKILL)
        served.start()
    waiting = set(batches)
    deadline = time.monotonic() + 120
    while waiting:
        assert time.monotonic() < deadline, served.log()[-2_000:]
        for batch_id in list(waiting):
            batch = client.batches.retrieve(batch_id)
            if batch.status in ENDED:
                assert batch.status == "completed", batch
                found = lines_of(client, batch.output_file_id)
                assert sorted(line["custom_id"] for line in found) == sorted(f"row {n}" for n in range(ROWS))
                waiting.discard(batch_id)
        time.sleep(0.1)
    assert served.end(signal.SIGTERM) == 0
    meter = shell.meter()
    assert meter["fingerprints_billed_again"] == 0
    assert meter["rows_billed"] == BATCHES * ROWS
    paid = json.loads(shell("cost", "--by", "team", "--json").out)
    assert [line["rows"] for line in paid] == [BATCHES * ROWS]
    assert "defect" not in served.log()


CALLERS = 3
MODELS = ["gpt-4.1-mini", "anthropic/claude-haiku-4-5"]


class Caller:
    """Makes one call after the other, whole and streamed by turns, each by itself: nothing of it is repeated."""

    def __init__(self, number: int, port: int, key: str, calls: int) -> None:
        self.number = number
        self.answered: set[str] = set()
        self.asked: dict[str, str] = {}
        """What the provider's meter knows a call by, where that is known here, and the call's name."""
        self._port = port
        self._key = key
        self._calls = calls

    def run(self) -> None:
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{self._port}/v1", api_key=self._key, max_retries=0)
        with client:
            for turn in range(self._calls):
                name = f"{self.number}-{turn}"
                try:
                    self._call(client, name, turn)
                except (openai.APIConnectionError, httpx2.TransportError):
                    time.sleep(0.05)
                else:
                    self.answered.add(name)

    def _call(self, client: openai.OpenAI, name: str, turn: int) -> None:
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": f"This is call {name}."}]
        model = MODELS[turn % 3 == 0]
        headers = {"halfrate-tags": f"call={name}"}
        if model == MODELS[0]:
            self.asked[fingerprint({"model": model, "messages": messages})] = name
        if turn % 2:
            with client.chat.completions.create(
                model=model, messages=messages, stream=True, extra_headers=headers
            ) as stream:
                last = [chunk.choices[0].finish_reason for chunk in stream][-1]
            assert last is not None
        else:
            made = client.chat.completions.create(model=model, messages=messages, extra_headers=headers)
            assert made.choices


def test_every_call_that_was_billed_stands_in_the_ledger_after_a_kill(shell: Shell) -> None:
    draw = random.Random(int(os.environ.get("KILL_SEED", "1")))
    key = shell("keys", "create", "me").out.strip()
    served = Served(shell)
    served.start()
    callers = [Caller(number, served.port, key, 80) for number in range(CALLERS)]
    threads = [threading.Thread(target=caller.run) for caller in callers]
    for thread in threads:
        thread.start()
    kills = 5
    for _ in range(kills):
        time.sleep(draw.uniform(0.2, 0.8))
        served.end(signal.SIGKILL)
        served.start()
    for thread in threads:
        thread.join()
    assert served.end(signal.SIGTERM) == 0
    answered = set[str]().union(*(caller.answered for caller in callers))
    booked = {
        line["by"]["call"]: (line["rows"], line["calls_in_doubt"])
        for line in json.loads(shell("cost", "--by", "call", "--json").out)
    }
    # Each once: what was answered with what it cost, and what nobody saw the end of as a doubt, if it may not be both.
    assert set(booked.values()) <= {(1, 0), (0, 1)}
    assert {booked[name] for name in answered} == {(1, 0)}
    doubts = {name for name, (_, doubted) in booked.items() if doubted}
    assert 0 < len(doubts) <= kills * CALLERS
    meter = shell.meter()
    billed = meter["realtime_billed"]
    assert meter["realtime_billed_again"] == 0
    assert len(answered) <= billed <= len(booked)
    known = {mark: name for caller in callers for mark, name in caller.asked.items()}
    missing = {known[mark] for mark in meter["realtime_by_fingerprint"] if mark in known} - booked.keys()
    assert missing == set()
    assert "defect" not in served.log()
