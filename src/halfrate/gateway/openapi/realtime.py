"""Calls in real time, in OpenAI's form and in Anthropic's; and the same as calls that can wait."""

from typing import Final

from halfrate.gateway.openapi.operation import (
    RETRIES_HEADER,
    TAGS_HEADER,
    Json,
    Operation,
    Speaks,
    as_json,
    in_header,
    in_path,
    in_query,
    shape,
)

REALTIME: Final = "Calls in real time"
WAITING: Final = "Calls that can wait"
TAGS: Final = {
    REALTIME: "Passed on to whoever has the model, and answered as they are answered there. They cost what they cost "
    "there; what a key may ask, budgets and the ledger are the same as for batches. With a deadline they are calls "
    "that can wait.",
    WAITING: "A call with a `halfrate-deadline`, or with one behind its model's name as in `gpt-4.1-mini+2h`, is "
    "gathered with others into a batch and costs what a batch does. It is answered when its row is done: on the line, "
    "or, in the background, to whoever asks for it by its id within three days of its end. Where the deadline is too "
    "near for a batch it runs in real time, and the reply says so.",
}
_PARAMETERS: Final = (
    TAGS_HEADER,
    in_header(
        "halfrate-timeout",
        "Seconds that the answer may take to begin, and each wait for more of it: more than 0, at most 3,600.",
        {"type": "number", "exclusiveMinimum": 0, "maximum": 3_600, "default": 600},
    ),
    in_header(
        "x-halfrate-provider-key",
        "A key of the caller's own for the provider, which is then billed. Not for calls that wait.",
    ),
    in_header(
        "halfrate-deadline",
        "Until when the call can wait, as in `8h`, `90m`, `06:00` or an ISO time.",
        {"type": "string", "minLength": 1},
    ),
    in_header(
        "halfrate-background",
        "Whether the reply is to be an id, under which the answer can be asked for. In a call of OpenAI's responses "
        "the body says so.",
        {"type": "string", "enum": ["true", "false"]},
    ),
    in_header(
        "idempotency-key",
        "Of a call that can wait, or is in the background: another with the same key is the same call, which is run "
        "and paid for once.",
        {"type": "string", "minLength": 1, "maxLength": 255},
    ),
    RETRIES_HEADER,
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
    "x-halfrate-call": {
        "description": "The id of a call that could wait.",
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
            "202": {
                "description": "A call in the background was taken on.",
                "headers": {"x-halfrate-call": _TOLD["x-halfrate-call"]},
                "content": as_json(shape("Call")),
            },
            "422": failed("The idempotency key came with another call before."),
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


_CALL: Final = in_path("The id that the call was given.")
_SHOWN: Final[Json] = {"anyOf": [shape("Call"), {"type": "object"}]}
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
    Operation(
        method="GET",
        path="/v1/halfrate/calls/{id}",
        name="retrieveCall",
        summary="Look at a call that can wait",
        tag=WAITING,
        speaks="own",
        parameters=(_CALL,),
        gives="The call, with its answer once there is one; one of OpenAI's responses in that form.",
        content=as_json(_SHOWN),
        refuses={404: "There is no such call, it is another team's, or its answer is not kept any more."},
    ),
    Operation(
        method="POST",
        path="/v1/halfrate/calls/{id}/cancel",
        name="cancelCall",
        summary="Cancel a call that was not sent yet",
        tag=WAITING,
        speaks="own",
        parameters=(_CALL,),
        gives="The call, which costs nothing.",
        content=as_json(_SHOWN),
        refuses={404: "", 409: "It has been answered, or is with its provider."},
    ),
    Operation(
        method="GET",
        path="/v1/responses/{id}",
        name="retrieveResponse",
        summary="Look at a response in the background",
        tag=WAITING,
        speaks="openai",
        parameters=(
            _CALL,
            in_query("stream", "It is given in one piece.", {"type": "string", "enum": ["false"]}),
        ),
        gives="The response, in OpenAI's form.",
        content=as_json({"type": "object"}),
        refuses={400: "It cannot be streamed.", 404: ""},
    ),
    Operation(
        method="DELETE",
        path="/v1/responses/{id}",
        name="deleteResponse",
        summary="Forget a response that has ended",
        tag=WAITING,
        speaks="openai",
        parameters=(_CALL,),
        gives="It is gone.",
        content=as_json(shape("DeletedResponse")),
        refuses={404: "", 409: "It has not ended."},
    ),
    Operation(
        method="POST",
        path="/v1/responses/{id}/cancel",
        name="cancelResponse",
        summary="Cancel a response that was not sent yet",
        tag=WAITING,
        speaks="openai",
        parameters=(_CALL,),
        gives="The response, which costs nothing.",
        content=as_json({"type": "object"}),
        refuses={404: "", 409: "It has been answered, or is with its provider."},
    ),
]
