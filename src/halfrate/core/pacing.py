"""How fast realtime calls may leave: concurrency that is felt out, and budgets that the provider names.

Two things bound what an account may ask of a model in real time, and neither is known beforehand.

*How many calls at once* is found as TCP finds the width of a line: it starts low, doubles with every round of
good replies until the first sign of overload, halves at such a sign (once for all the calls that were under way
when it came, for they all tell of the same moment), and from then on grows by one a round. It grows only while
it is what holds calls back.

*How many calls and tokens in a time* the provider says in the headers of every reply: a limit, and what of it
remains. A bucket that refills evenly stands for each such budget. What is left in it is what the newest reply
said, plus what has flowed in since, less what has been sent since. Requests leave evenly spaced besides, because
a limit of so many a minute may be enforced a second at a time (OpenAI's rate limit guide).

What a call weighs in tokens is an estimate of the caller's. How far off it is shows in what remains from one
reply to the next, so estimates are corrected by a factor that is learned.

Nothing here reads a clock, waits, or draws a random number: times and draws come in.
"""

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import msgspec

Kind: TypeAlias = Literal["requests", "tokens", "input", "output"]
"""What a budget counts: calls, or tokens of both kinds together, read, or written."""

MINUTE: Final = 60.0
_EARLY: Final = 0.25
"""Seconds by which requests may leave ahead of their even places, so that small delays are made up for. Where fewer
than some a second are allowed, it is less: one that is a moment early would be one too many."""
_AT_ONCE: Final = 1e-6
"""Seconds that nobody has to wait for; clocks do not tell them apart."""
_LEARN_FROM: Final = 0.05
"""The share of a limit that has to be spent before what was spent is compared with the estimates."""
_LEARN_RATE: Final = 0.5
_LIGHTEST, _HEAVIEST = 0.05, 64.0
_MOST_STRIKES: Final = 16


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A budget as one reply tells of it: of `limit` in `per` seconds, `remaining` are left."""

    kind: Kind
    limit: int
    remaining: int
    per: float | None = None
    """None where the reply leaves it open: then what was known of it before, or a minute."""


class Load(msgspec.Struct, frozen=True):
    """What a call is expected to weigh, in tokens."""

    input: int = 0
    output: int = 0

    def of(self, kind: Kind) -> float:
        if kind == "requests":
            return 1.0
        if kind == "tokens":
            return float(self.input + self.output)
        return float(self.input if kind == "input" else self.output)


class Pacing(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds within which a pacer finds its way."""

    first: int = 4
    """Calls at once to begin with."""
    most: int = 200
    share: float = 0.98
    """Of the requests that a provider allows in a time, how many are used."""
    requests_per_minute: int | None = None
    """A limit of the user's own, beside what the provider says."""
    backoff_first: float = 1.0
    backoff_most: float = 60.0


class Ticket(msgspec.Struct):
    """One call that has left."""

    serial: int
    at: float
    pressed: bool
    """The places there were, were needed: a good reply is a reason to make more."""
    sent: tuple[float, ...]
    """What had been sent of each kind, this call included."""
    load: Load


_KINDS: Final[tuple[Kind, ...]] = ("requests", "tokens", "input", "output")


class _Bucket:
    """What is left of one budget, as far as can be known."""

    def __init__(self, window: Window, now: float) -> None:
        self.limit = window.limit
        self.per: float = window.per or MINUTE
        self.weight = 1.0
        """What a call of this kind really weighs, for each unit of its estimate."""
        self._level = 0.0
        self._at = now
        self._told_of = float("-inf")
        self._anchor: tuple[float, float, float] | None = None

    @property
    def rate(self) -> float:
        return self.limit / self.per

    def told(self, window: Window, now: float, ticket: "Ticket", sent: float, sent_by_now: float) -> None:
        """A reply says what remained when its call came in; `sent`: what had been sent then, that call included."""
        if window.limit != self.limit or (window.per is not None and window.per != self.per):
            self.limit = window.limit
            self.per = window.per or self.per
            self._anchor = None
        if ticket.at < self._told_of:
            # Replies overtake each other; the call that left last tells of the newest state.
            return
        self._told_of = ticket.at
        self._learn(window, ticket.at, sent)
        since = (now - ticket.at) * self.rate - self.weight * (sent_by_now - sent)
        self._level, self._at = min(float(self.limit), window.remaining + since), now

    def left(self, now: float) -> float:
        return min(float(self.limit), self._level + max(0.0, now - self._at) * self.rate)

    def spend(self, now: float, cost: float) -> None:
        self._level, self._at = self.left(now) - cost * self.weight, now

    def wait(self, now: float, cost: float) -> float:
        """Seconds until a call of this cost finds room. A call that is larger than the whole budget waits for
        a full one: what the provider says to it then is the provider's affair."""
        short = min(cost * self.weight, float(self.limit)) - self.left(now)
        return max(0.0, short / self.rate)

    def too_light(self) -> None:
        """The provider found the budget overdrawn where we did not."""
        self.weight = min(_HEAVIEST, max(1.0, self.weight * 2))
        self._anchor = None

    def _learn(self, window: Window, at: float, sent: float) -> None:
        """Compare what has gone out of the bucket with what was said would go."""
        if window.kind == "requests":
            return
        left = float(window.remaining)
        if self._anchor is None:
            self._anchor = (at, left, sent)
            return
        then, was_left, was_sent = self._anchor
        meant = sent - was_sent
        if meant * self.weight < _LEARN_FROM * self.limit:
            return
        self._anchor = (at, left, sent)
        had = was_left + (at - then) * self.rate
        if had <= self.limit:
            # A bucket that ran over in between does not show what was taken from it.
            found = min(_HEAVIEST, max(_LIGHTEST, (had - left) / meant))
            self.weight += _LEARN_RATE * (found - self.weight)


class Budgets:
    """What a provider lets one account ask of one model in a time. One for all who call it, in whatever tier."""

    def __init__(self, pacing: Pacing | None = None) -> None:
        self._pacing = pacing or Pacing()
        self._next = float("-inf")
        self._sent = [0.0] * len(_KINDS)
        self._buckets: dict[Kind, _Bucket] = {}

    def wait(self, now: float, load: Load) -> float:
        """Seconds until there is room for a call; negative where there is more than enough."""
        rate = self._rate()
        waits = [0.0 if rate is None else self._next - _EARLY * max(0.0, 1 - 1 / rate) - now]
        waits += [bucket.wait(now, load.of(kind)) for kind, bucket in self._buckets.items()]
        return max(waits)

    def spend(self, now: float, load: Load) -> tuple[float, ...]:
        """A call leaves; what has been sent of each kind by now, this call included."""
        for at, kind in enumerate(_KINDS):
            self._sent[at] += load.of(kind)
        for kind, bucket in self._buckets.items():
            bucket.spend(now, load.of(kind))
        rate = self._rate()
        if rate is not None:
            self._next = max(self._next, now) + 1 / rate
        return tuple(self._sent)

    def told(self, ticket: "Ticket", now: float, windows: Sequence[Window]) -> None:
        """A reply says what remains."""
        for window in windows:
            if window.limit <= 0 or window.remaining < 0:
                continue
            bucket = self._buckets.get(window.kind)
            if bucket is None:
                bucket = self._buckets[window.kind] = _Bucket(window, now)
            at = _KINDS.index(window.kind)
            bucket.told(window, now, ticket, ticket.sent[at], self._sent[at])

    def limits(self) -> dict[Kind, int]:
        """What the provider's replies have said is allowed in a minute, of each kind."""
        return {kind: round(bucket.rate * MINUTE) for kind, bucket in self._buckets.items()}

    def overdrawn(self, ticket: "Ticket", windows: Sequence[Window]) -> None:
        """A call was refused for too much in a time. Find out whether it was for its tokens, though by our count
        there was room for them."""
        if any(window.kind == "requests" and window.remaining < 1 for window in windows):
            return
        for window in windows:
            bucket = self._buckets.get(window.kind)
            if bucket is None or window.kind == "requests":
                continue
            weight = ticket.load.of(window.kind) * bucket.weight
            if weight <= window.remaining < window.limit / 2:
                bucket.too_light()

    def _rate(self) -> float | None:
        """Requests a second that may leave, None where nobody has said."""
        bucket = self._buckets.get("requests")
        own = self._pacing.requests_per_minute
        rates = [rate for rate in (bucket and bucket.rate, own and own / MINUTE) if rate]
        return min(rates) * self._pacing.share if rates else None


class Pacer:
    """Says when the next call to one model of one account may leave in one tier. One for all shards that call it.

    Tiers have a pacer each, for a tier that is short of room says nothing of the others; they share `budgets`.
    """

    def __init__(self, pacing: Pacing | None = None, budgets: Budgets | None = None) -> None:
        self._pacing = pacing or Pacing()
        self._budgets = budgets or Budgets(self._pacing)
        self._width = float(min(self._pacing.first, self._pacing.most))
        self._steady = float("inf")
        """The width from which on it grows by one a round."""
        self._serial = 0
        self._recovered = 0
        """Signs of overload from calls up to this one have been heeded."""
        self._paused_until = float("-inf")
        self._strikes = 0
        self.in_flight = 0
        self.refused_since: float | None = None
        """Since when every call that ended was refused or lost; None while calls are answered."""

    @property
    def width(self) -> int:
        """How many calls may be under way at once."""
        return int(self._width)

    def delay(self, now: float, load: Load) -> float | None:
        """Seconds until a call may leave, 0 for at once; None when it has to wait for one under way to end."""
        if self.in_flight >= self.width:
            return None
        wait = max(self._paused_until - now, self._budgets.wait(now, load))
        return wait if wait > _AT_ONCE else 0.0

    def sent(self, now: float, load: Load) -> Ticket:
        """A call leaves."""
        self._serial += 1
        self.in_flight += 1
        pressed = 2 * self.in_flight >= self.width
        return Ticket(self._serial, now, pressed, self._budgets.spend(now, load), load)

    def answered(self, ticket: Ticket, now: float, windows: Sequence[Window] = ()) -> None:
        """A call was answered well."""
        self.in_flight -= 1
        self._strikes = 0
        self.refused_since = None
        self._budgets.told(ticket, now, windows)
        if ticket.pressed and ticket.serial > self._recovered:
            step = 1.0 if self._width < self._steady else 1.0 / self._width
            self._width = min(float(self._pacing.most), self._width + step)

    def failed(self, ticket: Ticket, now: float, windows: Sequence[Window] = ()) -> None:
        """A call ended in the provider's own fault, or its reply was lost: fewer at once, and no pause."""
        self.in_flight -= 1
        self._refused(now)
        self._budgets.told(ticket, now, windows)
        self._narrow(ticket)

    def overloaded(
        self,
        ticket: Ticket,
        now: float,
        windows: Sequence[Window],
        retry_after: float | None,
        draw: float,
    ) -> None:
        """The provider asked for fewer calls. All of them pause for as long as it says; where it does not say,
        for a while that doubles from sign to sign. `draw`: a random number in [0, 1)."""
        self.in_flight -= 1
        self._refused(now)
        fresh = self._narrow(ticket)
        if fresh:
            self._budgets.overdrawn(ticket, windows)
        self._budgets.told(ticket, now, windows)
        if retry_after is None:
            if not fresh:
                return
            first, most = self._pacing.backoff_first, self._pacing.backoff_most
            retry_after = min(most, first * 2**self._strikes) * (0.5 + draw)
        if fresh:
            self._strikes = min(self._strikes + 1, _MOST_STRIKES)
        self._paused_until = max(self._paused_until, now + retry_after)

    def returned(self, ticket: Ticket) -> None:
        """A call never left this machine, or ended in a way that says nothing of the load."""
        del ticket
        self.in_flight -= 1

    def _refused(self, now: float) -> None:
        if self.refused_since is None:
            self.refused_since = now

    def _narrow(self, ticket: Ticket) -> bool:
        """Halve the width, unless this call left before it was halved last."""
        if ticket.serial <= self._recovered:
            return False
        self._recovered = self._serial
        self._width = self._steady = max(1.0, self._width / 2)
        return True
