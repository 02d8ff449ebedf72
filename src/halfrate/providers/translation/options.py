"""What a chat in OpenAI's form says besides its messages, as far as more than one family reads it alike."""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from halfrate.providers.translation.fields import Fields

_SAYS_NOTHING: Final[dict[str, tuple[Any, ...]]] = {
    "n": (1,),
    "store": (False,),
    "stream": (False,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "metadata": ({},),
    "modalities": (["text"],),
    "parallel_tool_calls": (True,),
    "service_tier": ("auto", "default"),
    "stop": ([],),
    "verbosity": ("medium",),
}
"""Values that ask for what is done anyway: OpenAI's defaults, where the other families do the same."""

_MOST: Final = 10_000_000


class Tool(msgspec.Struct, frozen=True):
    """A function that the model may call. `parameters` is its JSON schema, None where it takes none."""

    name: str
    description: str
    parameters: dict[str, Any] | None
    strict: bool
    path: str


class Tools(msgspec.Struct, frozen=True):
    """The functions, and which of them the model is to call.

    `choice` is "auto" where the model decides, "required" where it has to call some function, "named" where it has
    to call `named`.
    """

    functions: tuple[Tool, ...] = ()
    choice: Literal["auto", "none", "required", "named"] = "auto"
    named: str = ""
    parallel: bool = True


class JsonForm(msgspec.Struct, frozen=True):
    """The answer is to be JSON: of a schema, or any object where `schema` is None."""

    schema: dict[str, Any] | None
    strict: bool = False


def opened(
    body: Mapping[str, Any], taker: str, says_nothing: Mapping[str, tuple[Any, ...]] = _SAYS_NOTHING
) -> Fields:
    """A request to be taken apart, without what says nothing and without its model, which stays with the caller.

    Args:
        body: the request.
        taker: who is to take it, for the messages.
        says_nothing: by the names of fields, the values that ask for what is done anyway; OpenAI's by default.
    """
    return Fields(
        {
            name: value
            for name, value in body.items()
            if name != "model" and not _among(value, says_nothing.get(name, ()))
        },
        taker,
    )


def _among(value: Any, defaults: tuple[Any, ...]) -> bool:
    return any(
        value == default and isinstance(value, bool) is isinstance(default, bool) for default in defaults
    )


def max_tokens(body: Fields) -> int | None:
    """The limit under either of its names; `max_tokens` is the older one."""
    older = body.whole("max_tokens", 1, _MOST)
    newer = body.whole("max_completion_tokens", 1, _MOST)
    if older is not None and newer is not None and older != newer:
        raise body.refusal("max_tokens", "differs from max_completion_tokens")
    return older if newer is None else newer


def stop(body: Fields, most: int | None = None) -> list[str]:
    """Texts at which the answer ends: one or a list of them.

    Args:
        body: the request.
        most: how many the family takes, None for as many as one likes.
    """
    value = body.take("stop")
    listed = [value] if isinstance(value, str) else value
    return texts(Fields({"stop": listed}, body.taker, body.path), "stop", most)


def texts(body: Fields, name: str, most: int | None = None) -> list[str]:
    """A list of texts, none of them empty; at most as many as the family takes, where it says."""
    found = body.values(name)
    if not all(isinstance(text, str) and text for text in found):
        raise body.refusal(name, "holds something other than texts, or an empty one")
    if most is not None and len(found) > most:
        raise body.refusal(name, f"holds {len(found)} texts, and {body.taker} takes {most}")
    return found


def tools(body: Fields) -> Tools:
    """The functions and the choice among them."""
    parallel = True
    if body.has("parallel_tool_calls"):
        parallel = body.flag("parallel_tool_calls")
    functions = tuple(_tool(tool) for tool in body.each("tools"))
    names = [tool.name for tool in functions]
    if len(set(names)) < len(names):
        raise body.refusal("tools", "defines two functions of one name")
    choice = body.take("tool_choice")
    if choice is None or choice == "auto":
        return Tools(functions, parallel=parallel)
    if choice == "none":
        return Tools(functions, "none", parallel=parallel)
    if not functions:
        raise body.refusal("tool_choice", "asks for a call, and there are no tools")
    if choice == "required":
        return Tools(functions, "required", parallel=parallel)
    named = _named(Fields({"tool_choice": choice}, body.taker))
    if named not in names:
        raise body.refusal("tool_choice", f"names {named!r}, which is none of the tools")
    return Tools(functions, "named", named, parallel)


def _named(outer: Fields) -> str:
    choice = outer.needed_inner("tool_choice")
    kind = choice.needed_text("type")
    if kind != "function":
        raise choice.refusal("type", f"is {kind!r}, which has no equivalent with {choice.taker}")
    function = choice.needed_inner("function")
    name = function.needed_text("name")
    function.finish()
    choice.finish()
    return name


def _tool(tool: Fields) -> Tool:
    kind = tool.needed_text("type")
    if kind != "function":
        raise tool.refusal("type", f"is {kind!r}, which has no equivalent with {tool.taker}")
    function = tool.needed_inner("function")
    name = function.needed_text("name")
    description = function.text("description") or ""
    parameters = function.mapping("parameters")
    strict = function.flag("strict")
    function.finish()
    tool.finish()
    return Tool(name, description, parameters or None, strict, function.path)


def json_form(body: Fields) -> JsonForm | None:
    """The form that the answer is to have, None for plain text.

    The name of a schema is a label that OpenAI wants, and means nothing. Its description has a place of its own only
    with OpenAI; a JSON schema has one for it too.
    """
    form = body.inner("response_format")
    if form is None:
        return None
    kind = form.needed_text("type")
    if kind in {"text", "json_object"}:
        form.finish()
        return JsonForm(None) if kind == "json_object" else None
    if kind != "json_schema":
        raise form.refusal("type", f"is {kind!r}, which has no equivalent with {body.taker}")
    inner = form.needed_inner("json_schema")
    inner.needed_text("name")
    schema = inner.mapping("schema")
    if schema is None:
        raise inner.refusal("schema", "is missing")
    strict = inner.flag("strict")
    description = inner.text("description")
    if description and schema.get("description", description) != description:
        raise inner.refusal("description", "differs from the schema's own")
    inner.finish()
    form.finish()
    return JsonForm({**schema, "description": description} if description else schema, strict)
