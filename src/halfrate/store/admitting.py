"""Who is let into the providers' queues: what `core.admission` decides, read and taken in one transaction."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from halfrate.core import admission
from halfrate.core.admission import Candidate, Held, Queue, Quota
from halfrate.core.budgets import Purse
from halfrate.core.lifecycle import Shard
from halfrate.store import sql
from halfrate.store.budgeting import Budgeting
from halfrate.store.connector import Params, Row, Transaction, Value
from halfrate.store.records import shard_of

_HOUR: Final = 3600.0
_HELD: Final = ("account", "model", "team", "tokens", "rows", "batches", "accepted")


class Claim(msgspec.Struct, frozen=True):
    """Who takes shards, when, until when, and how many at most. `job_id`: of one job alone."""

    owner: str
    now: float
    lease_until: float
    limit: int
    job_id: str | None = None


def admit(
    transaction: Transaction, claim: Claim, facts: Sequence[Quota], budgeting: Budgeting
) -> list[Shard]:
    """Take shards that would be sent next, as far as queues and budgets have room for them.

    `facts`: limits that hold where none is recorded.
    """
    if not _classes(transaction, claim.now, claim.job_id):
        return []
    # What is free is counted and taken by one at a time.
    transaction.lock("admission")
    queues = {
        (queue.account, queue.model): queue
        for (record,) in transaction.fetch_all(sql.QUEUES)
        for queue in (msgspec.json.decode(record, type=Queue),)
    }
    purse = budgeting.purse(transaction, claim.now)
    shards: dict[str, Shard] = {}
    candidates: dict[str, Candidate] = {}
    for shard, terms in _waiting(transaction, claim, purse, budgeting):
        queue = queues.get((shard.account, shard.model), Queue(account=shard.account, model=shard.model))
        shards[shard.id] = shard
        candidates[shard.id] = _candidate(shard, queue, *terms)
    decision = admission.admit(
        list(candidates.values()),
        _held(transaction),
        dict(transaction.fetch_all(sql.CREATES, {"since": claim.now - _HOUR})),
        _quotas(transaction, facts),
        queues.values(),
        claim.now,
        claim.limit,
    )
    taken: list[Shard] = []
    for shard_id, room in (*((shard_id, None) for shard_id in decision.admitted), *decision.cut):
        shard = shards[shard_id]
        sends = room is None and not shard.cancel_requested
        # Those before it in this round may have taken what was left.
        if (
            sends
            and purse is not None
            and not purse.take(budgeting.terms(transaction, shard.job_id), shard.stake)
        ):
            continue
        lock: Params = {
            "id": shard_id,
            "version": shard.version,
            "owner": claim.owner,
            "lease_until": claim.lease_until,
        }
        if transaction.execute(sql.TAKE, lock) != 1:
            continue
        if sends:
            transaction.execute(sql.RESERVE, _reservation(candidates[shard_id]))
        taken.append(msgspec.structs.replace(shard, version=shard.version + 1, room=room))
    return taken


def _classes(transaction: Transaction, now: float, job_id: str | None) -> list[Row]:
    """Account, model, team and priority of what waits, of one job or of all."""
    if job_id is None:
        return transaction.fetch_all(sql.WAITING_CLASSES, {"now": now})
    return transaction.fetch_all(sql.WAITING_CLASSES_OF_JOB, {"now": now, "job_id": job_id})


def _waiting(
    transaction: Transaction, claim: Claim, purse: Purse | None, budgeting: Budgeting
) -> Iterator[tuple[Shard, Row]]:
    """The most urgent shards of each class, with when they are due, their team, priority and deadline."""
    for job_id in _jobs(transaction, claim, purse, budgeting):
        statement = sql.CANDIDATES if job_id is None else sql.CANDIDATES_OF_JOB
        params: dict[str, Value] = {"now": claim.now, "limit": claim.limit}
        if job_id is not None:
            params["job_id"] = job_id
        for account, model, team, priority in _classes(transaction, claim.now, job_id):
            of_class = {"account": account, "model": model, "team": team, "priority": priority}
            for record, version, *terms in transaction.fetch_all(statement, {**params, **of_class}):
                shard = shard_of((record, version))
                if purse is None or purse.affords(budgeting.terms(transaction, shard.job_id), shard.stake):
                    yield shard, tuple(terms)


def _jobs(
    transaction: Transaction, claim: Claim, purse: Purse | None, budgeting: Budgeting
) -> Sequence[str | None]:
    """Whose shards are to be looked at, None for everybody's.

    Under budgets each job is looked at by itself: of all together only the most urgent are, and those that wait for
    money would hide the rest.
    """
    if claim.job_id is not None or purse is None:
        return [claim.job_id]
    least = transaction.fetch_all(sql.WAITING_JOBS, {"now": claim.now})
    return [job_id for job_id, stake in least if purse.affords(budgeting.terms(transaction, job_id), stake)]


def _held(transaction: Transaction) -> list[Held]:
    # PostgreSQL adds bigints up to a decimal.
    rows: list[Row] = [(*row[:3], *map(int, row[3:])) for row in transaction.fetch_all(sql.HELD)]
    return [Held(**dict(zip(_HELD, row, strict=True))) for row in rows]


def _quotas(transaction: Transaction, facts: Iterable[Quota]) -> list[Quota]:
    known = {(quota.account, quota.model, quota.kind): quota for quota in facts}
    for account, model, kind, most, _ in transaction.fetch_all(sql.QUOTAS):
        if kind not in admission.OF_QUEUES:
            continue
        known[account, model, kind] = Quota(account=account, model=model, kind=kind, most=int(most))
    return list(known.values())


def _candidate(
    shard: Shard, queue: Queue, due: float, team: str, priority: int, deadline: float | None
) -> Candidate:
    return Candidate(
        shard_id=shard.id,
        account=shard.account,
        model=shard.model,
        team=team,
        priority=priority,
        deadline=deadline,
        due=due,
        rows=shard.sending,
        tokens=queue.reckon(shard.demand),
        free=shard.cancel_requested,
    )


def _reservation(candidate: Candidate) -> Params:
    return {
        "shard_id": candidate.shard_id,
        "account": candidate.account,
        "model": candidate.model,
        "team": candidate.team,
        "tokens": candidate.tokens,
        "rows": candidate.rows,
    }
