"""OpenAI's responses on any model: the official SDK is the client, the meter the witness."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai.types.responses import Response
from pydantic import TypeAdapter

from ..service.providers import MODELS
from .house import House, ledger_is_meter, lines_of, make, wait

Open = Callable[..., House]
TOOL: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather somewhere.",
    "parameters": {
        "type": "object",
        "properties": {"place": {"type": "string"}},
        "required": ["place"],
        "additionalProperties": False,
    },
    "strict": False,
}
RESPONSE = TypeAdapter(Response)
# Two have embeddings alone.
CHATS = [model for name, model in MODELS.items() if name not in {"voyage", "cohere"}]


def settled(home: House, key: str) -> None:
    """What was answered is in the ledger, and is what the meter says."""
    home.client(key).get("/halfrate/cost", cast_to=object)
    ledger_is_meter(home)


@pytest.mark.parametrize("model", CHATS)
def test_any_model_answers_whole_and_as_a_stream(house: Open, model: str) -> None:
    home = house()
    key = home.key()[1]
    client = home.client(key)
    response = client.responses.create(
        model=model, instructions="Be short.", input="Say hello.", max_output_tokens=60
    )
    assert response.output_text
    assert response.usage is not None
    assert response.usage.output_tokens > 0
    with client.responses.stream(model=model, input="Say goodbye.", max_output_tokens=60) as stream:
        pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(pieces) == final.output_text
    assert final.usage is not None
    meter = home.meter()
    assert meter["realtime_billed"] == 2
    assert meter["tokens"]["output"] == response.usage.output_tokens + final.usage.output_tokens
    settled(home, key)


@pytest.mark.parametrize("model", CHATS)
def test_a_batch_of_responses_runs_on_any_model(house: Open, model: str) -> None:
    home = house()
    client = home.client(home.key()[1])
    # Bedrock runs no batch of fewer rows.
    rows = 100 if model.startswith("bedrock/") else 5
    asked: dict[str, Any] = {
        "model": model,
        "instructions": "Be short.",
        "max_output_tokens": 60,
        "metadata": {"feature": "sums"},
    }
    lines = [
        {
            "custom_id": f"row {number}",
            "method": "POST",
            "url": "/v1/responses",
            "body": {**asked, "input": f"What is {number} plus {number}?"},
        }
        for number in range(rows)
    ]
    batch = wait(client, make(client, lines, endpoint="/v1/responses"))
    assert batch.status == "completed", batch.errors
    assert batch.request_counts is not None
    assert batch.request_counts.completed == rows
    found = lines_of(client, batch.output_file_id)
    assert {line["custom_id"] for line in found} == {f"row {number}" for number in range(rows)}
    assert len(found) == rows
    for line in found:
        assert line["response"]["status_code"] == 200
        answer = RESPONSE.validate_python(line["response"]["body"])
        assert answer.status == "completed"
        assert answer.output_text
        assert answer.instructions == "Be short."
        assert answer.metadata == {"feature": "sums"}
        assert answer.usage is not None
    assert batch.usage is not None
    totals = [line["response"]["body"]["usage"]["total_tokens"] for line in found]
    assert batch.usage.total_tokens == sum(totals)
    assert home.meter()["rows_billed"] == rows
    ledger_is_meter(home)


def test_a_response_that_no_chat_can_be_is_said_with_its_line(house: Open) -> None:
    home = house()
    client = home.client(home.key()[1])
    lines: list[dict[str, Any]] = [
        {
            "custom_id": str(number),
            "method": "POST",
            "url": "/v1/responses",
            "body": {"model": "claude-haiku-4-5", "input": "Hello"},
        }
        for number in range(3)
    ]
    lines[1]["body"]["previous_response_id"] = "resp_1"
    batch = wait(client, make(client, lines, endpoint="/v1/responses"))
    assert batch.status == "failed"
    assert batch.errors is not None
    (error,) = list(batch.errors.data or ())
    assert error.line == 2
    assert "previous_response_id" in (error.message or "")
    assert home.meter()["rows_received"] == 0


def test_a_tool_is_called_and_what_it_says_goes_back(house: Open) -> None:
    home = house()
    key = home.key()[1]

    async def ask() -> None:
        async with openai.AsyncOpenAI(base_url=f"{home.server.url}/v1", api_key=key, max_retries=0) as client:
            asked: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
            first = await client.responses.create(
                model="claude-haiku-4-5",
                input=asked,
                tools=[TOOL],
                tool_choice={"type": "function", "name": "weather"},
                max_output_tokens=60,
            )
            (call,) = [item for item in first.output if item.type == "function_call"]
            json.loads(call.arguments)
            asked += [item.model_dump() for item in first.output]
            asked.append({"type": "function_call_output", "call_id": call.call_id, "output": "Rain."})
            second = await client.responses.create(
                model="claude-haiku-4-5", input=asked, tools=[TOOL], max_output_tokens=60
            )
            assert second.output_text

    asyncio.run(ask())
    settled(home, key)


def test_what_cannot_be_put_to_a_chat_is_refused_before_it_is_sent(house: Open) -> None:
    home = house()
    client = home.client(home.key()[1])
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="claude-haiku-4-5", input="Go on.", previous_response_id="resp_1")
    assert refused.value.param == "previous_response_id"
    with pytest.raises(openai.BadRequestError) as tool:
        client.responses.create(model="claude-haiku-4-5", input="Look.", tools=[{"type": "web_search"}])
    assert tool.value.param == "tools[0].type"
    assert home.meter()["realtime_received"] == 0
