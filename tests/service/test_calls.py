"""The log of calls in real time, and how it comes into the ledger."""

import datetime
import fcntl
import resource
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from halfrate.base.errors import StorageError
from halfrate.base.types import Usage
from halfrate.core.budgets import Budget
from halfrate.service.call_log import CallLog
from halfrate.service.calls import Bookkeeper
from halfrate.service.home import Home
from halfrate.service.jobs import Service
from halfrate.store.store import Store
from halfrate.usage.gateway import Begun, Ended, Logged, LoggedTokens, begun_line, ended_line, facts, line
from halfrate.usage.reading import UsageLog

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


TIME = f"{DAY}T10:00:00.000+00:00"
FACTS = facts(
    Begun(
        team="search",
        key="me",
        tags={"team": "search"},
        endpoint="chat",
        account="openai@https://api.openai.com/v1",
        provider="openai",
        model="gpt-4.1-mini",
    )
)
OTHER_FACTS = facts(
    Begun(
        team="search",
        key="me",
        tags={"team": "ads"},
        endpoint="messages",
        account="anthropic@https://api.anthropic.com",
        provider="anthropic",
        model="claude-haiku-4-5",
    )
)
IN_DOUBT = ("team=search", "standard", "doubt")


def add(log: CallLog, call: Logged) -> None:
    log.end(call.ended, line(call))


def begin(log: CallLog, told: bytes = FACTS) -> int:
    return log.begin(TIME, "req_1", told)


@contextmanager
def no_room(size: int = 0) -> Generator[None]:
    """No file of this process can be written to beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


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
        add(log, call())
    add(log, call(tags={"team": "ads"}, cost_picodollars=7))
    add(log, call(tier="flex", cost_picodollars=50))
    add(log, call(doubt=True, cost_picodollars=None, status=504))
    # What was refused, and what went to an account of the caller's own, is no matter of the ledger.
    add(log, call(status=429, cost_picodollars=0))
    add(log, call(account=None, cost_picodollars=0))
    assert keeper.book() == 6
    assert booked(store) == {
        ("team=search", "standard", "rows"): (3, 300),
        ("team=ads", "standard", "rows"): (1, 7),
        ("team=search", "flex", "rows"): (1, 50),
        ("team=search", "standard", "doubt"): (1, None),
    }
    assert keeper.book() == 0
    add(log, call(cost_picodollars=1))
    assert keeper.book() == 1
    assert booked(store)["team=search", "standard", "rows"] == (4, 301)
    (one,) = [one for one in store.spent() if one.tier == "flex"]
    assert (one.usage.input, one.usage.cached, one.usage.output) == (10, 2, 5)
    assert (one.realtime_cost, one.uncached_cost) == (100, 120)
    log.close()


def test_an_unknown_price_makes_a_sum_unknown(tmp_path: Path, store: Store) -> None:
    log = CallLog(tmp_path / "calls")
    add(log, call())
    add(log, call(cost_picodollars=None))
    log.close()
    Bookkeeper(store.calls, tmp_path / "calls").book()
    assert booked(store) == {("team=search", "standard", "rows"): (2, None)}


def test_a_call_is_paid_on_its_own_day(tmp_path: Path, store: Store) -> None:
    log = CallLog(tmp_path / "calls")
    add(log, call(time="2026-11-20T23:59:59.999+00:00"))
    add(log, call(time="2026-11-21T00:00:00.000+00:00"))
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
        add(log, call())
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
    monkeypatch.setattr("halfrate.service.call_log._MOST_BYTES", 2_000)
    folder = tmp_path / "calls"
    log = CallLog(folder)
    for _ in range(50):
        add(log, call())
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
    assert store.calls.progress() == {}


def test_what_began_and_has_no_end_is_a_doubt_when_its_writer_is_gone(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "calls"
    log, keeper = CallLog(folder), Bookkeeper(store.calls, folder)
    lost, ended, refused, other = begin(log), begin(log), begin(log), begin(log, OTHER_FACTS)
    assert len({lost, ended, refused, other}) == 4
    add(log, call(ended=refused, status=429, cost_picodollars=0))
    # A race of two is two attempts of one call: each has an end of its own.
    add(log, call(ended=ended))
    assert keeper.book() == 1
    assert keeper.book() == 0
    assert booked(store) == {("team=search", "standard", "rows"): (1, 100)}
    # As the kernel does for a process that dies.
    log.close()
    assert keeper.book() == 2
    assert keeper.book() == 0
    assert booked(store) == {
        ("team=search", "standard", "rows"): (1, 100),
        IN_DOUBT: (1, None),
        ("team=ads", "standard", "doubt"): (1, None),
    }
    (doubt,) = [one for one in store.spent() if one.kind == "doubt" and one.model == "claude-haiku-4-5"]
    (job,) = [job for job in store.paid_jobs() if job.id == doubt.job_id]
    assert job.account == "anthropic@https://api.anthropic.com"
    assert datetime.date(1970, 1, 1) + datetime.timedelta(days=doubt.day) == datetime.date.fromisoformat(DAY)
    assert doubt.usage == Usage()


def test_a_call_with_a_key_of_the_callers_own_is_no_doubt_of_ours(tmp_path: Path, store: Store) -> None:
    log = CallLog(tmp_path / "calls")
    own = Begun(
        team="search",
        key="me",
        tags={},
        endpoint="chat",
        account=None,
        provider="openai",
        model="gpt-4.1-mini",
    )
    begin(log, facts(own))
    log.close()
    assert Bookkeeper(store.calls, tmp_path / "calls").book() == 0
    assert store.spent() == []


def test_doubts_are_booked_once_by_several_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "calls"
    stores = [Store.open(f"sqlite:///{tmp_path / 'halfrate.db'}") for _ in range(4)]
    for _ in range(3):
        logs = [CallLog(folder) for _ in range(5)]
        for log in logs:
            for _ in range(7):
                begin(log)
            add(log, call(ended=begin(log)))
            log.close()
        start = threading.Barrier(len(stores))

        def work(store: Store, start: threading.Barrier = start) -> None:
            keeper = Bookkeeper(store.calls, folder)
            start.wait()
            keeper.book()
            keeper.book()

        threads = [threading.Thread(target=work, args=(store,)) for store in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert booked(stores[0]) == {
        ("team=search", "standard", "rows"): (15, 1_500),
        IN_DOUBT: (105, None),
    }
    for store in stores:
        store.close()


def test_a_call_ends_in_a_later_log_than_it_began_in(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halfrate.service.call_log._MOST_BYTES", 2_000)
    folder = tmp_path / "calls"
    log, keeper = CallLog(folder), Bookkeeper(store.calls, folder)
    long = begin(log)
    begin(log)
    first = log.path
    for _ in range(30):
        add(log, call(ended=begin(log)))
        keeper.book()
    assert first is not None
    assert first != log.path
    add(log, call(ended=long, cost_picodollars=7))
    for _ in range(10):
        add(log, call(ended=begin(log)))
    keeper.book()
    # All but the last are closed while their writer lives: what began in them is carried on in the next.
    closed = {name: one.closed for name, one in store.calls.progress().items()}
    assert len(closed) > 5
    assert log.path is not None
    assert not closed.pop(log.path.name)
    assert all(closed.values())
    assert booked(store) == {("team=search", "standard", "rows"): (41, 4_007)}
    log.close()
    assert keeper.book() == 1
    assert booked(store) == {("team=search", "standard", "rows"): (41, 4_007), IN_DOUBT: (1, None)}


def test_a_writer_that_goes_on_to_another_log_is_never_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halfrate.service.call_log._MOST_BYTES", 1_500)
    folder = tmp_path / "calls"
    log = CallLog(folder)
    stores = [Store.open(f"sqlite:///{tmp_path / 'halfrate.db'}") for _ in range(3)]
    done = threading.Event()

    def work(store: Store) -> None:
        keeper = Bookkeeper(store.calls, folder)
        while not done.is_set():
            keeper.book()
        keeper.book()

    threads = [threading.Thread(target=work, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    under_way: list[int] = []
    for _ in range(400):
        under_way.append(begin(log))
        if len(under_way) == 3:
            add(log, call(ended=under_way.pop(0)))
    for number in under_way:
        add(log, call(ended=number))
    log.close()
    done.set()
    for thread in threads:
        thread.join()
    assert len(list(folder.iterdir())) > 100
    assert booked(stores[0]) == {("team=search", "standard", "rows"): (400, 40_000)}
    for store in stores:
        store.close()


def test_what_a_kill_leaves_of_a_line(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "calls"
    folder.mkdir()
    end = line(call(ended=1))
    # Before its line is there whole nothing is sent; and of an end that is not there nobody has seen the answer.
    for name, left in {"a": begun_line(2, TIME, "req_2", FACTS), "b": end}.items():
        text = begun_line(1, TIME, "req_1", FACTS) + end * (name == "a") + left[:-1]
        (folder / f"20261121-100000-{name}-1.jsonl").write_bytes(text)
    keeper = Bookkeeper(store.calls, folder)
    assert keeper.book() == 2
    assert keeper.book() == 0
    assert booked(store) == {("team=search", "standard", "rows"): (1, 100), IN_DOUBT: (1, None)}
    now = next(folder.iterdir()).stat().st_mtime
    assert keeper.sweep(now + 40 * 86_400) == 2


def test_a_log_is_swept_when_it_is_booked_and_its_writer_gone(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "calls"
    idle, dead = CallLog(folder), CallLog(folder)
    add(idle, call(ended=begin(idle)))
    begin(dead)
    dead.close()
    keeper = Bookkeeper(store.calls, folder)
    assert idle.path is not None
    late = idle.path.stat().st_mtime + 40 * 86_400
    assert keeper.sweep(late) == 0
    assert keeper.book() == 2
    # Somebody still writes in the other.
    assert keeper.sweep(late) == 1
    assert list(folder.iterdir()) == [idle.path]
    add(idle, call(ended=begin(idle)))
    idle.close()
    assert keeper.book() == 1
    assert keeper.sweep(late) == 1
    assert booked(store) == {("team=search", "standard", "rows"): (2, 200), IN_DOUBT: (1, None)}


def test_a_log_in_the_making_counts_for_nothing_and_goes(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "calls"
    folder.mkdir()
    left = folder / "20261121-100000-a-2.part"
    left.write_bytes(begun_line(1, TIME, "req_1", FACTS))
    keeper = Bookkeeper(store.calls, folder)
    assert keeper.book() == 0
    keeper.sweep(left.stat().st_mtime + 60)
    assert left.exists()
    keeper.sweep(left.stat().st_mtime + 2 * 86_400)
    assert not left.exists()


def test_logs_of_older_releases_are_booked_as_they_grow(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "calls"
    folder.mkdir()
    old = folder / "20261121-100000-0a1b2c3d.jsonl"
    old.write_bytes(line(call()))
    keeper = Bookkeeper(store.calls, folder)
    assert keeper.book() == 1
    # Nothing tells whether the process that writes it is there still.
    assert not store.calls.progress()[old.name].closed
    with old.open("ab") as stream:
        stream.write(line(call()))
    assert keeper.book() == 1
    assert booked(store) == {("team=search", "standard", "rows"): (2, 200)}


def test_a_bad_line_stops_its_own_log_alone(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "calls"
    folder.mkdir()
    (folder / "20261121-100000-a-1.jsonl").write_bytes(b"\0" * 80 + b"\n")
    log = CallLog(folder)
    begin(log)
    log.close()
    keeper = Bookkeeper(store.calls, folder)
    for _ in range(2):
        with pytest.raises(StorageError, match="no line of a log of calls"):
            keeper.book()
    assert booked(store) == {IN_DOUBT: (1, None)}


def test_what_cannot_be_begun_is_no_doubt(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "calls"
    log = CallLog(folder)
    with no_room(), pytest.raises(StorageError, match="without that no call is sent"):
        begin(log)
    assert list(folder.iterdir()) == []
    begin(log)
    ended = begin(log)
    assert log.path is not None
    first, size = log.path, log.path.stat().st_size
    for room in (size, size + 20):
        with no_room(room), pytest.raises(StorageError, match="cannot be written"):
            begin(log)
    # The lock is kept until there is another log: its writer lives.
    keeper = Bookkeeper(store.calls, folder)
    assert keeper.book() == 0
    assert store.spent() == []
    add(log, call(ended=ended))
    assert log.path != first
    assert keeper.book() == 1
    log.close()
    assert keeper.book() == 1
    assert booked(store) == {("team=search", "standard", "rows"): (1, 100), IN_DOUBT: (1, None)}


def test_an_end_that_cannot_be_written_keeps_more_from_being_begun(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "calls"
    log = CallLog(folder)
    number = begin(log)
    assert log.path is not None
    with no_room(log.path.stat().st_size + 20):
        with pytest.raises(StorageError, match="1 calls were answered"):
            add(log, call(ended=number))
        with pytest.raises(StorageError, match="1 calls were answered"):
            begin(log)
    add(log, call(ended=begin(log)))
    log.close()
    assert Bookkeeper(store.calls, folder).book() == 2
    assert booked(store) == {("team=search", "standard", "rows"): (2, 200)}


def test_who_looks_at_a_log_is_not_taken_for_its_writer(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "calls"
    log = CallLog(folder)
    begin(log)
    log.close()
    assert log.path is not None
    with log.path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert Bookkeeper(store.calls, folder).book() == 1


def test_what_cannot_be_written_is_written_with_the_next(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "calls"
    folder.write_text("in the way")
    log = CallLog(folder)
    for count in (1, 2):
        with pytest.raises(StorageError, match=f"{count} calls were answered"):
            add(log, call())
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
        add(log, call(time=now, cost_picodollars=10**9))
        log.close()
        service.bookkeeper(folder).book()
        service.set_budget(Budget(name="team", value="search", stop=2 * 10**9))
        (standing,) = service.budgets()
        assert (standing.spent, standing.promised) == (10**9, 0)
        assert service.jobs() == []
        assert service.forecast_scores() == []
        (cost,) = service.costs(by=("team", "provider", "account"))
        assert cost.keys == ("search", "openai", "openai@https://api.openai.com/v1")


def test_both_lines_of_an_attempt_say_the_same_of_it() -> None:
    told = Ended(duration=0.5, user='some"body', tokens=LoggedTokens(input=3), cost_picodollars=7, status=200)
    begun = msgspec.json.decode(begun_line(7, TIME, "req_1", FACTS), type=Logged)
    ended = msgspec.json.decode(ended_line(7, TIME, "req_1", FACTS, told), type=Logged)
    assert (begun.begun, begun.ended, ended.begun, ended.ended) == (7, None, None, 7)
    fields = ("time", "id", "team", "key", "tags", "endpoint", "account", "provider", "model", "log")
    assert [getattr(begun, name) for name in fields] == [getattr(ended, name) for name in fields]
    assert (begun.team, begun.model, begun.tags) == ("search", "gpt-4.1-mini", {"team": "search"})
    assert (ended.user, ended.tokens.input, ended.cost_picodollars, ended.status) == ('some"body', 3, 7, 200)


def test_the_log_is_the_one_that_audits_read(tmp_path: Path) -> None:
    log = CallLog(tmp_path / "calls")
    add(log, call(ended=begin(log), user="somebody", stream=True))
    log.close()
    assert log.path is not None
    lines = [msgspec.json.decode(text) for text in log.path.read_bytes().splitlines()]
    assert [(next(iter(one)), one["log"]) for one in lines] == [("log", "halfrate/1")] * 2
    assert [one.get("begun", one.get("ended")) for one in lines] == [1, 1]
    assert log.path.stat().st_mode & 0o777 == 0o600
    # A beginning is no call: its end says all that there is to say.
    read = UsageLog(log.path)
    ((found,),) = read.blocks()
    assert (found.user, found.input, found.cost) == ("somebody", 10, 100)
    assert (read.rows, read.aside, read.unreadable) == (2, 1, 0)
