"""Streams of models that speak another form, piece by piece: against a provider that says what a test has it say, and
through the official SDKs against the emulator, whose meter is the witness."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import anthropic
import google.auth
import openai
import pytest

import halfrate.gateway.events
import halfrate.gateway.realtime
from halfrate.base.money import PICO

from ..service.providers import MODELS
from .house import House
from .office import Answer, Office, wait_for
from .place import Place, Script, Sent, chunked, event, reply, stream

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
KEY = "sk-of-the-gateway-88123"
TOKEN = "ya29.of-the-gateway-4711"
ASKED: list[Any] = [{"role": "user", "content": "What is a quick brown fox, and what does it do all day?"}]
CLAUDE, FLASH, VERTEX, MINI = (
    "claude-haiku-4-5",
    "gemini/gemini-2.5-flash",
    "vertex/gemini-2.5-flash",
    "gpt-4.1-mini",
)


class Way(NamedTuple):
    """A caller's form, a model of another's, and an answer of two words as that comes: the pieces, and the whole."""

    path: str
    model: str
    pieces: tuple[dict[str, Any], ...]
    whole: dict[str, Any]
    done: bool = False

    @property
    def events(self) -> list[bytes]:
        return [*map(event, self.pieces), *([b"data: [DONE]\n\n"] if self.done else [])]

    @property
    def first(self) -> int:
        """How many events there are up to the first word."""
        return next(n for n, piece in enumerate(self.events, 1) if "Grüß".encode() in piece)

    def body(self, **fields: Any) -> bytes:
        messages = [{"role": "user", "content": "hi"}]
        return json.dumps({"model": self.model, "max_tokens": 50, "messages": messages, **fields}).encode()


_USED = {"input_tokens": 1_000, "cache_read_input_tokens": 300, "cache_creation_input_tokens": 500}
_WRITTEN = {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 400}
_MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5-20251001",
    "content": [{"type": "text", "text": "Grüß dich"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {**_USED, "cache_creation": _WRITTEN, "output_tokens": 100},
}


def _said(text: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


ANTHROPIC = Way(
    CHAT,
    CLAUDE,
    (
        {
            "type": "message_start",
            "message": {
                **_MESSAGE,
                "content": [],
                "stop_reason": None,
                "usage": {**_MESSAGE["usage"], "output_tokens": 1},
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        _said("Grüß"),
        _said(" dich"),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 100}},
        {"type": "message_stop"},
    ),
    _MESSAGE,
)
_READ: Any = {"promptTokenCount": 1_000, "cachedContentTokenCount": 300}
_MADE: Any = {**_READ, "candidatesTokenCount": 80, "thoughtsTokenCount": 20}


def _response(*texts: str, finish: str = "", **usage: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text} for text in texts]}}
    if finish:
        candidate["finishReason"] = finish
    head = {"modelVersion": "gemini-2.5-flash", "responseId": "r1"}
    return {"candidates": [candidate], "usageMetadata": usage, **head}


GEMINI = Way(
    CHAT,
    FLASH,
    (_response("Grüß", **_READ), _response(" dich", **_READ), _response(finish="STOP", **_MADE)),
    _response("Grüß", " dich", finish="STOP", **_MADE),
)
_COUNTED = {
    "prompt_tokens": 1_000,
    "completion_tokens": 100,
    "total_tokens": 1_100,
    "prompt_tokens_details": {"cached_tokens": 300},
}


def _chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    head = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4.1-mini-2025-04-14",
    }
    return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


OPENAI = Way(
    MESSAGES,
    MINI,
    (
        _chunk({"role": "assistant", "content": ""}),
        _chunk({"content": "Grüß"}),
        _chunk({"content": " dich"}),
        _chunk({}, "stop"),
        {**_chunk({}), "choices": [], "usage": _COUNTED},
    ),
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4.1-mini-2025-04-14",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Grüß dich"}, "finish_reason": "stop"}
        ],
        "usage": _COUNTED,
    },
    done=True,
)
WAYS = {
    "chat from Anthropic": ANTHROPIC,
    "chat from Gemini": GEMINI,
    "chat from Vertex": GEMINI._replace(model=VERTEX),
    "messages from OpenAI": OPENAI,
    "messages from Gemini": GEMINI._replace(path=MESSAGES),
    "messages from Vertex": GEMINI._replace(path=MESSAGES, model=VERTEX),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


@contextmanager
def office_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: Script
) -> Generator[tuple[Office, Place]]:
    with Place(script) as place, Office(tmp_path) as office:
        for name, value in {
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": f"{place.url}/v1",
            "MISTRAL_API_KEY": KEY,
            "MISTRAL_BASE_URL": place.url,
            "ANTHROPIC_API_KEY": KEY,
            "ANTHROPIC_BASE_URL": place.url,
            "GEMINI_API_KEY": KEY,
            "GOOGLE_GEMINI_BASE_URL": place.url,
            "GOOGLE_BEARER_TOKEN": TOKEN,
            "GOOGLE_VERTEX_BASE_URL": place.url,
            "GOOGLE_CLOUD_PROJECT": "p-1",
            "HALFRATE_VERTEX_BUCKET": "gs://rows",
        }.items():
            monkeypatch.setenv(name, value)
        for name in ("ANTHROPIC_AUTH_TOKEN", "GOOGLE_API_KEY", "GOOGLE_CLOUD_LOCATION"):
            monkeypatch.delenv(name, raising=False)
        yield office, place


Before = Callable[[Script], tuple[Office, Place]]


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Before]:
    """A gateway before a provider that answers so."""
    with ExitStack() as stack:
        yield lambda script: stack.enter_context(office_before(tmp_path, monkeypatch, script))


def always(*pieces: bytes) -> Script:
    return lambda _sent: pieces


def ledger(office: Office) -> dict[str, Any]:
    return office.call("GET", "/v1/halfrate/cost").document["total"]


def said(office: Office) -> list[dict[str, Any]]:
    """What the log tells whoever runs the gateway; after it nothing is held against the test."""
    found = [json.loads(line) for line in office.defects()]
    office.forgive()
    return found


@contextmanager
def speaking(office: Office, way: Way) -> Generator[Iterator[str]]:
    """The words of a stream as the official SDK of its caller gives them, one after the other."""
    if way.path == CHAT:
        with (
            office.client() as client,
            client.chat.completions.create(
                model=way.model, messages=[{"role": "user", "content": "hi"}], max_tokens=50, stream=True
            ) as chunks,
        ):
            yield (
                word for chunk in chunks for choice in chunk.choices if (word := choice.delta.content or "")
            )
        return
    url = office.base_url.removesuffix("/v1")
    with (
        anthropic.Anthropic(api_key=office.key, base_url=url, max_retries=0) as client,
        client.messages.stream(
            model=way.model, messages=[{"role": "user", "content": "hi"}], max_tokens=50
        ) as events,
    ):
        yield iter(events.text_stream)


def lines(answer: Answer) -> list[str]:
    return [line for line in answer.body.decode().splitlines() if line]


# ---------------------------------------------------------------- as it comes


def test_the_first_word_is_there_before_the_provider_has_sent_the_last(before: Before, way: Way) -> None:
    heard = threading.Event()

    def script(_sent: Sent) -> Iterable[bytes]:
        yield from stream(*way.events[: way.first])
        # The rest is sent only when its caller has the first word.
        assert heard.wait(20)
        yield from way.events[way.first :]

    office, _ = before(script)
    with speaking(office, way) as words:
        assert next(words) == "Grüß"
        heard.set()
        assert list(words) == [" dich"]
    assert (ledger(office)["rows"], ledger(office)["doubts"]) == (1, 0)


def test_it_is_asked_for_as_the_provider_has_it(before: Before, way: Way) -> None:
    office, place = before(lambda _sent: stream(*way.events))
    assert office.call("POST", way.path, way.body(stream=True)).status == 200
    assert office.call("POST", way.path, way.body()).status in {200, 504}
    streamed, whole = place.sent
    office.forgive()
    body, plain = json.loads(streamed.body), json.loads(whole.body)
    asked = {name: body.pop(name) for name in ("stream", "stream_options") if name in body}
    # Else it is what a whole answer is asked for with.
    assert body == plain
    match way.model:
        case "claude-haiku-4-5":
            assert (streamed.path, asked) == (whole.path, {"stream": True})
            assert streamed.headers["x-api-key"] == KEY
            assert streamed.headers["anthropic-version"] == whole.headers["anthropic-version"]
        case "gpt-4.1-mini":
            assert (streamed.path, asked) == (
                whole.path,
                {"stream": True, "stream_options": {"include_usage": True}},
            )
            assert streamed.headers["authorization"] == f"Bearer {KEY}"
        case _:
            assert asked == {}
            assert streamed.path == whole.path.replace(":generate", ":streamGenerate") + "?alt=sse"
            header = {"gemini/gemini-2.5-flash": ("x-goog-api-key", KEY)}
            name, value = header.get(way.model, ("authorization", f"Bearer {TOKEN}"))
            assert streamed.headers[name] == value
    assert streamed.headers["user-agent"] == whole.headers["user-agent"]
    assert streamed.headers["content-type"] == "application/json"


def test_mistral_is_not_asked_for_what_it_refuses(before: Before) -> None:
    chunks = [*OPENAI.pieces[:3], {**_chunk({}, "stop"), "usage": _COUNTED}]
    office, place = before(lambda _sent: stream(*map(event, chunks), b"data: [DONE]\n\n"))
    mistral = OPENAI._replace(model="mistral/mistral-small-latest")
    assert "message_stop" in office.call("POST", MESSAGES, mistral.body(stream=True)).body.decode()
    chat = mistral._replace(path=CHAT)
    assert "[DONE]" in office.call("POST", CHAT, chat.body(stream=True)).body.decode()
    for sent in place.sent:
        body = json.loads(sent.body)
        assert (body["stream"], body["model"]) == (True, "mistral-small-latest")
        assert "stream_options" not in body
    assert (ledger(office)["rows"], ledger(office)["doubts"]) == (2, 0)


def test_a_token_that_ends_is_renewed_for_the_next_stream(
    before: Before, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Credentials:
        """As google-auth has them."""

        token: str | None = None
        expiry = datetime(2026, 11, 21, 12)  # noqa: DTZ001 - as google-auth writes it
        valid = False
        quota_project_id = "p-2"
        renewals = 0

        def refresh(self, _: Any) -> None:
            self.renewals += 1
            self.token, self.valid = f"token-of-google-{self.renewals}", True

    found = Credentials()
    office, place = before(lambda _sent: stream(*GEMINI.events))
    monkeypatch.delenv("GOOGLE_BEARER_TOKEN")
    monkeypatch.setattr(google.auth, "default", lambda scopes: (found, "p-1"))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    ask = GEMINI._replace(model=VERTEX)
    for _ in range(2):
        assert office.call("POST", CHAT, ask.body(stream=True)).status == 200
    found.valid = False
    assert office.call("POST", CHAT, ask.body(stream=True)).status == 200
    tokens = [sent.headers["authorization"] for sent in place.sent]
    assert tokens == [f"Bearer token-of-google-{number}" for number in (1, 1, 2)]
    assert {sent.headers["x-goog-user-project"] for sent in place.sent} == {"p-2"}
    # Neither is told to anybody.

    def telling(sent: Sent) -> Iterable[bytes]:
        return [reply(400, b'{"error":{"message":"%b"}}' % sent.headers["authorization"].encode())]

    place.script = telling
    refused = office.call("POST", CHAT, ask.body(stream=True))
    assert refused.status == 400
    assert "token-of-google" not in refused.body.decode()


def test_who_waits_for_long_is_told_that_more_comes(before: Before, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a model thinks is not translated: nothing would come for minutes."""
    monkeypatch.setattr(halfrate.gateway.realtime, "_SILENCE", 0.05)
    thinking = {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "thinking", "thinking": ""},
    }
    thought = {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "thinking_delta", "thinking": "hm"},
    }

    def script(_sent: Sent) -> Iterable[bytes]:
        start, *rest = ANTHROPIC.events
        yield from stream(start, event(thinking))
        for _ in range(4):
            time.sleep(0.1)
            yield event(thought)
        yield from [piece.replace(b'"index": 0', b'"index": 1') for piece in rest]

    office, _ = before(script)
    found = lines(office.call("POST", CHAT, ANTHROPIC.body(stream=True)))
    assert found.count(": more comes") >= 2
    assert "hm" not in "".join(found)
    assert found[-1] == "data: [DONE]"


# ---------------------------------------------------------------- what it costs


def test_a_stream_costs_what_the_whole_answer_costs(before: Before, way: Way) -> None:
    def script(sent: Sent) -> Iterable[bytes]:
        streams = b'"stream"' in sent.body or "streamGenerate" in sent.path
        return chunked(way.events) if streams else [reply(200, json.dumps(way.whole).encode())]

    office, _ = before(script)
    whole = office.call("POST", way.path, way.body())
    cost = whole.headers["x-halfrate-cost-usd"]
    assert float(cost) > 0
    once = ledger(office)
    streamed = lines(office.call("POST", way.path, way.body(stream=True)))
    # It stands before the last event, and clients pass it over.
    last = 1 if way.path == CHAT else 2
    assert streamed[-last - 1] == f": x-halfrate-cost-usd {cost}"
    twice = ledger(office)
    assert twice["rows"] == 2
    assert twice["tokens"] == {name: 2 * count for name, count in once["tokens"].items()}
    assert float(twice["cost_usd"]) == pytest.approx(2 * float(once["cost_usd"]))


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("way", [way for way in WAYS.values() if way.path == CHAT], ids=lambda way: way.model)
def test_a_chat_hears_of_tokens_only_if_it_asks(before: Before, way: Way, wanted: bool) -> None:
    office, _ = before(lambda _sent: chunked(way.events))
    options = {"stream_options": {"include_usage": True}} if wanted else {}
    found = lines(office.call("POST", CHAT, way.body(stream=True, **options)))
    chunks = [json.loads(line[6:]) for line in found if line.startswith("data: {")]
    assert [bool(chunk.get("usage")) for chunk in chunks] == [False] * (len(chunks) - 1) + [wanted]
    assert all(("usage" in chunk) == wanted for chunk in chunks)
    assert ledger(office)["rows"] == 1


def test_a_stream_that_does_not_say_what_it_used_is_a_doubt_but_an_answer(before: Before) -> None:
    events = [*map(event, OPENAI.pieces[:-1]), b"data: [DONE]\n\n"]
    office, _ = before(lambda _sent: chunked(events))
    answer = office.call("POST", MESSAGES, OPENAI.body(stream=True))
    assert lines(answer)[-1] == 'data: {"type":"message_stop"}'
    assert "x-halfrate-cost-usd" not in answer.body.decode()
    assert (ledger(office)["rows"], ledger(office)["doubts"]) == (0, 1)


# ---------------------------------------------------------------- what goes wrong


def keyed(status: int) -> bytes:
    """An error that repeats the key, whichever that is."""
    return reply(status, b'{"error":{"message":"no: THE-KEY"}}').replace(b"length: 35", b"length: THE-LENGTH")


@pytest.mark.parametrize(
    "answered",
    [
        reply(400, b'{"error":{"message":"max_tokens is too large","type":"invalid_request_error"}}'),
        keyed(401),
        reply(404, b'{"error":{"message":"no such model"}}'),
        keyed(413),
        reply(429, b'{"error":{"message":"slow down"}}', "retry-after: 7"),
        reply(429, b'{"error":{"message":"slow down"}}', "retry-after-ms: 2000"),
        reply(500, b'{"error":{"message":"it failed"}}'),
        reply(502, b"<html>a gateway on the way", kind="text/html"),
        reply(503, b'{"error":{"message":"busy"}}'),
        reply(404, b"<html>nothing here", kind="text/html"),
        b"nonsense\r\n\r\n",
        b"",
    ],
)
def test_an_error_before_the_first_event_is_what_it_is_without_a_stream(
    before: Before, way: Way, answered: bytes
) -> None:
    secret = TOKEN if way.model == VERTEX else KEY
    told = answered.replace(b"THE-KEY", secret.encode()).replace(b"THE-LENGTH", b"%d" % (28 + len(secret)))
    office, place = before(always(told))
    whole = office.call("POST", way.path, way.body())
    first = ledger(office)
    office.forgive()
    streamed = office.call("POST", way.path, way.body(stream=True))
    assert ledger(office)["doubts"] == 2 * first["doubts"]
    assert len(place.sent) == 2
    assert secret.encode() not in streamed.body
    assert secret not in json.dumps(said(office))
    shown = ("retry-after", "x-should-retry", "content-type", "x-halfrate-model")
    for answer in (whole, streamed):
        document = {**answer.document, "request_id": None}
        answer.body = json.dumps(document).replace(secret, "[key]").encode()
        answer.headers = {name: answer.headers[name] for name in shown if name in answer.headers}
    assert streamed == whole


def test_nobody_there_is_no_doubt(before: Before, way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    office, _ = before(lambda _sent: [])
    for name in (
        "OPENAI_BASE_URL",
        "ANTHROPIC_BASE_URL",
        "GOOGLE_GEMINI_BASE_URL",
        "GOOGLE_VERTEX_BASE_URL",
    ):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    answer = office.call("POST", way.path, way.body(stream=True))
    assert answer.status == 502
    assert "Nothing was sent" in answer.error["message"]
    assert ledger(office)["doubts"] == 0
    assert said(office)


FAILURES: dict[str, bytes] = {
    CLAUDE: event({"type": "error", "error": {"type": "overloaded_error", "message": "org-77 is too busy"}}),
    FLASH: event({"error": {"code": 503, "status": "UNAVAILABLE", "message": "org-77 is too busy"}}),
    VERTEX: event({"error": {"code": 503, "status": "UNAVAILABLE", "message": "org-77 is too busy"}}),
    MINI: event({"error": {"type": "server_error", "message": "org-77 is too busy"}}),
}


def broken_off(way: Way, how: str, heard: threading.Event) -> Iterator[bytes]:
    """A stream that ends in the middle, when its caller has heard the first word."""
    some = way.first
    rest = {
        "ended early": [],
        "cut": [],
        "half an event": [way.events[some][:-9]],
        "an error": [FAILURES[way.model], *way.events[some:]],
        "nonsense": [b"data: nonsense\n\n", *way.events[some:]],
    }[how]

    def pieces() -> Iterator[bytes]:
        yield from way.events[:some]
        assert heard.wait(20)
        yield from rest

    return chunked(pieces(), whole=how != "cut")


BROKEN = ("ended early", "cut", "half an event", "an error", "nonsense")


@pytest.mark.parametrize("how", BROKEN)
def test_a_stream_that_breaks_off_ends_with_an_error_in_its_callers_form(
    before: Before, way: Way, how: str
) -> None:
    heard = threading.Event()
    office, place = before(lambda _sent: broken_off(way, how, heard))
    error = openai.APIError if way.path == CHAT else anthropic.APIStatusError
    with speaking(office, way) as words:
        assert next(words) == "Grüß"
        heard.set()
        with pytest.raises(error, match="may have been run"):
            list(words)
    found = ledger(office)
    assert (found["rows"], found["doubts"]) == (0, 1)
    (told,) = said(office)
    assert told["event"] == "no answer"
    if how == "an error":
        # For whoever runs the gateway, and nobody else.
        assert "org-77" in told["why"]
    assert len(place.sent) == 1


@pytest.mark.parametrize("how", BROKEN)
def test_nothing_that_a_provider_says_of_its_failure_is_passed_on(before: Before, way: Way, how: str) -> None:
    heard = threading.Event()
    office, _ = before(lambda _sent: broken_off(way, how, heard))
    threading.Timer(0.5, heard.set).start()
    answer = office.call("POST", way.path, way.body(stream=True))
    assert answer.status == 200
    assert "org-77" not in answer.body.decode()
    *_, name, last = ["", *lines(answer)]
    error = json.loads(last.removeprefix("data: "))["error"]
    assert "may have been run" in error["message"]
    if way.path == MESSAGES:
        assert (name, error["type"]) == ("event: error", "timeout_error")
    else:
        assert error["code"] == "outcome_unknown"
    said(office)


def test_a_stream_that_fails_before_its_first_word_is_no_stream(before: Before, way: Way) -> None:
    office, place = before(lambda _sent: chunked([FAILURES[way.model]]))
    answer = office.call("POST", way.path, way.body(stream=True))
    assert answer.status == 504
    assert answer.headers["x-should-retry"] == "false"
    assert "org-77" not in answer.body.decode()
    assert (ledger(office)["rows"], ledger(office)["doubts"]) == (0, 1)
    assert "org-77" in said(office)[0]["why"]
    # Nor is one that is empty.
    place.script = always(*chunked([]))
    assert office.call("POST", way.path, way.body(stream=True)).status == 504
    said(office)


def test_an_event_without_an_end_is_not_waited_for_for_ever(
    before: Before, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(halfrate.gateway.events, "_LONGEST", 100_000)
    endless = b"data: " + b"x" * 200_000
    office, _ = before(lambda _sent: chunked([*ANTHROPIC.events[:4], endless, *ANTHROPIC.events[4:]]))
    answer = office.call("POST", CHAT, ANTHROPIC.body(stream=True))
    assert "may have been run" in answer.body.decode()
    assert ledger(office)["doubts"] == 1
    assert "too long" in said(office)[0]["why"]


def test_a_connection_that_breaks_behind_the_last_event_takes_nothing_from_the_answer(before: Before) -> None:
    office, _ = before(lambda _sent: chunked(ANTHROPIC.events, whole=False))
    assert lines(office.call("POST", CHAT, ANTHROPIC.body(stream=True)))[-1] == "data: [DONE]"
    assert (ledger(office)["rows"], ledger(office)["doubts"]) == (1, 0)


def test_a_caller_that_hangs_up_ends_the_providers_work(before: Before, way: Way) -> None:
    gone = threading.Event()

    def script(sent: Sent) -> Iterable[bytes]:
        yield from stream(*way.events[: way.first])
        wait_for(sent.gone)
        gone.set()

    office, _ = before(script)
    with speaking(office, way) as words:
        assert next(words) == "Grüß"
    assert gone.wait(20)
    wait_for(lambda: ledger(office)["doubts"] == 1)
    assert ledger(office)["rows"] == 0


def test_a_caller_that_does_not_read_holds_the_provider_back(before: Before) -> None:
    sent_bytes = [0]
    stopped = threading.Event()
    piece = event(_said("x" * 4_000))

    def script(sent: Sent) -> Iterable[bytes]:
        yield from stream(*ANTHROPIC.events[:2])
        for _ in range(20_000):
            yield piece
            sent_bytes[0] += len(piece)
        stopped.set()

    office, place = before(script)
    with (
        office.client() as client,
        client.chat.completions.create(
            model=CLAUDE, messages=[{"role": "user", "content": "hi"}], max_tokens=50, stream=True
        ) as chunks,
    ):
        next(iter(chunks))
        last = -1
        while last != sent_bytes[0]:
            last = sent_bytes[0]
            time.sleep(0.5)
        # What the kernel's buffers hold, and a little of ours: of 80 MB.
        assert last < 24 << 20
        assert not stopped.is_set()
    wait_for(lambda: ledger(office)["doubts"] == 1)
    assert len(place.sent) == 1


def test_what_cannot_be_translated_is_refused_before_it_is_sent(before: Before, way: Way) -> None:
    office, place = before(lambda _sent: chunked(way.events))
    wrong = {"logit_bias": {"7": 1}} if way.path == CHAT else {"top_k": 7}
    answer = office.call("POST", way.path, way.body(stream=True, **wrong))
    assert answer.status == 400
    assert next(iter(wrong)) in answer.error["message"]
    assert place.sent == []


def test_an_answer_that_comes_whole_all_the_same_is_told_as_a_stream(before: Before, way: Way) -> None:
    office, _ = before(lambda _sent: [reply(200, json.dumps(way.whole).encode())])
    with speaking(office, way) as words:
        assert "".join(words) == "Grüß dich"
    assert (ledger(office)["rows"], ledger(office)["doubts"]) == (1, 0)


def test_a_refusal_says_why_whether_it_came_whole_or_not(before: Before) -> None:
    message = {"role": "assistant", "content": None, "refusal": "Not this."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    pieces = [_chunk({"refusal": "Not "}), _chunk({"refusal": "this."}), *OPENAI.pieces[3:]]
    whole = reply(200, json.dumps({**OPENAI.whole, "choices": [choice]}).encode())
    office, place = before(always(whole))
    url = office.base_url.removesuffix("/v1")
    with anthropic.Anthropic(api_key=office.key, base_url=url, max_retries=0) as client:
        for answer in ([whole], chunked([*map(event, pieces), b"data: [DONE]\n\n"])):
            place.script = always(*answer)
            with client.messages.stream(model=MINI, messages=ASKED, max_tokens=9) as events:
                found = events.get_final_message()
            assert found.stop_reason == "refusal"
            assert found.stop_details is not None
            assert found.stop_details.explanation == "Not this."


def test_behind_a_proxy_answers_come_whole_as_ever(
    before: Before, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    office, place = before(lambda _sent: [reply(200, json.dumps(way.whole).encode())])
    monkeypatch.setenv("http_proxy", place.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    # Else this machine's own addresses are reached without one.
    monkeypatch.setattr("urllib.request.proxy_bypass", lambda _: False)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    answer = office.call("POST", way.path, way.body(stream=True))
    assert "Grüß dich" in answer.body.decode()
    (sent,) = place.sent
    assert sent.path.startswith("http://127.0.0.1")
    assert b'"stream"' not in sent.body


def test_a_key_of_the_callers_own_goes_to_the_provider(before: Before) -> None:
    office, place = before(lambda _sent: chunked(ANTHROPIC.events))
    own = "sk-my-own-1234567"
    answer = office.call("POST", CHAT, ANTHROPIC.body(stream=True), {"x-halfrate-provider-key": own})
    assert lines(answer)[-1] == "data: [DONE]"
    assert place.sent[0].headers["x-api-key"] == own
    assert ledger(office)["rows"] == 0
    place.script = always(reply(401, b'{"error":{"message":"wrong: %b"}}' % own.encode()))
    refused = office.call("POST", CHAT, ANTHROPIC.body(stream=True), {"x-halfrate-provider-key": own})
    assert "wrong" in refused.error["message"]
    assert own not in refused.body.decode()


SETTINGS = """
[accounts.one]
provider = "anthropic"
key_variable = "ANTHROPIC_API_KEY"
base_url = "{one}"

[routes.smart]
models = ["one/claude-haiku-4-5", "openai/gpt-4.1-mini", "gemini/gemini-2.5-flash"]
{more}
"""


@pytest.mark.parametrize("failing", ["refused", "failed at once"])
def test_a_route_goes_on_where_a_stream_does_not_begin(
    before: Before, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def script(sent: Sent) -> Iterable[bytes]:
        if sent.path == MESSAGES and failing == "refused":
            return [reply(529, b'{"error":{"message":"busy"}}')]
        if sent.path == MESSAGES:
            return chunked([event({"type": "ping"}), FAILURES[CLAUDE]])
        if sent.path == CHAT:
            return [reply(500, b'{"error":{"message":"no"}}')]
        return chunked(GEMINI.events)

    office, place = before(script)
    settings = tmp_path / "settings.toml"
    settings.write_text(SETTINGS.format(one=place.url, more=""))
    monkeypatch.setenv("HALFRATE_SETTINGS", str(settings))
    ask = ANTHROPIC._replace(model="smart")
    answer = office.call("POST", CHAT, ask.body(stream=True))
    assert answer.status == 200
    route = answer.headers["x-halfrate-route"].split(", ")
    first = "one/claude-haiku-4-5=" + ("529" if failing == "refused" else "lost")
    assert route == [first, "openai/gpt-4.1-mini=500", "gemini/gemini-2.5-flash=200"]
    assert lines(answer)[-1] == "data: [DONE]"
    assert (ledger(office)["rows"], ledger(office)["doubts"]) == (1, int(failing != "refused"))
    said(office)


def test_in_a_race_a_stream_that_begins_too_late_is_hung_up_on(
    before: Before, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = threading.Event()

    def script(sent: Sent) -> Iterable[bytes]:
        if sent.path != MESSAGES:
            yield from chunked(GEMINI.events)
            return
        # Its head is there at once, and no word.
        yield from stream(event({"type": "ping"}))
        wait_for(sent.gone)
        gone.set()

    office, place = before(script)
    settings = tmp_path / "settings.toml"
    text = SETTINGS.format(one=place.url, more='how = "race"').replace('"openai/gpt-4.1-mini", ', "")
    settings.write_text(text)
    monkeypatch.setenv("HALFRATE_SETTINGS", str(settings))
    answer = office.call("POST", CHAT, ANTHROPIC._replace(model="smart").body(stream=True))
    assert "Gr\u00fc\u00df" in "".join(
        json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
        for line in lines(answer)
        if line.startswith("data: {")
    )
    assert gone.wait(20)
    assert (ledger(office)["rows"], ledger(office)["doubts"]) == (1, 1)


# ---------------------------------------------------------------- the official SDKs

SPOKEN = [MODELS["anthropic"], MODELS["gemini"], MODELS["vertex"]]
OTHERS = [
    model
    for name, model in MODELS.items()
    if name not in {"voyage", "cohere", "anthropic", "gemini", "vertex", "bedrock"}
]
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
NEEDED: Any = {"type": "function", "function": {"name": "weather"}}


def spent(house: House, key: str) -> dict[str, Any]:
    """What the gateway says was spent."""
    with house.client(key) as client:
        found: Any = client.get("/halfrate/cost", cast_to=object)
    return found["total"]


def agrees(house: House, key: str, rows: int) -> None:
    """Ledger and meter say the same, of so many rows."""
    total, meter = spent(house, key), house.meter()
    assert total["rows"] == meter["realtime_billed"] == rows
    assert total["doubts"] == 0
    assert total["tokens"]["output"] == meter["tokens"]["output"]
    assert round(float(total["cost_usd"]) * PICO) == meter["picodollars"]


@pytest.mark.parametrize("model", SPOKEN)
def test_openais_sdk_takes_what_it_is_given(house: Callable[..., House], model: str) -> None:
    home = house()
    _, key = home.key()
    texts: list[str] = []
    done: list[str] = []
    with home.client(key) as client:
        whole = client.chat.completions.create(model=model, messages=ASKED)
        with client.chat.completions.stream(
            model=model, messages=ASKED, stream_options={"include_usage": True}
        ) as events:
            texts += [found.delta for found in events if found.type == "content.delta"]
            final = events.get_final_completion()
        with client.chat.completions.stream(
            model=model, messages=ASKED, tools=[TOOL], tool_choice=NEEDED
        ) as events:
            done += [
                found.arguments for found in events if found.type == "tool_calls.function.arguments.done"
            ]
            called = events.get_final_completion().choices[0]
    assert len(texts) > 3
    assert "".join(texts) == final.choices[0].message.content == whole.choices[0].message.content
    assert final.choices[0].finish_reason == "stop"
    assert final.usage is not None
    assert whole.usage is not None
    assert final.usage.model_dump() == whole.usage.model_dump()
    assert called.finish_reason == "tool_calls"
    (call,) = called.message.tool_calls or []
    assert json.loads(call.function.arguments) == json.loads(done[0])
    assert {"city", "days"} == set(json.loads(done[0]))
    agrees(home, key, 3)


@pytest.mark.parametrize("model", [*OTHERS, *SPOKEN[1:]])
def test_anthropics_sdk_takes_what_it_is_given(house: Callable[..., House], model: str) -> None:
    home = house()
    _, key = home.key()
    tool: Any = {"name": "weather", "input_schema": PARAMETERS}
    with home.messages(key) as client:
        whole = client.messages.create(model=model, messages=ASKED, max_tokens=60)
        with client.messages.stream(model=model, messages=ASKED, max_tokens=60) as events:
            texts = list(events.text_stream)
            final = events.get_final_message()
        with client.messages.stream(
            model=model, messages=ASKED, max_tokens=60, tools=[tool], tool_choice={"type": "any"}
        ) as events:
            kinds = [found.type for found in events]
            called = events.get_final_message()
    assert len(texts) > 3
    assert "".join(texts) == final.content[0].text == whole.content[0].text  # pyright: ignore[reportAttributeAccessIssue]
    assert (final.stop_reason, final.usage) == (whole.stop_reason, whole.usage)
    assert called.stop_reason == "tool_use"
    (block,) = [block for block in called.content if block.type == "tool_use"]
    assert {"city", "days"} == set(block.input)
    assert "input_json" in kinds
    agrees(home, key, 3)


def test_async_clients_take_many_streams_at_once(house: Callable[..., House]) -> None:
    home = house()
    _, key = home.key()

    async def main() -> None:
        async with (
            openai.AsyncOpenAI(base_url=f"{home.server.url}/v1", api_key=key, max_retries=0) as chats,
            anthropic.AsyncAnthropic(base_url=home.server.url, api_key=key, max_retries=0) as messages,
        ):

            async def chat(model: str, number: int) -> str:
                asked: Any = [{"role": "user", "content": f"Row {number}"}]
                async with chats.chat.completions.stream(model=model, messages=asked) as events:
                    return (await events.get_final_completion()).choices[0].message.content or ""

            async def message(model: str, number: int) -> str:
                asked: Any = [{"role": "user", "content": f"Row {number}"}]
                async with messages.messages.stream(model=model, messages=asked, max_tokens=60) as events:
                    return await events.get_final_text()

            found = await asyncio.gather(
                *(chat(SPOKEN[number % 3], number) for number in range(18)),
                *(message([MODELS["openai"], *SPOKEN[1:]][number % 3], number) for number in range(18)),
            )
            assert all(f"Row {number % 18}" in text for number, text in enumerate(found))

    asyncio.run(main())
    agrees(home, key, 36)


@pytest.mark.parametrize("model", [*SPOKEN, MODELS["openai"]])
def test_what_breaks_off_is_billed_and_a_doubt(house: Callable[..., House], model: str) -> None:
    home = house("realtime-cut:times=1,fraction=0.6")
    _, key = home.key()
    if model == MODELS["openai"]:
        with (
            home.messages(key) as messages,
            pytest.raises(anthropic.APIStatusError, match="may have been run"),
            messages.messages.stream(model=model, messages=ASKED, max_tokens=60) as events,
        ):
            events.until_done()
    else:
        with (
            home.client(key) as client,
            pytest.raises(openai.APIError, match="may have been run"),
            client.chat.completions.stream(model=model, messages=ASKED) as chunks,
        ):
            chunks.until_done()
    total = spent(home, key)
    assert home.meter()["realtime_billed"] == 1
    assert (total["rows"], total["doubts"]) == (0, 1)
