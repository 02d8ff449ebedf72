"""The official, unmodified google-genai SDK in Vertex AI mode, and obstore for Cloud Storage, through real sockets."""

import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import obstore
import pytest
from google import genai
from google.genai import errors, types
from google.oauth2.credentials import Credentials
from obstore.store import GCSStore

from halfrate.emulator import Emulator, Pace

from .driver import jsonl, lines_of
from .gemini import FLASH, ask
from .vertex import labelled

OPEN: Any = {"allow_http": True}


def connect(url: str) -> genai.Client:
    return genai.Client(
        vertexai=True,
        project="p-1",
        location="us-central1",
        credentials=Credentials(token="t"),
        http_options=types.HttpOptions(base_url=f"{url}/vertex", timeout=10_000),
    )


@pytest.fixture
def client(url: str) -> Iterator[genai.Client]:
    with connect(url) as made:
        yield made


def bucket(url: str, name: str) -> GCSStore:
    """With a token: without one, obstore reads unsigned, but goes looking for credentials before it writes."""
    return GCSStore(name, base_url=f"{url}/gcs", bearer_token="t", client_options=OPEN)


def run(client: genai.Client, url: str, count: int = 3, **config: Any) -> types.BatchJob:
    obstore.put(bucket(url, "in"), "rows.jsonl", jsonl(labelled(count)))
    made = types.CreateBatchJobConfig(display_name="job", dest="gs://out/job", **config)
    return client.batches.create(model=FLASH, src="gs://in/rows.jsonl", config=made)


def test_a_job_over_cloud_storage(client: genai.Client, url: str) -> None:
    made = run(client, url)
    assert made.state is types.JobState.JOB_STATE_QUEUED
    ended = client.batches.get(name=made.name or "")
    assert (ended.state, ended.done) == (types.JobState.JOB_STATE_SUCCEEDED, True)
    assert ended.completion_stats
    assert ended.completion_stats.successful_count == 3
    assert ended.output_info
    where = (ended.output_info.gcs_output_directory or "").removeprefix("gs://out/")
    found = [one for page in obstore.list(bucket(url, "out"), prefix=where) for one in page]
    assert [one["path"] for one in found] == [f"{where}/predictions.jsonl"]
    lines = lines_of(bytes(obstore.get(bucket(url, "out"), found[0]["path"]).bytes()))
    assert {line["request"]["labels"]["rid"] for line in lines} == {"r-0", "r-1", "r-2"}


def test_the_environment_points_the_sdk_here(
    monkeypatch: pytest.MonkeyPatch, emulator: Emulator, url: str
) -> None:
    for name, value in emulator.environment(url)["vertex"].items():
        monkeypatch.setenv(name, value)
    named: Any = {"vertexai": True, "project": "emulator", "location": "us-central1"}
    with genai.Client(credentials=Credentials(token="t"), **named) as client:
        job = run(client, url)
        assert "projects/emulator/locations/us-central1/" in (job.name or "")


def test_the_destination_that_the_sdk_chooses(client: genai.Client, url: str) -> None:
    obstore.put(bucket(url, "in"), "a/rows.jsonl", jsonl(labelled(1)))
    made = client.batches.create(model=FLASH, src="gs://in/a/rows.jsonl")
    ended = client.batches.get(name=made.name or "")
    assert ended.output_info
    where = ended.output_info.gcs_output_directory or ""
    assert where.startswith("gs://in/a/rows/dest/prediction-model-")


def test_partial_success_is_an_end_that_the_sdk_does_not_know(
    client: genai.Client, emulator: Emulator, url: str
) -> None:
    emulator.add_fault("row-error:match=order 1")
    ended = client.batches.get(name=run(client, url).name or "")
    assert (ended.state, ended.done) == (types.JobState.JOB_STATE_PARTIALLY_SUCCEEDED, False)


def test_list_cancel_and_delete(client: genai.Client, url: str) -> None:
    names = [run(client, url, 1).name for _ in range(5)]
    assert [one.name for one in client.batches.list(config={"page_size": 2})] == names[::-1]
    wanted = types.ListBatchJobsConfig(filter='display_name="job"', page_size=3)
    assert len(list(client.batches.list(config=wanted))) == 5
    none = types.ListBatchJobsConfig(filter='display_name="other"')
    assert list(client.batches.list(config=none)) == []
    with (
        Emulator(pace=Pace(queue=60, cancel=0.05)) as slow,
        slow.running() as address,
        connect(address) as other,
    ):
        name = run(other, address).name or ""
        with pytest.raises(errors.ClientError):
            other.batches.delete(name=name)
        other.batches.cancel(name=name)
        deadline = time.monotonic() + 10
        while other.batches.get(name=name).state is not types.JobState.JOB_STATE_CANCELLED:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert other.batches.delete(name=name).done
        with pytest.raises(errors.ClientError) as gone:
            other.batches.get(name=name)
    assert gone.value.status == "NOT_FOUND"


def test_failed_jobs_say_why(client: genai.Client, url: str) -> None:
    obstore.put(bucket(url, "in"), "rows.jsonl", b"nonsense\n")
    config = types.CreateBatchJobConfig(display_name="job", dest="gs://out/job")
    made = client.batches.create(model=FLASH, src="gs://in/rows.jsonl", config=config)
    failed = client.batches.get(name=made.name or "")
    assert failed.state is types.JobState.JOB_STATE_FAILED
    assert failed.error
    assert failed.error.code == 3


def call(method: str, url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": "Bearer t", "content-type": "application/json"}
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - the emulator's own address
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
        return json.loads(response.read())


def test_a_job_over_tables(client: genai.Client, url: str) -> None:
    tables = f"{url}/bigquery/bigquery/v2/projects/p/datasets/d/tables"
    reference = {"projectId": "p", "datasetId": "d", "tableId": "rows"}
    call("POST", tables, {"tableReference": reference})
    rows = [{"json": {"rid": f"r-{n}", "request": json.dumps(ask(f"Order {n}"))}} for n in range(3)]
    call("POST", f"{tables}/rows/insertAll", {"rows": rows})
    config = types.CreateBatchJobConfig(display_name="job", dest="bq://p.d.out")
    made = client.batches.create(model=FLASH, src="bq://p.d.rows", config=config)
    ended = client.batches.get(name=made.name or "")
    assert ended.output_info
    assert ended.output_info.bigquery_output_table == "bq://p.d.out"
    data = call("GET", f"{tables}/out/data")
    assert {row["f"][0]["v"] for row in data["rows"]} == {"r-0", "r-1", "r-2"}


def test_generate_content(client: genai.Client, emulator: Emulator) -> None:
    whole = client.models.generate_content(model=FLASH, contents="My parcel is late")
    assert "My parcel is late" in (whole.text or "")
    pieces = client.models.generate_content_stream(model=FLASH, contents="My parcel is late")
    assert "".join(piece.text or "" for piece in pieces) == whole.text
    assert emulator.meter.snapshot()["picodollars_by_provider"].keys() == {"vertex"}


def test_objects_through_obstore(url: str) -> None:
    store = bucket(url, "data")
    put = obstore.put(store, "a/one two.txt", b"0123456789")
    assert put["e_tag"]
    assert put["version"]
    meta = obstore.head(store, "a/one two.txt")
    assert (meta["size"], meta["e_tag"]) == (10, put["e_tag"])
    assert bytes(obstore.get_range(store, "a/one two.txt", start=2, end=5)) == b"234"
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        obstore.put(store, "a/one two.txt", b"x", mode="create")
    big = b"0123456789abcdef" * 1_000_000
    obstore.put(store, "big", big, use_multipart=True, chunk_size=6 * 1024 * 1024)
    assert bytes(obstore.get(store, "big").bytes()) == big
    obstore.copy(store, "a/one two.txt", "b")
    listed = [one["path"] for page in obstore.list(store, chunk_size=1) for one in page]
    assert listed == ["a/one two.txt", "b", "big"]
    folders = obstore.list_with_delimiter(store)
    assert list(folders["common_prefixes"]) == ["a"]
    assert [one["path"] for one in folders["objects"]] == ["b", "big"]
    obstore.delete(store, ["a/one two.txt", "b"])
    with pytest.raises(FileNotFoundError):
        obstore.head(store, "b")
    for n in range(1_100):
        obstore.put(store, f"many/{n:05d}", b"x")
    assert sum(len(page) for page in obstore.list(store, prefix="many")) == 1_100


def test_the_environment_is_enough_for_obstore(
    monkeypatch: pytest.MonkeyPatch, emulator: Emulator, url: str
) -> None:
    for name, value in emulator.environment(url)["gcs"].items():
        monkeypatch.setenv(name, value)
    store = GCSStore("data", client_options=OPEN)
    obstore.put(store, "x", b"1")
    assert bytes(obstore.get(store, "x").bytes()) == b"1"


def test_unsigned_reads_through_obstore(url: str) -> None:
    obstore.put(bucket(url, "data"), "x", b"1")
    store = GCSStore("data", base_url=f"{url}/gcs", skip_signature=True, client_options=OPEN)
    assert bytes(obstore.get(store, "x").bytes()) == b"1"
    assert [one["path"] for page in obstore.list(store) for one in page] == ["x"]
