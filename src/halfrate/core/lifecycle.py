"""The life of a shard, as a table. No I/O, no clock, no randomness of its own.

All of the state logic lives in this file, and this file does not know which provider it serves.

A shard is a slice of a job that fits one provider batch. It walks

    planned ─► uploaded ─► submitting ─► running ─► collecting ─► cleaning ─► done
                  ▲            │  ▲          │           │            │
                  └────────────┘  └──────────┼───────────┘            └─► planned (what is left, next attempt)
                  refused, absent   (foreign)└─► cancelling ─► collecting

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
from typing import Any, TypeAlias

import msgspec

from halfrate.base.errors import IllegalStep
from halfrate.base.ids import tag_handle
from halfrate.base.types import Counts


class State(enum.StrEnum):
    PLANNED = "planned"
    """Rows are durable on this side; nothing is at the provider."""
    UPLOADED = "uploaded"
    """The request file is at the provider; no batch was asked for."""
    SUBMITTING = "submitting"
    """A create was about to be sent. It may or may not have taken effect."""
    RUNNING = "running"
    CANCELLING = "cancelling"
    COLLECTING = "collecting"
    """The provider is finished; what it finished is still only there."""
    CLEANING = "cleaning"
    """Results are durable here; copies remain at the provider."""
    DONE = "done"
    STOPPED = "stopped"
    """Refused in a way that time does not cure. Nothing of it runs; a person must act."""


LIVE = frozenset(State) - {State.DONE, State.STOPPED}
COSTING = frozenset({State.SUBMITTING, State.RUNNING, State.CANCELLING})
"""States in which a batch is, or may be, at work at the provider."""


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
    """Rows that go into the current attempt."""
    insist: bool = False
    """The user asked for this attempt: rows that were refused for good go again as well."""
    intent_at: float | None = None
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
    cancel_requested: bool = False
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
    def strayed(self) -> bool:
        """Whether a request file may lie at the provider whose name there we never learned."""
        return self.uploads > self.uploaded


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
    missing_grace: float = 600.0
    """How long a fresh batch may answer 404 before we believe it."""
    max_attempts: int = 5
    cleanup_tries: int = 8
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


class Abandon(msgspec.Struct, frozen=True):
    """Give up the rest of a shard of which nothing is running."""


class Rest(msgspec.Struct, frozen=True):
    """Nothing to do."""


Command: TypeAlias = Upload | Create | Find | Poll | CancelBatch | Collect | CleanUp | Abandon | Rest


# ---------------------------------------------------------------- events: what became of it


class UploadMeant(msgspec.Struct, frozen=True):
    """An upload leaves right after this is committed."""


class Uploaded(msgspec.Struct, frozen=True):
    file_id: str


class IntentMade(msgspec.Struct, frozen=True):
    """The create call leaves right after this is committed."""


class Created(msgspec.Struct, frozen=True):
    batch_id: str
    status: str = ""


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


class Absent(msgspec.Struct, frozen=True):
    """A listing that worked, and went back far enough, does not show the batch."""


class Held(msgspec.Struct, frozen=True):
    """Candidates exist and cannot be told apart yet. Wait; never send again."""

    trouble: Trouble


class StepFailed(msgspec.Struct, frozen=True):
    """A step that is safe to repeat did not work."""

    trouble: Trouble
    retry_after: float | None = None


class Polled(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider says about the batch.

    `queue_full`: refused after the create for want of quota, nothing ran, the file is still good.
    """

    status: str
    ended: bool
    rows_finished: int = 0
    queue_full: bool = False


class BatchMissing(msgspec.Struct, frozen=True):
    """The provider answered that it does not know the batch."""

    trouble: Trouble


class CancelSent(msgspec.Struct, frozen=True):
    batch_id: str
    twin: bool = False


class Collected(msgspec.Struct, frozen=True):
    """The attempt's outcomes are durable. `counts`: of all rows of the shard, over all attempts."""

    counts: Counts
    unsettled: int
    leftovers: tuple[str, ...] = ()


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
    | BatchMissing
    | CancelSent
    | Collected
    | Foreign
    | Cleaned
    | Abandoned
    | CancelAsked
    | Resumed
)


# ---------------------------------------------------------------- decisions


def decide(shard: Shard, policy: Policy) -> Command:
    """What to do with a shard that is due. Pure; the same answer for the same record, on any machine."""
    match shard.state:
        case State.PLANNED | State.UPLOADED if shard.cancel_requested:
            return Abandon()
        case State.PLANNED:
            return Upload() if policy.uploads_file else Create()
        case State.UPLOADED:
            return Create()
        case State.SUBMITTING:
            return Find()
        case State.RUNNING | State.CANCELLING if shard.refs.uncancelled:
            return CancelBatch(shard.refs.uncancelled[0], twin=True)
        case State.RUNNING if shard.cancel_requested and shard.refs.batch_id:
            return CancelBatch(shard.refs.batch_id)
        case State.RUNNING | State.CANCELLING:
            return Poll()
        case State.COLLECTING:
            return Collect()
        case State.CLEANING:
            return CleanUp(shard.strayed)
        case State.DONE | State.STOPPED:
            return Rest()


def apply(shard: Shard, event: Event, policy: Policy, now: float) -> Shard:
    """The shard after `event`. Raises IllegalStep, and changes nothing, where the table has no such step."""
    step = _TABLE.get((shard.state, type(event)))
    if step is None:
        raise IllegalStep(
            f"shard {shard.id} is {shard.state}: {type(event).__name__} is not a step from there"
        )
    return step(shard, event, policy, now)


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
        status="submitting",
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
    return _running(shard, (event.batch_id,), event.status, policy, now, adopted=False)


def _found(shard: Shard, event: Found, policy: Policy, now: float) -> Shard:
    if len(event.batch_ids) == 0 or set(event.batch_ids) & set(shard.refs.past):
        raise IllegalStep(f"shard {shard.id} cannot adopt {event.batch_ids}: empty, or known to be others")
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
    waiting = _again(shard, event.trouble, policy, now, event.retry_after, state=back, intent_at=None)
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
    if now < surely:
        trouble = shard.trouble or Trouble("create_unknown", "not listed yet; waiting until it cannot appear")
        return _again(shard, trouble, policy, now, min(backoff(shard.tries + 1, policy), surely - now))
    return _to(shard, _before_create(policy), now, intent_at=None)


def _wait_and_look(shard: Shard, event: Held | StepFailed, policy: Policy, now: float) -> Shard:
    wait = event.retry_after if isinstance(event, StepFailed) else None
    return _again(shard, event.trouble, policy, now, wait)


def _polled(shard: Shard, event: Polled, policy: Policy, now: float) -> Shard:
    if event.queue_full:
        past = (*shard.refs.past, *shard.refs.batches)
        trouble = Trouble("queue_full", "the provider's queue for this model is full; waiting for room")
        return _again(
            shard,
            trouble,
            policy,
            now,
            policy.quota_wait,
            state=_before_create(policy),
            status="waiting",
            intent_at=None,
            submitted_at=None,
            refs=_refs(shard, batch_id=None, twins=(), uncancelled=(), past=past),
        )
    if event.ended:
        return _to(
            shard,
            State.COLLECTING,
            now,
            status=event.status,
            ended_at=now,
            polls=shard.polls + 1,
            rows_finished=event.rows_finished,
        )
    age = now - (shard.submitted_at if shard.submitted_at is not None else now)
    return _to(
        shard,
        shard.state,
        now + poll_delay(age, policy),
        status=event.status,
        polls=shard.polls + 1,
        rows_finished=event.rows_finished,
    )


def _batch_missing(shard: Shard, event: BatchMissing, policy: Policy, now: float) -> Shard:
    age = now - (shard.submitted_at if shard.submitted_at is not None else now)
    if age <= policy.missing_grace:
        return _again(shard, event.trouble, policy, now)
    # Sending it again could pay for it twice: the batch may live on under a key that we do not have.
    return _to(shard, State.STOPPED, now, trouble=event.trouble, status="missing")


def _cancel_sent(shard: Shard, event: CancelSent, policy: Policy, now: float) -> Shard:
    if event.twin:
        left = tuple(b for b in shard.refs.uncancelled if b != event.batch_id)
        return _to(shard, shard.state, now, refs=_refs(shard, uncancelled=left))
    return _to(shard, State.CANCELLING, now + policy.poll_first, status="cancelling")


def _collected(shard: Shard, event: Collected, policy: Policy, now: float) -> Shard:
    again = event.unsettled if shard.attempt < shard.last_attempt else 0
    refs = _refs(shard, leftovers=tuple(dict.fromkeys((*shard.refs.leftovers, *event.leftovers))))
    return _to(shard, State.CLEANING, now, counts=event.counts, unsettled=again, refs=refs)


def _foreign(shard: Shard, event: Foreign, policy: Policy, now: float) -> Shard:
    past = (*shard.refs.past, *shard.refs.batches)
    return _to(
        shard,
        State.SUBMITTING,
        now,
        submitted_at=None,
        ended_at=None,
        refs=_refs(shard, batch_id=None, twins=(), uncancelled=(), leftovers=(), past=past),
    )


def _cleaned(shard: Shard, event: Cleaned, policy: Policy, now: float) -> Shard:
    past = (*shard.refs.past, *shard.refs.batches)
    if shard.unsettled and not shard.cancel_requested:
        return _to(
            shard,
            State.PLANNED,
            now,
            attempt=shard.attempt + 1,
            rows_left=shard.unsettled,
            uploads=0,
            uploaded=0,
            insist=False,
            unsettled=0,
            refs=Refs(past=past),
            intent_at=None,
            submitted_at=None,
            ended_at=None,
            polls=0,
            rows_finished=0,
            status="retrying",
        )
    return _to(shard, State.DONE, now, unsettled=0, refs=Refs(past=past), rows_left=0, uploads=0, uploaded=0)


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
    return msgspec.structs.replace(shard, cancel_requested=True, next_at=min(shard.next_at, now))


def _resumed(shard: Shard, event: Resumed, policy: Policy, now: float) -> Shard:
    if shard.state is State.STOPPED and shard.status == "missing":
        return _to(shard, State.RUNNING, now, submitted_at=now)
    if shard.state is State.DONE and not event.rows:
        raise IllegalStep(f"shard {shard.id} has no row to try again")
    # A number is never used twice once results may carry it.
    attempt = shard.attempt if shard.state is State.STOPPED else shard.attempt + 1
    return _to(
        shard,
        State.PLANNED,
        now,
        attempt=attempt,
        last_attempt=attempt + policy.max_attempts - 1,
        rows_left=event.rows or shard.rows_left,
        insist=shard.state is State.DONE,
        cancel_requested=False,
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
    (State.PLANNED, CancelAsked): _cancel_asked,
    (State.UPLOADED, IntentMade): _intent_made,
    (State.UPLOADED, Abandoned): _abandoned,
    (State.UPLOADED, CancelAsked): _cancel_asked,
    (State.SUBMITTING, Created): _created,
    (State.SUBMITTING, CreateRefused): _create_refused,
    (State.SUBMITTING, CreateUnknown): _create_unknown,
    (State.SUBMITTING, SenderGone): _sender_gone,
    (State.SUBMITTING, Found): _found,
    (State.SUBMITTING, Absent): _absent,
    (State.SUBMITTING, Held): _wait_and_look,
    (State.SUBMITTING, StepFailed): _wait_and_look,
    (State.SUBMITTING, CancelAsked): _cancel_asked,
    (State.RUNNING, Polled): _polled,
    (State.RUNNING, StepFailed): _wait_and_look,
    (State.RUNNING, BatchMissing): _batch_missing,
    (State.RUNNING, CancelSent): _cancel_sent,
    (State.RUNNING, CancelAsked): _cancel_asked,
    (State.CANCELLING, Polled): _polled,
    (State.CANCELLING, StepFailed): _wait_and_look,
    (State.CANCELLING, BatchMissing): _batch_missing,
    (State.CANCELLING, CancelSent): _cancel_sent,
    (State.CANCELLING, CancelAsked): _cancel_asked,
    (State.COLLECTING, Collected): _collected,
    (State.COLLECTING, Foreign): _foreign,
    (State.COLLECTING, StepFailed): _wait_and_look,
    (State.COLLECTING, CancelAsked): _cancel_asked,
    (State.CLEANING, Cleaned): _cleaned,
    (State.CLEANING, StepFailed): _cleaning_failed,
    (State.CLEANING, CancelAsked): _cancel_asked,
    (State.STOPPED, Resumed): _resumed,
    (State.DONE, Resumed): _resumed,
}


def transitions() -> dict[State, tuple[str, ...]]:
    """The table by state, for the documentation and for property tests."""
    return {state: tuple(sorted(event.__name__ for s, event in _TABLE if s is state)) for state in State}
