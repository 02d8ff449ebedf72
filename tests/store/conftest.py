from collections.abc import Iterator
from pathlib import Path

import pytest

from halfrate.store.store import Store

from .records import url


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(url(tmp_path))
    yield store
    store.close()
