"""Drives the Gemini API of an emulator without sockets."""

from typing import Any

from halfrate.emulator import Response

from .driver import Driver, jsonl, lines_of

KEY = {"x-goog-api-key": "key-1"}
FLASH, EMBEDDER = "gemini-2.5-flash", "gemini-embedding-001"


def ask(text: str, **more: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": text}]}], **more}


def keyed(count: int) -> list[dict[str, Any]]:
    return [{"key": f"r-{n}", "request": ask(f"Where is order {n}?")} for n in range(count)]


class Gemini:
    """Sends requests to one emulator's Gemini surface; every helper asserts the status it expects."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.clock = driver.clock
        self.emulator = driver.emulator

    def send(self, method: str, path: str, body: object = b"", **more: Any) -> Response:
        more.setdefault("headers", KEY)
        return self.driver.send(method, f"/gemini{path}", body, **more)

    def json(self, method: str, path: str, body: object = b"", **more: Any) -> Any:
        response = self.send(method, path, body, **more)
        assert response.status == 200, response.read()
        return response.json()

    def start(self, size: int, mime: str = "application/jsonl", **described: str) -> Response:
        headers = {
            **KEY,
            "host": "emulator.test",
            "x-goog-upload-protocol": "resumable",
            "x-goog-upload-command": "start",
            "x-goog-upload-header-content-length": str(size),
            "x-goog-upload-header-content-type": mime,
        }
        return self.send("POST", "/upload/v1beta/files", {"file": described}, headers=headers)

    def chunk(self, query: str, data: bytes, offset: int = 0, command: str = "upload, finalize") -> Response:
        """One piece, without a key."""
        headers = {"x-goog-upload-offset": str(offset), "x-goog-upload-command": command}
        return self.send("POST", "/upload/v1beta/files", data, headers=headers, query=query)

    def upload(self, data: bytes, **described: str) -> Any:
        started = self.start(len(data), **described)
        assert started.status == 200, started.read()
        query = started.headers["x-goog-upload-url"].partition("?")[2]
        response = self.chunk(query, data)
        assert response.status == 200, response.read()
        assert response.headers["x-goog-upload-status"] == "final"
        return response.json()["file"]

    def create(self, source: Any, model: str = FLASH, **more: Any) -> Response:
        method = "asyncBatchEmbedContent" if model == EMBEDDER else "batchGenerateContent"
        body = {"batch": {"displayName": "job", "inputConfig": source, **more}}
        return self.send("POST", f"/v1beta/models/{model}:{method}", body)

    def batch(self, rows: list[dict[str, Any]], **more: Any) -> Any:
        """A batch over a file of these rows."""
        response = self.create({"fileName": self.upload(jsonl(rows))["name"]}, **more)
        assert response.status == 200, response.read()
        return response.json()

    def look(self, batch: Any) -> Any:
        return self.json("GET", f"/v1beta/{batch['name']}")

    def results(self, batch: Any) -> list[dict[str, Any]]:
        return lines_of(self.content(self.look(batch)["response"]["responsesFile"]))

    def content(self, name: str) -> bytes:
        response = self.send("GET", f"/v1beta/{name}:download", query="alt=media")
        assert response.status == 200, response.read()
        return response.read()

    def meter(self) -> dict[str, Any]:
        return self.driver.meter()
