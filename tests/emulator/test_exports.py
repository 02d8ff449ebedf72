"""The bills: the providers' reports and exports, and the mistakes that can be planted in them."""

import csv
import io
import json
from decimal import Decimal
from typing import Any

import openai
import pytest

from halfrate.emulator import Emulator

from .driver import ANTHROPIC, GPT, OPENAI, Driver, chat_body, chat_rows, claude_rows

ADMIN = {"authorization": "Bearer sk-admin-1"}
CLAUDE_ADMIN = {**ANTHROPIC, "x-api-key": "sk-ant-admin-1"}
DAY = 86_400
FILES = [
    "openai-costs.csv",
    "openai-usage.csv",
    "anthropic-costs.csv",
    "anthropic-usage.csv",
    "aws-cur.csv",
    "google-billing.jsonl",
    "azure-costs.csv",
]
MISTAKES = ("duplicate", "missing", "standard-price", "fee", "amount", "stranger")


def today(driver: Driver) -> int:
    return int(driver.clock.now() // DAY * DAY)


def work(driver: Driver, days: int = 3) -> int:
    """Batches and a realtime call on some days; the first of them."""
    first = today(driver)
    for day in range(days):
        driver.look(driver.batch(chat_rows(3 + day)))
        driver.message_results(driver.message_batch(claude_rows(2 + day)))
        driver.json("POST", "/v1/chat/completions", chat_body(f"On day {day}"))
        if day < days - 1:
            driver.clock.advance(DAY)
    return first


def costs(driver: Driver, first: int, more: str = "") -> Any:
    return driver.json("GET", "/v1/organization/costs", headers=ADMIN, query=f"start_time={first}{more}")


def table(driver: Driver, name: str) -> list[dict[str, str]]:
    data = driver.send("GET", f"/emulator/exports/{name}").read()
    return list(csv.DictReader(io.StringIO(data.decode())))


def plant(driver: Driver, *specs: str) -> list[dict[str, Any]]:
    return driver.json("POST", "/emulator/exports/discrepancies", {"plant": list(specs)})["planted"]


def paid(driver: Driver, provider: str) -> int:
    return driver.meter()["picodollars_by_provider"].get(provider, 0)


# ---------------------------------------------------------------- reports


def test_an_ordinary_key_sees_no_bill(driver: Driver) -> None:
    query = f"start_time={today(driver)}"
    assert driver.send("GET", "/v1/organization/costs", headers=OPENAI, query=query).status == 403
    answer = driver.send(
        "GET", "/v1/organizations/cost_report", headers=ANTHROPIC, query="starting_at=2026-01-01"
    )
    assert (answer.status, answer.json()["error"]["type"]) == (401, "authentication_error")


def test_costs_are_the_meters_by_line_item(driver: Driver) -> None:
    first = work(driver)
    page = costs(driver, first, "&group_by[]=line_item&group_by[]=project_id")
    results = [result for bucket in page["data"] for result in bucket["results"]]
    total = sum(Decimal(str(result["amount"]["value"])) for result in results)
    assert int(total * 10**12) == paid(driver, "openai")
    names = {result["line_item"] for result in results}
    assert names == {
        f"{GPT}-2025-04-14, {tier}{kind}" for tier in ("", "batch ") for kind in ("input", "output")
    }
    assert all(result["project_id"].startswith("proj_") for result in results)
    plain = costs(driver, first)["data"][0]["results"]
    assert [(one["line_item"], one["project_id"], one["quantity"]) for one in plain] == [(None, None, None)]


def test_pages_follow_each_other(driver: Driver) -> None:
    first = work(driver)
    seen: list[int] = []
    cursor = ""
    while True:
        page = costs(driver, first, f"&limit=1{cursor}")
        seen += [bucket["start_time"] for bucket in page["data"]]
        if not page["has_more"]:
            break
        cursor = f"&page={page['next_page']}"
    assert seen == [first, first + DAY, first + 2 * DAY]
    assert page["next_page"] is None


def test_what_was_asked_of_a_report_is_checked(driver: Driver) -> None:
    for query in ("", "start_time=x", "start_time=1&group_by[]=colour", "start_time=1&bucket_width=1m"):
        assert driver.send("GET", "/v1/organization/costs", headers=ADMIN, query=query).status == 400, query
    assert driver.send("GET", "/v1/organizations/cost_report", headers=CLAUDE_ADMIN, query="").status == 400


def test_usage_tells_batches_apart(driver: Driver) -> None:
    first = work(driver)
    query = f"start_time={first}&group_by[]=batch&group_by[]=model"
    page = driver.json("GET", "/v1/organization/usage/completions", headers=ADMIN, query=query)
    results = [result for bucket in page["data"] for result in bucket["results"]]
    tokens = driver.meter()["tokens_by_tier"]
    assert {result["batch"] for result in results} == {True, False}
    batch = sum(result["output_tokens"] for result in results if result["batch"])
    claude = driver.json(
        "GET",
        "/v1/organizations/usage_report/messages",
        headers=CLAUDE_ADMIN,
        query="starting_at=2026-09-01&limit=31&group_by[]=service_tier",
    )
    theirs = sum(result["output_tokens"] for bucket in claude["data"] for result in bucket["results"])
    assert batch + theirs == tokens["batch"]["output"]
    only = driver.json(
        "GET", "/v1/organization/usage/completions", headers=ADMIN, query=f"{query}&batch=false"
    )
    assert sum(len(bucket["results"]) for bucket in only["data"]) == 3


def test_the_sdk_reads_pages_of_usage_and_costs(emulator: Emulator, url: str) -> None:
    with openai.OpenAI(
        base_url=emulator.openai_base_url(url), api_key="key-1", admin_api_key="sk-admin-1", max_retries=0
    ) as client:
        messages: Any = [{"role": "user", "content": "Hello"}]
        client.chat.completions.create(model=GPT, messages=messages)
        reports = client.admin.organization.usage
        first = int(emulator.clock.now()) // DAY * DAY
        found = reports.costs(start_time=first, group_by=["line_item"], limit=180)
        item: Any = found.data[0].results[0]
        assert (item.object, item.line_item, item.quantity_unit) == (
            "organization.costs.result",
            f"{GPT}-2025-04-14, input",
            "tokens",
        )
        used: Any = (
            reports.completions(start_time=first, group_by=["model", "service_tier"]).data[0].results[0]
        )
        assert (used.model, used.service_tier, used.num_model_requests) == (f"{GPT}-2025-04-14", "default", 1)
        with pytest.raises(openai.BadRequestError):
            reports.costs(start_time=first, limit=181)


# ---------------------------------------------------------------- files


def test_every_file_is_there(driver: Driver) -> None:
    work(driver)
    assert driver.json("GET", "/emulator/exports")["files"] == FILES
    for name in FILES:
        assert driver.send("GET", f"/emulator/exports/{name}").status == 200
    assert driver.send("GET", "/emulator/exports/other.csv").status == 404


def test_csv_files_add_up_to_the_meter(driver: Driver) -> None:
    work(driver)
    total = sum(Decimal(row["amount_value"]) for row in table(driver, "openai-costs.csv"))
    assert int(total * 10**12) == paid(driver, "openai")
    used = table(driver, "openai-usage.csv")
    claude = table(driver, "anthropic-usage.csv")
    tokens = driver.meter()["tokens"]
    assert (
        sum(int(row["output_tokens"]) for row in used)
        + sum(int(row["usage_output_tokens"]) for row in claude)
        == (tokens["output"])
    )
    assert {row["batch"] for row in used} == {"True", "False"}


def test_no_key_stands_on_a_bill(driver: Driver) -> None:
    work(driver)
    for name in FILES:
        assert b"key-1" not in driver.send("GET", f"/emulator/exports/{name}").read()


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_changes_the_bill_by_what_it_says(driver: Driver, kind: str) -> None:
    first = work(driver)
    (one,) = plant(driver, f"{kind}:provider=openai")
    page = costs(driver, first, "&limit=180")
    total = sum(
        Decimal(str(result["amount"]["value"])) for bucket in page["data"] for result in bucket["results"]
    )
    assert int(total * 10**12) - paid(driver, "openai") == one["picodollars"] != 0
    assert (one["kind"], one["provider"]) == (kind, "openai")
    assert driver.json("GET", "/emulator/exports/discrepancies")["planted"] == [one]
    driver.json("DELETE", "/emulator/exports/discrepancies")
    assert costs(driver, first)["data"][0]["results"][0]["amount"]["value"] > 0
    assert driver.json("GET", "/emulator/exports/discrepancies")["planted"] == []


def test_mistakes_do_not_lie_on_each_other(driver: Driver) -> None:
    work(driver, days=6)
    planted = plant(driver, *MISTAKES, *MISTAKES)
    places = [(one["provider"], one["day"], one["model"]) for one in planted if one["kind"] != "fee"]
    assert len(set(places)) == len(places) == 10


def test_the_same_seed_plants_the_same(build: Any) -> None:
    found: list[Any] = []
    for _ in range(2):
        driver = build(seed=5)
        work(driver)
        found.append(plant(driver, "duplicate", "amount:of=money", "stranger"))
    assert found[0] == found[1]


def test_what_cannot_be_planted_is_refused(driver: Driver) -> None:
    assert driver.send("POST", "/emulator/exports/discrepancies", {"plant": ["missing"]}).status == 400
    work(driver, days=1)
    for specs in (["rubbish"], ["missing:colour=red"], ["missing:provider=groq"], [], ["missing"] * 9):
        answer = driver.send("POST", "/emulator/exports/discrepancies", {"plant": specs})
        assert (answer.status, driver.json("GET", "/emulator/exports/discrepancies")["planted"]) == (400, [])


def test_a_reset_forgets_them(driver: Driver) -> None:
    work(driver, days=1)
    plant(driver, "missing")
    driver.json("POST", "/emulator/reset")
    assert driver.json("GET", "/emulator/exports/discrepancies")["planted"] == []


def test_lines_of_googles_export_are_nested(driver: Driver) -> None:
    key = {"x-goog-api-key": "key-1"}
    body = {"contents": [{"parts": [{"text": "Hello"}]}]}
    driver.json("POST", "/gemini/v1beta/models/gemini-2.5-flash:generateContent", body, headers=key)
    data = driver.send("GET", "/emulator/exports/google-billing.jsonl").read()
    lines = [json.loads(line) for line in data.splitlines()]
    assert {line["service"]["description"] for line in lines} == {"Gemini API"}
    assert {line["sku"]["description"] for line in lines} == {
        "Generate content input token count gemini 2.5 flash text",
        "Generate content output token count gemini 2.5 flash text",
    }
