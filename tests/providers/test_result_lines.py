"""Result lines as providers write them, by both ways: the quick one for the usual shape, and the general one."""

import copy
import json
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfrate.base.results import MAY_BE_PAID, Kind, LineReader, ResultRow, Tokens, UnreadableLine
from halfrate.providers import anthropic_results, openai_results

Read: TypeAlias = Callable[[bytes], ResultRow]


def quick(reader: LineReader) -> Read:
    """A line as it is read among many; the general way where that does not take it."""

    def read(line: bytes) -> ResultRow:
        assert reader.plain is not None
        rows = reader.plain([line])
        assert [*rows.lines, *rows.rest] == [line]
        if not rows.numbers:
            return reader.general(line)
        try:
            tokens = reader.tokens(rows.usages[0])
        except msgspec.DecodeError:
            return reader.general(line)
        answer, model, finish = rows.answers[0], rows.models[0], rows.finishes[0]
        return ResultRow(rows.numbers[0], Kind.SUCCEEDED, answer, tokens, model, finish)

    return read


PREFIX = "hr-k3v9x2m4qp-0-1-"
CHAT = quick(openai_results.line_reader("chat", PREFIX))
CHAT_GENERAL = openai_results.line_reader("chat", PREFIX).general
RESPONSES = openai_results.line_reader("responses", PREFIX).general
EMBEDDINGS = openai_results.line_reader("embeddings", PREFIX).general
MESSAGES = quick(anthropic_results.line_reader(PREFIX))
MESSAGES_GENERAL = anthropic_results.line_reader(PREFIX).general

CHAT_WAYS = pytest.mark.parametrize("read", [CHAT, CHAT_GENERAL], ids=["quick", "general"])
MESSAGES_WAYS = pytest.mark.parametrize("read", [MESSAGES, MESSAGES_GENERAL], ids=["quick", "general"])
GONE: Any = "<gone>"
"""In place of a value: the field is not there."""

TEXT = "ünï \u2028\n"
MODEL = "gpt-4.1-mini-2025-04-14"
CLAUDE = "claude-haiku-4-5-20251001"
PLAIN = Tokens(100, output=9)
NOT_UNDERSTOOD = "the result has a form that is not understood"

BODY = "response.body"
CHOICE = f"{BODY}.choices.0"
SAID = f"{CHOICE}.message"
USAGE = f"{BODY}.usage"
PARTS = f"{BODY}.output.1.content"
MESSAGE = "result.message"
CONTENT = f"{MESSAGE}.content"
SPENT = f"{MESSAGE}.usage"


def encoded(line: Any) -> bytes:
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"


def changed(line: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy of a line with other values at paths such as `response.body.choices.0.finish_reason`."""
    line = copy.deepcopy(line)
    for path, value in changes.items():
        *parents, last = path.split(".")
        node: Any = line
        for name in parents:
            node = node[int(name) if isinstance(node, list) else name]
        key: Any = int(last) if isinstance(node, list) else last
        if value == GONE:
            del node[key]
        else:
            node[key] = value
    return line


def seen(result: ResultRow) -> tuple[int, Kind, Any, Tokens | None, str, str, str | None]:
    answer = json.loads(bytes(result.answer))
    return (
        result.row,
        Kind(result.kind),
        answer,
        result.tokens,
        result.model,
        result.finish,
        result.error,
    )


def tried(read: Callable[[bytes], ResultRow], line: bytes) -> Any:
    """What a reader makes of a line, be it an error."""
    try:
        return seen(read(line))
    except (UnreadableLine, msgspec.DecodeError, UnicodeDecodeError) as fault:
        return type(fault)


def chat() -> dict[str, Any]:
    """An answered chat as OpenAI writes it."""
    said = {"role": "assistant", "content": TEXT, "refusal": None, "annotations": []}
    return {
        "id": "batch_req_1",
        "custom_id": f"{PREFIX}7",
        "response": {
            "status_code": 200,
            "request_id": "r",
            "body": {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1_760_000_000,
                "model": MODEL,
                "choices": [{"index": 0, "message": said, "logprobs": None, "finish_reason": "stop"}],
                "usage": {
                    "prompt_tokens": 100,
                    "completion_tokens": 9,
                    "total_tokens": 109,
                    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
                },
                "service_tier": "default",
                "system_fingerprint": "fp",
            },
        },
        "error": None,
    }


def response() -> dict[str, Any]:
    """A response as OpenAI writes it."""
    said = [{"type": "output_text", "text": TEXT, "annotations": []}]
    return {
        "custom_id": f"{PREFIX}7",
        "response": {
            "status_code": 200,
            "body": {
                "model": MODEL,
                "status": "completed",
                "error": None,
                "incomplete_details": None,
                "output": [{"type": "reasoning", "summary": []}, {"type": "message", "content": said}],
                "usage": {
                    "input_tokens": 100,
                    "output_tokens": 9,
                    "input_tokens_details": {"cached_tokens": 0},
                    "output_tokens_details": {"reasoning_tokens": 0},
                },
            },
        },
        "error": None,
    }


def embedding() -> dict[str, Any]:
    body = {
        "object": "list",
        "model": "text-embedding-3-small",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -1e-05]}],
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }
    return {"custom_id": f"{PREFIX}7", "response": {"status_code": 200, "body": body}, "error": None}


def message() -> dict[str, Any]:
    """An answer as Anthropic writes it."""
    return {
        "custom_id": f"{PREFIX}7",
        "result": {
            "type": "succeeded",
            "message": {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": CLAUDE,
                "content": [{"type": "text", "text": TEXT}],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": {
                    "input_tokens": 100,
                    "cache_creation_input_tokens": 0,
                    "cache_read_input_tokens": 0,
                    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
                    "output_tokens": 9,
                    "service_tier": "batch",
                },
            },
        },
    }


CALLS = [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
TEXTS = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
DETAILS = f"{USAGE}.prompt_tokens_details"


@CHAT_WAYS
@pytest.mark.parametrize(
    ("changes", "answer", "tokens", "finish"),
    [
        ({}, TEXT, PLAIN, "stop"),
        ({f"{SAID}.content": ""}, "", PLAIN, "stop"),
        ({f"{SAID}.content": "ab"}, "ab", PLAIN, "stop"),  # as many bytes as null
        ({f"{SAID}.content": "null"}, "null", PLAIN, "stop"),
        ({f"{SAID}.content": None, f"{SAID}.refusal": 'I\'m "sorry"'}, 'I\'m "sorry"', PLAIN, "refusal"),
        ({f"{SAID}.content": GONE, f"{SAID}.refusal": "no"}, "no", PLAIN, "refusal"),
        (
            {f"{SAID}.content": None, f"{SAID}.tool_calls": CALLS, f"{CHOICE}.finish_reason": "tool_calls"},
            CALLS,
            PLAIN,
            "tool_calls",
        ),
        ({f"{SAID}.content": "both", f"{SAID}.tool_calls": CALLS}, "both", PLAIN, "stop"),
        ({f"{SAID}.content": None}, None, PLAIN, "stop"),
        ({f"{SAID}.content": GONE}, None, PLAIN, "stop"),
        ({f"{SAID}.content": TEXTS}, TEXTS, PLAIN, "stop"),
        ({USAGE: GONE}, TEXT, None, "stop"),
        ({USAGE: None}, TEXT, None, "stop"),
        ({DETAILS: GONE}, TEXT, PLAIN, "stop"),
        ({DETAILS: None, f"{USAGE}.completion_tokens_details": None}, TEXT, PLAIN, "stop"),
        ({DETAILS: {}}, TEXT, PLAIN, "stop"),
        ({f"{DETAILS}.cached_tokens": 64}, TEXT, Tokens(36, 64, output=9), "stop"),
        ({f"{DETAILS}.cached_tokens": None}, TEXT, PLAIN, "stop"),
        (
            {DETAILS: {"cached_tokens": 10, "cache_write_tokens": 20}},
            TEXT,
            Tokens(70, 10, 20, output=9),
            "stop",
        ),
        (
            {f"{USAGE}.completion_tokens_details.reasoning_tokens": 4},
            TEXT,
            Tokens(100, output=9, reasoning=4),
            "stop",
        ),
        ({f"{USAGE}.completion_tokens": GONE}, TEXT, Tokens(100), "stop"),
        ({f"{DETAILS}.audio_tokens": 60}, TEXT, Tokens(100, output=9, audio_input=60), "stop"),
        (
            {
                DETAILS: {
                    "cached_tokens": 64,
                    "audio_tokens": 60,
                    "cached_tokens_details": {"audio_tokens": 40},
                },
                f"{USAGE}.completion_tokens_details.audio_tokens": 5,
            },
            TEXT,
            Tokens(36, 64, output=9, audio_input=20, audio_cached=40, audio_output=5),
            "stop",
        ),
        ({f"{CHOICE}.finish_reason": GONE}, TEXT, PLAIN, ""),
        ({f"{CHOICE}.finish_reason": None}, TEXT, PLAIN, ""),
        ({f"{CHOICE}.finish_reason": "length"}, TEXT, PLAIN, "length"),
        (
            {f"{BODY}.choices": [{"message": {"content": "a"}}, {"message": {"content": "b"}}]},
            "a",
            PLAIN,
            "",
        ),
        ({"error": GONE, "extra": {"a": [1, {}]}, f"{BODY}.extra": [[]]}, TEXT, PLAIN, "stop"),
        ({f"{SAID}.extra": "x", f"{USAGE}.extra": None, f"{DETAILS}.extra": 1}, TEXT, PLAIN, "stop"),
        # In whichever file it stands: what the line itself says counts.
        ({"error": {"code": "x", "message": "y"}}, TEXT, PLAIN, "stop"),
    ],
)
def test_answered_chats(
    read: Read, changes: dict[str, Any], answer: Any, tokens: Tokens | None, finish: str
) -> None:
    line = encoded(changed(chat(), changes))
    assert seen(read(line)) == (7, Kind.SUCCEEDED, answer, tokens, MODEL, finish, None)


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(CHAT, id="quick"),
        pytest.param(CHAT_GENERAL, id="general"),
    ],
)
def test_no_count_is_below_zero(read: Read) -> None:
    result = read(encoded(changed(chat(), {f"{DETAILS}.cached_tokens": 130})))
    assert result.tokens == Tokens(cached=130, output=9)


@CHAT_WAYS
def test_a_chat_that_names_no_model(read: Read) -> None:
    result = read(encoded(changed(chat(), {f"{BODY}.model": GONE})))
    assert seen(result) == (7, Kind.SUCCEEDED, TEXT, PLAIN, "", "stop", None)


FAULT = {"message": "bad field", "type": "invalid_request_error", "param": None, "code": None}
GONE_FAULT = {**FAULT, "message": None, "code": "gone"}
NO_CHOICE = "the provider answered 200 without a choice"


def http(status: int, body: Any) -> dict[str, Any]:
    return {"response": {"status_code": status, "request_id": "", "body": body}}


def never(code: str, text: str | None) -> dict[str, Any]:
    return {"response": None, "error": {"code": code, "message": text}}


@CHAT_WAYS
@pytest.mark.parametrize(
    ("changes", "kind", "error"),
    [
        (http(400, {"error": FAULT}), Kind.FAILED, "400: bad field"),
        (http(404, {"error": GONE_FAULT}), Kind.FAILED, "404: gone"),
        (http(422, {"error": {}}), Kind.FAILED, "422: no reason given"),
        ({"response.status_code": 400}, Kind.FAILED, "400: no reason given"),  # a whole answer beside it
        (http(429, {"error": FAULT}), Kind.FAILED_PASSING, "429: bad field"),
        (http(500, None), Kind.FAILED_PASSING, "500: no reason given"),
        ({"response": {"status_code": 503}}, Kind.FAILED_PASSING, "503: no reason given"),
        (http(0, {}), Kind.FAILED_PASSING, "no reason given"),
        (http(0, ""), Kind.FAILED_PASSING, f"0: {NOT_UNDERSTOOD}"),
        (http(400, "<html>"), Kind.FAILED, f"400: {NOT_UNDERSTOOD}"),
        (http(502, "<html>"), Kind.FAILED_PASSING, f"502: {NOT_UNDERSTOOD}"),
        (never("batch_expired", "late"), Kind.EXPIRED, "late"),
        (never("batch_cancelled", "stop"), Kind.CANCELLED, "stop"),
        (never("other", None), Kind.FAILED_PASSING, "other"),
        ({"response": None}, Kind.FAILED_PASSING, "no reason given"),
        ({"response": GONE, "error": GONE}, Kind.FAILED_PASSING, "no reason given"),
        ({f"{BODY}.choices": []}, Kind.FAILED_PASSING, NO_CHOICE),
        ({f"{BODY}.choices": GONE}, Kind.FAILED_PASSING, NO_CHOICE),
    ],
)
def test_chats_without_an_answer(read: Read, changes: dict[str, Any], kind: Kind, error: str) -> None:
    line = encoded(changed(chat(), changes))
    assert seen(read(line)) == (7, kind, None, None, "", "", error)


@pytest.mark.parametrize(
    "name",
    [
        "", "7", "row-7", "hr-k3v9x2m4qp-0-2-7", "hr-k3v9x2m4qp-1-1-7", "hr-aaaaaaaaaa-0-1-7", PREFIX, f"{PREFIX}7x",
        f"{PREFIX}-7", f"{PREFIX} 7", f"{PREFIX}\u0667", f"{PREFIX}\u00b2", f"{PREFIX}\uff17", f"x{PREFIX}7",
        f"{PREFIX}7\n", f"{PREFIX}1_000", f"{PREFIX.upper()}7",
    ],
)  # fmt: skip
def test_ids_that_are_not_ours(name: str) -> None:
    lines: list[tuple[Callable[[bytes], ResultRow], dict[str, Any]]] = [
        (CHAT, chat()),
        (CHAT_GENERAL, chat()),
        (CHAT, changed(chat(), http(400, "text"))),
        (RESPONSES, response()),
        (EMBEDDINGS, embedding()),
        (MESSAGES, message()),
        (MESSAGES_GENERAL, message()),
        (MESSAGES, changed(message(), {"result": "text"})),
    ]
    for read, line in lines:
        assert tried(read, encoded(changed(line, {"custom_id": name}))) is UnreadableLine


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"[]", b'"x"', b"{", b"{}", b'{"custom_id":null}', b'{"custom_id":"\xff"}']
)
def test_lines_that_name_nothing(line: bytes) -> None:
    for read in (CHAT, CHAT_GENERAL, RESPONSES, EMBEDDINGS, MESSAGES, MESSAGES_GENERAL):
        with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
            read(line)


OUTPUT = f"{BODY}.output"


@pytest.mark.parametrize(
    ("changes", "answer", "tokens", "finish"),
    [
        ({}, TEXT, PLAIN, "completed"),
        (
            {PARTS: [{"type": "output_text", "text": 'a"'}, {"type": "output_text", "text": "b"}]},
            'a"b',
            PLAIN,
            "completed",
        ),
        ({PARTS: [{"type": "refusal", "refusal": "no"}]}, "no", PLAIN, "refusal"),
        ({PARTS: []}, None, PLAIN, "completed"),
        ({PARTS: None}, None, PLAIN, "completed"),
        ({PARTS: [{"type": "output_text", "text": None}]}, None, PLAIN, "completed"),
        ({PARTS: [{"type": "new_kind"}, {"type": "output_text", "text": "b"}]}, "b", PLAIN, "completed"),
        ({OUTPUT: [{"type": "function_call", "arguments": '{"k":1}'}]}, '{"k":1}', PLAIN, "completed"),
        ({OUTPUT: []}, None, PLAIN, "completed"),
        (
            {f"{BODY}.status": "incomplete", f"{BODY}.incomplete_details": {"reason": "max_output_tokens"}},
            TEXT,
            PLAIN,
            "max_output_tokens",
        ),
        ({f"{BODY}.status": GONE}, TEXT, PLAIN, ""),
        ({USAGE: GONE}, TEXT, None, "completed"),
        (
            {f"{USAGE}.input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 6}},
            TEXT,
            Tokens(30, 64, 6, output=9),
            "completed",
        ),
        (
            {f"{USAGE}.output_tokens_details.reasoning_tokens": 4},
            TEXT,
            Tokens(100, output=9, reasoning=4),
            "completed",
        ),
        ({f"{USAGE}.input_tokens_details": None}, TEXT, PLAIN, "completed"),
        ({f"{BODY}.extra": {"x": []}, "more": 1}, TEXT, PLAIN, "completed"),
    ],
)
def test_answered_responses(changes: dict[str, Any], answer: Any, tokens: Tokens | None, finish: str) -> None:
    result = seen(RESPONSES(encoded(changed(response(), changes))))
    assert result == (7, Kind.SUCCEEDED, answer, tokens, MODEL, finish, None)


@pytest.mark.parametrize(
    ("changes", "kind", "error"),
    [
        ({f"{BODY}.status": "failed"}, Kind.FAILED_PASSING, "the response failed without saying why"),
        ({OUTPUT: GONE}, Kind.FAILED_PASSING, "the response failed without saying why"),
        (http(400, {"error": FAULT}), Kind.FAILED, "400: bad field"),
        (http(0, None), Kind.FAILED_PASSING, "no reason given"),
    ],
)
def test_responses_without_an_answer(changes: dict[str, Any], kind: Kind, error: str) -> None:
    assert seen(RESPONSES(encoded(changed(response(), changes)))) == (7, kind, None, None, "", "", error)


@pytest.mark.parametrize(
    ("changes", "answer", "tokens"),
    [
        ({}, [0.5, -1e-05], Tokens(8)),
        (
            {f"{BODY}.data": [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1]}]},
            [[1], [2]],
            Tokens(8),
        ),
        ({f"{BODY}.data.0.embedding": "AAAA"}, "AAAA", Tokens(8)),
        ({USAGE: GONE, f"{BODY}.extra": 1}, [0.5, -1e-05], None),
    ],
)
def test_answered_embeddings(changes: dict[str, Any], answer: Any, tokens: Tokens | None) -> None:
    result = seen(EMBEDDINGS(encoded(changed(embedding(), changes))))
    assert result == (7, Kind.SUCCEEDED, answer, tokens, "text-embedding-3-small", "stop", None)


@pytest.mark.parametrize(
    ("changes", "kind", "error"),
    [
        (
            {f"{BODY}.data": value},
            Kind.FAILED_PASSING,
            "the provider answered 200 without an embedding",
        )
        for value in ([], None, GONE)
    ]
    + [
        (http(400, {"error": FAULT}), Kind.FAILED, "400: bad field"),
        (http(0, ""), Kind.FAILED_PASSING, f"0: {NOT_UNDERSTOOD}"),
    ],
)
def test_embeddings_without_one(changes: dict[str, Any], kind: Kind, error: str) -> None:
    assert seen(EMBEDDINGS(encoded(changed(embedding(), changes)))) == (7, kind, None, None, "", "", error)


USE = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"k": [1, "ü"]}}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}
WRITTEN = f"{SPENT}.cache_creation_input_tokens"
READ = f"{SPENT}.cache_read_input_tokens"
SPLIT = f"{SPENT}.cache_creation"
STOP = f"{MESSAGE}.stop_reason"
HALVES = {"ephemeral_5m_input_tokens": 8, "ephemeral_1h_input_tokens": 12}


@MESSAGES_WAYS
@pytest.mark.parametrize(
    ("changes", "answer", "tokens", "finish"),
    [
        ({}, TEXT, PLAIN, "end_turn"),
        ({f"{CONTENT}.0.text": ""}, "", PLAIN, "end_turn"),
        ({f"{CONTENT}.0.citations": None}, TEXT, PLAIN, "end_turn"),
        ({f"{CONTENT}.0.text": None}, None, PLAIN, "end_turn"),
        ({f"{CONTENT}.0.text": GONE}, None, PLAIN, "end_turn"),
        ({CONTENT: TEXTS}, "ab", PLAIN, "end_turn"),
        ({CONTENT: [THOUGHT, *TEXTS]}, "ab", PLAIN, "end_turn"),
        ({CONTENT: [THOUGHT]}, None, PLAIN, "end_turn"),
        ({CONTENT: [{"type": "new_kind", "text": "x"}]}, None, PLAIN, "end_turn"),
        ({CONTENT: [USE], STOP: "tool_use"}, USE["input"], PLAIN, "tool_use"),
        ({CONTENT: [USE, USE]}, [USE["input"]] * 2, PLAIN, "end_turn"),
        ({CONTENT: [*TEXTS, USE]}, "ab", PLAIN, "end_turn"),
        ({CONTENT: [], STOP: "refusal"}, None, PLAIN, "refusal"),
        ({STOP: "max_tokens"}, TEXT, PLAIN, "max_tokens"),
        ({STOP: None}, TEXT, PLAIN, ""),
        ({STOP: GONE}, TEXT, PLAIN, ""),
        ({SPENT: GONE}, TEXT, None, "end_turn"),
        ({SPENT: None}, TEXT, None, "end_turn"),
        ({SPENT: {"input_tokens": 100, "output_tokens": 9}}, TEXT, PLAIN, "end_turn"),
        ({WRITTEN: None, READ: None}, TEXT, PLAIN, "end_turn"),
        ({READ: 64}, TEXT, Tokens(100, 64, output=9), "end_turn"),
        ({WRITTEN: 20, SPLIT: GONE}, TEXT, Tokens(100, write_5m=20, output=9), "end_turn"),
        ({WRITTEN: 20, SPLIT: None}, TEXT, Tokens(100, write_5m=20, output=9), "end_turn"),
        ({f"{SPENT}.inference_geo": "us"}, TEXT, Tokens(100, output=9, region="us"), "end_turn"),
        ({f"{SPENT}.inference_geo": "global"}, TEXT, PLAIN, "end_turn"),
        ({f"{SPENT}.inference_geo": "not_available"}, TEXT, PLAIN, "end_turn"),
        ({f"{SPENT}.inference_geo": None}, TEXT, PLAIN, "end_turn"),
        ({READ: 5, WRITTEN: 20, SPLIT: HALVES}, TEXT, Tokens(100, 5, 8, 12, 9), "end_turn"),
        ({"extra": [1], "result.extra": {}, f"{MESSAGE}.extra": None}, TEXT, PLAIN, "end_turn"),
        ({f"{SPENT}.extra": {"x": 1}, f"{CONTENT}.0.extra": [[]]}, TEXT, PLAIN, "end_turn"),
    ],
)
def test_answered_messages(
    read: Read, changes: dict[str, Any], answer: Any, tokens: Tokens | None, finish: str
) -> None:
    line = encoded(changed(message(), changes))
    assert seen(read(line)) == (7, Kind.SUCCEEDED, answer, tokens, CLAUDE, finish, None)


@MESSAGES_WAYS
def test_a_message_that_names_no_model(read: Read) -> None:
    result = read(encoded(changed(message(), {f"{MESSAGE}.model": GONE})))
    assert seen(result) == (7, Kind.SUCCEEDED, TEXT, PLAIN, "", "end_turn", None)


def errored(kind: str, text: str = "why") -> dict[str, Any]:
    return {"type": "errored", "error": {"type": "error", "error": {"type": kind, "message": text}}}


@MESSAGES_WAYS
@pytest.mark.parametrize(
    ("result", "kind", "error"),
    [
        (errored("invalid_request_error"), Kind.FAILED, "invalid_request_error: why"),
        (errored("invalid_request_error", ""), Kind.FAILED, "invalid_request_error"),
        (errored("overloaded_error"), Kind.FAILED_PASSING, "overloaded_error: why"),
        (errored("api_error"), Kind.FAILED_PASSING, "api_error: why"),
        ({"type": "errored", "error": None}, Kind.FAILED_PASSING, "result of type 'errored'"),
        ({"type": "errored", "error": {"error": None}}, Kind.FAILED_PASSING, "result of type 'errored'"),
        ({"type": "expired"}, Kind.EXPIRED, "the batch's window ended before this row was run"),
        ({"type": "canceled"}, Kind.CANCELLED, "the batch was cancelled before this row was run"),
        ({"type": "succeeded", "message": None}, Kind.FAILED, MAY_BE_PAID),
        ({"type": "new_kind"}, Kind.FAILED_PASSING, "result of type 'new_kind'"),
        ("text", Kind.FAILED_PASSING, NOT_UNDERSTOOD),
        ({"type": "succeeded", "message": {"content": "text"}}, Kind.FAILED, MAY_BE_PAID),
        (GONE, Kind.FAILED_PASSING, NOT_UNDERSTOOD),
    ],
)
def test_messages_without_an_answer(read: Read, result: Any, kind: Kind, error: str) -> None:
    line = encoded(changed(message(), {"result": result}))
    assert seen(read(line)) == (7, kind, None, None, "", "", error)


def paths_of(node: Any, path: str = "") -> list[str]:
    """Every place in a line."""
    items: list[tuple[Any, Any]] = []
    if isinstance(node, dict):
        items = list(cast("dict[Any, Any]", node).items())
    elif isinstance(node, list):
        items = list(enumerate(cast("list[Any]", node)))
    found: list[str] = []
    for name, value in items:
        below = f"{path}.{name}" if path else str(name)
        found += [below, *paths_of(value, below)]
    return found


TAKEN_FOR_GRANTED = {"result.type"}
"""Only a result that succeeded has a message."""

# Not among them: fewer tokens read than were cached, which has its own test.
ODD = st.sampled_from([GONE, None, "", "text", "ab", True, 1.5, 3, [], {}, [{}], [[]], TEXTS[0]])


@pytest.mark.parametrize(
    ("quick", "general", "make"),
    [(CHAT, CHAT_GENERAL, chat), (MESSAGES, MESSAGES_GENERAL, message)],
    ids=["chat", "messages"],
)
@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_both_ways_read_the_same(
    quick: Read, general: Read, make: Callable[[], dict[str, Any]], data: st.DataObject
) -> None:
    line = make()
    for _ in range(data.draw(st.integers(1, 3))):
        places = [path for path in paths_of(line) if path not in TAKEN_FOR_GRANTED]
        if places:
            line = changed(line, {data.draw(st.sampled_from(places)): data.draw(ODD)})
    quickly, generally = tried(quick, encoded(line)), tried(general, encoded(line))
    if quickly != generally:
        # The quick way looks at fewer fields, and so understands some lines of which others make no sense.
        assert (generally[-1] or "") == MAY_BE_PAID or NOT_UNDERSTOOD in (generally[-1] or "")
        assert quickly[:2] == (7, Kind.SUCCEEDED)


@given(content=st.text(st.characters(codec="utf-8")), row=st.integers(0, 10**9), ascii_only=st.booleans())
def test_any_text_comes_through(content: str, row: int, ascii_only: bool) -> None:
    name = f"{PREFIX}{row}"
    made: list[tuple[Read, dict[str, Any]]] = [
        (CHAT, changed(chat(), {"custom_id": name, f"{SAID}.content": content})),
        (RESPONSES, changed(response(), {"custom_id": name, f"{PARTS}.0.text": content})),
        (MESSAGES, changed(message(), {"custom_id": name, f"{CONTENT}.0.text": content})),
    ]
    for read, line in made:
        result = read(json.dumps(line, ensure_ascii=ascii_only).encode())
        assert (result.row, json.loads(bytes(result.answer))) == (row, content)
