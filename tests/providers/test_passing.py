"""What an answer that is only passed on says of itself, whole or in a stream that comes in any pieces."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfrate.base.results import Tokens
from halfrate.providers.passing import READERS, Events, Used

ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
LINES = st.sampled_from([b'data: {"a":1}', b"data:x", b": comment", b"event: e", b"data: [DONE]", b"id: 1"])
EVENTS = st.lists(
    st.tuples(st.lists(LINES, min_size=1, max_size=3), st.sampled_from(ENDS)).map(
        lambda event: event[1][: len(event[1]) // 2].join(event[0]) + event[1]
    ),
    max_size=6,
)


@given(EVENTS, st.lists(st.integers(0, 300), max_size=10), st.sampled_from([b"", b"data: unfinished"]))
def test_a_stream_comes_out_as_it_went_in_however_it_is_cut(
    events: list[bytes], cuts: list[int], rest: bytes
) -> None:
    text = b"".join(events) + rest
    cutter = Events()
    found: list[bytes] = []
    at = 0
    for cut in [*sorted(cuts), len(text)]:
        found += [event for event, _ in cutter.take(text[at:cut])]
        at = max(at, min(cut, len(text)))
    assert b"".join(found) + cutter.rest() == text
    # No event is passed on in part: what is behind the last stays back.
    assert all(event.endswith(ENDS) for event in found)


def test_what_an_event_says_is_its_data() -> None:
    events = list(Events().take(b'event: x\ndata: {"a":\ndata:  1}\n\n: nothing\n\ndata:[DONE]\r\n\r\n'))
    assert [data for _, data in events] == [b'{"a":\n1}', b"", b"[DONE]"]


def test_an_event_without_an_end_is_not_kept_for_ever() -> None:
    cutter = Events()
    piece = b"x" * (1 << 20)
    passed = sum(len(event) for _ in range(6) for event, _ in cutter.take(piece))
    assert passed > 4 << 20
    assert passed + len(cutter.rest()) == 6 << 20


CHAT: dict[str, Any] = {
    "model": "gpt-4.1-mini-2025-04-14",
    "service_tier": "flex",
    "usage": {"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 6}},
}
MESSAGE: dict[str, Any] = {
    "model": "claude-haiku-4-5-20251001",
    "usage": {
        "input_tokens": 7,
        "cache_read_input_tokens": 3,
        "cache_creation_input_tokens": 2,
        "output_tokens": 5,
    },
}


def test_a_whole_answer_says_what_it_used() -> None:
    assert READERS["chat"]().whole(json.dumps(CHAT).encode()) == Used(
        Tokens(input=4, cached=6, output=4), "gpt-4.1-mini-2025-04-14", "flex"
    )
    used = READERS["messages"]().whole(json.dumps(MESSAGE).encode())
    assert used.tokens == Tokens(input=7, cached=3, write_5m=2, output=5)
    assert (used.model, used.tier) == ("claude-haiku-4-5-20251001", "standard")
    embedded = {"model": "e", "usage": {"prompt_tokens": 8, "total_tokens": 8}}
    assert READERS["embeddings"]().whole(json.dumps(embedded).encode()).tokens == Tokens(input=8)
    response = {"model": "r", "usage": {"input_tokens": 9, "output_tokens": 2}}
    assert READERS["responses"]().whole(json.dumps(response).encode()).tokens == Tokens(input=9, output=2)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"usage":null}',
        b'{"usage":7}',
        b'{"usage":{"prompt_tokens":"many"}}',
        b'{"usage":{"input_tokens":-1}}',
        b"\xff",
        b"[" * 100_000,
        b'{"model":3}',
    ],
)
@pytest.mark.parametrize("endpoint", list(READERS))
def test_what_makes_no_sense_says_nothing(endpoint: Any, body: bytes) -> None:
    reader = READERS[endpoint]()
    assert reader.whole(body).tokens is None
    assert not reader.event(b'{"usage":' + body + b"}")
    assert reader.told().tokens is None


def test_a_chat_says_it_in_its_last_chunk() -> None:
    reader = READERS["chat"]()
    assert not reader.event(b'{"choices":[{"delta":{"content":"\\"usage\\""}}]}')
    assert not reader.event(b'{"choices":[{"delta":{}}],"usage":null}')
    assert reader.told().tokens is None
    last = json.dumps({**CHAT, "choices": []}).encode()
    # It tells of tokens and of nothing else: nobody misses it who has not asked for it.
    assert reader.event(last)
    assert reader.told().tokens == Tokens(input=4, cached=6, output=4)
    # Some say it in a chunk that says more.
    other = READERS["chat"]()
    assert not other.event(json.dumps({**CHAT, "choices": [{"delta": {}}]}).encode())
    assert other.told().tokens is not None


def test_a_response_says_it_when_it_is_completed() -> None:
    reader = READERS["responses"]()
    usage = {"input_tokens": 9, "output_tokens": 2}
    event = {"type": "response.completed", "response": {"model": "r", "usage": usage}}
    assert not reader.event(json.dumps(event).encode())
    assert reader.told() == Used(Tokens(input=9, output=2), "r", "standard")


def test_a_message_says_what_it_read_first_and_what_it_wrote_last() -> None:
    reader = READERS["messages"]()
    start = {"type": "message_start", "message": MESSAGE}
    reader.event(json.dumps(start).encode())
    assert reader.told().tokens == Tokens(input=7, cached=3, write_5m=2, output=5)
    # The counts are of all so far; what is left out, or null, is as it was.
    for output in (20, 40):
        delta = {"type": "message_delta", "usage": {"output_tokens": output, "input_tokens": None}}
        reader.event(json.dumps(delta).encode())
    assert reader.told().tokens == Tokens(input=7, cached=3, write_5m=2, output=40)
