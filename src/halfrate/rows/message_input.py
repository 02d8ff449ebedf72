"""Requests of an Anthropic message batch as a caller of the gateway sends them: checked, kept as lines, and apart by
model.

Only the envelope is looked at when a batch is made, as Anthropic does (API reference, "Create a Message Batch"); what
is wrong with `params` is said in the row's result. A line that is kept is `{"custom_id":"...","params":{...}}`, the
params as they came but for line breaks between their fields.

Memory grows with the largest request, by a digest a request, and by nothing else.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec

from halfrate.base.errors import InputError
from halfrate.rows.json_array import ArrayScanner, ElementTooLong, WrongDocument
from halfrate.rows.lines import line_blocks
from halfrate.rows.target import TargetFile

MOST_REQUESTS: Final = 100_000
REQUEST_BYTES: Final = 32 << 20
"""The largest request: what Anthropic takes as one message (page on errors, "Request size limits")."""
_BLOCK: Final = 1 << 20
_PATTERN: Final = "^[a-zA-Z0-9_-]{1,64}$"
_CUSTOM_ID: Final = re.compile("[a-zA-Z0-9_-]{1,64}")
_FIELDS: Final = frozenset({"custom_id", "params"})
_LONGEST_MODEL: Final = 256
_SHOWN: Final = 64


class TooLarge(InputError):
    """A request is larger than any may be."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """A request that was kept. `custom_id` with its quotes; `fault`: why its params can be asked nowhere, or ""."""

    custom_id: bytes
    model: str
    fault: str
    line: bytes
    params: bytes


class Place(msgspec.Struct, frozen=True):
    """Where requests go that ask one model, and what it is called there. `fault`: why params cannot be asked of it, ""
    where they can."""

    path: Path
    name: str
    fault: Callable[[bytes], str] | None = None


class _Line(msgspec.Struct, gc=False):
    custom_id: msgspec.Raw
    params: msgspec.Raw


class _Head(msgspec.Struct, gc=False):
    model: Any = None
    stream: Any = None


_line = msgspec.json.Decoder(_Line).decode
_head = msgspec.json.Decoder(_Head).decode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_any = msgspec.json.Decoder().decode


def keep_requests(
    body: Path, write: Callable[[bytes], object], *, most: int = MOST_REQUESTS, largest: int = REQUEST_BYTES
) -> int:
    """Write the requests of a create call's body as lines; how many there are. Raises InputError, TooLarge."""
    reader = _Envelopes(most)
    scanner = ArrayScanner("requests", largest)
    lines: list[bytes] = []
    size = 0
    with body.open("rb", buffering=0) as stream:
        try:
            while block := stream.read(_BLOCK):
                for element in scanner.feed(block):
                    lines.append(reader.line(element))
                    size += len(lines[-1])
                    if size > _BLOCK:
                        write(b"".join(lines))
                        lines, size = [], 0
            scanner.close()
        except ElementTooLong:
            message = f"requests.{scanner.count}: a request may have {largest:,} bytes, and this one has more"
            raise TooLarge(message) from None
        except WrongDocument as error:
            raise InputError(str(error)) from None
    if not reader.count:
        raise InputError("requests: List should have at least 1 item after validation, not 0")
    write(b"".join(lines))
    return reader.count


def kept_requests(path: Path) -> Iterator[Request]:
    """The requests in a file that `keep_requests` wrote."""
    with path.open("rb") as stream:
        for lines in line_blocks(stream):
            for text in lines:
                found = _line(text)
                model, fault = _asked(found.params)
                yield Request(bytes(found.custom_id), model, fault, text, bytes(found.params))


def models_of(path: Path, most: int) -> dict[str, int]:
    """How many requests ask each of the first `most` models; those that can be asked nowhere are left out."""
    models: dict[str, int] = {}
    for request in kept_requests(path):
        if not request.fault and (request.model in models or len(models) < most):
            models[request.model] = models.get(request.model, 0) + 1
    return models


def split_requests(path: Path, places: Mapping[str, Place]) -> None:
    """Write requests apart by what they call their model. A request whose model keeps its name goes over byte for byte,
    and of others the name alone changes; one that has no place, or cannot be asked there, goes nowhere."""
    with ExitStack() as stack:
        files = {asked: stack.enter_context(TargetFile(place.path)) for asked, place in places.items()}
        for request in kept_requests(path):
            place = places.get(request.model)
            if request.fault or place is None or (place.fault is not None and place.fault(request.params)):
                continue
            same = place.name == request.model
            files[request.model].write(request.line if same else _renamed(request.line, place.name))
        for file in files.values():
            file.commit()


def _asked(params: msgspec.Raw) -> tuple[str, str]:
    """The model that params name, and why they can be asked nowhere, "" if they can."""
    head = _head(params)
    if head.model is None:
        return "", "model: Field required"
    if not isinstance(head.model, str):
        return "", "model: Input should be a valid string"
    if not head.model:
        return "", "model: String should have at least 1 character"
    if len(head.model) > _LONGEST_MODEL:
        return "", f"model: String should have at most {_LONGEST_MODEL} characters"
    if head.stream is not None and head.stream is not False:
        return head.model, "stream: a request of a batch cannot stream"
    return head.model, ""


def _renamed(line: bytes, name: str) -> bytes:
    """A line whose params name another model; all else in them is as it was."""
    found = _line(line)
    params = {**_fields(found.params), "model": msgspec.Raw(msgspec.json.encode(name))}
    return b'{"custom_id":%b,"params":%b}\n' % (bytes(found.custom_id), msgspec.json.encode(params))


class _Envelopes:
    """Checks requests one after the other. Faults name them as Anthropic does, from 0."""

    def __init__(self, most: int) -> None:
        self.count = 0
        self._most = most
        self._seen: set[int] = set()

    def line(self, element: bytes) -> bytes:
        """The line of the next request. Raises InputError."""
        if self.count >= self._most:
            raise InputError(f"requests: List should have at most {self._most} items after validation")
        fields = self._fields(element)
        for name in fields:
            if name not in _FIELDS:
                raise self._fault(f"{name[:_SHOWN]}: Extra inputs are not permitted", dot=True)
        name = self._custom_id(fields)
        params = bytes(fields.get("params", b""))
        if not params:
            raise self._fault("params: Field required", dot=True)
        if not params.startswith(b"{"):
            raise self._fault("params: Input should be a valid dictionary", dot=True)
        self.count += 1
        # Within a text a line break is always escaped: this one is as good as a space.
        return b'{"custom_id":"%b","params":%b}\n' % (name.encode(), params.replace(b"\n", b" "))

    def _fields(self, element: bytes) -> dict[str, msgspec.Raw]:
        try:
            if not element.isascii():
                element.decode()
            return _fields(element)
        except msgspec.ValidationError:
            raise self._fault("Input should be an object") from None
        except UnicodeDecodeError:
            raise self._fault("not valid JSON: a byte of it is not UTF-8") from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._fault(f"not valid JSON: {error}") from None

    def _custom_id(self, fields: Mapping[str, msgspec.Raw]) -> str:
        if "custom_id" not in fields:
            raise self._fault("custom_id: Field required", dot=True)
        name = _any(fields["custom_id"])
        if not isinstance(name, str):
            raise self._fault("custom_id: Input should be a valid string", dot=True)
        if not _CUSTOM_ID.fullmatch(name):
            raise self._fault(f"custom_id: String should match pattern '{_PATTERN}'", dot=True)
        mark = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
        if mark in self._seen:
            raise self._fault(f"custom_id: '{name}' is not unique in this batch", dot=True)
        self._seen.add(mark)
        return name

    def _fault(self, text: str, *, dot: bool = False) -> InputError:
        return InputError(f"requests.{self.count}{'.' if dot else ': '}{text}")
