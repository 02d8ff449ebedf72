"""Files that are no exports, or broken ones: a message that names the place, and never a traceback."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halfrate.base.errors import HalfrateError, InputError
from halfrate.bills.detect import TABLES, open_bill

COSTS = "start_time,amount_value,amount_currency,line_item\n"
CUR = (
    "line_item_usage_type,line_item_usage_start_date,line_item_unblended_cost,line_item_product_code,"
    "line_item_usage_amount,pricing_unit\n"
)


def page(amount: str = "1", at: str = "1789948800") -> str:
    cost = (
        f'{{"object":"organization.costs.result","amount":{{"value":{amount},"currency":"usd"}},'
        '"line_item":"gpt-4o, input"}'
    )
    return f'{{"object":"page","data":[{{"object":"bucket","start_time":{at},"results":[{cost}]}}]}}'


def trouble(path: Path) -> InputError:
    with pytest.raises(InputError) as raised, open_bill(path) as bill:
        list(bill.lines)
    message = str(raised.value)
    assert "Nothing was compared" in message
    assert path.name in message
    return raised.value


def fault(tmp_path: Path, data: str | bytes) -> InputError:
    path = tmp_path / "bill.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return trouble(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"  \n ", "empty"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"PK\x03\x04....", "ZIP"),
        (b"<html>", "HTML"),
        (b"\xff\xfea\x00", "UTF-16"),
        (b"PAR1 but not really", "Parquet"),
        (b"\x1f\x8bnot gzip", "cannot be read"),
        (b"a,b,c\n1,2,3\n", "its columns are a, b, c"),
        (b"caf\xe9,b\n", "UTF-8"),
        (b"{", "no JSON"),
        (b"[1, 2]", "no object"),
        (b'{"data": [], "has_more": false}', "no export"),
        (b'{"hello": 1}', "no export"),
        (b"[" * 100_000, "no JSON"),
        (b'{"a":' * 100_000, "no JSON"),
    ],
)
def test_what_is_no_export_is_named(tmp_path: Path, data: bytes, words: str) -> None:
    assert words in str(fault(tmp_path, data))


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        (COSTS + "1789948800,abc,usd,x\n", 2, "amount says 'abc'"),
        (COSTS + "1789948800,1,usd,x\n1789948800,NaN,usd,x\n", 3, "no amount"),
        (COSTS + "1789948800,1e999999999,usd,x\n", 2, "no amount"),
        (COSTS + "yesterday,1,usd,x\n", 2, "no day"),
        (COSTS + "99999999999999999999,1,usd,x\n", 2, "no day"),
        (COSTS + "1789948800,1,usd\n", 2, "3 cells under 4 columns"),
        (COSTS + '1789948800,1,usd,"x\n', 2, "no CSV"),
        (COSTS.encode() + b"1789948800,1,usd,caf\xe9\n", 1, "UTF-8"),
        (CUR + "USE1-NovaLite-input-tokens,2026-09-21,1,AmazonBedrock,1,furlongs\n", 2, "how many tokens"),
        (CUR + "USE1-NovaLite-input-tokens,2026-13-41,1,AmazonBedrock,1,1K tokens\n", 2, "no day"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, data: str | bytes, line: int, words: str) -> None:
    error = fault(tmp_path, data)
    assert words in str(error)
    if "UTF-8" not in words:
        assert error.line == line
        assert f"line {line}" in str(error)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (page("1", at='"x"'), "no day"),
        (page('"one"'), "no amount"),
        (page("true"), "no amount"),
        (page("[1]"), "no amount"),
        (page("1e400"), "no amount"),
    ],
)
def test_a_broken_page_is_named(tmp_path: Path, text: str, words: str) -> None:
    assert words in str(fault(tmp_path, text))


def test_a_line_of_json_is_named_too(tmp_path: Path) -> None:
    error = fault(tmp_path, f"{page()}\n{page()}\n{{broken\n")
    assert (error.line, "line 3" in str(error)) == (3, True)


def test_two_reports_in_one_file_are_told_apart(tmp_path: Path) -> None:
    claude = '{"data":[{"starting_at":"2026-09-21T00:00:00Z","results":[{"amount":"1"}]}]}'
    assert "in a file of its own" in str(fault(tmp_path, f"{page()}\n{claude}\n"))


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    trouble(tmp_path / "missing.csv")
    trouble(tmp_path)


def test_odd_things_that_are_no_fault(tmp_path: Path) -> None:
    """Empty lines, a byte order mark, columns in any order and case, amounts with commas, lines of nothing."""
    path = tmp_path / "bill"
    path.write_text(
        '\ufeffLINE_ITEM,Amount_Value,START_TIME\n\n"gpt-4o, input","1,234.5",1789948800\n,,1789948800\n'
    )
    with open_bill(path) as bill:
        (line,) = bill.lines
    assert line.money == 1_234_500_000_000_000


COLUMNS = sorted({name for form in TABLES for names in form.needs for name in names})


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cells=st.lists(
        st.tuples(*[st.text(st.characters(exclude_categories=["Cs"]), max_size=12) for _ in COLUMNS]),
        max_size=3,
    ),
    cut=st.integers(0, 400),
)
def test_any_table_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, ...]], cut: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    rows = [",".join(COLUMNS), *(",".join(row) for row in cells)]
    path.write_bytes("\n".join(rows).encode()[: cut + len(rows[0])])
    with suppress(HalfrateError), open_bill(path) as bill:
        list(bill.lines)


@settings(deadline=None)
@given(data=st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["data", "results", "object", "amount", "value", "start_time", "starting_at", "line_item"]),
        inner,
        max_size=4,
    ),
))  # fmt: skip
def test_any_json_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: object) -> None:
    import json

    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(
        json.dumps({"object": "page", "data": [{"object": "bucket", "start_time": 1, "results": data}, data]})
    )
    with suppress(HalfrateError), open_bill(path) as bill:
        list(bill.lines)
