"""A table of JSON objects, one a line, read without decoding what nobody asked for.

The text of a column goes from the input line into the request *still escaped*: it is already valid inside a
JSON string, so it is copied, not decoded and encoded again. That is where most of the speed comes from.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, Literal, NoReturn, cast

import msgspec

from halfrate.base.types import Template
from halfrate.rows import errors
from halfrate.rows.lines import line_blocks
from halfrate.rows.requests import Encoded
from halfrate.rows.values import escaped, why_not_json

_BOM = b"\xef\xbb\xbf"
_QUOTE = 34
_is_string = bytearray(b"#").__gt__
"""Whether a JSON value is a string: of all that can begin one, a quote alone comes before this. Copies nothing."""
_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class JsonlTable:
    """Reads a JSONL table, checks every row, and gives the prompt of each as a JSON string.

    Args:
        stream: the file, from its start.
        name: what to call it in messages.
        template: the prompt.
        reserved: names of output columns; those that any row already has are in `taken` afterwards.
        id_column: a column that every row must have, besides the prompt's.
        allow_empty: let an empty or null column through as empty text.
        lead: how many bytes after the first column belong to a prompt's lead; None where `ends` is not asked for.
        tee: receives every block as read.
    """

    def __init__(
        self,
        stream: BinaryIO,
        *,
        name: str,
        template: Template,
        reserved: tuple[str, ...] = (),
        id_column: str | None = None,
        allow_empty: bool = False,
        lead: int | None = None,
        tee: Callable[[bytes], object] | None = None,
    ) -> None:
        self.taken: set[str] = set()
        self.ends: list[int] = []
        """Where the lead of each prompt of the newest block ends."""
        self._lead = lead
        self._stream = stream
        self._name = name
        self._template = template
        self._reserved = reserved
        self._allow_empty = allow_empty
        self._tee = tee
        wanted = dict.fromkeys(template.columns)
        if id_column is not None:
            wanted.setdefault(id_column)
        self._columns = tuple(wanted)
        self._literals = tuple(escaped(text) for text in template.literals)
        self._decode = self._decoder()

    def prompts(self) -> Iterator[Sequence[Encoded]]:
        """Prompts as JSON strings, in row order, a block at a time. Raises InputError at the first row at fault."""
        row = 0
        line = 1
        fill = self._filler()
        for lines in line_blocks(self._stream, tee=self._tee):
            if line == 1 and lines[0].startswith(_BOM):
                lines[0] = lines[0][3:]
            numbers = None
            try:
                objects = list(map(self._decode, lines))
            except _FAULTS:
                numbers = [line + i for i, text in enumerate(lines) if text.strip()]
                objects = self._carefully([t for t in lines if t.strip()], numbers, row)
            if numbers is None:
                self._check_text(lines, line, row)
            if objects:
                try:
                    prompts = fill(objects)
                    if self._lead is not None:
                        self.ends = self._ends(objects, self._lead)
                    yield prompts
                except _EmptyValueError as fault:
                    where = numbers[fault.index] if numbers else line + fault.index
                    raise errors.empty_value(
                        self._name, where, row + fault.index, self._columns[fault.column]
                    ) from None
            row += len(objects)
            line += len(lines)
        if row == 0:
            raise errors.no_rows(self._name)

    def _decoder(self) -> Callable[[bytes], Any]:
        fields: list[Any] = [(f"c{i}", msgspec.Raw) for i in range(len(self._columns))]
        rename = {f"c{i}": column for i, column in enumerate(self._columns)}
        for i, name in enumerate(n for n in self._reserved if n not in self.taken and n not in self._columns):
            # A type that no value has: the first row that brings this name fails to decode, which sends it to
            # the careful path, where the name is noted. Rows that do not bring it pay nothing.
            fields.append((f"r{i}", Literal["\x00never"] | msgspec.UnsetType, msgspec.UNSET))
            rename[f"r{i}"] = name
        self.taken.update(n for n in self._reserved if n in self._columns)
        struct = msgspec.defstruct("Row", fields, rename=rename, gc=False)
        return msgspec.json.Decoder(struct).decode

    def _carefully(self, lines: list[bytes], numbers: list[int], row: int) -> list[Any]:
        """Decode line by line: find the first line at fault, or learn which of our names the input has."""
        objects: list[Any] = []
        for i, text in enumerate(lines):
            try:
                text.decode()
            except UnicodeDecodeError as fault:
                self._not_utf8(numbers[i], row + i, fault)
            try:
                objects.append(self._decode(text))
            except _FAULTS as error:
                objects.append(self._explain(text, numbers[i], row + i, error))
        return objects

    def _explain(self, text: bytes, line: int, row: int, error: Exception) -> Any:
        try:
            value = msgspec.json.decode(text)
        except _FAULTS as fault:
            raise errors.malformed(self._name, line, row, why_not_json(text, fault)) from None
        if not isinstance(value, dict):
            kind = type(value).__name__
            raise errors.malformed(self._name, line, row, f"expected a JSON object, found a {kind}.")
        found = cast("dict[str, Any]", value)
        for column in self._columns:
            if column not in found:
                raise errors.missing_column(self._name, line, row, column, tuple(found))
        clashes = {n for n in self._reserved if n in found} - self.taken
        if not clashes:
            raise errors.malformed(self._name, line, row, f"this row cannot be read ({error}).")
        self.taken |= clashes
        self._decode = self._decoder()
        return self._decode(text)

    def _check_text(self, lines: list[bytes], line: int, row: int) -> None:
        """Refuse text that is not UTF-8: providers reject a whole file for one such byte. No line is blank."""
        suspects = [text for text in lines if not text.isascii()]
        try:
            b"".join(suspects).decode()
        except UnicodeDecodeError:
            for i, text in enumerate(lines):
                try:
                    text.decode()
                except UnicodeDecodeError as fault:
                    self._not_utf8(line + i, row + i, fault)

    def _not_utf8(self, line: int, row: int, fault: UnicodeDecodeError) -> NoReturn:
        reason = f"byte {fault.start + 1} is not UTF-8 ({fault.reason}). Save the file as UTF-8."
        raise errors.malformed(self._name, line, row, reason)

    def _filler(self) -> Callable[[list[Any]], Sequence[Encoded]]:
        """A function from decoded rows to prompts as JSON strings, made once for the shape of the template."""
        literals = self._literals
        order = tuple(self._columns.index(column) for column in self._template.columns)
        if not order:
            return lambda objects: [b'"%b"' % literals[0]] * len(objects)
        if order == (0,) and literals == (b"", b""):
            return self._copied
        names = tuple(f"c{position}" for position in order)

        def fill(objects: list[Any]) -> list[bytes]:
            prompts: list[bytes] = []
            for i, item in enumerate(objects):
                pieces = [b'"', literals[0]]
                for k, field in enumerate(names):
                    pieces.append(self._text(bytes(getattr(item, field)), i, order[k]))
                    pieces.append(literals[k + 1])
                pieces.append(b'"')
                prompts.append(b"".join(pieces))
            return prompts

        return fill

    def _ends(self, objects: list[Any], lead: int) -> list[int]:
        place = self._columns.index(self._template.columns[0])
        values = [bytes(getattr(item, f"c{place}")) for item in objects]
        lead += 1 + len(self._literals[0])
        return [lead + len(self._text(value, i, place)) for i, value in enumerate(values)]

    def _copied(self, objects: list[Any]) -> Sequence[Encoded]:
        """The commonest template, a column and nothing else: its strings go through without being touched."""
        values: list[msgspec.Raw] = [item.c0 for item in objects]
        if all(map(_is_string, values)) and (self._allow_empty or min(map(len, values)) > 2):
            return values
        return [b'"%b"' % self._text(bytes(value), i, 0) for i, value in enumerate(values)]

    def _text(self, value: bytes, index: int, column: int) -> bytes:
        """A column's JSON value as escaped text: strings as they stand, other values as they are written."""
        if value[0] == _QUOTE:
            text = value[1:-1]
        elif value == b"null":
            text = b""
        else:
            text = escaped(value.decode())
        if not text and not self._allow_empty:
            raise _EmptyValueError(index, column)
        return text


class _EmptyValueError(Exception):
    def __init__(self, index: int, column: int) -> None:
        super().__init__(index, column)
        self.index = index
        self.column = column
