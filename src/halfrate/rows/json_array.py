"""The elements of an array that is all a JSON object has, one by one as the object arrives: `{"requests": [...]}`.

What is found here is where each element begins and ends; whether it is JSON is for whoever decodes it. An object that
is malformed in a way that moves those places is refused there at the latest: brackets that do not match stay within
the bytes of one element.
"""

import enum
import re
from typing import Final

import msgspec


class WrongDocument(Exception):
    """It is no such object. `str(error)` is for whoever wrote it."""


class ElementTooLong(WrongDocument):
    """An element is longer than what is taken."""


class _Place(enum.Enum):
    """Where in the object: what has to come next."""

    START = enum.auto()
    FIRST_KEY = enum.auto()
    KEY = enum.auto()
    COLON = enum.auto()
    ARRAY = enum.auto()
    FIRST_ELEMENT = enum.auto()
    ELEMENT = enum.auto()
    BEHIND_ELEMENT = enum.auto()
    BEHIND_ARRAY = enum.auto()
    END = enum.auto()


_NEXT: Final[dict[tuple[_Place, bytes], _Place]] = {
    (_Place.START, b"{"): _Place.FIRST_KEY,
    (_Place.FIRST_KEY, b"}"): _Place.END,
    (_Place.COLON, b":"): _Place.ARRAY,
    (_Place.ARRAY, b"["): _Place.FIRST_ELEMENT,
    (_Place.FIRST_ELEMENT, b"]"): _Place.BEHIND_ARRAY,
    (_Place.BEHIND_ELEMENT, b","): _Place.ELEMENT,
    (_Place.BEHIND_ELEMENT, b"]"): _Place.BEHIND_ARRAY,
    (_Place.BEHIND_ARRAY, b","): _Place.KEY,
    (_Place.BEHIND_ARRAY, b"}"): _Place.END,
}
_KEYS: Final = frozenset({_Place.FIRST_KEY, _Place.KEY})
_ELEMENTS: Final = frozenset({_Place.FIRST_ELEMENT, _Place.ELEMENT})
_QUOTE: Final = ord('"')
_OPENING: Final = b"{["
_DEEPEST: Final = 500
"""Brackets within brackets, of an element."""
_SHOWN: Final = 64
"""Characters of somebody's text in a message."""

# None of them looks back, whatever is in between: a block of a mebibyte takes a millisecond or two.
_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
_SCALAR: Final = re.compile(rb"[^ \t\r\n,\]}]*+")
_TEXT: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_FLAT: Final = re.compile(
    rb'[^"{}\[\]]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"{}\[\]]*+)*+',
    re.DOTALL,
)


class ArrayScanner:
    """Takes an object in pieces of any size, and gives the elements of its array, byte for byte.

    Args:
        key: what the array is called; nothing else may be in the object.
        longest: bytes of one element, which is all of the object that is ever in memory beside the last piece.
    """

    def __init__(self, key: str, longest: int) -> None:
        self.count = 0
        """Elements that were found so far."""
        self._key = key
        self._longest = longest
        self._place = _Place.START
        self._named = False
        # The value that is being collected.
        self._pieces: list[bytes] = []
        self._size = 0
        self._scalar = False
        self._depth = 0
        self._quoted = False
        self._escaped = False

    def feed(self, data: bytes) -> list[bytes]:
        """The elements that end in `data`. Raises WrongDocument."""
        found: list[bytes] = []
        at = 0
        while at < len(data):
            if not self._pieces:
                at = _end(_SPACE, data, at)
                if at < len(data):
                    at = self._step(data[at : at + 1], at)
                continue
            start = at
            at, whole = self._through(data, at)
            self._keep(data[start:at])
            if whole:
                value = b"".join(self._pieces)
                self._pieces = []
                if self._place in _KEYS:
                    self._name(value)
                else:
                    found.append(value)
                    self.count += 1
                    self._place = _Place.BEHIND_ELEMENT
        return found

    def close(self) -> None:
        """Nothing comes any more. Raises WrongDocument if that is too early."""
        if self._place is not _Place.END:
            raise WrongDocument("The body is not valid JSON: it ends before its end")
        if not self._named:
            raise WrongDocument(f"{self._key}: Field required")

    def _step(self, byte: bytes, at: int) -> int:
        """Take the byte that stands between values, or begin a value with it; where to go on."""
        behind = _NEXT.get((self._place, byte))
        if behind is not None:
            self._place = behind
        elif (self._place in _KEYS and byte == b'"') or (self._place in _ELEMENTS and byte not in b",]}"):
            self._pieces, self._size = [byte], 1
            self._quoted = byte == b'"'
            self._depth = int(byte in _OPENING)
            self._scalar = not (self._quoted or self._depth)
            self._escaped = False
        elif self._place is _Place.START:
            raise WrongDocument("The body should be a JSON object")
        elif self._place is _Place.ARRAY:
            raise WrongDocument(f"{self._key}: Input should be a valid list")
        else:
            raise WrongDocument(f"The body is not valid JSON: {byte!r} is out of place")
        return at + 1

    def _through(self, data: bytes, at: int) -> tuple[int, bool]:
        """As far as the value that is being collected goes in `data`, and whether that is its end."""
        if self._scalar:
            at = _end(_SCALAR, data, at)
            return at, at < len(data)
        while at < len(data):
            if self._quoted:
                at = self._through_text(data, at)
            else:
                at = _end(_FLAT, data, at)
                if at == len(data):
                    break
                byte = data[at]
                at += 1
                if byte == _QUOTE:
                    # A text that goes on in the next piece.
                    self._quoted = True
                else:
                    self._depth += 1 if byte in _OPENING else -1
                    if self._depth > _DEEPEST:
                        raise WrongDocument(f"{self._key}.{self.count}: nested deeper than {_DEEPEST}")
            if not (self._quoted or self._depth):
                return at, True
        return at, False

    def _through_text(self, data: bytes, at: int) -> int:
        if self._escaped:
            self._escaped = False
            at += 1
        at = _end(_TEXT, data, at)
        if at < len(data):
            # The quote that ends the text, or a backslash whose character is in the next piece.
            self._quoted = data[at] != _QUOTE
            self._escaped = self._quoted
            at += 1
        return at

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._longest:
            raise ElementTooLong(f"An element of {self._key} is longer than {self._longest:,} bytes")
        self._pieces.append(piece)

    def _name(self, text: bytes) -> None:
        try:
            name = msgspec.json.decode(text, type=str)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise WrongDocument("The body is not valid JSON: the name of a field is not") from None
        if name != self._key:
            raise WrongDocument(f"{name[:_SHOWN]}: Extra inputs are not permitted")
        if self._named:
            raise WrongDocument(f"{name}: Field given twice")
        self._named = True
        self._place = _Place.COLON


def _end(pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
    """Where a pattern that matches everywhere, if only nothing, ends."""
    match = pattern.match(data, at)
    return at if match is None else match.end()
