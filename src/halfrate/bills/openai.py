"""OpenAI's usage and costs: pages of the admin API, and the CSV files that the dashboard exports of them.

`GET /organization/usage/completions`, `.../embeddings` and `.../costs` answer pages of buckets by day (openai 3.52,
`types/admin/organization/usage_*_response.py`). `input_tokens` includes cached and written ones. A line item of costs
is `MODEL, input`, `MODEL, cached input` or `MODEL, output`; the SDK's own example says `input_tokens`. How a batch is
named there is written nowhere: a line item that says "batch" is one, wherever it says it, and where none does the tier
is left open. What is no model's tokens is a fee: `web search tool calls`, `file search storage` and the like. The
CSV files have the fields of the API, with times in `start_time`.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, cast

from halfrate.bills.amounts import Place, count, day_of, decimal, in_usd, pico, words
from halfrate.bills.forms import Page, PageForm, TableForm, Tally
from halfrate.bills.tables import Row, Table
from halfrate.core.bills import CACHED, INPUT, OUTPUT, UNTOLD, WRITTEN, BillLine

_PROVIDER: Final = ("openai",)
_TIERS: Final = {
    "default": "standard",
    "standard": "standard",
    "auto": "standard",
    "flex": "flex",
    "priority": "priority",
    "batch": "batch",
}
_TIER_WORD: Final = re.compile(r"[ ,(_-]*\b(batch api|batch|flex|priority)\b[) ]*", re.IGNORECASE)
_KIND_WORDS: Final = (
    (re.compile(r"cache[d_ -]*(write|creation)", re.IGNORECASE), WRITTEN),
    (re.compile(r"cached", re.IGNORECASE), CACHED),
    (re.compile(r"\binput\b|input_tokens|\bprompt", re.IGNORECASE), INPUT),
    (re.compile(r"\boutput\b|output_tokens|\bcompletion", re.IGNORECASE), OUTPUT),
)
_UNITS: Final = {"tokens": 1, "1000_tokens": 1000}
_SOLE: Final = re.compile(r"^(ft:)?(gpt|o\d|chatgpt|text-embedding|codex|computer-use)[\w.:-]*$")
_KINDS: Final = (
    ("input_uncached_tokens", INPUT),
    ("input_cached_tokens", CACHED),
    ("input_cache_write_tokens", WRITTEN),
    ("output_tokens", OUTPUT),
)
_FEES: Final = (
    ("num_sessions", "code interpreter sessions"),
    ("num_requests", "searches"),
    ("usage_bytes", "vector storage, bytes"),
    ("images", "images"),
    ("characters", "characters of speech"),
    ("seconds", "seconds of audio"),
)


def line_item(text: str) -> tuple[str, str, str]:
    """Model, tier and kind that a line item of costs names. A fee's name is its kind, and it has no model."""
    tier = UNTOLD
    found = _TIER_WORD.search(text)
    rest = text
    if found is not None:
        tier = "batch" if found[1].lower().startswith("batch") else found[1].lower()
        rest = text[: found.start()] + ", " + text[found.end() :]
    model, _, what = rest.partition(",")
    model, what = model.strip(), what.strip(" ,")
    for pattern, kind in _KIND_WORDS:
        if what and pattern.search(what):
            return model, tier, kind
    if not what and _SOLE.match(model):
        return model, tier, ""
    return "", UNTOLD, text.strip()


# ---------------------------------------------------------------- pages


def _results(page: Page, place: Place, tally: Tally) -> Iterator[tuple[int, dict[str, Any]]]:
    for bucket in _dicts(page.get("data")):
        day = day_of(bucket.get("start_time"), place, "start_time")
        tally.covers(day)
        results = bucket.get("results", bucket.get("result"))
        if not isinstance(results, list):
            place.fail("a bucket has no results.")
        for result in _dicts(cast("object", results)):
            yield day, result


def _dicts(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        return []
    return [cast("dict[str, Any]", item) for item in cast("list[object]", value) if isinstance(item, dict)]


def _kinds_of_page(page: Page) -> set[str]:
    return {
        words(result.get("object"))
        for bucket in _dicts(page.get("data"))
        for result in _dicts(bucket.get("results", bucket.get("result")))
    }


def _is_costs(page: Page) -> bool:
    return "organization.costs.result" in _kinds_of_page(page)


def _is_usage(page: Page) -> bool:
    return any(kind.startswith("organization.usage.") for kind in _kinds_of_page(page))


def _read_costs(page: Page, place: Place, tally: Tally) -> Iterator[BillLine]:
    for day, result in _results(page, place, tally):
        amount = result.get("amount")
        if not isinstance(amount, dict):
            continue
        money = cast("dict[str, Any]", amount)
        yield from _cost_line(day, result, money.get("value"), words(money.get("currency")), place, tally)


def _cost_line(
    day: int, fields: dict[str, Any], value: Any, currency: str, place: Place, tally: Tally
) -> Iterator[BillLine]:
    amount = decimal(value, place, "amount")
    if not amount and not fields.get("quantity"):
        return
    if not in_usd(currency):
        tally.currencies.add(currency.upper())
    item = words(fields.get("line_item"))
    model, tier, kind = line_item(item) if item else ("", UNTOLD, "")
    unit = words(fields.get("quantity_unit"))
    quantity = None
    if kind and (unit in _UNITS or not unit or not model):
        quantity = count(fields.get("quantity"), place, "quantity", _UNITS.get(unit, 1))
    tally.lines += 1
    yield BillLine(
        day=day,
        provider="openai",
        model=model,
        tier=tier,
        kind=kind,
        quantity=quantity,
        money=pico(amount) if amount is not None and in_usd(currency) else None,
        currency=currency.upper() or "USD",
        hints=_hints(fields),
    )


def _hints(fields: dict[str, Any]) -> tuple[str, ...]:
    found = (words(fields.get(name)) for name in ("project_id", "api_key_id"))
    return tuple(hint for hint in found if hint)


def _read_usage(page: Page, place: Place, tally: Tally) -> Iterator[BillLine]:
    for day, result in _results(page, place, tally):
        yield from _usage_lines(day, result, place, tally)


def _usage_lines(day: int, fields: dict[str, Any], place: Place, tally: Tally) -> Iterator[BillLine]:
    model = words(fields.get("model"))
    numbers = {name: count(fields.get(name), place, name) or 0 for name, _ in _KINDS}
    if fields.get("input_uncached_tokens") in {None, ""}:
        # Embeddings, and older answers, have the total alone.
        total = count(fields.get("input_tokens"), place, "input_tokens") or 0
        rest = numbers["input_cached_tokens"] + numbers["input_cache_write_tokens"]
        numbers["input_uncached_tokens"] = total - rest
    tier = _tier(fields)
    for name, kind in _KINDS:
        if numbers[name]:
            tally.lines += 1
            yield BillLine(
                day=day,
                provider="openai",
                model=model,
                tier=tier,
                kind=kind,
                quantity=numbers[name],
                hints=_hints(fields),
            )
    for name, fee in _FEES:
        quantity = count(fields.get(name), place, name)
        if quantity:
            tally.lines += 1
            yield BillLine(
                day=day, provider="openai", model=model, kind=fee, quantity=quantity, hints=_hints(fields)
            )


def _tier(fields: dict[str, Any]) -> str:
    batch = fields.get("batch")
    if batch is True or (isinstance(batch, str) and batch.strip().lower() == "true"):
        return "batch"
    tier = words(fields.get("service_tier")).lower()
    if tier:
        return _TIERS.get(tier, tier)
    told = batch is False or (isinstance(batch, str) and batch.strip().lower() == "false")
    embeds = fields.get("object") == "organization.usage.embeddings.result"
    return "standard" if told and not embeds else UNTOLD


# ---------------------------------------------------------------- tables


def _fields(row: Row) -> dict[str, Any]:
    return {
        "project_id": row.get("projectid"),
        "api_key_id": row.get("apikeyid"),
        "line_item": row.get("lineitem"),
        "quantity": row.get("quantity"),
        "quantity_unit": row.get("quantityunit"),
        "model": row.get("model"),
        "batch": row.get("batch"),
        "service_tier": row.get("servicetier"),
        "input_tokens": row.get("inputtokens"),
        "input_uncached_tokens": row.get("inputuncachedtokens"),
        "input_cached_tokens": row.get("inputcachedtokens"),
        "input_cache_write_tokens": row.get("inputcachewritetokens"),
        "output_tokens": row.get("outputtokens"),
    }


def _day_of_row(row: Row, table: Table) -> int:
    return day_of(row.get("starttime", "starttimeiso", "date"), table.place, "start_time")


def _read_cost_table(table: Table, tally: Tally) -> Iterator[BillLine]:
    for row in table.rows():
        day = _day_of_row(row, table)
        tally.covers(day)
        yield from _cost_line(
            day, _fields(row), row.get("amountvalue"), row.get("amountcurrency"), table.place, tally
        )


def _read_usage_table(table: Table, tally: Tally) -> Iterator[BillLine]:
    for row in table.rows():
        day = _day_of_row(row, table)
        tally.covers(day)
        yield from _usage_lines(day, _fields(row), table.place, tally)


def _one(*names: str) -> frozenset[str]:
    return frozenset(names)


FORMS: Final = (
    PageForm("OpenAI costs", "cost", _PROVIDER, _is_costs, _read_costs, "start_time"),
    PageForm("OpenAI usage", "usage", _PROVIDER, _is_usage, _read_usage, "start_time"),
)
TABLES: Final = (
    TableForm("OpenAI costs", "cost", _PROVIDER, (_one("starttime"), _one("amountvalue")), _read_cost_table),
    TableForm(
        "OpenAI usage",
        "usage",
        _PROVIDER,
        (_one("starttime"), _one("inputtokens"), _one("nummodelrequests")),
        _read_usage_table,
    ),
)
