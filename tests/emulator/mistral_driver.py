"""Drives the emulator's Mistral surface without sockets."""

from typing import Any

from halfrate.emulator import Response

from .driver import BOUNDARY, Driver, jsonl, lines_of

MODEL = "mistral-small-latest"
CHAT = "/v1/chat/completions"
JOBS = "/mistral/v1/batch/jobs"
ENDED = {"SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLED"}


def form(content: bytes, **fields: str) -> tuple[bytes, dict[str, str]]:
    """(body, headers) of a multipart upload."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n'
    body = b"".join([*parts, head.encode(), content, f"\r\n--{BOUNDARY}--\r\n".encode()])
    return body, {
        "authorization": "Bearer key-1",
        "content-type": f"multipart/form-data; boundary={BOUNDARY}",
    }


def body(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def rows(count: int) -> list[dict[str, Any]]:
    return [{"custom_id": f"r-{n}", "body": body(f"Where is order {n}?")} for n in range(count)]


class MistralDriver:
    """Every helper asserts the status it expects."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    def upload(self, content: bytes) -> Any:
        sent, headers = form(content, purpose="batch")
        return self.driver.json("POST", "/mistral/v1/files", sent, headers=headers)

    def create(self, **body: Any) -> Response:
        sent = {"endpoint": CHAT, "model": MODEL, **body}
        return self.driver.send("POST", JOBS, sent)

    def job(self, given: list[dict[str, Any]], **more: Any) -> Any:
        response = self.create(input_files=[self.upload(jsonl(given))["id"]], **more)
        assert response.status == 200, response.read()
        return response.json()

    def look(self, job: Any, query: str = "") -> Any:
        return self.driver.json("GET", f"{JOBS}/{job['id']}", query=query)

    def content(self, file_id: str | None) -> bytes:
        if file_id is None:
            return b""
        response = self.driver.send("GET", f"/mistral/v1/files/{file_id}/content")
        assert response.status == 200
        return response.read()

    def results(self, job: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """(output lines, error lines)"""
        return lines_of(self.content(job["output_file"])), lines_of(self.content(job["error_file"]))
