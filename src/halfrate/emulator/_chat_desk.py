"""Realtime calls of providers that answer in OpenAI's form: whole, or as server-sent events."""

from collections.abc import Callable, Iterator

from halfrate.emulator._context import Context
from halfrate.emulator._desk import Desk
from halfrate.emulator._pieces import choice_deltas, event
from halfrate.emulator._prices import Model
from halfrate.emulator._rates import Over, RateBook, retry_headers
from halfrate.emulator._routes import Call
from halfrate.emulator._rows import Answered, Ask
from halfrate.emulator._wire import ApiError, Document, Response, json_response, read_document

Answer = Callable[[Document, Ask], Answered]


class ChatDesk:
    """Where the realtime calls of one provider come in. It has no limits by the minute.

    Args:
        resolve: the model that a body names, or ApiError.
    """

    def __init__(self, context: Context, provider: str, resolve: Callable[[Document], Model]) -> None:
        self._context = context
        self._provider = provider
        self._resolve = resolve
        book = RateBook({}, context.limits.burst_seconds)
        self._desk = Desk(context, provider, book, headers=lambda _, __: {}, refused=_over, crowded=_crowded)

    async def serve(self, call: Call, answer: Answer, model: Model | None = None) -> Response:
        """Answer one call, and bill it at the standard price. `model` is the one that its path names."""
        body = await read_document(call.request)
        about = self._context.attempt()
        visit = self._desk.admit(call, about, model or self._resolve(body), "standard", {"requests": 1.0})
        answered = answer(body, Ask(call.project, call.now, about, provider=self._provider))
        delivery = self._desk.bill(visit, answered, body)
        response = json_response(answered.body)
        if body.get("stream") and "choices" in answered.body:
            events = _events(answered.body)
            response = Response(200, events, {"content-type": "text/event-stream; charset=utf-8"})
        return self._desk.response(visit, delivery, response)


def _over(over: Over, _: Model) -> ApiError:
    return ApiError(429, "Rate limit exceeded", headers=retry_headers(over.seconds, exact=False))


def _crowded() -> ApiError:
    return ApiError(503, "Service unavailable.")


def _events(document: Document) -> Iterator[bytes]:
    """A finished answer as chunks: bit by bit what it says, how it ended with its usage, and the end."""
    head = {key: document[key] for key in ("id", "created", "model")}
    head["object"] = "chat.completion.chunk"
    for choice in document["choices"]:
        for delta in choice_deltas(choice["message"]):
            part: Document = {"index": choice["index"], "delta": delta, "finish_reason": None}
            yield event({**head, "choices": [part]})
    ends = [
        {"index": choice["index"], "delta": {"content": ""}, "finish_reason": choice["finish_reason"]}
        for choice in document["choices"]
    ]
    yield event({**head, "choices": ends, "usage": document["usage"]})
    yield b"data: [DONE]\n\n"
