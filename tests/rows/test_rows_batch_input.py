"""Batch files of the gateway's callers: what is wrong with them, within bounds, and their rows apart by model."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfrate.rows.batch_input import ModelRows, check_batch_input, ids_of, split_by_model

URL = "/v1/chat/completions"


def line(number: int, model: str = "m", **more: Any) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": f"\u2028 {number}"}], **more}
    return {"custom_id": f"row {number}", "method": "POST", "url": URL, "body": body}


def written(folder: Path, lines: list[Any]) -> Path:
    path = folder / "input.jsonl"
    path.write_bytes(
        b"".join(one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in lines)
    )
    return path


def test_a_sound_file_says_what_it_asks(tmp_path: Path) -> None:
    path = written(tmp_path, [b"\xef\xbb\xbf", line(0), b"\n", line(1, "n"), line(2)])
    checked = check_batch_input(path, URL, most_rows=3)
    assert checked.faults == ()
    assert checked.models == (ModelRows("m", 2, 1), ModelRows("n", 1, 3))
    assert checked.rows == 3


def test_more_rows_than_a_batch_may_have_are_not_read_to_their_end(tmp_path: Path) -> None:
    path = written(tmp_path, [*map(line, range(4)), b"{\n" * 9])
    checked = check_batch_input(path, URL, most_rows=3)
    assert [fault.code for fault in checked.faults] == ["too_many_tasks"]


def test_more_models_than_a_batch_may_ask_are_not_read_to_their_end(tmp_path: Path) -> None:
    fits = written(tmp_path, [line(n, f"m{n}") for n in range(20)])
    assert check_batch_input(fits, URL, most_rows=100).faults == ()
    path = written(tmp_path, [*(line(n, f"m{n}") for n in range(21)), b"{\n" * 9])
    checked = check_batch_input(path, URL, most_rows=100)
    assert [fault.code for fault in checked.faults] == ["too_many_models"]


def test_no_more_than_a_hundred_faults_are_told(tmp_path: Path) -> None:
    checked = check_batch_input(written(tmp_path, [b"{\n" * 1_000]), URL, most_rows=10_000)
    assert [fault.line for fault in checked.faults] == list(range(1, 101))


@pytest.mark.parametrize("content", [b"", b"\n\n \n"])
def test_nothing_is_no_batch(tmp_path: Path, content: bytes) -> None:
    checked = check_batch_input(written(tmp_path, [content]), URL, most_rows=3)
    assert [fault.code for fault in checked.faults] == ["empty_file"]


@settings(max_examples=60, deadline=None)
@given(
    models=st.lists(st.sampled_from(["m", "acc/m", "n"]), min_size=1, max_size=30),
    blanks=st.sets(st.integers(0, 29)),
    extra=st.dictionaries(
        st.sampled_from(["x", "y"]),
        st.text(max_size=5) | st.floats(allow_nan=False, allow_infinity=False),
        max_size=2,
    ),
)
def test_rows_set_apart_stand_in_their_own_lines_and_are_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, models: list[str], blanks: set[int], extra: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("split")
    lines: list[Any] = []
    for number, model in enumerate(models):
        lines += [b"\n"] if number in blanks else []
        lines.append(line(number, model, **extra))
    path = written(folder, lines)
    split_by_model(path, lambda asked: (folder / asked.replace("/", "-"), asked.rpartition("/")[2]))
    source = path.read_bytes().split(b"\n")
    for asked in set(models):
        apart = (folder / asked.replace("/", "-")).read_bytes().split(b"\n")
        for before, after in zip(source, apart, strict=False):
            if not after:
                assert not before or json.loads(before)["body"]["model"] != asked
            elif "/" not in asked:
                assert after == before
            else:
                found = json.loads(before)
                assert json.loads(after) == {**found, "body": {**found["body"], "model": "m"}}
        names = [f"row {number}" for number, model in enumerate(models) if model == asked]
        assert [json.loads(name) for name in ids_of(path, asked)] == names
        assert sum(map(bool, apart)) == len(names)
