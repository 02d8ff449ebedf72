"""Values that conform to a JSON Schema, chosen by a hash of the prompt: the same row gets the same answer."""

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from halfrate.emulator._wire import as_document, as_list, documents

_DEEP = 6
"""Recursive schemas end here: below this depth the smallest allowed value is taken."""

_LONGEST = 100_000
_LARGEST = 1e15

_FORMATS = {
    "date": "2026-03-14",
    "date-time": "2026-03-14T09:26:53Z",
    "time": "09:26:53Z",
    "duration": "PT15M",
    "email": "customer@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/ticket",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


class SchemaAnswer:
    """Writes one document for one schema and one prompt."""

    def __init__(self, schema: dict[str, Any], prompt: str, extra: str = "") -> None:
        """`extra` goes to the end of the first text that the schema leaves free."""
        self._extra = extra
        self._root = schema
        self._prompt = prompt
        self._words = prompt.lower()

    def document(self) -> Any:
        return self._value(self._root, "$", 0)

    def _choice(self, path: str, count: int) -> int:
        digest = blake2b(f"{path}\x00{self._prompt}".encode(), digest_size=4).digest()
        return int.from_bytes(digest) % count

    def _resolve(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Follow `$ref` inside the document ("#/$defs/Name"); merge `allOf`."""
        for _ in range(_DEEP):
            reference = schema.get("$ref")
            if not isinstance(reference, str) or not reference.startswith("#"):
                break
            found: dict[str, Any] = self._root
            for step in reference.lstrip("#").split("/"):
                if step:
                    found = as_document(found.get(step.replace("~1", "/").replace("~0", "~"))) or {}
            schema = found
        merged = dict(schema)
        for part in documents(merged.pop("allOf", None)):
            for key, value in self._resolve(part).items():
                if key == "properties":
                    merged[key] = {**(as_document(merged.get(key)) or {}), **(as_document(value) or {})}
                elif key == "required":
                    merged[key] = [*(as_list(merged.get(key)) or []), *(as_list(value) or [])]
                else:
                    merged.setdefault(key, value)
        return merged

    def _value(self, schema: dict[str, Any], path: str, depth: int) -> Any:
        schema = self._resolve(schema)
        if "const" in schema:
            return schema["const"]
        options = as_list(schema.get("enum"))
        if options:
            return self._enum(options, path)
        for union in ("anyOf", "oneOf"):
            branches = list(documents(schema.get(union)))
            if branches:
                return self._value(self._branch(branches, path, depth), path, depth)
        kind = schema.get("type")
        kinds = [one for one in as_list(kind) or () if isinstance(one, str)]
        if kinds:
            plain = next((one for one in kinds if one != "null"), "null")
            kind = "null" if depth > _DEEP and "null" in kinds else plain
        return self._typed(kind if isinstance(kind, str) else None, schema, path, depth)

    def _typed(self, kind: str | None, schema: dict[str, Any], path: str, depth: int) -> Any:
        if kind is None and "properties" in schema:
            kind = "object"
        makers: dict[str | None, Callable[[], Any]] = {
            "integer": lambda: int(self._number(schema, path, whole=True)),
            "number": lambda: self._number(schema, path, whole=False),
            "boolean": lambda: bool(self._choice(path, 2)),
            "array": lambda: self._array(schema, path, depth),
            "object": lambda: self._object(schema, path, depth),
            "null": lambda: None,
        }
        make = makers.get(kind)
        return self._string(schema, path) if make is None else make()

    def _enum(self, options: list[Any], path: str) -> Any:
        """A value the prompt mentions when there is one, so that a demonstration reads sensibly."""
        for option in options:
            if (
                isinstance(option, str)
                and len(option) > 2
                and option.replace("_", " ").lower() in self._words
            ):
                return option
        return options[self._choice(path, len(options))]

    def _branch(self, branches: list[dict[str, Any]], path: str, depth: int) -> dict[str, Any]:
        plain = [branch for branch in branches if branch.get("type") != "null"]
        if len(plain) < len(branches) and (depth > _DEEP or not self._choice(f"{path}?", 5)):
            return {"type": "null"}
        return plain[self._choice(path, len(plain))] if plain else {"type": "null"}

    def _string(self, schema: dict[str, Any], path: str) -> str:
        known = _FORMATS.get(str(schema.get("format")))
        if known is not None:
            return known
        name = path.rsplit(".", 1)[-1]
        start = " ".join(self._prompt.split())[:60]
        text = f"{name}: {start}" if name and name != "$" else start
        low, high = _count(schema, "minLength", 0), _count(schema, "maxLength", _LONGEST)
        if self._extra and "maxLength" not in schema:
            text, self._extra = text + self._extra, ""
            return text.ljust(low, ".")
        return (text or "text").ljust(low, ".")[:high]

    def _number(self, schema: dict[str, Any], path: str, *, whole: bool) -> float:
        step = _number(schema, "multipleOf") or 0.0
        if step <= 0:
            step = 1.0 if whole else 0.25
        low, high = _number(schema, "minimum"), _number(schema, "maximum")
        above, below = _number(schema, "exclusiveMinimum"), _number(schema, "exclusiveMaximum")
        if above is not None:
            low = above + step
        if below is not None:
            high = below - step
        if low is None:
            low = 0.0 if high is None else min(0.0, high)
        first = -(-low // step)
        last = first + 10 if high is None else high // step
        if last < first:  # no multiple of the step fits: any allowed number will do
            return low
        value = (first + self._choice(path, int(min(last - first, 1_000)) + 1)) * step
        return value if whole else round(value, 6)

    def _array(self, schema: dict[str, Any], path: str, depth: int) -> list[Any]:
        low = _count(schema, "minItems", 0)
        high = _count(schema, "maxItems", max(low, 2))
        count = low if depth > _DEEP else min(high, max(low, 1 + self._choice(f"{path}#", 2)))
        prefix = list(documents(schema.get("prefixItems")))
        items = as_document(schema.get("items")) or {"type": "string"}
        made = [
            self._value(prefix[n] if n < len(prefix) else items, f"{path}[{n}]", depth + 1)
            for n in range(max(count, len(prefix)))
        ]
        return _distinct(made) if schema.get("uniqueItems") else made

    def _object(self, schema: dict[str, Any], path: str, depth: int) -> dict[str, Any]:
        properties = as_document(schema.get("properties")) or {}
        required = {name for name in as_list(schema.get("required")) or () if isinstance(name, str)}
        made: dict[str, Any] = {}
        for name, part in properties.items():
            wanted = name in required or (depth <= _DEEP and self._choice(f"{path}.{name}!", 4) > 0)
            if wanted:
                made[name] = self._value(as_document(part) or {}, f"{path}.{name}", depth + 1)
        return made


def _number(schema: dict[str, Any], key: str) -> float | None:
    """A finite number in a schema; anything else counts as absent."""
    value = schema.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < _LARGEST else None


def _count(schema: dict[str, Any], key: str, default: int) -> int:
    """A length in a schema, kept within reason."""
    value = _number(schema, key)
    return default if value is None else int(min(max(value, 0.0), _LONGEST))


def _distinct(values: list[Any]) -> list[Any]:
    kept: list[Any] = []
    for value in values:
        if value not in kept:
            kept.append(value)
    return kept
