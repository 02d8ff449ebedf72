"""A share of the rounds, as one of several processes plays it. What a process is started for must not stand in
`__main__`, which it would not find there."""

from .rounds import Tally, play
from .stage import Stage


def carry(seed: str, kinds: list[str], numbers: range) -> dict[str, Tally]:
    """Play these rounds, the kinds in turn. Ctrl-C leaves early, with what there is."""
    tallies = {kind: Tally() for kind in kinds}
    with Stage() as stage:
        try:
            for number in numbers:
                kind = kinds[number % len(kinds)]
                tally = play(stage, kind, f"{seed}/{number}")
                tallies[kind].add(tally)
                for broken in tally.broken:
                    print(f"BROKEN {kind}: {broken}", flush=True)
        except KeyboardInterrupt:
            print("left early")
    return tallies
