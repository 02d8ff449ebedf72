"""Each format, from rows as its tool writes them: the modules of halfrate.usage name the sources."""

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest

from halfrate.core.audit_call import Call
from halfrate.usage.reading import UsageLog

from .made import document, lines, packed, read, table
from .workloads import (
    DAYS,
    OF,
    Event,
    events,
    helicone_row,
    iso,
    langfuse_row,
    litellm_row,
    otel_span,
)

AT = 1790845200.25
CHAT = Event(AT, "support-chat", 800, 120, 2.5, cached=200, session="s-1", user="u-1", first_token=0.4)
LABEL = Event(AT, "nightly-labels", 900, 30, 1.5)
AGENT = Event(AT, "repo-agent", 20, 300, 4.0, cached=5000, written=700, session="s-2")


def tokens(call: Call) -> tuple[int, ...]:
    return call.input, call.cached, call.write_5m, call.write_1h, call.output


def row(event: Event) -> dict[str, Any]:
    return litellm_row(event, random.Random(0))


# ---------------------------------------------------------------- LiteLLM


def test_a_spend_log_is_read_alike_as_lines_as_a_table_as_a_document_and_packed(tmp_path: Path) -> None:
    rows = [row(CHAT), row(LABEL), row(AGENT)]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    logs = [
        lines(tmp_path, *rows),
        document(tmp_path, rows),
        document(tmp_path, {"data": rows, "total": 3}, "v2.json"),
        table(tmp_path, out.getvalue()),
        packed(lines(tmp_path, *rows, name="again.jsonl")),
    ]
    found = [read(path) for path in logs]
    assert all(calls == found[0] for calls in found)
    chat, label, agent = found[0]
    assert (chat.time, chat.duration, chat.stream) == (AT, pytest.approx(2.5), True)
    assert chat.first_token == pytest.approx(0.4)
    assert tokens(chat) == (800, 200, 0, 0, 120)
    assert (chat.job, chat.team, chat.key, chat.user) == ("support-chat", "support", "support-prod", "u-1")
    assert (chat.provider, chat.model, chat.endpoint, chat.session) == ("openai", "gpt-4.1", "chat", "s-1")
    assert (label.stream, label.user, label.status) == (False, None, 200)
    assert tokens(agent) == (20, 5000, 700, 0, 300)


def test_what_litellms_own_cache_answered_is_no_call(tmp_path: Path) -> None:
    log = UsageLog(lines(tmp_path, row(CHAT), row(LABEL) | {"cache_hit": "True"}))
    assert [len(block) for block in log.blocks()] == [1]
    assert (log.rows, log.aside, log.unreadable) == (2, 1, 0)


def test_litellms_batches_hour_long_caches_and_stored_requests_are_known(tmp_path: Path) -> None:
    usage = {
        "cache_creation_input_tokens": 700,
        "prompt_tokens_details": {"cache_creation_token_details": {"ephemeral_1h_input_tokens": 500}},
    }
    stored = json.dumps({"stream": True, "tools": [{"type": "function"}], "messages": []})
    (call,) = read(
        lines(
            tmp_path,
            row(AGENT)
            | {"metadata": json.dumps({"usage_object": usage}), "call_type": "aretrieve_batch"}
            | {"proxy_server_request": stored},
        )
    )
    assert tokens(call) == (5020, 0, 200, 500, 300)
    assert (call.tier, call.stream, call.tools) == ("batch", True, True)


# ---------------------------------------------------------------- Langfuse


def test_langfuse_is_read_alike_from_blob_storage_and_from_the_api(tmp_path: Path) -> None:
    rows = [langfuse_row(event, random.Random(0)) for event in (CHAT, LABEL, AGENT)]
    span = rows[0] | {"type": "SPAN", "provided_model_name": ""}

    def camel(name: str) -> str:
        head, *rest = name.split("_")
        return head + "".join(part.capitalize() for part in rest)

    api = {"data": [{camel(name): value for name, value in one.items()} for one in (*rows, span)], "meta": {}}
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    for one in rows:
        cells = {
            k: json.dumps(v) if isinstance(v, (dict, list)) else "" if v is None else v
            for k, v in one.items()
        }
        writer.writerow(cells)
    stored, replied, exported = (
        read(lines(tmp_path, *rows, span)),
        read(document(tmp_path, api)),
        read(table(tmp_path, out.getvalue())),
    )
    assert stored == replied == exported
    chat, label, agent = stored
    assert (chat.time, chat.stream, chat.job, chat.team) == (AT, True, "support-chat", "support")
    assert (chat.session, chat.user, chat.tags["environment"]) == ("s-1", "u-1", "production")
    assert tokens(chat) == (800, 200, 0, 0, 120)
    assert (label.stream, label.tools, agent.tools) == (False, False, True)
    assert tokens(agent) == (20, 5000, 700, 0, 300)
    assert label.session == rows[1]["trace_id"]


def test_langfuses_input_may_hold_what_came_from_a_cache(tmp_path: Path) -> None:
    """As langfuse/langfuse#10592 reports of one of its integrations."""
    given = langfuse_row(LABEL, random.Random(0))
    given["usage_details"] = {"input": 17903, "output": 40, "input_cached_tokens": 17817, "total": 17943}
    apart = given | {
        "usage_details": {"input": 86, "output": 40, "input_cached_tokens": 17817, "total": 17943}
    }
    assert {tokens(call) for call in read(lines(tmp_path, given, apart))} == {(86, 17817, 0, 0, 40)}


def test_a_langfuse_export_without_the_columns_of_streaming_does_not_know_of_it(tmp_path: Path) -> None:
    given = langfuse_row(CHAT, random.Random(0))
    del given["completion_start_time"], given["time_to_first_token"]
    (call,) = read(lines(tmp_path, given))
    assert call.stream is None


# ---------------------------------------------------------------- Helicone


def test_helicones_requests_are_read(tmp_path: Path) -> None:
    chat, agent = read(lines(tmp_path, *(helicone_row(event, random.Random(0)) for event in (CHAT, AGENT))))
    assert tokens(chat) == (800, 200, 0, 0, 120)
    assert tokens(agent) == (20, 5000, 700, 0, 300)
    assert (chat.time, chat.duration, chat.stream, agent.stream) == (AT, 2.5, True, False)
    assert (chat.job, chat.team, chat.session, chat.provider) == ("support-chat", "support", "s-1", "openai")


def test_an_array_of_helicone_may_lack_or_double_its_last_comma(tmp_path: Path) -> None:
    """Its export tool writes a comma after every entry, the last one too when it stops at a limit."""
    one = json.dumps(helicone_row(CHAT, random.Random(0)), indent=2)
    path = tmp_path / "output.json"
    path.write_text(f"[\n{one},\n{one},\n]\n")
    assert len(read(path)) == 2


def test_helicones_table_knows_less(tmp_path: Path) -> None:
    head = (
        "response_id,response_created_at,response_status,request_created_at,request_body,request_properties,"
    )
    head += "request_user_id,model,prompt_tokens,completion_tokens,latency,cost\n"
    cells = f'"r","{iso(AT)}","200","{iso(AT)}","","{{""job"":""labels""}}","",'
    cells += '"gpt-4.1-mini","900","30","1500","0.01"\n'
    (call,) = read(table(tmp_path, head + cells))
    assert (call.job, call.duration, call.cost, call.stream, call.user) == ("labels", 1.5, 10**10, None, None)


# ---------------------------------------------------------------- OpenTelemetry


def test_spans_are_read_from_messages_lines_and_documents(tmp_path: Path) -> None:
    spans = [otel_span(event, random.Random(0)) for event in (CHAT, AGENT)]
    tool = spans[0] | {
        "attributes": [{"key": "gen_ai.operation.name", "value": {"stringValue": "execute_tool"}}],
    }
    agent = spans[0] | {
        "attributes": [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "invoke_agent"}},
            {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "99999"}},
        ],
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "web"}}]}
    message = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [*spans, tool, agent]}]}]}
    found = read(lines(tmp_path, message, message)), read(document(tmp_path, message))
    assert found[0] == found[1] * 2
    chat, loop = found[1]
    assert (chat.session, chat.user) == ("s-1", "u-1")
    assert (chat.time, chat.duration) == (pytest.approx(AT), pytest.approx(2.5))
    assert (tokens(chat), tokens(loop)) == ((800, 200, 0, 0, 120), (20, 5000, 700, 0, 300))
    assert (chat.provider, chat.job, chat.stream, chat.tools) == ("openai", "support-chat", None, None)


def test_older_names_of_attributes_and_newer_ones_are_understood(tmp_path: Path) -> None:
    about = {
        "gen_ai.system": "az.ai.openai",
        "gen_ai.usage.prompt_tokens": 10,
        "gen_ai.usage.completion_tokens": 5,
        "gen_ai.request.model": "gpt-4.1",
        "gen_ai.response.time_to_first_chunk": 0.3,
        "gen_ai.response.finish_reasons": ["tool_calls"],
        "openai.response.service_tier": "flex",
        "error.type": "429",
    }
    span = {
        "startTimeUnixNano": str(int(AT * 1e9)),
        "endTimeUnixNano": str(int(AT * 1e9) + 10**9),
        "attributes": about,
    }
    (call,) = read(lines(tmp_path, span))
    assert (call.provider, call.input, call.output, call.stream) == ("azure", 10, 5, True)
    assert (call.tools, call.tier, call.status) == (True, "flex", 429)


# ---------------------------------------------------------------- OpenAI and Anthropic


def test_openais_buckets_are_read_from_pages_and_from_the_table(tmp_path: Path) -> None:
    result = {
        "object": "organization.usage.completions.result",
        "input_tokens": 1000,
        "input_cached_tokens": 300,
        "output_tokens": 50,
        "num_model_requests": 7,
        "project_id": "proj_a",
        "api_key_id": "key_1",
        "model": "gpt-4.1-mini",
        "batch": True,
    }
    images = {"object": "organization.usage.images.result", "images": 3, "num_model_requests": 3}
    bucket = {
        "object": "bucket",
        "start_time": 1790845200,
        "end_time": 1790848800,
        "results": [result, images],
    }
    page = {"object": "page", "data": [bucket], "has_more": False, "next_page": None}
    both = tmp_path / "pages.json"
    both.write_text(json.dumps(page) + json.dumps(page))
    assert len(read(both)) == 2
    (call,) = read(document(tmp_path, page))
    assert (call.calls, call.span, call.tier, call.team) == (7, 3600.0, "batch", "proj_a")
    assert tokens(call) == (700, 300, 0, 0, 50)
    head = "start_time,end_time,num_model_requests,project_id,model,batch,"
    head += "input_tokens,input_cached_tokens,output_tokens"
    cells = "1790845200,1790848800,7,proj_a,gpt-4.1-mini,true,1000,300,50"
    (line,) = read(table(tmp_path, f"{head}\n{cells}\n"))
    assert (tokens(line), line.calls, line.tier) == (tokens(call), 7, "batch")


def test_costs_are_lines_of_a_bill(tmp_path: Path) -> None:
    """OpenAI's are in dollars, Anthropic's in cents."""
    openai = {
        "object": "page",
        "data": [
            {
                "object": "bucket",
                "start_time": 1790812800,
                "end_time": 1790899200,
                "results": [
                    {
                        "object": "organization.costs.result",
                        "amount": {"value": 0.06, "currency": "usd"},
                        "line_item": "gpt-4.1, input",
                        "project_id": None,
                    }
                ],
            }
        ],
    }
    anthropic = {
        "data": [
            {
                "starting_at": "2026-10-01T00:00:00Z",
                "ending_at": "2026-10-02T00:00:00Z",
                "results": [
                    {"amount": "123.78912", "currency": "USD", "service_tier": "batch", "model": "claude-x"}
                ],
            }
        ]
    }
    (dollars,), (cents,) = read(document(tmp_path, openai)), read(document(tmp_path, anthropic, "a.json"))
    assert (dollars.bill, dollars.cost, dollars.calls) == (True, 60_000_000_000, 0)
    assert (cents.bill, cents.cost, cents.tier) == (True, 1_237_891_200_000, "batch")


def test_anthropics_usage_is_read_from_replies_and_from_the_consoles_table(tmp_path: Path) -> None:
    """The reply is the example of the API reference."""
    result = {
        "uncached_input_tokens": 1500,
        "cache_creation": {"ephemeral_1h_input_tokens": 1000, "ephemeral_5m_input_tokens": 500},
        "cache_read_input_tokens": 200,
        "output_tokens": 500,
        "server_tool_use": {"web_search_requests": 10},
        "api_key_id": "apikey_01Rj2N8SVvo6BePZj99NhmiT",
        "workspace_id": "wrkspc_01JwQvzr7rXLA5AGx3HKfFUJ",
        "model": "claude-sonnet-4-20250514",
        "service_tier": "standard",
        "context_window": "0-200k",
    }
    bucket = {"starting_at": "2025-08-01T00:00:00Z", "ending_at": "2025-08-02T00:00:00Z", "results": [result]}
    (call,) = read(document(tmp_path, {"data": [bucket], "has_more": True, "next_page": "page_x"}))
    assert (call.calls, call.span, call.tier, call.long) == (0, 86400.0, "standard", False)
    assert tokens(call) == (1500, 200, 500, 1000, 500)
    head = "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,"
    head += (
        "usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,"
    )
    head += "usage_output_tokens,web_search_count,inference_geo,speed"
    cells = "2026-08-05,claude-opus-5,Closer App,Default,batch,> 200k,46981,15969,1,2,16932,0,global,"
    (line,) = read(table(tmp_path, f"{head}\n{cells}\n"))
    assert tokens(line) == (46981, 2, 15969, 1, 16932)
    assert (line.key, line.team, line.tier, line.long) == ("Closer App", "Default", "batch", True)


# ---------------------------------------------------------------- the plain table


def test_the_plain_table_needs_little_and_takes_tags(tmp_path: Path) -> None:
    text = "time;model;input_tokens;output_tokens;tag.feature;note\n2026-10-01T08:00:00+02:00;gpt-4.1;100;5;search;x\n"
    (call,) = read(table(tmp_path, text))
    assert (call.time, call.input, call.output, call.job) == (1790834400.0, 100, 5, "search")
    assert call.tags == {"feature": "search"}
    assert (call.stream, call.session, call.status, call.calls) == (None, None, None, 1)


@pytest.mark.parametrize(
    "written",
    [
        "2026-10-01T06:00:00Z",
        "2026-10-01 06:00:00",
        "2026-10-01T06:00:00.000+00:00",
        "2026-10-01 06:00:00+00",
        "2026-10-01 06:00:00.000 UTC",
        "1790834400",
        "1790834400000",
        "1790834400000000",
        "2026-10-01T08:00:00+02:00",
    ],
)
def test_a_time_may_be_written_in_many_ways(written: str, tmp_path: Path) -> None:
    (call,) = read(table(tmp_path, f"time,model,input_tokens\n{written},m,1\n"))
    assert call.time == 1790834400.0


def test_a_line_may_stand_for_many_calls(tmp_path: Path) -> None:
    (call,) = read(
        table(tmp_path, "time,model,input_tokens,calls,span_s\n2026-10-01T00:00:00Z,m,500,20,3600\n")
    )
    assert (call.calls, call.span) == (20, 3600.0)


# ---------------------------------------------------------------- the workloads themselves


def test_the_workloads_are_what_they_say_they_are() -> None:
    found: dict[str, int] = {}
    last = 0.0
    for event in events(3):
        assert event.at >= last
        last = event.at
        found[event.job] = found.get(event.job, 0) + 1
    assert sum(found.values()) == 100_000
    assert found == {job: one.calls for job, one in OF.items()}
    assert last < 1790812800 + DAYS * 86400
