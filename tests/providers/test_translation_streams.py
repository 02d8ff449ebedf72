"""Streams in another form, event by event: put together they are what the whole answer's translation says.

Answers are made from the providers' own types where there are any, come as each provider streams them, in pieces of
any length, and are put together again by the official SDKs.
"""

import json
import tracemalloc
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, cast

import msgspec
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk
from pydantic import TypeAdapter

from halfrate.base.results import Tokens
from halfrate.base.types import Endpoint
from halfrate.providers.anthropic_results import tokens_in as anthropic_tokens
from halfrate.providers.base import StreamForm
from halfrate.providers.gemini_results import tokens_in as gemini_tokens
from halfrate.providers.openai_results import tokens_in as openai_tokens
from halfrate.providers.passing import READERS, Events, data_of
from halfrate.providers.translation import answer_from
from halfrate.providers.translation.messages import to_message
from halfrate.providers.translation.streams import Spoken, StreamFault, Translation

Json: TypeAlias = dict[str, Any]

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
CREATED = 1_800_000_000
ENDPOINTS: dict[StreamForm, Endpoint] = {"openai": "chat", "anthropic": "messages", "gemini": "generate"}


class Told:
    """What a caller gets of a stream, and what was counted on its way."""

    def __init__(self, events: list[Json], tokens: Tokens | None) -> None:
        self.events = events
        self.tokens = tokens


def translated(
    form: StreamForm, spoken: Spoken, text: bytes, cuts: Sequence[int] = (), *, usage: bool = True
) -> Told:
    """A stream, cut anywhere, through everything that it goes through."""
    events, reader = Events(), READERS[ENDPOINTS[form]]()
    translation = Translation(form, spoken, created=CREATED, usage=usage)
    found: list[Json] = []
    at = 0
    for cut in [*sorted(cut % (len(text) + 1) for cut in cuts), len(text)]:
        for _, data in events.take(text[at:cut]):
            if data:
                reader.event(data)
                found += translation.event(data)
        at = cut
    data = data_of(events.rest())
    found += translation.event(data) if data else []
    found += translation.end()
    assert translation.over
    assert translation.event(b"whatever comes after") == translation.end() == []
    return Told(found, reader.told().tokens)


def sse(*documents: Json, end: str = "\n", done: bool = False) -> bytes:
    """Server-sent events; those of Anthropic's have names."""
    found = ""
    for document in documents:
        name = f"event: {document['type']}{end}" if "type" in document else ""
        found += f"{name}data: {json.dumps(document, ensure_ascii=False)}{end}{end}"
    return (found + (f"data: [DONE]{end}{end}" if done else "")).encode()


def split(draw: st.DrawFn, text: Any) -> list[str]:
    """A text in pieces, some of them empty."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


words = st.text(max_size=12)
names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_-]{0,20}", fullmatch=True)
objects = st.dictionaries(
    words, st.none() | st.booleans() | st.integers() | words | st.lists(words, max_size=2), max_size=3
)
counts = st.integers(0, 10_000)
cutting = st.lists(st.integers(0, 1 << 20), max_size=12)


# ---------------------------------------------------------------- put together again


def as_completion(events: list[Json]) -> Json:
    """Chunks, put together by OpenAI's SDK."""
    state = ChatCompletionStreamState()
    for event in events:
        state.handle_chunk(ChatCompletionChunk.model_validate(event, strict=True))
    found = json.loads(state.current_completion_snapshot.model_dump_json())
    choices = [
        {
            "index": choice["index"],
            "finish_reason": choice["finish_reason"],
            "logprobs": choice.get("logprobs"),
            "content": choice["message"].get("content"),
            "refusal": choice["message"].get("refusal"),
            "calls": [
                (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
                for call in choice["message"].get("tool_calls") or ()
            ],
        }
        for choice in found["choices"]
    ]
    return {name: found[name] for name in ("id", "created", "model")} | {
        "choices": choices,
        "usage": without_nulls(found.get("usage")),
    }


def of_completion(completion: Json) -> Json:
    """A whole completion in the same words."""
    choices = [
        {
            "index": choice["index"],
            "finish_reason": choice["finish_reason"],
            "logprobs": choice.get("logprobs"),
            "content": choice["message"].get("content"),
            "refusal": choice["message"].get("refusal"),
            "calls": [
                (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
                for call in choice["message"].get("tool_calls") or ()
            ],
        }
        for choice in completion["choices"]
    ]
    return {name: completion[name] for name in ("id", "created", "model")} | {
        "choices": choices,
        "usage": completion.get("usage"),
    }


_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def as_message(events: list[Json]) -> Json:
    """Events, put together by Anthropic's SDK. Blocks come one after the other, as they do at Anthropic's."""
    kinds = [event["type"] for event in events]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    open_: int | None = None
    for event in events[1:-2]:
        if event["type"] == "content_block_start":
            assert open_ is None
            open_ = event["index"]
        assert event["index"] == open_
        if event["type"] == "content_block_stop":
            open_ = None
    assert open_ is None
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in events:
        judged = _EVENT.validate_python(event, strict=True)
        snapshot = accumulate_event(event=judged, current_snapshot=snapshot, json_bufs=buffers)
    found = json.loads(snapshot.model_dump_json())
    # The SDK keeps the text of arguments apart from what it makes of them, and its numbers are its own.
    for place, written in buffers.items():
        found["content"][place]["input"] = json.loads(written or b"{}")
    return found


def of_message(message: Json) -> Json:
    return {
        "head": [message[name] for name in ("id", "model", "role", "type")],
        "text": "".join(block["text"] for block in message["content"] if block["type"] == "text"),
        "calls": [
            (block["id"], block["name"], block["input"])
            for block in message["content"]
            if block["type"] == "tool_use"
        ],
        "end": [message["stop_reason"], message["stop_sequence"], without_nulls(message["stop_details"])],
        "usage": without_nulls(message["usage"]),
    }


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        found = cast("dict[str, Any]", value)
        return {name: without_nulls(inner) for name, inner in found.items() if inner is not None}
    return value


def whole_in(spoken: Spoken, completion: Json) -> Json:
    return of_completion(completion) if spoken == "chat" else of_message(to_message(completion))


def streamed_in(spoken: Spoken, told: Told) -> Json:
    return as_completion(told.events) if spoken == "chat" else of_message(as_message(told.events))


# ---------------------------------------------------------------- Anthropic

Spoke: TypeAlias = tuple[Literal["text", "thought", "call", "other"], Any]
spoke = st.lists(
    st.tuples(st.sampled_from(["text", "thought", "other"]), words)
    | st.tuples(st.just("call"), st.tuples(names, objects)),
    max_size=5,
)
REASONS = [
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
    "a_reason_of_tomorrow",
]


class Anthropics:
    """A message of Anthropic's, whole and as it is streamed."""

    def __init__(self, message: Json, events: list[Json]) -> None:
        self.message = message
        self.events = events


@st.composite
def anthropics(draw: st.DrawFn) -> Anthropics:
    content: list[Json] = []
    events: list[Json] = []
    for place, (kind, value) in enumerate(draw(spoke)):
        head: Json
        deltas: list[Json]
        match kind:
            case "text":
                content.append({"type": "text", "text": value, "citations": None})
                head = {"type": "text", "text": "", "citations": None}
                deltas = [{"type": "text_delta", "text": piece} for piece in split(draw, value)]
                deltas.insert(0, {"type": "citations_delta", "citation": {"type": "page_location"}})
            case "thought":
                content.append({"type": "thinking", "thinking": value, "signature": "s"})
                head = {"type": "thinking", "thinking": "", "signature": ""}
                deltas = [{"type": "thinking_delta", "thinking": piece} for piece in split(draw, value)]
                deltas.append({"type": "signature_delta", "signature": "s"})
            case "call":
                name, given_ = value
                block = {"type": "tool_use", "id": f"toolu_{place}", "name": name}
                content.append({**block, "input": given_})
                head = {**block, "input": {}}
                pieces = split(draw, json.dumps(given_, ensure_ascii=draw(st.booleans())))
                if not given_ and draw(st.booleans()):
                    # Without arguments nothing may come of them, or not even a delta.
                    pieces = draw(st.sampled_from([[], [""]]))
                deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
            case _:
                content.append({"type": "a_block_of_tomorrow", "text": {"not": value}})
                head = {"type": "a_block_of_tomorrow", "text": {"not": value}}
                deltas = [{"type": "a_delta_of_tomorrow", "text": 7}]
        events.append({"type": "content_block_start", "index": place, "content_block": head})
        events += [{"type": "content_block_delta", "index": place, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": place})
    reason = draw(st.sampled_from(REASONS))
    details = draw(st.sampled_from([None, {"type": "refusal", "category": "bio", "explanation": None}]))
    plain, cached, written, hour, out, thought = draw(st.lists(counts, min_size=6, max_size=6))
    first: Json = {
        "input_tokens": plain,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": written + hour,
        "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": hour},
        "inference_geo": draw(st.sampled_from(["global", "us"])),
        "service_tier": "standard",
    }
    last: Json = {"output_tokens": out, "output_tokens_details": {"thinking_tokens": thought}}
    message: Json = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "stop_details": details if reason == "refusal" else None,
        "usage": {**first, **last},
    }
    open_ = {"content": [], "stop_reason": None, "usage": {**first, "output_tokens": 1}}
    start: Json = {"type": "message_start", "message": {**message, **open_}}
    end = {"stop_reason": reason, "stop_sequence": None, "stop_details": message["stop_details"]}
    # Some counts are told again, some as null; there may be more than one event of them.
    told = {**last, "input_tokens": draw(st.sampled_from([None, plain]))}
    ends = [
        {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": 1}},
        {"type": "message_delta", "delta": end, "usage": told},
        {"type": "message_stop"},
    ]
    for place in draw(st.lists(st.integers(0, len(events)), max_size=2)):
        events.insert(place, draw(st.sampled_from([{"type": "ping"}, {"type": "an_event_of_tomorrow"}])))
    return Anthropics(message, [start, *events, *ends[draw(st.integers(0, 1)) :]])


@UNHURRIED
@given(anthropics(), st.sampled_from(["\n", "\r\n", "\r"]), cutting, st.sampled_from(["chat", "messages"]))
def test_anthropics_stream_says_what_the_message_says(
    made: Anthropics, end: str, cuts: list[int], spoken: Spoken
) -> None:
    told = translated("anthropic", spoken, sse(*made.events, end=end), cuts)
    whole = answer_from("anthropic", made.message, model="claude-x", created=CREATED, answer_id="msg_1")
    assert streamed_in(spoken, told) == whole_in(spoken, whole)
    usage = anthropic_tokens(json.dumps(made.message["usage"]).encode())
    assert usage is not None
    assert told.tokens == (usage if any(usage[:5]) else None)


# ---------------------------------------------------------------- Gemini


class Geminis:
    def __init__(self, response: Json, events: list[Json]) -> None:
        self.response = response
        self.events = events


FINISHES = ["STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "MALFORMED_FUNCTION_CALL", "OF_TOMORROW"]


def _logprobs(token: str) -> Json:
    chosen = {"token": token, "logProbability": -0.5}
    return {"chosenCandidates": [chosen], "topCandidates": [{"candidates": [chosen]}]}


def _gemini_parts(draw: st.DrawFn, kind: str, value: Any, name: str) -> list[Json]:
    """What is said in one breath, in the parts that it comes in: a call is always one."""
    if kind != "call":
        thoughts: Json = {"thought": True} if kind == "thought" else {}
        return [{"text": piece, **thoughts} for piece in split(draw, value)]
    call: Json = {"name": value[0], "args": value[1]}
    if draw(st.booleans()):
        call["id"] = name
    return [{"functionCall": call, "thoughtSignature": "c2ln"}]


def _tell_used(draw: st.DrawFn, events: list[Json], usage: Json) -> None:
    """Put into each event what was used until then. The last mostly tells all; what it leaves out is as it was."""
    told = draw(st.sampled_from([len(events), max(len(events) - 1, 1)]))
    for event in events[: told - 1]:
        event["usageMetadata"] = {**usage, "candidatesTokenCount": 0}
    late = {name: value for name, value in usage.items() if name != "thoughtsTokenCount" or told == 1}
    events[told - 1]["usageMetadata"] = late


@st.composite
def geminis(draw: st.DrawFn) -> Geminis:
    head = {"modelVersion": "gemini-x", "responseId": "r1"}
    plain, cached, out, thought, heard = draw(st.lists(counts, min_size=5, max_size=5))
    prompt = plain + cached
    usage: Json = {
        "promptTokenCount": prompt,
        "cachedContentTokenCount": cached,
        "candidatesTokenCount": out,
        "thoughtsTokenCount": thought,
        "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": min(heard, prompt)}],
    }
    candidates: list[Json] = []
    queues: list[list[Json]] = []
    for index in range(draw(st.integers(0, 3))):
        parts: list[Json] = []
        queue: list[Json] = []
        probable = draw(st.booleans())
        tokens: list[Json] = []
        for kind, value in draw(spoke):
            pieces = _gemini_parts(draw, kind, value, f"{index}-{len(parts)}")
            parts.append(pieces[0] if kind == "call" else {**pieces[0], "text": value})
            for piece in pieces:
                one: Json = {"content": {"role": "model", "parts": [piece]}}
                if probable:
                    one["logprobsResult"] = _logprobs(str(len(tokens)))
                    tokens.append(one["logprobsResult"])
                queue.append(one)
        reason = draw(st.sampled_from(FINISHES))
        message = draw(st.sampled_from([None, "Not this."]))
        ending: Json = {"finishReason": reason, **({"finishMessage": message} if message else {})}
        if queue and draw(st.booleans()):
            # Older models say in each event why they would have ended with it.
            for one in queue[:-1]:
                one["finishReason"] = "STOP"
            queue[-1] |= ending
        else:
            queue.append(ending)
        whole: Json = {"content": {"role": "model", "parts": parts}, **ending, "index": index}
        if tokens:
            whole["logprobsResult"] = {
                field: [one[field][0] for one in tokens] for field in ("chosenCandidates", "topCandidates")
            }
        candidates.append(whole)
        # Index 0 is left out as JSON of protocol buffers leaves it out.
        queues.append([{**one, **({"index": index} if index else {})} for one in queue])
    feedback: Json = {"promptFeedback": {"blockReason": "SAFETY"}} if not candidates else {}
    events: list[Json] = []
    while any(queues):
        queue = draw(st.sampled_from([queue for queue in queues if queue]))
        events.append({"candidates": [queue.pop(0)], **head})
    events = events or [{**feedback, **head}]
    _tell_used(draw, events, usage)
    response = {"candidates": candidates, **feedback, "usageMetadata": usage, **head}
    return Geminis(response, events)


@UNHURRIED
@given(geminis(), st.sampled_from(["\n", "\r\n"]), cutting, st.sampled_from(["chat", "messages"]))
def test_geminis_stream_says_what_the_response_says(
    made: Geminis, end: str, cuts: list[int], spoken: Spoken
) -> None:
    told = translated("gemini", spoken, sse(*made.events, end=end), cuts)
    whole = answer_from("gemini", made.response, model="gemini-x", created=CREATED, answer_id="r1")
    assert streamed_in(spoken, told) == whole_in(spoken, whole)
    usage = gemini_tokens(json.dumps(made.response["usageMetadata"]).encode())
    assert usage is not None
    assert told.tokens == (usage if any(usage[:5]) else None)


# ---------------------------------------------------------------- OpenAI, in its dialects


class OpenAIs:
    def __init__(self, completion: Json, chunks: list[Json], *, done: bool) -> None:
        self.completion = completion
        self.chunks = chunks
        self.done = done


@st.composite
def openais(draw: st.DrawFn) -> OpenAIs:
    head = {"id": "chatcmpl-1", "created": CREATED, "model": "gpt-x"}
    text, refusal = draw(st.none() | words), draw(st.none() | st.just("I cannot."))
    deltas: list[Json] = [{"role": "assistant", **draw(st.sampled_from([{}, {"content": ""}]))}]
    deltas += [{"content": piece} for piece in split(draw, text or "")]
    deltas += [{"reasoning_content": "hm"}] * draw(st.integers(0, 1))
    deltas += [{"refusal": piece} for piece in split(draw, refusal)] if refusal else []
    numbering = draw(st.sampled_from(["counted", "all 0", "none"]))
    calls: list[Json] = []
    queues: list[list[Json]] = []
    for number, (name, arguments) in enumerate(draw(st.lists(st.tuples(names, objects), max_size=3))):
        written = draw(st.sampled_from([json.dumps(arguments), "not an object", "7", "[1]"]))
        index: Json = {"counted": {"index": number}, "all 0": {"index": 0}, "none": {}}[numbering]
        call: Json = {"id": f"call_{number}", "type": "function"}
        calls.append({**call, "function": {"name": name, "arguments": written}})
        first, *rest = split(draw, written)
        queue: list[Json] = [{**index, **call, "function": {"name": name, "arguments": first}}]
        queue += [{**index, "function": {"arguments": piece}} for piece in rest]
        queues.append(queue)
    if numbering == "counted" and draw(st.booleans()):
        # Written side by side, each begun in its turn.
        begun = 0
        while any(queues):
            open_ = [queue for queue in queues[: begun + 1] if queue]
            queue = draw(st.sampled_from(open_ or [queue for queue in queues if queue][:1]))
            begun = max(begun, queues.index(queue) + 1)
            deltas.append({"tool_calls": [queue.pop(0)]})
    elif draw(st.booleans()):
        deltas += [{"tool_calls": [piece]} for queue in queues for piece in queue]
    else:
        deltas += [{"tool_calls": queue} for queue in queues]
    finish = draw(
        st.sampled_from(["stop", "tool_calls", "length", "content_filter", "eos", "model_length", "new"])
    )
    plain, cached, written_, out, thought = draw(st.lists(counts, min_size=5, max_size=5))
    usage: Json = {
        "prompt_tokens": plain + cached + written_,
        "completion_tokens": out,
        "total_tokens": plain + cached + written_ + out,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written_},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }
    message: Json = {"role": "assistant", "content": text, "refusal": refusal, "tool_calls": calls or None}
    completion = {
        **head,
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": usage,
    }
    chunks: list[Json] = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
    ]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if draw(st.booleans()):
        # As Azure begins.
        chunks.insert(0, {"id": "", "model": "", "choices": [], "prompt_filter_results": []})
    if draw(st.booleans()):
        chunks.append({**head, "choices": [], "usage": usage})
    else:
        # As Mistral ends.
        chunks[-1]["usage"] = usage
    return OpenAIs(completion, chunks, done=draw(st.booleans()))


@UNHURRIED
@given(openais(), st.sampled_from(["\n", "\r\n"]), cutting)
def test_openais_stream_says_what_the_completion_says(made: OpenAIs, end: str, cuts: list[int]) -> None:
    told = translated("openai", "messages", sse(*made.chunks, end=end, done=made.done), cuts)
    assert of_message(as_message(told.events)) == of_message(to_message(made.completion))
    usage = openai_tokens(json.dumps(made.completion["usage"]).encode())
    assert usage is not None
    assert told.tokens == (usage if any(usage[:5]) else None)


# ---------------------------------------------------------------- what it never does


@UNHURRIED
@given(st.one_of(anthropics(), geminis(), openais()), st.sampled_from(["chat", "messages"]), st.data())
def test_an_answer_that_is_cut_short_is_never_called_whole(
    made: Anthropics | Geminis | OpenAIs, spoken: Spoken, data: st.DataObject
) -> None:
    events, form = _events_of(made)
    kept = data.draw(st.integers(0, len(events) - 1))
    if _ended(events[:kept]):
        assert translated(form, spoken, sse(*events[:kept])).events
    else:
        with pytest.raises(StreamFault):
            translated(form, spoken, sse(*events[:kept]))
        # Neither is one that breaks off amid an event.
        text = sse(*events[: kept + 1]).rstrip()
        with pytest.raises(StreamFault):
            translated(form, spoken, text[: data.draw(st.integers(0, len(text) - 1))])


def _events_of(made: Anthropics | Geminis | OpenAIs) -> tuple[list[Json], StreamForm]:
    match made:
        case Anthropics():
            return made.events, "anthropic"
        case Geminis():
            return made.events, "gemini"
        case OpenAIs():
            return made.chunks, "openai"


def _ended(events: list[Json]) -> bool:
    """Whether it was said why an answer ended: then all of it is there. At Gemini every candidate says so of itself."""
    told: dict[int, bool] = {}
    for event in events:
        if event.get("type") == "message_delta" or "promptFeedback" in event:
            return True
        if any(choice["finish_reason"] for choice in event.get("choices", ())):
            return True
        for candidate in event.get("candidates", ()):
            index = candidate.get("index", 0)
            told |= {number: False for number in range(index) if number not in told}
            told[index] = told.get(index, False) or "finishReason" in candidate
    return bool(told) and all(told.values())


ANTHROPIC_HEAD: Json = {
    "type": "message_start",
    "message": {"id": "msg_1", "model": "claude-x", "usage": {"input_tokens": 3, "output_tokens": 1}},
}


@pytest.mark.parametrize(
    ("form", "events"),
    [
        (
            "anthropic",
            [
                ANTHROPIC_HEAD,
                {"type": "error", "error": {"type": "overloaded_error", "message": "too much to do"}},
            ],
        ),
        (
            "gemini",
            [
                {"candidates": [{"content": {"parts": [{"text": "a"}]}}]},
                {"error": {"code": 503, "status": "UNAVAILABLE", "message": "too much to do"}},
            ],
        ),
        (
            "openai",
            [
                {"choices": [{"index": 0, "delta": {"content": "a"}}]},
                {"error": {"message": "too much to do", "type": "server_error"}},
            ],
        ),
        ("openai", [{"choices": [{"delta": {}}]}, {"object": "error", "message": "too much to do"}]),
        ("openai", [{"choices": [{"delta": {}}]}, {"error": "too much to do"}]),
    ],
)
@pytest.mark.parametrize("spoken", ["chat", "messages"])
def test_what_a_provider_says_of_its_failure_is_told(
    form: StreamForm, events: list[Json], spoken: Spoken
) -> None:
    first, failure = events
    translation = Translation(form, spoken, created=CREATED, usage=True)
    assert translation.event(json.dumps(first).encode())
    with pytest.raises(StreamFault, match="too much to do"):
        translation.event(json.dumps(failure).encode())


FORMS: list[StreamForm] = ["openai", "anthropic", "gemini"]
NONSENSE: list[tuple[StreamForm, bytes]] = [
    *(
        (form, data)
        for form in FORMS
        for data in (b"nonsense", b"null", b"[]", b"7", b'"text"', b"\xff\xfe", b"[" * 100_000)
    ),
    ("anthropic", b"{}"),
    ("anthropic", b'{"type":7}'),
    ("anthropic", b'{"type":"message_start"}'),
    ("anthropic", b'{"type":"content_block_delta","index":"first"}'),
    ("anthropic", b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"early"}}'),
    ("anthropic", b'{"type":"content_block_start","index":0,"content_block":{"type":"tool_use"}}'),
    ("gemini", b'{"candidates":7}'),
    ("gemini", b'{"candidates":[{"index":-1}]}'),
    ("gemini", b'{"candidates":[{"index":1000000}]}'),
    ("gemini", b'{"candidates":[{"content":{"parts":[{"text":7}]}}]}'),
    ("openai", b'{"choices":7}'),
    ("openai", b'{"choices":[{"delta":7}]}'),
    ("openai", b'{"choices":[{"delta":{"content":7}}]}'),
    ("openai", b'{"choices":[{"delta":{"tool_calls":[{}]}}]}'),
    ("openai", b"[DONE]"),
]


@pytest.mark.parametrize(("form", "data"), NONSENSE)
def test_what_makes_no_sense_is_a_fault_and_nothing_else(form: StreamForm, data: bytes) -> None:
    translation = Translation(form, "messages", created=CREATED, usage=True)
    with pytest.raises(StreamFault):
        translation.event(data)


NAMES = """
    type index delta content_block message usage id name input text partial_json choices finish_reason content
    tool_calls function arguments candidates parts functionCall args finishReason usageMetadata promptTokenCount error
    refusal
"""


@given(
    st.sampled_from(FORMS),
    st.sampled_from(["chat", "messages"]),
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["text", "tool_use", "{", ""]),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(
                    st.sampled_from(NAMES.split()),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=12,
        ),
        max_size=4,
    ),
)
def test_whatever_comes_it_ends_or_is_a_fault(form: StreamForm, spoken: Spoken, events: list[Any]) -> None:
    translation = Translation(form, spoken, created=CREATED, usage=True)
    try:
        for event in events:
            translation.event(json.dumps(event).encode())
        translation.end()
    except StreamFault:
        return
    assert translation.over


# ---------------------------------------------------------------- as it comes


def test_each_piece_is_shown_when_it_comes() -> None:
    for form, first, more in (
        ("anthropic", [ANTHROPIC_HEAD, _block(0, {"type": "text", "text": ""})], _text_of_anthropics),
        ("openai", [{"choices": [{"index": 0, "delta": {"role": "assistant"}}]}], _text_of_openais),
        ("gemini", [{"candidates": [{"content": {"parts": []}}]}], _text_of_geminis),
    ):
        for spoken in ("chat", "messages"):
            translation = Translation(cast("StreamForm", form), spoken, created=CREATED, usage=False)
            for event in first:
                translation.event(json.dumps(event).encode())
            for word in ("one", " two", " three"):
                found = json.dumps(translation.event(json.dumps(more(word)).encode()))
                assert word in found, (form, spoken)


def _block(index: int, block: Json) -> Json:
    return {"type": "content_block_start", "index": index, "content_block": block}


def _text_of_anthropics(text: str) -> Json:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


def _text_of_openais(text: str) -> Json:
    return {"choices": [{"index": 0, "delta": {"content": text}}]}


def _text_of_geminis(text: str) -> Json:
    return {"candidates": [{"content": {"parts": [{"text": text}]}}]}


def _calls(*pieces: tuple[int, str, str]) -> list[Json]:
    """Chunks with pieces of calls: (index, id, arguments)."""
    found: list[Json] = []
    for index, name, arguments in pieces:
        head: Json = {"id": name, "type": "function"} if name else {}
        function = {"name": f"f{name}", "arguments": arguments} if name else {"arguments": arguments}
        call = {"index": index, **head, "function": function}
        found.append({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})
    return found


def _kinds(events: list[Json]) -> list[tuple[str, int]]:
    return [(event["type"].removeprefix("content_block_"), event["index"]) for event in events]


def test_a_call_is_over_when_the_next_begins_and_its_arguments_are_whole() -> None:
    translation = Translation("openai", "messages", created=CREATED, usage=True)
    found = [
        _kinds(events if events[0]["type"] != "message_start" else events[1:])
        for chunk in _calls((0, "a", '{"x"'), (0, "", ":1}"), (1, "b", ""), (1, "", "{}"))
        for events in [translation.event(json.dumps(chunk).encode())]
    ]
    assert found == [
        [("start", 0), ("delta", 0)],
        [("delta", 0)],
        [("stop", 0), ("start", 1)],
        [("delta", 1)],
    ]


def test_calls_that_are_written_side_by_side_are_shown_one_after_the_other() -> None:
    pieces = [(0, "a", ""), (1, "b", '{"y":'), (0, "", '{"x":'), (1, "", "2}"), (0, "", "1}")]
    told = translated("openai", "messages", sse(*_calls(*pieces), done=True))
    assert of_message(as_message(told.events))["calls"] == [("a", "fa", {"x": 1}), ("b", "fb", {"y": 2})]


def test_a_call_that_goes_on_after_its_end_is_a_fault() -> None:
    with pytest.raises(StreamFault, match="was over"):
        translated(
            "openai", "messages", sse(*_calls((0, "a", "{}"), (1, "b", "{"), (0, "", "{}")), done=True)
        )
    # Blanks behind it mean nothing.
    translated("openai", "messages", sse(*_calls((0, "a", "{}"), (1, "b", "{}"), (0, "", "\n ")), done=True))


def test_arguments_that_were_cut_off_come_as_they_were_written() -> None:
    chunks = [
        *_calls((0, "a", '{"x": "lo')),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]},
    ]
    told = translated("openai", "messages", sse(*chunks, done=True))
    (delta,) = [event["delta"] for event in told.events if event["type"] == "content_block_delta"]
    assert delta == {"type": "input_json_delta", "partial_json": '{"x": "lo'}
    assert told.events[-2]["delta"]["stop_reason"] == "max_tokens"


def test_an_answer_that_would_have_to_be_kept_is_not_kept_for_ever() -> None:
    translation = Translation("openai", "messages", created=CREATED, usage=True)
    (first,) = _calls((0, "a", '"'))
    translation.event(json.dumps(first).encode())
    (more,) = _calls((0, "", "x" * (1 << 20)))
    data = json.dumps(more).encode()
    for _ in range(15):
        assert translation.event(data) == []
    with pytest.raises(StreamFault, match="too long"):
        translation.event(data)


@pytest.mark.parametrize("spoken", ["chat", "messages"])
@pytest.mark.parametrize("form", FORMS)
def test_a_long_answer_takes_no_more_memory_than_a_short_one(form: StreamForm, spoken: Spoken) -> None:
    heads: dict[StreamForm, list[Json]] = {
        "anthropic": [ANTHROPIC_HEAD, _block(0, {"type": "text", "text": ""})],
        "openai": [],
        "gemini": [],
    }
    more = {
        "anthropic": _text_of_anthropics,
        "openai": _text_of_openais,
        "gemini": _text_of_geminis,
    }[form]("x" * 1_000)
    events, translation = Events(), Translation(form, spoken, created=CREATED, usage=True)
    reader = READERS[ENDPOINTS[form]]()

    def take(text: bytes) -> int:
        size = 0
        for _, data in events.take(text):
            reader.event(data)
            size += sum(len(msgspec.json.encode(event)) for event in translation.event(data))
        return size

    take(sse(*heads[form]))
    piece = sse(more)
    take(piece)
    tracemalloc.start()
    try:
        given = sum(take(piece) for _ in range(5_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert given > 5_000_000
    assert peak < 200_000


# ---------------------------------------------------------------- examples


def test_a_chat_tells_what_it_used_only_where_that_was_asked_for() -> None:
    events = [
        ANTHROPIC_HEAD,
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]
    asked = translated("anthropic", "chat", sse(*events)).events
    assert [event["usage"] for event in asked[:-1]] == [None] * (len(asked) - 1)
    assert asked[-1]["choices"] == []
    assert asked[-1]["usage"]["total_tokens"] == 5
    plain = translated("anthropic", "chat", sse(*events), usage=False).events
    assert all("usage" not in event for event in plain)
    assert [event["choices"] for event in plain] == [event["choices"] for event in asked[:-1]]


def test_a_stream_in_openais_form_goes_to_a_chat_as_it_is() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    chunks: list[Json] = [
        {"id": "", "choices": [], "prompt_filter_results": [{"index": 0}]},
        {"id": "1", "system_fingerprint": "f", "choices": [{"index": 0, "delta": {"content": "a"}, "x": 1}]},
        {"id": "1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage},
    ]
    told = translated("openai", "chat", sse(*chunks, done=True), usage=False)
    assert told.events == [chunks[1], {"id": "1", "choices": chunks[2]["choices"]}]
    assert told.tokens == Tokens(input=3, output=2)
    asked = translated("openai", "chat", sse(*chunks, done=True))
    assert asked.events[-1] == {"id": "1", "choices": [], "usage": usage}


def test_mistrals_parts_and_arguments_are_understood() -> None:
    parts: list[Json] = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "Hello"},
    ]
    call = {"id": "a", "function": {"name": "f", "arguments": {"x": 1}}}
    chunks: list[Json] = [
        {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"content": parts}}]},
        {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]},
        {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
    ]
    found = of_message(as_message(translated("openai", "messages", sse(*chunks, done=True)).events))
    assert (found["text"], found["calls"]) == ("Hello", [("a", "f", {"x": 1})])


def test_a_message_that_refuses_says_why() -> None:
    chunks: list[Json] = [
        {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"refusal": "I can"}}]},
        {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"refusal": "not."}}]},
        {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ]
    message = as_message(translated("openai", "messages", sse(*chunks, done=True)).events)
    assert message["stop_reason"] == "refusal"
    assert message["stop_details"]["explanation"] == "I cannot."
    assert [block["text"] for block in message["content"]] == ["I cannot."]


def test_an_answer_without_an_answer_is_none() -> None:
    for chunks in ([], [{"choices": []}]):
        with pytest.raises(StreamFault, match="no answer"):
            translated("openai", "messages", sse(*chunks, done=True))
