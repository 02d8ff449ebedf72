"""Bedrock's model invocation jobs in virtual time."""

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from halfrate.emulator import Limits, Pace

from .bedrock_driver import (
    CLAUDE,
    JOBS,
    LLAMA,
    MISTRAL,
    NOVA,
    SIGNED,
    TITAN,
    Bedrock,
    claude,
    converse,
    record,
    records,
)
from .driver import Driver, jsonl

Build = Callable[..., Driver]
SLOW = Pace(validate=10, queue=10, per_1000_rows=1_000, finalize=10, cancel=10)
FEW = Limits(bedrock_least_rows=1)


def test_a_job_from_first_to_last(build: Build) -> None:
    driver = build(pace=SLOW)
    bedrock = Bedrock(driver)
    arn = bedrock.job(records(100))
    assert re.fullmatch(r"arn:aws:bedrock:eu-west-1:\d{12}:model-invocation-job/[a-z0-9]{12}", arn)
    seen: list[str] = []
    for _ in range(140):
        seen.append(bedrock.look(arn)["status"])
        driver.clock.advance(1)
    assert list(dict.fromkeys(seen)) == ["Submitted", "Validating", "Scheduled", "InProgress", "Completed"]
    done = bedrock.look(arn)
    counts = [done[f"{kind}RecordCount"] for kind in ("total", "processed", "success", "error")]
    assert counts == [100, 100, 100, 0]
    assert (done["jobName"], done["modelId"]) == ("hr-1", CLAUDE)
    assert done["submitTime"] < done["endTime"] < done["jobExpirationTime"]
    output = bedrock.results(arn)
    assert {line["recordId"] for line in output} == {f"r-{n}" for n in range(100)}
    assert output[0]["modelInput"]["messages"][0]["content"][0]["text"].startswith("Where is order")
    usage = [line["modelOutput"]["usage"] for line in output]
    prompt, written = (sum(one[key] for one in usage) for key in ("input_tokens", "output_tokens"))
    manifest = msgspec.json.decode(bedrock.get(f"out/{arn[-12:]}/manifest.json.out"))
    assert manifest == {
        "totalRecordCount": 100,
        "processedRecordCount": 100,
        "successRecordCount": 100,
        "errorRecordCount": 0,
        "inputTokenCount": prompt,
        "outputTokenCount": written,
    }
    meter = driver.meter()
    assert meter["picodollars_by_provider"] == {"bedrock": prompt * 500_000 + written * 2_500_000}
    assert (meter["rows_billed"], meter["batches_created_by_provider"]) == (100, {"bedrock": 1})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (jsonl(records(99)), "99 records"),
        (jsonl(records(201)), "201 records"),
        (jsonl(records(100)) + b"nonsense\n", "line 101: the record is malformed"),
        (jsonl(records(100)) + b'{"recordId": "x"}\n', "malformed"),
        (b"x" * 90_000, "larger than 80000"),
    ],
)
def test_a_job_fails_in_validation(build: Build, content: bytes, words: str) -> None:
    driver = build(limits=Limits(bedrock_rows=200, bedrock_file_bytes=80_000))
    bedrock = Bedrock(driver)
    bedrock.put("in/a.jsonl", content)
    arn = bedrock.create("hr-1").json()["jobArn"]
    done = bedrock.look(arn)
    assert done["status"] == "Failed"
    assert words in done["message"]
    assert "totalRecordCount" not in done
    assert driver.send("GET", f"/s3/data/out/{arn[-12:]}/manifest.json.out").status == 404


def test_missing_input_fails_the_job(driver: Driver) -> None:
    bedrock = Bedrock(driver)
    for name, uri in (("a", "s3://data/none.jsonl"), ("b", "s3://nobody")):
        config = {"s3InputDataConfig": {"s3Uri": uri}}
        done = bedrock.look(bedrock.create(name, inputDataConfig=config).json()["jobArn"])
        assert (done["status"], "cannot be read" in done["message"]) == ("Failed", True)


def test_a_prefix_is_several_files(driver: Driver) -> None:
    bedrock = Bedrock(driver)
    bedrock.put("in/a.jsonl", jsonl(records(60)))
    bedrock.put("in/b.jsonl", jsonl(records(60, 60)).rstrip(b"\n"))
    bedrock.put("in/notes.txt", b"not a record")
    config = {"s3InputDataConfig": {"s3Uri": "s3://data/in/"}}
    arn = bedrock.create("hr-1", inputDataConfig=config).json()["jobArn"]
    assert bedrock.look(arn)["successRecordCount"] == 120
    assert {line["recordId"] for line in bedrock.results(arn)} == {f"r-{n}" for n in range(60)}
    second = {line["recordId"] for line in bedrock.results(arn, "b.jsonl")}
    assert second == {f"r-{n}" for n in range(60, 120)}


def test_a_token_makes_creation_idempotent(build: Build) -> None:
    driver = build(limits=FEW, faults=["create-lost:provider=bedrock"])
    bedrock = Bedrock(driver)
    bedrock.put("in/a.jsonl", jsonl(records(1)))
    assert bedrock.create("hr-1", clientRequestToken="t-1").delivery.drop
    again = bedrock.create("hr-1", clientRequestToken="t-1")
    assert again.status == 200
    assert driver.meter()["batches_created"] == 1
    for other in (
        bedrock.create("hr-2", clientRequestToken="t-1"),
        bedrock.create("hr-1", clientRequestToken="t-2"),
        bedrock.create("hr-1"),
    ):
        assert (other.status, other.headers["x-amzn-errortype"]) == (400, "ConflictException")
    assert bedrock.look(again.json()["jobArn"])["clientRequestToken"] == "t-1"
    assert driver.meter()["rows_billed"] == 1


@pytest.mark.parametrize(
    "more",
    [
        {"jobName": "with space"},
        {"jobName": "x" * 64},
        {"roleArn": "me"},
        {"modelId": "anthropic.none"},
        {"modelId": None},
        {"timeoutDurationInHours": 23},
        {"timeoutDurationInHours": 169},
        {"clientRequestToken": "no_underscore"},
        {"modelInvocationType": "Chat"},
        {"inputDataConfig": {}},
        {"outputDataConfig": {"s3OutputDataConfig": {"s3Uri": "https://data"}}},
    ],
)
def test_what_is_refused(driver: Driver, more: dict[str, Any]) -> None:
    refused = Bedrock(driver).create("hr-1", **more)
    assert (refused.status, refused.headers["x-amzn-errortype"]) == (400, "ValidationException")
    assert refused.json()["message"]


FAMILIES: list[tuple[str, str, dict[str, Any], Callable[[Any], tuple[Any, Any]]]] = [
    (
        CLAUDE,
        "InvokeModel",
        claude("hi"),
        lambda out: (out["content"][0]["text"], out["usage"]["output_tokens"]),
    ),
    (
        f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/{CLAUDE.replace('global', 'us')}",
        "Converse",
        converse("hi", system=[{"text": "Be brief."}]),
        lambda out: (out["output"]["message"]["content"][0]["text"], out["usage"]["outputTokens"]),
    ),
    (
        NOVA,
        "InvokeModel",
        converse("hi", inferenceConfig={"maxTokens": 50}),
        lambda out: (out["output"]["message"]["content"][0]["text"], out["usage"]["outputTokens"]),
    ),
    (
        LLAMA,
        "InvokeModel",
        {"prompt": "hi", "max_gen_len": 90},
        lambda out: (out["generation"], out["generation_token_count"]),
    ),
    (
        MISTRAL,
        "InvokeModel",
        {"prompt": "<s>[INST] hi [/INST]", "max_tokens": 90},
        lambda out: (out["outputs"][0]["text"], out["outputs"][0]["stop_reason"] == "stop"),
    ),
    (
        TITAN,
        "InvokeModel",
        {"inputText": "hi", "dimensions": 256},
        lambda out: (len(out["embedding"]) == 256, out["inputTextTokenCount"]),
    ),
]


@pytest.mark.parametrize(("model", "kind", "body", "read"), FAMILIES)
def test_families(
    build: Build, model: str, kind: str, body: dict[str, Any], read: Callable[[Any], tuple[Any, Any]]
) -> None:
    driver = build(limits=FEW)
    bedrock = Bedrock(driver)
    bad = record("bad", {"messages": "none", "prompt": 5})
    arn = bedrock.job([record("a", body), bad], modelId=model, modelInvocationType=kind)
    lines = {line["recordId"]: line for line in bedrock.results(arn)}
    assert all(read(lines["a"]["modelOutput"]))
    assert lines["bad"]["error"]["errorCode"] == 400
    done = bedrock.look(arn)
    assert (done["status"], done["errorRecordCount"]) == ("Completed", 1)
    verb = "converse" if kind == "Converse" else "invoke"
    answered = driver.json("POST", f"/bedrock/model/{model}/{verb}", body, headers=SIGNED)
    assert read(answered) == read(lines["a"]["modelOutput"])
    assert driver.meter()["rows_by_tier"] == {"batch": 1, "standard": 1}
    assert driver.meter()["fingerprints_billed_again"] == 1


def test_tools_are_for_realtime_alone(build: Build) -> None:
    driver = build(limits=FEW)
    bedrock = Bedrock(driver)
    body = claude("hi", tools=[{"name": "t", "input_schema": {"type": "object"}}])
    (line,) = bedrock.results(bedrock.job([record("a", body)]))
    assert "not supported in batch" in line["error"]["errorMessage"]
    assert driver.send("POST", f"/bedrock/model/{CLAUDE}/invoke", body, headers=SIGNED).status == 200


def test_records_without_an_id_get_one(build: Build) -> None:
    bedrock = Bedrock(build(limits=FEW))
    (line,) = bedrock.results(bedrock.job([{"modelInput": claude("hi")}]))
    assert re.fullmatch(r"[A-Z0-9]{11}", line["recordId"])


def test_timeouts(build: Build) -> None:
    driver = build(limits=FEW, pace=Pace(validate=0, queue=0, per_1000_rows=36_000_000, finalize=0))
    bedrock = Bedrock(driver)
    arn = bedrock.job(records(10), timeoutDurationInHours=48)
    driver.clock.advance(48 * 3_600)
    assert bedrock.look(arn)["status"] == "PartiallyCompleted"
    assert len(bedrock.results(arn)) == driver.meter()["rows_billed"] == 4
    driver.emulator.add_fault("batch-stuck:provider=bedrock,seconds=99999")
    late = bedrock.job(records(10), name="hr-2")
    driver.clock.advance(24 * 3_600 - 1)
    assert bedrock.look(late)["status"] == "Scheduled"
    driver.clock.advance(1)
    assert bedrock.look(late)["status"] == "Expired"


def test_stopping(build: Build) -> None:
    driver = build(pace=SLOW, limits=FEW)
    bedrock = Bedrock(driver)
    arn = bedrock.job(records(10))
    driver.clock.advance(24)
    stop = f"/bedrock/model-invocation-job/{arn}/stop"
    assert driver.json("POST", stop, headers=SIGNED) == {}
    assert bedrock.look(arn[-12:])["status"] == "Stopping"
    driver.clock.advance(10)
    assert bedrock.look(arn)["status"] == "Stopped"
    assert len(bedrock.results(arn)) == driver.meter()["rows_billed"] == 4
    refused = driver.send("POST", stop, headers=SIGNED)
    assert refused.headers["x-amzn-errortype"] == "ConflictException"


def test_listing(build: Build) -> None:
    driver = build(limits=FEW)
    bedrock = Bedrock(driver)
    arns = []
    for n in range(3):
        arns.append(bedrock.job(records(1), name=f"hr-{n}-a1"))
        driver.clock.advance(10)

    def listed(query: str = "") -> list[int]:
        found = driver.json("GET", JOBS, headers=SIGNED, query=query)["invocationJobSummaries"]
        return [arns.index(one["jobArn"]) for one in found]

    middle = bedrock.look(arns[1])["submitTime"]
    assert listed() == [2, 1, 0]
    assert listed("sortBy=CreationTime&sortOrder=Ascending") == [0, 1, 2]
    assert listed("nameContains=hr-1-") == [1]
    assert listed(f"submitTimeAfter={middle}") == [2]
    assert listed(f"submitTimeBefore={middle}") == [0]
    assert listed("statusEquals=Completed") == [2, 1, 0]
    assert listed("statusEquals=Failed") == []
    page = driver.json("GET", JOBS, headers=SIGNED, query="maxResults=2")
    assert listed(f"maxResults=2&nextToken={page['nextToken']}") == [0]
    assert driver.send("GET", JOBS, headers=SIGNED, query="maxResults=0").status == 400
    assert driver.send("GET", JOBS, headers=SIGNED, query="submitTimeAfter=soon").status == 400


def test_quotas_keys_and_accounts(build: Build) -> None:
    driver = build(pace=SLOW, limits=Limits(bedrock_jobs=1, bedrock_least_rows=1))
    bedrock = Bedrock(driver)
    arn = bedrock.job(records(1))
    refused = bedrock.create("hr-2")
    assert (refused.status, refused.headers["x-amzn-errortype"]) == (400, "ServiceQuotaExceededException")
    path = f"/bedrock/model-invocation-job/{arn}"
    assert driver.send("GET", path, headers={}).status == 403
    assert driver.send("GET", path, headers={"authorization": "Bearer bad-key"}).status == 403
    other = driver.send("GET", path, headers={"authorization": "Bearer key-2"})
    assert (other.status, other.headers["x-amzn-errortype"]) == (404, "ResourceNotFoundException")
    assert driver.send("GET", "/bedrock/nowhere", headers=SIGNED).status == 404
    found = driver.emulator.environment("http://127.0.0.1:1")["bedrock"]
    assert found["AWS_ENDPOINT_URL_BEDROCK"] == "http://127.0.0.1:1/bedrock"
    assert found["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:1/s3"


FAULTS: dict[str, Callable[[Any, list[Any]], bool]] = {
    "row-error:rate=1,status=429": lambda job, found: {one["error"]["errorCode"] for one in found} == {429},
    "row-missing:match=order 1": lambda job, found: (len(found), job["errorRecordCount"]) == (3, 1),
    "row-duplicate:match=order 1": lambda job, found: len(found) == 5,
    "row-unknown:match=order 1": lambda job, found: any("stranger" in one["recordId"] for one in found),
    "row-no-id:match=order 1": lambda job, found: sum("recordId" not in one for one in found) == 1,
    "row-null-error:match=order 1": lambda job, found: any(one.get("error", 1) is None for one in found),
    "row-status-zero:match=order 1": lambda job, found: any(one.get("error") == {} for one in found),
    "row-refusal:rate=1": lambda job, found: (
        {one["modelOutput"]["stop_reason"] for one in found} == {"refusal"}
    ),
    "row-truncated:rate=1": lambda job, found: (
        {one["modelOutput"]["stop_reason"] for one in found} == {"max_tokens"}
    ),
    "batch-fail": lambda job, found: job["status"] == "Failed",
    "batch-expire:done=0.5": lambda job, found: (job["status"], len(found)) == ("PartiallyCompleted", 2),
    "batch-expire-no-files": lambda job, found: job["processedRecordCount"] == 2,
    "completed-no-output": lambda job, found: job["status"] == "Completed",
    "counts-wrong": lambda job, found: job["successRecordCount"] == 0,
    "all-rows-fail": lambda job, found: job["errorRecordCount"] == 4,
    "status-unknown": lambda job, found: job["status"] == "paused",
}
WITHOUT_FILES = {"batch-fail", "batch-expire-no-files", "completed-no-output"}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(build: Build, fault: str) -> None:
    driver = build(faults=[f"{fault}{',' if ':' in fault else ':'}provider=bedrock"], limits=FEW)
    bedrock = Bedrock(driver)
    arn = bedrock.job(records(4))
    done = bedrock.look(arn)
    if fault in WITHOUT_FILES:
        assert driver.send("GET", f"/s3/data/out/{arn[-12:]}/a.jsonl.out").status == 404
    assert FAULTS[fault](done, [] if fault in WITHOUT_FILES else bedrock.results(arn))


def test_faults_around_the_calls(build: Build) -> None:
    driver = build(limits=FEW)
    bedrock = Bedrock(driver)
    bedrock.put("in/a.jsonl", jsonl(records(1)))

    def with_fault(fault: str) -> None:
        driver.clock.advance(60)
        driver.emulator.clear_faults()
        driver.emulator.add_fault(f"{fault}{',' if ':' in fault else ':'}provider=bedrock")

    with_fault("create-error:status=500")
    assert bedrock.create("hr-1").headers["x-amzn-errortype"] == "InternalServerException"
    with_fault("create-refused:status=429")
    assert bedrock.create("hr-2").headers["x-amzn-errortype"] == "ThrottlingException"
    with_fault("queue-full")
    assert bedrock.create("hr-3").headers["x-amzn-errortype"] == "ServiceQuotaExceededException"
    with_fault("list-stale")
    arn = bedrock.create("hr-4").json()["jobArn"]
    assert len(driver.json("GET", JOBS, headers=SIGNED)["invocationJobSummaries"]) == 1
    with_fault("poll-error:status=503")
    assert driver.send("GET", f"/bedrock/model-invocation-job/{arn}", headers=SIGNED).status == 503
    with_fault("realtime-error")
    assert driver.send("POST", f"/bedrock/model/{NOVA}/invoke", converse("hi"), SIGNED).status == 500
    driver.emulator.add_fault("download-truncated:provider=s3")
    assert driver.send("GET", "/s3/data/in/a.jsonl").delivery.truncate_after
    with_fault("last-line-cut")
    cut = bedrock.create("hr-5").json()["jobArn"]
    assert bedrock.look(cut)["status"] == "Completed"
    assert not bedrock.get(f"out/{cut[-12:]}/a.jsonl.out").endswith(b"\n")
    with_fault("row-malformed")
    broken = bedrock.create("hr-6").json()["jobArn"]
    with pytest.raises(msgspec.DecodeError):
        bedrock.results(broken)
