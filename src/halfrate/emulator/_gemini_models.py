"""Gemini's models: one generateContent request, in realtime or as a row of a batch.

Shapes follow the generateContent reference as the official SDK's types have it. `promptTokenCount` includes cached
tokens; `thoughtsTokenCount` stands beside `candidatesTokenCount` and is billed as output. Both are of this emulator's
simple kind: a model thinks only where `thinkingConfig` has it think, and then four tokens for each of its answer.
"""

from typing import Any

import msgspec

from halfrate.emulator._answers import write_document, write_text
from halfrate.emulator._context import Context
from halfrate.emulator._gemini_schema import json_schema
from halfrate.emulator._gemini_wire import camel, pick, pick_document, whole
from halfrate.emulator._models import find_model
from halfrate.emulator._prices import Model, Tokens
from halfrate.emulator._rows import Answered, Ask
from halfrate.emulator._tokens import (
    AUDIO_BYTES_PER_TOKEN,
    IMAGE_TOKENS,
    REQUEST_OVERHEAD,
    cut,
    encoded_size,
    text_tokens,
)
from halfrate.emulator._wire import ApiError, Document, as_document, as_list, documents

_KNOWN = frozenset(
    {
        "model",
        "contents",
        "systemInstruction",
        "tools",
        "toolConfig",
        "safetySettings",
        "generationConfig",
        "cachedContent",
        "labels",
        "serviceTier",
        "store",
        "continuationToken",
        "modelArmorConfig",
    }
)
_THOUGHTS_PER_TOKEN = 4
_CACHE_STEP = 128
_MOST_CANDIDATES = 8


class _Prompt(msgspec.Struct, frozen=True):
    """What a request comes to: its size, what a cache would know it by, and the question."""

    tokens: int
    prefix: str
    question: str
    audio: int = 0
    """Tokens of sound, part of `tokens`."""
    before: int = 0
    """Tokens before the last message, which a cache may know."""
    audio_before: int = 0


class _Written(msgspec.Struct, frozen=True):
    """One answer: its parts, its tokens, the tokens thought before it, and why it ended."""

    parts: list[Document]
    tokens: int
    thoughts: int
    finish: str


def served(name: str, provider: str, method: str, kind: str = "text") -> Model:
    """The model of a path. ApiError 404 for one that does not exist or does not do that."""
    model = find_model(name.removeprefix("models/"), provider)
    if model is None or model.kind != kind:
        message = f"models/{name} is not found for API version v1beta, or is not supported for {method}."
        raise ApiError(404, f"{message} Call ListModels to see the list of available models.")
    return model


def check(body: Document) -> None:
    """What generateContent checks before it answers. Raises ApiError 400."""
    for key in body:
        if camel(key) not in _KNOWN:
            message = f'Invalid JSON payload received. Unknown name "{key}": Cannot find field.'
            raise ApiError(400, message)
    contents = as_list(body.get("contents"))
    if not contents:
        raise ApiError(400, "* GenerateContentRequest.contents: contents is not specified\n")
    for number, item in enumerate(contents):
        content = as_document(item)
        if content is None or content.get("role") not in (None, "", "user", "model", "function"):
            raise ApiError(400, "Please use a valid role: user, model.")
        if as_list(content.get("parts")) is None:
            field = f"contents[{number}].parts"
            raise ApiError(400, f"* GenerateContentRequest.{field}: contents.parts must not be empty.\n")
    if pick(body, "cachedContent"):
        raise ApiError(403, "CachedContent not found (or permission denied)")
    _limit(body)


def _part_text(part: Document) -> str:
    text = part.get("text")
    if isinstance(text, str):
        return text
    for key in ("functionCall", "functionResponse", "executableCode", "codeExecutionResult"):
        held = pick(part, key)
        if held is not None:
            return msgspec.json.encode(held).decode()
    return ""


def content_text(content: object) -> str:
    """The text of a content object, or of a plain string in its place."""
    if isinstance(content, str):
        return content
    parts = documents((as_document(content) or {}).get("parts"))
    return "\n".join(filter(None, map(_part_text, parts)))


def _media(part: Document) -> Document:
    return pick_document(part, "inlineData") or pick_document(part, "fileData")


def _heard(part: Document) -> bool:
    return str(pick(_media(part), "mimeType")).startswith("audio/")


def _pictures(content: Document) -> int:
    return sum(1 for part in documents(content.get("parts")) if _media(part) and not _heard(part))


def _sounds(content: Document) -> list[str]:
    """What each part says that is sound: its base64, or where it lies."""
    parts = filter(_heard, documents(content.get("parts")))
    return [str(_media(part).get("data") or pick(_media(part), "fileUri")) for part in parts]


def _audio(contents: list[Document]) -> int:
    return sum(-(-len(sound) // AUDIO_BYTES_PER_TOKEN) for content in contents for sound in _sounds(content))


def _prompt(body: Document) -> _Prompt:
    contents = list(documents(body.get("contents")))
    texts = [content_text(pick(body, "systemInstruction")), *map(content_text, contents)]
    users = [content for content in contents if content.get("role") != "model"] or contents
    config = pick_document(body, "generationConfig")
    extras = (body.get("tools"), pick(config, "responseSchema"), pick(config, "responseJsonSchema"))
    size = sum(len(text.encode(errors="replace")) for text in texts) + sum(map(encoded_size, extras))
    tokens = text_tokens(size) + REQUEST_OVERHEAD + sum(map(_pictures, contents)) * IMAGE_TOKENS
    prefix = "\n".join(texts[:-1])
    heard = [sound for content in contents[:-1] for sound in _sounds(content)]
    audio, audio_before = _audio(contents), _audio(contents[:-1])
    return _Prompt(
        tokens + audio,
        "\n".join((prefix, *heard)),
        content_text(users[-1]) if users else "",
        audio,
        text_tokens(len(prefix.encode(errors="replace"))) + audio_before,
        audio_before,
    )


def count_tokens(body: Document) -> int:
    """Prompt tokens of a request."""
    return _prompt(body).tokens


def _limit(body: Document) -> int | None:
    given = pick(pick_document(body, "generationConfig"), "maxOutputTokens")
    limit = whole(given)
    if given is not None and limit is None:
        raise ApiError(400, f"Invalid value at 'generation_config.max_output_tokens' (TYPE_INT32), {given!r}")
    if limit is not None and limit < 1:
        raise ApiError(
            400, "* GenerateContentRequest.generation_config.max_output_tokens: must be positive.\n"
        )
    return limit


def _thoughts(config: Document, answer: int) -> int:
    thinking = pick_document(config, "thinkingConfig")
    budget = whole(pick(thinking, "thinkingBudget"))
    asked = budget is not None or pick(thinking, "thinkingLevel") or pick(thinking, "includeThoughts") is True
    if not asked or budget == 0:
        return 0
    thoughts = answer * _THOUGHTS_PER_TOKEN
    return thoughts if budget is None or budget < 0 else min(thoughts, budget)


def _forced_call(body: Document) -> tuple[str, Document] | None:
    """The function a request must call: (name, JSON Schema of its arguments)."""
    calling = pick_document(pick_document(body, "toolConfig"), "functionCallingConfig")
    if str(calling.get("mode")).upper() != "ANY":
        return None
    allowed = as_list(pick(calling, "allowedFunctionNames"))
    declared = [
        one for tool in documents(body.get("tools")) for one in documents(pick(tool, "functionDeclarations"))
    ]
    for function in declared:
        if not allowed or function.get("name") in allowed:
            plain = as_document(pick(function, "parametersJsonSchema"))
            made = json_schema(as_document(function.get("parameters")) or {"type": "OBJECT"})
            return str(function.get("name")), plain or made
    raise ApiError(400, "Function calling mode is ANY, but no allowed function is declared.")


def _schema(config: Document) -> Document | None:
    given = as_document(pick(config, "responseSchema"))
    plain = as_document(pick(config, "responseJsonSchema")) or as_document(config.get("_responseJsonSchema"))
    schema = plain or (None if given is None else json_schema(given))
    mime = pick(config, "responseMimeType")
    if schema is not None and mime not in ("application/json", "text/x.enum"):
        # Reference of GenerationConfig: with a schema, a compatible responseMimeType must be set as well.
        raise ApiError(400, "A response schema needs the response MIME type application/json.")
    return schema


def _answer_text(body: Document, question: str, ask: Ask) -> str:
    config = pick_document(body, "generationConfig")
    schema = _schema(config)
    if schema is not None:
        made: Any = write_document(schema, question, ask.twist)
        bare = pick(config, "responseMimeType") == "text/x.enum"
        return str(made) if bare else msgspec.json.encode(made).decode()
    if pick(config, "responseMimeType") == "application/json":
        return msgspec.json.encode({"answer": write_text(question, ask.twist)}).decode()
    return write_text(question, ask.twist)


def _written(body: Document, question: str, ask: Ask) -> _Written:
    config, call = pick_document(body, "generationConfig"), _forced_call(body)
    if call is not None:
        name, schema = call
        arguments: Any = write_document(schema, question)
        tokens = max(1, text_tokens(encoded_size(arguments)))
        parts = [{"functionCall": {"name": name, "args": arguments}}]
        return _Written(parts, tokens, _thoughts(config, tokens), "STOP")
    text = _answer_text(body, question, ask)
    tokens = max(1, text_tokens(len(text.encode(errors="replace"))))
    thoughts, limit = _thoughts(config, tokens), _limit(body)
    if ask.twist.truncated:
        half = thoughts + max(1, tokens // 2)
        limit = half if limit is None else min(limit, half)
    if limit is None or thoughts + tokens <= limit:
        return _Written([{"text": text}], tokens, thoughts, "MAX_TOKENS" if ask.twist.truncated else "STOP")
    # Thinking comes first and counts against the limit too: it may leave nothing for the answer.
    thoughts = min(thoughts, limit)
    tokens = limit - thoughts
    return _Written([{"text": cut(text, tokens)}] if tokens else [], tokens, thoughts, "MAX_TOKENS")


def _cached(context: Context, model: Model, prompt: _Prompt, ask: Ask) -> int:
    """Tokens read from the implicit cache, which knows everything before the last message."""
    settings = context.cache.model
    size = prompt.before
    if settings is None or size < settings.openai_minimum:
        return 0
    key = context.cache.key(ask.project, model.provider, model.name, prompt.prefix)
    hit = context.cache.hit(key, ask.now, ask.batch_id, ask.about)
    context.cache.write(key, ask.now, settings.openai_ttl, ask.batch_id)
    return size - size % _CACHE_STEP if hit else 0


def usage(tokens: Tokens, candidates: int, thoughts: int) -> Document:
    """`usageMetadata`; counts that are zero are absent, as in the JSON of protocol buffers."""
    found = {
        "promptTokenCount": tokens.prompt,
        "cachedContentTokenCount": tokens.cached,
        "candidatesTokenCount": candidates,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": tokens.prompt + tokens.output,
    }
    kept: Document = {key: count for key, count in found.items() if count}
    heard = tokens.audio + tokens.audio_cached
    kept["promptTokensDetails"] = _modalities(tokens.prompt - heard, heard)
    if tokens.cached:
        kept["cacheTokensDetails"] = _modalities(tokens.cached - tokens.audio_cached, tokens.audio_cached)
    return kept


def _modalities(text: int, audio: int) -> list[Document]:
    found = (("TEXT", text), ("AUDIO", audio))
    return [{"modality": name, "tokenCount": count} for name, count in found if count]


def _counted(prompt: _Prompt, cached: int, output: int) -> Tokens:
    """Of what is cached, sound is what remains when all text before the last message is taken from it."""
    again = min(prompt.audio_before, cached)
    return Tokens(
        prompt.tokens - cached, cached, output=output, audio=prompt.audio - again, audio_cached=again
    )


def answer(context: Context, body: Document, model: Model, ask: Ask) -> Answered:
    """What the service answers with status 200; any other status comes as ApiError."""
    check(body)
    prompt = _prompt(body)
    cached = _cached(context, model, prompt, ask)
    document: Document = {"modelVersion": model.snapshot, "responseId": context.new_id("")}
    if ask.twist.refusal:
        tokens = _counted(prompt, cached, 0)
        feedback = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
        return Answered({**feedback, "usageMetadata": usage(tokens, 0, 0), **document}, model, tokens)
    written = _written(body, prompt.question, ask)
    wanted = whole(pick(pick_document(body, "generationConfig"), "candidateCount")) or 1
    if not 1 <= wanted <= _MOST_CANDIDATES:
        raise ApiError(400, f"candidate_count must be between 1 and {_MOST_CANDIDATES}.")
    content = {"parts": written.parts, "role": "model"} if written.parts else {"role": "model"}
    candidates = [
        {"content": content, "finishReason": written.finish, "index": number} for number in range(wanted)
    ]
    output = written.tokens * wanted
    tokens = _counted(prompt, cached, output + written.thoughts)
    counted = {"usageMetadata": usage(tokens, output, written.thoughts)}
    return Answered({"candidates": candidates, **counted, **document}, model, tokens, written.thoughts)
