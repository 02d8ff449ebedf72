"""Results of Cohere's batches: records of Avro, written as lines of JSON, and those lines understood.

The shape is that of result files which the service wrote in 2026-09, and of its batch guide:
`{custom_id, body, error}`, where an error is a text alone, "" for none.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from halfrate.base.direct import DirectWriter
from halfrate.base.errors import OutcomeUnknown
from halfrate.base.results import MAY_BE_PAID, Kind, LineReader, ResultRow, Tokens
from halfrate.providers.avro import AvroError, Block, Container
from halfrate.providers.files import unwritten
from halfrate.providers.plain import Columns, plain_reader, row_number
from halfrate.providers.translation.embeddings import listed

_UNREADABLE: Final = {"unreadable": True}
_KINDS: Final = ("float", "int8", "uint8", "binary", "ubinary", "base64")


class _Units(msgspec.Struct, gc=False):
    input_tokens: int | float | None = None
    output_tokens: int | float | None = None


class _Meta(msgspec.Struct, gc=False):
    billed_units: _Units | None = None


class _Body(msgspec.Struct, gc=False):
    embeddings: dict[str, msgspec.Raw] | None = None
    meta: _Meta | None = None


class _Line(msgspec.Struct, gc=False):
    custom_id: str
    body: _Body | None = None
    error: str | None = None


class _WholeBody(msgspec.Struct, gc=False):
    embeddings: dict[str, Any] | None = None
    meta: _Meta | None = None


class _Named(msgspec.Struct, gc=False):
    custom_id: str
    body: Any = None


class _OneVector(msgspec.Struct, gc=False):
    """One vector of numbers as they are, and none of another kind."""

    vectors: tuple[msgspec.Raw] = msgspec.field(name="float")
    int8: None = None
    uint8: None = None
    binary: None = None
    ubinary: None = None
    base64: None = None


class _PlainMeta(msgspec.Struct, gc=False):
    billed_units: msgspec.Raw


class _PlainBody(msgspec.Struct, gc=False):
    embeddings: _OneVector
    meta: _PlainMeta


class _Answered(msgspec.Struct, gc=False):
    """An answered row, and nothing out of the ordinary: strict, and so quick."""

    custom_id: str
    body: _PlainBody
    error: Literal[""] | None = None


_decode = msgspec.json.Decoder(_Line).decode
_decode_answered = msgspec.json.Decoder(_Answered).decode
_decode_units = msgspec.json.Decoder(_Units | None).decode
_decode_named = msgspec.json.Decoder(_Named).decode
_decode_vectors = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode_into = msgspec.json.Encoder().encode_into


def line_reader(row_prefix: str) -> LineReader:
    """A reader of one batch's result lines, those of realtime calls among them."""

    def read(line: bytes) -> ResultRow:
        try:
            found = _decode(line)
        except msgspec.ValidationError:
            named = _decode_named(line)
            kind, error = (
                (Kind.FAILED, MAY_BE_PAID) if named.body else (Kind.FAILED_PASSING, "not understood")
            )
            return ResultRow(row_number(named.custom_id, row_prefix), kind, error=error)
        row = row_number(found.custom_id, row_prefix)
        if found.error or found.body is None or not found.body.embeddings:
            # There is nothing but a text to tell what is final from what is not: a row may try as often as any.
            return ResultRow(row, Kind.FAILED_PASSING, error=found.error or "no reason given")
        tokens = _tokens(found.body.meta.billed_units) if found.body.meta is not None else None
        return ResultRow(row, Kind.SUCCEEDED, _vectors(found.body.embeddings), tokens, "", "stop")

    return LineReader(read, plain_reader(_decode_answered, _columns, row_prefix), _tokens_in)


class _Whole(msgspec.Struct):
    body: _WholeBody | None = None


_decode_whole = msgspec.json.Decoder(_Whole).decode


def list_in(line: bytes) -> dict[str, Any] | None:
    """The vectors of a good line as a list of OpenAI's; None where there are none that are numbers."""
    body = _decode_whole(line).body
    vectors = body.embeddings.get("float") if body is not None and body.embeddings else None
    if body is None or vectors is None:
        return None
    tokens = _tokens(body.meta.billed_units) if body.meta is not None else None
    return listed(vectors, "", tokens.input if tokens is not None else None)


def _columns(answered: list[_Answered]) -> Columns:
    return Columns(
        [line.custom_id for line in answered],
        [line.body.embeddings.vectors[0] for line in answered],
        [line.body.meta.billed_units for line in answered],
        [""] * len(answered),
        ["stop"] * len(answered),
    )


def _vectors(found: dict[str, msgspec.Raw]) -> bytes:
    """The vectors of a row, as they came; of several kinds, by kind."""
    kinds = {kind: bytes(found[kind]) for kind in _KINDS if kind in found}
    single = {kind: _one(raw) for kind, raw in kinds.items() if raw != b"null"}
    if len(single) == 1:
        return next(iter(single.values()))
    return b"{%b}" % b",".join(b'"%b":%b' % (kind.encode(), raw) for kind, raw in single.items())


def _one(raw: bytes) -> bytes:
    # No list begins after these two, so the two that end here are they, and the inner one is all that the outer has.
    if raw.startswith(b"[[") and raw.endswith(b"]]") and raw.find(b"[", 2) < 0:
        return raw[1:-1]
    vectors = _decode_vectors(raw)
    return bytes(vectors[0]) if len(vectors) == 1 else raw


def _tokens(units: _Units | None) -> Tokens | None:
    if units is None or units.input_tokens is None:
        return None
    return Tokens(int(units.input_tokens), output=int(units.output_tokens or 0))


def _tokens_in(units: bytes) -> Tokens | None:
    return _tokens(_decode_units(units))


def to_lines(source: Path, target: Path) -> None:
    """A result file as lines of JSON, synced. Runs in a thread. A record that cannot be read is a line that says no
    more than that it was there; a file that ends early is OutcomeUnknown."""
    line = bytearray()
    try:
        with target.open("wb", buffering=0) as file:
            out = DirectWriter(file.fileno())
            for record in _records(source):
                _encode_into(record, line)
                line += b"\n"
                out.write(line)
            out.sync()
    except OSError as error:
        raise unwritten(target, "Cohere", error) from error
    source.unlink()


def _records(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        try:
            for block in Container(file, path.stat().st_size):
                yield from _readable(block)
        except AvroError as error:
            raise OutcomeUnknown(f"a result file of Cohere's cannot be read ({error})") from error


def _readable(block: Block) -> Iterator[Any]:
    done = 0
    try:
        for record in block:
            yield record
            done += 1
    except AvroError:
        for _ in range(block.count - done):
            yield _UNREADABLE
