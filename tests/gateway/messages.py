"""Anthropic's message batches as tests ask for them."""

import time
from collections.abc import Iterable
from typing import Any

import anthropic
from anthropic.types.messages import MessageBatch

CLAUDE = "claude-haiku-4-5"


def request(custom_id: str, model: Any = CLAUDE, **params: Any) -> dict[str, Any]:
    message = {"role": "user", "content": f"What is {custom_id}?"}
    return {
        "custom_id": custom_id,
        "params": {"model": model, "max_tokens": 20, "messages": [message], **params},
    }


def make(client: anthropic.Anthropic, requests: Iterable[dict[str, Any]], **options: Any) -> MessageBatch:
    given: Any = list(requests)
    return client.messages.batches.create(requests=given, **options)


def wait(client: anthropic.Anthropic, batch: MessageBatch, *, seconds: float = 30.0) -> MessageBatch:
    """The batch at its end; before it nothing is counted as anything but processing."""
    total = batch.request_counts.processing
    deadline = time.monotonic() + seconds
    while batch.processing_status != "ended":
        assert batch.request_counts.model_dump() == counts(processing=total)
        assert (batch.results_url, batch.ended_at, batch.archived_at) == (None, None, None)
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)
        batch = client.messages.batches.retrieve(batch.id)
    return batch


def counts(**given: int) -> dict[str, int]:
    return {"processing": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0, **given}


def results_of(client: anthropic.Anthropic, batch: MessageBatch) -> dict[str, Any]:
    """What became of each request. Every one of the batch has a line, and one alone."""
    lines = list(client.messages.batches.results(batch.id))
    found: dict[str, Any] = {line.custom_id: line.result for line in lines}
    assert len(found) == len(lines) == sum(batch.request_counts.model_dump().values())
    kinds = [result.type for result in found.values()]
    assert batch.request_counts.model_dump() == counts(**{kind: kinds.count(kind) for kind in set(kinds)})
    return found
