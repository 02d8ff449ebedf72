"""The emulator as its users hold it: a world, its knobs, and ways to serve it."""

from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Self

from halfrate.emulator._admin import Admin
from halfrate.emulator._clock import Clock, RealClock
from halfrate.emulator._context import Context
from halfrate.emulator._exports import Exports
from halfrate.emulator._faults import Fault, parse_fault
from halfrate.emulator._meter import Meter
from halfrate.emulator._models import all_models
from halfrate.emulator._settings import CacheModel, Limits, Pace
from halfrate.emulator._spool import Spool
from halfrate.emulator._webhooks import Webhook, WebhookTarget
from halfrate.emulator._wire import Request, Response
from halfrate.emulator._world import World


class Emulator:
    """The providers' batch APIs on this machine, without a key and without a bill.

    The same seed and the same requests in the same order give the same ids, answers and faults. `s3` is the URL of an
    S3 that holds the data of Bedrock jobs; without it the emulator has one of its own, under `/s3`.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        clock: Clock | None = None,
        faults: Iterable[str | Fault] = (),
        pace: Pace | None = None,
        limits: Limits | None = None,
        cache: CacheModel | None = None,
        webhooks: Iterable[WebhookTarget] = (),
        s3: str | None = None,
    ) -> None:
        self.clock: Clock = RealClock() if clock is None else clock
        self.pace = pace or Pace()
        self.limits = limits or Limits()
        self._seed = seed
        self._cache = cache
        self._s3 = s3
        self._faults = [parse_fault(fault) if isinstance(fault, str) else fault for fault in faults]
        self._targets = list(webhooks)
        self._spool = Spool()
        self._world = self._new_world()
        self._admin = Admin(self)

    def _new_world(self) -> World:
        context = Context(
            self._seed, self.clock, self.pace, self.limits, cache=self._cache, spool=self._spool, s3=self._s3
        )
        for fault in self._faults:
            context.faults.add(fault)
        for target in self._targets:
            context.add_target(target)
        return World(context)

    @property
    def meter(self) -> Meter:
        """What has been received and billed so far; `snapshot()` is what GET /meter answers."""
        return self._world.context.meter

    @property
    def exports(self) -> Exports:
        """The bills, and the mistakes planted in them."""
        return self._world.context.exports

    @property
    def faults(self) -> list[str]:
        """The active faults, as specs."""
        return self._world.context.faults.listed()

    def add_fault(self, fault: str | Fault) -> None:
        """Add a fault; FaultSpecError (a ValueError) when its spec cannot be read."""
        self._world.context.faults.add(parse_fault(fault) if isinstance(fault, str) else fault)

    def clear_faults(self) -> None:
        """Remove every fault; what has struck already stays struck."""
        self._world.context.faults.clear()

    def add_webhook(self, target: WebhookTarget) -> None:
        """Send OpenAI batch events to one more place."""
        self._world.context.add_target(target)

    def advance(self) -> None:
        """Let everything happen that is due at the clock's time (every request does this first)."""
        self._world.advance()

    def reset(self) -> None:
        """Back to the start: no batches, no files, an empty meter, the faults it was made with."""
        self._spool.close()
        self._world = self._new_world()

    def close(self) -> None:
        """Remove the files on disk. The emulator is of no use afterwards."""
        self._spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def respond(self, request: Request) -> Response:
        """Answer one request in this process, without a socket."""
        admin = await self._admin.respond(request)
        return await self._world.respond(request) if admin is None else admin

    def due_webhooks(self) -> list[Webhook]:
        """The webhook deliveries that are due, each once. A serving emulator delivers them itself."""
        return self._world.due_webhooks()

    def environment(self, url: str) -> dict[str, dict[str, str]]:
        """For each provider the variables that point its official SDK, and halfrate, at this emulator at `url`."""
        return self._world.environment(url)

    @staticmethod
    def models() -> dict[str, list[str]]:
        """The models of each provider, those that stand for it first."""
        found: dict[str, list[str]] = {}
        for model in all_models():
            found.setdefault(model.provider, []).append(model.name)
        return found

    @staticmethod
    def openai_base_url(url: str) -> str:
        """What the OpenAI SDK takes as base_url."""
        return f"{url.rstrip('/')}/v1"

    @staticmethod
    def anthropic_base_url(url: str) -> str:
        """What the Anthropic SDK takes as base_url."""
        return url.rstrip("/")

    @asynccontextmanager
    async def serve(self, host: str = "127.0.0.1", port: int = 0) -> AsyncGenerator[str]:
        """Serve over HTTP in this event loop; gives the URL. Port 0 takes a free one."""
        from halfrate.emulator._serving import serving

        async with serving(self, host, port) as url:
            yield url

    @contextmanager
    def running(self, host: str = "127.0.0.1", port: int = 0) -> Generator[str]:
        """Serve over HTTP in a thread of its own, for code that is not async; gives the URL."""
        from halfrate.emulator._serving import ServerThread

        thread = ServerThread(self, host, port)
        try:
            yield thread.start()
        finally:
            thread.stop()
