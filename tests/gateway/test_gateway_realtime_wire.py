"""Calls in real time, byte by byte, against a provider that says whatever a provider can say."""

import json
import os
import resource
import socket
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from halfrate.base.money import PICO, parse_usd
from halfrate.core.budgets import Budget

from .office import Office, wait_for
from .place import Place, Script, Sent, reply, stream

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
KEY = "sk-of-the-gateway-88123"
USAGE = b'{"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}'
# At 0.40 and 1.60 dollars a million.
COST = "0.00056"
ANSWER = (
    b"""{ "id": "chatcmpl-1",
  "object": "chat.completion", "created": 1, "model": "gpt-4.1-mini-2025-04-14", "x-odd":   1.0,
  "choices": [{"index": 0, "message": {"role": "assistant", "content": "\\u00e9 \xe2\x82\xac"},
  "finish_reason": "stop"}],
  "usage": %b }"""
    % USAGE
)


@contextmanager
def office_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: Script
) -> Generator[tuple[Office, Place]]:
    with Place(script) as place, Office(tmp_path) as office:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", f"{place.url}/v1")
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", place.url)
        monkeypatch.delenv("ANTHROPIC_AUTH_TOKEN", raising=False)
        yield office, place


Before = Callable[[Script], tuple[Office, Place]]


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Before]:
    """A gateway before a provider that answers so."""
    with ExitStack() as stack:
        yield lambda script: stack.enter_context(office_before(tmp_path, monkeypatch, script))


def answers(*pieces: bytes) -> Script:
    return lambda _sent: pieces


def body(**fields: Any) -> bytes:
    return json.dumps(
        {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "hi"}], **fields}
    ).encode()


def ledger(office: Office) -> dict[str, Any]:
    """What the gateway says that all calls have cost."""
    return office.call("GET", "/v1/halfrate/cost").document["total"]


def said(office: Office) -> list[dict[str, Any]]:
    """What the log tells whoever runs the gateway, of this; after it nothing is held against the test."""
    found = [json.loads(line) for line in office.defects()]
    office.forgive()
    return found


def test_body_and_answer_go_through_byte_for_byte(before: Before) -> None:
    office, place = before(
        answers(reply(200, ANSWER, "openai-version: 2020-10-01", "openai-organization: org-1"))
    )
    spoken = b'{"role":"user","content":"\\u0041 \xe2\x82\xac"}'
    asked = b'{"model":"gpt-4.1-mini",\r\n "messages" : [%b],"top_p":1.0 ,"new":{}}' % spoken
    answer = office.call("POST", CHAT, asked, {"user-agent": "mine/1", "x-other": "1", "cookie": "a=b"})
    assert answer.status == 200
    assert answer.body == ANSWER
    headers = {name.lower(): value for name, value in answer.headers.items()}
    assert headers["x-halfrate-cost-usd"] == COST
    assert headers["x-halfrate-tier"] == "standard"
    assert headers["openai-version"] == "2020-10-01"
    # Whose account it was is nobody's business.
    assert "openai-organization" not in headers
    (sent,) = place.sent
    assert sent.body == asked
    assert (sent.method, sent.path) == ("POST", CHAT)
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.headers["user-agent"] == "mine/1"
    assert {"cookie", "x-other", "halfrate-tags", "x-api-key"}.isdisjoint(sent.headers)
    assert ledger(office)["cost_usd"] == COST


def test_only_the_name_of_the_model_changes_where_it_has_to(before: Before) -> None:
    office, place = before(answers(reply(200, ANSWER)))
    asked = b'{"messages":[{"role": "user",  "content":"\\u0041"}], "model":"openai/gpt-4.1-mini","seed":1e2}'
    assert office.call("POST", CHAT, asked).status == 200
    (sent,) = place.sent
    assert (
        sent.body
        == b'{"messages":[{"role": "user",  "content":"\\u0041"}],"model":"gpt-4.1-mini","seed":1e2}'
    )


def test_anthropics_headers_are_the_callers(before: Before) -> None:
    usage = b'"usage":{"input_tokens":10,"output_tokens":2}'
    message = b'{"id":"msg_1","type":"message","model":"claude-haiku-4-5","content":[],%b}' % usage
    office, place = before(answers(reply(200, message)))
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "one,two"}
    asked = json.dumps({"model": "claude-haiku-4-5", "max_tokens": 5, "messages": []}).encode()
    assert office.call("POST", MESSAGES, asked, headers).body == message
    office.call("POST", MESSAGES, asked)
    first, second = place.sent
    assert first.headers["anthropic-beta"] == "one,two"
    assert second.headers["anthropic-version"] == "2023-06-01"
    assert first.headers["x-api-key"] == second.headers["x-api-key"] == KEY


def test_a_stream_is_passed_on_as_it_comes(before: Before) -> None:
    last = b'data: {"id":"1","choices":[],"usage":%b}\n\n' % USAGE
    events = [
        b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"one"}}]}\n\n',
        b": a comment\n\n",
        b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"two"}}],"usage":null}\r\n\r\n',
        last,
        b"data: [DONE]\n\n",
    ]
    office, place = before(lambda _sent: stream(*events))
    told = office.call("POST", CHAT, body(stream=True))
    events_without = b"".join(event for event in events if event is not last)
    comment = b": x-halfrate-cost-usd %b\n\n" % COST.encode()
    assert told.body == events_without.replace(b"data: [DONE]", comment + b"data: [DONE]")
    assert json.loads(place.sent[0].body)["stream_options"] == {"include_usage": True}
    asked = office.call("POST", CHAT, body(stream=True, stream_options={"include_usage": True, "x": 1}))
    assert asked.body.replace(comment, b"") == b"".join(events)
    assert json.loads(place.sent[1].body)["stream_options"] == {"include_usage": True, "x": 1}
    assert ledger(office)["rows"] == 2


def test_what_came_of_a_stream_is_there_before_its_end(before: Before) -> None:
    open_: list[bool] = []

    def script(_sent: Sent) -> Iterable[bytes]:
        yield from stream(b'data: {"choices":[{"index":0,"delta":{"content":"first"}}]}\n\n')
        wait_for(lambda: open_)
        yield b'data: {"choices":[],"usage":%b}\n\ndata: [DONE]\n\n' % USAGE

    office, _ = before(script)
    with office.client().chat.completions.create(
        model="gpt-4.1-mini", messages=[{"role": "user", "content": "hi"}], stream=True
    ) as chunks:
        first = next(iter(chunks))
        assert first.choices[0].delta.content == "first"
        open_.append(True)
        assert list(chunks) == []
    assert ledger(office)["cost_usd"] == COST


def test_a_caller_that_hangs_up_ends_the_providers_work(before: Before) -> None:
    gone: list[bool] = []

    def script(sent: Sent) -> Iterable[bytes]:
        yield from stream(b'data: {"choices":[{"index":0,"delta":{"content":"first"}}]}\n\n')
        wait_for(sent.gone)
        gone.append(True)

    office, _ = before(script)
    chunks = office.client().chat.completions.create(
        model="gpt-4.1-mini", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    next(iter(chunks))
    chunks.close()
    wait_for(lambda: gone)
    wait_for(lambda: ledger(office)["doubts"] == 1)
    assert ledger(office)["rows"] == 0


def error(status: int, message: str, **fields: Any) -> bytes:
    return reply(
        status, json.dumps({"error": {"message": message, "type": "x", **fields}}).encode(), "retry-after: 7"
    )


@pytest.mark.parametrize("status", [400, 404, 422])
def test_what_lies_in_the_request_is_told_in_the_providers_words(before: Before, status: int) -> None:
    told = b'{ "error": {"message": "max_tokens is too large", "type":"invalid_request_error","code":null}}'
    office, _ = before(answers(reply(status, told)))
    answer = office.call("POST", CHAT, body())
    assert (answer.status, answer.body) == (status, told)
    assert ledger(office) == {**ledger(office), "rows": 0, "doubts": 0, "cost_usd": "0"}
    # It may hold what was asked.
    assert office.defects() == []


@pytest.mark.parametrize(
    ("answered", "status", "code"),
    [
        (error(401, f"Incorrect API key provided: {KEY}"), 502, "provider_refused"),
        (error(403, "Your organization org-77 was disabled"), 502, "provider_refused"),
        (error(429, "You ran out of org-77 credit", code="insufficient_quota"), 502, "provider_refused"),
        (error(429, "Rate limit reached in organization org-77"), 429, "provider_busy"),
        (error(503, "org-77 is overloaded"), 503, "provider_busy"),
        (error(500, "org-77 met a failure"), 502, "provider_failed"),
        (reply(404, b"<html>org-77", kind="text/html"), 502, "provider_refused"),
    ],
)
def test_what_lies_in_the_gateways_account_is_told_to_who_runs_it(
    before: Before, answered: bytes, status: int, code: str
) -> None:
    office, place = before(answers(answered))
    answer = office.call("POST", CHAT, body())
    assert (answer.status, answer.error["code"]) == (status, code)
    assert b"org-77" not in answer.body
    assert KEY.encode() not in answer.body
    assert "Nothing was run" in answer.error["message"]
    if code == "provider_busy":
        assert answer.headers["retry-after"] == "7"
    assert len(place.sent) == 1
    (line,) = said(office)
    assert line["event"] == "no answer"
    assert KEY not in json.dumps(line)
    assert ledger(office)["doubts"] == 0


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{",),
        (b"nonsense\r\n\r\n",),
        (),
        (reply(502, b"<html>a gateway on the way", kind="text/html"),),
        (reply(504, b""),),
    ],
)
def test_a_call_of_which_nobody_knows_is_a_doubt_and_never_repeated(
    before: Before, pieces: tuple[bytes, ...]
) -> None:
    office, place = before(answers(*pieces))
    client = openai.OpenAI(api_key=office.key, base_url=office.base_url, max_retries=2)
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="gpt-4.1-mini", messages=[{"role": "user", "content": "hi"}])
    assert caught.value.status_code == 504
    assert caught.value.code == "outcome_unknown"
    assert len(place.sent) == 1
    assert (ledger(office)["rows"], ledger(office)["doubts"]) == (0, 1)
    assert said(office)[0]["event"] == "no answer"


def test_nobody_there_is_no_doubt(before: Before, monkeypatch: pytest.MonkeyPatch) -> None:
    office, _ = before(answers())
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
    answer = office.call("POST", CHAT, body())
    assert (answer.status, answer.error["code"]) == (502, "provider_unreachable")
    assert "Nothing was sent" in answer.error["message"]
    assert ledger(office)["doubts"] == 0
    assert said(office)


def test_a_stream_that_breaks_off_ends_with_an_error_that_the_sdks_understand(before: Before) -> None:
    def script(sent: Sent) -> Iterable[bytes]:
        if sent.path == MESSAGES:
            usage = b'{"input_tokens":10,"output_tokens":1}'
            start = b'{"type":"message_start","message":{"model":"claude-haiku-4-5","usage":%b}}' % usage
            event = b"event: message_start\ndata: %b\n\n" % start
        else:
            event = b'data: {"choices":[{"index":0,"delta":{"content":"first"}}]}\n\n'
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n"
        return [head, event]

    office, _ = before(script)
    with office.client().chat.completions.create(
        model="gpt-4.1-mini", messages=[{"role": "user", "content": "hi"}], stream=True
    ) as chunks:
        assert next(iter(chunks)).choices[0].delta.content == "first"
        with pytest.raises(openai.APIError, match="may have been run"):
            list(chunks)
    client = anthropic.Anthropic(
        api_key=office.key, base_url=office.base_url.removesuffix("/v1"), max_retries=0
    )
    events = client.messages.create(
        model="claude-haiku-4-5", max_tokens=5, messages=[{"role": "user", "content": "hi"}], stream=True
    )
    with pytest.raises(anthropic.APIStatusError, match="may have been run"):
        list(events)
    assert ledger(office)["doubts"] == 2
    # What is known of it is in the ledger beside it.
    assert ledger(office)["tokens"]["input"] in {0, 10}
    assert said(office)


def test_an_answer_without_a_word_on_tokens_is_a_doubt_but_an_answer(before: Before) -> None:
    told = b'{"id":"1","object":"chat.completion","choices":[]}'
    office, _ = before(answers(reply(200, told)))
    answer = office.call("POST", CHAT, body())
    assert (answer.status, answer.body) == (200, told)
    assert "x-halfrate-cost-usd" not in answer.headers
    assert ledger(office)["doubts"] == 1


@pytest.mark.parametrize(
    "content", [b'[{"type":"text"}]', b'[{"type":"tool_use"}]', b'"text"', b'[{"type":"text","text":7}]']
)
def test_an_answer_that_cannot_be_translated_is_a_doubt(before: Before, content: bytes) -> None:
    message = (
        b'{"id":"msg_1","type":"message","role":"assistant","model":"claude-haiku-4-5","stop_reason":"end_turn",'
        b'"content":%b,"usage":{"input_tokens":10,"output_tokens":2}}' % content
    )
    office, place = before(answers(reply(200, message)))
    answer = office.call("POST", CHAT, body(model="claude-haiku-4-5"))
    assert (answer.status, answer.error["code"]) == (504, "outcome_unknown")
    assert (ledger(office)["rows"], ledger(office)["doubts"]) == (0, 1)
    assert len(place.sent) == 1
    assert {line["event"] for line in said(office)} == {"no answer"}


def test_a_caller_may_wait_less(before: Before) -> None:
    def script(sent: Sent) -> Iterable[bytes]:
        wait_for(sent.gone)
        return ()

    office, _ = before(script)
    began = time.monotonic()
    answer = office.call("POST", CHAT, body(), {"halfrate-timeout": "0.3"})
    assert answer.status == 504
    assert time.monotonic() - began < 10
    for wrong in ("0", "-1", "soon", "nan", "1e9"):
        refused = office.call("POST", CHAT, body(), {"halfrate-timeout": wrong})
        assert (refused.status, refused.error["param"]) == (400, "halfrate-timeout")
    assert said(office)


def test_a_key_of_the_callers_own_goes_to_the_provider_and_costs_the_gateway_nothing(before: Before) -> None:
    office, place = before(answers(reply(200, ANSWER)))
    own = "sk-my-own-1234"
    answer = office.call("POST", CHAT, body(), {"x-halfrate-provider-key": own})
    assert answer.status == 200
    assert place.sent[0].headers["authorization"] == f"Bearer {own}"
    assert "x-halfrate-provider-key" not in place.sent[0].headers
    assert ledger(office)["rows"] == 0
    assert own not in office.log.getvalue()
    for path in office.root.rglob("*"):
        assert not path.is_file() or own.encode() not in path.read_bytes()
    # What is refused to it is told in the provider's words: the account is the caller's.
    place.script = answers(error(401, "Incorrect API key: sk-my..34"))
    refused = office.call("POST", CHAT, body(), {"x-halfrate-provider-key": own})
    assert (refused.status, refused.error["message"]) == (401, "Incorrect API key: sk-my..34")
    assert office.call("POST", CHAT, body(), {"x-halfrate-provider-key": "a b"}).status == 503
    said(office)


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b"[]", 400, "invalid_value"),
        (b"{}", 400, "missing_required_parameter"),
        (b'{"model": 1}', 400, "invalid_value"),
        (b'{"model": "gpt-4.1-mini", "x": ' + b"[" * 100_000, 400, "invalid_json"),
        (b'{"model": "nobody\\u0000"}', 404, "model_not_found"),
        (b'{"model": "' + b"a" * 5_000 + b'"}', 404, "model_not_found"),
    ],
)
def test_what_makes_no_sense_is_sent_nowhere(before: Before, sent: bytes, status: int, code: str) -> None:
    office, place = before(answers(reply(200, ANSWER)))
    answer = office.call("POST", CHAT, sent)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert place.sent == []
    office.forgive()


def test_what_is_too_large_is_refused_before_it_is_read(before: Before) -> None:
    office, place = before(answers(reply(200, ANSWER)))
    with socket.create_connection(("127.0.0.1", office.port), 10) as connection:
        key = f"authorization: Bearer {office.key}"
        head = [f"POST {CHAT} HTTP/1.1", "host: x", key, f"content-length: {10**12}", "", ""]
        connection.sendall("\r\n".join(head).encode())
        assert b" 413 " in connection.recv(4096).split(b"\r\n")[0]
    assert office.call("GET", CHAT).status == 405
    assert place.sent == []


def test_what_is_not_set_up_here_is_told_to_who_runs_the_gateway(
    before: Before, monkeypatch: pytest.MonkeyPatch
) -> None:
    office, _ = before(answers())
    for name in list(os.environ):
        if name.startswith(("AWS_", "HALFRATE_BEDROCK")):
            monkeypatch.delenv(name)
    model = "bedrock/amazon.nova-lite-v1:0"
    answer = office.call("POST", CHAT, body(model=model))
    assert (answer.status, answer.error["code"]) == (503, "model_unavailable")
    assert "HALFRATE_BEDROCK" not in answer.body.decode()
    monkeypatch.setenv("HALFRATE_BEDROCK_ROLE", "arn:aws:iam::123456789012:role/secret-role")
    monkeypatch.setenv("HALFRATE_BEDROCK_BUCKET", "s3://secret-bucket/x")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    answer = office.call("POST", CHAT, body(model=model))
    assert (answer.status, answer.error["code"]) == (502, "provider_refused")
    assert "credential" not in answer.body.decode()
    told = [line for line in said(office) if line["event"] == "no answer"]
    assert "credential" in told[0]["why"]


def test_a_header_cannot_bring_another_with_it(before: Before) -> None:
    office, place = before(answers(reply(200, ANSWER)))
    with socket.create_connection(("127.0.0.1", office.port), 10) as connection:
        head = [
            f"POST {CHAT} HTTP/1.1",
            "host: x",
            f"authorization: Bearer {office.key}",
            "user-agent: a\rx-evil: 1",
            "anthropic-beta: b\nx-evil: 2",
            f"content-length: {len(body())}",
        ]
        connection.sendall("\r\n".join([*head, "", ""]).encode() + body())
        status = int(connection.recv(4096).split(b" ")[1])
    assert status in {200, 400, 502}
    assert all("x-evil" not in sent.headers for sent in place.sent)
    office.forgive()


def test_a_budget_stops_calls(before: Before) -> None:
    office, place = before(answers(reply(200, ANSWER)))
    # Room for one: what a call may cost at most is set aside before it is sent.
    office.service.set_budget(Budget(name="team", value="search", stop=parse_usd("0.001")))
    ledger(office)
    assert office.call("POST", CHAT, body(max_tokens=100)).status == 200
    refused = office.call("POST", CHAT, body(max_tokens=1000))
    assert (refused.status, refused.error["code"]) == (402, "budget_exceeded")
    assert office.call("POST", CHAT, body(max_tokens=100)).status == 200
    assert office.call("POST", CHAT, body(max_tokens=100)).status == 402
    # Whose budgets there are, and how much is in them, is told in the log alone.
    assert "0.00" not in refused.error["message"]
    assert "search" not in refused.error["message"]
    count = len(place.sent)
    assert office.call("POST", CHAT, body(max_tokens=100), key=office.other_key).status == 200
    assert len(place.sent) == count + 1
    assert any(line["event"] == "over budget" for line in said(office))


def test_each_of_several_answers_is_counted_with(before: Before) -> None:
    office, place = before(answers(reply(200, ANSWER)))
    office.service.set_budget(Budget(name="team", value="search", stop=parse_usd("0.001")))
    ledger(office)
    assert office.call("POST", CHAT, body(max_tokens=100, n=8)).status == 402
    assert place.sent == []
    assert office.call("POST", CHAT, body(max_tokens=100, n=2)).status == 200
    said(office)


def test_a_budget_is_kept_between_two_looks_at_the_ledger(before: Before) -> None:
    office, place = before(answers(reply(200, ANSWER)))
    office.service.set_budget(Budget(stop=int(10 * 0.00056 * PICO)))
    ledger(office)
    found = [office.call("POST", CHAT, body(max_tokens=100)).status for _ in range(15)]
    assert found == [200] * 10 + [402] * 5
    assert len(place.sent) == 10
    said(office)


def test_what_has_no_price_is_not_asked_where_a_budget_stops_it(before: Before) -> None:
    office, place = before(answers(reply(200, ANSWER)))
    assert office.call("POST", CHAT, body(model="openai/of-my-own")).status == 200
    office.service.set_budget(Budget(stop=PICO))
    ledger(office)
    assert office.call("POST", CHAT, body(model="openai/of-my-own")).status == 402
    assert len(place.sent) == 1
    said(office)


@contextmanager
def no_room() -> Generator[None]:
    """The disk is full: no file of this process can be written to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("model", ["gpt-4.1-mini", "claude-haiku-4-5"])
@pytest.mark.parametrize("streamed", [False, True])
def test_nothing_is_sent_that_cannot_be_written_down_before(
    before: Before, model: str, streamed: bool
) -> None:
    office, place = before(answers(reply(200, ANSWER)))
    office.service.set_budget(Budget(name="team", value="search", stop=parse_usd("0.001")))
    ledger(office)
    chat = body(model=model, stream=streamed, max_tokens=10)
    # What is looked up for a first call is looked up: what fails from here on is the log.
    assert office.call("POST", CHAT, b'{"model":"none"}').status == 404
    with no_room():
        refused = [office.call("POST", CHAT, chat) for _ in range(20)]
        other = office.call("POST", MESSAGES, chat, {"anthropic-version": "2023-06-01"})
    assert {answer.status for answer in (*refused, other)} == {503}
    assert refused[0].error["code"] == "storage_full"
    assert other.error["type"] == "overloaded_error"
    assert os.fspath(office.root) not in refused[0].body.decode()
    assert place.sent == []
    # What was set aside for them is free again.
    assert office.call("POST", CHAT, body(max_tokens=10)).status == 200
    assert (ledger(office)["rows"], ledger(office)["doubts"]) == (1, 0)
    assert len(said(office)) >= 20


def test_a_call_that_the_log_has_not_the_beginning_of_goes_nowhere_of_a_race(
    before: Before, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text('[routes.both]\nmodels = ["gpt-4.1-mini", "gpt-4.1-nano"]\nhow = "race"\n')
    monkeypatch.setenv("HALFRATE_SETTINGS", os.fspath(settings))
    office, place = before(answers(reply(200, ANSWER)))
    with no_room():
        assert office.call("POST", CHAT, body(model="both")).status == 503
    assert place.sent == []
    assert office.call("POST", CHAT, body(model="both")).status == 200
    said(office)


def test_an_answer_is_passed_on_though_it_cannot_be_written_down(before: Before) -> None:
    full = ExitStack()

    def answer(_sent: Sent) -> Iterator[bytes]:
        full.enter_context(no_room())
        yield reply(200, ANSWER)

    office, place = before(answer)
    with full:
        assert office.call("POST", CHAT, body()).status == 200
        # Nothing more is bought until what was bought is in the ledger.
        refused = office.call("POST", CHAT, body())
        assert refused.status == 503
        assert os.fspath(office.root) not in refused.body.decode()
        assert len(place.sent) == 1
    place.script = answers(reply(200, ANSWER))
    assert office.call("POST", CHAT, body()).status == 200
    assert (ledger(office)["rows"], ledger(office)["doubts"]) == (2, 0)
    assert said(office)


def test_costs_are_asked_for_in_terms_that_there_are(before: Before) -> None:
    office, _ = before(answers())
    for query in (
        "by=",
        "by=team,,key",
        "by=a,b,c,d,e",
        "by=team,team",
        "since=yesterday",
        "until=2026-13-01",
    ):
        assert office.call("GET", f"/v1/halfrate/cost?{query}").status == 400
    found = office.call("GET", "/v1/halfrate/cost?by=key,day&since=2026-01-01&until=2026-02-01").document
    assert found["data"] == []
    assert found["total"]["cost_usd"] == "0"
