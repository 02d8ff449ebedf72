"""A small S3: what `boto3` and `obstore` need of it to put data where Bedrock jobs read it, and to get results back.

Path style alone. A bucket is there as soon as something is put into it. Any key opens every bucket, and signatures are
not checked. No versions, no access control, no copies (S3 API reference).
"""

import base64
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import md5
from html import unescape
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import quote

import msgspec

from halfrate.emulator._context import Context
from halfrate.emulator._gcs_store import StoredObject
from halfrate.emulator._routes import Call, Handler, Route, Routes
from halfrate.emulator._s3_wire import element, error_response, unchunked, xml_response
from halfrate.emulator._surface import Surface, bearer, is_bad
from halfrate.emulator._wire import (
    ApiError,
    Request,
    Response,
    body_chunks,
    file_chunks,
    read_body,
    whole_number,
)

_CREDENTIAL: Final = re.compile(r"Credential=([^/,\s]+)/")
_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")
_PART: Final = re.compile(rb"<PartNumber>\s*(\d+)\s*</PartNumber>")
_KEY: Final = re.compile(rb"<Key>(.*?)</Key>", re.DOTALL)
_MOST: Final = 1_000


class _Upload(msgspec.Struct):
    """An object on its way in parts."""

    bucket: str
    key: str
    content_type: str
    parts: dict[int, Path] = {}


class _Paths(Routes):
    """A path is a bucket, then a key that may hold anything."""

    def __init__(self, surface: "S3Surface") -> None:
        super().__init__()
        self._objects: dict[str, tuple[str, Handler]] = {
            "GET": ("download", surface.get),
            "HEAD": ("poll-file", surface.head),
            "PUT": ("upload", surface.put),
            "POST": ("upload", surface.post),
            "DELETE": ("delete", surface.delete),
        }
        self._buckets: dict[str, tuple[str, Handler]] = {
            "GET": ("list", surface.list),
            "HEAD": ("poll-file", surface.accept_bucket),
            "PUT": ("upload", surface.accept_bucket),
            "POST": ("delete", surface.delete_many),
            "DELETE": ("delete", surface.drop_bucket),
        }

    def find(self, method: str, path: str) -> tuple[Route, tuple[str, ...]] | None:
        bucket, _, key = path.removeprefix("/").partition("/")
        found = (self._objects if key else self._buckets).get(method) if bucket else None
        if found is None:
            return None
        return Route(method, path, *found), (bucket, key)


class S3Surface(Surface):
    provider: ClassVar[str] = "s3"
    request_id_header: ClassVar[str] = "x-amz-request-id"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._buckets = context.s3_buckets
        self._uploads: dict[str, _Upload] = {}
        super().__init__(_Paths(self), ())

    def authenticated(self, request: Request) -> str:
        key = access_key(request) or "anonymous"
        if is_bad(key):
            raise ApiError(403, "The AWS Access Key Id you provided does not exist in our records.")
        return key

    def refused(self, error: ApiError, request_id: str) -> Response:
        return error_response(error, request_id)

    def unknown_path(self, request: Request) -> ApiError:
        return ApiError(405, "The specified method is not allowed against this resource.")

    def environment(self, url: str) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL_S3": url,
            "AWS_ACCESS_KEY_ID": "emulator",
            "AWS_SECRET_ACCESS_KEY": "emulator",
            "AWS_REGION": "us-east-1",
        }

    async def get(self, call: Call) -> Response:
        stored = self._stored(call)
        _check_conditions(call.request, stored)
        start, stop, partial = _bounds(call.request.header("range"), stored.size)
        headers = {**stored.headers, "content-length": str(stop - start)}
        if partial:
            headers["content-range"] = f"bytes {start}-{stop - 1}/{stored.size}"
        return Response(206 if partial else 200, stored.chunks(start, stop), headers)

    async def head(self, call: Call) -> Response:
        stored = self._stored(call)
        return Response(200, headers={**stored.headers, "content-length": str(stored.size)})

    async def put(self, call: Call) -> Response:
        bucket, key = call.args
        params = call.request.params()
        if "x-amz-copy-source" in call.request.headers:
            raise ApiError(501, "Objects cannot be copied here.", code="NotImplemented")
        path, digest = await self._spooled(call.request)
        if "uploadId" in params:
            upload = self._upload(call, path)
            number = whole_number(params.get("partNumber"), "partNumber", 0, 1, 10_000)
            if number in upload.parts:
                self._context.spool.drop(upload.parts[number])
            upload.parts[number] = path
            return Response(200, headers={"etag": f'"{digest.hex()}"'})
        try:
            _check_conditions(call.request, self._buckets.get(bucket, key))
        except ApiError:
            self._context.spool.drop(path)
            raise
        stored = self._keep(bucket, key, path, call.request.header("content-type"))
        return Response(200, headers={"etag": stored.etag})

    async def post(self, call: Call) -> Response:
        bucket, key = call.args
        params = call.request.params()
        if "uploads" in params:
            upload_id = self._context.new_id("")
            self._uploads[upload_id] = _Upload(bucket, key, call.request.header("content-type"))
            names = [element("Bucket", bucket), element("Key", key), element("UploadId", upload_id)]
            return xml_response("InitiateMultipartUploadResult", names)
        upload = self._upload(call)
        wanted = [int(number) for number in _PART.findall(await read_body(call.request, 1 << 22))]
        if not wanted or any(number not in upload.parts for number in wanted):
            raise ApiError(400, "One or more of the specified parts could not be found.", code="InvalidPart")
        if wanted != sorted(set(wanted)):
            raise ApiError(400, "The list of parts was not in ascending order.", code="InvalidPartOrder")
        path = self._context.spool.new()
        with path.open("wb") as target:
            for number in wanted:
                target.writelines(file_chunks(upload.parts[number]))
        self._forget(params["uploadId"])
        stored = self._keep(bucket, key, path, upload.content_type)
        names = [element("Bucket", bucket), element("Key", key), element("ETag", stored.etag)]
        return xml_response("CompleteMultipartUploadResult", names)

    async def delete(self, call: Call) -> Response:
        upload_id = call.request.params().get("uploadId")
        if upload_id is not None:
            self._upload(call)
            self._forget(upload_id)
        else:
            self._buckets.delete(*call.args)
        return Response(204)

    async def delete_many(self, call: Call) -> Response:
        body = await read_body(call.request, 1 << 24)
        keys = [unescape(key.decode()) for key in _KEY.findall(body)]
        for key in keys:
            self._buckets.delete(call.arg, key)
        return xml_response("DeleteResult", [element("Deleted", [element("Key", key)]) for key in keys])

    async def accept_bucket(self, call: Call) -> Response:
        self._buckets.make(call.arg)
        return Response(200, headers={"location": f"/{call.arg}", "x-amz-bucket-region": "us-east-1"})

    async def drop_bucket(self, call: Call) -> Response:
        if self._buckets.page(call.arg, "", "", "", 1)[0]:
            raise ApiError(409, "The bucket you tried to delete is not empty.", code="BucketNotEmpty")
        return Response(204)

    async def list(self, call: Call) -> Response:
        params = call.request.params()
        if "location" in params:
            return xml_response("LocationConstraint", [])
        prefix, delimiter = params.get("prefix", ""), params.get("delimiter", "")
        most = whole_number(params.get("max-keys"), "max-keys", _MOST, 0, _MOST)
        after = params.get("start-after", params.get("marker", ""))
        if "continuation-token" in params:
            after = _decoded(params["continuation-token"])
        found, folders, last = self._buckets.page(call.arg, prefix, delimiter, after, most)
        encoded = params.get("encoding-type") == "url"

        def text(key: str) -> str:
            return quote(key) if encoded else key

        children = [
            element("Name", call.arg),
            element("Prefix", text(prefix)),
            element("KeyCount", len(found) + len(folders)),
            element("MaxKeys", most),
            element("IsTruncated", bool(last)),
        ]
        if encoded:
            children.append(element("EncodingType", "url"))
        if delimiter:
            children.append(element("Delimiter", text(delimiter)))
        if last:
            token = base64.urlsafe_b64encode(last.encode()).decode()
            children.append(element("NextContinuationToken", token))
        children += [element("Contents", _row(stored, text(stored.name))) for stored in found]
        children += [element("CommonPrefixes", [element("Prefix", text(one))]) for one in folders]
        return xml_response("ListBucketResult", children)

    def _stored(self, call: Call) -> StoredObject:
        found = self._buckets.get(*call.args)
        if found is None:
            if not self._buckets.has(call.arg):
                raise ApiError(404, "The specified bucket does not exist", code="NoSuchBucket")
            raise ApiError(404, "The specified key does not exist.", code="NoSuchKey")
        return found

    def _keep(self, bucket: str, key: str, path: Path, content_type: str) -> StoredObject:
        return self._buckets.put(bucket, key, path, self._context.clock.now(), content_type)

    def _upload(self, call: Call, path: Path | None = None) -> _Upload:
        """The upload in parts that a call is about; `path` is what goes away where there is none."""
        found = self._uploads.get(call.request.params().get("uploadId", ""))
        if found is None or (found.bucket, found.key) != call.args:
            if path is not None:
                self._context.spool.drop(path)
            raise ApiError(404, "The specified multipart upload does not exist.", code="NoSuchUpload")
        return found

    def _forget(self, upload_id: str) -> None:
        for path in self._uploads.pop(upload_id).parts.values():
            self._context.spool.drop(path)

    async def _spooled(self, request: Request) -> tuple[Path, bytes]:
        """Where a body lies now, and its MD5."""
        chunks = body_chunks(request)
        if "aws-chunked" in request.header("content-encoding") or request.header(
            "x-amz-content-sha256"
        ).startswith("STREAMING-"):
            chunks = unchunked(chunks)
        digest = md5(usedforsecurity=False)
        path = await self._context.spool.write(chunks, also=digest.update)
        return path, digest.digest()


def access_key(request: Request) -> str:
    """The access key id of a signed request, or its bearer token; "" where there is neither."""
    given = request.params().get("X-Amz-Credential")
    if given is not None:
        return given.partition("/")[0]
    found = _CREDENTIAL.search(request.header("authorization"))
    return found.group(1) if found is not None else bearer(request)


def _row(stored: StoredObject, key: str) -> list[str]:
    moment = datetime.fromtimestamp(stored.created_at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return [*_pairs(Key=key, LastModified=moment, ETag=stored.etag, Size=stored.size)]


def _pairs(**values: str | int) -> Iterator[str]:
    for name, value in {**values, "StorageClass": "STANDARD"}.items():
        yield element(name, value)


def _check_conditions(request: Request, stored: StoredObject | None) -> None:
    match, none = request.header("if-match"), request.header("if-none-match")
    held = None if stored is None else stored.etag
    if (match and match not in {"*", held}) or (match and held is None):
        raise ApiError(412, "At least one of the pre-conditions you specified did not hold")
    if none and held is not None and none in {"*", held}:
        status = 304 if request.method == "GET" else 412
        raise ApiError(status, "At least one of the pre-conditions you specified did not hold")


def _bounds(text: str, size: int) -> tuple[int, int, bool]:
    """(start, stop, whether that is a part) for a Range header."""
    found = _RANGE.fullmatch(text.strip())
    if found is None or not (found.group(1) or found.group(2)):
        return 0, size, False
    first, last = found.group(1), found.group(2)
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= stop:
        raise ApiError(416, "The requested range is not satisfiable")
    return start, stop, True


def _decoded(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except ValueError:
        raise ApiError(400, "The continuation token provided is incorrect") from None
