"""Whether an answer will do, or a stronger model is to be asked: the checks that a route names.

finished             it came to its end by itself: it is not cut off, nor held back by a filter
json                 its text is JSON
schema               its text is JSON of the schema that the call asks for
matches:REGEX        its text has something of that form in it
package.module:name  a function of the user's own: request and answer, both decoded, in; true or false out
"""

import functools
import importlib
import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec

from halfrate.base.errors import SettingsError
from halfrate.base.types import Endpoint

Check: TypeAlias = Callable[[dict[str, Any], dict[str, Any]], bool]
_ENDS: Final = frozenset(
    {"stop", "tool_calls", "function_call", "end_turn", "stop_sequence", "tool_use", "completed"}
)


@functools.lru_cache(256)
def check_named(name: str, endpoint: Endpoint) -> Check:
    """Raises SettingsError for a check that there is not."""
    kind, colon, rest = name.partition(":")
    match kind, bool(colon):
        case "finished", False:
            return lambda _, answer: _end_of(answer, endpoint) in _ENDS
        case "json", False:
            return lambda _, answer: _json_in(answer, endpoint) is not None
        case "schema", False:
            return lambda asked, answer: _fits(asked, answer, endpoint)
        case "matches", True:
            return _pattern(name, rest, endpoint)
        case _, True:
            return _own(name, kind, rest)
        case _:
            raise SettingsError(
                f"{name!r} is no check of a route; there are finished, json, schema, matches:REGEX and "
                "package.module:function."
            )


def _pattern(name: str, text: str, endpoint: Endpoint) -> Check:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise SettingsError(f"The check {name!r} of a route is no regular expression: {error}.") from None
    return lambda _, answer: pattern.search(text_of(answer, endpoint)) is not None


def _own(name: str, module: str, function: str) -> Check:
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"The check {name!r} of a route cannot be found: {error}.") from None
    if not callable(found):
        raise SettingsError(f"The check {name!r} of a route is no function.")
    return lambda asked, answer: bool(found(asked, answer))


def text_of(answer: dict[str, Any], endpoint: Endpoint) -> str:
    """What an answer says; "" where it says nothing."""
    try:
        match endpoint:
            case "chat":
                return str(answer["choices"][0]["message"].get("content") or "")
            case "messages":
                return "".join(block["text"] for block in answer["content"] if block.get("type") == "text")
            case "responses":
                said = [item for item in answer["output"] if item.get("type") == "message"]
                return "".join(part.get("text", "") for item in said for part in item["content"])
            case _:
                return ""
    except (KeyError, IndexError, TypeError, AttributeError):
        return ""


def _end_of(answer: dict[str, Any], endpoint: Endpoint) -> str:
    try:
        match endpoint:
            case "chat":
                return str(answer["choices"][0].get("finish_reason"))
            case "messages":
                return str(answer.get("stop_reason"))
            case "responses":
                return str(answer.get("status"))
            case _:
                return "stop"
    except (KeyError, IndexError, TypeError, AttributeError):
        return ""


def _json_in(answer: dict[str, Any], endpoint: Endpoint) -> Any:
    """The JSON that an answer's text is; None where it is none (or null, which says as much)."""
    try:
        return msgspec.json.decode(text_of(answer, endpoint))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _fits(asked: dict[str, Any], answer: dict[str, Any], endpoint: Endpoint) -> bool:
    import jsonschema_rs

    found, schema = _json_in(answer, endpoint), _schema_of(asked, endpoint)
    if found is None or schema is None:
        return found is not None
    try:
        return jsonschema_rs.is_valid(schema, found)
    except ValueError:
        # The schema is none: that is for the provider to say.
        return True


def _schema_of(asked: dict[str, Any], endpoint: Endpoint) -> Any:
    """The schema that a call asks its answer to have."""
    try:
        match endpoint:
            case "chat":
                return asked["response_format"]["json_schema"]["schema"]
            case "responses":
                return asked["text"]["format"]["schema"]
            case _:
                config: dict[str, Any] = asked.get("output_config") or {}
                form: dict[str, Any] = config.get("format") or asked["output_format"]
                return form["schema"]
    except (KeyError, TypeError):
        return None
