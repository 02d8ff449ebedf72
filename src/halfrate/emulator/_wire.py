"""What crosses the edge of the world: requests in, responses out, and how a response is to be delivered.

Nothing here knows about sockets. A shell (the aiohttp server, or a simulator in virtual time) turns its own
requests into `Request`, hands them to the world, and carries out the `Response` with its `Delivery`.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, cast
from urllib.parse import parse_qsl

import msgspec

Document: TypeAlias = dict[str, Any]

CHUNK_BYTES = 256 * 1024


class Request(msgspec.Struct, frozen=True):
    """One HTTP request. Header names are lower case; the body is whole or comes as an async iterator."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = {}
    body: bytes | AsyncIterator[bytes] = b""

    def params(self) -> dict[str, str]:
        """The query as a dictionary; a repeated key keeps its last value."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    def header(self, name: str) -> str:
        return self.headers.get(name, "")


class Delivery(msgspec.Struct, frozen=True):
    """What happens to a response on its way: the transport faults, as instructions to the shell."""

    drop: bool = False
    """Close the connection without a reply. What the request did or did not do depends on the fault."""
    truncate_after: int | None = None
    """Close the connection after that many body bytes."""
    hold_seconds: float = 0.0
    """Wait before the first byte of the reply (the client's seconds, not the world's)."""
    chunk_pause_seconds: float = 0.0
    """Wait before each chunk of the body."""
    work_seconds: float = 0.0
    """Wait before the first byte while the answer is made: the world's seconds."""
    written_seconds: float = 0.0
    """How many of those the answer is being written in: one that is streamed comes during them."""


PLAIN_DELIVERY = Delivery()


class Response(msgspec.Struct, frozen=True):
    """One HTTP response."""

    status: int
    body: bytes | Iterator[bytes] = b""
    headers: Mapping[str, str] = {}
    delivery: Delivery = PLAIN_DELIVERY

    def read(self) -> bytes:
        """The whole body at once (an iterator is used up by it)."""
        return self.body if isinstance(self.body, bytes) else b"".join(self.body)

    def json(self) -> Any:
        return msgspec.json.decode(self.read())


class ApiError(Exception):
    """An answer that is an error; each surface words it in its own shape."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.kind = kind
        self.headers: dict[str, str] = dict(headers or {})


def json_response(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        status, msgspec.json.encode(document), {"content-type": "application/json", **(headers or {})}
    )


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, for calls whose bodies are small; ApiError 413 above `limit` bytes."""
    pieces: list[bytes] = []
    total = 0
    async for piece in body_chunks(request):
        total += len(piece)
        if total > limit:
            raise ApiError(413, f"Request body is larger than {limit} bytes.", kind="request_too_large")
        pieces.append(piece)
    return b"".join(pieces)


async def read_document(request: Request, limit: int = 64 * 1024 * 1024) -> Document:
    """The body as a JSON object; ApiError 400 when it is not one."""
    body = await read_body(request, limit)
    if not body:
        return {}
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, f"We could not parse the JSON body of your request: {error}") from None
    found = as_document(document)
    if found is None:
        raise ApiError(400, "The JSON body of your request must be an object.")
    return found


async def body_chunks(request: Request) -> AsyncIterator[bytes]:
    """The body as chunks, whichever form it came in."""
    if isinstance(request.body, bytes):
        for start in range(0, len(request.body), CHUNK_BYTES):
            yield request.body[start : start + CHUNK_BYTES]
    else:
        async for piece in request.body:
            yield piece


def file_chunks(path: Path, size: int | None = None) -> Iterator[bytes]:
    """A file as chunks, opened when the first one is asked for."""
    left = path.stat().st_size if size is None else size
    with path.open("rb") as source:
        while left > 0:
            chunk = source.read(min(CHUNK_BYTES, left))
            if not chunk:
                return
            left -= len(chunk)
            yield chunk


def as_document(value: object) -> Document | None:
    """The value when it is a JSON object, else None."""
    return cast("Document", value) if isinstance(value, dict) else None


def as_list(value: object) -> list[Any] | None:
    """The value when it is a JSON array, else None."""
    return cast("list[Any]", value) if isinstance(value, list) else None


def documents(value: object) -> Iterable[Document]:
    """The objects among the items of a JSON array; nothing for anything else."""
    for item in as_list(value) or ():
        found = as_document(item)
        if found is not None:
            yield found


def whole_number(text: str | None, name: str, default: int, low: int, high: int) -> int:
    """A bounded integer from a query parameter; ApiError 400 outside its bounds."""
    if text is None or not text:
        return default
    try:
        value = int(text)
    except ValueError:
        raise ApiError(400, f"Invalid type for '{name}': expected an integer.", param=name) from None
    if not low <= value <= high:
        raise ApiError(400, f"Invalid '{name}': expected a value between {low} and {high}.", param=name)
    return value
