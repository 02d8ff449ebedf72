"""The log of calls in real time, and how it comes into the ledger."""

import datetime
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from halfrate.base.errors import StorageError
from halfrate.core.budgets import Budget
from halfrate.service.calls import Bookkeeper, CallLog
from halfrate.service.home import Home
from halfrate.service.jobs import Service
from halfrate.store.store import Store
from halfrate.usage.gateway import Logged, LoggedTokens, line

DAY = "2026-11-21"


def call(**fields: Any) -> Logged:
    given: dict[str, Any] = {
        "time": f"{DAY}T10:00:00.000+00:00",
        "id": "req_1",
        "account": "openai@https://api.openai.com/v1",
        "provider": "openai",
        "model": "gpt-4.1-mini",
        "tier": "standard",
        "tags": {"team": "search"},
        "tokens": LoggedTokens(input=10, cached=2, output=5),
        "cost_picodollars": 100,
        "realtime_picodollars": 100,
        "uncached_picodollars": 120,
        "status": 200,
    }
    return Logged(**(given | fields))


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = Store.open(f"sqlite:///{tmp_path / 'halfrate.db'}")
    yield opened
    opened.close()


def booked(store: Store) -> dict[tuple[str, ...], tuple[int, int | None]]:
    """(tags, tier, kind) -> rows and cost of what is in the ledger."""
    jobs = {job.id: job for job in store.paid_jobs()}
    return {
        (*(f"{k}={v}" for k, v in sorted(jobs[one.job_id].tags.items())), one.tier, one.kind): (
            one.rows,
            one.cost,
        )
        for one in store.spent()
    }


def test_calls_come_into_the_ledger_added_up_by_what_tells_them_apart(tmp_path: Path, store: Store) -> None:
    log, folder = CallLog(tmp_path / "calls"), tmp_path / "calls"
    keeper = Bookkeeper(store.calls, folder)
    for _ in range(3):
        log.add(call())
    log.add(call(tags={"team": "ads"}, cost_picodollars=7))
    log.add(call(tier="flex", cost_picodollars=50))
    log.add(call(doubt=True, cost_picodollars=None, status=504))
    # What was refused, and what went to an account of the caller's own, is no matter of the ledger.
    log.add(call(status=429, cost_picodollars=0))
    log.add(call(account=None, cost_picodollars=0))
    assert keeper.book() == 6
    assert booked(store) == {
        ("team=search", "standard", "rows"): (3, 300),
        ("team=ads", "standard", "rows"): (1, 7),
        ("team=search", "flex", "rows"): (1, 50),
        ("team=search", "standard", "doubt"): (1, None),
    }
    assert keeper.book() == 0
    log.add(call(cost_picodollars=1))
    assert keeper.book() == 1
    assert booked(store)["team=search", "standard", "rows"] == (4, 301)
    (one,) = [one for one in store.spent() if one.tier == "flex"]
    assert (one.usage.input, one.usage.cached, one.usage.output) == (10, 2, 5)
    assert (one.realtime_cost, one.uncached_cost) == (100, 120)
    log.close()


def test_an_unknown_price_makes_a_sum_unknown(tmp_path: Path, store: Store) -> None:
    log = CallLog(tmp_path / "calls")
    log.add(call())
    log.add(call(cost_picodollars=None))
    log.close()
    Bookkeeper(store.calls, tmp_path / "calls").book()
    assert booked(store) == {("team=search", "standard", "rows"): (2, None)}


def test_a_call_is_paid_on_its_own_day(tmp_path: Path, store: Store) -> None:
    log = CallLog(tmp_path / "calls")
    log.add(call(time="2026-11-20T23:59:59.999+00:00"))
    log.add(call(time="2026-11-21T00:00:00.000+00:00"))
    log.close()
    Bookkeeper(store.calls, tmp_path / "calls").book()
    days = [datetime.date(1970, 1, 1) + datetime.timedelta(days=one.day) for one in store.spent()]
    assert [day.isoformat() for day in days] == ["2026-11-20", "2026-11-21"]
    assert len(store.paid_jobs()) == 2


def test_a_line_in_part_waits_for_its_end(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "calls"
    folder.mkdir()
    whole = line(call())
    path = folder / "one.jsonl"
    path.write_bytes(whole + whole[:40])
    keeper = Bookkeeper(store.calls, folder)
    assert keeper.book() == 1
    path.write_bytes(whole + whole)
    assert keeper.book() == 1
    assert booked(store) == {("team=search", "standard", "rows"): (2, 200)}


def test_a_line_of_somebody_else_is_not_guessed_at(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "calls"
    folder.mkdir()
    (folder / "one.jsonl").write_bytes(line(call()) + b'{"cost_picodollars": "free"}\n')
    with pytest.raises(StorageError, match="no line of a log of calls"):
        Bookkeeper(store.calls, folder).book()
    assert store.spent() == []


def test_two_that_book_at_once_book_each_call_once(tmp_path: Path) -> None:
    folder = tmp_path / "calls"
    log = CallLog(folder)
    stores = [Store.open(f"sqlite:///{tmp_path / 'halfrate.db'}") for _ in range(3)]
    done = threading.Event()
    counts = [0] * len(stores)

    def work(number: int) -> None:
        keeper = Bookkeeper(stores[number].calls, folder)
        while not done.is_set():
            counts[number] += keeper.book()
        counts[number] += keeper.book()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(stores))]
    for thread in threads:
        thread.start()
    for _ in range(500):
        log.add(call())
    done.set()
    for thread in threads:
        thread.join()
    assert sum(counts) == 500
    assert booked(stores[0]) == {("team=search", "standard", "rows"): (500, 50_000)}
    log.close()
    for store in stores:
        store.close()


def test_a_long_log_is_followed_by_another(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halfrate.service.calls._MOST_BYTES", 2_000)
    folder = tmp_path / "calls"
    log = CallLog(folder)
    for _ in range(50):
        log.add(call())
    log.close()
    assert len(list(folder.iterdir())) > 5
    keeper = Bookkeeper(store.calls, folder)
    assert keeper.book() == 50
    # A month's logs are kept for audits; older ones go once they are in the ledger.
    late = folder / "late.jsonl"
    late.write_bytes(line(call()))
    now = late.stat().st_mtime
    kept = set(folder.iterdir())
    assert keeper.sweep(now + 86_400) == 0
    assert keeper.sweep(now + 40 * 86_400) == len(kept) - 1
    assert list(folder.iterdir()) == [late]
    assert keeper.book() == 1
    assert keeper.sweep(now + 40 * 86_400) == 1
    assert booked(store) == {("team=search", "standard", "rows"): (51, 5_100)}


def test_what_cannot_be_written_is_written_with_the_next(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "calls"
    folder.write_text("in the way")
    log = CallLog(folder)
    for count in (1, 2):
        with pytest.raises(StorageError, match=f"{count} calls were answered"):
            log.add(call())
    with pytest.raises(StorageError):
        log.check()
    folder.unlink()
    log.check()
    log.close()
    assert Bookkeeper(store.calls, folder).book() == 2


def test_calls_stand_in_the_way_of_no_budget_and_no_list_of_jobs(tmp_path: Path) -> None:
    with Service(Home(root=tmp_path)) as service:
        folder = tmp_path / "gateway" / "calls"
        log = CallLog(folder)
        now = datetime.datetime.now(datetime.UTC).isoformat()
        log.add(call(time=now, cost_picodollars=10**9))
        log.close()
        service.bookkeeper(folder).book()
        service.set_budget(Budget(name="team", value="search", stop=2 * 10**9))
        (standing,) = service.budgets()
        assert (standing.spent, standing.promised) == (10**9, 0)
        assert service.jobs() == []
        assert service.forecast_scores() == []
        (cost,) = service.costs(by=("team", "provider", "account"))
        assert cost.keys == ("search", "openai", "openai@https://api.openai.com/v1")


def test_the_log_is_the_one_that_audits_read(tmp_path: Path) -> None:
    log = CallLog(tmp_path / "calls")
    log.add(call(user="somebody", stream=True))
    log.close()
    assert log.path is not None
    (text,) = log.path.read_bytes().splitlines()
    first = msgspec.json.decode(text)
    assert next(iter(first)) == "log"
    assert first["log"] == "halfrate/1"
    assert log.path.stat().st_mode & 0o777 == 0o600
