"""Realtime runs against the emulator in virtual time: the real adapters, no sockets, no waiting."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from halfrate.base.errors import HELD_UP, UNREACHABLE, OutcomeUnknown, Refused
from halfrate.base.types import Endpoint
from halfrate.core.pacing import Pacing
from halfrate.emulator import Emulator, Limits, Pace, Request
from halfrate.engine.realtime import Patience, Realtime, Tally
from halfrate.providers.answers import Answer
from halfrate.providers.anthropic import Anthropic
from halfrate.providers.base import Account
from halfrate.providers.http import Http
from halfrate.providers.openai import OpenAI
from halfrate.rows.journal import Journal

from ..simulation.machine import EPOCH, VirtualLoop
from .made import ENDPOINTS, MODELS, PREFIX, attempt

_R = TypeVar("_R")


class Time:
    """The loop's time, as a clock of halfrate's and of the emulator's."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()

    def now(self) -> float:
        return EPOCH + self.loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


class VirtualHttp(Http):
    """Calls reach the emulator at once, and are answered when it says."""

    def __init__(self, base_url: str, headers: dict[str, str], title: str, world: "World") -> None:
        super().__init__(base_url, headers, title)
        self._world = world

    async def call(
        self,
        path: str,
        body: bytes,
        *,
        headers: Mapping[str, str],
        keep: Sequence[str],
        timeout: float,
        in_time: Callable[[], bool],
    ) -> Answer:
        world = self._world
        if world.unreachable():
            raise Refused("OpenAI cannot be reached", code=UNREACHABLE)
        if not in_time():
            raise Refused("held up", code=HELD_UP)
        now = world.time.now()
        world.left.append(now)
        names = {name.lower(): value for name, value in {**self._headers, **headers}.items()}
        response = await world.emulator.respond(Request("POST", self._path + path, "", names, body))
        delivery = response.delivery
        seconds = delivery.work_seconds + delivery.hold_seconds
        await world.time.sleep(min(seconds, timeout))
        if seconds > timeout:
            raise OutcomeUnknown("timed out")
        if delivery.drop or delivery.truncate_after is not None:
            raise OutcomeUnknown("the connection was reset")
        answers = {name.lower(): value for name, value in response.headers.items()}
        pause = answers.get("retry-after-ms")
        wait = (
            float(pause) / 1000
            if pause
            else float(answers["retry-after"])
            if "retry-after" in answers
            else None
        )
        return Answer(
            status=response.status,
            reason="",
            body=response.read(),
            headers={name: answers[name] for name in keep if name in answers},
            retry_after=wait,
            request_id=answers.get("x-request-id"),
        )


class World:
    """An emulator, an adapter that reaches it, and shards to run."""

    def __init__(
        self,
        folder: Path,
        *,
        provider: str = "openai",
        model: str | None = None,
        faults: Sequence[str] = (),
        limits: Limits | None = None,
        pace: Pace | None = None,
        pacing: Pacing | None = None,
        seed: int = 1,
    ) -> None:
        self.folder = folder
        self.time = Time()
        self.emulator = Emulator(
            seed=seed, clock=self.time, faults=list(faults), limits=limits, pace=pace or Pace(realtime=1.0)
        )
        self.left: list[float] = []
        """When calls left."""
        self.unreachable: Callable[[], bool] = lambda: False
        self.dice = random.Random(seed)
        self.model = model or MODELS[provider]
        self.endpoint: Endpoint = ENDPOINTS[provider]
        self.adapter: OpenAI | Anthropic
        if provider == "openai":
            account = Account(provider=provider, base_url="http://emulator/v1", key="key-1")
            self.adapter = OpenAI(account)
        else:
            account = Account(provider=provider, base_url="http://emulator", key="key-1")
            self.adapter = Anthropic(account)
        http = self.adapter._http
        self.adapter._http = VirtualHttp(account.base_url, http._headers, http._title, self)
        self.account = account.name
        self.realtime = Realtime(self.time, pacing=pacing, draw=self.dice.random)

    def shard(self, rows: int, **options: Any) -> "Shard":
        """A shard with so many rows; see `made.attempt` for the options."""
        return Shard(self, rows, **options)

    def go(self, main: Coroutine[Any, Any, _R]) -> _R:
        """Run something to its end, in no time."""
        return self.time.loop.run_until_complete(main)

    def meter(self) -> dict[str, Any]:
        return self.emulator.meter.snapshot(ids=True)

    def close(self) -> None:
        self.go(self.adapter.close())
        self.time.loop.close()
        self.emulator.close()


class Shard:
    """One attempt of a shard, to be run in a world."""

    def __init__(self, world: World, rows: int, *, number: int = 0, **options: Any) -> None:
        self.world = world
        self.rows = rows
        self.number = number
        self.prefix = PREFIX
        options.setdefault("model", world.model)
        self._attempt = attempt(world.folder, world.adapter, world.account, rows, number=number, **options)

    def journal(self) -> Journal:
        return self._attempt.journal()

    async def run(self, patience: Patience | None = None, **options: Any) -> Tally:
        with self.journal() as journal:
            return await self.world.realtime.run(
                self._attempt.work, journal, self.world.adapter, patience=patience, **options
            )
