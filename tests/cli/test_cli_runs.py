"""Whole runs by the command: what goes in, what comes out, what it says, and how it ends."""

import csv
import http.client
import io
import json
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from halfrate.emulator import fingerprint
from halfrate.rows.collect import COLUMNS

from .shell import MODELS, Shell

Shells = Callable[..., Shell]
BOTH = pytest.mark.parametrize("provider", ["openai", "anthropic"])
QUESTIONS = ["What is 1, 2?", 'a "quoted" one', "zwei\nZeilen", "日本語"]


def input_file(shell: Shell, ending: str) -> str:
    table = {"id": ["a", "b", "c", "d"], "q": QUESTIONS}
    if ending == "parquet":
        path = shell.path("in.parquet")
        pq.write_table(pa.table(table), path)
        return path
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    if ending == "jsonl":
        return shell.file("in.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    text = io.StringIO()
    writer = csv.DictWriter(text, ["id", "q"], delimiter="\t" if ending == "tsv" else ",")
    writer.writeheader()
    writer.writerows(rows)
    return shell.file(f"in.{ending}", text.getvalue())


def output_rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    return [json.loads(line) for line in path.read_text().split("\n") if line]


@pytest.mark.parametrize("out", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet"])
def test_every_format_in_and_out(shell: Shell, ending: str, out: str) -> None:
    ran = shell.run(input_file(shell, ending), "-o", f"out.{out}", "--json")
    assert ran.code == 0, ran.err
    report = ran.object
    assert report["succeeded"] == report["rows"] == 4
    rows = output_rows(shell.folder / f"out.{out}")
    assert [row["q"] for row in rows] == QUESTIONS
    assert list(rows[0]) == ["id", "q", *COLUMNS]
    assert all(row["answer"] and row["status"] == "succeeded" and not row["error"] for row in rows)
    meter = shell.meter()
    spent = sum(Decimal(str(row["cost_usd"])) for row in rows) * 10**12
    assert spent == meter["picodollars"] == Decimal(report["cost_usd"]) * 10**12
    assert sum(int(row["input_tokens"]) for row in rows) == meter["tokens"]["input"] == report["input_tokens"]
    assert (
        sum(int(row["output_tokens"]) for row in rows) == meter["tokens"]["output"] == report["output_tokens"]
    )
    assert meter["fingerprints_billed"] == 4
    assert (
        [path.name for path in shell.folder.glob("*.tmp")]
        == [path.name for path in shell.folder.glob(".*.tmp")]
        == []
    )


def test_where_nothing_is_said_the_output_stands_here(shell: Shell) -> None:
    for ending in ("csv", "parquet"):
        name = shell.run(input_file(shell, ending), "--json").object["output"]
        assert Path(name).suffix == f".{ending}"
        assert len(output_rows(shell.folder / name)) == 4


def test_our_columns_give_way_to_the_inputs(shell: Shell) -> None:
    table = shell.file("in.csv", "q,answer,model\nx,mine,mine too\n")
    assert shell.run(table, "-o", "out.csv").code == 0
    [row] = output_rows(shell.folder / "out.csv")
    assert (row["answer"], row["model"]) == ("mine", "mine too")
    assert row["halfrate_answer"]
    assert row["halfrate_model"].startswith("gpt-4.1-mini")
    assert row["status"] == "succeeded"


@BOTH
def test_a_schema_makes_answers_objects(shell: Shell, provider: str) -> None:
    schema = {
        "type": "object",
        "properties": {"mood": {"enum": ["good", "bad"]}, "sure": {"type": "number"}},
        "required": ["mood", "sure"],
    }
    shell.file("schema.json", json.dumps(schema))
    ran = shell.run(shell.table(5), "--schema", "schema.json", "-o", "out.jsonl", "--json", provider=provider)
    assert ran.code == 0, ran.err
    for row in shell.rows("out.jsonl"):
        assert row["answer"]["mood"] in {"good", "bad"}
        assert isinstance(row["answer"]["sure"], int | float)


def native_lines(provider: str) -> tuple[str, list[dict[str, Any]]]:
    """A batch file of the provider's, spelt as no encoder of ours would, and its bodies."""
    if provider == "openai":
        body = '{"messages" : [{"role":"user","content":"n\\u00ba %d \\/ x"}],   "model": "gpt-4.1-mini", "seed":1.50}'
        shape = '{"custom_id": "my id %d", "method": "POST", "url": "/v1/chat/completions", "body": %s}'
    else:
        body = (
            '{"max_tokens" : 20,"messages": [{"content":"n\\u00ba %d \\/ x","role":"user"}], '
            '"model":"claude-haiku-4-5"}'
        )
        shape = '{"custom_id": "my-id-%d", "params": %s}'
    bodies = [body % n for n in range(4)]
    text = "".join(shape % (n, body) + "\n" for n, body in enumerate(bodies))
    return text, [json.loads(body) for body in bodies]


@BOTH
def test_a_batch_file_is_run_as_it_is(shell: Shell, provider: str) -> None:
    text, bodies = native_lines(provider)
    ran = shell("run", shell.file("batch.jsonl", text), "-o", "out.jsonl", "--json")
    assert ran.code == 0, ran.err
    assert set(shell.meter()["billed_by_fingerprint"]) == {fingerprint(body) for body in bodies}
    rows = shell.rows("out.jsonl")
    assert [row["custom_id"] for row in rows] == [json.loads(line)["custom_id"] for line in text.splitlines()]
    assert "body" not in rows[0]


@BOTH
def test_its_bodies_reach_the_provider_byte_for_byte(shells: Shells, provider: str) -> None:
    # Held up, so that the request file is still there to be looked at.
    shell = shells("batch-stuck:seconds=600")
    text, _ = native_lines(provider)
    ran = shell("run", shell.file("batch.jsonl", text), "--detach", "--json")
    assert ran.code == 0, ran.err
    [sent] = (shell.home / "jobs" / ran.object["job"]).glob("requests-*")
    content = sent.read_text()
    if provider == "openai":
        # What was uploaded is the provider's to show.
        there = urlsplit(shell.url)
        connection = http.client.HTTPConnection(there.hostname or "", there.port)

        def get(path: str) -> bytes:
            connection.request(
                "GET", path, headers={"Authorization": f"Bearer {shell.env['OPENAI_API_KEY']}"}
            )
            return connection.getresponse().read()

        [file] = json.loads(get("/v1/files"))["data"]
        assert get(f"/v1/files/{file['id']}/content").decode() == content
        connection.close()
    for line in text.splitlines():
        body = line.partition('"body": ' if provider == "openai" else '"params": ')[2][:-1]
        assert content.count(body) == 1


@BOTH
def test_raw_gives_the_providers_own_objects_under_the_users_ids(shells: Shells, provider: str) -> None:
    shell = shells("row-error:match=2 /,status=400,sticky=true")
    text, _ = native_lines(provider)
    text = text.replace("\\/ x", "/ x")
    ran = shell("run", shell.file("batch.jsonl", text), "--raw", "-o", "raw.jsonl", "--json")
    assert ran.code == 3, ran.err
    rows = shell.rows("raw.jsonl")
    assert [row["custom_id"] for row in rows] == [json.loads(line)["custom_id"] for line in text.splitlines()]
    if provider == "openai":
        assert [row["response"]["status_code"] for row in rows] == [200, 200, 400, 200]
        assert rows[0]["response"]["body"]["object"] == "chat.completion"
    else:
        assert [row["result"]["type"] for row in rows] == ["succeeded", "succeeded", "errored", "succeeded"]
        assert rows[0]["result"]["message"]["type"] == "message"


def test_raw_takes_its_ids_from_a_column(shell: Shell) -> None:
    report = shell.run(input_file(shell, "csv"), "--raw", "--id", "id", "--json").object
    assert [row["custom_id"] for row in shell.rows(report["output"])] == ["a", "b", "c", "d"]


def test_a_job_that_was_asked_for_raw_is_raw_whoever_ends_it(shell: Shell) -> None:
    job = shell.run(input_file(shell, "csv"), "--raw", "--id", "id", "--detach", "--json").object["job"]
    ended = shell("attach", job, "--json").object["output"]
    assert ended.endswith("answers.raw.jsonl")
    assert [row["custom_id"] for row in shell.rows(ended)] == ["a", "b", "c", "d"]
    # Asked for elsewhere, it is written as it is asked for there.
    shell("results", job, "-o", "table.jsonl")
    assert [row["status"] for row in shell.rows("table.jsonl")] == ["succeeded"] * 4


def test_standard_input(shell: Shell) -> None:
    words = ("run", "-", "--model", MODELS["openai"], "--prompt", "{q}", "--json")
    process = shell.start(*words, stdin=-1)
    ran = shell.finish(process, input='{"q": "one"}\n{"q": "two"}\n')
    assert ran.code == 0, ran.err
    assert [row["q"] for row in shell.rows(ran.object["output"])] == ["one", "two"]
    empty = shell.finish(shell.start(*words, stdin=-1), input="")
    assert empty.code == 2
    assert "standard input has no rows" in empty.err


def test_without_standard_input_or_output(shell: Shell) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", None)
        assert shell.run(shell.table(2)).code == 0
        ran = shell.run("-")
    assert ran.code == 2
    assert "no standard input" in ran.err


def test_what_is_said_on_the_way(shell: Shell) -> None:
    ran = shell.run(shell.table(6), "-o", "out.jsonl")
    assert ran.code == 0
    assert ran.out == ""
    assert "\x1b" not in ran.err
    for text in (
        "6 rows of rows.jsonl for openai/gpt-4.1-mini, in 1 batch",
        "in real time",
        "6 of 6 rows answered",
    ):
        assert text in ran.err
    assert "Paid $" in ran.err
    assert "saved" in ran.err
    assert "Written to out.jsonl" in ran.err


@BOTH
def test_failed_rows_make_exit_code_3_with_reasons_and_a_way_on(shells: Shells, provider: str) -> None:
    shell = shells("row-error:match=What is 3,status=400,sticky=true")
    ran = shell.run(shell.table(6), "-o", "out.csv", provider=provider)
    assert ran.code == 3
    assert "5 of 6 rows answered" in ran.err
    assert "1 failed:" in ran.err
    assert "1 x " in ran.err
    job = shell("jobs", "--json")
    [listed] = json.loads(job.out)
    assert f"halfrate retry {listed['job']}     sends the other row again" in ran.err
    rows = output_rows(shell.folder / "out.csv")
    assert [row["status"] for row in rows].count("failed") == 1
    assert rows[3]["error"]
    # The cause is gone: the one row goes again, and no other.
    shell.emulator.clear_faults()
    again = shell("retry", listed["job"], "--json")
    assert again.code == 0
    assert again.object["succeeded"] == 6
    assert shell.meter()["fingerprints_billed_again"] == 0
    assert Decimal(again.object["cost_usd"]) * 10**12 == shell.meter()["picodollars"]
    nothing = shell("retry", listed["job"], "--json")
    assert nothing.code == 0
    assert nothing.object["succeeded"] == 6
    assert "every row succeeded" in nothing.err


@BOTH
def test_an_unknown_model(shell: Shell, provider: str) -> None:
    table = shell.table(4)
    ran = shell(
        "run", table, "--model", f"{provider}/none-such-9", "--prompt", "{q}", "-o", "out.jsonl", "--json"
    )
    assert ran.code == 3, ran.err
    assert ran.object["failed"] == 4
    assert "none-such-9" in ran.object["errors"][0]["error"]
    assert shell.meter()["picodollars"] == 0
    said = shell("status", ran.object["job"])
    assert "4 failed" in said.out


@BOTH
def test_a_key_that_is_refused(shell: Shell, provider: str) -> None:
    shell.env[f"{provider.upper()}_API_KEY"] = "sk-invalid-0123456789"
    ran = shell.run(shell.table(3), "--json", provider=provider)
    assert ran.code == 2
    assert "401" in ran.err
    assert "sk-invalid-0123456789" not in ran.err + ran.out
    assert "Nothing of job" in ran.err
    assert ran.object["waiting"] == 3
    job = ran.object["job"]
    assert f"halfrate attach {job}" in ran.err
    assert shell.meter()["batches_created"] == 0
    # With a good one it goes on from there.
    shell.env[f"{provider.upper()}_API_KEY"] = "sk-good"
    assert shell("attach", job, "-o", "out.jsonl", "--json").object["succeeded"] == 3


@BOTH
def test_a_create_that_is_refused_for_good(shells: Shells, provider: str) -> None:
    shell = shells("create-refused:times=9,status=400")
    for words in (["--detach"], []):
        ran = shell.run(shell.table(3), "-o", "out.jsonl", "--json", *words, provider=provider)
        assert ran.code == 2, ran.err
        report = ran.object
        assert (report["failed"], report["waiting"], report["succeeded"]) == (3, 0, 0)
        assert report["state"] == "stopped"
        assert report["stopped"]
        assert all(row["status"] == "failed" and "400" in row["error"] for row in shell.rows("out.jsonl"))
    said = shell("attach", report["job"])
    assert "Stopped: " in said.err
    assert f"halfrate retry {report['job']}" in said.err
    shell.emulator.clear_faults()
    again = shell("retry", report["job"], "-o", "out.jsonl", "--json")
    assert again.code == 0, again.err
    assert shell.meter()["files_stored"] == 0
    assert shell.meter()["fingerprints_billed"] == 3
    assert shell.meter()["fingerprints_billed_again"] == 0


def test_max_cost(shell: Shell) -> None:
    table = shell.table(50)
    over = shell.run(table, "--max-cost", "0.000001", "--max-tokens", "1000")
    assert over.code == 2
    assert "could cost up to $0.04" in over.err
    assert "$0.000001 of --max-cost" in over.err
    assert "Nothing was sent" in over.err
    words = ("run", table, "--model", "openai/gpt-unpriced-1", "--prompt", "{q}", "--max-cost", "5")
    unknown = shell(*words)
    assert unknown.code == 2
    assert "price of gpt-unpriced-1 is unknown" in unknown.err
    assert shell.untouched()
    assert list((shell.home / "jobs").iterdir()) == []
    assert shell.run(table, "--max-cost", "$1").code == 0


def test_detach_then_attach(shells: Shells) -> None:
    shell = shells("batch-stuck:seconds=600")
    table = shell.table(6)
    left = shell.run(table, "-o", "out.jsonl", "--detach")
    assert left.code == 0
    assert "1 batch of job" in left.err
    assert "halfrate attach" in left.err
    assert not (shell.folder / "out.jsonl").exists()
    [job] = [found["job"] for found in json.loads(shell("jobs", "--json").out)]
    status = json.loads(shell("status", job, "--json").out)
    assert status["waiting"] == 6
    assert status["batches"][0]["batch_id"]
    # Looking mid-way: every row says that it is still to come.
    midway = shell("results", job, "--json")
    assert midway.code == 3
    assert midway.object["waiting"] == 6
    assert {row["status"] for row in shell.rows("out.jsonl")} == {"waiting"}
    assert "still to come" in shell("results", job).err
    nothing = shell("retry", job)
    assert nothing.code == 0
    assert "still on their way" in nothing.err
    shell.hurry()
    (shell.folder / "elsewhere").mkdir()
    shell.folder = shell.folder / "elsewhere"
    done = shell("attach", job[:4], "--json")
    assert done.code == 0, done.err
    assert done.object["succeeded"] == 6
    assert Path(done.object["output"]) == shell.folder.parent / "out.jsonl"
    assert shell.meter()["batches_created"] == 1


def test_the_same_command_again_goes_on_and_new_starts_another(shells: Shells) -> None:
    shell = shells("batch-stuck:seconds=600")
    table = shell.table(6)
    first = shell.run(table, "--detach", "--json").object["job"]
    second = shell.run(table, "--detach")
    assert f"unfinished job {first}" in second.err
    assert "--new" in second.err
    assert shell.meter()["batches_created"] == 1
    other = shell.run(table, "--detach", "--new", "--json").object["job"]
    assert other != first
    assert shell.meter()["batches_created"] == 2
    third = shell("run", table, "--model", MODELS["openai"], "--prompt", "Again: {q}", "--detach", "--json")
    assert third.object["job"] not in {first, other}


@BOTH
def test_cancel(shells: Shells, provider: str) -> None:
    shell = shells("batch-stuck:seconds=600")
    job = shell.run(shell.table(6), "--detach", "--json", provider=provider).object["job"]
    ran = shell("cancel", job, "-o", "out.jsonl", "--json")
    assert ran.code == 3, ran.err
    assert ran.object["state"] == "cancelled"
    assert ran.object["cancelled"] == 6
    assert {row["status"] for row in shell.rows("out.jsonl")} == {"cancelled"}
    assert shell.meter()["picodollars"] == 0
    again = shell("cancel", job, "--json")
    assert again.code == 0
    assert again.object["cancelled"] == 6
    assert "nothing that could be cancelled" in again.err


def test_cancelled_before_anything_was_sent(shell: Shell) -> None:
    shell.env["OPENAI_API_KEY"] = "sk-invalid-0123456789"
    job = shell.run(shell.table(3), "--json").object["job"]
    ran = shell("cancel", job, "-o", "out.jsonl", "--json")
    assert ran.object["cancelled"] == 3, ran.err
    assert shell.meter()["rows_received"] == 0


def test_looking_at_jobs_and_costs(shell: Shell) -> None:
    assert "No jobs yet" in shell("jobs").out
    assert json.loads(shell("jobs", "--json").out) == []
    assert "Nothing was paid yet" in shell("cost").out
    one = shell.run(shell.table(3), "--tag", "team=search", "--tag", "x=1", "--json").object
    two = shell.run(shell.table(4), "--tag", "team=ads", "--json", provider="anthropic").object
    three = shell.run(shell.table(5), "--json").object
    meter = shell.meter()
    assert one["tags"] == {"team": "search", "x": "1"}

    def lines(*words: str) -> dict[str, Any]:
        found = json.loads(shell("cost", *words, "--json").out)
        return {" ".join(line["by"].values()): line for line in found}

    by_job = lines()
    assert {key: line["cost_usd"] for key, line in by_job.items()} == {
        job["job"]: job["cost_usd"] for job in (one, two, three)
    }
    assert sum(Decimal(line["cost_usd"]) for line in by_job.values()) * 10**12 == meter["picodollars"]
    by_team = lines("--by", "team")
    assert {key: line["rows"] for key, line in by_team.items()} == {"search": 3, "ads": 4, "(none)": 5}
    assert by_team["ads"]["cost_usd"] == two["cost_usd"]
    assert {line["rows"] for line in lines("--by", "model").values()} == {8, 4}
    assert len(lines("--by", "account")) == 2
    assert len(lines(one["job"], "--by", "team")) == 1
    assert lines("--by", "team", "--by", "provider")["ads anthropic"]["rows"] == 4
    assert lines("--by", "team, provider,") == lines("--by", "team", "--by", "provider")
    assert lines("--since", "1d", "--by", "kind").keys() == {"rows"}
    assert lines("--since", "2999-01-01") == {}
    assert lines("--until", "2020-01-01") == {}
    assert "in that time" in shell("cost", "--since", "2999-01-01").out
    table = shell("cost", "--by", "team").out
    assert "search" in table
    assert "all" in table
    assert "Paid $" in shell("cost", one["job"]).out
    assert shell("cost", "--by", "team", "-o", "costs.parquet").code == 0
    kept = pq.read_table(shell.folder / "costs.parquet").to_pylist()
    assert {row["team"]: row["cost_usd"] for row in kept} == {
        team: Decimal(line["cost_usd"]) for team, line in by_team.items()
    }
    comma = csv.DictReader(io.StringIO(shell("cost", "--by", "team", "--format", "csv").out))
    assert {row["team"]: row["saved_usd"] for row in comma} == {
        team: line["saved_usd"] for team, line in by_team.items()
    }
    assert shell("cost", "-o", "nowhere/costs.csv").code == 2
    for when in ("lately", f"{'9' * 400}d", "2026-02-30"):
        assert "2w" in shell("cost", "--since", when).err
    listed = json.loads(shell("jobs", "--json").out)
    assert [job["job"] for job in listed] == [three["job"], two["job"], one["job"]]
    assert one["job"] in shell("jobs", "-n", "3").out
    assert one["job"] not in shell("jobs", "-n", "1").out
    said = shell("status", one["job"]).out
    assert "team=search" in said
    assert "3 of 3 rows answered" in said


def test_a_prefix_that_several_jobs_have(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from halfrate.service import drafts

    names = iter(["abc1000000", "abc2000000"])
    monkeypatch.setattr(drafts, "new_job_id", lambda: next(names))
    for rows in (2, 3):
        assert shell.run(shell.table(rows)).code == 0
    ran = shell("status", "abc")
    assert ran.code == 2
    assert "abc1000000, abc2000000" in ran.err
    assert shell("status", "ABC1").code == 0


def test_a_job_belongs_to_the_place_that_its_batches_are_at(shells: Shells) -> None:
    shell = shells("batch-stuck:seconds=600")
    job = shell.run(shell.table(2), "--detach", "--json").object["job"]
    url = shell.env["OPENAI_BASE_URL"]
    shell.env["OPENAI_BASE_URL"] = "http://127.0.0.1:9/v1"
    ran = shell("attach", job)
    assert ran.code == 2
    assert f"Set OPENAI_BASE_URL={url}" in ran.err


def test_an_output_that_cannot_be_written_any_more(shells: Shells) -> None:
    shell = shells("batch-stuck:seconds=600")
    (shell.folder / "sub").mkdir()
    job = shell.run(shell.table(2), "-o", "sub/out.jsonl", "--detach", "--json").object["job"]
    (shell.folder / "sub").rmdir()
    shell.hurry()
    ran = shell("attach", job, "--json")
    assert ran.code == 2
    assert "answers are kept" in ran.err
    assert ran.object["succeeded"] == 2
    assert shell("attach", job, "-o", "out.jsonl").code == 0
    assert shell.meter()["batches_created"] == 1


def test_prompt_file_params_and_endpoints(shell: Shell) -> None:
    prompt = shell.file("prompt.txt", "Tell me: {q}")
    words = (
        "--model",
        MODELS["openai"],
        "--prompt-file",
        prompt,
        "--param",
        "top_p=0.5",
        "--param",
        "user=me",
    )
    assert shell("run", shell.table(2), *words, "--endpoint", "responses", "--temperature", "0.5").code == 0
    body = {
        "model": "gpt-4.1-mini",
        "input": "Tell me: What is 1?",
        "temperature": 0.5,
        "top_p": 0.5,
        "user": "me",
    }
    assert fingerprint(body) in shell.meter()["billed_by_fingerprint"]
    words = ("--model", "openai/text-embedding-3-small", "--prompt", "{q}", "-o", "vectors.jsonl")
    ran = shell("run", shell.table(2), *words, "--json")
    assert ran.code == 0, ran.err
    assert all(isinstance(row["answer"], list) for row in shell.rows("vectors.jsonl"))
