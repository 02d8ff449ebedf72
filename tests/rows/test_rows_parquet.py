import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfrate.base.errors import InputError, SettingsError
from halfrate.rows.parquet_table import ParquetTable

from .made import absent, template, texts_of


def table(path: Path, prompt: str = "{text}", **options: Any) -> ParquetTable:
    return ParquetTable(path, name="in.parquet", template=template(prompt), **options)


def made(folder: Path, columns: dict[str, Any], **options: Any) -> Path:
    path = folder / "in.parquet"
    pq.write_table(pa.table(columns), path, **options)
    return path


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1))
def test_any_text(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = made(tmp_path_factory.mktemp("in"), {"text": texts, "n": range(len(texts))}, row_group_size=3)
    assert texts_of(table(path).prompts()) == texts
    assert texts_of(table(path, "{n}: {text}!").prompts()) == [
        f"{n}: {text}!" for n, text in enumerate(texts)
    ]


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (pa.array([7]), "7"),
        (pa.array([1.5]), "1.5"),
        (pa.array([True]), "true"),
        (pa.array([dt.date(2026, 1, 2)]), "2026-01-02"),
        (
            pa.array([dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC)], pa.timestamp("ns", "UTC")),
            "2026-01-02T03:00:00Z",
        ),
        (pa.array([[1, 2]]), "[1,2]"),
        (pa.array([{"k": ["ü", None]}]), '{"k":["ü",null]}'),
        (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), '{"k":1}'),
        (pa.array(["x"]).dictionary_encode(), "x"),
        (pa.array(["x"], pa.large_string()), "x"),
    ],
)
def test_other_values_read_as_json(tmp_path: Path, column: Any, text: str) -> None:
    assert texts_of(table(made(tmp_path, {"text": column})).prompts()) == [text]


def test_rows_at_fault(tmp_path: Path) -> None:
    path = made(tmp_path, {"text": ["a"] * 5000 + [None], "other.name": ["x"] * 5001})
    with pytest.raises(InputError, match="row 5001: column 'text' is empty") as caught:
        list(table(path).prompts())
    assert (caught.value.row, caught.value.line) == (5000, None)
    assert texts_of(table(path, allow_empty=True).prompts())[-1] == ""
    assert len(texts_of(table(path, "{other.name}").prompts())) == 5001
    with pytest.raises(InputError, match=r"no column 'label'.*It has: text, other\.name"):
        list(table(path, "{label}").prompts())
    with pytest.raises(InputError, match="no column 'key'"):
        list(table(path, id_column="key").prompts())
    with pytest.raises(InputError, match="is empty"):
        list(table(made(tmp_path, {"text": [""]})).prompts())
    with pytest.raises(InputError, match="is empty"):
        list(table(made(tmp_path, {"text": [float("nan")]})).prompts())
    with pytest.raises(InputError, match="holds bytes"):
        list(table(made(tmp_path, {"text": [b"x"]})).prompts())
    with pytest.raises(InputError, match="no rows"):
        list(table(made(tmp_path, {"text": pa.array([], pa.string())})).prompts())


def test_taken_names_and_prompts_without_columns(tmp_path: Path) -> None:
    read = table(
        made(tmp_path, {"text": ["a", "b"], "answer": ["x", "y"]}), "same", reserved=("answer", "status")
    )
    assert texts_of(read.prompts()) == ["same", "same"]
    assert read.taken == {"answer"}


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "in.parquet"
    path.write_bytes(b"text\na\n")
    with pytest.raises(InputError, match=r"in\.parquet cannot be read as Parquet"):
        list(table(path).prompts())
    pq.write_table(pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), path)
    with pytest.raises(InputError, match="two columns named 'text'"):
        list(table(path).prompts())
    monkeypatch.setattr("importlib.util.find_spec", absent)
    with pytest.raises(SettingsError, match=r"Parquet needs pyarrow: pip install 'halfrate\[parquet\]'"):
        table(path)
