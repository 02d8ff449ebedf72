"""Anthropic's API: message batches, messages, usage reports."""

from typing import ClassVar

from halfrate.emulator._anthropic_batches import AnthropicBatches
from halfrate.emulator._anthropic_models import VERSIONS
from halfrate.emulator._anthropic_realtime import AnthropicRealtime
from halfrate.emulator._anthropic_wire import error_document
from halfrate.emulator._context import Context
from halfrate.emulator._reports import Reports
from halfrate.emulator._routes import Routes
from halfrate.emulator._surface import Surface, bearer, is_bad
from halfrate.emulator._wire import ApiError, Request, Response, json_response


class AnthropicSurface(Surface):
    provider: ClassVar[str] = "anthropic"
    request_id_header: ClassVar[str] = "request-id"

    def __init__(self, context: Context) -> None:
        batches = AnthropicBatches(context)
        realtime = AnthropicRealtime(context)
        reports = Reports(context).anthropic_routes()
        super().__init__(Routes(batches.routes(), realtime.routes(), reports), (batches,))

    def authenticated(self, request: Request) -> str:
        key = request.header("x-api-key") or bearer(request)
        if not key or is_bad(key):
            raise ApiError(401, "invalid x-api-key")
        version = request.header("anthropic-version")
        if not version:
            raise ApiError(400, "anthropic-version: header is required")
        if version not in VERSIONS:
            raise ApiError(400, f'anthropic-version: "{version}" is not a valid version')
        return key

    def refused(self, error: ApiError, request_id: str) -> Response:
        return json_response(error_document(error, request_id), error.status, error.headers)

    def unknown_path(self, request: Request) -> ApiError:
        return ApiError(404, "Not found")

    def environment(self, url: str) -> dict[str, str]:
        keys = {"ANTHROPIC_API_KEY": "emulator", "ANTHROPIC_ADMIN_KEY": "emulator-admin"}
        return {"ANTHROPIC_BASE_URL": url, **keys}
