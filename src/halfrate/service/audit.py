"""The audit of usage logs: read, gathered, judged and priced."""

import datetime
import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import reduce
from pathlib import Path
from typing import Final

import msgspec

from halfrate.base.errors import InputError, UsageError
from halfrate.base.types import Price, Usage
from halfrate.core.audit import KEYS, MOST_GROUPS, Audit, chosen
from halfrate.core.audit_call import Call
from halfrate.core.audit_group import Group, Lane
from halfrate.core.audit_judge import Judgement, Verdict, judge, together
from halfrate.core.audit_money import MONTH, Move, days_of, priced, rest_of, total
from halfrate.core.savings import SpendSaving
from halfrate.prices.book import PriceBook
from halfrate.service.costs import plus
from halfrate.service.prices import named_model, price_book, tier_prices, today
from halfrate.usage.reading import UsageLog

_SAMPLE: Final = 10_000
"""Calls that are looked at before it is chosen what to group by."""
_OTHER: Final = Lane(number=0, provider="", model="", tier="")
UNKNOWN: Final = "(unknown)"


class Log(msgspec.Struct, frozen=True):
    """A log that was read. `aside`: rows that are no calls; `unreadable`: those that made no sense."""

    name: str
    format: str
    rows: int
    aside: int
    unreadable: int
    faults: tuple[str, ...]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A group. `week`: calls by day of the week (Monday first) and hour of the day, in UTC, or nothing.

    `calls` is None where the log does not count them. `monthly` is for a month of 30 days. `parts`: what of it was
    judged apart, the dearest first: the jobs of a team, say; the group itself where there is nothing finer.
    `moved`, `asked`: what of `monthly` would go into batches now, and what might if its owners agree.
    """

    keys: tuple[str, ...]
    calls: int | None
    usage: Usage
    found: Move
    monthly: Move
    judgement: Judgement
    models: tuple[str, ...]
    week: list[list[int]]
    moved: Move
    asked: Move
    parts: tuple["Line", ...] = ()

    @property
    def verdict(self) -> Verdict:
        return self.judgement.verdict


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """An audit. Amounts are picodollars; `lines` are sorted by spend, the most first.

    `days`: covered by the log, None where it has no times; `short`: less than one, which then counts as one.
    `moved`, `asked`: what would go into batches now, and what might if its owners agree, in a month.
    `rest`: with what the rest might save, if an assumption was given. `rest_saving`: that assumption.
    `billed`: what lines of a bill among the logs come to in a month.
    """

    logs: tuple[Log, ...]
    by: tuple[str, ...]
    chosen: bool
    first: float | None
    last: float | None
    days: Fraction | None
    calls: int
    counted: bool
    lines: tuple[Line, ...]
    whole: Move
    moved: Move
    asked: Move
    rest: SpendSaving | None
    rest_saving: tuple[Fraction, Fraction] | None
    billed: int | None
    tags: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def short(self) -> bool:
        return self.days is not None and self.days < 1


def audit(
    paths: Sequence[Path],
    *,
    by: Sequence[str] = (),
    since: float = -math.inf,
    until: float = math.inf,
    rest_saving: tuple[Fraction, Fraction] | None = None,
) -> Report:
    """Read the logs, all of them as one, and judge what is in them.

    Raises InputError for a file that is no log, or has no calls; UsageError for a key that no call has.
    """
    logs = [UsageLog(path) for path in paths]
    blocks = (block for log in logs for block in log.blocks())
    sample = _sample(blocks)
    prices = _Prices(price_book())
    names = tuple(dict.fromkeys(by)) or chosen(sample)
    # Judged is what is finest; what somebody asks for is put together from that.
    grain = tuple(name for name in chosen(sample) if name not in names)
    found = Audit((*names, *grain), prices.lane, _OTHER, since=since, until=until)
    tags = sorted({name for call in sample for name in call.tags})
    _known(by, sample, tags)
    found.add(sample)
    del sample
    for block in blocks:
        found.add(block)
    groups = [*(found.groups or found.bills).values()]
    if not groups:
        raise InputError(_nothing(logs, found))
    days = days_of(found.first, found.last)
    lines = _sorted(_put_together([_line(group, found, days) for group in groups], len(names)))
    whole = total(line.monthly for line in lines)
    moved = total(line.moved for line in lines)
    return Report(
        logs=tuple(_log(log) for log in logs),
        by=names,
        chosen=not by,
        first=None if days is None else found.first,
        last=None if days is None else found.last,
        days=days,
        calls=sum(group.calls for group in groups),
        counted=not any(group.uncounted for group in groups),
        lines=tuple(lines),
        whole=whole,
        moved=moved,
        asked=total(line.asked for line in lines),
        rest=None if rest_saving is None else rest_of(whole, moved, rest_saving),
        rest_saving=rest_saving,
        billed=_billed(found, days),
        tags=tuple(tags[:20]),
        notes=tuple(_notes(found, prices, lines, days)),
    )


def _sample(blocks: Iterator[list[Call]]) -> list[Call]:
    found: list[Call] = []
    for block in blocks:
        found += block
        if len(found) >= _SAMPLE:
            break
    return found


def _known(by: Sequence[str], sample: Sequence[Call], tags: Sequence[str]) -> None:
    for name in by:
        if name not in KEYS and name not in tags and sample:
            has = f" Its tags are: {', '.join(tags[:12])}." if tags else " It has no tags."
            raise UsageError(
                f"No call among the first {len(sample):,} has a tag {name!r}.{has} "
                f"Calls can be grouped by {', '.join(KEYS)} as well."
            )


def _nothing(logs: Sequence[UsageLog], found: Audit) -> str:
    names = ", ".join(log.name for log in logs)
    if found.outside:
        return f"None of the {found.outside:,} calls in {names} is of the time that was asked for."
    rows = sum(log.rows for log in logs)
    return f"There are no calls in {names}: {rows:,} rows, and none of them is a call of a model."


def _log(log: UsageLog) -> Log:
    title = log.format.title if log.format is not None else ""
    return Log(log.name, title, log.rows, log.aside, log.unreadable, tuple(log.faults))


def _line(group: Group, found: Audit, days: Fraction | None) -> Line:
    move = priced(group)
    monthly = move.monthly(days)
    counted = not group.uncounted and not group.bills
    month_calls = None
    if counted and days is not None:
        month_calls = float(group.calls * MONTH / max(days, Fraction(1)))
    cells = group.cells.values()
    usage = Usage(
        input=sum(cell.input for cell in cells),
        cached=sum(cell.cached for cell in cells),
        write_5m=sum(cell.write_5m for cell in cells),
        write_1h=sum(cell.write_1h for cell in cells),
        output=sum(cell.output for cell in cells),
    )
    models = dict.fromkeys(
        cell.lane.model for cell in sorted(cells, key=lambda cell: -cell.input - cell.output)
    )
    judgement = judge(group, found, monthly, month_calls)
    return Line(
        keys=group.keys,
        calls=group.calls if counted else None,
        usage=usage,
        found=move,
        monthly=monthly,
        judgement=judgement,
        models=tuple(models),
        week=group.week() if group.hours else [],
        moved=monthly if judgement.verdict is Verdict.BATCH else Move(),
        asked=monthly if judgement.verdict is Verdict.ASK else Move(),
    )


def _sorted(lines: Iterable[Line]) -> list[Line]:
    """By spend, the most first."""
    return sorted(lines, key=lambda line: (-(line.monthly.spend or 0), -(line.calls or 0), line.keys))


def _put_together(parts: Iterable[Line], width: int) -> Iterator[Line]:
    """Groups by the first `width` keys, from parts that were judged by more of them."""
    found: dict[tuple[str, ...], list[Line]] = {}
    for part in parts:
        found.setdefault(part.keys[:width], []).append(part)
    for keys, unsorted in found.items():
        of = _sorted(unsorted)
        counts = [part.calls for part in of]
        weeks = [part.week for part in of if part.week]
        yield Line(
            keys=keys,
            calls=None if None in counts else sum(count or 0 for count in counts),
            usage=reduce(plus, (part.usage for part in of)),
            found=total(part.found for part in of),
            monthly=total(part.monthly for part in of),
            judgement=together([(" ".join(part.keys[width:]), part.judgement, part.monthly) for part in of]),
            models=tuple(dict.fromkeys(model for part in of for model in part.models)),
            week=[[sum(hour) for hour in zip(*day, strict=True)] for day in zip(*weeks, strict=True)],
            moved=total(part.moved for part in of),
            asked=total(part.asked for part in of),
            parts=tuple(of),
        )


def _billed(found: Audit, days: Fraction | None) -> int | None:
    if not found.bills or not found.groups:
        return None
    return total(priced(group) for group in found.bills.values()).monthly(days).spend


def _notes(found: Audit, prices: "_Prices", lines: Sequence[Line], days: Fraction | None) -> Iterator[str]:
    """What somebody should know before they believe the figures."""
    if days is None:
        yield "The log has no times: amounts are for all of it, and not for a month."
    elif days < 1:
        yield f"The log covers {float(days) * 24:.1f} hours; amounts for a month are thirty times that, a guess."
    elif days < 7:
        yield f"The log covers {float(days):.1f} days, and not a week: what happens once a week may be missing."
    if not found.in_order:
        yield (
            "The log is not in order of time: runs and chains of calls cannot be told. Sort it by time and look again."
        )
    if found.crowded:
        yield (
            f"There are more than {MOST_GROUPS} groups; {found.crowded:,} calls of later ones stand together as "
            "(the rest). Group by something coarser."
        )
    if prices.unpriced:
        names = ", ".join(prices.unpriced[:6]) + (", ..." if len(prices.unpriced) > 6 else "")
        yield (
            f"The price book does not know {names}: what they cost is what the log says, or unknown, and what a batch "
            "would save is unknown. `halfrate price set MODEL` notes a price."
        )
    if any(line.found.logged for line in lines):
        yield "Spend that is marked * is the log's own, at least in part."
    if found.untimed and days is not None:
        yield f"{found.untimed:,} calls have no time."


class _Prices:
    """Lanes for the calls of a log: each model is looked up once, each price once a day."""

    def __init__(self, book: PriceBook) -> None:
        self.unpriced: list[str] = []
        """Models without a price in real time, as the log names them."""
        self._book = book
        self._lanes: dict[tuple[object, ...], Lane] = {}
        self._names: dict[tuple[str | None, str | None], tuple[str, str] | None] = {}
        self._found: dict[tuple[str, str, str], dict[str, Price]] = {}
        self._shared: dict[bytes, Price] = {}

    def lane(self, provider: str | None, model: str | None, tier: str | None, day: int) -> Lane:
        named = self._named(provider, model)
        tier = tier or "standard"
        if named is None:
            shown = model or UNKNOWN
            return self._made(provider or "", shown, tier, {})
        return self._made(*named, tier, self._prices(*named, _date(day)))

    def _made(self, provider: str, model: str, tier: str, prices: dict[str, Price]) -> Lane:
        paid, standard, batch = (prices.get(name) for name in (tier, "standard", "batch"))
        # Equal prices of two days are one object.
        key = (provider, model, tier, id(paid), id(standard), id(batch))
        lane = self._lanes.get(key)
        if lane is None:
            steps = sorted({step.above for price in (paid, standard, batch) if price for step in price.steps})
            lane = self._lanes[key] = Lane(
                number=len(self._lanes) + 1,
                provider=provider,
                model=model,
                tier=tier,
                paid=paid,
                standard=standard,
                batch=batch,
                steps=tuple(steps[:8]),
            )
        return lane

    def _named(self, provider: str | None, model: str | None) -> tuple[str, str] | None:
        asked = (provider, model)
        if asked in self._names:
            return self._names[asked]
        found = None
        if model is not None:
            found = _looked_up(self._book, provider, model)
            if found is None and len(self.unpriced) < 1000:
                self.unpriced.append(model if provider is None else f"{provider}/{model}")
        self._names[asked] = found
        return found

    def _prices(self, provider: str, model: str, date: str) -> dict[str, Price]:
        asked = (provider, model, date)
        found = self._found.get(asked)
        if found is None:
            try:
                found = tier_prices(self._book, provider, model, date)
            except UsageError:
                found = {}
            found = self._found[asked] = {name: self._same(price) for name, price in found.items()}
        return found

    def _same(self, price: Price) -> Price:
        """One object for equal prices."""
        return self._shared.setdefault(msgspec.json.encode(price), price)


def _looked_up(book: PriceBook, provider: str | None, model: str) -> tuple[str, str] | None:
    """(provider, model) of the price book."""
    bare = model.removeprefix("models/")
    before, slash, rest = bare.partition("/")
    for name in dict.fromkeys((bare, rest)) if slash else (bare,):
        if provider is not None and book.name(provider, name) is not None:
            return provider, name
    if provider is not None and any(provider == known for known, _ in book.models()):
        # A provider that the book knows, and not this model: another's price would be a guess.
        return None
    try:
        return named_model(bare, book)
    except UsageError:
        pass
    if slash and before not in {known for known, _ in book.models()}:
        try:
            return named_model(rest, book)
        except UsageError:
            return None
    return None


def _date(day: int) -> str:
    if day < 0:
        return today()
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=day)).isoformat()
