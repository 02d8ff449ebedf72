"""Batch files: in a provider's own form they go through untouched; OpenAI's and Anthropic's are asked of anybody."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from anthropic.types.messages import MessageBatchIndividualResponse
from openai.types.chat import ChatCompletion

from halfrate.base.errors import InputError, UsageError
from halfrate.rows.requests import request_lines
from halfrate.service.jobs import Service

from .office import Office
from .providers import MODELS

Offices = Callable[..., Office]

TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two numbers.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    },
}


def openai_line(number: int, **more: Any) -> dict[str, Any]:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": f"What is {number} plus {number}?"},
    ]
    body = {"model": "gpt-4.1-mini", "messages": messages, "max_completion_tokens": 64, **more}
    return {"custom_id": f"q/{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}


def write_lines(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def raw(desk: Office, job_id: str) -> list[Any]:
    with Service(desk.home) as service:
        path = service.deliver_raw(job_id, desk.folder / "raw.jsonl")
    return [json.loads(line) for line in path.read_text().split("\n") if line]


TRANSLATING = ["anthropic", "gemini", "vertex", "bedrock", "mistral", "fireworks", "zhipu"]


@pytest.mark.parametrize("provider", TRANSLATING)
def test_openais_requests_run_on_others_and_come_back_in_openais_form(office: Offices, provider: str) -> None:
    desk = office(provider, "row-error:match=7 plus,status=400,sticky=true")
    path = write_lines(desk.folder / "batch.jsonl", [openai_line(n) for n in range(10)])
    report = desk.run(desk.ask(input=path, prompt=None))
    assert report.succeeded == 9
    assert report.cost == desk.meter()["picodollars"]
    assert [row["custom_id"] for row in desk.output(report.job)] == [f"q/{n}" for n in range(10)]
    lines = raw(desk, report.job.id)
    assert [line["custom_id"] for line in lines] == [f"q/{n}" for n in range(10)]
    for number, line in enumerate(lines):
        if number == 7:
            # As OpenAI shows a row that it refused.
            assert line["error"] is None
            assert line["response"]["status_code"] == 400
            error = line["response"]["body"]["error"]
            assert error["type"] == "invalid_request_error"
            assert "The server had an error" in error["message"]
            continue
        answer = ChatCompletion.model_validate(line["response"]["body"], strict=True)
        assert answer.choices[0].message.content
        assert answer.usage is not None
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@pytest.mark.parametrize("provider", ["anthropic", "gemini"])
def test_a_tool_that_must_be_called_is_called(office: Offices, provider: str) -> None:
    desk = office(provider)
    choice = {"type": "function", "function": {"name": "add"}}
    lines = [openai_line(n, tools=[TOOL], tool_choice=choice) for n in range(5)]
    report = desk.run(desk.ask(input=write_lines(desk.folder / "batch.jsonl", lines), prompt=None))
    for line in raw(desk, report.job.id):
        message = ChatCompletion.model_validate(line["response"]["body"], strict=True).choices[0].message
        assert message.tool_calls is not None
        call = message.tool_calls[0]
        assert call.type == "function"
        assert call.function.name == "add"
        assert isinstance(json.loads(call.function.arguments)["a"], int)


@pytest.mark.parametrize("provider", ["anthropic", "gemini"])
def test_what_cannot_be_asked_there_is_refused_with_line_and_field(office: Offices, provider: str) -> None:
    desk = office(provider)
    lines = [openai_line(0), openai_line(1), openai_line(2, logit_bias={"50256": -100})]
    with pytest.raises(InputError, match=r"line 3: logit_bias cannot be asked of") as refused:
        desk.submit(desk.ask(input=write_lines(desk.folder / "batch.jsonl", lines), prompt=None))
    assert (refused.value.row, refused.value.line, refused.value.column) == (2, 3, "logit_bias")
    assert desk.meter()["creates_received"] == 0


def anthropic_line(number: int, **more: Any) -> dict[str, Any]:
    params = {
        "model": "claude-haiku-4-5",
        "max_tokens": 64,
        "system": "Be brief.",
        "messages": [{"role": "user", "content": f"What is {number} plus {number}?"}],
        **more,
    }
    return {"custom_id": f"q_{number}", "params": params}


@pytest.mark.parametrize(
    "provider", ["openai", "groq", "mistral", "gemini", "vertex", "bedrock", "fireworks"]
)
def test_anthropics_requests_run_on_others_and_come_back_in_anthropics_form(
    office: Offices, provider: str
) -> None:
    desk = office(provider, "row-error:match=7 plus,status=400,sticky=true")
    path = write_lines(desk.folder / "batch.jsonl", [anthropic_line(n) for n in range(10)])
    report = desk.run(desk.ask(input=path, prompt=None))
    assert report.succeeded == 9
    assert report.cost == desk.meter()["picodollars"]
    lines = raw(desk, report.job.id)
    assert [line["custom_id"] for line in lines] == [f"q_{n}" for n in range(10)]
    read = 0
    for number, line in enumerate(lines):
        found = MessageBatchIndividualResponse.model_validate(line, strict=True).result
        if number == 7:
            assert found.type == "errored"
            assert found.error.error.type == "invalid_request_error"
            assert "The server had an error" in found.error.error.message
            continue
        assert found.type == "succeeded"
        assert found.message.content[0].type == "text"
        assert found.message.content[0].text
        assert found.message.stop_reason in {"end_turn", "max_tokens"}
        read += found.message.usage.input_tokens + found.message.usage.output_tokens
    assert read == report.usage.total_input + report.usage.output


@pytest.mark.parametrize("provider", ["openai", "gemini"])
def test_what_cannot_be_asked_in_anthropics_form_there_is_refused_with_line_and_field(
    office: Offices, provider: str
) -> None:
    desk = office(provider)
    lines = [anthropic_line(0), anthropic_line(1, top_k=5)]
    with pytest.raises(InputError, match=r"line 2: top_k cannot be asked of") as refused:
        desk.submit(desk.ask(input=write_lines(desk.folder / "batch.jsonl", lines), prompt=None))
    assert (refused.value.row, refused.value.line, refused.value.column) == (1, 2, "top_k")
    assert desk.meter()["creates_received"] == 0


@pytest.mark.parametrize("provider", ["voyage", "cohere"])
def test_anthropics_requests_are_refused_where_nothing_can_be_chatted_with(
    office: Offices, provider: str
) -> None:
    desk = office(provider)
    path = write_lines(desk.folder / "batch.jsonl", [anthropic_line(0)])
    with pytest.raises(UsageError, match="takes another"):
        desk.submit(desk.ask(input=path, prompt=None))


def test_other_endpoints_of_openais_are_refused(office: Offices) -> None:
    desk = office("anthropic")
    line = {**openai_line(0), "url": "/v1/embeddings", "body": {"model": "m", "input": "hi"}}
    with pytest.raises(UsageError, match="chat completions and responses alone"):
        desk.submit(desk.ask(input=write_lines(desk.folder / "b.jsonl", [line]), prompt=None))


OWN: dict[str, Callable[[int, str], dict[str, Any]]] = {
    "gemini": lambda n, text: {
        "key": f"k {n}",
        "request": {"contents": [{"role": "user", "parts": [{"text": text}]}], "safetySettings": []},
    },
    "mistral": lambda n, text: {
        "custom_id": f"k {n}",
        "body": {"messages": [{"role": "user", "content": text}], "safe_prompt": False},
    },
    "fireworks": lambda n, text: {
        "custom_id": f"k {n}",
        "body": {"messages": [{"role": "user", "content": text}], "top_k": 4},
    },
    "voyage": lambda n, text: {"custom_id": f"k {n}", "body": {"input": [text, text]}},
    "cohere": lambda n, text: {
        "custom_id": f"k {n}",
        "body": {"texts": [text], "input_type": "search_query", "embedding_types": ["float"]},
    },
    "bedrock": lambda n, text: {
        "recordId": f"k {n}",
        "modelInput": {
            "anthropic_version": "bedrock-2023-05-31",
            "max_tokens": 64,
            "messages": [{"role": "user", "content": text}],
            "top_k": 4,
        },
    },
}


@pytest.mark.parametrize("provider", OWN)
def test_a_providers_own_lines_go_through_untouched(office: Offices, provider: str) -> None:
    desk = office(provider)
    given = [OWN[provider](n, f"What is {n} plus\u2028{n}?") for n in range(8)]
    path = write_lines(desk.folder / "batch.jsonl", given)
    job = desk.submit(desk.ask(input=path, prompt=None, model=MODELS[provider]))
    files = desk.home.files(job.id)
    field = {"gemini": "request", "bedrock": "modelInput"}.get(provider, "body")
    sent = [row for rows in request_lines(files.requests(0), framing(provider)) for row in rows]
    assert [json.loads(row)[field] for row in sent] == [line[field] for line in given]
    assert all(json.dumps(line[field]).encode() in row for line, row in zip(given, sent, strict=True))
    report = desk.work(job)
    assert report.succeeded == 8
    assert report.cost == desk.meter()["picodollars"]
    assert [row["custom_id"] for row in desk.output(job)] == [f"k {n}" for n in range(8)]


def test_vertex_lines_have_no_ids_and_get_numbers(office: Offices) -> None:
    desk = office("vertex")
    given = [
        {
            "request": {
                "contents": [{"role": "user", "parts": [{"text": f"What is {n}?"}]}],
                "safetySettings": [],
            }
        }
        for n in range(8)
    ]
    path = write_lines(desk.folder / "batch.jsonl", given)
    report = desk.run(desk.ask(input=path, prompt=None, model=MODELS["vertex"]))
    assert report.succeeded == 8
    assert report.cost == desk.meter()["picodollars"]
    assert [row["custom_id"] for row in desk.output(report.job)] == [str(n) for n in range(8)]


def framing(provider: str) -> Any:
    from halfrate.providers.registry import adapter_class

    return adapter_class(provider).capabilities.framing


def test_a_table_with_a_column_of_objects_is_a_table_if_there_is_a_prompt(office: Offices) -> None:
    desk = office("openai")
    lines = [{"custom_id": str(n), "body": {"text": f"What is {n} plus {n}?"}} for n in range(4)]
    report = desk.run(desk.ask(input=write_lines(desk.folder / "t.jsonl", lines), prompt="Answer: {body}"))
    assert [row["body"] for row in desk.output(report.job)] == [line["body"] for line in lines]
