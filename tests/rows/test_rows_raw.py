import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from halfrate.base.errors import StorageError
from halfrate.base.results import Kind, ResultRow, UnreadableLine
from halfrate.base.types import RawForm
from halfrate.rows.output import Snapshot
from halfrate.rows.raw import RawAttempt, RawShard, write_raw

from .made import answered, jsonl, outcome_file, refused, snapshot

OPENAI = RawForm()
ANTHROPIC = RawForm("custom_id", b',"result":{"type":"canceled"}}\n')


def good(name: str, text: str, **more: Any) -> dict[str, Any]:
    return {
        "id": "batch_req",
        "custom_id": name,
        "response": {"status_code": 200, "body": {"text": text}},
        **more,
    }


def bad(name: str, status: int = 400) -> dict[str, Any]:
    return {
        "custom_id": name,
        "response": {"status_code": status, "body": {"error": {"message": "no"}}},
        "error": None,
    }


def raw_file(path: Path, lines: list[Any]) -> Path:
    path.write_bytes(b"".join(line if isinstance(line, bytes) else jsonl([line]) for line in lines))
    return path


def reader(prefix: str) -> Callable[[bytes], ResultRow]:
    """Knows a row by its id, and a success by its status."""

    def read(line: bytes) -> ResultRow:
        found = msgspec.json.decode(line)
        digits = found["custom_id"].removeprefix(prefix)
        if digits == found["custom_id"] or not (digits.isascii() and digits.isdigit()):
            raise UnreadableLine(digits)
        good = "result" in found or found["response"]["status_code"] == 200
        return ResultRow(int(digits), Kind.SUCCEEDED if good else Kind.FAILED)

    return read


def write(
    source: Snapshot, shards: list[RawShard], folder: Path, form: RawForm = OPENAI, **options: Any
) -> list[Any]:
    target = folder / "raw.jsonl"
    rows = write_raw(source, shards, target, form, **options)
    lines = target.read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert len(lines) == rows
    return [json.loads(line) for line in lines]


def batch_file(folder: Path, ids: list[str]) -> Snapshot:
    lines = [{"custom_id": name, "url": "/v1/chat/completions", "body": {"model": "m"}} for name in ids]
    return snapshot(folder, jsonl(lines), "jsonl", "openai")


def test_lines_come_in_input_order_under_the_users_ids(tmp_path: Path) -> None:
    ids = ["a", 'quo"te\\1', "ünï\u2028", "a"]
    one, two = "hr-k3v9x2m4qp-0-1-", "hr-k3v9x2m4qp-1-1-"
    first = RawAttempt(
        reader(one),
        (raw_file(tmp_path / "1", [good(f"{one}1", "B", custom=f"{one}0"), good(f"{one}0", "A")]),),
        outcome_file(tmp_path / "o1", [answered("A"), answered("B")]),
    )
    spaced = b'{"response" : {"status_code":200,"body":{"text":"\\"custom_id\\":\\"%b3\\""}}, "custom_id" :\t"%b3"}\r\n'
    second = RawAttempt(
        reader(two),
        (raw_file(tmp_path / "2", [spaced % (two.encode(), two.encode()), good(f"{two}2", "C")]),),
        outcome_file(tmp_path / "o2", [answered("C"), answered("D")]),
    )
    shards = [RawShard(0, 2, (first,)), RawShard(2, 2, (second,))]
    found = write(batch_file(tmp_path, ids), shards, tmp_path)
    assert [line["custom_id"] for line in found] == ids
    texts = [line["response"]["body"]["text"] for line in found]
    assert texts == ["A", "B", "C", f'"custom_id":"{two}3"']
    assert found[1]["custom"] == f"{one}0"


def test_the_attempt_that_speaks_for_a_row_gives_its_line(tmp_path: Path) -> None:
    one, two = "hr-j-0-1-", "hr-j-0-2-"
    passing, final = Kind.FAILED_PASSING, Kind.FAILED
    first = RawAttempt(
        reader(one),
        (
            # A twin and an error file: the first success of an attempt speaks, not the first line.
            raw_file(tmp_path / "1a", [bad(f"{one}0", 500), good(f"{one}1", "kept"), bad(f"{one}2", 500)]),
            raw_file(
                tmp_path / "1b",
                [good(f"{one}0", "late"), good(f"{one}1", "second"), bad(f"{one}3", 429), b"cut"],
            ),
        ),
        outcome_file(
            tmp_path / "o1",
            [answered("late"), answered("kept"), refused(), refused(), refused()],
            [Kind.SUCCEEDED, Kind.SUCCEEDED, passing, passing, Kind.MISSING],
        ),
    )
    second = RawAttempt(
        reader(two),
        (
            raw_file(
                tmp_path / "2",
                [good(f"{two}2", "again"), bad(f"{two}0"), good(f"{two}99", "x"), good("other", "x")],
            ),
        ),
        outcome_file(
            tmp_path / "o2",
            [None, None, answered("again"), refused(), refused()],
            [Kind.UNKNOWN, Kind.UNKNOWN, Kind.SUCCEEDED, Kind.MISSING, final],
        ),
    )
    shards = [RawShard(0, 5, (first, second))]
    found = write(snapshot(tmp_path, b"x\n" * 5, "jsonl"), shards, tmp_path)
    assert [line["custom_id"] for line in found] == ["0", "1", "2", "3", "4"]
    assert [line["response"]["body"].get("text") for line in found[:3]] == ["late", "kept", "again"]
    assert found[3]["response"]["status_code"] == 429
    assert found[4]["response"] is None
    assert found[4]["error"]["code"] == "not_run"


def test_a_shard_that_never_ran(tmp_path: Path) -> None:
    shards = [
        RawShard(0, 2, (RawAttempt(reader("hr-j-0-1-"), (raw_file(tmp_path / "empty", []),), None),)),
        RawShard(2, 1, ()),
    ]
    found = write(snapshot(tmp_path, b"", "csv"), shards, tmp_path, ANTHROPIC)
    assert found == [{"custom_id": str(i), "result": {"type": "canceled"}} for i in range(3)]


@pytest.mark.parametrize("form", ["jsonl", "csv", "tsv", "parquet"])
def test_ids_come_from_the_id_column(tmp_path: Path, form: Any) -> None:
    ids: list[Any] = ["x", "7", 'a"b']
    if form == "parquet":
        path = tmp_path / "in.parquet"
        pq.write_table(pa.table({"text": ["t"] * 3, "key": ids}), path)
        source = Snapshot(path, "parquet")
    elif form == "jsonl":
        source = snapshot(tmp_path, jsonl([{"key": key} for key in ("x", 7, 'a"b')]), form)
    else:
        mark = "," if form == "csv" else "\t"
        source = snapshot(tmp_path, f'text{mark}key\nt{mark}x\nt{mark}7\nt{mark}"a""b"\n'.encode(), form)
    prefix = "hr-j-0-1-"
    lines = [
        {"custom_id": f"{prefix}{i}", "result": {"type": "succeeded", "message": {"n": i}}} for i in (2, 0, 1)
    ]
    attempt = RawAttempt(
        reader(prefix), (raw_file(tmp_path / "1", lines),), outcome_file(tmp_path / "o", [answered(1)] * 3)
    )
    found = write(source, [RawShard(0, 3, (attempt,))], tmp_path, ANTHROPIC, id_column="key")
    assert found == [
        {"custom_id": key, "result": {"type": "succeeded", "message": {"n": i}}} for i, key in enumerate(ids)
    ]


def test_missing_files_and_other_rows_are_named(tmp_path: Path) -> None:
    lost = RawShard(0, 1, (RawAttempt(reader("hr-j-0-1-"), (tmp_path / "lost",), None),))
    with pytest.raises(StorageError, match="moved or removed"):
        write(batch_file(tmp_path, ["a"]), [lost], tmp_path)
    for ids in (["a"], ["a", "b", "c"]):
        with pytest.raises(StorageError, match="was changed"):
            write(batch_file(tmp_path, ids), [RawShard(0, 2, ())], tmp_path)
    assert not (tmp_path / "raw.jsonl").exists()


def test_lines_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    prefix = "hr-j-0-1-"
    deep = b'{"custom_id":"%b0","response":%b%b}\n' % (prefix.encode(), b"[" * 9000, b"]" * 9000)
    odd = b'{"custom_id":"\xff"}\n'
    lines = [deep, odd, good(f"{prefix}\u0661", "x"), good(f"{prefix}0", "A"), deep]
    attempt = RawAttempt(
        reader(prefix), (raw_file(tmp_path / "1", lines),), outcome_file(tmp_path / "o", [answered("A")])
    )
    (found,) = write(batch_file(tmp_path, ["a"]), [RawShard(0, 1, (attempt,))], tmp_path)
    assert found["response"]["body"]["text"] == "A"
