"""The official, unmodified Mistral SDK through real sockets: it must not notice the difference."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from mistralai.client import Mistral
from mistralai.client.errors import SDKError

from halfrate.emulator import Emulator, Pace

from .driver import jsonl
from .mistral_driver import MODEL, body, rows


@pytest.fixture
def client(url: str) -> Iterator[Mistral]:
    with Mistral(api_key="key-1", server_url=f"{url}/mistral", timeout_ms=10_000) as made:
        yield made


def lines(client: Mistral, file_id: Any) -> list[Any]:
    content = client.files.download(file_id=file_id).read()
    return [json.loads(line) for line in content.split(b"\n") if line]


def test_a_whole_batch_life(client: Mistral) -> None:
    uploaded = client.files.upload(file={"file_name": "in.jsonl", "content": jsonl(rows(5))}, purpose="batch")
    assert (uploaded.size_bytes, uploaded.filename) == (len(jsonl(rows(5))), "in.jsonl")
    job = client.batch.jobs.create(
        input_files=[uploaded.id],
        model=MODEL,
        endpoint="/v1/chat/completions",
        metadata={"tag": "hr-1"},
        timeout_hours=24,
    )
    assert (job.status, job.object) == ("QUEUED", "batch")
    job = client.batch.jobs.get(job_id=job.id)
    assert (job.status, job.succeeded_requests, job.metadata) == ("SUCCESS", 5, {"tag": "hr-1"})
    assert job.completed_at
    assert job.started_at
    found = lines(client, job.output_file)
    assert {one["custom_id"] for one in found} == {f"r-{n}" for n in range(5)}
    inline = client.batch.jobs.get(job_id=job.id, inline=True)
    assert len(inline.outputs or []) == 5
    assert client.batch.jobs.delete(job_id=job.id).deleted
    assert client.files.delete(file_id=uploaded.id).deleted
    with pytest.raises(SDKError) as caught:
        client.batch.jobs.get(job_id=job.id)
    assert caught.value.status_code == 404


def test_files(client: Mistral) -> None:
    made = [
        client.files.upload(file={"file_name": f"{n}.jsonl", "content": b"x" * n}, purpose="batch")
        for n in range(1, 4)
    ]
    listed = client.files.list(page_size=2)
    assert [one.id for one in listed.data] == [made[2].id, made[1].id]
    assert listed.total == 3
    assert client.files.list(page=1, page_size=2, purpose="batch").data[0].id == made[0].id
    assert client.files.retrieve(file_id=made[0].id).deleted is False
    assert client.files.download(file_id=made[2].id).read() == b"xxx"
    assert client.files.get_signed_url(file_id=made[0].id).url.startswith("http://127.0.0.1")


def test_listing_jobs(client: Mistral) -> None:
    ids = [
        client.batch.jobs.create(
            requests=[{"custom_id": "a", "body": body("hi")}],
            model=MODEL,
            endpoint="/v1/chat/completions",
            metadata={"tag": f"hr-{n}"},
        ).id
        for n in range(3)
    ]
    assert [one.id for one in client.batch.jobs.list().data or []] == ids[::-1]
    assert [one.id for one in client.batch.jobs.list(metadata={"tag": "hr-1"}).data or []] == [ids[1]]
    past, future = datetime(1971, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
    assert client.batch.jobs.list(created_after=past, order_by="created").total == 3
    assert client.batch.jobs.list(created_after=future).total == 0
    assert client.batch.jobs.list(status=["SUCCESS", "FAILED"], model=MODEL).total == 3
    assert client.batch.jobs.list(status=["RUNNING"]).total == 0
    assert [one.id for one in client.batch.jobs.list(page=2, page_size=1).data or []] == [ids[0]]


def test_cancelling() -> None:
    with Emulator(pace=Pace(queue=60)) as slow, slow.running() as address:
        client = Mistral(api_key="key-1", server_url=f"{address}/mistral")
        job = client.batch.jobs.create(
            requests=[{"custom_id": "a", "body": body("hi")}], model=MODEL, endpoint="/v1/chat/completions"
        )
        assert client.batch.jobs.cancel(job_id=job.id).status == "CANCELLATION_REQUESTED"
        deadline = time.monotonic() + 10
        while (job := client.batch.jobs.get(job_id=job.id)).status != "CANCELLED":
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_realtime(client: Mistral) -> None:
    schema: Any = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    messages: Any = [{"role": "user", "content": "hi"}]
    form: Any = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    answer: Any = client.chat.complete(model=MODEL, messages=messages, max_tokens=50, response_format=form)
    assert isinstance(json.loads(str(answer.choices[0].message.content))["n"], int)
    assert answer.usage.prompt_tokens
    assert answer.usage.completion_tokens
    tool: Any = {"type": "function", "function": {"name": "look", "parameters": schema}}
    called: Any = client.chat.complete(model=MODEL, messages=messages, tools=[tool], tool_choice="any")
    assert called.choices[0].finish_reason == "tool_calls"
    assert called.choices[0].message.tool_calls[0].function.name == "look"
    streamed = list(client.chat.stream(model=MODEL, messages=messages))
    assert streamed[-1].data.usage is not None
    embedded = client.embeddings.create(model="mistral-embed", inputs=["a", "b"])
    assert [len(one.embedding or []) for one in embedded.data] == [1024, 1024]
    models: Any = client.models.list().data
    assert {one.id for one in models} >= {MODEL, "mistral-embed"}
    with pytest.raises(SDKError):
        client.chat.complete(model="mistral-unknown", messages=messages)
    with pytest.raises(SDKError, match="422"):
        client.batch.jobs.create(endpoint="/v1/ocr", requests=[])


def test_embeddings_in_a_batch(client: Mistral, emulator: Emulator) -> None:
    job = client.batch.jobs.create(
        requests=[{"custom_id": "a", "body": {"input": ["one", "two"]}}],
        model="mistral-embed",
        endpoint="/v1/embeddings",
    )
    done = client.batch.jobs.get(job_id=job.id, inline=True)
    assert len((done.outputs or [])[0]["response"]["body"]["data"]) == 2
    assert emulator.meter.snapshot()["rows_billed"] == 1
