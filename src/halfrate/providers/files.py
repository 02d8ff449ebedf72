"""Result files that are put together here, of what a provider hands out in another way than as a file."""

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from halfrate.base.errors import StorageError


class LinesFile:
    """A file of JSON lines, synced at the end. What goes wrong with it is StorageError: the provider has no part in
    it, and what it finished is still there."""

    def __init__(self, path: Path, title: str) -> None:
        self._path = path
        self._title = title

    def __enter__(self) -> Self:
        try:
            self._file = self._path.open("wb")
        except OSError as error:
            raise self._unwritten(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, items: Iterable[bytes | msgspec.Raw]) -> None:
        """Write items as they are, one a line. In JSON, line breaks stand between tokens only, and mean nothing."""
        try:
            for item in items:
                line = bytes(item)
                if b"\n" in line or b"\r" in line:
                    line = line.replace(b"\n", b"").replace(b"\r", b"")
                self._file.write(line)
                self._file.write(b"\n")
        except OSError as error:
            raise self._unwritten(error) from error

    def commit(self) -> None:
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unwritten(error) from error

    def _unwritten(self, error: OSError) -> StorageError:
        return unwritten(self._path, self._title, error)


def unwritten(target: Path, title: str, error: OSError) -> StorageError:
    """Why results could not be kept."""
    return StorageError(
        f"The results could not be written to {target} ({error.strerror}). They are still at "
        f"{title}, paid for and safe; make room and attach to the job again."
    )
