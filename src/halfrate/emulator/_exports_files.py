"""Bills as files, in the forms that the providers export: CSV and JSON lines.

OpenAI's dashboard (costs and usage, columns as in exports of 2025-10), Anthropic's Console (cost and usage, 2026; costs
rounded to cents), AWS's CUR 2.0 (Bedrock lines), Google's billing export (standard usage cost, nested as BigQuery
writes JSON; costs to six decimals) and Azure's cost and usage details (MCA file).
"""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import msgspec

from halfrate.emulator._exports import KINDS, Entry, Exports, alias, model_of
from halfrate.emulator._reports import line_items

_PICO = 10**12
_ORG = ("org-emulator", "Emulator")


def _usd(pico: int) -> str:
    return f"{Decimal(pico) / _PICO:f}"


def _date(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    with io.StringIO(newline="") as out:
        writer = csv.writer(out)
        writer.writerow(head)
        writer.writerows(rows)
        return out.getvalue().encode()


def _kinds(entry: Entry) -> list[tuple[str, int, int]]:
    """(kind, tokens, picodollars) of what was used at all."""
    return [
        (kind, tokens, paid)
        for kind, tokens, paid in zip(KINDS, entry.tokens, entry.paid, strict=True)
        if tokens
    ]


# ---------------------------------------------------------------- OpenAI

_SPAN = ("start_time", "end_time", "start_time_iso", "end_time_iso")


def _span(entry: Entry) -> tuple[int, int, str, str]:
    first, last = entry.at, entry.at + 86_400
    return (
        first,
        last,
        datetime.fromtimestamp(first, UTC).isoformat(),
        datetime.fromtimestamp(last, UTC).isoformat(),
    )


def _openai_costs(exports: Exports) -> bytes:
    head = (*_SPAN, "amount_value", "amount_currency", "line_item", "project_id")
    rows = [
        (*_span(entry), _usd(paid), "usd", item, alias(entry.project, "proj_"), *_ORG)
        for entry in exports.daily("openai")
        for item, _, paid in line_items(entry)
    ]
    return _csv((*head, "organization_id", "organization_name"), rows)


def _openai_usage(exports: Exports) -> bytes:
    head = (
        *_SPAN,
        "project_id",
        "num_model_requests",
        "user_id",
        "api_key_id",
        "model",
        "batch",
        "service_tier",
    )
    tokens = (
        "input_tokens",
        "output_tokens",
        "input_cached_tokens",
        "input_uncached_tokens",
        "input_cache_write_tokens",
    )
    rows: list[Sequence[Any]] = []
    for entry in exports.daily("openai"):
        if entry.fee:
            continue
        read, cached, write_5m, write_1h, out = entry.tokens
        written = write_5m + write_1h
        tier = "default" if entry.tier in {"standard", "batch"} else entry.tier
        told = (
            alias(entry.project, "proj_"),
            entry.requests,
            "",
            alias(entry.project, "key_", 16),
            entry.model,
        )
        counts = (read + cached + written, out, cached, read, written)
        rows.append((*_span(entry), *told, entry.tier == "batch", tier, *counts))
    return _csv((*head, *tokens), rows)


# ---------------------------------------------------------------- Anthropic

_TOKEN_TYPES = {
    "input": "input_no_cache",
    "cached": "input_cache_read",
    "write_5m": "input_cache_write_5m",
    "write_1h": "input_cache_write_1h",
    "output": "output",
}


def _claude(snapshot: str) -> str:
    """A model's name as the Console shows it: "Claude Haiku 4.5"."""
    parts = model_of("anthropic", snapshot).name.split("-")
    numbers = [part for part in parts if part.isdigit()]
    return f"{' '.join(part.title() for part in parts if not part.isdigit())} {'.'.join(numbers)}"


def _anthropic_costs(exports: Exports) -> bytes:
    head = (
        "usage_date_utc model workspace api_key usage_type context_window token_type cost_usd list_price_usd"
    )
    rows: list[Sequence[Any]] = []
    for entry in exports.daily("anthropic"):
        place = (alias(entry.project, "wrkspc_"), alias(entry.project, "key-", 8))
        if entry.fee:
            cents = _cents(entry.charge)
            rows.append(
                (_date(entry.at), "", *place, "", "", "", cents, cents, entry.fee, "not_available", "")
            )
        for kind, _, paid in _kinds(entry):
            told = ("batch" if entry.tier == "batch" else "message", "≤ 200k", _TOKEN_TYPES[kind])
            cents = _cents(paid)
            ends = (cents, cents, "token", "not_available", "")
            rows.append((_date(entry.at), _claude(entry.model), *place, *told, *ends))
    return _csv((*head.split(), "cost_type", "inference_geo", "speed"), rows)


def _cents(pico: int) -> str:
    return str((Decimal(pico) / _PICO).quantize(Decimal("0.01"), ROUND_HALF_EVEN))


def _anthropic_usage(exports: Exports) -> bytes:
    head = (
        "usage_date_utc model_version api_key workspace usage_type context_window usage_input_tokens_no_cache"
    )
    more = "usage_input_tokens_cache_write_5m usage_input_tokens_cache_write_1h usage_input_tokens_cache_read"
    rows: list[Sequence[Any]] = []
    for entry in exports.daily("anthropic"):
        if entry.fee not in {"", "web_search"}:
            continue
        read, cached, write_5m, write_1h, out = entry.tokens
        place = (alias(entry.project, "key-", 8), alias(entry.project, "wrkspc_"))
        told = (_date(entry.at), entry.model, *place, entry.tier or "standard", "≤ 200k")
        rows.append((*told, read, write_5m, write_1h, cached, out, entry.quantity, "not_available", ""))
    end = "usage_output_tokens web_search_count inference_geo speed"
    return _csv((*head.split(), *more.split(), *end.split()), rows)


# ---------------------------------------------------------------- AWS

_OWN = {
    "amazon.nova-lite-v1:0": "NovaLite",
    "meta.llama3-3-70b-instruct-v1:0": "Llama3-3-70B",
    "mistral.mistral-large-2402-v1:0": "MistralLarge",
    "amazon.titan-embed-text-v2:0": "TitanEmbeddingV2-Text",
}
_SOLD = {
    "global.anthropic.claude-haiku-4-5-20251001-v1:0": ("Claude Haiku 4.5", "_Global"),
    "anthropic.claude-haiku-4-5-20251001-v1:0": ("Claude Haiku 4.5", ""),
}
_OWN_WORDS = {
    "input": "input-tokens",
    "cached": "cache-read-input-token-count",
    "write_5m": "cache-write-input-token-count",
    "write_1h": "cache-write-1h-input-token-count",
    "output": "output-tokens",
}
_SOLD_WORDS = {
    "input": "InputTokenCount",
    "cached": "CacheReadInputTokenCount",
    "write_5m": "CacheWriteInputTokenCount",
    "write_1h": "CacheWrite1hInputTokenCount",
    "output": "OutputTokenCount",
}


def _aws_cur(exports: Exports) -> bytes:
    head = (
        "identity_line_item_id",
        "bill_payer_account_id",
        "line_item_usage_account_id",
        "line_item_line_item_type",
        "line_item_usage_start_date",
        "line_item_usage_end_date",
        "line_item_product_code",
        "line_item_usage_type",
        "line_item_usage_amount",
        "line_item_currency_code",
        "line_item_unblended_cost",
        "line_item_line_item_description",
        "product_product_name",
        "pricing_unit",
    )
    rows: list[Sequence[Any]] = []
    for entry in exports.daily("bedrock"):
        account = str(int(alias(entry.project, "", 12), 16))[:12].zfill(12)
        for usage_type, code, product, unit, amount, paid in _aws_lines(entry):
            start, end = (f"{_date(at)}T00:00:00Z" for at in (entry.at, entry.at + 86_400))
            told = (alias(f"{entry}{usage_type}", "", 16), "999900001111", account, "Usage", start, end)
            cost = f"{(Decimal(paid) / _PICO).quantize(Decimal('0.0000000001')):f}"
            rows.append((*told, code, usage_type, amount, "USD", cost, "", product, unit))
    if rows:
        # Whoever exports this exports everything else too.
        day = rows[0][4]
        other = ("0", "999900001111", "111122223333", "Usage", day, day, "AmazonS3", "TimedStorage-ByteHrs")
        rows.append((*other, "12.5", "USD", "0.2875", "storage", "Amazon Simple Storage Service", "GB-Mo"))
        tax = ("1", "999900001111", "111122223333", "Tax", day, day, "AmazonBedrock", "")
        rows.append((*tax, "1", "USD", "0.01", "Tax", "Amazon Bedrock", ""))
    return _csv(head, rows)


def _aws_lines(entry: Entry) -> list[tuple[str, str, str, str, str, int]]:
    if entry.fee:
        return [
            (
                f"USE1-{entry.fee}",
                "AmazonBedrock",
                "Amazon Bedrock",
                "Units",
                str(entry.quantity),
                entry.charge,
            )
        ]
    found: list[tuple[str, str, str, str, str, int]] = []
    for kind, tokens, paid in _kinds(entry):
        if entry.model in _SOLD:
            product, place = _SOLD[entry.model]
            tier = "" if entry.tier == "standard" else f"_{entry.tier.title()}"
            usage_type = f"USE1-MP:USE1_{_SOLD_WORDS[kind]}{place}{tier}-Units"
            name, code = f"{product} (Amazon Bedrock Edition)", "8wjvxpzlzsx4qs5sbtnzb4nhn"
            found.append((usage_type, code, name, "1M tokens", f"{Decimal(tokens) / 10**6:f}", paid))
        else:
            tier = "" if entry.tier == "standard" else f"-{entry.tier}"
            usage_type = f"USE1-{_OWN[entry.model]}-{_OWN_WORDS[kind]}{tier}"
            amount = f"{Decimal(tokens) / 1000:f}"
            found.append((usage_type, "AmazonBedrock", "Amazon Bedrock", "1K tokens", amount, paid))
    return found


# ---------------------------------------------------------------- Google

_SERVICES = {"gemini": ("AEFD-7695-64FA", "Gemini API"), "vertex": ("C7E2-9256-1C43", "Vertex AI")}


def _google_sku(entry: Entry, kind: str) -> str:
    model = entry.model.replace("-", " ").replace(" preview", "")
    if entry.provider == "gemini":
        tier = "" if entry.tier == "standard" else f" {entry.tier}"
        if model_of(entry.provider, entry.model).kind == "embedding":
            return f"EmbedContent input token count for {entry.model}{tier}"
        word = {"input": "input", "cached": "cached input"}.get(kind, "output")
        return f"Generate content {word} token count {model} text{tier}"
    tier = {"batch": "Batch Predictions", "flex": "Flex - Predictions"}.get(entry.tier, "Predictions")
    word = {"input": "Text Input", "cached": "Text Input Caching"}.get(kind, "Text Output")
    return f"{model.title()} {word} - {tier}"


def _google_billing(exports: Exports) -> bytes:
    lines: list[dict[str, Any]] = []
    for provider, (service_id, service) in _SERVICES.items():
        for entry in exports.daily(provider):
            found = [(_google_sku(entry, kind), tokens, paid) for kind, tokens, paid in _kinds(entry)]
            if entry.fee:
                found = [(entry.fee, entry.quantity, entry.charge)]
            project = alias(entry.project, "project-", 8)
            for sku, amount, paid in found:
                cost = (Decimal(paid) / _PICO).quantize(Decimal("0.000001"), ROUND_HALF_EVEN)
                lines.append(
                    {
                        "billing_account_id": "01AAAA-BBBBBB-CCCCCC",
                        "service": {"id": service_id, "description": service},
                        "sku": {"id": alias(sku, "", 12).upper(), "description": sku},
                        "usage_start_time": f"{_date(entry.at)} 00:00:00 UTC",
                        "usage_end_time": f"{_date(entry.at + 86_400)} 00:00:00 UTC",
                        "project": {"id": project, "name": project},
                        "cost": float(cost),
                        "currency": "USD",
                        "currency_conversion_rate": 1.0,
                        "usage": {"amount": float(amount), "unit": "count"},
                        "credits": [],
                        "cost_type": "regular",
                    }
                )
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


# ---------------------------------------------------------------- Azure


def _azure_meter(entry: Entry, kind: str) -> str:
    model = model_of("azure", entry.model)
    batch = " Batch" if entry.tier == "batch" else ""
    if model.kind == "embedding":
        return f"{model.name}{batch.replace(' ', '-')}-glbl Tokens"
    word = {"input": "Inp", "cached": "cached Inp"}.get(kind, "Outp")
    return f"{model.name.replace('-', ' ')}{batch} {word} glbl Tokens"


def _azure_costs(exports: Exports) -> bytes:
    head = (
        "billingAccountId",
        "date",
        "SubscriptionId",
        "resourceGroupName",
        "ResourceId",
        "consumedService",
        "meterCategory",
        "meterSubCategory",
        "meterName",
        "unitOfMeasure",
        "quantity",
        "costInBillingCurrency",
        "billingCurrency",
        "costInUsd",
        "chargeType",
    )
    rows: list[Sequence[Any]] = []
    for entry in exports.daily("azure"):
        subscription = alias(entry.project, "", 32)
        resource = f"/subscriptions/{subscription}/resourceGroups/emulator/providers/{alias(entry.project, 'aoai-', 8)}"
        found = [
            (_azure_meter(entry, kind), "1K", f"{Decimal(tokens) / 1000:f}", paid)
            for kind, tokens, paid in _kinds(entry)
        ]
        if entry.fee:
            found = [(entry.fee, "1", str(entry.quantity), entry.charge)]
        for meter, unit, quantity, paid in found:
            date = datetime.fromtimestamp(entry.at, UTC).strftime("%m/%d/%Y")
            place = ("emulator", date, subscription, "emulator", resource, "Microsoft.CognitiveServices")
            told = ("Foundry Models", "Azure OpenAI", meter, unit, quantity)
            rows.append((*place, *told, _usd(paid), "USD", _usd(paid), "Usage"))
    return _csv(head, rows)


FILES: dict[str, Callable[[Exports], bytes]] = {
    "openai-costs.csv": _openai_costs,
    "openai-usage.csv": _openai_usage,
    "anthropic-costs.csv": _anthropic_costs,
    "anthropic-usage.csv": _anthropic_usage,
    "aws-cur.csv": _aws_cur,
    "google-billing.jsonl": _google_billing,
    "azure-costs.csv": _azure_costs,
}
"""Name -> what makes it."""
