"""Sending what others are to be told, as it becomes due.

Any number of processes may do so over one database: what one has claimed, another finds due again only when its lease
ends. A delivery is counted before it is sent and let go of afterwards, so that a process that dies in between costs a
copy, and never more copies than the schedule has tries.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from halfrate.base.clock import Clock
from halfrate.base.errors import HalfrateError
from halfrate.core.webhooks import (
    RETRIES,
    Answer,
    Delivery,
    DeliveryState,
    Webhook,
    derived_secret,
    given_up,
    sign,
    tried,
)
from halfrate.store.webhooks import Claimed, WebhookStore

if TYPE_CHECKING:
    from halfrate.service.outgoing import Outgoing

_LEASE: Final = 30.0
"""Seconds; twice what a try can take."""
_LOOK: Final = 1.0
_LATER: Final = 10.0
_MOST: Final = 64
"""Messages under way at a time."""
_EACH: Final = 4
"""And to one webhook, so that one that is slow leaves room for the others."""
_KEPT: Final = 30 * 86_400.0
"""Seconds for which it can be seen what was sent."""
_SWEEP: Final = 3_600.0


class Deliverer:
    """Sends until it is stopped. See `Webhooks.deliverer`.

    Args:
        keys: what secrets are derived from; raises SettingsError where there is nothing.
    """

    def __init__(
        self,
        store: WebhookStore,
        clock: Clock,
        owner: str,
        keys: Callable[[], Sequence[str]],
        say: Callable[[str, str, str], None],
        failed: Callable[[Exception, str], None] | None,
        outgoing: "Outgoing | None" = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._owner = owner
        self._keys = keys
        self._say = say
        self._failed = failed
        self._outgoing = outgoing
        self._stopped = False
        self._look = asyncio.Event()
        self._busy: Counter[str] = Counter()
        self._turns: dict[str, int] = {}
        self._next_sweep = 0.0
        self._said = ""

    async def run(self) -> None:
        """Send what is due, until `stop`, and to the end of what is under way."""
        running: set[asyncio.Task[None]] = set()
        try:
            while not self._stopped:
                self._look.clear()
                try:
                    for claimed in await self._claimed():
                        task = asyncio.create_task(self._deliver(claimed))
                        running.add(task)
                        task.add_done_callback(running.discard)
                    nap = await self._nap()
                except HalfrateError as error:
                    self._say_once("webhooks wait", str(error))
                    nap = _LATER
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._look.wait(), nap)
        finally:
            await asyncio.gather(*running)
            if self._outgoing is not None:
                self._outgoing.close()

    def stop(self) -> None:
        """Have `run` end. To be called in its event loop."""
        self._stopped = True
        self._look.set()

    async def _claimed(self) -> list[Claimed]:
        now = self._clock.now()
        if now >= self._next_sweep:
            self._next_sweep = now + _SWEEP
            await asyncio.to_thread(self._store.sweep, now - _KEPT)
        due = await asyncio.to_thread(self._store.next_due)
        if due is None or due > now:
            return []
        # Without a key nothing is claimed: no try is used up by that.
        self._keys()
        await self._sender()
        waiting = await asyncio.to_thread(self._store.due_webhooks, now)
        slots = self._slots(waiting)
        if not slots:
            return []
        claimed = await asyncio.to_thread(self._store.claim, self._owner, now, _LEASE, slots)
        self._said = ""
        for one in claimed:
            self._busy[one.webhook.id] += 1
        return claimed

    async def _nap(self) -> float:
        """Seconds until the next look. What is due and finds no room is looked at when something has ended."""
        due = await asyncio.to_thread(self._store.next_due)
        left = _LOOK if due is None else due - self._clock.now()
        return left if 0 < left < _LOOK else _LOOK

    def _slots(self, waiting: Sequence[str]) -> dict[str, int]:
        """How many deliveries each webhook gets now. First come those that have least, or waited longest for a turn."""
        room = _MOST - self._busy.total()
        order = sorted(waiting, key=lambda name: (self._busy[name], self._turns.get(name, 0), name))
        slots: Counter[str] = Counter()
        for _ in range(_EACH):
            for name in order:
                if room and self._busy[name] + slots[name] < _EACH:
                    slots[name] += 1
                    room -= 1
        turn = max(self._turns.values(), default=0) + 1
        # Of those alone that have anything: what is remembered does not grow.
        self._turns = {name: turn if slots[name] else self._turns.get(name, 0) for name in waiting}
        return dict(slots)

    async def _deliver(self, claimed: Claimed) -> None:
        """One try of one delivery."""
        webhook, delivery = claimed.webhook, claimed.delivery
        try:
            after = await self._tried(webhook, delivery)
            saved = await asyncio.to_thread(self._store.save, claimed, self._owner, after)
            if saved and after.state is DeliveryState.FAILED:
                self._say("webhook given up", webhook.id, f"{after.event_id}: {_outcome(after)}")
        except HalfrateError as error:
            # Its lease ends, and it is sent again.
            self._say_once("webhooks wait", str(error))
        except Exception as error:
            # A defect that one delivery meets must not keep all others from being sent.
            if self._failed is None:
                raise
            self._failed(error, delivery.event_id)
        finally:
            self._busy[webhook.id] -= 1
            self._busy += Counter()  # forgets those that have none
            self._look.set()

    async def _tried(self, webhook: Webhook, delivery: Delivery) -> Delivery:
        if webhook.disabled_at is not None:
            return given_up(delivery, "the webhook is disabled")
        if delivery.tries > len(RETRIES) + 1:
            return given_up(delivery, "every try was broken off")
        now = self._clock.now()
        headers = self._headers(webhook, delivery, now)
        sender = await self._sender()
        answer = await sender.post(webhook, headers, delivery.body.encode())
        if answer.gone:
            await asyncio.to_thread(self._disable, webhook, answer)
        return tried(delivery, answer, self._clock.now(), random.random())

    async def _sender(self) -> "Outgoing":
        if self._outgoing is None:
            self._outgoing = await asyncio.to_thread(_outgoing)
        return self._outgoing

    def _headers(self, webhook: Webhook, delivery: Delivery, now: float) -> dict[str, str]:
        secrets = [derived_secret(key, webhook.id) for key in self._keys()]
        timestamp = int(now)
        return {
            "webhook-id": delivery.event_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(secrets, delivery.event_id, timestamp, delivery.body.encode()),
        }

    def _disable(self, webhook: Webhook, answer: Answer) -> None:
        now = self._clock.now()
        self._store.change(webhook.id, lambda found: msgspec.structs.replace(found, disabled_at=now))
        self._say("webhook disabled", webhook.id, f"it answered {answer.status}")

    def _say_once(self, event: str, why: str) -> None:
        """Say what goes on for long once, until something was sent."""
        if why != self._said:
            self._said = why
            self._say(event, "", why)


def _outgoing() -> "Outgoing":
    """Imported once there is something to send: it brings an HTTP client along."""
    from halfrate.service.outgoing import Outgoing

    return Outgoing()


def _outcome(delivery: Delivery) -> str:
    return delivery.problem or f"answered {delivery.status}"
