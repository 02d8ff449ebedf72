"""A job's results as Python values, in row order and constant memory."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from halfrate.base.money import parse_usd
from halfrate.rows.records import Records, ShardView, record_decoder
from halfrate.rows.values import decode_value

_BLOCK: Final = 1000


class ResultRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one row.

    `answer`: text, or whatever the JSON of the answer stands for, or None. `cost`: picodollars, None where the
    price is unknown.
    """

    row: int
    answer: Any
    status: str
    error: str | None
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    cost: int | None
    model: str | None
    finish_reason: str | None


def iter_results(
    shards: Sequence[ShardView], names: dict[str, str], *, unknown_record: bytes
) -> Iterator[ResultRecord]:
    """Decoded results of all rows.

    Args:
        shards: all shards of the job, in row order.
        names: our column name -> the job's own, as the records were written.
        unknown_record: the record of a row that no attempt knows.
    """
    decode = record_decoder(names)
    row = 0
    with Records(shards, unknown_record) as records:
        while block := records.take(_BLOCK):
            for data in block:
                record = decode(data)
                cost = bytes(record.cost_usd)
                yield ResultRecord(
                    row=row,
                    answer=decode_value(bytes(record.answer)),
                    status=record.status,
                    error=record.error,
                    input_tokens=record.input_tokens,
                    cached_tokens=record.cached_tokens,
                    output_tokens=record.output_tokens,
                    cost=None if cost == b"null" else parse_usd(cost.decode()),
                    model=record.model,
                    finish_reason=record.finish_reason,
                )
                row += 1
