"""What Cohere checks in a dataset of embedding requests: every row has to fit the schema of its type.

Fields that the schema does not have are dropped, the model among them: it is the batch's. Whether a row asks for
something that can be answered shows when it runs. That custom_ids are unique is asked for (batch cookbook, 2025-10),
and nothing is known of anybody checking it.
"""

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec

from halfrate.emulator._cohere_avro import INPUT_SCHEMA, AvroLines

_MOST_PROBLEMS: Final = 10
_SAMPLES: Final = 5
_Int = Annotated[int, msgspec.Meta(ge=-(1 << 31), lt=1 << 31)]


class _Content(msgspec.Struct, omit_defaults=True):
    type: str
    text: str | None = None
    image_url: str | None = None


class _Input(msgspec.Struct, omit_defaults=True):
    content: list[_Content] | None = None


class _Body(msgspec.Struct, omit_defaults=True):
    input_type: str
    texts: list[str] | None = None
    images: list[str] | None = None
    inputs: list[_Input] | None = None
    max_tokens: _Int | None = None
    output_dimension: _Int | None = None
    embedding_types: list[str] | None = None
    truncate: str | None = None


class InputRow(msgspec.Struct):
    """A line, as far as the schema goes."""

    custom_id: str
    body: _Body


_row = msgspec.json.Decoder(InputRow)


def read_row(line: bytes) -> InputRow:
    return _row.decode(line)


class Checked(msgspec.Struct):
    """What the validation of a file has found: its rows, and what is wrong with the others."""

    offsets: "array[int]"
    samples: list[str] = []
    problems: list[str] = []
    bad: int = 0


def check_file(source: Path, target: Path, sync: bytes) -> Checked:
    """Check every line that is not blank, and write the sound ones to `target` as Avro."""
    found = Checked(array("Q"))
    container = AvroLines(target, INPUT_SCHEMA, sync)
    for number, position, line in _lines(source):
        try:
            row = _row.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            found.bad += 1
            if len(found.problems) < _MOST_PROBLEMS:
                found.problems.append(f"line {number}: {error}")
            continue
        found.offsets.append(position)
        if len(found.samples) < _SAMPLES:
            found.samples.append(msgspec.json.encode(row, order="sorted").decode())
        container.add_record(msgspec.to_builtins(row))
    container.flush()
    if not found.offsets:
        found.problems.append("the dataset has no valid rows")
    return found


def _lines(source: Path) -> Iterator[tuple[int, int, bytes]]:
    """(number, position, line); lines end at newlines only."""
    position = 0
    with source.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, position, line
            position += len(line)
