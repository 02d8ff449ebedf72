"""What a realtime call meets besides the model: limits, tiers, the time it takes, and what goes wrong with it."""

import heapq
import math
from collections.abc import Callable, Mapping
from statistics import NormalDist

import msgspec

from halfrate.emulator._context import Context
from halfrate.emulator._meter import Charge, fingerprint
from halfrate.emulator._prices import Model
from halfrate.emulator._quirks import injected
from halfrate.emulator._rates import Budget, Costs, Kind, Over, RateBook
from halfrate.emulator._routes import Call
from halfrate.emulator._rows import Answered
from halfrate.emulator._wire import ApiError, Delivery, Document, Response

_NORMAL = NormalDist()


class Visit(msgspec.Struct):
    """One realtime call on its way: `about` makes its draws its own; `headers` go with whatever is answered."""

    call: Call
    about: str
    model: Model
    tier: str
    headers: dict[str, str] = {}


class Desk:
    """Where one provider's realtime calls come in.

    Args:
        headers: what the reply says of the budgets, at a time.
        refused: the error for a limit that is exceeded.
        crowded: the error when too many are being answered at once.
    """

    def __init__(
        self,
        context: Context,
        provider: str,
        book: RateBook,
        *,
        headers: Callable[[dict[Kind, Budget], float], dict[str, str]],
        refused: Callable[[Over, Model], ApiError],
        crowded: Callable[[], ApiError],
    ) -> None:
        self._context = context
        self._provider = provider
        self._book = book
        self._headers = headers
        self._refused = refused
        self._crowded = crowded
        self._ends: list[float] = []
        self._burst_until = float("-inf")
        self._burst: ApiError | None = None

    def admit(self, call: Call, about: str, model: Model, tier: str, costs: Costs) -> Visit:
        """Let a call in. Raises ApiError where a limit or a fault keeps it out; then nothing is billed."""
        now = call.now
        budgets = self._book.budgets(call.project, model.snapshot, now)
        try:
            self._faults(about, now)
            over = self._book.check(budgets, now, costs)
            if over is not None:
                if "requests" in budgets:
                    # A refused call is a call.
                    budgets["requests"].spend(1, least=0.0)
                raise self._refused(over, model)
            self._make_room(now)
        except ApiError as error:
            error.headers = {**self._headers(budgets, now), **error.headers}
            raise
        for kind, budget in budgets.items():
            budget.spend(costs.get(kind, 0.0))
        return Visit(call, about, model, tier, self._headers(budgets, now))

    def weigh(self, visit: Visit, kind: Kind, tokens: int) -> None:
        """Count what is known only once a call is answered."""
        call = visit.call
        budgets = self._book.budgets(call.project, visit.model.snapshot, call.now)
        if kind in budgets:
            budgets[kind].spend(tokens)
        visit.headers = self._headers(budgets, call.now)

    def bill(self, visit: Visit, answered: Answered, body: Document, name: str = "") -> Delivery:
        """The call is answered, and so it is paid for. How the reply gets to its caller, if it does."""
        context, call = self._context, visit.call
        charge = Charge(
            call.now,
            self._provider,
            visit.tier,
            answered.model,
            answered.tokens,
            "",
            name,
            fingerprint(body),
            call.project,
        )
        context.meter.bill(charge)
        seconds = self._seconds(visit, answered.tokens.output)
        heapq.heappush(self._ends, call.now + seconds)
        written = seconds - self._seconds(visit, 0)
        return msgspec.structs.replace(self._delivery(visit.about, seconds), written_seconds=written)

    def response(
        self, visit: Visit, delivery: Delivery, response: Response, *, more: Mapping[str, str] | None = None
    ) -> Response:
        """A reply with the headers that belong to it, sent as the faults will have it."""
        cut = self._context.faults.strike("realtime-cut", self._provider, visit.about)
        if cut is not None:
            body = response.body
            pieces = [body] if isinstance(body, bytes) else list(body)
            response = msgspec.structs.replace(
                response, body=body if isinstance(body, bytes) else iter(pieces)
            )
            size = sum(map(len, pieces))
            delivery = msgspec.structs.replace(delivery, truncate_after=int(size * cut.number("fraction")))
        headers = {**response.headers, **visit.headers, **(more or {})}
        return msgspec.structs.replace(response, headers=headers, delivery=delivery)

    def _faults(self, about: str, now: float) -> None:
        if found := self._context.faults.strike("realtime-burst", self._provider, about):
            self._burst_until = now + found.number("seconds")
            self._burst = injected(found.whole("status"), found.retry_after())
        if now < self._burst_until and self._burst is not None:
            raise injected(self._burst.status, dict(self._burst.headers))

    def _make_room(self, now: float) -> None:
        most = self._context.limits.realtime_at_once
        while self._ends and self._ends[0] <= now:
            heapq.heappop(self._ends)
        if most is not None and len(self._ends) >= most:
            raise self._crowded()

    def _seconds(self, visit: Visit, output: int) -> float:
        pace = self._context.pace
        seconds = pace.realtime + pace.realtime_per_token * output
        if pace.realtime_spread and seconds:
            draw = self._context.faults.draw(f"latency:{visit.about}")
            seconds *= math.exp(pace.realtime_spread * _NORMAL.inv_cdf(min(max(draw, 1e-6), 1 - 1e-6)))
        return seconds * (pace.realtime_flex if visit.tier == "flex" else 1.0)

    def _delivery(self, about: str, seconds: float) -> Delivery:
        faults = self._context.faults
        drop = faults.strike("realtime-lost", self._provider, about) is not None
        slow = faults.strike("realtime-slow", self._provider, about)
        hold = 0.0 if slow is None else slow.number("seconds")
        return Delivery(drop=drop, hold_seconds=hold, work_seconds=seconds)
