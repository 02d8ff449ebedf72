"""Drives the Vertex AI, Cloud Storage and BigQuery APIs of an emulator without sockets."""

from typing import Any

from halfrate.emulator import Response

from .driver import Driver, jsonl, lines_of
from .gemini import ask

TOKEN = {"authorization": "Bearer token", "host": "emulator.test"}
PLACE = "/v1/projects/p-1/locations/us-central1"
MODEL = "publishers/google/models/gemini-2.5-flash"
EMBEDDER = "publishers/google/models/gemini-embedding-001"


def labelled(count: int) -> list[dict[str, Any]]:
    return [{"request": ask(f"Where is order {n}?", labels={"rid": f"r-{n}"})} for n in range(count)]


class Vertex:
    """Sends requests to one emulator's Google Cloud surfaces; every helper asserts the status it expects."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.clock = driver.clock
        self.emulator = driver.emulator

    def send(self, method: str, path: str, body: object = b"", **more: Any) -> Response:
        more.setdefault("headers", TOKEN)
        return self.driver.send(method, path, body, **more)

    def json(self, method: str, path: str, body: object = b"", **more: Any) -> Any:
        response = self.send(method, path, body, **more)
        assert response.status == 200, response.read()
        return response.json()

    def put(self, name: str, data: bytes) -> Any:
        return self.json("POST", "/gcs/upload/storage/v1/b/in/o", data, query=f"uploadType=media&name={name}")

    def create(self, source: str = "gs://in/rows.jsonl", to: str = "gs://out/job", **more: Any) -> Response:
        tabular = source.startswith("bq://")
        given = {"bigquerySource": {"inputUri": source}} if tabular else {"gcsSource": {"uris": [source]}}
        target: dict[str, Any] = {"gcsDestination": {"outputUriPrefix": to}, "predictionsFormat": "jsonl"}
        if to.startswith("bq://"):
            target = {"bigqueryDestination": {"outputUri": to}, "predictionsFormat": "bigquery"}
        body = {
            "displayName": "job",
            "model": MODEL,
            "inputConfig": {"instancesFormat": "bigquery" if tabular else "jsonl", **given},
            "outputConfig": target,
            **more,
        }
        return self.send("POST", f"/vertex{PLACE}/batchPredictionJobs", body)

    def job(self, rows: list[dict[str, Any]], **more: Any) -> Any:
        """A job over a file of these rows."""
        self.put("rows.jsonl", jsonl(rows))
        response = self.create(**more)
        assert response.status == 200, response.read()
        return response.json()

    def look(self, job: Any) -> Any:
        return self.json("GET", f"/vertex/v1/{job['name']}")

    def names(self, uri: str) -> list[str]:
        bucket, _, prefix = uri.removeprefix("gs://").partition("/")
        found = self.send("GET", f"/gcs/storage/v1/b/{bucket}/o", query=f"prefix={prefix}")
        return [one["name"] for one in found.json().get("items", [])] if found.status == 200 else []

    def content(self, job: Any) -> bytes:
        """All result files of an ended job, one after the other."""
        names = self.names(self.look(job)["outputInfo"]["gcsOutputDirectory"])
        found = [self.send("GET", f"/gcs/storage/v1/b/out/o/{name}", query="alt=media") for name in names]
        assert {one.status for one in found} <= {200}
        return b"".join(one.read() for one in found)

    def results(self, job: Any) -> list[dict[str, Any]]:
        return lines_of(self.content(job))

    def meter(self) -> dict[str, Any]:
        return self.driver.meter()
