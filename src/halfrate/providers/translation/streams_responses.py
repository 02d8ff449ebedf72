"""Chunks of a chat completion as the events of OpenAI's Responses API (API reference, "Streaming events").

A text is one part of one message, and so is a refusal; each call is an item of its own, and all of them may be written
side by side.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import msgspec

from halfrate.providers.translation.chats import (
    CompletionChunk,
    Delta,
    PartialCall,
    PartialFunction,
    Usage,
    texts_in,
)
from halfrate.providers.translation.responses import (
    call_item,
    message_item,
    name_of,
    response_of,
    text_part,
    written,
)
from halfrate.providers.translation.streams_chunks import Chunk, StreamFault

Event: TypeAlias = dict[str, Any]
"""An event, decoded; its name is its `type`."""

_MOST: Final = 16 << 20
"""Characters of an answer: its last event says all of it again."""


class _Open:
    """An item that is being written. `parts`: of a message; `arguments`: of a call."""

    def __init__(self, place: int, item: dict[str, Any], key: int | None = None) -> None:
        self.place = place
        self.item = item
        self.key = key
        self.parts: list[tuple[str, list[str]]] = []
        self.arguments: list[str] = []

    @property
    def where(self) -> dict[str, Any]:
        return {"output_index": self.place, "item_id": self.item["id"]}


class ResponseEvents:
    """One response. Of several choices the first is told.

    Args:
        asked: the request, of which a response says some fields again.
    """

    def __init__(self, asked: Mapping[str, Any]) -> None:
        self._asked = asked
        self._sequence = 0
        self._head: tuple[str, int, str] | None = None
        self._items: list[dict[str, Any]] = []
        self._message: _Open | None = None
        self._calls: list[_Open] = []
        self._finish: str | None = None
        self._usage: Usage | None = None
        self._kept = 0

    def chunk(self, chunk: Chunk) -> list[Event]:
        """The events that a chunk makes. Raises StreamFault."""
        try:
            return self._told(msgspec.convert(chunk, CompletionChunk))
        except msgspec.ValidationError as error:
            raise StreamFault(f"an event cannot be understood ({error})") from None

    def end(self) -> list[Event]:
        """The rest of the response, of which nothing more comes. Raises StreamFault."""
        if self._head is None:
            raise StreamFault("the answer holds no answer")
        events = self._message_over()
        for call in self._calls:
            arguments = "".join(call.arguments) or "{}"
            call.item |= {"arguments": arguments, "status": "completed"}
            done = {"type": "response.function_call_arguments.done", **call.where}
            events.append({**done, "name": call.item["name"], "arguments": arguments})
            events.append(self._done(call))
        response = self._response(self._items)
        events.append({"type": f"response.{response['status']}", "response": response})
        return self._numbered(events)

    # ------------------------------------------------------------ parts

    def _told(self, found: CompletionChunk) -> list[Event]:
        self._usage = found.usage or self._usage
        choice = next((one for one in found.choices or () if not one.index), None)
        if choice is None:
            return []
        events: list[Event] = []
        if self._head is None:
            self._head = (found.id or "", int(found.created or 0), found.model or "")
            begun = self._response([], begun=True)
            events += [
                {"type": "response.created", "response": begun},
                {"type": "response.in_progress", "response": begun},
            ]
        delta = choice.delta or Delta()
        for text in texts_in(delta.content):
            events += self._said("output_text", text)
        if delta.refusal:
            events += self._said("refusal", delta.refusal)
        for call in delta.tool_calls or ():
            events += self._called(call)
        self._finish = choice.finish_reason or self._finish
        return self._numbered(events)

    def _response(self, items: list[dict[str, Any]], *, begun: bool = False) -> dict[str, Any]:
        name, created, model = self._head or ("", 0, "")
        finish, usage = (None, None) if begun else (self._finish, self._usage)
        return response_of(name, created, model, self._asked, items, finish, usage, begun=begun)

    def _said(self, kind: str, text: str) -> list[Event]:
        self._count(text)
        events: list[Event] = []
        message = self._message
        if message is None:
            name = name_of(self._head[0] if self._head else "")
            number = sum(item["type"] == "message" for item in self._items)
            item = message_item(f"{name}_{number}" if number else name, [], "in_progress")
            message = self._message = _Open(len(self._items), item)
            events.append(self._added(message))
        if not message.parts or message.parts[-1][0] != kind:
            events += self._part_over(message)
            message.parts.append((kind, []))
            part = _part(kind, "")
            events.append(
                {"type": "response.content_part.added", **message.where, **self._index(message), "part": part}
            )
        message.parts[-1][1].append(text)
        delta = {"type": f"response.{kind}.delta", **message.where, **self._index(message), "delta": text}
        return [*events, {**delta, **_more(kind)}]

    def _called(self, piece: PartialCall) -> list[Event]:
        function = piece.function or PartialFunction()
        call = self._known(piece, named=bool(function.name))
        events: list[Event] = []
        if call is None:
            if not function.name:
                raise StreamFault("a call of a tool has no name")
            events += self._message_over()
            name = name_of(self._head[0] if self._head else "")
            number = len(self._calls)
            item = call_item(name, number, piece.id, function.name, "", "in_progress")
            call = _Open(len(self._items), item, piece.index)
            self._calls.append(call)
            events.append(self._added(call))
        if function.arguments:
            text = written(function.arguments)
            self._count(text)
            call.arguments.append(text)
            events.append({"type": "response.function_call_arguments.delta", **call.where, "delta": text})
        return events

    def _known(self, piece: PartialCall, *, named: bool) -> _Open | None:
        """The call that a piece belongs to; None for a new one. Some providers count no calls, and some call each the
        first: there an id of its own tells a new one."""
        found = [call for call in self._calls if piece.index is None or piece.index == call.key]
        same = next((call for call in found if piece.id and piece.id == call.item["call_id"]), None)
        if same is not None or not found:
            return same
        return None if named and (piece.index is None or bool(piece.id)) else found[-1]

    def _message_over(self) -> list[Event]:
        message, self._message = self._message, None
        if message is None:
            return []
        events = self._part_over(message)
        message.item |= {
            "content": [_part(kind, "".join(texts)) for kind, texts in message.parts],
            "status": "completed",
        }
        return [*events, self._done(message)]

    def _part_over(self, message: _Open) -> list[Event]:
        if not message.parts:
            return []
        kind, texts = message.parts[-1]
        field, text = _field(kind), "".join(texts)
        where = {**message.where, **self._index(message)}
        return [
            {"type": f"response.{kind}.done", **where, field: text, **_more(kind)},
            {"type": "response.content_part.done", **where, "part": _part(kind, text)},
        ]

    def _added(self, open_: _Open) -> Event:
        self._items.append(open_.item)
        return {"type": "response.output_item.added", "output_index": open_.place, "item": dict(open_.item)}

    def _done(self, open_: _Open) -> Event:
        return {"type": "response.output_item.done", "output_index": open_.place, "item": dict(open_.item)}

    def _index(self, message: _Open) -> dict[str, int]:
        return {"content_index": len(message.parts) - 1}

    def _count(self, text: str) -> None:
        self._kept += len(text)
        if self._kept > _MOST:
            raise StreamFault("the answer is too long to be translated as it comes")

    def _numbered(self, events: list[Event]) -> list[Event]:
        first = self._sequence
        self._sequence += len(events)
        return [{**event, "sequence_number": number} for number, event in enumerate(events, first)]


def _field(kind: str) -> str:
    return "text" if kind == "output_text" else "refusal"


def _part(kind: str, text: str) -> dict[str, Any]:
    return text_part(text) if kind == "output_text" else {"type": "refusal", "refusal": text}


def _more(kind: str) -> dict[str, Any]:
    return {"logprobs": []} if kind == "output_text" else {}
