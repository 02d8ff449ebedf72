"""Results of a batch in OpenAI's form, apart by how they ended: what was answered, and all else."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from halfrate.base.types import RawForm
from halfrate.rows.batch_input import ids_of
from halfrate.rows.lines import BLOCK, line_blocks
from halfrate.rows.target import TargetFile

_NOT_RUN: Final = "not_run"


class Fate(msgspec.Struct, frozen=True):
    """What is said of rows that were not run, in OpenAI's words."""

    code: str
    message: str


class Split(msgspec.Struct, frozen=True):
    """How many rows are in which file."""

    answered: int
    failed: int


class _Response(msgspec.Struct, gc=False):
    status_code: int = 0


class _Error(msgspec.Struct, gc=False):
    code: str | None = None


class _Result(msgspec.Struct, gc=False):
    id: str | None = None
    custom_id: msgspec.Raw = msgspec.Raw(b"null")
    response: _Response | None = None
    error: _Error | None = None


_result = msgspec.json.Decoder(_Result).decode


def split_results(results: Iterable[tuple[Path, Fate]], answers: Path, errors: Path, *, name: str) -> Split:
    """Put result lines into the file of the answers (status 200 to 299) or into that of all others.

    `results`: files of result lines, and what becomes of the rows in each that were not run. A line without an id gets
    one that is made of `name` and its place.
    """
    counts = {True: 0, False: 0}
    number = 0
    with TargetFile(answers) as good, TargetFile(errors) as bad:
        for path, fate in results:
            with path.open("rb") as stream:
                for lines in line_blocks(stream, block=BLOCK):
                    parts: dict[bool, list[bytes]] = {True: [], False: []}
                    for line in lines:
                        found = _result(line)
                        well = found.response is not None and 200 <= found.response.status_code < 300
                        counts[well] += 1
                        number += 1
                        parts[well].append(_told(line, found, fate, f"{name}-{number}"))
                    good.write(b"".join(parts[True]))
                    bad.write(b"".join(parts[False]))
        good.commit()
        bad.commit()
    return Split(counts[True], counts[False])


def write_not_run(source: Path, model: str, target: Path) -> None:
    """Write a result line for each row of a batch file that calls its model so: none of them was run."""
    rest = RawForm().not_run
    with TargetFile(target) as file:
        for name in ids_of(source, model):
            file.write(b'{"custom_id":' + name + rest)
        file.commit()


def _told(line: bytes, found: _Result, fate: Fate, name: str) -> bytes:
    """A line as callers get it: with an id, and with what became of a row that was not run."""
    if found.error is not None and found.error.code == _NOT_RUN:
        error = msgspec.json.encode({"code": fate.code, "message": fate.message})
        line = b'{"custom_id":%b,"response":null,"error":%b}\n' % (bytes(found.custom_id), error)
    if found.id is None:
        mark = hashlib.blake2b(name.encode(), digest_size=12).hexdigest()
        return b'{"id":"batch_req_%b",' % mark.encode() + line[1:]
    return line
