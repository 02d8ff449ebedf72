"""The whole gateway in a thread of its own, with an emulator behind it: what `halfrate serve` runs."""

import asyncio
import contextlib
import io
import json
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from openai.types import Batch

from halfrate.base.clock import SystemClock
from halfrate.core.keys import Key
from halfrate.core.surface import StoredFile, SurfaceBatch
from halfrate.emulator import Emulator, Pace, ScaledClock
from halfrate.gateway.logs import Log
from halfrate.gateway.server import Server
from halfrate.service.batches import BatchAsk, Keeper
from halfrate.service.home import Home, Timing
from halfrate.service.jobs import Service
from halfrate.service.shelf import Shelf
from halfrate.store.surfaces import Held

from ..service.providers import VARIABLES, write_settings

QUICK = Timing(settle=0.5, poll_first=0.02, poll_most=0.1, backoff_first=0.02, quota_wait=0.05, gather=0.2)
SLOW = Pace(validate=0.0, queue=0.0, per_1000_rows=10_000_000.0, finalize=0.0, cancel=0.0)
ENDED = {"completed", "failed", "expired", "cancelled"}
PROVIDER_KEY = "sk-provider-7f3a9c1e55d0"


class House:
    """A gateway that runs, its callers' keys, and the meter of what is behind it."""

    def __init__(self, emulator: Emulator, clock: ScaledClock, service: Service, server: Server) -> None:
        self.emulator = emulator
        self.clock = clock
        self.service = service
        self.server = server
        self.log = io.StringIO()
        self._clients: list[openai.OpenAI | anthropic.Anthropic] = []

    def close(self) -> None:
        """Let go of all clients: an error that a test keeps would keep its client's lines as well."""
        for client in self._clients:
            client.close()

    def key(self, name: str = "me", **terms: Any) -> tuple[Key, str]:
        return self.service.keys.create(name, **terms)

    def client(self, key: str, **options: Any) -> openai.OpenAI:
        client = openai.OpenAI(base_url=f"{self.server.url}/v1", api_key=key, max_retries=0, **options)
        self._clients.append(client)
        return client

    def messages(self, key: str, **options: Any) -> anthropic.Anthropic:
        """Anthropic's own client."""
        client = anthropic.Anthropic(base_url=self.server.url, api_key=key, max_retries=0, **options)
        self._clients.append(client)
        return client

    def meter(self) -> dict[str, Any]:
        return self.emulator.meter.snapshot(ids=True)

    def paid_twice(self) -> int:
        """Rows that the meter billed more than once."""
        return self.meter()["fingerprints_billed_again"]

    def stored(self, key: Key, text: str, lines: Iterable[Any]) -> StoredFile:
        """A file that a caller has uploaded, as the store knows it."""
        file = self.service.surfaces.file(key.team, upload(self.client(text), lines))
        assert file is not None
        return file


class ByHand:
    """A keeper of batches whose steps a test takes itself."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.shelf = Shelf(service.home, service.surfaces, service.clock)
        self.keeper = Keeper(service, self.shelf)

    def create(self, key: Key, file: StoredFile) -> SurfaceBatch:
        batch = self.keeper.create(key, BatchAsk(file=file, url="/v1/chat/completions"))
        assert batch is not None
        return batch

    def claim(self, ahead: float = 1.0, owner: str = "") -> Held:
        """The one batch that is due in so many seconds."""
        now = self.service.clock.now()
        (held,) = self.service.surfaces.claim_batches(owner or self.service.owner, now + ahead, 60.0)
        return held

    def step(self, ahead: float = 1.0) -> SurfaceBatch:
        """Do what is next for that batch; the batch as it is then."""
        held = self.claim(ahead)
        self.keeper.step(held)
        assert held.batch.surface != "calls"
        batch = self.keeper.find(held.batch.team, held.batch.surface, held.batch.id)
        assert batch is not None
        return batch


@contextmanager
def by_hand(at: House) -> Generator[ByHand]:
    """A keeper in place of a gateway, which ends."""
    end(at.server)
    with Service(at.service.home) as service:
        yield ByHand(service)


@contextmanager
def open_house(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *faults: str,
    pace: Pace | None = None,
    database: str | None = None,
    depot: str | None = None,
    s3: str | None = None,
    timing: Timing = QUICK,
) -> Generator[House]:
    clock = ScaledClock()
    with (
        Emulator(seed=1, clock=clock, faults=list(faults), pace=pace or Pace.instant()) as emulator,
        emulator.running() as url,
    ):
        for variables in (*emulator.environment(url).values(), VARIABLES):
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
        if s3 is not None:
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3)
        monkeypatch.setenv("OPENAI_API_KEY", PROVIDER_KEY)
        monkeypatch.setenv("HALFRATE_SETTINGS", str(write_settings(folder)))
        with (
            Service(Home(root=folder / "home", timing=timing, server=database, depot=depot)) as service,
            running(service) as (server, log),
        ):
            house = House(emulator, clock, service, server)
            house.log = log
            with contextlib.closing(house):
                yield house


@contextmanager
def running(service: Service) -> Generator[tuple[Server, io.StringIO]]:
    """The gateway over a service, in a thread, until the end of the block."""
    text = io.StringIO()
    server = Server(service, Log(SystemClock(), text), port=0)
    thread = threading.Thread(target=lambda: asyncio.run(server.run()), name=_thread_of(server))
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive(), text.getvalue()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield server, text
    finally:
        end(server)


def end(server: Server) -> None:
    """Stop a gateway that is `running`, and wait until nothing of it goes on."""
    server.stop()
    for thread in threading.enumerate():
        if thread.name == _thread_of(server):
            thread.join(30)
            assert not thread.is_alive()


def _thread_of(server: Server) -> str:
    return f"gateway at {server.url}"


def until(happened: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def until_sent(at: House) -> None:
    deadline = time.monotonic() + 20
    while not at.meter()["creates_received"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ledger_is_meter(at: House) -> None:
    (line,) = at.service.costs(by=())
    assert line.cost == int(at.meter()["picodollars"])
    assert not at.paid_twice()


def chat(model: str, count: int, *, url: str = "/v1/chat/completions") -> list[dict[str, Any]]:
    """Lines of a batch file."""
    return [
        {
            "custom_id": f"row {number}",
            "method": "POST",
            "url": url,
            "body": {
                "model": model,
                "messages": [{"role": "user", "content": f"What is {number} plus {number}?"}],
                "max_tokens": 20,
            },
        }
        for number in range(count)
    ]


def upload(client: openai.OpenAI, lines: Iterable[Any]) -> str:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    return client.files.create(file=("rows.jsonl", text.encode()), purpose="batch").id


def make(client: openai.OpenAI, lines: Iterable[Any], **options: Any) -> Batch:
    options.setdefault("endpoint", "/v1/chat/completions")
    options.setdefault("completion_window", "24h")
    return client.batches.create(input_file_id=upload(client, lines), **options)


def wait(client: openai.OpenAI, batch: Batch, *, seconds: float = 30.0) -> Batch:
    """The batch at its end."""
    deadline = time.monotonic() + seconds
    while batch.status not in ENDED:
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    return batch


def lines_of(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    """What a file of results holds."""
    if file_id is None:
        return []
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]
