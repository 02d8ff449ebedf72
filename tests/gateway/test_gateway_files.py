"""OpenAI's files, as the official client and as raw calls see them."""

import asyncio
import hashlib
import http.client
import io
import random
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest

from halfrate.core.surface import StoredFile

from .office import PATIENCE, Office, file_form, form, form_part, wait_for

ROWS = b'{"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": {}}\n' * 3
MONTH = 30 * 86_400


# ---------------------------------------------------------------- the official client


def test_a_file_is_kept_as_it_was_sent_and_described_as_openai_does(office: Office) -> None:
    with office.client() as client:
        made = client.files.create(file=("rows.jsonl", ROWS), purpose="batch")
        assert re.fullmatch("file-[0-9a-z]{24}", made.id)
        assert abs(made.created_at - time.time()) < 60
        assert made.model_dump() == {
            "id": made.id,
            "object": "file",
            "bytes": len(ROWS),
            "created_at": made.created_at,
            "expires_at": made.created_at + MONTH,
            "filename": "rows.jsonl",
            "purpose": "batch",
            "status": "processed",
            "status_details": None,
        }
        assert client.files.retrieve(made.id) == made
        assert client.files.content(made.id).read() == ROWS
        assert [file.name for file in office.kept()] == [made.id]
        assert office.arriving() == []


def test_bytes_open_files_and_paths_can_be_sent(office: Office, tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    path.write_bytes(ROWS)
    with office.client() as client:
        assert client.files.create(file=ROWS, purpose="batch").filename == "upload"
        assert client.files.create(file=io.BytesIO(ROWS), purpose="batch").bytes == len(ROWS)
        assert client.files.create(file=path, purpose="batch").filename == "table.jsonl"
        with path.open("rb") as opened:
            made = client.files.create(file=opened, purpose="batch")
        assert made.filename == "table.jsonl"
        assert {client.files.content(file.id).read() for file in client.files.list()} == {ROWS}


def test_every_byte_comes_back(office: Office) -> None:
    content = random.Random(1).randbytes(3_333_333) + b"\r\n--line--\r\n\0\xff" + bytes(range(256))
    with office.client() as client:
        made = client.files.create(file=("bytes.jsonl", content), purpose="batch")
        assert made.bytes == len(content)
        answer = client.files.content(made.id)
        assert answer.read() == content
        assert answer.response.headers["content-length"] == str(len(content))
        assert answer.response.headers["content-type"] == "application/octet-stream"
        empty = client.files.create(file=("empty.jsonl", b""), purpose="batch")
        assert client.files.content(empty.id).read() == b""


def test_a_list_goes_page_by_page_in_both_orders(office: Office) -> None:
    with office.client() as client:
        made = [client.files.create(file=(f"{n}.jsonl", ROWS), purpose="batch").id for n in range(5)]
        assert [file.id for file in client.files.list()] == made[::-1]
        assert [file.id for file in client.files.list(order="asc", limit=2)] == made
        page = client.files.list(limit=2, after=made[3])
        assert [file.id for file in page.data] == [made[2], made[1]]
        assert page.has_next_page()
        last = page.get_next_page()
        assert [file.id for file in last.data] == [made[0]]
        assert not last.has_next_page()
    document = office.call("GET", "/v1/files?limit=2").document
    assert document["object"] == "list"
    assert (document["first_id"], document["last_id"], document["has_more"]) == (made[4], made[3], True)


def test_what_batches_made_is_listed_by_its_purpose(office: Office) -> None:
    output = StoredFile(
        id="file-output",
        team="search",
        filename="output.jsonl",
        purpose="batch_output",
        bytes=3,
        created_at=time.time(),
    )
    office.service.surfaces.add_file(output)
    office.shelf.places.file(output.id).write_bytes(b"abc")
    with office.client() as client:
        mine = client.files.create(file=ROWS, purpose="batch")
        assert {file.id for file in client.files.list()} == {mine.id, output.id}
        (found,) = client.files.list(purpose="batch_output")
        assert (found.id, found.expires_at, found.purpose) == (output.id, None, "batch_output")
        assert [file.id for file in client.files.list(purpose="batch")] == [mine.id]
        assert client.files.list(purpose="fine-tune").data == []
        assert client.files.content(output.id).read() == b"abc"


def test_a_life_can_be_given_from_an_hour_to_a_month(office: Office) -> None:
    with office.client() as client:
        for seconds in (3_600, MONTH):
            life = {"anchor": "created_at", "seconds": seconds}
            made = client.files.create(file=ROWS, purpose="batch", expires_after=life)  # type: ignore[arg-type]
            assert made.expires_at == made.created_at + seconds
        for life, field in [
            ({"anchor": "created_at", "seconds": 3_599}, "expires_after.seconds"),
            ({"anchor": "created_at", "seconds": MONTH + 1}, "expires_after.seconds"),
            ({"anchor": "created_at", "seconds": "1e5"}, "expires_after.seconds"),
            ({"anchor": "created_at"}, "expires_after.seconds"),
            ({"anchor": "now", "seconds": 7_200}, "expires_after.anchor"),
            ({"seconds": 7_200}, "expires_after.anchor"),
        ]:
            with pytest.raises(openai.BadRequestError) as refused:
                client.files.create(file=ROWS, purpose="batch", expires_after=life)  # type: ignore[arg-type]
            assert refused.value.param == field
    assert len(office.kept()) == 2
    assert office.arriving() == []


def test_a_life_may_be_spelled_with_dots(office: Office) -> None:
    body = form(
        form_part("file", ROWS, '; filename="a.jsonl"'),
        form_part("expires_after.anchor", b"created_at"),
        form_part("expires_after.seconds", b"7200"),
        form_part("purpose", b"batch"),
    )
    made = office.post_form("/v1/files", body).document
    assert made["expires_at"] == made["created_at"] + 7_200


def test_a_deleted_file_is_gone(office: Office) -> None:
    with office.client() as client:
        made = client.files.create(file=ROWS, purpose="batch")
        assert client.files.delete(made.id).model_dump() == {
            "id": made.id,
            "object": "file",
            "deleted": True,
        }
        for call in (client.files.retrieve, client.files.content, client.files.delete):
            with pytest.raises(openai.NotFoundError, match=f"No such File object: {made.id}"):
                call(made.id)
        assert client.files.list().data == []
    assert office.kept() == []


def test_files_are_for_batches_alone(office: Office) -> None:
    with office.client() as client:
        for purpose in ("assistants", "fine-tune", "batch_output", "user_data"):
            with pytest.raises(openai.BadRequestError, match="for batches alone") as refused:
                client.files.create(file=ROWS, purpose=purpose)  # type: ignore[arg-type]
            assert refused.value.param == "purpose"
    assert office.kept() == office.arriving() == []


def test_another_team_sees_nothing_of_it(office: Office) -> None:
    with office.client() as client, office.client(office.other_key) as other:
        made = client.files.create(file=ROWS, purpose="batch")
        assert other.files.list().data == []
        for call in (other.files.retrieve, other.files.content, other.files.delete):
            with pytest.raises(openai.NotFoundError) as refused:
                call(made.id)
            assert refused.value.param == "id"
        with pytest.raises(openai.BadRequestError) as refused:
            other.files.list(after=made.id)
        assert refused.value.param == "after"
        assert client.files.content(made.id).read() == ROWS


def test_the_asynchronous_client_does_the_same(office: Office) -> None:
    async def run() -> None:
        async with office.async_client() as client, office.async_client(office.other_key) as other:
            content = [ROWS * (n + 1) for n in range(8)]
            made = await asyncio.gather(
                *(client.files.create(file=(f"{len(one)}.jsonl", one), purpose="batch") for one in content)
            )
            read = await asyncio.gather(*(client.files.content(file.id) for file in made))
            assert [answer.read() for answer in read] == content
            listed = {file.id async for file in client.files.list(limit=3)}
            assert listed == {file.id for file in made}
            assert (await client.files.retrieve(made[0].id)).filename == f"{len(ROWS)}.jsonl"
            with pytest.raises(openai.NotFoundError):
                await other.files.retrieve(made[0].id)
            assert (await client.files.delete(made[0].id)).deleted

    asyncio.run(run())


# ---------------------------------------------------------------- calls as they are written


def test_no_key_and_a_wrong_key_are_turned_away(office: Office) -> None:
    wrong = office.key[:-1] + ("x" if office.key[-1] != "x" else "y")
    for key in ("", wrong, "sk-123"):
        for method, path in [("GET", "/v1/files"), ("POST", "/v1/files"), ("DELETE", "/v1/files/file-1")]:
            answer = office.call(method, path, key=key)
            assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
            assert key == "" or key not in answer.body.decode()


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("limit=many", "limit"),
        ("order=up", "order"),
        ("order=", "order"),
        ("after=file-none", "after"),
        ("after=%00", "after"),
    ],
)
def test_a_list_refuses_what_it_does_not_know(office: Office, query: str, field: str) -> None:
    answer = office.call("GET", f"/v1/files?{query}")
    assert (answer.status, answer.error["param"]) == (400, field)


@pytest.mark.parametrize(
    "path", ["..%2f", "..%2F..%2Fhalfrate.db", "%2e%2e", "%00", "file-%C3%A4", "%ff", "a" * 900]
)
def test_an_id_is_looked_up_and_never_a_path(office: Office, path: str) -> None:
    for method, rest in [("GET", ""), ("DELETE", ""), ("GET", "/content")]:
        answer = office.call(method, f"/v1/files/{path}{rest}")
        assert answer.status == 404, answer
        assert answer.error["type"] == "invalid_request_error"
    assert (office.root / "halfrate.db").exists()


def test_a_file_that_is_announced_as_too_large_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    with (
        Office(tmp_path, file_bytes=100_000) as office,
        office.begin_post("/v1/files", 600 << 20) as connection,
    ):
        assert connection.recv(1_000).startswith(b"HTTP/1.1 413")


def test_a_file_that_grows_too_large_is_refused_before_the_rest_is_sent(tmp_path: Path) -> None:
    with Office(tmp_path, file_bytes=100_000) as office:
        sent = file_form(bytes(100_001))[:-12]
        with office.begin_post("/v1/files", len(sent) + 1_000_000) as connection:
            connection.sendall(sent)
            assert connection.recv(1_000).startswith(b"HTTP/1.1 413")
            assert office.arriving() == office.kept() == []
        answer = office.post_form("/v1/files", file_form(bytes(100_001)))
        assert (answer.status, answer.error["code"]) == (413, "request_too_large")
        with office.client() as client:
            with pytest.raises(openai.APIStatusError) as refused:
                client.files.create(file=bytes(3_000_000), purpose="batch")
            assert refused.value.status_code == 413
            assert client.files.create(file=bytes(100_000), purpose="batch").bytes == 100_000
        assert office.arriving() == []


def test_a_body_that_never_comes_to_its_first_part_is_refused_in_time(tmp_path: Path) -> None:
    with Office(tmp_path, file_bytes=100_000) as office:
        connection = http.client.HTTPConnection("127.0.0.1", office.port, timeout=PATIENCE)
        connection.putrequest("POST", "/v1/files")
        for name, value in office.authorization().items():
            connection.putheader(name, value)
        connection.putheader("content-type", "multipart/form-data; boundary=line")
        connection.putheader("transfer-encoding", "chunked")
        connection.endheaders()
        piece = b"\r\n" * 50_000
        # Line breaks before the first boundary belong to no part.
        for _ in range(90):
            connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        assert connection.getresponse().status == 413
        connection.close()
        assert office.arriving() == []


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        (form(form_part("file", ROWS, '; filename="a"')), "purpose", "missing_required_parameter"),
        (file_form(ROWS, purpose=""), "purpose", "missing_required_parameter"),
        (file_form(ROWS, purpose="evals"), "purpose", "invalid_value"),
        (form(form_part("purpose", b"batch")), "file", "missing_required_parameter"),
        (
            form(form_part("file", b"1", '; filename="a"'), form_part("file", b"2", '; filename="b"')),
            "file",
            "invalid_value",
        ),
        (form(form_part("document", bytes(70_000), '; filename="a"')), "document", "invalid_value"),
        (form(form_part("purpose", b"batch" * 20_000)), "purpose", "invalid_value"),
        (form(form_part("purpose", b"\xff")), "purpose", "invalid_value"),
        (form(*[form_part(f"f{n}", b"") for n in range(40)]), None, "invalid_form"),
        (file_form(ROWS)[:-12], None, "invalid_form"),
        (file_form(ROWS)[:40], None, "invalid_form"),
        (b"", None, "invalid_form"),
        (b"purpose=batch", None, "invalid_form"),
        (b"--other\r\n\r\n--other--\r\n", None, "invalid_form"),
        (form(b"--line\r\n\r\nno name\r\n"), None, "invalid_form"),
        (form(b"--line\r\ncontent-disposition: form-data\r\n\r\n1\r\n"), None, "invalid_form"),
        (form(b'--line\r\ncontent-disposition: attachment; name="file"\r\n\r\n1\r\n'), None, "invalid_form"),
        (form(b"--line\r\nbad name\x01: 1\r\n\r\n1\r\n"), None, "invalid_form"),
        (form(b"--line\r\n" + b"x: y\r\n" * 100 + b"\r\n1\r\n"), None, "invalid_form"),
        (form(form_part("file", b"1", f'; filename="{"n" * 5_000}"')), None, "invalid_form"),
    ],
)
def test_a_form_that_is_not_as_it_should_be_is_refused_and_leaves_nothing(
    office: Office, body: bytes, field: str | None, code: str
) -> None:
    answer = office.post_form("/v1/files", body)
    assert (answer.status, answer.error["param"], answer.error["code"]) == (400, field, code)
    assert answer.error["message"]
    assert office.arriving() == office.kept() == []


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/mixed; boundary=line",
        f"multipart/form-data; boundary={'b' * 500}",
    ],
)
def test_what_is_no_form_is_refused(office: Office, content_type: str) -> None:
    answer = office.call("POST", "/v1/files", file_form(ROWS), {"content-type": content_type})
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    assert office.arriving() == []


def test_a_body_that_breaks_off_leaves_nothing(office: Office) -> None:
    body = file_form(bytes(3 << 20))
    with office.begin_post("/v1/files", 10 << 20) as connection:
        connection.sendall(body[: 2 << 20])
        wait_for(lambda: [path for path in office.arriving() if path.stat().st_size])
    wait_for(lambda: not office.arriving())
    assert office.kept() == []
    with office.client() as client:
        assert client.files.list().data == []


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        (r"C:\\Users\\me\\rows.jsonl", "rows.jsonl"),
        ("..", "upload"),
        ("", "upload"),
        ("a/", "upload"),
        (r"say \"hi\".jsonl", 'say "hi".jsonl'),
        ("a%0D%0Ax-evil: 1.jsonl", "a%0D%0Ax-evil: 1.jsonl"),
        ("%2e%2e%2fa.jsonl", "%2e%2e%2fa.jsonl"),
        ("a\0b\x1b[31m\x7f\u202e\u2028.jsonl", "ab[31m.jsonl"),
        ("Übersicht für 東京 🚀.jsonl", "Übersicht für 東京 🚀.jsonl"),
        ("n" * 400, "n" * 255),
    ],
)
def test_a_files_name_is_data_and_nothing_else(office: Office, sent: str, shown: str) -> None:
    made = office.post_form("/v1/files", file_form(ROWS, sent)).document
    assert made["filename"] == shown
    (kept,) = office.kept()
    assert kept.name == made["id"]
    answer = office.call("GET", f"/v1/files/{made['id']}/content")
    assert answer.body == ROWS
    assert "x-evil" not in answer.headers


def test_names_as_the_official_client_writes_them_do_no_harm(office: Office) -> None:
    with office.client() as client:
        for name in ('a"; filename="b.jsonl', "a\r\nx-evil: 1\r\n\r\nb.jsonl", "../a.jsonl", "日本.jsonl"):
            made = client.files.create(file=(name, ROWS), purpose="batch")
            assert "/" not in made.filename
            assert made.filename.isprintable()
            assert client.files.content(made.id).read() == ROWS


def test_a_file_that_is_deleted_while_it_is_read_is_read_to_its_end(office: Office) -> None:
    # More than the buffers of a connection hold, so that most of it is still to be read when it goes.
    content = random.Random(2).randbytes(30 << 20)
    with office.client() as client:
        made = client.files.create(file=content, purpose="batch")
        with client.files.with_streaming_response.content(made.id) as answer:
            pieces = answer.iter_bytes(65_536)
            read = bytearray(next(pieces))
            client.files.delete(made.id)
            assert office.kept() == []
            for piece in pieces:
                read += piece
    assert read == content


def test_whoever_hangs_up_in_a_download_leaves_no_file_open(office: Office) -> None:
    with office.client() as client:
        made = client.files.create(file=bytes(30 << 20), purpose="batch")
        path = office.shelf.places.file(made.id)
        for _ in range(3):
            connection = http.client.HTTPConnection("127.0.0.1", office.port, timeout=PATIENCE)
            connection.request("GET", f"/v1/files/{made.id}/content", headers=office.authorization())
            answer = connection.getresponse()
            answer.read(100_000)
            assert open_handles(path) == 1
            answer.close()
            connection.close()
            wait_for(lambda: open_handles(path) == 0)


def test_memory_stays_as_it_is_whatever_a_file_holds(office: Office) -> None:
    """40 MB up and down. Server and client are this one process, and the client holds a block at a time: what is
    measured is the anonymous memory of both."""
    block = random.Random(3).randbytes(1 << 16)
    head, tail = file_form(b"|").split(b"|")
    length = len(head) + 640 * len(block) + len(tail)
    seen: list[int] = []

    def body() -> Iterator[bytes]:
        yield head
        for _ in range(640):
            seen.append(anonymous_bytes())
            yield block
        yield tail

    # What a first call takes for good, such as threads, is not what a file takes.
    assert office.post_form("/v1/files", file_form(bytes(3 << 20))).status == 200
    before = anonymous_bytes()
    headers = {"content-type": "multipart/form-data; boundary=line", "content-length": str(length)}
    made: dict[str, Any] = office.call("POST", "/v1/files", body(), headers).document
    assert made["bytes"] == 640 * len(block)
    digest = hashlib.sha256()
    connection = http.client.HTTPConnection("127.0.0.1", office.port, timeout=PATIENCE)
    connection.request("GET", f"/v1/files/{made['id']}/content", headers=office.authorization())
    answer = connection.getresponse()
    while piece := answer.read(1 << 16):
        digest.update(piece)
        seen.append(anonymous_bytes())
    connection.close()
    assert digest.hexdigest() == hashlib.sha256(block * 640).hexdigest()
    assert len(seen) >= 1_280
    assert max(seen) - before < 20 << 20


def anonymous_bytes() -> int:
    """RssAnon of this process."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


def open_handles(path: Path) -> int:
    """How many files of this process are open on it."""
    found = 0
    for handle in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found += handle.readlink() == path
    return found
