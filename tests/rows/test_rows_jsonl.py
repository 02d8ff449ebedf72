import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfrate.base.errors import InputError
from halfrate.rows.collect import COLUMNS
from halfrate.rows.jsonl import JsonlTable

from .made import jsonl, template, texts_of

TEXT = st.text(
    st.characters(codec="utf-8") | st.sampled_from('\u2028\u2029\u0085"\\\n\r\t\0{}😀'), min_size=1
)


def table(data: bytes, prompt: str = "{text}", **options: Any) -> JsonlTable:
    return JsonlTable(io.BytesIO(data), name="in.jsonl", template=template(prompt), **options)


@given(st.lists(TEXT, min_size=1), st.booleans())
def test_the_prompt_is_the_rendered_text(texts: list[str], ascii_only: bool) -> None:
    lines = [json.dumps({"n": 1, "text": text, "z": {}}, ensure_ascii=ascii_only) for text in texts]
    data = "\n".join(lines).encode()
    assert texts_of(table(data).prompts()) == texts
    assert texts_of(table(data, "<{text}|{text}>").prompts()) == [f"<{text}|{text}>" for text in texts]


@given(TEXT, TEXT)
def test_literals_are_escaped_once(before: str, text: str) -> None:
    prompt = before.replace("{", "{{").replace("}", "}}") + "{text}"
    assert texts_of(table(jsonl([{"text": text}]), prompt).prompts()) == [before + text]


def test_values_that_are_not_text_read_as_json() -> None:
    data = b'{"text":12.50}\n{"text":{"a": [1,"\\n"]}}\n{"text":true}\n'
    assert texts_of(table(data).prompts()) == ["12.50", '{"a": [1,"\\n"]}', "true"]


def test_a_byte_order_mark_windows_line_ends_and_blank_lines_are_no_rows() -> None:
    data = b'\xef\xbb\xbf{"text":"a"}\r\n\r\n  \n{"text":"b"}\r\n\n'
    assert texts_of(table(data).prompts()) == ["a", "b"]


def test_the_copy_is_byte_for_byte() -> None:
    data = b'\xef\xbb\xbf{"text":"a"}\r\n\n{"text":"b"}'
    copy = io.BytesIO()
    list(table(data, tee=copy.write).prompts())
    assert copy.getvalue() == data


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        (b'{"text":"a"}\n{"text":\n', 2, "not valid JSON"),
        (b'\n{"text":"a"}\n[1]\n', 3, "expected a JSON object, found a list"),
        (b'{"text":"a"}\n\n{"Text":"b"}\n', 3, "no column 'text'.*It has: Text"),
        (b'{"text":"a"}\n\n{"text":""}\n', 3, "'text' is empty"),
        (b'{"text":null}', 1, "'text' is empty"),
        (b'{"text":"a"}\n{"text":"\xff"}\n', 2, "not UTF-8"),
        (b'{"text":"a"}\n{"text":"b","z":"\xff"}\n', 2, "not UTF-8"),
        (b'{"text":"a","n":' + b"[" * 9000 + b"]" * 9000 + b"}", 1, "nested"),
    ],
)
def test_a_row_at_fault_is_named_by_its_line(data: bytes, line: int, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        list(table(data).prompts())
    assert caught.value.line == line
    assert f"line {line}" in str(caught.value)
    assert "Nothing was sent." in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 400),
    at=st.integers(0, 10**6),
    blank=st.sets(st.integers(0, 400), max_size=3),
    bad=st.sampled_from(
        [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf8\x88\x80\x80\x80", b"caf\xe9"]
    ),
    column=st.sampled_from([b"text", b"other"]),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    taken=st.booleans(),
)
def test_text_that_is_not_utf8_is_refused_by_its_line(
    rows: int, at: int, blank: set[int], bad: bytes, column: bytes, mark: bytes, taken: bool
) -> None:
    at %= rows
    lines: list[bytes] = []
    line = row = 0
    for i in range(rows):
        if i in blank:
            lines.append(b" \r")
        if i == at:
            line, row = len(lines) + 1, i
            lines.append(
                b'{"text":"t","%b":"\xc3\xbc%b"%b}' % (column, bad, b',"answer":1' if taken else b"")
            )
        else:
            lines.append('{"text":"%s","other":"ü"}'.encode() % (b"x" * 900))
    # What is wrong further down is not what to say first.
    lines.append(b"{")
    with pytest.raises(InputError, match="not UTF-8") as caught:
        list(table(mark + b"\n".join(lines), reserved=COLUMNS).prompts())
    assert (caught.value.line, caught.value.row) == (line, row)
    assert "Save the file as UTF-8." in str(caught.value)


def test_strings_go_through_untouched() -> None:
    strings = [b'"\\u00fc\\/ \\ud83d\\ude00"', '"ü\u2028"'.encode(), b'"%d%%"']
    data = b"".join(b'{ "text" : %b , "z":1 }\r\n' % text for text in strings)
    assert [bytes(text) for block in table(data).prompts() for text in block] == strings
    mixed = data + b'{"text":[1]}\n'
    assert [bytes(text) for block in table(mixed).prompts() for text in block] == [*strings, b'"[1]"']


@pytest.mark.parametrize("data", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_input_without_rows_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="no rows"):
        list(table(data).prompts())


def test_empty_columns_can_be_allowed() -> None:
    data = b'{"text":""}\n{"text":null}\n{"text":"a"}\n'
    assert texts_of(table(data, "<{text}>", allow_empty=True).prompts()) == ["<>", "<>", "<a>"]


def test_names_that_are_taken_are_found_wherever_they_stand() -> None:
    data = jsonl([{"text": "a"}, {"text": "b", "model": 1}, {"text": "c", "answer": None}])
    read = table(data, reserved=COLUMNS)
    assert texts_of(read.prompts()) == ["a", "b", "c"]
    assert read.taken == {"model", "answer"}
    read = table(jsonl([{"answer": "a"}]), "{answer}", reserved=COLUMNS)
    assert texts_of(read.prompts()) == ["a"]
    assert read.taken == {"answer"}


def test_the_id_column_has_to_be_there() -> None:
    with pytest.raises(InputError, match="'id'"):
        list(table(jsonl([{"text": "a"}]), id_column="id").prompts())


def test_half_a_surrogate_pair_is_refused_by_its_line() -> None:
    with pytest.raises(InputError, match="surrogate") as caught:
        list(table(b'{"text":"a"}\n{"text":"\\ud83d!"}\n').prompts())
    assert caught.value.line == 2


def test_a_line_longer_than_a_block_is_one_row() -> None:
    long = "x" * (3 << 20)
    assert texts_of(table(jsonl([{"text": "a"}, {"text": long}, {"text": "b"}])).prompts()) == [
        "a",
        long,
        "b",
    ]
