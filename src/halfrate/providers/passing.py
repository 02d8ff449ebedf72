"""Answers that a gateway passes on as they come: their events, and what they say that they used.

A gateway that changes nothing in a call still has to know what it cost. An answer that comes whole says so at its top
level; one that is streamed says so in some of its events (server-sent events, one JSON object in each).
"""

import http.client
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol, cast

import msgspec

from halfrate.base.results import Tokens
from halfrate.base.types import Endpoint
from halfrate.providers import anthropic_results, gemini_results, openai_results
from halfrate.providers.answers import Answer, request_id, retry_after
from halfrate.providers.openai_calls import tier_named

LONGEST_EVENT: Final = 1 << 22
"""Bytes of an event that is looked into. A longer one goes through, and what it says of tokens is not known."""
_SHORTEST_KEY: Final = 12
_END: Final = re.compile(rb"\n\n|\r\n\r\n|\r\r")


class Used(msgspec.Struct, frozen=True):
    """What an answer says of itself. `tokens`: None where it does not say; `model`: the one that answered."""

    tokens: Tokens | None = None
    model: str = ""
    tier: str = "standard"


class UsageReader(Protocol):
    """Reads one answer."""

    def whole(self, body: bytes) -> Used:
        """What a whole answer says. One that makes no sense says nothing."""
        ...

    def event(self, data: bytes) -> bool:
        """Take an event of a stream, the JSON in it; whether it tells of tokens and of nothing else."""
        ...

    def told(self) -> Used:
        """What the events so far have said."""
        ...


class _Said(msgspec.Struct, gc=False):
    model: str = ""
    usage: msgspec.Raw = msgspec.Raw(b"null")
    service_tier: str | None = None
    choices: list[msgspec.Raw] | None = None


class _SaidInside(msgspec.Struct, gc=False):
    response: _Said | None = None


class _Message(msgspec.Struct, gc=False):
    model: str = ""
    usage: dict[str, Any] | None = None


class _MessageEvent(msgspec.Struct, gc=False):
    message: _Message | None = None
    usage: dict[str, Any] | None = None


_said = msgspec.json.Decoder(_Said).decode
_said_inside = msgspec.json.Decoder(_SaidInside).decode
_message = msgspec.json.Decoder(_Message).decode
_message_event = msgspec.json.Decoder(_MessageEvent).decode
_BAD: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class OpenAIUsage:
    """Chat completions, responses and embeddings."""

    def __init__(self) -> None:
        self._used = Used()

    def whole(self, body: bytes) -> Used:
        try:
            return _of(_said(body))
        except _BAD:
            return Used()

    def event(self, data: bytes) -> bool:
        # Most events are a few letters of the answer: they are looked at no further.
        if b'"usage"' not in data:
            return False
        try:
            said = _said(data)
            inside = _said_inside(data).response
            found = _of(inside if inside is not None else said)
        except _BAD:
            return False
        if found.tokens is not None:
            self._used = found
        return found.tokens is not None and inside is None and said.choices == []

    def told(self) -> Used:
        return self._used


def _of(said: _Said) -> Used:
    tokens = _counted(openai_results.tokens_in(bytes(said.usage)))
    return Used(tokens, said.model, tier_named(said.service_tier))


def _counted(tokens: Tokens | None) -> Tokens | None:
    """None of no tokens at all: no answer is made of nothing, and one that says so says nothing."""
    told = tokens is not None and any(tokens[:5]) and min(tokens[:5]) >= 0
    return tokens if told else None


class AnthropicUsage:
    """Messages: `message_start` tells of what was read, `message_delta` of what was written (streaming guide)."""

    def __init__(self) -> None:
        self._model = ""
        self._usage: dict[str, Any] = {}

    def whole(self, body: bytes) -> Used:
        try:
            message = _message(body)
            return _of_message(message.model, message.usage)
        except _BAD:
            return Used()

    def event(self, data: bytes) -> bool:
        if b'"usage"' not in data:
            return False
        try:
            found = _message_event(data)
        except _BAD:
            return False
        if found.message is not None:
            self._model = found.message.model
            self._usage |= found.message.usage or {}
        # The counts of an event are of all so far, and what it leaves out is as it was.
        self._usage |= {name: value for name, value in (found.usage or {}).items() if value is not None}
        return False

    def told(self) -> Used:
        try:
            return _of_message(self._model, self._usage or None)
        except _BAD:
            return Used(model=self._model)


def _of_message(model: str, usage: dict[str, Any] | None) -> Used:
    if usage is None:
        return Used(model=model)
    tokens = _counted(anthropic_results.tokens_in(msgspec.json.encode(usage)))
    return Used(tokens, model, str(usage.get("service_tier") or "standard"))


class _Response(msgspec.Struct, gc=False, rename="camel"):
    model_version: str = ""
    usage_metadata: dict[str, Any] | None = None


_response = msgspec.json.Decoder(_Response).decode


class GeminiUsage:
    """Gemini's responses, of which a stream has one in each event: its counts are of all so far."""

    def __init__(self) -> None:
        self._model = ""
        self._usage: dict[str, Any] = {}

    def whole(self, body: bytes) -> Used:
        reader = GeminiUsage()
        reader.event(body)
        return reader.told()

    def event(self, data: bytes) -> bool:
        if b'"usageMetadata"' not in data:
            return False
        try:
            found = _response(data)
        except _BAD:
            return False
        self._model = found.model_version or self._model
        # What an event leaves out is as it was.
        self._usage |= {
            name: value for name, value in (found.usage_metadata or {}).items() if value is not None
        }
        return False

    def told(self) -> Used:
        try:
            tokens = gemini_results.tokens_in(msgspec.json.encode(self._usage)) if self._usage else None
        except _BAD:
            tokens = None
        return Used(_counted(tokens), self._model)


READERS: Final[dict[Endpoint, Callable[[], UsageReader]]] = {
    "chat": OpenAIUsage,
    "responses": OpenAIUsage,
    "embeddings": OpenAIUsage,
    "messages": AnthropicUsage,
    "generate": GeminiUsage,
}


class Events:
    """Cuts a stream of server-sent events into its events, whatever pieces it comes in (HTML standard, 9.2).

    `longest`: bytes of an event that is waited for; a longer one is given in parts, without its data.
    """

    def __init__(self, longest: int = LONGEST_EVENT) -> None:
        self._longest = longest
        self._rest = bytearray()

    def take(self, piece: bytes) -> Iterator[tuple[bytes, bytes]]:
        """(event as it came, its data) of each event that is complete now. What is still open is held back."""
        # A blank line may stand half in what was there before, and nowhere before that.
        at = max(len(self._rest) - 3, 0)
        data: bytes | bytearray = piece
        if self._rest:
            data = self._rest
            data += piece
        start = 0
        while (found := _END.search(data, at)) is not None:
            event = bytes(data[start : found.end()])
            start = at = found.end()
            yield event, data_of(event)
        if start or data is piece:
            self._rest = bytearray(data[start:])
        if len(self._rest) > self._longest:
            yield self.rest(), b""

    def rest(self) -> bytes:
        """What came behind the last event."""
        rest, self._rest = bytes(self._rest), bytearray()
        return rest


def data_of(event: bytes) -> bytes:
    """The data of an event; b"" for one without."""
    lines = event.splitlines()
    return b"\n".join(line[5:].lstrip(b" ") for line in lines if line.startswith(b"data:"))


class _Headers:
    """Headers as those who read answers ask for them."""

    def __init__(self, given: Sequence[tuple[bytes, bytes]]) -> None:
        self.all = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in given}

    def getheader(self, name: str) -> str | None:
        return self.all.get(name.lower())


def answer_of(status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes, secret: str) -> Answer:
    """An answer that is no stream, as an adapter understands it. `secret`: is masked in an error that repeats it."""
    found = _Headers(headers)
    response = cast("http.client.HTTPResponse", found)
    if status >= 300 and len(secret) >= _SHORTEST_KEY:
        body = body.replace(secret.encode(), b"[key]")
    return Answer(
        status=status,
        reason=http.client.responses.get(status, ""),
        body=body,
        headers=found.all,
        retry_after=retry_after(response),
        request_id=request_id(response),
    )
