"""How many rows a second real time can do: as seen, else as the account's limits allow, else as a cautious guess."""

from collections.abc import Iterable
from typing import Final

import msgspec

USED: Final = 0.85
"""Share of a rate limit that rows get through it: some time goes to waiting after a 429, and an answer's length is
not known before it is there. A guess."""

_GUESS: Final = 8.0
"""Rows a second where nothing is known: 500 requests a minute (OpenAI's first paid tier, as its users report it) or
100,000 output tokens a minute at 200 a row (Anthropic's Start tier, platform.claude.com, 2026-10)."""
_GUESS_DOUBT: Final = 0.75
"""Rows may be long, and others may use the account: two rows a second are counted with."""
_LIMIT_DOUBT: Final = 0.4
"""A limit is what the account may do at most, not what it has done."""
FLEX_SHARE: Final = 0.5
"""How fast flex is believed to be beside standard: slower, and at times not there ("slower response times and
occasional resource unavailability", developers.openai.com, flex processing guide, 2026). The half is a guess."""
_FLEX_DOUBT: Final = 0.5
_LEAST_DOUBT: Final = 0.25
"""What was so may change: throttling comes and goes."""

_NORMAL: Final = 1.7
"""Makes a logistic curve out of a normal one, near enough."""
_GUESS_WEIGHT: Final = 5.0
_LIMIT_WEIGHT: Final = 120.0
_DOUBT_WEIGHT: Final = 120.0
"""Seconds of full speed after which doubt has fallen half way to its least."""
_MEMORY: Final = 1800.0
"""Seconds of full speed, the newest, that are looked at."""

_PAUSE: Final = 360.0
"""Seconds that a stretch of throttling may cost, where little was seen. A guess."""
_PAUSE_LEAST: Final = 150.0
_PAUSE_MOST: Final = 900.0
_PAUSE_WEIGHT: Final = 900.0


class Throughput(msgspec.Struct, frozen=True):
    """A stretch in which rows were always waiting for real time, and how many it answered."""

    rows: float
    seconds: float


class RateLimits(msgspec.Struct, frozen=True, kw_only=True):
    """An account's limits for a model, a minute. None where it is not known or there is none."""

    rpm: float | None = None
    """Requests."""
    itpm: float | None = None
    """Input tokens."""
    otpm: float | None = None
    """Output tokens."""
    tpm: float | None = None
    """Input and output together, as OpenAI counts them."""


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """Rows a second that real time does, and the share of it that may be missing."""

    rows_per_second: float
    doubt: float
    pause: float = 300.0
    """Seconds that a stretch of throttling may cost beside."""

    @property
    def counted_with(self) -> float:
        return self.rows_per_second * (1.0 - self.doubt)

    def seconds(self, rows: float) -> float:
        """What `rows` will take."""
        return rows / self.rows_per_second

    def safe_seconds(self, rows: float) -> float:
        """What `rows` may take."""
        return rows / self.counted_with

    def chance(self, seconds: float, expected: float) -> float:
        """That what is expected to take `expected` seconds is done in `seconds`, the rate being in doubt."""
        if seconds <= 0.0:
            return 0.0
        return 1.0 / (1.0 + (expected / seconds) ** (_NORMAL / self.doubt))


def allowed(limits: RateLimits, input_tokens: float, output_tokens: float) -> float | None:
    """Rows a second within `limits`, for rows of so many tokens. None where no limit is known."""
    needs = (
        (limits.rpm, 1.0),
        (limits.itpm, input_tokens),
        (limits.otpm, output_tokens),
        (limits.tpm, input_tokens + output_tokens),
    )
    found = [limit / 60.0 / need for limit, need in needs if limit is not None and need > 0.0]
    return min(found, default=None)


def realtime_rate(seen: Iterable[Throughput], limit: float | None = None) -> Rate:
    """The rate of the standard tier after `seen` (newest last), where `limit` rows a second are allowed.

    The newest half hour at full speed counts. Doubt falls as more was seen; it never goes away.
    """
    if limit is None:
        return _after(seen, _GUESS, _GUESS_WEIGHT, _GUESS_DOUBT)
    return _after(seen, limit * USED, _LIMIT_WEIGHT, _LIMIT_DOUBT)


def flex_rate(seen: Iterable[Throughput], standard: Rate) -> Rate:
    """The rate of a flex tier after `seen`, beside a standard tier whose limits it shares."""
    doubt = max(_FLEX_DOUBT, standard.doubt)
    return _after(seen, standard.rows_per_second * FLEX_SHARE, _LIMIT_WEIGHT, doubt)


def _after(seen: Iterable[Throughput], base: float, weight: float, doubt: float) -> Rate:
    newest: list[Throughput] = []
    rows = seconds = 0.0
    for stretch in reversed(tuple(seen)):
        if seconds >= _MEMORY:
            break
        newest.append(stretch)
        rows += stretch.rows
        seconds += stretch.seconds
    # Not nothing, however little was answered: a rate of zero would forbid every plan for ever.
    rate = max((base * weight + rows) / (weight + seconds), 1e-3)
    fading = _DOUBT_WEIGHT / (_DOUBT_WEIGHT + seconds)
    calm = _PAUSE_LEAST + (_PAUSE - _PAUSE_LEAST) * _PAUSE_WEIGHT / (_PAUSE_WEIGHT + seconds)
    return Rate(
        rows_per_second=rate,
        doubt=_LEAST_DOUBT + (doubt - _LEAST_DOUBT) * fading,
        pause=min(max(calm, _longest_loss(newest, rate)), _PAUSE_MOST),
    )


def _longest_loss(stretches: Iterable[Throughput], rate: float) -> float:
    """Seconds lost in the worst run of slow stretches: what it answered less than `rate` would have."""
    worst = running = 0.0
    for stretch in stretches:
        running = max(0.0, running + stretch.seconds - stretch.rows / rate)
        worst = max(worst, running)
    return worst
