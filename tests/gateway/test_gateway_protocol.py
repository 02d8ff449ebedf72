"""HTTP/1.1 as callers may speak it, well or badly, against an application that shows what it is given."""

import asyncio
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import pytest
import uvicorn
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from halfrate.gateway.protocol import Http

from .office import wait_for

PLAIN = [(b"content-type", b"text/plain")]


class App:
    """Does what the path says. `seen`: what it was told of each call; `ended`: paths of calls that are over."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.ended: list[str] = []
        self.taken = 0
        self.given = 0
        self.go = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        try:
            await getattr(self, "at_" + path.strip("/").replace("-", "_"))(scope, receive, send)
        finally:
            self.ended.append(path)

    async def at_echo(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers with what came."""
        body = await all_of(receive)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        told = {"method": scope["method"], "query": scope["query_string"].decode(), "headers": headers}
        self.seen.append({**told, "body": body})
        await whole(send, json.dumps({**told, "body": body.decode()}).encode())

    async def at_slow(self, _scope: Scope, receive: Receive, send: Send) -> None:
        await all_of(receive)
        await asyncio.to_thread(self.go.wait)
        await whole(send, b"slow")

    async def at_unread(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Answers without a look at the body."""
        await whole(send, b"no", status=403)

    async def at_stream(self, _scope: Scope, receive: Receive, send: Send) -> None:
        await all_of(receive)
        await send({"type": "http.response.start", "status": 200, "headers": PLAIN})
        await asyncio.to_thread(self.go.wait)
        for number in range(3):
            await send({"type": "http.response.body", "body": b"piece %d." % number, "more_body": True})
        await send({"type": "http.response.body"})

    async def at_parts(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """A body of known length in several parts, one of them large."""
        parts = [b"a" * 10, b"b" * 200_000, b"", b"c" * 7]
        length = b"%d" % sum(map(len, parts))
        await send(
            {"type": "http.response.start", "status": 200, "headers": [*PLAIN, (b"content-length", length)]}
        )
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": part != parts[-1]})

    async def at_empty(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def at_odd(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await whole(send, b"odd", status=299)

    async def at_defect(self, _scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ValueError("a secret of the application's")

    async def at_late_defect(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": PLAIN})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        raise ValueError("a secret of the application's")

    async def at_nothing(self, _scope: Scope, _receive: Receive, _send: Send) -> None:
        """Forgets to answer."""

    async def at_short(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        await send({"type": "http.response.body", "body": b"1234"})

    async def at_two(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Would set a header that brings another, if it could."""
        value = scope["query_string"].replace(b"+", b"\r\nset-cookie: a=b")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-odd", value)]})
        await send({"type": "http.response.body", "body": b"two"})

    async def at_bye(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await whole(send, b"bye", headers=[(b"connection", b"close")])

    async def at_wait(self, _scope: Scope, receive: Receive, _send: Send) -> None:
        """Waits for the caller to go."""
        self.taken = len(await all_of(receive))
        assert (await receive())["type"] == "http.disconnect"

    async def at_idle(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Takes one part of the body, and no more until it is told to."""
        self.taken = len((await receive()).get("body", b""))
        await asyncio.to_thread(self.go.wait)
        self.taken += len(await all_of(receive))
        await whole(send, b"idle")

    async def at_flood(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": PLAIN})
        for _ in range(400):
            await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
            self.given += 65_536
        await send({"type": "http.response.body"})


async def all_of(receive: Receive) -> bytes:
    """The body of a call, or what came of it before its caller went."""
    parts: list[bytes] = []
    while True:
        message: Message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def whole(
    send: Send, body: bytes, *, status: int = 200, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send(
        {"type": "http.response.start", "status": status, "headers": [*PLAIN, length, *(headers or ())]}
    )
    await send({"type": "http.response.body", "body": body})


class Served:
    """The application behind uvicorn and our protocol."""

    def __init__(self, loop: str, keep_alive: float = 30.0) -> None:
        self.app = App()
        config = uvicorn.Config(
            self.app,
            http=Http,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=keep_alive,  # pyright: ignore[reportArgumentType]
            timeout_graceful_shutdown=10,
        )
        self.server = uvicorn.Server(config)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        make = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop

        def run() -> None:
            with asyncio.Runner(loop_factory=make) as runner:
                runner.run(self.server.serve(sockets=[self._listener]))

        self._thread = threading.Thread(target=run)

    def start(self) -> None:
        self._thread.start()
        wait_for(lambda: self.server.started)

    def stop(self) -> None:
        self.app.go.set()
        self.server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()
        assert not self.server.server_state.tasks

    def call(self, data: bytes = b"") -> "Caller":
        return Caller(self.port, data)


class Caller:
    """One connection. Use as a context manager."""

    def __init__(self, port: int, data: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 20)
        self._rest = b""
        if data:
            self.send(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def _more(self) -> bool:
        data = self.socket.recv(65_536)
        self._rest += data
        return bool(data)

    def until(self, mark: bytes) -> bytes:
        """What comes up to a mark, and with it."""
        while mark not in self._rest:
            assert self._more(), self._rest
        found, _, self._rest = self._rest.partition(mark)
        return found + mark

    def reply(self, *, bodiless: bool = False) -> tuple[int, dict[str, str], bytes]:
        """The next reply: status, headers, and body."""
        first, *lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")[:-2]
        headers = dict(line.split(": ", 1) for line in lines)
        status = int(first.split(" ")[1])
        if bodiless or status in {204, 304}:
            return status, headers, b""
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.until(b"\r\n"), 16):
                body += self._exactly(size)
                assert self._exactly(2) == b"\r\n"
            assert self._exactly(2) == b"\r\n"
            return status, headers, body
        return status, headers, self._exactly(int(headers["content-length"]))

    def _exactly(self, size: int) -> bytes:
        while len(self._rest) < size:
            assert self._more()
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def rest(self) -> bytes:
        """All that comes before the connection ends."""
        while self._more():
            pass
        return self._rest


Serve = Callable[..., Served]


@pytest.fixture(params=["uvloop", "asyncio"])
def serve(request: pytest.FixtureRequest) -> Iterator[Serve]:
    with ExitStack() as stack:

        def started(**options: Any) -> Served:
            served = Served(request.param, **options)
            served.start()
            stack.callback(served.stop)
            return served

        yield started


@contextmanager
def complaints(caplog: pytest.LogCaptureFixture) -> Generator[Callable[[], str]]:
    with caplog.at_level(logging.ERROR, "uvicorn.error"):
        yield lambda: caplog.text


def get(path: str, *headers: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"GET {path} HTTP/{version}", "host: here", *headers, "", ""]).encode()


def post(path: str, body: bytes, *headers: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: here", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(head).encode() + body


def test_a_call_comes_in_as_it_was_made_and_its_reply_leaves_whole(serve: Serve) -> None:
    served = serve()
    with served.call(post("/echo?a=b%20c", b"body", "X-Some: One", "x-some-more: Two")) as caller:
        status, headers, body = caller.reply()
        assert status == 200
        assert list(headers) == ["date", "content-type", "content-length"]
        told = json.loads(body)
        assert told == {
            "method": "POST",
            "query": "a=b%20c",
            "headers": {"host": "here", "content-length": "4", "x-some": "One", "x-some-more": "Two"},
            "body": "body",
        }
        # And again on the same connection.
        for text in (b"", b"x" * 300_000):
            caller.send(post("/echo", text))
            assert json.loads(caller.reply()[2])["body"].encode() == text


def test_a_path_is_decoded_and_an_unknown_status_is_told_as_it_is(serve: Serve) -> None:
    with serve().call(get("/%6Fdd")) as caller:
        assert caller.until(b"\r\n").startswith(b"HTTP/1.1 299 ")


def test_calls_that_come_together_are_answered_in_their_order(serve: Serve) -> None:
    served = serve()
    calls = [
        get("/slow"),
        *(post("/echo", b"%d" % n) for n in range(50)),
        get("/stream"),
        post("/echo", b"last"),
    ]
    with served.call(b"".join(calls)) as caller:
        time.sleep(0.05)
        assert served.app.ended == []
        served.app.go.set()
        assert caller.reply()[2] == b"slow"
        assert [json.loads(caller.reply()[2])["body"] for _ in range(50)] == [str(n) for n in range(50)]
        assert caller.reply()[2] == b"piece 0.piece 1.piece 2."
        assert json.loads(caller.reply()[2])["body"] == "last"


@pytest.fixture(scope="module")
def one() -> Iterator[Served]:
    served = Served("uvloop")
    served.start()
    yield served
    served.stop()


@settings(max_examples=60, deadline=None)
@given(
    bodies=st.lists(st.binary(max_size=60).map(lambda data: data.hex().encode()), min_size=1, max_size=6),
    cuts=st.lists(st.integers(1, 90), max_size=30),
    pieces=st.booleans(),
)
def test_calls_are_the_same_however_they_are_cut(
    one: Served, bodies: list[bytes], cuts: list[int], pieces: bool
) -> None:
    def made(body: bytes) -> bytes:
        if not pieces:
            return post("/echo", body)
        parts = [body[at : at + 7] for at in range(0, len(body), 7)]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
        head = get("/echo", "transfer-encoding: chunked").replace(b"GET", b"POST")
        return head + chunks + b"0\r\nauthorization: too late\r\n\r\n"

    data = b"".join(map(made, bodies))
    with one.call() as caller:
        caller.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for cut in cuts:
            caller.send(data[:cut])
            data = data[cut:]
        caller.send(data)
        for body in bodies:
            told = json.loads(caller.reply()[2])
            assert told["body"].encode() == body
            assert "authorization" not in told["headers"]


@pytest.mark.parametrize("expected", ["100-continue", "100-Continue"])
def test_who_asks_first_is_told_to_go_on_when_the_body_is_wanted(serve: Serve, expected: str) -> None:
    head, _, body = post("/echo", b"body", f"Expect: {expected}").partition(b"body")
    assert not body
    with serve().call(head) as caller:
        assert caller.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        caller.send(b"body")
        assert json.loads(caller.reply()[2])["body"] == "body"


def test_who_asks_first_is_not_told_to_go_on_when_the_body_is_not_wanted(serve: Serve) -> None:
    head = post("/unread", b"body", "Expect: 100-continue").removesuffix(b"body")
    with serve().call(head) as caller:
        assert caller.reply()[0] == 403


def test_a_body_that_nobody_takes_is_passed_over(serve: Serve) -> None:
    with serve().call(post("/unread", b"x" * 500_000) + post("/echo", b"next")) as caller:
        assert caller.reply()[0] == 403
        assert json.loads(caller.reply()[2])["body"] == "next"


def test_replies_without_a_body(serve: Serve) -> None:
    calls = get("/echo").replace(b"GET", b"HEAD") + get("/empty") + get("/stream").replace(b"GET", b"HEAD")
    served = serve()
    served.app.go.set()
    with served.call(calls + get("/odd")) as caller:
        status, headers, _ = caller.reply(bodiless=True)
        assert (status, int(headers["content-length"]) > 50) == (200, True)
        assert caller.reply()[0] == 204
        status, headers, _ = caller.reply(bodiless=True)
        assert (status, "transfer-encoding" in headers) == (200, False)
        assert caller.reply()[2] == b"odd"


def test_a_body_in_parts_of_a_known_length(serve: Serve) -> None:
    with serve().call(get("/parts")) as caller:
        assert caller.reply()[2] == b"a" * 10 + b"b" * 200_000 + b"c" * 7


def test_the_head_of_a_stream_is_there_before_anything_of_it(serve: Serve) -> None:
    served = serve()
    with served.call(get("/stream")) as caller:
        assert b"transfer-encoding: chunked" in caller.until(b"\r\n\r\n")
        served.app.go.set()
        assert (
            caller.until(b"0\r\n\r\n") == b"".join(b"8\r\npiece %d.\r\n" % n for n in range(3)) + b"0\r\n\r\n"
        )


def test_a_caller_of_an_older_kind_gets_no_pieces(serve: Serve) -> None:
    served = serve()
    served.app.go.set()
    with served.call(get("/stream", "connection: keep-alive", version="1.0") + get("/echo")) as caller:
        head = caller.until(b"\r\n\r\n")
        assert b"connection: close" in head
        assert b"chunked" not in head
        assert caller.rest() == b"piece 0.piece 1.piece 2."


def test_the_last_call_has_its_body_to_the_end(serve: Serve) -> None:
    served = serve()
    data = post("/echo", b"in two parts", "connection: close")
    for call in (data, data.replace(b"HTTP/1.1", b"HTTP/1.0")):
        with served.call(call[:-6]) as caller:
            time.sleep(0.05)
            caller.send(call[-6:] + get("/odd"))
            assert json.loads(caller.reply()[2])["body"] == "in two parts"
            assert caller.rest() == b""
    assert "/odd" not in served.app.ended


@pytest.mark.parametrize("call", [get("/echo", "connection: close"), get("/bye")])
def test_the_last_call_ends_the_connection(serve: Serve, call: bytes) -> None:
    with serve().call(call + get("/echo")) as caller:
        assert caller.reply()[1]["connection"] == "close"
        assert caller.rest() == b""


def test_an_upgrade_is_not_made_and_the_call_answered(serve: Serve) -> None:
    with serve().call(
        get("/echo", "connection: upgrade", "upgrade: h2c") + b"PRI * HTTP/2.0\r\n\r\n"
    ) as caller:
        assert caller.reply()[0] == 200
        assert caller.rest() == b""


@pytest.mark.parametrize(
    "nonsense",
    [
        b"nonsense\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST /echo HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST /echo HTTP/1.1\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nnot a size\r\n",
        b"CONNECT here:443 HTTP/1.1\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_call_is_refused_and_nothing_read_behind_it(serve: Serve, nonsense: bytes) -> None:
    served = serve()
    with served.call(nonsense + get("/odd")) as caller:
        status, headers, _ = caller.reply()
        assert (status, headers["connection"]) == (400, "close")
        assert caller.rest() == b""
    assert "/odd" not in served.app.ended
    # Who came before it gets an answer first.
    with served.call(get("/slow") + nonsense) as caller:
        time.sleep(0.05)
        served.app.go.set()
        assert caller.reply()[2] == b"slow"
        assert caller.rest() == b""


@pytest.mark.parametrize(
    "begun",
    [
        b"GET /" + b"x" * 1_000_000,
        b"GET /odd HTTP/1.1\r\n" + b"x-more: y\r\n" * 100_000,
        b"POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + b"x-more: y\r\n" * 100_000,
    ],
)
def test_headers_without_an_end_are_refused(serve: Serve, begun: bytes) -> None:
    with serve().call() as caller:
        caller.socket.settimeout(20)
        try:
            caller.send(begun)
        except OSError:
            # It was refused before all of it was written.
            return
        assert caller.until(b"\r\n").startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))


@pytest.mark.parametrize("path", ["/defect", "/nothing", "/two?a+"])
def test_a_defect_of_the_application_is_told_as_that(
    serve: Serve, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with complaints(caplog) as said:
        with serve().call(get(path)) as caller:
            status, headers, body = caller.reply()
            assert (status, body) == (500, b"Internal Server Error")
            assert "set-cookie" not in headers
            assert caller.rest() == b""
        assert said()


@pytest.mark.parametrize("path", ["/late-defect", "/short"])
def test_a_reply_that_breaks_off_is_seen_to(
    serve: Serve, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with complaints(caplog) as said:
        with serve().call(get(path)) as caller:
            assert not caller.rest().endswith(b"0\r\n\r\n")
        assert said()


def test_a_caller_that_goes_is_noticed(serve: Serve) -> None:
    served = serve()
    with served.call(post("/wait", b"body")):
        wait_for(lambda: served.app.taken)
    wait_for(lambda: served.app.ended == ["/wait"])
    # In the middle of a body, and of a stream.
    with served.call(post("/wait", b"body").removesuffix(b"dy")):
        pass
    wait_for(lambda: len(served.app.ended) == 2)
    with served.call(get("/flood")) as caller:
        caller.until(b"\r\n\r\n")
    wait_for(lambda: len(served.app.ended) == 3)
    wait_for(lambda: not served.server.server_state.connections)


def test_what_nobody_takes_is_not_taken_in(serve: Serve) -> None:
    served = serve()
    size = 64 << 20
    with served.call(post("/idle", b"x" * size).removesuffix(b"x" * size)) as caller:
        caller.socket.setblocking(False)
        sent, tries = 0, 0
        while tries < 20:
            try:
                sent += caller.socket.send(b"x" * 65_536)
                tries = 0
            except BlockingIOError:
                tries += 1
                time.sleep(0.02)
        assert served.app.taken < sent < size // 2
        served.app.go.set()
        caller.socket.settimeout(20)
        caller.send(b"x" * (size - sent))
        assert caller.reply()[2] == b"idle"
        assert served.app.taken == size


def test_what_nobody_reads_is_not_written_without_end(serve: Serve) -> None:
    served = serve()
    with served.call(get("/flood")) as caller:
        caller.until(b"\r\n\r\n")
        seen = -1
        while seen != served.app.given:
            seen = served.app.given
            time.sleep(0.2)
        assert seen < 20 << 20
        # A caller that comes meanwhile is served.
        with served.call(get("/odd")) as other:
            assert other.reply()[2] == b"odd"
        got = len(caller.until(b"\r\n0\r\n\r\n"))
        assert got > 400 * 65_536


def test_a_connection_that_rests_is_ended_and_one_in_use_is_not(serve: Serve) -> None:
    served = serve(keep_alive=0.4)
    with served.call(get("/odd")) as rests, served.call(get("/slow")) as waits, served.call() as busy:
        began = time.monotonic()
        assert rests.reply()[2] == b"odd"
        for _ in range(8):
            busy.send(get("/odd"))
            assert busy.reply()[2] == b"odd"
            time.sleep(0.1)
        assert rests.rest() == b""
        assert time.monotonic() - began > 0.4
        served.app.go.set()
        assert waits.reply()[2] == b"slow"
        assert busy.rest() == b""


def test_at_the_end_who_waits_is_answered_and_who_rests_let_go(serve: Serve) -> None:
    served = serve()
    with served.call(get("/odd")) as rests, served.call(get("/slow") + get("/odd")) as waits:
        rests.reply()
        wait_for(lambda: served.server.server_state.tasks)
        served.server.should_exit = True
        assert rests.rest() == b""
        served.app.go.set()
        assert waits.reply()[2] == b"slow"
        status, headers, body = waits.reply()
        assert (status, headers["connection"], body) == (299, "close", b"odd")
        assert waits.rest() == b""


def test_at_the_end_a_body_that_is_coming_is_taken(serve: Serve) -> None:
    served = serve()
    with served.call(post("/echo", b"body").removesuffix(b"dy")) as caller:
        wait_for(lambda: served.server.server_state.tasks)
        served.server.should_exit = True
        time.sleep(0.3)
        caller.send(b"dy")
        status, headers, body = caller.reply()
        assert (status, headers["connection"], json.loads(body)["body"]) == (200, "close", "body")


def test_many_at_once_each_get_their_own(serve: Serve) -> None:
    served = serve()
    with ExitStack() as stack:
        callers = [stack.enter_context(served.call()) for _ in range(60)]
        for turn in range(5):
            for number, caller in enumerate(callers):
                caller.send(post("/echo", b"%d of %d" % (number, turn)))
                if number % 7 == 0:
                    caller.send(post("/echo", b"again"))
            for number, caller in enumerate(callers):
                assert json.loads(caller.reply()[2])["body"] == f"{number} of {turn}"
                if number % 7 == 0:
                    assert json.loads(caller.reply()[2])["body"] == "again"


def test_the_date_is_told(serve: Serve) -> None:
    with serve().call(get("/odd")) as caller:
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", caller.reply()[1]["date"])
