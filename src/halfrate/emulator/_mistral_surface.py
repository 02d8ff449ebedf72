"""Mistral's API: files, batch jobs, chat completions, embeddings, models."""

from typing import ClassVar, Final

from halfrate.emulator._chat_desk import ChatDesk
from halfrate.emulator._context import Context
from halfrate.emulator._mistral_batches import MistralBatches
from halfrate.emulator._mistral_files import MistralFiles
from halfrate.emulator._mistral_models import SERVED, answer, resolve
from halfrate.emulator._mistral_wire import error_document
from halfrate.emulator._models import find_model, models_of
from halfrate.emulator._openai_models import CHAT, EMBEDDINGS
from halfrate.emulator._prices import Model
from halfrate.emulator._routes import Call, Route, Routes
from halfrate.emulator._shelf import Tickets
from halfrate.emulator._surface import Surface, bearer, is_bad
from halfrate.emulator._wire import ApiError, Document, Request, Response, json_response

_MODELS_SINCE: Final = 1_750_000_000


class MistralSurface(Surface):
    provider: ClassVar[str] = "mistral"
    request_id_header: ClassVar[str] = "mistral-correlation-id"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._tickets = Tickets(context)
        self._desk = ChatDesk(context, "mistral", resolve)
        files = MistralFiles(context, self._tickets)
        batches = MistralBatches(context, files)
        calls = [
            Route("POST", CHAT, "realtime", self._chat),
            Route("POST", EMBEDDINGS, "realtime", self._embeddings),
            Route("GET", "/v1/models", "models", self._models),
            Route("GET", "/v1/models/{}", "models", self._model),
        ]
        super().__init__(Routes(files.routes(), batches.routes(), calls), (batches,))

    def authenticated(self, request: Request) -> str:
        signature = request.params().get("signature")
        if signature is not None:
            project = self._tickets.project(signature, f"/mistral{request.path}")
            if project is not None:
                return project
        key = bearer(request)
        if not key or is_bad(key):
            raise ApiError(401, "Unauthorized")
        return key

    def refused(self, error: ApiError, request_id: str) -> Response:
        return json_response(error_document(error), error.status, error.headers)

    def unknown_path(self, request: Request) -> ApiError:
        return ApiError(404, "no Route matched with those values")

    def environment(self, url: str) -> dict[str, str]:
        return {"MISTRAL_BASE_URL": url, "MISTRAL_API_KEY": "emulator"}

    async def _chat(self, call: Call) -> Response:
        return await self._desk.serve(call, lambda body, ask: answer(self._context, SERVED[0], body, ask))

    async def _embeddings(self, call: Call) -> Response:
        return await self._desk.serve(call, lambda body, ask: answer(self._context, SERVED[1], body, ask))

    async def _models(self, call: Call) -> Response:
        data = [_card(model) for model in models_of("mistral")]
        return json_response({"object": "list", "data": data})

    async def _model(self, call: Call) -> Response:
        model = find_model(call.arg, "mistral")
        if model is None:
            raise ApiError(404, f"Invalid model: {call.arg}", kind="invalid_model")
        return json_response(_card(model))


def _card(model: Model) -> Document:
    chat = model.kind == "text"
    return {
        "id": model.name,
        "object": "model",
        "created": _MODELS_SINCE,
        "owned_by": "mistralai",
        "name": model.snapshot,
        "max_context_length": 131_072 if chat else 8_192,
        "aliases": [],
        "type": "base",
        "capabilities": {"completion_chat": chat, "function_calling": chat, "fine_tuning": False},
    }
