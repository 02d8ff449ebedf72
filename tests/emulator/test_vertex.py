"""Vertex AI's batch prediction jobs in virtual time, with Cloud Storage and BigQuery beside them."""

import json
from typing import Any

import pytest

from halfrate.emulator import Limits, Pace, fingerprint

from .conftest import Build
from .driver import Driver, jsonl, lines_of
from .gemini import ask
from .vertex import EMBEDDER, MODEL, PLACE, TOKEN, Vertex, labelled

HOUR = 3_600.0
SLOW = Pace(validate=10, queue=10, per_1000_rows=1_000, finalize=10, cancel=5)
JOBS = f"/vertex{PLACE}/batchPredictionJobs"


@pytest.fixture
def vertex(driver: Driver) -> Vertex:
    return Vertex(driver)


def state(job: Any) -> str:
    return job["state"].removeprefix("JOB_STATE_")


def rids(lines: list[dict[str, Any]]) -> list[str]:
    return [line["request"]["labels"]["rid"] for line in lines]


def test_a_job_over_cloud_storage(vertex: Vertex) -> None:
    rows = labelled(20)
    made = vertex.job(rows, labels={"tag": "j1"})
    assert (state(made), made["displayName"], made["labels"]) == ("QUEUED", "job", {"tag": "j1"})
    assert made["name"].startswith("projects/p-1/locations/us-central1/batchPredictionJobs/")
    assert made["name"].rpartition("/")[2].isdigit()
    assert made["inputConfig"]["gcsSource"] == {"uris": ["gs://in/rows.jsonl"]}
    ended = vertex.look(made)
    assert (state(ended), ended["completionStats"]) == ("SUCCEEDED", {"successfulCount": "20"})
    assert {"createTime", "startTime", "endTime", "updateTime", "model"} <= set(ended)
    where = ended["outputInfo"]["gcsOutputDirectory"]
    assert where.startswith("gs://out/job/prediction-model-")
    assert vertex.names(where) == [f"{where.removeprefix('gs://out/')}/predictions.jsonl"]
    lines = vertex.results(made)
    assert sorted(rids(lines)) == sorted(f"r-{n}" for n in range(20))
    assert rids(lines) != [f"r-{n}" for n in range(20)]
    assert {line["status"] for line in lines} == {""}
    first = next(line for line in lines if line["request"]["labels"]["rid"] == "r-3")
    assert first["request"] == rows[3]["request"]
    assert "order 3" in first["response"]["candidates"][0]["content"]["parts"][0]["text"]
    assert first["response"]["modelVersion"] == "gemini-2.5-flash"
    meter = vertex.meter()
    bodies = [{"contents": row["request"]["contents"]} for row in rows]
    assert meter["billed_by_fingerprint"] == {fingerprint(body): 1 for body in bodies}
    assert meter["billed_by_custom_id"] == {f"r-{n}": 1 for n in range(20)}
    tokens = meter["tokens"]
    money = tokens["input"] * 150_000 + tokens["output"] * 1_250_000
    assert meter["picodollars_by_provider"] == {"vertex": money}


def test_every_state_in_its_time(build: Build) -> None:
    vertex = Vertex(build(pace=SLOW))
    made = vertex.job(labelled(10))
    assert "completionStats" not in made
    vertex.clock.advance(11)
    assert state(vertex.look(made)) == "PENDING"
    vertex.clock.advance(14)
    running = vertex.look(made)
    assert state(running) == "RUNNING"
    assert running["completionStats"] == {"successfulCount": "5", "incompleteCount": "-1"}
    vertex.clock.advance(15)
    assert state(vertex.look(made)) == "SUCCEEDED"


def test_failed_rows_have_a_status(build: Build) -> None:
    vertex = Vertex(build(faults=["row-error:status=429,match=order 1"]))
    made = vertex.job(labelled(3))
    ended = vertex.look(made)
    assert state(ended) == "PARTIALLY_SUCCEEDED"
    assert ended["completionStats"] == {"successfulCount": "2", "failedCount": "1"}
    (bad,) = [line for line in vertex.results(made) if line["status"]]
    assert (rids([bad]), bad["response"]) == (["r-1"], {})
    name, _, document = bad["status"].partition(": ")
    error = json.loads(document)["error"]
    assert (name, error["code"], error["status"]) == ("Too Many Requests", 429, "RESOURCE_EXHAUSTED")
    assert vertex.meter()["rows_billed"] == 2


def test_row_faults(build: Build) -> None:
    def run(fault: str) -> tuple[Vertex, list[dict[str, Any]], bytes]:
        vertex = Vertex(
            build(faults=[f"{fault},match=order 1" if ":" in fault else f"{fault}:match=order 1"])
        )
        data = vertex.content(vertex.job(labelled(3)))
        parsed: list[dict[str, Any]] = []
        for line in data.split(b"\n"):
            try:
                parsed.append(json.loads(line))
            except ValueError:
                continue
        return vertex, parsed, data

    vertex, found, data = run("row-malformed")
    assert (len(found), data.count(b"\n"), vertex.meter()["rows_billed"]) == (2, 3, 3)
    vertex, found, _ = run("row-missing")
    assert (len(found), vertex.meter()["rows_billed"]) == (2, 2)
    vertex, found, _ = run("row-duplicate")
    assert (len(found), vertex.meter()["rows_billed"]) == (4, 3)
    _, found, _ = run("row-unknown")
    assert sum(rid.startswith("stranger-") for rid in rids(found)) == 1
    _, found, _ = run("row-no-id")
    assert sum("labels" not in line["request"] for line in found) == 1
    _, found, _ = run("row-status-zero")
    assert sum(line["status"] == "" and line["response"] == {} for line in found) == 1
    _, found, _ = run("row-null-error")
    assert [line["status"] for line in found if line["status"]] == ["Bad Request: null"]
    _, found, _ = run("row-refusal")
    assert sum("promptFeedback" in line["response"] for line in found) == 1


def test_cancelled_and_expired_jobs_deliver_what_had_finished(build: Build) -> None:
    vertex = Vertex(build(pace=SLOW))
    made = vertex.job(labelled(10))
    vertex.clock.advance(25)
    assert vertex.json("POST", f"/vertex/v1/{made['name']}:cancel") == {}
    assert state(vertex.look(made)) == "CANCELLING"
    vertex.clock.advance(6)
    ended = vertex.look(made)
    assert state(ended) == "CANCELLED"
    assert ended["completionStats"] == {"successfulCount": "5", "incompleteCount": "5"}
    assert len(vertex.results(made)) == vertex.meter()["rows_billed"] == 5
    long = Vertex(build(pace=Pace(per_1000_rows=1_000 * 10 * HOUR)))
    made = long.job(labelled(5))
    long.clock.advance(48 * HOUR)
    ended = long.look(made)
    assert (state(ended), ended["error"]["code"]) == ("EXPIRED", 4)
    assert len(long.results(made)) == long.meter()["rows_billed"] == 2
    stuck = Vertex(build(faults=[f"batch-stuck:seconds={80 * HOUR}"]))
    made = stuck.job(labelled(5))
    stuck.clock.advance(71 * HOUR)
    assert state(stuck.look(made)) == "PENDING"
    stuck.clock.advance(100 * HOUR)
    assert state(stuck.look(made)) == "EXPIRED"
    assert stuck.meter()["rows_billed"] == 0


def test_the_cancel_faults(build: Build) -> None:
    vertex = Vertex(build(pace=SLOW, faults=["cancel-race"]))
    made = vertex.job(labelled(4))
    vertex.json("POST", f"/vertex/v1/{made['name']}:cancel")
    vertex.clock.advance(6)
    assert state(vertex.look(made)) == "SUCCEEDED"
    assert len(vertex.results(made)) == 4
    vertex.emulator.add_fault("cancel-ignored")
    made = vertex.job(labelled(1))
    vertex.json("POST", f"/vertex/v1/{made['name']}:cancel")
    assert state(vertex.look(made)) == "QUEUED"


def test_results_in_several_files(build: Build) -> None:
    vertex = Vertex(build(limits=Limits(vertex_shard_rows=4)))
    made = vertex.job(labelled(9))
    where = vertex.look(made)["outputInfo"]["gcsOutputDirectory"].removeprefix("gs://out/")
    assert vertex.names(f"gs://out/{where}") == [f"{where}/predictions_0000{n}.jsonl" for n in (1, 2, 3)]
    assert len(vertex.results(made)) == 9


def test_input_that_is_not_as_expected_fails_the_job(build: Build) -> None:
    vertex = Vertex(build(limits=Limits(vertex_rows=2)))
    for data, told in (
        (b"nonsense\n", "not valid JSON"),
        (b"{}\n", "no `request`"),
        (b'{"request":{}}\n', "no `contents`"),
        (b"", "no rows"),
        (jsonl(labelled(3)), "more than 2 rows"),
    ):
        vertex.put("rows.jsonl", data)
        failed = vertex.look(vertex.create().json())
        assert (state(failed), failed["error"]["code"]) == ("FAILED", 3)
        assert told in failed["error"]["message"]
    failed = vertex.look(vertex.create("gs://in/none.jsonl").json())
    assert "does not exist" in failed["error"]["message"]
    vertex.emulator.add_fault("batch-fail:line=7")
    assert "line 7" in vertex.look(vertex.job(labelled(1)))["error"]["message"]
    assert vertex.meter()["batches_failed"] == 7


def test_bad_creates(vertex: Vertex) -> None:
    vertex.put("rows.jsonl", jsonl(labelled(1)))
    assert vertex.create(model="publishers/google/models/none").status == 400
    assert vertex.create(displayName="").status == 400
    assert vertex.create("http://in/rows.jsonl").status == 400
    assert vertex.create(to="nowhere").status == 400
    assert vertex.create(model=f"projects/p-1/locations/us-central1/{MODEL}").status == 200
    assert vertex.send("GET", JOBS, headers={}).json()["error"]["status"] == "UNAUTHENTICATED"
    assert vertex.send("GET", f"{JOBS}/5").status == 404


def test_faults_around_create(vertex: Vertex) -> None:
    vertex.put("rows.jsonl", jsonl(labelled(1)))
    for fault, status in (("queue-full", 429), ("create-refused:status=503", 503), ("create-error", 500)):
        vertex.emulator.add_fault(fault)
        assert vertex.create().status == status
    vertex.emulator.add_fault("create-lost")
    assert vertex.create().delivery.drop
    assert len(vertex.json("GET", JOBS)["batchPredictionJobs"]) == 2
    vertex.emulator.add_fault("not-found-after-create:seconds=2")
    vertex.emulator.add_fault("list-stale:seconds=5")
    made = vertex.create().json()
    assert vertex.send("GET", f"/vertex/v1/{made['name']}").status == 404
    assert len(vertex.json("GET", JOBS)["batchPredictionJobs"]) == 2
    vertex.clock.advance(6)
    assert state(vertex.look(made)) == "SUCCEEDED"


def test_batch_faults(vertex: Vertex) -> None:
    for fault in ("completed-no-output", "batch-expire-no-files"):
        vertex.emulator.add_fault(fault)
        ended = vertex.look(vertex.job(labelled(4)))
        assert vertex.names(ended["outputInfo"]["gcsOutputDirectory"]) == []
    assert state(ended) == "EXPIRED"
    assert vertex.meter()["rows_billed"] == 6
    vertex.emulator.add_fault("batch-expire:done=0.25")
    ended = vertex.look(vertex.job(labelled(4)))
    assert (state(ended), len(vertex.results(ended))) == ("EXPIRED", 1)
    vertex.emulator.add_fault("all-rows-fail:status=500")
    assert all(line["status"].startswith("Internal") for line in vertex.results(vertex.job(labelled(2))))
    vertex.emulator.add_fault("counts-wrong")
    assert vertex.look(vertex.job(labelled(2)))["completionStats"] == {"failedCount": "3"}
    vertex.emulator.add_fault("status-unknown:status=updating")
    assert state(vertex.job(labelled(1))) == "UPDATING"


def test_listing_filters_and_pages(vertex: Vertex) -> None:
    vertex.put("rows.jsonl", jsonl(labelled(1)))
    names = [vertex.create(displayName=f"job-{n % 2}").json()["name"] for n in range(4)][::-1]
    first = vertex.json("GET", JOBS, query="pageSize=3")
    assert [one["name"] for one in first["batchPredictionJobs"]] == names[:3]
    rest = vertex.json("GET", JOBS, query=f"pageSize=3&pageToken={first['nextPageToken']}")
    assert [one["name"] for one in rest["batchPredictionJobs"]] == names[3:]
    wanted = 'display_name="job-1" AND state="JOB_STATE_SUCCEEDED"'.replace(" ", "%20")
    found = vertex.json("GET", JOBS, query=f"filter={wanted}")
    assert [one["name"] for one in found["batchPredictionJobs"]] == names[::2]
    assert vertex.send("GET", JOBS, query="filter=nonsense").status == 400
    elsewhere = "/vertex/v1/projects/p-2/locations/us-central1/batchPredictionJobs"
    assert vertex.json("GET", elsewhere) == {}


def test_only_an_ended_job_is_deleted(build: Build) -> None:
    vertex = Vertex(build(pace=SLOW))
    made = vertex.job(labelled(1))
    assert vertex.send("DELETE", f"/vertex/v1/{made['name']}").status == 400
    vertex.clock.advance(60)
    assert vertex.json("DELETE", f"/vertex/v1/{made['name']}")["done"] is True
    assert vertex.send("GET", f"/vertex/v1/{made['name']}").status == 404


def test_embedding_rows_keep_their_key(vertex: Vertex) -> None:
    request = {"content": {"parts": [{"text": "hello"}]}, "outputDimensionality": 3}
    made = vertex.job([{"key": "e-1", "request": request}], model=EMBEDDER)
    (line,) = vertex.results(made)
    assert (line["key"], len(line["response"]["embedding"]["values"])) == ("e-1", 3)
    assert vertex.meter()["picodollars"] == 2 * 120_000


def test_a_job_over_tables(vertex: Vertex) -> None:
    tables = "/bigquery/bigquery/v2/projects/p/datasets/d/tables"
    reference = {"projectId": "p", "datasetId": "d", "tableId": "rows"}
    fields = [{"name": "rid", "type": "STRING"}, {"name": "request", "type": "STRING"}]
    vertex.json("POST", tables, {"tableReference": reference, "schema": {"fields": fields}})
    rows = [
        {"json": {"rid": f"r-{n}", "request": json.dumps(ask(f"Order {n}"))}, "insertId": str(n)}
        for n in range(5)
    ]
    assert "insertErrors" not in vertex.json("POST", f"{tables}/rows/insertAll", {"rows": rows})
    made = vertex.create("bq://p.d.rows", "bq://p.d.out").json()
    ended = vertex.look(made)
    assert (state(ended), ended["outputInfo"]) == ("SUCCEEDED", {"bigqueryOutputTable": "bq://p.d.out"})
    described = vertex.json("GET", f"{tables}/out")
    columns = [field["name"] for field in described["schema"]["fields"]]
    assert columns == ["rid", "request", "response", "status", "processed_time"]
    first = vertex.json("GET", f"{tables}/out/data", query="maxResults=3")
    rest = vertex.json("GET", f"{tables}/out/data", query=f"pageToken={first['pageToken']}")
    assert (first["totalRows"], len(first["rows"]), "pageToken" in rest) == ("5", 3, False)
    found: dict[str, str] = {}
    for row in first["rows"] + rest["rows"]:
        cells = dict(zip(columns, (cell["v"] for cell in row["f"]), strict=True))
        found[cells["rid"]] = json.loads(cells["response"])["candidates"][0]["finishReason"]
        assert cells["status"] == ""
    assert found == {f"r-{n}": "STOP" for n in range(5)}
    assert state(vertex.look(vertex.create("bq://p.d.none", "bq://p.d.out").json())) == "FAILED"
    assert vertex.send("DELETE", f"{tables}/out").status == 204
    assert vertex.send("GET", f"{tables}/out").status == 404


def test_a_table_has_whole_rows(build: Build) -> None:
    vertex = Vertex(build(faults=["last-line-cut:bytes=30"]))
    tables = "/bigquery/bigquery/v2/projects/p/datasets/d/tables"
    reference = {"projectId": "p", "datasetId": "d", "tableId": "rows"}
    vertex.json("POST", tables, {"tableReference": reference, "schema": {"fields": [{"name": "request"}]}})
    rows = [{"json": {"request": json.dumps(ask(f"Order {n}"))}} for n in range(3)]
    vertex.json("POST", f"{tables}/rows/insertAll", {"rows": rows})
    assert state(vertex.look(vertex.create("bq://p.d.rows", "bq://p.d.out").json())) == "SUCCEEDED"
    assert vertex.json("GET", f"{tables}/out/data")["totalRows"] == "3"


def test_loads(vertex: Vertex) -> None:
    vertex.put("table.jsonl", b'{"rid":"a","n":1}\n{"rid":"b","n":2}\n')
    to = {"projectId": "p", "datasetId": "d", "tableId": "loaded"}
    load = {
        "sourceUris": ["gs://in/table.jsonl"],
        "destinationTable": to,
        "sourceFormat": "NEWLINE_DELIMITED_JSON",
        "autodetect": True,
    }
    job = vertex.json("POST", "/bigquery/v2/projects/p/jobs", {"configuration": {"load": load}})
    assert (job["status"], job["statistics"]["load"]) == ({"state": "DONE"}, {"outputRows": "2"})
    again = vertex.json("GET", f"/bigquery/v2/projects/p/jobs/{job['jobReference']['jobId']}")
    assert again["status"]["state"] == "DONE"
    load = {**load, "writeDisposition": "WRITE_TRUNCATE"}
    load.pop("sourceUris")
    parts = [json.dumps({"configuration": {"load": load}}).encode(), b'{"rid":"c","n":null}\n']
    body = b"".join(b"--x\r\nContent-Type: application/json\r\n\r\n" + part + b"\r\n" for part in parts)
    headers = {**TOKEN, "content-type": "multipart/related; boundary=x"}
    path = "/bigquery/upload/bigquery/v2/projects/p/jobs"
    vertex.json("POST", path, body + b"--x--", headers=headers, query="uploadType=multipart")
    data = vertex.json("GET", "/bigquery/v2/projects/p/datasets/d/tables/loaded/data")
    assert data["rows"] == [{"f": [{"v": "c"}, {"v": None}]}]
    missing = {**load, "sourceUris": ["gs://in/none"]}
    failed = vertex.json("POST", "/bigquery/v2/projects/p/jobs", {"configuration": {"load": missing}})
    assert "errorResult" in failed["status"]


def test_realtime(vertex: Vertex) -> None:
    made = vertex.json("POST", f"/vertex{PLACE}/{MODEL}:generateContent", ask("hi", labels={"team": "a"}))
    assert made["candidates"][0]["finishReason"] == "STOP"
    vertex.json("POST", f"/vertex/v1beta1/{MODEL}:generateContent", ask("hi"))
    meter = vertex.meter()
    assert (meter["realtime_billed"], list(meter["picodollars_by_provider"])) == (2, ["vertex"])


def test_objects(vertex: Vertex) -> None:
    stored = vertex.put("a/one.txt", b"0123456789")
    assert (stored["name"], stored["size"], stored["bucket"]) == ("a/one.txt", "10", "in")
    assert {"generation", "metageneration", "etag", "md5Hash", "timeCreated"} <= set(stored)
    headers = {**TOKEN, "content-type": 'multipart/related; boundary="x y"'}
    body = (
        b'--x y\r\nContent-Type: application/json\r\n\r\n{"name":"a/two.txt","metadata":{"k":"v"}}\r\n'
        b"--x y\r\nContent-Type: text/plain\r\n\r\nline\r\n\r\n--x y--"
    )
    upload = "/gcs/upload/storage/v1/b/in/o"
    two = vertex.json("POST", upload, body, headers=headers, query="uploadType=multipart")
    assert (two["contentType"], two["metadata"], two["size"]) == ("text/plain", {"k": "v"}, "6")
    for path in ("/gcs/storage/v1/b/in/o/a/one.txt", "/gcs/download/storage/v1/b/in/o/a/one.txt"):
        whole = vertex.send("GET", path, query="alt=media")
        assert (whole.read(), whole.headers["etag"].strip('"')) == (b"0123456789", stored["etag"])
    part = vertex.send("GET", "/gcs/in/a/one.txt", headers={"range": "bytes=2-4"})
    assert (part.status, part.read(), part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    assert vertex.send("GET", "/gcs/in/a/one.txt", headers={"range": "bytes=99-"}).status == 416
    vertex.put("b.txt", b"b")
    listed = vertex.json("GET", "/gcs/storage/v1/b/in/o", query="maxResults=2")
    assert [one["name"] for one in listed["items"]] == ["a/one.txt", "a/two.txt"]
    query = f"pageToken={listed['nextPageToken']}"
    assert [one["name"] for one in vertex.json("GET", "/gcs/storage/v1/b/in/o", query=query)["items"]] == [
        "b.txt"
    ]
    folders = vertex.json("GET", "/gcs/storage/v1/b/in/o", query="delimiter=/")
    assert (folders["prefixes"], [one["name"] for one in folders["items"]]) == (["a/"], ["b.txt"])
    taken = vertex.send("POST", upload, b"x", query="uploadType=media&name=b.txt&ifGenerationMatch=0")
    assert (taken.status, taken.json()["error"]["errors"][0]["reason"]) == (412, "conditionNotMet")
    assert vertex.send("DELETE", "/gcs/storage/v1/b/in/o/b.txt").status == 204
    gone = vertex.send("GET", "/gcs/storage/v1/b/in/o/b.txt")
    assert (gone.status, gone.json()["error"]["code"]) == (404, 404)
    assert vertex.send("GET", "/gcs/storage/v1/b/none/o").status == 404
    assert vertex.json("POST", "/gcs/storage/v1/b", {"name": "made"})["name"] == "made"
    assert vertex.send("POST", "/gcs/storage/v1/b", {"name": "made"}).status == 409
    assert vertex.meter()["files_stored"] == 2


def test_resumable_uploads(vertex: Vertex) -> None:
    upload = "/gcs/upload/storage/v1/b/in/o"
    started = vertex.send("POST", upload, {"name": "big.txt"}, query="uploadType=resumable")
    where = started.headers["location"]
    assert where.startswith(f"http://emulator.test{upload}?")
    query = where.partition("?")[2]

    def piece(data: bytes, span: str) -> Any:
        return vertex.send(
            "PUT", upload, data, headers={**TOKEN, "content-range": f"bytes {span}"}, query=query
        )

    first = piece(b"01234", "0-4/*")
    assert (first.status, first.headers["range"]) == (308, "bytes=0-4")
    assert piece(b"", "*/10").headers["range"] == "bytes=0-4"
    vertex.emulator.add_fault("upload-reset:provider=gcs")
    assert piece(b"56789", "5-9/10").delivery.drop
    last = piece(b"56789", "5-9/10")
    assert (last.status, last.json()["size"]) == (200, "10")
    assert piece(b"", "*/10").status == 404
    assert vertex.send("GET", "/gcs/in/big.txt").read() == b"0123456789"


def test_a_put_that_is_to_replace_nothing(vertex: Vertex) -> None:
    """As the XML API words it (reference: x-goog-if-generation-match); 0 stands for no object."""

    def put(data: bytes, generation: str) -> Any:
        return vertex.send(
            "PUT", "/gcs/in/one.txt", data, headers={**TOKEN, "x-goog-if-generation-match": generation}
        )

    made = put(b"first", "0")
    assert made.status == 200
    again = put(b"second", "0")
    assert (again.status, b"<Code>PreconditionFailed</Code>" in again.read()) == (412, True)
    assert vertex.send("GET", "/gcs/in/one.txt").read() == b"first"
    assert vertex.meter()["files_stored"] == 1
    assert put(b"second", made.headers["x-goog-generation"]).status == 200
    assert vertex.send("GET", "/gcs/in/one.txt").read() == b"second"


def test_a_truncated_download(vertex: Vertex) -> None:
    vertex.put("x", b"0123456789")
    for path in ("/gcs/in/x", "/gcs/storage/v1/b/in/o/x"):
        vertex.emulator.add_fault("download-truncated:fraction=0.5")
        assert vertex.send("GET", path, query="alt=media").delivery.truncate_after == 5


def test_the_environment(vertex: Vertex) -> None:
    found = vertex.emulator.environment("http://h:1")
    assert found["vertex"]["GOOGLE_VERTEX_BASE_URL"] == "http://h:1/vertex"
    assert found["gcs"]["STORAGE_EMULATOR_HOST"] == "http://h:1/gcs"
    assert found["bigquery"]["BIGQUERY_EMULATOR_HOST"] == "http://h:1/bigquery"
    assert lines_of(b"") == []
