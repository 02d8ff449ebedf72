"""The log of calls in real time, as it lies on the disk.

    begun   a line before anything of an attempt is sent: from then on it may be billed
    ended   a line when it is known what it used, before its caller has all of the answer

Each is one write(2), which is enough for what a process can suffer, SIGKILL as well; a power cut can take the last
seconds. Attempts are numbered by their writer, and ends name the number of the beginning.

A writer holds a lock on its log as long as it lives. The kernel lets go of it when the process dies, however it dies:
no number of a process has to be believed, and no name of a machine. A log that has grown long, or could not be written
to its end, is followed by another, which begins with the attempts that are under way. So the last log of a writer alone
says which of them have no end. A log gets its name when it is locked and its beginning stands in it, and only then is
the lock of the one before let go of.
"""

import datetime
import errno
import fcntl
import itertools
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from halfrate.base.errors import StorageError
from halfrate.usage.gateway import begun_line

_MOST_BYTES: Final = 64 << 20
"""Of a log, before the next is begun."""
_NAME: Final = re.compile(r"\d{8}-\d{6}-([0-9a-f]+)-(\d+)\.jsonl")
_UNFINISHED: Final = ".part"


class CallLog:
    """Writes one process's calls, from one thread at a time.

    Attributes:
        path: where it writes now; None before the first line.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path: Path | None = None
        self._writer = secrets.token_hex(8)
        self._logs = itertools.count(1)
        self._attempts = itertools.count(1)
        self._handle = -1
        self._room = 0
        self._under_way: dict[int, bytes] = {}
        self._waiting: list[tuple[int | None, bytes]] = []

    def begin(self, time: str, request_id: str, told: bytes) -> int:
        """Write down that an attempt begins; its number. Raises StorageError where that cannot be, or something before
        it: then nothing may be sent.

        `told`: as of `usage.gateway.facts`.
        """
        if self._waiting:
            self.check()
        number = next(self._attempts)
        data = begun_line(number, time, request_id, told)
        self._write(data)
        self._under_way[number] = data
        return number

    def end(self, number: int | None, data: bytes) -> None:
        """Write down what became of an attempt. Raises StorageError where it cannot be written. It is kept, and written
        with the next.

        `number`: None of what has not begun here. `data`: its line.
        """
        self._waiting.append((number, data))
        self.check()

    def check(self) -> None:
        """Write what could not be written before. Raises StorageError where it still cannot be."""
        waiting = self._waiting
        while waiting:
            number, data = waiting[0]
            self._write(data)
            del waiting[0]
            if number is not None:
                self._under_way.pop(number, None)

    def close(self) -> None:
        """Nothing more is to be written. What is still under way will be a doubt."""
        self._room = 0
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _write(self, data: bytes) -> None:
        try:
            if self._room <= 0:
                self._follow(data)
                return
            written = os.write(self._handle, data)
        except OSError as error:
            self._room = 0
            raise self._unwritten(str(error.strerror)) from error
        if written != len(data):
            # Another log follows, so that no line is glued to this one.
            self._room = 0
            raise self._unwritten("no room for a whole line")
        self._room -= written

    def _unwritten(self, why: str) -> StorageError:
        unbooked = len(self._waiting)
        return StorageError(
            f"{self.path or self.folder} cannot be written ({why}), and without that no call is sent. "
            + (f"{unbooked} calls were answered that are not in the ledger yet. " if unbooked else "")
            + "Make room."
        )

    def _follow(self, data: bytes) -> None:
        """Begin the next log, with what is under way and this line. Raises OSError; then there is none."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        stamp = f"{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"
        path = self.folder / f"{stamp}-{self._writer}-{next(self._logs)}.jsonl"
        unfinished = path.with_suffix(_UNFINISHED)
        beginning = b"".join((*self._under_way.values(), data))
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write_whole(handle, beginning)
            unfinished.rename(path)
        except OSError:
            os.close(handle)
            unfinished.unlink(missing_ok=True)
            raise
        # The one before may be taken for left from here on, and is not the last any more.
        self.close()
        self._handle, self.path = handle, path
        self._room = _MOST_BYTES


def _write_whole(handle: int, data: bytes) -> None:
    if os.write(handle, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class LogFile(msgspec.Struct, frozen=True):
    """A log in a folder of them.

    `writer`: who writes, or wrote it; None of a release that did not lock its logs, of which nobody can tell whether it
    is over. `number`: among its writer's.
    """

    path: Path
    writer: str | None = None
    number: int = 0

    @property
    def name(self) -> str:
        return self.path.name

    def left(self) -> bool:
        """Whether its writer has died or let go of it, so that it is as it will stay. Raises OSError."""
        with self.path.open("rb") as file:
            try:
                # Shared: several may look at once, and none takes another for the writer.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True


def writers(folder: Path) -> list[list[LogFile]]:
    """The logs of each writer, in the order in which they were written."""
    found: dict[str, list[LogFile]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        file = _named(path)
        found.setdefault(file.writer or file.name, []).append(file)
    return [sorted(files, key=lambda file: file.number) for files in found.values()]


def followed(file: LogFile) -> bool:
    """Whether its writer has gone on to another log by now."""
    others: Iterable[LogFile] = map(_named, file.path.parent.glob(f"*-{file.writer}-*.jsonl"))
    return any(other.writer == file.writer and other.number > file.number for other in others)


def unfinished(folder: Path) -> list[Path]:
    """Logs that a writer was making when it died, or is making now: nothing in them counts."""
    return list(folder.glob(f"*{_UNFINISHED}"))


def _named(path: Path) -> LogFile:
    match = _NAME.fullmatch(path.name)
    return LogFile(path, match[1], int(match[2])) if match is not None else LogFile(path)
