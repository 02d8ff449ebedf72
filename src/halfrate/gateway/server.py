"""One process of the gateway: an HTTP server, a worker on the jobs, and the keeper of the batches."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import uvicorn

from halfrate.base.errors import HalfrateError, SettingsError
from halfrate.core.job import Job
from halfrate.engine.loop import Loop
from halfrate.gateway.app import Gateway
from halfrate.gateway.logs import Log
from halfrate.gateway.protocol import Http
from halfrate.service.jobs import Service

_BACKLOG: Final = 2_048
_SWEEP: Final = 60.0
_SWEEP_AFAR: Final = 3_600.0
"""Seconds between two looks at all that a depot holds. Each asks the store for a list of it."""
_BOOKED_EVERY: Final = 5.0
"""Seconds between two times that calls in real time are brought into the ledger, and budgets looked at."""
_THREADS: Final = 48
_GRACE: Final = 30
"""Seconds that calls under way are given when the process is asked to end."""


def event_loop() -> asyncio.AbstractEventLoop:
    """The quickest loop that there is here."""
    try:
        import uvloop
    except ImportError:
        # It is not made for every system.
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class Server:
    """Serves until it is stopped. Raises SettingsError where the address cannot be had.

    Args:
        port: 0 for any that is free.
    """

    def __init__(self, service: Service, log: Log, *, host: str = "127.0.0.1", port: int = 8080) -> None:
        self._service = service
        self._log = log
        self._deliverer = service.webhooks.deliverer(self._told, log.failed)
        self._socket = _bound(host, port)
        self.host = host
        self.port: int = self._socket.getsockname()[1]
        gateway = Gateway(service, log, self._running)
        config = uvicorn.Config(
            gateway.app,
            # Whoever stands in front is asked for one header alone, where that matters; see `base_of`.
            proxy_headers=False,
            http=Http,
            # What uvicorn would log of an error may repeat what was sent; our own log says where it was.
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            lifespan="on",
            backlog=_BACKLOG,
            timeout_graceful_shutdown=_GRACE,
        )
        self._server = _Uvicorn(config)

    @property
    def url(self) -> str:
        """Where it is, without a path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def started(self) -> bool:
        return self._server.started

    async def run(self) -> None:
        """Serve until `stop`; then answer what is under way, and let go."""
        loop = asyncio.get_running_loop()
        # Calls wait in threads for the disk and the database, and batches are read in them: the one must not wait for
        # the end of the other.
        loop.set_default_executor(ThreadPoolExecutor(_THREADS, "gateway"))
        with self._socket:
            await self._server.serve(sockets=[self._socket])

    def stop(self) -> None:
        """End in good order. May be called from any thread."""
        self._server.should_exit = True

    @asynccontextmanager
    async def _running(self, gateway: Gateway) -> AsyncGenerator[None]:
        """What goes on behind the calls."""
        loops: list[Loop] = []
        here = asyncio.get_running_loop()

        def submitted() -> None:
            for loop in loops:
                here.call_soon_threadsafe(loop.rouse)

        gateway.keeper.submitted = submitted

        def ended(job: Job, _path: Path | None) -> None:
            gateway.keeper.wake(job)
            self._log.say("job ended", job=job.id, state=job.state.value)

        def halted(error: HalfrateError) -> None:
            self._log.say("a job cannot go on", why=str(error))

        worker = asyncio.create_task(self._service.work(on_loop=loops.append, on_end=ended, on_halt=halted))
        keeper = asyncio.create_task(gateway.keeper.run())
        sweeper = asyncio.create_task(self._sweep(gateway))
        booker = asyncio.create_task(self._book(gateway))
        deliverer = asyncio.create_task(self._deliverer.run())
        gathering = asyncio.create_task(gateway.deferring.run())
        line = asyncio.create_task(gateway.line.run(gateway.deferring.trouble))
        for task in (worker, keeper, sweeper, booker, deliverer, gathering, line):
            task.add_done_callback(self._died)
        try:
            yield
        finally:
            gathering.cancel()
            line.cancel()
            await gateway.deferring.stop()
            gateway.keeper.stop()
            self._deliverer.stop()
            for loop in loops:
                loop.stop()
            sweeper.cancel()
            booker.cancel()
            await asyncio.gather(
                worker, keeper, sweeper, booker, deliverer, gathering, line, return_exceptions=True
            )
            await self._booked(gateway)

    def _told(self, event: str, webhook_id: str, why: str) -> None:
        self._log.say(event, webhook=webhook_id, why=why)

    async def _sweep(self, gateway: Gateway) -> None:
        afar, looked = self._service.depot.afar, 0.0
        sweeps: list[Callable[[], None]] = [] if afar else [gateway.shelf.sweep_orphans]
        while True:
            try:
                now = self._service.clock.now()
                if afar and now - looked >= _SWEEP_AFAR:
                    looked = now
                    sweeps += [gateway.shelf.sweep_orphans, self._service.tidy]
                    await asyncio.to_thread(gateway.gatherer.sweep_afar, now)
                while sweeps:
                    await asyncio.to_thread(sweeps.pop())
                now = self._service.clock.now()
                await asyncio.to_thread(gateway.bookkeeper.sweep, now)
                await asyncio.to_thread(gateway.gatherer.sweep, now)
            except HalfrateError as error:
                self._log.say("not swept", why=str(error))
            sweeps.append(gateway.shelf.sweep)
            await asyncio.sleep(_SWEEP)

    async def _book(self, gateway: Gateway) -> None:
        while True:
            await self._booked(gateway)
            await asyncio.sleep(_BOOKED_EVERY)

    async def _booked(self, gateway: Gateway) -> None:
        """Bring the calls so far into the ledger."""
        try:
            await asyncio.to_thread(gateway.spending.refresh)
        except HalfrateError as error:
            self._log.say("not booked", why=str(error))

    def _died(self, task: "asyncio.Task[None]") -> None:
        """Without its worker the process would take in what it never carries on: better it ends, and is restarted."""
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._log.failed(error, "")
            self._server.should_exit = True


class _Uvicorn(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Signals are the command's: it says how the process ends."""
        yield


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"The gateway cannot listen at {host}:{port} ({error.strerror or error}). Take another --host or --port."
        ) from error
