"""`halfrate reconcile`, as somebody at a terminal uses it: after real runs against an emulator, with its bills."""

import csv
import io
import json
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from halfrate.cli import app

from .shell import KEY, MODELS, Shell

ADMIN = "sk-admin-marked-77c1d0e9"
TODAY = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86_400))
"""Yesterday, that midnight between two lines may do no harm."""


@pytest.fixture(autouse=True)
def registered(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        app._COMMANDS, "reconcile", ("reconcile", "Compare the providers' bills with the ledger.")
    )
    shell.env["XDG_CONFIG_HOME"] = str(tmp_path / "config")
    shell.env["OPENAI_ADMIN_KEY"] = shell.env["ANTHROPIC_ADMIN_KEY"] = ADMIN


@pytest.fixture
def worked(shell: Shell) -> Shell:
    """A shell in which a job ran at each of two providers."""
    for provider in MODELS:
        ran = shell.run(shell.table(5), "-y", "-o", f"{provider}.jsonl", provider=provider)
        assert ran.code == 0, ran.err
    return shell


def fetch(shell: Shell, method: str, path: str, body: object = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(f"{shell.url}{path}", data, method=method)) as response:  # noqa: S310 - the emulator's
        return response.read()


def export(shell: Shell, name: str) -> str:
    return shell.file(name, fetch(shell, "GET", f"/emulator/exports/{name}"))


def plant(shell: Shell, *specs: str) -> list[dict[str, Any]]:
    raw = fetch(shell, "POST", "/emulator/exports/discrepancies", {"plant": list(specs)})
    return json.loads(raw)["planted"]


# ---------------------------------------------------------------- when all agrees


def test_all_agrees_and_the_code_is_0(worked: Shell) -> None:
    ran = worked("reconcile", export(worked, "openai-costs.csv"))
    assert ran.code == 0
    assert ran.out.splitlines()[0] == "openai-costs.csv: OpenAI costs, 2 lines"
    assert ran.out.splitlines()[-1].startswith("All agrees, within 0.5%: 1 amount, $")
    assert "anthropic too, and no bill of theirs was given" in ran.out


def test_live_reports_agree(worked: Shell) -> None:
    for more in ((), ("--tokens",)):
        # Sixty days are nine pages.
        ran = worked("reconcile", "--live", "openai", "--live", "anthropic", "--since", "60d", *more)
        assert (ran.code, "All agrees" in ran.out) == (0, True), ran.out + ran.err


def test_what_was_run_in_one_country_agrees(shell: Shell) -> None:
    where = ("--model", "anthropic/claude-sonnet-4-6", "--param", "inference_geo=us")
    assert shell("run", shell.table(5), "--prompt", "{q}", "-y", *where).code == 0
    for more in ((), ("--tokens",)):
        ran = shell("reconcile", "--live", "anthropic", "--since", "2d", *more)
        assert (ran.code, "All agrees" in ran.out) == (0, True), ran.out + ran.err


def test_what_agrees_is_shown_on_request(worked: Shell) -> None:
    ran = worked("reconcile", export(worked, "openai-usage.csv"), "--all")
    assert "agreed: on the bill and in the ledger, the same" in ran.out
    assert "openai/gpt-4.1-mini" in ran.out


def test_nothing_at_all_agrees_as_well(shell: Shell) -> None:
    ran = shell("reconcile", "--live", "openai")
    assert (ran.code, ran.out.splitlines()[-1]) == (
        0,
        "Nothing was billed in that time, and nothing is in the ledger.",
    )


# ---------------------------------------------------------------- when it does not


def test_what_does_not_agree_is_told_and_the_code_is_3(worked: Shell) -> None:
    (mistake,) = plant(worked, "standard-price:provider=openai")
    ran = worked("reconcile", export(worked, "openai-costs.csv"))
    assert ran.code == 3
    assert "discount missing: done in a batch, billed at the price of real time" in ran.out
    assert "at the price of real time; " in ran.out.split("off by")[1]
    last = ran.out.splitlines()[-1]
    assert last.startswith("1 amount does not agree, 0 do: $")
    assert last.endswith("more than the ledger has was billed.")
    found = worked("reconcile", export(worked, "openai-costs.csv"), "--json").object
    (one,) = found["findings"]
    assert round(float(one["off_usd"]) * 10**12) == mistake["picodollars"]
    jobs = [line["job"] for line in json.loads(worked("jobs", "--json").out)]
    assert (len(one["names"]), one["names"][0] in jobs) == (1, True)


def test_the_object_says_it_all(worked: Shell) -> None:
    plant(worked, "fee:provider=anthropic", "missing:provider=anthropic")
    ran = worked("reconcile", "--live", "anthropic", "--since", TODAY, "--json")
    assert ran.code == 3
    found = ran.object
    assert (found["agrees"], found["tolerance"], found["days_slack"]) == (False, 0.005, 1)
    assert found["since"] == TODAY
    assert set(found["sums"]) == {"fee", "not billed"}
    assert found["providers_without_a_bill"] == ["openai"]
    assert [source["form"] for source in found["sources"]] == ["Anthropic costs"]
    verdicts = {one["verdict"]: one for one in found["findings"]}
    assert verdicts["not billed"]["billed_usd"] == "0"
    assert verdicts["fee"]["fee"] in {"web search", "code execution"}


def test_a_file_of_findings(worked: Shell) -> None:
    plant(worked, "duplicate:provider=openai")
    bill = export(worked, "openai-costs.csv")
    ran = worked("reconcile", bill, "-o", worked.path("found.csv"))
    assert (ran.code, ran.out.count("\n")) == (3, 1)
    (row,) = csv.DictReader(io.StringIO(Path(worked.path("found.csv")).read_text()))
    assert (row["verdict"], row["provider"], row["model"]) == ("billed twice", "openai", "gpt-4.1-mini")
    assert worked("reconcile", bill, "--format", "csv").out == Path(worked.path("found.csv")).read_text()
    ran = worked("reconcile", bill, "-o", worked.path("nowhere/found.csv"))
    assert (ran.code, "cannot be written" in ran.err) == (2, True)


def test_the_tolerance_decides(worked: Shell) -> None:
    (mistake,) = plant(worked, "amount:of=money,provider=openai")
    bill = export(worked, "openai-usage.csv")
    assert worked("reconcile", bill).code == 0  # its tokens are the same
    bill = export(worked, "openai-costs.csv")
    assert worked("reconcile", bill).code == 3
    ran = worked("reconcile", bill, "--tolerance", f"{mistake['percent']}%")
    assert (ran.code, f"within {mistake['percent']}%" in ran.out) == (0, True)


def test_one_account_alone(worked: Shell) -> None:
    plant(worked, "stranger:provider=openai")
    bill = export(worked, "openai-costs.csv")
    assert worked("reconcile", bill).code == 3
    head, *rows = csv.reader(io.StringIO(Path(bill).read_text()))
    ours = next(
        row[head.index("project_id")] for row in rows if "gpt-4.1-mini-2025-04-14, batch" in ",".join(row)
    )
    ran = worked("reconcile", bill, "--account", f"openai={ours}")
    assert (ran.code, "lines of other projects were passed over" in ran.out) == (0, True)


# ---------------------------------------------------------------- wrong use


def test_wrong_use_is_code_2(worked: Shell) -> None:
    bill = export(worked, "openai-costs.csv")
    for words, said in (
        ((), "Name an export"),
        (("--tokens", bill), "--tokens goes with --live"),
        (("missing.csv",), "cannot be read"),
        ((bill, bill), "given twice"),
        ((bill, "--tolerance", "much"), "no share"),
        ((bill, "--since", "yesterday"), "no time"),
        ((bill, "--since", "2026-02-01", "--until", "2026-01-01"), "not before"),
        ((bill, "--account", "nobody"), "no account 'nobody'"),
        ((bill, "--account", "="), "--account takes"),
        ((bill, "--days-slack", "30"), "days-slack"),
        (("--live", "groq"), "groq"),
    ):
        ran = worked("reconcile", *words)
        assert (ran.code, ran.out) == (2, ""), words
        assert said in ran.err, ran.err


def test_a_broken_bill_is_named_and_nothing_is_said_of_it(worked: Shell) -> None:
    bill = worked.file("costs.csv", "start_time,amount_value,line_item\n1789948800,abc,x\n")
    ran = worked("reconcile", bill)
    assert (ran.code, ran.out) == (2, "")
    assert "costs.csv, line 2: amount says 'abc', which is no amount. Nothing was compared." in ran.err


# ---------------------------------------------------------------- keys


def test_without_an_admin_key_a_file_is_asked_for(worked: Shell) -> None:
    worked.env["OPENAI_ADMIN_KEY"] = ""
    ran = worked("reconcile", "--live", "openai")
    assert (ran.code, "Set OPENAI_ADMIN_KEY" in ran.err) == (2, True)


def test_an_ordinary_key_is_refused_and_no_key_is_repeated(worked: Shell) -> None:
    for provider, variable in (("openai", "OPENAI_ADMIN_KEY"), ("anthropic", "ANTHROPIC_ADMIN_KEY")):
        worked.env[variable] = KEY
        ran = worked("reconcile", "--live", provider)
        assert (ran.code, ran.out) == (1, "")
        assert f"{variable} has to hold an admin key" in ran.err
        assert KEY not in ran.err


def test_a_provider_that_cannot_be_reached(worked: Shell) -> None:
    worked.env["OPENAI_BASE_URL"] = "http://127.0.0.1:9/v1"
    ran = worked("reconcile", "--live", "openai")
    assert (ran.code, "cannot be reached at 127.0.0.1:9" in ran.err) == (1, True)
    for url in ("nonsense", "http://user:secret@127.0.0.1:9/v1"):
        worked.env["OPENAI_BASE_URL"] = url
        ran = worked("reconcile", "--live", "openai")
        assert (ran.code, "secret" in ran.err) == (2, False)
