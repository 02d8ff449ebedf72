"""The meter against sums made by hand."""

from typing import Any

import pytest

from halfrate.emulator import CacheModel, fingerprint
from halfrate.emulator._context import rfc3339

from .conftest import Build
from .driver import ANTHROPIC, CLAUDE, OPENAI, Driver, chat_body, chat_rows, claude_params, row

LONG = "The rules of this desk. " * 400  # 9,600 bytes: 2,400 tokens


def chat_with_rules(question: str, model: str) -> dict[str, Any]:
    messages = [{"role": "system", "content": LONG}, {"role": "user", "content": question}]
    return {"model": model, "messages": messages, "max_tokens": 10}


def finish(driver: Driver, rows: list[dict[str, Any]], endpoint: str = "/v1/chat/completions") -> Any:
    return driver.look(driver.batch(rows, endpoint))


def test_a_batch_by_hand(driver: Driver) -> None:
    # "Where is order 0?": 17 bytes, 5 tokens, and 7 for the request: 12. Output cut at 10 tokens.
    rows = [row(f"r-{n}", chat_body(f"Where is order {n}?", max_tokens=10)) for n in range(3)]
    batch = finish(driver, rows)
    meter = driver.meter()
    assert meter["tokens"] == {"input": 36, "cached": 0, "write_5m": 0, "write_1h": 0, "output": 30}
    # gpt-4.1-mini in a batch: $0.20 and $0.80 per million tokens.
    assert meter["picodollars"] == 36 * 200_000 + 30 * 800_000
    assert meter["picodollars_by_tier"] == {"batch": meter["picodollars"]}
    assert meter["picodollars_by_model"] == {"gpt-4.1-mini-2025-04-14": meter["picodollars"]}
    assert (batch["usage"]["input_tokens"], batch["usage"]["output_tokens"]) == (36, 30)


def test_realtime_costs_twice_as_much_and_flex_the_same_as_a_batch(driver: Driver) -> None:
    body = chat_body("Where is order 0?", "gpt-5-mini", max_tokens=10)
    for tier in ({}, {"service_tier": "flex"}, {"service_tier": "priority"}):
        driver.json("POST", "/v1/chat/completions", {**body, **tier})
    meter = driver.meter()
    # gpt-5-mini: $0.25 and $2.00 per million tokens, half of that in flex, $0.45 and $3.60 with priority.
    once = 12 * 125_000 + 10 * 1_000_000
    dear = 12 * 450_000 + 10 * 3_600_000
    assert meter["picodollars_by_tier"] == {"standard": 2 * once, "flex": once, "priority": dear}
    assert meter["rows_by_tier"] == {"standard": 1, "flex": 1, "priority": 1}
    assert {tier: tokens["input"] for tier, tokens in meter["tokens_by_tier"].items()} == {
        "standard": 12,
        "flex": 12,
        "priority": 12,
    }
    assert (meter["realtime_billed"], meter["rows_billed"]) == (3, 0)
    # The tier is no part of what was asked for: the same row was paid for three times.
    assert list(meter["realtime_by_fingerprint"].values()) == [3]
    assert meter["realtime_billed_again"] == 2


def test_a_row_of_a_batch_is_no_row_in_real_time(driver: Driver) -> None:
    finish(driver, [row("one", chat_body("same"))])
    driver.json(
        "POST", "/v1/chat/completions", chat_body("same"), headers={**OPENAI, "x-client-request-id": "x"}
    )
    meter = driver.meter()
    assert list(meter["billed_by_fingerprint"].values()) == [2]
    assert list(meter["realtime_by_fingerprint"].values()) == [1]
    assert (meter["billed_by_custom_id"], meter["realtime_billed_again"]) == ({"one": 1, "x": 1}, 0)


def test_embeddings_by_hand(driver: Driver) -> None:
    rows = [row("a", {"model": "text-embedding-3-small", "input": ["12345678", "1234"]}, "/v1/embeddings")]
    finish(driver, rows, "/v1/embeddings")
    assert driver.meter()["picodollars"] == 3 * 10_000


def test_anthropic_by_hand(driver: Driver) -> None:
    # "Hello 0": 7 bytes, 2 tokens, and 7 for the request: 9. Output cut at 5 tokens. $0.50 and $2.50.
    params = {**claude_params("Hello 0"), "max_tokens": 5}
    batch = driver.message_batch([{"custom_id": "a", "params": params}])
    assert driver.look_at_messages(batch)["request_counts"]["succeeded"] == 1
    assert driver.meter()["picodollars"] == 9 * 500_000 + 5 * 2_500_000


@pytest.mark.parametrize(
    ("model", "fresh", "cached", "out"),
    [
        ("gpt-4.1-mini", 200_000, 100_000, 800_000),  # the batch table names no cached rate: standard
        ("gpt-5-mini", 125_000, 12_500, 1_000_000),  # cached is halved too
    ],
)
def test_cached_tokens_under_batch_differ_by_model(
    build: Build, model: str, fresh: int, cached: int, out: int
) -> None:
    driver = build(cache=CacheModel())
    batch = finish(driver, [row(f"r-{n}", chat_with_rules(f"Question {n}", model)) for n in range(3)])
    output, _ = driver.results(batch)
    read = sorted(
        line["response"]["body"]["usage"]["prompt_tokens_details"]["cached_tokens"] for line in output
    )
    assert read == [0, 2304, 2304]  # 2,400 tokens in steps of 128
    prompts = sum(line["response"]["body"]["usage"]["prompt_tokens"] for line in output)
    meter = driver.meter()
    assert meter["tokens"]["input"] + meter["tokens"]["cached"] == prompts
    assert meter["picodollars"] == (prompts - 4608) * fresh + 4608 * cached + 30 * out


def test_openai_cache_writes_have_a_price_where_the_model_has_one(build: Build) -> None:
    driver = build(cache=CacheModel())
    finish(driver, [row(f"r-{n}", chat_with_rules("Question", "gpt-5.6-luna")) for n in range(2)])
    tokens = driver.meter()["tokens"]
    assert (tokens["write_5m"], tokens["cached"]) == (2304, 2304)
    spent = tokens["input"] * 100_000 + 2304 * 125_000 + 2304 * 10_000 + 20 * 600_000
    assert driver.meter()["picodollars"] == spent


@pytest.mark.parametrize(
    ("ttl", "kind", "rate"), [("5m", "write_5m", 625_000), ("1h", "write_1h", 1_000_000)]
)
def test_anthropic_cache(build: Build, ttl: str, kind: str, rate: int) -> None:
    driver = build(cache=CacheModel())
    mark = {"type": "ephemeral", "ttl": ttl}
    system = [{"type": "text", "text": LONG, "cache_control": mark}]
    rows = [{"custom_id": f"a-{n}", "params": claude_params(f"Hello {n}", system=system)} for n in range(3)]
    results = driver.message_results(driver.message_batch(rows))
    usages = [line["result"]["message"]["usage"] for line in results]
    assert sorted(usage["cache_creation_input_tokens"] for usage in usages) == [0, 0, 2400]
    assert sorted(usage["cache_read_input_tokens"] for usage in usages) == [0, 2400, 2400]
    assert all(usage["input_tokens"] < 20 for usage in usages)
    tokens = driver.meter()["tokens"]
    assert (tokens[kind], tokens["cached"]) == (2400, 4800)
    spent = tokens["input"] * 500_000 + 2400 * rate + 4800 * 50_000 + tokens["output"] * 2_500_000
    assert driver.meter()["picodollars"] == spent


def test_cache_lives_as_long_as_its_ttl_and_batches_may_not_share_within(build: Build) -> None:
    system = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]
    rows = [{"custom_id": f"a-{n}", "params": claude_params("Hello", system=system)} for n in range(3)]

    def read(driver: Driver) -> int:
        before = driver.meter()["tokens"]["cached"]
        driver.message_results(driver.message_batch(rows))
        return (driver.meter()["tokens"]["cached"] - before) // 2400

    driver = build(cache=CacheModel(within_batch=False))
    assert read(driver) == 0
    assert read(driver) == 3
    driver.clock.advance(301)
    assert read(driver) == 0
    assert read(build(cache=CacheModel(hit_rate=0.0))) == 0


def test_the_long_context_step_is_judged_per_request(driver: Driver) -> None:
    params = {**claude_params("x" * 4 * 150_000), "model": "claude-sonnet-4-5", "max_tokens": 1}
    long = {**claude_params("x" * 4 * 200_001), "model": "claude-sonnet-4-5", "max_tokens": 1}
    rows = [{"custom_id": "a", "params": params}, {"custom_id": "b", "params": params}]
    driver.message_results(driver.message_batch(rows))
    assert driver.meter()["picodollars"] == 2 * (150_007 * 1_500_000 + 7_500_000)
    driver.json("POST", "/emulator/reset")
    driver.message_results(driver.message_batch([{"custom_id": "a", "params": long}]))
    assert driver.meter()["picodollars"] == 200_008 * 3_000_000 + 11_250_000


def test_the_same_row_under_two_names_is_billed_twice_by_fingerprint(driver: Driver) -> None:
    body = chat_body("The very same")
    finish(driver, [row("one", body)])
    finish(driver, [row("two", dict(reversed(body.items())))])
    driver.json("POST", "/v1/chat/completions", {**body, "service_tier": "priority"})
    meter = driver.meter()
    assert meter["billed_by_fingerprint"] == {fingerprint(body): 3}
    assert meter["billed_by_custom_id"] == {"one": 1, "two": 1}
    assert (meter["fingerprints_billed"], meter["fingerprints_billed_again"]) == (1, 1)
    assert sorted(meter["billed_by_batch"].values(), key=str) == [{"": 1}, {"one": 1}, {"two": 1}]


def test_twins_within_one_batch_can_be_told_from_double_billing(driver: Driver) -> None:
    finish(driver, [row("one", chat_body("same")), row("two", chat_body("same"))])
    meter = driver.meter()
    assert list(meter["billed_by_fingerprint"].values()) == [2]
    (by_id,) = meter["billed_by_batch"].values()
    assert by_id == {"one": 1, "two": 1}


def test_only_finished_rows_are_billed(build: Build) -> None:
    driver = build(faults=["row-error:times=2"])
    finish(driver, chat_rows(5))
    meter = driver.meter()
    assert (meter["rows_received"], meter["rows_billed"], sum(meter["billed_by_custom_id"].values())) == (
        5,
        3,
        3,
    )


def test_files_stored(driver: Driver) -> None:
    batch = finish(driver, chat_rows(2))
    size = len(driver.content(batch["input_file_id"])) + len(driver.content(batch["output_file_id"]))
    meter = driver.meter()
    assert (meter["files_stored"], meter["bytes_stored"]) == (2, size)
    driver.json("DELETE", f"/v1/files/{batch['output_file_id']}")
    assert driver.meter()["files_stored"] == 1


def test_anthropic_reports(driver: Driver) -> None:
    driver.message_results(driver.message_batch([{"custom_id": "a", "params": claude_params("Hello")}]))
    path, admin = "/v1/organizations", {**ANTHROPIC, "x-api-key": "an-admin-key"}
    query = f"starting_at={rfc3339(driver.clock.now() // 86_400 * 86_400)}"
    groups = "&group_by[]=model&group_by[]=service_tier"
    page = driver.json("GET", f"{path}/usage_report/messages", headers=admin, query=query + groups)
    usage = page["data"][0]["results"][0]
    cost = driver.json("GET", f"{path}/cost_report", headers=admin, query=query)["data"][0]["results"][0]
    meter = driver.meter()
    assert (usage["service_tier"], usage["uncached_input_tokens"]) == ("batch", meter["tokens"]["input"])
    assert round(float(cost["amount"]) * 10**10) == meter["picodollars"]
    assert usage["model"].startswith(CLAUDE)
    assert driver.send("GET", f"{path}/cost_report", headers=admin, query="bucket_width=2d").status == 400
