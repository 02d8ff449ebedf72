"""The official, unmodified SDKs against the providers that speak OpenAI's dialect: none may notice the difference."""

import json
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import groq
import openai
import pytest
import together

from halfrate.emulator import Emulator
from halfrate.emulator._models import find_model

from .driver import jsonl

KEY = "key-1"
Make = Callable[[str], openai.OpenAI]


def plain(path: str) -> Make:
    return lambda url: openai.OpenAI(base_url=f"{url}{path}", api_key=KEY, max_retries=0, timeout=10)


def azure(url: str) -> openai.OpenAI:
    version = "2025-03-01-preview"
    return openai.AzureOpenAI(
        azure_endpoint=f"{url}/azure", api_version=version, api_key=KEY, max_retries=0, timeout=10
    )


CHAT = "/v1/chat/completions"
# How the client is made, the provider, its model, the endpoint, the window, and the word for the end.
CLIENTS: dict[str, tuple[Make, str, str, str, str, str]] = {
    "azure": (azure, "azure", "gpt-4.1-mini", "/chat/completions", "24h", "completed"),
    "azure-v1": (plain("/azure/openai/v1/"), "azure", "gpt-4o-mini", CHAT, "24h", "completed"),
    "groq": (plain("/groq/openai/v1"), "groq", "openai/gpt-oss-20b", CHAT, "48h", "completed"),
    "moonshot": (plain("/moonshot/v1"), "moonshot", "kimi-k2.5", CHAT, "12h", "completed"),
    "qwen": (plain("/qwen/compatible-mode/v1"), "qwen", "qwen-plus", CHAT, "336h", "completed"),
    "zhipu": (
        plain("/zhipu/api/paas/v4"),
        "zhipu",
        "glm-4.5-air",
        "/v4/chat/completions",
        "24h",
        "completed",
    ),
    "deepinfra": (
        plain("/deepinfra/v1/openai"),
        "deepinfra",
        "deepseek-ai/DeepSeek-V3",
        CHAT,
        "24h",
        "completed",
    ),
    "doubleword": (
        plain("/doubleword/v1"),
        "doubleword",
        "openai/gpt-oss-20b",
        CHAT,
        "1h",
        "completed",
    ),
    "novita": (plain("/novita/openai/v1"), "novita", "openai/gpt-oss-120b", CHAT, "48h", "COMPLETED"),
    "voyage": (plain("/voyage/v1"), "voyage", "voyage-3.5", "/v1/embeddings", "12h", "completed"),
}

every = pytest.mark.parametrize("name", CLIENTS)


@contextmanager
def client_of(name: str, url: str) -> Generator[Any]:
    with CLIENTS[name][0](url) as client:
        yield client


def rows_for(name: str, count: int) -> list[dict[str, Any]]:
    _, provider, model, endpoint, *_ = CLIENTS[name]
    if provider == "voyage":
        return [{"custom_id": f"r-{n}", "body": {"input": f"text {n}"}} for n in range(count)]
    # Azure's examples create for `/chat/completions` and write `/v1/chat/completions` in the rows.
    url = CHAT if provider == "azure" else endpoint
    bodies = (
        {"model": model, "messages": [{"role": "user", "content": f"order {n}?"}]} for n in range(count)
    )
    return [
        {"custom_id": f"r-{n}", "method": "POST", "url": url, "body": body} for n, body in enumerate(bodies)
    ]


def uploaded(client: Any, name: str, count: int) -> Any:
    made = client.files.create(file=("in.jsonl", jsonl(rows_for(name, count))), purpose="batch")
    return client.files.retrieve(made.id)


def create(client: Any, name: str, file_id: str) -> Any:
    _, provider, model, endpoint, window, _ = CLIENTS[name]
    extra = {"request_params": {"model": model}} if provider == "voyage" else {}
    return client.batches.create(
        input_file_id=file_id,
        endpoint=endpoint,
        completion_window=window,
        metadata={"tag": "t-1"},
        extra_body=extra,
    )


def price(lines: list[Any], provider: str, model: str) -> int:
    """What result lines cost at the batch rates."""
    found, total = find_model(model, provider), 0
    assert found is not None
    for line in lines:
        usage = line["response"]["body"]["usage"]
        total += usage.get("prompt_tokens", usage["total_tokens"]) * found.batch.input
        total += usage.get("completion_tokens", 0) * found.batch.output
    return total


def read(content: bytes) -> list[Any]:
    return [json.loads(line) for line in content.split(b"\n") if line]


@every
def test_a_whole_life(name: str, emulator: Emulator, url: str) -> None:
    _, provider, model, _, _, completed = CLIENTS[name]
    with client_of(name, url) as client:
        stored = uploaded(client, name, 4)
        assert stored.status in {"processed", None}
        made = create(client, name, stored.id)
        batch = client.batches.retrieve(made.id)
        assert batch.status == completed
        assert batch.metadata == {"tag": "t-1"}
        assert (batch.request_counts.total, batch.request_counts.completed) == (4, 4)
        lines = read(client.files.content(batch.output_file_id).content)
        assert [one.id for one in client.batches.list(limit=1)] == [made.id]
        assert client.files.delete(batch.output_file_id).deleted
    assert sorted(line["custom_id"] for line in lines) == ["r-0", "r-1", "r-2", "r-3"]
    meter = emulator.meter.snapshot()
    assert meter["picodollars_by_provider"] == {provider: price(lines, provider, model)}
    assert (meter["rows_billed"], meter["fingerprints_billed_again"]) == (4, 0)
    assert meter["batches_created_by_provider"] == {provider: 1}


@every
def test_cancelling_what_has_ended_is_a_conflict(name: str, emulator: Emulator, url: str) -> None:
    with client_of(name, url) as client:
        made = create(client, name, uploaded(client, name, 1).id)
        with pytest.raises(openai.ConflictError):
            client.batches.cancel(made.id)


@every
def test_faults_of_one_provider(name: str, emulator: Emulator, url: str) -> None:
    provider = CLIENTS[name][1]
    emulator.add_fault(f"create-lost:provider={provider}")
    emulator.add_fault(f"queue-full:provider={provider},mode=create")
    with client_of(name, url) as client:
        stored = uploaded(client, name, 1)
        with pytest.raises(openai.APIStatusError) as full:
            create(client, name, stored.id)
        assert full.value.code == "token_limit_exceeded"
        with pytest.raises(openai.APIConnectionError):
            create(client, name, stored.id)
        assert len(list(client.batches.list())) == 1


@every
def test_realtime_calls(name: str, emulator: Emulator, url: str) -> None:
    _, provider, model, *_ = CLIENTS[name]
    with client_of(name, url) as client:
        if provider == "voyage":
            answer = client.embeddings.create(model=model, input="hello", encoding_format="float")
            assert len(answer.data[0].embedding) == 1024
        else:
            messages = [{"role": "user", "content": "hello"}]
            answer = client.chat.completions.create(model=model, messages=messages)
            assert "hello" in answer.choices[0].message.content
            chunks = list(client.chat.completions.create(model=model, messages=messages, stream=True))
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            assert text == answer.choices[0].message.content
        assert model in {one.id for one in client.models.list()}
        assert client.models.retrieve(model).id == model
    assert list(emulator.meter.snapshot()["picodollars_by_provider"]) == [provider]


# ---------------------------------------------------------------- Groq's own SDK


def test_groq(emulator: Emulator, url: str) -> None:
    with groq.Groq(base_url=f"{url}/groq", api_key=KEY, max_retries=0) as client:
        content = jsonl(rows_for("groq", 3))
        stored = client.files.create(file=("in.jsonl", content), purpose="batch")
        assert client.files.info(stored.id or "").bytes == len(content)
        made = client.batches.create(
            input_file_id=stored.id or "",
            endpoint="/v1/chat/completions",
            completion_window="7d",
            metadata={"tag": "t-1"},
        )
        assert made.status == "validating"
        batch = client.batches.retrieve(made.id)
        assert (batch.status, batch.metadata) == ("completed", {"tag": "t-1"})
        lines = read(client.files.content(batch.output_file_id or "").read())
        assert [one.id for one in client.batches.list().data] == [made.id]
        with pytest.raises(groq.ConflictError):
            client.batches.cancel(made.id)
        answer = client.chat.completions.create(
            model="llama-3.3-70b-versatile", messages=[{"role": "user", "content": "hello"}]
        )
        assert "hello" in (answer.choices[0].message.content or "")
        emulator.add_fault("create-lost:provider=groq")
        with pytest.raises(groq.APIConnectionError):
            client.batches.create(
                input_file_id=stored.id or "", endpoint="/v1/chat/completions", completion_window="24h"
            )
        assert len(client.batches.list().data) == 2
    assert sorted(line["custom_id"] for line in lines) == ["r-0", "r-1", "r-2"]
    meter = emulator.meter.snapshot()
    assert list(meter["picodollars_by_provider"]) == ["groq"]
    assert meter["rows_by_tier"]["batch"] == 6


# ---------------------------------------------------------------- Together's own SDK

LLAMA = "meta-llama/Llama-3.3-70B-Instruct-Turbo"


def together_rows(count: int) -> bytes:
    bodies = (
        {"model": LLAMA, "messages": [{"role": "user", "content": f"order {n}?"}]} for n in range(count)
    )
    return jsonl([{"custom_id": f"r-{n}", "body": body} for n, body in enumerate(bodies)])


@pytest.fixture(params=["/together"])
def together_client(request: pytest.FixtureRequest, url: str) -> Iterator[together.Together]:
    """With a base URL as the SDK has it since its version 3, and as it had it before."""
    base_url = f"{url}{request.param}"
    with together.Together(base_url=base_url, api_key=KEY, max_retries=0, timeout=10) as client:
        yield client


def test_together(together_client: together.Together, emulator: Emulator, tmp_path: Path) -> None:
    client, path = together_client, tmp_path / "in.jsonl"
    path.write_bytes(together_rows(3))
    stored = client.files.upload(path, purpose="batch-api", check=False)
    assert (stored.purpose, stored.file_type, stored.bytes) == ("batch-api", "jsonl", path.stat().st_size)
    assert client.files.upload(path, purpose="batch-api", check=False).id == stored.id
    assert [one.id for one in client.files.list().data] == [stored.id]
    made = client.batches.create(
        input_file_id=stored.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    assert made.warning is None
    assert made.job is not None
    assert (made.job.status, made.job.x_model_id) == ("VALIDATING", LLAMA)
    job = client.batches.retrieve(made.job.id or "")
    assert (job.status, job.progress, job.error) == ("COMPLETED", 100.0, None)
    assert [one.id for one in client.batches.list()] == [job.id]
    lines = read(client.files.content(job.output_file_id or "").read())
    assert sorted(line["custom_id"] for line in lines) == ["r-0", "r-1", "r-2"]
    meter = emulator.meter.snapshot()
    assert meter["picodollars_by_provider"] == {"together": price(lines, "together", LLAMA)}
    with pytest.raises(together.ConflictError):
        client.batches.cancel(job.id or "")
    emulator.add_fault("create-lost:provider=together")
    with pytest.raises(together.APIConnectionError):
        client.batches.create(input_file_id=stored.id, endpoint="/v1/chat/completions")
    assert len(client.batches.list()) == 2
    assert client.files.delete(stored.id).deleted
    answer: Any = client.chat.completions.create(
        model=LLAMA, messages=[{"role": "user", "content": "hello"}], stream=False
    )
    assert "hello" in answer.choices[0].message.content


def test_the_variables_point_the_sdks_here(
    emulator: Emulator, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for provider, variables in emulator.environment(url).items():
        if provider in {"azure", "groq", "together"}:
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
    with groq.Groq() as first:
        assert first.batches.list().data == []
    with together.Together() as second:
        assert second.batches.list() == []
    with openai.AzureOpenAI(api_version="2025-03-01-preview") as third:
        assert list(third.batches.list()) == []
