"""What a depot promises to processes that share nothing else."""

import os
import threading
import time
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from halfrate.base.errors import SettingsError, StorageError
from halfrate.base.objects import Objects
from halfrate.blobs.depot import NO_DEPOT, Depot, Tail
from halfrate.blobs.files import JobFiles
from halfrate.blobs.folder import Folder
from halfrate.blobs.shelves import Shelves
from halfrate.service.depots import depot_at
from halfrate.service.home import Home
from halfrate.service.jobs import Service

from ..providers.wire import reply, wire
from .azurite import ACCOUNT, KEY, Azurite
from .conftest import SECRET, storage_of


class Machine:
    """A process with a home of its own."""

    def __init__(self, place: Objects, root: Path, database: str = "database-1") -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        self.depot = Depot(place, root, lambda: database)

    def write(self, name: str, content: bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path


@pytest.fixture
def machines(place: Objects, tmp_path: Path) -> tuple[Machine, Machine]:
    return Machine(place, tmp_path / "one"), Machine(place, tmp_path / "other")


def test_what_one_machine_puts_another_brings_whole(machines: tuple[Machine, Machine]) -> None:
    one, other = machines
    content = os.urandom(1 << 20) * 9 + b"end"
    one.depot.put(one.write("gateway/files/file-1", content), one.write("gateway/files/file-2", b""))
    for name, expected in (("file-1", content), ("file-2", b"")):
        path = other.root / "gateway" / "files" / name
        assert other.depot.bring(path)
        assert path.read_bytes() == expected
    assert sorted(path.name for path in (other.root / "gateway" / "files").iterdir()) == ["file-1", "file-2"]
    absent = other.root / "gateway" / "files" / "file-3"
    assert not other.depot.bring(absent)
    assert not absent.exists()
    with pytest.raises(StorageError, match="gateway/files/file-3 is neither in"):
        other.depot.need(absent)


def test_a_folder_is_put_under_another_name_without_drafts(machines: tuple[Machine, Machine]) -> None:
    one, other = machines
    for name in ("input.jsonl", "requests-0.jsonl", "leads.tmp"):
        one.write(f"jobs/draft-x/{name}", name.encode())
    one.depot.put_folder(one.root / "jobs" / "draft-x", one.root / "jobs" / "x")
    files = JobFiles(other.root / "jobs" / "x", other.depot)
    assert other.depot.need(files.requests(0)).read_bytes() == b"requests-0.jsonl"
    assert other.depot.bring(files.snapshot("jsonl"))
    assert not other.depot.bring(files.leads())
    other.depot.drop_folder(files.folder)
    files.requests(0).unlink()
    assert not other.depot.bring(files.requests(0))


def test_what_is_forgotten_is_gone_for_all_and_may_be_forgotten_twice(
    machines: tuple[Machine, Machine],
) -> None:
    one, other = machines
    paths = [one.write(f"gateway/batches/batch-{n}/input.jsonl", b"x") for n in range(3)]
    one.depot.put(*paths)
    for _ in range(2):
        other.depot.drop(other.root / "gateway" / "batches" / "batch-0" / "input.jsonl")
        other.depot.drop_folder(other.root / "gateway" / "batches" / "batch-1")
    left = set(one.depot.older(one.root / "gateway" / "batches", time.time() + 60))
    assert left == {"batch-2"}
    assert set(one.depot.older(one.root / "gateway" / "batches", time.time() - 60)) == set()


def test_a_file_that_grows_is_read_as_its_pieces(machines: tuple[Machine, Machine]) -> None:
    one, other = machines
    path, copy = one.root / "jobs/x/marks", other.root / "jobs/x/marks"
    tail = one.depot.tail(path)
    assert tail.bring() == 0
    for piece in (b"", b"abc", b"de"):
        tail.add(piece)
    assert other.depot.tail(copy).bring() == 5
    assert copy.read_bytes() == b"abcde"
    # What is here already, and what this machine wrote behind it, stays.
    copy.write_bytes(b"abcde unput")
    assert other.depot.tail(copy).bring() == 5
    assert copy.read_bytes() == b"abcde unput"
    # Where the other has gone on without it, the depot counts.
    tail.add(b"fgh")
    assert other.depot.tail(copy).bring() == 8
    assert copy.read_bytes() == b"abcdefgh"


def test_two_who_add_at_once_lose_nothing(
    machines: tuple[Machine, Machine], place: Objects, tmp_path: Path
) -> None:
    """One was held up, and another has taken over meanwhile."""
    one, other = machines
    path, copy = one.root / "jobs/x/results-0.a1.0", other.root / "jobs/x/results-0.a1.0"
    first, second = one.depot.tail(path), other.depot.tail(copy)
    first.add(b"before\n")
    assert second.bring() == 7
    written: list[bytes] = []

    def add(tail: Tail, name: str) -> None:
        for number in range(10):
            line = f"{name} {number}\n".encode()
            written.append(line)
            tail.add(line)

    threads = [threading.Thread(target=add, args=pair) for pair in ((first, "frozen"), (second, "successor"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader = Machine(place, tmp_path / "reader")
    found = reader.root / "jobs/x/results-0.a1.0"
    reader.depot.tail(found).bring()
    lines = found.read_bytes().splitlines(keepends=True)
    assert sorted(lines) == sorted([b"before\n", *written])


def test_behind_a_gap_nothing_is_read(machines: tuple[Machine, Machine], place: Objects) -> None:
    one, _ = machines
    for number in (0, 1, 3):
        place.add(f"jobs/x/marks.parts/{number:08}", b"%d" % number)
    path = one.root / "jobs/x/marks"
    assert one.depot.tail(path).bring() == 2
    assert path.read_bytes() == b"01"


def test_a_journal_that_is_kept_whole_replaces_its_pieces(machines: tuple[Machine, Machine]) -> None:
    one, other = machines
    files = JobFiles(one.root / "jobs" / "x", one.depot)
    there = JobFiles(other.root / "jobs" / "x", other.depot)
    files.folder.mkdir(parents=True)
    for path in (files.results(0, 1, 0), files.marks(0, 1)):
        path.write_bytes(b"abcdef")
        one.depot.tail(path).add(b"abc")
    # The other machine has been here before, and knows the beginning.
    assert [path.read_bytes() for path in there.all_results(0, 1)] == [b"abc"]
    files.outcomes(0, 1).write_bytes(b"outcomes")
    files.keep_journalled(0, 1, files.all_results(0, 1))
    assert [path.read_bytes() for path in there.all_results(0, 1)] == [b"abcdef"]
    assert there.called(0, 1)
    assert there.marks(0, 1).read_bytes() == b"abcdef"
    assert there.all_outcomes(0, 3) == [there.outcomes(0, 1)]
    assert there.all_results(0, 2) == []


def test_a_depot_belongs_to_one_database(place: Objects, tmp_path: Path) -> None:
    Machine(place, tmp_path / "one", "database-1").depot.check()
    Machine(place, tmp_path / "two", "database-1").depot.check()
    stranger = Machine(place, tmp_path / "three", "database-2")
    path = stranger.write("gateway/files/file-1", b"x")
    for use in (
        stranger.depot.check,
        lambda: stranger.depot.put(path),
        lambda: stranger.depot.bring(path / "y"),
    ):
        with pytest.raises(SettingsError, match="the depot of another database"):
            use()
    assert place.get("gateway/files/file-1") is None


def test_a_folder_that_is_not_mounted_holds_nothing_for_absent(tmp_path: Path) -> None:
    (tmp_path / "depot").mkdir()
    one = Machine(Folder(tmp_path / "depot"), tmp_path / "one")
    path = one.write("gateway/files/file-1", b"x")
    one.depot.put(path)
    path.unlink()
    (tmp_path / "depot").rename(tmp_path / "away")
    for use in (
        lambda: one.depot.bring(path),
        lambda: one.depot.bring_whole(path),
        lambda: one.depot.put(path),
        lambda: one.depot.tail(path).bring(),
        lambda: one.depot.tail(path).add(b""),
        lambda: one.depot.drop(path),
        one.depot.probe,
    ):
        with pytest.raises(StorageError, match="depot"):
            use()
    assert not (tmp_path / "depot").exists()
    (tmp_path / "away").rename(tmp_path / "depot")
    assert one.depot.bring(path)


def test_a_store_that_is_away_is_no_store_without_the_file(moto: ThreadedMotoServer, tmp_path: Path) -> None:
    depot = depot_at(f"s3://depot/{tmp_path.name}", tmp_path, lambda: "database-1")
    assert isinstance(depot, Depot)
    depot.check()
    path = tmp_path / "file-1"
    path.write_bytes(b"x")
    depot.put(path)
    path.unlink()
    moto.stop()
    for use in (lambda: depot.bring(path), lambda: depot.tail(path).add(b""), depot.probe):
        with pytest.raises(StorageError, match="s3://depot") as raised:
            use()
        assert SECRET not in str(raised.value)
    moto.start()
    assert depot.bring(path)


def test_a_bucket_that_there_is_not_is_no_empty_one(moto: ThreadedMotoServer, tmp_path: Path) -> None:
    depot = depot_at("s3://no-such-bucket/x", tmp_path, lambda: "database-1")
    assert isinstance(depot, Depot)
    with pytest.raises(StorageError, match="s3://no-such-bucket"):
        depot.check()


@pytest.mark.parametrize(("scheme", "code"), [("gs", "NoSuchBucket"), ("az", "ContainerNotFound")])
def test_nor_is_it_with_those_who_say_so_in_other_words(
    scheme: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = (
        f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>There is none.</Message></Error>".encode()
    )
    bucket = "gs://none/x" if scheme == "gs" else f"az://{ACCOUNT}/none/x"
    with wire(lambda _: reply(fault, "404 Not Found")) as there:
        variables = {
            "STORAGE_EMULATOR_HOST": there.url,
            "AZURE_STORAGE_ENDPOINT": there.url,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
        }
        storage_of(monkeypatch, variables)
        depot = depot_at(bucket, tmp_path, lambda: "database-1")
        assert isinstance(depot, Depot)
        with pytest.raises(StorageError, match=code) as raised:
            depot.bring(tmp_path / "file-1")
        assert KEY not in str(raised.value)


def test_a_container_that_there_is_not_is_no_empty_one(
    blob_storage: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage_of(monkeypatch, blob_storage.environment)
    depot = depot_at(f"az://{ACCOUNT}/no-such-container/x", tmp_path, lambda: "database-1")
    assert isinstance(depot, Depot)
    with pytest.raises(StorageError, match="ContainerNotFound"):
        depot.check()


def test_a_key_that_is_not_the_accounts_is_refused_and_not_shown(
    blob_storage: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = "bm90IHRoZSBrZXkgb2YgdGhlIGFjY291bnQ="
    storage_of(monkeypatch, {**blob_storage.environment, "AZURE_STORAGE_ACCOUNT_KEY": wrong})
    depot = depot_at(f"az://{ACCOUNT}/depot/x", tmp_path, lambda: "database-1")
    assert isinstance(depot, Depot)
    with pytest.raises(StorageError, match="not ours to use") as raised:
        depot.check()
    assert wrong not in str(raised.value)


def test_what_others_put_there_is_none_of_the_gateways(
    machines: tuple[Machine, Machine], place: Objects
) -> None:
    one, _ = machines
    one.depot.put(one.write("gateway/files/file-1", b"x"))
    for name in (".DS_Store", "a b", "notes.txt"):
        assert place.add(f"gateway/files/{name}", b"theirs")
    shelves = Shelves(one.root, one.depot)
    assert list(shelves.left_afar("files", time.time() + 60)) == ["file-1"]


def test_every_place_is_checked_before_it_is_used(machines: tuple[Machine, Machine]) -> None:
    """A put that is to replace nothing is among what is tried."""
    for machine in machines:
        machine.depot.check()
        machine.depot.probe()


@pytest.mark.parametrize(
    "place", ["http://x/y", "s3://KEY:secret@bucket", "bucket", "file://srv/x", "s3:///x"]
)
def test_what_is_no_place_is_refused(place: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        depot_at(place, tmp_path, lambda: "")
    assert "secret" not in str(raised.value)


def test_without_a_depot_files_are_here_or_nowhere(tmp_path: Path) -> None:
    assert depot_at(None, tmp_path, lambda: "") is NO_DEPOT
    path = tmp_path / "x"
    assert not NO_DEPOT.bring(path)
    path.touch()
    NO_DEPOT.put(path)
    NO_DEPOT.drop(path)
    assert NO_DEPOT.bring(path)


class Careless(Folder):
    """A store that passes over `If-None-Match`."""

    def add(self, key: str, data: bytes) -> bool:
        (self._root / key).unlink(missing_ok=True)
        return super().add(key, data)


def test_a_store_that_replaces_what_it_was_told_not_to_is_no_depot(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    depot = Depot(Careless(shared), tmp_path / "home", lambda: "this one")
    with pytest.raises(StorageError, match="If-None-Match"):
        depot.check()


def test_a_depot_is_nothing_to_a_database_that_no_other_machine_has(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    for server in (None, f"sqlite:///{tmp_path / 'books.db'}"):
        home = Home(root=tmp_path / "home", server=server, depot=f"file://{shared}")
        with pytest.raises(SettingsError, match="HALFRATE_DATABASE"), Service(home):
            pass
    assert list(shared.iterdir()) == []
