"""What a call costs, in integer picodollars (1e-12 USD) per token.

Typed by hand on 2026-11-20 from the providers' price pages (OpenAI API pricing with its batch table,
2026-10-04, and its page on priority processing; Anthropic pricing and prompt caching guides, 2026-10-06), standard
and batch separately: "batch is half" is not true of every token kind. Where OpenAI's batch table names no cached
rate (gpt-4.1*, gpt-4o*), cached tokens keep the standard cached rate. Priority has no rates for long prompts: they
are not offered there.
"""

import re

import msgspec

DOLLARS_PER_MILLION = 1_000_000
"""One dollar per million tokens, in picodollars per token."""


class Rates(msgspec.Struct, frozen=True):
    """Picodollars per token of each kind."""

    input: int
    output: int
    cached: int
    write_5m: int
    write_1h: int


class Model(msgspec.Struct, frozen=True):
    """A model: its dated name, who serves it, and its rates below and above the long-context step."""

    name: str
    snapshot: str
    provider: str
    standard: Rates
    batch: Rates
    long_standard: Rates | None = None
    long_batch: Rates | None = None
    long_from: int = 0
    """Requests with more prompt tokens than this pay the long rates; 0: no such step."""
    kind: str = "text"
    priority: Rates | None = None
    """None: the model is not served in that tier, and a call that asks for it is served as any other."""
    flex: bool = False
    """Served in the flex tier, at the batch rates. A call that asks for it of another model is refused."""


class Tokens(msgspec.Struct, frozen=True):
    """Tokens of one answered request. The four input kinds are disjoint; their sum is the prompt."""

    input: int = 0
    cached: int = 0
    write_5m: int = 0
    write_1h: int = 0
    output: int = 0

    @property
    def prompt(self) -> int:
        return self.input + self.cached + self.write_5m + self.write_1h


def cost(model: Model, tier: str, tokens: Tokens) -> int:
    """Picodollars for one request. The long-context step is judged per request, never on a sum."""
    discounted = tier in {"batch", "flex"}
    if tier == "priority" and model.priority is not None:
        rates = model.priority
    else:
        rates = model.batch if discounted else model.standard
    if model.long_from and tokens.prompt > model.long_from:
        rates = (model.long_batch if discounted else model.long_standard) or rates
    return (
        tokens.input * rates.input
        + tokens.cached * rates.cached
        + tokens.write_5m * rates.write_5m
        + tokens.write_1h * rates.write_1h
        + tokens.output * rates.output
    )


def _rates(
    source: float, output: float, cached: float, write_5m: float = 0.0, write_1h: float = 0.0
) -> Rates:
    """Rates from dollars per million tokens, as the price pages print them."""
    kinds = (source, output, cached, write_5m or source, write_1h or write_5m or source)
    return Rates(*(round(kind * DOLLARS_PER_MILLION) for kind in kinds))


def _gpt(
    name: str, snapshot: str, standard: Rates, batch: Rates, priority: Rates | None, *, flex: bool = False
) -> Model:
    return Model(name, snapshot, "openai", standard, batch, priority=priority, flex=flex)


def _embedding(name: str, standard: float, batch: float) -> Model:
    prices = (_rates(standard, 0, standard), _rates(batch, 0, batch))
    return Model(name, name, "openai", *prices, kind="embedding")


def _claude(name: str, snapshot: str, standard: Rates, batch: Rates) -> Model:
    return Model(name, snapshot, "anthropic", standard, batch)


# Columns: input, output, cached input, cache write (5 minutes), cache write (1 hour).
_MODELS = (
    _gpt(
        "gpt-4.1",
        "gpt-4.1-2025-04-14",
        _rates(2.00, 8.00, 0.50),
        _rates(1.00, 4.00, 0.50),
        _rates(3.50, 14.00, 0.875),
    ),
    _gpt(
        "gpt-4.1-mini",
        "gpt-4.1-mini-2025-04-14",
        _rates(0.40, 1.60, 0.10),
        _rates(0.20, 0.80, 0.10),
        _rates(0.70, 2.80, 0.175),
    ),
    _gpt(
        "gpt-4.1-nano",
        "gpt-4.1-nano-2025-04-14",
        _rates(0.10, 0.40, 0.025),
        _rates(0.05, 0.20, 0.025),
        _rates(0.20, 0.80, 0.05),
    ),
    _gpt(
        "gpt-4o",
        "gpt-4o-2024-08-06",
        _rates(2.50, 10.00, 1.25),
        _rates(1.25, 5.00, 1.25),
        _rates(4.25, 17.00, 2.125),
    ),
    _gpt(
        "gpt-4o-mini",
        "gpt-4o-mini-2024-07-18",
        _rates(0.15, 0.60, 0.075),
        _rates(0.075, 0.30, 0.075),
        _rates(0.25, 1.00, 0.125),
    ),
    _gpt(
        "gpt-5",
        "gpt-5-2025-08-07",
        _rates(1.25, 10.00, 0.125),
        _rates(0.625, 5.00, 0.0625),
        _rates(2.50, 20.00, 0.25),
        flex=True,
    ),
    _gpt(
        "gpt-5-mini",
        "gpt-5-mini-2025-08-07",
        _rates(0.25, 2.00, 0.025),
        _rates(0.125, 1.00, 0.0125),
        _rates(0.45, 3.60, 0.045),
        flex=True,
    ),
    _gpt(
        "gpt-5-nano",
        "gpt-5-nano-2025-08-07",
        _rates(0.05, 0.40, 0.005),
        _rates(0.025, 0.20, 0.0025),
        None,
        flex=True,
    ),
    Model(
        "gpt-5.6-luna",
        "gpt-5.6-luna",
        "openai",
        _rates(0.20, 1.20, 0.02, 0.25, 0.25),
        _rates(0.10, 0.60, 0.01, 0.125, 0.125),
        _rates(0.40, 1.80, 0.04, 0.50, 0.50),
        _rates(0.20, 0.90, 0.02, 0.25, 0.25),
        long_from=272_000,
        flex=True,
    ),
    _embedding("text-embedding-3-small", 0.02, 0.01),
    _embedding("text-embedding-3-large", 0.13, 0.065),
    _claude(
        "claude-haiku-4-5",
        "claude-haiku-4-5-20251001",
        _rates(1.00, 5.00, 0.10, 1.25, 2.00),
        _rates(0.50, 2.50, 0.05, 0.625, 1.00),
    ),
    Model(
        "claude-sonnet-4-5",
        "claude-sonnet-4-5-20250929",
        "anthropic",
        _rates(3.00, 15.00, 0.30, 3.75, 6.00),
        _rates(1.50, 7.50, 0.15, 1.875, 3.00),
        _rates(6.00, 22.50, 0.60, 7.50, 12.00),
        _rates(3.00, 11.25, 0.30, 3.75, 6.00),
        long_from=200_000,
    ),
    _claude(
        "claude-sonnet-4-6",
        "claude-sonnet-4-6",
        _rates(3.00, 15.00, 0.30, 3.75, 6.00),
        _rates(1.50, 7.50, 0.15, 1.875, 3.00),
    ),
    _claude(
        "claude-opus-4-5",
        "claude-opus-4-5-20251101",
        _rates(5.00, 25.00, 0.50, 6.25, 10.00),
        _rates(2.50, 12.50, 0.25, 3.125, 5.00),
    ),
    _claude(
        "claude-opus-5-5",
        "claude-opus-5-5",
        _rates(4.00, 20.00, 0.20, 5.00, 8.00),
        _rates(2.00, 10.00, 0.10, 2.50, 4.00),
    ),
    _claude(
        "claude-sonnet-5-5",
        "claude-sonnet-5-5",
        _rates(2.00, 10.00, 0.10, 2.50, 4.00),
        _rates(1.00, 5.00, 0.05, 1.25, 2.00),
    ),
)

MODELS: dict[str, Model] = {model.name: model for model in _MODELS}

# "-2025-04-14" (OpenAI), "-20251001" (Anthropic), "-latest": other names for the same model.
_DATE_SUFFIX = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|latest)$")


def find_model(name: object, provider: str) -> Model | None:
    """The model a request names, by its base name or a dated one; None when there is no such model."""
    if not isinstance(name, str):
        return None
    model = MODELS.get(name) or MODELS.get(_DATE_SUFFIX.sub("", name))
    return model if model is not None and model.provider == provider else None
