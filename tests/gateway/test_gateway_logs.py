"""What the log says of a trouble that lasts."""

import io
import json
from typing import Any

from halfrate.gateway.logs import Lasting, Log


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = 1_000_000.0

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


class Heard:
    """A trouble, and what has been said of it."""

    def __init__(self) -> None:
        self.clock = Hands()
        self._text = io.StringIO()
        self.trouble = Lasting(Log(self.clock, self._text), self.clock, "calls wait", "calls go on")

    def events(self) -> list[tuple[float, str]]:
        lines: list[dict[str, Any]] = [json.loads(line) for line in self._text.getvalue().splitlines()]
        return [(line["at"] - 1_000_000.0, line["event"]) for line in lines]


def test_a_trouble_is_said_when_it_begins_each_minute_and_when_it_is_over() -> None:
    heard = Heard()
    heard.trouble.passed()
    for _ in range(150):
        heard.trouble.met("the depot is away")
        heard.clock.at += 1
    for _ in range(10):
        heard.trouble.passed()
        heard.clock.at += 1
    wait = "calls wait"
    assert heard.events() == [(0.0, wait), (60.0, wait), (120.0, wait), (150.0, "calls go on")]
    heard.clock.at += 60
    heard.trouble.met("again")
    assert heard.events()[4:] == [(220.0, wait)]


def test_it_is_over_when_none_of_those_who_met_it_meets_it_any_more() -> None:
    heard = Heard()
    for who in ("", "call-1", "call-2"):
        heard.trouble.met("the depot is away", who)
    for who in ("call-1", "", "call-3"):
        heard.trouble.passed(who)
    assert heard.events() == [(0.0, "calls wait")]
    heard.trouble.passed("call-2")
    assert heard.events() == [(0.0, "calls wait"), (0.0, "calls go on")]


def test_what_comes_and_goes_is_said_no_oftener() -> None:
    heard = Heard()
    for _ in range(100):
        heard.trouble.met("now and then")
        heard.trouble.passed()
        heard.clock.at += 1
    events = [event for _, event in heard.events()]
    assert events == ["calls wait", "calls go on"] * 2
