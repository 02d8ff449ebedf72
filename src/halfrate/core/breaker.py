"""When a job is stopped before it spends its budget on rows that fail.

A wrong schema, a prompt that the model refuses, a model that was withdrawn: then every row fails for the same reason,
and every batch that is still to be sent would, and every retry.
"""

from typing import Final

from halfrate.base.results import Collection

_SHARE: Final = 0.5
_ROWS: Final = 50
"""Fewer rows than that say nothing about the others."""


def tripped(collection: Collection, sent: int) -> str | None:
    """Why nothing more of the job should be sent after an attempt that took `sent` rows; None if all is well.

    Counted are rows that another attempt would not cure, and answers that were paid for and are not valid.
    """
    counts = collection.counts
    refused = counts.failed + counts.expired + counts.cancelled - collection.unsettled
    lost = refused + collection.invalid
    if lost < _ROWS or lost < _SHARE * sent:
        return None
    reason = f": {collection.errors[0][0]}" if collection.errors else ""
    return f"{lost:,} of the {sent:,} rows of one batch failed{reason}"
