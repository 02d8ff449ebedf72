import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfrate.base.results import MAY_BE_PAID, Collection, Kind, LineReader
from halfrate.base.types import Counts
from halfrate.providers import anthropic_results, openai_results
from halfrate.rows.collect import Check, Collector, InvalidAnswer, RecordFormat
from halfrate.rows.outcomes import LONGEST, OutcomeFile, OutcomeWriter

from .made import flat, pricing

PREFIX = "hr-k3v9x2m4qp-0-1-"
OPENAI = openai_results.line_reader("chat", PREFIX)
ANTHROPIC = anthropic_results.line_reader(PREFIX)


# A picodollar a token, two in real time; nothing is known of the price of "odd".
PRICES = pricing(
    {"gpt-x": flat(1), "claude": flat(1), "odd": None}, {"gpt-x": flat(2), "claude": flat(2), "odd": None}
)


def chat(
    row: Any, content: Any = "hi", *, model: str = "gpt-x", usage: Any = (10, 4), **more: Any
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": "c",
        "model": model,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        ],
    }
    if usage:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return {
        "custom_id": f"{PREFIX}{row}",
        "response": {"status_code": 200, "body": body},
        "error": None,
        **more,
    }


def http(row: int, status: int, message: str = "no", code: str | None = None) -> dict[str, Any]:
    fault = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return {
        "custom_id": f"{PREFIX}{row}",
        "response": {"status_code": status, "body": {"error": fault}},
        "error": None,
    }


def never(row: int, code: str) -> dict[str, Any]:
    return {
        "custom_id": f"{PREFIX}{row}",
        "response": None,
        "error": {"code": code, "message": "this did not run"},
    }


def collect(
    folder: Path,
    rows: int,
    *files: Iterable[Any],
    reader: LineReader = OPENAI,
    first_row: int = 0,
    sent: frozenset[int] | None = None,
    check: Check | None = None,
    twins: int = 0,
) -> tuple[Collection, list[tuple[Kind, Any]]]:
    """Collect files (the last `twins` of them a twin's); (collection, kind and record of every slot)."""
    target = folder / "outcomes"
    with OutcomeWriter(target, rows) as writer:
        collector = Collector(
            writer, reader, PRICES, RecordFormat({}), first_row=first_row, sent=sent, check=check
        )
        for number, lines in enumerate(files):
            path = folder / f"result-{number}"
            path.write_bytes(b"\n".join(x if isinstance(x, bytes) else json.dumps(x).encode() for x in lines))
            collector.read(path, twin=number >= len(files) - twins)
        collection = collector.finish()
        writer.commit()
    with OutcomeFile(target) as outcomes:
        found = [
            (
                Kind(outcomes.kind(slot)),
                json.loads(b"{" + outcomes.record(slot)) if outcomes.kind(slot) else None,
            )
            for slot in range(rows)
        ]
    return collection, found


def test_a_plain_batch(tmp_path: Path) -> None:
    collection, found = collect(
        tmp_path, 3, [chat(12, "c"), chat(10, "a\u2028\n"), chat(11, None)], first_row=10
    )
    assert [record["answer"] for _, record in found] == ["a\u2028\n", None, "c"]
    assert found[0][1] == {
        "answer": "a\u2028\n", "status": "succeeded", "error": None, "input_tokens": 10, "cached_tokens": 0,
        "output_tokens": 4, "cost_usd": 14e-12, "model": "gpt-x", "finish_reason": "stop",
    }  # fmt: skip
    assert collection.counts == Counts(succeeded=3)
    assert collection.unsettled == 0
    (billed,) = collection.billed
    assert (billed.model, billed.rows, billed.cost, billed.realtime_cost) == ("gpt-x", 3, 42, 84)
    assert (billed.usage.input, billed.usage.output) == (30, 12)


def test_every_odd_shape_of_openai(tmp_path: Path) -> None:
    lines = [
        chat(0),
        http(1, 400, "bad field"),  # a refusal whose error is null
        http(2, 500),
        never(3, "batch_expired"),
        never(4, "batch_cancelled"),
        {
            "custom_id": f"{PREFIX}5",
            "response": {"status_code": 0, "request_id": "", "body": ""},
            "error": None,
        },
        {"custom_id": f"{PREFIX}6", "response": {"status_code": 429, "body": None}, "error": None},
        {"custom_id": f"{PREFIX}7", "response": {"status_code": 200, "body": {"choices": []}}, "error": None},
        {"custom_id": f"{PREFIX}8", "response": None, "error": None},
        {"custom_id": f"{PREFIX}9", "response": {"status_code": None}, "error": "text"},
        {"custom_id": f"{PREFIX}10", "response": {"status_code": 200, "body": {"error": {"message": "hm"}}}},
        chat(11, [{"type": "text", "text": "part"}], new_field={"x": [1]}),
        chat(12, usage=None),
    ]
    collection, found = collect(tmp_path, 14, [*lines, b"", b"  "])
    assert [kind for kind, _ in found] == [
        Kind.SUCCEEDED, Kind.FAILED, Kind.FAILED_PASSING, Kind.EXPIRED, Kind.CANCELLED, Kind.FAILED_PASSING,
        Kind.FAILED_PASSING, Kind.FAILED_PASSING, Kind.FAILED_PASSING, Kind.FAILED_PASSING, Kind.FAILED,
        Kind.SUCCEEDED, Kind.SUCCEEDED, Kind.MISSING,
    ]  # fmt: skip
    assert found[1][1]["error"] == "400: bad field"
    assert found[1][1]["cost_usd"] == 0
    assert found[11][1]["answer"] == [{"type": "text", "text": "part"}]
    assert found[12][1]["cost_usd"] is None
    assert found[12][1]["input_tokens"] is None
    assert found[13][1]["error"] == "the provider's results do not mention this row"
    assert collection.counts == Counts(succeeded=3, failed=9, expired=1, cancelled=1)
    assert (collection.missing, collection.malformed, collection.unknown, collection.duplicates) == (
        1,
        0,
        0,
        0,
    )
    assert collection.unsettled == 9
    assert collection.billed[0].cost is None  # one row's figures are not known, so neither is the sum


def test_lines_that_name_no_row_of_ours(tmp_path: Path) -> None:
    strange = [
        chat(7),  # beyond the shard
        chat(1),  # not in this attempt
        {**chat(0), "custom_id": "hr-k3v9x2m4qp-0-2-0"},  # another attempt's
        {**chat(0), "custom_id": "row-0"},
        {**chat(0), "custom_id": f"{PREFIX}0x"},
        b'{"custom_id":"hr-k3v9x2m4qp-0-2-0","resp',  # malformed, and another attempt's
        b'{"custom_id":"hr-aaaaaaaaaa-0-1-0","answer":"\\ud83d"}',
    ]
    collection, found = collect(tmp_path, 2, strange, sent=frozenset({0}))
    assert (collection.unknown, collection.malformed, collection.missing) == (5, 2, 1)
    assert [kind for kind, _ in found] == [Kind.MISSING, Kind.UNKNOWN]
    assert collection.counts == Counts(failed=1)


@pytest.mark.parametrize(
    "line",
    [
        b'{"custom_id": null, "response": null}',
        b'{"custom_id": "", "response": null}',
        b'{"response": {"status_code": 200}}',
        b"[]",
        b'"text"',
        b"<html>502</html>",
        b'{"custom_id":"' + PREFIX.encode() + b"1",  # cut within the id: row 1, or one that begins so
        b'{"text":"\\"custom_id\\":\\"%b1\\"' % PREFIX.encode(),  # our id, but in a text
    ],
)
def test_a_damaged_line_without_a_name_may_be_that_of_a_row_not_mentioned(
    tmp_path: Path, line: bytes
) -> None:
    collection, found = collect(tmp_path, 3, [chat(0), line], sent=frozenset({0, 1}))
    assert [kind for kind, _ in found] == [Kind.SUCCEEDED, Kind.FAILED, Kind.UNKNOWN]
    assert "may be paid" in found[1][1]["error"]
    assert (collection.unknown, collection.malformed, collection.missing, collection.unsettled) == (
        0,
        1,
        1,
        0,
    )
    # Where every row has its line, it takes nothing from any.
    collection, found = collect(tmp_path, 2, [line, chat(1), chat(0)])
    assert [kind for kind, _ in found] == [Kind.SUCCEEDED] * 2
    assert (collection.malformed, collection.missing) == (1, 0)


def damaged(row: int) -> list[bytes]:
    """Result lines of a row that cannot be read as a whole, and say whose they are."""
    name = f'"custom_id":"{PREFIX}{row}"'.encode()
    return [
        b'{%b,"resp' % name,
        b'{%b,"response":{"status_code":200,"body":{"model":"\xff"}},"result":{"type":"\xff"}}' % name,
        b'{"response":%b%b,%b}' % (b"[" * 9000, b"]" * 9000, name),
        b'{"id":1 "custom_id" :\t"%b%d","x":1}' % (PREFIX.encode(), row),
        b'{%b,"response":NaN}' % name,
        b'{%b,"response":"\\ud83d","x":}' % name,
    ]


@pytest.mark.parametrize("reader", [OPENAI, ANTHROPIC])
def test_a_damaged_line_that_names_its_row_settles_it(tmp_path: Path, reader: LineReader) -> None:
    rows = len(damaged(0))
    lines = [damaged(row + 5)[row] for row in range(rows)]
    outside = [damaged(4)[0], damaged(99)[4]]
    collection, found = collect(tmp_path, rows, [*lines, *outside], reader=reader, first_row=5)
    # Sending it again might pay for it twice, so it is final.
    assert [(kind, record["error"]) for kind, record in found] == [(Kind.FAILED, MAY_BE_PAID)] * rows
    assert (collection.malformed, collection.unknown, collection.missing) == (rows + 2, 2, 0)
    assert collection.unsettled == 0
    assert collection.billed == ()
    assert collection.errors == ((MAY_BE_PAID, rows),)


def test_a_good_line_beats_a_damaged_one(tmp_path: Path) -> None:
    good = [chat(row, f"answer {row}") for row in range(2)]
    bad = [damaged(row)[0] for row in range(2)]
    collection, found = collect(tmp_path, 2, [bad[0], good[0], good[1], bad[1]])
    assert [record["answer"] for _, record in found] == ["answer 0", "answer 1"]
    assert (collection.malformed, collection.duplicates, collection.billed[0].rows) == (2, 2, 2)


def test_an_answer_too_long_for_its_place_is_kept(tmp_path: Path) -> None:
    long = "x" * (LONGEST + 5)
    collection, found = collect(tmp_path, 3, [chat(0, "a"), chat(1, long), chat(2, "b")])
    assert [record["answer"] for _, record in found] == ["a", long, "b"]
    assert (collection.billed[0].rows, collection.billed[0].cost) == (3, 42)


def test_models_and_finish_reasons_may_alternate(tmp_path: Path) -> None:
    names = ["gpt-x@1", "odd", "gpt-x", 'gpt-x%d"\u2028']
    lines = [chat(row, str(row), model=names[row % 4]) for row in range(40)]
    for line in lines[::3]:
        line["response"]["body"]["choices"][0]["finish_reason"] = "length%"
    collection, found = collect(tmp_path, 40, lines)
    assert [record["model"] for _, record in found] == [names[row % 4] for row in range(40)]
    assert [record["finish_reason"] == "length%" for _, record in found] == [not r % 3 for r in range(40)]
    assert {bill.model: (bill.rows, bill.cost) for bill in collection.billed} == {
        "gpt-x": (30, 420),
        "odd": (10, None),
    }


def test_a_row_in_both_files_is_judged_by_itself(tmp_path: Path) -> None:
    output = [chat(0, "good"), http(1, 400), chat(2, "first"), http(3, 500)]
    error = [http(0, 500), chat(1, "in the error file"), chat(2, "second"), http(3, 400)]
    for files in ([output, error], [[*output, *error]]):
        collection, found = collect(tmp_path, 4, *files)
        assert [record["answer"] for _, record in found] == ["good", "in the error file", "first", None]
        assert collection.duplicates == 4
        assert collection.billed[0].rows == 3
        assert collection.wasted == ()
        assert collection.counts == Counts(succeeded=3, failed=1)


def test_what_a_twin_finished_was_paid_for_as_well(tmp_path: Path) -> None:
    collection, found = collect(
        tmp_path, 3, [chat(0, "a"), http(1, 500)], [chat(0, "b"), chat(1, "c"), http(2, 400)], twins=1
    )
    assert [record["answer"] for _, record in found] == ["a", "c", None]
    assert [(bill.rows, bill.cost) for bill in collection.billed] == [(2, 28)]
    assert [(bill.rows, bill.cost) for bill in collection.wasted] == [(1, 14)]


def test_money_is_added_up_by_model(tmp_path: Path) -> None:
    lines = [
        chat(0, model="gpt-x@1"),
        chat(1, model="gpt-x@2", usage=(1, 1)),
        chat(2, model="odd"),
        chat(3, model="gpt-x"),
    ]
    collection, _ = collect(tmp_path, 4, lines)
    bills = {bill.model: bill for bill in collection.billed}
    assert (bills["gpt-x"].rows, bills["gpt-x"].cost, bills["gpt-x"].realtime_cost) == (3, 30, 60)
    assert (bills["odd"].rows, bills["odd"].cost, bills["odd"].usage.input) == (1, None, 10)


def test_more_distinct_figures_than_are_kept_apart(tmp_path: Path) -> None:
    lines = [chat(row, usage=(row + 1, 0)) for row in range(5000)]
    collection, _ = collect(tmp_path, 5000, lines)
    assert collection.billed[0].cost == sum(range(1, 5001))


def test_answers_that_are_not_valid_were_paid_and_may_be_tried_again(tmp_path: Path) -> None:
    def check(answer: bytes) -> bytes:
        value = json.loads(answer)
        if value == "bad":
            raise InvalidAnswer("not what was asked for")
        return json.dumps([value]).encode()

    collection, found = collect(tmp_path, 2, [chat(0, "good"), chat(1, "bad")], check=check)
    assert found[0][1]["answer"] == ["good"]
    kind, record = found[1]
    assert kind == Kind.FAILED_PASSING
    assert record["error"] == "the answer is not valid: not what was asked for"
    assert (record["cost_usd"], record["input_tokens"]) == (14e-12, 10)
    assert collection.billed[0].rows == 2
    assert collection.errors == (("the answer is not valid: not what was asked for", 1),)


def test_every_odd_shape_of_anthropic(tmp_path: Path) -> None:
    usage = {
        "input_tokens": 3, "output_tokens": 5, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 11,
        "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 7},
    }  # fmt: skip

    def message(*content: Any, **more: Any) -> dict[str, Any]:
        return {
            "type": "succeeded",
            "message": {"content": list(content), "model": "claude", "usage": usage, **more},
        }

    def errored(kind: str) -> dict[str, Any]:
        return {"type": "errored", "error": {"type": "error", "error": {"type": kind, "message": "why"}}}

    results = [
        message({"type": "text", "text": "hi"}, stop_reason="end_turn"),
        message(
            {"type": "thinking", "thinking": "x"},
            {"type": "text", "text": "a"},
            {"type": "text", "text": "b"},
        ),
        message({"type": "tool_use", "input": {"k": [1]}}, stop_reason="tool_use"),
        message(stop_reason="refusal"),
        errored("invalid_request_error"),
        errored("overloaded_error"),
        {"type": "canceled"},
        {"type": "expired"},
        {"type": "errored", "error": None},
        {"type": "something_new"},
        "text",
    ]
    lines = [{"custom_id": f"{PREFIX}{i}", "result": result} for i, result in enumerate(results)]
    collection, found = collect(tmp_path, len(lines), lines, reader=ANTHROPIC)
    assert [kind for kind, _ in found] == [
        *[Kind.SUCCEEDED] * 4, Kind.FAILED, Kind.FAILED_PASSING, Kind.CANCELLED, Kind.EXPIRED,
        *[Kind.FAILED_PASSING] * 3,
    ]  # fmt: skip
    assert [record["answer"] for _, record in found[:4]] == ["hi", "ab", {"k": [1]}, None]
    assert found[0][1]["input_tokens"] == 3 + 7 + 11
    assert found[0][1]["cached_tokens"] == 7
    used = collection.billed[0].usage
    assert (used.input, used.cached, used.write_5m, used.write_1h, used.output) == (12, 28, 16, 28, 20)
    assert found[4][1]["error"] == "invalid_request_error: why"


def test_half_a_surrogate_pair_costs_no_answer(tmp_path: Path) -> None:
    text = "a\ud83d! \\ud83d \\\ude00 \U0001f600 \ude00\ud83d"
    collection, found = collect(tmp_path, 2, [chat(0, text), b'{"custom_id":"\\ud83d"'])
    assert found[0][1]["answer"] == "a\ufffd! \\ud83d \\\ufffd \U0001f600 \ufffd\ufffd"
    assert (collection.malformed, collection.billed[0].rows) == (1, 1)


@settings(max_examples=50, deadline=None)
@given(data=st.data(), rows=st.integers(1, 30))
def test_the_order_of_lines_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, rows: int
) -> None:
    folder = tmp_path_factory.mktemp("collect")
    texts = data.draw(st.lists(st.text(st.characters(codec="utf-8")), min_size=rows, max_size=rows))
    lines = [chat(row, text) if row % 5 else http(row, 400) for row, text in enumerate(texts)]
    order = data.draw(st.permutations(lines))
    cut = data.draw(st.integers(0, rows))
    collection, found = collect(folder, rows, order[:cut], order[cut:])
    assert [record["answer"] for _, record in found] == [
        text if i % 5 else None for i, text in enumerate(texts)
    ]
    assert collection.counts.settled == rows
    assert (collection.missing, collection.duplicates, collection.unknown, collection.malformed) == (
        0,
        0,
        0,
        0,
    )


def test_rows_can_be_settled_without_a_line(tmp_path: Path) -> None:
    with OutcomeWriter(tmp_path / "0", 3) as writer:
        collector = Collector(writer, OPENAI, PRICES, RecordFormat({}), first_row=0)
        collector.settle(1, Kind.FAILED, "line 2 was refused")
        assert collector.recognised == 1
        collection = collector.finish(Kind.CANCELLED, "the batch never ran")
    assert collection.counts == Counts(failed=1, cancelled=2)
    assert dict(collection.errors) == {"line 2 was refused": 1, "the batch never ran": 2}
