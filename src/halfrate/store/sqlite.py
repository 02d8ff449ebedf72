"""SQLite behind the connector's seam, on the standard library's driver.

Connections are kept for the next transaction, whichever thread it runs in. Writers of this process queue for a
lock of ours first: SQLite's own waiting is a sleep that doubles, which is meant for other processes.
"""

import functools
import sqlite3
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final

from halfrate.base.errors import HalfrateError, IllegalStep, StorageError, StoreBusy
from halfrate.store.connector import Dialect, Params, Row

_NONE: Final[Params] = {}
_OLDEST: Final = (3, 35)  # RETURNING
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_FORBIDDEN = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

DIALECT: Final = Dialect(
    # BEGIN IMMEDIATE lets in one writer at a time, so there is nothing to lock and nothing to skip.
    for_update="",
    skip_locked="",
    day="CAST(at AS INTEGER) / 86400",
    has_table="SELECT name FROM sqlite_master WHERE type = 'table' AND name = :name",
)

_filled = functools.cache(DIALECT.fill)


class SqliteTransaction:
    """See `connector.Transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, params: Params = _NONE) -> int:
        return self._connection.execute(_filled(statement), params).rowcount

    def fetch_one(self, statement: str, params: Params = _NONE) -> Row | None:
        return self._connection.execute(_filled(statement), params).fetchone()

    def fetch_all(self, statement: str, params: Params = _NONE) -> list[Row]:
        return self._connection.execute(_filled(statement), params).fetchall()

    def lock(self, name: str) -> None:
        """Nothing to do: a transaction that writes has the whole database to itself."""


class SqliteConnector:
    """See `connector.Connector`. `patience`: seconds to wait for another holder before StoreBusy."""

    def __init__(self, path: str, *, patience: float = 30.0) -> None:
        if sqlite3.sqlite_version_info < _OLDEST:
            raise StorageError(
                f"This Python has SQLite {sqlite3.sqlite_version}, and halfrate needs {_OLDEST[0]}.{_OLDEST[1]} "
                "or newer. Use another build of Python; nothing was changed."
            )
        self.dialect: Final = DIALECT
        self.place: Final = path
        self._patience = patience
        self._writer = threading.Lock()
        self._pool = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        try:
            connection = self._connect()
            try:
                self._use_wal(connection)
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            plain = self._plain(error)
            if plain is None:
                raise
            raise plain from error
        self._idle.append(connection)

    def close(self) -> None:
        with self._pool:
            self._closed = True
            connections, self._idle = self._idle, []
        for connection in connections:
            connection.close()

    @contextmanager
    def reading(self) -> Generator[SqliteTransaction]:
        with self._transaction("BEGIN") as transaction:
            yield transaction

    @contextmanager
    def writing(self) -> Generator[SqliteTransaction]:
        if not self._writer.acquire(timeout=self._patience):
            raise StoreBusy(
                f"The database {self.place} has been held by another step of this process for "
                f"{self._patience:g} s. Nothing was changed; try again."
            )
        try:
            with self._transaction("BEGIN IMMEDIATE") as transaction:
                yield transaction
        finally:
            self._writer.release()

    @contextmanager
    def _transaction(self, begin: str) -> Generator[SqliteTransaction]:
        try:
            connection = self._take()
            try:
                connection.execute(begin)
                yield SqliteTransaction(connection)
                connection.execute("COMMIT")
            except BaseException:
                self._undo(connection)
                raise
            self._give_back(connection)
        except sqlite3.Error as error:
            plain = self._plain(error)
            if plain is None:
                raise
            raise plain from error

    # ------------------------------------------------------------ connections

    def _take(self) -> sqlite3.Connection:
        with self._pool:
            if self._closed:
                raise StorageError(f"The database {self.place} has been closed. Nothing was changed.")
            if self._idle:
                return self._idle.pop()
        return self._connect()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._pool:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def _undo(self, connection: sqlite3.Connection) -> None:
        with suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._give_back(connection)
            return
        # Closing gives up whatever a rollback could not.
        connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.place,
            timeout=self._patience,
            # The driver's own transactions begin too late and in the wrong mode; we begin them ourselves.
            isolation_level=None,
            # One thread at a time has a connection, but not always the same one.
            check_same_thread=False,
        )
        try:
            # FULL, not NORMAL: a commit lost in a power cut could hide a batch that is being paid for.
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """Make the file a WAL database; it stays one.

        While two processes do this to a new file, SQLite refuses one of them at once instead of waiting.
        """
        give_up = time.monotonic() + self._patience
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL").fetchall()
            except sqlite3.OperationalError as error:
                if _code(error) not in _BUSY or time.monotonic() >= give_up:
                    raise
                time.sleep(0.01)
            else:
                return

    # ------------------------------------------------------------ errors

    def _plain(self, error: sqlite3.Error) -> HalfrateError | None:
        """The error for a person, or None where it is a defect of ours."""
        code = _code(error)
        if code is None:
            return None
        if code in _BUSY:
            return StoreBusy(
                f"The database {self.place} is held by another process ({error}). Nothing was changed; try again."
            )
        if code == sqlite3.SQLITE_CONSTRAINT:
            return IllegalStep(f"The database {self.place} refused a record ({error}). Nothing was changed.")
        if code == sqlite3.SQLITE_FULL:
            return StorageError(
                f"There is no room left for the database {self.place} ({error}). Nothing of this step was saved; "
                "make room and go on."
            )
        if code in _FORBIDDEN:
            return StorageError(
                f"The database {self.place} cannot be opened or written to ({error}). Nothing was changed. Check "
                "that its folder exists, and that you may write to the folder and to the file."
            )
        if code in _DAMAGED:
            return StorageError(
                f"The database {self.place} is damaged, or is not a database at all ({error}). Nothing was "
                "changed. It knows which batches are being paid for: put a copy back rather than delete it."
            )
        return StorageError(
            f"The database {self.place} cannot be used ({error}). Nothing of this step was saved."
        )


def _code(error: sqlite3.Error) -> int | None:
    """SQLite's primary result code; None for what the driver itself complains about."""
    extended: int | None = getattr(error, "sqlite_errorcode", None)
    return None if extended is None else extended & 0xFF
