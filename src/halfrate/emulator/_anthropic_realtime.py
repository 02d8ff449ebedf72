"""Anthropic's realtime calls: messages (whole or streamed), token counting, models."""

from collections.abc import Iterator

import msgspec

from halfrate.emulator._anthropic_models import answer, check, count_tokens
from halfrate.emulator._context import Context
from halfrate.emulator._desk import Desk
from halfrate.emulator._models import find_model, models_of
from halfrate.emulator._pieces import bits, words
from halfrate.emulator._prices import Model
from halfrate.emulator._rates import Costs, Over, RateBook, anthropic_headers, retry_headers
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._rows import Ask
from halfrate.emulator._wire import (
    ApiError,
    Document,
    Response,
    documents,
    json_response,
    read_document,
    whole_number,
)

_CREATED = "2026-01-01T00:00:00Z"
_WORDS = {
    "requests": "requests per minute",
    "input": "input tokens per minute",
    "output": "output tokens per minute",
}


class AnthropicRealtime:
    """The same models as in batches, answered one at a time, at the standard price."""

    def __init__(self, context: Context) -> None:
        self._context = context
        limits = context.limits
        book = RateBook(
            {
                "requests": limits.anthropic_requests_per_minute,
                "input": limits.anthropic_input_tokens_per_minute,
                "output": limits.anthropic_output_tokens_per_minute,
            },
            limits.burst_seconds,
        )
        self._desk = Desk(
            context, "anthropic", book, headers=anthropic_headers, refused=_over, crowded=_crowded
        )

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/v1/messages", "realtime", self._messages),
            Route("POST", "/v1/messages/count_tokens", "count", self._count),
            Route("GET", "/v1/models", "models", self._models),
            Route("GET", "/v1/models/{}", "models", self._model),
        ]

    async def _messages(self, call: Call) -> Response:
        context = self._context
        body = await read_document(call.request)
        about = context.attempt()
        version = call.request.header("anthropic-version")
        model = check(body, version, batch=False)
        # What will be written counts as it is written; a call needs some of that limit to be left.
        costs: Costs = {"requests": 1.0, "input": float(count_tokens(body)), "output": 1.0}
        visit = self._desk.admit(call, about, model, "standard", costs)
        try:
            answered = answer(context, body, version, Ask(call.project, call.now, about), "standard")
        except ApiError as error:
            error.headers = {**visit.headers, **error.headers}
            raise
        # Tokens read from a cache are not counted.
        self._desk.weigh(visit, "input", -answered.tokens.cached)
        self._desk.weigh(visit, "output", answered.tokens.output - 1)
        delivery = self._desk.bill(visit, answered, body)
        response = json_response(answered.body)
        if body.get("stream"):
            events = _message_events(answered.body)
            response = Response(200, events, {"content-type": "text/event-stream; charset=utf-8"})
        return self._desk.response(visit, delivery, response)

    async def _count(self, call: Call) -> Response:
        body = await read_document(call.request)
        for key in ("model", "messages"):
            if key not in body:
                raise ApiError(400, f"{key}: Field required")
        if find_model(body["model"], "anthropic") is None:
            raise ApiError(404, f"model: {body['model']}")
        return json_response({"input_tokens": count_tokens(body)})

    async def _models(self, call: Call) -> Response:
        params = call.request.params()
        limit = whole_number(params.get("limit"), "limit", 20, 1, 1_000)
        found = models_of("anthropic")
        names = [model.snapshot for model in found]
        after = params.get("after_id")
        start = names.index(after) + 1 if after in names else 0
        data = [_model_document(model) for model in found[start : start + limit]]
        ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
        return json_response({"data": data, **ends, "has_more": len(found) > start + limit})

    async def _model(self, call: Call) -> Response:
        model = find_model(call.arg, "anthropic")
        if model is None:
            raise ApiError(404, f"model: {call.arg}")
        return json_response(_model_document(model))


def _over(over: Over, model: Model) -> ApiError:
    what = f"{over.limit:,} {_WORDS[over.kind]}"
    message = f"This request would exceed your organization's rate limit of {what} (model: {model.name})."
    return ApiError(429, message, headers=retry_headers(over.seconds, exact=False))


def _crowded() -> ApiError:
    return ApiError(529, "Overloaded")


def _model_document(model: Model) -> Document:
    name = model.name.replace("-", " ").title()
    return {
        "id": model.snapshot,
        "type": "model",
        "display_name": name,
        "created_at": _CREATED,
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "line": model.name.split("-")[1],
        "max_input_tokens": 1_000_000,
        "max_tokens": 64_000,
    }


def _event(document: Document) -> bytes:
    return f"event: {document['type']}\n".encode() + b"data: " + msgspec.json.encode(document) + b"\n\n"


def _message_events(message: Document) -> Iterator[bytes]:
    """A finished message as server-sent events (streaming guide)."""
    usage = message["usage"]
    start: Document = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield _event({"type": "message_start", "message": start})
    for index, block in enumerate(documents(message["content"])):
        head: Document
        if block["type"] == "text":
            head = {"type": "text", "text": "", "citations": None}
            deltas = [{"type": "text_delta", "text": word} for word in words(block["text"])]
        else:
            head = {**block, "input": {}}
            written = bits(msgspec.json.encode(block["input"]).decode())
            deltas = [{"type": "input_json_delta", "partial_json": bit} for bit in written]
        yield _event({"type": "content_block_start", "index": index, "content_block": head})
        if not index:
            yield _event({"type": "ping"})
        for delta in deltas:
            yield _event({"type": "content_block_delta", "index": index, "delta": delta})
        yield _event({"type": "content_block_stop", "index": index})
    end = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield _event({"type": "message_delta", "delta": end, "usage": {"output_tokens": usage["output_tokens"]}})
    yield _event({"type": "message_stop"})
