"""A new, empty database for a test, of either kind."""

import itertools
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import psycopg

from .server import Server

_numbers = itertools.count(1)


class Database(Protocol):
    """Where a test's store is."""

    kind: str
    url: str

    def look(self, *statements: str) -> list[tuple[Any, ...]]:
        """What another program sees, or does; the rows of the last statement."""
        ...


class SqliteDatabase:
    """A file."""

    kind = "sqlite"

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'halfrate.db'}"
        self._file = folder / "halfrate.db"

    def look(self, *statements: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._file)) as connection, connection:
            return [connection.execute(statement).fetchall() for statement in statements][-1]


class PostgresDatabase:
    """A schema of its own: made in a moment, where a database takes a while."""

    kind = "postgres"

    def __init__(self, server: Server) -> None:
        schema = f"t{next(_numbers)}"
        server.run(f"CREATE SCHEMA {schema}")
        self.url = server.url(options=f"-csearch_path%3D{schema}")
        self.schema = schema

    def look(self, *statements: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement.encode())
            return cursor.fetchall() if cursor.description is not None else []
