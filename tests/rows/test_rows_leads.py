"""Rows that begin alike, counted and cut as they stand in a prompt's JSON."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halfrate.base.errors import StorageError
from halfrate.rows.leads import STEP, FirstRows, LeadCount, LeadMarks, Leads, leaders_of
from halfrate.rows.requests import ShardFile

CUT = b'","mark":1},{"text":"'


def encoded(lead: str, rest: str) -> tuple[bytes, int]:
    """A prompt, and where its lead ends."""
    return json.dumps(lead + rest).encode(), len(json.dumps(lead)) - 1


def shards(sizes: Sequence[int]) -> list[ShardFile]:
    firsts = [sum(sizes[:number]) for number in range(len(sizes))]
    return [
        ShardFile(number=number, first_row=first, rows=rows, bytes=0, model="")
        for number, (first, rows) in enumerate(zip(firsts, sizes, strict=True))
    ]


def marks_of(folder: Path, fewest: int, shortest: int, first: int = 0) -> LeadMarks:
    """One leader each, two of a group of nine."""
    return LeadMarks(
        folder / "leads",
        0,
        fewest=fewest,
        shortest=shortest,
        cut=CUT,
        leaders_in=lambda rows: 1 + rows // 9,
        first=first,
        target=lambda number: folder / str(number),
    )


def through(leads: Leads, rows: Sequence[tuple[str, str]], sizes: Sequence[int]) -> list[bytes]:
    """Prompts as they are to be sent, taken in by twos, with every shard settled as soon as its rows are in."""
    sent: list[bytes] = []
    for at in range(0, len(rows), 2):
        prompts, ends = zip(*(encoded(*row) for row in rows[at : at + 2]), strict=True)
        sent += leads.take(prompts, ends)
        leads.settle([shard for shard in shards(sizes) if shard.first_row + shard.rows <= len(sent)])
    leads.close()
    return sent


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b\n", 'c"é']), st.integers(0, 99)), min_size=1, max_size=40),
    st.integers(1, 15),
)
def test_each_group_of_a_shard_has_leaders_and_its_text_is_as_it_was(
    tmp_path: Path, drawn: list[tuple[str, int]], size: int
) -> None:
    rows = [(kind * 100, f" and {number}?") for kind, number in drawn]
    sizes = [len(rows[at : at + size]) for at in range(0, len(rows), size)]
    count = LeadCount(tmp_path / "leads", 0)
    assert through(count, rows, sizes) == [encoded(*row)[0] for row in rows]
    expected: Counter[tuple[int, int]] = Counter()
    leaders: dict[int, list[int]] = {}
    marked: set[int] = set()
    for shard in shards(sizes):
        part = [lead for lead, _ in rows[shard.first_row : shard.first_row + shard.rows]]
        for lead, many in Counter(part).items():
            if many > 1:
                expected[encoded(lead, "")[1] // STEP * STEP, many] += 1
            if many >= 3:
                slots = [slot for slot, other in enumerate(part) if other == lead]
                leaders.setdefault(shard.number, []).extend(slots[: 1 + many // 9])
                marked |= {shard.first_row + slot for slot in slots}
    assert count.groups == expected
    marks = marks_of(tmp_path, fewest=3, shortest=1)
    sent = through(marks, rows, sizes)
    for row, (lead, rest) in enumerate(rows):
        if row in marked:
            before, after = sent[row].split(CUT)
            assert (json.loads(before + b'"'), json.loads(b'"' + after)) == (lead, rest)
        else:
            assert sent[row] == encoded(lead, rest)[0]
    assert marks.leaders == {number: len(slots) for number, slots in leaders.items()}
    for number, slots in leaders.items():
        assert leaders_of(tmp_path / str(number), len(slots)) == sorted(slots)


@pytest.mark.parametrize("rest", ["", " ", "\n\t ", "\x0b"])
def test_nothing_is_cut_off_from_nothing(tmp_path: Path, rest: str) -> None:
    rows = [("a document", rest)] * 4 + [(" \n", "a question")] * 4
    through(LeadCount(tmp_path / "leads", 0), rows, [8])
    marks = marks_of(tmp_path, fewest=2, shortest=1)
    assert through(marks, rows, [8]) == [encoded(*row)[0] for row in rows]
    assert marks.leaders == {}


def test_leads_that_are_too_short_are_left(tmp_path: Path) -> None:
    rows = [("short", "?")] * 4 + [("a longer one", "?")] * 4
    through(LeadCount(tmp_path / "leads", 0), rows, [8])
    marks = marks_of(tmp_path, fewest=3, shortest=8)
    assert [CUT in prompt for prompt in through(marks, rows, [8])] == [False] * 4 + [True] * 4
    assert leaders_of(tmp_path / "0", 1) == [4]


def test_of_a_group_that_a_cut_has_parted_the_rows_that_are_left_alone_lead_nobody(tmp_path: Path) -> None:
    rows = [("a document", f"{n}?") for n in range(4)]
    through(LeadCount(tmp_path / "leads", 0), rows, [4])
    marks = marks_of(tmp_path, fewest=3, shortest=1)
    through(marks, rows, [3, 1])
    assert marks.leaders == {0: 1}


def test_leaders_that_cannot_be_read_are_said_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="was moved or removed"):
        leaders_of(tmp_path / "none", 1)
    (tmp_path / "short").write_bytes(b"\0\0")
    with pytest.raises(StorageError, match="was moved or removed"):
        leaders_of(tmp_path / "short", 1)


def test_so_many_rows_of_a_batch_go_first_at_least(tmp_path: Path) -> None:
    rows = [("nothing", "?"), *[("a document", f"{n}?") for n in range(4)], ("more", "?")]
    through(LeadCount(tmp_path / "leads", 0), rows, [6])
    marks = marks_of(tmp_path, fewest=3, shortest=1, first=2)
    through(marks, rows, [6])
    assert leaders_of(tmp_path / "0", marks.leaders[0]) == [0, 1]


def test_the_first_rows_of_each_batch_go_first_where_others_are_left(tmp_path: Path) -> None:
    rows = [("a", f"{n}?") for n in range(9)]
    first = FirstRows(2, lambda number: tmp_path / str(number))
    assert through(first, rows, [3, 4, 2]) == [encoded(*row)[0] for row in rows]
    assert first.leaders == {0: 2, 1: 2}
    assert leaders_of(tmp_path / "1", 2) == [0, 1]
