"""Batches for which their provider's queue has no room: which of them wait, which are made smaller, and how it ends."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfrate.base.types import Counts
from halfrate.core import lifecycle as life
from halfrate.core.admission import Fit, Queue, Refusal, fit
from halfrate.core.lifecycle import Policy, Shard, State, Trouble

POLICY = Policy(uploads_file=True)
FULL = Trouble("queue_full", "full")


def sent(rows: int = 10, **changes: Any) -> Shard:
    """A shard whose batch is with the provider."""
    shard = Shard(
        id="j-0",
        job_id="j",
        number=0,
        first_row=0,
        rows=rows,
        rows_left=rows,
        bytes=100 * rows,
        tokens=10 * rows,
        model="m",
        account="a",
    )
    return again(msgspec.structs.replace(shard, **changes))


def again(shard: Shard, now: float = 10.0, policy: Policy = POLICY) -> Shard:
    """The shard once its next batch is with the provider."""
    if shard.state is State.CLEANING:
        shard = life.apply(shard, life.Cleaned(), policy, now)
    if shard.state is State.PLANNED:
        shard = life.apply(shard, life.Uploaded(f"f{shard.attempt}"), policy, now)
    shard = life.apply(shard, life.IntentMade(), policy, now)
    return life.apply(shard, life.Created(f"b{shard.attempt}"), policy, now)


def refused(
    shard: Shard,
    rows: int | None = None,
    *,
    doubtful: bool = False,
    never: bool = False,
    alone: bool = True,
    now: float = 20.0,
    policy: Policy = POLICY,
) -> Shard:
    """The shard after its batch found no room in a queue that takes `rows` of its rows."""
    known = None if rows is None else Fit(rows=rows, first=150, most=100, doubtful=doubtful, never=never)
    event = life.NoRoom(trouble=FULL, wait=60.0, alone=alone, fit=known)
    return life.apply(shard, event, policy, now)


def collected(shard: Shard, unsettled: int, policy: Policy = POLICY) -> Shard:
    """The shard once the outcomes of its attempt are kept, and what it left is deleted."""
    if shard.state is State.RUNNING:
        shard = life.apply(shard, life.Polled(status="s", ended=True), policy, 30.0)
    assert shard.state is State.COLLECTING
    shard = life.apply(shard, life.Collected(Counts(), unsettled), policy, 40.0)
    return life.apply(shard, life.Cleaned(), policy, 50.0)


@pytest.mark.parametrize("alone", [True, False])
def test_a_row_larger_than_the_whole_queue_is_not_tried_for_ever(alone: bool) -> None:
    parts = refused(sent(), 0, never=True, alone=alone)
    assert (parts.state, parts.portion, parts.refs.leftovers) == (State.CLEANING, 1, ("f1",))
    single = again(parts)
    assert (single.attempt, single.sending) == (2, 1)
    over = refused(single, 0, never=True, alone=alone)
    assert (over.state, over.tier, over.status) == (State.COLLECTING, life.NOT_SENT, "too large")
    assert over.trouble is not None
    assert "takes 100 tokens in all: it has about 150" in over.trouble.message
    assert "--small-tails realtime" in over.trouble.message
    rest = collected(over, 0)
    assert (rest.state, rest.sending, rest.rows_left, rest.tier) == (State.PLANNED, 9, 9, "batch")


def test_such_a_row_goes_in_real_time_where_the_job_allows_it() -> None:
    allowed = Policy(uploads_file=True, oversized="realtime")
    single = again(refused(sent(), 0, never=True, policy=allowed))
    going = refused(single, 0, never=True, policy=allowed)
    assert (going.state, going.tier, going.sending) == (State.ANSWERING, "standard", 1)
    answered = life.apply(going, life.Answered(0), allowed, 30.0)
    rest = collected(answered, 0, allowed)
    assert (rest.state, rest.sending, rest.tier) == (State.PLANNED, 9, "batch")


def test_a_batch_is_made_as_small_as_the_queue_and_grows_again() -> None:
    shard = again(refused(sent(100), 30, alone=False))
    assert (shard.sending, shard.attempt, shard.last_attempt) == (30, 2, 6)
    shard = collected(shard, 0)
    assert (shard.rows_left, shard.sending) == (70, 60)
    shard = collected(again(shard), 0)
    assert (shard.rows_left, shard.sending, shard.attempt) == (10, 10, 4)


def test_a_batch_that_should_have_fitted_is_halved_after_three_refusals_with_nothing_beside_it() -> None:
    shard = sent()
    for due in (80.0, 140.0):
        shard = refused(shard, 10)
        assert (shard.state, shard.trouble, shard.next_at) == (State.UPLOADED, FULL, due)
        shard = again(shard)
    assert refused(shard, 10, alone=False).state is State.UPLOADED, "ours are in the way"
    assert refused(shard).state is State.UPLOADED, "nobody knows what the queue takes"
    assert refused(msgspec.structs.replace(shard, cancel_requested=True), 10).state is State.UPLOADED
    shard = again(refused(shard, 10))
    assert (shard.sending, shard.refused_alone) == (5, 0)


def test_a_row_that_may_be_too_large_waits_behind_the_others_and_comes_to_an_end() -> None:
    shard = again(refused(sent(), 0, doubtful=True))
    waits: list[float] = []
    for _ in range(life.TRIES_IN_DOUBT - 1):
        shard = refused(shard, 1, doubtful=True)
        assert shard.state is State.UPLOADED
        waits.append(shard.next_at - 20.0)
        shard = again(shard)
    assert (shard.attempt, shard.sending, waits) == (2, 1, [60.0, 120.0, 240.0, 480.0, 900.0])
    assert refused(shard, 1).state is State.UPLOADED, "others fill the queue"
    shard = refused(shard, 1, doubtful=True)
    assert (shard.state, shard.status) == (State.COLLECTING, life.NO_ROOM)
    shard = collected(shard, 1)
    assert (shard.rows_left, shard.sending) == (10, 9), "the others, without it"
    shard = collected(again(shard), 0)
    tries = 0
    while shard.state is not State.DONE:
        assert (shard.rows_left, shard.sending) == (1, 1)
        tries += 1
        for _ in range(life.TRIES_IN_DOUBT):
            shard = refused(again(shard), 0, doubtful=True)
        shard = collected(shard, 1)
    assert tries == POLICY.max_attempts


def test_what_is_refused_for_days_with_nothing_beside_it_is_for_a_person_to_look_at() -> None:
    shard = refused(sent(1), None, now=100.0)
    assert (shard.state, shard.alone_since) == (State.UPLOADED, 100.0)
    shard = refused(again(shard), None, now=100.0 + POLICY.room_patience)
    assert shard.state is State.UPLOADED
    beside = refused(again(shard), None, alone=False, now=200.0 + POLICY.room_patience)
    assert (beside.state, beside.alone_since) == (State.UPLOADED, None)
    shard = refused(again(shard), None, now=200.0 + POLICY.room_patience)
    assert (shard.state, shard.status) == (State.STOPPED, "refused")
    assert shard.trouble is not None
    assert "`halfrate retry`" in shard.trouble.message
    resumed = life.apply(shard, life.Resumed(), POLICY, 1e6)
    assert (resumed.state, resumed.alone_since, resumed.refused_alone) == (State.PLANNED, None, 0)
    assert resumed.refs.leftovers == ("f1",)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 12), st.randoms())
def test_rows_that_always_fail_in_small_batches_come_to_an_end_and_have_turns_alike(
    rows: int, cap: int, good: int, dice: Any
) -> None:
    """Each of them is tried as often as a row is tried in a batch of all, and not once more."""
    fails = {row: row >= good for row in range(rows)}
    turns = dict.fromkeys(range(rows), 0)
    left = list(range(rows))
    shard = sent(rows)
    if cap < rows:
        shard = again(refused(shard, cap, alone=False))
        shard = msgspec.structs.replace(shard, cap=cap)
    while True:
        left.sort(key=lambda row: (turns[row], row))
        chosen = left[: shard.sending]
        for row in chosen:
            turns[row] += 1
        left = [row for row in left if row not in chosen or fails[row]]
        shard = collected(shard, sum(fails[row] for row in chosen))
        if shard.state is State.DONE:
            break
        assert shard.rows_left == len(left)
        shard = again(shard)
    tried = [turns[row] for row in range(rows) if fails[row]]
    if tried:
        assert max(tried) - min(tried) <= 1
        assert POLICY.max_attempts <= max(tried) <= POLICY.max_attempts + 1
    assert all(turns[row] == 1 for row in range(rows) if not fails[row])


def queue(most: int | None, estimated: float = 0.0, counted: float = 0.0) -> Refusal:
    learned = Queue(account="a", model="m", estimated=estimated, counted=counted)
    return Refusal(queue=learned, until=0.0, alone=True, most=most)


def test_how_a_batch_compares_with_its_queue() -> None:
    assert fit([40] * 5, 0.25, queue(None)) is None
    assert fit([40] * 20, 0.25, queue(100)) == Fit(rows=9, first=10, most=100)
    assert fit([40] * 3, 0.25, queue(100)) == Fit(rows=3, first=10, most=100)
    # It counts two for each of ours.
    assert fit([40] * 20, 0.25, queue(100, 50_000, 100_000)) == Fit(rows=4, first=10, most=100)
    assert fit([240], 0.25, queue(100)) == Fit(rows=1, first=60, most=100, doubtful=True)


def test_a_row_is_held_against_its_queue_by_its_bytes_as_well() -> None:
    # Whatever was learned from others: it may be Chinese.
    assert fit([201], 0.01, queue(100, 50_000, 10_000)) == Fit(rows=1, first=0, most=100, doubtful=True)
    assert fit([199], 0.01, queue(100, 50_000, 10_000)) == Fit(rows=1, first=0, most=100)
    # A link to a picture is short, and its tokens are many.
    assert fit([100], 10.0, queue(100, 50_000, 50_000)) == Fit(rows=0, first=1000, most=100, doubtful=True)


def test_a_row_is_too_large_for_certain_only_where_every_count_says_so() -> None:
    known = queue(100, 50_000, 50_000)
    assert fit([504], 0.25, known) == Fit(rows=0, first=126, most=100, doubtful=True, never=True)
    assert fit([496], 0.25, known) == Fit(rows=0, first=124, most=100, doubtful=True)
    assert fit([504], 0.25, queue(100)) == Fit(rows=0, first=126, most=100, doubtful=True), "nothing was seen"
    half = queue(100, 50_000, 25_000)
    assert fit([504], 0.25, half) == Fit(rows=1, first=63, most=100, doubtful=True)
    assert fit([1008], 0.25, half) == Fit(rows=0, first=126, most=100, doubtful=True, never=True)
