"""Who is told, and what is on its way to them: recorded with the end that it tells of, sent by one at a time."""

import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from halfrate.base.errors import StorageError
from halfrate.core.job import Job, JobState
from halfrate.core.surface import BatchState
from halfrate.core.webhooks import Answer, Delivery, DeliveryState, Webhook, tried
from halfrate.store.store import Store
from halfrate.store.webhooks import Claimed, WebhookStore

from .databases import Database
from .processes import children
from .records import a_job, opened, shards
from .test_store_surfaces import a_batch, held

LEASE = 30.0
SNOWMAN = "größer \N{SNOWMAN}"


@pytest.fixture
def webhooks(store: Store) -> WebhookStore:
    return store.webhooks


def a_webhook(webhook_id: str = "wh", **changes: Any) -> Webhook:
    webhook = Webhook(id=webhook_id, team="search", url="https://example.com/hooks", created_at=1.0)
    return msgspec.structs.replace(webhook, **changes)


def a_run(store: Store, job_id: str = "job", team: str = "search") -> Job:
    """A job that is open."""
    job = a_job(job_id, tags={"team": team} if team else {})
    store.add_job(job, shards(1, job_id))
    return job


def end(store: Store, job: Job, state: JobState = JobState.DONE, at: float = 10.0) -> Job:
    ended = msgspec.structs.replace(job, state=state, finished_at=None if state is JobState.OPEN else at)
    store.save_job(ended, at)
    return ended


def told(store: Store, **options: Any) -> list[tuple[str, str, str]]:
    """(webhook, type, subject) of all that is recorded, the newest first."""
    found = store.webhooks.deliveries(**options)
    return [(one.webhook_id, one.type, one.subject) for one in found]


def take(webhooks: WebhookStore, now: float = 10.0, owner: str = "w", slots: int = 9) -> list[Claimed]:
    """All that is due."""
    return webhooks.claim(owner, now, LEASE, dict.fromkeys(webhooks.due_webhooks(now), slots))


def settle(
    webhooks: WebhookStore, one: Claimed, status: int = 200, now: float = 11.0, owner: str = "w"
) -> bool:
    return webhooks.save(one, owner, tried(one.delivery, Answer(status=status), now, 0.0))


# ---------------------------------------------------------------- who is told


def test_a_webhook_is_kept_whole(webhooks: WebhookStore) -> None:
    webhook = a_webhook(
        events=("batch.*",),
        allowed=("10.0.0.0/8", "hooks.internal"),
        url=f"https://x/{SNOWMAN}",
        disabled_at=4.5,
    )
    webhooks.add(webhook)
    assert webhooks.get("wh") == webhook
    assert webhooks.get("other") is None


def test_webhooks_are_listed_from_the_oldest_on(webhooks: WebhookStore) -> None:
    for webhook_id, at in (("b", 2.0), ("c", 1.0), ("a", 2.0)):
        webhooks.add(a_webhook(webhook_id, created_at=at))
    assert [webhook.id for webhook in webhooks.all()] == ["c", "a", "b"]


def test_a_webhook_is_changed_and_forgotten(store: Store, webhooks: WebhookStore) -> None:
    webhooks.add(a_webhook())
    webhooks.add(a_webhook("other"))
    changed = webhooks.change("wh", lambda found: msgspec.structs.replace(found, disabled_at=3.0))
    assert changed == a_webhook(disabled_at=3.0) == webhooks.get("wh")
    assert webhooks.change("nobody", lambda found: found) is None
    end(store, a_run(store))
    assert webhooks.drop("other")
    assert not webhooks.drop("other")
    assert webhooks.all() == [a_webhook(disabled_at=3.0)]
    assert told(store) == []
    assert webhooks.next_due() is None


# ---------------------------------------------------------------- what is recorded


def test_the_end_of_a_job_is_told_to_its_team_alone(store: Store, webhooks: WebhookStore) -> None:
    webhooks.add(a_webhook("a"))
    webhooks.add(a_webhook("b", events=("job.*",)))
    webhooks.add(a_webhook("batches", events=("batch.*",)))
    webhooks.add(a_webhook("ads", team="ads"))
    webhooks.add(a_webhook("gone", disabled_at=2.0))
    end(store, a_run(store))
    assert told(store) == [("b", "job.done", "job"), ("a", "job.done", "job")]
    one, other = webhooks.deliveries()
    # One event, whoever is told.
    assert one.event_id == other.event_id
    assert one.body == other.body
    assert (one.state, one.tries, one.next_at, one.created_at) == ("waiting", 0, 10.0, 10.0)
    assert msgspec.json.decode(one.body) == {
        "id": one.event_id,
        "object": "event",
        "created_at": 10,
        "type": "job.done",
        "data": {"id": "job"},
    }


def test_what_ended_before_somebody_was_to_be_told_is_not_told(store: Store, webhooks: WebhookStore) -> None:
    ended = end(store, a_run(store))
    webhooks.add(a_webhook())
    # As when its results are asked for again.
    end(store, ended, at=20.0)
    assert told(store) == []


def test_an_end_that_is_recorded_again_is_told_once(store: Store, webhooks: WebhookStore) -> None:
    webhooks.add(a_webhook())
    job = a_run(store)
    for at in (10.0, 11.0, 12.0):
        end(store, job, at=at)
    assert told(store) == [("wh", "job.done", "job")]


def test_a_job_that_goes_on_and_ends_again_is_told_of_again(store: Store, webhooks: WebhookStore) -> None:
    webhooks.add(a_webhook())
    job = a_run(store)
    for number, state in enumerate(
        (JobState.STOPPED, JobState.OPEN, JobState.PAUSED, JobState.OPEN, JobState.STOPPED)
    ):
        end(store, job, state, at=10.0 + number)
    assert [kind for _, kind, _ in told(store)] == ["job.stopped", "job.paused", "job.stopped"]
    assert len({one.event_id for one in webhooks.deliveries()}) == 3


@pytest.mark.parametrize("state", [state for state in JobState if state is not JobState.OPEN])
def test_every_state_that_a_job_stops_in_is_told(
    store: Store, webhooks: WebhookStore, state: JobState
) -> None:
    webhooks.add(a_webhook())
    end(store, a_run(store), state)
    assert told(store) == [("wh", f"job.{state}", "job")]


def test_a_job_of_no_team_is_the_usual_teams(store: Store, webhooks: WebhookStore) -> None:
    webhooks.add(a_webhook(team="default"))
    end(store, a_run(store, team=""))
    assert told(store) == [("wh", "job.done", "job")]


@pytest.mark.parametrize(
    "state", [BatchState.COMPLETED, BatchState.EXPIRED, BatchState.CANCELLED, BatchState.FAILED]
)
def test_the_end_of_a_batch_is_told_with_the_step_that_ends_it(
    store: Store, webhooks: WebhookStore, state: BatchState
) -> None:
    webhooks.add(a_webhook())
    webhooks.add(a_webhook("ads", team="ads"))
    before = {
        BatchState.FAILED: (),
        BatchState.CANCELLED: (BatchState.CANCELLING,),
    }.get(state, (BatchState.IN_PROGRESS, BatchState.FINALIZING))
    store.surfaces.add_batch(a_batch())
    for number, step in enumerate(before):
        one = held(store.surfaces, now=2.0 + number)
        assert store.surfaces.save_batch(one, "w", one.batch.moved(step, 2.0), 2.0)
        assert told(store) == []
    one = held(store.surfaces, now=5.0)
    ended = one.batch.moved(state, 6.5)
    # Whoever does not hold it any more ends nothing, and tells of nothing.
    assert not store.surfaces.save_batch(one, "other", ended, None)
    assert told(store) == []
    assert store.surfaces.save_batch(one, "w", ended, None)
    assert not store.surfaces.save_batch(one, "w", ended, None)
    assert told(store) == [("wh", f"batch.{state}", "batch-1")]
    assert webhooks.deliveries()[0].created_at == 6.5


def test_an_end_is_recorded_with_what_is_told_of_it_or_not_at_all(store: Store, database: Database) -> None:
    store.webhooks.add(a_webhook())
    job = a_run(store)
    store.surfaces.add_batch(a_batch())
    one = held(store.surfaces)
    database.look("ALTER TABLE delivery RENAME TO elsewhere")
    with pytest.raises(StorageError):
        store.surfaces.save_batch(one, "w", one.batch.moved(BatchState.FAILED, 2.0), None)
    with pytest.raises(StorageError):
        end(store, job)
    database.look("ALTER TABLE elsewhere RENAME TO delivery")
    assert store.surfaces.batch("search", "openai", "batch-1") == one.batch
    assert store.job("job") == job
    end(store, job)
    assert store.surfaces.save_batch(one, "w", one.batch.moved(BatchState.FAILED, 3.0), None)
    assert told(store) == [("wh", "job.done", "job"), ("wh", "batch.failed", "batch-1")]


def test_nobody_is_told_where_nobody_wants_to_know(store: Store, database: Database) -> None:
    end(store, a_run(store))
    assert database.look("SELECT count(*) FROM delivery") == [(0,)]


# ---------------------------------------------------------------- sending


def test_what_is_due_is_claimed_once_and_counted_before_it_is_sent(
    store: Store, webhooks: WebhookStore
) -> None:
    webhooks.add(a_webhook())
    end(store, a_run(store), at=10.0)
    assert webhooks.due_webhooks(9.9) == []
    assert webhooks.next_due() == 10.0
    (one,) = take(webhooks)
    assert (one.webhook, one.delivery.tries, one.delivery.state) == (a_webhook(), 1, "waiting")
    assert take(webhooks, 10.0 + LEASE - 0.1, "other") == []
    assert webhooks.next_due() == 10.0 + LEASE
    # Whoever died left a try behind, not a free one.
    (again,) = take(webhooks, 10.0 + LEASE, "other")
    assert again.delivery.tries == 2
    assert again.delivery.event_id == one.delivery.event_id
    assert not settle(webhooks, one)
    assert settle(webhooks, again, owner="other")
    (kept,) = webhooks.deliveries()
    assert (kept.state, kept.status, kept.tries, kept.next_at) == ("delivered", 200, 2, None)
    assert webhooks.next_due() is None
    assert take(webhooks, 1e12) == []


def test_a_try_that_failed_is_due_again_when_it_says(store: Store, webhooks: WebhookStore) -> None:
    webhooks.add(a_webhook())
    end(store, a_run(store))
    (one,) = take(webhooks)
    assert settle(webhooks, one, 500, now=11.0)
    assert webhooks.next_due() == 16.0
    (kept,) = webhooks.deliveries()
    assert (kept.state, kept.status, kept.tries, kept.next_at) == ("waiting", 500, 1, 16.0)
    assert take(webhooks, 15.9) == []
    (again,) = take(webhooks, 16.0)
    assert again.delivery.tries == 2
    assert not settle(webhooks, msgspec.structs.replace(again, version=again.version + 1))
    assert not settle(webhooks, again, owner="other")


def test_each_webhook_gets_as_many_as_it_has_slots_the_oldest_first(
    store: Store, webhooks: WebhookStore
) -> None:
    webhooks.add(a_webhook("a"))
    webhooks.add(a_webhook("b"))
    for number in range(5):
        end(store, a_run(store, f"job-{number}"), at=float(number))
    assert webhooks.due_webhooks(10.0) == ["a", "b"]
    taken = webhooks.claim("w", 10.0, LEASE, {"a": 2, "b": 1, "nobody": 3})
    found = sorted((one.webhook.id, one.delivery.subject) for one in taken)
    assert found == [("a", "job-0"), ("a", "job-1"), ("b", "job-0")]
    taken = webhooks.claim("w", 10.0, LEASE, {"a": 9})
    assert [one.delivery.subject for one in taken] == ["job-2", "job-3", "job-4"]
    assert webhooks.due_webhooks(10.0) == ["b"]


def test_many_who_claim_at_once_share_what_is_due(database: Database) -> None:
    with opened(database) as store:
        store.webhooks.add(a_webhook())
        for number in range(40):
            end(store, a_run(store, f"job-{number}"))
    start = threading.Barrier(4)
    taken: list[str] = []

    def one(number: int) -> None:
        with opened(database) as mine:
            start.wait()
            for _ in range(20):
                taken.extend(
                    found.delivery.subject for found in take(mine.webhooks, owner=f"w{number}", slots=3)
                )

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(f"job-{number}" for number in range(40))


def test_a_webhook_that_goes_away_while_ends_are_recorded_leaves_nothing(database: Database) -> None:
    """What was about to be recorded for it comes before its end, or finds it gone."""
    with opened(database) as store:
        for number in range(30):
            store.webhooks.add(a_webhook(f"wh-{number}"))
        jobs = [a_run(store, f"job-{number}") for number in range(30)]
    start = threading.Barrier(2)
    failures: list[BaseException] = []

    def ends() -> None:
        with opened(database) as mine:
            start.wait()
            try:
                for job in jobs:
                    end(mine, job)
            except BaseException as error:
                failures.append(error)
                raise

    thread = threading.Thread(target=ends)
    thread.start()
    with opened(database) as store:
        start.wait()
        for number in range(30):
            assert store.webhooks.drop(f"wh-{number}")
        thread.join()
        assert failures == []
        assert told(store) == []
        assert [job.state for job in store.jobs()] == [JobState.DONE] * 30


def test_an_end_and_what_is_told_of_it_survive_a_kill_together(database: Database) -> None:
    with opened(database) as store:
        store.webhooks.add(a_webhook())
        for number in range(400):
            a_run(store, f"job-{number}")
    with children(("ends", database.url)) as (child,):
        child.go()
        for _ in range(5):
            child.line()
        said = child.kill()
    with opened(database) as store:
        done = {job.id for job in store.jobs() if job.state is JobState.DONE}
        assert len(done) >= 5 + len(said)
        assert len(done) < 400
        assert {subject for _, _, subject in told(store, limit=1_000)} == done


# ---------------------------------------------------------------- looking, and sending again


@pytest.fixture
def some(store: Store, webhooks: WebhookStore) -> dict[str, Delivery]:
    """Of two webhooks: one delivery delivered, one failed and one waiting; by webhook and job."""
    webhooks.add(a_webhook("a"))
    webhooks.add(a_webhook("b"))
    for number in range(3):
        end(store, a_run(store, f"job-{number}"), at=10.0 + number)
    for one in take(webhooks, 20.0):
        if one.delivery.subject != "job-2":
            settle(webhooks, one, 200 if one.delivery.subject == "job-0" else 410, now=21.0)
        else:
            settle(webhooks, one, 500, now=21.0)
    return {f"{one.webhook_id} {one.subject}": one for one in webhooks.deliveries()}


@pytest.mark.usefixtures("some")
def test_what_was_sent_is_listed_newest_first_and_by_what_is_asked(store: Store) -> None:
    everything = told(store)
    assert [subject for _, _, subject in everything] == ["job-2", "job-2", "job-1", "job-1", "job-0", "job-0"]
    assert told(store, limit=2) == everything[:2]
    assert told(store, since=11.0) == everything[:4]
    assert told(store, webhook_id="a") == [each for each in everything if each[0] == "a"]
    assert {each[2] for each in told(store, state=DeliveryState.FAILED)} == {"job-1"}
    assert {each[2] for each in told(store, state=DeliveryState.WAITING)} == {"job-2"}
    assert told(store, state=DeliveryState.DELIVERED, webhook_id="b", since=11.0) == []


def test_an_event_is_sent_again_from_the_first_try_on(
    webhooks: WebhookStore, some: dict[str, Delivery]
) -> None:
    event_id = some["a job-0"].event_id
    assert webhooks.replay(30.0, event_id=event_id) == 2
    assert webhooks.replay(30.0, event_id="evt_nobody") == 0
    found = [one for one in webhooks.deliveries() if one.event_id == event_id]
    assert {(one.state, one.tries, one.next_at) for one in found} == {("waiting", 0, 30.0)}
    claimed = take(webhooks, 30.0)
    again = [one for one in claimed if one.delivery.event_id == event_id]
    assert {(one.delivery.body, one.delivery.tries) for one in again} == {(some["a job-0"].body, 1)}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"since": 0.0}, {f"{webhook} job-{number}" for webhook in "ab" for number in range(3)}),
        ({"since": 11.0, "webhook_id": "a"}, {"a job-1", "a job-2"}),
        ({"since": 0.0, "state": DeliveryState.FAILED}, {"a job-1", "b job-1"}),
        ({"since": 12.5}, set[str]()),
    ],
)
def test_what_is_sent_again_is_what_is_asked_for(
    webhooks: WebhookStore, some: dict[str, Delivery], asked: dict[str, Any], expected: set[str]
) -> None:
    assert some
    assert webhooks.replay(22.0, **asked) == len(expected)
    assert {f"{one.webhook.id} {one.delivery.subject}" for one in take(webhooks, 22.0)} == expected


def test_what_is_just_being_sent_is_left_alone(store: Store, webhooks: WebhookStore) -> None:
    webhooks.add(a_webhook())
    end(store, a_run(store))
    (one,) = take(webhooks)
    assert webhooks.replay(11.0, since=0.0) == 0
    assert settle(webhooks, one)
    assert webhooks.replay(12.0, since=0.0) == 1


def test_what_is_over_for_long_is_forgotten(
    webhooks: WebhookStore, store: Store, some: dict[str, Delivery]
) -> None:
    assert some
    assert webhooks.sweep(10.0) == 0
    assert webhooks.sweep(13.0) == 4
    assert {subject for _, _, subject in told(store)} == {"job-2"}


def test_what_is_remembered_is_there_when_the_database_is_opened_again(
    new_database: Callable[[], Database],
) -> None:
    database = new_database()
    with opened(database) as store:
        store.webhooks.add(a_webhook())
        end(store, a_run(store))
        before = store.webhooks.deliveries()
    with opened(database) as store:
        assert store.webhooks.all() == [a_webhook()]
        assert store.webhooks.deliveries() == before
        assert take(store.webhooks)[0].delivery.body == before[0].body
