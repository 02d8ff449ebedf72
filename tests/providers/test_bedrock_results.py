"""Result lines of every family on Bedrock, by the quick way and the general one, odd ones too; and what rows ask."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfrate.base.errors import UsageError
from halfrate.base.results import MAY_BE_PAID, Kind, ResultRow, Tokens, UnreadableLine
from halfrate.base.types import Endpoint, RequestSpec
from halfrate.providers.bedrock_bodies import bare_name, body_of, invocation_in, invocation_of
from halfrate.providers.bedrock_results import completion_in, line_reader
from halfrate.rows.requests import _amid_text

PREFIX = "hr-k3v9x2m4qp-0-1-"
READER = line_reader(PREFIX)
TEXT = 'ünï \u2028"\n\\'
JUNK = {"recordId": "hr-other-0-1-3", "modelOutput": {"content": "<no>"}, "error": {"errorCode": 1}}
"""What a row may ask: nothing in it is of any concern."""
CLAUDE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5-20251001",
    "content": [{"type": "text", "text": TEXT}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 100,
        "cache_creation_input_tokens": 70,
        "cache_read_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 50},
        "output_tokens": 9,
    },
}
CONVERSE: dict[str, Any] = {
    "output": {"message": {"role": "assistant", "content": [{"text": TEXT}]}},
    "stopReason": "end_turn",
    "usage": {
        "inputTokens": 100,
        "outputTokens": 9,
        "totalTokens": 109,
        "cacheReadInputTokens": 30,
        "cacheWriteInputTokens": 70,
    },
    "metrics": {"latencyMs": 1},
}


def line(output: Any = None, number: int = 7, **more: Any) -> bytes:
    found: dict[str, Any] = {"recordId": f"{PREFIX}{number}", "modelInput": JUNK, **more}
    if output is not None:
        found["modelOutput"] = output
    return json.dumps(found, ensure_ascii=False).encode() + b"\n"


def seen(raw: bytes) -> tuple[Kind, Any, Tokens | None, str, str, str | None]:
    """What a line comes to: the same by both ways."""
    assert READER.plain is not None
    general = READER.general(raw)
    rows = READER.plain([raw])
    if rows.numbers:
        tokens = READER.tokens(rows.usages[0])
        quick = ResultRow(
            rows.numbers[0], Kind.SUCCEEDED, rows.answers[0], tokens, rows.models[0], rows.finishes[0]
        )
        assert msgspec.structs.replace(general, answer=b"") == msgspec.structs.replace(quick, answer=b"")
        assert bytes(general.answer) == bytes(quick.answer)
    assert general.row == 7
    answer = json.loads(bytes(general.answer))
    return Kind(general.kind), answer, general.tokens, general.finish, general.model, general.error


def test_claude_and_converse_go_the_quick_way() -> None:
    assert READER.plain is not None
    other = line({"generation": "a"}, 8)
    for output in (CLAUDE, CONVERSE):
        rows = READER.plain([line(output), other, line(output, 9)])
        assert (rows.numbers, len(rows.rest)) == ([7, 9], 1)
    mixed = READER.plain([line(CLAUDE), line(CONVERSE, 8)])
    assert len(mixed.numbers) + len(mixed.rest) == 2
    expected = (Kind.SUCCEEDED, TEXT, Tokens(100, 30, 20, 50, 9), "end_turn", CLAUDE["model"], None)
    assert seen(line(CLAUDE)) == expected
    # An error beside an answer is no usual line.
    assert READER.plain([line(CLAUDE, error={"errorCode": 500})]).numbers == []


@pytest.mark.parametrize(
    ("output", "answer", "tokens", "finish"),
    [
        (CONVERSE, TEXT, Tokens(100, 30, 70, output=9), "end_turn"),
        (
            {
                "generation": TEXT,
                "prompt_token_count": 12,
                "generation_token_count": 3,
                "stop_reason": "length",
            },
            TEXT,
            Tokens(12, output=3),
            "length",
        ),
        ({"outputs": [{"text": TEXT, "stop_reason": "stop"}]}, TEXT, None, "stop"),
        (
            {
                "inputTextTokenCount": 5,
                "results": [{"tokenCount": 6, "outputText": TEXT, "completionReason": "FINISH"}],
            },
            TEXT,
            Tokens(5, output=6),
            "FINISH",
        ),
        ({"embedding": [0.5, 1], "inputTextTokenCount": 5}, [0.5, 1], Tokens(5), "stop"),
        (
            {"embeddingsByType": {"binary": [0, 1]}, "inputTextTokenCount": 5},
            {"binary": [0, 1]},
            Tokens(5),
            "stop",
        ),
        ({"id": "1", "embeddings": [[0.5, 1]], "texts": ["a"]}, [0.5, 1], None, "stop"),
        ({"embeddings": [[1], [2]]}, [[1], [2]], None, "stop"),
        ({"embeddings": {"float": [[0.5]]}, "response_type": "embeddings_by_type"}, [0.5], None, "stop"),
        ({"embeddings": {"float": [[0.5]], "int8": [[1]]}}, {"float": [0.5], "int8": [1]}, None, "stop"),
    ],
)
def test_every_family(output: Any, answer: Any, tokens: Tokens | None, finish: str) -> None:
    assert seen(line(output)) == (Kind.SUCCEEDED, answer, tokens, finish, "", None)


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ({**CLAUDE, "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}]}, "a"),
        ({**CLAUDE, "content": [{"type": "text", "text": "a"}, {"type": "text", "text": '"b'}]}, 'a"b'),
        ({**CLAUDE, "content": [{"type": "tool_use", "input": {"x": 1}}]}, {"x": 1}),
        ({**CLAUDE, "content": []}, None),
        ({**CLAUDE, "content": [{"type": "text", "text": None}]}, None),
        (
            {
                **CONVERSE,
                "output": {"message": {"content": [{"reasoningContent": {"a": 1}}, {"text": "a"}]}},
            },
            "a",
        ),
        (
            {
                **CONVERSE,
                "output": {
                    "message": {"content": [{"toolUse": {"input": {"x": 1}}}, {"toolUse": {"input": 2}}]}
                },
            },
            [{"x": 1}, 2],
        ),
    ],
)
def test_what_was_said(output: Any, answer: Any) -> None:
    assert seen(line(output))[:2] == (Kind.SUCCEEDED, answer)


def test_a_usage_that_is_not_there_is_not_nothing() -> None:
    silent = {key: value for key, value in CONVERSE.items() if key != "usage"}
    assert seen(line(silent))[2] is None
    assert seen(line({"generation": "a", "stop_reason": None}))[2:4] == (None, "")


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        ({"errorCode": 400, "errorMessage": "no"}, Kind.FAILED, "400: no"),
        ({"errorCode": "400", "errorMessage": "no"}, Kind.FAILED, "400: no"),
        ({"errorCode": "ValidationException", "errorMessage": "no"}, Kind.FAILED, "ValidationException: no"),
        ({"errorCode": 424, "errorMessage": "model"}, Kind.FAILED_PASSING, "424: model"),
        ({"errorCode": 429}, Kind.FAILED_PASSING, "429"),
        ({"errorCode": "503", "errorMessage": None}, Kind.FAILED_PASSING, "503"),
        ({"errorCode": "ThrottlingException"}, Kind.FAILED_PASSING, "ThrottlingException"),
        ({"errorCode": "ModelTimeoutException"}, Kind.FAILED_PASSING, "ModelTimeoutException"),
        ({}, Kind.FAILED_PASSING, "no reason given"),
        (None, Kind.FAILED_PASSING, "no reason given"),
        ("odd", Kind.FAILED_PASSING, "the result has a form that is not understood"),
        ({"errorCode": [1]}, Kind.FAILED_PASSING, "the result has a form that is not understood"),
    ],
)
def test_errors(error: Any, kind: Kind, text: str) -> None:
    assert seen(line(error=error)) == (kind, None, None, "", "", text)


@pytest.mark.parametrize(
    "output",
    [{}, {"content": 3}, [], "text", {"embeddings": []}, {"outputs": []}, {"output": {}}, {"results": [{}]}],
)
def test_an_output_that_makes_no_sense_may_be_paid_for(output: Any) -> None:
    assert seen(line(output)) == (Kind.FAILED, None, None, "", "", MAY_BE_PAID)


def test_an_empty_output_may_be_paid_for_and_none_at_all_is_not() -> None:
    assert seen(b'{"recordId":"%b7","modelOutput":null}' % PREFIX.encode())[5] == MAY_BE_PAID
    assert seen(line())[0] is Kind.FAILED_PASSING


@pytest.mark.parametrize(
    "raw",
    [
        b'{"modelOutput":{}}',
        b'{"recordId":3}',
        b'{"recordId":"hr-other-0-1-7","modelOutput":{}}',
        b'{"recordId":"A1B2C3D4E5F","modelOutput":{"generation":"a"}}',
        b"not json",
        b"[]",
    ],
)
def test_lines_that_are_nobodys(raw: bytes) -> None:
    with pytest.raises((UnreadableLine, msgspec.DecodeError)):
        READER.general(raw)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.text(max_size=20), st.booleans()), max_size=20))
@settings(max_examples=60)
def test_many_lines_come_to_what_each_comes_to(rows: list[tuple[int, str, bool]]) -> None:
    lines = [
        line({**CLAUDE, "content": [{"type": "text", "text": text}]} if claude else CONVERSE, number)
        for number, text, claude in rows
        if "\ud800" not in text
    ]
    assert READER.plain is not None
    found = READER.plain(lines)
    quick = dict(zip(found.lines, found.numbers, strict=True))
    assert len(found.lines) + len(found.rest) == len(lines)
    for raw in lines:
        if raw in quick:
            assert READER.general(raw).row == quick[raw]


def test_completions() -> None:
    found = completion_in(line(CONVERSE), 5)
    assert found is not None
    assert found["choices"][0]["message"]["content"] == TEXT
    found = completion_in(line(CLAUDE), 5)
    assert found is not None
    assert (found["model"], found["created"]) == (CLAUDE["model"], 5)
    assert completion_in(line({"generation": "a"}), 5) is None
    assert completion_in(line(error={"errorCode": 400}), 5) is None


# ---------------------------------------------------------------- what rows ask


def asked(model: str, endpoint: Endpoint = "messages", prompt: str = TEXT, **more: Any) -> dict[str, Any]:
    """The body of a row as it stands in a request file."""
    spec = RequestSpec(provider="bedrock", model=model, endpoint=endpoint, prompt="{q}", **more)
    before, after = body_of(spec)
    text = msgspec.json.encode(prompt)
    raw = before + (text[1:-1] if _amid_text(before) else text) + after
    body = json.loads(raw)
    if endpoint == "messages":
        assert invocation_in(raw) == invocation_of(model, spec.options)
    else:
        assert invocation_in(raw) == "InvokeModel"
    return body


MORE: dict[str, Any] = {"system": 'Be "brief".\\', "max_tokens": 64, "temperature": 0.5}


def test_claude() -> None:
    for model in ("anthropic.claude-x", "us.anthropic.claude-x", "global.anthropic.claude-x"):
        assert asked(model, **MORE, params={"top_k": 3}) == {
            "anthropic_version": "bedrock-2023-05-31",
            "max_tokens": 64,
            "system": MORE["system"],
            "temperature": 0.5,
            "messages": [{"role": "user", "content": TEXT}],
            "top_k": 3,
        }
    assert asked("anthropic.claude-x")["max_tokens"] == 4096


def test_nova_and_converse() -> None:
    converse = {
        "system": [{"text": MORE["system"]}],
        "messages": [{"role": "user", "content": [{"text": TEXT}]}],
        "inferenceConfig": {"maxTokens": 64, "temperature": 0.5},
    }
    assert asked("eu.amazon.nova-lite-v1:0", **MORE) == {"schemaVersion": "messages-v1", **converse}
    assert asked("deepseek.v3-v1:0", **MORE) == converse
    assert asked("anthropic.claude-x", **MORE, options={"invocation": "converse"}) == converse
    assert asked("mistral.mistral-large-3-675b-instruct", **MORE) == converse
    own = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3"
    assert asked(own, **MORE) == converse
    assert "anthropic_version" in asked(own, options={"serves": "us.anthropic.claude-x"})
    assert asked("qwen.qwen3-32b-v1:0") == {"messages": converse["messages"]}


def test_llama_and_mistral_have_the_prompt_within_a_template() -> None:
    assert asked("us.meta.llama3-3-70b-instruct-v1:0", **MORE) == {
        "prompt": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        f"{MORE['system']}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n{TEXT}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "max_gen_len": 64,
        "temperature": 0.5,
    }
    assert asked("us.meta.llama4-scout-17b-instruct-v1:0")["prompt"] == (
        f"<|begin_of_text|><|header_start|>user<|header_end|>\n\n{TEXT}<|eot|>"
        "<|header_start|>assistant<|header_end|>\n\n"
    )
    assert asked("mistral.mistral-large-2402-v1:0", **MORE) == {
        "prompt": f"<s>[INST] {MORE['system']}\n\n{TEXT} [/INST]",
        "max_tokens": 64,
        "temperature": 0.5,
    }


def test_embeddings() -> None:
    titan = asked("amazon.titan-embed-text-v2:0", "embeddings", params={"dimensions": 256})
    assert titan == {"inputText": TEXT, "dimensions": 256}
    cohere = asked("cohere.embed-english-v3", "embeddings", params={"input_type": "search_query"})
    assert cohere == {"texts": [TEXT], "input_type": "search_query"}


@pytest.mark.parametrize(
    ("model", "endpoint", "more", "words"),
    [
        ("anthropic.claude-x", "messages", {"schema": {}}, "structured output"),
        ("anthropic.claude-x", "messages", {"params": {"output_config": {}}}, "structured output"),
        ("anthropic.claude-x", "messages", {"params": {"tools": []}}, "no tools"),
        ("amazon.nova-lite-v1:0", "messages", {"params": {"toolConfig": {}}}, "no tools"),
        ("deepseek.v3-v1:0", "messages", {"options": {"invocation": "invoke"}}, "not known"),
        ("amazon.nova-lite-v1:0", "embeddings", {}, "no embeddings"),
        (
            "amazon.titan-embed-text-v2:0",
            "embeddings",
            {"options": {"invocation": "converse"}},
            "InvokeModel",
        ),
        ("cohere.embed-english-v3", "embeddings", {"system": "x"}, "take no --system"),
        ("cohere.embed-english-v3", "embeddings", {"max_tokens": 3}, "take no --max-tokens"),
    ],
)
def test_what_a_batch_cannot_do(model: str, endpoint: Endpoint, more: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        asked(model, endpoint, **more)


def test_names() -> None:
    for name in ("us.a.b", "eu.a.b", "global.a.b", "apac.a.b", "us-gov.a.b", "arn:aws:bedrock:x:1:p/us.a.b"):
        assert bare_name(name) == "a.b"
    assert bare_name("amazon.nova-lite-v1:0") == "amazon.nova-lite-v1:0"
