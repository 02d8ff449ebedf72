"""Chunks of a chat completion as the events of Anthropic's streams (guide to streaming messages; SDK 2.12.0).

Blocks of a message come one after the other, while the calls of a chat may be written side by side: the first block
that is not finished is shown as it comes, and what belongs behind it waits. So does a call whose arguments are no JSON
object, until all of it is known.
"""

from collections import deque
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
from halfrate.providers.translation.completion import read_arguments
from halfrate.providers.translation.messages import (
    MALFORMED,
    call_id,
    counted,
    ending,
    head,
)
from halfrate.providers.translation.streams_chunks import Chunk, StreamFault

Event: TypeAlias = dict[str, Any]
"""An event of Anthropic's, decoded; its name is its `type`."""

_MOST: Final = 16 << 20
"""Characters of an answer: arguments of calls are kept to be understood, and so is what has to wait."""


class _Block:
    """One block of the message. `shown`: how it begins; `waiting`: what was not shown yet; `over`: whether all was."""

    def __init__(self, shown: dict[str, Any]) -> None:
        self.shown = shown
        self.waiting: list[str] = []
        self.over = False

    @property
    def finished(self) -> bool:
        """Whether nothing more can come of it, once something else has begun."""
        return True

    def add(self, piece: str) -> None:
        self.waiting.append(piece)

    def deltas(self, *, last: bool) -> list[dict[str, Any]]:
        """What can be shown now. `last`: nothing more comes of it."""
        text = "".join(self.waiting)
        self.waiting.clear()
        return [{"type": "text_delta", "text": text}] if text else []


class _ToolUse(_Block):
    """A call. `index` and `id` are the chat's."""

    def __init__(self, index: int | None, given_id: str, shown: dict[str, Any]) -> None:
        super().__init__(shown)
        self.index = index
        self.id = given_id
        self._written: list[str] = []
        self._is_object: bool | None = None

    @property
    def finished(self) -> bool:
        # Most pieces do not end an object, and so need not be looked into.
        last = self._written[-1].rstrip() if self._written else ""
        return last.endswith("}") and read_arguments("".join(self._written)) is not None

    def add(self, piece: str) -> None:
        super().add(piece)
        self._written.append(piece)

    def deltas(self, *, last: bool) -> list[dict[str, Any]]:
        if self._is_object is None:
            begun = "".join(self.waiting).lstrip()
            self._is_object = begun.startswith("{") if begun else None
        if not (self._is_object or last):
            return []
        text = "".join(self.waiting)
        self.waiting.clear()
        if text and not self._is_object:
            text = msgspec.json.encode({MALFORMED: text}).decode()
        return [{"type": "input_json_delta", "partial_json": text}] if text else []


class MessageEvents:
    """One message. Of several choices the first is told: requests in Anthropic's form never ask for more."""

    def __init__(self) -> None:
        self._id: str | None = None
        self._blocks: deque[_Block] = deque()
        """Those that are not over: the first is being shown, or is about to be."""
        self._place = 0
        self._started = False
        self._kept = 0
        self._calls: list[_ToolUse] = []
        self._refusal: list[str] = []
        self._finish: str | None = None
        self._usage: Usage | None = None

    def chunk(self, chunk: Chunk) -> list[Event]:
        """The events that a chunk makes. Raises StreamFault."""
        try:
            found = msgspec.convert(chunk, CompletionChunk)
            return self._told(found)
        except (msgspec.ValidationError, UnicodeError) as error:
            raise StreamFault(f"an event cannot be understood ({error})") from None

    def end(self) -> list[Event]:
        """The rest of the message, of which nothing more comes; its last event is `message_stop`."""
        if self._id is None:
            raise StreamFault("the answer holds no answer")
        events = self._shown(ended=True)
        # How it ended is known now; what it used is told by the chunk that comes after all others.
        end = ending(self._finish, "".join(self._refusal), calls=bool(self._calls))
        usage = counted(self._usage or Usage())
        return [
            *events,
            {"type": "message_delta", "delta": end, "usage": usage},
            {"type": "message_stop"},
        ]

    # ------------------------------------------------------------ parts

    def _told(self, chunk: CompletionChunk) -> list[Event]:
        self._usage = chunk.usage or self._usage
        choice = next((one for one in chunk.choices or () if not one.index), None)
        if choice is None:
            return []
        events: list[Event] = []
        if self._id is None:
            self._id = chunk.id or ""
            events.append(self._start(self._id, chunk.model or ""))
        delta = choice.delta or Delta()
        for text in texts_in(delta.content):
            self._text("content", text)
        if delta.refusal:
            self._text("refusal", delta.refusal)
            self._refusal.append(delta.refusal)
        for call in delta.tool_calls or ():
            self._call(self._id, call)
        self._finish = choice.finish_reason or self._finish
        return events + self._shown()

    def _start(self, name: str, model: str) -> Event:
        # Chats say at the end what they have read: the counts stand in `message_delta`.
        end = {"stop_reason": None, "stop_sequence": None, "stop_details": None}
        return {
            "type": "message_start",
            "message": {**head(name, model), "content": [], **end, "usage": counted(Usage())},
        }

    def _text(self, kind: str, text: str) -> None:
        last = self._blocks[-1] if self._blocks else None
        if not isinstance(last, _Text) or last.kind != kind:
            last = _Text(kind)
            self._blocks.append(last)
        self._add(last, text)

    def _call(self, answer_id: str, piece: PartialCall) -> None:
        function = piece.function or PartialFunction()
        call = self._known(piece, named=bool(function.name))
        if call is None:
            if not function.name:
                raise StreamFault("a call of a tool has no name")
            number = len(self._calls)
            shown: dict[str, Any] = {
                "type": "tool_use",
                "id": piece.id or call_id(answer_id, number),
                "name": function.name,
                "input": {},
            }
            call = _ToolUse(piece.index, piece.id or "", shown)
            self._calls.append(call)
            self._blocks.append(call)
        given = function.arguments
        if given:
            written = given if isinstance(given, str) else msgspec.json.encode(given).decode()
            self._add(call, written)

    def _known(self, piece: PartialCall, *, named: bool) -> _ToolUse | None:
        """The call that a piece belongs to; None for a new one. Some providers count no calls, and some call each the
        first: there an id of its own tells a new one."""
        found = [call for call in self._calls if piece.index is None or piece.index == call.index]
        same = next((call for call in found if piece.id and piece.id == call.id), None)
        if same is not None or not found:
            return same
        is_new = named and (piece.index is None or bool(piece.id and found[-1].id))
        return None if is_new else found[-1]

    def _add(self, block: _Block, piece: str) -> None:
        self._kept += len(piece)
        if self._kept > _MOST:
            raise StreamFault("the answer is too long to be translated as it comes")
        if not block.over:
            block.add(piece)
        elif piece.strip():
            raise StreamFault("a call of a tool goes on that was over")

    def _shown(self, *, ended: bool = False) -> list[Event]:
        """What can be shown now."""
        events: list[Event] = []
        while self._blocks:
            block = self._blocks[0]
            over = ended or (len(self._blocks) > 1 and block.finished)
            if not self._started:
                self._started = True
                events.append(
                    {"type": "content_block_start", "index": self._place, "content_block": block.shown}
                )
            events += [
                {"type": "content_block_delta", "index": self._place, "delta": delta}
                for delta in block.deltas(last=over)
            ]
            if not over:
                break
            events.append({"type": "content_block_stop", "index": self._place})
            self._blocks.popleft().over = True
            self._started = False
            self._place += 1
        return events


class _Text(_Block):
    """What is said, or why nothing is. `kind`: the field of the chat that it stands in."""

    def __init__(self, kind: str) -> None:
        super().__init__({"type": "text", "text": ""})
        self.kind = kind
