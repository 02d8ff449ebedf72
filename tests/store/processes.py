"""Starting `child.py`, and ending it whatever happens."""

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_CHILD = Path(__file__).with_name("child.py")


class Child:
    """A process of ours. It says "ready" and waits for `go()`."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(_CHILD), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> None:
        assert self.line() == "ready"

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def rest(self) -> list[str]:
        """What it says from here on, until it ends by itself."""
        assert self._process.stdout is not None
        lines = self._process.stdout.read().splitlines()
        assert self._process.wait(60) == 0
        return lines

    def kill(self) -> list[str]:
        """SIGKILL; what it had said by then."""
        self._process.kill()
        assert self._process.stdout is not None
        text = self._process.stdout.read()
        return text[: text.rfind("\n") + 1].splitlines()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


@contextmanager
def children(*words: tuple[str, ...]) -> Generator[list[Child]]:
    """Processes that are all ready."""
    started: list[Child] = []
    try:
        for each in words:
            started.append(Child(each))  # noqa: PERF401  # what has started must be ended
        for child in started:
            child.ready()
        yield started
    finally:
        for child in started:
            child.end()
