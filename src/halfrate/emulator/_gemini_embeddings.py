"""Gemini's embedding model: embedContent, in realtime or as a row of a batch (embeddings guide and reference)."""

import math
from array import array
from hashlib import shake_256

from halfrate.emulator._gemini_models import content_text
from halfrate.emulator._gemini_wire import camel, pick, whole
from halfrate.emulator._prices import Model, Tokens
from halfrate.emulator._rows import Answered
from halfrate.emulator._tokens import text_tokens
from halfrate.emulator._wire import ApiError, Document, as_document, as_list

_KNOWN = frozenset(
    {
        "model",
        "content",
        "taskType",
        "title",
        "outputDimensionality",
        "embedContentConfig",
        "autoTruncate",
    }
)
_NATURAL = 3_072


def embed_tokens(body: Document) -> int:
    """Tokens of one embedContent request: its text alone."""
    return max(1, text_tokens(len(content_text(body.get("content")).encode(errors="replace"))))


def embed(body: Document, model: Model) -> Answered:
    """What embedContent answers with status 200; any other status comes as ApiError."""
    for key in body:
        if camel(key) not in _KNOWN:
            message = f'Invalid JSON payload received. Unknown name "{key}": Cannot find field.'
            raise ApiError(400, message)
    content = as_document(body.get("content"))
    if content is None or not as_list(content.get("parts")):
        raise ApiError(400, "* EmbedContentRequest.content: contents is not specified\n")
    given = pick(body, "outputDimensionality")
    if given is None:
        given = pick(as_document(pick(body, "embedContentConfig")) or {}, "outputDimensionality")
    dimensions = _NATURAL if given is None else whole(given)
    if dimensions is None or not 1 <= dimensions <= _NATURAL:
        raise ApiError(400, f"* EmbedContentRequest.output_dimensionality: must be 1 to {_NATURAL}.\n")
    tokens = Tokens(input=embed_tokens(body))
    values = _vector(content_text(content), dimensions)
    return Answered({"embedding": {"values": values}}, model, tokens)


def _vector(text: str, dimensions: int) -> list[float]:
    """A vector of length 1 that depends on the text alone."""
    raw = array("h")
    raw.frombytes(shake_256(text.encode(errors="replace")).digest(dimensions * 2))
    length = math.sqrt(sum(value * value for value in raw)) or 1.0
    return [round(value / length, 8) for value in raw]
