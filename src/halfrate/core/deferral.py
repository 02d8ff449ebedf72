"""Calls that can wait: a caller says until when, and a batch answers what would have cost twice as much at once. Pure.

Such a call is *deferred*. It is gathered with others that ask the same model on the same terms; what was gathered is
one batch of the gateway's own (`core.surface`), whose rows are the calls. One whose deadline no batch can be trusted
with is run in real time at once, and remembered all the same where somebody may ask for its answer later.
"""

import hashlib
import math
import re
from typing import Any, Final, NamedTuple

import msgspec

from halfrate.base.types import Endpoint
from halfrate.core.keys import Surface

KEPT: Final = 3 * 86_400.0
"""Seconds from its end for which an answer can be asked for."""
REPEATED: Final = 600.0
"""Seconds after its end within which a call that its client says it repeats is held to be the same call."""
_SHORTEST: Final = 2.0
_SHARE: Final = 0.01
"""How long they wait, of the time that is left."""
_PATIENT_SHARE: Final = 0.1
_PATIENT: Final = 30.0
"""The same where a provider takes no small batches, and how many times as long."""
_STEP: Final = 1.5
"""Calls whose deadlines differ by no more than this factor go together."""
_SUFFIX: Final = re.compile(r"(?P<model>.+)\+(?P<deadline>\d+(?:\.\d+)?(?:m|min|h|d))")


class Answer(msgspec.Struct, frozen=True):
    """What a call came to. Its body lies in a file of answers, at a place of it.

    `status`: of the reply; `tier`: what was paid, None where nothing was; `cost`: picodollars, None where that is
    unknown.
    """

    status: int
    tier: str | None
    cost: int | None
    file: str
    at: int
    size: int


class Deferred(msgspec.Struct, frozen=True, kw_only=True):
    """A call that waits, or waited. Saved: a field may be added, never renamed.

    `model`: ACCOUNT/MODEL; `digest` names what was asked, and by whom; `batch`: what it was gathered into, "" where it
    runs in real time, in the process `owner`. `usage`: whether a stream's caller wants to be told what it used.
    `background`: its caller does not wait for it on the line. `told`: what a caller of OpenAI's responses is shown of
    what it asked.
    """

    id: str
    team: str
    key_id: str
    surface: Surface
    endpoint: Endpoint
    model: str
    asked: str
    digest: str
    created_at: float
    deadline: float | None = None
    stream: bool = False
    usage: bool = False
    background: bool = False
    batch: str = ""
    owner: str = ""
    told: dict[str, Any] = {}
    answer: Answer | None = None
    cancelled: bool = False
    ended_at: float | None = None

    @property
    def ended(self) -> bool:
        return self.ended_at is not None

    @property
    def failed(self) -> bool:
        return self.answer is not None and self.answer.status >= 400


class Group(NamedTuple):
    """What calls have in common that can be gathered. `name`: the model as its account calls it; `tags` and `options`:
    pairs, sorted; `bucket`: about when they are needed."""

    surface: Surface
    endpoint: Endpoint
    model: str
    name: str
    tags: tuple[tuple[str, str], ...]
    options: tuple[tuple[str, str], ...]
    bucket: int


def bucket(seconds: float) -> int:
    """Of a deadline that is so far away."""
    return math.floor(math.log(max(1.0, seconds), _STEP))


def linger(seconds: float, longest: float, *, patient: bool = False) -> float:
    """Seconds that calls wait for others, where a deadline is so far away. `longest`: at most; `patient`: there are
    still too few for their provider."""
    if patient:
        return min(_PATIENT * longest, seconds * _PATIENT_SHARE)
    return min(longest, max(_SHORTEST, seconds * _SHARE))


def without_suffix(model: str) -> tuple[str, str]:
    """A model's name and the deadline behind it, as in `gpt-4.1-mini+2h`; "" where there is none."""
    found = _SUFFIX.fullmatch(model)
    return (found["model"], found["deadline"]) if found is not None else (model, "")


def digest_of(*asked: Any) -> str:
    """Names what was asked."""
    return hashlib.blake2b(msgspec.json.encode(asked), digest_size=16).hexdigest()
