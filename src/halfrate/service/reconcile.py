"""Compares the providers' bills with the ledger: reads exports or asks for them, and says what became of it all."""

import datetime
import math
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Final

import msgspec

from halfrate.base.errors import InputError, UsageError
from halfrate.base.money import added
from halfrate.base.types import Usage
from halfrate.bills.detect import Bill, open_bill
from halfrate.bills.forms import Tally
from halfrate.core.bills import Basis, BillLine, Names
from halfrate.core.job import Job
from halfrate.core.pricing import usage_cost
from halfrate.core.reconcile import Doubt, Finding, Owed, Terms, reconcile
from halfrate.core.sides import Tokens4
from halfrate.core.statements import Statement
from halfrate.providers.base import place_of
from halfrate.service.jobs import Service
from halfrate.service.live_bills import live_bills
from halfrate.service.prices import price_book

_DAY: Final = 86_400
_EPOCH: Final = datetime.date(1970, 1, 1)
_LEDGER_KEYS: Final = ("day", "account", "model", "tier", "kind", "job")
_SOLE: Final = frozenset({"openai", "anthropic", "bedrock", "azure"})
"""Providers whose bill is the only one that theirs can be on."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be compared.

    `accounts`: names before a model -> what stands for them on the bill (project, workspace, subscription), "" for
    anything; empty: every account. `since`, `until`: seconds since 1970; without, the days that the bills speak of.
    """

    invoices: tuple[Path, ...] = ()
    live: tuple[str, ...] = ()
    basis: Basis = "cost"
    since: float | None = None
    until: float | None = None
    tolerance: Fraction = Fraction(1, 200)
    days_slack: int = 1
    accounts: Mapping[str, str] = {}


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A bill that was read. Days since 1970, both inclusive."""

    name: str
    title: str
    basis: Basis
    lines: int
    others: int
    aside: dict[str, tuple[int, int | None]]
    currencies: tuple[str, ...]
    first: int | None
    last: int | None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a comparison came to. `first` and `end`: the days that were judged, `end` no longer.

    `elsewhere`: lines of projects that were not asked for. `unread`: providers of which the ledger has payments in that
    time, and no bill was given.
    """

    findings: tuple[Finding, ...]
    sources: tuple[Source, ...]
    terms: Terms
    elsewhere: int
    unread: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        return all(one.verdict == "agreed" for one in self.findings)


def compare(service: Service, ask: Ask, now: float) -> Outcome:
    """Read the bills and match them. Raises UsageError and InputError where they make no sense; nothing is changed."""
    return _Comparison(service, ask, now).run()


class _Comparison:
    def __init__(self, service: Service, ask: Ask, now: float) -> None:
        self._service = service
        self._ask = ask
        self._now = now
        self._book = price_book()
        self._names = Names(self._book.name)
        self._statement = Statement(self._names)
        self._tally = Tally()
        self._scopes = _scopes(service, ask.accounts)
        self._elsewhere = 0

    def run(self) -> Outcome:
        lines, doubts = self._ledger()
        for provider in sorted({one.provider for one in lines}):
            self._names.learn(provider, (one.model for one in lines if one.provider == provider))
        for provider, model in self._book.models():
            self._names.learn(provider, (model,))
        sources = [source for bill in self._bills() for source in [self._read(*bill)]]
        terms = self._terms()
        slack = terms.days_slack
        inside = [one for one in lines if terms.first - slack <= one.day < terms.end + slack]
        findings = reconcile(self._statement, inside, terms, doubts=doubts, estimate=self._estimate)
        billed = {provider for (_, provider, _), _ in self._statement.books()}
        unread = {one.provider for one in inside if terms.first <= one.day < terms.end} - billed
        return Outcome(
            findings=tuple(findings),
            sources=tuple(sources),
            terms=terms,
            elsewhere=self._elsewhere,
            unread=tuple(sorted(unread)),
        )

    # ------------------------------------------------------------ bills

    def _bills(self) -> Iterator[tuple[str, Bill]]:
        seen: dict[Path, Path] = {}
        for path in self._ask.invoices:
            place = path.resolve()
            if place in seen:
                raise UsageError(f"{path} is given twice. Nothing was compared.")
            seen[place] = path
            with open_bill(path) as bill:
                yield path.name, bill
        for provider in self._ask.live:
            first, end = self._asked_days(live=True)
            yield from live_bills(provider, self._ask.basis, first, end)

    def _read(self, name: str, bill: Bill) -> Source:
        slack = self._ask.days_slack
        first, end = self._asked_days(live=False)
        for line in bill.lines:
            if first - slack <= line.day < end + slack:
                scope = self._scope(line)
                if scope is None:
                    self._elsewhere += 1
                else:
                    self._statement.add(bill.basis, line, scope)
        tally = bill.tally
        self._tally.add(tally)
        for provider in bill.providers:
            for scope in self._scopes.get(provider, {"": ""}):
                # Google's export is of two providers, and may well be of one alone.
                if provider in _SOLE:
                    self._statement.expect(bill.basis, provider, scope)
        return Source(
            name=name,
            title=bill.title,
            basis=bill.basis,
            lines=tally.lines,
            others=tally.others,
            aside=dict(tally.aside),
            currencies=tuple(sorted(tally.currencies)),
            first=tally.first,
            last=tally.last,
        )

    def _scope(self, line: BillLine) -> str | None:
        """The account that a line belongs to, "" where they are not told apart; None for one that was not asked for."""
        scopes = self._scopes.get(line.provider)
        if scopes is None:
            return "" if not self._ask.accounts else None
        for name, hint in scopes.items():
            if not hint or hint in line.hints:
                return name
        return None

    def _asked_days(self, *, live: bool) -> tuple[int, int]:
        ask = self._ask
        today = math.floor(self._now / _DAY)
        first = math.floor(ask.since / _DAY) if ask.since is not None else today - 30 if live else 0
        end = math.ceil(ask.until / _DAY) if ask.until is not None else today + 1
        if ask.until is None and not live:
            end = max(end, 1 << 20)
        if first >= end:
            raise UsageError("--since is not before --until. Nothing was compared.")
        return first, end

    def _terms(self) -> Terms:
        first, end = self._asked_days(live=bool(self._ask.live))
        if not self._ask.live:
            tally = self._tally
            if tally.first is None or tally.last is None:
                if self._ask.since is None:
                    raise InputError(
                        "There is nothing on these bills that says a day. Name the days with --since and --until. "
                        "Nothing was compared."
                    )
            else:
                first = tally.first if self._ask.since is None else first
                end = tally.last + 1 if self._ask.until is None else end
        return Terms(
            tolerance=self._ask.tolerance,
            days_slack=self._ask.days_slack,
            first=first,
            end=max(end, first + 1),
        )

    # ------------------------------------------------------------ the ledger

    def _ledger(self) -> tuple[list[Owed], list[Doubt]]:
        slack = self._ask.days_slack
        first, end = self._asked_days(live=bool(self._ask.live))
        spent = self._service.costs(
            by=_LEDGER_KEYS, since=max(0, first - slack) * _DAY, until=float((end + slack) * _DAY)
        )
        jobs: dict[str, Job | None] = {}
        owed: list[Owed] = []
        doubts: list[Doubt] = []
        for line in spent:
            day_text, account, model, tier, kind, job_id = line.keys
            place = place_of(account)
            scope = self._scope_of_account(place.provider, place.named)
            if scope is None:
                continue
            if job_id not in jobs:
                jobs[job_id] = self._service.job(job_id)
            day = (datetime.date.fromisoformat(day_text) - _EPOCH).days
            name = self._canonical(place.provider, model, tier, jobs[job_id])
            if kind == "doubt":
                doubts.append(
                    Doubt(day=day, provider=place.provider, model=name, tier=tier, calls=line.doubts)
                )
                continue
            owed.append(
                Owed(
                    day=day,
                    provider=place.provider,
                    scope=scope,
                    account=place.named,
                    model=name,
                    tier=tier,
                    job=job_id,
                    usage=line.usage,
                    cost=line.cost,
                    realtime_cost=line.realtime_cost,
                )
            )
        return owed, doubts

    def _scope_of_account(self, provider: str, name: str) -> str | None:
        scopes = self._scopes.get(provider)
        if scopes is None:
            return "" if not self._ask.accounts else None
        return name if name in scopes else None

    def _canonical(self, provider: str, model: str, tier: str, job: Job | None) -> str:
        """The price book's name. A deployment has a name of its own: what it was priced as says what it is."""
        priced = job.prices.of(tier).get(model) if job is not None else None
        if priced is not None and priced.model:
            return priced.model
        return self._book.name(provider, model) or model

    def _estimate(self, provider: str, model: str, tier: str, day: int, tokens: Tokens4) -> int | None:
        date = (_EPOCH + datetime.timedelta(days=day)).isoformat()
        price = self._book.find(provider, model, tier or "standard", date)
        if price is None:
            return None
        read, cached, written, output = tokens
        return usage_cost(Usage(input=read, cached=cached, write_5m=written, output=output), price.rates)


def _scopes(service: Service, accounts: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Provider -> account -> what stands for it on the bill. Raises UsageError for an account that never paid."""
    if not accounts:
        return {}
    known = {place_of(line.keys[0]) for line in service.costs(by=("account",))}
    found: dict[str, dict[str, str]] = {}
    for name, hint in accounts.items():
        providers = {place.provider for place in known if place.named == name}
        if not providers:
            names = ", ".join(sorted({place.named for place in known})) or "nothing"
            raise UsageError(f"The ledger has no account {name!r}; it has {names}. Nothing was compared.")
        for provider in providers:
            found.setdefault(provider, {})[name] = hint
    for scopes in found.values():
        if len(scopes) > 1 and not all(scopes.values()):
            raise UsageError(
                "Two accounts of one provider are told apart by what stands for them on the bill: write "
                "--account NAME=PROJECT for each. Nothing was compared."
            )
    return found


def totals(findings: Iterable[Finding]) -> dict[str, tuple[int, int | None, int | None]]:
    """Verdict -> (how many, billed, ours), picodollars, None where one of them is unknown."""
    found: dict[str, tuple[int, int | None, int | None]] = {}
    for one in findings:
        number, billed, ours = found.get(one.verdict, (0, 0, 0))
        found[one.verdict] = (
            number + 1,
            added((billed, one.billed)),
            added((ours, one.ours)),
        )
    return found
