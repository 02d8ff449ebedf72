"""Clocks, the public face, the server's edges, multipart."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

import halfrate.emulator as face
from halfrate.emulator import Emulator, ManualClock, Pace, RealClock, Request, ScaledClock, run_server
from halfrate.emulator._multipart import FormReader

from .driver import OPENAI


def test_the_public_face_is_sorted_and_complete() -> None:
    assert face.__all__ == sorted(face.__all__, key=lambda name: (not name.isupper(), name))
    assert all(hasattr(face, name) for name in face.__all__)
    assert not hasattr(face, "nothing")


def test_a_world_without_sockets_does_not_import_aiohttp() -> None:
    code = "import sys, halfrate.emulator; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_clocks() -> None:
    fast = ScaledClock(1_000_000, start=0)
    first = fast.now()
    assert fast.now() > first
    fast.advance(10**9)
    assert fast.now() > 10**9
    manual = ManualClock(5)
    manual.advance(2.5)
    assert manual.now() == manual.now() == 7.5
    for clock in (manual, RealClock()):
        with pytest.raises(ValueError, match="forward"):
            clock.advance(-1)
    with pytest.raises(ValueError, match="speed"):
        ScaledClock(0)


@given(st.binary(max_size=300), st.integers(1, 40))
def test_multipart_survives_any_content_in_any_chunks(
    tmp_path_factory: Any, content: bytes, size: int
) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "part"
    body = (
        b'preamble\r\n--mark\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--mark\r\nContent-Disposition: form-data; name="file"; filename="a b.jsonl"\r\n\r\n'
        + content
        + b"\r\n--mark--\r\nafterwards"
    )

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    reader = FormReader('multipart/form-data; boundary="mark"', "file", lambda: path, 10**6)
    form = asyncio.run(reader.read(chunks()))
    assert (form.fields, form.filename, form.size) == ({"purpose": "batch"}, "a b.jsonl", len(content))
    assert path.read_bytes() == content


async def _served() -> tuple[int, Any]:
    ready: asyncio.Queue[str] = asyncio.Queue()
    with Emulator(pace=Pace.instant()) as emulator:
        server = asyncio.create_task(run_server(emulator, ready=ready.put_nowait))
        url = await ready.get()
        async with aiohttp.ClientSession() as session, session.get(f"{url}/meter") as answer:
            found = answer.status, await answer.json()
        server.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await server
    return found


def test_run_server_serves_until_cancelled() -> None:
    status, meter = asyncio.run(_served())
    assert (status, meter["rows_received"]) == (200, 0)


def test_a_port_in_use_is_an_os_error() -> None:
    with Emulator() as first, Emulator() as second, first.running() as url:
        port = int(url.rsplit(":", 1)[1])
        with pytest.raises(OSError, match="address already in use"), second.running(port=port):
            pass


def test_closing_removes_the_files() -> None:
    emulator = Emulator()
    directory = emulator._spool._directory
    assert directory.exists()
    emulator.close()
    assert not directory.exists()


def test_headers_carry_a_request_id() -> None:
    with Emulator(clock=ManualClock()) as emulator:
        answer = asyncio.run(emulator.respond(Request("GET", "/v1/batches", headers=OPENAI)))
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.json()["data"] == []
