"""Pausing, going on, and the limits of queues, as somebody at a terminal meets them."""

import json
from collections.abc import Callable
from decimal import Decimal

import pytest

from halfrate.emulator import Limits, Pace

from .shell import Shell

Shells = Callable[..., Shell]
SCHEMA = json.dumps({"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]})


def test_a_paused_job_sends_nothing_more_until_it_is_resumed(shells: Shells) -> None:
    shell = shells("row-error:status=500,rate=0.5,times=10")
    ran = shell.run(shell.table(40), "--json", "--detach", "-o", "out.jsonl")
    job = ran.object["job"]
    paused = shell("pause", job)
    assert paused.code == 0
    assert f"halfrate resume {job}" in paused.err
    assert "paused already" in shell("pause", job).err
    creates = shell.meter()["creates_received"]
    stopped = shell("attach", job)
    assert stopped.code == 130
    assert f"Job {job} is paused." in stopped.err
    assert "rows are not sent" in stopped.err
    assert shell.meter()["creates_received"] == creates
    assert json.loads(shell("status", job, "--json").out)["state"] == "paused"
    resumed = shell("resume", job, "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.object["succeeded"] == 40
    assert len(shell.rows("out.jsonl")) == 40
    meter = shell.meter()
    assert max(meter["billed_by_fingerprint"].values()) == 1


def test_a_paused_job_can_be_given_up(shells: Shells) -> None:
    shell = shells("row-error:status=500,rate=0.5,times=10")
    job = shell.run(shell.table(40), "--json", "--detach").object["job"]
    shell("pause", job)
    shell("attach", job)
    gone = shell("cancel", job, "--json")
    assert gone.code == 3
    assert gone.object["waiting"] == 0
    assert gone.object["state"] == "cancelled"


def test_a_finished_job_has_nothing_to_pause(shell: Shell) -> None:
    job = shell.run(shell.table(3), "--json").object["job"]
    assert "no row of it is waiting" in shell("pause", job).err
    assert shell("resume", job, "--json").object["succeeded"] == 3


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_answers_that_are_never_valid_do_not_burn_the_budget(shells: Shells, provider: str) -> None:
    shell = shells("row-refusal:rate=1")
    shell.file("schema.json", SCHEMA)
    ran = shell.run(shell.table(80), "--schema", "schema.json", "--attempts", "5", provider=provider)
    assert ran.code == 3
    assert "is paused: 80 of the 80 rows of one batch failed" in ran.err
    assert "halfrate resume" in ran.err
    assert "--keep-going" in ran.err
    # Each row was asked once, not five times.
    assert max(shell.meter()["billed_by_fingerprint"].values()) == 1


def test_whoever_insists_goes_on(shells: Shells) -> None:
    shell = shells("row-refusal:rate=1")
    shell.file("schema.json", SCHEMA)
    ran = shell.run(shell.table(60), "--schema", "schema.json", "--attempts", "3", "--keep-going", "--json")
    assert ran.code == 3
    assert ran.object["failed"] == 60
    assert set(shell.meter()["billed_by_fingerprint"].values()) == {3}


def test_limits_are_shown_set_and_forgotten(shell: Shell) -> None:
    assert "No limit is known" in shell("quota").out
    shown = shell("quota", "openai/gpt-4.1-mini", "--tokens", "2,000,000")
    assert shown.code == 0
    assert "openai/gpt-4.1-mini" in shown.out
    assert "2,000,000" in shown.out
    listed = json.loads(shell("quota", "--json").out)
    assert [(item["model"], item["limit"], item["most"], item["source"]) for item in listed] == [
        ("gpt-4.1-mini", "tokens", 2_000_000, "set")
    ]
    assert "No limit is known" in shell("quota", "openai/gpt-4.1-mini", "--tokens", "forget").out


@pytest.mark.parametrize(
    "words",
    [
        ("openai/gpt-4.1-mini",),
        ("--tokens", "5"),
        ("openai/gpt-4.1-mini", "--tokens", "0"),
        ("openai/gpt-4.1-mini", "--tokens", "-4"),
        ("openai/gpt-4.1-mini", "--tokens", "many"),
        ("nobody/model", "--tokens", "5"),
    ],
)
def test_a_limit_that_makes_no_sense(shell: Shell, words: tuple[str, ...]) -> None:
    ran = shell("quota", *words)
    assert ran.code == 2
    assert ran.err.startswith("halfrate: ")
    assert "Traceback" not in ran.err


def test_a_limit_that_is_set_is_kept_from_the_first_batch_on(shells: Shells) -> None:
    limit = 1_000
    shell = shells(limits=Limits(openai_enqueued_tokens=limit))
    shell("quota", "openai/gpt-4.1-mini", "--tokens", str(limit))
    ran = shell.run(shell.table(400), "--json")
    assert ran.code == 0, ran.err
    assert ran.object["succeeded"] == 400
    meter = shell.meter()
    assert meter["batches_failed"] == 0
    assert meter["batches_created"] > 2
    assert max(meter["billed_by_fingerprint"].values()) == 1


def test_a_limit_that_nobody_knew_is_learned_from_the_first_refusal(shells: Shells) -> None:
    shell = shells(limits=Limits(openai_enqueued_tokens=1_000))
    ran = shell.run(shell.table(400), "--json")
    assert ran.code == 0, ran.err
    assert ran.object["succeeded"] == 400
    known = json.loads(shell("quota", "--json").out)
    assert [(item["most"], item["source"]) for item in known if item["limit"] == "tokens"] == [
        (1_000, "told")
    ]
    assert shell.meter()["batches_failed"] <= 3


def test_a_job_says_when_it_should_be_finished_and_how_its_deadline_stands(shells: Shells) -> None:
    shell = shells(pace=Pace(queue=40_000))
    job = shell.run(shell.table(30), "--deadline", "30h", "--detach", "--json").object["job"]
    said = shell("status", job).out
    assert "Expected about" in said
    assert "Needed by" in said
    told = json.loads(shell("status", job, "--json").out)
    assert told["deadline"] < told["expected"]["p50"] + 30 * 3600
    assert 0.9 < told["expected"]["in_time"] <= 1
    assert told["expected"]["p50"] < told["expected"]["p90"]


def test_a_deadline_too_near_for_a_batch_is_kept_in_real_time_and_paid_as_such(shell: Shell) -> None:
    ran = shell.run(shell.table(30), "--deadline", "3m", "-o", "out.jsonl")
    assert ran.code == 0
    assert "30 rows were run in real time" in ran.err
    meter = shell.meter()
    assert meter["batches_created"] == 0
    lines = json.loads(shell("cost", "--by", "tier", "--json").out)
    assert [(line["by"], line["rows"]) for line in lines] == [({"tier": "standard"}, 30)]
    spent = sum(Decimal(str(row["cost_usd"])) for row in shell.rows("out.jsonl"))
    assert spent * 10**12 == meter["picodollars"]


def test_a_limit_on_the_cost_counts_with_real_time_where_there_is_a_deadline(shell: Shell) -> None:
    table = shell.table(1000)
    most = ("--max-tokens", "100", "--max-cost", "0.10")
    assert shell.run(table, *most, "--deadline", "8h").code == 2
    assert shell.untouched()
    assert shell.run(table, *most, "--deadline", "8h", "--no-rescue").code == 0
