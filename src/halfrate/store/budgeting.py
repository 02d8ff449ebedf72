"""Budgets against the ledger and against what is promised, within somebody's transaction."""

from collections.abc import Sequence

import msgspec

from halfrate.core.budgets import Amount, Budget, Purse, Standing, Terms, standing
from halfrate.core.job import Job
from halfrate.store import sql
from halfrate.store.connector import Params, Row, Transaction
from halfrate.store.records import job_of


class Budgeting:
    """Remembers what tells which budgets a job is under: that never changes, and is asked over and over."""

    def __init__(self) -> None:
        self._terms: dict[str, Terms] = {}

    def standings(self, transaction: Transaction, now: float, terms: Terms | None = None) -> list[Standing]:
        """How all budgets stand, or those that a job of these terms is under."""
        held = [one for one in budgets(transaction) if terms is None or one.covers(terms)]
        return self._against(transaction, held, now, sql.PROMISED)

    def purse(self, transaction: Transaction, now: float) -> Purse | None:
        """What budgets let be sent now; None where none stops anything."""
        held = [one for one in budgets(transaction) if one.stop is not None]
        return Purse(self._against(transaction, held, now, sql.AT_WORK)) if held else None

    def held_by(self, transaction: Transaction, job: Job, now: float) -> list[Standing]:
        """Budgets for which shards of a job wait, `promised` being what is at work. Empty where none does."""
        terms = Terms.of(job)
        stops = [one for one in budgets(transaction) if one.stop is not None and one.covers(terms)]
        if not stops:
            return []
        stakes = [stake for (stake,) in transaction.fetch_all(sql.UNSENT_STAKES, {"job_id": job.id})]
        held = self._against(transaction, stops, now, sql.AT_WORK)
        return [one for one in held if stakes and all(map(one.stops, stakes))]

    def terms(self, transaction: Transaction, job_id: str) -> Terms:
        terms = self._terms.get(job_id)
        if terms is None:
            # Payments and shards belong to jobs: there is one.
            (row,) = transaction.fetch_all(sql.JOB, {"id": job_id})
            terms = self._terms[job_id] = Terms.of(job_of(row))
        return terms

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
        terms = {job_id: self.terms(transaction, job_id) for job_id in jobs}
        return [standing(one, paid[one.since(now)], stakes, terms) for one in held]


def budgets(transaction: Transaction) -> list[Budget]:
    return [msgspec.json.decode(record, type=Budget) for (record,) in transaction.fetch_all(sql.BUDGETS)]


def place_of(budget: Budget) -> Params:
    """Whose it is, and for how long: there is one of each."""
    return {"name": budget.name, "value": budget.value, "period": budget.period}


def _amount(row: Row) -> Amount:
    job_id, unknown, multiples, rest = row
    return Amount(job_id, int(multiples or 0) * sql.SPLIT + int(rest or 0), int(unknown))
