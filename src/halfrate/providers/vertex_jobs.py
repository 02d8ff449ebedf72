"""BatchPredictionJobs of Vertex AI as they are described, and what that means.

Facts are from the REST reference of BatchPredictionJob and the batch prediction pages, as of 2026-11. Counts are
int64, which JSON of protocol buffers writes as strings, and -1 where they are not known. Rows that were finished are
delivered, and billed, however a job ends.
"""

import re
from typing import Final

import msgspec

from halfrate.base.errors import OutcomeUnknown
from halfrate.base.results import Kind
from halfrate.providers.base import BatchView

RECORD: Final = "batchPredictionJobs/"
"""How the record of a job is named among what is to be deleted."""
WHOLE: Final = frozenset({"succeeded", "partially_succeeded"})
"""Ends at which there are results."""
_ENDED: Final = frozenset({"SUCCEEDED", "PARTIALLY_SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"})
# Paused, updating, or a state never seen before is not an end: the job may still be at work.
_ABSENT: Final = {"EXPIRED": Kind.EXPIRED, "CANCELLED": Kind.CANCELLED}
_HOPELESS: Final = frozenset({3, 5, 7, 9, 12, 16})
"""Codes of google.rpc that lie in what was asked, or in what the service agent may do: a person has to mend that."""
_PREDICTIONS: Final = re.compile(r"(?:.*/)?predictions[^/]*\.jsonl(?:-\d+-of-\d+)?")
_PARTIAL: Final = re.compile(r"(?:.*/)?[^/]*predictions[^/]*\.jsonl(?:-\d+-of-\d+)?")


class _Status(msgspec.Struct):
    code: int | None = None
    message: str | None = None


class _Stats(msgspec.Struct, rename="camel"):
    successful_count: str | int = 0
    failed_count: str | int = 0


class _Objects(msgspec.Struct, rename="camel"):
    uris: list[str] = msgspec.field(default_factory=list[str])


class _SourceTable(msgspec.Struct, rename="camel"):
    input_uri: str = ""


class _Input(msgspec.Struct, rename="camel"):
    gcs_source: _Objects | None = None
    bigquery_source: _SourceTable | None = None


class _Folder(msgspec.Struct, rename="camel"):
    output_uri_prefix: str = ""


class _TargetTable(msgspec.Struct, rename="camel"):
    output_uri: str = ""


class _Output(msgspec.Struct, rename="camel"):
    gcs_destination: _Folder | None = None
    bigquery_destination: _TargetTable | None = None


class _Made(msgspec.Struct, rename="camel"):
    gcs_output_directory: str = ""
    bigquery_output_dataset: str = ""
    bigquery_output_table: str = ""


class Job(msgspec.Struct, rename="camel"):
    name: str
    display_name: str = ""
    state: str = "JOB_STATE_UNSPECIFIED"
    create_time: str = ""
    error: _Status | None = None
    input_config: _Input | None = None
    output_config: _Output | None = None
    output_info: _Made | None = None
    completion_stats: _Stats | None = None

    @property
    def job_id(self) -> str:
        return self.name.rpartition("/")[2]

    @property
    def short_state(self) -> str:
        return self.state.removeprefix("JOB_STATE_")

    @property
    def source(self) -> str:
        """Where its rows are."""
        given = self.input_config or _Input()
        if given.bigquery_source is not None:
            return given.bigquery_source.input_uri
        return next(iter(given.gcs_source.uris), "") if given.gcs_source is not None else ""

    @property
    def destination(self) -> str:
        """Where its results were to be: a folder in which they have one of their own, or a table."""
        given = self.output_config or _Output()
        if given.bigquery_destination is not None:
            return given.bigquery_destination.output_uri
        return (
            given.gcs_destination.output_uri_prefix.rstrip("/") if given.gcs_destination is not None else ""
        )

    @property
    def results(self) -> str:
        """Where its results are, "" where it is not said."""
        made = self.output_info or _Made()
        table = made.bigquery_output_table
        if not table:
            return made.gcs_output_directory.rstrip("/")
        if table.startswith("bq://"):
            return table
        # The reference has a name alone, in a dataset that stands beside it; whole names are seen, too.
        dataset = made.bigquery_output_dataset or self.destination.rpartition(".")[0]
        return f"bq://{table}" if table.count(".") >= 2 else f"{dataset}.{table}"


class Jobs(msgspec.Struct, rename="camel"):
    batch_prediction_jobs: list[Job] = msgspec.field(default_factory=list[Job])
    next_page_token: str | None = None


def table_of(tag: str) -> str:
    """A tag as the name of a table, which nobody ever has to quote."""
    return tag.replace("-", "_")


def view_of(job: Job) -> BatchView:
    """A job, in halfrate's terms."""
    state = job.short_state
    ended = state in _ENDED
    stats = job.completion_stats or _Stats()
    finished = max(0, int(stats.successful_count)) + max(0, int(stats.failed_count))
    results = job.results
    if ended and not results and (finished or state.lower() in WHOLE):
        results = job.destination
        if not results:
            raise OutcomeUnknown(f"Vertex AI does not say where the results of job {job.job_id} are")
    failure, hopeless = None, False
    if state == "FAILED":
        error = job.error or _Status()
        failure = (str(error.code or "failed"), error.message or "Vertex AI gave no reason")
        hopeless = error.code in _HOPELESS
    return BatchView(
        batch_id=job.job_id,
        status=state.lower(),
        ended=ended,
        rows_finished=finished,
        files=(results,) if ended and results else (),
        leftovers=(*_ours(job), RECORD + job.job_id),
        absent=_ABSENT.get(state, Kind.MISSING),
        failure=failure,
        hopeless=hopeless,
    )


def files_among(names: list[str]) -> list[str]:
    """The result files among the objects of a folder: `predictions.jsonl`, or several that are numbered in one of two
    ways. `incremental_predictions.jsonl` holds what there was before the end, for a job that came to no other one."""
    whole = [name for name in names if _PREDICTIONS.fullmatch(name)]
    return sorted(whole or [name for name in names if _PARTIAL.fullmatch(name)])


def _ours(job: Job) -> tuple[str, ...]:
    """What was made for this job, and bears its name; a folder ends in a slash. Nothing else is ever deleted: it is the
    user's own bucket."""
    tag, source, target = job.display_name, job.source, job.destination
    found: list[str] = []
    if not tag:
        return ()
    if source.endswith((f"/{tag}.jsonl", f".{table_of(tag)}")):
        found.append(source)
    if target.startswith("gs://") and target.endswith(f"/{tag}"):
        found.append(f"{target}/")
    tables = {target, job.results}
    found += sorted(
        table
        for table in tables
        if table.startswith("bq://") and table.rpartition(".")[2].startswith(f"{table_of(tag)}_out")
    )
    return tuple(found)
