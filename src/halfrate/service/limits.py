"""Limits on what is sent: those of the providers' queues, and budgets."""

from collections.abc import Iterable

from halfrate.base.errors import OverBudget
from halfrate.core.admission import Quota, QuotaKind
from halfrate.core.budgets import OnBudget, Standing, Terms, check_job
from halfrate.providers.base import place_of
from halfrate.providers.registry import account_of, adapter_class
from halfrate.service.drafts import Draft
from halfrate.store.store import Store


def documented(accounts: Iterable[str]) -> list[Quota]:
    """Limits that providers document, for these accounts."""
    facts = {name: adapter_class(place_of(name).provider).capabilities for name in accounts}
    return [
        Quota(account=name, kind="creates", most=fact.creates_per_hour)
        for name, fact in sorted(facts.items())
        if fact.creates_per_hour is not None
    ]


def known_quotas(store: Store, accounts: Iterable[str]) -> list[tuple[Quota, str]]:
    """See `Service.quotas`. `accounts`: those whose documented limits are among them."""
    known = store.quotas()
    places = {(quota.account, quota.model, quota.kind) for quota, _ in known}
    facts = [
        quota for quota in documented(accounts) if (quota.account, quota.model, quota.kind) not in places
    ]
    return [*known, *((quota, "documented") for quota in facts)]


def set_quota(store: Store, model: str, kind: QuotaKind, most: int | None, now: float) -> bool:
    """See `Service.set_quota`."""
    provider, _, name = model.partition("/")
    account = account_of(provider).name
    if most is None:
        return store.drop_quota(account, name, kind)
    store.set_quota(Quota(account=account, model=name, kind=kind, most=most), now)
    return True


def check_budgets(store: Store, draft: Draft, on_budget: OnBudget, now: float) -> list[Standing]:
    """See `Service.check_budgets`."""
    found = store.standings(now, Terms.of(draft.job))
    try:
        for one in found:
            stakes = [shard.stake for shard in draft.shards]
            check_job(one, draft.job.held, stakes, on_budget, hoped=draft.job.cache.hoped)
    except OverBudget:
        draft.discard()
        raise
    return found
