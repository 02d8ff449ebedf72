"""A gateway that is killed while callers wait on the line: they ask again under their own keys, and pay once."""

import asyncio
import json
import os
import random
import signal
from typing import Any

import openai
import pytest

from ..cli.shell import Shell
from .test_gateway_kills import Served, shell

__all__ = ["shell"]

pytestmark = [pytest.mark.kill, pytest.mark.timeout(400)]

CALLS = 1_000
KILLS = 3


async def insist(client: openai.AsyncOpenAI, number: int) -> tuple[str, str]:
    """One call, asked again until it is answered: its answer, and what was paid."""
    messages: Any = [{"role": "user", "content": f"Parcel {number}"}]
    headers = {"halfrate-deadline": "8h", "idempotency-key": f"parcel-{number}"}
    for _ in range(600):
        try:
            raw = await client.chat.completions.with_raw_response.create(
                model="gpt-4.1-mini", messages=messages, extra_headers=headers
            )
        except openai.APIConnectionError:
            await asyncio.sleep(0.2)
            continue
        return raw.parse().choices[0].message.content or "", raw.headers["x-halfrate-tier"]
    raise AssertionError("the gateway did not come back")


def test_callers_who_wait_through_kills_are_all_answered_and_pay_once(shell: Shell) -> None:
    draw = random.Random(int(os.environ.get("KILL_SEED", "1")))
    key = shell("keys", "create", "me").out.strip()
    shell.env["HALFRATE_GATHER"] = "1"
    served = Served(shell)
    served.start()

    async def kill() -> None:
        for _ in range(KILLS):
            await asyncio.sleep(draw.uniform(0.5, 4.0))
            await asyncio.to_thread(served.end, signal.SIGKILL)
            await asyncio.to_thread(served.start)

    async def ask() -> list[tuple[str, str]]:
        async with openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{served.port}/v1", api_key=key, max_retries=0
        ) as client:
            killing = asyncio.create_task(kill())
            answers = await asyncio.gather(*(insist(client, number) for number in range(CALLS)))
            await killing
        return answers

    answers = asyncio.run(ask())
    assert served.end(signal.SIGTERM) == 0
    for number, (text, tier) in enumerate(answers):
        assert f"Parcel {number}”" in text
        assert tier == "batch"
    meter = shell.meter()
    assert meter["fingerprints_billed_again"] == 0
    assert (meter["rows_billed"], meter["realtime_billed"]) == (CALLS, 0)
    (paid,) = json.loads(shell("cost", "--by", "team", "--json").out)
    assert paid["rows"] == CALLS
    assert "defect" not in served.log()
