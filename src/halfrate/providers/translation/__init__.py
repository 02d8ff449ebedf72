"""Requests in OpenAI's chat form for families that speak another, and their answers back in OpenAI's form.

Pure functions: a body goes in, a body comes out. Every field of a request is translated, or means nothing, or is
refused by its path with `Untranslatable`: nothing is dropped without a word. What a provider would refuse in a row only
when its batch has run is refused here as far as the body tells; what depends on the model is left to the provider,
except where a family's own generations differ in the form of the request.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Literal, Protocol, TypeAlias, cast

from halfrate.providers.translation.fields import Untranslatable

__all__ = ["Family", "Untranslatable", "answer_from", "request_to"]

Family: TypeAlias = Literal["anthropic", "gemini", "converse"]
"""Anthropic's Messages, Gemini's generateContent (Vertex AI takes the same), Amazon Bedrock's Converse."""


class _Translation(Protocol):
    """What a family's module does. Each is imported when it is used: most jobs are in their provider's own form."""

    def request(self, body: Mapping[str, Any]) -> dict[str, Any]: ...

    def answer(
        self, body: Mapping[str, Any], model: str, created: int, answer_id: str, /
    ) -> dict[str, Any]: ...


def _of(family: Family) -> _Translation:
    return cast("_Translation", import_module(f"{__name__}.{family}"))


def request_to(family: Family, body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a chat completions request, as the family takes it; without the model, which the caller places.

    Raises:
        Untranslatable: a field has no equivalent there, or makes no sense.
    """
    return _of(family).request(body)


def answer_from(
    family: Family, body: Mapping[str, Any], *, model: str, created: int, answer_id: str
) -> dict[str, Any]:
    """The body of a family's answer as a chat completion object.

    Args:
        family: whose answer it is.
        body: the answer, decoded.
        model: what the object is to name as its model.
        created: seconds since 1970.
        answer_id: the object's id; ids of tool calls are made of it where the family gives none.

    Raises:
        msgspec.ValidationError: the body is no answer of that family.
    """
    return _of(family).answer(body, model, created, answer_id)
