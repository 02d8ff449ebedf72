"""Giving pages of files back to the kernel as soon as they are done with.

A job of a million rows writes and reads gigabytes, most of them once. Left alone they push everything else out of the
machine's page cache, count against a container's memory limit, and on a virtual machine every one of them is memory
that the host has to find first, which costs more than all the rest of the work. Handed back at once, the same few
pages serve the whole job.
"""

import os
from contextlib import suppress
from typing import Final

_STRIDE: Final = 32 << 20
_KEPT: Final = 1 << 30
"""Bytes that a process may leave in the cache: a small job is never read from the disk again."""

_advise = getattr(os, "posix_fadvise", None)
_left = _KEPT


class Trail:
    """What lies behind whoever reads or writes a file from its start to its end.

    Args:
        handle: the open file.
        written: what is dropped has to be on disk first.
    """

    def __init__(self, handle: int, *, written: bool = False) -> None:
        self._handle = handle
        self._written = written
        self._at = self._dropped = 0

    def add(self, length: int) -> None:
        """So much further."""
        self._at += length
        if self._at - self._dropped >= _STRIDE:
            self.drop()

    def drop(self) -> None:
        """Hand back all that lies behind."""
        length = self._at - self._dropped
        self._dropped = self._at
        let_go(self._handle, self._at, length, written=self._written)


def let_go(handle: int, end: int, length: int, *, written: bool = False) -> None:
    """Drop an open file up to `end`, of which the last `length` bytes are new, from the page cache, once this
    process has left enough there.

    Only what is on disk already can be dropped; `written`: see to that first. Where the system has no such call,
    nothing happens.
    """
    global _left  # noqa: PLW0603 - what is in the cache is the machine's, not an object's
    if _left > 0:
        _left -= length
    elif _advise is not None:
        if written:
            os.fdatasync(handle)
        # It is advice: that a file system does not take it must not end an upload half-way. From the start, because
        # a page that lay across the last end could not be dropped then.
        with suppress(OSError):
            _advise(handle, 0, end, os.POSIX_FADV_DONTNEED)
