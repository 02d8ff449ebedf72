"""`halfrate attach JOB` for one whose hours are short: run as a script, `hasty_worker.py <job> <speed> <since>`.

A lease outlasts the longest wait for a paid call, and so takes minutes. This worker's clock runs faster than the
wall's, for all workers of a job and for their provider alike, so that a test can outwait one.
"""

import asyncio
import sys

from hours import Hours

from halfrate.base.errors import HalfrateError
from halfrate.core.lifecycle import Shard
from halfrate.service.home import Home
from halfrate.service.jobs import Service


def main(job: str, speed: str, since: str) -> int:
    hours = Hours(speed, since)

    def say(shard: Shard) -> None:
        # Should the round break a promise, this is what tells how.
        print(f"{hours.now():.2f} {shard.tag} {shard.version} is {shard.state}", file=sys.stderr, flush=True)

    try:
        with Service(Home.from_environment(), hours) as service:
            asyncio.run(service.run(job, on_step=say))
            service.conclude(job)
    except HalfrateError as error:
        print(f"halfrate: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
