"""What the gateway speaks, as an OpenAPI 3.1 document: each call, what it takes, and every reply that it can give.

A call that is added to the table in `gateway/app.py` is described by one `Operation`: in `openai_surface`,
`anthropic_surface`, `realtime`, `webhooks` or `own`, by whose API it is. Shapes that it takes are added
to `asked`, those that it gives to `given`. The page for people is made from the same, and a test fails for a call
without a description and for a description without a call.
"""

from typing import TYPE_CHECKING, Final

from halfrate.base.version import VERSION
from halfrate.gateway.openapi import anthropic_surface, openai_surface, own, realtime, webhooks
from halfrate.gateway.openapi.asked import ASKED
from halfrate.gateway.openapi.given import GIVEN
from halfrate.gateway.openapi.operation import HEADERS, Json, Operation

if TYPE_CHECKING:
    from halfrate.gateway.app import Limits

_ABOUT: Final = (
    "halfrate runs LLM workloads that can wait through the providers' batch APIs, at about half the price. Its "
    "gateway speaks OpenAI's and Anthropic's APIs: an official client works with it once it has the gateway's address "
    "and a key of the gateway's, which `halfrate keys create NAME` makes. A key sees the files, uploads and batches of "
    "its own team alone.\n\n"
    "Every reply has a request id in a header; the gateway's log names the call by it. HEAD is answered where GET is. "
    "A method that an address does not take is answered with 405, and in `allow` with those that it takes; an address "
    "that there is not with 404; what is no HTTP request with 400 and plain text."
)
_TAGS: Final = {**openai_surface.TAGS, **anthropic_surface.TAGS, **realtime.TAGS, **webhooks.TAGS, **own.TAGS}
_SCHEMES: Final[Json] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "`authorization: Bearer hr_...`, as OpenAI's clients send it.",
    },
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "`x-api-key: hr_...`, as Anthropic's clients send it.",
    },
}


def operations(limits: "Limits") -> list[Operation]:
    """Every call of the gateway, in the order in which people should read of them."""
    return [
        *openai_surface.operations(limits),
        *anthropic_surface.operations(limits),
        *realtime.OPERATIONS,
        *webhooks.OPERATIONS,
        *own.OPERATIONS,
    ]


def document(limits: "Limits") -> Json:
    """The whole description."""
    paths: Json = {}
    for operation in operations(limits):
        paths.setdefault(operation.path, {})[operation.method.lower()] = operation.described()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "halfrate gateway",
            "version": VERSION,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "security": [{"bearer": []}, {"apiKey": []}],
        "paths": paths,
        "components": {"securitySchemes": _SCHEMES, "headers": HEADERS, "schemas": {**ASKED, **GIVEN}},
    }
