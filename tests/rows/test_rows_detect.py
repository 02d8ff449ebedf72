from typing import Any

import pytest

from halfrate.base.errors import InputError
from halfrate.rows.detect import Detected, sniff

from .made import jsonl

OPENAI = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m"}}
ANTHROPIC = {"custom_id": "a", "params": {"model": "m"}}


@pytest.mark.parametrize(
    ("name", "data", "form", "native"),
    [
        ("in.jsonl", b'{"a":1}\n', "jsonl", None),
        ("IN.NDJSON", b'\xef\xbb\xbf\n{"a":1}', "jsonl", None),
        ("in.json", b'{"a":1}\n{"a":2}\n', "jsonl", None),
        ("in.csv", b'{"a":1}\n', "csv", None),
        ("in.tsv", b"a,b\n", "tsv", None),
        ("in.csv", b"", "csv", None),
        ("in.parquet", b"PAR1....", "parquet", None),
        ("-", b"PAR1....", "parquet", None),
        ("-", b' {"a":1}\n', "jsonl", None),
        ("-", b"a,b\tc,d\n", "csv", None),
        ("-", b"a\tb,c\td\n", "tsv", None),
        ("rows.txt", b"text\nhello\n", "csv", None),
        ("in.jsonl", jsonl([OPENAI]), "jsonl", "openai"),
        ("-", jsonl([OPENAI, OPENAI]), "jsonl", "openai"),
        ("in.jsonl", jsonl([{key: OPENAI[key] for key in ("body", "url", "custom_id")}]), "jsonl", "openai"),
        ("in.jsonl", jsonl([ANTHROPIC]), "jsonl", "anthropic"),
        ("in.jsonl", jsonl([{**OPENAI, "more": 1}]), "jsonl", None),
        ("in.jsonl", jsonl([{**ANTHROPIC, "params": "text"}]), "jsonl", None),
        ("in.jsonl", jsonl([{"custom_id": "a", "body": {}}]), "jsonl", None),
        # A first line that goes on behind what was read.
        ("in.jsonl", jsonl([OPENAI])[:80], "jsonl", "openai"),
        ("in.jsonl", jsonl([ANTHROPIC])[:40], "jsonl", "anthropic"),
        ("in.jsonl", jsonl([{"text": "x" * 100}])[:40], "jsonl", None),
        ("in.jsonl", b"not json\n", "jsonl", None),
        ("in.jsonl", b"[1]\n[2]\n", "jsonl", None),
    ],
)
def test_formats(name: str, data: bytes, form: Any, native: Any) -> None:
    assert sniff(name, data) == Detected(form, native)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("in.json", b'[{"a":1},{"a":2}]', r"jq -c '\.\[\]' in\.json"),
        ("in.json", b'[\n  {"a":1}\n]\n', r"jq -c '\.\[\]' in\.json"),
        ("-", b'[{"a":1}]\n', r"jq -c '\.\[\]' input\.json"),
        ("in.json", b'{"requests":[]}', r"'\.requests\[\]'"),
        ("in.json", b'{\n  "a": 1\n}', "over several lines"),
        ("in.jsonl.gz", b"", "gunzip -k in.jsonl.gz"),
        ("in.csv.zst", b"", "zstd -d in.csv.zst"),
        ("-", b"\x1f\x8b\x08", "gzip"),
        ("in.jsonl", b"\x28\xb5\x2f\xfd", "zstd"),
        ("in.xlsx", b"PK\x03\x04", "Excel"),
        ("in.csv", b"\xff\xfea\0", "UTF-16"),
        ("in.parquet", b"a,b\n", "not a Parquet file"),
        ("-", b"", "no rows"),
        ("in.jsonl", b" \n", "no rows"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_way_out(name: str, data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sniff(name, data)
