"""Inputs, shards and records for the tests of rows."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from halfrate.base.results import Kind, Tokens
from halfrate.base.types import (
    Envelope,
    Framing,
    InputFormat,
    JobPrices,
    Limits,
    NativeForm,
    Outcome,
    Price,
    Rates,
    Template,
)
from halfrate.core.pricing import JobPricing
from halfrate.rows.collect import RecordFormat
from halfrate.rows.outcomes import OutcomeWriter
from halfrate.rows.output import ShardView, Snapshot
from halfrate.rows.requests import Encoded, RequestWriter
from halfrate.rows.template import parse_template

LINES = Framing(b"", b"\n", b"\n")
CHAT = Envelope(b'{"custom_id":"', b'","method":"POST","url":"/v1/chat/completions","body":', b"}")
ARRAY = Framing(b'{"requests":[\n', b",\n", b"\n]}\n")
MESSAGES = Envelope(b'{"custom_id":"', b'","params":', b"}")
BODY = (b'{"messages":[{"role":"user","content":', b"}]}")

COSTLY = (Tokens(3, 1, output=5), 42_000_000, "gpt-x", "stop")
"""Tokens, cost, model and finish reason of a record."""


def template(text: str = "{text}") -> Template:
    return parse_template(text)


def jsonl(rows: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def texts_of(blocks: Iterable[Sequence[Encoded]]) -> list[str]:
    """Prompts as the text that a provider will see."""
    texts = [json.loads(bytes(text)) for block in blocks for text in block]
    assert all(type(text) is str for text in texts)
    return texts


def quoted(texts: Iterable[str]) -> list[Encoded]:
    """Texts as a table gives them: JSON strings."""
    return [msgspec.json.encode(text) for text in texts]


def pricing(batch: dict[str, Price | None], standard: dict[str, Price | None] | None = None) -> JobPricing:
    return JobPricing(JobPrices(batch, batch if standard is None else standard))


def flat(rate: int | None) -> Price:
    """The same for every kind of token."""
    rates = Rates(input=rate, cached=rate, write_5m=rate, write_1h=rate, output=rate)
    return Price(model="", tier="", rates=rates)


def answered(answer: Any, form: RecordFormat | None = None) -> bytes:
    """The record of a row with an answer."""
    return (form or RecordFormat({})).answered(json.dumps(answer).encode(), *COSTLY)


def refused(error: str = "400: no", form: RecordFormat | None = None) -> bytes:
    return (form or RecordFormat({})).failed(Outcome.FAILED, error)


UNKNOWN = RecordFormat({}).failed(Outcome.CANCELLED, "the job was cancelled before this row was sent")


def outcome_file(path: Path, records: Sequence[bytes | None], kinds: Sequence[Kind] | None = None) -> Path:
    """An outcome file, its records written back to front as if results had arrived so."""
    with OutcomeWriter(path, len(records)) as writer:
        for slot in reversed(range(len(records))):
            record = records[slot]
            if record is not None:
                kind = kinds[slot] if kinds is not None else Kind.SUCCEEDED
                writer.add(slot, kind, record)
        writer.commit()
    return path


def shards_of(folder: Path, records: Sequence[bytes], size: int) -> list[ShardView]:
    shards: list[ShardView] = []
    for first in range(0, len(records), size):
        part = records[first : first + size]
        path = outcome_file(folder / f"{first}.outcomes", part)
        shards.append(ShardView(first, len(part), (path,)))
    return shards


def snapshot(folder: Path, data: bytes, form: InputFormat, native: NativeForm | None = None) -> Snapshot:
    path = folder / "input.copy"
    path.write_bytes(data)
    return Snapshot(path, form, native)


def limits(rows: int = 1000, size: int = 10**6, row: int = 10**6, inputs: int | None = None) -> Limits:
    return Limits(rows=rows, bytes=size, row_bytes=row, embedding_inputs=inputs)


def request_writer(
    folder: Path,
    most: Limits,
    *,
    framing: Framing = LINES,
    envelope: Envelope = CHAT,
    body: tuple[bytes, bytes] = BODY,
) -> RequestWriter:
    path_of: Callable[[int], Path] = lambda number: folder / f"{number}.requests"  # noqa: E731
    return RequestWriter(
        path_of,
        job_id="k3v9x2m4qp",
        envelope=envelope,
        framing=framing,
        body=body,
        limits=most,
        name="in.jsonl",
        provider="OpenAI",
    )


def absent(name: str) -> None:
    """Stands for `importlib.util.find_spec` where a package is not installed."""
    del name
