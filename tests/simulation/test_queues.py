"""The measure of queues, small: that it measures what it says."""

import pytest

from . import queues


@pytest.mark.timeout(300)
@pytest.mark.parametrize("knowledge", ["set", "told", "learned"])
def test_twelve_jobs_share_a_queue(knowledge: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "JOBS", 12)
    found = queues.measure(knowledge, fit=5)
    assert found.batches == 12 * queues.ROWS // queues.SHARD_ROWS
    assert (found.open_rows, found.billed_twice, found.late) == (0, 0, 0)
    assert (found.refused == 0) == (knowledge == "set")
    assert found.hours < 2 * found.floor_hours
