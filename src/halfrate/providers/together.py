"""Together: OpenAI's batches with an upload of its own, a bare list, and no place for a tag.

Facts are from the SDK (3.1) and docs.together.ai (batch inference), as of 2026-11.
"""

import asyncio
import hashlib
import http.client
from pathlib import Path
from typing import Final
from urllib.parse import quote, urljoin

import msgspec

from halfrate.base.errors import OutcomeUnknown
from halfrate.base.types import Capabilities, Limits
from halfrate.providers.base import Intent, Lookup
from halfrate.providers.dialects import MB
from halfrate.providers.http import Upload, unreadable
from halfrate.providers.openai_dialect import (
    Batch,
    Dialect,
    File,
    OpenAIDialect,
    fields_alone,
    file_name,
    in_order,
)

_FILE_ID: Final = "X-Together-File-Id"


class _Made(msgspec.Struct):
    job: Batch


class _Files(msgspec.Struct):
    data: list[File]


class _Known(msgspec.Struct):
    file_id: str | None = None


class Together(OpenAIDialect):
    """Together AI. Half off for some models alone; others cost in a batch what they cost in real time."""

    capabilities = Capabilities(
        provider="together",
        title="Together",
        endpoints=("chat",),
        native_form="openai",
        limits=Limits(rows=49_000, bytes=95 * MB, row_bytes=95 * MB),
        key_variables=("TOGETHER_API_KEY",),
        url_variable="TOGETHER_BASE_URL",
        default_url="https://api.together.ai",
        region_in_url=r"^https://([a-z]{2})-api\.together\.ai(?:/|$)",
        discount="50 %, some models",
        adoption="file",
    )
    # The SDK's base URL is the host alone.
    dialect = Dialect(
        base="/v1",
        rows_name_url=False,
        metadata=False,
        purpose="batch-api",
        answer_limit="max_tokens",
    )

    async def upload(self, intent: Intent) -> str:
        form = {
            "purpose": self.dialect.purpose,
            "file_name": file_name(intent.tag),
            "file_type": "jsonl",
            "checksum": await asyncio.to_thread(_checksum, intent.requests),
        }
        body, content_type = fields_alone(form)
        answer = await self._http.call(
            "/files",
            body,
            headers={"Content-Type": content_type},
            keep=("location", _FILE_ID.lower()),
            timeout=120.0,
            in_time=lambda: True,
        )
        if answer.status == http.client.CONFLICT:
            # The same bytes were uploaded before: by a try of this upload whose end nobody saw.
            known = self._http.decode(answer.body, _Known).file_id
            if known:
                return known
        file_id, place = answer.headers.get(_FILE_ID.lower()), answer.headers.get("location")
        if answer.status not in {301, 302, 303, 307} or not file_id or not place:
            if answer.status >= 300:
                raise answer.refusal(self.title)
            raise OutcomeUnknown("Together took an upload without saying where to put the file")
        there, path = self._http.elsewhere(urljoin(self.base_url, place))
        try:
            await there.send(
                "PUT", path, body=Upload(b"", intent.requests, b"", "application/jsonl"), timeout=3600.0
            )
        finally:
            await there.close()
        reply = await self._http.ask("POST", f"/files/{quote(file_id, safe='')}/preprocess")
        return self._http.decode(reply, File).id

    def _created(self, reply: bytes) -> Batch:
        return self._http.decode(reply, _Made).job

    async def find(self, intent: Intent, now: float) -> Lookup:
        # A bare array with all there is: no pages, no order that is promised.
        batches = self._http.decode(await self._http.ask("GET", "/batches"), list[Batch])
        return in_order([batch for batch in batches if self._is_ours(batch, intent)], self._status)

    async def strays(self, tag: str) -> tuple[str, ...]:
        files = self._http.decode(await self._http.ask("GET", "/files"), _Files)
        return tuple(file.id for file in files.data if file.filename == file_name(tag))


def _checksum(path: Path) -> str:
    """What the SDK sends beside a file's name: the SHA-256 of its bytes."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error
