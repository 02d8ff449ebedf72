"""Values between Python, JSON and the cells of a table."""

import base64
import datetime
import decimal
import math
import re
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, cast

import msgspec

_QUOTE = 34
_ESCAPE = rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
_SURROGATE = rb"\\u[dD][89a-fA-F]"


def escaped(text: str) -> bytes:
    """The inside of the JSON string for `text`."""
    return msgspec.json.encode(text)[1:-1]


def _seconds(value: datetime.timedelta) -> datetime.timedelta:
    return datetime.timedelta(days=value.days, seconds=value.seconds, microseconds=value.microseconds)


def _plain(value: Any) -> Any:
    """What msgspec cannot encode by itself, as something that it can."""
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): item for key, item in cast("Mapping[Any, Any]", value).items()}
    module = type(value).__module__.partition(".")[0]
    if module == "pandas" and type(value).__name__ in {"NaTType", "NAType"}:
        return None
    if module == "numpy":
        # Arrays have both, and an array of one value is still an array.
        return value.tolist() if hasattr(value, "tolist") else value.item()
    # Subclasses of what msgspec knows: pandas.Timestamp is a datetime, numpy.float64 a float.
    for kind, convert in _SUPERTYPES:
        if isinstance(value, kind):
            return convert(value)
    raise TypeError(f"a value of type {type(value).__name__} has no form in JSON")


_SUPERTYPES: tuple[tuple[type[Any], Callable[[Any], Any]], ...] = (
    (datetime.datetime, datetime.datetime.isoformat),
    (datetime.timedelta, _seconds),
    (datetime.date, datetime.date.isoformat),
    (str, str.__str__),
    (int, int),
    (float, float),
    (decimal.Decimal, decimal.Decimal),
)

_encode = msgspec.json.Encoder(enc_hook=_plain, decimal_format="number").encode


def encode_value(value: Any) -> bytes:
    """`value` as JSON; what is not a number (NaN, infinities) as null.

    Raises TypeError, ValueError, OverflowError or RecursionError where it has no form in JSON.
    """
    data = _encode(value)
    if b"NaN" in data or b"Infinity" in data:
        return _encode(_finite(value))
    return data


def _finite(value: Any) -> Any:
    """Decimals that are no numbers are the one thing that msgspec writes as invalid JSON."""
    if isinstance(value, decimal.Decimal):
        return value if value.is_finite() else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in cast("list[Any]", value)]
    return value


def value_text(value: Any) -> str:
    """A Python value as the text of a prompt or a cell; "" for null."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return cell_text(encode_value(value))


def cell_text(value: bytes) -> str:
    """A JSON value as the text of a cell: strings as they read, null as nothing, the rest as JSON."""
    if value[0] == _QUOTE:
        return decode_text(value)
    return "" if value == b"null" else value.decode(errors="replace")


def decode_text(value: bytes) -> str:
    """The text of a JSON string. Half of a surrogate pair, which JSON allows and UTF-8 cannot say, becomes
    the replacement character, and so does what is not UTF-8."""
    try:
        return msgspec.json.decode(value, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        text: str = _loosely(value)
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def why_not_json(line: bytes, fault: Exception) -> str:
    """What to tell somebody whose line is not JSON, as strictly taken as providers take it."""
    if isinstance(fault, RecursionError):
        return "this is nested too deeply to be read."
    # Seldom needed, and not quick to import.
    import json

    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return f"this is not valid JSON ({fault})."
    if re.search(_SURROGATE, line):
        return "a string holds half of a surrogate pair (\\ud800 to \\udfff), which stands for no character."
    return f"this is not valid JSON ({fault}). Python writes NaN and Infinity, which JSON has not."


def mend_surrogates(line: bytes) -> bytes:
    """A line of JSON with the replacement character for every half of a surrogate pair.

    JSON allows them and some writers let them through, but they stand for no character, and a strict reader
    would throw away the whole line: an answer that was paid for.
    """
    # Compiled when it is needed, which is seldom: it takes longer than a hundred rows.
    return re.sub(_ESCAPE, lambda match: b"\\ufffd" if match["half"] else match[0], line)


def decode_value(value: bytes) -> Any:
    """Any JSON value as Python's."""
    if value[0] == _QUOTE:
        return decode_text(value)
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _loosely(value)


def _loosely(value: bytes) -> Any:
    """JSON that a strict reader does not take, and Python's does."""
    # Seldom needed, and not quick to import.
    import json

    return json.loads(value.decode(errors="replace"))


def bytes_text(value: bytes) -> str:
    """Bytes that are no text, as JSON carries them."""
    return base64.b64encode(value).decode()
