"""Google's billing export: lines of the Gemini API and of Vertex AI, as BigQuery gives them.

The table is `gcp_billing_export_v1_...` (standard usage cost, cloud.google.com, 2026), exported to JSON lines with its
records nested, or to CSV with names such as `sku_description` or `sku.description`. Costs are in the currency of the
billing account; `currency_conversion_rate` says how much of it a dollar was. What a line is for stands in the SKU's
description: "Generate content input token count gemini 3.7 flash text batch" at the Gemini API, "Gemini 2.5 Flash Text
Input - Batch Predictions" at Vertex AI.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, cast

import msgspec

from halfrate.bills.amounts import Place, count, day_of, decimal, in_usd, pico, words
from halfrate.bills.forms import Page, PageForm, TableForm, Tally
from halfrate.bills.tables import Table
from halfrate.core.bills import CACHED, INPUT, OUTPUT, UNTOLD, BillLine

_PROVIDERS: Final = ("gemini", "vertex")
_ROUNDED: Final = 500_000
"""Half of the last of six decimals: "to a precision of up to six decimal places"."""
_SERVICES: Final = (("gemini api", "gemini"), ("generative language", "gemini"), ("vertex ai", "vertex"))
_MODEL: Final = re.compile(
    r"\b((?:gemini|gemma|claude|text[ -]embedding|embedding|llama|mistral|veo|imagen)[ -].*)$"
)
_NO_PART: Final = re.compile(
    r"\b(?:input|output|text|audio|image|video|document|short|long|batch|flex|priority|standard|predictions?|online|"
    r"cached|caching|cache|token|tokens|count|counts|non|thinking|content|global|regional|modality|peak|offpeak|usage)\b"
)
_OF_MODELS: Final = re.compile(r"gemini|generative|grounding|embedding|model garden")
_USAGE: Final = frozenset({"regular", ""})


def sku(description: str) -> tuple[str, str, str]:
    """Model, tier and kind of an SKU. What is no tokens is a fee: its kind is the description."""
    text = re.sub(r"[_\s]+", " ", description.lower()).strip()
    found = _MODEL.search(text)
    storage = "storage" in text or "hour" in text
    if found is None or storage or not re.search(r"\b(input|output|token count|caching|cached)\b", text):
        return "", UNTOLD, description.strip()
    if re.search(r"\b(cached|caching)\b", text):
        kind = CACHED
    elif re.search(r"\boutput\b", text):
        kind = OUTPUT
    else:
        kind = INPUT
    tier = next(
        (word for word in ("batch", "flex", "priority") if re.search(rf"\b{word}\b", text)), "standard"
    )
    model = re.sub(r"[\s-]+", "-", _NO_PART.sub(" ", found[1].replace(" - ", " ")).strip()).strip("-")
    return model, tier, kind


class _Fields(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked at of a line, whichever way it was exported."""

    start: Any
    service: str
    sku: str
    project: str
    cost: Any
    currency: str
    rate: Any
    cost_type: str
    amount: Any
    unit: str
    credits: tuple[Any, ...] = ()


def _line(fields: _Fields, place: Place, tally: Tally) -> Iterator[BillLine]:
    day = day_of(fields.start, place, "usage_start_time")
    tally.covers(day)
    service = fields.service.lower()
    provider = next((name for word, name in _SERVICES if word in service), None)
    model, tier, kind = sku(fields.sku)
    if provider is None or (provider == "vertex" and not model and not _OF_MODELS.search(kind.lower())):
        tally.others += 1
        return
    money = _usd(fields.cost, fields, place)
    if fields.cost_type.lower() not in _USAGE:
        tally.set_aside(fields.cost_type.lower().replace("_", " "), money)
        return
    for credit in fields.credits:
        tally.set_aside("credits", _usd(credit, fields, place))
    if money is None:
        tally.currencies.add(fields.currency.upper())
    quantity = count(fields.amount, place, "usage.amount")
    if not quantity and not money:
        return
    tally.lines += 1
    yield BillLine(
        day=day,
        provider=provider,
        model=model,
        tier=tier,
        kind=kind,
        quantity=quantity,
        money=money,
        rounding=_ROUNDED,
        currency=fields.currency.upper() or "USD",
        hints=(fields.project,) if fields.project else (),
    )


def _usd(amount: Any, fields: _Fields, place: Place) -> int | None:
    """Picodollars; None where it is in a currency of which nobody says what it is worth."""
    found = decimal(amount, place, "cost")
    if found is None:
        return 0
    if in_usd(fields.currency):
        return pico(found)
    rate = decimal(fields.rate, place, "currency_conversion_rate")
    return pico(found / rate) if rate else None


def _record(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _fits(page: Page) -> bool:
    return "usage_start_time" in page and "sku" in page


def _read_page(page: Page, place: Place, tally: Tally) -> Iterator[BillLine]:
    service, item, usage = (_record(page.get(name)) for name in ("service", "sku", "usage"))
    credits_: object = page.get("credits")
    given = cast("list[object]", credits_) if isinstance(credits_, list) else []
    fields = _Fields(
        start=page.get("usage_start_time"),
        service=words(service.get("description")),
        sku=words(item.get("description")),
        project=words(_record(page.get("project")).get("id")),
        cost=page.get("cost"),
        currency=words(page.get("currency")),
        rate=page.get("currency_conversion_rate"),
        cost_type=words(page.get("cost_type")),
        amount=usage.get("amount"),
        unit=words(usage.get("unit")),
        credits=tuple(_record(credit).get("amount") for credit in given),
    )
    yield from _line(fields, place, tally)


def _read_table(table: Table, tally: Tally) -> Iterator[BillLine]:
    for row in table.rows():
        fields = _Fields(
            start=row.get("usagestarttime"),
            service=row.get("servicedescription"),
            sku=row.get("skudescription"),
            project=row.get("projectid"),
            cost=row.get("cost"),
            currency=row.get("currency"),
            rate=row.get("currencyconversionrate"),
            cost_type=row.get("costtype"),
            amount=row.get("usageamount"),
            unit=row.get("usageunit"),
        )
        yield from _line(fields, table.place, tally)


FORMS: Final = (PageForm("Google billing export", "cost", _PROVIDERS, _fits, _read_page),)
TABLES: Final = (
    TableForm(
        "Google billing export",
        "cost",
        _PROVIDERS,
        (frozenset({"usagestarttime"}), frozenset({"skudescription"}), frozenset({"cost"})),
        _read_table,
    ),
)
