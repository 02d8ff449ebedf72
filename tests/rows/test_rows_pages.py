"""Large files are handed back to the kernel as they pass, and come out as they were."""

import os
from pathlib import Path

import pytest

from halfrate.base import direct, pages
from halfrate.base.pages import Trail
from halfrate.rows.target import TargetFile

STRIDE = 1 << 20
CHUNK = direct.CHUNK
PIECE = os.urandom(100_000)
Dropped = list[tuple[int, int]]


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> Dropped:
    """As if the job were large; the spans that the kernel is told to forget. Whether it does so is its own affair."""
    spans: Dropped = []

    def advise(handle: int, start: int, end: int, advice: int) -> None:
        del handle, advice
        spans.append((start, end))

    monkeypatch.setattr(pages, "_STRIDE", STRIDE)
    monkeypatch.setattr(pages, "_left", 0)
    monkeypatch.setattr(pages, "_advise", advise)
    monkeypatch.setattr(direct, "_DIRECT", 0)
    return spans


def write(path: Path, pieces: int) -> None:
    with TargetFile(path) as target:
        for _ in range(pieces):
            target.write(PIECE)
        target.commit()


def test_a_large_output_is_handed_back_as_it_is_written(tmp_path: Path, dropped: Dropped) -> None:
    write(tmp_path / "out", 50)
    assert dropped == [(0, CHUNK), (0, 2 * CHUNK)]
    assert (tmp_path / "out").read_bytes() == PIECE * 50


def test_a_reader_hands_back_what_lies_behind_it(tmp_path: Path, dropped: Dropped) -> None:
    path = tmp_path / "in"
    path.write_bytes(PIECE * 12)
    with path.open("rb") as file:
        trail = Trail(file.fileno())
        for _ in range(12):
            trail.add(len(file.read(len(PIECE))))
        trail.drop()
    assert dropped == [(0, 1_100_000), (0, 1_200_000)]


def test_a_small_job_stays_in_the_cache(
    tmp_path: Path, dropped: Dropped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "_left", CHUNK + 1)
    write(tmp_path / "out", 64)
    # The first two chunks are left there, and what they come to is more than may be left.
    assert dropped == [(0, 3 * CHUNK)]


def test_without_the_call_nothing_happens(
    tmp_path: Path, dropped: Dropped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "_advise", None)
    write(tmp_path / "out", 25)
    assert dropped == []
    assert (tmp_path / "out").read_bytes() == PIECE * 25


def test_advice_that_is_not_taken_ends_nothing(
    tmp_path: Path, dropped: Dropped, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(pages, "_advise", refuse)
    write(tmp_path / "out", 25)
    assert (tmp_path / "out").read_bytes() == PIECE * 25
