"""Calls that ask for their answers piece by piece: what each adapter would send, and what it makes of other answers."""

import asyncio
import json
from typing import Any

import pytest

from halfrate.base.errors import OutcomeUnknown, Refused, SettingsError, UsageError
from halfrate.base.types import Endpoint
from halfrate.providers.base import Account, Adapter, Blame, Call, CallRefused, Streaming, Streams
from halfrate.providers.object_credentials import AzureChain, GoogleChain
from halfrate.providers.passing import answer_of
from halfrate.providers.registry import adapter_class, provider_names

KEY = "sk-of-the-account-0815"
BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
USAGE = {"stream": True, "stream_options": {"include_usage": True}}


def adapter_of(provider: str, url: str = "http://place", **more: Any) -> Adapter:
    given: dict[str, Any] = {"key": KEY, **more}
    return adapter_class(provider)(Account(provider=provider, base_url=url, **given))


def call(endpoint: Endpoint, **more: Any) -> Call:
    given: dict[str, Any] = {"model": "m/1", "row_id": "hr-1-1-0", "body": BODY, **more}
    return Call(endpoint=endpoint, **given)


def streaming(adapter: Adapter, call: Call) -> Streaming | None:
    assert isinstance(adapter, Streams)

    async def run() -> Streaming | None:
        try:
            return await adapter.streaming(call)
        finally:
            await adapter.close()

    return asyncio.run(run())


def sent(provider: str, endpoint: Endpoint = "chat", **more: Any) -> tuple[Streaming, dict[str, Any]]:
    """What is sent, and what is new in its body."""
    tier = more.pop("tier", "standard")
    found = streaming(adapter_of(provider, **more), call(endpoint, tier=tier))
    assert found is not None
    # Nobody sees the secret who looks at it.
    assert KEY not in repr(found)
    body = json.loads(found.body)
    whole = json.loads(BODY)
    assert {name: body[name] for name in whole if name != "model"} == {"messages": whole["messages"]}
    return found, {name: value for name, value in body.items() if name not in whole}


def test_anthropic_streams_its_messages() -> None:
    found, new = sent("anthropic", "messages")
    headers = dict(found.headers)
    assert (found.url, found.path, found.form) == ("http://place", "/v1/messages", "anthropic")
    assert new == {"stream": True}
    assert (headers["x-api-key"], headers["anthropic-version"]) == (KEY, "2023-06-01")
    assert found.secret == KEY
    chosen = streaming(
        adapter_of("anthropic"), call("messages", options={"version": "2026-10-21", "beta": "one"})
    )
    assert chosen is not None
    headers = dict(chosen.headers)
    assert (headers["anthropic-version"], headers["anthropic-beta"]) == ("2026-10-21", "one")


@pytest.mark.parametrize(
    "provider",
    ["openai", "openai-compatible", "groq", "together", "xai", "qwen", "zhipu", "novita", "deepinfra"],
)
def test_dialects_are_asked_for_what_was_used(provider: str) -> None:
    found, new = sent(provider)
    assert found.path.endswith("/chat/completions")
    assert (new, found.form) == (USAGE, "openai")
    headers = dict(found.headers)
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["X-Client-Request-Id"] == "hr-1-1-0"


def test_a_tier_is_asked_for_in_a_stream_as_well() -> None:
    assert sent("openai", tier="flex")[1] == {**USAGE, "service_tier": "flex"}
    with pytest.raises(UsageError, match="in no tier"):
        streaming(adapter_of("groq"), call("chat", tier="flex"))


@pytest.mark.parametrize(
    ("provider", "url", "settings", "place", "new"),
    [
        ("mistral", "http://place", {}, "http://place/v1", {"stream": True}),
        ("fireworks", "http://place/v1/accounts/a", {"account": "a"}, "http://place/inference/v1", USAGE),
    ],
)
def test_those_whose_rows_name_no_model_are_told_it_here(
    provider: str, url: str, settings: dict[str, str], place: str, new: dict[str, Any]
) -> None:
    adapter = adapter_of(provider, url, settings=settings)
    found = streaming(adapter, call("chat", body=b'{"messages":[]}'))
    assert found is not None
    assert found.url + found.path == f"{place}/chat/completions"
    assert json.loads(found.body) == {"model": "m/1", "messages": [], **new}


def test_azure_is_called_in_either_style_with_a_key_or_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = sent("azure")
    assert (found.url + found.path, dict(found.headers)["api-key"]) == (
        "http://place/openai/v1/chat/completions",
        KEY,
    )
    older, _ = sent("azure", settings={"api_version": "2026-01-01"})
    assert older.path == "/deployments/m%2F1/chat/completions?api-version=2026-01-01"

    def signed_in(_: AzureChain) -> dict[str, str]:
        return {"Authorization": "Bearer token-1"}

    monkeypatch.setattr(AzureChain, "headers", signed_in)
    own, _ = sent("azure", key="")
    assert dict(own.headers)["Authorization"] == "Bearer token-1"
    assert own.secret == "token-1"

    def nobody(_: AzureChain) -> dict[str, str]:
        raise SettingsError("sign in first")

    monkeypatch.setattr(AzureChain, "headers", nobody)
    with pytest.raises(SettingsError, match="sign in"):
        streaming(adapter_of("azure", key=""), call("chat"))


def test_gemini_and_vertex_are_asked_for_events(monkeypatch: pytest.MonkeyPatch) -> None:
    found, new = sent("gemini", "generate")
    assert found.path == "/v1beta/models/m%2F1:streamGenerateContent?alt=sse"
    assert (dict(found.headers)["x-goog-api-key"], new, found.form) == (KEY, {}, "gemini")
    place = "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1"
    given = streaming(adapter_of("vertex", place), call("generate", model="gemini-x"))
    assert given is not None
    assert given.url == "https://us-central1-aiplatform.googleapis.com/v1"
    path = "/projects/p/locations/us-central1/publishers/google/models/gemini-x:streamGenerateContent?alt=sse"
    assert given.path == path
    assert (dict(given.headers)["Authorization"], given.secret) == (f"Bearer {KEY}", KEY)
    tuned = streaming(
        adapter_of("vertex", place), call("generate", model="projects/1/locations/l/endpoints/7")
    )
    assert tuned is not None
    assert tuned.path == "/projects/1/locations/l/endpoints/7:streamGenerateContent?alt=sse"

    def nobody(_: GoogleChain) -> dict[str, str]:
        raise SettingsError("sign in first")

    monkeypatch.setattr(GoogleChain, "headers", nobody)
    with pytest.raises(Refused, match="sign in") as refused:
        streaming(adapter_of("vertex", place, key=""), call("generate"))
    assert refused.value.status == 401


def test_the_others_keep_to_whole_answers() -> None:
    """Everybody who streams says how; of these nothing is asked that nobody could translate."""
    streamed = {name for name in provider_names() if issubclass(adapter_class(name), Streams)}
    assert "bedrock" not in streamed
    assert {"anthropic", "gemini", "vertex", "openai", "mistral"} <= streamed
    others: list[tuple[str, Endpoint]] = [
        ("cohere", "embeddings"),
        ("voyage", "embeddings"),
        ("openai", "responses"),
        ("gemini", "embeddings"),
    ]
    for provider, endpoint in others:
        assert streaming(adapter_of(provider), call(endpoint)) is None


@pytest.mark.parametrize(
    ("provider", "endpoint"), [("anthropic", "messages"), ("openai", "chat"), ("gemini", "generate")]
)
def test_an_error_is_what_it_is_for_any_other_call(provider: str, endpoint: Endpoint) -> None:
    adapter = adapter_of(provider)
    assert isinstance(adapter, Streams)
    headers = [
        (b"Retry-After-Ms", b"1500"),
        (b"X-Request-Id", b"req-7"),
        (b"content-type", b"application/json"),
    ]
    busy = answer_of(429, headers, b'{"error":{"message":"slow down, %b"}}' % KEY.encode(), KEY)
    with pytest.raises(CallRefused, match=r"429: slow down, \[key\] \(request req-7\)") as refused:
        adapter.understood(call(endpoint), busy)
    assert (refused.value.retry_after, refused.value.blame) == (1.5, Blame.LOAD)
    with pytest.raises(OutcomeUnknown):
        adapter.understood(call(endpoint), answer_of(502, [], b"<html>", ""))
    asyncio.run(adapter.close())
