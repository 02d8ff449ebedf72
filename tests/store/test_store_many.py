"""Several threads and processes at the same database."""

import random
import threading
import time
from collections import Counter

import msgspec
import pytest

from halfrate.core.lifecycle import Shard, State
from halfrate.store.store import Store

from .databases import Database
from .processes import children
from .records import LEASE, a_job, opened, shards, stepped, with_room


def run_all(count: int, target: object) -> None:
    """Run `target(number)` in threads that start at once; raise what they raised."""
    assert callable(target)
    start = threading.Barrier(count)
    raised: list[BaseException] = []

    def run(number: int) -> None:
        start.wait()
        try:
            target(number)
        except BaseException as error:  # noqa: BLE001  # raised again below, in the thread of the test
            raised.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


@pytest.mark.parametrize("apart", [False, True])
def test_threads_never_claim_the_same_shard(database: Database, apart: bool) -> None:
    stores = [Store.open(database.url) for _ in range(4 if apart else 1)]
    with_room(stores[0])
    stores[0].add_job(a_job(), shards(200))
    claimed: list[str] = []

    def work(number: int) -> None:
        for _ in range(200):
            found = stores[number % len(stores)].claim(f"w{number}", 0.0, LEASE, limit=3)
            claimed.extend(shard.id for shard in found)

    run_all(4, work)
    assert len(claimed) == 200
    assert set(Counter(claimed).values()) == {1}
    for store in stores:
        store.close()


def test_processes_never_claim_the_same_shard(database: Database) -> None:
    with opened(database) as store:
        with_room(store)
        store.add_job(a_job(), shards(200))
    with children(*(("claims", database.url, f"w{number}") for number in range(3))) as started:
        for child in started:
            child.go()
        claimed = [line for child in started for line in child.rest()]
    assert len(claimed) == 200
    assert set(Counter(claimed).values()) == {1}
    assert database.look("SELECT DISTINCT version FROM shard") == [(1,)]


def test_of_many_intents_at_once_one_is_alone(database: Database) -> None:
    with opened(database) as store:
        for round_ in range(10):
            job_id = f"job{round_}"
            with_room(store, job_id)
            store.add_job(a_job(job_id), shards(6, job_id, account=job_id))
            held = [stepped(each, State.SUBMITTING) for each in store.claim("w", 0.0, LEASE, job_id=job_id)]
            alone: list[Shard] = []

            def mean(number: int, mine: list[Shard] = held, found: list[Shard] = alone) -> None:
                saved = store.save_intent(mine[number], "w", 200.0, alone=True)
                if saved is not None:
                    found.append(saved)

            run_all(6, mean)
            assert len(alone) == 1
            assert [each for each in store.shards(job_id) if each.state is State.SUBMITTING] == alone


def test_of_many_intents_of_processes_at_once_one_is_alone(database: Database) -> None:
    with opened(database) as store:
        store.add_job(a_job(), shards(4))
    with children(*(("intends", database.url, f"w{number}") for number in range(4))) as started:
        for child in started:
            child.go()
        said = [line for child in started for line in child.rest()]
    assert sorted(said) == ["alone", "not alone", "not alone", "not alone"]


def test_no_change_is_lost(database: Database) -> None:
    with opened(database) as store:
        store.add_job(a_job(), shards(1))

        def change(_number: int) -> None:
            for _ in range(25):
                store.change("job-0", lambda shard: msgspec.structs.replace(shard, polls=shard.polls + 1))

        run_all(4, change)
        (shard,) = store.shards("job")
        assert (shard.polls, shard.version) == (100, 100)


@pytest.mark.kill
def test_a_kill_in_the_middle_of_commits_leaves_a_consistent_database(database: Database) -> None:
    with opened(database) as store:
        store.add_job(a_job(), shards(4))
    chance = random.Random(5)
    said: list[str] = []
    for round_ in range(6):
        with children(("works", database.url, f"w{round_}")) as (child,):
            child.go()
            said += [child.line() for _ in range(chance.randrange(1, 20))]
            time.sleep(chance.random() / 200)
            said += child.kill()
        # The next worker finds leases of the dead one; in these tests they have ended long ago.
        if database.kind == "sqlite":
            assert database.look("PRAGMA integrity_check") == [("ok",)]
            assert database.look("PRAGMA foreign_key_check") == []
        check_books(database, said, kills=round_ + 1)
    assert len(said) > 30


def check_books(database: Database, said: list[str], kills: int) -> None:
    """Every attempt is paid for whole or not at all, as its shard says, and as the workers said."""
    with opened(database) as store:
        found = store.shards("job")
        total = store.ledger()
    paid: dict[str, list[str]] = {}
    for shard_id, attempt, kind in database.look("SELECT shard_id, attempt, kind FROM ledger ORDER BY kind"):
        paid.setdefault(f"{shard_id} {attempt}", []).append(kind)
    assert all(kinds == ["rows", "waste"] for kinds in paid.values())
    # What was said was committed before; of what was committed, a kill can leave one thing unsaid.
    assert set(said) <= paid.keys()
    assert len(paid) <= len(said) + kills
    assert [line.cost for line in total] == [2 * (10**12 + 1) * len(paid)]
    for shard in found:
        settled = shard.state is State.CLEANING
        assert (f"{shard.id} {shard.attempt}" in paid) == settled
    batches = database.look("SELECT shard_id, attempt FROM batch WHERE summary IS NOT NULL")
    assert {f"{shard_id} {attempt}" for shard_id, attempt in batches} == paid.keys()
