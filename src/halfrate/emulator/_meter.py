"""The meter: what a provider would have received and billed. The independent witness of every money test.

Only finished rows with a 200 answer are billed; errored, expired and cancelled rows are free (OpenAI and
Anthropic batch guides). Money is integer picodollars.
"""

from collections import Counter, defaultdict
from hashlib import blake2b
from typing import Any

import msgspec

from halfrate.emulator._prices import Model, Tokens, costs

# How an answer is delivered does not change what was asked, so these do not make a row a different row.
_DELIVERY_KEYS = ("stream", "stream_options", "service_tier")

_TOKEN_KINDS = ("input", "cached", "write_5m", "write_1h", "output")


def fingerprint(body: dict[str, Any]) -> str:
    """A hash of what a row asks for: ids are outside the body, key order and spacing do not count."""
    if any(key in body for key in _DELIVERY_KEYS):
        body = {key: value for key, value in body.items() if key not in _DELIVERY_KEYS}
    return blake2b(msgspec.json.encode(body, order="sorted"), digest_size=8).hexdigest()


class Charge(msgspec.Struct, frozen=True):
    """One billed request."""

    at: float
    provider: str
    tier: str
    model: Model
    tokens: Tokens
    batch_id: str
    custom_id: str
    fingerprint: str
    project: str = ""
    """The key that it goes to."""


class UsageLine(msgspec.Struct):
    """Sums for one (hour, provider, model, tier, project). `paid`: picodollars of each kind of token."""

    requests: int = 0
    input: int = 0
    cached: int = 0
    write_5m: int = 0
    write_1h: int = 0
    output: int = 0
    picodollars: int = 0
    paid: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)


class Meter:
    """Counts; never refuses anything."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.rows_received = 0
        self.realtime_received = 0
        self.realtime_refused: Counter[int] = Counter()
        self.creates_received = 0
        self.batches_created: Counter[str] = Counter()
        self.batches_ended: Counter[str] = Counter()
        self.files_stored = 0
        self.bytes_stored = 0
        self.billed_by_fingerprint: Counter[str] = Counter()
        self.realtime_by_fingerprint: Counter[str] = Counter()
        self.billed_by_batch: dict[str, Counter[str]] = defaultdict(Counter)
        self.usage: dict[tuple[int, str, str, str, str], UsageLine] = {}

    def received(self, rows: int) -> None:
        self.rows_received += rows

    def ended(self, status: str) -> None:
        """A batch has come to its end: completed, failed, expired, cancelled."""
        self.batches_ended[status] += 1

    def bill(self, charge: Charge) -> None:
        self.billed_by_fingerprint[charge.fingerprint] += 1
        if charge.tier != "batch":
            self.realtime_by_fingerprint[charge.fingerprint] += 1
        self.billed_by_batch[charge.batch_id][charge.custom_id] += 1
        hour = int(charge.at // 3600) * 3600
        key = (hour, charge.provider, charge.model.snapshot, charge.tier, charge.project)
        line = self.usage.get(key)
        if line is None:
            line = self.usage[key] = UsageLine()
        tokens = charge.tokens
        line.requests += 1
        line.input += tokens.input
        line.cached += tokens.cached
        line.write_5m += tokens.write_5m
        line.write_1h += tokens.write_1h
        line.output += tokens.output
        a, b, c, d, e = costs(charge.model, charge.tier, tokens)
        p, q, r, s, t = line.paid
        line.paid = (a + p, b + q, c + r, d + s, e + t)
        line.picodollars += a + b + c + d + e

    def billed_by_custom_id(self) -> Counter[str]:
        """Times each custom_id was billed, over all batches and realtime calls that carry one."""
        total: Counter[str] = Counter()
        for counts in list(self.billed_by_batch.values()):
            total.update(dict(counts))
        total.pop("", None)
        return total

    def _tokens_by_tier(self) -> dict[str, dict[str, int]]:
        sums: dict[str, Counter[str]] = defaultdict(Counter)
        for (_, _, _, tier, _), line in list(self.usage.items()):
            sums[tier].update({kind: int(getattr(line, kind)) for kind in _TOKEN_KINDS})
        return {tier: dict(counts) for tier, counts in sums.items()}

    def _rows_by_tier(self) -> dict[str, int]:
        sums: Counter[str] = Counter()
        for (_, _, _, tier, _), line in list(self.usage.items()):
            sums[tier] += line.requests
        return dict(sums)

    def _money_by(self, part: int) -> dict[str, int]:
        sums: Counter[str] = Counter()
        for key, line in list(self.usage.items()):
            sums[str(key[part])] += line.picodollars
        return dict(sums)

    def snapshot(self, *, ids: bool = False) -> dict[str, Any]:
        """Everything as one JSON-ready dictionary; `ids` adds the detail per fingerprint and per id.

        Any thread may ask while the emulator goes on: what is counted is copied first.
        """
        usage = list(self.usage.items())
        lines = [line for _, line in usage]
        batch_lines = [line for key, line in usage if key[3] == "batch"]
        repeats = [count for count in list(self.billed_by_fingerprint.values()) if count > 1]
        found: dict[str, Any] = {
            "rows_received": self.rows_received,
            "rows_billed": sum(line.requests for line in batch_lines),
            "realtime_received": self.realtime_received,
            "realtime_refused": {str(status): count for status, count in list(self.realtime_refused.items())},
            "realtime_billed": sum(line.requests for line in lines) - sum(x.requests for x in batch_lines),
            "realtime_billed_again": sum(count - 1 for count in list(self.realtime_by_fingerprint.values())),
            "rows_by_tier": self._rows_by_tier(),
            "fingerprints_billed": len(self.billed_by_fingerprint),
            "fingerprints_billed_again": len(repeats),
            "tokens": {kind: sum(int(getattr(line, kind)) for line in lines) for kind in _TOKEN_KINDS},
            "tokens_by_tier": self._tokens_by_tier(),
            "picodollars": sum(line.picodollars for line in lines),
            "picodollars_by_model": self._money_by(2),
            "picodollars_by_tier": self._money_by(3),
            "picodollars_by_provider": self._money_by(1),
            "creates_received": self.creates_received,
            "batches_created": sum(list(self.batches_created.values())),
            "batches_created_by_provider": dict(self.batches_created),
            "batches_completed": self.batches_ended["completed"],
            "batches_failed": self.batches_ended["failed"],
            "batches_cancelled": self.batches_ended["cancelled"],
            "batches_expired": self.batches_ended["expired"],
            "files_stored": self.files_stored,
            "bytes_stored": self.bytes_stored,
        }
        if ids:
            found["billed_by_fingerprint"] = dict(self.billed_by_fingerprint)
            found["realtime_by_fingerprint"] = dict(self.realtime_by_fingerprint)
            found["billed_by_custom_id"] = dict(self.billed_by_custom_id())
            found["billed_by_batch"] = {
                key: dict(counts) for key, counts in list(self.billed_by_batch.items())
            }
        return found
