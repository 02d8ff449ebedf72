"""OpenAI's uploads (API reference, "Uploads"): a file that is too big for one call comes in parts."""

import asyncio
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from halfrate.base.clock import Clock
from halfrate.core.surface import UPLOAD_LIFE, Upload
from halfrate.gateway.calls import key_of, read_json, reply
from halfrate.gateway.errors import ApiError, invalid, missing, required
from halfrate.gateway.multipart import clean_name, read_form
from halfrate.gateway.openai_files import ExpiresAfter, checked_purpose, file_object, is_plain, life_of
from halfrate.gateway.threads import in_thread
from halfrate.service.shelf import Shelf, WrongParts
from halfrate.store.surfaces import SurfaceStore

UPLOAD_BYTES: Final = 8 << 30
PART_BYTES: Final = 64 << 20
_MOST_PARTS: Final = 10_000


class _NewUpload(msgspec.Struct):
    filename: str | None = None
    purpose: str | None = None
    bytes: int | None = None
    mime_type: str | None = None
    expires_after: ExpiresAfter | None = None


class _Completion(msgspec.Struct):
    part_ids: list[str] | None = None
    md5: str | None = None


class OpenAIUploads:
    """`/v1/uploads`.

    Args:
        part_bytes: the largest part that is taken.
    """

    def __init__(
        self, shelf: Shelf, store: SurfaceStore, clock: Clock, *, part_bytes: int = PART_BYTES
    ) -> None:
        self._shelf = shelf
        self._store = store
        self._clock = clock
        self._part_bytes = part_bytes

    async def create(self, request: Request) -> Response:
        asked = await read_json(request, _NewUpload)
        for name in ("filename", "purpose", "bytes", "mime_type"):
            if getattr(asked, name) is None:
                raise required(name)
        size = asked.bytes or 0
        if not 0 < size <= UPLOAD_BYTES:
            raise invalid("Invalid 'bytes': expected 1 byte to 8 GB.", "bytes")
        upload = await asyncio.to_thread(
            self._shelf.begin,
            key_of(request).team,
            clean_name(asked.filename or ""),
            checked_purpose(asked.purpose),
            size,
            life_of(asked.expires_after),
        )
        return self._shown(upload)

    async def add_part(self, request: Request) -> Response:
        upload = await self._pending(request)
        self._check_room(upload)
        form = await read_form(request, "data", self._shelf.incoming, self._part_bytes)
        try:
            if form.incoming is None:
                raise required("data")
            if not form.incoming.size:
                raise invalid("Invalid 'data': a part has at least one byte.", "data")
            part = await in_thread(self._shelf.add_part, upload, form.incoming)
        finally:
            await form.close()
        if part is None:
            raise await self._closed(request)
        return reply(
            {
                "id": part.id,
                "object": "upload.part",
                "upload_id": upload.id,
                "created_at": int(self._clock.now()),
            }
        )

    async def complete(self, request: Request) -> Response:
        upload = await self._pending(request)
        asked = await read_json(request, _Completion)
        if asked.part_ids is None:
            raise required("part_ids")
        try:
            done = await asyncio.to_thread(self._shelf.complete, upload, asked.part_ids, asked.md5)
        except WrongParts as error:
            raise invalid(str(error), error.field) from None
        if done is None:
            raise await self._closed(request)
        return self._shown(done)

    async def cancel(self, request: Request) -> Response:
        upload = await self._pending(request)
        cancelled = await asyncio.to_thread(self._shelf.abandon, upload)
        if cancelled is None:
            raise await self._closed(request)
        return self._shown(cancelled)

    async def _found(self, request: Request) -> Upload:
        upload_id = request.path_params["id"]
        upload = None
        if is_plain(upload_id):
            team = key_of(request).team
            upload = await asyncio.to_thread(self._store.upload, team, upload_id)
        if upload is None:
            raise missing(f"No such Upload object: {upload_id}", param="upload_id")
        return upload

    async def _pending(self, request: Request) -> Upload:
        """The upload that a call names. ApiError 404 or 400 where it takes no calls."""
        upload = await self._found(request)
        if upload.standing(self._clock.now()) != "pending":
            raise self._refusal(upload)
        return upload

    async def _closed(self, request: Request) -> ApiError:
        """Why a call came too late that was still welcome when it began."""
        return self._refusal(await self._found(request))

    def _refusal(self, upload: Upload) -> ApiError:
        standing = upload.standing(self._clock.now())
        return invalid(f"Upload {upload.id} is {standing} and takes no more calls.", "upload_id")

    def _check_room(self, upload: Upload) -> None:
        """A part that is sent again counts again; this is where that ends."""
        held = sum(part.bytes for part in upload.parts)
        if len(upload.parts) >= _MOST_PARTS or held >= UPLOAD_BYTES:
            message = f"Upload {upload.id} holds as much as an upload can: {len(upload.parts):,} parts, {held:,} bytes."
            raise invalid(message, "upload_id")

    def _shown(self, upload: Upload) -> Response:
        return reply(
            {
                "id": upload.id,
                "object": "upload",
                "bytes": upload.bytes,
                "created_at": int(upload.created_at),
                "expires_at": int(upload.created_at + UPLOAD_LIFE),
                "filename": upload.filename,
                "purpose": upload.purpose,
                "status": upload.standing(self._clock.now()),
                "file": None if upload.file is None else file_object(upload.file),
            }
        )
