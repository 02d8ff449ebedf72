"""The official, unmodified Cohere SDK through real sockets: it must not notice the difference."""

import io
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from cohere import Client, ClientV2
from cohere.batches import Batch
from cohere.core import ApiError
from cohere.errors import BadRequestError, NotFoundError, UnauthorizedError
from cohere.utils import dataset_generator

from halfrate.emulator import Emulator, Pace

from .cohere_driver import BATCH_MODEL, KIND, MODEL, body, rows
from .driver import jsonl


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client("key-1", base_url=f"{url}/cohere", max_retries=0, timeout=10) as made:
        yield made


def upload(client: Client, given: list[dict[str, Any]], **more: Any) -> str:
    source = io.BytesIO(jsonl(given))
    source.name = "in.jsonl"
    made = client.datasets.create(name="product embeddings", data=source, type=KIND, **more)
    assert made.id is not None
    return made.id


def create(client: Client, dataset_id: str) -> Batch:
    asked = Batch(name="my-job", input_dataset_id=dataset_id, model=BATCH_MODEL)
    return client.batches.create(request=asked).batch


def retrieve(client: Client, batch: Batch) -> Batch:
    return client.batches.retrieve(str(batch.id)).batch


def test_a_whole_batch_life(client: Client, tmp_path: Path) -> None:
    dataset_id = upload(client, rows(5), keep_original_file=True)
    dataset = client.wait(client.datasets.create(name="x", data=jsonl(rows(1)), type=KIND)).dataset
    assert (dataset.validation_status, dataset.dataset_type) == ("validated", KIND)
    made = create(client, dataset_id)
    assert (made.status, made.num_records, made.output_dataset_id) == ("BATCH_STATUS_QUEUED", 5, "")
    done = retrieve(client, made)
    assert (done.status, done.num_successful_records, done.num_failed_records) == (
        "BATCH_STATUS_COMPLETED",
        5,
        0,
    )
    assert int(done.input_tokens or "0") > 0
    assert done.created_at is not None
    assert done.created_at.tzinfo is not None
    output = client.datasets.get(id=str(done.output_dataset_id)).dataset
    assert (output.dataset_type, output.schema_) == ("batch-embed-v2-output", None)
    (part,) = output.dataset_parts or []
    assert (part.num_rows, part.index) == (5, None)
    found: list[Any] = list(dataset_generator(output))
    assert {one["custom_id"] for one in found} == {f"r-{n}" for n in range(5)}
    assert {one["error"] for one in found} == {""}
    assert [len(vector) for vector in found[0]["body"]["embeddings"]["float"]] == [1536]
    client.utils.save_dataset(output, str(tmp_path / "out.jsonl"), "jsonl")
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == found
    client.datasets.delete(id=str(done.output_dataset_id))
    with pytest.raises(NotFoundError):
        client.datasets.get(id=str(done.output_dataset_id))


def test_datasets(client: Client, tmp_path: Path) -> None:
    one, other = upload(client, rows(3), keep_original_file=True), upload(client, rows(1))
    listed = client.datasets.list(dataset_type=KIND, validation_status="validated", limit=1, offset=1)
    assert [dataset.id for dataset in listed.datasets or []] == [one]
    past, future = datetime(1971, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
    assert len(client.datasets.list(after=past, before=future).datasets or []) == 2
    assert client.datasets.list(after=future).datasets == []
    dataset = client.datasets.get(id=one).dataset
    (part,) = dataset.dataset_parts or []
    assert (part.name, part.num_rows, len(part.samples or [])) == ("in.avro", 3, 3)
    assert part.original_url is not None
    client.utils.save_dataset(dataset, str(tmp_path / "in.avro"), "avro")
    assert (tmp_path / "in.avro").read_bytes().startswith(b"Obj\x01")
    assert (client.datasets.get_usage().organization_usage or 0) > 0
    assert client.datasets.delete(id=other) == {}
    same = client.datasets.create(
        name="a", data=("in.avro", jsonl(rows(2))), type=KIND, keep_original_file=True
    )
    (part,) = client.datasets.get(id=str(same.id)).dataset.dataset_parts or []
    assert httpx.get(str(part.original_url)).content == jsonl(rows(2))
    assert httpx.get(str(part.url)).content.startswith(b"Obj\x01")
    failed = client.datasets.get(id=upload(client, [{"custom_id": "a"}])).dataset
    assert (failed.validation_status, (failed.validation_error or "")[:6]) == ("failed", "line 1")


def test_listing_batches(client: Client) -> None:
    dataset_id = upload(client, rows(1))
    ids = [create(client, dataset_id).id for _ in range(3)]
    assert [batch.id for batch in client.batches.list().batches or []] == ids
    page = client.batches.list(page_size=2, order_by="created_at")
    assert [batch.id for batch in page.batches or []] == ids[:2]
    page = client.batches.list(page_size=2, page_token=page.next_page_token)
    assert ([batch.id for batch in page.batches or []], page.next_page_token) == (ids[2:], "")


def test_cancelling() -> None:
    with (
        Emulator(pace=Pace(validate=0, queue=60)) as slow,
        slow.running() as address,
        Client("key-1", base_url=f"{address}/cohere", max_retries=0) as client,
    ):
        batch = create(client, upload(client, rows(1)))
        assert client.batches.cancel(str(batch.id)) == {}
        assert retrieve(client, batch).status == "BATCH_STATUS_CANCELING"
        deadline = time.monotonic() + 10
        while retrieve(client, batch).status != "BATCH_STATUS_CANCELED":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with pytest.raises(BadRequestError):
            client.batches.cancel(str(batch.id))


def test_realtime(client: Client, url: str) -> None:
    with ClientV2("key-1", base_url=f"{url}/cohere", max_retries=0, timeout=10) as v2:
        asked: dict[str, Any] = {"model": MODEL, "input_type": "search_document"}
        answer = v2.embed(**asked, texts=["a", "b"], embedding_types=["float", "int8"])
        assert [len(vector) for vector in answer.embeddings.float_ or []] == [1536, 1536]
        assert [len(vector) for vector in answer.embeddings.int8 or []] == [1536, 1536]
        assert answer.texts == ["a", "b"]
        assert answer.meta is not None
        assert answer.meta.billed_units is not None
        assert answer.meta.billed_units.input_tokens == 2
        inputs: Any = body("a")["inputs"]
        assert v2.embed(**asked, inputs=inputs, output_dimension=256).embeddings.float_
        with pytest.raises(NotFoundError):
            v2.embed(model="embed-v9", input_type="search_document", texts=["a"])
        with pytest.raises(BadRequestError) as caught:
            v2.embed(**asked, texts=[])
        assert set(caught.value.body) == {"id", "message"}
    with (
        Client("bad-key", base_url=f"{url}/cohere", max_retries=0) as stranger,
        pytest.raises(UnauthorizedError),
    ):
        stranger.batches.list()


def test_the_sdk_repeats_a_create_by_itself(emulator: Emulator, url: str) -> None:
    """What its default costs: the answer to the first create is lost, and the second makes another batch."""
    with Client("key-1", base_url=f"{url}/cohere", max_retries=0, timeout=10) as client:
        dataset_id = upload(client, rows(1))
        emulator.add_fault("create-error:status=502,times=1,provider=cohere")
        with pytest.raises(ApiError) as caught:
            create(client, dataset_id)
        assert caught.value.status_code == 502
        assert len(client.batches.list().batches or []) == 1
    emulator.add_fault("create-error:status=502,times=1,provider=cohere")
    with Client("key-1", base_url=f"{url}/cohere", timeout=10) as client:
        create(client, dataset_id)
        assert len(client.batches.list().batches or []) == 3
