"""OpenAI's realtime calls, in every dialect: chat completions and responses (whole or streamed), embeddings, models."""

from collections.abc import Iterator

import msgspec

from halfrate.emulator._context import Context
from halfrate.emulator._desk import Desk, Visit
from halfrate.emulator._dialects import OPENAI, Dialect
from halfrate.emulator._models import models_of
from halfrate.emulator._openai_models import CHAT, EMBEDDINGS, RESPONSES, answer, prompt_tokens, resolve_model
from halfrate.emulator._pieces import choice_deltas, event
from halfrate.emulator._prices import Model
from halfrate.emulator._rates import Over, RateBook, openai_headers, retry_headers
from halfrate.emulator._response_pieces import response_events
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._rows import Ask
from halfrate.emulator._wire import (
    ApiError,
    Delivery,
    Document,
    Response,
    as_document,
    json_response,
    read_document,
)

_MODELS_SINCE = 1_750_000_000
_TIERS = {
    "auto": "standard",
    "default": "standard",
    "scale": "standard",
    "flex": "flex",
    "priority": "priority",
    "fast": "priority",
}
_WORDS = {"requests": "requests per min (RPM)", "tokens": "tokens per min (TPM)"}


class OpenAIRealtime:
    """The same models as in batches, answered one at a time, in the tier that the call asks for if there is room."""

    def __init__(self, context: Context, dialect: Dialect = OPENAI) -> None:
        self._context = context
        self._dialect = dialect
        limits = context.limits
        book = RateBook(
            {"requests": limits.openai_requests_per_minute, "tokens": limits.openai_tokens_per_minute},
            limits.burst_seconds,
        )
        self._desk = Desk(
            context,
            dialect.provider,
            book,
            headers=lambda budgets, _: openai_headers(budgets),
            refused=_over,
            crowded=_crowded,
        )

    def routes(self) -> list[Route]:
        handlers = {CHAT: self._chat, RESPONSES: self._responses, EMBEDDINGS: self._embeddings}
        dialect = self._dialect
        routes = [
            Route("POST", pattern, "realtime", handlers[call])
            for call in dialect.calls
            for pattern in dialect.routes_to(call.removeprefix("/v1"))
        ]
        routes += [Route("GET", pattern, "models", self._models) for pattern in dialect.routes_to("/models")]
        # A model's name may have slashes in it.
        names = ("/models/{}", "/models/{}/{}", "/models/{}/{}/{}")
        return routes + [
            Route("GET", pattern, "models", self._model)
            for name in names
            for pattern in dialect.routes_to(name)
        ]

    async def _read(self, call: Call) -> Document:
        """The body of a call."""
        return await read_document(call.request)

    def _answer(self, call: Call, endpoint: str, body: Document) -> tuple[Document, Visit, Delivery]:
        context, dialect, sent = self._context, self._dialect, body
        about = context.attempt()
        body = dialect.asked(sent)
        model = resolve_model(body, dialect.provider)
        tiered = dialect.tiers and endpoint != EMBEDDINGS
        tier = self._tier(model, body, about) if tiered else "standard"
        most = body.get("max_completion_tokens") or body.get("max_tokens") or body.get("max_output_tokens")
        weight = max(prompt_tokens(endpoint, body), most if isinstance(most, int) else 0)
        visit = self._desk.admit(call, about, model, tier, {"requests": 1.0, "tokens": float(weight)})
        try:
            answered = answer(
                context, endpoint, body, Ask(call.project, call.now, about, provider=dialect.provider)
            )
        except ApiError as error:
            error.headers = {**visit.headers, **error.headers}
            raise
        if tiered:
            answered.body["service_tier"] = "default" if tier == "standard" else tier
        else:
            answered.body.pop("service_tier", None)
        name = call.request.header("x-client-request-id")
        delivery = self._desk.bill(visit, answered, sent, name)
        return dialect.dressed(answered.body), visit, delivery

    def _tier(self, model: Model, body: Document, about: str) -> str:
        """The tier that a call is served in. Raises ApiError where it cannot be served in the one it asks for."""
        asked = body.get("service_tier")
        faults = self._context.faults
        if asked is not None and (not isinstance(asked, str) or asked not in _TIERS):
            raise ApiError(400, "Invalid service_tier argument", param="service_tier")
        tier = _TIERS[asked or "auto"]
        if tier == "flex":
            if not model.flex:
                raise ApiError(400, "Invalid service_tier argument", param="service_tier")
            if faults.strike("flex-unavailable", self._dialect.provider, about):
                message = "Resource unavailable: there is not enough capacity for flex processing right now."
                raise ApiError(429, message, code="resource_unavailable", kind="resource_unavailable")
        if tier == "priority" and model.priority is None:
            return "standard"
        if tier != "standard" and faults.strike("tier-changed", self._dialect.provider, about):
            return "standard"
        return tier

    def _whole(self, document: Document, visit: Visit, delivery: Delivery) -> Response:
        # The service indents its realtime replies.
        body = msgspec.json.format(msgspec.json.encode(document), indent=2)
        response = Response(200, body, {"content-type": "application/json"})
        return self._desk.response(visit, delivery, response)

    async def _chat(self, call: Call) -> Response:
        body = await self._read(call)
        document, visit, delivery = self._answer(call, CHAT, body)
        if not body.get("stream"):
            return self._whole(document, visit, delivery)
        options = as_document(body.get("stream_options")) or {}
        chunks = _chat_events(document, with_usage=bool(options.get("include_usage")))
        response = Response(200, chunks, {"content-type": "text/event-stream; charset=utf-8"})
        return self._desk.response(visit, delivery, response)

    async def _responses(self, call: Call) -> Response:
        body = await self._read(call)
        document, visit, delivery = self._answer(call, RESPONSES, body)
        if not body.get("stream"):
            return self._whole(document, visit, delivery)
        events = response_events(document)
        response = Response(200, events, {"content-type": "text/event-stream; charset=utf-8"})
        return self._desk.response(visit, delivery, response)

    async def _embeddings(self, call: Call) -> Response:
        return self._whole(*self._answer(call, EMBEDDINGS, await self._read(call)))

    async def _models(self, call: Call) -> Response:
        data = [_model_document(model.name) for model in models_of(self._dialect.provider)]
        return json_response({"object": "list", "data": data})

    async def _model(self, call: Call) -> Response:
        name = "/".join(call.args)
        if self._dialect.model(name) is None:
            raise ApiError(404, f"The model '{name}' does not exist", code="model_not_found", param="model")
        return json_response(_model_document(name))


def _over(over: Over, model: Model) -> ApiError:
    what = _WORDS[over.kind]
    where = f"for {model.name} in organization org-emulator on {what}: Limit {over.limit}"
    if over.asked > over.limit:
        message = (
            f"Request too large {where}, Requested {over.asked}. The input or output tokens must be reduced."
        )
    else:
        message = (
            f"Rate limit reached {where}, Used {over.used}, Requested {over.asked}. Please try again later."
        )
    headers = retry_headers(over.seconds, exact=True)
    return ApiError(429, message, code="rate_limit_exceeded", kind=over.kind, headers=headers)


def _crowded() -> ApiError:
    message = "The model is temporarily overloaded. Please try again later."
    return ApiError(503, message, code="server_is_overloaded", kind="service_unavailable_error")


def _model_document(name: str) -> Document:
    return {"id": name, "object": "model", "created": _MODELS_SINCE, "owned_by": "system"}


def _chat_events(document: Document, *, with_usage: bool) -> Iterator[bytes]:
    """A finished answer as server-sent events: a role, bit by bit what it says, an end, and usage if asked for."""
    kept = ("id", "created", "model", "service_tier", "system_fingerprint")
    head = {key: document[key] for key in kept if key in document}
    head["object"] = "chat.completion.chunk"
    usage: Document = {"usage": None} if with_usage else {}
    for choice in document["choices"]:
        index = choice["index"]
        for delta in choice_deltas(choice["message"]):
            part = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
            yield event({**head, "choices": [part], **usage})
        end: Document = {
            "index": index,
            "delta": {},
            "logprobs": None,
            "finish_reason": choice["finish_reason"],
        }
        yield event({**head, "choices": [end], **usage})
    if with_usage:
        yield event({**head, "choices": [], "usage": document["usage"]})
    yield b"data: [DONE]\n\n"
