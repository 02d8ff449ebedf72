"""What JSON Schemas are put together from."""

from typing import Final

from halfrate.gateway.openapi.operation import Json, shape, whole

LEAST_LIFE: Final = 3_600
LIFE: Final = 30 * 86_400
"""Seconds."""


def record(about: str, fields: Json, optional: Json | None = None, **more: object) -> Json:
    """An object with fields that it always has, and others that it may have."""
    return {
        "type": "object",
        **({"description": about} if about else {}),
        "properties": {**fields, **(optional or {})},
        "required": list(fields),
        **more,
    }


def text(about: str = "", **more: object) -> Json:
    return {"type": "string", **({"description": about} if about else {}), **more}


def number(about: str = "", **more: object) -> Json:
    return {"type": "integer", "minimum": 0, **({"description": about} if about else {}), **more}


def or_null(schema: Json) -> Json:
    return {**schema, "type": [schema["type"], "null"]}


def list_of(name: str, **more: object) -> Json:
    return {"type": "array", "items": shape(name), **more}


def seconds(about: str) -> Json:
    return number(f"{about}; seconds since 1970.")


def moment(about: str) -> Json:
    return text(about, format="date-time")


def life(about: str) -> Json:
    fields: Json = {"anchor": text(enum=["created_at"]), "seconds": whole(LEAST_LIFE, LIFE)}
    return {"anyOf": [record(about, fields), {"type": "null"}]}


METADATA: Final[Json] = {
    "type": ["object", "null"],
    "description": "Names and values of the caller's own. The jobs of a batch are tagged with them.",
    "maxProperties": 16,
    "propertyNames": {"minLength": 1, "maxLength": 64},
    "additionalProperties": {"type": "string", "maxLength": 512},
}
