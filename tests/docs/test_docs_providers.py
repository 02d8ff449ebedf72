"""Every provider has its page: its command is one, its variables are the record's, and so is the table of them all."""

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from halfrate.base.types import Capabilities
from halfrate.cli.app import app
from halfrate.emulator import Emulator, Pace
from halfrate.providers.accounts import load_settings
from halfrate.providers.registry import adapter_class, provider_names

from .pages import ROOT, anchors, text_of

INDEX = text_of("docs/providers/README.md")
FOLDER = ROOT / "docs" / "providers"
HEADINGS = ("set-up", "limits", "windows-and-options", "price", "when-results-are-deleted", "real-time")
NEED_MORE = {"bedrock", "vertex"}
"""Their commands want a bucket first, which is not for this test to make; so their pages have parts of their own."""

# Those that come with halfrate, not with somebody's settings file or packages.
NAMES = [
    name
    for name in provider_names()
    if name not in load_settings().providers and adapter_class(name).__module__.startswith("halfrate.")
]
every = pytest.mark.parametrize("name", NAMES)
most = pytest.mark.parametrize("name", [name for name in NAMES if name not in NEED_MORE])


def facts_of(name: str) -> Capabilities:
    return adapter_class(name).capabilities


def page_of(name: str) -> str:
    path = FOLDER / f"{name}.md"
    assert path.exists(), f"{name} is registered, and has no page: write docs/providers/{name}.md"
    return path.read_text(encoding="utf-8")


def command_of(page: str) -> list[str]:
    """The words of the first `halfrate run` that stands in a block of code."""
    for block in re.findall(r"^```console\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").split("\n"):
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words[:2] == ["halfrate", "run"]:
                return words[2:]
    raise AssertionError("there is no `halfrate run` on the page")


def parsed(words: list[str]) -> click.Context:
    """A command line as the real command takes it. Raises click.UsageError."""
    command = app.get_command(click.Context(app), "run")
    assert command is not None
    return command.make_context("run", list(words))


@every
def test_there_is_a_page(name: str) -> None:
    assert page_of(name).startswith("# ")


@most
def test_the_page_has_all_its_parts(name: str) -> None:
    missing = [head for head in HEADINGS if head not in anchors(page_of(name))]
    assert missing == []


def test_there_is_no_page_of_what_is_no_provider() -> None:
    pages = {path.stem for path in FOLDER.glob("*.md")} - {"README"}
    assert pages - set(NAMES) - NEED_MORE == set()


@every
def test_the_command_is_one_for_that_provider(name: str) -> None:
    context = parsed(command_of(page_of(name)))
    assert context.params["model"].startswith(f"{name}/")
    known = {option.name: option.choices for option in facts_of(name).options}
    for pair in context.params["option"]:
        option, _, value = pair.partition("=")
        assert option in known
        assert not known[option] or value in known[option]


def test_a_command_that_is_none_is_found_out() -> None:
    with pytest.raises(click.UsageError):
        parsed(command_of("```console\n$ halfrate run rows.csv --modell openai/gpt-5\n```\n"))


@every
def test_the_variables_and_options_are_named(name: str) -> None:
    facts, page = facts_of(name), page_of(name)
    variables = [*facts.key_variables, facts.url_variable]
    for setting in facts.settings:
        variables += setting.variables
    missing = [variable for variable in variables if variable and f"`{variable}`" not in page]
    assert missing == []
    assert facts.default_url.split("{")[0] in page
    for option in facts.options:
        assert f"--option {option.name}=" in page
        assert [choice for choice in option.choices if choice not in page] == []


@most
def test_the_limits_are_the_records(name: str) -> None:
    facts, page = facts_of(name), page_of(name)
    if facts.batches:
        assert f"{facts.limits.rows:,}" in page
        assert f"{facts.limits.bytes // 1_000_000} MB" in page


def cells() -> dict[str, tuple[str, ...]]:
    """The index's table: what stands beside each provider."""
    rows = re.findall(r"^\| \[`([\w-]+)`\]\(([\w-]+)\.md\) \| (.*) \|$", INDEX, re.MULTILINE)
    assert all(name == page for name, page, _ in rows)
    found = {name: tuple(cell.strip() for cell in rest.split("|")) for name, _, rest in rows}
    assert len(found) == len(rows)
    return found


def shown(name: str, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What `halfrate providers NAME` prints."""
    app.main(["providers", name], standalone_mode=False)
    lines = (re.split(r"\s{2,}", line, maxsplit=1) for line in capsys.readouterr().out.split("\n"))
    return {line[0]: line[1] for line in lines if len(line) == 2}


@every
def test_the_index_says_what_the_record_says(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    facts = facts_of(name)
    windows = ", ".join(facts.windows) if facts.batches else "real time"
    found = shown(name, capsys)["found again by"] if facts.batches else "nothing: it has no batches"
    assert cells().get(name) == (", ".join(facts.endpoints), windows, facts.discount, found)


def test_the_index_names_nothing_else() -> None:
    assert set(cells()) - set(NAMES) - NEED_MORE == set()


@pytest.fixture(scope="module")
def emulator() -> Iterator[tuple[Emulator, str]]:
    with Emulator(pace=Pace.instant()) as made, made.running() as url:
        yield made, url


@most
def test_the_command_runs_as_it_is(
    name: str,
    emulator: tuple[Emulator, str],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made, url = emulator
    folder = tmp_path_factory.mktemp("newcomer")
    (folder / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(folder)
    for variables in made.environment(url).values():
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
    monkeypatch.setenv("OPENAI_COMPATIBLE_BASE_URL", Emulator.openai_base_url(url))
    monkeypatch.setenv("OPENAI_COMPATIBLE_API_KEY", "any")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    monkeypatch.setenv("HALFRATE_HOME", str(folder / "home"))
    monkeypatch.setenv("HALFRATE_POLL_FIRST", "0.02")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    words = command_of(page_of(name))
    assert app.main(["run", *words, "--yes"], standalone_mode=False) in {0, None}
    assert "300 of 300 rows answered" in capsys.readouterr().err
