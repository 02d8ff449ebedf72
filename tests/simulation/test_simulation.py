"""A few hundred runs of the simulation, and proof that it finds what it is there to find."""

import pytest

from . import machine
from .bugs import BUGS, MONEY_BUGS
from .scenario import run

FOUND_BY = {
    "no intent before the create": 40006,
    "the create sent again": 40006,
    "no time to settle": 40070,
    "a failed look-up means absent": 41408,
    "a twin forgotten": 40002,
    "no fence": 40079,
    "half a download": 40224,
    "an expired batch not harvested": 40046,
    "all rows sent again": 40032,
    "deleted too early": 40038,
    "rows counted that never came": 40011,
    "a doubled line paid twice": 40001,
    "nothing cleaned up": 40000,
    "a budget that stops nothing": 80008,
}
"""A seed that finds each mistake. A change of the scenarios changes them: look for others from any number up."""

# Each of these has broken a promise since the scenarios are what they are.
ONCE_BROKEN = (31007, 100867, 112155, 503677, 619329, 634165)
ONCE_BROKEN_ELSEWHERE = (1360,)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(0, 200, 10))
def test_every_promise_is_kept(first: int) -> None:
    broken = [(seed, outcome.broken) for seed in range(first, first + 10) if (outcome := run(seed)).broken]
    assert broken == [], "replay one with: make replay SEED=..."


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", ONCE_BROKEN)
def test_what_was_broken_once_stays_mended(seed: int) -> None:
    assert run(seed).broken is None


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(0, 60, 10))
def test_every_promise_is_kept_at_other_providers(first: int) -> None:
    seeds = range(first, first + 10)
    broken = [(seed, outcome.broken) for seed in seeds if (outcome := run(seed, others=True)).broken]
    assert broken == [], "replay one with: python -m tests.simulation --others --replay SEED"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", ONCE_BROKEN_ELSEWHERE)
def test_what_was_broken_once_at_other_providers_stays_mended(seed: int) -> None:
    assert run(seed, others=True).broken is None


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(0, 40, 5))
def test_every_promise_is_kept_under_a_budget_and_with_caches(first: int) -> None:
    seeds = range(first, first + 5)
    broken = [(seed, outcome.broken) for seed in seeds if (outcome := run(seed, money=True)).broken]
    assert broken == [], "replay one with: python -m tests.simulation --money --replay SEED"


def test_a_seed_replays_step_for_step() -> None:
    assert run(3).trace == run(3).trace


@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", [*BUGS, *MONEY_BUGS])
def test_planted_mistakes_are_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Some of them end in something that is tried for ever.
    monkeypatch.setattr(machine, "LONGEST", 12 * 86_400.0)
    with {**BUGS, **MONEY_BUGS}[bug]():
        broken = run(FOUND_BY[bug], money=bug in MONEY_BUGS).broken
    # A promise that was not kept, and not a plant that does not even run.
    assert broken is not None
    assert broken.partition(":")[0] in {"Broken", "Stuck", "IllegalStep"}
