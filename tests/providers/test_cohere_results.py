"""Cohere's results: from Avro to lines, and what the lines say."""

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfrate.base.errors import OutcomeUnknown, StorageError
from halfrate.base.results import MAY_BE_PAID, Kind, ResultRow, Tokens
from halfrate.emulator._cohere_avro import OUTPUT_SCHEMA
from halfrate.providers.cohere_results import line_reader, to_lines

PREFIX = "hr-k3v9x2m4qp-0-1-"
SYNC = b"0123456789abcdef"
KINDS = ("float", "int8", "uint8", "binary", "ubinary")
READER = line_reader(PREFIX)


def record(row: int, **vectors: Any) -> dict[str, Any]:
    body = {
        "id": "x",
        "embeddings": {kind: vectors.get(kind) for kind in KINDS},
        "texts": ["a\nb\u2028"],
        "images": None,
        "meta": {"billed_units": {"input_tokens": 7, "output_tokens": 0}},
    }
    return {"custom_id": f"{PREFIX}{row}", "body": body, "error": ""}


def written(records: list[Any], interval: int = 16_000, codec: str = "null") -> bytes:
    file = io.BytesIO()
    fastavro.writer(
        file,
        fastavro.parse_schema(OUTPUT_SCHEMA),
        records,
        codec=codec,
        sync_interval=interval,
        sync_marker=SYNC,
    )
    return file.getvalue()


def lines_of(data: bytes, folder: Path) -> list[bytes]:
    source, target = folder / "results.avro", folder / "results"
    source.write_bytes(data)
    to_lines(source, target)
    assert not source.exists()
    return target.read_bytes().splitlines(keepends=True)


def both_ways(line: bytes) -> ResultRow:
    """What a line says by the general way; the quick one says the same, where it takes the line."""
    general = READER.general(line)
    assert READER.plain is not None
    rows = READER.plain([line])
    if rows.numbers:
        tokens = READER.tokens(rows.usages[0])
        answer, model, finish = bytes(rows.answers[0]), rows.models[0], rows.finishes[0]
        assert ResultRow(rows.numbers[0], Kind.SUCCEEDED, answer, tokens, model, finish) == general
    else:
        assert list(rows.rest) == [line]
    return general


def line(**more: Any) -> bytes:
    return json.dumps({**record(3, float=[[0.5, -1.0]]), **more}).encode()


@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_lines_are_the_records(tmp_path: Path, codec: str) -> None:
    """As they would be by the library that Avro is otherwise read with, byte for byte."""
    failed = {"custom_id": f"{PREFIX}9", "body": None, "error": "too long"}
    records = [
        *(record(row, float=[[row / 7, 1e-9, -0.0, 1e300]]) for row in range(5)),
        record(5, int8=[[-128, 127]], ubinary=[[255, 0]]),
        failed,
    ]
    data = written(records, 100, codec)
    assert lines_of(data, tmp_path) == [
        msgspec.json.encode(found) + b"\n" for found in fastavro.reader(io.BytesIO(data))
    ]


def test_a_record_that_cannot_be_read(tmp_path: Path) -> None:
    """It and those behind it in its block are lines all the same; other blocks are unharmed."""
    whole = written([record(0, float=[[1.0]])], 1)
    half = b"\x10" + b"halfhalf"
    found = lines_of(whole + b"\x04" + bytes([2 * len(half)]) + half + SYNC, tmp_path)
    assert [json.loads(line) for line in found[1:]] == [{"unreadable": True}] * 2
    assert json.loads(found[0])["custom_id"] == f"{PREFIX}0"


@pytest.mark.parametrize("data", [b"", b"{}", written([record(0, float=[[1.0]])])[:-1]])
def test_a_file_that_is_not_whole(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(OutcomeUnknown, match="a result file of Cohere's cannot be read"):
        lines_of(data, tmp_path)
    assert (tmp_path / "results.avro").exists()


def test_results_that_cannot_be_kept(tmp_path: Path) -> None:
    source = tmp_path / "results.avro"
    source.write_bytes(written([]))
    with pytest.raises(StorageError, match="still at Cohere"):
        to_lines(source, tmp_path / "nowhere" / "results")


# ---------------------------------------------------------------- lines


def test_one_vector() -> None:
    found = both_ways(line())
    assert found == ResultRow(3, Kind.SUCCEEDED, b"[0.5, -1.0]", Tokens(7), "", "stop")
    assert READER.plain is not None
    assert READER.plain([line()]).numbers == [3]


def test_what_is_plain_is_read_at_once_and_the_rest_is_left() -> None:
    assert READER.plain is not None
    lines = [line(), line(error="no"), line(custom_id=f"{PREFIX}4")]
    rows = READER.plain(lines)
    assert (rows.numbers, list(rows.lines), list(rows.rest)) == ([3, 4], lines[::2], lines[1:2])


@pytest.mark.parametrize(
    ("embeddings", "answer"),
    [
        ({"float": [[1.0]], "int8": None}, b"[1.0]"),
        ({"int8": [[1, 2]]}, b"[1, 2]"),
        ({"base64": ["[[AA=="]}, b'"[[AA=="'),
        ({"base64": [["]]"]]}, b'["]]"]'),
        ({"float": [[1.0], [2.0]]}, b"[[1.0], [2.0]]"),
        ({"float": [[1.0]], "ubinary": [[1], [2]]}, b'{"float":[1.0],"ubinary":[[1], [2]]}'),
        ({"float": None}, b"{}"),
        ({"unheard": [[1]], "float": [[1]]}, b"[1]"),
        ({"float": []}, b"[]"),
        ({"float": [[]]}, b"[]"),
        ({"float": [[1], 2]}, b"[[1], 2]"),
        ({"float": [[[1], 2]]}, b"[[1], 2]"),
    ],
)
def test_vectors_of_all_kinds(embeddings: dict[str, Any], answer: bytes) -> None:
    body = {**record(3)["body"], "embeddings": embeddings}
    found = both_ways(line(body=body))
    assert (found.kind, found.answer) == (Kind.SUCCEEDED, answer)


NESTED = st.recursive(
    st.none() | st.integers() | st.sampled_from(["[", "]", "]]", "[["]),
    lambda inner: st.lists(inner, max_size=3),
)


@given(st.lists(NESTED, max_size=3), st.sampled_from([(",", ":"), (", ", ": ")]))
def test_whatever_stands_for_a_vector(vectors: list[Any], separators: tuple[str, str]) -> None:
    body = {**record(3)["body"], "embeddings": {"float": vectors}}
    found = both_ways(json.dumps({"custom_id": f"{PREFIX}3", "body": body}, separators=separators).encode())
    expected = vectors[0] if len(vectors) == 1 else vectors
    assert bytes(found.answer) == json.dumps(expected, separators=separators).encode()


@pytest.mark.parametrize(
    ("meta", "tokens"),
    [
        (None, None),
        ({}, None),
        ({"billed_units": None}, None),
        ({"billed_units": {}}, None),
        ({"billed_units": {"input_tokens": 2.0}}, Tokens(2)),
        ({"billed_units": {"input_tokens": 2, "output_tokens": 1}}, Tokens(2, output=1)),
    ],
)
def test_tokens(meta: Any, tokens: Tokens | None) -> None:
    assert both_ways(line(body={**record(3, float=[[1]])["body"], "meta": meta})).tokens == tokens


@pytest.mark.parametrize(
    ("more", "kind", "error"),
    [
        ({"error": "too long"}, Kind.FAILED_PASSING, "too long"),
        ({"body": None}, Kind.FAILED_PASSING, "no reason given"),
        ({"body": None, "error": "no"}, Kind.FAILED_PASSING, "no"),
        ({"body": {"embeddings": {}}}, Kind.FAILED_PASSING, "no reason given"),
        ({"body": {"embeddings": 1}}, Kind.FAILED, MAY_BE_PAID),
        ({"body": 0}, Kind.FAILED_PASSING, "not understood"),
    ],
)
def test_what_is_no_answer(more: dict[str, Any], kind: Kind, error: str) -> None:
    found = both_ways(line(**more))
    assert (found.row, found.kind, found.error) == (3, kind, error)
