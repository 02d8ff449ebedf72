"""What the ledger says was paid is what the rows say they cost, to the picodollar."""

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfrate.base.results import Collection, Kind, LineReader, PlainRows, ResultRow, Tokens, UnreadableLine
from halfrate.base.types import Price, Rates, Step
from halfrate.core.pricing import JobPricing, cost
from halfrate.rows.collect import Check, Collector, InvalidAnswer, RecordFormat
from halfrate.rows.outcomes import OutcomeFile, OutcomeWriter

from .made import flat, pricing

RATE = st.integers(0, 40).map(lambda n: n * 12_500) | st.integers(0, 10**8) | st.just(0)
SOME = RATE | st.none()
APART = dict.fromkeys(("audio_input", "audio_cached", "audio_output", "image_output"), SOME)
TEXTUAL = dict.fromkeys(("input", "cached", "write_5m", "write_1h", "output"), RATE)
KNOWN = st.builds(Rates, **TEXTUAL) | st.builds(Rates, **TEXTUAL, **APART)
PARTLY = st.builds(Rates, input=SOME, cached=SOME, write_5m=SOME, write_1h=SOME, output=SOME)
STEPS = st.lists(st.builds(Step, above=st.integers(0, 3000), rates=KNOWN | PARTLY), min_size=1, max_size=2)
PRICE = (
    st.builds(Price, model=st.just(""), tier=st.just(""), rates=KNOWN)
    | st.builds(Price, model=st.just(""), tier=st.just(""), rates=PARTLY)
    | st.builds(
        Price,
        model=st.just(""),
        tier=st.just(""),
        rates=KNOWN,
        steps=STEPS.map(lambda steps: tuple(sorted(steps, key=lambda step: step.above))),
    )
    | st.none()
)
COUNT = st.just(0) | st.integers(0, 3000)
PART = st.just(0) | st.integers(0, 100)


def parted(tokens: Tokens, heard: int, again: int, spoken: int, drawn: int) -> Tokens:
    """The same, and something of it that is no text."""
    return tokens._replace(
        input=tokens.input + heard,
        cached=tokens.cached + again,
        output=tokens.output + spoken + drawn,
        audio_input=heard,
        audio_cached=again,
        audio_output=spoken,
        image_output=drawn,
    )


PLAIN = st.tuples(COUNT, COUNT).map(lambda used: Tokens(used[0], output=used[1]))
HUGE = st.tuples(*[st.integers(0, 10**9)] * 2).map(lambda used: Tokens(used[0], output=used[1]))
TEXT = st.tuples(*[COUNT] * 6).map(lambda used: Tokens(*used))
TOKENS = TEXT | st.builds(parted, TEXT, PART, PART, PART, PART)
NAMES = ("a", "a-2026", "ab", "c")
ROW = st.tuples(
    st.sampled_from(NAMES), st.sampled_from(["stop", "length"]), PLAIN | TOKENS | HUGE | st.none()
)


def collect(
    folder: Path, rows: list[ResultRow], prices: JobPricing, check: Check | None = None
) -> tuple[Collection, list[dict[str, Any]]]:
    """Results as an adapter would give them: (collection, records in row order)."""
    known = {b"%d\n" % i: row for i, row in enumerate(rows)}

    def read(line: bytes) -> ResultRow:
        if line not in known:
            raise UnreadableLine
        return known[line]

    def plain(lines: Sequence[bytes]) -> PlainRows:
        """As adapters do it: answered rows of the usual shape all at once, the others left to `read`."""
        usual = [line for line in lines if known[line].kind == Kind.SUCCEEDED and known[line].row % 5]
        found = [known[line] for line in usual]
        return PlainRows(
            [row.row for row in found],
            [msgspec.Raw(bytes(row.answer)) for row in found],
            [msgspec.json.encode(row.tokens) for row in found],
            [row.model for row in found],
            [row.finish for row in found],
            usual,
            [line for line in lines if line not in usual],
        )

    def tokens(usage: bytes) -> Tokens | None:
        return msgspec.json.decode(usage, type=Tokens | None)

    (folder / "lines").write_bytes(b"".join(known))
    with OutcomeWriter(folder / "outcomes", len(rows)) as writer:
        collector = Collector(
            writer, LineReader(read, plain, tokens), prices, RecordFormat({}), first_row=0, check=check
        )
        collector.read(folder / "lines")
        collection = collector.finish()
        writer.commit()
    with OutcomeFile(folder / "outcomes") as file:
        records = [
            json.loads(b"{" + file.record(slot), parse_float=Decimal, parse_int=Decimal)
            for slot in range(len(rows))
        ]
    return collection, records


def total(costs: Iterable[int | None]) -> int | None:
    known: list[int] = []
    for each in costs:
        if each is None:
            return None
        known.append(each)
    return sum(known)


@settings(max_examples=300, deadline=None)
@given(
    batch=st.fixed_dictionaries({}, optional={"a": PRICE, "ab": PRICE, "c": PRICE}),
    standard=st.fixed_dictionaries({"a": PRICE, "ab": PRICE, "c": PRICE}),
    rows=st.lists(ROW, max_size=30),
    judged=st.booleans(),
)
def test_the_ledger_is_the_sum_of_the_rows(
    tmp_path_factory: pytest.TempPathFactory,
    batch: dict[str, Price | None],
    standard: dict[str, Price | None],
    rows: list[tuple[str, str, Tokens | None]],
    judged: bool,
) -> None:
    prices = pricing(batch, standard)
    results = [
        ResultRow(i, Kind.SUCCEEDED, b'"%d"' % i, tokens, model, finish)
        for i, (model, finish, tokens) in enumerate(rows)
    ]

    def check(answer: bytes) -> bytes:
        if answer.endswith(b'3"'):
            raise InvalidAnswer("3")
        return answer

    folder = tmp_path_factory.mktemp("ledger")
    collection, records = collect(folder, results, prices, check if judged else None)
    bills = {bill.model: bill for bill in collection.billed}
    assert len(bills) == len(collection.billed)
    groups: dict[str, list[int]] = {}
    for i, (model, _, tokens) in enumerate(rows):
        billed_as = prices.priced_as(model)
        groups.setdefault(billed_as, []).append(i)
        own = records[i]["cost_usd"]
        due = None if tokens is None else cost(tokens, batch.get(billed_as))
        assert own == (None if due is None else Decimal(due).scaleb(-12))
        assert records[i]["status"] == ("failed" if judged and i % 10 == 3 else "succeeded")
        if tokens is not None:
            figures = [records[i][name] for name in ("input_tokens", "cached_tokens", "output_tokens")]
            assert figures == [sum(tokens[:4]), tokens[1], tokens[4]]
    assert bills.keys() == groups.keys()
    for model, members in groups.items():
        bill = bills[model]
        costs = [records[i]["cost_usd"] for i in members]
        assert bill.rows == len(members)
        assert bill.cost == total(None if each is None else int(each.scaleb(12)) for each in costs)
        used = [tokens for i in members if (tokens := rows[i][2]) is not None]
        for kind, count in msgspec.structs.asdict(bill.usage).items():
            assert count == sum(getattr(tokens, kind) for tokens in used)
        whole = [None if (t := rows[i][2]) is None else cost(t, standard.get(model)) for i in members]
        assert bill.realtime_cost == total(whole)


@pytest.mark.parametrize("rate", [0, 1, 10, 50_000, 125_000, 10**11, 10**12, 3 * 10**12])
def test_costs_have_as_many_decimals_as_they_need(tmp_path: Path, rate: int) -> None:
    rows = [ResultRow(i, Kind.SUCCEEDED, b"1", Tokens(i, output=2 * i), "m", "stop") for i in range(4)]
    collection, records = collect(tmp_path, rows, pricing({"m": flat(rate)}))
    assert [record["cost_usd"] for record in records] == [Decimal(3 * i * rate).scaleb(-12) for i in range(4)]
    assert collection.billed[0].cost == 18 * rate
