"""Requests in OpenAI's chat form, and what becomes of them with every family."""

import subprocess
import sys
from typing import Any, Final, TypeAlias

import pytest

from halfrate.providers import translation
from halfrate.providers.translation import Family, Untranslatable, request_to

Json: TypeAlias = dict[str, Any]

PIXEL: Final = "iVBORw0KGgo="
INVOICE: Final[Json] = {
    "type": "object",
    "properties": {"total": {"type": "number"}, "currency": {"type": "string"}},
    "required": ["total", "currency"],
    "additionalProperties": False,
}
WEATHER: Final[Json] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


def user(content: Any) -> Json:
    return {"role": "user", "content": content}


def text(text: str) -> Json:
    return {"type": "text", "text": text}


def image(url: str) -> Json:
    return {"type": "image_url", "image_url": {"url": url}}


def call(call_id: str, name: str, arguments: str) -> Json:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def weather_tool(**fields: Any) -> Json:
    function = {"name": "weather", "description": "Today's weather.", "parameters": WEATHER, **fields}
    return {"type": "function", "function": function}


CLASSIFY: Final[Json] = {
    "model": "x",
    "messages": [
        {"role": "system", "content": "Answer with one word."},
        user("Is this spam? 'You won!'"),
    ],
    "temperature": 0,
    "max_tokens": 5,
    "stop": "\n",
    "n": 1,
    "stream": False,
}
SUPPORT: Final[Json] = {
    "messages": [
        {"role": "system", "content": "You help customers."},
        {"role": "developer", "content": [text("Be short."), text("")]},
        user("My parcel is late."),
        user("Number 12."),
        {"role": "assistant", "content": "Let me look.", "refusal": None, "annotations": []},
        user([text("And?")]),
    ],
    "max_completion_tokens": 300,
    "top_p": 0.9,
    "stop": ["END", "STOP"],
}
LOOK: Final[Json] = {
    "messages": [
        user(
            [
                text("What is this?"),
                {
                    "type": "image_url",
                    "image_url": {"url": f"data:image/jpg;base64,{PIXEL}", "detail": "auto"},
                },
            ]
        )
    ]
}
EXTRACT: Final[Json] = {
    "messages": [user("Invoice: 12 EUR")],
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "invoice", "description": "An invoice.", "strict": True, "schema": INVOICE},
    },
    "temperature": 1,
    "top_p": 1,
}
AGENT: Final[Json] = {
    "messages": [
        user("Is it warmer in Oslo or Rome?"),
        {
            "role": "assistant",
            "content": "",
            "refusal": None,
            "function_call": None,
            "tool_calls": [
                call("call_1", "weather", '{"city": "Oslo"}'),
                call("call_2", "weather", '{"city": "Rome"}'),
            ],
        },
        {"role": "tool", "tool_call_id": "call_2", "content": "25"},
        {"role": "tool", "tool_call_id": "call_1", "content": [text("4"), text("rain")]},
        user("Tell me in one line."),
    ],
    "tools": [weather_tool(strict=True), {"type": "function", "function": {"name": "now"}}],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
}
FORCED: Final[Json] = {
    "messages": [user("Oslo?")],
    "tools": [weather_tool()],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
}
THINK: Final[Json] = {
    "messages": [user("Prove it.")],
    "reasoning_effort": "high",
    "max_completion_tokens": 9000,
}

EXAMPLES: Final[list[tuple[str, Family, Json, Json]]] = [
    (
        "classify",
        "converse",
        CLASSIFY,
        {
            "system": [{"text": "Answer with one word."}],
            "messages": [{"role": "user", "content": [{"text": "Is this spam? 'You won!'"}]}],
            "inferenceConfig": {"maxTokens": 5, "temperature": 0, "stopSequences": ["\n"]},
        },
    ),
    (
        "classify",
        "gemini",
        CLASSIFY,
        {
            "contents": [{"role": "user", "parts": [{"text": "Is this spam? 'You won!'"}]}],
            "systemInstruction": {"parts": [{"text": "Answer with one word."}]},
            "generationConfig": {"maxOutputTokens": 5, "temperature": 0, "stopSequences": ["\n"]},
        },
    ),
    (
        "classify",
        "anthropic",
        {**CLASSIFY, "stop": None, "user": "u-1", "safety_identifier": "u-1"},
        {
            "max_tokens": 5,
            "system": "Answer with one word.",
            "messages": [{"role": "user", "content": "Is this spam? 'You won!'"}],
            "temperature": 0,
            "metadata": {"user_id": "u-1"},
        },
    ),
    (
        "support",
        "anthropic",
        SUPPORT,
        {
            "max_tokens": 300,
            "system": [text("You help customers."), text("Be short.")],
            "messages": [
                {"role": "user", "content": [text("My parcel is late."), text("Number 12.")]},
                {"role": "assistant", "content": "Let me look."},
                {"role": "user", "content": "And?"},
            ],
            "stop_sequences": ["END", "STOP"],
            "top_p": 0.9,
        },
    ),
    (
        "support",
        "gemini",
        {**SUPPORT, "seed": 7, "presence_penalty": 0.5, "frequency_penalty": 0.25, "top_k": 40, "n": 2},
        {
            "contents": [
                {"role": "user", "parts": [{"text": "My parcel is late."}, {"text": "Number 12."}]},
                {"role": "model", "parts": [{"text": "Let me look."}]},
                {"role": "user", "parts": [{"text": "And?"}]},
            ],
            "systemInstruction": {"parts": [{"text": "You help customers."}, {"text": "Be short."}]},
            "generationConfig": {
                "maxOutputTokens": 300,
                "topP": 0.9,
                "topK": 40,
                "frequencyPenalty": 0.25,
                "presencePenalty": 0.5,
                "seed": 7,
                "candidateCount": 2,
                "stopSequences": ["END", "STOP"],
            },
        },
    ),
    (
        "support",
        "converse",
        SUPPORT,
        {
            "system": [{"text": "You help customers."}, {"text": "Be short."}],
            "messages": [
                {"role": "user", "content": [{"text": "My parcel is late."}, {"text": "Number 12."}]},
                {"role": "assistant", "content": [{"text": "Let me look."}]},
                {"role": "user", "content": [{"text": "And?"}]},
            ],
            "inferenceConfig": {"maxTokens": 300, "topP": 0.9, "stopSequences": ["END", "STOP"]},
        },
    ),
    (
        "look",
        "anthropic",
        LOOK,
        {
            "max_tokens": 4096,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        text("What is this?"),
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/jpeg", "data": PIXEL},
                        },
                    ],
                }
            ],
        },
    ),
    (
        "look",
        "gemini",
        LOOK,
        {
            "contents": [
                {
                    "role": "user",
                    "parts": [
                        {"text": "What is this?"},
                        {"inlineData": {"mimeType": "image/jpeg", "data": PIXEL}},
                    ],
                }
            ]
        },
    ),
    (
        "look",
        "converse",
        LOOK,
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"text": "What is this?"},
                        {"image": {"format": "jpeg", "source": {"bytes": PIXEL}}},
                    ],
                }
            ]
        },
    ),
    (
        "look at a link",
        "anthropic",
        {"messages": [user([image("https://example.org/a.png")])]},
        {
            "max_tokens": 4096,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
                    ],
                }
            ],
        },
    ),
    (
        "extract",
        "anthropic",
        EXTRACT,
        {
            "max_tokens": 4096,
            "messages": [{"role": "user", "content": "Invoice: 12 EUR"}],
            "output_config": {
                "format": {"type": "json_schema", "schema": {**INVOICE, "description": "An invoice."}}
            },
        },
    ),
    (
        "extract",
        "gemini",
        EXTRACT,
        {
            "contents": [{"role": "user", "parts": [{"text": "Invoice: 12 EUR"}]}],
            "generationConfig": {
                "temperature": 1,
                "topP": 1,
                "responseMimeType": "application/json",
                "responseJsonSchema": {**INVOICE, "description": "An invoice."},
            },
        },
    ),
    (
        "agent",
        "anthropic",
        AGENT,
        {
            "max_tokens": 4096,
            "messages": [
                {"role": "user", "content": "Is it warmer in Oslo or Rome?"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Oslo"}},
                        {"type": "tool_use", "id": "call_2", "name": "weather", "input": {"city": "Rome"}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "call_1",
                            "content": [text("4"), text("rain")],
                        },
                        {"type": "tool_result", "tool_use_id": "call_2", "content": "25"},
                        text("Tell me in one line."),
                    ],
                },
            ],
            "tools": [
                {
                    "name": "weather",
                    "description": "Today's weather.",
                    "input_schema": WEATHER,
                    "strict": True,
                },
                {"name": "now", "input_schema": {"type": "object", "properties": {}}},
            ],
        },
    ),
    (
        "agent",
        "gemini",
        AGENT,
        {
            "contents": [
                {"role": "user", "parts": [{"text": "Is it warmer in Oslo or Rome?"}]},
                {
                    "role": "model",
                    "parts": [
                        {
                            "functionCall": {"id": "call_1", "name": "weather", "args": {"city": "Oslo"}},
                            "thoughtSignature": "skip_thought_signature_validator",
                        },
                        {"functionCall": {"id": "call_2", "name": "weather", "args": {"city": "Rome"}}},
                    ],
                },
                {
                    "role": "user",
                    "parts": [
                        {
                            "functionResponse": {
                                "id": "call_1",
                                "name": "weather",
                                "response": {"output": ["4", "rain"]},
                            }
                        },
                        {
                            "functionResponse": {
                                "id": "call_2",
                                "name": "weather",
                                "response": {"output": "25"},
                            }
                        },
                    ],
                },
                {"role": "user", "parts": [{"text": "Tell me in one line."}]},
            ],
            "tools": [
                {
                    "functionDeclarations": [
                        {
                            "name": "weather",
                            "description": "Today's weather.",
                            "parametersJsonSchema": WEATHER,
                        },
                        {"name": "now"},
                    ]
                }
            ],
            "toolConfig": {"functionCallingConfig": {"mode": "VALIDATED"}},
        },
    ),
    (
        "forced",
        "anthropic",
        {**FORCED, "parallel_tool_calls": False},
        {
            "max_tokens": 4096,
            "messages": [{"role": "user", "content": "Oslo?"}],
            "tools": [{"name": "weather", "description": "Today's weather.", "input_schema": WEATHER}],
            "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
        },
    ),
    (
        "forced",
        "gemini",
        FORCED,
        {
            "contents": [{"role": "user", "parts": [{"text": "Oslo?"}]}],
            "tools": [
                {
                    "functionDeclarations": [
                        {
                            "name": "weather",
                            "description": "Today's weather.",
                            "parametersJsonSchema": WEATHER,
                        }
                    ]
                }
            ],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}},
        },
    ),
    (
        "think",
        "anthropic",
        THINK,
        {
            "max_tokens": 9000,
            "messages": [{"role": "user", "content": "Prove it."}],
            "thinking": {"type": "adaptive"},
            "output_config": {"effort": "high"},
        },
    ),
    (
        "think",
        "gemini",
        THINK,
        {
            "contents": [{"role": "user", "parts": [{"text": "Prove it."}]}],
            "generationConfig": {"maxOutputTokens": 9000, "thinkingConfig": {"thinkingLevel": "HIGH"}},
        },
    ),
    (
        "think",
        "converse",
        THINK,
        {
            "messages": [{"role": "user", "content": [{"text": "Prove it."}]}],
            "inferenceConfig": {"maxTokens": 9000},
            "outputConfig": {"effort": "high"},
        },
    ),
]


@pytest.mark.parametrize(
    ("family", "body", "expected"),
    [example[1:] for example in EXAMPLES],
    ids=[f"{example[0]} by {example[1]}" for example in EXAMPLES],
)
def test_a_request_becomes_this(family: Family, body: Json, expected: Json) -> None:
    assert request_to(family, body) == expected


@pytest.mark.parametrize(
    ("choice", "anthropic", "gemini"),
    [
        ("none", {"type": "none"}, {"mode": "NONE"}),
        ("required", {"type": "any"}, {"mode": "ANY"}),
        ("auto", None, None),
        (None, None, None),
    ],
)
def test_the_choice_of_a_tool(choice: Any, anthropic: Any, gemini: Any) -> None:
    body = {**FORCED, "tool_choice": choice}
    assert request_to("anthropic", body).get("tool_choice") == anthropic
    assert request_to("gemini", body).get("toolConfig", {}).get("functionCallingConfig") == gemini


@pytest.mark.parametrize(
    ("effort", "anthropic", "gemini_3", "gemini_3_pro", "gemini_2"),
    [
        ("none", ("disabled", None), None, None, 0),
        ("minimal", ("adaptive", "low"), "MINIMAL", "LOW", 1024),
        ("low", ("adaptive", "low"), "LOW", "LOW", 1024),
        ("medium", ("adaptive", "medium"), "MEDIUM", "MEDIUM", 8192),
        ("high", ("adaptive", "high"), "HIGH", "HIGH", 24576),
        ("xhigh", ("adaptive", "xhigh"), "XHIGH", "XHIGH", None),
        ("max", ("adaptive", "max"), None, None, None),
    ],
)
def test_how_much_the_model_thinks(
    effort: str, anthropic: Any, gemini_3: Any, gemini_3_pro: Any, gemini_2: Any
) -> None:
    body = {"messages": [user("Why?")], "reasoning_effort": effort}
    out = request_to("anthropic", body)
    assert (out["thinking"]["type"], out.get("output_config", {}).get("effort")) == anthropic
    for model, name, expected in (
        ("gemini-3.8-flash", "thinkingLevel", gemini_3),
        ("models/gemini-3.1-pro-preview", "thinkingLevel", gemini_3_pro),
        ("gemini-2.5-flash", "thinkingBudget", gemini_2),
    ):
        if expected is None:
            with pytest.raises(Untranslatable, match="reasoning_effort"):
                request_to("gemini", {**body, "model": model})
        else:
            config = request_to("gemini", {**body, "model": model})["generationConfig"]
            assert config["thinkingConfig"] == {name: expected}


def test_older_geminis_want_no_signature_of_a_thought() -> None:
    parts = request_to("gemini", {**AGENT, "model": "gemini-2.5-pro"})["contents"][1]["parts"]
    assert all("thoughtSignature" not in part for part in parts)


def test_a_loose_schema_is_closed_for_anthropic() -> None:
    loose = {"type": "object", "properties": {"a": {"type": "string"}}}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": loose}}
    body = {"messages": [user("Go.")], "response_format": form}
    closed = {**loose, "additionalProperties": False, "required": ["a"]}
    assert request_to("anthropic", body)["output_config"]["format"]["schema"] == closed
    assert request_to("gemini", body)["generationConfig"]["responseJsonSchema"] == loose


def test_json_without_a_schema_is_something_that_gemini_knows() -> None:
    body = {"messages": [user("Go.")], "response_format": {"type": "json_object"}}
    assert request_to("gemini", body)["generationConfig"] == {"responseMimeType": "application/json"}


def test_logprobs_are_something_that_gemini_knows() -> None:
    body: Json = {"messages": [user("Go.")], "logprobs": True, "top_logprobs": 0}
    assert request_to("gemini", body)["generationConfig"] == {"responseLogprobs": True}
    body["top_logprobs"] = 5
    assert request_to("gemini", body)["generationConfig"] == {"responseLogprobs": True, "logprobs": 5}


def test_tools_may_take_and_say_nothing() -> None:
    messages = [
        user("Go."),
        {"role": "assistant", "tool_calls": [call("a", "now", "")]},
        {"role": "tool", "tool_call_id": "a", "content": ""},
    ]
    body = {"messages": messages, "tools": [{"type": "function", "function": {"name": "now"}}]}
    out = request_to("anthropic", body)["messages"]
    assert out[1]["content"] == [{"type": "tool_use", "id": "a", "name": "now", "input": {}}]
    assert out[2]["content"] == [{"type": "tool_result", "tool_use_id": "a"}]
    response = request_to("gemini", body)["contents"][2]["parts"][0]["functionResponse"]
    assert response == {"id": "a", "name": "now", "response": {"output": ""}}


def test_what_the_assistant_refused_it_said() -> None:
    messages = [
        user("Do it."),
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "Really not."}]},
        user("Why?"),
    ]
    said = request_to("anthropic", {"messages": messages})["messages"][1]["content"]
    assert said == [text("No."), text("Really not.")]


def test_what_asks_for_what_is_done_anyway_says_nothing() -> None:
    idle: Json = {
        "audio": None,
        "frequency_penalty": 0,
        "functions": None,
        "logit_bias": {},
        "logprobs": False,
        "metadata": {},
        "modalities": ["text"],
        "model": "x",
        "n": 1,
        "parallel_tool_calls": True,
        "prediction": None,
        "presence_penalty": 0.0,
        "response_format": {"type": "text"},
        "service_tier": "auto",
        "stop": [],
        "store": False,
        "stream": False,
        "stream_options": None,
        "tool_choice": "none",
        "tools": [],
        "top_logprobs": 0,
        "verbosity": "medium",
    }
    families: list[Family] = ["anthropic", "gemini", "converse"]
    for family in families:
        assert request_to(family, {"messages": [user("Hi")], **idle}) == request_to(
            family, {"messages": [user("Hi")]}
        )


def test_the_package_shows_what_it_says_and_imports_no_sdk() -> None:
    assert translation.__all__ == sorted(translation.__all__)
    lookup = (
        "import sys, halfrate.providers.translation\n"
        "print(sorted({'openai', 'anthropic', 'google.genai', 'botocore', 'boto3', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", lookup], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
