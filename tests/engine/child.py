"""A process that runs one shard in real time over real sockets, for tests that kill it.

    python -m tests.engine.child FOLDER URL PROVIDER ROWS PAY_AGAIN

It prints its tally as JSON when it is done.
"""

import asyncio
import json
import sys
from pathlib import Path

from halfrate.base.clock import SystemClock
from halfrate.core.pacing import Pacing
from halfrate.engine.realtime import Patience, Realtime
from halfrate.providers.anthropic import Anthropic
from halfrate.providers.base import Account
from halfrate.providers.openai import OpenAI

from .made import attempt

MOST = 20
"""Calls at once."""


async def main(folder: Path, url: str, provider: str, rows: int, *, pay_again: bool) -> None:
    base = f"{url}/v1" if provider == "openai" else url
    account = Account(provider=provider, base_url=base, key="key-1")
    adapter = OpenAI(account) if provider == "openai" else Anthropic(account)
    shard = attempt(folder, adapter, account.name, rows)
    realtime = Realtime(SystemClock(), pacing=Pacing(first=8, most=MOST))
    with shard.journal() as journal:
        patience = Patience(pay_again=pay_again, commit=0.01)
        tally = await realtime.run(shard.work, journal, adapter, patience=patience)
    await adapter.close()
    print(json.dumps({"settled": tally.settled, "in_doubt": tally.in_doubt, "doubts": tally.doubts}))


if __name__ == "__main__":
    place, address, name, count, again = sys.argv[1:]
    asyncio.run(main(Path(place), address, name, int(count), pay_again=again == "yes"))
