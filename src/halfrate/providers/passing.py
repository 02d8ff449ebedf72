"""Calls that are passed on as they come: where they go, and what an answer says that it used.

A gateway that changes nothing in a call still has to know what it cost. An answer that comes whole says so at its top
level; one that is streamed says so in some of its events (server-sent events, one JSON object in each).
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import msgspec

from halfrate.base.results import Tokens
from halfrate.base.types import Endpoint
from halfrate.providers import anthropic_results, openai_results
from halfrate.providers.openai_calls import tier_named

_LONGEST_EVENT: Final = 1 << 22
"""Bytes of an event that is looked into. A longer one goes through, and what it says of tokens is not known."""


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


READERS: Final[dict[Endpoint, Callable[[], UsageReader]]] = {
    "chat": OpenAIUsage,
    "responses": OpenAIUsage,
    "embeddings": OpenAIUsage,
    "messages": AnthropicUsage,
}


class Events:
    """Cuts a stream of server-sent events into its events, whatever pieces it comes in (HTML standard, 9.2)."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, piece: bytes) -> Iterator[tuple[bytes, bytes]]:
        """(event as it came, its data) of each event that is complete now. What is still open is held back."""
        data = self._rest + piece
        start = 0
        while (end := _end_of_event(data, start)) >= 0:
            event = data[start:end]
            yield event, _data_of(event)
            start = end
        self._rest = data[start:]
        if len(self._rest) > _LONGEST_EVENT:
            event, self._rest = self._rest, b""
            yield event, b""

    def rest(self) -> bytes:
        """What came behind the last event."""
        rest, self._rest = self._rest, b""
        return rest


def _end_of_event(data: bytes, start: int) -> int:
    """Where an event ends, behind its blank line; -1 if that is still to come."""
    ends = [at + len(mark) for mark in (b"\n\n", b"\r\n\r\n", b"\r\r") if (at := data.find(mark, start)) >= 0]
    return min(ends, default=-1)


def _data_of(event: bytes) -> bytes:
    lines = event.splitlines()
    return b"\n".join(line[5:].lstrip(b" ") for line in lines if line.startswith(b"data:"))
