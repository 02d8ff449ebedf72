"""What is remembered of a group of calls while a log is read: counts and histograms of a fixed size, never the calls.

The memory of a group grows with the hours that the log covers, up to a year of them, and not with its calls.
"""

import math
from array import array
from typing import Final

import msgspec

from halfrate.base.types import Price

HOUR: Final = 3600
LONGEST_LOG: Final = 366 * 24
"""Hours that are told apart. Calls before or after them count for everything but the pattern of arrival."""
_LENGTHS: Final = 96
_LENGTH_RATIO: Final = math.log(1.25)
_SHORTEST: Final = 0.01
MOST_USERS: Final = 200
"""Users that are told apart in a group."""
MOST_CELLS: Final = 100
SOON: Final = 600.0
LATE: Final = 3600.0
"""A deadline of at most SOON seconds is of somebody who waits; one of LATE seconds leaves a batch its time."""


class Lane(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Calls that have the same prices: of one model, in one tier, while its price did not change.

    Args:
        number: one of its own for each lane.
        paid: the price in the tier that the calls went; None: unknown.
        standard, batch: the prices in real time and in a batch.
        steps: input tokens from which another rate begins, in any of the three, in order.
    """

    number: int
    provider: str
    model: str
    tier: str
    paid: Price | None = None
    standard: Price | None = None
    batch: Price | None = None
    steps: tuple[int, ...] = ()


class Cell(msgspec.Struct, gc=False):
    """Tokens of one lane and one price step, added up. `logged`: picodollars as the log has it, of `costed` calls."""

    lane: Lane
    step: int
    calls: int = 0
    input: int = 0
    cached: int = 0
    write_5m: int = 0
    write_1h: int = 0
    output: int = 0
    logged: int = 0
    costed: int = 0


class Group:
    """Calls with the same keys. Counts are of calls unless said otherwise; None in a log counts as not said."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self.keys = keys
        self.cells: dict[int, Cell] = {}
        self.calls = 0
        self.uncounted = 0
        """Buckets that did not say how many calls they hold."""
        self.bills = 0
        self.first = math.inf
        self.last = -math.inf

        self.stream_said = 0
        self.streamed = 0
        self.tools_said = 0
        self.tooled = 0
        self.status_said = 0
        self.failed = 0
        self.throttled = 0
        self.named = 0
        self.users: set[int] = set()
        self.deadline_said = 0
        self.wants_soon = 0
        self.wants_late = 0

        self.timed = 0
        """Calls whose time is known to the second."""
        self.hourly = 0
        """Calls of buckets of an hour at most."""
        self.daily = 0
        """Calls of longer buckets: when in the day they came is unknown."""
        self.close = 0
        """That came within PACE seconds of the call before, or of its end."""
        self.hours = array("L")
        self.base = 0
        self.minutes = array("L", bytes(60 * array("L").itemsize))
        self.lengths = array("L", bytes(_LENGTHS * array("L").itemsize))
        self.length_said = 0

        self.session_said = 0
        self.sessions = 0
        """That began one, as far as is remembered."""
        self.carried = 0
        """That began after the end of the call of this group before, in the same session, and within TURN seconds."""
        self.grew = 0
        """Of those: that read what the call before had read, and its answer, and maybe more."""
        self.followed = 0
        """That began within STEP seconds of the end of another call of the session, and did not grow out of it."""

        # Of the call before.
        self.before = math.nan
        self.before_end = math.nan

    def covered(self, first: float, last: float) -> None:
        """Note how far the group reaches in time."""
        self.first = min(self.first, first)
        self.last = max(self.last, last)

    def hour(self, at: int, calls: int) -> None:
        """Count calls of an hour, in hours since 1970."""
        hours = self.hours
        place = at - self.base
        if 0 <= place < len(hours):
            hours[place] += calls
            return
        if not hours:
            self.base, place = at, 0
        elif place < 0:
            if len(hours) - place > LONGEST_LOG:
                return
            self.hours = hours = array("L", bytes(-place * hours.itemsize)) + hours
            self.base, place = at, 0
        if place >= len(hours):
            if place >= LONGEST_LOG:
                return
            hours.extend([0] * (place + 1 - len(hours)))
        hours[place] += calls

    def length(self, seconds: float, calls: int) -> None:
        """Count a duration."""
        place = int(math.log(seconds / _SHORTEST) / _LENGTH_RATIO) if seconds > _SHORTEST else 0
        self.lengths[min(place, _LENGTHS - 1)] += calls
        self.length_said += calls

    def wanted(self, deadline: float, calls: int) -> None:
        """Count a deadline."""
        self.deadline_said += calls
        if deadline <= SOON:
            self.wants_soon += calls
        elif deadline >= LATE:
            self.wants_late += calls

    def length_at(self, share: float) -> float | None:
        """Seconds within which `share` of the calls were answered, to about a tenth; None where nothing is known."""
        if not self.length_said:
            return None
        wanted = share * self.length_said
        seen = 0
        for place, calls in enumerate(self.lengths):
            seen += calls
            if seen >= wanted:
                return _SHORTEST * math.exp((place + 0.5) * _LENGTH_RATIO)
        return None

    def week(self) -> list[list[int]]:
        """Calls by day of the week (Monday first) and hour of the day, in UTC."""
        table = [[0] * 24 for _ in range(7)]
        for place, calls in enumerate(self.hours):
            if calls:
                at = self.base + place
                # 1970-01-01 was a Thursday.
                table[(at // 24 + 3) % 7][at % 24] += calls
        return table

    def cell(self, lane: Lane, step: int, other: Lane) -> Cell:
        key = lane.number * 16 + step
        cell = self.cells.get(key)
        if cell is None:
            if len(self.cells) >= MOST_CELLS and lane is not other:
                return self.cell(other, 0, other)
            cell = self.cells[key] = Cell(lane, step)
        return cell
