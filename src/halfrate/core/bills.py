"""A provider's bill as values: what a line of it says, and which model its words mean."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final, Literal

import msgspec

Basis = Literal["cost", "usage"]
"""What an export is about: money, with or without tokens; or tokens alone."""

INPUT: Final = "input"
CACHED: Final = "cached"
WRITTEN: Final = "written"
OUTPUT: Final = "output"
TOKEN_KINDS: Final = (INPUT, CACHED, WRITTEN, OUTPUT)
"""Kinds of token as bills tell them apart. How long a cache was to last is told by few, so the lengths are one here."""

UNTOLD: Final = ""
"""The tier of a line that does not say how it was served."""


class BillLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a bill. `day`: days since 1970, UTC. `money`: picodollars, None where the line has none in USD.

    `kind`: one of TOKEN_KINDS, "" for money that is not told by kind, or the name of a fee.
    `quantity`: tokens, or what the fee counts; None where it is not said.
    `rounding`: by how many picodollars the line may be off because of how it is written.
    `hints`: whose it was, in the provider's terms: project, workspace, key, subscription.
    """

    day: int
    provider: str
    model: str = ""
    tier: str = UNTOLD
    kind: str = ""
    quantity: int | None = None
    money: int | None = None
    rounding: int = 0
    currency: str = "USD"
    hints: tuple[str, ...] = ()
    region_bound: bool = False
    """The work was to be done in one region, for which some providers ask more."""

    @property
    def is_fee(self) -> bool:
        return self.kind != "" and self.kind not in TOKEN_KINDS


# ---------------------------------------------------------------- names of models

_PLACES: Final = ("us.", "us-gov.", "eu.", "apac.", "jp.", "au.", "in.", "ca.", "regional.")
_MAKER: Final = re.compile(
    r"^(anthropic|amazon|meta|mistral|cohere|ai21|deepseek|qwen|openai|google|nvidia|writer|zai|moonshotai)\."
)
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_PART: Final = re.compile(r"[a-z]+|[0-9]+")
_FIRST_VERSION: Final = re.compile(r"[-_ ](?:v1|v?1:0)(?::\d+)?$|:\d+$")
_POINT_ZERO: Final = re.compile(r"(?<=\d)\.0(?!\d)")
_NOISE: Final = frozenset(
    {"amazon", "bedrock", "edition", "instruct", "it", "latest", "preview", "model", "for"}
)
_SAME: Final = {"embedding": "embed", "embeddings": "embed"}

Signature = tuple[str, ...]


def signature(name: str) -> Signature:
    """What is left of a model's name when dates, makers, places and ways of writing are taken away, in order of the
    alphabet: `gpt 4.1 nano`, `gpt-4.1-nano` and `gpt-4.1-nano-2025-04-14` have the same, as have
    `NovaLite` and `amazon.nova-lite-v1:0`.

    A global place stays: what it costs differs.
    """
    text = _CAMEL.sub(" ", name.strip().rpartition("/")[2])
    text = _POINT_ZERO.sub("", _FIRST_VERSION.sub("", text.lower()))
    parts: list[str] = []
    if text.startswith("global."):
        text = text.removeprefix("global.")
        parts.append("global")
    for place in _PLACES:
        text = text.removeprefix(place)
    text = _MAKER.sub("", text)
    # A date as OpenAI writes it falls into pieces that are no dates of their own.
    text = re.sub(r"\d{4}-\d{2}-\d{2}", " ", text)
    found: list[str] = _PART.findall(text)
    for part in found:
        if part.isdigit():
            # Four digits and more are a date; of a version such as 4.1 or 41 each digit counts.
            parts.extend(part if len(part) < 4 else "")
        elif part not in _NOISE:
            parts.append(_SAME.get(part) or part)
    return tuple(sorted(parts))


class Names:
    """Finds the model that a bill means.

    Args:
        known: for a provider and a name as the price book has it, the book's own name of the model; None where
            it has none.
    """

    def __init__(self, known: Callable[[str, str], str | None]) -> None:
        self._known = known
        self._names: dict[str, dict[Signature, list[str]]] = defaultdict(lambda: defaultdict(list))
        self._exact: set[tuple[str, str]] = set()
        self._found: dict[tuple[str, str], str | None] = {}

    def learn(self, provider: str, models: Iterable[str]) -> None:
        """Models that a bill may well mean. Those that are learned first go before others that look the same."""
        for model in models:
            if (provider, model) not in self._exact:
                self._exact.add((provider, model))
                self._names[provider][signature(model)].append(model)

    def find(self, provider: str, name: str) -> str | None:
        """The model, or None where nobody here knows it."""
        key = (provider, name)
        if key not in self._found:
            self._found[key] = self._find(provider, name)
        return self._found[key]

    def _find(self, provider: str, name: str) -> str | None:
        if (provider, name) in self._exact:
            return name
        known = self._known(provider, name)
        if known is not None and (provider, known) in self._exact:
            return known
        marks = signature(name)
        found = self._names[provider].get(marks)
        if found is None and known is None:
            # The place is left out of some names.
            other = tuple(mark for mark in marks if mark != "global")
            found = self._names[provider].get(other if other != marks else tuple(sorted((*marks, "global"))))
        return found[0] if found else known
