"""What holds of opening and closing a store, of either kind."""

import re
import threading
from collections.abc import Callable
from contextlib import closing
from importlib.resources import files

import pytest

from halfrate.base.errors import SettingsError, StorageError
from halfrate.store import migrate
from halfrate.store.connector import Connector
from halfrate.store.store import Store, _connector

from .databases import Database
from .processes import children
from .records import a_job, shards


def connector_to(database: Database) -> Connector:
    return _connector(database.url, 30.0)


# ---------------------------------------------------------------- schema


def test_every_migration_is_listed_and_there() -> None:
    folder = files("halfrate.store.migrations")
    found = sorted(each.name for each in folder.iterdir() if each.name.endswith(".sql"))
    assert found == [f"{number:04}_{name}.sql" for number, name in migrate.MIGRATIONS.items()]
    assert list(migrate.MIGRATIONS) == list(range(1, len(found) + 1))


def test_a_first_run_records_its_migrations(database: Database) -> None:
    Store.open(database.url).close()
    rows = database.look("SELECT number, name, applied_at FROM migration ORDER BY number")
    assert [(number, name) for number, name, _ in rows] == list(migrate.MIGRATIONS.items())
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", at) for _, _, at in rows)


def later(patch: pytest.MonkeyPatch, *made: list[str]) -> list[int]:
    """Adds migrations to those that there are; the numbers of all."""
    added = dict(enumerate(made, len(migrate.MIGRATIONS) + 1))
    patch.setattr(migrate, "MIGRATIONS", {**migrate.MIGRATIONS, **dict.fromkeys(added, "later")})
    patch.setattr(migrate, "statements", added.__getitem__)
    return sorted(migrate.MIGRATIONS)


def applied(database: Database) -> list[int]:
    return [number for (number,) in database.look("SELECT number FROM migration ORDER BY 1")]


def test_what_a_database_lacks_is_run_in_order_and_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Store.open(database.url)) as store:
        store.add_job(a_job(), shards(1))
    numbers = later(monkeypatch, ["CREATE TABLE new (id BIGINT)"], ["ALTER TABLE new ADD COLUMN name TEXT"])
    for _ in range(2):
        with closing(Store.open(database.url)) as store:
            assert store.job("job") == a_job()
    assert applied(database) == numbers
    assert database.look("SELECT id, name FROM new") == []


def test_a_migration_that_fails_leaves_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    Store.open(database.url).close()
    before = applied(database)
    later(monkeypatch, ["CREATE TABLE new (id BIGINT)"], ["ALTER TABLE nothing ADD COLUMN name TEXT"])
    with pytest.raises(StorageError):
        Store.open(database.url)
    assert applied(database) == before
    # It was undone with the migration that failed after it, so it can be made.
    database.look("CREATE TABLE new (id BIGINT)")


def test_every_release_before_this_one_is_brought_up_to_date(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = dict(migrate.MIGRATIONS)
    for last in every:
        monkeypatch.setattr(migrate, "MIGRATIONS", {number: every[number] for number in range(1, last + 1)})
        with closing(connector_to(database)) as connector:
            migrate.bring_up_to_date(connector)
        assert applied(database) == list(range(1, last + 1))
    with closing(Store.open(database.url)) as store:
        store.add_job(a_job(), shards(1))
        assert store.shards("job") == shards(1)


def test_a_newer_database_is_refused(database: Database) -> None:
    Store.open(database.url).close()
    database.look("INSERT INTO migration VALUES (99, 'later', 'today')")
    with pytest.raises(StorageError, match=r"newer halfrate \(its schema is 99, this one knows \d+\)"):
        Store.open(database.url)


def test_tables_that_are_not_ours_are_left_alone(database: Database) -> None:
    database.look("CREATE TABLE job (id TEXT)")
    with pytest.raises(StorageError, match="no release of halfrate"):
        Store.open(database.url)
    database.look("CREATE TABLE shard (id TEXT)", "CREATE TABLE migration (id TEXT)")


def test_comments_and_blank_lines_are_no_statements() -> None:
    found = migrate.statements(1)
    assert all(statement.startswith(("CREATE TABLE", "CREATE INDEX")) for statement in found)
    assert not any("--" in statement for statement in found)


# ---------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    "bad", ["", "sqlite://", "sqlite:///", "sqlite:///:memory:", "mysql://me:secret@host/x", "secret", "x.db"]
)
def test_a_url_that_names_no_database(bad: str) -> None:
    with pytest.raises(SettingsError, match="sqlite:///<file> or postgresql://") as caught:
        Store.open(bad)
    assert "secret" not in str(caught.value)


# ---------------------------------------------------------------- several at once


def test_processes_that_open_a_new_database_at_once_all_succeed(new_database: Callable[[], Database]) -> None:
    for _ in range(3):
        database = new_database()
        with children(*[("opens", database.url)] * 5) as started:
            for child in started:
                child.go()
            assert [child.rest() for child in started] == [["opened 0"]] * 5
        assert applied(database) == sorted(migrate.MIGRATIONS)


def test_threads_that_open_a_new_database_at_once_all_succeed(new_database: Callable[[], Database]) -> None:
    for _ in range(5):
        stores: list[Store] = []
        start = threading.Barrier(6)

        def opens(
            place: str = new_database().url, found: list[Store] = stores, at: threading.Barrier = start
        ) -> None:
            at.wait()
            found.append(Store.open(place))

        threads = [threading.Thread(target=opens) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [store.jobs() for store in stores] == [[]] * 6
        for store in stores:
            store.close()


# ---------------------------------------------------------------- closing


def test_a_closed_store_says_so(database: Database) -> None:
    store = Store.open(database.url)
    store.close()
    store.close()
    with pytest.raises(StorageError, match="closed"):
        store.jobs()
