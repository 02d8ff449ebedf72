"""OpenAI: Files and Batches."""

from halfrate.base.types import CacheRules, Capabilities, Limits
from halfrate.providers.openai_calls import TIERS
from halfrate.providers.openai_dialect import Dialect, OpenAIDialect


class OpenAI(OpenAIDialect):
    """OpenAI's own API; also whatever else is at OPENAI_BASE_URL and speaks it."""

    capabilities = Capabilities(
        provider="openai",
        title="OpenAI",
        endpoints=("chat", "responses", "embeddings"),
        native_form="openai",
        # 50,000 rows and 200 MB a file, 50,000 embedding inputs over all rows (batch guide, 2026-09-26).
        limits=Limits(rows=49_000, bytes=190_000_000, row_bytes=190_000_000, embedding_inputs=49_000),
        creates_per_hour=2_000,
        key_variables=("OPENAI_API_KEY",),
        url_variable="OPENAI_BASE_URL",
        default_url="https://api.openai.com/v1",
        region_in_url=r"^https://([a-z]{2})\.api\.openai\.com(?:/|$)",
        cache=CacheRules(key="prompt_cache_key"),
        kept="30 days",
        adoption="metadata",
    )
    dialect = Dialect(tiers=TIERS)
