"""Whether a group of calls can wait for a batch: rules in a fixed order, each with its threshold and its words.

A rule says *batch now* only where something in the log speaks for it and nothing against. What a log cannot say makes
no group fit: without a sign either way, its owner is asked. docs/audit.md has the same rules for people.
"""

import enum
import math
from collections.abc import Sequence
from typing import Final

import msgspec

from halfrate.base.money import PICO, show_usd
from halfrate.core.audit import Audit
from halfrate.core.audit_group import HOUR, MOST_USERS, Group
from halfrate.core.audit_money import DONE, Move

ALREADY: Final = 0.9
"""Of the calls, in batches or flex: nothing is left to judge."""
ALREADY_SPENT: Final = 0.8
"""Of the spend, beside that."""
WORTH: Final = PICO
"""Picodollars a month that a move has to save."""
FEW: Final = 100
"""Calls a month under which nothing is worth a change, where what it would save is unknown."""
STREAMED: Final = 0.2
STREAMED_SOME: Final = 0.05
STREAMED_MOST: Final = 0.8
GREW: Final = 0.2
GREW_OF_CARRIED: Final = 0.7
FOLLOWED: Final = 0.3
MOST_STEPS: Final = 50.0
"""Calls of a session, on average, above which it stands for a whole job and says nothing of its calls."""
TOOLED: Final = 0.2
PEOPLE: Final = 5
QUICK: Final = 30.0
DEADLINES: Final = 0.5
"""Of the calls, that have a deadline at all."""
LATE_ENOUGH: Final = 0.9
SAID: Final = 0.5
"""Of the calls, that have to say a thing for it to be known of the group."""
PATTERN_HOURS: Final = 72
RUN_SHARE: Final = 0.9
RUN_HOURS: Final = 0.2
RUN_CALLS: Final = 10
CLOSE: Final = 0.5
TIMER_MINUTES: Final = 15
PATTERN_CALLS: Final = 200
QUIET_HOURS: Final = 6
QUIET: Final = 0.15
FAILED: Final = 0.05
ALIKE: Final = 0.9
"""Of the spend of a group whose parts are judged apart."""
NAMED: Final = 4
"""Parts that are told by name."""


class Verdict(enum.StrEnum):
    BATCH = "batch now"
    ASK = "ask the owner"
    KEEP = "keep realtime"
    DONE = "batch already"


class Arrival(enum.StrEnum):
    """How calls come."""

    RUNS = "runs"
    """Most of them in few hours, close behind each other."""
    RUNS_BY_HOUR = "runs by the hour"
    """Most of them in few hours; how close is unknown."""
    TIMER = "timer"
    STEADY = "steady"
    DAILY = "daily"
    FEW = "few"
    SHORT = "short"
    UNKNOWN = "unknown"


class Judgement(msgspec.Struct, frozen=True):
    """`reasons`: what decided comes first. `unknown`: what the log does not say of this group."""

    verdict: Verdict
    reasons: tuple[str, ...]
    unknown: tuple[str, ...] = ()


class _Signs(msgspec.Struct, frozen=True, kw_only=True):
    """What the log says of a group. None: it does not."""

    calls: int
    arrival: Arrival
    busy: int
    """Hours that most calls came in."""
    hours: int
    minutes: tuple[int, int]
    """The busiest stretch of the hour, where a timer is behind the calls."""
    streamed: float | None
    tooled: float | None
    sessions: bool
    grew: float
    followed: float
    people: int
    quick: float | None
    """Seconds within which nine in ten are answered."""
    soon: bool
    late: bool
    between: bool
    month: float | None


def judge(group: Group, audit: Audit, monthly: Move, month_calls: float | None) -> Judgement:
    """The verdict on a group, with its reasons.

    Args:
        group: one of the audit's.
        audit: the whole of it.
        monthly: what the group costs in a month, each way.
        month_calls: calls in a month; None where the log does not count them, or has no times.
    """
    signs = _signs(group, audit, month_calls)
    verdict, reasons = _verdict(group, signs, monthly)
    notes = _notes(group, monthly) if verdict in {Verdict.BATCH, Verdict.ASK} and not group.bills else []
    return Judgement(verdict, (*reasons, *notes), _unknown(group, audit, signs))


def together(parts: Sequence[tuple[str, Judgement, Move]]) -> Judgement:
    """The verdict on a group from those on its parts: (name, judgement, what it costs), the dearest first.

    What holds for nearly all that is paid for real time holds for the group. Where its parts differ, or what one that
    differs costs is unknown, its owner is asked.
    """
    if len(parts) == 1:
        return parts[0][1]
    whole = sum(move.realtime for _, _, move in parts)
    shares: dict[Verdict, int] = {}
    for _, judgement, move in parts:
        shares[judgement.verdict] = shares.get(judgement.verdict, 0) + move.realtime
    verdict, most = max(shares.items(), key=lambda item: item[1])
    unsure = any(move.spend is None and judgement.verdict is not verdict for _, judgement, move in parts)
    if unsure or most < ALIKE * whole:
        verdict = Verdict.ASK
        reason = f"it holds {len(parts):,} things that differ: {_parts(parts)}"
    else:
        reason = f"so it is with {_share(most / whole) if whole else 'all'} of its spend: {_parts(parts)}"
    common = set[str].intersection(*(set(judgement.unknown) for _, judgement, _ in parts))
    return Judgement(verdict, (reason,), tuple(words for words in parts[0][1].unknown if words in common))


def _parts(parts: Sequence[tuple[str, Judgement, Move]]) -> str:
    told = [
        f"{name} ({judgement.verdict.value}, {show_usd(move.spend)})"
        for name, judgement, move in parts[:NAMED]
    ]
    more = f" and {len(parts) - NAMED:,} more" if len(parts) > NAMED else ""
    return ", ".join(told) + more


# ---------------------------------------------------------------- the rules


def _verdict(group: Group, signs: _Signs, monthly: Move) -> tuple[Verdict, list[str]]:
    for rule in (_done, _billed, _worthless, _told, _chained, _streams, _stages, _people, _between):
        found = rule(group, signs, monthly)
        if found is not None:
            return found
    return _by_arrival(signs)


_Found = tuple[Verdict, list[str]] | None


def _done(group: Group, _signs: _Signs, monthly: Move) -> _Found:
    cells = group.cells.values()
    whole = sum(cell.calls or 1 for cell in cells)
    done = sum(cell.calls or 1 for cell in cells if cell.lane.tier in DONE)
    # A few dear calls in real time are worth a look, however many cheap ones have gone already.
    if whole and done >= ALREADY * whole and monthly.done >= ALREADY_SPENT * (monthly.spend or 0):
        return Verdict.DONE, [f"{_share(done / whole)} of it goes in batches or flex already"]
    return None


def _worthless(_group: Group, signs: _Signs, monthly: Move) -> _Found:
    best = monthly.best
    if best is not None and best <= 0:
        return Verdict.KEEP, ["a batch would cost more than its cache lets it cost now"]
    if best is not None and best < WORTH:
        return Verdict.KEEP, [f"too little to be worth a change: a batch would save {show_usd(best)} a month"]
    if best is None and signs.month is not None and signs.month < FEW:
        return Verdict.KEEP, [f"too little to be worth a change: {signs.month:,.0f} calls a month"]
    return None


def _told(_group: Group, signs: _Signs, _monthly: Move) -> _Found:
    if signs.soon:
        return Verdict.KEEP, ["whoever calls wants an answer within ten minutes"]
    if signs.late:
        reasons = ["whoever calls gives it an hour or more"]
        if _chain(signs):
            return Verdict.ASK, [*reasons, "yet each call goes on from the answer before it"]
        return Verdict.BATCH, reasons
    return None


def _chained(_group: Group, signs: _Signs, _monthly: Move) -> _Found:
    if _chain(signs):
        reason = (
            f"each call waits for the one before it: {_share(signs.grew)} go on from the last answer of their session, "
            "as conversations and tool loops do"
        )
        return Verdict.KEEP, [reason]
    return None


def _chain(signs: _Signs) -> bool:
    return signs.sessions and signs.grew >= GREW


def _streams(_group: Group, signs: _Signs, _monthly: Move) -> _Found:
    share = signs.streamed
    if share is None or share < STREAMED:
        return None
    said = f"{_share(share)} of the answers are streamed"
    if signs.arrival in {Arrival.RUNS, Arrival.TIMER}:
        doubt = "Does anybody read along, or is it a habit of the code?"
        return Verdict.ASK, [f"{said}, yet they come as a machine's do: {_arrives(signs)}. {doubt}"]
    if share < STREAMED_MOST:
        return Verdict.ASK, [f"{said}: more than one thing may be in it. Look at it by another key, or a tag"]
    return Verdict.KEEP, [f"somebody reads along: {said}"]


def _stages(group: Group, signs: _Signs, _monthly: Move) -> _Found:
    if signs.sessions and signs.followed >= FOLLOWED:
        per = group.session_said / max(group.sessions, 1)
        if per <= MOST_STEPS:
            reason = (
                f"{_share(signs.followed)} begin right after another call of their session: steps of one piece of "
                "work? Such can go batch by batch, a step each, if the whole may take hours"
            )
            return Verdict.ASK, [reason]
    if not signs.sessions and signs.tooled is not None and signs.tooled >= TOOLED:
        reason = (
            f"{_share(signs.tooled)} offer tools, and the log does not tell which calls belong together: does a call "
            "wait for the answer before it?"
        )
        return Verdict.ASK, [reason]
    return None


def _people(_group: Group, signs: _Signs, _monthly: Move) -> _Found:
    machine = signs.arrival in {Arrival.RUNS, Arrival.RUNS_BY_HOUR, Arrival.TIMER}
    if signs.people < PEOPLE or machine:
        return None
    users = f"{signs.people}{' or more' if signs.people >= MOST_USERS else ''} end users are named"
    if signs.quick is not None and signs.quick > QUICK:
        return Verdict.ASK, [
            f"{users}, and nine in ten answers take up to {signs.quick:,.0f} s: does anybody wait for them?"
        ]
    return Verdict.KEEP, [f"people wait for it: {users}, and it comes {_arrives(signs)}"]


def _between(_group: Group, signs: _Signs, _monthly: Move) -> _Found:
    if signs.between:
        return Verdict.ASK, [
            "whoever calls gives it less than an hour, or not always the same: flex, or a batch with a deadline?"
        ]
    return None


def _billed(group: Group, _signs: _Signs, _monthly: Move) -> _Found:
    if group.bills:
        return Verdict.ASK, ["the export holds money alone, and nothing of the calls behind it"]
    return None


def _by_arrival(signs: _Signs) -> tuple[Verdict, list[str]]:
    arrives = _arrives(signs)
    match signs.arrival:
        case Arrival.RUNS:
            return _runs(signs, arrives)
        case Arrival.RUNS_BY_HOUR:
            return Verdict.ASK, [
                f"it comes {arrives}, as jobs do; the export holds sums, and does not show whether anybody waits"
            ]
        case Arrival.TIMER:
            return Verdict.ASK, [
                f"a timer is behind it: it comes {arrives}. May an answer be later than the next run?"
            ]
        case Arrival.STEADY:
            return Verdict.ASK, [f"machines are behind it: it comes {arrives}. What waits for the answers?"]
        case Arrival.DAILY:
            return Verdict.ASK, [
                f"it comes {arrives}, as work of people does. Does anybody wait for an answer?"
            ]
        case _:
            return Verdict.ASK, [arrives]


def _runs(signs: _Signs, arrives: str) -> tuple[Verdict, list[str]]:
    reasons = [f"it comes {arrives}, as jobs do"]
    if signs.streamed is None and not signs.sessions:
        return Verdict.ASK, [
            *reasons,
            "but the log says neither what is streamed nor which calls belong together",
        ]
    if signs.streamed is not None and signs.streamed >= STREAMED_SOME:
        return Verdict.ASK, [*reasons, f"but {_share(signs.streamed)} of the answers are streamed"]
    if signs.streamed is not None:
        reasons.append(
            "nobody reads along: nothing is streamed" if not signs.streamed else "hardly any is streamed"
        )
    if signs.sessions:
        reasons.append("no call waits for another")
    return Verdict.BATCH, reasons


def _arrives(signs: _Signs) -> str:
    match signs.arrival:
        case Arrival.RUNS:
            return f"in runs: nine tenths of it within {signs.busy:,} of {signs.hours:,} hours, close upon each other"
        case Arrival.RUNS_BY_HOUR:
            return f"in runs: nine tenths of it within {signs.busy:,} of {signs.hours:,} hours"
        case Arrival.TIMER:
            first, last = signs.minutes
            when = f":{first:02d}" if first == last else f":{first:02d} to :{last:02d}"
            return f"at the same minutes, {when}, hour after hour"
        case Arrival.STEADY:
            return "day and night alike"
        case Arrival.DAILY:
            return "in the rhythm of a day"
        case Arrival.FEW:
            return f"too seldom to show a pattern: {signs.calls:,} calls"
        case Arrival.SHORT:
            return f"in {signs.hours:,} hours of log, which are too few to show a pattern"
        case Arrival.UNKNOWN:
            return "when nobody knows: the log does not say at what time of the day calls came"


# ---------------------------------------------------------------- beside the verdict


def _notes(group: Group, monthly: Move) -> list[str]:
    notes: list[str] = []
    if monthly.done and monthly.realtime:
        notes.append(
            f"{_share(monthly.done / (monthly.spend or 1))} of its spend goes in batches or flex already"
        )
    if group.status_said and group.failed >= FAILED * group.status_said:
        note = f"{_share(group.failed / group.status_said)} failed"
        if group.throttled * 2 >= group.failed:
            note += ", mostly for rate limits, which batches have of their own"
        notes.append(note)
    alone, warm = monthly.saved, monthly.saved_cached
    if warm is not None and alone is not None and warm > 0 and alone * 10 < warm * 9:
        notes.append(
            f"the saving rests on its cache: a batch that reads all anew saves {show_usd(alone)} a month"
            if alone > 0
            else "the saving rests on its cache: a batch that reads all anew would cost more than now"
        )
    if monthly.unmovable:
        notes.append("some of its models have no batch price in the book")
    return notes


def _unknown(group: Group, audit: Audit, signs: _Signs) -> tuple[str, ...]:
    calls = max(group.calls, 1)
    missing = (
        (signs.streamed is None, "whether answers are streamed"),
        (not signs.sessions, "which calls belong together"),
        (group.named < SAID * calls, "end users"),
        (group.length_said < SAID * calls, "how long answers take"),
        (group.deadline_said < SAID * calls, "how long they may take"),
        (group.timed + group.hourly < SAID * calls, "at what time of the day they come"),
        (bool(group.uncounted), "how many calls there are"),
        (
            bool(group.timed) and not audit.in_order,
            "how close they follow each other: the log is not in order",
        ),
    )
    return tuple(words for absent, words in missing if absent)


# ---------------------------------------------------------------- signs


def _signs(group: Group, audit: Audit, month_calls: float | None) -> _Signs:
    arrival, busy, hours, minutes = _arrival(group, audit)
    calls = group.calls
    sessions = audit.sessions_tell and group.session_said >= SAID * max(calls, 1)
    grew = group.grew if group.grew >= GREW_OF_CARRIED * group.carried else 0
    told = group.deadline_said >= DEADLINES * calls and group.deadline_said > 0
    soon = told and group.wants_soon >= DEADLINES * calls
    late = told and group.wants_late >= LATE_ENOUGH * calls
    return _Signs(
        calls=calls,
        arrival=arrival,
        busy=busy,
        hours=hours,
        minutes=minutes,
        streamed=_known(group.streamed, group.stream_said, calls),
        tooled=_known(group.tooled, group.tools_said, calls),
        sessions=sessions,
        grew=grew / max(calls, 1),
        followed=group.followed / max(calls, 1),
        people=len(group.users) if group.named >= SAID * calls else 0,
        quick=group.length_at(0.9),
        soon=soon,
        late=late,
        between=told and not soon and not late,
        month=month_calls,
    )


def _known(found: int, said: int, calls: int) -> float | None:
    return found / said if said and said >= SAID * calls else None


def _arrival(group: Group, audit: Audit) -> tuple[Arrival, int, int, tuple[int, int]]:
    """How calls come, the hours that nine in ten of them came in, of how many, and the stretch of the hour."""
    hours = max(1, math.ceil(audit.span / HOUR))
    known = group.timed + group.hourly
    if not known or known < SAID * group.calls:
        return Arrival.UNKNOWN, 0, hours, (0, 59)
    counts = sorted((calls for calls in group.hours if calls), reverse=True)
    busy, seen = 0, 0
    for calls in counts:
        if seen >= RUN_SHARE * known:
            break
        seen += calls
        busy += 1
    paced = group.timed * 2 >= known and audit.in_order
    close = paced and group.close >= CLOSE * group.timed
    if hours < PATTERN_HOURS:
        return Arrival.SHORT, busy, hours, (0, 59)
    if busy and busy <= RUN_HOURS * hours and seen >= RUN_CALLS * busy and (close or not paced):
        return (Arrival.RUNS if paced else Arrival.RUNS_BY_HOUR), busy, hours, (0, 59)
    if known < PATTERN_CALLS:
        return Arrival.FEW, busy, hours, (0, 59)
    stretch, held = _stretch(group.minutes)
    if close and held >= RUN_SHARE * group.timed:
        return Arrival.TIMER, busy, hours, stretch
    quiet = _quietest(group)
    return (Arrival.STEADY if quiet >= QUIET * known else Arrival.DAILY), busy, hours, (0, 59)


def _stretch(minutes: Sequence[int]) -> tuple[tuple[int, int], int]:
    """The TIMER_MINUTES minutes of the hour in a row that hold the most calls, and how many they are."""
    best, held = 0, -1
    for first in range(60):
        found = sum(minutes[(first + i) % 60] for i in range(TIMER_MINUTES))
        if found > held:
            best, held = first, found
    inside = [(best + i) % 60 for i in range(TIMER_MINUTES) if minutes[(best + i) % 60]]
    return ((inside[0], inside[-1]) if inside else (0, 59)), held


def _quietest(group: Group) -> int:
    """Calls of the quietest hours of the day in a row."""
    day = [sum(row[hour] for row in group.week()) for hour in range(24)]
    return min(sum(day[(first + i) % 24] for i in range(QUIET_HOURS)) for first in range(24))


def _share(share: float) -> str:
    """As a percentage that never rounds to none or all of it."""
    if share >= 1:
        return "all"
    if 0 < share < 0.01:
        return "less than 1%"
    if 0.99 < share < 1:
        return "over 99%"
    return f"{share:.0%}"
