"""Two sides of one account: what is on a bill, what is in the ledger, and what explains that they are not the same."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Final, Literal, TypeAlias, TypeVar

import msgspec

from halfrate.base.money import added
from halfrate.core.bills import TOKEN_KINDS, BillLine

Verdict = Literal[
    "agreed", "unknown to us", "billed twice", "not billed", "discount missing", "fee", "differs"
]
VERDICTS: Final[tuple[Verdict, ...]] = (
    "unknown to us",
    "billed twice",
    "discount missing",
    "differs",
    "fee",
    "not billed",
    "agreed",
)
"""What costs money without our knowing first, what agrees last."""

Tokens4: TypeAlias = tuple[int, int, int, int]
"""Tokens of each of TOKEN_KINDS."""
NONE: Final[Tokens4] = (0, 0, 0, 0)
DISCOUNTED: Final = frozenset({"batch", "flex"})
_K = TypeVar("_K")


class Part(msgspec.Struct, frozen=True):
    """An amount. `tokens`: None where they are not counted; `money`: picodollars, None where unknown.

    `realtime`: what the ledger says that real time would have cost. `room`: by how much the money may be off because
    of how a bill is written. `repeats`: how often each line of it stands there, the same.
    """

    tokens: Tokens4 | None = NONE
    money: int | None = 0
    realtime: int | None = 0
    room: int = 0
    lines: int = 0
    repeats: int = 1
    region_bound: bool = False

    @property
    def empty(self) -> bool:
        return self.tokens in {NONE, None} and self.money in {0, None}

    @property
    def total(self) -> int | None:
        return None if self.tokens is None else sum(self.tokens)

    def plus(self, other: "Part", sign: int = 1) -> "Part":
        tokens = None
        if self.tokens is not None and other.tokens is not None:
            a, b = self.tokens, other.tokens
            tokens = (a[0] + sign * b[0], a[1] + sign * b[1], a[2] + sign * b[2], a[3] + sign * b[3])
        return Part(
            tokens=tokens,
            money=added((self.money, None if other.money is None else sign * other.money)),
            realtime=added((self.realtime, None if other.realtime is None else sign * other.realtime)),
            room=self.room + other.room,
            lines=self.lines + sign * other.lines,
            repeats=other.repeats if self.lines == 0 else min(self.repeats, other.repeats),
            region_bound=self.region_bound or other.region_bound,
        )

    def times(self, count: int) -> "Part":
        tokens = self.tokens
        if tokens is not None:
            tokens = (tokens[0] * count, tokens[1] * count, tokens[2] * count, tokens[3] * count)
        return Part(
            tokens=tokens,
            money=None if self.money is None else self.money * count,
            realtime=None if self.realtime is None else self.realtime * count,
        )


def in_all(parts: Iterable[Part]) -> Part:
    found: Part | None = None
    for part in parts:
        found = part if found is None else found.plus(part)
    return found if found is not None else Part()


class Measure(msgspec.Struct, frozen=True):
    """What counts as the same. `tolerance`: the share of an amount that it may be off by."""

    tolerance: Fraction

    def near(self, one: int, other: int, room: int = 0) -> bool:
        off = abs(one - other) - room
        largest = max(abs(one), abs(other))
        return off <= 0 or off * self.tolerance.denominator <= self.tolerance.numerator * largest

    def same_tokens(self, one: Tokens4, other: Tokens4, *, kinds: bool = True) -> bool:
        """Whether as much was read and written. `kinds`: and each kind of what was read is the same too."""
        if kinds:
            return all(map(self.near, one, other))
        return self.near(sum(one[:3]), sum(other[:3])) and self.near(one[3], other[3])

    def agree(self, bill: Part, ours: Part) -> bool:
        """Whether both say the same, as far as both say anything."""
        priced = bill.money is not None and ours.money is not None
        if bill.tokens is None or ours.tokens is None:
            return priced and self._money(bill, ours)
        # Where a cached token costs what any other does, a bill need not tell them apart: the money decides then.
        return self.same_tokens(bill.tokens, ours.tokens, kinds=not priced) and (
            not priced or self._money(bill, ours)
        )

    def _money(self, bill: Part, ours: Part) -> bool:
        return (
            bill.money is not None
            and ours.money is not None
            and self.near(bill.money, ours.money, bill.room + ours.room)
        )


Whose: TypeAlias = tuple[str, str]
"""Account and job of something in the ledger."""


class Sides(msgspec.Struct, frozen=True):
    """What is on the bill and what is in the ledger for one model in one tier on a day, or on some.

    `billed`: by whom it was billed to, in the provider's terms.
    """

    tier: str
    billed: Mapping[str, Part]
    owed: Mapping[Whose, Part]

    @property
    def jobs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(job for _, job in self.owed))

    @property
    def bill(self) -> Part:
        return in_all(self.billed.values())

    @property
    def ours(self) -> Part:
        return in_all(self.owed.values())


def part_of(line: BillLine) -> Part:
    """One line of a bill as an amount."""
    tokens: Tokens4 | None = None
    if line.quantity is not None and line.kind in TOKEN_KINDS:
        counts = [0, 0, 0, 0]
        counts[TOKEN_KINDS.index(line.kind)] = line.quantity
        tokens = (counts[0], counts[1], counts[2], counts[3])
    return Part(
        tokens=tokens,
        money=line.money,
        realtime=None,
        room=line.rounding,
        lines=1,
        region_bound=line.region_bound,
    )


def joined(several: Iterable[Mapping[_K, Part]]) -> dict[_K, Part]:
    """Amounts of the same name added up."""
    found: dict[_K, Part] = {}
    for parts in several:
        for name, part in parts.items():
            found[name] = found[name].plus(part) if name in found else part
    return found


def together(sides: Iterable[Sides]) -> Sides:
    """Some days as one."""
    several = list(sides)
    return Sides(several[0].tier, joined(one.billed for one in several), joined(one.owed for one in several))
