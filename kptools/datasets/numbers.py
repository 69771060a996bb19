"""Numbers that go from one frame to another and back, and are the same again.

A sum of floats is rounded, so that (x + 1) - 1 need not be x. Here the shortest decimals of floats
are added, divided and multiplied; a text holds all their digits.
"""

import math
from decimal import Context, Decimal, InvalidOperation

from kptools.limits import MAX_COORDINATE

_EXACT = Context(prec=60)
_DIGITS = 22  # of a fraction: 5 more than a float has
_MAX_TERM = 4 * MAX_COORDINATE  # of a sum: a box may be twice as wide as the largest coordinate


def decimal(text: str | float, limit: float = MAX_COORDINATE) -> Decimal:
    """The number that a text is, or the shortest decimal of a float. ValueError where it is none,
    or none within `limit`."""
    try:
        value = Decimal(text if isinstance(text, str) else repr(text))
    except InvalidOperation:
        raise ValueError(f"{str(text)[:40]!r} is not a number") from None
    if not (value.is_finite() and value.copy_abs() <= Decimal(limit)):
        raise ValueError(f"{str(text)[:40]} is not a number within {limit:g}")
    return value


def number(text: str) -> float:
    """The float that is nearest to a text. ValueError as of `decimal`."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= MAX_COORDINATE or "_" in text:
        return float(decimal(text.replace("_", " _")))  # which says what is wrong
    return value


def plus(value: str | float | Decimal, shift: float) -> Decimal:
    """The sum, exact; it may be over the largest coordinate. ValueError where a term is no number,
    or over four times that."""
    term = value if isinstance(value, Decimal) else decimal(value, _MAX_TERM)
    return _EXACT.add(term, decimal(shift, _MAX_TERM))


def moved(value: str | float, shift: float) -> float:
    """The float that is nearest to the sum. ValueError where a coordinate cannot be as large."""
    found = plus(value, shift)
    if found.copy_abs() > Decimal(MAX_COORDINATE):
        raise ValueError(f"{text(found)[:40]} is not a number within {MAX_COORDINATE:g}")
    return float(found)


def text(value: Decimal) -> str:
    """All digits of a sum, without an exponent."""
    shown = format(value, "f")
    return shown.rstrip("0").removesuffix(".") if "." in shown else shown


def fraction(value: float, whole: int) -> str:
    """`value` / `whole`, of as many digits as give `value` again by `of_fraction`."""
    short = repr(value / whole)
    if "e" not in short and of_fraction(short, whole) == value:
        return short
    return quotient(decimal(value), whole)


def quotient(value: Decimal, whole: int) -> str:
    """`value` / `whole`, of more digits than a float has."""
    return text(Context(prec=_DIGITS).divide(value, Decimal(whole)))


def of_fraction(shown: str, whole: int) -> float:
    """The float that is nearest to `shown` x `whole`. ValueError."""
    return float(times(shown, whole))


def times(shown: str, whole: int) -> Decimal:
    """`shown` x `whole`, exact. ValueError."""
    return _EXACT.multiply(decimal(shown), Decimal(whole))
