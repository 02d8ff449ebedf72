"""How each row of a job was served, where that was not in a batch."""

from collections.abc import Iterable

import msgspec

from halfrate.base.ids import row_prefix
from halfrate.base.results import Kind, UnreadableLine
from halfrate.blobs.files import JobFiles
from halfrate.core.job import Job
from halfrate.core.lifecycle import Shard
from halfrate.providers.registry import decoder
from halfrate.rows.lines import line_blocks


def tiers(job: Job, shards: Iterable[Shard], files: JobFiles) -> dict[int, str]:
    """The tiers of rows that were answered in real time, by their numbers. Memory grows with those alone."""
    adapter = decoder(job.spec.provider)
    found: dict[int, str] = {}
    for shard in shards:
        for attempt in range(1, shard.attempt + 1):
            if not files.called(shard.number, attempt):
                continue
            read = adapter.line_reader(job.spec.endpoint, row_prefix(shard.id, attempt)).general
            for path in files.all_results(shard.number, attempt):
                with path.open("rb") as stream:
                    for line in (line for lines in line_blocks(stream) for line in lines):
                        try:
                            row = read(line)
                        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, UnreadableLine):
                            continue
                        if row.kind == Kind.SUCCEEDED:
                            found[row.row] = adapter.tier_of(line)
    return found
