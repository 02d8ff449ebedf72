"""Embeddings of any model in OpenAI's form: the official SDK is the client, the meter the witness."""

import base64
import struct
from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai.types import CreateEmbeddingResponse
from pydantic import TypeAdapter

from .house import House, lines_of, make, wait

Open = Callable[..., House]
LIST = TypeAdapter(CreateEmbeddingResponse)
TITAN = "bedrock/amazon.titan-embed-text-v2:0"
CALLED = [
    "openai/text-embedding-3-small",
    "mistral/mistral-embed",
    "qwen/text-embedding-v4",
    "zhipu/embedding-3",
    "deepinfra/BAAI/bge-m3",
    "gemini/gemini-embedding-001",
    "cohere/embed-v4.0",
    TITAN,
]
# Some have no batches of embeddings, some no calls; Cohere's batches go by a name of their own.
BATCHED = [model for model in CALLED if not model.startswith("cohere/")] + [
    "cohere/batch-embed-v4",
    "voyage/voyage-3.5",
]
UNPRICED = ("qwen/", "zhipu/", "deepinfra/", "cohere/batch-")
"""Nobody has written down what these embeddings cost; unknown stays unknown."""
PATIENT = {"halfrate-deadline": "8h"}


def settled(home: House, key: str, model: str) -> None:
    """What was answered is in the ledger, and is what the meter says."""
    home.client(key).get("/halfrate/cost", cast_to=object)
    (line,) = home.service.costs(by=())
    assert line.cost == (None if model.startswith(UNPRICED) else int(home.meter()["picodollars"]))


def unpacked(vector: Any) -> list[float]:
    """Numbers, however they came."""
    if isinstance(vector, str):
        data = base64.b64decode(vector)
        return list(struct.unpack(f"<{len(data) // 4}f", data))
    return vector


def line(number: int, model: str, **body: Any) -> dict[str, Any]:
    asked = {"model": model, "input": f"Parcel {number}", **body}
    return {"custom_id": f"row {number}", "method": "POST", "url": "/v1/embeddings", "body": asked}


@pytest.mark.parametrize("model", CALLED)
def test_any_model_embeds_as_the_official_client_asks(house: Open, model: str) -> None:
    home = house()
    key = home.key()[1]
    client = home.client(key)
    # Unless it is told otherwise, this client asks for numbers that are packed.
    packed = client.embeddings.create(model=model, input="A quick brown fox")
    plain = client.embeddings.create(model=model, input="A quick brown fox", encoding_format="float")
    assert packed.object == "list"
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, rel=1e-6, abs=1e-8)
    assert len(plain.data[0].embedding) > 100
    assert plain.usage.total_tokens == plain.usage.prompt_tokens > 0
    assert home.meter()["realtime_billed"] == 2
    assert home.meter()["tokens"]["input"] == plain.usage.prompt_tokens + packed.usage.prompt_tokens
    settled(home, key, model)


@pytest.mark.parametrize("model", [model for model in CALLED if model != TITAN])
def test_several_texts_come_back_in_their_order(house: Open, model: str) -> None:
    home = house()
    key = home.key()[1]
    client = home.client(key)
    texts = ["one", "two", "three"]
    together = client.embeddings.create(model=model, input=texts, encoding_format="float")
    alone = [client.embeddings.create(model=model, input=text, encoding_format="float") for text in texts]
    assert [one.index for one in together.data] == [0, 1, 2]
    assert [one.embedding for one in together.data] == [one.data[0].embedding for one in alone]
    settled(home, key, model)


@pytest.mark.parametrize("model", BATCHED)
def test_a_batch_of_embeddings_runs_on_any_model(house: Open, model: str) -> None:
    home = house()
    key = home.key()[1]
    client = home.client(key)
    # Bedrock runs no batch of fewer rows.
    rows = 100 if model == TITAN else 6
    lines = [line(0, model, encoding_format="base64"), *(line(number, model) for number in range(1, rows))]
    batch = wait(client, make(client, lines, endpoint="/v1/embeddings"))
    assert batch.status == "completed", batch.errors
    found = {one["custom_id"]: one["response"] for one in lines_of(client, batch.output_file_id)}
    assert found.keys() == {f"row {number}" for number in range(rows)}
    vectors: list[list[float]] = []
    for number in range(rows):
        answer = found[f"row {number}"]
        assert answer["status_code"] == 200
        vectors.append(unpacked(answer["body"]["data"][0].pop("embedding")))
        answer["body"]["data"][0]["embedding"] = vectors[-1]
        assert LIST.validate_python(answer["body"]).model
    assert len({tuple(vector) for vector in vectors}) == rows
    assert len({len(vector) for vector in vectors}) == 1
    assert home.meter()["rows_billed"] == rows
    assert home.paid_twice() == 0
    settled(home, key, model)


@pytest.mark.parametrize(
    "model", ["gemini/gemini-embedding-001", "cohere/batch-embed-v4", "mistral/mistral-embed"]
)
def test_embeddings_that_can_wait_go_into_a_batch(house: Open, model: str) -> None:
    home = house()
    key = home.key()[1]
    raw = home.client(key).embeddings.with_raw_response.create(
        model=model, input="A quick brown fox", extra_headers=PATIENT
    )
    assert raw.headers["x-halfrate-tier"] == "batch"
    assert len(raw.parse().data[0].embedding) > 100
    assert home.meter()["realtime_billed"] == 0
    assert home.meter()["rows_billed"] == 1
    settled(home, key, model)


def test_what_has_no_equivalent_is_refused_before_anything_is_sent(house: Open) -> None:
    home = house()
    client = home.client(home.key()[1])
    with pytest.raises(openai.BadRequestError, match="holds tokens") as tokens:
        client.embeddings.create(model="gemini/gemini-embedding-001", input=[1, 2, 3])
    assert tokens.value.param == "input"
    with pytest.raises(openai.BadRequestError, match="Titan takes one at a time"):
        client.embeddings.create(model=TITAN, input=["one", "two"])
    with pytest.raises(openai.BadRequestError, match="1 text stands in a row"):
        client.embeddings.create(
            model="gemini/gemini-embedding-001", input=["one", "two"], extra_headers=PATIENT
        )
    for model, more, said in [
        ("gemini/gemini-embedding-001", {"input": ["one", "two"]}, "holds 2 texts"),
        ("voyage/voyage-3.5", {"dimensions": 256}, "dimensions"),
        ("cohere/batch-embed-v4", {"input": [[1, 2]]}, "holds tokens"),
    ]:
        lines = [line(0, model), line(1, model, **more), line(2, model)]
        batch = wait(client, make(client, lines, endpoint="/v1/embeddings"))
        assert batch.status == "failed"
        assert batch.errors is not None
        (error,) = list(batch.errors.data or ())
        assert error.line == 2
        assert said in (error.message or "")
    assert home.meter()["rows_received"] == home.meter()["realtime_received"] == 0


def test_what_a_text_is_embedded_for_may_be_said(house: Open) -> None:
    home = house()
    client = home.client(home.key()[1])
    for model, said in [
        ("gemini/gemini-embedding-001", {"task_type": "RETRIEVAL_QUERY"}),
        ("cohere/embed-v4.0", {"input_type": "search_query"}),
    ]:
        found = client.embeddings.create(model=model, input="fox", dimensions=512, extra_body=said)
        assert len(found.data[0].embedding) == 512
    with pytest.raises(openai.BadRequestError, match="input_type"):
        client.embeddings.create(
            model="cohere/embed-v4.0", input="fox", extra_body={"input_type": "no-such-use"}
        )
