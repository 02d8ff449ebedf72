"""What the faults decide for one batch when it is created, and what they do to the calls around it."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

import msgspec

from halfrate.emulator._faults import FaultBook
from halfrate.emulator._wire import ApiError, Delivery, Request, Response, body_chunks


class Quirks(msgspec.Struct):
    """The peculiarities of one batch."""

    hidden_until: float = 0.0
    unlisted_until: float = 0.0
    stuck_seconds: float = 0.0
    strange_status: str | None = None
    strange_until: float = 0.0
    counts_wrong: bool = False
    expire_done: float | None = None
    expire_at_window: bool = False
    no_files: bool = False
    fail_code: str | None = None
    fail_line: int = 1
    queue_full: bool = False
    all_rows_status: int | None = None
    cut_bytes: int = 0
    shuffled: bool = True

    def strange(self, now: float) -> str | None:
        """The status nobody has heard of, while a fault shows one."""
        return self.strange_status if now < self.strange_until else None

    def counted(self, succeeded: int, failed: int) -> tuple[int, int]:
        """(succeeded, failed) as the provider says they are."""
        return (failed, succeeded + 1) if self.counts_wrong else (succeeded, failed)


class Owned(Protocol):
    """A batch, as far as who may see it goes."""

    project: str
    quirks: Quirks


OwnedT = TypeVar("OwnedT", bound=Owned)


def visible(found: OwnedT | None, project: str, now: float, missing: str) -> OwnedT:
    """The batch that a call names. ApiError 404 where the project has none, or a fault hides it."""
    if found is None or found.project != project or found.quirks.hidden_until > now:
        raise ApiError(404, missing)
    return found


def listed(batches: Iterable[OwnedT], project: str, now: float) -> list[OwnedT]:
    """The batches of a project that a listing may show."""
    return [one for one in batches if one.project == project and one.quirks.unlisted_until <= now]


def draw_quirks(faults: FaultBook, provider: str, about: str, now: float) -> Quirks:
    """Ask every batch fault about a new batch; `about` is its id."""
    quirks = Quirks()
    if found := faults.strike("not-found-after-create", provider, about):
        quirks.hidden_until = now + found.number("seconds")
    if found := faults.strike("list-stale", provider, about):
        quirks.unlisted_until = now + found.number("seconds")
    if found := faults.strike("batch-stuck", provider, about):
        quirks.stuck_seconds = found.number("seconds")
    if found := faults.strike("status-unknown", provider, about):
        quirks.strange_status, quirks.strange_until = found.text("status"), now + found.number("seconds")
    if found := faults.strike("batch-expire", provider, about):
        quirks.expire_done, quirks.expire_at_window = found.number("done"), found.text("at") == "window"
    if found := faults.strike("batch-expire-no-files", provider, about):
        quirks.expire_done, quirks.no_files = found.number("done"), True
    if found := faults.strike("all-rows-fail", provider, about):
        quirks.all_rows_status = found.whole("status")
    if found := faults.strike("last-line-cut", provider, about):
        quirks.cut_bytes = found.whole("bytes")
    if provider != "anthropic" and (found := faults.strike("batch-fail", provider, about)):
        quirks.fail_code, quirks.fail_line = found.text("code"), found.whole("line")
    quirks.counts_wrong = faults.strike("counts-wrong", provider, about) is not None
    quirks.no_files = quirks.no_files or faults.strike("completed-no-output", provider, about) is not None
    in_order = faults.strike("no-shuffle", provider, about) is not None
    quirks.shuffled = not in_order or faults.strike("shuffle", provider, about) is not None
    return quirks


def refuse_create(faults: FaultBook, provider: str, about: str) -> None:
    """Faults that keep a batch from being created. Raises ApiError."""
    if found := faults.strike("create-refused", provider, about):
        raise injected(found.whole("status"), found.retry_after())


def refuse_full(faults: FaultBook, provider: str, about: str) -> None:
    """The fault that has no room in the queue for a new batch. Raises ApiError."""
    if found := faults.strike("queue-full", provider, about):
        raise injected(found.whole("status"), found.retry_after())


def bend_create(faults: FaultBook, provider: str, about: str, response: Response) -> Response:
    """Faults that hide from the client that a batch has been created. May raise ApiError."""
    if faults.strike("create-lost", provider, about):
        return Response(200, delivery=Delivery(drop=True))
    if found := faults.strike("create-error", provider, about):
        raise injected(found.whole("status"))
    if found := faults.strike("create-slow", provider, about):
        return msgspec.structs.replace(response, delivery=Delivery(hold_seconds=found.number("seconds")))
    return response


async def reset_upload(faults: FaultBook, provider: str, about: str, request: Request) -> Response | None:
    """The fault that resets the connection in mid-upload; None where it does not strike."""
    if faults.strike("upload-reset", provider, about) is None:
        return None
    async for _ in body_chunks(request):
        break
    return Response(400, delivery=Delivery(drop=True))


def bend_download(faults: FaultBook, provider: str, about: str, response: Response) -> Response:
    """Faults that spoil a download."""
    size = int(response.headers.get("content-length", "0"))
    cut = faults.strike("download-truncated", provider, about)
    slow = faults.strike("download-slow", provider, about)
    if cut is None and slow is None:
        return response
    delivery = Delivery(
        truncate_after=None if cut is None else int(size * cut.number("fraction")),
        chunk_pause_seconds=0.0 if slow is None else slow.number("seconds"),
    )
    return msgspec.structs.replace(response, delivery=delivery)


def refuse_call(faults: FaultBook, provider: str, operation: str, about: str) -> None:
    """Faults that any call can meet before it does anything. Raises ApiError."""
    for name, operations in (("poll-error", {"poll"}), ("realtime-error", {"realtime"})):
        if operation in operations and (found := faults.strike(name, provider, about)):
            raise injected(found.whole("status"), found.retry_after())
    if found := faults.strike("rate-limit", provider, about, operation=operation):
        raise injected(429, found.retry_after())


_WORDS = {
    429: "Rate limit reached. Please slow down and try again later.",
    503: "The engine is currently overloaded, please try again later.",
    529: "Overloaded",
}


def injected(status: int, headers: dict[str, str] | None = None) -> ApiError:
    """The error a provider would give with that status when nothing is wrong with the request."""
    message = _WORDS.get(status, "The server had an error while processing your request. Sorry about that!")
    return ApiError(status, message, code="rate_limit_exceeded" if status == 429 else None, headers=headers)
