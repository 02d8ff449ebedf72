"""Prompt caching beside batches, judged by the emulator's cache and its meter."""

import asyncio
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from halfrate.base.errors import OverBudget, UsageError
from halfrate.core.budgets import Budget
from halfrate.core.job import Job
from halfrate.core.lifecycle import Shard, State
from halfrate.emulator import CacheModel
from halfrate.providers.anthropic import Anthropic
from halfrate.service.drafts import Ask
from halfrate.service.jobs import Service

from .office import Office

Offices = Callable[..., Office]
RULES = "Rule {n}: what is asked for is answered, and nothing besides.\n"
SYSTEM = "".join(RULES.replace("{n}", str(n)) for n in range(150))
"""About 2,000 tokens."""
MODEL = "anthropic/claude-sonnet-4-5"
# As it is in batches: rows do not see what others of their batch have written.
COLD = CacheModel(within_batch=False)


def ask(desk: Office, rows: int = 200, **options: Any) -> Ask:
    return desk.ask(rows, model=MODEL, max_tokens=60, **options)


def requests(desk: Office, job: Job) -> list[list[dict[str, Any]]]:
    """The requests of each shard, as they are sent."""
    with Service(desk.home) as service:
        files = [service.files(job.id).requests(shard.number) for shard in service.shards(job.id)]
    return [json.loads(file.read_bytes())["requests"] for file in files]


def paid(office: Offices, **options: Any) -> int:
    desk = office("anthropic", cache=COLD)
    report = desk.run(ask(desk, **options))
    desk.assert_sound(report)
    return int(desk.meter()["picodollars"])


@pytest.mark.parametrize("where", ["system", "prompt"])
def test_rows_that_share_much_cost_a_third_less_at_least(office: Offices, where: str) -> None:
    shared = {"system": SYSTEM} if where == "system" else {"prompt": SYSTEM + "Now answer this: {q}"}
    plain, cached = paid(office, **shared), paid(office, cache="auto", **shared)
    assert cached < 0.7 * plain


def test_what_caching_saved_is_what_the_same_job_would_have_cost_more(office: Offices) -> None:
    plain = paid(office, system=SYSTEM)
    desk = office("anthropic", cache=COLD)
    report = desk.run(ask(desk, system=SYSTEM, cache="auto"))
    rows = desk.assert_sound(report)
    assert report.cost is not None
    assert report.cache_saved is not None
    assert len({row["answer"] for row in rows}) > 1
    # Marks are no tokens. What is answered is the same, and so the whole difference is the cache's.
    assert report.cost + report.cache_saved == plain
    with Service(desk.home) as service:
        (line,) = service.costs(by=("tier",))
        forecast = service.job(report.job.id).forecast
    assert line.cache_saved == report.cache_saved
    assert forecast.cost_low is not None
    assert forecast.cost_high is not None
    assert forecast.cost_low <= report.cost <= forecast.cost_high


def test_two_rows_of_each_batch_go_first_and_warm_the_cache(
    office: Offices, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = msgspec.structs.replace(Anthropic.capabilities.limits, rows=60)
    monkeypatch.setattr(
        Anthropic, "capabilities", msgspec.structs.replace(Anthropic.capabilities, limits=limits)
    )
    desk = office("anthropic", cache=COLD)
    job = desk.submit(ask(desk, system=SYSTEM, cache="auto"))
    assert job.cache.first == 8
    with Service(desk.home) as service:
        shards = service.shards(job.id)
    assert [(shard.rows, shard.sending) for shard in shards] == [(60, 2), (60, 2), (60, 2), (20, 2)]
    report = desk.work(job)
    desk.assert_sound(report)
    assert desk.meter()["batches_created"] == 8
    assert report.usage.cached > 20 * report.usage.write_1h > 0


@pytest.mark.parametrize(
    "fault",
    [
        "create-lost",
        "create-error",
        "row-error:match=is 0 plus,status=400,sticky=true",
        "row-error:match=is 1 plus,status=500,times=1",
        "batch-expire:times=1,done=0",
    ],
)
def test_whatever_becomes_of_the_first_batch_the_rest_is_run_once(office: Offices, fault: str) -> None:
    desk = office("anthropic", fault, cache=COLD)
    report = desk.run(ask(desk, 60, system=SYSTEM, cache="1h"))
    desk.assert_sound(report, answered=59 if "400" in fault else None)
    assert report.usage.cached > 0


def test_a_first_batch_that_is_cancelled_holds_up_nobody(office: Offices) -> None:
    desk = office("anthropic", cache=COLD)
    job = desk.submit(ask(desk, 60, system=SYSTEM, cache="1h"))
    with Service(desk.home) as service:
        assert service.cancel(job.id) == 1
    report = desk.work(job)
    assert report.cancelled == 60
    with Service(desk.home) as service:
        assert {shard.state for shard in service.shards(job.id)} == {State.DONE}
    assert desk.meter()["rows_billed"] == 0


@pytest.mark.parametrize(
    "options",
    [
        {"rows": 4, "system": SYSTEM},
        {"system": "Be brief."},
        {"system": SYSTEM, "deadline": 4e9},
    ],
    ids=["few rows", "little shared", "a deadline"],
)
def test_no_marks_where_they_would_cost_more_or_hold_up(office: Offices, options: dict[str, Any]) -> None:
    desk = office("anthropic", cache=COLD)
    job = desk.submit(ask(desk, cache="auto", **options))
    (only,) = requests(desk, job)
    assert b"cache_control" not in msgspec.json.encode(only)
    assert job.cache.life is None


def test_marks_that_would_cost_more_are_refused_when_they_are_asked_for(office: Offices) -> None:
    desk = office("anthropic", cache=COLD)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"rows": 3, "cache": "1h"}, "more than it saves"),
        ({"cache": "5m"}, "more than it saves"),
        ({"cache": "auto", "options": {"cache": "1h"}}, "not both"),
    ]
    for options, why in cases:
        with pytest.raises(UsageError, match=why):
            desk.submit(ask(desk, system=SYSTEM, **options))
    assert list((desk.home.root / "jobs").iterdir()) == []
    assert desk.meter()["rows_received"] == 0


def test_the_mark_stands_behind_all_that_rows_share(office: Offices) -> None:
    desk = office("anthropic", cache=COLD)
    prompt = SYSTEM + "Answer {q} and nothing else."
    job = desk.submit(ask(desk, prompt=prompt, system="Be brief.", cache="auto"))
    (whole,) = requests(desk, job)
    mark = {"type": "ephemeral", "ttl": "1h"}
    for row, one in enumerate(whole):
        head, tail = one["params"]["messages"][0]["content"]
        assert head["cache_control"] == mark
        assert "cache_control" not in tail
        assert head["text"] + tail["text"] == prompt.replace("{q}", f"What is {row} plus {row}?")
        assert one["params"]["system"] == "Be brief."


def test_rows_of_openai_bear_one_key(office: Offices) -> None:
    desk = office("openai", cache=CacheModel(within_batch=True))
    report = desk.run(desk.ask(30, system=SYSTEM, cache="auto"))
    desk.assert_sound(report)
    job = report.job
    key = job.spec.params["prompt_cache_key"]
    assert key.startswith("hr-")
    assert job.cache.first == 0
    assert report.cache_saved is not None
    assert report.cache_saved > 0
    with pytest.raises(UsageError, match="It caches by itself"):
        desk.submit(desk.ask(30, system=SYSTEM, cache="1h"))


def test_a_batch_file_is_sent_as_it_is(office: Offices, tmp_path: Path) -> None:
    desk = office("anthropic", cache=COLD)
    body = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": SYSTEM}]}
    path = tmp_path / "batch.jsonl"
    path.write_text("".join(json.dumps({"custom_id": f"r{n}", "params": body}) + "\n" for n in range(9)))
    job = desk.submit(Ask(input=path, cache="auto"))
    assert all(one["params"] == body for one in requests(desk, job)[0])
    with pytest.raises(UsageError, match="sent as they are"):
        desk.submit(Ask(input=path, cache="1h"))


@pytest.mark.parametrize("name", ["rows", "rows.csv", "rows.parquet"])
def test_an_input_is_read_twice_and_left_alone(office: Offices, name: str) -> None:
    desk = office("anthropic", cache=COLD)
    table = desk.table(40, name) if name == "rows" else desk.folder / name
    if name == "rows.csv":
        table.write_text("n,q\n" + "".join(f"{n},What is {n}?\n" for n in range(40)))
    elif name == "rows.parquet":
        pl = pytest.importorskip("polars")
        pl.DataFrame({"n": range(40), "q": [f"What is {n}?" for n in range(40)]}).write_parquet(table)
    before = table.read_bytes()
    report = desk.run(Ask(input=table, model=MODEL, prompt="{q}", system=SYSTEM, cache="auto"))
    assert (report.succeeded, report.job.input_name) == (40, name)
    assert report.job.cache.life == "1h"
    assert table.read_bytes() == before
    assert [folder.name for folder in (desk.home.root / "jobs").iterdir()] == [report.job.id]


DOCUMENTS = tuple(
    f"Document {n}.\n" + "".join(f'In paragraph {k} of document {n} it says "so".\n' for k in range(160))
    for n in range(8)
)
"""About 2,000 tokens each."""


def questions(
    desk: Office, rows: int = 200, name: str = "questions.jsonl", about: str = "", **options: Any
) -> Ask:
    """Questions about documents, those about one spread over the whole input."""
    table = desk.folder / name
    asked = [
        {"n": n, "document": about + DOCUMENTS[n % len(DOCUMENTS)], "q": f"What is {n} plus {n}?"}
        for n in range(rows)
    ]
    if name.endswith("jsonl"):
        table.write_text("".join(json.dumps(row) + "\n" for row in asked))
    elif name.endswith("csv"):
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["n", "document", "q"])
            writer.writeheader()
            writer.writerows(asked)
    else:
        pytest.importorskip("polars").DataFrame(asked).write_parquet(table)
    usual: dict[str, Any] = {"prompt": "{document}\n\nNow answer: {q}", "model": MODEL, "max_tokens": 60}
    return Ask(input=table, **{**usual, **options})


@pytest.mark.parametrize("name", ["questions.jsonl", "questions.csv", "questions.parquet"])
def test_rows_that_share_a_document_cost_a_third_less_at_least(office: Offices, name: str) -> None:
    plain_desk = office("anthropic", cache=COLD)
    plain_report = plain_desk.run(questions(plain_desk, name=name))
    plain = plain_desk.meter()["picodollars"]
    desk = office("anthropic", cache=COLD)
    report = desk.run(questions(desk, name=name, cache="auto"))
    assert plain_report.succeeded == report.succeeded == 200
    assert report.cost is not None
    assert report.cache_saved is not None
    assert report.cost == desk.meter()["picodollars"] < 0.7 * plain
    # What is answered is the same, and a text in two pieces is a token shorter at most, as the emulator counts.
    assert 0 <= plain - report.cost - report.cache_saved <= 200 * 1_500_000
    assert desk.meter()["fingerprints_billed_again"] == 0
    with Service(desk.home) as service:
        forecast = service.job(report.job.id).forecast
    assert forecast.cost_low is not None
    assert forecast.cost_high is not None
    assert forecast.cost_low <= report.cost <= forecast.cost_high


def test_one_row_of_each_document_goes_first(office: Offices) -> None:
    desk = office("anthropic", cache=COLD)
    job = desk.submit(questions(desk, cache="auto"))
    assert (job.cache.groups, job.cache.grouped, job.cache.shared) == (8, 200, 0)
    with Service(desk.home) as service:
        (only,) = service.shards(job.id)
    assert (only.rows, only.sending, only.leading, only.try_number) == (200, 8, True, 1)
    mark = {"type": "ephemeral", "ttl": "1h"}
    (whole,) = requests(desk, job)
    for row, one in enumerate(whole):
        lead, rest = one["params"]["messages"][0]["content"]
        assert lead == {"type": "text", "text": DOCUMENTS[row % 8] + "\n\nNow ", "cache_control": mark}
        assert rest == {"type": "text", "text": f"answer: What is {row} plus {row}?"}
    report = desk.work(job)
    desk.assert_sound(report)
    meter = desk.meter()
    assert meter["batches_created"] == 2
    assert meter["tokens"]["write_1h"] * 24 == meter["tokens"]["cached"]
    assert report.attempts == 1


@pytest.mark.parametrize(
    "fault",
    [
        "create-lost",
        "create-error",
        "row-error:match=is 0 plus,status=400,sticky=true",
        "row-error:match=is 1 plus,status=500,times=1",
        "row-error:match=is 1[0-9] plus,status=500,times=2",
        "batch-expire:times=1,done=0",
        "batch-expire:times=1,done=0.5",
        "batch-fail:times=1",
        "download-truncated:times=1",
    ],
)
def test_whatever_becomes_of_those_that_go_first_each_row_is_run_once(office: Offices, fault: str) -> None:
    desk = office("anthropic", fault, cache=COLD)
    report = desk.run(questions(desk, 60, cache="auto"))
    desk.assert_sound(report, answered=59 if "400" in fault else None)
    assert report.usage.cached > 0


def test_rows_that_share_nothing_with_enough_others_bear_no_mark(office: Offices) -> None:
    desk = office("anthropic", cache=COLD)
    # Of eight documents two have three rows each, and the others two.
    ask = questions(desk, 18, cache="1h")
    job = desk.submit(ask)
    assert (job.cache.groups, job.cache.grouped, job.cache.fewest) == (2, 6, 3)
    (whole,) = requests(desk, job)
    marked = [row for row, one in enumerate(whole) if len(one["params"]["messages"][0]["content"]) == 2]
    assert marked == [0, 1, 8, 9, 16, 17]
    for row, one in enumerate(whole):
        text = "".join(part["text"] for part in one["params"]["messages"][0]["content"])
        assert text == f"{DOCUMENTS[row % 8]}\n\nNow answer: What is {row} plus {row}?"
    desk.assert_sound(desk.work(job))


@pytest.mark.parametrize(
    "options",
    [
        {"rows": 16},
        {"prompt": "{q}\n\nAnswer from this: {document}"},
        {"deadline": 4e9},
        {"tier": "standard"},
        {"prompt": "{document}"},
    ],
    ids=["two rows each", "the question first", "a deadline", "in real time", "nothing else"],
)
def test_rows_are_not_grouped_where_that_would_cost_more_or_hold_up(
    office: Offices, options: dict[str, Any]
) -> None:
    desk = office("anthropic", cache=COLD)
    job = desk.submit(questions(desk, cache="auto", **options))
    assert (job.cache.groups, job.cache.life) == (0, None)
    assert "cache_control" not in str(requests(desk, job))
    assert [path.name for path in desk.home.files(job.id).folder.glob("lea*")] == []


def test_a_prompt_without_a_column_is_refused_as_ever(office: Offices) -> None:
    desk = office("anthropic", cache=COLD)
    with pytest.raises(UsageError, match="names no column"):
        desk.submit(questions(desk, prompt="Say something.", cache="auto"))


def test_what_all_rows_share_is_kept_beside_what_some_share(office: Offices) -> None:
    asked: dict[str, Any] = {"system": SYSTEM, "prompt": "Read this.\n{document}\n{q}"}
    plain_desk = office("anthropic", cache=COLD)
    plain_desk.run(questions(plain_desk, **asked))
    desk = office("anthropic", cache=COLD)
    job = desk.submit(questions(desk, cache="auto", **asked))
    assert job.cache.shared > 1024
    assert (job.cache.groups, job.cache.first) == (8, 8)
    report = desk.work(job)
    desk.assert_sound(report)
    assert report.cost is not None
    assert report.cache_saved is not None
    plain = plain_desk.meter()["picodollars"]
    assert 0 <= plain - report.cost - report.cache_saved <= 200 * 1_500_000
    assert report.cost < 0.3 * plain


@pytest.mark.parametrize("hit_rate", [1.0, 0.8])
def test_what_a_cache_did_for_one_job_is_known_for_the_next(office: Offices, hit_rate: float) -> None:
    desk = office("anthropic", cache=CacheModel(within_batch=False, hit_rate=hit_rate))
    first = desk.run(questions(desk, 400, about="One", cache="auto"))
    report = desk.run(questions(desk, 400, about="Another", cache="auto"))
    plan = report.job.cache
    assert (first.job.cache.seen, plan.seen, plan.groups) == (False, True, 8)
    # Which rows find it is drawn anew each time: of 384 that may, so many, give or take five standard deviations.
    assert 1 - (plan.most - plan.saves) / (plan.most + plan.risk) == pytest.approx(hit_rate, abs=0.1)
    if hit_rate == 1:
        assert report.job.forecast.cost == pytest.approx(report.cost, rel=0.02)


def test_a_cache_that_was_cold_is_not_used_again(office: Offices) -> None:
    desk = office("anthropic", cache=CacheModel(within_batch=False, hit_rate=0.2))
    assert desk.run(questions(desk, about="One", cache="auto")).job.cache.groups == 8
    again = desk.run(questions(desk, about="Another", cache="auto"))
    assert again.job.cache.life is None
    assert again.job.forecast.cost == pytest.approx(again.cost, rel=0.02)


def test_a_job_under_way_reckons_with_the_cache_for_what_is_left_of_it(office: Offices) -> None:
    desk = office("anthropic", cache=COLD)
    desk.run(ask(desk, 100, system=f"First. {SYSTEM}", cache="auto"))
    job = desk.submit(ask(desk, 100, system=SYSTEM, cache="auto"))
    seen: list[int | None] = []
    with Service(desk.home) as service:

        def look(shard: Shard) -> None:
            if not shard.number and shard.state is State.DONE:
                seen.append(service.cost_forecast(job.id).cost)

        asyncio.run(service.run(job.id, on_step=look))
        paid = service.report(job.id).cost
    assert paid is not None
    assert seen[0] == pytest.approx(paid, rel=0.1)


def test_no_budget_counts_on_a_cache_that_was_never_seen_to_save(office: Offices) -> None:
    desk = office("anthropic", cache=COLD)
    with Service(desk.home) as service:
        draft = service.draft(questions(desk, cache="auto"))
        cost, saves = draft.job.forecast.cost, draft.job.cache.saves
        assert cost is not None
        assert sum(shard.stake or 0 for shard in draft.shards) == pytest.approx(cost + saves, abs=10)
        service.set_budget(Budget(name="", value="", period="day", stop=2 * cost))
        with pytest.raises(OverBudget, match="not counting on a cache that is new to this model"):
            service.submit(draft)
        service.set_budget(Budget(name="", value="", period="day", stop=(cost + saves) * 21 // 20))
    desk.run(questions(desk, about="One", cache="auto"))
    with Service(desk.home) as service:
        draft = service.draft(questions(desk, about="Another", cache="auto"))
        assert draft.job.cache.seen
        # A second one fits where it would not, were it to cost what rows do without a cache.
        service.submit(draft)
