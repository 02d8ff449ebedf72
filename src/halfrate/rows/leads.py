"""Prompts that begin alike: a document, say, in the first column, and a question about it in the second.

The rows of one batch that share such a beginning, their *lead*, are a group. The input is read twice: at first the
groups of each batch are counted, and then, where marks pay, the leads are cut off so that the provider can cache them.
Of each group a row or two, its leaders, go first.
"""

import array
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from halfrate.base.errors import StorageError
from halfrate.rows.requests import ShardFile

STEP: Final = 16
"""Leads are told apart by their lengths in steps of so many bytes where they are added up."""
_MOST: Final = 255
_SLOT: Final = "I"
_NONE: Final = 0
"""Stands for a prompt whose lead is not cut off. A lead whose hash it is has no leader, and no other harm."""
_BLANK: Final = re.compile(rb"(?:\s|\\[bfnrt]|\\u00[012][0-9a-fA-F])*")
"""Text within a JSON string in which there is nothing to read, and a few that are spared."""


class Leads:
    """The leads of the rows that are not in a finished shard yet. Memory: 16 bytes for each of them.

    `after`: how many bytes of a prompt after its first column belong to its lead; None where leads do not matter.
    `leaders`: how many rows of a shard go first, by its number; which ones, `leaders_of` reads from the shard's file.
    """

    def __init__(self, after: int | None, target: Callable[[int], Path] | None = None) -> None:
        self.after = after
        self.leaders: dict[int, int] = {}
        self._target = target
        self._keys = array.array("q")
        self._shards = 0

    def take(self, prompts: Sequence[bytes], ends: Sequence[int]) -> Sequence[bytes]:
        """Take in a block of prompts, JSON strings whose leads go up to `ends`; the prompts as they are to be sent."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing more will be taken in."""

    def settle(self, shards: Sequence[ShardFile]) -> None:
        """Take note of the shards that were finished."""
        for shard in shards[self._shards :]:
            self._shards += 1
            self._settled(shard, self._keys[: shard.rows])
            del self._keys[: shard.rows]

    def _settled(self, shard: ShardFile, keys: "array.array[int]") -> None:
        raise NotImplementedError

    def _lead(self, shard: ShardFile, slots: Iterable[int]) -> None:
        """Let these rows of a shard go first, ascending; but not all of them."""
        chosen = array.array(_SLOT, slots)
        if self._target is None or not 0 < len(chosen) < shard.rows:
            return
        self.leaders[shard.number] = len(chosen)
        with self._target(shard.number).open("wb") as file:
            file.write(chosen.tobytes())
            file.flush()
            os.fsync(file.fileno())


class FirstRows(Leads):
    """Lets the first `count` rows of each shard go first, for what all rows share."""

    def __init__(self, count: int, target: Callable[[int], Path]) -> None:
        super().__init__(None, target)
        self._count = count

    def take(self, prompts: Sequence[bytes], ends: Sequence[int]) -> Sequence[bytes]:
        return prompts

    def _settled(self, shard: ShardFile, keys: "array.array[int]") -> None:
        self._lead(shard, range(self._count))


class LeadCount(Leads):
    """Counts the groups of an input.

    `groups`: how many there are of (length of the lead in bytes, cut to a step; rows). What was found is kept in a file
    of a byte for each row, so that memory does not grow with them.
    """

    def __init__(self, path: Path, after: int) -> None:
        super().__init__(after)
        self.groups: Counter[tuple[int, int]] = Counter()
        self._file = path.open("wb")
        self._sizes = array.array("q")

    def close(self) -> None:
        self._file.close()

    def take(self, prompts: Sequence[bytes], ends: Sequence[int]) -> Sequence[bytes]:
        self._keys.extend(hash(prompt[:end]) for prompt, end in zip(prompts, ends, strict=True))
        self._sizes.extend(ends)
        return prompts

    def _settled(self, shard: ShardFile, keys: "array.array[int]") -> None:
        rows_of = Counter(keys)
        for key, size in dict(zip(keys, self._sizes, strict=False)).items():
            if rows_of[key] > 1:
                self.groups[size // STEP * STEP, rows_of[key]] += 1
        del self._sizes[: shard.rows]
        self._file.write(bytes(min(rows_of[key], _MOST) for key in keys))


class LeadMarks(Leads):
    """Cuts off the leads that are worth it.

    Args:
        path: the file of a `LeadCount`, and `after`: what it was told.
        fewest: rows that a group must have.
        shortest: bytes that its lead must have.
        cut: what stands between a lead and the rest of its prompt in a request.
        leaders_in: how many leaders a group of so many rows has.
        first: rows of a shard that go first at least, for what all rows share.
        target: where the leaders of a shard's number are noted.
    """

    def __init__(
        self,
        path: Path,
        after: int,
        *,
        fewest: int,
        shortest: int,
        cut: bytes,
        leaders_in: Callable[[int], int],
        first: int,
        target: Callable[[int], Path],
    ) -> None:
        super().__init__(after, target)
        self._file = path.open("rb")
        self._fewest = fewest
        self._shortest = shortest
        self._cut = cut
        self._leaders_in = leaders_in
        self._first = first

    def close(self) -> None:
        self._file.close()

    def take(self, prompts: Sequence[bytes], ends: Sequence[int]) -> Sequence[bytes]:
        cut: list[bytes] = []
        for prompt, end, rows in zip(prompts, ends, self._file.read(len(prompts)), strict=True):
            lead, rest = prompt[:end], prompt[end:-1]
            # No provider takes a text in which there is nothing.
            worth = rows >= self._fewest and end >= self._shortest
            if worth and not _BLANK.fullmatch(rest) and not _BLANK.fullmatch(lead, 1):
                cut.append(b'%b%b%b"' % (lead, self._cut, rest))
                self._keys.append(hash(lead))
            else:
                cut.append(prompt)
                self._keys.append(_NONE)
        return cut

    def _settled(self, shard: ShardFile, keys: "array.array[int]") -> None:
        to_come = {key: self._leaders_in(rows) for key, rows in Counter(keys).items() if rows > 1}
        to_come[_NONE] = 0
        slots: list[int] = []
        for slot, key in enumerate(keys):
            if to_come.get(key):
                to_come[key] -= 1
                slots.append(slot)
        for slot in range(shard.rows):
            if len(slots) >= self._first:
                break
            if slot not in slots:
                slots.append(slot)
        self._lead(shard, sorted(slots))


def leaders_of(path: Path, count: int) -> list[int]:
    """The slots of the rows of a shard that go first, ascending. Raises StorageError where they cannot be read."""
    slots = array.array(_SLOT)
    try:
        with path.open("rb") as file:
            slots.fromfile(file, count)
    except (OSError, EOFError, ValueError) as error:
        raise StorageError(
            f"{path} cannot be read ({error}): a file of this job was moved or removed"
        ) from error
    return slots.tolist()
