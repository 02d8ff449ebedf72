"""Vertex AI's jobs as they are described, what is to be deleted of them, and where an account is."""

from typing import Any

import msgspec
import pytest

from halfrate.base.errors import OutcomeUnknown, SettingsError
from halfrate.base.results import Kind
from halfrate.providers.accounts import account_from
from halfrate.providers.base import BatchView
from halfrate.providers.vertex import Vertex
from halfrate.providers.vertex_jobs import Job, files_among, view_of

TAG = "hr-k3v9x2m4qp-0-1"
NAME = "projects/123/locations/us-central1/batchPredictionJobs/77"
ENVIRON = {"GOOGLE_CLOUD_PROJECT": "p-1", "HALFRATE_VERTEX_BUCKET": "gs://rows/batches"}
FILES = {
    "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": [f"gs://rows/batches/{TAG}.jsonl"]}},
    "outputConfig": {"gcsDestination": {"outputUriPrefix": f"gs://rows/batches/{TAG}"}},
}
FOLDER = f"gs://rows/batches/{TAG}/prediction-model-2026-11-20T10:00:00.000000Z"
TABLES = {
    "inputConfig": {"bigquerySource": {"inputUri": "bq://p-1.d.hr_k3v9x2m4qp_0_1"}},
    "outputConfig": {"bigqueryDestination": {"outputUri": "bq://p-1.d.hr_k3v9x2m4qp_0_1_out_0f"}},
}


def seen(state: str, **more: Any) -> BatchView:
    job = {"name": NAME, "displayName": TAG, "state": f"JOB_STATE_{state}", **more}
    return view_of(msgspec.convert(job, Job))


@pytest.mark.parametrize("state", ["QUEUED", "PENDING", "RUNNING", "CANCELLING", "PAUSED", "UPDATING", "NEW"])
def test_what_is_no_end(state: str) -> None:
    view = seen(state, **FILES, completionStats={"successfulCount": "5", "incompleteCount": "-1"})
    assert (view.batch_id, view.ended, view.files, view.rows_finished) == ("77", False, (), 5)


@pytest.mark.parametrize(
    ("state", "absent"),
    [
        ("SUCCEEDED", Kind.MISSING),
        ("PARTIALLY_SUCCEEDED", Kind.MISSING),
        ("CANCELLED", Kind.CANCELLED),
        ("EXPIRED", Kind.EXPIRED),
    ],
)
def test_every_end_is_harvested(state: str, absent: Kind) -> None:
    stats = {"successfulCount": "5", "failedCount": "2", "incompleteCount": "3"}
    made = {"gcsOutputDirectory": FOLDER}
    view = seen(state, **FILES, completionStats=stats, outputInfo=made, error={"code": 1, "message": "x"})
    assert (view.ended, view.files, view.absent, view.failure) == (True, (FOLDER,), absent, None)
    assert view.rows_finished == 7
    # Without the folder's name, what is in the one that we named is looked through.
    assert seen(state, **FILES, completionStats=stats).files == (f"gs://rows/batches/{TAG}",)


def test_counts_that_are_not_known() -> None:
    stats = {"successfulCount": "-1", "failedCount": "-1"}
    assert seen("SUCCEEDED", **FILES, completionStats=stats).rows_finished == 0


def test_an_end_before_the_first_row_has_no_results() -> None:
    assert seen("EXPIRED", **FILES).files == seen("CANCELLED", **FILES).files == ()


def test_results_that_are_nowhere_are_not_taken_for_none() -> None:
    with pytest.raises(OutcomeUnknown, match="where the results"):
        seen("SUCCEEDED")


@pytest.mark.parametrize(
    ("code", "hopeless"), [(3, True), (7, True), (5, True), (8, False), (13, False), (None, False)]
)
def test_a_job_that_failed(code: int | None, hopeless: bool) -> None:
    view = seen("FAILED", **FILES, error={"code": code, "message": "no access"})
    assert (view.ended, view.failure, view.hopeless) == (True, (str(code or "failed"), "no access"), hopeless)
    assert seen("FAILED").failure == ("failed", "Vertex AI gave no reason")
    assert seen("FAILED", **FILES, outputInfo={"gcsOutputDirectory": FOLDER}).files == (FOLDER,)


@pytest.mark.parametrize(
    "made",
    [
        {"bigqueryOutputTable": "bq://p-1.d.hr_k3v9x2m4qp_0_1_out_0f"},
        {"bigqueryOutputTable": "p-1.d.hr_k3v9x2m4qp_0_1_out_0f"},
        {"bigqueryOutputTable": "hr_k3v9x2m4qp_0_1_out_0f", "bigqueryOutputDataset": "bq://p-1.d"},
        {"bigqueryOutputTable": "hr_k3v9x2m4qp_0_1_out_0f"},
        {},
    ],
)
def test_tables_however_they_are_named(made: dict[str, str]) -> None:
    view = seen("SUCCEEDED", **TABLES, outputInfo=made)
    assert view.files == ("bq://p-1.d.hr_k3v9x2m4qp_0_1_out_0f",)
    assert view.leftovers == (
        "bq://p-1.d.hr_k3v9x2m4qp_0_1",
        "bq://p-1.d.hr_k3v9x2m4qp_0_1_out_0f",
        "batchPredictionJobs/77",
    )


def test_only_what_bears_our_name_is_deleted() -> None:
    folder = f"gs://rows/batches/{TAG}/"
    record = "batchPredictionJobs/77"
    assert seen("RUNNING", **FILES).leftovers == (f"gs://rows/batches/{TAG}.jsonl", folder, record)
    strange = {
        "inputConfig": {"gcsSource": {"uris": ["gs://rows/theirs.jsonl"]}},
        "outputConfig": {"gcsDestination": {"outputUriPrefix": "gs://rows/"}},
    }
    assert seen("RUNNING", **strange).leftovers == (record,)
    tables = {
        "inputConfig": {"bigquerySource": {"inputUri": "bq://p.d.theirs"}},
        "outputConfig": {"bigqueryDestination": {"outputUri": "bq://p.d"}},
    }
    assert seen("RUNNING", **tables).leftovers == (record,)
    assert view_of(msgspec.convert({"name": NAME, **FILES}, Job)).leftovers == (record,)


def test_files_of_results() -> None:
    one = [f"a/{name}" for name in ("predictions.jsonl", "row_count.json", "incremental_predictions.jsonl")]
    assert files_among(one) == ["a/predictions.jsonl"]
    many = [f"a/predictions_0000{n}.jsonl" for n in (2, 1)]
    assert files_among([*many, "a/errors_00001.jsonl"]) == many[::-1]
    parts = [f"a/predictions.jsonl-0000{n}-of-00002" for n in (0, 1)]
    assert files_among([*parts, "a/predictions.jsonl.metadata"]) == parts
    assert files_among(["a/incremental_predictions.jsonl", "x"]) == ["a/incremental_predictions.jsonl"]
    assert files_among(["a/errors_00001.jsonl"]) == []


# ---------------------------------------------------------------- where an account is


def test_an_account_is_a_project_in_a_location() -> None:
    account = account_from(Vertex.capabilities, ENVIRON)
    place = "/v1/projects/p-1/locations/us-central1"
    assert account.base_url == f"https://us-central1-aiplatform.googleapis.com{place}"
    assert account.key == ""
    here = account_from(Vertex.capabilities, {**ENVIRON, "GOOGLE_VERTEX_BASE_URL": "http://here:1/"})
    assert here.base_url == f"http://here:1{place}"


@pytest.mark.parametrize("name", ["GOOGLE_CLOUD_PROJECT", "HALFRATE_VERTEX_BUCKET"])
def test_what_an_account_has_to_be_told(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        account_from(Vertex.capabilities, {key: value for key, value in ENVIRON.items() if key != name})


def test_the_global_location_has_a_host_without_one() -> None:
    account = account_from(
        Vertex.capabilities, {**ENVIRON, "GOOGLE_CLOUD_LOCATION": "global", "GOOGLE_BEARER_TOKEN": "t"}
    )
    adapter = Vertex(account)
    assert adapter._http._url.netloc == "aiplatform.googleapis.com"
    assert adapter._place == "/projects/p-1/locations/global"
