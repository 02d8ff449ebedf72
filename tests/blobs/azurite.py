"""Azure Blob Storage, for tests: Azurite, Microsoft's emulator, where there is one.

It is a program for node, which nothing here needs. `azurite-blob` is looked for at the place that the variable AZURITE
names, or on PATH; where there is none, tests of it are skipped.
"""

import base64
import hashlib
import hmac
import http.client
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

ACCOUNT = "halfratetests"
KEY = base64.b64encode(b"a key of the tests, and no secret").decode()
MISSING = "there is no azurite-blob: set AZURITE to where it is, or put it on PATH"


def program() -> str | None:
    """Where Azurite is, if it is here."""
    named = os.environ.get("AZURITE")
    return named or shutil.which("azurite-blob")


class Azurite:
    """One that runs."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.environment = {
            "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{port}/{ACCOUNT}",
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
        }

    def make(self, container: str) -> None:
        """Make a container, unless it is there: object_store has no call for that."""
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
        signed = "\n".join(f"{name}:{value}" for name, value in headers.items())
        # A method, eleven headers that are not sent, and what is signed of the rest.
        unsent = "\n" * 12
        text = f"PUT{unsent}{signed}\n/{ACCOUNT}/{ACCOUNT}/{container}\nrestype:container"
        digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
        headers["authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
        status = self._ask(
            "PUT", f"/{ACCOUNT}/{container}?restype=container", {**headers, "content-length": "0"}
        )
        assert status in {201, 409}, status

    def answers(self) -> bool:
        try:
            return self._ask("GET", "/", {}) > 0
        except OSError:
            return False

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request(method, path, headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()


@contextmanager
def azurite(folder: Path) -> Generator[Azurite]:
    """Azurite at work, which keeps all in memory; its log is in `folder`."""
    found = program()
    assert found is not None, MISSING
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    place = ["--blobHost", "127.0.0.1", "--blobPort", str(port)]
    # object_store may speak a version that Azurite has not heard of.
    quiet = ["--inMemoryPersistence", "--silent", "--skipApiVersionCheck", "--disableTelemetry"]
    environment = {**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [found, *place, *quiet], env=environment, stdout=log, stderr=log, cwd=folder
        )
    try:
        made = Azurite(port)
        deadline = time.monotonic() + 60
        while not made.answers():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield made
    finally:
        process.terminate()
        process.wait(30)
