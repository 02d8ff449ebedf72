"""The world: every request comes here, time passes, the right surface answers.

No sockets, no sleeping, no threads: time moves only as the clock says, and everything that is due has
happened before a request is looked at.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from halfrate.emulator._anthropic_surface import AnthropicSurface
from halfrate.emulator._azure_surface import AzureSurface
from halfrate.emulator._bedrock_surface import BedrockSurface
from halfrate.emulator._bigquery_surface import BigQuerySurface
from halfrate.emulator._cohere_surface import CohereSurface
from halfrate.emulator._context import Context
from halfrate.emulator._fireworks_surface import FireworksSurface
from halfrate.emulator._gcs_surface import GcsSurface
from halfrate.emulator._gemini_surface import GeminiSurface
from halfrate.emulator._mistral_surface import MistralSurface
from halfrate.emulator._openai_surface import (
    DeepInfraSurface,
    DoublewordSurface,
    GroqSurface,
    MoonshotSurface,
    NovitaSurface,
    OpenAISurface,
    QwenSurface,
    VoyageSurface,
    ZhipuSurface,
)
from halfrate.emulator._quirks import bend_download, refuse_call
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._s3_surface import S3Surface
from halfrate.emulator._surface import Surface
from halfrate.emulator._together_surface import TogetherSurface
from halfrate.emulator._vertex_surface import VertexSurface
from halfrate.emulator._webhooks import Webhook
from halfrate.emulator._wire import ApiError, Request, Response
from halfrate.emulator._xai_surface import XaiSurface

_SURFACES: Final[tuple[Callable[[Context], Surface], ...]] = (
    OpenAISurface,
    AnthropicSurface,
    MistralSurface,
    XaiSurface,
    BedrockSurface,
    S3Surface,
    FireworksSurface,
    GeminiSurface,
    VertexSurface,
    GcsSurface,
    BigQuerySurface,
    AzureSurface,
    GroqSurface,
    TogetherSurface,
    MoonshotSurface,
    QwenSurface,
    ZhipuSurface,
    DeepInfraSurface,
    DoublewordSurface,
    NovitaSurface,
    VoyageSurface,
    CohereSurface,
)
_AT_THE_ROOT: Final = frozenset({"openai", "anthropic"})
"""Their paths tell them apart, so they need no mount."""


class World:
    """All providers, as far as they can be seen through their APIs."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.surfaces: dict[str, Surface] = {
            surface.provider: surface for make in _SURFACES for surface in [make(context)]
        }

    def advance(self) -> float:
        """Let everything happen that is due; returns the time."""
        now = self.context.clock.now()
        for surface in self.surfaces.values():
            surface.advance(now)
        return now

    def due_webhooks(self) -> list[Webhook]:
        """The webhook deliveries whose time has come, each once."""
        return self.context.outbox.due(self.advance())

    def environment(self, url: str) -> dict[str, dict[str, str]]:
        """For each provider the variables that point its SDK, and halfrate, at an emulator with that URL."""
        base = url.rstrip("/")
        return {
            name: surface.environment(base if name in _AT_THE_ROOT else f"{base}/{name}")
            for name, surface in self.surfaces.items()
        }

    async def respond(self, request: Request) -> Response:
        """Answer one request. Never raises for anything a client can send."""
        surface, request = self._surface(request)
        request_id = self.context.reply_id()
        now = self.advance()
        try:
            response = await self._respond(surface, request, now)
        except ApiError as error:
            response = surface.refused(error, request_id)
        headers = {**response.headers, surface.request_id_header: request_id}
        return msgspec.structs.replace(response, headers=headers)

    def _surface(self, request: Request) -> tuple[Surface, Request]:
        """Whose API a request speaks, and the request as that one knows it."""
        mount, _, rest = request.path.removeprefix("/").partition("/")
        if mount in self.surfaces and mount not in _AT_THE_ROOT:
            return self.surfaces[mount], msgspec.structs.replace(request, path=f"/{rest}")
        return self.surfaces["anthropic" if _speaks_anthropic(request) else "openai"], request

    async def _respond(self, surface: Surface, request: Request, now: float) -> Response:
        provider = surface.provider
        project = surface.authenticated(request)
        found = surface.routes.find(request.method, request.path)
        if found is None:
            raise surface.unknown_path(request)
        route, args = found
        about = self.context.attempt()
        if route.operation == "realtime":
            return await self._realtime(provider, Call(request, project, now, args), route, about)
        refuse_call(self.context.faults, provider, route.operation, about)
        response = await route.handler(Call(request, project, now, args))
        if route.operation == "download":
            return bend_download(self.context.faults, provider, about, response)
        return response

    async def _realtime(self, provider: str, call: Call, route: Route, about: str) -> Response:
        meter = self.context.meter
        meter.realtime_received += 1
        try:
            refuse_call(self.context.faults, provider, route.operation, about)
            return await route.handler(call)
        except ApiError as error:
            meter.realtime_refused[error.status] += 1
            raise


def _speaks_anthropic(request: Request) -> bool:
    """Whether a request without a mount is one to Anthropic. Both have /v1/models: there the headers decide."""
    path = request.path
    if path.startswith(("/v1/messages", "/v1/organizations/")):
        return True
    named = request.header("anthropic-version") or request.header("x-api-key")
    return path.startswith("/v1/models") and bool(named)
