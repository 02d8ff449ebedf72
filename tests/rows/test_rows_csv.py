import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfrate.base.errors import InputError
from halfrate.rows.csv_table import CsvTable, read_csv_rows

from .made import template, texts_of

CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


def table(data: bytes, prompt: str = "{text}", **options: Any) -> CsvTable:
    return CsvTable(io.BytesIO(data), name="in.csv", template=template(prompt), **options)


def written(rows: list[list[str]], delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator="\r\n", quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue().encode()


@given(st.lists(st.tuples(CELL, CELL), min_size=1), st.sampled_from(",\t"))
def test_any_cell_reaches_the_prompt(rows: list[tuple[str, str]], delimiter: str) -> None:
    data = written([["a", "text"], *map(list, rows)], delimiter)
    read = table(data, "{text}-{a}", delimiter=delimiter)
    assert texts_of(read.prompts()) == [f"{text}-{a}" for a, text in rows]
    assert texts_of(table(data, delimiter=delimiter).prompts()) == [text for _, text in rows]


def test_rows_are_read_in_blocks_with_the_copy_beside_them() -> None:
    rows = [[str(i), f"line\r\n{i}\nmore"] for i in range(5000)]
    data = b"\xef\xbb\xbf" + written([["id", "text"], *rows])
    copy = io.BytesIO()
    blocks = list(table(data, tee=copy.write).prompts())
    assert len(blocks) > 2
    assert texts_of(blocks) == [text for _, text in rows]
    assert copy.getvalue() == data


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        (b"text,b\na,1\nb\n", 3, "1 cell, and the header has 2"),
        (b'text,b\n"a\n\na",1\n\nb,2,3\n', 6, "3 cells, and the header has 2"),
        (b"a,b\n1,2\n", 1, "no column 'text'.*It has: a, b"),
        (b"a;text\n1;2\n", 1, "separated by ';'"),
        (b"text,text\n1,2\n", 1, "'text' stands in the header twice"),
        (b'text,b\n"a\nb",1\n,2\n', 4, "'text' is empty"),
        (b"text\na\n\xff\n", 3, "byte 1 is not UTF-8"),
        (b"text\na\nb\0c\n", 3, "NUL byte"),
        (b'text\na\n"b\nc\n', 4, "never closed"),
        (b'text\na\n"b"c\n', 3, "cannot be read as CSV"),
    ],
)
def test_a_row_at_fault_is_named_by_its_line(data: bytes, line: int, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        list(table(data).prompts())
    assert caught.value.line == line
    assert f"line {line}" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\n\n", b"text\n", b"text\n\n"])
def test_an_input_without_rows_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="no rows"):
        list(table(data).prompts())


def test_empty_cells_can_be_allowed() -> None:
    assert texts_of(table(b'text,b\n,1\na,2\n"",3\n', "<{text}>", allow_empty=True).prompts()) == [
        "<>",
        "<a>",
        "<>",
    ]


def test_taken_names_and_the_id_column() -> None:
    read = table(b"text,answer,id\na,b,c\n", reserved=("answer", "status"), id_column="id")
    assert texts_of(read.prompts()) == ["a"]
    assert read.taken == {"answer"}
    with pytest.raises(InputError, match="'key'"):
        list(table(b"text\na\n", id_column="key").prompts())


def test_a_cell_larger_than_the_parsers_usual_limit() -> None:
    long = "x" * 3_000_000
    assert texts_of(table(written([["text"], [long], ["b"]])).prompts()) == [long, "b"]


def test_a_prompt_without_columns_is_the_same_for_all_rows() -> None:
    assert texts_of(table(b"text\na\nb\n", "hello").prompts()) == ["hello", "hello"]


def test_the_file_is_read_again_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "copy"
    rows = [[str(i), f'"{i}"\r\n', ""] for i in range(4100)]
    path.write_bytes(b"\xef\xbb\xbf\r\n" + written([["a", "b", "c"], *rows]) + b"\r\n")
    header, blocks = read_csv_rows(path, ",")
    assert header == ["a", "b", "c"]
    assert [row for block in blocks for row in block] == rows
