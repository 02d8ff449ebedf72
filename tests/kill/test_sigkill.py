"""SIGKILL at random instants, then `attach`: the same output as an undisturbed run, each row billed once.

Real processes and real sockets; the emulator's meter, in another process than the one that is killed, is the
witness.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from halfrate.emulator import Emulator, Pace

ROUNDS = int(os.environ.get("HALFRATE_KILL_ROUNDS", "20"))
ROWS = 120
PROMPT = "What is {n} plus {n}?"
MODELS = {"openai": "openai/gpt-4.1-mini", "anthropic": "anthropic/claude-haiku-4-5"}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "halfrate", *words]


def environment(emulator: Emulator, url: str, home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "HALFRATE_HOME": str(home),
        "OPENAI_BASE_URL": emulator.openai_base_url(url),
        "OPENAI_API_KEY": "key-1",
        "ANTHROPIC_BASE_URL": emulator.anthropic_base_url(url),
        "ANTHROPIC_API_KEY": "key-1",
        "HALFRATE_SETTLE": "0.6",
        "HALFRATE_POLL_FIRST": "0.05",
        "HALFRATE_POLL_MOST": "0.1",
        "HALFRATE_BACKOFF_FIRST": "0.05",
    }


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().split("\n") if line]


@pytest.mark.kill
@pytest.mark.timeout(300)
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_killed_at_any_instant_nothing_is_lost_or_paid_twice(tmp_path: Path, provider: str) -> None:
    table = tmp_path / "rows.jsonl"
    table.write_text("".join(json.dumps({"n": n}) + "\n" for n in range(ROWS)))
    pace = Pace(validate=0.05, queue=0.05, per_1000_rows=4.0, finalize=0.05)
    undisturbed: list[dict[str, Any]] | None = None
    dice = random.Random(7)
    killed = 0
    duration = 0.0
    for number in range(ROUNDS + 1):
        with Emulator(seed=3, pace=pace) as emulator, emulator.running() as url:
            env = environment(emulator, url, tmp_path / f"home-{number}")
            out = tmp_path / f"out-{number}.jsonl"
            run = command(
                "run",
                str(table),
                "--model",
                MODELS[provider],
                "--prompt",
                PROMPT,
                "-o",
                str(out),
                "--yes",
                "--json",
            )
            if undisturbed is not None:
                process = subprocess.Popen(run, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                time.sleep(dice.uniform(0.05, 0.95) * duration)
                process.send_signal(signal.SIGKILL)
                killed += process.wait() == -signal.SIGKILL
            # The same command line: it goes on with what is unfinished, or starts where nothing was sent.
            started = time.monotonic()
            done = subprocess.run(run, env=env, capture_output=True, text=True, timeout=60, check=False)
            duration = duration or time.monotonic() - started
            assert done.returncode == 0, done.stderr
            meter = emulator.meter.snapshot(ids=True)
        report = json.loads(done.stdout)
        assert report["succeeded"] == ROWS
        if undisturbed is None:
            undisturbed = rows_of(out)
        assert rows_of(out) == undisturbed, f"round {number}"
        # A process killed after the last row was collected leaves a finished job or an unfinished one; either
        # way a second job may only exist if the first one was complete before it was killed.
        assert meter["rows_billed"] in (
            {ROWS} if not _finished_before(env, report["job"]) else {ROWS, 2 * ROWS}
        )
        if meter["rows_billed"] == ROWS:
            assert meter["fingerprints_billed_again"] == 0
            assert all(count == 1 for count in meter["billed_by_fingerprint"].values())
    assert killed >= ROUNDS // 2


def _finished_before(env: dict[str, str], job: str) -> bool:
    """Whether the killed command had finished its job altogether, so that the second was rightly a new one."""
    listed = subprocess.run(command("jobs", "--json"), env=env, capture_output=True, text=True, check=True)
    return any(found["job"] != job and found["state"] == "done" for found in json.loads(listed.stdout))
