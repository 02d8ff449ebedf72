"""One call of the gateway as OpenAPI describes it, and the parts that descriptions are put together from."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec

Json: TypeAlias = dict[str, Any]
Speaks: TypeAlias = Literal["openai", "anthropic", "both", "own", "open"]
"""Whose API a call is: it says the shape of errors, and the header of the request id. "own": halfrate's, which every
key opens; "open": that, and it needs no key."""

JSON: Final = "application/json"
_ALWAYS: Final = (401, 403, 429, 500, 503)
"""What every call can be answered with that needs a key."""
_MEANINGS: Final = {
    400: "The call is not as expected. The message says what of it.",
    401: "No key came with the call, or one that is not this gateway's, or not any more.",
    402: "A budget that covers the call is spent, or too small for it. Nothing was sent.",
    403: "The key does not open this API.",
    404: "There is no such thing, or it is another team's.",
    408: "The body did not come in time.",
    409: "It has come too far for that.",
    413: "The body is larger than is taken.",
    429: "The key has made its calls of the minute, or the gateway serves as many calls as it can.",
    500: "The gateway failed at this. Its log has more under the request id.",
    503: "The database is busy, or the disk is full or failing. Nothing was kept.",
}
_ERRORS: Final[Mapping[Speaks, tuple[str, ...]]] = {
    "openai": ("Error",),
    "anthropic": ("AnthropicError",),
    "both": ("Error", "AnthropicError"),
    "own": ("Error",),
    "open": ("Error",),
}
_WITH_RETRY: Final = frozenset({429, 503})
HEADERS: Final[Json] = {
    "x-request-id": {
        "description": "Names the call in the gateway's log. On Anthropic's API the header is `request-id`.",
        "required": True,
        "schema": {"type": "string", "pattern": "^req_[0-9a-f]{24}$"},
    },
    "request-id": {
        "description": "Names the call in the gateway's log. On OpenAI's API the header is `x-request-id`.",
        "required": True,
        "schema": {"type": "string", "pattern": "^req_[0-9a-f]{24}$"},
    },
    "retry-after": {
        "description": "Seconds after which the call may be made again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
}


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """A call: its method and path as in the table of `gateway/app.py`, and all there is to say of it.

    `refuses`: statuses that it can be answered with beside those that every call can; "" for what the status means
    everywhere. `replies`: as OpenAPI has them, further ones or in place of these.
    """

    method: str
    path: str
    name: str
    summary: str
    tag: str
    speaks: Speaks
    gives: str
    content: Json
    text: str = ""
    parameters: tuple[Json, ...] = ()
    body: Json | None = None
    headers: Json = {}
    refuses: Mapping[int, str] = {}
    replies: Mapping[str, Json] = {}
    links: Json = {}

    def described(self) -> Json:
        """As OpenAPI has it."""
        found: Json = {"operationId": self.name, "summary": self.summary, "tags": [self.tag]}
        if self.text:
            found["description"] = self.text
        if self.speaks == "open":
            found["security"] = []
        if self.parameters:
            found["parameters"] = list(self.parameters)
        if self.body is not None:
            found["requestBody"] = {"required": True, "content": self.body}
        found["responses"] = self._responses()
        return found

    def _responses(self) -> Json:
        headers = {**self._request_id(), **self.headers}
        fine: Json = {"description": self.gives, "headers": headers, "content": self.content}
        if self.links:
            fine["links"] = self.links
        refuses = dict.fromkeys(self._always(), "") | dict(self.refuses)
        found = {
            "200": fine,
            **{str(status): self._refusal(status, text) for status, text in refuses.items()},
        }
        for status, reply in self.replies.items():
            found[status] = {**reply, "headers": {**self._request_id(), **reply.get("headers", {})}}
        return {status: found[status] for status in sorted(found)}

    def _always(self) -> Iterable[int]:
        if self.speaks == "open":
            return ()
        return (status for status in _ALWAYS if (self.speaks, status) != ("own", 403))

    def _refusal(self, status: int, text: str) -> Json:
        headers = self._request_id()
        if status in _WITH_RETRY:
            headers["retry-after"] = {"$ref": "#/components/headers/retry-after"}
        return {
            "description": text or _MEANINGS[status],
            "headers": headers,
            "content": as_json(one_of(*_ERRORS[self.speaks])),
        }

    def _request_id(self) -> Json:
        """The header of the request id: which of the two it is, who speaks both learns from the reply."""
        if self.speaks == "both":
            return {name: {**HEADERS[name], "required": False} for name in ("x-request-id", "request-id")}
        name = "request-id" if self.speaks == "anthropic" else "x-request-id"
        return {name: {"$ref": f"#/components/headers/{name}"}}


def shape(name: str) -> Json:
    """A shape of `asked` or `given`."""
    return {"$ref": f"#/components/schemas/{name}"}


def one_of(*names: str) -> Json:
    """Any of these shapes."""
    return shape(names[0]) if len(names) == 1 else {"anyOf": [shape(name) for name in names]}


def as_json(schema: Json, example: object = None) -> Json:
    found: Json = {"schema": schema}
    return {JSON: found if example is None else {**found, "example": example}}


def in_query(name: str, text: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "description": text, "schema": schema}


def in_header(name: str, text: str, schema: Json | None = None, *, required: bool = False) -> Json:
    found: Json = {"name": name, "in": "header", "description": text, "schema": schema or {"type": "string"}}
    return {**found, "required": True} if required else found


def in_path(text: str, name: str = "id") -> Json:
    schema: Json = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "description": text, "schema": schema}


def whole(least: int, most: int, default: int | None = None) -> Json:
    """A whole number within limits."""
    found: Json = {"type": "integer", "minimum": least, "maximum": most}
    return found if default is None else {**found, "default": default}


DEADLINE_HEADER: Final = in_header(
    "halfrate-deadline",
    "When the last row is needed, as in `8h`, `90m`, `06:00` or an ISO time. Rows may then be run in real time at its "
    "price, where a batch would come too late.",
    {"type": "string", "minLength": 1},
)
TAGS_HEADER: Final = in_header(
    "halfrate-tags",
    "Tags of the jobs that are made, as in `feature=search, run=7`. Costs and budgets can go by them.",
)
RETRIES_HEADER: Final = in_header(
    "x-stainless-retry-count",
    "Sent by the official clients. A call that its client repeats is given the batch that the first one made.",
)
