"""`halfrate worker`: jobs of several people, carried by processes that know none of them."""

import asyncio
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from halfrate.emulator import Limits
from halfrate.service.drafts import Ask
from halfrate.service.home import Home
from halfrate.service.jobs import Service

from .shell import Shell

Shells = Callable[..., Shell]


def test_a_worker_carries_all_jobs_to_their_end(shell: Shell) -> None:
    jobs = [
        shell.run(
            shell.table(5 + n, f"rows-{n}.jsonl"),
            "--json",
            "--detach",
            "-o",
            f"out-{n}.jsonl",
            provider=p,
            prompt=f"{n}: {{q}}",
        ).object["job"]
        for n, p in enumerate(["openai", "anthropic", "openai"])
    ]
    ran = shell("worker", "--drain")
    assert ran.code == 0, ran.err
    for number, job in enumerate(jobs):
        assert f"{job} is done: " in ran.err
        assert [row["status"] for row in shell.rows(f"out-{number}.jsonl")] == ["succeeded"] * (5 + number)
        assert json.loads(shell("status", job, "--json").out)["state"] == "done"
    assert max(shell.meter()["billed_by_fingerprint"].values()) == 1


def test_a_worker_with_nothing_to_do_drains_at_once(shell: Shell) -> None:
    assert shell("worker", "--drain").code == 0


@pytest.mark.parametrize("waiting", [False, True])
def test_a_job_whose_worker_died_before_it_could_say_that_it_is_done(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, waiting: bool
) -> None:
    left = shell.run(shell.table(4), "--json", "--detach", "-o", "out.jsonl").object["job"]
    for name, value in shell.env.items():
        monkeypatch.setenv(name, value)
    process = shell.start("worker") if waiting else None
    with Service(Home.from_environment()) as service:
        # All of it is run, and nobody concludes it, as after a kill between the two.
        asyncio.run(service.run(left))
    if process is None:
        assert shell("worker", "--drain").code == 0
    else:
        deadline = time.monotonic() + 40
        while not (shell.folder / "out.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        shell.finish(process)
    assert [row["status"] for row in shell.rows("out.jsonl")] == ["succeeded"] * 4
    assert json.loads(shell("status", left, "--json").out)["state"] == "done"
    assert max(shell.meter()["billed_by_fingerprint"].values()) == 1


def test_a_job_that_a_person_has_to_mend_does_not_hold_up_the_others(shell: Shell) -> None:
    good = shell.run(shell.table(3, "good.jsonl"), "--json", "--detach", "-o", "good.out.jsonl").object["job"]
    bad = shell.run(shell.table(4, "bad.jsonl"), "--json", "--detach", provider="anthropic").object["job"]
    shell.env["ANTHROPIC_BASE_URL"] = "http://127.0.0.1:9/elsewhere"
    process = shell.start("worker")
    deadline = time.monotonic() + 20
    while not (shell.folder / "good.out.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    ran = shell.finish(process)
    assert f"{good} is done" in ran.err
    assert "ANTHROPIC_BASE_URL" in ran.err
    assert json.loads(shell("status", bad, "--json").out)["waiting"] == 4


def submit(shell: Shell, patch: pytest.MonkeyPatch, number: int, rows: int) -> str:
    """Record a job that nobody works on, as a program would that submits and is gone."""
    for name, value in shell.env.items():
        patch.setenv(name, value)
    table = shell.table(rows, f"rows-{number}.jsonl")
    with Service(Home.from_environment(shell.env)) as service:
        ask = Ask(
            input=Path(table),
            model="openai/gpt-4.1-mini",
            prompt=f"{number}: {{q}}",
            tags={"team": f"t{number % 2}"},
            output=shell.folder / f"out-{number}.jsonl",
        )
        return service.submit(service.draft(ask)).id


def test_two_workers_share_a_queue_that_is_too_small_for_all(
    shells: Shells, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = shells(limits=Limits(openai_enqueued_tokens=600))
    jobs = [submit(shell, monkeypatch, number, 20 + number) for number in range(6)]
    process = shell.start("worker", "--drain")
    ran = shell("worker", "--drain")
    other = shell.finish(process)
    assert (ran.code, other.code) == (0, 0), (ran.err, other.err)
    for number, job in enumerate(jobs):
        status = json.loads(shell("status", job, "--json").out)
        assert status["succeeded"] == 20 + number
        assert len(shell.rows(f"out-{number}.jsonl")) == 20 + number
    assert max(shell.meter()["billed_by_fingerprint"].values()) == 1
