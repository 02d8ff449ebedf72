"""The journal of one realtime attempt: what was sent, and every reply as soon as it is there.

    replies   result lines in the provider's own batch form, one a row, in the order in which they came: the
              file is read afterwards as a downloaded result file is
    marks     8 bytes each time a row is about to be called, was refused, or lost its reply; beside the
              replies, so that nothing but result lines stands among these

A mark is written before the call leaves and is not synced: it has to survive a killed process, not a power cut.
Replies are written at once, and synced together (`sync`), so that a hundred a second cost a few syncs. What a
process leaves behind, wherever it was killed, says of every row whether it was answered, may have been run unseen,
or was never sent. A reply that was written in part is recognised and dropped: its row may have been run.

After a power cut the replies of the last moments, and the marks of rows called in them, may be missing. So they may
where a machine is lost and the journal is gone on with from copies elsewhere (`Copy`), which `sync` adds to.
"""

import enum
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol, Self

import msgspec

from halfrate.base.disk import sync_folder
from halfrate.base.errors import HalfrateError, IllegalStep, StorageError
from halfrate.rows.lines import BLOCK, line_blocks

_MARK: Final = struct.Struct("<II")
_CHECK: Final = 0x5BD1E995
"""What the second number of a mark is the first one's distance from, bit by bit: a mark of zeros is none."""
_SENDING, _REFUSED, _LOST = 1, 2, 3
_BITS: Final = 2
_PIECE: Final = 8 << 20
"""Bytes that are put into a copy at a time, at most."""


class State(enum.IntEnum):
    """How a row stands in this attempt."""

    UNSENT = 0
    """Never sent, or every call of it was refused: it was not run, and is not paid for."""
    IN_FLIGHT = 1
    """This process is calling it."""
    ANSWERED = 2
    """It has a result line."""
    DOUBTFUL = 3
    """It was sent, and nobody knows what became of it: it may be paid for."""


class JournalInUse(HalfrateError):
    """Another process writes this journal. While it lives, nobody else may call these rows."""


class Copy(Protocol):
    """A copy of a file, elsewhere. Its methods wait, and raise StorageError."""

    def bring(self) -> int:
        """Have the file begin with all that is in the copy; how many bytes that are."""
        ...

    def add(self, data: bytes) -> None:
        """Keep what was added to the file."""
        ...


class _Copied:
    """A file of the journal, and how much of it is in its copy."""

    def __init__(self, copy: Copy) -> None:
        self._copy = copy
        self._done = copy.bring()

    def put(self, handle: int, size: int) -> None:
        """Put what was added, up to so many bytes of the file."""
        while self._done < size:
            data = os.pread(handle, min(size - self._done, _PIECE), self._done)
            if not data:
                # Of what was there before, a part made no sense, and was taken out.
                return
            self._copy.add(data)
            self._done += len(data)


class _Named(msgspec.Struct):
    custom_id: str


_decode = msgspec.json.Decoder(_Named).decode


class Journal:
    """Writes one attempt's journal, and goes on with what an earlier process left of it.

    Use as a context manager. Memory: two bytes a row of the shard.

    Args:
        replies: the file of result lines.
        marks: the file of marks.
        rows: rows of the shard; a row is known by its slot, 0 to `rows` - 1.
        first_row: the shard's first row.
        row_prefix: what stands before the row's number in the ids of this attempt.
        copies: where replies and marks are copied to, and brought from; a copy of each, if of any.

    Raises JournalInUse, StorageError.
    """

    def __init__(
        self,
        replies: Path,
        marks: Path,
        *,
        rows: int,
        first_row: int,
        row_prefix: str,
        copies: tuple[Copy, Copy] | None = None,
    ) -> None:
        self.path = replies
        self.written = 0
        """Replies that this process has written."""
        self.durable = 0
        """Of these, how many are certain to survive a power cut, and have been copied."""
        self.dropped = 0
        """Lines that an earlier process left and that make no sense; they were taken out."""
        self._states = bytearray(rows)
        self._doubts = bytearray(rows)
        self._first_row = first_row
        self._row_prefix = row_prefix
        self._handles: list[int] = []
        self._copied: tuple[_Copied, _Copied] | None = None
        # Bytes of the files, without what is being written.
        self._replies_size = self._marks_size = 0
        try:
            self._marks = self._open(marks)
            self._lock(marks)
            self._replies = self._open(replies)
            if copies is not None:
                self._copied = (_Copied(copies[0]), _Copied(copies[1]))
            self._recover(marks)
            self._replies_size = os.fstat(self._replies).st_size
            self._marks_size = os.fstat(self._marks).st_size
            # What an earlier process wrote here and could not copy any more.
            self._copy()
            sync_folder(replies.parent)
        except OSError as error:
            self.close()
            raise StorageError(
                f"{error.filename or replies} cannot be used ({error.strerror}). Nothing was sent. Mend it and attach "
                "to the job again."
            ) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ------------------------------------------------------------ what is known

    def state(self, slot: int) -> State:
        return State(self._states[slot])

    def count(self, state: State) -> int:
        return self._states.count(state)

    def slots(self, *states: State) -> Iterator[int]:
        """Slots in one of these states, ascending. Slots that are not in this attempt are UNSENT."""
        wanted = frozenset(map(int, states))
        return (slot for slot, state in enumerate(self._states) if state in wanted)

    def doubted(self, slot: int) -> int:
        """How many calls of a row ended without anybody knowing how. Each of them may have been billed, whether
        or not a later one was answered."""
        return self._doubts[slot]

    @property
    def doubts(self) -> int:
        """Calls of all rows that may have been billed unseen."""
        return sum(self._doubts)

    # ------------------------------------------------------------ what happens

    def sending(self, slot: int) -> None:
        """A row is about to be called. To be said before the call leaves; raises StorageError."""
        if self._states[slot] in {State.IN_FLIGHT, State.ANSWERED}:
            raise IllegalStep(f"row {self._first_row + slot} is {self.state(slot).name} and cannot be called")
        self._mark(slot, _SENDING)
        self._states[slot] = State.IN_FLIGHT

    def refused(self, slot: int) -> None:
        """The call was refused, or never left: the row was not run by it."""
        self._mark(slot, _REFUSED)
        self._states[slot] = State.UNSENT

    def lost(self, slot: int) -> None:
        """Nobody knows what became of the call."""
        self._mark(slot, _LOST)
        self._doubt(slot)

    def add(self, slot: int, line: bytes) -> int:
        """Write a row's result line, ending in its only newline. Gives the number of replies written: it is durable
        when `durable` has come so far. Raises StorageError; the row is then in doubt."""
        if self._states[slot] == State.ANSWERED or line.find(b"\n") != len(line) - 1:
            raise IllegalStep(f"row {self._first_row + slot} cannot be given this result: {line[:80]!r}")
        size = os.fstat(self._replies).st_size
        try:
            _put(self._replies, line)
        except OSError as error:
            self._doubt(slot)
            with suppress(OSError):
                # Of half a line the next one would become part.
                os.ftruncate(self._replies, size)
            raise StorageError(
                f"{self.path} could not be written ({error.strerror}). Row {self._first_row + slot} was answered, and "
                "may be paid for; its answer is lost. Make room and attach to the job again."
            ) from error
        self._states[slot] = State.ANSWERED
        self._replies_size = size + len(line)
        self.written += 1
        return self.written

    def sync(self) -> int:
        """Make every reply that is written by now survive a power cut, and copy it; gives how many that are. May be
        called in a thread while others write. Raises StorageError."""
        written = self.written
        if self.durable < written:
            try:
                os.fsync(self._replies)
                self._copy()
            except OSError as error:
                raise StorageError(
                    f"{self.path} could not be written ({error.strerror}). The answers of the last moments may be "
                    "lost, and they are paid for. Mend it and attach to the job again."
                ) from error
            self.durable = written
        return written

    def _copy(self) -> None:
        """Copy what is written by now: marks first, so that no reply stands there whose call does not."""
        if self._copied is not None:
            replies, marks = self._replies_size, self._marks_size
            self._copied[1].put(self._marks, marks)
            self._copied[0].put(self._replies, replies)

    def close(self) -> None:
        """Let go of the files. What was not synced is left to the kernel."""
        for handle in self._handles:
            with suppress(OSError):
                os.close(handle)
        self._handles.clear()

    # ------------------------------------------------------------ files

    def _open(self, path: Path) -> int:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._handles.append(handle)
        return handle

    def _lock(self, marks: Path) -> None:
        try:
            fcntl.flock(self._marks, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalInUse(
                f"Another process is calling the rows of {marks.name}; they are left to it."
            ) from None

    def _mark(self, slot: int, what: int) -> None:
        value = slot << _BITS | what
        try:
            _put(self._marks, _MARK.pack(value, value ^ _CHECK))
            self._marks_size += _MARK.size
        except OSError as error:
            raise StorageError(
                f"The journal beside {self.path} could not be written ({error.strerror}). Row "
                f"{self._first_row + slot} was not sent again. Make room and attach to the job again."
            ) from error

    def _doubt(self, slot: int) -> None:
        self._states[slot] = State.DOUBTFUL
        self._doubts[slot] = min(255, self._doubts[slot] + 1)

    # ------------------------------------------------------------ after an earlier process

    def _recover(self, marks: Path) -> None:
        self._read_marks(marks)
        self._read_replies()
        for slot in list(self.slots(State.IN_FLIGHT)):
            self.lost(slot)

    def _read_marks(self, marks: Path) -> None:
        size = 0
        with marks.open("rb", buffering=BLOCK) as file:
            while len(record := file.read(_MARK.size)) == _MARK.size:
                size += _MARK.size
                value, check = _MARK.unpack(record)
                slot, what = value >> _BITS, value & ((1 << _BITS) - 1)
                if value ^ check == _CHECK and slot < len(self._states):
                    self._play(slot, what)
        # What follows the last whole mark was never written to its end.
        os.ftruncate(self._marks, size)

    def _play(self, slot: int, what: int) -> None:
        if what == _SENDING:
            if self._states[slot] == State.IN_FLIGHT:
                # The process that sent it was killed, and another one sent it again.
                self._doubt(slot)
            self._states[slot] = State.IN_FLIGHT
        elif what == _REFUSED:
            self._states[slot] = State.UNSENT
        elif what == _LOST:
            self._doubt(slot)

    def _read_replies(self) -> None:
        whole = 0
        with self.path.open("rb", buffering=BLOCK) as file:
            for lines in line_blocks(file):
                for line in lines:
                    if not line.endswith(b"\n"):
                        continue
                    whole += len(line)
                    slot = self._slot_of(line)
                    if slot is None:
                        self.dropped += 1
                    else:
                        self._states[slot] = State.ANSWERED
        os.ftruncate(self._replies, whole)
        if self.dropped:
            self._rewrite()
        elif whole:
            # Who wrote this may have been killed before it was synced.
            os.fsync(self._replies)

    def _slot_of(self, line: bytes) -> int | None:
        try:
            name = _decode(line).custom_id
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        digits = name[len(self._row_prefix) :]
        if not name.startswith(self._row_prefix) or not (digits.isascii() and digits.isdigit()):
            return None
        slot = int(digits) - self._first_row
        return slot if 0 <= slot < len(self._states) else None

    def _rewrite(self) -> None:
        """Leave out what makes no sense: a power cut can leave a hole in the midst of a file."""
        draft = self.path.with_name(self.path.name + ".tmp")
        with self.path.open("rb", buffering=BLOCK) as source, draft.open("wb") as target:
            for lines in line_blocks(source):
                target.writelines(line for line in lines if self._slot_of(line) is not None)
            target.flush()
            os.fsync(target.fileno())
        draft.replace(self.path)
        os.close(self._replies)
        self._handles.remove(self._replies)
        self._replies = self._open(self.path)


def _put(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
