"""What a format is to the reader of files: how it is recognised, what is read of a row, and what a row means."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from halfrate.core.audit_call import Call

Meaning = Call | Sequence[Call] | None
"""Of a row: a call, the calls that it stands for, or nothing that is one."""


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of log or export.

    Args:
        name: for programs. title: for people.
        fits: whether an object, or a table, with fields of these names is of this format.
        rows: from the names of fields to what of a row is read: a struct, every field of which has a default.
        read: what a row means. It raises nothing, whatever stands in the row.
        inside: names under which a document holds its rows in an array.
    """

    name: str
    title: str
    fits: Callable[[frozenset[str]], bool]
    rows: Callable[[frozenset[str]], type[msgspec.Struct]]
    read: Callable[[Any], Meaning]
    inside: tuple[str, ...] = ("data",)
