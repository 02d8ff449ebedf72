"""An OpenAI batch file as a caller of the gateway sends it: every fault in it with its line, as OpenAI names them
(batch guide, "errors"), and then its rows apart by model.

Memory grows by a digest a row and by nothing else: ids must be unique, which only a look at all of them tells.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec

from halfrate.core.surface import LineFault
from halfrate.rows.lines import line_blocks
from halfrate.rows.target import TargetFile

_BOM: Final = b"\xef\xbb\xbf"
_LONGEST_ID: Final = 64
_MOST_FAULTS: Final = 100
_MOST_MODELS: Final = 20
"""Each is a job, and an open file while the rows are set apart."""


class ModelRows(msgspec.Struct, frozen=True):
    """Rows that ask one model. `name`: what they call it; `line`: where it comes first, from 1."""

    name: str
    rows: int
    line: int


class Checked(msgspec.Struct, frozen=True):
    """What is known of an input. Where there are faults, nothing of it can be run."""

    models: tuple[ModelRows, ...]
    faults: tuple[LineFault, ...]

    @property
    def rows(self) -> int:
        return sum(found.rows for found in self.models)


class _Line(msgspec.Struct, gc=False):
    custom_id: Any = None
    method: Any = None
    url: Any = None
    body: msgspec.Raw = msgspec.Raw(b"")


class _Body(msgspec.Struct, gc=False):
    model: Any = None
    stream: Any = None


_line = msgspec.json.Decoder(_Line).decode
_body = msgspec.json.Decoder(_Body).decode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def check_batch_input(path: Path, url: str, *, most_rows: int) -> Checked:
    """Read a batch file for `url`, as in "/v1/chat/completions", and say what is in it and what is wrong with it."""
    reader = _Check(url)
    with path.open("rb") as stream:
        for number, text in _numbered(stream):
            reader.take(text, number)
            # What is beyond any bound is not read to its end: what is remembered of it would have none either.
            if (
                len(reader.faults) >= _MOST_FAULTS
                or reader.rows > most_rows
                or len(reader.models) > _MOST_MODELS
            ):
                break
    if not reader.rows and not reader.faults:
        reader.fault("empty_file", "The input file is empty.", None)
    if reader.rows > most_rows:
        message = f"The input file has more requests than the {most_rows:,} that a batch may have."
        reader.fault("too_many_tasks", message, None)
    if len(reader.models) > _MOST_MODELS:
        message = f"The requests name more models than the {_MOST_MODELS} that those of a batch may."
        reader.fault("too_many_models", message, None, "body.model")
    models = (ModelRows(name, rows, line) for name, (rows, line) in reader.models.items())
    return Checked(tuple(models), tuple(reader.faults))


def split_by_model(path: Path, place: Callable[[str], tuple[Path, str]]) -> None:
    """Write the rows of a sound batch file apart. `place`: of what rows call a model, where they go and what it is
    called there; lines whose model keeps its name go over byte for byte, and of others the name alone is changed. What
    stands in a line of the input stands in the same line of its file, so that faults are found by their numbers.
    """
    with ExitStack() as stack, path.open("rb") as stream:
        files: dict[str, tuple[TargetFile, bytes | None]] = {}
        behind: dict[str, int] = {}
        for number, text in _numbered(stream):
            body = _line(text).body
            name = str(_body(body).model)
            if name not in files:
                target, called = place(name)
                file = stack.enter_context(TargetFile(target))
                files[name] = file, None if called == name else msgspec.json.encode(called)
            file, called = files[name]
            line = text.rstrip(b"\r\n") if called is None else _renamed(text, called)
            file.write(b"\n" * (number - behind.get(name, 0) - 1) + line + b"\n")
            behind[name] = number
        for file, _ in files.values():
            file.commit()


def ids_of(path: Path, model: str) -> Iterator[bytes]:
    """The ids, as JSON, of the rows of a sound batch file that call their model so."""
    with path.open("rb") as stream:
        for _, text in _numbered(stream):
            line = _line(text)
            if _body(line.body).model == model:
                yield msgspec.json.encode(line.custom_id)


def _renamed(text: bytes, name: bytes) -> bytes:
    """A line whose body names another model; all else in it is as it was, byte for byte."""
    fields = _fields(text)
    body = {**_fields(fields["body"]), "model": msgspec.Raw(name)}
    return msgspec.json.encode({**fields, "body": msgspec.Raw(msgspec.json.encode(body))})


def _numbered(stream: Any) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers from 1."""
    number = 0
    for block in line_blocks(stream):
        for text in block:
            number += 1
            plain = text.removeprefix(_BOM) if number == 1 else text
            if plain.strip():
                yield number, plain


class _Check:
    def __init__(self, url: str) -> None:
        self.faults: list[LineFault] = []
        self.models: dict[str, tuple[int, int]] = {}
        self.rows = 0
        self._url = url
        self._seen: set[int] = set()

    def fault(self, code: str, message: str, line: int | None, param: str | None = None) -> None:
        self.faults.append(LineFault(code, message, line, param))

    def take(self, text: bytes, number: int) -> None:
        self.rows += 1
        try:
            text.decode()
            line = _line(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.fault("invalid_json_line", "This line is not parseable as valid JSON.", number)
            return
        self._id(line.custom_id, number)
        if line.method != "POST":
            self.fault("invalid_method", "The method must be 'POST'.", number, "method")
        if line.url != self._url:
            message = f"The URL provided for this request does not match the batch endpoint {self._url}."
            self.fault("url_mismatch", message, number, "url")
        self._asked(bytes(line.body), number)

    def _id(self, custom_id: object, number: int) -> None:
        if not isinstance(custom_id, str) or not custom_id:
            message = "Missing required parameter: 'custom_id'."
            self.fault("missing_required_parameter", message, number, "custom_id")
            return
        if len(custom_id) > _LONGEST_ID:
            message = f"The custom_id is longer than {_LONGEST_ID} characters."
            self.fault("invalid_custom_id", message, number, "custom_id")
            return
        mark = int.from_bytes(hashlib.blake2b(custom_id.encode(), digest_size=8).digest())
        if mark in self._seen:
            message = f"The custom_id '{custom_id}' for this request is a duplicate of another request."
            self.fault("duplicate_custom_id", f"{message} It must be unique.", number, "custom_id")
        self._seen.add(mark)

    def _asked(self, body: bytes, number: int) -> None:
        try:
            head = _body(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            message = "Missing required parameter: 'body'."
            self.fault("missing_required_parameter", message, number, "body")
            return
        if not isinstance(head.model, str) or not head.model:
            message = "Missing required parameter: 'body.model'."
            self.fault("missing_required_parameter", message, number, "body.model")
            return
        if head.stream:
            self.fault("invalid_request", "A request of a batch cannot stream.", number, "body.stream")
        rows, first = self.models.get(head.model, (0, number))
        self.models[head.model] = rows + 1, first
