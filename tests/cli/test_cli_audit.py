"""`halfrate audit`, as somebody at a terminal asks for it."""

import base64
import gzip
import hashlib
import html.parser
import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from halfrate.base.errors import HalfrateError
from halfrate.cli.audit import audit

from ..usage.workloads import WORKLOADS, events, gateway, litellm

HOSTILE = "<script>alert(1)</script>\"'|`*[x](https://evil.example)@team\x1b[2J\u202e"

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    month = list(events(11, 0.34))
    gateway(month, folder / "gateway.jsonl")
    litellm(month, folder / "spend.csv")
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("HALFRATE_SETTINGS", raising=False)
    monkeypatch.chdir(tmp_path)

    def invoke(*words: Any) -> Result:
        # Standalone mode would turn the project's own errors into something else than the command does.
        return CliRunner().invoke(audit, [str(word) for word in words], standalone_mode=False)

    return invoke


def good(result: Result) -> str:
    assert result.exception is None, result.exception
    assert result.return_value == 0
    return result.stdout


def log_of(folder: Path, *jobs: str, **more: Any) -> Path:
    """A small log with a job of each name."""
    path = folder / "small.jsonl"
    rows = [
        {
            "time": f"2026-10-{1 + n % 28:02d}T{n % 24:02d}:00:00Z",
            "model": "openai/gpt-4.1",
            "job": job,
            "input_tokens": 100_000,
            "output_tokens": 2000,
            **more,
        }
        for n in range(60)
        for job in jobs
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# ---------------------------------------------------------------- on a terminal


def test_groups_are_sorted_by_spend_with_verdicts_and_reasons(run: Run, logs: Path) -> None:
    out = good(run(logs / "gateway.jsonl"))
    lines = out.splitlines()
    assert " calls of " in lines[0]
    jobs = {one.job for one in WORKLOADS}
    rows = [line for line in lines if line.split("  ")[0].strip() in jobs and not line.startswith(" ")]
    assert len(rows) == 12
    spends = [float(re.findall(r"\$([\d,.]+)", row)[0].replace(",", "")) for row in rows]
    assert spends == sorted(spends, reverse=True)
    assert "    Each call waits for the one before it" in out
    assert "batches would save $" in out
    assert all(len(line) <= 110 for line in lines)


def test_groups_can_be_chosen_cut_and_put_together(run: Run, logs: Path) -> None:
    out = good(run(logs / "gateway.jsonl", "--by", "team", "--by", "model", "--top", 2))
    assert "Grouped by team and model." in out
    assert "more groups, $" in out
    assert "platform" in out
    assert "community" not in out


def test_an_assumption_is_shown_as_one(run: Run, logs: Path) -> None:
    assert "assumption" not in good(run(logs / "gateway.jsonl"))
    out = good(run(logs / "gateway.jsonl", "--rest-saving", "40%..70%"))
    assert "If the rest saved 40% to 70% another way, which is an assumption" in out
    assert "routing, if so" in out


def test_several_logs_packed_or_not_are_one(run: Run, logs: Path, tmp_path: Path) -> None:
    lines = (logs / "gateway.jsonl").read_bytes().splitlines(keepends=True)
    halves = tmp_path / "a.jsonl.gz", tmp_path / "b.log"
    halves[0].write_bytes(gzip.compress(b"".join(lines[: len(lines) // 2])))
    halves[1].write_bytes(b"".join(lines[len(lines) // 2 :]))
    whole, parts = (json.loads(good(run(*words, "--json"))) for words in ([logs / "gateway.jsonl"], halves))
    assert whole["groups"] == parts["groups"]
    assert [one["format"] for one in parts["logs"]] == ["halfrate's gateway log"] * 2


def test_a_part_of_the_time_can_be_looked_at(run: Run, logs: Path) -> None:
    found = json.loads(
        good(run(logs / "gateway.jsonl", "--since", "2026-10-10", "--until", "2026-10-20", "--json"))
    )
    assert found["first"] >= "2026-10-10"
    assert found["last"] < "2026-10-20"
    assert 9.9 < found["days"] <= 10
    with pytest.raises(HalfrateError, match="of the time that was asked for"):
        raise run(logs / "gateway.jsonl", "--since", "2027-01-01").exception or AssertionError


def test_a_log_may_come_by_a_pipe(logs: Path) -> None:
    data = (logs / "spend.csv").read_bytes()
    result = CliRunner().invoke(audit, ["-", "--json"], input=data, standalone_mode=False)
    assert json.loads(good(result))["logs"][0]["format"] == "LiteLLM spend log"


# ---------------------------------------------------------------- for programs


def test_the_object_has_every_figure_exactly(run: Run, logs: Path) -> None:
    found = json.loads(good(run(logs / "spend.csv", "--format", "json", "--rest-saving", "50%")))
    assert found["by"] == ["job"]
    assert found["calls"] == sum(group["calls"] for group in found["groups"])
    spend = sum(Decimal(group["month"]["spend_usd"]) for group in found["groups"])
    assert spend == Decimal(found["month"]["spend_usd"])
    now = [group for group in found["groups"] if group["verdict"] == "batch now"]
    assert {group["by"]["job"] for group in now} == {"nightly-labels", "weekly-eval", "embeddings-backfill"}
    saved = sum(Decimal(group["month"]["batch_saves_usd"]) for group in now)
    assert abs(saved - Decimal(found["month"]["batch_now"]["batch_saves_usd"])) < Decimal("1e-9")
    assert len(found["groups"][0]["week"]) == 7
    low, high = map(Decimal, found["month"]["rest_saved_usd"])
    assert low == high > 0


# ---------------------------------------------------------------- files


class _Page(html.parser.HTMLParser):
    """Everything in a page that could do something."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.policy = ""
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        found = dict(attrs)
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"] or ""
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page_of(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    assert page.open == []
    return page


def test_the_page_stands_by_itself(run: Run, logs: Path, tmp_path: Path) -> None:
    out = run(logs / "gateway.jsonl", "-o", "audit.html", "--rest-saving", "40%..70%")
    assert good(out) == ""
    assert "Written to audit.html" in out.stderr
    page = page_of(tmp_path / "audit.html")
    assert set(page.tags) <= {
        *(
            "html",
            "head",
            "meta",
            "title",
            "style",
            "body",
            "h1",
            "h2",
            "h3",
            "p",
            "div",
            "span",
            "b",
            "ul",
            "li",
        ),
        *("table", "thead", "tbody", "tr", "th", "td", "svg", "rect", "text"),
    }
    assert not page.attributes & {"src", "href", "style", "onclick", "onload", "action"}
    assert page.policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in page.policy
    raw = (tmp_path / "audit.html").read_text()
    assert not re.search(r"https?:|url\(|@import|<script", raw)
    # One bar at least for each group, and a heat map for each.
    assert raw.count('class="map"') == 12
    assert page.tags.count("svg") == 12 + 2 + 4


def test_the_style_sheet_is_the_one_that_the_policy_allows(run: Run, logs: Path, tmp_path: Path) -> None:
    good(run(logs / "gateway.jsonl", "--format", "html", "-o", "x"))
    raw = (tmp_path / "x").read_text(encoding="utf-8")
    style = raw.split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"sha256-{digest}" in page_of(tmp_path / "x").policy
    assert "prefers-color-scheme: dark" in style


def test_hostile_names_do_nothing_anywhere(run: Run, tmp_path: Path) -> None:
    path = log_of(tmp_path, HOSTILE, "harmless")
    for form in ("table", "markdown", "html", "json"):
        out = good(run(path, "--format", form))
        assert "\x1b" not in out
        assert "\u202e" not in out
    page = tmp_path / "p.html"
    good(run(path, "-o", page))
    assert "script" not in page_of(page).tags
    assert any("<script>" in text for text in page_of(page).text)
    marked = good(run(path, "--format", "markdown"))
    # Without what is escaped, nothing of the name is left that could be markup, a mention or an address.
    bare = re.sub(r"\\.", "", marked)
    assert "alert(1)" in bare
    assert not re.search(r"[<>@]|\]\(|://|`", bare)


def test_markdown_is_tables_and_lists(run: Run, logs: Path, tmp_path: Path) -> None:
    good(run(logs / "spend.csv", "-o", "audit.md"))
    text = (tmp_path / "audit.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({row.replace("\\|", "").count("|") for row in rows[:14]}) == 1
    assert "- **nightly-labels**: batch now. It comes in runs" in text


# ---------------------------------------------------------------- prices


def test_what_the_book_does_not_know_is_the_logs_own_or_unknown(run: Run, tmp_path: Path) -> None:
    path = log_of(tmp_path, "a", model="house/llm-7", cost_usd=0.5)
    out = good(run(path))
    assert "*" in out
    assert "does not know house/llm-7" in out
    found = json.loads(good(run(path, "--json")))
    (group,) = found["groups"]
    assert group["spend_usd"] == "30"
    assert group["month"]["batch_saves_usd"] is None
    unknown = good(run(log_of(tmp_path, "a", model="house/llm-7")))
    assert "unknown" in unknown
    assert "$0.00" not in unknown.split("calls of")[1].split("does not know")[0]


def test_the_price_is_that_of_the_day(run: Run, tmp_path: Path) -> None:
    """Claude Sonnet 4.6 had a dearer rate for long requests until 2026-03-12."""
    common = {"model": "claude-sonnet-4-6", "input_tokens": 300_000, "output_tokens": 0}
    path = tmp_path / "days.jsonl"
    spends: list[float] = []
    for day in ("2026-03-12", "2026-03-13"):
        path.write_text(json.dumps({"time": f"{day}T12:00:00Z", **common}) + "\n")
        spends.append(float(json.loads(good(run(path, "--json")))["groups"][0]["spend_usd"]))
    assert spends == [1.8, 0.9]


def test_bills_are_set_beside_calls_and_not_added(run: Run, logs: Path, tmp_path: Path) -> None:
    bill = {
        "object": "page",
        "data": [
            {
                "object": "bucket",
                "start_time": 1790812800 + 86400 * day,
                "end_time": 1790812800 + 86400 * (day + 1),
                "results": [
                    {"object": "organization.costs.result", "amount": {"value": 2.0}, "line_item": "x"}
                ],
            }
            for day in range(30)
        ],
    }
    path = tmp_path / "costs.json"
    path.write_text(json.dumps(bill))
    alone = json.loads(good(run(logs / "gateway.jsonl", "--json")))
    both = json.loads(good(run(logs / "gateway.jsonl", path, "--json")))
    assert both["month"]["spend_usd"] == alone["month"]["spend_usd"]
    assert 59 < float(both["month"]["bills_usd"]) < 61
    only = good(run(path))
    assert "the export holds money alone" in only.lower()
    assert "$60.00" in only


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--by", "cost-centre"), "has a tag 'cost-centre'"),
        (("--since", "yesterday"), "is no time"),
        (("--rest-saving", "140%"), "no range"),
        (("--top", "0"), "would show nothing"),
        (("--format", "pdf"), "pdf"),
    ],
)
def test_mistakes_are_answered(words: tuple[str, ...], said: str, run: Run, logs: Path) -> None:
    error = run(logs / "gateway.jsonl", *words).exception
    assert isinstance(error, (HalfrateError, click.ClickException))
    shown = error.format_message() if isinstance(error, click.ClickException) else str(error)
    assert said in shown


def test_a_place_that_cannot_be_written_is_told(run: Run, logs: Path) -> None:
    error = run(logs / "gateway.jsonl", "-o", "/nonexistent/audit.html").exception
    assert isinstance(error, HalfrateError)
    assert "The logs are untouched" in str(error)


def test_broken_rows_are_told_beside_the_figures(run: Run, tmp_path: Path) -> None:
    path = log_of(tmp_path, "a")
    path.write_text(path.read_text() + '{"time": \n')
    out = good(run(path))
    # Lines are broken where they are full, and how long the name of the file is differs.
    assert "1 of 61 rows could not be read" in " ".join(out.split())
    assert "line 61" in out
