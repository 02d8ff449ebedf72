"""Prompt caching beside batches: whether marking what rows share pays, by the sum. Pure.

What a provider caches it sells again at a tenth of the price, and what is written to the cache costs a quarter more
(kept for five minutes) or twice as much (for an hour). Rows of one batch mostly do not see what others of it have
written: of every batch a few rows go first, which write, and then the others, which read. What all rows of a job share
two of them write; what the rows of a group share and others do not (a document, say, about which each asks something
else), a row or two of the group.
"""

import re
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from halfrate.base.errors import UsageError
from halfrate.base.money import show_usd
from halfrate.base.types import CacheRules, Price

Cache: TypeAlias = Literal["auto", "off", "5m", "1h"]
Life: TypeAlias = Literal["5m", "1h"]

SEED: Final = 2
"""Rows of a batch that go first and warm the cache: one would do, and may fail."""
Hits: TypeAlias = Mapping[tuple[bool, Life], float]
"""The share of rows that find the cache warm, of those that can, by whether they go in a batch and how long it is kept.
"""
HITS: Final[Hits] = {
    (True, "1h"): 0.9,
    (True, "5m"): 0.2,
    (False, "1h"): 0.9,
    (False, "5m"): 0.9,
}
"""What is counted on before anything is known. Of batches 30 to 98 % are documented (Anthropic's guide to batch
processing, 2026-09), and 100 % were seen after a batch that went first, none without one; five minutes are mostly over
before the rest begins."""
_LARGE: Final = 50
"""Rows from which on a group has as many leaders: should one fail in fifty, a second costs less than to go without."""
_WORTH: Final = 0.05
"""The least share of what the shared part costs that makes it worth while to wait for one batch more."""


class CachePlan(msgspec.Struct, frozen=True):
    """What to do. Picodollars.

    `life`: how long what is marked is kept, None where nothing is. `shared`: tokens of every row that are marked.
    `grouped`: rows that share more than that with some others, in `groups`; `fewest`: rows that a group must have for
    it. `first`: rows that go before the others of their batches, and write. `saves`: what all that should save, less
    than nothing where it would cost more; `most`, where all of the others find the cache warm. `risk`: what it costs
    more where none does. `readable`: tokens that are read from the cache where all find it warm. `seen`: it goes by
    what caches did for earlier jobs.
    """

    life: Life | None = None
    shared: int = 0
    first: int = 0
    saves: int = 0
    most: int = 0
    risk: int = 0
    groups: int = 0
    grouped: int = 0
    fewest: int = 0
    readable: int = 0
    seen: bool = False

    @property
    def hoped(self) -> int:
        """What it should save and has never been seen to, which no budget counts on."""
        return 0 if self.seen else max(0, self.saves)


def least_of(rules: CacheRules, model: str) -> int:
    """How many tokens a part must have at least to be cached."""
    return next((tokens for pattern, tokens in rules.least if re.search(pattern, model)), 0)


def weigh(
    price: Price | None,
    rows: int,
    shared: int,
    life: Life,
    *,
    batched: bool,
    least: int,
    hits: Hits = HITS,
    first: int = SEED,
) -> CachePlan | None:
    """What keeping `shared` tokens of every row cached for `life` comes to. None where a price is unknown.

    `least`: the provider caches nothing shorter. `first`: rows that write, of all batches together.
    """
    first = min(first if batched else 1, rows)
    if shared < least or rows <= first:
        return CachePlan()
    if price is None:
        return None
    rates = price.rates
    written = rates.write_1h if life == "1h" else rates.write_5m
    if rates.input is None or rates.cached is None or written is None:
        return None
    plain, kept = rates.input - written, written - rates.cached

    def saved(warm: int) -> int:
        return shared * (rows * plain + warm * kept)

    return CachePlan(
        life,
        shared,
        first if batched else 0,
        saves=saved(round((rows - first) * hits[batched, life])),
        most=saved(rows - first),
        risk=-saved(0),
        readable=(rows - first) * shared,
    )


Groups: TypeAlias = Mapping[tuple[float, int], int]
"""How many groups there are of (tokens that its rows share and others do not, rows). All rows of a group are in one
batch: what is in several counts as several."""


def leaders_of(rows: int) -> int:
    """How many rows of a group go first."""
    return SEED if rows >= _LARGE else 1


def weigh_groups(
    price: Price | None, groups: Groups, life: Life, before: int, *, least: int, hits: Hits = HITS
) -> CachePlan:
    """What keeping what groups share cached for `life` comes to, for those for which it pays.

    `before`: tokens that stand before it in every row, and are not marked by themselves.
    """
    rates = price.rates if price is not None else None
    written = None if rates is None else rates.write_1h if life == "1h" else rates.write_5m
    if rates is None or written is None or rates.input is None or rates.cached is None:
        return CachePlan()
    plain, kept = rates.input - written, written - rates.cached
    # It is the same for a token, however many tokens there are.
    each = {rows: rows * plain + hits[True, life] * (rows - leaders_of(rows)) * kept for _, rows in groups}
    pays = {rows for rows, saves in each.items() if saves > _WORTH * rows * rates.input}
    worth = {group: many for group, many in groups.items() if group[1] in pays and group[0] + before >= least}
    if not worth:
        return CachePlan()
    sums = [0.0, 0.0, 0.0, 0.0]
    for (shared, rows), many in worth.items():
        tokens = many * (shared + before)
        sums[0] += tokens * each[rows]
        sums[1] += tokens * (rows * plain + (rows - leaders_of(rows)) * kept)
        sums[2] -= tokens * rows * plain
        sums[3] += tokens * (rows - leaders_of(rows))
    saves, most, risk, readable = map(round, sums)
    grouped = sum(rows * many for (_, rows), many in worth.items())
    return CachePlan(
        life,
        first=sum(leaders_of(rows) * many for (_, rows), many in worth.items()),
        saves=saves,
        most=most,
        risk=risk,
        groups=sum(worth.values()),
        grouped=grouped,
        fewest=min(pays),
        readable=readable,
    )


def _both(plan: CachePlan, groups: CachePlan) -> CachePlan:
    """What all rows share, and what groups share beside it."""
    return msgspec.structs.replace(
        groups,
        life=plan.life or groups.life,
        shared=plan.shared,
        first=max(plan.first, groups.first),
        saves=plan.saves + groups.saves,
        most=plan.most + groups.most,
        risk=plan.risk + groups.risk,
        readable=plan.readable + groups.readable,
    )


def part_of(plan: CachePlan, left: int, rows: int) -> CachePlan:
    """What a plan for so many rows comes to for those that are left. Those that write go first."""
    first = min(plan.first, max(0, rows - 1))
    lost = plan.risk * first // max(1, rows)
    ahead = max(0, first - (rows - left))

    def part(saves: int) -> int:
        reading = (saves + lost) * (left - ahead) // max(1, rows - first)
        return reading - lost * ahead // max(1, first)

    return msgspec.structs.replace(
        plan, saves=part(plan.saves), most=part(plan.most), risk=plan.risk * left // max(1, rows)
    )


def choose(
    wanted: Cache,
    price: Price | None,
    rows: int,
    shared: int,
    *,
    batched: bool,
    least: int,
    hurried: bool,
    groups: Groups | None = None,
    tokens: int = 0,
    batches: int = 1,
    hits: Hits = HITS,
) -> CachePlan:
    """What to do about caching. Raises UsageError where what was asked for would cost more, or cannot be reckoned.

    `hurried`: there is a deadline, and no time for rows that go first. `tokens`: of all rows, of which groups must save
    a part that is worth waiting for. `batches`: of the job.
    """
    if wanted == "off" or (wanted == "auto" and hurried and batched):
        return CachePlan()
    if hurried and batched:
        raise UsageError(
            f"--cache {wanted} sends a few rows first, for which the others wait, and there is a deadline. Leave "
            "one of the two out. Nothing was sent."
        )
    lives: tuple[Life, ...] = ("1h", "5m") if wanted == "auto" else (wanted,)
    worth = _WORTH * tokens * _input(price) if wanted == "auto" else 0.0
    plans = [
        _with_groups(
            price,
            rows,
            shared,
            life,
            groups or {},
            batched=batched,
            least=least,
            worth=worth,
            hits=hits,
            first=SEED * batches,
        )
        for life in lives
    ]
    chosen = max(plans, key=lambda plan: plan.saves)
    if wanted == "auto" or chosen.life is not None:
        return chosen
    best = weigh(price, rows, shared, lives[0], batched=batched, least=least, hits=hits, first=SEED * batches)
    if best is None:
        raise UsageError(
            f"What a cache costs at this model is unknown, so --cache {wanted} cannot be reckoned. Leave it out, or "
            "note the prices with `halfrate price set`. Nothing was sent."
        )
    if best.life is None:
        raise UsageError(
            f"{rows:,} rows share about {shared:,} tokens, and fewer than {least:,} are not cached: --cache {wanted} "
            "would do nothing. Nothing was sent."
        )
    if best.saves < 0:
        raise UsageError(
            f"--cache {wanted} would cost about {show_usd(-best.saves)} more than it saves: {rows:,} rows share about "
            f"{shared:,} tokens, and {hits[batched, best.life]:.0%} of them are counted on to find the cache warm. "
            "Leave it out, or say --cache auto. Nothing was sent."
        )
    return best


def _with_groups(
    price: Price | None,
    rows: int,
    shared: int,
    life: Life,
    groups: Groups,
    *,
    batched: bool,
    least: int,
    worth: float,
    hits: Hits,
    first: int,
) -> CachePlan:
    """All that pays of what can be kept for `life`. `worth`: what groups must save more than."""

    def plain(first: int) -> CachePlan:
        plan = weigh(price, rows, shared, life, batched=batched, least=least, hits=hits, first=first)
        pays = plan is not None and plan.saves > _WORTH * shared * rows * _input(price)
        return plan if plan is not None and pays else CachePlan()

    plan = plain(first)
    beside = weigh_groups(price, groups, life, shared - plan.shared, least=least - plan.shared, hits=hits)
    if beside.saves <= worth:
        return plan
    # Where groups are warmed, more rows write what all share.
    more = plain(max(first, beside.first))
    return _both(more if more.shared else plan, beside)


def _input(price: Price | None) -> int:
    return price.rates.input or 0 if price is not None else 0
