"""How Google's APIs word things: errors as google.rpc has them, field names in either case, paging.

`{"error": {"code": <HTTP status>, "message", "status"}}` with `details` beside them (google.rpc error model). Inside
a batch an error is a google.rpc.Status, whose code is google.rpc's own and not the HTTP status.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

from halfrate.emulator._wire import (
    ApiError,
    Document,
    Request,
    Response,
    as_document,
    json_response,
    read_document,
)

INVALID, INTERNAL, DEADLINE, CANCELLED = 3, 13, 4, 1
MISSING = "Requested entity was not found."

# HTTP status: (google.rpc code, its name).
_CODES = {
    400: (3, "INVALID_ARGUMENT"),
    401: (16, "UNAUTHENTICATED"),
    403: (7, "PERMISSION_DENIED"),
    404: (5, "NOT_FOUND"),
    408: (4, "DEADLINE_EXCEEDED"),
    409: (10, "ABORTED"),
    429: (8, "RESOURCE_EXHAUSTED"),
    499: (1, "CANCELLED"),
    500: (13, "INTERNAL"),
    501: (12, "UNIMPLEMENTED"),
    503: (14, "UNAVAILABLE"),
    504: (4, "DEADLINE_EXCEEDED"),
    529: (14, "UNAVAILABLE"),
}

_CAPITAL = re.compile(r"(?<=[a-z0-9])([A-Z])")
_UNDERSCORE = re.compile(r"_([a-z0-9])")

Item = TypeVar("Item")


def rpc_code(status: int) -> tuple[int, str]:
    """What google.rpc calls an HTTP status."""
    return _CODES.get(status, _CODES[500] if status >= 500 else _CODES[400])


def rpc_status(error: ApiError) -> Document:
    """An error as a row or an operation carries it."""
    return {"code": rpc_code(error.status)[0], "message": error.message}


def error_document(error: ApiError) -> Document:
    """The body of an error response. Of an ApiError, `param` is the reason that ErrorInfo gives."""
    inner: Document = {
        "code": error.status,
        "message": error.message,
        "status": rpc_code(error.status)[1],
    }
    details: list[Document] = []
    if error.param is not None:
        details.append(
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": error.param,
                "domain": "googleapis.com",
            }
        )
    if "retry-after" in error.headers:
        delay = f"{error.headers['retry-after']}s"
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
    if details:
        inner["details"] = details
    return {"error": inner}


def error_response(error: ApiError) -> Response:
    return json_response(error_document(error), error.status, error.headers)


async def read_request(request: Request, limit: int) -> Document:
    """The body of a call. Google refuses one that is too big with 400."""
    try:
        return await read_document(request, limit)
    except ApiError as error:
        if error.status != 413:
            raise
        message = f"Request payload size exceeds the limit: {limit} bytes."
        raise ApiError(400, f"{message} Please use the File API to upload your files instead.") from None


def not_found() -> ApiError:
    return ApiError(404, MISSING)


@lru_cache(maxsize=4_096)
def snake(name: str) -> str:
    return _CAPITAL.sub(lambda match: f"_{match[1].lower()}", name)


@lru_cache(maxsize=4_096)
def camel(name: str) -> str:
    return _UNDERSCORE.sub(lambda match: match[1].upper(), name)


def pick(document: Document, name: str) -> Any:
    """A field by its camelCase name, or as snake_case writes it: JSON of protocol buffers takes both."""
    return document[name] if name in document else document.get(snake(name))


def pick_document(document: Document, name: str) -> Document:
    """A field that is an object; an empty one where it is absent or anything else."""
    return as_document(pick(document, name)) or {}


def whole(value: object) -> int | None:
    """An int64 as JSON has it, a number or a string of digits; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def page(
    request: Request, items: Sequence[tuple[int, Item]], default: int, most: int
) -> tuple[list[Item], str]:
    """One page of items that carry descending serial numbers, and the token of the next; "" for none.

    A token stands for a place in the order, so that what is made meanwhile neither repeats nor hides an item.
    """
    params = request.params()
    size = _bounded(params.get("pageSize") or params.get("page_size") or "", default, most)
    token = params.get("pageToken") or params.get("page_token") or ""
    if token and not token.isdecimal():
        raise ApiError(400, "Invalid page token.")
    left = [pair for pair in items if not token or pair[0] < int(token)]
    shown = left[:size]
    return [item for _, item in shown], str(shown[-1][0]) if len(left) > size else ""


def listing(kind: str, shown: list[Document], token: str) -> Response:
    """A page as JSON of protocol buffers has it: what is empty is absent."""
    found: Document = {kind: shown} if shown else {}
    return json_response({**found, "nextPageToken": token} if token else found)


def _bounded(text: str, default: int, most: int) -> int:
    if not text:
        return default
    if not text.isdecimal():
        raise ApiError(400, f"Invalid value at 'page_size' (TYPE_INT32), {text!r}")
    return min(int(text), most) or default
