"""Bringing a database to this version's tables.

A new database runs every migration, so what a fresh one looks like and what an old one becomes cannot differ.
A migration that was released is never edited: the next one mends it.
"""

from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

from halfrate.base.errors import StorageError
from halfrate.store import sql
from halfrate.store.connector import Connector, Transaction

# Written down, not looked up in the folder: every command asks whether a database is up to date.
MIGRATIONS: Final = {
    1: "jobs",
    2: "admission",
    3: "budgets",
    4: "caches",
    5: "modalities",
    6: "leaders",
    7: "surfaces",
    8: "calls",
    9: "webhooks",
    10: "closed_logs",
    11: "deferred",
    12: "processes",
}
"""Number and name of every migration; the file is `migrations/<number, four digits>_<name>.sql`."""


def bring_up_to_date(connector: Connector) -> None:
    """Run what the database lacks, all or nothing. Raises StorageError for one that we do not understand."""
    with connector.reading() as transaction:
        if not _lacking(connector, transaction):
            return
    with connector.writing() as transaction:
        transaction.lock("migration")
        # Asked again: another process may have done it since.
        for number in _lacking(connector, transaction):
            for statement in statements(number):
                transaction.execute(statement)
            transaction.execute(sql.ADD_MIGRATION, {"number": number, "name": MIGRATIONS[number]})


def statements(number: int) -> list[str]:
    """The statements of a migration, in order."""
    # Not needed, and so not paid for, by a command that finds its database up to date.
    file = Path(__file__).parent / "migrations" / f"{number:04}_{MIGRATIONS[number]}.sql"
    lines = file.read_text(encoding="utf-8").splitlines()
    text = "\n".join(line.partition("--")[0].rstrip() for line in lines)
    return [statement.strip() for statement in text.split(";") if statement.strip()]


def _lacking(connector: Connector, transaction: Transaction) -> list[int]:
    applied = _applied(connector, transaction)
    if not applied <= MIGRATIONS.keys():
        raise StorageError(
            f"The database {connector.place} was made by a newer halfrate (its schema is {max(applied)}, this "
            f"one knows {max(MIGRATIONS)}). Upgrade halfrate; nothing was changed."
        )
    return sorted(MIGRATIONS.keys() - applied)


def _applied(connector: Connector, transaction: Transaction) -> AbstractSet[int]:
    has_table = connector.dialect.has_table
    if transaction.fetch_one(has_table, {"name": "migration"}) is not None:
        return {number for (number,) in transaction.fetch_all(sql.MIGRATIONS)}
    if transaction.fetch_one(has_table, {"name": "job"}) is not None:
        raise StorageError(
            f"The database {connector.place} holds tables that no release of halfrate made. Nothing was changed; "
            "set HALFRATE_HOME to another folder, or move the file away."
        )
    return frozenset()
