"""A provider that speaks OpenAI's dialect, and tells halfrate so from a package of its own."""

from halfrate.base.types import Capabilities, Limits
from halfrate.providers.openai_dialect import Dialect, OpenAIDialect


class Example(OpenAIDialect):
    """What it can do is a record; what it says otherwise than OpenAI is another. A provider with an API of its own
    has the methods of `halfrate.providers.base.Adapter` instead."""

    capabilities = Capabilities(
        provider="example",
        title="Example",
        endpoints=("chat",),
        native_form="openai",
        limits=Limits(rows=25, bytes=1_000_000, row_bytes=1_000_000),
        key_variables=("EXAMPLE_API_KEY",),
        url_variable="EXAMPLE_BASE_URL",
        default_url="https://api.example.com/v1",
        adoption="metadata",
    )
    dialect = Dialect(answer_limit="max_tokens")
