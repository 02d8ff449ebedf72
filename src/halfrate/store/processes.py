"""A database as a thing of its own, and the processes that work over it. Every method is one transaction."""

import secrets
from typing import Final

from halfrate.store import process_sql as sql
from halfrate.store.connector import Connector

_KEPT: Final = 86_400.0


class ProcessStore:
    """See `Store.processes`."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    def own_id(self) -> str:
        """What this database is called, and no other is."""
        with self._connector.reading() as transaction:
            row = transaction.fetch_one(sql.IDENTITY)
        if row is None:
            with self._connector.writing() as transaction:
                transaction.execute(sql.ADD_IDENTITY, {"id": secrets.token_hex(16)})
                row = transaction.fetch_one(sql.IDENTITY)
        return str(row[0]) if row is not None else ""

    def note_depot(self, place: str) -> None:
        """Record that files are in a depot, and no home has all of them."""
        if self.depot() is None:
            with self._connector.writing() as transaction:
                transaction.execute(sql.ADD_DEPOT, {"id": place})

    def depot(self) -> str | None:
        """The depot that was used first; None where there has been none."""
        with self._connector.reading() as transaction:
            row = transaction.fetch_one(sql.DEPOT)
        return None if row is None else str(row[0])

    def beat(self, name: str, now: float, until: float) -> None:
        """Record until when a process is taken to live, and forget those that ended long ago."""
        with self._connector.writing() as transaction:
            transaction.execute(sql.BEAT, {"name": name, "until": until})
            transaction.execute(sql.DROP_PROCESSES, {"before": now - _KEPT})

    def alive_until(self, name: str) -> float:
        """Until when a process is taken to live (seconds since 1970); 0.0 for one that was never heard of."""
        with self._connector.reading() as transaction:
            row = transaction.fetch_one(sql.ALIVE_UNTIL, {"name": name})
        return 0.0 if row is None else float(row[0])
