"""Batch files in a provider's own form: the bodies go through untouched, byte for byte."""

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, BinaryIO, Final, cast

import msgspec

from halfrate.base.errors import InputError
from halfrate.base.types import Endpoint, NativeForm
from halfrate.rows import errors
from halfrate.rows.lines import line_blocks
from halfrate.rows.values import why_not_json

_BOM: Final = b"\xef\xbb\xbf"
_URLS: Final[dict[str, Endpoint]] = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
}


class _OpenAILine(msgspec.Struct, gc=False):
    custom_id: msgspec.Raw
    url: str
    body: msgspec.Raw
    method: str = "POST"


class _AnthropicLine(msgspec.Struct, gc=False):
    custom_id: msgspec.Raw
    params: msgspec.Raw


class _Form(msgspec.Struct, frozen=True):
    """A form of batch file: what to call it, and where a line has its id and its body."""

    title: str
    name: str | None
    body: str


_FORMS: Final[dict[NativeForm, _Form]] = {
    "openai": _Form("an OpenAI batch file", "custom_id", "body"),
    "anthropic": _Form("a list of Anthropic batch requests", "custom_id", "params"),
    "rows": _Form("a batch file of ids and bodies", "custom_id", "body"),
    "gemini": _Form("a Gemini batch file", "key", "request"),
    "vertex": _Form("a Vertex batch file", None, "request"),
    "bedrock": _Form("a Bedrock batch file", "recordId", "modelInput"),
}


def form_title(form: NativeForm) -> str:
    """What to call a batch file of that form, as in "an OpenAI batch file"."""
    return _FORMS[form].title


class _PlainHead(msgspec.Struct, gc=False):
    """The same of a form that names its model once for the whole batch, if it does."""

    model: str | None = None
    stream: bool | None = None


class _Head(msgspec.Struct, gc=False):
    """What halfrate has to know of a body."""

    model: str
    stream: bool | None = None


class _EmbeddingHead(msgspec.Struct, gc=False):
    model: str
    input: msgspec.Raw
    stream: bool | None = None


_openai_line = msgspec.json.Decoder(_OpenAILine).decode
_anthropic_line = msgspec.json.Decoder(_AnthropicLine).decode
_plain_line = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_plain_head = msgspec.json.Decoder(_PlainHead).decode
_head = msgspec.json.Decoder(_Head).decode
_embedding_head = msgspec.json.Decoder(_EmbeddingHead).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


class NativeBlock(msgspec.Struct, frozen=True):
    """Bodies of successive rows. `inputs`: how many texts each asks to embed; None but for embeddings."""

    bodies: list[bytes]
    models: list[str]
    inputs: list[int] | None
    lines: list[int]
    """The line of the file, from 1, in which each stands."""

    def runs(self) -> Iterator[tuple[str, list[bytes], list[int] | None]]:
        """Stretches of rows with the same model: (model, bodies, inputs)."""
        start = 0
        for model, group in groupby(self.models):
            stop = start + sum(1 for _ in group)
            inputs = None if self.inputs is None else self.inputs[start:stop]
            yield model, self.bodies[start:stop], inputs
            start = stop


class NativeTable:
    """Reads a batch file and checks every line.

    Args:
        stream: the file, from its start.
        name: what to call it in messages.
        form: whose batch lines they are.
        model: the one model that bodies may name, or None for any. Forms that name none are for that one.
        any_model: bodies may name any model all the same: they are asked of another.
        tee: receives every block as read.

    `endpoint` is None until the first block was given.
    """

    def __init__(
        self,
        stream: BinaryIO,
        *,
        name: str,
        form: NativeForm,
        model: str | None = None,
        any_model: bool = False,
        tee: Callable[[bytes], object] | None = None,
    ) -> None:
        self.endpoint: Endpoint | None = None
        self._stream = stream
        self._name = name
        self._form: NativeForm = form
        self._model = None if any_model else model
        self._plain_model = model or ""
        self._tee = tee
        self._fields = _FORMS[form]
        self._url = ""
        self._row = 0
        self._line = 0

    def blocks(self) -> Iterator[NativeBlock]:
        """The bodies in row order. Raises InputError at the first line at fault."""
        readers = {"openai": self._openai, "anthropic": self._anthropic}
        read = readers.get(self._form, self._plain)
        line = 0
        for lines in line_blocks(self._stream, tee=self._tee):
            if line == 0 and lines[0].startswith(_BOM):
                lines[0] = lines[0][len(_BOM) :]
            bodies: list[bytes] = []
            models: list[str] = []
            inputs: list[int] = []
            places: list[int] = []
            for text in lines:
                line += 1
                self._line = line
                try:
                    if not text.isascii():
                        text.decode()
                    body, model, count = read(text)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                    if text.strip():
                        raise self._explain(text, error) from None
                    continue
                bodies.append(body)
                models.append(model)
                inputs.append(count)
                places.append(line)
                self._row += 1
            if bodies:
                yield NativeBlock(bodies, models, inputs if self.endpoint == "embeddings" else None, places)
        if self._row == 0:
            raise errors.no_rows(self._name)

    def _openai(self, text: bytes) -> tuple[bytes, str, int]:
        line = _openai_line(text)
        if line.url != self._url:
            self._check_url(line.url)
        if line.method != "POST":
            raise self._fault(f"the method is {line.method!r}; a batch takes POST alone.", "method")
        self._check_id(line.custom_id)
        if self.endpoint == "embeddings":
            head = _embedding_head(line.body)
            self._check_head(head)
            return bytes(line.body), head.model, self._count(head.input)
        head = _head(line.body)
        self._check_head(head)
        return bytes(line.body), head.model, 1

    def _anthropic(self, text: bytes) -> tuple[bytes, str, int]:
        line = _anthropic_line(text)
        self.endpoint = "messages"
        self._check_id(line.custom_id)
        head = _head(line.params)
        self._check_head(head)
        return bytes(line.params), head.model, 1

    def _plain(self, text: bytes) -> tuple[bytes, str, int]:
        line = _plain_line(text)
        fields = self._fields
        if fields.name is not None:
            self._check_id(line.get(fields.name, msgspec.Raw(b"null")), fields.name)
        body = bytes(line.get(fields.body, msgspec.Raw(b"null")))
        if not body.startswith(b"{"):
            raise self._fault(f"{fields.body!r} is not an object.", fields.body)
        head = _plain_head(body)
        if head.model is not None:
            self._check_head(_Head(head.model, head.stream))
        elif head.stream:
            raise self._fault("the body asks to stream, which a batch cannot. Remove stream.", "stream")
        return body, self._plain_model, 1

    def _check_url(self, url: str) -> None:
        if url not in _URLS:
            raise self._fault(f"the url {url!r} is none that halfrate runs ({', '.join(_URLS)}).", "url")
        if self._url:
            raise self._fault(
                f"the url is {url!r}, and {self._url!r} before: a batch asks one endpoint. Split the file by url.",
                "url",
            )
        self._url = url
        self.endpoint = _URLS[url]

    def _check_id(self, value: msgspec.Raw, field: str = "custom_id") -> None:
        if not bytes(value).startswith(b'"'):
            raise self._fault(f"{field} is not a string.", field)

    def _check_head(self, head: _Head | _EmbeddingHead) -> None:
        if not head.model:
            raise self._fault("the model is empty.", "model")
        if self._model is not None and head.model != self._model:
            raise self._fault(
                f"the body names the model {head.model!r}, and {self._model!r} was asked for. "
                "Leave --model out to keep the file's own.",
                "model",
            )
        if head.stream:
            raise self._fault("the body asks to stream, which a batch cannot. Remove stream.", "stream")

    def _count(self, value: msgspec.Raw) -> int:
        """Embedding inputs in a body: a text or its tokens are one, a list of either as many as it has."""
        data = bytes(value)
        if data.startswith(b'"'):
            return 1
        items = _items(data)
        if not items:
            raise self._fault("the body's input is empty.", "input")
        return len(items) if bytes(items[0])[0] in b'"[' else 1

    def _explain(self, text: bytes, error: Exception) -> InputError:
        """Why a line could not be decoded."""
        body = self._fields.body
        if isinstance(error, UnicodeDecodeError):
            return self._fault(
                f"byte {error.start + 1} is not UTF-8 ({error.reason}). Save the file as UTF-8."
            )
        try:
            value: Any = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError) as fault:
            return self._fault(why_not_json(text, fault))
        if not isinstance(value, dict):
            return self._fault(f"expected a JSON object, found a {type(value).__name__}.")
        found = cast("dict[str, Any]", value)
        more = ("url",) if self._form == "openai" else ()
        for field in filter(None, (self._fields.name, *more, body)):
            if field not in found:
                return self._fault(f"there is no {field!r}, which a line of {self._fields.title} has.", field)
        if not isinstance(found[body], dict):
            return self._fault(f"{body!r} is not an object.", body)
        inner = cast("dict[str, Any]", found[body])
        if self._form in {"openai", "anthropic"} and not isinstance(inner.get("model"), str):
            return self._fault(f"{body!r} names no model.", "model")
        if self.endpoint == "embeddings" and "input" not in inner:
            return self._fault(f"{body!r} has no input.", "input")
        return self._fault(f"this line cannot be read ({error}).")

    def _fault(self, reason: str, column: str | None = None) -> InputError:
        fault = errors.malformed(self._name, self._line, self._row, reason)
        fault.column = column
        return fault
