"""Realtime calls of both dialects: what is sent, and what is made of every answer."""

import functools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfrate.base.errors import OutcomeUnknown, Refused
from halfrate.base.results import Kind, Tokens
from halfrate.core.pacing import Window
from halfrate.providers import anthropic_calls, anthropic_results, openai_calls, openai_results
from halfrate.providers.answers import Answer
from halfrate.providers.base import Blame, Call, CallRefused, Reply, Tier
from halfrate.providers.calls import asks_for_stream, counted, on_one_line, period, seconds_of

PREFIX = "hr-k3v9x2m4qp-0-2-"
UNDERSTAND = functools.partial(openai_calls.understand, "OpenAI")
CHAT = Call(endpoint="chat", row_id=f"{PREFIX}7", body=b"{}")
OPENAI = openai_results.line_reader("chat", PREFIX)
ANTHROPIC = anthropic_results.line_reader(PREFIX)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def answer(status: int, body: Any, headers: dict[str, str] | None = None, **more: Any) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status=status, reason="Reason", body=raw, headers=headers or {}, **more)


def fault(message: str = "no", **more: Any) -> dict[str, Any]:
    return {
        "error": {"message": message, "type": "invalid_request_error", "param": None, "code": None, **more}
    }


def claude_fault(kind: str, message: str = "no", **more: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message, **more}, "request_id": "req_1"}


def refusal(provider: str, found: Answer) -> CallRefused:
    understand = UNDERSTAND if provider == "openai" else anthropic_calls.understand
    with pytest.raises(CallRefused) as raised:
        understand(CHAT, found)
    return raised.value


# ---------------------------------------------------------------- the tier


@given(st.dictionaries(st.text(), JSON, max_size=4), st.integers(0, 3), st.sampled_from(["flex", "priority"]))
def test_the_tier_is_put_in_and_nothing_else_changes(body: dict[str, Any], indent: int, tier: Tier) -> None:
    raw = b" " * indent + json.dumps(body, indent=indent or None, ensure_ascii=False).encode(
        "utf-8", "replace"
    )
    sent = openai_calls.with_tier(raw, tier)
    if "service_tier" in body:
        assert sent == raw
        return
    given_back = json.loads(sent)
    assert given_back.pop("service_tier") == tier
    assert given_back == json.loads(raw)
    # All that was there is there still, byte for byte.
    head, mark, tail = sent.partition(b'"service_tier":"%b"' % tier.encode())
    assert mark
    assert head + tail.removeprefix(b"," if body else b"") == raw


def test_a_tier_that_the_row_names_itself_is_left() -> None:
    for body in (
        b'{"model":"m","service_tier":"priority"}',
        b'{"service_tier":null}',
        b'{ "service_tier" : "auto"}',
    ):
        assert openai_calls.with_tier(body, "flex") == body
    # Elsewhere than at the top it is somebody's text.
    nested = b'{"messages":[{"service_tier":"x","content":"\\"service_tier\\":1"}]}'
    assert json.loads(openai_calls.with_tier(nested, "flex"))["service_tier"] == "flex"
    assert openai_calls.with_tier(b'{"model":"m"}', "standard") == b'{"model":"m"}'
    for strange in (b"[1]", b"", b"null", b'{"a"'):
        assert openai_calls.with_tier(strange, "flex") == strange


# ---------------------------------------------------------------- replies


@given(JSON.filter(lambda body: not isinstance(body, str)), st.integers(1, 4))
def test_a_body_on_one_line_is_the_same_body(body: Any, indent: int) -> None:
    raw = (
        json.dumps(body, indent=indent, ensure_ascii=False)
        .encode("utf-8", "surrogatepass")
        .replace(b"\n", b"\r\n")
    )
    flat = on_one_line(raw)
    assert b"\n" not in flat
    assert json.loads(flat.decode("utf-8", "surrogatepass")) == body


def chat_reply(**more: Any) -> dict[str, Any]:
    return {
        "id": "c",
        "model": "gpt-5-mini-2025-08-07",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "hi\u2028"}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 4},
        **more,
    }


def test_an_openai_reply_is_a_line_of_an_output_file() -> None:
    raw = json.dumps(chat_reply(service_tier="flex"), indent=2, ensure_ascii=False).encode()
    reply = openai_calls.understand("OpenAI", CHAT, answer(200, raw, request_id="req_9"))
    assert (reply.tier, reply.line.count(b"\n"), reply.line.endswith(b"\n")) == ("flex", 1, True)
    assert raw.replace(b"\n", b"") in reply.line
    line = json.loads(reply.line)
    assert (line["custom_id"], line["error"], line["response"]["request_id"]) == (f"{PREFIX}7", None, "req_9")
    row = OPENAI.general(reply.line)
    assert (row.row, row.kind, json.loads(bytes(row.answer))) == (7, Kind.SUCCEEDED, "hi\u2028")
    assert row.tokens == Tokens(10, output=4)
    # The quick reader takes it for an answered row of a batch.
    assert OPENAI.plain is not None
    assert OPENAI.plain([reply.line]).numbers == [7]


@pytest.mark.parametrize(
    ("served", "tier"),
    [
        ({"service_tier": "default"}, "standard"),
        ({"service_tier": "flex"}, "flex"),
        ({"service_tier": "priority"}, "priority"),
        ({"service_tier": "scale"}, "scale"),
        ({"service_tier": None}, "standard"),
        ({}, "standard"),
    ],
)
def test_the_tier_that_a_row_was_served_in(served: dict[str, Any], tier: str) -> None:
    reply = openai_calls.understand("OpenAI", CHAT, answer(200, chat_reply(**served)))
    assert (reply.tier, openai_calls.tier_of(reply.line)) == (tier, tier)


def claude_reply(**usage: Any) -> dict[str, Any]:
    return {
        "id": "m",
        "type": "message",
        "model": "claude-haiku-4-5",
        "content": [{"type": "text", "text": "hi"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 10, "output_tokens": 4, **usage},
    }


def test_an_anthropic_reply_is_a_line_of_a_batchs_results() -> None:
    reply = anthropic_calls.understand(CHAT, answer(200, claude_reply(service_tier="priority")))
    assert (reply.tier, anthropic_calls.tier_of(reply.line)) == ("priority", "priority")
    row = ANTHROPIC.general(reply.line)
    assert (row.row, row.kind, bytes(row.answer), row.tokens) == (
        7,
        Kind.SUCCEEDED,
        b'"hi"',
        Tokens(10, output=4),
    )
    assert ANTHROPIC.plain is not None
    assert ANTHROPIC.plain([reply.line]).numbers == [7]
    assert anthropic_calls.understand(CHAT, answer(200, claude_reply())).tier == "standard"


@given(st.binary(max_size=40))
def test_no_line_makes_the_tier_fail(line: bytes) -> None:
    assert (openai_calls.tier_of(line), anthropic_calls.tier_of(line)) == ("standard", "standard")


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"id": "c", "choi', b"[1]", b'"text"', b'{"a":"x\ny"}'])
def test_an_answer_that_cannot_be_read_was_most_likely_paid_for(body: bytes) -> None:
    for understand in (UNDERSTAND, anthropic_calls.understand):
        with pytest.raises(OutcomeUnknown, match="most likely"):
            understand(CHAT, answer(200, body))


@pytest.mark.parametrize("status", [202, 204])
def test_a_success_that_is_no_answer_leaves_it_open(status: int) -> None:
    with pytest.raises(OutcomeUnknown):
        openai_calls.understand("OpenAI", CHAT, answer(status, b""))


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("status", "body", "blame", "kind"),
    [
        (400, fault(), Blame.ROW, Kind.FAILED),
        (404, fault(code="model_not_found"), Blame.ROW, Kind.FAILED),
        (413, fault(), Blame.ROW, Kind.FAILED),
        (422, fault(), Blame.ROW, Kind.FAILED),
        (400, b"no JSON at all", Blame.ROW, Kind.FAILED),
        (429, fault(code="rate_limit_exceeded", type="requests"), Blame.LOAD, Kind.FAILED_PASSING),
        (429, fault(code="resource_unavailable"), Blame.LOAD, Kind.FAILED_PASSING),
        (429, fault(code="slow_down"), Blame.LOAD, Kind.FAILED_PASSING),
        (429, b"<html>slow down</html>", Blame.LOAD, Kind.FAILED_PASSING),
        (503, fault(code="server_is_overloaded"), Blame.LOAD, Kind.FAILED_PASSING),
        (500, fault(type="server_error"), Blame.FAULT, Kind.FAILED_PASSING),
        (502, fault(), Blame.FAULT, Kind.FAILED_PASSING),
        (409, fault(), Blame.FAULT, Kind.FAILED_PASSING),
        (408, fault(), Blame.FAULT, Kind.FAILED_PASSING),
        (400, fault("Invalid service_tier argument", param="service_tier"), Blame.TIER, Kind.FAILED),
        (401, fault(code="invalid_api_key"), Blame.ACCOUNT, Kind.FAILED),
        (403, fault(), Blame.ACCOUNT, Kind.FAILED),
        (404, b"<html>nothing here</html>", Blame.ACCOUNT, Kind.FAILED),
        (307, b"", Blame.ACCOUNT, Kind.FAILED),
        (
            429,
            fault(code="insufficient_quota", type="insufficient_quota"),
            Blame.ACCOUNT,
            Kind.FAILED_PASSING,
        ),
        (429, fault(code="project_spend_limit_exceeded"), Blame.ACCOUNT, Kind.FAILED_PASSING),
        (429, fault(code="x", type="insufficient_quota"), Blame.ACCOUNT, Kind.FAILED_PASSING),
    ],
)
def test_what_an_openai_error_lies_in(status: int, body: Any, blame: Blame, kind: Kind) -> None:
    found = refusal("openai", answer(status, body, retry_after=3.0))
    assert (found.blame, found.status, found.retry_after) == (blame, status, 3.0)
    row = OPENAI.general(found.line)
    assert (row.row, row.kind) == (7, kind)
    assert str(status) in (row.error or "")
    assert found.line.count(b"\n") == 1


@pytest.mark.parametrize(
    ("status", "body", "blame", "kind"),
    [
        (400, claude_fault("invalid_request_error"), Blame.ROW, Kind.FAILED),
        (404, claude_fault("not_found_error", "model: claude-none"), Blame.ROW, Kind.FAILED),
        (413, claude_fault("request_too_large"), Blame.ROW, Kind.FAILED),
        (413, b"<html>", Blame.ROW, Kind.FAILED),
        (429, claude_fault("rate_limit_error"), Blame.LOAD, Kind.FAILED_PASSING),
        (429, b"", Blame.LOAD, Kind.FAILED_PASSING),
        (529, claude_fault("overloaded_error"), Blame.LOAD, Kind.FAILED_PASSING),
        (500, claude_fault("api_error"), Blame.FAULT, Kind.FAILED_PASSING),
        (504, claude_fault("timeout_error"), Blame.FAULT, Kind.FAILED_PASSING),
        (409, claude_fault("conflict_error"), Blame.FAULT, Kind.FAILED_PASSING),
        (401, claude_fault("authentication_error"), Blame.ACCOUNT, Kind.FAILED),
        (402, claude_fault("billing_error"), Blame.ACCOUNT, Kind.FAILED),
        (403, claude_fault("permission_error"), Blame.ACCOUNT, Kind.FAILED),
        (
            400,
            claude_fault(
                "invalid_request_error", "Your credit balance is too low to access the Anthropic API."
            ),
            Blame.ACCOUNT,
            Kind.FAILED,
        ),
        (
            429,
            claude_fault("rate_limit_error", details={"error_code": "enforced_spend_limit_reached"}),
            Blame.ACCOUNT,
            Kind.FAILED_PASSING,
        ),
        (
            429,
            claude_fault("rate_limit_error", details={"error_code": "ramp_limit_exceeded"}),
            Blame.LOAD,
            Kind.FAILED_PASSING,
        ),
    ],
)
def test_what_an_anthropic_error_lies_in(status: int, body: Any, blame: Blame, kind: Kind) -> None:
    found = refusal("anthropic", answer(status, body))
    assert (found.blame, found.status) == (blame, status)
    row = ANTHROPIC.general(found.line)
    assert (row.row, row.kind) == (7, kind)


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 520, 524, 529])
def test_what_a_gateway_says_of_a_call_is_not_believed(status: int) -> None:
    """It gave up waiting; the provider may be answering still."""
    for understand in (UNDERSTAND, anthropic_calls.understand):
        with pytest.raises(OutcomeUnknown, match=f"answered {status}"):
            understand(CHAT, answer(status, b"<html>cloudflare</html>"))


def test_a_refused_call_is_a_refusal() -> None:
    found = refusal("openai", answer(429, fault("Slow down."), request_id="req_5"))
    assert isinstance(found, Refused)
    assert found.passing
    assert str(found) == "OpenAI answered 429: Slow down. (request req_5)"
    assert not refusal("openai", answer(400, fault())).passing
    assert refusal("anthropic", answer(401, claude_fault("authentication_error"))).credentials


# ---------------------------------------------------------------- streams


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"stream":true}', True),
        (b'{"stream":false}', False),
        (b'{"stream":null}', False),
        (b'{"messages":[{"content":"\\"stream\\":true"}]}', False),
        (b'{"stream_options":{}}', False),
        (b'{"stream":"yes"}', False),
        (b'{"stream":', False),
        (b"{}", False),
    ],
)
def test_a_row_that_asks_for_a_stream_is_known(body: bytes, found: bool) -> None:
    assert asks_for_stream(body) is found


# ---------------------------------------------------------------- budgets


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360),
        ("1s", 1),
        ("12ms", 0.012),
        ("1.5s", 1.5),
        ("1h2m3.5s", 3723.5),
        ("7m12s", 432),
        ("250us", 0.00025),
        ("250µs", 0.00025),
        ("17", 17),
        ("0.5", 0.5),
        ("-1", 0),
        ("", None),
        (None, None),
        ("soon", None),
        ("1s later", None),
    ],
)
def test_durations(text: str | None, seconds: float | None) -> None:
    assert seconds_of(text) == (pytest.approx(seconds) if seconds is not None else None)


@pytest.mark.parametrize(
    ("limit", "remaining", "reset", "per"),
    [
        (5_000, 4_999, 0.012, None),
        (500, 100, 48.0, 60.0),
        (3, 2, 20.0, 60.0),
        (200, 199, 432.0, 86_400.0),
        (10_000, 9_000, 8_640.0, 86_400.0),
        (1_000, 500, 1_800.0, 3_600.0),
        # Rounded up to a whole second by servers that know no less.
        (5_000, 4_999, 1.0, None),
        (500, 500, 60.0, None),
        (500, 400, None, None),
    ],
)
def test_what_time_a_budget_is_for(
    limit: int, remaining: int, reset: float | None, per: float | None
) -> None:
    assert period(limit, remaining, reset) == per


def test_openai_budgets() -> None:
    headers = {
        "x-ratelimit-limit-requests": "200",
        "x-ratelimit-remaining-requests": "199",
        "x-ratelimit-reset-requests": "7m12s",
        "x-ratelimit-limit-tokens": "160000",
        "x-ratelimit-remaining-tokens": "159976",
        "x-ratelimit-reset-tokens": "9ms",
    }
    found = openai_calls.understand("OpenAI", CHAT, answer(200, chat_reply(), headers)).windows
    assert found == (
        Window(kind="requests", limit=200, remaining=199, per=86_400.0),
        Window(kind="tokens", limit=160_000, remaining=159_976),
    )
    assert refusal("openai", answer(429, fault(), headers)).windows == found


def test_anthropic_budgets() -> None:
    headers = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-input-tokens-limit": "30000",
        "anthropic-ratelimit-input-tokens-remaining": "29000",
        "anthropic-ratelimit-output-tokens-limit": "8000",
        "anthropic-ratelimit-output-tokens-remaining": "0",
    }
    found = anthropic_calls.understand(CHAT, answer(200, claude_reply(), headers)).windows
    assert [(one.kind, one.limit, one.remaining, one.per) for one in found] == [
        ("requests", 50, 49, 60.0),
        ("input", 30_000, 29_000, 60.0),
        ("output", 8_000, 0, 60.0),
    ]
    assert set(headers) == set(anthropic_calls.KEEP)


def test_headers_that_say_nothing_are_no_budget() -> None:
    assert counted("tokens", "-1", "-1") is None
    assert counted("tokens", "0", "0") is None
    assert counted("tokens", "100", None) is None
    assert counted("tokens", "many", "few") is None
    assert isinstance(openai_calls.understand("OpenAI", CHAT, answer(200, chat_reply())), Reply)
