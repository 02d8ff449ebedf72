"""OpenAI's realtime calls: chat completions (whole or streamed), responses, embeddings, models."""

from collections.abc import Iterator

import msgspec

from halfrate.emulator._context import Context
from halfrate.emulator._meter import Charge, fingerprint
from halfrate.emulator._openai_models import CHAT, EMBEDDINGS, RESPONSES, answer
from halfrate.emulator._prices import MODELS, find_model
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._rows import Answered, Ask
from halfrate.emulator._wire import ApiError, Document, Response, as_document, json_response, read_document

_MODELS_SINCE = 1_750_000_000


class OpenAIRealtime:
    """The same models as in batches, answered at once, at the standard price (or flex, when asked for)."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def routes(self) -> list[Route]:
        return [
            Route("POST", CHAT, "realtime", self._chat),
            Route("POST", RESPONSES, "realtime", self._responses),
            Route("POST", EMBEDDINGS, "realtime", self._embeddings),
            Route("GET", "/v1/models", "models", self._models),
            Route("GET", "/v1/models/{}", "models", self._model),
        ]

    def _answer(self, call: Call, endpoint: str, body: Document) -> Answered:
        context = self._context
        context.meter.realtime_received += 1
        ask = Ask(call.project, call.now, context.attempt())
        answered = answer(context, endpoint, body, ask)
        tier = "flex" if body.get("service_tier") == "flex" else "standard"
        mark = fingerprint(body)
        context.meter.bill(Charge(call.now, "openai", tier, answered.model, answered.tokens, "", "", mark))
        return answered

    async def _chat(self, call: Call) -> Response:
        body = await read_document(call.request)
        document = self._answer(call, CHAT, body).body
        if not body.get("stream"):
            return json_response(document)
        options = as_document(body.get("stream_options")) or {}
        chunks = _chat_events(document, with_usage=bool(options.get("include_usage")))
        return Response(200, chunks, {"content-type": "text/event-stream; charset=utf-8"})

    async def _responses(self, call: Call) -> Response:
        body = await read_document(call.request)
        if body.get("stream"):
            raise ApiError(
                400, "This server does not stream responses; it streams chat completions.", param="stream"
            )
        return json_response(self._answer(call, RESPONSES, body).body)

    async def _embeddings(self, call: Call) -> Response:
        return json_response(self._answer(call, EMBEDDINGS, await read_document(call.request)).body)

    async def _models(self, call: Call) -> Response:
        data = [_model_document(name) for name, model in MODELS.items() if model.provider == "openai"]
        return json_response({"object": "list", "data": data})

    async def _model(self, call: Call) -> Response:
        if find_model(call.arg, "openai") is None:
            raise ApiError(
                404, f"The model '{call.arg}' does not exist", code="model_not_found", param="model"
            )
        return json_response(_model_document(call.arg))


def _model_document(name: str) -> Document:
    return {"id": name, "object": "model", "created": _MODELS_SINCE, "owned_by": "system"}


def _event(document: Document) -> bytes:
    return b"data: " + msgspec.json.encode(document) + b"\n\n"


def _chat_events(document: Document, *, with_usage: bool) -> Iterator[bytes]:
    """A finished answer as server-sent events: a role, word after word, an end, and usage if asked for."""
    head = {key: document[key] for key in ("id", "created", "model", "service_tier", "system_fingerprint")}
    head["object"] = "chat.completion.chunk"
    usage: Document = {"usage": None} if with_usage else {}
    for choice in document["choices"]:
        message, index = choice["message"], choice["index"]
        deltas: list[Document] = [{"role": "assistant", "content": ""}]
        words = str(message["content"] or "").split(" ")
        deltas += [
            {"content": word if not number else f" {word}"} for number, word in enumerate(words) if word
        ]
        if message["refusal"]:
            deltas.append({"refusal": message["refusal"]})
        if "tool_calls" in message:
            deltas.append(
                {"tool_calls": [{"index": n, **one} for n, one in enumerate(message["tool_calls"])]}
            )
        for delta in deltas:
            part = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
            yield _event({**head, "choices": [part], **usage})
        end: Document = {
            "index": index,
            "delta": {},
            "logprobs": None,
            "finish_reason": choice["finish_reason"],
        }
        yield _event({**head, "choices": [end], **usage})
    if with_usage:
        yield _event({**head, "choices": [], "usage": document["usage"]})
    yield b"data: [DONE]\n\n"
