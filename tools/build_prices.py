"""Rebuild `src/halfrate/prices/book.json` from genai-prices (MIT) and our overlay.

Run it with the development environment: `.venv/bin/python tools/build_prices.py`. The book is committed, so
that an install needs neither a network nor another package to know its prices.
"""

import datetime
import json
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genai_prices.data_snapshot import get_snapshot

FOLDER = Path(__file__).parent.parent / "src" / "halfrate" / "prices"
PROVIDERS = ("openai", "anthropic")
KINDS = {
    "input": "input_mtok",
    "cached": "cache_read_mtok",
    "write_5m": "cache_write_mtok",
    "write_1h": "cache_write_1h_mtok",
    "output": "output_mtok",
}
_TIERS = {
    (("processing", "batch"),): "batch",
    (("service_tier", "flex"),): "flex",
    (("service_tier", "priority"),): "priority",
}
"""How the source says in which tier a table of rates holds."""
TODAY = datetime.datetime.now(datetime.UTC).date()


def main() -> None:
    models = [
        entry
        for provider in get_snapshot().providers
        if provider.id in PROVIDERS
        for model in provider.models
        if (entry := model_entry(provider.id, model))
    ]
    overlay = json.loads((FOLDER / "overlay.json").read_text())
    for entry in overlay["models"]:
        models = [m for m in models if (m["provider"], m["model"]) != (entry["provider"], entry["model"])]
        models.append(entry)
    models.sort(key=lambda m: (m["provider"], m["model"]))
    book = {
        "built": TODAY.isoformat(),
        "source": f"genai-prices {version('genai-prices')} and overlay.json",
        "models": models,
    }
    (FOLDER / "book.json").write_text(json.dumps(book, indent=1) + "\n")


def model_entry(provider: str, model: Any) -> dict[str, Any] | None:
    prices = []
    standard = None
    conditional = model.prices if isinstance(model.prices, list) else None
    for item in conditional or [model.prices]:
        constraint = getattr(item, "constraint", None) if conditional else None
        since = getattr(constraint, "start_date", None)
        if constraint is not None and since is None:
            continue  # prices by time of day: none of these providers has them
        price = item.prices if conditional else item
        entry = price_entry("standard", price, since, None)
        if entry["rates"]:
            prices.append(entry)
            if since is None or since <= TODAY:
                standard = price
    prices.extend(
        price_entry(tier, variant.prices, None, standard)
        for variant in model.price_variants or []
        if (tier := _TIERS.get(tuple(variant.when.items()))) is not None
    )
    if not prices:
        return None
    return {"provider": provider, "model": model.id, "match": clauses(model.match), "prices": prices}


def price_entry(tier: str, price: Any, since: datetime.date | None, standard: Any) -> dict[str, Any]:
    rates: dict[str, str] = {}
    steps: dict[int, dict[str, str]] = {}
    for kind, field in KINDS.items():
        value = getattr(price, field)
        if value is None and standard is not None:
            # A batch table without a rate for cached input: those tokens keep the standard rate.
            value = getattr(standard, field) if kind in {"cached", "write_5m", "write_1h"} else None
        if value is None:
            continue
        if isinstance(value, Decimal):
            rates[kind] = str(value)
            continue
        rates[kind] = str(value.base)
        for tier_step in value.tiers:
            steps.setdefault(tier_step.start, {})[kind] = str(tier_step.price)
    entry: dict[str, Any] = {"tier": tier, "rates": rates}
    if steps:
        entry["steps"] = [{"above": above, "rates": {**rates, **r}} for above, r in sorted(steps.items())]
    if since is not None:
        entry["since"] = since.isoformat()
    return entry


def clauses(match: Any) -> list[dict[str, str]]:
    kind = type(match).__name__
    if kind == "ClauseOr":
        return [clause for part in match.or_ for clause in clauses(part)]
    names = {"ClauseEquals": "equals", "ClauseStartsWith": "starts_with", "ClauseRegex": "regex"}
    if kind not in names:
        return []
    return [{names[kind]: getattr(match, names[kind])}]


if __name__ == "__main__":
    main()
