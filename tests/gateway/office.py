"""A gateway on a free port of this machine, two teams, and ways to call it."""

import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import msgspec
import openai
import uvicorn

from halfrate.gateway.anthropic_batches import BODY_BYTES
from halfrate.gateway.app import Gateway, Limits
from halfrate.gateway.logs import Log
from halfrate.gateway.openai_files import FILE_BYTES
from halfrate.gateway.openai_uploads import PART_BYTES
from halfrate.gateway.protocol import Http
from halfrate.service.home import Home
from halfrate.service.jobs import Service

PATIENCE = 20.0
"""Seconds until something that should have happened is given up."""


class MovedClock:
    """The machine's clock, and so many seconds more."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return time.time() + self.ahead

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


class Answer(msgspec.Struct):
    """A reply to a raw call."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.document["error"]


class Office:
    """Serves the gateway from a thread of this process. Use as a context manager.

    `key` is the team search's, `other_key` the team ads'.
    """

    def __init__(
        self,
        folder: Path,
        *,
        file_bytes: int = FILE_BYTES,
        part_bytes: int = PART_BYTES,
        messages_bytes: int = BODY_BYTES,
    ) -> None:
        self.root = folder / "home"
        self.clock = MovedClock()
        self.log = io.StringIO()
        self._file_bytes = file_bytes
        self._part_bytes = part_bytes
        self._messages_bytes = messages_bytes
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        stack = self._stack
        self.service = stack.enter_context(Service(Home(root=self.root), self.clock))
        self.key = self.service.keys.create("search", team="search")[1]
        self.other_key = self.service.keys.create("ads", team="ads")[1]
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.port: int = listener.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        limits = Limits(self._file_bytes, self._part_bytes, self._messages_bytes)
        gateway = Gateway(self.service, Log(self.clock, self.log), limits=limits)
        self.shelf = gateway.shelf
        config = uvicorn.Config(gateway.app, lifespan="on", log_config=None, access_log=False, http=Http)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), name="gateway")
        thread.start()

        def stop() -> None:
            server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive()

        stack.callback(stop)
        wait_for(lambda: server.started)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._stack.close()
        if kind is None:
            assert self.defects() == []

    def client(self, key: str = "") -> openai.OpenAI:
        """The official client, which hides no failure by trying again."""
        return openai.OpenAI(api_key=key or self.key, base_url=self.base_url, max_retries=0)

    def async_client(self, key: str = "") -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(api_key=key or self.key, base_url=self.base_url, max_retries=0)

    def call(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        key: str | None = None,
    ) -> Answer:
        """A call as its bytes are written. `key`: "" for none."""
        given = {**self.authorization(key), **(headers or {})}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, given)
            reply = connection.getresponse()
            return Answer(reply.status, dict(reply.getheaders()), reply.read())
        finally:
            connection.close()

    def post_form(
        self, path: str, body: bytes | Iterable[bytes], boundary: str = "line", key: str | None = None
    ) -> Answer:
        content_type = f"multipart/form-data; boundary={boundary}"
        return self.call("POST", path, body, {"content-type": content_type}, key=key)

    def authorization(self, key: str | None = None) -> dict[str, str]:
        key = self.key if key is None else key
        return {"authorization": f"Bearer {key}"} if key else {}

    def begin_post(self, path: str, length: int) -> socket.socket:
        """A connection on which the head of a form with `length` bytes has been sent, its boundary `line`."""
        head = [
            f"POST {path} HTTP/1.1",
            "host: gateway",
            *(f"{name}: {value}" for name, value in self.authorization().items()),
            "content-type: multipart/form-data; boundary=line",
            f"content-length: {length}",
        ]
        connection = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        return connection

    def arriving(self) -> list[Path]:
        return list((self.root / "gateway" / "incoming").iterdir())

    def kept(self) -> list[Path]:
        return list((self.root / "gateway" / "files").iterdir())

    def parts(self) -> list[Path]:
        return [path for path in (self.root / "gateway" / "parts").rglob("*") if path.is_file()]

    def defects(self) -> list[str]:
        """Lines of the log that tell of a failure of the gateway's own."""
        return [line for line in self.log.getvalue().splitlines() if json.loads(line)["event"] != "call"]

    def forgive(self) -> None:
        """Forget what was logged so far; else an office does not close on failures of the gateway's own."""
        self.log.seek(0)
        self.log.truncate()


def wait_for(happened: Callable[[], object]) -> None:
    """Until `happened()` is true."""
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def form_part(name: str, value: bytes, rest: str = "", boundary: str = "line") -> bytes:
    """One part of a form, with its boundary before it."""
    head = f'--{boundary}\r\ncontent-disposition: form-data; name="{name}"{rest}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def form(*parts: bytes, boundary: str = "line") -> bytes:
    return b"".join(parts) + f"--{boundary}--\r\n".encode()


def file_form(content: bytes, filename: str = "rows.jsonl", purpose: str = "batch") -> bytes:
    """A form as clients of the files API send it."""
    return form(
        form_part("purpose", purpose.encode()), form_part("file", content, f'; filename="{filename}"')
    )
