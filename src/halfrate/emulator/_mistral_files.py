"""Mistral's files (mistralai 3.7: `client.files`). A file belongs to the workspace of the key that made it."""

from pathlib import Path
from typing import Final, TypeVar

from halfrate.emulator._context import Context
from halfrate.emulator._mistral_wire import refused
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._shelf import Kept, Shelf, Tickets, file_response
from halfrate.emulator._wire import Document, Response, json_response, whole_number

PURPOSES: Final = ("fine-tune", "batch", "ocr", "agentic_safety")
_HOUR: Final = 3_600.0
T = TypeVar("T")
_SAMPLES: Final = {"": "batch_request", "output": "batch_result", "error": "batch_error"}
"""What a file is, by the kind it is kept under: uploads have none."""


class MistralFiles:
    """The files of every workspace."""

    def __init__(self, context: Context, tickets: Tickets) -> None:
        self._context = context
        self._tickets = tickets
        self._shelf = Shelf(context, "mistral")
        self._purposes: dict[str, str] = {}

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/v1/files", "upload", self._create),
            Route("GET", "/v1/files", "list", self._list),
            Route("GET", "/v1/files/{}", "poll-file", self._retrieve),
            Route("DELETE", "/v1/files/{}", "delete", self._delete),
            Route("GET", "/v1/files/{}/content", "download", self._content),
            Route("GET", "/v1/files/{}/url", "poll-file", self._url),
        ]

    def find(self, project: str, file_id: str) -> Kept | None:
        return self._shelf.find(project, file_id)

    def store(self, path: Path, project: str, name: str, at: float, kind: str) -> str:
        """Keep a file that a job has made; returns its id."""
        kept = self._shelf.add(self._context.new_uuid(), project, name, path, at, kind)
        self._purposes[kept.id] = "batch"
        return kept.id

    async def _create(self, call: Call) -> Response:
        read = await self._shelf.upload(call, self._context.limits.mistral_file_bytes)
        if isinstance(read, Response):
            return read
        form, path = read
        purpose = form.fields.get("purpose", "fine-tune")
        if purpose not in PURPOSES:
            self._context.spool.drop(path)
            raise refused(f"Input should be one of {', '.join(PURPOSES)}", "purpose")
        # The body may have taken a while to arrive: the file is as old as its last byte.
        now = self._context.clock.now()
        kept = self._shelf.add(self._context.new_uuid(), call.project, form.filename, path, now)
        self._shelf.delay(kept)
        self._purposes[kept.id] = purpose
        return json_response(self._view(kept))

    def _view(self, kept: Kept) -> Document:
        return {
            "id": kept.id,
            "object": "file",
            "bytes": kept.size,
            "created_at": int(kept.created_at),
            "filename": kept.name,
            "purpose": self._purposes[kept.id],
            "sample_type": _SAMPLES[kept.kind],
            "num_lines": None,
            "mimetype": "application/jsonl",
            "source": "mistral" if kept.kind else "upload",
            "signature": None,
            "expires_at": None,
            "visibility": "workspace",
        }

    def _get(self, call: Call) -> Kept:
        return self._shelf.get(call.project, call.arg, f"No file with id {call.arg} found.")

    async def _retrieve(self, call: Call) -> Response:
        return json_response({**self._view(self._get(call)), "deleted": False})

    async def _list(self, call: Call) -> Response:
        params = call.request.params()
        found = [
            kept
            for kept in self._shelf.of(call.project)
            if params.get("purpose") in {None, self._purposes[kept.id]}
            and params.get("search", "") in kept.name
            and params.get("sample_type") in {None, _SAMPLES[kept.kind]}
        ]
        data = [self._view(kept) for kept in page_of(found, params)]
        return json_response({"data": data, "object": "list", "total": len(found)})

    async def _delete(self, call: Call) -> Response:
        kept = self._get(call)
        self._shelf.drop(kept.id)
        return json_response({"id": kept.id, "object": "file", "deleted": True})

    async def _content(self, call: Call) -> Response:
        return file_response(self._get(call))

    async def _url(self, call: Call) -> Response:
        kept = self._get(call)
        hours = whole_number(call.request.params().get("expiry"), "expiry", 24, 1, 168)
        url = self._tickets.sign(call, f"/mistral/v1/files/{kept.id}/content", hours * _HOUR)
        return json_response({"url": url})


def page_of(found: list[T], params: dict[str, str]) -> list[T]:
    """A page by its number, counted from zero."""
    page = whole_number(params.get("page"), "page", 0, 0, 1_000_000)
    size = whole_number(params.get("page_size"), "page_size", 100, 1, 1_000)
    return found[page * size : (page + 1) * size]
