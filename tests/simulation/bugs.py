"""Mistakes, one against each promise. Planted, the simulation must find each of them: a check that cannot fail proves
nothing."""

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from halfrate.base.errors import OutcomeUnknown, ProviderError
from halfrate.base.results import Kind
from halfrate.blobs.files import JobFiles
from halfrate.core import lifecycle as life
from halfrate.core.budgets import Purse, Terms
from halfrate.core.lifecycle import Policy, Shard, State
from halfrate.engine import collecting, steps
from halfrate.providers.anthropic import Anthropic
from halfrate.providers.base import BatchView, Intent, Lookup
from halfrate.providers.http import Http
from halfrate.providers.openai import OpenAI
from halfrate.rows.collect import Collector
from halfrate.store import sql

Plant = Callable[[], Any]


def _no_intent() -> Any:
    """1. The create call leaves before its intent is committed."""
    create = steps.Worker._create

    async def hasty(self: steps.Worker, shard: Shard, job: Any, policy: Policy) -> None:
        adapter = self._adapter(shard)
        real = adapter.create
        intent = await self._intent(shard, job)
        view = await real(intent)

        async def done(_: Intent) -> BatchView:
            return view

        with patch.object(adapter, "create", done):
            await create(self, shard, job, policy)

    return patch.object(steps.Worker, "_create", hasty)


@contextmanager
def _create_twice() -> Generator[None]:
    """2. A create whose reply was lost is sent again at once, as most SDKs do."""
    openai = patch.object(OpenAI, "create", _insisting(OpenAI.create))
    with openai, patch.object(Anthropic, "create", _insisting(Anthropic.create)):
        yield


def _insisting(create: Callable[..., Any]) -> Callable[..., Any]:
    async def again(self: Any, intent: Intent) -> BatchView:
        try:
            return await create(self, intent)
        except OutcomeUnknown:
            return await create(self, intent)

    return again


def _no_settling() -> Any:
    """3. What a listing does not show is believed not to exist, at once."""

    def at_once(shard: Shard, policy: Policy) -> float:
        del shard, policy
        return 0.0

    return patch.object(life, "absent_after", at_once)


def _failed_look() -> Any:
    """3. A look-up that failed counts as one that found nothing."""

    def blind(find: Callable[..., Any]) -> Callable[..., Any]:
        async def look(self: Any, intent: Intent, now: float) -> Lookup:
            try:
                return await find(self, intent, now)
            except ProviderError:
                return Lookup()

        return look

    return patch.object(OpenAI, "find", blind(OpenAI.find))


def _no_fence() -> Any:
    """4. A worker that froze saves over its successor."""
    statement = sql.SAVE_SHARD
    loose = (
        statement[: statement.index("WHERE")] + "WHERE id = :id AND :owner = :owner AND :version = :version"
    )
    return patch.object(sql, "SAVE_SHARD", loose)


def _half_a_download() -> Any:
    """5. A download that was cut short is taken for whole."""

    async def careless(self: Http, path: str, target: Path) -> None:
        def to_file(response: Any) -> None:
            with target.open("wb") as file:
                while part := response.read(1 << 16):
                    file.write(part)

        await self._repeat(lambda: self._call("GET", path, None, 120.0, to_file))

    return patch.object(Http, "download", careless)


def _expired_is_empty() -> Any:
    """6. What an expired batch has finished is thrown away."""
    poll = OpenAI.poll

    async def hasty(self: OpenAI, batch_id: str, *, cancelled: bool = False) -> BatchView:
        view = await poll(self, batch_id, cancelled=cancelled)
        return msgspec.structs.replace(view, files=(), rows_finished=0) if view.status == "expired" else view

    return patch.object(OpenAI, "poll", hasty)


def _all_rows_again() -> Any:
    """6. A later attempt sends all rows of the shard, not those that are missing."""

    def every_row(shard: Shard, files: JobFiles) -> range:
        del files
        return range(shard.rows)

    return patch.object(collecting, "slots_to_send", every_row)


def _deleted_too_early() -> Any:
    """8. What lies at the provider is deleted before it is safe here."""
    fetch = OpenAI.fetch

    async def tidy(self: OpenAI, view: BatchView, targets: Callable[[int], Path]) -> list[Path]:
        paths = await fetch(self, view, targets)
        await self.clean_up(view.files)
        return paths

    return patch.object(OpenAI, "fetch", tidy)


def _twins_forgotten() -> Any:
    """3. Of two batches that one create made, the second is forgotten."""

    def found(shard: Shard, event: life.Found, policy: Policy, now: float) -> Shard:
        return life._running(shard, event.batch_ids[:1], "adopted", policy, now, adopted=True)

    return patch.dict(life._TABLE, {(State.SUBMITTING, life.Found): found})


def _rows_vanish() -> Any:
    """A row that no result names is counted as done."""
    finish = Collector.finish

    def content(self: Collector, absent: Kind = Kind.MISSING, why: str = "") -> Any:
        del absent, why
        return finish(self, Kind.SUCCEEDED, "never mind")

    return patch.object(Collector, "finish", content)


def _paid_by_guess() -> Any:
    """Cached or not, a row that comes twice is paid for twice in the books."""
    takes = Collector._takes

    def both(self: Collector, slot: int, result: Any, *, twin: bool) -> bool:
        if result.kind == Kind.SUCCEEDED and 0 <= slot < self._rows:
            self._books.count(result, "batch")
        return takes(self, slot, result, twin=twin)

    return patch.object(Collector, "_takes", both)


def _left_behind() -> Any:
    """Nothing is ever deleted at the provider."""

    async def lazy(self: OpenAI, leftovers: Iterable[str]) -> None:
        del self, leftovers

    return patch.object(OpenAI, "clean_up", lazy)


def _no_budget() -> Any:
    """A budget that is used up stops nothing."""

    def always(self: Purse, terms: Terms, cost: int | None) -> bool:
        del self, terms, cost
        return True

    return patch.object(Purse, "affords", always)


MONEY_BUGS: dict[str, Plant] = {"a budget that stops nothing": _no_budget}
"""Those that only show where money is what a run is about."""

BUGS: dict[str, Plant] = {
    "no intent before the create": _no_intent,
    "the create sent again": _create_twice,
    "no time to settle": _no_settling,
    "a failed look-up means absent": _failed_look,
    "a twin forgotten": _twins_forgotten,
    "no fence": _no_fence,
    "half a download": _half_a_download,
    "an expired batch not harvested": _expired_is_empty,
    "all rows sent again": _all_rows_again,
    "deleted too early": _deleted_too_early,
    "rows counted that never came": _rows_vanish,
    "a doubled line paid twice": _paid_by_guess,
    "nothing cleaned up": _left_behind,
}
