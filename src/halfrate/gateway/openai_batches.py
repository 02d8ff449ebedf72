"""OpenAI's Batch API (API reference, "Batch"), over every provider."""

import asyncio
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from halfrate.core.surface import BATCH_OUTPUT, BatchState, StoredFile, SurfaceBatch
from halfrate.gateway.calls import (
    deadline_of,
    is_repeated,
    key_of,
    moment,
    read_json,
    reply,
    tags_of,
    whole_number,
)
from halfrate.gateway.errors import ApiError, invalid, missing, required
from halfrate.gateway.openai_files import ExpiresAfter, is_plain, life_of
from halfrate.service.batches import URLS, BatchAsk, CannotCancel, Keeper
from halfrate.store.surfaces import NoSuchCursor

_PATIENT: Final = "24h"
_DAY: Final = 86_400
_TIMES: Final = (
    BatchState.IN_PROGRESS,
    BatchState.FINALIZING,
    BatchState.COMPLETED,
    BatchState.FAILED,
    BatchState.EXPIRED,
    BatchState.CANCELLING,
    BatchState.CANCELLED,
)
_MOST_PAIRS: Final = 16
_LONGEST_KEY: Final = 64
_LONGEST_VALUE: Final = 512


class _Create(msgspec.Struct, frozen=True):
    input_file_id: str | None = None
    endpoint: str | None = None
    completion_window: str | None = None
    metadata: dict[str, str] | None = None
    output_expires_after: ExpiresAfter | None = None


class OpenAIBatches:
    """The calls about batches.

    `completion_window` "24h" is what batches cost half for: such a job has no deadline of ours, and never pays more
    than a batch. A shorter one ("2h") is a deadline, for which rows may be run in real time at its price.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def create(self, request: Request) -> Response:
        key = key_of(request)
        asked = await read_json(request, _Create)
        file = await asyncio.to_thread(self._input, key.team, asked)
        ask = BatchAsk(
            file=file,
            url=_url(asked),
            window=asked.completion_window or _PATIENT,
            metadata=_metadata(asked.metadata),
            tags=tags_of(request),
            deadline=_deadline(request, asked),
            output_life=life_of(asked.output_expires_after, "output_expires_after"),
        )
        batch = await asyncio.to_thread(self._keeper.create, key, ask, repeated=is_repeated(request))
        if batch is None:
            raise _no_file(file.id)
        return reply(view(batch))

    async def list(self, request: Request) -> Response:
        limit = whole_number(request, "limit", 20, 1, 100)
        after = request.query_params.get("after", "")
        team = key_of(request).team
        if not is_plain(after):
            raise _no_cursor(after)
        try:
            page = await asyncio.to_thread(self._keeper.page, team, "openai", after=after, limit=limit)
        except NoSuchCursor:
            raise _no_cursor(after) from None
        data = list(map(view, page.items))
        # By OpenAI's own description they are texts, or left out.
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
        return reply({"object": "list", "data": data, **ends, "has_more": page.more})

    async def retrieve(self, request: Request) -> Response:
        batch_id = _named(request)
        batch = await asyncio.to_thread(self._keeper.find, key_of(request).team, "openai", batch_id)
        if batch is None:
            raise _no_batch(batch_id)
        return reply(view(batch))

    async def cancel(self, request: Request) -> Response:
        batch_id = _named(request)
        try:
            batch = await asyncio.to_thread(self._keeper.cancel, key_of(request).team, "openai", batch_id)
        except CannotCancel as error:
            message = f"Cannot cancel a batch with status '{error.batch.state}'."
            raise ApiError(409, message, code="batch_not_cancellable") from None
        if batch is None:
            raise _no_batch(batch_id)
        return reply(view(batch))

    def _input(self, team: str, asked: _Create) -> StoredFile:
        if asked.input_file_id is None:
            raise required("input_file_id")
        plain = is_plain(asked.input_file_id)
        file = self._keeper.file(team, asked.input_file_id) if plain else None
        if file is None:
            raise _no_file(asked.input_file_id)
        if file.purpose == BATCH_OUTPUT:
            message = f"Invalid 'input_file_id': its purpose is '{file.purpose}', expected 'batch'."
            raise invalid(message, "input_file_id")
        return file


def view(batch: SurfaceBatch) -> dict[str, Any]:
    """A batch as OpenAI shows it."""
    usage = batch.usage
    faults = [
        {"code": fault.code, "message": fault.message, "param": fault.param, "line": fault.line}
        for fault in batch.faults
    ]
    document: dict[str, Any] = {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.url,
        "errors": {"object": "list", "data": faults} if faults else None,
        "input_file_id": batch.input_file,
        "completion_window": batch.window,
        "status": batch.state.value,
        "output_file_id": batch.output_file,
        "error_file_id": batch.error_file,
        "created_at": int(batch.created_at),
        "expires_at": int(batch.deadline or batch.created_at + _DAY),
    }
    if batch.parts:
        document["model"] = batch.parts[0].asked
    for state in _TIMES:
        at = batch.at(state)
        document[f"{state}_at"] = None if at is None else int(at)
    counts = batch.counts
    document["request_counts"] = {
        "total": counts.total,
        "completed": counts.completed,
        "failed": counts.failed,
    }
    document["metadata"] = batch.metadata
    if usage is not None:
        document["usage"] = {
            "input_tokens": usage.total_input,
            "input_tokens_details": {"cached_tokens": usage.cached},
            "output_tokens": usage.output,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning},
            "total_tokens": usage.total_input + usage.output,
        }
    return document


def _url(asked: _Create) -> str:
    if asked.endpoint is None:
        raise required("endpoint")
    if asked.endpoint not in URLS:
        known = ", ".join(f"'{url}'" for url in URLS)
        raise invalid(f"Invalid value: '{asked.endpoint}'. Supported values are: {known}.", "endpoint")
    return asked.endpoint


def _deadline(request: Request, asked: _Create) -> float | None:
    """When the last row is needed: the call's own header, else a window that is shorter than a day."""
    if asked.completion_window is None:
        raise required("completion_window")
    wanted = deadline_of(request)
    if wanted is not None or asked.completion_window == _PATIENT:
        return wanted
    return moment(asked.completion_window, "completion_window")


def _metadata(given: dict[str, str] | None) -> dict[str, str] | None:
    if given is None:
        return None
    if len(given) > _MOST_PAIRS:
        message = f"Invalid 'metadata': expected at most {_MOST_PAIRS} properties, but got {len(given)}."
        raise invalid(message, "metadata", code="object_above_max_properties")
    for name, value in given.items():
        if not name or len(name) > _LONGEST_KEY or len(value) > _LONGEST_VALUE:
            message = (
                f"Invalid 'metadata': a key has 1 to {_LONGEST_KEY} characters, and a value at most "
                f"{_LONGEST_VALUE}."
            )
            raise invalid(message, "metadata", code="string_above_max_length")
    return given


def _named(request: Request) -> str:
    """The batch that a call names, if it can be one of ours."""
    batch_id: str = request.path_params["id"]
    if not is_plain(batch_id):
        raise _no_batch(batch_id)
    return batch_id


def _no_cursor(after: str) -> ApiError:
    return invalid(f"Invalid 'after': there is no batch '{after}'.", "after")


def _no_batch(batch_id: str) -> ApiError:
    return missing(f"No batch found with id '{batch_id}'.")


def _no_file(file_id: str) -> ApiError:
    return invalid(f"Invalid 'input_file_id': no file with id '{file_id}' exists.", "input_file_id")
