from collections.abc import Iterator
from pathlib import Path

from halfrate.base.results import Tokens
from halfrate.rows.collect import RecordFormat
from halfrate.rows.records import ShardView
from halfrate.rows.results import ResultRecord, iter_results

from .made import UNKNOWN, answered, outcome_file, refused, shards_of


def test_results_are_python_values(tmp_path: Path) -> None:
    form = RecordFormat({})
    exact = form.answered(b'"x"', Tokens(1, 2, 3, 4, 5, 6), 1_234_567_890_123_456, "m", "stop")
    unpriced = form.answered(b"null", None, None, "m", "")
    records = [answered("text"), answered({"k": [1.5, None]}), refused("400: no"), exact, unpriced, None]
    shards = [ShardView(0, 6, (outcome_file(tmp_path / "0", records),)), ShardView(6, 1, ())]
    found = list(iter_results(shards, {}, unknown_record=UNKNOWN))
    assert [r.row for r in found] == list(range(7))
    assert [r.answer for r in found] == ["text", {"k": [1.5, None]}, None, "x", None, None, None]
    assert [r.status for r in found] == [
        "succeeded",
        "succeeded",
        "failed",
        "succeeded",
        "succeeded",
        *["cancelled"] * 2,
    ]
    assert [r.cost for r in found] == [42_000_000, 42_000_000, 0, 1_234_567_890_123_456, None, 0, 0]
    assert (found[2].error, found[2].input_tokens, found[2].model) == ("400: no", None, None)
    assert (found[3].input_tokens, found[3].cached_tokens, found[3].output_tokens) == (10, 2, 5)
    assert found[0].finish_reason == "stop"


def test_names_of_the_job_are_understood(tmp_path: Path) -> None:
    names = {"answer": "halfrate_answer", "status": "halfrate_status"}
    shards = shards_of(tmp_path, [answered("a", RecordFormat(names))], 1)
    (found,) = iter_results(shards, names, unknown_record=UNKNOWN)
    assert isinstance(found, ResultRecord)
    assert (found.answer, found.status) == ("a", "succeeded")


def test_files_are_open_only_while_results_are_taken(tmp_path: Path) -> None:
    shards = shards_of(tmp_path, [answered(i) for i in range(5000)], 1500)
    results: Iterator[ResultRecord] = iter_results(shards, {}, unknown_record=UNKNOWN)
    assert [next(results).answer for _ in range(1600)] == list(range(1600))
    del results


def test_answers_that_are_not_utf8_are_read_all_the_same(tmp_path: Path) -> None:
    records = [answered(answer).replace(b"?", b"\xff") for answer in ("b?d", ["b?d", 1.5])]
    found = list(iter_results(shards_of(tmp_path, records, 2), {}, unknown_record=UNKNOWN))
    assert [r.answer for r in found] == ["b\ufffdd", ["b\ufffdd", 1.5]]
