"""Amounts as people write them: `8M` tokens, `40%`, `40%..70%`, `$10,000`, `30d`."""

import datetime
import re
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, Final

import click

from halfrate.base.money import parse_usd

_COUNT: Final = re.compile(r"(?P<number>[0-9][0-9_,]*(?:\.[0-9]+)?) *(?P<unit>[kKmMbBgG]?)")
_AGO: Final = re.compile(r"([0-9]{1,6})([hdw])")
_SECONDS: Final = {"h": 3600, "d": 86400, "w": 604800}
_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9}


class Count(click.ParamType[int]):
    """A whole number that is not negative, as in 200000, 200,000, 200k or 1.5M."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = _COUNT.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{value!r} is no number; write it as 200000, 200,000, 200k or 1.5M.", param, ctx)
        number = Decimal(re.sub("[_,]", "", found["number"])) * _UNITS[found["unit"].lower()]
        if number != int(number):
            self.fail(f"{value!r} is no whole number.", param, ctx)
        return int(number)


class Share(click.ParamType[Fraction]):
    """A part of a whole, as in 40% or 0.4."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        if isinstance(value, Fraction):
            return value
        share = _share(str(value))
        if share is None:
            self.fail(f"{value!r} is no share; write it as 40% or 0.4.", param, ctx)
        return share


class ShareRange(click.ParamType[tuple[Fraction, Fraction]]):
    """Two shares, as in 40%..70%, or one."""

    name = "share..share"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Fraction, Fraction]:
        low, _, high = str(value).partition("..")
        shares = (_share(low), _share(high or low))
        if shares[0] is None or shares[1] is None or shares[0] > shares[1]:
            self.fail(f"{value!r} is no range; write it as 40%..70%.", param, ctx)
        return (shares[0], shares[1])


class Usd(click.ParamType[int]):
    """An amount in USD that is not negative, as in 12.50 or $10,000; picodollars."""

    name = "usd"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            pico = parse_usd(str(value).replace(",", "").replace("_", ""))
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)
        if pico < 0:
            self.fail(f"{value!r} is less than nothing.", param, ctx)
        return pico


class Moment(click.ParamType[float]):
    """A time, as in 30d (ago), 12h, 2w or 2026-01-31 (UTC); seconds since 1970."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        text = str(value).strip()
        now = datetime.datetime.now(datetime.UTC)
        span = _AGO.fullmatch(text)
        if span is not None:
            return now.timestamp() - int(span[1]) * _SECONDS[span[2]]
        try:
            at = datetime.datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{value!r} is no time; write it as 30d, 12h, 2w or 2026-01-31.", param, ctx)
        # Days are UTC's, as they are in the ledger and on the providers' bills.
        return (at if at.tzinfo is not None else at.replace(tzinfo=datetime.UTC)).timestamp()


def _share(text: str) -> Fraction | None:
    text = text.strip()
    try:
        number = Decimal(text.removesuffix("%").strip())
    except InvalidOperation:
        return None
    if not number.is_finite():
        return None
    share = Fraction(number) / (100 if text.endswith("%") else 1)
    return share if 0 <= share <= 1 else None
