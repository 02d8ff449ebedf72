"""Thirty days of twelve workloads whose nature is known, drawn from a seed, and written as each tool would log them.

The prices here are typed in from the providers' pages, and not taken from the book: what a log comes to can be compared
with what the audit says.
"""

import csv
import datetime
import heapq
import io
import json
import random
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from halfrate.core.audit_judge import Verdict
from halfrate.usage.gateway import Logged, LoggedTokens, line

BATCH, ASK, KEEP, DONE = Verdict.BATCH, Verdict.ASK, Verdict.KEEP, Verdict.DONE

START: Final = datetime.datetime(2026, 10, 1, tzinfo=datetime.UTC).timestamp()
"""A Thursday."""
DAYS: Final = 30
DAY: Final = 86400.0
HOUR: Final = 3600.0
OFFICE: Final = (0, 0, 0, 0, 0, 0, 1, 3, 7, 9, 9, 8, 6, 8, 9, 8, 7, 5, 3, 2, 2, 1, 1, 0)
"""How busy people are, by hour."""
ALWAYS: Final = (5, 4, 4, 4, 4, 5, 6, 6, 7, 8, 8, 8, 7, 8, 8, 8, 8, 7, 7, 6, 6, 6, 5, 5)
PRICES: Final = {
    "gpt-4.1": (2.0, 0.5, 2.0, 8.0),
    "gpt-4.1-mini": (0.4, 0.1, 0.4, 1.6),
    "text-embedding-3-small": (0.02, 0.02, 0.02, 0.0),
    "claude-haiku-4-5": (1.0, 0.1, 1.25, 5.0),
    "claude-sonnet-4-6": (3.0, 0.3, 3.75, 15.0),
}
"""USD for a million tokens: input, cached, written to a cache, output."""


class Event(msgspec.Struct, order=False):
    """A call as it was. `read`: uncached input."""

    at: float
    job: str
    read: int
    output: int
    duration: float
    cached: int = 0
    written: int = 0
    session: str | None = None
    user: str | None = None
    first_token: float | None = None
    status: int = 200

    @property
    def total(self) -> int:
        return self.read + self.cached + self.written


class Workload(msgspec.Struct, frozen=True):
    """`verdicts`: what is documented, by format; `all` where the log says everything."""

    job: str
    team: str
    provider: str
    model: str
    calls: int
    verdicts: dict[str, Verdict]
    tier: str = "standard"
    deadline: float | None = None
    tools: bool = False

    def verdict(self, format_: str) -> Verdict:
        return self.verdicts.get(format_, self.verdicts["all"])


def _all(verdict: Verdict, **weaker: Verdict) -> dict[str, Verdict]:
    return {"all": verdict, **weaker}


WORKLOADS: Final = (
    Workload("support-chat", "support", "openai", "gpt-4.1", 17_000, _all(KEEP, sums=ASK)),
    Workload(
        "nightly-labels",
        "catalogue",
        "openai",
        "gpt-4.1-mini",
        21_000,
        _all(BATCH, helicone_csv=ASK, sums=ASK),
    ),
    Workload(
        "hourly-enrichment",
        "sales",
        "anthropic",
        "claude-haiku-4-5",
        15_840,
        _all(BATCH, litellm=ASK, langfuse=ASK, helicone=ASK, helicone_csv=ASK, otel=ASK, sums=ASK),
        deadline=6 * HOUR,
    ),
    Workload(
        "embeddings-backfill",
        "search",
        "openai",
        "text-embedding-3-small",
        18_000,
        _all(BATCH, helicone_csv=ASK, sums=ASK),
    ),
    Workload(
        "repo-agent",
        "platform",
        "anthropic",
        "claude-sonnet-4-6",
        9_000,
        _all(KEEP, helicone_csv=ASK, sums=ASK),
        tools=True,
    ),
    Workload("docs-answers", "support", "openai", "gpt-4.1-mini", 8_000, _all(KEEP, sums=ASK)),
    Workload(
        "weekly-eval",
        "platform",
        "anthropic",
        "claude-sonnet-4-6",
        1_600,
        _all(BATCH, helicone_csv=ASK, sums=ASK),
    ),
    Workload("webhook-summaries", "sales", "openai", "gpt-4.1", 3_000, _all(ASK)),
    Workload(
        "moderation",
        "community",
        "openai",
        "gpt-4.1-mini",
        4_410,
        _all(KEEP, litellm=ASK, langfuse=ASK, helicone=ASK, helicone_csv=ASK, otel=ASK, sums=ASK),
        deadline=20.0,
    ),
    Workload(
        "invoice-fields",
        "finance",
        "openai",
        "gpt-4.1-mini",
        2_000,
        _all(DONE, langfuse=BATCH, helicone=BATCH, helicone_csv=ASK, otel=BATCH),
        tier="batch",
    ),
    Workload("release-notes", "platform", "openai", "gpt-4.1", 20, _all(KEEP)),
    Workload("admin-console", "finance", "anthropic", "claude-sonnet-4-6", 130, _all(ASK)),
)
OF: Final = {one.job: one for one in WORKLOADS}
_FIXED: Final = ("release-notes", "admin-console")
"""Small whatever the scale."""


def dollars(event: Event) -> float:
    """What the provider charges for a call, in its tier."""
    one = OF[event.job]
    read, cached, written, output = PRICES[one.model]
    full = event.read * read + event.cached * cached + event.written * written + event.output * output
    return full / 1e6 / (2 if one.tier == "batch" else 1)


def events(seed: int, scale: float = 1.0) -> Iterator[Event]:
    """All calls in order of time; 100,000 at scale 1."""
    parts: list[list[Event]] = []
    for one in WORKLOADS:
        count = one.calls if one.job in _FIXED else round(one.calls * scale)
        draw = random.Random(f"{seed}:{one.job}")
        part = _DRAWN[one.job](one.job, count, draw)
        part.sort(key=lambda event: event.at)
        parts.append(part)
    return heapq.merge(*parts, key=lambda event: event.at)


# ---------------------------------------------------------------- how each workload comes


def _moment(draw: random.Random, hours: tuple[int, ...], weekend: float) -> float:
    """Some time of the month at which people, or machines in several zones, are at work."""
    while True:
        day = draw.randrange(DAYS)
        # The first day is a Thursday.
        if (day + 3) % 7 < 5 or draw.random() < weekend:
            break
    hour = draw.choices(range(24), hours)[0]
    return START + day * DAY + hour * HOUR + draw.random() * HOUR


def _id(draw: random.Random) -> str:
    return str(uuid.UUID(int=draw.getrandbits(128), version=4))


def _tokens(draw: random.Random, middle: float, spread: float = 0.4) -> int:
    return max(1, round(middle * draw.lognormvariate(0.0, spread)))


def _chat(job: str, count: int, draw: random.Random) -> list[Event]:
    found: list[Event] = []
    while len(found) < count:
        at = _moment(draw, OFFICE, 0.4)
        session, user = _id(draw), f"customer-{draw.randrange(3000)}"
        read = _tokens(draw, 700)
        for _ in range(min(draw.randint(1, 8), count - len(found))):
            output = _tokens(draw, 250)
            took = 1.5 + output / 80 * draw.uniform(0.8, 1.3)
            found.append(
                Event(
                    at,
                    job,
                    read,
                    output,
                    took,
                    session=session,
                    user=user,
                    first_token=draw.uniform(0.3, 1.2),
                )
            )
            read += output + _tokens(draw, 40)
            at += took + draw.uniform(15, 120)
    return found


def _loop(job: str, count: int, draw: random.Random) -> list[Event]:
    found: list[Event] = []
    while len(found) < count:
        at, session = _moment(draw, ALWAYS, 0.7), _id(draw)
        held, fresh = 0, _tokens(draw, 6000)
        for _ in range(min(draw.randint(6, 20), count - len(found))):
            output = _tokens(draw, 350)
            took = draw.uniform(3, 12)
            found.append(Event(at, job, 20, output, took, held, fresh, session))
            held, fresh = held + fresh, output + _tokens(draw, 900)
            at += took + draw.uniform(0.3, 8)
    return found


def _run(
    begin: float, job: str, count: int, draw: random.Random, workers: int, took: float, **of: Any
) -> list[Event]:
    """A job: so many workers, each of which takes the next row when it is done with one."""
    free = [begin + draw.random() for _ in range(workers)]
    found: list[Event] = []
    for _ in range(count):
        at = heapq.heappop(free)
        lasts = took * draw.uniform(0.5, 1.8)
        heapq.heappush(free, at + lasts + draw.uniform(0.01, 0.2))
        failed = draw.random() < of.get("failing", 0.0)
        read = _tokens(draw, of["read"])
        found.append(
            Event(
                at,
                job,
                0 if failed else read,
                0 if failed else _tokens(draw, of["output"]),
                lasts,
                status=429,
            )
            if failed
            else Event(at, job, read, _tokens(draw, of["output"]) if of["output"] else 0, lasts)
        )
    return found


def _split(count: int, parts: int) -> list[int]:
    return [count // parts + (part < count % parts) for part in range(parts)]


def _nightly(job: str, count: int, draw: random.Random) -> list[Event]:
    return [
        event
        for day, calls in enumerate(_split(count, DAYS))
        for event in _run(
            START + day * DAY + 2 * HOUR + draw.uniform(0, 300),
            job,
            calls,
            draw,
            8,
            2.0,
            read=900,
            output=30,
            failing=0.06,
        )
    ]


def _hourly(job: str, count: int, draw: random.Random) -> list[Event]:
    return [
        event
        for hour, calls in enumerate(_split(count, DAYS * 24))
        for event in _run(START + hour * HOUR + 305, job, calls, draw, 2, 1.5, read=1500, output=200)
    ]


def _backfill(job: str, count: int, draw: random.Random) -> list[Event]:
    return _run(START + 11 * DAY + 3 * HOUR, job, count, draw, 1, 0.9, read=40000, output=0)


def _weekly(job: str, count: int, draw: random.Random) -> list[Event]:
    return [
        event
        for week, calls in enumerate(_split(count, 4))
        for event in _run(
            START + (4 + 7 * week) * DAY + 4 * HOUR, job, calls, draw, 4, 6.0, read=3000, output=600
        )
    ]


def _batched(job: str, count: int, draw: random.Random) -> list[Event]:
    return _run(START + 27 * DAY + 20 * HOUR, job, count, draw, 20, 1.0, read=12000, output=150)


def _answers(job: str, count: int, draw: random.Random) -> list[Event]:
    return [
        Event(
            _moment(draw, OFFICE, 0.3),
            job,
            _tokens(draw, 6000),
            _tokens(draw, 300),
            draw.uniform(2, 7),
            user=f"reader-{draw.randrange(800)}",
        )
        for _ in range(count)
    ]


def _hooks(job: str, count: int, draw: random.Random) -> list[Event]:
    return [
        Event(_moment(draw, OFFICE, 0.2), job, _tokens(draw, 4000), _tokens(draw, 300), draw.uniform(4, 14))
        for _ in range(count)
    ]


def _posts(job: str, count: int, draw: random.Random) -> list[Event]:
    return [
        Event(_moment(draw, OFFICE, 1.0), job, _tokens(draw, 6000), _tokens(draw, 30), draw.uniform(0.6, 2.5))
        for _ in range(count)
    ]


def _notes(job: str, count: int, draw: random.Random) -> list[Event]:
    return [
        Event(_moment(draw, OFFICE, 0.0), job, _tokens(draw, 8000), _tokens(draw, 800), draw.uniform(8, 20))
        for _ in range(count)
    ]


def _console(job: str, count: int, draw: random.Random) -> list[Event]:
    return [
        Event(
            _moment(draw, OFFICE, 0.05),
            job,
            _tokens(draw, 20000),
            _tokens(draw, 1500),
            draw.uniform(8, 25),
            user=f"staff-{draw.randrange(4)}",
        )
        for _ in range(count)
    ]


_DRAWN: Final[dict[str, Callable[[str, int, random.Random], list[Event]]]] = {
    "support-chat": _chat,
    "nightly-labels": _nightly,
    "hourly-enrichment": _hourly,
    "embeddings-backfill": _backfill,
    "repo-agent": _loop,
    "docs-answers": _answers,
    "weekly-eval": _weekly,
    "webhook-summaries": _hooks,
    "moderation": _posts,
    "invoice-fields": _batched,
    "release-notes": _notes,
    "admin-console": _console,
}


# ---------------------------------------------------------------- as tools log them


def iso(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(timespec="milliseconds")


def _endpoint(one: Workload) -> str:
    if one.model.startswith("text-embedding"):
        return "embeddings"
    return "messages" if one.provider == "anthropic" else "chat"


def gateway(of: Iterable[Event], path: Path) -> Path:
    """halfrate's own: everything is in it."""
    with path.open("wb") as file:
        for number, event in enumerate(of):
            one = OF[event.job]
            file.write(
                line(
                    Logged(
                        time=iso(event.at),
                        id=f"req-{number}",
                        team=one.team,
                        key=f"{one.team}-prod",
                        user=event.user,
                        job=one.job,
                        session=event.session,
                        endpoint=_endpoint(one),
                        provider=one.provider,
                        model=one.model,
                        served=one.model,
                        tier=one.tier,
                        stream=event.first_token is not None,
                        tools=one.tools,
                        deadline=one.deadline,
                        tokens=LoggedTokens(
                            input=event.read, cached=event.cached, write_5m=event.written, output=event.output
                        ),
                        cost_picodollars=round(dollars(event) * 1e12),
                        duration=round(event.duration, 3),
                        first_token=event.first_token,
                        status=event.status,
                    )
                )
            )
    return path


PLAIN_HEAD: Final = (
    "time,provider,model,endpoint,job,team,user,session,input_tokens,cached_tokens,cache_write_tokens,output_tokens,"
    "duration_s,first_token_s,stream,tools,status,cost_usd,tier,deadline_s"
)


def plain(of: Iterable[Event], path: Path) -> Path:
    """The documented table, with all that it can hold."""
    with path.open("w", newline="") as file:
        file.write(PLAIN_HEAD + "\n")
        for event in of:
            one = OF[event.job]
            cells: list[Any] = [
                iso(event.at),
                one.provider,
                one.model,
                _endpoint(one),
                one.job,
                one.team,
                event.user or "",
                event.session or "",
                event.total,
                event.cached,
                event.written,
                event.output,
                f"{event.duration:.3f}",
                f"{event.first_token:.3f}" if event.first_token else "",
                "true" if event.first_token else "false",
                "true" if one.tools else "false",
                event.status,
                f"{dollars(event):.12f}",
                one.tier,
                one.deadline or "",
            ]
            file.write(",".join(map(str, cells)) + "\n")
    return path


def litellm_row(event: Event, draw: random.Random) -> dict[str, Any]:
    """A row of LiteLLM_SpendLogs."""
    one = OF[event.job]
    end = event.at + event.duration
    usage = {
        "prompt_tokens": event.total,
        "completion_tokens": event.output,
        "prompt_tokens_details": {"cached_tokens": event.cached},
        "cache_creation_input_tokens": event.written,
        "cache_read_input_tokens": event.cached,
    }
    kind = "aembedding" if one.model.startswith("text-embedding") else "acompletion"
    return {
        "request_id": _id(draw),
        "call_type": "aretrieve_batch" if one.tier == "batch" else kind,
        "api_key": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b",
        "spend": dollars(event),
        "total_tokens": event.total + event.output,
        "prompt_tokens": event.total,
        "completion_tokens": event.output,
        "startTime": iso(event.at),
        "endTime": iso(end),
        "completionStartTime": iso(event.at + event.first_token if event.first_token else end),
        "model": one.model,
        "model_group": one.model,
        "custom_llm_provider": one.provider,
        "user": "default_user_id",
        "metadata": json.dumps(
            {
                "usage_object": usage,
                "user_api_key_alias": f"{one.team}-prod",
                "user_api_key_team_alias": one.team,
            }
        ),
        "cache_hit": "False",
        "cache_key": "Cache OFF",
        "request_tags": json.dumps([f"job:{one.job}", "User-Agent: AsyncOpenAI/Python 3.52.0"]),
        "team_id": one.team,
        "end_user": event.user or "",
        "session_id": event.session or _id(draw),
        "status": "success" if event.status < 400 else "failure",
        "messages": "{}",
        "response": "{}",
    }


def litellm(of: Iterable[Event], path: Path) -> Path:
    """The table as CSV."""
    draw = random.Random(0)
    with path.open("w", newline="") as file:
        writer: csv.DictWriter[str] | None = None
        for event in of:
            row = litellm_row(event, draw)
            if writer is None:
                writer = csv.DictWriter(file, list(row))
                writer.writeheader()
            writer.writerow(row)
    return path


def langfuse_row(event: Event, draw: random.Random) -> dict[str, Any]:
    """An enriched observation of blob storage."""
    one = OF[event.job]

    def stamp(at: float) -> str:
        return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")

    usage = {"input": event.read, "output": event.output, "total": event.total + event.output}
    if event.cached or event.written:
        usage |= {"cache_read_input_tokens": event.cached, "cache_creation_input_tokens": event.written}
    trace = _id(draw)
    return {
        "id": _id(draw),
        "trace_id": trace,
        "project_id": "proj",
        "environment": "production",
        "type": "EMBEDDING" if one.model.startswith("text-embedding") else "GENERATION",
        "parent_observation_id": "",
        "start_time": stamp(event.at),
        "end_time": stamp(event.at + event.duration),
        "name": "generate",
        "metadata": {},
        "level": "DEFAULT" if event.status < 400 else "ERROR",
        "provided_model_name": one.model,
        "usage_details": usage,
        "total_cost": dollars(event),
        "completion_start_time": stamp(event.at + event.first_token) if event.first_token else None,
        "latency": event.duration,
        "time_to_first_token": event.first_token,
        "tool_definitions": {"search": "{}"} if one.tools else {},
        "user_id": event.user or "",
        "session_id": event.session or "",
        "trace_name": one.job,
        "tags": [f"team:{one.team}"],
    }


def langfuse(of: Iterable[Event], path: Path) -> Path:
    draw = random.Random(0)
    with path.open("w") as file:
        for event in of:
            file.write(json.dumps(langfuse_row(event, draw)) + "\n")
    return path


def helicone_row(event: Event, draw: random.Random) -> dict[str, Any]:
    """A request as the export tool writes it."""
    one = OF[event.job]
    properties = {"job": one.job, "team": one.team}
    if event.session:
        properties["Helicone-Session-Id"] = event.session
    read = event.read if one.provider == "anthropic" else event.total
    return {
        "response_id": _id(draw),
        "response_created_at": iso(event.at + event.duration),
        "response_status": event.status,
        "request_id": _id(draw),
        "request_created_at": iso(event.at),
        "request_body": "",
        "request_path": "https://api.openai.com/v1/chat/completions",
        "request_user_id": event.user,
        "request_properties": properties,
        "request_model": one.model,
        "response_model": one.model,
        "model": one.model,
        "provider": one.provider.upper(),
        "delay_ms": round(event.duration * 1000),
        "time_to_first_token": round(event.first_token * 1000) if event.first_token else None,
        "total_tokens": read + event.output,
        "prompt_tokens": read,
        "prompt_cache_read_tokens": event.cached,
        "prompt_cache_write_tokens": event.written,
        "completion_tokens": event.output,
        "cost": dollars(event),
    }


def helicone(of: Iterable[Event], path: Path) -> Path:
    """JSONL, the newest first."""
    draw = random.Random(0)
    rows = [json.dumps(helicone_row(event, draw)) + "\n" for event in of]
    path.write_text("".join(reversed(rows)))
    return path


def helicone_csv(of: Iterable[Event], path: Path) -> Path:
    """The twelve columns of the export tool's CSV, the newest first."""
    draw = random.Random(0)
    head = [
        *("response_id", "response_created_at", "response_status", "request_created_at", "request_body"),
        *(
            "request_properties",
            "request_user_id",
            "model",
            "prompt_tokens",
            "completion_tokens",
            "latency",
            "cost",
        ),
    ]
    rows: list[str] = []
    for event in of:
        row = helicone_row(event, draw) | {"latency": round(event.duration * 1000)}
        row["request_properties"] = json.dumps(row["request_properties"])
        out = io.StringIO()
        csv.writer(out, quoting=csv.QUOTE_ALL).writerow(
            ["" if row[name] is None else row[name] for name in head]
        )
        rows.append(out.getvalue())
    path.write_text(",".join(head) + "\n" + "".join(reversed(rows)))
    return path


def _attribute(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"key": name, "value": {"boolValue": value}}
    if isinstance(value, int):
        return {"key": name, "value": {"intValue": str(value)}}
    return {"key": name, "value": {"stringValue": str(value)}}


def otel_span(event: Event, draw: random.Random) -> dict[str, Any]:
    """A span of the conventions before streaming was in them."""
    one = OF[event.job]
    about: dict[str, Any] = {
        "gen_ai.operation.name": "embeddings" if one.model.startswith("text-embedding") else "chat",
        "gen_ai.provider.name": one.provider,
        "gen_ai.request.model": one.model,
        "gen_ai.response.model": one.model,
        "gen_ai.usage.input_tokens": event.total,
        "gen_ai.usage.output_tokens": event.output,
        "job": one.job,
    }
    if event.cached or event.written:
        about["gen_ai.usage.cache_read.input_tokens"] = event.cached
        about["gen_ai.usage.cache_creation.input_tokens"] = event.written
    if event.session:
        about["gen_ai.conversation.id"] = event.session
    if event.user:
        about["user.id"] = event.user
    if event.status >= 400:
        about["error.type"] = str(event.status)
    return {
        "traceId": f"{draw.getrandbits(128):032x}",
        "spanId": f"{draw.getrandbits(64):016x}",
        "name": f"chat {one.model}",
        "kind": 3,
        "startTimeUnixNano": str(round(event.at * 1e9)),
        "endTimeUnixNano": str(round((event.at + event.duration) * 1e9)),
        "attributes": [_attribute(name, value) for name, value in about.items()],
        "status": {"code": 2} if event.status >= 400 else {},
    }


def otel(of: Iterable[Event], path: Path) -> Path:
    """One message a line, as the collector's file exporter writes them."""
    draw = random.Random(0)
    with path.open("w") as file:
        for event in of:
            team = OF[event.job].team
            resource = {
                "attributes": [_attribute("service.name", f"{team}-service"), _attribute("team", team)]
            }
            scope = {"scope": {"name": "opentelemetry.instrumentation"}, "spans": [otel_span(event, draw)]}
            file.write(json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}) + "\n")
    return path


def sums(of: Iterable[Event], folder: Path) -> list[Path]:
    """OpenAI's and Anthropic's usage by the hour, a key and a workspace for each workload."""
    held: dict[tuple[str, int, str], list[int]] = {}
    for event in of:
        one = OF[event.job]
        cell = held.setdefault((one.provider, int(event.at // HOUR), one.job), [0] * 5)
        for place, amount in enumerate((1, event.read, event.cached, event.written, event.output)):
            cell[place] += amount
    buckets: dict[str, dict[int, list[dict[str, Any]]]] = {"openai": {}, "anthropic": {}}
    for (provider, hour, job), (calls, read, cached, written, output) in sorted(held.items()):
        one = OF[job]
        if provider == "openai":
            kind = "embeddings" if one.model.startswith("text-embedding") else "completions"
            result: dict[str, Any] = {
                "object": f"organization.usage.{kind}.result",
                "input_tokens": read + cached,
                "input_cached_tokens": cached,
                "output_tokens": output,
                "num_model_requests": calls,
                "project_id": f"proj_{one.team}",
                "api_key_id": job,
                "model": one.model,
                "batch": one.tier == "batch",
            }
        else:
            result = {
                "uncached_input_tokens": read,
                "cache_creation": {"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": written},
                "cache_read_input_tokens": cached,
                "output_tokens": output,
                "api_key_id": job,
                "workspace_id": f"wrkspc_{one.team}",
                "model": one.model,
                "service_tier": one.tier,
                "context_window": "0-200k",
            }
        buckets[provider].setdefault(hour, []).append(result)
    openai = {
        "object": "page",
        "data": [
            {"object": "bucket", "start_time": hour * 3600, "end_time": (hour + 1) * 3600, "results": results}
            for hour, results in buckets["openai"].items()
        ],
        "has_more": False,
        "next_page": None,
    }
    anthropic = {
        "data": [
            {"starting_at": iso(hour * HOUR), "ending_at": iso((hour + 1) * HOUR), "results": results}
            for hour, results in buckets["anthropic"].items()
        ],
        "has_more": False,
        "next_page": None,
    }
    paths = [folder / "openai.json", folder / "anthropic.json"]
    for path, document in zip(paths, (openai, anthropic), strict=True):
        path.write_text(json.dumps(document))
    return paths


WRITERS: Final[dict[str, Callable[[Iterable[Event], Path], Path]]] = {
    "gateway": gateway,
    "plain": plain,
    "litellm": litellm,
    "langfuse": langfuse,
    "helicone": helicone,
    "helicone_csv": helicone_csv,
    "otel": otel,
}
