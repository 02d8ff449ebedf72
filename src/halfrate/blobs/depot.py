"""A depot: the object store that holds every durable file of an installation whose processes share no disk.

Each process's home is a working copy then, which may be lost at any moment, with its machine.

    put before it is told     a file is in the depot before the database says anything that relies on it
    bring before it is read   what is not here is fetched, to a temporary name, synced and renamed

A file's key is its path within the home. Files are whole and never change once they have their names: whoever makes one
again makes the same. What is written little by little (a journal, calls that are being gathered) is put piece by piece,
`<key>.parts/<number>`, and read as the pieces one behind the other; pieces are numbered without gaps, and none
ever takes the place of another, whoever writes. Without a depot all of this is nothing (`NoDepot`).
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

from halfrate.base.disk import sync_folder
from halfrate.base.errors import SettingsError, StorageError
from halfrate.base.objects import Objects

MARK: Final = "halfrate-depot"
"""The object that says whose depot this is."""
UNRECORDED: Final = 86_400.0
"""Seconds after which files are nobody's of which the database knows nothing: what they belong to is recorded in half
of that, or not at all."""
_PARTS: Final = ".parts/"
_DIGITS: Final = 8


class NoTail:
    """A file that is written little by little, where there is no depot."""

    def bring(self) -> int:
        return 0

    def add(self, data: bytes) -> None:
        pass


class NoDepot:
    """Every file is on this disk, and on no other. See `Depot`."""

    afar: Final = False

    def put(self, *paths: Path) -> None:
        pass

    def put_folder(self, source: Path, place: Path) -> None:
        pass

    def bring(self, path: Path) -> bool:
        return path.exists()

    def bring_whole(self, path: Path) -> bool:
        return path.exists()

    def need(self, path: Path) -> Path:
        # Whoever opens it says what is wrong.
        return path

    def tail(self, path: Path) -> NoTail:
        return _NO_TAIL

    def drop(self, path: Path) -> None:
        pass

    def drop_parts(self, path: Path) -> None:
        pass

    def drop_folder(self, path: Path) -> None:
        pass

    def older(self, folder: Path, before: float) -> Iterator[str]:
        return iter(())

    def probe(self) -> None:
        pass


_NO_TAIL: Final = NoTail()
NO_DEPOT: Final = NoDepot()


class Depot:
    """Keeps the files of a home. Its methods wait for the store: call them in threads, from as many as there are.

    Every method raises StorageError where the store cannot be asked. Before the first of them has done anything it is
    seen to that the depot is this database's (SettingsError).

    Args:
        objects: where it is.
        root: the home of this process.
        owned_by: gives the database's own id.
        found: told of the place when it is known to be this database's.
    """

    afar: Final = True

    def __init__(
        self,
        objects: Objects,
        root: Path,
        owned_by: Callable[[], str],
        found: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._objects = objects
        self._found = found
        self._root = root
        self._owned_by = owned_by
        self._known = False
        self._knowing = threading.Lock()
        # Files of which what is here is all there is; others with their names may be here in part.
        self._whole: set[str] = set()

    def __repr__(self) -> str:
        return f"Depot({self._objects.place})"

    def check(self) -> None:
        """See that it can be written to and read from, and that it is this database's. Raises StorageError, and
        SettingsError where it is another's."""
        objects = self._ready()
        key, said = f"check/{os.urandom(8).hex()}", os.urandom(16)
        objects.add(key, said)
        if objects.get(key) != said:
            raise StorageError(f"{objects.place} does not give back what was put there. Nothing was started.")
        if objects.add(key, said):
            # Two machines that go on with one journal would take away each other's replies.
            raise StorageError(
                f"{objects.place} replaces an object although it was told not to (If-None-Match). A depot needs a "
                "store that honours that. Nothing was started."
            )
        objects.delete([key])

    def probe(self) -> None:
        """See that it can be read from."""
        if self._ready().get(MARK) is None:
            raise StorageError(f"{self._objects.place} does not hold what was put there.")

    # ------------------------------------------------------------ whole files

    def put(self, *paths: Path) -> None:
        """Keep files of the home that are complete here."""
        for path in paths:
            self._ready().put_file(self._key(path), path)

    def put_folder(self, source: Path, place: Path) -> None:
        """Keep all files of a folder as if they were in `place`."""
        for path in sorted(source.iterdir()):
            if path.suffix != ".tmp":
                self._ready().put_file(self._key(place / path.name), path)

    def bring(self, path: Path) -> bool:
        """Have a file here; whether there is one."""
        return _wanted(path) or self._fetch(path)

    def bring_whole(self, path: Path) -> bool:
        """The same for a file that may be here in part: all that there is of it by now."""
        key = self._key(path)
        if key in self._whole and _wanted(path):
            return True
        size = self._ready().size(key)
        if size is None:
            # Nobody has finished it yet.
            return bool(self.tail(path).bring()) or path.exists()
        here = _wanted(path) and path.stat().st_size == size
        if here or self._fetch(path):
            self._whole.add(key)
        return path.exists()

    def need(self, path: Path) -> Path:
        """Have a file here that there must be. Raises StorageError where there is none."""
        if not self.bring(path):
            raise StorageError(f"{self._key(path)} is neither in {self._objects.place} nor on this machine.")
        return path

    def drop(self, path: Path) -> None:
        """Forget a file."""
        key = self._key(path)
        self._ready().delete([key])
        self._whole.discard(key)

    def drop_folder(self, path: Path) -> None:
        """Forget all that is in a folder."""
        objects = self._ready()
        objects.delete([found.key for found in objects.list(self._key(path) + "/")])

    def held(self, folder: Path) -> dict[str, int]:
        """Whole files that are in a folder: their names and bytes."""
        prefix = self._key(folder) + "/"
        found = ((stored.key.removeprefix(prefix), stored.size) for stored in self._ready().list(prefix))
        return {name: size for name, size in found if "/" not in name}

    def older(self, folder: Path, before: float) -> Iterator[str]:
        """What is in a folder, files and folders alike, to which nothing was added since a moment: their names."""
        newest: dict[str, float] = {}
        prefix = self._key(folder) + "/"
        for found in self._ready().list(prefix):
            name = found.key.removeprefix(prefix).partition("/")[0]
            newest[name] = max(found.put_at, newest.get(name, 0.0))
        return (name for name, put_at in newest.items() if put_at < before)

    # ------------------------------------------------------------ what grows

    def tail(self, path: Path) -> "Tail":
        """For a file that is written little by little."""
        return Tail(self._ready(), self._key(path), path)

    def drop_parts(self, path: Path) -> None:
        """Forget the pieces of a file that is kept whole by now."""
        objects = self._ready()
        objects.delete([found.key for found in objects.list(self._key(path) + _PARTS)])

    # ------------------------------------------------------------ parts

    def _ready(self) -> Objects:
        if not self._known:
            with self._knowing:
                if not self._known:
                    self._recognise()
                    self._found(self._objects.place)
                    self._known = True
        return self._objects

    def _recognise(self) -> None:
        objects, mine = self._objects, self._owned_by().encode()
        found = objects.get(MARK)
        if found is None:
            objects.add(MARK, mine)
            # Another process may have been quicker, with another database.
            found = objects.get(MARK)
        if found != mine:
            raise SettingsError(
                f"{objects.place} is the depot of another database than HALFRATE_DATABASE names. Give each database "
                "a depot of its own. Nothing was changed."
            )

    def _fetch(self, path: Path) -> bool:
        objects = self._ready()
        draft = path.with_name(f"{path.name}.{os.urandom(4).hex()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not objects.get_file(self._key(path), draft):
                return False
            draft.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            raise _unwritten(path, error) from error
        finally:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
        return True

    def _key(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


class Tail:
    """What is added to a file, in the depot. For one thread at a time.

    Two processes may write at once, when one was held up and another has taken over: neither's pieces are lost, and
    both are read.
    """

    def __init__(self, objects: Objects, key: str, path: Path) -> None:
        self._objects = objects
        self._folder = key + _PARTS
        self._path = path
        self._next = 0

    def bring(self) -> int:
        """Have the file begin with all that is in the depot; how many bytes that are, 0 where there is nothing.

        What stands behind that here, because its writer died before it could put it, is left; unless another process
        has gone on without it.
        """
        sizes = {found.key: found.size for found in self._objects.list(self._folder)}
        done = number = 0
        while (key := self._piece(number)) in sizes:
            data = self._objects.get(key)
            if data is None:
                # All of it was put in one piece just now.
                break
            try:
                self._lay(done, data)
            except OSError as error:
                raise _unwritten(self._path, error) from error
            done += len(data)
            number += 1
        self._next = number
        return done

    def add(self, data: bytes) -> None:
        """Put what was added to the file. It is kept once this returns."""
        while not self._objects.add(self._piece(self._next), data):
            # Somebody else has gone on with it, or this was put and nobody said so: it is kept twice rather than lost.
            if self._objects.get(self._piece(self._next)) == data:
                break
            self._next += 1
        self._next += 1

    def _lay(self, at: int, data: bytes) -> None:
        """Have these bytes stand in the file from `at` on."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.pread(handle, len(data), at) == data:
                return
            os.ftruncate(handle, at)
            view = memoryview(data)
            while view:
                written = os.pwrite(handle, view, at)
                at += written
                view = view[written:]
            os.fsync(handle)
        finally:
            os.close(handle)

    def _piece(self, number: int) -> str:
        return f"{self._folder}{number:0{_DIGITS}}"


AnyDepot: TypeAlias = Depot | NoDepot


def _wanted(path: Path) -> bool:
    """Whether a file is here. That it was asked for is noted: what nobody asks for is let go of."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    except OSError:
        return path.exists()
    return True


def _unwritten(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path} cannot be written ({error.strerror or error}). Make room, and try again.")
