"""What the gateway remembers: keys, files, uploads and batches. Every method is one transaction, as the store's are.

What belongs to a team is found with the team's name alone: for another it does not exist.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from halfrate.core.keys import Key, Surface
from halfrate.core.surface import StoredFile, SurfaceBatch, Upload
from halfrate.store import surface_sql as sql
from halfrate.store.connector import Connector, Params, Row, Transaction, Value
from halfrate.store.webhooks import tell_of_batch

T = TypeVar("T")
Order = Literal["newest", "oldest"]


class Page(NamedTuple):
    """Part of a list. `more`: whether there is more of it behind."""

    items: list[Any]
    more: bool


class Held(msgspec.Struct, frozen=True):
    """A batch as one process holds it: `version` is the fence."""

    batch: SurfaceBatch
    version: int


class NoSuchCursor(Exception):
    """A list is to go on behind something that is not in it."""


class SurfaceStore:
    """See `Store.surfaces`."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    # ------------------------------------------------------------ keys

    def add_key(self, key: Key) -> None:
        with self._connector.writing() as transaction:
            transaction.execute(
                sql.ADD_KEY, {"id": key.id, "created_at": key.created_at, "record": _text(key)}
            )

    def key(self, key_id: str) -> Key | None:
        return self._one(sql.KEY, {"id": key_id}, Key)

    def keys(self) -> list[Key]:
        """All keys, the oldest first."""
        with self._connector.reading() as transaction:
            return [_decoded(row, Key) for row in transaction.fetch_all(sql.KEYS)]

    def save_key(self, key: Key) -> None:
        with self._connector.writing() as transaction:
            transaction.execute(sql.SAVE_KEY, {"id": key.id, "record": _text(key)})

    # ------------------------------------------------------------ files

    def add_file(self, file: StoredFile) -> None:
        """Record a file; one that is there already is left as it is."""
        with self._connector.writing() as transaction:
            transaction.execute(sql.ADD_FILE, _file_params(file))

    def file(self, team: str, file_id: str) -> StoredFile | None:
        return self._one(sql.FILE, {"id": file_id, "team": team}, StoredFile)

    def results_file(self, team: str, file_id: str) -> StoredFile | None:
        """The results of an Anthropic batch. `file` and `files` know nothing of them."""
        return self._one(sql.RESULTS_FILE, {"id": file_id, "team": team}, StoredFile)

    def files(
        self, team: str, *, purpose: str = "", after: str = "", limit: int, order: Order = "newest"
    ) -> Page:
        """Files of a team. `purpose`: "" for any; `after`: the id behind which the page begins.

        Raises NoSuchCursor.
        """
        at = self._place(after, sql.FILE, {"id": after, "team": team}, StoredFile, order)
        statement = sql.FILES_NEWEST if order == "newest" else sql.FILES_OLDEST
        return self._page(statement, {"team": team, "purpose": purpose, **at}, limit, StoredFile)

    def drop_file(self, team: str, file_id: str) -> bool:
        """Forget a file; whether there was one."""
        with self._connector.writing() as transaction:
            return transaction.execute(sql.DROP_FILE, {"id": file_id, "team": team}) > 0

    def has_file(self, file_id: str) -> bool:
        """Whether any team has a file of that id."""
        with self._connector.reading() as transaction:
            return transaction.fetch_one(sql.ANY_FILE, {"id": file_id}) is not None

    def expired_files(self, now: float, limit: int = 100) -> list[StoredFile]:
        with self._connector.reading() as transaction:
            rows = transaction.fetch_all(sql.EXPIRED_FILES, {"now": now, "limit": limit})
        return [_decoded(row, StoredFile) for row in rows]

    # ------------------------------------------------------------ uploads in parts

    def add_upload(self, upload: Upload) -> None:
        params: Params = {
            "id": upload.id,
            "team": upload.team,
            "created_at": upload.created_at,
            "record": _text(upload),
        }
        with self._connector.writing() as transaction:
            transaction.execute(sql.ADD_UPLOAD, params)

    def upload(self, team: str, upload_id: str) -> Upload | None:
        return self._one(sql.UPLOAD, {"id": upload_id, "team": team}, Upload)

    def change_upload(
        self, team: str, upload_id: str, change: Callable[[Upload], Upload | None]
    ) -> Upload | None:
        """Apply `change` to an upload; None leaves it as it is. The upload as it is now, None if there is none."""
        with self._connector.writing() as transaction:
            row = transaction.fetch_one(sql.UPLOAD_TO_CHANGE, {"id": upload_id, "team": team})
            if row is None:
                return None
            upload = _decoded(row, Upload)
            changed = change(upload)
            if changed is None:
                return upload
            transaction.execute(sql.SAVE_UPLOAD, {"id": upload_id, "record": _text(changed)})
            if changed.file is not None and upload.file is None:
                transaction.execute(sql.ADD_FILE, _file_params(changed.file))
            return changed

    def old_uploads(self, before: float, limit: int = 100) -> list[Upload]:
        with self._connector.reading() as transaction:
            rows = transaction.fetch_all(sql.OLD_UPLOADS, {"before": before, "limit": limit})
        return [_decoded(row, Upload) for row in rows]

    def drop_upload(self, upload_id: str) -> None:
        with self._connector.writing() as transaction:
            transaction.execute(sql.DROP_UPLOAD, {"id": upload_id})

    # ------------------------------------------------------------ batches

    def add_batch(self, batch: SurfaceBatch) -> None:
        """Record a batch, to be looked at at once."""
        params: Params = {
            "id": batch.id,
            "team": batch.team,
            "surface": batch.surface,
            "digest": batch.digest,
            "created_at": batch.created_at,
            "next_at": batch.created_at,
            "record": _text(batch),
        }
        with self._connector.writing() as transaction:
            transaction.execute(sql.ADD_SURFACE_BATCH, params)

    def batch(self, team: str, surface: Surface, batch_id: str) -> SurfaceBatch | None:
        return self._one(sql.SURFACE_BATCH, _named(team, surface, batch_id), SurfaceBatch)

    def gathering(self, batch_id: str) -> SurfaceBatch | None:
        """A batch that calls were gathered into."""
        return self._one(sql.GATHERED_BATCH, {"id": batch_id}, SurfaceBatch)

    def batches(self, team: str, surface: Surface, *, after: str = "", before: str = "", limit: int) -> Page:
        """Batches of a team, the newest first: those behind `after`, or those next in front of `before`.

        Raises NoSuchCursor.
        """
        named = {"team": team, "surface": surface}
        cursor = _named(team, surface, before or after)
        order: Order = "oldest" if before else "newest"
        at = self._place(before or after, sql.SURFACE_BATCH, cursor, SurfaceBatch, order)
        statement = sql.SURFACE_BATCHES_BEFORE if before else sql.SURFACE_BATCHES
        page = self._page(statement, {**named, **at}, limit, SurfaceBatch)
        return Page(page.items[::-1], page.more) if before else page

    def twins(self, team: str, digest: str, since: float) -> list[SurfaceBatch]:
        """Batches that ask the same and were made since then, the newest first."""
        params: Params = {"team": team, "digest": digest, "since": since}
        with self._connector.reading() as transaction:
            return [_decoded(row, SurfaceBatch) for row in transaction.fetch_all(sql.SURFACE_TWINS, params)]

    def claim_batches(self, owner: str, now: float, lease: float, limit: int = 8) -> list[Held]:
        """Take batches that should be looked at; what another holds may be taken when its lease ends."""
        params: Params = {"owner": owner, "now": now, "lease_until": now + lease, "limit": limit}
        with self._connector.writing() as transaction:
            rows = transaction.fetch_all(sql.CLAIM_SURFACE_BATCHES, params)
        held = [Held(_decoded(row, SurfaceBatch), row[1]) for row in rows]
        return sorted(held, key=lambda one: (one.batch.created_at, one.batch.id))

    def is_open(self, batch_id: str) -> bool:
        """Whether any team has a batch of that id that has not come to its end."""
        with self._connector.reading() as transaction:
            return transaction.fetch_one(sql.OPEN_SURFACE_BATCH, {"id": batch_id}) is not None

    def parts_to_come(self) -> frozenset[str]:
        """Ids of jobs of batches that have not come to their end, whether they are made already or not."""
        with self._connector.reading() as transaction:
            rows = transaction.fetch_all(sql.OPEN_SURFACE_BATCHES)
        return frozenset(part.job_id for row in rows for part in _decoded(row, SurfaceBatch).parts)

    def next_batch(self) -> float | None:
        """When the next batch should be looked at; None where none is open."""
        with self._connector.reading() as transaction:
            row = transaction.fetch_one(sql.NEXT_SURFACE_BATCH)
        return None if row is None else row[0]

    def save_batch(
        self,
        held: Held,
        owner: str,
        batch: SurfaceBatch,
        next_at: float | None,
        files: Sequence[StoredFile] = (),
    ) -> bool:
        """Commit a step, and the files that it made, and let go of the batch; whether it was still the owner's.

        `next_at`: when it should be looked at again; None at its end, of which whoever wants to know is told then.
        """
        params: dict[str, Value] = {
            "id": batch.id,
            "version": held.version,
            "owner": owner,
            "next_at": next_at,
            "record": _text(batch),
        }
        with self._connector.writing() as transaction:
            if transaction.execute(sql.SAVE_SURFACE_BATCH, params) != 1:
                return False
            for file in files:
                transaction.execute(sql.ADD_FILE, _file_params(file))
            # Of what was gathered nobody knows but this gateway: its calls are told of.
            if batch.ended and batch.surface != "calls":
                tell_of_batch(transaction, batch)
            return True

    def extend_batch(self, held: Held, owner: str, lease_until: float) -> bool:
        """Keep a batch for longer; whether it is still the owner's."""
        params: Params = {
            "id": held.batch.id,
            "version": held.version,
            "owner": owner,
            "lease_until": lease_until,
        }
        with self._connector.writing() as transaction:
            return transaction.execute(sql.EXTEND_SURFACE_BATCH, params) == 1

    def change_batch(
        self,
        team: str,
        surface: Surface,
        batch_id: str,
        now: float,
        change: Callable[[SurfaceBatch], SurfaceBatch | None],
    ) -> SurfaceBatch | None:
        """Apply `change` to a batch whoever holds it, and have it looked at now; None leaves it as it is.

        The batch as it is now, None if there is none. What `change` raises is raised.
        """
        named = _named(team, surface, batch_id)
        with self._connector.writing() as transaction:
            row = transaction.fetch_one(sql.SURFACE_BATCH_TO_CHANGE, named)
            if row is None:
                return None
            batch = _decoded(row, SurfaceBatch)
            changed = change(batch)
            if changed is None:
                return batch
            params: Params = {"id": batch_id, "next_at": now, "record": _text(changed)}
            transaction.execute(sql.CHANGE_SURFACE_BATCH, params)
            return changed

    def wake_batch(self, batch_id: str, now: float) -> None:
        """Have a batch looked at now, if nobody does so."""
        with self._connector.writing() as transaction:
            transaction.execute(sql.WAKE_SURFACE_BATCH, {"id": batch_id, "now": now})

    def drop_batch(self, team: str, surface: Surface, batch_id: str) -> bool:
        """Forget a batch that has come to its end; whether there was one."""
        with self._connector.writing() as transaction:
            return transaction.execute(sql.DROP_SURFACE_BATCH, _named(team, surface, batch_id)) > 0

    def still_held(self, transaction: Transaction, held: Held, owner: str) -> bool:
        """Whether a batch is still its owner's, and stays so until somebody's transaction ends."""
        params: Params = {"id": held.batch.id, "version": held.version, "owner": owner}
        return transaction.fetch_one(sql.STILL_HELD, params) is not None

    # ------------------------------------------------------------ parts

    def _one(self, statement: str, params: Params, kind: type[T]) -> T | None:
        with self._connector.reading() as transaction:
            row = transaction.fetch_one(statement, params)
        return None if row is None else _decoded(row, kind)

    def _place(
        self,
        cursor: str,
        statement: str,
        params: Params,
        kind: type[StoredFile] | type[SurfaceBatch],
        order: Order,
    ) -> dict[str, Value]:
        """Where in a list a page begins, as (created_at, id)."""
        if not cursor:
            # As far as any time is from now; as text an id is greater than "".
            return {"created_at": math.inf if order == "newest" else -1.0, "id": ""}
        found = self._one(statement, params, kind)
        if found is None:
            raise NoSuchCursor(cursor)
        return {"created_at": found.created_at, "id": found.id}

    def _page(self, statement: str, params: Params, limit: int, kind: type[T]) -> Page:
        with self._connector.reading() as transaction:
            rows = transaction.fetch_all(statement, {**params, "limit": limit + 1})
        return Page([_decoded(row, kind) for row in rows[:limit]], len(rows) > limit)


def _named(team: str, surface: Surface, batch_id: str) -> Params:
    return {"id": batch_id, "team": team, "surface": surface}


def _file_params(file: StoredFile) -> Params:
    return {
        "id": file.id,
        "team": file.team,
        "purpose": file.purpose,
        "created_at": file.created_at,
        "expires_at": file.expires_at,
        "record": _text(file),
    }


def _text(record: msgspec.Struct) -> str:
    return msgspec.json.encode(record).decode()


def _decoded(row: Row, kind: type[T]) -> T:
    return msgspec.json.decode(row[0], type=kind)
