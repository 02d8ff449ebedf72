"""The gateway as an ASGI application: which call is answered by what."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import TypeAlias

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from halfrate.base.errors import HalfrateError
from halfrate.gateway.anthropic_batches import BODY_BYTES, AnthropicBatches
from halfrate.gateway.asking import PATHS
from halfrate.gateway.booking import Books
from halfrate.gateway.calls import reply
from halfrate.gateway.costs import Costs
from halfrate.gateway.deferred_calls import DeferredCalls
from halfrate.gateway.deferring import Deferring
from halfrate.gateway.door import Door
from halfrate.gateway.errors import ApiError, as_api_error, error_response
from halfrate.gateway.line import Line
from halfrate.gateway.logs import Log
from halfrate.gateway.models import Models
from halfrate.gateway.openai_batches import OpenAIBatches
from halfrate.gateway.openai_files import FILE_BYTES, OpenAIFiles
from halfrate.gateway.openai_uploads import PART_BYTES, OpenAIUploads
from halfrate.gateway.openapi import document
from halfrate.gateway.page import Pages
from halfrate.gateway.realtime import RealTime
from halfrate.gateway.router import Router
from halfrate.gateway.targets import Targets
from halfrate.gateway.webhooks import PLACE, ProviderWebhooks
from halfrate.service.batches import Keeper
from halfrate.service.call_log import CallLog
from halfrate.service.gathering import Gatherer
from halfrate.service.jobs import Service
from halfrate.service.shelf import Shelf
from halfrate.service.spending import Spending

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


class Limits(msgspec.Struct, frozen=True):
    """The largest file that comes in one call, the largest part of one, and the largest body of requests.

    Bytes; OpenAI's own, and Anthropic's.
    """

    file_bytes: int = FILE_BYTES
    part_bytes: int = PART_BYTES
    messages_bytes: int = BODY_BYTES


class Gateway:
    """What one process of the gateway holds. `app` is what a server serves.

    Args:
        running: what goes on as long as the server serves, such as a worker.
    """

    def __init__(
        self,
        service: Service,
        log: Log,
        running: "Callable[[Gateway], contextlib.AbstractAsyncContextManager[None]] | None" = None,
        limits: Limits | None = None,
    ) -> None:
        self._service = service
        self._log = log
        self._running = running
        self._limits = limits or Limits()
        self.shelf = Shelf(service.home, service.surfaces, service.clock, service.depot)
        self.keeper = Keeper(service, self.shelf, self._told, log.failed)
        self.targets = Targets()
        self.calls = CallLog(service.home.root / "gateway" / "calls")
        self.bookkeeper = service.bookkeeper(self.calls.folder)
        self.spending = Spending(service.budgets, self.bookkeeper.book)
        self.gatherer = Gatherer(
            service.deferred,
            self.shelf.places,
            service.clock,
            self.keeper.rouse,
            service.home.timing.gather,
        )
        self.line = Line(service.deferred, service.clock.now)
        self.keeper.answered = self.line.ended
        books = Books(self.calls, self.spending, log)
        router = Router(self.targets, books)
        self.deferring = Deferring(service, self.shelf.places, self.gatherer, self.line, router, books, log)
        self._realtime = RealTime(router, self.deferring, books, self._answer_to)
        self.app: ASGIApp = Door(self._switch(), service.keys.authenticate_now, log)

    def _switch(self) -> ASGIApp:
        """Calls in real time past the router, whose work would be most of theirs."""
        realtime, rest = self._realtime, self._router()

        async def switch(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["path"] in PATHS:
                await realtime(scope, receive, send)
            else:
                await rest(scope, receive, send)

        return switch

    def _router(self) -> Starlette:
        surfaces, limits = self._service.surfaces, self._limits
        files = OpenAIFiles(self.shelf, surfaces, file_bytes=limits.file_bytes)
        uploads = OpenAIUploads(self.shelf, surfaces, self._service.clock, part_bytes=limits.part_bytes)
        batches = OpenAIBatches(self.keeper)
        messages = AnthropicBatches(
            self.keeper, self.shelf, self._service.clock, body_bytes=limits.messages_bytes
        )
        models = Models()
        pages = Pages(document(limits))
        costs = Costs(self._service, self.spending)
        told = ProviderWebhooks(self._service, self._hinted)
        calls = DeferredCalls(self._service, self.deferring.replies, self.line.ended)
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/", pages.show),
            ("GET", "/openapi.json", pages.describe),
            ("GET", "/healthz", self._health),
            ("GET", "/readyz", self._ready),
            ("POST", "/v1/files", files.create),
            ("GET", "/v1/files", files.list),
            ("GET", "/v1/files/{id}", files.retrieve),
            ("DELETE", "/v1/files/{id}", files.delete),
            ("GET", "/v1/files/{id}/content", files.content),
            ("POST", "/v1/uploads", uploads.create),
            ("POST", "/v1/uploads/{id}/parts", uploads.add_part),
            ("POST", "/v1/uploads/{id}/complete", uploads.complete),
            ("POST", "/v1/uploads/{id}/cancel", uploads.cancel),
            ("POST", "/v1/batches", batches.create),
            ("GET", "/v1/batches", batches.list),
            ("GET", "/v1/batches/{id}", batches.retrieve),
            ("POST", "/v1/batches/{id}/cancel", batches.cancel),
            ("POST", "/v1/messages/batches", messages.create),
            ("GET", "/v1/messages/batches", messages.list),
            ("GET", "/v1/messages/batches/{id}", messages.retrieve),
            ("DELETE", "/v1/messages/batches/{id}", messages.delete),
            ("GET", "/v1/messages/batches/{id}/results", messages.results),
            ("POST", "/v1/messages/batches/{id}/cancel", messages.cancel),
            ("GET", "/v1/responses/{id}", calls.retrieve_response),
            ("DELETE", "/v1/responses/{id}", calls.delete_response),
            ("POST", "/v1/responses/{id}/cancel", calls.cancel_response),
            ("GET", "/v1/halfrate/calls/{id}", calls.retrieve),
            ("POST", "/v1/halfrate/calls/{id}/cancel", calls.cancel),
            ("GET", "/v1/halfrate/cost", costs.show),
            ("POST", f"{PLACE}openai/{{account}}", told.openai),
            ("POST", f"{PLACE}gemini/{{account}}", told.gemini),
            ("GET", "/v1/models", models.list),
            ("GET", "/v1/models/{id:path}", models.retrieve),
        ]
        handlers: dict[str, dict[str, Handler]] = {}
        for method, path, handler in table:
            handlers.setdefault(path, {})[method] = handler
        app = Starlette(
            # One route a path, so that who calls it by another method is told of all that it takes.
            routes=[Route(path, _by_method(found), methods=list(found)) for path, found in handlers.items()],
            exception_handlers=dict.fromkeys(
                (ApiError, HalfrateError, HTTPException, ClientDisconnect, Exception), self._failed
            ),
            lifespan=self._lifespan,
        )
        # A redirect would go to whatever host the call named.
        app.router.redirect_slashes = False
        return app

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncGenerator[None]:
        running = contextlib.nullcontext() if self._running is None else self._running(self)
        try:
            async with running:
                yield
        finally:
            await self.targets.close()
            self.calls.close()

    def _told(self, event: str, batch_id: str, why: str) -> None:
        self._log.say(event, batch=batch_id, why=why)

    def _hinted(self) -> None:
        """A batch is to be looked at: whoever works here does so now."""
        self.keeper.submitted()

    async def _health(self, _request: Request) -> Response:
        """The process is alive."""
        return reply({"status": "ok"})

    async def _ready(self, _request: Request) -> Response:
        """The process can serve: its database answers and its disk can be written to."""
        problem = await asyncio.to_thread(self.shelf.problem)
        return reply({"status": problem or "ok"}, 503 if problem else 200)

    async def _failed(self, request: Request, error: Exception) -> Response:
        return self._answer_to(error, request.scope)

    def _answer_to(self, error: Exception, scope: Scope) -> Response:
        """What is answered when a handler raised something."""
        request_id = scope["halfrate.request_id"]
        match error:
            case ApiError():
                answer = error
            case HTTPException():
                answer = _unknown(scope, error)
            case ClientDisconnect():
                # Nobody is there to read it; what was sent so far is dropped.
                answer = ApiError(400, "The connection ended before the body.")
            case HalfrateError():
                answer = as_api_error(error)
                if str(answer) != str(error):
                    self._log.say("unable", why=str(error), request_id=request_id)
            case _:
                self._log.failed(error, request_id)
                message = "The gateway failed at this. Its log has more under the request id of this reply."
                answer = ApiError(500, message)
        return error_response(answer, scope)


def _by_method(handlers: Mapping[str, Handler]) -> Handler:
    async def answer(request: Request) -> Response:
        # The body of what answers HEAD is left out by the server.
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return answer


def _unknown(scope: Scope, error: HTTPException) -> ApiError:
    path, method = scope["path"], scope["method"]
    if error.status_code == 405:
        message, code = f"{path} does not take {method}.", "method_not_allowed"
    else:
        message, code = f"Unknown request URL: {method} {path}.", "unknown_url"
    return ApiError(error.status_code, message, code=code, headers=error.headers)
