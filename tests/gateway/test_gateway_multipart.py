"""Forms, however they are cut into chunks."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from halfrate.base.errors import StorageError
from halfrate.blobs.shelves import Incoming
from halfrate.gateway.errors import ApiError
from halfrate.gateway.multipart import FIELD_BYTES, clean_name, read_form
from halfrate.gateway.threads import in_thread

from .office import form, form_part

BOUNDARY = "a-b"
# What the bytes of a file have most in common with what ends them.
NASTY = [
    b"\r",
    b"\n",
    b"-",
    b"--",
    b"\r\n",
    b"\r\n--",
    b"\r\n--a",
    b"\r\n--a-",
    b"\r\n--a-c",
    b"a-b",
    b"--a-b",
    b"\0",
]


def request(chunks: Iterable[bytes], *, ends: bool = True, boundary: str = BOUNDARY) -> Request:
    """A call whose body comes in these chunks. Without its end whoever called hangs up."""

    async def messages() -> AsyncIterator[Message]:
        for chunk in chunks:
            yield {"type": "http.request", "body": chunk, "more_body": True}
        yield {"type": "http.request", "body": b""} if ends else {"type": "http.disconnect"}

    coming = messages()
    content_type = f'multipart/form-data; boundary="{boundary}"'.encode()
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-type", content_type)]}
    return Request(scope, coming.__anext__)


def cut(body: bytes, sizes: Iterable[int]) -> Iterable[bytes]:
    """A body in chunks of these sizes, and the rest of it."""
    at = 0
    for size in sizes:
        yield body[at : at + size]
        at += size
    yield body[at:]


def read(
    folder: Path, chunks: Iterable[bytes], limit: int = 1 << 30, *, ends: bool = True
) -> tuple[dict[str, str], str, bytes | None]:
    """A form's fields, its file's name, and what is in the file, None without one."""

    async def run() -> tuple[dict[str, str], str, bytes | None]:
        form = await read_form(request(chunks, ends=ends), "file", lambda: Incoming(folder), limit)
        content = None if form.incoming is None else form.incoming.path.read_bytes()
        assert form.incoming is None or form.incoming.size == len(content or b"")
        await form.close()
        return form.fields, form.filename, content

    try:
        return asyncio.run(run())
    finally:
        assert list(folder.iterdir()) == []


contents = st.one_of(
    st.binary(max_size=300), st.lists(st.sampled_from(NASTY), max_size=60).map(b"".join)
).filter(lambda content: f"\r\n--{BOUNDARY}".encode() not in b"\r\n" + content)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=contents,
    field=st.text(max_size=50).filter(lambda text: f"--{BOUNDARY}" not in text),
    first=st.booleans(),
    sizes=st.one_of(
        st.just([1] * 2_000),
        st.lists(st.integers(0, 90), max_size=40),
        st.lists(st.integers(0, 3), max_size=400),
    ),
    epilogue=st.binary(max_size=20),
)
def test_any_bytes_in_any_chunks_come_out_as_they_went_in(
    tmp_path: Path, content: bytes, field: str, first: bool, sizes: list[int], epilogue: bytes
) -> None:
    parts = [
        form_part("file", content, '; filename="rows.jsonl"', BOUNDARY),
        form_part("purpose", field.encode(), "", BOUNDARY),
    ]
    body = form(*(parts if first else parts[::-1]), boundary=BOUNDARY) + epilogue
    assert read(tmp_path, cut(body, sizes)) == ({"purpose": field}, "rows.jsonl", content)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.sampled_from(
                [
                    *NASTY,
                    b"--a-b\r\n",
                    b"\r\n--a-b\r\n",
                    b"\r\n--a-b--",
                    b"\r\n\r\n",
                    b'content-disposition: form-data; name="file"',
                    b'content-disposition: form-data; name="x"; filename="../y"\r\n',
                ]
            ),
        ),
        max_size=30,
    ).map(b"".join),
    sizes=st.lists(st.integers(0, 60), max_size=30),
    ends=st.booleans(),
)
def test_whatever_is_sent_is_read_or_refused_and_leaves_nothing(
    tmp_path: Path, body: bytes, sizes: list[int], ends: bool
) -> None:
    # `read` looks at what is left.
    with suppress(ApiError) if ends else suppress(ApiError, ClientDisconnect):
        read(tmp_path, cut(body, sizes), 100, ends=ends)


@pytest.mark.parametrize("size", [1_000, 65_536, 1 << 20, 5 << 20])
def test_a_file_of_many_blocks_is_written_in_order(tmp_path: Path, size: int) -> None:
    content = b"".join(b"%07d\r\n" % n for n in range(400_000))
    body = form(form_part("file", content, "", BOUNDARY), boundary=BOUNDARY)
    fields, name, found = read(tmp_path, cut(body, [size] * (len(body) // size)))
    assert (fields, name) == ({}, "upload")
    assert found == content


def test_a_file_may_be_as_large_as_the_limit_and_a_field_as_its_own(tmp_path: Path) -> None:
    def body(size: int, field: int) -> Iterable[bytes]:
        parts = [
            form_part("purpose", b"x" * field, "", BOUNDARY),
            form_part("file", bytes(size), "", BOUNDARY),
        ]
        return cut(form(*parts, boundary=BOUNDARY), [777] * 10_000)

    fields, _, content = read(tmp_path, body(5_000, FIELD_BYTES), 5_000)
    assert (len(fields["purpose"]), content) == (FIELD_BYTES, bytes(5_000))
    with pytest.raises(ApiError) as refused:
        read(tmp_path, body(5_001, 1), 5_000)
    assert refused.value.status == 413
    with pytest.raises(ApiError) as refused:
        read(tmp_path, body(5_000, FIELD_BYTES + 1), 5_000)
    assert (refused.value.status, refused.value.param) == (400, "purpose")


def test_nothing_more_is_read_of_a_file_that_is_too_large(tmp_path: Path) -> None:
    asked = 0

    def chunks() -> Iterable[bytes]:
        nonlocal asked
        yield form_part("file", b"", "", BOUNDARY)[:-2]
        while True:
            asked += 1
            yield bytes(1_000)

    with pytest.raises(ApiError) as refused:
        read(tmp_path, chunks(), 10_000)
    assert refused.value.status == 413
    assert asked == 11


def test_a_disk_that_fails_leaves_nothing(tmp_path: Path) -> None:
    class Full(Incoming):
        def write(self, data: "bytes | bytearray | memoryview") -> None:
            super().write(data[:10])
            raise StorageError("full")

    async def run() -> None:
        body = form(form_part("file", bytes(3 << 20), "", BOUNDARY), boundary=BOUNDARY)
        await read_form(request(cut(body, [65_536] * 60)), "file", lambda: Full(tmp_path), 1 << 30)

    with pytest.raises(StorageError, match="full"):
        asyncio.run(run())
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_is_cancelled_closes_its_file_after_the_write_has_ended(tmp_path: Path) -> None:
    began, go_on = threading.Event(), threading.Event()
    order: list[str] = []

    class Slow(Incoming):
        def write(self, data: "bytes | bytearray | memoryview") -> None:
            began.set()
            assert go_on.wait(20)
            super().write(data)
            order.append("written")

        def close(self) -> None:
            order.append("closed")
            super().close()

    async def run() -> None:
        body = form_part("file", bytes(3 << 20), "", BOUNDARY)
        reading = asyncio.create_task(read_form(request([body]), "file", lambda: Slow(tmp_path), 1 << 30))
        assert await asyncio.to_thread(began.wait, 20)
        reading.cancel()
        asyncio.get_running_loop().call_later(0.1, go_on.set)
        with pytest.raises(asyncio.CancelledError):
            await reading

    asyncio.run(run())
    assert order == ["written", "closed"]
    assert list(tmp_path.iterdir()) == []


def test_what_a_thread_gives_or_raises_comes_back() -> None:
    async def run() -> None:
        assert await in_thread(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await in_thread(divmod, 7, 0)

    asyncio.run(run())


@given(st.text())
def test_a_clean_name_is_short_can_be_seen_and_leads_nowhere(name: str) -> None:
    shown = clean_name(name)
    assert shown
    assert len(shown) <= 255
    assert shown.isprintable()
    assert shown not in {".", ".."}
    assert "/" not in shown
    assert "\\" not in shown
    assert clean_name(shown) == shown
