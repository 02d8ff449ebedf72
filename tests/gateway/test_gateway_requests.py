"""The body of a create call of Anthropic's, and what is kept of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfrate.base.errors import InputError
from halfrate.rows.json_array import ArrayScanner, ElementTooLong, WrongDocument
from halfrate.rows.message_input import (
    Place,
    TooLarge,
    keep_requests,
    kept_requests,
    models_of,
    split_requests,
)
from halfrate.rows.message_output import CANCELED, Tally, errored, gather_results

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12) | st.text('"\\[]{},: \n/u0', max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def in_pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """`data`, cut after so many bytes again and again; all at once where there are no cuts."""
    at = turn = 0
    while at < len(data):
        size = cuts[turn % len(cuts)] if cuts else len(data)
        yield data[at : at + size]
        at += size
        turn += 1


def scanned(data: bytes, cuts: list[int] | None = None, longest: int = 1 << 20) -> list[bytes]:
    scanner = ArrayScanner("requests", longest)
    found = [element for piece in in_pieces(data, cuts or []) for element in scanner.feed(piece)]
    scanner.close()
    return found


@settings(max_examples=300, deadline=None)
@given(
    values=st.lists(VALUES, max_size=6),
    ascii_only=st.booleans(),
    indent=st.none() | st.integers(0, 3),
    cuts=st.lists(st.integers(1, 40), max_size=5),
)
def test_any_values_in_any_pieces_are_found_as_they_stand(
    values: list[Any], ascii_only: bool, indent: int | None, cuts: list[int]
) -> None:
    text = json.dumps({"requests": values}, ensure_ascii=ascii_only, indent=indent)
    found = scanned(text.encode(), cuts)
    assert [json.loads(element) for element in found] == values
    # Byte for byte: each stands in the text as it was found, one behind the other.
    at = 0
    for element in found:
        at = text.encode().index(element, at) + len(element)


@settings(max_examples=300, deadline=None)
@given(
    values=st.lists(VALUES, min_size=1, max_size=4),
    cuts=st.lists(st.integers(1, 40), max_size=5),
    data=st.data(),
)
def test_what_is_not_json_is_never_taken_for_it(
    values: list[Any], cuts: list[int], data: st.DataObject
) -> None:
    """Bytes are changed, dropped or put in; what then is scanned, and decodes, is what json.loads finds."""
    text = bytearray(json.dumps({"requests": values}).encode())
    at = data.draw(st.integers(0, len(text) - 1))
    change = data.draw(st.sampled_from(["drop", "put", "cut"]))
    if change == "cut":
        del text[at:]
    else:
        text[at : at + (change == "drop")] = data.draw(
            st.sampled_from([b"", b'"', b"}", b"]", b",", b"\\", b"{"])
        )
    try:
        expected = json.loads(bytes(text))["requests"]
        assert isinstance(expected, list)
    except (ValueError, KeyError, TypeError, AssertionError):
        expected = None
    try:
        found = [json.loads(element) for element in scanned(bytes(text), cuts)]
    except (WrongDocument, ValueError):
        found = None
    assert found == expected


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "[]", "{}", '{"requests"', '{"requests":', '{"requests":{}}', '{"requests":[', '{"requests":[1',
        '{"requests":[1,', '{"requests":[1]', '{"requests":[,1]}', '{"requests":[1,]}', '{"requests":[1 2]}',
        '{"requests":[1]}x', '{"requests":[1]},', '{"requests":[1],}', '{"requests":[1]]', '{"requests":[1}',
        '{"requests":[1],"requests":[2]}', '{"requests":[1],"more":2}', '{"more":2,"requests":[1]}',
        '{requests:[1]}', '{"requests" [1]}', '{,"requests":[1]}', '{"\\x":[1]}', "null", '{"requests":["a]}',
        '{"requests":[{"a":1]}', '\ufeff{"requests":[1]}',
    ],
)  # fmt: skip
def test_what_is_no_object_of_one_array_is_refused(text: str) -> None:
    for cuts in ([], [1]):
        with pytest.raises(WrongDocument):
            scanned(text.encode(), cuts)


def test_an_element_is_never_longer_than_is_taken() -> None:
    text = b'{"requests":["' + b"x" * 5_000 + b'"]}'
    with pytest.raises(ElementTooLong):
        scanned(text, [7], longest=5_001)
    assert len(scanned(text, [7], longest=5_002)) == 1


def kept(folder: Path, body: bytes | dict[str, Any], **limits: int) -> bytes:
    source = folder / "body"
    source.write_bytes(body if isinstance(body, bytes) else json.dumps(body).encode())
    lines: list[bytes] = []
    assert keep_requests(source, lines.append, **limits) > 0
    return b"".join(lines)


def request(custom_id: Any, **params: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "params": {"model": "claude-haiku-4-5", **params}}


def test_params_are_kept_byte_for_byte_and_one_request_a_line(tmp_path: Path) -> None:
    params = b'{ "model":"m" ,\t"x":[1.50, 1e3,"\\u00e4\\/ \xc3\xa4"], "x":0 }'
    spread = b'{\n "params": %b,\r\n "custom_id":\n"a-1"}' % params
    lines = kept(tmp_path, b' {"requests" :\n [%b,\n%b] } ' % (spread, spread.replace(b"a-1", b"a_2")))
    assert lines == b'{"custom_id":"a-1","params":%b}\n{"custom_id":"a_2","params":%b}\n' % (params, params)
    broken = b'{"requests":[{"custom_id":"a","params":{\n"model":\n"m"\n}}]}'
    assert kept(tmp_path, broken) == b'{"custom_id":"a","params":{ "model": "m" }}\n'


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"requests": []}, "requests: List should have at least 1 item"),
        ({}, "requests: Field required"),
        ({"requests": [request("a"), request("a")]}, "requests.1.custom_id: 'a' is not unique"),
        ({"requests": [request("a"), request("a b")]}, "requests.1.custom_id: String should match"),
        ({"requests": [request("x" * 65)]}, "requests.0.custom_id: String should match"),
        ({"requests": [request("a\n")]}, "requests.0.custom_id: String should match"),
        ({"requests": [request("")]}, "requests.0.custom_id: String should match"),
        ({"requests": [request(7)]}, "requests.0.custom_id: Input should be a valid string"),
        ({"requests": [{"params": {}}]}, "requests.0.custom_id: Field required"),
        ({"requests": [{"custom_id": "a"}]}, "requests.0.params: Field required"),
        ({"requests": [{"custom_id": "a", "params": []}]}, "requests.0.params: Input should be a valid dict"),
        ({"requests": [{**request("a"), "url": "/v1"}]}, "requests.0.url: Extra inputs are not permitted"),
        ({"requests": [request("a"), "b"]}, "requests.1: Input should be an object"),
        ({"requests": {"a": 1}}, "requests: Input should be a valid list"),
        ({"requests": [request("a")], "metadata": {}}, "metadata: Extra inputs are not permitted"),
        (b'{"requests":[{"custom_id":"a","params":{"x":tru}}]}', "requests.0: not valid JSON"),
        (b'{"requests":[{"custom_id":"a","params":{"x":"\xff"}}]}', "requests.0: not valid JSON"),
        (b'{"requests":[{"custom_id":"a","params":{"x":"\n"}}]}', "requests.0: not valid JSON"),
        (b'{"requests":[' + b"[" * 100_000 + b"]" * 100_000 + b"]}", "requests.0: nested deeper"),
    ],
)
def test_an_envelope_that_anthropic_refuses_is_refused_with_its_place(
    tmp_path: Path, body: Any, said: str
) -> None:
    with pytest.raises(InputError) as refused:
        kept(tmp_path, body)
    assert str(refused.value).startswith(said)


def test_too_many_requests_and_too_large_ones_are_refused(tmp_path: Path) -> None:
    body = {"requests": [request("a"), request("b"), request("c", x="y" * 500)]}
    with pytest.raises(InputError, match="at most 2 items"):
        kept(tmp_path, body, most=2)
    with pytest.raises(TooLarge, match=r"requests\.2"):
        kept(tmp_path, body, largest=500)
    assert kept(tmp_path, body, most=3, largest=1_000).count(b"\n") == 3


def test_requests_are_set_apart_by_model_and_only_the_name_changes(tmp_path: Path) -> None:
    bad = [
        {"model": 7},
        {"model": ""},
        {"model": "m" * 257},
        {"stream": True},
        {"stream": 0},
        {"model": None},
    ]
    body = {
        "requests": [
            *(request(f"bad-{number}", **params) for number, params in enumerate(bad)),
            {"custom_id": "empty", "params": {}},
            request("plain", stream=False),
            request("other", model="other", x={"model": "anthropic/claude-haiku-4-5"}),
            request("named", model="anthropic/claude-haiku-4-5", x=[1, {"model": "anthropic/x"}], y="\u00e4"),
        ]
    }
    source = tmp_path / "rows"
    source.write_bytes(kept(tmp_path, body))
    found = {one.custom_id: one.fault for one in kept_requests(source)}
    assert [name for name, fault in found.items() if not fault] == [b'"plain"', b'"other"', b'"named"']
    assert models_of(source, 20) == {"claude-haiku-4-5": 1, "other": 1, "anthropic/claude-haiku-4-5": 1}
    assert models_of(source, 2) == {"claude-haiku-4-5": 1, "other": 1}
    a, b = tmp_path / "a", tmp_path / "b"
    split_requests(
        source,
        {
            "claude-haiku-4-5": Place(a, "claude-haiku-4-5"),
            "anthropic/claude-haiku-4-5": Place(b, "claude-haiku-4-5"),
        },
    )
    assert a.read_bytes() == source.read_bytes().splitlines(keepends=True)[7]
    line = source.read_bytes().splitlines()[9]
    (written,) = b.read_bytes().splitlines()
    assert json.loads(written) == {
        "custom_id": "named",
        "params": {**json.loads(line)["params"], "model": "claude-haiku-4-5"},
    }


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        ({"type": "succeeded", "message": {"id": "msg_1"}}, "succeeded"),
        ({"type": "succeeded", "message": None}, "errored"),
        ({"type": "succeeded"}, "errored"),
        ({"type": "errored", "error": {"error": {"type": "api_error", "message": "m"}}}, "errored"),
        ({"type": "errored", "error": None}, "errored"),
        ({"type": "errored", "error": {}}, "errored"),
        ({"type": "expired"}, "expired"),
        ({"type": "canceled"}, "canceled"),
        ({"type": "new"}, "errored"),
        ({"type": 7}, "errored"),
        ({}, "errored"),
        (None, "errored"),
        ("text", "errored"),
    ],
)
def test_whatever_a_provider_says_a_line_is_one_of_anthropics(tmp_path: Path, result: Any, kind: str) -> None:
    raw, source, target = tmp_path / "raw", tmp_path / "source", tmp_path / "target"
    raw.write_text(json.dumps({"custom_id": "a", "result": result}) + "\n")
    source.write_bytes(kept(tmp_path, {"requests": [request("a"), request("b", model="other")]}))
    why = errored("Not this one.")
    tally = gather_results(
        [(raw, CANCELED)], source, lambda one: why if one.model == "other" else None, target
    )
    first, second = map(json.loads, target.read_bytes().splitlines())
    assert first["custom_id"] == "a"
    assert first["result"]["type"] == kind
    if kind == "errored":
        assert first["result"]["error"]["error"]["type"] == "api_error"
        assert first["result"]["error"]["error"]["message"]
    assert second == {"custom_id": "b", "result": json.loads(why)}
    expected = Tally(errored=1)
    setattr(expected, kind, getattr(expected, kind) + 1)
    assert tally == expected


def test_of_a_job_that_was_stopped_the_rest_is_errored_and_not_canceled(tmp_path: Path) -> None:
    raw, target, source = tmp_path / "raw", tmp_path / "target", tmp_path / "source"
    raw.write_bytes(b'{"custom_id":"a","result":{"type":"canceled"}}\n')
    source.write_bytes(kept(tmp_path, {"requests": [request("a")]}))
    tally = gather_results([(raw, errored("It was stopped.", "api_error"))], source, lambda _: None, target)
    assert tally == Tally(errored=1)
    assert json.loads(target.read_bytes())["result"]["error"]["error"]["message"] == "It was stopped."
