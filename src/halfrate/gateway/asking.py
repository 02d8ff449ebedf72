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
    tokens that an answer may have, None where the call does not say; `answers`: how many it asks for; `at`: when it
    came (seconds of the monotonic clock), and `time` (ISO 8601, UTC).
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
    announced = headers.get(b"content-length", b"")
    if announced.isdigit() and (len(announced) > 20 or int(announced) > most):
        raise too_large(most)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise too_large(most)
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


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
    key: Key = scope["halfrate.key"]
    most = next(
        (
            value
            for value in (head.max_tokens, head.max_completion_tokens, head.max_output_tokens)
            if isinstance(value, int) and value > 0
        ),
        None,
    )
    return Asked(
        key=key,
        surface=scope["halfrate.surface"],
        endpoint=PATHS[scope["path"]],
        request_id=scope["halfrate.request_id"],
        body=body,
        model=head.model,
        stream=bool(head.stream),
        stream_options=_object(head.stream_options),
        tools=bytes(head.tools) not in {b"null", b"[]"},
        user=_user(head),
        most=most,
        answers=head.n if isinstance(head.n, int) and head.n > 1 else 1,
        tags=_tags(headers, head, key),
        headers=tuple((name, headers[name]) for name in _PASSED_ON if name in headers),
        provider_key=headers.get(PROVIDER_KEY, b"").strip().decode("latin-1"),
        seconds=_seconds(headers),
        at=time.monotonic(),
        time=_stamp(time.time()),
    )


def _stamp(moment: float) -> str:
    """As ISO 8601 has it, in UTC, to the millisecond."""
    whole = int(moment)
    return f"{_second(whole)}.{int((moment - whole) * 1_000):03d}+00:00"


@functools.lru_cache(4)
def _second(moment: int) -> str:
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _user(head: _Head) -> str | None:
    """The end user that a call names: OpenAI's `safety_identifier` or `user`, Anthropic's `metadata.user_id`."""
    named = head.safety_identifier or head.user or _object(head.metadata).get("user_id")
    return named if isinstance(named, str) else None


def _tags(headers: Mapping[bytes, bytes], head: _Head, key: Key) -> dict[str, str]:
    """The tags of a call. What the key says comes before what its caller says."""
    written = headers.get(_TAGS)
    if written is None and not head.metadata:
        return key.all_tags
    given = read_tags(written.decode("latin-1")) if written is not None else {}
    named = {
        name: value
        for name, value in _object(head.metadata).items()
        if name != "user_id" and isinstance(value, str) and len(name) <= 64 and len(value) <= 512
    }
    return {**named, **given, **key.all_tags}


def _object(value: Any) -> dict[str, Any]:
    """A field that ought to hold an object: what else it holds is for the provider to refuse."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _seconds(headers: Mapping[bytes, bytes]) -> float:
    text = headers.get(_TIMEOUT)
    if text is None:
        return _SECONDS
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
