"""A bill against the ledger, by hand: every verdict, days that do not match, and what must not be found."""

from collections import Counter
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfrate.base.types import Usage
from halfrate.core.bills import BillLine, Names, signature
from halfrate.core.reconcile import Doubt, Finding, Owed, Terms, reconcile
from halfrate.core.statements import Statement

DAY = 20_000
BATCH, STANDARD = (200_000, 800_000), (400_000, 1_600_000)
"""Picodollars for a token in and out."""


def line(
    day: int = DAY, read: int = 0, written: int = 0, *, rates: tuple[int, int] = BATCH, **more: Any
) -> list[BillLine]:
    """Lines of a bill for tokens read and written. `money=False`: a usage report."""
    priced = more.pop("money", True)
    more = {"provider": "openai", "model": "gpt-4.1-mini", "tier": "batch", **more}
    counted = more.pop("counted", True)
    return [
        BillLine(
            day=day,
            kind=kind,
            quantity=count if counted else None,
            money=count * rate if priced else None,
            **more,
        )
        for kind, count, rate in (("input", read, rates[0]), ("output", written, rates[1]))
        if count
    ]


def owed(day: int = DAY, read: int = 0, written: int = 0, **more: Any) -> Owed:
    rates = BATCH if more.get("tier", "batch") == "batch" else STANDARD
    cost = read * rates[0] + written * rates[1]
    dear = read * STANDARD[0] + written * STANDARD[1]
    more = {"provider": "openai", "model": "gpt-4.1-mini", "tier": "batch", "job": "a", "cost": cost, **more}
    return Owed(day=day, usage=Usage(input=read, output=written), realtime_cost=dear, **more)


def match(
    bill: list[BillLine],
    ledger: list[Owed],
    *,
    basis: Any = "cost",
    slack: int = 1,
    tolerance: Fraction = Fraction(1, 200),
    first: int = DAY - 10,
    end: int = DAY + 20,
    doubts: tuple[Doubt, ...] = (),
) -> list[Finding]:
    names = Names(lambda _provider, _name: None)
    names.learn("openai", ("gpt-4.1-mini", "gpt-4.1-nano"))
    statement = Statement(names)
    for one in bill:
        statement.add(basis, one)
    statement.expect(basis, "openai")
    terms = Terms(tolerance=tolerance, days_slack=slack, first=first, end=end)
    return reconcile(statement, ledger, terms, doubts=doubts)


def verdicts(found: list[Finding]) -> list[str]:
    return sorted(one.verdict for one in found)


def only(found: list[Finding]) -> Finding:
    (one,) = found
    return one


# ---------------------------------------------------------------- each verdict


def test_the_same_agrees() -> None:
    one = only(match(line(read=1000, written=300), [owed(read=1000, written=300)]))
    assert (one.verdict, one.off, one.billed_tokens) == ("agreed", 0, (1000, 0, 0, 300))


def test_nothing_is_nothing() -> None:
    assert match([], []) == []


def test_what_is_billed_alone_is_unknown_to_us() -> None:
    one = only(match(line(read=1000, written=300, hints=("proj_x",)), []))
    assert (one.verdict, one.off, one.names) == ("unknown to us", 440_000_000, ("proj_x",))


def test_calls_in_doubt_are_candidates_for_it() -> None:
    doubt = Doubt(day=DAY, provider="openai", model="gpt-4.1-mini", tier="standard", calls=3)
    bill = line(read=100, written=20, tier="standard", rates=STANDARD)
    assert "3 calls" in only(match(bill, [], doubts=(doubt,))).why
    assert only(match(line(read=100, written=20), [], doubts=(doubt,))).why == ""


def test_what_is_in_the_ledger_alone_is_not_billed() -> None:
    one = only(match([], [owed(read=1000, written=300)]))
    assert (one.verdict, one.off, one.names) == ("not billed", -440_000_000, ("a",))


def test_twice_the_tokens_are_billed_twice() -> None:
    bill = line(read=1000, written=300)
    one = only(match(bill + bill, [owed(read=1000, written=300)]))
    assert (one.verdict, one.off) == ("billed twice", 440_000_000)


def test_one_job_of_two_may_be_billed_twice_or_not_at_all() -> None:
    ours = [owed(read=1000, written=300, job="a"), owed(read=700, written=900, job="b")]
    a, b = line(read=1000, written=300), line(read=700, written=900)
    twice = match(a + b + b, ours)
    assert verdicts(twice) == ["agreed", "billed twice"]
    assert next(one.names for one in twice if one.verdict == "billed twice") == ("b",)
    missing = match(a, ours)
    assert verdicts(missing) == ["agreed", "not billed"]
    assert next((one.names, one.off) for one in missing if one.verdict == "not billed") == (
        ("b",),
        -860_000_000,
    )


def test_batch_rows_at_the_standard_price_lack_the_discount() -> None:
    ours = [owed(read=1000, written=300)]
    by_price = only(match(line(read=1000, written=300, rates=STANDARD), ours))
    by_tier = only(match(line(read=1000, written=300, rates=STANDARD, tier="standard"), ours))
    by_tokens = only(match(line(read=1000, written=300, tier="standard", money=False), ours, basis="usage"))
    assert {one.verdict for one in (by_price, by_tier, by_tokens)} == {"discount missing"}
    assert by_price.off == by_tier.off == 440_000_000


def test_a_bill_that_tells_no_tiers_is_matched_as_a_whole() -> None:
    ours = [owed(read=1000, written=300), owed(read=50, written=20, tier="standard", job="b")]
    bill = line(read=1000, written=300, tier="") + line(read=50, written=20, rates=STANDARD, tier="")
    assert only(match(bill, ours)).verdict == "agreed"
    dear = line(read=1050, written=320, rates=STANDARD, tier="")
    assert only(match(dear, ours)).verdict == "discount missing"


def test_work_billed_in_another_tier_at_our_price_agrees() -> None:
    found = match(line(read=1000, written=300, tier="standard"), [owed(read=1000, written=300)])
    assert (only(found).verdict, only(found).why) == ("agreed", "billed as standard, at our price")


def test_another_price_or_other_tokens_differ() -> None:
    ours = [owed(read=1000, written=300)]
    price = only(match(line(read=1000, written=300, rates=(260_000, 1_040_000)), ours))
    assert (price.verdict, price.why) == ("differs", "the same tokens at 1.3 times our price")
    tokens = only(match(line(read=1000, written=411), ours))
    assert (tokens.verdict, tokens.why) == ("differs", "411 tokens output billed, 300 here")


def test_rounding_is_named_where_it_may_be_the_reason() -> None:
    bill = line(read=1_000_000, rates=(200_000, 0))
    one = only(match(bill, [owed(read=1_000_000, cost=202_469 * 10**6)], tolerance=Fraction(0)))
    assert (one.verdict, "rounding one line" in one.why) == ("differs", True)


def test_a_fee_is_a_fee() -> None:
    fee = BillLine(day=DAY, provider="openai", kind="web search", quantity=5, money=50_000_000_000)
    found = match([fee, *line(read=1000, written=300)], [owed(read=1000, written=300)])
    assert verdicts(found) == ["agreed", "fee"]
    one = next(one for one in found if one.verdict == "fee")
    assert (one.fee, one.quantity, one.off) == ("web search", 5, 50_000_000_000)


def test_a_tenth_more_is_a_fee_where_work_is_bound_to_a_region() -> None:
    dear = (220_000, 880_000)
    bound = only(
        match(line(read=1000, written=300, rates=dear, region_bound=True), [owed(read=1000, written=300)])
    )
    free = only(match(line(read=1000, written=300, rates=dear), [owed(read=1000, written=300)]))
    assert (bound.verdict, free.verdict) == ("fee", "differs")


# ---------------------------------------------------------------- who and what


def test_a_strangers_use_beside_ours_is_told_from_it() -> None:
    ours = line(read=1000, written=300, hints=("mine",))
    found = match(ours + line(read=400, written=77, hints=("theirs",)), [owed(read=1000, written=300)])
    assert verdicts(found) == ["agreed", "unknown to us"]
    assert next(one.names for one in found if one.verdict == "unknown to us") == ("theirs",)


def test_one_project_of_two_may_be_off() -> None:
    ours = [owed(read=1000, written=300, job="a"), owed(read=700, written=900, job="b")]
    bill = line(read=1000, written=300, hints=("p",)) + line(read=700, written=1111, hints=("q",))
    found = match(bill, ours)
    assert verdicts(found) == ["agreed", "differs"]
    assert next(one.names for one in found if one.verdict == "differs") == ("b",)


def test_a_name_that_nobody_knows_means_what_has_the_same_tokens() -> None:
    bill = [
        *line(read=1234, written=567, model="my-deployment"),
        *line(DAY + 3, 10, 7, model="my-deployment"),
    ]
    found = match(bill, [owed(read=1234, written=567), owed(DAY + 3, 10, 7)])
    assert verdicts(found) == ["agreed", "agreed"]
    assert verdicts(match(line(read=1, written=5, model="other"), [owed(read=1234)])) == [
        "not billed",
        "unknown to us",
    ]


def test_a_bill_without_models_is_matched_day_by_day() -> None:
    bill = [
        BillLine(day=DAY + n, provider="openai", money=amount) for n, amount in ((0, 640_000_000), (1, 5))
    ]
    ours = [owed(read=1000, written=300), owed(read=200, written=200, model="gpt-4.1-nano")]
    found = match(bill, ours, slack=0)
    assert [(one.model, one.verdict) for one in found] == [("(all)", "agreed"), ("(all)", "unknown to us")]


def test_a_tolerance_is_what_it_says() -> None:
    ours = [owed(read=1_000_000)]
    for rate, verdict in ((200_999, "agreed"), (201_100, "differs")):
        assert only(match(line(read=1_000_000, rates=(rate, 0)), ours)).verdict == verdict
    exact = only(match(line(read=1_000_000, rates=(200_001, 0)), ours, tolerance=Fraction(0)))
    assert exact.verdict == "differs"


def test_cents_are_allowed_for_where_a_form_rounds_to_them() -> None:
    bill = [
        BillLine(day=DAY, provider="openai", model="gpt-4.1-mini", tier="batch", kind="input", money=10**10)
    ]
    ours = [owed(read=70_000)]
    assert only(match(bill, ours)).verdict == "differs"
    rounded = [msgspec.structs.replace(bill[0], rounding=5 * 10**9)]
    assert only(match(rounded, ours)).verdict == "agreed"


def test_money_alone_is_twice_as_much_for_two_reasons() -> None:
    ours = [owed(read=1000, written=300)]
    once = line(read=1000, written=300, counted=False)
    assert only(match(once + once, ours)).verdict == "billed twice"
    assert (
        only(match(line(read=1000, written=300, rates=STANDARD, counted=False), ours)).verdict
        == "discount missing"
    )


def test_an_unknown_price_is_no_agreement_on_money() -> None:
    ours = [owed(read=1000, written=300, cost=None)]
    assert (
        only(match(line(read=1000, written=300, counted=False), ours)).why
        == "the price is not in the price book"
    )
    assert only(match(line(read=1000, written=300), ours)).verdict == "agreed"  # the tokens do


# ---------------------------------------------------------------- days


def test_a_batch_that_ran_past_midnight_agrees() -> None:
    bill = line(DAY, 400, 120) + line(DAY + 1, 600, 180)
    one = only(match(bill, [owed(DAY + 1, 1000, 300)]))
    assert (one.verdict, one.first, one.last) == ("agreed", DAY, DAY + 1)
    assert verdicts(match(bill, [owed(DAY + 1, 1000, 300)], slack=0)) == ["differs", "unknown to us"]


def test_a_chain_of_nights_agrees() -> None:
    """Every batch runs past midnight, and what ran after it is on the bill of the next day."""
    early, late = (41, 52, 63, 74), (7, 18, 29, 30)
    bill = [one for n in range(5) for one in line(DAY + n, (*early, 0)[n] + (0, *late)[n], 10 * (n < 4))]
    ledger = [owed(DAY + n + 1, early[n] + late[n], 10, job=str(n)) for n in range(4)]
    one = only(match(bill, ledger))
    assert (one.verdict, one.first, one.last) == ("agreed", DAY, DAY + 4)


def test_days_that_look_alike_are_not_each_others() -> None:
    """Much the same is run every day: one charge missing and the next one double are two things."""
    bill = line(DAY + 1, 2000, 600)
    found = match(bill, [owed(DAY, 1003, 300, job="a"), owed(DAY + 1, 1000, 300, job="b")])
    assert verdicts(found) == ["billed twice", "not billed"]


def test_a_late_job_is_taken_back_to_the_day_it_ran_on() -> None:
    """Two jobs ran on one day, one was collected on the next, and all of that day was billed at another amount."""
    bill = line(DAY, 1700, 1800) + line(DAY + 1, 50, 5)
    ledger = [owed(DAY, 1000, 300, job="a"), owed(DAY + 1, 700, 900, job="b"), owed(DAY + 1, 50, 5, job="c")]
    found = match(bill, ledger)
    assert verdicts(found) == ["agreed", "differs"]
    assert next(one.first for one in found if one.verdict == "differs") == DAY


def test_only_the_days_that_are_asked_for_are_judged() -> None:
    bill = line(DAY - 1, 40, 5) + line(DAY, 1000, 300) + line(DAY + 2, 7, 7)
    ledger = [owed(DAY, 1000, 300), owed(DAY + 2, 9, 9)]
    assert verdicts(match(bill, ledger, first=DAY, end=DAY + 1)) == ["agreed"]


def test_the_edge_of_a_bill_is_named() -> None:
    one = only(match([], [owed(DAY, 1000, 300)], first=DAY, end=DAY + 5))
    assert one.why == "may be on the bill of the day before"


# ---------------------------------------------------------------- properties

amounts = st.tuples(st.integers(0, 6), st.integers(1, 10**6), st.integers(1, 10**6))


@given(jobs=st.lists(amounts, max_size=12))
def test_a_faithful_bill_agrees_to_the_picodollar(jobs: list[tuple[int, int, int]]) -> None:
    bill = [one for day, read, written in jobs for one in line(DAY + day, read, written)]
    ledger = [owed(DAY + day, read, written, job=str(n)) for n, (day, read, written) in enumerate(jobs)]
    found = match(bill, ledger, tolerance=Fraction(0))
    assert {one.verdict for one in found} <= {"agreed"}
    assert sum(one.billed or 0 for one in found) == sum(one.ours or 0 for one in found)


@given(jobs=st.lists(amounts, max_size=8), late=st.lists(st.booleans(), min_size=8, max_size=8))
def test_collected_a_day_late_agrees_as_well(jobs: list[tuple[int, int, int]], late: list[bool]) -> None:
    """One job a day at most, so that which one is late is not in question."""
    days = {day: (read, written) for day, read, written in jobs}
    bill = [one for day, (read, written) in days.items() for one in line(DAY + 2 * day, read, written)]
    ledger = [
        owed(DAY + 2 * day + late[day], read, written, job=str(day)) for day, (read, written) in days.items()
    ]
    assert {one.verdict for one in match(bill, ledger, tolerance=Fraction(0))} <= {"agreed"}


@given(
    bill=st.lists(amounts, max_size=8),
    ledger=st.lists(amounts, max_size=8),
    counted=st.booleans(),
)
def test_no_amount_is_lost_or_counted_again(
    bill: list[tuple[int, int, int]], ledger: list[tuple[int, int, int]], counted: bool
) -> None:
    """Whatever is said of them, all that was billed and all that is in the ledger comes out once."""
    lines = [one for day, read, written in bill for one in line(DAY + day, read, written, counted=counted)]
    ours = [owed(DAY + day, read, written, job=str(n)) for n, (day, read, written) in enumerate(ledger)]
    found = match(lines, ours)
    assert sum(one.billed or 0 for one in found) == sum(one.money or 0 for one in lines)
    assert sum(one.ours or 0 for one in found) == sum(one.cost or 0 for one in ours)


# ---------------------------------------------------------------- names

SAME = [
    ("gpt 4.1 nano", "gpt-4.1-nano-2025-04-14"),
    ("gpt-4o-mini-0718", "gpt-4o-mini-2024-07-18"),
    ("gpt-35-turbo", "gpt-3.5-turbo"),
    ("NovaLite", "amazon.nova-lite-v1:0"),
    ("Nova2.0Lite", "global.amazon.nova-2-lite-v1:0".removeprefix("global.")),
    ("Llama3-3-70B", "meta.llama3-3-70b-instruct-v1:0"),
    ("MistralLarge", "mistral.mistral-large-2402-v1:0"),
    ("TitanEmbeddingV2-Text", "amazon.titan-embed-text-v2:0"),
    ("Claude Haiku 4.5", "us.anthropic.claude-haiku-4-5-20251001-v1:0"),
    ("Claude 3.5 Sonnet v2", "anthropic.claude-3-5-sonnet-20241022-v2:0"),
    ("gpt-oss-120b", "openai.gpt-oss-120b-1:0"),
    ("gemini 3 flash", "gemini-3-flash-preview"),
]
OTHER = [
    ("gpt-4.1", "gpt-4.1-mini"),
    ("claude-3-5-sonnet-20241022-v2:0", "claude-3-5-sonnet-20240620-v1:0"),
    ("global.anthropic.claude-haiku-4-5-v1:0", "us.anthropic.claude-haiku-4-5-v1:0"),
    ("gemini-2.5-flash", "gemini-2.5-flash-lite"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_names_that_mean_the_same(one: str, other: str) -> None:
    assert signature(one) == signature(other)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_names_that_do_not(one: str, other: str) -> None:
    assert signature(one) != signature(other)


def test_the_books_word_goes_before_likeness() -> None:
    names = Names(lambda _, name: {"fast": "gpt-4.1-nano"}.get(name))
    names.learn("openai", ("gpt-4.1-mini", "gpt-4.1-nano"))
    found = Counter(names.find("openai", name) for name in ("fast", "GPT 4.1 Mini", "gpt-4.1-mini", "else"))
    assert found == {"gpt-4.1-nano": 1, "gpt-4.1-mini": 2, None: 1}
