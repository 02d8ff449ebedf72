"""Cloud Storage's XML API (reference: XML API), as much of it as object clients in the style of S3 use."""

import re
from pathlib import Path
from urllib.parse import unquote
from xml.sax.saxutils import escape

import msgspec

from halfrate.emulator._context import Context, rfc3339
from halfrate.emulator._gcs_json import object_headers, object_response, read_token, write_token
from halfrate.emulator._gcs_store import StoredObject
from halfrate.emulator._quirks import reset_upload
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._wire import ApiError, Response, body_chunks, file_chunks, read_body

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>'
_CODES = {400: "InvalidArgument", 404: "NoSuchKey", 412: "PreconditionFailed", 416: "InvalidRange"}
_PART = re.compile(r"<PartNumber>\s*(\d+)\s*</PartNumber>")
_MOST = 1_000
_MOST_XML = 4 * 1024 * 1024


class _Parts(msgspec.Struct):
    """A multipart upload on its way."""

    bucket: str
    name: str
    content_type: str
    parts: dict[int, Path] = {}


class GcsXml:
    """The handlers. Paths are regular expressions: a bucket, and a name with slashes in it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._uploads: dict[str, _Parts] = {}

    def routes(self) -> list[Route]:
        named = r"/([^/]+)/(.+)"
        return [
            Route("GET", r"/([^/]+)/?", "list", self._list),
            Route("GET", named, "download", self._get),
            Route("HEAD", named, "poll-file", self._head),
            Route("PUT", named, "upload", self._put),
            Route("POST", named, "upload", self._post),
            Route("DELETE", named, "delete", self._delete),
        ]

    def _found(self, call: Call) -> StoredObject:
        stored = self._context.buckets.get(*call.args)
        if stored is None:
            raise _failed(404, "The specified key does not exist.")
        return stored

    async def _get(self, call: Call) -> Response:
        stored = self._found(call)
        if stored.etag in call.request.header("if-none-match"):
            return Response(304, b"", object_headers(stored))
        wanted = call.request.header("if-match")
        if wanted and stored.etag not in wanted:
            raise _failed(412, "At least one of the pre-conditions you specified did not hold.")
        return object_response(stored, call.request)

    async def _head(self, call: Call) -> Response:
        stored = self._context.buckets.get(*call.args)
        if stored is None:
            return Response(404)
        return Response(200, b"", {**object_headers(stored), "content-length": str(stored.size)})

    async def _put(self, call: Call) -> Response:
        context, request = self._context, call.request
        params = request.params()
        if reset := await reset_upload(context.faults, "gcs", context.attempt(), request):
            return reset
        if "uploadId" in params:
            return await self._put_part(call, params["uploadId"], params.get("partNumber", ""))
        bucket, name = call.args
        source = request.header("x-goog-copy-source")
        path = self._copied(source) if source else await context.spool.write(body_chunks(request))
        try:
            wanted = request.headers.get("x-goog-if-generation-match")
            context.buckets.check_generation(bucket, name, wanted)
        except ApiError as error:
            context.spool.drop(path)
            raise _failed(error.status, error.message) from None
        stored = context.buckets.put(bucket, name, path, context.clock.now(), request.header("content-type"))
        body = (
            f"{_HEAD}<CopyObjectResult><ETag>{escape(stored.etag)}</ETag></CopyObjectResult>"
            if source
            else ""
        )
        return Response(200, body.encode(), object_headers(stored) | {"content-type": "application/xml"})

    def _copied(self, source: str) -> Path:
        bucket, _, name = unquote(source).removeprefix("/").partition("/")
        stored = self._context.buckets.get(bucket, name)
        if stored is None:
            raise _failed(404, "The specified key does not exist.")
        return self._joined([stored.path])

    def _joined(self, paths: list[Path]) -> Path:
        made = self._context.spool.new()
        with made.open("wb") as target:
            for path in paths:
                target.writelines(file_chunks(path))
        return made

    async def _put_part(self, call: Call, upload_id: str, number: str) -> Response:
        upload = self._upload(upload_id)
        if not number.isdecimal():
            raise _failed(400, "Invalid part number.")
        upload.parts[int(number)] = await self._context.spool.write(body_chunks(call.request))
        return Response(200, b"", {"etag": f'"{upload_id}-{number}"'})

    def _upload(self, upload_id: str) -> _Parts:
        upload = self._uploads.get(upload_id)
        if upload is None:
            raise _failed(404, "The requested upload was not found.")
        return upload

    async def _post(self, call: Call) -> Response:
        """Start a multipart upload, or complete one."""
        params, (bucket, name) = call.request.params(), call.args
        if "uploads" in params:
            upload_id = self._context.new_id("")
            content_type = call.request.header("content-type")
            self._uploads[upload_id] = _Parts(bucket, name, content_type)
            inner = (
                f"<Bucket>{escape(bucket)}</Bucket><Key>{escape(name)}</Key><UploadId>{upload_id}</UploadId>"
            )
            return _xml(f"<InitiateMultipartUploadResult>{inner}</InitiateMultipartUploadResult>")
        upload = self._upload(params.get("uploadId", ""))
        text = (await read_body(call.request, _MOST_XML)).decode(errors="replace")
        numbers = [int(number) for number in _PART.findall(text)]
        if not numbers or any(number not in upload.parts for number in numbers):
            raise _failed(400, "A part that was named has not been uploaded.")
        path = self._joined([upload.parts[number] for number in numbers])
        self._forget(params["uploadId"])
        stored = self._context.buckets.put(bucket, name, path, self._context.clock.now(), upload.content_type)
        inner = (
            f"<Bucket>{escape(bucket)}</Bucket><Key>{escape(name)}</Key><ETag>{escape(stored.etag)}</ETag>"
        )
        response = _xml(f"<CompleteMultipartUploadResult>{inner}</CompleteMultipartUploadResult>")
        headers = object_headers(stored) | dict(response.headers)
        return msgspec.structs.replace(response, headers=headers)

    def _forget(self, upload_id: str) -> None:
        for path in self._uploads.pop(upload_id).parts.values():
            self._context.spool.drop(path)

    async def _delete(self, call: Call) -> Response:
        upload_id = call.request.params().get("uploadId")
        if upload_id is not None:
            self._upload(upload_id)
            self._forget(upload_id)
            return Response(204)
        self._found(call)
        self._context.buckets.delete(*call.args)
        return Response(204)

    async def _list(self, call: Call) -> Response:
        params, bucket = call.request.params(), call.arg
        given = params.get("max-keys", "")
        most = min(_MOST, int(given) if given.isdecimal() else _MOST) or _MOST
        after = read_token(params.get("continuation-token", "")) or params.get("start-after", "")
        prefix, delimiter = params.get("prefix", ""), params.get("delimiter", "")
        objects, prefixes, last = self._context.buckets.page(bucket, prefix, delimiter, after, most)
        parts = [f"<Name>{escape(bucket)}</Name><Prefix>{escape(prefix)}</Prefix>"]
        parts.append(f"<IsTruncated>{'true' if last else 'false'}</IsTruncated>")
        if last:
            parts.append(f"<NextContinuationToken>{write_token(last)}</NextContinuationToken>")
        parts += [f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in prefixes]
        parts += map(_entry, objects)
        return _xml(f"<ListBucketResult>{''.join(parts)}</ListBucketResult>")


def _entry(stored: StoredObject) -> str:
    inner = (
        f"<Key>{escape(stored.name)}</Key><Generation>{stored.generation}</Generation>"
        f"<LastModified>{rfc3339(stored.created_at)}</LastModified>"
        f"<ETag>{escape(stored.etag)}</ETag><Size>{stored.size}</Size>"
    )
    return f"<Contents>{inner}</Contents>"


def _xml(inner: str) -> Response:
    return Response(200, f"{_HEAD}{inner}".encode(), {"content-type": "application/xml; charset=UTF-8"})


def _failed(status: int, message: str) -> ApiError:
    return ApiError(status, message, kind=_CODES.get(status, "InternalError"))


def error_body(error: ApiError) -> bytes:
    """An error as the XML API words it; `kind` is its code."""
    code = error.kind or _CODES.get(error.status, "InternalError")
    return f"{_HEAD}<Error><Code>{code}</Code><Message>{escape(error.message)}</Message></Error>".encode()
