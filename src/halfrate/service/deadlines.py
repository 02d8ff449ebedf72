"""When somebody needs the last row, as they say it."""

import datetime
import re
from typing import Final, TypeAlias

from halfrate.base.errors import UsageError

Deadline: TypeAlias = str | datetime.datetime | datetime.timedelta | None

_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(m|min|h|d)")
_CLOCK: Final = re.compile(r"(\d{1,2}):(\d{2})")
_UNITS: Final = {"m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def deadline_at(wanted: Deadline, now: datetime.datetime) -> float | None:
    """Seconds since 1970 of `8h`, `90m`, `06:00` (the next time it is that late, here), an ISO time, a
    datetime or a timedelta. Raises UsageError for what is none of these, or past."""
    if wanted is None:
        return None
    if isinstance(wanted, datetime.timedelta):
        moment = now + wanted
    elif isinstance(wanted, datetime.datetime):
        moment = wanted
    else:
        moment = _parse(wanted.strip(), now)
    if moment.tzinfo is None:
        moment = moment.astimezone()
    if moment <= now:
        raise UsageError(f"The deadline {wanted} is past. Nothing was sent.")
    return moment.timestamp()


def _parse(text: str, now: datetime.datetime) -> datetime.datetime:
    try:
        if span := _SPAN.fullmatch(text):
            return now + datetime.timedelta(seconds=float(span.group(1)) * _UNITS[span.group(2)])
        if clock := _CLOCK.fullmatch(text):
            local = now.astimezone()
            at = local.replace(hour=int(clock.group(1)), minute=int(clock.group(2)), second=0, microsecond=0)
            return at if at > local else at + datetime.timedelta(days=1)
        moment = datetime.datetime.fromisoformat(text)
        return moment if moment.tzinfo is not None else moment.astimezone()
    except (ValueError, OverflowError):
        raise UsageError(
            f"A deadline is 8h, 90m, 06:00 or an ISO time, not {text!r}. Nothing was sent."
        ) from None
