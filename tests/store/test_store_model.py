"""The store against a model of it: whatever the order of calls, and however stale the caller's knowledge."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from halfrate.base.errors import IllegalStep
from halfrate.core.lifecycle import MOVING, WAITING, Shard, State
from halfrate.store.store import Fenced, Store

from .databases import Database
from .records import ACCOUNT, a_collection, a_job, billed, shards, with_room

JOBS = ("a", "b")
OWNERS = st.sampled_from(["v", "w", "x"])
TIMES = st.integers(0, 20).map(float)
LEASE = 10.0


class Known(msgspec.Struct):
    """What the model knows of a shard."""

    shard: Shard
    owner: str | None
    next_at: float
    reserved: bool = False

    @property
    def needs_room(self) -> bool:
        return self.shard.state in WAITING and not self.reserved

    def take(self, owner: str | None, next_at: float) -> None:
        self.owner = owner
        self.next_at = next_at
        self.shard = msgspec.structs.replace(self.shard, version=self.shard.version + 1)


Held = tuple[Shard, str]
"""A shard as somebody once had it, and who that was."""


class Stores(RuleBasedStateMachine):
    held: Bundle[Held] = Bundle("held")

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database
        self.store = Store.open(database.url)
        with_room(self.store)
        self.known: dict[str, Known] = {}
        self.paid: dict[tuple[str, int], int] = {}
        self.batches: dict[str, str] = {}
        self.now = 0.0

    def teardown(self) -> None:
        self.store.close()

    @initialize()
    def add(self) -> None:
        for job_id in JOBS:
            made = shards(3, job_id)
            self.store.add_job(a_job(job_id), made)
            self.known |= {shard.id: Known(shard, None, 0.0) for shard in made}

    # ------------------------------------------------------------ calls

    @rule(seconds=TIMES)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=held, owner=OWNERS, job_id=st.sampled_from([None, *JOBS]), limit=st.integers(0, 4))
    def claim(self, owner: str, job_id: str | None, limit: int) -> Any:
        due = [
            (known.needs_room, known.next_at, known.shard.id)
            for known in self.known.values()
            if known.shard.state in MOVING
            and known.next_at <= self.now
            and job_id in {None, known.shard.job_id}
        ]
        expected = [self.known[shard_id] for *_, shard_id in sorted(due)[:limit]]
        for known in expected:
            known.reserved = known.reserved or known.needs_room
            known.take(owner, self.now + LEASE)
        claimed = self.store.claim(owner, self.now, LEASE, job_id=job_id, limit=limit)
        assert_same(claimed, expected)
        return multiple(*((shard, owner) for shard in claimed))

    @rule(
        target=held, held=held, state=st.sampled_from(list(State)), next_at=TIMES, keep=st.booleans(),
        batch=st.none() | st.sampled_from(["b1", "b2", "b3"]),
    )  # fmt: skip
    def save(self, held: Held, state: State, next_at: float, keep: bool, batch: str | None) -> Any:
        shard, owner = held
        refs = msgspec.structs.replace(shard.refs, batch_id=batch)
        step = msgspec.structs.replace(shard, state=state, next_at=next_at, refs=refs)
        lease = self.now + LEASE if keep else None
        if self.fenced(held):
            with pytest.raises(Fenced):
                self.store.save(step, owner, lease_until=lease)
            return multiple()
        saved = self.store.save(step, owner, lease_until=lease)
        self.becomes(step, owner if keep else None, next_at if lease is None else lease)
        if batch is not None:
            self.batches.setdefault(batch, shard.id)
        assert saved == self.known[shard.id].shard
        return saved, owner

    @rule(target=held, held=held, alone=st.booleans())
    def save_intent(self, held: Held, alone: bool) -> Any:
        shard, owner = held
        step = msgspec.structs.replace(shard, state=State.SUBMITTING)
        others = [
            known
            for known in self.known.values()
            if known.shard.state is State.SUBMITTING and known.shard.id != shard.id
        ]
        if alone and others:
            assert self.store.save_intent(step, owner, self.now + LEASE, alone=alone) is None
            return multiple()
        if self.fenced(held):
            with pytest.raises(Fenced):
                self.store.save_intent(step, owner, self.now + LEASE, alone=alone)
            return multiple()
        saved = self.store.save_intent(step, owner, self.now + LEASE, alone=alone)
        self.becomes(step, owner, self.now + LEASE)
        assert saved == self.known[shard.id].shard
        return saved, owner

    @rule(held=held, cost=st.integers(0, 2**62), attempt=st.integers(1, 2))
    def save_collected(self, held: Held, cost: int, attempt: int) -> None:
        shard, owner = held
        step = msgspec.structs.replace(shard, state=State.CLEANING, attempt=attempt)
        collection = a_collection([billed(cost=cost)])
        if self.fenced(held):
            with pytest.raises(Fenced):
                self.store.save_collected(step, owner, attempt, collection, self.now)
        elif (shard.id, attempt) in self.paid:
            with pytest.raises(IllegalStep):
                self.store.save_collected(step, owner, attempt, collection, self.now)
        else:
            self.store.save_collected(step, owner, attempt, collection, self.now)
            self.becomes(step, None, step.next_at)
            self.paid[shard.id, attempt] = cost

    @rule(held=held, next_at=TIMES)
    def release(self, held: Held, next_at: float) -> None:
        shard, owner = held
        self.store.release(shard, owner, next_at)
        if self.known[shard.id].owner == owner:
            self.known[shard.id].take(None, next_at)

    @rule(target=held, dead=OWNERS, owner=OWNERS)
    def take_over(self, dead: str, owner: str) -> Any:
        expected = [known for known in self.known.values() if known.owner == dead]
        for known in expected:
            known.take(owner, self.now + LEASE)
        taken = self.store.take_over(dead, owner, self.now + LEASE)
        assert_same(taken, expected)
        return multiple(*((shard, owner) for shard in taken))

    @rule(job_id=st.sampled_from(JOBS), number=st.integers(0, 3), willing=st.booleans())
    def change(self, job_id: str, number: int, willing: bool) -> None:
        def step(shard: Shard) -> Shard | None:
            return msgspec.structs.replace(shard, polls=shard.polls + 1) if willing else None

        changed = self.store.change(f"{job_id}-{number}", step)
        known = self.known.get(f"{job_id}-{number}")
        if known is None or not willing:
            assert changed is None
            return
        polls = known.shard.polls + 1
        self.becomes(msgspec.structs.replace(known.shard, polls=polls), known.owner, known.shard.next_at)
        assert changed == known.shard

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = Store.open(self.database.url)

    # ------------------------------------------------------------ what must hold

    @invariant()
    def records_agree(self) -> None:
        for job_id in JOBS:
            expected = [known for known in self.known.values() if known.shard.job_id == job_id]
            assert_same(self.store.shards(job_id), expected)
            due = [known.next_at for known in expected if known.shard.state in MOVING]
            assert self.store.next_due(job_id) == min(due, default=None)
        assert self.store.owners() == sorted({known.owner for known in self.known.values() if known.owner})

    @invariant()
    def books_agree(self) -> None:
        lines = {line.key: line for line in self.store.ledger()}
        for job_id in JOBS:
            costs = [cost for (shard_id, _), cost in self.paid.items() if shard_id.startswith(f"{job_id}-")]
            assert (job_id in lines) == bool(costs)
            if costs:
                assert (lines[job_id].rows, lines[job_id].cost) == (len(costs), sum(costs))
        mine = {batch for batch, shard_id in self.batches.items() if shard_id != "a-0"}
        assert set(self.store.known_batches(ACCOUNT, besides="a-0")) == mine

    # ------------------------------------------------------------ parts

    def fenced(self, held: Held) -> bool:
        shard, owner = held
        known = self.known[shard.id]
        return (known.shard.version, known.owner) != (shard.version, owner)

    def becomes(self, shard: Shard, owner: str | None, next_at: float) -> None:
        known = self.known[shard.id]
        known.shard = shard
        known.reserved = known.reserved and shard.holds_room
        known.take(owner, next_at)


def assert_same(found: list[Shard], expected: list[Known]) -> None:
    assert {shard.id: shard for shard in found} == {known.shard.id: known.shard for known in expected}
    assert len(found) == len(expected)


def test_a_store_is_its_model(new_database: Callable[[], Database]) -> None:
    first = new_database()

    class OnDatabase(Stores):
        def __init__(self) -> None:
            super().__init__(new_database())

    # The model is the same, and a call to a server takes longer.
    examples = 40 if first.kind == "sqlite" else 12
    run_state_machine_as_test(
        OnDatabase, settings=settings(max_examples=examples, stateful_step_count=30, deadline=None)
    )
