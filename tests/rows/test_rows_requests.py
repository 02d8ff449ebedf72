import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfrate.base.errors import InputError
from halfrate.base.ids import row_prefix, shard_id
from halfrate.base.types import Envelope, Framing
from halfrate.rows.requests import request_lines, rewrite

from .made import ARRAY, BODY, CHAT, LINES, MESSAGES, limits, quoted, request_writer

DIALECTS = pytest.mark.parametrize(("framing", "envelope"), [(LINES, CHAT), (ARRAY, MESSAGES)])


def rows_of(path: Path, framing: Framing) -> list[tuple[str, str]]:
    """(id, prompt) of every row of a request file, as the provider will read it."""
    data = path.read_bytes()
    lines = (
        [json.loads(line) for line in data.split(b"\n") if line]
        if framing == LINES
        else json.loads(data)["requests"]
    )
    return [
        (line["custom_id"], line.get("body", line.get("params"))["messages"][0]["content"]) for line in lines
    ]


@DIALECTS
@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text(max_size=40), min_size=1, max_size=40),
    rows=st.integers(1, 9),
    room=st.integers(400, 900),
)
def test_every_row_goes_out_once_and_within_the_limits(
    tmp_path_factory: pytest.TempPathFactory,
    framing: Framing,
    envelope: Envelope,
    texts: list[str],
    rows: int,
    room: int,
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    writer = request_writer(folder, limits(rows, room, room), framing=framing, envelope=envelope)
    try:
        for at in range(0, len(texts), 7):
            writer.add(quoted(texts[at : at + 7]))
    except InputError:
        writer.abort()
        assert max(map(len, quoted(texts))) > room - 300
        return
    writer.cut()
    seen: list[str] = []
    for shard in writer.shards:
        path = folder / f"{shard.number}.requests"
        assert path.stat().st_size == shard.bytes <= room
        found = rows_of(path, framing)
        assert len(found) == shard.rows <= rows
        assert shard.first_row == len(seen)
        prefix = row_prefix(shard_id("k3v9x2m4qp", shard.number), 1)
        assert [name for name, _ in found] == [f"{prefix}{shard.first_row + i}" for i in range(shard.rows)]
        seen += [text for _, text in found]
    assert seen == texts
    assert writer.rows == len(texts)


def test_shards_are_cut_at_the_row_limit_and_filled_before(tmp_path: Path) -> None:
    writer = request_writer(tmp_path, limits(rows=4))
    writer.add([b"a"] * 4)
    writer.add([b"b"])
    writer.add([b"c"] * 8)
    writer.cut()
    assert [shard.rows for shard in writer.shards] == [4, 4, 4, 1]


@DIALECTS
def test_the_byte_limit_is_kept_to_the_byte(tmp_path: Path, framing: Framing, envelope: Envelope) -> None:
    wide = request_writer(tmp_path, limits(), framing=framing, envelope=envelope)
    wide.add([b"x" * 50] * 10)
    wide.cut()
    size = wide.shards[0].bytes
    # Ids are counted at their widest, so a file of narrow ids keeps at most so much room.
    spare = 10 * 15 + len(framing.separator)
    for room in range(size - 1, size + spare, 7):
        writer = request_writer(tmp_path, limits(size=room, row=room), framing=framing, envelope=envelope)
        writer.add([b"x" * 50] * 10)
        writer.cut()
        assert all(shard.bytes <= room for shard in writer.shards)
        assert sum(shard.rows for shard in writer.shards) == 10
    writer = request_writer(tmp_path, limits(size=size + spare, row=size), framing=framing, envelope=envelope)
    writer.add([b"x" * 50] * 10)
    writer.cut()
    assert len(writer.shards) == 1


@DIALECTS
@pytest.mark.parametrize("each", [1, 3, 10])
def test_the_byte_limit_holds_where_much_follows_the_prompt(
    tmp_path: Path, framing: Framing, envelope: Envelope, each: int
) -> None:
    # A schema stands behind the prompt, and the last row's is written when the shard is cut.
    body = (BODY[0], BODY[1][:-1] + b',"schema":"' + b"s" * 400 + b'"}')
    texts = [f"text {i}" for i in range(30)]
    for room in range(3000, 4500, 100):
        most = limits(size=room, row=room)
        writer = request_writer(tmp_path, most, framing=framing, envelope=envelope, body=body)
        for at in range(0, 30, each):
            writer.add(quoted(texts[at : at + each]))
        writer.cut()
        assert all(shard.bytes <= room for shard in writer.shards)
        paths = [tmp_path / f"{shard.number}.requests" for shard in writer.shards]
        assert [path.stat().st_size for path in paths] == [shard.bytes for shard in writer.shards]
        assert [text for path in paths for _, text in rows_of(path, framing)] == texts


@DIALECTS
def test_a_row_larger_than_a_batch_is_refused(tmp_path: Path, framing: Framing, envelope: Envelope) -> None:
    # The limit of a row may be that of the whole batch: framing counts as well, and must not loop for ever.
    writer = request_writer(tmp_path, limits(size=1000, row=1000), framing=framing, envelope=envelope)
    writer.add([b"a"] * 3)
    with pytest.raises(InputError, match=r"row 5 .*OpenAI takes at most") as caught:
        writer.add([b"a", b"x" * 1000])
    assert caught.value.row == 4
    for length in range(820, 1000):
        fresh = request_writer(tmp_path, limits(size=1000, row=1000), framing=framing, envelope=envelope)
        try:
            fresh.add([b"x" * length])
        except InputError:
            break
        fresh.cut()
        assert fresh.shards[0].bytes <= 1000
    else:
        pytest.fail("a row of any size was taken")
    writer.abort()


def test_a_new_model_begins_a_new_shard(tmp_path: Path) -> None:
    writer = request_writer(tmp_path, limits())
    for model in ("a", "a", "b", "a"):
        writer.add([b"x", b"y"], model)
    writer.cut()
    assert [(shard.model, shard.rows) for shard in writer.shards] == [("a", 4), ("b", 2), ("a", 2)]


def test_models_that_alternate_are_refused(tmp_path: Path) -> None:
    writer = request_writer(tmp_path, limits())
    for i in range(21):
        writer.add([b"x"], f"model-{i % 2}")
    with pytest.raises(InputError, match="Sort the file by model"):
        writer.add([b"x"], "model-1")
    assert len(writer.shards) == 21
    writer = request_writer(tmp_path, limits())
    for i in range(40):
        writer.add([b"x"] * 100, f"model-{i}")
    writer.cut()
    assert len(writer.shards) == 40


def test_embedding_inputs_cut_shards_as_well(tmp_path: Path) -> None:
    writer = request_writer(tmp_path, limits(inputs=10))
    writer.add([b"x"] * 6, "", [4, 4, 4, 10, 1, 9])
    writer.add([b"x"] * 2, "", [1, 1])
    writer.cut()
    assert [shard.rows for shard in writer.shards] == [2, 1, 1, 2, 2]
    one_each = request_writer(tmp_path, limits(inputs=10))
    one_each.add([b"x"] * 25)
    one_each.cut()
    assert [shard.rows for shard in one_each.shards] == [10, 10, 5]
    with pytest.raises(InputError, match="asks to embed 11 texts"):
        request_writer(tmp_path, limits(inputs=10)).add([b"x", b"y"], "", [1, 11])


@DIALECTS
def test_a_later_attempt_sends_the_same_bodies_under_new_ids(
    tmp_path: Path, framing: Framing, envelope: Envelope
) -> None:
    writer = request_writer(tmp_path, limits(rows=20), framing=framing, envelope=envelope)
    texts = [f'{{"nested": "text {i}\u2028"}},' for i in range(45)]
    writer.add(quoted(texts))
    writer.cut()
    source, target = tmp_path / "1.requests", tmp_path / "1.second"
    shard = shard_id("k3v9x2m4qp", 1)
    old, new = row_prefix(shard, 1), row_prefix(shard, 2)
    size = rewrite(
        source,
        target,
        framing=framing,
        envelope=envelope,
        old_prefix=old,
        new_prefix=new,
        first_row=20,
        keep=[0, 3, 19],
    )
    assert size == target.stat().st_size
    assert rows_of(target, framing) == [(f"{new}{20 + slot}", texts[20 + slot]) for slot in (0, 3, 19)]
    third = tmp_path / "1.third"
    rewrite(
        target,
        third,
        framing=framing,
        envelope=envelope,
        old_prefix=new,
        new_prefix=row_prefix(shard, 10),
        first_row=20,
        keep=[],
    )
    assert rows_of(third, framing) == []


@DIALECTS
def test_request_lines_leave_the_framing_out(tmp_path: Path, framing: Framing, envelope: Envelope) -> None:
    writer = request_writer(tmp_path, limits(), framing=framing, envelope=envelope)
    writer.add(quoted(["a,", "b]}"]))
    writer.cut()
    lines = [line for block in request_lines(tmp_path / "0.requests", framing) for line in block]
    assert [json.loads(line)["custom_id"][-1] for line in lines] == ["0", "1"]


@DIALECTS
@pytest.mark.parametrize(
    ("rows", "least", "cut"),
    [
        (20, 5, [10, 10]),
        (22, 5, [10, 7, 5]),
        (21, 9, [3, 9, 9]),
        (28, 9, [10, 9, 9]),
        (7, 9, [7]),
    ],
)
def test_a_shard_takes_what_it_lacks_from_the_one_before(
    tmp_path: Path, framing: Framing, envelope: Envelope, rows: int, least: int, cut: list[int]
) -> None:
    texts = [f'{n} ünï \n, "{"x" * n}' for n in range(rows)]
    writer = request_writer(tmp_path, limits(10), framing=framing, envelope=envelope)
    writer.add(quoted(texts))
    writer.cut()
    writer.level(least)
    assert [shard.rows for shard in writer.shards] == cut
    first = 0
    for shard in writer.shards:
        path = tmp_path / f"{shard.number}.requests"
        assert (shard.first_row, shard.bytes) == (first, path.stat().st_size)
        prefix = row_prefix(shard_id("k3v9x2m4qp", shard.number), 1)
        wanted = [(f"{prefix}{row}", texts[row]) for row in range(first, first + shard.rows)]
        assert rows_of(path, framing) == wanted
        first += shard.rows
    assert first == rows


@pytest.mark.parametrize("before", ["", "Be brief.", 'a "quoted" text\\', '\\"', ": [,{"])
def test_a_prompt_within_a_longer_text_goes_in_without_its_quotes(tmp_path: Path, before: str) -> None:
    opened = json.dumps({"prompt": f"{before}<|user|>"})[:-2].encode()
    writer = request_writer(tmp_path, limits(10), body=(opened, b'<|end|>","max":3}'))
    texts = ['say "x"\\', "ünï \n", ""]
    writer.add(quoted(texts))
    writer.cut()
    lines = [json.loads(line) for line in (tmp_path / "0.requests").read_bytes().split(b"\n") if line]
    assert [line["body"] for line in lines] == [
        {"prompt": f"{before}<|user|>{text}<|end|>", "max": 3} for text in texts
    ]
