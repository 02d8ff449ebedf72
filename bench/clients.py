"""The clients that are compared, and how each is started."""

import os
import subprocess
import sys
from pathlib import Path

from .rows import Input

ROOT = Path(__file__).resolve().parent.parent
PATHS = ("openai", "anthropic")
CLIENTS = ("floor", "naive", "halfrate")

_HALFRATE = Path(sys.executable).parent / "halfrate"
_HALFRATE_OPTIONS = {
    "openai": ("--model", "openai/gpt-4.1-mini"),
    "anthropic": ("--model", "anthropic/claude-haiku-4-5", "--max-tokens", "256"),
}


def halfrate_missing() -> str | None:
    """Why `halfrate run` cannot be measured, if it cannot."""
    try:
        asked = subprocess.run([_HALFRATE, "run", "--help"], capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    if asked.returncode == 0:
        return None
    return (asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"])[-1]


def command(client: str, path: str, source: Input, output: Path) -> list[str]:
    if client == "halfrate":
        given = [str(_HALFRATE), "run", str(source.rows), *_HALFRATE_OPTIONS[path]]
        return [*given, "--prompt", "{text}", "-o", str(output), "--yes", "--json"]
    return [sys.executable, "-m", f"bench.{client}_{path}", str(source.rows), str(output)]


def environment(port: int, home: Path) -> dict[str, str]:
    """Every client is pointed at the fake, and halfrate keeps its state in `home`."""
    base = f"http://127.0.0.1:{port}"
    # An installed program has its byte code beside it; a setting of the developer's must not make it compile anew.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {
        **inherited,
        "OPENAI_BASE_URL": f"{base}/v1",
        "OPENAI_API_KEY": "bench",
        "ANTHROPIC_BASE_URL": base,
        "ANTHROPIC_API_KEY": "bench",
        "HALFRATE_HOME": str(home),
        "NO_PROXY": "127.0.0.1",
    }
