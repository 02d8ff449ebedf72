"""A stream of Anthropic's Messages API as chunks of a chat completion.

Facts are from Anthropic's guide to streaming messages and the types of its SDK 2.12.0. What the model thinks is left
out, as it is of whole answers; so are events and blocks of kinds that nobody knows yet.
"""

from typing import Any

import msgspec

from halfrate.providers.translation.anthropic import Details, Usage, counted, ending
from halfrate.providers.translation.completion import usage_of
from halfrate.providers.translation.streams_chunks import Chunk, Head, StreamFault, cut_short, read


class _Kind(msgspec.Struct, gc=False):
    type: str


class _Message(msgspec.Struct):
    id: str = ""
    model: str = ""
    usage: dict[str, Any] | None = None


class _MessageStart(msgspec.Struct):
    message: _Message


class _BlockStart(msgspec.Struct):
    index: int
    content_block: msgspec.Raw


class _Text(msgspec.Struct, gc=False):
    text: str = ""


class _ToolUse(msgspec.Struct):
    id: str
    name: str
    input: dict[str, Any] | None = None


class _BlockDelta(msgspec.Struct, gc=False):
    index: int
    delta: msgspec.Raw


class _Json(msgspec.Struct, gc=False):
    partial_json: str = ""


class _BlockStop(msgspec.Struct, gc=False):
    index: int


class _End(msgspec.Struct):
    stop_reason: str | None = None
    stop_details: Details | None = None


class _MessageDelta(msgspec.Struct):
    delta: _End | None = None
    usage: dict[str, Any] | None = None


class _Error(msgspec.Struct):
    type: str = ""
    message: str = ""


class _Failed(msgspec.Struct):
    error: _Error


_kind = msgspec.json.Decoder(_Kind).decode
_message_start = msgspec.json.Decoder(_MessageStart).decode
_block_start = msgspec.json.Decoder(_BlockStart).decode
_text = msgspec.json.Decoder(_Text).decode
_tool_use = msgspec.json.Decoder(_ToolUse).decode
_block_delta = msgspec.json.Decoder(_BlockDelta).decode
_json = msgspec.json.Decoder(_Json).decode
_block_stop = msgspec.json.Decoder(_BlockStop).decode
_message_delta = msgspec.json.Decoder(_MessageDelta).decode
_failed = msgspec.json.Decoder(_Failed).decode


class _Call:
    """A call of a tool whose arguments are being written. `given`: those that stood at its beginning."""

    def __init__(self, number: int, given: dict[str, Any]) -> None:
        self.number = number
        self.given = given
        self.written = False


class AnthropicChunks:
    """One message. `created`: seconds since 1970, for the chunks."""

    def __init__(self, created: int) -> None:
        self.over = False
        self._created = created
        self._head: Head | None = None
        self._usage: dict[str, Any] = {}
        self._reason: str | None = None
        self._details: Details | None = None
        self._ended = False
        self._says_text = False
        self._calls = 0
        self._open: dict[int, _Call | None] = {}
        """The blocks that are being written by their places: calls, and None for texts."""

    def event(self, data: bytes) -> list[Chunk]:
        match read(_kind, data).type:
            case "content_block_delta":
                return self._delta(read(_block_delta, data))
            case "content_block_start":
                return self._start(read(_block_start, data))
            case "content_block_stop":
                call = self._open.pop(read(_block_stop, data).index, None)
                return [] if call is None else self._closed(call)
            case "message_start":
                return self._begin(read(_message_start, data).message)
            case "message_delta":
                self._note(read(_message_delta, data))
                return []
            case "message_stop":
                return self._finish()
            case "error":
                error = read(_failed, data).error
                raise StreamFault(": ".join(filter(None, (error.type, error.message))) or "an error")
            case _:
                return []

    def end(self) -> list[Chunk]:
        if self.over:
            return []
        if not self._ended:
            raise cut_short()
        return self._finish()

    # ------------------------------------------------------------ parts

    def _begin(self, message: _Message) -> list[Chunk]:
        self._head = Head(message.id, self._created, message.model)
        self._usage = dict(message.usage or {})
        return [self._head.chunk({"role": "assistant"})]

    @property
    def _begun(self) -> Head:
        if self._head is None:
            raise StreamFault("an answer that did not begin goes on")
        return self._head

    def _start(self, block: _BlockStart) -> list[Chunk]:
        kind = read(_kind, block.content_block).type
        if kind == "text":
            self._open[block.index] = None
            text = read(_text, block.content_block).text
            if not text and self._says_text:
                return []
            # An answer may be a text without a letter, which is another than none.
            self._says_text = True
            return [self._begun.chunk({"content": text})]
        if kind == "tool_use":
            use = read(_tool_use, block.content_block)
            self._open[block.index] = _Call(self._calls, use.input or {})
            function = {"name": use.name, "arguments": ""}
            call = {"index": self._calls, "id": use.id, "type": "function", "function": function}
            self._calls += 1
            return [self._begun.chunk({"tool_calls": [call]})]
        return []

    def _delta(self, event: _BlockDelta) -> list[Chunk]:
        if event.index not in self._open:
            # Of a block that is left out.
            return []
        call = self._open[event.index]
        kind = read(_kind, event.delta).type
        if call is None and kind == "text_delta":
            text = read(_text, event.delta).text
            return [self._begun.chunk({"content": text})] if text else []
        if call is not None and kind == "input_json_delta":
            written = read(_json, event.delta).partial_json
            call.written = call.written or bool(written)
            return [self._written(call, written)] if written else []
        return []

    def _closed(self, call: _Call) -> list[Chunk]:
        """A call without arguments has none of them in its stream; with OpenAI they are an empty object."""
        return [] if call.written else [self._written(call, msgspec.json.encode(call.given).decode())]

    def _written(self, call: _Call, arguments: str) -> Chunk:
        return self._begun.chunk(
            {"tool_calls": [{"index": call.number, "function": {"arguments": arguments}}]}
        )

    def _note(self, event: _MessageDelta) -> None:
        """The counts of an event are of all so far, and what it leaves out is as it was."""
        self._usage |= {name: value for name, value in (event.usage or {}).items() if value is not None}
        end = event.delta or _End()
        self._ended = True
        self._reason = end.stop_reason or self._reason
        self._details = end.stop_details or self._details

    def _finish(self) -> list[Chunk]:
        head = self._begun
        chunks = [chunk for call in self._open.values() if call is not None for chunk in self._closed(call)]
        self._open.clear()
        finish, refusal = ending(self._reason, self._details, calls=self._calls > 0)
        if refusal is not None:
            chunks.append(head.chunk({"refusal": refusal}))
        elif not (self._says_text or self._calls):
            chunks.append(head.chunk({"content": ""}))
        chunks.append(head.chunk({}, finish=finish))
        if self._usage:
            used = counted(read(_usage, msgspec.json.encode(self._usage)))
            if used is not None:
                chunks.append(head.used(usage_of(used)))
        self.over = True
        return chunks


_usage = msgspec.json.Decoder(Usage).decode
