"""One attempt of a shard on disk: its request file and its journal."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from halfrate.base.ids import row_prefix, shard_id
from halfrate.base.types import Endpoint, RequestSpec
from halfrate.core.pacing import Load
from halfrate.engine.realtime import Work
from halfrate.providers.anthropic import Anthropic
from halfrate.providers.base import Tier
from halfrate.providers.openai import OpenAI
from halfrate.rows.journal import Journal
from halfrate.rows.requests import RequestWriter

JOB = "k3v9x2m4qp"
PREFIX = row_prefix(shard_id(JOB, 0), 1)
MODELS = {"openai": "gpt-5-mini", "anthropic": "claude-haiku-4-5"}
ENDPOINTS: dict[str, Endpoint] = {"openai": "chat", "anthropic": "messages"}


class Attempt(NamedTuple):
    """What there is of one attempt."""

    work: Work
    replies: Path
    marks: Path

    def journal(self) -> Journal:
        return Journal(self.replies, self.marks, rows=self.work.rows, first_row=0, row_prefix=PREFIX)


def attempt(
    folder: Path,
    adapter: OpenAI | Anthropic,
    account: str,
    rows: int,
    *,
    number: int = 0,
    tier: Tier = "standard",
    model: str | None = None,
    max_tokens: int = 50,
    params: dict[str, Any] | None = None,
    texts: Sequence[str] = (),
    load: Callable[[bytes], Load] | None = None,
) -> Attempt:
    """Write the request file of an attempt, unless it is there already."""
    provider = adapter.capabilities.provider
    endpoint = ENDPOINTS[provider]
    model = model or MODELS[provider]
    spec = RequestSpec(
        provider=provider, model=model, endpoint=endpoint, max_tokens=max_tokens, params=params or {}
    )
    requests = folder / f"requests-{number}"
    framing, envelope = adapter.capabilities.framing, adapter.envelope(endpoint)
    if not requests.exists():
        writer = RequestWriter(
            lambda _: requests,
            job_id=JOB,
            envelope=envelope,
            framing=framing,
            body=adapter.body(spec),
            limits=adapter.capabilities.limits,
            name="in.jsonl",
            provider="OpenAI",
        )
        asked = texts or [f"What is {n} plus {number}?" for n in range(rows)]
        writer.add([msgspec.json.encode(text) for text in asked], model)
        writer.cut()
    work = Work(
        account=account,
        model=model,
        endpoint=endpoint,
        tier=tier,
        requests=requests,
        rows=rows,
        framing=framing,
        envelope=envelope,
        row_prefix=PREFIX,
        first_row=0,
    )
    if load is not None:
        work = msgspec.structs.replace(work, load=load)
    return Attempt(work, folder / f"replies-{number}", folder / f"marks-{number}")
