"""What a call costs, in integer picodollars (1e-12 USD) per token of each kind."""

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
    audio: int | None = None
    """Of sound that is read; None: as text."""
    audio_cached: int | None = None


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
    sited: bool = False
    """A call may ask for it to be run in one country, which costs a tenth more of everything."""


class Tokens(msgspec.Struct, frozen=True):
    """Tokens of one answered request. The four input kinds are disjoint; their sum is the prompt.

    `audio` is part of `input`, `audio_cached` of `cached`. `at_home`: it was run in one country, as asked for.
    """

    input: int = 0
    cached: int = 0
    write_5m: int = 0
    write_1h: int = 0
    output: int = 0
    audio: int = 0
    audio_cached: int = 0
    at_home: bool = False

    @property
    def prompt(self) -> int:
        return self.input + self.cached + self.write_5m + self.write_1h


def cost(model: Model, tier: str, tokens: Tokens) -> int:
    """Picodollars for one request."""
    return sum(costs(model, tier, tokens))


def costs(model: Model, tier: str, tokens: Tokens) -> tuple[int, int, int, int, int]:
    """The same for each kind of token. The long-context step is judged per request, never on a sum."""
    discounted = tier in {"batch", "flex"}
    if tier == "priority" and model.priority is not None:
        rates = model.priority
    else:
        rates = model.batch if discounted else model.standard
    if model.long_from and tokens.prompt > model.long_from:
        rates = (model.long_batch if discounted else model.long_standard) or rates
    audio = rates.input if rates.audio is None else rates.audio
    audio_cached = rates.cached if rates.audio_cached is None else rates.audio_cached
    found = (
        tokens.input * rates.input + tokens.audio * (audio - rates.input),
        tokens.cached * rates.cached + tokens.audio_cached * (audio_cached - rates.cached),
        tokens.write_5m * rates.write_5m,
        tokens.write_1h * rates.write_1h,
        tokens.output * rates.output,
    )
    if not tokens.at_home:
        return found
    read, cached, kept, longer, made = (amount * 11 // 10 for amount in found)
    return read, cached, kept, longer, made


def rates(source: float, output: float, cached: float, write_5m: float = 0.0, write_1h: float = 0.0) -> Rates:
    """Rates from dollars per million tokens, as the price pages print them."""
    kinds = (source, output, cached, write_5m or source, write_1h or write_5m or source)
    return Rates(*(round(kind * DOLLARS_PER_MILLION) for kind in kinds))


def with_audio(text: Rates, audio: float, cached: float) -> Rates:
    """The same, and what sound costs that is read, anew or from a cache."""
    more = {"audio": round(audio * DOLLARS_PER_MILLION), "audio_cached": round(cached * DOLLARS_PER_MILLION)}
    return msgspec.structs.replace(text, **more)
