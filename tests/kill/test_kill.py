"""A round of each kind; `make kill ROUNDS=500` plays many."""

import os
import random
from collections.abc import Iterator

import pytest

from .rounds import KINDS, play
from .stage import Stage

ROUNDS = int(os.environ.get("HALFRATE_KILL_ROUNDS", "1"))
SEED = os.environ.get("HALFRATE_KILL_SEED") or str(random.SystemRandom().randrange(10**6))


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


@pytest.mark.kill
@pytest.mark.timeout(120 * ROUNDS)
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_strikes_nothing_is_lost_or_paid_twice(stage: Stage, kind: str) -> None:
    # pytest shows this where a round fails; HALFRATE_KILL_SEED draws the same rounds again.
    print(f"seed {SEED}")
    for number in range(ROUNDS):
        tally = play(stage, kind, f"{SEED}/{number}")
        assert tally.broken == []
        assert tally.lost == 0
        assert tally.billed_again == 0
