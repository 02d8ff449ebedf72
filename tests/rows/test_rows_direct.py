"""Files that go past the page cache come out as they were made, whether the system lets them or not."""

import errno
import fcntl
import os
import random
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from halfrate.base import direct
from halfrate.base.direct import CHUNK, DirectWriter, read_chunks
from halfrate.rows.lines import file_line_blocks

DATA = os.urandom(3 * CHUNK + 12_345)
LENGTHS = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, len(DATA)]
O_DIRECT = getattr(os, "O_DIRECT", 0)


def put(path: Path, parts: Sequence[bytes]) -> None:
    with path.open("wb", buffering=0) as file:
        writer = DirectWriter(file.fileno())
        for part in parts:
            assert writer.write(part) == len(part)
        writer.sync()


def got(path: Path) -> bytes:
    with path.open("rb", buffering=0) as file:
        return b"".join(map(bytes, read_chunks(file)))


def no_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that knows of nothing of the kind."""
    monkeypatch.setattr(direct, "_DIRECT", 0)


def not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that says so when it is asked."""
    real = fcntl.fcntl

    def refuse(handle: int, command: int, flags: int = 0) -> int:
        if command == fcntl.F_SETFL and flags & O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(handle, command, flags)

    monkeypatch.setattr(direct.fcntl, "fcntl", refuse)


def not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that says so when it is to be done."""
    real = os.write

    def refuse(handle: int, data: Any) -> int:
        if fcntl.fcntl(handle, fcntl.F_GETFL) & O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(handle, data)

    monkeypatch.setattr(direct.os, "write", refuse)


def part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that takes less than it is given."""
    real = os.write

    def half(handle: int, data: Any) -> int:
        return real(handle, data[: (len(data) + 4096) // 2])

    monkeypatch.setattr(direct.os, "write", half)


def as_it_is(_: pytest.MonkeyPatch) -> None:
    """Whatever this system does."""


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("system", [as_it_is, no_flag, not_asked, not_done, part_by_part])
def test_a_file_is_read_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: Callable[[pytest.MonkeyPatch], None], length: int
) -> None:
    system(monkeypatch)
    path = tmp_path / "file"
    drawn = random.Random(length)
    cuts = sorted(drawn.randrange(length + 1) for _ in range(9))
    put(path, [DATA[a:b] for a, b in zip([0, *cuts], [*cuts, length], strict=True)])
    assert path.read_bytes() == DATA[:length]
    assert got(path) == DATA[:length]


def test_a_read_that_is_refused_is_done_the_usual_way(tmp_path: Path) -> None:
    class Unwilling(FileIO):
        def readinto(self, buffer: Any) -> int | None:
            if fcntl.fcntl(self, fcntl.F_GETFL) & O_DIRECT:
                raise OSError(errno.EINVAL, "Invalid argument")
            return super().readinto(buffer)

    (tmp_path / "file").write_bytes(DATA)
    with Unwilling(tmp_path / "file") as file:
        assert b"".join(map(bytes, read_chunks(file))) == DATA


def test_what_was_put_in_place_of_a_write_counts_as_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb", buffering=0) as file:
        writer = DirectWriter(file.fileno())
        at = 0
        while at < len(DATA):
            room = writer.room()
            part = DATA[at : at + min(len(room), 700_000)]
            room[: len(part)] = part
            writer.took(len(part))
            at += len(part)
        writer.sync()
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("length", [1, len(DATA)])
def test_other_errors_are_not_taken_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, length: int
) -> None:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(direct.os, "write", fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        put(tmp_path / "file", [DATA[:length]])


def test_nothing_is_complete_that_was_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []

    def note(handle: int) -> None:
        synced.append(os.fstat(handle).st_size)

    monkeypatch.setattr(direct.os, "fsync", note)
    put(tmp_path / "file", [DATA])
    assert synced == [len(DATA)]


def test_what_is_small_never_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise AssertionError

    monkeypatch.setattr(direct.fcntl, "fcntl", refuse)
    put(tmp_path / "file", [b"small"])
    assert got(tmp_path / "file") == b"small"


def test_lines_go_on_where_a_chunk_ends(tmp_path: Path) -> None:
    drawn = random.Random(7)
    lengths = [0, 1, 2, 900, 1_200, 70_000, 200_000, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK]
    lines = [bytes(drawn.choice(lengths[:7])).replace(b"\0", b"x") + b"\n" for _ in range(120)]
    lines += [b"y" * length + b"\n" for length in lengths]
    drawn.shuffle(lines)
    for last in (b"", b"the last lacks its newline", b"z" * (CHUNK + 5)):
        path = tmp_path / "file"
        whole = [*lines, *([last] if last else [])]
        path.write_bytes(b"".join(whole))
        with path.open("rb", buffering=0) as file:
            blocks = list(file_line_blocks(file))
        assert all(blocks)
        assert [line for block in blocks for line in block] == whole
