"""Uploaded and produced files as every provider keeps them, and URLs that open one without a key."""

from pathlib import Path
from urllib.parse import quote

import msgspec

from halfrate.emulator._context import Context
from halfrate.emulator._multipart import Form, read_form
from halfrate.emulator._quirks import reset_upload
from halfrate.emulator._routes import Call
from halfrate.emulator._wire import ApiError, Request, Response, file_chunks


class Kept(msgspec.Struct, kw_only=True):
    """A file, whose it is, and where its bytes lie."""

    id: str
    project: str
    name: str
    path: Path
    size: int
    created_at: float
    kind: str = ""
    ready_at: float = 0.0
    """A job cannot be made of it before that time."""


class Shelf:
    """The files of one provider."""

    def __init__(self, context: Context, provider: str) -> None:
        self._context = context
        self._provider = provider
        self._files: dict[str, Kept] = {}

    def put(self, kept: Kept) -> Kept:
        """Keep a file. Keeping another under the same id replaces it."""
        self.drop(kept.id)
        self._files[kept.id] = kept
        self._context.meter.files_stored += 1
        self._context.meter.bytes_stored += kept.size
        return kept

    def add(self, file_id: str, project: str, name: str, path: Path, at: float, kind: str = "") -> Kept:
        """Keep the file that lies at `path`."""
        size = path.stat().st_size
        return self.put(
            Kept(id=file_id, project=project, name=name, path=path, size=size, created_at=at, kind=kind)
        )

    def delay(self, kept: Kept) -> None:
        """Let the fault that makes a fresh upload unusable for a while strike."""
        late = self._context.faults.strike("file-not-ready", self._provider, kept.id)
        if late is not None:
            kept.ready_at = kept.created_at + late.number("seconds")

    def find(self, project: str, file_id: str) -> Kept | None:
        found = self._files.get(file_id)
        return found if found is not None and found.project == project else None

    def get(self, project: str, file_id: str, missing: str) -> Kept:
        """The same; ApiError 404 where there is none."""
        found = self.find(project, file_id)
        if found is None:
            raise ApiError(404, missing)
        return found

    def of(self, project: str) -> list[Kept]:
        """The files of a project, newest first."""
        return [kept for kept in reversed(self._files.values()) if kept.project == project]

    def drop(self, file_id: str) -> None:
        kept = self._files.pop(file_id, None)
        if kept is not None:
            self._context.spool.drop(kept.path)
            self._context.meter.files_stored -= 1
            self._context.meter.bytes_stored -= kept.size

    async def upload(self, call: Call, limit: int, field: str = "file") -> tuple[Form, Path] | Response:
        """Read a multipart form with a file in it; a response where a fault ends the upload early."""
        context = self._context
        if reset := await reset_upload(context.faults, self._provider, context.attempt(), call.request):
            return reset
        form = await read_form(call.request, field, context.spool, limit)
        if form.path is None:
            raise ApiError(422, f"Missing required parameter: '{field}'.", param=field)
        return form, form.path


def file_response(kept: Kept) -> Response:
    headers = {"content-type": "application/octet-stream", "content-length": str(kept.size)}
    return Response(200, file_chunks(kept.path, kept.size), headers)


class _Ticket(msgspec.Struct, frozen=True):
    project: str
    subject: str
    expires_at: float


class Tickets:
    """Signed URLs: a query parameter that stands for a key, for one path and for a time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._issued: dict[str, _Ticket] = {}

    def sign(self, call: Call, path: str, seconds: float) -> str:
        """The URL of a path, mount included, on the host that the request came to."""
        ticket = self._context.new_id("")
        self._issued[ticket] = _Ticket(call.project, path, call.now + seconds)
        host = call.request.header("host") or "localhost"
        return f"http://{host}{quote(path)}?signature={ticket}"

    def project(self, signature: str, path: str) -> str | None:
        """Whose key a signature stands for; None where it stands for none, or no longer."""
        found = self._issued.get(signature)
        if found is None or found.subject != path or self._context.clock.now() >= found.expires_at:
            return None
        return found.project

    def holder(self, request: Request, mount: str) -> str:
        """Whose key the URL stands for that a request came to. ApiError 403 for none's."""
        project = self.project(request.params().get("signature", ""), f"{mount}{request.path}")
        if project is None:
            raise ApiError(403, "The signature is not valid, or no longer.")
        return project
