"""What Vertex AI has of its own: rows in a bucket or in tables, Google's sign-in, results in several files."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import google.auth
import pytest
from google.auth.exceptions import DefaultCredentialsError

from halfrate.base.errors import InputError, Refused, SettingsError, UsageError
from halfrate.emulator import Limits
from halfrate.providers import vertex_tables
from halfrate.providers.http import Http
from halfrate.service.jobs import Service

from .office import Office

Offices = Callable[..., Office]
BUCKET = "HALFRATE_VERTEX_BUCKET"


@pytest.fixture
def tables(office: Offices, monkeypatch: pytest.MonkeyPatch) -> Offices:
    """Opens offices whose rows go through BigQuery, a few to a page."""

    def make(*faults: str, **options: Any) -> Office:
        desk = office("vertex", *faults, **options)
        monkeypatch.setenv(BUCKET, "bq://emulator.rows")
        monkeypatch.setattr(vertex_tables, "_PAGE", 17)
        return desk

    return make


def asked(desk: Office, path: str) -> Any:
    async def ask() -> bytes:
        http = Http(desk.emulator_url, {"Authorization": "Bearer x"}, "the emulator")
        try:
            return await http.ask("GET", path)
        finally:
            await http.close()

    return json.loads(asyncio.run(ask()))


def tables_left(desk: Office) -> list[str]:
    listed = asked(desk, "/bigquery/bigquery/v2/projects/emulator/datasets/rows/tables")
    return [table["tableReference"]["tableId"] for table in listed["tables"]]


def records_left(desk: Office) -> list[Any]:
    place = "/vertex/v1/projects/emulator/locations/us-central1/batchPredictionJobs"
    return asked(desk, place).get("batchPredictionJobs", [])


def lines(desk: Office, requests: list[Any]) -> Any:
    path = desk.folder / "batch.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in requests))
    return path


def native(number: int, **more: Any) -> dict[str, Any]:
    text = f"What is {number} plus {number}?"
    return {"request": {"contents": [{"role": "user", "parts": [{"text": text}]}], **more}}


# ---------------------------------------------------------------- BigQuery


def test_rows_through_tables(tables: Offices) -> None:
    desk = tables()
    desk.assert_sound(desk.run(desk.ask(120)))
    assert tables_left(desk) == records_left(desk) == []


def test_rows_of_tables_that_fail(tables: Offices) -> None:
    desk = tables("row-error:rate=0.2,status=500", "row-error:match=7 plus,status=400,sticky=true")
    report = desk.run(desk.ask(40, max_attempts=8))
    rows = desk.assert_sound(report, answered=36)
    assert [row["n"] for row in rows if row["status"] == "failed"] == [7, 17, 27, 37]
    assert report.attempts > 1
    assert tables_left(desk) == []


def test_a_lost_create_over_tables_is_adopted(tables: Offices) -> None:
    desk = tables("create-lost:times=1")
    desk.assert_sound(desk.run(desk.ask(40)))
    assert desk.meter()["batches_created"] == 1
    assert tables_left(desk) == []


def test_rows_finished_before_a_cancel_are_read_from_their_table(tables: Offices) -> None:
    desk = tables("batch-expire:times=1,done=0.5")
    report = desk.run(desk.ask(60))
    desk.assert_sound(report)
    assert report.attempts == 2
    assert tables_left(desk) == []


def test_a_job_over_tables_is_cancelled(tables: Offices) -> None:
    desk = tables("batch-stuck:seconds=3600,times=1")
    job = desk.submit(desk.ask(40))
    with Service(desk.home) as service:
        service.cancel(job.id)
    report = desk.work(job)
    desk.assert_sound(report, answered=report.succeeded)
    assert report.succeeded + report.cancelled == 40
    assert tables_left(desk) == []


def test_the_place_may_change_while_a_job_runs(tables: Offices, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = tables("row-error:rate=0.3,status=503")
    job = desk.submit(desk.ask(40, max_attempts=20))
    monkeypatch.setenv(BUCKET, "gs://elsewhere")
    desk.assert_sound(desk.work(job))


# ---------------------------------------------------------------- Cloud Storage


def test_results_in_several_files(office: Offices) -> None:
    desk = office("vertex", limits=Limits(vertex_shard_rows=9))
    desk.assert_sound(desk.run(desk.ask(60)))
    assert records_left(desk) == []


def test_an_upload_that_breaks_off(office: Offices) -> None:
    desk = office("vertex", "upload-reset:times=1")
    desk.assert_sound(desk.run(desk.ask(40)))


def test_a_schema_is_met(office: Offices) -> None:
    desk = office("vertex")
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    report = desk.run(desk.ask(20, schema=schema))
    assert all(isinstance(row["answer"]["sum"], int) for row in desk.assert_sound(report))


def test_real_time(office: Offices) -> None:
    desk = office("vertex", "realtime-error:rate=0.1,status=503")
    report = desk.run(desk.ask(40, tier="standard"))
    desk.assert_sound(report)
    assert desk.meter()["rows_by_tier"] == {"standard": 40}


def test_rows_refused_in_real_time(office: Offices) -> None:
    desk = office("vertex", "realtime-error:times=1,status=400")
    rows = desk.assert_sound(desk.run(desk.ask(10, tier="standard")), answered=9)
    (failed,) = [row for row in rows if row["status"] == "failed"]
    assert failed["error"].startswith("3: ")


def test_a_job_that_fails_for_good_costs_nothing(office: Offices) -> None:
    desk = office("vertex", "batch-fail:times=1")
    report = desk.run(desk.ask(20))
    assert (report.failed, report.attempts, report.cost) == (20, 1, 0)
    assert desk.meter()["files_stored"] == 0


# ---------------------------------------------------------------- batch files


def test_a_batch_file_of_its_own_form(office: Offices) -> None:
    desk = office("vertex", "row-error:rate=0.2,status=503")
    path = lines(desk, [native(n, generationConfig={"maxOutputTokens": 50 + n}) for n in range(30)])
    report = desk.run(desk.ask(input=path, prompt=None, max_attempts=8))
    assert report.succeeded == 30
    assert report.cost == desk.meter()["picodollars"]
    with Service(desk.home) as service:
        raw = service.deliver_raw(report.job.id, desk.folder / "raw.jsonl").read_text()
    for number, line in enumerate(map(json.loads, raw.splitlines())):
        assert line["request"]["contents"] == native(number)["request"]["contents"]
        assert line["request"]["generationConfig"] == {"maxOutputTokens": 50 + number}


def test_a_batch_file_runs_in_real_time_without_the_labels(office: Offices) -> None:
    desk = office("vertex")
    path = lines(desk, [native(n) for n in range(10)])
    report = desk.run(desk.ask(input=path, prompt=None, tier="standard"))
    assert report.succeeded == 10


@pytest.mark.parametrize("bad", [native(3, labels={"team": "a"}), {"request": {}}])
def test_rows_with_labels_of_their_own_are_refused(office: Offices, bad: dict[str, Any]) -> None:
    desk = office("vertex")
    path = lines(desk, [*map(native, range(3)), bad])
    with pytest.raises(InputError, match=r"row 4 .*'labels'"):
        desk.submit(desk.ask(input=path, prompt=None))


def test_requests_of_openais(office: Offices) -> None:
    desk = office("vertex")
    body = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "What is 1 plus 1?"}]}
    line = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    path = lines(desk, [{"custom_id": f"q/{n}", **line} for n in range(5)])
    report = desk.run(desk.ask(input=path, prompt=None))
    with Service(desk.home) as service:
        raw = service.deliver_raw(report.job.id, desk.folder / "raw.jsonl").read_text()
    found = [json.loads(line) for line in raw.splitlines()]
    assert [line["custom_id"] for line in found] == [f"q/{n}" for n in range(5)]
    assert all(line["response"]["body"]["choices"][0]["message"]["content"] for line in found)


# ---------------------------------------------------------------- what a person has to mend


def test_labels_cannot_be_set(office: Offices) -> None:
    desk = office("vertex")
    with pytest.raises(UsageError, match="labels"):
        desk.submit(desk.ask(5, params={"labels": {"team": "a"}}))


@pytest.mark.parametrize("place", ["s3://bucket", "gs://", "bq://dataset", "folder"])
def test_a_place_that_is_none(office: Offices, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    desk = office("vertex")
    monkeypatch.setenv(BUCKET, place)
    with pytest.raises(SettingsError, match=r"gs://BUCKET/FOLDER"):
        desk.submit(desk.ask(5))


def test_a_token_that_is_not_taken(office: Offices, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = office("vertex")
    job = desk.submit(desk.ask(10))
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "bad-key-of-old")
    with pytest.raises(Refused) as raised:
        desk.work(job)
    assert "bad-key" not in str(raised.value)
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "emulator")
    desk.assert_sound(desk.work(job))


@pytest.mark.parametrize("place", ["gs://rows", "bq://emulator.rows"])
def test_googles_own_sign_in_with_tokens_that_end(
    office: Offices, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    class Credentials:
        token, valid, renewals = "", False, 0
        expiry = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=5)

        def refresh(self, _: Any) -> None:
            self.renewals += 1
            self.token = f"token-{self.renewals}"

    found = Credentials()

    def default(**_: Any) -> Any:
        return found, "emulator"

    desk = office("vertex")
    monkeypatch.delenv("GOOGLE_BEARER_TOKEN")
    monkeypatch.setenv(BUCKET, place)
    monkeypatch.setattr(google.auth, "default", default)
    desk.assert_sound(desk.run(desk.ask(40)))
    assert found.renewals > 5


def test_no_credentials_at_all(office: Offices, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(**_: Any) -> Any:
        raise DefaultCredentialsError("none were found")

    desk = office("vertex")
    monkeypatch.delenv("GOOGLE_BEARER_TOKEN")
    monkeypatch.setattr(google.auth, "default", nothing)
    job = desk.submit(desk.ask(10))
    with pytest.raises(SettingsError, match="gcloud auth application-default login"):
        desk.work(job)
    assert desk.meter()["batches_created"] == 0
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "emulator")
    desk.assert_sound(desk.work(job))


def test_no_credentials_for_real_time(office: Offices, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(**_: Any) -> Any:
        raise DefaultCredentialsError("none were found")

    desk = office("vertex")
    monkeypatch.delenv("GOOGLE_BEARER_TOKEN")
    monkeypatch.setattr(google.auth, "default", nothing)
    job = desk.submit(desk.ask(10, tier="standard"))
    with pytest.raises(Refused, match="gcloud auth application-default login"):
        desk.work(job)
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "emulator")
    desk.assert_sound(desk.work(job))
