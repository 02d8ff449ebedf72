"""Prompt caching beside batches: whether marking what rows share pays, by the sum. Pure.

What a provider caches it sells again at a tenth of the price, and what is written to the cache costs a quarter more
(kept for five minutes) or twice as much (for an hour). Rows of one batch mostly do not see what others of it have
written: the cache is warmed by a small batch that goes first, and the rest reads.
"""

import re
from typing import Final, Literal, TypeAlias

import msgspec

from halfrate.base.errors import UsageError
from halfrate.base.money import show_usd
from halfrate.base.types import CacheRules, Price

Cache: TypeAlias = Literal["auto", "off", "5m", "1h"]
Life: TypeAlias = Literal["5m", "1h"]

SEED: Final = 2
"""Rows of the batch that warms the cache: one would do, and may fail."""
HITS: Final[dict[tuple[bool, Life], float]] = {
    (True, "1h"): 0.9,
    (True, "5m"): 0.2,
    (False, "1h"): 0.9,
    (False, "5m"): 0.9,
}
"""The share of rows counted on to find the cache warm, by whether they go in a batch and how long it is kept. Of
batches 30 to 98 % are documented (Anthropic's guide to batch processing, 2026-09), and 100 % were seen after a batch
that went first, none without one; five minutes are mostly over before the rest begins."""
_WORTH: Final = 0.05
"""The least share of what the shared part costs that makes it worth while to wait for one batch more."""


class CachePlan(msgspec.Struct, frozen=True):
    """What to do. Picodollars.

    `life`: how long the `shared` tokens of every row are kept, None where they are not marked. `seed`: rows of the
    batch that goes first. `saves`: what that should save, less than nothing where it would cost more; `most`, where
    all of the others find the cache warm. `risk`: what it costs more where none does.
    """

    life: Life | None = None
    shared: int = 0
    seed: int = 0
    saves: int = 0
    most: int = 0
    risk: int = 0


def least_of(rules: CacheRules, model: str) -> int:
    """How many tokens a part must have at least to be cached."""
    return next((tokens for pattern, tokens in rules.least if re.search(pattern, model)), 0)


def weigh(
    price: Price | None, rows: int, shared: int, life: Life, *, batched: bool, least: int
) -> CachePlan | None:
    """What keeping `shared` tokens of every row cached for `life` comes to. None where a price is unknown.

    `least`: the provider caches nothing shorter.
    """
    seed = min(SEED, rows) if batched else min(1, rows)
    if shared < least or rows <= seed:
        return CachePlan()
    if price is None:
        return None
    rates = price.rates
    written = rates.write_1h if life == "1h" else rates.write_5m
    if rates.input is None or rates.cached is None or written is None:
        return None
    plain, kept = rates.input - written, written - rates.cached

    def saved(hits: int) -> int:
        return shared * (rows * plain + hits * kept)

    hits = round((rows - seed) * HITS[batched, life])
    return CachePlan(
        life, shared, seed if batched else 0, saves=saved(hits), most=saved(rows - seed), risk=-saved(0)
    )


def choose(
    wanted: Cache, price: Price | None, rows: int, shared: int, *, batched: bool, least: int, hurried: bool
) -> CachePlan:
    """What to do about caching. Raises UsageError where what was asked for would cost more, or cannot be reckoned.

    `hurried`: there is a deadline, and no time for a batch that goes first.
    """
    if wanted == "off" or (wanted == "auto" and hurried and batched):
        return CachePlan()
    if hurried and batched:
        raise UsageError(
            f"--cache {wanted} sends a small batch first, for which the others wait, and there is a deadline. Leave "
            "one of the two out. Nothing was sent."
        )
    lives: tuple[Life, ...] = ("1h", "5m") if wanted == "auto" else (wanted,)
    found = [weigh(price, rows, shared, life, batched=batched, least=least) for life in lives]
    known = [plan for plan in found if plan is not None]
    best = max(known, key=lambda plan: plan.saves, default=None)
    if wanted == "auto":
        worth = best is not None and best.saves > _WORTH * shared * rows * _input(price)
        return best if best is not None and worth else CachePlan()
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
            f"{shared:,} tokens, and {HITS[batched, best.life]:.0%} of them are counted on to find the cache warm. "
            "Leave it out, or say --cache auto. Nothing was sent."
        )
    return best


def _input(price: Price | None) -> int:
    return price.rates.input or 0 if price is not None else 0
