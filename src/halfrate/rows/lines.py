"""Lines of a byte stream, read in blocks.

U+2028, U+2029 and U+0085 are legal inside JSON strings; `str.splitlines` and several libraries take lines apart at
them, which loses rows. Only the byte 0x0A ends a line of JSONL.
"""

import io
from collections.abc import Callable, Iterator
from mmap import mmap
from typing import BinaryIO, Final, cast

from halfrate.base.direct import read_chunks

BLOCK: Final = 1 << 17
"""Bytes taken at a time: enough lines to spread the cost of a call, and little enough for the processor's cache."""


def line_blocks(
    stream: BinaryIO, *, block: int = BLOCK, tee: Callable[[bytes], object] | None = None
) -> Iterator[list[bytes]]:
    """Lists of whole lines with their newlines, blank ones included; the last line may lack its newline.

    `tee` receives all bytes as they were read.
    """
    # For lines of about a kilobyte `readlines` finds them in a third of the time that splitting takes.
    while lines := stream.readlines(block):
        if tee is not None:
            tee(b"".join(lines))
        yield lines


def file_line_blocks(file: io.FileIO, *, block: int = BLOCK) -> Iterator[list[bytes]]:
    """The same for all of an open file, which may be large, and is not read again soon."""
    return (lines_of(data) for data in file_blocks(file, block=block))


def lines_of(data: bytes) -> list[bytes]:
    """The lines of a block, with their newlines."""
    return io.BytesIO(data).readlines()


def file_blocks(file: io.FileIO, *, block: int = BLOCK) -> Iterator[bytes]:
    """Whole lines of an open file as they stand there; the last may lack its newline."""
    begun: list[bytes] = []
    for chunk in read_chunks(file):
        # A view cannot be searched, but what it is of can.
        buffer = cast("mmap", chunk.obj)
        at, stop = 0, len(chunk)
        while at < stop:
            end = buffer.rfind(b"\n", at, min(at + block, stop)) + 1
            # A line may be longer than a block, and go on in the next chunk.
            end = end or buffer.find(b"\n", at, stop) + 1
            if not end:
                begun.append(bytes(chunk[at:]))
                break
            yield b"".join((*begun, chunk[at:end]))
            begun.clear()
            at = end
    if begun:
        yield b"".join(begun)
