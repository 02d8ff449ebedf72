"""Streams that callers get: server-sent events, as OpenAI and Anthropic send them.

One that a provider sends in the caller's own form is passed on as it came; one in another form is translated event by
event; and an answer that came whole is told as a stream at once.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

import msgspec

from halfrate.base.types import Endpoint
from halfrate.gateway.upstream import Lost
from halfrate.providers.passing import READERS, Events, Used, data_of
from halfrate.providers.translation.responses import response_events
from halfrate.providers.translation.streams import Spoken, StreamFault, Translation

DONE: Final = b"data: [DONE]\n\n"
_LONGEST: Final = 64 << 20
"""Bytes of an event that is translated: as many as an answer may have that comes whole."""
_ENDING: Final = ("stop_reason", "stop_sequence", "stop_details")
_ENDS: Final = (
    b"event: message_stop",
    b"event: response.completed",
    b"event: response.incomplete",
    b"event: response.failed",
)


class Relay(Protocol):
    """Makes what a caller gets of what a provider sends, one stream of it. What is given is (events, whether they are
    the last: what the answer used is known then)."""

    def take(self, piece: bytes) -> Iterator[tuple[bytes, bool]]:
        """What a piece makes, in whatever pieces the stream comes. Raises Lost for a stream that cannot go on."""
        ...

    def end(self) -> Iterator[tuple[bytes, bool]]:
        """What is left, where no more pieces come. Raises Lost where the answer cannot be whole."""
        ...

    def told(self) -> Used:
        """What the answer has said so far of what it used."""
        ...


class AsItCame:
    """Passes events on as they are.

    `hides_usage`: an event that tells of tokens and of nothing else is kept back, because nobody but us asked for it.
    """

    def __init__(self, endpoint: Endpoint, *, hides_usage: bool) -> None:
        self._events = Events()
        self._reader = READERS[endpoint]()
        self._hides_usage = hides_usage

    def take(self, piece: bytes) -> Iterator[tuple[bytes, bool]]:
        for event, data in self._events.take(piece):
            if self._reader.event(data) and self._hides_usage:
                continue
            yield event, _is_last(event, data)

    def end(self) -> Iterator[tuple[bytes, bool]]:
        rest = self._events.rest()
        if rest:
            yield rest, False

    def told(self) -> Used:
        return self._reader.told()


class Translated:
    """Translates events as they come.

    Args:
        endpoint: whose answers the provider gives.
        spoken: whose events the caller gets.
    """

    def __init__(self, translation: Translation, endpoint: Endpoint, spoken: Spoken) -> None:
        self._events = Events(_LONGEST)
        self._reader = READERS[endpoint]()
        self._translation = translation
        self._written = _data if spoken == "chat" else _event
        self._done = DONE if spoken == "chat" else b""

    def take(self, piece: bytes) -> Iterator[tuple[bytes, bool]]:
        for event, data in self._events.take(piece):
            if data:
                yield from self._understood(data)
            elif len(event) > _LONGEST:
                raise Lost("an event of the stream is too long")

    def end(self) -> Iterator[tuple[bytes, bool]]:
        # Some leave out the blank line behind their last event.
        data = data_of(self._events.rest())
        if data:
            yield from self._understood(data)
        if not self._translation.over:
            yield from self._said(self._translation.end)

    def told(self) -> Used:
        return self._reader.told()

    def _understood(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        if not self._translation.over:
            self._reader.event(data)
            yield from self._said(lambda: self._translation.event(data))

    def _said(self, translate: Callable[[], list[dict[str, Any]]]) -> Iterator[tuple[bytes, bool]]:
        try:
            written = [self._written(document) for document in translate()]
        except StreamFault as fault:
            raise Lost(f"its stream broke off: {fault}") from None
        over = self._translation.over
        if over and self._done:
            written.append(self._done)
        for number, event in enumerate(written, 1):
            yield event, over and number == len(written)


def chat_events(completion: Mapping[str, Any], *, usage: bool) -> Iterator[bytes]:
    """A chat completion as its chunks, and "[DONE]" (API reference, "Streaming").

    `usage`: whether the last tells what it used.
    """
    head = {name: value for name, value in completion.items() if name not in {"object", "choices", "usage"}}
    head["object"] = "chat.completion.chunk"
    rest: dict[str, Any] = {"usage": None} if usage else {}
    for choice in completion["choices"]:
        place = {"index": choice["index"], "logprobs": choice.get("logprobs")}
        message = {name: value for name, value in choice["message"].items() if value is not None}
        calls = message.pop("tool_calls", None)
        if calls:
            message["tool_calls"] = [{"index": number, **call} for number, call in enumerate(calls)]
        yield _data({**head, "choices": [{**place, "delta": message, "finish_reason": None}], **rest})
        end: dict[str, Any] = {
            **place,
            "logprobs": None,
            "delta": {},
            "finish_reason": choice["finish_reason"],
        }
        yield _data({**head, "choices": [end], **rest})
    if usage:
        yield _data({**head, "choices": [], "usage": completion.get("usage")})
    yield DONE


def message_events(message: Mapping[str, Any]) -> Iterator[bytes]:
    """A message as its events (guide to streaming messages)."""
    told = dict(message["usage"])
    open_: dict[str, Any] = {"content": [], **dict.fromkeys(_ENDING), "usage": {**told, "output_tokens": 0}}
    yield _event({"type": "message_start", "message": {**message, **open_}})
    for index, block in enumerate(message["content"]):
        head, deltas = _block(block)
        yield _event({"type": "content_block_start", "index": index, "content_block": head})
        for delta in deltas:
            yield _event({"type": "content_block_delta", "index": index, "delta": delta})
        yield _event({"type": "content_block_stop", "index": index})
    end = {name: message.get(name) for name in _ENDING}
    usage = {"output_tokens": told.get("output_tokens", 0)}
    yield _event({"type": "message_delta", "delta": end, "usage": usage})
    yield _event({"type": "message_stop"})


def response_stream(response: Mapping[str, Any]) -> Iterator[bytes]:
    """A response of OpenAI's as its events (API reference, "Streaming events")."""
    return map(_event, response_events(response))


def _block(block: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """How a block begins, and what comes after that."""
    match block["type"]:
        case "text":
            return {**block, "text": ""}, [{"type": "text_delta", "text": block["text"]}]
        case "tool_use":
            written = msgspec.json.encode(block["input"]).decode()
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": written}]
        case "thinking":
            deltas = [{"type": "thinking_delta", "thinking": block["thinking"]}]
            if block.get("signature"):
                deltas.append({"type": "signature_delta", "signature": block["signature"]})
            return {**block, "thinking": "", "signature": ""}, deltas
        case _:
            return dict(block), []


def _data(document: Mapping[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(document) + b"\n\n"


def _event(document: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (document["type"].encode(), msgspec.json.encode(document))


def _is_last(event: bytes, data: bytes) -> bool:
    """Whether a stream is over with this event: OpenAI's "[DONE]", the end of a response, Anthropic's message_stop."""
    return data == b"[DONE]" or event.startswith(_ENDS)
