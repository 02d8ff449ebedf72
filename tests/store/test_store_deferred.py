"""Calls that can wait: recorded with what they were gathered into, and answered once."""

import threading
from typing import Any

import msgspec
import pytest

from halfrate.core.deferral import Answer, Deferred
from halfrate.core.surface import BatchPart, BatchState, SurfaceBatch
from halfrate.core.webhooks import Webhook
from halfrate.store.deferred import DeferredStore, Marked, TooLate
from halfrate.store.store import Store

from .databases import Database
from .records import opened

LEASE = 30.0


@pytest.fixture
def deferred(store: Store) -> DeferredStore:
    return store.deferred


def a_call(call_id: str = "call_1", **changes: Any) -> Deferred:
    call = Deferred(
        id=call_id,
        team="search",
        key_id="k",
        surface="openai",
        endpoint="chat",
        model="openai/gpt-4.1-mini",
        asked="größer \N{SNOWMAN}",
        digest="d",
        created_at=1.0,
        deadline=100.0,
        batch="batch_1",
    )
    return msgspec.structs.replace(call, **changes)


def a_gathering(**changes: Any) -> SurfaceBatch:
    batch = SurfaceBatch(
        id="batch_1",
        team="search",
        key_id="k",
        surface="calls",
        state=BatchState.GATHERING,
        times={BatchState.GATHERING.value: 1.0},
        endpoint="chat",
        url="/v1/chat/completions",
    )
    return msgspec.structs.replace(batch, **changes)


def an_end(call: Deferred, at: float = 10.0, status: int = 200) -> Deferred:
    answer = Answer(status, "batch", 5, "batch_1/x", 0, 3)
    return msgspec.structs.replace(call, ended_at=at, answer=answer)


def gathered(deferred: DeferredStore, *calls: Deferred, mark: str | None = None) -> SurfaceBatch:
    """A batch with these calls in it."""
    batch = a_gathering()
    deferred.begin(batch, 60.0)
    assert deferred.gather(batch, 60.0, [Marked(call, mark) for call in calls]) == [call.id for call in calls]
    return batch


def test_what_was_gathered_is_found_by_its_batch_its_id_and_its_mark(deferred: DeferredStore) -> None:
    call = a_call()
    gathered(deferred, call, mark="m")
    assert deferred.waiting("batch_1") == [call]
    assert deferred.find("search", "call_1") == call
    assert deferred.marked("search", "m") == call
    assert deferred.count() == 1
    # Another team's eyes see nothing.
    assert deferred.find("ads", "call_1") is None
    assert deferred.marked("ads", "m") is None


def test_a_mark_is_one_calls_alone_within_a_team(deferred: DeferredStore) -> None:
    gathered(deferred, a_call(), mark="m")
    batch = a_gathering()
    again = [
        Marked(a_call("call_2"), "m"),
        Marked(a_call("call_3"), "n"),
        Marked(a_call("call_4", team="ads"), "m"),
        Marked(a_call("call_5"), None),
        Marked(a_call("call_6"), None),
    ]
    assert deferred.gather(batch, 60.0, again) == ["call_3", "call_4", "call_5", "call_6"]
    assert not deferred.add(Marked(a_call("call_7", batch=""), "n"))
    assert deferred.add(Marked(a_call("call_8", batch="", owner="w"), "o"))
    assert [call.id for call in deferred.running()] == ["call_8"]


def test_of_many_at_once_one_gets_the_mark(database: Database) -> None:
    with opened(database) as store:
        gathered(store.deferred, a_call("call_0"))
    won: list[str] = []
    start = threading.Barrier(6)

    def add(number: int) -> None:
        with opened(database) as store:
            start.wait(20)
            if store.deferred.add(Marked(a_call(f"call_{number}", batch=""), "m")):
                won.append(f"call_{number}")

    threads = [threading.Thread(target=add, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with opened(database) as store:
        found = store.deferred.marked("search", "m")
    assert found is not None
    assert won == [found.id]


def test_nothing_is_gathered_into_what_somebody_carries_on(store: Store) -> None:
    deferred = store.deferred
    batch = gathered(deferred, a_call())
    assert store.surfaces.claim_batches("w", 59.0, LEASE) == []
    (held,) = store.surfaces.claim_batches("w", 61.0, LEASE)
    assert deferred.gather(batch, 90.0, [Marked(a_call("call_2"), None)]) is None
    planned = held.batch.moved(BatchState.VALIDATING, 61.0)
    assert store.surfaces.save_batch(held, "w", planned, 61.0)
    assert deferred.gather(batch, 90.0, [Marked(a_call("call_2"), None)]) is None
    assert [call.id for call in deferred.waiting("batch_1")] == ["call_1"]
    # And a process that wakes up late does not set it back.
    deferred.close(batch.moved(BatchState.VALIDATING, 99.0), 99.0)
    assert store.surfaces.gathering("batch_1") == planned


def test_what_was_closed_is_carried_on_at_once(store: Store) -> None:
    batch = gathered(store.deferred, a_call())
    store.deferred.close(batch.moved(BatchState.VALIDATING, 5.0), 5.0)
    (held,) = store.surfaces.claim_batches("w", 5.0, LEASE)
    assert held.batch.state is BatchState.VALIDATING


def test_what_was_gathered_is_in_no_list_of_a_team_s(store: Store) -> None:
    gathered(store.deferred, a_call())
    for surface in ("openai", "anthropic"):
        assert store.surfaces.batches("search", surface, limit=5).items == []
        assert store.surfaces.batch("search", surface, "batch_1") is None


def test_a_call_ends_once(deferred: DeferredStore) -> None:
    call = a_call()
    gathered(deferred, call)
    assert deferred.end([an_end(call)]) == ["call_1"]
    assert deferred.end([an_end(call, at=20.0, status=500)]) == []
    found = deferred.find("search", "call_1")
    assert found is not None
    assert found.answer is not None
    assert (found.answer.status, found.ended_at) == (200, 10.0)
    assert deferred.waiting("batch_1") == []
    assert deferred.count() == 0
    assert deferred.ended_since(9.0) == ["call_1"]
    assert deferred.ended_since(11.0) == []


def test_calls_that_ask_the_same_are_found_while_they_wait_and_a_while_longer(
    deferred: DeferredStore,
) -> None:
    first, second = a_call("call_1"), a_call("call_2", created_at=2.0)
    gathered(deferred, second, first, a_call("call_3", digest="e"))
    assert [call.id for call in deferred.twins("search", "d", 5.0)] == ["call_1", "call_2"]
    deferred.end([an_end(first, at=10.0)])
    assert [call.id for call in deferred.twins("search", "d", 5.0)] == ["call_1", "call_2"]
    assert [call.id for call in deferred.twins("search", "d", 11.0)] == ["call_2"]
    assert deferred.twins("ads", "d", 0.0) == []


def test_what_was_not_sent_can_be_cancelled_by_its_team(store: Store) -> None:
    deferred = store.deferred
    batch = gathered(deferred, a_call(), a_call("call_2"))
    assert deferred.cancel("ads", "call_1", 5.0) is None
    cancelled = deferred.cancel("search", "call_1", 5.0)
    assert cancelled is not None
    assert (cancelled.cancelled, cancelled.ended_at) == (True, 5.0)
    with pytest.raises(TooLate):
        deferred.cancel("search", "call_1", 6.0)
    # Others may still come to it.
    assert deferred.gather(batch, 60.0, [Marked(a_call("call_3"), None)]) == ["call_3"]
    assert sorted(call.id for call in deferred.waiting("batch_1")) == ["call_2", "call_3"]


def test_whoever_plans_a_batch_while_a_call_of_it_is_cancelled_plans_again(store: Store) -> None:
    deferred = store.deferred
    gathered(deferred, a_call(), a_call("call_2"))
    (held,) = store.surfaces.claim_batches("w", 61.0, LEASE)
    assert deferred.cancel("search", "call_1", 62.0) is not None
    part = BatchPart("job", "openai/gpt-4.1-mini", "gpt-4.1-mini", 2)
    planned = held.batch.moved(BatchState.VALIDATING, 61.0, parts=(part,))
    assert not store.surfaces.save_batch(held, "w", planned, 61.0)
    (again,) = store.surfaces.claim_batches("w", 62.0, LEASE)
    planned = again.batch.moved(BatchState.VALIDATING, 62.0, parts=(part,))
    assert store.surfaces.save_batch(again, "w", planned, 62.0)
    # Now it is too late.
    with pytest.raises(TooLate):
        deferred.cancel("search", "call_2", 63.0)


def test_calls_in_the_background_are_told_of_in_the_transaction_of_their_end(store: Store) -> None:
    for events in ((), ("response.*",)):
        hook = Webhook(
            id=f"wh{len(events)}",
            team="search",
            url="https://example.com/hooks",
            created_at=1.0,
            events=events,
        )
        store.webhooks.add(hook)
    calls = [
        a_call("call_1", background=True),
        a_call("call_2"),
        a_call("call_3", background=True),
        a_call("resp_4", background=True, endpoint="responses"),
        a_call("call_5", background=True),
    ]
    gathered(store.deferred, *calls)
    store.deferred.end([an_end(calls[0]), an_end(calls[1]), an_end(calls[2], status=400), an_end(calls[3])])
    store.deferred.cancel("search", "call_5", 11.0)
    # A second end of one tells nobody anything.
    store.deferred.end([an_end(calls[0])])
    told = sorted((one.webhook_id, one.type, one.subject) for one in store.webhooks.deliveries())
    assert told == [
        ("wh0", "call.cancelled", "call_5"),
        ("wh0", "call.completed", "call_1"),
        ("wh0", "call.failed", "call_3"),
        ("wh0", "response.completed", "resp_4"),
        ("wh1", "response.completed", "resp_4"),
    ]


def test_what_ended_long_ago_is_forgotten_and_what_waits_is_not(deferred: DeferredStore) -> None:
    old, new, open_one = a_call("call_1"), a_call("call_2"), a_call("call_3")
    gathered(deferred, old, new, open_one)
    assert deferred.add(Marked(a_call("call_4", batch=""), None))
    deferred.end([an_end(old, at=10.0), an_end(new, at=20.0)])
    assert not deferred.drop("search", "call_3")
    assert not deferred.drop("ads", "call_2")
    assert deferred.drop_old(15.0) == 1
    assert deferred.find("search", "call_1") is None
    assert deferred.drop("search", "call_2")
    assert deferred.find("search", "call_3") == open_one
    assert deferred.knows("batch_1")
    assert deferred.knows("call_4")
    assert not deferred.knows("batch_2")
