"""What OpenAI, and those who speak like it, check in a batch's input file before it starts (batch guide)."""

from array import array
from pathlib import Path
from typing import Any

import msgspec

from halfrate.emulator._dialects import Dialect
from halfrate.emulator._openai_models import EMBEDDINGS, embedding_inputs, prompt_tokens
from halfrate.emulator._settings import Limits
from halfrate.emulator._wire import Document

_MOST_ERRORS = 100
_LONGEST_ID = 64


class InputRow(msgspec.Struct):
    """A line of the input file; the body stays as it was sent until the row runs."""

    custom_id: Any = None
    method: Any = None
    url: Any = None
    body: msgspec.Raw = msgspec.Raw(b"")


class _BodyHead(msgspec.Struct):
    model: Any = None


class Checked(msgspec.Struct):
    """The verdict on an input file."""

    offsets: "array[int]"
    errors: list[Document]
    model: str | None = None
    prompt_tokens: int = 0


_row = msgspec.json.Decoder(InputRow)
_head = msgspec.json.Decoder(_BodyHead)


def read_row(line: bytes) -> InputRow:
    return _row.decode(line)


class InputCheck:
    """Reads an input file once, line by line, splitting on newlines only.

    Args:
        params: what the create call says for every row, where the dialect lets it.
    """

    def __init__(self, dialect: Dialect, endpoint: str, limits: Limits, params: Document) -> None:
        self._dialect = dialect
        self._endpoint = endpoint
        self._call = dialect.endpoints[endpoint]
        self._params = params
        self._caps = dialect.caps.within(limits)
        self._count_tokens = limits.openai_enqueued_tokens is not None
        self._inputs = 0
        self._seen: set[str] = set()
        self._found = Checked(array("Q"), [])

    def check(self, path: Path) -> Checked:
        limit = self._caps.batch_bytes
        if path.stat().st_size > limit:
            self._refuse("file_too_large", f"The input file is larger than {limit} bytes.", None)
            return self._found
        position = 0
        with path.open("rb") as source:
            for number, line in enumerate(source, 1):
                if line.strip():
                    self._line(line, number)
                    self._found.offsets.append(position)
                position += len(line)
                if len(self._found.errors) >= _MOST_ERRORS:
                    break
        self._whole_file()
        return self._found

    def _whole_file(self) -> None:
        rows, caps = len(self._found.offsets), self._caps
        most, inputs = caps.rows, caps.embedding_inputs
        if self._call == EMBEDDINGS and caps.embedding_rows is not None:
            most = min(most, caps.embedding_rows)
        if not rows and not self._found.errors:
            self._refuse("empty_file", "The input file is empty.", None)
        if rows > most:
            message = f"The input file has {rows} requests; a batch may have {most}."
            self._refuse("too_many_tasks", message, None)
        if self._inputs > inputs:
            message = f"The input file has {self._inputs} embedding inputs; a batch may have {inputs}."
            self._refuse("too_many_tasks", message, None)

    def _refuse(self, code: str, message: str, line: int | None, param: str | None = None) -> None:
        self._found.errors.append({"code": code, "message": message, "param": param, "line": line})

    def _line(self, line: bytes, number: int) -> None:
        most = self._caps.line_bytes
        if most is not None and len(line.rstrip(b"\r\n")) > most:
            self._refuse("line_too_large", f"This line is larger than {most} bytes.", number)
            return
        try:
            row = _row.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._refuse("invalid_json_line", "This line is not parseable as valid JSON.", number)
            return
        custom_id = row.custom_id
        if not isinstance(custom_id, str) or not custom_id:
            message = "Missing required parameter: 'custom_id'."
            self._refuse("missing_required_parameter", message, number, "custom_id")
        elif len(custom_id) > _LONGEST_ID:
            message = f"The custom_id is longer than {_LONGEST_ID} characters."
            self._refuse("invalid_custom_id", message, number, "custom_id")
        elif custom_id in self._seen:
            message = f"The custom_id '{custom_id}' for this request is a duplicate of another request."
            self._refuse("duplicate_custom_id", message + " It must be unique.", number, "custom_id")
        else:
            self._seen.add(custom_id)
        if self._dialect.row_targets:
            self._target(row, number)
        self._body(bytes(row.body), number)

    def _target(self, row: InputRow, number: int) -> None:
        if row.method != "POST":
            self._refuse("invalid_method", "The method must be 'POST'.", number, "method")
        meant = self._dialect.endpoints.get(row.url) if isinstance(row.url, str) else None
        if meant != self._call:
            message = f"The URL provided for this request does not match the batch endpoint {self._endpoint}."
            self._refuse("url_mismatch", message, number, "url")

    def _body(self, body: bytes, number: int) -> None:
        try:
            model = self._params.get("model", _head.decode(body).model)
        except (msgspec.DecodeError, UnicodeDecodeError):
            message = "Missing required parameter: 'body'."
            self._refuse("missing_required_parameter", message, number, "body")
            return
        if not isinstance(model, str) or self._dialect.model(model) is None:
            message = f"The provided model '{model}' is not supported by the Batch API."
            self._refuse("model_not_found", message, number, "body.model")
        elif self._found.model is None:
            self._found.model = model
        elif self._found.model != model:
            message = f"The model '{model}' differs from the file's first model '{self._found.model}'."
            self._refuse("model_mismatch", message, number, "body.model")
        if self._call == EMBEDDINGS:
            self._inputs += len(embedding_inputs(msgspec.json.decode(body).get("input")))
        if self._count_tokens:
            self._found.prompt_tokens += prompt_tokens(self._call, msgspec.json.decode(body))
