"""What comes out of jobs: output files, providers' own result lines, and what is known of every row."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from halfrate.base.errors import SettingsError
from halfrate.base.ids import row_prefix
from halfrate.base.types import Outcome, OutputFormat
from halfrate.core.job import Job
from halfrate.core.lifecycle import LIVE, State
from halfrate.engine.steps import Site
from halfrate.providers.registry import decoder
from halfrate.rows.collect import RecordFormat
from halfrate.rows.output import ShardView, Snapshot, write_output
from halfrate.rows.results import ResultRecord, iter_results
from halfrate.service.drafts import unwritable
from halfrate.service.reporting import not_run_because
from halfrate.store.store import Store

if TYPE_CHECKING:
    from halfrate.rows.raw import RawShard


class Outputs:
    """Does what `Service` promises under the same names, for jobs that are still at work as well."""

    def __init__(self, store: Store, site: Site) -> None:
        self._store = store
        self._site = site

    def deliver(self, job_id: str, target: Path | None, form: OutputFormat | None = None) -> Path:
        job = self._site.job(job_id)
        path = target if target is not None else output_path(job)
        check_target(path)
        write_output(
            self._snapshot(job),
            self._views(job),
            path,
            form or job.output_format,
            job.names,
            unknown_record=self._unknown_record(job),
        )
        return path

    def deliver_own(self, job_id: str) -> Path:
        job = self._site.job(job_id)
        return self.deliver_raw(job_id, output_path(job)) if job.raw else self.deliver(job_id, None)

    def deliver_raw(self, job_id: str, target: Path) -> Path:
        job = self._site.job(job_id)
        check_target(target)
        from halfrate.rows.raw import write_raw
        from halfrate.rows.sources import asked_url, native_bodies
        from halfrate.service.rendering import rendering

        spec, snapshot = job.spec, self._snapshot(job)
        endpoint = spec.endpoint
        if spec.native == "openai" and asked_url(snapshot.path).endswith("/responses"):
            endpoint = "responses"
        form, render = rendering(
            spec.native, decoder(spec.provider), int(job.created_at), endpoint, spec.endpoint
        )
        looks_back = render is not None and endpoint in {"responses", "embeddings"}
        write_raw(
            snapshot,
            self._raw_shards(job),
            target,
            form,
            id_column=job.spec.id_column,
            render=render,
            requests=native_bodies(snapshot.path) if looks_back else None,
        )
        return target

    def results(self, job_id: str) -> Iterator[ResultRecord]:
        job = self._site.job(job_id)
        return iter_results(self._views(job), job.names, unknown_record=self._unknown_record(job))

    def tiers(self, job_id: str) -> dict[int, str]:
        from halfrate.service.tiers import tiers

        job = self._site.job(job_id)
        if all(line.key == "batch" for line in self._store.ledger(job_id, by="tier")):
            return {}
        return tiers(job, self._store.shards(job_id), self._site.files(job_id))

    # ------------------------------------------------------------ parts

    def _views(self, job: Job) -> list[ShardView]:
        files = self._site.files(job.id)
        return [
            ShardView(shard.first_row, shard.rows, tuple(files.all_outcomes(shard.number, shard.attempt)))
            for shard in self._store.shards(job.id)
        ]

    def _raw_shards(self, job: Job) -> "list[RawShard]":
        from halfrate.rows.raw import RawAttempt, RawShard

        adapter = decoder(job.spec.provider)
        files = self._site.files(job.id)
        return [
            RawShard(
                shard.first_row,
                shard.rows,
                tuple(
                    RawAttempt(
                        adapter.line_reader(job.spec.endpoint, row_prefix(shard.id, attempt)).general,
                        tuple(files.all_results(shard.number, attempt)),
                        files.outcomes(shard.number, attempt),
                    )
                    for attempt in range(1, shard.attempt + 1)
                    if files.depot.bring(files.outcomes(shard.number, attempt))
                ),
            )
            for shard in self._store.shards(job.id)
        ]

    def _unknown_record(self, job: Job) -> bytes:
        """What to write of rows that no attempt knows."""
        form = RecordFormat(job.names)
        shards = self._store.shards(job.id)
        if any(shard.state in LIVE and not shard.cancel_requested for shard in shards):
            return form.failed(Outcome.WAITING, "this row's outcome is still to come")
        stopped = next((shard for shard in shards if shard.state is State.STOPPED), None)
        if stopped is not None:
            return form.failed(Outcome.FAILED, not_run_because(stopped))
        return form.failed(Outcome.CANCELLED, "this row was not run")

    def _snapshot(self, job: Job) -> Snapshot:
        files = self._site.files(job.id)
        path = files.depot.need(files.snapshot(job.input_format))
        return Snapshot(path, job.input_format, job.spec.native)


def check_target(path: Path) -> None:
    """Raises SettingsError where no file of this name can be made."""
    problem = unwritable(path)
    if problem is not None:
        raise SettingsError(f"{problem} The answers are kept; name another place with -o.")


def output_path(job: Job) -> Path:
    """Where the output goes unless another place is named, settled when the job was submitted."""
    return Path(job.output) if job.output is not None else Path(f"answers-{job.id}.{job.output_format}")


def new_output_path(job: Job) -> Path:
    """Where the output of a new job is to go, absolute: where it was asked for, else beside nothing of the user's that
    is there already."""
    if job.output is not None:
        return Path(job.output).absolute()
    stem = "" if job.input_name in {"standard input", "rows"} else f"{Path(job.input_name).stem}."
    ending = "raw.jsonl" if job.raw else job.output_format
    plain = Path(f"{stem}answers.{ending}").absolute()
    return plain.with_name(f"{stem}answers-{job.id}.{ending}") if plain.exists() else plain
