"""Calls that can wait: taken on, gathered or run at once by how near their deadlines are, and answered.

    asked -> known already? -> its tier -> gathered into a batch, or run in real time -> the line, or the background

What was taken on is recorded before it is run, under the caller's own key for it if there is one: whoever asks again,
after a broken line or a killed gateway, gets the answer of the one call, and pays once.

How calls are gathered is in `recording`, what one comes to in real time in `outcomes`, and how it is answered in
`replies`.
"""

import asyncio
from typing import Final

import msgspec
from starlette.types import Receive, Send

from halfrate.base.errors import HalfrateError, StorageError
from halfrate.base.ids import new_id
from halfrate.blobs.shelves import Shelves
from halfrate.core.deferral import REPEATED, Answer, Deferred
from halfrate.gateway.asking import Asked
from halfrate.gateway.batch_rows import batched
from halfrate.gateway.booking import Books
from halfrate.gateway.errors import ApiError
from halfrate.gateway.line import Line
from halfrate.gateway.logs import Lasting, Log
from halfrate.gateway.outcomes import outcome
from halfrate.gateway.recording import Recorder
from halfrate.gateway.replies import Replies
from halfrate.gateway.router import Router
from halfrate.gateway.targets import Target
from halfrate.gateway.wishes import IDEMPOTENCY, Wish, check_stream
from halfrate.providers.translation import responses
from halfrate.service.calls_form import error_body
from halfrate.service.gathering import Gatherer
from halfrate.service.jobs import Service
from halfrate.store.deferred import Marked

_CLOSE_EVERY: Final = 1.0
_LOOK: Final = 30.0
"""Seconds between two looks for calls whose process died."""
_BEAT: Final = 10.0
"""Seconds between two times that other machines are told that this process lives."""
_AGAIN: Final = 2.0
"""Seconds until an answer is put into the depot again that could not be."""
_UNKNOWN: Final = (
    "The gateway was ended while this call ran. It may have been run, and billed: it stands in the ledger as a doubt. "
    "Whoever sends it again may pay for it twice."
)
_UNKNOWN_AFAR: Final = (
    "The machine that ran this call is gone. It may have been run, and billed, without standing in the ledger. Whoever "
    "sends it again may pay for it twice."
)


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
        self._log = log
        self.trouble = Lasting(log, service.clock, "calls wait", "calls go on")
        self._urgency = service.urgency()
        self._recorder = Recorder(self._store, gatherer, books)
        self.replies = Replies(self._store, places, line)
        self._running: set[asyncio.Task[None]] = set()
        self._stopped = False

    async def take(self, asked: Asked, wish: Wish, receive: Receive, send: Send) -> Asked | None:
        """Answer a call; or give it back, to be run in real time like any other.

        Raises ApiError and HalfrateError.
        """
        known = await self._known(asked, wish)
        if known is not None:
            await self.replies.reply(asked, known, wish, receive, send)
            return None
        target = await self._router.target(asked)
        tier = await self._tier(target, asked, wish)
        if tier == "standard" and wish.mark is None and not wish.background:
            return asked
        call = self._call(asked, wish, target)
        future = self._line.join(call.id)
        try:
            if tier == "batch":
                taken = await self._recorder.gather(asked, call, target, wish)
            else:
                taken = await self._begun(asked, call, tier, wish)
            if taken:
                await self.replies.reply(asked, call, wish, receive, send, future)
                return None
        finally:
            self._line.leave(call.id, future)
        # Another call came in between with the same key.
        known = await self._known(asked, wish)
        if known is None:
            raise ApiError(503, "This call could not be taken on. Try again.", headers={"retry-after": "1"})
        await self.replies.reply(asked, known, wish, receive, send)
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
        await self._recorder.finish()
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
        if wish.deadline is None or batched(target, asked) is None:
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

    # ------------------------------------------------------------ in real time

    async def _begun(self, asked: Asked, call: Deferred, tier: str, wish: Wish) -> bool:
        """Run a call now; False where its key is that of another."""
        check_stream(asked, wish)
        if not await asyncio.to_thread(self._store.add, Marked(call, wish.mark)):
            return False
        task = asyncio.create_task(self._run(asked.whole() if asked.stream else asked, call, tier))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return True

    async def _run(self, asked: Asked, call: Deferred, tier: str) -> None:
        try:
            status, used, cost, body = await outcome(self._router, asked, tier)
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

    def _answered(
        self, call: Deferred, status: int, tier: str | None, cost: int | None, body: bytes, now: float
    ) -> Deferred:
        """The call with its answer kept."""
        file, ((at, size),) = self._places.add_answers(call.id, [body])
        answer = Answer(status, tier, cost, file, at, size)
        return msgspec.structs.replace(call, ended_at=now, answer=answer)
