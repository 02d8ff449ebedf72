from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest

from halfrate.emulator import Emulator, ManualClock, Pace

from .driver import Driver

Build = Callable[..., Driver]


@pytest.fixture
def build() -> Iterator[Build]:
    """Makes drivers over emulators in virtual time: `build(faults=[...], pace=..., limits=...)`."""
    made: list[Emulator] = []

    def make(**settings: Any) -> Driver:
        clock = ManualClock()
        settings.setdefault("pace", Pace.instant())
        emulator = Emulator(clock=clock, **settings)
        made.append(emulator)
        return Driver(emulator, clock)

    yield make
    for emulator in made:
        emulator.close()


@pytest.fixture
def driver(build: Build) -> Driver:
    return build()


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """An emulator for the SDKs: batches are done by the next request."""
    with Emulator(pace=Pace.instant()) as made:
        yield made


@pytest.fixture
def url(emulator: Emulator) -> Iterator[str]:
    with emulator.running() as address:
        yield address


@pytest.fixture
def openai_client(emulator: Emulator, url: str) -> Iterator[openai.OpenAI]:
    base_url = emulator.openai_base_url(url)
    with openai.OpenAI(base_url=base_url, api_key="key-1", max_retries=0, timeout=10) as client:
        yield client


@pytest.fixture
def anthropic_client(emulator: Emulator, url: str) -> Iterator[anthropic.Anthropic]:
    base_url = emulator.anthropic_base_url(url)
    with anthropic.Anthropic(base_url=base_url, api_key="key-1", max_retries=0, timeout=10) as client:
        yield client
