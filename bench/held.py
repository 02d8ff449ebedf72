"""python -m bench.held: many callers who wait on the line for calls that can wait, in one process of `halfrate serve`.

10,000 connections each send one chat with `halfrate-deadline: 8h` to a gateway in front of the emulator, both in
processes of their own, and wait for their answers. Every answer has to be the one to its own question; the emulator's
meter says how often each row was billed. Memory is the most anonymous memory that the gateway held; the floor beside it
is what it held before. Bars: less than 400 MB, all answered, each row billed once.
"""

import argparse
import asyncio
import json
import os
import resource
import shutil
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from . import measure, servers

_HERE: Final = Path(__file__).resolve().parent
_CALLS: Final = 10_000
_MEMORY: Final = 400 << 20
_AT_ONCE: Final = 200
"""Callers who connect at a time: a listening socket takes no more of them."""
_SPARE: Final = 500
_HEAD: Final = (
    "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n"
    "content-type: application/json\r\nhalfrate-deadline: 8h\r\ncontent-length: {length}\r\n\r\n"
)


class Answered(NamedTuple):
    """How one call ended: its status, whether it was the answer to its question, and when it came."""

    status: int
    fits: bool
    at: float


async def _call(port: int, key: str, number: int, room: asyncio.Semaphore) -> Answered:
    question = f"Parcel {number}. " + "A word or two of what is in it. " * 30
    body = json.dumps({"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": question}]})
    async with room:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write((_HEAD.format(key=key, length=len(body)) + body).encode())
        await writer.drain()
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = next(
            int(line.partition(":")[2])
            for line in head.split("\r\n")
            if line.lower().startswith("content-length:")
        )
        answer = json.loads(await reader.readexactly(length))
    finally:
        writer.close()
    status = int(head.split(" ", 2)[1])
    text = answer["choices"][0]["message"]["content"] if status == 200 else ""
    return Answered(status, f"Parcel {number}." in text, time.monotonic())


async def _all(port: int, key: str, calls: int) -> list[Answered]:
    room = asyncio.Semaphore(_AT_ONCE)
    return await asyncio.gather(*(_call(port, key, number, room) for number in range(calls)))


def _meter(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/meter", timeout=60) as reply:
        return json.load(reply)


def main(given: Sequence[str]) -> int:
    """0 when every bar is cleared, 1 when not."""
    parser = argparse.ArgumentParser(prog="python -m bench.held", description="Hold many calls.")
    parser.add_argument("--calls", type=int, default=_CALLS)
    parser.add_argument("--work", type=Path, default=_HERE / ".work", help="where to keep the files")
    arguments = parser.parse_args(given)
    calls: int = arguments.calls
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < calls + _SPARE:
        raise SystemExit(f"bench: this machine allows {most:,} open files, and {calls + _SPARE:,} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (calls + _SPARE, most))
    folder: Path = arguments.work.resolve() / "held"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    fake = servers.free_port()
    emulate = [sys.executable, "-m", "halfrate", "emulate", "--port", str(fake)]
    environment = {
        **os.environ,
        "PYTHONPATH": str(servers.ROOT / "src"),
        "HALFRATE_HOME": str(folder / "none"),
    }
    account = {"OPENAI_BASE_URL": f"http://127.0.0.1:{fake}/v1", "OPENAI_API_KEY": "sk-emulator"}
    try:
        with (
            servers.running(emulate, environment, fake, folder / "emulator.log"),
            servers.gateway(folder, {**account, "HALFRATE_GATHER": "10"}) as (pid, port, key),
        ):
            before = measure.anonymous(pid)
            held = [before]
            done = threading.Event()

            def watch() -> None:
                while not done.wait(0.05):
                    held.append(measure.anonymous(pid))

            watcher = threading.Thread(target=watch)
            watcher.start()
            begun = time.monotonic()
            try:
                answers = asyncio.run(_all(port, key, calls))
            finally:
                done.set()
                watcher.join()
            meter = _meter(fake)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _report(answers, begun, before, max(held), meter)


def _report(answers: Sequence[Answered], begun: float, before: int, most: int, meter: dict[str, Any]) -> int:
    fine = sum(one.status == 200 and one.fits for one in answers)
    last = max(one.at for one in answers) - begun
    print(f"{len(answers):,} calls held: {before / 2**20:.0f} MB before, {most / 2**20:.0f} MB at most")
    print(f"{(most - before) / len(answers) / 1024:.1f} kB a call; the last answer after {last:.1f} s")
    twice = meter["fingerprints_billed_again"]
    billed = meter["rows_billed"] + meter["realtime_billed"]
    bars = [
        (most < _MEMORY, f"{most / 2**20:.0f} MB, below {_MEMORY >> 20}"),
        (fine == len(answers), f"{fine:,} of {len(answers):,} answered, each with its own answer"),
        (billed == len(answers) and not twice, f"{billed:,} rows billed, {twice:,} of them again"),
    ]
    for passed, what in bars:
        print(f"{'PASS' if passed else 'FAIL'}  {what}")
    return 0 if all(passed for passed, _ in bars) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
