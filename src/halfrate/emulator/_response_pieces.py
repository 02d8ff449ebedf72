"""A finished response of OpenAI's as the events of its stream (API reference, "Streaming events")."""

from collections.abc import Iterator

import msgspec

from halfrate.emulator._pieces import bits, words
from halfrate.emulator._wire import Document, documents


def response_events(document: Document) -> Iterator[bytes]:
    """What begins, bit by bit what is said and called, and the whole at the end."""
    for number, (kind, fields) in enumerate(_events(document)):
        data = msgspec.json.encode({"type": kind, "sequence_number": number, **fields})
        yield b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def _events(document: Document) -> Iterator[tuple[str, Document]]:
    open_: Document = {**document, "status": "in_progress", "output": [], "usage": None}
    yield "response.created", {"response": open_}
    yield "response.in_progress", {"response": open_}
    for place, item in enumerate(documents(document["output"])):
        yield from _item(place, item)
    yield f"response.{document['status']}", {"response": document}


def _item(place: int, item: Document) -> Iterator[tuple[str, Document]]:
    where: Document = {"output_index": place, "item_id": item["id"]}
    if item["type"] == "message":
        yield "response.output_item.added", _at(place, {**item, "status": "in_progress", "content": []})
        for index, part in enumerate(documents(item["content"])):
            yield from _part({**where, "content_index": index}, part)
    elif item["type"] == "function_call":
        yield "response.output_item.added", _at(place, {**item, "status": "in_progress", "arguments": ""})
        for bit in filter(None, bits(item["arguments"])):
            yield "response.function_call_arguments.delta", {**where, "delta": bit}
        done = {"name": item["name"], "arguments": item["arguments"]}
        yield "response.function_call_arguments.done", {**where, **done}
    else:
        yield "response.output_item.added", _at(place, item)
    yield "response.output_item.done", _at(place, item)


def _part(where: Document, part: Document) -> Iterator[tuple[str, Document]]:
    field = "text" if part["type"] == "output_text" else "refusal"
    kind = f"response.{part['type']}"
    more: Document = {"logprobs": []} if field == "text" else {}
    yield "response.content_part.added", {**where, "part": {**part, field: ""}}
    for word in words(part[field]):
        yield f"{kind}.delta", {**where, "delta": word, **more}
    yield f"{kind}.done", {**where, field: part[field], **more}
    yield "response.content_part.done", {**where, "part": part}


def _at(place: int, item: Document) -> Document:
    return {"output_index": place, "item": item}
