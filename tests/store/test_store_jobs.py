import pytest

from halfrate.base.errors import IllegalStep
from halfrate.core.job import JobState
from halfrate.store.store import Store

from .records import a_job, a_shard, shards


def test_a_job_comes_back_as_it_was(store: Store) -> None:
    job = a_job(finished_at=None, note="für\x00später")
    store.add_job(job, shards(3))
    assert store.job("job") == job
    assert store.shards("job") == shards(3)


def test_what_is_not_there_is_none(store: Store) -> None:
    assert store.job("job") is None
    assert store.jobs() == []
    assert store.shards("job") == []
    assert store.jobs_starting("job") == []
    assert store.twins_of("hash", 10) == []
    assert store.next_due() is None
    assert store.owners() == []
    assert store.collections("job") == []
    assert store.ledger() == []
    assert store.known_batches("account", besides="shard") == ()


def test_shards_come_in_row_order(store: Store) -> None:
    store.add_job(a_job(), list(reversed(shards(12))))
    assert [shard.number for shard in store.shards("job")] == list(range(12))


def test_a_job_is_recorded_with_all_of_its_shards_or_not_at_all(store: Store) -> None:
    with pytest.raises(IllegalStep, match="Nothing was changed"):
        store.add_job(a_job(), [a_shard(0), a_shard(1), a_shard(1)])
    assert store.job("job") is None
    assert store.next_due() is None
    store.add_job(a_job(), shards(2))
    assert len(store.shards("job")) == 2


def test_a_job_is_recorded_once(store: Store) -> None:
    store.add_job(a_job(), [])
    with pytest.raises(IllegalStep):
        store.add_job(a_job(rows=5), [])
    assert store.job("job") == a_job()


def test_a_shard_needs_its_job(store: Store) -> None:
    with pytest.raises(IllegalStep):
        store.add_job(a_job(), [a_shard(job_id="another")])


def test_saving_a_job_changes_what_is_looked_for(store: Store) -> None:
    store.add_job(a_job(), [])
    done = a_job(state=JobState.DONE, finished_at=9.5)
    store.save_job(done)
    assert store.job("job") == done
    assert store.jobs(states=[JobState.OPEN]) == []
    assert store.jobs(states=[JobState.DONE]) == [done]


def test_jobs_come_newest_first_by_state_and_up_to_a_limit(store: Store) -> None:
    states = list(JobState)
    for number in range(8):
        store.add_job(a_job(f"j{number}", created_at=float(number), state=states[number % 4]), [])
    assert [job.id for job in store.jobs()] == ["j7", "j6", "j5", "j4", "j3", "j2", "j1", "j0"]
    assert [job.id for job in store.jobs(limit=3)] == ["j7", "j6", "j5"]
    assert store.jobs(limit=0) == []
    assert [job.id for job in store.jobs(states=states, limit=2)] == ["j7", "j6"]
    some = store.jobs(states=iter([states[0], states[2], states[0]]), limit=3)
    assert [job.id for job in some] == ["j6", "j4", "j2"]


def test_ids_are_found_by_how_they_begin(store: Store) -> None:
    for job_id in ("abc", "abd", "xbc", "a_c", "a%c"):
        store.add_job(a_job(job_id), [])
    assert store.jobs_starting("ab") == ["abc", "abd"]
    assert store.jobs_starting("ABC") == ["abc"]
    assert store.jobs_starting("a_") == ["a_c"]
    assert store.jobs_starting("a%") == ["a%c"]
    assert store.jobs_starting("abcd") == []
    for number in range(20):
        store.add_job(a_job(f"many{number}"), [])
    assert len(store.jobs_starting("many")) == 10


def test_twins_are_unfinished_and_ask_the_same_of_the_same_size(store: Store) -> None:
    for state in JobState:
        store.add_job(a_job(state.value, state=state), [])
    store.add_job(a_job("other", spec_hash="another"), [])
    store.add_job(a_job("larger", input_size=11), [])
    assert {job.id for job in store.twins_of("hash", 10)} == {"open", "paused", "stopped"}


def test_sizes_beyond_32_bits_are_kept(store: Store) -> None:
    store.add_job(a_job(input_size=2**40), [a_shard(bytes=2**40, version=2**33)])
    assert [job.id for job in store.twins_of("hash", 2**40)] == ["job"]
    assert store.shards("job")[0].version == 2**33
