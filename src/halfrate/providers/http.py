"""HTTP for the adapters: few calls with large bodies, streamed from and to files, and realtime calls, many at once.

`send` repeats nothing, and uses a connection of its own: a paid call must not be lost to a connection that
the other side closed while it idled. `ask` repeats calls that are safe to repeat (reads, uploads, cancels,
deletes) a few times on passing failures, and honours Retry-After. `call` repeats nothing either; it keeps its
connections, because a realtime job makes thousands of calls, and takes up none again that has idled for long or
that the other side has closed.

The standard library's client does the work, in threads: for whole files it costs the least CPU and memory of
those tried, and starting a command does not wait for an HTTP framework to be imported. A realtime call holds its
thread while it waits for the answer; the threads are made as they are needed, and cost little while they wait.
"""

import asyncio
import http.client
import ssl
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias, TypeVar
from urllib.parse import urlsplit

import msgspec

from halfrate.base.direct import DirectWriter, read_chunks
from halfrate.base.errors import HELD_UP, UNREACHABLE, OutcomeUnknown, Refused, SettingsError, StorageError
from halfrate.base.version import VERSION
from halfrate.providers.answers import Answer, error_of, request_id, retry_after, told_status
from halfrate.providers.connections import Idle, Line, keep_alive, proxy_for
from halfrate.providers.files import unwritten

_R = TypeVar("_R")

Sign: TypeAlias = Callable[[str, str, bytes | None], Mapping[str, str]]

_CHUNK: Final = 1 << 18
_SENT_AT_ONCE: Final = 1 << 19
"""Bytes of a file for which one timeout has to be enough."""
_TRIES: Final = 4
_LONGEST_RETRY_AFTER: Final = 120.0
_ERROR_BODY: Final = 64 << 10
_REPLY: Final = 64 << 20
_CONNECT: Final = 30.0
_THREADS: Final = 12
_CALLS: Final = 256
"""Realtime calls under way at once, over all models of an account. More wait their turn."""
_KEY_HEADERS: Final = frozenset(
    {"authorization", "x-api-key", "api-key", "x-goog-api-key", "x-amz-security-token"}
)
_SHORTEST_KEY: Final = 12
# What a broken connection, or a reply that is no HTTP, raises.
_BROKEN: Final = (OSError, http.client.HTTPException)


class Upload(msgspec.Struct, frozen=True):
    """A body made of bytes, a file's contents, and bytes; sent with its length, held nowhere in memory.

    A file that cannot be read is StorageError: the provider has no part in it.
    """

    head: bytes
    path: Path
    tail: bytes
    content_type: str

    @property
    def size(self) -> int:
        try:
            return len(self.head) + self.path.stat().st_size + len(self.tail)
        except OSError as error:
            raise self._unreadable(error) from error

    def parts(self) -> Iterator[bytes | memoryview]:
        """All of it, in order; a part is to be used before the next is asked for."""
        yield self.head
        try:
            with self.path.open("rb", buffering=0) as file:
                for chunk in read_chunks(file):
                    for at in range(0, len(chunk), _SENT_AT_ONCE):
                        yield chunk[at : at + _SENT_AT_ONCE]
        except OSError as error:
            raise self._unreadable(error) from error
        yield self.tail

    def _unreadable(self, error: OSError) -> StorageError:
        return unreadable(self.path, error)


def unreadable(path: Path, error: OSError) -> StorageError:
    """Why the rows that were to be sent were not."""
    return StorageError(
        f"{path}, which holds the rows to be sent, cannot be read ({error.strerror}). They were not sent. "
        "What is with the provider already goes on there; the job can go on from here once the file is back."
    )


class Http:
    """Calls one account's API.

    Args:
        base_url: where paths are appended.
        headers: sent with every call; the key is among them, and none of them is ever logged.
        title: the provider's name in messages.
        query: stands in the URL of every call.
        sign: headers that one call alone can have: from its method, its URL and its body, None for one that is
            streamed. It may take time, and raises SettingsError where there are no credentials.
        wrong_key: words in an answer of 400 that mean what others say with 401.
    """

    def __init__(
        self,
        base_url: str,
        headers: dict[str, str],
        title: str,
        *,
        query: str = "",
        sign: Sign | None = None,
        wrong_key: str = "",
    ) -> None:
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
        self.base_url = base_url
        self._url = parts
        self._path = parts.path.rstrip("/")
        self._headers = {"User-Agent": f"halfrate/{VERSION}", **headers}
        self._title = title
        self._query = query
        self._sign = sign
        self._wrong_key = wrong_key
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"halfrate-{title}")
        self._callers: ThreadPoolExecutor | None = None
        self._idle = Idle()
        self._tls: ssl.SSLContext | None = None

    def fixed_headers(self) -> tuple[tuple[str, str], ...] | None:
        """What stands in the head of every call, the key among it; None where each call is signed for itself."""
        return None if self._sign is not None else tuple(self._headers.items())

    def fixed_query(self) -> str:
        """What stands behind the path of every call."""
        return f"?{self._query}" if self._query else ""

    async def close(self) -> None:
        self._threads.shutdown(wait=True)
        if self._callers is not None:
            self._callers.shutdown(wait=True)
        self._idle.close()

    async def send(
        self,
        method: str,
        path: str,
        *,
        body: bytes | Upload | None = None,
        timeout: float = 120.0,
        in_time: Callable[[], bool] = lambda: True,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """One request, once. Raises Refused on a status of 300 or more, OutcomeUnknown on anything unclear.

        A 5xx answer is raised as Refused too: whether it is to be believed is the caller's to say. `timeout`
        is for each wait on the network, in seconds. `in_time` is asked at the last moment before anything leaves;
        if it says no, nothing does, and that is Refused too.
        """

        def call() -> bytes:
            return self._call(method, path, body, timeout, _whole, fresh=True, in_time=in_time, more=headers)

        return await self._in_thread(call)

    async def call(
        self,
        path: str,
        body: bytes,
        *,
        headers: Mapping[str, str],
        keep: Sequence[str],
        timeout: float,
        in_time: Callable[[], bool],
    ) -> Answer:
        """POST one small body, once, on a connection that is kept. Gives every answer, errors and redirects too.

        Args:
            headers: sent besides those of every call; the body is JSON unless they say something else.
            keep: names of headers of the answer that are wanted.
            timeout: seconds for each wait on the network. No byte comes while a model thinks: this bounds that.
            in_time: as for `send`.

        Raises Refused where nothing left this machine, OutcomeUnknown where no whole answer came. A cancelled
        call is hung up on at once; what it was asked for may go on at the provider.
        """
        line = Line()

        def call() -> Answer:
            return self._realtime(path, body, headers, keep, timeout, in_time, line)

        if self._callers is None:
            self._callers = ThreadPoolExecutor(_CALLS, thread_name_prefix=f"halfrate-{self._title}-call")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._callers, call)
        except asyncio.CancelledError:
            line.hang_up()
            raise

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

    def elsewhere(self, url: str) -> "tuple[Http, str]":
        """Calls to a place that the provider named, and the path there. Nothing of ours goes with them, our key least
        of all; a place that is less safe than the provider's own is OutcomeUnknown."""
        parts = urlsplit(url)
        if not parts.hostname or parts.scheme not in {"https", self._url.scheme}:
            raise OutcomeUnknown(f"{self._title} named a place for its files that cannot be used")
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        return Http(f"{parts.scheme}://{parts.netloc}", {}, self._title), path

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
                    _copy(response, DirectWriter(file.fileno()))
                if response.length:
                    raise http.client.IncompleteRead(b"", response.length)
            except _LocalError as trouble:
                raise unwritten(target, self._title, trouble.error) from trouble.error

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
        more: Mapping[str, str] | None = None,
    ) -> _R:
        connection = self._connection(timeout, fresh=fresh)
        reusable = False
        try:
            response, secrets = self._exchange(connection, method, path, body, more, in_time=in_time)
            if response.status >= 300:
                raise self._refusal(response, secrets)
            result = read(response)
            reusable = response.isclosed() and not response.will_close
        except _BROKEN as error:
            what = str(error) or type(error).__name__
            raise OutcomeUnknown(f"{self._title} did not answer {method} {path}: {what}") from error
        finally:
            self._give_back(connection, reusable=reusable)
        return result

    def _realtime(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        keep: Sequence[str],
        timeout: float,
        in_time: Callable[[], bool],
        line: Line,
    ) -> Answer:
        connection = self._connection(timeout, fresh=False, paid=True)
        reusable = False
        try:
            if not line.take(connection):
                raise _held_up()
            response, secrets = self._exchange(connection, "POST", path, body, headers, in_time=in_time)
            answer = self._answer(response, secrets, keep)
            reusable = response.isclosed() and not response.will_close
        except _BROKEN as error:
            what = str(error) or type(error).__name__
            raise OutcomeUnknown(
                f"{self._title} did not answer POST {path}: {what}. The row may have been run, and billed, all the "
                "same"
            ) from error
        finally:
            line.release()
            self._give_back(connection, reusable=reusable)
        return answer

    def _answer(
        self, response: http.client.HTTPResponse, secrets: Sequence[str], keep: Sequence[str]
    ) -> Answer:
        body = _whole(response)
        if response.status >= 300:
            for secret in secrets:
                body = body.replace(secret.encode(), b"[key]")
        kept = {name: value for name in keep if (value := response.getheader(name)) is not None}
        return Answer(
            status=response.status,
            reason=response.reason,
            body=body,
            headers=kept,
            retry_after=retry_after(response),
            request_id=request_id(response),
        )

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | Upload | None,
        more: Mapping[str, str] | None = None,
        *,
        in_time: Callable[[], bool] = lambda: True,
    ) -> tuple[http.client.HTTPResponse, Sequence[str]]:
        """Send a request; the beginning of its response, and the keys that went with it."""
        if not in_time():
            raise _held_up()
        headers = {**self._headers, **(more or {})}
        target = self._path + path
        if self._query:
            target += ("&" if "?" in path else "?") + self._query
        if self._sign is not None:
            whole = body if isinstance(body, bytes) else None if isinstance(body, Upload) else b""
            headers |= self._sign(method, f"{self._url.scheme}://{self._url.netloc}{target}", whole)
        if self._proxied_plainly():
            target = f"{self._url.scheme}://{self._url.netloc}{target}"
        try:
            if isinstance(body, Upload):
                headers |= {"Content-Type": body.content_type, "Content-Length": str(body.size)}
            elif body is not None:
                headers = {"Content-Type": "application/json", **headers, "Content-Length": str(len(body))}
            connection.request(method, target, None if body is None else _parts(body, in_time), headers)
        except (BrokenPipeError, ConnectionResetError):
            # A server may refuse before it has read all, and hang up; then its reply says why.
            if connection.sock is None:
                raise
        return connection.getresponse(), _secrets_in(headers)

    # ------------------------------------------------------------ connections

    def _connection(self, timeout: float, *, fresh: bool, paid: bool = False) -> http.client.HTTPConnection:
        """A connection: a new one, or one that is kept; for a paid call, one that is certain to be there still."""
        kept = None if fresh else self._idle.take(trusted=paid)
        if kept is not None:
            kept.timeout = timeout
            if kept.sock is not None:
                kept.sock.settimeout(timeout)
            return kept
        connection = self._open()
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            # Nothing has left this machine yet: whatever was to be asked did not happen.
            text = f"{self._title} cannot be reached at {self._url.netloc}: {error.strerror or error}"
            raise Refused(text, code=UNREACHABLE) from error
        keep_alive(connection)
        connection.timeout = timeout
        connection.sock.settimeout(timeout)
        return connection

    def _open(self) -> http.client.HTTPConnection:
        secure = self._url.scheme == "https"
        host, port = self._url.hostname or "", self._url.port
        proxy = proxy_for(self._url)
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
        return self._url.scheme == "http" and proxy_for(self._url) is not None

    def _give_back(self, connection: http.client.HTTPConnection, *, reusable: bool) -> None:
        if reusable:
            self._idle.put(connection)
        else:
            connection.close()

    # ------------------------------------------------------------ errors

    def _refusal(self, response: http.client.HTTPResponse, secrets: Sequence[str]) -> Refused:
        code, message = error_of(response.read(_ERROR_BODY))
        for secret in secrets:
            # What a provider repeats of a key must not end up in a log, or in the store.
            message = message.replace(secret, "[key]")
        name = request_id(response)
        where = f" (request {name})" if name else ""
        return Refused(
            f"{self._title} answered {response.status}: {message or response.reason or 'no reason given'}{where}",
            status=told_status(response.status, message, self._wrong_key),
            code=code,
            retry_after=retry_after(response),
        )


def _parts(body: bytes | Upload, in_time: Callable[[], bool]) -> Iterator[bytes | memoryview]:
    """A body, the last byte of which leaves only if there still is time.

    Until a provider has the last byte it has no request. A process that is stopped while it sends, and goes on when
    another has long taken its place, must not complete what it began.
    """
    parts, left = (body.parts(), body.size) if isinstance(body, Upload) else ((body,), len(body))
    for part in parts:
        left -= len(part)
        if left > 0 or not part:
            yield part
            continue
        last = memoryview(part)
        yield last[:-1]
        if not in_time():
            raise _held_up()
        yield last[-1:]


def _secrets_in(headers: Mapping[str, str]) -> list[str]:
    """The keys and tokens that a call bears: those of the account, and those that it was signed with. Of a signature of
    AWS's the token alone counts; the rest is good for that one call."""
    return [
        value.rpartition(" ")[2]
        for name, value in headers.items()
        if name.lower() in _KEY_HEADERS and len(value) >= _SHORTEST_KEY
    ]


def _held_up() -> Refused:
    return Refused("this process was held up, and did not send what it was about to", code=HELD_UP)


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


def _copy(response: http.client.HTTPResponse, target: DirectWriter) -> None:
    """Write a body to a file, durably."""
    while count := response.readinto(target.room()):
        with _local():
            target.took(count)
    with _local():
        target.sync()


@contextmanager
def _local() -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise _LocalError(error) from error
