"""Calls that can wait: taken on, gathered or run at once by how near their deadlines are, and answered.

    asked -> known already? -> its tier -> gathered into a batch, or run in real time -> the line, or the background

What was taken on is recorded before it is run, under the caller's own key for it if there is one: whoever asks again,
after a broken line or a killed gateway, gets the answer of the one call, and pays once.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec
from starlette.types import Receive, Send

from halfrate.base.errors import HalfrateError, StorageError
from halfrate.base.ids import new_id
from halfrate.base.money import added, usd
from halfrate.base.types import Capabilities, Endpoint
from halfrate.blobs.shelves import Shelves
from halfrate.core.deferral import REPEATED, Answer, Deferred, Group, bucket
from halfrate.gateway.anthropic_batches import options_of
from halfrate.gateway.asking import Asked
from halfrate.gateway.attempts import Passed, Streamed, Whole, Why, as_stream
from halfrate.gateway.booking import Books
from halfrate.gateway.errors import ApiError, as_api_error
from halfrate.gateway.line import Line, unless_gone
from halfrate.gateway.logs import Lasting, Log
from halfrate.gateway.router import Router, Unanswered
from halfrate.gateway.shown_calls import call_view, response_view
from halfrate.gateway.targets import Target
from halfrate.gateway.wishes import IDEMPOTENCY, Wish
from halfrate.providers.passing import Used
from halfrate.providers.speaking import form_of, spoken
from halfrate.providers.translation import Untranslatable, responses
from halfrate.providers.translation.messages import to_chat
from halfrate.service.calls_form import error_body
from halfrate.service.gathering import Gathered, Gatherer
from halfrate.service.jobs import Service
from halfrate.store.deferred import Marked

_MOMENT: Final = 0.005
"""Seconds in which calls come together that are recorded in one commit."""
_MOST_AT_ONCE: Final = 5_000
_MOST_BYTES: Final = 128 << 20
"""Of calls that are about to be recorded; more are turned away until they are."""
_MOST_WAITING: Final = 200_000
_COUNTED_EVERY: Final = 5.0
_CLOSE_EVERY: Final = 1.0
_LOOK: Final = 30.0
"""Seconds between two looks for calls whose process died."""
_BEAT: Final = 10.0
"""Seconds between two times that other machines are told that this process lives."""
_AGAIN: Final = 2.0
"""Seconds until an answer is put into the depot again that could not be."""
_JSON: Final = (b"content-type", b"application/json")

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Deferring:
    """Takes calls on that can wait.

    Args:
        gatherer: of this process.
        line: who waits for answers here.
    """

    def __init__(
        self,
        service: Service,
        places: Shelves,
        gatherer: Gatherer,
        line: Line,
        router: Router,
        books: Books,
        log: Log,
    ) -> None:
        self._service = service
        self._store = service.deferred
        self._places = places
        self._gatherer = gatherer
        self._line = line
        self._router = router
        self._books = books
        self._log = log
        self.trouble = Lasting(log, service.clock, "calls wait", "calls go on")
        self._urgency = service.urgency()
        self._pending: list[tuple[Gathered, asyncio.Future[bool]]] = []
        self._pending_bytes = 0
        self._flushing: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._counted = -_COUNTED_EVERY
        self._stopped = False

    async def take(self, asked: Asked, wish: Wish, receive: Receive, send: Send) -> Asked | None:
        """Answer a call; or give it back, to be run in real time like any other.

        Raises ApiError and HalfrateError.
        """
        known = await self._known(asked, wish)
        if known is not None:
            await self._reply(asked, known, wish, receive, send)
            return None
        target = await self._router.target(asked)
        tier = await self._tier(target, asked, wish)
        if tier == "standard" and wish.mark is None and not wish.background:
            return asked
        call = self._call(asked, wish, target)
        future = self._line.join(call.id)
        try:
            if tier == "batch":
                taken = await self._gathered(asked, call, target, wish)
            else:
                taken = await self._begun(asked, call, tier, wish)
            if taken:
                await self._reply(asked, call, wish, receive, send, future)
                return None
        finally:
            self._line.leave(call.id, future)
        # Another call came in between with the same key.
        known = await self._known(asked, wish)
        if known is None:
            raise ApiError(503, "This call could not be taken on. Try again.", headers={"retry-after": "1"})
        await self._reply(asked, known, wish, receive, send)
        return None

    # ------------------------------------------------------------ carrying on

    async def run(self) -> None:
        """Close what was gathered when it is time, and see to what dead processes left, until cancelled."""
        looked = beaten = 0.0
        while True:
            try:
                now = self._service.clock.now()
                if self._places.depot.afar and now - beaten >= _BEAT:
                    await asyncio.to_thread(self._service.beat)
                    beaten = now
                await asyncio.to_thread(self._gatherer.close_due)
                now = self._service.clock.now()
                if now - looked >= _LOOK:
                    looked = now
                    await asyncio.to_thread(self._end_left)
                self.trouble.passed()
            except HalfrateError as error:
                self.trouble.met(str(error))
            await asyncio.sleep(_CLOSE_EVERY)

    async def stop(self) -> None:
        """Let calls that run come to their end, and close what was gathered: another process goes on with it."""
        self._stopped = True
        if self._flushing is not None:
            await asyncio.gather(self._flushing, return_exceptions=True)
        await asyncio.gather(*self._running, return_exceptions=True)
        try:
            await asyncio.to_thread(self._gatherer.close_all)
        except HalfrateError as error:
            self._log.say("calls wait", why=str(error))

    def _end_left(self) -> None:
        """Calls that ran in real time when their process died: nobody knows what became of them."""
        now = self._service.clock.now()
        for call in self._store.running():
            if not self._service.gone(call.owner, call.created_at):
                continue
            text = _UNKNOWN_AFAR if self._places.depot.afar else _UNKNOWN
            body = error_body(call.surface, 504, "outcome_unknown", text)
            self._line.ended(self._store.end([self._answered(call, 504, None, None, body, now)]))

    # ------------------------------------------------------------ what is known already

    async def _known(self, asked: Asked, wish: Wish) -> Deferred | None:
        """The same call, taken on before."""
        team = asked.key.team
        if wish.mark is not None:
            found = await asyncio.to_thread(self._store.marked, team, wish.mark)
            if found is not None and found.digest != wish.digest:
                message = "This idempotency key came with another call before. A new call takes a new key."
                raise ApiError(422, message, code="idempotency_key_reused", param=IDEMPOTENCY)
            return found
        if not wish.repeated:
            return None
        since = self._service.clock.now() - REPEATED
        twins = await asyncio.to_thread(self._store.twins, team, wish.digest, since)
        # Of several that are alike, one that nobody waits for: its line is the one that broke.
        return next((call for call in twins if call.id not in self._line), None)

    # ------------------------------------------------------------ taking on

    async def _tier(self, target: Target, asked: Asked, wish: Wish) -> str:
        if wish.deadline is None or _batched(target, asked) is None:
            return "standard"
        tier = await asyncio.to_thread(
            self._urgency.tier, target.model, target.account, asked.endpoint, wish.deadline
        )
        if tier != "batch" and tier not in target.adapter.tiers(target.spoken):
            return "standard"
        return tier

    def _call(self, asked: Asked, wish: Wish, target: Target) -> Deferred:
        return Deferred(
            id=new_id("resp_" if asked.endpoint == "responses" else "call_"),
            team=asked.key.team,
            key_id=asked.key.id,
            surface=asked.surface,
            endpoint=asked.endpoint,
            model=target.model,
            asked=asked.model,
            digest=wish.digest,
            created_at=self._service.clock.now(),
            deadline=wish.deadline,
            stream=asked.stream,
            usage=asked.wants_usage,
            background=wish.background,
            owner=self._service.owner,
            told=responses.echoed(msgspec.json.decode(asked.body)) if asked.endpoint == "responses" else {},
        )

    async def _gathered(self, asked: Asked, call: Deferred, target: Target, wish: Wish) -> bool:
        """Put a call with the others; False where its key is that of another."""
        await self._check_room()
        _check_stream(asked, wish)
        endpoint = _batched(target, asked) or asked.endpoint
        body = _batch_body(asked, target, endpoint)
        # What it may cost has to be there now; it is set aside when its batch is made.
        self._books.settle(self._books.hold(asked, target), 0)
        facts = target.adapter.capabilities
        headers = dict(asked.headers)
        options = (
            options_of(
                headers.get(b"anthropic-version", b"").decode("latin-1"),
                headers.get(b"anthropic-beta", b"").decode("latin-1"),
            )
            if facts.native_form == "anthropic"
            else {}
        )
        deadline = wish.deadline or call.created_at
        group = Group(
            asked.surface,
            endpoint,
            target.model,
            target.name,
            tuple(sorted(self._books.tags(asked).items())),
            tuple(sorted(options.items())),
            bucket(deadline - call.created_at),
        )
        call = msgspec.structs.replace(call, owner="")
        return await self._recorded(Gathered(call, group, body, wish.mark, facts.least_rows))

    async def _recorded(self, one: Gathered) -> bool:
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self._pending_bytes > _MOST_BYTES:
            raise _overloaded()
        self._pending.append((one, future))
        self._pending_bytes += len(one.body)
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        return await future

    async def _flush(self) -> None:
        """Record what came together, in one commit."""
        try:
            while self._pending:
                await asyncio.sleep(_MOMENT)
                taken, self._pending = self._pending[:_MOST_AT_ONCE], self._pending[_MOST_AT_ONCE:]
                try:
                    found = await asyncio.to_thread(self._gatherer.gather, [one for one, _ in taken])
                except Exception as error:  # noqa: BLE001 - each of their callers is told
                    for _, future in taken:
                        if not future.done():
                            future.set_exception(error)
                else:
                    for one, future in taken:
                        if not future.done():
                            future.set_result(one.call.id in found)
                self._pending_bytes -= sum(len(one.body) for one, _ in taken)
        finally:
            self._flushing = None

    async def _check_room(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - self._counted >= _COUNTED_EVERY:
            self._counted = loop.time()
            self._waiting = await asyncio.to_thread(self._store.count)
        if self._waiting >= _MOST_WAITING:
            raise _overloaded()

    # ------------------------------------------------------------ in real time

    async def _begun(self, asked: Asked, call: Deferred, tier: str, wish: Wish) -> bool:
        """Run a call now; False where its key is that of another."""
        _check_stream(asked, wish)
        if not await asyncio.to_thread(self._store.add, Marked(call, wish.mark)):
            return False
        task = asyncio.create_task(self._run(asked.whole() if asked.stream else asked, call, tier))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return True

    async def _run(self, asked: Asked, call: Deferred, tier: str) -> None:
        try:
            status, used, cost, body = await self._outcome(asked, tier)
            now = self._service.clock.now()
            answered = await self._kept(call, status, used, cost, body, now)
            self._line.ended(await asyncio.to_thread(self._store.end, [answered]))
        except HalfrateError as error:
            # The answer was paid for, and is in the ledger; it can be kept nowhere.
            self._log.say("an answer is lost", why=str(error), request_id=asked.request_id)
        except Exception as error:  # noqa: BLE001 - a defect: nobody else would hear of it
            self._log.failed(error, asked.request_id)

    async def _kept(
        self, call: Deferred, status: int, tier: str | None, cost: int | None, body: bytes, now: float
    ) -> Deferred:
        """The call with its answer kept, as soon as a depot can keep it."""
        while True:
            try:
                answered = await asyncio.to_thread(self._answered, call, status, tier, cost, body, now)
            except StorageError as error:
                if not self._places.depot.afar or self._stopped:
                    raise
                self.trouble.met(str(error), call.id)
            else:
                self.trouble.passed(call.id)
                return answered
            await asyncio.sleep(_AGAIN)

    async def _outcome(self, asked: Asked, tier: str) -> tuple[int, str | None, int | None, bytes]:
        """Status, tier, cost and body of what a call comes to. Flex that has no room is no reason to wait."""
        tiers = [tier] if tier == "standard" else [tier, "standard"]
        for one in tiers:
            put = asked if one == "standard" else _in_tier(asked, one)
            try:
                routed = await self._router.answer(put)
            except Unanswered as error:
                if one != tiers[-1] and error.failure.why in {Why.LOAD, Why.REQUEST}:
                    continue
                refusal = error.failure.error
                if isinstance(refusal, Passed):
                    return refusal.status, None, 0, refusal.document
                cost = None if error.failure.why is Why.LOST else 0
                return refusal.status, None, cost, _encoded(refusal, asked)
            except ApiError as error:
                return error.status, None, 0, _encoded(error, asked)
            except HalfrateError as error:
                told = as_api_error(error)
                return told.status, None, 0, _encoded(told, asked)
            if isinstance(routed.answer, Whole):
                used = routed.answer.used.tier
                return 200, used, added((routed.before, routed.attempt.cost)), routed.answer.body
            _let_go(routed.answer)
        raise AssertionError("a call that is asked whole is answered whole")

    def _answered(
        self, call: Deferred, status: int, tier: str | None, cost: int | None, body: bytes, now: float
    ) -> Deferred:
        """The call with its answer kept."""
        file, ((at, size),) = self._places.add_answers(call.id, [body])
        answer = Answer(status, tier, cost, file, at, size)
        return msgspec.structs.replace(call, ended_at=now, answer=answer)

    # ------------------------------------------------------------ answering

    async def _reply(
        self,
        asked: Asked,
        call: Deferred,
        wish: Wish,
        receive: Receive,
        send: Send,
        future: "asyncio.Future[None] | None" = None,
    ) -> None:
        if wish.background:
            await self._reply_at_once(asked, call, send)
            return
        joined = future or self._line.join(call.id)
        try:
            if future is None:
                # It may have ended before somebody waited for it.
                found = await asyncio.to_thread(self._store.find, call.team, call.id)
                if found is not None and found.ended:
                    joined.set_result(None)
            if await unless_gone(receive, joined):
                await self._answer(asked, call, send)
        finally:
            self._line.leave(call.id, joined)

    async def _reply_at_once(self, asked: Asked, call: Deferred, send: Send) -> None:
        body = await self.body(call)
        shown = (response_view if call.endpoint == "responses" else call_view)(call, body, sent=False)
        status = 200 if call.endpoint == "responses" or call.ended else 202
        await _send(send, status, [_JSON, (b"x-halfrate-call", call.id.encode())], shown)

    async def _answer(self, asked: Asked, call: Deferred, send: Send) -> None:
        """The answer, as if it had come at once."""
        found = await asyncio.to_thread(self._store.find, call.team, call.id)
        if found is None or found.answer is None:
            raise _cancelled() if found is not None and found.cancelled else _forgotten(call.id)
        body = await self.body(found)
        if body is None:
            raise _forgotten(call.id)
        answer = found.answer
        headers = [
            (b"x-halfrate-call", found.id.encode()),
            (b"x-halfrate-model", found.model.encode("ascii", "replace")),
        ]
        if answer.tier is not None:
            headers.append((b"x-halfrate-tier", answer.tier.encode("ascii", "replace")))
        if answer.cost is not None:
            headers.append((b"x-halfrate-cost-usd", usd(answer.cost).encode()))
        if asked.stream and answer.status < 400:
            stream = as_stream(asked, Whole([_JSON], body, Used()))
            await _send(send, answer.status, [*stream.headers, *headers], stream.body)
            return
        if answer.status == 504:
            headers.append((b"x-should-retry", b"false"))
        await _send(send, answer.status, [_JSON, *headers], body)

    async def body(self, call: Deferred) -> bytes | None:
        """What a call was answered; None where there is nothing yet, or not any more."""
        answer = call.answer
        if answer is None:
            return None
        return await asyncio.to_thread(self._places.answer, answer.file, answer.at, answer.size)


_UNKNOWN: Final = (
    "The gateway was ended while this call ran. It may have been run, and billed: it stands in the ledger as a doubt. "
    "Whoever sends it again may pay for it twice."
)


_UNKNOWN_AFAR: Final = (
    "The machine that ran this call is gone. It may have been run, and billed, without standing in the ledger. Whoever "
    "sends it again may pay for it twice."
)


def _batched(target: Target, asked: Asked) -> Endpoint | None:
    """As what a provider takes such calls in batches; None where it does not."""
    facts = target.adapter.capabilities
    if not facts.batches:
        return None
    own = "anthropic" if asked.endpoint == "messages" else "openai"
    if facts.native_form == own and asked.endpoint in facts.endpoints:
        return asked.endpoint
    if spoken(facts, form_of(asked.endpoint)) is None:
        return None
    return "chat" if asked.endpoint == "responses" else asked.endpoint


def _batch_body(asked: Asked, target: Target, endpoint: Endpoint) -> bytes:
    """The body as it is to stand in a batch, in one line. Raises ApiError for what its provider cannot be asked."""
    facts = target.adapter.capabilities
    fields = _fields(asked.body)
    for name in ("stream", "stream_options"):
        fields.pop(name, None)
    fields["model"] = msgspec.Raw(msgspec.json.encode(target.name))
    # Within a text a line break is always escaped: these stand between fields, where a space is as good.
    body = msgspec.json.encode(fields).replace(b"\n", b" ").replace(b"\r", b" ")
    own = "anthropic" if asked.endpoint == "messages" else "openai"
    try:
        if endpoint != asked.endpoint:
            body = msgspec.json.encode(responses.to_chat(msgspec.json.decode(body), target.name))
        if facts.native_form != own:
            chat: dict[str, Any] = msgspec.json.decode(body)
            chat = to_chat(chat, target.name) if endpoint == "messages" else chat
            form = form_of(endpoint)
            if form in facts.translates:
                target.adapter.from_openai(chat, target.name, form)
            _check_texts(chat, facts)
    except Untranslatable as fault:
        message = f"{fault.field}: cannot be asked of {target.title}: {fault.reason}"
        raise ApiError(400, message, code="invalid_value", param=fault.field) from None
    limit = facts.limits.row_bytes
    if len(body) > limit:
        message = f"{facts.title} takes {limit:,} bytes in a row of a batch, and this call has {len(body):,}."
        raise ApiError(413, message, code="request_too_large")
    return body


def _check_texts(body: dict[str, Any], facts: Capabilities) -> None:
    texts, most = body.get("input"), facts.limits.row_inputs
    if most is not None and isinstance(texts, list) and len(cast("list[Any]", texts)) > most:
        message = (
            f"Of what {facts.title} embeds in batches, {most} text stands in a row: a call that can wait has no more. "
            "Ask for each by itself, or at once without a deadline."
        )
        raise ApiError(400, message, code="invalid_value", param="input")


def _check_stream(asked: Asked, wish: Wish) -> None:
    if not asked.stream:
        return
    if wish.background:
        message = "A call in the background is answered in one piece: leave 'stream' out."
        raise ApiError(400, message, code="invalid_value", param="stream")
    if asked.endpoint not in {"chat", "messages"}:
        message = "Of calls that wait, chats and messages alone can be streamed: leave 'stream' out."
        raise ApiError(400, message, code="invalid_value", param="stream")


def _in_tier(asked: Asked, tier: str) -> Asked:
    """The same, to be served in a tier."""
    fields: Mapping[str, msgspec.Raw] = _fields(asked.body)
    body = msgspec.json.encode({**fields, "service_tier": msgspec.Raw(msgspec.json.encode(tier))})
    return msgspec.structs.replace(asked, body=body)


def _encoded(error: ApiError, asked: Asked) -> bytes:
    return msgspec.json.encode(error.body(asked.surface, asked.request_id))


def _let_go(answer: Streamed) -> None:
    answer.stream.close()


def _overloaded() -> ApiError:
    return ApiError(
        429,
        "More calls wait here than this gateway takes. Try again later.",
        code="queue_full",
        headers={"retry-after": "30"},
    )


def _cancelled() -> ApiError:
    return ApiError(
        409, "This call was cancelled before it was run. Nothing was paid.", code="call_cancelled"
    )


def _forgotten(call_id: str) -> ApiError:
    return ApiError(404, f"The answer of {call_id} is not kept any more.", code="answer_not_kept")


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
