"""The client that calls providers, against servers that say every wrong thing that a server can say."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfrate.gateway.upstream import Lost, NotSent, Response, Upstream, encoded

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def request_of(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of one request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.partition(b":")[2])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length")
    )
    return head, await reader.readexactly(length)


class Server:
    """Counts connections and requests; `script` answers on each connection."""

    def __init__(self, script: Script) -> None:
        self.connections = 0
        self.requests: list[tuple[bytes, bytes]] = []
        self.calls: set[asyncio.Task[None]] = set()
        self._script = script

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        call = asyncio.current_task()
        assert call is not None
        self.calls.add(call)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._script(reader, writer)
        finally:
            writer.transport.abort()
            self.calls.discard(call)
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def between(script: Script, **options: float) -> AsyncGenerator[tuple[Upstream, Server]]:
    """A server and a client of it."""
    server = Server(script)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    upstream = Upstream(f"http://127.0.0.1:{port}/base", **options)  # pyright: ignore[reportArgumentType]
    try:
        yield upstream, server
    finally:
        upstream.close()
        listening.close()
        calls = list(server.calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        # What was hung up on is told so in the next turn of the loop.
        await asyncio.sleep(0)


def answering(*answers: bytes, then_close: bool = False) -> Script:
    """One answer to each request; the last is repeated."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = 0
        while True:
            await request_of(reader)
            writer.write(answers[min(number, len(answers) - 1)])
            await writer.drain()
            number += 1
            if then_close:
                writer.close()
                await writer.wait_closed()
                return

    return script


async def ask(upstream: Upstream, body: bytes = b"{}", seconds: float = 5.0) -> Response:
    return await upstream.send(b"POST", b"/v1/chat", encoded([(b"x-a", b"b")]), body, seconds=seconds)


async def text(upstream: Upstream, seconds: float = 5.0) -> bytes:
    return await (await ask(upstream, seconds=seconds)).read(1 << 20)


def test_a_request_arrives_as_it_was_meant() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await request_of(reader))
        writer.write(OK)
        await reader.read(1)

    async def main() -> None:
        async with between(script) as (upstream, _):
            response = await ask(upstream, b"\x00body")
            assert response.status == 200
            assert (b"content-length", b"2") in response.headers
            assert await response.read(2) == b"ok"
            assert await response.chunk() == b""

    asyncio.run(main())
    ((head, body),) = seen
    assert body == b"\x00body"
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /base/v1/chat HTTP/1.1"
    assert b"x-a: b" in lines
    assert b"content-length: 5" in lines
    assert [line for line in lines if line.startswith(b"host: 127.0.0.1:")]


def test_a_connection_is_used_again_once_its_answer_was_read() -> None:
    async def main() -> None:
        async with between(answering(OK)) as (upstream, server):
            for _ in range(5):
                assert await text(upstream) == b"ok"
            assert server.connections == 1
            await asyncio.gather(*(text(upstream) for _ in range(4)))
            assert 1 < server.connections <= 4

    asyncio.run(main())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n\r\nok",
    ],
)
def test_a_connection_that_ends_is_not_used_again(answer: bytes) -> None:
    async def main() -> None:
        async with between(answering(answer, then_close=True)) as (upstream, server):
            for _ in range(3):
                assert await text(upstream) == b"ok"
            assert server.connections == 3

    asyncio.run(main())


def test_a_connection_that_was_closed_while_nobody_used_it_is_not_used_again() -> None:
    async def main() -> None:
        async with between(answering(OK, then_close=True)) as (upstream, server):
            for _ in range(3):
                assert await text(upstream) == b"ok"
                await asyncio.sleep(0.05)
            assert server.connections == 3

    asyncio.run(main())


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    cuts=st.lists(st.integers(0, 400), max_size=8),
)
def test_a_body_in_pieces_comes_out_whole_however_it_is_cut(parts: list[bytes], cuts: list[int]) -> None:
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request_of(reader)
            at = 0
            for cut in [*sorted(cuts), len(answer)]:
                writer.write(answer[at:cut])
                at = max(at, min(cut, len(answer)))
                await writer.drain()
                await asyncio.sleep(0)

    async def main() -> None:
        async with between(script) as (upstream, server):
            assert await text(upstream) == b"".join(parts)
            assert await text(upstream) == b"".join(parts)
            assert server.connections == 1

    asyncio.run(main())


def test_what_comes_is_there_before_the_end() -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request_of(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            await go.wait()
            writer.write(b"4\r\nlast\r\n0\r\n\r\n")
            await reader.read(1)

        async with between(script) as (upstream, _):
            response = await ask(upstream)
            assert await response.chunk() == b"first"
            go.set()
            assert await response.read(100) == b"last"

    asyncio.run(main())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfir",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -4\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_an_answer_that_breaks_off_or_is_none_is_lost(answer: bytes) -> None:
    async def main() -> None:
        async with between(answering(answer, then_close=True)) as (upstream, server):
            with pytest.raises(Lost):
                await text(upstream)
            # It is never sent a second time.
            assert server.connections == 1

    asyncio.run(main())


def test_a_second_answer_that_nobody_asked_for_reaches_nobody() -> None:
    async def main() -> None:
        async with between(answering(OK + OK.replace(b"ok", b"no"))) as (upstream, _):
            for _ in range(3):
                try:
                    assert await text(upstream) == b"ok"
                except Lost:
                    continue

    asyncio.run(main())


def test_advance_notices_are_passed_over() -> None:
    async def main() -> None:
        notice = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
        async with between(answering(notice + OK)) as (upstream, _):
            response = await ask(upstream)
            assert response.status == 200
            assert all(name != b"link" for name, _ in response.headers)
            assert await response.read(10) == b"ok"

    asyncio.run(main())


def test_nothing_that_comes_in_time_is_lost_and_the_connection_ended() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        if not await reader.read(1):
            gone.set()

    gone = asyncio.Event()

    async def main() -> None:
        async with between(script) as (upstream, _):
            with pytest.raises(Lost, match="nothing came"):
                await text(upstream, seconds=0.05)
            await asyncio.wait_for(gone.wait(), 5)

    asyncio.run(main())


def test_a_body_that_stops_half_way_is_lost() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        await reader.read(1)

    async def main() -> None:
        async with between(script) as (upstream, _):
            response = await ask(upstream, seconds=0.1)
            assert await response.chunk() == b"half"
            with pytest.raises(Lost, match="nothing came"):
                await response.chunk()

    asyncio.run(main())


def test_no_server_means_that_nothing_was_sent() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
        upstream = Upstream(f"http://127.0.0.1:{port}", connect=2.0)
        with pytest.raises(NotSent):
            await text(upstream)

    asyncio.run(main())


@pytest.mark.parametrize("header", [(b"a", b"b\r\nx: y"), (b"a\nb", b"c"), (b"a", b"\0")])
def test_a_header_that_would_be_two_is_not_sent(header: tuple[bytes, bytes]) -> None:
    async def main() -> None:
        async with between(answering(OK)) as (upstream, server):
            with pytest.raises(NotSent, match="header"):
                await upstream.send(b"POST", b"/", encoded([header]), b"", seconds=1)
            assert server.connections == 0

    asyncio.run(main())


def test_no_more_connections_than_allowed_and_none_is_forgotten() -> None:
    async def main() -> None:
        at_work = most = 0

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal at_work, most
            while True:
                await request_of(reader)
                at_work += 1
                most = max(most, at_work)
                await asyncio.sleep(0.005)
                at_work -= 1
                writer.write(OK)

        async with between(script, most=3) as (upstream, server):
            # Callers that give up, and answers that nobody reads, leave their places to others.
            given_up = [asyncio.create_task(text(upstream)) for _ in range(6)]
            await asyncio.sleep(0.002)
            for task in given_up:
                task.cancel()
            await asyncio.gather(*given_up, return_exceptions=True)
            (await ask(upstream)).close()
            assert await asyncio.gather(*(text(upstream) for _ in range(30))) == [b"ok"] * 30
            assert most <= 6
            assert server.connections < 20

    asyncio.run(asyncio.wait_for(main(), 20))


def test_an_answer_that_nobody_reads_is_not_taken_in() -> None:
    """The other side is held back: a slow reader does not cost the gateway its memory."""

    async def main() -> None:
        sent = 0

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await request_of(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (1 << 28))
            block = bytes(1 << 16)
            while True:
                writer.write(block)
                await writer.drain()
                sent += len(block)

        async with between(script) as (upstream, _):
            response = await ask(upstream)
            await asyncio.sleep(0.3)
            held = sent
            # What the kernel's buffers hold, and a little of ours.
            assert held < 16 << 20
            got = 0
            while got < 32 << 20:
                got += len(await response.chunk())
            response.close()
            assert sent > held

    asyncio.run(main())


def test_who_waits_for_more_is_told_when_the_answer_is_hung_up_on() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab")
        await reader.read()

    async def go() -> None:
        async with between(script) as (upstream, _):
            response = await upstream.send(b"POST", b"/x", b"", b"{}", seconds=20.0)
            assert await response.chunk() == b"ab"
            more = asyncio.create_task(response.chunk())
            await asyncio.sleep(0.01)
            response.close()
            with pytest.raises(Lost):
                await asyncio.wait_for(more, 5)

    asyncio.run(go())


def test_many_at_once_each_get_their_own_answer() -> None:
    """So many that requests wait for the end of a turn of the loop, and one after the other on a few connections."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            _, body = await request_of(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    async def go() -> None:
        async with between(script, most=20) as (upstream, server):

            async def call(number: int) -> None:
                response = await upstream.send(b"POST", b"/x", b"", b"%d" % number, seconds=20.0)
                assert await response.read(100) == b"%d" % number

            for _ in range(5):
                await asyncio.gather(*map(call, range(100)))
            assert server.connections <= 20

    asyncio.run(go())


def test_a_short_wait_is_kept_on_a_connection_that_has_waited_long() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(OK)
        await request_of(reader)
        await asyncio.sleep(0.3)
        writer.write(OK)
        await request_of(reader)
        await reader.read()

    async def go() -> None:
        async with between(script) as (upstream, server):
            for seconds in (60.0, 0.9):
                response = await upstream.send(b"POST", b"/x", b"", b"{}", seconds=seconds)
                assert await response.read(100) == b"ok"
            began = asyncio.get_running_loop().time()
            with pytest.raises(Lost, match=r"nothing came for 0\.2 s"):
                await upstream.send(b"POST", b"/x", b"", b"{}", seconds=0.2)
            assert 0.15 < asyncio.get_running_loop().time() - began < 5
            assert server.connections == 1

    asyncio.run(go())


def test_an_answer_that_is_larger_than_allowed_is_given_up() -> None:
    async def main() -> None:
        answer = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n" + b"x" * 100
        async with between(answering(answer)) as (upstream, _):
            with pytest.raises(Lost, match="larger"):
                await (await ask(upstream)).read(99)
            assert await (await ask(upstream)).read(100) == b"x" * 100

    asyncio.run(main())


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "nonsense"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Upstream(url)
