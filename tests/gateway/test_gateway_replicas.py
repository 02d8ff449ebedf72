"""Several gateways over one PostgreSQL and one depot, each with a home of its own, as replicas on many machines are."""

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import anthropic
import boto3
import msgspec
import openai
import pytest
from moto.server import ThreadedMotoServer

from halfrate.base.errors import SettingsError, StorageError
from halfrate.base.ids import new_job_id
from halfrate.blobs.depot import Depot
from halfrate.blobs.folder import Folder
from halfrate.emulator import Pace
from halfrate.service.drafts import Ask, NamedInput
from halfrate.service.home import Home
from halfrate.service.jobs import Service

from ..blobs.azurite import ACCOUNT
from ..blobs.conftest import blob_storage
from ..cli.shell import Shell
from ..store.databases import PostgresDatabase
from ..store.server import Server as Postgres
from . import messages
from .house import (
    QUICK,
    House,
    chat,
    ledger_is_meter,
    lines_of,
    make,
    open_house,
    running,
    until,
    upload,
    wait,
)
from .test_gateway_kills import shell

__all__ = ["blob_storage", "shell"]

pytestmark = pytest.mark.timeout(180)

HOUR = 3_600.0
PATIENT = {"halfrate-deadline": "8h"}


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture(scope="module")
def moto() -> Iterator[tuple[str, ThreadedMotoServer]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    yield f"http://127.0.0.1:{port}", server
    server.stop()


class Kept(NamedTuple):
    """A depot, where S3 answers, and how it goes away and comes back, where it can."""

    place: str
    s3: str | None
    away: Callable[[], object]
    back: Callable[[], object]


def _stays() -> None:
    raise AssertionError("this store does not go away")


@pytest.fixture(params=["s3", "folder"])
def depot(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    if request.param == "gs":
        # That of the emulator which is behind the gateways.
        return Kept(f"gs://depot/{tmp_path.name}", None, _stays, _stays)
    if request.param == "az":
        for name, value in request.getfixturevalue("blob_storage").environment.items():
            monkeypatch.setenv(name, value)
        return Kept(f"az://{ACCOUNT}/depot/{tmp_path.name}", None, _stays, _stays)
    if request.param == "folder":
        here, gone = tmp_path / "depot", tmp_path / "away"
        here.mkdir()
        return Kept(f"file://{here}", None, lambda: here.rename(gone), lambda: gone.rename(here))
    url, server = request.getfixturevalue("moto")
    session: Any = boto3
    keys = {"aws_access_key_id": "emulator", "aws_secret_access_key": "emulator"}
    session.client("s3", region_name="us-east-1", endpoint_url=url, **keys).create_bucket(Bucket="depot")
    return Kept(f"s3://depot/{tmp_path.name}", url, server.stop, server.start)


class Replicas:
    """Two gateways that share a database and a depot, and a client of each."""

    def __init__(self, at: House, second: Service, clients: tuple[openai.OpenAI, openai.OpenAI]) -> None:
        self.at = at
        self.second = second
        self.here, self.there = clients


@pytest.fixture
def replicas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: Postgres, depot: Kept
) -> Iterator[Callable[..., Replicas]]:
    place, s3 = depot.place, depot.s3
    with ExitStack() as stack:

        def made(**options: Any) -> Replicas:
            database = PostgresDatabase(postgres).url
            at = stack.enter_context(
                open_house(tmp_path, monkeypatch, database=database, depot=place, s3=s3, **options)
            )
            at.service.check_depot()
            home = Home(root=tmp_path / "second", timing=QUICK, server=database, depot=place)
            second = stack.enter_context(Service(home))
            server, log = stack.enter_context(running(second))
            key = at.key()[1]
            there = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)
            stack.callback(there.close)
            stack.callback(lambda: _no_defects(at.log.getvalue(), log.getvalue()))
            return Replicas(at, second, (at.client(key), there))

        yield made


class Ahead:
    """The machine's clock, set forward by so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def now(self) -> float:
        return time.time() + self.seconds

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Sleepy(Folder):
    """A folder of a machine that is put to sleep while it puts a file there."""

    def __init__(self, root: Path, clock: Ahead) -> None:
        super().__init__(root)
        self._clock = clock

    def put_file(self, key: str, path: Path) -> None:
        super().put_file(key, path)
        self._clock.seconds += 13 * HOUR


def asked(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def _no_defects(*logs: str) -> None:
    for text in logs:
        assert "defect" not in text, text


@pytest.mark.parametrize("depot", ["s3", "gs", "az", "folder"], indirect=True)
def test_what_is_uploaded_here_is_made_a_batch_of_there_and_read_here(
    replicas: Callable[..., Replicas],
) -> None:
    both = replicas()
    made: list[str] = []
    for number in range(3):
        lines = chat(("gpt-4.1-mini", "claude-haiku-4-5")[number % 2], 10)
        for line in lines:
            line["body"]["messages"][0]["content"] += f" Batch {number}."
        file_id = upload(both.here, lines)
        assert both.there.files.content(file_id).text == both.here.files.content(file_id).text
        batch = both.there.batches.create(
            input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        made.append(batch.id)
    for batch_id in made:
        batch = wait(both.here, both.here.batches.retrieve(batch_id), seconds=60)
        assert batch.status == "completed"
        for client in (both.here, both.there):
            assert len(lines_of(client, batch.output_file_id)) == 10
    ledger_is_meter(both.at)
    assert both.at.meter()["rows_billed"] == 30


def test_an_upload_comes_in_parts_to_both_and_goes_for_both(replicas: Callable[..., Replicas]) -> None:
    both = replicas()
    text = "".join(json.dumps(line) + "\n" for line in chat("gpt-4.1-mini", 4)).encode()
    begun = both.here.uploads.create(
        bytes=len(text), filename="rows.jsonl", mime_type="application/jsonl", purpose="batch"
    )
    parts = [
        client.uploads.parts.create(begun.id, data=piece).id
        for client, piece in ((both.there, text[:100]), (both.here, text[100:200]), (both.there, text[200:]))
    ]
    done = both.here.uploads.complete(begun.id, part_ids=parts)
    assert done.file is not None
    assert both.there.files.content(done.file.id).content == text
    both.here.files.delete(done.file.id)
    with pytest.raises(openai.NotFoundError):
        both.there.files.content(done.file.id)


def test_message_batches_are_read_where_they_were_not_taken_on(replicas: Callable[..., Replicas]) -> None:
    both = replicas()
    key = str(both.here.api_key)
    url = str(both.there.base_url).removesuffix("/v1/")
    with anthropic.Anthropic(base_url=url, api_key=key, max_retries=0) as there:
        made = messages.make(both.at.messages(key), [messages.request(f"row-{n}") for n in range(5)])
        ended = messages.wait(there, there.messages.batches.retrieve(made.id), seconds=60)
        assert len(messages.results_of(there, ended)) == 5
        there.messages.batches.delete(made.id)
    with pytest.raises(anthropic.NotFoundError):
        both.at.messages(key).messages.batches.results(made.id)


def test_a_call_that_waits_is_answered_wherever_its_caller_asks(replicas: Callable[..., Replicas]) -> None:
    both = replicas()
    headers = {**PATIENT, "idempotency-key": "parcel-1"}
    answers = [
        client.chat.completions.with_raw_response.create(
            model="gpt-4.1-mini", messages=asked("Where is it?"), extra_headers=headers
        )
        for client in (both.here, both.there)
    ]
    assert answers[0].text == answers[1].text
    assert both.at.meter()["rows_billed"] == 1
    taken = both.here.chat.completions.with_raw_response.create(
        model="gpt-4.1-mini",
        messages=asked("And what is it?"),
        extra_headers={**PATIENT, "halfrate-background": "true"},
    )
    call_id = taken.headers["x-halfrate-call"]
    deadline = time.monotonic() + 30
    found: Any = {"status": ""}
    while found["status"] != "completed":
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
        found = both.there.get(f"/halfrate/calls/{call_id}", cast_to=object)
    ledger_is_meter(both.at)


@pytest.mark.parametrize("depot", ["folder"], indirect=True)
def test_what_ended_leaves_nothing_in_the_depot_but_its_results(
    replicas: Callable[..., Replicas], tmp_path: Path
) -> None:
    both = replicas()
    batch = wait(both.there, make(both.here, chat("gpt-4.1-mini", 3)), seconds=60)
    time.sleep(1)
    held = sorted(
        path.relative_to(tmp_path / "depot").as_posix()
        for path in (tmp_path / "depot").rglob("*")
        if path.is_file()
    )
    (job,) = both.second.jobs()
    assert held == sorted(
        [
            f"gateway/files/{batch.input_file_id}",
            f"gateway/files/{batch.output_file_id}",
            "halfrate-depot",
            f"jobs/{job.id}/input.jsonl",
            f"jobs/{job.id}/outcomes-0.a1",
            f"jobs/{job.id}/results-0.a1.0",
        ]
    )


def test_a_depot_that_is_away_loses_nothing_and_is_gone_on_with(
    replicas: Callable[..., Replicas], depot: Kept
) -> None:
    both = replicas(pace=Pace(validate=0.3, queue=0.3, per_1000_rows=30.0, finalize=0.3, cancel=0.3))
    batches = [make(both.here, chat(model, 30)) for model in ("gpt-4.1-mini", "gpt-4.1-nano")]
    call = both.there.chat.completions.with_raw_response.create(
        model="gpt-4.1-mini",
        messages=asked("Where is it?"),
        extra_headers={**PATIENT, "halfrate-background": "true"},
    )
    depot.away()
    # Nothing is taken on that cannot be kept.
    for client in (both.here, both.there):
        with pytest.raises(openai.InternalServerError):
            upload(client, chat("gpt-4.1-mini", 3))
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(
                model="gpt-4.1-mini",
                messages=asked(f"And where is this, asked at {client.base_url}?"),
                extra_headers=PATIENT,
            )
    time.sleep(4)
    assert both.at.service.deferred.count() <= 1
    # It is said once that calls wait, and not each second.
    depot.back()
    for batch in batches:
        ended = wait(both.there, both.there.batches.retrieve(batch.id), seconds=90)
        assert ended.status == "completed"
        assert len(lines_of(both.there, ended.output_file_id)) == 30
    call_id = call.headers["x-halfrate-call"]
    deadline = time.monotonic() + 60
    while both.at.service.deferred.count():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    found: Any = both.here.get(f"/halfrate/calls/{call_id}", cast_to=object)
    assert found["status"] == "completed"
    ledger_is_meter(both.at)
    assert both.at.meter()["rows_billed"] == 61


def test_an_answer_waits_for_a_depot_that_is_away_which_is_said_once(
    replicas: Callable[..., Replicas], depot: Kept
) -> None:
    both = replicas(pace=Pace(realtime=2.0))
    taken = both.here.chat.completions.with_raw_response.create(
        model="gpt-4.1-mini",
        messages=asked("Where is it?"),
        extra_headers={"halfrate-deadline": "1m", "halfrate-background": "true"},
    )
    log = both.at.log

    def said(event: str) -> int:
        return log.getvalue().count(f'"{event}"')

    depot.away()
    until(lambda: said("calls wait"), 60)
    time.sleep(6)
    assert (said("calls wait"), said("calls go on")) == (1, 0)
    depot.back()

    def found() -> Any:
        return both.there.get(f"/halfrate/calls/{taken.headers['x-halfrate-call']}", cast_to=object)

    until(lambda: found()["status"] == "completed", 60)
    until(lambda: said("calls go on"))
    assert (said("calls wait"), said("calls go on")) == (1, 1)


def test_copies_that_nobody_asks_for_go_and_results_are_read_all_the_same(
    replicas: Callable[..., Replicas],
) -> None:
    both = replicas()
    batch = wait(both.there, make(both.here, chat("gpt-4.1-mini", 5)), seconds=60)
    (job,) = both.second.jobs()
    services = (both.at.service, both.second)
    answers = [list(service.results(job.id)) for service in services]
    for service in services:
        folder = service.home.root / "jobs" / job.id
        assert list(folder.iterdir())
        service.tidy()
        assert list(folder.iterdir())
        old = time.time() - 7 * HOUR
        for path in (*folder.iterdir(), folder):
            os.utime(path, (old, old))
        service.tidy()
        assert not folder.exists()
    assert [list(service.results(job.id)) for service in services] == answers
    assert both.there.batches.retrieve(batch.id).status == "completed"
    assert both.second.retry(job.id) == 0


def test_files_that_no_job_was_made_of_go_from_the_depot(
    replicas: Callable[..., Replicas], tmp_path: Path
) -> None:
    both = replicas()
    wait(both.there, make(both.here, chat("gpt-4.1-mini", 5)), seconds=60)
    (job,) = both.second.jobs()
    depot = both.second.depot
    assert isinstance(depot, Depot)
    known, orphan = (both.second.home.root / "jobs" / name for name in (job.id, new_job_id()))
    orphan.mkdir(parents=True)
    (orphan / "input.jsonl").write_bytes(b"{}\n")
    depot.put(orphan / "input.jsonl")
    held = depot.held(known)
    with Service(
        msgspec.structs.replace(both.second.home, root=tmp_path / "third"), Ahead(20 * HOUR)
    ) as third:
        third.tidy()
        assert depot.held(orphan)
        third.clock = Ahead(30 * HOUR)
        third.tidy()
        assert depot.held(orphan) == {}
        assert third.depot.need(third.home.root / "jobs" / job.id / "outcomes-0.a1").exists()
    assert depot.held(known) == held


@pytest.mark.parametrize("depot", ["folder"], indirect=True)
def test_a_job_whose_files_took_half_a_day_to_put_is_not_recorded(
    replicas: Callable[..., Replicas], tmp_path: Path
) -> None:
    """By then a sweep could take them for nobody's: the machine was asleep, say."""
    both = replicas()
    table = tmp_path / "rows.jsonl"
    table.write_text('{"q": "Where is it?"}\n')
    clock, own = Ahead(0.0), (tmp_path / "depot" / "halfrate-depot").read_text()
    with Service(msgspec.structs.replace(both.second.home, root=tmp_path / "third"), clock) as third:
        third.depot = Depot(Sleepy(tmp_path / "depot", clock), third.home.root, lambda: own)
        ask = Ask(input=NamedInput(table, "rows.jsonl"), model="openai/gpt-4.1-mini", prompt="{q}")
        with pytest.raises(StorageError, match="half a day"):
            third.submit(third.draft(ask))
        assert third.jobs() == []
    assert not list((tmp_path / "depot" / "jobs").glob("*/*"))


@pytest.mark.parametrize("depot", ["folder"], indirect=True)
def test_a_command_without_the_depot_of_its_database_is_refused(
    replicas: Callable[..., Replicas], tmp_path: Path
) -> None:
    both = replicas()
    home = msgspec.structs.replace(both.second.home, depot=None, root=tmp_path / "third")
    with pytest.raises(SettingsError, match="The files of this database are in file://"):
        Service(home)


def test_a_depot_that_cannot_be_used_keeps_a_gateway_from_starting(
    shell: Shell, tmp_path: Path, postgres: Postgres
) -> None:
    shell.env["HALFRATE_DATABASE"] = PostgresDatabase(postgres).url
    assert shell("keys", "create", "me").code == 0
    shell.env["HALFRATE_DEPOT"] = f"file://{tmp_path / 'depot'}"
    for words in (("serve", "--port", "0"), ("worker", "--drain")):
        refused = shell(*words)
        assert refused.code == 1
        assert "depot is not there" in refused.err
    (tmp_path / "depot").mkdir()
    assert shell("worker", "--drain").code == 0
    shell.env["HALFRATE_DATABASE"] = PostgresDatabase(postgres).url
    refused = shell("worker", "--drain")
    assert refused.code == 2
    assert "the depot of another database" in refused.err
