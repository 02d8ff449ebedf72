"""Values of somebody else's log as ours: any of them may be missing, text instead of a number, or nonsense.

Nothing here raises: what makes no sense is None, and is counted as not said.
"""

import datetime
import functools
import itertools
import math
from typing import Any, Final, cast

import msgspec

from halfrate.base.money import PICO
from halfrate.core.audit_call import NO_TAGS

_MOST_TOKENS: Final = 10**15
_LONGEST: Final = 200
"""Letters that a name keeps. What is longer is cut: a prompt is no name."""
_MOST_TAGS: Final = 50
_TIERS: Final = {
    "batch": "batch",
    "flex": "flex",
    "priority": "priority",
    "default": "standard",
    "standard": "standard",
    "auto": "standard",
    "scale": "standard",
    "on_demand": "standard",
    "ondemand": "standard",
}
_PROVIDERS: Final = {
    "aws": "bedrock",
    "aws.bedrock": "bedrock",
    "aws_bedrock": "bedrock",
    "bedrock_converse": "bedrock",
    "azure_openai": "azure",
    "azure_ai": "azure",
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "az.ai.openai": "azure",
    "az.ai.inference": "azure",
    "google": "gemini",
    "google_ai_studio": "gemini",
    "gcp.gemini": "gemini",
    "gcp.gen_ai": "gemini",
    "gcp.vertex_ai": "vertex",
    "vertex_ai": "vertex",
    "vertexai": "vertex",
    "mistral_ai": "mistral",
    "mistralai": "mistral",
    "x_ai": "xai",
    "x-ai": "xai",
    "together_ai": "together",
    "togetherai": "together",
    "fireworks_ai": "fireworks",
    "dashscope": "qwen",
    "text-completion-openai": "openai",
    "anthropic_text": "anthropic",
}
"""Names that others give to the providers that halfrate knows: LiteLLM's `custom_llm_provider`, OpenTelemetry's
well-known values of `gen_ai.provider.name` and `gen_ai.system` (semantic conventions 1.36 to 1.41), Helicone's."""
_TRUE: Final = frozenset({"true", "t", "1", "yes", "y"})
_FALSE: Final = frozenset({"false", "f", "0", "no", "n"})

_JSON_FAULTS: Final = (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError)
_decode = msgspec.json.decode


def text(value: Any) -> str | None:
    """A name. Numbers are names too; what is empty, or neither, is None."""
    if type(value) is str:
        return value[:_LONGEST] or None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18:
        return str(value)
    return None


def count(value: Any) -> int:
    """A number of tokens; 0 for what is none."""
    if type(value) is int:
        return value if 0 <= value <= _MOST_TOKENS else 0
    if type(value) is str and value.isdecimal() and len(value) < 16:
        return int(value)
    found = number(value)
    return int(found) if found is not None and 0 <= found <= _MOST_TOKENS else 0


def number(value: Any) -> float | None:
    """A finite number."""
    if value is None or value == "" or isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def length(value: Any, scale: float = 1.0) -> float | None:
    """A length of time in seconds; None where it is negative. `scale`: seconds in one of its units."""
    if value is None:
        return None
    found = number(value)
    return found * scale if found is not None and found >= 0 else None


def truth(value: Any) -> bool | None:
    if isinstance(value, bool) or value is None:
        return value
    return _truth(str(value))


@functools.lru_cache(maxsize=256)
def _truth(word: str) -> bool | None:
    word = word.strip().lower()
    return True if word in _TRUE else False if word in _FALSE else None


def dollars(value: Any) -> int | None:
    """Picodollars of an amount in USD that a log has as a float or as text. What is finer is dropped."""
    if value is None:
        return None
    found = value if type(value) is float else number(value)
    return round(found * PICO) if found is not None and 0 <= found < 1e9 else None


def status(value: Any) -> int | None:
    """An HTTP status; 200 or 500 for a word that says whether it went well."""
    if type(value) is int:
        return value if 0 < value < 1000 else None
    return _status(value) if type(value) is str else None


@functools.lru_cache(maxsize=256)
def _status(word: str) -> int | None:
    word = word.strip().lower()
    if word.isdecimal():
        return status(int(word[:9]))
    if word in {"ok", "success", "succeeded", "default", "unset"}:
        return 200
    return 500 if word in {"error", "failure", "failed", "timeout", "cancelled"} else None


def tier(value: Any) -> str | None:
    return _tier(value) if type(value) is str else None


@functools.lru_cache(maxsize=256)
def _tier(word: str) -> str | None:
    return _TIERS.get(word.strip().lower())


def provider(value: Any) -> str | None:
    """As halfrate names it, or as it stands."""
    name = text(value)
    return _provider(name) if name is not None else None


@functools.lru_cache(maxsize=1024)
def _provider(name: str) -> str | None:
    name = name.strip().lower()
    return _PROVIDERS.get(name, name) or None


def moment(value: Any) -> float | None:
    """Seconds since 1970 for a time as text (ISO 8601; without a zone it is UTC) or a number of seconds, milli-,
    micro- or nanoseconds; which of them, its size tells."""
    if isinstance(value, str):
        return _written(value)
    found = number(value)
    return _counted(found) if found is not None else None


def _written(value: str) -> float | None:
    if value[16:17] == ":":
        # A log is in order of time: most calls come in a minute that was just met.
        zone = 1 if value[-1] in "Zz" else 6 if value.endswith("+00:00") else 0
        rest = value[17:-zone] if zone else value[17:]
        if "+" not in rest and "-" not in rest and " " not in rest:
            try:
                return _minute(value[:16]) + min(60.0, float(rest))
            except ValueError:
                return None
    if value[:1].isdecimal() and value.replace(".", "", 1).isdecimal():
        # Digits alone are a count of seconds or less, though ISO 8601 has dates that look like one.
        return _counted(float(value)) if len(value) < 40 else None
    try:
        # Longer than a date means a time; a zone has its sign, or its Z, after the time has begun.
        naive = len(value) > 18 and value[10] in "T " and not _zoned(value)
        at = datetime.datetime.fromisoformat(f"{value}+00:00" if naive else value)
        if at.tzinfo is None:
            at = at.replace(tzinfo=datetime.UTC)
        return at.timestamp()
    except (ValueError, OverflowError):
        found = number(value)
        return _counted(found) if found is not None else _spelled(value)


@functools.lru_cache(maxsize=4096)
def _minute(value: str) -> float:
    return datetime.datetime.fromisoformat(value).replace(tzinfo=datetime.UTC).timestamp()


def _zoned(value: str) -> bool:
    return value[-1] in "Zz" or "+" in value[18:] or "-" in value[18:]


def _spelled(value: str) -> float | None:
    """`2026-11-01 10:11:12.123 UTC`, and `2026-11-01 10:11:12+00` of PostgreSQL."""
    word = value.strip().removesuffix(" UTC")
    if word == value:
        if len(word) < 20 or word[-3] not in "+-":
            return None
        word += ":00"
    return _written(word)


def _counted(found: float) -> float | None:
    for scale in (1.0, 1e3, 1e6, 1e9):
        # From 1990 to 2100, whatever the unit.
        if 631152000 <= found / scale < 4102444800:
            return found / scale
    return None


def tag_list(values: Any) -> dict[str, str]:
    """Tags that stand in a list, as `["team:search", "nightly"]`: name and value, or the same twice."""
    if not isinstance(values, list):
        return NO_TAGS
    try:
        return _tags(tuple(cast("list[Any]", values)[:_MOST_TAGS]))
    except TypeError:
        # There is something in it that is no name.
        return _tags.__wrapped__(tuple(cast("list[Any]", values)[:_MOST_TAGS]))


@functools.lru_cache(maxsize=1024)
def _tags(values: tuple[Any, ...]) -> dict[str, str]:
    """The same few come again and again."""
    found: dict[str, str] = {}
    for one in values:
        tag = text(one)
        if tag is not None and not tag.startswith("User-Agent"):
            name, colon, rest = tag.partition(":")
            found[name.strip()] = rest.strip() if colon and rest else tag
    return found or NO_TAGS


def tag_table(values: Any) -> dict[str, str]:
    """Tags that stand in an object."""
    if type(values) is not dict:
        return NO_TAGS
    found: dict[str, str] = {}
    for name, value in itertools.islice(cast("dict[Any, Any]", values).items(), _MOST_TAGS):
        shown = text(value)
        if isinstance(name, str) and shown is not None:
            found[name[:_LONGEST]] = shown
    return found or NO_TAGS


JOB_TAGS: Final = ("job", "task", "taskName", "workflow", "feature", "use_case", "app")
"""Tags that say what a call was for, the first that there is."""


def job_of(tags: dict[str, str]) -> str | None:
    if not tags:
        return None
    return next((tags[name] for name in JOB_TAGS if name in tags), None)


@functools.lru_cache(maxsize=1024)
def written_tags(given: str) -> dict[str, str]:
    """Tags of a list, or of an object, that stands as JSON in a text."""
    found = nested(given)
    return tag_list(found) if isinstance(found, list) else tag_table(found)


def tags(given: Any) -> dict[str, str]:
    """Tags of a list or an object, as it is or as JSON in a text."""
    if isinstance(given, str):
        return written_tags(given) if len(given) > 2 else NO_TAGS
    return tag_list(given) if isinstance(given, list) else tag_table(given)


def nested(value: Any) -> Any:
    """What stands as JSON in a text, as cells and some columns have it; as it is where it is none."""
    if isinstance(value, str):
        if value[:1] not in {"{", "["}:
            return None
        try:
            return _decode(value)
        except _JSON_FAULTS:
            return None
    return value


def inner(value: Any, *names: str) -> Any:
    """What an object has under names within names; None where there is no such thing."""
    for name in names:
        # Objects of JSON are dictionaries and nothing else; to ask for a mapping would take ten times as long.
        if type(value) is not dict:
            return None
        value = cast("dict[str, Any]", value).get(name)
    return value


def split_input(total: int, cached: int, written: int) -> int:
    """What was neither read from a cache nor written to one, of an input that holds them all.

    Where they are more than it, it did not hold them: it is what it is.
    """
    rest = total - cached - written
    return rest if rest >= 0 else total
