"""Giving pages of files back to the kernel as soon as they are done with.

A job of a million rows writes and reads gigabytes, most of them once. Left alone they push everything else out of the
machine's page cache, count against a container's memory limit, and on a virtual machine every one of them is memory
that the host has to find first. Handed back at once, the same few pages serve the whole job.
"""

import os
from typing import Final

STRIDE: Final = 8 << 20
"""Bytes after which a reader hands back what lies behind it: rarely enough to cost nothing."""

_advise = getattr(os, "posix_fadvise", None)


def let_go(handle: int, start: int = 0, length: int = 0) -> None:
    """Drop a span of an open file from the page cache; `length` 0 is to its end.

    Only what is on disk already can be dropped: sync first. Where the system has no such call, nothing happens.
    """
    if _advise is not None:
        _advise(handle, start, length, os.POSIX_FADV_DONTNEED)
