"""Requests in the form of OpenAI's embeddings for families that speak another, and their vectors back in that form.

Facts are from the API references of Gemini (embedContent), Cohere (embed v2), Mistral (embeddings) and Voyage
(batches), and from Bedrock's user guide (Titan, Cohere), as of 2026-11. What a text is embedded for, which these
families ask and OpenAI does not, may stand in a request under the family's own name, `task_type` or `input_type`.
"""

import base64
import re
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, cast

from halfrate.providers.translation.fields import Fields, Untranslatable

Family: TypeAlias = Literal["gemini", "cohere", "bedrock", "mistral", "voyage"]

_MOST_DIMENSIONS: Final = 65_536
_TITAN: Final = re.compile(r"amazon\.titan-embed-text")
_COHERE: Final = re.compile(r"cohere\.embed-")


def request_to(family: Family, body: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The body of a request for embeddings, as the family takes it; without the model, which the caller places.

    Raises:
        Untranslatable: a field has no equivalent there, or makes no sense.
    """
    title, put = _FAMILIES[family]
    fields = Fields(body, title)
    fields.take("model")
    # Who asked is nobody's concern there; in which form numbers are given is seen to here.
    fields.text("user")
    form = fields.text("encoding_format")
    if form not in {None, "float", "base64"}:
        raise fields.refusal("encoding_format", "is neither float nor base64")
    asked = put(fields, _texts(fields), model)
    fields.finish()
    return asked


def _texts(fields: Fields) -> list[str]:
    given = fields.take("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts:
        raise fields.refusal("input", "is neither a text nor a list of texts")
    if not all(isinstance(text, str) for text in cast("list[Any]", texts)):
        raise fields.refusal(
            "input", f"holds tokens, and those of another's model mean nothing to {fields.taker}"
        )
    return cast("list[str]", texts)


def _dimensions(fields: Fields, name: str) -> dict[str, Any]:
    asked = fields.whole("dimensions", 1, _MOST_DIMENSIONS)
    return {} if asked is None else {name: asked}


def _gemini(fields: Fields, texts: Sequence[str], model: str) -> dict[str, Any]:
    """embedContent for one text, batchEmbedContents for several."""
    settings = _dimensions(fields, "outputDimensionality")
    task = fields.text("task_type")
    if task is not None:
        settings["taskType"] = task
    asked = [{"content": {"parts": [{"text": text}]}, **settings} for text in texts]
    if len(asked) == 1:
        return asked[0]
    return {"requests": [{"model": f"models/{model}", **one} for one in asked]}


def _cohere(fields: Fields, texts: Sequence[str], _: str) -> dict[str, Any]:
    use = fields.text("input_type") or "search_document"
    asked: dict[str, Any] = {"texts": list(texts), "input_type": use, "embedding_types": ["float"]}
    return asked | _dimensions(fields, "output_dimension")


def _bedrock(fields: Fields, texts: Sequence[str], model: str) -> dict[str, Any]:
    if _COHERE.match(model):
        return _cohere(fields, texts, model)
    if not _TITAN.match(model):
        reason = (
            f"is {model}, which gives no embeddings on Bedrock as far as is known here: Titan and Cohere do"
        )
        raise Untranslatable("model", reason)
    if len(texts) > 1:
        raise fields.refusal("input", f"holds {len(texts):,} texts, and Titan takes one at a time")
    return {"inputText": texts[0], **_dimensions(fields, "dimensions")}


def _mistral(fields: Fields, texts: Sequence[str], _: str) -> dict[str, Any]:
    return {"input": list(texts), **_dimensions(fields, "output_dimension")}


def _voyage(fields: Fields, texts: Sequence[str], _: str) -> dict[str, Any]:
    for name in ("dimensions", "input_type"):
        if fields.has(name):
            raise fields.refusal(name, "is said once for a whole batch there, with --param")
    return {"input": list(texts)}


_FAMILIES: Final[dict[Family, tuple[str, Callable[[Fields, Sequence[str], str], dict[str, Any]]]]] = {
    "gemini": ("Gemini", _gemini),
    "cohere": ("Cohere", _cohere),
    "bedrock": ("Bedrock", _bedrock),
    "mistral": ("Mistral", _mistral),
    "voyage": ("Voyage's batches", _voyage),
}


# ---------------------------------------------------------------- answers


def listed(vectors: Sequence[Any], model: str, tokens: int | None) -> dict[str, Any]:
    """Vectors as OpenAI lists them, in the order of the texts. The list always says what it used: nothing, where the
    provider does not say."""
    data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(vectors)]
    used = {"prompt_tokens": tokens or 0, "total_tokens": tokens or 0}
    return {"object": "list", "data": data, "model": model, "usage": used}


def as_asked(answer: dict[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
    """The list as its request wants it: under the model's name there, numbers packed where that was asked for, as the
    official SDK does unless it is told otherwise. Some say but the total of what was used."""
    packs = request.get("encoding_format") == "base64"
    data = (
        [{**one, "embedding": _packed(one["embedding"])} for one in answer["data"]]
        if packs
        else answer["data"]
    )
    used: dict[str, Any] = answer.get("usage") or {}
    total = used.get("total_tokens") or 0
    return {
        **answer,
        "data": data,
        "model": answer.get("model") or request.get("model", ""),
        "usage": {"prompt_tokens": total, "total_tokens": total, **used},
    }


def _packed(vector: Any) -> Any:
    """Numbers as OpenAI packs them: floats of 32 bits, the least byte first, in base64."""
    if isinstance(vector, str):
        return vector
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()
