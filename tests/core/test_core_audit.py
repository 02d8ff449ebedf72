"""Gathering, judging and pricing, without a file in sight."""

import random
from fractions import Fraction
from typing import Any

import pytest

from halfrate.base.money import PICO
from halfrate.base.types import Price, Rates, Step
from halfrate.core import audit as gathering
from halfrate.core.audit import REST, Audit, chosen, clean
from halfrate.core.audit_call import Call
from halfrate.core.audit_group import LONGEST_LOG, Group, Lane
from halfrate.core.audit_judge import Judgement, Verdict, judge, together
from halfrate.core.audit_money import Move, days_of, priced, rest_of, total

OTHER = Lane(number=0, provider="", model="", tier="")
START = 1790812800.0
HOUR, DAY = 3600.0, 86400.0


K = 1000


def price(tier: str, input_: int, cached: int, output: int, **more: Any) -> Price:
    """Rates in thousands of picodollars a token: tenths of a cent for a million."""
    rates = Rates(
        input=K * input_, cached=K * cached, write_5m=K * input_, write_1h=2 * K * input_, output=K * output
    )
    return Price(model="m", tier=tier, rates=rates, **more)


STANDARD, HALF = price("standard", 4000, 1000, 16000), price("batch", 2000, 500, 8000)


def lanes(standard: Price | None = STANDARD, batch: Price | None = HALF) -> Any:
    found: dict[tuple[Any, ...], Lane] = {}

    def lane(provider: str | None, model: str | None, tier: str | None, day: int) -> Lane:
        del provider, day
        key = (model, tier)
        if key not in found:
            name = tier or "standard"
            steps = sorted({step.above for one in (standard, batch) if one for step in one.steps})
            found[key] = Lane(
                number=len(found) + 1,
                provider="p",
                model=model or "",
                tier=name,
                paid=batch if name == "batch" else standard,
                standard=standard,
                batch=batch,
                steps=tuple(steps),
            )
        return found[key]

    return lane


def gathered(*calls: Call, by: tuple[str, ...] = ("job",), **options: Any) -> Audit:
    found = Audit(by, options.pop("lane", lanes()), OTHER, **options)
    found.add(calls)
    return found


def only(found: Audit) -> Group:
    (group,) = found.groups.values()
    return group


def call(at: float | None, **more: Any) -> Call:
    given: dict[str, Any] = {"model": "m", "job": "j", "input": 1000, "output": 100, "duration": 1.0}
    return Call(time=at, **(given | more))


def verdict(found: Audit, month: float | None = 10_000.0) -> Judgement:
    group = only(found)
    return judge(group, found, priced(group).monthly(days_of(found.first, found.last)), month)


# ---------------------------------------------------------------- gathering


def test_calls_are_gathered_by_what_is_asked_for() -> None:
    found = gathered(
        call(START, team="a", tags={"env": "x"}),
        call(START + 1, team="b", tags={"env": "x"}),
        call(START + 2, team=None),
        by=("team", "env"),
    )
    assert set(found.groups) == {("a", "x"), ("b", "x"), ("(none)", "(none)")}


def test_calls_of_another_time_are_left_out_and_counted() -> None:
    found = gathered(
        *(call(START + n * DAY) for n in range(4)), call(None), since=START + DAY, until=START + 3 * DAY
    )
    assert (only(found).calls, found.outside, found.untimed) == (2, 3, 1)


def test_there_is_room_for_so_many_groups_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "MOST_GROUPS", 3)
    found = gathered(*(call(START, job=f"j{n}") for n in range(10)), call(START, job="j1"))
    assert len(found.groups) == 4
    assert found.groups[(REST,)].calls == found.crowded == 7
    assert found.groups[("j1",)].calls == 2


def test_there_is_room_for_so_many_models_and_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "MOST_LANES", 5)
    monkeypatch.setattr(gathering, "MOST_SESSIONS", 5)
    found = gathered(*(call(START + n, model=f"m{n}", session=f"s{n}") for n in range(50)))
    assert len(found._lanes) == 5
    assert len(found._sessions) == 5
    assert len(only(found).cells) == 6
    assert sum(cell.calls for cell in only(found).cells.values()) == 50
    assert priced(only(found)).unpriced == 45


def test_a_log_of_years_takes_the_room_of_one() -> None:
    hours = range(0, 3 * LONGEST_LOG, 97)
    for at in (hours, reversed(hours)):
        group = only(gathered(*(call(START + n * HOUR) for n in at)))
        assert len(group.hours) <= LONGEST_LOG
        assert group.calls == len(hours)


def test_the_week_is_in_utc_and_begins_on_monday() -> None:
    # The first of October 2026 is a Thursday.
    week = only(gathered(call(START + 5 * HOUR), call(START + 4 * DAY))).week()
    assert (week[3][5], week[0][0], sum(map(sum, week))) == (1, 1, 2)


def test_lengths_are_remembered_to_about_a_tenth() -> None:
    draw = random.Random(4)
    lengths = sorted(draw.lognormvariate(1.0, 1.5) for _ in range(5000))
    group = only(gathered(*(call(START, duration=length) for length in lengths)))
    for share in (0.1, 0.5, 0.9, 0.99):
        assert group.length_at(share) == pytest.approx(lengths[int(share * 5000)], rel=0.13)


def test_names_can_be_shown_anywhere() -> None:
    assert clean("plain name") == "plain name"
    assert clean("a\x1b[31mred\u202eevil\n") == "a\ufffd[31mred\ufffdevil\ufffd"
    assert len(clean("x" * 500)) == 80


def test_what_to_group_by_is_what_tells_calls_apart() -> None:
    named = [call(START, job=f"j{n % 3}", team="t") for n in range(10)]
    assert chosen(named) == ("job",)
    assert chosen([call(START, job="j", endpoint=f"e{n}") for n in range(3)]) == ("endpoint",)
    assert chosen([call(START, job=None)]) == ("model",)
    sums = [call(START, job=None, endpoint=f"e{n}", key=f"k{n}", span=HOUR, calls=5) for n in range(3)]
    assert chosen(sums) == ("key",)


# ---------------------------------------------------------------- sessions


def turns(*gaps: float, growing: bool = True, newest_first: bool = False) -> Group:
    """A session: each call so many seconds after the end of the one before."""
    calls: list[Call] = []
    at, read = START, 1000
    for gap in gaps:
        at += gap
        calls.append(call(at, input=read, session="s"))
        at += 1.0
        read = read + 150 if growing else 1000 - len(calls) * 10
    return only(gathered(*(reversed(calls) if newest_first else calls)))


@pytest.mark.parametrize("newest_first", [False, True])
def test_what_goes_on_from_an_answer_is_told_from_what_follows_one(newest_first: bool) -> None:
    loop = turns(0, 2, 2, 60, newest_first=newest_first)
    assert (loop.sessions, loop.carried, loop.grew, loop.followed) == (1, 3, 3, 0)
    steps = turns(0, 2, 2, 60, growing=False, newest_first=newest_first)
    assert (steps.carried, steps.grew, steps.followed) == (3, 0, 2)
    assert turns(0, 900, newest_first=newest_first).carried == 0


def test_calls_that_run_at_once_do_not_wait_for_each_other() -> None:
    group = only(gathered(*(call(START + n, duration=20.0, session="s") for n in range(10))))
    assert (group.carried, group.followed) == (0, 0)


def test_a_job_that_goes_row_by_row_is_no_conversation() -> None:
    """Its rows have a session in common, and half of them are longer than the one before."""
    draw = random.Random(1)
    calls: list[Call] = []
    for day in range(30):
        at = START + day * DAY
        for _ in range(60):
            calls.append(call(at, input=draw.randint(500, 5000), session=f"night-{day}", stream=False))
            at += 1.3
    found = gathered(*calls)
    assert only(found).grew > 0.2 * only(found).calls
    assert verdict(found).verdict is Verdict.BATCH


def test_sessions_that_never_repeat_say_nothing() -> None:
    found = gathered(*(call(START + n, session=f"s{n}") for n in range(500)))
    assert not found.sessions_tell
    assert "which calls belong together" in verdict(found).unknown


# ---------------------------------------------------------------- judging


def nightly(**more: Any) -> list[Call]:
    return [call(START + day * DAY + n * 0.3, **more) for day in range(10) for n in range(100)]


def daily(**more: Any) -> list[Call]:
    draw = random.Random(2)
    at = sorted(START + day * DAY + draw.uniform(8, 19) * HOUR for day in range(10) for _ in range(100))
    return [call(moment, **more) for moment in at]


def test_runs_that_nobody_reads_are_for_batches() -> None:
    found = verdict(gathered(*nightly(stream=False)))
    assert found.verdict is Verdict.BATCH
    assert "9 of 217 hours" in found.reasons[0]
    assert found.reasons[1] == "nobody reads along: nothing is streamed"


def test_runs_of_which_nothing_else_is_known_are_asked_about() -> None:
    found = verdict(gathered(*nightly()))
    assert found.verdict is Verdict.ASK
    assert "neither what is streamed" in found.reasons[1]


def test_runs_that_stream_are_asked_about() -> None:
    assert verdict(gathered(*nightly(stream=True))).verdict is Verdict.ASK


def test_a_few_streams_are_enough_to_ask() -> None:
    calls = nightly(stream=False)
    for one in calls[::10]:
        one.stream = True
    assert verdict(gathered(*calls)).verdict is Verdict.ASK


def test_the_same_hours_at_the_pace_of_people_are_no_run() -> None:
    """Two hours each morning, a call in two minutes: a team, and no job."""
    calls = [call(START + day * DAY + n * 70.0, stream=False) for day in range(10) for n in range(100)]
    assert verdict(gathered(*calls)).verdict is Verdict.ASK


def test_streams_are_read_by_somebody() -> None:
    found = verdict(gathered(*daily(stream=True)))
    assert (found.verdict, found.reasons[0]) == (
        Verdict.KEEP,
        "somebody reads along: all of the answers are streamed",
    )


def test_what_streams_in_part_is_more_than_one_thing() -> None:
    calls = daily(stream=False)
    for one in calls[::2]:
        one.stream = True
    found = verdict(gathered(*calls))
    assert (found.verdict, "more than one thing" in found.reasons[0]) == (Verdict.ASK, True)


def test_people_who_get_quick_answers_wait_for_them() -> None:
    def users(duration: float) -> list[Call]:
        calls = daily(stream=False, duration=duration)
        for n, one in enumerate(calls):
            one.user = f"u{n % 40}"
        return calls

    assert verdict(gathered(*users(3.0))).verdict is Verdict.KEEP
    assert verdict(gathered(*users(90.0))).verdict is Verdict.ASK
    night = nightly(stream=False)
    for n, one in enumerate(night):
        one.user = f"u{n}"
    assert verdict(gathered(*night)).verdict is Verdict.BATCH


@pytest.mark.parametrize(
    ("deadline", "wanted"), [(20.0, Verdict.KEEP), (1800.0, Verdict.ASK), (6 * HOUR, Verdict.BATCH)]
)
def test_a_deadline_is_believed(deadline: float, wanted: Verdict) -> None:
    assert verdict(gathered(*daily(deadline=deadline))).verdict is wanted


def test_deadlines_of_some_calls_do_not_speak_for_all() -> None:
    calls = daily()
    for one in calls[: len(calls) * 6 // 10]:
        one.deadline = 6 * HOUR
    assert verdict(gathered(*calls)).verdict is Verdict.ASK


def test_a_timer_is_asked_about() -> None:
    calls = [call(START + hour * HOUR + 600 + n, stream=False) for hour in range(240) for n in range(5)]
    found = verdict(gathered(*calls))
    assert found.verdict is Verdict.ASK
    assert "at the same minutes, :10, hour after hour" in found.reasons[0]


def test_round_the_clock_is_asked_about() -> None:
    calls = [call(START + n * 400.0, stream=False) for n in range(2000)]
    assert "day and night alike" in verdict(gathered(*calls)).reasons[0]


def test_tools_without_sessions_are_asked_about() -> None:
    assert "offer tools" in verdict(gathered(*nightly(stream=False, tools=True))).reasons[0]


def test_a_day_of_log_shows_no_pattern() -> None:
    found = verdict(gathered(*nightly(stream=False)[:100]))
    assert (found.verdict, "too few to show a pattern" in found.reasons[0]) == (Verdict.ASK, True)


def test_what_saves_little_is_left_alone() -> None:
    found = gathered(*nightly(stream=False, input=10, output=1))
    assert "too little" in verdict(found).reasons[0]
    unpriced = gathered(*nightly(stream=False), lane=lanes(None, None))
    assert verdict(unpriced, 3000.0).verdict is Verdict.BATCH
    assert "30 calls a month" in verdict(unpriced, 30.0).reasons[0]


def test_a_cache_may_be_worth_more_than_a_batch() -> None:
    # The batch has no price for cached tokens that is any lower.
    found = gathered(
        *nightly(stream=False, input=0, cached=50_000), lane=lanes(STANDARD, price("batch", 2000, 2000, 8000))
    )
    assert verdict(found).reasons == ("a batch would cost more than its cache lets it cost now",)


def test_what_goes_in_batches_is_done_unless_the_rest_is_dear() -> None:
    cheap = nightly(stream=False, tier="batch")
    assert verdict(gathered(*cheap)).verdict is Verdict.DONE
    dear = [call(START + n * HOUR, input=1_000_000, stream=False) for n in range(20)]
    assert verdict(gathered(*cheap, *dear)).verdict is not Verdict.DONE


def test_refusals_are_mentioned() -> None:
    calls = nightly(stream=False, status=200)
    for one in calls[::5]:
        one.status = 429
    assert (
        "20% failed, mostly for rate limits, which batches have of their own"
        in verdict(gathered(*calls)).reasons
    )


def test_bills_say_nothing_of_calls() -> None:
    found = Audit(("endpoint",), lanes(None, None), OTHER)
    found.add([Call(time=START, span=DAY, calls=0, endpoint="gpt, input", cost=5 * PICO, bill=True)])
    assert not found.groups
    (group,) = found.bills.values()
    assert judge(group, found, priced(group), None).reasons == (
        "the export holds money alone, and nothing of the calls behind it",
    )
    assert priced(group).spend == 5 * PICO


def test_a_group_of_parts_is_what_nearly_all_of_it_is() -> None:
    keep, batch = Judgement(Verdict.KEEP, ("k",), ("x", "y")), Judgement(Verdict.BATCH, ("b",), ("y",))
    assert together([("a", keep, Move(spend=5))]) is keep
    assert together([("a", keep, Move(spend=95)), ("b", batch, Move(spend=5))]).verdict is Verdict.KEEP
    unknown = together([("a", batch, Move(spend=95)), ("b", keep, Move())])
    assert (unknown.verdict, "unknown" in unknown.reasons[0]) == (Verdict.ASK, True)
    done = together([("a", keep, Move(spend=95)), ("b", batch, Move(spend=500, done=500))])
    assert done.verdict is Verdict.KEEP
    mixed = together([("a", keep, Move(spend=60)), ("b", batch, Move(spend=40))])
    assert (mixed.verdict, mixed.unknown) == (Verdict.ASK, ("y",))
    assert "a (keep realtime" in mixed.reasons[0]


# ---------------------------------------------------------------- pricing


def test_a_move_is_priced_from_tokens_alone_and_with_the_cache() -> None:
    move = priced(only(gathered(call(START, input=1000, cached=3000, write_5m=500, output=100))))
    now = K * (1000 * 4000 + 3000 * 1000 + 500 * 4000 + 100 * 16000)
    assert move.spend == move.moving == now
    assert move.batch == K * (4500 * 2000 + 100 * 8000)
    assert move.cached == K * (1000 * 2000 + 3000 * 500 + 500 * 2000 + 100 * 8000)
    assert (move.saved, move.saved_cached) == (now - 9_800_000 * K, now - 5_300_000 * K)


def test_nothing_is_said_of_a_cache_that_the_log_does_not_show() -> None:
    move = priced(only(gathered(call(START))))
    assert (move.cached, move.saved_cached, move.saved) == (None, None, move.moving // 2)


def test_what_goes_in_batches_already_is_no_saving() -> None:
    move = priced(only(gathered(call(START), call(START, tier="batch"), call(START, tier="flex"))))
    assert move.done == (2_800_000 + 5_600_000) * K
    assert (move.spend, move.moving, move.realtime) == (14_000_000 * K, 5_600_000 * K, 5_600_000 * K)


def test_an_unknown_price_is_never_zero() -> None:
    none = priced(only(gathered(call(START), lane=lanes(None, None))))
    assert (none.spend, none.saved, none.unpriced) == (None, None, 1)
    logged = priced(only(gathered(call(START, cost=7), call(START, cost=5), lane=lanes(None, None))))
    assert (logged.spend, logged.logged, logged.saved, logged.unmovable) == (12, 12, None, 2)
    partly = priced(only(gathered(call(START, cost=7), call(START), lane=lanes(None, None))))
    assert (partly.spend, partly.unpriced) == (None, 2)
    no_batch = priced(only(gathered(call(START), lane=lanes(STANDARD, None))))
    assert (no_batch.spend, no_batch.saved, no_batch.unmovable) == (5_600_000 * K, None, 1)


def test_long_requests_have_their_own_rates_each_by_itself() -> None:
    dear = Rates(input=8000 * K, cached=2000 * K, output=24000 * K)
    stepped = price("standard", 4000, 1000, 16000, steps=(Step(above=1000, rates=dear),))
    move = priced(only(gathered(call(START, input=1000), call(START, input=1001), lane=lanes(stepped, HALF))))
    assert move.spend == K * (1000 * 4000 + 100 * 16000 + 1001 * 8000 + 100 * 24000)
    bucket = call(START, input=5000, calls=10, span=HOUR)
    assert priced(only(gathered(bucket, lane=lanes(stepped, HALF)))).spend == K * (5000 * 4000 + 100 * 16000)
    bucket.long = True
    assert priced(only(gathered(bucket, lane=lanes(stepped, HALF)))).spend == K * (5000 * 8000 + 100 * 24000)


def test_a_month_is_thirty_days_of_the_log() -> None:
    move = Move(spend=100, moving=80, batch=40, done=20)
    assert move.monthly(Fraction(15)).spend == 200
    assert move.monthly(Fraction(60)).saved == 20
    assert move.monthly(Fraction(1, 24)).spend == 3000
    assert move.monthly(None) is move
    assert days_of(float("inf"), float("-inf")) is None
    assert days_of(START, START + 1.5 * DAY) == Fraction(3, 2)


def test_moves_add_up_and_what_is_unknown_is_counted() -> None:
    known, unknown = Move(spend=100, moving=100, batch=50, cached=40), Move(unpriced=3)
    found = total([known, unknown, Move(spend=10, moving=10, batch=5)])
    assert (found.spend, found.unpriced, found.batch, found.cached) == (110, 3, 55, 45)
    assert total([unknown]).spend is None


def test_the_rest_saves_what_is_assumed() -> None:
    whole, moved = Move(spend=1000, done=200, moving=800, batch=400), Move(spend=300, moving=300, batch=150)
    found = rest_of(whole, moved, (Fraction(2, 5), Fraction(7, 10)))
    assert (found.spend, found.batch, found.rest, found.total) == (800, 150, (200, 350), (350, 500))
    assert rest_of(Move(), Move(), (Fraction(0), Fraction(1))).total == (0, 0)
