"""Anthropic's realtime calls: messages (whole or streamed), token counting, models."""

from collections.abc import Iterator

import msgspec

from halfrate.emulator._anthropic_models import answer, count_tokens
from halfrate.emulator._context import Context
from halfrate.emulator._meter import Charge, fingerprint
from halfrate.emulator._prices import MODELS, Model, find_model
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


class AnthropicRealtime:
    """The same models as in batches, answered at once, at the standard price."""

    def __init__(self, context: Context) -> None:
        self._context = context

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
        context.meter.realtime_received += 1
        ask = Ask(call.project, call.now, context.attempt())
        answered = answer(context, body, call.request.header("anthropic-version"), ask, "standard")
        charge = Charge(
            call.now, "anthropic", "standard", answered.model, answered.tokens, "", "", fingerprint(body)
        )
        context.meter.bill(charge)
        if not body.get("stream"):
            return json_response(answered.body)
        return Response(
            200, _message_events(answered.body), {"content-type": "text/event-stream; charset=utf-8"}
        )

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
        found = [model for model in MODELS.values() if model.provider == "anthropic"]
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
            words = block["text"].split(" ")
            deltas = [
                {"type": "text_delta", "text": word if not n else f" {word}"} for n, word in enumerate(words)
            ]
        else:
            head = {**block, "input": {}}
            deltas = [
                {"type": "input_json_delta", "partial_json": msgspec.json.encode(block["input"]).decode()}
            ]
        yield _event({"type": "content_block_start", "index": index, "content_block": head})
        for delta in deltas:
            yield _event({"type": "content_block_delta", "index": index, "delta": delta})
        yield _event({"type": "content_block_stop", "index": index})
    end = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield _event({"type": "message_delta", "delta": end, "usage": {"output_tokens": usage["output_tokens"]}})
    yield _event({"type": "message_stop"})
