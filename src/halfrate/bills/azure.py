"""Azure's cost exports: lines of Azure OpenAI (Foundry) meters, in the files of cost and usage details and in FOCUS.

Columns are those of the cost and usage details files, whose spelling differs between agreements (`MeterName`,
`meterName`; `CostInBillingCurrency`, `costInBillingCurrency`, `PreTaxCost`; learn.microsoft.com, dataset schema, 2024),
and FOCUS 1.0's `x_SkuMeterName`, `ConsumedQuantity`, `BilledCost`. What a line is for stands in the meter's name:
"gpt 4.1 nano Batch Inp glbl Tokens", "gpt-4o-mini-0718-Outp-regnl Tokens", "gpt 4.1 cached Inp glbl Tokens", and
without a direction for embeddings (Azure retail prices, 2026). The quantity is in units of the unit of measure, mostly
thousands.
"""

import re
from collections.abc import Iterator
from typing import Final

from halfrate.bills.amounts import Place, count, day_of, decimal, in_usd, pico
from halfrate.bills.forms import TableForm, Tally
from halfrate.bills.tables import Row, Table
from halfrate.core.bills import CACHED, INPUT, OUTPUT, UNTOLD, BillLine

_ROUNDED: Final = 50
_METER: Final = ("metername", "xskumetername", "skumeter")
_DAY: Final = ("date", "usagedatetime", "usagedate", "chargeperiodstart")
_QUANTITY: Final = ("quantity", "usagequantity", "consumedquantity")
_IN_USD: Final = ("costinusd",)
_COST: Final = ("costinbillingcurrency", "cost", "pretaxcost", "billedcost")
_CURRENCY: Final = ("billingcurrency", "billingcurrencycode", "currency", "currencycode")
_CATEGORY: Final = ("metercategory", "xskumetercategory", "servicename", "consumedservice")
_SUBCATEGORY: Final = ("metersubcategory", "xskumetersubcategory", "productname", "product")
_USAGE: Final = frozenset({"usage", ""})
_MODELS: Final = re.compile(r"openai|foundry|cognitive ?services|azure ai", re.IGNORECASE)
_WORD: Final = re.compile(
    r"^(?:cached|cchd|cd|batch|inp|inpt|input|outp|outpt|opt|output|glbl|gl|global|regnl|regional|data|zone|dzone|dz|"
    r"tokens?|pp|priority|flex|std|standard|text|txt)$"
)
_THOUSANDS: Final = re.compile(r"^([\d.]+)?\s*([kKmM])?\b")
_TIMES: Final = {"k": 1000, "m": 10**6, "": 1}


def meter(name: str) -> tuple[str, str, str]:
    """Model, tier and kind that a meter is for. What is no tokens is a fee: its kind is the meter."""
    low = name.lower()
    parts = [part for part in re.split(r"[\s-]+", low) if part]
    if not parts or parts[-1] not in {"tokens", "token"} or "ft" in parts or "grader" in parts:
        return "", UNTOLD, name.strip()
    told = {part for part in parts if _WORD.match(part)}
    if told & {"cached", "cchd", "cd"}:
        kind = CACHED
    elif told & {"outp", "outpt", "opt", "output"}:
        kind = OUTPUT
    else:
        kind = INPUT
    tier = "standard"
    for word, found in (("batch", "batch"), ("pp", "priority"), ("priority", "priority"), ("flex", "flex")):
        if word in told:
            tier = found
    # "text" is a part of the names of embeddings.
    kept = [part for index, part in enumerate(parts) if part not in told or (part == "text" and index == 0)]
    return "-".join(kept), tier, kind


def _of_models(row: Row) -> bool:
    category = f"{row.get(*_CATEGORY)} {row.get(*_SUBCATEGORY)}"
    return (
        bool(_MODELS.search(category))
        or "microsoft.cognitiveservices" in row.get("consumedservice", "resourceid", "resourcetype").lower()
    )


def _unit(row: Row, place: Place) -> int:
    if row.get("consumedquantity"):
        return 1
    text = row.get("unitofmeasure", "pricingunit", "xpricingunitdescription").strip()
    found = _THOUSANDS.match(text)
    if found is None or (not found[1] and not found[2] and text):
        place.fail(f"the unit of measure {text!r} does not say how many tokens it is.", "UnitOfMeasure")
    number = decimal(found[1] or "1", place, "UnitOfMeasure")
    return int((number or 1) * _TIMES[(found[2] or "").lower()])


def _read(table: Table, tally: Tally) -> Iterator[BillLine]:
    for row in table.rows():
        day = day_of(row.get(*_DAY), table.place, "Date")
        tally.covers(day)
        if not _of_models(row):
            tally.others += 1
            continue
        money, currency = _money(row, table.place)
        charge = row.get("chargetype", "chargecategory").lower()
        if charge not in _USAGE:
            tally.set_aside(charge, money)
            continue
        model, tier, kind = meter(row.get(*_METER))
        times = _unit(row, table.place) if model else 1
        quantity = count(row.get(*_QUANTITY), table.place, "Quantity", times)
        if not quantity and not money:
            continue
        if money is None:
            tally.currencies.add(currency)
        tally.lines += 1
        yield BillLine(
            day=day,
            provider="azure",
            model=model,
            tier=tier,
            kind=kind or "no meter",
            quantity=quantity,
            money=money,
            rounding=_ROUNDED,
            currency=currency,
            hints=_hints(row),
        )


def _money(row: Row, place: Place) -> tuple[int | None, str]:
    dollars = decimal(row.get(*_IN_USD), place, "CostInUsd")
    if dollars is not None:
        return pico(dollars), "USD"
    currency = row.get(*_CURRENCY).upper() or "USD"
    cost = decimal(row.get(*_COST), place, "Cost")
    return (pico(cost) if cost is not None and in_usd(currency) else None), currency


def _hints(row: Row) -> tuple[str, ...]:
    # The last part of a resource's id is its name, which people know.
    resource = row.get("resourceid", "instanceid").rpartition("/")[2]
    return tuple(hint for hint in (row.get("subscriptionid", "subaccountid"), resource) if hint)


TABLES: Final = (
    TableForm(
        "Azure cost export",
        "cost",
        ("azure",),
        (frozenset(_METER), frozenset(_DAY), frozenset({*_COST, *_IN_USD})),
        _read,
    ),
)
