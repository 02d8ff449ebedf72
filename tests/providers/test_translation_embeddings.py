"""Requests for embeddings in OpenAI's form, put into others' forms and their vectors back: nothing is dropped."""

import struct
from base64 import b64decode
from typing import Any, Final

import pytest
from google.genai import types as google
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse

from halfrate.providers.translation import Untranslatable
from halfrate.providers.translation.embeddings import Family, as_asked, listed, request_to

MODELS: Final[dict[Family, str]] = {
    "gemini": "gemini-embedding-001",
    "cohere": "embed-v4.0",
    "bedrock": "cohere.embed-v4:0",
    "mistral": "mistral-embed",
    "voyage": "voyage-3.5",
}
FAMILIES: Final = sorted(MODELS)
TITAN: Final = "amazon.titan-embed-text-v2:0"

texts = st.text(min_size=1)
asked = st.fixed_dictionaries(
    {"model": texts, "input": texts | st.lists(texts, min_size=1, max_size=5)},
    optional={
        "encoding_format": st.sampled_from(["float", "base64", None]),
        "user": st.none() | texts,
        "dimensions": st.none() | st.integers(1, 4096),
    },
)
singles = st.floats(width=32, allow_nan=False, allow_infinity=False)


def put(family: Family, **body: Any) -> dict[str, Any]:
    return request_to(family, {"model": "x", "input": "Hi", **body}, MODELS[family])


def refused(family: Family, model: str = "", **body: Any) -> Untranslatable:
    with pytest.raises(Untranslatable) as caught:
        request_to(family, {"input": "Hi", **body}, model or MODELS[family])
    return caught.value


def _texts(body: dict[str, Any]) -> list[str]:
    return [body["input"]] if isinstance(body["input"], str) else body["input"]


@given(asked)
def test_gemini_is_told_every_text_and_how_long_its_vector_is_to_be(body: dict[str, Any]) -> None:
    out = request_to("gemini", body, "gemini-embedding-001")
    many = out.get("requests", [out])
    assert len(many) == len(_texts(body))
    assert all(one["model"] == "models/gemini-embedding-001" for one in out.get("requests", ()))
    contents = [google.Content.model_validate(one["content"]) for one in many]
    assert [[part.text for part in content.parts or ()] for content in contents] == [
        [text] for text in _texts(body)
    ]
    assert {one.get("outputDimensionality") for one in many} == {body.get("dimensions")}


@given(asked, st.sampled_from(["cohere", "bedrock"]))
def test_cohere_is_told_every_text_and_what_for(body: dict[str, Any], family: Family) -> None:
    out = request_to(family, body, MODELS[family])
    assert out["texts"] == _texts(body)
    assert out["input_type"] == "search_document"
    assert out["embedding_types"] == ["float"]
    assert out.get("output_dimension") == body.get("dimensions")


@given(asked)
def test_mistral_is_told_every_text(body: dict[str, Any]) -> None:
    out = request_to("mistral", body, "mistral-embed")
    assert out["input"] == _texts(body)
    assert out.get("output_dimension") == body.get("dimensions")
    assert "model" not in out


def test_titan_takes_one_text_at_a_time() -> None:
    assert request_to("bedrock", {"input": ["Hi"], "dimensions": 256}, TITAN) == {
        "inputText": "Hi",
        "dimensions": 256,
    }
    fault = refused("bedrock", TITAN, input=["Hi", "Ho"])
    assert (fault.field, "one at a time" in fault.reason) == ("input", True)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_no_other_model_understands_is_refused_by_name(family: Family) -> None:
    for given_input in ([1, 2, 3], [[1], [2]], ["Hi", 1]):
        assert refused(family, input=given_input).field == "input"
    for nothing in (None, [], {}, 7):
        assert refused(family, input=nothing).field == "input"
    assert refused(family, encoding_format="int8").field == "encoding_format"
    assert refused(family, dimensions=0).field == "dimensions"
    assert refused(family, user=5).field == "user"
    assert refused(family, truncate="END").field == "truncate"


def test_settings_that_are_said_elsewhere_or_nowhere_are_refused() -> None:
    assert refused("voyage", dimensions=256).field == "dimensions"
    assert refused("voyage", input_type="query").field == "input_type"
    assert refused("mistral", input_type="query").field == "input_type"
    assert refused("gemini", input_type="search_query").field == "input_type"
    assert refused("cohere", task_type="RETRIEVAL_QUERY").field == "task_type"
    assert refused("bedrock", "anthropic.claude-haiku-4-5").field == "model"
    assert put("gemini", task_type="RETRIEVAL_QUERY")["taskType"] == "RETRIEVAL_QUERY"
    assert put("cohere", input_type="search_query")["input_type"] == "search_query"


@given(st.lists(st.lists(singles, min_size=1, max_size=4), min_size=1, max_size=4), st.integers(0, 10**9))
def test_vectors_come_back_as_they_were_packed_or_not(vectors: list[list[float]], tokens: int) -> None:
    answer = listed(vectors, "", tokens)
    plain = as_asked(answer, {"model": "m", "encoding_format": "float"})
    packed = as_asked(answer, {"model": "m", "encoding_format": "base64"})
    for found in (plain, as_asked(answer, {"model": "m"})):
        read = CreateEmbeddingResponse.model_validate(found)
        assert [one.embedding for one in read.data] == vectors
        assert [one.index for one in read.data] == list(range(len(vectors)))
        assert (read.model, read.usage.prompt_tokens, read.usage.total_tokens) == ("m", tokens, tokens)
    for one, vector in zip(packed["data"], vectors, strict=True):
        data = b64decode(one["embedding"])
        assert list(struct.unpack(f"<{len(vector)}f", data)) == vector
    # What is packed already is left as it is.
    assert as_asked(packed, {"encoding_format": "base64"})["data"] == packed["data"]


def test_the_provider_s_own_name_of_the_model_stays_and_a_total_alone_is_enough() -> None:
    answer = {"object": "list", "data": [], "model": "voyage-3.5", "usage": {"total_tokens": 7}}
    found = as_asked(answer, {"model": "x"})
    assert found["model"] == "voyage-3.5"
    assert found["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
