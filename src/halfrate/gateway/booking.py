"""One attempt of a call: money is set aside for it, its beginning is written down, it is sent, its end is written
down."""

import asyncio
import time
from typing import Final

import msgspec

from halfrate.base.errors import OverBudget, StorageError
from halfrate.base.money import usd
from halfrate.base.results import Tokens
from halfrate.core.budgets import Terms
from halfrate.gateway.asking import Asked
from halfrate.gateway.attempts import Failed, LostAnswer, Streamed, Whole, Why, attempt
from halfrate.gateway.logs import Log
from halfrate.gateway.targets import Target
from halfrate.providers.passing import Used
from halfrate.service.call_log import CallLog
from halfrate.service.calls import Bill, bill, pricing_of, tokens_of
from halfrate.service.spending import Hold, Spending
from halfrate.usage.gateway import Begun, Ended, ended_line, facts

_BYTES_A_TOKEN: Final = 3
"""Fewer than what is usual: money is set aside for the longest that a call may come to."""
_USUAL_ANSWER: Final = 1_000
"""Tokens that are counted with where a call does not limit its answer."""
_MOST_TAG_SETS: Final = 1_000
"""Of one key in a day. More are not told apart: each is a line of the ledger for itself."""
_MOST_FACTS: Final = 4_096
_HUNG_UP: Final = 499
"""The status in the log of what nobody waited for."""


class Books:
    """Where calls are written down, and what may still be spent."""

    def __init__(self, calls: CallLog, spending: Spending, log: Log) -> None:
        self._calls = calls
        self._spending = spending
        self.log = log
        self._tag_sets: dict[str, set[tuple[tuple[str, str], ...]]] = {}
        self._day = ""
        self._facts: dict[tuple[int, int], _Facts] = {}

    def check(self) -> None:
        """Raises StorageError while something was answered that could not be written down.

        Before it is, nothing more is bought.
        """
        self._calls.check()

    def hold(self, asked: Asked, target: Target) -> Hold | None:
        """Set aside what a call may cost at most. Raises OverBudget."""
        if not self._spending.limited:
            return None
        terms = Terms(target.model.partition("/")[0], target.name, asked.tags)
        try:
            return self._spending.hold(terms, lambda: worst(asked, target))
        except OverBudget as error:
            self.log.say("over budget", why=str(error), request_id=asked.request_id)
            raise

    def settle(self, hold: Hold | None, cost: int) -> None:
        self._spending.settle(hold, cost)

    def facts(self, asked: Asked, target: Target) -> bytes:
        """What the log says of a call at a target, as it stands there."""
        tags = self.tags(asked)
        known = self._facts.get((id(tags), id(target)))
        if known is not None and known.tags is tags and known.target is target:
            return known.told
        told = facts(
            Begun(
                team=asked.key.team,
                key=asked.key.name,
                tags=tags,
                endpoint=asked.endpoint,
                account=None if target.callers_key else target.account,
                provider=target.provider,
                model=target.name,
            )
        )
        if not asked.tagged and not target.callers_key:
            # The same of all calls with this key, for as long as the door and the targets remember what they found.
            if len(self._facts) >= _MOST_FACTS:
                self._facts.clear()
            self._facts[id(tags), id(target)] = _Facts(tags, target, told)
        return told

    def begin(self, asked: Asked, told: bytes) -> int:
        """Write down that an attempt begins; its number in the log of calls. Raises StorageError: then it may not be
        sent."""
        return self._calls.begin(asked.time, asked.request_id, told)

    def end(self, number: int | None, data: bytes, cost: int | None) -> None:
        """Into the log of calls. It raises nothing: an answer that was paid for is passed on all the same."""
        try:
            self._calls.end(number, data)
        except StorageError as error:
            self.log.say("not booked yet", why=str(error), cost=None if cost is None else usd(cost))

    def tags(self, asked: Asked) -> dict[str, str]:
        """The tags that a call is booked under."""
        if not asked.tagged:
            return asked.tags
        if asked.time[:10] != self._day:
            self._day = asked.time[:10]
            self._tag_sets.clear()
        seen = self._tag_sets.setdefault(asked.key.id, set())
        named = tuple(sorted(asked.tags.items()))
        if named not in seen:
            if len(seen) >= _MOST_TAG_SETS:
                return asked.key.all_tags
            seen.add(named)
        return asked.tags


class _Facts(msgspec.Struct, frozen=True):
    """What the log says of attempts with these tags at this target, as it stands there."""

    tags: dict[str, str]
    target: Target
    told: bytes


class Attempt:
    """A call at one place. Whatever becomes of it is written down once.

    Attributes:
        cost: picodollars that it is known to have cost, None where nobody knows.
    """

    def __init__(self, books: Books, asked: Asked, target: Target) -> None:
        self.asked = asked
        self.target = target
        self.over = False
        self.cost: int | None = None
        self._books = books
        self._hold = books.hold(asked, target)
        self._told = books.facts(asked, target)
        self._number = 0
        self._first: float | None = None

    async def ask(self, seconds: float) -> Whole | Streamed:
        """Raises Failed, and StorageError where it cannot be written down that it begins: nothing was sent then.

        What is there whole is written down; what streams is to be read, and written down then.
        """
        try:
            self._number = self._books.begin(self.asked, self._told)
        except StorageError:
            self.over = True
            self._books.settle(self._hold, 0)
            raise
        try:
            # A kill from here on leaves a beginning without an end: a doubt in the ledger.
            answer = await attempt(self.asked, self.target, seconds)
        except LostAnswer as failure:
            self.doubt(failure.used, failure.error.status)
            self._tell(failure)
            raise
        except Failed as failure:
            self._note(Used(tier=""), Bill(0, 0, 0), failure.error.status)
            self._tell(failure)
            raise
        except BaseException as error:
            self.doubt(Used(), _HUNG_UP if isinstance(error, asyncio.CancelledError) else 500)
            raise
        if isinstance(answer, Whole):
            self.answered(answer.used)
        return answer

    def begun(self) -> None:
        """Something of a stream is there."""
        if self._first is None:
            self._first = time.monotonic()

    def answered(self, used: Used) -> None:
        """It was answered. An answer that does not say what it used is a doubt."""
        if used.tokens is None:
            self.doubt(used, 200)
        else:
            self._note(used, self._bill(used.tokens, used), 200)

    def doubt(self, used: Used, status: int) -> None:
        """Nobody knows whether it was billed, or what for."""
        known = self._bill(used.tokens, used) if used.tokens is not None else Bill()
        self._note(used, known, status, doubt=True)

    def broke(self, failure: LostAnswer) -> None:
        """A stream broke off."""
        self.doubt(failure.used, failure.error.status)
        self._tell(failure)

    def _bill(self, tokens: Tokens, used: Used) -> Bill:
        if self.target.callers_key:
            # Billed to the caller's own account, which is none of ours.
            return Bill(0, 0, 0)
        return bill(self.target.provider, self.target.name, tokens, used.tier, self.asked.time[:10])

    def _note(self, used: Used, cost: Bill, status: int, *, doubt: bool = False) -> None:
        if self.over:
            return
        self.over = True
        self.cost = None if doubt else cost.cost
        asked = self.asked
        ended = Ended(
            duration=round(time.monotonic() - asked.at, 4),
            user=asked.user,
            served=used.model or None,
            tier=used.tier or None,
            stream=asked.stream or None,
            tools=asked.tools or None,
            tokens=tokens_of(used.tokens),
            cost_picodollars=cost.cost,
            realtime_picodollars=cost.realtime_cost,
            uncached_picodollars=cost.uncached_cost,
            doubt=doubt,
            first_token=None if self._first is None else round(self._first - asked.at, 4),
            status=status,
        )
        number = self._number
        self._books.end(
            number, ended_line(number, asked.time, asked.request_id, self._told, ended), cost.cost
        )
        if self._hold is not None:
            self._books.settle(self._hold, cost.cost or 0)

    def _tell(self, failure: Failed) -> None:
        """What lies in the request is its caller's affair alone, and may hold what was asked."""
        if failure.why is not Why.REQUEST and not self.target.callers_key:
            self._books.log.say(
                "no answer",
                model=self.target.model,
                status=failure.status,
                why=failure.told,
                request_id=self.asked.request_id,
            )


def worst(asked: Asked, target: Target) -> int | None:
    """Picodollars that a call may cost, as far as that can be told; None where a price is unknown."""
    if target.callers_key:
        return 0
    tokens = Tokens(
        input=len(asked.body) // _BYTES_A_TOKEN, output=(asked.most or _USUAL_ANSWER) * asked.answers
    )
    return pricing_of(target.provider, target.name, asked.time[:10]).standard(target.name, tokens)
