"""Limits by the minute: buckets that refill evenly, and what the replies' headers say of them.

OpenAI (guide to rate limits): `x-ratelimit-*` headers, times until a bucket is full as `6m0s`; a refused call counts
against the calls of the minute too; a limit may be enforced over a shorter time than a minute. A call weighs as many
tokens as its prompt, or as it may answer, whichever is more.

Anthropic (page on rate limits): `anthropic-ratelimit-*` headers, the time at which a bucket is full (RFC 3339),
tokens rounded to the nearest thousand. Read and written tokens have a limit each; those written count as they are
written.
"""

import math
from typing import Literal, TypeAlias

import msgspec

from halfrate.emulator._context import rfc3339

MINUTE = 60.0

Kind: TypeAlias = Literal["requests", "tokens", "input", "output"]
Costs: TypeAlias = dict[Kind, float]
"""What a call weighs against each limit."""


class _Bucket(msgspec.Struct):
    """So much a minute, of which no more than `capacity` is ever saved up."""

    limit: float
    capacity: float
    level: float
    at: float

    def refill(self, now: float) -> None:
        flowed = (now - self.at) * self.limit / MINUTE
        self.level, self.at = min(self.capacity, self.level + max(0.0, flowed)), now

    def short(self, cost: float) -> float:
        """Seconds until there is room for a cost; infinite where there never will be."""
        if cost > self.capacity:
            return math.inf
        return max(0.0, (cost - self.level) * MINUTE / self.limit)

    def full_in(self) -> float:
        return (self.capacity - self.level) * MINUTE / self.limit


class Budget:
    """One limit of one model in one project: over a minute, and over a shorter time where that is enforced."""

    def __init__(self, kind: Kind, limit: int, burst_seconds: float, now: float) -> None:
        self.kind: Kind = kind
        self.limit = limit
        self._minute = _Bucket(limit, limit, limit, now)
        capacity = max(1.0, limit * min(burst_seconds, MINUTE) / MINUTE)
        self._burst = _Bucket(limit, capacity, capacity, now)

    def short(self, now: float, cost: float) -> float:
        """Seconds until a call of this cost finds room."""
        waits: list[float] = []
        for bucket in (self._minute, self._burst):
            bucket.refill(now)
            waits.append(bucket.short(cost))
        return max(waits)

    def spend(self, cost: float, *, least: float = -math.inf) -> None:
        for bucket in (self._minute, self._burst):
            bucket.level = max(least, bucket.level - cost)

    @property
    def remaining(self) -> int:
        return max(0, int(self._minute.level))

    def full_in(self) -> float:
        return self._minute.full_in()


class Over(msgspec.Struct, frozen=True):
    """A limit that a call would exceed, and how long until it would not."""

    kind: Kind
    limit: int
    used: int
    asked: int
    seconds: float


class RateBook:
    """The budgets of every project and model. `limits`: by kind, those that are None do not exist."""

    def __init__(self, limits: dict[Kind, int | None], burst_seconds: float) -> None:
        self._limits: dict[Kind, int] = {kind: most for kind, most in limits.items() if most is not None}
        self._burst_seconds = burst_seconds
        self._books: dict[tuple[str, str], dict[Kind, Budget]] = {}

    def budgets(self, project: str, model: str, now: float) -> dict[Kind, Budget]:
        """The budgets of one model, made when first asked for."""
        book = self._books.get((project, model))
        if book is None:
            book = self._books[project, model] = {}
            for kind, limit in self._limits.items():
                book[kind] = Budget(kind, limit, self._burst_seconds, now)
        return book

    def check(self, budgets: dict[Kind, Budget], now: float, costs: Costs) -> Over | None:
        """The limit that a call of these costs would exceed for longest, or None."""
        found: Over | None = None
        for kind, budget in budgets.items():
            cost = costs.get(kind, 0.0)
            seconds = budget.short(now, cost)
            if seconds > 0 and (found is None or seconds > found.seconds):
                found = Over(kind, budget.limit, budget.limit - budget.remaining, math.ceil(cost), seconds)
        return found


def go_duration(seconds: float) -> str:
    """A time as OpenAI's headers write it: `12ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, MINUTE)
    text = f"{rest:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{int(minutes)}m{text}" if minutes else text


def openai_headers(budgets: dict[Kind, Budget]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for kind, budget in budgets.items():
        headers[f"x-ratelimit-limit-{kind}"] = str(budget.limit)
        headers[f"x-ratelimit-remaining-{kind}"] = str(budget.remaining)
        headers[f"x-ratelimit-reset-{kind}"] = go_duration(max(0.0, budget.full_in()))
    return headers


_NAMES: dict[Kind, str] = {
    "requests": "requests",
    "tokens": "tokens",
    "input": "input-tokens",
    "output": "output-tokens",
}


def anthropic_headers(budgets: dict[Kind, Budget], now: float) -> dict[str, str]:
    headers: dict[str, str] = {}
    shown: list[tuple[str, Budget]] = [(_NAMES[kind], budget) for kind, budget in budgets.items()]
    tokens = [budget for kind, budget in budgets.items() if kind != "requests"]
    if tokens:
        # Of the limits on tokens, the one that leaves least.
        shown.append(("tokens", min(tokens, key=lambda budget: budget.remaining)))
    for name, budget in shown:
        remaining = budget.remaining if budget.kind == "requests" else round(budget.remaining, -3)
        headers[f"anthropic-ratelimit-{name}-limit"] = str(budget.limit)
        headers[f"anthropic-ratelimit-{name}-remaining"] = str(remaining)
        full = rfc3339(math.ceil(now + max(0.0, budget.full_in()))) or ""
        headers[f"anthropic-ratelimit-{name}-reset"] = full.replace(".000000", "")
    return headers


def retry_headers(seconds: float, *, exact: bool) -> dict[str, str]:
    """When to come back. OpenAI says it in milliseconds besides. Nothing where coming back would not help."""
    if math.isinf(seconds):
        return {}
    headers = {"retry-after": str(max(1, math.ceil(seconds)))}
    return {**headers, "retry-after-ms": str(math.ceil(seconds * 1000))} if exact else headers
