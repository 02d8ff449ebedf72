"""Records as rows of the database, and rows as records."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from halfrate.base.results import Billed
from halfrate.base.types import Usage
from halfrate.core.job import Job
from halfrate.core.lifecycle import Shard
from halfrate.store import sql
from halfrate.store.connector import Params, Row, Value


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """How long something took. `kind`: "batch", "settle", "harvest", or a tier in which rows were answered in real
    time; `over`: whether it came to its end, and not only so far."""

    kind: str
    at: float
    seconds: float
    rows: int
    over: bool = True


class LedgerLine(msgspec.Struct, frozen=True, kw_only=True):
    """A sum of ledger entries. `key`: the value they were grouped by. Money in picodollars."""

    key: str
    rows: int
    usage: Usage
    cost: int | None
    realtime_cost: int | None
    uncached_cost: int | None
    """What they would have been if nothing were cached."""
    waste: int | None
    doubts: int = 0
    """Calls in real time that may have been billed unseen: what they cost is not known, and in no sum."""


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """Payments of one job, model, account, tier and kind on one day (UTC, days since 1970). Money in picodollars.

    `kind`: `rows`; `waste`, paid for and of no use; or `doubt`, calls that may have been billed unseen, whose cost
    is unknown.
    """

    job_id: str
    model: str
    account: str
    tier: str
    kind: str
    day: int
    rows: int
    usage: Usage
    cost: int | None
    realtime_cost: int | None
    uncached_cost: int | None = None
    """What they would have been if nothing were cached."""


def job_params(job: Job) -> dict[str, Value]:
    return {
        "id": job.id,
        "created_at": job.created_at,
        "state": job.state.value,
        "account": job.account,
        "spec_hash": job.spec_hash,
        "input_size": job.input_size,
        "finished_at": job.finished_at,
        "team": job.team,
        "priority": job.priority,
        "deadline": job.deadline,
        "record": msgspec.json.encode(job).decode(),
    }


def job_of(row: Row) -> Job:
    return msgspec.json.decode(row[0], type=Job)


def shard_params(shard: Shard) -> dict[str, Value]:
    return {
        "id": shard.id,
        "job_id": shard.job_id,
        "number": shard.number,
        "account": shard.account,
        "model": shard.model,
        "state": shard.state.value,
        "version": shard.version,
        "next_at": shard.next_at,
        "stake": shard.stake,
        "record": msgspec.json.encode(shard).decode(),
    }


def shard_of(row: Row) -> Shard:
    record, version = row
    # A claim raises the version and leaves the record alone: the column is what counts.
    return msgspec.structs.replace(msgspec.json.decode(record, type=Shard), version=version)


def in_order(rows: Iterable[Row]) -> list[Shard]:
    """Shards in an order of ours: databases return what they wrote in any."""
    return sorted(map(shard_of, rows), key=lambda shard: (shard.next_at, shard.job_id, shard.number))


def batch_params(shard: Shard, batch_id: str) -> Params:
    return {
        "account": shard.account,
        "batch_id": batch_id,
        "job_id": shard.job_id,
        "shard_id": shard.id,
        "attempt": shard.attempt,
        "rows": shard.sending,
        "created_at": shard.submitted_at or 0.0,
    }


def payment_params(shard: Shard, attempt: int, kind: str, billed: Billed, now: float) -> Params:
    return {
        "shard_id": shard.id,
        "attempt": attempt,
        "model": billed.model,
        "kind": kind,
        "at": now,
        "job_id": shard.job_id,
        "account": shard.account,
        "tier": billed.tier,
        "rows": billed.rows,
        **msgspec.structs.asdict(billed.usage),
        "cost": billed.cost,
        "realtime_cost": billed.realtime_cost,
        "uncached_cost": billed.uncached_cost,
    }


def ledger_line(row: Row) -> LedgerLine:
    key, rows, *numbers = row
    usage, sums = _usage(numbers)
    return LedgerLine(
        key=key,
        # PostgreSQL adds bigints up to a decimal.
        rows=int(rows),
        usage=usage,
        cost=amount(*sums[:3]),
        realtime_cost=amount(*sums[3:6]),
        uncached_cost=amount(*sums[6:9]),
        waste=amount(*sums[9:12]),
        doubts=int(sums[12]),
    )


def spent_line(row: Row) -> Spent:
    job_id, model, account, tier, kind, day, rows, *numbers = row
    usage, sums = _usage(numbers)
    return Spent(
        job_id=job_id,
        model=model,
        account=account,
        tier=tier,
        kind=kind,
        day=int(day),
        rows=int(rows),
        usage=usage,
        cost=amount(*sums[:3]),
        realtime_cost=amount(*sums[3:6]),
        uncached_cost=amount(*sums[6:9]),
    )


def _usage(numbers: Sequence[Any]) -> tuple[Usage, Sequence[Any]]:
    """Sums of tokens, and what follows them."""
    kinds = len(sql.TOKENS)
    return Usage(*map(int, numbers[:kinds])), numbers[kinds:]


def amount(unknown: int, multiples: Any, rest: Any) -> int | None:
    """A sum in which one unknown makes the whole unknown, where SQL would leave it out."""
    return None if unknown else int(multiples or 0) * sql.SPLIT + int(rest or 0)
