"""The yardstick: the same job with everything left out that is not the job.

No state on disk, no recovery, no validation, no TLS and only as much HTTP as the fake provider speaks. What is left
is what a Python program must do: read rows, send them, read results, put each at its row. How it does that:

* Lines are decoded in blocks, by type, and only the fields that are needed. A prompt is copied from the input to the
  request, and an answer from the result to the output, as it stands there, still escaped (`msgspec.Raw`).
* The id of a request is its row number, so the join is an array indexed by row.
* An answer waits for its turn in a spool file; memory holds eight bytes of it: offset << 24 | length.
* A block of lines is built in one go, by list slices and one `join`.
"""

# ruff: noqa: PTH108, PTH123, SIM115 - importing pathlib would cost as much as 500 rows

import gc
import os
import socket
from array import array
from collections.abc import Callable, Iterator
from io import FileIO
from mmap import ACCESS_READ, mmap
from typing import Any, Protocol

import msgspec

SHARD_ROWS = 50_000
# Big enough to spread the cost of a call over a hundred lines, small enough to stay in the second-level cache.
BLOCK_BYTES = 1 << 17


class Row(msgspec.Struct, gc=False):
    """What the prompt needs of an input line."""

    text: msgspec.Raw


class Connection:
    """One kept-alive connection to the provider."""

    def __init__(self, base_url: str) -> None:
        address = base_url.removeprefix("http://").partition("/")[0]
        host, _, port = address.partition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._host = address.encode()
        self._unread = b""

    def request(
        self, method: bytes, path: bytes, body: bytes = b"", kind: bytes = b"application/json"
    ) -> int:
        """Send a request and return how long the body of its response is; read that with `readinto`."""
        self._head(method, path, kind, b"Content-Length: %d" % len(body))
        if body:
            self._socket.sendall(body)
        return self._response()

    def stream(self, path: bytes, blocks: Iterator[bytes], kind: bytes) -> int:
        """POST a body of unknown length."""
        self._head(b"POST", path, kind, b"Transfer-Encoding: chunked")
        send = self._socket.sendall
        for block in blocks:
            send(b"%x\r\n" % len(block))
            send(block)
            send(b"\r\n")
        send(b"0\r\n\r\n")
        return self._response()

    def json(self, length: int) -> dict[str, Any]:
        body = bytearray(length)
        view = memoryview(body)
        while view:
            view = view[self.readinto(view) :]
        return msgspec.json.decode(body)

    def readinto(self, view: memoryview) -> int:
        if self._unread:
            count = min(len(view), len(self._unread))
            view[:count] = self._unread[:count]
            self._unread = self._unread[count:]
            return count
        return self._socket.recv_into(view)

    def _head(self, method: bytes, path: bytes, kind: bytes, framing: bytes) -> None:
        head = b"%b %b HTTP/1.1\r\nHost: %b\r\nAuthorization: Bearer x\r\nContent-Type: %b\r\n%b\r\n\r\n"
        self._socket.sendall(head % (method, path, self._host, kind, framing))

    def _response(self) -> int:
        data = b""
        while b"\r\n\r\n" not in data:
            received = self._socket.recv(65_536)
            if not received:
                raise ConnectionError("the provider closed the connection")
            data += received
        head, self._unread = data.split(b"\r\n\r\n", 1)
        if not head.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(f"the provider refused: {data.decode()}")
        return int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])


def line_blocks(readinto: Callable[[memoryview], int], length: int) -> Iterator[memoryview]:
    """Whole lines, as many as fit a block. Be done with a block before asking for the next: its bytes are reused."""
    buffer = bytearray(BLOCK_BYTES)
    kept = 0
    while length:
        if kept == len(buffer):
            buffer = buffer + bytes(len(buffer))
        view = memoryview(buffer)
        count = readinto(view[kept : kept + length])
        if not count:
            raise ConnectionError(f"the input ended {length} bytes too early")
        length -= count
        filled = kept + count
        end = buffer.rfind(b"\n", kept, filled) + 1 if length else filled
        if end:
            yield view[:end]
            buffer[: filled - end] = view[end:filled]
            kept = filled - end
        else:
            kept = filled


class Requests:
    """The input as request bodies: iterate over `body` once for each shard."""

    def __init__(self, lines: Iterator[memoryview]) -> None:
        self._blocks = map(msgspec.json.Decoder(Row).decode_lines, lines)
        self._waiting: list[Row] = []
        self.taken = 0

    def more(self) -> bool:
        if not self._waiting:
            self._waiting = next(self._blocks, [])
        return bool(self._waiting)

    def body(
        self, opening: bytes, before_prompt: bytes, after_prompt: bytes, closing: bytes
    ) -> Iterator[bytes]:
        """One shard. `before_prompt` holds a %d, for the row; `after_prompt` parts two, `closing` ends the last."""
        left = SHARD_ROWS
        lead, between = opening + before_prompt, after_prompt + before_prompt
        while left and self.more():
            count = min(left, len(self._waiting))
            parts: list[Any] = [None] * (2 * count)
            parts[0::2] = [between % row for row in range(self.taken, self.taken + count)]
            parts[0] = lead % self.taken
            parts[1::2] = [row.text for row in self._waiting[:count]]
            self._waiting = self._waiting[count:]
            self.taken += count
            left -= count
            lead = between
            yield b"".join(parts)
        yield closing


class Spool:
    """The answers of one shard, in the order they came, and the table that says where each row's is."""

    def __init__(self, path: str, first: int, count: int) -> None:
        self.first = first
        self.places = array("Q", bytes(8 * count))
        self.size = self.input_tokens = self.output_tokens = 0
        self._file = open(path, "w+b", buffering=0)

    def write(self, answers: list[bytes]) -> None:
        self.size += self._file.write(b"".join(answers))

    def join(self, rows: "Rows", out: FileIO) -> None:
        """Write the shard's rows, each with its answer."""
        done, count = 0, len(self.places)
        with (
            self._file,
            mmap(self._file.fileno(), self.size, access=ACCESS_READ) as data,
            memoryview(data) as spooled,
        ):
            while done < count:
                lines = rows.take(count - done)
                parts: list[Any] = [None] * (2 * len(lines))
                # Off with the closing brace; an answer brings its own.
                parts[0::2] = [line[:-2] for line in lines]
                places = self.places[done : done + len(lines)]
                parts[1::2] = [spooled[(at := place >> 24) : at + (place & 0xFFFFFF)] for place in places]
                out.write(b"".join(parts))
                done += len(lines)
                # A view left over would keep the map from being closed.
                del parts


class Rows:
    """The input's lines once more. `readlines` finds them four times as fast as `bytes.split` does."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb", buffering=BLOCK_BYTES)
        self._waiting: list[bytes] = []

    def take(self, most: int) -> list[bytes]:
        if not self._waiting:
            self._waiting = self._file.readlines(BLOCK_BYTES)
        taken, self._waiting = self._waiting[:most], self._waiting[most:]
        return taken


class Dialect(Protocol):
    """How one provider has it."""

    def submit(self, requests: Requests) -> str:
        """Send the next shard; gives the id of its batch."""
        ...

    def collect(self, batch_id: str, spool: Spool) -> None:
        """Wait for a batch, put its answers into the spool and delete it at the provider."""
        ...


def run(dialect: Dialect, source: str, target: str) -> None:
    """Do the whole job and print what it came to."""
    # There are no cycles to find, and looking for them costs a twentieth of the time.
    gc.disable()
    spool_path = target + ".spool"
    batches: list[tuple[str, int, int]] = []
    with open(source, "rb", buffering=0) as rows:
        requests = Requests(line_blocks(rows.readinto, os.fstat(rows.fileno()).st_size))
        while requests.more():
            first = requests.taken
            batch_id = dialect.submit(requests)
            batches.append((batch_id, first, requests.taken - first))
    input_tokens = output_tokens = 0
    rows = Rows(source)
    with open(target, "wb", buffering=0) as out:
        for batch_id, first, count in batches:
            spool = Spool(spool_path, first, count)
            dialect.collect(batch_id, spool)
            spool.join(rows, out)
            input_tokens += spool.input_tokens
            output_tokens += spool.output_tokens
    os.unlink(spool_path)
    report = {"rows": requests.taken, "input_tokens": input_tokens, "output_tokens": output_tokens}
    print(msgspec.json.encode(report).decode())
