"""What a database is called, and who lives that works over it."""

import threading

from halfrate.store.store import Store

from .databases import Database


def test_a_database_has_one_id_whoever_asks_first(database: Database) -> None:
    found: set[str] = set()

    def ask() -> None:
        store = Store.open(database.url)
        try:
            found.add(store.processes.own_id())
        finally:
            store.close()

    Store.open(database.url).close()
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 1
    assert len(found.pop()) == 32


def test_a_process_lives_until_it_is_not_heard_of(store: Store) -> None:
    processes = store.processes
    assert processes.alive_until("a") == 0.0
    processes.beat("a", 1_000.0, 1_060.0)
    processes.beat("a", 1_010.0, 1_070.0)
    processes.beat("b", 1_010.0, 1_070.0)
    assert processes.alive_until("a") == 1_070.0
    processes.beat("b", 200_000.0, 200_060.0)
    assert processes.alive_until("a") == 0.0
    assert processes.alive_until("b") == 200_060.0


def test_a_depot_is_remembered(store: Store) -> None:
    assert store.processes.depot() is None
    for place in ("s3://one", "s3://another"):
        store.processes.note_depot(place)
    assert store.processes.depot() == "s3://one"
