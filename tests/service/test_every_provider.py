"""One scenario, every provider: the same promises, held to the same witness."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from halfrate.core.job import JobState
from halfrate.core.lifecycle import Shard
from halfrate.core.pricing import usage_cost
from halfrate.emulator import CacheModel
from halfrate.providers.base import BatchView, Intent
from halfrate.providers.registry import adapter_class
from halfrate.service.jobs import Service
from halfrate.service.prices import set_price

from .office import Office
from .providers import MODELS

Offices = Callable[..., Office]
# Where nothing is cached that is not marked.
MARKED: dict[str, dict[str, Any]] = {"anthropic": {"cache": "1h"}}
EVERY = pytest.mark.parametrize("provider", MODELS)


class Crash(BaseException):
    """The process ends here."""


@EVERY
def test_every_row_is_answered_in_order_and_paid_once(office: Offices, provider: str) -> None:
    desk = office(provider)
    report = desk.run(desk.ask(120))
    desk.assert_sound(report)
    assert report.cost
    assert report.attempts == 1
    assert desk.meter()["batches_created_by_provider"] == {provider: 1}


@EVERY
def test_rows_that_fail_in_passing_are_sent_again_and_those_refused_are_not(
    office: Offices, provider: str
) -> None:
    desk = office(provider, "row-error:rate=0.2,status=500", "row-error:match=7 plus,status=400,sticky=true")
    report = desk.run(desk.ask(40, max_attempts=8))
    rows = desk.assert_sound(report, answered=36)
    assert [row["n"] for row in rows if row["status"] == "failed"] == [7, 17, 27, 37]
    assert report.attempts > 1


@EVERY
def test_what_a_batch_finished_before_its_window_ended_is_kept(office: Offices, provider: str) -> None:
    desk = office(provider, "batch-expire:times=1,done=0.5")
    report = desk.run(desk.ask(60))
    desk.assert_sound(report)
    assert report.attempts == 2


# Their emulation has no prompt cache, as they themselves have none in batches or say nothing of it.
UNCACHED = {"bedrock", "cohere", "voyage"}


# Nobody says what a cached token of theirs costs: then it is unknown, unless somebody does.
CACHED_PRICES = {
    "groq": {"input": "0.295", "output": "0.395", "cached": "0.295"},
    "together": {"input": "0.44", "output": "0.44", "cached": "0.44"},
}


@EVERY
def test_cached_tokens_and_what_a_batch_finished_before_its_end_are_paid_at_their_price(
    office: Offices, provider: str
) -> None:
    cache = CacheModel(hit_rate=0.7, within_batch=True)
    # Where a few rows go first to warm the cache, theirs is the first batch that ends too early.
    times = 2 if provider in MARKED else 1
    desk = office(provider, f"batch-expire:times={times},done=0.5", cache=cache)
    if provider in CACHED_PRICES:
        _, _, model = MODELS[provider].partition("/")
        set_price(provider, model, "batch", CACHED_PRICES[provider])
    system = None if provider in {"cohere", "voyage"} else "Read the following rules with care. " * 500
    report = desk.run(desk.ask(60, system=system, **MARKED.get(provider, {})))
    desk.assert_sound(report)
    assert report.attempts == 2
    assert report.usage.cached == desk.meter()["tokens"]["cached"]
    assert (report.usage.cached > 0) == (provider not in UNCACHED)


LONG = {
    "openai": "openai/gpt-5.6-luna",
    "anthropic": "anthropic/claude-sonnet-4-5",
    "gemini": "gemini/gemini-2.5-pro",
    "vertex": "vertex/gemini-2.5-pro",
    "xai": "xai/grok-4.3",
}
"""Models that cost more above so many tokens of input."""


@pytest.mark.parametrize("provider", LONG)
def test_each_long_request_is_paid_at_the_price_of_long_ones(office: Offices, provider: str) -> None:
    desk = office(
        provider,
        "batch-expire:times=1,done=0.5",
        "row-error:rate=0.2,status=500",
        cache=CacheModel(hit_rate=0.5, within_batch=True),
    )
    path = desk.folder / "rows.jsonl"
    # Twelve short and four long, of 300,000 tokens each.
    with path.open("w") as file:
        for n in range(16):
            thought = "Think of it. " * (100_000 if n % 4 == 3 else 1)
            file.write(json.dumps({"n": n, "q": f"What is {n} plus {n}? {thought}"}) + "\n")
    report = desk.run(desk.ask(input=path, model=LONG[provider], max_attempts=8))
    desk.assert_sound(report)
    (price,) = report.job.prices.batch.values()
    assert price is not None
    assert report.cost is not None
    at_the_price_of_short_ones = usage_cost(report.usage, price.rates)
    assert at_the_price_of_short_ones is not None
    assert report.cost > 1.4 * at_the_price_of_short_ones


@EVERY
def test_a_create_whose_reply_is_lost_is_adopted(office: Offices, provider: str) -> None:
    desk = office(provider, "create-lost:times=1")
    desk.assert_sound(desk.run(desk.ask(40)))
    assert desk.meter()["batches_created"] == 1


@EVERY
def test_a_crash_before_the_id_is_saved_costs_nothing(
    office: Offices, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = office(provider)
    job = desk.submit(desk.ask(40))
    adapter: Any = adapter_class(provider)
    create = adapter.create

    async def crashing(self: Any, intent: Intent) -> BatchView:
        await create(self, intent)
        raise Crash

    monkeypatch.setattr(adapter, "create", crashing)
    with pytest.raises(Crash), Service(desk.home) as service:
        asyncio.run(service.run(job.id))
    monkeypatch.setattr(adapter, "create", create)
    desk.assert_sound(desk.work(job))
    assert desk.meter()["batches_created"] == 1


def test_a_model_that_xai_takes_no_batches_of_is_not_tried_again_and_again(office: Offices) -> None:
    desk = office("xai")
    report = desk.run(desk.ask(40, model="xai/grok-4.6"))
    assert report.succeeded == 0
    assert report.attempts == 1
    assert report.failed == 40


@EVERY
@pytest.mark.parametrize("fault", ["row-malformed:rate=0.2", "row-no-id:rate=0.2", "row-duplicate:rate=0.2"])
def test_results_that_make_no_sense_are_not_bought_again(office: Offices, provider: str, fault: str) -> None:
    desk = office(provider, fault)
    report = desk.run(desk.ask(40))
    meter = desk.meter()
    assert meter["fingerprints_billed_again"] == 0
    assert meter["files_stored"] == 0
    # What a broken line would have said is not known, and so not what it cost.
    assert report.cost is not None
    assert report.cost <= meter["picodollars"]
    assert report.succeeded + report.failed == 40
    assert [row["n"] for row in desk.output(report.job)] == list(range(40))


@EVERY
def test_a_full_queue_is_waited_for(office: Offices, provider: str) -> None:
    desk = office(provider, "queue-full:times=2")
    report = desk.run(desk.ask(40))
    desk.assert_sound(report)
    assert report.attempts == 1


@EVERY
def test_a_download_that_ends_early_is_fetched_again(office: Offices, provider: str) -> None:
    desk = office(provider, "download-truncated:times=2")
    desk.assert_sound(desk.run(desk.ask(60)))


@EVERY
def test_a_cancelled_job_keeps_and_accounts_for_what_was_finished(office: Offices, provider: str) -> None:
    desk = office(provider, "batch-stuck:seconds=3600,times=1")
    job = desk.submit(desk.ask(40))

    async def cancelled(service: Service) -> None:
        begun = asyncio.Event()

        def stepped(shard: Shard) -> None:
            if shard.refs.batch_id:
                begun.set()

        running = asyncio.create_task(service.run(job.id, on_step=stepped))
        await begun.wait()
        service.cancel(job.id)
        await running

    with Service(desk.home) as service:
        asyncio.run(cancelled(service))
        assert service.conclude(job.id).state is JobState.CANCELLED
        report = service.report(job.id)
    desk.assert_sound(report, answered=report.succeeded)
    assert report.succeeded + report.cancelled == 40
