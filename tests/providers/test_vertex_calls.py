"""What is sent to Vertex AI, and what is made of its replies: creates, look-ups, results that are not there."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from halfrate.base.errors import OutcomeUnknown, Refused
from halfrate.providers.base import Account, BatchView, Intent
from halfrate.providers.objects import split
from halfrate.providers.vertex import Vertex

from .wire import HANG_UP, Asked, reply, wire

TAG = "hr-k3v9x2m4qp-0-1"
JOBS = "/v1/projects/p-1/locations/l-1/batchPredictionJobs"
GS, BQ = f"gs://rows/{TAG}.jsonl", "bq://p-1.d.hr_k3v9x2m4qp_0_1"


def answered(body: Any) -> bytes:
    return reply(json.dumps(body).encode())


def job(number: int, name: str = TAG, **more: Any) -> dict[str, Any]:
    place = f"projects/1/locations/l-1/batchPredictionJobs/{number}"
    return {"name": place, "displayName": name, "state": "JOB_STATE_RUNNING", **more}


def intent(**more: Any) -> Intent:
    given: dict[str, Any] = {"tag": TAG, "endpoint": "generate", "model": "gemini-x", "rows": 1}
    given["requests"] = Path("none")
    return Intent(**(given | more))


def ask(url: str, what: Callable[[Vertex], Coroutine[Any, Any, Any]]) -> Any:
    async def run() -> Any:
        settings = {"project": "p-1", "bucket": "gs://rows", "bigquery_url": url}
        place = f"{url}/v1/projects/p-1/locations/l-1"
        adapter = Vertex(Account(provider="vertex", base_url=place, key="t", settings=settings))
        try:
            return await what(adapter)
        finally:
            await adapter.close()

    return asyncio.run(run())


# ---------------------------------------------------------------- creates


def created(**more: Any) -> dict[str, Any]:
    with wire(lambda _: answered(job(7))) as server:
        view = ask(server.url, lambda vertex: vertex.create(intent(**more)))
        (asked,) = server.asked
    assert (view.batch_id, view.status, view.accepted) == ("7", "running", True)
    assert asked.head.startswith(f"POST {JOBS} HTTP/1.1")
    return json.loads(asked.body)


def test_a_create_over_a_bucket() -> None:
    assert created(file_id=GS) == {
        "displayName": TAG,
        "model": "publishers/google/models/gemini-x",
        "labels": {"halfrate": TAG},
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": [GS]}},
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": f"gs://rows/{TAG}"},
        },
    }


def test_every_create_over_tables_has_a_table_of_its_own() -> None:
    made = [created(file_id=BQ, model="projects/p/locations/l/models/5") for _ in range(2)]
    assert {one["model"] for one in made} == {"projects/p/locations/l/models/5"}
    assert made[0]["inputConfig"] == {
        "instancesFormat": "bigquery",
        "bigquerySource": {"inputUri": BQ},
    }
    targets = {one["outputConfig"]["bigqueryDestination"]["outputUri"] for one in made}
    assert len(targets) == 2
    assert all(target.startswith(f"{BQ}_out_") for target in targets)


@pytest.mark.parametrize(
    ("status", "full", "shown"), [(429, True, 429), (400, False, 422), (403, False, 403), (404, False, 404)]
)
def test_a_create_that_is_refused(status: int, full: bool, shown: int) -> None:
    body = json.dumps({"error": {"code": status, "message": "the file is not as it should be"}}).encode()
    with wire(lambda _: reply(body, f"{status} No")) as server, pytest.raises(Refused) as raised:
        ask(server.url, lambda vertex: vertex.create(intent(file_id=GS)))
    assert (raised.value.queue_full, raised.value.status) == (full, shown)
    assert len(server.asked) == 1


@pytest.mark.parametrize("answer", [HANG_UP, reply(b"", "503 Busy"), reply(b"", "500 No"), reply(b"torn")])
def test_a_create_of_which_nobody_knows(answer: bytes) -> None:
    with wire(lambda _: answer) as server, pytest.raises(OutcomeUnknown):
        ask(server.url, lambda vertex: vertex.create(intent(file_id=GS)))
    assert len(server.asked) == 1


# ---------------------------------------------------------------- look-ups


def test_a_lost_batch_is_looked_for_on_every_page() -> None:
    failed = job(9, state="JOB_STATE_FAILED", createTime="2026-11-20T08:00:00Z")
    pages = iter(
        [
            {"batchPredictionJobs": [failed, job(8, f"{TAG}0"), job(3)], "nextPageToken": "a b"},
            {"batchPredictionJobs": [job(5, createTime="2026-11-20T10:00:00Z")], "nextPageToken": "c"},
            {"batchPredictionJobs": [job(4, createTime="2026-11-20T09:00:00.123456789Z")]},
        ]
    )
    with wire(lambda _: answered(next(pages))) as server:
        found = ask(server.url, lambda vertex: vertex.find(intent(past=("3",)), 0.0))
        queries = [parse_qs(urlsplit(asked.head.split(" ")[1]).query) for asked in server.asked]
    assert found.found == ("4", "5", "9")
    assert [query["filter"] for query in queries] == [[f'display_name="{TAG}"']] * 3
    assert [query.get("pageToken") for query in queries] == [None, ["a b"], ["c"]]


def test_no_jobs_at_all() -> None:
    with wire(lambda _: answered({})) as server:
        assert ask(server.url, lambda vertex: vertex.find(intent(), 0.0)).found == ()


def test_a_cancel_of_what_has_ended_is_no_error() -> None:
    body = b'{"error":{"code":400,"message":"it has ended"}}'
    with wire(lambda _: reply(body, "400 No")) as server:
        ask(server.url, lambda vertex: vertex.cancel("7"))
        assert server.asked[0].head.startswith(f"POST {JOBS}/7:cancel HTTP/1.1")


# ---------------------------------------------------------------- results, and what is left


class Objects:
    """A bucket in memory."""

    def __init__(self, *names: str) -> None:
        self.names = [*names]

    async def list(self, folder: str) -> list[tuple[str, int]]:
        return [(name, 1) for name in self.names if name.startswith(f"{folder.strip('/')}/")]

    async def get_file(self, key: str, path: Path) -> None:
        await asyncio.to_thread(path.write_text, key)

    async def delete(self, key: str) -> None:
        self.names.remove(key)


def with_objects(objects: Objects, what: Callable[[Vertex], Coroutine[Any, Any, Any]]) -> Any:
    async def run(vertex: Vertex) -> Any:
        def named(place: str) -> Any:
            return objects, split(place)[1]

        vertex._object = named
        return await what(vertex)

    with wire(lambda _: answered({})) as server:
        found = ask(server.url, run)
        return found, [asked.head.split("\r\n")[0] for asked in server.asked]


def ended(status: str, finished: int = 0) -> BatchView:
    files = (f"gs://rows/{TAG}/prediction-model-1",)
    return BatchView(batch_id="7", status=status, ended=True, rows_finished=finished, files=files)


def test_all_files_are_fetched(tmp_path: Path) -> None:
    folder = f"{TAG}/prediction-model-1"
    names = [f"{folder}/predictions_{n}.jsonl" for n in (1, 2)]
    objects = Objects(*names, f"{folder}/row_count.json", f"{TAG}/prediction-model-12/predictions.jsonl")
    view = ended("succeeded")
    paths, _ = with_objects(objects, lambda vertex: vertex.fetch(view, lambda n: tmp_path / str(n)))
    assert paths == [tmp_path / "0", tmp_path / "1"]
    assert [path.read_text() for path in paths] == names


@pytest.mark.parametrize(
    ("status", "finished"), [("succeeded", 0), ("partially_succeeded", 0), ("cancelled", 1)]
)
def test_results_that_are_gone_are_told(tmp_path: Path, status: str, finished: int) -> None:
    view = ended(status, finished)
    with pytest.raises(Refused) as raised:
        with_objects(Objects(), lambda vertex: vertex.fetch(view, lambda n: tmp_path / str(n)))
    assert raised.value.status == 404


@pytest.mark.parametrize("status", ["cancelled", "expired", "failed"])
def test_a_job_that_did_nothing_has_no_results(tmp_path: Path, status: str) -> None:
    view = ended(status)
    paths, _ = with_objects(Objects(), lambda vertex: vertex.fetch(view, lambda n: tmp_path / str(n)))
    assert paths == []


def test_what_is_left_goes_and_the_record_last() -> None:
    objects = Objects(f"{TAG}.jsonl", f"{TAG}/a/predictions.jsonl", f"{TAG}/b", f"{TAG}0/theirs", "theirs")
    left = ("batchPredictionJobs/7", f"gs://rows/{TAG}.jsonl", f"gs://rows/{TAG}/", BQ)
    _, asked = with_objects(objects, lambda vertex: vertex.clean_up(left))
    assert objects.names == [f"{TAG}0/theirs", "theirs"]
    assert asked == [
        "DELETE /bigquery/v2/projects/p-1/datasets/d/tables/hr_k3v9x2m4qp_0_1 HTTP/1.1",
        f"DELETE {JOBS}/7 HTTP/1.1",
    ]


def test_what_is_gone_already_is_no_error() -> None:
    def gone(_: Asked) -> bytes:
        return reply(b'{"error":{"code":404,"message":"Not found"}}', "404 Not Found")

    with wire(gone) as server:
        ask(server.url, lambda vertex: vertex.clean_up(("batchPredictionJobs/7", BQ)))
        assert len(server.asked) == 2
