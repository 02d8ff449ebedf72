"""The table of faults: every name with what it does and the keys it takes. Help texts and docs read it."""

from typing import Literal

import msgspec

Group = Literal["rows", "batches", "transport", "realtime", "webhooks"]
Kind = Literal["int", "float", "text", "flag"]


class Key(msgspec.Struct, frozen=True):
    """One key of a fault: its type, its default and what it means."""

    kind: Kind
    default: int | float | str | bool | None
    help: str
    choices: tuple[str, ...] = ()


class FaultKind(msgspec.Struct, frozen=True):
    """One line of the table."""

    name: str
    group: Group
    summary: str
    keys: dict[str, Key] = {}
    lasting: bool = False
    """A lasting fault goes on until cleared; the others strike once unless rate, times or match say more."""


PROVIDERS = (
    "openai",
    "anthropic",
    "azure",
    "groq",
    "together",
    "moonshot",
    "qwen",
    "zhipu",
    "deepinfra",
    "doubleword",
    "novita",
    "voyage",
    "mistral",
    "xai",
    "fireworks",
    "bedrock",
    "s3",
    "gemini",
    "vertex",
    "gcs",
    "bigquery",
    "cohere",
)

COMMON_KEYS: dict[str, Key] = {
    "rate": Key("float", None, "share of the chances it takes, 0 to 1"),
    "times": Key("int", None, "how often it strikes at most"),
    "match": Key("text", None, "rows faults: only rows whose body contains this text"),
    "provider": Key("text", None, "only this provider", PROVIDERS),
}


def _status(default: int) -> Key:
    return Key("int", default, "HTTP status")


def _seconds(default: float, what: str) -> Key:
    return Key("float", default, what)


_RETRY_AFTER = Key("float", None, "adds a Retry-After header with these seconds")

_KINDS = (
    FaultKind(
        "row-error",
        "rows",
        "the row fails with an HTTP error",
        {
            "status": _status(500),
            "sticky": Key("flag", False, "the same content fails in every attempt"),
        },
    ),
    FaultKind("row-malformed", "rows", "the result line is broken JSON (the row is billed)"),
    FaultKind("row-missing", "rows", "the row never runs and has no result line"),
    FaultKind("row-duplicate", "rows", "the result line comes twice"),
    FaultKind("row-unknown", "rows", "an extra result line with an id that was never sent"),
    FaultKind("row-no-id", "rows", "the result line has no custom_id"),
    FaultKind("row-both-files", "rows", "OpenAI: the row is in the output file and in the error file"),
    FaultKind("row-refusal", "rows", "the model refuses: an empty answer with a refusal, billed"),
    FaultKind("row-truncated", "rows", "the answer is cut off at the token limit, billed"),
    FaultKind("row-unicode", "rows", "the answer contains raw U+2028, U+2029 and U+0085"),
    FaultKind(
        "row-big", "rows", "the answer is big", {"size": Key("int", 1_000_000, "bytes of answer text")}
    ),
    FaultKind("row-status-zero", "rows", "status 0 and an empty body (Anthropic: an error without a type)"),
    FaultKind(
        "row-null-error",
        "rows",
        "an error status whose error object is null",
        {"status": _status(400)},
    ),
    FaultKind("shuffle", "rows", "result lines in random order (this is on from the start)", lasting=True),
    FaultKind("no-shuffle", "rows", "result lines in the order of the input", lasting=True),
    FaultKind(
        "last-line-cut",
        "rows",
        "the result file's last line lacks its newline, or part of it",
        {"bytes": Key("int", 1, "bytes missing at the end; 1 is only the newline")},
    ),
    FaultKind(
        "batch-expire",
        "batches",
        "the batch expires with part of its rows done; those are kept and billed",
        {
            "done": Key("float", 0.5, "share of the rows that finish"),
            "at": Key(
                "text", "finish", "when: as it would have finished, or after 24 h", ("finish", "window")
            ),
        },
    ),
    FaultKind(
        "batch-expire-no-files",
        "batches",
        "the batch expires with part of its rows done and billed, and no result files",
        {"done": Key("float", 0.5, "share of the rows that finish")},
    ),
    FaultKind(
        "batch-fail",
        "batches",
        "OpenAI: the batch fails in validation",
        {
            "code": Key("text", "invalid_json_line", "error code"),
            "line": Key("int", 1, "line number named"),
        },
    ),
    FaultKind(
        "queue-full",
        "batches",
        "the queue quota is used up (Anthropic: 429 at create)",
        {
            "mode": Key(
                "text", "failed", "OpenAI: failed after validation, or at create", ("failed", "create")
            ),
            "status": _status(429),
            "retry_after": _RETRY_AFTER,
        },
    ),
    FaultKind(
        "batch-stuck",
        "batches",
        "the batch makes no progress for a while",
        {"seconds": _seconds(3600, "how long")},
    ),
    FaultKind("cancel-ignored", "batches", "a cancel is answered with 200 and nothing changes"),
    FaultKind("cancel-race", "batches", "the batch finishes all its rows while it is being cancelled"),
    FaultKind("cancel-absent", "batches", "OpenAI: cancelled rows are in no file at all"),
    FaultKind("completed-no-output", "batches", "the batch ends well, rows billed, but has no result files"),
    FaultKind(
        "status-unknown",
        "batches",
        "the batch reports a status nobody has heard of",
        {
            "seconds": _seconds(2, "how long after its creation"),
            "status": Key("text", "paused", "the status"),
        },
    ),
    FaultKind("counts-wrong", "batches", "request_counts are wrong"),
    FaultKind("all-rows-fail", "batches", "every row fails", {"status": _status(500)}),
    FaultKind("create-lost", "transport", "the batch is created, the connection drops without a reply"),
    FaultKind(
        "create-error", "transport", "the batch is created, the answer is an error", {"status": _status(500)}
    ),
    FaultKind(
        "create-refused",
        "transport",
        "no batch is created, the answer is an error",
        {"status": _status(503), "retry_after": _RETRY_AFTER},
    ),
    FaultKind(
        "create-slow",
        "transport",
        "the batch is created, the reply is held back so that the client gives up",
        {"seconds": _seconds(30, "how long")},
    ),
    FaultKind("poll-error", "transport", "reading a batch fails", {"status": _status(500)}),
    FaultKind(
        "rate-limit",
        "transport",
        "429",
        {
            "on": Key(
                "text",
                "any",
                "which calls",
                ("any", "upload", "create", "poll", "list", "download", "cancel", "delete", "realtime"),
            ),
            "retry_after": _RETRY_AFTER,
        },
    ),
    FaultKind(
        "download-truncated",
        "transport",
        "a download ends early",
        {"fraction": Key("float", 0.5, "share of the bytes that arrive")},
    ),
    FaultKind(
        "download-slow",
        "transport",
        "a download comes slowly",
        {"seconds": _seconds(0.05, "pause before each chunk of 256 KB")},
    ),
    FaultKind("upload-reset", "transport", "the connection is reset in mid-upload; no file is made"),
    FaultKind(
        "list-stale",
        "transport",
        "a new batch is missing from listings",
        {"seconds": _seconds(5, "how long")},
    ),
    FaultKind(
        "not-found-after-create",
        "transport",
        "reading a new batch gives 404",
        {"seconds": _seconds(2, "how long")},
    ),
    FaultKind(
        "file-not-ready",
        "transport",
        "OpenAI: creating a batch with a fresh file says it does not exist",
        {"seconds": _seconds(2, "how long after the upload")},
    ),
    FaultKind(
        "realtime-error",
        "realtime",
        "a realtime call fails",
        {"status": _status(500), "retry_after": _RETRY_AFTER},
    ),
    FaultKind(
        "realtime-burst",
        "realtime",
        "every realtime call fails for a while",
        {"status": _status(429), "seconds": _seconds(20, "how long"), "retry_after": _RETRY_AFTER},
    ),
    FaultKind("realtime-lost", "realtime", "the row is run and billed, the connection drops without a reply"),
    FaultKind(
        "realtime-slow",
        "realtime",
        "the row is run and billed, the reply is held back so that the client gives up",
        {"seconds": _seconds(30, "how long")},
    ),
    FaultKind(
        "realtime-cut",
        "realtime",
        "the row is run and billed, the reply ends early",
        {"fraction": Key("float", 0.5, "share of the bytes that arrive")},
    ),
    FaultKind("flex-unavailable", "realtime", "OpenAI: there is no room for a flex call (429)"),
    FaultKind(
        "tier-changed", "realtime", "OpenAI: a flex or priority call is served, and billed, as any other"
    ),
    FaultKind("webhook-lost", "webhooks", "the event is never delivered"),
    FaultKind("webhook-duplicate", "webhooks", "the event is delivered twice under one id"),
    FaultKind(
        "webhook-early",
        "webhooks",
        "the event arrives before the batch shows its final state",
        {"seconds": _seconds(2, "how long the old state stays visible")},
    ),
    FaultKind("webhook-bad-signature", "webhooks", "the event is signed with another secret"),
    FaultKind(
        "webhook-replay",
        "webhooks",
        "the event is delivered, then again with its old timestamp",
        {"seconds": _seconds(600, "age of the replayed timestamp")},
    ),
    FaultKind(
        "webhook-late", "webhooks", "the event is delivered late", {"seconds": _seconds(60, "how late")}
    ),
)

FAULTS: dict[str, FaultKind] = {kind.name: kind for kind in _KINDS}
