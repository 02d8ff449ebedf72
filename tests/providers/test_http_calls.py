"""Realtime calls over real sockets: kept connections, lost replies, and what must not leave or must not be said."""

import asyncio
import contextlib
import http.client
import itertools
import json
import re
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from halfrate.base.errors import HELD_UP, UNREACHABLE, OutcomeUnknown, Refused, UsageError
from halfrate.base.types import Endpoint
from halfrate.emulator import Emulator, Limits, Pace
from halfrate.providers import connections
from halfrate.providers import http as module
from halfrate.providers.answers import Answer
from halfrate.providers.anthropic import Anthropic
from halfrate.providers.base import Account, Blame, Call, CallRefused
from halfrate.providers.bedrock_wire import AwsHttp
from halfrate.providers.http import Http, Upload
from halfrate.providers.openai import OpenAI

from .wire import HANG_UP, RESET, Asked, reply, wire

_R = TypeVar("_R")
KEY = "sk-secret-0123456789"


async def post(http: Http, body: bytes = b"{}", timeout: float = 10.0, **more: Any) -> Answer:
    options: dict[str, Any] = {"headers": {}, "keep": (), "in_time": lambda: True, **more}
    return await http.call("/v1/x", body, timeout=timeout, **options)


def using(url: str, main: Callable[[Http], Awaitable[_R]]) -> _R:
    async def run() -> _R:
        client = Http(url, {"Authorization": f"Bearer {KEY}"}, "OpenAI")
        try:
            return await main(client)
        finally:
            await client.close()

    return asyncio.run(run())


def fine(asked: Asked) -> bytes:
    return reply(b'{"n":%d}' % asked.number)


# ---------------------------------------------------------------- connections


def test_calls_one_after_another_share_a_connection() -> None:
    async def main(http: Http) -> list[bytes]:
        return [(await post(http, b'{"call":%d}' % n)).body for n in range(5)]

    with wire(fine) as server:
        bodies = using(server.url, main)
    assert bodies == [b'{"n":%d}' % n for n in range(5)]
    assert (server.connections, len(server.asked)) == (1, 5)
    assert [asked.body for asked in server.asked] == [b'{"call":%d}' % n for n in range(5)]
    assert "Authorization: Bearer" in server.asked[0].head


def test_calls_at_the_same_time_have_a_connection_each_and_keep_them() -> None:
    together = threading.Barrier(8)

    def answer(asked: Asked) -> bytes:
        if asked.number < 8:
            together.wait(10)
        return fine(asked)

    async def main(http: Http) -> None:
        await asyncio.gather(*(post(http) for _ in range(8)))
        await asyncio.gather(*(post(http) for _ in range(8)))

    with wire(answer) as server:
        using(server.url, main)
    assert (server.connections, len(server.asked)) == (8, 16)


def test_a_connection_that_the_server_has_closed_is_not_trusted_with_a_call() -> None:
    async def main(http: Http) -> None:
        for _ in range(3):
            await post(http)
            server.hang_up()
            while not connections.spoke_up(http._idle._kept[0][0]):  # noqa: ASYNC110 - until its goodbye is here
                await asyncio.sleep(0.001)

    with wire(fine) as server:
        using(server.url, main)
    assert (server.connections, len(server.asked)) == (3, 3)


def test_a_connection_that_has_idled_for_long_is_not_trusted_either(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(connections.time, "monotonic", lambda: now[0])

    async def main(http: Http) -> None:
        await post(http)
        now[0] += 4
        await post(http)
        now[0] += 6
        await post(http)

    with wire(fine) as server:
        using(server.url, main)
    assert [asked.connection for asked in server.asked] == [1, 1, 2]


def test_connections_that_nobody_needs_any_more_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(connections.time, "monotonic", lambda: now[0])
    together = threading.Barrier(6)

    def answer(asked: Asked) -> bytes:
        if asked.number < 6:
            together.wait(10)
        return fine(asked)

    async def main(http: Http) -> list[int]:
        await asyncio.gather(*(post(http) for _ in range(6)))
        kept = [len(http._idle)]
        for _ in range(30):
            now[0] += 4
            await post(http)
            kept.append(len(http._idle))
        return kept

    with wire(answer) as server:
        kept = using(server.url, main)
    assert (kept[0], kept[-1]) == (6, 1)
    assert server.connections == 6


def test_an_answer_that_ends_the_connection_is_the_last_on_it() -> None:
    async def main(http: Http) -> None:
        for _ in range(2):
            await post(http)

    with wire(lambda _: reply(b"{}", Connection="close")) as server:
        using(server.url, main)
    assert server.connections == 2


def test_a_body_in_chunks_is_read_whole_and_its_connection_kept() -> None:
    chunked = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\n2\r\n1}\r\n0\r\n\r\n'

    async def main(http: Http) -> list[bytes]:
        return [(await post(http)).body for _ in range(2)]

    with wire(lambda _: chunked) as server:
        assert using(server.url, main) == [b'{"a":1}'] * 2
    assert server.connections == 1


# ---------------------------------------------------------------- endings


@pytest.mark.parametrize(
    "answer",
    [
        HANG_UP,
        RESET,
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"no HTTP at all\r\n\r\n",
    ],
)
def test_without_a_whole_answer_the_outcome_is_unknown(answer: bytes) -> None:
    def once(asked: Asked) -> bytes:
        return answer

    async def main(http: Http) -> None:
        with pytest.raises(OutcomeUnknown, match=r"may have been run, and billed") as lost:
            await post(http, timeout=0.5)
        assert KEY not in str(lost.value)

    with wire(once) as server:
        using(server.url, main)
    assert len(server.asked) == 1


def test_an_answer_that_takes_too_long_is_unknown_too() -> None:
    release = threading.Event()

    def late(asked: Asked) -> bytes:
        release.wait(10)
        return HANG_UP

    async def main(http: Http) -> None:
        with pytest.raises(OutcomeUnknown, match="timed out"):
            await post(http, timeout=0.2)
        release.set()

    with wire(late) as server:
        using(server.url, main)
    assert len(server.asked) == 1


def test_where_nobody_listens_nothing_was_asked() -> None:
    with wire(fine) as server:
        url = server.url

    async def main(http: Http) -> None:
        with pytest.raises(Refused) as refused:
            await post(http)
        assert (refused.value.code, refused.value.passing) == (UNREACHABLE, True)

    using(url, main)


def test_a_process_that_was_held_up_sends_nothing() -> None:
    async def main(http: Http) -> None:
        with pytest.raises(Refused) as refused:
            await post(http, in_time=lambda: False)
        assert refused.value.code == HELD_UP
        await post(http)

    with wire(fine) as server:
        using(server.url, main)
    assert len(server.asked) == 1


@pytest.mark.parametrize("ends_in", ["memory", "file", "tail"])
def test_a_process_that_is_held_up_while_it_sends_does_not_complete_what_it_began(
    tmp_path: Path, ends_in: str
) -> None:
    file = tmp_path / "rows"
    file.write_bytes(b"x" * 3_000_000)
    body = {
        "memory": b'{"input":"file-1"}',
        "file": Upload(b"", file, b"", "application/json"),
        "tail": Upload(b'{"requests":[', file, b"]}", "application/json"),
    }[ends_in]

    async def main(http: Http) -> None:
        still = iter([True, False])
        with pytest.raises(Refused) as refused:
            await http.send("POST", "/v1/batches", body=body, timeout=10.0, in_time=lambda: next(still))
        assert refused.value.code == HELD_UP
        # Whatever it had sent has been read.
        assert await asyncio.to_thread(server.closed.wait, 10)
        await post(http)

    with wire(fine) as server:
        using(server.url, main)
    # Its first bytes have arrived there; without the last one they are no request.
    assert server.connections == 2
    assert [asked.body for asked in server.asked] == [b"{}"]


def test_a_cancelled_call_hangs_up_at_once() -> None:
    arrived, release = threading.Event(), threading.Event()

    def never(asked: Asked) -> bytes:
        arrived.set()
        release.wait(30)
        return fine(asked)

    async def main(http: Http) -> None:
        task = asyncio.create_task(post(http, timeout=600))
        await asyncio.to_thread(arrived.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # `close` waits for the threads: it comes back because the connection was ended under theirs.

    with wire(never) as server:
        using(server.url, main)
        release.set()
    assert len(server.asked) == 1


def test_a_call_that_is_cancelled_before_its_turn_is_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CALLS", 1)
    arrived, release = threading.Event(), threading.Event()

    def slow(asked: Asked) -> bytes:
        arrived.set()
        release.wait(10)
        return fine(asked)

    async def main(http: Http) -> None:
        first = asyncio.create_task(post(http))
        await asyncio.to_thread(arrived.wait, 10)
        second = asyncio.create_task(post(http))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        release.set()
        await first

    with wire(slow) as server:
        using(server.url, main)
    assert len(server.asked) == 1


# ---------------------------------------------------------------- what is said


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "7"}, 7.0),
        ({"Retry_After": "0.5"}, 0.5),
        ({"Retry_After": "2", "Retry_After_Ms": "1500"}, 1.5),
        ({"Retry_After": "Fri, 20 Nov 2026 10:00:30 GMT", "Date": "Fri, 20 Nov 2026 10:00:00 GMT"}, 30.0),
        ({"Retry_After": "Fri, 20 Nov 2026 10:00:30 GMT"}, None),
        ({"Retry_After": "soon"}, None),
        ({"Retry_After": "nan"}, None),
        ({"Retry_After": "inf"}, None),
        ({"Retry_After": "-3"}, 0.0),
        ({}, None),
    ],
)
def test_when_to_come_back(headers: dict[str, str], seconds: float | None) -> None:
    async def main(http: Http) -> float | None:
        return (await post(http)).retry_after

    with wire(lambda _: reply(b"{}", "429 Too Many Requests", **headers)) as server:
        assert using(server.url, main) == seconds


def test_the_headers_that_were_asked_for_come_back() -> None:
    async def main(http: Http) -> Answer:
        return await post(http, keep=("x-left", "x-none"), headers={"X-Mine": "hr-1"})

    with wire(lambda _: reply(b"{}", X_Left="4", X_Other="5", X_Request_Id="req_1")) as server:
        found = using(server.url, main)
    assert (found.headers, found.request_id, found.status) == ({"x-left": "4"}, "req_1", 200)
    assert "X-Mine: hr-1" in server.asked[0].head


def test_a_key_that_an_error_repeats_is_masked() -> None:
    def answer(asked: Asked) -> bytes:
        body = (
            b'{"error":{"message":"Incorrect API key provided: %b.","code":"invalid_api_key"}}' % KEY.encode()
        )
        return reply(body, "401 Unauthorized")

    with wire(answer) as server:
        adapter = OpenAI(Account(provider="openai", base_url=f"{server.url}/v1", key=KEY))

        async def main() -> CallRefused:
            call = Call(endpoint="chat", row_id="hr-a-0-1-0", body=b'{"model":"m"}')
            with pytest.raises(CallRefused) as refused:
                await adapter.call(call)
            await adapter.close()
            return refused.value

        found = asyncio.run(main())
    assert found.blame == Blame.ACCOUNT
    assert "[key]" in str(found)
    assert KEY not in str(found)
    assert KEY.encode() not in found.line


@pytest.mark.parametrize(
    "header", ["Authorization", "x-api-key", "api-key", "x-goog-api-key", "X-Amz-Security-Token"]
)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("kind", [Http, AwsHttp])
def test_whatever_key_goes_with_a_call_is_masked_in_an_error(
    kind: type[Http], header: str, *, signed: bool
) -> None:
    """The account's own, and those that calls are signed with, each for itself."""
    tokens = (f"token-{number}-0123456789" for number in itertools.count())

    def bearing(token: str) -> dict[str, str]:
        return {header: f"Bearer {token}" if header == "Authorization" else token}

    def answer(asked: Asked) -> bytes:
        borne = re.search(rf"(?i)^{header}: (?:Bearer )?(\S+)", asked.head, re.MULTILINE)
        assert borne
        message = f"not with {borne[1]}, whatever {borne[1]} is"
        return reply(
            json.dumps({"error": {"message": message}, "message": message}).encode(), "403 Forbidden"
        )

    async def main() -> list[str]:
        fixed = {} if signed else bearing(next(tokens))

        def sign(_method: str, _url: str, _body: bytes | None) -> dict[str, str]:
            return bearing(next(tokens))

        http = kind(server.url, fixed, "OpenAI", sign=sign if signed else None)
        said: list[str] = []
        for _ in range(2):
            with pytest.raises(Refused) as refused:
                await http.send("GET", "/v1/x")
            said.append(str(refused.value))
        said.append((await post(http)).body.decode())
        await http.close()
        return said

    with wire(answer) as server:
        said = asyncio.run(main())
    for text in said:
        assert "not with [key], whatever [key] is" in text
        assert "0123456789" not in text


def test_calls_go_through_a_proxy_as_all_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)

    async def main(http: Http) -> bytes:
        return (await post(http)).body

    with wire(fine) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert using("http://provider.invalid/base", main) == b'{"n":0}'
    assert proxy.asked[0].head.startswith("POST http://provider.invalid/base/v1/x HTTP/1.1")


# ---------------------------------------------------------------- the adapters and the emulator


def test_both_adapters_call_the_emulator() -> None:
    with Emulator(pace=Pace.instant(), limits=Limits(openai_requests_per_minute=600)) as emulator:
        with emulator.running() as url:
            openai = OpenAI(Account(provider="openai", base_url=emulator.openai_base_url(url), key="k"))
            anthropic = Anthropic(
                Account(provider="anthropic", base_url=emulator.anthropic_base_url(url), key="k")
            )
            body = b'{"model":"gpt-5-mini","messages":[{"role":"user","content":"hi"}]}'
            claude = (
                b'{"model":"claude-haiku-4-5","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}'
            )

            async def main() -> None:
                call = Call(endpoint="chat", row_id="hr-a-0-1-3", body=body, tier="flex")
                flex = await openai.call(call)
                assert (flex.tier, flex.windows[0].remaining) == ("flex", 599)
                answered = openai.line_reader("chat", "hr-a-0-1-").general(flex.line)
                assert (answered.row, answered.model) == (3, "gpt-5-mini-2025-08-07")
                asked = b'{"model":"gpt-5-mini","input":"hi"}'
                whole = await openai.call(Call(endpoint="responses", row_id="hr-a-0-1-4", body=asked))
                assert openai.line_reader("responses", "hr-a-0-1-").general(whole.line).row == 4
                asked = b'{"model":"text-embedding-3-small","input":"hi"}'
                vector = await openai.call(Call(endpoint="embeddings", row_id="hr-a-0-1-5", body=asked))
                assert openai.line_reader("embeddings", "hr-a-0-1-").general(vector.line).row == 5
                spoken = await anthropic.call(Call(endpoint="messages", row_id="hr-a-0-1-6", body=claude))
                assert anthropic.line_reader("messages", "hr-a-0-1-").general(spoken.line).row == 6
                with pytest.raises(CallRefused) as refused:
                    await openai.call(Call(endpoint="chat", row_id="hr-a-0-1-7", body=b'{"model":"none"}'))
                assert (refused.value.blame, refused.value.status) == (Blame.ROW, 404)
                await openai.close()
                await anthropic.close()

            asyncio.run(main())
        meter = emulator.meter.snapshot(ids=True)
    assert meter["rows_by_tier"] == {"flex": 1, "standard": 3}
    # The id goes along where there is a header for it.
    assert meter["billed_by_batch"] == {"": {"hr-a-0-1-3": 1, "hr-a-0-1-4": 1, "hr-a-0-1-5": 1, "": 1}}


def test_what_is_not_sent_at_all() -> None:
    with wire(fine) as server:
        openai = OpenAI(Account(provider="openai", base_url=server.url, key=KEY))
        anthropic = Anthropic(Account(provider="anthropic", base_url=server.url, key=KEY))

        async def main() -> None:
            both: list[tuple[OpenAI | Anthropic, Endpoint]] = [(openai, "chat"), (anthropic, "messages")]
            for adapter, endpoint in both:
                stream = Call(endpoint=endpoint, row_id="hr-a-0-1-0", body=b'{"stream":true}')
                with pytest.raises(CallRefused, match="Streaming is not supported") as refused:
                    await adapter.call(stream)
                row = adapter.line_reader(endpoint, "hr-a-0-1-").general(refused.value.line)
                assert (row.row, "Streaming" in (row.error or "")) == (0, True)
            with pytest.raises(UsageError):
                await openai.call(Call(endpoint="embeddings", row_id="hr-a-0-1-0", body=b"{}", tier="flex"))
            with pytest.raises(UsageError):
                await anthropic.call(Call(endpoint="messages", row_id="hr-a-0-1-0", body=b"{}", tier="flex"))
            await openai.close()
            await anthropic.close()

        asyncio.run(main())
    assert server.asked == []


def test_many_slow_calls_at_once() -> None:
    """As many as the pacer ever lets out, all waiting for their answers at the same time."""
    count = 200
    together = threading.Barrier(count)

    def slow(asked: Asked) -> bytes:
        together.wait(30)
        return fine(asked)

    async def main(http: Http) -> int:
        answers = await asyncio.gather(*(post(http, timeout=60) for _ in range(count)))
        return len({found.body for found in answers})

    with wire(slow) as server:
        assert using(server.url, main) == count
    assert server.connections == count


def test_the_emulators_lost_and_cut_replies_leave_the_outcome_open() -> None:
    body = b'{"model":"gpt-5-mini","messages":[{"role":"user","content":"hi"}]}'
    faults = ["realtime-lost:times=1", "realtime-cut:times=2"]
    with Emulator(pace=Pace.instant(), faults=faults) as emulator, emulator.running() as url:
        adapter = OpenAI(Account(provider="openai", base_url=emulator.openai_base_url(url), key="k"))

        async def main() -> list[str]:
            found: list[str] = []
            for n in range(3):
                call = Call(endpoint="chat", row_id=f"hr-a-0-1-{n}", body=body)
                with contextlib.suppress(OutcomeUnknown):
                    found.append((await adapter.call(call)).tier)
            await adapter.close()
            return found

        assert asyncio.run(main()) == ["standard"]
        assert emulator.meter.snapshot()["realtime_billed"] == 3


def test_the_kernel_watches_over_idle_connections() -> None:
    import socket

    async def main(http: Http) -> http.client.HTTPConnection:
        await post(http)
        connection, _ = http._idle._kept[0]
        assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        return connection

    with wire(fine) as server:
        assert isinstance(using(server.url, main), http.client.HTTPConnection)
