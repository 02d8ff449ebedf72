"""Logs as somebody would have them in a folder, and what is read of them."""

import gzip
import json
from pathlib import Path
from typing import Any

from halfrate.core.audit_call import Call
from halfrate.usage.reading import UsageLog


def read(path: Path) -> list[Call]:
    return [call for block in UsageLog(path).blocks() for call in block]


def lines(folder: Path, *rows: Any, name: str = "log.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def document(folder: Path, value: Any, name: str = "log.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(value, indent=1))
    return path


def table(folder: Path, text: str, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def packed(path: Path) -> Path:
    found = path.with_name(path.name + ".gz")
    found.write_bytes(gzip.compress(path.read_bytes()))
    return found
