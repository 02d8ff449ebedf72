"""AWS cost and usage reports: the lines that Bedrock's models make. CUR 2.0 and the older one, CSV or Parquet.

Columns are those of the CUR data dictionaries (`line_item_usage_type` in CUR 2.0, `lineItem/UsageType` before). What a
line is for stands in its usage type. Models of AWS's own account: `USE1-NovaLite-input-tokens-batch`, newer ones
`USE1-qwen.qwen3-32b-mantle-input-tokens-standard`; those that are sold through the Marketplace, Claude among them:
`USE1-MP:USE1_InputTokenCount_Global_Batch-Units` or `..._output_tokens_global_standard-Units`, with the model in the
product's name, "Claude Haiku 4.5 (Amazon Bedrock Edition)" (AWS price list, offers AmazonBedrock and
AmazonBedrockFoundationModels, 2026). Amounts are in thousands of tokens, or millions, as the unit says.
"""

import re
from collections.abc import Iterator
from typing import Final

from halfrate.bills.amounts import Place, count, day_of, decimal, in_usd, pico
from halfrate.bills.forms import TableForm, Tally
from halfrate.bills.tables import Row, Table
from halfrate.core.bills import CACHED, INPUT, OUTPUT, UNTOLD, WRITTEN, BillLine

_ROUNDED: Final = 50
"""Half of the last of ten decimals."""
_REGION: Final = re.compile(r"^(?:[A-Z]{2,4}\d?|US-Gov-[A-Za-z]+|[A-Z]{3}\d?-[A-Z]{3}\d?)-(?=[A-Za-z])")
_MARKETPLACE: Final = re.compile(r"^(?:[A-Za-z0-9]+-)?MP:[A-Za-z0-9]+_(?P<what>.+?)(?:-Units)?$")
_TOKENS: Final = re.compile(
    r"^(?P<model>.+?)-(?P<what>(?:cache-(?:read|write)[a-z0-9-]*|input|output|text-input|text-output)"
    r"-(?:tokens?|token-count)[A-Za-z0-9-]*)$"
)
_OLD: Final = re.compile(r"^(?P<what>(?:Input|Output)TokenCount)-(?P<model>.+)$")
_UNITS: Final = (("1m", 10**6), ("million", 10**6), ("1k", 1000), ("thousand", 1000))
_USAGE: Final = frozenset({"usage", "discountedusage", "savingsplancoveredusage", ""})
_EDITION: Final = "(amazon bedrock edition)"
_NEVER_TOKENS: Final = ("provisioned", "reserved")


def _what(text: str) -> tuple[str, str, bool]:
    """Kind, tier and whether through a global place, of the part of a usage type that says what was done."""
    low = text.lower().replace("-", "_")
    if "cacheread" in low or "cache_read" in low:
        kind = CACHED
    elif "cachewrite" in low or "cache_write" in low:
        kind = WRITTEN
    elif "input" in low:
        kind = INPUT
    elif "output" in low:
        kind = OUTPUT
    else:
        kind = ""
    tier = next((word for word in ("batch", "flex", "priority") if word in low), "standard")
    return kind, tier, "global" in low


def _told(row: Row) -> tuple[str, str, str]:
    """Model, tier and kind of a line; kind is a fee's name where it is none of tokens."""
    usage_type = row.get("lineitemusagetype")
    product = row.get("productproductname", "productservicename", "productname")
    found = _MARKETPLACE.match(usage_type)
    model = ""
    if found is not None:
        model = product if _EDITION in product.lower() else row.get("productmodel")
    else:
        rest = _REGION.sub("", usage_type)
        found = _TOKENS.match(rest) or _OLD.match(rest)
        if found is not None:
            model = found["model"].removesuffix("-mantle")
    if found is None or any(word in usage_type.lower() for word in _NEVER_TOKENS):
        return "", UNTOLD, _fee(usage_type)
    kind, tier, everywhere = _what(found["what"])
    if not kind or not model:
        return "", UNTOLD, _fee(usage_type)
    model = model[: -len(_EDITION)].strip() if model.lower().endswith(_EDITION) else model
    return (f"global.{model}" if everywhere else model), tier, kind


def _fee(usage_type: str) -> str:
    return _REGION.sub("", usage_type).replace("_", " ").strip() or "no usage type"


def _of_bedrock(row: Row) -> bool:
    """Whether a line has to do with models at all."""
    product = row.get("lineitemproductcode", "productservicecode").lower()
    name = row.get("productproductname", "productservicename", "productname").lower()
    return "bedrock" in product or _EDITION in name or name == "amazon bedrock"


def _unit(row: Row, place: Place) -> int:
    """Tokens in one of what a line counts."""
    unit = row.get("pricingunit").lower()
    said = f"{unit} {row.get('lineitemlineitemdescription').lower()}"
    found = next((times for word, times in _UNITS if word in unit), None)
    if found is None and unit in {"tokens", "token"}:
        found = 1
    if found is None:
        found = next((times for word, times in _UNITS if word in said), None)
    if found is None:
        place.fail(f"the unit {unit!r} does not say how many tokens it is.", "pricing_unit")
    return found


def _read(table: Table, tally: Tally) -> Iterator[BillLine]:
    for row in table.rows():
        day = day_of(row.get("lineitemusagestartdate"), table.place, "line_item_usage_start_date")
        tally.covers(day)
        if not _of_bedrock(row):
            tally.others += 1
            continue
        currency = row.get("lineitemcurrencycode")
        cost = decimal(row.get("lineitemunblendedcost"), table.place, "line_item_unblended_cost")
        money = pico(cost) if cost is not None and in_usd(currency) else None
        item_type = row.get("lineitemlineitemtype")
        if item_type.lower() not in _USAGE:
            tally.set_aside(item_type.lower(), money)
            continue
        if not in_usd(currency):
            tally.currencies.add(currency.upper())
        model, tier, kind = _told(row)
        times = _unit(row, table.place) if model else 1
        quantity = count(row.get("lineitemusageamount"), table.place, "line_item_usage_amount", times)
        if not quantity and not cost:
            continue
        tally.lines += 1
        yield BillLine(
            day=day,
            provider="bedrock",
            model=model,
            tier=tier,
            kind=kind,
            quantity=quantity,
            money=money,
            rounding=_ROUNDED,
            currency=currency.upper() or "USD",
            hints=(row.get("lineitemusageaccountid"),) if row.get("lineitemusageaccountid") else (),
        )


TABLES: Final = (
    TableForm(
        "AWS cost and usage report",
        "cost",
        ("bedrock",),
        (
            frozenset({"lineitemusagetype"}),
            frozenset({"lineitemusagestartdate"}),
            frozenset({"lineitemunblendedcost"}),
        ),
        _read,
    ),
)
