"""A machine that is lost: its processes are killed and its disk is gone. Another goes on with what is in the depot.

Real processes, a real PostgreSQL and a folder as depot; the emulator's meter is the witness.
"""

import asyncio
import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from halfrate.base.ids import new_job_id, row_prefix
from halfrate.emulator import Emulator, Pace, ScaledClock
from halfrate.store.store import Store

from ..cli.shell import Shell
from ..store.databases import PostgresDatabase
from ..store.server import Server as Postgres
from .house import ENDED, chat, lines_of, upload

pytestmark = [pytest.mark.kill, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
DRAW = random.Random(int(os.environ.get("KILL_SEED", "1")))
PACE = Pace(
    validate=0.2, queue=0.2, per_1000_rows=20.0, finalize=0.2, cancel=0.1, realtime=0.03, realtime_spread=0.5
)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture
def shell(tmp_path: Path, postgres: Postgres) -> Iterator[Callable[[Pace], Shell]]:
    with contextlib.ExitStack() as stack:

        def made(pace: Pace) -> Shell:
            clock = ScaledClock()
            emulator = stack.enter_context(Emulator(seed=1, clock=clock, pace=pace))
            url = stack.enter_context(emulator.running())
            shell = Shell(tmp_path, emulator, clock, url)
            (tmp_path / "depot").mkdir()
            shell.env |= {
                "HALFRATE_DATABASE": PostgresDatabase(postgres).url,
                "HALFRATE_DEPOT": f"file://{tmp_path / 'depot'}",
                "HALFRATE_GATHER": "1",
            }
            return shell

        yield made


class Machine:
    """A process of halfrate with a home of its own."""

    def __init__(self, shell: Shell, name: str, *words: str) -> None:
        self._home = shell.folder / name
        self._log = shell.folder / f"{name}.log"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        served = words or ("serve", "--port", str(self.port), "--quiet")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.gateway.hasty", *served],
                cwd=ROOT,
                env={**os.environ, **shell.env, "HALFRATE_HOME": str(self._home)},
                stdout=log,
                stderr=log,
            )

    def wait(self) -> None:
        """Until it serves."""
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/readyz")
                status = connection.getresponse().status
                connection.close()
                if status == 200:
                    return
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def lose(self) -> None:
        """The machine is gone, with its disk."""
        self._process.kill()
        self._process.wait(40)
        shutil.rmtree(self._home)

    def end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(40) == 0, self.log()
        assert "defect" not in self.log()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(40)

    def log(self) -> str:
        return self._log.read_text()


@contextlib.contextmanager
def machine(shell: Shell, name: str, *words: str) -> Generator[Machine]:
    one = Machine(shell, name, *words)
    try:
        if not words:
            one.wait()
        yield one
    finally:
        one.kill()


def key_of(shell: Shell) -> str:
    return shell("keys", "create", "me").out.strip()


async def insist(ports: list[int], key: str, number: int) -> tuple[str, str]:
    """A call that can wait, asked of one gateway and then of the other until it is answered."""
    messages: Any = [{"role": "user", "content": f"Parcel {number}"}]
    headers = {"halfrate-deadline": "8h", "idempotency-key": f"parcel-{number}"}
    for turn in range(400):
        url = f"http://127.0.0.1:{ports[min(turn, len(ports) - 1)]}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client:
            with contextlib.suppress(openai.APIConnectionError):
                raw = await client.chat.completions.with_raw_response.create(
                    model="gpt-4.1-mini", messages=messages, extra_headers=headers
                )
                return raw.parse().choices[0].message.content or "", raw.headers["x-halfrate-tier"]
        await asyncio.sleep(0.2)
    raise AssertionError("nobody answers")


def test_what_a_lost_machine_has_taken_on_another_finishes(shell: Callable[[Pace], Shell]) -> None:
    at = shell(PACE)
    key = key_of(at)
    rows, calls = 25, 60
    with machine(at, "a") as a, machine(at, "b") as b:
        here = openai.OpenAI(base_url=f"http://127.0.0.1:{a.port}/v1", api_key=key, max_retries=0)
        there = openai.OpenAI(base_url=f"http://127.0.0.1:{b.port}/v1", api_key=key, max_retries=0)
        with here, there:
            made: list[str] = []
            for number in range(4):
                lines = chat(("gpt-4.1-mini", "claude-haiku-4-5")[number % 2], rows)
                for line in lines:
                    line["body"]["messages"][0]["content"] += f" Batch {number}."
                file_id = upload(here, lines)
                made.append(
                    here.batches.create(
                        input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h"
                    ).id
                )

            async def ask() -> list[tuple[str, str]]:
                asking = [
                    asyncio.create_task(insist([a.port, b.port], key, number)) for number in range(calls)
                ]
                await asyncio.sleep(DRAW.uniform(0.3, 3.0))
                await asyncio.to_thread(a.lose)
                return await asyncio.gather(*asking)

            answers = asyncio.run(ask())
            for number, (text, tier) in enumerate(answers):
                assert f"Parcel {number}”" in text
                assert tier == "batch"
            deadline = time.monotonic() + 150
            for batch_id in made:
                while (batch := there.batches.retrieve(batch_id)).status not in ENDED:
                    assert time.monotonic() < deadline, b.log()[-3_000:]
                    time.sleep(0.1)
                assert batch.status == "completed"
                found = lines_of(there, batch.output_file_id)
                assert sorted(line["custom_id"] for line in found) == sorted(f"row {n}" for n in range(rows))
        b.end()
    meter = at.meter()
    assert meter["fingerprints_billed_again"] == 0
    assert (meter["rows_billed"], meter["realtime_billed"]) == (4 * rows + calls, 0)
    (paid,) = json.loads(at("cost", "--by", "team", "--json").out)
    assert paid["rows"] == 4 * rows + calls


def test_a_call_that_ran_where_the_machine_was_lost_ends_as_unknown(shell: Callable[[Pace], Shell]) -> None:
    at = shell(Pace(realtime=60.0))
    key = key_of(at)
    ask: Any = {
        "model": "gpt-4.1-mini",
        "messages": [{"role": "user", "content": "Where is it?"}],
        "extra_headers": {"halfrate-deadline": "1m", "halfrate-background": "true", "idempotency-key": "k"},
    }
    with machine(at, "a") as a, machine(at, "b") as b:
        with openai.OpenAI(base_url=f"http://127.0.0.1:{a.port}/v1", api_key=key, max_retries=0) as here:
            call_id = here.chat.completions.with_raw_response.create(**ask).headers["x-halfrate-call"]
        with openai.OpenAI(base_url=f"http://127.0.0.1:{b.port}/v1", api_key=key, max_retries=0) as there:

            def status() -> str:
                found: Any = there.get(f"/halfrate/calls/{call_id}", cast_to=object)
                return found["status"]

            # As long as its machine lives, the other one leaves it alone: its lock is not there, and proves nothing.
            for _ in range(40):
                assert status() == "in_progress"
                time.sleep(0.2)
            a.lose()
            deadline = time.monotonic() + 20
            while status() == "in_progress":
                assert time.monotonic() < deadline
                time.sleep(0.1)
            ask["extra_headers"].pop("halfrate-background")
            with pytest.raises(openai.APIStatusError) as told:
                there.chat.completions.create(**ask)
            assert told.value.status_code == 504
        b.end()


def test_in_real_time_a_lost_machine_repeats_no_more_than_was_not_in_the_depot(
    shell: Callable[[Pace], Shell],
) -> None:
    at = shell(Pace(realtime=0.2, realtime_spread=0.5))
    rows = 600
    at.env["HALFRATE_HOME"] = str(at.folder / "a")
    made = at(
        "run",
        at.table(rows),
        "--model",
        "openai/gpt-4.1-mini",
        "--prompt",
        "{q}",
        "--tier",
        "standard",
        "--detach",
        "--yes",
        "--json",
    )
    assert made.code == 0, made.err
    (job_id,) = (path.name for path in (at.folder / "depot" / "jobs").iterdir())
    lost = 0
    for name in ("a", "c"):
        with machine(at, name, "worker") as worker:
            enough = at.meter()["realtime_billed"] + DRAW.randint(100, 250)
            deadline = time.monotonic() + 60
            while at.meter()["realtime_billed"] < enough:
                assert time.monotonic() < deadline, worker.log()
                time.sleep(0.01)
            worker.lose()
        # What was in flight is run, and billed, whether anybody waits for it or not.
        time.sleep(1)
        kept = answered(at, job_id)
        billed = len(at.meter()["realtime_by_fingerprint"])
        print(f"billed {billed}, kept {kept}")
        lost += billed - kept
    at.env["HALFRATE_HOME"] = str(at.folder / "b")
    with machine(at, "b", "worker", "--drain") as worker:
        deadline = time.monotonic() + 120
        while at(*("status", job_id, "--json")).object["state"] == "open":
            assert time.monotonic() < deadline, worker.log()
            time.sleep(0.2)
    report = at("status", job_id, "--json").object
    assert report["succeeded"] == rows, report
    meter = at.meter()
    assert len(meter["realtime_by_fingerprint"]) == rows
    assert meter["realtime_billed_again"] <= lost
    with store_of(at) as store:
        (line,) = store.ledger(job_id)
    assert line.rows == rows


def test_a_worker_lets_go_of_what_dead_processes_left(shell: Callable[[Pace], Shell]) -> None:
    at = shell(PACE)
    orphan, fresh = new_job_id(), new_job_id()
    with machine(at, "b", "worker"):
        pass
    for root in (at.folder / "b", at.folder / "depot"):
        for job_id, age in ((orphan, 90_000.0), (fresh, 60.0)):
            folder = root / "jobs" / job_id
            folder.mkdir(parents=True)
            (folder / "input.jsonl").write_text("{}\n")
            made = time.time() - age
            for path in (folder / "input.jsonl", folder):
                os.utime(path, (made, made))
    with machine(at, "b", "worker") as worker:
        deadline = time.monotonic() + 30
        for root in (at.folder / "b", at.folder / "depot"):
            while (root / "jobs" / orphan / "input.jsonl").exists():
                assert time.monotonic() < deadline, worker.log()
                time.sleep(0.05)
            assert (root / "jobs" / fresh / "input.jsonl").exists()
        worker.end()


def answered(at: Shell, job_id: str) -> int:
    """Rows whose answers are in the depot."""
    folder = at.folder / "depot" / "jobs" / job_id
    prefix = row_prefix(f"{job_id}-0", 1).encode()
    pieces = [path for path in folder.glob("results-0.a1.0.parts/*") if path.name.isdigit()]
    found = b"".join(path.read_bytes() for path in sorted(pieces))
    return len({line.partition(prefix)[2].partition(b'"')[0] for line in found.splitlines()})


@contextlib.contextmanager
def store_of(at: Shell) -> Generator[Store]:
    store = Store.open(at.env["HALFRATE_DATABASE"])
    try:
        yield store
    finally:
        store.close()
