"""Gemini's realtime calls: generateContent (whole or streamed), embedContent, batchEmbedContents, countTokens, models.

A refused call names its limit in the error; no reply says what is left of one.
"""

from collections.abc import Iterator

import msgspec

from halfrate.emulator._context import Context
from halfrate.emulator._desk import Desk
from halfrate.emulator._gemini_embeddings import embed, embed_tokens
from halfrate.emulator._gemini_models import answer, check, count_tokens, served
from halfrate.emulator._gemini_wire import page, pick_document, read_request
from halfrate.emulator._models import models_of
from halfrate.emulator._pieces import words
from halfrate.emulator._prices import Model, Tokens
from halfrate.emulator._rates import Budget, Kind, Over, RateBook, retry_headers
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._rows import Answered, Ask
from halfrate.emulator._wire import ApiError, Document, Response, documents, json_response, read_document

_MOST_EMBEDDINGS = 100
_WORDS_AT_ONCE = 4
_WORDS = {"requests": "generate_content_requests", "tokens": "generate_content_input_token_count"}


class GeminiRealtime:
    """The same models as in batches, answered one at a time, at the standard price."""

    def __init__(self, context: Context, provider: str = "gemini") -> None:
        self._context = context
        self._provider = provider
        limits = context.limits
        book = RateBook(
            {
                "requests": limits.gemini_requests_per_minute,
                "tokens": limits.gemini_tokens_per_minute,
            },
            limits.burst_seconds,
        )
        self._desk = Desk(context, provider, book, headers=_no_headers, refused=_over, crowded=_crowded)

    def routes(self, version: str) -> list[Route]:
        return [
            Route("GET", f"/{version}/models", "models", self._models),
            Route("GET", f"/{version}/models/{{}}", "models", self._model),
            *self.calls(f"/{version}/models/{{}}"),
        ]

    def calls(self, model: str) -> list[Route]:
        """What can be asked of a model at that path."""
        return [
            Route("POST", f"{model}:generateContent", "realtime", self._whole),
            Route("POST", f"{model}:streamGenerateContent", "realtime", self._streamed),
            Route("POST", f"{model}:embedContent", "realtime", self._embed),
            Route("POST", f"{model}:batchEmbedContents", "realtime", self._embed_many),
            Route("POST", f"{model}:countTokens", "count", self._count),
        ]

    async def _whole(self, call: Call) -> Response:
        return await self._generate(call, streamed=False)

    async def _streamed(self, call: Call) -> Response:
        return await self._generate(call, streamed=True)

    async def _generate(self, call: Call, *, streamed: bool) -> Response:
        body = await read_request(call.request, self._context.limits.gemini_inline_bytes)
        about = self._context.attempt()
        method = "streamGenerateContent" if streamed else "generateContent"
        model = served(call.args[-1], self._provider, method)
        check(body)
        costs: dict[Kind, float] = {"requests": 1.0, "tokens": float(count_tokens(body))}
        visit = self._desk.admit(call, about, model, "standard", costs)
        ask = Ask(call.project, call.now, about, provider=self._provider)
        answered = answer(self._context, body, model, ask)
        delivery = self._desk.bill(visit, answered, body, _name(call))
        response = json_response(answered.body)
        if streamed and call.request.params().get("alt") == "sse":
            response = Response(200, _events(answered.body), {"content-type": "text/event-stream"})
        elif streamed:
            response = json_response([answered.body])
        return self._desk.response(visit, delivery, response)

    async def _embed(self, call: Call) -> Response:
        return await self._embedded(call, many=False)

    async def _embed_many(self, call: Call) -> Response:
        return await self._embedded(call, many=True)

    async def _embedded(self, call: Call, *, many: bool) -> Response:
        body = await read_request(call.request, self._context.limits.gemini_inline_bytes)
        about = self._context.attempt()
        method = "batchEmbedContents" if many else "embedContent"
        model = served(call.args[-1], self._provider, method, "embedding")
        asked = list(documents(body.get("requests"))) if many else [body]
        if not 0 < len(asked) <= _MOST_EMBEDDINGS:
            message = f"at most {_MOST_EMBEDDINGS} requests can be in one batch, and at least one must be."
            raise ApiError(400, f"* BatchEmbedContentsRequest.requests: {message}")
        tokens = sum(map(embed_tokens, asked))
        visit = self._desk.admit(call, about, model, "standard", {"requests": 1.0, "tokens": float(tokens)})
        embeddings = [embed(one, model).body["embedding"] for one in asked]
        document: Document = {"embeddings": embeddings} if many else {"embedding": embeddings[0]}
        document["usageMetadata"] = {
            "promptTokenCount": tokens,
            "promptTokenDetails": [{"modality": "TEXT", "tokenCount": tokens}],
        }
        answered = Answered(document, model, Tokens(input=tokens))
        delivery = self._desk.bill(visit, answered, body, _name(call))
        return self._desk.response(visit, delivery, json_response(document))

    async def _count(self, call: Call) -> Response:
        body = await read_document(call.request)
        served(call.args[-1], self._provider, "countTokens")
        tokens = count_tokens(pick_document(body, "generateContentRequest") or body)
        return json_response({"totalTokens": tokens})

    async def _models(self, call: Call) -> Response:
        found = models_of(self._provider)
        serials = range(len(found), 0, -1)
        shown, token = page(call.request, list(zip(serials, found, strict=True)), 50, 1_000)
        document: Document = {"models": list(map(_model_document, shown))}
        return json_response({**document, "nextPageToken": token} if token else document)

    async def _model(self, call: Call) -> Response:
        for model in models_of(self._provider):
            if model.name == call.arg:
                return json_response(_model_document(model))
        raise ApiError(404, f"Model is not found: models/{call.arg} for api version v1beta")


def _name(call: Call) -> str:
    return call.request.header("x-client-request-id")


def _no_headers(budgets: dict[Kind, Budget], now: float) -> dict[str, str]:
    return {}


def _over(over: Over, model: Model) -> ApiError:
    metric = f"generativelanguage.googleapis.com/{_WORDS.get(over.kind, over.kind)}"
    message = (
        "You exceeded your current quota, please check your plan and billing details.\n"
        f"* Quota exceeded for metric: {metric}, limit: {over.limit}, model: {model.name}"
    )
    return ApiError(429, message, headers=retry_headers(over.seconds, exact=False))


def _crowded() -> ApiError:
    return ApiError(503, "The model is overloaded. Please try again later.")


def _model_document(model: Model) -> Document:
    embeds = model.kind == "embedding"
    methods = ["generateContent", "countTokens", "batchGenerateContent"]
    if embeds:
        methods = ["embedContent", "countTextTokens", "asyncBatchEmbedContent"]
    return {
        "name": f"models/{model.name}",
        "version": "001",
        "displayName": model.name.replace("-", " ").title(),
        "inputTokenLimit": 2_048 if embeds else 1_048_576,
        "outputTokenLimit": 1 if embeds else 65_536,
        "supportedGenerationMethods": methods,
    }


def _events(document: Document) -> Iterator[bytes]:
    """A finished answer as server-sent events: its text in pieces, calls whole, and at the end why it ended. Each tells
    what was used until then (reference of GenerateContentResponse)."""
    head = {key: document[key] for key in ("modelVersion", "responseId")}
    rest = {
        key: value for key, value in document.items() if key not in {*head, "usageMetadata", "candidates"}
    }
    usage = document["usageMetadata"]
    read = {key: value for key, value in usage.items() if key.startswith(("prompt", "cache"))}
    read["totalTokenCount"] = usage.get("promptTokenCount", 0)
    candidates = list(documents(document.get("candidates")))
    for candidate in candidates:
        content = pick_document(candidate, "content")
        *pieces, last = _pieces(content) or [None]
        for piece in pieces:
            first = {"content": {"parts": [piece], "role": "model"}, "index": candidate["index"]}
            yield _event({"candidates": [first], "usageMetadata": read, **head})
        candidate["content"] = {**content, "parts": [last]} if last is not None else content
    end = {"candidates": candidates} if candidates else rest
    yield _event({**end, "usageMetadata": usage, **head})


def _pieces(content: Document) -> list[Document]:
    """The parts of a content, texts a few words at a time."""
    found: list[Document] = []
    for part in documents(content.get("parts")):
        said = words(part["text"]) if isinstance(part.get("text"), str) else []
        some = ["".join(said[at : at + _WORDS_AT_ONCE]) for at in range(0, len(said), _WORDS_AT_ONCE)]
        found += [{**part, "text": text} for text in some] or [part]
    return found


def _event(document: Document) -> bytes:
    return b"data: " + msgspec.json.encode(document) + b"\r\n\r\n"
