"""Prices and savings, as somebody at a terminal asks for them."""

import json
from pathlib import Path

import pytest

from .shell import Shell

TOKENS = ("--input-tokens", "300", "--output-tokens", "50")


@pytest.fixture(autouse=True)
def config(shell: Shell, tmp_path: Path) -> Path:
    shell.env["XDG_CONFIG_HOME"] = str(tmp_path / "config")
    return tmp_path / "config" / "halfrate"


# ---------------------------------------------------------------- prices


def test_a_models_price_is_shown_by_tier_with_its_source(shell: Shell) -> None:
    ran = shell("price", "openai/gpt-4.1-mini")
    assert ran.code == 0
    lines = [line.split() for line in ran.out.splitlines()]
    assert ["standard", "0.40", "0.10", "1.60"] in lines
    assert ["batch", "0.20", "0.10", "0.80"] in lines
    assert "genai-prices" in ran.out


def test_a_bare_name_is_the_makers_model(shell: Shell) -> None:
    found = shell("price", "claude-haiku-4-5", "--json").object
    assert found["model"] == "anthropic/claude-haiku-4-5"
    assert found["tiers"]["batch"]["usd_per_million"] == {
        "input": "0.50",
        "cached": "0.05",
        "write_5m": "0.625",
        "write_1h": "1.00",
        "output": "2.50",
    }


def test_prices_are_those_of_the_day_that_is_asked_for(shell: Shell) -> None:
    asked = ("price", "anthropic/claude-sonnet-4-6", "--json", "--at")
    before, after = (shell(*asked, day).object["tiers"]["standard"] for day in ("2026-03-12", "2026-03-13"))
    assert before["steps"]
    assert before["since"] is None
    assert not after["steps"]
    assert after["since"] == "2026-03-13"


def test_sound_has_its_own_columns_where_it_has_its_own_price(shell: Shell) -> None:
    ran = shell("price", "gemini/gemini-2.5-flash")
    assert "audio in" in ran.out
    assert "audio in" not in shell("price", "gemini/gemini-2.5-pro").out
    batch = shell("price", "gemini/gemini-2.5-flash", "--json").object["tiers"]["batch"]
    assert batch["usd_per_million"]["audio_input"] == "0.50"
    assert "audio_output" not in batch["usd_per_million"]


def test_a_place_that_costs_more_says_so(shell: Shell) -> None:
    found = shell("price", "claude-sonnet-4-6", "--region", "us", "--json").object
    assert (found["region"], found["tiers"]["batch"]["usd_per_million"]["input"]) == ("us", "1.65")
    assert "1.1 times" in found["tiers"]["batch"]["source"]
    (line,) = json.loads(shell("price", "compare", "claude-sonnet-4-6", "--region", "us", "--json").out)
    assert (line["realtime_output"], line["batch_output"]) == ("16.50", "8.25")


def test_a_price_of_ones_own_may_be_of_one_place_and_of_sound(shell: Shell) -> None:
    own = ("openai/large", "--region", "eu", "--tier", "batch")
    everywhere = ("openai/large", "--tier", "batch", "--input", "1")
    assert shell("price", "set", *everywhere).code == 0
    assert shell("price", "set", *own, "--input", "2", "--audio-input", "7", "--audio-output", "9").code == 0
    here, there = (
        shell("price", "openai/large", "--json", *where).object["tiers"]["batch"]["usd_per_million"]
        for where in ((), ("--region", "eu"))
    )
    assert (here["input"], "audio_input" in here) == ("1.00", False)
    assert (there["input"], there["audio_input"], there["audio_output"]) == ("2.00", "7.00", "9.00")
    assert shell("price", "forget", *own).code == 0
    assert shell("price", "openai/large", "--json", "--region", "eu").object["tiers"]["batch"] == {
        **shell("price", "openai/large", "--json").object["tiers"]["batch"]
    }


def test_models_stand_beside_each_other(shell: Shell) -> None:
    ran = shell("price", "compare", "gpt-4.1-mini", "claude-haiku-4-5", "--json")
    mini, haiku = json.loads(ran.out)
    assert (mini["realtime_input"], mini["batch_input"], mini["batch_cached_input"]) == (
        "0.40",
        "0.20",
        "0.10",
    )
    assert (haiku["cached_input"], haiku["batch_cached_input"], haiku["cache_stacks"]) == (
        "0.10",
        "0.05",
        True,
    )
    assert "claude-haiku-4-5" in shell("price", "compare", "claude-haiku-4-5").out


def test_ones_own_price_goes_before_and_can_be_forgotten(shell: Shell, config: Path) -> None:
    own = ("openai/gpt-4.1-mini", "--tier", "batch")
    assert (
        shell("price", "set", *own, "--input", "$0.15", "--output", "0.6", "--source", "contract").code == 0
    )
    tiers = shell("price", "openai/gpt-4.1-mini", "--json").object["tiers"]
    assert tiers["batch"]["usd_per_million"]["input"] == "0.15"
    assert tiers["batch"]["source"] == "contract"
    assert tiers["standard"]["usd_per_million"]["input"] == "0.40"
    assert shell("price", "forget", *own).code == 0
    tiers = shell("price", "openai/gpt-4.1-mini", "--json").object["tiers"]
    assert tiers["batch"]["usd_per_million"]["input"] == "0.20"
    again = shell("price", "forget", *own)
    assert again.code == 2
    assert "Nothing was changed" in again.err
    assert [path.name for path in config.iterdir()] == ["prices.json"]


def test_a_price_that_was_not_set_is_unknown_and_never_zero(shell: Shell) -> None:
    shell("price", "set", "openai/gpt-unpriced-1", "--tier", "batch", "--input", "1")
    ran = shell("forecast", shell.table(3), "--model", "openai/gpt-unpriced-1", "--prompt", "{q}")
    assert "unknown" in ran.out
    tiers = shell("price", "openai/gpt-unpriced-1", "--json").object["tiers"]
    assert tiers["batch"]["usd_per_million"]["output"] is None


def test_what_a_person_wrote_into_the_file_stays(shell: Shell, config: Path) -> None:
    config.mkdir(parents=True)
    model = {"provider": "openai", "model": "mine", "match": [{"equals": "mine-2"}], "source": "by hand"}
    price = {"tier": "batch", "rates": {"input": "3"}}
    (config / "prices.json").write_text(
        json.dumps({"models": [{**model, "prices": [price]}], "source": "ours"})
    )
    shell("price", "set", "openai/mine", "--input", "6")
    kept = json.loads((config / "prices.json").read_bytes())
    assert kept["source"] == "ours"
    (entry,) = kept["models"]
    assert {name: entry[name] for name in model} == model
    assert [one["tier"] for one in entry["prices"]] == ["batch", "standard"]


def test_jobs_are_priced_with_ones_own_prices(shell: Shell) -> None:
    shell("price", "set", "openai/gpt-4.1-mini", "--tier", "batch", "--input", "0", "--output", "0")
    ran = shell.run(shell.table(4), "--json", "-o", "out.jsonl").object
    assert ran["cost_usd"] == "0"
    assert ran["realtime_cost_usd"] != "0"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("gpt-4.1-mni",), "gpt-4.1-mini"),
        (("nothing/like-that",), "PROVIDER/MODEL"),
        (("qwen/qwen-plus",), "halfrate price set qwen/qwen-plus"),
        (("openai/gpt-4.1-mini", "--at", "yesterday"), "2026-01-31"),
        (("set", "openai/x", "--input", "cheap"), "no price in USD"),
        (("set", "openai/x", "--input", "-1"), "less than nothing"),
        (("set", "gpt-4.1", "--input", "1"), "PROVIDER/MODEL"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_line(shell: Shell, words: tuple[str, ...], said: str) -> None:
    ran = shell("price", *words)
    assert ran.code == 2
    assert said in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    "text", ["{", '{"models": [{"provider": "openai", "model": "m", "prices": [1]}]}', "\xff"]
)
def test_a_broken_file_of_ones_own_prices_stops_what_needs_prices(
    shell: Shell, config: Path, text: str
) -> None:
    config.mkdir(parents=True)
    (config / "prices.json").write_bytes(text.encode("latin-1"))
    ran = shell("price", "openai/gpt-4.1-mini")
    assert ran.code != 0
    assert "prices.json" in ran.err
    assert "Traceback" not in ran.err


# ---------------------------------------------------------------- savings


def test_a_weekly_run(shell: Shell) -> None:
    words = ("savings", "--rows", "200,000", *TOKENS, "--model", "claude-sonnet-4-6", "--every", "week")
    found = shell(*words, "--json").object
    assert found["spans"]["a run"] == {"realtime_usd": "330", "batch_usd": "165", "saved_usd": "165"}
    assert found["spans"]["a year"]["saved_usd"] == "8580"
    said = shell(*words).out
    assert "$8,580.00" in said
    assert "$330.00" in said


def test_tokens_a_day_at_prices_of_ones_own(shell: Shell) -> None:
    words = ("savings", "--input-tokens", "8M", "--output-tokens", "2M", "--every", "day")
    prices = ("--input-price", "$3", "--output-price", "15")
    spans = shell(*words, *prices, "--json").object["spans"]
    assert (spans["a run"]["realtime_usd"], spans["a run"]["batch_usd"]) == ("54", "27")
    assert (spans["30 days"]["realtime_usd"], spans["30 days"]["batch_usd"]) == ("1620", "810")


def test_a_monthly_bill(shell: Shell) -> None:
    words = ("savings", "--spend", "10,000", "--batch-share", "40%", "--rest-saving", "40%..70%")
    found = shell(*words, "--json").object
    assert found["batch_saved_usd"] == "2000"
    assert found["rest_saved_usd"] == ["2400", "4200"]
    assert found["saved_usd"] == ["4400", "6200"]
    said = shell(*words).out
    assert "$4,400.00 to $6,200.00" in said
    assert "44% to 62%" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--input-tokens"),
        (("--rows", "5", *TOKENS), "--model"),
        (("--rows", "many", *TOKENS, "--model", "gpt-4.1"), "200k"),
        (("--spend", "10000"), "--batch-share"),
        (("--spend", "10000", "--batch-share", "140%"), "40%"),
        (("--spend", "10000", "--batch-share", "40%", "--rows", "4"), "--rows"),
        (("--spend", "-5", "--batch-share", "40%"), "less than nothing"),
        (("--spend", "1", "--batch-share", "40%", "--rest-saving", "70%..40%"), "40%..70%"),
        ((*TOKENS, "--cached-tokens", "400", "--model", "gpt-4.1"), "--cached-tokens"),
        ((*TOKENS, "--cached-tokens", "4", "--model", "text-embedding-3-small"), "no price for some"),
        ((*TOKENS, "--input-price", "cheap"), "0.40"),
        ((*TOKENS, "--model", "qwen/qwen-plus"), "price set"),
    ],
)
def test_figures_that_make_no_sense_are_said_in_a_line(
    shell: Shell, words: tuple[str, ...], said: str
) -> None:
    ran = shell("savings", *words)
    assert ran.code == 2
    assert said in ran.err
