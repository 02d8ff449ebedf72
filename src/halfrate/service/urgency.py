"""Whether a call can wait for a batch, by its deadline and by what is known of its model's batches."""

import datetime
import functools
from typing import Final

from halfrate.base.clock import Clock
from halfrate.base.types import Endpoint, JobPrices, RequestSpec
from halfrate.core.deadlines import Rescue, Send, plan
from halfrate.core.job import Forecast, Job
from halfrate.core.lifecycle import Shard
from halfrate.core.situation import MARGINS
from halfrate.engine.steps import Site
from halfrate.engine.watch import beliefs, job_view
from halfrate.providers.registry import adapter_class, split_model
from halfrate.service.prices import job_prices
from halfrate.store.store import Store

_ROWS: Final = 10 * MARGINS.small
"""Of the batch that a call is judged by: more than what is better sent at once whatever its deadline."""
_TOKENS: Final = 1_000
"""Of a call, as far as limits on tokens say how quick real time can be."""
_REMEMBERED: Final = 30.0
_STEP: Final = 60.0
"""Seconds: deadlines that differ by less are judged alike."""
_MOST: Final = 4_096


class Urgency:
    """Judges calls as the engine judges the deadlines of jobs. Its methods wait for the database."""

    def __init__(self, store: Store, site: Site, clock: Clock) -> None:
        self._store = store
        self._site = site
        self._clock = clock
        self._judged: dict[tuple[str, Endpoint, int], tuple[str, float]] = {}

    def tier(self, model: str, account: str, endpoint: Endpoint, deadline: float) -> str:
        """How a call is to be served: "batch" where it can wait, else a tier of real time.

        `model`: ACCOUNT/MODEL; `account`: as the ledger names it; `deadline`: seconds since 1970.
        """
        now = self._clock.now()
        place = (model, endpoint, int((deadline - now) / _STEP))
        known = self._judged.get(place)
        if known is not None and now < known[1]:
            return known[0]
        tier = self._judge(model, account, endpoint, deadline, now)
        if len(self._judged) >= _MOST:
            self._judged.clear()
        self._judged[place] = (tier, now + _REMEMBERED)
        return tier

    def _judge(self, model: str, account: str, endpoint: Endpoint, deadline: float, now: float) -> str:
        _, provider, name = split_model(model)
        facts = adapter_class(provider).capabilities
        spoken = endpoint if endpoint in facts.endpoints else facts.endpoints[0]
        day = datetime.datetime.fromtimestamp(now, datetime.UTC).date().isoformat()
        # A batch of such calls, as if it were about to be sent.
        job = Job(
            id="-",
            created_at=now,
            account=account,
            spec=RequestSpec(provider=provider, model=name, endpoint=spoken),
            spec_hash="",
            input_name="calls",
            input_format="jsonl",
            input_size=0,
            rows=_ROWS,
            request_bytes=0,
            prices=_prices(provider, name, day),
            forecast=Forecast(_ROWS * _TOKENS, _ROWS * _TOKENS, None, None),
            deadline=deadline,
        )
        shard = Shard(
            id="-",
            job_id="-",
            number=0,
            first_row=0,
            rows=_ROWS,
            rows_left=_ROWS,
            bytes=0,
            model=name,
            account=account,
        )
        step = plan(job_view(job, [shard], now), beliefs(self._store, self._site, job, now)).steps["-"]
        return step.tier if isinstance(step, Send | Rescue) else "batch"


@functools.lru_cache(256)
def _prices(provider: str, name: str, day: str) -> JobPrices:
    return job_prices(provider, [name], day)
