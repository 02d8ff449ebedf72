"""Budgets, as somebody at a terminal sets them and is stopped by them."""

import json
from decimal import Decimal
from typing import Any

import pytest

from halfrate.cli.text import held_lines
from halfrate.core.budgets import Budget, Standing
from halfrate.core.job import Forecast

from ..store.records import a_job
from .shell import Shell


def standing(shell: Shell, scope: str) -> dict[str, Any]:
    return next(one for one in json.loads(shell("budget", "--json").out) if one["budget"] == scope)


def test_what_is_spent_is_what_the_meter_counted(shell: Shell) -> None:
    assert "no budgets" in shell("budget").out
    shown = shell("budget", "team=search", "--stop", "5", "--warn", "$4.50").out
    assert "team=search  month" in shown
    assert shell.run(shell.table(), "--tag", "team=search", "--json").code == 0
    assert shell.run(shell.table(4, "others.jsonl"), "--tag", "team=ads", "--json").code == 0
    assert shell("budget", "all", "--stop", "5", "--json").code == 0
    whole = Decimal(shell.meter()["picodollars"]) / 10**12
    assert Decimal(standing(shell, "all")["spent_usd"]) == whole
    mine = standing(shell, "team=search")
    assert 0 < Decimal(mine["spent_usd"]) < whole
    assert Decimal(mine["left_usd"]) == 5 - Decimal(mine["spent_usd"])
    assert (mine["promised_usd"], mine["unknown"]) == ("0", 0)


def test_a_job_that_would_cross_a_budget_is_refused_before_anything_is_sent(shell: Shell) -> None:
    shell("budget", "team=search", "--stop", "0.000001", "--every", "day")
    ran = shell.run(shell.table(), "--tag", "team=search")
    assert ran.code == 2
    assert "a budget stops it" in ran.err
    assert "team=search, a day" in ran.err
    assert "Nothing was sent" in ran.err
    assert shell.untouched()
    assert json.loads(shell("jobs", "--json").out) == []
    assert list((shell.home / "jobs").iterdir()) == []
    assert shell.run(shell.table(), "--tag", "team=ads").code == 0


def test_an_unknown_price_cannot_be_held_against_a_budget(shell: Shell) -> None:
    shell("budget", "all", "--stop", "1000")
    ran = shell("run", shell.table(), "--model", "deepinfra/nobody-knows", "--prompt", "{q}")
    assert ran.code == 2
    assert shell.untouched()


def test_a_warning_says_how_it_would_stand_and_lets_the_job_run(shell: Shell) -> None:
    shell("budget", "all", "--warn", "0.000001")
    ran = shell.run(shell.table())
    assert ran.code == 0
    assert "Budget warning: with this job" in ran.err
    assert "warning" in shell("budget").out


def test_a_job_that_may_wait_goes_on_when_there_is_room(shell: Shell) -> None:
    table = shell.table(400)
    other = shell.file("other.jsonl", '{"q": "What is money?"}\n')
    assert shell.run(other, "--tag", "team=search").code == 0
    asked = ("forecast", table, "--model", "openai/gpt-4.1-mini", "--prompt", "{q}", "--json")
    price = shell(*asked).object["tiers"]["batch"]["cost_usd"]
    # Room for all but what was paid already.
    shell("budget", "team=search", "--stop", price)
    ran = shell.run(table, "--tag", "team=search")
    assert "--over-budget wait" in ran.err
    words = ("run", table, "--model", "openai/gpt-4.1-mini", "--prompt", "{q}", "--tag", "team=search")
    process = shell.start(*words, "--over-budget", "wait")
    try:
        assert process.stderr is not None
        said = ""
        while "Waiting for room in a budget" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        (job,) = (one for one in json.loads(shell("jobs", "--json").out) if one["waiting"])
        assert "Waiting for room in a budget: $" in shell("status", job["job"]).out
        assert shell("status", job["job"], "--json").object["held_by_budgets"] == ["team=search, a month"]
        sent = shell.meter()["rows_received"]
        shell("budget", "team=search", "--stop", "5")
    finally:
        ran = shell.finish(process)
    assert ran.code == 0, ran.err
    assert (sent, shell.meter()["rows_received"]) == (1, 401)


def test_what_has_no_price_waits_for_no_room_but_for_a_price() -> None:
    held = Standing(budget=Budget(name="team", value="search", stop=10**12), spent=0, promised=0)
    assert held_lines([held], a_job(forecast=Forecast(1, 1, 5, 10)))[0].startswith(
        "Waiting for room in a budget: "
    )
    (line,) = held_lines([held], a_job(forecast=Forecast(1, 1, None, None)))
    assert "is unknown and a budget stops that" in line
    assert "team=search, a month" in line


def test_a_budget_can_be_forgotten(shell: Shell) -> None:
    shell("budget", "team=search", "--stop", "5", "--every", "week")
    assert shell("budget", "team=search", "--forget").code == 2
    assert "no budgets" in shell("budget", "team=search", "--forget", "--every", "week").out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("search", "--stop", "5"), "nobody's budget"),
        (("team=", "--stop", "5"), "nobody's budget"),
        (("team=search",), "needs an amount"),
        (("team=search", "--stop", "5", "--warn", "6"), "too late"),
        (("team=search", "--stop", "lots"), "not an amount in USD"),
        (("--stop", "5"), "Say whose budget"),
        (("team=search", "--forget", "--stop", "5"), "--forget takes no amount"),
    ],
)
def test_what_is_no_budget_is_refused(shell: Shell, words: tuple[str, ...], why: str) -> None:
    ran = shell("budget", *words)
    assert ran.code == 2
    assert why in ran.err
    assert "no budgets" in shell("budget").out


def test_nobody_is_asked_about_a_job_that_a_budget_refuses(shell: Shell) -> None:
    shell("budget", "all", "--stop", "0.000001")
    ran = shell.run(shell.table())
    assert "a budget stops it" in ran.err
    # The plan ends in a question; not even the plan is shown.
    assert "rows of rows.jsonl" not in ran.err
    assert list((shell.home / "jobs").iterdir()) == []
