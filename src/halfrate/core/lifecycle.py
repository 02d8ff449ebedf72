"""The life of a shard, as a table. No I/O, no clock, no randomness of its own.

All of the state logic lives in this file, and this file does not know which provider it serves.

A shard is a slice of a job that fits one provider batch. It walks

    planned ─► uploaded ─► submitting ─► running ─► collecting ─► cleaning ─► done
                  ▲            │  ▲          │           │            │
                  └────────────┘  └──────────┼───────────┘            └─► planned (what is left, next attempt)
                  refused, absent   (foreign)└─► cancelling ─► collecting

Near a deadline, rows that no batch can bring in time take another way, `planned ─► answering ─► collecting`: they are
run in real time, one call each, and a batch that is still at work is cancelled and harvested before. Rows that are
left over, and too few for the provider to take as a batch, go that way as well where the job allows it. Where it does
not they are not sent, and pass through `collecting` to be told so.

A shard of a paused job rests in `paused` wherever it would be created next, and goes back from there.

Three rules carry the promises:

* *Intent before effect.* `submitting` is committed before the create call leaves this machine. Whoever
  finds a shard in `submitting` knows only that a create **may** have taken effect, and must look.
* *Adopt, don't repeat.* From `submitting` a shard goes back to be created again only on a refusal (the
  provider answered no) or when a listing that worked does not show it *and* the longest time in which a
  create could still land has passed. A failed look-up says nothing and changes nothing.
* *Every terminal state is harvested.* Failed, expired and cancelled batches all pass through
  `collecting`: finished rows in them are paid for.

`decide` says what to do next with a shard; `apply` says what became of it. An event that the table does
not allow raises `IllegalStep`, and nothing has changed.
"""

import enum
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from halfrate.base.errors import IllegalStep
from halfrate.base.ids import tag_handle
from halfrate.base.types import Counts
from halfrate.core.admission import Fit


class State(enum.StrEnum):
    PLANNED = "planned"
    """Rows are durable on this side; nothing is at the provider."""
    UPLOADED = "uploaded"
    """The request file is at the provider; no batch was asked for."""
    SUBMITTING = "submitting"
    """A create was about to be sent. It may or may not have taken effect."""
    RUNNING = "running"
    CANCELLING = "cancelling"
    ANSWERING = "answering"
    """Its rows are run in real time; each reply is kept as it comes."""
    COLLECTING = "collecting"
    """The provider is finished; what it finished is still only there."""
    CLEANING = "cleaning"
    """Results are durable here; copies remain at the provider."""
    DONE = "done"
    PAUSED = "paused"
    """Held back before its next batch, by a person or because its rows fail. Nothing of it runs."""
    STOPPED = "stopped"
    """Refused in a way that time does not cure. Nothing of it runs; a person must act."""


LIVE = frozenset(State) - {State.DONE, State.STOPPED}
"""States in which rows are still to come."""
MOVING = LIVE - {State.PAUSED}
"""States in which a shard goes on by itself."""
WAITING = frozenset({State.PLANNED, State.UPLOADED})
"""States before a create: where a shard needs room in the provider's quotas, and can be held back."""
_QUEUED = frozenset({State.SUBMITTING, State.RUNNING, State.CANCELLING})
"""States in which a batch is, or may be, at work at the provider."""
NOT_SENT = "none"
"""The tier of an attempt whose rows are not sent at all."""
NO_ROOM = "no room"
"""The status of an attempt whose row found no room in the queue by itself, and may find some later."""
BEHIND_LEADERS = 2
"""Attempts that are no try of most rows where a batch goes first: one of all rows, as they were written, of which
nothing is sent, and that batch's own."""
TRIES_ALONE = 3
"""Refusals in a row with nothing of ours in the queue, after which fewer rows are sent."""
TRIES_IN_DOUBT = 6
"""The same for a single row that may be larger than the queue, after which it is left for later."""
COSTING = _QUEUED | {State.ANSWERING}
"""States in which rows are, or may be, at work at the provider."""


class Refs(msgspec.Struct, frozen=True, kw_only=True):
    """The provider's names for what belongs to a shard's current attempt."""

    file_id: str | None = None
    batch_id: str | None = None
    adopted: bool = False
    """`batch_id` was found in a listing; nobody saw the reply that named it."""
    twins: tuple[str, ...] = ()
    """Batches made by the same create beside `batch_id`; cancelled, and harvested with it."""
    uncancelled: tuple[str, ...] = ()
    """Twins whose cancel has not been sent yet."""
    past: tuple[str, ...] = ()
    """Batches that carry our tag, or look as if they did, and are known not to be the one sought."""
    leftovers: tuple[str, ...] = ()
    """What is to be deleted at the provider once its results are durable here."""

    @property
    def batches(self) -> tuple[str, ...]:
        return (self.batch_id, *self.twins) if self.batch_id else self.twins


class Trouble(msgspec.Struct, frozen=True):
    """The newest thing that went wrong with a shard: a stable code and words for a person."""

    code: str
    message: str


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """One shard's record. `version` is its fence: it rises with every saved step."""

    id: str
    job_id: str
    number: int
    first_row: int
    rows: int
    bytes: int
    model: str
    account: str
    state: State = State.PLANNED
    version: int = 0
    next_at: float = 0.0
    attempt: int = 1
    last_attempt: int = 5
    """What is not settled after this attempt stays as it is."""
    rows_left: int = 0
    """Rows that are still to be settled. The current attempt takes `sending` of them."""
    tokens: int = 0
    """What the provider will count for all rows of the shard together, roughly."""
    cost: int | None = None
    """What all rows of the shard should cost in the job's tier, picodollars; None where the price is unknown."""
    realtime_cost: int | None = None
    """The same in real time, at its ordinary price."""
    measured: int | None = None
    """The same for the rows of the current attempt alone, from the size of its request file; None before there is one.
    """
    cap: int | None = None
    """The most rows that one batch may take: more would not fit the provider's quota, ever."""
    room: int | None = None
    """Set when the shard was claimed: how many rows would fit, where its batch would not."""
    portion: int | None = None
    """The most rows that the next batch takes, while it is found out which of them its provider cannot bear."""
    leaders: int = 0
    """Rows of the batch that goes first and warms the provider's cache for the others, one of each group of rows that
    begin alike; 0 where there is none."""
    warm: bool = False
    """That batch is over."""
    setbacks: int = 0
    """Batches in a row that came to an end without settling a single row; never less than one after the first."""
    halvings: int = 0
    """Batches that came to nothing and were no row's fault."""
    waiting: int | None = None
    """Rows that had no turn yet in this round of tries, where an attempt takes only some; None: all that are left."""
    refused_alone: int = 0
    """Refusals in a row of the current attempt for want of room, with nothing of ours in the queue beside it."""
    alone_since: float | None = None
    """When the first of them was."""
    insist_from: int = 1
    """The attempt with which the user's last retry began: rows that were refused for good before it go again."""
    tier: str = "batch"
    """How the current attempt is served and paid."""
    rescue: str = ""
    """The batch is cancelled for the deadline's sake, and what it leaves goes on in this tier."""
    doubts: int = 0
    """Calls of the current attempt, in real time, that may have been billed unseen."""
    cancelled_at: float | None = None
    """When the provider was asked to stop the batch."""
    intent_at: float | None = None
    seen_at: float | None = None
    """When a batch of the open intent was first seen in a listing: from then on it is not on its way any more."""
    quiet_from: float | None = None
    """From when on the create of this intent can no longer be on its way out of a process of ours."""
    submitted_at: float | None = None
    ended_at: float | None = None
    tries: int = 0
    """Failed tries in a row of the present step; sets the back-off."""
    uploads: int = 0
    """Uploads of this attempt's request file that were begun."""
    uploaded: int = 0
    """Those of them whose end we know."""
    polls: int = 0
    accepted: bool = False
    """The provider has taken the batch into its queue: what is refused later is refused for other reasons."""
    cancel_requested: bool = False
    paused: bool = False
    """Nothing more is sent until the user says so."""
    paused_because: str = ""
    """Why, where it was not the user who asked."""
    status: str = ""
    """The provider's own word for the batch's state, for people."""
    rows_finished: int = 0
    """Rows of the running batch that the provider says it has finished."""
    counts: Counts = Counts()
    unsettled: int = 0
    """After collecting: rows that go into another attempt."""
    refs: Refs = Refs()
    trouble: Trouble | None = None

    @property
    def tag(self) -> str:
        return tag_handle(self.id, self.attempt)

    @property
    def sending(self) -> int:
        """Rows that go into the current attempt."""
        most = self.rows_left
        return min(most, self.cap or most, self.portion or most, self.leaders if self.leading else most)

    @property
    def leading(self) -> bool:
        """Whether the current attempt is of those rows alone that warm the cache for the others."""
        return self.leaders > 0 and not self.warm

    @property
    def try_number(self) -> int:
        """The current attempt as people count: a batch that warms the cache first is none of the others' attempts."""
        return max(1, self.attempt - BEHIND_LEADERS) if self.leaders else self.attempt

    @property
    def left_early(self) -> bool:
        """Whether the attempt ran in real time and was ended before all of its rows were answered: by a cancel or
        a pause, which may be over by the time that its results are collected."""
        return self.tier not in {"batch", NOT_SENT} and self.rows_finished < self.sending

    @property
    def demand(self) -> int:
        """What the provider will count for the current attempt, roughly."""
        if self.measured is not None:
            return self.measured
        return -(-self.tokens * self.sending // self.rows) if self.rows else 0

    @property
    def stake(self) -> int | None:
        """What the rows that are still to be settled should cost; picodollars, None where the price is unknown."""
        # What was collected is paid for; what is left of it goes again.
        rows = self.unsettled if self.state is State.CLEANING else self.rows_left
        # What is cancelled before it was sent never will be.
        given_up = self.cancel_requested and self.state in WAITING
        if self.state not in LIVE or not rows or given_up:
            return 0
        whole = self.realtime_cost if self.tier == "standard" else self.cost
        return None if whole is None else -(-whole * rows // self.rows)

    @property
    def holds_room(self) -> bool:
        """Whether a batch of it is, may be, or is about to be in the provider's queue."""
        if self.state in WAITING:
            return self.trouble is None
        return self.state in _QUEUED

    @property
    def strayed(self) -> bool:
        """Whether a request file may lie at the provider whose name there we never learned."""
        return self.uploads > self.uploaded


SmallTails: TypeAlias = Literal["fail", "realtime"]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The times and numbers that the life cycle obeys. Seconds."""

    uploads_file: bool
    create_timeout: float = 600.0
    send_within: float = 60.0
    """How long after its intent was committed a create may still leave. A worker that was held up for longer
    (stopped, suspended with its machine) may have a successor by then, and lets it be."""
    settle: float = 120.0
    """How long after the last instant a create could have been sent it may still turn up in a listing."""
    poll_first: float = 2.0
    poll_most: float = 60.0
    backoff_first: float = 1.0
    backoff_most: float = 120.0
    quota_wait: float = 60.0
    quota_most: float = 900.0
    """The longest that nothing is tried after refusals in a row for want of room."""
    room_patience: float = 3 * 86_400.0
    """How long a batch is refused for want of room, with nothing of ours beside it, before a person must look: longer
    than any batch can be in a queue before it."""
    missing_grace: float = 600.0
    """How long a fresh batch may answer 404 before we believe it."""
    tier: str = "batch"
    """How the job's rows are served, unless a deadline asks for more."""
    least_rows: int = 1
    """Fewer rows than that are no batch to the provider."""
    small_tails: SmallTails = "fail"
    """What becomes of rows that are left over and fewer than that."""
    oversized: SmallTails = "fail"
    """What becomes of a row that is larger than the whole queue of its model."""
    max_attempts: int = 5
    cleanup_tries: int = 8
    halvings: int = 40
    """Batches of a shard that may come to nothing while they are made smaller, before what is left is given up."""
    upload_tries: int = 12
    """Uploads of one attempt after which a provider that knows no such file is believed to mean something else."""


# ---------------------------------------------------------------- commands: what to do next


class Upload(msgspec.Struct, frozen=True):
    """Put the request file of this attempt at the provider. Safe to repeat: a copy costs only storage."""


class Create(msgspec.Struct, frozen=True):
    """Commit the intent, then ask for the batch, once. The paid call."""


class Find(msgspec.Struct, frozen=True):
    """Look for the batch that an earlier create may have made."""


class Poll(msgspec.Struct, frozen=True):
    """Ask how the batch is doing."""


class CancelBatch(msgspec.Struct, frozen=True):
    """Ask the provider to stop `batch_id`. A request: finished rows stay paid and are harvested."""

    batch_id: str
    twin: bool = False


class Collect(msgspec.Struct, frozen=True):
    """Fetch results, make them durable, write the outcomes and the ledger."""


class CleanUp(msgspec.Struct, frozen=True):
    """Delete what the attempt left at the provider, now that its results are durable here.

    `strays`: files may be among it that have to be looked for by the tag in their names.
    """

    strays: bool = False


class Answer(msgspec.Struct, frozen=True):
    """Run the attempt's rows in real time. `stop`: only take in what was answered already."""

    stop: bool = False


class GoRealtime(msgspec.Struct, frozen=True):
    """Begin to run the attempt's rows in real time, in this tier: the job asked for no batch."""

    tier: str


class CutDown(msgspec.Struct, frozen=True):
    """Make the shard's batches smaller: so many rows at most."""

    rows: int


class LeaveOut(msgspec.Struct, frozen=True):
    """Do not send the attempt's rows: they are too few for a batch, and the job does not allow real time for them."""


class Abandon(msgspec.Struct, frozen=True):
    """Give up the rest of a shard of which nothing is running."""


class Rest(msgspec.Struct, frozen=True):
    """Nothing to do."""


Command: TypeAlias = (
    Upload
    | Create
    | Find
    | Poll
    | CancelBatch
    | Collect
    | CleanUp
    | CutDown
    | GoRealtime
    | Answer
    | LeaveOut
    | Abandon
    | Rest
)


# ---------------------------------------------------------------- events: what became of it


class UploadMeant(msgspec.Struct, frozen=True):
    """An upload leaves right after this is committed."""


class Uploaded(msgspec.Struct, frozen=True):
    file_id: str


class IntentMade(msgspec.Struct, frozen=True):
    """The create call leaves right after this is committed. `tokens`: of its rows, reckoned from their bytes."""

    tokens: int | None = None


class Created(msgspec.Struct, frozen=True):
    batch_id: str
    status: str = ""
    accepted: bool = False


class CreateRefused(msgspec.Struct, frozen=True):
    """The provider answered no. `passing`: time may cure it. `file_gone`: upload again first."""

    trouble: Trouble
    passing: bool
    retry_after: float | None = None
    file_gone: bool = False


class CreateUnknown(msgspec.Struct, frozen=True):
    """The call is over on our side, and whether it took effect is not known."""

    trouble: Trouble


class SenderGone(msgspec.Struct, frozen=True):
    """The process that made the intent is proven dead: it sends nothing any more."""


class Found(msgspec.Struct, frozen=True):
    """Batches that the provider lists for this shard's intent, the one to keep first."""

    batch_ids: tuple[str, ...]
    asked_at: float
    """When the listing was asked for. A worker that freezes before it has read the answer holds an old one."""


class Absent(msgspec.Struct, frozen=True):
    """A listing that worked, and went back far enough, does not show the batch."""

    asked_at: float
    """As in `Found`."""


class Held(msgspec.Struct, frozen=True):
    """Candidates exist and cannot be told apart yet. Wait; never send again."""

    trouble: Trouble


class StepFailed(msgspec.Struct, frozen=True):
    """A step that is safe to repeat did not work."""

    trouble: Trouble
    retry_after: float | None = None


class Polled(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider says about the batch."""

    status: str
    ended: bool
    rows_finished: int = 0
    accepted: bool = True


class NoRoom(msgspec.Struct, frozen=True, kw_only=True):
    """Refused because the provider's queue is full, at the create or after it. Nothing ran, and the file is still good.

    `wait`: seconds until the queue may have room. `alone`: nothing of ours was in it. `fit`: how the batch compares
    with the whole queue, where that is known.
    """

    trouble: Trouble
    wait: float
    alone: bool = False
    fit: Fit | None = None


class BatchMissing(msgspec.Struct, frozen=True):
    """The provider answered that it does not know the batch."""

    trouble: Trouble
    asked_at: float
    """As in `Found`."""


class CancelSent(msgspec.Struct, frozen=True):
    batch_id: str
    twin: bool = False


class Collected(msgspec.Struct, frozen=True):
    """The attempt's outcomes are durable. `counts`: of all rows of the shard, over all attempts.

    `unsettled`: rows of the attempt that may go again. `too_much`: not one row was settled, and the number of rows
    may be why: the batch failed as a whole, or ran out of time.
    """

    counts: Counts
    unsettled: int
    leftovers: tuple[str, ...] = ()
    too_much: bool = False


class SendNow(msgspec.Struct, frozen=True):
    """The rows of this attempt go out in real time, in this tier. Also: from now on in this tier."""

    tier: str


class RescueAsked(msgspec.Struct, frozen=True):
    """The batch cannot be waited for any longer. What it leaves is to go on in this tier."""

    tier: str


class LeftOut(msgspec.Struct, frozen=True):
    """The rows of this attempt are not sent."""


class Answered(msgspec.Struct, frozen=True):
    """A run in real time is over; every reply is durable. `left`: rows without an answer, those that may have been
    run unseen among them."""

    left: int
    trouble: Trouble | None = None
    wait: float = 0.0
    doubts: int = 0
    """Calls of this attempt that may have been billed unseen."""
    hopeless: bool = False
    """What is left would be refused again: it is the tier that was asked for, and not the rows."""


class Cut(msgspec.Struct, frozen=True):
    """Batches of this shard may take no more than so many rows from now on."""

    rows: int


class PauseAsked(msgspec.Struct, frozen=True):
    """Send nothing more for now. `reason`: why, where it was not the user who asked."""

    reason: str = ""


class PauseEnded(msgspec.Struct, frozen=True):
    pass


class Foreign(msgspec.Struct, frozen=True):
    """The adopted batch's results carry none of our ids: it is somebody else's."""


class Cleaned(msgspec.Struct, frozen=True):
    pass


class Abandoned(msgspec.Struct, frozen=True):
    pass


class CancelAsked(msgspec.Struct, frozen=True):
    """The user wants no more of it."""


class Resumed(msgspec.Struct, frozen=True):
    """The user wants a stopped shard, or the failed rows of a done one (`rows`), tried again."""

    rows: int | None = None


Event: TypeAlias = (
    UploadMeant
    | Uploaded
    | IntentMade
    | Created
    | CreateRefused
    | CreateUnknown
    | SenderGone
    | Found
    | Absent
    | Held
    | StepFailed
    | Polled
    | NoRoom
    | BatchMissing
    | CancelSent
    | Collected
    | Foreign
    | Cleaned
    | Abandoned
    | CancelAsked
    | Resumed
    | SendNow
    | RescueAsked
    | LeftOut
    | Answered
    | Cut
    | PauseAsked
    | PauseEnded
)


# ---------------------------------------------------------------- decisions


def decide(shard: Shard, policy: Policy) -> Command:
    """What to do with a shard that is due. Pure; the same answer for the same record, on any machine."""
    match shard.state:
        case State.PLANNED | State.UPLOADED:
            return _before(shard, policy)
        case State.SUBMITTING:
            return Find()
        case State.RUNNING | State.CANCELLING if shard.refs.uncancelled:
            return CancelBatch(shard.refs.uncancelled[0], twin=True)
        case State.RUNNING if (shard.cancel_requested or shard.rescue) and shard.refs.batch_id:
            return CancelBatch(shard.refs.batch_id)
        case State.RUNNING | State.CANCELLING:
            return Poll()
        case State.ANSWERING:
            return Answer(stop=shard.cancel_requested or shard.paused)
        case State.COLLECTING:
            return Collect()
        case State.CLEANING:
            return CleanUp(shard.strayed)
        case State.DONE | State.STOPPED | State.PAUSED:
            return Rest()


def _before(shard: Shard, policy: Policy) -> Command:
    """What to do with a shard of which nothing runs."""
    if shard.cancel_requested:
        return Abandon()
    if policy.tier != "batch":
        return GoRealtime(policy.tier)
    if shard.sending < policy.least_rows:
        return GoRealtime("standard") if policy.small_tails == "realtime" else LeaveOut()
    # A queue that has no room for the smallest batch may have more than is known: its provider is asked.
    room = max(shard.room or 0, policy.least_rows)
    if shard.room is not None and room < shard.sending:
        return CutDown(room)
    if policy.uploads_file and shard.state is State.PLANNED:
        return Upload()
    return Create()


def apply(shard: Shard, event: Event, policy: Policy, now: float) -> Shard:
    """The shard after `event`. Raises IllegalStep, and changes nothing, where the table has no such step."""
    step = _TABLE.get((shard.state, type(event)))
    if step is None:
        raise IllegalStep(
            f"shard {shard.id} is {shard.state}: {type(event).__name__} is not a step from there"
        )
    after = step(shard, event, policy, now)
    if after.paused and after.state in WAITING:
        return msgspec.structs.replace(after, state=State.PAUSED, status="paused")
    return after


def backoff(tries: int, policy: Policy) -> float:
    """Seconds to wait after the `tries`-th failure in a row."""
    return min(policy.backoff_most, policy.backoff_first * 2 ** min(max(tries - 1, 0), 16))


def poll_delay(age: float, policy: Policy) -> float:
    """Seconds until the next look at a batch that is `age` seconds old: a tenth of its age, within bounds."""
    return min(policy.poll_most, max(policy.poll_first, age / 10))


def absent_after(shard: Shard, policy: Policy) -> float:
    """When a create of this shard that is still not listed can no longer have taken effect."""
    if shard.quiet_from is None:
        raise IllegalStep(f"shard {shard.id} is submitting without an intent")
    return shard.quiet_from + policy.settle


# ---------------------------------------------------------------- the steps

_NEVER_ROOM = Trouble(
    "no_room",
    "refused for want of room for days, though none of our batches was in the provider's queue: others fill it, or the "
    "account has none for this model. Nothing of it runs or costs anything; `halfrate retry` tries it again",
)


def _to(shard: Shard, state: State, at: float, **changes: Any) -> Shard:
    """A step that worked: a new state, due at `at`, with the failure count at zero."""
    changes.setdefault("tries", 0)
    changes.setdefault("trouble", None)
    return msgspec.structs.replace(shard, state=state, next_at=at, **changes)


def _again(
    shard: Shard, trouble: Trouble, policy: Policy, now: float, wait: float | None = None, **changes: Any
) -> Shard:
    """The same state again, later."""
    tries = shard.tries + 1
    delay = backoff(tries, policy) if wait is None else max(wait, policy.backoff_first)
    return msgspec.structs.replace(shard, next_at=now + delay, tries=tries, trouble=trouble, **changes)


def _refs(shard: Shard, **changes: Any) -> Refs:
    return msgspec.structs.replace(shard.refs, **changes)


def _with_file(shard: Shard) -> tuple[str, ...]:
    """What is to be deleted at the provider, the attempt's request file included."""
    file = (shard.refs.file_id,) if shard.refs.file_id is not None else ()
    return tuple(dict.fromkeys((*shard.refs.leftovers, *file)))


def _before_create(policy: Policy) -> State:
    return State.UPLOADED if policy.uploads_file else State.PLANNED


def _upload_meant(shard: Shard, event: UploadMeant, policy: Policy, now: float) -> Shard:
    return msgspec.structs.replace(shard, uploads=shard.uploads + 1)


def _uploaded(shard: Shard, event: Uploaded, policy: Policy, now: float) -> Shard:
    refs = _refs(shard, file_id=event.file_id)
    return _to(shard, State.UPLOADED, now, refs=refs, uploaded=shard.uploaded + 1)


def _intent_made(shard: Shard, event: IntentMade, policy: Policy, now: float) -> Shard:
    if (shard.refs.file_id is None) == policy.uploads_file:
        raise IllegalStep(f"shard {shard.id} has no request file to make a batch of")
    # Should this process die now, the next one finds `submitting` and looks before it does anything.
    return _to(
        shard,
        State.SUBMITTING,
        now,
        intent_at=now,
        quiet_from=now + policy.send_within + policy.create_timeout,
        rows_finished=0,
        polls=0,
        accepted=False,
        seen_at=None,
        status="submitting",
        measured=event.tokens,
        # A provider that refuses every create is asked less and less often.
        tries=shard.tries,
    )


def _running(
    shard: Shard, batch_ids: Sequence[str], status: str, policy: Policy, now: float, *, adopted: bool
) -> Shard:
    twins = tuple(batch_ids[1:])
    return _to(
        shard,
        State.RUNNING,
        now + (0 if twins else policy.poll_first),
        submitted_at=shard.intent_at,
        status=status,
        refs=_refs(shard, batch_id=batch_ids[0], adopted=adopted, twins=twins, uncancelled=twins),
    )


def _created(shard: Shard, event: Created, policy: Policy, now: float) -> Shard:
    shard = msgspec.structs.replace(shard, accepted=event.accepted)
    return _running(shard, (event.batch_id,), event.status, policy, now, adopted=False)


def _found(shard: Shard, event: Found, policy: Policy, now: float) -> Shard:
    if len(event.batch_ids) == 0 or set(event.batch_ids) & set(shard.refs.past):
        raise IllegalStep(f"shard {shard.id} cannot adopt {event.batch_ids}: empty, or known to be others")
    seen_at = event.asked_at if shard.seen_at is None else shard.seen_at
    surely = min(absent_after(shard, policy), seen_at + policy.settle)
    if event.asked_at < surely:
        # Something on the way may have sent the call twice, and what the listing shows may be late: what is not
        # seen before the first is adopted is never looked for again, and paid for.
        trouble = Trouble("create_unknown", "found; waiting until no second one of the same call can appear")
        seen = msgspec.structs.replace(shard, seen_at=seen_at)
        return _look_again(seen, trouble, policy, now, surely)
    return _running(shard, event.batch_ids, "adopted", policy, now, adopted=True)


def _create_refused(shard: Shard, event: CreateRefused, policy: Policy, now: float) -> Shard:
    uploading = shard.state is State.PLANNED
    if uploading:
        # The provider answered no: this upload has left nothing there.
        shard = msgspec.structs.replace(shard, uploaded=shard.uploaded + 1)
    # A file that is not there after so many uploads is not what the refusal is about.
    upload_again = event.file_gone and shard.uploads < policy.upload_tries
    if not event.passing and not upload_again:
        return _to(shard, State.STOPPED, now, trouble=event.trouble, intent_at=None, status="refused")
    back = State.PLANNED if upload_again or uploading else _before_create(policy)
    wait = event.retry_after
    if upload_again:
        # Some providers know a file again by its bytes: another upload is the same file, as slow to appear.
        wait = max(wait or 0.0, backoff(shard.uploads, policy))
    waiting = _again(shard, event.trouble, policy, now, wait, state=back, intent_at=None)
    if upload_again:
        # The file may only be slow to appear: it is deleted in the end, and another is uploaded meanwhile.
        refs = _refs(shard, file_id=None, leftovers=_with_file(shard))
        return msgspec.structs.replace(waiting, refs=refs)
    return msgspec.structs.replace(waiting, status="waiting")


def _create_unknown(shard: Shard, event: CreateUnknown, policy: Policy, now: float) -> Shard:
    return _again(shard, event.trouble, policy, now, quiet_from=now)


def _sender_gone(shard: Shard, event: SenderGone, policy: Policy, now: float) -> Shard:
    return msgspec.structs.replace(shard, quiet_from=min(shard.quiet_from or now, now), next_at=now)


def _absent(shard: Shard, event: Absent, policy: Policy, now: float) -> Shard:
    surely = absent_after(shard, policy)
    if event.asked_at < surely:
        trouble = shard.trouble or Trouble("create_unknown", "not listed yet; waiting until it cannot appear")
        return _look_again(shard, trouble, policy, now, surely)
    return _to(shard, _before_create(policy), now, intent_at=None)


def _look_again(shard: Shard, trouble: Trouble, policy: Policy, now: float, surely: float) -> Shard:
    """Look once more when a listing tells all, at the latest."""
    return _again(shard, trouble, policy, now, max(0.0, min(backoff(shard.tries + 1, policy), surely - now)))


def _wait_and_look(shard: Shard, event: Held | StepFailed, policy: Policy, now: float) -> Shard:
    wait = event.retry_after if isinstance(event, StepFailed) else None
    return _again(shard, event.trouble, policy, now, wait)


def _no_room(shard: Shard, event: NoRoom, policy: Policy, now: float) -> Shard:
    if shard.refs.twins:
        # It ran nothing. What the same create made beside it may have, and takes its place: what that has finished is
        # paid for, and its files are there.
        first, *others = shard.refs.twins
        uncancelled = shard.refs.uncancelled
        if shard.state is State.RUNNING:
            # It is the one now, and need not be cancelled any more.
            uncancelled = tuple(twin for twin in uncancelled if twin != first)
        past = (*shard.refs.past, shard.refs.batch_id or "")
        refs = _refs(shard, batch_id=first, twins=tuple(others), uncancelled=uncancelled, past=past)
        return msgspec.structs.replace(shard, refs=refs, next_at=now + policy.poll_first)
    past = (*shard.refs.past, *shard.refs.batches)
    refs = _refs(shard, batch_id=None, twins=(), uncancelled=(), past=past)
    shard = msgspec.structs.replace(
        shard,
        intent_at=None,
        submitted_at=None,
        refs=refs,
        refused_alone=shard.refused_alone + 1 if event.alone else 0,
        alone_since=(now if shard.alone_since is None else shard.alone_since) if event.alone else None,
    )
    if not (shard.cancel_requested or shard.rescue):
        fewer = _rows_with_room(shard, event.fit, policy)
        if fewer is not None:
            return _anew(shard, now, portion=fewer)
        if event.fit is not None and shard.sending == 1 and _hopeless(shard, event.fit):
            return _without_room(shard, event.fit, policy, now)
        if shard.alone_since is not None and now - shard.alone_since > policy.room_patience:
            return _to(shard, State.STOPPED, now, trouble=_NEVER_ROOM, status="refused")
    # Whoever waits for batches that are not ours does not know when they leave the queue.
    longer = event.wait * 2 ** min(max(0, shard.refused_alone - 1), 16)
    wait = max(event.wait, min(policy.quota_most, longer))
    return _again(shard, event.trouble, policy, now, wait, state=_before_create(policy), status="waiting")


def _rows_with_room(shard: Shard, fit: Fit | None, policy: Policy) -> int | None:
    """How many of the attempt's rows are sent instead of all, because all have no room; None: no other number."""
    least = max(1, policy.least_rows)
    if fit is None or shard.sending <= least:
        return None
    rows = fit.rows
    if rows >= shard.sending:
        # It should have fitted. Either it is larger than we think, or others use the queue: with fewer rows it has
        # more of a chance in both cases.
        rows = shard.sending // 2 if shard.refused_alone >= TRIES_ALONE else shard.sending
    rows = max(rows, least)
    fits = rows < shard.sending and not 0 < shard.rows_left - rows < policy.least_rows
    return rows if fits else None


def _hopeless(shard: Shard, fit: Fit) -> bool:
    """Whether a single row is not tried again as it is."""
    return fit.never or (fit.doubtful and shard.refused_alone >= TRIES_IN_DOUBT)


def _without_room(shard: Shard, fit: Fit, policy: Policy, now: float) -> Shard:
    """A row that its provider's queue cannot take goes another way, or nowhere."""
    if policy.oversized == "realtime":
        return _send_now(shard, SendNow("standard"), policy, now)
    queue = f"the provider's queue for this model, which takes {fit.most:,} tokens in all"
    otherwise = (
        "`--small-tails realtime` lets a job run such rows in real time; a job of their own with `--tier standard` "
        "does so now"
    )
    if fit.never:
        text = f"not sent: it is larger than {queue}: it has about {fit.first:,}. {otherwise}"
        return _not_sent(shard, Trouble("too_large", text), "too large", now)
    text = (
        f"not sent: refused {shard.refused_alone} times with no other batch of ours in {queue}. Either others fill it, "
        f"or this row is too large for it. {otherwise}"
    )
    return _not_sent(shard, Trouble("no_room", text), NO_ROOM, now)


def _polled(shard: Shard, event: Polled, policy: Policy, now: float) -> Shard:
    if event.ended:
        return _to(
            shard,
            State.COLLECTING,
            now,
            status=event.status,
            ended_at=now,
            polls=shard.polls + 1,
            accepted=True,
            rows_finished=event.rows_finished,
        )
    age = now - (shard.submitted_at if shard.submitted_at is not None else now)
    return _to(
        shard,
        shard.state,
        now + poll_delay(age, policy),
        status=event.status,
        polls=shard.polls + 1,
        accepted=shard.accepted or event.accepted,
        rows_finished=event.rows_finished,
    )


def _batch_missing(shard: Shard, event: BatchMissing, policy: Policy, now: float) -> Shard:
    age = event.asked_at - (shard.submitted_at if shard.submitted_at is not None else event.asked_at)
    if age <= policy.missing_grace:
        return _again(shard, event.trouble, policy, now)
    # Sending it again could pay for it twice: the batch may live on under a key that we do not have.
    return _to(shard, State.STOPPED, now, trouble=event.trouble, status="missing")


def _cancel_sent(shard: Shard, event: CancelSent, policy: Policy, now: float) -> Shard:
    if event.twin:
        left = tuple(b for b in shard.refs.uncancelled if b != event.batch_id)
        return _to(shard, shard.state, now, refs=_refs(shard, uncancelled=left))
    return _to(shard, State.CANCELLING, now + policy.poll_first, status="cancelling", cancelled_at=now)


def _rescue_asked(shard: Shard, event: RescueAsked, policy: Policy, now: float) -> Shard:
    return msgspec.structs.replace(shard, rescue=event.tier, next_at=min(shard.next_at, now))


def _send_now(shard: Shard, event: SendNow, policy: Policy, now: float) -> Shard:
    refs = _refs(shard, file_id=None, leftovers=_with_file(shard))
    begun = shard.submitted_at if shard.state is State.ANSWERING else now
    return _to(
        shard,
        State.ANSWERING,
        now,
        tier=event.tier,
        status=event.tier,
        refs=refs,
        room=None,
        intent_at=None,
        submitted_at=begun,
    )


def _left_out(shard: Shard, event: LeftOut, policy: Policy, now: float) -> Shard:
    text = (
        f"not sent: {shard.sending:,} rows of its batch were left, and the provider takes no batch of fewer than "
        f"{policy.least_rows:,}. `--small-tails realtime` lets a job run them in real time; a job of their own with "
        "`--tier standard` does so now"
    )
    return _not_sent(shard, Trouble("too_few", text), "too few", now)


def _not_sent(shard: Shard, why: Trouble, status: str, now: float) -> Shard:
    """The attempt is over for rows that never left; they are told why."""
    refs = _refs(shard, file_id=None, leftovers=_with_file(shard))
    return _to(
        shard, State.COLLECTING, now, tier=NOT_SENT, status=status, refs=refs, trouble=why, ended_at=now
    )


def _answered(shard: Shard, event: Answered, policy: Policy, now: float) -> Shard:
    finished = shard.sending - event.left
    shard = msgspec.structs.replace(shard, doubts=max(shard.doubts, event.doubts))
    if event.hopeless and event.left == shard.sending and event.trouble is not None:
        return _to(shard, State.STOPPED, now, trouble=event.trouble, status="refused", rows_finished=0)
    if event.left and not (shard.cancel_requested or shard.paused or event.hopeless):
        if event.trouble is None:
            return _to(shard, State.ANSWERING, now + event.wait, rows_finished=finished)
        return _again(shard, event.trouble, policy, now, event.wait or None, rows_finished=finished)
    return _to(shard, State.COLLECTING, now, ended_at=now, rows_finished=finished)


def _collected(shard: Shard, event: Collected, policy: Policy, now: float) -> Shard:
    # Whether a provider says what a batch was made from or not: we know what we uploaded.
    left = dict.fromkeys((*shard.refs.leftovers, *event.leftovers, *_with_file(shard)))
    refs = _refs(shard, leftovers=tuple(left))
    unsent = shard.rows_left - shard.sending
    stuck = event.too_much and event.unsettled == shard.sending
    setbacks = shard.setbacks + 1 if stuck else min(1, shard.setbacks)
    portion = _portion(shard, policy, stuck=stuck, setbacks=setbacks)
    # Rows that were not in this batch have spent nothing of what a row may try: what is to settle some, or to give
    # others their turn, is no attempt of theirs. And to find the row that a whole batch fails for takes batches that
    # are nobody's fault.
    waiting = (shard.rows_left if shard.waiting is None else shard.waiting) - shard.sending
    others = unsent > 0 and not stuck and (waiting > 0 or event.unsettled < shard.sending)
    smaller = shard.sending > max(1, policy.least_rows)
    halving = stuck and setbacks > 1 and smaller and shard.halvings < policy.halvings
    # An attempt that we ended ourselves, for the deadline or because of a pause, is no fault of its rows either.
    ours = bool(shard.rescue) or shard.left_early
    last = shard.last_attempt + (1 if halving or ours or others else 0)
    again = unsent + event.unsettled if shard.attempt < last else 0
    return _to(
        shard,
        State.CLEANING,
        now,
        counts=event.counts,
        unsettled=again,
        last_attempt=last,
        portion=portion,
        # Where nothing of the batch that goes first came to an end, it goes once more: what follows a cache that is
        # cold costs more than without one.
        warm=shard.leaders > 0 and (event.unsettled < shard.sending or shard.attempt > BEHIND_LEADERS),
        setbacks=setbacks,
        halvings=shard.halvings + halving,
        # Who had a second turn in this round has had the first of the next one.
        waiting=waiting if waiting > 0 else max(0, again + waiting) or None,
        refs=refs,
    )


def _portion(shard: Shard, policy: Policy, *, stuck: bool, setbacks: int) -> int | None:
    """How many rows the next batch takes: half as many after a second batch that came to nothing, twice as many
    after each that did not. Never so many that too few are taken, or left."""
    if stuck:
        half = max(1, shard.sending // 2, policy.least_rows)
        fits = half <= shard.rows_left and not 0 < shard.rows_left - half < policy.least_rows
        return half if setbacks > 1 and fits else shard.portion
    if shard.portion is not None and shard.tier != "batch" and not shard.setbacks:
        # A row that the queue had no room for was apart from the others, which have it without that row.
        return shard.rows_left - shard.sending or None
    if shard.portion is None or 2 * shard.portion >= shard.rows_left:
        return None
    return 2 * shard.portion


def _foreign(shard: Shard, event: Foreign, policy: Policy, now: float) -> Shard:
    past = (*shard.refs.past, *shard.refs.batches)
    return _to(
        shard,
        State.SUBMITTING,
        now,
        submitted_at=None,
        ended_at=None,
        seen_at=None,
        refs=_refs(shard, batch_id=None, twins=(), uncancelled=(), leftovers=(), past=past),
    )


def _cleaned(shard: Shard, event: Cleaned, policy: Policy, now: float) -> Shard:
    past = (*shard.refs.past, *shard.refs.batches)
    if shard.unsettled and not shard.cancel_requested:
        following = _next_attempt(shard, shard.unsettled, now)
        if shard.rescue and not shard.paused:
            return _send_now(following, SendNow(shard.rescue), policy, now)
        return following
    return _to(shard, State.DONE, now, unsettled=0, refs=Refs(past=past), rows_left=0, uploads=0, uploaded=0)


def _next_attempt(shard: Shard, rows: int, now: float) -> Shard:
    return _to(
        shard,
        State.PLANNED,
        now,
        attempt=shard.attempt + 1,
        rows_left=rows,
        tier="batch",
        rescue="",
        doubts=0,
        cancelled_at=None,
        uploads=0,
        uploaded=0,
        unsettled=0,
        refs=Refs(past=(*shard.refs.past, *shard.refs.batches)),
        intent_at=None,
        submitted_at=None,
        ended_at=None,
        polls=0,
        rows_finished=0,
        measured=None,
        refused_alone=0,
        alone_since=None,
        status="cache warm" if shard.leaders and shard.attempt == BEHIND_LEADERS else "retrying",
    )


def _cut(shard: Shard, event: Cut, policy: Policy, now: float) -> Shard:
    if not 0 < event.rows < shard.sending:
        raise IllegalStep(f"shard {shard.id} cannot be cut from {shard.sending} rows to {event.rows}")
    return _anew(shard, now, cap=event.rows)


def _anew(shard: Shard, now: float, **changes: int) -> Shard:
    """Other rows than those of the present attempt, of which nothing runs, and nothing has. They never change once its
    request file may have been written: it takes another attempt, which is nobody's fault."""
    leftovers = _with_file(shard)
    shard = msgspec.structs.replace(shard, room=None, last_attempt=shard.last_attempt + 1, **changes)
    if leftovers or shard.strayed:
        refs = _refs(shard, leftovers=leftovers, file_id=None)
        return _to(shard, State.CLEANING, now, unsettled=shard.rows_left, refs=refs, status="waiting")
    return msgspec.structs.replace(_next_attempt(shard, shard.rows_left, now), status="waiting")


def _pause_asked(shard: Shard, event: PauseAsked, policy: Policy, now: float) -> Shard:
    return msgspec.structs.replace(shard, paused=True, paused_because=event.reason)


def _pause_ended(shard: Shard, event: PauseEnded, policy: Policy, now: float) -> Shard:
    if shard.state is not State.PAUSED:
        return msgspec.structs.replace(shard, paused=False, paused_because="")
    state = State.PLANNED if shard.refs.file_id is None else State.UPLOADED
    return _to(shard, state, now, paused=False, paused_because="", status="")


def _cleaning_failed(shard: Shard, event: StepFailed, policy: Policy, now: float) -> Shard:
    if shard.tries + 1 < policy.cleanup_tries:
        return _again(shard, event.trouble, policy, now, event.retry_after)
    # Files that we cannot delete cost storage until they expire by themselves; they must not hold up rows.
    return _cleaned(shard, Cleaned(), policy, now)


def _abandoned(shard: Shard, event: Abandoned, policy: Policy, now: float) -> Shard:
    leftovers = _with_file(shard)
    if leftovers or shard.strayed:
        refs = _refs(shard, leftovers=leftovers)
        return _to(shard, State.CLEANING, now, unsettled=0, rows_left=0, refs=refs, status="cancelled")
    return _to(shard, State.DONE, now, unsettled=0, rows_left=0, status="cancelled")


def _cancel_asked(shard: Shard, event: CancelAsked, policy: Policy, now: float) -> Shard:
    if shard.paused:
        shard = _pause_ended(shard, PauseEnded(), policy, now)
    return msgspec.structs.replace(shard, cancel_requested=True, next_at=min(shard.next_at, now))


def _resumed(shard: Shard, event: Resumed, policy: Policy, now: float) -> Shard:
    if shard.state is State.STOPPED and shard.status == "missing":
        return _to(shard, State.RUNNING, now, submitted_at=now)
    if shard.state is State.DONE and not event.rows:
        raise IllegalStep(f"shard {shard.id} has no row to try again")
    # A number is never used twice once results may carry it, or for other rows than those in its request file.
    same = shard.state is State.STOPPED and shard.portion is None
    attempt = shard.attempt if same else shard.attempt + 1
    return _to(
        shard,
        State.PLANNED,
        now,
        attempt=attempt,
        last_attempt=attempt + policy.max_attempts - 1,
        rows_left=event.rows or shard.rows_left,
        insist_from=attempt if shard.state is State.DONE else shard.insist_from,
        tier="batch",
        rescue="",
        doubts=0,
        cancelled_at=None,
        portion=None,
        setbacks=0,
        halvings=0,
        waiting=None,
        measured=None,
        refused_alone=0,
        alone_since=None,
        cancel_requested=False,
        paused=False,
        # A shard that was refused may have left its request file there; it goes when the attempt is over.
        refs=Refs(past=shard.refs.past, leftovers=_with_file(shard)),
        submitted_at=None,
        ended_at=None,
        status="retrying",
    )


_Step: TypeAlias = Callable[[Shard, Any, Policy, float], Shard]

_TABLE: dict[tuple[State, type[Event]], _Step] = {
    (State.PLANNED, UploadMeant): _upload_meant,
    (State.PLANNED, Uploaded): _uploaded,
    (State.PLANNED, IntentMade): _intent_made,
    (State.PLANNED, StepFailed): _wait_and_look,
    (State.PLANNED, CreateRefused): _create_refused,  # an upload refused for good stops the shard as well
    (State.PLANNED, Abandoned): _abandoned,
    (State.PLANNED, Cut): _cut,
    (State.PLANNED, SendNow): _send_now,
    (State.PLANNED, LeftOut): _left_out,
    (State.PLANNED, CancelAsked): _cancel_asked,
    (State.PLANNED, PauseAsked): _pause_asked,
    (State.PLANNED, PauseEnded): _pause_ended,
    (State.UPLOADED, IntentMade): _intent_made,
    (State.UPLOADED, Abandoned): _abandoned,
    (State.UPLOADED, Cut): _cut,
    (State.UPLOADED, SendNow): _send_now,
    (State.UPLOADED, LeftOut): _left_out,
    (State.UPLOADED, CancelAsked): _cancel_asked,
    (State.UPLOADED, PauseAsked): _pause_asked,
    (State.UPLOADED, PauseEnded): _pause_ended,
    (State.SUBMITTING, Created): _created,
    (State.SUBMITTING, CreateRefused): _create_refused,
    (State.SUBMITTING, NoRoom): _no_room,
    (State.SUBMITTING, CreateUnknown): _create_unknown,
    (State.SUBMITTING, SenderGone): _sender_gone,
    (State.SUBMITTING, Found): _found,
    (State.SUBMITTING, Absent): _absent,
    (State.SUBMITTING, Held): _wait_and_look,
    (State.SUBMITTING, StepFailed): _wait_and_look,
    (State.SUBMITTING, CancelAsked): _cancel_asked,
    (State.SUBMITTING, PauseAsked): _pause_asked,
    (State.SUBMITTING, PauseEnded): _pause_ended,
    (State.RUNNING, Polled): _polled,
    (State.RUNNING, NoRoom): _no_room,
    (State.RUNNING, StepFailed): _wait_and_look,
    (State.RUNNING, BatchMissing): _batch_missing,
    (State.RUNNING, CancelSent): _cancel_sent,
    (State.RUNNING, RescueAsked): _rescue_asked,
    (State.RUNNING, CancelAsked): _cancel_asked,
    (State.RUNNING, PauseAsked): _pause_asked,
    (State.RUNNING, PauseEnded): _pause_ended,
    (State.CANCELLING, Polled): _polled,
    (State.CANCELLING, NoRoom): _no_room,
    (State.CANCELLING, StepFailed): _wait_and_look,
    (State.CANCELLING, BatchMissing): _batch_missing,
    (State.CANCELLING, CancelSent): _cancel_sent,
    (State.CANCELLING, CancelAsked): _cancel_asked,
    (State.CANCELLING, PauseAsked): _pause_asked,
    (State.CANCELLING, PauseEnded): _pause_ended,
    (State.ANSWERING, SendNow): _send_now,
    (State.ANSWERING, Answered): _answered,
    (State.ANSWERING, StepFailed): _wait_and_look,
    (State.ANSWERING, CancelAsked): _cancel_asked,
    (State.ANSWERING, PauseAsked): _pause_asked,
    (State.ANSWERING, PauseEnded): _pause_ended,
    (State.COLLECTING, Collected): _collected,
    (State.COLLECTING, Foreign): _foreign,
    (State.COLLECTING, StepFailed): _wait_and_look,
    (State.COLLECTING, CancelAsked): _cancel_asked,
    (State.COLLECTING, PauseAsked): _pause_asked,
    (State.COLLECTING, PauseEnded): _pause_ended,
    (State.CLEANING, Cleaned): _cleaned,
    (State.CLEANING, StepFailed): _cleaning_failed,
    (State.CLEANING, CancelAsked): _cancel_asked,
    (State.CLEANING, PauseAsked): _pause_asked,
    (State.CLEANING, PauseEnded): _pause_ended,
    (State.PAUSED, CancelAsked): _cancel_asked,
    (State.PAUSED, PauseEnded): _pause_ended,
    (State.STOPPED, Resumed): _resumed,
    (State.DONE, Resumed): _resumed,
}


def transitions() -> dict[State, tuple[str, ...]]:
    """The table by state, for the documentation and for property tests."""
    return {state: tuple(sorted(event.__name__ for s, event in _TABLE if s is state)) for state in State}
