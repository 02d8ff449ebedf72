"""Drafts: an input read, checked and encoded, of which nothing has been sent and nothing is recorded yet."""

import datetime
import functools
import io
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple, Protocol, TypeAlias, cast

import msgspec

from halfrate.base.direct import DirectWriter
from halfrate.base.errors import InputError, SettingsError, StorageError, UsageError
from halfrate.base.ids import new_job_id, shard_id
from halfrate.base.pages import Trail
from halfrate.base.types import (
    Capabilities,
    Endpoint,
    InputFormat,
    NativeForm,
    OutputFormat,
    RequestSpec,
    Template,
    Translated,
)
from halfrate.blobs.files import JobFiles
from halfrate.core.caching import SEED, Cache, CachePlan, Hits, leaders_of
from halfrate.core.estimates import Sample
from halfrate.core.job import Forecast, Job
from halfrate.core.lifecycle import BEHIND_LEADERS, Shard, SmallTails
from halfrate.core.planning import forecast, prompt_hash, spec_hash
from halfrate.providers.base import Account, Adapter
from halfrate.providers.registry import account_of, adapter_class, split_model
from halfrate.providers.speaking import form_of, spoken
from halfrate.rows import errors
from halfrate.rows.collect import COLUMNS
from halfrate.rows.detect import Detected, sniff
from halfrate.rows.jsonl import JsonlTable
from halfrate.rows.leads import FirstRows, LeadCount, LeadMarks, Leads
from halfrate.rows.native import NativeBlock, NativeTable, form_title
from halfrate.rows.output import output_format
from halfrate.rows.requests import Encoded, RequestWriter
from halfrate.rows.template import after_head, parse_template
from halfrate.service.caching import lead_bytes, plan_cache, with_cache, with_cached_cost
from halfrate.service.home import Home
from halfrate.service.prices import job_prices, region_of

if TYPE_CHECKING:
    from halfrate.rows.tokens import TokenCounter

STDIN = "-"
_LIKE_A_TABLE: Final = frozenset({"rows", "vertex", "gemini", "bedrock"})
"""Forms of batch file that a table with a column of objects may look like: a prompt says which it is."""
_FORMS_OF_CHAT: Final = frozenset({"openai", "anthropic"})
"""Forms of batch file that are translated where a provider takes another."""
_ToChat: TypeAlias = Callable[[dict[str, Any], str], dict[str, Any]]
"""Makes a chat in OpenAI's form of a request, for a model."""
_PEEK = 1 << 16

Rows: TypeAlias = Path | str | Iterable[Mapping[str, Any]] | object
"""A path, "-" for standard input, an iterable of mappings, or anything with an Arrow C stream."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What a face asks the service to run.

    `model` is PROVIDER/MODEL; it may be left out for a provider's own batch file, which names its models.
    `deadline` is in seconds since 1970 UTC. `job_id`: what the job is to be called, where that was settled before.
    `fetched`: whoever asks fetches the results, and no output is written.
    """

    input: Any
    job_id: str | None = None
    model: str | None = None
    prompt: str | None = None
    system: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    schema: dict[str, Any] | None = None
    params: dict[str, Any] = {}
    options: dict[str, str] = {}
    tier: str | None = None
    endpoint: Endpoint | None = None
    id_column: str | None = None
    allow_empty: bool = False
    count_tokens: bool = False
    cache: Cache = "off"
    tags: dict[str, str] = {}
    deadline: float | None = None
    priority: int = 0
    rescue: bool = True
    keep_going: bool = False
    small_tails: SmallTails = "fail"
    output: Path | None = None
    raw: bool = False
    fetched: bool = False
    max_attempts: int = 5


class Draft(msgspec.Struct, frozen=True):
    """A job that could be submitted. `ceiling`: its cost if every answer is as long as it may be."""

    job: Job
    shards: tuple[Shard, ...]
    folder: Path
    ceiling: Forecast
    groups: Mapping[tuple[int, int], int] = {}
    """How many groups of rows begin alike: of (bytes that they share, rows in one batch)."""
    framed_bytes: int = 0
    """Those of the requests that are not the rows' own."""

    def discard(self) -> None:
        JobFiles(self.folder).remove()


class _Table(Protocol):
    taken: set[str]
    ends: list[int]

    def prompts(self) -> Iterator[Sequence[Encoded]]: ...


class Drafter:
    """Makes drafts in a home. `folder_name` keeps drafts of different processes apart."""

    def __init__(
        self,
        home: Home,
        folder_name: str,
        now: Callable[[], float],
        samples: Callable[[RequestSpec], Sequence[Sample]],
        hits: Callable[[Job], Hits],
    ) -> None:
        self._home = home
        self._folder_name = folder_name
        self._now = now
        self._samples = samples
        self._hits = hits

    def draft(self, ask: Ask, connect: Callable[[Account], Adapter]) -> Draft:
        """Read and check the whole input, and encode every row. Raises UsageError; sends nothing."""
        draft = self._made(ask, connect)
        if ask.cache == "off":
            return draft
        files = JobFiles(draft.folder)
        try:
            plan, shortest = plan_cache(
                ask.cache,
                draft.job,
                len(draft.shards),
                draft.framed_bytes,
                draft.groups,
                self._hits(draft.job),
            )
        except UsageError:
            draft.discard()
            raise
        if plan.life is None:
            files.leads().unlink(missing_ok=True)
            return draft
        # Whether marks pay is known only now that every row is. They stand in each, so all are encoded once more.
        copy = NamedInput(files.snapshot(draft.job.input_format), draft.job.input_name)
        marking = _Marking(plan, shortest, files.leads())
        try:
            return self._made(msgspec.structs.replace(ask, input=copy), connect, marking)
        finally:
            draft.discard()

    def _made(
        self, ask: Ask, connect: Callable[[Account], Adapter], marking: "_Marking | None" = None
    ) -> Draft:
        job_id = ask.job_id or new_job_id()
        folder = self._home.root / "jobs" / f"draft-{self._folder_name}-{job_id}"
        files = JobFiles(folder)
        files.create()
        try:
            with _storage_errors(folder), _text_errors():
                draft = self._draft(ask, connect, job_id, files, marking)
                # What cannot be recorded must not be found out after the user has agreed to it.
                msgspec.json.encode(draft.job)
        except BaseException:
            # Also on Ctrl-C: a draft that nobody can submit is only disk space.
            files.remove()
            raise
        return draft

    def _draft(
        self,
        ask: Ask,
        connect: Callable[[Account], Adapter],
        job_id: str,
        files: JobFiles,
        marking: "_Marking | None",
    ) -> Draft:
        plan = marking.plan if marking is not None else CachePlan()
        with _opened(ask.input, files) as source:
            found = sniff(source.name, source.first)
            if ask.prompt is not None and found.native in _LIKE_A_TABLE:
                found = Detected(found.format, None)
            place, provider, model = _provider(ask, found.native, source.name)
            account = account_of(place)
            adapter = connect(account)
            tier = _tier(ask, adapter)
            form = _output_form(ask, found.format)
            spec = _spec(ask, adapter, provider, model, found.native)
            spec = with_cache(spec, adapter.capabilities, ask.cache, plan)
            counter = None
            if ask.count_tokens:
                from halfrate.rows.tokens import TokenCounter

                counter = TokenCounter(spec)
            batched = tier == "batch" and ask.deadline is None
            after = lead_bytes(spec, adapter.capabilities, ask.cache) if batched else None
            leads = _leads(marking, after, adapter.capabilities, files)
            encoding = _Encoding(spec, adapter, source, found.format, job_id, files, counter, leads)
            with closing(leads) if leads is not None else nullcontext():
                encoding.run()
        spec = encoding.spec
        writer = encoding.writer
        if tier == "batch":
            _enough(writer, adapter.capabilities)
        day = datetime.datetime.fromtimestamp(self._now(), datetime.UTC).date().isoformat()
        prices = job_prices(
            provider,
            sorted(encoding.models or {spec.model}),
            day,
            spec.options.get("serves"),
            region_of(account.base_url, spec, adapter.capabilities),
        )
        samples = self._samples(spec)
        counted = counter.total if counter is not None else None
        expected = functools.partial(
            forecast,
            spec,
            writer.rows,
            encoding.text_bytes,
            prices,
            tier=tier,
            samples=samples,
            counted=counted,
        )
        job = Job(
            id=job_id,
            created_at=self._now(),
            account=account.name,
            spec=spec,
            spec_hash=spec_hash(spec, account.name, tier),
            input_name=source.name,
            input_format=found.format,
            input_size=files.snapshot(found.format).stat().st_size,
            rows=writer.rows,
            request_bytes=writer.row_bytes,
            text_bytes=encoding.text_bytes,
            counted_tokens=counted,
            prompt_hash=prompt_hash(spec),
            names=encoding.names,
            cache=plan,
            prices=prices,
            forecast=with_cached_cost(expected(), plan),
            tags=ask.tags,
            deadline=ask.deadline,
            priority=ask.priority,
            rescue=ask.rescue,
            keep_going=ask.keep_going,
            tier=tier,
            small_tails=ask.small_tails,
            max_attempts=ask.max_attempts,
            # Whoever attaches may stand in another folder.
            output=str(ask.output.absolute()) if ask.output is not None else None,
            raw=ask.raw,
            fetched=ask.fetched,
            output_format=form,
        )
        return Draft(
            job,
            _shards(job, writer, leads.leaders if leads is not None else {}),
            files.folder,
            with_cached_cost(expected(ceiling=True), plan, ceiling=True),
            leads.groups if isinstance(leads, LeadCount) else {},
            encoding.framed_bytes,
        )


def _shards(job: Job, writer: RequestWriter, leaders: Mapping[int, int]) -> tuple[Shard, ...]:
    """The slices that were written, with their parts of what is expected of the whole job."""
    size = sum(made.bytes for made in writer.shards)
    return tuple(
        Shard(
            id=shard_id(job.id, made.number),
            job_id=job.id,
            number=made.number,
            first_row=made.first_row,
            rows=made.rows,
            rows_left=made.rows,
            tokens=round(job.forecast.input_tokens * made.bytes / max(1, job.request_bytes)),
            bytes=made.bytes,
            model=made.model or job.spec.model,
            account=job.account,
            leaders=leaders.get(made.number, 0),
            attempt=BEHIND_LEADERS if made.number in leaders else 1,
            last_attempt=job.max_attempts + (BEHIND_LEADERS - 1 if made.number in leaders else 0),
            cost=_share(job.held, made.bytes, size),
            realtime_cost=_share(job.forecast.realtime_cost, made.bytes, size),
        )
        for made in writer.shards
    )


class _Marking(NamedTuple):
    """What to do about a cache. `leads`: where what is known of the rows' beginnings lies; `shortest`: bytes of one."""

    plan: CachePlan
    shortest: int
    leads: Path


def _leads(marking: _Marking | None, after: int | None, facts: Capabilities, files: JobFiles) -> Leads | None:
    """What is to be done about rows that begin alike: they are counted first, and then marked if it pays. Some of those
    that are marked go first."""
    if marking is None:
        return LeadCount(files.leads(), after) if after is not None else None
    plan, shortest, path = marking
    if after is None or not plan.groups:
        return FirstRows(SEED, files.leaders) if plan.first else None
    return LeadMarks(
        path,
        after,
        fewest=plan.fewest,
        shortest=shortest,
        cut=(facts.cache.cut % plan.life).encode(),
        leaders_in=leaders_of,
        first=SEED if plan.shared else 0,
        target=files.leaders,
    )


class NamedInput(NamedTuple):
    """A file to read, and what to call it."""

    path: Path
    name: str


def _share(amount: int | None, part: int, whole: int) -> int | None:
    return None if amount is None else amount * part // max(1, whole)


class _Source(msgspec.Struct, frozen=True):
    """An input that was opened. `path` is None for a stream that can be read only once."""

    stream: BinaryIO
    name: str
    first: bytes
    path: Path | None


class _Encoding:
    """From an opened input to request files and a snapshot, in one pass over it."""

    def __init__(
        self,
        spec: RequestSpec,
        adapter: Adapter,
        source: _Source,
        form: InputFormat,
        job_id: str,
        files: JobFiles,
        counter: "TokenCounter | None" = None,
        leads: Leads | None = None,
    ) -> None:
        self.spec = spec
        self._leads = leads
        self._counter = counter
        self.names: dict[str, str] = {}
        self.models: set[str] = set()
        self.text_bytes = 0
        self.framed_bytes = 0
        self._adapter = adapter
        self._source = source
        self._form: InputFormat = form
        self._job_id = job_id
        self._files = files
        if spec.native is None:
            self.writer = self._writer(spec.endpoint, adapter.body(spec))

    def run(self) -> None:
        snapshot = self._files.snapshot(self._form)
        if self._form == "parquet":
            if self._source.path is None:
                raise InputError("Parquet cannot be read from a pipe: it is read from its end. Give a file.")
            import shutil

            shutil.copyfile(self._source.path, snapshot)
            _sync(snapshot)
            from halfrate.rows.parquet_table import ParquetTable

            self._table(ParquetTable, snapshot)
            return
        with snapshot.open("wb", buffering=0) as copy:
            writer = DirectWriter(copy.fileno())
            if self.spec.native is not None:
                self._native(self.spec.native, writer.write)
            else:
                self._text_table(writer.write)
            writer.sync()

    def _writer(self, endpoint: Endpoint, body: tuple[bytes, bytes]) -> RequestWriter:
        facts = self._adapter.capabilities
        return RequestWriter(
            self._files.requests,
            job_id=self._job_id,
            envelope=self._adapter.envelope(endpoint),
            framing=facts.framing,
            body=body,
            limits=facts.limits,
            name=self._source.name,
            provider=facts.title,
        )

    def _text_table(self, tee: Callable[[bytes], object]) -> None:
        if self._form == "jsonl":
            self._table(JsonlTable, self._source.stream, tee=tee)
        else:
            from halfrate.rows.csv_table import CsvTable

            self._table(
                CsvTable, self._source.stream, tee=tee, delimiter="\t" if self._form == "tsv" else ","
            )

    def _table(self, kind: Callable[..., _Table], stream: object, **options: object) -> None:
        spec = self.spec
        table = kind(
            stream,
            name=self._source.name,
            template=after_head(_template(spec.prompt or ""), spec.head),
            reserved=COLUMNS,
            id_column=spec.id_column,
            allow_empty=spec.allow_empty,
            lead=self._leads.after if self._leads is not None else None,
            **options,
        )
        leads = self._leads
        try:
            for block in table.prompts():
                self.text_bytes += sum(map(len, block))
                if self._counter is not None:
                    self._counter.add(block)
                prompts = leads.take(block, table.ends) if leads is not None else block
                self.writer.add(prompts)
                if leads is not None:
                    leads.settle(self.writer.shards)
            self.writer.cut()
            if leads is not None:
                leads.settle(self.writer.shards)
        finally:
            self.writer.abort()
        before, after = self._adapter.body(spec)
        self.framed_bytes = self.writer.rows * (len(before) + len(after))
        self.text_bytes += self.framed_bytes
        self.names = {name: f"halfrate_{name}" for name in COLUMNS if name in table.taken}

    def _native(self, form: NativeForm, tee: Callable[[bytes], object]) -> None:
        facts = self._adapter.capabilities
        table = NativeTable(
            self._source.stream,
            name=self._source.name,
            form=form,
            tee=tee,
            model=self.spec.model or None,
            any_model=form in _FORMS_OF_CHAT and form != facts.native_form,
        )
        writer: RequestWriter | None = None
        to_chat: _ToChat | None = None
        put: Translated = "chat"
        try:
            for block in table.blocks():
                if writer is None:
                    endpoint: Endpoint = table.endpoint or self.spec.endpoint
                    to_chat = self._to_chat(form, endpoint)
                    if to_chat is not None:
                        put = form_of(endpoint)
                        endpoint = spoken(facts, put) or endpoint
                    self.spec = msgspec.structs.replace(self.spec, endpoint=endpoint)
                    writer = self.writer = self._writer(endpoint, (b"", b""))
                self.text_bytes += sum(map(len, block.bodies))
                if to_chat is not None:
                    writer.add(self._translated(to_chat, put, block), self.spec.model, block.inputs)
                    continue
                self.models.update(block.models)
                if facts.one_model_per_batch:
                    for model, bodies, inputs in block.runs():
                        writer.add(bodies, model, inputs)
                else:
                    writer.add(block.bodies)
            self.writer.cut()
        finally:
            if writer is not None:
                writer.abort()
        if len(self.models) == 1:
            self.spec = msgspec.structs.replace(self.spec, model=next(iter(self.models)))

    def _to_chat(self, form: NativeForm, endpoint: Endpoint) -> _ToChat | None:
        """How requests become chats of OpenAI's, the form by which all others are reached; None where they go as they
        are. Raises UsageError for those that cannot."""
        facts = self._adapter.capabilities
        responses = (
            endpoint == "responses" and "responses" not in facts.endpoints and "chat" in facts.endpoints
        )
        if form not in _FORMS_OF_CHAT or (form == facts.native_form and not responses):
            return None
        if form == "anthropic":
            from halfrate.providers.translation.messages import to_chat

            return to_chat
        if endpoint == "responses":
            from halfrate.providers.translation.responses import to_chat

            return to_chat
        if spoken(facts, form_of(endpoint)) is None:
            instead = "embeddings" if "embeddings" in facts.endpoints else "chat completions and responses"
            raise UsageError(
                f"{self._source.name} asks OpenAI's {endpoint}; what {facts.title} can be asked instead are {instead} "
                "alone. Nothing was sent."
            )
        return lambda body, model: body

    def _translated(self, to_chat: _ToChat, put: Translated, block: NativeBlock) -> list[bytes]:
        """Bodies as the provider takes them. Raises InputError where one cannot be asked there."""
        from halfrate.providers.translation import Untranslatable

        facts = self._adapter.capabilities
        model = self.spec.model
        bodies: list[bytes] = []
        inputs = block.inputs or [1] * len(block.bodies)
        for body, line, texts in zip(block.bodies, block.lines, inputs, strict=True):
            try:
                _check_texts(texts, facts)
                asked = self._adapter.from_openai(to_chat(msgspec.json.decode(body), model), model, put)
            except Untranslatable as fault:
                row = self.writer.rows + len(bodies)
                raise errors.untranslatable(
                    self._source.name, line, row, fault.field, fault.reason, facts.title
                ) from None
            bodies.append(msgspec.json.encode(asked))
        return bodies


def _check_texts(texts: int, facts: Capabilities) -> None:
    """Raises Untranslatable where a row asks to embed more texts than one there can."""
    from halfrate.providers.translation import Untranslatable

    most = facts.limits.row_inputs
    if most is not None and texts > most:
        raise Untranslatable("input", f"holds {texts:,} texts, and {most} stands in a row of its batches")


def _template(prompt: str) -> Template:
    template = parse_template(prompt)
    if not template.columns:
        raise UsageError(
            "The prompt names no column, so every row would ask the same and be paid for. Put a column in braces, "
            "as in 'Classify: {text}'. Nothing was sent."
        )
    return template


def _provider(ask: Ask, native: NativeForm | None, name: str) -> tuple[str, str, str]:
    """(account, provider, model); the model may be "" for a native file, which names its own."""
    if ask.model is None:
        if native not in {"openai", "anthropic"}:
            raise UsageError("Which model? Say --model PROVIDER/MODEL, as in openai/gpt-4.1-mini.")
        return native, native, ""
    account, provider, model = split_model(ask.model)
    facts = adapter_class(provider).capabilities
    if native is not None and native != facts.native_form and not _translates(native, facts):
        raise UsageError(
            f"{name} is a batch file in {native}'s own form, and {facts.title} takes another. Give it to a "
            f"model of {native}'s, or give the rows as a table with a --prompt."
        )
    return account, provider, model


def _translates(native: NativeForm, facts: Capabilities) -> bool:
    """Whether requests of that form can be put into the provider's own."""
    if native == "anthropic":
        return spoken(facts, "chat") is not None
    return native == "openai" and bool(facts.translates)


def _tier(ask: Ask, adapter: Adapter) -> str:
    """How the rows are to be served. Raises UsageError where the provider does not serve them so."""
    facts = adapter.capabilities
    tier = ask.tier or ("batch" if facts.batches else "standard")
    if tier == "batch" and not facts.batches:
        raise UsageError(
            f"There are no batches at {facts.title}; its rows are run in real time. Leave --tier out."
        )
    offered = {tier for endpoint in facts.endpoints for tier in adapter.tiers(endpoint)}
    if ask.small_tails == "realtime" and not (facts.rescues and "standard" in offered):
        raise UsageError(f"{facts.title} runs no rows of a batch in real time: leave --small-tails out.")
    if tier != "batch" and tier not in offered:
        served = ", ".join(sorted(offered)) or "batches alone"
        raise UsageError(f"{facts.title} serves no tier {tier!r}: {served}.")
    return tier


def _enough(writer: RequestWriter, facts: Capabilities) -> None:
    """See to it that every batch has as many rows as the provider asks for. Raises UsageError where it cannot."""
    least = facts.least_rows
    if least <= 1:
        return
    ways = (
        "Run them in real time with --tier standard, at its price; give them to another provider; or put more rows "
        "together into one job. Nothing was sent."
    )
    if writer.rows < least:
        raise UsageError(
            f"{facts.title} takes no batch of fewer than {least} rows, and there are {writer.rows:,}. {ways}"
        )
    writer.level(least)
    small = next((shard for shard in writer.shards if shard.rows < least), None)
    if small is not None:
        raise UsageError(
            f"{facts.title} takes no batch of fewer than {least} rows, and of the rows from {small.first_row:,} on "
            f"only {small.rows:,} fit into one. {ways}"
        )


def _options(ask: Ask, facts: Capabilities) -> dict[str, str]:
    """What was chosen of the provider's own options. Raises UsageError for what it does not have."""
    known = {option.name: option for option in facts.options}
    for name, value in ask.options.items():
        if name not in known:
            words = ", ".join(known) or "none"
            raise UsageError(f"{facts.title} has no option {name!r}; it has {words}.")
        choices = known[name].choices
        if choices and value not in choices:
            raise UsageError(f"{facts.title}'s option {name} is one of {', '.join(choices)}, not {value!r}.")
    return ask.options


def _spec(ask: Ask, adapter: Adapter, provider: str, model: str, native: NativeForm | None) -> RequestSpec:
    facts = adapter.capabilities
    shaping = {
        "--prompt": ask.prompt,
        "--system": ask.system,
        "--max-tokens": ask.max_tokens,
        "--temperature": ask.temperature,
        "--schema": ask.schema,
        "--param": ask.params or None,
    }
    if native is not None:
        for option, value in shaping.items():
            if value is not None:
                raise UsageError(
                    f"The input is {form_title(native)} and is run as it is: {option} has no place in it."
                )
    elif ask.prompt is None:
        raise UsageError(
            "What shall be asked of each row? Say --prompt, with columns in braces: --prompt 'Classify: {text}'."
        )
    return RequestSpec(
        provider=provider,
        model=model,
        endpoint=_endpoint(ask, adapter, model),
        prompt=ask.prompt,
        system=ask.system,
        max_tokens=ask.max_tokens,
        temperature=ask.temperature,
        schema=ask.schema,
        params=ask.params,
        options=_options(ask, facts),
        native=native,
        id_column=ask.id_column,
        allow_empty=ask.allow_empty,
    )


def _endpoint(ask: Ask, adapter: Adapter, model: str) -> Endpoint:
    facts = adapter.capabilities
    if ask.endpoint is not None:
        if ask.endpoint not in facts.endpoints:
            raise UsageError(f"{facts.title} has no endpoint {ask.endpoint!r}: {', '.join(facts.endpoints)}.")
        return ask.endpoint
    if "embed" in model and "embeddings" in facts.endpoints:
        return "embeddings"
    return facts.endpoints[0]


def unwritable(path: Path) -> str | None:
    """Why no file of this name can be made, or None."""
    folder = path.absolute().parent
    if path.is_dir():
        return f"{path} is a folder; name a file in it."
    if not folder.is_dir():
        return f"{path} cannot be written: the folder {folder} does not exist."
    if not os.access(path if path.exists() else folder, os.W_OK):
        return f"{path} cannot be written: no permission."
    return None


def _output_form(ask: Ask, form: InputFormat) -> OutputFormat:
    if ask.output is not None:
        problem = unwritable(ask.output)
        if problem is not None:
            raise SettingsError(f"{problem} Nothing was sent.")
        return output_format(ask.output)
    return "csv" if form in {"csv", "tsv"} else form if form == "parquet" else "jsonl"


@contextmanager
def _opened(rows: Any, files: JobFiles) -> Generator[_Source]:
    """The input as a binary stream, with a look at how it begins."""
    if isinstance(rows, str) and rows == STDIN:
        if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
            raise UsageError("There is no standard input. Pipe rows in, or name a file.")
        if sys.stdin.isatty():
            raise UsageError("Standard input is a terminal. Pipe rows in, or name a file.")
        stream = cast("io.BufferedReader", sys.stdin.buffer)
        yield _Source(stream, "standard input", stream.peek(_PEEK), None)
        return
    spooled = False
    if isinstance(rows, NamedInput):
        path, name = rows
    elif isinstance(rows, str | Path):
        path = Path(rows)
        name = path.name
    else:
        from halfrate.rows.mappings import is_arrow, spool_arrow, spool_mappings

        path = files.folder / "rows.jsonl"
        name, spooled = "rows", True
        with path.open("wb", buffering=0) as file:
            if is_arrow(rows):
                spool_arrow(rows, _all_of(file))
            elif isinstance(rows, Iterable):
                spool_mappings(cast("Iterable[Mapping[str, Any]]", rows), _all_of(file))
            else:
                raise UsageError(
                    f"rows is a {type(rows).__name__}: give mappings, a path, or a table that speaks Arrow."
                )
    try:
        raw = cast("io.BufferedReader", path.open("rb", buffering=_PEEK))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}. Nothing was sent.") from None
    with raw:
        yield _Source(raw, name, raw.peek(_PEEK), path)
    if spooled:
        path.unlink(missing_ok=True)


def _all_of(file: Any) -> Callable[[bytes], object]:
    """A write that does not stop half-way, for an unbuffered file."""
    trail = Trail(file.fileno(), written=True)

    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
        trail.add(len(data))

    return write


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def _storage_errors(folder: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"The input could not be taken in: {error.strerror or error} ({error.filename or folder}). Nothing "
            "was sent, and what was written here has been removed. Make room, or set HALFRATE_HOME to another disk."
        ) from error


@contextmanager
def _text_errors() -> Generator[None]:
    try:
        yield
    except UnicodeEncodeError:
        raise UsageError(
            "The prompt, an option or a file's name holds bytes that are not UTF-8 text. Nothing was sent."
        ) from None
    except TypeError as error:
        if "Encoding objects" not in str(error):
            raise
        raise UsageError(f"A parameter cannot be written as JSON: {error}. Nothing was sent.") from None
