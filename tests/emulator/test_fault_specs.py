"""Reading fault specifications."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfrate.emulator import FAULTS, FaultSpecError, parse_fault


def test_a_spec_with_keys() -> None:
    fault = parse_fault("row-error:rate=0.03,status=429,sticky=true,match=refund,provider=openai")
    assert (fault.name, fault.rate, fault.times, fault.match, fault.provider) == (
        "row-error",
        0.03,
        None,
        "refund",
        "openai",
    )
    assert fault.options == {"status": 429, "sticky": True}


def test_how_often_a_fault_strikes_by_default() -> None:
    assert parse_fault("create-lost").times == 1
    assert parse_fault("create-lost:times=3").times == 3
    assert parse_fault("create-lost:rate=0.5").times is None
    assert parse_fault("row-error:match=x").times is None
    assert parse_fault("no-shuffle").times is None


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_reads_back_what_it_writes(name: str) -> None:
    fault = parse_fault(name)
    assert parse_fault(fault.spec()) == fault


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("row-eror", "Did you mean 'row-error'.*row-malformed"),
        ("", "there is no fault"),
        ("row-error:rte=1", "rate, times, match, provider, status, sticky"),
        ("row-error:rate", "write key=value"),
        ("row-error:rate=2", "between 0 and 1"),
        ("row-error:rate=nan", "finite"),
        ("row-error:rate=x", "must be a number"),
        ("row-error:times=0", "at least 1"),
        ("row-error:times=1.5", "whole number"),
        ("row-error:status=", "whole number"),
        ("row-error:sticky=yes", "true or false"),
        ("row-error:provider=nobody", "openai, anthropic"),
        ("row-error:match=", "empty"),
        ("row-error:status=1,status=2", "twice"),
        ("batch-expire:done=1.1", "between 0 and 1"),
        ("create-slow:seconds=-1", "negative"),
        ("create-lost:match=x", "one of the keys rate, times, provider"),
        ("rate-limit:on=breakfast", "upload, create, poll"),
    ],
)
def test_what_is_wrong_is_said(spec: str, message: str) -> None:
    with pytest.raises(FaultSpecError, match=message):
        parse_fault(spec)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(FaultSpecError):
        assert parse_fault(text).name in FAULTS


@given(
    name=st.sampled_from([kind.name for kind in FAULTS.values() if kind.group == "rows"]),
    rate=st.floats(0, 1, exclude_max=True),
    times=st.none() | st.integers(1, 10**6),
    match=st.none() | st.from_regex(r"[a-z ]*[a-z][a-z ]*", fullmatch=True).map(str.strip),
)
def test_specs_survive_being_written_and_read(
    name: str, rate: float, times: int | None, match: str | None
) -> None:
    words = [f"rate={rate}"]
    words += [] if times is None else [f"times={times}"]
    words += [] if match is None else [f"match={match}"]
    fault = parse_fault(f"{name}:{','.join(words)}")
    assert (fault.rate, fault.times, fault.match) == (rate, times, match)
    assert parse_fault(fault.spec()) == fault
