"""`/v1/halfrate/cost`: who has spent what."""

import asyncio
import datetime
import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from halfrate.base.money import usd
from halfrate.core.keys import TAG
from halfrate.gateway.calls import key_of, reply
from halfrate.gateway.errors import invalid
from halfrate.service.costs import KEYS, CostLine, total
from halfrate.service.jobs import Service
from halfrate.service.spending import Spending

_LONGEST: Final = 64
_MOST: Final = 4


class Costs:
    """What was paid, for batches and for calls in real time alike, from the ledger.

    A key sees what its own team has spent; one that opens the surface `admin` sees every team.
    """

    def __init__(self, service: Service, spending: Spending) -> None:
        self._service = service
        self._spending = spending

    async def show(self, request: Request) -> Response:
        key = key_of(request)
        by = _by(request)
        since, until = _day(request, "since", 0.0), _day(request, "until", math.inf)
        lines = await asyncio.to_thread(self._lines, by, since, until)
        if not key.opens("admin"):
            lines = [line for line in lines if line.keys[0] == key.team]
        # The team stands before what was asked for, so that it can be told whose each line is.
        lines = _without_team(lines)
        whole = total(lines, "", len(by))
        return reply(
            {
                "object": "halfrate.cost",
                "team": None if key.opens("admin") else key.team,
                "by": by,
                "since": request.query_params.get("since"),
                "until": request.query_params.get("until"),
                "data": [{"keys": dict(zip(by, line.keys, strict=True)), **_figures(line)} for line in lines],
                "total": _figures(whole),
            }
        )

    def _lines(self, by: Sequence[str], since: float, until: float) -> list[CostLine]:
        # What was answered a moment ago is in it as well.
        self._spending.refresh()
        return self._service.costs(by=("team", *by), since=since, until=until)


def _without_team(lines: Sequence[CostLine]) -> list[CostLine]:
    """Lines added up whatever their team."""
    found: dict[tuple[str, ...], list[CostLine]] = {}
    for line in lines:
        found.setdefault(line.keys[1:], []).append(line)
    return [
        msgspec.structs.replace(total(same, "", len(keys)), keys=keys) for keys, same in sorted(found.items())
    ]


def _figures(line: CostLine) -> dict[str, Any]:
    """Money is exact, as a decimal text; null where a price is unknown."""

    def money(amount: int | None) -> str | None:
        return None if amount is None else usd(amount)

    return {
        "rows": line.rows,
        "doubts": line.doubts,
        "tokens": msgspec.structs.asdict(line.usage),
        "cost_usd": money(line.cost),
        "realtime_cost_usd": money(line.realtime_cost),
        "saved_usd": money(line.saved),
        "cache_saved_usd": money(line.cache_saved),
        "waste_usd": money(line.waste),
    }


def _by(request: Request) -> list[str]:
    names = [name.strip() for name in request.query_params.get("by", "team").split(",")]
    if not 1 <= len(names) <= _MOST or not all(
        name and name.isprintable() and len(name) <= _LONGEST for name in names
    ):
        known = ", ".join(("team", TAG, *KEYS))
        raise invalid(
            f"Invalid 'by': expected one to {_MOST} names with commas between them, of {known} or other tags.",
            "by",
        )
    if len(set(names)) != len(names):
        raise invalid("Invalid 'by': a name stands there twice.", "by")
    return names


def _day(request: Request, name: str, default: float) -> float:
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        return datetime.datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=datetime.UTC).timestamp()
    except ValueError:
        raise invalid(f"Invalid '{name}': expected a day, as in 2026-11-30 (UTC).", name) from None
