"""Batches of which a budget stops one job and not the other."""

from collections.abc import Callable

import pytest

from halfrate.core.budgets import Budget

from .house import House, chat, ledger_is_meter, lines_of, make, wait
from .messages import CLAUDE

pytestmark = pytest.mark.timeout(120)


def test_of_a_batch_of_openais_what_a_budget_stops_last_is_said_in_its_errors(
    house: Callable[..., House],
) -> None:
    """The first of its jobs may have been sent by then: it is delivered, and the other's rows say why not."""
    at = house()
    client = at.client(at.key()[1])
    at.service.set_budget(Budget(name="model", value=CLAUDE, stop=1))
    lines = [*chat("gpt-4.1-mini", 3), *chat(CLAUDE, 2)]
    for number, line in enumerate(lines):
        line["custom_id"] = str(number)
    batch = wait(client, make(client, lines))
    assert batch.status == "completed"
    assert {line["custom_id"] for line in lines_of(client, batch.output_file_id)} == {"0", "1", "2"}
    failed = lines_of(client, batch.error_file_id)
    assert {line["custom_id"]: line["error"]["code"] for line in failed} == dict.fromkeys(
        ("3", "4"), "budget_exceeded"
    )
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.failed) == (5, 2)
    assert at.meter()["picodollars"] != "0"
    ledger_is_meter(at)
