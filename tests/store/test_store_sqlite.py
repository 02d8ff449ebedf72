"""What holds of a store in an SQLite file."""

import os
import sqlite3
import tempfile
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from halfrate.base.errors import HalfrateError, StorageError, StoreBusy
from halfrate.core.lifecycle import Shard, State
from halfrate.store.connector import Connector
from halfrate.store.sqlite import SqliteConnector
from halfrate.store.store import Store

from .processes import children
from .records import LEASE, a_job, a_shard, shards, stepped


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'halfrate.db'}"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(url(tmp_path))) as store:
        yield store


# ---------------------------------------------------------------- settings


def connector(store: Store) -> Connector:
    return store._connector


def test_a_commit_survives_a_power_cut_and_references_are_checked(store: Store) -> None:
    with connector(store).reading() as transaction:
        assert transaction.fetch_one("PRAGMA journal_mode") == ("wal",)
        assert transaction.fetch_one("PRAGMA synchronous") == (2,)
        assert transaction.fetch_one("PRAGMA foreign_keys") == (1,)
        assert transaction.fetch_one("PRAGMA busy_timeout") == (30_000,)


@pytest.mark.parametrize("name", ["a b?c#d%20é.db", "x:///y.db"])
def test_any_file_name_is_taken_as_it_is(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Store.open(f"sqlite:///{path}").close()
    assert path.is_file()


# ---------------------------------------------------------------- errors


def refused(folder: Path) -> str:
    with pytest.raises(StorageError) as caught:
        Store.open(url(folder), patience=0.1)
    assert "halfrate.db" in str(caught.value)
    return str(caught.value)


def test_a_folder_where_the_file_should_be(tmp_path: Path) -> None:
    (tmp_path / "halfrate.db").mkdir()
    assert "cannot be opened" in refused(tmp_path)


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert "its folder exists" in refused(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "garbage", [b"not a database\n" * 1000, os.urandom(5000), b"SQLite format 3\0" + b"?" * 9000]
)
def test_a_file_that_is_no_database(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "halfrate.db"
    path.write_bytes(garbage)
    assert "damaged, or is not a database" in refused(tmp_path)
    assert path.read_bytes() == garbage


def test_a_damaged_database(tmp_path: Path) -> None:
    with closing(Store.open(url(tmp_path))) as store:
        store.add_job(a_job(), shards(500))
    path = tmp_path / "halfrate.db"
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + os.urandom(len(whole) - 4096))
    with pytest.raises(StorageError, match="damaged"), closing(Store.open(url(tmp_path))) as store:
        store.shards("job")


@contextmanager
def another_users_folder() -> Generator[tuple[Path, str]]:
    """A folder, and a user whom permissions bind ("": ourselves). Root passes all of them, and borrows nobody."""
    user = "65534" if os.geteuid() == 0 else ""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield folder, user
        folder.chmod(0o755)


def opening(folder: Path, user: str) -> str:
    with children(("opens", url(folder), user)) as (child,):
        child.go()
        (line,) = child.rest()
    return line


def test_a_read_only_folder_is_refused() -> None:
    with another_users_folder() as (folder, user):
        folder.chmod(0o555)
        line = opening(folder, user)
    assert line.startswith(
        f"StorageError The database {folder / 'halfrate.db'} cannot be opened or written to"
    )


@pytest.mark.parametrize("mode", [0o444, 0o000])
def test_a_read_only_database_is_refused(mode: int) -> None:
    with another_users_folder() as (folder, user):
        with closing(sqlite3.connect(folder / "halfrate.db")) as connection:
            connection.execute("CREATE TABLE t (id)")
        (folder / "halfrate.db").chmod(mode)
        folder.chmod(0o777)
        line = opening(folder, user)
    assert line.startswith(
        f"StorageError The database {folder / 'halfrate.db'} cannot be opened or written to"
    )


def test_a_full_disk_saves_nothing_and_stops_nothing(store: Store) -> None:
    store.add_job(a_job(), shards(3))
    with connector(store).writing() as transaction:
        row = transaction.fetch_one("PRAGMA page_count")
        assert row is not None
        transaction.execute(f"PRAGMA max_page_count={row[0] + 2}")
    with pytest.raises(StorageError, match="no room left"):
        store.add_job(a_job("large"), shards(500, "large"))
    assert store.job("large") is None
    assert len(store.claim("w", 0.0, LEASE)) == 3
    with connector(store).writing() as transaction:
        transaction.execute("PRAGMA max_page_count=100000")
    store.add_job(a_job("large"), shards(500, "large"))


def test_a_database_held_by_another_process_is_busy(tmp_path: Path) -> None:
    store = Store.open(url(tmp_path), patience=0.05)
    store.add_job(a_job(), shards(1))
    with children(("holds", str(tmp_path / "halfrate.db"))) as (child,):
        with pytest.raises(StoreBusy, match="held by another process"):
            store.claim("w", 0.0, LEASE)
        # In WAL mode a writer is in nobody's way who only looks.
        assert store.job("job") == a_job()
        Store.open(url(tmp_path), patience=0.05).close()
        child.go()
        child.rest()
    assert len(store.claim("w", 0.0, LEASE)) == 1
    store.close()


def test_a_new_database_held_by_another_process_is_busy(tmp_path: Path) -> None:
    with children(("holds", str(tmp_path / "halfrate.db"))), pytest.raises(StoreBusy):
        Store.open(url(tmp_path), patience=0.05)


def test_a_database_held_by_another_thread_is_busy(tmp_path: Path) -> None:
    store = Store.open(url(tmp_path), patience=0.05)
    store.add_job(a_job(), shards(1))
    inside, leave = threading.Event(), threading.Event()

    def waits(shard: Shard) -> Shard:
        inside.set()
        leave.wait(30)
        return stepped(shard, State.UPLOADED)

    thread = threading.Thread(target=store.change, args=("job-0", waits))
    thread.start()
    inside.wait(30)
    with pytest.raises(StoreBusy, match="another step of this process"):
        store.claim("w", 0.0, LEASE)
    assert store.shards("job") == [a_shard()]
    leave.set()
    thread.join()
    assert store.shards("job")[0].state is State.UPLOADED
    store.close()


def test_our_own_mistakes_are_not_dressed_up(store: Store) -> None:
    with pytest.raises(sqlite3.ProgrammingError), connector(store).reading() as transaction:
        transaction.execute("SELECT :missing")
    with pytest.raises(StorageError, match="no such table"), connector(store).reading() as transaction:
        transaction.execute("SELECT * FROM elsewhere")
    assert store.jobs() == []


def test_an_old_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(StorageError, match=r"needs 3\.35"):
        Store.open(url(tmp_path))


def test_a_file_of_a_newer_version_is_unchanged(tmp_path: Path) -> None:
    Store.open(url(tmp_path)).close()
    path = tmp_path / "halfrate.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO migration VALUES (99, 'later', 'today')")
    before = path.read_bytes()
    with pytest.raises(StorageError, match=r"newer halfrate \(its schema is 99, this one knows \d+\)"):
        Store.open(url(tmp_path))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["halfrate.db"]  # noqa: PTH208


def test_closing_waits_for_nobody_and_leaves_nothing_open(tmp_path: Path) -> None:
    path = tmp_path / "halfrate.db"
    database = SqliteConnector(str(path))
    with database.reading() as first, database.reading() as second:
        database.close()
        assert first.fetch_one("SELECT 1") == second.fetch_one("SELECT 1") == (1,)
    # The last connection to close folds the log into the file.
    assert [each.name for each in tmp_path.iterdir()] == ["halfrate.db"]


def test_an_open_that_fails_leaves_nothing_open(tmp_path: Path) -> None:
    Store.open(url(tmp_path)).close()
    with closing(sqlite3.connect(tmp_path / "halfrate.db")) as connection, connection:
        connection.execute("INSERT INTO migration VALUES (99, 'later', 'today')")
    with pytest.raises(HalfrateError):
        Store.open(url(tmp_path))
    assert [each.name for each in tmp_path.iterdir()] == ["halfrate.db"]
