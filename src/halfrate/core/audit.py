"""Calls of a log, gathered by endpoint, job, team or whatever somebody asks, in one pass and in constant memory."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from halfrate.core.audit_call import Call
from halfrate.core.audit_group import HOUR, MOST_USERS, Group, Lane

KEYS: Final = ("job", "endpoint", "team", "key", "model", "provider", "tier", "user")
"""What calls can be grouped by, beside the names of tags."""
NONE: Final = "(none)"
"""Stands for what a call does not have."""
REST: Final = "(the rest)"
MOST_GROUPS: Final = 500
"""Groups that are told apart, the first that come; the others are one together."""
MOST_LANES: Final = 5000
"""Models and days whose prices are looked up; the calls of others are without a price."""
MOST_SESSIONS: Final = 8192
"""Sessions that are remembered at a time, the latest."""

PACE: Final = 5.0
TURN: Final = 600.0
STEP: Final = 30.0
_OVERLAP: Final = 1.0
"""Seconds that clocks may differ by: a call may seem to begin so much before the end of the one before."""
_BACK: Final = 60.0
"""Seconds that a call may stand before its turn in a log that is in order."""
_DAY: Final = 86400

Priced = Callable[[str | None, str | None, str | None, int], Lane]
"""From provider, model, tier and day (since 1970) to the lane of such calls."""


class Audit:
    """What a log comes to.

    Args:
        by: names of KEYS, or of tags.
        priced: finds the prices. It is asked once for each model, tier and day.
        other: the lane of calls for which there is no room: no prices.
        since, until: calls of that time alone, seconds since 1970.
    """

    def __init__(
        self,
        by: Sequence[str],
        priced: Priced,
        other: Lane,
        *,
        since: float = -math.inf,
        until: float = math.inf,
    ) -> None:
        self.by = tuple(by)
        self.groups: dict[tuple[str, ...], Group] = {}
        self.bills: dict[tuple[str, ...], Group] = {}
        """Lines of bills, apart: they are the same money again as calls that are in the log."""
        self.crowded = 0
        """Calls that are in "the rest" because there were too many groups."""
        self.outside = 0
        """Calls before or after the time that was asked for."""
        self.untimed = 0
        self.forward = 0
        self.backward = 0
        """Steps of more than a minute, forward and back in time, from one call of a log to the next."""
        self.repeated = 0
        self.session_said = 0
        self._priced = priced
        self._other = other
        self._lanes: dict[tuple[str | None, str | None, str | None, int], Lane] = {}
        self._since = since
        self._until = until
        self._bounded = since != -math.inf or until != math.inf
        self._key = _teller(self.by)
        self._sessions: dict[str, tuple[float, float, int, int, Group]] = {}
        self._at = math.nan

    # ------------------------------------------------------------ reading

    def add(self, calls: Iterable[Call]) -> None:
        """Take some calls in, in the order of the log."""
        known, key = self.groups.get, self._key
        money, traits, arrival = self._money, self._traits, self._arrival
        for call in calls:
            at = call.time
            if (at is None or self._bounded) and self._out(at, call.calls):
                continue
            if call.bill:
                self._bill(call, at)
                continue
            keys = key(call)
            group = known(keys) or self._group(self.groups, keys, call.calls)
            count = call.calls
            group.calls += count
            money(group, call, at)
            if count == 0:
                group.uncounted += 1
            traits(group, call, count)
            if at is not None:
                arrival(group, call, at, count)

    def _out(self, at: float | None, calls: int) -> bool:
        """Whether a call is of another time than was asked for."""
        if at is None:
            self.untimed += calls
            out = self._bounded
        else:
            out = not self._since <= at < self._until
        self.outside += calls if out else 0
        return out

    def _bill(self, call: Call, at: float | None) -> None:
        group = self._group(self.bills, self._key(call), 0)
        group.bills += 1
        self._money(group, call, at)
        if at is not None:
            group.covered(at, at + call.span)

    def _group(self, groups: dict[tuple[str, ...], Group], keys: tuple[str, ...], calls: int) -> Group:
        """The group of keys that were not met as they stand."""
        shown = tuple(map(clean, keys))
        group = groups.get(shown)
        if group is None and len(groups) >= MOST_GROUPS:
            self.crowded += calls
            shown = (REST, *[""] * (len(keys) - 1))
            group = groups.get(shown)
        if group is None:
            group = groups[shown] = Group(shown)
        return group

    def _money(self, group: Group, call: Call, at: float | None) -> None:
        day = int(at) // _DAY if at is not None else -1
        asked = (call.provider, call.model, call.tier, day)
        lane = self._lanes.get(asked)
        if lane is None:
            lane = self._lane(asked, bill=call.bill)
        step = 0
        if lane.steps:
            step = _step(lane, call)
        cell = group.cells.get(lane.number * 16 + step) or group.cell(lane, step, self._other)
        cell.calls += call.calls
        cell.input += call.input
        cell.cached += call.cached
        cell.write_5m += call.write_5m
        cell.write_1h += call.write_1h
        cell.output += call.output
        if call.cost is not None:
            cell.logged += call.cost
            cell.costed += call.calls or 1

    def _lane(self, asked: tuple[str | None, str | None, str | None, int], *, bill: bool) -> Lane:
        if bill:
            return self._priced(*asked)
        if len(self._lanes) >= MOST_LANES:
            return self._other
        lane = self._lanes[asked] = self._priced(*asked)
        return lane

    @staticmethod
    def _traits(group: Group, call: Call, count: int) -> None:
        if call.stream is not None:
            group.stream_said += count
            group.streamed += count if call.stream else 0
        if call.tools is not None:
            group.tools_said += count
            group.tooled += count if call.tools else 0
        if call.status is not None:
            group.status_said += count
            if call.status >= 400:
                group.failed += count
                group.throttled += count if call.status == 429 else 0
        if call.user is not None:
            group.named += count
            if len(group.users) < MOST_USERS:
                group.users.add(hash(call.user))
        if call.deadline is not None:
            group.wanted(call.deadline, count)
        if call.duration is not None:
            group.length(call.duration, count)

    def _bucket(self, group: Group, call: Call, at: float, count: int) -> None:
        group.covered(at, at + call.span)
        if call.span > HOUR:
            group.daily += count
            return
        # Where nobody says how many calls, tokens tell how much came when.
        weight = count or 1 + (call.input + call.cached + call.output) // 1000
        group.hour(int(at) // HOUR, weight)
        group.hourly += weight

    def _arrival(self, group: Group, call: Call, at: float, count: int) -> None:
        if call.span:
            self._bucket(group, call, at, count)
            return
        if not group.first <= at <= group.last:
            group.covered(at, at)
        group.hour(int(at) // HOUR, count)
        group.timed += count
        group.minutes[int(at) % HOUR // 60] += count
        ahead = at - self._at
        if ahead > _BACK:
            self.forward += 1
        elif ahead < -_BACK:
            self.backward += 1
        self._at = at
        end = at + call.duration if call.duration is not None else at
        gap = at - group.before
        if -PACE <= gap <= PACE or 0.0 < at - group.before_end <= PACE:
            group.close += count
        group.before = at
        group.before_end = end
        if call.session is not None:
            self._session(group, call, at, end, call.session)

    def _session(self, group: Group, call: Call, at: float, end: float, session: str) -> None:
        group.session_said += 1
        self.session_said += 1
        sessions = self._sessions
        read = call.input + call.cached + call.write_5m + call.write_1h
        seen = sessions.pop(session, None)
        if seen is None:
            group.sessions += 1
            if len(sessions) >= MOST_SESSIONS:
                del sessions[next(iter(sessions))]
        else:
            self.repeated += 1
            before, before_end, before_read, before_wrote, of = seen
            # A log may have the newest first: then the one that was met before came after.
            if before <= at:
                gap = at - before_end
                grown = read >= before_read + before_wrote // 2 > 0
            else:
                gap = before - end
                grown = before_read >= read + call.output // 2 > 0
            if -_OVERLAP <= gap <= TURN:
                grown = grown and of is group
                if of is group:
                    group.carried += 1
                    group.grew += grown
                if gap <= STEP and not grown:
                    group.followed += 1
        sessions[session] = (at, end, read, call.output, group)

    # ------------------------------------------------------------ what it came to

    @property
    def first(self) -> float:
        """When the first call came; infinite where no call has a time."""
        return min((group.first for group in self._all()), default=math.inf)

    @property
    def last(self) -> float:
        return max((group.last for group in self._all()), default=-math.inf)

    def _all(self) -> Iterator[Group]:
        """Calls, or bills where there is nothing else."""
        return iter((self.groups or self.bills).values())

    @property
    def span(self) -> float:
        """Seconds from the first call to the last; 0 where no call has a time."""
        first, last = self.first, self.last
        return last - first if last >= first else 0.0

    @property
    def sessions_tell(self) -> bool:
        """Whether sessions mean anything: some logs give every call one of its own."""
        return self.repeated * 100 >= max(self.session_said, 1)

    @property
    def in_order(self) -> bool:
        """Whether the log goes one way in time, up or down, by and large."""
        return min(self.forward, self.backward) * 20 <= max(self.forward, self.backward)


def _step(lane: Lane, call: Call) -> int:
    """Which of the lane's rates a call has: judged by its own input, in a bucket by what calls had on average."""
    if call.long is not None:
        return len(lane.steps) if call.long else 0
    read = call.input + call.cached + call.write_5m + call.write_1h
    if call.calls > 1:
        read //= call.calls
    elif call.calls == 0:
        return 0
    return sum(read > above for above in lane.steps)


def clean(name: str) -> str:
    """A name as it can be shown anywhere: what is no letter (controls, changes of direction) is replaced."""
    if name.isprintable() and len(name) <= 80:
        return name
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in name[:81])
    return shown if len(shown) <= 80 else shown[:79] + "\u2026"


def _teller(by: tuple[str, ...]) -> Callable[[Call], tuple[str, ...]]:
    """From a call to its keys."""
    if len(by) == 1 and by[0] in KEYS:
        return _single(by[0])
    tell = [_reader(name) for name in by]

    def keys(call: Call) -> tuple[str, ...]:
        return tuple(one(call) or NONE for one in tell)

    return keys


def _reader(name: str) -> Callable[[Call], str | None]:
    match name:
        case "job":
            return lambda call: call.job
        case "endpoint":
            return lambda call: call.endpoint
        case "team":
            return lambda call: call.team
        case "key":
            return lambda call: call.key
        case "model":
            return lambda call: call.model
        case "provider":
            return lambda call: call.provider
        case "tier":
            return lambda call: call.tier
        case "user":
            return lambda call: call.user
        case _:
            return lambda call: call.tags.get(name)


def _single(name: str) -> Callable[[Call], tuple[str, ...]]:
    tell = _reader(name)
    return lambda call: (tell(call) or NONE,)


def chosen(calls: Iterable[Call]) -> tuple[str, ...]:
    """What to group by where nobody says it: what half of these calls have, and do not all have in common."""
    sample = list(calls)
    sums = sum(call.span > 0 for call in sample) * 2 > len(sample)
    # Exports that hold sums know kinds of calls, of which there are two, and keys, which stand for services.
    names = ("key", "team", "model", "endpoint") if sums else ("job", "endpoint", "team", "key", "model")
    for name in names:
        tell = _reader(name)
        found = [value for call in sample if (value := tell(call)) is not None]
        if len(found) * 2 >= len(sample) and len(set(found)) > 1:
            return (name,)
    return ("model",)
