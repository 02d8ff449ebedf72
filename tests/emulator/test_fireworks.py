"""Fireworks' batch inference jobs in virtual time."""

from collections.abc import Callable
from typing import Any

import pytest

from halfrate.emulator import Limits, Pace, Response

from .driver import Driver, jsonl, lines_of
from .mistral_driver import body, form, rows

Build = Callable[..., Driver]
MODEL = "accounts/fireworks/models/gpt-oss-120b"
ROOT = "/fireworks/v1/accounts/acme"
JOBS = f"{ROOT}/batchInferenceJobs"
CHAT = "/fireworks/inference/v1/chat/completions"
SLOW = Pace(validate=10, queue=10, per_1000_rows=1_000, finalize=10, cancel=10)


class Fireworks:
    """Every helper asserts the status it expects."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    def make_dataset(self, name: str, count: int = 1) -> Any:
        about = {"userUploaded": {}, "exampleCount": str(count)}
        return self.driver.json("POST", f"{ROOT}/datasets", {"datasetId": name, "dataset": about})

    def upload(self, name: str, content: bytes, count: int = 1) -> None:
        made = self.make_dataset(name, count)
        assert (made["state"], made["name"]) == ("UPLOADING", f"accounts/acme/datasets/{name}")
        sent, headers = form(content)
        self.driver.json("POST", f"{ROOT}/datasets/{name}:upload", sent, headers=headers)

    def create(self, job_id: str, **more: Any) -> Response:
        sent = {"model": MODEL, "outputDatasetId": f"{job_id}-out", **more}
        return self.driver.send("POST", JOBS, sent, query=f"batchInferenceJobId={job_id}")

    def job(self, job_id: str, given: list[dict[str, Any]], **more: Any) -> str:
        self.upload(f"{job_id}-in", jsonl(given), len(given))
        response = self.create(job_id, inputDatasetId=f"{job_id}-in", **more)
        assert response.status == 200, response.read()
        return job_id

    def look(self, job_id: str) -> Any:
        return self.driver.json("GET", f"{JOBS}/{job_id}")

    def fetch(self, url: str) -> Response:
        path, _, query = url.removeprefix("http://localhost").partition("?")
        return self.driver.send("GET", path, headers={}, query=query)

    def urls(self, dataset: str) -> dict[str, str]:
        found = self.driver.json("GET", f"{ROOT}/datasets/{dataset}:getDownloadEndpoint")
        return found["filenameToSignedUrls"]

    def results(self, job_id: str) -> tuple[list[Any], list[Any]]:
        """(results, errors) of the output dataset."""
        urls = self.urls(f"{job_id}-out")
        names = [f"dataset/{job_id}-out/{name}" for name in ("BIJOutputSet.jsonl", "error-data")]
        assert list(urls) == names
        output, errors = (lines_of(self.fetch(urls[name]).read()) for name in names)
        return output, errors


def test_a_job_from_first_to_last(build: Build) -> None:
    driver = build(pace=SLOW)
    fireworks = Fireworks(driver)
    fireworks.job("hr-1", rows(10), displayName="nightly")
    seen: list[str] = []
    for _ in range(45):
        seen.append(fireworks.look("hr-1")["state"].removeprefix("JOB_STATE_"))
        driver.clock.advance(1)
    assert list(dict.fromkeys(seen)) == ["VALIDATING", "PENDING", "RUNNING", "WRITING_RESULTS", "COMPLETED"]
    done = fireworks.look("hr-1")
    assert done["name"] == "accounts/acme/batchInferenceJobs/hr-1"
    assert (done["displayName"], done["status"]) == ("nightly", {"code": "OK", "message": ""})
    assert done["outputDatasetId"] == "accounts/acme/datasets/hr-1-out"
    output, errors = fireworks.results("hr-1")
    assert ({line["custom_id"] for line in output}, errors) == ({f"r-{n}" for n in range(10)}, [])
    assert output[0]["response"]["model"] == MODEL
    usage = [line["response"]["usage"] for line in output]
    prompt, written = (sum(one[key] for one in usage) for key in ("prompt_tokens", "completion_tokens"))
    progress = done["jobProgress"]
    assert (progress["inputTokens"], progress["outputTokens"], progress["percent"]) == (prompt, written, 100)
    assert (progress["successfullyProcessedRequests"], progress["failedRequests"]) == (10, 0)
    meter = driver.meter()
    assert meter["picodollars_by_provider"] == {"fireworks": prompt * 75_000 + written * 300_000}
    assert (meter["rows_billed"], meter["batches_created_by_provider"]) == (10, {"fireworks": 1})


def test_a_second_creation_is_a_conflict(driver: Driver) -> None:
    fireworks = Fireworks(driver)
    fireworks.job("hr-1", rows(1))
    again = fireworks.create("hr-1", inputDatasetId="hr-1-in")
    assert (again.status, again.json()["code"]) == (409, 6)
    assert driver.meter()["batches_created"] == 1
    fireworks.driver.emulator.add_fault("create-lost:provider=fireworks")
    assert fireworks.create("hr-2", inputDatasetId="hr-1-in").delivery.drop
    assert fireworks.create("hr-2", inputDatasetId="hr-1-in").status == 409
    twice = {"datasetId": "hr-1-in", "dataset": {"exampleCount": "1"}}
    assert driver.send("POST", f"{ROOT}/datasets", twice).status == 409


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({}, 400),
        ({"inputDatasetId": "nobody"}, 404),
        ({"inputDatasetId": "empty"}, 400),
        ({"inputDatasetId": "full", "model": "accounts/fireworks/models/none"}, 404),
        ({"inputDatasetId": "full", "model": None}, 400),
        ({"inputDatasetId": "full", "outputDatasetId": "empty"}, 409),
        ({"inputDatasetId": "full", "outputDatasetId": "No Good"}, 400),
        ({"inputDatasetId": "full", "inferenceParameters": {"extraBody": "{"}}, 400),
        ({"inputDatasetId": "full", "continuedFromJobName": "none"}, 404),
        ({"inputDatasetId": "full"}, 200),
    ],
)
def test_what_is_refused(driver: Driver, more: dict[str, Any], status: int) -> None:
    fireworks = Fireworks(driver)
    fireworks.make_dataset("empty")
    fireworks.upload("full", jsonl(rows(1)))
    response = fireworks.create("hr-1", **more)
    assert response.status == status
    assert status == 200 or set(response.json()) == {"code", "message", "details"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"nonsense", "in.jsonl:3: invalid JSON"),
        (jsonl([{"custom_id": "x", "body": {}}]), "missing messages"),
        (jsonl([{"body": body("hi")}]), "missing custom_id"),
        (jsonl([{"custom_id": "r-0", "body": body("hi")}]), "duplicate custom_id"),
        (jsonl([{"custom_id": "x", "body": {"messages": [{"role": "bananas"}]}}]), "invalid role bananas"),
    ],
)
def test_one_bad_row_fails_the_job(driver: Driver, line: bytes, words: str) -> None:
    fireworks = Fireworks(driver)
    fireworks.upload("in", jsonl(rows(2)) + line)
    assert fireworks.create("hr-1", inputDatasetId="in").status == 200
    done = fireworks.look("hr-1")
    assert (done["state"], done["status"]["code"]) == ("JOB_STATE_FAILED", "INVALID_ARGUMENT")
    assert words in done["status"]["message"]
    assert driver.send("GET", f"{ROOT}/datasets/hr-1-out:getDownloadEndpoint").status == 404


def test_parameters_and_failing_rows(driver: Driver) -> None:
    fireworks = Fireworks(driver)
    bad = {"custom_id": "bad", "body": body("hi", max_tokens=0)}
    fireworks.job("hr-1", [*rows(2), bad], inferenceParameters={"maxTokens": 3, "temperature": 0})
    output, errors = fireworks.results("hr-1")
    assert {line["response"]["choices"][0]["finish_reason"] for line in output} == {"length"}
    assert [(line["custom_id"], line["error"]["code"]) for line in errors] == [("bad", 400)]
    progress = fireworks.look("hr-1")["jobProgress"]
    assert (progress["failedRequests"], progress["totalProcessedRequests"]) == (1, 3)


def test_big_uploads_through_signed_urls(driver: Driver) -> None:
    fireworks = Fireworks(driver)
    fireworks.make_dataset("in", 2)
    path = f"{ROOT}/datasets/in"
    assert driver.send("POST", f"{path}:validateUpload", {"name": "in"}).status == 400
    found = driver.json("POST", f"{path}:getUploadEndpoint", {"filenameToSize": {"a b.jsonl": "9"}})
    url, _, query = found["filenameToSignedUrls"]["a b.jsonl"].removeprefix("http://localhost").partition("?")
    url = url.replace("%20", " ")
    assert driver.send("PUT", url, jsonl(rows(2)), headers={}, query=query).status == 200
    assert driver.json("GET", path)["state"] == "UPLOADING"
    driver.json("POST", f"{path}:validateUpload", {"name": "in"})
    assert (driver.json("GET", path)["state"], driver.json("GET", path)["exampleCount"]) == ("READY", "2")
    assert fireworks.create("hr-1", inputDatasetId="accounts/acme/datasets/in").status == 200
    assert len(fireworks.results("hr-1")[0]) == 2
    (signed,) = fireworks.urls("in").values()
    assert fireworks.fetch(signed.replace("%20", " ")).read() == jsonl(rows(2))
    driver.clock.advance(600)
    assert fireworks.fetch(signed).status == 403
    assert driver.json("DELETE", path) == {}
    assert driver.send("GET", path).status == 404


def test_an_expired_job_keeps_its_rows_and_can_be_continued(build: Build) -> None:
    driver = build(faults=["batch-expire:done=0.5"])
    fireworks = Fireworks(driver)
    fireworks.job("hr-1", rows(10))
    done = fireworks.look("hr-1")
    output, _ = fireworks.results("hr-1")
    assert (done["state"], len(output)) == ("JOB_STATE_EXPIRED", 5)
    rest = fireworks.create("hr-2", continuedFromJobName=done["name"])
    assert rest.status == 200
    more, _ = fireworks.results("hr-2")
    assert {line["custom_id"] for line in [*output, *more]} == {f"r-{n}" for n in range(10)}
    assert (len(more), driver.meter()["fingerprints_billed_again"]) == (5, 0)
    assert fireworks.look("hr-2")["continuedFromJobName"] == done["name"]


def test_deleting_a_job_stops_it(build: Build) -> None:
    driver = build(pace=SLOW)
    fireworks = Fireworks(driver)
    fireworks.job("hr-1", rows(10))
    driver.clock.advance(24)
    assert driver.json("DELETE", f"{JOBS}/hr-1") == {}
    assert fireworks.look("hr-1")["state"] == "JOB_STATE_DELETING_CLEANING_UP"
    driver.clock.advance(10)
    assert driver.send("GET", f"{JOBS}/hr-1").status == 404
    assert len(fireworks.results("hr-1")[0]) == driver.meter()["rows_billed"] == 4
    assert driver.meter()["batches_cancelled"] == 1


def test_listing(driver: Driver) -> None:
    fireworks = Fireworks(driver)
    for n in range(3):
        fireworks.job(f"hr-{n}", rows(1), displayName=f"name {n}")
        driver.clock.advance(1)

    def listed(**query: str) -> list[str]:
        text = "&".join(f"{key}={value}" for key, value in query.items())
        found = driver.json("GET", JOBS, query=text)
        return [one["name"].rpartition("/")[2] for one in found["batchInferenceJobs"]]

    assert listed() == ["hr-2", "hr-1", "hr-0"]
    assert listed(orderBy="create_time") == ["hr-0", "hr-1", "hr-2"]
    assert listed(filter='displayName%3D"name 1"') == ["hr-1"]
    assert listed(filter='state="JOB_STATE_COMPLETED" AND display_name:"2"') == ["hr-2"]
    assert listed(filter="state!=COMPLETED") == []
    page = driver.json("GET", JOBS, query="pageSize=2")
    assert (len(page["batchInferenceJobs"]), page["totalSize"]) == (2, 3)
    assert listed(pageSize="2", pageToken=page["nextPageToken"]) == ["hr-0"]
    for query in ("pageSize=201", "filter=nonsense", 'filter=colour="red"'):
        assert driver.send("GET", JOBS, query=query).status == 400
    assert driver.json("GET", f"{ROOT}/datasets", query="pageSize=1")["totalSize"] == 6
    other = {"authorization": "Bearer key-2"}
    assert driver.json("GET", JOBS, headers=other)["totalSize"] == 0
    bad = driver.send("GET", JOBS, headers={"authorization": "Bearer bad-key"})
    assert (bad.status, bad.json()["error"]["code"]) == (403, "UNAUTHORIZED")


FAULTS: dict[str, Callable[[Any, list[Any], list[Any]], bool]] = {
    "row-error:rate=1,status=429": lambda job, output, errors: (
        {one["error"]["code"] for one in errors} == {429}
    ),
    "row-missing:match=order 1": lambda job, output, errors: (len(output), len(errors)) == (3, 0),
    "row-duplicate:match=order 1": lambda job, output, errors: len(output) == 5,
    "row-unknown:match=order 1": lambda job, output, errors: len(output) == 5,
    "row-no-id:match=order 1": lambda job, output, errors: sum("custom_id" not in one for one in output) == 1,
    "row-both-files:match=order 1": lambda job, output, errors: (len(output), len(errors)) == (4, 1),
    "row-null-error:match=order 1": lambda job, output, errors: errors[0]["error"] is None,
    "row-status-zero:match=order 1": lambda job, output, errors: errors[0]["error"] == {},
    "row-refusal:rate=1": lambda job, output, errors: all(
        "sorry" in one["response"]["choices"][0]["message"]["content"] for one in output
    ),
    "batch-fail": lambda job, output, errors: job["state"] == "JOB_STATE_FAILED",
    "counts-wrong": lambda job, output, errors: job["jobProgress"]["failedRequests"] == 5,
    "all-rows-fail": lambda job, output, errors: len(errors) == 4,
    "status-unknown": lambda job, output, errors: job["state"] == "paused",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(build: Build, fault: str) -> None:
    driver = build(faults=[f"{fault}{',' if ':' in fault else ':'}provider=fireworks"])
    fireworks = Fireworks(driver)
    fireworks.job("hr-1", rows(4))
    done = fireworks.look("hr-1")
    output, errors = ([], []) if fault == "batch-fail" else fireworks.results("hr-1")
    assert FAULTS[fault](done, output, errors)


def test_faults_around_the_calls(build: Build) -> None:
    driver = build(limits=Limits(fireworks_upload_bytes=2_000))
    fireworks = Fireworks(driver)
    fireworks.upload("in", jsonl(rows(1)))
    number = iter(range(99))

    def create() -> Response:
        return fireworks.create(f"hr-{next(number)}", inputDatasetId="in")

    def with_fault(fault: str) -> None:
        driver.clock.advance(60)
        driver.emulator.clear_faults()
        driver.emulator.add_fault(f"{fault}{',' if ':' in fault else ':'}provider=fireworks")

    with_fault("create-error:status=502")
    assert create().status == 502
    with_fault("create-refused:status=503")
    refused = create()
    assert (refused.status, refused.json()["code"]) == (503, 14)
    with_fault("queue-full")
    assert create().status == 429
    with_fault("list-stale")
    create()
    assert driver.json("GET", JOBS)["totalSize"] == 1
    with_fault("not-found-after-create")
    name = create().json()["name"]
    assert driver.send("GET", f"/fireworks/v1/{name}").status == 404
    with_fault("poll-error")
    assert driver.send("GET", f"/fireworks/v1/{name}").status == 500
    with_fault("file-not-ready")
    fireworks.upload("late", jsonl(rows(1)))
    assert driver.json("GET", f"{ROOT}/datasets/late")["state"] == "UPLOADING"
    driver.clock.advance(5)
    assert driver.json("GET", f"{ROOT}/datasets/late")["state"] == "READY"
    with_fault("download-truncated")
    (signed,) = fireworks.urls("late").values()
    assert fireworks.fetch(signed).delivery.truncate_after
    with_fault("upload-reset")
    sent, headers = form(b"x")
    path = f"{ROOT}/datasets/late:upload"
    assert driver.send("POST", path, sent, headers=headers).delivery.drop
    sent, headers = form(b"x" * 2_001)
    assert driver.send("POST", path, sent, headers=headers).status == 413
    with_fault("completed-no-output")
    made = create().json()
    assert fireworks.look(made["name"].rpartition("/")[2])["state"] == "JOB_STATE_COMPLETED"
    assert driver.send("GET", f"/fireworks/v1/{made['outputDatasetId']}").status == 404


def test_realtime(driver: Driver) -> None:
    answer = driver.json("POST", CHAT, body("hi", model=MODEL))
    assert (answer["model"], answer["choices"][0]["finish_reason"]) == (MODEL, "stop")
    assert driver.meter()["rows_by_tier"] == {"standard": 1}
    wrong = driver.send("POST", CHAT, body("hi", model="gpt-4.1"))
    assert (wrong.status, wrong.json()["error"]["type"]) == (404, "not_found")
    driver.emulator.add_fault("realtime-error:provider=fireworks")
    assert driver.send("POST", CHAT, body("hi", model=MODEL)).status == 500
    listed = driver.json("GET", "/fireworks/inference/v1/models")["data"]
    assert MODEL in {one["id"] for one in listed}
    assert driver.send("GET", "/fireworks/v1/nowhere").status == 404
    found = driver.emulator.environment("http://127.0.0.1:1")["fireworks"]
    assert found == {
        "FIREWORKS_BASE_URL": "http://127.0.0.1:1/fireworks",
        "FIREWORKS_API_KEY": "emulator",
        "FIREWORKS_ACCOUNT_ID": "emulator",
    }
