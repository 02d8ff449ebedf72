"""One heap for all threads.

glibc gives every thread a heap of its own, and keeps in each what its thread once needed. A worker's threads take turns
at the same few buffers, so a process would come to hold as many copies of them as it has threads.
"""

import os
from contextlib import suppress
from typing import Final

_M_ARENA_MAX: Final = -8  # malloc.h


def share_heap() -> None:
    """Let threads that begin from now on share one heap. Where the C library has no such setting, nothing happens."""
    with suppress(AttributeError, ImportError, OSError, ValueError):
        if os.confstr("CS_GNU_LIBC_VERSION"):
            # Imported here: it takes longer than a hundred rows, and small jobs do without.
            import ctypes

            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
