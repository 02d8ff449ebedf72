"""Calls in real time in the ledger. Every method is one transaction, as the store's are.

The ledger knows jobs and shards. Calls of one day, model, tier and set of tags are booked on a job of their own, which
has one shard and no rows to send: so costs, tags and budgets are one matter, whatever was paid for.
"""

from collections.abc import Sequence

import msgspec

from halfrate.base.results import Billed
from halfrate.core.job import Job
from halfrate.core.lifecycle import Shard
from halfrate.store import call_sql, sql
from halfrate.store.connector import Connector, Transaction
from halfrate.store.records import job_params, payment_params, shard_params


class Entry(msgspec.Struct, frozen=True):
    """Calls that are booked together. `kind`: `rows`, or `doubt` for those that may have been billed unseen."""

    job: Job
    shard: Shard
    kind: str
    billed: Billed
    at: float


class Progress(msgspec.Struct, frozen=True):
    """How far a log is in the ledger: bytes, and whether it is closed, so that nothing of it will ever be booked
    again."""

    booked: int = 0
    closed: bool = False


class CallBook:
    """See `Store.calls`."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    def progress(self) -> dict[str, Progress]:
        """How far each log is that anything is known of."""
        with self._connector.reading() as transaction:
            rows = transaction.fetch_all(call_sql.LOGS)
        return {log: Progress(int(booked), bool(closed)) for log, booked, closed in rows}

    def book(
        self, log: str, since: int, until: int, entries: Sequence[Entry], *, closing: bool = False
    ) -> bool:
        """Book what stands in a log from byte `since` to byte `until`; False, and nothing, if that has been done.

        `closing`: that is all there will ever be of it.
        """
        with self._connector.writing() as transaction:
            transaction.lock(f"calls of {log}")
            row = transaction.fetch_one(call_sql.BOOKED, {"id": log})
            known = Progress() if row is None else Progress(int(row[0]), bool(row[1]))
            if known != Progress(since):
                return False
            # In one order, so that no two wait for each other.
            for entry in sorted(entries, key=lambda entry: entry.shard.id):
                _add(transaction, entry)
            transaction.execute(call_sql.SET_BOOKED, {"id": log, "booked": until, "closed": int(closing)})
            return True

    def forget(self, log: str) -> None:
        """A log that is booked whole has been removed."""
        with self._connector.writing() as transaction:
            transaction.execute(call_sql.DROP_LOG, {"id": log})


def _add(transaction: Transaction, entry: Entry) -> None:
    # Another log may be booked on the same shard at this moment: entries are numbered one after the other.
    transaction.lock(f"entries of {entry.shard.id}")
    transaction.execute(call_sql.ADD_CALLS_JOB, job_params(entry.job))
    transaction.execute(call_sql.ADD_CALLS_SHARD, shard_params(entry.shard))
    number = transaction.fetch_all(call_sql.NEXT_ENTRY, {"shard_id": entry.shard.id})[0][0]
    params = payment_params(entry.shard, int(number), entry.kind, entry.billed, entry.at)
    transaction.execute(sql.ADD_PAYMENT, params)
