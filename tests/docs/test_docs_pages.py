"""Links lead somewhere, tables say what the code says, and nothing of the workshop is left lying about."""

import re
from pathlib import Path

import click
import pytest

import halfrate
from halfrate.cli.app import app
from halfrate.core.lifecycle import State, transitions
from halfrate.rows.collect import COLUMNS
from halfrate.service.home import Timing

from .pages import PAGES, anchors, named, text_of, without_code

REFERENCE = text_of("docs/reference.md")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_resolve(page: Path) -> None:
    broken: list[str] = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text(encoding="utf-8"))):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    assert broken == []


def test_the_table_of_states_is_the_table() -> None:
    part = text_of("docs/why.md").split("<!-- lifecycle: begin -->")[1].split("<!-- lifecycle: end -->")[0]
    rows = re.findall(r"^\| `(\w+)` \|[^|]+\| (.*) \|$", part, re.MULTILINE)
    documented = {State(state): tuple(re.findall(r"`(\w+)`", events)) for state, events in rows}
    assert documented == transitions()


def _section(heading: str, level: str) -> str:
    after = re.split(rf"^{level} {re.escape(heading)}$", REFERENCE, flags=re.MULTILINE)[1]
    return re.split(rf"^#{{1,{len(level)}}} ", after, flags=re.MULTILINE)[0]


def _first_cells(section: str) -> list[str]:
    return re.findall(r"^\| (`.+?`) \|", section, re.MULTILINE)


def test_every_command_is_documented() -> None:
    commands = _section("Commands", "##")
    headings = re.findall(r"^### (.+)$", commands, re.MULTILINE)
    assert [name for name in headings if name != "Exit codes"] == app.list_commands(click.Context(app))


@pytest.mark.parametrize("name", app.list_commands(click.Context(app)))
def test_options_agree(name: str) -> None:
    command = app.get_command(click.Context(app), name)
    assert command is not None
    parts = [command, *(command.commands.values() if isinstance(command, click.Group) else ())]
    params = [param for part in parts for param in part.params]
    known = {opt for param in params if isinstance(param, click.Option) for opt in param.opts}
    documented = {
        opt
        for cell in _first_cells(_section(name, "###"))
        for opt in re.findall(r"(?<!\S)-{1,2}[\w-]+", cell.replace("`", " "))
    }
    assert documented == known


def test_columns_agree() -> None:
    cells = [cell.strip("`") for cell in _first_cells(_section("Output columns", "##"))]
    assert tuple(cells) == COLUMNS


def test_the_python_names_agree() -> None:
    named_there = set(re.findall(r"`halfrate\.(\w+)", _section("Python", "##") + _section("Errors", "##")))
    assert named_there == set(halfrate.__all__) | {"HalfrateError"}


def test_the_variables_agree() -> None:
    section = _section("Environment", "##")
    missing = [name for name in Timing.__struct_fields__ if f"`HALFRATE_{name.upper()}`" not in section]
    assert missing == []


def test_the_pages_keep_to_the_project() -> None:
    """No exclamation marks in prose, and no trace of the machine that they were written on."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        prose = re.sub(r"`[^`]*`|<!--.*?-->|!\[", "", without_code(text))
        assert "!" not in prose, named(page)
        assert not re.search(r"/work/|/tmp/|/root/", text), named(page)
