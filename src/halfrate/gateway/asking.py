"""A call in real time, as its caller made it."""

import datetime
import functools
import time
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec
from starlette.types import Receive, Scope

from halfrate.base.types import Endpoint
from halfrate.core.keys import Key, Surface
from halfrate.gateway.calls import read_tags, too_large
from halfrate.gateway.errors import ApiError, invalid, required

PATHS: Final[dict[str, Endpoint]] = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
    "/v1/messages": "messages",
}
PROVIDER_KEY: Final = b"x-halfrate-provider-key"
_TAGS: Final = b"halfrate-tags"
_TIMEOUT: Final = b"halfrate-timeout"
_SECONDS: Final = 600.0
"""What a call is given to begin its answer, and between two pieces of it, unless its caller says otherwise: as long as
the official SDKs wait."""
_LONGEST_TIMEOUT: Final = 3_600.0
_NO_TOOLS: Final = frozenset({b"null", b"[]"})
_NOTHING: Final[Mapping[str, Any]] = {}
_PASSED_ON: Final = frozenset({b"anthropic-version", b"anthropic-beta", b"openai-beta", b"user-agent"})
"""Headers of a caller that the provider sees."""


class _Head(msgspec.Struct, gc=False):
    model: Any = None
    stream: Any = None
    stream_options: Any = None
    tools: msgspec.Raw = msgspec.Raw(b"null")
    user: Any = None
    safety_identifier: Any = None
    metadata: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    n: Any = None


_head = msgspec.json.Decoder(_Head).decode


class Asked(msgspec.Struct, frozen=True, gc=False):
    """A call that was let in and makes sense so far.

    `model`: what the caller calls it; `seconds`: until the answer begins, and for each wait on more of it; `most`:
    tokens that an answer may have, None where the call does not say; `answers`: how many it asks for; `tagged`: whether
    its caller has tags of its own for it; `at`: when it came (seconds of the monotonic clock), and `time` (ISO 8601,
    UTC).
    """

    key: Key
    surface: Surface
    endpoint: Endpoint
    request_id: str
    body: bytes
    model: str
    stream: bool
    stream_options: Mapping[str, Any]
    tools: bool
    user: str | None
    most: int | None
    answers: int
    tags: dict[str, str]
    tagged: bool
    headers: tuple[tuple[bytes, bytes], ...]
    provider_key: str
    seconds: float
    at: float
    time: str

    def whole(self) -> "Asked":
        """The same, to be answered in one piece."""
        fields = msgspec.json.decode(self.body, type=dict[str, msgspec.Raw])
        fields.pop("stream_options", None)
        fields.pop("stream", None)
        return msgspec.structs.replace(
            self, body=msgspec.json.encode(fields), stream=False, stream_options={}
        )

    @property
    def wants_usage(self) -> bool:
        """Whether a stream of a chat is to end with what it used."""
        return self.stream_options.get("include_usage") is True

    def __repr__(self) -> str:
        # What was asked, and the keys it came with, belong into no message.
        return f"Asked({self.request_id}, {self.endpoint})"


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], most: int) -> bytes | None:
    """The body of a call; None where its caller hung up. ApiError 413 where it is too large, before more of it is
    read."""
    announced = headers.get(b"content-length")
    if announced is not None and announced.isdigit() and (len(announced) > 20 or int(announced) > most):
        raise too_large(most)
    message = await receive()
    part: bytes = message.get("body", b"")
    if not message.get("more_body", False) and len(part) <= most:
        # It came whole, as most do.
        return part if message["type"] == "http.request" else None
    parts: list[bytes] = []
    size = 0
    while message["type"] != "http.disconnect":
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise too_large(most)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()
    return None


def understood(scope: Scope, headers: Mapping[bytes, bytes], body: bytes) -> Asked:
    """Raises ApiError for what no provider would understand."""
    try:
        head = _head(body)
    except msgspec.ValidationError as error:
        raise invalid(f"The body is not as expected: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"The body is not JSON: {error}.", code="invalid_json") from None
    if head.model is None:
        raise required("model")
    if not isinstance(head.model, str):
        raise invalid("Invalid 'model': expected a string.", "model")
    if head.metadata is None and _TAGS not in headers:
        tags, tagged = scope["halfrate.tags"], False
    else:
        tags, tagged = _tags(headers, head, scope["halfrate.tags"])
    named = _PASSED_ON & headers.keys()
    most = head.max_tokens
    return Asked(
        key=scope["halfrate.key"],
        surface=scope["halfrate.surface"],
        endpoint=PATHS[scope["path"]],
        request_id=scope["halfrate.request_id"],
        body=body,
        model=head.model,
        stream=bool(head.stream),
        stream_options=_object(head.stream_options) if head.stream_options else _NOTHING,
        tools=bytes(head.tools) not in _NO_TOOLS,
        user=_user(head) if head.user or head.safety_identifier or head.metadata else None,
        most=most if type(most) is int and most > 0 else _most(head),
        answers=head.n if isinstance(head.n, int) and head.n > 1 else 1,
        tags=tags,
        tagged=tagged,
        headers=tuple([(name, headers[name]) for name in named]) if named else (),
        provider_key=headers[PROVIDER_KEY].strip().decode("latin-1") if PROVIDER_KEY in headers else "",
        seconds=_seconds(headers[_TIMEOUT]) if _TIMEOUT in headers else _SECONDS,
        at=time.monotonic(),
        time=_stamp(time.time()),
    )


def _most(head: _Head) -> int | None:
    for value in (head.max_tokens, head.max_completion_tokens, head.max_output_tokens):
        if isinstance(value, int) and value > 0:
            return value
    return None


def _stamp(moment: float) -> str:
    """As ISO 8601 has it, in UTC, to the millisecond."""
    whole, rest = divmod(int(moment * 1_000), 1_000)
    return f"{_second(whole)}.{rest:03d}+00:00"


@functools.lru_cache(4)
def _second(moment: int) -> str:
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _user(head: _Head) -> str | None:
    """The end user that a call names: OpenAI's `safety_identifier` or `user`, Anthropic's `metadata.user_id`."""
    named = head.safety_identifier or head.user or _object(head.metadata).get("user_id")
    return named if isinstance(named, str) else None


def _tags(headers: Mapping[bytes, bytes], head: _Head, own: dict[str, str]) -> tuple[dict[str, str], bool]:
    """The tags of a call, and whether its caller has said anything of them.

    `own`: what the key says, which comes before that.
    """
    written = headers.get(_TAGS)
    given = read_tags(written.decode("latin-1")) if written is not None else {}
    named = {
        name: value
        for name, value in _object(head.metadata).items()
        if name != "user_id" and isinstance(value, str) and len(name) <= 64 and len(value) <= 512
    }
    return {**named, **given, **own}, bool(named or given)


def _object(value: Any) -> dict[str, Any]:
    """A field that ought to hold an object: what else it holds is for the provider to refuse."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _seconds(text: bytes) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST_TIMEOUT:
        raise ApiError(
            400,
            f"Invalid header 'halfrate-timeout': expected seconds, {_LONGEST_TIMEOUT:,.0f} at most.",
            code="invalid_value",
            param="halfrate-timeout",
        )
    return seconds
