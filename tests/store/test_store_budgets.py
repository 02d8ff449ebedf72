"""Budgets in the store: what is promised, what was paid, and who may be sent."""

import threading
from typing import Any

import msgspec
import pytest

from halfrate.base.errors import OverBudget
from halfrate.core.budgets import Budget, Terms
from halfrate.core.job import Forecast, Job
from halfrate.core.lifecycle import Shard, State
from halfrate.store.store import Store

from .databases import Database
from .records import LEASE, a_collection, a_job, billed, opened, shards, stepped, with_batch, with_room

DAY = 86_400.0
SEARCH = Budget(name="team", value="search", stop=100)


def of_search(job_id: str, cost: int | None, *, at: float = 1.0, team: str = "search", **changes: Any) -> Job:
    return a_job(
        job_id,
        created_at=at,
        tags={"team": team},
        forecast=Forecast(1, 1, cost, cost),
        **changes,
    )


def costing(job_id: str, count: int, cost: int | None) -> list[Shard]:
    return shards(count, job_id, cost=cost, realtime_cost=None if cost is None else 2 * cost)


def add(store: Store, job_id: str, count: int, cost: int, **options: Any) -> None:
    on_budget = options.pop("on_budget", "refuse")
    store.add_job(
        of_search(job_id, count * cost, **options), costing(job_id, count, cost), on_budget=on_budget
    )


def pay(store: Store, shard: Shard, cost: int, at: float) -> Shard:
    running = store.save(with_batch(shard, f"b-{shard.id}"), "w", lease_until=at + LEASE)
    done = stepped(running, State.CLEANING, unsettled=0)
    return store.save_collected(done, "w", shard.attempt, a_collection([billed(cost=cost)]), at)


def figures(store: Store, now: float) -> tuple[int, int]:
    (found,) = store.standings(now)
    return found.spent, found.promised


def test_budgets_are_kept_one_for_a_scope_and_a_period(store: Store) -> None:
    store.set_budget(SEARCH)
    store.set_budget(Budget(name="team", value="search", period="day", warn=7))
    store.set_budget(Budget(name="team", value="search", stop=2**62 * 4))
    assert store.budgets() == [
        Budget(name="team", value="search", period="day", warn=7),
        Budget(name="team", value="search", stop=2**62 * 4),
    ]
    assert store.drop_budget(SEARCH)
    assert not store.drop_budget(SEARCH)
    assert [one.period for one in store.budgets()] == ["day"]


def test_an_open_job_is_promised_what_it_should_cost_until_it_is_paid(store: Store) -> None:
    with_room(store)
    store.set_budget(SEARCH)
    add(store, "a", 2, 30)
    add(store, "b", 1, 500, team="ads")
    assert figures(store, 2.0) == (0, 60)
    first, second = store.claim("w", 2.0, LEASE, job_id="a")
    cleaning = pay(store, first, 25, 3.0)
    assert figures(store, 4.0) == (25, 30)
    (cleaning,) = store.claim("w", 90.0, LEASE, job_id="a")
    assert cleaning.id == first.id
    store.save(stepped(cleaning, State.DONE), "w")
    # What is left of a batch goes again, and is promised still.
    running = store.save(with_batch(second, "b2"), "w", lease_until=300.0)
    partly = stepped(running, State.CLEANING, unsettled=5)
    store.save_collected(partly, "w", 1, a_collection([billed(cost=11)]), 4.0)
    assert figures(store, 5.0) == (36, 15)


def test_a_job_that_would_cross_a_budget_is_refused_whole(store: Store) -> None:
    store.set_budget(SEARCH)
    add(store, "a", 2, 30)
    with pytest.raises(OverBudget, match=r"team=search, a month"):
        add(store, "b", 1, 41)
    assert [job.id for job in store.jobs()] == ["a"]
    add(store, "c", 1, 41, team="ads")
    add(store, "d", 1, 40)
    with pytest.raises(OverBudget):
        add(store, "e", 1, 1)
    with pytest.raises(OverBudget, match="unknown"):
        store.add_job(of_search("f", None), costing("f", 1, None))


def test_what_was_paid_counts_in_its_period_alone(store: Store) -> None:
    with_room(store)
    store.set_budget(Budget(period="day", stop=100))
    add(store, "a", 1, 90, at=10.0)
    (shard,) = store.claim("w", 10.0, LEASE)
    pay(store, shard, 95, 20.0)
    with pytest.raises(OverBudget):
        add(store, "b", 1, 6, at=DAY - 1)
    add(store, "c", 1, 100, at=DAY)


def test_jobs_that_fit_one_by_one_do_not_get_in_together(database: Database) -> None:
    """Each of many processes asks whether there is room, and takes it, in one step."""
    with opened(database) as store:
        store.set_budget(SEARCH)
    refused: list[str] = []
    start = threading.Barrier(6)

    def one(job_id: str) -> None:
        with opened(database) as mine:
            start.wait()
            try:
                add(mine, job_id, 1, 30)
            except OverBudget:
                refused.append(job_id)

    threads = [threading.Thread(target=one, args=(f"j{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with opened(database) as store:
        assert len(store.jobs()) == 3
        assert len(refused) == 3
        assert figures(store, 2.0) == (0, 90)


def test_a_job_that_waits_is_sent_as_far_as_the_budget_allows(store: Store) -> None:
    with_room(store)
    store.set_budget(Budget(name="team", value="search", period="day", stop=100))
    add(store, "a", 5, 40, on_budget="wait")
    add(store, "b", 1, 500, team="ads")
    taken = store.claim("w", 2.0, LEASE)
    assert [shard.job_id for shard in taken] == ["a", "a", "b"]
    assert store.claim("w", 3.0, LEASE) == []
    job = store.job("a")
    assert job is not None
    (held,) = store.held_by(job, 3.0)
    assert (held.spent, held.promised) == (0, 80)
    # Dearer than it should have been: less is left than one of them costs.
    pay(store, taken[0], 70, 10.0)
    assert [shard.job_id for shard in store.claim("w", 11.0, LEASE) if shard.state is State.PLANNED] == []
    # Another day has room again, for all that is not at work from the day before.
    before = {shard.id for shard in taken}
    again = [shard for shard in store.claim("w", DAY + 1, LEASE) if shard.id not in before]
    assert [shard.job_id for shard in again] == ["a"]


def test_a_higher_limit_lets_the_rest_go(store: Store) -> None:
    with_room(store)
    store.set_budget(SEARCH)
    add(store, "a", 3, 50, on_budget="wait")
    assert len(store.claim("w", 2.0, LEASE)) == 2
    assert store.claim("w", 3.0, LEASE) == []
    store.set_budget(Budget(name="team", value="search", stop=150))
    assert len(store.claim("w", 4.0, LEASE)) == 1
    job = store.job("a")
    assert job is not None
    assert store.held_by(job, 5.0) == []


def test_one_team_at_its_limit_does_not_hold_up_another_at_the_same_queue(store: Store) -> None:
    store.set_budget(SEARCH)
    add(store, "a", 8, 60, on_budget="wait")
    add(store, "b", 8, 60, team="ads")
    taken = [shard.job_id for now in (2.0, 3.0) for shard in store.claim("w", now, LEASE, limit=4)]
    assert taken.count("a") == 1
    assert taken.count("b") == 3


def test_a_cancelled_job_waits_for_no_budget(store: Store) -> None:
    with_room(store)
    store.set_budget(SEARCH)
    add(store, "a", 2, 90, on_budget="wait")
    (sent,) = store.claim("w", 2.0, LEASE)
    waiting = next(shard for shard in store.shards("a") if shard.id != sent.id)
    store.change(waiting.id, lambda shard: stepped(shard, shard.state, cancel_requested=True))
    assert [shard.id for shard in store.claim("w", 3.0, LEASE)] == [waiting.id]


def test_a_job_is_under_the_budgets_that_cover_it(store: Store) -> None:
    store.set_budget(SEARCH)
    store.set_budget(Budget(name="account", value="openai", warn=5))
    store.set_budget(Budget(name="account", value="work", warn=5))
    found = store.standings(1.0, Terms.of(of_search("a", 1)))
    assert [one.budget.scope for one in found] == ["account=openai", "team=search"]


def test_a_job_that_waits_does_not_hide_the_others_of_its_team(store: Store) -> None:
    """More batches wait for the budget of a feature than are looked at in a claim; a job beside them is under none."""
    with_room(store)
    store.set_budget(Budget(name="feature", value="triage", stop=100))
    tags = {"team": "search", "feature": "triage"}
    held = msgspec.structs.replace(of_search("a", 40 * 60), tags=tags)
    store.add_job(held, costing("a", 40, 60), on_budget="wait")
    add(store, "b", 3, 60)
    taken = [shard.job_id for now in (2.0, 3.0) for shard in store.claim("w", now, LEASE, limit=4)]
    assert taken.count("a") == 1
    assert taken.count("b") == 3
