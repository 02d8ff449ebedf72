"""Putting calls with the others of a batch: each is recorded before it is taken on, many in one commit."""

import asyncio
from typing import Final

import msgspec

from halfrate.core.deferral import Deferred, Group, bucket
from halfrate.gateway.anthropic_batches import options_of
from halfrate.gateway.asking import Asked
from halfrate.gateway.batch_rows import batch_body, batched
from halfrate.gateway.booking import Books
from halfrate.gateway.errors import ApiError
from halfrate.gateway.targets import Target
from halfrate.gateway.wishes import Wish, check_stream
from halfrate.service.gathering import Gathered, Gatherer
from halfrate.store.deferred import DeferredStore

_MOMENT: Final = 0.005
"""Seconds in which calls come together that are recorded in one commit."""
_MOST_AT_ONCE: Final = 5_000
_MOST_BYTES: Final = 128 << 20
"""Of calls that are about to be recorded; more are turned away until they are."""
_MOST_WAITING: Final = 200_000
_COUNTED_EVERY: Final = 5.0
"""Seconds between two looks at how many wait."""


class Recorder:
    """Hands calls to the gatherer of this process, together those that come within a moment."""

    def __init__(self, store: DeferredStore, gatherer: Gatherer, books: Books) -> None:
        self._store = store
        self._gatherer = gatherer
        self._books = books
        self._pending: list[tuple[Gathered, asyncio.Future[bool]]] = []
        self._pending_bytes = 0
        self._flushing: asyncio.Task[None] | None = None
        self._waiting = 0
        self._counted = -_COUNTED_EVERY

    async def gather(self, asked: Asked, call: Deferred, target: Target, wish: Wish) -> bool:
        """Put a call with the others; False where its key is that of another. Raises ApiError and HalfrateError."""
        await self._check_room()
        check_stream(asked, wish)
        endpoint = batched(target, asked) or asked.endpoint
        body = batch_body(asked, target, endpoint)
        # What it may cost has to be there now; it is set aside when its batch is made.
        self._books.settle(self._books.hold(asked, target), 0)
        facts = target.adapter.capabilities
        headers = dict(asked.headers)
        options = (
            options_of(
                headers.get(b"anthropic-version", b"").decode("latin-1"),
                headers.get(b"anthropic-beta", b"").decode("latin-1"),
            )
            if facts.native_form == "anthropic"
            else {}
        )
        deadline = wish.deadline or call.created_at
        group = Group(
            asked.surface,
            endpoint,
            target.model,
            target.name,
            tuple(sorted(self._books.tags(asked).items())),
            tuple(sorted(options.items())),
            bucket(deadline - call.created_at),
        )
        call = msgspec.structs.replace(call, owner="")
        return await self._recorded(Gathered(call, group, body, wish.mark, facts.least_rows))

    async def finish(self) -> None:
        """Wait until all that came is recorded, or has failed to be."""
        if self._flushing is not None:
            await asyncio.gather(self._flushing, return_exceptions=True)

    # ------------------------------------------------------------ parts

    async def _recorded(self, one: Gathered) -> bool:
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self._pending_bytes > _MOST_BYTES:
            raise _overloaded()
        self._pending.append((one, future))
        self._pending_bytes += len(one.body)
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        return await future

    async def _flush(self) -> None:
        """Record what came together, in one commit."""
        try:
            while self._pending:
                await asyncio.sleep(_MOMENT)
                taken, self._pending = self._pending[:_MOST_AT_ONCE], self._pending[_MOST_AT_ONCE:]
                try:
                    found = await asyncio.to_thread(self._gatherer.gather, [one for one, _ in taken])
                except Exception as error:  # noqa: BLE001 - each of their callers is told
                    for _, future in taken:
                        if not future.done():
                            future.set_exception(error)
                else:
                    for one, future in taken:
                        if not future.done():
                            future.set_result(one.call.id in found)
                self._pending_bytes -= sum(len(one.body) for one, _ in taken)
        finally:
            self._flushing = None

    async def _check_room(self) -> None:
        """Raises ApiError where too many calls wait, in all processes together."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._counted >= _COUNTED_EVERY:
            self._counted = loop.time()
            self._waiting = await asyncio.to_thread(self._store.count)
        if self._waiting >= _MOST_WAITING:
            raise _overloaded()


def _overloaded() -> ApiError:
    return ApiError(
        429,
        "More calls wait here than this gateway takes. Try again later.",
        code="queue_full",
        headers={"retry-after": "30"},
    )
