"""Bodies of a table's rows."""

from typing import Any

from halfrate.providers.bodies import strict_schema


def test_objects_are_closed_wherever_they_stand() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "tags": {
                "type": "array",
                "items": {"type": "object", "properties": {"name": {"type": "string"}}},
            },
            "ref": {"$ref": "#/$defs/Leaf"},
        },
        "$defs": {"Leaf": {"anyOf": [{"type": "object", "properties": {"x": {}}}, {"type": "null"}]}},
    }
    strict = strict_schema(schema)
    item = strict["properties"]["tags"]["items"]
    leaf = strict["$defs"]["Leaf"]["anyOf"][0]
    assert [node["additionalProperties"] for node in (strict, item, leaf)] == [False] * 3
    assert (strict["required"], item["required"], leaf["required"]) == (["tags", "ref"], ["name"], ["x"])
    assert "additionalProperties" not in schema


def test_data_inside_a_schema_is_left_alone() -> None:
    data = {"type": "object", "properties": {"a": 1}}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "properties": {"type": "object", "properties": {"a": {"enum": [data]}}},
            "b": {"const": data},
        },
        "required": ["b"],
    }
    strict = strict_schema(schema)
    assert strict["properties"]["properties"]["properties"]["a"] == {"enum": [data]}
    assert strict["properties"]["properties"]["required"] == ["a"]
    assert strict["properties"]["b"] == {"const": data}
    assert strict["required"] == ["b"]
