"""The ledger against the meter, to the picodollar, for every kind of token."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from halfrate.core.pricing import usage_cost
from halfrate.emulator import CacheModel
from halfrate.service.drafts import Ask

from .office import Office

Offices = Callable[..., Office]


def test_cached_input_at_openai(office: Offices) -> None:
    desk = office("openai", cache=CacheModel(hit_rate=0.7, within_batch=True))
    report = desk.run(desk.ask(40, system="Read the following rules with care. " * 200))
    desk.assert_sound(report)
    assert report.usage.cached > 0


@pytest.mark.parametrize("ttl", ["5m", "1h"])
def test_cache_reads_and_writes_at_anthropic(office: Offices, tmp_path: Path, ttl: str) -> None:
    desk = office("anthropic", cache=CacheModel(hit_rate=0.7, within_batch=True))
    path = tmp_path / "batch.jsonl"
    rules: dict[str, Any] = {
        "type": "text",
        "text": "Read the following rules with care. " * 200,
        "cache_control": {"type": "ephemeral", "ttl": ttl},
    }
    lines = [
        {
            "custom_id": f"any id at all, {n}",
            "params": {
                "model": "claude-haiku-4-5",
                "max_tokens": 64,
                "system": [rules],
                "messages": [{"role": "user", "content": f"What is {n} plus {n}?"}],
            },
        }
        for n in range(30)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = desk.run(Ask(input=path))
    meter = desk.meter()
    assert report.succeeded == 30
    assert report.cost == meter["picodollars"]
    assert report.usage.cached == meter["tokens"]["cached"] > 0
    assert report.usage.write_5m == meter["tokens"]["write_5m"]
    assert report.usage.write_1h == meter["tokens"]["write_1h"]
    assert (report.usage.write_1h if ttl == "1h" else report.usage.write_5m) > 0
    assert [row["custom_id"] for row in desk.output(report.job)] == [line["custom_id"] for line in lines]


@pytest.mark.parametrize(
    ("model", "endpoint"),
    [
        ("openai/text-embedding-3-small", None),
        ("openai/gpt-5-mini", "responses"),
        ("openai/gpt-5.6-luna", "chat"),
        ("anthropic/claude-opus-4-5", None),
    ],
)
def test_every_endpoint(office: Offices, model: str, endpoint: str | None) -> None:
    desk = office(model.partition("/")[0], "row-error:rate=0.1,status=500")
    report = desk.run(desk.ask(30, model=model, endpoint=endpoint))
    rows = desk.assert_sound(report)
    kind = list if "embedding" in model else str
    assert all(isinstance(row["answer"], kind) for row in rows)


def test_a_model_without_a_price_is_unknown_never_free(
    office: Offices, monkeypatch: pytest.MonkeyPatch
) -> None:
    from halfrate.prices.book import PriceBook

    def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(PriceBook, "find", nothing)
    desk = office("openai")
    report = desk.run(desk.ask(5))
    assert report.succeeded == 5
    assert report.cost is None
    assert report.saved is None
    assert all(row["cost_usd"] is None for row in desk.output(report.job))


def test_what_a_job_cost_adds_up_row_by_row(office: Offices) -> None:
    desk = office("anthropic", "row-error:rate=0.2,status=529", "batch-expire:times=1")
    report = desk.run(desk.ask(60, max_attempts=8))
    desk.output(report.job)
    lines = (desk.folder / "out.jsonl").read_text().split("\n")
    rows = [json.loads(line, parse_float=Decimal) for line in lines if line]
    assert (
        sum(Decimal(row["cost_usd"]) for row in rows) * 10**12 == report.cost == desk.meter()["picodollars"]
    )


def spoken(number: int) -> dict[str, Any]:
    """A request with sound in it: some that is shared, and its own."""
    sound = {"inlineData": {"mimeType": "audio/wav", "data": "QUJD" * (2000 + 100 * number)}}
    shared = {"inlineData": {"mimeType": "audio/wav", "data": "REVG" * 3000}}
    return {
        "key": f"call-{number}",
        "request": {
            "contents": [
                {"role": "user", "parts": [shared, {"text": "Rules to be read with care. " * 200}]},
                {"role": "model", "parts": [{"text": "Understood."}]},
                {"role": "user", "parts": [sound, {"text": f"What is said in number {number}?"}]},
            ]
        },
    }


@pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemini-3.1-flash-lite"])
@pytest.mark.parametrize("provider", ["gemini", "vertex"])
def test_sound_costs_what_sound_costs(office: Offices, tmp_path: Path, provider: str, model: str) -> None:
    desk = office(
        provider, "batch-expire:times=1,done=0.5", cache=CacheModel(hit_rate=0.7, within_batch=True)
    )
    path = tmp_path / "batch.jsonl"
    lines = [spoken(n) for n in range(20)]
    if provider == "vertex":
        lines = [{"request": line["request"]} for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = desk.run(Ask(input=path, model=f"{provider}/{model}"))
    assert report.succeeded == 20
    usage = report.usage
    assert report.cost == desk.meter()["picodollars"]
    assert usage.audio_input > 20 * 8
    assert 0 < usage.audio_cached < usage.cached
    # As text it would have been cheaper.
    price = report.job.prices.batch[model]
    assert price is not None
    assert report.cost is not None
    assert report.cost > (
        usage_cost(msgspec.structs.replace(usage, audio_input=0, audio_cached=0), price.rates) or 0
    )


def test_what_must_be_run_in_one_country_costs_what_it_costs_there(office: Offices) -> None:
    desk = office("anthropic", "row-error:rate=0.2,status=529")
    model = "anthropic/claude-sonnet-4-6"
    asked = {"model": model, "max_attempts": 8}
    elsewhere = desk.submit(desk.ask(40, **asked)).prices.batch["claude-sonnet-4-6"]
    desk = office("anthropic", "row-error:rate=0.2,status=529")
    report = desk.run(desk.ask(40, params={"inference_geo": "us"}, **asked))
    desk.assert_sound(report)
    assert report.cost is not None
    assert report.saved == report.cost
    here = report.job.prices.batch["claude-sonnet-4-6"]
    assert here is not None
    assert elsewhere is not None
    assert (here.rates.input or 0) * 10 == (elsewhere.rates.input or 0) * 11
    assert report.cost == usage_cost(report.usage, here.rates)


def test_rows_of_one_job_may_be_run_in_different_places(office: Offices, tmp_path: Path) -> None:
    desk = office("anthropic")
    places = [{}, {"inference_geo": "us"}, {"inference_geo": "global"}]
    lines = [
        {
            "custom_id": f"{n}",
            "params": {
                "model": "claude-sonnet-4-6",
                "max_tokens": 64,
                "messages": [{"role": "user", "content": f"What is {n} plus {n}?"}],
                **places[n % 3],
            },
        }
        for n in range(30)
    ]
    path = tmp_path / "batch.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = desk.run(Ask(input=path))
    assert report.succeeded == 30
    assert report.cost == desk.meter()["picodollars"]
    price = report.job.prices.batch["claude-sonnet-4-6"]
    assert price is not None
    assert report.cost is not None
    assert report.cost > (usage_cost(report.usage, price.rates) or 0)


def test_a_job_whose_longest_rows_failed_does_not_tell_what_the_next_one_takes(office: Offices) -> None:
    shop = office("openai", "row-error:match=really,status=400,sticky=true")
    for rows, basis in ((10, "nothing"), (30, "prompt")):
        texts = [f"What is {n}?" + " really" * (5000 if n == 4 else 0) for n in range(rows)]
        table = shop.folder / f"rows-{rows}.jsonl"
        table.write_text("".join(json.dumps({"q": text}) + "\n" for text in texts))
        ask = Ask(input=table, model="openai/gpt-4.1-mini", prompt="{q}")
        report = shop.work(shop.submit(ask))
        assert (report.succeeded, report.failed) == (rows - 1, 1)
        assert shop.submit(ask).forecast.basis == basis
