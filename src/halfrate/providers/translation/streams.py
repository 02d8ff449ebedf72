"""Streams of providers in the form that a caller speaks, translated as they come.

Events go in one by one, and out comes what can be said so far. What comes out, put together, is what the translation of
the whole answer says; only the text of arguments is as the model wrote it, where a whole answer's is written anew, and
what is no JSON because it was cut off stays that.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

from halfrate.providers.base import StreamForm
from halfrate.providers.translation.streams_anthropic import AnthropicChunks
from halfrate.providers.translation.streams_chunks import Chunk, Chunks, StreamFault
from halfrate.providers.translation.streams_gemini import GeminiChunks
from halfrate.providers.translation.streams_messages import MessageEvents
from halfrate.providers.translation.streams_openai import OpenAIChunks
from halfrate.providers.translation.streams_responses import ResponseEvents

__all__ = ["Spoken", "StreamFault", "Translation"]

Spoken: TypeAlias = Literal["chat", "messages", "responses"]
"""What a caller speaks: OpenAI's chat completions, Anthropic's Messages, or OpenAI's responses."""

_CHUNKS: Final[dict[StreamForm, Callable[[int], Chunks]]] = {
    "openai": OpenAIChunks,
    "anthropic": AnthropicChunks,
    "gemini": GeminiChunks,
}


class _ChatEvents:
    """Chunks for a caller who speaks OpenAI. `usage`: whether the last is to tell what was used."""

    def __init__(self, *, usage: bool) -> None:
        self._usage = usage
        self._used: Chunk | None = None

    def chunk(self, chunk: Chunk) -> list[Chunk]:
        rest = dict(chunk)
        usage = rest.pop("usage", None)
        if usage is not None:
            self._used = {**rest, "choices": [], "usage": usage}
        if not chunk.get("choices"):
            return []
        return [{**rest, "usage": None} if self._usage else rest]

    def end(self) -> list[Chunk]:
        return [self._used] if self._usage and self._used is not None else []


class Translation:
    """One stream.

    Args:
        form: whose events come in.
        spoken: whose go out. To a chat belongs a "[DONE]" behind the last, which is no document.
        created: seconds since 1970, where the provider's own events do not say it.
        usage: whether a chat is to tell what was used; others always do.
        asked: the request, where a response is to say some of its fields again.

    Attributes:
        over: whether everything was said.
    """

    def __init__(
        self,
        form: StreamForm,
        spoken: Spoken,
        *,
        created: int,
        usage: bool,
        asked: Mapping[str, Any] | None = None,
    ) -> None:
        self.over = False
        self._chunks = _CHUNKS[form](created)
        match spoken:
            case "messages":
                self._events = MessageEvents()
            case "responses":
                self._events = ResponseEvents(asked or {})
            case _:
                self._events = _ChatEvents(usage=usage)

    def event(self, data: bytes) -> list[dict[str, Any]]:
        """The events that an event makes. Raises StreamFault."""
        return [] if self.over else self._said(self._chunks.event(data))

    def end(self) -> list[dict[str, Any]]:
        """The last events, where nothing more comes. Raises StreamFault for an answer that is not whole."""
        return [] if self.over else self._said(self._chunks.end())

    def _said(self, chunks: list[Chunk]) -> list[dict[str, Any]]:
        events = [event for chunk in chunks for event in self._events.chunk(chunk)]
        if self._chunks.over:
            events += self._events.end()
            self.over = True
        return events
