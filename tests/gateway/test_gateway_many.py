"""Several gateways over one PostgreSQL and one folder, as replicas on one machine are."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import openai
import pytest

from halfrate.service.jobs import Service

from ..store.databases import PostgresDatabase
from ..store.server import Server as Postgres
from .house import chat, lines_of, make, open_house, running, wait

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


def test_what_one_gateway_takes_in_any_of_them_carries_on_and_nothing_is_paid_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: Postgres
) -> None:
    database = PostgresDatabase(postgres)
    with ExitStack() as stack:
        at = stack.enter_context(open_house(tmp_path, monkeypatch, database=database.url))
        second = stack.enter_context(Service(at.service.home))
        server, log = stack.enter_context(running(second))
        key = at.key()[1]
        clients = [
            openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
            for url in (at.server.url, server.url)
        ]
        made: list[tuple[int, str]] = []
        for number in range(8):
            lines = chat(("gpt-4.1-mini", "claude-haiku-4-5")[number % 2], 10)
            for line in lines:
                line["body"]["messages"][0]["content"] += f" Batch {number}."
            # Uploaded here, asked for there.
            made.append((number, make(clients[number % 2], lines).id))
        for number, batch_id in made:
            client = clients[(number + 1) % 2]
            batch = wait(client, client.batches.retrieve(batch_id), seconds=60)
            assert batch.status == "completed"
            assert len(lines_of(client, batch.output_file_id)) == 10
        assert at.paid_twice() == 0
        assert at.meter()["rows_billed"] == 80
        (line,) = at.service.costs(by=())
        assert line.cost == int(at.meter()["picodollars"])
        assert len(at.service.jobs()) == 8
        for text in (at.log.getvalue(), log.getvalue()):
            assert "defect" not in text
            assert "cannot go on" not in text
