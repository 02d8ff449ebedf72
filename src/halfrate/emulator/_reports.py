"""The providers' own usage and cost reports, from the meter: what a reconciliation compares its ledger with.

Shapes: OpenAI usage and costs API reference; Anthropic usage and cost Admin API. Buckets are days, or hours
with `bucket_width=1h`; anything else is refused.
"""

from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal

from halfrate.emulator._context import Context, rfc3339
from halfrate.emulator._meter import UsageLine
from halfrate.emulator._models import all_models
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._wire import ApiError, Document, Response, json_response

_WIDTHS = {"1h": 3_600, "1d": 86_400}
_PICODOLLARS = 10**12
_EMBEDDINGS = {model.snapshot for model in all_models() if model.kind == "embedding"}


class Reports:
    """Four read-only calls over the meter. Any key may ask; real ones want an admin key."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def openai_routes(self) -> list[Route]:
        return [
            Route("GET", "/v1/organization/usage/completions", "report", self._openai_usage),
            Route("GET", "/v1/organization/usage/embeddings", "report", self._openai_embeddings),
            Route("GET", "/v1/organization/costs", "report", self._openai_costs),
        ]

    def anthropic_routes(self) -> list[Route]:
        return [
            Route("GET", "/v1/organizations/usage_report/messages", "report", self._anthropic_usage),
            Route("GET", "/v1/organizations/cost_report", "report", self._anthropic_costs),
        ]

    def _lines(
        self, provider: str, width: int, wanted: Callable[[str, str], bool]
    ) -> dict[int, list[tuple[str, str, UsageLine]]]:
        """Bucket start to (model, tier, sums)."""
        sums: dict[tuple[int, str, str], UsageLine] = defaultdict(UsageLine)
        for (hour, who, model, tier), line in self._context.meter.usage.items():
            if who != provider or not wanted(model, tier):
                continue
            total = sums[hour // width * width, model, tier]
            for kind in ("requests", "input", "cached", "write_5m", "write_1h", "output", "picodollars"):
                setattr(total, kind, getattr(total, kind) + getattr(line, kind))
        buckets: dict[int, list[tuple[str, str, UsageLine]]] = defaultdict(list)
        for (start, model, tier), line in sorted(sums.items(), key=lambda item: item[0]):
            buckets[start].append((model, tier, line))
        return buckets

    def _openai_page(
        self,
        call: Call,
        wanted: Callable[[str, str], bool],
        result: Callable[[str, str, UsageLine], Document],
    ) -> Response:
        params = call.request.params()
        width = _width(params.get("bucket_width"))
        first, last = _unix(params.get("start_time"), "start_time"), _unix(params.get("end_time"), "end_time")
        data = [
            {
                "object": "bucket",
                "start_time": start,
                "end_time": start + width,
                "results": [result(*line) for line in lines],
            }
            for start, lines in self._lines("openai", width, wanted).items()
            if start + width > (first or 0) and (last is None or start < last)
        ]
        return json_response({"object": "page", "data": data, "has_more": False, "next_page": None})

    async def _openai_usage(self, call: Call) -> Response:
        batch = call.request.params().get("batch")

        def wanted(model: str, tier: str) -> bool:
            return model not in _EMBEDDINGS and batch in {None, "true" if tier == "batch" else "false"}

        return self._openai_page(call, wanted, _openai_usage_result)

    async def _openai_embeddings(self, call: Call) -> Response:
        def result(model: str, tier: str, line: UsageLine) -> Document:
            head = {"object": "organization.usage.embeddings.result", "model": model}
            return {**head, "input_tokens": line.input, "num_model_requests": line.requests}

        return self._openai_page(call, lambda model, _: model in _EMBEDDINGS, result)

    async def _openai_costs(self, call: Call) -> Response:
        def result(model: str, tier: str, line: UsageLine) -> Document:
            amount = {"value": float(Decimal(line.picodollars) / _PICODOLLARS), "currency": "usd"}
            head = {"object": "organization.costs.result", "amount": amount, "project_id": None}
            return {**head, "line_item": f"{model}, {tier}"}

        return self._openai_page(call, lambda _model, _tier: True, result)

    def _anthropic_page(self, call: Call, result: Callable[[str, str, UsageLine], Document]) -> Response:
        width = _width(call.request.params().get("bucket_width"))
        data = [
            {
                "starting_at": rfc3339(start),
                "ending_at": rfc3339(start + width),
                "results": [result(*line) for line in lines],
            }
            for start, lines in self._lines("anthropic", width, lambda _model, _tier: True).items()
        ]
        return json_response({"data": data, "has_more": False, "next_page": None})

    async def _anthropic_usage(self, call: Call) -> Response:
        def result(model: str, tier: str, line: UsageLine) -> Document:
            return {
                "model": model,
                "service_tier": tier,
                "uncached_input_tokens": line.input,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": line.write_5m,
                    "ephemeral_1h_input_tokens": line.write_1h,
                },
                "cache_read_input_tokens": line.cached,
                "output_tokens": line.output,
                "server_tool_use": {"web_search_requests": 0},
                "api_key_id": None,
                "workspace_id": None,
                "context_window": None,
            }

        return self._anthropic_page(call, result)

    async def _anthropic_costs(self, call: Call) -> Response:
        def result(model: str, tier: str, line: UsageLine) -> Document:
            cents = Decimal(line.picodollars) / (_PICODOLLARS // 100)
            head = {"amount": f"{cents.normalize():f}", "currency": "USD", "cost_type": "tokens"}
            return {**head, "model": model, "service_tier": tier, "description": f"{model} usage, {tier}"}

        return self._anthropic_page(call, result)


def _openai_usage_result(model: str, tier: str, line: UsageLine) -> Document:
    written = line.write_5m + line.write_1h
    return {
        "object": "organization.usage.completions.result",
        "model": model,
        "batch": tier == "batch",
        "service_tier": "default" if tier == "standard" else tier,
        "input_tokens": line.input + line.cached + written,
        "input_uncached_tokens": line.input,
        "input_cached_tokens": line.cached,
        "input_cache_write_tokens": written,
        "output_tokens": line.output,
        "num_model_requests": line.requests,
        "project_id": None,
        "user_id": None,
        "api_key_id": None,
    }


def _width(text: str | None) -> int:
    width = _WIDTHS.get(text or "1d")
    if width is None:
        raise ApiError(400, f"bucket_width is one of {', '.join(_WIDTHS)}.", param="bucket_width")
    return width


def _unix(text: str | None, name: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal():
        raise ApiError(400, f"Invalid '{name}': expected unix seconds.", param=name)
    return int(text)
