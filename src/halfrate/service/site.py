"""What there is to know of jobs: their records, files, accounts, terms and checks."""

from halfrate.base.errors import SettingsError, UsageError
from halfrate.blobs.depot import AnyDepot
from halfrate.blobs.files import JobFiles
from halfrate.core.job import Job
from halfrate.core.lifecycle import Policy
from halfrate.providers.base import Account, Adapter, place_of
from halfrate.providers.registry import account_of, adapter_class
from halfrate.rows.collect import Check
from halfrate.service.answers import schema_check
from halfrate.service.home import Home
from halfrate.store.store import Store


class JobSite:
    """Looks up what the engine asks of its `Site`, and remembers what it found.

    An adapter stays with it from when it is first asked for until it is disconnected.
    """

    def __init__(self, home: Home, store: Store, depot: AnyDepot) -> None:
        self.depot = depot
        self._home = home
        self._store = store
        self._adapters: dict[str, Adapter] = {}
        self._jobs: dict[str, Job] = {}
        self._checks: dict[str, Check] = {}

    def job(self, job_id: str) -> Job:
        """Raises UsageError where there is none."""
        job = self._jobs.get(job_id)
        if job is None:
            job = self._store.job(job_id)
            if job is None:
                raise UsageError(f"There is no job {job_id!r}. `halfrate jobs` lists them.")
            self._jobs[job_id] = job
        return job

    def remember(self, job: Job) -> None:
        """To be called with a job that was changed."""
        self._jobs[job.id] = job

    def fresh(self, job_id: str) -> Job:
        """A job as it is now: another process may have changed it. Raises UsageError where there is none."""
        self.forget(job_id)
        return self.job(job_id)

    def forget(self, job_id: str) -> None:
        """Look a job up anew the next time: another process may have changed it."""
        self._jobs.pop(job_id, None)

    def accounts(self) -> set[str]:
        """The accounts of all jobs that were looked up."""
        # Other threads may add some meanwhile.
        return {job.account for job in list(self._jobs.values())}

    def files(self, job_id: str) -> JobFiles:
        files = self._home.files(job_id, self.depot)
        files.ready()
        return files

    def adapter(self, account: str) -> Adapter:
        adapter = self._adapters.get(account)
        if adapter is None:
            adapter = self._adapters[account] = connect(account_for(account))
        return adapter

    async def disconnect(self, account: str) -> None:
        """Let go of an account's adapter, if there is one."""
        adapter = self._adapters.pop(account, None)
        if adapter is not None:
            await adapter.close()

    async def disconnect_all(self) -> None:
        for name in list(self._adapters):
            await self._adapters.pop(name).close()

    def policy(self, job: Job) -> Policy:
        facts = adapter_class(job.spec.provider).capabilities
        rescued = job.deadline is not None and job.rescue and facts.rescues
        oversized = "realtime" if rescued else job.small_tails
        return self._home.policy(facts, job.max_attempts, job.tier, job.small_tails, oversized)

    def check(self, job: Job) -> Check | None:
        check = self._checks.get(job.id)
        if check is None and job.spec.schema is not None:
            check = self._checks[job.id] = schema_check(job.spec.schema)
        return check

    def set_check(self, job_id: str, check: Check) -> None:
        """What a job's answers are checked by from here on, in place of its schema."""
        self._checks[job_id] = check


def connect(account: Account) -> Adapter:
    return adapter_class(account.provider)(account)


def account_for(name: str) -> Account:
    """The account that owns a job's batches. Another place or provider would not know them.

    Raises SettingsError where the settings give it another place by now.
    """
    place = place_of(name)
    account = account_of(place.named)
    if account.name == name:
        return account
    facts = adapter_class(place.provider).capabilities
    lost = "nothing was sent or lost."
    if place_of(account.name)[:2] != place[:2]:
        raise SettingsError(
            f"This job's batches belong to the account {place.named!r} of {facts.title} at {place.base_url}. "
            f"That name means {account.provider} at {account.base_url} now. Give the account its name back in the "
            f"settings to go on with the job; {lost}"
        )
    if place.label or not facts.url_variable or facts.url_path:
        raise SettingsError(
            f"This job's batches are at {place.base_url}, and the account {place.named!r} is at "
            f"{account.base_url} now. Set its URL, project and region as they were to go on with the job; {lost}"
        )
    raise SettingsError(
        f"This job's batches are at {place.base_url}, and {facts.url_variable} now says {account.base_url}. "
        f"Set {facts.url_variable}={place.base_url} to go on with it; {lost}"
    )
