"""Where a call in real time goes first, and where then: routes over several models. Pure.

A route is a name that callers give for a model, and models that may answer. How they are gone through is the route's:

    fallback   in their order, the next where one fails
    race       all at once, and the first answer counts
    cheapest   the one that should cost least first
    fastest    the one that was quickest of late first
    weights    by lot
    escalate   in their order, the next where an answer does not pass a check

What failed of late is tried last, until it has had time to recover.
"""

from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

How: TypeAlias = Literal["fallback", "race", "cheapest", "fastest", "weights", "escalate"]

COOL_DOWN: Final = 30.0
"""Seconds that a model is tried last after it has failed, unless its provider says how long to wait."""
_LONGEST_COOL_DOWN: Final = 600.0
_NEW: Final = 0.3
"""How much the newest answer's time counts beside all before it."""
_EXPLORE: Final = 0.05
"""How often a slower model is asked first, so that it is known when it becomes quick again."""


class Route(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A route, as the settings file has it.

    `timeout`: seconds that each model has to begin its answer; None: as long as the caller waits. `retries`: how often
    one is asked again that says when to come back. `check`: for `escalate`; see `gateway.checks`.
    """

    models: tuple[str, ...]
    how: How = "fallback"
    weights: tuple[float, ...] = ()
    timeout: float | None = None
    retries: int = 0
    cool_down: float = COOL_DOWN
    check: str = "finished"


def fault_in(route: Route) -> str:
    """What is wrong with a route, "" where nothing is."""
    if not route.models:
        return "it names no models"
    if len(set(route.models)) != len(route.models):
        return "it names a model twice"
    if route.how == "weights" and len(route.weights) != len(route.models):
        return f"it has {len(route.models)} models and {len(route.weights)} weights"
    if any(weight < 0 for weight in route.weights) or (route.weights and not sum(route.weights)):
        return "a weight is a number from 0 on, and not all of them are 0"
    if route.timeout is not None and route.timeout <= 0:
        return "its timeout is not more than 0 seconds"
    if not 0 <= route.retries <= 10:
        return "it takes 0 to 10 retries"
    if route.cool_down < 0:
        return "its cool_down is less than 0 seconds"
    return ""


class _Seen(msgspec.Struct):
    """What was seen of one model. `until`: before that it is tried last; `seconds`: to the beginning of an answer."""

    until: float = 0.0
    seconds: float | None = None


class Board:
    """What is known of how models answer. Times are seconds of one clock.

    Args:
        chance: gives numbers from 0 to below 1.
    """

    def __init__(self, chance: Callable[[], float] | None = None) -> None:
        # Whoever reads a settings file imports this module as well.
        from random import random

        self._chance = chance or random
        self._seen: dict[str, _Seen] = {}

    def answered(self, model: str, seconds: float) -> None:
        """A model has begun to answer after so many seconds."""
        seen = self._seen.setdefault(model, _Seen())
        seen.until = 0.0
        known = seen.seconds
        seen.seconds = seconds if known is None else known + (seconds - known) * _NEW

    def failed(self, model: str, now: float, cool_down: float, retry_after: float | None = None) -> None:
        """A model did not answer. `retry_after`: seconds that its provider asks to wait."""
        seen = self._seen.setdefault(model, _Seen())
        wait = cool_down if retry_after is None else max(cool_down, retry_after)
        seen.until = now + min(wait, _LONGEST_COOL_DOWN)

    def order(self, route: Route, now: float, price: Callable[[str], int | None]) -> list[str]:
        """The models of a route as they are to be tried. `price`: what a call should cost at one, None if unknown."""
        models = self._wanted(route, price)
        if route.how == "escalate":
            # The cheap one stays before the strong one: another order would turn the check round.
            return list(models)
        # Where all have failed of late, the first to recover comes first: somebody has to be asked.
        return sorted(models, key=lambda model: max(0.0, self._until(model) - now))

    def _wanted(self, route: Route, price: Callable[[str], int | None]) -> Sequence[str]:
        match route.how:
            case "cheapest":
                costs = {model: price(model) for model in route.models}
                return sorted(route.models, key=lambda model: (costs[model] is None, costs[model] or 0))
            case "fastest":
                return self._by_speed(route.models)
            case "weights":
                return self._by_lot(route)
            case _:
                return route.models

    def _by_speed(self, models: Sequence[str]) -> Sequence[str]:
        """The quickest first; before it those of which nothing is known."""
        times = {model: seen.seconds for model in models if (seen := self._seen.get(model)) is not None}
        ranked = sorted(models, key=lambda model: times.get(model) or 0.0)
        if len(ranked) > 1 and self._chance() < _EXPLORE:
            other = ranked.pop(1 + int(self._chance() * (len(ranked) - 1)))
            ranked.insert(0, other)
        return ranked

    def _by_lot(self, route: Route) -> Sequence[str]:
        left = dict(zip(route.models, route.weights, strict=True))
        drawn: list[str] = []
        while left:
            mark = self._chance() * sum(left.values())
            chosen = next(iter(left))
            for model, weight in left.items():
                chosen = model
                mark -= weight
                if mark < 0:
                    break
            drawn.append(chosen)
            del left[chosen]
        return drawn

    def _until(self, model: str) -> float:
        seen = self._seen.get(model)
        return seen.until if seen is not None else 0.0
