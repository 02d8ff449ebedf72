"""What explains that a bill and the ledger are not the same."""

from collections.abc import Iterator, Mapping
from itertools import combinations, pairwise
from typing import Final, TypeAlias

import msgspec

from halfrate.core.bills import TOKEN_KINDS, UNTOLD
from halfrate.core.sides import DISCOUNTED, Measure, Part, Sides, Verdict, Whose, in_all, joined, together

_TIMES: Final = range(2, 10)
_MOST_HINTS: Final = 6
_MOST_JOBS: Final = 8
"""Jobs of one day of which groups are tried as well."""
_LARGEST_GROUP: Final = 3
_CENT: Final = 10**10
_WIDEST: Final = 3
"""Days that one explanation may be of."""
_OF_DAYS, _OF_JOBS, _MOVED = 0.05, 1.02, 0.02
"""What an explanation, which costs 1, costs more for each day that it takes; for each job of several; and for jobs that
were billed on the day before."""
_LOOSE: Final = 0.3
"""What it adds that amounts are near, and not the same."""
_OF_PROJECT, _OF_ODD_PROJECT = 1.3, 1.8
_ONE_SIDED, _ALTERED, _ACROSS, _LOOSELY_EVEN, _UNEXPLAINED = 1.1, 1.05, 2.0, 2.1, 2.5
_MORE_JOBS: Final = 0.15
"""Prices of what explains less."""
ANOTHER_DAY: Final = "another day: it ran past midnight"


class Explained(msgspec.Struct, frozen=True):
    """Why two sides are not the same. `part` is what is wrong, beside which the `rest` agrees."""

    verdict: Verdict
    why: str
    bill: Part
    ours: Part
    names: tuple[str, ...] = ()
    """The jobs that it is about, or the provider's own names of whom it was billed to."""
    rest: tuple[Part, Part] | None = None
    """Bill and ours of what agrees."""
    price: float = 1.0
    """How much there is to believe: of two explanations the cheaper one holds."""


def explained(sides: Sides, measure: Measure, *, loosely: bool = False, days: int = 1) -> Explained | None:
    """The one thing that is wrong, where one thing explains all of it and chance would not.

    `loosely`: amounts that are near are the same, and so chance would find a job among several that fits. `days`: how
    many of them are taken together.
    """
    bill, ours = sides.bill, sides.ours
    if bill.empty or ours.empty:
        return None
    rules = [_counted_again, _without_discount, _for_a_region, _other_price, _of_others]
    if not loosely:
        rules.append(_of_a_job)
    if not loosely and days == 1:
        rules.append(_of_one_project)
    if not loosely or days == 1:
        rules.append(_altered)
    for explain in rules:
        found = explain(sides, bill, ours, measure)
        if found is not None:
            return found
    return None


def _counted_again(sides: Sides, bill: Part, ours: Part, measure: Measure) -> Explained | None:
    for count in _TIMES:
        # Money alone is twice as much at the standard price too: there the lines have to stand there twice.
        told = bill.tokens is not None or bill.repeats == count
        if told and measure.agree(bill, ours.times(count)):
            often = "twice" if count == 2 else f"{count} times"
            return Explained("billed twice", f"all of it stands there {often}", bill, ours, sides.jobs)
    return None


def _without_discount(sides: Sides, bill: Part, ours: Part, measure: Measure) -> Explained | None:
    if not _may_be_cheap(sides, ours):
        return None
    full = msgspec.structs.replace(ours, money=ours.realtime)
    if bill.money is None or not measure.agree(bill, full):
        return None
    return Explained("discount missing", "at the price of real time", bill, ours, sides.jobs)


def _may_be_cheap(sides: Sides, ours: Part) -> bool:
    """Whether part of it was to be cheaper than real time; where a bill tells no tiers apart, any of it may be."""
    return (sides.tier in DISCOUNTED or sides.tier == UNTOLD) and ours.realtime not in {None, ours.money}


def _for_a_region(sides: Sides, bill: Part, ours: Part, measure: Measure) -> Explained | None:
    """Work that stays in one region costs a tenth more at some providers (Anthropic's `inference_geo`, OpenAI's data
    residency; their pricing pages, 2026)."""
    if not bill.region_bound or bill.money is None or ours.money is None:
        return None
    if not measure.near(bill.money * 10, ours.money * 11, 10 * bill.room):
        return None
    return Explained("fee", "a tenth more, for work that stays in one region", bill, ours, sides.jobs)


def _other_price(sides: Sides, bill: Part, ours: Part, measure: Measure) -> Explained | None:
    if bill.tokens is None or ours.tokens is None or bill.money is None or ours.money is None:
        return None
    if not measure.same_tokens(bill.tokens, ours.tokens, kinds=False):
        return None
    off = abs(bill.money - ours.money)
    if off <= bill.lines * _CENT // 2 and bill.money % _CENT == 0:
        why = f"the same tokens; as much as rounding {_lines(bill.lines)} to cents would make"
    elif ours.money:
        why = f"the same tokens at {bill.money / ours.money:.3g} times our price"
    else:
        why = "the same tokens, which are free here"
    return Explained("differs", why, bill, ours, sides.jobs)


def _lines(count: int) -> str:
    return "one line" if count == 1 else f"{count:,} lines"


def _of_others(sides: Sides, bill: Part, ours: Part, measure: Measure) -> Explained | None:
    """Someone else's use beside ours: what is ours is all of it that was billed to some, and nothing of the rest."""
    hints = sorted(sides.billed)
    if not 1 < len(hints) <= _MOST_HINTS:
        return None
    for strangers in _subsets(hints):
        theirs = in_all(sides.billed[hint] for hint in strangers)
        rest = in_all(part for hint, part in sides.billed.items() if hint not in strangers)
        if not theirs.empty and measure.agree(rest, ours):
            return Explained(
                "unknown to us", "billed to somebody else", theirs, Part(), strangers, (rest, ours)
            )
    return None


def _subsets(names: list[str]) -> Iterator[tuple[str, ...]]:
    for size in range(1, len(names)):
        yield from combinations(names, size)


def groups(owed: Mapping[Whose, Part]) -> Iterator[tuple[tuple[Whose, ...], Part]]:
    """What may be apart from the rest: one job of several, one account's, or some jobs where there are few. Whose it
    is, and how much."""
    seen: set[tuple[Whose, ...]] = {tuple(owed)}
    accounts = dict.fromkeys(account for account, _ in owed)
    candidates: list[tuple[Whose, ...]] = [(whose,) for whose in owed]
    candidates += [tuple(whose for whose in owed if whose[0] == name) for name in accounts]
    if len(owed) <= _MOST_JOBS:
        for size in range(2, _LARGEST_GROUP + 1):
            candidates += combinations(owed, size)
    for some in candidates:
        if some not in seen:
            seen.add(some)
            yield some, in_all(owed[whose] for whose in some)


def _of_a_job(sides: Sides, bill: Part, ours: Part, measure: Measure) -> Explained | None:
    """One job of several, or all of one account, is what the sides are apart by."""
    for some, part in groups(sides.owed):
        if part.empty:
            continue
        jobs = tuple(job for _, job in some)
        # Of all of an account there is one thing to believe; of some jobs that chance threw together, one of each.
        price = _ALTERED if len(jobs) > _LARGEST_GROUP else _OF_JOBS * len(jobs)
        rest = ours.plus(part, -1)
        if measure.agree(bill, rest):
            return Explained("not billed", "the rest of that day is", Part(), part, jobs, (bill, rest), price)
        mine = bill.plus(rest, -1)
        if measure.agree(bill, ours.plus(part)):
            return Explained(
                "billed twice", "the rest of that day once", mine, part, jobs, (rest, rest), price
            )
        if _may_be_cheap(sides, part):
            dear = rest.plus(msgspec.structs.replace(part, money=part.realtime))
            if measure.agree(bill, dear):
                why = "at the price of real time; the rest of that day is not"
                return Explained("discount missing", why, mine, part, jobs, (rest, rest), price)
    return None


def _of_one_project(sides: Sides, bill: Part, ours: Part, measure: Measure) -> Explained | None:
    """Of several projects the others agree with what some jobs took: the rest is one project's, and not the same."""
    hints = sorted(sides.billed)
    if not 1 < len(hints) <= _MOST_HINTS:
        return None
    for hint in hints:
        mine = sides.billed[hint]
        others = in_all(part for name, part in sides.billed.items() if name != hint)
        for whose, part in groups(sides.owed):
            rest = ours.plus(part, -1)
            if rest.empty or not of_a_size(mine, part) or not measure.agree(others, rest):
                continue
            jobs = tuple(job for _, job in whose)
            left = Sides(sides.tier, {hint: mine}, {name: sides.owed[name] for name in whose})
            found = explained(left, measure) or alone(left)
            price = _OF_PROJECT if found.price < _UNEXPLAINED else _OF_ODD_PROJECT
            return msgspec.structs.replace(found, names=jobs, rest=(others, rest), price=price)
    return None


def of_a_size(one: Part, other: Part) -> bool:
    """Whether one may be the other with a mistake in it: neither more than twice as much."""
    if one.tokens is not None and other.tokens is not None:
        first, second = sum(one.tokens), sum(other.tokens)
    else:
        first, second = one.money or 0, other.money or 0
    return 0 < first <= 2 * second and second <= 2 * first


def _altered(sides: Sides, bill: Part, ours: Part, measure: Measure) -> Explained | None:
    """The same was read and something else written, or the other way round: one amount, and another on the bill."""
    if bill.tokens is None or ours.tokens is None:
        return None
    read = sum(bill.tokens[:3]) > 0 and measure.near(sum(bill.tokens[:3]), sum(ours.tokens[:3]))
    written = bill.tokens[3] > 0 and measure.near(bill.tokens[3], ours.tokens[3])
    if not (read or written):
        return None
    return Explained("differs", apart(bill, ours), bill, ours, sides.jobs, price=_ALTERED)


def apart(bill: Part, ours: Part) -> str:
    """What of the tokens is not the same, in words."""
    if bill.tokens is None or ours.tokens is None:
        return "another amount"
    told = [
        f"{one:,} tokens {name} billed, {other:,} here"
        for name, one, other in zip(TOKEN_KINDS, bill.tokens, ours.tokens, strict=True)
        if one != other
    ]
    return "; ".join(told) or "another amount"


def alone(sides: Sides) -> Explained:
    """What is said of a day, or of some, that nothing explains."""
    bill, ours = sides.bill, sides.ours
    if ours.empty:
        hints = tuple(hint for hint in sorted(sides.billed) if hint)
        return Explained("unknown to us", "", bill, Part(), hints, price=_ONE_SIDED)
    if bill.empty:
        price = _ONE_SIDED + _MORE_JOBS * (len(sides.jobs) - 1)
        return Explained("not billed", "", Part(), ours, sides.jobs, price=min(price, _ACROSS))
    why = apart(bill, ours)
    if ours.money is None and bill.tokens is None:
        why = "the price is not in the price book"
    return Explained("differs", why, bill, ours, sides.jobs, price=_UNEXPLAINED)


Told: TypeAlias = list[tuple[list[int], Explained]]
"""Days, and what became of them."""


def told(days: Mapping[int, Sides], measures: tuple[Measure, Measure], slack: int) -> Told:
    """What became of some days of one model in one tier, none of which agrees, so that there is as little to believe as
    possible. Days that are told together are neighbours by `slack`.

    `measures`: a strict one, for days that look alike are not each other's; and the one that was asked for.
    """
    order = sorted(days)
    best: list[tuple[float, Told]] = [(0.0, [])]
    for end in range(1, len(order) + 1):
        candidates: list[tuple[float, Told]] = []
        for width in range(1, min(_WIDEST, end) + 1):
            run = order[end - width : end]
            if any(later - earlier > slack for earlier, later in pairwise(run)):
                break
            before = best[end - width]
            for price, ways in _ways(run, [days[day] for day in run], measures):
                candidates.append((before[0] + price, [*before[1], *ways]))
        best.append(min(candidates, key=lambda one: one[0]))
    return best[-1][1]


def _ways(
    run: list[int], sides: list[Sides], measures: tuple[Measure, Measure]
) -> Iterator[tuple[float, Told]]:
    """Ways to tell some days, and what there is to believe of each."""
    found = _as_one(sides, measures)
    if found is not None:
        yield found.price + _OF_DAYS * (len(run) - 1), [(run, found)]
    if len(run) == 1:
        yield from _two_things(run, sides[0], measures[0])
    if len(run) == 2:
        yield from _moved_back(run, sides, measures)


def _as_one(run: list[Sides], measures: tuple[Measure, Measure]) -> Explained | None:
    sides = together(run)
    if len(run) > 1 and all(explained(one, measures[0]) is not None for one in run):
        # Each of them has a reason of its own.
        return None
    for measure, more in zip(measures, (0.0, _LOOSE), strict=True):
        if measure.agree(sides.bill, sides.ours) and _in_order(run):
            price = _LOOSELY_EVEN if more and len(run) > 1 else 0.0
            why = ANOTHER_DAY if len(run) > 1 else ""
            return Explained("agreed", why, sides.bill, sides.ours, price=price)
        found = explained(sides, measure, loosely=more > 0.0, days=len(run))
        if found is not None and found.verdict == "differs" and len(run) > 1 and not _in_order(run):
            found = None
        if found is not None:
            return msgspec.structs.replace(found, price=found.price + more)
    if len(run) == 1:
        return alone(sides)
    if len(run) == 2 and _altered_overnight(*run):
        return Explained("differs", "another amount", sides.bill, sides.ours, sides.jobs, price=_ACROSS)
    return None


def _in_order(run: list[Sides]) -> bool:
    """Whether it was billed before it was collected, not after."""
    bill = ours = Part()
    for one in run[:-1]:
        bill, ours = bill.plus(one.bill), ours.plus(one.ours)
        if not _more(bill, ours):
            return False
    return True


def carried(bill: Part, ours: Part, recent: Part) -> bool:
    """Whether what is billed and not collected so far can all be of some `recent` days: a batch is billed when it runs,
    and is in the ledger when it is collected, never the other way round."""
    if bill.tokens is not None and ours.tokens is not None and recent.tokens is not None:
        counts = zip(bill.tokens, ours.tokens, recent.tokens, strict=True)
        return all(0 <= billed - owed <= most for billed, owed, most in counts)
    if bill.money is None or ours.money is None or recent.money is None:
        return False
    return -bill.room <= bill.money - ours.money <= recent.money + bill.room


def _altered_overnight(first: Sides, second: Sides) -> bool:
    """Whether money that was billed on one day may be another amount for what was collected on the next."""
    if not (first.ours.empty and second.bill.empty) or first.bill.tokens is not None:
        return False
    return of_a_size(first.bill, second.ours)


def _two_things(run: list[int], sides: Sides, measure: Measure) -> Iterator[tuple[float, Told]]:
    """With some jobs that were not billed, and one thing that is wrong with the rest."""
    if sides.bill.empty:
        return
    for whose, part in groups(sides.owed):
        rest = {name: one for name, one in sides.owed.items() if name not in whose}
        found = None if part.empty else explained(Sides(sides.tier, sides.billed, rest), measure)
        if found is not None and found.verdict != "unknown to us":
            jobs = tuple(job for _, job in whose)
            missing = Explained("not billed", "", Part(), part, jobs)
            yield found.price + _ONE_SIDED * len(jobs) + _MOVED, [(run, missing), (run, found)]


def _moved_back(
    run: list[int], sides: list[Sides], measures: tuple[Measure, Measure]
) -> Iterator[tuple[float, Told]]:
    """With some jobs on the day before that on which they were collected."""
    first, second = sides
    if explained(first, measures[0]) is not None:
        return
    for whose, part in (*groups(second.owed), (tuple(second.owed), second.ours)):
        moved = {name: second.owed[name] for name in whose}
        rest = {name: one for name, one in second.owed.items() if name not in moved}
        early = Sides(first.tier, first.billed, joined((first.owed, moved)))
        late = Sides(second.tier, second.billed, rest)
        if early.bill.empty or (late.ours.empty and not late.bill.empty):
            # Nothing moves to a day without a bill, nor away from all of one.
            continue
        one, other = _as_one([early], measures), _as_one([late], measures)
        if part.empty or one is None or other is None:
            continue
        if one.verdict == "differs" and not _more(one.bill, one.ours):
            # What does not agree is too little now: there was no room for these jobs.
            continue
        yield one.price + other.price + _MOVED, [(run[:1], one), (run[1:], other)]


def _more(bill: Part, ours: Part) -> bool:
    if bill.tokens is not None and ours.tokens is not None:
        return all(one >= other for one, other in zip(bill.tokens, ours.tokens, strict=True))
    return bill.money is not None and ours.money is not None and bill.money >= ours.money
