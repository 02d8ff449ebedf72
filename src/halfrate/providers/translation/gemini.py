"""Gemini's generateContent, both ways; Vertex AI takes the same.

Facts are from the types of Google's SDK 3.4.0 and the Gemini API's pages on thinking, thought signatures and
compatibility with OpenAI as of 2026-10.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from halfrate.providers.translation.completion import Counted, Finish, choice, completion, tool_call
from halfrate.providers.translation.conversation import (
    Image,
    Part,
    Text,
    ToolCall,
    ToolResult,
    Turn,
    conversation,
)
from halfrate.providers.translation.fields import Fields, Untranslatable
from halfrate.providers.translation.options import Tool, Tools, json_form, max_tokens, opened, stop, tools

_TITLE: Final = "Gemini"
_STOPS: Final = 5
_CHOICES: Final = 8
_LOGPROBS: Final = 20

_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"})
_TOOL_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}")

_WITH_BUDGETS: Final = re.compile(r"gemini-[12]\b")
"""Models before Gemini 3: they are given a budget of tokens for thinking, and the others a level."""

_LEVELS: Final = {"minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "XHIGH"}
"""OpenAI's efforts as levels. They cannot be told not to think, nor to think as much as they can."""

_BUDGETS: Final = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
"""OpenAI's efforts as budgets of tokens: the figures of Google's own surface in OpenAI's form."""

_UNSIGNED: Final = "skip_thought_signature_validator"
"""From Gemini 3 on the first call of a turn has to bear the signature of the thought that led to it. OpenAI's form has
no place for one; Google's page on thought signatures names this in its stead for calls of another model's."""

_FINISHES: Final[dict[str, Finish]] = {"STOP": "stop", "MAX_TOKENS": "length"}
"""All others mean that the answer was withheld (SAFETY, RECITATION, BLOCKLIST, PROHIBITED_CONTENT, SPII, ...) or came
out wrong (MALFORMED_FUNCTION_CALL, ...)."""


def request(body: Mapping[str, Any]) -> dict[str, Any]:
    model = body.get("model")
    model = model if isinstance(model, str) else ""
    budgets = _WITH_BUDGETS.search(model) is not None
    fields = opened(body, _TITLE)
    talk = conversation(fields)
    kit = tools(fields)
    out: dict[str, Any] = {"contents": [_content(turn, sign=not budgets) for turn in talk.turns]}
    if talk.system:
        out["systemInstruction"] = {"parts": [_part(text) for text in talk.system]}
    if not kit.parallel and kit.functions and kit.choice != "none":
        raise fields.refusal("parallel_tool_calls", f"is false, which has no equivalent with {_TITLE}")
    if kit.functions:
        out["tools"] = [{"functionDeclarations": [_declaration(tool) for tool in kit.functions]}]
        out |= _calling(kit)
    config = _sampling(fields) | _logprobs(fields) | _format(fields)
    if budgets and kit.functions and "responseMimeType" in config:
        raise fields.refusal(
            "response_format", f"asks for JSON beside tools, which {_TITLE} does from version 3 on"
        )
    config |= _thinking(fields, model, budgets=budgets)
    if config:
        out["generationConfig"] = config
    fields.finish()
    return out


def _content(turn: Turn, *, sign: bool) -> dict[str, Any]:
    """A turn. A tool's results are the user's, and stand by themselves."""
    parts: list[dict[str, Any]] = []
    for part in turn.parts:
        made = _part(part)
        if isinstance(part, ToolCall) and sign:
            made["thoughtSignature"] = _UNSIGNED
            sign = False
        parts.append(made)
    return {"role": "model" if turn.role == "assistant" else "user", "parts": parts}


def _part(part: Part) -> dict[str, Any]:
    match part:
        case Text():
            return {"text": part.text}
        case Image():
            return {"inlineData": _image(part)}
        case ToolCall():
            return {"functionCall": {"id": part.id, "name": part.name, "args": part.arguments}}
        case ToolResult():
            # "output" is the key under which a function's output is looked for.
            output = "" if not part.texts else part.texts[0] if len(part.texts) == 1 else list(part.texts)
            call = part.call
            return {"functionResponse": {"id": call.id, "name": call.name, "response": {"output": output}}}


def _image(image: Image) -> dict[str, str]:
    """An image. `fileData` is for files that Google keeps, whose type has to be named; a link has none."""
    if image.url:
        raise Untranslatable(image.path, f"is a link, and {_TITLE} takes images only as data URLs")
    if image.media_type not in _IMAGES:
        raise Untranslatable(image.path, f"is of type {image.media_type}, which {_TITLE} does not take")
    return {"mimeType": image.media_type, "data": image.data}


def _declaration(tool: Tool) -> dict[str, Any]:
    if not _TOOL_NAME.fullmatch(tool.name):
        raise Untranslatable(
            f"{tool.path}.name", f"is {tool.name!r}: with {_TITLE} it begins with a letter or _"
        )
    out: dict[str, Any] = {"name": tool.name}
    if tool.description:
        out["description"] = tool.description
    if tool.parameters is not None:
        out["parametersJsonSchema"] = tool.parameters
    return out


def _calling(kit: Tools) -> dict[str, Any]:
    """Which function to call. Arguments are sure to keep to their schema in every mode but AUTO, the default."""
    strict = any(tool.strict for tool in kit.functions)
    modes = {"auto": "VALIDATED" if strict else "AUTO", "none": "NONE", "required": "ANY", "named": "ANY"}
    config: dict[str, Any] = {"mode": modes[kit.choice]}
    if kit.choice == "named":
        config["allowedFunctionNames"] = [kit.named]
    return {"toolConfig": {"functionCallingConfig": config}} if config != {"mode": "AUTO"} else {}


def _sampling(fields: Fields) -> dict[str, Any]:
    given = {
        "maxOutputTokens": max_tokens(fields),
        "temperature": fields.number("temperature", 0, 2),
        "topP": fields.number("top_p", 0, 1),
        "topK": fields.whole("top_k", 1, 2**31 - 1),
        "frequencyPenalty": fields.number("frequency_penalty", -2, 2),
        "presencePenalty": fields.number("presence_penalty", -2, 2),
        "seed": fields.whole("seed", -(2**31), 2**31 - 1),
        "candidateCount": fields.whole("n", 1, _CHOICES),
        "stopSequences": stop(fields, _STOPS) or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _logprobs(fields: Fields) -> dict[str, Any]:
    if not fields.flag("logprobs"):
        # Without them the number of alternatives is left over, and so refused.
        return {}
    most = fields.whole("top_logprobs", 1, _LOGPROBS)
    return {"responseLogprobs": True, "logprobs": most} if most else {"responseLogprobs": True}


def _format(fields: Fields) -> dict[str, Any]:
    form = json_form(fields)
    if form is None:
        return {}
    out: dict[str, Any] = {"responseMimeType": "application/json"}
    return out if form.schema is None else {**out, "responseJsonSchema": form.schema}


def _thinking(fields: Fields, model: str, *, budgets: bool) -> dict[str, Any]:
    effort = fields.text("reasoning_effort")
    if effort is None:
        return {}
    pro = "-pro" in model
    if effort not in (_BUDGETS if budgets else _LEVELS) or (effort == "none" and pro):
        raise fields.refusal(
            "reasoning_effort", f"is {effort!r}, which has no equivalent with {model or _TITLE}"
        )
    if budgets:
        return {"thinkingConfig": {"thinkingBudget": _BUDGETS[effort]}}
    # The larger models have no level below low.
    level = "LOW" if pro and effort == "minimal" else _LEVELS[effort]
    return {"thinkingConfig": {"thinkingLevel": level}}


class Call(msgspec.Struct):
    name: str = ""
    args: dict[str, Any] | None = None
    id: str | None = None


class _Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    function_call: Call | None = None


class _Content(msgspec.Struct):
    parts: list[_Part] | None = None


class _Token(msgspec.Struct, rename="camel"):
    token: str = ""
    log_probability: float = 0.0


class _Alternatives(msgspec.Struct):
    candidates: list[_Token] | None = None


class _Logprobs(msgspec.Struct, rename="camel"):
    chosen_candidates: list[_Token] | None = None
    top_candidates: list[_Alternatives] | None = None


class Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    index: int | None = None
    logprobs_result: _Logprobs | None = None


class Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None
    block_reason_message: str | None = None


class Usage(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None


class Answer(msgspec.Struct, rename="camel"):
    candidates: list[Candidate] | None = None
    prompt_feedback: Feedback | None = None
    usage_metadata: Usage | None = None


def answer(body: Mapping[str, Any], model: str, created: int, answer_id: str) -> dict[str, Any]:
    read = msgspec.convert(body, Answer)
    choices = [_choice(candidate, place, answer_id) for place, candidate in enumerate(read.candidates or ())]
    if not choices:
        choices = [choice(0, [], [], "content_filter", refusal=blocked(read.prompt_feedback))]
    return completion(answer_id, created, model, choices, counted(read.usage_metadata))


def blocked(feedback: Feedback | None) -> str:
    """What is said of an answer without a candidate."""
    said = feedback or Feedback()
    return said.block_reason_message or f"{_TITLE} gave no answer: {said.block_reason or 'no reason'}."


def _choice(candidate: Candidate, place: int, answer_id: str) -> dict[str, Any]:
    index = place if candidate.index is None else candidate.index
    texts, asked = said_in(candidate)
    calls = [
        tool_call(call.id or call_id(answer_id, index, number), call.name, call.args or {})
        for number, call in enumerate(asked)
    ]
    finish, refusal = ending(candidate.finish_reason, candidate.finish_message, calls=bool(calls))
    return choice(index, texts, calls, finish, refusal=refusal, logprobs=logprobs_of(candidate))


def said_in(candidate: Candidate) -> tuple[list[str], list[Call]]:
    """The texts and the calls of a candidate. What it thought is none of them."""
    parts = (candidate.content.parts if candidate.content is not None else None) or []
    texts = [part.text for part in parts if part.text is not None and not part.thought]
    return texts, [part.function_call for part in parts if part.function_call is not None]


def call_id(answer_id: str, index: int, number: int) -> str:
    """What a call is known by that Gemini gives no id."""
    return f"call_{answer_id}_{index}_{number}"


def ending(finish_reason: str | None, message: str | None, *, calls: bool) -> tuple[Finish, str | None]:
    """Why an answer ended, and what is said of it where it was withheld. `calls`: whether there are any in it."""
    reason = finish_reason or "STOP"
    finish = _FINISHES.get(reason, "content_filter")
    if finish == "stop" and calls:
        finish = "tool_calls"
    if finish != "content_filter":
        return finish, None
    return finish, message or f"{_TITLE} gave no whole answer: {reason}."


def logprobs_of(candidate: Candidate) -> dict[str, Any] | None:
    """The probabilities of its tokens, where they were asked for."""
    result = candidate.logprobs_result
    if result is None or result.chosen_candidates is None:
        return None
    steps = result.top_candidates or []
    content: list[dict[str, Any]] = []
    for place, token in enumerate(result.chosen_candidates):
        others = (steps[place].candidates or []) if place < len(steps) else []
        content.append({**_token(token), "top_logprobs": [_token(other) for other in others]})
    return {"content": content, "refusal": None}


def _token(token: _Token) -> dict[str, Any]:
    return {"token": token.token, "logprob": token.log_probability, "bytes": list(token.token.encode())}


def counted(usage: Usage | None) -> Counted | None:
    """Gemini's prompt includes what was cached; its candidates do not include what was thought."""
    if usage is None:
        return None
    thought = usage.thoughts_token_count or 0
    return Counted(
        prompt=(usage.prompt_token_count or 0) + (usage.tool_use_prompt_token_count or 0),
        completion=(usage.candidates_token_count or 0) + thought,
        cached=usage.cached_content_token_count or 0,
        reasoning=thought,
    )
