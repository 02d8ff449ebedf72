"""Which region's price a job is held to: read from where it is sent, or from what it asks for."""

from typing import Any

import pytest

from halfrate.base.types import RequestSpec
from halfrate.providers.registry import adapter_class
from halfrate.service.prices import region_of

VERTEX = "https://aiplatform.googleapis.com/v1/projects/ours/locations"


@pytest.mark.parametrize(
    ("provider", "url", "region"),
    [
        ("openai", "https://api.openai.com/v1", ""),
        ("openai", "https://eu.api.openai.com/v1", "eu"),
        ("openai", "https://us.api.openai.com", "us"),
        ("openai", "http://127.0.0.1:8089/openai/v1", ""),
        ("openai", "https://evil.test/https://eu.api.openai.com/v1", ""),
        ("together", "https://api.together.ai/v1", ""),
        ("together", "https://us-api.together.ai/v1", "us"),
        ("vertex", f"{VERTEX}/us-central1", "us-central1"),
        ("vertex", f"{VERTEX}/global", ""),
        ("vertex", f"{VERTEX}/global/batchPredictionJobs", ""),
        ("vertex", "http://127.0.0.1:8089/vertex", ""),
        ("anthropic", "https://api.anthropic.com", ""),
    ],
)
def test_a_region_is_read_from_the_address(provider: str, url: str, region: str) -> None:
    assert _region(provider, url) == region


@pytest.mark.parametrize(("asked", "region"), [("us", "us"), ("global", ""), (7, "")])
def test_a_region_is_read_from_what_is_asked_for(asked: Any, region: str) -> None:
    assert _region("anthropic", "https://api.anthropic.com", inference_geo=asked) == region
    assert _region("openai", "https://api.openai.com/v1", inference_geo=asked) == "", "a field of another's"


def _region(provider: str, url: str, **params: Any) -> str:
    spec = RequestSpec(provider=provider, model="m", endpoint="chat", params=params)
    return region_of(url, spec, adapter_class(provider).capabilities)
