"""Mistral's batch jobs in virtual time."""

from collections.abc import Callable
from typing import Any

import pytest

from halfrate.emulator import Limits, Pace

from .driver import Driver, jsonl
from .mistral_driver import CHAT, JOBS, MODEL, MistralDriver, body, rows

Build = Callable[..., Driver]
SLOW = Pace(validate=10, queue=10, per_1000_rows=1_000, finalize=10, cancel=10)


def test_a_job_from_first_to_last(build: Build) -> None:
    driver = build(pace=SLOW)
    mistral = MistralDriver(driver)
    made = mistral.job(rows(10), metadata={"tag": "hr-1"})
    assert (made["status"], made["total_requests"], made["started_at"]) == ("QUEUED", 10, None)
    seen, done = [made["status"]], made
    for _ in range(60):
        driver.clock.advance(1)
        done = mistral.look(made)
        seen.append(done["status"])
        if done["status"] == "RUNNING" and 0 < done["completed_requests"] < 10:
            assert done["output_file"] is None
    assert list(dict.fromkeys(seen)) == ["QUEUED", "RUNNING", "SUCCESS"]
    assert (done["succeeded_requests"], done["failed_requests"], done["errors"]) == (10, 0, [])
    assert done["metadata"] == {"tag": "hr-1"}
    assert isinstance(done["created_at"], int)
    assert (done["started_at"] - done["created_at"], done["completed_at"] - done["created_at"]) == (20, 40)
    output, errors = mistral.results(done)
    assert {line["custom_id"] for line in output} == {f"r-{n}" for n in range(10)}
    assert errors == []
    answer = output[0]["response"]
    assert (answer["status_code"], answer["body"]["model"]) == (200, MODEL)
    assert output[0]["error"] is None
    meter = driver.meter()
    assert (meter["rows_billed"], meter["batches_created_by_provider"]) == (10, {"mistral": 1})
    used = [line["response"]["body"]["usage"] for line in output]
    prompt, written = (sum(one[key] for one in used) for key in ("prompt_tokens", "completion_tokens"))
    assert meter["picodollars_by_provider"] == {"mistral": prompt * 75_000 + written * 300_000}


def test_requests_inline_and_outputs_inline(driver: Driver) -> None:
    mistral = MistralDriver(driver)
    bad = {"custom_id": None, "body": {"messages": "none"}}
    response = mistral.create(requests=[*rows(2), bad])
    done = mistral.look(response.json(), "inline=true")
    assert (done["status"], done["succeeded_requests"], done["failed_requests"]) == ("SUCCESS", 2, 1)
    assert [line["custom_id"] for line in done["outputs"]][-1] is None
    assert {line["response"]["status_code"] for line in done["outputs"]} == {200, 400}
    assert done["errors"][0]["count"] == 1
    assert mistral.look(response.json())["outputs"] is None


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"endpoint": "/v1/ocr"}, 422),
        ({"model": "mistral-unknown"}, 400),
        ({"timeout_hours": 169}, 422),
        ({"metadata": {"a": 1}}, 422),
        ({"input_files": ["nobody"]}, 404),
        ({"input_files": []}, 422),
        ({"requests": []}, 422),
        ({}, 422),
        ({"input_files": ["x"], "requests": [{}]}, 422),
    ],
)
def test_what_is_refused(driver: Driver, more: dict[str, Any], status: int) -> None:
    mistral = MistralDriver(driver)
    given = more if "input_files" in more or not more else {"requests": rows(1), **more}
    response = mistral.create(**given)
    assert response.status == status
    assert ("detail" in response.json()) == (status == 422)


def test_inline_requests_and_pending_rows_have_limits(build: Build) -> None:
    driver = build(limits=Limits(mistral_inline_rows=2, mistral_pending_rows=3), pace=SLOW)
    mistral = MistralDriver(driver)
    assert mistral.create(requests=rows(3)).status == 422
    assert mistral.create(requests=rows(2)).status == 200
    refused = mistral.create(requests=rows(2))
    assert (refused.status, refused.json()["type"]) == (429, "rate_limited")
    driver.clock.advance(1_000)
    assert mistral.create(requests=rows(2)).status == 200


@pytest.mark.parametrize("line", [b"nonsense\n", b'{"custom_id": "a"}\n', b'{"custom_id": 5, "body": {}}\n'])
def test_a_bad_line_fails_the_job(driver: Driver, line: bytes) -> None:
    mistral = MistralDriver(driver)
    uploaded = mistral.upload(jsonl(rows(1)) + b"\n" + line)
    done = mistral.look(mistral.create(input_files=[uploaded["id"]]).json())
    assert (done["status"], done["succeeded_requests"], done["output_file"]) == ("FAILED", 0, None)
    assert done["errors"][0]["message"].startswith("Line 3")
    assert driver.meter()["rows_received"] == 0


def test_several_files_make_one_job(driver: Driver) -> None:
    mistral = MistralDriver(driver)
    files = [mistral.upload(jsonl(part).rstrip(b"\n"))["id"] for part in (rows(2), rows(4)[2:])]
    done = mistral.look(mistral.create(input_files=files).json())
    assert (done["total_requests"], done["input_files"]) == (4, files)
    assert {line["custom_id"] for line in mistral.results(done)[0]} == {"r-0", "r-1", "r-2", "r-3"}


def test_a_timeout_keeps_what_is_done(build: Build) -> None:
    driver = build(pace=Pace(validate=0, queue=0, per_1000_rows=3_600_000, finalize=0))
    mistral = MistralDriver(driver)
    made = mistral.job(rows(10), timeout_hours=4)
    driver.clock.advance(4 * 3_600 - 1)
    assert mistral.look(made)["status"] == "RUNNING"
    driver.clock.advance(1)
    done = mistral.look(made)
    assert (done["status"], done["succeeded_requests"]) == ("TIMEOUT_EXCEEDED", 4)
    assert len(mistral.results(done)[0]) == driver.meter()["rows_billed"] == 4


def test_cancelling_and_deleting(build: Build) -> None:
    driver = build(pace=SLOW)
    mistral = MistralDriver(driver)
    made = mistral.job(rows(10))
    assert driver.send("DELETE", f"{JOBS}/{made['id']}").status == 409
    driver.clock.advance(24)
    assert driver.json("POST", f"{JOBS}/{made['id']}/cancel")["status"] == "CANCELLATION_REQUESTED"
    driver.clock.advance(10)
    done = mistral.look(made)
    assert (done["status"], done["succeeded_requests"], len(mistral.results(done)[0])) == ("CANCELLED", 4, 4)
    assert driver.send("POST", f"{JOBS}/{made['id']}/cancel").status == 409
    assert driver.json("DELETE", f"{JOBS}/{made['id']}")["deleted"]
    assert driver.send("GET", f"{JOBS}/{made['id']}").status == 404


def test_the_filters_of_a_listing(driver: Driver) -> None:
    mistral = MistralDriver(driver)
    first = mistral.job(rows(1), metadata={"tag": "a", "page_of": "b"})
    driver.clock.advance(100)
    second = mistral.job(rows(1), model="mistral-medium-latest", metadata={"tag": "c"})

    def listed(query: str) -> list[str]:
        found = driver.json("GET", JOBS, query=query)
        assert found["object"] == "list"
        return [one["id"] for one in found["data"]]

    assert listed("") == [second["id"], first["id"]]
    assert listed("order_by=created") == [first["id"], second["id"]]
    assert listed("page=1&page_size=1") == [first["id"]]
    assert listed("tag=a&page_of=b") == listed("metadata[tag]=a") == [first["id"]]
    assert listed("metadata=%7B%22tag%22%3A%22c%22%7D") == listed("model=mistral-medium-latest")
    assert listed("tag=z") == []
    assert listed("status=SUCCESS&status=FAILED") == [second["id"], first["id"]]
    assert listed("status=RUNNING") == []
    assert len(listed("created_after=1970-01-01T00:00:00Z")) == 2
    assert listed("created_after=2200-01-01T00:00:00Z") == []
    assert driver.send("GET", JOBS, query="created_after=soon").status == 422


FAULTS: dict[str, Callable[[Any, list[Any], list[Any]], bool]] = {
    "row-error:rate=1": lambda job, output, errors: (len(output), len(errors)) == (0, 4),
    "row-malformed:match=order 1": lambda job, output, errors: False,
    "row-missing:match=order 1": lambda job, output, errors: (len(output), job["failed_requests"]) == (3, 1),
    "row-duplicate:match=order 1": lambda job, output, errors: len(output) == 5,
    "row-unknown:match=order 1": lambda job, output, errors: any(
        one["custom_id"].startswith("stranger-") for one in output
    ),
    "row-no-id:match=order 1": lambda job, output, errors: sum("custom_id" not in one for one in output) == 1,
    "row-both-files:match=order 1": lambda job, output, errors: (len(output), len(errors)) == (4, 1),
    "row-null-error:match=order 1": lambda job, output, errors: (
        errors[0]["response"]["body"]["message"] is None
    ),
    "row-status-zero:match=order 1": lambda job, output, errors: errors[0]["response"]["status_code"] == 0,
    "row-truncated:rate=1": lambda job, output, errors: (
        {one["response"]["body"]["choices"][0]["finish_reason"] for one in output} == {"length"}
    ),
    "row-refusal:rate=1": lambda job, output, errors: all(
        "sorry" in one["response"]["body"]["choices"][0]["message"]["content"] for one in output
    ),
    "row-unicode:rate=1": lambda job, output, errors: all(
        "\u2028" in one["response"]["body"]["choices"][0]["message"]["content"] for one in output
    ),
    "batch-fail": lambda job, output, errors: job["status"] == "FAILED",
    "batch-expire:done=0.5": lambda job, output, errors: (
        (job["status"], len(output)) == ("TIMEOUT_EXCEEDED", 2)
    ),
    "batch-expire-no-files": lambda job, output, errors: job["output_file"] is None,
    "completed-no-output": lambda job, output, errors: (
        (job["status"], job["output_file"]) == ("SUCCESS", None)
    ),
    "counts-wrong": lambda job, output, errors: job["succeeded_requests"] == 0,
    "all-rows-fail:status=429": lambda job, output, errors: (
        {one["response"]["status_code"] for one in errors} == {429}
    ),
    "status-unknown": lambda job, output, errors: job["status"] == "paused",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(build: Build, fault: str) -> None:
    driver = build(faults=[f"{fault}{',' if ':' in fault else ':'}provider=mistral"])
    mistral = MistralDriver(driver)
    made = mistral.job(rows(4))
    done = mistral.look(made)
    if fault.startswith("row-malformed"):
        with pytest.raises(Exception, match=r"malformed|truncated"):
            mistral.results(done)
        return
    assert FAULTS[fault](done, *mistral.results(done))


def test_faults_around_the_calls(build: Build) -> None:
    driver = build()
    mistral = MistralDriver(driver)

    def with_fault(fault: str) -> None:
        driver.emulator.clear_faults()
        driver.emulator.add_fault(f"{fault}{',' if ':' in fault else ':'}provider=mistral")

    with_fault("create-lost")
    assert mistral.create(requests=rows(1)).delivery.drop
    assert len(driver.json("GET", JOBS)["data"]) == 1
    with_fault("create-error:status=502")
    assert mistral.create(requests=rows(1)).status == 502
    with_fault("create-refused:status=503")
    assert mistral.create(requests=rows(1)).status == 503
    assert driver.meter()["batches_created"] == 2
    with_fault("create-slow:seconds=9")
    assert mistral.create(requests=rows(1)).delivery.hold_seconds == 9
    with_fault("queue-full:retry_after=3")
    refused = mistral.create(requests=rows(1))
    assert (refused.status, refused.headers["retry-after"]) == (429, "3")
    with_fault("list-stale")
    mistral.create(requests=rows(1))
    assert len(driver.json("GET", JOBS)["data"]) == 3
    with_fault("not-found-after-create")
    made = mistral.create(requests=rows(1)).json()
    assert driver.send("GET", f"{JOBS}/{made['id']}").status == 404
    with_fault("file-not-ready")
    assert mistral.create(input_files=[mistral.upload(jsonl(rows(1)))["id"]]).status == 404
    with_fault("poll-error")
    driver.clock.advance(60)
    assert driver.send("GET", f"{JOBS}/{made['id']}").status == 500
    with_fault("rate-limit:on=list")
    assert driver.send("GET", JOBS).status == 429
    done = mistral.look(made)
    with_fault("download-truncated")
    path = f"/mistral/v1/files/{done['output_file']}/content"
    assert driver.send("GET", path).delivery.truncate_after
    with_fault("cancel-race")
    slow = build(pace=SLOW, faults=["cancel-race:provider=mistral"])
    racing = MistralDriver(slow).job(rows(3))
    slow.json("POST", f"{JOBS}/{racing['id']}/cancel")
    slow.clock.advance(100)
    assert MistralDriver(slow).look(racing)["succeeded_requests"] == 3


def test_realtime_is_billed_at_the_standard_price(driver: Driver) -> None:
    answer = driver.json("POST", f"/mistral{CHAT}", body("hi", model=MODEL, tool_choice="auto"))
    usage = answer["usage"]
    meter = driver.meter()
    assert meter["rows_by_tier"] == {"standard": 1}
    assert meter["picodollars"] == usage["prompt_tokens"] * 150_000 + usage["completion_tokens"] * 600_000
    driver.emulator.add_fault("realtime-error:provider=mistral,status=503")
    assert driver.send("POST", f"/mistral{CHAT}", body("hi", model=MODEL)).status == 503
    driver.emulator.add_fault("realtime-lost:provider=mistral")
    assert driver.send("POST", f"/mistral{CHAT}", body("hi", model=MODEL)).delivery.drop
    streamed = driver.send("POST", f"/mistral{CHAT}", body("hi", model=MODEL, stream=True)).read()
    assert streamed.endswith(b"data: [DONE]\n\n")
    made = MistralDriver(driver).job([{"custom_id": "r", "body": body("hi")}])
    MistralDriver(driver).look(made)
    assert driver.meter()["fingerprints_billed_again"] == 1  # the same question, in realtime and in a batch


def test_errors_and_keys(driver: Driver) -> None:
    for key in ("", "Bearer bad-key"):
        assert driver.send("GET", JOBS, headers={"authorization": key}).status == 401
    error = driver.send("POST", f"/mistral{CHAT}", body("hi", model="gpt-4.1")).json()
    assert error == {
        "object": "error",
        "message": "Invalid model: gpt-4.1",
        "type": "invalid_model",
        "param": None,
        "code": "1500",
    }
    assert driver.send("GET", "/mistral/v1/nowhere").status == 404
    made = MistralDriver(driver).job(rows(1))
    other = {"authorization": "Bearer key-2"}
    assert driver.send("GET", f"{JOBS}/{made['id']}", headers=other).status == 404
    assert driver.json("GET", JOBS, headers=other)["total"] == 0


def test_signed_urls_open_without_a_key_for_a_while(driver: Driver) -> None:
    uploaded = MistralDriver(driver).upload(b"abc")
    url = driver.json("GET", f"/mistral/v1/files/{uploaded['id']}/url", query="expiry=1")["url"]
    path, _, query = url.removeprefix("http://localhost").partition("?")
    assert driver.send("GET", path, headers={}, query=query).read() == b"abc"
    assert driver.send("GET", "/mistral/v1/files", headers={}, query=query).status == 401
    driver.clock.advance(3_600)
    assert driver.send("GET", path, headers={}, query=query).status == 401


def test_the_environment(driver: Driver) -> None:
    found = driver.emulator.environment("http://127.0.0.1:1")["mistral"]
    assert found == {"MISTRAL_BASE_URL": "http://127.0.0.1:1/mistral", "MISTRAL_API_KEY": "emulator"}
