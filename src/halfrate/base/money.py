"""Money is an integer number of picodollars (1e-12 USD), from the first token to the last sum.

A price of $0.05 per million tokens is 50,000 picodollars a token, so every price list in use is exact.
Floats appear on the screen only.
"""

from collections.abc import Iterable
from decimal import Decimal

PICO = 10**12
"""Picodollars in a dollar."""


def per_million(dollars: str | Decimal) -> int:
    """Picodollars per token for a price given in USD per million tokens.

    Raises ValueError where the price is finer than a picodollar a token.
    """
    pico = Decimal(dollars) * 1_000_000
    if pico != pico.to_integral_value():
        raise ValueError(f"{dollars} USD per million tokens is finer than a picodollar a token")
    return int(pico)


def usd(pico: int) -> str:
    """Exact decimal USD without exponent or trailing zeros, as in "0.00042"."""
    sign = "-" if pico < 0 else ""
    whole, fraction = divmod(abs(pico), PICO)
    digits = f"{fraction:012d}".rstrip("0")
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


def added(amounts: Iterable[int | None]) -> int | None:
    """The sum; one unknown amount makes it unknown."""
    total = 0
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total


def a_million(rate: int | None) -> str:
    """A price per token as USD for a million of them, exact, with two decimals at least; "" for None."""
    if rate is None:
        return ""
    whole, _, digits = usd(rate * 1_000_000).partition(".")
    return f"{whole}.{digits:0<2}"


def parse_usd(text: str) -> int:
    """Picodollars for a USD amount that a person typed. Raises ValueError."""
    try:
        pico = Decimal(text.strip().removeprefix("$")) * PICO
    except ArithmeticError as error:
        raise ValueError(f"{text!r} is not an amount in USD") from error
    if not pico.is_finite() or pico != pico.to_integral_value():
        raise ValueError(f"{text!r} is not an amount in USD")
    return int(pico)


def show_usd(pico: int | None) -> str:
    """USD for a screen: two decimals for real money, more for less, "unknown" for None."""
    if pico is None:
        return "unknown"
    amount = pico / PICO
    if amount == 0 or abs(amount) >= 1:
        return f"${amount:,.2f}"
    return f"${amount:.4f}" if abs(amount) >= 0.01 else f"${amount:.6f}"
