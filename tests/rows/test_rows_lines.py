import io

from hypothesis import given
from hypothesis import strategies as st

from halfrate.rows.lines import line_blocks

PIECE = st.sampled_from(
    [b"\n", b"\r\n", b"\r", b"\x0b", b"\x0c", b"\x1c", b"\x85", b"x", "\u2028\u2029\u0085".encode()]
)


@given(st.lists(PIECE | st.binary(max_size=9)).map(b"".join), st.integers(1, 30))
def test_only_a_newline_ends_a_line(data: bytes, block: int) -> None:
    copy = io.BytesIO()
    blocks = list(line_blocks(io.BytesIO(data), block=block, tee=copy.write))
    lines = [line for lines in blocks for line in lines]
    assert all(blocks)
    assert b"".join(lines) == copy.getvalue() == data
    assert all(line.endswith(b"\n") for line in lines[:-1])
    assert all(line.count(b"\n") <= 1 and line for line in lines)


def test_blocks_are_of_bounded_size() -> None:
    data = b"x" * 999 + b"\n"
    blocks = list(line_blocks(io.BytesIO(data * 1000)))
    assert len(blocks) > 5
    assert max(sum(map(len, lines)) for lines in blocks) <= (1 << 17) + 1000
