"""What the command says about jobs, in words and figures."""

import datetime
import math
from typing import IO, Any

import click
import msgspec

from halfrate.base.money import show_usd, usd
from halfrate.core.budgets import Standing
from halfrate.core.caching import CachePlan
from halfrate.core.finish import Finish
from halfrate.core.job import Forecast, Job
from halfrate.core.lifecycle import Shard, State
from halfrate.service.report import Prospect, Report


def echo_json(value: object) -> None:
    """Print one line for a program to read."""
    click.echo(msgspec.json.encode(value).decode())


def echo_table(
    head: tuple[str, ...],
    rows: list[tuple[str, ...]],
    *,
    right: "range | tuple[int, ...]" = (),
    file: IO[str] | None = None,
) -> None:
    """Print lines under a head, in columns as wide as they need. `right`: columns of numbers."""
    widths = [max(len(line[i]) for line in (head, *rows)) for i in range(len(head))]
    for line in (head, *rows):
        cells = [
            text.rjust(width) if i in right else text.ljust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip(), file=file)


def plan_lines(job: Job, batches: int, prospect: Prospect | None = None) -> list[str]:
    """What is about to be sent, what it should cost, and whether it should be there in time."""
    plan = job.forecast
    tokens = f"about {plan.input_tokens:,} tokens in and {plan.output_tokens:,} out"
    if job.tier == "batch":
        prices = f"{show_usd(plan.cost)} in batch{_range(plan)}, {show_usd(plan.realtime_cost)} in real time"
        way = f"in {batches} batch{'es' if batches != 1 else ''}"
    else:
        prices = f"{show_usd(plan.cost)}{_range(plan)}, {job.tier} tier"
        way = "in real time"
    lines = [
        f"{job.rows:,} rows of {job.input_name} for {job.label}, {way}",
        f"{tokens}: {prices}",
    ]
    if job.cache.life is not None:
        lines.append(cache_line(job.cache))
    if plan.cost is None:
        lines.append("The price of this model is not in the price book: what it will cost is unknown.")
    if prospect is not None:
        if prospect.at_once:
            many = "All" if prospect.at_once == job.rows else f"{prospect.at_once:,}"
            price = "at the price of a batch" if prospect.tier == "flex" else "at the price of real time"
            lines.append(
                f"{many} rows go out in real time at once, {price}: too late for a batch, or too few."
            )
        lines.extend(expected_lines(prospect.finish, job.deadline))
    return lines


def cache_line(cache: CachePlan) -> str:
    """What is kept in the provider's cache, what that should save, and what goes first for it."""
    shared = f"About {cache.shared:,} tokens of every row"
    grouped = f"beginnings that {cache.grouped:,} rows share in {cache.groups:,} groups"
    if not cache.groups:
        what, first = shared, "Two rows of each batch go first and warm it." if cache.first else ""
    elif not cache.shared:
        what, first = grouped.capitalize(), "A row or two of each group go first and warm it."
    else:
        what = f"{shared}, and {grouped},"
        first = "A row or two of each group go first and warm it."
    kept = "an hour" if cache.life == "1h" else "five minutes"
    return f"{what} are kept cached for {kept}: that should save {show_usd(cache.saves)}. {first}".rstrip()


def _range(plan: Forecast) -> str:
    if plan.cost_low is None or plan.cost_high is None:
        return ""
    return f" ({show_usd(plan.cost_low)} to {show_usd(plan.cost_high)})"


def warning_lines(budgets: list[Standing], asked: int | None) -> list[str]:
    """Budgets that warn of a job which should cost `asked`."""
    warned = [one for one in budgets if one.warns(asked or 0) and not one.stops(asked)]
    return [f"Budget warning: with this job, {one.plus(asked or 0).text()}." for one in warned]


def held_lines(budgets: list[Standing], job: Job) -> list[str]:
    """What a job waits for."""
    if job.forecast.cost is None:
        # It was taken on before the budget was.
        why = "Waiting, since what the rest of this job costs is unknown and a budget stops that"
    else:
        why = "Waiting for room in a budget"
    return [f"{why}: {one.text()}." for one in budgets]


def clock(at: float) -> str:
    """A time of day here, with its date where that is not today."""
    moment = datetime.datetime.fromtimestamp(at).astimezone()
    today = datetime.datetime.now().astimezone().date()
    return moment.strftime("%H:%M" if moment.date() == today else "%Y-%m-%d %H:%M")


def span(seconds: float) -> str:
    """A length of time, as in `3 s`, `4 min`, `2 h 10 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def summary_lines(report: Report, path: str | None, wall: float | None = None) -> list[str]:
    """How a job ended."""
    job = report.job
    took = f" in {span(wall)}" if wall is not None else ""
    lines = [f"{report.succeeded:,} of {job.rows:,} rows answered{took}."]
    parts = [
        f"{count:,} {name}"
        for name, count in (
            ("failed", report.failed),
            ("expired", report.expired),
            ("cancelled", report.cancelled),
            ("still to come", report.waiting),
        )
        if count
    ]
    if parts:
        lines.append(f"{', '.join(parts)}:" if report.errors else f"{', '.join(parts)}.")
        lines += [f"  {count:,} x {text}" for text, count in report.errors[:8]]
        if len(report.errors) > 8:
            lines.append(f"  and {len(report.errors) - 8} other reasons")
    for text in report.stopped:
        lines.append(f"Stopped: {text}")
    lines.append(money_line(report))
    if report.rescued and report.job.tier == "batch":
        lines.append(
            f"{report.rescued:,} rows were run in real time for the deadline's sake: {show_usd(report.rescue_cost)} "
            "of that."
        )
    if report.doubts:
        lines.append(
            f"{report.doubts:,} calls ended without a reply that could be read, and may have been billed beside that."
        )
    odd = [
        f"{count:,} {name}"
        for name, count in (
            ("repeated", report.duplicates),
            ("with unknown ids", report.unknown_lines),
            ("unreadable", report.malformed_lines),
        )
        if count
    ]
    if odd:
        lines.append(f"Result lines set aside: {', '.join(odd)}.")
    if path is not None:
        lines.append(f"Written to {path}")
    return lines


def money_line(report: Report) -> str:
    """Paid, the realtime price, and the difference."""
    if report.cost is None:
        usage = report.usage
        return (
            f"Paid: unknown ({usage.total_input:,} tokens in, {usage.output:,} out; the price of this model is "
            "not in the price book)."
        )
    line = f"Paid {show_usd(report.cost)}"
    if report.saved is not None and report.realtime_cost:
        share = report.saved / report.realtime_cost
        line += (
            f"; in real time it would have been {show_usd(report.realtime_cost)}: "
            f"saved {show_usd(report.saved)} ({share:.0%})"
        )
    if report.cache_saved:
        word = "saved" if report.cache_saved > 0 else "cost"
        line += f", and caching {word} {show_usd(abs(report.cache_saved))} more"
    if report.waste:
        line += f". Of that {show_usd(report.waste)} bought nothing"
    return line + "."


def next_steps(report: Report) -> list[str]:
    """Commands worth trying now."""
    job = report.job.id
    if report.waiting:
        return [f"halfrate attach {job}"]
    steps: list[str] = []
    if report.unsuccessful:
        others = "other row" if report.unsuccessful == 1 else f"{report.unsuccessful:,} other rows"
        steps.append(f"halfrate retry {job}     sends the {others} again")
    return steps


def report_object(report: Report, path: str | None) -> dict[str, Any]:
    """The object that --json prints. Money in USD as exact decimal text, null where unknown."""
    return {
        "job": report.job.id,
        "state": report.job.state,
        "rows": report.job.rows,
        "succeeded": report.succeeded,
        "failed": report.failed,
        "expired": report.expired,
        "cancelled": report.cancelled,
        "waiting": report.waiting,
        "errors": [{"error": text, "rows": count} for text, count in report.errors],
        "stopped": list(report.stopped),
        "paused_because": report.paused_because,
        "result_lines_set_aside": {
            "repeated": report.duplicates,
            "unknown_ids": report.unknown_lines,
            "unreadable": report.malformed_lines,
        },
        "input_tokens": report.usage.total_input,
        "cached_tokens": report.usage.cached,
        "output_tokens": report.usage.output,
        "cost_usd": money(report.cost),
        "realtime_cost_usd": money(report.realtime_cost),
        "saved_usd": money(report.saved),
        "cache_saved_usd": money(report.cache_saved),
        "waste_usd": money(report.waste),
        "rescued_rows": report.rescued,
        "rescue_usd": money(report.rescue_cost),
        "calls_in_doubt": report.doubts,
        "tags": report.job.tags,
        "output": path,
    }


def expected_lines(finish: Finish, deadline: float | None) -> list[str]:
    """When a job should be finished, and how its deadline stands."""
    lines: list[str] = []
    if math.isfinite(finish.p50):
        late = clock(finish.p90) if math.isfinite(finish.p90) else "in more than four days"
        lines.append(
            f"Expected about {clock(finish.p50)}; nine times in ten by {late}, while something works on it."
        )
    if deadline is not None and finish.in_time is not None:
        lines.append(f"Needed by {clock(deadline)}: {_odds(finish.in_time)}.")
    return lines


def _odds(chance: float) -> str:
    if chance >= 0.995:
        return "it should be there in time"
    if chance < 0.005:
        return "it will be late"
    return f"in time with a chance of {chance:.0%}"


def expected_object(finish: Finish) -> dict[str, float | None]:
    """The same for a program: seconds since 1970, null beyond four days."""
    return {
        "p50": finish.p50 if math.isfinite(finish.p50) else None,
        "p90": finish.p90 if math.isfinite(finish.p90) else None,
        "in_time": finish.in_time,
    }


def money(pico: int | None) -> str | None:
    return None if pico is None else usd(pico)


def shard_line(shard: Shard) -> str:
    """One line for a step that somebody reading a log wants to know of."""
    name = f"batch {shard.number + 1}"
    if shard.try_number > 1:
        name += f", attempt {shard.try_number}"
    if shard.state is State.DONE:
        ended = f" ({shard.status})" if shard.status else ""
        return f"{name}: done{ended}, {shard.counts.succeeded:,} of {shard.rows:,} rows answered"
    counted = f"{shard.rows_finished:,} of {shard.sending:,} rows" if shard.rows_finished else ""
    if shard.leading:
        counted = f"{counted or f'{shard.sending:,} rows'}, to warm the cache"
    words = [shard.status or shard.state.value, counted]
    if shard.trouble is not None:
        words.append(shard.trouble.message)
    return f"{name}: {'; '.join(word for word in words if word)}"
