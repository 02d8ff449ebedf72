"""Which format an input has, by its name and its first bytes. What cannot be read is refused with a way out."""

import re
from pathlib import PurePath
from typing import Any, Final, NoReturn, cast

import msgspec

from halfrate.base.errors import InputError
from halfrate.base.types import InputFormat, NativeForm
from halfrate.rows import errors

_BOM: Final = b"\xef\xbb\xbf"
_ENDINGS: Final[dict[str, InputFormat]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_PACKED: Final = {
    ".gz": "gunzip -k",
    ".zst": "zstd -d",
    ".bz2": "bunzip2 -k",
    ".xz": "unxz -k",
    ".zip": "unzip",
}
_MAGIC: Final = (
    (b"\x1f\x8b", "is compressed with gzip. Unpack it first: gunzip -k FILE."),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd. Unpack it first: zstd -d FILE."),
    (b"PK\x03\x04", "is an Excel workbook or a zip archive. Save the sheet as CSV (UTF-8)."),
    (b"\xff\xfe", "is in UTF-16. Save it as UTF-8."),
    (b"\xfe\xff", "is in UTF-16. Save it as UTF-8."),
)
_NATIVE_START: Final = re.compile(
    rb'\{\s*"custom_id"\s*:\s*"(?:[^"\\]|\\.)*"\s*,\s*'
    rb'(?:(?P<openai>"method"\s*:\s*"[A-Z]+"\s*,\s*"url"|"url")|(?P<anthropic>"params"))\s*:'
)


_SHAPES: Final[dict[NativeForm, tuple[frozenset[str], str]]] = {
    "anthropic": (frozenset({"custom_id", "params"}), "params"),
    "rows": (frozenset({"custom_id", "body"}), "body"),
    "gemini": (frozenset({"key", "request"}), "request"),
    "vertex": (frozenset({"request"}), "request"),
    "bedrock": (frozenset({"recordId", "modelInput"}), "modelInput"),
}
"""The fields of a line, and which of them is the body."""


class Detected(msgspec.Struct, frozen=True):
    """`native`: the input is a batch file of that form, not a table."""

    format: InputFormat
    native: NativeForm | None


def sniff(name: str, first_block: bytes) -> Detected:
    """Judge an input by its file name ("-" for standard input) and its first bytes, a whole line or 1 MiB.

    Raises InputError for what halfrate does not read.
    """
    ending = PurePath(name).suffix.lower()
    if ending in _PACKED:
        raise InputError(
            f"{name} is compressed. Unpack it first: {_PACKED[ending]} {name}. {errors.NOTHING_SENT}"
        )
    if first_block.startswith(b"PAR1"):
        return Detected("parquet", None)
    for magic, reason in _MAGIC:
        if first_block.startswith(magic):
            raise InputError(f"{name} {reason} {errors.NOTHING_SENT}")
    text = first_block.removeprefix(_BOM).lstrip()
    known = _ENDINGS.get(ending)
    if known == "parquet":
        raise InputError(f"{name} is not a Parquet file: its first bytes are wrong. {errors.NOTHING_SENT}")
    if known in {"csv", "tsv"}:
        return Detected(known, None)
    if not text:
        raise errors.no_rows(name)
    if known == "jsonl" or ending == ".json" or text[:1] in {b"{", b"["}:
        return _json(name, text)
    header = text.partition(b"\n")[0]
    return Detected("tsv" if header.count(b"\t") > header.count(b",") else "csv", None)


def _json(name: str, text: bytes) -> Detected:
    first, newline, rest = text.partition(b"\n")
    try:
        value: Any = msgspec.json.decode(first)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = None
    if text.startswith(b"[") and not (isinstance(value, list) and rest.strip()):
        _refuse_document(name, "one JSON array", ".[]")
    if isinstance(value, dict) and set(cast("dict[str, Any]", value)) == {"requests"}:
        _refuse_document(name, "one JSON document", ".requests[]")
    if value is None and first.strip() in {b"{", b"{}"}:
        _refuse_document(name, "JSON over several lines", ".")
    if value is None and not newline:
        # The first line is longer than what was read: its beginning has to do.
        match = _NATIVE_START.match(text)
        if match is not None:
            return Detected("jsonl", "openai" if match.group("openai") else "anthropic")
    return Detected("jsonl", _native_form(value))


def _refuse_document(name: str, what: str, path: str) -> NoReturn:
    source = "input.json" if name == "-" else name
    raise InputError(
        f"{name} holds {what}; halfrate reads one JSON object a line. "
        f"Convert it: jq -c '{path}' {source} > rows.jsonl. {errors.NOTHING_SENT}"
    )


def _native_form(value: Any) -> NativeForm | None:
    """The form of batch line that an object has the exact shape of."""
    if not isinstance(value, dict):
        return None
    found = cast("dict[str, Any]", value)
    keys = set(found)
    if keys - {"method"} == {"custom_id", "url", "body"} and isinstance(found["body"], dict):
        return "openai"
    for form, (names, body) in _SHAPES.items():
        if keys == set(names) and isinstance(found[body], dict) and found[body]:
            return form
    return None
