"""An instant provider: every batch is complete as soon as it is made. Runs as a process of its own.

Prints its port, then serves the OpenAI files and batches API and the Anthropic message batches API until its
standard input is closed. Bodies are streamed to disk and results from disk, so its memory is bounded by one batch.
It treats all clients alike and counts what they sent: `GET /meter` is the harness's independent witness.
"""

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from .fake_results import Index, read_upload, write_results

_CREATED = 1_763_000_000
_STAMP = "2026-11-20T10:00:00Z"
_ENDPOINTS = ("/v1/chat/completions",)
Json = dict[str, Any]


@dataclass
class _File:
    """An OpenAI file: an upload, whose bytes go once its batch is made, or the output of a batch."""

    id: str
    path: Path
    size: int
    boundary: bytes = b""
    batch: "_Batch | None" = None


@dataclass
class _Batch:
    id: str
    index: Index
    seed: int
    view: Json = field(default_factory=dict[str, Any])


class _PassingFile(web.FileResponse):
    """A file that is deleted once it was sent: results can be rendered again."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        try:
            return await super().prepare(request)
        finally:
            self._path.unlink(missing_ok=True)


class Refused(Exception):
    """The client asked for something that does not exist or is not well formed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Fake:
    """Both dialects over one set of batches; newest last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, _File] = {}
        self.batches: dict[str, _Batch] = {}
        self.meter = {"batches": 0, "rows": 0, "input_tokens": 0, "output_tokens": 0}
        self._numbers = count(1)

    def application(self) -> web.Application:
        app = web.Application(client_max_size=1 << 40, middlewares=[_answer_refusals])
        app.add_routes(
            [
                web.get("/meter", self._meter),
                web.post("/v1/files", self._upload),
                web.get("/v1/files", self._list_files),
                web.get("/v1/files/{id}", self._get_file),
                web.get("/v1/files/{id}/content", self._content),
                web.delete("/v1/files/{id}", self._delete_file),
                web.post("/v1/batches", self._create_openai),
                web.get("/v1/batches", self._list_openai),
                web.get("/v1/batches/{id}", self._get_batch),
                web.post("/v1/messages/batches", self._create_anthropic),
                web.get("/v1/messages/batches", self._list_anthropic),
                web.get("/v1/messages/batches/{id}", self._get_batch),
                web.get("/v1/messages/batches/{id}/results", self._results),
                web.delete("/v1/messages/batches/{id}", self._delete_batch),
            ]
        )
        return app

    async def _meter(self, _request: web.Request) -> web.Response:
        return web.json_response(self.meter)

    # Bodies in, results out: the same for both dialects.

    async def _store_body(self, request: web.Request) -> tuple[Path, int]:
        """Where the body was put, and its size."""
        path = self.folder / f"body-{next(self._numbers)}"
        size = 0
        with path.open("wb") as out:
            async for chunk in request.content.iter_any():
                size += out.write(chunk)
        return path, size

    async def _register(self, batch_id: str, body: Path, boundary: bytes | None) -> _Batch:
        number = next(self._numbers)
        try:
            index = await asyncio.to_thread(read_upload, body, boundary, self.folder / f"index-{number}")
        except ValueError as error:
            raise Refused(400, str(error)) from error
        batch = self.batches[batch_id] = _Batch(batch_id, index, number)
        self.meter["batches"] += 1
        self.meter["rows"] += index.rows
        self.meter["input_tokens"] += index.input_tokens
        self.meter["output_tokens"] += index.output_tokens
        return batch

    async def _send_results(self, batch: _Batch, content_type: str) -> web.StreamResponse:
        path = self.folder / f"results-{next(self._numbers)}"
        openai = "object" in batch.view
        await asyncio.to_thread(write_results, batch.index, path, batch.seed, openai=openai)
        return _PassingFile(path, headers={"Content-Type": content_type})

    def _batch(self, request: web.Request) -> _Batch:
        batch = self.batches.get(request.match_info["id"])
        if batch is None:
            raise Refused(404, f"no batch {request.match_info['id']}")
        return batch

    def _page(self, request: web.Request, after: str, default: int) -> tuple[list[Json], bool]:
        """One page of the listing, newest first, of batches older than the one named by `after`."""
        views = [batch.view for batch in reversed(self.batches.values())]
        cursor = request.query.get(after)
        if cursor is not None:
            views = views[[view["id"] for view in views].index(cursor) + 1 :]
        limit = int(request.query.get("limit", default))
        return views[:limit], len(views) > limit

    async def _get_batch(self, request: web.Request) -> web.Response:
        return web.json_response(self._batch(request).view)

    # OpenAI

    def _file(self, request: web.Request) -> _File:
        file = self.files.get(request.match_info["id"])
        if file is None:
            raise Refused(404, f"no file {request.match_info['id']}")
        return file

    async def _upload(self, request: web.Request) -> web.Response:
        kind, _, boundary = request.headers["Content-Type"].partition("boundary=")
        if not kind.startswith("multipart/form-data") or not boundary:
            raise Refused(400, "a file is uploaded as multipart/form-data")
        path, size = await self._store_body(request)
        file = _File(f"file-{next(self._numbers)}", path, size, boundary.strip('"').encode())
        self.files[file.id] = file
        return web.json_response(_file_view(file))

    async def _list_files(self, _request: web.Request) -> web.Response:
        views = [_file_view(file) for file in reversed(self.files.values())]
        return web.json_response({"object": "list", "data": views, "has_more": False})

    async def _get_file(self, request: web.Request) -> web.Response:
        return web.json_response(_file_view(self._file(request)))

    async def _content(self, request: web.Request) -> web.StreamResponse:
        file = self._file(request)
        if file.batch is None:
            raise Refused(404, f"file {file.id} is an input; its bytes are gone once its batch is made")
        return await self._send_results(file.batch, "application/octet-stream")

    async def _delete_file(self, request: web.Request) -> web.Response:
        file = self.files.pop(self._file(request).id)
        file.path.unlink(missing_ok=True)
        return web.json_response({"id": file.id, "object": "file", "deleted": True})

    async def _create_openai(self, request: web.Request) -> web.Response:
        asked: Json = await request.json()
        file = self.files.get(asked["input_file_id"])
        if (
            file is None
            or file.batch is not None
            or not file.path.exists()
            or asked["endpoint"] not in _ENDPOINTS
        ):
            raise Refused(
                400, f"no such input file or endpoint: {asked['input_file_id']}, {asked['endpoint']}"
            )
        batch = await self._register(f"batch_{next(self._numbers)}", file.path, file.boundary)
        output = _File(f"file-{next(self._numbers)}", batch.index.path, 0, batch=batch)
        self.files[output.id] = output
        batch.view = _openai_view(batch, asked, output.id)
        return web.json_response(batch.view)

    async def _list_openai(self, request: web.Request) -> web.Response:
        views, more = self._page(request, "after", 20)
        ends = {"first_id": views[0]["id"], "last_id": views[-1]["id"]} if views else {}
        return web.json_response({"object": "list", "data": views, "has_more": more, **ends})

    # Anthropic

    async def _create_anthropic(self, request: web.Request) -> web.Response:
        body, _ = await self._store_body(request)
        batch = await self._register(f"msgbatch_{next(self._numbers)}", body, None)
        batch.view = _anthropic_view(batch, f"{request.scheme}://{request.host}")
        return web.json_response(batch.view)

    async def _list_anthropic(self, request: web.Request) -> web.Response:
        views, more = self._page(request, "after_id", 20)
        first, last = (views[0]["id"], views[-1]["id"]) if views else (None, None)
        return web.json_response({"data": views, "has_more": more, "first_id": first, "last_id": last})

    async def _results(self, request: web.Request) -> web.StreamResponse:
        return await self._send_results(self._batch(request), "application/x-jsonl")

    async def _delete_batch(self, request: web.Request) -> web.Response:
        batch = self.batches.pop(self._batch(request).id)
        batch.index.path.unlink()
        return web.json_response({"id": batch.id, "type": "message_batch_deleted"})


def _file_view(file: _File) -> Json:
    name, purpose = ("input.jsonl", "batch") if file.batch is None else ("output.jsonl", "batch_output")
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": _CREATED,
        "expires_at": None,
        "filename": name,
        "purpose": purpose,
        "status": "processed",
        "status_details": None,
    }


def _openai_view(batch: _Batch, asked: Mapping[str, Any], output_file_id: str) -> Json:
    index = batch.index
    never = dict.fromkeys(
        ("failed_at", "expired_at", "cancelling_at", "cancelled_at", "error_file_id", "errors")
    )
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": asked["endpoint"],
        "model": index.model,
        "input_file_id": asked["input_file_id"],
        "completion_window": "24h",
        "status": "completed",
        "output_file_id": output_file_id,
        "created_at": _CREATED,
        "in_progress_at": _CREATED,
        "finalizing_at": _CREATED,
        "completed_at": _CREATED,
        "expires_at": _CREATED + 86_400,
        "request_counts": {"total": index.rows, "completed": index.rows, "failed": 0},
        "metadata": asked.get("metadata"),
        "usage": {
            "input_tokens": index.input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": index.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": index.input_tokens + index.output_tokens,
        },
        **never,
    }


def _anthropic_view(batch: _Batch, base: str) -> Json:
    counts = {"processing": 0, "succeeded": batch.index.rows, "errored": 0, "canceled": 0, "expired": 0}
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": "ended",
        "request_counts": counts,
        "created_at": _STAMP,
        "ended_at": _STAMP,
        "expires_at": "2026-11-21T10:00:00Z",
        "cancel_initiated_at": None,
        "archived_at": None,
        "results_url": f"{base}/v1/messages/batches/{batch.id}/results",
    }


@web.middleware
async def _answer_refusals(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refused as refusal:
        error = {"type": "invalid_request_error", "message": str(refusal), "param": None, "code": None}
        return web.json_response({"type": "error", "error": error}, status=refusal.status)


async def _serve(folder: Path) -> None:
    # The buffer is large so that a client is never slowed down, and so charged, by the server's pauses.
    runner = web.AppRunner(Fake(folder).application(), access_log=None, read_bufsize=1 << 22)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
