"""Calls that can wait, and what they were gathered into. Every method is one transaction, as the store's are."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from halfrate.core.deferral import Deferred
from halfrate.core.surface import BatchState, SurfaceBatch
from halfrate.store import deferred_sql as sql
from halfrate.store.connector import Connector, Params, Row, Transaction, Value
from halfrate.store.webhooks import tell_of_call


class Marked(NamedTuple):
    """A call, and what names the key by which its caller knows it again; None where there is none."""

    call: Deferred
    mark: str | None


class TooLate(Exception):
    """A call has been sent, or has ended."""

    def __init__(self, call: Deferred) -> None:
        super().__init__(call.id)
        self.call = call


class DeferredStore:
    """See `Store.deferred`."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    # ------------------------------------------------------------ gathering

    def begin(self, batch: SurfaceBatch, until: float) -> None:
        """Record a batch that calls are gathered into. `until`: when others may take it to be left alone."""
        params = {**_batch_params(batch, until), "team": batch.team, "created_at": batch.created_at}
        with self._connector.writing() as transaction:
            transaction.execute(sql.ADD_GATHERING, params)

    def gather(self, batch: SurfaceBatch, until: float, calls: Sequence[Marked]) -> list[str] | None:
        """Record calls of a batch, and the batch as it is with them.

        The ids of those that were recorded: others have the key of a call that there was before. None, and nothing, if
        somebody carries the batch on already.
        """
        with self._connector.writing() as transaction:
            if not _still_gathering(transaction, batch):
                return None
            transaction.execute(sql.SAVE_GATHERING, _batch_params(batch, until))
            return [one.call.id for one in calls if _added(transaction, one)]

    def close(self, batch: SurfaceBatch, now: float) -> None:
        """Have a batch carried on that was gathered, if nobody does so already."""
        with self._connector.writing() as transaction:
            if _still_gathering(transaction, batch):
                transaction.execute(sql.SAVE_GATHERING, _batch_params(batch, now))

    def waiting(self, batch_id: str) -> list[Deferred]:
        """Calls of a batch that wait for their answers."""
        with self._connector.reading() as transaction:
            return list(map(_call, transaction.fetch_all(sql.OPEN_CALLS, {"batch_id": batch_id})))

    def count(self) -> int:
        """How many calls wait for their answers."""
        with self._connector.reading() as transaction:
            return int(transaction.fetch_all(sql.COUNT_OPEN)[0][0])

    # ------------------------------------------------------------ calls

    def add(self, one: Marked) -> bool:
        """Record a call that runs in real time; whether its key was not that of another."""
        with self._connector.writing() as transaction:
            return _added(transaction, one)

    def find(self, team: str, call_id: str) -> Deferred | None:
        return self._one(sql.CALL, {"team": team, "id": call_id})

    def marked(self, team: str, mark: str) -> Deferred | None:
        """The call of a team by its caller's own key."""
        return self._one(sql.MARKED_CALL, {"team": team, "mark": mark})

    def twins(self, team: str, digest: str, since: float) -> list[Deferred]:
        """Calls that ask the same, and wait or have ended since then; the oldest first."""
        params: Params = {"team": team, "digest": digest, "since": since}
        with self._connector.reading() as transaction:
            return list(map(_call, transaction.fetch_all(sql.TWIN_CALLS, params)))

    def end(self, calls: Sequence[Deferred]) -> list[str]:
        """Record what calls came to; the ids of those that had not ended before. Who wants to be told of them is told.

        Each has `ended_at`.
        """
        ended: list[str] = []
        with self._connector.writing() as transaction:
            for call in calls:
                params: Params = {"id": call.id, "ended_at": call.ended_at, "record": _text(call)}
                if transaction.execute(sql.END_CALL, params) != 1:
                    continue
                ended.append(call.id)
                if call.background:
                    tell_of_call(transaction, call)
        return ended

    def cancel(self, team: str, call_id: str, now: float) -> Deferred | None:
        """End a call that has not been sent; None if there is none. Raises TooLate for one that was."""
        with self._connector.writing() as transaction:
            row = transaction.fetch_one(sql.CALL_TO_CHANGE, {"team": team, "id": call_id})
            if row is None:
                return None
            call = _call(row)
            found = transaction.fetch_one(sql.GATHERING_TO_CHANGE, {"id": call.batch}) if call.batch else None
            batch = msgspec.json.decode(found[0], type=SurfaceBatch) if found is not None else None
            if call.ended or batch is None or not _unsent(batch):
                raise TooLate(call)
            # Whoever is about to send it looks again.
            transaction.execute(sql.FENCE_GATHERING, {"id": batch.id, "now": now})
            cancelled = msgspec.structs.replace(call, cancelled=True, ended_at=now)
            params: Params = {"id": call.id, "ended_at": now, "record": _text(cancelled)}
            transaction.execute(sql.END_CALL, params)
            if call.background:
                tell_of_call(transaction, cancelled)
            return cancelled

    def ended_since(self, since: float) -> list[str]:
        """The ids of calls that have come to their end since then."""
        with self._connector.reading() as transaction:
            return [call_id for (call_id,) in transaction.fetch_all(sql.ENDED_SINCE, {"since": since})]

    def running(self, limit: int = 1_000) -> list[Deferred]:
        """Calls that run in real time, or did when their process died."""
        with self._connector.reading() as transaction:
            return list(map(_call, transaction.fetch_all(sql.LEFT_RUNNING, {"limit": limit})))

    # ------------------------------------------------------------ forgetting

    def drop(self, team: str, call_id: str) -> bool:
        """Forget a call that has ended; whether there was one."""
        with self._connector.writing() as transaction:
            return transaction.execute(sql.DROP_CALL, {"team": team, "id": call_id}) > 0

    def drop_old(self, before: float) -> int:
        """Forget calls that ended before a moment; how many there were."""
        with self._connector.writing() as transaction:
            return transaction.execute(sql.DROP_OLD_CALLS, {"before": before})

    def knows(self, folder: str) -> bool:
        """Whether anything is known of the calls of a batch, or of a call, of that id."""
        with self._connector.reading() as transaction:
            known = transaction.fetch_one(sql.ANY_CALL, {"batch_id": folder})
            return known is not None or transaction.fetch_one(sql.KNOWN_CALL, {"id": folder}) is not None

    # ------------------------------------------------------------ parts

    def _one(self, statement: str, params: Params) -> Deferred | None:
        with self._connector.reading() as transaction:
            row = transaction.fetch_one(statement, params)
        return None if row is None else _call(row)


def _added(transaction: Transaction, one: Marked) -> bool:
    call = one.call
    params: Params = {
        "id": call.id,
        "team": call.team,
        "mark": one.mark,
        "digest": call.digest,
        "batch_id": call.batch,
        "created_at": call.created_at,
        "record": _text(call),
    }
    return transaction.execute(sql.ADD_CALL, params) == 1


def _still_gathering(transaction: Transaction, batch: SurfaceBatch) -> bool:
    """Whether nobody has begun to carry a batch on, which stays so until the transaction ends."""
    row = transaction.fetch_one(sql.GATHERING_TO_CHANGE, {"id": batch.id})
    if row is None or row[1] is not None:
        return False
    return msgspec.json.decode(row[0], type=SurfaceBatch).state is BatchState.GATHERING


def _unsent(batch: SurfaceBatch) -> bool:
    """Whether nothing has been made of a batch yet."""
    return batch.state is BatchState.GATHERING or (batch.state is BatchState.VALIDATING and not batch.parts)


def _batch_params(batch: SurfaceBatch, next_at: float) -> dict[str, Value]:
    return {"id": batch.id, "next_at": next_at, "record": _text(batch)}


def _call(row: Row) -> Deferred:
    return msgspec.json.decode(row[0], type=Deferred)


def _text(record: msgspec.Struct) -> str:
    return msgspec.json.encode(record).decode()
