"""The Gemini Developer API in virtual time."""

import json
from typing import Any

import pytest

from halfrate.emulator import Limits, Pace, fingerprint

from .conftest import Build
from .driver import Driver, jsonl, lines_of
from .gemini import EMBEDDER, FLASH, KEY, Gemini, ask, keyed

HOUR = 3_600.0
SLOW = Pace(validate=10, queue=10, per_1000_rows=1_000, finalize=10, cancel=5)


@pytest.fixture
def gemini(driver: Driver) -> Gemini:
    return Gemini(driver)


def state(batch: Any) -> str:
    return batch["metadata"]["state"].removeprefix("BATCH_STATE_")


def test_a_batch_from_a_file(gemini: Gemini) -> None:
    rows = keyed(3)
    made = gemini.batch(rows, priority="7")
    assert state(made) == "PENDING"
    assert "done" not in made
    assert made["metadata"]["batchStats"] == {"requestCount": "3", "pendingRequestCount": "3"}
    ended = gemini.look(made)
    assert ended["done"] is True
    metadata = ended["metadata"]
    assert metadata["@type"].endswith(".GenerateContentBatch")
    assert (metadata["model"], metadata["displayName"]) == (f"models/{FLASH}", "job")
    assert (metadata["priority"], metadata["name"]) == ("7", ended["name"])
    assert metadata["batchStats"] == {"requestCount": "3", "successfulRequestCount": "3"}
    assert metadata["output"]["responsesFile"] == ended["response"]["responsesFile"]
    found = {line["key"]: line["response"] for line in gemini.results(made)}
    assert set(found) == {"r-0", "r-1", "r-2"}
    first = found["r-0"]
    assert first["candidates"][0]["finishReason"] == "STOP"
    assert "Where is order 0?" in first["candidates"][0]["content"]["parts"][0]["text"]
    usage = first["usageMetadata"]
    assert usage["totalTokenCount"] == usage["promptTokenCount"] + usage["candidatesTokenCount"]
    meter = gemini.meter()
    assert meter["billed_by_batch"][made["name"].removeprefix("batches/")] == dict.fromkeys(found, 1)
    assert meter["billed_by_fingerprint"] == {fingerprint(row["request"]): 1 for row in rows}
    assert meter["rows_by_tier"] == {"batch": 3}
    tokens = meter["tokens"]
    assert meter["picodollars_by_provider"] == {
        "gemini": tokens["input"] * 150_000 + tokens["output"] * 1_250_000
    }


def test_inline_batches_carry_their_results(gemini: Gemini) -> None:
    rows = [{"request": row["request"], "metadata": {"key": row["key"]}} for row in keyed(40)]
    response = gemini.create({"requests": {"requests": rows}})
    made = response.json()
    (listed,) = gemini.json("GET", "/v1beta/batches")["operations"]
    assert (state(listed), "output" in listed["metadata"]) == ("SUCCEEDED", False)
    ended = gemini.look(made)
    lines = ended["metadata"]["output"]["inlinedResponses"]["inlinedResponses"]
    keys = [line["metadata"]["key"] for line in lines]
    assert sorted(keys) == sorted(f"r-{n}" for n in range(40))
    assert keys != [f"r-{n}" for n in range(40)]
    assert ended["response"]["inlinedResponses"] == ended["metadata"]["output"]["inlinedResponses"]


def test_embedding_batches(gemini: Gemini) -> None:
    request = {"content": {"parts": [{"text": "hello"}]}, "output_dimensionality": 4}
    data = jsonl([{"key": "e-0", "request": request}])
    made = gemini.create({"file_name": gemini.upload(data)["name"]}, EMBEDDER).json()
    assert made["metadata"]["@type"].endswith(".EmbedContentBatch")
    (line,) = gemini.results(made)
    assert (line["key"], len(line["response"]["embedding"]["values"])) == ("e-0", 4)
    assert line["response"]["tokenCount"] == "2"
    inline = {"requests": {"requests": [{"request": request, "metadata": {"key": "e-1"}}]}}
    again = gemini.look(gemini.create(inline, EMBEDDER).json())
    output = again["response"]["inlinedEmbedContentResponses"]["inlinedResponses"]
    assert output[0]["response"]["embedding"] == line["response"]["embedding"]
    assert gemini.meter()["picodollars"] == 2 * 2 * 120_000


def test_every_state_in_its_time(build: Build) -> None:
    gemini = Gemini(build(pace=SLOW))
    made = gemini.batch(keyed(10))
    assert state(gemini.look(made)) == "PENDING"
    gemini.clock.advance(25)
    running = gemini.look(made)
    assert (state(running), "response" in running) == ("RUNNING", False)
    assert running["metadata"]["batchStats"]["successfulRequestCount"] == "5"
    gemini.clock.advance(10)
    assert state(gemini.look(made)) == "RUNNING"
    gemini.clock.advance(5)
    assert state(gemini.look(made)) == "SUCCEEDED"


def test_after_48_hours_everything_is_lost_and_nothing_is_billed(build: Build) -> None:
    gemini = Gemini(build(pace=Pace(per_1000_rows=1_000 * 24 * HOUR)))
    made = gemini.batch(keyed(3))
    gemini.clock.advance(47 * HOUR)
    assert state(gemini.look(made)) == "RUNNING"
    gemini.clock.advance(1.1 * HOUR)
    ended = gemini.look(made)
    assert (state(ended), ended["done"], ended["error"]["code"]) == ("EXPIRED", True, 4)
    assert "output" not in ended["metadata"]
    meter = gemini.meter()
    assert (meter["rows_billed"], meter["batches_expired"]) == (0, 1)


@pytest.mark.parametrize(
    ("fault", "billed"), [("batch-expire:done=0.5", 0), ("batch-expire-no-files:done=0.5", 2)]
)
def test_the_expiry_faults(build: Build, fault: str, billed: int) -> None:
    gemini = Gemini(build(faults=[fault]))
    made = gemini.batch(keyed(4))
    ended = gemini.look(made)
    assert (state(ended), "output" in ended["metadata"]) == ("EXPIRED", False)
    assert gemini.meter()["rows_billed"] == billed


def test_cancel_keeps_what_has_finished(build: Build) -> None:
    gemini = Gemini(build(pace=SLOW))
    made = gemini.batch(keyed(10))
    gemini.clock.advance(25)
    assert gemini.json("POST", f"/v1beta/{made['name']}:cancel") == {}
    assert state(gemini.look(made)) == "RUNNING"
    gemini.clock.advance(60)
    ended = gemini.look(made)
    assert (state(ended), ended["error"]["code"], ended["done"]) == ("CANCELLED", 1, True)
    assert len(lines_of(gemini.content(ended["metadata"]["output"]["responsesFile"]))) == 5
    assert gemini.meter()["rows_billed"] == 5
    assert gemini.json("POST", f"/v1beta/{made['name']}:cancel") == {}


def test_the_cancel_faults(build: Build) -> None:
    gemini = Gemini(build(pace=SLOW, faults=["cancel-race"]))
    made = gemini.batch(keyed(10))
    gemini.json("POST", f"/v1beta/{made['name']}:cancel")
    gemini.clock.advance(6)
    assert state(gemini.look(made)) == "SUCCEEDED"
    assert len(gemini.results(made)) == 10
    gemini.emulator.add_fault("cancel-ignored")
    other = gemini.batch(keyed(1))
    gemini.json("POST", f"/v1beta/{other['name']}:cancel")
    gemini.clock.advance(60)
    assert state(gemini.look(other)) == "SUCCEEDED"


def test_delete_while_running_removes_it(build: Build) -> None:
    gemini = Gemini(build(pace=SLOW))
    made = gemini.batch(keyed(2))
    assert gemini.json("DELETE", f"/v1beta/{made['name']}") == {}
    gemini.clock.advance(60)
    gone = gemini.send("GET", f"/v1beta/{made['name']}")
    assert (gone.status, gone.json()["error"]["status"]) == (404, "NOT_FOUND")
    assert gemini.meter()["rows_billed"] == 0


def test_listing_pages_newest_first(gemini: Gemini) -> None:
    names = [gemini.batch(keyed(1))["name"] for _ in range(5)][::-1]
    first = gemini.json("GET", "/v1beta/batches", query="pageSize=2")
    assert [one["name"] for one in first["operations"]] == names[:2]
    extra = gemini.batch(keyed(1))["name"]
    query = f"pageSize=2&pageToken={first['nextPageToken']}"
    second = gemini.json("GET", "/v1beta/batches", query=query)
    assert [one["name"] for one in second["operations"]] == names[2:4]
    third = gemini.json("GET", "/v1beta/batches", query=f"pageToken={second['nextPageToken']}")
    assert [one["name"] for one in third["operations"]] == names[4:]
    assert "nextPageToken" not in third
    assert gemini.json("GET", "/v1beta/batches")["operations"][0]["name"] == extra
    assert gemini.json("GET", "/v1beta/batches", headers={"x-goog-api-key": "key-2"}) == {}


def test_quotas_are_met_at_create(build: Build) -> None:
    gemini = Gemini(build(pace=SLOW, limits=Limits(gemini_concurrent_batches=2)))
    first = gemini.batch(keyed(1))
    gemini.batch(keyed(1))
    source = {"fileName": gemini.upload(jsonl(keyed(1)))["name"]}
    full = gemini.create(source)
    assert (full.status, full.json()["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
    gemini.json("DELETE", f"/v1beta/{first['name']}")
    assert gemini.create(source).status == 200
    tight = Gemini(build(pace=SLOW, limits=Limits(gemini_enqueued_tokens=30)))
    made = tight.batch(keyed(2))
    assert tight.create({"fileName": tight.upload(jsonl(keyed(1)))["name"]}).status == 429
    tight.clock.advance(60)
    assert state(tight.look(made)) == "SUCCEEDED"
    tight.batch(keyed(2))
    assert tight.meter()["batches_created_by_provider"] == {"gemini": 2}


def test_the_queue_fault(build: Build) -> None:
    gemini = Gemini(build(faults=["queue-full:retry_after=7"]))
    source = {"fileName": gemini.upload(jsonl(keyed(1)))["name"]}
    full = gemini.create(source)
    assert (full.status, full.headers["retry-after"]) == (429, "7")
    assert full.json()["error"]["details"][-1]["retryDelay"] == "7s"
    assert gemini.create(source).status == 200


def test_error_rows_carry_rpc_codes(build: Build) -> None:
    for status, code in ((400, 3), (404, 5), (429, 8), (500, 13), (503, 14), (504, 4)):
        gemini = Gemini(build(faults=[f"row-error:status={status},match=order 1"]))
        made = gemini.batch(keyed(3))
        lines = {line["key"]: line for line in gemini.results(made)}
        assert lines["r-1"]["error"]["code"] == code
        assert "response" in lines["r-0"]
        stats = gemini.look(made)["metadata"]["batchStats"]
        assert (stats["failedRequestCount"], stats["successfulRequestCount"]) == ("1", "2")
        assert gemini.meter()["rows_billed"] == 2


def test_bad_requests_become_error_rows(gemini: Gemini) -> None:
    rows = [
        {"key": "fine", "request": ask("hi")},
        {"key": "empty", "request": {}},
        {"key": "not an object", "request": 5},
        {"key": "none"},
        {"key": "unknown", "request": ask("hi", max_tokens=5)},
        {"key": "limit", "request": ask("hi", generationConfig={"maxOutputTokens": "x"})},
        {"key": "cache", "request": ask("hi", cachedContent="cachedContents/1")},
        {"key": "schema", "request": ask("hi", generationConfig={"responseSchema": {"type": "STRING"}})},
    ]
    found = {line["key"]: line for line in gemini.results(gemini.batch(rows))}
    codes = {key: line["error"]["code"] for key, line in found.items() if "error" in line}
    assert codes.pop("cache") == 7
    assert codes == dict.fromkeys(["empty", "not an object", "none", "unknown", "limit", "schema"], 3)
    assert "response" in found["fine"]


def test_row_faults(build: Build) -> None:
    def lines(fault: str, count: int = 3) -> tuple[Gemini, list[dict[str, Any]], bytes]:
        gemini = Gemini(build(faults=[fault]))
        made = gemini.batch(keyed(count))
        data = gemini.content(gemini.look(made)["response"]["responsesFile"])
        parsed: list[dict[str, Any]] = []
        for line in data.split(b"\n"):
            try:
                parsed.append(json.loads(line))
            except ValueError:
                continue
        return gemini, parsed, data

    gemini, found, data = lines("row-malformed:match=order 1")
    assert (len(found), data.count(b"\n"), gemini.meter()["rows_billed"]) == (2, 3, 3)
    gemini, found, _ = lines("row-missing:match=order 1")
    assert (len(found), gemini.meter()["rows_billed"]) == (2, 2)
    gemini, found, _ = lines("row-duplicate:match=order 1")
    assert (len(found), gemini.meter()["rows_billed"]) == (4, 3)
    _, found, _ = lines("row-unknown:match=order 1")
    assert sum(line["key"].startswith("stranger-") for line in found) == 1
    _, found, _ = lines("row-no-id:match=order 1")
    assert sum("key" not in line for line in found) == 1
    _, found, _ = lines("row-status-zero:match=order 1")
    assert [line["error"] for line in found if "error" in line] == [{}]
    _, found, _ = lines("row-null-error:match=order 1")
    assert [line["error"] for line in found if "error" in line] == [None]
    _, _, data = lines("row-unicode:match=order 1")
    assert "\u2028" in data.decode()
    _, _, data = lines("row-big:size=100000,match=order 1")
    assert len(data) > 100_000
    _, _, data = lines("last-line-cut")
    assert not data.endswith(b"\n")
    _, found, _ = lines("no-shuffle", 20)
    assert [line["key"] for line in found] == [f"r-{n}" for n in range(20)]


def test_a_refusal_has_no_candidates_and_is_billed(build: Build) -> None:
    gemini = Gemini(build(faults=["row-refusal"]))
    (line,) = gemini.results(gemini.batch(keyed(1)))
    assert "candidates" not in line["response"]
    assert line["response"]["promptFeedback"]["blockReason"] == "PROHIBITED_CONTENT"
    assert gemini.meter()["rows_billed"] == 1


def test_a_truncated_answer(build: Build) -> None:
    gemini = Gemini(build(faults=["row-truncated"]))
    (line,) = gemini.results(gemini.batch(keyed(1)))
    assert line["response"]["candidates"][0]["finishReason"] == "MAX_TOKENS"


def test_batch_faults(build: Build) -> None:
    gemini = Gemini(build(faults=["batch-fail:line=3"]))
    failed = gemini.look(gemini.batch(keyed(1)))
    assert (state(failed), failed["done"], failed["error"]["code"]) == ("FAILED", True, 3)
    assert "line 3" in failed["error"]["message"]
    gemini.emulator.add_fault("all-rows-fail:status=503")
    made = gemini.batch(keyed(2))
    assert {line["error"]["code"] for line in gemini.results(made)} == {14}
    gemini.emulator.add_fault("completed-no-output")
    empty = gemini.look(gemini.batch(keyed(2)))
    assert (state(empty), list(empty["response"])) == ("SUCCEEDED", ["@type"])
    gemini.emulator.add_fault("counts-wrong")
    wrong = gemini.look(gemini.batch(keyed(2)))
    assert wrong["metadata"]["batchStats"]["failedRequestCount"] == "3"
    gemini.emulator.add_fault("status-unknown:status=paused,seconds=2")
    strange = gemini.batch(keyed(1))
    assert state(strange) == "PAUSED"
    gemini.clock.advance(3)
    assert state(gemini.look(strange)) == "SUCCEEDED"
    gemini.emulator.add_fault("batch-stuck:seconds=100")
    stuck = gemini.batch(keyed(1))
    assert state(gemini.look(stuck)) == "PENDING"
    gemini.clock.advance(101)
    assert state(gemini.look(stuck)) == "SUCCEEDED"


def test_transport_faults_around_create(build: Build) -> None:
    gemini = Gemini(build())
    source = {"fileName": gemini.upload(jsonl(keyed(1)))["name"]}
    gemini.emulator.add_fault("create-refused:status=503")
    refused = gemini.create(source)
    assert (refused.status, refused.json()["error"]["status"]) == (503, "UNAVAILABLE")
    assert gemini.json("GET", "/v1beta/batches") == {}
    gemini.emulator.add_fault("create-lost")
    assert gemini.create(source).delivery.drop
    gemini.emulator.add_fault("create-error:status=500")
    assert gemini.create(source).status == 500
    gemini.emulator.add_fault("create-slow:seconds=9")
    assert gemini.create(source).delivery.hold_seconds == 9
    assert len(gemini.json("GET", "/v1beta/batches")["operations"]) == 3
    gemini.emulator.add_fault("list-stale:seconds=5")
    gemini.emulator.add_fault("not-found-after-create:seconds=2")
    made = gemini.create(source).json()
    assert len(gemini.json("GET", "/v1beta/batches")["operations"]) == 3
    assert gemini.send("GET", f"/v1beta/{made['name']}").status == 404
    gemini.clock.advance(6)
    assert len(gemini.json("GET", "/v1beta/batches")["operations"]) == 4
    assert state(gemini.look(made)) == "SUCCEEDED"


def test_a_truncated_download(gemini: Gemini) -> None:
    made = gemini.look(gemini.batch(keyed(3)))
    gemini.emulator.add_fault("download-truncated:fraction=0.5")
    name = made["response"]["responsesFile"]
    response = gemini.send("GET", f"/v1beta/{name}:download", query="alt=media")
    assert response.delivery.truncate_after == int(response.headers["content-length"]) // 2


def test_a_file_that_is_not_json_fails_the_batch(gemini: Gemini) -> None:
    stored = gemini.upload(b'{"key":"a","request":{}}\nnot json\n')
    failed = gemini.look(gemini.create({"fileName": stored["name"]}).json())
    assert (state(failed), failed["error"]["code"]) == ("FAILED", 3)
    assert "Line 2" in failed["error"]["message"]
    empty = gemini.upload(b"\n")
    assert state(gemini.look(gemini.create({"fileName": empty["name"]}).json())) == "FAILED"


def test_inline_requests_have_a_size(build: Build) -> None:
    gemini = Gemini(build(limits=Limits(gemini_inline_bytes=500)))
    rows = [{"request": ask("x" * 500)}]
    refused = gemini.create({"requests": {"requests": rows}})
    assert (refused.status, refused.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_bad_creates(gemini: Gemini) -> None:
    name = gemini.upload(jsonl(keyed(1)))["name"]
    assert gemini.create({"fileName": name}, "gemini-none").status == 404
    assert gemini.create({"fileName": "files/none"}).status == 404
    assert gemini.create({}).status == 400
    assert gemini.create({"requests": {"requests": []}}).status == 400
    path = f"/v1beta/models/{EMBEDDER}:batchGenerateContent"
    assert gemini.send("POST", path, {"batch": {"inputConfig": {"fileName": name}}}).status == 404
    assert gemini.meter()["batches_created"] == 0


def test_keys(gemini: Gemini) -> None:
    assert gemini.send("GET", "/v1beta/models", headers={}).status == 403
    bad = gemini.send("GET", "/v1beta/models", headers={"x-goog-api-key": "bad-key"})
    assert (bad.status, bad.json()["error"]["details"][0]["reason"]) == (400, "API_KEY_INVALID")
    assert gemini.send("GET", "/v1beta/models", headers={}, query="key=k").status == 200
    assert gemini.send("GET", "/v9/models").json()["error"]["status"] == "NOT_FOUND"


def test_models(gemini: Gemini) -> None:
    found = gemini.json("GET", "/v1beta/models", query="pageSize=2")
    assert [one["name"] for one in found["models"]] == [
        "models/gemini-2.5-flash",
        "models/gemini-2.5-flash-lite",
    ]
    one = gemini.json("GET", f"/v1beta/models/{EMBEDDER}")
    assert "asyncBatchEmbedContent" in one["supportedGenerationMethods"]
    assert gemini.send("GET", "/v1beta/models/none").status == 404


def test_the_environment(gemini: Gemini) -> None:
    assert gemini.emulator.environment("http://h:1/")["gemini"] == {
        "GOOGLE_GEMINI_BASE_URL": "http://h:1/gemini",
        "GEMINI_API_KEY": "emulator",
    }
    assert KEY["x-goog-api-key"] == "key-1"
