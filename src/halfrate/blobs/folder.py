"""A folder that several machines share, as a place for objects: `file:///srv/halfrate`.

What is put is synced and gets its name when it is complete. The folder itself is never made: where it is missing, it
is not mounted, and nothing may be taken for absent.
"""

import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from halfrate.base.disk import sync_folder
from halfrate.base.errors import StorageError
from halfrate.base.objects import Stored

_DRAFT: Final = ".draft"
_BLOCK: Final = 1 << 20
_STRAY: Final = 86_400.0
"""Seconds after which a file that was not put to its end is nobody's."""
_OWNED: Final = 3
"""Folders so deep have one owner: into those above somebody may be putting something now."""


class Folder:
    """See `Objects`."""

    def __init__(self, root: Path) -> None:
        self.place = f"file://{root}"
        self._root = root

    def put_file(self, key: str, path: Path) -> None:
        try:
            draft = self._draft(key)
            try:
                with path.open("rb") as source, _made(draft) as target:
                    shutil.copyfileobj(source, target, _BLOCK)
                    _sync(target)
                draft.replace(self._root / key)
            finally:
                draft.unlink(missing_ok=True)
            sync_folder(draft.parent)
        except OSError as error:
            raise self._unable(error) from error

    def add(self, key: str, data: bytes) -> bool:
        place = self._root / key
        try:
            draft = self._draft(key)
            try:
                with _made(draft) as target:
                    target.write(data)
                    _sync(target)
                # Unlike a rename this takes nobody's place.
                place.hardlink_to(draft)
            except FileExistsError:
                return False
            finally:
                draft.unlink(missing_ok=True)
            sync_folder(place.parent)
        except OSError as error:
            raise self._unable(error) from error
        return True

    def get_file(self, key: str, path: Path) -> bool:
        # What is wrong with the file here is said by whoever asked for it.
        with path.open("xb") as target:
            try:
                with (self._root / key).open("rb") as source:
                    while block := source.read(_BLOCK):
                        target.write(block)
            except FileNotFoundError:
                self._check()
                return False
            except OSError as error:
                raise self._unable(error) from error
            _sync(target)
        return True

    def get(self, key: str) -> bytes | None:
        try:
            return (self._root / key).read_bytes()
        except FileNotFoundError:
            self._check()
            return None
        except OSError as error:
            raise self._unable(error) from error

    def size(self, key: str) -> int | None:
        try:
            return (self._root / key).stat().st_size
        except FileNotFoundError:
            self._check()
            return None
        except OSError as error:
            raise self._unable(error) from error

    def list(self, prefix: str) -> Iterator[Stored]:
        self._check()
        try:
            for path in (self._root / prefix).rglob("*"):
                # What goes away meanwhile is not there.
                with suppress(FileNotFoundError):
                    facts = path.stat()
                    if path.suffix == _DRAFT:
                        if facts.st_mtime < time.time() - _STRAY:
                            path.unlink()
                    elif path.is_file():
                        key = path.relative_to(self._root).as_posix()
                        yield Stored(key, facts.st_size, facts.st_mtime)
        except OSError as error:
            raise self._unable(error) from error

    def delete(self, keys: Iterable[str]) -> None:
        self._check()
        try:
            for key in keys:
                place = self._root / key
                place.unlink(missing_ok=True)
                # The last file of a batch, a call or a journal takes its folder with it; what is not empty stays.
                with suppress(OSError):
                    while len((place := place.parent).relative_to(self._root).parts) >= _OWNED:
                        place.rmdir()
        except OSError as error:
            raise self._unable(error) from error

    def _draft(self, key: str) -> Path:
        self._check()
        folder = (self._root / key).parent
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder / f"{secrets.token_hex(8)}{_DRAFT}"

    def _check(self) -> None:
        if not self._root.is_dir():
            raise StorageError(f"{self.place} is not there. Make the folder, or mount what is to be there.")

    def _unable(self, error: OSError) -> StorageError:
        return StorageError(f"{self.place} cannot be used ({error.strerror or error}).")


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _made(path: Path) -> BinaryIO:
    """A new file to write into, private to the user: prompts and answers are kept in it."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
