"""How an answer comes apart that is streamed: texts word by word, JSON in bits of a few bytes."""

from collections.abc import Iterator

import msgspec

from halfrate.emulator._wire import Document, documents

_JSON_BITS = 16


def words(text: str) -> list[str]:
    """A text in pieces that make it up again."""
    first, *rest = text.split(" ")
    return [piece for piece in (first, *(f" {word}" for word in rest)) if piece]


def bits(text: str) -> list[str]:
    """JSON as a model writes it: nothing at first, then a little more at a time."""
    return ["", *(text[at : at + _JSON_BITS] for at in range(0, len(text), _JSON_BITS))]


def event(document: Document) -> bytes:
    """A server-sent event without a name."""
    return b"data: " + msgspec.json.encode(document) + b"\n\n"


def choice_deltas(message: Document) -> Iterator[Document]:
    """A message of OpenAI's as what its chunks add to each other."""
    calls = list(documents(message.get("tool_calls")))
    yield {"role": "assistant", "content": None if calls else ""}
    for word in words(str(message.get("content") or "")):
        yield {"content": word}
    if message.get("refusal"):
        yield {"refusal": message["refusal"]}
    for number, call in enumerate(calls):
        function: Document = call["function"]
        head = {"index": number, "id": call["id"], "type": "function"}
        written = bits(function["arguments"])
        yield {"tool_calls": [{**head, "function": {"name": function["name"], "arguments": written[0]}}]}
        for bit in written[1:]:
            yield {"tool_calls": [{"index": number, "function": {"arguments": bit}}]}
