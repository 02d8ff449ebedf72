"""Tokens counted here, against counts that others have published."""

import msgspec
import pytest

from halfrate.base.errors import UsageError
from halfrate.base.types import RequestSpec
from halfrate.rows.tokens import TokenCounter, vocabulary_of


def spec(model: str, **changes: object) -> RequestSpec:
    asked = RequestSpec(provider="openai", model=model, endpoint="chat", prompt="{text}")
    return msgspec.structs.replace(asked, **changes)


def count(texts: list[str], asked: RequestSpec) -> int:
    counter = TokenCounter(asked)
    counter.add([msgspec.json.encode(text) for text in texts])
    return counter.total


# From the OpenAI Cookbook, "How to count tokens with tiktoken" (section 5, comparing encodings).
@pytest.mark.parametrize(
    ("text", "cl100k", "o200k"),
    [
        ("antidisestablishmentarianism", 6, 6),
        ("2 + 2 = 4", 7, 7),
        ("お誕生日おめでとう", 9, 8),
        ("tiktoken is great!", 6, 6),
    ],
)
def test_text_is_cut_as_the_model_cuts_it(text: str, cl100k: int, o200k: int) -> None:
    assert count([text], spec("text-embedding-3-small", endpoint="embeddings")) == cl100k
    assert count([text], spec("gpt-4.1-mini")) == o200k + 7


def test_every_row_has_its_messages_and_its_system_prompt() -> None:
    assert count(["2 + 2 = 4"] * 10, spec("gpt-4o", system="tiktoken is great!")) == 10 * (7 + 7 + 6 + 4)
    counter = TokenCounter(spec("gpt-4o"))
    for _ in range(3):
        counter.add([b'"2 + 2 = 4"'])
    assert counter.total == 3 * 14


def test_a_text_that_spells_a_special_token_is_a_text() -> None:
    asked = spec("gpt-4o", endpoint="embeddings")
    assert count(["<|endoftext|>"], asked) > 3


@pytest.mark.parametrize(
    ("model", "vocabulary"),
    [
        ("gpt-4.1-mini-2025-04-14", "o200k_base"),
        ("gpt-4o-mini", "o200k_base"),
        ("gpt-5-nano", "o200k_base"),
        ("o3", "o200k_base"),
        ("o4-mini", "o200k_base"),
        ("gpt-4-0613", "cl100k_base"),
        ("gpt-35-turbo", "cl100k_base"),
        ("openai/gpt-oss-120b", "gpt-oss"),
        ("meta-llama/Llama-3.3-70B-Instruct-Turbo", "llama3"),
        ("qwen3-max", "qwen3"),
        ("deepseek-ai/DeepSeek-V3.1", "deepseek_v3"),
        ("moonshotai/kimi-k2-instruct", "kimi_k2"),
        ("claude-haiku-4-5", None),
        ("gemini-2.5-flash", None),
        ("grok-4.3", None),
        ("gpt-6-luna", None),
    ],
)
def test_which_model_has_which_vocabulary(model: str, vocabulary: str | None) -> None:
    assert vocabulary_of(model) == vocabulary
    if vocabulary is not None:
        assert count(["a"], spec(model)) > 0


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(UsageError, match="Nobody has published"):
        TokenCounter(spec("claude-haiku-4-5"))
    with pytest.raises(UsageError, match="batch file"):
        TokenCounter(spec("gpt-4o", native="openai"))
