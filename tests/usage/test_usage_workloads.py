"""Thirty days of twelve workloads: each is judged as docs/audit.md says, by what its log can show."""

import random
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from halfrate.base.money import PICO
from halfrate.core import audit as gathering
from halfrate.core import audit_judge as rules
from halfrate.core.audit_group import LATE, SOON
from halfrate.core.audit_judge import Verdict
from halfrate.service.audit import Report, audit

from .workloads import OF, WORKLOADS, WRITERS, Event, dollars, events, sums

WHOLE = ("gateway", "litellm", "langfuse")
THIRDS = ("otel", "helicone", "helicone_csv", "plain")


@pytest.fixture(scope="module")
def month() -> list[Event]:
    return list(events(1))


@pytest.fixture(scope="module")
def reports(month: list[Event], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Report]:
    """Of the month as a tool would log it; each is read once."""
    folder = tmp_path_factory.mktemp("reports")

    @cache
    def report(format_: str) -> Report:
        return audit([WRITERS[format_](month, folder / format_)])

    return report


@pytest.fixture(scope="module")
def third() -> list[Event]:
    return list(events(1, 0.34))


def judged(report: Report) -> dict[str, Verdict]:
    return {line.keys[0]: line.verdict for line in report.lines}


def wanted(format_: str) -> dict[str, Verdict]:
    return {one.job: one.verdict(format_) for one in WORKLOADS}


@pytest.mark.parametrize("format_", WHOLE)
def test_all_twelve_are_judged_as_documented(format_: str, reports: Callable[[str], Report]) -> None:
    report = reports(format_)
    assert report.by == ("job",)
    assert report.calls == 100_000
    assert judged(report) == wanted(format_)


@pytest.mark.parametrize("format_", THIRDS)
def test_so_they_are_by_the_logs_of_other_tools(format_: str, third: list[Event], tmp_path: Path) -> None:
    report = audit([WRITERS[format_](third, tmp_path / "log")])
    assert report.calls == len(third)
    assert judged(report) == wanted(format_)


def test_sums_by_the_hour_never_make_a_batch(month: list[Event], tmp_path: Path) -> None:
    report = audit(sums(month, tmp_path))
    assert report.by == ("key",)
    assert judged(report) == wanted("sums")


@pytest.mark.parametrize("seed", range(2, 5))
@pytest.mark.parametrize("format_", ["gateway", "litellm", "langfuse"])
def test_other_months_are_judged_alike(seed: int, format_: str, tmp_path: Path) -> None:
    # A third of the calls: what is judged are patterns, not amounts.
    assert judged(audit([WRITERS[format_](events(seed, 0.34), tmp_path / "log")])) == wanted(format_)


@pytest.mark.parametrize("format_", ["gateway", "litellm"])
def test_the_spend_is_what_the_provider_charges(
    format_: str, month: list[Event], reports: Callable[[str], Report]
) -> None:
    """Against prices that are typed in here, and none of the book's."""
    charged: dict[str, float] = {}
    for event in month:
        charged[event.job] = charged.get(event.job, 0.0) + dollars(event)
    report = reports(format_)
    for line in report.lines:
        assert line.found.spend is not None
        assert line.found.spend / PICO == pytest.approx(charged[line.keys[0]], rel=1e-9)
    assert report.days is not None
    whole = sum(charged.values()) * 30 / float(report.days)
    assert report.whole.spend is not None
    assert report.whole.spend / PICO == pytest.approx(whole, rel=1e-9)
    # All of these models are half the price in a batch, and the agent's cache is what a batch would lose.
    for line in report.lines:
        if OF[line.keys[0]].tier == "batch":
            assert line.monthly.saved is None
        elif line.keys[0] != "repo-agent":
            uncached = line.usage.cached == line.usage.write_5m == 0
            assert not uncached or (line.monthly.saved or 0) * 2 == pytest.approx(line.monthly.moving, abs=2)
    agent = next(line for line in report.lines if line.keys[0] == "repo-agent")
    assert (agent.monthly.saved or 0) < 0 < (agent.monthly.saved_cached or 0)


def test_teams_are_put_together_from_their_jobs(third: list[Event], tmp_path: Path) -> None:
    path = WRITERS["gateway"](third, tmp_path / "log")
    by_job, by_team = audit([path]), audit([path], by=["team"])
    assert by_team.whole == by_job.whole
    assert by_team.moved == by_job.moved
    assert by_team.asked == by_job.asked
    lines = {line.keys[0]: line for line in by_team.lines}
    assert {part.keys[1]: part.verdict for part in lines["platform"].parts} == {
        "repo-agent": Verdict.KEEP,
        "weekly-eval": Verdict.BATCH,
        "release-notes": Verdict.KEEP,
    }
    assert lines["platform"].verdict is Verdict.ASK
    assert lines["support"].verdict is Verdict.KEEP
    assert lines["catalogue"].verdict is Verdict.BATCH
    # Of the money that finance pays for real time, the console's is all.
    assert lines["finance"].verdict is Verdict.ASK


def test_the_order_of_the_log_does_not_matter_if_it_has_one(third: list[Event], tmp_path: Path) -> None:
    report = audit([WRITERS["gateway"](reversed(third), tmp_path / "log")])
    assert judged(report) == wanted("gateway")


def test_a_log_in_no_order_is_said_to_be_in_none(third: list[Event], tmp_path: Path) -> None:
    shuffled = random.Random(0).sample(third, len(third))
    report = audit([WRITERS["langfuse"](shuffled, tmp_path / "log")])
    assert any("not in order" in note for note in report.notes)
    verdicts = judged(report)
    assert Verdict.BATCH not in {
        verdicts[one.job] for one in WORKLOADS if one.verdict("langfuse") is Verdict.KEEP
    }


def test_the_page_has_the_same_verdicts() -> None:
    page = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    part = page.split("<!-- workloads: begin -->")[1].split("<!-- workloads: end -->")[0]
    columns: dict[str, tuple[str, ...]] = {
        "all": ("gateway", "plain"),
        "LiteLLM": ("litellm",),
        "Langfuse": ("langfuse",),
        "Helicone": ("helicone",),
        "Helicone CSV": ("helicone_csv",),
        "OpenTelemetry": ("otel",),
        "sums": ("sums",),
    }
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in part.strip().splitlines()]
    head, found = rows[0], rows[2:]
    short = {"batch": Verdict.BATCH, "ask": Verdict.ASK, "keep": Verdict.KEEP, "done": Verdict.DONE}
    assert [re.sub("`", "", row[0]) for row in found] == [one.job for one in WORKLOADS]
    for one, row in zip(WORKLOADS, found, strict=True):
        for name, formats in columns.items():
            cell = row[head.index(name)]
            assert {one.verdict(format_) for format_ in formats} == {short[cell]}, (one.job, name)


def test_every_writer_is_judged() -> None:
    assert {*WHOLE, *THIRDS} == set(WRITERS)


def test_the_page_has_the_thresholds_of_the_code() -> None:
    text = " ".join((Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8").split())
    said = {
        f"{rules.ALREADY:.0%} of the calls, and {rules.ALREADY_SPENT:.0%} of the spend, are in batches",
        f"would save less than ${rules.WORTH // PICO} a month; without prices, fewer than {rules.FEW} calls",
        f"want an answer within {SOON / 60:.0f} minutes",
        f"{rules.LATE_ENOUGH:.0%} of the calls may take an hour or more",
        f"{rules.GREW:.0%} of the calls, and {rules.GREW_OF_CARRIED:.0%} of those that follow another",
        f"within {gathering.TURN / 60:.0f} minutes in their session",
        f"{rules.STREAMED_MOST:.0%} of the answers are streamed",
        f"{rules.FOLLOWED:.0%} begin within {gathering.STEP:.0f} s after another call",
        f"sessions have {rules.MOST_STEPS:.0f} calls at most",
        f"{rules.TOOLED:.0%} offer tools",
        f"{rules.PEOPLE} end users or more are named",
        f"nine in ten answers within {rules.QUICK:.0f} s",
        f"{rules.RUN_SHARE:.0%} of it within {rules.RUN_HOURS:.0%} of the log's hours, {rules.RUN_CALLS} calls in each",
        f"within {gathering.PACE:.0f} s of the one before",
        f"if {rules.STREAMED_SOME:.0%} are streamed",
        f"within the same {rules.TIMER_MINUTES} minutes of the hour",
        f"{rules.QUIET:.0%} of it or more in the quietest {rules.QUIET_HOURS} hours",
        f"fewer than {rules.PATTERN_CALLS} calls, or less than {rules.PATTERN_HOURS} hours of log",
        f"of which {rules.ALIKE:.0%} of the spend has the same verdict",
    }
    assert {words for words in said if words not in text} == set()
    assert LATE == 3600
    assert rules.STREAMED == 0.2
    assert rules.DEADLINES == rules.SAID == rules.CLOSE == 0.5
