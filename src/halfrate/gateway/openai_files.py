"""OpenAI's files (API reference, "Files"): what batches are made from, and what they give."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from halfrate.core.surface import StoredFile
from halfrate.gateway.calls import key_of, reply, whole_number
from halfrate.gateway.errors import ApiError, invalid, missing, required
from halfrate.gateway.multipart import read_form
from halfrate.gateway.threads import in_thread
from halfrate.service.shelf import Shelf
from halfrate.store.surfaces import NoSuchCursor, Order, Page, SurfaceStore

FILE_BYTES: Final = 512 << 20
LIFE: Final = 30 * 86_400.0
"""Seconds that a batch file is kept where nothing else was asked for; nobody may ask for more."""
_LEAST_LIFE: Final = 3_600
_MOST: Final = 10_000
"""Files of one page."""
_BLOCK: Final = 1 << 20
_ORDERS: Final[dict[str, Order]] = {"asc": "oldest", "desc": "newest"}
_PURPOSES: Final = frozenset({"", "batch", "batch_output"})


class ExpiresAfter(msgspec.Struct, frozen=True):
    """When a file goes, as callers say it; see `life_of`."""

    anchor: str | None = None
    seconds: int | None = None


class OpenAIFiles:
    """`/v1/files`. Every file belongs to the team of the key that it came with.

    Args:
        file_bytes: the largest file that is taken.
    """

    def __init__(self, shelf: Shelf, store: SurfaceStore, *, file_bytes: int = FILE_BYTES) -> None:
        self._shelf = shelf
        self._store = store
        self._file_bytes = file_bytes

    async def create(self, request: Request) -> Response:
        form = await read_form(request, "file", self._shelf.incoming, self._file_bytes)
        try:
            if form.incoming is None:
                raise required("file")
            purpose = checked_purpose(form.fields.get("purpose"))
            life = _life_of_form(form.fields)
            file = await in_thread(
                self._shelf.keep, form.incoming, key_of(request).team, form.filename, purpose, life
            )
        finally:
            await form.close()
        return reply(file_object(file))

    async def list(self, request: Request) -> Response:
        params = request.query_params
        limit = whole_number(request, "limit", _MOST, 1, _MOST)
        order = _ORDERS.get(params.get("order", "desc"))
        if order is None:
            raise invalid("Invalid 'order': expected 'asc' or 'desc'.", "order")
        page = await self._page(
            key_of(request).team, params.get("purpose", ""), params.get("after", ""), limit, order
        )
        data = [file_object(file) for file in page.items]
        return reply(
            {
                "object": "list",
                "data": data,
                # By OpenAI's own description they are always there, and text.
                "first_id": data[0]["id"] if data else "",
                "last_id": data[-1]["id"] if data else "",
                "has_more": page.more,
            }
        )

    async def retrieve(self, request: Request) -> Response:
        return reply(file_object(await self._found(request)))

    async def delete(self, request: Request) -> Response:
        file = await self._found(request)
        if not await asyncio.to_thread(self._shelf.drop, file.team, file.id):
            raise _no_file(file.id)
        return reply({"id": file.id, "object": "file", "deleted": True})

    async def content(self, request: Request) -> Response:
        file = await self._found(request)
        path = await asyncio.to_thread(self._shelf.content, file)
        if path is None:
            raise _no_file(file.id)
        try:
            # Opened before anything is said: it can be deleted now, and is read to its end.
            source, size = await in_thread(_opened, path)
        except FileNotFoundError:
            raise _no_file(file.id) from None
        return Download(source, size)

    async def _found(self, request: Request) -> StoredFile:
        file_id = request.path_params["id"]
        file = None
        if is_plain(file_id):
            file = await asyncio.to_thread(self._store.file, key_of(request).team, file_id)
        if file is None:
            raise _no_file(file_id)
        return file

    async def _page(self, team: str, purpose: str, after: str, limit: int, order: Order) -> Page:
        if purpose not in _PURPOSES:
            return Page([], more=False)
        if not is_plain(after):
            raise _no_cursor(after)
        try:
            return await asyncio.to_thread(
                self._store.files, team, purpose=purpose, after=after, limit=limit, order=order
            )
        except NoSuchCursor:
            raise _no_cursor(after) from None


class Download(Response):
    """A file from its start to its end, a block in memory at a time. It closes the file, whoever hangs up."""

    def __init__(self, source: BinaryIO, size: int) -> None:
        super().__init__(headers={"content-length": str(size)}, media_type="application/octet-stream")
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_hung_up(receive))
        try:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            while not gone.done() and (block := await in_thread(self._source.read, _BLOCK)):
                await send({"type": "http.response.body", "body": block, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            await in_thread(self._source.close)


def file_object(file: StoredFile) -> dict[str, object]:
    """A file as OpenAI shows it. Times are whole seconds since 1970.

    A time that there is not is left out: by OpenAI's own description it is never null.
    """
    document: dict[str, object] = {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    }
    if file.expires_at is not None:
        document["expires_at"] = int(file.expires_at)
    return document


def checked_purpose(given: str | None) -> str:
    """What a file may be given for. ApiError 400 for all but batches."""
    if not given:
        raise required("purpose")
    if given != "batch":
        message = "Invalid value for 'purpose': the gateway keeps files for batches alone; expected 'batch'."
        raise invalid(message, "purpose")
    return given


def life_of(given: ExpiresAfter | None, name: str = "expires_after") -> float:
    """The seconds that a file is kept, from an hour to 30 days. ApiError 400 for any other."""
    if given is None:
        return LIFE
    if given.anchor != "created_at":
        raise invalid(f"Invalid value for '{name}.anchor': expected 'created_at'.", f"{name}.anchor")
    if given.seconds is None or not _LEAST_LIFE <= given.seconds <= LIFE:
        message = f"Invalid '{name}.seconds': expected a whole number from {_LEAST_LIFE} to {LIFE:.0f}."
        raise invalid(message, f"{name}.seconds")
    return float(given.seconds)


def is_plain(text: str) -> bool:
    """Whether this could be an id of ours, or a cursor; a database does not take every character there is."""
    return text.isascii() and text.isprintable()


def _life_of_form(fields: Mapping[str, str]) -> float:
    """The same from `expires_after[anchor]` and `expires_after[seconds]`, or with dots as some clients write it."""
    given = {
        key: fields[spelling]
        for key in ("anchor", "seconds")
        for spelling in (f"expires_after.{key}", f"expires_after[{key}]")
        if spelling in fields
    }
    if not given:
        return LIFE
    text = given.get("seconds", "")
    seconds = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None
    return life_of(ExpiresAfter(given.get("anchor"), seconds))


def _opened(path: Path) -> tuple[BinaryIO, int]:
    """A file to read from, and its bytes."""
    source = path.open("rb", buffering=0)
    return source, os.fstat(source.fileno()).st_size


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _no_file(file_id: str) -> ApiError:
    return missing(f"No such File object: {file_id}", param="id")


def _no_cursor(after: str) -> ApiError:
    return invalid(f"Invalid 'after': there is no file '{after}'.", "after")
