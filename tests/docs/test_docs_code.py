"""The Python in the README and the documentation runs, against the emulator."""

from collections.abc import Iterator

import pytest

from halfrate.emulator import Emulator, Pace

from .pages import ROOT, executable_blocks

BLOCKS = executable_blocks()


@pytest.fixture(scope="module")
def emulator_url() -> Iterator[str]:
    with Emulator(pace=Pace.instant()) as emulator, emulator.running() as url:
        yield url


@pytest.fixture
def newcomer(
    emulator_url: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody in a folder with the examples, whose variables name the emulator."""
    folder = tmp_path_factory.mktemp("newcomer")
    (folder / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(folder)
    for name, value in {
        "HALFRATE_HOME": str(folder / "home"),
        "HALFRATE_POLL_FIRST": "0.02",
        "OPENAI_BASE_URL": Emulator.openai_base_url(emulator_url),
        "OPENAI_API_KEY": "any",
        "ANTHROPIC_BASE_URL": Emulator.anthropic_base_url(emulator_url),
        "ANTHROPIC_API_KEY": "any",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)


def test_there_are_blocks_to_run() -> None:
    assert {page for page, _, _ in BLOCKS} >= {"README.md", "docs/quickstart.md", "docs/how-to.md"}


@pytest.mark.usefixtures("newcomer")
@pytest.mark.parametrize(("page", "line", "code"), BLOCKS, ids=[f"{page}:{line}" for page, line, _ in BLOCKS])
def test_the_code_runs(page: str, line: int, code: str) -> None:
    exec(compile("\n" * line + code, page, "exec"), {"__name__": "docs"})  # noqa: S102 - the docs are ours


@pytest.mark.usefixtures("newcomer")
def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    script = ROOT / "examples" / "classify.py"
    names: dict[str, object] = {"__name__": "__main__", "__file__": str(script)}
    exec(compile(script.read_text(encoding="utf-8"), str(script), "exec"), names)  # noqa: S102
    assert "300 of 300 answered for $0.0" in capsys.readouterr().out
