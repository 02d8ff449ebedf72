"""Who holds a shard, and whether they still live.

A worker's name goes with a file that it keeps locked. The kernel lets go of the lock when the process dies,
however it dies, so a lock that can be taken proves its owner dead: on one machine nobody has to wait for a
lease to end. A name from another machine proves nothing, and its lease is waited for. Where machines share a depot and
no folder, two of them may bear one name: then a file that is missing here proves nothing either.
"""

import fcntl
import os
import re
import socket
from pathlib import Path
from typing import BinaryIO, Self

from halfrate.base.errors import StorageError
from halfrate.base.ids import new_token


class Owner:
    """This process as a holder of shards. Use as a context manager.

    `alone`: all processes over this database keep their files in this folder.
    """

    def __init__(self, folder: Path, *, alone: bool = True) -> None:
        host = re.sub(r"[^a-zA-Z0-9]", "", socket.gethostname())[:30] or "host"
        self.name = f"{host}-{os.getpid()}-{new_token()}"
        self._host = host
        self._folder = folder
        self._alone = alone
        self._dead: set[str] = set()
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = self._path(self.name).open("wb")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.__exit__()
            raise StorageError(
                f"{self._folder} cannot be used ({error.strerror}). Nothing was sent. Mend it, or set HALFRATE_HOME to "
                "a folder that can be written to."
            ) from error
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._path(self.name).unlink(missing_ok=True)
            self._file.close()
            self._file = None

    def proven_dead(self, name: str) -> bool:
        """Whether `name` was a worker with its file in this folder that no longer runs."""
        if name == self.name or not name.startswith(self._host + "-") or not _NAME.fullmatch(name):
            return False
        path = self._path(name)
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            return self._alone or name in self._dead
        except OSError:
            return False
        self._dead.add(name)
        return True

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.lock"


_NAME = re.compile(r"[a-zA-Z0-9]+-[0-9]+-[0-9a-f]+")
