"""`halfrate forecast`: what a job should cost, and nothing is sent."""

from typing import Any, Final

import click

from halfrate.base.money import show_usd
from halfrate.cli.asking import asked, asking
from halfrate.cli.text import cache_line, echo_json, echo_table, money
from halfrate.core.caching import CachePlan
from halfrate.core.estimates import Basis
from halfrate.core.job import Forecast, Job
from halfrate.service.drafts import Ask
from halfrate.service.home import Home
from halfrate.service.jobs import Service

LEARNED: Final[dict[Basis, str]] = {
    "prompt": "earlier rows of the same prompt",
    "model": "other prompts to the same model",
    "nothing": "no earlier job of this model: a guess",
}
_TIERS: Final = {"batch": "in a batch", "flex": "flex", "standard": "in real time", "priority": "priority"}


@click.command(short_help="Say what a job should cost, and send nothing.")
@asking
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def forecast(as_json: bool, **what: Any) -> int:
    """Say what `halfrate run` with the same options should cost, in each tier, and send nothing.

    It goes by what earlier jobs took: of the same prompt, else of the same model. The range should hold nine times
    in ten; `halfrate cost --forecasts` says how often it did.
    """
    with Service(Home.from_environment()) as service:
        draft = service.draft(Ask(**asked(**what)))
        try:
            found = service.tier_forecasts(draft)
        finally:
            draft.discard()
    job, most = draft.job, draft.ceiling
    if as_json:
        echo_json(_object(job, found, most))
        return 0
    first = next(iter(found.values()), job.forecast)
    batches = len(draft.shards)
    way = f", {batches} batch{'es' if batches != 1 else ''}" if job.tier == "batch" else ""
    click.echo(f"{job.rows:,} rows of {job.input_name} for {job.label}{way}")
    click.echo(f"about {first.input_tokens:,} tokens in and {first.output_tokens:,} out")
    counted = "; tokens in are counted" if job.counted_tokens is not None and first.basis != "prompt" else ""
    click.echo(f"learned from {LEARNED[first.basis]}{counted}\n")
    if not found:
        click.echo("The price of this model is not in the price book: what it will cost is unknown.")
        return 0
    rows = [
        (_TIERS[tier], show_usd(one.cost), f"{show_usd(one.cost_low)} to {show_usd(one.cost_high)}")
        for tier, one in found.items()
    ]
    echo_table(("", "likely", "nine times in ten"), rows, right=(1, 2))
    if job.cache.life is not None:
        click.echo(f"\n{cache_line(job.cache)}")
    return 0


def _object(job: Job, found: dict[str, Forecast], most: Forecast) -> dict[str, Any]:
    return {
        "model": job.label,
        "rows": job.rows,
        "input_tokens": job.forecast.input_tokens,
        "output_tokens": job.forecast.output_tokens,
        "basis": job.forecast.basis,
        "counted_tokens": job.counted_tokens,
        "tiers": {
            tier: {
                "cost_usd": money(one.cost),
                "low_usd": money(one.cost_low),
                "high_usd": money(one.cost_high),
            }
            for tier, one in found.items()
        },
        "most_usd": money(most.cost),
        "cache": _cache(job.cache),
    }


def _cache(plan: CachePlan) -> dict[str, Any] | None:
    if plan.life is None:
        return None
    return {
        "kept": plan.life,
        "tokens_of_every_row": plan.shared,
        "grouped_rows": plan.grouped,
        "groups": plan.groups,
        "saves_usd": money(plan.saves),
    }
