"""Calls in real time, in OpenAI's form and in Anthropic's."""

from typing import Final

from halfrate.gateway.openapi.operation import (
    TAGS_HEADER,
    Json,
    Operation,
    Speaks,
    as_json,
    in_header,
    shape,
)

REALTIME: Final = "Calls in real time"
TAGS: Final = {
    REALTIME: "Passed on to whoever has the model, and answered as they are answered there. They cost what they cost "
    "there; what a key may ask, budgets and the ledger are the same as for batches.",
}
_PARAMETERS: Final = (
    TAGS_HEADER,
    in_header(
        "halfrate-timeout",
        "Seconds that the answer may take to begin, and each wait for more of it: more than 0, at most 3,600.",
        {"type": "number", "exclusiveMinimum": 0, "maximum": 3_600, "default": 600},
    ),
    in_header("x-halfrate-provider-key", "A key of the caller's own for the provider, which is then billed."),
)
_TOLD: Final[Json] = {
    "x-halfrate-model": {
        "description": "The account and model that was asked.",
        "schema": {"type": "string"},
    },
    "x-halfrate-route": {
        "description": "For a route of the settings file, what was tried and what came of it.",
        "schema": {"type": "string"},
    },
    "x-halfrate-tier": {
        "description": "How it was served. A stream does not say.",
        "schema": {"type": "string"},
    },
    "x-halfrate-cost-usd": {
        "description": "What it cost, where that is known. A stream says it in a comment before its last event.",
        "schema": {"type": "string"},
    },
}
_WAIT: Final[Json] = {
    "retry-after": {
        "description": "Seconds after which the call may be made again, where that is known.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_OWN_WORDS: Final[Json] = {
    "description": "Refused: by the gateway, or in the provider's own words.",
    "content": {"application/json": {"schema": {"type": "object"}}, "text/plain": {}},
}


def _operation(path: str, name: str, summary: str, speaks: Speaks, request: str, example: Json) -> Operation:
    error = "AnthropicError" if speaks == "anthropic" else "Error"

    def failed(text: str, headers: Json | None = None) -> Json:
        return {"description": text, "headers": headers or {}, "content": as_json(shape(error))}

    return Operation(
        method="POST",
        path=path,
        name=name,
        summary=summary,
        tag=REALTIME,
        speaks=speaks,
        parameters=_PARAMETERS,
        body=as_json(shape(request), example),
        gives="The answer, as its provider gives it; in server-sent events if `stream` asks for them.",
        content={"application/json": {"schema": {"type": "object"}}, "text/event-stream": {}},
        headers=_TOLD,
        refuses={402: "", 403: "The key does not open this API, or may not ask this model."},
        replies={
            **dict.fromkeys(("400", "404", "413", "default"), _OWN_WORDS),
            "429": failed("The key has made its calls of the minute, or there is too much to do.", _WAIT),
            "502": failed("The provider failed or could not be reached, and nothing was run.", _WAIT),
            "503": failed("The model cannot be asked here now, and nothing was run.", _WAIT),
            "504": failed(
                "Nobody knows whether the call was run: it may be billed.",
                {
                    "x-should-retry": {
                        "description": "`false`, for the clients.",
                        "schema": {"type": "string"},
                    }
                },
            ),
        },
    )


_GPT: Final = "gpt-4.1-mini"
_QUESTION: Final[Json] = {"role": "user", "content": "What is two plus two?"}

OPERATIONS: Final = [
    _operation(
        "/v1/chat/completions",
        "createChatCompletion",
        "Ask for a chat completion",
        "openai",
        "OpenAIRequest",
        {"model": _GPT, "messages": [_QUESTION]},
    ),
    _operation(
        "/v1/responses",
        "createResponse",
        "Ask for a response",
        "openai",
        "OpenAIRequest",
        {"model": _GPT, "input": _QUESTION["content"]},
    ),
    _operation(
        "/v1/embeddings",
        "createEmbedding",
        "Ask for embeddings",
        "openai",
        "OpenAIRequest",
        {"model": "text-embedding-3-small", "input": ["two", "four"]},
    ),
    _operation(
        "/v1/messages",
        "createMessage",
        "Ask for a message",
        "anthropic",
        "AnthropicRequest",
        {"model": "claude-haiku-4-5", "max_tokens": 100, "messages": [_QUESTION]},
    ),
]
