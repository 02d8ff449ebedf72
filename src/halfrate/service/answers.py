"""Judging answers that were asked for in a form: a JSON Schema, or a model of the caller's."""

from typing import Any, cast

import msgspec

from halfrate.base.errors import UsageError
from halfrate.rows.collect import Check, InvalidAnswer


def check_schema(schema: object) -> dict[str, Any]:
    """A JSON Schema that is one. Raises UsageError where it is not."""
    import jsonschema_rs

    if not isinstance(schema, dict):
        raise UsageError(f"A schema is a JSON object; this is a {type(schema).__name__}.")
    known = cast("dict[str, Any]", schema)
    if not known.keys() & {"type", "properties", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"}:
        raise UsageError("This JSON object is no schema: it has no type, properties, $ref, enum or anyOf.")
    try:
        jsonschema_rs.validator_for(known)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        where = "/".join(str(part) for part in getattr(error, "instance_path", []))
        reason = getattr(error, "message", None) or str(error).splitlines()[0]
        raise UsageError(f"This is no valid schema{f', at {where}' if where else ''}: {reason}.") from None
    return known


def schema_check(schema: dict[str, Any]) -> Check:
    """Accepts answers that are JSON and conform to the schema, and keeps them as JSON, not as text."""
    import jsonschema_rs

    validator = jsonschema_rs.validator_for(schema)

    def check(answer: bytes) -> bytes:
        value, kept = json_answer(answer)
        if validator.is_valid(value):
            return kept
        fault = next(iter(validator.iter_errors(value)))
        where = "/".join(str(part) for part in fault.instance_path)
        raise InvalidAnswer(f"{fault.message}{f' (at {where})' if where else ''}")

    return check


def json_answer(answer: bytes) -> tuple[Any, bytes]:
    """The value of an answer that is JSON, given as text or (from a tool call) as JSON itself."""
    try:
        text = msgspec.json.decode(answer)
        if not isinstance(text, str):
            return text, answer
        return msgspec.json.decode(text), msgspec.json.format(text.encode(), indent=-1)
    except (msgspec.DecodeError, UnicodeError):
        raise InvalidAnswer("it is not JSON") from None
