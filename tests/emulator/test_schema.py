"""Structured answers conform to the schemas that asked for them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfrate.emulator._schema import SchemaAnswer

TREE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "children": {"type": "array", "items": {"$ref": "#"}},
        "parent": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
    },
    "required": ["name", "children", "parent"],
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {"next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}},
            "required": ["next"],
        }
    },
}


def conforms(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """A checker of its own for the subset that is used here."""
    if "$ref" in schema:
        found: Any = root
        for step in schema["$ref"].lstrip("#").split("/"):
            found = found[step] if step else found
        return conforms(value, found, root)
    if "enum" in schema:
        return value in schema["enum"]
    if "anyOf" in schema:
        return any(conforms(value, branch, root) for branch in schema["anyOf"])
    match schema["type"]:
        case "object":
            parts = schema["properties"]
            return (
                isinstance(value, dict)
                and set(schema["required"]) <= set(value) <= set(parts)
                and all(conforms(item, parts[key], root) for key, item in value.items())
            )
        case "array":
            low, high = schema.get("minItems", 0), schema.get("maxItems", 99)
            return (
                isinstance(value, list)
                and low <= len(value) <= high
                and all(conforms(x, schema["items"], root) for x in value)
            )
        case "string":
            return isinstance(value, str) and schema.get("minLength", 0) <= len(value) <= schema.get(
                "maxLength", 10**6
            )
        case "integer":
            return type(value) is int and schema.get("minimum", value) <= value <= schema.get(
                "maximum", value
            )
        case "number":
            return type(value) in {int, float} and schema.get("minimum", value) <= value
        case "boolean":
            return type(value) is bool
        case _:
            return value is None


def leaves() -> st.SearchStrategy[dict[str, Any]]:
    bounds = st.integers(-50, 50)
    return st.one_of(
        st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": "number"}, {"type": "string"}]),
        st.lists(st.text(), min_size=1, unique=True).map(lambda values: {"enum": values}),
        st.tuples(bounds, st.integers(0, 20)).map(
            lambda pair: {"type": "integer", "minimum": pair[0], "maximum": pair[0] + pair[1]}
        ),
        st.tuples(st.integers(0, 20), st.integers(0, 20)).map(
            lambda pair: {"type": "string", "minLength": pair[0], "maxLength": pair[0] + pair[1]}
        ),
    )


def holders(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def as_object(parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
        return {"type": "object", "properties": parts, "required": sorted(parts)[:2]}

    return st.one_of(
        st.dictionaries(st.text(max_size=5), inner, max_size=4).map(as_object),
        st.tuples(inner, st.integers(0, 3)).map(
            lambda pair: {"type": "array", "items": pair[0], "minItems": pair[1], "maxItems": pair[1] + 2}
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda found: {"anyOf": [*found, {"type": "null"}]}),
    )


@given(schema=st.recursive(leaves(), holders, max_leaves=8), prompt=st.text())
def test_answers_conform(schema: dict[str, Any], prompt: str) -> None:
    value = SchemaAnswer(schema, prompt).document()
    assert conforms(value, schema, schema)
    assert SchemaAnswer(schema, prompt).document() == value


@given(st.text())
def test_recursive_schemas_come_to_an_end(prompt: str) -> None:
    assert conforms(SchemaAnswer(TREE, prompt).document(), TREE, TREE)


def test_details() -> None:
    def write(schema: dict[str, Any]) -> Any:
        return SchemaAnswer(schema, "a technical question").document()

    assert write({"enum": ["billing", "technical"]}) == "technical"
    assert write({"const": 5}) == 5
    assert write({"type": ["null", "boolean"]}) in {True, False}
    assert write({"type": "string", "format": "date"}) == "2026-03-14"
    assert write({"type": "integer", "exclusiveMinimum": 4, "exclusiveMaximum": 6}) == 5
    assert write({"type": "integer", "multipleOf": 7, "minimum": 15, "maximum": 21}) == 21
    merged = {"allOf": [{"properties": {"a": {"const": 1}}, "required": ["a"]}], "type": "object"}
    assert write(merged) == {"a": 1}
    assert write({"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "maxItems": 2}) == [1, 2]
    assert write({}) == write({"type": "string"})


@pytest.mark.parametrize("path", ["#/nowhere", "#/$defs/Gone"])
def test_a_dangling_reference_is_anything(path: str) -> None:
    assert isinstance(SchemaAnswer({"$ref": path}, "x").document(), str)
