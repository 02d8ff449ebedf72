from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from halfrate.store.store import Store

from .databases import Database, PostgresDatabase, SqliteDatabase
from .server import Server

KINDS = ("sqlite", "postgres")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(params=KINDS)
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Database]:
    """Makes databases of one kind."""

    def make() -> Database:
        if request.param == "postgres":
            return PostgresDatabase(request.getfixturevalue("server"))
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        return SqliteDatabase(folder)

    return make


@pytest.fixture
def database(new_database: Callable[[], Database]) -> Database:
    return new_database()


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    store = Store.open(database.url)
    yield store
    store.close()
