"""What Gemini's models answer, in realtime and in batches, and what it costs."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import Usage, calc_price

from halfrate.emulator import CacheModel, Limits
from halfrate.emulator._models import models_of
from halfrate.emulator._prices import Tokens, cost

from .conftest import Build
from .driver import Driver
from .gemini import EMBEDDER, FLASH, Gemini, ask


@pytest.fixture
def gemini(driver: Driver) -> Gemini:
    return Gemini(driver)


def generate(gemini: Gemini, body: dict[str, Any], model: str = FLASH) -> Any:
    return gemini.json("POST", f"/v1beta/models/{model}:generateContent", body)


def test_answers(gemini: Gemini) -> None:
    schema = {
        "type": "OBJECT",
        "properties": {
            "mood": {"type": "STRING", "enum": ["good", "bad"]},
            "count": {"type": "INTEGER", "nullable": True},
            "tags": {"type": "ARRAY", "items": {"type": "STRING"}, "minItems": "2", "maxItems": "2"},
        },
        "required": ["mood", "count", "tags"],
    }
    config = {"responseMimeType": "application/json", "responseSchema": schema}
    made = generate(gemini, ask("A bad day", generationConfig=config))
    document = json.loads(made["candidates"][0]["content"]["parts"][0]["text"])
    assert (document["mood"], len(document["tags"])) == ("bad", 2)
    plain = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    config = {"response_mime_type": "application/json", "response_json_schema": plain}
    made = generate(gemini, ask("hi", generation_config=config))
    assert isinstance(json.loads(made["candidates"][0]["content"]["parts"][0]["text"])["n"], int)
    tools = [{"functionDeclarations": [{"name": "sort", "parameters": {"type": "OBJECT", "properties": {}}}]}]
    forced = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["sort"]}}
    made = generate(gemini, ask("hi", tools=tools, toolConfig=forced))
    assert made["candidates"][0]["content"]["parts"] == [{"functionCall": {"name": "sort", "args": {}}}]
    many = generate(gemini, ask("hi", generationConfig={"candidateCount": 2}))
    assert len(many["candidates"]) == 2
    assert gemini.meter()["rows_by_tier"] == {"standard": 4}


def test_limits_and_thoughts(gemini: Gemini) -> None:
    short = generate(gemini, ask("hi", generationConfig={"maxOutputTokens": 3}))
    assert short["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert short["usageMetadata"]["candidatesTokenCount"] == 3
    thinking = {"thinkingConfig": {"thinkingBudget": 20}}
    thought = generate(gemini, ask("hi", generationConfig=thinking))["usageMetadata"]
    assert thought["thoughtsTokenCount"] == 20
    parts = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
    assert thought["totalTokenCount"] == sum(thought[part] for part in parts)
    nothing = generate(gemini, ask("hi", generationConfig={**thinking, "maxOutputTokens": 10}))
    assert nothing["candidates"] == [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS", "index": 0}]
    assert nothing["usageMetadata"]["thoughtsTokenCount"] == 10


def test_cached_tokens_are_not_halved_in_a_batch(build: Build) -> None:
    gemini = Gemini(build(cache=CacheModel()))
    body = ask("hi", systemInstruction={"parts": [{"text": "x" * 8_000}]})
    assert "cachedContentTokenCount" not in generate(gemini, body)["usageMetadata"]
    before = gemini.meter()
    (line,) = gemini.results(gemini.batch([{"key": "a", "request": body}]))
    usage, after = line["response"]["usageMetadata"], gemini.meter()
    cached = usage["cachedContentTokenCount"]
    assert 1_800 < cached < usage["promptTokenCount"]
    fresh = (usage["promptTokenCount"] - cached) * 150_000 + usage["candidatesTokenCount"] * 1_250_000
    assert after["picodollars"] - before["picodollars"] == fresh + cached * 30_000


def test_realtime_limits_and_faults(build: Build) -> None:
    gemini = Gemini(build(limits=Limits(gemini_requests_per_minute=1)))
    path = f"/v1beta/models/{FLASH}:generateContent"
    generate(gemini, ask("hi"))
    over = gemini.send("POST", path, ask("hi"))
    assert (over.status, over.json()["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert over.json()["error"]["details"][0]["retryDelay"] == "60s"
    gemini.clock.advance(120)
    gemini.emulator.add_fault("realtime-error:status=503,provider=gemini")
    assert gemini.send("POST", path, ask("hi")).status == 503
    gemini.emulator.add_fault("realtime-lost")
    assert gemini.send("POST", path, ask("hi")).delivery.drop
    assert gemini.meter()["realtime_billed"] == 2


def test_realtime_embeddings(gemini: Gemini) -> None:
    body = {"content": {"parts": [{"text": "hello"}]}, "outputDimensionality": 3}
    one = gemini.json("POST", f"/v1beta/models/{EMBEDDER}:embedContent", body)
    many = gemini.json("POST", f"/v1beta/models/{EMBEDDER}:batchEmbedContents", {"requests": [body, body]})
    assert many["embeddings"] == [one["embedding"]] * 2
    assert len(one["embedding"]["values"]) == 3
    assert gemini.send("POST", f"/v1beta/models/{FLASH}:embedContent", body).status == 404
    assert gemini.meter()["tokens"]["input"] == 6


@pytest.mark.parametrize("provider", ["gemini", "vertex"])
@pytest.mark.parametrize("prompt", [100_000, 300_000])
def test_prices_against_a_list_that_others_keep(provider: str, prompt: int) -> None:
    for model in models_of(provider):
        output = 0 if model.kind == "embedding" else 1_000
        cached = 0 if model.kind == "embedding" else 10_000
        usage = Usage(input_tokens=prompt, cache_read_tokens=cached, output_tokens=output)
        when = datetime(2026, 11, 20, tzinfo=UTC)
        theirs = calc_price(usage, model.name, provider_id="google", genai_request_timestamp=when)
        ours = cost(model, "standard", Tokens(prompt - cached, cached, output=output))
        assert Decimal(ours) / 10**12 == theirs.total_price, model.name


def test_batch_prices() -> None:
    """Half, except for cached tokens of some models, and for embeddings."""
    whole, dearer = set[tuple[str, str]](), set[tuple[str, str]]()
    for model in [*models_of("gemini"), *models_of("vertex")]:
        tokens = Tokens(100, output=100)
        if cost(model, "batch", tokens) * 2 != cost(model, "standard", tokens):
            dearer.add((model.provider, model.name))
        elif model.kind == "text" and model.batch.cached == model.standard.cached:
            whole.add((model.provider, model.name))
    family = {"gemini-2.5-flash", "gemini-2.5-flash-lite", "gemini-2.5-pro"}
    assert dearer == {("gemini", "gemini-embedding-001"), ("vertex", "gemini-embedding-001")}
    assert whole == {
        *(("gemini", name) for name in family | {"gemini-3-flash-preview"}),
        *(("vertex", name) for name in family),
    }
