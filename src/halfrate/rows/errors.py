"""What to tell somebody about a row that cannot be sent."""

from halfrate.base.errors import InputError

NOTHING_SENT = "Nothing was sent."


def place(name: str, line: int | None, row: int) -> str:
    """Where a fault is, in the reader's own terms: a line of a text file, else a row."""
    return f"{name}, line {line}" if line is not None else f"{name}, row {row + 1}"


def malformed(name: str, line: int, row: int, reason: str) -> InputError:
    return InputError(f"{place(name, line, row)}: {reason} {NOTHING_SENT}", row=row, line=line)


def untranslatable(name: str, line: int, row: int, field: str, reason: str, provider: str) -> InputError:
    return InputError(
        f"{place(name, line, row)}: {field} cannot be asked of {provider}: {reason}. {NOTHING_SENT}",
        row=row,
        line=line,
        column=field,
    )


def no_rows(name: str) -> InputError:
    return InputError(f"{name} has no rows. {NOTHING_SENT}")


def missing_column(
    name: str, line: int | None, row: int, column: str, columns: tuple[str, ...] = ()
) -> InputError:
    has = f" It has: {', '.join(columns[:12])}{', ...' if len(columns) > 12 else ''}." if columns else ""
    return InputError(
        f"{place(name, line, row)}: there is no column {column!r}, which the prompt names.{has} "
        f"Write {{{{{column}}}}} for literal braces. {NOTHING_SENT}",
        row=row,
        line=line,
        column=column,
    )


def empty_value(name: str, line: int | None, row: int, column: str) -> InputError:
    return InputError(
        f"{place(name, line, row)}: column {column!r} is empty, and a row without it would be paid for "
        f"all the same. Fill or remove the row, or pass --allow-empty. {NOTHING_SENT}",
        row=row,
        line=line,
        column=column,
    )


def too_large(name: str, row: int, size: int, limit: int, provider: str) -> InputError:
    return InputError(
        f"{name}, row {row + 1} (counting from 1) makes a request of {size:,} bytes; {provider} takes at "
        f"most {limit:,} in one batch. Shorten or remove that row. {NOTHING_SENT}",
        row=row,
    )


def without_room(name: str, row: int, field: str, provider: str) -> InputError:
    return InputError(
        f"{name}, row {row + 1} (counting from 1) asks nothing, or has {field!r} of its own, where {provider}'s rows "
        f"bear their ids. Remove that from the row. {NOTHING_SENT}",
        row=row,
        column=field,
    )


def too_many_inputs(name: str, row: int, count: int, limit: int, provider: str) -> InputError:
    return InputError(
        f"{name}, row {row + 1} (counting from 1) asks to embed {count:,} texts; {provider} takes at most "
        f"{limit:,} in one batch. Split that row. {NOTHING_SENT}",
        row=row,
    )


def interleaved(name: str, shards: int, rows: int, provider: str) -> InputError:
    return InputError(
        f"{name}: the first {rows:,} rows change their model so often that they would make {shards:,} batches; "
        f"{provider} takes one model in a batch. Sort the file by model. {NOTHING_SENT}"
    )
