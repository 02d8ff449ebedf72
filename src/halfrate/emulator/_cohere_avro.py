"""Avro object containers, which is what Cohere makes of datasets: their schemas, and records appended in blocks.

The schemas are the service's own: that of the input as GET /v1/datasets/{id} shows it, that of the output as it stands
in a result file (recorded exchanges of 2026-09, in the tests of crmne/ruby_llm). There is no compression. The records
are encoded by `fastavro`, which has to be installed (halfrate[cohere]); all other providers do without it.
"""

import io
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from halfrate.emulator._rows import Lines
from halfrate.emulator._wire import Document

_BLOCK_RECORDS: Final = 100


def _optional(kind: Any, *, default: bool = True) -> Document:
    """A field's type that may be null."""
    return {"type": ["null", kind], **({"default": None} if default else {})}


def _list_of(items: Any) -> Document:
    return {"type": "array", "items": items}


def _vectors(kind: str) -> Document:
    return _optional(_list_of(_list_of(kind)), default=False)


def _record(name: str, *fields: Document) -> Document:
    return {"name": f"cohere.{name}", "type": "record", "fields": list(fields)}


_CONTENT: Final = _record(
    "embed_content",
    {"name": "type", "type": "string"},
    {"name": "text", **_optional("string")},
    {"name": "image_url", **_optional("string")},
)
INPUT_SCHEMA: Final = _record(
    "batch_embed_v2_input",
    {"name": "custom_id", "type": "string"},
    {
        "name": "body",
        "type": _record(
            "body",
            {"name": "texts", **_optional(_list_of("string"))},
            {"name": "images", **_optional(_list_of("string"))},
            {"name": "input_type", "type": "string"},
            {
                "name": "inputs",
                **_optional(
                    _list_of(_record("embed_input", {"name": "content", **_optional(_list_of(_CONTENT))}))
                ),
            },
            {"name": "max_tokens", **_optional("int")},
            {"name": "output_dimension", **_optional("int")},
            {"name": "embedding_types", **_optional(_list_of("string"))},
            {"name": "truncate", **_optional("string")},
        ),
    },
)
_IMAGE: Final = _record(
    "image",
    {"name": "width", "type": "long"},
    {"name": "height", "type": "long"},
    {"name": "format", "type": "string"},
    {"name": "bit_depth", "type": "long"},
)
_UNITS: Final = _record(
    "billed_units", {"name": "input_tokens", "type": "int"}, {"name": "output_tokens", "type": "int"}
)
_BODY: Final = _record(
    "body",
    {"name": "id", **_optional("string", default=False)},
    {
        "name": "embeddings",
        **_optional(
            _record(
                "body_embeddings",
                {"name": "float", **_vectors("double")},
                {"name": "int8", **_vectors("int")},
                {"name": "uint8", **_vectors("int")},
                {"name": "binary", **_vectors("int")},
                {"name": "ubinary", **_vectors("int")},
            ),
            default=False,
        ),
    },
    {"name": "texts", **_optional(_list_of("string"), default=False)},
    {"name": "images", **_optional(_list_of(_IMAGE), default=False)},
    {"name": "meta", "type": _record("meta", {"name": "billed_units", "type": _UNITS})},
)
OUTPUT_SCHEMA: Final = _record(
    "batch_embed_v2_output",
    {"name": "custom_id", "type": "string"},
    {"name": "body", **_optional(_BODY, default=False)},
    {"name": "error", "type": "string"},
)


def installed() -> bool:
    """Whether records can be encoded at all."""
    return find_spec("fastavro") is not None


class AvroLines(Lines):
    """A container that grows: a record is a line, and what is flushed at once is a block.

    Args:
        sync: the sixteen bytes that stand between the blocks.
    """

    def __init__(self, path: Path, schema: Document, sync: bytes) -> None:
        super().__init__(path)
        self._avro: Any = import_module("fastavro")
        self._schema = self._avro.parse_schema(schema)
        self._sync = sync
        with path.open("wb") as target:
            self._avro.writer(target, self._schema, [], codec="null", sync_marker=sync)

    def add_record(self, record: Document, *, malformed: bool = False) -> None:
        """Append a record. A malformed one lacks its second half, and has a block to itself: whoever reads block by
        block can go on behind it."""
        encoded = io.BytesIO()
        self._avro.schemaless_writer(encoded, self._schema, record)
        line = encoded.getvalue()
        if malformed:
            self.flush()
            line = line[: len(line) // 2]
        self.add(line)
        if malformed or len(self._pending) >= _BLOCK_RECORDS:
            self.flush()

    def flush(self) -> None:
        if not self._pending:
            return
        head = _long(len(self._pending)) + _long(self._size)
        with self.path.open("ab") as target:
            target.writelines((head, *self._pending, self._sync))
        self._pending.clear()
        self._size = 0


def _long(value: int) -> bytes:
    """A number of zero or more as Avro writes it: zigzag, seven bits to a byte, the last byte without the top bit."""
    rest = value << 1
    found = bytearray()
    while rest > 0x7F:
        found.append(rest & 0x7F | 0x80)
        rest >>= 7
    found.append(rest)
    return bytes(found)
