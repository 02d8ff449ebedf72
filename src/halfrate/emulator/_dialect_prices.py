"""What the models of the providers that speak OpenAI's dialect cost.

Typed by hand on 2026-11-21, standard and batch separately. Standard rates are those that the price list
`genai_prices` 0.2.3 has for azure, groq, together (but for its DeepSeek-V3), moonshotai, zhipuai, doubleword,
novita and voyageai. It has none for Alibaba, DeepInfra and Zhipu's embeddings: theirs, and DeepSeek-V3 at Together, are
round figures near the list prices of 2025.

The batch factor is each provider's own: half at Azure, Groq, Alibaba and Zhipu (batch guides); half at Together only
for the models that its guide lists; 20 % off at DeepInfra and 33 % off at Voyage (batch guides). For Moonshot,
Doubleword and Novita no factor was found that can be relied on: half is assumed. Azure's cached rate is halved with the
rest. Where caching and batch are not said to add up, a cached token of a batch costs what an uncached one does.
"""

from halfrate.emulator._prices import Model, Rates, rates


def _text(provider: str, name: str, standard: Rates, batch: Rates, snapshot: str = "") -> Model:
    return Model(name, snapshot or name, provider, standard, batch)


def _embedding(provider: str, name: str, standard: float, batch: float) -> Model:
    return Model(name, name, provider, rates(standard, 0, standard), rates(batch, 0, batch), kind="embedding")


# Columns: input, output, cached input.
_AZURE = (
    _text(
        "azure",
        "gpt-4.1-mini",
        rates(0.40, 1.60, 0.10),
        rates(0.20, 0.80, 0.05),
        "gpt-4.1-mini-2025-04-14",
    ),
    _text(
        "azure",
        "gpt-4o-mini",
        rates(0.15, 0.60, 0.075),
        rates(0.075, 0.30, 0.0375),
        "gpt-4o-mini-2024-07-18",
    ),
    _embedding("azure", "text-embedding-3-small", 0.02, 0.02),
)
_GROQ = (
    _text("groq", "llama-3.3-70b-versatile", rates(0.59, 0.79, 0.59), rates(0.295, 0.395, 0.295)),
    _text("groq", "llama-3.1-8b-instant", rates(0.05, 0.08, 0.05), rates(0.025, 0.04, 0.025)),
    _text("groq", "openai/gpt-oss-20b", rates(0.075, 0.30, 0.0375), rates(0.0375, 0.15, 0.0375)),
)
_TOGETHER = (
    _text(
        "together",
        "meta-llama/Llama-3.3-70B-Instruct-Turbo",
        rates(0.88, 0.88, 0.88),
        rates(0.44, 0.44, 0.44),
    ),
    _text("together", "openai/gpt-oss-120b", rates(0.15, 0.60, 0.15), rates(0.15, 0.60, 0.15)),
    _text("together", "deepseek-ai/DeepSeek-V3", rates(1.25, 1.25, 1.25), rates(1.25, 1.25, 1.25)),
)
_MOONSHOT = (
    _text("moonshot", "kimi-k2.5", rates(0.60, 3.00, 0.10), rates(0.30, 1.50, 0.30)),
    _text("moonshot", "kimi-k2.6", rates(0.95, 4.00, 0.16), rates(0.475, 2.00, 0.475)),
)
_QWEN = (
    _text("qwen", "qwen-plus", rates(0.40, 1.20, 0.16), rates(0.20, 0.60, 0.20)),
    _text("qwen", "qwen-turbo", rates(0.05, 0.20, 0.02), rates(0.025, 0.10, 0.025)),
    _embedding("qwen", "text-embedding-v4", 0.07, 0.035),
)
_ZHIPU = (
    _text("zhipu", "glm-4.5-air", rates(0.11, 0.276, 0.022), rates(0.055, 0.138, 0.055)),
    _text("zhipu", "glm-4.7", rates(0.276, 1.103, 0.055), rates(0.138, 0.5515, 0.138)),
    _embedding("zhipu", "embedding-3", 0.07, 0.035),
)
_DEEPINFRA = (
    _text(
        "deepinfra",
        "meta-llama/Llama-3.3-70B-Instruct-Turbo",
        rates(0.10, 0.30, 0.10),
        rates(0.08, 0.24, 0.08),
    ),
    _text("deepinfra", "deepseek-ai/DeepSeek-V3", rates(0.40, 0.90, 0.40), rates(0.32, 0.72, 0.32)),
    _embedding("deepinfra", "BAAI/bge-m3", 0.01, 0.008),
)
_DOUBLEWORD = (
    _text("doubleword", "openai/gpt-oss-20b", rates(0.04, 0.30, 0.04), rates(0.02, 0.15, 0.02)),
    _text(
        "doubleword",
        "Qwen/Qwen3-VL-30B-A3B-Instruct-FP8",
        rates(0.16, 0.80, 0.16),
        rates(0.08, 0.40, 0.08),
    ),
    _embedding("doubleword", "Qwen/Qwen3-Embedding-8B", 0.04, 0.02),
)
_NOVITA = (
    _text("novita", "deepseek/deepseek-r1-0528", rates(0.70, 2.50, 0.35), rates(0.35, 1.25, 0.35)),
    _text("novita", "openai/gpt-oss-120b", rates(0.05, 0.25, 0.05), rates(0.025, 0.125, 0.025)),
)
_VOYAGE = (
    _embedding("voyage", "voyage-3.5", 0.06, 0.0402),
    _embedding("voyage", "voyage-3.5-lite", 0.02, 0.0134),
    _embedding("voyage", "voyage-4-large", 0.12, 0.0804),
)

MODELS = (
    *_AZURE,
    *_GROQ,
    *_TOGETHER,
    *_MOONSHOT,
    *_QWEN,
    *_ZHIPU,
    *_DEEPINFRA,
    *_DOUBLEWORD,
    *_NOVITA,
    *_VOYAGE,
)

# Dimensions of a vector, usual and at most, where they are not 1,536 and 1,536 (the models' pages).
EMBEDDING_SIZES = {
    "text-embedding-v4": (1024, 2048),
    "embedding-3": (2048, 2048),
    "BAAI/bge-m3": (1024, 1024),
    "Qwen/Qwen3-Embedding-8B": (4096, 4096),
    "voyage-3.5": (1024, 2048),
    "voyage-3.5-lite": (1024, 2048),
    "voyage-4-large": (1024, 2048),
}
