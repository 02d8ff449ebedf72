from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from .shell import Shell, open_shell


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with open_shell(tmp_path) as made:
        yield made


@pytest.fixture
def shells(tmp_path: Path) -> Iterator[Callable[..., Shell]]:
    """Shells whose emulators misbehave: `shells("row-error:status=400,match=3")`."""
    with ExitStack() as stack:

        def make(*faults: str, **options: Any) -> Shell:
            return stack.enter_context(open_shell(tmp_path, *faults, **options))

        yield make
