"""What calls give, as JSON Schema: OpenAI's shapes, Anthropic's, and halfrate's own."""

from typing import Final

from halfrate.base.types import Usage
from halfrate.core.surface import SHOWN, BatchState
from halfrate.gateway.openapi.operation import Json, shape
from halfrate.gateway.openapi.schemas import METADATA, list_of, moment, number, or_null, record, seconds, text
from halfrate.service.batches import URLS

_OPENAI: Final[Json] = {
    "Error": record(
        "Why a call was not answered, in OpenAI's shape.",
        {
            "error": record(
                "",
                {
                    "message": text("For whoever wrote the call."),
                    "type": text(
                        enum=[
                            "authentication_error",
                            "conflict_error",
                            "invalid_request_error",
                            "permission_error",
                            "rate_limit_error",
                            "server_error",
                        ]
                    ),
                    "param": or_null(text("The field or parameter at fault.")),
                    "code": or_null(text("For programs.")),
                },
            )
        },
    ),
    "File": record(
        "A file.",
        {
            "id": text(),
            "object": text(enum=["file"]),
            "bytes": number(),
            "created_at": seconds("When it came"),
            "filename": text(),
            "purpose": text(enum=["batch", "batch_output"]),
            "status": text(enum=["processed"]),
        },
        {"expires_at": seconds("When it goes")},
    ),
    "FileList": record(
        "Files, and whether there are more behind them.",
        {
            "object": text(enum=["list"]),
            "data": list_of("File"),
            "first_id": text("The first file's; empty where there is none."),
            "last_id": text("The last file's; empty where there is none."),
            "has_more": {"type": "boolean"},
        },
    ),
    "DeletedFile": record(
        "A file that is gone.",
        {"id": text(), "object": text(enum=["file"]), "deleted": {"type": "boolean", "enum": [True]}},
    ),
    "Upload": record(
        "A file that comes in parts.",
        {
            "id": text(),
            "object": text(enum=["upload"]),
            "bytes": number(),
            "created_at": seconds("When it was begun"),
            "expires_at": seconds("When it has to be completed by"),
            "filename": text(),
            "purpose": text(enum=["batch"]),
            "status": text(enum=["pending", "completed", "cancelled", "expired"]),
            "file": {"description": "The file, once it is one.", "anyOf": [shape("File"), {"type": "null"}]},
        },
    ),
    "UploadPart": record(
        "A part of an upload.",
        {
            "id": text(),
            "object": text(enum=["upload.part"]),
            "upload_id": text(),
            "created_at": seconds("When it came"),
        },
    ),
    "Batch": record(
        "A batch.",
        {
            "id": text(),
            "object": text(enum=["batch"]),
            "endpoint": text(enum=list(URLS)),
            "errors": {
                "description": "Why it failed.",
                "anyOf": [
                    record("", {"object": text(enum=["list"]), "data": list_of("BatchError")}),
                    {"type": "null"},
                ],
            },
            "input_file_id": text(),
            "completion_window": text(),
            "status": text(enum=list(SHOWN)),
            "output_file_id": or_null(text("The file with the answers.")),
            "error_file_id": or_null(text("The file with the rows that were not answered.")),
            "created_at": seconds("When it was made"),
            "expires_at": seconds("When its last row is due"),
            **{
                f"{state}_at": or_null(seconds(f"When it came to `{state}`"))
                for state in SHOWN
                if state is not BatchState.VALIDATING
            },
            "request_counts": record("Rows.", {"total": number(), "completed": number(), "failed": number()}),
            "metadata": METADATA,
        },
        {
            "model": text("What its rows call their model, or the first of them."),
            "usage": record(
                "Tokens of the rows that were answered.",
                {
                    "input_tokens": number(),
                    "input_tokens_details": record("", {"cached_tokens": number()}),
                    "output_tokens": number(),
                    "output_tokens_details": record("", {"reasoning_tokens": number()}),
                    "total_tokens": number(),
                },
            ),
        },
    ),
    "BatchError": record(
        "What is wrong with the input of a batch.",
        {
            "code": text(),
            "message": text(),
            "param": or_null(text()),
            "line": or_null(number("Of the file, from 1.")),
        },
    ),
    "BatchList": record(
        "Batches, and whether there are more behind them.",
        {
            "object": text(enum=["list"]),
            "data": list_of("Batch"),
            "has_more": {"type": "boolean"},
        },
        {"first_id": text("Of a list that is empty there is none."), "last_id": text()},
    ),
    "Model": record(
        "A model.",
        {
            "id": text(),
            "object": text(enum=["model"]),
            "created": number("0: the gateway does not know when a model was made."),
            "owned_by": text("The provider that is asked."),
        },
    ),
    "ModelList": record("Models.", {"object": text(enum=["list"]), "data": list_of("Model")}),
}

_ANTHROPIC: Final[Json] = {
    "AnthropicError": record(
        "Why a call was not answered, in Anthropic's shape.",
        {
            "type": text(enum=["error"]),
            "error": record(
                "",
                {
                    "type": text(
                        enum=[
                            "api_error",
                            "authentication_error",
                            "billing_error",
                            "conflict_error",
                            "invalid_request_error",
                            "not_found_error",
                            "overloaded_error",
                            "permission_error",
                            "rate_limit_error",
                            "request_too_large",
                            "timeout_error",
                        ]
                    ),
                    "message": text("For whoever wrote the call."),
                },
            ),
            "request_id": text("As in the header."),
        },
    ),
    "MessageBatch": record(
        "A message batch.",
        {
            "id": text(),
            "type": text(enum=["message_batch"]),
            "processing_status": text(enum=["in_progress", "canceling", "ended"]),
            "request_counts": record(
                "Requests. All of them are processing until the batch has ended.",
                {
                    "processing": number(),
                    "succeeded": number(),
                    "errored": number(),
                    "canceled": number(),
                    "expired": number(),
                },
            ),
            "created_at": moment("When it was made."),
            "expires_at": moment("When its last request is due."),
            "ended_at": or_null(moment("When it ended.")),
            "cancel_initiated_at": or_null(moment("When somebody asked for its end.")),
            "archived_at": or_null(moment("When its results went.")),
            "results_url": or_null(text("Where its results are, once it has ended.")),
        },
    ),
    "MessageBatchList": record(
        "Message batches, the newest first, and whether there are more behind them.",
        {
            "data": list_of("MessageBatch"),
            "has_more": {"type": "boolean"},
            "first_id": or_null(text()),
            "last_id": or_null(text()),
        },
    ),
    "DeletedMessageBatch": record(
        "A message batch that is gone.", {"id": text(), "type": text(enum=["message_batch_deleted"])}
    ),
    "AnthropicModel": record(
        "A model.",
        {
            "type": text(enum=["model"]),
            "id": text(),
            "display_name": text(),
            "created_at": moment("The epoch: the gateway does not know when a model was made."),
        },
    ),
    "AnthropicModelList": record(
        "Models, and whether there are more behind them.",
        {
            "data": list_of("AnthropicModel"),
            "has_more": {"type": "boolean"},
            "first_id": or_null(text()),
            "last_id": or_null(text()),
        },
    ),
}

_FIGURES: Final[Json] = {
    "rows": number("Rows of batches, and calls in real time."),
    "doubts": number("Of these, how many nobody knows the cost of."),
    "tokens": record("By kind.", {name: number() for name in Usage.__struct_fields__}),
    "cost_usd": or_null(text("Exact; null where a price is unknown.")),
    "realtime_cost_usd": or_null(text("What the same would have cost in real time.")),
    "saved_usd": or_null(text("By batches.")),
    "cache_saved_usd": or_null(text("By caches.")),
    "waste_usd": or_null(text("What was paid for nothing.")),
}
_OWN: Final[Json] = {
    "Cost": record(
        "What was spent, in US dollars.",
        {
            "object": text(enum=["halfrate.cost"]),
            "team": or_null(text("Whose figures they are; null for every team's.")),
            "by": {"type": "array", "items": text()},
            "since": or_null(text()),
            "until": or_null(text()),
            "data": list_of("CostLine"),
            "total": record("All lines together.", _FIGURES),
        },
    ),
    "CostLine": record(
        "What was spent on one of what was asked for.",
        {
            "keys": {
                "type": "object",
                "description": "What it is, by the names of `by`.",
                "additionalProperties": {"type": "string"},
            },
            **_FIGURES,
        },
    ),
    "Call": record(
        "A call that can wait, or waited.",
        {
            "id": text(),
            "object": text(enum=["halfrate.call"]),
            "status": text(enum=["queued", "in_progress", "completed", "failed", "cancelled"]),
            "endpoint": text(enum=["chat", "embeddings", "messages"]),
            "model": text("The account and model that is asked."),
            "created_at": number(),
            "deadline": or_null(number("Until when it can wait.")),
            "ended_at": or_null(number()),
            "tier": or_null(text("How it was served.")),
            "cost_usd": or_null(text("What it cost, exactly; null where a price is unknown.")),
            "response": or_null(
                record(
                    "What it was answered.",
                    {"status_code": number(), "body": {"type": "object"}},
                )
            ),
        },
    ),
    "DeletedResponse": record(
        "A response is gone.",
        {"id": text(), "object": text(enum=["response"]), "deleted": {"type": "boolean", "enum": [True]}},
    ),
    "Received": record("An event was taken in.", {"received": {"type": "boolean", "enum": [True]}}),
    "Health": record("How the gateway is.", {"status": text("`ok`, or what is wrong.")}),
}

GIVEN: Final[Json] = {**_OPENAI, **_ANTHROPIC, **_OWN}
