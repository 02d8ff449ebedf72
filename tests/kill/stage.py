"""Where the rounds are played: a provider, a line to it, a PostgreSQL server, and what is right."""

import contextlib
import http.client
import json
import os
import shutil
import socket
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Self

from halfrate.emulator import Emulator
from halfrate.service.drafts import Ask

from ..store.server import Server
from .processes import Process, command, script

MODELS = ("gpt-4.1-mini", "gpt-4.1-nano", "gpt-4o-mini", "gpt-4.1")
ROWS_A_MODEL = 12
ROWS = len(MODELS) * ROWS_A_MODEL
TIMING = {
    # Longer than a machine that is busy takes to hand a request to the provider.
    "HALFRATE_SETTLE": 2.0,
    "HALFRATE_POLL_FIRST": 0.05,
    "HALFRATE_POLL_MOST": 0.2,
    "HALFRATE_BACKOFF_FIRST": 0.05,
    "HALFRATE_QUOTA_WAIT": 0.1,
}
FAMILIES = ("openai", "anthropic")


class Provider:
    """The providers in a process of their own, and their own routes. `speed`: how fast its hours pass."""

    def __init__(self, folder: Path, speed: float = 1.0) -> None:
        self.hours = (str(speed), str(time.time()))
        said = folder / f"provider-{speed}.log"
        self.process = Process(script("provider", "3", *self.hours), said)
        self.url = self.process.line()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.end()

    def meter(self) -> dict[str, Any]:
        return json.loads(self._ask("GET", "/meter?ids=1"))

    def reset(self) -> None:
        self._ask("POST", "/emulator/reset")

    def _ask(self, method: str, path: str) -> bytes:
        with closing(http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=30)) as connection:
            connection.request(method, path, b"{}" if method == "POST" else None)
            return connection.getresponse().read()


class Stage:
    """Made once, used by many rounds. Use as a context manager."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._server: Server | None = None
        self._providers: dict[float, Provider] = {}
        self._right: dict[tuple[str, int], bytes] = {}

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="halfrate-kill-"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def server(self) -> Server:
        if self._server is None:
            self._server = self._stack.enter_context(Server())
        return self._server

    def provider(self, speed: float = 1.0) -> Provider:
        if speed not in self._providers:
            self._providers[speed] = self._stack.enter_context(Provider(self.folder, speed))
        return self._providers[speed]

    def environment(self, home: Path, url: str, speed: float = 1.0) -> dict[str, str]:
        """What a halfrate is told that is to use the providers at `url`."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("HALFRATE_")},
            **{name: str(seconds * speed) for name, seconds in TIMING.items()},
            "HALFRATE_HOME": str(home),
            "OPENAI_BASE_URL": Emulator.openai_base_url(url),
            "OPENAI_API_KEY": "key-1",
            "ANTHROPIC_BASE_URL": Emulator.anthropic_base_url(url),
            "ANTHROPIC_API_KEY": "key-1",
            "NO_PROXY": "127.0.0.1",
        }

    # ------------------------------------------------------------ jobs

    def input(self, family: str, number: int) -> Path:
        """Job `number`'s input: for OpenAI a batch of its own for each model, for Anthropic one batch."""
        path = self.folder / f"{family}-{number}.jsonl"
        if path.exists():
            return path
        lines: list[Any] = []
        for row in range(ROWS):
            question = f"Job {number}: what is {row} plus {row}?"
            body = {"model": MODELS[row // ROWS_A_MODEL], "messages": [{"role": "user", "content": question}]}
            one = {"custom_id": f"r{row}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            lines.append(one if family == "openai" else {"n": row, "q": question})
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    def words(self, family: str, number: int) -> list[str]:
        """Arguments of `halfrate run` for such a job."""
        table = str(self.input(family, number))
        return (
            [table]
            if family == "openai"
            else [table, "--model", "anthropic/claude-haiku-4-5", "--prompt", "{q}"]
        )

    def ask(self, family: str, number: int, output: Path) -> Ask:
        """The same, as the library puts it."""
        table = self.input(family, number)
        if family == "openai":
            return Ask(input=table, output=output)
        return Ask(input=table, model="anthropic/claude-haiku-4-5", prompt="{q}", output=output)

    def right(self, family: str, number: int) -> bytes:
        """The output of an undisturbed run."""
        key = (family, number)
        if key not in self._right:
            home = Path(tempfile.mkdtemp(prefix="undisturbed-", dir=self.folder))
            out = home / "out.jsonl"
            words = command("run", *self.words(family, number), "-o", str(out), "--yes")
            env = self.environment(home, self.provider().url)
            with Process(words, home / "said", env) as process:
                code, _ = process.result(60)
                assert code == 0, process.last_words()
            self._right[key] = out.read_bytes()
            assert self._right[key].count(b"\n") == ROWS
            shutil.rmtree(home)
            self.provider().reset()
        return self._right[key]


class Line:
    """A line to the provider, as a process of its own, at a port that stays the same."""

    def __init__(self, provider: Provider, folder: Path) -> None:
        self._there = provider.url.rpartition(":")[2]
        self._said = folder / "line.log"
        # Bound here and listened at there: while the line is cut, nobody else is given the port.
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._held.bind(("127.0.0.1", 0))
        self._port = str(self._held.getsockname()[1])
        self._process = self._listening()
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.end()
        self._held.close()

    def cut(self) -> None:
        self._process.end()

    def mend(self) -> None:
        self._process = self._listening()

    def _listening(self) -> Process:
        process = Process(script("line", self._port, self._there), self._said)
        assert process.line() == "listening", process.last_words()
        return process


def written(path: Path) -> bytes:
    """What a file holds; nothing where there is none."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return b""
