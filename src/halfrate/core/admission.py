"""Who may put a batch into a provider's queue next.

Providers limit what may wait in their queues: tokens for a model, rows, batches at a time, creates in an hour. Some of
these limits are known beforehand, some only from refusals. A shard is admitted before anything of it is sent, and what
it takes is held for it until its batch has left the queue, so that a hundred jobs share a queue without being refused
over and over.

Order: whoever has had the least of the queue, by their weight, comes first, and among their shards the one with the
earliest deadline. Nobody is passed over because they ask for much: the queue is left to drain until they fit.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec

QuotaKind = Literal["tokens", "rows", "batches", "creates", "rpm", "tpm", "itpm", "otpm"]
"""Of a queue of batches: tokens and rows that wait in it, batches in it, creates in an hour. Of real time, in a minute:
requests, tokens, and input and output tokens where they are counted apart."""

OF_QUEUES: Final = frozenset({"tokens", "rows", "batches", "creates"})

_FILL: Final = 0.9
"""How much of a limit on tokens is used: how a provider counts them is known only roughly."""
_AT_FIRST: Final = 4
"""Batches that are sent to a queue of unknown size before its provider has accepted one: a refusal can take minutes,
and all that is sent until then would be refused with it."""
_ENOUGH: Final = 100.0
_REMEMBERED: Final = 5e6
"""Tokens after which older batches count half as much for how ours compare with the provider's."""
_MOST_OFF: Final = 5.0
_SEEN: Final = 10_000.0
"""Tokens of finished batches after which ours compare well enough with the provider's."""
_SURELY: Final = 1.25
"""How many times as large as the queue a row has to be, then, for it to be larger for certain."""
_DENSEST: Final = 0.5
"""Tokens in a byte of text, at most: Chinese has a third, English a fifth."""
_PERHAPS: Final = 0.5
"""How much of the queue a row has to take, for it to be possible that it is larger than all of it."""
_ALONE: Final = 3
"""Refusals in a row of a batch with nothing of ours beside it, after which it is taken to be too large."""
_NEVER: Final = float("inf")


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """A limit that is known. `model` is "" where all models of an account share it."""

    account: str
    model: str = ""
    kind: QuotaKind
    most: int


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """What refusals have taught about a model's queue.

    `window`: tokens that are known to fit beside each other, None while nothing was refused. `hold_until`: a
    refusal is so fresh that nothing is tried before then. `probe_at`: when to try one batch beyond the window.
    """

    account: str
    model: str
    window: int | None = None
    hold_until: float = 0.0
    probe_at: float = 0.0
    largest: int | None = None
    """Tokens that a single batch may have: larger ones were refused over and over with nothing of ours beside them."""
    refusals: int = 0
    """In a row."""
    estimated: float = 0.0
    counted: float = 0.0
    """Tokens as we reckoned them and as the provider counted them, over the newest batches."""

    @property
    def scale(self) -> float:
        """How much a provider counts for each token of ours."""
        if self.estimated < _ENOUGH:
            return 1.0
        return min(_MOST_OFF, max(1 / _MOST_OFF, self.counted / self.estimated))

    def reckon(self, tokens: int) -> int:
        """What the provider will count for what we put at `tokens`."""
        return max(1, round(tokens * self.scale)) if tokens else 0


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What one team holds of one model's queue."""

    account: str
    model: str
    team: str
    tokens: int
    rows: int
    batches: int
    accepted: int = 0
    """Those of the batches that the provider has let in for certain."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A shard that would be sent. `rows` and `tokens`: what its next batch would take.

    `priority`: a class with one more gets twice the share. `free`: needs no room, because it will send nothing.
    """

    shard_id: str
    account: str
    model: str
    team: str = ""
    priority: int = 0
    deadline: float | None = None
    due: float = 0.0
    rows: int
    tokens: int
    free: bool = False

    @property
    def urgency(self) -> tuple[float, float, str]:
        return (_NEVER if self.deadline is None else self.deadline, self.due, self.shard_id)


class Admission(msgspec.Struct, frozen=True):
    """`admitted`: shards in the order in which they were let in. `cut`: shards whose batch is larger than the queue,
    and how many of their rows would fit."""

    admitted: tuple[str, ...]
    cut: tuple[tuple[str, int], ...]


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A batch was refused for want of room.

    `until`: when a batch of its model may be tried again. `alone`: no batch of ours was, or may have been, in the queue
    beside it. `most`: tokens that the queue takes in all; None where nobody has said.
    """

    queue: Queue
    until: float
    alone: bool
    most: int | None = None


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """How a batch compares with the whole of its queue.

    `rows`: how many of its rows fit, from the first on. `first`: tokens of the first, at least; `most`: of the queue.
    `doubtful`: the first row may be larger than the queue. `never`: it is, however far off our count may be.
    """

    rows: int
    first: int
    most: int
    doubtful: bool = False
    never: bool = False


class _Use:
    """What is held, by the scopes that quotas are for."""

    def __init__(self, held: Iterable[Held], creates: dict[str, int]) -> None:
        self._sums: dict[tuple[str, str, str], int] = {}
        self._teams: dict[tuple[str, str, str], int] = {}
        for account, count in creates.items():
            self._sums[account, "", "creates"] = count
        self._doubtful: dict[tuple[str, str], int] = {}
        self._accepted: dict[tuple[str, str], int] = {}
        for item in held:
            self.add(item.account, item.model, item.team, item.tokens, item.rows, item.batches)
            place = (item.account, item.model)
            self._accepted[place] = self._accepted.get(place, 0) + item.accepted
            self._doubtful[place] = self._doubtful.get(place, 0) - item.accepted

    def add(self, account: str, model: str, team: str, tokens: int, rows: int, batches: int = 1) -> None:
        for scope in {"", model}:
            for kind, amount in (("tokens", tokens), ("rows", rows), ("batches", batches)):
                key = (account, scope, kind)
                self._sums[key] = self._sums.get(key, 0) + amount
        self._doubtful[account, model] = self._doubtful.get((account, model), 0) + batches
        team_key = (account, model, team)
        self._teams[team_key] = self._teams.get(team_key, 0) + tokens

    def created(self, account: str) -> None:
        key = (account, "", "creates")
        self._sums[key] = self._sums.get(key, 0) + 1

    def hasty(self, account: str, model: str) -> bool:
        """Whether as many batches as is wise await their provider's word on whether there is room for them."""
        place = (account, model)
        return self._doubtful.get(place, 0) >= max(_AT_FIRST, self._accepted.get(place, 0))

    def of(self, account: str, model: str, kind: str) -> int:
        return self._sums.get((account, model, kind), 0)

    def of_team(self, account: str, model: str, team: str) -> int:
        return self._teams.get((account, model, team), 0)


def admit(
    candidates: Sequence[Candidate],
    held: Iterable[Held],
    creates: dict[str, int],
    quotas: Sequence[Quota],
    queues: Iterable[Queue],
    now: float,
    limit: int,
) -> Admission:
    """Choose up to `limit` of the candidates. `creates`: batches that each account made in the last hour."""
    use = _Use(held, creates)
    known = {(queue.account, queue.model): queue for queue in queues}
    admitted = [candidate.shard_id for candidate in candidates if candidate.free][:limit]
    cut: list[tuple[str, int]] = []
    lines: dict[tuple[str, str], list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda item: item.urgency):
        if not candidate.free:
            lines.setdefault((candidate.account, candidate.model), []).append(candidate)
    for (account, model), line in lines.items():
        queue = known.get((account, model), Queue(account=account, model=model))
        if queue.hold_until > now:
            continue
        applying = [quota for quota in quotas if quota.account == account and quota.model in {"", model}]
        waiting = list(line)
        while waiting and len(admitted) + len(cut) < limit:
            chosen = _next(waiting, use)
            waiting.remove(chosen)
            fitting = _rows_that_fit(chosen, applying, queue)
            if fitting < chosen.rows:
                cut.append((chosen.shard_id, fitting))
                continue
            if not _has_room(chosen, applying, queue, use, now):
                # Whoever is next waits until they fit, and those behind them wait with them.
                break
            admitted.append(chosen.shard_id)
            use.add(account, model, chosen.team, chosen.tokens, chosen.rows)
            use.created(account)
    return Admission(tuple(admitted), tuple(cut))


def _next(waiting: Sequence[Candidate], use: _Use) -> Candidate:
    """The most urgent shard of whoever has had the least."""

    def rank(candidate: Candidate) -> tuple[float, tuple[float, float, str]]:
        had = use.of_team(candidate.account, candidate.model, candidate.team)
        return had / 2.0**candidate.priority, candidate.urgency

    return min(waiting, key=rank)


def _room_for(quota: Quota) -> int:
    return max(1, int(quota.most * _FILL)) if quota.kind == "tokens" else quota.most


def _rows_that_fit(candidate: Candidate, quotas: Iterable[Quota], queue: Queue) -> int:
    """How many of a candidate's rows would fit an empty queue; at least one, whatever the limit."""
    rows = candidate.rows
    if queue.largest is not None and candidate.tokens > queue.largest:
        rows = candidate.rows * queue.largest // candidate.tokens
    for quota in quotas:
        most = _room_for(quota)
        if quota.kind == "rows":
            rows = min(rows, most)
        elif quota.kind == "tokens" and candidate.tokens > most:
            rows = min(rows, candidate.rows * most // candidate.tokens)
    return max(1, rows)


def _has_room(candidate: Candidate, quotas: Iterable[Quota], queue: Queue, use: _Use, now: float) -> bool:
    account, model = candidate.account, candidate.model
    in_use = use.of(account, model, "tokens")
    # One batch at a time goes beyond what is known to fit: it is how the window grows. The next waits until the
    # provider has taken that one in, and after a refusal for longer each time.
    beyond = queue.window is not None and in_use and in_use + candidate.tokens > queue.window
    if beyond and (in_use > (queue.window or 0) or now < queue.probe_at):
        return False
    limited = any(quota.kind == "tokens" and quota.model == model for quota in quotas)
    if not limited and use.hasty(account, model):
        return False
    asked = {"tokens": candidate.tokens, "rows": candidate.rows, "batches": 1, "creates": 1}
    for quota in quotas:
        used = use.of(account, quota.model, quota.kind)
        # A single row that is larger than the limit is tried alone: how it is counted is the provider's to say.
        if used and used + asked[quota.kind] > _room_for(quota):
            return False
    return True


def refused(
    queue: Queue, asked: int, in_use: int, now: float, wait: float, longest: float, *, told: bool
) -> Queue:
    """What a refusal teaches.

    `asked`: tokens of the refused batch. `in_use`: tokens of ours that were in the queue beside it. `told`: the
    provider named its limit, so that it need not be guessed.
    """
    refusals = queue.refusals + 1
    largest = queue.largest
    if not told and not in_use and refusals >= _ALONE:
        largest = max(1, min(asked, largest or asked) // 2)
        refusals = 1
    probe = min(longest, wait * 2.0 ** min(refusals, 16))
    window = in_use if queue.window is None else min(queue.window, in_use)
    return msgspec.structs.replace(
        queue,
        window=window,
        largest=largest,
        hold_until=now + min(longest, wait),
        probe_at=now + probe,
        refusals=refusals,
    )


def fit(sizes: Iterable[int], a_byte: float, refusal: Refusal) -> Fit | None:
    """How a batch that was refused compares with its queue; None where the queue's size is not known.

    `sizes`: of its rows in bytes, in the order in which they would be sent. `a_byte`: tokens that we reckon for each.
    """
    if refusal.most is None:
        return None
    queue, most = refusal.queue, refusal.most
    room = max(1, int(most * _FILL))
    first, rows, total = 0, 0, 0.0
    for size in sizes:
        total += size * a_byte * queue.scale
        first = first or size
        if total > room:
            break
        rows += 1
    # What was learned from short rows, of which most is form, or from rows with pictures, says little of this one. Its
    # bytes do: text has hardly more than a token for two of them.
    text = first * _DENSEST
    low, high = sorted((first * a_byte, first * a_byte * queue.scale))
    return Fit(
        rows=rows,
        first=round(low),
        most=most,
        doubtful=text > most or high > most * _PERHAPS,
        never=text > most and low > most * _SURELY and queue.estimated >= _SEEN,
    )


def counted(queue: Queue, estimated: int, tokens: int) -> Queue:
    """What a finished batch teaches: its provider counted `tokens` where we had reckoned with `estimated`."""
    keep = 0.5 if queue.estimated + estimated > _REMEMBERED else 1.0
    return msgspec.structs.replace(
        queue, estimated=keep * queue.estimated + estimated, counted=keep * queue.counted + tokens
    )


def accepted(queue: Queue, in_use: int) -> Queue:
    """What a batch teaches that was taken in. `in_use`: tokens in the queue with it."""
    if queue.window is None or in_use <= queue.window:
        return queue
    return msgspec.structs.replace(queue, window=in_use, probe_at=0.0, refusals=0)
