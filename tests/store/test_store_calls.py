"""Calls in real time in the ledger, once each."""

import threading
from collections.abc import Callable

import pytest

from halfrate.base.results import Billed
from halfrate.base.types import Usage
from halfrate.store.calls import Entry, Progress
from halfrate.store.store import Store

from .databases import Database
from .records import a_job, a_shard

LOG = "20261122-100000-ab.jsonl"


def an_entry(job_id: str = "calls-1", *, cost: int | None = 100, kind: str = "rows", rows: int = 1) -> Entry:
    job = a_job(job_id)
    billed = Billed("gpt-4.1-mini", rows, Usage(input=10, output=5), cost, cost, "standard", cost)
    return Entry(job, a_shard(0, job_id), kind, billed, 1_000.0)


def rows(store: Store) -> int:
    return sum(one.rows for one in store.spent())


def test_what_stands_in_a_log_is_booked_once(store: Store) -> None:
    book = store.calls
    assert book.progress() == {}
    assert book.book(LOG, 0, 50, [an_entry()])
    assert book.progress() == {LOG: Progress(50)}
    # Somebody who read the log at the same time comes too late, with all of it or with a part.
    assert not book.book(LOG, 0, 50, [an_entry()])
    assert not book.book(LOG, 0, 80, [an_entry()])
    assert rows(store) == 1
    assert book.book(LOG, 50, 80, [an_entry(), an_entry("calls-2"), an_entry(kind="doubt", cost=None)])
    assert book.progress() == {LOG: Progress(80)}
    assert sorted((one.job_id, one.kind, one.rows, one.cost) for one in store.spent()) == [
        ("calls-1", "doubt", 1, None),
        ("calls-1", "rows", 2, 200),
        ("calls-2", "rows", 1, 100),
    ]


def test_lines_that_are_no_matter_of_the_ledger_are_passed_over(store: Store) -> None:
    assert store.calls.book(LOG, 0, 30, [])
    assert store.calls.progress() == {LOG: Progress(30)}
    assert store.spent() == []


def test_all_of_a_booking_or_none_of_it(store: Store) -> None:
    broken = an_entry("calls-2")
    # No payment is of a kind that is none.
    with pytest.raises(Exception, match=r".+"):
        store.calls.book(LOG, 0, 50, [an_entry(), Entry(broken.job, broken.shard, None, broken.billed, 1.0)])  # pyright: ignore[reportArgumentType]
    assert store.calls.progress() == {}
    assert store.spent() == []


def test_what_calls_are_booked_on_is_no_job_that_was_to_be_run(store: Store) -> None:
    store.calls.book(LOG, 0, 50, [an_entry("calls-1")])
    job = a_job("run1")
    store.add_job(job, [a_shard(0, "run1")])
    assert [one.id for one in store.jobs()] == ["run1"]
    assert sorted(one.id for one in store.paid_jobs()) == ["calls-1", "run1"]


def test_a_log_that_is_gone_is_forgotten(store: Store) -> None:
    store.calls.book(LOG, 0, 50, [an_entry()])
    store.calls.forget(LOG)
    assert store.calls.progress() == {}
    assert rows(store) == 1


def test_nothing_of_a_closed_log_is_booked_again(store: Store) -> None:
    assert store.calls.book(LOG, 0, 50, [an_entry()])
    assert store.calls.book(LOG, 50, 50, [an_entry(kind="doubt", cost=None)], closing=True)
    assert store.calls.progress() == {LOG: Progress(50, closed=True)}
    assert not store.calls.book(LOG, 50, 50, [an_entry(kind="doubt", cost=None)], closing=True)
    assert not store.calls.book(LOG, 50, 80, [an_entry()])
    assert rows(store) == 2


def test_several_that_book_logs_of_the_same_calls_at_once(database: Database) -> None:
    stores = [Store.open(database.url) for _ in range(4)]
    entries = [an_entry(f"calls-{number}") for number in range(5)]
    taken: list[bool] = []

    def work(number: int) -> Callable[[], None]:
        def book() -> None:
            mine = entries if number % 2 else entries[::-1]
            taken.extend([stores[number].calls.book(f"{part}-{number}", 0, 10, mine) for part in range(10)])

        return book

    threads = [threading.Thread(target=work(number)) for number in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken == [True] * 40
    assert rows(stores[0]) == 200
    for store in stores:
        store.close()


def test_several_that_book_one_log_at_once(database: Database) -> None:
    stores = [Store.open(database.url) for _ in range(4)]
    taken: list[bool] = []

    def work(store: Store) -> Callable[[], None]:
        def book() -> None:
            parts = [(part * 10, part * 10 + 10) for part in range(20)]
            taken.extend([store.calls.book(LOG, since, until, [an_entry()]) for since, until in parts])

        return book

    threads = [threading.Thread(target=work(store)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken.count(True) == 20
    assert rows(stores[0]) == 20
    assert stores[0].calls.progress() == {LOG: Progress(200)}
    for store in stores:
        store.close()
