"""The rows of a Vertex AI batch prediction job, from Cloud Storage or BigQuery (batch prediction pages).

A row of a file is `{"request": {...}}`, with a `key` if it likes; a row of a table has a column `request` with JSON in
it and any others, which come back with the answer. What is wrong with the input fails the job, after its creation.
"""

from array import array
from collections.abc import Iterable, Iterator

import msgspec

from halfrate.emulator._bigquery_store import read_uri
from halfrate.emulator._context import Context
from halfrate.emulator._gcs_store import split_uri
from halfrate.emulator._gemini_wire import pick, pick_document
from halfrate.emulator._jobs import Input
from halfrate.emulator._wire import ApiError, Document, as_document, as_list


class Source(msgspec.Struct, frozen=True):
    """Where rows come from: objects, or one table."""

    uris: list[str]
    table: str | None = None


def read_source(config: Document) -> Source:
    """The source that a create call names. ApiError 400 for none."""
    form = pick(config, "instancesFormat")
    objects = as_list(pick(pick_document(config, "gcsSource"), "uris"))
    table = pick(pick_document(config, "bigquerySource"), "inputUri")
    if form == "jsonl" and objects:
        uris = [str(uri) for uri in objects]
        for uri in uris:
            split_uri(uri)
        return Source(uris)
    if form == "bigquery" and isinstance(table, str):
        read_uri(table)
        return Source([], table)
    raise ApiError(400, "The input must be jsonl in Cloud Storage, or a BigQuery table.")


def read_rows(context: Context, source: Source, asks: str) -> Input:
    """Copy the rows to a file of their own, so that they are read once. `asks`: what every request must have."""
    found = Input(context.spool.new(), array("Q"))
    limits, position = context.limits, 0
    with found.path.open("wb") as target:
        for number, line in enumerate(_lines(context, source, found.problems), 1):
            problem = _problem(line, asks)
            if problem is not None:
                found.problems.append(f"Row {number} of the input: {problem}")
                break
            found.offsets.append(position)
            position += target.write(line.rstrip(b"\r\n") + b"\n")
    if len(found.offsets) > limits.vertex_rows:
        found.problems.append(f"The input has more than {limits.vertex_rows} rows.")
    if not found.offsets and not found.problems:
        found.problems.append("The input has no rows.")
    return found


def _lines(context: Context, source: Source, problems: list[str]) -> Iterator[bytes]:
    if source.table is not None:
        yield from _table_lines(context, source.table, problems)
        return
    for uri in source.uris:
        stored = context.buckets.get(*split_uri(uri))
        if stored is None:
            problems.append(f"The object {uri} does not exist, or the service agent may not read it.")
            return
        if stored.size > context.limits.vertex_file_bytes:
            problems.append(f"The object {uri} is larger than {context.limits.vertex_file_bytes} bytes.")
            return
        with stored.path.open("rb") as lines:
            yield from filter(bytes.strip, lines)


def _table_lines(context: Context, uri: str, problems: list[str]) -> Iterable[bytes]:
    table = context.tables.get(read_uri(uri))
    if table is None:
        problems.append(f"The table {uri} does not exist, or the service agent may not read it.")
        return
    for row in table.rows():
        request = row.get("request")
        if isinstance(request, str):
            try:
                request = msgspec.json.decode(request)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                request = None
        others = {name: value for name, value in row.items() if name != "request"}
        yield msgspec.json.encode({"request": request, "columns": others})


def _problem(line: bytes, asks: str) -> str | None:
    try:
        row = as_document(msgspec.json.decode(line))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "it is not valid JSON."
    request = None if row is None else as_document(row.get("request"))
    if request is None:
        return "it has no `request`."
    return None if asks in request else f"its request has no `{asks}`."
