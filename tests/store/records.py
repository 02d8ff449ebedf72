"""Jobs, shards and collections for the tests of the store."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, closing
from typing import Any

import msgspec

from halfrate.base.results import Billed, Collection
from halfrate.base.types import Counts, JobPrices, RequestSpec, Usage
from halfrate.core.admission import Quota
from halfrate.core.job import Forecast, Job
from halfrate.core.lifecycle import Refs, Shard, State
from halfrate.store.store import Store

from .databases import Database

ACCOUNT = "openai@https://api.example/v1"
LEASE = 100.0


def opened(database: Database) -> AbstractContextManager[Store]:
    return closing(Store.open(database.url))


def with_room(store: Store, *accounts: str) -> None:
    """Say that everything fits the accounts' queues: what is claimed is then a matter of time alone."""
    for account in accounts or (ACCOUNT,):
        store.set_quota(Quota(account=account, model="m", kind="tokens", most=10**12), 0.0)


def a_job(job_id: str = "job", **changes: Any) -> Job:
    job = Job(
        id=job_id,
        created_at=1.0,
        account=ACCOUNT,
        spec=RequestSpec(provider="openai", model="m", endpoint="chat", prompt="{text}"),
        spec_hash="hash",
        input_name="rows.jsonl",
        input_format="jsonl",
        input_size=10,
        rows=100,
        request_bytes=1000,
        prices=JobPrices({}, {}),
        forecast=Forecast(1, 1, None, None),
        tags={"team": "größer \N{SNOWMAN}"},
    )
    return msgspec.structs.replace(job, **changes)


def a_shard(number: int = 0, job_id: str = "job", **changes: Any) -> Shard:
    shard = Shard(
        id=f"{job_id}-{number}",
        job_id=job_id,
        number=number,
        first_row=number * 10,
        rows=10,
        bytes=100,
        model="m",
        account=ACCOUNT,
        rows_left=10,
    )
    return msgspec.structs.replace(shard, **changes)


def shards(count: int, job_id: str = "job", **changes: Any) -> list[Shard]:
    return [a_shard(number, job_id, **changes) for number in range(count)]


def stepped(shard: Shard, state: State, **changes: Any) -> Shard:
    return msgspec.structs.replace(shard, state=state, **changes)


def with_batch(shard: Shard, batch_id: str, *twins: str, **changes: Any) -> Shard:
    """A shard of which a batch is running."""
    refs = Refs(batch_id=batch_id, twins=twins)
    return stepped(shard, State.RUNNING, refs=refs, submitted_at=5.0, **changes)


def billed(
    model: str = "m", rows: int = 1, *, cost: int | None = 7, realtime_cost: int | None = 14, output: int = 1
) -> Billed:
    return Billed(model, rows, Usage(input=rows, output=output), cost, realtime_cost)


def a_collection(
    lines: Sequence[Billed] = (), wasted: Sequence[Billed] = (), errors: tuple[tuple[str, int], ...] = ()
) -> Collection:
    return Collection(
        counts=Counts(succeeded=10),
        unsettled=0,
        billed=tuple(lines),
        wasted=tuple(wasted),
        duplicates=0,
        unknown=0,
        malformed=0,
        missing=0,
        errors=errors,
    )
