"""Cloud Storage's JSON API (reference: Objects): upload in one go, as multipart or resumable, get, list, delete."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from pathlib import Path
from urllib.parse import quote

import msgspec

from halfrate.emulator._context import Context, rfc3339
from halfrate.emulator._gcs_store import StoredObject
from halfrate.emulator._gcs_wire import byte_range, related
from halfrate.emulator._quirks import bend_download, reset_upload
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._wire import (
    ApiError,
    Document,
    Request,
    Response,
    as_document,
    body_chunks,
    json_response,
    read_document,
)

_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_MOST = 1_000


class _Session(msgspec.Struct):
    """A resumable upload on its way."""

    bucket: str
    name: str
    content_type: str
    metadata: dict[str, str]
    path: Path
    wanted: str | None
    received: int = 0


class GcsJson:
    """The handlers. Paths are regular expressions: names of objects have slashes in them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._sessions: dict[str, _Session] = {}

    def routes(self) -> list[Route]:
        base = r"/storage/v1/b"
        return [
            Route("POST", rf"/upload{base}/([^/]+)/o", "upload", self._upload),
            Route("PUT", rf"/upload{base}/([^/]+)/o", "upload", self._continue),
            Route("DELETE", rf"/upload{base}/([^/]+)/o", "upload", self._abandon),
            Route("GET", rf"/download{base}/([^/]+)/o/(.+)", "download", self._media),
            Route("POST", base, "buckets", self._make_bucket),
            Route("GET", rf"{base}/([^/]+)", "buckets", self._bucket),
            Route("GET", rf"{base}/([^/]+)/o", "list", self._list),
            Route("GET", rf"{base}/([^/]+)/o/(.+)", "poll-file", self._get),
            Route("DELETE", rf"{base}/([^/]+)/o/(.+)", "delete", self._delete),
        ]

    async def _make_bucket(self, call: Call) -> Response:
        name = (await read_document(call.request)).get("name")
        if not isinstance(name, str) or not name:
            raise ApiError(400, "A bucket needs a name.")
        if self._context.buckets.has(name):
            raise ApiError(409, "Your previous request to create the named bucket succeeded.")
        self._context.buckets.make(name)
        return json_response(_bucket_document(name))

    async def _bucket(self, call: Call) -> Response:
        if not self._context.buckets.has(call.arg):
            raise ApiError(404, "The specified bucket does not exist.")
        return json_response(_bucket_document(call.arg))

    async def _upload(self, call: Call) -> Response:
        context, params = self._context, call.request.params()
        kind = params.get("uploadType", "")
        if kind == "resumable":
            return await self._start(call)
        if reset := await reset_upload(context.faults, "gcs", context.attempt(), call.request):
            return reset
        document: Document = {}
        content_type = call.request.header("content-type")
        if kind == "multipart":
            document, content_type, path = await related(call.request, context.spool)
        elif kind == "media":
            path = await context.spool.write(body_chunks(call.request))
        else:
            raise ApiError(400, f"Unknown upload type: {kind!r}")
        name = params.get("name") or document.get("name")
        wanted = params.get("ifGenerationMatch")
        content_type = str(document.get("contentType") or content_type)
        try:
            self._check(call.arg, name, wanted)
        except ApiError:
            context.spool.drop(path)
            raise
        stored = context.buckets.put(
            call.arg, str(name), path, context.clock.now(), content_type, _texts(document.get("metadata"))
        )
        return json_response(_document(stored, call.request))

    def _check(self, bucket: str, name: object, wanted: str | None) -> None:
        if not isinstance(name, str) or not name:
            raise ApiError(400, "Required: the object's name.")
        self._context.buckets.check_generation(bucket, name, wanted)

    async def _start(self, call: Call) -> Response:
        params, request = call.request.params(), call.request
        document = await read_document(request)
        name, wanted = params.get("name") or document.get("name"), params.get("ifGenerationMatch")
        self._check(call.arg, name, wanted)
        content_type = document.get("contentType") or request.header("x-upload-content-type")
        path = self._context.spool.new()
        path.touch()
        metadata = _texts(document.get("metadata"))
        session = _Session(call.arg, str(name), str(content_type), metadata, path, wanted)
        upload_id = self._context.new_id("")
        self._sessions[upload_id] = session
        where = f"{_origin(request)}{request.path}?uploadType=resumable&upload_id={upload_id}"
        return Response(200, b"", {"location": where, "x-guploader-uploadid": upload_id})

    def _session(self, call: Call) -> tuple[str, _Session]:
        upload_id = call.request.params().get("upload_id", "")
        session = self._sessions.get(upload_id)
        if session is None:
            raise ApiError(404, "The upload does not exist, or has ended.")
        return upload_id, session

    async def _continue(self, call: Call) -> Response:
        upload_id, session = self._session(call)
        context, request = self._context, call.request
        if reset := await reset_upload(context.faults, "gcs", context.attempt(), request):
            return reset
        match = _CONTENT_RANGE.fullmatch(request.header("content-range"))
        start = int(match[1]) if match is not None and match[1] else session.received
        total = int(match[3]) if match is not None and match[3] != "*" else None
        if start != session.received and match is not None and match[1]:
            return _incomplete(session)
        size = session.received
        with session.path.open("r+b") as target:
            target.truncate(size)
            target.seek(size)
            async for chunk in body_chunks(request):
                size += target.write(chunk)
        session.received = size
        if match is not None and (total is None or size < total):
            return _incomplete(session)
        del self._sessions[upload_id]
        try:
            self._check(session.bucket, session.name, session.wanted)
        except ApiError:
            context.spool.drop(session.path)
            raise
        stored = context.buckets.put(
            session.bucket,
            session.name,
            session.path,
            context.clock.now(),
            session.content_type,
            session.metadata,
        )
        return json_response(_document(stored, request))

    async def _abandon(self, call: Call) -> Response:
        upload_id, session = self._session(call)
        del self._sessions[upload_id]
        self._context.spool.drop(session.path)
        return Response(499)

    def _found(self, call: Call) -> StoredObject:
        bucket, name = call.args
        stored = self._context.buckets.get(bucket, name)
        if stored is None:
            raise ApiError(404, f"No such object: {bucket}/{name}")
        return stored

    async def _get(self, call: Call) -> Response:
        if call.request.params().get("alt") == "media":
            response = await self._media(call)
            return bend_download(self._context.faults, "gcs", self._context.attempt(), response)
        return json_response(_document(self._found(call), call.request))

    async def _media(self, call: Call) -> Response:
        return object_response(self._found(call), call.request)

    async def _delete(self, call: Call) -> Response:
        bucket, name = call.args
        self._found(call)
        self._context.buckets.check_generation(bucket, name, call.request.params().get("ifGenerationMatch"))
        self._context.buckets.delete(bucket, name)
        return Response(204)

    async def _list(self, call: Call) -> Response:
        params = call.request.params()
        if not self._context.buckets.has(call.arg):
            raise ApiError(404, "The specified bucket does not exist.")
        given = params.get("maxResults", "")
        most = min(_MOST, int(given) if given.isdecimal() else _MOST) or _MOST
        prefix, delimiter = params.get("prefix", ""), params.get("delimiter", "")
        after = read_token(params.get("pageToken", ""))
        objects, prefixes, last = self._context.buckets.page(call.arg, prefix, delimiter, after, most)
        document: Document = {"kind": "storage#objects"}
        if last:
            document["nextPageToken"] = write_token(last)
        if prefixes:
            document["prefixes"] = prefixes
        if objects:
            document["items"] = [_document(stored, call.request) for stored in objects]
        return json_response(document)


def object_response(stored: StoredObject, request: Request) -> Response:
    """An object's bytes, or those of them that were asked for."""
    headers = object_headers(stored)
    wanted = byte_range(request.header("range"), stored.size)
    if wanted is None:
        headers["content-length"] = str(stored.size)
        return Response(200, stored.chunks(0, stored.size), headers)
    start, stop = wanted
    headers["content-length"] = str(stop - start)
    headers["content-range"] = f"bytes {start}-{stop - 1}/{stored.size}"
    return Response(206, stored.chunks(start, stop), headers)


def object_headers(stored: StoredObject) -> dict[str, str]:
    return {
        **stored.headers,
        "x-goog-generation": str(stored.generation),
        "x-goog-metageneration": "1",
        "x-goog-hash": f"md5={stored.md5}",
        "x-goog-stored-content-length": str(stored.size),
    }


def write_token(name: str) -> str:
    return urlsafe_b64encode(name.encode()).decode()


def read_token(token: str) -> str:
    try:
        return urlsafe_b64decode(token).decode()
    except (Base64Error, UnicodeDecodeError, ValueError):
        raise ApiError(400, "Invalid page token.") from None


def _incomplete(session: _Session) -> Response:
    headers = {"range": f"bytes=0-{session.received - 1}"} if session.received else {}
    return Response(308, b"", headers)


def _texts(value: object) -> dict[str, str]:
    return {str(key): str(text) for key, text in (as_document(value) or {}).items()}


def _origin(request: Request) -> str:
    return f"http://{request.header('host') or 'localhost'}/gcs"


def _bucket_document(name: str) -> Document:
    return {"kind": "storage#bucket", "id": name, "name": name, "location": "US", "storageClass": "STANDARD"}


def _document(stored: StoredObject, request: Request) -> Document:
    where = f"/storage/v1/b/{stored.bucket}/o/{quote(stored.name, safe='')}"
    at, origin = rfc3339(stored.created_at), _origin(request)
    document: Document = {
        "kind": "storage#object",
        "id": f"{stored.bucket}/{stored.name}/{stored.generation}",
        "selfLink": f"{origin}{where}",
        "mediaLink": f"{origin}/download{where}?generation={stored.generation}&alt=media",
        "name": stored.name,
        "bucket": stored.bucket,
        "generation": str(stored.generation),
        "metageneration": "1",
        "contentType": stored.content_type,
        "storageClass": "STANDARD",
        "size": str(stored.size),
        "md5Hash": stored.md5,
        "etag": stored.etag.strip('"'),
        "timeCreated": at,
        "updated": at,
    }
    return {**document, "metadata": stored.metadata} if stored.metadata else document
