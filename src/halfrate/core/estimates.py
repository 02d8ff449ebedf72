"""How many tokens a job should take, and within what range: learned from earlier jobs, or from a prior. Pure."""

import math
from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

import msgspec

Basis: TypeAlias = Literal["prompt", "model", "nothing"]
"""What an estimate was learned from: jobs of the same prompt, others of the same model, or none."""

BYTES_PER_TOKEN: Final = (6.5, 4.2, 2.5)
"""Of request text where nothing is known: at most, most likely, at least. English and code are about 4.2; numbers and
other scripts have fewer bytes to a token, long plain words more."""
OUTPUT: Final = (10.0, 200.0, 1000.0)
"""Tokens of an answer where nothing is known: at least, most likely, at most."""
_OTHER_PROMPT_IN: Final = 1.25
"""By what factor the bytes to a token of one model differ from prompt to prompt."""
_OTHER_PROMPT_OUT: Final = 4.0
"""By what factor the length of answers does."""
_SAME_PROMPT: Final = 0.02
"""How far the same prompt is off at the least: rows of another day are other rows."""
_COUNTED: Final = (0.97, 1.1)
"""How far the tokens billed may be from those counted: what frames a text is counted as the provider says, and what a
schema adds is not known."""
_SIGMAS: Final = 2.0
_ROW_SPREAD: Final = 1.0
"""Standard deviation of the length of answers to one prompt, as a share of their mean: that of an exponential
distribution, which few prompts exceed."""
_INPUT_SPREAD: Final = 0.3
"""The same of the bytes to a token of single rows."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What the rows took that an earlier job was billed for.

    `same`: it asked the same prompt. `text_bytes`: of the requests. `input`: all tokens read, `cached` among them.
    """

    same: bool
    rows: int
    text_bytes: float
    input: int
    cached: int
    output: int


class Span(msgspec.Struct, frozen=True):
    """A number that is not known: nine times in ten it should lie between `low` and `high`."""

    low: float
    likely: float
    high: float

    def times(self, factor: float) -> "Span":
        return Span(self.low * factor, self.likely * factor, self.high * factor)

    def at_most(self, most: float) -> "Span":
        return Span(min(self.low, most), min(self.likely, most), min(self.high, most))


class Estimate(msgspec.Struct, frozen=True):
    """Tokens of a whole job. `cached`: the share of `input` that should come from a cache."""

    input: Span
    output: Span
    cached: float
    basis: Basis


def estimate(
    samples: Iterable[Sample],
    rows: int,
    text_bytes: float,
    *,
    max_tokens: int | None,
    answers: bool,
    counted: int | None = None,
) -> Estimate:
    """What `rows` requests of `text_bytes` in all should take.

    `counted`: the tokens of their text, where they were counted; what jobs of the same prompt were billed for goes
    before it, as what frames the text is in that too. `max_tokens` is the most that an answer can have, None where
    there is no such limit; `answers` is False for embeddings, which have no output.
    """
    known = [sample for sample in samples if sample.rows and sample.text_bytes > 0 and sample.input > 0]
    same = [sample for sample in known if sample.same]
    if same:
        read, written, basis = _same_prompt(same, rows), _answers(same, rows), "prompt"
    elif known:
        read, written, basis = *_other_prompts(known), "model"
    else:
        slow, usual, fast = (1 / count for count in BYTES_PER_TOKEN)
        read, written, basis = Span(slow, usual, fast), Span(*OUTPUT), "nothing"
    if counted is not None and not same and text_bytes > 0:
        low, high = _COUNTED
        likely = counted / text_bytes
        read = Span(low * likely, likely, high * likely)
    if not answers:
        written = Span(0.0, 0.0, 0.0)
    elif max_tokens is not None:
        written = written.at_most(max_tokens)
    total = sum(sample.input for sample in same)
    cached = sum(sample.cached for sample in same) / total if total else 0.0
    return Estimate(read.times(text_bytes), written.times(rows), cached, basis)


def _pooled(samples: list[Sample]) -> tuple[float, float]:
    """(tokens read for a byte, tokens written for a row), of all samples together."""
    size = sum(sample.text_bytes for sample in samples)
    rows = sum(sample.rows for sample in samples)
    return sum(sample.input for sample in samples) / size, sum(sample.output for sample in samples) / rows


def _same_prompt(samples: list[Sample], rows: int) -> Span:
    likely, _ = _pooled(samples)
    return _around(
        likely, [one.input / one.text_bytes for one in samples], _error(samples, rows, _INPUT_SPREAD)
    )


def _answers(samples: list[Sample], rows: int) -> Span:
    _, likely = _pooled(samples)
    return _around(likely, [one.output / one.rows for one in samples], _error(samples, rows, _ROW_SPREAD))


def _error(samples: list[Sample], rows: int, spread: float) -> float:
    """How far, as a share, the mean over new rows may be from that over the old ones."""
    before = sum(sample.rows for sample in samples)
    return _SAME_PROMPT + _SIGMAS * spread * math.sqrt(1 / before + 1 / max(1, rows))


def _around(likely: float, seen: list[float], error: float) -> Span:
    """A span of `error` around what is likely, and around all that was seen of it."""
    low, high = min(likely, *seen), max(likely, *seen)
    return Span(max(0.0, low * (1 - error)), likely, high * (1 + error))


def _other_prompts(samples: list[Sample]) -> tuple[Span, Span]:
    read, written = _pooled(samples)
    return (
        Span(read / _OTHER_PROMPT_IN, read, read * _OTHER_PROMPT_IN),
        Span(written / _OTHER_PROMPT_OUT, written, written * _OTHER_PROMPT_OUT),
    )
