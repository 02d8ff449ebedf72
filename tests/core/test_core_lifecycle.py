"""The life of a shard: what the table allows, what it never does, and that every way through it ends."""

import ast
import inspect
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfrate.base.errors import IllegalStep
from halfrate.base.types import Counts
from halfrate.core import lifecycle as life
from halfrate.core.admission import Fit
from halfrate.core.lifecycle import LIVE, Policy, Shard, State, Trouble

UPLOADING = Policy(uploads_file=True)
INLINE = Policy(uploads_file=False)
REALTIME = Policy(uploads_file=True, tier="standard")
FEW_FAIL = Policy(uploads_file=True, least_rows=4)
FEW_RUN = Policy(uploads_file=True, least_rows=4, small_tails="realtime")
POLICIES = st.sampled_from([UPLOADING, INLINE, REALTIME, FEW_FAIL, FEW_RUN])
TROUBLE = Trouble("x", "something")
EVENTS: tuple[type[Any], ...] = (
    life.UploadMeant,
    life.Uploaded,
    life.IntentMade,
    life.Created,
    life.CreateRefused,
    life.CreateUnknown,
    life.SenderGone,
    life.Found,
    life.Absent,
    life.Held,
    life.StepFailed,
    life.Polled,
    life.NoRoom,
    life.BatchMissing,
    life.CancelSent,
    life.Collected,
    life.Foreign,
    life.Cleaned,
    life.Abandoned,
    life.CancelAsked,
    life.Resumed,
    life.SendNow,
    life.RescueAsked,
    life.LeftOut,
    life.Answered,
    life.Cut,
    life.PauseAsked,
    life.PauseEnded,
)
NAMES = st.sampled_from(["b1", "b2", "b3", "b4"])
WAIT = st.none() | st.floats(0, 300)


def counts_of(shard: Shard, unsettled: int) -> Counts:
    return Counts(succeeded=shard.rows - unsettled, failed=unsettled)


def events() -> st.SearchStrategy[life.Event]:
    return st.one_of(
        st.builds(life.UploadMeant),
        st.builds(life.Uploaded, st.just("f1")),
        st.builds(life.IntentMade),
        st.builds(life.Created, NAMES),
        st.builds(life.CreateRefused, st.just(TROUBLE), st.booleans(), WAIT, st.booleans()),
        st.builds(life.CreateUnknown, st.just(TROUBLE)),
        st.builds(life.SenderGone),
        st.builds(life.Found, st.lists(NAMES, max_size=3, unique=True).map(tuple)),
        st.builds(life.Absent),
        st.builds(life.Held, st.just(TROUBLE)),
        st.builds(life.StepFailed, st.just(TROUBLE), WAIT),
        st.builds(
            life.Polled,
            status=st.just("s"),
            ended=st.booleans(),
            rows_finished=st.integers(0, 10),
        ),
        st.builds(no_room, alone=st.booleans(), rows=st.none() | st.integers(0, 10), never=st.booleans()),
        st.builds(life.BatchMissing, st.just(TROUBLE)),
        st.builds(life.CancelSent, NAMES, st.booleans()),
        st.integers(0, 10).map(lambda n: life.Collected(Counts(succeeded=10 - n, failed=n), n, ("f1", "o1"))),
        st.builds(life.Collected, st.just(Counts(failed=10)), st.integers(0, 10), too_much=st.just(True)),
        st.builds(life.Foreign),
        st.builds(life.SendNow, st.sampled_from(["flex", "standard"])),
        st.builds(life.RescueAsked, st.just("standard")),
        st.builds(life.LeftOut),
        st.builds(life.Answered, st.integers(0, 10), st.none() | st.just(TROUBLE), st.floats(0, 90)),
        st.builds(life.Cut, st.integers(0, 10)),
        st.builds(life.PauseAsked, st.sampled_from(["", "rows fail"])),
        st.builds(life.PauseEnded),
        st.builds(life.Cleaned),
        st.builds(life.Abandoned),
        st.builds(life.CancelAsked),
        st.builds(life.Resumed, st.none() | st.integers(0, 10)),
    )


def no_room(*, alone: bool = False, rows: int | None = None, never: bool = False) -> life.NoRoom:
    """A refusal for want of room, by a queue that takes `rows` rows, if anybody knows."""
    known = None if rows is None else Fit(rows=rows, first=110, most=100, never=never and not rows)
    return life.NoRoom(trouble=TROUBLE, wait=60.0, alone=alone, fit=known)


def planned() -> Shard:
    return Shard(
        id="j-0",
        job_id="j",
        number=0,
        first_row=0,
        rows=10,
        rows_left=10,
        bytes=100,
        model="m",
        account="a",
        last_attempt=3,
    )


COMMANDS_OF: dict[State, tuple[type[Any], ...]] = {
    State.PLANNED: (life.Upload, life.Create, life.Abandon, life.CutDown, life.GoRealtime, life.LeaveOut),
    State.UPLOADED: (life.Create, life.Abandon, life.CutDown, life.GoRealtime, life.LeaveOut),
    State.SUBMITTING: (life.Find,),
    State.RUNNING: (life.Poll, life.CancelBatch),
    State.CANCELLING: (life.Poll, life.CancelBatch),
    State.ANSWERING: (life.Answer,),
    State.COLLECTING: (life.Collect,),
    State.CLEANING: (life.CleanUp,),
    State.DONE: (life.Rest,),
    State.PAUSED: (life.Rest,),
    State.STOPPED: (life.Rest,),
}


def check_step(before: Shard, event: life.Event, after: Shard, policy: Policy, now: float) -> None:
    """What holds of every single step."""
    allowed = life.transitions()
    assert type(event).__name__ in allowed[before.state]
    assert after.id == before.id
    assert after.rows == before.rows
    assert after.attempt in {before.attempt, before.attempt + 1}
    assert set(before.refs.past) <= set(after.refs.past)
    if after.attempt > before.attempt and not isinstance(event, life.Resumed | life.Cut | life.NoRoom):
        assert after.attempt <= before.last_attempt
    if before.state is State.SUBMITTING and after.state in {State.PLANNED, State.UPLOADED}:
        # The only ways back to another create: a no, or an absence that can be believed.
        assert isinstance(event, life.CreateRefused | life.NoRoom | life.Absent)
        if isinstance(event, life.Absent):
            assert before.quiet_from is not None
            assert event.asked_at >= before.quiet_from + policy.settle
    with_a_batch = before.state in {State.RUNNING, State.CANCELLING, State.COLLECTING}
    if with_a_batch and after.state in {State.PLANNED, State.UPLOADED, State.SUBMITTING}:
        # A batch is let go only where it never ran, or is somebody else's, and is remembered as such.
        assert isinstance(event, life.Foreign | life.NoRoom)
        assert set(before.refs.batches) <= set(after.refs.past)
        # One made by the same create beside it may have run.
        assert isinstance(event, life.Foreign) or not before.refs.twins
    if before.cancel_requested and not isinstance(event, life.Resumed):
        assert after.cancel_requested
    if after.state is State.DONE:
        assert after.unsettled == 0
        assert after.refs.batch_id is None
    if isinstance(event, life.StepFailed) and after.state is before.state:
        assert after.next_at > now
        assert after.tries == before.tries + 1


@settings(max_examples=300)
@given(POLICIES, st.lists(st.tuples(events(), st.floats(0, 900)), max_size=40))
def test_a_random_walk_keeps_the_rules(policy: Policy, walk: list[tuple[life.Event, float]]) -> None:
    shard = planned()
    now = 1000.0
    table = life.transitions()
    for event, passed in walk:
        now += passed
        command = life.decide(shard, policy)
        assert isinstance(command, COMMANDS_OF[shard.state])
        if isinstance(command, life.Create | life.Upload):
            assert shard.sending >= policy.least_rows
        if isinstance(command, life.Create):
            assert shard.refs.batch_id is None
            assert not shard.cancel_requested
        frozen = msgspec.json.encode(shard)
        try:
            after = life.apply(shard, event, policy, now)
        except IllegalStep:
            assert msgspec.json.encode(shard) == frozen
            continue
        assert type(event).__name__ in table[shard.state]
        assert msgspec.json.encode(shard) == frozen
        check_step(shard, event, after, policy, now)
        shard = after


@pytest.mark.parametrize("state", State)
@given(event=events())
@settings(max_examples=40)
def test_what_the_table_lacks_is_illegal_and_changes_nothing(state: State, event: life.Event) -> None:
    shard = msgspec.structs.replace(planned(), state=state)
    if type(event).__name__ not in life.transitions()[state]:
        frozen = msgspec.json.encode(shard)
        with pytest.raises(IllegalStep, match=f"{state}: {type(event).__name__} is not a step"):
            life.apply(shard, event, UPLOADING, 1.0)
        assert msgspec.json.encode(shard) == frozen


def test_the_transitions_are_the_table() -> None:
    listed = {(state, name) for state, names in life.transitions().items() for name in names}
    assert listed == {(state, event.__name__) for state, event in life._TABLE}
    assert set(life.transitions()) == set(State)
    assert {event.__name__ for event in EVENTS} == {name for _, name in listed}
    # Whoever may be asked for the end of a live shard can be asked in any state.
    assert all("CancelAsked" in life.transitions()[state] for state in LIVE)


def recorded(command: life.GoRealtime | life.CutDown | life.LeaveOut | life.Abandon) -> life.Event:
    """What follows where nothing can go wrong."""
    match command:
        case life.GoRealtime(tier):
            return life.SendNow(tier)
        case life.CutDown(rows):
            return life.Cut(rows)
        case life.LeaveOut():
            return life.LeftOut()
        case life.Abandon():
            return life.Abandoned()


def respond(shard: Shard, command: life.Command, draw: Any) -> life.Event:
    """An event that may follow a command, as the engine would bring it."""
    fail = life.StepFailed(TROUBLE)
    match command:
        case life.Upload():
            return draw([life.Uploaded("f1"), fail, life.CreateRefused(TROUBLE, passing=True)])
        case life.Create():
            return life.IntentMade()
        case life.Find():
            fresh = tuple(name for name in ("b1", "b2", "b3") if name not in shard.refs.past)
            return draw(
                [
                    life.Created(f"c{shard.version}"),
                    life.CreateRefused(TROUBLE, passing=True, file_gone=shard.refs.file_id is not None),
                    life.CreateRefused(TROUBLE, passing=True),
                    no_room(alone=draw([True, False]), rows=draw([None, 0, 1, 5]), never=draw([True, False])),
                    life.CreateUnknown(TROUBLE),
                    life.SenderGone(),
                    life.Absent(draw([0.0, 1e6])),
                    life.Held(TROUBLE),
                    fail,
                    *([life.Found(fresh, draw([0.0, 1e6]))] if fresh else []),
                ]
            )
        case life.Poll():
            return draw(
                [
                    life.Polled(status="s", ended=True),
                    life.Polled(status="s", ended=False),
                    no_room(alone=draw([True, False]), rows=draw([None, 0, 1, 5]), never=draw([True, False])),
                    life.BatchMissing(TROUBLE, draw([0.0, 1e6])),
                    fail,
                ]
            )
        case life.CancelBatch(batch_id, twin):
            return draw([life.CancelSent(batch_id, twin), fail])
        case life.Collect():
            left = draw([0, 1, shard.sending])
            if shard.tier == life.NOT_SENT:
                return draw([life.Collected(counts_of(shard, shard.sending), 0), fail])
            kept = life.Collected(counts_of(shard, left), left, ("f1",), too_much=left > 1)
            return draw([kept, fail, *([life.Foreign()] if shard.tier == "batch" else [])])
        case life.CleanUp():
            return draw([life.Cleaned(), fail])
        case life.Answer(stop):
            return (
                draw([life.Answered(0), life.Answered(1), life.Answered(1, TROUBLE, 5.0), fail])
                if not stop
                else life.Answered(1)
            )
        case life.GoRealtime() | life.CutDown() | life.LeaveOut() | life.Abandon():
            return recorded(command)
        case life.Rest():
            raise AssertionError("a shard at rest is not stepped")


@settings(max_examples=200)
@given(POLICIES, st.randoms(use_true_random=False), st.integers(0, 60), st.booleans())
def test_every_path_ends_and_attempts_are_bounded(
    policy: Policy, dice: Any, chaos: int, cancel: bool
) -> None:
    """However long the provider misbehaves: once it stops, the shard comes to its end in few steps."""
    shard = planned()
    now = 1000.0
    creates = 0
    for step in range(chaos + 60):
        now = max(now, shard.next_at)
        if cancel and step == chaos // 2 and shard.state in LIVE:
            shard = life.apply(shard, life.CancelAsked(), policy, now)
        command = life.decide(shard, policy)
        if isinstance(command, life.Rest):
            break
        creates += isinstance(command, life.Create)

        def draw(options: list[Any], wild: bool = step < chaos) -> Any:
            return dice.choice(options) if wild else options[0]

        event = respond(shard, command, draw)
        after = life.apply(shard, event, policy, now)
        check_step(shard, event, after, policy, now)
        shard = msgspec.structs.replace(after, version=shard.version + 1)
    assert shard.state in {State.DONE, State.STOPPED}
    assert shard.attempt <= 3 + policy.halvings
    if shard.state is State.DONE:
        assert shard.refs.leftovers == ()
        assert creates or shard.cancel_requested or policy.tier != "batch"


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_backoff_grows_within_its_bounds(tries: int, more: int) -> None:
    policy = UPLOADING
    delay = life.backoff(tries, policy)
    assert policy.backoff_first <= delay <= policy.backoff_most
    assert life.backoff(tries + more, policy) >= delay
    assert life.backoff(1, policy) == policy.backoff_first


@given(st.floats(0, 1e7))
def test_polling_slows_down_with_age_within_its_bounds(age: float) -> None:
    delay = life.poll_delay(age, UPLOADING)
    assert UPLOADING.poll_first <= delay <= UPLOADING.poll_most
    assert life.poll_delay(age + 100, UPLOADING) >= delay


def submitting(policy: Policy = UPLOADING, at: float = 1000.0) -> Shard:
    shard = planned()
    if policy.uploads_file:
        shard = life.apply(shard, life.Uploaded("f1"), policy, at)
    return life.apply(shard, life.IntentMade(), policy, at)


def test_a_batch_needs_its_file() -> None:
    with pytest.raises(IllegalStep, match="no request file"):
        life.apply(planned(), life.IntentMade(), UPLOADING, 1.0)


def test_creates_that_are_refused_in_passing_are_tried_ever_more_slowly() -> None:
    shard, now = life.apply(planned(), life.Uploaded("f1"), UPLOADING, 0.0), 0.0
    waits: list[float] = []
    meant = shard
    for _ in range(10):
        meant = life.apply(shard, life.IntentMade(), UPLOADING, now)
        shard = life.apply(meant, life.CreateRefused(TROUBLE, passing=True), UPLOADING, now)
        waits.append(shard.next_at - now)
        now = shard.next_at
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert waits[-1] == UPLOADING.backoff_most
    assert life.apply(meant, life.Created("b1"), UPLOADING, now).tries == 0


def test_absence_is_believed_only_when_a_create_can_no_longer_land() -> None:
    shard = submitting()
    surely = 1000 + UPLOADING.send_within + UPLOADING.create_timeout + UPLOADING.settle
    assert life.absent_after(shard, UPLOADING) == surely
    early = life.apply(shard, life.Absent(surely - 1), UPLOADING, surely - 1)
    assert early.state is State.SUBMITTING
    assert surely - 1 < early.next_at <= surely
    # A worker that froze over the answer holds an old one, however late it is by now.
    assert life.apply(early, life.Absent(surely - 1), UPLOADING, surely + 900).state is State.SUBMITTING
    late = life.apply(early, life.Absent(surely), UPLOADING, surely)
    assert (late.state, late.refs.file_id) == (State.UPLOADED, "f1")


def test_a_reply_that_was_lost_or_a_sender_that_died_shortens_the_wait() -> None:
    lost = life.apply(submitting(), life.CreateUnknown(TROUBLE), UPLOADING, 1030)
    assert life.absent_after(lost, UPLOADING) == 1030 + UPLOADING.settle
    gone = life.apply(submitting(), life.SenderGone(), UPLOADING, 1010)
    assert life.absent_after(gone, UPLOADING) == 1010 + UPLOADING.settle
    # Found dead only after it was silent anyway: what was known stays known.
    later = life.apply(lost, life.SenderGone(), UPLOADING, 5000)
    assert life.absent_after(later, UPLOADING) == 1030 + UPLOADING.settle
    with pytest.raises(IllegalStep):
        life.absent_after(planned(), UPLOADING)


def test_twins_are_cancelled_first_and_harvested_with_it() -> None:
    surely = life.absent_after(submitting(), UPLOADING)
    for asked_at, now in ((1000, 1000), (surely - 1, surely + 900)):
        early = life.apply(submitting(), life.Found(("b1",), asked_at), UPLOADING, now)
        assert (early.state, early.refs.batches) == (State.SUBMITTING, ())
    # What is listed is not on its way any more: a second one would be listed soon.
    seen = life.apply(submitting(), life.Found(("b1",), 1010), UPLOADING, 1010)
    again = life.apply(seen, life.Found(("b1",), 1129), UPLOADING, 1129)
    assert again.state is State.SUBMITTING
    assert life.apply(again, life.Found(("b1",), 1130), UPLOADING, 1130).state is State.RUNNING
    shard = life.apply(submitting(), life.Found(("b1", "b2", "b3"), surely), UPLOADING, surely)
    assert shard.refs.batches == ("b1", "b2", "b3")
    for twin in ("b2", "b3"):
        assert life.decide(shard, UPLOADING) == life.CancelBatch(twin, twin=True)
        shard = life.apply(shard, life.CancelSent(twin, twin=True), UPLOADING, 1000)
    assert life.decide(shard, UPLOADING) == life.Poll()
    past = msgspec.structs.replace(submitting(), refs=life.Refs(file_id="f1", past=("b1",)))
    for found in ((), ("b1",)):
        with pytest.raises(IllegalStep, match="cannot adopt"):
            life.apply(past, life.Found(found, surely), UPLOADING, surely)


def test_a_twin_takes_the_place_of_a_batch_that_was_refused_late() -> None:
    surely = life.absent_after(submitting(), UPLOADING)
    shard = life.apply(submitting(), life.Found(("b1", "b2", "b3"), surely), UPLOADING, surely)
    shard = life.apply(shard, life.CancelSent("b2", twin=True), UPLOADING, 2000)
    full = no_room()
    second = life.apply(shard, full, UPLOADING, 2000)
    assert (second.state, second.refs.batches, second.refs.past) == (State.RUNNING, ("b2", "b3"), ("b1",))
    assert life.decide(second, UPLOADING) == life.CancelBatch("b3", twin=True)
    third = life.apply(second, full, UPLOADING, 2010)
    # It was not cancelled yet: it may run.
    assert (third.refs.batches, third.refs.uncancelled) == (("b3",), ())
    assert life.decide(third, UPLOADING) == life.Poll()
    refused = life.apply(third, full, UPLOADING, 2020)
    assert (refused.state, refused.refs.past) == (State.UPLOADED, ("b1", "b2", "b3"))
    stopping = msgspec.structs.replace(shard, state=State.CANCELLING, cancelled_at=2000.0)
    stopped = life.apply(stopping, full, UPLOADING, 2000)
    assert (stopped.state, stopped.refs.uncancelled) == (State.CANCELLING, ("b3",))


def test_a_missing_batch_is_not_sent_again() -> None:
    shard = life.apply(submitting(), life.Created("b1"), UPLOADING, 1000)
    young = life.apply(shard, life.BatchMissing(TROUBLE, 1000 + UPLOADING.missing_grace), UPLOADING, 9000)
    assert young.state is State.RUNNING
    old = life.apply(young, life.BatchMissing(TROUBLE, 1001 + UPLOADING.missing_grace), UPLOADING, 9000)
    assert (old.state, old.status) == (State.STOPPED, "missing")
    again = life.apply(old, life.Resumed(), UPLOADING, 5000)
    assert (again.state, again.refs.batch_id) == (State.RUNNING, "b1")


def test_a_retry_never_uses_a_number_twice() -> None:
    done = msgspec.structs.replace(planned(), state=State.DONE, attempt=3, rows_left=0)
    again = life.apply(done, life.Resumed(4), UPLOADING, 10)
    assert (again.state, again.attempt, again.rows_left, again.insist_from) == (State.PLANNED, 4, 4, 4)
    assert again.last_attempt == 4 + UPLOADING.max_attempts - 1
    with pytest.raises(IllegalStep, match="no row"):
        life.apply(done, life.Resumed(0), UPLOADING, 10)


def test_no_file_is_forgotten_at_the_provider() -> None:
    gone = life.apply(submitting(), life.CreateRefused(TROUBLE, passing=True, file_gone=True), UPLOADING, 10)
    assert (gone.state, gone.refs.file_id, gone.refs.leftovers) == (State.PLANNED, None, ("f1",))
    stopped = life.apply(submitting(), life.CreateRefused(TROUBLE, passing=False), UPLOADING, 10)
    resumed = life.apply(stopped, life.Resumed(), UPLOADING, 20)
    assert (resumed.state, resumed.refs.leftovers) == (State.PLANNED, ("f1",))
    for shard in (gone, resumed):
        again = life.apply(shard, life.Uploaded("f2"), UPLOADING, 30)
        for which, left in ((shard, ("f1",)), (again, ("f1", "f2"))):
            ended = life.apply(which, life.Abandoned(), UPLOADING, 40)
            assert (ended.state, ended.refs.leftovers) == (State.CLEANING, left)


def test_cleaning_gives_up_in_the_end() -> None:
    shard = msgspec.structs.replace(planned(), state=State.CLEANING, unsettled=0)
    for _ in range(UPLOADING.cleanup_tries - 1):
        shard = life.apply(shard, life.StepFailed(TROUBLE), UPLOADING, 10)
        assert shard.state is State.CLEANING
    assert life.apply(shard, life.StepFailed(TROUBLE), UPLOADING, 10).state is State.DONE


def test_the_life_cycle_has_no_clock_and_no_dice() -> None:
    tree = ast.parse(inspect.getsource(life))
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert named == {"enum", "msgspec"}
