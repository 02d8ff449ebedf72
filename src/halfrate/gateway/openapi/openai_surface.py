"""OpenAI's API as the gateway speaks it."""

from typing import TYPE_CHECKING, Final

from halfrate.gateway.openapi.operation import (
    DEADLINE_HEADER,
    RETRIES_HEADER,
    TAGS_HEADER,
    Json,
    Operation,
    as_json,
    in_header,
    in_path,
    in_query,
    one_of,
    shape,
    whole,
)

if TYPE_CHECKING:
    from halfrate.gateway.app import Limits

FILES: Final = "Files"
UPLOADS: Final = "Uploads"
BATCHES: Final = "Batches"
MODELS: Final = "Models"
TAGS: Final = {
    FILES: "What batches are made from, and what they give. Files belong to the team of the key that they came with.",
    UPLOADS: "A file that is too large for one call comes in parts, within an hour.",
    BATCHES: "OpenAI's Batch API, over every provider: rows may ask any model that the gateway has an account for.",
    MODELS: "Models that a key may ask and that have a price here. With the header `anthropic-version` the replies are "
    "in Anthropic's form.",
}
_FORM: Final = "multipart/form-data"
_FILE: Final = in_path("The file's id.")
_UPLOAD: Final = in_path("The upload's id.")
_BATCH: Final = in_path("The batch's id.")
_AFTER: Final = in_query("after", "The id behind which the page begins.", {"type": "string"})
_VERSION: Final = in_header("anthropic-version", "Asks for Anthropic's form, whatever it says.")
_NO_INPUT: Final = "The call is not as expected, or there is no such input file. The message says what."


def operations(limits: "Limits") -> list[Operation]:
    return [*_files(limits.file_bytes), *_uploads(limits.part_bytes), *_batches(), *_models()]


def _files(largest: int) -> list[Operation]:
    return [
        Operation(
            method="POST",
            path="/v1/files",
            name="createFile",
            summary="Send a file",
            tag=FILES,
            speaks="openai",
            text=f"The fields of the form come in any order, and its file has at most {largest:,} bytes.",
            body={_FORM: {"schema": shape("CreateFile")}},
            gives="The file.",
            content=as_json(shape("File")),
            refuses={400: "", 413: f"The file is larger than {largest:,} bytes."},
            links={
                **_linked("retrieveFile", "downloadFile", "deleteFile"),
                "createBatch": {
                    "operationId": "createBatch",
                    "requestBody": {
                        "input_file_id": "$response.body#/id",
                        "endpoint": "/v1/chat/completions",
                        "completion_window": "24h",
                    },
                },
            },
        ),
        Operation(
            method="GET",
            path="/v1/files",
            name="listFiles",
            summary="List files",
            tag=FILES,
            speaks="openai",
            parameters=(
                _AFTER,
                in_query("limit", "Files of the page.", whole(1, 10_000, 10_000)),
                in_query(
                    "order",
                    "By the time they came.",
                    {"type": "string", "enum": ["asc", "desc"], "default": "desc"},
                ),
                in_query("purpose", "`batch` or `batch_output`; none has another.", {"type": "string"}),
            ),
            gives="A page of files.",
            content=as_json(shape("FileList")),
            refuses={400: ""},
        ),
        Operation(
            method="GET",
            path="/v1/files/{id}",
            name="retrieveFile",
            summary="Look at a file",
            tag=FILES,
            speaks="openai",
            parameters=(_FILE,),
            gives="The file.",
            content=as_json(shape("File")),
            refuses={404: ""},
        ),
        Operation(
            method="DELETE",
            path="/v1/files/{id}",
            name="deleteFile",
            summary="Delete a file",
            tag=FILES,
            speaks="openai",
            text="Batches that were made from it go on.",
            parameters=(_FILE,),
            gives="It is gone.",
            content=as_json(shape("DeletedFile")),
            refuses={404: ""},
        ),
        Operation(
            method="GET",
            path="/v1/files/{id}/content",
            name="downloadFile",
            summary="Fetch what a file holds",
            tag=FILES,
            speaks="openai",
            parameters=(_FILE,),
            gives="Its bytes.",
            content={"application/octet-stream": {}},
            refuses={404: ""},
        ),
    ]


def _uploads(largest: int) -> list[Operation]:
    return [
        Operation(
            method="POST",
            path="/v1/uploads",
            name="createUpload",
            summary="Begin an upload",
            tag=UPLOADS,
            speaks="openai",
            body=as_json(shape("CreateUpload")),
            gives="The upload, which has to be completed within an hour.",
            content=as_json(shape("Upload")),
            refuses={400: "", 413: ""},
            links=_linked("addUploadPart", "completeUpload", "cancelUpload"),
        ),
        Operation(
            method="POST",
            path="/v1/uploads/{id}/parts",
            name="addUploadPart",
            summary="Send a part",
            tag=UPLOADS,
            speaks="openai",
            text=f"At most {largest:,} bytes. Parts may be sent side by side.",
            parameters=(_UPLOAD,),
            body={_FORM: {"schema": shape("AddUploadPart")}},
            gives="The part.",
            content=as_json(shape("UploadPart")),
            refuses={
                400: "The call is not as expected, or the upload takes no more parts.",
                404: "",
                413: f"The part is larger than {largest:,} bytes.",
            },
            links={
                "completeUpload": {
                    "operationId": "completeUpload",
                    "parameters": {"id": "$response.body#/upload_id"},
                    "requestBody": {"part_ids": ["$response.body#/id"]},
                }
            },
        ),
        Operation(
            method="POST",
            path="/v1/uploads/{id}/complete",
            name="completeUpload",
            summary="Make a file of the parts",
            tag=UPLOADS,
            speaks="openai",
            text="The parts have to add up to the bytes that the upload was begun with.",
            parameters=(_UPLOAD,),
            body=as_json(shape("CompleteUpload")),
            gives="The upload, with its file.",
            content=as_json(shape("Upload")),
            refuses={
                400: "The parts do not make the file, or the upload takes no more calls.",
                404: "",
                413: "",
            },
        ),
        Operation(
            method="POST",
            path="/v1/uploads/{id}/cancel",
            name="cancelUpload",
            summary="Give an upload up",
            tag=UPLOADS,
            speaks="openai",
            parameters=(_UPLOAD,),
            gives="The upload.",
            content=as_json(shape("Upload")),
            refuses={400: "The upload takes no more calls.", 404: ""},
        ),
    ]


def _batches() -> list[Operation]:
    return [
        Operation(
            method="POST",
            path="/v1/batches",
            name="createBatch",
            summary="Make a batch",
            tag=BATCHES,
            speaks="openai",
            text="What is wrong with the rows is said in the batch, which then has failed.",
            parameters=(DEADLINE_HEADER, TAGS_HEADER, RETRIES_HEADER),
            body=as_json(shape("CreateBatch")),
            gives="The batch.",
            content=as_json(shape("Batch")),
            refuses={400: _NO_INPUT, 413: ""},
            links=_linked("retrieveBatch", "cancelBatch"),
        ),
        Operation(
            method="GET",
            path="/v1/batches",
            name="listBatches",
            summary="List batches",
            tag=BATCHES,
            speaks="openai",
            parameters=(_AFTER, in_query("limit", "Batches of the page.", whole(1, 100, 20))),
            gives="A page of batches, the newest first.",
            content=as_json(shape("BatchList")),
            refuses={400: ""},
        ),
        Operation(
            method="GET",
            path="/v1/batches/{id}",
            name="retrieveBatch",
            summary="Look at a batch",
            tag=BATCHES,
            speaks="openai",
            parameters=(_BATCH,),
            gives="The batch.",
            content=as_json(shape("Batch")),
            refuses={404: ""},
        ),
        Operation(
            method="POST",
            path="/v1/batches/{id}/cancel",
            name="cancelBatch",
            summary="Cancel a batch",
            tag=BATCHES,
            speaks="openai",
            text="What is finished by then is delivered.",
            parameters=(_BATCH,),
            gives="The batch, which will be cancelled.",
            content=as_json(shape("Batch")),
            refuses={404: "", 409: "The batch has come too far to be cancelled."},
        ),
    ]


def _models() -> list[Operation]:
    return [
        Operation(
            method="GET",
            path="/v1/models",
            name="listModels",
            summary="List models",
            tag=MODELS,
            speaks="both",
            parameters=(
                _VERSION,
                in_query("limit", "Models of the page, in Anthropic's form.", whole(1, 1_000, 20)),
                in_query(
                    "after_id",
                    "The model behind which the page begins, in Anthropic's form.",
                    {"type": "string"},
                ),
            ),
            gives="Models.",
            content=as_json(one_of("ModelList", "AnthropicModelList")),
            refuses={400: ""},
        ),
        Operation(
            method="GET",
            path="/v1/models/{id}",
            name="retrieveModel",
            summary="Look at a model",
            tag=MODELS,
            speaks="both",
            parameters=(_VERSION, in_path("The model's name; one with a slash in it goes in as it is.")),
            gives="The model.",
            content=as_json(one_of("Model", "AnthropicModel")),
            refuses={404: "There is no such model, or the key may not ask it."},
        ),
    ]


def _linked(*names: str) -> Json:
    """Calls that can be made with the id of what a reply shows."""
    return {name: {"operationId": name, "parameters": {"id": "$response.body#/id"}} for name in names}
