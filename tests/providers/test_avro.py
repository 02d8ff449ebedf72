"""Avro, held against the library that everybody reads it with: what it writes is read the same, whatever it is."""

import io
import json
import math
from contextlib import suppress
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfrate.providers.avro import AvroError, Block, Container

SYNC = b"0123456789abcdef"
SIMPLE: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32),
    "double": st.floats(),
    "bytes": st.binary(max_size=20),
    "string": st.text(max_size=20),
}
# Those that fastavro tells from each other when it writes a value of a union.
APART = ("null", "boolean", "long", "string", "bytes")
SHORT = st.integers(-8192, 8191)


class Schemas:
    """Draws schemas and values for them. Every named type has a name of its own."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.names = 0

    def name(self) -> str:
        self.names += 1
        return f"{self.draw(st.sampled_from(('', 'some.', 'some.space.')))}t{self.names}"

    def any(self, depth: int) -> tuple[Any, st.SearchStrategy[Any]]:
        kinds = [
            *SIMPLE,
            "enum",
            "fixed",
            "spelt out",
            *(("array", "map", "union", "record") if depth else ()),
        ]
        kind = self.draw(st.sampled_from(kinds))
        match kind:
            case "enum":
                symbols = ["A", "B", "C"]
                return {"type": "enum", "name": self.name(), "symbols": symbols}, st.sampled_from(symbols)
            case "fixed":
                return {"type": "fixed", "name": self.name(), "size": 3}, st.binary(min_size=3, max_size=3)
            case "spelt out":
                return {"type": "double"}, SIMPLE["double"]
            case "array":
                items, values = self.any(depth - 1)
                return {"type": "array", "items": items}, st.lists(values, max_size=5)
            case "map":
                items, values = self.any(depth - 1)
                return {"type": "map", "values": items}, st.dictionaries(
                    st.text(max_size=3), values, max_size=3
                )
            case "union":
                branches = self.draw(st.lists(st.sampled_from(APART), min_size=1, unique=True))
                return branches, st.one_of([SIMPLE[branch] for branch in branches])
            case "record":
                return self.record(depth - 1)
            case _:
                return kind, SIMPLE[kind]

    def record(self, depth: int) -> tuple[Any, st.SearchStrategy[Any]]:
        drawn = [self.any(depth) for _ in range(self.draw(st.integers(0, 4)))]
        fields = [{"name": f"f{number}", "type": schema} for number, (schema, _) in enumerate(drawn)]
        values = {f"f{number}": strategy for number, (_, strategy) in enumerate(drawn)}
        return {"type": "record", "name": self.name(), "fields": fields}, st.fixed_dictionaries(values)


@st.composite
def files(draw: Any) -> tuple[Any, list[Any]]:
    schema, values = Schemas(draw).record(3)
    return schema, draw(st.lists(values, max_size=6))


def written(schema: Any, records: list[Any], codec: str = "null", interval: int = 16_000) -> bytes:
    file = io.BytesIO()
    parsed = fastavro.parse_schema(json.loads(json.dumps(schema)))
    fastavro.writer(file, parsed, records, codec=codec, sync_interval=interval, sync_marker=SYNC)
    return file.getvalue()


def opened(data: bytes) -> Container:
    return Container(io.BufferedReader(io.BytesIO(data)), len(data))


def read(data: bytes) -> list[Any]:
    return [record for block in opened(data) for record in block]


def one(schema: Any, body: bytes) -> Any:
    """A value, from what it is written as."""
    head = written(schema, [])
    (found,) = read(head + b"\x02" + number(len(body)) + body + SYNC)
    return found


def number(value: int) -> bytes:
    file = io.BytesIO()
    fastavro.schemaless_writer(file, {"type": "long"}, value)
    return file.getvalue()


@settings(deadline=None)
@given(files(), st.sampled_from(("null", "deflate")), st.sampled_from((1, 16_000)))
def test_what_the_library_writes(file: tuple[Any, list[Any]], codec: str, interval: int) -> None:
    schema, records = file
    data = written(schema, records, codec, interval)
    ours, theirs = read(data), list(fastavro.reader(io.BytesIO(data)))
    assert [msgspec.json.encode(record) for record in ours] == [
        msgspec.json.encode(record) for record in theirs
    ]
    assert sum(block.count for block in opened(data)) == len(records)


@given(st.lists(st.floats()), st.lists(st.one_of(SHORT, SIMPLE["long"])), st.lists(SHORT))
def test_arrays_of_numbers(doubles: list[float], longs: list[int], short: list[int]) -> None:
    kinds = {"d": "double", "l": "long", "s": "int"}
    fields = [{"name": name, "type": {"type": "array", "items": kind}} for name, kind in kinds.items()]
    schema = {"type": "record", "name": "r", "fields": [*fields, {"name": "end", "type": "string"}]}
    (found,) = read(written(schema, [{"d": doubles, "l": longs, "s": short, "end": "."}]))
    assert list(map(math.copysign, [1.0] * len(doubles), found["d"])) == [
        math.copysign(1.0, x) for x in doubles
    ]
    assert [str(x) for x in found["d"]] == [str(x) for x in doubles]
    assert (list(found["l"]), list(found["s"]), found["end"]) == (longs, short, ".")


def test_arrays_and_maps_in_several_blocks() -> None:
    """Some of which say how many bytes they have."""
    items = number(2) + b"\x02\x04" + number(-2) + number(2) + b"\x06\x08" + b"\0"
    assert list(one({"type": "array", "items": "int"}, items)) == [1, 2, 3, 4]
    pairs = number(1) + b"\x02a\x02" + number(-1) + number(3) + b"\x02b\x04" + b"\0"
    assert one({"type": "map", "values": "int"}, pairs) == {"a": 1, "b": 2}


def test_types_that_hold_themselves() -> None:
    again = {"name": "rest", "type": ["null", "chain"]}
    schema = {"type": "record", "name": "a.chain", "fields": [{"name": "n", "type": "int"}, again]}
    record = {"n": 1, "rest": {"n": 2, "rest": None}}
    assert read(written(schema, [record])) == [record]
    with pytest.raises(AvroError, match="nested too deeply"):
        one(schema, b"\0\x02" * 100_000)


def test_names_in_name_spaces() -> None:
    fixed = {"type": "fixed", "name": "two", "namespace": "b", "size": 2}
    fields = [
        {"name": "x", "type": fixed},
        {"name": "y", "type": "b.two"},
        {"name": "z", "type": {"type": "enum", "name": "kind", "symbols": ["K"]}},
        {"name": "w", "type": "kind"},
    ]
    schema = {"type": "record", "name": "r", "namespace": "a", "fields": fields}
    record = {"x": b"xx", "y": b"yy", "z": "K", "w": "K"}
    assert read(written(schema, [record])) == [record]


def test_a_logical_type_is_what_it_is_made_of() -> None:
    assert (
        one({"type": "long", "logicalType": "timestamp-millis"}, number(1_800_000_000_000))
        == 1_800_000_000_000
    )


# ---------------------------------------------------------------- what is not whole

ROWS = {
    "type": "record",
    "name": "row",
    "fields": [{"name": "id", "type": "string"}, {"name": "v", "type": {"type": "array", "items": "double"}}],
}
RECORDS = [{"id": f"r{n}", "v": [n / 7, n / 11]} for n in range(4)]
WHOLE = written(ROWS, RECORDS, interval=1)
ENDS = [at + len(SYNC) for at in range(len(WHOLE)) if WHOLE.startswith(SYNC, at)]


def test_a_file_that_ends_early() -> None:
    """At the end of a block there is nothing to tell it by; anywhere else there is."""
    assert len(ENDS) == 1 + len(RECORDS)
    for end in range(len(WHOLE)):
        if end in ENDS:
            assert len(read(WHOLE[:end])) == ENDS.index(end)
        else:
            with pytest.raises(AvroError):
                read(WHOLE[:end])


def test_a_file_that_is_shorter_than_it_was() -> None:
    with pytest.raises(AvroError, match="ends too early"):
        list(Container(io.BufferedReader(io.BytesIO(WHOLE[:-1])), len(WHOLE)))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"custom_id":"a"}\n', "no Avro"),
        (WHOLE[:-1] + b"?", "does not end where it should"),
        (WHOLE + number(-1) + number(0) + SYNC, "fewer than no records"),
        (WHOLE + number(1 << 40) + number(0) + SYNC, "cannot have"),
        (WHOLE + number(1) + number(-1) + SYNC, "ends too early"),
        (WHOLE + number(1) + number(2**62) + SYNC, "ends too early"),
        (WHOLE + b"\xff" * 100, "too early|too large"),
        (WHOLE.replace(b"\x08null", b"\x08zstd"), "'zstd'"),
        (WHOLE.replace(b'"double"', b'"treble"'), "schema makes no sense"),
        (WHOLE.replace(b'"array"', b'"arrow"'), "schema makes no sense"),
        (WHOLE.replace(b'"fields"', b'"feilds"'), "schema makes no sense"),
        (WHOLE.replace(b'{"', b"{{", 1), "schema makes no sense"),
        (WHOLE.replace(b"avro.schema", b"avro.scheme"), "schema makes no sense"),
        (WHOLE.replace(b"\x14avro.codec\x08null", b"\x14avro.codec\x08\xff\xff\xff\xff"), "packed by"),
    ],
)
def test_a_file_that_makes_no_sense(data: bytes, why: str) -> None:
    with pytest.raises(AvroError, match=why):
        read(data)


@pytest.mark.parametrize(
    ("schema", "body", "why"),
    [
        ("string", b"\x06ab", "ends too early"),
        ("string", b"\x01", "ends too early"),
        ("string", b"\x02\xff", "not UTF-8"),
        ("string", b"", "ends too early"),
        ("long", b"\xff" * 9, "ends too early"),
        ("long", b"\xff" * 9 + b"\x02", "too large"),
        ("long", b"\x80" * 10 + b"\x00", "too large"),
        (["null", "string"], b"\x04", "no type of its schema's"),
        (["null", "string"], b"\x01", "no type of its schema's"),
        ({"type": "enum", "name": "e", "symbols": ["A"]}, b"\x02", "no type of its schema's"),
        ({"type": "array", "items": "double"}, b"\x04" + bytes(15), "ends too early"),
        ({"type": "array", "items": "double"}, number(2**61), "ends too early"),
        ({"type": "array", "items": "int"}, b"\x06\x02\x02", "ends too early"),
        ({"type": "array", "items": "int"}, b"\x04\x02\x80", "ends too early"),
        ({"type": "array", "items": "int"}, number(2**61), "ends too early"),
    ],
)
def test_a_record_that_makes_no_sense(schema: Any, body: bytes, why: str) -> None:
    with pytest.raises(AvroError, match=why):
        one(schema, body)


@given(st.binary(max_size=200))
def test_whatever_a_record_holds(body: bytes) -> None:
    """Nothing but an AvroError comes of it, and the next block is read as if nothing had been."""
    last = WHOLE[ENDS[-2] :]
    blocks: list[Block] = list(opened(WHOLE[: ENDS[0]] + number(3) + number(len(body)) + body + SYNC + last))
    with suppress(AvroError):
        assert len(list(blocks[0])) == 3
    assert [msgspec.to_builtins(record) for record in blocks[1]] == [
        {**RECORDS[-1], "v": tuple(RECORDS[-1]["v"])}
    ]


def test_a_block_that_cannot_be_unpacked() -> None:
    data = written(ROWS, RECORDS, "deflate", 1)
    ends = [at for at in range(len(data)) if data.startswith(SYNC, at)]
    harmed = data[: ends[1] - 6] + b"\xff" * 6 + data[ends[1] :]
    blocks = list(opened(harmed))
    with pytest.raises(AvroError, match="cannot be unpacked"):
        list(blocks[0])
    assert [record["id"] for block in blocks[1:] for record in block] == ["r1", "r2", "r3"]


@pytest.mark.parametrize(
    "schema",
    [
        5,
        "number",
        ["null", 5],
        {"type": "fixed", "name": "f", "size": "many"},
        {"type": "enum", "name": "e", "symbols": 1},
        {"type": "record", "name": 5, "fields": []},
        {"type": "record", "name": "r", "fields": ["string"]},
        {"name": "r", "fields": []},
    ],
)
def test_a_schema_that_makes_no_sense(schema: Any) -> None:
    told = json.dumps(schema).encode()
    head = b"Obj\x01\x02" + number(11) + b"avro.schema" + number(len(told)) + told + b"\0" + SYNC
    with pytest.raises(AvroError, match="schema makes no sense"):
        opened(head)
