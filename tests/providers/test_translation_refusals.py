"""What has no equivalent is refused, by its path; nothing is dropped without a word."""

import pickle
from typing import Any, Final, TypeAlias

import pytest

from halfrate.providers.translation import Family, Untranslatable, request_to

Json: TypeAlias = dict[str, Any]

ALL: Final[list[Family]] = ["anthropic", "gemini", "converse"]
PIXEL: Final = "data:image/png;base64,iVBORw0KGgo="


def user(content: Any = "Hi", **fields: Any) -> Json:
    return {"role": "user", "content": content, **fields}


def assistant(content: Any = "Yes?", **fields: Any) -> Json:
    return {"role": "assistant", "content": content, **fields}


def call(call_id: Any = "c1", name: str = "f", arguments: str = "{}", **fields: Any) -> Json:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}, **fields}


def result(call_id: Any = "c1", content: Any = "4", **fields: Any) -> Json:
    return {"role": "tool", "tool_call_id": call_id, "content": content, **fields}


def picture(url: Any = PIXEL, **fields: Any) -> Json:
    return {"type": "image_url", "image_url": {"url": url, **fields}}


def tool(name: str = "f", **fields: Any) -> Json:
    return {"type": "function", "function": {"name": name, **fields}}


def schema(**fields: Any) -> Json:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, **fields}}


def refused(family: Family, body: Json) -> Untranslatable:
    with pytest.raises(Untranslatable) as caught:
        request_to(family, {"model": "x", "messages": [user()], **body})
    return caught.value


FIELDS: Final[list[tuple[str, Any, list[Family]]]] = [
    ("audio", {"voice": "alloy", "format": "wav"}, ALL),
    ("cache_control", {"type": "ephemeral"}, ALL),
    ("frequency_penalty", 0.5, ["anthropic", "converse"]),
    ("function_call", "auto", ALL),
    ("functions", [{"name": "f"}], ALL),
    ("logit_bias", {"50256": -100}, ALL),
    ("logprobs", True, ["anthropic", "converse"]),
    ("max_completion_tokens", 0, ALL),
    ("max_completion_tokens", "5", ALL),
    ("max_tokens", 1.5, ALL),
    ("messages", "Hi", ALL),
    ("messages", [], ALL),
    ("metadata", {"team": "a"}, ALL),
    ("modalities", ["text", "audio"], ALL),
    ("moderation", {"model": "omni"}, ALL),
    ("n", 2, ["anthropic", "converse"]),
    ("n", 9, ["gemini"]),
    ("n", True, ALL),
    ("no_such_field", 1, ALL),
    ("parallel_tool_calls", "no", ALL),
    ("prediction", {"type": "content", "content": "x"}, ALL),
    ("presence_penalty", -0.5, ["anthropic", "converse"]),
    ("presence_penalty", 2.5, ALL),
    ("prompt_cache_key", "k", ALL),
    ("prompt_cache_options", {"ttl": "30m"}, ALL),
    ("prompt_cache_retention", "24h", ALL),
    ("reasoning_effort", "hard", ALL),
    ("reasoning_effort", "none", ["gemini", "converse"]),
    ("reasoning_effort", "max", ["gemini", "converse"]),
    ("response_format", {"type": "json_object"}, ["anthropic", "converse"]),
    ("response_format", schema(), ["converse"]),
    ("safety_identifier", "u", ["gemini", "converse"]),
    ("seed", 7, ["anthropic", "converse"]),
    ("seed", 2**31, ["gemini"]),
    ("service_tier", "flex", ALL),
    ("stop", "", ALL),
    ("stop", ["a", 1], ALL),
    ("stop", {"a": 1}, ALL),
    ("stop", ["a", "b", "c", "d", "e", "f"], ["gemini"]),
    ("stop", "\n\n", ["anthropic"]),
    ("store", True, ALL),
    ("stream", True, ALL),
    ("stream_options", {"include_usage": True}, ALL),
    ("temperature", 1.5, ["anthropic", "converse"]),
    ("temperature", 2.5, ALL),
    ("temperature", float("nan"), ALL),
    ("temperature", True, ALL),
    ("tool_choice", "required", ALL),
    ("tool_choice", {"type": "function", "function": {"name": "f"}}, ALL),
    ("tools", [tool()], ["converse"]),
    ("tools", [tool(), tool()], ["anthropic", "gemini"]),
    ("top_k", 40, ["converse"]),
    ("top_k", 0, ALL),
    ("top_logprobs", 3, ALL),
    ("top_p", 1.1, ALL),
    ("user", "u", ["gemini", "converse"]),
    ("user", 5, ALL),
    ("verbosity", "low", ALL),
    ("web_search_options", {}, ALL),
]


@pytest.mark.parametrize(
    ("family", "field", "value"),
    [(family, field, value) for field, value, families in FIELDS for family in families],
)
def test_a_field_is_refused_by_name(family: Family, field: str, value: Any) -> None:
    error = refused(family, {field: value})
    assert error.field == field
    assert error.reason
    assert str(error) == f"{error.field} {error.reason}"


MESSAGES: Final[list[tuple[str, list[Any], list[Family]]]] = [
    ("messages[0]", ["Hi"], ALL),
    ("messages[0].role", [{"content": "Hi"}], ALL),
    ("messages[0].role", [{"role": "function", "name": "f", "content": "4"}], ALL),
    ("messages[0].role", [assistant(), user()], ALL),
    ("messages[0].name", [user(name="Ann")], ALL),
    ("messages[0].name", [{"role": "system", "content": "Be.", "name": "boss"}, user()], ALL),
    ("messages[0].cache_control", [user(cache_control={"type": "ephemeral"})], ALL),
    ("messages[0].content", [user("")], ALL),
    ("messages[0].content", [user(None)], ALL),
    ("messages[0].content", [user(5)], ALL),
    ("messages[0].content", [user(" \n")], ["anthropic", "converse"]),
    ("messages[0].content[0]", [user(["Hi"])], ALL),
    ("messages[0].content[0].type", [user([{"type": "input_audio", "input_audio": {}}])], ALL),
    ("messages[0].content[0].type", [user([{"type": "file", "file": {"file_id": "f"}}])], ALL),
    ("messages[0].content[0].text", [user([{"type": "text"}])], ALL),
    (
        "messages[0].content[1].cache_control",
        [user([{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": {}}])],
        ALL,
    ),
    (
        "messages[0].content[0].prompt_cache_breakpoint",
        [user([{"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}])],
        ALL,
    ),
    ("messages[0].content[0].text", [user([{"type": "text", "text": " "}])], ["anthropic", "converse"]),
    ("messages[0].content[0].image_url", [user([{"type": "image_url"}])], ALL),
    ("messages[0].content[0].image_url", [user([{"type": "image_url", "image_url": PIXEL}])], ALL),
    ("messages[0].content[0].image_url.detail", [user([picture(detail="high")])], ALL),
    ("messages[0].content[0].image_url.size", [user([picture(size=3)])], ALL),
    ("messages[0].content[0].image_url.url", [user([picture("http://example.org/a.png")])], ALL),
    (
        "messages[0].content[0].image_url.url",
        [user([picture("https://x.org/a.png")])],
        ["gemini", "converse"],
    ),
    ("messages[0].content[0].image_url.url", [user([picture("data:image/png,abc")])], ALL),
    ("messages[0].content[0].image_url.url", [user([picture("data:image/png;base64,a b")])], ALL),
    ("messages[0].content[0].image_url.url", [user([picture("data:image/png;base64,é===")])], ALL),
    ("messages[0].content[0].image_url.url", [user([picture("data:image/png;base64,")])], ALL),
    ("messages[0].content[0].image_url.url", [user([picture("data:image/tiff;base64,QQ==")])], ALL),
    ("messages[0].content[0].image_url.url", [user([picture("data:image/gif;base64,QQ==")])], ["gemini"]),
    (
        "messages[0].content[0].image_url.url",
        [user([picture("data:image/heic;base64,QQ==")])],
        ["anthropic", "converse"],
    ),
    ("messages[0].content[0].image_url.url", [{"role": "system", "content": [picture()]}, user()], ALL),
    ("messages[1].role", [user(), assistant()], ALL),
    ("messages[1].role", [user(), {"role": "system", "content": "Be."}], ALL),
    ("messages[2].role", [user(), assistant(), {"role": "developer", "content": "Be."}, user()], ALL),
    ("messages", [{"role": "system", "content": "Be."}], ALL),
    ("messages[1].content", [user(), assistant(None), user()], ALL),
    ("messages[1].audio", [user(), assistant(audio={"id": "a"}), user()], ALL),
    ("messages[1].function_call", [user(), assistant(function_call={"name": "f"}), user()], ALL),
    ("messages[1].annotations", [user(), assistant(annotations=[{"type": "url_citation"}]), user()], ALL),
    ("messages[1].reasoning_content", [user(), assistant(reasoning_content="Hm."), user()], ALL),
    ("messages[1].tool_calls[0].type", [user(), assistant(tool_calls=[call(type="custom")]), result()], ALL),
    ("messages[1].tool_calls[0].id", [user(), assistant(tool_calls=[call(5)]), result()], ALL),
    ("messages[1].tool_calls[0].index", [user(), assistant(tool_calls=[call(index=0)]), result()], ALL),
    (
        "messages[1].tool_calls[0].function.arguments",
        [user(), assistant(tool_calls=[call(arguments="[1]")]), result()],
        ALL,
    ),
    (
        "messages[1].tool_calls[0].function.arguments",
        [user(), assistant(tool_calls=[call(arguments='{"a": NaN}')]), result()],
        ALL,
    ),
    ("messages[1].tool_calls", [user(), assistant(tool_calls=[call(), call()]), result()], ALL),
    (
        "messages[1].tool_calls[1]",
        [user(), assistant(tool_calls=[call(), call("c2")]), result(), user()],
        ALL,
    ),
    ("messages[1].tool_calls[0]", [user(), assistant(tool_calls=[call()])], ALL),
    ("messages[1].tool_calls[0]", [user(), assistant(tool_calls=[call()]), result()], ["converse"]),
    ("messages[1].tool_call_id", [user(), result()], ALL),
    ("messages[3].tool_call_id", [user(), assistant(tool_calls=[call()]), result(), result()], ALL),
    ("messages[2].tool_call_id", [user(), assistant(tool_calls=[call()]), result(None)], ALL),
    ("messages[2].name", [user(), assistant(tool_calls=[call()]), result(name="f")], ALL),
    (
        "messages[2].content[0].image_url.url",
        [user(), assistant(tool_calls=[call()]), result(content=[picture()])],
        ALL,
    ),
    (
        "messages[1].tool_calls[0].id",
        [user(), assistant(tool_calls=[call("f:0")]), result("f:0")],
        ["anthropic"],
    ),
    (
        "messages[3].tool_calls[0].id",
        [user(), assistant(tool_calls=[call()]), result(), assistant(tool_calls=[call()]), result()],
        ["anthropic"],
    ),
]


@pytest.mark.parametrize(
    ("family", "field", "messages"),
    [(family, field, messages) for field, messages, families in MESSAGES for family in families],
)
def test_what_is_wrong_with_a_message_is_named(family: Family, field: str, messages: list[Any]) -> None:
    assert refused(family, {"messages": messages}).field == field


TOOLS: Final[list[tuple[str, Json]]] = [
    ("tools", {"tools": {"f": 1}}),
    ("tools[0]", {"tools": ["f"]}),
    ("tools[0].type", {"tools": [{"type": "custom", "custom": {"name": "f"}}]}),
    ("tools[1].function", {"tools": [tool(), {"type": "function"}]}),
    ("tools[0].function.name", {"tools": [{"type": "function", "function": {}}]}),
    ("tools[0].function.cache_control", {"tools": [tool(cache_control={})]}),
    ("tools[0].cache_control", {"tools": [{**tool(), "cache_control": {}}]}),
    ("tools[0].function.parameters", {"tools": [tool(parameters="{}")]}),
    ("tools[0].function.strict", {"tools": [tool(strict="yes")]}),
    ("tools[0].function.name", {"tools": [tool("not a name")]}),
    ("tool_choice", {"tools": [tool()], "tool_choice": "always"}),
    ("tool_choice", {"tools": [tool()], "tool_choice": {"type": "function", "function": {"name": "g"}}}),
    ("tool_choice.type", {"tools": [tool()], "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}),
    (
        "tool_choice.function.strict",
        {"tools": [tool()], "tool_choice": {"type": "function", "function": {"name": "f", "strict": True}}},
    ),
    ("response_format", {"response_format": "json"}),
    ("response_format.type", {"response_format": {"type": "grammar"}}),
    ("response_format.strict", {"response_format": {**schema(), "strict": True}}),
    ("response_format.json_schema", {"response_format": {"type": "json_schema"}}),
    ("response_format.json_schema.name", {"response_format": {"type": "json_schema", "json_schema": {}}}),
    ("response_format.json_schema.schema", {"response_format": schema(schema=None)}),
    ("response_format.json_schema.kind", {"response_format": schema(kind="x")}),
    (
        "response_format.json_schema.description",
        {"response_format": schema(description="a", schema={"type": "object", "description": "b"})},
    ),
]


@pytest.mark.parametrize("family", ["anthropic", "gemini"])
@pytest.mark.parametrize(("field", "body"), TOOLS)
def test_what_is_wrong_with_tools_and_forms_is_named(family: Family, field: str, body: Json) -> None:
    assert refused(family, body).field == field


TOGETHER: Final[list[tuple[Family, str, Json]]] = [
    ("anthropic", "max_tokens", {"max_tokens": 5, "max_completion_tokens": 6}),
    ("anthropic", "user", {"user": "a", "safety_identifier": "b"}),
    ("anthropic", "top_p", {"temperature": 0.5, "top_p": 0.5}),
    ("anthropic", "temperature", {"temperature": 0.5, "reasoning_effort": "low"}),
    ("anthropic", "top_k", {"top_k": 5, "reasoning_effort": "low"}),
    ("anthropic", "top_p", {"top_p": 0.5, "reasoning_effort": "low"}),
    ("anthropic", "tool_choice", {"tools": [tool()], "tool_choice": "required", "reasoning_effort": "low"}),
    ("anthropic", "tools[0].function.parameters.type", {"tools": [tool(parameters={"type": "array"})]}),
    ("gemini", "parallel_tool_calls", {"tools": [tool()], "parallel_tool_calls": False}),
    ("gemini", "tools[0].function.name", {"tools": [tool("7up")]}),
    ("gemini", "top_logprobs", {"logprobs": True, "top_logprobs": 21}),
    ("gemini", "reasoning_effort", {"model": "gemini-2.5-pro", "reasoning_effort": "none"}),
    (
        "gemini",
        "response_format",
        {"model": "gemini-2.5-pro", "tools": [tool()], "response_format": schema()},
    ),
]


@pytest.mark.parametrize(("family", "field", "body"), TOGETHER)
def test_fields_that_do_not_go_together_are_refused(family: Family, field: str, body: Json) -> None:
    assert refused(family, body).field == field


def test_the_error_says_what_and_why_and_can_be_sent_elsewhere() -> None:
    error = refused("anthropic", {"seed": 7})
    assert isinstance(error, ValueError)
    assert (error.field, error.reason) == ("seed", "has no equivalent with Anthropic")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (copy.field, copy.reason, str(copy)) == (error.field, error.reason, str(error))
