"""The world behind an aiohttp server. This is the only module that knows sockets, sleeping and threads."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from halfrate.emulator._webhooks import Webhook
from halfrate.emulator._wire import Delivery, Request, Response

if TYPE_CHECKING:
    from halfrate.emulator._emulator import Emulator

_TICK = 0.05
_READ_BYTES = 256 * 1024
_DELIVERY_ATTEMPTS = 3
_WEBHOOK_TIMEOUT = aiohttp.ClientTimeout(total=10)


class _Shell:
    """Translates requests and responses, and carries out their delivery."""

    def __init__(self, emulator: "Emulator") -> None:
        self._emulator = emulator
        self._deliveries: set[asyncio.Task[None]] = set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        query, path = request.rel_url.raw_query_string, request.path
        response = await self._emulator.respond(
            Request(request.method, path, query, headers, _chunks(request))
        )
        delivery = response.delivery
        streamed = not isinstance(response.body, bytes)
        work = delivery.work_seconds - (delivery.written_seconds if streamed else 0.0)
        if work > 0:
            await self._until(self._emulator.clock.now() + work)
        if delivery.hold_seconds:
            await asyncio.sleep(delivery.hold_seconds)
        if delivery.drop:
            _hang_up(request)
            return web.Response(status=500)
        if isinstance(response.body, bytes) and delivery.truncate_after is None:
            return web.Response(status=response.status, body=response.body, headers=dict(response.headers))
        return await _stream(request, response, delivery, self._pause)

    async def _pause(self, seconds: float) -> None:
        """Let seconds of the world's pass."""
        await self._until(self._emulator.clock.now() + seconds)

    async def _until(self, due: float) -> None:
        """Wait for a time of the world's: its clock may run fast, jump, or stand still until it is moved."""
        clock = self._emulator.clock
        speed: float | None = getattr(clock, "speed", None)
        while (left := due - clock.now()) > 0:  # noqa: ASYNC110 - whoever moves the clock tells nobody
            await asyncio.sleep(_TICK if speed is None else min(left / speed, 1.0))

    async def deliver_webhooks(self) -> None:
        """Post what is due, again and again, until cancelled."""
        async with aiohttp.ClientSession(timeout=_WEBHOOK_TIMEOUT) as session:
            while True:
                for webhook in self._emulator.due_webhooks():
                    task = asyncio.create_task(_deliver(session, webhook))
                    self._deliveries.add(task)
                    task.add_done_callback(self._deliveries.discard)
                await asyncio.sleep(_TICK)


async def _chunks(request: web.BaseRequest) -> AsyncIterator[bytes]:
    if request.headers.get("expect", "").lower() == "100-continue":
        # The S3 client holds its body back until it is told to go on, or for a second.
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    async for chunk in request.content.iter_chunked(_READ_BYTES):
        yield chunk


def _hang_up(request: web.BaseRequest) -> None:
    transport = request.transport
    if transport is not None:
        transport.abort()


async def _stream(
    request: web.BaseRequest,
    response: Response,
    delivery: Delivery,
    pause: Callable[[float], Awaitable[None]],
) -> web.StreamResponse:
    body = response.body
    chunks: Iterator[bytes] = iter((body,)) if isinstance(body, bytes) else body
    each = 0.0
    if delivery.written_seconds and not isinstance(body, bytes):
        pieces = list(body)
        chunks, each = iter(pieces), delivery.written_seconds / len(pieces)
    headers = dict(response.headers)
    if isinstance(body, bytes):
        headers["content-length"] = str(len(body))
    stream = web.StreamResponse(status=response.status, headers=headers)
    await stream.prepare(request)
    left = delivery.truncate_after
    for chunk in chunks:
        if delivery.chunk_pause_seconds:
            await asyncio.sleep(delivery.chunk_pause_seconds)
        if each:
            await pause(each)
        if left is not None and len(chunk) >= left:
            await stream.write(chunk[:left])
            # What was written must leave before the connection goes, or the client sees an empty answer.
            await asyncio.sleep(_TICK)
            _hang_up(request)
            return stream
        await stream.write(chunk)
        if left is not None:
            left -= len(chunk)
    await stream.write_eof()
    return stream


async def _deliver(session: aiohttp.ClientSession, webhook: Webhook) -> None:
    """Again until the endpoint answers with a 2xx, as the service does, but only a few times."""
    for attempt in range(_DELIVERY_ATTEMPTS):
        try:
            sent = session.post(
                webhook.url, data=webhook.body, headers=webhook.headers, allow_redirects=False
            )
            async with sent as answer:
                if answer.status < 300:
                    return
        except (aiohttp.ClientError, TimeoutError):
            pass  # an endpoint that is down is part of the exercise: try again, then give up
        await asyncio.sleep(_TICK * 4**attempt)


@asynccontextmanager
async def serving(emulator: "Emulator", host: str, port: int) -> AsyncGenerator[str]:
    """Serve an emulator in this loop; gives its URL."""
    shell = _Shell(emulator)
    server = web.Server(shell.handle, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    webhooks = asyncio.create_task(shell.deliver_webhooks())
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound: tuple[str, int] = runner.addresses[0][:2]
        yield f"http://{f'[{bound[0]}]' if ':' in bound[0] else bound[0]}:{bound[1]}"
    finally:
        webhooks.cancel()
        await asyncio.gather(webhooks, return_exceptions=True)
        await runner.cleanup()


async def run_server(
    emulator: "Emulator", host: str = "127.0.0.1", port: int = 0, *, ready: Callable[[str], None]
) -> None:
    """Serve until cancelled; `ready` is called with the URL once connections are taken."""
    async with serving(emulator, host, port) as url:
        ready(url)
        await asyncio.Event().wait()


class ServerThread:
    """A server with a loop and a thread of its own."""

    def __init__(self, emulator: "Emulator", host: str, port: int) -> None:
        self._emulator = emulator
        self._where = (host, port)
        self._up = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._url = ""
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._main, name="emulator", daemon=True)

    def start(self) -> str:
        """Start; gives the URL. Raises OSError when the address cannot be bound."""
        self._thread.start()
        self._up.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error
        return self._url

    def stop(self) -> None:
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:
            self._error = error
        finally:
            self._up.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with serving(self._emulator, *self._where) as url:
            self._url = url
            self._up.set()
            await self._stop.wait()
