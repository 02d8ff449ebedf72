"""Mistral: batch jobs of its own over OpenAI's rows, with the model said once for the whole job.

Facts are from the SDK (3.7) and Mistral's documentation (batch inference), as of 2026-08.
"""

from typing import Any, Final
from urllib.parse import quote

import msgspec

from halfrate.base.errors import Refused
from halfrate.base.results import Kind
from halfrate.base.types import Capabilities, Limits, Option, RequestSpec, Translated
from halfrate.providers.base import BatchView, Call, Intent, Lookup
from halfrate.providers.bodies import splice, with_field
from halfrate.providers.dialects import MB
from halfrate.providers.openai_dialect import SKEW, Dialect, File, OpenAIDialect, file_name, in_doubt
from halfrate.providers.translation import embeddings

_ENDED: Final = frozenset({"SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLED"})
_ABSENT: Final = {"TIMEOUT_EXCEEDED": Kind.EXPIRED, "CANCELLED": Kind.CANCELLED}
_PAGE: Final = 100
_WINDOWS: Final = ("24h", "1h", "12h", "48h", "72h", "168h")


class _Reason(msgspec.Struct):
    message: str = ""


class _Job(msgspec.Struct):
    id: str
    status: str
    created_at: float | None = None
    input_files: list[str] | None = None
    output_file: str | None = None
    error_file: str | None = None
    metadata: dict[str, Any] | None = None
    errors: list[_Reason] | None = None
    completed_requests: int | None = 0


class _Jobs(msgspec.Struct):
    data: list[_Job] | None = None


class _Files(msgspec.Struct):
    data: list[File]


class Mistral(OpenAIDialect):
    """Mistral AI. A million rows may wait in a workspace at a time."""

    capabilities = Capabilities(
        provider="mistral",
        title="Mistral",
        endpoints=("chat", "embeddings"),
        native_form="rows",
        translates=("chat", "embeddings"),
        limits=Limits(rows=49_000, bytes=480 * MB, row_bytes=480 * MB),
        key_variables=("MISTRAL_API_KEY",),
        url_variable="MISTRAL_BASE_URL",
        default_url="https://api.mistral.ai",
        windows=_WINDOWS,
        kept="until deleted",
        adoption="metadata",
        options=(Option("window", "how long the batch may take", _WINDOWS),),
    )
    # A stream's last event says what it used, and a request that asks for that is refused.
    dialect = Dialect(base="/v1", rows_name_url=False, answer_limit="max_tokens", asks_usage=False)

    def body(self, spec: RequestSpec) -> tuple[bytes, bytes]:
        body = self._body(spec)
        del body["model"]
        return splice(body)

    async def create(self, intent: Intent) -> BatchView:
        request = {
            "endpoint": self.dialect.urls[intent.endpoint],
            "input_files": [intent.file_id],
            "model": intent.model,
            "metadata": {"halfrate": intent.tag},
            "timeout_hours": int(intent.options.get("window", _WINDOWS[0]).removesuffix("h")),
        }
        try:
            # PAID CALL: sent once. `find` knows by the tag in its metadata, or by its file, what it may have made.
            reply = await self._http.send(
                "POST",
                "/batch/jobs",
                body=msgspec.json.encode(request),
                timeout=self.capabilities.create_timeout,
                in_time=intent.in_time,
            )
        except Refused as refusal:
            raise in_doubt(refusal) from refusal
        return self._seen(self._http.decode(reply, _Job))

    async def find(self, intent: Intent, now: float) -> Lookup:
        oldest = (intent.made_at or now) - SKEW
        found: list[_Job] = []
        page = 0
        while True:
            # The listing can be filtered by metadata, in a way that SDKs and service disagree on: it is read instead.
            query = f"/batch/jobs?page={page}&page_size={_PAGE}&order_by=-created"
            jobs = self._http.decode(await self._http.ask("GET", query), _Jobs).data or []
            found += [job for job in jobs if _is_ours(job, intent)]
            if len(jobs) < _PAGE or (jobs[-1].created_at or now) < oldest:
                break
            page += 1
        found.sort(key=lambda job: (job.status == "FAILED", job.created_at or 0.0))
        return Lookup(tuple(job.id for job in found))

    async def poll(self, batch_id: str, *, cancelled: bool = False) -> BatchView:
        reply = await self._http.ask("GET", f"/batch/jobs/{quote(batch_id, safe='')}")
        return self._seen(self._http.decode(reply, _Job))

    async def cancel(self, batch_id: str) -> None:
        await self._http.ask_to_end(f"/batch/jobs/{quote(batch_id, safe='')}/cancel")

    async def strays(self, tag: str) -> tuple[str, ...]:
        found: list[str] = []
        page = 0
        while True:
            query = f"/files?purpose=batch&page={page}&page_size={_PAGE}"
            files = self._http.decode(await self._http.ask("GET", query), _Files).data
            found += [file.id for file in files if file.filename == file_name(tag)]
            if len(files) < _PAGE:
                return tuple(found)
            page += 1

    def from_openai(self, body: dict[str, Any], model: str, endpoint: Translated) -> dict[str, Any]:
        if endpoint == "embeddings":
            return embeddings.request_to("mistral", body, model)
        asked = super().from_openai(body, model, endpoint)
        del asked["model"]
        return asked

    def _call_body(self, call: Call) -> bytes:
        return with_field(call.body, "model", call.model)

    def _seen(self, job: _Job) -> BatchView:
        files = tuple(file for file in (job.output_file, job.error_file) if file)
        failure = None
        if job.status == "FAILED" and not files:
            reasons = [reason.message for reason in job.errors or [] if reason.message]
            failure = ("failed", "; ".join(reasons) or "Mistral gave no reason")
        full = failure is not None and "pending requests" in failure[1].lower()
        return BatchView(
            batch_id=job.id,
            status=job.status.lower(),
            ended=job.status in _ENDED,
            rows_finished=job.completed_requests or 0,
            accepted=job.status != "QUEUED",
            queue_full=full,
            files=files,
            leftovers=(*(job.input_files or ()), *files),
            absent=_ABSENT.get(job.status, Kind.MISSING),
            failure=failure,
        )


def _is_ours(job: _Job, intent: Intent) -> bool:
    tagged = (job.metadata or {}).get("halfrate") == intent.tag
    same_file = intent.file_id is not None and intent.file_id in (job.input_files or ())
    return (tagged or same_file) and job.id not in intent.past
