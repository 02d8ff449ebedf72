"""Vertex AI's rows: ids inside the request, and what comes back in lines of every shape."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfrate.base.errors import InputError
from halfrate.base.ids import row_prefix, shard_id
from halfrate.base.results import MAY_BE_PAID, Kind, Tokens, UnreadableLine
from halfrate.base.types import Framing, Limits
from halfrate.providers.vertex_results import (
    ENVELOPE,
    LABEL,
    as_table_row,
    fault_in,
    line_reader,
    realtime_line,
)
from halfrate.rows.requests import RequestWriter, request_lines, rewrite

PREFIX = "hr-k3v9x2m4qp-0-2-"
READER = line_reader(PREFIX)
LINES = Framing(b"", b"\n", b"\n")
USAGE = {
    "promptTokenCount": 9,
    "candidatesTokenCount": 4,
    "thoughtsTokenCount": 2,
    "cachedContentTokenCount": 5,
}


def answered(text: str = "ok", **more: Any) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}
    return {"candidates": [candidate], "usageMetadata": USAGE, "modelVersion": "gemini-2.5-flash", **more}


def line(response: Any, status: Any = "", row: int = 7, **more: Any) -> bytes:
    request = {"contents": [{"parts": [{"text": "hi"}]}], "labels": {LABEL: f"{PREFIX}{row}"}}
    at = "2026-11-20T10:00:00.000+00:00"
    return json.dumps(
        {"status": status, "processed_time": at, "request": request, "response": response, **more}
    ).encode()


def told(code: Any, name: str | None = None, message: str = "why", lead: str = "Bad Request") -> str:
    return f"{lead}: {json.dumps({'error': {'code': code, 'message': message, 'status': name}})}"


def writer(folder: Path, body: tuple[bytes, bytes], rows: int = 100) -> RequestWriter:
    return RequestWriter(
        lambda number: folder / f"{number}.requests",
        job_id="k3v9x2m4qp",
        envelope=ENVELOPE,
        framing=LINES,
        body=body,
        limits=Limits(rows=rows, bytes=10_000_000, row_bytes=10_000_000),
        name="rows.jsonl",
        provider="Vertex AI",
    )


# ---------------------------------------------------------------- rows out


def test_the_widest_id_is_a_label() -> None:
    name = f"{row_prefix(shard_id('0123456789', 10**6), 99)}{10**9 - 1}"
    assert re.fullmatch(r"[a-z0-9_-]{1,63}", name)
    assert re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", LABEL)


@pytest.mark.parametrize("whole", [True, False])
def test_the_id_stands_inside_the_request(tmp_path: Path, whole: bool) -> None:
    bodies = [{"contents": [{"parts": [{"text": f"text {n} {{"}]}]} for n in range(5)]
    made = writer(tmp_path, (b"", b"") if whole else (b'{"contents":[{"parts":[{"text":', b"}]}]}"), rows=3)
    texts = [body if whole else body["contents"][0]["parts"][0]["text"] for body in bodies]
    made.add([msgspec.json.encode(text) for text in texts])
    made.cut()
    found: list[Any] = []
    for shard in made.shards:
        path = tmp_path / f"{shard.number}.requests"
        assert path.stat().st_size == shard.bytes
        found += [json.loads(row) for rows in request_lines(path, LINES) for row in rows]
    names = [f"hr-k3v9x2m4qp-{n // 3}-1-{n}" for n in range(5)]
    assert found == [
        {"request": {"labels": {LABEL: name}, **body}} for name, body in zip(names, bodies, strict=True)
    ]


@pytest.mark.parametrize(
    "body", [b"{}", b" { } ", b'{"contents":[],"labels":{}}', b'{"l\\u0061bels":{"a":"b"}}']
)
def test_bodies_without_room_for_an_id_are_refused(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(InputError, match=r"row 2 .*'labels'") as raised:
        writer(tmp_path, (b"", b"")).add([b'{"contents":[{"labels":1}]}', body])
    assert raised.value.row == 1


def test_a_later_attempt_changes_nothing_but_the_ids(tmp_path: Path) -> None:
    made = writer(tmp_path, (b"", b""))
    made.add([msgspec.json.encode({"contents": [n], "x": '"labels"'}) for n in range(12)])
    made.cut()
    again = tmp_path / "again"
    rewrite(
        tmp_path / "0.requests",
        again,
        framing=LINES,
        envelope=ENVELOPE,
        old_prefix="hr-k3v9x2m4qp-0-1-",
        new_prefix="hr-k3v9x2m4qp-0-12-",
        first_row=0,
        keep=[3, 11],
    )
    rows = [json.loads(row)["request"] for row in again.read_bytes().splitlines()]
    assert [row.pop("labels") for row in rows] == [{LABEL: f"hr-k3v9x2m4qp-0-12-{n}"} for n in (3, 11)]
    assert rows == [{"contents": [n], "x": '"labels"'} for n in (3, 11)]


@given(st.text(), st.integers(0, 10**9))
def test_a_row_of_a_table_holds_the_request_as_text(text: str, row: int) -> None:
    body = msgspec.json.encode({"contents": text})
    sent = ENVELOPE.before + f"{PREFIX}{row}".encode() + ENVELOPE.between + body[1:] + ENVELOPE.after
    found = json.loads(as_table_row(sent + b"\n"))
    assert found["row_id"] == f"{PREFIX}{row}"
    assert json.loads(found["request"]) == {"labels": {LABEL: f"{PREFIX}{row}"}, "contents": text}


# ---------------------------------------------------------------- lines in


def test_an_answer() -> None:
    for found in (READER.general(line(answered())), READER.general(line(answered(), None))):
        assert (found.row, found.kind, bytes(found.answer)) == (7, Kind.SUCCEEDED, b'"ok"')
        assert found.tokens == Tokens(4, 5, output=6, reasoning=2)
        assert (found.model, found.finish) == ("gemini-2.5-flash", "stop")


def test_usual_lines_go_the_quick_way_and_all_others_the_general_one() -> None:
    assert READER.plain is not None
    odd = [
        line(answered(), told(400), 1),
        line({}, told(503), 2),
        line({"promptFeedback": {"blockReason": "SAFETY"}}, "", 3),
        line({}, "", 4),
        b"{",
    ]
    usual = [line(answered(f"a{n}"), row=10 + n) for n in range(3)]
    found = READER.plain([odd[0], *usual, *odd[1:]])
    assert found.numbers == [10, 11, 12]
    assert list(found.rest) == odd
    assert READER.tokens(found.usages[0]) == Tokens(4, 5, output=6, reasoning=2)


def test_an_answer_counts_whatever_is_said_beside_it() -> None:
    assert READER.general(line(answered(), told(500))).kind == Kind.SUCCEEDED


def test_a_blocked_prompt_is_an_answer_of_the_models() -> None:
    found = READER.general(line({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": USAGE}))
    assert (found.kind, bytes(found.answer), found.finish) == (Kind.SUCCEEDED, b"null", "safety")


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (told(400, "INVALID_ARGUMENT"), Kind.FAILED, "3: why"),
        (told(400), Kind.FAILED, "3: why"),
        (told(422), Kind.FAILED, "3: why"),
        (told(403, "PERMISSION_DENIED", lead="Forbidden"), Kind.FAILED, "7: why"),
        (told(429, "RESOURCE_EXHAUSTED", lead="Too Many Requests"), Kind.FAILED_PASSING, "8: why"),
        (told(429), Kind.FAILED_PASSING, "8: why"),
        (told(500, "INTERNAL"), Kind.FAILED_PASSING, "13: why"),
        (told(503, "UNAVAILABLE"), Kind.FAILED_PASSING, "14: why"),
        (told(504), Kind.FAILED_PASSING, "4: why"),
        (told(8), Kind.FAILED_PASSING, "8: why"),
        (told(None, "ABORTED"), Kind.FAILED_PASSING, "10: why"),
        (told(None, "NEW_NAME", lead="Service Unavailable"), Kind.FAILED_PASSING, "14: why"),
        (told(499, "CANCELLED"), Kind.CANCELLED, "1: why"),
        ("Bad Request: null", Kind.FAILED, "3: Bad Request: null"),
        ("Bad Request: {broken", Kind.FAILED, "3: Bad Request: {broken"),
        ("RESOURCE_EXHAUSTED: Quota exceeded", Kind.FAILED_PASSING, "8: RESOURCE_EXHAUSTED: Quota exceeded"),
        ("Internal Server Error", Kind.FAILED_PASSING, "13: Internal Server Error"),
        ("It did not work.", Kind.FAILED_PASSING, "2: It did not work."),
    ],
)
def test_what_a_status_means(status: str, kind: Kind, error: str) -> None:
    for response in ({}, None):
        found = READER.general(line(response, status))
        assert (found.row, found.kind, found.error) == (7, kind, error)


@given(st.text(min_size=1))
def test_every_status_means_something(status: str) -> None:
    assert fault_in(status).code


def test_neither_an_answer_nor_an_error() -> None:
    assert READER.general(line({})).kind == Kind.FAILED_PASSING
    assert READER.general(line(None)).kind == Kind.FAILED_PASSING


def test_an_answer_that_cannot_be_read_may_be_paid_for() -> None:
    for response in ({"candidates": 5}, "torn{", [1]):
        found = READER.general(line(response))
        assert (found.row, found.kind, found.error) == (7, Kind.FAILED, MAY_BE_PAID)
    assert READER.general(line({}, {"code": 3})).kind == Kind.FAILED_PASSING


@pytest.mark.parametrize(
    "bad",
    [
        b"{",
        b"[]",
        json.dumps({"status": "", "response": answered()}).encode(),
        json.dumps({"request": {"contents": []}, "response": answered()}).encode(),
        json.dumps({"request": {"labels": {"team": "a"}}, "response": answered()}).encode(),
    ],
)
def test_lines_that_name_no_row(bad: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        READER.general(bad)


def test_lines_of_another_batch() -> None:
    with pytest.raises(UnreadableLine):
        READER.general(line(answered()).replace(b"-0-2-7", b"-0-3-7"))


def test_realtime_replies_are_lines_like_any_other() -> None:
    good = READER.general(realtime_line(f"{PREFIX}3", json.dumps(answered()).encode(), b""))
    assert (good.row, good.kind) == (3, Kind.SUCCEEDED)
    status = json.dumps({"code": 3, "message": 'say "please"'}).encode()
    bad = READER.general(realtime_line(f"{PREFIX}3", None, status))
    assert (bad.row, bad.kind, bad.error) == (3, Kind.FAILED, '3: say "please"')
