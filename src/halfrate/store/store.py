"""What halfrate remembers. Every method is one transaction.

The methods are synchronous and take well under a millisecond, the wait for the disk aside; the engine calls
them from threads.
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

from halfrate.base.errors import IllegalStep, SettingsError
from halfrate.base.results import Billed, Collection
from halfrate.base.types import Usage
from halfrate.core import admission
from halfrate.core.admission import Queue, Quota, QuotaKind, Refusal
from halfrate.core.budgets import Budget, OnBudget, Standing, Terms, check_job
from halfrate.core.job import Job, JobState
from halfrate.core.lifecycle import Shard
from halfrate.store import sql
from halfrate.store.admitting import Claim, admit
from halfrate.store.budgeting import Budgeting, budgets, place_of
from halfrate.store.connector import Connector, Params, Transaction, Value
from halfrate.store.migrate import bring_up_to_date
from halfrate.store.records import (
    LedgerLine,
    Span,
    Spent,
    batch_params,
    in_order,
    job_of,
    job_params,
    ledger_line,
    payment_params,
    shard_of,
    shard_params,
    spent_line,
)
from halfrate.store.sqlite import SqliteConnector

if TYPE_CHECKING:
    from halfrate.store.calls import CallBook
    from halfrate.store.deferred import DeferredStore
    from halfrate.store.processes import ProcessStore
    from halfrate.store.surfaces import Held, SurfaceStore
    from halfrate.store.webhooks import WebhookStore

_PATIENCE: Final = 30.0
_LOOK_AGAIN: Final = 2.0
"""Seconds until the next look for room in a queue, which other processes give back as well."""
_NEARLY_ALL: Final = 0.9
"""Batches of which fewer rows were billed do not say how their provider counts."""
_EVERYTHING: Final = 2**62  # as a LIMIT: the dialects have different words for "all"


class Fenced(Exception):
    """The record has moved on since it was read: another worker holds it now. What was done is not saved."""


class Guard(NamedTuple):
    """A job is of a batch of the gateway: it is recorded only while `owner` holds that as it was read, and once.

    `put`: gives the job's files their place. Called while nobody else can record the job, so that whoever lost the
    batch meanwhile touches no files of a job that another has made.
    """

    held: "Held"
    owner: str
    put: Callable[[], None]


class Store:
    """The memory of one installation. Made by `Store.open`; safe to use from several threads."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._budgeting = Budgeting()

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

    @functools.cached_property
    def surfaces(self) -> "SurfaceStore":
        """What the gateway remembers. Commands that have nothing to do with it do not import it."""
        from halfrate.store.surfaces import SurfaceStore

        return SurfaceStore(self._connector)

    @functools.cached_property
    def calls(self) -> "CallBook":
        """Calls in real time in the ledger. As `surfaces`, it is the gateway's alone."""
        from halfrate.store.calls import CallBook

        return CallBook(self._connector)

    @functools.cached_property
    def deferred(self) -> "DeferredStore":
        """Calls that can wait. It is the gateway's alone as well."""
        from halfrate.store.deferred import DeferredStore

        return DeferredStore(self._connector)

    @functools.cached_property
    def webhooks(self) -> "WebhookStore":
        """Who is told of the ends of batches and jobs, and what is on its way to them."""
        from halfrate.store.webhooks import WebhookStore

        return WebhookStore(self._connector)

    @functools.cached_property
    def processes(self) -> "ProcessStore":
        """What the database is called, and who lives that works over it. For those alone that have a depot."""
        from halfrate.store.processes import ProcessStore

        return ProcessStore(self._connector)

    # ------------------------------------------------------------ jobs

    def add_job(
        self,
        job: Job,
        shards: Sequence[Shard],
        *,
        on_budget: OnBudget = "refuse",
        guard: "Guard | None" = None,
    ) -> None:
        """Record a job with all of its shards, or nothing. Raises OverBudget.

        `on_budget`: whether a job that would cross a budget is refused, or taken on to wait. `guard`: on what
        condition; Fenced where it does not hold.
        """
        with self._connector.writing() as transaction:
            if guard is not None:
                self._check_guard(transaction, guard, job.id)
            # Two jobs that fit one by one need not fit together.
            transaction.lock("admission")
            stakes = [shard.stake for shard in shards]
            for one in self._budgeting.standings(transaction, job.created_at, Terms.of(job)):
                check_job(one, job.held, stakes, on_budget, hoped=job.cache.hoped)
            if guard is not None:
                guard.put()
            transaction.execute(sql.ADD_JOB, job_params(job))
            for shard in shards:
                transaction.execute(sql.ADD_SHARD, shard_params(shard))

    def _check_guard(self, transaction: Transaction, guard: "Guard", job_id: str) -> None:
        held = self.surfaces.still_held(transaction, guard.held, guard.owner)
        if not held or transaction.fetch_one(sql.JOB, {"id": job_id}) is not None:
            raise Fenced(job_id)

    def job(self, job_id: str) -> Job | None:
        with self._connector.reading() as transaction:
            row = transaction.fetch_one(sql.JOB, {"id": job_id})
        return None if row is None else job_of(row)

    def job_ids(self) -> frozenset[str]:
        """Ids of all jobs, whatever their state."""
        with self._connector.reading() as transaction:
            return frozenset(job_id for (job_id,) in transaction.fetch_all(sql.JOB_IDS))

    def jobs(self, *, states: Iterable[JobState] = (), limit: int | None = None) -> list[Job]:
        """Jobs that were to be run, the newest first; of all states where none is named."""
        wanted = sorted({state.value for state in states})
        params: dict[str, Value] = {"limit": _EVERYTHING if limit is None else limit}
        statement = sql.JOBS
        if wanted:
            statement = sql.JOBS_IN_STATES
            params |= {name: wanted[min(at, len(wanted) - 1)] for at, name in enumerate(sql.STATE_PARAMETERS)}
        with self._connector.reading() as transaction:
            rows = transaction.fetch_all(statement, params)
        return [job_of(row) for row in rows]

    def settled_jobs(self) -> list[str]:
        """Ids of open jobs of which no shard goes on: whoever was about to say so may have died."""
        with self._connector.reading() as transaction:
            return [job_id for (job_id,) in transaction.fetch_all(sql.SETTLED_JOBS)]

    def paid_jobs(self) -> list[Job]:
        """All that payments can be for, what calls in real time are booked on as well; the newest first."""
        with self._connector.reading() as transaction:
            return [job_of(row) for row in transaction.fetch_all(sql.PAID_JOBS)]

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
        return [job_of(row) for row in rows]

    def save_job(self, job: Job, now: float | None = None) -> None:
        """Overwrite a job's record. `now`: tell who wants to know of the state that the job comes to by that."""
        with self._connector.writing() as transaction:
            if now is not None and job.state is not JobState.OPEN:
                from halfrate.store.webhooks import tell_of_job

                tell_of_job(transaction, job, now)
            transaction.execute(sql.SAVE_JOB, job_params(job))

    # ------------------------------------------------------------ shards

    def shards(self, job_id: str) -> list[Shard]:
        """The shards of a job, in row order."""
        with self._connector.reading() as transaction:
            rows = transaction.fetch_all(sql.SHARDS, {"job_id": job_id})
        return [shard_of(row) for row in rows]

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
            taken = in_order(transaction.fetch_all(statement, params))
            if len(taken) < limit:
                more = Claim(owner, now, now + lease, limit - len(taken), job_id)
                taken += admit(transaction, more, quotas, self._budgeting)
            return taken

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
                transaction.execute(sql.NOTE_BATCH, batch_params(shard, batch_id))
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
        return shard_of(row) if row is not None else None

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
                transaction.execute(sql.ADD_PAYMENT, payment_params(shard, attempt, kind, billed, now))
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
            return in_order(transaction.fetch_all(sql.TAKE_OVER, params))

    def change(self, shard_id: str, step: Callable[[Shard], Shard | None]) -> Shard | None:
        """Apply `step` to a record whoever holds it; None leaves it as it is. `step` must not use the store.

        For what a user asks (cancel, retry): a worker in the middle of a step is fenced and steps again.
        """
        with self._connector.writing() as transaction:
            row = transaction.fetch_one(sql.SHARD_TO_CHANGE, {"id": shard_id})
            if row is None:
                return None
            shard = shard_of(row)
            changed = step(shard)
            if changed is None:
                return None
            # The fence counts from what is stored, whatever `step` made of it.
            current = msgspec.structs.replace(changed, version=shard.version)
            transaction.execute(sql.CHANGE_SHARD, shard_params(current))
            if not current.holds_room:
                transaction.execute(sql.UNRESERVE, {"shard_id": shard.id})
            return msgspec.structs.replace(current, version=shard.version + 1)

    # ------------------------------------------------------------ queues

    def note_refusal(
        self, shard: Shard, now: float, wait: float, longest: float, told: int | None
    ) -> Refusal:
        """Remember that a shard's batch found its model's queue full, and say what is known of that queue.

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
            beside = transaction.fetch_one(sql.BESIDE, {**place, "besides": shard.id})
            return Refusal(queue=queue, until=queue.hold_until, alone=beside is None, most=told)

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
            return budgets(transaction)

    def set_budget(self, budget: Budget) -> None:
        """Record a budget, in place of another with the same scope and period."""
        record = msgspec.json.encode(budget).decode()
        with self._connector.writing() as transaction:
            transaction.execute(sql.SET_BUDGET, {**place_of(budget), "record": record})

    def drop_budget(self, budget: Budget) -> bool:
        """Forget the budget of this scope and period; whether there was one."""
        with self._connector.writing() as transaction:
            return transaction.execute(sql.DROP_BUDGET, place_of(budget)) > 0

    def standings(self, now: float, terms: Terms | None = None) -> list[Standing]:
        """How all budgets stand, or those that a job of these terms is under."""
        with self._connector.reading() as transaction:
            return self._budgeting.standings(transaction, now, terms)

    def held_by(self, job: Job, now: float) -> list[Standing]:
        """Budgets for which shards of a job wait, `promised` being what is at work. Empty where none does."""
        with self._connector.reading() as transaction:
            return self._budgeting.held_by(transaction, job, now)

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
        return [ledger_line(row) for row in rows]

    def spent(self, *, job_id: str | None = None, since: float = 0.0, until: float = math.inf) -> list[Spent]:
        """Payments from `since` until before `until` (seconds since 1970), the oldest day first."""
        params: dict[str, Value] = {"since": since, "until": min(until, float(_EVERYTHING))}
        statement = sql.SPENT
        if job_id is not None:
            params["job_id"], statement = job_id, sql.SPENT_OF_JOB
        with self._connector.reading() as transaction:
            return [spent_line(row) for row in transaction.fetch_all(statement, params)]


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
    params = shard_params(shard)
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


def _note_count(transaction: Transaction, shard: Shard, collection: Collection) -> None:
    """Learn from a finished batch how the provider counts what we reckoned."""
    rows, sent = sum(billed.rows for billed in collection.billed), collection.counts.settled
    tokens = sum(billed.usage.total_input for billed in collection.billed)
    # What rows have on an average says nothing about the few of a batch that were run.
    if not tokens or shard.measured is None or rows < _NEARLY_ALL * sent:
        return
    estimated = shard.measured * rows // sent
    if not estimated:
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
