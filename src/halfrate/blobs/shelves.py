"""Where the gateway keeps files, on local disk.

    gateway/files/<file>                    a file of a team, whole
    gateway/incoming/<random>               one that is still arriving
    gateway/parts/<upload>/<part>           parts of an upload
    gateway/batches/<batch>/input.jsonl     what a batch was made from, whatever becomes of the file
    gateway/batches/<batch>/rows-<n>.jsonl  its rows that ask one model
    gateway/batches/<batch>/raw-<n>.jsonl   their results
    gateway/answers/<batch>/<random>        answers of calls that were gathered into a batch, one after the other
    gateway/answers/<call>/<random>         the answer of a call that ran in real time although it could have waited

Names are ids of ours. One that came from outside has been looked up before it gets here.

Where there is a depot (`blobs.depot`), it holds files, parts, answers and the inputs of batches as well; the rest is
made of these again. What is here may then be gone at any time, and is brought when it is asked for.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from halfrate.base.disk import sync_folder
from halfrate.base.errors import StorageError
from halfrate.base.pages import Trail
from halfrate.blobs.depot import NO_DEPOT, AnyDepot, NoTail, Tail

_ID: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


class Incoming:
    """A file that is arriving. It is gone unless `keep` was called."""

    def __init__(self, folder: Path) -> None:
        try:
            self._handle, name = tempfile.mkstemp(dir=folder)
        except OSError as error:
            raise _unable(folder, error) from error
        self.path = Path(name)
        self.size = 0
        self._trail = Trail(self._handle, written=True)

    def write(self, data: "bytes | bytearray | memoryview") -> None:
        """Append all of `data`. Raises StorageError."""
        view = memoryview(data)
        length = view.nbytes
        try:
            while view:
                view = view[os.write(self._handle, view) :]
            self._trail.add(length)
        except OSError as error:
            raise _unable(self.path, error) from error
        self.size += length

    def keep(self, place: Path) -> None:
        """Make it durable under its name."""
        try:
            os.fsync(self._handle)
            os.close(self._handle)
            self._handle = -1
            self.path.replace(place)
            sync_folder(place.parent)
        except OSError as error:
            raise _unable(place, error) from error

    def close(self) -> None:
        """Let go of it, and of what has arrived unless it was kept."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        self.path.unlink(missing_ok=True)


class Shelves:
    """Names the gateway's files under `root`. The folders are private to the user.

    What keeps, drops or gives a file asks the depot, if there is one: call it in threads.
    """

    def __init__(self, root: Path, depot: AnyDepot = NO_DEPOT) -> None:
        self._root = root / "gateway"
        self.depot = depot

    def create(self) -> None:
        for name in ("files", "incoming", "parts", "batches", "answers"):
            try:
                (self._root / name).mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise _unable(self._root / name, error) from error

    def incoming(self) -> Incoming:
        return Incoming(self._root / "incoming")

    def keep(self, incoming: Incoming, place: Path) -> None:
        """Make what has arrived durable under its name."""
        if self.depot.afar:
            # An upload in parts may have been begun at another machine.
            try:
                place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise _unable(place, error) from error
        incoming.keep(place)
        try:
            self.depot.put(place)
        except BaseException:
            place.unlink(missing_ok=True)
            raise

    def file(self, file_id: str) -> Path:
        return self._root / "files" / _checked(file_id)

    def part(self, upload_id: str, part_id: str) -> Path:
        return self._parts(upload_id) / _checked(part_id)

    def begin_upload(self, upload_id: str) -> None:
        try:
            self._parts(upload_id).mkdir(mode=0o700)
        except OSError as error:
            raise _unable(self._root, error) from error

    def drop_upload(self, upload_id: str) -> None:
        shutil.rmtree(self._parts(upload_id), ignore_errors=True)
        self.depot.drop_folder(self._parts(upload_id))

    def batch(self, batch_id: str) -> Path:
        """The folder of a batch."""
        return self._root / "batches" / _checked(batch_id)

    def begin_batch(self, batch_id: str, source: Path) -> None:
        """Keep what a batch is made from for as long as it runs. It takes no room: the file has two names then."""
        folder = self.batch(batch_id)
        try:
            folder.mkdir(mode=0o700)
            (folder / "input.jsonl").hardlink_to(source)
            sync_folder(folder)
            sync_folder(folder.parent)
        except OSError as error:
            raise _unable(folder, error) from error
        try:
            self.depot.put(folder / "input.jsonl")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def ready_batch(self, batch_id: str) -> None:
        """Have the folder of a batch here, where it may be another machine that took it on."""
        if not self.depot.afar:
            return
        try:
            self.batch(batch_id).mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise _unable(self.batch(batch_id), error) from error

    def bring_input(self, batch_id: str, *, gathered: bool) -> None:
        """Have what a batch is made from in its folder."""
        if not self.depot.afar:
            return
        source = self.batch(batch_id) / "input.jsonl"
        if gathered:
            self.depot.tail(source).bring()
        else:
            self.depot.need(source)

    def begin_gathering(self, batch_id: str) -> "tuple[int, Tail | NoTail]":
        """A file that a batch will be made from, open for more to be written behind what is there; and where each
        piece of that is to be added in the depot."""
        folder = self.batch(batch_id)
        tail = self.depot.tail(folder / "input.jsonl")
        # Where nothing can be kept now, nothing is begun.
        tail.add(b"")
        try:
            folder.mkdir(mode=0o700)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            handle = os.open(folder / "input.jsonl", flags, 0o600)
            sync_folder(folder)
            sync_folder(folder.parent)
        except OSError as error:
            raise _unable(folder, error) from error
        return handle, tail

    def add_answers(self, name: str, bodies: Iterable[bytes]) -> tuple[str, list[tuple[int, int]]]:
        """Keep bodies of answers, durably: the file's name, and where each of them lies in it."""
        folder = self.answers(name)
        places: list[tuple[int, int]] = []
        try:
            new = not folder.exists()
            folder.mkdir(mode=0o700, exist_ok=True)
            handle, path = tempfile.mkstemp(dir=folder)
            with os.fdopen(handle, "wb") as file:
                for body in bodies:
                    places.append((file.tell(), len(body)))
                    file.write(body)
                file.flush()
                os.fsync(file.fileno())
            sync_folder(folder)
            if new:
                sync_folder(folder.parent)
        except OSError as error:
            raise _unable(folder, error) from error
        self.depot.put(Path(path))
        return f"{_checked(name)}/{Path(path).name}", places

    def answer(self, file: str, at: int, size: int) -> bytes | None:
        """A body, by what `add_answers` said of it; None where it is not there any more."""
        place = self._root / "answers" / file
        if self.depot.afar:
            self.depot.bring(place)
        try:
            with place.open("rb", buffering=0) as opened:
                body = os.pread(opened.fileno(), size, at)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"An answer cannot be read: {error}.") from error
        return body if len(body) == size else None

    def answers(self, name: str) -> Path:
        return self._root / "answers" / _checked(name)

    def old_answers(self, before: float) -> Iterator[Path]:
        """Folders of answers to which nothing was added since a moment; each has the id of a batch or call."""
        return _older(self._root / "answers", before)

    def drop_answers(self, name: str) -> None:
        shutil.rmtree(self.answers(name), ignore_errors=True)
        self.depot.drop_folder(self.answers(name))

    def drop_batch(self, batch_id: str) -> None:
        shutil.rmtree(self.batch(batch_id), ignore_errors=True)
        self.depot.drop_folder(self.batch(batch_id))

    def drop_file(self, file_id: str) -> None:
        self.file(file_id).unlink(missing_ok=True)
        self.depot.drop(self.file(file_id))

    def strays(self, before: float) -> Iterator[Path]:
        """Files that nobody finished, untouched since a moment (seconds since 1970): their writer is gone."""
        return _older(self._root / "incoming", before)

    def drop_copies(self, before: float) -> None:
        """Let go of files and parts that the depot holds: they are brought again when somebody asks for them."""
        for path in _older(self._root / "files", before):
            path.unlink(missing_ok=True)
        for folder in _older(self._root / "parts", before):
            shutil.rmtree(folder, ignore_errors=True)

    def files(self, before: float) -> Iterator[Path]:
        """All files that are whole since before a moment; each has its id for a name."""
        return _older(self._root / "files", before)

    def batches(self, before: float) -> Iterator[Path]:
        """Folders of batches that were begun before a moment; each has its id for a name."""
        return _older(self._root / "batches", before)

    def left_afar(self, kind: str, before: float) -> Iterator[str]:
        """Ids of all "files", "batches" or "answers" that the depot holds since before a moment."""
        # What others have put there is none of ours.
        return filter(_is_ours, self.depot.older(self._root / kind, before))

    def _parts(self, upload_id: str) -> Path:
        return self._root / "parts" / _checked(upload_id)


def _checked(name: str) -> str:
    """A name that cannot lead anywhere else."""
    if not _is_ours(name):
        raise ValueError(f"{name!r} is no id of ours")
    return name


def _is_ours(name: str) -> bool:
    return bool(name) and set(name) <= _ID


def _older(folder: Path, before: float) -> Iterator[Path]:
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < before:
                yield path


def _unable(place: Path, error: OSError) -> StorageError:
    reason = error.strerror or str(error)
    return StorageError(
        f"{place} cannot be written ({reason}). Nothing of it was kept: make room, and try again."
    )
