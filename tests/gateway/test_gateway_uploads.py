"""OpenAI's uploads in parts, as the official client and as raw calls see them."""

import asyncio
import hashlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from openai.types import Upload

from halfrate.core.surface import UPLOAD_LIFE
from halfrate.core.surface import Part as PartRecord

from .office import Answer, Office, form, form_part, wait_for

CONTENT = random.Random(1).randbytes(700_001)
JSON = {"content-type": "application/json"}


def begun(client: openai.OpenAI, size: int = len(CONTENT), **options: Any) -> Upload:
    return client.uploads.create(
        bytes=size, filename="rows.jsonl", mime_type="application/jsonl", purpose="batch", **options
    )


def post(office: Office, path: str, document: object) -> Answer:
    return office.call("POST", path, json.dumps(document).encode(), JSON)


def test_parts_become_one_file_in_the_order_that_was_asked_for(office: Office) -> None:
    with office.client() as client:
        upload = begun(client)
        assert upload.model_dump() == {
            "id": upload.id,
            "object": "upload",
            "bytes": len(CONTENT),
            "created_at": upload.created_at,
            "expires_at": upload.created_at + 3_600,
            "filename": "rows.jsonl",
            "purpose": "batch",
            "status": "pending",
            "file": None,
        }
        second = client.uploads.parts.create(upload.id, data=CONTENT[400_000:])
        first = client.uploads.parts.create(upload.id, data=CONTENT[:400_000])
        assert (first.object, first.upload_id) == ("upload.part", upload.id)
        digest = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
        done = client.uploads.complete(upload.id, part_ids=[first.id, second.id], md5=digest)
        assert done.status == "completed"
        assert done.file is not None
        assert done.file == client.files.retrieve(done.file.id)
        assert (done.file.bytes, done.file.filename) == (len(CONTENT), "rows.jsonl")
        assert done.file.expires_at == done.file.created_at + 30 * 86_400
        assert client.files.content(done.file.id).read() == CONTENT
    assert office.parts() == office.arriving() == []


def test_a_file_can_be_uploaded_in_chunks(office: Office, tmp_path: Path) -> None:
    path = tmp_path / "big.jsonl"
    path.write_bytes(CONTENT)
    with office.client() as client:
        done = client.uploads.upload_file_chunked(
            file=path, mime_type="application/jsonl", purpose="batch", part_size=100_000
        )
        assert done.file is not None
        assert done.file.filename == "big.jsonl"
        assert client.files.content(done.file.id).read() == CONTENT
        again = client.uploads.upload_file_chunked(
            file=CONTENT,
            filename="../big.jsonl",
            bytes=len(CONTENT),
            mime_type="application/jsonl",
            purpose="batch",
        )
        assert again.file is not None
        assert again.file.filename == "big.jsonl"
        assert {file.id for file in client.files.list()} == {done.file.id, again.file.id}


def test_the_asynchronous_client_does_the_same(office: Office, tmp_path: Path) -> None:
    path = tmp_path / "big.jsonl"
    path.write_bytes(CONTENT)

    async def run() -> None:
        async with office.async_client() as client:
            done = await client.uploads.upload_file_chunked(
                file=path, mime_type="application/jsonl", purpose="batch", part_size=300_000
            )
            assert done.file is not None
            assert (await client.files.content(done.file.id)).read() == CONTENT
            upload = await client.uploads.create(
                bytes=80, filename="a", mime_type="application/jsonl", purpose="batch"
            )
            parts = await asyncio.gather(
                *(client.uploads.parts.create(upload.id, data=bytes([n]) * 10) for n in range(8))
            )
            done = await client.uploads.complete(upload.id, part_ids=[part.id for part in parts])
            assert done.file is not None
            read = (await client.files.content(done.file.id)).read()
            assert read == b"".join(bytes([n]) * 10 for n in range(8))
            other = await client.uploads.create(bytes=1, filename="a", mime_type="b", purpose="batch")
            assert (await client.uploads.cancel(other.id)).status == "cancelled"

    asyncio.run(run())


def test_a_life_goes_with_the_file(office: Office) -> None:
    with office.client() as client:
        upload = begun(client, 3, expires_after={"anchor": "created_at", "seconds": 7_200})
        part = client.uploads.parts.create(upload.id, data=b"abc")
        done = client.uploads.complete(upload.id, part_ids=[part.id])
        assert done.file is not None
        assert done.file.expires_at == done.file.created_at + 7_200


def test_a_cancelled_upload_takes_nothing_more_and_leaves_nothing(office: Office) -> None:
    with office.client() as client:
        upload = begun(client)
        part = client.uploads.parts.create(upload.id, data=CONTENT)
        assert len(office.parts()) == 1
        cancelled = client.uploads.cancel(upload.id)
        assert (cancelled.status, cancelled.file) == ("cancelled", None)
        assert office.parts() == []
        assert_closed(client, upload, part.id, "cancelled")
    assert office.kept() == office.arriving() == []


def test_a_completed_upload_takes_nothing_more(office: Office) -> None:
    with office.client() as client:
        upload = begun(client, 3)
        part = client.uploads.parts.create(upload.id, data=b"abc")
        client.uploads.complete(upload.id, part_ids=[part.id])
        assert_closed(client, upload, part.id, "completed")
        assert len(client.files.list().data) == 1


def test_an_upload_that_is_late_takes_nothing_more(office: Office) -> None:
    with office.client() as client:
        upload = begun(client, 3)
        part = client.uploads.parts.create(upload.id, data=b"abc")
        office.clock.ahead = UPLOAD_LIFE
        assert_closed(client, upload, part.id, "expired")
        assert client.files.list().data == []


def assert_closed(client: openai.OpenAI, upload: Upload, part_id: str, standing: str) -> None:
    for call in (
        lambda: client.uploads.parts.create(upload.id, data=b"abc"),
        lambda: client.uploads.complete(upload.id, part_ids=[part_id]),
        lambda: client.uploads.cancel(upload.id),
    ):
        with pytest.raises(
            openai.BadRequestError, match=f"{upload.id} is {standing} and takes no more"
        ) as refused:
            call()
        assert refused.value.param == "upload_id"


def test_another_team_and_an_unknown_id_find_no_upload(office: Office) -> None:
    with office.client() as client, office.client(office.other_key) as other:
        upload = begun(client, 3)
        part = client.uploads.parts.create(upload.id, data=b"abc")
        for caller, upload_id in [(other, upload.id), (client, "upload_none"), (client, "\0")]:
            for call in (
                lambda caller=caller, upload_id=upload_id: caller.uploads.parts.create(
                    upload_id, data=b"abc"
                ),
                lambda caller=caller, upload_id=upload_id: caller.uploads.complete(
                    upload_id, part_ids=[part.id]
                ),
                lambda caller=caller, upload_id=upload_id: caller.uploads.cancel(upload_id),
            ):
                with pytest.raises(openai.NotFoundError, match="No such Upload object") as refused:
                    call()
                assert refused.value.param == "upload_id"
        assert client.uploads.complete(upload.id, part_ids=[part.id]).status == "completed"
        assert other.files.list().data == []


def test_parts_have_to_add_up_to_what_was_announced(office: Office) -> None:
    with office.client() as client:
        upload, elsewhere = begun(client, 6), begun(client, 6)
        part = client.uploads.parts.create(upload.id, data=b"abc")
        foreign = client.uploads.parts.create(elsewhere.id, data=b"def")
        for parts, digest, field in [
            ([part.id], openai.omit, "part_ids"),
            ([], openai.omit, "part_ids"),
            ([part.id, "part_none"], openai.omit, "part_ids"),
            ([part.id, foreign.id], openai.omit, "part_ids"),
            ([part.id, part.id], "0" * 32, "md5"),
        ]:
            with pytest.raises(openai.BadRequestError) as refused:
                client.uploads.complete(upload.id, part_ids=parts, md5=digest)
            assert refused.value.param == field
        assert office.kept() == office.arriving() == []
        last = client.uploads.parts.create(upload.id, data=b"def")
        done = client.uploads.complete(upload.id, part_ids=[part.id, last.id])
        assert done.file is not None
        assert client.files.content(done.file.id).read() == b"abcdef"


GOOD = {"bytes": 3, "filename": "a", "mime_type": "application/jsonl", "purpose": "batch"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        *(({name: None}, name) for name in GOOD),
        ({"bytes": 0}, "bytes"),
        ({"bytes": -1}, "bytes"),
        ({"bytes": (8 << 30) + 1}, "bytes"),
        ({"bytes": "3"}, "bytes"),
        ({"bytes": 10**30}, "bytes"),
        ({"purpose": "assistants"}, "purpose"),
        ({"filename": 3}, "filename"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "created_at"}}, "expires_after.seconds"),
        ({"expires_after": {"seconds": 7_200}}, "expires_after.anchor"),
    ],
)
def test_an_upload_that_is_not_as_it_should_be_is_refused(
    office: Office, change: dict[str, Any], field: str
) -> None:
    answer = post(office, "/v1/uploads", {**GOOD, **change})
    assert (answer.status, answer.error["param"]) == (400, field)


def test_what_is_no_json_is_refused(office: Office) -> None:
    for body in (b"", b"{", b"[]", b"\xff", b'"a"'):
        assert office.call("POST", "/v1/uploads", body, JSON).status == 400
    with office.client() as client:
        upload = begun(client, 3)
        for document in ({}, {"part_ids": "a"}, {"part_ids": [1]}, {"part_ids": ["a"], "md5": 1}, []):
            assert post(office, f"/v1/uploads/{upload.id}/complete", document).status == 400
        assert client.uploads.cancel(upload.id).status == "cancelled"


def test_an_upload_may_be_as_large_as_8_gb(office: Office) -> None:
    assert post(office, "/v1/uploads", {**GOOD, "bytes": 8 << 30}).document["bytes"] == 8 << 30


def test_a_part_that_is_too_large_empty_or_missing_is_refused(tmp_path: Path) -> None:
    with Office(tmp_path, part_bytes=1_000) as office, office.client() as client:
        upload = begun(client, 1_000)
        path = f"/v1/uploads/{upload.id}/parts"
        for part, status, field in [
            (form_part("data", bytes(1_001), '; filename="a"'), 413, None),
            (form_part("data", b"", '; filename="a"'), 400, "data"),
            (form_part("file", b"abc", '; filename="a"'), 400, "data"),
        ]:
            answer = office.post_form(path, form(part))
            assert (answer.status, answer.error["param"]) == (status, field)
        assert office.parts() == office.arriving() == []
        assert office.post_form(path, form(form_part("data", bytes(1_000)))).status == 200


def test_a_part_that_breaks_off_leaves_nothing(office: Office) -> None:
    with office.client() as client:
        upload = begun(client, 10 << 20)
        with office.begin_post(f"/v1/uploads/{upload.id}/parts", 10 << 20) as connection:
            connection.sendall(form_part("data", bytes(3 << 20), '; filename="a"')[: 2 << 20])
            wait_for(lambda: [path for path in office.arriving() if path.stat().st_size])
        wait_for(lambda: not office.arriving())
    assert office.parts() == []


def test_an_upload_that_is_cancelled_while_a_part_arrives_does_not_take_it(office: Office) -> None:
    with office.client() as client:
        upload = begun(client, 2 << 20)
        body = form(form_part("data", bytes(2 << 20), '; filename="a"'))
        with office.begin_post(f"/v1/uploads/{upload.id}/parts", len(body)) as connection:
            connection.sendall(body[:-100])
            wait_for(lambda: [path for path in office.arriving() if path.stat().st_size])
            client.uploads.cancel(upload.id)
            connection.sendall(body[-100:])
            answer = connection.recv(4_096)
        assert answer.startswith(b"HTTP/1.1 400"), answer
    assert office.arriving() == office.parts() == []


@pytest.mark.parametrize(
    "held", [[PartRecord(f"part_{n}", 1) for n in range(10_000)], [PartRecord("part_1", 8 << 30)]]
)
def test_an_upload_does_not_take_parts_for_ever(office: Office, held: list[PartRecord]) -> None:
    with office.client() as client:
        upload = begun(client)
        office.service.surfaces.change_upload(
            "search", upload.id, lambda one: msgspec.structs.replace(one, parts=tuple(held))
        )
        with pytest.raises(openai.BadRequestError, match="as much as an upload can"):
            client.uploads.parts.create(upload.id, data=b"abc")


def test_a_disk_that_fails_is_told_as_that_and_not_as_an_upload_that_is_closed(office: Office) -> None:
    with office.client() as client:
        upload = begun(client)
        shutil.rmtree(office.root / "gateway" / "parts" / upload.id)
        with pytest.raises(openai.InternalServerError) as refused:
            client.uploads.parts.create(upload.id, data=b"abc")
        assert refused.value.status_code == 503
        assert str(office.root) not in refused.value.message
    assert office.arriving() == []
    (line,) = office.defects()
    assert json.loads(line)["event"] == "unable"
    office.forgive()
