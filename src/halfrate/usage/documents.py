"""JSON of any size, value by value: arrays are given entry by entry, so that no document has to fit into memory.

A file may hold one document, one after another (as pages that were fetched in a loop do), or a line each.
"""

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

_BLOCK: Final = 1 << 18
LARGEST: Final = 1 << 26
"""Bytes that one entry may take, about."""
_SPACE: Final = " \t\r\n"


class NotJsonError(ValueError):
    """The text goes on in a way that JSON does not; `str` says how. What came before was given."""


class _Text:
    """The text that was read and not yet used."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._scan = json.JSONDecoder(strict=False).raw_decode
        self._text = ""
        self._at = 0
        self._over = False
        self._first = True

    def _more(self, least: int = _BLOCK) -> bool:
        """Read on; False at the end."""
        if self._over:
            return False
        block = self._stream.read(max(least, _BLOCK))
        self._over = not block
        text = self._decode(block, final=self._over)
        if self._first and text:
            text, self._first = text.removeprefix("\ufeff"), False
        self._text = self._text[self._at :] + text
        self._at = 0
        return True

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            text, at, end = self._text, self._at, len(self._text)
            while at < end and text[at] in _SPACE:
                at += 1
            self._at = at
            if at < end:
                return text[at]
            if not self._more():
                return ""

    def take(self, wanted: str) -> bool:
        """Pass over a character, if it is the next one."""
        if self.peek() != wanted:
            return False
        self._at += 1
        return True

    def value(self) -> Any:
        """The next value, whole. Raises NotJsonError."""
        self.peek()
        while True:
            try:
                found, end = self._scan(self._text, self._at)
            except RecursionError:
                raise NotJsonError("it is nested too deeply to be read") from None
            except ValueError as fault:
                held = len(self._text) - self._at
                if held > LARGEST:
                    raise NotJsonError(f"one entry is over {LARGEST >> 20} MiB, or broken") from None
                if not self._more(held):
                    raise NotJsonError(_why(fault, held)) from None
                continue
            # A number at the end of what was read may go on in what follows.
            if end == len(self._text) and self._more():
                continue
            self._at = end
            return found


def _why(fault: ValueError, held: int) -> str:
    if held == 0 or (isinstance(fault, json.JSONDecodeError) and fault.pos >= len(fault.doc) - 1):
        return "it ends in the middle"
    if isinstance(fault, json.JSONDecodeError):
        return f"it is no JSON from some place on ({fault.msg})"
    return "it is no JSON from some place on"


def entries(stream: BinaryIO, inside: tuple[str, ...]) -> Iterator[Any]:
    """Every entry of every array at the top, or under one of the names `inside` of an object at the top; and every
    object at the top that has no such array. Raises NotJsonError where the text is not JSON."""
    text = _Text(stream)
    while (first := text.peek()) != "":
        if first == "[":
            text.take("[")
            yield from _array(text)
        elif first == "{":
            text.take("{")
            yield from _object(text, inside)
        else:
            yield text.value()


def _array(text: _Text) -> Iterator[Any]:
    if text.take("]"):
        return
    while True:
        yield text.value()
        if text.take("]"):
            return
        # Helicone's export tool forgets the comma after its last entry, or leaves one too many.
        if not text.take(","):
            raise NotJsonError(
                "it ends in the middle" if text.peek() == "" else "a comma is missing in an array"
            )
        if text.take("]"):
            return


def _object(text: _Text, inside: tuple[str, ...]) -> Iterator[Any]:
    kept: dict[str, Any] = {}
    found = False
    while not text.take("}"):
        name = text.value()
        if not isinstance(name, str) or not text.take(":"):
            raise NotJsonError(
                "it ends in the middle" if text.peek() == "" else "a name is missing in an object"
            )
        if name in inside and text.peek() == "[":
            found = True
            text.take("[")
            yield from _array(text)
        else:
            kept[name] = text.value()
        if not text.take(",") and text.peek() != "}":
            raise NotJsonError(
                "it ends in the middle" if text.peek() == "" else "a comma is missing in an object"
            )
    if not found:
        yield kept
