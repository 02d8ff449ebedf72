"""Faults as values, and the book that decides when one strikes.

A draw is a hash of (seed, fault, what it is about), not a number from a shared stream: whether a row fails
does not depend on what else happened before it, so a failing run can be replayed.
"""

from difflib import get_close_matches
from hashlib import blake2b

import msgspec

from halfrate.emulator._fault_table import COMMON_KEYS, FAULTS, Key

Value = int | float | str | bool | None


class FaultSpecError(ValueError):
    """A fault specification that cannot be read; the message says what would be right."""


class Fault(msgspec.Struct, frozen=True):
    """A fault that somebody asked for."""

    name: str
    options: dict[str, Value]
    rate: float = 1.0
    times: int | None = None
    match: str | None = None
    provider: str | None = None

    def number(self, key: str) -> float:
        value = self.options[key]
        if not isinstance(value, int | float):
            raise FaultSpecError(f"fault {self.name!r}: {key} is not a number")
        return float(value)

    def whole(self, key: str) -> int:
        return int(self.number(key))

    def text(self, key: str) -> str:
        return str(self.options[key])

    def retry_after(self) -> dict[str, str]:
        """The Retry-After header, when one was asked for."""
        value = self.options.get("retry_after")
        return {} if value is None else {"retry-after": f"{value:g}"}

    def spec(self) -> str:
        """The fault in the form that `parse_fault` reads."""
        pairs = {"rate": self.rate if self.rate < 1 else None, "times": self.times, "match": self.match}
        pairs |= {"provider": self.provider, **self.options}
        words = [f"{key}={_written(value)}" for key, value in pairs.items() if value is not None]
        return f"{self.name}:{','.join(words)}" if words else self.name


def _written(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_fault(spec: str) -> Fault:
    """Read `name[:key=value,...]`, for example `row-error:rate=0.03,status=429`.

    Without rate, times and match a fault strikes once (lasting ones go on). Raises FaultSpecError.
    """
    name, _, rest = spec.partition(":")
    name = name.strip()
    kind = FAULTS.get(name)
    if kind is None:
        near = get_close_matches(name, FAULTS, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise FaultSpecError(f"there is no fault {name!r}.{hint} The names are: {', '.join(FAULTS)}.")
    common = {key: spec for key, spec in COMMON_KEYS.items() if key != "match" or kind.group == "rows"}
    keys = {**common, **kind.keys}
    given: dict[str, Value] = {}
    for word in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, text = word.partition("=")
        key = key.strip()
        if key not in keys or not equals:
            hint = f"write key=value with one of the keys {', '.join(keys)}."
            raise FaultSpecError(f"fault {name!r} cannot read {word!r}: {hint}")
        if key in given:
            raise FaultSpecError(f"fault {name!r} is given {key!r} twice.")
        given[key] = _read_value(name, key, keys[key], text.strip())
    return _checked(name, given, {key: spec.default for key, spec in kind.keys.items()}, kind.lasting)


def _checked(name: str, given: dict[str, Value], options: dict[str, Value], lasting: bool) -> Fault:
    rate, times = given.pop("rate", None), given.pop("times", None)
    match, provider = given.pop("match", None), given.pop("provider", None)
    if rate is not None and not 0 <= float(rate) <= 1:
        raise FaultSpecError(f"fault {name!r}: rate is a share between 0 and 1, not {rate}.")
    if times is not None and int(times) < 1:
        raise FaultSpecError(f"fault {name!r}: times is at least 1, not {times}.")
    for key in ("seconds", "retry_after", "size", "bytes"):
        value = given.get(key)
        if value is not None and float(value) < 0:
            raise FaultSpecError(f"fault {name!r}: {key} cannot be negative.")
    for key in ("done", "fraction"):
        value = given.get(key)
        if value is not None and not 0 <= float(value) <= 1:
            raise FaultSpecError(f"fault {name!r}: {key} is a share between 0 and 1, not {value}.")
    if rate is None and times is None and match is None and not lasting:
        times = 1
    return Fault(
        name,
        {**options, **given},
        1.0 if rate is None else float(rate),
        None if times is None else int(times),
        None if match is None else str(match),
        None if provider is None else str(provider),
    )


def _read_value(name: str, key: str, spec: Key, text: str) -> Value:
    if spec.choices and text not in spec.choices:
        raise FaultSpecError(f"fault {name!r}: {key} is one of {', '.join(spec.choices)}, not {text!r}.")
    if spec.kind == "text":
        if not text:
            raise FaultSpecError(f"fault {name!r}: {key} is empty.")
        return text
    if spec.kind == "flag":
        if text not in {"true", "false"}:
            raise FaultSpecError(f"fault {name!r}: {key} is true or false, not {text!r}.")
        return text == "true"
    try:
        value: int | float = int(text) if spec.kind == "int" else float(text)
    except ValueError:
        what = "a whole number" if spec.kind == "int" else "a number"
        raise FaultSpecError(f"fault {name!r}: {key} must be {what}, not {text!r}.") from None
    if value != value or value in {float("inf"), float("-inf")}:  # noqa: PLR0124 - this is how NaN shows
        raise FaultSpecError(f"fault {name!r}: {key} must be finite, not {text!r}.")
    return value


class FaultBook:
    """The active faults and how often each may still strike."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._active: dict[str, list[tuple[int, Fault]]] = {}
        self._left: dict[int, int] = {}
        self._serial = 0

    def add(self, fault: Fault) -> None:
        self._serial += 1
        self._active.setdefault(fault.name, []).append((self._serial, fault))
        if fault.times is not None:
            self._left[self._serial] = fault.times

    def clear(self) -> None:
        self._active.clear()
        self._left.clear()

    def listed(self) -> list[str]:
        """The active faults as specs, in the order they were added."""
        pairs = [pair for group in self._active.values() for pair in group]
        return [fault.spec() for _, fault in sorted(pairs, key=lambda pair: pair[0])]

    def among(self, names: frozenset[str]) -> list[str]:
        """Which of these names are active at all: lets a loop over rows skip the rest."""
        return [name for name in self._active if name in names]

    def strike(
        self,
        name: str,
        provider: str,
        about: str,
        body: bytes | None = None,
        *,
        content: str = "",
        operation: str = "",
    ) -> Fault | None:
        """The fault of that name that hits `about` (an id, an id and a row ...), if one does.

        A strike uses up one of the fault's `times`. `body` is what `match` looks into, `operation` what `on`
        is compared with; `content` stands for the same row in every attempt: a sticky fault draws by it, and so
        hits it always or never.
        """
        for serial, fault in self._active.get(name, ()):
            if fault.provider not in {None, provider} or self._left.get(serial) == 0:
                continue
            if fault.match is not None and (body is None or fault.match.encode() not in body):
                continue
            if operation and fault.options.get("on") not in {None, "any", operation}:
                continue
            drawn_by = content if fault.options.get("sticky") else about
            if fault.rate < 1 and self.draw(f"{serial}:{drawn_by}") >= fault.rate:
                continue
            if serial in self._left:
                self._left[serial] -= 1
            return fault
        return None

    def draw(self, about: str) -> float:
        """A number in [0, 1) that depends on the seed and `about` only."""
        digest = blake2b(f"{self._seed}:{about}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) / 2**64
