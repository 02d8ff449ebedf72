"""The messages of a chat in OpenAI's form, read into turns that every family can be given.

What differs between OpenAI and all three families is settled here. OpenAI takes instructions anywhere, turns in any
order and a conversation that ends with the assistant; the others know one place for instructions, before the
conversation, begin with the user, and would go on writing an assistant's last message instead of answering it.
"""

import binascii
import re
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from halfrate.providers.translation.completion import read_arguments
from halfrate.providers.translation.fields import Fields, Untranslatable

_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,", re.IGNORECASE)
# Not a registered type, and written all the same.
_MISNAMED: Final = {"image/jpg": "image/jpeg"}


class Text(msgspec.Struct, frozen=True):
    """A text; never empty."""

    text: str
    path: str


class Image(msgspec.Struct, frozen=True):
    """An image: its type and base64, or the URL under which it is to be found."""

    path: str
    media_type: str = ""
    data: str = ""
    url: str = ""


class ToolCall(msgspec.Struct, frozen=True):
    """What the assistant asked of a tool."""

    id: str
    name: str
    arguments: dict[str, Any]
    path: str


class ToolResult(msgspec.Struct, frozen=True):
    """What a tool answered, in as many texts as the message had parts."""

    call: ToolCall
    texts: tuple[str, ...]
    path: str


Part: TypeAlias = Text | Image | ToolCall | ToolResult
Role: TypeAlias = Literal["user", "assistant", "tool"]


class Turn(msgspec.Struct, frozen=True):
    """Messages of one side in a row. A tool's turn holds the results of all calls of the turn before, in order."""

    role: Role
    parts: tuple[Part, ...]
    path: str


class Conversation(msgspec.Struct, frozen=True):
    """Instructions, then turns: the first one the user's, the last one not the assistant's."""

    system: tuple[Text, ...]
    turns: tuple[Turn, ...]


class _Reader:
    """Messages in, turns out."""

    def __init__(self, taker: str) -> None:
        self._taker = taker
        self._calls: list[ToolCall] = []
        self._results: dict[str, ToolResult] = {}
        self.system: list[Text] = []
        self.turns: list[Turn] = []

    def read(self, message: Fields) -> None:
        role = message.needed_text("role")
        if role != "tool":
            self.settle()
        if role in {"system", "developer"}:
            # Some models of some families take instructions later on as well; a batch would fail on all others.
            if self.turns:
                raise message.refusal(
                    "role", f"gives instructions where {self._taker} takes none: only first"
                )
            self.system += _texts(message)
        elif role == "user":
            self._turn("user", _content(message), message)
        elif role == "assistant":
            self._assistant(message)
        elif role == "tool":
            self._result(message)
        else:
            raise message.refusal("role", f"has no equivalent with {self._taker}")
        message.finish()

    def settle(self) -> None:
        """End the tools' turn, if it is their turn."""
        for call in self._calls:
            if call.id not in self._results:
                raise Untranslatable(call.path, "has no result in the messages right after it")
        if self._calls:
            results = tuple(self._results[call.id] for call in self._calls)
            self.turns.append(Turn("tool", results, self._calls[0].path))
        self._calls, self._results = [], {}

    def _assistant(self, message: Fields) -> None:
        parts: list[Part] = [*_texts(message)]
        # A refusal is what the assistant said; the other families keep it among the texts.
        refusal = message.text("refusal")
        if refusal:
            parts.append(Text(refusal, message.at("refusal")))
        self._calls = [_call(call) for call in message.each("tool_calls")]
        if len({call.id for call in self._calls}) < len(self._calls):
            raise message.refusal("tool_calls", "uses one id for two calls")
        # As the SDK writes a message of its own back into the conversation.
        if message.take("annotations"):
            raise message.refusal("annotations", f"has no equivalent with {self._taker}")
        self._turn("assistant", [*parts, *self._calls], message)

    def _result(self, message: Fields) -> None:
        call_id = message.needed_text("tool_call_id")
        call = next((call for call in self._calls if call.id == call_id), None)
        if call is None or call_id in self._results:
            raise message.refusal("tool_call_id", "answers no call that waits for its result")
        self._results[call_id] = ToolResult(
            call, tuple(part.text for part in _texts(message)), message.at("content")
        )

    def _turn(self, role: Role, parts: Sequence[Part], message: Fields) -> None:
        if not parts:
            raise message.refusal("content", f"is empty, which {self._taker} refuses")
        if self.turns and self.turns[-1].role == role:
            last = self.turns.pop()
            self.turns.append(Turn(role, (*last.parts, *parts), last.path))
        elif not self.turns and role != "user":
            raise message.refusal(
                "role", f"begins the conversation, which with {self._taker} is the user's to do"
            )
        else:
            self.turns.append(Turn(role, tuple(parts), message.path))


def conversation(body: Fields) -> Conversation:
    """The messages of a request."""
    reader = _Reader(body.taker)
    for message in body.each("messages"):
        reader.read(message)
    reader.settle()
    if not reader.turns:
        raise body.refusal("messages", "has no message of the user's")
    last = reader.turns[-1]
    if last.role == "assistant":
        raise Untranslatable(
            f"{last.path}.role", f"ends the conversation: {body.taker} would go on writing it, not answer it"
        )
    return Conversation(tuple(reader.system), tuple(reader.turns))


def _texts(message: Fields) -> list[Text]:
    """The content of a message that holds nothing but text; empty ones say nothing."""
    texts: list[Text] = []
    for part in _content(message):
        if not isinstance(part, Text):
            raise Untranslatable(part.path, "is an image where only text can stand")
        texts.append(part)
    return texts


def _content(message: Fields) -> "list[Text | Image]":
    content = message.take("content")
    path = message.at("content")
    if content is None or isinstance(content, str):
        return [Text(content, path)] if content else []
    parts: list[Text | Image] = []
    for part in Fields({"content": content}, message.taker, message.path).each("content"):
        kind = part.needed_text("type")
        if kind == "image_url":
            parts.append(_image(part))
        elif kind in {"text", "refusal"}:
            text = part.needed_text(kind)
            if text:
                parts.append(Text(text, part.at(kind)))
        else:
            raise part.refusal("type", f"is {kind!r}, which has no equivalent with {message.taker}")
        part.finish()
    return parts


def _image(part: Fields) -> Image:
    image = part.needed_inner("image_url")
    url = image.needed_text("url")
    detail = image.take("detail")
    if detail is not None and detail != "auto":
        raise image.refusal("detail", f"has no equivalent with {part.taker}")
    image.finish()
    path = image.at("url")
    if not url.lower().startswith("data:"):
        return Image(path, url=url)
    head = _DATA_URL.match(url)
    if head is None:
        raise Untranslatable(path, "is a data URL of a form other than data:<type>;base64,<data>")
    data = url[head.end() :]
    if not holds_base64(data):
        raise Untranslatable(path, "holds no base64 after its comma")
    media_type = head[1].lower()
    return Image(path, media_type=_MISNAMED.get(media_type, media_type), data=data)


def holds_base64(data: str) -> bool:
    """Whether a text is base64, and of something."""
    try:
        return bool(binascii.a2b_base64(data, strict_mode=True))
    except ValueError:
        return False


def _call(call: Fields) -> ToolCall:
    call_id = call.needed_text("id")
    kind = call.text("type") or "function"
    if kind != "function":
        raise call.refusal("type", f"is {kind!r}, which has no equivalent with {call.taker}")
    function = call.needed_inner("function")
    name = function.needed_text("name")
    arguments = read_arguments(function.text("arguments") or "")
    if arguments is None:
        raise function.refusal("arguments", "does not hold a JSON object")
    function.finish()
    call.finish()
    return ToolCall(call_id, name, arguments, call.path)
