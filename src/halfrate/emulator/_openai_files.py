"""OpenAI files and uploads, in every dialect (API reference: Files, Uploads). A file is its key's alone."""

import heapq
import shutil
from collections.abc import Mapping
from hashlib import md5
from pathlib import Path

import msgspec

from halfrate.emulator._context import Context
from halfrate.emulator._dialects import OPENAI, Dialect
from halfrate.emulator._multipart import Form, read_form
from halfrate.emulator._quirks import reset_upload
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._settings import DAY
from halfrate.emulator._wire import (
    ApiError,
    Document,
    Response,
    as_document,
    as_list,
    file_chunks,
    json_response,
    read_document,
    whole_number,
)

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
_LONGEST = 30 * 86_400
_UPLOAD_LIFE = 3_600.0


class StoredFile(msgspec.Struct):
    """A file as the Files API shows it, and where its bytes lie."""

    id: str
    project: str
    filename: str
    purpose: str
    size: int
    path: Path
    created_at: float
    expires_at: float | None
    serial: int
    ready_at: float = 0.0
    pending_until: float | None = None
    """When the provider has looked at it; None: there is nothing to wait for."""

    def pending(self, now: float) -> bool:
        """Whether the file is still to be processed. Whoever made it sees that at least once."""
        return self.pending_until is not None and now < self.pending_until

    def view(self, dialect: Dialect, *, pending: bool) -> Document:
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.size,
            "created_at": dialect.time(self.created_at),
            "expires_at": dialect.time(self.expires_at),
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "pending" if pending else dialect.file_status,
            "status_details": None,
        }


class PendingUpload(msgspec.Struct):
    """A big file on its way in parts."""

    id: str
    project: str
    filename: str
    purpose: str
    size: int
    created_at: float
    expires_in: float | None
    status: str = "pending"
    parts: dict[str, tuple[Path, int]] = {}
    file: StoredFile | None = None

    def view(self, dialect: Dialect) -> Document:
        return {
            "id": self.id,
            "object": "upload",
            "bytes": self.size,
            "created_at": dialect.time(self.created_at),
            "expires_at": dialect.time(self.created_at + _UPLOAD_LIFE),
            "filename": self.filename,
            "purpose": self.purpose,
            "status": self.status,
            "file": None if self.file is None else self.file.view(dialect, pending=False),
        }


def read_life(given: object, name: str = "expires_after", *, shortest: int = 3_600) -> float | None:
    """The seconds of an `{anchor, seconds}` object; ApiError outside what is allowed, up to 30 days."""
    if given is None:
        return None
    found = as_document(given)
    seconds = None if found is None else found.get("seconds")
    if found is None or found.get("anchor") != "created_at":
        message = f"Invalid value for '{name}.anchor': expected 'created_at'."
        raise ApiError(400, message, param=f"{name}.anchor")
    if not isinstance(seconds, int) or not shortest <= seconds <= _LONGEST:
        message = f"Invalid '{name}.seconds': expected a value between {shortest} and {_LONGEST}."
        raise ApiError(400, message, param=f"{name}.seconds")
    return float(seconds)


def _form_life(fields: Mapping[str, str], shortest: int) -> float | None:
    """The same from form fields: `expires_after[seconds]`, or with a dot as some clients write it."""
    found: Document = {}
    for key in ("anchor", "seconds"):
        for spelling in (f"expires_after[{key}]", f"expires_after.{key}"):
            if spelling in fields:
                found[key] = fields[spelling]
    seconds = found.get("seconds")
    if seconds is not None:
        found["seconds"] = int(seconds) if str(seconds).isdecimal() else None
    return read_life(found, shortest=shortest) if found else None


def _checked_fields(fields: Mapping[str, str], shortest: int) -> tuple[str, float | None]:
    """(purpose, life) of an upload."""
    purpose = fields.get("purpose", "")
    if purpose not in PURPOSES:
        message = f"Invalid value for 'purpose': expected one of {', '.join(PURPOSES)}."
        raise ApiError(400, message, param="purpose")
    return purpose, _form_life(fields, shortest)


class OpenAIFiles:
    """The project files of every key."""

    def __init__(self, context: Context, dialect: Dialect = OPENAI) -> None:
        self._context = context
        self._dialect = dialect
        self._caps = dialect.caps.within(context.limits)
        self._files: dict[str, StoredFile] = {}
        self._uploads: dict[str, PendingUpload] = {}
        self._expiries: list[tuple[float, str]] = []
        self._serial = 0

    def routes(self) -> list[Route]:
        table = [
            ("POST", "/files", "upload", self._create),
            ("GET", "/files", "list", self._list),
            ("GET", "/files/{}", "poll-file", self._retrieve),
            ("DELETE", "/files/{}", "delete", self._delete),
            ("GET", "/files/{}/content", "download", self._content),
        ]
        if self._dialect.parts:
            table += [
                ("POST", "/uploads", "upload", self._start_upload),
                ("POST", "/uploads/{}/parts", "upload", self._add_part),
                ("POST", "/uploads/{}/complete", "upload", self._complete_upload),
                ("POST", "/uploads/{}/cancel", "upload", self._cancel_upload),
            ]
        return [
            Route(method, pattern, operation, handler)
            for method, path, operation, handler in table
            for pattern in self._dialect.routes_to(path)
        ]

    def advance(self, now: float) -> None:
        """Drop the files whose life is over."""
        while self._expiries and self._expiries[0][0] <= now:
            _, file_id = heapq.heappop(self._expiries)
            if file_id in self._files:
                self._drop(self._files[file_id])

    def store(
        self, path: Path, names: tuple[str, str, str], at: float, life: float | None, file_id: str = ""
    ) -> StoredFile:
        """Keep a file that lies at `path`; `names` are project, filename and purpose. An id is made where none is
        given."""
        project, filename, purpose = names
        self._serial += 1
        dialect, is_input = self._dialect, purpose == self._dialect.purpose
        if life is None and (is_input or purpose == dialect.output_purpose):
            life = self._usual_life()
        expires_at = None if life is None else at + life
        size = path.stat().st_size
        file_id = file_id or self._context.new_id("file-")
        stored = StoredFile(file_id, project, filename, purpose, size, path, at, expires_at, self._serial)
        late = self._context.faults.strike("file-not-ready", dialect.provider, file_id) if is_input else None
        if late is not None:
            stored.ready_at = at + late.number("seconds")
        if dialect.pending_first and is_input:
            stored.pending_until = at + self._context.pace.validate
        self._files[file_id] = stored
        if expires_at is not None:
            heapq.heappush(self._expiries, (expires_at, file_id))
        self._context.meter.files_stored += 1
        self._context.meter.bytes_stored += size
        return stored

    def _usual_life(self) -> float | None:
        days, given = self._dialect.file_days, self._context.limits.openai_file_days
        # As with the caps: what has been changed for this emulator holds for every dialect.
        days = given if given != OPENAI.file_days else days
        return None if days is None else days * DAY

    def find(self, project: str, file_id: str) -> StoredFile | None:
        """A file by its id, if that key may see it."""
        found = self._files.get(file_id)
        return found if found is not None and found.project == project else None

    def discard(self, project: str, file_id: str) -> None:
        """Delete a file, if it is still there."""
        found = self.find(project, file_id)
        if found is not None:
            self._drop(found)

    def of(self, project: str) -> list[StoredFile]:
        """Every file of a key, the oldest first."""
        found = [stored for stored in self._files.values() if stored.project == project]
        return sorted(found, key=lambda stored: stored.serial)

    def _make_room(self, project: str, purpose: str, life: float | None) -> None:
        """ApiError where the key has as many input files as it may have."""
        caps = self._caps
        if caps.files is None or purpose != self._dialect.purpose:
            return
        lives = [stored.expires_at for stored in self.of(project) if stored.purpose == purpose]
        expiring = life is not None and None not in lives
        most = caps.files_expiring if expiring and caps.files_expiring is not None else caps.files
        if len(lives) >= most:
            message = f"The number of batch input files exceeds the limit of {most}. Delete some of them."
            raise ApiError(400, message, code="quota_exceeded", param="file")

    def _drop(self, stored: StoredFile) -> None:
        del self._files[stored.id]
        self._context.spool.drop(stored.path)
        self._context.meter.files_stored -= 1
        self._context.meter.bytes_stored -= stored.size

    def _get(self, call: Call) -> StoredFile:
        found = self.find(call.project, call.arg)
        if found is None:
            raise ApiError(404, f"No such File object: {call.arg}", param="id")
        return found

    async def _reset(self, call: Call) -> Response | None:
        context = self._context
        return await reset_upload(context.faults, self._dialect.provider, context.attempt(), call.request)

    async def _read_form(self, call: Call, file_field: str, limit: int) -> Form:
        form = await read_form(call.request, file_field, self._context.spool, limit)
        if form.path is None:
            message = f"Missing required parameter: '{file_field}'."
            raise ApiError(400, message, code="missing_required_parameter", param=file_field)
        return form

    async def _create(self, call: Call) -> Response:
        if reset := await self._reset(call):
            return reset
        form = await self._read_form(call, "file", self._caps.file_bytes)
        path = form.path or Path()
        try:
            purpose, life = _checked_fields(form.fields, self._dialect.shortest_life)
            self._make_room(call.project, purpose, life)
        except ApiError:
            self._context.spool.drop(path)
            raise
        # The body may have taken a while to arrive: the file is as old as its last byte.
        now = self._context.clock.now()
        stored = self.store(path, (call.project, form.filename, purpose), now, life)
        return json_response(stored.view(self._dialect, pending=stored.pending_until is not None))

    async def _retrieve(self, call: Call) -> Response:
        return json_response(self._view(self._get(call), call.now))

    def _view(self, stored: StoredFile, now: float) -> Document:
        return stored.view(self._dialect, pending=stored.pending(now))

    async def _list(self, call: Call) -> Response:
        params = call.request.params()
        limit = whole_number(params.get("limit"), "limit", 10_000, 1, 10_000)
        purpose, newest_first = params.get("purpose"), params.get("order", "desc") != "asc"
        found = [stored for stored in self.of(call.project) if purpose in {None, stored.purpose}]
        if newest_first:
            found.reverse()
        page, more = page_after([stored.id for stored in found], params.get("after"), limit)
        return json_response(listing([self._view(self._files[file_id], call.now) for file_id in page], more))

    async def _delete(self, call: Call) -> Response:
        stored = self._get(call)
        self._drop(stored)
        return json_response({"id": stored.id, "object": "file", "deleted": True})

    async def _content(self, call: Call) -> Response:
        stored = self._get(call)
        headers = {
            "content-type": "application/octet-stream",
            "content-length": str(stored.size),
            "content-disposition": 'attachment; filename="download"',
        }
        return Response(200, file_chunks(stored.path, stored.size), headers)

    async def _start_upload(self, call: Call) -> Response:
        body = await read_document(call.request)
        for key, kind in (("filename", str), ("purpose", str), ("mime_type", str), ("bytes", int)):
            if not isinstance(body.get(key), kind):
                message = f"Missing required parameter: '{key}'."
                raise ApiError(400, message, code="missing_required_parameter", param=key)
        if not 0 < body["bytes"] <= self._context.limits.openai_upload_bytes:
            raise ApiError(400, "Invalid 'bytes': expected 1 byte to 8 GB.", param="bytes")
        life = read_life(body.get("expires_after"), shortest=self._dialect.shortest_life)
        names = (body["filename"], body["purpose"], body["bytes"])
        upload = PendingUpload(self._context.new_id("upload_"), call.project, *names, call.now, life)
        self._uploads[upload.id] = upload
        return json_response(upload.view(self._dialect))

    def _pending(self, call: Call) -> PendingUpload:
        upload = self._uploads.get(call.arg)
        if upload is None or upload.project != call.project:
            raise ApiError(404, f"No such Upload object: {call.arg}", param="upload_id")
        if upload.status == "pending" and call.now >= upload.created_at + _UPLOAD_LIFE:
            self._close(upload, "expired")
        if upload.status != "pending":
            raise ApiError(400, f"Upload {upload.id} is {upload.status} and takes no more calls.")
        return upload

    def _close(self, upload: PendingUpload, status: str) -> None:
        upload.status = status
        for path, _ in upload.parts.values():
            self._context.spool.drop(path)
        upload.parts.clear()

    async def _add_part(self, call: Call) -> Response:
        upload = self._pending(call)
        if reset := await self._reset(call):
            return reset
        form = await self._read_form(call, "data", self._context.limits.openai_part_bytes)
        part_id = self._context.new_id("part_")
        upload.parts[part_id] = (form.path or Path(), form.size)
        document = {"id": part_id, "object": "upload.part", "upload_id": upload.id}
        return json_response({**document, "created_at": self._dialect.time(call.now)})

    async def _complete_upload(self, call: Call) -> Response:
        upload = self._pending(call)
        body = await read_document(call.request)
        part_ids = [str(part) for part in as_list(body.get("part_ids")) or ()]
        if not part_ids or any(part not in upload.parts for part in part_ids):
            raise ApiError(400, "Invalid 'part_ids': a part is not known to this upload.", param="part_ids")
        total = sum(upload.parts[part][1] for part in part_ids)
        if total != upload.size:
            message = f"The parts add up to {total} bytes, the upload was announced with {upload.size}."
            raise ApiError(400, message, param="part_ids")
        path = self._context.spool.new()
        digest = md5(usedforsecurity=False)
        with path.open("wb") as target:
            for part in part_ids:
                with upload.parts[part][0].open("rb") as source:
                    shutil.copyfileobj(source, target)
                for chunk in file_chunks(upload.parts[part][0]):
                    digest.update(chunk)
        wanted = body.get("md5")
        if wanted is not None and wanted != digest.hexdigest():
            self._context.spool.drop(path)
            raise ApiError(400, "The md5 checksum does not match the uploaded bytes.", param="md5")
        names = (call.project, upload.filename, upload.purpose)
        upload.file = self.store(path, names, call.now, upload.expires_in)
        self._close(upload, "completed")
        return json_response(upload.view(self._dialect))

    async def _cancel_upload(self, call: Call) -> Response:
        upload = self._pending(call)
        self._close(upload, "cancelled")
        return json_response(upload.view(self._dialect))


def page_after(ids: list[str], after: str | None, limit: int) -> tuple[list[str], bool]:
    """The page of ids behind `after`, and whether there is more. An unknown cursor is refused."""
    start = 0
    if after:
        if after not in ids:
            raise ApiError(400, f"Invalid 'after': there is no item '{after}'.", param="after")
        start = ids.index(after) + 1
    return ids[start : start + limit], len(ids) > start + limit


def listing(data: list[Document], more: bool) -> Document:
    """OpenAI's list object."""
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": more,
    }
