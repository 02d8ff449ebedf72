"""PostgreSQL behind the connector's seam, on psycopg.

Connections are kept for the next transaction, whichever thread it runs in. One that broke while it idled is
replaced without a word; while a server that was there before is away, a transaction waits for it before it
begins. A transaction that has begun is never begun again here: its steps are the caller's.

So a transaction ends in one of three ways:

* COMMIT was answered. It was kept.
* It was refused, or the connection broke, before COMMIT was sent. Nothing was kept.
* The connection broke after COMMIT was sent and before the answer came. Nobody can tell, `pg_xact_status`
  included: after a crash the server gives the number of a transaction that was lost to another one. It is
  CommitUnknown. Whoever gets it must act on neither outcome: an intent that may have been kept is not followed
  by its create, and the shard goes to whoever reads its record next. The fence keeps a step that was kept from
  being saved again.
"""

import functools
import hashlib
import math
import re
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from halfrate.base.errors import HalfrateError, IllegalStep, SettingsError, StorageError, StoreBusy
from halfrate.store.connector import CommitUnknown, Dialect, Params, Row

_Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
_Cursor: TypeAlias = psycopg.Cursor[tuple[Any, ...]]

_NONE: Final[Params] = {}
_OLDEST: Final = 12
_MOST_CONNECTIONS: Final = 8
"""Of one process. A server allows a hundred or so in all."""
_LONGEST_CONNECT: Final = 10.0
_PAUSES: Final = (0.05, 1.0)
"""Seconds between tries to reach a server that is away: the first, and the longest."""
_HELD: Final = 10.0
"""Seconds for which a transaction may do nothing. A process that was stopped inside one holds locks that others
wait for; they wait for longer than this, so that it is the server that ends it and not they who give up."""

_ENCODINGS: Final = frozenset({"UTF8", "SQL_ASCII"})
_BUSY: Final = frozenset({
    "40001",  # serialization_failure
    "40P01",  # deadlock_detected
    "55P03",  # lock_not_available: lock_timeout
    "57014",  # query_canceled: a statement_timeout of the server's
})  # fmt: skip
_AWAY: Final = frozenset({
    "53300",  # too_many_connections
    "57P01", "57P02",  # admin_shutdown, crash_shutdown
    "57P03",  # cannot_connect_now: starting up, or in recovery
})  # fmt: skip
_PASSING: Final = re.compile("starting up|shutting down|in recovery|too many clients|connection slots")
"""What a server says that will take connections later, in the language that most of them speak."""
_FULL: Final = frozenset({"53100", "53200", "54000"})
_FORBIDDEN: Final = frozenset({"25006", "42501", "28000", "28P01", "3D000", "3F000"})

DIALECT: Final = Dialect(
    for_update="FOR UPDATE",
    skip_locked="FOR UPDATE SKIP LOCKED",
    day="CAST(trunc(at) AS BIGINT) / 86400",
    # Where the migrations would make it: another schema may hold tables of the same name that are not ours.
    has_table="""
SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = current_schema() AND tablename = :name
""",
)

_READING: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# Each statement sees what was committed before it, so that what is asked after `lock` is not older than the lock.
_WRITING: Final = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_COMMIT: Final = b"COMMIT"
_ROLLBACK: Final = b"ROLLBACK"
_LOCK: Final = b"SELECT pg_advisory_xact_lock($1)"

# A literal, a quoted name, a comment or a cast may hold a colon that names no parameter.
_TOKENS: Final = re.compile(
    r"""'(?:[^']|'')*' | "[^"]*" | --[^\n]* | :: | :([A-Za-z_][A-Za-z0-9_]*)""", re.VERBOSE
)


@functools.cache
def translated(statement: str) -> tuple[bytes, tuple[str, ...]]:
    """A statement with `$1`, `$2` ... for its `:names`, and the names in that order. Each has one number."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        name: str | None = match.group(1)
        if name is None:
            return match.group()
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return _TOKENS.sub(number, DIALECT.fill(statement)).encode(), tuple(names)


class PostgresTransaction:
    """See `connector.Transaction`."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, params: Params = _NONE) -> int:
        return self._run(statement, params).rowcount

    def fetch_one(self, statement: str, params: Params = _NONE) -> Row | None:
        return self._run(statement, params).fetchone()

    def fetch_all(self, statement: str, params: Params = _NONE) -> list[Row]:
        return self._run(statement, params).fetchall()

    def lock(self, name: str) -> None:
        digest = hashlib.blake2b(f"halfrate {name}".encode(), digest_size=8).digest()
        self._connection.execute(_LOCK, (int.from_bytes(digest, signed=True),))

    def _run(self, statement: str, params: Params) -> _Cursor:
        text, names = translated(statement)
        if not names:
            return self._connection.execute(text)
        values = [params[name] for name in names]
        # To PostgreSQL a bool is no number, and the columns that both databases share are numbers.
        return self._connection.execute(
            text, [int(value) if isinstance(value, bool) else value for value in values]
        )


class PostgresConnector:
    """See `connector.Connector`.

    `url`: as in "postgresql://user@host:5432/database"; what it leaves out comes from libpq's own variables and
    files (PGPASSWORD, ~/.pgpass). `patience`: seconds to wait for another holder, and for a server that is
    away, before StoreBusy or StorageError.
    """

    def __init__(self, url: str, *, patience: float = 30.0) -> None:
        options = _options(url)
        self.dialect: Final = DIALECT
        self.place: Final = _place(options)
        self._url = url
        self._patience = patience
        self._defaults = {name: value for name, value in _defaults(patience).items() if name not in options}
        self._settings = (
            f"SET LOCAL lock_timeout = {_milliseconds(patience)};"
            f"SET LOCAL idle_in_transaction_session_timeout = {_milliseconds(_HELD)};"
            # A commit that is reported and lost could hide a batch that is being paid for.
            "SELECT set_config('synchronous_commit', 'on', true)"
            " WHERE current_setting('synchronous_commit') = 'off'"
        )
        self._free = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        self._pool = threading.Lock()
        self._idle: list[_Connection] = []
        self._closed = False
        self._reached = False
        # A wrong name or password is found out here, and not waited for.
        with self.reading():
            pass

    def close(self) -> None:
        with self._pool:
            self._closed = True
            connections, self._idle = self._idle, []
        for connection in connections:
            connection.close()

    @contextmanager
    def reading(self) -> Generator[PostgresTransaction]:
        with self._transaction(_READING, writes=False) as transaction:
            yield transaction

    @contextmanager
    def writing(self) -> Generator[PostgresTransaction]:
        with self._transaction(_WRITING, writes=True) as transaction:
            yield transaction

    @contextmanager
    def _transaction(self, begin: str, *, writes: bool) -> Generator[PostgresTransaction]:
        if not self._free.acquire(timeout=self._patience):
            raise StoreBusy(
                f"All {_MOST_CONNECTIONS} connections of this process to the database {self.place} have been "
                f"in use for {self._patience:g} s. Nothing was changed; try again."
            )
        try:
            connection = self._begin(f"{begin};{self._settings}".encode())
            try:
                yield PostgresTransaction(connection)
            except BaseException:
                self._undo(connection)
                raise
            self._commit(connection, writes=writes)
        except psycopg.Error as error:
            plain = self._plain(error)
            if plain is None:
                raise
            raise plain from error
        finally:
            self._free.release()

    def _commit(self, connection: _Connection, *, writes: bool) -> None:
        try:
            ended = connection.execute(_COMMIT).statusmessage
        except psycopg.Error as error:
            broke = _broke(connection, error)
            connection.close()
            if not writes:
                # All that it was for has been read, at one moment: there was nothing to keep.
                return
            if broke:
                raise CommitUnknown(
                    f"The connection to the database {self.place} broke while a step was being committed "
                    f"({_words(error)}). Whether it was kept is not known, so nothing was done that relies on "
                    "it. Once the database is back, go on: the next look at the job finds out."
                ) from error
            raise
        except BaseException:
            connection.close()
            raise
        if ended != "COMMIT":
            # A statement failed and its error was swallowed; the server has undone everything.
            connection.close()
            raise StorageError(
                f"The database {self.place} did not keep a step ({ended}). Nothing was changed."
            )
        self._give_back(connection)

    # ------------------------------------------------------------ connections

    def _begin(self, begin: bytes) -> _Connection:
        """A connection with a transaction begun. Nothing has been done in it: any failure may be tried again."""
        give_up = time.monotonic() + self._patience
        pause, longest = _PAUSES
        while True:
            connection = self._take()
            idled = connection is not None
            try:
                connection = connection or self._connect()
                connection.execute(begin)
            except BaseException as error:
                if connection is not None:
                    connection.close()
                if not isinstance(error, psycopg.Error):
                    raise
                if idled and _broke(connection, error):
                    continue
                if not self._may_come_back(error) or time.monotonic() + pause >= give_up:
                    raise self._unreached(error) from error
            else:
                self._reached = True
                return connection
            time.sleep(pause)
            pause = min(pause * 2, longest)

    def _take(self) -> _Connection | None:
        with self._pool:
            if self._closed:
                raise StorageError(f"The database {self.place} has been closed. Nothing was changed.")
            return self._idle.pop() if self._idle else None

    def _give_back(self, connection: _Connection) -> None:
        with self._pool:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def _undo(self, connection: _Connection) -> None:
        with suppress(psycopg.Error):
            if connection.info.transaction_status != TransactionStatus.IDLE:
                connection.execute(_ROLLBACK)
            if connection.info.transaction_status == TransactionStatus.IDLE:
                self._give_back(connection)
                return
        # Closing gives up whatever a rollback could not.
        connection.close()

    def _connect(self) -> _Connection:
        connection: _Connection = psycopg.connect(
            self._url,
            # psycopg's own transactions begin in the server's default mode; we begin them ourselves.
            autocommit=True,
            cursor_factory=psycopg.RawCursor,
            # A statement prepared in one session is unknown in the next behind a pooler.
            prepare_threshold=None,
            **self._defaults,
        )
        try:
            self._examine(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _examine(self, connection: _Connection) -> None:
        version = connection.info.server_version // 10_000
        if version < _OLDEST:
            raise StorageError(
                f"The database {self.place} is PostgreSQL {version}, and halfrate needs {_OLDEST} or newer. "
                "Nothing was changed."
            )
        encoding = connection.info.parameter_status("server_encoding")
        if encoding is not None and encoding not in _ENCODINGS:
            raise StorageError(
                f"The database {self.place} keeps text as {encoding}, and cannot hold every prompt. Make one "
                "with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0. Nothing was changed."
            )

    # ------------------------------------------------------------ errors

    def _may_come_back(self, error: psycopg.Error) -> bool:
        """Whether waiting may help: for a server that this process has reached before, or that says so itself."""
        if error.sqlstate is not None:
            return error.sqlstate in _AWAY or error.sqlstate.startswith("08")
        # libpq keeps the code of a connection that was refused to itself.
        passing = self._reached or _PASSING.search(str(error)) is not None
        return passing and isinstance(error, psycopg.OperationalError)

    def _unreached(self, error: psycopg.Error) -> HalfrateError:
        """What to say when no transaction could be begun."""
        return StorageError(
            f"The database {self.place} cannot be used ({_words(error)}). Nothing was changed. Check that the "
            "server runs, that HALFRATE_DATABASE names it, and that the user may read and write there."
        )

    def _plain(self, error: psycopg.Error) -> HalfrateError | None:
        """The error for a person, or None where it is a defect of ours. Nothing of the transaction was kept."""
        state = error.sqlstate
        words = _words(error)
        if state is None and not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            return None
        if state is None or state in _AWAY or state.startswith("08") or state == "25P03":
            return StorageError(
                f"The connection to the database {self.place} broke in the middle of a step ({words}). Nothing of "
                "this step was saved; go on once the database is back."
            )
        if state in _BUSY:
            return StoreBusy(
                f"The database {self.place} is held by another process ({words}). Nothing was changed; try again."
            )
        if state.startswith("23"):
            return IllegalStep(f"The database {self.place} refused a record ({words}). Nothing was changed.")
        if state in _FULL:
            return StorageError(
                f"There is no room left for the database {self.place} ({words}). Nothing of this step was saved; "
                "make room and go on."
            )
        if state in _FORBIDDEN:
            return StorageError(
                f"The database {self.place} cannot be written to ({words}). Nothing was changed. Check that it is "
                "the primary server, and what the user of HALFRATE_DATABASE may do there."
            )
        return StorageError(
            f"The database {self.place} cannot be used ({words}). Nothing of this step was saved."
        )


def _options(url: str) -> dict[str, Any]:
    """What a URL says, by libpq's names. Nothing of it is repeated in a message: it may hold a password."""
    try:
        options = conninfo_to_dict(url)
    except psycopg.Error:
        options = None
    # A password with a slash or an at sign in it ends up as a port, a host or a database.
    if (
        options is None
        or not re.fullmatch(r"[0-9,]*", str(options.get("port") or ""))
        or any("@" in str(options.get(name) or "") for name in ("host", "dbname"))
    ):
        raise SettingsError(
            "The database's URL cannot be read. It is written postgresql://user:password@host:5432/database; in "
            "a password, write %40 for @, %2F for /, %3A for :, and %25 for %. Nothing was sent."
        )
    return options


def _place(options: dict[str, Any]) -> str:
    host = options.get("host") or options.get("hostaddr") or ""
    port = f":{options['port']}" if options.get("port") else ""
    return f"postgresql://{host}{port}/{options.get('dbname') or ''}"


def _defaults(patience: float) -> dict[str, Any]:
    """What holds unless the URL says otherwise."""
    return {
        "client_encoding": "UTF8",
        "fallback_application_name": "halfrate",
        "connect_timeout": max(2, math.ceil(min(patience, _LONGEST_CONNECT))),
        # A peer that vanished without a word is noticed within two minutes.
        "keepalives_idle": 60,
        "keepalives_interval": 15,
        "keepalives_count": 4,
        "tcp_user_timeout": 120_000,
    }


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))  # 0 would mean for ever


def _broke(connection: _Connection | None, error: psycopg.Error) -> bool:
    """Whether the session is over, as opposed to a statement that was refused in it."""
    if connection is None or connection.closed:
        return True
    return error.diag.severity_nonlocalized in {"FATAL", "PANIC"}


def _words(error: psycopg.Error) -> str:
    """The server's words on one line, without the statement and without what a record holds."""
    text = error.diag.message_primary or str(error)
    return " ".join(text.split()) or type(error).__name__
