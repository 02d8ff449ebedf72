"""Realtime runs in virtual time, with the emulator's meter for a witness."""

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from halfrate.base.errors import HELD_UP, UNREACHABLE, Refused, StorageError, UsageError
from halfrate.base.results import Kind
from halfrate.base.types import JobPrices, Price, Rates
from halfrate.core.pacing import Load, Pacing
from halfrate.core.pricing import JobPricing, cost
from halfrate.emulator import Limits, Pace
from halfrate.engine.realtime import Patience, Tally
from halfrate.providers.base import Blame, CallRefused
from halfrate.rows.collect import Collector, RecordFormat
from halfrate.rows.journal import State
from halfrate.rows.outcomes import OutcomeFile, OutcomeWriter

from .virtual import Shard, World

Build = Callable[..., World]
USUAL = Pace(realtime=2.0, realtime_spread=0.5)


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    # No power cuts here, and a sync takes its time in the real world.
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # pyright: ignore[reportUnknownLambdaType]
    made: list[World] = []

    def make(**settings: Any) -> World:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        world = World(folder, **settings)
        made.append(world)
        return world

    yield make
    for world in made:
        world.close()


def done(tally: Tally) -> tuple[int, int, int, int, int]:
    return tally.answered, tally.failed, tally.passing, tally.in_doubt, tally.unsent


def collected(world: World, shard: Shard) -> list[Kind]:
    """The journal through the collector, as a downloaded result file goes."""
    target = world.folder / "outcomes"
    prices = JobPrices({world.model: None}, {world.model: None})
    with OutcomeWriter(target, shard.rows) as writer:
        reader = world.adapter.line_reader(world.endpoint, shard.prefix)
        collector = Collector(writer, reader, JobPricing(prices), RecordFormat({}), first_row=0)
        collector.read(world.folder / f"replies-{shard.number}")
        found = collector.finish()
        writer.commit()
    assert (found.malformed, found.unknown, found.duplicates) == (0, 0, 0)
    with OutcomeFile(target) as outcomes:
        return [Kind(outcomes.kind(slot)) for slot in range(shard.rows)]


# ---------------------------------------------------------------- all is well


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_every_row_is_answered_and_billed_once(build: Build, provider: str) -> None:
    world = build(provider=provider, pace=USUAL)
    shard = world.shard(300)
    tally = world.go(shard.run())
    assert done(tally) == (300, 0, 0, 0, 0)
    assert (tally.calls, tally.refused, tally.doubts, tally.settled) == (300, 0, 0, 300)
    assert tally.rows_per_second == pytest.approx(300 / tally.seconds)
    meter = world.meter()
    assert (meter["realtime_billed"], meter["realtime_billed_again"]) == (300, 0)
    assert collected(world, shard) == [Kind.SUCCEEDED] * 300
    # There is nothing left to do.
    again = world.go(shard.run())
    assert (done(again), again.calls, again.settled) == ((0, 0, 0, 0, 0), 0, 300)


def test_what_rows_cost_is_told_by_the_tier_they_were_served_in(build: Build) -> None:
    world = build(faults=["tier-changed:rate=0.3"])
    shard = world.shard(100, tier="flex")
    tally = world.go(shard.run())
    assert set(tally.tiers) == {"flex", "standard"}
    assert sum(tally.tiers.values()) == 100
    # $ per million tokens of gpt-5-mini: 0.25 and 2 in real time, half of it in flex.
    prices = {
        "standard": Price(model="m", tier="standard", rates=Rates(input=250_000, output=2_000_000)),
        "flex": Price(model="m", tier="flex", rates=Rates(input=125_000, output=1_000_000)),
    }
    spent = dict.fromkeys(prices, 0)
    reader = world.adapter.line_reader("chat", shard.prefix)
    for line in (world.folder / "replies-0").read_bytes().splitlines(keepends=True):
        tier = world.adapter.tier_of(line)
        tokens = reader.general(line).tokens
        assert tokens is not None
        spent[tier] += cost(tokens, prices[tier]) or 0
    assert spent == world.meter()["picodollars_by_tier"]


def test_rows_leave_in_any_order_and_are_held_only_while_they_are_open(build: Build) -> None:
    world = build(pacing=Pacing(first=3, most=3))
    shard = world.shard(50)
    tally = world.go(shard.run())
    # Three at a time, a second each.
    assert tally.seconds == pytest.approx(50 / 3, abs=1.5)


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize("burst", [60.0, 1.0])
@pytest.mark.parametrize(("provider", "limit"), [("openai", 300), ("openai", 60), ("anthropic", 300)])
def test_a_limit_by_the_minute_is_used_without_storms(
    build: Build, provider: str, limit: int, burst: float
) -> None:
    limits = Limits(
        openai_requests_per_minute=limit, anthropic_requests_per_minute=limit, burst_seconds=burst
    )
    world = build(provider=provider, limits=limits, pace=USUAL)
    rows = limit * 5
    tally = world.go(world.shard(rows).run())
    assert done(tally) == (rows, 0, 0, 0, 0)
    refused = sum(world.meter()["realtime_refused"].values())
    assert refused == tally.refused
    # Only the first few leave before anybody has said how many may.
    assert refused <= 4
    # From the second minute on, of what the limit allows:
    start = world.left[0]
    used = [sum(start + 60 * n <= at < start + 60 * (n + 1) for at in world.left) for n in range(1, 4)]
    assert min(used) >= 0.95 * limit
    assert max(used) <= limit


@pytest.mark.parametrize(("weight", "name"), [(1, "right"), (0.1, "too low"), (10, "too high")])
def test_a_limit_of_tokens_is_used_however_bad_the_estimate(build: Build, weight: float, name: str) -> None:
    world = build(limits=Limits(openai_tokens_per_minute=60_000), pace=USUAL)

    # A call may be answered with 200 tokens, and counts as so many: 300 a minute.
    def load(body: bytes) -> Load:
        return Load(0, int(200 * weight))

    shard = world.shard(1_500, max_tokens=200, load=load)
    tally = world.go(shard.run())
    assert done(tally) == (1_500, 0, 0, 0, 0)
    assert tally.refused <= 0.02 * tally.calls, name
    start = world.left[0]
    used = [sum(start + 60 * n <= at < start + 60 * (n + 1) for at in world.left) for n in range(1, 4)]
    assert min(used) >= 0.9 * 300, name


def test_shards_of_one_model_share_one_limiter(build: Build) -> None:
    world = build(limits=Limits(openai_requests_per_minute=300), pace=USUAL)
    shards = [world.shard(300, number=number) for number in range(4)]

    async def all_of_them() -> list[Tally]:
        return await asyncio.gather(*(shard.run() for shard in shards))

    tallies = world.go(all_of_them())
    assert [done(tally) for tally in tallies] == [(300, 0, 0, 0, 0)] * 4
    assert sum(tally.refused for tally in tallies) <= 4
    assert len(world.left) / ((world.left[-1] - world.left[0]) / 60) >= 0.93 * 300
    # None of them starves.
    ends = [tally.seconds for tally in tallies]
    assert max(ends) - min(ends) <= 0.2 * max(ends)


def test_tiers_of_one_model_share_its_budgets(build: Build) -> None:
    world = build(limits=Limits(openai_requests_per_minute=300), pace=USUAL)
    flex, standard = world.shard(400, tier="flex"), world.shard(400, number=1)

    async def both() -> list[Tally]:
        return list(await asyncio.gather(flex.run(), standard.run()))

    tallies = world.go(both())
    assert sum(tally.refused for tally in tallies) <= 8
    assert [tally.tiers for tally in tallies] == [{"flex": 400}, {"standard": 400}]


def test_as_many_at_once_as_the_provider_bears(build: Build) -> None:
    world = build(limits=Limits(realtime_at_once=30), pace=USUAL)
    tally = world.go(world.shard(1_500).run())
    assert done(tally) == (1_500, 0, 0, 0, 0)
    assert tally.refused <= 0.02 * tally.calls
    # Thirty at a time of 2.27 seconds each on average; felt out, and halved now and then.
    assert tally.rows_per_second >= 0.55 * 30 / 2.27


def test_retry_after_is_obeyed(build: Build) -> None:
    world = build(faults=["rate-limit:on=realtime,times=1,retry_after=25"], pace=Pace(realtime=1))
    tally = world.go(world.shard(40).run())
    assert done(tally) == (40, 0, 0, 0, 0)
    start = world.left[0]
    # The first call was refused at once; those that had left with it come home, and nothing follows.
    quiet = [at - start for at in world.left if 0 < at - start < 25]
    assert quiet == []
    assert any(25 <= at - start < 26 for at in world.left)


@pytest.mark.parametrize(
    ("provider", "spec"),
    [
        ("openai", "realtime-burst:status=429,seconds=30,retry_after=5"),
        ("openai", "realtime-burst:status=503,seconds=120"),
        ("anthropic", "realtime-burst:status=529,seconds=120"),
        ("openai", "realtime-burst:status=500,seconds=20"),
    ],
)
def test_a_burst_is_waited_out(build: Build, provider: str, spec: str) -> None:
    world = build(provider=provider, pace=Pace(realtime=1))
    shard = world.shard(400)

    async def main() -> Tally:
        async def later() -> None:
            await world.time.sleep(4)
            world.emulator.add_fault(spec)

        task = asyncio.create_task(later())
        tally = await shard.run()
        await task
        return tally

    tally = world.go(main())
    assert done(tally) == (400, 0, 0, 0, 0)
    assert world.meter()["realtime_billed"] == 400
    # Not a storm: what was under way when it began, and a call now and then to see whether it is over.
    assert tally.refused <= 150


def test_a_flex_tier_without_room_is_waited_for(build: Build) -> None:
    world = build(faults=["flex-unavailable:rate=0.1"], pace=USUAL)
    tally = world.go(world.shard(200, tier="flex").run())
    assert (done(tally), tally.tiers) == ((200, 0, 0, 0, 0), {"flex": 200})
    assert 5 <= tally.refused <= 45


# ---------------------------------------------------------------- refusals


def test_a_row_that_is_refused_for_good_has_its_line_and_the_rest_goes_on(build: Build) -> None:
    world = build(faults=["realtime-error:status=400,times=5"])
    shard = world.shard(60)
    tally = world.go(shard.run())
    assert done(tally) == (55, 5, 0, 0, 0)
    assert (tally.calls, tally.refused, tally.halted) == (60, 5, None)
    kinds = collected(world, shard)
    assert (kinds.count(Kind.SUCCEEDED), kinds.count(Kind.FAILED)) == (55, 5)


def test_a_row_is_given_up_after_so_many_faults(build: Build) -> None:
    world = build(faults=["realtime-error:status=500,rate=1"])
    shard = world.shard(12)
    tally = world.go(shard.run(Patience(tries=3, give_up=10_000)))
    assert done(tally) == (0, 0, 12, 0, 0)
    assert (tally.calls, tally.refused) == (36, 36)
    assert collected(world, shard) == [Kind.FAILED_PASSING] * 12
    assert world.meter()["realtime_billed"] == 0


def test_a_provider_that_answers_nothing_is_left_alone_in_the_end(build: Build) -> None:
    world = build(faults=["realtime-burst:status=503,seconds=100000"])
    shard = world.shard(1_000)
    tally = world.go(shard.run(Patience(give_up=300)))
    assert isinstance(tally.halted, CallRefused)
    assert tally.halted.status == 503
    assert (tally.answered, tally.in_doubt) == (0, 0)
    assert tally.unsent >= 990
    assert 300 <= tally.seconds <= 450
    assert tally.calls <= 30


def test_a_pause_that_is_too_long_is_not_sat_out(build: Build) -> None:
    world = build(faults=["rate-limit:on=realtime,times=1,retry_after=7200"])
    tally = world.go(world.shard(20).run())
    assert isinstance(tally.halted, Refused)
    assert tally.halted.retry_after == pytest.approx(7_200, rel=0.01)
    # Those that had left with it are answered.
    assert (tally.answered, tally.unsent) == (3, 17)


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_key_that_is_refused_ends_the_run(build: Build, status: int) -> None:
    world = build(faults=[f"realtime-error:status={status},rate=1"])
    shard = world.shard(500)
    tally = world.go(shard.run())
    assert isinstance(tally.halted, CallRefused)
    assert (tally.halted.blame, tally.halted.status) == (Blame.ACCOUNT, status)
    assert done(tally) == (0, 0, 0, 0, 500)
    assert tally.calls <= 4
    # Once it is mended all rows are called.
    world.emulator.clear_faults()
    assert done(world.go(shard.run())) == (500, 0, 0, 0, 0)


def test_a_tier_that_the_model_is_not_served_in_ends_the_run(build: Build) -> None:
    world = build(model="gpt-4.1-mini")
    tally = world.go(world.shard(200, tier="flex").run())
    assert isinstance(tally.halted, CallRefused)
    assert (tally.halted.blame, done(tally)) == (Blame.TIER, (0, 0, 0, 0, 200))


def test_a_tier_that_does_not_exist_is_the_callers_mistake(build: Build) -> None:
    world = build(provider="anthropic")
    with pytest.raises(UsageError, match="Nothing was sent"):
        world.go(world.shard(3, tier="flex").run())
    assert world.left == []


def test_rows_that_ask_for_a_stream_are_refused_without_a_call(build: Build) -> None:
    world = build()
    shard = world.shard(5, params={"stream": True})
    tally = world.go(shard.run())
    assert (done(tally), world.left) == ((0, 5, 0, 0, 0), [])
    assert collected(world, shard) == [Kind.FAILED] * 5


# ---------------------------------------------------------------- in doubt


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_lost_reply_leaves_its_row_in_doubt_and_is_not_paid_for_again(build: Build, provider: str) -> None:
    world = build(provider=provider, faults=["realtime-lost:rate=0.1", "realtime-cut:rate=0.05"])
    shard = world.shard(300)
    tally = world.go(shard.run())
    assert tally.in_doubt == tally.doubts > 20
    assert done(tally) == (300 - tally.in_doubt, 0, 0, tally.in_doubt, 0)
    meter = world.meter()
    # Each of them was billed in truth.
    assert (meter["realtime_billed"], meter["realtime_billed_again"]) == (300, 0)
    with shard.journal() as journal:
        doubtful = list(journal.slots(State.DOUBTFUL))
    assert collected(world, shard).count(Kind.MISSING) == len(doubtful) == tally.in_doubt
    # A later run does not call them either.
    assert world.go(shard.run()).calls == 0


def test_in_doubt_rows_are_called_again_if_that_is_the_policy(build: Build) -> None:
    world = build(faults=["realtime-lost:rate=0.1"])
    shard = world.shard(300)
    tally = world.go(shard.run(Patience(pay_again=True)))
    assert done(tally) == (300, 0, 0, 0, 0)
    meter = world.meter()
    assert tally.doubts == meter["realtime_billed_again"] == meter["realtime_billed"] - 300 > 15


def test_a_row_whose_every_reply_is_lost_stays_in_doubt(build: Build) -> None:
    world = build(faults=["realtime-lost:rate=1"])
    tally = world.go(world.shard(3).run(Patience(pay_again=True, tries=2, give_up=10_000)))
    assert (done(tally), tally.doubts, tally.calls) == ((0, 0, 0, 3, 0), 6, 6)


def test_an_answer_that_does_not_come_in_time_is_in_doubt(build: Build) -> None:
    world = build(faults=["realtime-slow:times=1,seconds=5000"])
    tally = world.go(world.shard(30).run())
    assert (done(tally), tally.doubts) == ((29, 0, 0, 1, 0), 1)
    assert tally.seconds == pytest.approx(600, abs=5)


# ---------------------------------------------------------------- stopping and going on


def test_a_stop_finishes_what_is_under_way_and_leaves_the_rest(build: Build) -> None:
    world = build(pace=Pace(realtime=5), limits=Limits(openai_requests_per_minute=600))
    shard = world.shard(400)
    stop = asyncio.Event()

    async def main() -> Tally:
        world.time.loop.call_later(22, stop.set)
        return await shard.run(stop=stop)

    tally = world.go(main())
    assert (tally.failed, tally.passing, tally.in_doubt, tally.halted) == (0, 0, 0, None)
    assert tally.answered + tally.unsent == 400
    assert 20 < tally.answered < 380
    # Nobody left after the stop, and all who had left came home.
    assert max(world.left) - world.left[0] <= 22
    assert tally.answered == tally.calls == len(world.left)
    rest = world.go(shard.run())
    assert (rest.answered, rest.settled) == (tally.unsent, 400)
    meter = world.meter()
    assert (meter["realtime_billed"], meter["realtime_billed_again"]) == (400, 0)


def test_a_stop_does_not_wait_for_a_pause(build: Build) -> None:
    world = build(faults=["rate-limit:on=realtime,times=1,retry_after=500"], pace=Pace(realtime=3))
    shard = world.shard(50)
    stop = asyncio.Event()

    async def main() -> Tally:
        world.time.loop.call_later(10, stop.set)
        return await shard.run(stop=stop)

    tally = world.go(main())
    assert tally.seconds == pytest.approx(10, abs=1)
    assert (tally.answered, tally.unsent, tally.in_doubt) == (3, 47, 0)


def test_a_stop_before_the_start_calls_nobody(build: Build) -> None:
    world = build()
    stop = asyncio.Event()
    stop.set()
    tally = world.go(world.shard(10).run(stop=stop))
    assert (done(tally), world.left) == ((0, 0, 0, 0, 10), [])


def test_a_cancelled_run_leaves_in_doubt_what_was_under_way_and_no_more(build: Build) -> None:
    world = build(pace=Pace(realtime=5))
    shard = world.shard(200)

    async def main() -> None:
        run = asyncio.create_task(shard.run())
        await world.time.sleep(12)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    world.go(main())
    under_way = [at for at in world.left if at - world.left[0] > 7]
    with shard.journal() as journal:
        assert journal.count(State.DOUBTFUL) == len(under_way) > 0
        assert journal.count(State.ANSWERED) == len(world.left) - len(under_way)
    tally = world.go(shard.run())
    assert (tally.in_doubt, tally.settled) == (len(under_way), 200 - len(under_way))
    assert world.meter()["realtime_billed_again"] == 0


def test_a_network_that_is_down_for_a_while(build: Build) -> None:
    world = build(pace=Pace(realtime=1))
    start = world.time.now()
    world.unreachable = lambda: 3 <= world.time.now() - start < 20
    tally = world.go(world.shard(200).run())
    assert done(tally) == (200, 0, 0, 0, 0)
    assert (tally.calls, tally.doubts) == (200, 0)


def test_a_network_that_stays_down_is_no_rows_fault(build: Build) -> None:
    world = build()
    world.unreachable = lambda: True
    tally = world.go(world.shard(100).run())
    assert isinstance(tally.halted, Refused)
    assert tally.halted.code == UNREACHABLE
    assert (done(tally), tally.calls) == ((0, 0, 0, 0, 100), 0)


def test_a_process_that_has_lost_its_lease_calls_nobody(build: Build) -> None:
    world = build(pace=Pace(realtime=1))
    start = world.time.now()
    shard = world.shard(200)
    tally = world.go(shard.run(in_time=lambda: world.time.now() - start < 3))
    assert isinstance(tally.halted, Refused)
    assert tally.halted.code == HELD_UP
    assert (tally.in_doubt, tally.answered + tally.unsent) == (0, 200)
    assert max(world.left) - start < 3
    assert done(world.go(shard.run())) == (tally.unsent, 0, 0, 0, 0)
    assert world.meter()["realtime_billed_again"] == 0


# ---------------------------------------------------------------- the disk


def test_replies_are_synced_together(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    world = build(pace=USUAL)
    shard = world.shard(600)
    synced: list[float] = []

    def fsync(handle: int) -> None:
        synced.append(world.time.now())

    monkeypatch.setattr(os, "fsync", fsync)
    heard: list[int] = []
    tally = world.go(shard.run(on_durable=heard.append))
    assert tally.answered == 600
    assert heard == sorted(heard)
    assert heard[-1] == 600
    # Five times a second at most, however many come.
    assert len(synced) <= tally.seconds * 5 + 5
    assert tally.rows_per_second > 20


def test_a_full_disk_ends_the_run_and_says_what_was_lost(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = build(pace=Pace(realtime=1))
    shard = world.shard(100)
    real = os.write
    left = 20_000

    def write(handle: int, data: Any) -> int:
        nonlocal left
        left -= len(data)
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data)

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(StorageError, match="No space left"):
        world.go(shard.run())
    monkeypatch.setattr(os, "write", real)
    billed = world.meter()["realtime_billed"]
    with shard.journal() as journal:
        answered, doubtful = journal.count(State.ANSWERED), journal.count(State.DOUBTFUL)
    assert answered + doubtful == billed
    tally = world.go(shard.run())
    assert (tally.answered, tally.in_doubt) == (100 - billed, doubtful)
    assert world.meter()["realtime_billed_again"] == 0
