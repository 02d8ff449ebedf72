"""What differs between the providers that speak OpenAI's batch dialect, as one frozen record each.

The handlers are the same for all of them; they ask the record wherever two services part ways. A limit that a
provider does not state is OpenAI's. Sources: the providers' batch guides and API references of 2026 and the
types of their official SDKs (openai 3.52, groq 1.7, together 3.1).
"""

import re
from collections.abc import Container
from typing import Final, Literal

import msgspec

from halfrate.emulator._context import rfc3339, timestamp
from halfrate.emulator._models import find_model
from halfrate.emulator._openai_models import CHAT, EMBEDDINGS, RESPONSES
from halfrate.emulator._prices import Model
from halfrate.emulator._settings import Limits
from halfrate.emulator._wire import Document

_MB: Final = 1024 * 1024
_USUAL: Final = Limits()
_WINDOW: Final = re.compile(r"([1-9]\d{0,3})([hd])")
_SAFE: Final[Document] = {
    name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")
}


class Caps(msgspec.Struct, frozen=True, kw_only=True):
    """How much a batch, its input file and its lines may hold; None: nothing is said."""

    rows: int = _USUAL.openai_rows
    batch_bytes: int = _USUAL.openai_batch_bytes
    file_bytes: int = _USUAL.openai_file_bytes
    line_bytes: int | None = None
    embedding_inputs: int = _USUAL.openai_embedding_inputs
    embedding_rows: int | None = None
    files: int | None = None
    """Batch input files that a key may have."""
    files_expiring: int | None = None
    """The same where every one of them has an end of its life."""

    def within(self, limits: Limits) -> "Caps":
        """The caps of an emulator: a limit that its maker has changed holds for the whole family."""
        changed = {
            name: given
            for name in ("rows", "batch_bytes", "file_bytes", "embedding_inputs")
            if (given := getattr(limits, f"openai_{name}")) != getattr(_USUAL, f"openai_{name}")
        }
        return msgspec.structs.replace(self, **changed)


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """One provider's way of speaking OpenAI."""

    provider: str
    prefixes: tuple[str, ...] = ("/v1",)
    """Where its API begins; some have two beginnings."""
    variables: dict[str, str]
    """What points a client here; `{url}` stands for the mount."""
    key_headers: tuple[str, ...] = ()
    """Headers that carry the key besides `Authorization: Bearer`."""
    endpoints: dict[str, str]
    """What a batch may be made for, under the names that rows and creates use, and the call that it stands for."""
    calls: tuple[str, ...] = (CHAT,)
    """The calls that are answered in realtime."""
    tiers: bool = False
    """Whether a realtime call may ask for the flex or priority tier."""
    parts: bool = False
    """Whether big files can be uploaded in parts."""
    webhooks: bool = False
    caps: Caps = Caps()

    window_hours: Container[int] = (24,)
    window_default: str | None = None
    """The window of a create that names none; None: it has to name one."""
    window_fixed: bool = False
    """Whether the default holds whatever the create says."""
    expires: bool = True
    """Whether a batch ends with its window. Azure's goes on."""
    metadata: bool = True
    request_params: bool = False
    """Whether model and options are said once for the batch instead of in each row."""
    deletes_input: bool = False
    """Whether the input file goes with the end of its batch, unless the create says otherwise."""
    full_status: int = 429
    """The HTTP status of a create that finds the queue full."""

    row_targets: bool = True
    """Whether rows say method and url."""
    row_style: Literal["full", "no-id", "bare"] = "full"
    """What a result line holds: as at OpenAI, without its own id, or only custom_id and response."""
    content_filters: bool = False
    total_usage_only: bool = False
    """Whether the usage of embeddings is a total alone."""
    renamed: dict[str, str] = {}
    """Options of a request body under a name of the provider's own, and OpenAI's name for each."""
    deployment_suffix: str = ""
    """What may follow a model's name, for it is the name of a deployment."""

    iso_times: bool = False
    words: dict[str, str] = {}
    """Statuses that are called something else here."""
    usage: bool = False
    """Whether the batch object shows model and usage."""
    errors_as_text: bool = False
    blank_ids: bool = False
    """Whether a result file that does not exist is "" instead of null."""
    empty_error_file: bool = False
    """Whether a batch without errors has an error file all the same, of zero bytes."""

    purpose: str = "batch"
    output_purpose: str = "batch_output"
    shortest_life: int = 3_600
    """The least `expires_after` of a file, in seconds."""
    file_days: float | None = _USUAL.openai_file_days
    """How long a file lives of which nothing is said; None: until it is deleted."""
    file_status: str | None = "processed"
    pending_first: bool = False
    """Whether a new file is `pending` for a moment, in which no batch can be made of it."""

    def routes_to(self, path: str) -> list[str]:
        """A path of OpenAI's (behind `/v1`) as this provider has it."""
        return [f"{prefix}{path}" for prefix in self.prefixes]

    def time(self, seconds: float | None) -> int | str | None:
        return rfc3339(seconds) if self.iso_times else timestamp(seconds)

    def word(self, status: str) -> str:
        return self.words.get(status, status)

    def no_file(self) -> str | None:
        return "" if self.blank_ids else None

    def hours(self, window: object) -> int | None:
        """How long a completion window is; None for one that is not offered."""
        found = _WINDOW.fullmatch(window) if isinstance(window, str) else None
        if found is None:
            return None
        hours = int(found[1]) * (24 if found[2] == "d" else 1)
        return hours if hours in self.window_hours else None

    def model(self, name: object) -> Model | None:
        """The model of that name, or of the deployment that is called after it."""
        found = find_model(name, self.provider)
        if found is None and self.deployment_suffix and isinstance(name, str):
            return find_model(name.removesuffix(self.deployment_suffix), self.provider)
        return found

    def asked(self, body: Document) -> Document:
        """A request body in OpenAI's words."""
        renamed = {other: body[own] for own, other in self.renamed.items() if body.get(own) is not None}
        if self.deployment_suffix and (model := self.model(body.get("model"))) is not None:
            renamed["model"] = model.name
        return {**body, **renamed} if renamed else body

    def dressed(self, document: Document) -> Document:
        """A response body of OpenAI's as this provider words it."""
        if self.content_filters and "choices" in document:
            choices = [{**choice, "content_filter_results": _SAFE} for choice in document["choices"]]
            prompts = [{"prompt_index": 0, "content_filter_results": _SAFE}]
            return {**document, "choices": choices, "prompt_filter_results": prompts}
        if self.total_usage_only and document.get("object") == "list":
            return {**document, "usage": {"total_tokens": document["usage"]["total_tokens"]}}
        return document


def _named(*calls: str) -> dict[str, str]:
    """Endpoints that are named as at OpenAI."""
    return {call: call for call in calls}


def _variables(name: str, base: str) -> dict[str, str]:
    return {f"{name}_BASE_URL": "{url}" + base, f"{name}_API_KEY": "emulator"}


OPENAI = Dialect(
    provider="openai",
    variables=_variables("OPENAI", "/v1"),
    endpoints=_named(CHAT, RESPONSES, EMBEDDINGS),
    calls=(CHAT, RESPONSES, EMBEDDINGS),
    tiers=True,
    parts=True,
    webhooks=True,
    usage=True,
)

# Azure OpenAI (batch how-to, limits and REST pages, 2026-03 to 2026-08). The examples create with
# `/chat/completions` and write `/v1/chat/completions` in the rows. Embeddings are not offered in batches.
AZURE = Dialect(
    provider="azure",
    prefixes=("/openai/v1", "/openai"),
    variables={"AZURE_OPENAI_ENDPOINT": "{url}", "AZURE_OPENAI_API_KEY": "emulator"},
    key_headers=("api-key",),
    endpoints={
        **_named(CHAT, RESPONSES),
        CHAT.removeprefix("/v1"): CHAT,
        RESPONSES.removeprefix("/v1"): RESPONSES,
    },
    calls=(CHAT, RESPONSES, EMBEDDINGS),
    parts=True,
    caps=Caps(rows=100_000, files=500, files_expiring=10_000),
    expires=False,
    full_status=400,
    row_style="no-id",
    content_filters=True,
    deployment_suffix="-batch",
    usage=True,
    blank_ids=True,
    empty_error_file=True,
    shortest_life=14 * 86_400,
    file_days=None,
    pending_first=True,
)

# Groq: the SDK names 100 MB for a file, the guide 200; only chat completions are in the SDK's types.
GROQ = Dialect(
    provider="groq",
    prefixes=("/openai/v1",),
    variables={"GROQ_BASE_URL": "{url}", "GROQ_API_KEY": "emulator"},
    endpoints=_named(CHAT),
    caps=Caps(batch_bytes=100 * _MB),
    window_hours=range(24, 7 * 24 + 1),
)

# Together: the SDK appends `/v1` to a base URL since its version 3, so one that ends in `/v1` says it twice.
# There is no word for a batch that is finalizing or being cancelled.
TOGETHER = Dialect(
    provider="together",
    variables=_variables("TOGETHER", ""),
    endpoints=_named(CHAT),
    caps=Caps(batch_bytes=100 * _MB),
    window_default="24h",
    metadata=False,
    row_targets=False,
    row_style="bare",
    iso_times=True,
    words={
        "validating": "VALIDATING",
        "in_progress": "IN_PROGRESS",
        "finalizing": "IN_PROGRESS",
        "cancelling": "IN_PROGRESS",
        "completed": "COMPLETED",
        "failed": "FAILED",
        "expired": "EXPIRED",
        "cancelled": "CANCELLED",
    },
    purpose="batch-api",
    output_purpose="batch-api",
    file_days=None,
)

MOONSHOT = Dialect(
    provider="moonshot",
    variables=_variables("MOONSHOT", "/v1"),
    endpoints=_named(CHAT),
    caps=Caps(batch_bytes=100 * _MB, files=1_000),
    window_hours=range(12, 7 * 24 + 1),
)

QWEN = Dialect(
    provider="qwen",
    prefixes=("/compatible-mode/v1",),
    variables=_variables("DASHSCOPE", "/compatible-mode/v1"),
    endpoints=_named(CHAT, EMBEDDINGS),
    calls=(CHAT, EMBEDDINGS),
    caps=Caps(batch_bytes=500 * _MB, line_bytes=6 * _MB),
    window_hours=range(24, 336 + 1),
)

# Zhipu (docs.bigmodel.cn): endpoints are named from their version on, the window may be left out, and the
# input file goes with its batch unless `auto_delete_input_file` is false.
ZHIPU = Dialect(
    provider="zhipu",
    prefixes=("/api/paas/v4",),
    variables=_variables("ZAI", "/api/paas/v4"),
    endpoints={"/v4/chat/completions": CHAT, "/v4/embeddings": EMBEDDINGS},
    calls=(CHAT, EMBEDDINGS),
    caps=Caps(batch_bytes=100 * _MB, embedding_rows=10_000),
    window_default="24h",
    deletes_input=True,
)

DEEPINFRA = Dialect(
    provider="deepinfra",
    prefixes=("/v1/openai",),
    variables=_variables("DEEPINFRA", "/v1/openai"),
    endpoints=_named(CHAT, EMBEDDINGS),
    calls=(CHAT, EMBEDDINGS),
    usage=True,
)

DOUBLEWORD = Dialect(
    provider="doubleword",
    variables=_variables("DOUBLEWORD", "/v1"),
    endpoints=_named(CHAT, RESPONSES, EMBEDDINGS),
    calls=(CHAT, RESPONSES, EMBEDDINGS),
    window_hours=(1, 24),
)

# Novita (API reference): 48 hours whatever a create says, times and errors are texts, ids are empty until
# there is a file.
NOVITA = Dialect(
    provider="novita",
    prefixes=("/openai/v1",),
    variables=_variables("NOVITA", "/openai/v1"),
    endpoints=_named(CHAT),
    window_hours=(48,),
    window_default="48h",
    window_fixed=True,
    iso_times=True,
    words={
        "validating": "VALIDATING",
        "in_progress": "PROGRESS",
        "finalizing": "PROGRESS",
        "cancelling": "CANCELLING",
        "completed": "COMPLETED",
        "failed": "FAILED",
        "expired": "EXPIRED",
        "cancelled": "CANCELLED",
    },
    errors_as_text=True,
    blank_ids=True,
    file_days=15.0,
)

# Voyage (batch guide, public preview): rows are `{custom_id, body}`, everything but the input is said once in
# `request_params`; files have no status.
VOYAGE = Dialect(
    provider="voyage",
    variables=_variables("VOYAGE", "/v1"),
    endpoints=_named(EMBEDDINGS),
    calls=(EMBEDDINGS,),
    caps=Caps(rows=100_000, batch_bytes=1024 * _MB, file_bytes=1024 * _MB, embedding_inputs=100_000),
    window_hours=(12,),
    request_params=True,
    row_targets=False,
    total_usage_only=True,
    renamed={"output_dimension": "dimensions"},
    iso_times=True,
    file_status=None,
)
