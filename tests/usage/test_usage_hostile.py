"""Files from outside: what is no log is refused with a way out, and what is broken in one is counted and told."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halfrate.base.errors import InputError
from halfrate.core.audit_call import Call
from halfrate.usage import documents, reading
from halfrate.usage.detect import FORMATS, recognised
from halfrate.usage.formats import Format
from halfrate.usage.reading import UsageLog

from .made import document, lines, packed, read, table
from .workloads import Event, litellm_row

ROW = litellm_row(Event(1790845200.25, "nightly-labels", 900, 30, 1.5), random.Random(0))


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    return str(caught.value)


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf \n", "empty"),
        (b"PAR1\x00\x00", "duckdb"),
        (b"\x28\xb5\x2f\xfd\x00", "zstd -d"),
        (b"PK\x03\x04abc", "Excel"),
        (b"\xff\xfet\x00i\x00", "UTF-16"),
        (b"\x00\x01\x02 binary", "no text"),
        (b"name,price\nx,1\n", "Its columns are: name, price"),
        (b'{"a": 1}\n{"a": 2}\n', "Its fields are: a"),
        (b"[1, 2, 3]", "holds no object"),
        (b"[]", "holds no object"),
        (b'[{"startTime": "2026-10-01", "spend": 1, "users": {}, "models": {}}]', "summarize=false"),
        (b"time,model,input_tokens\n", "no calls"),
        (b"[" * 100_000, "Its fields are: none"),
    ],
)
def test_what_is_no_log_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    from halfrate.service.audit import audit

    path = tmp_path / "log"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        audit([path])
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "nothing")
    assert "is a folder" in refused(tmp_path)


def test_a_log_of_nonsense_is_refused_with_its_first_faults(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(ROW) + "\n" + '{"spend": \n' * 4)
    said = refused(path)
    assert "4 of 5 rows" in said
    assert "line 2" in said


def test_an_open_quote_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_LONGEST", 1000)
    said = refused(table(tmp_path, 'time,model,input_tokens\n2026-10-01,"m,5\n' + "x" * 2000))
    assert "quote" in said


# ---------------------------------------------------------------- counted


def test_a_broken_row_is_told_and_the_others_count(tmp_path: Path) -> None:
    path = lines(tmp_path, ROW, ROW, ROW)
    path.write_bytes(path.read_bytes() + b'{"spend": 1, \xff\n' + json.dumps(ROW).encode()[:-9])
    log = UsageLog(path)
    assert sum(len(block) for block in log.blocks()) == 3
    assert (log.rows, log.unreadable) == (5, 2)
    assert log.faults[0].startswith("line 4: ")
    assert log.faults[1] == "line 5: it is cut off"


def test_a_document_that_ends_early_counts_as_far_as_it_goes(tmp_path: Path) -> None:
    path = document(tmp_path, [ROW, ROW, ROW])
    path.write_bytes(path.read_bytes()[:-40])
    log = UsageLog(path)
    assert sum(len(block) for block in log.blocks()) == 2
    assert log.faults == ["after 2 entries it ends in the middle"]


def test_a_packed_log_that_ends_early_counts_as_far_as_it_goes(tmp_path: Path) -> None:
    draw = random.Random(1)
    rows = [ROW | {"request_id": str(draw.random())} for _ in range(5000)]
    path = packed(lines(tmp_path, *rows))
    path.write_bytes(path.read_bytes()[:-5000])
    log = UsageLog(path)
    assert 0 < sum(len(block) for block in log.blocks()) < 5000
    assert "unpacked" in log.faults[-1]


def test_a_broken_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.gz"
    path.write_bytes(gzip.compress(b"x" * 100)[:12])
    assert "cannot be unpacked" in refused(path)


def test_a_line_without_an_end_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_LONGEST", 100_000)
    monkeypatch.setattr(reading, "_BLOCK", 4096)
    path = lines(tmp_path, *[ROW] * 600)
    path.write_bytes(path.read_bytes() + b'{"spend": "' + b"x" * 500_000 + b'"}\n' + json.dumps(ROW).encode())
    log = UsageLog(path)
    assert sum(len(block) for block in log.blocks()) == 601
    assert log.unreadable == 1


def test_an_entry_that_is_too_large_ends_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "LARGEST", 100_000)
    path = tmp_path / "log.json"
    body = json.dumps(ROW)
    path.write_text("[" + ",\n".join([body] * 400) + ',\n{"spend": "' + "x" * 900_000)
    log = UsageLog(path)
    assert sum(len(block) for block in log.blocks()) == 400
    assert log.unreadable == 1


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_entries_do_not_depend_on_where_blocks_end(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [{"a": 1.5e3, "b": ["x", {"\u00e9": None}]}, {"c": -12, "d": "\U0001f600]}"}, {}]
    monkeypatch.setattr(documents, "_BLOCK", size)
    path = tmp_path / "log.json"
    path.write_bytes(json.dumps({"n": 12345, "data": values}, ensure_ascii=False).encode())
    with path.open("rb") as file:
        assert list(documents.entries(file, ("data",))) == values


def test_rows_may_have_cells_too_few_or_too_many(tmp_path: Path) -> None:
    log = UsageLog(
        table(
            tmp_path,
            "time,model,input_tokens,output_tokens,note\n"
            "2026-10-01,m,1,2,a\n2026-10-01,m,3,4\n2026-10-01,m\n2026-10-01,m,5,6,a,b,c\n",
        )
    )
    assert [call.input for block in log.blocks() for call in block] == [1, 3, 5]
    assert log.faults == ["line 4: it has 2 cells, and the header 5"]


# ---------------------------------------------------------------- nothing that stands in a row can break the reading

_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.just("2026-10-01T00:00:00Z"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_NAMES: dict[str, tuple[str, ...]] = {
    "halfrate": ("log", "time", "tokens"),
    "otel": ("startTimeUnixNano", "attributes"),
    "litellm": ("startTime", "spend", "call_type"),
    "langfuse": ("trace_id", "start_time", "type"),
    "helicone": ("request_created_at", "request_id"),
    "openai": ("start_time", "end_time", "results"),
    "anthropic": ("starting_at", "ending_at"),
    "plain": ("time", "model", "input_tokens"),
}
_WORDS = (
    "gen_ai.operation.name",
    "chat",
    "value",
    "key",
    "stringValue",
    "arrayValue",
    "values",
    "usage_object",
)


@pytest.mark.parametrize("format_", FORMATS, ids=lambda one: one.name)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_value_breaks_a_reader(format_: Format, data: st.DataObject) -> None:
    row = format_.rows(frozenset(_NAMES[format_.name]))
    names = [field.encode_name for field in msgspec.structs.fields(row)]
    inner = st.dictionaries(st.sampled_from([*names, *_WORDS]), _json, max_size=4)
    value = data.draw(st.dictionaries(st.sampled_from(names), _json | inner | st.lists(inner, max_size=2)))
    try:
        found = format_.read(msgspec.convert(value, row))
    except msgspec.ValidationError:
        # Of another type than the row has: the reader of files counts it as unreadable.
        return
    for call in found if isinstance(found, list) else [found]:
        if call is None:
            continue
        assert isinstance(call, Call)
        tokens = (call.input, call.cached, call.write_5m, call.write_1h, call.output, call.calls)
        assert all(type(count) is int and count >= 0 for count in tokens)
        assert call.cost is None or (type(call.cost) is int and call.cost >= 0)
        for name in (call.model, call.job, call.team, call.user, call.session, call.key, call.endpoint):
            assert name is None or (isinstance(name, str) and 0 < len(name) <= 200)
        for length in (call.duration, call.first_token, call.deadline):
            assert length is None or 0 <= length < float("inf")


@pytest.mark.parametrize("format_", FORMATS, ids=lambda one: one.name)
def test_each_format_is_known_by_its_fields(format_: Format) -> None:
    value: dict[str, Any] = dict.fromkeys(_NAMES[format_.name], "x")
    assert recognised("log", json.dumps(value).encode()).format is format_
    assert recognised("log", (",".join(value) + "\n").encode()).format is format_


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_no_bytes_break_the_recognition(content: bytes) -> None:
    try:
        found = recognised("log", content)
    except InputError:
        return
    assert found.format.fits(found.names)


def test_the_name_of_a_file_says_nothing(tmp_path: Path) -> None:
    (call,) = read(lines(tmp_path, ROW, name="usage.csv"))
    assert call.job == "nightly-labels"
