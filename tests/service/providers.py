"""Every provider that the emulator speaks for: which model stands for it, and what its books say beforehand."""

from pathlib import Path

import msgspec
import pytest

from halfrate.providers.bedrock import Bedrock

MODELS = {
    "openai": "openai/gpt-4.1-mini",
    "anthropic": "anthropic/claude-haiku-4-5",
    "azure": "azure/gpt-4.1-mini",
    "groq": "groq/llama-3.3-70b-versatile",
    "together": "together/meta-llama/Llama-3.3-70B-Instruct-Turbo",
    "moonshot": "moonshot/kimi-k2.5",
    "qwen": "qwen/qwen-plus",
    "zhipu": "zhipu/glm-4.5-air",
    "deepinfra": "deepinfra/meta-llama/Llama-3.3-70B-Instruct-Turbo",
    "doubleword": "doubleword/openai/gpt-oss-20b",
    "novita": "novita/openai/gpt-oss-120b",
    "voyage": "voyage/voyage-3.5",
    "mistral": "mistral/mistral-small-latest",
    "xai": "xai/grok-4.3",
    "cohere": "cohere/embed-v4.0",
    "gemini": "gemini/gemini-2.5-flash",
    "fireworks": "fireworks/gpt-oss-120b",
    "vertex": "vertex/gemini-2.5-flash",
    "bedrock": "bedrock/global.anthropic.claude-haiku-4-5-20251001-v1:0",
}

# The price book does not know what a batch of these costs; whoever uses them says it.
SETTINGS = """
[prices.moonshot."kimi-k2.5"]
input = "0.60"
output = "3.00"
batch_input = "0.30"
batch_output = "1.50"
batch_cached = "0.30"

[prices.cohere."embed-v4.0"]
input = "0.12"
output = "0"
batch_input = "0.12"
batch_output = "0"

[prices.qwen.qwen-plus]
input = "0.40"
output = "1.20"
batch_input = "0.20"
batch_output = "0.60"
batch_cached = "0.20"

[prices.deepinfra."meta-llama/Llama-3.3-70B-Instruct-Turbo"]
input = "0.10"
output = "0.30"
batch_input = "0.08"
batch_output = "0.24"
batch_cached = "0.08"

[prices.doubleword."openai/gpt-oss-20b"]
input = "0.04"
output = "0.30"
batch_input = "0.02"
batch_output = "0.15"
batch_cached = "0.02"

[prices.novita."openai/gpt-oss-120b"]
input = "0.05"
output = "0.25"
batch_input = "0.025"
batch_output = "0.125"
batch_cached = "0.025"
"""


# What an account needs to be told that no emulator can know.
VARIABLES = {
    "HALFRATE_BEDROCK_ROLE": "arn:aws:iam::123456789012:role/halfrate",
    "HALFRATE_BEDROCK_BUCKET": "s3://halfrate-rows/batches",
    "HALFRATE_VERTEX_BUCKET": "gs://halfrate-rows/batches",
}


def let_few_rows_be_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a provider asks for more rows than a quick test has; its emulator has to be told as well."""
    facts = msgspec.structs.replace(Bedrock.capabilities, least_rows=1)
    monkeypatch.setattr(Bedrock, "capabilities", facts)


def write_settings(folder: Path) -> Path:
    path = folder / "settings.toml"
    path.write_text(SETTINGS)
    return path
