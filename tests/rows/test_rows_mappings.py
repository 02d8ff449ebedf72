import dataclasses
import datetime as dt
import decimal
import io
import json
import types
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfrate.base.errors import InputError, SettingsError
from halfrate.rows.mappings import is_arrow, spool_arrow, spool_mappings

from .made import absent


def spooled(rows: Any) -> list[Any]:
    out = io.BytesIO()
    spool = spool_arrow if is_arrow(rows) else spool_mappings
    count = spool(rows, out.write)
    lines = out.getvalue().split(b"\n")
    assert lines.pop() == b""
    assert len(lines) == count
    return [json.loads(line, parse_float=decimal.Decimal) for line in lines]


@given(
    st.lists(st.dictionaries(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8"))))
)
def test_any_text(rows: list[dict[str, str]]) -> None:
    assert spooled(rows) == rows


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(1.5), decimal.Decimal("1.5")),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.float32("nan"), None),
        (np.array([1, 2]), [1, 2]),
        (np.array([1]), [1]),
        (np.datetime64("2026-01-02"), "2026-01-02"),
        (float("nan"), None),
        (float("inf"), None),
        (decimal.Decimal("12.50"), decimal.Decimal("12.50")),
        (decimal.Decimal("NaN"), None),
        ({"k": [decimal.Decimal("Infinity")]}, {"k": [None]}),
        ("NaN", "NaN"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Path("a") / "b", "a/b"),
        (pd.Timestamp("2026-01-02"), "2026-01-02T00:00:00"),
        (pd.NaT, None),
        (pd.NA, None),
        (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "2026-01-02T00:00:00Z"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.timedelta(days=1), "P1D"),
        (types.MappingProxyType({"k": 1}), {"k": 1}),
        (2**70, 2**70),
        (None, None),
    ],
)
def test_values(value: Any, expected: Any) -> None:
    assert spooled([{"v": value}]) == [{"v": expected}]


def test_rows_are_streamed_in_blocks() -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for i in range(5000):
            yield {"i": i, "text": "x" * 200}

    blocks: list[bytes] = []
    assert spool_mappings(rows(), blocks.append) == 5000
    assert len(blocks) > 2
    assert json.loads(b"".join(blocks).splitlines()[4999])["i"] == 4999


@dataclasses.dataclass
class Opaque:
    x: int


class Odd:
    pass


@pytest.mark.parametrize("row", ["text", 1, None, ["a"], Opaque(1)])
def test_an_element_that_is_no_mapping_is_named(row: Any) -> None:
    with pytest.raises(InputError, match=r"rows\[1\] is a .*not a mapping") as caught:
        spooled([{"a": 1}, row])
    assert caught.value.row == 1


def test_what_has_no_form_in_json_is_named() -> None:
    loop: dict[str, Any] = {}
    loop["x"] = loop
    for row, reason in [
        ({"a": Odd()}, "type Odd"),
        ({"a": "\ud800"}, "surrogates"),
        (loop, "recursion"),
        ({"a": {None: 1}}, ""),
    ]:
        with pytest.raises(InputError, match=rf"rows\[1\] cannot be written as JSON.*{reason}") as caught:
            spooled([{"a": 1}, row])
        assert caught.value.row == 1


def test_data_frames() -> None:
    frame = pd.DataFrame(
        {
            "s": ["a", None, "ünï\u2028"],
            "n": [1, 2, 3],
            "f": [1.5, float("nan"), 2.0],
            "at": pd.to_datetime(["2026-01-02T03:04:05.123456789"] * 3),
        }
    )
    at = "2026-01-02T03:04:05.123456"
    rows = spooled(frame[frame.n > 1])
    assert rows == [{"s": None, "n": 2, "f": None, "at": at}, {"s": "ünï\u2028", "n": 3, "f": 2, "at": at}]
    assert spooled(pl.DataFrame({"s": ["a", None], "l": [[1], []], "d": [dt.date(2026, 1, 2)] * 2})) == [
        {"s": "a", "l": [1], "d": "2026-01-02"},
        {"s": None, "l": [], "d": "2026-01-02"},
    ]
    nested = pa.table(
        {"m": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())), "b": [b"x", None]}
    )
    assert spooled(nested) == [{"m": {"k": 1}, "b": "eA=="}, {"m": None, "b": None}]
    assert len(spooled(pl.DataFrame({"n": range(9000)}))) == 9000


def test_what_is_an_arrow_table() -> None:
    assert is_arrow(pd.DataFrame())
    assert is_arrow(pl.DataFrame())
    assert is_arrow(pa.table({}))
    assert not is_arrow([{"a": 1}])
    assert not is_arrow(pa.Table)


def test_two_columns_of_one_name_and_no_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="two columns named 'a'"):
        spooled(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]))
    monkeypatch.setattr("importlib.util.find_spec", absent)
    with pytest.raises(SettingsError, match="needs pyarrow"):
        spooled(pl.DataFrame({"a": [1]}))
