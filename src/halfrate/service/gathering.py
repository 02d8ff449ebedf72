"""Calls that can wait, gathered into batches.

What is gathered is written down before its caller is told so: the call's line is on the disk, and its record in the
database, in one commit for all that came within a moment. A batch that is still being gathered into has a record as
well; when the process that gathers dies, another closes it and carries it on. A line without a record is nobody's call:
the batch is made of the recorded ones alone.
"""

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from halfrate.base.clock import Clock
from halfrate.base.errors import StorageError
from halfrate.base.ids import new_id
from halfrate.blobs.depot import NoTail, Tail
from halfrate.blobs.shelves import Shelves
from halfrate.core.deferral import KEPT, Deferred, Group, linger
from halfrate.core.surface import BatchState, SurfaceBatch
from halfrate.store.deferred import DeferredStore, Marked

_GRACE: Final = 30.0
"""Seconds after which another process may close what this one ought to have closed."""
_MOST_ROWS: Final = 50_000
_MOST_BYTES: Final = 100 << 20
"""Of one gathering: the least that a large provider takes as one batch."""
_URLS: Final = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "embeddings": "/v1/embeddings",
    "messages": "/v1/messages",
}


class Gathered(msgspec.Struct, frozen=True):
    """A call to be gathered. `body`: as it is to stand in a batch, in one line; `mark`: see `Marked`; `least`: the rows
    that its provider takes as a batch at least."""

    call: Deferred
    group: Group
    body: bytes
    mark: str | None = None
    least: int = 1


class _Gathering:
    """A batch that calls are added to."""

    def __init__(
        self, batch: SurfaceBatch, handle: int, tail: Tail | NoTail, opened: float, least: int, longest: float
    ) -> None:
        self.batch = batch
        self._longest = longest
        self.handle = handle
        self.tail = tail
        self.opened = opened
        self.least = least
        self.rows = 0
        self.size = 0
        self.deadline = 0.0

    @property
    def closes_at(self) -> float:
        """When nothing more is waited for."""
        if self.rows >= _MOST_ROWS or self.size >= _MOST_BYTES:
            return self.opened
        return self.opened + linger(
            self.deadline - self.opened, self._longest, patient=self.rows < self.least
        )


class Gatherer:
    """Gathers the calls of one process. Its methods wait for the disk: call them in threads.

    `closed` is called when a batch can be carried on; `longest`: seconds that calls wait for others.
    """

    def __init__(
        self,
        store: DeferredStore,
        places: Shelves,
        clock: Clock,
        closed: Callable[[], None] = lambda: None,
        longest: float = 120.0,
    ) -> None:
        self._longest = longest
        self._store = store
        self._places = places
        self._clock = clock
        self._open: dict[Group, _Gathering] = {}
        self._lock = threading.Lock()
        self.closed = closed

    def gather(self, calls: Sequence[Gathered]) -> dict[str, str]:
        """Take calls on, durably: the batch of each by its id. What is missing there was not taken on: another call
        has its key.

        Raises StorageError or StoreBusy; then none of the calls is run that is not in the reply.
        """
        groups: defaultdict[Group, list[Gathered]] = defaultdict(list)
        for one in calls:
            groups[one.group].append(one)
        taken: dict[str, str] = {}
        with self._lock:
            for group, members in groups.items():
                taken |= self._gather(group, members)
        return taken

    def close_due(self) -> float | None:
        """Close what has waited long enough; when that is to be looked at again, None where nothing is open."""
        with self._lock:
            now = self._clock.now()
            for group, gathering in list(self._open.items()):
                if gathering.closes_at <= now:
                    self._close(group)
            return min((gathering.closes_at for gathering in self._open.values()), default=None)

    def close_all(self) -> None:
        """Close everything: this process ends, and whoever comes after it goes on."""
        with self._lock:
            for group in list(self._open):
                self._close(group)

    def sweep(self, now: float) -> None:
        """Forget calls that ended long ago, and their answers."""
        self._store.drop_old(now - KEPT)
        for folder in self._places.old_answers(now - KEPT):
            if not self._store.knows(folder.name):
                self._places.drop_answers(folder.name)

    def sweep_afar(self, now: float) -> None:
        """Forget answers of which the machine is gone that gave them. Looks at all that the depot holds."""
        for name in self._places.left_afar("answers", now - KEPT):
            if not self._store.knows(name):
                self._places.drop_answers(name)

    # ------------------------------------------------------------ parts

    def _gather(self, group: Group, members: Sequence[Gathered]) -> dict[str, str]:
        for _ in range(2):
            gathering = self._open.get(group) or self._begin(group, members[0])
            try:
                taken = self._add(gathering, members)
            except BaseException:
                # Nobody knows what of it is recorded: nothing more is added. Whoever takes it goes by the records.
                self._let_go(group)
                raise
            if taken is not None:
                if gathering.closes_at <= self._clock.now():
                    self._close(group)
                return dict.fromkeys(taken, gathering.batch.id)
            # This process was held up, and another carries it on: the next is begun.
            self._let_go(group)
        raise StorageError(
            "What was gathered was taken by other processes twice running. Nothing was sent; try again."
        )

    def _begin(self, group: Group, first: Gathered) -> _Gathering:
        now = self._clock.now()
        batch = SurfaceBatch(
            id=new_id("batch_"),
            team=first.call.team,
            key_id=first.call.key_id,
            surface="calls",
            state=BatchState.GATHERING,
            times={BatchState.GATHERING.value: now},
            endpoint=group.endpoint,
            url=_URLS[group.endpoint],
            tags=dict(group.tags),
            options=dict(group.options),
            deadline=first.call.deadline,
            extra={"model": group.model, "name": group.name},
        )
        handle, tail = self._places.begin_gathering(batch.id)
        gathering = _Gathering(batch, handle, tail, now, first.least, self._longest)
        gathering.deadline = first.call.deadline or now
        try:
            self._store.begin(batch, gathering.closes_at + _GRACE)
        except BaseException:
            os.close(handle)
            self._places.drop_batch(batch.id)
            raise
        self._open[group] = gathering
        return gathering

    def _add(self, gathering: _Gathering, members: Sequence[Gathered]) -> list[str] | None:
        lines = b"".join(map(_line, members))
        _write(gathering.handle, lines)
        gathering.tail.add(lines)
        deadlines = [one.call.deadline for one in members if one.call.deadline is not None]
        gathering.deadline = min([gathering.deadline, *deadlines])
        gathering.rows += len(members)
        gathering.size += len(lines)
        batch = msgspec.structs.replace(gathering.batch, deadline=gathering.deadline)
        calls = [Marked(msgspec.structs.replace(one.call, batch=batch.id), one.mark) for one in members]
        until = gathering.closes_at + _GRACE
        taken = self._store.gather(batch, until, calls)
        gathering.batch = batch
        return taken

    def _close(self, group: Group) -> None:
        gathering = self._let_go(group)
        now = self._clock.now()
        self._store.close(gathering.batch.moved(BatchState.VALIDATING, now), now)
        self.closed()

    def _let_go(self, group: Group) -> _Gathering:
        gathering = self._open.pop(group)
        os.close(gathering.handle)
        return gathering


def _line(one: Gathered) -> bytes:
    """A call as a line of a batch file of its surface."""
    name = one.call.id.encode()
    if one.group.endpoint == "messages":
        return b'{"custom_id":"%b","params":%b}\n' % (name, one.body)
    url = _URLS[one.group.endpoint].encode()
    return b'{"custom_id":"%b","method":"POST","url":"%b","body":%b}\n' % (name, url, one.body)


def _write(handle: int, data: bytes) -> None:
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    except OSError as error:
        raise StorageError(
            f"A call cannot be kept until it is run ({error.strerror}). Nothing was sent: make room, and try again."
        ) from error
