"""Results of Cohere's batches: records of Avro, written as lines of JSON, and those lines understood.

The shape is that of result files which the service wrote in 2026-09, and of its batch guide:
`{custom_id, body, error}`, where an error is a text alone, "" for none.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from halfrate.base.errors import OutcomeUnknown, SettingsError
from halfrate.base.results import MAY_BE_PAID, Kind, LineReader, ResultRow, Tokens
from halfrate.providers.files import LinesFile
from halfrate.providers.plain import row_number

_UNREADABLE: Final = b'{"unreadable":true}'
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


class _Named(msgspec.Struct, gc=False):
    custom_id: str
    body: Any = None


_decode = msgspec.json.Decoder(_Line).decode
_decode_named = msgspec.json.Decoder(_Named).decode
_decode_vectors = msgspec.json.Decoder(list[msgspec.Raw]).decode


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
        return ResultRow(
            row, Kind.SUCCEEDED, _vectors(found.body.embeddings), _tokens(found.body.meta), "", "stop"
        )

    return LineReader(read)


def _vectors(found: dict[str, msgspec.Raw]) -> bytes:
    """The vectors of a row, as they came; of several kinds, by kind."""
    kinds = {kind: bytes(found[kind]) for kind in _KINDS if kind in found and bytes(found[kind]) != b"null"}
    single = {kind: _one(raw) for kind, raw in kinds.items()}
    if len(single) == 1:
        return next(iter(single.values()))
    return b"{%b}" % b",".join(b'"%b":%b' % (kind.encode(), raw) for kind, raw in single.items())


def _one(raw: bytes) -> bytes:
    vectors = _decode_vectors(raw)
    return bytes(vectors[0]) if len(vectors) == 1 else raw


def _tokens(meta: _Meta | None) -> Tokens | None:
    units = meta.billed_units if meta is not None else None
    if units is None or units.input_tokens is None:
        return None
    return Tokens(int(units.input_tokens), output=int(units.output_tokens or 0))


def check_installed() -> None:
    """Raises SettingsError where nothing here could read what the provider will write."""
    if importlib.util.find_spec("fastavro") is None:
        raise SettingsError(
            "Cohere's results are Avro, which needs one more package: pip install 'halfrate[cohere]'. Nothing was sent."
        )


def to_lines(source: Path, target: Path) -> None:
    """A result file as lines of JSON, synced. Runs in a thread. A record that cannot be read is a line that says no
    more than that it was there; a file that ends early is OutcomeUnknown."""
    with LinesFile(target, "Cohere") as file:
        file.add(_records(source))
        file.commit()
    source.unlink()


def _records(path: Path) -> Iterator[bytes]:
    import fastavro

    with path.open("rb") as file:
        try:
            for block in fastavro.block_reader(file):
                yield from _block(block)
        except (EOFError, ValueError) as error:
            raise OutcomeUnknown(f"a result file of Cohere's cannot be read ({error})") from error


def _block(block: Any) -> Iterator[bytes]:
    done = 0
    try:
        for record in block:
            yield msgspec.json.encode(record)
            done += 1
    except (EOFError, ValueError, IndexError, TypeError, UnicodeDecodeError):
        for _ in range(max(1, block.num_records - done)):
            yield _UNREADABLE
