"""What both providers' tutorials show, run as it is: the environment names the gateway, and the model is anybody's."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from halfrate.service.costs import CostLine

from .house import House, ledger_is_meter

Open = Callable[..., House]
MODELS = ("gpt-4.1-mini", "claude-haiku-4-5", "openai-compatible/gpt-4.1-nano")

OPENAI = {
    "response": """
from openai import OpenAI

client = OpenAI()
response = client.responses.create(
    model=MODEL,
    instructions="You are a storyteller.",
    input="Write a one-sentence bedtime story about a unicorn.",
)
print(response.output_text)
""",
    "response-stream": """
from openai import OpenAI

client = OpenAI()
stream = client.responses.create(
    model=MODEL,
    input=[{"role": "user", "content": "Say 'double bubble bath' ten times fast."}],
    stream=True,
)
for event in stream:
    if event.type == "response.output_text.delta":
        print(event.delta, end="")
    if event.type == "response.completed":
        assert event.response.output_text
""",
    "chat": """
from openai import OpenAI

client = OpenAI()
completion = client.chat.completions.create(
    model=MODEL,
    messages=[
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Write a haiku about recursion."},
    ],
)
print(completion.choices[0].message.content)
""",
    "stream": """
from openai import OpenAI

client = OpenAI()
stream = client.chat.completions.create(
    model=MODEL,
    messages=[{"role": "user", "content": "Say this is a test."}],
    stream=True,
)
for chunk in stream:
    if chunk.choices and chunk.choices[0].delta.content is not None:
        print(chunk.choices[0].delta.content, end="")
""",
    "async": """
import asyncio
from openai import AsyncOpenAI

client = AsyncOpenAI()

async def main():
    completion = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Say this is a test."}]
    )
    print(completion.choices[0].message.content)

asyncio.run(main())
""",
    "tools": """
import json
from openai import OpenAI

client = OpenAI()
tools = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the current temperature for a location.",
            "parameters": {
                "type": "object",
                "properties": {"location": {"type": "string"}},
                "required": ["location"],
                "additionalProperties": False,
            },
        },
    }
]
completion = client.chat.completions.create(
    model=MODEL,
    messages=[{"role": "user", "content": "What is the weather like in Paris today?"}],
    tools=tools,
    tool_choice={"type": "function", "function": {"name": "get_weather"}},
)
call = completion.choices[0].message.tool_calls[0]
json.loads(call.function.arguments)
print(call.function.name)
""",
    "batch": """
import json
import time
from openai import OpenAI

client = OpenAI()
with open("batchinput.jsonl", "w") as file:
    for number in range(3):
        request = {
            "custom_id": f"request-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": MODEL,
                "messages": [{"role": "user", "content": f"Hello world, {number}!"}],
                "max_tokens": 1000,
            },
        }
        file.write(json.dumps(request) + "\\n")

batch_input_file = client.files.create(file=open("batchinput.jsonl", "rb"), purpose="batch")
batch = client.batches.create(
    input_file_id=batch_input_file.id,
    endpoint="/v1/chat/completions",
    completion_window="24h",
    metadata={"description": "nightly eval job"},
)
while batch.status not in ("completed", "failed", "expired", "cancelled"):
    time.sleep(0.1)
    batch = client.batches.retrieve(batch.id)
for line in client.files.content(batch.output_file_id).text.splitlines():
    print(json.loads(line)["response"]["body"]["choices"][0]["message"]["content"])
""",
}
ANTHROPIC = {
    "message": """
import anthropic

client = anthropic.Anthropic()
message = client.messages.create(
    model=MODEL, max_tokens=1024, messages=[{"role": "user", "content": "Hello, Claude"}]
)
print(message.content[0].text)
""",
    "stream": """
import anthropic

client = anthropic.Anthropic()
with client.messages.stream(
    model=MODEL, max_tokens=1024, messages=[{"role": "user", "content": "Hello"}]
) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)
""",
    "async": """
import asyncio
from anthropic import AsyncAnthropic

client = AsyncAnthropic()

async def main():
    message = await client.messages.create(
        model=MODEL, max_tokens=1024, messages=[{"role": "user", "content": "Hello, Claude"}]
    )
    print(message.content[0].text)

asyncio.run(main())
""",
    "batch": """
import time
import anthropic
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from anthropic.types.messages.batch_create_params import Request

client = anthropic.Anthropic()
message_batch = client.messages.batches.create(
    requests=[
        Request(
            custom_id=f"my-request-{number}",
            params=MessageCreateParamsNonStreaming(
                model=MODEL,
                max_tokens=1024,
                messages=[{"role": "user", "content": f"Hello, world {number}"}],
            ),
        )
        for number in range(3)
    ]
)
while message_batch.processing_status != "ended":
    time.sleep(0.1)
    message_batch = client.messages.batches.retrieve(message_batch.id)
for result in client.messages.batches.results(message_batch.id):
    match result.result.type:
        case "succeeded":
            print(result.result.message.content[0].text)
        case other:
            raise SystemExit(other)
""",
}
SAMPLES = {f"openai-{name}": code for name, code in OPENAI.items()} | {
    f"anthropic-{name}": code for name, code in ANTHROPIC.items()
}


@pytest.fixture
def at(house: Open, monkeypatch: pytest.MonkeyPatch) -> House:
    home = house()
    monkeypatch.setenv("OPENAI_COMPATIBLE_BASE_URL", os.environ["OPENAI_BASE_URL"])
    monkeypatch.setenv("OPENAI_COMPATIBLE_API_KEY", "key-1")
    return home


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", SAMPLES)
def test_a_tutorial_runs_as_it_is(at: House, tmp_path: Path, name: str, model: str) -> None:
    key = at.key()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "OPENAI_BASE_URL": f"{at.server.url}/v1",
        "OPENAI_API_KEY": key,
        "ANTHROPIC_BASE_URL": at.server.url,
        "ANTHROPIC_API_KEY": key,
    }
    run = subprocess.run(
        [sys.executable, "-c", f"MODEL = {model!r}\n{SAMPLES[name]}"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.strip().splitlines()) >= (3 if name.endswith("batch") else 1)
    meter = at.meter()
    assert meter["rows_billed"] + meter["realtime_billed"] == (3 if name.endswith("batch") else 1)
    if "compatible" in model:
        # What a model of one's own costs is unknown, and says so.
        assert [line.cost for line in costs(at)] == [None]
    else:
        costs(at)
        ledger_is_meter(at)


def costs(at: House) -> list[CostLine]:
    at.client(at.key()[1]).get("/halfrate/cost", cast_to=object)
    return list(at.service.costs(by=()))
