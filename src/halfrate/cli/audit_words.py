"""An audit in words and figures, as every form of its report has them."""

import datetime
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, Final

import msgspec

from halfrate.base.money import show_usd, usd
from halfrate.cli.text import money
from halfrate.core.audit_judge import Verdict
from halfrate.core.audit_money import Move, total
from halfrate.service.audit import Line, Log, Report

ORDER: Final = (Verdict.BATCH, Verdict.ASK, Verdict.KEEP, Verdict.DONE)
NOTHING: Final = "-"


class Sum(msgspec.Struct, frozen=True):
    """What groups of one verdict come to, in a month."""

    verdict: Verdict
    groups: int
    calls: int | None
    spend: int | None
    saved: int | None
    cached: int | None


def shown(report: Report, top: int | None) -> Sequence[Line]:
    return report.lines[:top]


def heading(report: Report) -> str:
    """What was read."""
    calls = f"{report.calls:,} calls" if report.counted and report.calls else "Usage"
    logs = listed([f"{log.name} ({log.format})" for log in report.logs[:3]])
    if len(report.logs) > 3:
        logs += f" and {len(report.logs) - 3:,} more"
    return f"{calls} of {logs}{_covers(report)}."


def _covers(report: Report) -> str:
    if report.first is None or report.last is None or report.days is None:
        return ""
    days = f"{float(report.days):.1f} days" if not report.short else f"{float(report.days) * 24:.1f} hours"
    return f", {_date(report.first)} to {_date(report.last)} UTC: {days}"


def scale(report: Report) -> str:
    if report.days is None:
        return "Amounts are for all of the log."
    return f"Amounts are for a month of 30 days, in proportion. Grouped by {listed(report.by)}."


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _date(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M")


def calls(line: Line) -> str:
    return NOTHING if line.calls is None else f"{line.calls:,}"


def spend(line: Line) -> str:
    return show_usd(line.monthly.spend) + ("*" if line.monthly.logged else "")


def offered(line: Line) -> Move:
    """What of a group may move, now or if its owners agree."""
    return total((line.moved, line.asked))


def saved(line: Line) -> str:
    """By a batch alone."""
    move = offered(line)
    return amount(move.saved) if move.moving or move.spend is not None else NOTHING


def saved_cached(line: Line) -> str:
    """By a batch that comes from a cache as far as the log shows one."""
    move = offered(line)
    return NOTHING if move.saved_cached is None else amount(move.saved_cached)


def routed(line: Line, report: Report) -> str:
    """What the assumption of the rest comes to for what of a group does not move now."""
    rest = line.monthly.realtime - line.moved.moving
    if report.rest_saving is None or rest <= 0:
        return NOTHING
    return between([int(rest * share) for share in report.rest_saving])


def between(amounts: Sequence[int]) -> str:
    low, high = amounts
    return show_usd(low) if low == high else f"{show_usd(low)} to {show_usd(high)}"


def _percent(low: Fraction, high: Fraction) -> str:
    return f"{float(low):.0%}" if low == high else f"{float(low):.0%} to {float(high):.0%}"


def sum_cells(one: Sum) -> list[str]:
    """A line of `sums`: the verdict, how many groups and calls, what they cost, and what could be saved."""
    return [
        one.verdict.value,
        f"{one.groups:,}",
        NOTHING if one.calls is None else f"{one.calls:,}",
        show_usd(one.spend),
        NOTHING if one.saved is None else amount(one.saved),
        NOTHING if one.cached is None else amount(one.cached),
    ]


def sums(report: Report) -> list[Sum]:
    """By verdict, those that there are, of the parts that were judged."""
    parts = [part for line in report.lines for part in line.parts]
    found: list[Sum] = []
    for verdict in ORDER:
        lines = [part for part in parts if part.verdict is verdict]
        if not lines:
            continue
        move = total(part.monthly for part in lines)
        counts = [part.calls for part in lines]
        open_ = verdict in {Verdict.BATCH, Verdict.ASK}
        found.append(
            Sum(
                verdict,
                len(lines),
                None if None in counts else sum(count or 0 for count in counts),
                move.spend,
                move.saved if open_ else None,
                move.saved_cached if open_ else None,
            )
        )
    return found


def kinds(report: Report) -> str:
    """What the sums count: groups, or what they were put together from."""
    return "groups" if all(len(line.parts) == 1 for line in report.lines) else "parts"


def conclusion(report: Report) -> list[str]:
    """What it comes to, in sentences."""
    whole = report.whole.realtime
    lines: list[str] = []
    if report.whole.spend is None:
        lines.append("What these calls cost is unknown: neither the price book nor the logs know a price.")
        return lines
    month = " a month" if report.days is not None else ""
    now, later = report.moved.best or 0, report.asked.best or 0
    if not report.moved.moving:
        lines.append(f"Nothing of the {show_usd(whole)}{month} for real time is sure to be able to wait.")
    else:
        share = f" ({float(Fraction(now, whole)):.0%})" if whole else ""
        lines.append(
            f"Of {show_usd(whole)}{month} for real time, batches would save {show_usd(now)}{share} now."
        )
    if later > 0:
        lines.append(f"If the owners agree, up to {show_usd(later)} more.")
    if report.whole.done:
        lines.append(
            f"{show_usd(report.whole.done)}{month} goes in batches or flex already, and is in no saving."
        )
    if report.rest is not None and report.rest_saving is not None:
        lines.append(
            f"If the rest saved {_percent(*report.rest_saving)} another way, which is an assumption and nothing that "
            f"the log shows: {between(report.rest.rest)} more, and {between(report.rest.total)} in all, "
            f"{_percent(*report.rest.shares)} of the bill."
        )
    if report.billed is not None:
        lines.append(f"The bills among the logs come to {show_usd(report.billed)}{month}.")
    return lines


def unsaid(report: Report) -> tuple[str, ...]:
    """What the log does not say of any group."""
    everywhere = [line.judgement.unknown for line in report.lines]
    common = set[str].intersection(*map(set, everywhere))
    return tuple(words for words in everywhere[0] if words in common)


def own_unsaid(line: Line, common: Iterable[str]) -> tuple[str, ...]:
    """What it does not say of this group, though of others."""
    known = set(common)
    return tuple(words for words in line.judgement.unknown if words not in known)


def faults(report: Report) -> list[str]:
    """What could not be read, log by log."""
    return [_fault(log) for log in report.logs if log.unreadable]


def _fault(log: Log) -> str:
    return (
        f"{log.name}: {log.unreadable:,} of {log.rows:,} rows could not be read, and are in no figure: "
        + ("; ".join(log.faults) + ("; ..." if log.unreadable > len(log.faults) else "."))
    )


def sentence(reasons: Sequence[str]) -> str:
    """Reasons as one text."""
    text = ""
    for reason in reasons:
        if not text or text.endswith("?"):
            text += f"{' ' if text else ''}{reason[:1].upper()}{reason[1:]}"
        else:
            text += f"; {reason}"
    return text if text.endswith("?") else f"{text}."


def missing(line: Line, common: Iterable[str]) -> str | None:
    """What would help to decide, where somebody has to be asked."""
    own = own_unsaid(line, common) if line.verdict is Verdict.ASK else ()
    return f"Not in the log: {', '.join(own)}." if own else None


def beside(report: Report) -> list[str]:
    """What somebody should know beside the figures."""
    common = unsaid(report)
    said = [f"What the log does not say of any group: {', '.join(common)}."] if common else []
    return [*said, *report.notes, *faults(report)]


def amount(pico: int | None) -> str:
    """With the sign before the dollar."""
    return f"-{show_usd(-pico)}" if pico is not None and pico < 0 else show_usd(pico)


def hidden(report: Report, top: int | None) -> str | None:
    """What `--top` leaves out."""
    rest = report.lines[top:] if top is not None else ()
    if not rest:
        return None
    many = f"{len(rest):,} more groups" if len(rest) > 1 else "One more group"
    return f"{many}, {show_usd(total(line.monthly for line in rest).spend)} in all, not shown here and in the sums."


# ---------------------------------------------------------------- for programs


def as_json(report: Report, top: int | None) -> str:
    """One object on a line. Money in USD as exact decimal text, null where unknown."""
    rest = report.rest
    value: dict[str, Any] = {
        "logs": [
            {
                "name": log.name,
                "format": log.format,
                "rows": log.rows,
                "not_calls": log.aside,
                "unreadable": log.unreadable,
                "faults": log.faults,
            }
            for log in report.logs
        ],
        "by": report.by,
        "first": _iso(report.first),
        "last": _iso(report.last),
        "days": None if report.days is None else float(report.days),
        "calls": report.calls if report.counted else None,
        "tags": report.tags,
        "notes": report.notes,
        "month": {
            "spend_usd": money(report.whole.spend),
            "already_batch_usd": usd(report.whole.done),
            "spend_by_the_log_usd": usd(report.whole.logged),
            "calls_without_a_price": report.whole.unpriced,
            "batch_now": _amounts(report.moved),
            "ask_the_owner": _amounts(report.asked),
            "bills_usd": money(report.billed),
            "rest_saving": None if report.rest_saving is None else list(map(float, report.rest_saving)),
            "rest_saved_usd": None if rest is None else list(map(usd, rest.rest)),
            "saved_with_rest_usd": None if rest is None else list(map(usd, rest.total)),
        },
        "groups": [_group(line, report) for line in shown(report, top)],
    }
    return msgspec.json.encode(value).decode() + "\n"


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat()


def _amounts(move: Move) -> dict[str, Any]:
    return {
        "spend_usd": money(move.spend),
        "already_batch_usd": usd(move.done),
        "movable_usd": usd(move.moving),
        "batch_saves_usd": money(move.saved),
        "batch_with_caching_saves_usd": money(move.saved_cached),
        "spend_by_the_log_usd": usd(move.logged),
        "calls_without_a_price": move.unpriced,
        "calls_without_a_batch_price": move.unmovable,
    }


def _group(line: Line, report: Report) -> dict[str, Any]:
    usage = line.usage
    return {
        "by": dict(zip(report.by, line.keys, strict=True)),
        "verdict": line.verdict.value,
        "reasons": line.judgement.reasons,
        "unknown": line.judgement.unknown,
        "calls": line.calls,
        "models": line.models[:20],
        "input_tokens": usage.total_input,
        "cached_tokens": usage.cached,
        "cache_write_tokens": usage.write_5m + usage.write_1h,
        "output_tokens": usage.output,
        "spend_usd": money(line.found.spend),
        "month": _amounts(line.monthly),
        "batch_now": _amounts(line.moved),
        "ask_the_owner": _amounts(line.asked),
        "week": line.week,
        "parts": [
            {
                "name": part.keys[len(report.by) :],
                "verdict": part.verdict.value,
                "reasons": part.judgement.reasons,
                "calls": part.calls,
                "month": _amounts(part.monthly),
            }
            for part in line.parts[:100]
        ]
        if len(line.parts) > 1
        else [],
    }
