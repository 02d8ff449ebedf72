"""Calls that can wait: how long, with whom, and by what names."""

import pytest

from halfrate.core.deferral import bucket, digest_of, linger, without_suffix


@pytest.mark.parametrize(
    ("name", "model", "deadline"),
    [
        ("gpt-4.1-mini+2h", "gpt-4.1-mini", "2h"),
        ("openai/gpt-4.1-mini+90m", "openai/gpt-4.1-mini", "90m"),
        ("bedrock/amazon.nova-lite-v1:0+1.5d", "bedrock/amazon.nova-lite-v1:0", "1.5d"),
        ("vertex/claude-sonnet-4@20250514+8h", "vertex/claude-sonnet-4@20250514", "8h"),
        ("a+b+30min", "a+b", "30min"),
        ("c4ai-command-r+", "c4ai-command-r+", ""),
        ("gpt-4.1-mini", "gpt-4.1-mini", ""),
        ("llama+8b", "llama+8b", ""),
        ("+2h", "+2h", ""),
        ("gpt+2h\n", "gpt+2h\n", ""),
    ],
)
def test_a_deadline_may_stand_behind_the_name_of_a_model(name: str, model: str, deadline: str) -> None:
    assert without_suffix(name) == (model, deadline)


def test_calls_wait_for_others_for_a_hundredth_of_what_is_left() -> None:
    assert linger(3_600, 120.0) == 36.0
    assert linger(86_400, 120.0) == 120.0
    # There is no sense in less than a moment.
    assert linger(60, 120.0) == 2.0
    assert linger(60, 0.1) == 0.1


def test_where_no_small_batch_is_taken_they_wait_longer() -> None:
    assert linger(86_400, 120.0, patient=True) == 3_600.0
    assert linger(3_600, 120.0, patient=True) == 360.0


def test_deadlines_that_are_about_alike_go_together() -> None:
    assert bucket(7_200) == bucket(7_300)
    assert bucket(7_200) != bucket(3_600)
    assert bucket(0.0) == bucket(-5.0) == 0


def test_a_digest_tells_what_was_asked_apart() -> None:
    assert digest_of("a", "b") == digest_of("a", "b")
    assert len({digest_of("a", "b"), digest_of("b", "a"), digest_of("ab")}) == 3
