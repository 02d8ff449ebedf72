import msgspec
import pytest

from halfrate.core.lifecycle import MOVING, Shard, State
from halfrate.store.store import Fenced, Store

from .records import ACCOUNT, LEASE, a_job, a_shard, shards, stepped, with_batch


def claim_one(store: Store, owner: str = "w", now: float = 0.0) -> Shard:
    (shard,) = store.claim(owner, now, LEASE, limit=1)
    return shard


# ---------------------------------------------------------------- claims


def test_a_claim_takes_what_is_due_and_no_more_than_asked_for(store: Store) -> None:
    store.add_job(a_job(), [a_shard(number, next_at=float(9 - number)) for number in range(6)])
    first = store.claim("w", 7.0, LEASE, limit=2)
    assert [shard.number for shard in first] == [5, 4]
    assert [shard.version for shard in first] == [1, 1]
    assert [shard.number for shard in store.claim("w", 7.0, LEASE)] == [3, 2]
    assert store.claim("w", 7.0, LEASE) == []
    assert store.next_due() == 8.0


def test_a_claim_of_one_job_leaves_the_others(store: Store) -> None:
    store.add_job(a_job("a"), shards(2, "a"))
    store.add_job(a_job("b"), shards(2, "b", next_at=3.0))
    assert {shard.job_id for shard in store.claim("w", 9.0, LEASE, job_id="b")} == {"b"}
    assert store.next_due("a") == 0.0
    assert store.next_due("b") == 9.0 + LEASE
    assert store.next_due("c") is None
    assert {shard.job_id for shard in store.claim("w", 9.0, LEASE)} == {"a"}


@pytest.mark.parametrize("state", list(State))
def test_only_live_shards_are_claimed(store: Store, state: State) -> None:
    store.add_job(a_job(), [a_shard(state=state)])
    assert (store.next_due() is not None) == (state in MOVING)
    assert (store.next_due("job") is not None) == (state in MOVING)
    assert bool(store.claim("v", 0.0, -1.0)) == (state in MOVING)
    assert bool(store.claim("w", 0.0, LEASE, job_id="job")) == (state in MOVING)


def test_a_shard_is_offered_again_when_its_lease_ends(store: Store) -> None:
    store.add_job(a_job(), shards(1))
    frozen = claim_one(store, "frozen")
    assert store.claim("w", LEASE - 0.001, LEASE) == []
    (taken,) = store.claim("w", LEASE, LEASE)
    assert taken.version == frozen.version + 1
    assert store.owners() == ["w"]


def test_what_is_heard_of_a_batch_makes_its_shard_due(store: Store) -> None:
    store.add_job(a_job(), shards(2, next_at=0.0))
    for shard in store.claim("w", 0.0, LEASE):
        running = msgspec.structs.replace(with_batch(shard, f"batch-{shard.number}"), next_at=500.0)
        store.save(running, "w")
    assert not store.hint("another account", "batch-1", 10.0)
    assert not store.hint(ACCOUNT, "batch-7", 10.0)
    assert store.hint(ACCOUNT, "batch-1", 10.0)
    assert not store.hint(ACCOUNT, "batch-1", 20.0)
    (due,) = store.claim("w", 10.0, LEASE)
    assert due.number == 1
    # Nobody is disturbed in the middle of a step, and nothing that is over begins anew.
    assert not store.hint(ACCOUNT, "batch-1", 20.0)
    store.save(msgspec.structs.replace(due, state=State.DONE), "w")
    assert not store.hint(ACCOUNT, "batch-1", 20.0)
    assert store.next_due() == 500.0


# ---------------------------------------------------------------- saving


def test_a_step_is_saved_and_the_shard_belongs_to_nobody(store: Store) -> None:
    store.add_job(a_job(), shards(1))
    shard = stepped(claim_one(store), State.UPLOADED, next_at=5.0)
    saved = store.save(shard, "w")
    assert saved == msgspec.structs.replace(shard, version=2)
    assert store.shards("job") == [saved]
    assert store.owners() == []
    assert store.next_due() == 5.0


def test_a_saved_shard_can_be_kept(store: Store) -> None:
    store.add_job(a_job(), shards(1))
    saved = store.save(stepped(claim_one(store), State.UPLOADED), "w", lease_until=50.0)
    assert store.owners() == ["w"]
    assert store.claim("v", 49.0, LEASE) == []
    assert store.save(saved, "w").version == 3


def test_a_worker_that_froze_is_fenced(store: Store) -> None:
    store.add_job(a_job(), shards(1))
    frozen = claim_one(store, "frozen")
    (taken,) = store.claim("w", LEASE, LEASE)
    late = with_batch(frozen, "late")
    with pytest.raises(Fenced):
        store.save(late, "frozen")
    with pytest.raises(Fenced):
        store.save_intent(late, "frozen", 900.0, alone=False)
    # Neither half of the condition is enough: the owner of today with the version of yesterday ...
    with pytest.raises(Fenced):
        store.save(late, "w")
    # ... or the version of today under the name of yesterday.
    with pytest.raises(Fenced):
        store.save(stepped(taken, State.RUNNING), "frozen")
    assert store.shards("job") == [taken]
    # The batch was noted in the transaction that was fenced.
    assert store.known_batches(ACCOUNT, besides="none") == ()
    assert store.save(stepped(taken, State.UPLOADED), "w").version == 3


def test_a_step_is_saved_once(store: Store) -> None:
    store.add_job(a_job(), shards(1))
    shard = claim_one(store)
    store.save(shard, "w", lease_until=50.0)
    with pytest.raises(Fenced):
        store.save(shard, "w", lease_until=50.0)


def test_a_shard_that_does_not_exist_is_fenced(store: Store) -> None:
    with pytest.raises(Fenced):
        store.save(a_shard(), "w")


# ---------------------------------------------------------------- giving back and taking over


def test_a_released_shard_is_unchanged_and_due_when_said(store: Store) -> None:
    store.add_job(a_job(), shards(1))
    shard = claim_one(store)
    store.release(shard, "w", 30.0)
    assert store.owners() == []
    assert store.shards("job") == [msgspec.structs.replace(shard, version=2)]
    assert store.claim("v", 29.0, LEASE) == []
    assert len(store.claim("v", 30.0, LEASE)) == 1
    with pytest.raises(Fenced):
        store.save(shard, "w")


def test_releasing_what_is_somebody_elses_is_harmless(store: Store) -> None:
    store.add_job(a_job(), shards(1))
    frozen = claim_one(store, "frozen")
    (taken,) = store.claim("w", LEASE, LEASE)
    store.release(frozen, "frozen", 0.0)
    assert store.owners() == ["w"]
    assert store.shards("job") == [taken]


def test_what_a_dead_worker_held_is_taken_over(store: Store) -> None:
    store.add_job(a_job(), shards(4))
    dead = store.claim("dead", 0.0, LEASE, limit=3)
    claim_one(store, "alive")
    assert store.owners() == ["alive", "dead"]
    taken = store.take_over("dead", "w", 70.0)
    assert [shard.id for shard in taken] == [shard.id for shard in dead]
    assert store.owners() == ["alive", "w"]
    assert store.next_due() == 70.0
    with pytest.raises(Fenced):
        store.save(dead[0], "dead")
    assert store.save(taken[0], "w").version == 3
    assert store.take_over("dead", "w", 80.0) == []


# ---------------------------------------------------------------- what a user asks


def cancelled(shard: Shard) -> Shard | None:
    if shard.cancel_requested:
        return None
    return msgspec.structs.replace(shard, cancel_requested=True, next_at=0.0)


def test_a_change_works_whoever_holds_the_shard(store: Store) -> None:
    store.add_job(a_job(), shards(1))
    held = claim_one(store)
    changed = store.change("job-0", cancelled)
    assert changed is not None
    assert changed.cancel_requested
    assert store.shards("job") == [changed]
    with pytest.raises(Fenced):
        store.save(stepped(held, State.UPLOADED), "w")
    (again,) = store.claim("w", 0.0, LEASE)
    assert again.cancel_requested
    assert store.save(again, "w").version == 4


def test_a_change_that_changes_nothing_leaves_the_version(store: Store) -> None:
    store.add_job(a_job(), shards(1))
    first = store.change("job-0", cancelled)
    assert store.change("job-0", cancelled) is None
    assert store.shards("job") == [first]


def test_a_change_cannot_turn_the_fence_back(store: Store) -> None:
    store.add_job(a_job(), shards(1))
    held = claim_one(store)
    changed = store.change("job-0", lambda shard: msgspec.structs.replace(shard, version=-1))
    assert changed == msgspec.structs.replace(held, version=2)
    assert store.shards("job") == [changed]


def test_a_change_of_what_is_not_there_is_none(store: Store) -> None:
    assert store.change("job-0", cancelled) is None


def test_a_change_that_fails_changes_nothing(store: Store) -> None:
    store.add_job(a_job(), shards(1))

    def fails(shard: Shard) -> Shard:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.change("job-0", fails)
    assert store.shards("job") == shards(1)
    assert len(store.claim("w", 0.0, LEASE)) == 1


# ---------------------------------------------------------------- intents


def test_one_intent_of_an_account_at_a_time(store: Store) -> None:
    store.add_job(a_job(), [*shards(2), a_shard(2, account="another")])
    first, second, elsewhere = (stepped(shard, State.SUBMITTING) for shard in store.claim("w", 0.0, LEASE))
    assert store.open_intent(ACCOUNT) is None
    saved = store.save_intent(first, "w", 200.0, alone=True)
    assert saved is not None
    assert store.save_intent(second, "w", 200.0, alone=True) is None
    assert store.open_intent(ACCOUNT) == saved
    assert store.shards("job")[1].state is State.PLANNED
    assert store.save_intent(elsewhere, "w", 200.0, alone=True) is not None
    # Nobody else's intent is in the way of one's own.
    assert store.save_intent(saved, "w", 300.0, alone=True) is not None
    assert store.save_intent(second, "w", 200.0, alone=False) is not None


def test_an_intent_that_has_ended_makes_room(store: Store) -> None:
    store.add_job(a_job(), shards(2))
    first, second = (stepped(shard, State.SUBMITTING) for shard in store.claim("w", 0.0, LEASE))
    saved = store.save_intent(first, "w", 200.0, alone=True)
    assert saved is not None
    store.save(with_batch(saved, "b"), "w")
    assert store.save_intent(second, "w", 200.0, alone=True) is not None


def test_an_intent_keeps_the_shard(store: Store) -> None:
    store.add_job(a_job(), shards(1))
    store.save_intent(stepped(claim_one(store), State.SUBMITTING), "w", 200.0, alone=True)
    assert store.owners() == ["w"]
    assert store.claim("v", 199.0, LEASE) == []
    assert len(store.claim("v", 200.0, LEASE)) == 1


# ---------------------------------------------------------------- batches


def test_batches_are_noted_once_with_the_shard_that_made_them(store: Store) -> None:
    store.add_job(a_job(), shards(2))
    first, second = store.claim("w", 0.0, LEASE)
    saved = store.save(with_batch(first, "b1", "twin"), "w", lease_until=90.0)
    store.save(with_batch(saved, "b1", "twin", polls=1), "w")
    store.save(with_batch(second, "b2"), "w")
    assert store.known_batches(ACCOUNT, besides="job-0") == ("b2",)
    assert store.known_batches(ACCOUNT, besides="job-1") == ("b1", "twin")
    assert store.known_batches("another", besides="") == ()


def test_a_batch_stays_with_the_shard_that_had_it_first(store: Store) -> None:
    store.add_job(a_job(), shards(2))
    first, second = store.claim("w", 0.0, LEASE)
    store.save(with_batch(first, "b"), "w")
    store.save(with_batch(second, "b"), "w")
    assert store.known_batches(ACCOUNT, besides="job-1") == ("b",)
    assert store.known_batches(ACCOUNT, besides="job-0") == ()
