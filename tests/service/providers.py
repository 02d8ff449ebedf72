"""Every provider that the emulator speaks for: which model stands for it, and what its books say beforehand."""

from pathlib import Path

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
    "gemini": "gemini/gemini-2.5-flash",
    "fireworks": "fireworks/gpt-oss-120b",
}

# The price book does not know what a batch of these costs; whoever uses them says it.
SETTINGS = """
[prices.moonshot."kimi-k2.5"]
input = "0.60"
output = "3.00"
batch_input = "0.30"
batch_output = "1.50"

[prices.qwen.qwen-plus]
input = "0.40"
output = "1.20"
batch_input = "0.20"
batch_output = "0.60"

[prices.deepinfra."meta-llama/Llama-3.3-70B-Instruct-Turbo"]
input = "0.10"
output = "0.30"
batch_input = "0.08"
batch_output = "0.24"

[prices.doubleword."openai/gpt-oss-20b"]
input = "0.04"
output = "0.30"
batch_input = "0.02"
batch_output = "0.15"

[prices.novita."openai/gpt-oss-120b"]
input = "0.05"
output = "0.25"
batch_input = "0.025"
batch_output = "0.125"
"""


def write_settings(folder: Path) -> Path:
    path = folder / "settings.toml"
    path.write_text(SETTINGS)
    return path
