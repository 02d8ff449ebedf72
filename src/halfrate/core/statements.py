"""Bills added up as they are read: as much memory as there are days, models and tiers."""

from collections import defaultdict
from typing import Final

import msgspec

from halfrate.core.bills import UNTOLD, Basis, BillLine, Names
from halfrate.core.sides import Part, part_of

ALL_MODELS: Final = "(all)"
"""Stands for the model where a bill tells none apart."""


class Statement:
    """Lines of one bill, added up as they come: as much memory as there are days, models and tiers.

    Args:
        names: tells which model a line means.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self._books: dict[tuple[Basis, str, str], Book] = defaultdict(Book)

    def add(self, basis: Basis, line: BillLine, scope: str = "") -> None:
        book = self._books[basis, line.provider, scope]
        model = (self._names.find(line.provider, line.model) if line.model else "") or line.model
        if line.is_fee:
            book.fee(line, model)
        else:
            book.add(line, model, known=self._names.find(line.provider, line.model) is not None)

    def expect(self, basis: Basis, provider: str, scope: str = "") -> None:
        """This bill is one of `provider`'s, whether or not there is a line of it."""
        self._books[basis, provider, scope].expected = True

    def books(self) -> "list[tuple[tuple[Basis, str, str], Book]]":
        return sorted(self._books.items())


class _Lines(msgspec.Struct):
    """Lines of one kind, billed to one, for one model and tier on one day."""

    sum: Part
    first: BillLine
    alike: bool = True


class Book:
    """A bill of one provider: model -> tier -> day -> whom it was billed to -> kind."""

    def __init__(self) -> None:
        self.expected = False
        self.fees: dict[tuple[int, str, str], Part] = {}
        self.counts: dict[tuple[int, str, str], int | None] = {}
        self.unknown: set[str] = set()
        self._cells: dict[tuple[str, str, int, str, str], _Lines] = {}
        self._tiers: set[str] = set()
        self._nameless = False

    def fee(self, line: BillLine, model: str) -> None:
        key = (line.day, line.kind, model)
        part = part_of(line)
        had = self.fees.get(key)
        self.fees[key] = part if had is None else had.plus(part)
        counted = self.counts.get(key, 0)
        self.counts[key] = None if counted is None or line.quantity is None else counted + line.quantity

    def add(self, line: BillLine, model: str, *, known: bool) -> None:
        self._nameless = self._nameless or not model
        self._tiers.add(line.tier)
        if not known:
            self.unknown.add(model)
        key = (model, line.tier, line.day, " ".join(line.hints), line.kind)
        part = part_of(line)
        cell = self._cells.get(key)
        if cell is None:
            self._cells[key] = _Lines(part, line)
            return
        cell.sum = cell.sum.plus(part)
        cell.alike = cell.alike and (line.quantity, line.money) == (cell.first.quantity, cell.first.money)

    def models(self, basis: Basis) -> "dict[str, dict[str, dict[int, dict[str, Part]]]]":
        """model -> tier -> day -> whom it was billed to -> how much."""
        # Where a bill names batches, what it does not name one is none. Usage leaves the tier of embeddings open.
        plain = "standard" if self._tiers - {UNTOLD} and basis == "cost" else UNTOLD
        found: dict[str, dict[str, dict[int, dict[str, Part]]]] = {}
        for (model, tier, day, hint, _), cell in self._cells.items():
            part = cell.sum
            if cell.alike and part.lines > 1:
                part = msgspec.structs.replace(part, repeats=part.lines)
            tiers = found.setdefault(ALL_MODELS if self._nameless else model, {})
            hints = tiers.setdefault(UNTOLD if self._nameless else tier or plain, {}).setdefault(day, {})
            hints[hint] = hints[hint].plus(part) if hint in hints else part
        return found
