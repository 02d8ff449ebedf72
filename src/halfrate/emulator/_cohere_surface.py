"""Cohere's API as far as embeddings go: datasets, batches, embed."""

from typing import ClassVar

from halfrate.emulator._chat_desk import ChatDesk
from halfrate.emulator._cohere_batches import CohereBatches
from halfrate.emulator._cohere_datasets import Datasets
from halfrate.emulator._cohere_models import EMBED, answer, resolve_realtime
from halfrate.emulator._cohere_wire import error_document
from halfrate.emulator._context import Context
from halfrate.emulator._routes import Call, Route, Routes
from halfrate.emulator._shelf import Tickets
from halfrate.emulator._surface import Surface, bearer, is_bad
from halfrate.emulator._wire import ApiError, Request, Response, json_response


class CohereSurface(Surface):
    provider: ClassVar[str] = "cohere"
    request_id_header: ClassVar[str] = "x-debug-trace-id"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._tickets = Tickets(context)
        self._desk = ChatDesk(context, "cohere", resolve_realtime)
        datasets = Datasets(context, self._tickets)
        batches = CohereBatches(context, datasets)
        calls = [Route("POST", EMBED, "realtime", self._embed)]
        super().__init__(Routes(datasets.routes(), batches.routes(), calls), (batches, datasets))

    def authenticated(self, request: Request) -> str:
        if request.path.startswith("/signed/"):
            return self._tickets.holder(request, "/cohere")
        key = bearer(request)
        if not key:
            raise ApiError(401, "no api key supplied")
        if is_bad(key):
            raise ApiError(401, "Incorrect API key provided.")
        return key

    def refused(self, error: ApiError, request_id: str) -> Response:
        return json_response(error_document(error, request_id), error.status, error.headers)

    def unknown_path(self, request: Request) -> ApiError:
        return ApiError(404, f"Page not found: {request.method} {request.path}")

    def environment(self, url: str) -> dict[str, str]:
        return {"CO_API_URL": url, "CO_API_KEY": "emulator"}

    async def _embed(self, call: Call) -> Response:
        return await self._desk.serve(call, lambda body, ask: answer(self._context, body, ask))
