"""Models by the names that callers of the gateway give them."""

from pathlib import Path

import pytest

from halfrate.base.errors import UsageError
from halfrate.service.models import offers, resolve


@pytest.fixture
def accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text('[accounts.cheap]\nprovider = "groq"\nkey_variable = "CHEAP_KEY"\n')
    monkeypatch.setenv("HALFRATE_SETTINGS", str(settings))
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "CHEAP_KEY"):
        monkeypatch.setenv(name, "sk-x")
    for name in ("GROQ_API_KEY", "MISTRAL_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("accounts")
def test_every_model_that_is_offered_is_found_by_the_name_it_is_offered_under() -> None:
    offered = offers()
    assert len(offered) > 100
    assert {offer.name: resolve(offer.name) for offer in offered} == {
        offer.name: offer.model for offer in offered
    }
    assert len({offer.name for offer in offered}) == len(offered)
    assert {offer.provider for offer in offered} == {"openai", "anthropic", "gemini", "groq"}
    assert all(offer.model.startswith("cheap/") for offer in offered if offer.provider == "groq")


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("gpt-4.1-mini", "openai/gpt-4.1-mini"),
        ("claude-haiku-4-5", "anthropic/claude-haiku-4-5"),
        ("openai/a-model-of-tomorrow", "openai/a-model-of-tomorrow"),
        ("cheap/llama-3.3-70b-versatile", "cheap/llama-3.3-70b-versatile"),
    ],
)
def test_a_name_means_one_account_and_model(name: str, model: str) -> None:
    assert resolve(name) == model


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize(
    "name", ["", "/", "openai/", "nobody-s-model-9", "nobody/model-9", "openai/a\0b", "openai/" + "a" * 999]
)
def test_a_name_that_nobody_knows_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        resolve(name)
