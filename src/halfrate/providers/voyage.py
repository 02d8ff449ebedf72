"""Voyage: embeddings in OpenAI's dialect, with the model and its settings said once for the whole batch.

Facts are from docs.voyageai.com (batch inference, in preview), as of 2026-11.
"""

from typing import Any

import msgspec

from halfrate.base.types import Capabilities, Limits, RequestSpec, Translated
from halfrate.providers.base import Call, Intent
from halfrate.providers.bodies import PROMPT, splice
from halfrate.providers.dialects import MB
from halfrate.providers.openai_bodies import embeddings
from halfrate.providers.openai_dialect import Dialect, OpenAIDialect
from halfrate.providers.translation.embeddings import request_to


class Voyage(OpenAIDialect):
    """Voyage AI. A third off, within twelve hours."""

    capabilities = Capabilities(
        provider="voyage",
        title="Voyage",
        endpoints=("embeddings",),
        native_form="rows",
        translates=("embeddings",),
        limits=Limits(rows=98_000, bytes=900 * MB, row_bytes=900 * MB, embedding_inputs=98_000),
        key_variables=("VOYAGE_API_KEY",),
        url_variable="VOYAGE_BASE_URL",
        default_url="https://api.voyageai.com/v1",
        windows=("12h",),
        discount="33 %",
        adoption="metadata",
    )
    dialect = Dialect(rows_name_url=False)

    def body(self, spec: RequestSpec) -> tuple[bytes, bytes]:
        embeddings(spec)  # refuses what embeddings do not take
        return splice({"input": PROMPT})

    def from_openai(self, body: dict[str, Any], model: str, endpoint: Translated) -> dict[str, Any]:
        return request_to("voyage", body, model)

    def _create_request(self, intent: Intent) -> dict[str, Any]:
        settings = {"model": intent.model, **intent.params}
        return {**super()._create_request(intent), "request_params": settings}

    def _call_body(self, call: Call) -> bytes:
        asked = msgspec.json.decode(call.body, type=dict[str, msgspec.Raw])
        return msgspec.json.encode({"model": call.model, **call.params, **asked})
