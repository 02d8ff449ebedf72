"""Whatever a client sends, the answer is an answer: never a traceback, in realtime or in a row of a batch."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfrate.emulator import CacheModel, Emulator, ManualClock, Pace

from .driver import ANTHROPIC, CLAUDE, GPT, OPENAI, Driver, row

WORDS = re.findall(
    r"\S+",
    """
    type name role content text input system tools tool_choice function parameters input_schema schema format
    response_format json_schema properties required items enum anyOf allOf $ref minLength maxLength minimum
    maximum multipleOf minItems maxItems const n max_tokens max_output_tokens stream metadata cache_control ttl
    output_config instructions encoding_format dimensions service_tier user assistant object string array
    integer number boolean null tool any required base64 ephemeral
    """,
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(-3, 3),
    st.sampled_from(WORDS),
    st.text(max_size=5),
)


def holders(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5)


JSON = st.recursive(LEAVES, holders, max_leaves=15)
BODIES = st.dictionaries(st.sampled_from([*WORDS, "messages"]), JSON, max_size=6)
TYPES = ("object", "string", "array", "integer", "number", "boolean", "null")


def schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Half right and half wrong: real keywords with any values."""
    return st.fixed_dictionaries(
        {"type": st.sampled_from(TYPES) | JSON},
        optional={
            "properties": st.dictionaries(st.sampled_from(WORDS), inner, max_size=3) | JSON,
            "items": inner,
            **dict.fromkeys(WORDS[WORDS.index("required") : WORDS.index("const") + 1], JSON),
            "multipleOf": st.integers(-2, 2) | st.floats(-1, 1),
            "allOf": st.lists(inner, max_size=2),
        },
    )


SCHEMAS = schemas(st.recursive(JSON, schemas, max_leaves=4))
MESSAGES = st.just([{"role": "user", "content": "hi"}])


@pytest.fixture(scope="module")
def shared() -> Iterator[Driver]:
    clock = ManualClock()
    with Emulator(
        clock=clock, pace=Pace.instant(), cache=CacheModel(openai_minimum=1, anthropic_minimum=1)
    ) as made:
        yield Driver(made, clock)


@settings(max_examples=150, deadline=None)
@given(body=BODIES, messages=MESSAGES | JSON)
def test_any_body_gets_an_answer(shared: Driver, body: dict[str, Any], messages: Any) -> None:
    bodies = {
        "/v1/chat/completions": {"messages": messages, **body, "model": GPT},
        "/v1/responses": {"input": messages, **body, "model": GPT},
        "/v1/embeddings": {"input": messages, **body, "model": "text-embedding-3-small"},
        "/v1/messages": {"messages": messages, "max_tokens": 9, **body, "model": CLAUDE},
        "/v1/messages/count_tokens": {"messages": messages, **body, "model": CLAUDE},
        "/v1/batches": body,
        "/v1/uploads": body,
        "/emulator/faults": body,
        "/emulator/webhooks": body,
    }
    for path, sent in bodies.items():
        headers = ANTHROPIC if path.startswith("/v1/messages") else OPENAI
        response = shared.send("POST", path, sent, headers)
        assert response.status in {200, 400, 404}
        assert response.read()


@settings(max_examples=200, deadline=None)
@given(schema=SCHEMAS)
def test_any_schema_gets_an_answer(shared: Driver, schema: dict[str, Any]) -> None:
    messages = [{"role": "user", "content": "hi"}]
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    tool = {"type": "function", "function": {"name": "t", "parameters": schema}}
    chat = {"model": GPT, "messages": messages}
    claude = {"model": CLAUDE, "messages": messages, "max_tokens": 99}
    config = {"format": {"type": "json_schema", "schema": schema}}
    choice = {"tools": [{"name": "t", "input_schema": schema}], "tool_choice": {"type": "any"}}
    for path, body in (
        ("/v1/chat/completions", {**chat, "response_format": form}),
        ("/v1/chat/completions", {**chat, "tools": [tool], "tool_choice": "required"}),
        ("/v1/messages", {**claude, "output_config": config}),
        ("/v1/messages", {**claude, **choice}),
    ):
        response = shared.send("POST", path, body, ANTHROPIC if path == "/v1/messages" else OPENAI)
        assert response.status in {200, 400}


@settings(max_examples=50, deadline=None)
@given(body=BODIES, messages=MESSAGES | JSON)
def test_any_body_in_a_batch_ends_in_one_file_or_the_other(
    shared: Driver, body: dict[str, Any], messages: Any
) -> None:
    for url in ("/v1/chat/completions", "/v1/responses"):
        rows = [row("a", {"messages": messages, "input": messages, **body, "model": GPT}, url)]
        done = shared.look(shared.batch(rows, url))
        output, errors = shared.results(done)
        assert (done["status"], len(output) + len(errors)) == ("completed", 1)
    params = {"messages": messages, "max_tokens": 9, **body, "model": CLAUDE}
    made = shared.message_batch([{"custom_id": "a", "params": params}])
    assert len(shared.message_results(made)) == 1
