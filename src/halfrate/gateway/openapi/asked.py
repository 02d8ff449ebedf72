"""What calls take, as JSON Schema."""

from typing import Final

from halfrate.gateway.multipart import MOST_FIELDS
from halfrate.gateway.openai_uploads import UPLOAD_BYTES
from halfrate.gateway.openapi.operation import Json, whole
from halfrate.gateway.openapi.schemas import LEAST_LIFE, LIFE, METADATA, life, list_of, or_null, record, text
from halfrate.rows.message_input import MOST_REQUESTS
from halfrate.service.batches import URLS

_PURPOSE: Final = text("The gateway keeps files for batches alone.", enum=["batch"])

_FORM: Final[Json] = {
    # Fields that nobody knows are passed over.
    "propertyNames": {"minLength": 1},
    "maxProperties": MOST_FIELDS,
}

ASKED: Final[Json] = {
    "CreateFile": record(
        "A file, sent as a form.",
        {"file": text("Lines of JSON, one a row.", format="binary"), "purpose": _PURPOSE},
        {
            "expires_after[anchor]": text(enum=["created_at"]),
            "expires_after[seconds]": whole(LEAST_LIFE, LIFE, LIFE),
        },
        **_FORM,
        dependentRequired={
            "expires_after[anchor]": ["expires_after[seconds]"],
            "expires_after[seconds]": ["expires_after[anchor]"],
        },
    ),
    "CreateUpload": record(
        "A file that will come in parts.",
        {
            "filename": text(),
            "purpose": _PURPOSE,
            "bytes": {**whole(1, UPLOAD_BYTES), "description": "The size of the whole file."},
            "mime_type": text("Any; it is not kept."),
        },
        {"expires_after": life("How long the file is kept; 30 days where nothing is said.")},
    ),
    "AddUploadPart": record(
        "A part, sent as a form.",
        {"data": text("Its bytes, one at least.", format="binary", minLength=1)},
        **_FORM,
    ),
    "OpenAIRequest": record(
        "A call as OpenAI's reference has it; all of it goes on to the provider.",
        {"model": text("A model, ACCOUNT/MODEL, or a route of the settings file.")},
        {"stream": {"type": "boolean", "default": False}},
    ),
    "AnthropicRequest": record(
        "A call as Anthropic's reference has it; all of it goes on to the provider.",
        {"model": text("A model, ACCOUNT/MODEL, or a route of the settings file.")},
        {"stream": {"type": "boolean", "default": False}},
    ),
    "CompleteUpload": record(
        "Which parts make the file.",
        {"part_ids": {"type": "array", "description": "In their order.", "items": text(), "minItems": 1}},
        {"md5": or_null(text("Of the whole file, in hex; it is checked."))},
    ),
    "CreateBatch": record(
        "A batch of what a file holds.",
        {
            "input_file_id": text("A file of the purpose `batch`."),
            "endpoint": text("What each row asks.", enum=list(URLS)),
            "completion_window": text(
                "`24h`, for which a batch never costs more than a batch; or less, as in `2h`: a deadline, for which "
                "rows may be run in real time at its price."
            ),
        },
        {
            "metadata": METADATA,
            "output_expires_after": life("How long the results are kept; 30 days where nothing is said."),
        },
    ),
    "CreateMessageBatch": record(
        "Requests, each as it would be sent alone.",
        {"requests": list_of("MessageBatchRequest", minItems=1, maxItems=MOST_REQUESTS)},
        additionalProperties=False,
    ),
    "MessageBatchRequest": record(
        "One request.",
        {
            "custom_id": text("Names it within the batch.", pattern="^[a-zA-Z0-9_-]{1,64}$"),
            "params": {
                "type": "object",
                "description": "The body of a call of the Messages API. What is wrong with it is said in its result.",
            },
        },
        additionalProperties=False,
    ),
}
