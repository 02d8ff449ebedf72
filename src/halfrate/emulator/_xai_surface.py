"""xAI's API: files, batches, chat completions, models."""

from typing import ClassVar, Final

from halfrate.emulator._chat_desk import ChatDesk
from halfrate.emulator._context import Context
from halfrate.emulator._models import find_model, models_of
from halfrate.emulator._openai_models import CHAT
from halfrate.emulator._routes import Call, Route, Routes
from halfrate.emulator._surface import Surface, bearer, is_bad
from halfrate.emulator._wire import ApiError, Document, Request, Response, json_response
from halfrate.emulator._xai_batches import XaiBatches
from halfrate.emulator._xai_files import XaiFiles
from halfrate.emulator._xai_models import answer, resolve
from halfrate.emulator._xai_wire import error_document

_MODELS_SINCE: Final = 1_750_000_000


class XaiSurface(Surface):
    provider: ClassVar[str] = "xai"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._desk = ChatDesk(context, "xai", resolve)
        files = XaiFiles(context)
        batches = XaiBatches(context, files)
        calls = [
            Route("POST", CHAT, "realtime", self._chat),
            Route("GET", "/v1/models", "models", self._models),
            Route("GET", "/v1/models/{}", "models", self._model),
        ]
        super().__init__(Routes(files.routes(), batches.routes(), calls), (batches,))

    def authenticated(self, request: Request) -> str:
        key = bearer(request)
        if not key:
            raise ApiError(401, "No API key provided.")
        if is_bad(key):
            raise ApiError(400, f"Incorrect API key provided: {key}.")
        return key

    def refused(self, error: ApiError, request_id: str) -> Response:
        return json_response(error_document(error), error.status, error.headers)

    def unknown_path(self, request: Request) -> ApiError:
        return ApiError(404, f"Not found: {request.method} {request.path}")

    def environment(self, url: str) -> dict[str, str]:
        return {"XAI_BASE_URL": f"{url}/v1", "XAI_API_KEY": "emulator"}

    async def _chat(self, call: Call) -> Response:
        return await self._desk.serve(call, lambda body, ask: answer(self._context, body, ask))

    async def _models(self, call: Call) -> Response:
        return json_response({"object": "list", "data": [_card(model.name) for model in models_of("xai")]})

    async def _model(self, call: Call) -> Response:
        model = find_model(call.arg, "xai")
        if model is None:
            raise ApiError(404, f"The model {call.arg} does not exist.")
        return json_response(_card(model.name))


def _card(name: str) -> Document:
    return {"id": name, "object": "model", "created": _MODELS_SINCE, "owned_by": "xai"}
