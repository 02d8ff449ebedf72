"""What a job should take: a prior where nothing is known, and what earlier jobs took where something is."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfrate.core.estimates import BYTES_PER_TOKEN, OUTPUT, Sample, Span, estimate


def sample(
    *, same: bool = True, rows: int = 1000, per_byte: float = 0.25, each: int = 40, cached: int = 0
) -> Sample:
    size = rows * 400.0
    read = round(size * per_byte)
    return Sample(same=same, rows=rows, text_bytes=size, input=read, cached=cached, output=rows * each)


def test_where_nothing_is_known_the_prior_says() -> None:
    found = estimate([], 10, 4200, max_tokens=None, answers=True)
    assert found.basis == "nothing"
    assert msgspec.structs.astuple(found.input) == pytest.approx([4200 / count for count in BYTES_PER_TOKEN])
    assert found.output == Span(*(10 * count for count in OUTPUT))


def test_the_same_prompt_goes_before_the_same_model() -> None:
    others = [sample(same=False, each=400), sample(each=40)]
    found = estimate(others, 100, 40_000, max_tokens=None, answers=True)
    assert found.basis == "prompt"
    assert (found.input.likely, found.output.likely) == (10_000, 4_000)
    model = estimate(others[:1], 100, 40_000, max_tokens=None, answers=True)
    assert model.basis == "model"
    assert model.output.likely == 40_000
    assert model.output.high / model.output.low > found.output.high / found.output.low


def test_an_answer_is_no_longer_than_it_may_be_and_embeddings_have_none() -> None:
    found = estimate([sample(each=400)], 10, 4000, max_tokens=100, answers=True)
    assert found.output == Span(1000, 1000, 1000)
    assert estimate([], 10, 4000, max_tokens=7, answers=True).output.high == 70
    assert estimate([sample()], 10, 4000, max_tokens=None, answers=False).output == Span(0, 0, 0)


def test_more_rows_make_a_narrower_range() -> None:
    def width(before: int, rows: int) -> float:
        span = estimate([sample(rows=before)], rows, rows * 400, max_tokens=None, answers=True).output
        return (span.high - span.low) / span.likely

    assert width(10_000, 10_000) < width(10_000, 100) < width(100, 100)


def test_a_cache_is_expected_to_save_what_it_saved() -> None:
    half = [sample(cached=50_000), sample(cached=0)]
    assert estimate(half, 10, 4000, max_tokens=None, answers=True).cached == 0.25
    assert estimate([sample(same=False, cached=50_000)], 10, 4000, max_tokens=None, answers=True).cached == 0


def test_what_took_nothing_teaches_nothing() -> None:
    nothing = Sample(same=True, rows=0, text_bytes=0, input=0, cached=0, output=0)
    assert estimate([nothing], 10, 4000, max_tokens=None, answers=True).basis == "nothing"


@given(
    st.lists(
        st.builds(
            sample,
            same=st.booleans(),
            rows=st.integers(1, 10**6),
            per_byte=st.floats(0.1, 1),
            each=st.integers(0, 10_000),
        ),
        max_size=5,
    ),
    st.integers(1, 10**6),
    st.none() | st.integers(1, 5000),
)
def test_what_is_likely_lies_in_the_range(samples: list[Sample], rows: int, most: int | None) -> None:
    found = estimate(samples, rows, rows * 300, max_tokens=most, answers=True)
    for span in (found.input, found.output):
        assert 0 <= span.low <= span.likely <= span.high
    if most is not None:
        assert found.output.high <= rows * most + 1e-6


def test_the_range_holds_nine_times_in_ten() -> None:
    """Answers of exponential length: as spread as the range allows for."""
    dice = random.Random(7)
    held = 0
    for _ in range(300):
        before, rows = dice.choice((20, 200, 2000)), dice.choice((20, 200, 2000))
        old = sum(dice.expovariate(1 / 80) for _ in range(before))
        new = sum(dice.expovariate(1 / 80) for _ in range(rows))
        seen = Sample(
            same=True, rows=before, text_bytes=before * 400, input=before * 100, cached=0, output=round(old)
        )
        span = estimate([seen], rows, rows * 400, max_tokens=None, answers=True).output
        held += span.low <= new <= span.high
    assert held >= 270


def test_counted_tokens_go_before_a_guess_and_after_the_same_prompt() -> None:
    guess = estimate([], 10, 1000, max_tokens=None, answers=True)
    counted = estimate([], 10, 1000, max_tokens=None, answers=True, counted=333)
    assert counted.input.likely == pytest.approx(333)
    assert counted.input.low < 333 < counted.input.high < guess.input.high
    assert counted.output == guess.output
    same = Sample(same=True, rows=10, text_bytes=1000, input=400, cached=0, output=50)
    assert estimate(
        [same], 10, 1000, max_tokens=None, answers=True, counted=333
    ).input.likely == pytest.approx(400)
    other = Sample(same=False, rows=10, text_bytes=1000, input=400, cached=0, output=50)
    learned = estimate([other], 10, 1000, max_tokens=None, answers=True, counted=333)
    assert (learned.input.likely, learned.output.likely) == (pytest.approx(333), pytest.approx(50))
