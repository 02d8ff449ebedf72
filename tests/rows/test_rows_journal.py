"""The journal of a realtime attempt, wherever its writer was stopped."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfrate.base.errors import IllegalStep, StorageError
from halfrate.base.results import Kind
from halfrate.rows.journal import Journal, JournalInUse, State

from .test_rows_collect import PREFIX, chat, collect, http

ROWS = 6


def line_of(slot: int, text: str = "hi") -> bytes:
    return json.dumps(chat(slot, text)).encode() + b"\n"


def paths(folder: Path) -> tuple[Path, Path]:
    return folder / "replies", folder / "marks"


def opened(folder: Path, rows: int = ROWS, first_row: int = 0) -> Journal:
    return Journal(*paths(folder), rows=rows, first_row=first_row, row_prefix=PREFIX)


def states(journal: Journal) -> list[State]:
    return [journal.state(slot) for slot in range(ROWS)]


def answer(journal: Journal, *slots: int) -> None:
    for slot in slots:
        journal.sending(slot)
        journal.add(slot, line_of(slot))


# ---------------------------------------------------------------- what it knows


def test_every_state_survives_its_process(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        assert states(journal) == [State.UNSENT] * ROWS
        answer(journal, 0)
        journal.sending(1)
        journal.refused(1)
        journal.sending(2)
        journal.lost(2)
        journal.sending(3)
        assert journal.state(3) == State.IN_FLIGHT
        journal.sending(4)
        journal.lost(4)
        answer(journal, 4)
    found = [State.ANSWERED, State.UNSENT, State.DOUBTFUL, State.DOUBTFUL, State.ANSWERED, State.UNSENT]
    # However often it is opened: a row that was under way is in doubt, once.
    for _ in range(3):
        with opened(tmp_path) as journal:
            assert states(journal) == found
            assert [journal.doubted(slot) for slot in range(ROWS)] == [0, 0, 1, 1, 1, 0]
            assert journal.doubts == 3
            assert list(journal.slots(State.UNSENT, State.DOUBTFUL)) == [1, 2, 3, 5]
            assert journal.count(State.ANSWERED) == 2


def test_a_row_that_is_sent_again_after_a_kill_stays_in_doubt_for_its_first_call(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.sending(0)
    with opened(tmp_path) as journal:
        journal.sending(0)
    with opened(tmp_path) as journal:
        answer(journal, 0)
        assert (journal.state(0), journal.doubted(0)) == (State.ANSWERED, 2)
    with opened(tmp_path) as journal:
        assert (journal.state(0), journal.doubted(0)) == (State.ANSWERED, 2)


def test_what_cannot_be(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        answer(journal, 0)
        journal.sending(1)
        for wrong in (
            lambda: journal.sending(0),
            lambda: journal.sending(1),
            lambda: journal.add(0, line_of(0)),
            lambda: journal.add(1, b"{}"),
            lambda: journal.add(1, b'{"a":\n1}\n'),
        ):
            with pytest.raises(IllegalStep):
                wrong()
        journal.add(1, line_of(1))
    assert paths(tmp_path)[0].read_bytes() == line_of(0) + line_of(1)


def test_only_one_process_writes_it(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        answer(journal, 0)
        with pytest.raises(JournalInUse, match="Another process is calling the rows"):
            opened(tmp_path)
        answer(journal, 1)
    with opened(tmp_path) as journal:
        assert journal.count(State.ANSWERED) == 2


def test_rows_of_a_later_shard(tmp_path: Path) -> None:
    with opened(tmp_path, rows=3, first_row=100) as journal:
        journal.sending(2)
        journal.add(2, line_of(102))
    with opened(tmp_path, rows=3, first_row=100) as journal:
        assert list(journal.slots(State.ANSWERED)) == [2]


# ---------------------------------------------------------------- torn


Step = tuple[str, int]
SCRIPT: tuple[Step, ...] = (
    ("sending", 0),
    ("sending", 1),
    ("refused", 1),
    ("answered", 0),
    ("sending", 2),
    ("sending", 1),
    ("lost", 2),
    ("answered", 1),
    ("sending", 3),
    ("sending", 2),
    ("answered", 2),
    ("sending", 5),
    ("answered", 5),
)


def play(journal: Journal, script: tuple[Step, ...]) -> None:
    for what, slot in script:
        if what == "answered":
            journal.add(slot, line_of(slot, f"line\u2028{slot}"))
        else:
            getattr(journal, what)(slot)


def expected(script: tuple[Step, ...]) -> tuple[list[State], list[int]]:
    """States and doubts after a kill behind these steps, by a rule of this test's own."""
    found = [State.UNSENT] * ROWS
    doubts = [0] * ROWS
    for what, slot in script:
        if what == "sending":
            found[slot] = State.IN_FLIGHT
        elif what == "lost":
            found[slot], doubts[slot] = State.DOUBTFUL, doubts[slot] + 1
        else:
            found[slot] = State.ANSWERED if what == "answered" else State.UNSENT
    for slot, state in enumerate(found):
        if state == State.IN_FLIGHT:
            found[slot], doubts[slot] = State.DOUBTFUL, doubts[slot] + 1
    return found, doubts


def writes(folder: Path, script: tuple[Step, ...]) -> list[tuple[int, bytes]]:
    """What each step writes: (0 for the replies, 1 for the marks; the bytes)."""
    found: list[tuple[int, bytes]] = []
    sizes = [0, 0]
    with opened(folder) as journal:
        for step in script:
            play(journal, (step,))
            for number, path in enumerate(paths(folder)):
                data = path.read_bytes()
                if len(data) > sizes[number]:
                    found.append((number, data[sizes[number] :]))
                    sizes[number] = len(data)
    return found


def test_torn_at_every_byte(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    steps = writes(whole, SCRIPT)
    assert len(steps) == len(SCRIPT)
    tried = 0
    for done, (number, data) in enumerate(steps):
        for cut in range(len(data)):
            folder = tmp_path / f"{done}-{cut}"
            folder.mkdir()
            files = [b"", b""]
            for which, part in [*steps[:done], (number, data[:cut])]:
                files[which] += part
            for path, content in zip(paths(folder), files, strict=True):
                path.write_bytes(content)
            with opened(folder) as journal:
                found, doubts = expected(SCRIPT[:done])
                assert states(journal) == found, (done, cut)
                assert [journal.doubted(slot) for slot in range(ROWS)] == doubts, (done, cut)
                # And it goes on from there.
                left = list(journal.slots(State.UNSENT, State.DOUBTFUL))
                answer(journal, *left)
            got, records = collect(
                folder, ROWS, (json.loads(one) for one in journal.path.read_bytes().splitlines())
            )
            assert (got.counts.succeeded, got.duplicates, got.malformed) == (ROWS, 0, 0)
            assert len(records) == ROWS
            tried += 1
    assert tried == sum(len(data) for _, data in steps)


@st.composite
def scripts(draw: st.DrawFn) -> tuple[Step, ...]:
    state = [State.UNSENT] * ROWS
    script: list[Step] = []
    for _ in range(draw(st.integers(0, 30))):
        slot = draw(st.integers(0, ROWS - 1))
        if state[slot] == State.IN_FLIGHT:
            what = draw(st.sampled_from(["answered", "refused", "lost"]))
            state[slot] = State.ANSWERED if what == "answered" else State.UNSENT
        elif state[slot] == State.ANSWERED:
            continue
        else:
            what, state[slot] = "sending", State.IN_FLIGHT
        script.append((what, slot))
    return tuple(script)


@settings(max_examples=150, deadline=None)
@given(script=scripts(), again=scripts())
def test_any_history_and_any_next_one(
    tmp_path_factory: pytest.TempPathFactory, script: tuple[Step, ...], again: tuple[Step, ...]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    with opened(folder) as journal:
        play(journal, script)
    found, doubts = expected(script)
    with opened(folder) as journal:
        assert (states(journal), [journal.doubted(slot) for slot in range(ROWS)]) == (found, doubts)
        # A second process does what it may: it calls no row that is answered.
        rest = tuple(step for step in again if found[step[1]] != State.ANSWERED)
        play(journal, rest)
    after, more = expected(rest)
    for slot in range(ROWS):
        if not any(step[1] == slot for step in rest):
            after[slot] = found[slot]
    with opened(folder) as journal:
        assert states(journal) == after
        assert [journal.doubted(slot) for slot in range(ROWS)] == [
            a + b for a, b in zip(doubts, more, strict=True)
        ]


def test_a_hole_in_the_midst_is_taken_out(tmp_path: Path) -> None:
    """After a power cut a page that was never written reads as zeros, though later ones are there."""
    with opened(tmp_path) as journal:
        answer(journal, 0, 1, 2, 3)
        journal.sending(4)
    replies, marks = paths(tmp_path)
    lines = replies.read_bytes().splitlines(keepends=True)
    hole = lines[1][:40] + b"\0" * (len(lines[1]) + len(lines[2]) - 60) + lines[2][-20:]
    replies.write_bytes(lines[0] + hole + lines[3])
    raw = marks.read_bytes()
    marks.write_bytes(raw[:8] + b"\0" * 8 + raw[16:])
    with opened(tmp_path) as journal:
        # The mark of row 1 is gone with its reply: nobody can know that it was sent.
        assert states(journal)[:5] == [
            State.ANSWERED,
            State.UNSENT,
            State.DOUBTFUL,
            State.ANSWERED,
            State.DOUBTFUL,
        ]
        assert journal.dropped == 1
        answer(journal, 5)
    assert replies.read_bytes() == lines[0] + lines[3] + line_of(5)
    assert not replies.with_name("replies.tmp").exists()


def test_lines_of_somebody_else_are_taken_out(tmp_path: Path) -> None:
    strange = [
        b'{"custom_id":"hr-other-0-1-0"}\n',
        b'{"custom_id":"%bx"}\n' % PREFIX.encode(),
        b'{"custom_id":"%b%d"}\n' % (PREFIX.encode(), ROWS),
        b"null\n",
        b"\n",
        b"\xff\n",
    ]
    replies, _ = paths(tmp_path)
    replies.write_bytes(b"".join([strange[0], line_of(0), *strange[1:], line_of(1)]))
    with opened(tmp_path) as journal:
        assert (journal.dropped, journal.count(State.ANSWERED)) == (len(strange), 2)
    assert replies.read_bytes() == line_of(0) + line_of(1)


# ---------------------------------------------------------------- durability


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of files at the moment they were synced."""
    found: list[int] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        real(handle)
        found.append(os.fstat(handle).st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def test_one_sync_for_all_that_came(tmp_path: Path, synced: list[int]) -> None:
    with opened(tmp_path, rows=100) as journal:
        synced.clear()
        for slot in range(100):
            journal.sending(slot)
            assert journal.add(slot, line_of(slot)) == slot + 1
        assert (journal.written, journal.durable, synced) == (100, 0, [])
        assert journal.sync() == 100
        assert journal.durable == 100
        assert synced == [paths(tmp_path)[0].stat().st_size]
        assert journal.sync() == 100
        assert len(synced) == 1


def test_what_is_written_during_a_sync_is_not_called_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as journal:
        answer(journal, 0)
        real = os.fsync

        def fsync(handle: int) -> None:
            real(handle)
            answer(journal, 1)

        monkeypatch.setattr(os, "fsync", fsync)
        assert journal.sync() == 1
        monkeypatch.setattr(os, "fsync", real)
        assert (journal.written, journal.durable) == (2, 1)
        assert journal.sync() == 2


def test_what_a_killed_process_left_is_synced_before_anything_else(tmp_path: Path, synced: list[int]) -> None:
    with opened(tmp_path) as journal:
        answer(journal, 0)
    synced.clear()
    with opened(tmp_path):
        assert paths(tmp_path)[0].stat().st_size in synced


def failing(real: Callable[[int, Any], int], at: int) -> Callable[[int, Any], int]:
    """A disk that takes so many bytes more, and then is full."""
    left = at

    def write(handle: int, data: Any) -> int:
        nonlocal left
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = min(left, len(data))
        left -= part
        return real(handle, memoryview(data)[:part])

    return write


def test_a_full_disk_loses_the_answer_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path) as journal:
        answer(journal, 0)
        journal.sending(1)
        real = os.write
        monkeypatch.setattr(os, "write", failing(real, 50))
        with pytest.raises(StorageError, match=r"No space left.*Row 1 was answered, and may be paid for"):
            journal.add(1, line_of(1))
        assert journal.state(1) == State.DOUBTFUL
        with pytest.raises(StorageError, match="Row 2 was not sent"):
            journal.sending(2)
        assert journal.state(2) == State.UNSENT
        monkeypatch.setattr(os, "write", real)
        answer(journal, 2)
    assert paths(tmp_path)[0].read_bytes() == line_of(0) + line_of(2)
    with opened(tmp_path) as journal:
        assert states(journal)[:3] == [State.ANSWERED, State.DOUBTFUL, State.ANSWERED]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"marks cannot be used .*Nothing was sent"):
        opened(tmp_path / "gone")


# ---------------------------------------------------------------- as a results file


def test_the_collector_reads_it_as_a_result_file(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        for slot in (4, 2, 0):
            answer(journal, slot)
        for slot, status in ((1, 400), (3, 429)):
            journal.sending(slot)
            journal.add(slot, json.dumps(http(slot, status)).encode() + b"\n")
        journal.sending(5)
        journal.lost(5)
    raw = [json.loads(one) for one in journal.path.read_bytes().split(b"\n") if one]
    collection, records = collect(tmp_path, ROWS, raw)
    kinds = [kind for kind, _ in records]
    assert kinds == [
        Kind.SUCCEEDED,
        Kind.FAILED,
        Kind.SUCCEEDED,
        Kind.FAILED_PASSING,
        Kind.SUCCEEDED,
        Kind.MISSING,
    ]
    (billed,) = collection.billed
    assert (billed.rows, collection.malformed, collection.unknown) == (3, 0, 0)


# ---------------------------------------------------------------- copies elsewhere


class Elsewhere:
    """A copy of a file in memory, which outlives a machine."""

    def __init__(self, path: Path, pieces: list[bytes]) -> None:
        self._path = path
        self._pieces = pieces

    def bring(self) -> int:
        whole = b"".join(self._pieces)
        here = self._path.read_bytes()
        if not here.startswith(whole):
            self._path.write_bytes(whole)
        return len(whole)

    def add(self, data: bytes) -> None:
        self._pieces.append(data)


def copied(folder: Path, pieces: tuple[list[bytes], list[bytes]]) -> Journal:
    folder.mkdir(exist_ok=True)
    replies, marks = paths(folder)
    return Journal(
        replies,
        marks,
        rows=ROWS,
        first_row=0,
        row_prefix=PREFIX,
        copies=(Elsewhere(replies, pieces[0]), Elsewhere(marks, pieces[1])),
    )


def test_a_journal_is_gone_on_with_where_its_machine_is_lost(tmp_path: Path) -> None:
    pieces: tuple[list[bytes], list[bytes]] = ([], [])
    journal = copied(tmp_path / "lost", pieces)
    answer(journal, 0, 1)
    journal.sending(2)
    assert journal.durable == 0
    assert journal.sync() == journal.durable == 2
    # Of this nobody knows any more, as of what a power cut takes.
    answer(journal, 3)
    with copied(tmp_path / "other", pieces) as journal:
        assert states(journal) == [
            State.ANSWERED, State.ANSWERED, State.DOUBTFUL, State.UNSENT, State.UNSENT, State.UNSENT,
        ]  # fmt: skip
        assert journal.doubts == 1
        answer(journal, 2, 3)
        journal.sync()
    with copied(tmp_path / "third", pieces) as journal:
        assert journal.count(State.ANSWERED) == 4
        assert journal.doubts == 1


def test_what_a_process_could_not_copy_the_next_on_its_machine_copies_at_once(tmp_path: Path) -> None:
    pieces: tuple[list[bytes], list[bytes]] = ([], [])
    journal = copied(tmp_path / "here", pieces)
    answer(journal, 0, 1)
    assert pieces == ([], [])
    journal.close()
    with copied(tmp_path / "here", pieces) as journal:
        assert journal.count(State.ANSWERED) == 2
    with copied(tmp_path / "there", pieces) as journal:
        assert journal.count(State.ANSWERED) == 2


def test_a_reply_that_cannot_be_copied_is_not_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: tuple[list[bytes], list[bytes]] = ([], [])

    def away(_self: Elsewhere, _data: bytes) -> None:
        raise StorageError("the depot is away")

    with copied(tmp_path / "here", pieces) as journal:
        answer(journal, 0)
        with monkeypatch.context() as patch:
            patch.setattr(Elsewhere, "add", away)
            with pytest.raises(StorageError, match="the depot is away"):
                journal.sync()
        assert journal.durable == 0
        answer(journal, 1)
        assert journal.sync() == journal.durable == 2
    assert b"".join(pieces[0]) == line_of(0) + line_of(1)
