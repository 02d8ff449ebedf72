"""The Python API against an emulator: what comes back, what is refused, and what it cost."""

import asyncio
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel, field_validator

import halfrate
from halfrate.base.types import JobPrices
from halfrate.emulator import Emulator, Pace, ScaledClock
from halfrate.service.home import Home
from halfrate.service.jobs import Service

OPENAI = "openai/gpt-4.1-mini"
ANTHROPIC = "anthropic/claude-haiku-4-5"
BOTH = pytest.mark.parametrize("model", [OPENAI, ANTHROPIC])
ROWS = [{"n": n, "q": f"What is {n}?"} for n in range(6)]


class Desk:
    """An emulator that the environment points to."""

    def __init__(self, emulator: Emulator, clock: ScaledClock, home: Path) -> None:
        self.emulator = emulator
        self.clock = clock
        self.home = home

    def meter(self) -> dict[str, Any]:
        return self.emulator.meter.snapshot(ids=True)

    def untouched(self) -> bool:
        meter = self.meter()
        return not any(meter[name] for name in ("rows_received", "creates_received", "files_stored"))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    clock = ScaledClock()
    with Emulator(seed=1, clock=clock, pace=Pace.instant()) as emulator, emulator.running() as url:
        for name, value in {
            "HALFRATE_HOME": str(tmp_path / "home"),
            "HALFRATE_SETTLE": "0.5",
            "HALFRATE_POLL_FIRST": "0.02",
            "HALFRATE_POLL_MOST": "0.1",
            "HALFRATE_BACKOFF_FIRST": "0.02",
            "OPENAI_BASE_URL": emulator.openai_base_url(url),
            "OPENAI_API_KEY": "key-1",
            "ANTHROPIC_BASE_URL": emulator.anthropic_base_url(url),
            "ANTHROPIC_API_KEY": "key-1",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        yield Desk(emulator, clock, tmp_path / "home")


@BOTH
def test_rows_in_results_out(desk: Desk, model: str) -> None:
    results = halfrate.run(ROWS, model=model, prompt="{q}", system="Be brief.", max_tokens=50)
    found = list(results)
    assert len(results) == len(found) == results.succeeded == 6
    assert [result.row for result in found] == list(range(6))
    assert all(result.ok and isinstance(result.answer, str) and result.error is None for result in found)
    assert [result.answer for result in results] == results.answers()
    meter = desk.meter()
    assert results.cost == Decimal(meter["picodollars"]) / 10**12
    assert results.cost == sum((result.cost or Decimal(0) for result in found), Decimal(0))
    assert results.cost is not None
    assert results.realtime_cost == results.cost * 2
    assert (
        results.usage.input == meter["tokens"]["input"] == sum(result.input_tokens or 0 for result in found)
    )
    assert results.usage.output == meter["tokens"]["output"]
    assert results.errors == {}
    assert "6 of 6 rows answered" in repr(results)
    assert repr(results.job) == f"<Job {results.job.id}>"
    assert meter["fingerprints_billed"] == 6


def _sources(folder: Path) -> dict[str, Any]:
    path = folder / "rows.csv"
    path.write_text("n,q\n" + "".join(f"{row['n']},{row['q']}\n" for row in ROWS))
    return {
        "generator": (row for row in ROWS),
        "path": path,
        "path as text": str(path),
        "pandas": pd.DataFrame(ROWS),
        "polars": pl.DataFrame(ROWS),
        "pyarrow": pa.Table.from_pylist(ROWS),
    }


@pytest.mark.parametrize("kind", ["generator", "path", "path as text", "pandas", "polars", "pyarrow"])
def test_rows_of_every_kind(desk: Desk, tmp_path: Path, kind: str) -> None:
    results = halfrate.run(_sources(tmp_path)[kind], model=OPENAI, prompt="{q}")
    table = results.to_arrow().to_pylist()
    assert [str(row["n"]) for row in table] == [str(row["n"]) for row in ROWS]
    assert [row["answer"] for row in table] == results.answers()
    assert desk.meter()["fingerprints_billed"] == 6


def test_rows_from_duckdb(desk: Desk) -> None:
    duckdb = pytest.importorskip("duckdb")
    table = duckdb.sql("SELECT 'What is ' || range || '?' AS q FROM range(4)")
    assert halfrate.run(table, model=OPENAI, prompt="{q}").succeeded == 4


def test_results_as_tables_and_files(desk: Desk, tmp_path: Path) -> None:
    results = halfrate.run(ROWS, model=OPENAI, prompt="{q}")
    frame = results.to_pandas()
    assert list(frame["answer"]) == results.answers()
    assert list(frame.columns)[:2] == ["n", "q"]
    assert results.to_polars()["answer"].to_list() == results.answers()
    assert pl.DataFrame(results)["status"].to_list() == ["succeeded"] * 6
    assert pq.read_table(results.write(tmp_path / "out.parquet")).num_rows == 6
    lines = results.write(str(tmp_path / "out.jsonl")).read_text().splitlines()
    assert [json.loads(line)["n"] for line in lines] == list(range(6))
    with pytest.raises(halfrate.UsageError, match="ending"):
        results.write(tmp_path / "out.xlsx")
    with pytest.raises(halfrate.UsageError, match="does not exist"):
        results.write(tmp_path / "no" / "out.csv")
    assert desk.meter()["batches_created"] == 1


class Mood(BaseModel):
    mood: Literal["good", "bad"]
    score: int


class Picky(BaseModel):
    """Rejects what a schema cannot express."""

    mood: Literal["good", "bad"]

    @field_validator("mood")
    @classmethod
    def not_bad(cls, mood: str) -> str:
        if mood == "bad":
            raise ValueError("only good moods here")
        return mood


@BOTH
def test_a_model_class_brings_instances(desk: Desk, model: str) -> None:
    results = halfrate.run(ROWS, model=model, prompt="{q}", output=Mood)
    assert all(isinstance(answer, Mood) for answer in results.answers())
    # From another process, or another day: the class is given again.
    again = halfrate.job(results.job.id, output=Mood).finish()
    assert again.answers() == results.answers()
    plain = halfrate.job(results.job.id[:6]).finish()
    assert plain.answers() == [answer.model_dump() for answer in results.answers()]
    assert desk.meter()["batches_created"] == 1


def test_answers_that_the_model_class_rejects_are_failed_rows_tried_again(desk: Desk) -> None:
    rows = [{"q": f"How is number {n}?"} for n in range(12)]
    results = halfrate.run(rows, model=OPENAI, prompt="{q}", output=Picky, attempts=2)
    found = list(results)
    failed = [result for result in found if not result.ok]
    assert failed, "the emulator's answers changed: give it other questions"
    assert results.succeeded == 12 - len(failed) > 0
    assert all(result.answer is None and "only good moods" in (result.error or "") for result in failed)
    assert all(isinstance(result.answer, Picky) for result in found if result.ok)
    assert sum(results.errors.values()) == len(failed)
    meter = desk.meter()
    # The emulator answers the same body the same way: they were asked for twice, and were paid for twice.
    assert meter["rows_billed"] == 12 + len(failed)
    assert results.cost == Decimal(meter["picodollars"]) / 10**12


def test_a_json_schema(desk: Desk) -> None:
    schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}
    results = halfrate.run(ROWS, model=OPENAI, prompt="{q}", output=schema)
    assert all(isinstance(answer["yes"], bool) for answer in results.answers())


def test_answers_cut_off_fail_and_say_why(desk: Desk) -> None:
    desk.emulator.add_fault("row-truncated:match=What is 2,times=1")
    results = halfrate.run(ROWS, model=OPENAI, prompt="{q}", output=Mood, attempts=1)
    assert [result.ok for result in results] == [True, True, False, True, True, True]
    [reason] = results.errors
    assert reason


def test_failed_rows_do_not_raise_and_retry_mends_them(desk: Desk) -> None:
    desk.emulator.add_fault("row-error:match=What is 3,status=400,sticky=true")
    results = halfrate.run(ROWS, model=OPENAI, prompt="{q}")
    failed = list(results)[3]
    assert (failed.ok, failed.status, failed.answer, failed.cost) == (False, "failed", None, Decimal(0))
    assert results.errors == {failed.error: 1}
    desk.emulator.clear_faults()
    assert results.job.retry().succeeded == 6
    assert desk.meter()["fingerprints_billed_again"] == 0


def test_the_async_twins(desk: Desk) -> None:
    async def work() -> list[Any]:
        results = await halfrate.arun(ROWS, model=OPENAI, prompt="{q}")
        job = await halfrate.asubmit(ROWS, model=ANTHROPIC, prompt="{q}")
        both = await asyncio.gather(job.afinish(), halfrate.arun(ROWS[:2], model=OPENAI, prompt="Two: {q}"))
        return [results, *both]

    assert [results.succeeded for results in asyncio.run(work())] == [6, 6, 2]
    assert desk.meter()["batches_created"] == 3


def test_the_plain_ones_work_inside_a_running_loop(desk: Desk) -> None:
    async def cell() -> tuple[int, int]:
        results = halfrate.run(ROWS, model=OPENAI, prompt="{q}")
        job = halfrate.submit(ROWS[:3], model=OPENAI, prompt="{q}")
        with pytest.raises(halfrate.UsageError):
            halfrate.run([], model=OPENAI, prompt="{q}")
        return results.succeeded, job.finish().succeeded

    assert asyncio.run(cell()) == (6, 3)
    assert desk.meter()["batches_created"] == 2


def test_submit_and_come_back_from_another_process(desk: Desk) -> None:
    desk.emulator.add_fault("batch-stuck:seconds=600")
    job = halfrate.submit(ROWS, model=OPENAI, prompt="{q}")
    assert not job.done
    assert job.report().waiting == 6
    assert desk.meter()["batches_created"] == 1
    desk.emulator.clear_faults()
    desk.clock.advance(3600)
    code = (
        "import halfrate, sys\n"
        "results = halfrate.job(sys.argv[1]).finish()\n"
        "print(results.succeeded, results.cost)"
    )
    command = [sys.executable, "-c", code, job.id]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert job.done
    assert ran.stdout.split() == ["6", str(job.finish().cost)]
    assert desk.meter()["batches_created"] == 1


def test_cancel(desk: Desk) -> None:
    desk.emulator.add_fault("batch-stuck:seconds=600")
    job = halfrate.submit(ROWS, model=OPENAI, prompt="{q}")
    results = job.cancel()
    assert results.succeeded == 0
    assert {result.status for result in results} == {"cancelled"}
    assert job.done
    assert desk.meter()["picodollars"] == 0


def test_the_same_call_goes_on_with_what_is_unfinished(desk: Desk) -> None:
    desk.emulator.add_fault("batch-stuck:seconds=600")
    first = halfrate.submit(ROWS, model=OPENAI, prompt="{q}")
    assert halfrate.submit(ROWS, model=OPENAI, prompt="{q}").id == first.id
    assert halfrate.submit(ROWS, model=OPENAI, prompt="{q}", new=True).id != first.id
    assert desk.meter()["batches_created"] == 2


def test_tags_stand_in_the_ledger(desk: Desk) -> None:
    costs = {
        team: halfrate.run(ROWS[:size], model=OPENAI, prompt="{q}", tags={"team": team}).cost
        for team, size in {"search": 2, "ads": 4}.items()
    }
    with Service(Home(root=desk.home)) as service:
        lines = {line.keys[0]: Decimal(line.cost or 0) / 10**12 for line in service.costs(by=["team"])}
    assert lines == costs


def test_a_home_of_its_own(desk: Desk, tmp_path: Path) -> None:
    results = halfrate.run(ROWS, model=OPENAI, prompt="{q}", home=tmp_path / "other")
    assert results.answers()
    assert (tmp_path / "other" / "halfrate.db").exists()
    with pytest.raises(halfrate.UsageError, match="no job"):
        halfrate.job(results.job.id)
    assert halfrate.job(results.job.id, home=str(tmp_path / "other")).done


def test_other_endpoints(desk: Desk) -> None:
    vectors = halfrate.run(ROWS, model="openai/text-embedding-3-small", prompt="{q}")
    assert all(isinstance(answer, list) and answer for answer in vectors.answers())
    told = halfrate.run(ROWS, model=OPENAI, prompt="{q}", endpoint="responses", output=Mood)
    assert all(isinstance(answer, Mood) for answer in told.answers())
    assert (vectors.cost or 0) + (told.cost or 0) == Decimal(desk.meter()["picodollars"]) / 10**12


def test_a_batch_file(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "batch.jsonl"
    body = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "Hi"}]}
    path.write_text(
        json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}) + "\n"
    )
    assert halfrate.run(path).succeeded == 1
    assert desk.meter()["rows_billed"] == 1


def test_an_unknown_price_is_none_and_never_zero(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    drafts = importlib.import_module("halfrate.service.drafts")
    unknown = JobPrices({"gpt-4.1-mini": None}, {"gpt-4.1-mini": None})

    def prices(*_: object) -> JobPrices:
        return unknown

    monkeypatch.setattr(drafts, "job_prices", prices)
    results = halfrate.run(ROWS, model=OPENAI, prompt="{q}")
    assert results.succeeded == 6
    assert results.cost is None
    assert results.realtime_cost is None
    assert {result.cost for result in results} == {None}


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no rows": ([], {}, "no rows"),
    "no rows from a generator": (iter(()), {}, "no rows"),
    "an empty frame": (pd.DataFrame({"q": []}), {}, "no rows"),
    "not mappings": (["text"], {}, r"rows\[0\] is a str"),
    "a number": (5, {}, "rows is a int"),
    "one mapping": ({"q": "x"}, {}, r"rows\[0\] is a str"),
    "no file": ("none.csv", {}, "none.csv cannot be read"),
    "missing column": ([{"q": "x"}, {"p": "y"}], {}, "row 2|line 2"),
    "empty value": ([{"q": ""}], {}, "'q' is empty"),
    "no JSON": ([{"q": object()}], {}, r"rows\[0\]"),
    "no model": (ROWS, {"model": None}, "Which model"),
    "bad model": (ROWS, {"model": "gpt"}, "PROVIDER/MODEL"),
    "model no text": (ROWS, {"model": 5}, "model"),
    "no provider": (ROWS, {"model": "acme/x"}, "acme"),
    "no prompt": (ROWS, {"prompt": None}, "What shall be asked"),
    "output no schema": (ROWS, {"output": {"a": 1}}, "no schema"),
    "output a class": (ROWS, {"output": str}, "schema"),
    "output text": (ROWS, {"output": "json"}, "schema"),
    "deadline": (ROWS, {"deadline": "soon"}, "deadline"),
    "endpoint": (ROWS, {"endpoint": "messages"}, "messages"),
    "unknown option": (ROWS, {"max_token": 5}, "max_token"),
    "attempts": (ROWS, {"attempts": 0}, "attempts"),
    "small tails": (ROWS, {"small_tails": "retry"}, "small_tails"),
    "a budget": (ROWS, {"over_budget": ["wait"]}, "over_budget"),
    "a cache": (ROWS, {"cache": {"ttl": "1h"}}, "cache"),
    "max_tokens": (ROWS, {"max_tokens": -1}, "max_tokens"),
    "max_tokens text": (ROWS, {"max_tokens": "5"}, "max_tokens"),
    "temperature": (ROWS, {"temperature": 9}, "temperature"),
    "max_cost text": (ROWS, {"max_cost": "much"}, "max_cost"),
    "max_cost nan": (ROWS, {"max_cost": float("nan")}, "max_cost"),
    "max_cost": (ROWS, {"max_cost": 0.0000001}, "could cost up to"),
    "max_cost unknown": (ROWS, {"model": "openai/unpriced", "max_cost": 1}, "unknown"),
    "tags": (ROWS, {"tags": ["a"]}, "tags"),
    "params": (ROWS, {"params": "a=1"}, "params"),
    "param no JSON": (ROWS, {"params": {"a": object()}}, "params|JSON"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_is_refused_with_nothing_sent(desk: Desk, name: str) -> None:
    rows, wrong, saying = WRONG[name]
    options: dict[str, Any] = {"model": OPENAI, "prompt": "{q}", **wrong}
    with pytest.raises(halfrate.UsageError, match=saying) as refused:
        halfrate.run(rows, **options)
    assert isinstance(refused.value, halfrate.HalfrateError)
    assert desk.untouched()
    assert not desk.home.exists() or list((desk.home / "jobs").glob("*")) == []


def test_what_a_fault_in_the_input_says_to_code(desk: Desk) -> None:
    with pytest.raises(halfrate.InputError) as refused:
        halfrate.run([{"q": "x"}, {"q": None}], model=OPENAI, prompt="{q}")
    assert (refused.value.row, refused.value.column) == (1, "q")
    assert desk.untouched()


def test_an_error_of_the_callers_own_rows_comes_through(desk: Desk) -> None:
    def rows() -> Iterator[dict[str, str]]:
        yield {"q": "x"}
        raise RuntimeError("the database went away")

    with pytest.raises(RuntimeError, match="went away"):
        halfrate.run(rows(), model=OPENAI, prompt="{q}")
    assert desk.untouched()
    assert list((desk.home / "jobs").glob("*")) == []


def test_a_key_that_is_missing_or_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "")
    with pytest.raises(halfrate.SettingsError, match="OPENAI_API_KEY"):
        halfrate.run(ROWS, model=OPENAI, prompt="{q}")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-invalid")
    with pytest.raises(halfrate.Refused, match="401") as refused:
        halfrate.run(ROWS, model=OPENAI, prompt="{q}")
    assert refused.value.credentials
    assert desk.untouched()


def test_jobs_by_name(desk: Desk) -> None:
    for name in ("none", ""):
        with pytest.raises(halfrate.UsageError, match="no job"):
            halfrate.job(name)
