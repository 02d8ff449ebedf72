"""A stream of OpenAI's chat completions, in any of its dialects, checked for how it ends."""

from typing import Any, cast

import msgspec

from halfrate.providers.translation.streams_chunks import Chunk, StreamFault, cut_short, read

_DONE = b"[DONE]"


class _Choice(msgspec.Struct, gc=False):
    finish_reason: str | None = None


class _Seen(msgspec.Struct):
    """`error`: an object with OpenAI, a text with others. `object`: "error" where the event itself is one."""

    choices: list[_Choice] | None = None
    error: Any = None
    object: str | None = None
    message: Any = None


_seen = msgspec.json.Decoder(_Seen).decode
_chunk = msgspec.json.Decoder(dict[str, Any]).decode


class OpenAIChunks:
    """One completion."""

    def __init__(self, created: int) -> None:
        self.over = False
        self._begun = False
        self._finished = False

    def event(self, data: bytes) -> list[Chunk]:
        if data == _DONE:
            if not self._begun:
                raise StreamFault("the answer holds no answer")
            self.over = True
            return []
        seen = read(_seen, data)
        if seen.error or seen.object == "error":
            raise StreamFault(_told(seen.error or seen.message))
        for choice in seen.choices or ():
            self._begun = True
            self._finished = self._finished or bool(choice.finish_reason)
        return [read(_chunk, data)]

    def end(self) -> list[Chunk]:
        # Not everybody sends "[DONE]"; why it ended is said by everybody.
        if not (self.over or self._finished):
            raise cut_short()
        self.over = True
        return []


def _told(error: Any) -> str:
    """What an error says, whatever its form."""
    if isinstance(error, dict):
        fields = cast("dict[str, Any]", error)
        found = [str(fields[name]) for name in ("type", "code", "message") if fields.get(name)]
        return ": ".join(found) or "an error"
    return str(error or "an error")
