"""Whose batch it is: what is made of results in which ids are missing, strange, or another's."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from halfrate.providers.anthropic import Anthropic
from halfrate.providers.base import Account, Intent, Lookup

from .wire import Asked, reply, wire

TAG = "hr-k3v9x2m4qp-0-1"
PREFIX = "k3v9x2m4qp-0-1-"


def look(results: list[dict[str, Any]], rows: int) -> Lookup:
    """What a look-up makes of one batch of so many rows, with these results."""
    batch = {
        "id": "msgbatch_1",
        "processing_status": "ended",
        "created_at": "2026-11-22T09:00:00Z",
        "request_counts": {"succeeded": rows},
        "results_url": "https://somewhere/results",
    }

    def answer(asked: Asked) -> bytes:
        if "/results" in asked.head.partition("\r\n")[0]:
            return reply("".join(json.dumps(line) + "\n" for line in results).encode())
        return reply(json.dumps({"data": [batch], "has_more": False}).encode())

    async def run(url: str) -> Lookup:
        adapter = Anthropic(Account(provider="anthropic", base_url=url, key="k"))
        intent = Intent(
            tag=TAG,
            endpoint="messages",
            model="m",
            requests=Path("none"),
            rows=rows,
            made_at=1.0,
            row_prefix=PREFIX,
        )
        try:
            return await adapter.find(intent, 2e9)
        finally:
            await adapter.close()

    with wire(answer) as server:
        return asyncio.run(run(server.url))


OURS = {"custom_id": f"{PREFIX}0"}
THEIRS = {"custom_id": "order-7"}
NAMELESS = {"result": {"type": "succeeded"}}


@pytest.mark.parametrize(
    ("results", "rows"),
    [
        ([OURS, OURS], 2),
        # One is proof.
        ([THEIRS, OURS], 2),
        # Nobody's: looked through before it is let go.
        ([NAMELESS, NAMELESS], 2),
        # A line more than there are rows is of none of them.
        ([NAMELESS, THEIRS], 1),
        ([NAMELESS, NAMELESS, THEIRS], 2),
    ],
)
def test_a_batch_that_may_be_ours_is_looked_through(results: list[dict[str, Any]], rows: int) -> None:
    assert look(results, rows).found == ("msgbatch_1",)


@pytest.mark.parametrize(
    ("results", "rows"),
    [([THEIRS], 1), ([THEIRS, NAMELESS], 2), ([THEIRS, NAMELESS, THEIRS], 2)],
)
def test_a_batch_with_the_id_of_another_s_row_is_let_be(results: list[dict[str, Any]], rows: int) -> None:
    assert look(results, rows).found == ()
