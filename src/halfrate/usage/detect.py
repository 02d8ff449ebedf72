"""Which format a log has, by what is in it: the name of the file says nothing."""

import csv
import io
import re
from typing import Any, Final, cast

import msgspec

from halfrate.base.errors import InputError
from halfrate.usage.anthropic import ANTHROPIC
from halfrate.usage.documents import NotJsonError, entries
from halfrate.usage.formats import Format
from halfrate.usage.gateway import GATEWAY
from halfrate.usage.helicone import HELICONE
from halfrate.usage.langfuse import LANGFUSE
from halfrate.usage.litellm import LITELLM, SUMMARY
from halfrate.usage.openai import OPENAI
from halfrate.usage.otel import OTEL
from halfrate.usage.plain import PLAIN

FORMATS: Final = (GATEWAY, OTEL, LITELLM, LANGFUSE, HELICONE, OPENAI, ANTHROPIC, PLAIN)
"""In the order in which they are asked: the plain table is what nothing else is."""

SAMPLE: Final = 1 << 20
"""Bytes that are looked at."""
_BOM: Final = b"\xef\xbb\xbf"
_MAGIC: Final = (
    (
        b"PAR1",
        "is a Parquet file. Write it as CSV first: duckdb -c \"COPY (FROM '{name}') TO '{name}.csv'\".",
    ),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd. Unpack it first: zstd -d {name}."),
    (b"BZh", "is compressed with bzip2. Unpack it first: bunzip2 -k {name}."),
    (b"\xfd7zXZ", "is compressed with xz. Unpack it first: unxz -k {name}."),
    (b"PK\x03\x04", "is an Excel workbook or a zip archive. Unpack it, or save the sheet as CSV (UTF-8)."),
    (b"\xff\xfe", "is in UTF-16. Save it as UTF-8."),
    (b"\xfe\xff", "is in UTF-16. Save it as UTF-8."),
)
_INSIDE: Final = tuple(dict.fromkeys(name for one in FORMATS for name in one.inside))
_NAME: Final = re.compile(rb'"((?:[^"\\]|\\.){1,60})"\s*:')
_SHOWN: Final = 12


class Found(msgspec.Struct, frozen=True):
    """`names`: of the fields of a row. `delimiter`: of a table; None for JSON. `lines`: JSON, an object a line."""

    format: Format
    names: frozenset[str]
    delimiter: str | None = None
    lines: bool = False


def recognised(name: str, sample: bytes) -> Found:
    """Judge a log by its first bytes. Raises InputError for what is none, or none that is known here."""
    for magic, reason in _MAGIC:
        if sample.startswith(magic):
            raise InputError(f"{name} {reason.format(name=name)}")
    text = sample.removeprefix(_BOM).lstrip()
    if not text:
        raise InputError(f"{name} is empty: there are no calls in it.")
    if text[:1] in {b"{", b"["}:
        return _json(name, text)
    return _table(name, text)


# ---------------------------------------------------------------- JSON


def _json(name: str, text: bytes) -> Found:
    names = _fields(text)
    if names is None:
        raise InputError(f"{name} begins like JSON and holds no object: there are no calls in it.")
    if names == SUMMARY or (names >= SUMMARY and "request_id" not in names):
        raise InputError(
            f"{name} is LiteLLM's summary by day, which has no calls in it. Ask for them: /spend/logs?summarize=false."
        )
    found = _format(name, names, "fields")
    return Found(found, names, lines=_a_line_each(text))


def _fields(text: bytes) -> frozenset[str] | None:
    """Names of the fields of the first row, as far as the sample goes; None where there is no object."""
    try:
        for first in entries(io.BytesIO(text), _INSIDE):
            return frozenset(cast("dict[str, Any]", first)) if isinstance(first, dict) else None
    except NotJsonError:
        # The first row is larger than the sample, or broken: the names that stand in it have to do.
        return frozenset(match[1].decode(errors="replace") for match in _NAME.finditer(text[: SAMPLE // 4]))
    # An empty array: what stands around it tells what it is.
    return frozenset(match[1].decode(errors="replace") for match in _NAME.finditer(text)) or None


def _a_line_each(text: bytes) -> bool:
    """Whether the first line is an object of its own, and another begins after it."""
    first, newline, rest = text.partition(b"\n")
    if not newline:
        return False
    try:
        msgspec.json.decode(first, type=dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return rest.lstrip()[:1] in {b"{", b""}


# ---------------------------------------------------------------- tables


def _table(name: str, text: bytes) -> Found:
    head = text.partition(b"\n")[0].decode(errors="replace")
    if "\0" in head:
        raise InputError(f"{name} is no text. {_known()}")
    delimiter = max((",", "\t", ";"), key=head.count)
    try:
        # A name in quotes may hold the delimiter, never a newline: such a log has not been seen.
        names: list[str] = next(csv.reader([head], delimiter=delimiter), list[str]())
    except csv.Error as fault:
        raise InputError(f"{name}, line 1: this is no header of a table ({fault}). {_known()}") from None
    columns = frozenset(one.strip() for one in names)
    return Found(_format(name, columns, "columns"), columns, delimiter)


def _format(name: str, names: frozenset[str], what: str) -> Format:
    for one in FORMATS:
        if one.fits(names):
            return one
    raise _unknown(name, names, what)


def _unknown(name: str, names: frozenset[str], what: str) -> InputError:
    shown = sorted(one[:40] for one in names if one.isprintable())
    has = ", ".join(shown[:_SHOWN]) + (", ..." if len(shown) > _SHOWN else "")
    return InputError(f"{name} is no log that halfrate knows. Its {what} are: {has or 'none'}. {_known()}")


def _known() -> str:
    titles = ", ".join(one.title for one in FORMATS[:-1])
    return (
        f"It reads {titles}; and any table with the columns time, model, input_tokens and output_tokens: "
        "docs/audit.md says which more it understands."
    )
