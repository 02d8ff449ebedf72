"""The official, unmodified google-genai SDK through real sockets."""

import io
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic
import pytest
from google import genai
from google.genai import errors, types

from halfrate.emulator import Emulator, Pace

from .driver import jsonl, lines_of
from .gemini import EMBEDDER, FLASH, keyed


@pytest.fixture
def client(url: str) -> Iterator[genai.Client]:
    with genai.Client(
        api_key="key-1", http_options=types.HttpOptions(base_url=f"{url}/gemini", timeout=10_000)
    ) as made:
        yield made


def upload(client: genai.Client, data: bytes, **config: Any) -> types.File:
    made = types.UploadFileConfig(mime_type="application/jsonl", **config)
    return client.files.upload(file=io.BytesIO(data), config=made)


def file_batch(client: genai.Client, rows: list[dict[str, Any]], name: str = "job") -> types.BatchJob:
    stored = upload(client, jsonl(rows))
    assert stored.name
    return client.batches.create(model=FLASH, src=stored.name, config={"display_name": name})


def test_the_tutorial_as_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The batch guide's own steps: upload a file, create, poll the state, download the results."""
    pace = Pace(validate=0, queue=0.1, per_1000_rows=1, finalize=0.05)
    with Emulator(pace=pace) as emulator, emulator.running() as url:
        for name, value in emulator.environment(url)["gemini"].items():
            monkeypatch.setenv(name, value)
        client = genai.Client()
        requests = tmp_path / "my-batch-requests.jsonl"
        requests.write_bytes(jsonl(keyed(2)))
        uploaded_file = client.files.upload(
            file=requests,
            config=types.UploadFileConfig(display_name="my-batch-requests", mime_type="jsonl"),
        )
        assert uploaded_file.name
        batch_job = client.batches.create(
            model=FLASH, src=uploaded_file.name, config={"display_name": "file-upload-job-1"}
        )
        assert batch_job.name
        assert batch_job.state is types.JobState.JOB_STATE_PENDING
        while not batch_job.done:
            time.sleep(0.02)
            batch_job = client.batches.get(name=batch_job.name or "")
        assert batch_job.state is types.JobState.JOB_STATE_SUCCEEDED
        assert batch_job.dest
        assert batch_job.dest.file_name
        content = client.files.download(file=batch_job.dest.file_name)
        client.close()
    assert {line["key"] for line in lines_of(content)} == {"r-0", "r-1"}


def test_every_field_of_a_file_batch(client: genai.Client, emulator: Emulator) -> None:
    made = file_batch(client, keyed(3), "tag-7")
    assert made.name
    assert made.name.startswith("batches/")
    ended = client.batches.get(name=made.name)
    assert (ended.display_name, ended.model, ended.done) == ("tag-7", f"models/{FLASH}", True)
    assert ended.create_time
    assert ended.end_time
    assert ended.end_time >= ended.create_time
    assert emulator.meter.snapshot()["rows_billed"] == 3


def test_inline_requests(client: genai.Client) -> None:
    class Ticket(pydantic.BaseModel):
        category: str
        urgent: bool

    config = types.GenerateContentConfig(
        system_instruction="Sort tickets.", response_mime_type="application/json", response_schema=Ticket
    )
    source: Any = [
        types.InlinedRequest(contents="The app shows a bug", config=config, metadata={"key": "a"}),
        {"contents": [{"role": "user", "parts": [{"text": "hello"}]}], "metadata": {"key": "b"}},
    ]
    made = client.batches.create(model=FLASH, src=source, config={"display_name": "inline"})
    ended = client.batches.get(name=made.name or "")
    assert ended.dest
    found: dict[str, str] = {}
    for one in ended.dest.inlined_responses or []:
        assert one.response
        found[(one.metadata or {})["key"]] = one.response.text or ""
    assert Ticket.model_validate_json(found["a"]).category
    assert "hello" in found["b"]
    (listed,) = client.batches.list()
    assert listed.dest is None


def test_inline_errors(client: genai.Client, emulator: Emulator) -> None:
    emulator.add_fault("all-rows-fail:status=429")
    source: Any = [{"contents": [{"parts": [{"text": "hello"}]}]}]
    made = client.batches.create(model=FLASH, src=source)
    ended = client.batches.get(name=made.name or "")
    assert ended.dest
    (one,) = ended.dest.inlined_responses or []
    assert one.error
    assert (one.error.code, one.response) == (8, None)


def test_embedding_batches(client: genai.Client) -> None:
    request = {"content": {"parts": [{"text": "hello"}]}, "output_dimensionality": 4}
    stored = upload(client, jsonl([{"key": "e", "request": request}]))
    inline = types.EmbedContentBatch(
        contents=["hello", "world"], config=types.EmbedContentConfig(output_dimensionality=4)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from_file = client.batches.create_embeddings(
            model=EMBEDDER, src=types.EmbeddingsBatchJobSource(file_name=stored.name)
        )
        inlined = client.batches.create_embeddings(
            model=EMBEDDER, src=types.EmbeddingsBatchJobSource(inlined_requests=inline)
        )
    ended = client.batches.get(name=from_file.name or "")
    assert ended.dest
    (line,) = lines_of(client.files.download(file=ended.dest.file_name or ""))
    again = client.batches.get(name=inlined.name or "")
    assert again.dest
    found = [one.response for one in again.dest.inlined_embed_content_responses or []]
    values = [one.embedding.values for one in found if one and one.embedding]
    assert len(values) == 2
    assert line["response"]["embedding"]["values"] in values
    assert [one.token_count for one in found if one] == [2, 2]


def test_list_cancel_and_delete(client: genai.Client) -> None:
    names = [file_batch(client, keyed(1), f"job-{n}").name for n in range(5)]
    assert [one.name for one in client.batches.list(config={"page_size": 2})] == names[::-1]
    with Emulator(pace=Pace(queue=60, cancel=0.05)) as slow, slow.running() as address:
        options = types.HttpOptions(base_url=f"{address}/gemini")
        with genai.Client(api_key="key-1", http_options=options) as other:
            name = file_batch(other, keyed(2)).name or ""
            other.batches.cancel(name=name)
            deadline = time.monotonic() + 10
            while other.batches.get(name=name).state is not types.JobState.JOB_STATE_CANCELLED:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            other.batches.delete(name=name)
            with pytest.raises(errors.ClientError) as gone:
                other.batches.get(name=name)
            assert (gone.value.code, gone.value.status) == (404, "NOT_FOUND")


def test_files(client: genai.Client) -> None:
    big = b'{"key": "x"}\n' * 800_000  # two pieces of 8 MiB
    stored = upload(client, big, display_name="tag", name="mine")
    assert (stored.name, stored.display_name, stored.size_bytes) == ("files/mine", "tag", len(big))
    assert (stored.state, stored.source) == (types.FileState.ACTIVE, types.FileSource.UPLOADED)
    assert stored.create_time
    assert stored.expiration_time
    assert (stored.expiration_time - stored.create_time).total_seconds() == 48 * 3_600
    assert client.files.get(name="files/mine").size_bytes == len(big)
    with pytest.raises(errors.ClientError):
        client.files.download(file="files/mine")
    assert [one.name for one in client.files.list()] == ["files/mine"]
    client.files.delete(name="files/mine")
    assert list(client.files.list()) == []


def test_results_to_a_path(client: genai.Client, tmp_path: Path) -> None:
    ended = client.batches.get(name=file_batch(client, keyed(2)).name or "")
    assert ended.dest
    generated = next(
        one for one in client.files.list() if one.source and one.source is types.FileSource.GENERATED
    )
    assert generated.name == ended.dest.file_name
    assert generated.download_uri
    target = tmp_path / "out.jsonl"
    client.files.download(file=generated, destination=target)
    assert len(lines_of(target.read_bytes())) == 2


def test_generate_content(client: genai.Client) -> None:
    whole = client.models.generate_content(model=FLASH, contents="My parcel is late")
    assert "My parcel is late" in (whole.text or "")
    assert whole.usage_metadata
    pieces = client.models.generate_content_stream(model=FLASH, contents="My parcel is late")
    assert "".join(piece.text or "" for piece in pieces) == whole.text
    counted = client.models.count_tokens(model=FLASH, contents="My parcel is late")
    assert counted.total_tokens == whole.usage_metadata.prompt_token_count
    short = client.models.generate_content(model=FLASH, contents="hi", config={"max_output_tokens": 2})
    assert short.candidates
    assert short.candidates[0].finish_reason is types.FinishReason.MAX_TOKENS


class Ticket(pydantic.BaseModel):
    category: str
    urgent: bool


def sort(category: str) -> str:
    """Sort a ticket."""
    return category


def test_structured_output_and_tools(client: genai.Client) -> None:
    parsed = client.models.generate_content(
        model=FLASH,
        contents="The app shows a bug",
        config={"response_mime_type": "application/json", "response_schema": Ticket},
    )
    assert isinstance(parsed.parsed, Ticket)
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    written = client.models.generate_content(
        model=FLASH,
        contents="hi",
        config={"response_mime_type": "application/json", "response_json_schema": schema},
    )
    assert isinstance(json.loads(written.text or "")["n"], int)
    forced = types.ToolConfig(
        function_calling_config=types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.ANY)
    )
    config = types.GenerateContentConfig(
        tools=[sort],
        tool_config=forced,
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    called = client.models.generate_content(model=FLASH, contents="hi", config=config)
    assert called.function_calls
    assert (called.function_calls[0].name, list(called.function_calls[0].args or {})) == (
        "sort",
        ["category"],
    )


def test_embed_content_and_models(client: genai.Client) -> None:
    made = client.models.embed_content(
        model=EMBEDDER, contents=["a", "b"], config={"output_dimensionality": 8}
    )
    assert [len(one.values or []) for one in made.embeddings or []] == [8, 8]
    assert f"models/{FLASH}" in [one.name for one in client.models.list(config={"page_size": 2})]
    assert client.models.get(model=FLASH).name == f"models/{FLASH}"


def test_error_classes(client: genai.Client, emulator: Emulator, url: str) -> None:
    options = types.HttpOptions(base_url=f"{url}/gemini")
    with (
        genai.Client(api_key="bad-key", http_options=options) as stranger,
        pytest.raises(errors.ClientError) as refused,
    ):
        stranger.models.get(model=FLASH)
    assert (refused.value.code, refused.value.status) == (400, "INVALID_ARGUMENT")
    emulator.add_fault("queue-full")
    with pytest.raises(errors.ClientError) as full:
        file_batch(client, keyed(1))
    assert (full.value.code, full.value.status) == (429, "RESOURCE_EXHAUSTED")
    emulator.add_fault("poll-error:status=503")
    made = file_batch(client, keyed(1))
    with pytest.raises(errors.ServerError) as busy:
        client.batches.get(name=made.name or "")
    assert busy.value.status == "UNAVAILABLE"


def test_a_lost_create_leaves_one_batch(client: genai.Client, emulator: Emulator) -> None:
    stored = upload(client, jsonl(keyed(1)))
    emulator.add_fault("create-lost")
    with pytest.raises(Exception, match=r"(?i)disconnected|closed|reset"):
        client.batches.create(model=FLASH, src=stored.name or "", config={"display_name": "lost"})
    assert [one.display_name for one in client.batches.list()] == ["lost"]
