"""One heap for all threads: asked of the C library itself, in a process of its own."""

import os
import subprocess
import sys

import pytest

_PROGRAM = """
import ctypes, sys, threading
from halfrate.base.memory import share_heap

if "share" in sys.argv:
    share_heap()
together = threading.Barrier(4)

def work():
    kept = [bytes(100_000) for _ in range(10)]
    together.wait()
    kept.clear()

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
ctypes.CDLL(None).malloc_stats()
"""


def _heaps(*options: str) -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *options],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr.count("Arena ")


@pytest.mark.skipif(
    "CS_GNU_LIBC_VERSION" not in os.confstr_names or not os.confstr("CS_GNU_LIBC_VERSION"),
    reason="heaps by thread are a habit of glibc's",
)
def test_threads_share_one_heap_when_they_are_told_to():
    assert _heaps() > 1
    assert _heaps("share") == 1
