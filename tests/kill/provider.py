"""The providers, as a process of their own: run as a script, `provider.py <seed> <speed> <since>`.

It says its URL, and serves until it is ended.
"""

import asyncio
import sys

import msgspec
from hours import Hours
from parent import while_it_lives

from halfrate.emulator import Emulator, Pace, run_server

# Slow enough for a batch to be met in each of its states.
PACE = Pace(validate=0.2, queue=0.2, per_1000_rows=25.0, finalize=0.2, cancel=0.3)


def main(seed: str, speed: str, since: str) -> None:
    times = msgspec.structs.asdict(PACE)
    pace = Pace(**{name: seconds * float(speed) for name, seconds in times.items()})
    with Emulator(seed=int(seed), clock=Hours(speed, since), pace=pace) as emulator:
        asyncio.run(while_it_lives(run_server(emulator, ready=lambda url: print(url, flush=True))))


if __name__ == "__main__":
    main(*sys.argv[1:])
