"""A few hundred runs of the simulation, and proof that it finds what it is there to find."""

import pytest

from .bugs import BUGS
from .scenario import run

FOUND_BY = {
    "no intent before the create": 1,
    "the create sent again": 5,
    "no time to settle": 19,
    "a failed look-up means absent": 312,
    "half a download": 176,
    "an expired batch not harvested": 7,
    "all rows sent again": 0,
    "a twin forgotten": 20,
    "rows counted that never came": 2,
    "a doubled line paid twice": 16,
    "nothing cleaned up": 0,
}
"""A seed that finds each mistake. A change of the scenarios changes them: look for others from 0 up. No seed is known
yet for a store without its fence, and for results deleted too early: both take a freeze or a kill at one instant."""

# Each of these has broken a promise once.
ONCE_BROKEN = (
    2,
    7,
    105,
    169,
    260,
    301,
    438,
    447,
    457,
    464,
    475,
    500,
    691,
    703,
    781,
    875,
    901,
    924,
    986,
    1086,
    2063,
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(0, 120, 10))
def test_every_promise_is_kept(first: int) -> None:
    broken = [(seed, outcome.broken) for seed in range(first, first + 10) if (outcome := run(seed)).broken]
    assert broken == [], "replay one with: make replay SEED=..."


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", ONCE_BROKEN)
def test_what_was_broken_once_stays_mended(seed: int) -> None:
    assert run(seed).broken is None


def test_a_seed_replays_step_for_step() -> None:
    assert run(3).trace == run(3).trace


@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", FOUND_BY)
def test_planted_mistakes_are_found(bug: str) -> None:
    with BUGS[bug]():
        broken = run(FOUND_BY[bug]).broken
    # A promise that was not kept, and not a plant that does not even run.
    assert broken is not None
    assert broken.partition(":")[0] in {"Broken", "Stuck", "IllegalStep"}
