"""The page about the emulator: its code runs, its table is the table."""

import re
from pathlib import Path

import pytest

from halfrate.emulator import COMMON_KEYS, FAULTS

PAGE = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text()


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
def test_the_code_runs(code: str) -> None:
    exec(compile(code, "docs/emulator.md", "exec"), {"__name__": "docs"})  # noqa: S102 - the docs are ours


def test_the_table_of_faults_is_complete() -> None:
    documented = {
        match[0]: match[1] for match in re.findall(r"^\| `([a-z-]+)` \|.*\| (.*) \|$", PAGE, re.MULTILINE)
    }
    assert {name: documented.get(name) for name in FAULTS} == {
        name: kind.summary for name, kind in FAULTS.items()
    }
    assert [key for key in COMMON_KEYS if f"| `{key}` |" not in PAGE] == []
