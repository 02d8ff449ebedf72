"""Whatever speaks OpenAI's dialect: an endpoint of one's own in real time, and providers described in the settings."""

from typing import ClassVar, Final, cast

from halfrate.base.errors import SettingsError
from halfrate.base.types import Capabilities, Endpoint, Limits, Option
from halfrate.providers.accounts import ProviderSettings
from halfrate.providers.base import Adapter
from halfrate.providers.dialects import MB
from halfrate.providers.openai_dialect import URLS, Dialect, OpenAIDialect

_LIMITS: Final = Limits(rows=49_000, bytes=190 * MB, row_bytes=190 * MB)


class Compatible(OpenAIDialect):
    """Any endpoint that answers chat completions: vLLM, Ollama, llama.cpp, TGI and others. It has no batches."""

    capabilities = Capabilities(
        provider="openai-compatible",
        title="the OpenAI-compatible endpoint",
        endpoints=("chat", "embeddings", "responses"),
        native_form="openai",
        limits=_LIMITS,
        uploads_file=False,
        key_variables=("OPENAI_COMPATIBLE_API_KEY",),
        url_variable="OPENAI_COMPATIBLE_BASE_URL",
        default_url="http://127.0.0.1:8000/v1",
        batches=False,
        windows=(),
        discount="none",
        adoption="count",
        needs_key=False,
    )
    dialect = Dialect(answer_limit="max_tokens")


def described(provider: str, given: ProviderSettings) -> type[Adapter]:
    """The adapter of a provider that the settings file describes. Raises SettingsError."""
    endpoints = tuple(name for name in given.endpoints if name in URLS)
    if not endpoints or len(endpoints) != len(given.endpoints):
        raise SettingsError(
            f"The provider {provider!r} has endpoints among {', '.join(URLS)}, and at least one."
        )
    size = given.megabytes * MB
    capabilities_of = Capabilities(
        provider=provider,
        title=given.title or provider,
        endpoints=cast("tuple[Endpoint, ...]", endpoints),
        native_form="openai" if given.rows_name_url else None,
        limits=Limits(
            rows=given.rows, bytes=size, row_bytes=min(size, (given.row_megabytes or given.megabytes) * MB)
        ),
        uploads_file=given.batches,
        key_variables=(given.key_variable,) if given.key_variable else (),
        creates_per_hour=given.creates_per_hour,
        url_variable="",
        default_url=given.base_url,
        batches=given.batches,
        windows=given.windows if given.batches else (),
        discount="unknown" if given.discount is None else f"{given.discount:.0%}".replace("%", " %"),
        adoption="metadata" if given.metadata else "file",
        needs_key=given.key_variable is not None,
        options=(Option("window", "how long the batch may take", given.windows),)
        if len(given.windows) > 1
        else (),
    )

    class Described(OpenAIDialect):
        capabilities: Capabilities = capabilities_of
        dialect: ClassVar[Dialect] = Dialect(
            metadata=given.metadata, rows_name_url=given.rows_name_url, answer_limit=given.answer_limit
        )

    return Described
