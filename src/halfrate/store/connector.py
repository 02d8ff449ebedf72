"""The seam between the store's statements and a driver. A connector knows no job and no shard.

Errors are translated behind the seam: StoreBusy when another holds what is needed, StorageError when this
machine cannot keep or read the data, IllegalStep when the database refuses a record that contradicts what it
holds. Whatever is raised, nothing of the transaction was kept; CommitUnknown alone leaves that open.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

import msgspec

from halfrate.base.errors import StorageError

Value: TypeAlias = str | int | float | None
Params: TypeAlias = Mapping[str, Value]
Row: TypeAlias = tuple[Any, ...]


class CommitUnknown(StorageError):
    """The connection broke between a commit and its answer: the transaction was kept whole, or not at all.

    Nothing may be done that relies on either. What a record says now is found by reading it again.
    """


class Dialect(msgspec.Struct, frozen=True):
    """Where one kind of SQL differs from the other.

    `for_update`, `skip_locked`: what to put for the placeholders of those names. `day`: for `{day}`, the days since
    1970 of the column `at`. `has_table`: a statement with a parameter `name` that gives a row if there is such a table.
    """

    for_update: str
    skip_locked: str
    day: str
    has_table: str

    def fill(self, statement: str) -> str:
        for name in ("for_update", "skip_locked", "day"):
            statement = statement.replace(f"{{{name}}}", getattr(self, name))
        return statement


class Transaction(Protocol):
    """One transaction; it is kept when its `with` block ends, and undone when anything is raised there."""

    def execute(self, statement: str, params: Params = ...) -> int:
        """Run a statement; the number of rows that it wrote."""
        ...

    def fetch_one(self, statement: str, params: Params = ...) -> Row | None: ...

    def fetch_all(self, statement: str, params: Params = ...) -> list[Row]: ...

    def lock(self, name: str) -> None:
        """Wait until no other transaction holds this name, and hold it until this one ends.

        For a rule over several rows, which locking the rows that exist does not protect.
        """
        ...


class Connector(Protocol):
    """Opens transactions. Safe to use from several threads at once."""

    @property
    def dialect(self) -> Dialect: ...

    @property
    def place(self) -> str:
        """What to call this database in a message; never a password."""
        ...

    def reading(self) -> AbstractContextManager[Transaction]:
        """A transaction that sees one moment and writes nothing."""
        ...

    def writing(self) -> AbstractContextManager[Transaction]: ...

    def close(self) -> None:
        """Let go of every connection. Twice does no harm."""
        ...
