"""How fast realtime calls may leave, against providers of this test's own making."""

import heapq
import itertools
import random
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfrate.core.pacing import Budgets, Load, Pacer, Pacing, Ticket, Window

ROW = Load(100, 50)
NOW = 1_000_000.0


def send(pacer: Pacer, now: float, load: Load = ROW) -> Ticket:
    assert pacer.delay(now, load) == 0
    return pacer.sent(now, load)


def requests(limit: int, remaining: int, per: float | None = None) -> tuple[Window, ...]:
    return (Window(kind="requests", limit=limit, remaining=remaining, per=per),)


# ---------------------------------------------------------------- one thing at a time


def test_the_width_doubles_a_round_until_the_first_sign_of_overload() -> None:
    pacer = Pacer(Pacing(first=4, most=100))
    widths: list[int] = []
    for at in range(6):
        tickets: list[Ticket] = []
        while pacer.delay(NOW + at, ROW) == 0:
            tickets.append(pacer.sent(NOW + at, ROW))
        widths.append(len(tickets))
        assert pacer.delay(NOW + at, ROW) is None
        for ticket in tickets:
            pacer.answered(ticket, NOW + at + 0.9)
    assert widths[0] == 4
    assert all(after >= 1.5 * before for before, after in itertools.pairwise(widths[:4]))
    assert widths[-1] <= 100


def test_it_halves_once_for_all_calls_that_were_under_way() -> None:
    pacer = Pacer(Pacing(first=16))
    tickets = [send(pacer, NOW) for _ in range(16)]
    for ticket in tickets:
        pacer.overloaded(ticket, NOW + 1, (), 2.0, 0.5)
    assert pacer.width == 8
    late = send(pacer, NOW + 3)
    pacer.overloaded(late, NOW + 4, (), None, 0.5)
    assert pacer.width == 4


def test_after_the_first_sign_it_grows_by_one_a_round() -> None:
    pacer = Pacer(Pacing(first=16))
    pacer.failed(send(pacer, NOW), NOW)
    assert pacer.width == 8
    for at in range(3):
        tickets = [send(pacer, NOW + 10 * at) for _ in range(pacer.width)]
        for ticket in tickets:
            pacer.answered(ticket, NOW + 10 * at + 1)
    assert 9 <= pacer.width <= 11


def test_it_does_not_grow_while_something_else_holds_calls_back() -> None:
    pacer = Pacer(Pacing(first=4))
    for at in range(50):
        pacer.answered(send(pacer, NOW + at), NOW + at)
    assert pacer.width == 4


def test_retry_after_is_obeyed_to_the_end() -> None:
    pacer = Pacer()
    first, second = send(pacer, NOW), send(pacer, NOW)
    pacer.overloaded(first, NOW + 1, (), 30.0, 0.5)
    assert pacer.delay(NOW + 1, ROW) == 30
    # A shorter one that comes later does not cut it short.
    pacer.overloaded(second, NOW + 2, (), 5.0, 0.5)
    assert pacer.delay(NOW + 30.5, ROW) == 0.5
    assert pacer.delay(NOW + 31, ROW) == 0


def test_without_a_retry_after_the_pause_doubles_from_sign_to_sign() -> None:
    pacer = Pacer(Pacing(backoff_first=1, backoff_most=10))
    pauses: list[float] = []
    now = NOW
    for _ in range(6):
        pacer.overloaded(send(pacer, now), now, (), None, 0.5)
        pause = pacer.delay(now, ROW)
        assert pause is not None
        pauses.append(pause)
        now += pause
    assert pauses == [1, 2, 4, 8, 10, 10]
    pacer.answered(send(pacer, now), now)
    pacer.overloaded(send(pacer, now), now, (), None, 0.0)
    assert pacer.delay(now, ROW) == 0.5


def test_what_remains_is_spent_and_no_more() -> None:
    pacer = Pacer(Pacing(first=50))
    pacer.answered(send(pacer, NOW), NOW, requests(6, 3))
    # Three are left, one flows in every ten seconds, and they leave evenly.
    left = [NOW]
    now = NOW
    while len(left) < 8:
        pause = pacer.delay(now, ROW)
        assert pause is not None
        now += pause
        send(pacer, now)
        left.append(now)
    gaps = [after - before for before, after in itertools.pairwise(left)][1:]
    assert gaps == pytest.approx([60 / (6 * 0.98)] * len(gaps), rel=0.05)


def test_others_who_spend_the_same_budget_are_made_room_for() -> None:
    pacer = Pacer()
    ticket = send(pacer, NOW)
    pacer.answered(ticket, NOW, requests(600, 0))
    assert pacer.delay(NOW, ROW) == pytest.approx(0.1, abs=0.01)
    assert pacer.delay(NOW + 0.1, ROW) == 0


def test_a_reply_that_was_overtaken_is_old_news() -> None:
    pacer = Pacer(Pacing(first=10))
    slow, quick = send(pacer, NOW), send(pacer, NOW + 1)
    pacer.answered(quick, NOW + 1, requests(600, 0))
    pacer.answered(slow, NOW + 1, requests(600, 599))
    assert pacer.delay(NOW + 1, ROW) == pytest.approx(0.1, abs=0.01)


def test_a_limit_by_the_day() -> None:
    pacer = Pacer(Pacing(first=10))
    pacer.answered(send(pacer, NOW), NOW, requests(200, 0, 86_400.0))
    assert pacer.delay(NOW, ROW) == pytest.approx(432, rel=0.03)


def test_a_call_larger_than_the_whole_budget_waits_for_a_full_one() -> None:
    pacer = Pacer(Pacing(first=10))
    window = Window(kind="tokens", limit=1_000, remaining=400)
    pacer.answered(send(pacer, NOW), NOW, (window,))
    assert pacer.delay(NOW, Load(5_000, 0)) == pytest.approx(36, rel=0.01)
    assert pacer.delay(NOW + 36.1, Load(5_000, 0)) == 0


def test_tiers_share_budgets_and_nothing_else() -> None:
    budgets = Budgets()
    flex, standard = Pacer(Pacing(first=8), budgets), Pacer(Pacing(first=8), budgets)
    flex.overloaded(send(flex, NOW), NOW, (), 60.0, 0.5)
    assert (flex.width, standard.width) == (4, 8)
    assert standard.delay(NOW, ROW) == 0
    standard.answered(send(standard, NOW), NOW, requests(600, 0))
    assert flex.delay(NOW + 60, ROW) == 0
    send(flex, NOW + 60)
    assert standard.delay(NOW + 60, ROW) == 0


def test_a_limit_of_the_users_own() -> None:
    pacer = Pacer(Pacing(first=50, most=50, requests_per_minute=60, share=1.0))
    left: list[float] = []
    now = NOW
    while len(left) < 20:
        pause = pacer.delay(now, ROW)
        assert pause is not None
        now += pause
        send(pacer, now)
        left.append(now)
    assert left[-1] - left[0] == pytest.approx(19, abs=0.5)


@pytest.mark.parametrize("factor", [0.1, 0.5, 3, 20])
def test_estimates_are_corrected_by_what_remains(factor: float) -> None:
    """A thousand rows a minute by our estimate, and by the provider's count so many times that."""
    limit = 1_000_000
    level, at = float(limit), NOW
    pacer = Pacer(Pacing(first=100, most=100))
    load = Load(1_000, 0)
    sent = 0
    while sent < 3_000 and at < NOW + 36_000:
        pause = pacer.delay(at, load)
        assert pause is not None
        at += max(pause, 0.01)
        level = min(float(limit), level + max(pause, 0.01) * limit / 60)
        if pacer.delay(at, load) != 0:
            continue
        ticket = pacer.sent(at, load)
        sent += 1
        cost = 1_000 * factor
        if level < cost:
            pacer.overloaded(
                ticket, at, (Window(kind="tokens", limit=limit, remaining=int(level)),), 0.1, 0.5
            )
            continue
        level -= cost
        pacer.answered(ticket, at, (Window(kind="tokens", limit=limit, remaining=int(level)),))
    weight = pacer._budgets._buckets["tokens"].weight
    if factor > 1:
        # It is only learned where the budget is what holds calls back.
        assert factor / 1.5 <= weight <= factor * 1.5
    else:
        assert weight <= 1


# ---------------------------------------------------------------- whatever happens


Event = tuple[str, float, float]


@settings(max_examples=300, deadline=None)
@given(
    events=st.lists(
        st.tuples(
            st.sampled_from(["send", "answered", "overloaded", "failed", "returned", "wait"]),
            st.floats(0, 100),
            st.floats(0, 1, exclude_max=True),
        ),
        max_size=120,
    ),
    first=st.integers(1, 20),
    most=st.integers(1, 40),
    limit=st.none() | st.integers(1, 1_000),
)
def test_bounds_hold_whatever_happens(events: list[Event], first: int, most: int, limit: int | None) -> None:
    pacer = Pacer(Pacing(first=first, most=most))
    out: list[Ticket] = []
    now = NOW
    quiet_until = now
    for what, number, draw in events:
        windows = () if limit is None else requests(limit, int(draw * limit))
        if what == "send":
            if pacer.delay(now, ROW) == 0:
                assert now >= quiet_until - 1e-6  # nearer than that is now
                out.append(pacer.sent(now, ROW))
        elif what == "wait":
            now += number
        elif out:
            ticket = out.pop(int(draw * len(out)))
            if what == "answered":
                pacer.answered(ticket, now, windows)
            elif what == "overloaded":
                pacer.overloaded(ticket, now, windows, number, draw)
                quiet_until = max(quiet_until, now + number)
            elif what == "failed":
                pacer.failed(ticket, now, windows)
            else:
                pacer.returned(ticket)
        assert 1 <= pacer.width <= most
        assert pacer.in_flight == len(out)
    # Nothing waits for ever: with nothing under way, waiting as long as it says is enough.
    for ticket in out:
        pacer.returned(ticket)
    for _ in range(5):
        pause = pacer.delay(now, ROW)
        assert pause is not None
        now += pause + 1e-6
    assert pacer.delay(now, ROW) == 0


# ---------------------------------------------------------------- against a provider


class Outcome(NamedTuple):
    """`used`: the share of the limit that was used once the first fifth of the rows had left."""

    calls: int
    refused: int
    seconds: float
    used: float


def serve(
    rows: int,
    *,
    limit: int,
    seconds: Callable[[], float],
    burst: float = 60.0,
    others: float = 0.0,
    headers: bool = True,
    pacing: Pacing | None = None,
) -> Outcome:
    """Calls against a bucket of `limit` a minute. `others`: the share of it that somebody else uses all the time."""
    pacer = Pacer(pacing)
    capacity = max(1.0, limit * burst / 60)
    level, minute, then = capacity, float(limit), NOW
    now = last = NOW
    under_way: list[tuple[float, int, Ticket, bool, tuple[Window, ...], float]] = []
    serial = itertools.count()
    left, calls, refused, settled_at = rows, 0, 0, NOW
    dice = random.Random(1)
    while left or under_way:
        pause = pacer.delay(now, ROW) if left else None
        if pause == 0:
            flowed = (now - then) * limit / 60
            level = min(capacity, level + flowed * (1 - others))
            minute = min(float(limit), minute + flowed * (1 - others))
            then = now
            ticket = pacer.sent(now, ROW)
            calls += 1
            fine = level >= 1 and minute >= 1
            level, minute = max(0.0, level - 1), max(0.0, minute - 1)
            windows = requests(limit, int(minute)) if headers else ()
            wait = 0.0 if fine else max(1.0, (1 - min(level, minute)) * 60 / limit)
            left -= fine
            refused += not fine
            took = seconds() if fine else 0.05
            heapq.heappush(under_way, (now + took, next(serial), ticket, fine, windows, wait))
            if rows - left == rows // 5:
                settled_at = now
            last = now
            continue
        if under_way and (pause is None or under_way[0][0] <= now + pause):
            ends, _, ticket, fine, windows, wait = heapq.heappop(under_way)
            now = max(now, ends)
            if fine:
                pacer.answered(ticket, now, windows)
            else:
                pacer.overloaded(ticket, now, windows, wait, dice.random())
        else:
            assert pause is not None
            now += pause
    used = (rows - rows // 5) / (limit * (1 - others) / 60) / (last - settled_at)
    return Outcome(calls, refused, now - NOW, used)


@pytest.mark.parametrize("burst", [60.0, 1.0])
@pytest.mark.parametrize(("limit", "latency"), [(60, 1.0), (500, 2.0), (500, 10.0), (3_000, 2.0)])
def test_a_limit_is_used_without_storms(limit: int, latency: float, burst: float) -> None:
    dice = random.Random(limit)
    rows = limit * 4
    found = serve(rows, limit=limit, seconds=lambda: dice.lognormvariate(0, 0.5) * latency, burst=burst)
    assert found.calls - found.refused == rows
    # The first few leave before anybody has said how many may.
    assert found.refused <= 3
    assert found.used >= 0.95
    # A start at four calls at once costs some rounds.
    assert found.seconds <= rows / limit * 60 / 0.95 + 6 * latency


def test_a_budget_that_somebody_else_uses_too() -> None:
    dice = random.Random(3)
    found = serve(2_000, limit=600, seconds=lambda: dice.uniform(1, 3), others=0.5)
    assert found.refused <= found.calls * 0.02
    assert found.used >= 0.9


def test_a_provider_that_says_nothing_of_its_limits() -> None:
    """Then the width alone has to find it, by what is refused."""
    dice = random.Random(4)
    found = serve(3_000, limit=600, seconds=lambda: dice.uniform(1, 3), headers=False)
    assert found.refused <= found.calls * 0.05
    assert found.used >= 0.7
