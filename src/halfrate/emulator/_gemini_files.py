"""Gemini's Files API (reference: Files; guide: batch). A file belongs to the project of the key that made it.

Uploads are resumable: a start call answers with the URL to send the bytes to, and whoever knows that URL may send
them (its calls carry no key). Files end 48 hours after they were made. What was uploaded can be looked at but not
downloaded; what the service has generated, the results of a batch, can.
"""

import heapq
import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import msgspec

from halfrate.emulator._context import Context, rfc3339
from halfrate.emulator._gemini_wire import listing, not_found, page, pick, pick_document, whole
from halfrate.emulator._quirks import reset_upload
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._wire import (
    ApiError,
    Document,
    Request,
    Response,
    body_chunks,
    file_chunks,
    json_response,
    read_document,
)

HOUR = 3_600.0
_NAME = re.compile(r"^files/[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$")
_GRANULARITY = 8 * 1024 * 1024
_FINAL = {"x-goog-upload-status": "final"}


class GeminiFile(msgspec.Struct):
    """A file as the Files API shows it, and where its bytes lie."""

    name: str
    project: str
    display_name: str
    mime_type: str
    size: int
    path: Path
    digest: str
    created_at: float
    expires_at: float
    serial: int
    generated: bool = False

    def view(self, origin: str) -> Document:
        found: Document = {"name": self.name, "mimeType": self.mime_type, "sizeBytes": str(self.size)}
        if self.display_name:
            found["displayName"] = self.display_name
        created = rfc3339(self.created_at)
        found |= {"createTime": created, "updateTime": created}
        found["expirationTime"] = rfc3339(self.expires_at)
        found |= {"sha256Hash": self.digest, "uri": f"{origin}/v1beta/{self.name}", "state": "ACTIVE"}
        if self.generated:
            found["downloadUri"] = f"{origin}/v1beta/{self.name}:download?alt=media"
        return {**found, "source": "GENERATED" if self.generated else "UPLOADED"}


class _Upload(msgspec.Struct):
    """A file on its way: what was announced, and what has arrived."""

    id: str
    project: str
    name: str
    display_name: str
    mime_type: str
    announced: int | None
    path: Path
    received: int = 0
    file: GeminiFile | None = None


class GeminiFiles:
    """The files of every project."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._files: dict[str, GeminiFile] = {}
        self._uploads: dict[str, _Upload] = {}
        self._expiries: list[tuple[float, str, int]] = []
        self._stored: dict[str, int] = {}
        self._serial = 0

    def routes(self, version: str) -> list[Route]:
        return [
            Route("POST", f"/upload/{version}/files", "upload", self._upload),
            Route("PUT", f"/upload/{version}/files", "upload", self._upload),
            Route("GET", f"/{version}/files", "list", self._list),
            Route("GET", f"/{version}/files/{{}}:download", "download", self._download),
            Route("GET", f"/{version}/files/{{}}", "poll-file", self._get),
            Route("DELETE", f"/{version}/files/{{}}", "delete", self._delete),
        ]

    def advance(self, now: float) -> None:
        """Drop the files whose life is over."""
        while self._expiries and self._expiries[0][0] <= now:
            _, name, serial = heapq.heappop(self._expiries)
            if name in self._files and self._files[name].serial == serial:
                self.drop(self._files[name])

    def uploader(self, request: Request) -> str | None:
        """Whose upload a call without a key goes on with; None when it is no such call."""
        upload = self._uploads.get(request.params().get("upload_id", ""))
        return None if upload is None else upload.project

    def find(self, project: str, name: str) -> GeminiFile | None:
        """A file by its name, if that project may see it."""
        found = self._files.get(name)
        return found if found is not None and found.project == project else None

    def generate(self, path: Path, project: str, name: str, at: float) -> GeminiFile:
        """Keep results that lie at `path`."""
        digest = sha256()
        for chunk in file_chunks(path):
            digest.update(chunk)
        names = (project, name, "", "application/jsonl")
        return self._store(path, names, digest.hexdigest(), at, generated=True)

    def drop(self, stored: GeminiFile) -> None:
        del self._files[stored.name]
        self._stored[stored.project] -= stored.size
        self._context.spool.drop(stored.path)
        self._context.meter.files_stored -= 1
        self._context.meter.bytes_stored -= stored.size

    def _store(
        self, path: Path, names: tuple[str, str, str, str], digest: str, at: float, *, generated: bool = False
    ) -> GeminiFile:
        project, name, display_name, mime_type = names
        self._serial += 1
        size, ends = path.stat().st_size, at + self._context.limits.gemini_file_hours * HOUR
        shown = b64encode(digest.encode()).decode()
        stored = GeminiFile(
            name,
            project,
            display_name,
            mime_type,
            size,
            path,
            shown,
            at,
            ends,
            self._serial,
            generated=generated,
        )
        self._files[name] = stored
        self._stored[project] = self._stored.get(project, 0) + size
        heapq.heappush(self._expiries, (ends, name, self._serial))
        self._context.meter.files_stored += 1
        self._context.meter.bytes_stored += size
        return stored

    async def _upload(self, call: Call) -> Response:
        """The start call, or one that goes on with an upload."""
        if "upload_id" in call.request.params():
            try:
                return await self._continue(call)
            except ApiError as error:
                # Google's upload protocol: `final` with an error status says that the upload was rejected.
                error.headers = {**_FINAL, **error.headers}
                raise
        return await self._start(call)

    async def _start(self, call: Call) -> Response:
        headers = call.request.headers
        if headers.get("x-goog-upload-protocol", "").lower() != "resumable":
            raise ApiError(400, "Uploads are resumable here: X-Goog-Upload-Protocol must say so.")
        described = pick_document(await read_document(call.request), "file")
        announced = whole(headers.get("x-goog-upload-header-content-length", ""))
        mime = headers.get("x-goog-upload-header-content-type") or str(pick(described, "mimeType") or "")
        if not mime:
            raise ApiError(400, "The MIME type of the file is missing.")
        self._check_room(call.project, announced or 0)
        name = pick(described, "name") or self._context.new_id("files/")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            message = "must be `files/` and up to 40 lower-case letters, digits and dashes."
            raise ApiError(400, f"* CreateFileRequest.file.name: {message}")
        if name in self._files:
            raise ApiError(409, f"File {name} already exists.")
        display = str(pick(described, "displayName") or "")
        upload = _Upload(
            self._context.new_id(""), call.project, name, display, mime, announced, self._context.spool.new()
        )
        upload.path.touch()
        self._uploads[upload.id] = upload
        where = f"{origin(call.request)}{call.request.path}?upload_id={upload.id}&upload_protocol=resumable"
        told = {
            "x-goog-upload-url": where,
            "x-goog-upload-control-url": where,
            "x-goog-upload-chunk-granularity": str(_GRANULARITY),
            "x-goog-upload-status": "active",
        }
        return json_response({}, headers=told)

    def _check_room(self, project: str, size: int) -> None:
        limits = self._context.limits
        if size > limits.gemini_file_bytes:
            raise ApiError(400, f"The file is larger than {limits.gemini_file_bytes} bytes.")
        if self._stored.get(project, 0) + size > limits.gemini_storage_bytes:
            raise ApiError(429, f"The project's files may have {limits.gemini_storage_bytes} bytes in all.")

    async def _continue(self, call: Call) -> Response:
        upload = self._uploads.get(call.request.params()["upload_id"])
        if upload is None or upload.project != call.project:
            raise ApiError(404, "The upload does not exist, or has ended.")
        headers = call.request.headers
        commands = {word.strip() for word in headers.get("x-goog-upload-command", "").lower().split(",")}
        if "query" in commands:
            return self._told(upload)
        if "cancel" in commands:
            self._end(upload)
            return json_response({}, headers={"x-goog-upload-status": "cancelled"})
        if not commands & {"upload", "finalize"}:
            raise ApiError(400, "Invalid X-Goog-Upload-Command.")
        if upload.file is None and "upload" in commands:
            context = self._context
            if reset := await reset_upload(context.faults, "gemini", context.attempt(), call.request):
                return reset
            await self._take(upload, call.request)
        if "finalize" in commands and upload.file is None:
            self._finish(upload)
        if upload.file is not None:
            return json_response({"file": upload.file.view(origin(call.request))}, headers=_FINAL)
        return self._told(upload)

    def _told(self, upload: _Upload) -> Response:
        told = {"x-goog-upload-status": "active" if upload.file is None else "final"}
        return json_response({}, headers={**told, "x-goog-upload-size-received": str(upload.received)})

    def _end(self, upload: _Upload) -> None:
        self._uploads.pop(upload.id, None)
        self._context.spool.drop(upload.path)

    async def _take(self, upload: _Upload, request: Request) -> None:
        """Append one piece. A piece that does not arrive whole leaves no trace."""
        offset = whole(request.header("x-goog-upload-offset") or "0")
        if offset != upload.received:
            raise ApiError(400, f"The offset is {offset}, but {upload.received} bytes have been received.")
        most = upload.announced
        if most is None:
            most = self._context.limits.gemini_file_bytes
        size = upload.received
        with upload.path.open("r+b") as target:
            target.truncate(upload.received)
            target.seek(upload.received)
            async for chunk in body_chunks(request):
                size += len(chunk)
                if size > most:
                    raise ApiError(400, f"More bytes were sent than the {most} that may come.")
                target.write(chunk)
        upload.received = size

    def _finish(self, upload: _Upload) -> None:
        if upload.announced is not None and upload.received != upload.announced:
            message = f"The upload has {upload.received} bytes, {upload.announced} were announced."
            raise ApiError(400, message)
        self._check_room(upload.project, upload.received)
        digest = sha256()
        for chunk in file_chunks(upload.path, upload.received):
            digest.update(chunk)
        names = (upload.project, upload.name, upload.display_name, upload.mime_type)
        # The bytes may have taken a while to arrive: the file is as old as its last one.
        upload.file = self._store(upload.path, names, digest.hexdigest(), self._context.clock.now())

    def _named(self, call: Call) -> GeminiFile:
        found = self.find(call.project, f"files/{call.arg}")
        if found is None:
            # What Google says of a file that is not there does not tell it from somebody else's.
            message = f"You do not have permission to access the File {call.arg} or it may not exist."
            raise ApiError(403, message)
        return found

    async def _get(self, call: Call) -> Response:
        return json_response(self._named(call).view(origin(call.request)))

    async def _list(self, call: Call) -> Response:
        mine = [(stored.serial, stored) for stored in self._files.values() if stored.project == call.project]
        mine.sort(key=lambda pair: pair[0], reverse=True)
        shown, token = page(call.request, mine, 10, 100)
        return listing("files", [stored.view(origin(call.request)) for stored in shown], token)

    async def _delete(self, call: Call) -> Response:
        self.drop(self._named(call))
        return json_response({})

    async def _download(self, call: Call) -> Response:
        stored = self.find(call.project, f"files/{call.arg}")
        if stored is None:
            raise not_found()
        if not stored.generated:
            raise ApiError(400, "Only generated files can be downloaded; this one was uploaded.")
        if call.request.params().get("alt") != "media":
            raise ApiError(400, "A download needs alt=media.")
        headers = {"content-type": stored.mime_type, "content-length": str(stored.size)}
        return Response(200, file_chunks(stored.path, stored.size), headers)


def origin(request: Request) -> str:
    """Where this API is reached, as the request's own caller reaches it."""
    return f"http://{request.header('host') or 'localhost'}/gemini"
