"""OpenAI's API, and those that speak its dialect: files, batches, realtime calls, usage reports."""

from typing import ClassVar

from halfrate.emulator._context import Context
from halfrate.emulator._dialects import (
    DEEPINFRA,
    DOUBLEWORD,
    GROQ,
    MOONSHOT,
    NOVITA,
    OPENAI,
    QWEN,
    VOYAGE,
    ZHIPU,
    Dialect,
)
from halfrate.emulator._openai_batches import OpenAIBatches
from halfrate.emulator._openai_files import OpenAIFiles
from halfrate.emulator._openai_realtime import OpenAIRealtime
from halfrate.emulator._openai_wire import error_document
from halfrate.emulator._reports import Reports
from halfrate.emulator._routes import Route, Routes
from halfrate.emulator._surface import Surface, bearer, is_bad
from halfrate.emulator._wire import ApiError, Request, Response, json_response


class DialectSurface(Surface):
    """A provider that speaks the dialect: `class Name(DialectSurface, dialect=RECORD)`."""

    dialect: ClassVar[Dialect]

    def __init_subclass__(cls, *, dialect: Dialect) -> None:
        super().__init_subclass__()
        cls.dialect = dialect
        cls.provider = dialect.provider

    def __init__(self, context: Context) -> None:
        files = self._files(context)
        batches = self._batches(context, files)
        realtime = self._realtime(context)
        groups = (files.routes(), batches.routes(), realtime.routes(), self._more_routes(context))
        super().__init__(Routes(*(self._served(group) for group in groups)), (batches, files))

    def _files(self, context: Context) -> OpenAIFiles:
        return OpenAIFiles(context, self.dialect)

    def _batches(self, context: Context, files: OpenAIFiles) -> OpenAIBatches:
        return OpenAIBatches(context, files, self.dialect)

    def _realtime(self, context: Context) -> OpenAIRealtime:
        return OpenAIRealtime(context, self.dialect)

    def _more_routes(self, context: Context) -> list[Route]:
        """Calls that no other dialect has."""
        return []

    def _served(self, routes: list[Route]) -> list[Route]:
        """The routes as they are served."""
        return routes

    def authenticated(self, request: Request) -> str:
        carried = (request.header(name) for name in self.dialect.key_headers)
        key = next(filter(None, carried), "") or bearer(request)
        if not key:
            message = (
                "You didn't provide an API key. You need to provide your API key in an Authorization header"
            )
            raise ApiError(401, f"{message} using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).")
        if is_bad(key):
            raise ApiError(401, f"Incorrect API key provided: {key}.", code="invalid_api_key")
        return key

    def refused(self, error: ApiError, request_id: str) -> Response:
        return json_response(error_document(error), error.status, error.headers)

    def unknown_path(self, request: Request) -> ApiError:
        return ApiError(404, f"Invalid URL ({request.method} {request.path})")

    def environment(self, url: str) -> dict[str, str]:
        return {name: value.format(url=url) for name, value in self.dialect.variables.items()}


class OpenAISurface(DialectSurface, dialect=OPENAI):
    """OpenAI itself, which has usage reports besides."""

    def _more_routes(self, context: Context) -> list[Route]:
        return Reports(context).openai_routes()

    def environment(self, url: str) -> dict[str, str]:
        return {**super().environment(url), "OPENAI_ADMIN_KEY": "emulator-admin"}


class GroqSurface(DialectSurface, dialect=GROQ):
    """Groq."""


class MoonshotSurface(DialectSurface, dialect=MOONSHOT):
    """Moonshot AI, whose models are called Kimi."""


class QwenSurface(DialectSurface, dialect=QWEN):
    """Alibaba's Model Studio."""


class ZhipuSurface(DialectSurface, dialect=ZHIPU):
    """Zhipu, abroad Z.ai."""


class DeepInfraSurface(DialectSurface, dialect=DEEPINFRA):
    """DeepInfra."""


class DoublewordSurface(DialectSurface, dialect=DOUBLEWORD):
    """Doubleword."""


class NovitaSurface(DialectSurface, dialect=NOVITA):
    """Novita."""


class VoyageSurface(DialectSurface, dialect=VOYAGE):
    """Voyage AI: embeddings only."""
