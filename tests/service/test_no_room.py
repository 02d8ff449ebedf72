"""A row that is larger than the whole queue of its model: it comes to an end, and keeps nobody else from theirs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from halfrate.core.job import Job
from halfrate.emulator import Limits
from halfrate.service.jobs import Service

from .office import Office

LIMITS = Limits(openai_enqueued_tokens=400)
ROWS = 20


def submitted(office: Office, long: dict[int, int], **options: Any) -> Job:
    """A job of short rows, and some with so many words."""
    texts = (f"What is {n}?" + " really" * long.get(n, 0) for n in range(ROWS))
    table = office.folder / "rows.jsonl"
    table.write_text("".join(json.dumps({"n": n, "q": text}) + "\n" for n, text in enumerate(texts)))
    return office.submit(office.ask(input=table, **options))


def outcomes(office: Office, job: Job) -> list[dict[str, Any]]:
    with Service(office.home) as service:
        path: Path = service.deliver(job.id, office.folder / "out.jsonl", "jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def billed(office: Office) -> list[int]:
    return list(office.emulator.meter.snapshot(ids=True)["billed_by_fingerprint"].values())


@pytest.mark.parametrize("late", [True, False])
def test_it_fails_for_good_and_the_others_are_answered(office: Callable[..., Office], late: bool) -> None:
    faults = [] if late else ["queue-full:mode=create,times=2"]
    here = office("openai", *faults, limits=Limits(openai_enqueued_tokens=4000))
    # By then enough was counted to be sure.
    job = submitted(here, {**dict.fromkeys(range(ROWS), 600), 15: 20_000})
    report = here.work(job)
    assert (report.succeeded, report.failed) == (ROWS - 1, 1)
    rows = outcomes(here, job)
    assert [row["n"] for row in rows if row["status"] == "failed"] == [15]
    assert "larger than the provider's queue for this model, which takes 4,000 tokens" in rows[15]["error"]
    assert rows[15]["cost_usd"] == 0
    assert billed(here) == [1] * (ROWS - 1)
    meter = here.emulator.meter.snapshot()
    assert report.cost == meter["picodollars"]
    assert meter["files_stored"] == 0


def test_it_is_tried_again_behind_the_others_where_it_might_fit(office: Callable[..., Office]) -> None:
    here = office("openai", limits=LIMITS)
    job = submitted(here, {0: 500}, max_attempts=2)
    report = here.work(job)
    assert (report.succeeded, report.failed) == (ROWS - 1, 1)
    rows = outcomes(here, job)
    assert "Either others fill it, or this row is too large" in rows[0]["error"]
    assert billed(here) == [1] * (ROWS - 1)


@pytest.mark.parametrize("allowed", [{"small_tails": "realtime"}, {"deadline": 1e6}])
def test_it_goes_in_real_time_where_that_is_allowed(
    office: Callable[..., Office], allowed: dict[str, Any]
) -> None:
    here = office("openai", limits=LIMITS)
    if "deadline" in allowed:
        with Service(here.home) as service:
            allowed = {"deadline": service.clock.now() + allowed["deadline"]}
    job = submitted(here, {7: 3000}, **allowed)
    report = here.work(job)
    assert (report.succeeded, report.failed, report.rescued) == (ROWS, 0, 1)
    assert billed(here) == [1] * ROWS
    assert report.cost == here.emulator.meter.snapshot()["picodollars"]
