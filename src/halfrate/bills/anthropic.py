"""Anthropic's usage and costs: pages of the Admin API, and the CSV files that the Console exports.

`GET /v1/organizations/usage_report/messages` answers tokens, `.../cost_report` money as decimal text in cents
(platform.claude.com, Admin API, Cost Report, 2026). Without `group_by[]=description` the cost report tells neither
models nor tiers. It leaves out what the priority tier costs. The Console's cost file is in dollars, rounded to cents,
and names models as people do ("Claude Haiku 4.5"); its usage file names them as the API does.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final, cast

from halfrate.bills.amounts import CENTS_ROUNDED, Place, count, day_of, decimal, in_usd, pico, words
from halfrate.bills.forms import Page, PageForm, TableForm, Tally
from halfrate.bills.tables import Row, Table
from halfrate.core.bills import CACHED, INPUT, OUTPUT, UNTOLD, WRITTEN, BillLine

_PROVIDER: Final = ("anthropic",)
_TOKEN_TYPES: Final = {
    "uncached_input_tokens": INPUT,
    "input_no_cache": INPUT,
    "cache_read_input_tokens": CACHED,
    "input_cache_read": CACHED,
    "cache_creation.ephemeral_5m_input_tokens": WRITTEN,
    "cache_creation.ephemeral_1h_input_tokens": WRITTEN,
    "input_cache_write_5m": WRITTEN,
    "input_cache_write_1h": WRITTEN,
    "input_cache_write": WRITTEN,
    "output_tokens": OUTPUT,
    "output": OUTPUT,
}
_TIERS: Final = {
    "standard": "standard",
    "batch": "batch",
    "message_batch": "batch",
    "priority": "priority",
    "message": "standard",
    "flex": "flex",
}
_ANYWHERE: Final = frozenset({"", "global", "not_available"})


def _tier(text: str) -> str:
    text = text.strip().lower()
    return _TIERS.get(text, "batch" if "batch" in text else text)


def _dicts(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        return []
    return [cast("dict[str, Any]", item) for item in cast("list[object]", value) if isinstance(item, dict)]


def _results(page: Page, place: Place, tally: Tally) -> Iterator[tuple[int, dict[str, Any]]]:
    for bucket in _dicts(page.get("data")):
        day = day_of(bucket.get("starting_at"), place, "starting_at")
        tally.covers(day)
        if not isinstance(bucket.get("results"), list):
            place.fail("a bucket has no results.")
        for result in _dicts(bucket["results"]):
            yield day, result


def _first_results(page: Page) -> list[dict[str, Any]]:
    buckets = [bucket for bucket in _dicts(page.get("data")) if "starting_at" in bucket]
    return [result for bucket in buckets for result in _dicts(bucket.get("results"))[:1]]


def _is_costs(page: Page) -> bool:
    return any("amount" in result for result in _first_results(page))


def _is_usage(page: Page) -> bool:
    return any("output_tokens" in result for result in _first_results(page))


def _hints(fields: dict[str, Any]) -> tuple[str, ...]:
    found = (words(fields.get(name)) for name in ("workspace_id", "api_key_id"))
    return tuple(hint for hint in found if hint)


def _read_costs(page: Page, place: Place, tally: Tally) -> Iterator[BillLine]:
    for day, fields in _results(page, place, tally):
        cents = decimal(fields.get("amount"), place, "amount")
        if not cents:
            continue
        currency = words(fields.get("currency"))
        if not in_usd(currency):
            tally.currencies.add(currency.upper())
        # Older answers have the type of cost in the description alone.
        cost_type = words(fields.get("cost_type")) or words(fields.get("description"))
        token_type = words(fields.get("token_type"))
        model = words(fields.get("model"))
        kind = _TOKEN_TYPES.get(token_type, "")
        if not kind and not model and cost_type not in {"", "tokens"}:
            kind = cost_type.replace("_", " ").lower()
        tally.lines += 1
        yield BillLine(
            day=day,
            provider="anthropic",
            model=model,
            tier=_tier(words(fields.get("service_tier"))),
            kind=kind,
            money=pico(cents / 100) if in_usd(currency) else None,
            currency=currency.upper() or "USD",
            hints=_hints(fields),
            region_bound=words(fields.get("inference_geo")) not in _ANYWHERE,
        )


def _read_usage(page: Page, place: Place, tally: Tally) -> Iterator[BillLine]:
    for day, fields in _results(page, place, tally):
        created = fields.get("cache_creation")
        written = cast("dict[str, Any]", created) if isinstance(created, dict) else {}
        tools = fields.get("server_tool_use")
        used = cast("dict[str, Any]", tools) if isinstance(tools, dict) else {}
        numbers = {
            INPUT: fields.get("uncached_input_tokens"),
            CACHED: fields.get("cache_read_input_tokens"),
            WRITTEN: _sum(written, place),
            OUTPUT: fields.get("output_tokens"),
            "web search": used.get("web_search_requests"),
        }
        yield from _usage_lines(
            day,
            words(fields.get("model")),
            _tier(words(fields.get("service_tier"))),
            numbers,
            _hints(fields),
            place,
            tally,
        )


def _sum(written: dict[str, Any], place: Place) -> int:
    names = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
    return sum(count(written.get(name), place, name) or 0 for name in names)


def _usage_lines(
    day: int,
    model: str,
    tier: str,
    numbers: dict[str, Any],
    hints: tuple[str, ...],
    place: Place,
    tally: Tally,
) -> Iterator[BillLine]:
    for kind, value in numbers.items():
        quantity = count(value, place, kind)
        if quantity:
            tally.lines += 1
            yield BillLine(
                day=day,
                provider="anthropic",
                model=model,
                tier=tier if kind in {INPUT, CACHED, WRITTEN, OUTPUT} else UNTOLD,
                kind=kind,
                quantity=quantity,
                hints=hints,
            )


def _row_hints(row: Row) -> tuple[str, ...]:
    found = (row.get(name) for name in ("workspace", "apikey", "apikeyid"))
    return tuple(dict.fromkeys(hint for hint in found if hint))


def _read_cost_table(table: Table, tally: Tally) -> Iterator[BillLine]:
    for row in table.rows():
        day = day_of(row.get("usagedateutc"), table.place, "usage_date_utc")
        tally.covers(day)
        amount: Decimal | None = decimal(row.get("costusd"), table.place, "cost_usd")
        if amount is None:
            continue
        kind = _TOKEN_TYPES.get(row.get("tokentype"), "")
        fee = "" if kind else (row.get("costtype") or row.get("tokentype")).replace("_", " ")
        # An amount of nothing is one of less than half a cent.
        if fee and not amount:
            continue
        tally.lines += 1
        yield BillLine(
            day=day,
            provider="anthropic",
            model="" if fee else row.get("model"),
            tier=UNTOLD if fee else _tier(row.get("usagetype")),
            kind=kind or fee,
            money=pico(amount),
            rounding=CENTS_ROUNDED if amount == round(amount, 2) else 0,
            hints=_row_hints(row),
            region_bound=row.get("inferencegeo") not in _ANYWHERE,
        )


def _read_usage_table(table: Table, tally: Tally) -> Iterator[BillLine]:
    for row in table.rows():
        day = day_of(row.get("usagedateutc"), table.place, "usage_date_utc")
        tally.covers(day)
        written = [
            count(row.get(name), table.place, name) or 0
            for name in (
                "usageinputtokenscachewrite5m",
                "usageinputtokenscachewrite1h",
                "usageinputtokenscachewrite",
            )
        ]
        numbers = {
            INPUT: row.get("usageinputtokensnocache"),
            CACHED: row.get("usageinputtokenscacheread"),
            WRITTEN: sum(written),
            OUTPUT: row.get("usageoutputtokens"),
            "web search": row.get("websearchcount"),
        }
        model = row.get("modelversion", "model")
        yield from _usage_lines(
            day, model, _tier(row.get("usagetype")), numbers, _row_hints(row), table.place, tally
        )


FORMS: Final = (
    PageForm("Anthropic costs", "cost", _PROVIDER, _is_costs, _read_costs, "starting_at"),
    PageForm("Anthropic usage", "usage", _PROVIDER, _is_usage, _read_usage, "starting_at"),
)
TABLES: Final = (
    TableForm(
        "Anthropic costs",
        "cost",
        _PROVIDER,
        (frozenset({"usagedateutc"}), frozenset({"costusd"})),
        _read_cost_table,
    ),
    TableForm(
        "Anthropic usage",
        "usage",
        _PROVIDER,
        (frozenset({"usagedateutc"}), frozenset({"usageoutputtokens"})),
        _read_usage_table,
    ),
)
