import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfrate.base.errors import StorageError
from halfrate.base.results import Kind
from halfrate.rows.outcomes import KIND, LONGEST, PLACE, OutcomeFile, OutcomeWriter, ShardOutcomes
from halfrate.rows.records import Records, ShardView

from .made import UNKNOWN, answered, outcome_file, refused


@given(st.lists(st.none() | st.text(max_size=30), max_size=30), st.integers(1, 9))
def test_records_come_back_in_row_order(
    tmp_path_factory: pytest.TempPathFactory, answers: list[str | None], step: int
) -> None:
    folder = tmp_path_factory.mktemp("outcomes")
    records = [None if answer is None else answered(answer) for answer in answers]
    path = outcome_file(folder / "0", records)
    with ShardOutcomes([path], len(records)) as shard:
        found = [
            record
            for at in range(0, len(records), step)
            for record in shard.records(at, min(at + step, len(records)), UNKNOWN)
        ]
    # What was given out stays readable after the file was closed.
    assert found == [UNKNOWN if record is None else record for record in records]


def test_the_newest_attempt_that_knows_a_row_speaks_for_it(tmp_path: Path) -> None:
    a, b, c = answered("a"), refused("429: later"), refused("400: no")
    first = outcome_file(
        tmp_path / "1", [a, b, b, None], [Kind.SUCCEEDED, Kind.FAILED_PASSING, Kind.MISSING, Kind.UNKNOWN]
    )
    second = outcome_file(
        tmp_path / "2", [None, c, None, None], [Kind.UNKNOWN, Kind.FAILED] + [Kind.UNKNOWN] * 2
    )
    with ShardOutcomes([first, second], 4) as shard:
        assert shard.records(0, 4, UNKNOWN) == [a, c, b, UNKNOWN]
        assert shard.records(1, 2, UNKNOWN) == [c]
        assert list(shard.kinds()) == [Kind.SUCCEEDED, Kind.FAILED, Kind.MISSING, Kind.UNKNOWN]
    with OutcomeFile(first) as file:
        assert list(file.slots_of(Kind.FAILED_PASSING, Kind.MISSING)) == [1, 2]
        assert file.kind(0) == Kind.SUCCEEDED
        assert file.record(2) == b
        assert file.records(0, 4) is None


def test_a_shard_without_any_attempt_knows_nothing(tmp_path: Path) -> None:
    with ShardOutcomes([], 3) as shard:
        assert shard.records(0, 3, UNKNOWN) == [UNKNOWN] * 3
    with Records([ShardView(0, 2, ()), ShardView(2, 1, ())], UNKNOWN) as records:
        assert records.take(10) == [UNKNOWN] * 3
        assert records.row == records.rows == 3


def test_a_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    path = outcome_file(tmp_path / "0", [answered(str(i)) for i in range(20)])
    whole = path.read_bytes()
    for size in (0, 1, 10, 23, 24, len(whole) // 2, len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(StorageError):
            OutcomeFile(path)
    path.write_bytes(whole + b"\n")
    with pytest.raises(StorageError, match="not an outcome file"):
        OutcomeFile(path)
    path.unlink()
    with pytest.raises(StorageError, match="moved or removed"):
        OutcomeFile(path)


def test_nothing_is_left_of_a_file_that_was_not_committed(tmp_path: Path) -> None:
    with OutcomeWriter(tmp_path / "0", 2) as writer:
        writer.add(0, Kind.SUCCEEDED, answered("a"))
        writer.flush()
    assert os.listdir(tmp_path) == []  # noqa: PTH208


@pytest.mark.parametrize("at_once", [False, True])
def test_a_place_holds_offset_length_and_kind(tmp_path: Path, *, at_once: bool) -> None:
    a, b, c = answered("a"), answered("bb"), refused("400: no")
    with OutcomeWriter(tmp_path / "0", 4) as writer:
        if at_once:
            writer.add_all([3, 1], Kind.SUCCEEDED, [a[:4], b], [a[4:], b""], a + b)
        else:
            writer.add(3, Kind.SUCCEEDED, a)
            writer.add(1, Kind.SUCCEEDED, b)
        writer.flush()
        writer.add(0, Kind.FAILED, c)
        assert list(writer.index) == [
            len(a + b) << PLACE | len(c) << KIND | Kind.FAILED,
            len(a) << PLACE | len(b) << KIND | Kind.SUCCEEDED,
            0,
            len(a) << KIND | Kind.SUCCEEDED,
        ]
        kinds = [writer.kind(slot) for slot in range(4)]
        assert kinds == [Kind.FAILED, Kind.SUCCEEDED, Kind.UNKNOWN, Kind.SUCCEEDED]
        writer.commit()
    assert (tmp_path / "0").read_bytes().startswith(a + b + c)


@pytest.mark.parametrize("at_once", [False, True])
def test_a_record_too_long_for_its_place_ends_at_its_newline(tmp_path: Path, *, at_once: bool) -> None:
    edge = answered("")
    edge = answered("x" * (LONGEST - len(edge)))
    assert len(edge) == LONGEST
    long = answered("y" * (LONGEST + 1))
    records = [answered("a"), long, edge, answered("b")]
    path = tmp_path / "0"
    with OutcomeWriter(path, 4) as writer:
        if at_once:
            came = [records[slot] for slot in (1, 3, 0, 2)]
            heads, tails = [record[:7] for record in came], [record[7:] for record in came]
            writer.add_all([1, 3, 0, 2], Kind.SUCCEEDED, heads, tails, b"".join(came))
        else:
            for slot in (1, 3, 0, 2):
                writer.add(slot, Kind.SUCCEEDED, records[slot])
        writer.commit()
    with OutcomeFile(path) as file:
        assert [value >> KIND & LONGEST for value in file.index] == [
            len(records[0]), 0, LONGEST, len(records[3]),
        ]  # fmt: skip
        assert file.records(0, 4) == records
        assert file.records(2, 4) == records[2:]
        assert [file.record(slot) for slot in range(4)] == records
    with Records([ShardView(0, 4, (path,))], UNKNOWN) as taken:
        assert taken.take_all(4) == records
        with pytest.raises(StorageError, match="was changed"):
            taken.take_all(1)
