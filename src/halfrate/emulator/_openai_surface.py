"""OpenAI's API: files, batches, realtime calls, usage reports."""

from typing import ClassVar

from halfrate.emulator._context import Context
from halfrate.emulator._openai_batches import OpenAIBatches
from halfrate.emulator._openai_files import OpenAIFiles
from halfrate.emulator._openai_realtime import OpenAIRealtime
from halfrate.emulator._openai_wire import error_document
from halfrate.emulator._reports import Reports
from halfrate.emulator._routes import Routes
from halfrate.emulator._surface import Surface, bearer, is_bad
from halfrate.emulator._wire import ApiError, Request, Response, json_response


class OpenAISurface(Surface):
    provider: ClassVar[str] = "openai"

    def __init__(self, context: Context) -> None:
        files = OpenAIFiles(context)
        batches = OpenAIBatches(context, files)
        realtime = OpenAIRealtime(context)
        reports = Reports(context).openai_routes()
        super().__init__(
            Routes(files.routes(), batches.routes(), realtime.routes(), reports), (batches, files)
        )

    def authenticated(self, request: Request) -> str:
        key = bearer(request)
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
        return {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": "emulator"}
