"""From every kind of table to what the provider reads: ids in order, and the prompt that was asked for."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfrate.base.ids import row_prefix, shard_id
from halfrate.base.types import Endpoint, RequestSpec, Template
from halfrate.providers.anthropic import Anthropic
from halfrate.providers.base import Account
from halfrate.providers.openai import OpenAI
from halfrate.rows.csv_table import CsvTable
from halfrate.rows.jsonl import JsonlTable
from halfrate.rows.parquet_table import ParquetTable
from halfrate.rows.requests import RequestWriter

from .made import limits

ODD = '\u2028\u2029\u0085"\\/\n\r\t\x01%{}😀ü'
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from(ODD), min_size=1)
LITERAL = st.text(st.characters(codec="utf-8") | st.sampled_from(ODD), max_size=10)
Rows = list[dict[str, str]]
Table = JsonlTable | CsvTable | ParquetTable


def raw_jsonl(folder: Path, rows: Rows, form: Template) -> Table:
    data = b"\n".join(json.dumps(row, ensure_ascii=False).encode() for row in rows)
    return JsonlTable(io.BytesIO(data), name="in", template=form)


def escaped_jsonl(folder: Path, rows: Rows, form: Template) -> Table:
    data = b"".join(json.dumps({"z": 1, **row}).encode() + b" \r\n" for row in rows)
    return JsonlTable(io.BytesIO(data), name="in", template=form)


def separated(rows: Rows, form: Template, delimiter: str) -> Table:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["b", "a"], delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    return CsvTable(io.BytesIO(text.getvalue().encode()), name="in", template=form, delimiter=delimiter)


def comma(folder: Path, rows: Rows, form: Template) -> Table:
    return separated(rows, form, ",")


def tab(folder: Path, rows: Rows, form: Template) -> Table:
    return separated(rows, form, "\t")


def parquet(folder: Path, rows: Rows, form: Template) -> Table:
    pq.write_table(pa.Table.from_pylist(rows), folder / "in.parquet", row_group_size=3)
    return ParquetTable(folder / "in.parquet", name="in", template=form)


TABLES = [raw_jsonl, escaped_jsonl, comma, tab, parquet]
ENDPOINTS: list[Endpoint] = ["chat", "responses", "embeddings", "messages"]


def prompt_of(endpoint: Endpoint, body: dict[str, Any]) -> str:
    if endpoint in {"chat", "messages"}:
        return body["messages"][-1]["content"]
    return body["input"]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("made", TABLES)
@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.fixed_dictionaries({"a": TEXT, "b": TEXT}), min_size=1, max_size=12),
    columns=st.lists(st.sampled_from("ab"), max_size=3),
    data=st.data(),
    system=st.none() | LITERAL,
    most=st.integers(1, 5),
)
def test_bodies_hold_exactly_the_rendered_prompt(
    tmp_path_factory: pytest.TempPathFactory,
    made: Callable[[Path, Rows, Template], Table],
    endpoint: Endpoint,
    rows: Rows,
    columns: list[str],
    data: st.DataObject,
    system: str | None,
    most: int,
) -> None:
    plain = data.draw(st.booleans())
    literals = ["" if plain and columns else data.draw(LITERAL) for _ in range(len(columns) + 1)]
    form = Template(tuple(literals), tuple(columns))
    kind = Anthropic if endpoint == "messages" else OpenAI
    adapter = kind(Account(provider=kind.capabilities.provider, base_url="http://localhost:1", key="k"))
    framing = kind.capabilities.framing
    spec = RequestSpec(
        provider=kind.capabilities.provider,
        model="m%d",
        endpoint=endpoint,
        system=system if endpoint != "embeddings" else None,
        schema={"type": "object", "properties": {"k%s": {"type": "string"}}}
        if endpoint != "embeddings"
        else None,
        params={"user": '"%(x)s"'},
    )
    folder = tmp_path_factory.mktemp("bodies")
    writer = RequestWriter(
        lambda number: folder / f"{number}.requests",
        job_id="k3v9x2m4qp",
        envelope=adapter.envelope(endpoint),
        framing=framing,
        body=adapter.body(spec),
        limits=limits(most),
        name="in",
        provider="P",
    )
    for block in made(folder, rows, form).prompts():
        writer.add(block)
    writer.cut()

    found: list[tuple[str, str]] = []
    for shard in writer.shards:
        sent = (folder / f"{shard.number}.requests").read_bytes()
        if framing.head:
            lines = json.loads(sent)["requests"]
        else:
            lines = [json.loads(line) for line in sent.split(b"\n") if line]
        assert len(lines) == shard.rows <= most
        for line in lines:
            body = line["body" if endpoint != "messages" else "params"]
            assert body["model"] == "m%d"
            assert body["user"] == '"%(x)s"'
            found.append((line["custom_id"], prompt_of(endpoint, body)))
    expected: list[tuple[str, str]] = []
    for i, row in enumerate(rows):
        values = [row[column] for column in columns]
        prompt = literals[0] + "".join(map(str.__add__, values, literals[1:]))
        expected.append((f"{row_prefix(shard_id('k3v9x2m4qp', i // most), 1)}{i}", prompt))
    assert found == expected
