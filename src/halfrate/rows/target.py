"""The file that results are written to: complete under its own name, or not there at all."""

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Final, Self

from halfrate.base.direct import DirectWriter
from halfrate.base.disk import sync_folder
from halfrate.base.errors import StorageError, UsageError

_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class TargetFile:
    """Writes beside the target under a temporary name, and takes its place when all is written.

    Something that is no regular file (a pipe, /dev/stdout) is written to directly. Every error of the system
    becomes a StorageError that says what to do.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._temporary: Path | None = None
        self._closed = False
        try:
            # A symbolic link keeps pointing where it does.
            self._place = Path(os.path.realpath(target))
            self._handle = self._open()
            self._out = DirectWriter(self._handle) if self._temporary is not None else None
        except OSError as error:
            raise cannot_write(target, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)

    def write(self, data: "bytes | bytearray | memoryview") -> int:
        """Write all of `data`."""
        view = memoryview(data).cast("B")
        size = len(view)
        try:
            if self._out is not None:
                return self._out.write(view)
            while view:
                view = view[os.write(self._handle, view) :]
        except OSError as error:
            raise cannot_write(self._target, error) from error
        return size

    def commit(self) -> None:
        """Make the file durable under its own name."""
        try:
            if self._out is not None:
                self._out.sync()
            self._close()
            if self._temporary is not None:
                self._temporary.replace(self._place)
                self._temporary = None
                sync_folder(self._place.parent)
        except OSError as error:
            raise cannot_write(self._target, error) from error

    def _open(self) -> int:
        mode = 0o666 & ~_umask()
        with contextlib.suppress(FileNotFoundError):
            found = self._place.stat()
            if stat.S_ISDIR(found.st_mode):
                raise UsageError(f"{self._target} is a folder. Name a file in it.")
            if not stat.S_ISREG(found.st_mode):
                return os.open(self._place, os.O_WRONLY)
            mode = stat.S_IMODE(found.st_mode)
        handle, self._temporary = _beside(self._place)
        os.fchmod(handle, mode)
        return handle

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            os.close(self._handle)


def _beside(place: Path) -> tuple[int, Path]:
    """A new file in the same folder, that nobody else can read: open for writing, and its path."""
    while True:
        # Not by `tempfile`, which takes longer to import than the rows of a small job take.
        path = place.with_name(f".{place.name[:100]}.{os.urandom(6).hex()}.tmp")
        with contextlib.suppress(FileExistsError):
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), path


def cannot_write(target: Path, error: OSError) -> StorageError:
    """What to tell somebody whose results cannot be written."""
    kept = "The answers are kept, and nothing is sent again"
    again = f"`halfrate results JOB -o {target}`"
    if error.errno in _FULL:
        return StorageError(f"{target} cannot be written: the disk is full. {kept}: make room, then {again}.")
    reason = error.strerror or str(error)
    return StorageError(
        f"{target} cannot be written ({reason}). {kept}: mend that or choose another place, {again}."
    )


def _umask() -> int:
    # The only way to read it is to set it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
