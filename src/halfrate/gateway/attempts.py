"""One call at one place: sent as it came or translated, and what came of it understood.

What is sent is sent once. Where it cannot have left, that is known for certain; where nobody knows what became of it,
it may be billed, and says so.
"""

import datetime
import enum
import secrets
from typing import Any, Final

import msgspec

from halfrate.base.errors import (
    UNREACHABLE,
    HalfrateError,
    OutcomeUnknown,
    Refused,
    SettingsError,
    UsageError,
)
from halfrate.base.results import UnreadableLine
from halfrate.gateway.asking import Asked
from halfrate.gateway.errors import ApiError, invalid
from halfrate.gateway.events import (
    AsItCame,
    Relay,
    Translated,
    chat_events,
    message_events,
    response_stream,
)
from halfrate.gateway.targets import Target, Way, head_of
from halfrate.gateway.upstream import Lost, NotSent, Response
from halfrate.providers.base import Blame, Call, CallRefused, Passage, Reply, Streams, Tier
from halfrate.providers.calls import Fault, fault_of, seconds_of
from halfrate.providers.openai_calls import is_money
from halfrate.providers.passing import READERS, Used, answer_of
from halfrate.providers.speaking import form_of
from halfrate.providers.translation import Untranslatable, embeddings, responses
from halfrate.providers.translation.messages import to_chat, to_message
from halfrate.providers.translation.streams import Spoken, Translation

_ANSWER: Final = 256 << 20
"""Bytes of an answer that comes whole."""
_ERROR: Final = 1 << 20
_REQUEST: Final = frozenset({400, 404, 405, 409, 413, 415, 422})
"""Statuses that lie in what was asked."""
_KEPT_HEADERS: Final = frozenset({b"content-type", b"openai-processing-ms", b"openai-version"})
_TIERS: Final[dict[str, Tier]] = {"flex": "flex", "priority": "priority"}

_SPOKEN: Final[dict[str, Spoken]] = {"chat": "chat", "messages": "messages", "responses": "responses"}
"""What a caller speaks, by what it calls; nothing else is streamed."""

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Why(enum.Enum):
    """What a failed attempt lies in, and so whether another may go better."""

    REQUEST = "request"
    """What was asked: it would be refused everywhere alike."""
    LOAD = "load"
    """Too much at once there."""
    FAULT = "fault"
    """A passing fault there, or nobody there at all."""
    ACCOUNT = "account"
    """The gateway's own key or credit there: a person has to mend that."""
    LOST = "lost"
    """Nobody knows what became of it: it may be billed."""


class Failed(Exception):
    """An attempt without an answer.

    Attributes:
        error: what its caller is told.
        why: what it lies in.
        told: what whoever runs the gateway is told.
        status: the provider's, 0 where it did not answer.
        retry_after: seconds that the provider asks to wait.
    """

    def __init__(
        self, why: Why, error: ApiError, told: str, *, status: int = 0, retry_after: float | None = None
    ) -> None:
        super().__init__(told)
        self.why = why
        self.error = error
        self.told = told
        self.status = status
        self.retry_after = retry_after


class Whole(msgspec.Struct, frozen=True):
    """An answer that is there."""

    headers: list[tuple[bytes, bytes]]
    body: bytes
    used: Used


class Streamed(msgspec.Struct, frozen=True):
    """An answer that has begun: to be read to its end, or closed.

    `relay`: makes of it what its caller gets; `begun`: what it has made already.
    """

    headers: list[tuple[bytes, bytes]]
    stream: Response
    relay: Relay
    begun: tuple[tuple[bytes, bool], ...] = ()


async def attempt(asked: Asked, target: Target, seconds: float) -> Whole | Streamed:
    """Raises Failed. `seconds`: until the answer begins, and for each wait on more of it."""
    if target.way is not None:
        return await _passed(asked, target, target.way, seconds)
    return await _translated(asked, target, seconds)


# ---------------------------------------------------------------- as it came


async def _passed(asked: Asked, target: Target, way: Way, seconds: float) -> Whole | Streamed:
    body = _body(asked, way.passage)
    try:
        response = await way.upstream.send(b"POST", way.path, way.head(asked.headers), body, seconds=seconds)
    except NotSent as error:
        raise _unreachable(target, str(error)) from None
    except Lost as error:
        raise lost(target, str(error)) from None
    try:
        return await _answer(asked, target, way, response)
    except Lost as error:
        raise lost(target, str(error)) from None
    except BaseException:
        # Nobody reads the rest of it: its connection would wait for that for ever.
        response.close()
        raise


async def _answer(asked: Asked, target: Target, way: Way, response: Response) -> Whole | Streamed:
    """What a provider answers. Raises Failed where that is an error, and Lost."""
    if response.status != 200:
        raise _refusal(target, response, way.without_key(await response.read(_ERROR)))
    kept = [pair for pair in response.headers if pair[0] in _KEPT_HEADERS]
    if asked.stream and _is_stream(response):
        hides_usage = asked.endpoint == "chat" and not asked.wants_usage
        return Streamed(kept, response, AsItCame(asked.endpoint, hides_usage=hides_usage))
    whole = await response.read(_ANSWER)
    return Whole(kept, whole, READERS[asked.endpoint]().whole(whole))


def _is_stream(response: Response) -> bool:
    kind = next((value for name, value in response.headers if name == b"content-type"), b"")
    return kind.lower().startswith(b"text/event-stream")


def _body(asked: Asked, passage: Passage) -> bytes:
    """The body as it came, but for the model's name where the caller's is another, and the wish to be told what a
    stream used."""
    changes: dict[str, Any] = {}
    if asked.model != passage.model:
        changes["model"] = passage.model
    if asked.stream and passage.asks_usage and not asked.wants_usage:
        changes["stream_options"] = {**asked.stream_options, "include_usage": True}
    if not changes:
        return asked.body
    fields = _fields(asked.body)
    return msgspec.json.encode(
        fields | {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in changes.items()}
    )


def _refusal(target: Target, response: Response, body: bytes) -> Failed:
    """What a provider's error means."""
    headers = dict(response.headers)
    status = response.status
    wait = seconds_of(headers.get(b"retry-after", b"").decode("latin-1"))
    fault = fault_of(body)
    if fault is None and (status >= 500 or status == 408 or status < 400):
        return lost(target, f"something on the way to it answered {status}")
    error = Passed(status, body, _plain(headers.get(b"content-type", b"application/json")))
    return _failed(target, status, fault, wait, error)


class Passed(ApiError):
    """An error in the provider's own words."""

    def __init__(self, status: int, document: bytes, content_type: str) -> None:
        super().__init__(status, "")
        self.document = document
        self.content_type = content_type


def _plain(value: bytes) -> str:
    kind = value.decode("latin-1")
    return kind if kind.startswith("application/json") else "text/plain"


# ---------------------------------------------------------------- translated


async def _translated(asked: Asked, target: Target, seconds: float) -> Whole | Streamed:
    adapter = target.adapter
    endpoint = target.spoken
    body, tier = _translated_body(asked, target)
    # As in a batch, by the number behind this its result would be known.
    prefix = f"hr-{secrets.token_hex(6)}-1-"
    call = Call(
        endpoint=endpoint, model=target.name, row_id=f"{prefix}0", body=body, tier=tier, timeout=seconds
    )
    reply = await _reply(asked, target, call, seconds)
    if isinstance(reply, Streamed):
        return reply
    used = Used(tier=reply.tier)
    try:
        row = adapter.line_reader(endpoint, prefix).general(reply.line)
        used = Used(row.tokens, row.model, reply.tier)
        completion = adapter.to_openai(reply.line, _created(asked), form_of(asked.endpoint))
        if completion is None:
            raise lost(target, "its answer holds no answer", used)
        document = _in_form(asked, completion)
    except (msgspec.DecodeError, UnicodeDecodeError, UnreadableLine):
        # What it says may be what was asked: it is not repeated.
        raise lost(target, "its answer cannot be understood", used) from None
    whole = Whole([_JSON], msgspec.json.encode(document), used)
    return as_stream(asked, whole) if asked.stream else whole


async def _reply(asked: Asked, target: Target, call: Call, seconds: float) -> Streamed | Reply:
    """What a translated call is answered with. Raises Failed."""
    try:
        reply = await _streamed(asked, target, call, seconds) if asked.stream else None
        return reply or await target.adapter.call(call)
    except CallRefused as refusal:
        raise _refused(target, refusal) from None
    except (OutcomeUnknown, Lost) as error:
        raise lost(target, str(error)) from None
    except NotSent as error:
        raise _unreachable(target, str(error)) from None
    except Refused as refusal:
        if refusal.code == UNREACHABLE:
            raise _unreachable(target, str(refusal)) from None
        raise _failed_account(target, str(refusal)) from None
    except SettingsError as error:
        # What is not set up here names accounts and files of whoever runs the gateway.
        raise _failed_account(target, str(error)) from None
    except UsageError as error:
        raise Failed(
            Why.REQUEST, invalid(f"{target.title} cannot be asked that: {error}"), str(error)
        ) from None
    except HalfrateError as error:
        raise _unreachable(target, str(error)) from None
    finally:
        if target.callers_key:
            await target.adapter.close()


async def _streamed(asked: Asked, target: Target, call: Call, seconds: float) -> Streamed | Reply | None:
    """An answer that comes piece by piece; a reply where it came whole all the same; None where it can only be had so,
    and was not asked for."""
    adapter = target.adapter
    streaming = await adapter.streaming(call) if isinstance(adapter, Streams) else None
    upstream = target.upstream(streaming.url) if streaming is not None else None
    if streaming is None or upstream is None or not isinstance(adapter, Streams):
        return None
    # PAID CALL: sent once. A process that is killed from here on may have paid for an answer that stands nowhere.
    response = await upstream.send(
        b"POST", streaming.path.encode(), head_of(streaming), streaming.body, seconds=seconds
    )
    try:
        if response.status == 200 and _is_stream(response):
            spoken = _SPOKEN[asked.endpoint]
            translation = Translation(
                streaming.form,
                spoken,
                created=_created(asked),
                usage=asked.wants_usage,
                asked=msgspec.json.decode(asked.body) if spoken == "responses" else None,
            )
            return await _begun(target, response, Translated(translation, call.endpoint, spoken))
        body = await response.read(_ANSWER if response.status == 200 else _ERROR)
        return adapter.understood(call, answer_of(response.status, response.headers, body, streaming.secret))
    except BaseException:
        # Nobody reads the rest of it: its connection would wait for that for ever.
        response.close()
        raise


async def _begun(target: Target, response: Response, relay: Translated) -> Streamed:
    """A stream of which there is something to show. One that fails before that is no answer at all, and another model
    may still be asked: a provider that has too much to do may say so in its first event."""
    begun: list[tuple[bytes, bool]] = []
    try:
        while not begun:
            piece = await response.chunk()
            begun += relay.take(piece) if piece else relay.end()
    except Lost as error:
        raise lost(target, str(error), relay.told()) from None
    return Streamed([_EVENTS], response, relay, tuple(begun))


def _in_form(asked: Asked, completion: dict[str, Any]) -> dict[str, Any]:
    """A completion as its caller's API has answers."""
    match asked.endpoint:
        case "messages":
            return to_message(completion)
        case "responses":
            return responses.to_response(completion, msgspec.json.decode(asked.body))
        case "embeddings":
            return embeddings.as_asked(completion, msgspec.json.decode(asked.body))
        case _:
            return completion


def as_stream(asked: Asked, answer: Whole) -> Whole:
    """A whole answer as the stream that was asked for."""
    document = msgspec.json.decode(answer.body)
    match asked.endpoint:
        case "messages":
            events = message_events(document)
        case "responses":
            events = response_stream(document)
        case _:
            events = chat_events(document, usage=asked.wants_usage)
    return Whole([_EVENTS], b"".join(events), answer.used)


_JSON: Final = (b"content-type", b"application/json")
_EVENTS: Final = (b"content-type", b"text/event-stream; charset=utf-8")


def _translated_body(asked: Asked, target: Target) -> tuple[bytes, Tier]:
    """The body as the provider takes it, and the tier that it asks for. Raises Failed."""
    chat: dict[str, Any] = msgspec.json.decode(asked.body)
    chat.pop("stream", None)
    chat.pop("stream_options", None)
    try:
        if asked.endpoint == "messages":
            chat = to_chat(chat, target.name)
        elif asked.endpoint == "responses":
            chat = responses.to_chat(chat, target.name)
        tier = _TIERS.get(str(chat.get("service_tier")), "standard")
        if tier != "standard" and tier in target.adapter.tiers(target.spoken):
            chat.pop("service_tier")
        else:
            tier = "standard"
        form = form_of(asked.endpoint)
        return msgspec.json.encode(target.adapter.from_openai(chat, target.name, form)), tier
    except Untranslatable as fault:
        message = f"{fault.field}: cannot be asked of {target.title}: {fault.reason}"
        raise Failed(Why.REQUEST, invalid(message, fault.field), message) from None


def _created(asked: Asked) -> int:
    return int(datetime.datetime.fromisoformat(asked.time).timestamp())


def _refused(target: Target, refusal: CallRefused) -> Failed:
    fault = fault_of(refusal.line)
    if fault is None:
        fault = Fault(message=str(refusal), code=refusal.code or None)
    status = refusal.status
    if refusal.blame is Blame.ACCOUNT and status not in {401, 402, 403}:
        status = 403
    error = ApiError(status if status in _REQUEST else 400, str(refusal), code=refusal.code or None)
    return _failed(target, status, fault, refusal.retry_after, error)


# ---------------------------------------------------------------- what is said of failures


def _failed(target: Target, status: int, fault: Fault | None, wait: float | None, error: ApiError) -> Failed:
    """`error`: in the provider's own words, for what lies in the request or concerns the caller's own account alone."""
    told = f"{target.title} answered {status}" + (f": {fault.message}" if fault and fault.message else "")
    why, message = _judged(target, status, fault)
    if why is Why.REQUEST or target.callers_key:
        # With a key of the caller's own everything that is said of it is for the caller.
        return Failed(why, error, told, status=status, retry_after=wait)
    headers = {"retry-after": f"{max(1, round(wait))}"} if wait is not None else {}
    code, answered = {
        Why.LOAD: ("provider_busy", 429 if status == 429 else 503),
        Why.ACCOUNT: ("provider_refused", 502),
    }.get(why, ("provider_failed", 502))
    return Failed(
        why, ApiError(answered, message, code=code, headers=headers), told, status=status, retry_after=wait
    )


def _judged(target: Target, status: int, fault: Fault | None) -> tuple[Why, str]:
    """What an error lies in, and what is said of it to callers, whom the gateway's own account is no matter of."""
    if status in {401, 402, 403, 407} or (fault is not None and is_money(fault)):
        return Why.ACCOUNT, _refused_account(target)
    if status in {429, 503, 529}:
        return (
            Why.LOAD,
            f"{target.title} has too much to do for this gateway just now. Nothing was run. Try again.",
        )
    if status in _REQUEST and not (fault is None and status in {404, 405}):
        return Why.REQUEST, ""
    if status in _REQUEST:
        return (
            Why.ACCOUNT,
            f"{target.title} has no such API where this gateway looks for it. Nothing was run.",
        )
    return Why.FAULT, f"{target.title} failed at this ({status}). Nothing was run. Try again."


def _refused_account(target: Target) -> str:
    return (
        f"{target.title} refuses the gateway's own key or credit. Nothing was run; whoever runs the gateway finds why "
        "in its log."
    )


def _failed_account(target: Target, told: str) -> Failed:
    return Failed(Why.ACCOUNT, ApiError(502, _refused_account(target), code="provider_refused"), told)


def _unreachable(target: Target, told: str) -> Failed:
    message = f"{target.title} could not be reached. Nothing was sent. Try again."
    error = ApiError(502, message, code="provider_unreachable")
    return Failed(Why.FAULT, error, told)


class LostAnswer(Failed):
    """An attempt that may be billed. `used`: what is known of that."""

    def __init__(self, error: ApiError, told: str, used: Used) -> None:
        super().__init__(Why.LOST, error, told)
        self.used = used


def lost(target: Target, told: str, used: Used | None = None) -> LostAnswer:
    """Whoever tries again may pay twice: the SDKs are told not to do it by themselves."""
    error = ApiError(
        504,
        f"{target.title} did not answer to the end. This call may have been run, and billed: it stands in the ledger "
        "as a doubt. Whoever sends it again may pay for it twice.",
        code="outcome_unknown",
        headers={"x-should-retry": "false"},
    )
    return LostAnswer(error, told, used or Used())
