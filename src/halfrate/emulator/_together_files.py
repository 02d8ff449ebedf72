"""Together's files: a file is announced, put to a signed address, and then looked at.

    POST /v1/files                      -> 302 with Location and X-Together-File-Id, or 409 with the id of the file
                                           that already has this content
    PUT  {Location}                     -> 200; the address is the permission, no key comes with it
    POST /v1/files/{id}/preprocess      -> the file object; only now can a batch be made of it

As the official SDK does it (together 3.1, `lib/resources/files.py`). Uploads in parts, for files over 5 GB, are not
offered here: a batch may have 100 MB.
"""

from hashlib import sha256
from pathlib import Path

import msgspec

from halfrate.emulator._context import Context
from halfrate.emulator._dialects import TOGETHER
from halfrate.emulator._multipart import read_form
from halfrate.emulator._openai_files import OpenAIFiles, StoredFile
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._wire import ApiError, Document, Response, body_chunks, json_response

PURPOSES = ("fine-tune", "calibration", "eval", "batch-api")
SIGNED = "/signed-uploads/"
"""Where the signed addresses begin."""
_TYPES = ("jsonl", "csv", "parquet")


class _Announced(msgspec.Struct):
    """A file that is on its way."""

    id: str
    project: str
    filename: str
    purpose: str
    kind: str
    checksum: str
    ticket: str
    path: Path | None = None


class TogetherFiles(OpenAIFiles):
    """The files of every key. The bytes of one content are kept once: a second upload of it is refused."""

    def __init__(self, context: Context) -> None:
        super().__init__(context, TOGETHER)
        self._announced: dict[str, _Announced] = {}
        self._tickets: dict[str, str] = {}
        self._kinds: dict[str, str] = {}
        self._checksums: dict[tuple[str, str, str], str] = {}

    def routes(self) -> list[Route]:
        table = [
            ("POST", "/files", "upload", self._announce),
            ("GET", "/files", "list", self._list),
            ("GET", "/files/{}", "poll-file", self._retrieve),
            ("DELETE", "/files/{}", "delete", self._delete),
            ("GET", "/files/{}/content", "download", self._content),
            ("POST", "/files/{}/preprocess", "upload", self._preprocess),
        ]
        routes = [
            Route(method, pattern, operation, handler)
            for method, path, operation, handler in table
            for pattern in self._dialect.routes_to(path)
        ]
        return [*routes, Route("PUT", f"{SIGNED}{{}}", "upload", self._put)]

    def holder(self, ticket: str) -> str:
        """Whose upload a signed address is for."""
        announced = self._announced.get(self._tickets.get(ticket, ""))
        if announced is None:
            raise ApiError(403, "The signature of this address is not valid, or it has been used.")
        return announced.project

    async def _announce(self, call: Call) -> Response:
        # No part of this form is a file; should one come all the same, it is of no use.
        form = await read_form(call.request, "file", self._context.spool, self._caps.file_bytes)
        if form.path is not None:
            self._context.spool.drop(form.path)
        fields = form.fields
        purpose, kind = fields.get("purpose", ""), fields.get("file_type", "jsonl")
        if purpose not in PURPOSES:
            message = f"Invalid value for 'purpose': expected one of {', '.join(PURPOSES)}."
            raise ApiError(400, message, param="purpose")
        if not fields.get("file_name") or kind not in _TYPES:
            raise ApiError(400, "Missing or invalid 'file_name' or 'file_type'.", param="file_name")
        checksum = fields.get("checksum", "")
        known = self._checksums.get((call.project, purpose, checksum)) if checksum else None
        if known is not None and self.find(call.project, known) is not None:
            message = f"This file was uploaded before, as {known}."
            document = {"message": message, "file_id": known}
            return json_response(document, 409)
        file_id = self._context.new_id("file-")
        ticket = self._context.new_id("")
        names = (call.project, fields["file_name"], purpose, kind, checksum, ticket)
        self._announced[file_id] = _Announced(file_id, *names)
        self._tickets[ticket] = file_id
        host = call.request.header("host") or "127.0.0.1"
        address = f"http://{host}/{self._dialect.provider}{SIGNED}{ticket}"
        return Response(302, b"", {"location": address, "x-together-file-id": file_id})

    async def _put(self, call: Call) -> Response:
        self.holder(call.arg)
        announced = self._announced[self._tickets[call.arg]]
        if reset := await self._reset(call):
            return reset
        digest, limit = sha256(), self._caps.file_bytes
        too_big = f"File is too large: the limit is {limit} bytes."
        path = await self._context.spool.write(body_chunks(call.request), limit, too_big, digest.update)
        if announced.path is not None:
            self._context.spool.drop(announced.path)
        announced.path = path
        announced.checksum = announced.checksum or digest.hexdigest()
        if announced.checksum != digest.hexdigest():
            self._context.spool.drop(path)
            announced.path = None
            raise ApiError(400, "The bytes do not have the checksum that was announced.")
        return Response(200)

    async def _preprocess(self, call: Call) -> Response:
        stored = self.find(call.project, call.arg)
        if stored is None:
            stored = self._arrived(call)
        return json_response(self._view(stored, call.now))

    def _arrived(self, call: Call) -> StoredFile:
        announced = self._announced.get(call.arg)
        if announced is None or announced.project != call.project or announced.path is None:
            raise ApiError(404, f"No such File object: {call.arg}", param="id")
        names = (call.project, announced.filename, announced.purpose)
        stored = self.store(announced.path, names, call.now, None, announced.id)
        del self._announced[announced.id], self._tickets[announced.ticket]
        self._kinds[stored.id] = announced.kind
        self._checksums[call.project, announced.purpose, announced.checksum] = stored.id
        return stored

    def _view(self, stored: StoredFile, now: float) -> Document:
        return {
            "id": stored.id,
            "object": "file",
            "bytes": stored.size,
            # Unlike a batch, a file says its time in seconds (the SDK's FileResponse).
            "created_at": int(stored.created_at),
            "filename": stored.filename,
            "purpose": stored.purpose,
            "FileType": self._kinds.get(stored.id, "jsonl"),
            "Processed": True,
            "LineCount": 0,
        }

    async def _list(self, call: Call) -> Response:
        found = [self._view(stored, call.now) for stored in reversed(self.of(call.project))]
        return json_response({"data": found})

    async def _delete(self, call: Call) -> Response:
        stored = self._get(call)
        self._drop(stored)
        return json_response({"id": stored.id, "deleted": True})
