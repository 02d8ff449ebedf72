"""What halfrate remembers. Every method is one transaction.

The methods are synchronous and take well under a millisecond, the wait for the disk aside; the engine calls
them from threads.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal

import msgspec

from halfrate.base.errors import IllegalStep, SettingsError
from halfrate.base.results import Billed, Collection
from halfrate.base.types import Usage
from halfrate.core import admission, budgets
from halfrate.core.admission import Candidate, Held, Queue, Quota, QuotaKind
from halfrate.core.budgets import Amount, Budget, OnBudget, Purse, Standing, Terms
from halfrate.core.job import Job, JobState
from halfrate.core.lifecycle import Shard
from halfrate.store import sql
from halfrate.store.connector import Connector, Params, Row, Transaction, Value
from halfrate.store.migrate import bring_up_to_date
from halfrate.store.sqlite import SqliteConnector

_PATIENCE: Final = 30.0
_LOOK_AGAIN: Final = 2.0
"""Seconds until the next look for room in a queue, which other processes give back as well."""
_HOUR: Final = 3600.0
_EVERYTHING: Final = 2**62  # as a LIMIT: the dialects have different words for "all"


class Fenced(Exception):
    """The record has moved on since it was read: another worker holds it now. What was done is not saved."""


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


class Store:
    """The memory of one installation. Made by `Store.open`; safe to use from several threads."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._terms: dict[str, Terms] = {}

    @classmethod
    def open(cls, url: str, *, patience: float = _PATIENCE) -> "Store":
        """The store at `url`, as in "sqlite:///path", made or brought up to date if need be.

        `patience`: seconds to wait for whoever holds the database. Raises StoreBusy after that, StorageError
        where the database cannot be opened, SettingsError for a URL that names none.
        """
        connector = _connector(url, patience)
        try:
            bring_up_to_date(connector)
        except BaseException:
            connector.close()
            raise
        return cls(connector)

    def close(self) -> None:
        self._connector.close()

    # ------------------------------------------------------------ jobs

    def add_job(self, job: Job, shards: Sequence[Shard], *, on_budget: OnBudget = "refuse") -> None:
        """Record a job with all of its shards, or nothing. Raises OverBudget.

        `on_budget`: whether a job that would cross a budget is refused, or taken on to wait.
        """
        with self._connector.writing() as transaction:
            # Two jobs that fit one by one need not fit together.
            transaction.lock("admission")
            stakes = [shard.stake for shard in shards]
            for one in self._standings(transaction, job.created_at, Terms.of(job)):
                budgets.check_job(one, job.forecast.cost, stakes, on_budget)
            transaction.execute(sql.ADD_JOB, _job_params(job))
            for shard in shards:
                transaction.execute(sql.ADD_SHARD, _shard_params(shard))

    def job(self, job_id: str) -> Job | None:
        with self._connector.reading() as transaction:
            row = transaction.fetch_one(sql.JOB, {"id": job_id})
        return None if row is None else _job(row)

    def jobs(self, *, states: Iterable[JobState] = (), limit: int | None = None) -> list[Job]:
        """Jobs, the newest first; of all states where none is named."""
        wanted = sorted({state.value for state in states})
        params: dict[str, Value] = {"limit": _EVERYTHING if limit is None else limit}
        statement = sql.JOBS
        if wanted:
            statement = sql.JOBS_IN_STATES
            params |= {name: wanted[min(at, len(wanted) - 1)] for at, name in enumerate(sql.STATE_PARAMETERS)}
        with self._connector.reading() as transaction:
            rows = transaction.fetch_all(statement, params)
        return [_job(row) for row in rows]

    def jobs_starting(self, prefix: str) -> list[str]:
        """Ids of jobs that begin with `prefix`, ten at most. Case does not matter."""
        params: Params = {"prefix": prefix.lower(), "length": len(prefix.lower())}
        with self._connector.reading() as transaction:
            return [job_id for (job_id,) in transaction.fetch_all(sql.JOBS_STARTING, params)]

    def twins_of(self, spec_hash: str, input_size: int) -> list[Job]:
        """Open jobs that ask the same of an input of the same size."""
        params: Params = {"spec_hash": spec_hash, "input_size": input_size}
        with self._connector.reading() as transaction:
            rows = transaction.fetch_all(sql.TWINS, params)
        return [_job(row) for row in rows]

    def save_job(self, job: Job) -> None:
        with self._connector.writing() as transaction:
            transaction.execute(sql.SAVE_JOB, _job_params(job))

    # ------------------------------------------------------------ shards

    def shards(self, job_id: str) -> list[Shard]:
        """The shards of a job, in row order."""
        with self._connector.reading() as transaction:
            rows = transaction.fetch_all(sql.SHARDS, {"job_id": job_id})
        return [_shard(row) for row in rows]

    def claim(
        self,
        owner: str,
        now: float,
        lease: float,
        *,
        job_id: str | None = None,
        limit: int = 16,
        quotas: Sequence[Quota] = (),
    ) -> list[Shard]:
        """Take due shards for `owner` until `now + lease`; what another holds becomes due when its lease ends.

        A shard that would be sent next is taken only if there is room for it in its model's queue, which is held
        for it from then on. `quotas`: limits that hold where none is recorded.
        """
        params: dict[str, Value] = {"owner": owner, "now": now, "lease_until": now + lease, "limit": limit}
        statement = sql.CLAIM
        if job_id is not None:
            statement = sql.CLAIM_OF_JOB
            params["job_id"] = job_id
        with self._connector.writing() as transaction:
            taken = _in_order(transaction.fetch_all(statement, params))
            if len(taken) < limit:
                taken += self._admit(transaction, owner, now, lease, job_id, limit - len(taken), quotas)
            return taken

    def _admit(
        self,
        transaction: Transaction,
        owner: str,
        now: float,
        lease: float,
        job_id: str | None,
        limit: int,
        facts: Sequence[Quota],
    ) -> list[Shard]:
        """Take shards that would be sent next, as far as there is room for them."""
        params: dict[str, Value] = {"now": now}
        classes, statement = sql.WAITING_CLASSES, sql.CANDIDATES
        if job_id is not None:
            classes, statement = sql.WAITING_CLASSES_OF_JOB, sql.CANDIDATES_OF_JOB
            params["job_id"] = job_id
        found = transaction.fetch_all(classes, params)
        if not found:
            return []
        # What is free is counted and taken by one at a time.
        transaction.lock("admission")
        queues = {
            (queue.account, queue.model): queue
            for (record,) in transaction.fetch_all(sql.QUEUES)
            for queue in (msgspec.json.decode(record, type=Queue),)
        }
        purse = self._purse(transaction, now)
        shards: dict[str, Shard] = {}
        candidates: list[Candidate] = []
        for account, model, team, priority in found:
            of_class = {
                "account": account,
                "model": model,
                "team": team,
                "priority": priority,
                "limit": limit,
            }
            for record, version, *terms in transaction.fetch_all(statement, {**params, **of_class}):
                shard = _shard((record, version))
                if purse is not None and not self._affords(transaction, purse, shard):
                    continue
                shards[shard.id] = shard
                queue = queues.get((account, model), Queue(account=account, model=model))
                candidates.append(_candidate(shard, queue, *terms))
        decision = admission.admit(
            candidates,
            [Held(**dict(zip(_HELD, row, strict=True))) for row in _held(transaction)],
            dict(transaction.fetch_all(sql.CREATES, {"since": now - _HOUR})),
            _quotas(transaction, facts),
            queues.values(),
            now,
            limit,
        )
        taken: list[Shard] = []
        for shard_id, room in (*((shard_id, None) for shard_id in decision.admitted), *decision.cut):
            shard = shards[shard_id]
            if purse is not None and room is None and not shard.cancel_requested:
                # Those before it in this round may have taken what was left.
                if not self._affords(transaction, purse, shard):
                    continue
                purse.take(self._terms_of(transaction, shard.job_id), shard.stake)
            lock: Params = {
                "id": shard_id,
                "version": shard.version,
                "owner": owner,
                "lease_until": now + lease,
            }
            if transaction.execute(sql.TAKE, lock) != 1:
                continue
            if room is None and not shard.cancel_requested:
                candidate = next(item for item in candidates if item.shard_id == shard_id)
                transaction.execute(sql.RESERVE, _reservation(candidate))
            taken.append(msgspec.structs.replace(shard, version=shard.version + 1, room=room))
        return taken

    def _affords(self, transaction: Transaction, purse: Purse, shard: Shard) -> bool:
        return shard.cancel_requested or purse.affords(self._terms_of(transaction, shard.job_id), shard.stake)

    def next_due(self, job_id: str | None = None, *, now: float | None = None) -> float | None:
        """When the next shard is due, or None when none goes on by itself.

        `now`: a moment at which no more could be claimed. A shard that was due then waits for room, and is looked
        at again a little later.
        """
        params: Params = {} if job_id is None else {"job_id": job_id}
        due, waiting = (
            (sql.NEXT_DUE, sql.NEXT_WAITING)
            if job_id is None
            else (sql.NEXT_DUE_OF_JOB, sql.NEXT_WAITING_OF_JOB)
        )
        with self._connector.reading() as transaction:
            row = transaction.fetch_one(due, params)
            waits = transaction.fetch_one(waiting, params)
        times = [] if row is None else [row[0]]
        if waits is not None:
            refused = now is not None and waits[0] <= now
            times.append(now + _LOOK_AGAIN if refused and now is not None else waits[0])
        return min(times, default=None)

    def save(self, shard: Shard, owner: str, *, lease_until: float | None = None) -> Shard:
        """Commit a step. Raises Fenced if the record is no longer the one that was claimed.

        `lease_until`: keep the shard for `owner` until then; otherwise it belongs to nobody afterwards.
        """
        with self._connector.writing() as transaction:
            saved = _save(transaction, shard, owner, lease_until)
            for batch_id in shard.refs.batches:
                transaction.execute(sql.NOTE_BATCH, _batch_params(shard, batch_id))
            return saved

    def save_intent(self, shard: Shard, owner: str, lease_until: float, *, alone: bool) -> Shard | None:
        """Commit an intent to create. `alone`: only if no other intent of the account is open, else None.

        An open intent is a shard in `submitting`. Where a provider shows no name of ours in its listing,
        one intent at a time is what makes a lost batch recognisable.
        """
        with self._connector.writing() as transaction:
            if alone:
                # Two shards are two rows: without this, two workers could each see that the other is not there.
                transaction.lock(f"intent of {shard.account}")
                params: Params = {"account": shard.account, "id": shard.id}
                if transaction.fetch_one(sql.OTHER_INTENTS, params) is not None:
                    return None
            return _save(transaction, shard, owner, lease_until)

    def open_intent(self, account: str) -> Shard | None:
        """A shard of the account whose create is on its way, or of which nobody knows whether it arrived."""
        with self._connector.reading() as transaction:
            row = transaction.fetch_one(sql.OPEN_INTENT, {"account": account})
        return _shard(row) if row is not None else None

    def save_collected(
        self,
        shard: Shard,
        owner: str,
        attempt: int,
        collection: Collection,
        now: float,
        *,
        doubts: int = 0,
        tier: str = "batch",
    ) -> Shard:
        """Commit the end of an attempt and its payments together: each is recorded once, or not at all.

        `doubts`: calls that may have been billed unseen, in `tier`.

        Raises Fenced as `save` does, and IllegalStep for an attempt that the ledger has already.
        """
        this: Params = {"shard_id": shard.id, "attempt": attempt}
        lines = [("rows", billed) for billed in collection.billed]
        lines += [("waste", billed) for billed in collection.wasted]
        if doubts:
            unknown = Billed(shard.model, doubts, Usage(), None, None, tier)
            lines.append(("doubt", unknown))
        summary = msgspec.json.encode(collection).decode()
        with self._connector.writing() as transaction:
            saved = _save(transaction, shard, owner, None)
            if transaction.fetch_one(sql.PAID, this) is not None:
                raise IllegalStep(f"attempt {attempt} of shard {shard.id} is in the ledger already")
            for kind, billed in lines:
                transaction.execute(sql.ADD_PAYMENT, _payment_params(shard, attempt, kind, billed, now))
            _note_count(transaction, shard, collection)
            transaction.execute(sql.END_BATCHES, {**this, "ended_at": now, "summary": summary})
            return saved

    def extend(self, shard: Shard, owner: str, lease_until: float) -> bool:
        """Keep a claimed shard for longer; whether it is still the owner's."""
        params: Params = {
            "id": shard.id,
            "version": shard.version,
            "owner": owner,
            "lease_until": lease_until,
        }
        with self._connector.writing() as transaction:
            return transaction.execute(sql.EXTEND, params) == 1

    def release(self, shard: Shard, owner: str, next_at: float) -> bool:
        """Give a claimed shard back unchanged; whether it was still the owner's. Harmless if it is not."""
        with self._connector.writing() as transaction:
            params: Params = {"id": shard.id, "owner": owner, "next_at": next_at}
            return transaction.execute(sql.RELEASE, params) == 1

    def hint(self, account: str, batch_id: str, now: float) -> bool:
        """Something was heard of a batch: have it looked at now. Whether one of ours was waiting to be looked at."""
        params: Params = {"account": account, "batch_id": batch_id, "now": now}
        with self._connector.writing() as transaction:
            return transaction.execute(sql.HINT, params) > 0

    def owners(self) -> list[str]:
        """Everyone who holds a shard."""
        with self._connector.reading() as transaction:
            return [owner for (owner,) in transaction.fetch_all(sql.OWNERS)]

    def take_over(self, dead: str, owner: str, lease_until: float) -> list[Shard]:
        """Claim everything that a worker proven dead held."""
        params: Params = {"dead": dead, "owner": owner, "lease_until": lease_until}
        with self._connector.writing() as transaction:
            return _in_order(transaction.fetch_all(sql.TAKE_OVER, params))

    def change(self, shard_id: str, step: Callable[[Shard], Shard | None]) -> Shard | None:
        """Apply `step` to a record whoever holds it; None leaves it as it is. `step` must not use the store.

        For what a user asks (cancel, retry): a worker in the middle of a step is fenced and steps again.
        """
        with self._connector.writing() as transaction:
            row = transaction.fetch_one(sql.SHARD_TO_CHANGE, {"id": shard_id})
            if row is None:
                return None
            shard = _shard(row)
            changed = step(shard)
            if changed is None:
                return None
            # The fence counts from what is stored, whatever `step` made of it.
            current = msgspec.structs.replace(changed, version=shard.version)
            transaction.execute(sql.CHANGE_SHARD, _shard_params(current))
            if not current.holds_room:
                transaction.execute(sql.UNRESERVE, {"shard_id": shard.id})
            return msgspec.structs.replace(current, version=shard.version + 1)

    # ------------------------------------------------------------ queues

    def note_refusal(self, shard: Shard, now: float, wait: float, longest: float, told: int | None) -> float:
        """Remember that a shard's batch found its model's queue full; when to try again at the earliest.

        `told`: the limit in tokens that the provider named, if it did.
        """
        place: Params = {"account": shard.account, "model": shard.model}
        with self._connector.writing() as transaction:
            transaction.lock("admission")
            if told is not None:
                quota = {**place, "kind": "tokens", "most": told, "source": "told", "at": now}
                transaction.execute(sql.SET_QUOTA, quota)
            queue = _queue(transaction, place)
            queue = admission.refused(
                queue,
                queue.reckon(shard.demand),
                _in_use(transaction, shard),
                now,
                wait,
                longest,
                told=told is not None,
            )
            transaction.execute(sql.SAVE_QUEUE, {**place, "record": msgspec.json.encode(queue).decode()})
            return queue.hold_until

    def note_accepted(self, shard: Shard) -> None:
        """Remember that a shard's batch was taken into its model's queue, where that says something new."""
        place: Params = {"account": shard.account, "model": shard.model}
        with self._connector.reading() as transaction:
            if transaction.fetch_one(sql.QUEUE, place) is None:
                return
        with self._connector.writing() as transaction:
            transaction.lock("admission")
            queue = _queue(transaction, place)
            in_use = _in_use(transaction, shard) + queue.reckon(shard.demand)
            queue = admission.accepted(queue, in_use)
            transaction.execute(sql.SAVE_QUEUE, {**place, "record": msgspec.json.encode(queue).decode()})

    def add_span(self, shard: Shard, span: Span) -> None:
        """Record how long something took for a shard's account and model."""
        params: Params = {**msgspec.structs.asdict(span), "account": shard.account, "model": shard.model}
        with self._connector.writing() as transaction:
            transaction.execute(sql.ADD_SPAN, params)

    def spans(self, account: str, model: str, kind: str, limit: int = 200) -> list[Span]:
        """How long the newest of a kind took, the oldest first."""
        params: Params = {"account": account, "model": model, "kind": kind, "limit": limit}
        with self._connector.reading() as transaction:
            rows = transaction.fetch_all(sql.SPANS, params)
        return [
            Span(kind=kind, at=0.0, seconds=seconds, rows=int(count), over=bool(over))
            for seconds, count, over in reversed(rows)
        ]

    def quotas(self) -> list[tuple[Quota, str]]:
        """All limits that are known, and whether a person "set" them or a provider "told" them."""
        with self._connector.reading() as transaction:
            rows = transaction.fetch_all(sql.QUOTAS)
        return [
            (Quota(account=account, model=model, kind=kind, most=int(most)), source)
            for account, model, kind, most, source in rows
        ]

    def limits(self, account: str, model: str) -> list[tuple[Quota, str]]:
        """Those of `quotas` that concern a model, what holds for all of the account's models first."""
        known = sorted(self.quotas(), key=lambda item: item[0].model)
        return [(q, by) for q, by in known if q.account == account and q.model in {"", model}]

    def set_quota(self, quota: Quota, now: float, source: Literal["set", "told"] = "set") -> None:
        """Record a limit that a person has set, or that a provider told, unless a person has set it."""
        params: Params = {**msgspec.structs.asdict(quota), "source": source, "at": now}
        with self._connector.writing() as transaction:
            transaction.execute(sql.SET_QUOTA, params)

    def drop_quota(self, account: str, model: str, kind: QuotaKind) -> bool:
        """Forget a limit, and what refusals have taught about this queue; whether there was one."""
        place: Params = {"account": account, "model": model}
        with self._connector.writing() as transaction:
            transaction.execute(sql.DROP_QUEUE, place)
            return transaction.execute(sql.DROP_QUOTA, {**place, "kind": kind}) > 0

    # ------------------------------------------------------------ budgets

    def budgets(self) -> list[Budget]:
        with self._connector.reading() as transaction:
            return _budgets(transaction)

    def set_budget(self, budget: Budget) -> None:
        """Record a budget, in place of another with the same scope and period."""
        place: Params = {"name": budget.name, "value": budget.value, "period": budget.period}
        with self._connector.writing() as transaction:
            transaction.execute(sql.SET_BUDGET, {**place, "record": msgspec.json.encode(budget).decode()})

    def drop_budget(self, budget: Budget) -> bool:
        """Forget the budget of this scope and period; whether there was one."""
        place: Params = {"name": budget.name, "value": budget.value, "period": budget.period}
        with self._connector.writing() as transaction:
            return transaction.execute(sql.DROP_BUDGET, place) > 0

    def standings(self, now: float, terms: Terms | None = None) -> list[Standing]:
        """How all budgets stand, or those that a job of these terms is under."""
        with self._connector.reading() as transaction:
            return self._standings(transaction, now, terms)

    def held_by(self, job: Job, now: float) -> list[Standing]:
        """Budgets for which shards of a job wait, `promised` being what is at work. Empty where none does."""
        with self._connector.reading() as transaction:
            terms = Terms.of(job)
            stops = [one for one in _budgets(transaction) if one.stop is not None and one.covers(terms)]
            if not stops:
                return []
            shards = map(_shard, transaction.fetch_all(sql.UNSENT, {"job_id": job.id}))
            stakes = [shard.stake for shard in shards]
            held = self._against(transaction, stops, now, sql.AT_WORK)
            return [one for one in held if stakes and all(map(one.stops, stakes))]

    def _standings(self, transaction: Transaction, now: float, terms: Terms | None) -> list[Standing]:
        held = [one for one in _budgets(transaction) if terms is None or one.covers(terms)]
        return self._against(transaction, held, now, sql.PROMISED)

    def _purse(self, transaction: Transaction, now: float) -> Purse | None:
        """What budgets let be sent now; None where there are none."""
        held = [one for one in _budgets(transaction) if one.stop is not None]
        return Purse(self._against(transaction, held, now, sql.AT_WORK)) if held else None

    def _against(
        self, transaction: Transaction, held: Sequence[Budget], now: float, promised: str
    ) -> list[Standing]:
        if not held:
            return []
        paid = {
            since: [_amount(row) for row in transaction.fetch_all(sql.PAID_SINCE, {"since": since})]
            for since in {one.since(now) for one in held}
        }
        stakes = [_amount(row) for row in transaction.fetch_all(promised)]
        jobs = {one.job_id for amounts in (stakes, *paid.values()) for one in amounts}
        terms = {job_id: self._terms_of(transaction, job_id) for job_id in jobs}
        return [budgets.standing(one, paid[one.since(now)], stakes, terms) for one in held]

    def _terms_of(self, transaction: Transaction, job_id: str) -> Terms:
        # They never change, and budgets are held against every job of a month, over and over.
        terms = self._terms.get(job_id)
        if terms is None:
            # Payments and shards belong to jobs: there is one.
            (row,) = transaction.fetch_all(sql.JOB, {"id": job_id})
            terms = self._terms[job_id] = Terms.of(_job(row))
        return terms

    # ------------------------------------------------------------ batches and money

    def known_batches(self, account: str, *, besides: str) -> tuple[str, ...]:
        """Batches of an account that belong to shards other than `besides`."""
        params: Params = {"account": account, "besides": besides}
        with self._connector.reading() as transaction:
            return tuple(batch_id for (batch_id,) in transaction.fetch_all(sql.KNOWN_BATCHES, params))

    def collections(self, job_id: str) -> list[tuple[str, int, Collection]]:
        """(shard id, attempt, what it gave) of every attempt that was collected, oldest first."""
        with self._connector.reading() as transaction:
            rows = transaction.fetch_all(sql.COLLECTIONS, {"job_id": job_id})
        # The batches of one attempt, twins, carry the same summary.
        summaries = {(shard_id, attempt): summary for shard_id, attempt, summary in rows}
        return [
            (shard_id, attempt, msgspec.json.decode(summary, type=Collection))
            for (shard_id, attempt), summary in summaries.items()
        ]

    def ledger(self, job_id: str | None = None, *, by: str = "job") -> list[LedgerLine]:
        """Payments added up by "job", "model", "account", "tier" or "kind"."""
        with self._connector.reading() as transaction:
            if job_id is None:
                rows = transaction.fetch_all(sql.LEDGER[by])
            else:
                rows = transaction.fetch_all(sql.LEDGER_OF_JOB[by], {"job_id": job_id})
        return [_ledger_line(row) for row in rows]

    def spent(self, *, job_id: str | None = None, since: float = 0.0, until: float = math.inf) -> list[Spent]:
        """Payments from `since` until before `until` (seconds since 1970), the oldest day first."""
        params: dict[str, Value] = {"since": since, "until": min(until, float(_EVERYTHING))}
        statement = sql.SPENT
        if job_id is not None:
            params["job_id"], statement = job_id, sql.SPENT_OF_JOB
        with self._connector.reading() as transaction:
            return [_spent(row) for row in transaction.fetch_all(statement, params)]


def _connector(url: str, patience: float) -> Connector:
    scheme, _, path = url.partition("://")
    if scheme in {"postgresql", "postgres"}:
        try:
            from halfrate.store.postgres import PostgresConnector
        except ImportError as error:
            raise SettingsError(
                "A PostgreSQL database needs psycopg: pip install 'halfrate[postgres]'. Nothing was sent."
            ) from error
        return PostgresConnector(url, patience=patience)
    if scheme != "sqlite" or not path.startswith("/") or path in {"/", "/:memory:"}:
        # A database in memory would be another one for each of our connections. The URL may hold a password, so
        # nothing of it is repeated.
        raise SettingsError(
            "The database's URL names none that halfrate can use; it takes sqlite:///<file> or "
            "postgresql://<user>@<host>/<database>. Nothing was sent."
        )
    return SqliteConnector(path[1:], patience=patience)


def _save(transaction: Transaction, shard: Shard, owner: str, lease_until: float | None) -> Shard:
    params = _shard_params(shard)
    params["owner"] = owner
    params["next_owner"] = None
    if lease_until is not None:
        params["next_owner"] = owner
        params["next_at"] = lease_until
    if transaction.execute(sql.SAVE_SHARD, params) != 1:
        raise Fenced(shard.id)
    if not shard.holds_room:
        transaction.execute(sql.UNRESERVE, {"shard_id": shard.id})
    elif shard.accepted:
        transaction.execute(sql.ACCEPTED, {"shard_id": shard.id})
    return msgspec.structs.replace(shard, version=shard.version + 1)


# ---------------------------------------------------------------- admission


_HELD: Final = ("account", "model", "team", "tokens", "rows", "batches", "accepted")


def _held(transaction: Transaction) -> list[Row]:
    # PostgreSQL adds bigints up to a decimal.
    return [(*row[:3], *map(int, row[3:])) for row in transaction.fetch_all(sql.HELD)]


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


def _budgets(transaction: Transaction) -> list[Budget]:
    return [msgspec.json.decode(record, type=Budget) for (record,) in transaction.fetch_all(sql.BUDGETS)]


def _amount(row: Row) -> Amount:
    job_id, unknown, multiples, rest = row
    return Amount(job_id, int(multiples or 0) * sql.SPLIT + int(rest or 0), int(unknown))


def _reservation(candidate: Candidate) -> Params:
    return {
        "shard_id": candidate.shard_id,
        "account": candidate.account,
        "model": candidate.model,
        "team": candidate.team,
        "tokens": candidate.tokens,
        "rows": candidate.rows,
    }


def _note_count(transaction: Transaction, shard: Shard, collection: Collection) -> None:
    """Learn from a finished batch how the provider counts what we reckoned."""
    rows = sum(billed.rows for billed in collection.billed)
    estimated = shard.tokens * rows // shard.rows if shard.rows else 0
    tokens = sum(billed.usage.total_input for billed in collection.billed)
    if not estimated or not tokens:
        return
    place: Params = {"account": shard.account, "model": shard.model}
    queue = admission.counted(_queue(transaction, place), estimated, tokens)
    transaction.execute(sql.SAVE_QUEUE, {**place, "record": msgspec.json.encode(queue).decode()})


def _queue(transaction: Transaction, place: Params) -> Queue:
    row = transaction.fetch_one(sql.QUEUE, place)
    if row is None:
        return Queue(account=str(place["account"]), model=str(place["model"]))
    return msgspec.json.decode(row[0], type=Queue)


def _in_use(transaction: Transaction, shard: Shard) -> int:
    """Tokens of the shard's model that other shards hold."""
    params: Params = {"account": shard.account, "model": shard.model, "besides": shard.id}
    row = transaction.fetch_one(sql.IN_USE, params)
    return int(row[0]) if row is not None else 0


# ---------------------------------------------------------------- records and rows


def _job_params(job: Job) -> dict[str, Value]:
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


def _job(row: Row) -> Job:
    return msgspec.json.decode(row[0], type=Job)


def _shard_params(shard: Shard) -> dict[str, Value]:
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
        "follows": shard.follows,
        "record": msgspec.json.encode(shard).decode(),
    }


def _shard(row: Row) -> Shard:
    record, version = row
    # A claim raises the version and leaves the record alone: the column is what counts.
    return msgspec.structs.replace(msgspec.json.decode(record, type=Shard), version=version)


def _in_order(rows: Iterable[Row]) -> list[Shard]:
    """Shards in an order of ours: databases return what they wrote in any."""
    return sorted(map(_shard, rows), key=lambda shard: (shard.next_at, shard.job_id, shard.number))


def _batch_params(shard: Shard, batch_id: str) -> Params:
    return {
        "account": shard.account,
        "batch_id": batch_id,
        "job_id": shard.job_id,
        "shard_id": shard.id,
        "attempt": shard.attempt,
        "rows": shard.sending,
        "created_at": shard.submitted_at or 0.0,
    }


def _payment_params(shard: Shard, attempt: int, kind: str, billed: Billed, now: float) -> Params:
    usage = billed.usage
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
        "input": usage.input,
        "cached": usage.cached,
        "write_5m": usage.write_5m,
        "write_1h": usage.write_1h,
        "output": usage.output,
        "reasoning": usage.reasoning,
        "cost": billed.cost,
        "realtime_cost": billed.realtime_cost,
        "uncached_cost": billed.uncached_cost,
    }


def _ledger_line(row: Row) -> LedgerLine:
    key, rows, *numbers = row
    # PostgreSQL adds bigints up to a decimal.
    return LedgerLine(
        key=key,
        rows=int(rows),
        usage=Usage(*map(int, numbers[:6])),
        cost=_sum(*numbers[6:9]),
        realtime_cost=_sum(*numbers[9:12]),
        waste=_sum(*numbers[12:15]),
        doubts=int(numbers[15]),
    )


def _spent(row: Row) -> Spent:
    job_id, model, account, tier, kind, day, rows, *numbers = row
    return Spent(
        job_id=job_id,
        model=model,
        account=account,
        tier=tier,
        kind=kind,
        day=int(day),
        rows=int(rows),
        usage=Usage(*map(int, numbers[:6])),
        cost=_sum(*numbers[6:9]),
        realtime_cost=_sum(*numbers[9:12]),
        uncached_cost=_sum(*numbers[12:15]),
    )


def _sum(unknown: int, multiples: Any, rest: Any) -> int | None:
    """A sum in which one unknown makes the whole unknown, where SQL would leave it out."""
    return None if unknown else int(multiples or 0) * sql.SPLIT + int(rest or 0)
