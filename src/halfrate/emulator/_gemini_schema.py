"""Schemas as Google's APIs write them, made into JSON Schema.

`responseSchema` and a function's `parameters` are a subset of OpenAPI 3: types in capitals, `nullable`, lengths as
int64 and so perhaps strings (reference: Schema). `responseJsonSchema` and `parametersJsonSchema` are JSON Schema as it
is.
"""

from halfrate.emulator._gemini_wire import pick, whole
from halfrate.emulator._wire import Document, as_document, documents

_DEEPEST = 64
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength")
_SAME = ("enum", "required", "minimum", "maximum", "format")


def json_schema(schema: Document, depth: int = 0) -> Document:
    """A Google schema as JSON Schema; what is not understood is left out."""
    if depth > _DEEPEST:
        return {}
    made: Document = {key: schema[key] for key in _SAME if schema.get(key) is not None}
    kind = schema.get("type")
    if isinstance(kind, str):
        made["type"] = [kind.lower(), "null"] if schema.get("nullable") is True else kind.lower()
    for key in _COUNTS:
        count = whole(pick(schema, key))
        if count is not None:
            made[key] = count
    properties = as_document(schema.get("properties"))
    if properties is not None:
        made["properties"] = {
            name: json_schema(as_document(part) or {}, depth + 1) for name, part in properties.items()
        }
    items = as_document(schema.get("items"))
    if items is not None:
        made["items"] = json_schema(items, depth + 1)
    branches = [json_schema(part, depth + 1) for part in documents(pick(schema, "anyOf"))]
    if branches:
        made["anyOf"] = branches
    return made
