"""Providers that speak OpenAI's dialect with no more than a few words of their own.

What is said of each is from its own documentation, as of 2026-11. Limits leave some headroom below the documented ones.
"""

from typing import Final

from halfrate.base.types import Capabilities, Endpoint, Limits, Option
from halfrate.providers.openai_dialect import Dialect, OpenAIDialect

MB: Final = 1_000_000


def window_option(*windows: str) -> tuple[Option, ...]:
    return (Option("window", "how long the batch may take", windows),)


class Groq(OpenAIDialect):
    """Groq. Its guide says 200 MB a file, its SDK 100 MB: the smaller holds until somebody has tried."""

    _windows = ("24h", "48h", "72h", "96h", "120h", "144h", "7d")
    capabilities = Capabilities(
        provider="groq",
        title="Groq",
        endpoints=("chat",),
        native_form="openai",
        limits=Limits(rows=49_000, bytes=95 * MB, row_bytes=95 * MB),
        key_variables=("GROQ_API_KEY",),
        url_variable="GROQ_BASE_URL",
        default_url="https://api.groq.com",
        windows=_windows,
        cache_stacks=False,
        adoption="metadata",
        options=window_option(*_windows),
    )
    # The SDK's base URL is the host alone.
    dialect = Dialect(base="/openai/v1")


class Moonshot(OpenAIDialect):
    """Moonshot AI (Kimi)."""

    _windows = ("24h", "12h", "48h", "72h", "7d")
    capabilities = Capabilities(
        provider="moonshot",
        title="Moonshot",
        endpoints=("chat",),
        native_form="openai",
        limits=Limits(rows=49_000, bytes=95 * MB, row_bytes=95 * MB),
        key_variables=("MOONSHOT_API_KEY",),
        url_variable="MOONSHOT_BASE_URL",
        default_url="https://api.moonshot.ai/v1",
        windows=_windows,
        discount="not said",
        adoption="metadata",
        options=window_option(*_windows),
    )
    dialect = Dialect(answer_limit="max_tokens")


class Qwen(OpenAIDialect):
    """Alibaba Model Studio. A line may have 6 MB; rows that fail are free."""

    _windows = ("24h", "48h", "72h", "168h", "336h")
    capabilities = Capabilities(
        provider="qwen",
        title="Qwen",
        endpoints=("chat", "embeddings"),
        native_form="openai",
        limits=Limits(rows=49_000, bytes=480 * MB, row_bytes=5_900_000),
        key_variables=("DASHSCOPE_API_KEY",),
        url_variable="DASHSCOPE_BASE_URL",
        default_url="https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        windows=_windows,
        cache_stacks=False,
        adoption="metadata",
        options=window_option(*_windows),
    )
    dialect = Dialect(answer_limit="max_tokens")


_ZHIPU_URLS: Final[dict[Endpoint, str]] = {
    "chat": "/v4/chat/completions",
    "embeddings": "/v4/embeddings",
}


class Zhipu(OpenAIDialect):
    """Zhipu, abroad Z.ai. Embeddings take 10,000 rows a batch, and so does every batch here."""

    capabilities = Capabilities(
        provider="zhipu",
        title="Zhipu",
        endpoints=("chat", "embeddings"),
        native_form=None,
        translates=("chat", "embeddings"),
        limits=Limits(rows=49_000, bytes=95 * MB, row_bytes=95 * MB, embedding_inputs=9_900),
        key_variables=("ZHIPUAI_API_KEY", "ZAI_API_KEY"),
        url_variable="ZAI_BASE_URL",
        default_url="https://open.bigmodel.cn/api/paas/v4",
        adoption="metadata",
    )
    dialect = Dialect(urls=_ZHIPU_URLS, answer_limit="max_tokens")


class DeepInfra(OpenAIDialect):
    """DeepInfra: a fifth off, not half."""

    capabilities = Capabilities(
        provider="deepinfra",
        title="DeepInfra",
        endpoints=("chat", "embeddings"),
        native_form="openai",
        limits=Limits(rows=49_000, bytes=190 * MB, row_bytes=190 * MB, embedding_inputs=49_000),
        key_variables=("DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN"),
        url_variable="DEEPINFRA_BASE_URL",
        default_url="https://api.deepinfra.com/v1/openai",
        discount="20 %",
        adoption="metadata",
    )
    dialect = Dialect(answer_limit="max_tokens")


class Doubleword(OpenAIDialect):
    """Doubleword. Two windows, each with prices of its own; the output file is there while the batch runs."""

    capabilities = Capabilities(
        provider="doubleword",
        title="Doubleword",
        endpoints=("chat", "responses", "embeddings"),
        native_form="openai",
        limits=Limits(rows=49_000, bytes=190 * MB, row_bytes=190 * MB, embedding_inputs=49_000),
        key_variables=("DOUBLEWORD_API_KEY",),
        url_variable="DOUBLEWORD_BASE_URL",
        default_url="https://api.doubleword.ai/v1",
        windows=("24h", "1h"),
        discount="by window",
        adoption="metadata",
        options=window_option("24h", "1h"),
    )
    dialect = Dialect()


class Novita(OpenAIDialect):
    """Novita. Its batches may take 48 hours, and no other time can be asked for (API reference, "Create batch")."""

    capabilities = Capabilities(
        provider="novita",
        title="Novita",
        endpoints=("chat",),
        native_form="openai",
        limits=Limits(rows=49_000, bytes=95 * MB, row_bytes=95 * MB),
        key_variables=("NOVITA_API_KEY",),
        url_variable="NOVITA_BASE_URL",
        default_url="https://api.novita.ai/openai/v1",
        windows=("48h",),
        discount="not said",
        kept="15 days",
        # Metadata is in the batch object, and not among what a create takes: the file tells it anyway.
        adoption="file",
    )
    dialect = Dialect(
        answer_limit="max_tokens",
        statuses={"progress": "in_progress", "success": "completed", "canceled": "cancelled"},
    )
