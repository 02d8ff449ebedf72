"""Jobs that ask for real time from the start, and accounts that have nothing else."""

from collections.abc import Callable

import pytest

from halfrate.base.errors import UsageError
from halfrate.core.job import JobState
from halfrate.service.jobs import Service

from .office import Office

Offices = Callable[..., Office]


@pytest.mark.parametrize(
    "provider", ["openai", "anthropic", "groq", "together", "novita", "voyage", "zhipu", "azure"]
)
def test_a_job_in_real_time_makes_no_batch_and_keeps_its_books(office: Offices, provider: str) -> None:
    desk = office(provider, "realtime-error:rate=0.1,status=500")
    report = desk.run(desk.ask(40, tier="standard"))
    desk.assert_sound(report)
    meter = desk.meter()
    assert meter["batches_created"] == 0
    assert meter["rows_by_tier"] == {"standard": 40}
    assert report.job.tier == "standard"
    assert report.cost == report.realtime_cost


def test_flex_is_paid_as_a_batch(office: Offices) -> None:
    desk = office("openai")
    report = desk.run(desk.ask(20, tier="flex", model="openai/gpt-5-mini"))
    desk.assert_sound(report)
    assert desk.meter()["rows_by_tier"] == {"flex": 20}
    assert report.cost is not None
    assert report.realtime_cost == 2 * report.cost


def test_a_model_without_the_tier_stops_the_job_and_says_so(office: Offices) -> None:
    desk = office("openai")
    report = desk.run(desk.ask(20, tier="flex"))
    assert report.succeeded == 0
    assert desk.meter()["realtime_billed"] == 0
    assert report.job.state is not JobState.OPEN
    assert any("service_tier" in text for text in report.stopped)
    assert {row["status"] for row in desk.output(report.job)} == {"failed"}


def test_an_endpoint_of_ones_own(office: Offices, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = office("openai")
    monkeypatch.setenv("OPENAI_COMPATIBLE_BASE_URL", f"{desk.emulator_url}/v1")
    monkeypatch.setenv("OPENAI_COMPATIBLE_API_KEY", "key-1")
    report = desk.run(desk.ask(30, model="openai-compatible/gpt-4.1-mini"))
    rows = desk.output(report.job)
    assert [row["n"] for row in rows] == list(range(30))
    assert all(row["answer"] for row in rows)
    assert desk.meter()["rows_by_tier"] == {"standard": 30}
    assert report.job.tier == "standard"
    # Nobody knows what it costs to run a model of one's own: unknown, not nothing.
    assert report.cost is None
    assert report.usage.output == desk.meter()["tokens"]["output"]


def test_a_retry_stays_in_the_tier(office: Offices) -> None:
    desk = office("openai", "realtime-error:status=400,times=3")
    report = desk.run(desk.ask(20, tier="standard"))
    assert report.succeeded == 17
    with Service(desk.home) as service:
        assert service.retry(report.job.id) == 1
    desk.assert_sound(desk.work(report.job))
    assert desk.meter()["rows_by_tier"] == {"standard": 20}


def test_pause_and_resume_stay_in_the_tier(office: Offices) -> None:
    desk = office("openai")
    job = desk.submit(desk.ask(20, tier="standard"))
    with Service(desk.home) as service:
        service.pause(job.id)
    report = desk.work(job)
    assert report.succeeded == 0
    with Service(desk.home) as service:
        assert service.job(job.id).state is JobState.PAUSED
        service.resume(job.id)
    desk.assert_sound(desk.work(job))
    assert desk.meter()["rows_by_tier"] == {"standard": 20}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "anthropic/claude-haiku-4-5", "tier": "flex"}, "serves no tier 'flex': standard"),
        ({"model": "openai-compatible/llama", "tier": "batch"}, "There are no batches"),
        ({"options": {"window": "48h"}}, "has no option 'window'"),
        ({"model": "groq/llama-3.3-70b-versatile", "options": {"window": "9h"}}, "is one of 24h, 48h"),
    ],
)
def test_what_no_provider_serves_is_refused(office: Offices, options: dict[str, object], words: str) -> None:
    desk = office("openai")
    with pytest.raises(UsageError, match=words):
        desk.submit(desk.ask(3, **options))
    assert desk.meter()["creates_received"] == desk.meter()["realtime_received"] == 0


def test_a_window_is_asked_for(office: Offices) -> None:
    desk = office("groq")
    desk.assert_sound(desk.run(desk.ask(10, options={"window": "7d"})))
