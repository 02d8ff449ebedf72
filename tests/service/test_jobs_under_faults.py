"""Whole jobs against the emulator while it misbehaves. The meter is the witness, never our own books."""

import asyncio
import json
import os
import urllib.request
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from halfrate.base.errors import StorageError
from halfrate.core.job import JobState
from halfrate.service.jobs import Service

from .office import QUICK, Office

Offices = Callable[..., Office]


def call(path: str, method: str = "GET") -> Any:
    """Ask the emulator, as its user would with curl."""
    headers = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    request = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + path, headers=headers, method=method)  # noqa: S310
    with urllib.request.urlopen(request) as reply:  # noqa: S310
        return json.load(reply)


BOTH = pytest.mark.parametrize("provider", ["openai", "anthropic"])

# What may happen, and all the same every row is answered and none is paid for twice.
HARMLESS = [
    "row-error:rate=0.2,status=429",
    "row-error:rate=0.2,status=500",
    "row-missing:rate=0.1",
    "row-duplicate:rate=0.3",
    "row-unknown:rate=0.3",
    "row-status-zero:rate=0.1",
    "row-unicode:rate=0.5",
    "row-big:times=1,size=3000000",
    "no-shuffle",
    "last-line-cut",
    "batch-expire:times=1,done=0.5",
    "batch-expire:times=1,done=0",
    "batch-stuck:seconds=0.3,times=1",
    "status-unknown:seconds=0.2,times=1",
    "all-rows-fail:times=1,status=500",
    "create-lost:times=1",
    "create-error:times=1,status=500",
    "create-error:times=1,status=503",
    "create-refused:times=2,status=503",
    "create-refused:times=2,status=429",
    "poll-error:times=3,status=500",
    "rate-limit:on=any,times=3,retry_after=0.05",
    "rate-limit:on=create,times=2",
    "download-truncated:times=2",
    "list-stale:seconds=0.4",
    "not-found-after-create:seconds=0.2",
    "queue-full:times=2",
]


@BOTH
@pytest.mark.parametrize("fault", HARMLESS)
def test_every_row_is_answered_and_none_paid_twice(office: Offices, provider: str, fault: str) -> None:
    desk = office(provider, fault)
    desk.assert_sound(desk.run(desk.ask(60, max_attempts=8)))


@pytest.mark.parametrize(
    "fault",
    [
        "row-both-files:rate=0.3",
        "upload-reset:times=2",
        "file-not-ready:seconds=0.2",
        "queue-full:mode=create,times=2",
        "batch-fail:times=1,line=3,code=invalid_json_line",
        "counts-wrong:times=1",
    ],
)
def test_the_same_where_it_can_happen_at_openai_alone(office: Offices, fault: str) -> None:
    desk = office("openai", fault)
    answered = 59 if fault.startswith("batch-fail") else None  # line 3 is refused for good
    desk.assert_sound(desk.run(desk.ask(60, max_attempts=8)), answered=answered)


@BOTH
def test_all_at_once(office: Offices, provider: str) -> None:
    desk = office(
        provider,
        "row-error:rate=0.1,status=429",
        "row-missing:rate=0.05",
        "row-duplicate:rate=0.1",
        "row-unknown:rate=0.1",
        "batch-expire:times=1",
        "create-lost:times=1",
        "download-truncated:times=1",
        "poll-error:times=2",
    )
    report = desk.run(desk.ask(200, max_attempts=10))
    desk.assert_sound(report)
    assert report.duplicates
    assert report.unknown_lines


@BOTH
def test_a_lost_create_is_adopted_not_repeated(office: Offices, provider: str) -> None:
    desk = office(provider, "create-lost:times=1")
    desk.assert_sound(desk.run(desk.ask(20)))
    assert desk.meter()["creates_received"] == 1


@BOTH
def test_a_create_that_did_not_happen_is_sent_again_once_that_is_sure(office: Offices, provider: str) -> None:
    desk = office(
        provider, "create-refused:times=1,status=500", timing=msgspec.structs.replace(QUICK, settle=0.3)
    )
    desk.assert_sound(desk.run(desk.ask(20)))
    meter = desk.meter()
    assert meter["batches_created"] == 1


@BOTH
def test_rows_refused_for_good_stay_failed_and_cost_nothing(office: Offices, provider: str) -> None:
    desk = office(provider, "row-error:match=7 plus,status=400,sticky=true")
    report = desk.run(desk.ask(40))
    rows = desk.assert_sound(report, answered=36)  # 7, 17, 27, 37
    failed = [row for row in rows if row["status"] == "failed"]
    assert [row["n"] for row in failed] == [7, 17, 27, 37]
    assert all(row["answer"] is None and row["error"] and row["cost_usd"] == 0 for row in failed)
    assert report.attempts == 1
    assert report.job.state is JobState.DONE
    assert sum(count for _, count in report.errors) == 4


@BOTH
def test_retry_sends_again_what_did_not_succeed(office: Offices, provider: str) -> None:
    desk = office(provider, "row-error:match=7 plus,status=400,sticky=true")
    report = desk.run(desk.ask(40))
    desk.emulator.clear_faults()
    with Service(desk.home) as service:
        assert service.retry(report.job.id) == 1
    desk.assert_sound(desk.work(report.job))


@BOTH
@pytest.mark.parametrize("fault", ["row-malformed:rate=0.2", "row-no-id:rate=0.2"])
def test_a_row_that_cannot_be_read_is_not_bought_again(office: Offices, provider: str, fault: str) -> None:
    desk = office(provider, fault)
    report = desk.run(desk.ask(40))
    meter = desk.meter()
    assert meter["fingerprints_billed_again"] == 0
    assert meter["rows_billed"] == 40
    assert 0 < report.failed == report.malformed_lines
    assert report.succeeded + report.failed == 40


def test_an_unknown_model_stops_the_job_and_costs_nothing(office: Offices) -> None:
    desk = office("openai")
    report = desk.run(desk.ask(10, model="openai/gpt-99"))
    assert report.succeeded == 0
    assert report.failed == 10
    assert "gpt-99" in report.errors[0][0]
    assert desk.meter()["picodollars"] == 0
    assert report.attempts == 1


@BOTH
def test_cancel_keeps_what_is_finished(office: Offices, provider: str) -> None:
    desk = office(provider, "batch-stuck:seconds=600")
    job = desk.submit(desk.ask(50))
    with Service(desk.home) as service:
        asyncio.run(service.run(job.id, until_submitted=True))
        assert service.cancel(job.id) == 1
    desk.emulator.clear_faults()
    report = desk.work(job)
    meter = desk.meter()
    assert report.job.state is JobState.CANCELLED
    assert report.waiting == 0
    assert report.succeeded + report.cancelled == 50
    assert report.cost == meter["picodollars"]
    assert meter["batches_created"] == 1


def test_shards_are_cut_and_joined_in_order(office: Offices, monkeypatch: pytest.MonkeyPatch) -> None:
    from halfrate.providers.openai import OpenAI

    facts = OpenAI.capabilities
    small = msgspec.structs.replace(facts, limits=msgspec.structs.replace(facts.limits, rows=7))
    monkeypatch.setattr(OpenAI, "capabilities", small)
    desk = office("openai", "row-error:rate=0.2,status=500")
    report = desk.run(desk.ask(50, max_attempts=8))
    desk.assert_sound(report)
    assert desk.meter()["batches_created"] >= 8


def test_one_intent_at_a_time_where_batches_carry_no_name(
    office: Offices, monkeypatch: pytest.MonkeyPatch
) -> None:
    from halfrate.providers.anthropic import Anthropic

    facts = Anthropic.capabilities
    small = msgspec.structs.replace(facts, limits=msgspec.structs.replace(facts.limits, rows=10))
    monkeypatch.setattr(Anthropic, "capabilities", small)
    desk = office("anthropic", "create-lost:times=3", "batch-stuck:seconds=0.5,times=2")
    desk.assert_sound(desk.run(desk.ask(60)))
    assert desk.meter()["creates_received"] == 6


def test_results_that_were_deleted_at_the_provider_are_not_waited_for_and_not_bought_again(
    office: Offices,
) -> None:
    timing = msgspec.structs.replace(QUICK, missing_grace=0.3)
    desk = office("openai", "row-error:match=7 plus,status=400,sticky=true", timing=timing)
    job = desk.submit(desk.ask(20))
    with Service(desk.home) as service:
        asyncio.run(service.run(job.id, until_submitted=True))
    call(f"/files/{call('/batches')['data'][0]['output_file_id']}", "DELETE")
    report = desk.work(job)
    assert (report.succeeded, report.failed, report.waiting) == (0, 20, 0)
    rows = desk.output(job)
    gone = [row for row in rows if "keeps this row's result no longer" in row["error"]]
    # Of the others, which stand in the error file, all is known.
    assert [row["n"] for row in rows if row not in gone] == [7, 17]
    assert {row["cost_usd"] for row in gone} == {None}
    assert report.doubts == 18
    meter = desk.meter()
    assert (meter["rows_billed"], meter["batches_created"], meter["files_stored"]) == (18, 1, 0)


@BOTH
def test_rows_that_cannot_be_read_any_more_are_this_machine_s_trouble(office: Offices, provider: str) -> None:
    desk = office(provider)
    job = desk.submit(desk.ask(20))
    requests = desk.home.files(job.id).requests(0)
    aside = requests.rename(requests.with_suffix(".aside"))
    with pytest.raises(StorageError, match=r"cannot be read.*not sent"):
        desk.work(job)
    assert desk.meter()["batches_created"] == 0
    aside.rename(requests)
    desk.assert_sound(desk.work(job))


@pytest.mark.parametrize("paused_first", [True, False])
def test_a_process_that_works_hears_that_its_job_is_to_go_on(office: Offices, *, paused_first: bool) -> None:
    desk = office("openai", "row-refusal:rate=1")
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    job = desk.submit(desk.ask(60, schema=schema, max_attempts=3))
    with Service(desk.home) as working:
        assert working.job(job.id).keep_going is False
        if paused_first:
            # Most answers of its first batch are no good.
            asyncio.run(working.run(job.id))
            assert working.conclude(job.id).state is JobState.PAUSED
        with Service(desk.home) as elsewhere:
            assert elsewhere.resume(job.id, keep_going=True) == paused_first
            assert elsewhere.job(job.id).keep_going
        asyncio.run(working.run(job.id))
        done = working.conclude(job.id)
        assert (done.state, done.keep_going) == (JobState.DONE, True)
        assert working.report(job.id).failed == 60
    assert set(desk.meter()["billed_by_fingerprint"].values()) == {3}
