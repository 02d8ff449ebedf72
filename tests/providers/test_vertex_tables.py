"""BigQuery for Vertex AI's rows: uploads of either kind, loads that fail, tables read page by page."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from halfrate.base.errors import OutcomeUnknown, Refused, SettingsError, StorageError
from halfrate.providers import vertex_tables
from halfrate.providers.vertex_tables import Table, Tables

from .wire import Asked, reply, wire

TABLE = Table.of("bq://p-1.d.hr_a_0_1")
DONE = {"jobReference": {"jobId": "j1", "location": "EU"}, "status": {"state": "DONE"}}
UPLOAD = "/upload/bigquery/v2/projects/p-2/jobs?uploadType="


def answered(body: Any, **headers: str) -> bytes:
    return reply(json.dumps(body).encode(), **headers)


def ask(url: str, what: Callable[[Tables], Coroutine[Any, Any, Any]]) -> Any:
    async def run() -> Any:
        tables = Tables(url, {"Authorization": "Bearer t"}, None, "p-2")
        try:
            return await what(tables)
        finally:
            await tables.close()

    return asyncio.run(run())


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    path = tmp_path / "requests-0.jsonl"
    row = (
        '{"request":{"labels":{"hr_row":"hr-a-0-1-%d"},"contents":[{"parts":[{"text":"é \\" \\u2028"}]}]}}\n'
    )
    path.write_text("".join(row % n for n in range(3)), encoding="utf-8")
    return path


def rows_in(data: bytes) -> list[tuple[str, Any]]:
    rows = [json.loads(row) for row in data.split(b"\n") if row]
    return [(row["row_id"], json.loads(row["request"])["contents"]) for row in rows]


ROWS = [(f"hr-a-0-1-{n}", [{"parts": [{"text": 'é " \u2028'}]}]) for n in range(3)]


def test_a_small_file_goes_in_one_request(requests: Path) -> None:
    with wire(lambda _: answered(DONE)) as server:
        ask(server.url, lambda tables: tables.fill(TABLE, requests))
        (asked,) = server.asked
    assert asked.head.startswith(f"POST {UPLOAD}multipart HTTP/1.1")
    mark = asked.head.partition("boundary=")[2].partition("\r\n")[0].encode()
    _, what, rows, end = asked.body.split(b"--" + mark)
    assert end == b"--\r\n"
    load = json.loads(what.partition(b"\r\n\r\n")[2])["configuration"]["load"]
    assert load["destinationTable"] == {"projectId": "p-1", "datasetId": "d", "tableId": "hr_a_0_1"}
    assert load["writeDisposition"] == "WRITE_TRUNCATE"
    assert rows_in(rows.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")) == ROWS
    assert [path.name for path in requests.parent.iterdir()] == [requests.name]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_large_file_goes_to_a_place_that_bigquery_names(
    requests: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    monkeypatch.setattr(vertex_tables, "_AT_ONCE", 10)

    def answer(asked: Asked) -> bytes:
        if asked.head.startswith("PUT"):
            return answered(DONE)
        place = f"{there.url if elsewhere else server.url}/upload/x?upload_id=1"
        return reply(b"", Location=place)

    with wire(answer) as server, wire(answer) as there:
        ask(server.url, lambda tables: tables.fill(TABLE, requests))
        start = server.asked[0]
        put = there.asked[0] if elsewhere else server.asked[1]
    assert start.head.startswith(f"POST {UPLOAD}resumable HTTP/1.1")
    assert f"X-Upload-Content-Length: {len(put.body)}" in start.head
    assert put.head.startswith("PUT /upload/x?upload_id=1 HTTP/1.1")
    # The token goes to BigQuery alone.
    assert ("Authorization" in put.head) is not elsewhere
    assert rows_in(put.body) == ROWS


def test_a_load_is_waited_for(requests: Path) -> None:
    states = iter(["PENDING", "RUNNING", "DONE"])

    def answer(_: Asked) -> bytes:
        return answered({**DONE, "status": {"state": next(states)}})

    with wire(answer) as server:
        ask(server.url, lambda tables: tables.fill(TABLE, requests))
        assert server.asked[2].head.startswith("GET /bigquery/v2/projects/p-2/jobs/j1?location=EU HTTP/1.1")


@pytest.mark.parametrize(
    ("reason", "status", "passing"),
    [
        ("backendError", 503, True),
        ("quotaExceeded", 503, True),
        ("accessDenied", 403, False),
        ("notFound", 404, False),
        ("invalid", 400, False),
    ],
)
def test_a_load_that_fails(requests: Path, reason: str, status: int, passing: bool) -> None:
    fault = {"reason": reason, "message": "so it is"}
    failed = {**DONE, "status": {"state": "DONE", "errorResult": fault}}
    with (
        wire(lambda _: answered(failed)) as server,
        pytest.raises(Refused, match="so it is") as raised,
    ):
        ask(server.url, lambda tables: tables.fill(TABLE, requests))
    assert (raised.value.status, raised.value.passing) == (status, passing)


def test_rows_that_are_not_there_are_no_fault_of_bigquerys(tmp_path: Path) -> None:
    with wire(lambda _: answered(DONE)) as server:
        with pytest.raises(StorageError):
            ask(server.url, lambda tables: tables.fill(TABLE, tmp_path / "none"))
        assert server.asked == []


def page(rows: list[tuple[str | None, ...]], total: int, token: str | None = None) -> bytes:
    cells = [{"f": [{"v": value} for value in row]} for row in rows]
    return answered({"rows": cells, "totalRows": str(total), **({"pageToken": token} if token else {})})


def described(*names: str) -> bytes:
    return answered({"schema": {"fields": [{"name": name} for name in names]}})


def test_a_table_becomes_a_file_of_lines(tmp_path: Path) -> None:
    good = json.dumps({"candidates": [{"content": {"parts": [{"text": "a\nb"}]}}]}, indent=1)
    pages = iter(
        [
            described("response", "row_id", "more", "status"),
            page([(good, "hr-1", "x", ""), (None, "hr-2", None, "Bad Request: {}")], 4, "a b"),
            page([("{torn", "hr-3", "x", ""), ("{}", None, "x", None)], 4),
        ]
    )
    target = tmp_path / "lines"
    with wire(lambda _: next(pages)) as server:
        ask(server.url, lambda tables: tables.read(TABLE, target))
        paths = [asked.head.split(" ")[1] for asked in server.asked]
    base = "/bigquery/v2/projects/p-1/datasets/d/tables/hr_a_0_1"
    chosen = "selectedFields=row_id,status,response"
    assert paths[0] == f"{base}?{chosen}"
    assert paths[2] == f"{base}/data?maxResults=2000&{chosen}&pageToken=a%20b"
    found = [json.loads(line) for line in target.read_bytes().split(b"\n") if line]
    assert [line["request"]["labels"]["hr_row"] for line in found] == ["hr-1", "hr-2", "hr-3", ""]
    assert [line["status"] for line in found] == ["", "Bad Request: {}", "", ""]
    assert [line["response"] for line in found] == [json.loads(good), {}, "{torn", {}]


def test_fewer_rows_than_the_table_has_are_no_result(tmp_path: Path) -> None:
    pages = iter([described("row_id", "status", "response"), page([("hr-1", "", "{}")], 2)])
    with wire(lambda _: next(pages)) as server, pytest.raises(OutcomeUnknown, match="1 of the 2 rows"):
        ask(server.url, lambda tables: tables.read(TABLE, tmp_path / "lines"))


def test_a_table_of_another_make(tmp_path: Path) -> None:
    with (
        wire(lambda _: described("request", "response")) as server,
        pytest.raises(OutcomeUnknown, match="no columns"),
    ):
        ask(server.url, lambda tables: tables.read(TABLE, tmp_path / "lines"))


def test_whether_a_table_is_there() -> None:
    replies = iter(
        [described("row_id"), reply(b'{"error":{"code":404,"message":"Not found"}}', "404 Not Found")]
    )
    with wire(lambda _: next(replies)) as server:
        assert ask(server.url, lambda tables: tables.there(TABLE)) is True
        assert ask(server.url, lambda tables: tables.there(TABLE)) is False
    with wire(lambda _: reply(b"{}", "403 Forbidden")) as server, pytest.raises(Refused):
        ask(server.url, lambda tables: tables.there(TABLE))


@pytest.mark.parametrize("uri", ["bq://d.t", "gs://a.b.c", "bq://a.b.", "bq://"])
def test_names_that_are_no_tables(uri: str) -> None:
    with pytest.raises(SettingsError):
        Table.of(uri)


def test_a_project_of_old_has_a_dot_in_its_name() -> None:
    assert Table.of("bq://example.com:p.d.t") == ("example.com:p", "d", "t")
