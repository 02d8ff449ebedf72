"""The network between processes and the emulator: no sockets, and replies that get lost."""

import re
from collections.abc import Coroutine, Generator, Iterable
from contextlib import contextmanager
from typing import Any, cast

from halfrate.emulator import Emulator, Request, Response
from halfrate.providers.http import Http

from .machine import PROCESS, Machine

_ID = re.compile(r"/(?:(?:file-|file_|batch_|msgbatch_|hr-)[0-9a-z-]+|[0-9a-f-]{24,})")
_CREATE = re.compile(r"/batches$|/batch/jobs$|:batchGenerateContent$|/batchInferenceJobs$")


class Network:
    """Carries calls.

    `lossy`: the share of calls whose reply never arrives, whatever they did. `doubled`: the share of creates that
    something on the way sends twice, and then loses the replies of.
    """

    def __init__(
        self,
        machine: Machine,
        emulator: Emulator,
        *,
        lossy: float,
        doubled: float,
        outages: Iterable[tuple[float, float]],
    ) -> None:
        self.machine = machine
        self.emulator = emulator
        self.lossy = lossy
        self.doubled = doubled
        self.outages = tuple(outages)

    def down(self) -> bool:
        now = self.machine.loop.time()
        return any(start <= now < end for start, end in self.outages)

    def exchange(self, request: Request, timeout: float) -> "Reply":
        """One call and its reply. Raises what a socket would."""
        process = PROCESS.get()
        name = f"{request.method} {_ID.sub('/*', request.path)}"
        process.point(f"before {name}", between=False)
        response = _at_once(self.emulator.respond(request))
        process.point(f"after {name}")
        if request.method == "POST" and _CREATE.search(request.path) and self._now_and_then(self.doubled):
            _at_once(self.emulator.respond(request))
            self.machine.say(f"{process.name} {request.method} {request.path}: sent twice, replies lost")
            raise ConnectionResetError("the connection was reset")
        delivery = response.delivery
        if delivery.hold_seconds:
            process.hold(min(delivery.hold_seconds, timeout))
            if delivery.hold_seconds > timeout:
                raise TimeoutError("timed out")
        if delivery.drop or self._now_and_then(self.lossy):
            self.machine.say(f"{process.name} {request.method} {request.path}: reply lost")
            raise ConnectionResetError("the connection was reset")
        self.machine.say(f"{process.name} {request.method} {request.path}: {response.status}")
        return Reply(response)

    def _now_and_then(self, share: float) -> bool:
        return share > 0 and self.machine.random.random() < share

    @contextmanager
    def installed(self) -> Generator[None]:
        """In place of the machine's own network."""
        original = Http._open
        Http._open = lambda _: cast("Any", Connection(self))  # type: ignore[method-assign]
        try:
            yield
        finally:
            Http._open = original  # type: ignore[method-assign]


def _at_once(coroutine: Coroutine[Any, Any, Response]) -> Response:
    """The emulator never waits for anything: it answers in one go."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the emulator waited for something")


class _Socket:
    def settimeout(self, seconds: float) -> None:
        pass


class Connection:
    """As much of an http.client.HTTPConnection as is used."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._request: Request | None = None
        self.sock: _Socket | None = None
        self.timeout = 0.0

    def connect(self) -> None:
        if self._network.down():
            self._network.machine.say(f"{PROCESS.get().name} cannot connect")
            raise ConnectionRefusedError(111, "Connection refused")
        self.sock = _Socket()

    def request(self, method: str, target: str, body: Any, headers: dict[str, str]) -> None:
        self._request = None
        if self._network.down():
            self._network.machine.say(f"{PROCESS.get().name} is cut off")
            raise ConnectionResetError("the connection was reset")
        path, _, query = target.partition("?")
        content = body if isinstance(body, bytes) else b"" if body is None else b"".join(map(bytes, body))
        names = {name.lower(): value for name, value in headers.items()}
        self._request = Request(method, path, query, names, content)

    def getresponse(self) -> "Reply":
        if self._request is None:
            raise ConnectionResetError("the connection was reset")
        return self._network.exchange(self._request, self.timeout)

    def close(self) -> None:
        self.sock = None


class Reply:
    """As much of an http.client.HTTPResponse as is used; a body may end before its announced length."""

    will_close = False

    def __init__(self, response: Response) -> None:
        whole = response.read()
        cut = response.delivery.truncate_after
        self.status = response.status
        self.reason = ""
        self._headers = response.headers
        self._body = whole if cut is None else whole[:cut]
        self._at = 0
        self._size = len(whole)

    @property
    def length(self) -> int:
        """Bytes that were announced and have not been read."""
        return self._size - self._at

    def read(self, most: int) -> bytes:
        part = self._body[self._at : self._at + most]
        self._at += len(part)
        return part

    def readinto(self, buffer: memoryview) -> int:
        part = self.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)

    def readline(self, most: int) -> bytes:
        end = self._body.find(b"\n", self._at) + 1 or len(self._body)
        return self.read(min(most, end - self._at))

    def getheader(self, name: str) -> str | None:
        return {key.lower(): value for key, value in self._headers.items()}.get(name.lower())

    def isclosed(self) -> bool:
        return self.length == 0
