"""The gateway as an ASGI application: which call is answered by what."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from halfrate.base.errors import HalfrateError
from halfrate.gateway.anthropic_batches import BODY_BYTES, AnthropicBatches
from halfrate.gateway.calls import reply
from halfrate.gateway.door import Door
from halfrate.gateway.errors import ApiError, as_api_error, error_response
from halfrate.gateway.logs import Log
from halfrate.gateway.models import Models
from halfrate.gateway.openai_batches import OpenAIBatches
from halfrate.gateway.openai_files import FILE_BYTES, OpenAIFiles
from halfrate.gateway.openai_uploads import PART_BYTES, OpenAIUploads
from halfrate.service.batches import Keeper
from halfrate.service.jobs import Service
from halfrate.service.shelf import Shelf

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
        running: "Callable[[Gateway], AbstractAsyncContextManager[None]] | None" = None,
        limits: Limits | None = None,
    ) -> None:
        self._service = service
        self._log = log
        self._running = running
        self._limits = limits or Limits()
        self.shelf = Shelf(service.home, service.surfaces, service.clock)
        self.keeper = Keeper(service, self.shelf, self._told, log.failed)
        self.app: ASGIApp = Door(self._router(), service.keys.authenticate_now, log)

    def _router(self) -> Starlette:
        surfaces, limits = self._service.surfaces, self._limits
        files = OpenAIFiles(self.shelf, surfaces, file_bytes=limits.file_bytes)
        uploads = OpenAIUploads(self.shelf, surfaces, self._service.clock, part_bytes=limits.part_bytes)
        batches = OpenAIBatches(self.keeper)
        messages = AnthropicBatches(
            self.keeper, self.shelf, self._service.clock, body_bytes=limits.messages_bytes
        )
        models = Models()
        table: list[tuple[str, str, Handler]] = [
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
            ("GET", "/v1/models", models.list),
            ("GET", "/v1/models/{id:path}", models.retrieve),
        ]
        app = Starlette(
            routes=[Route(path, handler, methods=[method]) for method, path, handler in table],
            exception_handlers=dict.fromkeys(
                (ApiError, HalfrateError, HTTPException, ClientDisconnect, Exception), self._failed
            ),
            lifespan=self._lifespan,
        )
        # A redirect would go to whatever host the call named.
        app.router.redirect_slashes = False
        return app

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncGenerator[None]:
        if self._running is None:
            yield
            return
        async with self._running(self):
            yield

    def _told(self, event: str, batch_id: str, why: str) -> None:
        self._log.say(event, batch=batch_id, why=why)

    async def _health(self, _request: Request) -> Response:
        """The process is alive."""
        return reply({"status": "ok"})

    async def _ready(self, _request: Request) -> Response:
        """The process can serve: its database answers and its disk can be written to."""
        problem = await asyncio.to_thread(self.shelf.problem)
        return reply({"status": problem or "ok"}, 503 if problem else 200)

    async def _failed(self, request: Request, error: Exception) -> Response:
        """What is answered when a handler raised something."""
        request_id = request.scope["halfrate.request_id"]
        match error:
            case ApiError():
                answer = error
            case HTTPException():
                answer = _unknown(request, error)
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
        return error_response(answer, request.scope)


def _unknown(request: Request, error: HTTPException) -> ApiError:
    path = request.scope["path"]
    if error.status_code == 405:
        message, code = f"{path} does not take {request.method}.", "method_not_allowed"
    else:
        message, code = f"Unknown request URL: {request.method} {path}.", "unknown_url"
    return ApiError(error.status_code, message, code=code, headers=error.headers)
