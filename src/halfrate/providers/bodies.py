"""Bodies of a table's rows: everything but the prompt is the same in each, so it is encoded once."""

from typing import Any, Final, cast

import msgspec

from halfrate.base.types import RequestSpec

PROMPT: Final = "\ue000halfrate-prompt\ue000"
"""Stands for the prompt while a body is encoded. Private-use characters: no text of a user's holds it."""

# Where a schema holds others: by itself, in a list, under names of the user's.
_ONE: Final = ("items", "additionalProperties", "not", "if", "then", "else", "contains")
_LISTED: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED: Final = ("properties", "$defs", "definitions", "patternProperties")

_MARK: Final = msgspec.json.encode(PROMPT)


def splice(body: dict[str, Any]) -> tuple[bytes, bytes]:
    """The encoded body before and after the place of the prompt, which goes in as a JSON string."""
    before, mark, after = msgspec.json.encode(body).partition(_MARK)
    if not mark:
        raise ValueError("the body has no place for a prompt")
    return before, after


def with_field(body: bytes, name: str, value: str) -> bytes:
    """An encoded body with one field more, before the others. Nothing else in it changes."""
    start = body.index(b"{") + 1
    more = b"" if body[start:].lstrip()[:1] == b"}" else b","
    field = msgspec.json.encode(name) + b":" + msgspec.json.encode(value)
    return b"%b%b%b%b" % (body[:start], field, more, body[start:])


def with_params(body: dict[str, Any], spec: RequestSpec) -> dict[str, Any]:
    """The user's own parameters last: they are sent as given, and win."""
    return {**body, **spec.params}


def strict_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """A copy in which every object is closed and requires all its properties, as both providers demand.

    Only what JSON Schema calls a schema is touched: an `enum`, a `const` or a `default` is somebody's data.
    """
    out = dict(schema)
    for word in _ONE:
        if isinstance(out.get(word), dict):
            out[word] = strict_schema(out[word])
    for word in _LISTED:
        if isinstance(out.get(word), list):
            out[word] = [_closed(item) for item in cast("list[Any]", out[word])]
    for word in _NAMED:
        if isinstance(out.get(word), dict):
            named = cast("dict[str, Any]", out[word])
            out[word] = {name: _closed(item) for name, item in named.items()}
    if isinstance(out.get("properties"), dict) and out.get("type", "object") == "object":
        out.setdefault("additionalProperties", False)
        out.setdefault("required", list(out["properties"]))
    return out


def _closed(node: Any) -> Any:
    return strict_schema(cast("dict[str, Any]", node)) if isinstance(node, dict) else node


def joined_texts(texts: list[bytes]) -> bytes:
    """Several encoded JSON strings of one answer as one."""
    return texts[0] if len(texts) == 1 else b'"' + b"".join(text[1:-1] for text in texts) + b'"'
