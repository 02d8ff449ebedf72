"""BigQuery, as far as batch jobs need it (REST reference, v2): tables, rows in and out, load jobs.

A load job is done when its insertion is answered. There are no queries. Paths may carry the service's own prefix
`/bigquery/v2` or stand without `/bigquery`, since clients differ in what they take for the base URL.
"""

from typing import Any, ClassVar

import msgspec

from halfrate.emulator._bigquery_store import Table, missing, read_fields, read_lines
from halfrate.emulator._context import Context
from halfrate.emulator._gcs_store import split_uri
from halfrate.emulator._gcs_wire import error_document, related
from halfrate.emulator._gemini_wire import whole
from halfrate.emulator._routes import Call, Route, Routes
from halfrate.emulator._surface import Surface, bearer, is_bad
from halfrate.emulator._wire import (
    ApiError,
    Document,
    Request,
    Response,
    as_document,
    as_list,
    documents,
    json_response,
    read_document,
)

_PAGE = 10_000


class BigQuerySurface(Surface):
    provider: ClassVar[str] = "bigquery"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._jobs: dict[tuple[str, str], Document] = {}
        groups = [self._routes(prefix) for prefix in ("/bigquery/v2", "/v2")]
        uploads = [
            Route("POST", f"/{base}bigquery/v2/projects/{{}}/jobs", "upload", self._upload)
            for base in ("upload/", "resumable/upload/")
        ]
        super().__init__(Routes(*groups, uploads), ())

    def _routes(self, prefix: str) -> list[Route]:
        project = f"{prefix}/projects/{{}}"
        tables = f"{project}/datasets/{{}}/tables"
        return [
            Route("POST", f"{project}/datasets", "tables", self._make_dataset),
            Route("GET", f"{project}/datasets/{{}}", "tables", self._dataset),
            Route("POST", tables, "tables", self._make_table),
            Route("GET", tables, "list", self._list_tables),
            Route("GET", f"{tables}/{{}}", "tables", self._table),
            Route("DELETE", f"{tables}/{{}}", "delete", self._delete),
            Route("POST", f"{tables}/{{}}/insertAll", "upload", self._insert_all),
            Route("GET", f"{tables}/{{}}/data", "download", self._data),
            Route("POST", f"{project}/jobs", "upload", self._insert_job),
            Route("GET", f"{project}/jobs/{{}}", "poll", self._job),
        ]

    def authenticated(self, request: Request) -> str:
        token = bearer(request)
        if not token or is_bad(token):
            raise ApiError(401, "Request had invalid authentication credentials.")
        return token

    def refused(self, error: ApiError, request_id: str) -> Response:
        return json_response(error_document(error), error.status, error.headers)

    def unknown_path(self, request: Request) -> ApiError:
        return ApiError(404, f"The requested URL {request.path} was not found on this server.")

    def environment(self, url: str) -> dict[str, str]:
        return {"BIGQUERY_EMULATOR_HOST": url}

    def _named(self, call: Call) -> Table:
        name = (call.args[0], call.args[1], call.args[2])
        table = self._context.tables.get(name)
        if table is None:
            raise missing(name)
        return table

    async def _make_dataset(self, call: Call) -> Response:
        given = as_document((await read_document(call.request)).get("datasetReference")) or {}
        return json_response(_dataset_document(call.arg, str(given.get("datasetId"))))

    async def _dataset(self, call: Call) -> Response:
        return json_response(_dataset_document(*call.args))

    async def _make_table(self, call: Call) -> Response:
        body = await read_document(call.request)
        reference = as_document(body.get("tableReference")) or {}
        table_id = reference.get("tableId")
        if not isinstance(table_id, str) or not table_id:
            raise ApiError(400, "Required parameter is missing: tableReference.tableId")
        fields = read_fields(body)
        table = self._context.tables.make((call.args[0], call.args[1], table_id), call.now, fields)
        return json_response(_table_document(table))

    async def _list_tables(self, call: Call) -> Response:
        found = self._context.tables.of(*call.args)
        shown = [{"kind": "bigquery#table", "tableReference": _reference(table)} for table in found]
        return json_response({"kind": "bigquery#tableList", "tables": shown, "totalItems": len(found)})

    async def _table(self, call: Call) -> Response:
        return json_response(_table_document(self._named(call)))

    async def _delete(self, call: Call) -> Response:
        self._context.tables.delete((call.args[0], call.args[1], call.args[2]))
        return Response(204)

    async def _insert_all(self, call: Call) -> Response:
        table, body = self._named(call), await read_document(call.request)
        rows = [as_document(one.get("json")) for one in documents(body.get("rows"))]
        bad = [
            {"index": number, "errors": [{"reason": "invalid", "message": "A row needs `json`."}]}
            for number, row in enumerate(rows)
            if row is None
        ]
        found: Document = {"kind": "bigquery#tableDataInsertAllResponse"}
        if bad:
            return json_response({**found, "insertErrors": bad})
        table.add(row for row in rows if row is not None)
        return json_response(found)

    async def _data(self, call: Call) -> Response:
        table, params = self._named(call), call.request.params()
        start = whole(params.get("pageToken") or params.get("startIndex") or "0") or 0
        most = min(_PAGE, whole(params.get("maxResults") or "") or _PAGE)
        rows: list[Document] = []
        for row in table.rows(start):
            if len(rows) >= most:
                break
            rows.append({"f": [{"v": _cell(row.get(field["name"]))} for field in table.fields]})
        total = len(table.offsets)
        found: Document = {"kind": "bigquery#tableDataList", "totalRows": str(total), "rows": rows}
        if start + len(rows) < total:
            found["pageToken"] = str(start + len(rows))
        return json_response(found)

    async def _insert_job(self, call: Call) -> Response:
        body = await read_document(call.request)
        lines: list[bytes] = []
        problem: str | None = None
        for uri in as_list(_load(body).get("sourceUris")) or []:
            stored = self._context.buckets.get(*split_uri(str(uri)))
            if stored is None:
                problem = f"Not found: URI {uri}"
                break
            lines += stored.path.read_bytes().split(b"\n")
        return self._loaded(call, body, lines, problem)

    async def _upload(self, call: Call) -> Response:
        if call.request.params().get("uploadType") != "multipart":
            raise ApiError(400, "Loads are uploaded as multipart here.")
        body, _, path = await related(call.request, self._context.spool)
        try:
            return self._loaded(call, body, path.read_bytes().split(b"\n"), None)
        finally:
            self._context.spool.drop(path)

    def _loaded(self, call: Call, body: Document, lines: list[bytes], problem: str | None) -> Response:
        load, project = _load(body), call.arg
        if load.get("sourceFormat") != "NEWLINE_DELIMITED_JSON":
            raise ApiError(400, "Only loads of NEWLINE_DELIMITED_JSON are known here.")
        to = as_document(load.get("destinationTable")) or {}
        name = (str(to.get("projectId") or project), str(to.get("datasetId")), str(to.get("tableId")))
        added = 0
        try:
            rows = list(read_lines(lines))
            if problem is None:
                added = self._write(name, load, rows, call.now)
        except ApiError as error:
            problem = error.message
        job_id = (as_document(body.get("jobReference")) or {}).get("jobId") or self._context.new_id("job_")
        now = str(int(call.now * 1000))
        status: Document = {"state": "DONE"}
        if problem is not None:
            status["errorResult"] = {"reason": "invalid", "message": problem}
            status["errors"] = [status["errorResult"]]
        times = {"creationTime": now, "startTime": now, "endTime": now}
        job: Document = {
            "kind": "bigquery#job",
            "id": f"{project}:US.{job_id}",
            "jobReference": {"projectId": project, "jobId": job_id, "location": "US"},
            "configuration": body.get("configuration"),
            "status": status,
            "statistics": {**times, "load": {"outputRows": str(added)}},
        }
        self._jobs[project, str(job_id)] = job
        return json_response(job)

    def _write(self, name: tuple[str, str, str], load: Document, rows: list[Document], at: float) -> int:
        tables = self._context.tables
        how = load.get("writeDisposition", "WRITE_APPEND")
        table = tables.get(name)
        if table is not None and how == "WRITE_TRUNCATE":
            tables.delete(name)
            table = None
        if table is not None and how == "WRITE_EMPTY" and table.offsets:
            raise ApiError(409, "Already Exists: the table has rows.")
        return (table or tables.make(name, at, read_fields(load))).add(rows)

    async def _job(self, call: Call) -> Response:
        job = self._jobs.get((call.args[0], call.args[1]))
        if job is None:
            raise ApiError(404, f"Not found: Job {call.args[0]}:{call.args[1]}")
        return json_response(job)


def _load(body: Document) -> Document:
    load = as_document((as_document(body.get("configuration")) or {}).get("load"))
    if load is None:
        raise ApiError(400, "Only load jobs are known here.")
    return load


def _cell(value: Any) -> Any:
    """A value as tabledata.list has it: everything but null is a string."""
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def _reference(table: Table) -> Document:
    return dict(zip(("projectId", "datasetId", "tableId"), table.name, strict=True))


def _dataset_document(project: str, dataset: str) -> Document:
    reference = {"projectId": project, "datasetId": dataset}
    return {"kind": "bigquery#dataset", "id": f"{project}:{dataset}", "datasetReference": reference}


def _table_document(table: Table) -> Document:
    project, dataset, name = table.name
    return {
        "kind": "bigquery#table",
        "id": f"{project}:{dataset}.{name}",
        "tableReference": _reference(table),
        "schema": {"fields": table.fields},
        "numRows": str(len(table.offsets)),
        "numBytes": str(table.size),
        "creationTime": str(int(table.created_at * 1000)),
        "type": "TABLE",
        "location": "US",
    }
