"""What running a batch's rows has in common at every provider: order, reading, row faults, writing."""

import random
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from halfrate.emulator._answers import PLAIN, Twist
from halfrate.emulator._faults import Fault, FaultBook
from halfrate.emulator._prices import Model, Tokens
from halfrate.emulator._quirks import Quirks
from halfrate.emulator._settings import Pace

WRITE_BYTES = 1024 * 1024

_FLAGS = {
    "row-malformed": "malformed",
    "row-missing": "missing",
    "row-unknown": "stranger",
    "row-no-id": "no_id",
    "row-both-files": "both_files",
    "row-status-zero": "status_zero",
}
_TWISTS = {"row-refusal": "refusal", "row-truncated": "truncated", "row-unicode": "unicode"}
_ROW_FAULTS = frozenset({*_FLAGS, *_TWISTS, "row-error", "row-null-error", "row-big", "row-duplicate"})


class Ask(msgspec.Struct, frozen=True):
    """One request to a model: who asks whom, when, in which batch, and what faults do to the answer."""

    project: str
    now: float
    about: str
    batch_id: str = ""
    twist: Twist = PLAIN
    provider: str = "openai"


class Answered(msgspec.Struct, frozen=True):
    """What a model answered: the response body, and what it costs."""

    body: dict[str, Any]
    model: Model
    tokens: Tokens
    reasoning: int = 0


class RowPlan(msgspec.Struct):
    """What the faults have in store for one row."""

    error_status: int | None = None
    null_error: bool = False
    status_zero: bool = False
    missing: bool = False
    malformed: bool = False
    copies: int = 1
    stranger: bool = False
    no_id: bool = False
    both_files: bool = False
    twist: Twist = PLAIN

    @property
    def fails(self) -> bool:
        return self.error_status is not None or self.status_zero


def active_row_faults(faults: FaultBook) -> list[str]:
    return faults.among(_ROW_FAULTS)


def plan_row(
    faults: FaultBook, active: list[str], provider: str, about: str, row: tuple[str, bytes]
) -> RowPlan:
    """Ask every active row fault about one row: `about` is the attempt, `row` (fingerprint, raw body)."""
    plan = RowPlan()
    fingerprint, body = row
    for name in active:
        fault = faults.strike(name, provider, about, body, content=fingerprint)
        if fault is not None:
            plan = _with(plan, fault)
    return plan


def _with(plan: RowPlan, fault: Fault) -> RowPlan:
    """The plan with one more fault in it."""
    changed = msgspec.structs.replace
    if fault.name in _FLAGS:
        return changed(plan, **{_FLAGS[fault.name]: True})
    if fault.name in _TWISTS:
        return changed(plan, twist=changed(plan.twist, **{_TWISTS[fault.name]: True}))
    if fault.name == "row-big":
        return changed(plan, twist=changed(plan.twist, size=fault.whole("size")))
    if fault.name == "row-duplicate":
        return changed(plan, copies=2)
    null_error = fault.name == "row-null-error"
    return changed(plan, error_status=fault.whole("status"), null_error=null_error)


class Rows:
    """A batch's input on disk: where each line starts, the order rows finish in, and how many have."""

    def __init__(self, path: Path, offsets: "array[int]", order: "array[int]") -> None:
        self.path = path
        self.done = 0
        self._offsets = offsets
        self._order = order

    @property
    def total(self) -> int:
        return len(self._order)

    def take(self, upto: int) -> Iterator[bytes]:
        """The lines of the rows that finish next, until `upto` have; each counts as done once yielded."""
        if upto <= self.done:
            return
        with self.path.open("rb") as source:
            while self.done < upto:
                source.seek(self._offsets[self._order[self.done]])
                self.done += 1
                yield source.readline()

    def rest(self) -> Iterator[bytes]:
        """The lines of the rows that have not finished; they stay unfinished."""
        with self.path.open("rb") as source:
            for number in self._order[self.done :]:
                source.seek(self._offsets[number])
                yield source.readline()


class Lines:
    """Appends result lines to a file, in pieces of about a megabyte."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._pending: list[bytes] = []
        self._size = 0

    def add(self, line: bytes) -> None:
        self.count += 1
        self._pending.append(line)
        self._size += len(line)
        if self._size >= WRITE_BYTES:
            self.flush()

    def add_document(self, document: dict[str, Any], *, malformed: bool = False) -> None:
        """Append a JSON object. A malformed one lacks its second half."""
        line = msgspec.json.encode(document) + b"\n"
        self.add(line[: len(line) // 2].rstrip(b"\n") + b"\n" if malformed else line)

    def flush(self) -> None:
        if self._pending:
            with self.path.open("ab") as target:
                target.writelines(self._pending)
            self._pending.clear()
            self._size = 0

    def cut(self, count: int) -> None:
        """Take that many bytes off the end (of what has been flushed)."""
        if self.count and count:
            size = self.path.stat().st_size
            with self.path.open("r+b") as target:
                target.truncate(max(0, size - count))


def finishing_order(seed: str, total: int, quirks: Quirks) -> "array[int]":
    """The order that rows finish in."""
    order = list(range(total))
    if quirks.shuffled:
        random.Random(seed).shuffle(order)
    return array("I", order)


def first_row_at(pace: Pace, now: float, quirks: Quirks) -> float:
    """When the first row of a batch that is made now begins."""
    return now + pace.validate + pace.queue + quirks.stuck_seconds


class Schedule(msgspec.Struct):
    """When a batch's rows run: arithmetic on times, so state never depends on how often somebody looks."""

    starts_at: float
    row_seconds: float
    total: int
    stop_rows: int
    ends_at: float
    expires: bool

    @classmethod
    def plan(
        cls, total: int, starts_at: float, row_seconds: float, deadline: float, quirks: Quirks
    ) -> "Schedule":
        """Lay out a run: all rows, or as many as the window or an expiry fault leaves time for."""
        stop_rows, ends_at, expires = total, starts_at + total * row_seconds, False
        if quirks.expire_done is not None:
            stop_rows, expires = int(total * quirks.expire_done), True
            if quirks.expire_at_window:
                ends_at = deadline
        if ends_at > deadline:
            ends_at, expires = deadline, True
        return cls(starts_at, row_seconds, total, stop_rows, ends_at, expires)

    def rows_at(self, now: float) -> int:
        """How many rows have finished by `now`."""
        if now < self.starts_at:
            return 0
        if now >= self.ends_at and not self.expires:
            return self.total
        if self.row_seconds <= 0:
            return self.stop_rows
        return min(self.stop_rows, int((now - self.starts_at) / self.row_seconds + 1e-9))
