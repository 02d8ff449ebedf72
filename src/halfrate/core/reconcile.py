"""Matches a provider's bill with the ledger: by day, model, tier and account. Decides; reads and asks nothing.

A batch is billed on the days on which its rows ran, and the ledger dates what was collected. So what is left over on
a day is tried with its neighbours before it is called unknown: first whether it all agrees, then whether one thing
explains it, and only then is each day spoken of alone.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import pairwise
from typing import Final, TypeVar

import msgspec

from halfrate.base.types import Usage
from halfrate.core.bills import UNTOLD, Basis
from halfrate.core.explanations import ANOTHER_DAY, Explained, carried, groups, of_a_size, told
from halfrate.core.sides import (
    DISCOUNTED,
    NONE,
    Measure,
    Part,
    Sides,
    Tokens4,
    Verdict,
    Whose,
    in_all,
    joined,
    together,
)
from halfrate.core.statements import ALL_MODELS, Book, Statement

_K = TypeVar("_K")

_LONGEST_RUN: Final = 9
"""Days that a chain of batches, each of which runs past midnight, is followed."""
_WIDEST: Final = 3
"""Days that one thing is looked for in."""
_STRICT: Final = Fraction(1, 10_000)
"""The share by which amounts of different days, tiers or jobs may be off to be the same: what is run daily is much the
same every day."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """`first` and `end`: the days that are judged (since 1970, UTC), `end` no longer. Neighbours on both sides, as many
    as `days_slack`, are only there to be matched with."""

    tolerance: Fraction
    days_slack: int
    first: int
    end: int


class Owed(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger has of one job, model, tier and day. Picodollars."""

    day: int
    provider: str
    scope: str = ""
    account: str = ""
    model: str
    tier: str
    job: str
    usage: Usage
    cost: int | None
    realtime_cost: int | None


class Doubt(msgspec.Struct, frozen=True, kw_only=True):
    """Calls that ended without a reply that could be read: candidates for what is billed and unknown."""

    day: int
    provider: str
    model: str
    tier: str
    calls: int


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one amount. Days since 1970, both inclusive; money in picodollars, None where unknown.

    `names`: jobs of ours, or the provider's names of whom it was billed to. `fee`: what a fee is for.
    """

    verdict: Verdict
    basis: Basis
    provider: str
    scope: str
    model: str
    tier: str
    first: int
    last: int
    billed_tokens: Tokens4 | None
    our_tokens: Tokens4 | None
    billed: int | None
    ours: int | None
    why: str = ""
    names: tuple[str, ...] = ()
    fee: str = ""
    quantity: int | None = None
    estimated: bool = False
    """`billed` is what the price book says, because the export has no money."""

    @property
    def off(self) -> int | None:
        """By how much more was billed than the ledger has."""
        return None if self.billed is None or self.ours is None else self.billed - self.ours


Estimate = Callable[[str, str, str, int, Tokens4], int | None]
"""What the price book says: provider, model, tier, day, tokens -> picodollars."""


def reconcile(
    bill: Statement,
    ledger: Iterable[Owed],
    terms: Terms,
    *,
    doubts: Iterable[Doubt] = (),
    estimate: "Estimate | None" = None,
) -> list[Finding]:
    """All that was billed and all that is in the ledger, each once, with what became of it."""
    owed: dict[tuple[str, str], list[Owed]] = defaultdict(list)
    for one in ledger:
        owed[one.provider, one.scope].append(one)
    open_doubts = list(doubts)
    found: list[Finding] = []
    for (basis, provider, scope), book in bill.books():
        match = _Match(basis, provider, scope, terms, estimate, open_doubts)
        found += match.run(book, owed.get((provider, scope), []))
    return found


class _Match:
    """Matches one provider's bill, money or tokens, with the ledger."""

    def __init__(
        self,
        basis: Basis,
        provider: str,
        scope: str,
        terms: Terms,
        estimate: Estimate | None,
        doubts: list[Doubt],
    ) -> None:
        self._basis: Basis = basis
        self._provider = provider
        self._scope = scope
        self._terms = terms
        self._measure = Measure(terms.tolerance)
        self._strict = Measure(min(terms.tolerance, _STRICT))
        self._estimate = estimate
        self._doubts = doubts
        self._found: list[Finding] = []
        self._mine: set[str] = set()
        """Whom amounts were billed to that agree."""

    def run(self, book: Book, ledger: list[Owed]) -> list[Finding]:
        bill = book.models(self._basis)
        ours = _by_model(ledger, ALL_MODELS if ALL_MODELS in bill else None)
        self._christen(bill, ours, book.unknown)
        tables: dict[str, dict[str, dict[int, Sides]]] = {}
        for model in sorted({*bill, *ours}):
            tiers, mine = bill.get(model, {}), ours.get(model, {})
            if UNTOLD in tiers:
                tiers, mine = {UNTOLD: _merged(tiers)}, {UNTOLD: _merged(mine)} if mine else {}
            tables[model] = _sides(tiers, mine)
            self._even(model, tables[model])
        for model, table in tables.items():
            self._uneven(model, table)
        for (day, name, model), part in sorted(book.fees.items()):
            if part.money != 0 or book.counts[day, name, model]:
                self._fee(day, name, model, part, book.counts[day, name, model])
        return [one for one in self._found if one.last >= self._terms.first and one.first < self._terms.end]

    def _christen(
        self,
        bill: dict[str, dict[str, dict[int, dict[str, Part]]]],
        ours: dict[str, dict[str, dict[int, dict[Whose, Part]]]],
        unknown: set[str],
    ) -> None:
        """A name that nobody knows means the model that was billed nothing and has just as many tokens."""
        for name in sorted(unknown & set(bill)):
            total = _total(bill[name])
            for model in sorted(set(ours) - set(bill)):
                mine = _total(ours[model])
                if total.tokens in {None, NONE} or mine.tokens is None or total.tokens is None:
                    continue
                if self._measure.same_tokens(total.tokens, mine.tokens, kinds=False):
                    bill[model] = bill.pop(name)
                    break

    # ------------------------------------------------------------ one model

    def _even(self, model: str, tiers: dict[str, dict[int, Sides]]) -> None:
        """What agrees, on its day or past midnight."""
        for tier, days in tiers.items():
            for day, sides in list(days.items()):
                if self._measure.agree(sides.bill, sides.ours):
                    self._mine.update(sides.billed)
                    self._agreed(model, tier, (day, day), sides.bill, sides.ours)
                    del days[day]
            self._past_midnight(model, tier, days)

    def _uneven(self, model: str, tiers: dict[str, dict[int, Sides]]) -> None:
        """What does not."""
        for tier, days in tiers.items():
            for day, sides in list(days.items()):
                left = self._without_strangers(model, tier, day, sides)
                if self._measure.agree(left.bill, left.ours):
                    self._agreed(model, tier, (day, day), left.bill, left.ours)
                    del days[day]
                else:
                    days[day] = left
        for width in range(1, _WIDEST + 1):
            self._other_tier(model, tiers, width)
        for tier, days in tiers.items():
            for run, found in told(days, (self._strict, self._measure), self._terms.days_slack):
                self._say(model, tier, (run[0], run[-1]), self._hinted(model, tier, run, found))

    def _without_strangers(self, model: str, tier: str, day: int, sides: Sides) -> Sides:
        """Projects of which nothing agrees anywhere are not ours, where others are. One that may be ours with a mistake
        in it stays."""
        strange = {hint: part for hint, part in sides.billed.items() if hint not in self._mine}
        if not self._mine or any(of_a_size(part, sides.ours) for part in strange.values()):
            return sides
        for hint, part in strange.items():
            names = (hint,) if hint else ()
            why = "billed to somebody else" if not sides.ours.empty else self._doubted(model, tier, day)
            self._say(model, tier, (day, day), Explained("unknown to us", why, part, Part(), names))
        kept = {hint: part for hint, part in sides.billed.items() if hint not in strange}
        return Sides(sides.tier, kept, sides.owed)

    def _past_midnight(self, model: str, tier: str, days: dict[int, Sides]) -> None:
        """Runs of days that agree together: what one day has too much of, the next ones have too little of."""
        left = sorted(days)
        at = 0
        while at < len(left):
            run = self._even_run(days, left[at : at + _LONGEST_RUN])
            if run is None:
                at += 1
                continue
            sides = [days.pop(day) for day in run]
            self._mine.update(hint for one in sides for hint in one.billed)
            bill, ours = (in_all(getattr(one, name) for one in sides) for name in ("bill", "ours"))
            self._agreed(model, tier, (run[0], run[-1]), bill, ours, ANOTHER_DAY)
            at += len(run)

    def _even_run(self, days: Mapping[int, Sides], candidates: list[int]) -> list[int] | None:
        slack = self._terms.days_slack
        bill, ours = Part(), Part()
        for index, day in enumerate(candidates):
            if index and day - candidates[index - 1] > slack:
                return None
            bill, ours = bill.plus(days[day].bill), ours.plus(days[day].ours)
            if self._strict.agree(bill, ours):
                return candidates[: index + 1]
            following = candidates[index + 1] if index + 1 < len(candidates) else day + 1
            recent = in_all(days[one].bill for one in candidates[: index + 1] if following - one <= slack)
            if not carried(bill, ours, recent):
                return None
        return None

    # ------------------------------------------------------------ what does not agree

    def _other_tier(self, model: str, tiers: dict[str, dict[int, Sides]], width: int) -> None:
        """What we had as a batch, in `width` days, and the bill has in a dearer tier."""
        slack = self._terms.days_slack
        for cheap in sorted(DISCOUNTED & set(tiers)):
            for dear in sorted(set(tiers) - DISCOUNTED):
                order = sorted(tiers[cheap])
                for at in range(len(order) - width + 1):
                    run = order[at : at + width]
                    if any(later - earlier > slack for earlier, later in pairwise(run)):
                        continue
                    near = [day for day in tiers[dear] if run[0] - slack <= day <= run[-1]]
                    for other in sorted(near, key=lambda day: abs(day - run[0])):
                        if self._same_elsewhere(model, tiers[cheap], run, tiers[dear], other):
                            break

    def _same_elsewhere(
        self, model: str, cheap: dict[int, Sides], run: list[int], dear: dict[int, Sides], other: int
    ) -> bool:
        if any(day not in cheap for day in run):
            return False
        mine, theirs = together(cheap[day] for day in run), dear[other]
        excess = theirs.bill if theirs.ours.empty else theirs.bill.plus(theirs.ours, -1)
        for whose, missing in _missing(mine):
            found = _moved(missing, excess, theirs.tier, self._strict)
            if found is None:
                continue
            found = msgspec.structs.replace(found, names=tuple(job for _, job in whose))
            self._say(model, mine.tier, (min(*run, other), max(*run, other)), found)
            del dear[other]
            self._agreed(model, theirs.tier, (other, other), theirs.ours, theirs.ours)
            whole = set(whose) == set(mine.owed)
            for day in run:
                self._without(model, cheap, day, set(whose), whole=whole)
            return True
        return False

    def _without(
        self, model: str, days: dict[int, Sides], day: int, whose: set[Whose], *, whole: bool
    ) -> None:
        """What is left of a day in whose tier some of it was not billed."""
        sides = days.pop(day)
        rest = {name: part for name, part in sides.owed.items() if name not in whose}
        left = Sides(sides.tier, sides.billed, rest)
        if whole or self._measure.agree(left.bill, left.ours):
            self._agreed(model, sides.tier, (day, day), sides.bill, sides.bill)
        else:
            days[day] = left

    def _hinted(self, model: str, tier: str, run: list[int], found: Explained) -> Explained:
        """With what else may be behind it."""
        if found.why or found.verdict not in {"unknown to us", "not billed"}:
            return found
        unknown = found.verdict == "unknown to us"
        why = self._doubted(model, tier, run[0]) if unknown else self._edge(run[0])
        return msgspec.structs.replace(found, why=why)

    def _doubted(self, model: str, tier: str, day: int) -> str:
        calls = sum(
            doubt.calls
            for doubt in self._doubts
            if doubt.provider == self._provider
            and model in {doubt.model, ALL_MODELS}
            and tier in {doubt.tier, UNTOLD}
            and abs(doubt.day - day) <= self._terms.days_slack
        )
        if not calls:
            return ""
        many = "call that ended" if calls == 1 else "calls that ended"
        return f"may be the {calls:,} {many} without a reply that could be read"

    def _edge(self, day: int) -> str:
        if not self._terms.days_slack:
            return ""
        if day == self._terms.first:
            return "may be on the bill of the day before"
        return "may be on the bill of the day after" if day == self._terms.end - 1 else ""

    # ------------------------------------------------------------ saying it

    def _agreed(
        self, model: str, tier: str, days: tuple[int, int], bill: Part, ours: Part, why: str = ""
    ) -> None:
        if not (bill.empty and ours.empty):
            self._say(model, tier, days, Explained("agreed", why, bill, ours))

    def _say(self, model: str, tier: str, days: tuple[int, int], found: Explained) -> None:
        bill, ours = found.bill, found.ours
        billed, estimated = bill.money, False
        if self._basis == "usage":
            billed, estimated = self._priced(model, tier, days, found), True
        self._found.append(
            Finding(
                verdict=found.verdict,
                basis=self._basis,
                provider=self._provider,
                scope=self._scope,
                model=model,
                tier=tier,
                first=days[0],
                last=days[1],
                billed_tokens=bill.tokens,
                our_tokens=ours.tokens,
                billed=billed,
                ours=ours.money,
                why=found.why,
                names=found.names,
                estimated=estimated,
            )
        )
        if found.rest is not None:
            self._agreed(model, tier, days, *found.rest)

    def _priced(self, model: str, tier: str, days: tuple[int, int], found: Explained) -> int | None:
        if found.verdict == "agreed":
            return found.ours.money
        if found.bill.tokens is None or found.bill.empty:
            return found.bill.money
        ours = found.ours
        if found.verdict == "billed twice" and ours.money is not None and ours.total:
            return ours.money * (found.bill.total or 0) // ours.total
        if self._estimate is None:
            return None
        untold = "standard" if ours.money == ours.realtime else "batch"
        paid_in = "standard" if found.verdict == "discount missing" else tier or untold
        return self._estimate(self._provider, model, paid_in, days[0], found.bill.tokens)

    def _fee(self, day: int, name: str, model: str, part: Part, quantity: int | None) -> None:
        self._found.append(
            Finding(
                verdict="fee",
                basis=self._basis,
                provider=self._provider,
                scope=self._scope,
                model=model,
                tier=UNTOLD,
                first=day,
                last=day,
                billed_tokens=None,
                our_tokens=None,
                billed=part.money,
                ours=0,
                why="",
                fee=name,
                quantity=quantity,
            )
        )


def _by_model(
    ledger: Iterable[Owed], under: str | None
) -> dict[str, dict[str, dict[int, dict[Whose, Part]]]]:
    """model -> tier -> day -> whose it is -> how much; all under one name where the bill tells no models apart."""
    found: dict[str, dict[str, dict[int, dict[Whose, Part]]]] = {}
    for one in ledger:
        usage = one.usage
        tokens = (usage.input, usage.cached, usage.write_5m + usage.write_1h, usage.output)
        part = Part(tokens=tokens, money=one.cost, realtime=one.realtime_cost)
        model = one.model if under is None else under
        jobs = found.setdefault(model, {}).setdefault(one.tier, {}).setdefault(one.day, {})
        whose = (one.account, one.job)
        jobs[whose] = jobs[whose].plus(part) if whose in jobs else part
    return found


def _sides(
    bill: Mapping[str, Mapping[int, Mapping[str, Part]]],
    ours: Mapping[str, Mapping[int, Mapping[Whose, Part]]],
) -> dict[str, dict[int, Sides]]:
    """tier -> day -> both."""
    return {
        tier: {
            day: Sides(tier, bill.get(tier, {}).get(day, {}), ours.get(tier, {}).get(day, {}))
            for day in sorted({*bill.get(tier, {}), *ours.get(tier, {})})
        }
        for tier in sorted({*bill, *ours})
    }


def _merged(tiers: Mapping[str, Mapping[int, Mapping[_K, Part]]]) -> dict[int, dict[_K, Part]]:
    found: dict[int, dict[_K, Part]] = {}
    for days in tiers.values():
        for day, parts in days.items():
            found[day] = joined((found.get(day, {}), parts))
    return found


def _total(tiers: Mapping[str, Mapping[int, Mapping[_K, Part]]]) -> Part:
    return in_all(part for parts in _merged(tiers).values() for part in parts.values())


def _missing(sides: Sides) -> Iterator[tuple[tuple[Whose, ...], Part]]:
    """What of ours may be on the bill in another tier: all that is left over, or what some jobs took."""
    bill, ours = sides.bill, sides.ours
    if bill.empty:
        yield tuple(sides.owed), ours
    yield from groups(sides.owed)
    if not bill.empty and bill.tokens is not None and ours.tokens is not None:
        yield tuple(sides.owed), ours.plus(bill, -1)


def _moved(missing: Part, excess: Part, tier: str, measure: Measure) -> Explained | None:
    """What is missing in one tier and too much in another, if it is the same."""
    if missing.empty or excess.empty:
        return None
    if missing.tokens is not None and excess.tokens is not None:
        if min(missing.tokens) < 0 or not measure.same_tokens(excess.tokens, missing.tokens, kinds=False):
            return None
        if excess.money is not None and measure.agree(excess, missing):
            return Explained("agreed", f"billed as {tier}, at our price", excess, missing)
    elif (
        excess.money is None
        or missing.realtime is None
        or not measure.near(excess.money, missing.realtime, excess.room)
    ):
        return None
    return Explained("discount missing", f"billed as {tier}", excess, missing)


__all__ = [
    "ALL_MODELS",
    "Doubt",
    "Estimate",
    "Finding",
    "Owed",
    "Statement",
    "Terms",
    "reconcile",
]
