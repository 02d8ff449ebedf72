import threading

import pytest

from halfrate.base.errors import IllegalStep
from halfrate.base.results import Billed
from halfrate.base.types import Usage
from halfrate.core.lifecycle import Shard, State
from halfrate.store.store import Fenced, LedgerLine, Store

from .databases import Database
from .records import ACCOUNT, LEASE, a_collection, a_job, a_shard, billed, shards, stepped, with_batch


def collect(store: Store, shard: Shard, *lines: Billed, wasted: tuple[Billed, ...] = ()) -> Shard:
    """An attempt of a claimed shard, from its batch to the ledger; the shard stays with its worker."""
    running = store.save(with_batch(shard, f"{shard.id}-{shard.attempt}"), "w", lease_until=90.0)
    ended = stepped(running, State.CLEANING)
    return store.save_collected(ended, "w", shard.attempt, a_collection(lines, wasted), 50.0)


def collected(store: Store, *lines: Billed, wasted: tuple[Billed, ...] = (), job_id: str = "job") -> None:
    """A job of one shard that was collected."""
    store.add_job(a_job(job_id), shards(1, job_id))
    (shard,) = store.claim("w", 0.0, LEASE, job_id=job_id)
    collect(store, shard, *lines, wasted=wasted)


def test_state_summary_and_payments_are_saved_together(store: Store) -> None:
    store.add_job(a_job(), shards(1))
    (shard,) = store.claim("w", 0.0, LEASE)
    running = store.save(with_batch(shard, "b", "twin"), "w", lease_until=90.0)
    collection = a_collection([billed(cost=7)], [billed(cost=2, rows=3)], errors=(("größer", 2),))
    saved = store.save_collected(stepped(running, State.CLEANING), "w", 1, collection, 50.0)
    assert store.shards("job") == [saved]
    assert saved.state is State.CLEANING
    assert store.owners() == []
    assert store.collections("job") == [("job-0", 1, collection)]
    assert store.ledger("job") == [
        LedgerLine(
            key="job",
            rows=4,
            usage=Usage(input=4, output=2),
            cost=9,
            realtime_cost=28,
            uncached_cost=9,
            waste=2,
        )
    ]


def test_an_attempt_is_paid_for_once(store: Store, database: Database) -> None:
    store.add_job(a_job(), shards(1))
    (shard,) = store.claim("w", 0.0, LEASE)
    collect(store, shard, billed())
    (again,) = store.claim("w", 0.0, LEASE)
    # Another model in the second reading would pass the ledger's key; the attempt is what counts.
    with pytest.raises(IllegalStep, match="attempt 1 of shard job-0"):
        store.save_collected(stepped(again, State.DONE), "w", 1, a_collection([billed("n")]), 60.0)
    assert store.shards("job") == [again]
    assert database.look("SELECT model FROM ledger") == [("m",)]
    assert store.collections("job") == [("job-0", 1, a_collection([billed()]))]


def test_a_worker_that_was_replaced_while_it_collected_records_nothing(store: Store) -> None:
    store.add_job(a_job(), shards(1))
    (shard,) = store.claim("frozen", 0.0, LEASE)
    frozen = store.save(with_batch(shard, "b"), "frozen", lease_until=90.0)
    (taken,) = store.claim("w", 90.0, LEASE)
    for collector, owner in ((taken, "w"), (frozen, "frozen")):
        ended = stepped(collector, State.CLEANING)
        try:
            store.save_collected(ended, owner, 1, a_collection([billed(cost=5)]), 95.0)
        except Fenced:
            assert owner == "frozen"
    (line,) = store.ledger()
    assert (line.rows, line.cost) == (1, 5)


def test_collecting_again_after_a_crash_adds_nothing(database: Database) -> None:
    """The commit went through and the worker died before it heard of it."""
    store = Store.open(database.url)
    store.add_job(a_job(), shards(1))
    (shard,) = store.claim("w", 0.0, LEASE)
    running = store.save(with_batch(shard, "b"), "w", lease_until=90.0)
    ended = stepped(running, State.CLEANING)
    store.save_collected(ended, "w", 1, a_collection([billed(cost=5)]), 50.0)
    store.close()
    store = Store.open(database.url)
    with pytest.raises(Fenced):
        store.save_collected(ended, "w", 1, a_collection([billed(cost=5)]), 60.0)
    assert [line.cost for line in store.ledger()] == [5]
    store.close()


def test_of_many_at_once_one_collects(store: Store) -> None:
    store.add_job(a_job(), shards(1))
    (shard,) = store.claim("w", 0.0, LEASE)
    running = store.save(with_batch(shard, "b"), "w", lease_until=90.0)
    fenced: list[int] = []

    def run(number: int) -> None:
        ended = stepped(running, State.CLEANING, polls=number)
        try:
            store.save_collected(ended, "w", 1, a_collection([billed(f"m{number}")]), 50.0)
        except Fenced:
            fenced.append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fenced) == 7
    assert [line.rows for line in store.ledger()] == [1]


def test_a_payment_that_is_refused_takes_the_step_with_it(store: Store) -> None:
    store.add_job(a_job(), shards(1))
    (shard,) = store.claim("w", 0.0, LEASE)
    running = store.save(with_batch(shard, "b"), "w", lease_until=90.0)
    with pytest.raises(IllegalStep):
        store.save_collected(
            stepped(running, State.CLEANING), "w", 1, a_collection([billed(), billed()]), 50.0
        )
    assert store.shards("job") == [running]
    assert store.ledger() == []
    assert store.collections("job") == []


def test_each_attempt_has_its_own_payments_and_summary(store: Store) -> None:
    store.add_job(a_job(), shards(1))
    (shard,) = store.claim("w", 0.0, LEASE)
    collect(store, shard, billed(cost=5))
    (again,) = store.claim("w", 0.0, LEASE)
    collect(store, stepped(again, State.PLANNED, attempt=2, rows_left=4), billed(cost=6))
    assert [(shard_id, attempt) for shard_id, attempt, _ in store.collections("job")] == [
        ("job-0", 1),
        ("job-0", 2),
    ]
    assert [line.cost for line in store.ledger()] == [11]


# ---------------------------------------------------------------- sums


def test_payments_are_grouped(store: Store) -> None:
    collected(store, billed("m", cost=1), billed("n", cost=2), job_id="a")
    store.add_job(a_job("b"), [a_shard(job_id="b", account="another")])
    (shard,) = store.claim("w", 0.0, LEASE, job_id="b")
    collect(store, shard, billed("m", cost=4), wasted=(billed("m", cost=8),))

    def costs(by: str, job_id: str | None = None) -> dict[str, int | None]:
        return {line.key: line.cost for line in store.ledger(job_id, by=by)}

    assert costs("job") == {"a": 3, "b": 12}
    assert costs("model") == {"m": 13, "n": 2}
    assert costs("account") == {ACCOUNT: 3, "another": 12}
    assert costs("tier") == {"batch": 15}
    assert costs("kind") == {"rows": 7, "waste": 8}
    assert costs("model", "a") == {"m": 1, "n": 2}
    assert costs("job", "c") == {}
    assert {line.key: line.waste for line in store.ledger()} == {"a": 0, "b": 8}
    with pytest.raises(KeyError):
        store.ledger(by="colour")


def test_one_unknown_price_makes_the_sum_unknown(store: Store) -> None:
    collected(store, billed("m", cost=None), billed("n", cost=2, realtime_cost=3), job_id="a")
    collected(store, billed("n", cost=2, realtime_cost=None), wasted=(billed("m", cost=None),), job_id="b")
    collected(store, billed("z", cost=0, realtime_cost=0), job_id="c")
    a, b, c = store.ledger()
    assert (a.cost, a.realtime_cost, a.waste) == (None, 17, 0)
    assert (b.cost, b.realtime_cost, b.waste) == (None, None, None)
    assert (c.cost, c.realtime_cost, c.waste) == (0, 0, 0)
    by_model = {line.key: (line.cost, line.rows) for line in store.ledger(by="model")}
    assert by_model == {"m": (None, 2), "n": (4, 2), "z": (0, 1)}


def test_sums_of_picodollars_are_exact(store: Store) -> None:
    """Beyond 2**53 a float would round; beyond 2**63 a database would overflow."""
    amounts = [2**53 + 1, 2**62 + 3, 2**62 + 5, 2**62 + 7, 2**63 - 1, 10**12, 10**12 - 1, 0]
    lines = [billed(f"m{at}", cost=cost, realtime_cost=2**63 - 1) for at, cost in enumerate(amounts)]
    collected(store, *lines, wasted=(billed(cost=2**62 + 9),))
    (line,) = store.ledger()
    assert line.cost == sum(amounts) + 2**62 + 9
    assert line.realtime_cost == (2**63 - 1) * len(amounts) + 14
    assert line.waste == 2**62 + 9


def test_credits_are_summed_exactly(store: Store) -> None:
    collected(store, billed("m", cost=-(10**12) - 1), billed("n", cost=-(2**60) - 1), billed("o", cost=3))
    assert [line.cost for line in store.ledger()] == [-(10**12) - 2**60 + 1]


def test_every_kind_of_token_is_summed(store: Store) -> None:
    usage = Usage(input=2**40, cached=2, write_5m=3, write_1h=4, output=5, reasoning=6)
    collected(store, Billed("m", 1, usage, 1, 1), Billed("n", 1, usage, 1, 1))
    (line,) = store.ledger()
    assert line.usage == Usage(input=2**41, cached=4, write_5m=6, write_1h=8, output=10, reasoning=12)


def test_waste_alone_is_a_line(store: Store) -> None:
    collected(store, wasted=(billed(cost=3),))
    (line,) = store.ledger()
    assert (line.cost, line.waste) == (3, 3)


def test_collections_come_oldest_first(store: Store) -> None:
    store.add_job(a_job(), shards(3))
    for at, shard in enumerate(store.claim("w", 0.0, LEASE)):
        running = store.save(with_batch(shard, f"b{at}"), "w", lease_until=90.0)
        ended = stepped(running, State.CLEANING)
        store.save_collected(ended, "w", 1, a_collection([billed(rows=at)]), 50.0 - at)
    assert [shard_id for shard_id, _, _ in store.collections("job")] == ["job-2", "job-1", "job-0"]


def test_payments_are_told_apart_by_day_and_found_by_time(store: Store) -> None:
    midnight = 20_000 * 86_400.0
    moments = {"a": midnight - 0.4, "b": midnight, "c": midnight + 86_399.9}
    for job_id, at in moments.items():
        store.add_job(a_job(job_id), shards(1, job_id))
        (shard,) = store.claim("w", 0.0, LEASE, job_id=job_id)
        running = store.save(with_batch(shard, f"{shard.id}-1"), "w", lease_until=90.0)
        lines = a_collection((billed(cost=5),), (billed(cost=2, rows=3),))
        store.save_collected(stepped(running, State.CLEANING), "w", 1, lines, at, doubts=1)
    spent = store.spent()
    assert [(one.job_id, one.day, one.kind, one.rows, one.cost) for one in spent] == [
        (job_id, day, kind, rows, cost)
        for job_id, day in (("a", 19_999), ("b", 20_000), ("c", 20_000))
        for kind, rows, cost in (("doubt", 1, None), ("rows", 1, 5), ("waste", 3, 2))
    ]
    assert {one.job_id for one in store.spent(since=midnight)} == {"b", "c"}
    assert {one.job_id for one in store.spent(until=midnight)} == {"a"}
    assert {one.job_id for one in store.spent(job_id="c")} == {"c"}
    assert store.spent(job_id="none") == []
