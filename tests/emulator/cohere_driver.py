"""Drives the emulator's Cohere surface without sockets."""

import io
from typing import Any
from urllib.parse import unquote

import fastavro

from halfrate.emulator import Response

from .driver import Driver, jsonl
from .mistral_driver import form as file_form

MODEL, BATCH_MODEL = "embed-v4.0", "batch-embed-v4"
DATASETS, BATCHES, EMBED = "/cohere/v1/datasets", "/cohere/v2/batches", "/cohere/v2/embed"
KIND = "batch-embed-v2-input"


def body(text: str, **more: Any) -> dict[str, Any]:
    """A row's body as the batch cookbook has it."""
    inputs = [{"content": [{"type": "text", "text": text}]}]
    return {"input_type": "search_document", "embedding_types": ["float"], "inputs": inputs, **more}


def rows(count: int) -> list[dict[str, Any]]:
    return [{"custom_id": f"r-{n}", "body": body(f"Where is order {n}?")} for n in range(count)]


def records(content: bytes) -> list[dict[str, Any]]:
    return [dict(record) for record in fastavro.reader(io.BytesIO(content)) if isinstance(record, dict)]


class CohereDriver:
    """Every helper asserts the status it expects, unless it gives a response."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    def send_dataset(self, content: bytes, query: str = f"name=My orders&type={KIND}") -> Response:
        sent, headers = file_form(content)
        sent = sent.replace(b'name="file"', b'name="data"')
        return self.driver.send("POST", DATASETS, sent, headers=headers, query=query)

    def dataset(self, given: list[dict[str, Any]], query: str = f"name=My orders&type={KIND}") -> str:
        response = self.send_dataset(jsonl(given), query)
        assert response.status == 200, response.read()
        return response.json()["id"]

    def look_at_dataset(self, dataset_id: str) -> Any:
        return self.driver.json("GET", f"{DATASETS}/{dataset_id}")["dataset"]

    def create(self, dataset_id: str, **more: Any) -> Response:
        sent = {"name": "my-job", "input_dataset_id": dataset_id, "model": BATCH_MODEL, **more}
        return self.driver.send("POST", BATCHES, sent)

    def batch(self, given: list[dict[str, Any]], **more: Any) -> Any:
        response = self.create(self.dataset(given), **more)
        assert response.status == 200, response.read()
        return response.json()["batch"]

    def look(self, batch: Any) -> Any:
        return self.driver.json("GET", f"{BATCHES}/{batch['id']}")["batch"]

    def listed(self, query: str = "") -> Any:
        return self.driver.json("GET", BATCHES, query=query)

    def cancel(self, batch: Any) -> Response:
        return self.driver.send("POST", f"{BATCHES}/{batch['id']}:cancel")

    def open(self, url: str) -> Response:
        """Fetch a signed URL, without a key."""
        path, _, query = url.removeprefix("http://localhost").partition("?")
        return self.driver.send("GET", unquote(path), headers={}, query=query)

    def parts(self, batch: Any) -> list[bytes]:
        """The result files of a batch."""
        if not batch["output_dataset_id"]:
            return []
        found: list[bytes] = []
        for part in self.look_at_dataset(batch["output_dataset_id"])["dataset_parts"]:
            response = self.open(part["url"])
            assert response.status == 200
            found.append(response.read())
            assert len(found[-1]) == part["size_bytes"]
        return found

    def results(self, batch: Any) -> list[dict[str, Any]]:
        return [record for part in self.parts(batch) for record in records(part)]
