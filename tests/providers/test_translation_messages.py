"""Messages requests of Anthropic's form, and what becomes of them as chats; what has no equivalent is refused."""

import json
from typing import Any, Final, TypeAlias

import pytest

from halfrate.providers.translation import Untranslatable
from halfrate.providers.translation.messages import to_chat

from .test_translation_requests import judge_anthropic, judge_openai

Json: TypeAlias = dict[str, Any]

PIXEL: Final = "iVBORw0KGgo="
CACHED: Final[Json] = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
INVOICE: Final[Json] = {
    "type": "object",
    "properties": {"total": {"type": "number"}, "notes": {"type": "array", "items": {"type": "string"}}},
    "required": ["total", "notes"],
    "additionalProperties": False,
}
WEATHER: Final[Json] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"type": "string"}},
    "required": ["city"],
}


def user(content: Any = "Hi") -> Json:
    return {"role": "user", "content": content}


def assistant(content: Any = "Yes?") -> Json:
    return {"role": "assistant", "content": content}


def text(text: str, **fields: Any) -> Json:
    return {"type": "text", "text": text, **fields}


def image(media_type: str = "image/png", data: Any = PIXEL, **fields: Any) -> Json:
    source = {"type": "base64", "media_type": media_type, "data": data}
    return {"type": "image", "source": source, **fields}


def link(url: str) -> Json:
    return {"type": "image", "source": {"type": "url", "url": url}}


def use(call_id: str = "toolu_1", name: str = "weather", **fields: Any) -> Json:
    return {"type": "tool_use", "id": call_id, "name": name, "input": {"city": "Oslo"}, **fields}


def result(call_id: str = "toolu_1", **fields: Any) -> Json:
    return {"type": "tool_result", "tool_use_id": call_id, **fields}


def tool(**fields: Any) -> Json:
    return {"name": "weather", "input_schema": WEATHER, **fields}


def chat(**body: Any) -> Json:
    """What becomes of a request; the SDKs' types judge both."""
    asked = {"model": "claude-x", "max_tokens": 100, "messages": [user()], **body}
    before = json.dumps(asked)
    # The SDK has the older place of the form no longer.
    judge_anthropic({name: value for name, value in asked.items() if name != "output_format"})
    out = to_chat(asked, "gpt-x")
    assert json.dumps(asked) == before
    judge_openai(out)
    assert out.pop("model") == "gpt-x"
    return out


def refused(**body: Any) -> Untranslatable:
    with pytest.raises(Untranslatable) as caught:
        to_chat({"model": "claude-x", "max_tokens": 100, "messages": [user()], **body}, "gpt-x")
    return caught.value


ASKED: Final[Json] = {"role": "user", "content": "Hi"}


def test_a_question_and_no_more() -> None:
    assert chat() == {"messages": [ASKED], "max_completion_tokens": 100}


@pytest.mark.parametrize(
    ("given", "content"),
    [
        ("Be short.", "Be short."),
        ([text("Be short.", **CACHED)], "Be short."),
        ([text("Be short."), text("Be kind.", citations=None)], [text("Be short."), text("Be kind.")]),
    ],
)
def test_instructions_are_a_message(given: Any, content: Any) -> None:
    assert chat(system=given)["messages"] == [{"role": "system", "content": content}, ASKED]


@pytest.mark.parametrize("given", ["", [], [text("")]])
def test_no_instructions_are_none(given: Any) -> None:
    assert chat(system=given)["messages"] == [ASKED]


def test_instructions_later_on_stay_where_they_are() -> None:
    talk = [user(), assistant(), {"role": "system", "content": [text("Be short.")]}, user("And?")]
    assert chat(messages=talk)["messages"] == [
        ASKED,
        {"role": "assistant", "content": "Yes?"},
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "And?"},
    ]


def test_turns_of_one_side_in_a_row_are_one() -> None:
    talk = [user("A"), user([text("B"), text("")]), assistant([text("C")]), assistant("D"), user("E")]
    assert chat(messages=talk)["messages"] == [
        {"role": "user", "content": [text("A"), text("B")]},
        {"role": "assistant", "content": [text("C"), text("D")]},
        {"role": "user", "content": "E"},
    ]


def test_images_are_urls() -> None:
    blocks = [
        text("What is this?"),
        image("image/webp", transformations={"oversized_image": "downsize"}),
        image(transformations={}),
        link("https://example.org/a.png"),
    ]
    content = chat(messages=[user(blocks)])["messages"][0]["content"]
    assert content[0] == text("What is this?")
    assert [part["image_url"] for part in content[1:]] == [
        {"url": f"data:image/webp;base64,{PIXEL}"},
        {"url": f"data:image/png;base64,{PIXEL}"},
        {"url": "https://example.org/a.png"},
    ]


def test_calls_and_their_results() -> None:
    talk = [
        user("Oslo or Rome?"),
        assistant(
            [
                text("Let me look."),
                use("toolu_1", caller={"type": "direct"}),
                text("And there."),
                use("toolu_2", input={"city": "Rome"}, **CACHED),
                use("toolu_3", name="now", input={}),
                use("toolu_4"),
            ]
        ),
        user(
            [
                result("toolu_2", content="25", is_error=False, **CACHED),
                result("toolu_1", content=[text("4", **CACHED), text(""), text("rain")]),
                result("toolu_3"),
            ]
        ),
        user([result("toolu_4", content="no such city", is_error=True), text("In one line."), image()]),
    ]
    out = chat(messages=talk)["messages"]
    assert out[1]["content"] == [text("Let me look."), text("And there.")]
    assert [(call["id"], call["type"]) for call in out[1]["tool_calls"]] == [
        (f"toolu_{n}", "function") for n in (1, 2, 3, 4)
    ]
    functions = [call["function"] for call in out[1]["tool_calls"]]
    assert [function["name"] for function in functions] == ["weather", "weather", "now", "weather"]
    assert [json.loads(function["arguments"]) for function in functions] == [
        {"city": "Oslo"},
        {"city": "Rome"},
        {},
        {"city": "Oslo"},
    ]
    assert out[2:6] == [
        {"role": "tool", "tool_call_id": "toolu_2", "content": "25"},
        {"role": "tool", "tool_call_id": "toolu_1", "content": [text("4"), text("rain")]},
        {"role": "tool", "tool_call_id": "toolu_3", "content": ""},
        {"role": "tool", "tool_call_id": "toolu_4", "content": "Error: no such city"},
    ]
    assert out[6]["role"] == "user"
    assert [part["type"] for part in out[6]["content"]] == ["text", "image_url"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "Error"),
        ([], "Error"),
        ("gone", "Error: gone"),
        ([text("gone"), text("away")], [text("Error: gone"), text("away")]),
    ],
)
def test_a_tool_that_failed_says_so(content: Any, told: Any) -> None:
    said = {} if content is None else {"content": content}
    talk = [user(), assistant([use()]), user([result(is_error=True, **said)])]
    out = chat(messages=talk)["messages"]
    assert out[1]["content"] is None
    assert out[2] == {"role": "tool", "tool_call_id": "toolu_1", "content": told}


def test_tools_are_functions() -> None:
    given = [
        tool(description="Today's weather.", type="custom", **CACHED),
        tool(
            name="save",
            input_schema=INVOICE,
            strict=True,
            allowed_callers=["direct"],
            defer_loading=False,
            eager_input_streaming=True,
            input_examples=[],
        ),
        tool(name="now", input_schema={"type": "object"}, strict=False),
    ]
    assert chat(tools=given)["tools"] == [
        {
            "type": "function",
            "function": {"name": "weather", "description": "Today's weather.", "parameters": WEATHER},
        },
        {"type": "function", "function": {"name": "save", "parameters": INVOICE, "strict": True}},
        {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}},
    ]


NAMED: Final[Json] = {"type": "function", "function": {"name": "weather"}}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, {}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "tool", "name": "weather"}, {"tool_choice": NAMED}),
        ({"type": "auto", "disable_parallel_tool_use": False}, {}),
        ({"type": "auto", "disable_parallel_tool_use": True}, {"parallel_tool_calls": False}),
        (
            {"type": "any", "disable_parallel_tool_use": True},
            {"tool_choice": "required", "parallel_tool_calls": False},
        ),
    ],
)
def test_the_choice_among_tools(choice: Json, expected: Json) -> None:
    out = chat(tools=[tool()], tool_choice=choice)
    assert {name: out[name] for name in out if name in {"tool_choice", "parallel_tool_calls"}} == expected


@pytest.mark.parametrize("choice", [{"type": "none"}, {"type": "auto", "disable_parallel_tool_use": True}])
def test_without_tools_there_is_no_choice(choice: Json) -> None:
    assert chat(tools=[], tool_choice=choice) == chat()


@pytest.mark.parametrize(
    ("asked", "effort"),
    [
        ({"thinking": {"type": "disabled"}}, "none"),
        ({"thinking": {"type": "adaptive"}}, "high"),
        ({"thinking": {"type": "adaptive", "display": "omitted"}, "output_config": {"effort": "max"}}, "max"),
        ({"output_config": {"effort": "low"}}, "low"),
        ({"output_config": {"effort": "xhigh", "format": None}}, "xhigh"),
        ({"output_config": {}}, None),
    ],
)
def test_how_hard_to_think(asked: Json, effort: str | None) -> None:
    assert chat(**asked).get("reasoning_effort") == effort


FORM: Final[Json] = {"type": "json_schema", "schema": INVOICE}


@pytest.mark.parametrize("asked", [{"output_config": {"format": FORM}}, {"output_format": FORM}])
def test_an_answer_of_a_form(asked: Json) -> None:
    assert chat(**asked)["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": INVOICE},
    }


def test_what_else_is_asked_for() -> None:
    out = chat(
        stop_sequences=["A", "B", "C", "D"],
        temperature=0.5,
        top_p=0.25,
        metadata={"user_id": "u-1"},
        service_tier="standard_only",
    )
    assert out == {
        "messages": [ASKED],
        "max_completion_tokens": 100,
        "stop": ["A", "B", "C", "D"],
        "temperature": 0.5,
        "top_p": 0.25,
        "user": "u-1",
        "service_tier": "default",
    }


def test_what_asks_for_what_is_done_anyway_says_nothing() -> None:
    idle: Json = {
        "cache_control": {"type": "ephemeral"},
        "container": None,
        "metadata": {},
        "output_config": {"effort": None},
        "service_tier": "auto",
        "speed": "standard",
        "stop_sequences": [],
        "stream": False,
        "system": "",
        "temperature": 1,
        "tool_choice": {"type": "auto"},
        "tools": [],
        "top_p": 1.0,
    }
    assert chat(**idle) == chat()
    assert to_chat({**ASKED_ALONE, "mcp_servers": []}, "gpt-x") == to_chat(ASKED_ALONE, "gpt-x")


ASKED_ALONE: Final[Json] = {"max_tokens": 1, "messages": [user()]}


FIELDS: Final[list[tuple[str, Any, str]]] = [
    ("cache_control", {"type": "eternal"}, "cache_control.type"),
    ("container", "c_1", "container"),
    ("context_management", {"edits": []}, "context_management"),
    ("diagnostics", {"previous_message_id": "m"}, "diagnostics"),
    ("inference_geo", "us", "inference_geo"),
    ("max_tokens", None, "max_tokens"),
    ("max_tokens", 0, "max_tokens"),
    ("mcp_servers", [{"type": "url", "url": "https://example.org", "name": "m"}], "mcp_servers"),
    ("messages", [], "messages"),
    ("metadata", {"user_id": 5}, "metadata.user_id"),
    ("metadata", {"team": "a"}, "metadata.team"),
    ("output_config", {"effort": "minimal"}, "output_config.effort"),
    ("output_config", {"format": {"type": "regex"}}, "output_config.format.type"),
    ("output_config", {"format": {"type": "json_schema"}}, "output_config.format.schema"),
    ("output_config", {"task_budget": {"type": "tokens", "total": 9}}, "output_config.task_budget"),
    ("service_tier", "priority", "service_tier"),
    ("speed", "fast", "speed"),
    ("stop_sequences", ["A", "B", "C", "D", "E"], "stop_sequences"),
    ("stop_sequences", [""], "stop_sequences"),
    ("stop_sequences", "A", "stop_sequences"),
    ("stream", True, "stream"),
    ("system", [image()], "system[0].type"),
    ("system", [text("A", citations=[{"type": "char_location"}])], "system[0].citations"),
    ("temperature", 1.5, "temperature"),
    ("thinking", {"type": "between_tools"}, "thinking.type"),
    ("thinking", {"type": "enabled", "budget_tokens": 1024}, "thinking.budget_tokens"),
    ("thinking", {"type": "adaptive", "display": "summarized"}, "thinking.display"),
    ("tool_choice", {"type": "any"}, "tool_choice"),
    ("tool_choice", {"type": "tool", "name": "weather"}, "tool_choice.name"),
    ("tool_choice", {"type": "some"}, "tool_choice.type"),
    ("tools", [tool(), tool()], "tools"),
    ("tools", [{"type": "web_search_20260318", "name": "web_search"}], "tools[0].type"),
    ("tools", [{"type": "bash_20250124", "name": "bash"}], "tools[0].type"),
    ("tools", [{"name": "now"}], "tools[0].input_schema"),
    ("tools", [tool(name="a" * 65)], "tools[0].name"),
    ("tools", [tool(allowed_callers=["code_execution_20260521"])], "tools[0].allowed_callers"),
    ("tools", [tool(defer_loading=True)], "tools[0].defer_loading"),
    ("tools", [tool(input_examples=[{"city": "Oslo"}])], "tools[0].input_examples"),
    ("tools", [tool(strict=True)], "tools[0].input_schema.additionalProperties"),
    ("top_k", 5, "top_k"),
    ("top_p", -0.5, "top_p"),
    ("user_profile_id", "u", "user_profile_id"),
]


@pytest.mark.parametrize(("name", "value", "path"), FIELDS)
def test_a_field_without_an_equivalent_is_refused(name: str, value: Any, path: str) -> None:
    assert refused(**{name: value}).field == path


def test_what_does_not_go_together_is_refused() -> None:
    assert refused(output_config={"format": FORM}, output_format=FORM).field == "output_format"
    off = {"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}
    assert refused(**off).field == "output_config.effort"
    none = {"tools": [tool()], "tool_choice": {"type": "none", "disable_parallel_tool_use": True}}
    assert refused(**none).field == "tool_choice.disable_parallel_tool_use"


def test_a_limit_of_anthropics_is_called_anthropics() -> None:
    assert (
        str(refused(temperature=2)) == "temperature is no number from 0 to 1, which is what Anthropic takes"
    )
    assert str(refused(stop_sequences=list("ABCDE"))) == "stop_sequences holds 5 texts, and OpenAI takes 4"


CALLED: Final = [user(), assistant([use()])]

TALKS: Final[list[tuple[list[Json], str]]] = [
    ([user([])], "messages[0].content"),
    ([user([text("")])], "messages[0].content"),
    ([user(), assistant("")], "messages[1].role"),
    ([user(), assistant([]), user()], "messages[1].content"),
    ([user(), assistant("The answer is (")], "messages[1].role"),
    ([{"role": "tool", "content": "4"}], "messages[0].role"),
    ([{**user(), "name": "Ann"}], "messages[0].name"),
    ([{"role": "system", "content": [image()]}, user()], "messages[0].content[0].type"),
    ([user(5)], "messages[0].content"),
    ([user([{"type": "document", "source": {}}])], "messages[0].content[0].type"),
    ([user([{"type": "search_result", "source": "s"}])], "messages[0].content[0].type"),
    ([user([{"type": "container_upload", "file_id": "f"}])], "messages[0].content[0].type"),
    ([user([use()])], "messages[0].content[0].type"),
    ([user([image("image/tiff")])], "messages[0].content[0].source.media_type"),
    ([user([image(data="no")])], "messages[0].content[0].source.data"),
    ([user([image(data="")])], "messages[0].content[0].source.data"),
    ([user([link("file:///a.png")])], "messages[0].content[0].source.url"),
    (
        [user([{"type": "image", "source": {"type": "file", "file_id": "f"}}])],
        "messages[0].content[0].source.type",
    ),
    (
        [user([image(transformations={"oversized_image": "error"})])],
        "messages[0].content[0].transformations.oversized_image",
    ),
    (
        [user(), assistant([{"type": "thinking", "thinking": "Hm.", "signature": "s"}]), user()],
        "messages[1].content[0].type",
    ),
    (
        [user(), assistant([{"type": "redacted_thinking", "data": "x"}]), user()],
        "messages[1].content[0].type",
    ),
    (
        [
            user(),
            assistant([{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}]),
            user(),
        ],
        "messages[1].content[0].type",
    ),
    ([user(), assistant([image()]), user()], "messages[1].content[0].type"),
    ([user(), assistant([use(input=None)]), user()], "messages[1].content[0].input"),
    ([user(), assistant([use(), use()]), user()], "messages[1].content[1].id"),
    ([user(), assistant([use(toolset_name="browser")]), user()], "messages[1].content[0].toolset_name"),
    (
        [user(), assistant([use(caller={"type": "code_execution_20260120", "tool_id": "s"})]), user()],
        "messages[1].content[0].caller.type",
    ),
    (
        [user(), assistant([use(caller={"type": "direct", "tool_id": "s"})]), user()],
        "messages[1].content[0].caller.tool_id",
    ),
    ([user([image(transformations={"crop": "no"})])], "messages[0].content[0].transformations.crop"),
    ([*CALLED, user()], "messages[1].content[0]"),
    ([*CALLED, {"role": "system", "content": "Wait."}, user([result()])], "messages[1].content[0]"),
    ([*CALLED, user([result("toolu_9")])], "messages[2].content[0].tool_use_id"),
    ([*CALLED, user([result(), result()])], "messages[2].content[1].tool_use_id"),
    ([user([result()])], "messages[0].content[0].tool_use_id"),
    ([*CALLED, user([text("Here:"), result()])], "messages[2].content[1].type"),
    ([*CALLED, user([result(content=[image()])])], "messages[2].content[0].content[0].type"),
    (
        [*CALLED, user([result(content=[{"type": "tool_reference", "tool_name": "t"}])])],
        "messages[2].content[0].content[0].type",
    ),
    ([*CALLED, user([result(is_error="yes")])], "messages[2].content[0].is_error"),
]


@pytest.mark.parametrize(("talk", "path"), TALKS)
def test_a_turn_without_an_equivalent_is_refused(talk: list[Json], path: str) -> None:
    assert refused(messages=talk).field == path


OPEN: Final[Json] = {"type": "object", "properties": {}}
LOOSE: Final[Json] = {"type": "object", "properties": {"a": {}}, "additionalProperties": False}

SCHEMAS: Final[list[tuple[Json, str | None]]] = [
    (INVOICE, None),
    ({"type": "string"}, None),
    ({"type": "object", "additionalProperties": False}, None),
    # Words of a schema that are names of a user's, and data that looks like a schema.
    ({**INVOICE, "$defs": {"properties": INVOICE}, "default": OPEN, "enum": [OPEN]}, None),
    (OPEN, ".additionalProperties"),
    ({"type": ["object", "null"]}, ".additionalProperties"),
    ({"properties": {}}, ".additionalProperties"),
    (LOOSE, ".properties.a"),
    ({"type": "array", "items": LOOSE}, ".items.properties.a"),
    ({"anyOf": [{"type": "null"}, LOOSE]}, ".anyOf[1].properties.a"),
    ({"$ref": "#/$defs/A", "$defs": {"A": LOOSE}}, ".$defs.A.properties.a"),
    ({**INVOICE, "properties": {"total": LOOSE, "notes": {}}}, ".properties.total.properties.a"),
]


@pytest.mark.parametrize(("schema", "path"), SCHEMAS)
def test_a_strict_schema_is_closed_and_requires_everything(schema: Json, path: str | None) -> None:
    form = {"format": {"type": "json_schema", "schema": schema}}
    tools = [tool(input_schema=schema, strict=True)]
    if path is None:
        assert chat(output_config=form)["response_format"]["json_schema"]["schema"] == schema
        assert chat(tools=tools)["tools"][0]["function"]["parameters"] == schema
    else:
        assert refused(output_config=form).field == f"output_config.format.schema{path}"
        assert refused(tools=tools).field == f"tools[0].input_schema{path}"
        assert chat(tools=[tool(input_schema=schema)])["tools"][0]["function"]["parameters"] == schema
