"""How many rows a batch takes, and shards that are held back: pure, without a provider."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfrate.base.errors import IllegalStep
from halfrate.base.results import Billed, Collection
from halfrate.base.types import Counts, Usage
from halfrate.core import lifecycle as life
from halfrate.core.breaker import tripped
from halfrate.core.lifecycle import MOVING, WAITING, Policy, Shard, State, Trouble

UPLOADING = Policy(uploads_file=True)
DIRECT = Policy(uploads_file=False)


def planned(rows: int = 1000, **changes: Any) -> Shard:
    shard = Shard(
        id="j-0",
        job_id="j",
        number=0,
        first_row=0,
        rows=rows,
        rows_left=rows,
        bytes=1,
        model="m",
        account="a",
    )
    return msgspec.structs.replace(shard, tokens=100 * rows, **changes)


def running(shard: Shard, policy: Policy, now: float = 10.0) -> Shard:
    if policy.uploads_file:
        shard = life.apply(shard, life.Uploaded(f"f{shard.attempt}"), policy, now)
    shard = life.apply(shard, life.IntentMade(), policy, now)
    return life.apply(shard, life.Created(f"b{shard.attempt}"), policy, now)


def after_batch(shard: Shard, unsettled: int, *, too_much: bool = False, policy: Policy = DIRECT) -> Shard:
    """The shard after one more batch that left so many of its rows."""
    shard = running(shard, policy)
    shard = life.apply(shard, life.Polled(status="s", ended=True), policy, 20.0)
    counts = Counts(succeeded=shard.rows - shard.rows_left + shard.sending - unsettled)
    shard = life.apply(shard, life.Collected(counts, unsettled, too_much=too_much), policy, 30.0)
    assert life.decide(shard, policy) == life.CleanUp(False)
    return life.apply(shard, life.Cleaned(), policy, 40.0)


def test_a_batch_larger_than_the_queue_is_cut_before_anything_is_sent() -> None:
    claimed = planned(room=300)
    assert life.decide(claimed, UPLOADING) == life.CutDown(300)
    shard = life.apply(claimed, life.Cut(300), UPLOADING, 1.0)
    assert (shard.state, shard.sending, shard.rows_left, shard.attempt) == (State.PLANNED, 300, 1000, 2)
    assert shard.demand == 30_000
    assert life.decide(shard, UPLOADING) == life.Upload()


def test_a_cut_after_the_upload_takes_the_file_away_first() -> None:
    uploaded = life.apply(planned(), life.Uploaded("f1"), UPLOADING, 1.0)
    shard = life.apply(msgspec.structs.replace(uploaded, room=250), life.Cut(250), UPLOADING, 2.0)
    assert (shard.state, shard.refs.leftovers) == (State.CLEANING, ("f1",))
    shard = life.apply(shard, life.Cleaned(), UPLOADING, 3.0)
    assert (shard.state, shard.attempt, shard.sending, shard.rows_left) == (State.PLANNED, 2, 250, 1000)
    assert shard.refs.file_id is None


@pytest.mark.parametrize("rows", [0, 1000, 1001])
def test_a_cut_that_makes_nothing_smaller_is_none(rows: int) -> None:
    with pytest.raises(IllegalStep, match="cannot be cut"):
        life.apply(planned(), life.Cut(rows), UPLOADING, 1.0)


def test_rows_that_had_no_turn_spend_none_of_their_attempts() -> None:
    shard = life.apply(planned(last_attempt=2), life.Cut(100), DIRECT, 1.0)
    batches = 0
    while shard.state is not State.DONE:
        shard = after_batch(shard, 0)
        batches += 1
    assert batches == 10


def test_a_cut_shard_still_ends_when_rows_keep_failing() -> None:
    shard = life.apply(planned(last_attempt=3), life.Cut(400), DIRECT, 1.0)
    batches = 0
    while shard.state is not State.DONE:
        # Ten of every batch fail in passing for ever.
        shard = after_batch(shard, min(10, shard.sending))
        batches += 1
    assert batches <= 8


@given(st.integers(2, 50_000), st.data())
def test_the_row_that_fails_a_whole_batch_is_found(rows: int, data: Any) -> None:
    """A provider that fails every batch with one certain row in it: all others get through, and it ends."""
    bad = data.draw(st.integers(0, rows - 1))
    left = list(range(rows))
    shard = planned(rows)
    batches = 0
    while shard.state is not State.DONE:
        sent = left[: shard.sending]
        batches += 1
        if bad in sent:
            alone = len(sent) == 1 and shard.setbacks > 0
            left = left[1:] if alone else left
            shard = after_batch(shard, 0 if alone else len(sent), too_much=True)
        else:
            left = left[len(sent) :]
            shard = after_batch(shard, 0)
    assert left == []
    assert batches < 6 * rows.bit_length() + 10


def test_one_bad_batch_is_no_reason_to_make_it_smaller() -> None:
    shard = after_batch(planned(), 1000, too_much=True)
    assert (shard.sending, shard.setbacks, shard.attempt) == (1000, 1, 2)
    shard = after_batch(shard, 1000, too_much=True)
    assert (shard.sending, shard.setbacks) == (500, 2)


def test_batches_that_come_to_nothing_for_ever_are_given_up() -> None:
    shard = planned()
    batches = 0
    while shard.state is not State.DONE:
        shard = after_batch(shard, shard.sending, too_much=True)
        batches += 1
    assert batches <= DIRECT.halvings + DIRECT.max_attempts + 1


@pytest.mark.parametrize("policy", [UPLOADING, DIRECT])
def test_a_pause_before_the_create_holds_the_shard(policy: Policy) -> None:
    shard = planned()
    if policy.uploads_file:
        shard = life.apply(shard, life.Uploaded("f1"), policy, 1.0)
    before = shard.state
    paused = life.apply(shard, life.PauseAsked(), policy, 2.0)
    assert paused.state is State.PAUSED
    assert not paused.holds_room
    assert life.decide(paused, policy) == life.Rest()
    again = life.apply(paused, life.PauseEnded(), policy, 3.0)
    assert (again.state, again.next_at, again.refs) == (before, 3.0, shard.refs)


def test_a_pause_of_a_running_batch_holds_what_it_leaves() -> None:
    shard = life.apply(running(planned(), DIRECT), life.PauseAsked("rows fail"), DIRECT, 11.0)
    assert shard.state is State.RUNNING
    shard = life.apply(shard, life.Polled(status="s", ended=True), DIRECT, 20.0)
    shard = life.apply(shard, life.Collected(Counts(succeeded=900), 100), DIRECT, 30.0)
    shard = life.apply(shard, life.Cleaned(), DIRECT, 40.0)
    assert (shard.state, shard.paused_because, shard.rows_left) == (State.PAUSED, "rows fail", 100)
    assert life.apply(shard, life.PauseEnded(), DIRECT, 50.0).state is State.PLANNED


def test_a_pause_that_is_over_before_a_run_is_collected_costs_its_rows_no_attempt() -> None:
    shard = life.apply(planned(last_attempt=1), life.SendNow("standard"), DIRECT, 1.0)
    shard = life.apply(shard, life.PauseAsked(), DIRECT, 2.0)
    assert life.decide(shard, DIRECT) == life.Answer(stop=True)
    shard = life.apply(shard, life.Answered(left=300), DIRECT, 3.0)
    shard = life.apply(shard, life.PauseEnded(), DIRECT, 4.0)
    assert (shard.state, shard.left_early, shard.paused) == (State.COLLECTING, True, False)
    shard = life.apply(shard, life.Collected(Counts(succeeded=700), 300), DIRECT, 5.0)
    shard = life.apply(shard, life.Cleaned(), DIRECT, 6.0)
    assert (shard.state, shard.rows_left, shard.attempt, shard.last_attempt) == (State.PLANNED, 300, 2, 2)
    whole = life.apply(planned(), life.SendNow("standard"), DIRECT, 1.0)
    assert not life.apply(whole, life.Answered(left=0), DIRECT, 3.0).left_early


def test_a_batch_that_ends_well_ends_its_pause() -> None:
    shard = life.apply(running(planned(), DIRECT), life.PauseAsked(), DIRECT, 11.0)
    shard = life.apply(shard, life.Polled(status="s", ended=True), DIRECT, 20.0)
    shard = life.apply(shard, life.Collected(Counts(succeeded=1000), 0), DIRECT, 30.0)
    assert life.apply(shard, life.Cleaned(), DIRECT, 40.0).state is State.DONE


def test_a_refused_create_of_a_paused_shard_is_not_tried_again() -> None:
    shard = life.apply(planned(), life.IntentMade(), DIRECT, 1.0)
    shard = life.apply(shard, life.PauseAsked(), DIRECT, 2.0)
    shard = life.apply(shard, life.CreateRefused(Trouble("429", "busy"), passing=True), DIRECT, 3.0)
    assert shard.state is State.PAUSED


def test_a_cancel_ends_a_pause() -> None:
    paused = life.apply(planned(), life.PauseAsked(), DIRECT, 1.0)
    cancelled = life.apply(paused, life.CancelAsked(), DIRECT, 2.0)
    assert cancelled.state in MOVING & WAITING
    assert life.decide(cancelled, DIRECT) == life.Abandon()


def test_room_is_held_from_before_the_upload_until_the_batch_has_left_the_queue() -> None:
    shard = planned()
    held = [shard.holds_room]
    shard = running(shard, UPLOADING)
    held.append(shard.holds_room)
    full = life.apply(shard, life.NoRoom(trouble=Trouble("full", "full"), wait=60.0), UPLOADING, 20.0)
    ended = life.apply(shard, life.Polled(status="s", ended=True), UPLOADING, 20.0)
    assert [*held, full.holds_room, ended.holds_room] == [True, True, False, False]


def collection(sent: int, failed: int, unsettled: int = 0, invalid: int = 0) -> Collection:
    return Collection(
        counts=Counts(succeeded=sent - failed, failed=failed),
        unsettled=unsettled,
        billed=(Billed("m", sent - failed, Usage(), 0, 0),),
        wasted=(),
        duplicates=0,
        unknown=0,
        malformed=0,
        missing=0,
        errors=(("400: no such model", failed),),
        invalid=invalid,
    )


@pytest.mark.parametrize(
    ("given", "stops"),
    [
        (collection(1000, 0), False),
        (collection(1000, 499), False),
        (collection(1000, 500), True),
        (collection(40, 40), False),
        (collection(1000, 900, unsettled=900), False),  # rate limits pass
        (collection(1000, 900, unsettled=900, invalid=900), True),  # and answers that are wrong were paid
    ],
)
def test_rows_that_fail_en_masse_stop_the_job(given: Collection, stops: bool) -> None:
    why = tripped(given, given.counts.settled)
    assert (why is not None) == stops
    if why is not None:
        assert "400: no such model" in why


FEW = Policy(uploads_file=False, least_rows=100)
FEW_RUN = Policy(uploads_file=False, least_rows=100, small_tails="realtime")


def test_rows_left_that_are_too_few_for_a_batch_are_left_out_and_told_so() -> None:
    shard = after_batch(planned(), 99, policy=FEW)
    assert (shard.attempt, shard.sending, life.decide(shard, FEW)) == (2, 99, life.LeaveOut())
    out = life.apply(shard, life.LeftOut(), FEW, 50.0)
    assert (out.state, out.tier, out.refs.batches) == (State.COLLECTING, life.NOT_SENT, ())
    assert out.trouble is not None
    assert (
        "99 rows of its batch were left, and the provider takes no batch of fewer than 100"
        in out.trouble.message
    )
    done = life.apply(out, life.Collected(Counts(succeeded=901, failed=99), 0), FEW, 60.0)
    done = life.apply(done, life.Cleaned(), FEW, 70.0)
    assert (done.state, done.counts.failed) == (State.DONE, 99)
    # As many as a batch takes are one.
    assert life.decide(after_batch(planned(), 100, policy=FEW), FEW) == life.Create()


def test_rows_left_that_are_too_few_go_to_real_time_where_the_job_allows_it() -> None:
    shard = after_batch(planned(), 99, policy=FEW_RUN)
    assert life.decide(shard, FEW_RUN) == life.GoRealtime("standard")
    shard = life.apply(shard, life.SendNow("standard"), FEW_RUN, 50.0)
    assert (shard.state, shard.tier) == (State.ANSWERING, "standard")


def test_an_uploaded_file_of_rows_that_are_left_out_is_deleted() -> None:
    policy = Policy(uploads_file=True, least_rows=2000)
    uploaded = life.apply(planned(), life.Uploaded("f1"), policy, 1.0)
    assert life.decide(uploaded, policy) == life.LeaveOut()
    out = life.apply(uploaded, life.LeftOut(), policy, 2.0)
    assert (out.refs.file_id, out.refs.leftovers) == (None, ("f1",))


def test_a_cancel_goes_before() -> None:
    shard = life.apply(after_batch(planned(), 9, policy=FEW), life.CancelAsked(), FEW, 50.0)
    assert life.decide(shard, FEW) == life.Abandon()


@given(st.integers(100, 3000), st.integers(1, 200))
def test_batches_that_come_to_nothing_never_get_too_small(rows: int, least: int) -> None:
    policy = Policy(uploads_file=False, least_rows=least)
    shard = planned(rows, last_attempt=5)
    for _ in range(200):
        command = life.decide(shard, policy)
        if not isinstance(command, life.Create):
            break
        assert shard.sending >= least
        assert not 0 < shard.rows_left - shard.sending < least
        shard = after_batch(shard, shard.sending, too_much=True, policy=policy)
    assert shard.state is State.DONE or rows < least


def test_a_queue_with_less_room_than_the_smallest_batch_is_tried_with_that() -> None:
    assert life.decide(planned(room=30), FEW) == life.CutDown(100)
    shard = life.apply(planned(room=30), life.Cut(100), FEW, 1.0)
    assert life.decide(msgspec.structs.replace(shard, room=30), FEW) == life.Create()


def led(**changes: Any) -> Shard:
    return planned(leaders=40, attempt=life.BEHIND_LEADERS, last_attempt=6, **changes)


def test_the_rows_that_warm_the_cache_go_first_and_are_no_attempt_of_the_others() -> None:
    shard = led()
    assert (shard.sending, shard.leading, shard.try_number) == (40, True, 1)
    shard = after_batch(shard, 0)
    assert (shard.rows_left, shard.sending, shard.leading) == (960, 960, False)
    assert (shard.attempt, shard.try_number, shard.status) == (3, 1, "cache warm")
    for number in range(2, 6):
        shard = after_batch(shard, 960)
        assert (shard.state, shard.try_number) == (State.PLANNED, number)
    assert after_batch(shard, 960).state is State.DONE


def test_leaders_that_fail_go_again_with_the_others() -> None:
    shard = after_batch(led(), 10)
    assert (shard.rows_left, shard.sending, shard.leading) == (970, 970, False)


@pytest.mark.parametrize("too_much", [False, True])
def test_where_nothing_came_of_the_leaders_they_go_first_once_more(*, too_much: bool) -> None:
    shard = after_batch(led(), 40, too_much=too_much)
    assert (shard.sending, shard.leading, shard.rows_left) == (40, True, 1000)
    shard = after_batch(shard, 40, too_much=too_much)
    assert (shard.leading, shard.rows_left) == (False, 1000)
    if not too_much:
        assert shard.sending == 1000


def test_leaders_that_a_queue_has_no_room_for_are_cut_like_others() -> None:
    shard = life.apply(led(room=25), life.Cut(25), DIRECT, 1.0)
    assert (shard.sending, shard.leading) == (25, True)
    shard = after_batch(shard, 0)
    assert (shard.sending, shard.leading, shard.rows_left) == (25, False, 975)


def test_a_shard_that_was_stopped_goes_on_with_the_rows_of_its_request_file_or_writes_another() -> None:
    stopped = life.apply(
        life.apply(led(), life.IntentMade(), DIRECT, 1.0),
        life.CreateRefused(life.Trouble("400", "no"), passing=False),
        DIRECT,
        2.0,
    )
    assert stopped.state is State.STOPPED
    again = life.apply(stopped, life.Resumed(), DIRECT, 3.0)
    assert (again.attempt, again.sending, again.leading) == (2, 40, True)
    apart = msgspec.structs.replace(stopped, portion=3)
    again = life.apply(apart, life.Resumed(), DIRECT, 3.0)
    assert (again.attempt, again.sending) == (3, 40)
