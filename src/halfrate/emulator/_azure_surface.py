"""Azure OpenAI: OpenAI's dialect under two paths, with deployments for models.

The newer API is under `/openai/v1`. The older one is under `/openai`, wants an `api-version` in every call, and has
the deployment in the path of a realtime call (openai 3.52, `lib/azure.py`; batch how-to, 2026-03).
"""

from halfrate.emulator._context import Context
from halfrate.emulator._dialects import AZURE
from halfrate.emulator._openai_models import CHAT, EMBEDDINGS
from halfrate.emulator._openai_realtime import OpenAIRealtime
from halfrate.emulator._openai_surface import DialectSurface
from halfrate.emulator._routes import Call, Handler, Route
from halfrate.emulator._wire import ApiError, Document, Response, read_document

_OLD, _NEW = "/openai/", "/openai/v1/"


class AzureRealtime(OpenAIRealtime):
    """Realtime calls, which may name their deployment in the path."""

    def routes(self) -> list[Route]:
        handlers = {CHAT: self._chat, EMBEDDINGS: self._embeddings}
        return [
            *super().routes(),
            *(
                Route("POST", f"{_OLD}deployments/{{}}{call.removeprefix('/v1')}", "realtime", handler)
                for call, handler in handlers.items()
            ),
        ]

    async def _read(self, call: Call) -> Document:
        body = await read_document(call.request)
        return {**body, "model": call.arg} if call.args else body


class AzureSurface(DialectSurface, dialect=AZURE):
    """Azure OpenAI."""

    def _realtime(self, context: Context) -> OpenAIRealtime:
        return AzureRealtime(context, self.dialect)

    def _served(self, routes: list[Route]) -> list[Route]:
        return [
            route
            if route.pattern.startswith(_NEW)
            else Route(route.method, route.pattern, route.operation, _versioned(route.handler))
            for route in routes
        ]


def _versioned(handler: Handler) -> Handler:
    """A handler of the older API, where nothing is found without a version."""

    async def checked(call: Call) -> Response:
        if not call.request.params().get("api-version"):
            raise ApiError(404, "Resource not found", code="404")
        return await handler(call)

    return checked
