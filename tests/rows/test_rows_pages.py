"""Large files pass through the page cache without filling it, and come out as they were."""

import os
from pathlib import Path

import pytest

from halfrate.base import pages
from halfrate.base.pages import Trail
from halfrate.rows.target import TargetFile

STRIDE = 1 << 20
PIECE = os.urandom(100_000)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the job were large."""
    monkeypatch.setattr(pages, "_STRIDE", STRIDE)
    monkeypatch.setattr(pages, "_left", 0)


def cached(path: Path, at: int) -> bool:
    """Whether the kernel can give a byte without reading the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.preadv(handle, [bytearray(1)], at, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(handle)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A folder whose files can be dropped from the cache; those of some file systems cannot."""
    probe = tmp_path / "probe"
    with probe.open("wb") as file:
        file.write(PIECE)
        file.flush()
        os.fsync(file.fileno())
        try:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            if cached(probe, 0):
                pytest.skip("files in the temporary folder stay in memory")
        except (AttributeError, OSError):
            pytest.skip("this system does not say what is in its cache")
    return tmp_path


def test_a_large_output_leaves_the_cache_as_it_is_written(disk: Path) -> None:
    path = disk / "out"
    with TargetFile(path) as target:
        for _ in range(25):
            target.write(PIECE)
        target.commit()
    assert not cached(path, 0)
    assert not cached(path, STRIDE)
    assert cached(path, 2_499_999)
    assert path.read_bytes() == PIECE * 25


def test_a_reader_drops_what_lies_behind_it(disk: Path) -> None:
    path = disk / "in"
    path.write_bytes(PIECE * 25)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        trail = Trail(file.fileno())
        for _ in range(24):
            trail.add(len(file.read(len(PIECE))))
        assert not cached(path, 0)
        assert cached(path, 2_400_000)


def test_a_small_job_stays_in_the_cache(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_left", 10 * STRIDE)
    path = disk / "out"
    with TargetFile(path) as target:
        for _ in range(25):
            target.write(PIECE)
        target.commit()
    assert cached(path, 0)


def test_without_the_call_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_advise", None)
    path = tmp_path / "out"
    with TargetFile(path) as target:
        for _ in range(25):
            target.write(PIECE)
        target.commit()
    assert path.read_bytes() == PIECE * 25
