"""Result files read a block at a time: what comes of them is what comes of them line by line."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from halfrate.base.results import Collection, LineReader
from halfrate.providers import anthropic_results, gemini_results, openai_results
from halfrate.rows.collect import Collector, RecordFormat
from halfrate.rows.outcomes import OutcomeWriter

from ..rows.made import flat, pricing

PREFIX: Final = "hr-k3v9x2m4qp-0-1-"
ROWS: Final = 3_000
MODELS: Final = ("gpt-4.1-mini", "gpt-4.1")
FINISHES: Final = {"stop": "STOP", "length": "MAX_TOKENS"}
FILLER: Final = "As long as answers are, so that a file has several blocks. " * 6


def openai_line(row: int, model: str, finish: str, used: int) -> dict[str, Any]:
    usage = {"prompt_tokens": used, "completion_tokens": 9, "total_tokens": used + 9}
    choice = {"index": 0, "message": {"role": "assistant", "content": FILLER}, "finish_reason": finish}
    body = {"id": "c", "model": model, "choices": [choice], "usage": usage}
    return {"custom_id": f"{PREFIX}{row}", "response": {"status_code": 200, "body": body}, "error": None}


def anthropic_line(row: int, model: str, finish: str, used: int) -> dict[str, Any]:
    message = {
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": FILLER}],
        "stop_reason": finish,
        "usage": {"input_tokens": used, "output_tokens": 9},
    }
    return {"custom_id": f"{PREFIX}{row}", "result": {"type": "succeeded", "message": message}}


def gemini_line(row: int, model: str, finish: str, used: int) -> dict[str, Any]:
    response = {
        "candidates": [{"content": {"parts": [{"text": FILLER}]}, "finishReason": FINISHES[finish]}],
        "usageMetadata": {"promptTokenCount": used, "candidatesTokenCount": 9},
        "modelVersion": model,
    }
    return {"key": f"{PREFIX}{row}", "response": response}


KINDS: Final[dict[str, tuple[LineReader, Callable[[int, str, str, int], dict[str, Any]]]]] = {
    "openai": (openai_results.line_reader("chat", PREFIX), openai_line),
    "anthropic": (anthropic_results.line_reader(PREFIX), anthropic_line),
    "gemini": (gemini_results.line_reader("generate", PREFIX), gemini_line),
}


def odd(line: dict[str, Any], kind: int, row: int) -> bytes:
    """Something that is not as usual, of every sort that blocks of lines know."""
    name = "key" if "key" in line else "custom_id"
    good = json.dumps(line).encode()
    return [
        b"\n",
        b"not JSON\n",
        good + b"\r\n",
        b"  " + good + b" \n",
        good + good + b"\n",
        json.dumps({**line, name: f"{PREFIX}{max(0, row - 7)}"}).encode() + b"\n",
        json.dumps({**line, name: f"{PREFIX}{ROWS + row}"}).encode() + b"\n",
        json.dumps({**line, name: f"hr-elsewhere-0-1-{row}"}).encode() + b"\n",
        json.dumps({name: line[name], "error": {"code": 500, "message": "failed"}}).encode() + b"\n",
        json.dumps(line, ensure_ascii=False, indent=1).encode().replace(b"\n", b"") + b"\n",
        good.replace(FILLER.encode(), b"\xff\xfe") + b"\n",
    ][kind]


def results(make: Callable[[int, str, str, int], dict[str, Any]], draw: random.Random, often: float) -> bytes:
    """A result file, rows in any order; some of them odd."""
    out: list[bytes] = []
    numbers = list(range(ROWS))
    draw.shuffle(numbers)
    model = draw.choice(MODELS)
    for row in numbers:
        if draw.random() < 0.001:
            model = draw.choice(MODELS)
        finish = "length" if draw.random() < 0.002 else "stop"
        line = make(row, model, finish, draw.randrange(200, 300))
        if draw.random() < often:
            out.append(odd(line, draw.randrange(11), row))
        else:
            out.append(json.dumps(line).encode() + b"\n")
    data = b"".join(out)
    return data.removesuffix(b"\n") if draw.random() < 0.5 else data


def collected(
    reader: LineReader, source: Path, target: Path
) -> tuple[Collection, tuple[int, int, int], bytes]:
    prices = pricing({name: flat(n + 1) for n, name in enumerate(MODELS)}, {})
    with OutcomeWriter(target, ROWS) as writer:
        collector = Collector(writer, reader, prices, RecordFormat({}), first_row=0)
        collector.read(source)
        counts = (collector.duplicates, collector.unknown, collector.malformed)
        collection = collector.finish()
        writer.commit()
    return collection, counts, target.read_bytes()


@pytest.mark.parametrize("often", [0.0, 0.0005, 0.02, 1.0])
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_block_says_what_its_lines_say(tmp_path: Path, kind: str, often: float) -> None:
    reader, make = KINDS[kind]
    assert reader.whole is not None
    one_by_one = LineReader(reader.general, None, reader.tokens)
    many = LineReader(reader.general, reader.plain, reader.tokens)
    for seed in range(3):
        source = tmp_path / "results"
        source.write_bytes(results(make, random.Random(f"{kind} {often} {seed}"), often))
        whole = collected(reader, source, tmp_path / "whole")
        assert whole == collected(many, source, tmp_path / "many")
        alone = collected(one_by_one, source, tmp_path / "alone")
        # Of two lines that name one row the first counts; that of usual ones does before all others of its block.
        assert (whole[0].counts, whole[1]) == (alone[0].counts, alone[1])
        if often == 0.0:
            assert whole[0].counts.succeeded == ROWS
            assert whole == alone


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_block_of_usual_lines_is_taken_whole_and_no_other(kind: str) -> None:
    reader, make = KINDS[kind]
    assert reader.whole is not None
    lines = [make(row, MODELS[0], "stop", 250) for row in range(40)]
    good = [json.dumps(line).encode() + b"\n" for line in lines]
    rows = reader.whole(b"".join(good))
    assert rows is not None
    assert rows.numbers == list(range(40))
    assert len(rows.usages) == len(rows.answers) == len(rows.models) == len(rows.finishes) == 40
    for number in (1, 7, 8):
        assert reader.whole(b"".join([*good[:20], odd(lines[20], number, 20), *good[21:]])) is None
    # White space is nothing, wherever it stands between documents.
    for number in (0, 2, 3):
        taken = reader.whole(b"".join([*good[:20], odd(lines[20], number, 20), *good[21:]]))
        assert taken is not None
        assert taken.numbers == [row for row in range(40) if row != 20 or number]
