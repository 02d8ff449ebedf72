"""Request files: the rows of one shard, encoded for the provider, exactly as they will be sent.

They are written while the input is read, before anything is sent, so that a job never depends on its input
file again. A later attempt copies the lines of the rows that are left and changes nothing but their ids.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

import msgspec

from halfrate.base.direct import DirectWriter
from halfrate.base.ids import row_prefix, shard_id
from halfrate.base.types import Envelope, Framing, Limits
from halfrate.rows import errors
from halfrate.rows.lines import BLOCK, line_blocks

_FEW_SHARDS = 20
_FEW_ROWS = 100
"""More shards than that, with fewer rows than that on average: the models of a batch file alternate."""


Encoded: TypeAlias = bytes | msgspec.Raw
"""A value as JSON: copied into a request as it stands."""


class ShardFile(msgspec.Struct, frozen=True):
    """One request file that was written: `rows` rows from `first_row` on, `bytes` long in all."""

    number: int
    first_row: int
    rows: int
    bytes: int
    model: str


class RequestWriter:
    """Cuts rows into shards and writes a request file for each.

    Args:
        path_of: where the file of a shard number goes.
        job_id: the shards' ids begin with it.
        envelope: the provider's row, around the id and the body.
        framing: how rows stand in a file.
        body: what stands in the body before and after each row's own text; empty for whole bodies.
        limits: the most that one shard may hold; our headroom already taken off.
        name: the input's name and `provider`: the provider's, both for messages.
    """

    def __init__(
        self,
        path_of: Callable[[int], Path],
        *,
        job_id: str,
        envelope: Envelope,
        framing: Framing,
        body: tuple[bytes, bytes],
        limits: Limits,
        name: str,
        provider: str,
    ) -> None:
        self.shards: list[ShardFile] = []
        self.rows = 0
        self.row_bytes = 0
        self._path_of = path_of
        self._job_id = job_id
        self._envelope = envelope
        self._framing = framing
        # A prompt that stands within a longer text of the body goes in without its quotes.
        self._bare = _amid_text(body[0])
        # Where the id stands inside the body, that is open already when the body's own text begins.
        self._opens = bool(envelope.inside) and not body[0]
        self._between = envelope.between + (body[0][1:] if envelope.inside else body[0])
        self._after = body[1] + envelope.after
        self._limits = limits
        self._name = name
        self._provider = provider
        # The widest id that a row of this job can have, so that a size is known before the id is.
        widest = len(row_prefix(shard_id(job_id, 10**6), 99)) + 9
        self._overhead = (
            len(envelope.before) + widest + len(self._between) + len(self._after) + len(framing.separator)
        )
        self._file: BinaryIO | None = None
        self._out: DirectWriter | None = None
        self._lead = b""
        self._model = ""
        self._first = 0
        self._size = 0
        self._inputs = 0
        # A row has to fit into an empty shard, or it could be put nowhere.
        self._row_bytes = min(limits.row_bytes, limits.bytes - len(framing.head) - len(framing.tail))

    def add(self, texts: Sequence[Encoded], model: str = "", inputs: list[int] | None = None) -> None:
        """Append rows. A row larger than a whole batch is refused by name (InputError).

        `inputs`: how many texts each row asks to embed, where that is limited and not one each.
        """
        if not texts:
            return
        if self._bare:
            texts = [bytes(text)[1:-1] for text in texts]
        if self._opens:
            texts = [self._opened(text, self.rows + at) for at, text in enumerate(texts)]
        largest = max(map(len, texts)) + self._overhead
        if largest > self._row_bytes:
            at = next(i for i, t in enumerate(texts) if len(t) + self._overhead == largest)
            raise errors.too_large(self._name, self.rows + at, largest, self._row_bytes, self._provider)
        most = self._limits.embedding_inputs
        if inputs is not None and most is not None and max(inputs) > most:
            at = next(i for i, count in enumerate(inputs) if count > most)
            raise errors.too_many_inputs(self._name, self.rows + at, inputs[at], most, self._provider)
        if self._file is not None and model != self._model:
            self.cut()
            if len(self.shards) > _FEW_SHARDS and self.rows < _FEW_ROWS * len(self.shards):
                raise errors.interleaved(self._name, len(self.shards), self.rows, self._provider)
        self._model = model
        start = 0
        while start < len(texts):
            start = self._fit(texts, start, inputs)

    def _opened(self, text: Encoded, row: int) -> bytes:
        """A whole body, without the brace that opens it. One that has the id's field for itself is refused: of two
        fields of one name the id might be the one that is lost."""
        body = bytes(text).lstrip()
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        if not fields or self._envelope.inside in fields:
            raise errors.without_room(self._name, row, self._envelope.inside, self._provider)
        return body[1:]

    def cut(self) -> None:
        """End the shard that is being written; the next row begins a new one."""
        if self._file is None or self._out is None:
            return
        if self.rows > self._first:
            self._put(self._after)
        self._put(self._framing.tail)
        self._out.sync()
        self._file.close()
        self._file = self._out = None
        size = self._size
        rows = self.rows - self._first
        self.shards.append(ShardFile(len(self.shards), self._first, rows, size, self._model))

    def level(self, least: int) -> None:
        """Let no shard have fewer rows than `least`, where the one before it can spare them: cutting rows as they come
        leaves few for the last."""
        for at in range(len(self.shards) - 1, 0, -1):
            short = least - self.shards[at].rows
            before = self.shards[at - 1]
            if short > 0 and before.rows > short and before.model == self.shards[at].model:
                self._move(at, short)

    def _move(self, at: int, count: int) -> None:
        """Take a shard's first rows from the end of the one before it."""
        before, after = self.shards[at - 1], self.shards[at]
        kept = before.rows - count
        source, target = self._path_of(before.number), self._path_of(after.number)
        framing = self._framing
        end, moved = len(framing.head), list[bytes]()
        for rows in request_lines(source, framing):
            room = max(0, kept)
            end += sum(len(row) + len(framing.separator) for row in rows[:room])
            moved += rows[room:]
            kept -= len(rows)
        end -= len(framing.separator)
        first = after.first_row - count
        lead = self._envelope.before + row_prefix(shard_id(self._job_id, after.number), 1).encode()
        old = self._envelope.before + row_prefix(shard_id(self._job_id, before.number), 1).encode()
        moved = [lead + row.removeprefix(old) for row in moved]
        rest = target.read_bytes()[len(framing.head) :]
        size = _written(target, (framing.head, framing.separator.join([*moved, rest])))
        with source.open("r+b") as file:
            file.truncate(end)
            file.seek(end)
            file.write(framing.tail)
            file.flush()
            os.fsync(file.fileno())
        replace = msgspec.structs.replace
        self.shards[at - 1] = replace(before, rows=before.rows - count, bytes=end + len(framing.tail))
        self.shards[at] = replace(after, rows=after.rows + count, first_row=first, bytes=size)

    def abort(self) -> None:
        """Close what is open. The files are the caller's to remove."""
        if self._file is not None:
            self._file.close()
            self._file = self._out = None

    def _fit(self, texts: Sequence[Encoded], start: int, inputs: list[int] | None) -> int:
        """Write as many of `texts[start:]` as the open shard has room for; return where it stopped."""
        if self._file is None:
            self._open()
        room_rows = self._limits.rows - (self.rows - self._first)
        if self._limits.embedding_inputs is not None:
            room_inputs = self._limits.embedding_inputs - self._inputs
            room_rows = min(
                room_rows, room_inputs if inputs is None else _fitting(inputs, start, room_inputs)
            )
        # The last row's end is not written yet: it may be long (a schema often follows the prompt).
        owed = len(self._after) if self.rows > self._first else 0
        room_bytes = self._limits.bytes - self._size - owed - len(self._framing.tail)
        part = texts[start : start + room_rows] if start or len(texts) > room_rows else texts
        size = sum(map(len, part)) + len(part) * self._overhead
        if size > room_bytes:
            size = 0
            count = 0
            for text in part:
                size += len(text) + self._overhead
                if size > room_bytes:
                    break
                count += 1
            part = part[:count]
        if part:
            self._write(part)
            self._inputs += len(part) if inputs is None else sum(inputs[start : start + len(part)])
        if start + len(part) < len(texts):
            self.cut()
        return start + len(part)

    def _open(self) -> None:
        number = len(self.shards)
        prefix = row_prefix(shard_id(self._job_id, number), 1)
        lead = self._after + self._framing.separator + self._envelope.before + prefix.encode()
        # The end of the row before, and the beginning of the next up to its text.
        self._lead = lead.replace(b"%", b"%%") + b"%d" + self._between.replace(b"%", b"%%")
        self._file = self._path_of(number).open("wb", buffering=0)
        self._out = DirectWriter(self._file.fileno())
        self._first = self.rows
        self._size = 0
        self._inputs = 0
        self._put(self._framing.head)

    def _write(self, texts: Sequence[Encoded]) -> None:
        # What stands between two rows is the same but for the number, so a block is put together in one go.
        count = len(texts)
        last = self.rows + count
        parts: list[Encoded] = [b""] * (2 * count)
        parts[0::2] = [self._lead % row for row in range(self.rows, last)]
        parts[1::2] = texts
        if self.rows == self._first:
            parts[0] = (self._lead % self.rows)[len(self._after) + len(self._framing.separator) :]
        data = b"".join(cast("list[bytes]", parts))
        self._put(data)
        self.row_bytes += len(data)
        self.rows += len(texts)

    def _put(self, data: bytes) -> None:
        if self._out is not None:
            self._size += self._out.write(data)


def _amid_text(before: bytes) -> bool:
    """Whether what follows this part of a JSON document stands within a string."""
    plain = before.replace(b"\\\\", b"").replace(b'\\"', b"")
    return plain.count(b'"') % 2 == 1


def _written(path: Path, parts: Iterable[bytes]) -> int:
    """Write a small file anew, synced; its size."""
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def _fitting(inputs: list[int], start: int, room: int) -> int:
    """How many rows from `start` on ask for no more than `room` inputs between them."""
    for at in range(start, len(inputs)):
        room -= inputs[at]
        if room < 0:
            return at - start
    return len(inputs) - start


def request_lines(path: Path, framing: Framing) -> Iterator[list[bytes]]:
    """The encoded rows of a request file, without framing, a block at a time."""
    frame = (framing.head.strip(b"\n"), framing.tail.strip(b"\n"))
    comma = framing.separator.rstrip(b"\n")
    with path.open("rb", buffering=BLOCK) as file:
        for lines in line_blocks(file):
            rows = [row for line in lines if (row := line.rstrip(b"\n")) and row not in frame]
            yield [row.removesuffix(comma) for row in rows] if comma else rows


def rewrite(
    source: Path,
    target: Path,
    *,
    framing: Framing,
    envelope: Envelope,
    old_prefix: str,
    new_prefix: str,
    first_row: int,
    keep: Iterable[int],
) -> int:
    """Write the request file of a later attempt: the rows `keep` (ascending slots), under new ids.

    Bodies are copied byte for byte. Returns the file's size. The caller makes `target` durable by renaming it.
    """
    wanted = iter(keep)
    want = next(wanted, None)
    before = envelope.before + new_prefix.encode()
    skip = len(envelope.before) + len(old_prefix)
    slot = 0
    written = 0
    with target.open("wb") as file:
        file.write(framing.head)
        for rows in request_lines(source, framing):
            for row in rows:
                if slot == want:
                    digits = str(first_row + slot).encode()
                    if written:
                        file.write(framing.separator)
                    file.write(before + digits + row[skip + len(digits) :])
                    written += 1
                    want = next(wanted, None)
                slot += 1
        file.write(framing.tail)
        file.flush()
        os.fsync(file.fileno())
        return file.tell()
