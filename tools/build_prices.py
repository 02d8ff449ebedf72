"""Rebuild `src/halfrate/prices/book.json` from genai-prices (MIT) and our overlay.

Run it with the development environment: `.venv/bin/python tools/build_prices.py`. The book is committed, so
that an install needs neither a network nor another package to know its prices.
"""

import datetime
import json
import re
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genai_prices.data_snapshot import get_snapshot

FOLDER = Path(__file__).parent.parent / "src" / "halfrate" / "prices"
PROVIDERS = {
    "openai": ("openai",),
    "anthropic": ("anthropic",),
    "azure": ("azure", "openai"),
    "bedrock": ("aws",),
    "doubleword": ("doubleword",),
    "fireworks": ("fireworks",),
    "gemini": ("google",),
    "groq": ("groq",),
    "mistral": ("mistral",),
    "moonshot": ("moonshotai",),
    "novita": ("novita",),
    "together": ("together",),
    "vertex": ("google",),
    "voyage": ("voyageai",),
    "xai": ("x-ai",),
    "zhipu": ("zhipuai", "zai"),
}
"""Our providers, and the source's names for each. What the first of several has goes before; of the others, whose
models it serves as well, the prices of real time are taken alone."""
KINDS = {
    "input": "input_mtok",
    "cached": "cache_read_mtok",
    "write_5m": "cache_write_mtok",
    "write_1h": "cache_write_1h_mtok",
    "output": "output_mtok",
    "audio_input": "input_audio_mtok",
    "audio_cached": "cache_audio_read_mtok",
    "audio_output": "output_audio_mtok",
    "image_output": "output_image_mtok",
}
_TIERS = {
    (("processing", "batch"),): "batch",
    (("service_tier", "flex"),): "flex",
    (("service_tier", "priority"),): "priority",
}
"""How the source says in which tier a table of rates holds."""
_WITHIN = {"bedrock"}
"""Providers whose models are named within something longer: a geography, or the ARN of an inference profile."""
TODAY = datetime.datetime.now(datetime.UTC).date()


def main() -> None:
    sources = {provider.id: provider for provider in get_snapshot().providers}
    discounts = json.loads((FOLDER / "discounts.json").read_text())
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for ours, theirs in PROVIDERS.items():
        for source in theirs:
            for model in sources[source].models:
                entry = model_entry(ours, model)
                if entry and source != theirs[0]:
                    entry["prices"] = [price for price in entry["prices"] if price["tier"] == "standard"]
                if entry and entry["prices"]:
                    discounted(entry, discounts.get(ours, []))
                    found.setdefault((ours, entry["model"]), entry)
    overlay = json.loads((FOLDER / "overlay.json").read_text())
    for entry in overlay["models"]:
        found[entry["provider"], entry["model"]] = entry
    book = {
        "built": TODAY.isoformat(),
        "source": f"genai-prices {version('genai-prices')} and overlay.json",
        "uplifts": json.loads((FOLDER / "uplifts.json").read_text()),
        "models": [found[key] for key in sorted(found)],
    }
    (FOLDER / "book.json").write_text(json.dumps(book, indent=1) + "\n")


def discounted(entry: dict[str, Any], rules: list[dict[str, Any]]) -> None:
    """Batch prices for a model that the source has none for, by what its provider's documentation says is off; instead
    of the source's own where a rule says so, because those are another provider's."""
    rule = next((rule for rule in rules if re.search(rule.get("models", ""), entry["model"])), None)
    known = any(price["tier"] == "batch" for price in entry["prices"])
    if rule is None or (known and not rule.get("instead")):
        return
    entry["prices"] = [price for price in entry["prices"] if price["tier"] != "batch"]
    prices = [price for price in entry["prices"] if price["tier"] == "standard"]
    entry["prices"] += [{**price, "tier": "batch", **_less(price, rule)} for price in prices]
    entry["source"] = f"standard: genai-prices {version('genai-prices')}; batch: {rule['source']}"


def _less(price: dict[str, Any], rule: dict[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = {"rates": _rates_off(price["rates"], rule)}
    if "steps" in price:
        steps = price["steps"]
        changed["steps"] = [{"above": s["above"], "rates": _rates_off(s["rates"], rule)} for s in steps]
    return changed


def _rates_off(rates: dict[str, str], rule: dict[str, Any]) -> dict[str, str]:
    """Rates less a discount. Cached tokens take it where the provider says so; else they cost what others do, which
    is the most that they can cost."""
    share = 1 - Decimal(rule["off"])
    lower = {kind: Decimal(value) * share for kind, value in rates.items()}
    if not rule["cached_too"]:
        lower |= {kind: lower["input"] for kind in ("cached", "write_5m", "write_1h") if kind in lower}
        lower |= {kind: lower["audio_input"] for kind in ("audio_cached",) if kind in lower}
    return {kind: f"{value.normalize():f}" for kind, value in lower.items()}


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
    for tier in _TIERS.values():
        dated = sorted(
            (getattr(variant.constraint, "start_date", None) or datetime.date.min, number, variant.prices)
            for number, variant in enumerate(model.price_variants or [])
            if _TIERS.get(tuple(variant.when.items())) == tier
            and (variant.constraint is None or hasattr(variant.constraint, "start_date"))
        )
        # The first date is the day from which the source keeps such prices, and not one on which they changed.
        prices += [
            price_entry(tier, price, since if place else None, standard)
            for place, (since, _, price) in enumerate(dated)
        ]
    prices = [price for price in prices if price["rates"]]
    if not prices:
        return None
    match = clauses(model.match, inside=provider in _WITHIN)
    return {"provider": provider, "model": model.id, "match": match, "prices": prices}


def price_entry(tier: str, price: Any, since: datetime.date | None, standard: Any) -> dict[str, Any]:
    rates: dict[str, str] = {}
    steps: dict[int, dict[str, str]] = {}
    for kind, field in KINDS.items():
        value = getattr(price, field)
        if value is None and standard is not None:
            # A batch table without a rate for cached input, say: those tokens keep the standard rate.
            value = getattr(standard, field) if kind not in {"input", "output"} else None
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


def clauses(match: Any, *, inside: bool = False) -> list[dict[str, str]]:
    """What a model may be called. `inside`: also by a part of a longer name. Two models may fit one then, and which of
    them is meant is a matter of the source's order, which the book does not keep."""
    kind = type(match).__name__
    if kind == "ClauseOr":
        return [clause for part in match.or_ for clause in clauses(part, inside=inside)]
    if inside and kind == "ClauseContains":
        return [{"regex": re.escape(match.contains)}]
    if inside and kind == "ClauseEndsWith":
        return [{"regex": f"{re.escape(match.ends_with)}$"}]
    names = {"ClauseEquals": "equals", "ClauseStartsWith": "starts_with", "ClauseRegex": "regex"}
    if kind not in names:
        return []
    return [{names[kind]: getattr(match, names[kind])}]


if __name__ == "__main__":
    main()
