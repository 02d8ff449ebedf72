"""Durations, rates, the ladder and its forecast: what must hold whatever comes in."""

import math
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfrate.core.deadlines import CarryOn, Plan, Reach, Rescue, Send, plan
from halfrate.core.durations import (
    BATCH,
    HARVEST,
    SETTLE,
    Durations,
    Prior,
    Span,
    harvest_scale,
    learn,
    learn_harvest,
)
from halfrate.core.finish import forecast
from halfrate.core.rates import Rate, RateLimits, Throughput, allowed, flex_rate, realtime_rate
from halfrate.core.situation import (
    MARGINS,
    Beliefs,
    JobView,
    ShardView,
    Stage,
    Tier,
    chance_of_batch,
    expected_starts,
)

NOW = 1_800_000_000.0
HOUR = 3600.0
PRIORS = st.sampled_from((BATCH, SETTLE, HARVEST))
SECONDS = st.floats(1.5, 2e5)
SPANS = st.lists(
    st.builds(Span, SECONDS, over=st.booleans(), rows=st.sampled_from((0, 10, 1000, 50_000))), max_size=30
)
SHARES = st.floats(0.001, 0.995)
_CELL = 1.09
"""A little more than the step of the table."""


# ---------------------------------------------------------------- durations


@given(SPANS, PRIORS, st.lists(SHARES, min_size=2, max_size=6), st.sampled_from((0, 1000)))
def test_quantiles_rise_and_agree_with_chances(
    spans: list[Span], prior: Prior, shares: list[float], rows: int
) -> None:
    learned = learn(spans, prior, rows)
    found = [learned.quantile(share) for share in sorted(shares)]
    assert found == sorted(found)
    for share, seconds in zip(sorted(shares), found, strict=True):
        if math.isfinite(seconds):
            assert learned.chance(seconds) == pytest.approx(share, abs=1e-6)


@given(SPANS, PRIORS, SECONDS, SECONDS, SECONDS)
def test_chances_are_chances_and_rise_with_time(
    spans: list[Span], prior: Prior, age: float, some: float, more: float
) -> None:
    learned = learn(spans, prior)
    first, second = learned.chance(age + some, age), learned.chance(age + some + more, age)
    assert 0.0 <= first <= second <= 1.0
    assert learned.chance(age, age) == 0.0
    assert learned.quantile(0.5, age) >= age


@pytest.mark.parametrize("prior", [BATCH, SETTLE, HARVEST])
def test_without_a_case_the_prior_is_what_is_believed(prior: Prior) -> None:
    believed = learn([], prior)
    for seconds, share in prior.unfinished:
        if seconds < 3 * 86400.0:
            assert believed.left(seconds) == pytest.approx(share, rel=0.05)


def test_the_prior_says_what_was_reported() -> None:
    believed = learn([], BATCH, 1000)
    assert believed.quantile(0.5) == pytest.approx(420.0, rel=0.05)
    assert believed.quantile(0.9) == pytest.approx(3600.0, rel=0.05)
    assert learn([], BATCH, 50_000).quantile(0.5) > 1.5 * believed.quantile(0.5)
    assert 0.003 < believed.left(86_400.0) < 0.01
    assert learn([], SETTLE).quantile(0.99) <= 600.0


@given(st.integers(0, 2**32), st.sampled_from((300.0, 4000.0, 40_000.0)), st.floats(0.2, 1.0))
def test_what_is_learned_comes_to_what_happens(seed: int, median: float, spread: float) -> None:
    rng = random.Random(seed)
    seen = sorted(rng.lognormvariate(math.log(median), spread) for _ in range(600))
    learned = learn([Span(seconds) for seconds in seen], BATCH)
    for share in (0.1, 0.5, 0.9):
        found = learned.quantile(share)
        # Between the neighbours of the observed quantile: as near as 600 cases and six imaginary ones allow.
        assert seen[round(600 * (share - 0.03))] / _CELL <= found <= seen[round(600 * (share + 0.03))] * _CELL


@given(st.lists(SECONDS, min_size=1, max_size=20), SHARES)
def test_a_quantile_lies_between_the_prior_and_the_cases(seen: list[float], share: float) -> None:
    """So more of the same can narrow, and never widens beyond both."""
    learned = learn([Span(seconds) for seconds in seen], BATCH)
    prior = learn([], BATCH).quantile(share)
    cases = sorted(seen)[min(math.ceil(len(seen) * share), len(seen)) - 1]
    assert min(prior, cases) / _CELL <= learned.quantile(share) <= max(prior, cases) * _CELL


@given(st.lists(SECONDS, min_size=5, max_size=20), st.integers(2, 6))
def test_more_of_the_same_comes_nearer_to_it(seen: list[float], times: int) -> None:
    cases = sorted(seen)[(len(seen) - 1) // 2]
    spans = [Span(seconds) for seconds in seen]
    once, often = (abs(math.log(learn(s, BATCH).quantile(0.5) / cases)) for s in (spans, spans * times))
    assert often <= once + math.log(_CELL)


@given(SPANS, SECONDS, SECONDS)
def test_a_batch_that_still_runs_makes_later_ends_likelier(spans: list[Span], age: float, by: float) -> None:
    """Censored cases count for as long as they were seen, and not as ended."""
    before, after = learn(spans, BATCH), learn([*spans, Span(age, over=False)], BATCH)
    assert after.chance(by) <= before.chance(by) + 1e-9
    if by > age * _CELL:
        assert after.chance(by, age * _CELL) == pytest.approx(before.chance(by, age * _CELL), abs=1e-6)


def test_an_expired_batch_is_not_one_that_ended() -> None:
    ended = learn([Span(86_400.0)] * 30, BATCH)
    expired = learn([Span(86_400.0, over=False)] * 30, BATCH)
    assert ended.chance(90_000.0) > 0.95
    assert expired.chance(90_000.0) < 0.3


def test_batches_of_another_size_count_for_less() -> None:
    small = [Span(120.0, rows=100)] * 20
    large = [Span(9000.0, rows=50_000)] * 20
    assert learn([*small, *large], BATCH, 100).quantile(0.5) < 200.0
    assert learn([*small, *large], BATCH, 50_000).quantile(0.5) > 5000.0


def test_harvests_are_compared_row_for_row() -> None:
    seen = [Span(15.0 * harvest_scale(rows), rows=rows) for rows in (100, 10_000, 50_000) for _ in range(40)]
    assert learn_harvest(seen).quantile(0.5) == pytest.approx(15.0, rel=0.1)
    assert harvest_scale(50_000) > 3 * harvest_scale(10_000)


# ---------------------------------------------------------------- rates


@given(st.lists(st.builds(Throughput, st.floats(0, 1e5), st.floats(1, 600)), max_size=20))
def test_a_rate_is_never_nothing_and_never_certain(seen: list[Throughput]) -> None:
    for rate in (realtime_rate(seen), realtime_rate(seen, 50.0)):
        assert rate.rows_per_second > 0.0
        assert 0.2 < rate.doubt < 0.8
        assert rate.safe_seconds(100) > rate.seconds(100) > 0.0


def test_a_rate_is_believed_by_what_was_seen_before_what_is_allowed_before_a_guess() -> None:
    seen = [Throughput(60 * 30.0, 60.0)] * 30
    assert realtime_rate(seen, 500.0).rows_per_second == pytest.approx(60.0, rel=0.6)
    assert (
        realtime_rate(seen, 500.0).doubt
        < realtime_rate(seen[:1], 500.0).doubt
        < realtime_rate([], 500.0).doubt
    )
    assert realtime_rate([]).counted_with < 3.0
    standard = realtime_rate(seen)
    assert flex_rate([], standard).counted_with < standard.counted_with / 2
    assert flex_rate([Throughput(6000.0, 60.0)] * 20, standard).rows_per_second > standard.rows_per_second


def test_throttling_that_was_seen_is_allowed_for() -> None:
    steady = [Throughput(600.0, 60.0)] * 30
    throttled = [*steady[:20], *[Throughput(30.0, 60.0)] * 10]
    assert realtime_rate(steady).pause < realtime_rate([]).pause < realtime_rate(throttled).pause


def test_limits_bound_rows_by_their_tightest() -> None:
    limits = RateLimits(rpm=600.0, otpm=60_000.0)
    assert allowed(limits, 1000.0, 50.0) == 10.0
    assert allowed(limits, 1000.0, 500.0) == 2.0
    assert allowed(RateLimits(tpm=60_000.0), 900.0, 100.0) == 1.0
    assert allowed(RateLimits(), 1.0, 1.0) is None


@given(st.floats(1, 1e4), st.floats(1, 1e4), st.floats(1, 1e4), st.floats(0.1, 0.7))
def test_more_time_is_a_better_chance(expected: float, some: float, more: float, doubt: float) -> None:
    rate = Rate(rows_per_second=5.0, doubt=doubt)
    assert 0.0 <= rate.chance(some, expected) <= rate.chance(some + more, expected) <= 1.0
    assert rate.chance(expected, expected) == 0.5
    assert rate.chance(0.0, expected) == 0.0


# ---------------------------------------------------------------- the ladder


def beliefs(
    *,
    rate: float = 10.0,
    doubt: float = 0.25,
    flex: bool = False,
    standard: bool = True,
    batches: float = 0.0,
) -> Beliefs:
    """`batches`: seconds that they are known to take; 0 for what is believed of strangers."""
    seen = (
        [Span(batches * factor) for factor in (0.8, 0.9, 1.0, 1.1, 1.2) for _ in range(40)] if batches else []
    )
    tiers: list[Tier] = []
    if standard:
        tiers.append(Tier("standard", 2.0, Rate(rows_per_second=rate, doubt=doubt)))
    if flex:
        tiers.append(Tier("flex", 1.0, Rate(rows_per_second=rate / 2, doubt=0.5)))
    return Beliefs(
        batches=learn(seen, BATCH), settle=learn([], SETTLE), harvest=learn([], HARVEST), tiers=tuple(tiers)
    )


def running(
    number: int = 0, rows: int = 1000, *, finished: int = 0, age: float = 60.0, pace: float | None = None
) -> ShardView:
    return ShardView(
        id=f"job-{number}", stage=Stage.RUNNING, rows=rows, finished=finished, since=NOW - age, pace=pace
    )


def waiting(number: int = 0, rows: int = 1000) -> ShardView:
    return ShardView(id=f"job-{number}", stage=Stage.WAITING, rows=rows)


def realtime(number: int = 0, rows: int = 1000) -> ShardView:
    return ShardView(id=f"job-{number}", stage=Stage.REALTIME, rows=rows)


def job(*shards: ShardView, hours: float | None = 4.0, **changes: object) -> JobView:
    deadline = None if hours is None else NOW + hours * HOUR
    view = JobView(now=NOW, deadline=deadline, shards=shards, rows=sum(shard.rows for shard in shards))
    return msgspec.structs.replace(view, **changes)


def point(planned: Plan, number: int = 0) -> float:
    """A shard's point of no return; now, if it is past."""
    step = planned.steps[f"job-{number}"]
    return step.until if isinstance(step, CarryOn) and step.until is not None else NOW


ROWS = st.integers(1, 20_000)
HOURS = st.floats(0.2, 30.0)
RATES = st.floats(0.5, 300.0)


@st.composite
def shard_views(draw: st.DrawFn) -> ShardView:
    stage = draw(st.sampled_from(Stage))
    rows = draw(ROWS)
    finished = int(rows * draw(st.floats(0, 1))) if stage in {Stage.RUNNING, Stage.COLLECTING} else 0
    age = draw(st.floats(0, 80_000))
    return ShardView(id="", stage=stage, rows=rows, finished=finished, since=NOW - age)


def _numbered(found: list[ShardView]) -> tuple[ShardView, ...]:
    return tuple(msgspec.structs.replace(shard, id=f"job-{n}") for n, shard in enumerate(found))


SHARDS = st.lists(shard_views(), min_size=1, max_size=12).map(_numbered)


@given(SHARDS, HOURS, RATES, st.booleans(), st.booleans())
def test_every_shard_gets_a_step_that_it_can_take(
    shards: tuple[ShardView, ...], hours: float, rate: float, flex: bool, extra: bool
) -> None:
    view = job(*shards, hours=hours, extra=extra)
    planned = plan(view, beliefs(rate=rate, flex=flex))
    assert set(planned.steps) == {shard.id for shard in shards}
    for shard in shards:
        match planned.steps[shard.id]:
            case CarryOn(until):
                assert shard.stage is not Stage.REALTIME or not (flex or extra)
                assert until is None or NOW < until <= NOW + hours * HOUR
            case Rescue(tier):
                assert shard.stage is Stage.RUNNING
                assert tier == "flex" or extra
            case Send(tier):
                assert shard.stage in {Stage.WAITING, Stage.REALTIME}
                assert tier == "flex" or extra
    assert planned.review_at is None or planned.review_at >= NOW
    assert planned.demand >= 0.0
    assert planned == plan(view, beliefs(rate=rate, flex=flex))


@given(SHARDS, HOURS, RATES, st.randoms(use_true_random=False))
def test_the_order_in_which_shards_are_named_does_not_matter(
    shards: tuple[ShardView, ...], hours: float, rate: float, rng: random.Random
) -> None:
    mixed = list(shards)
    rng.shuffle(mixed)
    assert (
        plan(job(*shards, hours=hours), beliefs(rate=rate)).steps
        == plan(job(*mixed, hours=hours), beliefs(rate=rate)).steps
    )


@given(ROWS, ROWS, RATES, RATES, st.floats(3.0, 24.0))
def test_the_point_comes_earlier_with_more_rows_and_later_with_a_faster_rate(
    rows: int, more: int, rate: float, faster: float, hours: float
) -> None:
    def of(count: int, speed: float) -> float:
        return point(plan(job(running(rows=count), hours=hours), beliefs(rate=speed)))

    assert of(rows + more, rate) <= of(rows, rate) <= of(rows, rate + faster)


@given(st.integers(100, 20_000), st.floats(0, 1), st.floats(0, 1), st.floats(3.0, 24.0))
def test_the_point_comes_later_the_more_is_finished(
    rows: int, one: float, other: float, hours: float
) -> None:
    less, more = sorted((int(rows * one), int(rows * other)))
    early, late = (
        point(plan(job(running(rows=rows, finished=finished), hours=hours), beliefs()))
        for finished in (less, more)
    )
    assert early <= late


@given(st.lists(st.integers(50, 5000), min_size=1, max_size=8), st.integers(50, 5000), st.floats(6.0, 24.0))
def test_shards_share_the_rate(rows: list[int], more: int, hours: float) -> None:
    """One more shard makes the first point earlier, by the time that its rows take."""
    shards = [running(n, count) for n, count in enumerate(rows)]
    fewer = plan(job(*shards, hours=hours), beliefs()).review_at
    with_it = plan(job(*shards, running(len(rows), more), hours=hours), beliefs()).review_at
    assert fewer is not None
    assert with_it is not None
    assert with_it <= fewer - more / 10.0


def test_rows_of_others_that_go_first_count() -> None:
    shard = running(rows=5000)
    alone, behind = (plan(job(shard, ahead=ahead), beliefs()) for ahead in (0.0, 20_000.0))
    assert point(behind) == pytest.approx(point(alone) - 20_000.0 / 7.5)


def test_the_point_leaves_time_for_all_that_has_to_happen() -> None:
    """Against the sum done by hand, at a rate counted with of 7.5 rows a second."""
    known = beliefs()
    settle = known.settle.quantile(MARGINS.settle)
    harvest = known.harvest.quantile(MARGINS.harvest) * harvest_scale(3000)
    work = 3000 * 1.01 / 7.5
    latest = NOW + 4 * HOUR - 60.0 - 300.0 - work - harvest - MARGINS.look - settle
    assert point(plan(job(running(rows=3000)), known)) == pytest.approx(latest)


def test_before_the_point_nothing_is_rescued_and_at_it_no_more_than_keeps_real_time_busy() -> None:
    shards = [running(n, 2000) for n in range(10)]
    view = job(*shards)
    first = plan(view, beliefs()).review_at
    assert first is not None
    just_before = msgspec.structs.replace(view, now=first - 60.0)
    assert all(isinstance(step, CarryOn) for step in plan(just_before, beliefs()).steps.values())
    at_it = plan(msgspec.structs.replace(view, now=first), beliefs())
    assert [type(step) for step in at_it.steps.values()].count(Rescue) == 1
    assert at_it.review_at is not None
    assert first < at_it.review_at <= first + 2020 / 7.5 + 1.0


def test_the_least_promising_goes_first() -> None:
    stuck, nearly = running(0, 1000, age=20 * HOUR), running(1, 1000, finished=970, age=1200.0, pace=0.8)
    view = job(stuck, nearly, hours=4.0)
    first = plan(view, beliefs()).review_at
    assert first is not None
    planned = plan(msgspec.structs.replace(view, now=first), beliefs())
    assert isinstance(planned.steps["job-0"], Rescue)
    assert isinstance(planned.steps["job-1"], CarryOn)


def test_a_batch_that_is_nearly_finished_may_go_on_for_longer() -> None:
    fresh, nearly = (
        plan(job(running(rows=20_000, finished=finished)), beliefs()) for finished in (0, 19_400)
    )
    assert point(nearly) > point(fresh) + 2000.0


def test_too_late_for_a_batch() -> None:
    planned = plan(job(waiting(rows=500), hours=1 / 3), beliefs(batches=3000.0))
    assert planned.steps["job-0"] == Send("standard")
    assert planned.reach is Reach.SAFE
    assert plan(job(waiting(rows=500), hours=8.0), beliefs(batches=3000.0)).steps["job-0"] != Send("standard")


def test_flex_comes_before_standard_and_standard_when_flex_is_too_slow() -> None:
    both = beliefs(flex=True)
    assert plan(job(waiting(rows=2000), hours=0.8), both).steps["job-0"] == Send("flex")
    assert plan(job(realtime(rows=2000), hours=4.0), both).steps["job-0"] == Send("flex")
    assert plan(job(realtime(rows=2000), hours=0.15), both).steps["job-0"] == Send("standard")
    assert plan(job(realtime(rows=2000), hours=0.15, extra=False), both).steps["job-0"] == Send("flex")


def test_without_leave_to_pay_more_nothing_dearer_is_used() -> None:
    planned = plan(job(running(rows=2000), hours=0.3, extra=False), beliefs())
    assert planned.steps["job-0"] == CarryOn()
    assert planned.reach is Reach.NONE


@given(SHARDS, HOURS)
def test_no_rescue_means_none(shards: tuple[ShardView, ...], hours: float) -> None:
    planned = plan(job(*shards, hours=hours, rescue=False), beliefs(flex=True))
    for shard in shards:
        if shard.stage is not Stage.REALTIME:
            assert planned.steps[shard.id] == CarryOn()


@given(SHARDS)
def test_without_a_deadline_nothing_costs_more_than_a_batch(shards: tuple[ShardView, ...]) -> None:
    planned = plan(job(*shards, hours=None), beliefs(flex=True))
    assert not any(isinstance(step, Rescue) for step in planned.steps.values())
    assert all(step.tier == "flex" for step in planned.steps.values() if isinstance(step, Send))
    assert planned.review_at is None


def test_few_rows_do_not_wait_for_a_batch_that_costs_the_same() -> None:
    assert plan(job(waiting(rows=5), hours=None), beliefs(flex=True)).steps["job-0"] == Send("flex")
    assert plan(job(waiting(rows=5), hours=20.0), beliefs(flex=True)).steps["job-0"] == Send("flex")
    assert plan(job(waiting(rows=5), hours=20.0), beliefs()).steps["job-0"] != Send("standard")
    # The last rows of a large job: waiting a day for them saves nothing worth mentioning.
    tail = job(waiting(rows=5), hours=20.0, rows=50_000)
    assert plan(tail, beliefs()).steps["job-0"] == Send("standard")


def test_beyond_real_time_the_batches_are_leant_on_while_they_are_likely() -> None:
    shards = [running(n, 50_000, age=60.0) for n in range(4)]
    likely = plan(job(*shards, hours=3.0), beliefs(batches=2000.0))
    assert likely.reach is Reach.BATCH
    assert all(step == CarryOn() for step in likely.steps.values())
    assert likely.review_at is not None
    unlikely = plan(job(*shards, hours=3.0), beliefs(batches=40_000.0))
    assert unlikely.reach is Reach.BREACH
    assert unlikely.late_by == pytest.approx(4 * 50_500 / 10.0 - 3 * HOUR, rel=0.1)
    assert any(isinstance(step, Rescue) for step in unlikely.steps.values())


@given(ROWS, RATES, RATES, st.floats(0.1, 3.0))
def test_a_faster_rate_is_never_later(rows: int, rate: float, more: float, hours: float) -> None:
    view = job(running(rows=rows), hours=hours)
    assert plan(view, beliefs(rate=rate + more)).late_by <= plan(view, beliefs(rate=rate)).late_by


def test_a_shard_that_is_sure_to_end_in_time_takes_nothing_from_others() -> None:
    sure = plan(job(running(rows=900, age=10.0), hours=20.0), beliefs(batches=600.0))
    unsure = plan(job(running(rows=900, age=10.0), hours=1.0), beliefs(batches=6000.0))
    assert sure.demand == 0.0
    assert unsure.demand > 900.0


# ---------------------------------------------------------------- chances and forecasts


@given(st.floats(10, 80_000), st.floats(10, 80_000), st.floats(0.001, 50), st.integers(1, 999))
def test_a_better_pace_is_a_better_chance(age: float, by: float, pace: float, finished: int) -> None:
    known = beliefs()
    slow, fast = (
        chance_of_batch(running(finished=finished, age=age, pace=p), NOW + by, NOW, known)
        for p in (pace, 2 * pace)
    )
    assert 0.0 <= slow <= fast <= 1.0


def test_what_waits_for_quota_is_expected_later() -> None:
    known = beliefs(batches=600.0)
    blocked = msgspec.structs.replace(waiting(), starts=NOW + HOUR)
    assert chance_of_batch(blocked, NOW + HOUR, NOW, known) == 0.0
    assert chance_of_batch(waiting(), NOW + HOUR, NOW, known) > 0.9
    assert expected_starts(NOW, NOW - 600.0, 3, 2) == [NOW + 200.0, NOW + 400.0]


@given(SHARDS, st.one_of(st.none(), HOURS), RATES)
def test_a_forecast_is_in_order(shards: tuple[ShardView, ...], hours: float | None, rate: float) -> None:
    found = forecast(job(*shards, hours=hours), beliefs(rate=rate))
    assert NOW <= found.p50 <= found.p90
    assert (found.in_time is None) is (hours is None)
    assert found.in_time is None or 0.0 <= found.in_time <= 1.0


def test_a_forecast_knows_the_batches_and_the_rescue() -> None:
    soon = forecast(job(running(rows=500, age=1.0), hours=None), beliefs(batches=1200.0))
    assert NOW + 1000.0 < soon.p50 < soon.p90 < NOW + 1900.0
    slow = beliefs(batches=10 * HOUR)
    rescued = forecast(job(running(rows=500, age=1.0), hours=4.0), slow)
    assert rescued.in_time is not None
    assert rescued.in_time > 0.95
    assert NOW + 3 * HOUR < rescued.p50 < rescued.p90 <= NOW + 4 * HOUR
    left_alone = forecast(job(running(rows=500, age=1.0), hours=4.0, rescue=False), slow)
    assert left_alone.in_time is not None
    assert left_alone.in_time < 0.1
    assert left_alone.p50 > NOW + 9 * HOUR


def test_durations_are_plain_values() -> None:
    learned = learn([Span(10.0)], SETTLE)
    assert msgspec.json.decode(msgspec.json.encode(learned), type=Durations) == learned
