"""What only Bedrock asks for: a hundred rows, a bucket, a role; and what its families answer."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from halfrate.base.errors import SettingsError, UsageError
from halfrate.core.job import JobState
from halfrate.emulator import Limits
from halfrate.providers.bedrock import Bedrock
from halfrate.service.jobs import Service

from .office import Office

Offices = Callable[..., Office]
HUNDRED = Limits()
"""As Bedrock is: a hundred rows at least."""


def let_a_batch_have(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = Bedrock.capabilities
    few = msgspec.structs.replace(facts, limits=msgspec.structs.replace(facts.limits, rows=rows))
    monkeypatch.setattr(Bedrock, "capabilities", few)


def test_fewer_rows_than_a_batch_are_refused_before_anything_is_sent(office: Offices) -> None:
    desk = office("bedrock", limits=HUNDRED)
    with pytest.raises(
        UsageError, match=r"no batch of fewer than 100 rows, and there are 99\..*--tier standard"
    ):
        desk.submit(desk.ask(99))
    meter = desk.meter()
    assert (meter["creates_received"], meter["files_stored"]) == (0, 0)
    desk.assert_sound(desk.run(desk.ask(99, tier="standard")))
    assert desk.meter()["rows_by_tier"] == {"standard": 99}


@pytest.mark.parametrize("rows", [100, 250])
def test_no_shard_is_smaller_than_a_batch(
    office: Offices, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    let_a_batch_have(120, monkeypatch)
    desk = office("bedrock", limits=HUNDRED)
    if rows == 250:
        # 120, 120 and 10 as they come; three batches of a hundred there are not.
        with pytest.raises(UsageError, match="fit into one"):
            desk.submit(desk.ask(rows))
        rows = 340
    desk.assert_sound(desk.run(desk.ask(rows)))
    assert desk.meter()["batches_created"] == (1 if rows == 100 else 3)


def test_the_last_shard_takes_what_it_lacks_from_those_before(
    office: Offices, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_a_batch_have(200, monkeypatch)
    desk = office("bedrock", limits=HUNDRED)
    job = desk.submit(desk.ask(410))
    with Service(desk.home) as service:
        assert [(shard.first_row, shard.rows) for shard in service.shards(job.id)] == [
            (0, 200),
            (200, 110),
            (310, 100),
        ]
    desk.assert_sound(desk.work(job))


def test_rows_left_over_stay_failed_and_say_why(office: Offices) -> None:
    desk = office("bedrock", "row-error:match=7 plus,status=500,sticky=true", limits=HUNDRED)
    report = desk.run(desk.ask(120))
    rows = desk.assert_sound(report, answered=108)
    left = [row for row in rows if row["status"] == "failed"]
    assert [row["n"] for row in left] == list(range(7, 120, 10))
    assert {row["error"].partition(".")[0] for row in left} == {
        "not sent: 12 rows of its batch were left, and the provider takes no batch of fewer than 100"
    }
    assert all("--small-tails realtime" in row["error"] and "--tier standard" in row["error"] for row in left)
    assert (report.failed, report.attempts, report.waiting) == (12, 2, 0)
    assert desk.meter()["batches_created"] == 1
    with Service(desk.home) as service:
        assert service.job(report.job.id).state is JobState.DONE
        # A retry comes to the same, and is not waited for.
        assert service.retry(report.job.id) == 1
    again = desk.work(report.job)
    assert (again.failed, again.cost) == (12, report.cost)
    assert desk.meter()["batches_created"] == 1


def test_rows_left_over_are_run_in_real_time_where_the_job_allows_it(office: Offices) -> None:
    desk = office("bedrock", "batch-expire:times=1,done=0.8", limits=HUNDRED)
    report = desk.run(desk.ask(120, small_tails="realtime"))
    desk.assert_sound(report)
    assert desk.meter()["rows_by_tier"] == {"batch": 96, "standard": 24}
    assert report.rescued == 24


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("amazon.nova-lite-v1:0", "invoke"),
        ("amazon.nova-lite-v1:0", "converse"),
        ("meta.llama3-3-70b-instruct-v1:0", "invoke"),
        ("meta.llama3-3-70b-instruct-v1:0", "converse"),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "invoke"),
        ("mistral.mistral-large-2402-v1:0", "converse"),
    ],
)
@pytest.mark.parametrize("tier", ["batch", "standard"])
def test_every_family(office: Offices, model: str, kind: str, tier: str) -> None:
    desk = office("bedrock")
    options: dict[str, Any] = {"invocation": kind}
    ask = desk.ask(30, model=f"bedrock/{model}", options=options, tier=tier, max_tokens=64, temperature=0.5)
    desk.assert_sound(desk.run(ask))
    assert desk.meter()["rows_by_tier"] == {tier: 30}


def test_a_text_completion_of_mistrals_does_not_say_what_it_cost(office: Offices) -> None:
    desk = office("bedrock")
    report = desk.run(desk.ask(30, model="bedrock/mistral.mistral-large-2402-v1:0", system="Be brief."))
    assert (report.succeeded, report.cost) == (30, None)


def test_embeddings(office: Offices) -> None:
    desk = office("bedrock")
    ask = desk.ask(30, model="bedrock/amazon.titan-embed-text-v2:0", params={"dimensions": 256})
    rows = desk.assert_sound(desk.run(ask))
    assert all(len(row["answer"]) == 256 for row in rows)


def test_a_job_that_bedrock_fails_for_what_is_in_it_is_not_made_again(office: Offices) -> None:
    # The emulator asks for more rows than the adapter believes: as a quota that was raised.
    desk = office("bedrock", limits=Limits(bedrock_least_rows=150))
    report = desk.run(desk.ask(120))
    assert (report.failed, report.attempts, desk.meter()["batches_created"]) == (120, 1, 1)
    assert "at least 150" in report.errors[0][0]
    assert desk.meter()["files_stored"] == 0


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("HALFRATE_BEDROCK_ROLE", "", "HALFRATE_BEDROCK_ROLE"),
        ("HALFRATE_BEDROCK_ROLE", "batch", "is not a role"),
        ("HALFRATE_BEDROCK_BUCKET", "", "HALFRATE_BEDROCK_BUCKET"),
        ("HALFRATE_BEDROCK_BUCKET", "gs://rows", "is not a place"),
        ("AWS_REGION", "", "AWS_REGION"),
    ],
)
def test_what_an_account_needs_is_asked_for_before_anything_is_read(
    office: Offices, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    desk = office("bedrock")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=words):
        desk.submit(desk.ask(10))


def test_no_credentials_are_told_and_nothing_is_sent(
    office: Offices, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = office("bedrock")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(desk.folder / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    job = desk.submit(desk.ask(10))
    with pytest.raises(SettingsError, match="no credentials for AWS"):
        desk.work(job)
    assert desk.meter()["creates_received"] == 0
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "emulator")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "emulator")
    desk.assert_sound(desk.work(job))


def test_a_key_of_bedrocks_own(office: Offices, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = office("bedrock")
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key-1")
    desk.assert_sound(desk.run(desk.ask(30)))
