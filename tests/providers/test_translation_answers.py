"""Answers of every family as chat completions: OpenAI's own types judge them, and nothing of them is lost.

They begin as the families' SDKs make them, from their own classes.
"""

import json
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias, get_args

import anthropic.types as claude
import botocore.session
import msgspec
import pytest
from anthropic.types.stop_reason import StopReason
from botocore.validate import ParamValidator
from google.genai import types as google
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from halfrate.providers.translation import Family, answer_from

Json: TypeAlias = dict[str, Any]

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def judge_answer(answer: Json) -> ChatCompletion:
    judged = ChatCompletion.model_validate_json(json.dumps(answer), strict=True)
    _no_extras(judged)
    return judged


def _no_extras(value: Any) -> None:
    if isinstance(value, BaseModel):
        assert not value.model_extra, value
        for name in type(value).model_fields:
            _no_extras(getattr(value, name))
    elif isinstance(value, list):
        for inner in value:
            _no_extras(inner)


words = st.text(min_size=1, max_size=20)
names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_-]{0,20}", fullmatch=True)
objects = st.dictionaries(
    words, st.none() | st.booleans() | st.integers() | words | st.lists(words, max_size=2), max_size=3
)
counts = st.integers(0, 10_000)
Spoken: TypeAlias = list[tuple[Literal["text", "thought", "call"], Any]]
spoken = st.lists(
    st.tuples(st.sampled_from(["text", "thought"]), st.text(max_size=10))
    | st.tuples(st.just("call"), st.tuples(names, objects)),
    max_size=4,
)


def _check_choice(judged: ChatCompletion, said: Spoken, place: int = 0) -> str:
    """The texts and calls of an answer are all there and nothing else is. Gives its finish reason."""
    choice = judged.choices[place]
    assert (choice.index, choice.message.role) == (place, "assistant")
    texts = [value for kind, value in said if kind == "text"]
    calls = [value for kind, value in said if kind == "call"]
    got = [call.function for call in choice.message.tool_calls or [] if call.type == "function"]
    assert [(call.name, json.loads(call.arguments)) for call in got] == calls
    assert (choice.message.content or "") == "".join(texts)
    assert (choice.message.refusal is not None) == (choice.finish_reason == "content_filter")
    return choice.finish_reason


@UNHURRIED
@given(spoken, st.sampled_from(get_args(StopReason)), st.lists(counts, min_size=5, max_size=5))
def test_every_answer_of_anthropics_is_a_chat_completion(
    said: Spoken, reason: Any, tokens: list[int]
) -> None:
    makers: dict[str, Callable[[int, Any], Any]] = {
        "text": lambda _, text: claude.TextBlock(type="text", text=text),
        "thought": lambda _, text: claude.ThinkingBlock(type="thinking", thinking=text, signature="s"),
        "call": lambda n, call: claude.ToolUseBlock(type="tool_use", id=f"t{n}", name=call[0], input=call[1]),
    }
    plain, cached, written, out, thought = tokens
    message = claude.Message(
        id="msg_1",
        type="message",
        role="assistant",
        model="claude-x",
        content=[makers[kind](n, value) for n, (kind, value) in enumerate(said)],
        stop_reason=reason,
        usage=claude.Usage(
            input_tokens=plain,
            output_tokens=out,
            cache_read_input_tokens=cached,
            cache_creation_input_tokens=written,
            output_tokens_details=claude.OutputTokensDetails(thinking_tokens=thought),
        ),
    )
    body = message.model_dump(mode="json")
    judged = judge_answer(answer_from("anthropic", body, model="m", created=7, answer_id="a"))
    finish = _check_choice(judged, said)
    assert (finish == "content_filter") == (reason == "refusal")
    assert (finish == "tool_calls") == (reason == "tool_use")
    usage = judged.usage
    assert usage
    assert usage.prompt_tokens_details
    assert usage.completion_tokens_details
    assert usage.prompt_tokens == plain + cached + written
    assert usage.prompt_tokens_details.cached_tokens == cached
    assert usage.completion_tokens == out
    assert usage.completion_tokens_details.reasoning_tokens == thought
    assert usage.total_tokens == plain + cached + written + out


def _content(said: Spoken) -> google.Content:
    parts: list[google.Part] = []
    for kind, value in said:
        if kind == "call":
            parts.append(google.Part(function_call=google.FunctionCall(name=value[0], args=value[1])))
        else:
            parts.append(google.Part(text=value, thought=True if kind == "thought" else None))
    return google.Content(role="model", parts=parts)


@UNHURRIED
@given(
    st.lists(st.tuples(spoken, st.sampled_from(list(google.FinishReason)[1:])), max_size=3),
    st.lists(counts, min_size=4, max_size=4),
)
def test_every_answer_of_geminis_is_a_chat_completion(
    answers: list[tuple[Spoken, google.FinishReason]], tokens: list[int]
) -> None:
    prompt, cached, out, thought = tokens
    response = google.GenerateContentResponse(
        candidates=[
            google.Candidate(content=_content(said), finish_reason=reason, index=place)
            for place, (said, reason) in enumerate(answers)
        ],
        usage_metadata=google.GenerateContentResponseUsageMetadata(
            prompt_token_count=prompt,
            cached_content_token_count=cached,
            candidates_token_count=out,
            thoughts_token_count=thought,
        ),
    )
    body = response.model_dump(mode="json", by_alias=True, exclude_none=True)
    judged = judge_answer(answer_from("gemini", body, model="m", created=7, answer_id="a"))
    assert len(judged.choices) == max(1, len(answers))
    ids: list[str] = []
    for place, (said, reason) in enumerate(answers):
        finish = _check_choice(judged, said, place)
        usual = {
            "STOP": "tool_calls" if any(kind == "call" for kind, _ in said) else "stop",
            "MAX_TOKENS": "length",
        }
        assert finish == usual.get(reason.value, "content_filter")
        ids += [call.id for call in judged.choices[place].message.tool_calls or []]
    assert len(set(ids)) == len(ids)
    usage = judged.usage
    assert usage
    assert usage.prompt_tokens_details
    assert usage.completion_tokens_details
    assert (usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens) == (prompt, cached)
    assert (usage.completion_tokens, usage.completion_tokens_details.reasoning_tokens) == (
        out + thought,
        thought,
    )


_CONVERSE: Final[Any] = (
    botocore.session.get_session()
    .get_service_model("bedrock-runtime")
    .operation_model("Converse")
    .output_shape
)


@UNHURRIED
@given(
    spoken, st.sampled_from(_CONVERSE.members["stopReason"].enum), st.lists(counts, min_size=4, max_size=4)
)
def test_every_answer_of_converses_is_a_chat_completion(said: Spoken, reason: str, tokens: list[int]) -> None:
    makers: dict[str, Callable[[int, Any], Json]] = {
        "text": lambda _, text: {"text": text},
        "thought": lambda _, text: {"reasoningContent": {"reasoningText": {"text": text, "signature": "s"}}},
        "call": lambda n, call: {"toolUse": {"toolUseId": f"t{n}", "name": call[0], "input": call[1]}},
    }
    plain, cached, written, out = tokens
    content = [makers[kind](n, value) for n, (kind, value) in enumerate(said)]
    body: Json = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": reason,
        "usage": {
            "inputTokens": plain,
            "outputTokens": out,
            "totalTokens": sum(tokens),
            "cacheReadInputTokens": cached,
            "cacheWriteInputTokens": written,
        },
        "metrics": {"latencyMs": 5},
    }
    report = ParamValidator().validate(body, _CONVERSE)
    assert not report.has_errors(), report.generate_report()
    judged = judge_answer(answer_from("converse", body, model="m", created=7, answer_id="a"))
    finish = _check_choice(judged, said)
    assert (finish == "tool_calls") == (reason == "tool_use")
    assert (finish == "stop") == (reason in {"end_turn", "stop_sequence"})
    usage = judged.usage
    assert usage
    assert usage.prompt_tokens_details
    assert (usage.prompt_tokens, usage.completion_tokens) == (plain + cached + written, out)
    assert usage.prompt_tokens_details.cached_tokens == cached
    assert usage.total_tokens == sum(tokens)


# -- examples ------------------------------------------------------------------------------------------------------


def _answer(family: Family, body: Json) -> Json:
    answer = answer_from(family, body, model="the-model", created=1_800_000_000, answer_id="chatcmpl-1")
    judge_answer(answer)
    return answer


def _converse(stop_reason: str, *content: Json) -> Json:
    return {"output": {"message": {"role": "assistant", "content": list(content)}}, "stopReason": stop_reason}


def test_a_plain_answer_of_anthropics() -> None:
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5",
        "content": [
            {"type": "thinking", "thinking": "Greet back.", "signature": "x"},
            {"type": "text", "text": "Hello"},
            {"type": "a_block_of_tomorrow", "text": {"not": "a text"}},
            {"type": "text", "text": " there."},
        ],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "cache_read_input_tokens": 5,
            "cache_creation_input_tokens": 3,
            "output_tokens": 7,
            "output_tokens_details": {"thinking_tokens": 4},
            "service_tier": "batch",
        },
    }
    assert _answer("anthropic", body) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_800_000_000,
        "model": "the-model",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello there.", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 18,
            "completion_tokens": 7,
            "total_tokens": 25,
            "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 3},
            "completion_tokens_details": {"reasoning_tokens": 4},
        },
    }


def test_a_refusal_of_anthropics_says_why() -> None:
    body: Json = {
        "content": [],
        "stop_reason": "refusal",
        "stop_details": {"type": "refusal", "category": "bio"},
    }
    message = _answer("anthropic", body)["choices"][0]
    assert message["finish_reason"] == "content_filter"
    assert message["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": "Anthropic gave no whole answer: refusal (bio).",
    }
    body["stop_details"]["explanation"] = "Not this."
    body["content"] = [{"type": "text", "text": "As far as I got"}]
    message = _answer("anthropic", body)["choices"][0]["message"]
    assert (message["content"], message["refusal"]) == ("As far as I got", "Not this.")


def test_calls_alone_leave_the_content_null() -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}}
    anthropic = _answer("anthropic", {"content": [use], "stop_reason": "tool_use"})
    called = {"functionCall": {"name": "weather", "args": {"city": "Oslo"}}, "thoughtSignature": "c2ln"}
    gemini = _answer("gemini", {"candidates": [{"content": {"parts": [called]}, "finishReason": "STOP"}]})
    asked = {"toolUse": {"toolUseId": "toolu_1", "name": "weather", "input": {"city": "Oslo"}}}
    converse = _answer("converse", _converse("tool_use", asked))
    for answer, call_id in ((anthropic, "toolu_1"), (gemini, "call_chatcmpl-1_0_0"), (converse, "toolu_1")):
        assert answer["choices"][0] == {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": None,
                "refusal": None,
                "tool_calls": [
                    {
                        "id": call_id,
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
                    }
                ],
            },
            "logprobs": None,
            "finish_reason": "tool_calls",
        }
        assert "usage" not in answer


def test_a_blocked_prompt_of_geminis_is_an_answer_all_the_same() -> None:
    body = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}}
    answer = _answer("gemini", body)
    assert answer["choices"][0]["finish_reason"] == "content_filter"
    assert answer["choices"][0]["message"]["content"] is None
    assert answer["choices"][0]["message"]["refusal"] == "Gemini gave no answer: SAFETY."
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (4, 0)
    assert _answer("gemini", {})["choices"][0]["finish_reason"] == "content_filter"


def test_an_answer_of_geminis_that_was_withheld_keeps_what_there_is_of_it() -> None:
    candidate = {"content": {"role": "model", "parts": [{"text": "Once"}]}, "finishReason": "RECITATION"}
    choice = _answer("gemini", {"candidates": [candidate]})["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("content_filter", "Once")
    assert choice["message"]["refusal"] == "Gemini gave no whole answer: RECITATION."


def test_geminis_usage_counts_thoughts_and_the_results_of_tools() -> None:
    body = {
        "candidates": [
            {"content": {"parts": [{"text": "4", "thoughtSignature": "c2ln"}]}, "finishReason": "STOP"}
        ],
        "usageMetadata": {
            "promptTokenCount": 20,
            "toolUsePromptTokenCount": 2,
            "cachedContentTokenCount": 8,
            "candidatesTokenCount": 1,
            "thoughtsTokenCount": 30,
            "totalTokenCount": 53,
        },
    }
    assert _answer("gemini", body)["usage"] == {
        "prompt_tokens": 22,
        "completion_tokens": 31,
        "total_tokens": 53,
        "prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }


def test_geminis_logprobs_are_openais() -> None:
    result = {
        "chosenCandidates": [{"token": "é", "logProbability": -0.5, "tokenId": 3}],
        "topCandidates": [{"candidates": [{"token": "é", "logProbability": -0.5}, {"token": "e"}]}],
    }
    candidate = {"content": {"parts": [{"text": "é"}]}, "finishReason": "STOP", "logprobsResult": result}
    assert _answer("gemini", {"candidates": [candidate]})["choices"][0]["logprobs"] == {
        "content": [
            {
                "token": "é",
                "logprob": -0.5,
                "bytes": [195, 169],
                "top_logprobs": [
                    {"token": "é", "logprob": -0.5, "bytes": [195, 169]},
                    {"token": "e", "logprob": 0.0, "bytes": [101]},
                ],
            }
        ],
        "refusal": None,
    }


def test_a_guardrail_of_bedrocks_is_a_content_filter() -> None:
    choice = _answer("converse", _converse("guardrail_intervened", {"text": "Sorry."}))["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("content_filter", "Sorry.")
    assert choice["message"]["refusal"] == "Bedrock gave no whole answer: guardrail_intervened."


@pytest.mark.parametrize(
    ("family", "body"),
    [
        ("anthropic", {"content": [], "stop_reason": "a_reason_of_tomorrow"}),
        ("gemini", {"candidates": [{"finishReason": "A_REASON_OF_TOMORROW"}]}),
        ("converse", _converse("a_reason_of_tomorrow")),
    ],
)
def test_an_unknown_reason_is_not_called_a_whole_answer(family: Family, body: Json) -> None:
    choice = _answer(family, body)["choices"][0]
    assert choice["finish_reason"] == "content_filter"
    assert "reason_of_tomorrow" in choice["message"]["refusal"].lower()


@pytest.mark.parametrize(
    ("family", "body"),
    [
        ("anthropic", {"content": [], "stop_reason": "end_turn"}),
        ("gemini", {"candidates": [{"content": {"role": "model"}, "finishReason": "STOP"}]}),
        ("converse", _converse("end_turn")),
    ],
)
def test_an_empty_answer_is_an_empty_text(family: Family, body: Json) -> None:
    choice = _answer(family, body)["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("stop", "")


@pytest.mark.parametrize(
    ("family", "body"),
    [
        ("anthropic", {"type": "error"}),
        ("anthropic", {"content": [{"type": "text"}]}),
        ("gemini", {"candidates": "none"}),
        ("converse", {"output": {}}),
    ],
)
def test_what_is_no_answer_is_an_error(family: Family, body: Json) -> None:
    with pytest.raises(msgspec.ValidationError):
        answer_from(family, body, model="m", created=0, answer_id="a")
