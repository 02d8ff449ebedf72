"""SIGKILL in the midst of a realtime run: what it costs is what was under way at that moment, and no more.

Real processes and real sockets. The emulator's meter, in another process than the one that is killed, is the witness.
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
from halfrate.providers.anthropic import Anthropic
from halfrate.providers.base import Account
from halfrate.providers.openai import OpenAI
from halfrate.rows.journal import State

from .child import MOST
from .made import attempt

ROWS = 400
ROOT = Path(__file__).parents[2]


def start(folder: Path, url: str, provider: str, *, pay_again: bool) -> subprocess.Popen[str]:
    words = ["-m", "tests.engine.child", str(folder), url, provider, str(ROWS), "yes" if pay_again else "no"]
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": "."},
    )


def billed(emulator: Emulator) -> int:
    return emulator.meter.snapshot()["realtime_billed"]


@pytest.mark.kill
@pytest.mark.timeout(300)
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize("pay_again", [False, True])
def test_killed_at_any_moment_no_more_is_repeated_than_was_under_way(
    tmp_path: Path, provider: str, pay_again: bool
) -> None:
    dice = random.Random(f"{provider} {pay_again}")
    pace = Pace(realtime=0.05, realtime_spread=0.8)
    kills = 0
    in_flight_at_kills = 0
    with Emulator(pace=pace, seed=5) as emulator, emulator.running() as url:
        account = Account(provider=provider, base_url=url, key="key-1")
        adapter = OpenAI(account) if provider == "openai" else Anthropic(account)
        shard = attempt(tmp_path, adapter, account.name, ROWS)
        tally: dict[str, Any] = {}
        while True:
            child = start(tmp_path, url, provider, pay_again=pay_again)
            try:
                target = billed(emulator) + dice.randint(10, 90)
                while child.poll() is None and (kills >= 4 or billed(emulator) < target):
                    time.sleep(0.002)
                child.send_signal(signal.SIGKILL)
                if child.wait() == 0:
                    assert child.stdout is not None
                    tally = json.loads(child.stdout.read())
                    break
            finally:
                child.kill()
                child.communicate()
            assert child.returncode == -signal.SIGKILL
            kills += 1
            # What the dead process left behind, before anybody goes on.
            with shard.journal() as journal:
                doubts = journal.doubts
                answered = journal.count(State.ANSWERED)
            under_way = doubts - in_flight_at_kills
            assert under_way <= MOST
            in_flight_at_kills = doubts
            # Nothing was billed that the journal does not know of as answered or as in doubt.
            assert billed(emulator) <= answered + doubts
        meter = emulator.meter.snapshot(ids=True)
    assert kills == 4
    assert tally["doubts"] == in_flight_at_kills
    assert all(count == 1 for count in meter["realtime_by_fingerprint"].values()) or pay_again
    if pay_again:
        assert (tally["settled"], tally["in_doubt"]) == (ROWS, 0)
        assert len(meter["realtime_by_fingerprint"]) == ROWS
        assert meter["realtime_billed_again"] <= in_flight_at_kills <= kills * MOST
    else:
        assert tally["settled"] + tally["in_doubt"] == ROWS
        assert tally["in_doubt"] == in_flight_at_kills
        assert meter["realtime_billed_again"] == 0
