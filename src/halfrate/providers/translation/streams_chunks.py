"""The middle form of a translated stream: chunks of a chat completion of OpenAI's.

Every family's stream becomes chunks, and chunks become what the caller speaks. All of it is pure: events go in, events
come out, and what is kept between them is small, whatever the length of the answer.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import msgspec

from halfrate.providers.translation.completion import Finish

Chunk: TypeAlias = dict[str, Any]
"""A `chat.completion.chunk`, decoded. What was used stands in one of its own, without choices."""

T = TypeVar("T")

_SENSELESS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class StreamFault(Exception):
    """A stream of which the rest cannot be shown: its provider says that it failed, what it says makes no sense, or it
    is over before its answer is."""


class Chunks(Protocol):
    """Reads one stream of a family's.

    Attributes:
        over: whether the answer is whole, and all of it was given.
    """

    over: bool

    def event(self, data: bytes) -> list[Chunk]:
        """Take the data of an event; the chunks that it makes. Raises StreamFault."""
        ...

    def end(self) -> list[Chunk]:
        """Nothing more comes: the chunks that were waited with. Raises StreamFault for an answer that is not whole."""
        ...


class Head(msgspec.Struct, frozen=True):
    """What all chunks of a completion have in common."""

    id: str
    created: int
    model: str

    def chunk(
        self,
        delta: dict[str, Any],
        *,
        index: int = 0,
        finish: Finish | None = None,
        logprobs: dict[str, Any] | None = None,
    ) -> Chunk:
        """What is new of one choice."""
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return {**self._fields(), "choices": [choice]}

    def used(self, usage: dict[str, Any]) -> Chunk:
        """What was used."""
        return {**self._fields(), "choices": [], "usage": usage}

    def _fields(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
        }


def read(decode: Callable[[bytes], T], data: bytes) -> T:
    """An event, understood. Raises StreamFault."""
    try:
        return decode(data)
    except _SENSELESS as error:
        raise StreamFault(f"an event cannot be understood ({error})") from None


def cut_short() -> StreamFault:
    """The fault of a stream that is over before its answer is."""
    return StreamFault("the stream ended before the answer did")
