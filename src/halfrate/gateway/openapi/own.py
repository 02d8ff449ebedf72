"""What is halfrate's own: what was spent, and what the gateway says of itself."""

from typing import Final

from halfrate.gateway.openapi.operation import Json, Operation, as_json, in_query, shape
from halfrate.service.costs import KEYS

COST: Final = "Cost"
GATEWAY: Final = "The gateway itself"
TAGS: Final = {
    COST: "What was paid, for batches and for calls in real time alike, from the ledger.",
    GATEWAY: "For people, and for what watches over the gateway. None of it needs a key.",
}
_DAY: Final[Json] = {"type": "string", "format": "date"}

OPERATIONS: Final = [
    Operation(
        method="GET",
        path="/v1/halfrate/cost",
        name="showCost",
        summary="Who has spent what",
        tag=COST,
        speaks="own",
        text="A key sees what its own team has spent; one that opens the surface `admin` sees every team.",
        parameters=(
            in_query(
                "by",
                "One to four names with commas between them, by which the figures are told apart: `team`, `key`, "
                f"{', '.join(f'`{name}`' for name in KEYS)}, or another tag. `team` where nothing is said.",
                {"type": "string", "minLength": 1},
            ),
            in_query("since", "The first day, in UTC.", _DAY),
            in_query("until", "The day after the last, in UTC.", _DAY),
        ),
        gives="The figures.",
        content=as_json(shape("Cost")),
        refuses={400: ""},
    ),
    Operation(
        method="GET",
        path="/",
        name="showPage",
        summary="A page for people",
        tag=GATEWAY,
        speaks="open",
        gives="What this is and how to call it.",
        content={"text/html": {}},
    ),
    Operation(
        method="GET",
        path="/openapi.json",
        name="describe",
        summary="This description",
        tag=GATEWAY,
        speaks="open",
        gives="An OpenAPI 3.1 document.",
        content=as_json({"type": "object"}),
    ),
    Operation(
        method="GET",
        path="/healthz",
        name="checkHealth",
        summary="Whether the process is alive",
        tag=GATEWAY,
        speaks="open",
        gives="It is.",
        content=as_json(shape("Health")),
    ),
    Operation(
        method="GET",
        path="/readyz",
        name="checkReadiness",
        summary="Whether the process can serve",
        tag=GATEWAY,
        speaks="open",
        gives="It can.",
        content=as_json(shape("Health")),
        replies={
            "503": {
                "description": "The disk or the database cannot be used.",
                "content": as_json(shape("Health")),
            }
        },
    ),
]
