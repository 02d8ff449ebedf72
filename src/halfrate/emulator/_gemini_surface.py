"""The Gemini Developer API: generateContent, embeddings, files, batches."""

from typing import ClassVar

from halfrate.emulator._context import Context
from halfrate.emulator._gemini_batches import GeminiBatches
from halfrate.emulator._gemini_files import GeminiFiles
from halfrate.emulator._gemini_realtime import GeminiRealtime
from halfrate.emulator._gemini_wire import error_response
from halfrate.emulator._routes import Routes
from halfrate.emulator._surface import Surface, is_bad
from halfrate.emulator._wire import ApiError, Request, Response

_VERSIONS = ("v1beta", "v1alpha", "v1")


class GeminiSurface(Surface):
    provider: ClassVar[str] = "gemini"

    def __init__(self, context: Context) -> None:
        self._files = GeminiFiles(context)
        batches = GeminiBatches(context, self._files)
        realtime = GeminiRealtime(context)
        groups = [part.routes(version) for version in _VERSIONS for part in (batches, realtime, self._files)]
        # Results become files before files are looked at for their age.
        super().__init__(Routes(*groups), (batches, self._files))

    def authenticated(self, request: Request) -> str:
        key = request.header("x-goog-api-key") or request.params().get("key", "")
        if key and is_bad(key):
            message = "API key not valid. Please pass a valid API key."
            raise ApiError(400, message, param="API_KEY_INVALID")
        if not key and request.path.startswith("/upload/"):
            key = self._files.uploader(request) or ""
        if not key:
            message = "Method doesn't allow unregistered callers (callers without established identity)."
            raise ApiError(403, f"{message} Please use API Key or other form of API consumer identity.")
        return key

    def refused(self, error: ApiError, request_id: str) -> Response:
        return error_response(error)

    def unknown_path(self, request: Request) -> ApiError:
        return ApiError(404, f"The requested URL {request.path} was not found on this server.")

    def environment(self, url: str) -> dict[str, str]:
        return {"GOOGLE_GEMINI_BASE_URL": url, "GEMINI_API_KEY": "emulator"}
