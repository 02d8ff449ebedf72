"""Amounts, times and words as they stand in exports. What makes no sense is an error that names its place."""

import datetime
import re
from decimal import Decimal, DecimalException
from typing import Any, Final, NoReturn

from halfrate.base.errors import InputError
from halfrate.base.money import PICO

NOTHING_DONE: Final = "Nothing was compared."
CENTS_ROUNDED: Final = PICO // 200
"""Half a cent: what an amount in dollars and cents may be off by."""

_EPOCH: Final = datetime.date(1970, 1, 1)
_MOST_DIGITS: Final = 30
_LONG_AGO: Final = 10_957  # 2000-01-01
_FAR_AHEAD: Final = 47_482  # 2100-01-01
_ODD_DATE: Final = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})")


class Place:
    """Where in a file something stands, for messages."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.line: int | None = None

    def fail(self, what: str, column: str | None = None) -> NoReturn:
        where = f"{self.name}, line {self.line:,}" if self.line is not None else self.name
        raise InputError(f"{where}: {what} {NOTHING_DONE}", line=self.line, column=column)


def decimal(value: Any, place: Place, column: str) -> Decimal | None:
    """A number, None for nothing at all. A JSON number or its text; thousands may be set apart by commas."""
    if value is None or value == "":
        return None
    try:
        found = Decimal(value.replace(",", "").strip() if isinstance(value, str) else value)
    except (DecimalException, ValueError, TypeError):
        found = None
    if (
        found is None
        or isinstance(value, bool)
        or not found.is_finite()
        or abs(found.adjusted()) > _MOST_DIGITS
    ):
        place.fail(f"{column} says {_short(value)}, which is no amount.", column)
    return found


def pico(amount: Decimal) -> int:
    """Picodollars of dollars; what a float has added behind them is rounded away."""
    return int((amount * PICO).to_integral_value())


def count(value: Any, place: Place, column: str, times: int = 1) -> int | None:
    """A number of things, `times` for each that is said."""
    found = decimal(value, place, column)
    return None if found is None else int((found * times).to_integral_value())


def day_of(value: Any, place: Place, column: str) -> int:
    """Days since 1970 of a time: seconds since 1970, a date, or a time of day with one (UTC unless it says where)."""
    try:
        day = _day(value)
    except (ValueError, OverflowError, TypeError):
        day = -1
    if not _LONG_AGO <= day < _FAR_AHEAD:
        place.fail(f"{column} says {_short(value)}, which is no day.", column)
    return day


def _day(value: Any) -> int:
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return int(value) // 86_400
    if not isinstance(value, str):
        raise TypeError
    text = value.strip()
    if text.isdecimal() and len(text) in {9, 10}:
        return int(text) // 86_400
    if text.isdecimal() and len(text) == 8:
        text = f"{text[:4]}-{text[4:6]}-{text[6:]}"
    found = _ODD_DATE.match(text)
    if found is not None:
        # Azure writes dates so, the month first (cost and usage details, MCA and EA files, 2024).
        return (datetime.date(int(found[3]), int(found[1]), int(found[2])) - _EPOCH).days
    at = datetime.datetime.fromisoformat(text.removesuffix(" UTC"))
    if at.tzinfo is not None:
        at = at.astimezone(datetime.UTC)
    return (at.date() - _EPOCH).days


def words(value: Any) -> str:
    """Text as it is, anything else as nothing."""
    return value.strip() if isinstance(value, str) else ""


def in_usd(currency: str) -> bool:
    return currency.strip().lower() in {"usd", ""}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
