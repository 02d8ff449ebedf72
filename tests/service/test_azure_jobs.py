"""What Azure OpenAI has of its own: two styles of API, deployments, tokens of Entra's, a queue that is full at once."""

import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from halfrate.base.errors import SettingsError
from halfrate.emulator import Request, Response

from .office import Office

Offices = Callable[..., Office]


def paths(desk: Office, monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """Every request that the emulator answers from now on."""
    seen: list[Request] = []
    respond = desk.emulator.respond

    async def watching(request: Request) -> Response:
        seen.append(request)
        return await respond(request)

    monkeypatch.setattr(desk.emulator, "respond", watching)
    return seen


@pytest.mark.parametrize("tier", ["batch", "standard"])
def test_the_older_style_of_api(office: Offices, monkeypatch: pytest.MonkeyPatch, tier: str) -> None:
    desk = office("azure")
    monkeypatch.setenv("OPENAI_API_VERSION", "2025-03-01-preview")
    seen = paths(desk, monkeypatch)
    desk.assert_sound(desk.run(desk.ask(20, tier=tier)))
    ours = [request for request in seen if request.path.startswith("/azure/")]
    assert ours
    assert all(request.params()["api-version"] == "2025-03-01-preview" for request in ours)
    assert not any("/openai/v1/" in request.path for request in ours)
    if tier == "standard":
        assert {r.path for r in ours} == {"/azure/openai/deployments/gpt-4.1-mini/chat/completions"}


def test_a_token_goes_as_a_bearer(office: Offices, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = office("azure")
    monkeypatch.delenv("AZURE_OPENAI_API_KEY")
    monkeypatch.setenv("AZURE_OPENAI_AD_TOKEN", "eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0.e30.")
    seen = paths(desk, monkeypatch)
    desk.assert_sound(desk.run(desk.ask(10)))
    ours = [request for request in seen if request.path.startswith("/azure/")]
    assert {request.header("authorization").partition(" ")[0] for request in ours} == {"Bearer"}
    assert {request.header("api-key") for request in ours} == {""}


def test_without_a_key_tokens_come_from_azures_own_chain(
    office: Offices, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = office("azure")
    monkeypatch.delenv("AZURE_OPENAI_API_KEY")
    job = desk.submit(desk.ask(10))
    with pytest.raises(SettingsError, match=r"halfrate\[azure\]"):
        desk.work(job)
    asked: list[str] = []

    class Chain:
        def get_token(self, scope: str) -> types.SimpleNamespace:
            asked.append(scope)
            return types.SimpleNamespace(token="token-of-the-chain", expires_on=2e9)

    identity: Any = types.ModuleType("azure.identity")
    identity.DefaultAzureCredential = Chain
    core: Any = types.ModuleType("azure.core.exceptions")
    core.ClientAuthenticationError = RuntimeError
    monkeypatch.setitem(sys.modules, "azure.identity", identity)
    monkeypatch.setitem(sys.modules, "azure.core.exceptions", core)
    seen = paths(desk, monkeypatch)
    desk.assert_sound(desk.work(job))
    ours = [request for request in seen if request.path.startswith("/azure/")]
    assert {request.header("authorization") for request in ours} == {"Bearer token-of-the-chain"}
    assert set(asked) == {"https://cognitiveservices.azure.com/.default"}


def test_a_deployment_is_priced_as_the_model_that_it_serves(office: Offices) -> None:
    desk = office("azure")
    unknown = desk.run(desk.ask(10, model="azure/gpt-4.1-mini-batch"))
    assert unknown.cost is None
    desk = office("azure")
    report = desk.run(desk.ask(10, model="azure/gpt-4.1-mini-batch", options={"serves": "gpt-4.1-mini"}))
    desk.assert_sound(report)


def test_a_queue_that_is_full_at_once_is_waited_for(office: Offices) -> None:
    desk = office("azure", "queue-full:mode=create,times=2,status=400")
    report = desk.run(desk.ask(20))
    desk.assert_sound(report)
    assert desk.meter()["batches_created"] == 1
