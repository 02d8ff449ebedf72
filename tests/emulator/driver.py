"""Drives an emulator without sockets: the shortest way to a batch, for tests of the world in virtual time."""

import asyncio
from typing import Any

import msgspec

from halfrate.emulator import Emulator, ManualClock, Request, Response

BOUNDARY = "----boundary"
OPENAI = {"authorization": "Bearer key-1"}
ANTHROPIC = {"x-api-key": "key-1", "anthropic-version": "2023-06-01"}
CHAT = "/v1/chat/completions"
GPT, CLAUDE = "gpt-4.1-mini", "claude-haiku-4-5"


def chat_body(text: str, model: str = GPT, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def row(custom_id: str, body: dict[str, Any], url: str = CHAT) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def chat_rows(count: int) -> list[dict[str, Any]]:
    return [row(f"r-{n}", chat_body(f"Where is order {n}?")) for n in range(count)]


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(msgspec.json.encode(one) + b"\n" for one in rows)


def claude_params(text: str, **more: Any) -> dict[str, Any]:
    return {"model": CLAUDE, "max_tokens": 64, "messages": [{"role": "user", "content": text}], **more}


def claude_rows(count: int) -> list[dict[str, Any]]:
    return [{"custom_id": f"a-{n}", "params": claude_params(f"Hello {n}")} for n in range(count)]


def lines_of(data: bytes) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in data.split(b"\n") if line.strip()]


class Driver:
    """Sends requests to one emulator; every helper asserts the status it expects."""

    def __init__(self, emulator: Emulator, clock: ManualClock) -> None:
        self.emulator = emulator
        self.clock = clock

    def send(
        self,
        method: str,
        path: str,
        body: object = b"",
        headers: dict[str, str] | None = None,
        query: str = "",
    ) -> Response:
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        request = Request(method, path, query, OPENAI if headers is None else headers, content)
        return asyncio.run(self.emulator.respond(request))

    def json(self, method: str, path: str, body: object = b"", **more: Any) -> Any:
        response = self.send(method, path, body, **more)
        assert response.status == 200, response.read()
        return response.json()

    def upload(self, content: bytes, purpose: str = "batch", **fields: str) -> Any:
        parts = [
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in {"purpose": purpose, **fields}.items()
        ]
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n'
        parts += [head.encode(), b"Content-Type: application/octet-stream\r\n\r\n", content]
        parts.append(f"\r\n--{BOUNDARY}--\r\n".encode())
        headers = {**OPENAI, "content-type": f"multipart/form-data; boundary={BOUNDARY}"}
        return self.json("POST", "/v1/files", b"".join(parts), headers=headers)

    def create(self, file_id: str, endpoint: str = CHAT, **more: Any) -> Response:
        body = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": "24h", **more}
        return self.send("POST", "/v1/batches", body)

    def batch(self, rows: list[dict[str, Any]], endpoint: str = CHAT, **more: Any) -> Any:
        response = self.create(self.upload(jsonl(rows))["id"], endpoint, **more)
        assert response.status == 200, response.read()
        return response.json()

    def look(self, batch: Any) -> Any:
        return self.json("GET", f"/v1/batches/{batch['id']}")

    def content(self, file_id: str | None) -> bytes:
        if file_id is None:
            return b""
        response = self.send("GET", f"/v1/files/{file_id}/content")
        assert response.status == 200
        return response.read()

    def results(self, batch: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """(output lines, error lines) of an OpenAI batch."""
        output, errors = self.content(batch["output_file_id"]), self.content(batch["error_file_id"])
        return lines_of(output), lines_of(errors)

    def message_batch(self, rows: list[dict[str, Any]], headers: dict[str, str] | None = None) -> Any:
        return self.json("POST", "/v1/messages/batches", {"requests": rows}, headers=headers or ANTHROPIC)

    def look_at_messages(self, batch: Any) -> Any:
        return self.json("GET", f"/v1/messages/batches/{batch['id']}", headers=ANTHROPIC)

    def message_results(self, batch: Any) -> list[dict[str, Any]]:
        response = self.send("GET", f"/v1/messages/batches/{batch['id']}/results", headers=ANTHROPIC)
        assert response.status == 200, response.read()
        return lines_of(response.read())

    def meter(self) -> dict[str, Any]:
        return self.json("GET", "/meter", query="ids=1")
