"""What the Gemini API has of its own: rows in the create call or in a file, embeddings, a 400 that is about the key."""

from collections.abc import Callable

import pytest

from halfrate.base.errors import Refused
from halfrate.service.jobs import Service

from .office import Office

Offices = Callable[..., Office]


def test_many_rows_go_as_a_file(office: Offices) -> None:
    desk = office("gemini", "upload-reset:times=1", "row-error:rate=0.1,status=503")
    report = desk.run(desk.ask(700, max_attempts=8))
    desk.assert_sound(report)
    assert report.attempts > 1


def test_the_file_that_was_sent_is_deleted_at_the_end(office: Offices) -> None:
    desk = office("gemini")
    desk.assert_sound(desk.run(desk.ask(700)))
    assert desk.meter()["files_stored"] == 0


def test_few_rows_make_no_file(office: Offices) -> None:
    desk = office("gemini", "upload-reset:rate=1")
    desk.assert_sound(desk.run(desk.ask(100)))


def test_real_time(office: Offices) -> None:
    desk = office("gemini", "realtime-error:rate=0.1,status=503")
    desk.assert_sound(desk.run(desk.ask(40, tier="standard")))
    assert desk.meter()["rows_by_tier"] == {"standard": 40}


@pytest.mark.parametrize("rows", [20, 600])
def test_embeddings_cost_what_their_tokens_cost(office: Offices, rows: int) -> None:
    desk = office("gemini")
    report = desk.run(desk.ask(rows, model="gemini/gemini-embedding-001"))
    answers = [row["answer"] for row in desk.output(report.job)]
    assert len(answers) == report.succeeded == rows
    assert all(len(vector) == 3072 for vector in answers)
    assert report.cost == desk.meter()["picodollars"] > 0


def test_a_schema_is_met(office: Offices) -> None:
    desk = office("gemini")
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    report = desk.run(desk.ask(20, schema=schema))
    assert all(isinstance(row["answer"]["sum"], int) for row in desk.assert_sound(report))


def test_a_key_that_is_not_known_is_for_a_person_to_mend(
    office: Offices, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = office("gemini")
    job = desk.submit(desk.ask(10))
    monkeypatch.setenv("GEMINI_API_KEY", "bad-key-1")
    with pytest.raises(Refused, match="API key not valid"):
        desk.work(job)
    monkeypatch.setenv("GEMINI_API_KEY", "key-1")
    with Service(desk.home) as service:
        assert service.report(job.id).succeeded == 0
    desk.assert_sound(desk.work(job))
