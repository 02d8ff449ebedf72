"""Anthropic's API as the gateway speaks it."""

from typing import TYPE_CHECKING, Final

from halfrate.gateway.openapi.operation import (
    DEADLINE_HEADER,
    RETRIES_HEADER,
    TAGS_HEADER,
    Operation,
    as_json,
    in_header,
    in_path,
    in_query,
    shape,
    whole,
)

if TYPE_CHECKING:
    from halfrate.gateway.app import Limits

MESSAGE_BATCHES: Final = "Message batches"
TAGS: Final = {
    MESSAGE_BATCHES: "Anthropic's Message Batches API, over every provider: requests may ask any model that the "
    "gateway has an account for. Results are kept for 29 days.",
}
_BATCH: Final = in_path("The batch's id.")
_VERSION: Final = in_header("anthropic-version", "Goes on to Anthropic where it is a version that there is.")
_BETA: Final = in_header(
    "anthropic-beta",
    "Names with commas between them; they go on to Anthropic.",
    {"type": "string", "maxLength": 1_000},
)


def operations(limits: "Limits") -> list[Operation]:
    largest = limits.messages_bytes
    return [
        Operation(
            method="POST",
            path="/v1/messages/batches",
            name="createMessageBatch",
            summary="Make a message batch",
            tag=MESSAGE_BATCHES,
            speaks="anthropic",
            text="What is wrong with a request's `params` is said in its result.",
            parameters=(_VERSION, _BETA, DEADLINE_HEADER, TAGS_HEADER, RETRIES_HEADER),
            body=as_json(shape("CreateMessageBatch")),
            gives="The batch.",
            content=as_json(shape("MessageBatch")),
            refuses={400: "", 413: f"The body is larger than {largest:,} bytes, or one request than 32 MiB."},
            links={
                name: {"operationId": name, "parameters": {"id": "$response.body#/id"}}
                for name in (
                    "retrieveMessageBatch",
                    "cancelMessageBatch",
                    "downloadMessageBatchResults",
                    "deleteMessageBatch",
                )
            },
        ),
        Operation(
            method="GET",
            path="/v1/messages/batches",
            name="listMessageBatches",
            summary="List message batches",
            tag=MESSAGE_BATCHES,
            speaks="anthropic",
            parameters=(
                in_query("after_id", "The id behind which the page begins.", {"type": "string"}),
                in_query("before_id", "The id in front of which the page ends.", {"type": "string"}),
                in_query("limit", "Batches of the page.", whole(1, 1_000, 20)),
            ),
            gives="A page of batches.",
            content=as_json(shape("MessageBatchList")),
            refuses={400: ""},
        ),
        Operation(
            method="GET",
            path="/v1/messages/batches/{id}",
            name="retrieveMessageBatch",
            summary="Look at a message batch",
            tag=MESSAGE_BATCHES,
            speaks="anthropic",
            parameters=(_BATCH,),
            gives="The batch.",
            content=as_json(shape("MessageBatch")),
            refuses={404: ""},
        ),
        Operation(
            method="DELETE",
            path="/v1/messages/batches/{id}",
            name="deleteMessageBatch",
            summary="Delete a message batch",
            tag=MESSAGE_BATCHES,
            speaks="anthropic",
            text="Its results go with it.",
            parameters=(_BATCH,),
            gives="It is gone.",
            content=as_json(shape("DeletedMessageBatch")),
            refuses={400: "The batch has not ended.", 404: ""},
        ),
        Operation(
            method="GET",
            path="/v1/messages/batches/{id}/results",
            name="downloadMessageBatchResults",
            summary="Fetch the results of a message batch",
            tag=MESSAGE_BATCHES,
            speaks="anthropic",
            parameters=(_BATCH,),
            gives="Lines of JSON, one a request.",
            content={"application/x-jsonl": {}},
            refuses={
                400: "The batch has not ended.",
                404: "There is no such batch, or its results are not kept any more.",
            },
        ),
        Operation(
            method="POST",
            path="/v1/messages/batches/{id}/cancel",
            name="cancelMessageBatch",
            summary="Cancel a message batch",
            tag=MESSAGE_BATCHES,
            speaks="anthropic",
            text="What is finished by then is delivered.",
            parameters=(_BATCH,),
            gives="The batch, which will end.",
            content=as_json(shape("MessageBatch")),
            refuses={400: "The batch has ended.", 404: ""},
        ),
    ]
