"""A connection to PostgreSQL that breaks at a COMMIT, at each in turn: kept or not, nothing is paid for twice."""

import asyncio
import json
import os
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from halfrate.base.errors import StorageError
from halfrate.emulator import Emulator, Pace
from halfrate.service.drafts import Ask
from halfrate.service.home import Home
from halfrate.service.jobs import Service
from halfrate.store.connector import CommitUnknown
from halfrate.store.store import Store

from ..store.databases import PostgresDatabase
from ..store.server import Server
from ..store.wire import Wire

ROWS = 5
MODELS = {"openai": "openai/gpt-4.1-mini", "anthropic": "anthropic/claude-haiku-4-5"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


class Commits:
    """Counts commits, and cuts one."""

    def __init__(self, cut: int, where: str) -> None:
        self.seen = 0
        self._cut = cut
        self._where = where

    def __call__(self) -> str | None:
        self.seen += 1
        return self._where if self.seen == self._cut else None


def carried(folder: Path, server: Server, model: str, commits: Commits) -> list[StorageError]:
    """Carry a job to its end, as somebody who attaches again after an error; the errors."""
    folder.mkdir()
    table = folder / "rows.jsonl"
    table.write_text("".join(json.dumps({"q": f"What is {n}?"}) + "\n" for n in range(ROWS)))
    database = PostgresDatabase(server)
    errors: list[StorageError] = []
    with (
        Emulator(pace=Pace.instant()) as emulator,
        emulator.running() as url,
        Wire(server.port) as wire,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in {
            "HALFRATE_HOME": str(folder / "home"),
            "HALFRATE_DATABASE": wire.url(database.url),
            "HALFRATE_SETTLE": "1",
            "HALFRATE_POLL_FIRST": "0",
            "HALFRATE_BACKOFF_FIRST": "0",
            "OPENAI_BASE_URL": emulator.openai_base_url(url),
            "ANTHROPIC_BASE_URL": emulator.anthropic_base_url(url),
            "OPENAI_API_KEY": "any",
            "ANTHROPIC_API_KEY": "any",
        }.items():
            patch.setenv(name, value)
        home = Home.from_environment()
        with Service(home) as service:
            job = service.submit(service.draft(Ask(input=table, model=model, prompt="{q}"))).id
        wire.cut_commits = commits
        for _ in range(3):
            try:
                with Service(home) as service:
                    asyncio.run(service.run(job))
                    service.conclude(job)
                    report = service.report(job)
            except StorageError as error:
                errors.append(error)
            else:
                break
        else:
            raise errors[-1]
        meter = emulator.meter.snapshot()
    with closing(Store.open(database.url)) as store:
        (line,) = store.ledger()
        assert store.owners() == []
    assert (report.succeeded, report.waiting, report.cost) == (ROWS, 0, line.cost)
    assert line.cost == meter["picodollars"]
    assert (meter["batches_created"], meter["rows_billed"], meter["files_stored"]) == (1, ROWS, 0)
    return errors


@pytest.mark.kill
@pytest.mark.timeout(120)
@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("provider", MODELS)
def test_at_whichever_commit_it_breaks_one_batch_is_made(
    server: Server, tmp_path: Path, provider: str, where: str
) -> None:
    undisturbed = Commits(0, where)
    assert carried(tmp_path / "undisturbed", server, MODELS[provider], undisturbed) == []
    assert undisturbed.seen > 10
    unknown = 0
    # All of them where many rounds are asked for, else every fourth.
    step = 1 if "HALFRATE_KILL_ROUNDS" in os.environ else 4
    every = range(1, undisturbed.seen + 1)
    cuts = every[random.randrange(step) :: step]
    # Most commits end a transaction that only reads. Where none of these few is another, one more is looked for.
    for cut in (*cuts, *(cut for cut in every if cut not in cuts)):
        if unknown and cut not in cuts:
            break
        errors = carried(tmp_path / str(cut), server, MODELS[provider], Commits(cut, where))
        # A transaction that only reads has nothing to keep; one that writes says that it does not know.
        assert all(isinstance(error, CommitUnknown) for error in errors)
        unknown += len(errors)
    assert unknown
