"""What the fake provider keeps of a batch, and the result file it makes of that.

Of each request only the custom_id and the checksum and length of its prompt are kept, in a small index file, so that
the request file can be deleted at once and a run of ten million rows fits on a disk. Results are rendered from the
index when they are asked for, in an order of their own, by filling ids into prepared templates.
"""

import mmap
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from .rows import token_of

Rendering = Callable[[bytes, int, int], bytes]

# One record of the index: checksum and length of the prompt, length of the custom_id that follows.
_RECORD = struct.Struct("<IIB")


class _Part(msgspec.Struct):
    text: str = ""


class _Message(msgspec.Struct):
    content: str | list[_Part]


class _Body(msgspec.Struct):
    model: str
    messages: list[_Message]


class _OpenAIRequest(msgspec.Struct):
    custom_id: str
    body: _Body


class _AnthropicRequest(msgspec.Struct):
    custom_id: str
    params: _Body


class _AnthropicBatch(msgspec.Struct):
    requests: list[msgspec.Raw]


@dataclass(frozen=True)
class Index:
    """What is known of one batch."""

    path: Path
    model: str
    rows: int
    input_tokens: int
    output_tokens: int


# Texts as they stand inside a JSON string, so with their escapes; %08x takes the token of the prompt.
_ANSWERS = (
    (
        rb"The row is about a delivery (ref-%08x). The writer\u2019s tone is calm, and the main complaint is that "
        rb"nobody answered the \"urgent\" letter.\nCategory: logistics"
    ),
    (
        "Category: billing\\nReference: ref-%08x\\nThe sum of 1 250,00 € is disputed; the customer from Zürich asks "
        "for a corrected invoice before the end of the month."
    ).encode(),
    (
        rb"{\"label\": \"product\", \"ref\": \"ref-%08x\", \"confidence\": 0.87, \"reason\": \"It\u2019s about the "
        rb"battery and the hinge, not about the order itself.\"}"
    ),
    (
        rb"A short summary, ref-%08x: the figures in the report and in its summary differ. \u201cAs soon as "
        rb"possible\u201d is the only date that is given.\n\nNo action needed."
    ),
)
_ANSWER_TOKENS = tuple(len(answer) // 4 for answer in _ANSWERS)

_OPENAI_LINE = (
    b'{"id": "batch_req_%%012x", "custom_id": "%%b", "response": {"status_code": 200, "request_id": "%%016x", "body": '
    b'{"id": "chatcmpl-%%024x", "object": "chat.completion", "created": 1763000000, "model": "%b", "choices": '
    b'[{"index": 0, "message": {"role": "assistant", "content": "%b", "refusal": null, "annotations": []}, '
    b'"logprobs": null, "finish_reason": "stop"}], "usage": {"prompt_tokens": %%d, "completion_tokens": %d, '
    b'"total_tokens": %%d, "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0}, '
    b'"completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, '
    b'"rejected_prediction_tokens": 0}}, "service_tier": "default", "system_fingerprint": "fp_3f58d112f7"}}, '
    b'"error": null}\n'
)
_ANTHROPIC_LINE = (
    b'{"custom_id":"%%b","result":{"type":"succeeded","message":{"model":"%b","id":"msg_01%%022x","type":"message",'
    b'"role":"assistant","content":[{"type":"text","text":"%b"}],"stop_reason":"end_turn","stop_sequence":null,'
    b'"usage":{"input_tokens":%%d,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"cache_creation":'
    b'{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"output_tokens":%d,"service_tier":"batch"}}}}\n'
)


def _prompt(body: _Body) -> bytes:
    """The text of the last message, whichever way the client wrote it."""
    content = body.messages[-1].content
    text = content if isinstance(content, str) else "".join(part.text for part in content)
    return text.encode()


def _file_part(data: mmap.mmap, boundary: bytes) -> tuple[int, int]:
    """Where the part named `file` begins and ends in a multipart body."""
    delimiter = b"--" + boundary
    at = data.find(delimiter)
    while at >= 0:
        head_end = data.find(b"\r\n\r\n", at)
        following = data.find(b"\r\n" + delimiter, head_end + 2)
        if head_end < 0 or following < 0:
            break
        if b'name="file"' in data[at:head_end]:
            return head_end + 4, following
        at = following + 2
    raise ValueError("the upload has no part named file")


def _openai_requests(data: mmap.mmap, boundary: bytes) -> Iterator[tuple[str, _Body]]:
    start, end = _file_part(data, boundary)
    decode = msgspec.json.Decoder(_OpenAIRequest).decode
    data.seek(start)
    while data.tell() < end:
        line = data.readline()
        request = decode(line[: end - data.tell()] if data.tell() > end else line)
        yield request.custom_id, request.body


def _anthropic_requests(data: mmap.mmap) -> Iterator[tuple[str, _Body]]:
    decode = msgspec.json.Decoder(_AnthropicRequest).decode
    for raw in msgspec.json.Decoder(_AnthropicBatch).decode(data).requests:
        request = decode(raw)
        yield request.custom_id, request.params


def read_upload(body: Path, boundary: bytes | None, index: Path) -> Index:
    """Turn what the client sent (multipart for OpenAI, one object for Anthropic) into the index of a batch."""
    rows = input_tokens = output_tokens = 0
    model = ""
    seen: set[str] = set()
    with (
        body.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        index.open("wb") as out,
    ):
        for custom_id, request in (
            _anthropic_requests(data) if boundary is None else _openai_requests(data, boundary)
        ):
            if custom_id in seen or (model and request.model != model):
                raise ValueError(
                    f"request {custom_id}: the id is used twice or the model differs from the first"
                )
            seen.add(custom_id)
            model = request.model
            prompt, name = _prompt(request), custom_id.encode()
            token = token_of(prompt)
            rows += 1
            input_tokens += len(prompt) // 4
            output_tokens += _ANSWER_TOKENS[token % len(_ANSWERS)]
            out.write(_RECORD.pack(token, len(prompt) // 4, len(name)) + name)
    body.unlink()
    return Index(index, model, rows, input_tokens, output_tokens)


def _records(index: Index) -> Iterator[tuple[bytes, int, int]]:
    data = index.path.read_bytes()
    at = 0
    while at < len(data):
        token, length, size = _RECORD.unpack_from(data, at)
        at += _RECORD.size + size
        yield data[at - size : at], token, length


def _render_openai(templates: tuple[bytes, ...], custom_id: bytes, token: int, tokens: int) -> bytes:
    answer = token % len(templates)
    total = tokens + _ANSWER_TOKENS[answer]
    return templates[answer] % (token, custom_id, token * 3, token * 5, token, tokens, total)


def _render_anthropic(templates: tuple[bytes, ...], custom_id: bytes, token: int, tokens: int) -> bytes:
    return templates[token % len(templates)] % (custom_id, token, token, tokens)


def _renderer(index: Index, *, openai: bool) -> Rendering:
    line, render = (_OPENAI_LINE, _render_openai) if openai else (_ANTHROPIC_LINE, _render_anthropic)
    model = index.model.encode()
    filled = (line % (model, answer, size) for answer, size in zip(_ANSWERS, _ANSWER_TOKENS, strict=True))
    return partial(render, tuple(filled))


def write_results(index: Index, target: Path, seed: int, *, openai: bool) -> None:
    """Write the batch's results, shuffled; the same order whenever they are asked for again."""
    render = _renderer(index, openai=openai)
    records = list(_records(index))
    random.Random(seed).shuffle(records)
    with target.open("wb", buffering=1 << 20) as out:
        out.writelines(render(custom_id, token, tokens) for custom_id, token, tokens in records)
