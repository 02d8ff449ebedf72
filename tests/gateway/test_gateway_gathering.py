"""What becomes of calls that were gathered, whoever dies on the way; steps are taken by hand."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import openai
import pytest

from halfrate.base.clock import SystemClock
from halfrate.core.budgets import Budget
from halfrate.core.deferral import KEPT, Deferred, Group
from halfrate.core.surface import BatchState
from halfrate.emulator import Pace
from halfrate.service.gathering import Gathered, Gatherer

from .house import SLOW, ByHand, House, by_hand, ledger_is_meter

Open = Callable[..., House]
MODEL = "openai/gpt-4.1-mini"
PATIENT = {"halfrate-deadline": "8h"}


def a_call(number: int, *, team: str = "default", body: bytes | None = None, **group: Any) -> Gathered:
    now = time.time()
    call = Deferred(
        id=f"call_{number}",
        team=team,
        key_id="k",
        surface="openai",
        endpoint=group.get("endpoint", "chat"),
        model=group.get("model", MODEL),
        asked="gpt-4.1-mini",
        digest=str(number),
        created_at=now,
        deadline=now + 28_800,
    )
    terms = Group(
        "openai", call.endpoint, call.model, call.model.partition("/")[2], (("team", team),), (), 25
    )
    question = b'{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"Parcel %d"}]}' % number
    return Gathered(call, terms, body or question)


def a_gatherer(at: ByHand, longest: float = 3_600.0) -> Gatherer:
    return Gatherer(at.service.deferred, at.shelf.places, SystemClock(), longest=longest)


def ran(at: ByHand, seconds: float = 30.0) -> None:
    """Carry everything to its end."""

    async def work() -> None:
        await at.service.work(drain=True)

    deadline = time.monotonic() + seconds
    while at.service.surfaces.next_batch() is not None:
        assert time.monotonic() < deadline
        for held in at.service.surfaces.claim_batches(at.service.owner, time.time() + 3_600, 60.0):
            at.keeper.step(held)
        asyncio.run(work())


def answers(at: ByHand) -> dict[str, tuple[int, bytes]]:
    """What each call was answered: the status, and the body."""
    found: dict[str, tuple[int, bytes]] = {}
    for call_id in at.service.deferred.ended_since(0.0):
        call = at.service.deferred.find("default", call_id)
        assert call is not None
        assert call.answer is not None
        body = at.shelf.places.answer(call.answer.file, call.answer.at, call.answer.size)
        assert body is not None
        found[call_id] = call.answer.status, body
    return found


def test_a_process_that_dies_with_an_open_gathering_leaves_it_to_others(house: Open) -> None:
    with by_hand(house()) as at:
        gatherer = a_gatherer(at)
        assert gatherer.gather([a_call(1), a_call(2)]).keys() == {"call_1", "call_2"}
        # It dies here, in the middle of a line: nothing of that was ever promised to anybody.
        (folder,) = (at.service.home.root / "gateway" / "batches").iterdir()
        with (folder / "input.jsonl").open("ab") as file:
            file.write(
                b'{"custom_id":"call_9","method":"POST","url":"/v1/chat/completions","body":{}}\n{"cust'
            )
        ran(at)
        found = answers(at)
        assert found.keys() == {"call_1", "call_2"}
        for number in (1, 2):
            status, body = found[f"call_{number}"]
            assert status == 200
            assert f"Parcel {number}".encode() in body


def test_a_process_that_was_held_up_begins_anew(house: Open) -> None:
    home = house()
    with by_hand(home) as at:
        gatherer = a_gatherer(at)
        first = gatherer.gather([a_call(1)])["call_1"]
        # Its gathering has been due for long, and a keeper has taken it.
        (held,) = at.service.surfaces.claim_batches(at.service.owner, time.time() + 9_999, 60.0)
        second = gatherer.gather([a_call(2)])["call_2"]
        assert first != second
        assert held.batch.id == first
        at.keeper.step(held)
        gatherer.close_all()
        ran(at)
        assert {status for status, _ in answers(at).values()} == {200}
        assert answers(at).keys() == {"call_1", "call_2"}
    assert home.meter()["rows_billed"] == 2


def test_calls_on_other_terms_go_elsewhere(house: Open) -> None:
    with by_hand(house()) as at:
        gatherer = a_gatherer(at)
        places = gatherer.gather(
            [a_call(1), a_call(2, model="anthropic/claude-haiku-4-5"), a_call(3, team="ads"), a_call(4)]
        )
        assert places["call_1"] == places["call_4"]
        assert len(set(places.values())) == 3


def test_a_gathering_is_closed_when_it_has_waited_long_enough(house: Open) -> None:
    with by_hand(house()) as at:
        gatherer = a_gatherer(at, longest=0.05)
        batch_id = gatherer.gather([a_call(1)])["call_1"]
        assert gatherer.close_due() is not None
        time.sleep(0.06)
        assert gatherer.close_due() is None
        found = at.service.surfaces.gathering(batch_id)
        assert found is not None
        assert found.state is BatchState.VALIDATING


def test_a_row_that_cannot_be_run_keeps_no_other_from_it(house: Open) -> None:
    home = house()
    with by_hand(home) as at:
        gatherer = a_gatherer(at)
        many = b'{"model":"text-embedding-3-small","input":[%b]}' % b",".join([b'"a"'] * 50_001)
        one = b'{"model":"text-embedding-3-small","input":["a","b"]}'
        terms = {"endpoint": "embeddings", "model": "openai/text-embedding-3-small"}
        gatherer.gather(
            [
                a_call(number, body=body, **terms)
                for number, body in enumerate([one, many, one.replace(b'"a"', b'"c"')])
            ]
        )
        gatherer.close_all()
        ran(at)
        found = answers(at)
        assert {name: status for name, (status, _) in found.items()} == {
            "call_0": 200,
            "call_1": 400,
            "call_2": 200,
        }
        assert b"50,001" in found["call_1"][1]
    assert home.meter()["rows_billed"] == 2
    ledger_is_meter(home)


def test_old_answers_are_swept_and_those_that_are_waited_for_are_not(house: Open) -> None:
    with by_hand(house()) as at:
        gatherer = a_gatherer(at)
        gatherer.gather([a_call(1)])
        gatherer.close_all()
        ran(at)
        assert answers(at)
        gatherer.sweep(time.time())
        assert answers(at)
        gatherer.sweep(time.time() + KEPT + 60)
        assert at.service.deferred.find("default", "call_1") is None
        assert list((at.service.home.root / "gateway" / "answers").iterdir()) == []


def test_calls_are_answered_as_their_rows_are_done(house: Open) -> None:
    # A row in two fails at first; what is tried again takes its time.
    home = house(
        "row-error:match=Late,times=1,status=500",
        pace=Pace(validate=0.0, queue=3.0, per_1000_rows=1.0, finalize=0.0, cancel=0.0),
    )
    key = home.key()[1]
    came: dict[str, float] = {}

    async def ask() -> None:
        async with openai.AsyncOpenAI(base_url=f"{home.server.url}/v1", api_key=key, max_retries=0) as client:

            async def one(text: str) -> None:
                messages: Any = [{"role": "user", "content": text}]
                reply = await client.chat.completions.create(
                    model="gpt-4.1-mini", messages=messages, extra_headers=PATIENT
                )
                assert text in (reply.choices[0].message.content or "")
                came[text] = time.monotonic()

            await asyncio.gather(*map(one, ("Soon", "Late")))

    asyncio.run(ask())
    (job,) = home.service.jobs()
    assert home.service.report(job.id).attempts == 2
    assert came["Late"] > came["Soon"] + 0.2
    ledger_is_meter(home)


def test_a_budget_that_is_spent_stops_a_call_before_it_waits(house: Open) -> None:
    home = house()
    home.service.set_budget(Budget(name="", value="", period="day", stop=1))
    client = home.client(home.key()[1])
    deadline = time.monotonic() + 15
    while True:
        try:
            client.chat.completions.create(
                model="gpt-4.1-mini", messages=[{"role": "user", "content": "Hi"}], extra_headers=PATIENT
            )
        except openai.APIStatusError as error:
            refused = error
            break
        # The gateway looks at budgets every few seconds.
        assert time.monotonic() < deadline
    assert refused.status_code == 402
    assert refused.body
    assert home.service.deferred.count() == 0


def test_an_account_that_is_gone_answers_every_call_that_waited_for_it(
    house: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = house()
    with by_hand(home) as at:
        gatherer = a_gatherer(at)
        gatherer.gather([a_call(1), a_call(2)])
        gatherer.close_all()
        monkeypatch.delenv("OPENAI_API_KEY")
        ran(at)
        found = answers(at)
        assert {status for status, _ in found.values()} == {500}
        # What is not set up here is nobody's business but the log's.
        assert all(b"OPENAI_API_KEY" not in body for _, body in found.values())
    assert home.meter()["creates_received"] == 0


@pytest.mark.parametrize("pace", [SLOW])
def test_a_call_whose_caller_hangs_up_is_answered_all_the_same(house: Open, pace: Pace) -> None:
    home = house(pace=pace)
    key = home.key()[1]
    with pytest.raises(openai.APITimeoutError):
        home.client(key, timeout=1.0).chat.completions.create(
            model="gpt-4.1-mini", messages=[{"role": "user", "content": "Hi"}], extra_headers=PATIENT
        )
    assert home.service.deferred.count() == 1
