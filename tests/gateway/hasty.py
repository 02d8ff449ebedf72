"""`halfrate` with leases that are short: `python -m tests.gateway.hasty serve --port 8080`.

A lease outlasts the longest wait for a paid call, and so takes minutes; a test can wait for seconds. Nothing that the
emulator is asked takes longer than that.
"""

import msgspec

from halfrate.cli.app import main
from halfrate.core.lifecycle import Policy
from halfrate.engine import loop, steps
from halfrate.gateway import deferring
from halfrate.service import batches, gathering, jobs
from halfrate.service.home import Home

LEASE = 6.0
ALIVE = 5.0


def shorten() -> None:
    whole = Home.policy

    def policy(*args: object, **options: object) -> Policy:
        made: Policy = whole(*args, **options)  # pyright: ignore[reportArgumentType]
        return msgspec.structs.replace(made, send_within=2.0, create_timeout=2.0)

    def lease(_policy: Policy) -> float:
        return LEASE

    for module, name, value in (
        (Home, "policy", policy),
        (steps, "lease", lease),
        (loop, "lease", lease),
        (batches, "_LEASE", LEASE),
        (batches, "_LATER", 1.0),
        (gathering, "_GRACE", 1.0),
        (jobs, "_ALIVE", ALIVE),
        (deferring, "_BEAT", 1.0),
        (deferring, "_LOOK", 1.0),
    ):
        assert hasattr(module, name)
        setattr(module, name, value)


if __name__ == "__main__":
    shorten()
    main()
