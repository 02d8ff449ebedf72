from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .house import House, open_house
from .office import Office


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., House]]:
    """Opens gateways: `house("create-lost")`. They end with the test."""
    with ExitStack() as stack:
        yield lambda *faults, **options: stack.enter_context(
            open_house(tmp_path, monkeypatch, *faults, **options)
        )


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with Office(tmp_path) as office:
        yield office
