import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfrate.base.errors import InputError
from halfrate.rows.native import NativeTable

from .made import jsonl


def table(data: bytes, form: Any = "openai", **options: Any) -> NativeTable:
    return NativeTable(io.BytesIO(data), name="batch.jsonl", form=form, **options)


def line(body: Any, **fields: Any) -> dict[str, Any]:
    return {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body, **fields}


# A field that is read has to be of its kind.
FIELDS = st.text().filter(lambda name: name not in {"stream", "model", "input"})
BODIES = st.dictionaries(FIELDS, st.integers() | st.text() | st.lists(st.none() | st.text()), max_size=4)


@given(st.lists(BODIES, min_size=1), st.sampled_from(["openai", "anthropic"]))
def test_bodies_go_through_byte_for_byte(bodies: list[dict[str, Any]], form: str) -> None:
    texts = [
        json.dumps({**body, "model": "m"}, indent=None, separators=(" , ", " :  ")).encode()
        for body in bodies
    ]
    before = (
        b'{"custom_id":"a","url":"/v1/responses","body": '
        if form == "openai"
        else b'{"custom_id":"a", "params": '
    )
    data = b"\r\n".join(before + text + b" }" for text in texts)
    read = table(data, form)
    blocks = list(read.blocks())
    assert [body for block in blocks for body in block.bodies] == texts
    assert read.endpoint == ("responses" if form == "openai" else "messages")
    assert all(block.inputs is None for block in blocks)


def test_models_come_in_runs() -> None:
    data = jsonl([line({"model": name, "n": i}) for i, name in enumerate("aabba")])
    (block,) = table(data).blocks()
    assert block.models == ["a", "a", "b", "b", "a"]
    assert [(model, len(bodies)) for model, bodies, _ in block.runs()] == [("a", 2), ("b", 2), ("a", 1)]


def test_embedding_inputs_are_counted() -> None:
    inputs: list[Any] = ["text", ["a", "b"], [1, 2, 3], [[1, 2], [3]], "[x]"]
    data = jsonl([line({"model": "e", "input": value}, url="/v1/embeddings") for value in inputs])
    read = table(data)
    (block,) = read.blocks()
    assert read.endpoint == "embeddings"
    assert block.inputs == [1, 2, 1, 2, 1]
    assert [counts for _, _, counts in block.runs()] == [[1, 2, 1, 2, 1]]


@pytest.mark.parametrize("name", ["", "x" * 200, "a\u2028b", "ünï", '"', "a"])
def test_any_text_is_an_id(name: str) -> None:
    data = jsonl([line({"model": "m"}, custom_id=name)] * 2)
    assert sum(len(block.bodies) for block in table(data).blocks()) == 2


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "found a list"),
        (b'{"custom_id":"\xff"}', "not UTF-8"),
        (line({"model": "m"}, method="GET"), "method is 'GET'"),
        (
            line({"model": "m"}, url="/v1/images/generations"),
            "'/v1/images/generations' is none that halfrate runs",
        ),
        (line({"model": "m"}, url="/v1/responses"), "'/v1/chat/completions' before"),
        (line({"model": "m"}, custom_id=7), "custom_id is not a string"),
        ({"method": "POST", "url": "/v1/chat/completions", "body": {}}, "no 'custom_id'"),
        ({"custom_id": "a", "body": {}}, "no 'url'"),
        ({"custom_id": "a", "url": "/v1/chat/completions"}, "no 'body'"),
        (line([1]), "'body' is not an object"),
        (line({}), "names no model"),
        (line({"model": 3}), "names no model"),
        (line({"model": ""}), "model is empty"),
        (line({"model": "m", "stream": True}), "asks to stream"),
        (line({"model": "other"}), "'other', and 'm' was asked for"),
    ],
)
def test_a_line_at_fault_is_named(second: Any, message: str) -> None:
    first = jsonl([line({"model": "m", "stream": False})])
    data = first + b"\n" + (second if isinstance(second, bytes) else jsonl([second]))
    with pytest.raises(InputError, match=message) as caught:
        list(table(data, model="m").blocks())
    assert caught.value.line == 3
    assert caught.value.row == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [({"model": "e"}, "has no input"), ({"model": "e", "input": []}, "input is empty")],
)
def test_embeddings_need_an_input(body: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(table(jsonl([line(body, url="/v1/embeddings")])).blocks())


def test_anthropic_lines_are_checked_as_well() -> None:
    for row, message in [
        ({"custom_id": "a"}, "no 'params'"),
        ({"custom_id": "a", "params": {"max_tokens": 1}}, "names no model"),
        ({"custom_id": "a", "params": {"model": "m", "stream": True}}, "asks to stream"),
    ]:
        with pytest.raises(InputError, match=message):
            list(table(jsonl([row]), "anthropic").blocks())


def test_the_copy_is_byte_for_byte_and_a_file_needs_rows() -> None:
    data = b"\xef\xbb\xbf" + jsonl([line({"model": "m"})]) + b"\r\n\n"
    copy = io.BytesIO()
    assert sum(len(block.bodies) for block in table(data, tee=copy.write).blocks()) == 1
    assert copy.getvalue() == data
    with pytest.raises(InputError, match="no rows"):
        list(table(b"\n").blocks())
