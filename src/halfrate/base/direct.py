"""Large files, written and read from their start to their end past the page cache.

What a job writes is read once, later, and most of it is gigabytes: pages in the cache have to be found, filled, written
back and copied from, one by one, which costs as much as a third of making what stands in them. Where the file system
takes direct I/O, whole chunks go between one buffer and the disk. The rest of a file, and all of a small one, goes by
way of the cache; so does everything where direct I/O is not to be had.
"""

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from typing import Final

from halfrate.base.pages import Trail

CHUNK: Final = 1 << 21
"""Bytes that go at once: a large page, which costs no more to hand to the disk than a small one."""
_PIECE: Final = 1 << 18
"""Bytes that go into the cache at once. For more than that kernels look for large pages, which they seldom have."""
_DIRECT: Final[int] = getattr(os, "O_DIRECT", 0)
_NOT_SO: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
"""How a system says that it does not take direct I/O, or not there."""
_ADVICE: Final = ("MADV_HUGEPAGE", "MADV_DONTFORK")
"""What is best for a buffer: large pages; and that no child has it, for a disk may be writing to it when the process
forks, and old kernels would let the child have what comes (open(2), Notes)."""


class _Handle:
    """An open file, whose calls are direct while that is asked for and the system lets them."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.able = bool(_DIRECT)
        self._direct = False

    def ask(self, *, direct: bool) -> None:
        """Let the following calls be direct, or not."""
        direct = direct and self.able
        if direct == self._direct:
            return
        flags = fcntl.fcntl(self.number, fcntl.F_GETFL)
        try:
            fcntl.fcntl(self.number, fcntl.F_SETFL, flags | _DIRECT if direct else flags & ~_DIRECT)
        except OSError as error:
            if not direct or error.errno not in _NOT_SO:
                raise
            self.able = False
        else:
            self._direct = direct

    def refused(self, error: OSError) -> bool:
        """Whether a call failed because it was direct: file systems, and places in a file, that do without are many.
        From then on calls go the usual way."""
        if not self._direct or error.errno not in _NOT_SO:
            return False
        self.able = False
        self.ask(direct=False)
        return True


class DirectWriter:
    """Writes an open file from its start to its end. The file stays the caller's to close.

    Raises OSError. Nothing is complete before `sync`. Memory: one chunk.
    """

    def __init__(self, handle: int) -> None:
        self._handle = _Handle(handle)
        self._buffer = _buffer()
        self._filled = 0
        self._trail = Trail(handle, written=True)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take in all of `data`, which is bytes and nothing wider; how much that was."""
        view = memoryview(data)
        while view:
            room = self.room()
            part = view[: len(room)]
            room[: len(part)] = part
            self.took(len(part))
            view = view[len(part) :]
        return len(data)

    def room(self) -> memoryview:
        """Where what comes next may be put, in place of `write`. Say with `took` how much it was."""
        return memoryview(self._buffer)[self._filled :]

    def took(self, length: int) -> None:
        """So many bytes were put where `room` said."""
        self._filled += length
        if self._filled == CHUNK:
            self._handle.ask(direct=True)
            self._put()

    def sync(self) -> None:
        """Make what was written durable. Nothing may be written after that."""
        # Direct I/O takes whole sectors only, and a file may end within one.
        self._handle.ask(direct=False)
        self._put()
        os.fsync(self._handle.number)

    def _put(self) -> None:
        """Write what is in the buffer."""
        done = 0
        view = memoryview(self._buffer)[: self._filled]
        while done < self._filled:
            part = view[done:] if self._handle.able else view[done : done + _PIECE]
            try:
                done += os.write(self._handle.number, part)
            except OSError as error:
                if not self._handle.refused(error):
                    raise
        if not self._handle.able:
            self._trail.add(done)
        self._filled = 0


def read_chunks(file: FileIO) -> Iterator[memoryview]:
    """All of an open file, from its start. Be done with a chunk, and with all views of it, before you ask for more."""
    handle = _Handle(file.fileno())
    trail = Trail(file.fileno())
    # A small file was written by way of the cache, and is there.
    handle.ask(direct=os.fstat(file.fileno()).st_size >= CHUNK)
    view = memoryview(_buffer())
    while True:
        try:
            got = file.readinto(view)
        except OSError as error:
            if not handle.refused(error):
                raise
            continue
        if not got:
            break
        yield view[:got]
        if got < CHUNK:
            # The end, most likely. From within a sector direct I/O cannot go on.
            handle.ask(direct=False)
        if not handle.able:
            trail.add(got)
    if not handle.able:
        trail.drop()


def _buffer() -> mmap.mmap:
    """A chunk of memory that begins where a page does, as direct I/O asks."""
    # Private: what is shared would not be counted as memory of ours.
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    buffer = mmap.mmap(-1, CHUNK, flags=flags)
    for name in _ADVICE:
        advice = getattr(mmap, name, None)
        if advice is not None:
            with suppress(OSError):
                buffer.madvise(advice)
    return buffer
