"""The published examples of what waiting saves, and that the arithmetic is exact."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from halfrate.base.money import PICO, per_million
from halfrate.base.results import Tokens
from halfrate.base.types import Price, Rates
from halfrate.core.savings import Saving, of_rows, of_spend

REALTIME = Price(model="m", tier="standard", rates=Rates(input=per_million("3"), output=per_million("15")))
BATCH = Price(model="m", tier="batch", rates=Rates(input=per_million("1.5"), output=per_million("7.5")))
SHARES = st.fractions(min_value=0, max_value=1, max_denominator=10_000)


def test_a_weekly_run_of_200_000_rows() -> None:
    run = of_rows(200_000, Tokens(300, output=50), REALTIME, BATCH)
    assert run is not None
    assert run == Saving(330 * PICO, 165 * PICO)
    assert run.times(52).saved == 8_580 * PICO
    assert run.share == Fraction(1, 2)


def test_ten_million_tokens_a_day() -> None:
    day = of_rows(1, Tokens(8_000_000, output=2_000_000), REALTIME, BATCH)
    assert day is not None
    assert day == Saving(54 * PICO, 27 * PICO)
    assert day.times(30) == Saving(1_620 * PICO, 810 * PICO)


def test_a_bill_of_which_a_part_can_wait() -> None:
    bill = of_spend(10_000 * PICO, Fraction("0.4"), Fraction("0.5"), (Fraction("0.4"), Fraction("0.7")))
    assert bill.batch == 2_000 * PICO
    assert bill.rest == (2_400 * PICO, 4_200 * PICO)
    assert bill.total == (4_400 * PICO, 6_200 * PICO)
    assert bill.shares == (Fraction("0.44"), Fraction("0.62"))


def test_an_unknown_price_makes_the_saving_unknown() -> None:
    assert of_rows(1, Tokens(1, output=1), REALTIME, None) is None
    assert of_rows(1, Tokens(cached=1), REALTIME, BATCH) is None, "nobody knows what a cached token costs"


def test_nothing_saves_nothing() -> None:
    assert Saving(0, 0).share == 0
    assert of_spend(0, Fraction(1), Fraction(1), (Fraction(1), Fraction(1))).shares == (0, 0)


@given(st.integers(0, 10**18), SHARES, SHARES, SHARES, SHARES)
def test_nobody_saves_more_than_the_bill(
    spend: int, share: Fraction, discount: Fraction, low: Fraction, high: Fraction
) -> None:
    low, high = sorted((low, high))
    bill = of_spend(spend, share, discount, (low, high))
    assert 0 <= bill.batch <= bill.total[0] <= bill.total[1] <= spend
