"""The command as its users start it, against an emulator: in this process where that will do, else in its own."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import msgspec
import pytest

from halfrate.cli.app import main
from halfrate.emulator import Emulator, Limits, Pace, ScaledClock

MODELS = {"openai": "openai/gpt-4.1-mini", "anthropic": "anthropic/claude-haiku-4-5"}
KEY = "sk-marked-3f9a6c1e77d24b58"


class Ran(msgspec.Struct, frozen=True):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def object(self) -> dict[str, Any]:
        """What --json printed: one object, on one line, and nothing else."""
        assert self.out.count("\n") == 1, self.out
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


class Shell:
    """A folder to stand in, an environment, an emulator and its meter."""

    def __init__(self, folder: Path, emulator: Emulator, clock: ScaledClock, url: str) -> None:
        self.folder = folder
        self.emulator = emulator
        self.clock = clock
        self.url = url
        self.home = folder / "home"
        self.env: dict[str, str] = {
            "HALFRATE_HOME": str(self.home),
            "HALFRATE_SETTLE": "0.5",
            "HALFRATE_POLL_FIRST": "0.02",
            "HALFRATE_POLL_MOST": "0.1",
            "HALFRATE_BACKOFF_FIRST": "0.02",
            "HALFRATE_QUOTA_WAIT": "0.05",
            "OPENAI_BASE_URL": emulator.openai_base_url(url),
            "OPENAI_API_KEY": KEY,
            "ANTHROPIC_BASE_URL": emulator.anthropic_base_url(url),
            "ANTHROPIC_API_KEY": KEY,
        }

    def file(self, name: str, content: str | bytes) -> str:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def table(self, rows: int = 6, name: str = "rows.jsonl") -> str:
        return self.file(
            name, "".join(json.dumps({"n": n, "q": f"What is {n}?"}) + "\n" for n in range(rows))
        )

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def rows(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name).read_text().split("\n") if line]

    def meter(self) -> dict[str, Any]:
        return self.emulator.meter.snapshot(ids=True)

    def hurry(self) -> None:
        """Let whatever is held up at the provider come to its end."""
        self.emulator.clear_faults()
        self.clock.advance(3600)

    def untouched(self) -> bool:
        """Whether nothing at all reached the provider."""
        meter = self.meter()
        return not any(meter[name] for name in ("rows_received", "creates_received", "files_stored"))

    def __call__(self, *words: str) -> Ran:
        """Run the command in this process."""
        with pytest.MonkeyPatch.context() as patch, _captured() as (out, err):
            for name, value in self.env.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["halfrate", *words])
            patch.chdir(self.folder)
            with pytest.raises(SystemExit) as ended:
                main()
        code = ended.value.code
        assert isinstance(code, int)
        assert "Traceback" not in err.getvalue()
        return Ran(code, out.getvalue(), err.getvalue())

    def run(self, *words: str, provider: str = "openai", prompt: str = "{q}") -> Ran:
        """`halfrate run`, with what nearly every run needs."""
        return self("run", *words, "--model", MODELS[provider], "--prompt", prompt)

    def start(
        self, *words: str, env: Mapping[str, str] | None = None, **options: Any
    ) -> "subprocess.Popen[str]":
        """Start the command in a process of its own."""
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "cwd": self.folder,
            **options,
        }
        return subprocess.Popen(
            [sys.executable, "-m", "halfrate", *words],
            env={**os.environ, **self.env, **(env or {})},
            **options,
        )

    def finish(self, process: "subprocess.Popen[str]", timeout: float = 25.0, **sent: Any) -> Ran:
        try:
            out, err = process.communicate(timeout=timeout, **sent)
        finally:
            process.kill()
        assert "Traceback" not in (err or ""), err
        return Ran(process.returncode, out or "", err or "")


@contextmanager
def _captured() -> Generator[tuple[Any, Any]]:
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        yield out, err


@contextmanager
def open_shell(
    folder: Path, *faults: str, pace: Pace | None = None, limits: Limits | None = None
) -> Generator[Shell]:
    clock = ScaledClock()
    with (
        Emulator(
            seed=1, clock=clock, faults=list(faults), pace=pace or Pace.instant(), limits=limits or Limits()
        ) as emulator,
        emulator.running() as url,
    ):
        yield Shell(folder, emulator, clock, url)
