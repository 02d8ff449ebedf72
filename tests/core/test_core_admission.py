"""Who is let into a provider's queue: fairness, urgency, and what refusals teach."""

from collections import Counter
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from halfrate.core.admission import Candidate, Held, Queue, Quota, accepted, admit, counted, refused


def candidate(name: str, **changes: Any) -> Candidate:
    plain = Candidate(shard_id=name, account="a", model="m", rows=10, tokens=1000)
    return msgspec.structs.replace(plain, **changes)


def held(tokens: int, team: str = "", batches: int = 1, accepted: int = 0) -> Held:
    size = {"tokens": tokens, "rows": 10 * batches, "batches": batches, "accepted": accepted}
    return Held(account="a", model="m", team=team, **size)


def tokens(most: int, model: str = "m") -> Quota:
    return Quota(account="a", model=model, kind="tokens", most=most)


def let_in(candidates: list[Candidate], *, quotas: tuple[Quota, ...] = (), **rest: Any) -> tuple[str, ...]:
    terms: dict[str, Any] = {"held": (), "creates": {}, "queues": (), "now": 0.0, "limit": 100, **rest}
    return admit(candidates, quotas=quotas, **terms).admitted


def test_a_queue_of_unknown_size_is_tried_with_a_few_and_then_with_as_many_as_it_took() -> None:
    waiting = [candidate(str(n)) for n in range(50)]
    assert len(let_in(waiting)) == 4
    assert let_in(waiting, held=(held(4000, batches=4),)) == ()
    assert len(let_in(waiting, held=(held(4000, batches=4, accepted=4),))) == 4
    assert len(let_in(waiting, held=(held(20_000, batches=20, accepted=20),))) == 20


def test_a_queue_of_known_size_is_filled_at_once() -> None:
    assert len(let_in([candidate(str(n)) for n in range(50)], quotas=(tokens(1_000_000),))) == 50


def test_what_the_provider_counts_is_learned() -> None:
    queue = counted(Queue(account="a", model="m"), 10_000, 7_000)
    assert queue.reckon(1000) == 700
    assert Queue(account="a", model="m").reckon(1000) == 1000
    for _ in range(3000):
        queue = counted(queue, 10_000, 20_000)
    assert queue.reckon(1000) == 2000


def test_the_limit_on_tokens_is_kept_with_some_room_to_spare() -> None:
    found = let_in([candidate(str(n)) for n in range(50)], quotas=(tokens(10_000),), held=(held(4500),))
    assert len(found) == 4


def test_the_earliest_deadline_comes_first() -> None:
    waiting = [candidate("none"), candidate("late", deadline=900.0), candidate("soon", deadline=300.0)]
    assert let_in(waiting, quotas=(tokens(2300),)) == ("soon", "late")


def test_who_has_had_least_comes_first_and_priority_doubles_a_share() -> None:
    waiting = [
        candidate(f"{team}{n}", team=team, priority=prio)
        for n in range(40)
        for team, prio in (("x", 0), ("y", 1))
    ]
    first = Counter(name[0] for name in let_in(waiting, quotas=(tokens(34_000),)))
    assert first == {"x": 10, "y": 20}


def test_a_team_with_a_thousand_shards_does_not_keep_out_one_with_three() -> None:
    waiting = [candidate(f"big{n}", team="big", deadline=1.0) for n in range(1000)]
    waiting += [candidate(f"small{n}", team="small") for n in range(3)]
    assert {"small0", "small1", "small2"} <= set(let_in(waiting, quotas=(tokens(7000),)))


def test_nobody_is_passed_over_for_asking_much() -> None:
    waiting = [candidate("big", tokens=8000, deadline=1.0), candidate("small", tokens=10, deadline=2.0)]
    assert let_in(waiting, quotas=(tokens(10_000),), held=(held(4000),)) == ()
    assert let_in(waiting, quotas=(tokens(10_000),)) == ("big", "small")


def test_a_batch_larger_than_the_queue_is_cut_to_it() -> None:
    decision = admit([candidate("big", rows=100, tokens=100_000)], (), {}, (tokens(10_000),), (), 0.0, 10)
    assert decision.admitted == ()
    assert decision.cut == (("big", 9),)


def test_a_single_row_larger_than_the_queue_is_tried_alone() -> None:
    assert let_in([candidate("row", rows=1, tokens=50_000)], quotas=(tokens(10_000),)) == ("row",)


def test_models_do_not_wait_for_each_other() -> None:
    waiting = [candidate("full"), candidate("free", model="n")]
    assert let_in(waiting, quotas=(tokens(1500),), held=(held(1400),)) == ("free",)


def test_limits_of_an_account_hold_for_all_of_its_models() -> None:
    rows = Quota(account="a", kind="rows", most=25)
    assert (
        len(let_in([candidate("1"), candidate("2", model="n"), candidate("3", model="o")], quotas=(rows,)))
        == 2
    )
    batches = Quota(account="a", kind="batches", most=3)
    assert (
        len(
            let_in(
                [candidate(str(n)) for n in range(9)],
                quotas=(batches,),
                held=(held(10, batches=2, accepted=2),),
            )
        )
        == 1
    )
    creates = Quota(account="a", kind="creates", most=100)
    assert (
        len(let_in([candidate(str(n)) for n in range(9)], quotas=(creates, tokens(10**9)), creates={"a": 95}))
        == 5
    )


def test_what_sends_nothing_needs_no_room() -> None:
    assert let_in([candidate("gone", free=True)], quotas=(tokens(1),), held=(held(10_000),)) == ("gone",)


def test_a_refusal_holds_the_queue_and_then_only_what_is_known_to_fit_goes_in() -> None:
    queue = refused(Queue(account="a", model="m"), 1000, 3000, 100.0, 60.0, 900.0, told=False)
    waiting = [candidate(str(n)) for n in range(9)]
    assert let_in(waiting, queues=(queue,), held=(held(1000),), now=159.0) == ()
    assert let_in(waiting, queues=(queue,), held=(held(1000),), now=160.0) == ("0", "1")
    assert let_in(waiting, queues=(queue,), held=(held(3000),), now=219.0) == ()


def test_after_a_while_one_batch_is_tried_beyond_what_is_known_to_fit() -> None:
    queue = refused(Queue(account="a", model="m"), 1000, 3000, 100.0, 60.0, 900.0, told=False)
    waiting = [candidate(str(n)) for n in range(9)]
    assert let_in(waiting, queues=(queue,), held=(held(3000),), now=220.0) == ("0",)
    # Not one more until the provider has taken that one in.
    assert let_in(waiting[1:], queues=(queue,), held=(held(4000),), now=221.0) == ()
    grown = accepted(queue, 4000)
    assert let_in(waiting[1:], queues=(grown,), held=(held(4000),), now=222.0) == ("1",)


def test_refusals_in_a_row_put_off_the_next_try_within_bounds() -> None:
    queue = Queue(account="a", model="m")
    waits: list[float] = []
    for _ in range(8):
        queue = refused(queue, 1000, 500, 0.0, 60.0, 900.0, told=True)
        waits.append(queue.probe_at)
    assert waits == sorted(waits)
    assert waits[0] == 120.0
    assert waits[-1] == 900.0
    assert accepted(queue, 1500).refusals == 0


def test_a_batch_that_is_refused_alone_is_taken_to_be_too_large() -> None:
    queue = Queue(account="a", model="m")
    for _ in range(3):
        queue = refused(queue, 8000, 0, 0.0, 60.0, 900.0, told=False)
    decision = admit([candidate("big", rows=80, tokens=8000)], (), {}, (), (queue,), 1000.0, 10)
    assert decision.cut == (("big", 40),)


class _Provider:
    """A queue that refuses what does not fit it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.inside: dict[str, Candidate] = {}
        self.refusals = 0

    @property
    def used(self) -> int:
        return sum(item.tokens for item in self.inside.values())


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2_000, 60_000),
    st.lists(st.tuples(st.sampled_from("xyz"), st.integers(100, 4_000)), min_size=20, max_size=120),
    st.booleans(),
)
def test_everything_gets_through_an_unknown_limit_without_thrashing(
    limit: int, shards: list[tuple[str, int]], told: bool
) -> None:
    """A hundred shards against a limit that only refusals tell of: all get in, and few are refused."""
    provider = _Provider(limit)
    waiting = {
        f"{n:03}": candidate(f"{n:03}", team=team, tokens=size, rows=size)
        for n, (team, size) in enumerate(shards)
    }
    queue = Queue(account="a", model="m")
    quotas: tuple[Quota, ...] = ()
    now = 0.0
    done = 0
    while waiting or provider.inside:
        now += 30.0
        holding = [
            Held(account="a", model="m", team=c.team, tokens=c.tokens, rows=c.rows, batches=1)
            for c in provider.inside.values()
        ]
        decision = admit(list(waiting.values()), holding, {}, quotas, (queue,), now, 16)
        for name, rows in decision.cut:
            whole = waiting.pop(name)
            for part, size in enumerate((rows, whole.rows - rows)):
                waiting[f"{name}.{part}"] = candidate(
                    f"{name}.{part}", team=whole.team, tokens=size, rows=size
                )
        for name in decision.admitted:
            item = waiting[name]
            if provider.used + item.tokens > provider.limit:
                provider.refusals += 1
                beside = provider.used
                queue = refused(queue, item.tokens, beside, now, 60.0, 900.0, told=told)
                if told:
                    quotas = (tokens(limit),)
            else:
                provider.inside[name] = waiting.pop(name)
                queue = accepted(queue, provider.used)
        # The oldest batch ends.
        if provider.inside:
            provider.inside.pop(next(iter(provider.inside)))
            done += 1
        assert now < 30.0 * 60 * 24 * 10
    assert done >= len(shards)
    assert provider.refusals <= 16 + 0.25 * done
