"""Events that providers send to the gateway."""

from typing import Final

from halfrate.gateway.openapi.operation import Json, Operation, as_json, in_header, in_path, shape
from halfrate.gateway.webhooks import PLACE

EVENTS: Final = "Events of providers"
TAGS: Final = {
    EVENTS: "Hints that a batch has ended, so that it is looked at now and not at its next turn. They come without a "
    "key: who they are from is proved by their signature.",
}
_TEXT: Final[Json] = {"type": "string", "minLength": 1}


def _operation(provider: str, name: str, title: str) -> Operation:
    return Operation(
        method="POST",
        path=f"{PLACE}{provider}/{{account}}",
        name=name,
        summary=f"An event of {title}'s",
        tag=EVENTS,
        speaks="open",
        parameters=(
            in_path(f"`{provider}`, or an account of the settings file.", "account"),
            in_header(
                "webhook-id", "Names the event; one that comes again is heeded once.", _TEXT, required=True
            ),
            in_header("webhook-timestamp", "When it was sent; seconds since 1970.", _TEXT, required=True),
            in_header(
                "webhook-signature",
                "Of the id, the time and the body, as Standard Webhooks have it.",
                _TEXT,
                required=True,
            ),
        ),
        body=as_json({"type": "object"}),
        gives="It was taken in.",
        content=as_json(shape("Received")),
        refuses={
            401: "The signature is not this account's, or too old.",
            404: "There is no such account, or no secret is set for it.",
            408: "The body did not come in time.",
            413: "",
            429: "Too many events come at a time.",
            500: "",
            503: "",
        },
    )


OPERATIONS: Final = [
    _operation("openai", "takeOpenAIEvent", "OpenAI"),
    _operation("gemini", "takeGeminiEvent", "Gemini"),
]
