"""OpenAI's and Anthropic's own usage and cost reports, from what the meter has and what was planted.

Shapes: OpenAI's usage and costs (openai 3.52, `types/admin/organization/usage_*`); Anthropic's Admin API (usage report,
cost report, 2026). Both want an admin key: here one in whose text there is "admin". Buckets are days, or hours with
`bucket_width=1h`; minutes are refused, for the meter counts by the hour. What was not grouped by is null.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import parse_qsl

from halfrate.emulator._context import Context, rfc3339
from halfrate.emulator._exports import Entry, alias, by_day, model_of, plus
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._wire import ApiError, Document, Response, json_response, whole_number

_WIDTHS = {"1h": 3_600, "1d": 86_400}
_PICODOLLARS = 10**12
_LIMITS = {"1d": (7, 31), "1h": (24, 168)}
_LINE_ITEMS = (
    ("input", "input"),
    ("cached", "cached input"),
    ("write", "cache write input"),
    ("output", "output"),
)
_TOKEN_TYPES = (
    ("Input Tokens", "uncached_input_tokens"),
    ("Input Tokens, Cache Read", "cache_read_input_tokens"),
    ("Input Tokens, Cache Write (5m)", "cache_creation.ephemeral_5m_input_tokens"),
    ("Input Tokens, Cache Write (1h)", "cache_creation.ephemeral_1h_input_tokens"),
    ("Output Tokens", "output_tokens"),
)

Result = Callable[[Entry], Document]
Key = Callable[[Entry], tuple[object, ...]]


class Reports:
    """Five read-only calls."""

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

    # ------------------------------------------------------------ OpenAI

    async def _openai_usage(self, call: Call) -> Response:
        ask = _Ask(call, "group_by", "start_time", "end_time")
        ask.only("project_id", "user_id", "api_key_id", "model", "batch", "service_tier", "api_source")
        batch = ask.one("batch")

        def wanted(entry: Entry) -> bool:
            told = batch in {None, "true" if entry.tier == "batch" else "false"}
            return not entry.fee and not _embeds(entry) and told and ask.of_project(entry)

        def result(entry: Entry) -> Document:
            return {
                "object": "organization.usage.completions.result",
                **_openai_tokens(entry),
                **ask.told(entry),
            }

        return self._openai_page(call, ask, wanted, lambda entries: _summed(entries, ask.key, result))

    async def _openai_embeddings(self, call: Call) -> Response:
        ask = _Ask(call, "group_by", "start_time", "end_time")
        ask.only("project_id", "user_id", "api_key_id", "model")

        def result(entry: Entry) -> Document:
            return {
                "object": "organization.usage.embeddings.result",
                "input_tokens": entry.tokens[0],
                "num_model_requests": entry.requests,
                **{
                    name: value
                    for name, value in ask.told(entry).items()
                    if name not in {"batch", "service_tier"}
                },
            }

        def wanted(entry: Entry) -> bool:
            return not entry.fee and _embeds(entry) and ask.of_project(entry)

        return self._openai_page(call, ask, wanted, lambda entries: _summed(entries, ask.key, result))

    async def _openai_costs(self, call: Call) -> Response:
        ask = _Ask(call, "group_by", "start_time", "end_time")
        ask.only("project_id", "user_id", "line_item", "api_key_id", "api_source")
        ask.daily("Currently only 1d is supported.")

        def results(entries: list[Entry]) -> list[Document]:
            sums: dict[tuple[object, ...], tuple[Document, int, int]] = {}
            for entry in entries:
                head = {name: value for name, value in ask.told(entry).items() if name not in _OF_USAGE}
                for item, quantity, paid in line_items(entry):
                    told = {**head, "line_item": item if "line_item" in ask.groups else None}
                    key = tuple(told.values())
                    _, counted, amount = sums.get(key, (told, 0, 0))
                    sums[key] = (told, counted + quantity, amount + paid)
            return [
                {
                    "object": "organization.costs.result",
                    "amount": {"value": float(Decimal(amount) / _PICODOLLARS), "currency": "usd"},
                    **told,
                    "quantity": quantity if told["line_item"] is not None else None,
                    "quantity_unit": "tokens" if "," in str(told["line_item"]) else None,
                }
                for told, quantity, amount in sums.values()
            ]

        return self._openai_page(call, ask, ask.of_project, results, most=180)

    def _openai_page(
        self,
        call: Call,
        ask: "_Ask",
        wanted: Callable[[Entry], bool],
        results: Callable[[list[Entry]], list[Document]],
        *,
        most: int | None = None,
    ) -> Response:
        _openai_admin(call.project)
        first, last = ask.unix("start_time"), ask.unix("end_time")
        if first is None:
            raise ApiError(400, "Missing required parameter: 'start_time'.", param="start_time")
        buckets, after = ask.buckets(first, last, call.now, most)
        entries = [entry for entry in self._context.exports.hourly("openai") if wanted(entry)]
        data = [
            {
                "object": "bucket",
                "start_time": start,
                "end_time": start + ask.width,
                "results": results([entry for entry in entries if start <= entry.at < start + ask.width]),
            }
            for start in buckets
        ]
        return json_response(
            {"object": "page", "data": data, "has_more": after is not None, "next_page": after}
        )

    # ------------------------------------------------------------ Anthropic

    async def _anthropic_usage(self, call: Call) -> Response:
        ask = _Ask(call, "group_by", "starting_at", "ending_at")
        ask.only(
            "account_id",
            "api_key_id",
            "context_window",
            "inference_geo",
            "model",
            "service_account_id",
            "service_tier",
            "speed",
            "workspace_id",
        )

        def result(entry: Entry) -> Document:
            tokens = entry.tokens
            groups = ask.groups
            return {
                "account_id": None,
                "api_key_id": alias(entry.project, "apikey_") if "api_key_id" in groups else None,
                "cache_creation": {
                    "ephemeral_1h_input_tokens": tokens[3],
                    "ephemeral_5m_input_tokens": tokens[2],
                },
                "cache_read_input_tokens": tokens[1],
                "context_window": "0-200k" if "context_window" in groups else None,
                "inference_geo": "not_available" if "inference_geo" in groups else None,
                "model": entry.model if "model" in groups else None,
                "output_tokens": tokens[4],
                "server_tool_use": {
                    "web_search_requests": entry.quantity if entry.fee == "web_search" else 0
                },
                "service_account_id": None,
                "service_tier": entry.tier if "service_tier" in groups else None,
                "uncached_input_tokens": tokens[0],
                "workspace_id": alias(entry.project, "wrkspc_") if "workspace_id" in groups else None,
            }

        def wanted(entry: Entry) -> bool:
            return entry.fee in {"", "web_search"}

        return self._anthropic_page(call, ask, wanted, lambda entries: _summed(entries, ask.key, result))

    async def _anthropic_costs(self, call: Call) -> Response:
        ask = _Ask(call, "group_by", "starting_at", "ending_at")
        ask.only("workspace_id", "description")
        ask.daily("bucket_width: Input should be '1d'")

        def results(entries: list[Entry]) -> list[Document]:
            grouped = "description" in ask.groups
            sums: dict[tuple[object, ...], tuple[Document, int]] = {}
            for entry in by_day(entries):
                for told, paid in _cost_items(entry):
                    shown: Document = {name: value if grouped else None for name, value in told.items()}
                    place = alias(entry.project, "wrkspc_") if "workspace_id" in ask.groups else None
                    shown |= {"workspace_id": place, "inference_geo": None}
                    key = (*shown.values(), entry.copy if grouped else 0)
                    sums[key] = (shown, sums.get(key, (shown, 0))[1] + paid)
            return [
                {"amount": f"{Decimal(paid) / (_PICODOLLARS // 100):f}", "currency": "USD", **shown}
                for shown, paid in sums.values()
            ]

        return self._anthropic_page(call, ask, lambda _: True, results)

    def _anthropic_page(
        self,
        call: Call,
        ask: "_Ask",
        wanted: Callable[[Entry], bool],
        results: Callable[[list[Entry]], list[Document]],
    ) -> Response:
        if "admin" not in call.project:
            raise ApiError(401, "invalid x-api-key")
        first, last = ask.moment("starting_at"), ask.moment("ending_at")
        if first is None:
            raise ApiError(400, "starting_at: Field required")
        buckets, after = ask.buckets(first, last, call.now, None)
        entries = [entry for entry in self._context.exports.hourly("anthropic") if wanted(entry)]
        data = [
            {
                "starting_at": _seconds(start),
                "ending_at": _seconds(start + ask.width),
                "results": results([entry for entry in entries if start <= entry.at < start + ask.width]),
            }
            for start in buckets
        ]
        return json_response({"data": data, "has_more": after is not None, "next_page": after})


_OF_USAGE = frozenset({"model", "batch", "service_tier"})


class _Ask:
    """What a call asks for."""

    def __init__(self, call: Call, group: str, first: str, last: str) -> None:
        self._given: dict[str, list[str]] = {}
        for name, value in parse_qsl(call.request.query, keep_blank_values=True):
            self._given.setdefault(name.removesuffix("[]"), []).append(value)
        self._bounds = (first, last)
        self.groups = self._given.get(group, [])
        text = self.one("bucket_width") or "1d"
        if text not in _WIDTHS:
            raise ApiError(400, f"bucket_width is one of {', '.join(_WIDTHS)}.", param="bucket_width")
        self._name, self.width = text, _WIDTHS[text]

    def one(self, name: str) -> str | None:
        return self._given.get(name, [None])[-1]

    def only(self, *groups: str) -> None:
        for name in self.groups:
            if name not in groups:
                raise ApiError(
                    400, f"group_by: {name!r} is not one of {', '.join(groups)}.", param="group_by"
                )

    def daily(self, otherwise: str) -> None:
        if self._name != "1d":
            raise ApiError(400, otherwise, param="bucket_width")

    def unix(self, name: str) -> int | None:
        text = self.one(name)
        if not text:
            return None
        if not text.isdecimal():
            raise ApiError(400, f"Invalid '{name}': expected unix seconds.", param=name)
        return int(text)

    def moment(self, name: str) -> int | None:
        text = self.one(name)
        if not text:
            return None
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            raise ApiError(400, f"{name}: Input should be a valid datetime") from None
        return int((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp())

    def buckets(
        self, first: int, last: int | None, now: float, most: int | None
    ) -> tuple[list[int], str | None]:
        """The starts of the buckets on this page, and the cursor of the next one."""
        usual, limit = _LIMITS[self._name]
        limit = whole_number(self.one("limit"), "limit", usual, 1, most or limit)
        page = self.one("page") or ""
        start = first // self.width * self.width
        if page:
            number = page.removeprefix("page_")
            if not number.isdecimal():
                raise ApiError(400, "Invalid 'page'.", param="page")
            start = int(number)
        end = int(now) + 1 if last is None else last
        starts = list(range(start, end, self.width))
        return starts[:limit], f"page_{starts[limit]}" if len(starts) > limit else None

    def of_project(self, entry: Entry) -> bool:
        asked = self._given.get("project_ids")
        return not asked or alias(entry.project, "proj_") in asked

    def told(self, entry: Entry) -> Document:
        """Fields of a result that say what it was grouped by."""
        values: Document = {
            "project_id": alias(entry.project, "proj_"),
            "user_id": None,
            "api_key_id": alias(entry.project, "key_", 16),
            "model": entry.model,
            "batch": entry.tier == "batch",
            "service_tier": "default" if entry.tier in {"standard", "batch"} else entry.tier,
        }
        return {name: value if name in self.groups else None for name, value in values.items()}

    def key(self, entry: Entry) -> tuple[object, ...]:
        """What entries have in common that are one result."""
        values = {
            **self.told(entry),
            "workspace_id": alias(entry.project, "wrkspc_"),
            "service_tier": entry.tier,
        }
        return tuple(values.get(name) for name in self.groups)


def _summed(entries: Iterable[Entry], key: Key, result: Result) -> list[Document]:
    sums: dict[tuple[object, ...], Entry] = {}
    for entry in entries:
        had = sums.get(key(entry))
        sums[key(entry)] = entry if had is None else plus(had, entry)
    return [result(entry) for entry in sums.values()]


def _embeds(entry: Entry) -> bool:
    return bool(entry.model) and model_of(entry.provider, entry.model).kind == "embedding"


def _openai_admin(key: str) -> None:
    if "admin" not in key:
        raise ApiError(
            403, "You have insufficient permissions for this operation. Missing scopes: api.usage.read."
        )


def _openai_tokens(entry: Entry) -> Document:
    read, cached, write_5m, write_1h, written = entry.tokens
    return {
        "input_tokens": read + cached + write_5m + write_1h,
        "input_uncached_tokens": read,
        "input_cached_tokens": cached,
        "input_cache_write_tokens": write_5m + write_1h,
        "output_tokens": written,
        "num_model_requests": entry.requests,
    }


def line_items(entry: Entry) -> list[tuple[str, int, int]]:
    """OpenAI's names of what an entry costs, with tokens (or what a fee counts) and picodollars.

    How a batch is named is not documented; here it is `MODEL, batch input`.
    """
    if entry.fee:
        return [(entry.fee, entry.quantity, entry.charge)]
    tokens, paid = entry.tokens, entry.paid
    counts = {"input": tokens[0], "cached": tokens[1], "write": tokens[2] + tokens[3], "output": tokens[4]}
    amounts = {"input": paid[0], "cached": paid[1], "write": paid[2] + paid[3], "output": paid[4]}
    tier = "" if entry.tier == "standard" else f"{entry.tier} "
    return [
        (f"{entry.model}, {tier}{name}", counts[kind], amounts[kind])
        for kind, name in _LINE_ITEMS
        if counts[kind]
    ]


def _cost_items(entry: Entry) -> list[tuple[Document, int]]:
    if entry.fee:
        told: Document = {
            "cost_type": entry.fee,
            "description": f"{entry.fee.replace('_', ' ').title()} Usage",
            "model": None,
            "service_tier": None,
            "token_type": None,
            "context_window": None,
        }
        return [(told, entry.charge)]
    batch = ", Batch" if entry.tier == "batch" else ""
    return [
        (
            {
                "cost_type": "tokens",
                "description": f"{entry.model} Usage - {name}{batch}",
                "model": entry.model,
                "service_tier": entry.tier,
                "token_type": token_type,
                "context_window": "0-200k",
            },
            paid,
        )
        for (name, token_type), paid in zip(_TOKEN_TYPES, entry.paid, strict=True)
        if paid
    ]


def _seconds(at: int) -> str:
    return (rfc3339(at) or "").replace(".000000", "")
