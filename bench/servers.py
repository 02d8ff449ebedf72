"""Servers to measure, each in a process of its own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
_PATIENCE: Final = 120.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def nginx() -> str | None:
    """The program, where there is one."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def pinned(core: int | None) -> list[str]:
    """What stands before a command that is to run on one core alone."""
    return [] if core is None else ["taskset", "-c", str(core)]


@contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], port: int, log: Path, core: int | None = None
) -> Generator[int]:
    """A server, once it listens; its pid."""
    with log.open("wb") as errors:
        server = subprocess.Popen([*pinned(core), *command], env=environment, stderr=errors, stdout=errors)
        try:
            end = time.monotonic() + _PATIENCE
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if server.poll() is not None or time.monotonic() > end:
                        raise SystemExit(f"bench: {command[0]} did not start: {log.read_text()}") from None
                    time.sleep(0.05)
            yield server.pid
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(40)


@contextmanager
def gateway(
    folder: Path, more: Mapping[str, str] | None = None, core: int | None = None
) -> Generator[tuple[int, int, str]]:
    """`halfrate serve` over a home of its own: its pid, its port, and a key to it."""
    environment = {
        **os.environ,
        **(more or {}),
        "PYTHONPATH": str(ROOT / "src"),
        "HALFRATE_HOME": str(folder / "home"),
    }
    command = [sys.executable, "-m", "halfrate"]
    made = subprocess.run(
        [*command, "keys", "create", "bench"], env=environment, check=True, capture_output=True, text=True
    )
    port = free_port()
    serve = [*command, "serve", "--port", str(port), "--quiet"]
    with running(serve, environment, port, folder / "serve.log", core) as pid:
        yield pid, port, made.stdout.strip()
