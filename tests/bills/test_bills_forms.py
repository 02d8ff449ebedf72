"""Exports as the providers write them: what each line is understood to say."""

import gzip
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from halfrate.bills import azure, google
from halfrate.bills.detect import Bill, open_bill
from halfrate.bills.forms import Tally
from halfrate.bills.openai import line_item
from halfrate.core.bills import BillLine

PICO = 10**12
DAY = 20_717  # 2026-09-21


def read(tmp_path: Path, text: str | bytes, name: str = "bill") -> tuple[Bill, list[BillLine]]:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with open_bill(path) as bill:
        return bill, list(bill.lines)


def told(lines: list[BillLine]) -> list[tuple[object, ...]]:
    return [(one.day, one.model, one.tier, one.kind, one.quantity, one.money) for one in lines]


# ---------------------------------------------------------------- OpenAI

ITEMS = [
    ("gpt-4o-2024-08-06, cached input", ("gpt-4o-2024-08-06", "", "cached")),
    ("gpt-6-astra, input_tokens", ("gpt-6-astra", "", "input")),
    ("gpt-4.1-mini-2025-04-14, batch input", ("gpt-4.1-mini-2025-04-14", "batch", "input")),
    ("gpt-4.1 batch, output", ("gpt-4.1", "batch", "output")),
    ("gpt-4o (Batch API), Output", ("gpt-4o", "batch", "output")),
    ("gpt-5-mini flex, output", ("gpt-5-mini", "flex", "output")),
    ("gpt-5.6-luna, cache write input", ("gpt-5.6-luna", "", "written")),
    ("gpt-4o", ("gpt-4o", "", "")),
    ("web search tool calls", ("", "", "web search tool calls")),
    ("file search storage", ("", "", "file search storage")),
]


@pytest.mark.parametrize(("text", "expected"), ITEMS)
def test_openai_line_items(text: str, expected: tuple[str, str, str]) -> None:
    assert line_item(text) == expected


COSTS = """{"object":"page","data":[{"object":"bucket","start_time":1789948800,"end_time":1790035200,"results":[
 {"object":"organization.costs.result","amount":{"value":0.0304,"currency":"usd"},
  "line_item":"gpt-4.1-mini-2025-04-14, batch input","project_id":"proj_a","quantity":152000,"quantity_unit":"tokens"},
 {"object":"organization.costs.result","amount":{"value":0.30000000000000004,"currency":"usd"},
  "line_item":"gpt-4.1-mini-2025-04-14, output","project_id":"proj_a","quantity":187.5,"quantity_unit":"1000_tokens"},
 {"object":"organization.costs.result","amount":{"value":0.05,"currency":"usd"},"line_item":"web search tool calls",
  "project_id":null,"quantity":5,"quantity_unit":null}]},
 {"object":"bucket","start_time":1790035200,"end_time":1790121600,"results":[]}],"has_more":false,"next_page":null}"""


def test_openai_costs(tmp_path: Path) -> None:
    bill, lines = read(tmp_path, COSTS)
    assert (bill.title, bill.basis, bill.providers) == ("OpenAI costs", "cost", ("openai",))
    assert told(lines) == [
        (DAY, "gpt-4.1-mini-2025-04-14", "batch", "input", 152_000, 30_400_000_000),
        (DAY, "gpt-4.1-mini-2025-04-14", "", "output", 187_500, 300_000_000_000),
        (DAY, "", "", "web search tool calls", 5, 50_000_000_000),
    ]
    assert (lines[0].hints, lines[2].is_fee) == (("proj_a",), True)
    assert (bill.tally.first, bill.tally.last) == (DAY, DAY + 1)


def test_openai_costs_that_were_not_grouped(tmp_path: Path) -> None:
    page = COSTS.replace('"gpt-4.1-mini-2025-04-14, batch input"', "null").replace("proj_a", "p")
    _, lines = read(tmp_path, page)
    assert told(lines)[0] == (DAY, "", "", "", None, 30_400_000_000)


def test_openai_usage(tmp_path: Path) -> None:
    result = {
        "object": "organization.usage.completions.result",
        "model": "gpt-5-mini-2025-08-07",
        "batch": True,
        "service_tier": None,
        "input_tokens": 1000,
        "input_cached_tokens": 300,
        "output_tokens": 50,
        "num_model_requests": 2,
        "project_id": "proj_a",
    }
    flex = {
        **result,
        "batch": False,
        "service_tier": "flex",
        "input_uncached_tokens": 640,
        "input_cache_write_tokens": 60,
    }
    embeds = {
        "object": "organization.usage.embeddings.result",
        "model": "text-embedding-3-small",
        "input_tokens": 9,
    }
    searches = {"object": "organization.usage.web_searches.result", "num_requests": 4, "model": "gpt-5-mini"}
    bucket = {"object": "bucket", "start_time": DAY * 86_400, "results": [result, flex, embeds, searches]}
    bill, lines = read(tmp_path, msgspec.json.encode({"object": "page", "data": [bucket], "has_more": False}))
    assert bill.basis == "usage"
    assert [(one.model, one.tier, one.kind, one.quantity, one.money) for one in lines] == [
        ("gpt-5-mini-2025-08-07", "batch", "input", 700, None),
        ("gpt-5-mini-2025-08-07", "batch", "cached", 300, None),
        ("gpt-5-mini-2025-08-07", "batch", "output", 50, None),
        ("gpt-5-mini-2025-08-07", "flex", "input", 640, None),
        ("gpt-5-mini-2025-08-07", "flex", "cached", 300, None),
        ("gpt-5-mini-2025-08-07", "flex", "written", 60, None),
        ("gpt-5-mini-2025-08-07", "flex", "output", 50, None),
        ("text-embedding-3-small", "", "input", 9, None),
        ("gpt-5-mini", "", "searches", 4, None),
    ]


def test_openais_csv_files(tmp_path: Path) -> None:
    head = "start_time,end_time,start_time_iso,end_time_iso"
    span = "1789948800,1790035200,2026-09-21T00:00:00+00:00,2026-09-22T00:00:00+00:00"
    bill, lines = read(
        tmp_path,
        f"{head},amount_value,amount_currency,line_item,project_id,organization_id,organization_name\n"
        f'{span},0.8958740000000000,usd,"gpt-4.1-mini, batch input",proj_a,org-1,Personal\n'
        f"{span},,,,,,\n",
    )
    assert bill.title == "OpenAI costs"
    assert told(lines) == [(DAY, "gpt-4.1-mini", "batch", "input", None, 895_874_000_000)]
    tabs = (
        f"{head},project_id,num_model_requests,user_id,api_key_id,model,batch,service_tier,input_tokens,"
        f"output_tokens,input_cached_tokens\n{span},proj_a,3,,key_a,gpt-5-mini,true,,100,20,40\n"
    ).replace(",", "\t")
    bill, lines = read(tmp_path, tabs)
    assert bill.basis == "usage"
    assert [(one.tier, one.kind, one.quantity) for one in lines] == [
        ("batch", "input", 60),
        ("batch", "cached", 40),
        ("batch", "output", 20),
    ]


def test_pages_may_stand_in_an_array_or_on_lines(tmp_path: Path) -> None:
    single = COSTS.replace("\n", "")
    for text in (f"[{COSTS},{COSTS}]", f"{single}\n{single}\n", f"\ufeff{single}\n\n{single}"):
        _, lines = read(tmp_path, text)
        assert len(lines) == 6, text[:20]


def test_days_on_which_nothing_was_billed_are_a_bill_too(tmp_path: Path) -> None:
    blank = COSTS.split("[", 1)[0] + '[{"object":"bucket","start_time":1789862400,"results":[]}]}'
    bill, lines = read(tmp_path, blank)
    assert (bill.providers, lines, bill.tally.first) == (("openai",), [], DAY - 1)
    bill, lines = read(tmp_path, f"[{blank},{COSTS}]")
    assert (bill.title, len(lines), bill.tally.first) == ("OpenAI costs", 3, DAY - 1)
    bill, lines = read(tmp_path, '{"data":[{"starting_at":"2026-09-21T00:00:00Z","results":[]}]}')
    assert (bill.providers, lines) == (("anthropic",), [])


# ---------------------------------------------------------------- Anthropic

COST_REPORT = """{"data":[{"starting_at":"2026-09-21T00:00:00Z","ending_at":"2026-09-22T00:00:00Z","results":[
 {"amount":"123.78912","context_window":"0-200k","cost_type":"tokens","currency":"USD","inference_geo":"us",
  "description":"Claude Haiku 4.5 Usage - Output Tokens, Batch","model":"claude-haiku-4-5-20251001",
  "service_tier":"batch","token_type":"output_tokens","workspace_id":"wrkspc_a"},
 {"amount":"2","cost_type":"tokens","currency":"USD","description":"x","model":"claude-haiku-4-5-20251001",
  "service_tier":"standard","token_type":"cache_creation.ephemeral_1h_input_tokens","workspace_id":null},
 {"amount":"12","cost_type":"web_search","currency":"USD","description":"Web Search Usage","model":null,
  "service_tier":null,"token_type":null,"workspace_id":null}]}],"has_more":false,"next_page":null}"""


def test_anthropics_cost_report_is_in_cents(tmp_path: Path) -> None:
    bill, lines = read(tmp_path, COST_REPORT)
    assert (bill.title, bill.basis) == ("Anthropic costs", "cost")
    assert told(lines) == [
        (DAY, "claude-haiku-4-5-20251001", "batch", "output", None, 1_237_891_200_000),
        (DAY, "claude-haiku-4-5-20251001", "standard", "written", None, 20_000_000_000),
        (DAY, "", "", "web search", None, 120_000_000_000),
    ]
    assert [one.region_bound for one in lines] == [True, False, False]


def test_anthropics_usage_report(tmp_path: Path) -> None:
    result = {
        "uncached_input_tokens": 100,
        "cache_creation": {"ephemeral_1h_input_tokens": 7, "ephemeral_5m_input_tokens": 3},
        "cache_read_input_tokens": 50,
        "output_tokens": 20,
        "server_tool_use": {"web_search_requests": 2},
        "model": "claude-haiku-4-5",
        "service_tier": "batch",
        "workspace_id": "wrkspc_a",
    }
    bucket = {"starting_at": "2026-09-21T00:00:00Z", "ending_at": "2026-09-22T00:00:00Z", "results": [result]}
    bill, lines = read(tmp_path, msgspec.json.encode({"data": [bucket], "has_more": False}))
    assert bill.basis == "usage"
    assert [(one.kind, one.tier, one.quantity) for one in lines] == [
        ("input", "batch", 100),
        ("cached", "batch", 50),
        ("written", "batch", 10),
        ("output", "batch", 20),
        ("web search", "", 2),
    ]


def test_the_consoles_csv_files(tmp_path: Path) -> None:
    bill, lines = read(
        tmp_path,
        "usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,list_price_usd,"
        "cost_type,inference_geo,speed\n"
        "2026-09-21,Claude Haiku 4.5,Default,demo,batch,≤ 200k,input_no_cache,0.05,0.05,token,not_available,\n"
        "2026-09-21,Claude Haiku 4.5,Default,demo,message,≤ 200k,output,0.00,0.00,token,global,\n"
        "2026-09-21,,Default,demo,,,,0.30,0.30,web_search,,\n",
    )
    assert bill.title == "Anthropic costs"
    assert told(lines) == [
        (DAY, "Claude Haiku 4.5", "batch", "input", None, 50_000_000_000),
        (DAY, "Claude Haiku 4.5", "standard", "output", None, 0),
        (DAY, "", "", "web search", None, 300_000_000_000),
    ]
    assert lines[0].rounding == PICO // 200
    assert lines[0].hints == ("Default", "demo")
    _, lines = read(
        tmp_path,
        "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,"
        "usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,"
        "usage_output_tokens,web_search_count,inference_geo,speed\n"
        "2026-09-21,claude-haiku-4-5,demo,Default,batch,≤ 200k,46981,15969,1,0,16932,0,global,\n",
    )
    assert [(one.kind, one.tier, one.quantity) for one in lines] == [
        ("input", "batch", 46_981),
        ("written", "batch", 15_970),
        ("output", "batch", 16_932),
    ]


# ---------------------------------------------------------------- AWS

CUR = """line_item_usage_account_id,line_item_line_item_type,line_item_usage_start_date,line_item_product_code,\
line_item_usage_type,line_item_usage_amount,line_item_currency_code,line_item_unblended_cost,product_product_name,\
pricing_unit
1,Usage,2026-09-21,AmazonBedrock,USE1-NovaLite-input-tokens-batch,433.893,USD,0.01301679,Amazon Bedrock,1K tokens
1,Usage,2026-09-21T05:00:00Z,8wjvx,USE1-MP:USE1_OutputTokenCount_Global_Batch-Units,0.5,USD,1.25,\
Claude Haiku 4.5 (Amazon Bedrock Edition),1M tokens
1,Usage,2026-09-21T05:00:00Z,8wjvx,USW2-MP:USW2_input_tokens_global_standard-Units,2,USD,8,\
Claude Opus 5.5 (Amazon Bedrock Edition),1M tokens
1,Usage,2026-09-21,AmazonBedrock,EU-qwen.qwen3-32b-mantle-output-tokens-standard,1,USD,0.0006,Amazon Bedrock,1K tokens
1,Usage,2026-09-21,AmazonBedrock,USE1-Nova2.0Lite-cache-read-input-token-count,4,USD,0.01,Amazon Bedrock,1K tokens
1,Usage,2026-09-21,AmazonBedrock,USE1-Guardrail-ContentPolicyUnitsConsumed,10,USD,0.0015,Amazon Bedrock,Units
1,Usage,2026-09-21,AmazonEC2,BoxUsage,10,USD,1,EC2,Hrs
1,Tax,2026-09-21,AmazonBedrock,,1,USD,0.2,Amazon Bedrock,
"""
CUR_LINES = [
    ("NovaLite", "batch", "input", 433_893, 13_016_790_000),
    ("global.Claude Haiku 4.5", "batch", "output", 500_000, 1_250_000_000_000),
    ("global.Claude Opus 5.5", "standard", "input", 2_000_000, 8_000_000_000_000),
    ("qwen.qwen3-32b", "standard", "output", 1000, 600_000_000),
    ("Nova2.0Lite", "standard", "cached", 4000, 10_000_000_000),
    ("", "", "Guardrail-ContentPolicyUnitsConsumed", 10, 1_500_000_000),
]


def check_cur(bill: Bill, lines: list[BillLine]) -> None:
    assert [(one.model, one.tier, one.kind, one.quantity, one.money) for one in lines] == CUR_LINES
    assert (bill.tally.others, bill.tally.aside) == (1, {"tax": (1, 200_000_000_000)})
    assert {one.day for one in lines} == {DAY}


def test_aws_lines_of_bedrock(tmp_path: Path) -> None:
    check_cur(*read(tmp_path, CUR))
    check_cur(*read(tmp_path, gzip.compress(CUR.encode()), "cur.csv.gz"))


def test_the_older_names_of_columns(tmp_path: Path) -> None:
    head, _, rest = CUR.partition("\n")
    older = {
        "line_item_usage_account_id": "lineItem/UsageAccountId",
        "line_item_line_item_type": "lineItem/LineItemType",
        "line_item_usage_start_date": "lineItem/UsageStartDate",
        "line_item_product_code": "lineItem/ProductCode",
        "line_item_usage_type": "lineItem/UsageType",
        "line_item_usage_amount": "lineItem/UsageAmount",
        "line_item_currency_code": "lineItem/CurrencyCode",
        "line_item_unblended_cost": "lineItem/UnblendedCost",
        "product_product_name": "product/ProductName",
        "pricing_unit": "pricing/unit",
    }
    names = ",".join(older[name] for name in head.split(","))
    check_cur(*read(tmp_path, f"{names}\n{rest}"))


def test_a_report_in_parquet(tmp_path: Path) -> None:
    rows = [line.split(",") for line in CUR.replace("\\\n", "").splitlines()]
    columns = {name: [row[n] for row in rows[1:]] for n, name in enumerate(rows[0])}
    typed = pa.table(
        {
            **{name: pa.array(values) for name, values in columns.items()},
            "line_item_usage_amount": pa.array([float(v) for v in columns["line_item_usage_amount"]]),
            "line_item_unblended_cost": pa.array([float(v) for v in columns["line_item_unblended_cost"]]),
        }
    )
    path = tmp_path / "cur.parquet"
    pq.write_table(typed, path)
    with open_bill(path) as bill:
        check_cur(bill, list(bill.lines))


# ---------------------------------------------------------------- Google and Azure

SKUS = [
    (
        "Generate content input token count gemini 3.7 flash text batch",
        ("gemini-3.7-flash", "batch", "input"),
    ),
    (
        "Generate content output token count gemini 2.5 flash short output text non-thinking",
        ("gemini-2.5-flash", "standard", "output"),
    ),
    (
        "Generate_content text output token count for gemini 3 flash batch",
        ("gemini-3-flash", "batch", "output"),
    ),
    (
        "Generate_content_cached_input_token_count_gemini_3_pro_short_image",
        ("gemini-3-pro", "standard", "cached"),
    ),
    ("Gemini 2.5 Flash Text Input - Batch Predictions", ("gemini-2.5-flash", "batch", "input")),
    ("Gemini 3 Flash Text Input Flex - Predictions", ("gemini-3-flash", "flex", "input")),
    (
        "EmbedContent input token count for gemini-embedding-001",
        ("gemini-embedding-001", "standard", "input"),
    ),
    ("Grounding with Google Search", ("", "", "Grounding with Google Search")),
    (
        "Generate content cached content storage token hours gemini 3.8 flash",
        ("", "", "Generate content cached content storage token hours gemini 3.8 flash"),
    ),
]


@pytest.mark.parametrize(("text", "expected"), SKUS)
def test_googles_skus(text: str, expected: tuple[str, str, str]) -> None:
    assert google.sku(text) == expected


METERS = [
    ("gpt 4.1 nano Batch Inp glbl Tokens", ("gpt-4.1-nano", "batch", "input")),
    ("gpt-4o-mini-0718-Batch-Outp-glbl Tokens", ("gpt-4o-mini-0718", "batch", "output")),
    ("gpt 4o 0806 cached Inp regnl Tokens", ("gpt-4o-0806", "standard", "cached")),
    ("gpt 4o 0806 Batch Inp Data Zone Tokens", ("gpt-4o-0806", "batch", "input")),
    ("text-embedding-3-large-glbl Tokens", ("text-embedding-3-large", "standard", "input")),
    ("Provisioned Managed Global Unit", ("", "", "Provisioned Managed Global Unit")),
    ("gpt 4o dev ft inpt glbl Tokens", ("", "", "gpt 4o dev ft inpt glbl Tokens")),
]


@pytest.mark.parametrize(("text", "expected"), METERS)
def test_azures_meters(text: str, expected: tuple[str, str, str]) -> None:
    assert azure.meter(text) == expected


def google_line(**more: object) -> bytes:
    line = {
        "service": {"description": "Gemini API"},
        "sku": {"description": "Generate content output token count gemini 2.5 flash text batch"},
        "usage_start_time": "2026-09-21 23:00:00 UTC",
        "project": {"id": "my-project"},
        "cost": 0.000123,
        "currency": "USD",
        "currency_conversion_rate": "1",
        "usage": {"amount": "98.0", "unit": "count"},
        "credits": [],
        "cost_type": "regular",
        **more,
    }
    return msgspec.json.encode(line) + b"\n"


def test_googles_export(tmp_path: Path) -> None:
    text = b"".join(
        (
            google_line(),
            google_line(currency="EUR", cost="0.5", currency_conversion_rate=0.8),
            google_line(service={"description": "Cloud Run"}),
            google_line(
                service={"description": "Vertex AI"}, sku={"description": "Custom training N1 cores"}
            ),
            google_line(cost_type="tax", cost=2),
            google_line(credits=[{"name": "trial", "amount": -0.25}]),
        )
    )
    bill, lines = read(tmp_path, text)
    assert told(lines) == [
        (DAY, "gemini-2.5-flash", "batch", "output", 98, 123_000_000),
        (DAY, "gemini-2.5-flash", "batch", "output", 98, 625_000_000_000),
        (DAY, "gemini-2.5-flash", "batch", "output", 98, 123_000_000),
    ]
    assert bill.tally.others == 2
    assert bill.tally.aside == {"tax": (1, 2 * PICO), "credits": (1, -PICO // 4)}
    _, lines = read(
        tmp_path,
        "service.description,sku.description,usage_start_time,project.id,cost,currency,usage.amount,usage.unit\n"
        "Vertex AI,Gemini 2.5 Flash Text Output - Batch Predictions,2026-09-21 00:00:00 UTC,p,1.5,USD,1200000,count\n",
    )
    assert [(one.provider, *told([one])[0]) for one in lines] == [
        ("vertex", DAY, "gemini-2.5-flash", "batch", "output", 1_200_000, 1_500_000_000_000)
    ]


def test_azures_export(tmp_path: Path) -> None:
    bill, lines = read(
        tmp_path,
        "date,SubscriptionId,ResourceId,meterCategory,meterName,unitOfMeasure,quantity,costInBillingCurrency,"
        "billingCurrency,costInUsd,chargeType\n"
        "09/21/2026,s1,/a/b/my-aoai,Foundry Models,gpt 4.1 nano Batch Outp glbl Tokens,1K,1403.791,0.25,EUR,"
        "0.280758,Usage\n"
        "09/21/2026,s1,/a/vm,Virtual Machines,D2s,1 Hour,1,1,EUR,1.1,Usage\n"
        "09/21/2026,s1,/a/b/my-aoai,Foundry Models,gpt 4.1 nano Inp glbl Tokens,1M,2,0.2,EUR,,Usage\n"
        "09/21/2026,s1,/a/b/my-aoai,Foundry Models,x,1K,1,9,USD,9,Refund\n",
    )
    assert told(lines) == [
        (DAY, "gpt-4.1-nano", "batch", "output", 1_403_791, 280_758_000_000),
        (DAY, "gpt-4.1-nano", "standard", "input", 2_000_000, None),
    ]
    assert (lines[0].hints, lines[1].currency) == (("s1", "my-aoai"), "EUR")
    assert (bill.tally.others, bill.tally.currencies) == (1, {"EUR"})
    assert bill.tally.aside == {"refund": (1, 9 * PICO)}


def test_focus_names_of_azures_columns(tmp_path: Path) -> None:
    _, lines = read(
        tmp_path,
        "ChargePeriodStart,ChargeCategory,x_SkuMeterName,x_SkuMeterCategory,ConsumedQuantity,BilledCost,BillingCurrency,"
        "x_PricingUnitDescription\n"
        "2026-09-21T00:00:00Z,Usage,gpt 4.1 nano Batch Inp glbl Tokens,Azure OpenAI,19200,0.000960,USD,1K\n",
    )
    assert told(lines) == [(DAY, "gpt-4.1-nano", "batch", "input", 19_200, 960_000_000)]


def test_tallies_add_up() -> None:
    one, other = Tally(), Tally()
    for tally, day, money in ((one, 5, 3), (other, 2, None)):
        tally.covers(day)
        tally.set_aside("tax", money)
    one.add(other)
    assert (one.first, one.last, one.aside) == (2, 5, {"tax": (2, None)})
