"""What a form of export is to the rest: a name, what it is about, and a way to read it."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import msgspec

from halfrate.base.money import added
from halfrate.bills.amounts import Place
from halfrate.bills.tables import Table
from halfrate.core.bills import Basis, BillLine


class Tally:
    """What a reading came upon beside the lines that can be matched.

    `first`, `last`: the days that the export speaks of, since 1970. `others`: lines of other services. `aside`: what is
    no use of a model, as taxes and credits: name -> (lines, picodollars in all, None where not in USD).
    """

    def __init__(self) -> None:
        self.first: int | None = None
        self.last: int | None = None
        self.lines = 0
        self.others = 0
        self.aside: dict[str, tuple[int, int | None]] = {}
        self.currencies: set[str] = set()

    def covers(self, day: int) -> None:
        self.first = day if self.first is None else min(self.first, day)
        self.last = day if self.last is None else max(self.last, day)

    def set_aside(self, name: str, money: int | None) -> None:
        lines, had = self.aside.get(name, (0, 0))
        self.aside[name] = (lines + 1, added((had, money)))

    def add(self, other: "Tally") -> None:
        for day in (other.first, other.last):
            if day is not None:
                self.covers(day)
        self.lines += other.lines
        self.others += other.others
        self.currencies |= other.currencies
        for name, (lines, money) in other.aside.items():
            had_lines, had = self.aside.get(name, (0, 0))
            self.aside[name] = (had_lines + lines, added((had, money)))


Page: TypeAlias = dict[str, Any]


class TableForm(msgspec.Struct, frozen=True):
    """An export that is a table. `needs`: names of columns, small letters and nothing else, of each of which it has to
    have one."""

    title: str
    basis: Basis
    providers: tuple[str, ...]
    needs: tuple[frozenset[str], ...]
    read: Callable[[Table, Tally], Iterator[BillLine]]


class PageForm(msgspec.Struct, frozen=True):
    """An export that is JSON, as the provider's API answers it. `fits` looks at one page that is not empty; `bucket`:
    what each bucket of an empty one has."""

    title: str
    basis: Basis
    providers: tuple[str, ...]
    fits: Callable[[Page], bool]
    read: Callable[[Page, Place, Tally], Iterator[BillLine]]
    bucket: str = ""
