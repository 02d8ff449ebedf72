"""What a provider would put on its bill: the meter's lines, and the mistakes that somebody has planted among them.

Six kinds of mistake: a charge that stands there twice, one that is missing, a batch at the standard price, a fee,
another amount, and the use of a stranger. Where they are is drawn by the seed; what was planted is told.
"""

import random
from collections.abc import Iterable
from hashlib import blake2b

import msgspec

from halfrate.emulator._meter import Meter
from halfrate.emulator._models import all_models
from halfrate.emulator._prices import Model, Tokens, costs

KINDS = ("input", "cached", "write_5m", "write_1h", "output")
MISTAKES = ("duplicate", "missing", "standard-price", "fee", "amount", "stranger")
STRANGER = "a stranger's key"
_DAY = 86_400
_MODELS = {(model.provider, model.snapshot): model for model in all_models()}

Five = tuple[int, int, int, int, int]
_NOTHING: Five = (0, 0, 0, 0, 0)


class Fee(msgspec.Struct, frozen=True):
    """Something that no token meter sees, as the provider calls it. Picodollars for one."""

    name: str
    each: int


FEES = {
    "openai": (Fee("web search tool calls", 10**10), Fee("code interpreter sessions", 3 * 10**10)),
    "anthropic": (Fee("web_search", 10**10), Fee("code_execution", 5 * 10**10)),
    "bedrock": (Fee("Guardrail-ContentPolicyUnitsConsumed", 15 * 10**7), Fee("PromptRouting-units", 10**9)),
    "gemini": (
        Fee("Grounding with Google Search", 14 * 10**9),
        Fee("Generate content cached content storage token hours gemini 2.5 flash", 10**6),
    ),
    "vertex": (
        Fee("Grounding with Google Search for Gemini", 35 * 10**9),
        Fee("Gemini 2.5 Flash Text Input Caching Storage", 10**6),
    ),
    "azure": (Fee("Code Interpreter Session", 3 * 10**10), Fee("File Search Vector Storage GB", 10**11)),
}
"""Names as the exports have them."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """Use of one model in one tier by one project, in an hour or on a day; or a fee.

    `copy` tells an entry from another that is the same. `tokens` and `paid` (picodollars) are by KINDS.
    """

    at: int
    provider: str
    project: str
    model: str = ""
    tier: str = ""
    requests: int = 0
    tokens: Five = _NOTHING
    paid: Five = _NOTHING
    fee: str = ""
    quantity: int = 0
    charge: int = 0
    copy: int = 0

    @property
    def day(self) -> int:
        return self.at // _DAY * _DAY

    @property
    def picodollars(self) -> int:
        return sum(self.paid) + self.charge


class Mistake(msgspec.Struct, frozen=True, kw_only=True):
    """One that was planted: on which day (unix seconds), in whose use of what. `picodollars`: by how much the bill is
    off because of it."""

    kind: str
    provider: str
    day: int
    project: str
    model: str
    tier: str
    picodollars: int = 0
    percent: int = 0
    of: str = ""
    entry: Entry | None = None


class Exports:
    """The bills of all providers. `planted`: the mistakes in them."""

    def __init__(self, meter: Meter, seed: int) -> None:
        self._meter = meter
        self._random = random.Random(f"{seed}:exports")
        self.planted: list[Mistake] = []

    def hourly(self, provider: str) -> list[Entry]:
        """The bill by the hour, in the order of time."""
        found = self._metered(provider)
        for mistake in self.planted:
            if mistake.provider == provider:
                found = _with(found, mistake)
        return sorted(found, key=lambda entry: (entry.at, entry.model, entry.tier, entry.project, entry.copy))

    def daily(self, provider: str) -> list[Entry]:
        """The bill by the day."""
        return by_day(self.hourly(provider))

    def plant(self, specs: Iterable[str]) -> list[Mistake]:
        """Plant what `kind[:key=value,...]` says (keys: provider, of=tokens|money), each somewhere else. ValueError
        where a spec makes no sense or there is no room; then none is planted."""
        before = list(self.planted)
        try:
            made = [self._plant(spec) for spec in specs]
        except ValueError:
            self.planted = before
            raise
        return made

    # ------------------------------------------------------------ the meter

    def _metered(self, provider: str) -> list[Entry]:
        return [
            Entry(
                at=hour,
                provider=who,
                project=project,
                model=model,
                tier=tier,
                requests=line.requests,
                tokens=(line.input, line.cached, line.write_5m, line.write_1h, line.output),
                paid=line.paid,
            )
            for (hour, who, model, tier, project), line in self._meter.usage.items()
            if who == provider
        ]

    def providers(self) -> list[str]:
        return sorted({who for _, who, *_ in self._meter.usage})

    # ------------------------------------------------------------ planting

    def _plant(self, spec: str) -> Mistake:
        kind, keys = _read(spec)
        providers = [keys["provider"]] if "provider" in keys else [p for p in self.providers() if p in FEES]
        entries = [entry for provider in providers for entry in by_day(self._metered(provider))]
        taken = {(one.provider, one.day, one.model) for one in self.planted}
        free = [
            entry
            for entry in entries
            if kind in {"fee", "stranger"}
            or ((entry.provider, entry.day, entry.model) not in taken and _can(kind, entry))
        ]
        if not free:
            raise ValueError(f"there is no charge left in which {kind!r} could be planted")
        # Two mistakes in one model's neighbouring days could be taken for one.
        free = [entry for entry in free if not _beside(entry, taken)] or free
        entry = self._random.choice(free)
        before = sum(one.picodollars for one in self.hourly(entry.provider))
        mistake = self._made(kind, entry, keys.get("of", "tokens"), taken)
        self.planted.append(mistake)
        after = sum(one.picodollars for one in self.hourly(entry.provider))
        self.planted[-1] = msgspec.structs.replace(mistake, picodollars=after - before)
        return self.planted[-1]

    def _made(self, kind: str, entry: Entry, of: str, taken: set[tuple[str, int, str]]) -> Mistake:
        percent = self._random.randint(23, 79)
        if kind == "fee":
            named = {(one.day, one.entry.fee) for one in self.planted if one.entry is not None}
            fees = [fee for fee in FEES[entry.provider] if (entry.day, fee.name) not in named]
            fee = self._random.choice(fees or FEES[entry.provider])
            quantity = self._random.randint(3, 40)
            made = Entry(
                at=entry.at,
                provider=entry.provider,
                project=entry.project,
                fee=fee.name,
                quantity=quantity,
                charge=fee.each * quantity,
            )
            return _mistake(kind, made, made=made)
        if kind == "stranger":
            made = self._stranger(entry, taken)
            return _mistake(kind, made, made=made)
        return _mistake(kind, entry, percent=percent, of=of if kind == "amount" else "")

    def _stranger(self, entry: Entry, taken: set[tuple[str, int, str]]) -> Entry:
        provider = entry.provider
        models = [model for (who, _), model in _MODELS.items() if who == provider and model.kind == "text"]
        days = sorted({one.day for one in self._metered(provider)})
        pairs = [(day, model) for day in days for model in models]
        free = [pair for pair in pairs if (provider, pair[0], pair[1].snapshot) not in taken]
        day, model = self._random.choice(free or pairs)
        tier = self._random.choice(("standard", "batch"))
        tokens = Tokens(input=self._random.randint(1_000, 90_000), output=self._random.randint(100, 9_000))
        return Entry(
            at=day + 3_600 * self._random.randrange(24),
            provider=provider,
            project=STRANGER,
            model=model.snapshot,
            tier=tier,
            requests=self._random.randint(1, 50),
            tokens=(tokens.input, 0, 0, 0, tokens.output),
            paid=costs(model, tier, tokens),
        )


def by_day(entries: Iterable[Entry]) -> list[Entry]:
    """Entries added up by the day."""
    sums: dict[tuple[object, ...], Entry] = {}
    for entry in entries:
        key = (entry.day, entry.provider, entry.project, entry.model, entry.tier, entry.fee, entry.copy)
        had = sums.get(key)
        sums[key] = msgspec.structs.replace(entry, at=entry.day) if had is None else plus(had, entry)
    return list(sums.values())


def plus(one: Entry, other: Entry) -> Entry:
    return msgspec.structs.replace(
        one,
        requests=one.requests + other.requests,
        tokens=_sum(one.tokens, other.tokens),
        paid=_sum(one.paid, other.paid),
        quantity=one.quantity + other.quantity,
        charge=one.charge + other.charge,
    )


def _sum(a: Five, b: Five) -> Five:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4])


def alias(project: str, prefix: str, digits: int = 24) -> str:
    """What stands for a key on a bill, where the key itself must not."""
    return prefix + blake2b(project.encode(), digest_size=16).hexdigest()[:digits]


def model_of(provider: str, snapshot: str) -> Model:
    return _MODELS[provider, snapshot]


# ---------------------------------------------------------------- mistakes


def _read(spec: str) -> tuple[str, dict[str, str]]:
    kind, _, rest = spec.partition(":")
    if kind not in MISTAKES:
        raise ValueError(f"there is no mistake {kind!r}. The names are: {', '.join(MISTAKES)}.")
    keys: dict[str, str] = {}
    for word in filter(None, rest.split(",")):
        key, _, value = word.partition("=")
        choices = {"provider": tuple(FEES), "of": ("tokens", "money")}.get(key)
        if choices is None or value not in choices:
            raise ValueError(
                f"{kind!r} cannot read {word!r}: write provider={'|'.join(FEES)} or of=tokens|money."
            )
        keys[key] = value
    return kind, keys


def _beside(entry: Entry, taken: set[tuple[str, int, str]]) -> bool:
    days = (entry.day - _DAY, entry.day + _DAY)
    return any((entry.provider, day, entry.model) in taken for day in days)


def _can(kind: str, entry: Entry) -> bool:
    if kind != "standard-price":
        return True
    model = model_of(entry.provider, entry.model)
    return entry.tier == "batch" and sum(entry.paid) != sum(costs(model, "standard", Tokens(*entry.tokens)))


def _mistake(
    kind: str, entry: Entry, *, percent: int = 0, of: str = "", made: Entry | None = None
) -> Mistake:
    return Mistake(
        kind=kind,
        provider=entry.provider,
        day=entry.day,
        project=entry.project,
        model=entry.model,
        tier=entry.tier,
        percent=percent,
        of=of,
        entry=made,
    )


def _with(entries: list[Entry], mistake: Mistake) -> list[Entry]:
    """The entries of a bill in which a mistake was made."""
    if mistake.entry is not None:
        return [*entries, mistake.entry]
    found: list[Entry] = []
    for entry in entries:
        place = (entry.day, entry.project, entry.model, entry.tier, entry.fee)
        if place != (mistake.day, mistake.project, mistake.model, mistake.tier, ""):
            found.append(entry)
        elif mistake.kind == "duplicate":
            found += [entry, msgspec.structs.replace(entry, copy=entry.copy + 1)]
        elif mistake.kind == "standard-price":
            model = model_of(entry.provider, entry.model)
            dear = costs(model, "standard", Tokens(*entry.tokens))
            found.append(msgspec.structs.replace(entry, tier="standard", paid=dear))
        elif mistake.kind == "amount":
            found.append(_altered(entry, mistake))
    return found


def _altered(entry: Entry, mistake: Mistake) -> Entry:
    if mistake.of == "money":
        paid = [amount * (100 + mistake.percent) // 100 for amount in entry.paid]
        return msgspec.structs.replace(entry, paid=(paid[0], paid[1], paid[2], paid[3], paid[4]))
    tokens, paid = list(entry.tokens), list(entry.paid)
    kind = 4 if tokens[4] else 0
    more = tokens[kind] * mistake.percent // 100 + 1
    paid[kind] += paid[kind] * more // tokens[kind]
    tokens[kind] += more
    return msgspec.structs.replace(
        entry,
        tokens=(tokens[0], tokens[1], tokens[2], tokens[3], tokens[4]),
        paid=(paid[0], paid[1], paid[2], paid[3], paid[4]),
    )
