"""The report of a job, made from its shards, the ledger and its outcomes."""

from halfrate.base.results import Kind
from halfrate.base.types import Usage
from halfrate.core.job import Job
from halfrate.core.lifecycle import LIVE, Shard, State
from halfrate.engine.collecting import outcomes_of
from halfrate.engine.steps import Site
from halfrate.rows.records import record_decoder
from halfrate.service.report import Report
from halfrate.store.store import Store


def report(store: Store, site: Site, job: Job, *, reasons: bool) -> Report:
    """What the store and the ledger know of a job. `reasons`: why rows failed, read from their outcomes."""
    shards = store.shards(job.id)
    lines = store.ledger(job.id)
    collections = [found for _, _, found in store.collections(job.id)]
    line = lines[0] if lines else None
    realtime = [line for line in store.ledger(job.id, by="tier") if line.key != "batch"]
    rescue_costs = [line.cost for line in realtime]
    errors = _reasons(site, job, shards) if reasons else {}
    settled = [shard for shard in shards if shard.state not in LIVE]
    cancelled = sum(_never_run(shard) for shard in settled if shard.state is State.DONE)
    refused = [shard for shard in settled if shard.state is State.STOPPED and _never_run(shard)]
    for shard in refused:
        text = not_run_because(shard)
        errors[text] = errors.get(text, 0) + _never_run(shard)
    unsent = sum(map(_never_run, refused))
    done = sum(shard.counts.settled for shard in settled) + cancelled + unsent
    return Report(
        job=job,
        succeeded=sum(shard.counts.succeeded for shard in shards),
        failed=sum(shard.counts.failed for shard in settled) + unsent,
        expired=sum(shard.counts.expired for shard in settled),
        cancelled=sum(shard.counts.cancelled for shard in settled) + cancelled,
        waiting=job.rows - done,
        rescued=sum(line.rows for line in realtime),
        rescue_cost=None if None in rescue_costs else sum(cost or 0 for cost in rescue_costs),
        usage=line.usage if line is not None else Usage(),
        cost=line.cost if line is not None else 0,
        realtime_cost=line.realtime_cost if line is not None else 0,
        uncached_cost=line.uncached_cost if line is not None else 0,
        waste=line.waste if line is not None else 0,
        doubts=line.doubts if line is not None else 0,
        errors=tuple(sorted(errors.items(), key=lambda item: -item[1])),
        duplicates=sum(c.duplicates for c in collections),
        unknown_lines=sum(c.unknown for c in collections),
        malformed_lines=sum(c.malformed for c in collections),
        attempts=max((shard.try_number for shard in shards), default=1),
        paused=sum(shard.paused for shard in shards if shard.state in LIVE),
        paused_because=next((s.paused_because for s in shards if s.paused_because and s.state in LIVE), None),
        stopped=tuple(dict.fromkeys(_reason(s) for s in shards if s.state is State.STOPPED)),
    )


def _reasons(site: Site, job: Job, shards: list[Shard]) -> dict[str, int]:
    """Why rows failed, as they stand now, and how many rows each reason holds for."""
    decode = record_decoder(job.names)
    found: dict[str, int] = {}
    for shard in shards:
        if shard.state in LIVE or shard.counts.succeeded == shard.counts.settled:
            continue
        with outcomes_of(shard, site.files(job.id)) as outcomes:
            for slot, kind in enumerate(outcomes.kinds()):
                if kind not in {Kind.UNKNOWN, Kind.SUCCEEDED}:
                    error = decode(outcomes.records(slot, slot + 1, b"")[0]).error or "no reason given"
                    found[error] = found.get(error, 0) + 1
    return found


def _reason(shard: Shard) -> str:
    return shard.trouble.message if shard.trouble is not None else "refused"


def not_run_because(shard: Shard) -> str:
    """The error of the rows of a stopped shard that no attempt knows."""
    return f"not run: {_reason(shard)}"


def _never_run(shard: Shard) -> int:
    """Rows of a finished shard that no attempt knows: it was cancelled, or refused, before they were run."""
    return shard.rows - shard.counts.settled
