"""Files of the gateway's callers: what is known of them in the store, what they hold on the disk.

A file is on the disk, synced, before it is recorded, and forgotten before it is removed: what is recorded can be read.
"""

import hashlib
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from halfrate.base.clock import Clock
from halfrate.base.errors import HalfrateError, StorageError
from halfrate.base.ids import new_id
from halfrate.blobs.depot import NO_DEPOT, AnyDepot
from halfrate.blobs.shelves import Incoming, Shelves
from halfrate.core.surface import UPLOAD_LIFE, Part, StoredFile, Upload

if TYPE_CHECKING:
    from halfrate.service.home import Home
    from halfrate.store.surfaces import SurfaceStore

_STRAY: Final = 86_400.0
"""Seconds after which a file that stopped arriving is nobody's."""
_BLOCK: Final = 1 << 20


class WrongParts(Exception):
    """An upload cannot be completed from these parts. `field`: what of the call is at fault."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class Shelf:
    """Keeps files. Its methods wait for the disk: call them in threads."""

    def __init__(self, home: "Home", store: "SurfaceStore", clock: Clock, depot: AnyDepot = NO_DEPOT) -> None:
        self.places = Shelves(home.root, depot)
        self.places.create()
        self._store = store
        self._clock = clock

    # ------------------------------------------------------------ files

    def incoming(self) -> Incoming:
        """A file to write into; `keep` puts it on the shelf."""
        return self.places.incoming()

    def keep(
        self, incoming: Incoming, team: str, filename: str, purpose: str, life: float | None
    ) -> StoredFile:
        """Put what has arrived on the shelf. `life`: seconds, None for ever."""
        file = self._described(new_id("file-"), team, filename, purpose, incoming.size, life)
        self.places.keep(incoming, self.places.file(file.id))
        self._store.add_file(file)
        return file

    def content(self, file: StoredFile) -> Path | None:
        """Where a file is; None if it went away just now."""
        path = self.places.file(file.id)
        return path if self.places.depot.bring(path) else None

    def drop(self, team: str, file_id: str) -> bool:
        """Forget a file and remove it; whether there was one."""
        if not self._store.drop_file(team, file_id):
            return False
        with _swept_later():
            self.places.drop_file(file_id)
        return True

    # ------------------------------------------------------------ uploads in parts

    def begin(self, team: str, filename: str, purpose: str, size: int, life: float | None) -> Upload:
        upload = Upload(
            id=new_id("upload_"),
            team=team,
            filename=filename,
            purpose=purpose,
            bytes=size,
            created_at=self._clock.now(),
            life=life,
        )
        self.places.begin_upload(upload.id)
        self._store.add_upload(upload)
        return upload

    def add_part(self, upload: Upload, incoming: Incoming) -> Part | None:
        """Add what has arrived to an upload; None if that takes no more parts by now."""
        part = Part(new_id("part_"), incoming.size)
        try:
            self.places.keep(incoming, self.places.part(upload.id, part.id))
        except StorageError:
            found = self._store.upload(upload.team, upload.id)
            if found is not None and found.standing(self._clock.now()) == "pending":
                raise
            # It was completed or cancelled while this part was on its way, and its folder went with that.
            return None

        def added(current: Upload) -> Upload | None:
            if current.standing(self._clock.now()) != "pending":
                return None
            return msgspec.structs.replace(current, parts=(*current.parts, part))

        changed = self._store.change_upload(upload.team, upload.id, added)
        return part if changed is not None and part in changed.parts else None

    def complete(self, upload: Upload, part_ids: list[str], digest: str | None) -> Upload | None:
        """Make one file of the parts, in this order; None if the upload takes no more calls by now.

        `digest`: the MD5 that the whole must have, in hex. Raises WrongParts.
        """
        known = {part.id: part for part in upload.parts}
        if not part_ids or any(part_id not in known for part_id in part_ids):
            raise WrongParts("Invalid 'part_ids': a part is not known to this upload.", "part_ids")
        total = sum(known[part_id].bytes for part_id in part_ids)
        if total != upload.bytes:
            message = (
                f"The parts add up to {total:,} bytes, and the upload was announced with {upload.bytes:,}."
            )
            raise WrongParts(message, "part_ids")
        incoming = self.incoming()
        try:
            try:
                found = self._joined(upload, part_ids, incoming)
            except FileNotFoundError:
                # Another call has completed or cancelled it meanwhile.
                return None
            if digest is not None and digest.lower() != found:
                raise WrongParts("The MD5 checksum does not match the bytes that arrived.", "md5")
            file = self._described(
                new_id("file-"), upload.team, upload.filename, upload.purpose, total, upload.life
            )
            self.places.keep(incoming, self.places.file(file.id))
        finally:
            incoming.close()

        def completed(current: Upload) -> Upload | None:
            if current.standing(self._clock.now()) != "pending":
                return None
            return msgspec.structs.replace(current, status="completed", file=file)

        changed = self._store.change_upload(upload.team, upload.id, completed)
        if changed is None or changed.file != file:
            with _swept_later():
                self.places.drop_file(file.id)
            return None
        with _swept_later():
            self.places.drop_upload(upload.id)
        return changed

    def abandon(self, upload: Upload) -> Upload | None:
        """Cancel an upload; None if it takes no more calls by now."""

        def cancelled(current: Upload) -> Upload | None:
            if current.standing(self._clock.now()) != "pending":
                return None
            return msgspec.structs.replace(current, status="cancelled")

        changed = self._store.change_upload(upload.team, upload.id, cancelled)
        if changed is None or changed.status != "cancelled":
            return None
        with _swept_later():
            self.places.drop_upload(upload.id)
        return changed

    def drop_batch(self, batch_id: str) -> None:
        """Remove what a batch was made of that has ended."""
        with _swept_later():
            self.places.drop_batch(batch_id)

    # ------------------------------------------------------------ tidiness

    def sweep(self) -> None:
        """Remove files whose life is over, uploads that were never completed, and what stopped arriving."""
        now = self._clock.now()
        while expired := self._store.expired_files(now):
            for file in expired:
                self.drop(file.team, file.id)
        while old := self._store.old_uploads(now - UPLOAD_LIFE - _STRAY):
            for upload in old:
                self.places.drop_upload(upload.id)
                self._store.drop_upload(upload.id)
        for path in self.places.strays(now - _STRAY):
            path.unlink(missing_ok=True)

    def sweep_orphans(self) -> None:
        """Remove what processes left that died: files that they had not recorded, and what batches were made of that
        have come to their end. Looks at every file."""
        before = self._clock.now() - _STRAY
        if self.places.depot.afar:
            self.places.drop_copies(before)
        for path in self.places.files(before):
            if not self._store.has_file(path.name):
                path.unlink(missing_ok=True)
        for folder in self.places.batches(before):
            if not self._store.is_open(folder.name):
                self.places.drop_batch(folder.name)
        for file_id in self.places.left_afar("files", before):
            if not self._store.has_file(file_id):
                self.places.drop_file(file_id)
        for batch_id in self.places.left_afar("batches", before):
            if not self._store.is_open(batch_id):
                self.places.drop_batch(batch_id)

    def problem(self) -> str:
        """Why no file can be taken in now, "" if nothing is wrong."""
        try:
            with_disk = self.incoming()
            with_disk.close()
            self._store.next_batch()
            self.places.depot.probe()
        except HalfrateError:
            what = "disk, the depot" if self.places.depot.afar else "disk"
            return f"the {what} or the database cannot be used"
        return ""

    # ------------------------------------------------------------ parts

    def _described(
        self, file_id: str, team: str, filename: str, purpose: str, size: int, life: float | None
    ) -> StoredFile:
        now = self._clock.now()
        return StoredFile(
            id=file_id,
            team=team,
            filename=filename,
            purpose=purpose,
            bytes=size,
            created_at=now,
            expires_at=None if life is None else now + life,
        )

    def _joined(self, upload: Upload, part_ids: list[str], incoming: Incoming) -> str:
        """Copy parts one behind the other; the MD5 of the whole, in hex."""
        digest = hashlib.md5(usedforsecurity=False)
        for part_id in part_ids:
            place = self.places.part(upload.id, part_id)
            if self.places.depot.afar:
                self.places.depot.bring(place)
            with place.open("rb") as source:
                while block := source.read(_BLOCK):
                    digest.update(block)
                    incoming.write(block)
        return digest.hexdigest()


def _swept_later() -> AbstractContextManager[object]:
    """What a depot cannot forget now is nobody's, and a sweep finds it."""
    return suppress(StorageError)
