"""The world: every request comes here, time passes, the right surface answers.

No sockets, no sleeping, no threads: time moves only as the clock says, and everything that is due has
happened before a request is looked at.
"""

import msgspec

from halfrate.emulator._anthropic_batches import AnthropicBatches
from halfrate.emulator._anthropic_models import VERSIONS
from halfrate.emulator._anthropic_realtime import AnthropicRealtime
from halfrate.emulator._anthropic_wire import error_document as anthropic_error
from halfrate.emulator._context import Context
from halfrate.emulator._openai_batches import OpenAIBatches
from halfrate.emulator._openai_files import OpenAIFiles
from halfrate.emulator._openai_realtime import OpenAIRealtime
from halfrate.emulator._openai_wire import error_document as openai_error
from halfrate.emulator._quirks import bend_download, refuse_call
from halfrate.emulator._reports import Reports
from halfrate.emulator._routes import Call, Route, Routes
from halfrate.emulator._webhooks import Webhook
from halfrate.emulator._wire import ApiError, Request, Response, json_response

_BAD_KEYS = ("bad-key", "sk-invalid")


class World:
    """Both providers, as far as they can be seen through their APIs."""

    def __init__(self, context: Context) -> None:
        self.context = context
        files, reports = OpenAIFiles(context), Reports(context)
        openai_batches, anthropic_batches = OpenAIBatches(context, files), AnthropicBatches(context)
        self._ageing = (openai_batches, anthropic_batches, files)
        openai = (files.routes(), openai_batches.routes(), OpenAIRealtime(context).routes())
        anthropic = (anthropic_batches.routes(), AnthropicRealtime(context).routes())
        self._routes = {
            "openai": Routes(*openai, reports.openai_routes()),
            "anthropic": Routes(*anthropic, reports.anthropic_routes()),
        }

    def advance(self) -> float:
        """Let everything happen that is due; returns the time."""
        now = self.context.clock.now()
        for part in self._ageing:
            part.advance(now)
        return now

    def due_webhooks(self) -> list[Webhook]:
        """The webhook deliveries whose time has come, each once."""
        return self.context.outbox.due(self.advance())

    async def respond(self, request: Request) -> Response:
        """Answer one request. Never raises for anything a client can send."""
        provider = _provider_of(request)
        request_id = self.context.reply_id()
        now = self.advance()
        try:
            response = await self._respond(provider, request, now)
        except ApiError as error:
            response = _refused(provider, error, request_id)
        name = "x-request-id" if provider == "openai" else "request-id"
        return msgspec.structs.replace(response, headers={**response.headers, name: request_id})

    async def _respond(self, provider: str, request: Request, now: float) -> Response:
        project = _authenticated(provider, request)
        found = self._routes[provider].find(request.method, request.path)
        if found is None:
            message = (
                f"Invalid URL ({request.method} {request.path})" if provider == "openai" else "Not found"
            )
            raise ApiError(404, message)
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


def _provider_of(request: Request) -> str:
    """Whose API a request speaks. Both have /v1/models: there the headers decide."""
    path = request.path
    if path.startswith(("/v1/messages", "/v1/organizations/")):
        return "anthropic"
    if path.startswith("/v1/models") and (request.header("anthropic-version") or request.header("x-api-key")):
        return "anthropic"
    return "openai"


def _authenticated(provider: str, request: Request) -> str:
    """The key, which stands for a project or workspace. Any will do, but those that are bad by their name."""
    scheme, _, bearer = request.header("authorization").partition(" ")
    key = bearer.strip() if scheme.lower() == "bearer" else ""
    if provider == "anthropic":
        key = request.header("x-api-key") or key
        if not key or key.startswith(_BAD_KEYS):
            raise ApiError(401, "invalid x-api-key")
        version = request.header("anthropic-version")
        if not version:
            raise ApiError(400, "anthropic-version: header is required")
        if version not in VERSIONS:
            raise ApiError(400, f'anthropic-version: "{version}" is not a valid version')
        return key
    if not key:
        message = "You didn't provide an API key. You need to provide your API key in an Authorization header"
        raise ApiError(401, f"{message} using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).")
    if key.startswith(_BAD_KEYS):
        raise ApiError(401, f"Incorrect API key provided: {key}.", code="invalid_api_key")
    return key


def _refused(provider: str, error: ApiError, request_id: str) -> Response:
    if provider == "openai":
        return json_response(openai_error(error), error.status, error.headers)
    return json_response(anthropic_error(error, request_id), error.status, error.headers)
