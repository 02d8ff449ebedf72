"""The Python face: rows in, results out.

Every function has an `async` twin whose name begins with `a`. The plain ones work where an event loop is
running already (a notebook): the work is then done in a thread of its own.
"""

import asyncio
import datetime
import importlib
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Protocol,
    TypeAlias,
    TypedDict,
    TypeVar,
    Unpack,
    runtime_checkable,
)

import msgspec

from halfrate.base.errors import JobPaused, SettingsError, UsageError
from halfrate.base.money import parse_usd, show_usd, usd
from halfrate.base.types import Endpoint, Usage
from halfrate.rows.collect import Check, InvalidAnswer
from halfrate.rows.results import ResultRecord
from halfrate.service.answers import check_schema, json_answer, schema_check
from halfrate.service.deadlines import Deadline, deadline_at
from halfrate.service.drafts import Ask
from halfrate.service.home import Home
from halfrate.service.jobs import Service
from halfrate.service.report import Report

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

_T = TypeVar("_T")


@runtime_checkable
class _Model(Protocol):
    """What halfrate uses of a Pydantic model class."""

    @classmethod
    def model_json_schema(cls) -> dict[str, Any]: ...

    @classmethod
    def model_validate(cls, obj: Any) -> Any: ...


Output: TypeAlias = type[Any] | dict[str, Any] | None
"""What answers must be: a Pydantic model class, a JSON Schema, or text."""


class Options(TypedDict, total=False):
    """What `run` and `submit` take besides the rows.

    model: PROVIDER/MODEL, as in "openai/gpt-4.1-mini". Left out for a provider's own batch file.
    prompt: what to ask of each row; "{column}" stands for a column's text.
    output: a Pydantic model class or a JSON Schema that every answer must meet. An answer that does not is a
        failed row, and is asked for again as often as `attempts` allows.
    options: a provider's own, as `halfrate providers` lists them.
    tier: how the rows are served; "batch" unless the provider has none. The others run them in real time.
    count_tokens: count the prompts' tokens with the model's vocabulary for the forecast, instead of estimating them.
    cache: "auto", "5m" or "1h": keep what all rows share in the provider's cache, where the sum says that it pays.
    deadline: "8h", "06:00", an ISO time, a datetime or a timedelta.
    rescue: False: never pay for real time, even if the deadline is missed.
    priority: one more gets twice the share of a provider's queue that is full.
    keep_going: go on when most rows of a batch fail, instead of pausing the job (JobPaused).
    small_tails: "realtime": rows that no batch takes, because they are left over and too few or because one is larger
        than its model's whole queue, are run in real time at its price.
    tags: names for `halfrate cost --by`; `team` shares queues fairly.
    max_cost: USD; refused with UsageError if it could cost more, or if the price is unknown.
    over_budget: "wait": a job that would cross a budget is taken on, and sent as far as the budget allows; otherwise it
        is refused with OverBudget.
    new: start a new job even if the same one is unfinished.
    home: the folder where jobs are kept; HALFRATE_HOME by default.
    """

    model: str | None
    prompt: str | None
    output: Output
    system: str | None
    max_tokens: int | None
    temperature: float | None
    params: dict[str, Any]
    options: Mapping[str, str]
    tier: Literal["batch", "flex", "standard", "priority"] | None
    endpoint: Endpoint | None
    id: str | None
    allow_empty: bool
    count_tokens: bool
    cache: Literal["auto", "off", "5m", "1h"]
    deadline: Deadline
    rescue: bool
    priority: int
    keep_going: bool
    small_tails: Literal["fail", "realtime"]
    tags: Mapping[str, str]
    attempts: int
    max_cost: str | float | Decimal | None
    over_budget: Literal["refuse", "wait"]
    new: bool
    home: Path | str | None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one row.

    `answer`: text, the JSON value or the model instance that `output` asked for, or None. `cost`: USD, exact;
    None where the price of the model is unknown.
    """

    row: int
    answer: Any
    status: str
    error: str | None
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    cost: Decimal | None
    model: str | None
    finish_reason: str | None

    @property
    def ok(self) -> bool:
        return self.status == "succeeded"


class Results:
    """The results of a finished job. Iterating gives one `Result` a row, in the order of the input, read from
    disk as it goes: memory does not grow with the rows."""

    def __init__(self, job: "Job", report: Report) -> None:
        self.job = job
        self._report = report

    def __iter__(self) -> Iterator[Result]:
        with self.job.service() as service:
            for record in service.results(self.job.id):
                yield _result(record, self.job.output)

    def __len__(self) -> int:
        return self._report.job.rows

    def __repr__(self) -> str:
        report = self._report
        return (
            f"<Results of job {self.job.id}: {report.succeeded:,} of {report.job.rows:,} rows answered, "
            f"{show_usd(report.cost)}>"
        )

    @property
    def cost(self) -> Decimal | None:
        """USD paid, exact; None where a price is unknown."""
        return _usd(self._report.cost)

    @property
    def realtime_cost(self) -> Decimal | None:
        """USD that the same tokens would have cost in real time."""
        return _usd(self._report.realtime_cost)

    @property
    def usage(self) -> Usage:
        """Tokens paid for."""
        return self._report.usage

    @property
    def succeeded(self) -> int:
        return self._report.succeeded

    @property
    def errors(self) -> dict[str, int]:
        """Why rows failed: the message, and how many rows have it."""
        return dict(self._report.errors)

    def answers(self) -> list[Any]:
        """All answers in order, None for rows that have none."""
        return [result.answer for result in self]

    def write(self, path: Path | str) -> Path:
        """Write the input's columns and ours to `path`: .jsonl, .csv or .parquet."""
        from halfrate.rows.output import output_format

        target = Path(path)
        with self.job.service() as service:
            return service.deliver(self.job.id, target, output_format(target))

    def to_arrow(self) -> "pa.Table":
        """The input's columns and ours as an Arrow table. Needs pyarrow."""
        try:
            parquet: Any = importlib.import_module("pyarrow.parquet")
        except ImportError:
            raise SettingsError("to_arrow needs pyarrow: pip install 'halfrate[parquet]'.") from None
        with tempfile.TemporaryDirectory(prefix="halfrate-") as folder:
            path = self.write(Path(folder) / "results.parquet")
            return parquet.read_table(path)

    def to_pandas(self) -> "pd.DataFrame":
        """The same as a pandas DataFrame. Needs pandas and pyarrow."""
        table: Any = self.to_arrow()
        return table.to_pandas()

    def to_polars(self) -> "pl.DataFrame":
        """The same as a polars DataFrame. Needs polars and pyarrow."""
        polars: Any = importlib.import_module("polars")
        return polars.from_arrow(self.to_arrow())

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        table: Any = self.to_arrow()
        return table.__arrow_c_stream__(requested_schema)


class Job:
    """A job by its id, from this process or any other on the same home."""

    def __init__(self, id: str, *, home: Path | str | None = None, output: Output = None) -> None:  # noqa: A002
        self.id = id
        self.output = output
        self._home = home

    def __repr__(self) -> str:
        return f"<Job {self.id}>"

    def service(self) -> Service:
        """The installation that the job lives in, as a context manager."""
        return Service(_home(self._home))

    def report(self) -> Report:
        """How the job stands, as it was last seen."""
        with self.service() as service:
            return service.report(self.id)

    @property
    def done(self) -> bool:
        """Whether no row of it is still to come, as it was last seen."""
        return not self.report().waiting

    async def afinish(self) -> Results:
        """Go on with the job to its end. Raises JobPaused where it is held back before that."""
        with self.service() as service:
            await service.run(self.id, check=_check(self.output))
            service.conclude(self.id)
            report = service.report(self.id)
        if report.paused and report.waiting:
            why = f" because {report.paused_because}" if report.paused_because else ""
            raise JobPaused(
                f"Job {self.id} is paused{why}. {report.waiting:,} rows are not sent; all that was done is kept. "
                f'Go on with halfrate.job("{self.id}").resume(), or end it with cancel().'
            )
        return Results(self, report)

    def finish(self) -> Results:
        """Go on with the job to its end."""
        return _blocking(self.afinish)

    def pause(self) -> None:
        """Send nothing more for now. What is with the provider already goes on there."""
        with self.service() as service:
            service.pause(self.id)

    async def aresume(self, *, keep_going: bool = False) -> Results:
        """Go on after a pause, and wait. `keep_going`: also when most rows of a batch fail."""
        with self.service() as service:
            service.resume(self.id, keep_going=keep_going)
        return await self.afinish()

    def resume(self, *, keep_going: bool = False) -> Results:
        """Go on after a pause, and wait. `keep_going`: also when most rows of a batch fail."""
        return _blocking(lambda: self.aresume(keep_going=keep_going))

    async def aretry(self) -> Results:
        """Send the rows again that did not succeed, and wait for them."""
        with self.service() as service:
            service.retry(self.id)
        return await self.afinish()

    def retry(self) -> Results:
        """Send the rows again that did not succeed, and wait for them."""
        return _blocking(self.aretry)

    async def acancel(self) -> Results:
        """Stop the job; what is finished is paid for, waited for and kept."""
        with self.service() as service:
            service.cancel(self.id)
        return await self.afinish()

    def cancel(self) -> Results:
        """Stop the job; what is finished is paid for, waited for and kept."""
        return _blocking(self.acancel)


async def asubmit(rows: Any, **options: Unpack[Options]) -> Job:
    """Hand every row to the provider and return at once with the job."""
    return await _start(rows, options, until_submitted=True)


def submit(rows: Any, **options: Unpack[Options]) -> Job:
    """Hand every row to the provider and return at once with the job.

    `rows` is an iterable of mappings, the path of a CSV, TSV, JSONL or Parquet file, or anything that speaks
    Arrow's C stream (pandas, polars, pyarrow, DuckDB). Raises UsageError, with nothing sent, for what cannot be
    run; Refused where the provider will not have it; see `Options` for the rest.
    """
    return _blocking(lambda: asubmit(rows, **options))


async def arun(rows: Any, **options: Unpack[Options]) -> Results:
    """Run a prompt over every row at batch price, and wait for the results."""
    job = await _start(rows, options, until_submitted=False)
    return await job.afinish()


def run(rows: Any, **options: Unpack[Options]) -> Results:
    """Run a prompt over every row at batch price, and wait for the results.

    Takes what `submit` takes. Rows that fail do not raise: they say so in their `status` and `error`. Should
    this process die, the same call finds the job and goes on with it, and pays for no row again.
    """
    return _blocking(lambda: arun(rows, **options))


def job(id: str, *, home: Path | str | None = None, output: Output = None) -> Job:  # noqa: A002
    """The job with this id, or whose id begins with it. Raises UsageError where there is none."""
    with Service(_home(home)) as service:
        return Job(service.find(id).id, home=home, output=output)


async def _start(rows: Any, options: Options, *, until_submitted: bool) -> Job:
    _check_options(options)
    home = options.get("home")
    output = options.get("output")
    limit = _limit(options.get("max_cost"))
    ask = _ask(rows, options)
    with Service(_home(home)) as service:
        draft = await asyncio.to_thread(service.draft, ask)
        twin = None if options.get("new") else service.unfinished_twin(draft)
        if twin is not None:
            draft.discard()
            started = Job(twin.id, home=home, output=output)
        else:
            job = draft.job
            realtime = (job.deadline is not None and job.rescue) or job.small_tails == "realtime"
            most = draft.ceiling.realtime_cost if realtime else draft.ceiling.cost
            _keep_to(limit, most, draft.discard)
            taken = service.submit(draft, on_budget=options.get("over_budget") or "refuse")
            started = Job(taken.id, home=home, output=output)
        if until_submitted:
            await service.run(started.id, check=_check(output), until_submitted=True)
    return started


def _ask(rows: Any, options: Options) -> Ask:
    output = options.get("output")
    schema = None
    if isinstance(output, _Model):
        schema = check_schema(output.model_json_schema())
    elif output is not None:
        schema = check_schema(output)
    return Ask(
        input=rows,
        model=options.get("model"),
        prompt=options.get("prompt"),
        system=options.get("system"),
        max_tokens=options.get("max_tokens"),
        temperature=options.get("temperature"),
        schema=schema,
        params=options.get("params") or {},
        tier=options.get("tier"),
        options={key: str(value) for key, value in (options.get("options") or {}).items()},
        endpoint=options.get("endpoint"),
        id_column=options.get("id"),
        allow_empty=options.get("allow_empty", False),
        count_tokens=options.get("count_tokens", False),
        cache=options.get("cache") or "off",
        tags={key: str(value) for key, value in (options.get("tags") or {}).items()},
        deadline=deadline_at(options.get("deadline"), datetime.datetime.now(datetime.UTC)),
        rescue=options.get("rescue", True),
        priority=options.get("priority", 0),
        keep_going=options.get("keep_going", False),
        small_tails=options.get("small_tails") or "fail",
        max_attempts=options.get("attempts", 5),
    )


_WORDS = {
    "cache": ("auto", "off", "5m", "1h"),
    "over_budget": ("refuse", "wait"),
    "small_tails": ("fail", "realtime"),
}


def _check_options(options: Mapping[str, Any]) -> None:
    """Raises UsageError for what the command line would refuse as well. A misspelt option must not cost money."""
    for name in options:
        if name not in Options.__annotations__:
            known = ", ".join(sorted(Options.__annotations__))
            raise UsageError(f"There is no option {name!r}. There are: {known}. Nothing was sent.")
    texts = dict.fromkeys(("model", "prompt", "system", "id"), str)
    for name, kind in {**texts, "params": Mapping, "options": Mapping, "tags": Mapping, "tier": str}.items():
        value = options.get(name)
        if value is not None and not isinstance(value, kind):
            raise UsageError(
                f"{name} is a {type(value).__name__}; it takes a {kind.__name__}. Nothing was sent."
            )
    for name, words in _WORDS.items():
        # What was given need not be hashable.
        if options.get(name) is not None and options[name] not in words:
            known = ", ".join(map(repr, words[:-1]))
            raise UsageError(
                f"{name} is {options[name]!r}; it takes {known} or {words[-1]!r}. Nothing was sent."
            )
    for name, least, most in (("max_tokens", 1, None), ("attempts", 1, 20)):
        value = options.get(name)
        if value is not None and (type(value) is not int or value < least or (most and value > most)):
            span = f"{least} to {most}" if most else f"at least {least}"
            raise UsageError(f"{name} is {value!r}; it takes a whole number, {span}. Nothing was sent.")
    warmth = options.get("temperature")
    if warmth is not None and (not isinstance(warmth, int | float) or not 0 <= warmth <= 2):
        raise UsageError(f"temperature is {warmth!r}; it takes a number from 0 to 2. Nothing was sent.")


def _limit(amount: str | float | Decimal | None) -> int | None:
    if amount is None:
        return None
    try:
        return parse_usd(str(amount))
    except ValueError:
        raise UsageError(f"max_cost is {amount!r}; it takes an amount in USD. Nothing was sent.") from None


def _keep_to(limit: int | None, cost: int | None, discard: Callable[[], None]) -> None:
    if limit is None:
        return
    if cost is None:
        discard()
        raise UsageError("The price of this model is unknown, so max_cost cannot be kept. Nothing was sent.")
    if cost > limit:
        discard()
        raise UsageError(
            f"This could cost up to {show_usd(cost)}, more than the {show_usd(limit)} of max_cost. "
            "Nothing was sent."
        )


def _check(output: Output) -> Check | None:
    """Judges answers by a model class as well as by its schema: validators can ask more than a schema says."""
    if not isinstance(output, _Model):
        return None
    model = output
    conforms = schema_check(model.model_json_schema())

    def check(answer: bytes) -> bytes:
        kept = conforms(answer)
        try:
            model.model_validate(json_answer(answer)[0])
        except ValueError as error:
            raise InvalidAnswer(" ".join(str(error).split())[:300]) from None
        return kept

    return check


def _result(record: ResultRecord, output: Output) -> Result:
    answer = record.answer
    if isinstance(output, _Model) and record.status == "succeeded":
        answer = output.model_validate(answer)
    return Result(
        row=record.row,
        answer=answer,
        status=record.status,
        error=record.error,
        input_tokens=record.input_tokens,
        cached_tokens=record.cached_tokens,
        output_tokens=record.output_tokens,
        cost=_usd(record.cost),
        model=record.model,
        finish_reason=record.finish_reason,
    )


def _usd(pico: int | None) -> Decimal | None:
    return None if pico is None else Decimal(usd(pico))


def _home(home: Path | str | None) -> Home:
    if home is None:
        return Home.from_environment()
    return msgspec.structs.replace(Home.from_environment(), root=Path(home).expanduser().absolute())


def _blocking(work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run to the end, also where this thread has an event loop of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    outcome: list[_T] = []
    trouble: list[BaseException] = []

    def elsewhere() -> None:
        try:
            outcome.append(asyncio.run(work()))
        except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread, whatever it is
            trouble.append(error)

    thread = threading.Thread(target=elsewhere, name="halfrate")
    thread.start()
    thread.join()
    if trouble:
        raise trouble[0]
    return outcome[0]
