"""BigQuery, as far as Vertex AI's batches need it: a table filled from a file, one read into a file, both deleted.

Facts are from BigQuery's REST reference (v2: jobs.insert, tables, tabledata.list) and its page on uploads, as of
2026-11. Load jobs cost nothing. One that replaces a table's rows may be repeated.
"""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urljoin, urlsplit

import msgspec

from halfrate.base.errors import OutcomeUnknown, Refused, SettingsError
from halfrate.base.ids import new_token
from halfrate.providers.files import LinesFile
from halfrate.providers.http import Http, Sign, Upload, unreadable
from halfrate.providers.vertex_results import as_table_row, result_line

_TITLE: Final = "BigQuery"
_API: Final = "/bigquery/v2"
_NOT_FOUND: Final = 404
_AT_ONCE: Final = 10_000_000
"""Bytes up to which Google's own clients send a file in one request with what is to be done with it."""
_PAGE: Final = 2_000
"""Rows of one reply at most; BigQuery ends it sooner where rows are large."""
_LOADED: Final = 1_800.0
"""Seconds to wait until a load job is done."""
_COLUMNS: Final = ("row_id", "status", "response")
_PASSING: Final = frozenset(
    {
        "backendError",
        "internalError",
        "jobBackendError",
        "jobInternalError",
        "jobRateLimitExceeded",
        "quotaExceeded",
        "rateLimitExceeded",
        "stopped",
        "tableUnavailable",
        "timeout",
    }
)
_STATUSES: Final = {"accessDenied": 403, "notFound": 404}


class Table(NamedTuple):
    """A table's name, in its parts."""

    project: str
    dataset: str
    name: str

    @classmethod
    def of(cls, uri: str) -> "Table":
        """`bq://project.dataset.table`; a project of old may have a dot in its name."""
        parts = uri.removeprefix("bq://").rsplit(".", 2)
        if not uri.startswith("bq://") or len(parts) != 3 or not all(parts):
            raise SettingsError(f"{uri!r} is not a table, as bq://project.dataset.table is one.")
        return cls(*parts)

    @property
    def path(self) -> str:
        project, dataset, name = (quote(part, safe="") for part in self)
        return f"{_API}/projects/{project}/datasets/{dataset}/tables/{name}"


class _Fault(msgspec.Struct):
    reason: str = ""
    message: str = ""


class _LoadStatus(msgspec.Struct, rename="camel"):
    state: str = ""
    error_result: _Fault | None = None


class _Reference(msgspec.Struct, rename="camel"):
    job_id: str
    location: str = ""


class _Load(msgspec.Struct, rename="camel"):
    job_reference: _Reference
    status: _LoadStatus = msgspec.field(default_factory=_LoadStatus)


class _Field(msgspec.Struct):
    name: str


class _Schema(msgspec.Struct):
    fields: list[_Field] = msgspec.field(default_factory=list[_Field])


class _Described(msgspec.Struct):
    table: _Schema = msgspec.field(name="schema", default_factory=_Schema)


class _Cell(msgspec.Struct):
    v: str | None = None


class _Row(msgspec.Struct):
    f: list[_Cell]


class _Page(msgspec.Struct, rename="camel"):
    rows: list[_Row] = msgspec.field(default_factory=list[_Row])
    page_token: str | None = None
    total_rows: str | int = 0


class Tables:
    """Tables of BigQuery. `project`: where load jobs run."""

    def __init__(self, url: str, headers: dict[str, str], sign: Sign | None, project: str) -> None:
        self._url = url
        self._jobs = f"{_API}/projects/{quote(project, safe='')}/jobs"
        self._http = Http(url, headers, _TITLE, sign=sign)

    async def close(self) -> None:
        await self._http.close()

    async def fill(self, table: Table, requests: Path) -> None:
        """Make a table of a request file's rows, in place of what may have been there."""
        load: dict[str, Any] = {
            "destinationTable": {
                "projectId": table.project,
                "datasetId": table.dataset,
                "tableId": table.name,
            },
            "sourceFormat": "NEWLINE_DELIMITED_JSON",
            "schema": {
                "fields": [
                    {"name": "row_id", "type": "STRING", "mode": "REQUIRED"},
                    {"name": "request", "type": "STRING", "mode": "REQUIRED"},
                ]
            },
            "createDisposition": "CREATE_IF_NEEDED",
            "writeDisposition": "WRITE_TRUNCATE",
        }
        rows = await asyncio.to_thread(_as_rows, requests)
        try:
            job = await self._sent(msgspec.json.encode({"configuration": {"load": load}}), rows)
        finally:
            await asyncio.to_thread(rows.unlink, missing_ok=True)
        await self._loaded(job)

    async def _sent(self, what: bytes, rows: Path) -> _Load:
        size = (await asyncio.to_thread(rows.stat)).st_size
        if size > _AT_ONCE:
            return self._http.decode(await self._sent_apart(what, rows, size), _Load)
        mark = f"halfrate-{new_token()}{new_token()}"
        part = f"--{mark}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode()
        next_part = f"\r\n--{mark}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
        tail = f"\r\n--{mark}--\r\n".encode()
        body = Upload(part + what + next_part, rows, tail, f"multipart/related; boundary={mark}")
        path = f"/upload{self._jobs}?uploadType=multipart"
        return self._http.decode(await self._http.ask("POST", path, body=body, timeout=600.0), _Load)

    async def _sent_apart(self, what: bytes, rows: Path, size: int) -> bytes:
        """The protocol of resumable uploads, in one piece: where it breaks, the whole is sent again."""
        start = await self._http.call(
            f"/upload{self._jobs}?uploadType=resumable",
            what,
            headers={
                "X-Upload-Content-Type": "application/octet-stream",
                "X-Upload-Content-Length": str(size),
            },
            keep=("location",),
            timeout=120.0,
            in_time=lambda: True,
        )
        place = start.headers.get("location")
        if start.status != 200:
            raise start.refusal(_TITLE)
        if place is None:
            raise OutcomeUnknown(f"{_TITLE} took an upload without saying where to put the file")
        body = Upload(b"", rows, b"", "application/octet-stream")
        ours, there = urlsplit(self._url), urlsplit(urljoin(f"{self._url.rstrip('/')}/", place))
        root = ours.path.rstrip("/")
        if (there.scheme, there.netloc) == (ours.scheme, ours.netloc) and there.path.startswith(f"{root}/"):
            path = f"{there.path[len(root) :]}?{there.query}"
            return await self._http.send("PUT", path, body=body, timeout=3600.0)
        # The place bears an id that is all that is asked for there: our token goes nowhere but to BigQuery.
        other, path = self._http.elsewhere(there.geturl())
        try:
            return await other.send("PUT", path, body=body, timeout=3600.0)
        finally:
            await other.close()

    async def _loaded(self, job: _Load) -> None:
        reference = job.job_reference
        where = f"?location={quote(reference.location, safe='')}" if reference.location else ""
        path = f"{self._jobs}/{quote(reference.job_id, safe='')}{where}"
        waited, pause = 0.0, 0.5
        while job.status.state != "DONE":
            if waited >= _LOADED:
                raise OutcomeUnknown(f"{_TITLE} has not taken in the rows yet")
            await asyncio.sleep(pause)
            waited, pause = waited + pause, min(10.0, 1.5 * pause)
            job = self._http.decode(await self._http.ask("GET", path), _Load)
        fault = job.status.error_result
        if fault is not None:
            status = 503 if fault.reason in _PASSING else _STATUSES.get(fault.reason, 400)
            why = fault.message or fault.reason or "no reason given"
            raise Refused(f"{_TITLE} could not take in the rows: {why}", status=status, code=fault.reason)

    async def there(self, table: Table) -> bool:
        """Whether there is such a table."""
        try:
            await self._http.ask("GET", table.path)
        except Refused as refusal:
            if refusal.status == _NOT_FOUND:
                return False
            raise
        return True

    async def delete(self, table: Table) -> None:
        """Delete a table. That it is gone already is no error."""
        await self._http.delete(table.path)

    async def read(self, table: Table, target: Path) -> None:
        """A table of results as a file of result lines, synced. Fewer rows than the table has are OutcomeUnknown."""
        chosen = f"selectedFields={','.join(_COLUMNS)}"
        described = self._http.decode(await self._http.ask("GET", f"{table.path}?{chosen}"), _Described)
        names = [field.name for field in described.table.fields]
        if not set(_COLUMNS) <= set(names):
            raise OutcomeUnknown(f"{_TITLE}'s table {table.name} has no columns {', '.join(_COLUMNS)}")
        places = [names.index(name) for name in _COLUMNS]
        seen, total, after = 0, 0, ""
        with LinesFile(target, _TITLE) as file:
            while True:
                path = f"{table.path}/data?maxResults={_PAGE}&{chosen}{after}"
                page = self._http.decode(await self._http.ask("GET", path), _Page)
                await asyncio.to_thread(file.add, _lines(page.rows, places))
                seen, total = seen + len(page.rows), int(page.total_rows)
                if not page.page_token:
                    break
                after = f"&pageToken={quote(page.page_token, safe='')}"
            if seen < total:
                raise OutcomeUnknown(f"{_TITLE} gave {seen:,} of the {total:,} rows of {table.name}")
            await asyncio.to_thread(file.commit)


def _as_rows(requests: Path) -> Path:
    """A request file as rows for a table, in a file beside it that is the caller's to remove."""
    # Here, because it brings all kinds of archives with it, and most jobs need no table.
    import tempfile

    try:
        handle, name = tempfile.mkstemp(".rows", f"{requests.name}.", requests.parent)
        path, whole = Path(name), False
        try:
            with requests.open("rb") as lines, os.fdopen(handle, "wb") as file:
                file.writelines(as_table_row(line) for line in lines if line.strip())
            whole = True
        finally:
            if not whole:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise unreadable(requests, error) from error
    return path


def _lines(rows: list[_Row], places: list[int]) -> Iterator[bytes]:
    for row in rows:
        name, status, response = (row.f[place].v or "" for place in places)
        yield result_line(msgspec.json.encode(name), msgspec.json.encode(status), _document(response))


def _document(text: str) -> bytes:
    """A response as JSON. One that is none stays a text: it is there, and may be paid for, and nobody can read it."""
    try:
        msgspec.json.decode(text or "{}", type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return msgspec.json.encode(text)
    return text.encode() or b"{}"
