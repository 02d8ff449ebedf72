"""xAI's files, as far as batches need them (REST reference: Files). A file belongs to the team of its key."""

from typing import Final

from halfrate.emulator._context import Context
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._shelf import Kept, Shelf, file_response
from halfrate.emulator._wire import Document, Response, json_response, whole_number

MOST: Final = 1_000


class XaiFiles:
    """The files of every team."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._shelf = Shelf(context, "xai")

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/v1/files", "upload", self._create),
            Route("GET", "/v1/files", "list", self._list),
            Route("GET", "/v1/files/{}", "poll-file", self._retrieve),
            Route("DELETE", "/v1/files/{}", "delete", self._delete),
            Route("GET", "/v1/files/{}/content", "download", self._content),
        ]

    def find(self, project: str, file_id: str) -> Kept | None:
        return self._shelf.find(project, file_id)

    async def _create(self, call: Call) -> Response:
        read = await self._shelf.upload(call, self._context.limits.xai_file_bytes)
        if isinstance(read, Response):
            return read
        form, path = read
        file_id = self._context.new_id("file_")
        kept = self._shelf.add(file_id, call.project, form.filename, path, self._context.clock.now())
        self._shelf.delay(kept)
        return json_response(_view(kept))

    def _get(self, call: Call) -> Kept:
        return self._shelf.get(call.project, call.arg, f"File {call.arg} not found.")

    async def _retrieve(self, call: Call) -> Response:
        return json_response(_view(self._get(call)))

    async def _list(self, call: Call) -> Response:
        page, token = page_of(self._shelf.of(call.project), call.request.params())
        return json_response({"data": [_view(kept) for kept in page], "pagination_token": token})

    async def _delete(self, call: Call) -> Response:
        kept = self._get(call)
        self._shelf.drop(kept.id)
        return json_response({"id": kept.id, "deleted": True})

    async def _content(self, call: Call) -> Response:
        return file_response(self._get(call))


def _view(kept: Kept) -> Document:
    return {
        "id": kept.id,
        "object": "file",
        "bytes": kept.size,
        "created_at": int(kept.created_at),
        "expires_at": None,
        "filename": kept.name,
        "purpose": "batch",
    }


def bounds(params: dict[str, str], total: int) -> tuple[int, int, str | None]:
    """Where a page begins and ends among `total` items, and the token of the next one."""
    limit = whole_number(params.get("limit"), "limit", 100, 1, MOST)
    start = whole_number(params.get("pagination_token"), "pagination_token", 0, 0, 1 << 40)
    end = min(total, start + limit)
    return start, end, str(end) if end < total else None


def page_of(found: list[Kept], params: dict[str, str]) -> tuple[list[Kept], str | None]:
    start, end, token = bounds(params, len(found))
    return found[start:end], token
