"""Whatever is asked wrongly ends in one clear message, exit code 2, and nothing sent."""

import json
import os
import sqlite3
from pathlib import Path

import pytest

from halfrate.base.errors import StorageError

from .shell import Shell

PROMPT = ["--model", "openai/gpt-4.1-mini", "--prompt", "{q}"]


def refused(shell: Shell, *words: str, saying: tuple[str, ...], code: int = 2) -> str:
    """Run it; it must end with `code`, one short message that says all this, and nothing sent or kept."""
    ran = shell(*words)
    assert ran.code == code, ran.err
    for text in saying:
        assert text in ran.err
    assert ran.out == ""
    assert len(ran.err.strip().splitlines()) <= 6, ran.err
    assert shell.untouched()
    drafts = list((shell.home / "jobs").iterdir()) if (shell.home / "jobs").is_dir() else []
    assert drafts == []
    return ran.err


INPUTS: dict[str, tuple[str, str | bytes, tuple[str, ...]]] = {
    "malformed line": ("in.jsonl", '{"q":"a"}\n' * 6 + "{oops\n", ("in.jsonl, line 7", "Nothing was sent")),
    "half a line": ("in.jsonl", '{"q":"a"}\n{"q":', ("in.jsonl, line 2", "Nothing was sent")),
    "no object": ("in.jsonl", '{"q":"a"}\n[1]\n', ("in.jsonl, line 2", "Nothing was sent")),
    "missing column": ("in.jsonl", '{"q":"a"}\n{"p":"b"}\n', ("line 2", "'q'", "Nothing was sent")),
    "missing csv column": ("in.csv", "a,b\n1,2\n", ("in.csv", "'q'", "a, b", "Nothing was sent")),
    "empty value": (
        "in.jsonl",
        '{"q":"a"}\n{"q":""}\n',
        ("line 2", "'q'", "--allow-empty", "Nothing was sent"),
    ),
    "null value": ("in.jsonl", '{"q":null}\n', ("line 1", "'q'", "Nothing was sent")),
    "empty cell": ("in.csv", "q,n\nx,1\n,2\n", ("in.csv, line 3", "'q'", "Nothing was sent")),
    "ragged row": ("in.csv", "q,n\nx,1\ny,2,3\n", ("in.csv, line 3", "Nothing was sent")),
    "empty file": ("in.jsonl", "", ("in.jsonl has no rows", "Nothing was sent")),
    "empty csv": ("in.csv", "", ("in.csv", "Nothing was sent")),
    "header alone": ("in.csv", "q,n\n", ("in.csv has no rows", "Nothing was sent")),
    "blank lines": ("in.jsonl", "\n\n\n", ("in.jsonl has no rows", "Nothing was sent")),
    "an array": ("in.json", '[{"q":"a"}]', ("JSON array", "jq", "Nothing was sent")),
    "gzip": ("in.jsonl", b"\x1f\x8b\x08\x00rest", ("gzip", "Nothing was sent")),
    "a workbook": ("in.xlsx", b"PK\x03\x04rest", ("Excel", "Nothing was sent")),
    "utf-16": ("in.csv", "q\nx\n".encode("utf-16"), ("UTF-16", "Nothing was sent")),
    "latin-1": ("in.csv", b"q\ncaf\xe9\n", ("in.csv", "UTF-8", "Nothing was sent")),
    "no parquet": ("in.parquet", b"hello", ("not a Parquet file", "Nothing was sent")),
    "broken parquet": ("in.parquet", b"PAR1" + b"x" * 50, ("in.parquet", "Nothing was sent")),
    "other batch form": (
        "in.jsonl",
        '{"custom_id":"a","params":{"model":"m"}}\n',
        ("a list of Anthropic batch requests", "--prompt has no place"),
    ),
}


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_that_cannot_be_used(shell: Shell, name: str) -> None:
    file, content, saying = INPUTS[name]
    refused(shell, "run", shell.file(file, content), *PROMPT, saying=saying)


def test_a_missing_file_and_a_folder(shell: Shell) -> None:
    saying = ("No such file", "Nothing was sent")
    refused(shell, "run", shell.path("none.csv"), *PROMPT, saying=("none.csv", *saying))
    refused(shell, "run", str(shell.folder), *PROMPT, saying=("directory", "Nothing was sent"))


OPTIONS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "no model": (["--prompt", "{q}"], ("Which model?", "--model")),
    "no prompt": (["--model", "openai/gpt-4.1-mini"], ("--prompt",)),
    "blank prompt": (["--model", "openai/gpt-4.1-mini", "--prompt", " "], ("prompt is empty",)),
    "both prompts": ([*PROMPT, "--prompt-file", "p.txt"], ("--prompt-file", "not both")),
    "unknown provider": (["--model", "acme/x", "--prompt", "{q}"], ("'acme'", "There are anthropic, azure")),
    "no provider": (["--model", "gpt-4.1-mini", "--prompt", "{q}"], ("'gpt-4.1-mini'", "PROVIDER/MODEL")),
    "output ending": ([*PROMPT, "-o", "out.xlsx"], ("out.xlsx", ".jsonl, .csv or .parquet")),
    "output without ending": ([*PROMPT, "-o", "out"], ("out", ".jsonl, .csv or .parquet")),
    "output folder": ([*PROMPT, "-o", "no/such/out.csv"], ("no/such", "does not exist", "Nothing was sent")),
    "output is a folder": ([*PROMPT, "-o", "home.csv"], ("home.csv", "is a folder", "Nothing was sent")),
    "raw as csv": ([*PROMPT, "--raw", "-o", "out.csv"], ("--raw", ".jsonl")),
    "schema missing": ([*PROMPT, "--schema", "no.json"], ("no.json", "No such file", "Nothing was sent")),
    "schema not JSON": ([*PROMPT, "--schema", "rows.jsonl"], ("rows.jsonl", "not JSON", "Nothing was sent")),
    "schema none": ([*PROMPT, "--schema", "data.json"], ("data.json", "no schema", "Nothing was sent")),
    "schema list": ([*PROMPT, "--schema", "list.json"], ("list.json", "JSON object", "Nothing was sent")),
    "schema invalid": (
        [*PROMPT, "--schema", "bad.json"],
        ("bad.json", "no valid schema", "Nothing was sent"),
    ),
    "prompt file missing": (
        ["--model", "openai/gpt-4.1-mini", "--prompt-file", "no.txt"],
        ("no.txt", "No such file", "Nothing was sent"),
    ),
    "temperature": ([*PROMPT, "--temperature", "7"], ("--temperature", "0<=x<=2")),
    "max-tokens": ([*PROMPT, "--max-tokens", "many"], ("--max-tokens", "many")),
    "max-tokens zero": ([*PROMPT, "--max-tokens", "0"], ("--max-tokens", "x>=1")),
    "attempts": ([*PROMPT, "--attempts", "0"], ("--attempts", "1<=x<=20")),
    "endpoint": ([*PROMPT, "--endpoint", "images"], ("--endpoint", "images")),
    "endpoint of another": ([*PROMPT, "--endpoint", "messages"], ("OpenAI", "'messages'", "chat")),
    "param": ([*PROMPT, "--param", "top_p"], ("--param", "NAME=VALUE")),
    "tag": ([*PROMPT, "--tag", "team"], ("--tag", "NAME=VALUE")),
    "max-cost": ([*PROMPT, "--max-cost", "lots"], ("--max-cost", "'lots'")),
    "max-cost nan": ([*PROMPT, "--max-cost", "nan"], ("--max-cost", "'nan'")),
    "deadline": ([*PROMPT, "--deadline", "soon"], ("8h, 90m, 06:00", "'soon'", "Nothing was sent")),
    "deadline past": ([*PROMPT, "--deadline", "2020-01-01"], ("past", "Nothing was sent")),
    "deadline 25:00": ([*PROMPT, "--deadline", "25:00"], ("'25:00'", "Nothing was sent")),
    "deadline beyond time": ([*PROMPT, "--deadline", "9999999999999d"], ("Nothing was sent",)),
    "deadline before time": ([*PROMPT, "--deadline", "0001-01-01T00:00:00+14:00"], ("Nothing was sent",)),
    "unknown option": ([*PROMPT, "--fast"], ("--fast",)),
    "id column": ([*PROMPT, "--id", "name"], ("'name'", "Nothing was sent")),
    "embeddings with system": (
        ["--model", "openai/text-embedding-3-small", "--prompt", "{q}", "--system", "x"],
        ("Embeddings take no --system",),
    ),
    "no text": (["--model", "openai/gpt-4.1-mini", "--prompt", "\udcff{q}"], ("Nothing was sent",)),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_that_cannot_be_obeyed(shell: Shell, name: str) -> None:
    words, saying = OPTIONS[name]
    (shell.folder / "home.csv").mkdir()
    shell.file("data.json", '{"answer": 42}')
    shell.file("list.json", "[1]")
    shell.file("bad.json", '{"type": "objekt"}')
    shell.file("p.txt", "{q}")
    refused(shell, "run", shell.table(3), *words, saying=saying)


def test_a_prompt_has_no_place_beside_a_batch_file(shell: Shell) -> None:
    line = {
        "custom_id": "a",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "gpt-4.1-mini"},
    }
    native = shell.file("batch.jsonl", json.dumps(line) + "\n")
    refused(shell, "run", native, *PROMPT, saying=("--prompt", "has no place"))
    refused(shell, "run", native, "--max-tokens", "5", saying=("--max-tokens", "has no place"))


def test_the_key(shell: Shell) -> None:
    table = shell.table(3)
    del shell.env["OPENAI_API_KEY"]
    shell.env["OPENAI_API_KEY"] = " "
    refused(shell, "run", table, *PROMPT, saying=("no key for OpenAI", "OPENAI_API_KEY", "halfrate emulate"))
    shell.env["OPENAI_API_KEY"] = "sk-with space"
    error = refused(shell, "run", table, *PROMPT, saying=("OPENAI_API_KEY", "characters that no key has"))
    assert "sk-with" not in error


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "ftp://example.com",
        "http://",
        "http://user:secret@127.0.0.1/v1",
        "http://127.0.0.1:port/v1",
    ],
)
def test_a_base_url_that_is_none(shell: Shell, url: str) -> None:
    shell.env["OPENAI_BASE_URL"] = url
    error = refused(shell, "run", shell.table(3), *PROMPT, saying=("OpenAI", "URL"))
    assert "secret" not in error


def test_a_home_that_cannot_be(shell: Shell) -> None:
    shell.env["HALFRATE_HOME"] = str(Path(shell.file("regular", "file")) / "home")
    refused(shell, "run", shell.table(3), *PROMPT, saying=("regular", "HALFRATE_HOME", "Nothing was sent"))


def test_a_setting_that_is_no_number(shell: Shell) -> None:
    shell.env["HALFRATE_SETTLE"] = "soon"
    refused(shell, "run", shell.table(3), *PROMPT, saying=("HALFRATE_SETTLE", "'soon'"))
    shell.env["HALFRATE_SETTLE"] = "-1"
    refused(shell, "run", shell.table(3), *PROMPT, saying=("HALFRATE_SETTLE", "-1"))


def test_a_database_from_a_newer_version(shell: Shell) -> None:
    assert shell("jobs").code == 0
    connection = sqlite3.connect(shell.home / "halfrate.db")
    connection.execute("INSERT INTO migration (number, name, applied_at) VALUES (999, 'later', 0)")
    connection.commit()
    connection.close()
    for words in (["run", shell.table(3), *PROMPT], ["jobs"]):
        refused(shell, *words, saying=("newer halfrate", "999", "nothing was changed"), code=1)


@pytest.mark.parametrize("command", ["status", "attach", "results", "retry", "cancel", "cost"])
def test_a_job_that_there_is_not(shell: Shell, command: str) -> None:
    for name in ("nosuchjob0", "%", ""):
        refused(shell, command, name, saying=("There is no job", "halfrate jobs"))


def test_commands_that_there_are_not(shell: Shell) -> None:
    refused(shell, "runn", saying=("runn",))
    refused(shell, "run", saying=("INPUT",))
    refused(shell, "emulate", "--fault", "no-such-fault", saying=("--fault", "no-such-fault"))


def test_a_full_disk_before_anything_is_recorded(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from halfrate.store.store import Store

    def full(*_: object, **__: object) -> None:
        raise StorageError("The database is full. Nothing was changed.")

    monkeypatch.setattr(Store, "add_job", full)
    refused(shell, "run", shell.table(3), *PROMPT, saying=("database is full",), code=1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only to show that root is told as well")
def test_a_file_in_the_way_of_the_home(shell: Shell) -> None:
    (shell.home).mkdir()
    (shell.home / "workers").write_text("in the way")
    ran = shell("jobs")
    assert ran.code in {1, 2}
    assert "workers" in ran.err
