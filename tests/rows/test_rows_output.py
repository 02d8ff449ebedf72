import csv
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfrate.base.errors import InputError, SettingsError, StorageError, UsageError
from halfrate.base.results import Tokens
from halfrate.base.types import Outcome
from halfrate.rows.collect import COLUMNS, RecordFormat
from halfrate.rows.output import ShardView, Snapshot, output_format, write_output

from .made import UNKNOWN, absent, answered, jsonl, outcome_file, refused, shards_of, snapshot

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8") | st.sampled_from('\u2028\u2029\u0085"\\\n\r\0,;')),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ROW = st.dictionaries(st.sampled_from(["a", "b c", "ü", '"', ""]), JSON, max_size=4)
OURS = {
    "status": "succeeded",
    "error": None,
    "input_tokens": 4,
    "cached_tokens": 1,
    "output_tokens": 5,
    "cost_usd": 0.000042,
    "model": "gpt-x",
    "finish_reason": "stop",
}
OURS_TEXT = ["succeeded", "", "4", "1", "5", "0.000042", "gpt-x", "stop"]


def write(
    source: Snapshot, shards: list[ShardView], target: Path, names: dict[str, str] | None = None
) -> bytes:
    form = output_format(target)
    rows = write_output(source, shards, target, form, names or {}, unknown_record=UNKNOWN)
    assert rows == sum(shard.rows for shard in shards)
    return target.read_bytes()


def cells(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(ROW, min_size=1, max_size=12),
    st.integers(1, 5),
    st.sampled_from([b"\n", b"\r\n", b" \n", b"\n\n", b"\n \r\n"]),
    st.booleans(),
)
def test_jsonl_rows_are_copied_and_joined(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], size: int, end: bytes, spaced: bool
) -> None:
    folder = tmp_path_factory.mktemp("out")
    lines = [json.dumps(row, ensure_ascii=False).encode() for row in rows]
    if spaced:
        lines = [b" {  " + line[1:-1] + b" \t}" for line in lines]
    data = end.join(lines)
    shards = shards_of(folder, [answered(f"{i}\u2028") for i in range(len(rows))], size)
    out = write(snapshot(folder, data, "jsonl"), shards, folder / "out.jsonl")
    written = out.split(b"\n")
    assert written.pop() == b""
    for i, (row, line) in enumerate(zip(rows, written, strict=True)):
        assert json.loads(line) == {**row, "answer": f"{i}\u2028", **OURS}
        assert line.startswith(lines[i].strip()[:-1].rstrip())
        assert list(json.loads(line))[-9:] == list(COLUMNS)


def test_jsonl_of_many_blocks_with_oddities_between(tmp_path: Path) -> None:
    rows: list[bytes] = []
    for i in range(3000):
        rows.append(b'{"id":%d,"text":"%b"}' % (i, b"x" * (i % 500)))
        rows += [b"", b" "] if i % 700 == 3 else [b"{}\r"] if i % 900 == 5 else [b"{ }"] if i == 1234 else []
    rows.insert(0, b'{"id":"long","text":"' + b"y" * 700_000 + b'"}')
    kept = [json.loads(row) for row in rows if row.strip()]
    shards = shards_of(tmp_path, [answered(i) for i in range(len(kept))], 1000)
    source = snapshot(tmp_path, b"\xef\xbb\xbf" + b"\n".join(rows), "jsonl")
    out = write(source, shards, tmp_path / "out.jsonl")
    found = [json.loads(line.decode()) for line in out.splitlines()]
    assert found == [{**row, "answer": i, **OURS} for i, row in enumerate(kept)]


@pytest.mark.parametrize("width", [10, 1 << 18, (1 << 18) - 20, 1 << 20])
def test_a_byte_order_mark_is_not_copied_however_long_the_first_row(tmp_path: Path, width: int) -> None:
    rows = [b'{"text":"%b"}' % (b"x" * width), b'{"text":"b"}']
    shards = shards_of(tmp_path, [answered(i) for i in range(2)], 2)
    for end in (b"", b"\n"):
        source = snapshot(tmp_path, b"\xef\xbb\xbf" + b"\n".join(rows) + end, "jsonl")
        out = write(source, shards, tmp_path / "out.jsonl")
        assert [line[:9] for line in out.splitlines()] == [b'{"text":"'] * 2
        # One row alone, without a newline, ends the file at once.
        source = snapshot(tmp_path, b"\xef\xbb\xbf" + rows[0] + end, "jsonl")
        out = write(source, shards_of(tmp_path, [answered(0)], 1), tmp_path / "out.jsonl")
        assert out.startswith(b'{"text":"')
        assert out.count(b"\n") == 1
        shards = shards_of(tmp_path, [answered(i) for i in range(2)], 2)


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_costs_are_exact(tmp_path: Path, form: str) -> None:
    costs = (42_000_000, 0, 3 * 10**12)
    records = [RecordFormat({}).answered(b'"a"', Tokens(1, output=2), cost, "m%d", "stop") for cost in costs]
    source = snapshot(tmp_path, b"{}\n" * 3, "jsonl")
    out = write(source, shards_of(tmp_path, records, 3), tmp_path / f"out.{form}")
    found: list[Any]
    if form == "jsonl":
        found = [json.loads(line, parse_float=Decimal) for line in out.splitlines()]
    elif form == "csv":
        header, *rows = cells(out)
        found = [dict(zip(header, row, strict=True)) for row in rows]
    else:
        found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [Decimal(row["cost_usd"]) for row in found] == [Decimal("0.000042"), 0, 3]
    assert [row["model"] for row in found] == ["m%d"] * 3


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_bytes_of_an_answer_that_are_not_utf8_lose_no_row(tmp_path: Path, form: str) -> None:
    # A strict reader of JSON strings copies them unread, so they are first met here.
    records = [
        answered("good"),
        answered("b?d").replace(b"?", b"\xff"),
        answered(["b?d"]).replace(b"?", b"\xff"),
    ]
    source = snapshot(tmp_path, b'{"n":1}\n' * 3, "jsonl")
    out = write(source, shards_of(tmp_path, records, 3), tmp_path / f"out.{form}")
    if form == "csv":
        assert [row[1] for row in cells(out)[1:]] == ["good", "b\ufffdd", '["b\ufffdd"]']
    elif form == "parquet":
        found = pq.read_table(tmp_path / "out.parquet").column("answer").to_pylist()
        assert found == ["good", "b\ufffdd", '["b\ufffdd"]']
    else:
        assert len(out.splitlines()) == 3


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_a_snapshot_with_other_rows_than_the_shards_is_refused(tmp_path: Path, form: str) -> None:
    shards = shards_of(tmp_path, [answered(i) for i in range(3)], 2)
    for data in (b'{"a":1}\n' * 2, b'{"a":1}\n' * 4, b"", b'{"a":1}\n\r\n' * 4, b'{"a":1}\r\n' * 2):
        with pytest.raises(StorageError, match="a file of this job was changed"):
            write(snapshot(tmp_path, data, "jsonl"), shards, tmp_path / f"out.{form}")
    for data in (b'{"a":1}\n{"a"\n{"a":3}\n', b"[1]\n[2]\n[3]\n"):
        if form != "jsonl" or data.startswith(b"["):
            with pytest.raises(StorageError, match="a file of this job was changed"):
                write(snapshot(tmp_path, data, "jsonl"), shards, tmp_path / f"out.{form}")
    assert not list(tmp_path.glob("out*"))
    assert not list(tmp_path.glob(".*"))


def test_rows_that_no_attempt_knows_say_so(tmp_path: Path) -> None:
    known = outcome_file(tmp_path / "0", [answered("a"), None])
    shards = [ShardView(0, 2, (known,)), ShardView(2, 1, ())]
    out = write(snapshot(tmp_path, b'{"n":1}\n{"n":2}\n{"n":3}\n', "jsonl"), shards, tmp_path / "out.jsonl")
    assert [json.loads(line)["status"] for line in out.splitlines()] == [
        "succeeded",
        "cancelled",
        "cancelled",
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=8), JSON)
def test_jsonl_to_csv_and_parquet_keep_every_value(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], answer: Any
) -> None:
    folder = tmp_path_factory.mktemp("out")
    source = snapshot(folder, jsonl(rows), "jsonl")
    shards = shards_of(folder, [answered(answer)] * len(rows), 3)
    columns = list(dict.fromkeys(key for row in rows for key in row))

    def text(value: Any) -> str:
        return value if isinstance(value, str) else "" if value is None else json.dumps(value)

    header, *lines = cells(write(source, shards, folder / "out.csv"))
    assert header == [*columns, *COLUMNS]
    assert lines == [[text(row.get(c)) for c in columns] + [text(answer), *OURS_TEXT] for row in rows]

    write(source, shards, folder / "out.parquet")
    table = pq.read_table(folder / "out.parquet")
    assert table.column_names == header
    for row, found in zip(rows, table.to_pylist(), strict=True):
        assert found["answer"] == (None if answer is None else text(answer))
        assert found["cost_usd"] == Decimal("0.000042")
        for column in columns:
            value, have = row.get(column), found[column]
            assert have == value or have == text(value), (column, value, have)
            assert (have is None) == (value is None)


def test_types_of_parquet_columns(tmp_path: Path) -> None:
    rows = [
        {
            "i": 1,
            "f": 1.5,
            "b": True,
            "s": "x",
            "if": 1,
            "big": 10**30,
            "long": 10**17,
            "lf": 10**17,
            "n": None,
            "m": 1,
            "o": {"k": [1]},
        },
        {"i": -2, "f": None, "b": False, "if": 2.5, "big": 1, "long": 2, "lf": 0.5, "m": "t", "o": None},
    ]
    shards = shards_of(tmp_path, [answered("a"), refused()], 5)
    write(snapshot(tmp_path, jsonl(rows), "jsonl"), shards, tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    types = {field.name: str(field.type) for field in table.schema}
    assert {name: types[name] for name in rows[0]} == {
        "i": "int64", "f": "double", "b": "bool", "s": "string", "if": "double", "big": "string",
        "long": "int64", "lf": "string", "n": "string", "m": "string", "o": "string",
    }  # fmt: skip
    assert {name: types[name] for name in COLUMNS} == {
        "answer": "string", "status": "string", "error": "string", "input_tokens": "int64", "cached_tokens": "int64",
        "output_tokens": "int64", "cost_usd": "decimal128(18, 12)", "model": "string", "finish_reason": "string",
    }  # fmt: skip
    first, second = table.to_pylist()
    assert (first["o"], first["lf"], first["m"], second["m"]) == ('{"k": [1]}', str(10**17), "1", "t")
    assert (second["answer"], second["status"], second["error"], second["cost_usd"]) == (
        None,
        "failed",
        "400: no",
        0,
    )


@given(
    st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=2, max_size=2),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["csv", "tsv"]),
)
@settings(max_examples=60, deadline=None)
def test_cells_keep_their_text(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], form: Any
) -> None:
    folder = tmp_path_factory.mktemp("out")
    text = io.StringIO(newline="")
    delimiter = "," if form == "csv" else "\t"
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(
        [["a", "b"], *rows]
    )
    source = snapshot(folder, text.getvalue().encode(), form)
    shards = shards_of(folder, [answered(["x", i]) for i in range(len(rows))], 3)
    header, *lines = cells(write(source, shards, folder / "out.csv"))
    assert header == ["a", "b", *COLUMNS]
    assert lines == [[*row, f'["x", {i}]', *OURS_TEXT] for i, row in enumerate(rows)]
    out = write(source, shards, folder / "out.jsonl")
    assert [json.loads(line) for line in out.split(b"\n") if line] == [
        {"a": row[0], "b": row[1], "answer": ["x", i], **OURS} for i, row in enumerate(rows)
    ]
    write(source, shards, folder / "out.parquet")
    table = pq.read_table(folder / "out.parquet")
    assert [[row["a"], row["b"]] for row in table.to_pylist()] == rows


def arrow_table() -> pa.Table:
    import datetime as dt

    return pa.table(
        {
            "i": pa.array([1, None, 3], pa.int32()),
            "s": pa.array(["x", "", None]).dictionary_encode(),
            "at": pa.array([dt.datetime(2026, 1, 2, 3, 4, 5, 6, dt.UTC)] * 3, pa.timestamp("ns", "UTC")),
            "l": pa.array([[1, 2], [], None]),
            "d": pa.array([{"k": dt.date(2026, 1, 2)}, None, {"k": None}]),
            "x": pa.array([b"\xff", b"", None]),
            "f": pa.array([1.5, float("nan"), None]),
        }
    )


def test_parquet_to_parquet_keeps_types(tmp_path: Path) -> None:
    table = arrow_table()
    pq.write_table(table, tmp_path / "in.parquet")
    shards = shards_of(tmp_path, [answered("a")] * 3, 2)
    source = Snapshot(tmp_path / "in.parquet", "parquet")
    write(source, shards, tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.select(table.column_names).schema.equals(pq.read_schema(tmp_path / "in.parquet"))
    assert str(found.column("i").to_pylist()) == str(table.column("i").to_pylist())
    assert found.column("at").equals(table.column("at"))
    assert found.column("answer").to_pylist() == ["a"] * 3


def test_parquet_to_jsonl_and_csv(tmp_path: Path) -> None:
    pq.write_table(arrow_table(), tmp_path / "in.parquet")
    shards = shards_of(tmp_path, [answered("a")] * 3, 2)
    source = Snapshot(tmp_path / "in.parquet", "parquet")
    first, second, third = (
        json.loads(line) for line in write(source, shards, tmp_path / "out.jsonl").splitlines()
    )
    assert first == {
        "i": 1, "s": "x", "at": "2026-01-02T03:04:05.000006Z", "l": [1, 2], "d": {"k": "2026-01-02"}, "x": "/w==",
        "f": 1.5, "answer": "a", **OURS,
    }  # fmt: skip
    assert (second["i"], second["s"], second["f"], third["s"]) == (None, "", None, None)
    header, *rows = cells(write(source, shards, tmp_path / "out.csv"))
    assert header[:2] == ["i", "s"]
    assert rows[0][:7] == [
        "1",
        "x",
        "2026-01-02T03:04:05.000006Z",
        "[1,2]",
        '{"k":"2026-01-02"}',
        "/w==",
        "1.5",
    ]
    assert rows[1][:7] == ["", "", "2026-01-02T03:04:05.000006Z", "[]", "", "", ""]


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_a_batch_files_ids_stand_beside_its_answers(tmp_path: Path, form: str) -> None:
    ids = ["a", "", "ünï \u2028", "a"]
    data = jsonl([{"custom_id": name, "params": {"model": "m", "x": "y"}} for name in ids])
    shards = shards_of(tmp_path, [answered(i) for i in range(4)], 3)
    out = write(snapshot(tmp_path, data, "jsonl", "anthropic"), shards, tmp_path / f"out.{form}")
    if form == "jsonl":
        found = [json.loads(line) for line in out.split(b"\n") if line]
    elif form == "csv":
        header, *rows = cells(out)
        found = [dict(zip(header, row, strict=True)) for row in rows]
    else:
        found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["custom_id"] for row in found] == ids
    assert list(found[0]) == ["custom_id", *COLUMNS]
    assert [str(row["answer"]) for row in found] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_columns_that_the_input_has_already_get_a_prefix(tmp_path: Path, form: str) -> None:
    names = {"answer": "halfrate_answer", "model": "halfrate_model"}
    records = RecordFormat(names)
    shards = shards_of(tmp_path, [answered("ours", records), refused(form=records)], 5)
    unknown = records.failed(Outcome.CANCELLED, "x")
    target = tmp_path / f"out.{form}"
    source = snapshot(tmp_path, jsonl([{"answer": "theirs", "model": 7}] * 2), "jsonl")
    write_output(source, shards, target, output_format(target), names, unknown_record=unknown)
    if form == "jsonl":
        found = [json.loads(line) for line in target.read_bytes().splitlines()]
    elif form == "csv":
        header, *rows = cells(target.read_bytes())
        found = [dict(zip(header, row, strict=True)) for row in rows]
    else:
        found = pq.read_table(target).to_pylist()
    assert list(found[0])[:3] == ["answer", "model", "halfrate_answer"]
    assert (found[0]["answer"], found[0]["halfrate_answer"], found[0]["halfrate_model"]) == (
        "theirs",
        "ours",
        "gpt-x",
    )
    assert not found[1]["halfrate_answer"]


def test_the_ending_says_the_format() -> None:
    assert [output_format(Path(name)) for name in ("a.jsonl", "b.CSV", "c.parquet")] == [
        "jsonl",
        "csv",
        "parquet",
    ]
    for name in ("out", "out.json", "out.xlsx", "out.tsv"):
        with pytest.raises(UsageError, match=r"\.jsonl, \.csv or \.parquet"):
            output_format(Path(name))


def test_without_pyarrow_parquet_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", absent)
    with pytest.raises(SettingsError, match=r"pip install 'halfrate\[parquet\]'"):
        output_format(Path("out.parquet"))


def test_a_parquet_file_that_is_none(tmp_path: Path) -> None:
    source = snapshot(tmp_path, b"PAR1 but no more", "parquet")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        write(source, [], tmp_path / "out.jsonl")
