"""What Cloud Storage's two APIs share: errors, byte ranges, multipart uploads."""

import mmap
import re
from pathlib import Path

import msgspec

from halfrate.emulator._spool import Spool
from halfrate.emulator._wire import ApiError, Document, Request, as_document, body_chunks

_REASONS = {
    400: "invalid",
    401: "authError",
    403: "forbidden",
    404: "notFound",
    409: "conflict",
    412: "conditionNotMet",
    416: "requestedRangeNotSatisfiable",
    429: "rateLimitExceeded",
}
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)


def error_document(error: ApiError) -> Document:
    """The JSON API's error (reference: HTTP status and error codes for JSON)."""
    reason = _REASONS.get(error.status, "backendError")
    errors = [{"message": error.message, "domain": "global", "reason": reason}]
    return {"error": {"code": error.status, "message": error.message, "errors": errors}}


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """(start, stop) of a Range header; None for the whole. ApiError 416 outside the object."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or match[1] == match[2] == "":
        return None
    if match[1]:
        start, stop = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
    else:
        start, stop = max(0, size - int(match[2])), size
    if start >= stop:
        raise ApiError(
            416, "The requested range cannot be satisfied.", headers={"content-range": f"bytes */{size}"}
        )
    return start, stop


async def related(request: Request, spool: Spool) -> tuple[Document, str, Path]:
    """(metadata, content type, bytes) of a multipart/related upload (RFC 2387)."""
    found = _BOUNDARY.search(request.header("content-type"))
    if found is None:
        raise ApiError(400, "The multipart upload has no boundary.")
    path = await spool.write(body_chunks(request))
    try:
        if not path.stat().st_size:
            raise ApiError(400, "The multipart upload is empty.")
        with path.open("rb") as source, mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as body:
            return _parts(body, b"--" + found[1].encode(), spool)
    finally:
        spool.drop(path)


def _parts(body: mmap.mmap, mark: bytes, spool: Spool) -> tuple[Document, str, Path]:
    first = body.find(mark)
    second = body.find(b"\n" + mark, first + len(mark))
    end = body.rfind(b"\n" + mark + b"--")
    if min(first, second, end) < 0 or end <= second:
        raise ApiError(400, "A multipart upload has two parts: the metadata, and the object.")
    _, text = _part(body[first + len(mark) : second])
    try:
        metadata = as_document(msgspec.json.decode(text.strip() or b"{}"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        metadata = None
    if metadata is None:
        raise ApiError(400, "The metadata of the multipart upload is not a JSON object.")
    headers, data = _part(body[second + 1 + len(mark) : end])
    made = spool.new()
    made.write_bytes(data.removesuffix(b"\r"))
    return metadata, headers.get("content-type", ""), made


def _part(data: bytes) -> tuple[dict[str, str], bytes]:
    line_end = b"\r\n" if b"\r\n\r\n" in data else b"\n"
    head, _, rest = data.partition(line_end * 2)
    pairs = (line.partition(b":") for line in head.split(line_end) if b":" in line)
    return {name.decode().strip().lower(): value.decode().strip() for name, _, value in pairs}, rest
