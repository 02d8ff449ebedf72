"""What a sweep of jobs deletes, here and in the depot, and what it leaves."""

import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from halfrate.base.errors import HalfrateError, StorageError
from halfrate.base.ids import new_job_id
from halfrate.base.objects import Objects
from halfrate.base.types import Counts
from halfrate.blobs.depot import Depot
from halfrate.core.job import JobState
from halfrate.core.lifecycle import State
from halfrate.core.surface import BatchPart, BatchState, SurfaceBatch
from halfrate.service.depots import place_named
from halfrate.service.home import Home
from halfrate.service.tidying import Tidier
from halfrate.store.store import Store

from ..store.databases import SqliteDatabase
from ..store.records import a_job, a_shard

HOUR, DAY = 3_600.0, 86_400.0
FILES = ("input.jsonl", "results-0.a1.0", "outcomes-0.a1")


class Machine:
    """A process with a home of its own, over a database that others have too."""

    def __init__(self, place: Objects, root: Path, store: Store) -> None:
        self.root = root
        self.store = store
        self.depot = Depot(place, root, lambda: "database-1")
        self.tidier = Tidier(store, Home(root=root), self.depot)

    def folder(self, job_id: str) -> Path:
        return self.root / "jobs" / job_id

    def put(self, job_id: str, *names: str, content: bytes = b"{}\n") -> list[Path]:
        """Files of a job, here and in the depot."""
        paths = self.write(job_id, *names, content=content)
        self.depot.put(*paths)
        return paths

    def write(self, job_id: str, *names: str, content: bytes = b"{}\n") -> list[Path]:
        self.folder(job_id).mkdir(parents=True, exist_ok=True)
        paths = [self.folder(job_id) / name for name in names or FILES]
        for path in paths:
            path.write_bytes(content)
        return paths

    def record(self, state: JobState = JobState.DONE, *, succeeded: int = 10) -> str:
        """A job of one shard, of which so many of ten rows have succeeded."""
        job_id = new_job_id()
        counts = Counts(succeeded=succeeded, failed=10 - succeeded)
        shard = a_shard(0, job_id, state=State.DONE, counts=counts)
        self.store.add_job(a_job(job_id, state=state), [shard])
        return job_id

    def afar(self, job_id: str) -> set[str]:
        return set(self.depot.held(self.folder(job_id)))

    def age(self, seconds: float) -> None:
        """Have all that is here be so much older."""
        at = time.time() - seconds
        for path in sorted((self.root / "jobs").rglob("*"), reverse=True):
            os.utime(path, (at, at))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(SqliteDatabase(tmp_path).url)) as opened:
        yield opened


@pytest.fixture
def machine(place: Objects, tmp_path: Path, store: Store) -> Machine:
    return Machine(place, tmp_path / "home", store)


def a_batch(*job_ids: str) -> SurfaceBatch:
    """A batch of which these jobs are to be made."""
    return SurfaceBatch(
        id="batch_1",
        team="search",
        key_id="k",
        surface="openai",
        times={BatchState.VALIDATING.value: 1.0},
        endpoint="chat",
        url="/v1/chat/completions",
        parts=tuple(BatchPart(job_id, "openai/m", "m", 10) for job_id in job_ids),
    )


# ---------------------------------------------------------------- in the depot


def test_files_of_a_job_that_was_never_recorded_go_after_a_day(machine: Machine) -> None:
    orphan, known = new_job_id(), machine.record()
    machine.put(orphan)
    machine.depot.tail(machine.folder(orphan) / "marks-0.a1").add(b"piece")
    machine.put(known)
    machine.tidier.sweep(time.time())
    machine.tidier.sweep(time.time() + DAY - HOUR)
    assert machine.afar(orphan) == set(FILES)
    machine.tidier.sweep(time.time() + DAY + HOUR)
    assert machine.afar(orphan) == set()
    assert machine.depot.tail(machine.folder(orphan) / "marks-0.a1").bring() == 0
    assert machine.afar(known) == set(FILES)


def test_one_file_that_was_just_put_keeps_all_of_its_job(machine: Machine) -> None:
    orphan = new_job_id()
    machine.put(orphan, "input.jsonl")
    begun = time.time()
    time.sleep(2.1)
    # Stores tell time in whole seconds.
    machine.put(orphan, "requests-0.jsonl")
    machine.tidier.sweep(begun + 1 + DAY)
    assert machine.afar(orphan) == {"input.jsonl", "requests-0.jsonl"}
    machine.tidier.sweep(begun + DAY + HOUR)
    assert machine.afar(orphan) == set()


def test_files_of_a_job_that_an_open_batch_is_yet_to_make_stay(machine: Machine) -> None:
    """They are put again when it is made, whoever makes it; nothing of that may be deleted."""
    job_id = new_job_id()
    machine.put(job_id)
    surfaces = machine.store.surfaces
    surfaces.add_batch(a_batch(job_id))
    machine.tidier.sweep(time.time() + 9 * DAY)
    assert machine.afar(job_id) == set(FILES)
    assert machine.folder(job_id).is_dir()
    (held,) = surfaces.claim_batches("me", time.time(), 60.0)
    assert surfaces.save_batch(held, "me", held.batch.moved(BatchState.FAILED, 2.0), None)
    machine.tidier.sweep(time.time() + 9 * DAY)
    assert machine.afar(job_id) == set()
    assert not machine.folder(job_id).exists()


def test_what_others_keep_beside_the_jobs_is_left_alone(machine: Machine, place: Objects) -> None:
    keys = ["jobs/notes.txt", "jobs/backup-of-may/input.jsonl", "gateway/batches/a b/input.jsonl", "x"]
    for key in keys:
        assert place.add(key, b"theirs")
    machine.tidier.sweep(time.time() + 9 * DAY)
    assert [place.get(key) for key in keys] == [b"theirs"] * len(keys)


def test_a_database_that_does_not_answer_has_nothing_deleted(
    machine: Machine, store: Store, tmp_path: Path
) -> None:
    orphan, known = new_job_id(), machine.record()
    for job_id in (orphan, known):
        machine.put(job_id)
    for table in ("job", "surface_batch"):
        SqliteDatabase(tmp_path).look(f"ALTER TABLE {table} RENAME TO away")
        with pytest.raises(HalfrateError):
            machine.tidier.sweep(time.time() + 9 * DAY)
        SqliteDatabase(tmp_path).look(f"ALTER TABLE away RENAME TO {table}")
        for job_id in (orphan, known):
            assert machine.afar(job_id) == set(FILES)
            assert machine.folder(job_id).is_dir()


def test_a_depot_that_is_away_has_nothing_deleted(
    moto: ThreadedMotoServer, tmp_path: Path, store: Store
) -> None:
    machine = Machine(place_named(f"s3://depot/{tmp_path.name}"), tmp_path / "home", store)
    orphan, known = new_job_id(), machine.record()
    for job_id in (orphan, known):
        machine.put(job_id)
    machine.age(7 * HOUR)
    moto.stop()
    with pytest.raises(StorageError):
        machine.tidier.sweep(time.time())
    assert machine.folder(known).is_dir()
    assert machine.folder(orphan).is_dir()
    moto.start()
    assert machine.afar(known) == machine.afar(orphan) == set(FILES)
    machine.tidier.sweep(time.time())
    assert not machine.folder(known).exists()


def test_a_folder_that_is_not_mounted_has_nothing_deleted(tmp_path: Path, store: Store) -> None:
    (tmp_path / "depot").mkdir()
    machine = Machine(place_named(f"file://{tmp_path}/depot"), tmp_path / "home", store)
    known = machine.record()
    machine.put(known)
    machine.age(7 * HOUR)
    (tmp_path / "depot").rename(tmp_path / "away")
    with pytest.raises(StorageError):
        machine.tidier.sweep(time.time())
    assert {path.name for path in machine.folder(known).iterdir()} == set(FILES)


# ---------------------------------------------------------------- here


@pytest.mark.parametrize("state", [JobState.DONE, JobState.CANCELLED, JobState.STOPPED])
def test_copies_of_a_job_that_has_ended_go_and_are_brought_again(machine: Machine, state: JobState) -> None:
    job_id = machine.record(state)
    paths = machine.put(job_id)
    machine.age(5 * HOUR)
    machine.tidier.sweep(time.time())
    assert all(path.exists() for path in paths)
    machine.age(7 * HOUR)
    machine.tidier.sweep(time.time())
    assert not machine.folder(job_id).exists()
    for path in paths:
        assert machine.depot.need(path).read_bytes() == b"{}\n"


@pytest.mark.parametrize("state", [JobState.OPEN, JobState.PAUSED])
def test_copies_of_a_job_that_goes_on_stay(machine: Machine, state: JobState) -> None:
    paths = machine.put(machine.record(state))
    machine.age(30 * DAY)
    machine.tidier.sweep(time.time())
    assert all(path.exists() for path in paths)


def test_what_was_just_asked_for_stays(machine: Machine) -> None:
    asked, grown, other = machine.record(), machine.record(), machine.record()
    for job_id in (asked, grown, other):
        machine.put(job_id)
    machine.age(7 * HOUR)
    assert machine.depot.bring(machine.folder(asked) / FILES[2])
    assert machine.depot.bring_whole(machine.folder(grown) / FILES[1])
    machine.tidier.sweep(time.time())
    assert [machine.folder(job_id).exists() for job_id in (asked, grown, other)] == [True, True, False]


@pytest.mark.parametrize("what", ["alone here", "longer here", "pieces alone"])
def test_one_file_that_the_depot_has_not_keeps_all(machine: Machine, what: str) -> None:
    job_id = machine.record()
    paths = machine.put(job_id)
    match what:
        case "alone here":
            paths += machine.write(job_id, "outcomes-1.a1")
        case "longer here":
            paths[1].write_bytes(b"{}\n{}\n")
        case _:
            paths += machine.write(job_id, "marks-0.a1")
            machine.depot.tail(paths[-1]).add(b"{}\n")
    machine.age(30 * DAY)
    machine.tidier.sweep(time.time())
    assert all(path.exists() for path in paths)


def test_what_is_made_again_or_needed_by_nobody_keeps_nothing(machine: Machine) -> None:
    done, failed = machine.record(succeeded=10), machine.record(succeeded=9)
    for job_id in (done, failed):
        machine.put(job_id)
        machine.write(job_id, "requests-0.a2.jsonl", "outcomes-0.a2.tmp", "results-0.a1.0.1f2e.tmp")
        # Of a shard whose rows have all succeeded the depot has let go; with others it stays, for a retry.
        machine.write(job_id, "requests-0.jsonl")
        # Another machine has finished what was begun here.
        (machine.folder(job_id) / FILES[1]).write_bytes(b"{")
    machine.age(7 * HOUR)
    machine.tidier.sweep(time.time())
    assert [machine.folder(job_id).exists() for job_id in (done, failed)] == [False, True]


def test_a_folder_here_of_a_job_that_was_never_recorded_goes_after_a_day(machine: Machine) -> None:
    orphan = new_job_id()
    machine.write(orphan)
    machine.write("draft-host-1-abcdef01-x")
    machine.age(23 * HOUR)
    machine.tidier.sweep(time.time())
    assert machine.folder(orphan).is_dir()
    machine.age(25 * HOUR)
    machine.tidier.sweep(time.time())
    assert not machine.folder(orphan).exists()
    assert machine.folder("draft-host-1-abcdef01-x").is_dir()


def test_a_home_without_jobs_is_no_trouble(machine: Machine) -> None:
    machine.tidier.sweep(time.time())
    assert not (machine.root / "jobs").exists()
