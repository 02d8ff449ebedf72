"""HTTP for the adapters: few calls, large bodies, streamed from and to files.

`send` repeats nothing, and uses a connection of its own: a paid call must not be lost to a connection that
the other side closed while it idled. `ask` repeats calls that are safe to repeat (reads, uploads, cancels,
deletes) a few times on passing failures, and honours Retry-After.

The standard library's client does the work, in threads: for whole files it costs the least CPU and memory of
those tried, and starting a command does not wait for an HTTP framework to be imported.
"""

import asyncio
import http.client
import os
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import SplitResult, urlsplit

import msgspec

from halfrate.base.errors import HELD_UP, UNREACHABLE, OutcomeUnknown, Refused, SettingsError, StorageError
from halfrate.base.pages import Trail
from halfrate.base.version import VERSION

_R = TypeVar("_R")

_CHUNK: Final = 1 << 18
_SENT_AT_ONCE: Final = 1 << 19
_TRIES: Final = 4
_LONGEST_RETRY_AFTER: Final = 120.0
_ERROR_BODY: Final = 64 << 10
_REPLY: Final = 64 << 20
_CONNECT: Final = 30.0
_THREADS: Final = 12
_KEY_HEADERS: Final = frozenset({"authorization", "x-api-key", "api-key"})
_SHORTEST_KEY: Final = 12
# What a broken connection, or a reply that is no HTTP, raises.
_BROKEN: Final = (OSError, http.client.HTTPException)


class Upload(msgspec.Struct, frozen=True):
    """A body made of bytes, a file's contents, and bytes; sent with its length, held nowhere in memory."""

    head: bytes
    path: Path
    tail: bytes
    content_type: str

    @property
    def size(self) -> int:
        return len(self.head) + self.path.stat().st_size + len(self.tail)

    def chunks(self) -> Iterator[bytes | memoryview]:
        yield self.head
        buffer = memoryview(bytearray(_SENT_AT_ONCE))
        with self.path.open("rb", buffering=0) as file:
            trail = Trail(file.fileno())
            while got := file.readinto(buffer):
                yield buffer[:got]
                trail.add(got)
            trail.drop()
        yield self.tail


class _Error(msgspec.Struct):
    message: str | None = None
    type: str | None = None
    code: str | int | None = None


class _ErrorBody(msgspec.Struct):
    error: _Error


class Http:
    """Calls one account's API.

    Args:
        base_url: where paths are appended.
        headers: sent with every call; the key is among them, and none of them is ever logged.
        title: the provider's name in messages.
    """

    def __init__(self, base_url: str, headers: dict[str, str], title: str) -> None:
        try:
            parts = urlsplit(base_url)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            raise SettingsError(f"The base URL for {title} is not a URL. Nothing was sent.") from None
        if parts.username or parts.password:
            raise SettingsError(
                f"The base URL for {title} must not carry a user name or a password. Nothing was sent."
            )
        if not usable:
            raise SettingsError(f"{base_url!r} is not a URL that {title} could answer at. Nothing was sent.")
        self._url = parts
        self._path = parts.path.rstrip("/")
        self._headers = {"User-Agent": f"halfrate/{VERSION}", **headers}
        self._title = title
        self._secrets = [
            headers[name].rpartition(" ")[2]
            for name in headers
            if name.lower() in _KEY_HEADERS and len(headers[name]) >= _SHORTEST_KEY
        ]
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"halfrate-{title}")
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None

    async def close(self) -> None:
        self._threads.shutdown(wait=True)
        with self._lock:
            for connection in self._idle:
                connection.close()
            self._idle.clear()

    async def send(
        self,
        method: str,
        path: str,
        *,
        body: bytes | Upload | None = None,
        timeout: float = 120.0,
        in_time: Callable[[], bool] = lambda: True,
    ) -> bytes:
        """One request, once. Raises Refused on a status of 300 or more, OutcomeUnknown on anything unclear.

        A 5xx answer is raised as Refused too: whether it is to be believed is the caller's to say. `timeout`
        is for each wait on the network, in seconds. `in_time` is asked at the last moment before anything leaves;
        if it says no, nothing does, and that is Refused too.
        """

        def call() -> bytes:
            return self._call(method, path, body, timeout, _whole, fresh=True, in_time=in_time)

        return await self._in_thread(call)

    async def ask(
        self, method: str, path: str, *, body: bytes | Upload | None = None, timeout: float = 120.0
    ) -> bytes:
        """A request that is safe to repeat."""
        return await self._repeat(lambda: self._call(method, path, body, timeout, _whole))

    async def ask_once(
        self, method: str, path: str, *, body: bytes | Upload | None = None, timeout: float = 120.0
    ) -> bytes:
        """A request that costs nothing, and that the caller repeats and counts."""
        return await self.send(method, path, body=body, timeout=timeout)

    def decode(self, raw: bytes, kind: type[_R]) -> _R:
        """A reply, understood. One that cannot be read leaves open what it meant: OutcomeUnknown."""
        try:
            return msgspec.json.decode(raw, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise OutcomeUnknown(f"{self._title} sent a reply that cannot be read ({error})") from error

    async def ask_to_end(self, path: str) -> None:
        """Ask for the cancel of something. That it has ended already is no error: the next look will say so."""
        try:
            await self.ask("POST", path)
        except Refused as refusal:
            if refusal.credentials or (refusal.passing and refusal.status != 409):
                raise

    async def delete(self, path: str) -> None:
        """Delete something. That it is gone already is no error."""
        try:
            await self.ask("DELETE", path)
        except Refused as refusal:
            if refusal.status != 404:
                raise

    async def head(self, path: str, lines: int) -> list[bytes]:
        """The first lines of a body, at most so many; the rest is not fetched."""

        def first_lines(response: http.client.HTTPResponse) -> list[bytes]:
            found: list[bytes] = []
            while len(found) < lines and (line := response.readline(_REPLY)):
                found.append(line)
            return found

        return await self._repeat(lambda: self._call("GET", path, None, 60.0, first_lines))

    async def download(self, path: str, target: Path) -> None:
        """Stream a body to `target`, synced. A body shorter than announced is OutcomeUnknown, not a file."""

        def to_file(response: http.client.HTTPResponse) -> None:
            try:
                with target.open("wb", buffering=0) as file:
                    _copy(response, file.write)
                    os.fsync(file.fileno())
                if response.length:
                    raise http.client.IncompleteRead(b"", response.length)
            except _LocalError as trouble:
                raise self._unwritten(target, trouble.error) from trouble.error

        await self._repeat(lambda: self._call("GET", path, None, 120.0, to_file))

    # ------------------------------------------------------------ in threads

    async def _in_thread(self, call: Callable[[], _R]) -> _R:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def _repeat(self, call: Callable[[], _R]) -> _R:
        for attempt in range(1, _TRIES + 1):
            try:
                return await self._in_thread(call)
            except Refused as refusal:
                wait = refusal.retry_after if refusal.retry_after is not None else 0.5 * 2**attempt
                if not refusal.passing or attempt == _TRIES or wait > _LONGEST_RETRY_AFTER:
                    raise
                if refusal.code == UNREACHABLE:
                    # Waiting for a network is the life cycle's affair: it says so, and can be interrupted.
                    raise
            except OutcomeUnknown:
                if attempt == _TRIES:
                    raise
                wait = 0.25 * 2**attempt
            await asyncio.sleep(wait)
        raise AssertionError("unreachable")

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | Upload | None,
        timeout: float,
        read: Callable[[http.client.HTTPResponse], _R],
        *,
        fresh: bool = False,
        in_time: Callable[[], bool] = lambda: True,
    ) -> _R:
        connection = self._connection(timeout, fresh=fresh)
        reusable = False
        try:
            if not in_time():
                raise Refused("this process was held up, and did not send what it was about to", code=HELD_UP)
            response = self._exchange(connection, method, path, body)
            if response.status >= 300:
                raise self._refusal(response)
            result = read(response)
            reusable = response.isclosed() and not response.will_close
        except _BROKEN as error:
            what = str(error) or type(error).__name__
            raise OutcomeUnknown(f"{self._title} did not answer {method} {path}: {what}") from error
        finally:
            self._give_back(connection, reusable=reusable)
        return result

    def _exchange(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes | Upload | None
    ) -> http.client.HTTPResponse:
        headers = dict(self._headers)
        target = self._path + path
        if self._proxied_plainly():
            target = f"{self._url.scheme}://{self._url.netloc}{target}"
        try:
            if isinstance(body, Upload):
                headers |= {"Content-Type": body.content_type, "Content-Length": str(body.size)}
                connection.request(method, target, body.chunks(), headers)
            else:
                if body is not None:
                    headers["Content-Type"] = "application/json"
                connection.request(method, target, body, headers)
        except (BrokenPipeError, ConnectionResetError):
            # A server may refuse before it has read all, and hang up; then its reply says why.
            if connection.sock is None:
                raise
        return connection.getresponse()

    # ------------------------------------------------------------ connections

    def _connection(self, timeout: float, *, fresh: bool) -> http.client.HTTPConnection:
        if not fresh:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is not None:
                connection.timeout = timeout
                if connection.sock is not None:
                    connection.sock.settimeout(timeout)
                return connection
        connection = self._open()
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            # Nothing has left this machine yet: whatever was to be asked did not happen.
            text = f"{self._title} cannot be reached at {self._url.netloc}: {error.strerror or error}"
            raise Refused(text, code=UNREACHABLE) from error
        connection.timeout = timeout
        connection.sock.settimeout(timeout)
        return connection

    def _open(self) -> http.client.HTTPConnection:
        secure = self._url.scheme == "https"
        host, port = self._url.hostname or "", self._url.port
        proxy = _proxy_for(self._url)
        tunnel = None
        if proxy is not None:
            if secure:
                tunnel = (host, port or 443)
            host, port = proxy
        if secure:
            if self._tls is None:
                self._tls = ssl.create_default_context()
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=_CONNECT, context=self._tls, blocksize=_CHUNK
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=_CONNECT, blocksize=_CHUNK)
        if tunnel is not None:
            connection.set_tunnel(*tunnel)
        return connection

    def _proxied_plainly(self) -> bool:
        return self._url.scheme == "http" and _proxy_for(self._url) is not None

    def _give_back(self, connection: http.client.HTTPConnection, *, reusable: bool) -> None:
        if not reusable:
            connection.close()
            return
        with self._lock:
            self._idle.append(connection)

    # ------------------------------------------------------------ errors

    def _refusal(self, response: http.client.HTTPResponse) -> Refused:
        code, message = _error_of(response.read(_ERROR_BODY))
        for secret in self._secrets:
            # What a provider repeats of a key must not end up in a log, or in the store.
            message = message.replace(secret, "[key]")
        request_id = response.getheader("x-request-id") or response.getheader("request-id")
        where = f" (request {request_id})" if request_id else ""
        return Refused(
            f"{self._title} answered {response.status}: {message or response.reason or 'no reason given'}{where}",
            status=response.status,
            code=code,
            retry_after=_seconds(response.getheader("Retry-After")),
        )

    def _unwritten(self, target: Path, error: OSError) -> StorageError:
        return StorageError(
            f"The results could not be written to {target} ({error.strerror}). They are still at "
            f"{self._title}, paid for and safe; make room and attach to the job again."
        )


class _LocalError(Exception):
    """Writing a file failed, as opposed to reading from the network."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


def _whole(response: http.client.HTTPResponse) -> bytes:
    data = response.read(_REPLY)
    if response.length:
        raise http.client.IncompleteRead(data, response.length)
    return data


def _copy(response: http.client.HTTPResponse, write: Callable[[memoryview], int]) -> None:
    buffer = memoryview(bytearray(_CHUNK))
    while count := response.readinto(buffer):
        part = buffer[:count]
        while part:
            try:
                part = part[write(part) :]
            except OSError as error:
                raise _LocalError(error) from error


def _proxy_for(url: SplitResult) -> tuple[str, int] | None:
    """The proxy that the environment names for this URL, as (host, port)."""
    # Importing what knows all about proxies takes longer than asking whether there is one.
    if not any(name.lower().endswith("_proxy") and name.lower() != "no_proxy" for name in os.environ):
        return None
    from urllib.request import getproxies, proxy_bypass

    if proxy_bypass(url.hostname or ""):
        return None
    named = getproxies().get(url.scheme)
    if not named:
        return None
    parts = urlsplit(named if "//" in named else f"//{named}")
    return (parts.hostname, parts.port or 8080) if parts.hostname else None


def _seconds(text: str | None) -> float | None:
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:
        return None


def _error_of(raw: bytes) -> tuple[str, str]:
    """Code and message of an error body: `{"error": {"message", "code", "type"}}` in both dialects."""
    try:
        error = msgspec.json.decode(raw, type=_ErrorBody).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "", raw[:200].decode("utf-8", "replace").strip()
    return str(error.code or error.type or ""), error.message or ""
