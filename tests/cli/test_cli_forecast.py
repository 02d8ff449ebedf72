"""Forecasts, as somebody at a terminal asks for them: nothing is sent, and what they say is scored."""

import json
import random
from decimal import Decimal
from typing import Any

import pytest

from .shell import MODELS, Shell

WORDS = (
    "the",
    "parcel",
    "came",
    "late",
    "and",
    "nobody",
    "at",
    "our",
    "desk",
    "could",
    "say",
    "when",
    "to",
    "Zürich",
)
BOTH = pytest.mark.parametrize("provider", ["openai", "anthropic"])


def forecast(shell: Shell, table: str, provider: str, prompt: str = "{q}") -> dict[str, Any]:
    found = shell("forecast", table, "--model", MODELS[provider], "--prompt", prompt, "--json").object
    return {**found, **found["tiers"]["batch"]}


@BOTH
def test_a_forecast_sends_nothing_and_leaves_nothing(shell: Shell, provider: str) -> None:
    found = forecast(shell, shell.table(20), provider)
    assert found["rows"] == 20
    assert found["basis"] == "nothing"
    assert Decimal(found["low_usd"]) < Decimal(found["cost_usd"]) < Decimal(found["high_usd"])
    assert shell.meter()["rows_received"] == shell.meter()["creates_received"] == 0
    assert json.loads(shell("jobs", "--json").out) == []
    assert list((shell.home / "jobs").iterdir()) == []


@BOTH
def test_a_second_job_of_a_prompt_is_known_from_the_first(shell: Shell, provider: str) -> None:
    table = shell.table(300)
    paid = Decimal(shell.run(table, "--json", "--max-tokens", "400", provider=provider).object["cost_usd"])
    assert forecast(shell, table, provider, "Now what? {q}")["basis"] == "model"
    words = (
        "forecast",
        table,
        "--model",
        MODELS[provider],
        "--prompt",
        "{q}",
        "--max-tokens",
        "400",
        "--json",
    )
    found = shell(*words).object
    assert found["basis"] == "prompt"
    # The same rows take the same tokens.
    assert abs(Decimal(found["tiers"]["batch"]["cost_usd"]) / paid - 1) < Decimal("0.001")
    said = shell(*words[:-1]).out
    assert "earlier rows of the same prompt" in said
    assert "nine times in ten" in said


def test_forecasts_are_scored(shell: Shell) -> None:
    assert "No job has ended" in shell("cost", "--forecasts").out
    table = shell.table(60)
    for _ in range(2):
        shell.run(table, "--json", "--new")
    second, first = json.loads(shell("cost", "--forecasts", "--json").out)
    assert (first["basis"], second["basis"]) == ("nothing", "prompt")
    assert abs(second["off"]) < 0.001
    assert second["held"] is True
    lines = json.loads(shell("cost", "--json").out)
    assert {line["by"]["job"]: line["cost_usd"] for line in lines} == {
        one["job"]: one["paid_usd"] for one in (first, second)
    }
    said = shell("cost", "--forecasts").out
    assert "1 of 1 ranges held" in said
    for words in (("--by", "model"), ("--until", "1d")):
        assert "--since" in shell("cost", "--forecasts", *words).err


def test_a_price_that_is_unknown_is_said_to_be(shell: Shell) -> None:
    ran = shell("forecast", shell.table(3), "--model", "openai/gpt-unpriced-1", "--prompt", "{q}")
    assert ran.code == 0
    assert "unknown" in ran.out


@BOTH
def test_other_rows_of_a_prompt_cost_what_the_first_taught(shell: Shell, provider: str) -> None:
    """Within 2 %. What the first job costs lies in the range of the prior."""
    dice = random.Random(3)
    for part in ("first", "second"):
        texts = (" ".join(dice.choices(WORDS, k=dice.randint(5, 60))) for _ in range(1500))
        shell.file(f"{part}.jsonl", "".join(json.dumps({"q": text}) + "\n" for text in texts))
    cold = forecast(shell, "first.jsonl", provider)
    paid = Decimal(shell.run("first.jsonl", "--json", provider=provider).object["cost_usd"])
    assert Decimal(cold["low_usd"]) <= paid <= Decimal(cold["high_usd"])
    known = forecast(shell, "second.jsonl", provider)
    paid = Decimal(shell.run("second.jsonl", "--json", provider=provider).object["cost_usd"])
    assert abs(Decimal(known["cost_usd"]) / paid - 1) < Decimal("0.02")


def test_tokens_can_be_counted_instead_of_estimated(shell: Shell) -> None:
    table = shell.file("few.jsonl", '{"q": "2 + 2 = 4"}\n' * 10)
    words = ("forecast", table, "--model", MODELS["openai"], "--prompt", "{q}", "--json", "--count-tokens")
    found = shell(*words).object
    assert found["counted_tokens"] == found["input_tokens"] == 10 * 14
    refused = shell("forecast", table, "--model", MODELS["anthropic"], "--prompt", "{q}", "--count-tokens")
    assert refused.code == 2
    assert "estimated" in refused.err
