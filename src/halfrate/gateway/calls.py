"""One call of the gateway, as its handlers see it: who calls, and what was sent."""

import datetime
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from halfrate.base.errors import UsageError
from halfrate.core.keys import Key
from halfrate.gateway.errors import ApiError, invalid
from halfrate.service.deadlines import deadline_at

T = TypeVar("T")

JSON: Final = "application/json"
_JSON_BODY: Final = 10 << 20
"""Bytes of a body that is read whole. What may be larger is never in memory whole."""
_DEADLINE: Final = "halfrate-deadline"
_LONGEST_NAME: Final = 64
_LONGEST_VALUE: Final = 512


def key_of(request: Request) -> Key:
    """The key that the call came with; the door has let it in."""
    key: Key = request.scope["halfrate.key"]
    return key


def reply(document: Any, status: int = 200) -> Response:
    """A JSON reply."""
    return Response(msgspec.json.encode(document), status, media_type=JSON)


async def read_body(request: Request, limit: int = _JSON_BODY) -> bytes:
    """A body that is small enough to be read whole. ApiError 413 for one that is not."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


async def read_json(request: Request, kind: type[T]) -> T:
    """The body as a value. ApiError 400 for what is no JSON, or not of that kind."""
    body = await read_body(request)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise invalid(f"The body is not as expected: {error}.", _field(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"The body is not JSON: {error}.", code="invalid_json") from None


def too_large(limit: int) -> ApiError:
    return ApiError(413, f"The body is larger than {limit:,} bytes.", code="request_too_large")


def tags_of(request: Request) -> dict[str, str]:
    """The tags of a call's header. ApiError 400 for what are none."""
    return read_tags(request.headers.get("halfrate-tags", ""))


def read_tags(text: str) -> dict[str, str]:
    """Tags of a header `halfrate-tags: name=value, name=value`. ApiError 400 for what are none."""
    tags: dict[str, str] = {}
    for pair in text.split(","):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not pair.strip():
            continue
        if not (name and equals and value) or len(name) > _LONGEST_NAME or len(value) > _LONGEST_VALUE:
            raise invalid("Invalid header 'halfrate-tags': expected name=value, name=value.", "halfrate-tags")
        tags[name] = value
    return tags


def deadline_of(request: Request) -> float | None:
    """When the last row is needed, by the header `halfrate-deadline: 2h`; None without it. ApiError 400 for what is no
    deadline, or past."""
    wanted = request.headers.get(_DEADLINE)
    return None if wanted is None else moment(wanted, _DEADLINE)


def moment(text: str, field: str) -> float | None:
    """When it is that a field of a call asks for. ApiError 400 as for `deadline_of`."""
    try:
        return deadline_at(text, datetime.datetime.now(datetime.UTC))
    except UsageError as error:
        raise invalid(f"Invalid '{field}': {error}", field) from None


def is_repeated(request: Request) -> bool:
    """Whether the client says that it has made this call before."""
    # The SDKs count their own retries, and send no key that would tell a retry from a second call.
    return request.headers.get("x-stainless-retry-count", "0") != "0"


def whole_number(request: Request, name: str, default: int, least: int, most: int) -> int:
    """A number of the query string."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
        raise invalid(f"Invalid '{name}': expected a whole number from {least} to {most}.", name)
    return int(text)


def _field(text: str) -> str | None:
    """The field that a message of msgspec's names, as in "... - at `$.metadata.a`"."""
    _, found, rest = text.rpartition("at `$.")
    return rest.rstrip("`") if found else None
