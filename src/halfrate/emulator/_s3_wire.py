"""What S3's XML looks like, and bodies that come in signed chunks (S3 API reference)."""

from collections.abc import AsyncIterator
from html import escape
from typing import Final

from halfrate.emulator._wire import ApiError, Response

_HEAD: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
_NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"
_CODES: Final = {
    400: "InvalidArgument",
    401: "AccessDenied",
    403: "InvalidAccessKeyId",
    404: "NoSuchKey",
    405: "MethodNotAllowed",
    412: "PreconditionFailed",
    413: "EntityTooLarge",
    416: "InvalidRange",
    429: "SlowDown",
    503: "SlowDown",
}


def element(name: str, value: str | int | list[str]) -> str:
    """`<name>value</name>`; a value that is a text is escaped, one that is a list is of elements."""
    if isinstance(value, list):
        return f"<{name}>{''.join(value)}</{name}>"
    if isinstance(value, bool):
        value = str(value).lower()
    return f"<{name}>{escape(str(value), quote=False)}</{name}>"


def xml_response(name: str, children: list[str]) -> Response:
    body = f'{_HEAD}<{name} xmlns="{_NAMESPACE}">{"".join(children)}</{name}>'
    return Response(200, body.encode(), {"content-type": "application/xml"})


def error_response(error: ApiError, request_id: str) -> Response:
    code = error.code or _CODES.get(error.status, "InternalError")
    children = [element("Code", code), element("Message", error.message), element("RequestId", request_id)]
    body = f"{_HEAD}<Error>{''.join(children)}</Error>"
    return Response(error.status, body.encode(), {"content-type": "application/xml", **error.headers})


async def unchunked(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The payload of an `aws-chunked` body: sizes in hexadecimal, signatures and trailers that nobody checks."""
    buffer = b""
    while True:
        while b"\r\n" not in buffer:
            buffer += await _next(chunks)
        head, _, buffer = buffer.partition(b"\r\n")
        try:
            left = int(head.split(b";")[0], 16)
        except ValueError:
            raise ApiError(400, "The request body is not well-formed aws-chunked.") from None
        if not left:
            async for _ in chunks:  # trailers
                pass
            return
        while left:
            if not buffer:
                buffer = await _next(chunks)
            piece, buffer = buffer[:left], buffer[left:]
            left -= len(piece)
            yield piece
        while len(buffer) < 2:
            buffer += await _next(chunks)
        buffer = buffer[2:]


async def _next(chunks: AsyncIterator[bytes]) -> bytes:
    piece = await anext(chunks, None)
    if piece is None:
        raise ApiError(400, "The request body ends before its last chunk.", code="IncompleteBody")
    return piece
