import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from halfrate.base.errors import StorageError, UsageError
from halfrate.rows.target import TargetFile


def test_the_file_appears_whole_and_replaces_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    target.write_text("old")
    target.chmod(0o640)
    with TargetFile(target) as file:
        file.write(b"new ")
        assert target.read_text() == "old"
        file.write(memoryview(b"text"))
        file.commit()
    assert target.read_text() == "new text"
    assert target.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with TargetFile(tmp_path / "out") as file:
            file.commit()
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o640


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    target.write_text("old")
    with TargetFile(target) as file:
        file.write(b"new")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_link_keeps_pointing_where_it_does(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "out.jsonl"
    link.symlink_to(tmp_path / "real" / "file.jsonl")
    with TargetFile(link) as file:
        file.write(b"x")
        file.commit()
    assert link.is_symlink()
    assert (tmp_path / "real" / "file.jsonl").read_bytes() == b"x"


def test_a_pipe_is_written_to_directly(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with TargetFile(pipe) as file:
            file.write(b"through")
            file.commit()
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_a_name_as_long_as_names_may_be(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 249 + ".jsonl")
    with TargetFile(target) as file:
        file.commit()
    assert target.exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_errors_say_that_answers_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    target = tmp_path / "out.jsonl"

    def fail(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    for name in ("write", "fsync"):
        with monkeypatch.context() as patch, TargetFile(target) as file:
            patch.setattr(f"halfrate.rows.target.os.{name}", fail)
            # What is small is written at the end.
            file.write(b"x")
            with pytest.raises(StorageError, match="halfrate results JOB -o") as caught:
                file.commit()
        assert ("the disk is full" in str(caught.value)) == (number != errno.EIO)
        assert "answers are kept" in str(caught.value)
        assert list(tmp_path.iterdir()) == []


def test_folders_that_cannot_be_written_to(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file or directory"):
        TargetFile(tmp_path / "none" / "out.jsonl")
    with pytest.raises(UsageError, match="is a folder"):
        TargetFile(tmp_path)


_FILLS_UP = """
import resource, sys
from pathlib import Path
from halfrate.base.errors import StorageError
from halfrate.rows.output import ShardView, Snapshot, write_output
folder = Path(sys.argv[1])
shards = [ShardView(0, 4000, ())]
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
unknown = (folder / "record").read_bytes()
for form in ("jsonl", "csv", "parquet"):
    try:
        write_output(Snapshot(folder / "in", "jsonl"), shards, folder / f"out.{form}", form, {}, unknown_record=unknown)
    except StorageError as error:
        print(form, "the disk is full" in str(error), sorted(path.name for path in folder.iterdir()))
"""


def test_a_disk_that_fills_up_half_way(tmp_path: Path) -> None:
    from .made import UNKNOWN

    (tmp_path / "in").write_bytes(
        b"".join(b'{"text":"%b"}\n' % os.urandom(100).hex().encode() for _ in range(4000))
    )
    (tmp_path / "record").write_bytes(UNKNOWN)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", _FILLS_UP, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        f"{form} True ['in', 'record']" for form in ("jsonl", "csv", "parquet")
    ]
