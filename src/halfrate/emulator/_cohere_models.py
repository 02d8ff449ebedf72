"""Cohere's embeddings (API reference: embed v2), as realtime calls and as rows of a batch."""

import base64
import struct
from collections.abc import Callable
from typing import Any, Final

import msgspec

from halfrate.emulator._cohere_prices import REALTIME
from halfrate.emulator._cohere_wire import refused
from halfrate.emulator._context import Context
from halfrate.emulator._models import find_model
from halfrate.emulator._openai_models import EMBEDDINGS
from halfrate.emulator._openai_models import answer as openai_answer
from halfrate.emulator._prices import Model, Tokens
from halfrate.emulator._rows import Answered, Ask
from halfrate.emulator._tokens import IMAGE_TOKENS, text_tokens
from halfrate.emulator._wire import ApiError, Document, as_document, as_list, documents

PROVIDER: Final = "cohere"
EMBED: Final = "/v2/embed"
_USES: Final = ("search_document", "search_query", "classification", "clustering", "image")
_TRUNCATIONS: Final = ("NONE", "START", "END")
_DIMENSIONS: Final = (256, 512, 1_024, 1_536)
_MOST: Final = 96
_SPREAD: Final = 1_024
"""A component of a vector is seldom larger than 0.1: times this it fills a byte."""


def resolve(body: Document) -> Model:
    """The model that a batch names."""
    name = body.get("model")
    model = find_model(name, PROVIDER)
    if model is None:
        raise _unknown(name)
    return model


def resolve_realtime(body: Document) -> Model:
    """The model that a call names: one that is for batches alone is not found."""
    model = resolve(body)
    if model is not REALTIME:
        raise _unknown(model.name)
    return model


def _unknown(name: object) -> ApiError:
    return ApiError(404, f"model '{name}' not found, make sure the correct model ID was used")


class _Item(msgspec.Struct, frozen=True):
    """One input: its text, and how many images go with it."""

    text: str
    images: tuple[str, ...] = ()


def answer(context: Context, body: Document, ask: Ask) -> Answered:
    """What the service answers with status 200; any other status comes as ApiError."""
    model = resolve(body)
    _check_options(body)
    items, types = _items(body), _types(body, in_batch=bool(ask.batch_id))
    tokens = Tokens(input=sum(_text_size(item, body) for item in items))
    images = sum(len(item.images) for item in items) * IMAGE_TOKENS
    asked: Document = {
        "model": model.name,
        "input": ["\n".join((item.text, *item.images)) for item in items],
        "dimensions": body.get("output_dimension"),
    }
    vectors = [one["embedding"] for one in openai_answer(context, EMBEDDINGS, asked, ask).body["data"]]
    document: Document = {
        "id": context.new_id(""),
        **({"texts": body["texts"]} if body.get("texts") else {}),
        "embeddings": {name: [_FORMS[name](vector) for vector in vectors] for name in types},
        "meta": {
            "api_version": {"version": "2"},
            "billed_units": {"input_tokens": tokens.input, "image_tokens": images},
        },
        "response_type": "embeddings_by_type",
    }
    return Answered(document, model, Tokens(input=tokens.input + images))


def _check_options(body: Document) -> None:
    if body.get("input_type") not in _USES:
        raise refused(f"input_type must be one of {', '.join(_USES)}.")
    if body.get("truncate") not in (None, *_TRUNCATIONS):
        raise refused(f"truncate must be one of {', '.join(_TRUNCATIONS)}.")
    if body.get("output_dimension") not in (None, *_DIMENSIONS):
        raise refused(f"output_dimension must be one of {', '.join(map(str, _DIMENSIONS))}.")
    most = body.get("max_tokens")
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
        raise refused("max_tokens must be a positive integer.")


def _types(body: Document, *, in_batch: bool) -> list[str]:
    given = body.get("embedding_types")
    types = ["float"] if given is None else as_list(given)
    # The schema of batch results has no place for base64.
    served = [name for name in _FORMS if not (in_batch and name == "base64")]
    if not types or any(name not in served for name in types):
        raise refused(f"embedding_types must be among {', '.join(served)}.")
    return types


def _items(body: Document) -> list[_Item]:
    """What is to be embedded: exactly one of texts, images and inputs says it."""
    given = [key for key in ("texts", "images", "inputs") if body.get(key) is not None]
    if len(given) != 1:
        raise refused("exactly one of texts, images and inputs must be given.")
    key = given[0]
    found = as_list(body[key])
    if not found or (key != "images" and len(found) > _MOST):
        raise refused(f"{key} must have at least 1 and at most {_MOST} items.")
    if key == "inputs":
        return [_mixed(one) for one in found]
    if not all(isinstance(one, str) for one in found):
        raise refused(f"{key} must be strings.")
    return [_Item(one) for one in found] if key == "texts" else [_Item("", (_image(one),)) for one in found]


def _mixed(given: Any) -> _Item:
    """An input of several parts, which make one vector."""
    texts: list[str] = []
    images: list[str] = []
    for part in documents((as_document(given) or {}).get("content")):
        if part.get("type") == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif part.get("type") == "image_url":
            # An object in a call; in a batch's rows the schema has a string.
            holder = as_document(part.get("image_url"))
            images.append(_image(part.get("image_url") if holder is None else holder.get("url")))
        else:
            raise refused("content must be of type text or image_url.")
    if not texts and not images:
        raise refused("inputs must have content.")
    return _Item("\n".join(texts), tuple(images))


def _image(given: object) -> str:
    if not isinstance(given, str) or not given.startswith("data:image/"):
        raise refused("images must be data URIs.")
    return given


def _text_size(item: _Item, body: Document) -> int:
    size = text_tokens(len(item.text.encode(errors="replace")))
    size = size if item.images else max(1, size)
    return min(size, body.get("max_tokens") or size)


def _int8(vector: list[float]) -> list[int]:
    return [min(127, max(-128, round(value * _SPREAD))) for value in vector]


def _uint8(vector: list[float]) -> list[int]:
    return [value + 128 for value in _int8(vector)]


def _ubinary(vector: list[float]) -> list[int]:
    bits = "".join("1" if value > 0 else "0" for value in vector)
    return [int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)]


def _binary(vector: list[float]) -> list[int]:
    return [value - 128 for value in _ubinary(vector)]


def _base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


_FORMS: Final[dict[str, Callable[[list[float]], Any]]] = {
    "float": list,
    "int8": _int8,
    "uint8": _uint8,
    "binary": _binary,
    "ubinary": _ubinary,
    "base64": _base64,
}
