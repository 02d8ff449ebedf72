"""A stream of Gemini's (`streamGenerateContent?alt=sse`) as chunks of a chat completion; Vertex AI's is the same.

Each event is a response of its own, with what is new of each candidate; a call of a function comes in one piece. Counts
are of all so far. Nothing says that the last event was the last: the answer is whole when the stream is over and every
candidate has said why it ended (reference of GenerateContentResponse, as of 2026-11). Some models say so in each event.
"""

from typing import Final

import msgspec

from halfrate.providers.translation.completion import tool_call, usage_of
from halfrate.providers.translation.gemini import (
    Answer,
    Candidate,
    Feedback,
    Usage,
    blocked,
    call_id,
    counted,
    ending,
    logprobs_of,
    said_in,
)
from halfrate.providers.translation.streams_chunks import Chunk, Head, StreamFault, cut_short, read

_MOST: Final = 128
"""Candidates that an answer may have."""


class _Error(msgspec.Struct):
    message: str = ""
    status: str = ""


class _Event(Answer, rename="camel"):
    response_id: str = ""
    model_version: str = ""
    error: _Error | None = None


_event = msgspec.json.Decoder(_Event).decode


class _Choice:
    """What is known of a candidate so far."""

    def __init__(self) -> None:
        self.says_text = False
        self.calls = 0
        self.reason: str | None = None
        self.message: str | None = None


class GeminiChunks:
    """One answer. `created`: seconds since 1970, for the chunks."""

    def __init__(self, created: int) -> None:
        self.over = False
        self._created = created
        self._head: Head | None = None
        self._choices: dict[int, _Choice] = {}
        self._feedback: Feedback | None = None
        self._usage: Usage | None = None

    def event(self, data: bytes) -> list[Chunk]:
        event = read(_event, data)
        if event.error is not None:
            told = (event.error.status, event.error.message)
            raise StreamFault(": ".join(filter(None, told)) or "an error")
        if self._head is None:
            self._head = Head(event.response_id, self._created, event.model_version)
        self._feedback = event.prompt_feedback or self._feedback
        self._usage = _later(self._usage, event.usage_metadata)
        return [
            chunk
            for place, candidate in enumerate(event.candidates or ())
            for chunk in self._said(self._head, candidate, place)
        ]

    def end(self) -> list[Chunk]:
        if self.over:
            return []
        head = self._head
        if head is None or any(choice.reason is None for choice in self._choices.values()):
            raise cut_short()
        chunks: list[Chunk] = []
        for index, choice in sorted(self._choices.items()):
            chunks += _finish(head, index, choice)
        if not chunks:
            refusal = {"role": "assistant", "refusal": blocked(self._feedback)}
            chunks = [head.chunk(refusal), head.chunk({}, finish="content_filter")]
        used = counted(self._usage)
        if used is not None:
            chunks.append(head.used(usage_of(used)))
        self.over = True
        return chunks

    def _said(self, head: Head, candidate: Candidate, place: int) -> list[Chunk]:
        index = place if candidate.index is None else candidate.index
        chunks = self._introduced(head, index)
        choice = self._choices[index]
        delta: dict[str, object] = {}
        choice.reason = candidate.finish_reason or choice.reason
        choice.message = candidate.finish_message or choice.message
        texts, asked = said_in(candidate)
        text = "".join(texts)
        if text or (texts and not choice.says_text):
            # An answer may be a text without a letter, which is another than none.
            choice.says_text = True
            delta["content"] = text
        calls: list[dict[str, object]] = []
        for call in asked:
            name = call.id or call_id(head.id, index, choice.calls)
            calls.append({"index": choice.calls, **tool_call(name, call.name, call.args or {})})
            choice.calls += 1
        if calls:
            delta["tool_calls"] = calls
        logprobs = logprobs_of(candidate)
        if delta or logprobs:
            chunks.append(head.chunk(delta, index=index, logprobs=logprobs))
        return chunks

    def _introduced(self, head: Head, index: int) -> list[Chunk]:
        """A candidate that was not heard of before, and those before it: chats number their choices as they begin."""
        if not 0 <= index < _MOST:
            raise StreamFault(f"there is a candidate {index}")
        new = range(len(self._choices), index + 1)
        self._choices |= {number: _Choice() for number in new}
        return [head.chunk({"role": "assistant"}, index=number) for number in new]


def _finish(head: Head, index: int, choice: _Choice) -> list[Chunk]:
    finish, refusal = ending(choice.reason, choice.message, calls=choice.calls > 0)
    chunks: list[Chunk] = []
    if refusal is not None:
        chunks.append(head.chunk({"refusal": refusal}, index=index))
    elif not (choice.says_text or choice.calls):
        chunks.append(head.chunk({"content": ""}, index=index))
    return [*chunks, head.chunk({}, index=index, finish=finish)]


def _later(before: Usage | None, now: Usage | None) -> Usage | None:
    """Counts are of all so far, and one that is left out is as it was."""
    if before is None or now is None:
        return now or before
    told = {name: value for name, value in msgspec.structs.asdict(now).items() if value is not None}
    return msgspec.structs.replace(before, **told)
