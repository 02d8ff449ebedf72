"""Processes that are started, stopped where they are, and killed; and what they said."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

_FOLDER = Path(__file__).parent


def script(name: str, *words: str) -> list[str]:
    """One of this folder's scripts."""
    return [sys.executable, str(_FOLDER / f"{name}.py"), *words]


def command(*words: str) -> list[str]:
    """halfrate itself."""
    return [sys.executable, "-m", "halfrate", *words]


def wait_until(what: str, seconds: float, done: "object") -> None:
    """Look again and again until `done()` is true."""
    assert callable(done)
    give_up = time.monotonic() + seconds
    while not done():
        if time.monotonic() >= give_up:
            raise TimeoutError(what)
        time.sleep(0.01)


class Process:
    """A process of ours, whose words go to a file. Ends with its `with` block."""

    def __init__(self, words: list[str], said: Path, env: Mapping[str, str] | None = None) -> None:
        self.words = words
        self.said = said
        self.started = time.monotonic()
        with said.open("ab") as file:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=file,
                env=None if env is None else dict(env),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self._process.poll()

    def line(self) -> str:
        """The next line that it prints."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode().strip()

    def result(self, seconds: float) -> tuple[int, str]:
        """Its exit code, and what it printed."""
        try:
            out, _ = self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{' '.join(self.words[2:])} does not end: {self.last_words()}") from None
        return self._process.returncode, out.decode()

    def last_words(self) -> str:
        return self.said.read_text(errors="replace")[-2000:]

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def kill(self) -> bool:
        """SIGKILL; whether it was that which ended it."""
        self.send(signal.SIGKILL)
        return self._process.wait() == -signal.SIGKILL

    def end(self) -> None:
        self.send(signal.SIGCONT)
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
