"""Fireworks' API: datasets, batch inference jobs, chat completions, models."""

from typing import ClassVar, Final

from halfrate.emulator._chat_desk import ChatDesk
from halfrate.emulator._context import Context
from halfrate.emulator._fireworks_datasets import Datasets
from halfrate.emulator._fireworks_jobs import FireworksJobs
from halfrate.emulator._fireworks_models import answer, resolve
from halfrate.emulator._fireworks_wire import INFERENCE, error_document
from halfrate.emulator._models import models_of
from halfrate.emulator._routes import Call, Route, Routes
from halfrate.emulator._shelf import Tickets
from halfrate.emulator._surface import Surface, bearer, is_bad
from halfrate.emulator._wire import ApiError, Request, Response, json_response

_MODELS_SINCE: Final = 1_750_000_000


class FireworksSurface(Surface):
    provider: ClassVar[str] = "fireworks"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._tickets = Tickets(context)
        self._desk = ChatDesk(context, "fireworks", resolve)
        datasets = Datasets(context, self._tickets)
        jobs = FireworksJobs(context, datasets)
        calls = [
            Route("POST", "/inference/v1/chat/completions", "realtime", self._chat),
            Route("GET", "/inference/v1/models", "models", self._models),
        ]
        super().__init__(Routes(datasets.routes(), jobs.routes(), calls), (jobs,))

    def authenticated(self, request: Request) -> str:
        if request.path.startswith("/signed/"):
            return self._tickets.holder(request, "/fireworks")
        key = bearer(request)
        if not key or is_bad(key):
            raise ApiError(403, "The API key you provided is invalid.")
        return key

    def refused(self, error: ApiError, request_id: str) -> Response:
        return json_response(error_document(error), error.status, error.headers)

    def unknown_path(self, request: Request) -> ApiError:
        return ApiError(404, "Not Found")

    def environment(self, url: str) -> dict[str, str]:
        return {
            "FIREWORKS_BASE_URL": url,
            "FIREWORKS_API_KEY": "emulator",
            "FIREWORKS_ACCOUNT_ID": "emulator",
        }

    async def _chat(self, call: Call) -> Response:
        try:
            return await self._desk.serve(call, lambda body, ask: answer(self._context, body, ask))
        except ApiError as error:
            error.kind = INFERENCE
            raise

    async def _models(self, call: Call) -> Response:
        data = [
            {"id": model.name, "object": "model", "created": _MODELS_SINCE, "owned_by": "fireworks"}
            for model in models_of("fireworks")
        ]
        return json_response({"object": "list", "data": data})
