"""What the gateway remembers: whose it is, in which order it is listed, and who may go on with it."""

import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from halfrate.base.errors import IllegalStep
from halfrate.base.types import Usage
from halfrate.core.keys import Key, Surface
from halfrate.core.surface import (
    BatchCounts,
    BatchPart,
    BatchState,
    LineFault,
    Part,
    StoredFile,
    SurfaceBatch,
    Upload,
)
from halfrate.store.store import Fenced, Guard, Store
from halfrate.store.surfaces import Held, NoSuchCursor, Order, Page, SurfaceStore

from .databases import Database
from .records import a_job, opened, shards

LEASE = 30.0
SNOWMAN = "größer \N{SNOWMAN}"


@pytest.fixture
def surfaces(store: Store) -> SurfaceStore:
    return store.surfaces


def a_key(key_id: str = "k", **changes: Any) -> Key:
    key = Key(id=key_id, digest="d" * 64, name="nightly", team="search", created_at=1.0)
    return msgspec.structs.replace(key, **changes)


def a_file(file_id: str = "file-1", at: float = 1.0, **changes: Any) -> StoredFile:
    file = StoredFile(
        id=file_id, team="search", filename="rows.jsonl", purpose="batch", bytes=7, created_at=at
    )
    return msgspec.structs.replace(file, **changes)


def an_upload(upload_id: str = "upload-1", at: float = 1.0, **changes: Any) -> Upload:
    upload = Upload(
        id=upload_id, team="search", filename="rows.jsonl", purpose="batch", bytes=7, created_at=at
    )
    return msgspec.structs.replace(upload, **changes)


def a_batch(batch_id: str = "batch-1", at: float = 1.0, **changes: Any) -> SurfaceBatch:
    batch = SurfaceBatch(
        id=batch_id,
        team="search",
        key_id="k",
        surface="openai",
        times={BatchState.VALIDATING.value: at},
        endpoint="chat",
        url="/v1/chat/completions",
    )
    return msgspec.structs.replace(batch, **changes)


def ids(page: Page) -> list[str]:
    return [item.id for item in page.items]


def held(surfaces: SurfaceStore, owner: str = "w", now: float = 1.0) -> Held:
    """The one batch that is due."""
    (one,) = surfaces.claim_batches(owner, now, LEASE)
    return one


def ended(batch: SurfaceBatch, now: float = 2.0) -> SurfaceBatch:
    return batch.moved(BatchState.FAILED, now)


# ---------------------------------------------------------------- keys


def test_a_key_is_kept_whole(surfaces: SurfaceStore) -> None:
    key = a_key(
        models=("openai/*",),
        surfaces=("anthropic",),
        tags={"env": SNOWMAN},
        requests_per_minute=5,
        expires_at=2.5,
    )
    surfaces.add_key(key)
    assert surfaces.key("k") == key
    assert surfaces.key("other") is None


def test_keys_are_listed_from_the_oldest_on(surfaces: SurfaceStore) -> None:
    for key_id, at in (("b", 2.0), ("c", 1.0), ("a", 2.0)):
        surfaces.add_key(a_key(key_id, created_at=at))
    listed = surfaces.keys()
    assert [key.id for key in listed] == ["c", "a", "b"]


def test_an_id_is_given_to_one_key_alone(surfaces: SurfaceStore) -> None:
    surfaces.add_key(a_key())
    with pytest.raises(IllegalStep):
        surfaces.add_key(a_key(team="ads"))
    assert surfaces.keys() == [a_key()]


def test_a_key_that_is_saved_is_the_one_that_is_found(surfaces: SurfaceStore) -> None:
    surfaces.add_key(a_key())
    surfaces.add_key(a_key("other"))
    revoked = a_key(revoked_at=3.0)
    surfaces.save_key(revoked)
    assert surfaces.key("k") == revoked
    assert surfaces.key("other") == a_key("other")
    surfaces.save_key(a_key("nobody"))
    assert surfaces.key("nobody") is None


# ---------------------------------------------------------------- files


def test_a_file_is_its_teams_alone(surfaces: SurfaceStore) -> None:
    file = a_file(expires_at=9.0, filename=SNOWMAN)
    surfaces.add_file(file)
    assert surfaces.file("search", "file-1") == file
    assert surfaces.file("ads", "file-1") is None
    assert surfaces.files("ads", limit=10) == Page([], False)
    assert not surfaces.drop_file("ads", "file-1")
    assert surfaces.file("search", "file-1") == file


def test_a_file_that_is_there_is_left_as_it_is(surfaces: SurfaceStore) -> None:
    surfaces.add_file(a_file())
    surfaces.add_file(a_file(filename="other.jsonl", team="ads"))
    assert surfaces.file("search", "file-1") == a_file()
    assert surfaces.file("ads", "file-1") is None


def test_a_file_is_forgotten_once(surfaces: SurfaceStore) -> None:
    surfaces.add_file(a_file())
    assert surfaces.drop_file("search", "file-1")
    assert not surfaces.drop_file("search", "file-1")
    assert surfaces.file("search", "file-1") is None
    assert ids(surfaces.files("search", limit=10)) == []


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_pages_of_files_hold_each_of_them_once(surfaces: SurfaceStore, order: Order) -> None:
    """Several were made at the same moment, and other teams' lie between them."""
    for number in range(7):
        surfaces.add_file(a_file(f"file-{number}", float(number // 3)))
        surfaces.add_file(a_file(f"theirs-{number}", float(number // 3), team="ads"))
    expected = [f"file-{number}" for number in range(7)]
    if order == "newest":
        expected.reverse()
    assert surfaces.files("search", limit=7, order=order).more is False
    assert ids(surfaces.files("search", limit=7, order=order)) == expected
    for limit in (1, 2, 3, 6):
        seen: list[str] = []
        more = True
        while more:
            page = surfaces.files("search", after=seen[-1] if seen else "", limit=limit, order=order)
            more = page.more
            assert len(page.items) == limit or not more
            seen += ids(page)
        assert seen == expected


def test_a_page_behind_the_last_file_is_empty(surfaces: SurfaceStore) -> None:
    surfaces.add_file(a_file())
    assert surfaces.files("search", after="file-1", limit=5) == Page([], False)
    assert surfaces.files("search", after="file-1", limit=5, order="oldest") == Page([], False)


def test_files_are_listed_by_what_they_are_for(surfaces: SurfaceStore) -> None:
    for number in range(6):
        purpose = "batch" if number % 2 else "batch_output"
        surfaces.add_file(a_file(f"file-{number}", float(number), purpose=purpose))
    assert ids(surfaces.files("search", purpose="batch", limit=10)) == ["file-5", "file-3", "file-1"]
    page = surfaces.files("search", purpose="batch", after="file-4", limit=1)
    assert (ids(page), page.more) == (["file-3"], True)
    assert ids(surfaces.files("search", purpose="assistants", limit=10)) == []


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_a_list_of_files_does_not_go_on_behind_what_is_not_in_it(
    surfaces: SurfaceStore, order: Order
) -> None:
    surfaces.add_file(a_file())
    surfaces.add_file(a_file("theirs", team="ads"))
    for cursor in ("nobody's", "theirs", "' OR 1 = 1 --"):
        with pytest.raises(NoSuchCursor):
            surfaces.files("search", after=cursor, limit=5, order=order)


def test_files_expire_at_their_moment_the_longest_over_first(surfaces: SurfaceStore) -> None:
    surfaces.add_file(a_file("for-ever"))
    for file_id, at, team in (("c", 30.0, "search"), ("a", 10.0, "ads"), ("b", 20.0, "search")):
        surfaces.add_file(a_file(file_id, team=team, expires_at=at))
    assert surfaces.expired_files(9.9) == []
    assert [file.id for file in surfaces.expired_files(20.0)] == ["a", "b"]
    assert [file.id for file in surfaces.expired_files(1e12, limit=1)] == ["a"]
    assert [file.id for file in surfaces.expired_files(1e12)] == ["a", "b", "c"]


# ---------------------------------------------------------------- uploads in parts


def with_part(number: int) -> Callable[[Upload], Upload]:
    def change(upload: Upload) -> Upload:
        return msgspec.structs.replace(upload, parts=(*upload.parts, Part(f"part-{number}", number)))

    return change


def completed(file: StoredFile) -> Callable[[Upload], Upload | None]:
    def change(upload: Upload) -> Upload | None:
        return None if upload.file else msgspec.structs.replace(upload, status="completed", file=file)

    return change


def test_an_upload_is_changed_by_its_team_alone(surfaces: SurfaceStore) -> None:
    surfaces.add_upload(an_upload(life=60.0))
    seen: list[Upload] = []

    def look(upload: Upload) -> None:
        seen.append(upload)

    assert surfaces.change_upload("ads", "upload-1", look) is None
    assert surfaces.change_upload("search", "upload-2", look) is None
    assert seen == []
    assert surfaces.change_upload("search", "upload-1", look) == an_upload(life=60.0)
    changed = surfaces.change_upload("search", "upload-1", with_part(3))
    assert changed == an_upload(life=60.0, parts=(Part("part-3", 3),))
    assert surfaces.change_upload("search", "upload-1", look) == changed


def test_what_a_change_of_an_upload_raises_leaves_it_as_it_was(surfaces: SurfaceStore) -> None:
    surfaces.add_upload(an_upload())

    def late(upload: Upload) -> Upload:
        raise ValueError(upload.id)

    with pytest.raises(ValueError, match="upload-1"):
        surfaces.change_upload("search", "upload-1", late)
    assert surfaces.change_upload("search", "upload-1", lambda _: None) == an_upload()


def test_a_file_of_an_upload_is_recorded_when_it_is_completed_and_once(surfaces: SurfaceStore) -> None:
    surfaces.add_upload(an_upload())
    surfaces.change_upload("search", "upload-1", with_part(1))
    assert ids(surfaces.files("search", limit=5)) == []
    file = a_file("file-of-it")
    done = surfaces.change_upload("search", "upload-1", completed(file))
    assert done is not None
    assert (done.status, done.file) == ("completed", file)
    assert surfaces.files("search", limit=5) == Page([file], False)
    # Deleted, the file does not come back when its upload is completed once more, or changed.
    assert surfaces.drop_file("search", file.id)
    assert surfaces.change_upload("search", "upload-1", completed(a_file("another"))) == done
    surfaces.change_upload("search", "upload-1", with_part(2))
    assert ids(surfaces.files("search", limit=5)) == []


def test_parts_that_come_at_once_are_all_kept_and_one_file_is_made(database: Database) -> None:
    with opened(database) as store:
        store.surfaces.add_upload(an_upload())
    start = threading.Barrier(6)

    def one(number: int) -> None:
        with opened(database) as mine:
            start.wait()
            mine.surfaces.change_upload("search", "upload-1", with_part(number))
            mine.surfaces.change_upload("search", "upload-1", completed(a_file(f"file-{number}")))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with opened(database) as store:
        upload = store.surfaces.change_upload("search", "upload-1", lambda _: None)
        assert upload is not None
        assert {part.bytes for part in upload.parts} == set(range(6))
        assert store.surfaces.files("search", limit=9).items == [upload.file]


def test_old_uploads_are_found_and_forgotten(surfaces: SurfaceStore) -> None:
    for number in (3, 1, 2):
        surfaces.add_upload(an_upload(f"upload-{number}", float(number), team=f"team-{number}"))
    assert [upload.id for upload in surfaces.old_uploads(2.0)] == ["upload-1", "upload-2"]
    assert [upload.id for upload in surfaces.old_uploads(9.0, limit=1)] == ["upload-1"]
    surfaces.drop_upload("upload-1")
    surfaces.drop_upload("upload-1")
    assert [upload.id for upload in surfaces.old_uploads(9.0)] == ["upload-2", "upload-3"]
    assert surfaces.change_upload("team-1", "upload-1", with_part(1)) is None


# ---------------------------------------------------------------- batches


def test_a_batch_is_kept_whole(surfaces: SurfaceStore) -> None:
    batch = a_batch(
        metadata={"for": SNOWMAN},
        tags={"env": "prod"},
        models=("openai/*",),
        deadline=9.0,
        output_life=60.0,
        digest="d",
        parts=(BatchPart("job", "openai/gpt-4.1-mini", "gpt-4.1-mini", 3),),
        faults=(LineFault("invalid_json", "no JSON", line=2),),
        output_file="file-1",
        counts=BatchCounts(3, 2, 1),
        usage=Usage(input=5, output=2),
        extra={"nested": [1, None]},
    )
    surfaces.add_batch(batch)
    assert surfaces.batch("search", "openai", "batch-1") == batch


def test_a_batch_is_its_teams_and_its_surfaces_alone(surfaces: SurfaceStore) -> None:
    surfaces.add_batch(a_batch(digest="d"))
    others: list[tuple[str, Surface]] = [("ads", "openai"), ("search", "anthropic")]
    for team, surface in others:
        assert surfaces.batch(team, surface, "batch-1") is None
        assert surfaces.batches(team, surface, limit=5) == Page([], False)
        assert surfaces.change_batch(team, surface, "batch-1", 2.0, ended) is None
        with pytest.raises(NoSuchCursor):
            surfaces.batches(team, surface, after="batch-1", limit=5)
        with pytest.raises(NoSuchCursor):
            surfaces.batches(team, surface, before="batch-1", limit=5)
    assert surfaces.twins("ads", "d", 0.0) == []
    one = held(surfaces)
    assert one.batch == a_batch(digest="d")
    assert surfaces.save_batch(one, "w", ended(one.batch), None)
    for team, surface in others:
        assert not surfaces.drop_batch(team, surface, "batch-1")
    assert surfaces.drop_batch("search", "openai", "batch-1")


def test_an_id_is_given_to_one_batch_alone(surfaces: SurfaceStore) -> None:
    surfaces.add_batch(a_batch())
    with pytest.raises(IllegalStep):
        surfaces.add_batch(a_batch(team="ads"))


@pytest.fixture
def seven(surfaces: SurfaceStore) -> list[str]:
    """Ids of seven batches, the newest first; some of one moment, and others' between them."""
    for number in range(7):
        at = float(number // 3)
        surfaces.add_batch(a_batch(f"batch-{number}", at))
        surfaces.add_batch(a_batch(f"theirs-{number}", at, team="ads"))
        surfaces.add_batch(a_batch(f"message-{number}", at, surface="anthropic"))
    return [f"batch-{number}" for number in reversed(range(7))]


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7])
def test_pages_of_batches_hold_each_of_them_once(
    surfaces: SurfaceStore, seven: list[str], limit: int
) -> None:
    seen: list[str] = []
    more = True
    while more:
        page = surfaces.batches("search", "openai", after=seen[-1] if seen else "", limit=limit)
        more = page.more
        assert len(page.items) == limit or not more
        seen += ids(page)
    assert seen == seven


@pytest.mark.parametrize("limit", [1, 2, 4, 6])
def test_pages_in_front_of_a_batch_lead_back_to_the_newest(
    surfaces: SurfaceStore, seven: list[str], limit: int
) -> None:
    """Each holds those next in front of it, and the newest of them first, as every list does."""
    seen = seven[-1:]
    more = True
    while more:
        page = surfaces.batches("search", "openai", before=seen[0], limit=limit)
        more = page.more
        assert len(page.items) == limit or not more
        seen = ids(page) + seen
    assert seen == seven
    assert surfaces.batches("search", "openai", before=seven[0], limit=limit) == Page([], False)


def test_a_list_of_batches_does_not_go_on_beside_what_is_not_in_it(
    surfaces: SurfaceStore, seven: list[str]
) -> None:
    for cursor in ("nobody's", "theirs-1", "message-1"):
        with pytest.raises(NoSuchCursor):
            surfaces.batches("search", "openai", after=cursor, limit=2)
        with pytest.raises(NoSuchCursor):
            surfaces.batches("search", "openai", before=cursor, limit=2)
    assert len(seven) == 7


def test_twins_ask_the_same_and_are_young_enough(surfaces: SurfaceStore) -> None:
    for batch_id, at, digest in (("a", 1.0, "d"), ("b", 2.0, "d"), ("c", 3.0, "e"), ("e", 4.0, "d")):
        surfaces.add_batch(a_batch(batch_id, at, digest=digest))
    assert [batch.id for batch in surfaces.twins("search", "d", 2.0)] == ["e", "b"]
    assert [batch.id for batch in surfaces.twins("search", "d", 0.0)] == ["e", "b", "a"]
    assert surfaces.twins("search", "d", 4.1) == []


# ---------------------------------------------------------------- who goes on with a batch


def test_a_new_batch_is_looked_at_at_once_and_by_one_alone(surfaces: SurfaceStore) -> None:
    surfaces.add_batch(a_batch(at=5.0))
    assert surfaces.next_batch() == 5.0
    assert surfaces.claim_batches("w", 4.9, LEASE) == []
    assert held(surfaces, "w", 5.0).batch == a_batch(at=5.0)
    assert surfaces.claim_batches("other", 5.0, LEASE) == []
    assert surfaces.claim_batches("w", 5.0, LEASE) == []
    # Held, it is next looked at when the lease ends.
    assert surfaces.next_batch() == 5.0 + LEASE


def test_the_longest_due_are_taken_first(surfaces: SurfaceStore) -> None:
    for number in (4, 2, 5, 1, 3):
        surfaces.add_batch(a_batch(f"batch-{number}", float(number), team=f"team-{number}"))
    taken = surfaces.claim_batches("w", 9.0, LEASE, limit=2)
    assert [one.batch.id for one in taken] == ["batch-1", "batch-2"]
    assert [one.batch.id for one in surfaces.claim_batches("w", 9.0, LEASE)] == [
        "batch-3",
        "batch-4",
        "batch-5",
    ]


def test_many_who_claim_at_once_share_the_batches(database: Database) -> None:
    with opened(database) as store:
        for number in range(40):
            store.surfaces.add_batch(a_batch(f"batch-{number}"))
    start = threading.Barrier(4)
    taken: list[tuple[int, str]] = []

    def one(number: int) -> None:
        with opened(database) as mine:
            start.wait()
            for _ in range(20):
                found = mine.surfaces.claim_batches(f"w{number}", 2.0, LEASE, limit=3)
                taken.extend((number, each.batch.id) for each in found)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(batch_id for _, batch_id in taken) == sorted(f"batch-{number}" for number in range(40))


def test_a_step_is_saved_with_its_files_and_lets_go_of_the_batch(surfaces: SurfaceStore) -> None:
    surfaces.add_batch(a_batch())
    one = held(surfaces)
    moved = one.batch.moved(BatchState.IN_PROGRESS, 2.0, output_file="out")
    assert surfaces.save_batch(one, "w", moved, 50.0, [a_file("out"), a_file("err")])
    assert surfaces.batch("search", "openai", "batch-1") == moved
    assert sorted(ids(surfaces.files("search", limit=5))) == ["err", "out"]
    assert surfaces.next_batch() == 50.0
    assert surfaces.claim_batches("other", 49.9, LEASE) == []
    assert held(surfaces, "other", 50.0).batch == moved


def test_a_step_is_saved_once_and_by_its_owner_alone(surfaces: SurfaceStore) -> None:
    surfaces.add_batch(a_batch())
    one = held(surfaces)
    moved = one.batch.moved(BatchState.IN_PROGRESS, 2.0)
    assert not surfaces.save_batch(one, "other", moved, 50.0, [a_file()])
    assert not surfaces.save_batch(Held(one.batch, one.version + 1), "w", moved, 50.0, [a_file()])
    assert ids(surfaces.files("search", limit=5)) == []
    assert surfaces.save_batch(one, "w", moved, 50.0)
    assert not surfaces.save_batch(one, "w", ended(one.batch), None, [a_file()])
    assert surfaces.batch("search", "openai", "batch-1") == moved
    assert ids(surfaces.files("search", limit=5)) == []


def test_who_outlived_the_lease_saves_nothing(surfaces: SurfaceStore) -> None:
    surfaces.add_batch(a_batch())
    late = held(surfaces, "late", 1.0)
    assert surfaces.claim_batches("other", 1.0 + LEASE - 0.1, LEASE) == []
    next_ = held(surfaces, "other", 1.0 + LEASE)
    assert next_.version > late.version
    assert not surfaces.save_batch(late, "late", ended(late.batch), None, [a_file()])
    assert not surfaces.extend_batch(late, "late", 999.0)
    assert ids(surfaces.files("search", limit=5)) == []
    moved = next_.batch.moved(BatchState.IN_PROGRESS, 40.0)
    assert surfaces.save_batch(next_, "other", moved, 50.0)
    assert surfaces.batch("search", "openai", "batch-1") == moved


def test_one_who_takes_a_batch_again_does_not_save_what_it_did_before(surfaces: SurfaceStore) -> None:
    """The owner's name is the same; the version is not."""
    surfaces.add_batch(a_batch())
    before = held(surfaces, "w", 1.0)
    again = held(surfaces, "w", 1.0 + LEASE)
    assert not surfaces.save_batch(before, "w", ended(before.batch), None)
    assert not surfaces.extend_batch(before, "w", 999.0)
    assert surfaces.next_batch() == 1.0 + 2 * LEASE
    assert surfaces.save_batch(again, "w", ended(again.batch), None)


def test_a_lease_is_kept_for_longer(surfaces: SurfaceStore) -> None:
    surfaces.add_batch(a_batch())
    one = held(surfaces)
    assert not surfaces.extend_batch(one, "other", 500.0)
    assert surfaces.extend_batch(one, "w", 100.0)
    assert surfaces.claim_batches("other", 99.9, LEASE) == []
    # It is still the same hold on it.
    assert surfaces.save_batch(one, "w", one.batch, 200.0)
    assert not surfaces.extend_batch(one, "w", 900.0)
    assert surfaces.next_batch() == 200.0


def test_a_job_of_a_batch_is_recorded_for_its_holder_alone(store: Store) -> None:
    surfaces = store.surfaces
    surfaces.add_batch(a_batch())
    before = held(surfaces, "w", 1.0)
    one = held(surfaces, "w", 1.0 + LEASE)
    put: list[str] = []
    for stale, owner in ((before, "w"), (one, "other")):
        with pytest.raises(Fenced):
            store.add_job(a_job("job"), shards(2), guard=Guard(stale, owner, lambda: put.append("stale")))
    assert store.jobs() == []
    assert store.shards("job") == []
    guard = Guard(one, "w", lambda: put.append("mine"))
    store.add_job(a_job("job"), shards(2), guard=guard)
    assert [job.id for job in store.jobs()] == ["job"]
    # Once, though the batch is held as before.
    with pytest.raises(Fenced):
        store.add_job(a_job("job"), shards(2), guard=guard)
    # Files are put in their places by whoever records the job, and by nobody else.
    assert put == ["mine"]
    # It does not let go of the batch.
    assert surfaces.save_batch(one, "w", one.batch, 200.0)
    with pytest.raises(Fenced):
        store.add_job(a_job("late"), shards(2, "late"), guard=guard)
    assert [job.id for job in store.jobs()] == ["job"]


def test_a_batch_that_is_changed_is_looked_at_now_and_not_by_who_held_it(surfaces: SurfaceStore) -> None:
    surfaces.add_batch(a_batch())
    one = held(surfaces)

    def cancel(batch: SurfaceBatch) -> SurfaceBatch:
        return batch.moved(BatchState.CANCELLING, 5.0)

    changed = surfaces.change_batch("search", "openai", "batch-1", 5.0, cancel)
    assert changed is not None
    assert changed.state is BatchState.CANCELLING
    moved = one.batch.moved(BatchState.IN_PROGRESS, 6.0)
    assert not surfaces.extend_batch(one, "w", 500.0)
    assert not surfaces.save_batch(one, "w", moved, 50.0, [a_file()])
    assert ids(surfaces.files("search", limit=5)) == []
    assert surfaces.batch("search", "openai", "batch-1") == changed
    assert surfaces.next_batch() == 5.0
    assert held(surfaces, "other", 5.0).batch == changed


def test_a_change_that_changes_nothing_leaves_the_holder_alone(surfaces: SurfaceStore) -> None:
    surfaces.add_batch(a_batch())
    one = held(surfaces)
    assert surfaces.change_batch("search", "openai", "batch-1", 5.0, lambda _: None) == a_batch()
    assert surfaces.change_batch("search", "openai", "batch-2", 5.0, ended) is None
    assert surfaces.next_batch() == 1.0 + LEASE
    assert surfaces.save_batch(one, "w", ended(one.batch), None)


def test_what_a_change_of_a_batch_raises_leaves_it_as_it_was(surfaces: SurfaceStore) -> None:
    surfaces.add_batch(a_batch())
    one = held(surfaces)
    with pytest.raises(IllegalStep):
        surfaces.change_batch(
            "search", "openai", "batch-1", 5.0, lambda batch: batch.moved(BatchState.COMPLETED, 5.0)
        )
    assert surfaces.batch("search", "openai", "batch-1") == a_batch()
    assert surfaces.save_batch(one, "w", ended(one.batch), None)


def test_a_batch_that_nobody_holds_can_be_woken(surfaces: SurfaceStore) -> None:
    surfaces.add_batch(a_batch())
    one = held(surfaces)
    surfaces.save_batch(one, "w", one.batch, 500.0)
    surfaces.wake_batch("batch-1", 10.0)
    assert surfaces.next_batch() == 10.0
    # What is due already is not put off.
    surfaces.wake_batch("batch-1", 20.0)
    assert surfaces.next_batch() == 10.0
    surfaces.wake_batch("nobody's", 5.0)
    assert held(surfaces, "other", 10.0).batch == a_batch()


def test_a_batch_that_is_held_is_not_woken(surfaces: SurfaceStore) -> None:
    surfaces.add_batch(a_batch())
    one = held(surfaces)
    surfaces.wake_batch("batch-1", 2.0)
    assert surfaces.claim_batches("other", 2.0, LEASE) == []
    assert surfaces.save_batch(one, "w", one.batch, 50.0)


def test_a_batch_that_has_ended_is_never_claimed_or_woken(surfaces: SurfaceStore) -> None:
    surfaces.add_batch(a_batch())
    one = held(surfaces)
    assert surfaces.save_batch(one, "w", ended(one.batch), None)
    surfaces.wake_batch("batch-1", 10.0)
    assert surfaces.next_batch() is None
    assert surfaces.claim_batches("w", 1e12, LEASE) == []
    assert surfaces.batch("search", "openai", "batch-1") == ended(one.batch)


def test_a_batch_is_forgotten_when_it_has_ended_and_not_before(surfaces: SurfaceStore) -> None:
    surfaces.add_batch(a_batch())
    surfaces.add_batch(a_batch("batch-2", 900.0))
    assert not surfaces.drop_batch("search", "openai", "batch-1")
    one = held(surfaces)
    assert not surfaces.drop_batch("search", "openai", "batch-1")
    surfaces.save_batch(one, "w", ended(one.batch), None)
    assert surfaces.drop_batch("search", "openai", "batch-1")
    assert not surfaces.drop_batch("search", "openai", "batch-1")
    assert ids(surfaces.batches("search", "openai", limit=5)) == ["batch-2"]


def test_what_is_remembered_is_there_when_the_database_is_opened_again(database: Database) -> None:
    with opened(database) as store:
        store.surfaces.add_key(a_key())
        store.surfaces.add_file(a_file())
        store.surfaces.add_upload(an_upload())
        store.surfaces.add_batch(a_batch())
    with opened(database) as store:
        assert store.surfaces.key("k") == a_key()
        assert store.surfaces.file("search", "file-1") == a_file()
        assert store.surfaces.old_uploads(1.0) == [an_upload()]
        assert held(store.surfaces).batch == a_batch()
