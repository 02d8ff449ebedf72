from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from .office import Office, new_emulator, open_office


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Office]]:
    """Opens offices: `office("openai", "create-lost", ...)`. Their emulators end with the test."""
    with ExitStack() as stack:

        def make(provider: str, *faults: str, **options: Any) -> Office:
            timing = {"timing": options.pop("timing")} if "timing" in options else {}
            emulator = stack.enter_context(new_emulator(faults, **options))
            url = stack.enter_context(emulator.running())
            return open_office(tmp_path, monkeypatch, url, emulator, provider, **timing)

        yield make
