"""The official, unmodified OpenAI SDK through real sockets: it must not notice the difference."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import openai
import pydantic
import pytest

from halfrate.emulator import Emulator, Pace

from .driver import GPT, chat_body, chat_rows, jsonl, row

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"category": {"type": "string", "enum": ["billing", "bug"]}, "score": {"type": "integer"}},
    "required": ["category", "score"],
    "additionalProperties": False,
}


def make_batch(client: openai.OpenAI, rows: list[dict[str, Any]], endpoint: Any = "/v1/chat/completions"):
    uploaded = client.files.create(file=("in.jsonl", jsonl(rows)), purpose="batch")
    return client.batches.create(
        input_file_id=uploaded.id, endpoint=endpoint, completion_window="24h", metadata={"tag": "t-1"}
    )


def read_lines(client: openai.OpenAI, file_id: str | None) -> list[Any]:
    assert file_id is not None
    return [json.loads(line) for line in client.files.content(file_id).content.split(b"\n") if line]


def test_the_tutorial_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch guide's own steps: write a file, upload, create, poll, download."""
    monkeypatch.chdir(tmp_path)
    pace = Pace(validate=0.05, queue=0.05, per_1000_rows=20, finalize=0.05)
    with Emulator(pace=pace) as emulator, emulator.running() as url:
        monkeypatch.setenv("OPENAI_BASE_URL", emulator.openai_base_url(url))
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        client = openai.OpenAI()

        with Path("batchinput.jsonl").open("w", encoding="utf-8") as file:
            for number in range(1, 6):
                request = row(f"request-{number}", chat_body("Hello world!", "gpt-4o-mini", max_tokens=1000))
                file.write(json.dumps(request) + "\n")

        with Path("batchinput.jsonl").open("rb") as file:
            batch_input_file = client.files.create(file=file, purpose="batch")
        batch = client.batches.create(
            input_file_id=batch_input_file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"description": "nightly eval job"},
        )
        seen = [batch.status]
        while batch.status not in {"completed", "failed", "expired", "cancelled"}:
            time.sleep(0.02)
            batch = client.batches.retrieve(batch.id)
            seen.append(batch.status)
        assert batch.output_file_id is not None
        file_response = client.files.content(batch.output_file_id)
        rows = [json.loads(line) for line in file_response.text.splitlines()]
        client.close()

    assert list(dict.fromkeys(seen)) == ["validating", "in_progress", "finalizing", "completed"]
    assert {one["custom_id"] for one in rows} == {f"request-{n}" for n in range(1, 6)}
    assert len({one["response"]["body"]["choices"][0]["message"]["content"] for one in rows}) == 1
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed) == (5, 5)
    assert batch.metadata == {"description": "nightly eval job"}
    assert batch.usage is not None
    assert batch.usage.total_tokens == sum(one["response"]["body"]["usage"]["total_tokens"] for one in rows)


def test_every_field_of_a_finished_batch(openai_client: openai.OpenAI) -> None:
    made = make_batch(openai_client, chat_rows(3))
    assert (made.status, made.request_counts and made.request_counts.total) == ("validating", 0)
    batch = openai_client.batches.retrieve(made.id)
    assert batch.status == "completed"
    assert batch.object == "batch"
    assert batch.endpoint == "/v1/chat/completions"
    assert batch.model == GPT
    assert batch.errors is None
    assert batch.error_file_id is None
    assert batch.expires_at == batch.created_at + 86_400
    assert None not in {batch.in_progress_at, batch.finalizing_at, batch.completed_at}
    assert batch.metadata == {"tag": "t-1"}
    output = openai_client.files.retrieve(batch.output_file_id or "")
    assert output.purpose == "batch_output"
    assert output.expires_at == output.created_at + 30 * 86_400


def test_files_live_a_whole_life(openai_client: openai.OpenAI) -> None:
    content = jsonl(chat_rows(2))
    made = openai_client.files.create(
        file=("in.jsonl", content), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert made.expires_at == made.created_at + 3600
    assert made.bytes == len(content)
    assert openai_client.files.retrieve(made.id).filename == "in.jsonl"
    assert openai_client.files.content(made.id).read() == content
    with openai_client.files.with_streaming_response.content(made.id) as streamed:
        assert b"".join(streamed.iter_bytes(10)) == content
    assert openai_client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        openai_client.files.retrieve(made.id)


def test_listing_files_pages_and_filters(openai_client: openai.OpenAI) -> None:
    ids = [openai_client.files.create(file=(f"{n}", b"x"), purpose="batch").id for n in range(5)]
    other = openai_client.files.create(file=("u", b"x"), purpose="user_data")
    assert [one.id for one in openai_client.files.list(limit=2, purpose="batch")] == ids[::-1]
    assert [one.id for one in openai_client.files.list(limit=2, order="asc")] == [*ids, other.id]


def test_listing_batches_pages_newest_first(openai_client: openai.OpenAI) -> None:
    ids = [make_batch(openai_client, chat_rows(1)).id for _ in range(5)]
    assert [one.id for one in openai_client.batches.list(limit=2)] == ids[::-1]
    page = openai_client.batches.list(limit=5)
    assert page.has_more is False
    with pytest.raises(openai.BadRequestError):
        openai_client.batches.list(limit=101)
    with pytest.raises(openai.BadRequestError):
        openai_client.batches.list(after="batch_nobody")


def test_uploads_in_parts(openai_client: openai.OpenAI) -> None:
    content = jsonl(chat_rows(20))
    upload = openai_client.uploads.create(
        bytes=len(content), filename="big.jsonl", mime_type="application/jsonl", purpose="batch"
    )
    halves = [content[: len(content) // 2], content[len(content) // 2 :]]
    parts = [openai_client.uploads.parts.create(upload.id, data=half).id for half in halves]
    with pytest.raises(openai.BadRequestError):
        openai_client.uploads.complete(upload.id, part_ids=parts, md5="0" * 32)
    done = openai_client.uploads.complete(
        upload.id, part_ids=parts, md5=hashlib.md5(content, usedforsecurity=False).hexdigest()
    )
    assert done.status == "completed"
    assert done.file is not None
    assert openai_client.files.content(done.file.id).read() == content
    with pytest.raises(openai.BadRequestError):
        openai_client.uploads.cancel(upload.id)
    whole = openai_client.uploads.upload_file_chunked(
        file=content,
        filename="b.jsonl",
        bytes=len(content),
        mime_type="application/jsonl",
        purpose="batch",
        part_size=500,
    )
    assert whole.file is not None
    batch = openai_client.batches.create(
        input_file_id=whole.file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    assert openai_client.batches.retrieve(batch.id).status == "completed"
    other = openai_client.uploads.create(bytes=3, filename="c", mime_type="text/plain", purpose="batch")
    assert openai_client.uploads.cancel(other.id).status == "cancelled"


def test_cancelling(openai_client: openai.OpenAI, url: str) -> None:
    with Emulator(pace=Pace(queue=60)) as slow, slow.running() as address:
        client = openai_client.with_options(base_url=slow.openai_base_url(address))
        batch = make_batch(client, chat_rows(2))
        assert client.batches.cancel(batch.id).status == "cancelling"
        deadline = time.monotonic() + 10
        while (batch := client.batches.retrieve(batch.id)).status != "cancelled":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert None not in {batch.cancelling_at, batch.cancelled_at}
        with pytest.raises(openai.ConflictError):
            client.batches.cancel(batch.id)


def test_a_failed_batch_names_its_lines(openai_client: openai.OpenAI) -> None:
    rows = [*chat_rows(2), row("r-0", chat_body("again")), row("x", chat_body("hi", "gpt-unknown"))]
    batch = openai_client.batches.retrieve(make_batch(openai_client, rows).id)
    assert batch.status == "failed"
    assert batch.errors is not None
    assert [(one.code, one.line) for one in batch.errors.data or ()] == [
        ("duplicate_custom_id", 3),
        ("model_not_found", 4),
    ]


def test_error_classes(openai_client: openai.OpenAI, emulator: Emulator) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        openai_client.with_options(api_key="bad-key").models.list()
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.AuthenticationError):
        openai_client.with_options(api_key="sk-invalid-1").batches.list()
    with pytest.raises(openai.NotFoundError):
        openai_client.batches.retrieve("batch_nobody")
    with pytest.raises(openai.NotFoundError):
        openai_client.chat.completions.create(model="gpt-none", messages=[{"role": "user", "content": "x"}])
    with pytest.raises(openai.BadRequestError) as bad:
        openai_client.batches.create(
            input_file_id="file-nobody", endpoint="/v1/chat/completions", completion_window="24h"
        )
    assert bad.value.param == "input_file_id"
    emulator.add_fault("rate-limit:on=poll,retry_after=3")
    with pytest.raises(openai.RateLimitError) as limited:
        openai_client.batches.retrieve("batch_nobody")
    assert limited.value.response.headers["retry-after"] == "3"
    assert limited.value.request_id
    emulator.add_fault("poll-error:status=500")
    with pytest.raises(openai.InternalServerError):
        openai_client.batches.retrieve("batch_nobody")


def test_what_belongs_to_a_key_is_hidden_from_others(openai_client: openai.OpenAI) -> None:
    batch = openai_client.batches.retrieve(make_batch(openai_client, chat_rows(1)).id)
    stranger = openai_client.with_options(api_key="key-2")
    assert list(stranger.batches.list()) == []
    for look in (
        lambda: stranger.batches.retrieve(batch.id),
        lambda: stranger.files.retrieve(batch.input_file_id),
        lambda: stranger.files.content(batch.output_file_id or ""),
    ):
        with pytest.raises(openai.NotFoundError):
            look()


def test_models(openai_client: openai.OpenAI) -> None:
    assert GPT in {model.id for model in openai_client.models.list()}
    assert openai_client.models.retrieve("gpt-4.1-mini-2025-04-14").object == "model"


def test_chat_whole_and_streamed(openai_client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "My invoice is wrong"}]
    whole = openai_client.chat.completions.create(model=GPT, messages=messages)
    assert whole.model == "gpt-4.1-mini-2025-04-14"
    text = whole.choices[0].message.content or ""
    assert "My invoice is wrong" in text
    stream = openai_client.chat.completions.create(
        model=GPT, messages=messages, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text
    assert chunks[-1].usage == whole.usage
    short = openai_client.chat.completions.create(model=GPT, messages=messages, max_completion_tokens=3)
    assert (short.choices[0].finish_reason, short.usage and short.usage.completion_tokens) == ("length", 3)


class Ticket(pydantic.BaseModel):
    category: str
    urgent: bool
    tags: list[str]
    note: str | None


def test_structured_output_and_tools(openai_client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "There is a bug in the app"}]
    parsed = openai_client.chat.completions.parse(model=GPT, messages=messages, response_format=Ticket)
    assert isinstance(parsed.choices[0].message.parsed, Ticket)
    response = openai_client.responses.parse(model=GPT, input="There is a bug", text_format=Ticket)
    assert isinstance(response.output_parsed, Ticket)
    form: Any = {"type": "json_schema", "json_schema": {"name": "t", "schema": SCHEMA, "strict": True}}
    chat = openai_client.chat.completions.create(model=GPT, messages=messages, response_format=form)
    assert json.loads(chat.choices[0].message.content or "")["category"] == "bug"
    tools: Any = [{"type": "function", "function": {"name": "sort", "parameters": SCHEMA}}]
    called = openai_client.chat.completions.create(
        model=GPT,
        messages=messages,
        tools=tools,
        tool_choice={"type": "function", "function": {"name": "sort"}},
    )
    calls: Any = called.choices[0].message.tool_calls
    assert json.loads(calls[0].function.arguments)["category"] == "bug"


def test_responses(openai_client: openai.OpenAI) -> None:
    answer = openai_client.responses.create(model=GPT, input="Where is my parcel?")
    assert "Where is my parcel?" in answer.output_text
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    cut = openai_client.responses.create(
        model=GPT, input=[{"role": "user", "content": "Where is my parcel?"}], max_output_tokens=2
    )
    assert cut.status == "incomplete"
    assert cut.incomplete_details is not None
    assert cut.incomplete_details.reason == "max_output_tokens"


def test_embeddings(openai_client: openai.OpenAI) -> None:
    made = openai_client.embeddings.create(model="text-embedding-3-small", input=["one", "two"], dimensions=8)
    again = openai_client.embeddings.create(
        model="text-embedding-3-small", input="one", dimensions=8, encoding_format="float"
    )
    assert [len(one.embedding) for one in made.data] == [8, 8]
    assert made.data[0].embedding == pytest.approx(again.data[0].embedding, abs=1e-6)
    assert sum(value * value for value in again.data[0].embedding) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/responses", {"model": GPT, "input": "hello"}),
        ("/v1/embeddings", {"model": "text-embedding-3-large", "input": ["a", "b"], "dimensions": 4}),
    ],
)
def test_other_endpoints_in_a_batch(
    openai_client: openai.OpenAI, endpoint: str, body: dict[str, Any]
) -> None:
    batch = openai_client.batches.retrieve(
        make_batch(openai_client, [row("one", body, endpoint)], endpoint).id
    )
    (line,) = read_lines(openai_client, batch.output_file_id)
    assert line["response"]["status_code"] == 200
    assert line["response"]["body"]["object"] in {"response", "list"}


def test_a_lost_reply_is_a_connection_error_and_the_sdk_retries_into_two_batches(
    openai_client: openai.OpenAI, emulator: Emulator
) -> None:
    emulator.add_fault("create-lost:times=1")
    with pytest.raises(openai.APIConnectionError):
        make_batch(openai_client, chat_rows(1))
    assert len(list(openai_client.batches.list())) == 1
    emulator.add_fault("create-lost:times=1")
    make_batch(openai_client.with_options(max_retries=1), chat_rows(1))
    assert len(list(openai_client.batches.list())) == 3


def test_a_truncated_download_is_noticed(openai_client: openai.OpenAI, emulator: Emulator) -> None:
    uploaded = openai_client.files.create(file=("in", b"x" * 600_000), purpose="batch")
    emulator.add_fault("download-truncated:fraction=0.5")
    with pytest.raises(openai.APIConnectionError):
        openai_client.files.content(uploaded.id).read()
    assert len(openai_client.files.content(uploaded.id).read()) == 600_000


def test_a_held_reply_times_out_after_the_effect(openai_client: openai.OpenAI, emulator: Emulator) -> None:
    uploaded = openai_client.files.create(file=("in", jsonl(chat_rows(1))), purpose="batch")
    emulator.add_fault("create-slow:seconds=3")
    with pytest.raises(openai.APITimeoutError):
        openai_client.with_options(timeout=0.2).batches.create(
            input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
    assert len(list(openai_client.batches.list())) == 1


def test_an_upload_reset_leaves_nothing(openai_client: openai.OpenAI, emulator: Emulator) -> None:
    emulator.add_fault("upload-reset")
    with pytest.raises(openai.APIConnectionError):
        openai_client.files.create(file=("in", b"x" * 3_000_000), purpose="batch")
    assert list(openai_client.files.list()) == []
    assert emulator.meter.snapshot()["files_stored"] == 0


async def _async_life(emulator: Emulator) -> list[str]:
    async with (
        emulator.serve() as url,
        openai.AsyncOpenAI(base_url=emulator.openai_base_url(url), api_key="k", max_retries=0) as client,
    ):
        uploaded = await client.files.create(file=("in", jsonl(chat_rows(4))), purpose="batch")
        for _ in range(3):
            await client.batches.create(
                input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
        batches = [one async for one in client.batches.list(limit=1)]
        content = await client.files.content(batches[0].output_file_id or "")
        return [json.loads(line)["custom_id"] for line in content.text.split("\n") if line]


def test_the_async_client(emulator: Emulator) -> None:
    import asyncio

    assert sorted(asyncio.run(_async_life(emulator))) == ["r-0", "r-1", "r-2", "r-3"]


def test_usage_and_cost_reports(openai_client: openai.OpenAI, emulator: Emulator, url: str) -> None:
    openai_client.batches.retrieve(make_batch(openai_client, chat_rows(3)).id)
    with openai.OpenAI(
        base_url=emulator.openai_base_url(url), api_key="k", admin_api_key="admin", max_retries=0
    ) as admin:
        since = int(time.time()) // 86_400 * 86_400
        usage = admin.admin.organization.usage.completions(start_time=since, bucket_width="1d", batch=True)
        costs = admin.admin.organization.usage.costs(start_time=since)
    used: Any = usage.data[0].results[0]
    meter = emulator.meter.snapshot()
    assert (used.num_model_requests, used.input_tokens) == (3, meter["tokens"]["input"])
    spent: Any = costs.data[0].results[0]
    assert round(spent.amount.value * 10**12) == meter["picodollars"]
