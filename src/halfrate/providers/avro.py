"""Avro object containers, read: blocks of records, all of the one schema that the file begins with.

By the specification of Avro 1.12, all that a schema can say; a logical type is read as what it is made of. Blocks are
plain or deflated, the two forms that every implementation has to know.

What costs is vectors, thousands of numbers each: an array of numbers is decoded at once, not one by one.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from io import BufferedReader
from itertools import chain
from typing import Any, Final, Self, TypeAlias, cast

import msgspec

_MAGIC: Final = b"Obj\x01"
_SYNC: Final = 16
_MOST_PACKED: Final = 1_032
"""Bytes that deflate makes one of at most (RFC 1951)."""
_TOP: Final = 0x80
_CONTINUED: Final = bytes(range(_TOP, 256))
_LONGEST: Final = 63
"""Bits before the last byte of the longest number."""
# All bytes of a number but the last have the top bit. One of three bytes or more has two of them.
_longer = re.compile(rb"[\x80-\xff]{2}").search


class AvroError(Exception):
    """What is read is no Avro, or not all of it."""


class Container:
    """A file, block by block.

    Raises AvroError, here and at every block, where the file is not whole or makes no sense.

    Args:
        size: of the file, in bytes.
    """

    def __init__(self, file: BufferedReader, size: int) -> None:
        self._file = file
        self._left = size
        if self._take(len(_MAGIC)) != _MAGIC:
            raise AvroError("it is no Avro")
        told = self._told()
        self._sync = self._take(_SYNC)
        codec = told.get("avro.codec", b"null")
        if codec not in _CODECS:
            raise AvroError(f"it is packed by {codec.decode(errors='replace')!r}, which is not known here")
        self._unpack = _CODECS[codec]
        self._decode = _decoder(told.get("avro.schema", b""))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> "Block":
        if not self._left:
            raise StopIteration
        records, size = self._number(), self._number()
        if records < 0:
            raise AvroError("a block has fewer than no records")
        packed = self._take(size)
        # Records may be of no bytes at all; nobody has a reason to write many of those.
        if records > _MOST_PACKED * (size + _SYNC):
            raise AvroError(f"a block of {size:,} bytes cannot have {records:,} records")
        if self._take(_SYNC) != self._sync:
            raise AvroError("a block does not end where it should")
        return Block(records, packed, self._unpack, self._decode)

    def _told(self) -> dict[str, bytes]:
        """What a file says of itself."""
        found: dict[str, bytes] = {}
        while count := self._number():
            if count < 0:
                self._number()  # of bytes, for whoever skips them
            for _ in range(abs(count)):
                name = self._take(self._number())
                found[name.decode(errors="replace")] = self._take(self._number())
        return found

    def _number(self) -> int:
        found = self._take(1)
        while found[-1] & _TOP and len(found) <= _LONGEST:
            found += self._take(1)
        return _Source(found).number()

    def _take(self, length: int) -> bytes:
        # Not asked for before it is known to be there: room would be made for all of it.
        found = self._file.read(length) if 0 <= length <= self._left else b""
        if len(found) != length:
            raise AvroError("it ends too early")
        self._left -= length
        return found


class Block:
    """Some records, `count` of them.

    Iterating raises AvroError at the first record that cannot be read. Where the next one begins is not known then, but
    the next block is unharmed.
    """

    def __init__(
        self, count: int, packed: bytes, unpack: Callable[[bytes], bytes], decode: "_Decode"
    ) -> None:
        self.count = count
        self._packed = packed
        self._unpack = unpack
        self._decode = decode

    def __iter__(self) -> Iterator[Any]:
        source = _Source(self._unpack(self._packed))
        for _ in range(self.count):
            try:
                record = self._decode(source)
            except RecursionError:
                raise AvroError("a record is nested too deeply") from None
            yield record


def _plain(data: bytes) -> bytes:
    return data


def _deflated(data: bytes) -> bytes:
    try:
        return zlib.decompress(data, -zlib.MAX_WBITS)
    except zlib.error as error:
        raise AvroError(f"a block cannot be unpacked ({error})") from None


_CODECS: Final = {b"null": _plain, b"deflate": _deflated}


# ---------------------------------------------------------------- values


class _Source:
    """The bytes of a block, taken from their start to their end."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, length: int) -> bytes:
        end = self._at + length
        if not self._at <= end <= len(self._data):
            raise AvroError("a value ends too early")
        found = self._data[self._at : end]
        self._at = end
        return found

    def number(self) -> int:
        """Zigzag, seven bits to a byte, the least first."""
        data, at = self._data, self._at
        found = shift = 0
        try:
            while (byte := data[at]) & _TOP:
                found |= (byte ^ _TOP) << shift
                shift += 7
                at += 1
        except IndexError:
            raise AvroError("a number ends too early") from None
        found |= byte << shift
        if shift > _LONGEST or found >> 64:
            raise AvroError("a number is too large")
        self._at = at + 1
        return (found >> 1) ^ -(found & 1)

    def text(self) -> str:
        try:
            return self.take(self.number()).decode()
        except UnicodeDecodeError as error:
            raise AvroError(f"a text is not UTF-8 ({error.reason})") from None

    def numbers(self, count: int) -> Sequence[int]:
        """Several numbers. Those of vectors that were made small are short, and told by a byte and the one before."""
        length = self._length_of(count)
        part = self._data[self._at : self._at + length]
        if not part or len(part) < length or part[-1] & _TOP or _longer(part):
            return [self.number() for _ in range(count)]
        self._at += length
        short = _short()
        return [short[last][before] for before, last in zip(b"\0" + part, part, strict=False) if last < _TOP]

    def floats(self, form: str, count: int) -> Sequence[float]:
        """Several numbers of a width that `struct` knows."""
        return struct.unpack(f"<{count}{form}", self.take(count * struct.calcsize(f"<{form}")))

    def _length_of(self, count: int) -> int:
        """The bytes of so many numbers, if they are all short."""
        length = found = 0
        while found < count and length < 2 * count:
            # There is a number for each byte without the top bit. So many bytes are missing at the least.
            more = self._data[self._at + length : self._at + length + count - found]
            length += count - found
            found += len(more.translate(None, _CONTINUED))
        return length


@cache
def _short() -> list[list[int]]:
    """Numbers of one byte or two, by the last of them and the one before that."""
    return [
        [
            _Source(bytes((before, last)) if before & _TOP else bytes((last,))).number()
            for before in range(2 * _TOP)
        ]
        for last in range(_TOP)
    ]


_Decode: TypeAlias = Callable[[_Source], Any]
_Several: TypeAlias = Callable[[_Source, int], Sequence[Any]]


# ---------------------------------------------------------------- schemas


def _decoder(schema: bytes) -> _Decode:
    """What decodes the values of a schema. Raises AvroError for what is none."""
    try:
        return _Types().decoder(msgspec.json.decode(schema), "")
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise AvroError(f"its schema makes no sense ({error})") from None


class _Types:
    """The named types of one schema. The names of those in a name space need not repeat it within."""

    def __init__(self) -> None:
        self._named: dict[str, _Decode] = {}

    def decoder(self, schema: Any, space: str) -> _Decode:
        """A KeyError or a TypeError is raised for what is no schema."""
        match schema:
            case str():
                return _SIMPLE[schema] if schema in _SIMPLE else self._by_name(schema, space)
            case list():
                branches = cast("list[Any]", schema)
                return _union([self.decoder(branch, space) for branch in branches])
            case {"type": "array", "items": items}:
                return _array(self._several(items, space))
            case {"type": "map", "values": values}:
                return _map(self.decoder(values, space))
            case {"type": "record" | "error" | "enum" | "fixed" as kind, "name": name}:
                return self._defined(kind, schema, _full(name, schema.get("namespace", space)))
            case {"type": inner}:
                return self.decoder(inner, space)
            case _:
                raise TypeError(f"{schema!r} is no type")

    def _by_name(self, name: str, space: str) -> _Decode:
        full = _full(name, space)
        return self._named[full if full in self._named else name]

    def _defined(self, kind: str, schema: dict[str, Any], name: str) -> _Decode:
        if kind == "enum":
            made = _enum([str(symbol) for symbol in schema["symbols"]])
        elif kind == "fixed":
            made = _fixed(int(schema["size"]))
        else:
            fields: list[tuple[str, _Decode]] = []
            made = _record(fields)
            # Named before its fields are looked at: it may be among them.
            self._named[name] = made
            space = name.rpartition(".")[0]
            fields += [(str(field["name"]), self.decoder(field["type"], space)) for field in schema["fields"]]
        self._named[name] = made
        return made

    def _several(self, items: Any, space: str) -> _Several:
        match items:
            case "int" | "long" | {"type": "int" | "long"}:
                return _Source.numbers
            case "float" | {"type": "float"}:
                return lambda source, count: source.floats("f", count)
            case "double" | {"type": "double"}:
                return lambda source, count: source.floats("d", count)
            case _:
                decode = self.decoder(items, space)
                return lambda source, count: [decode(source) for _ in range(count)]


def _full(name: str, space: str) -> str:
    return name if "." in name or not space else f"{space}.{name}"


def _null(source: _Source) -> None:
    pass


def _boolean(source: _Source) -> bool:
    return source.take(1) != b"\0"


def _float(source: _Source) -> float:
    return source.floats("f", 1)[0]


def _double(source: _Source) -> float:
    return source.floats("d", 1)[0]


def _bytes(source: _Source) -> bytes:
    return source.take(source.number())


_SIMPLE: Final[dict[str, _Decode]] = {
    "null": _null,
    "boolean": _boolean,
    "int": _Source.number,
    "long": _Source.number,
    "float": _float,
    "double": _double,
    "bytes": _bytes,
    "string": _Source.text,
}


def _fixed(size: int) -> _Decode:
    return lambda source: source.take(size)


def _enum(symbols: list[str]) -> _Decode:
    return lambda source: _at(symbols, source.number())


def _union(branches: list[_Decode]) -> _Decode:
    return lambda source: _at(branches, source.number())(source)


def _at(found: list[Any], place: int) -> Any:
    """What stands there in a schema."""
    if not 0 <= place < len(found):
        raise AvroError("a value is of no type of its schema's")
    return found[place]


def _record(fields: list[tuple[str, _Decode]]) -> _Decode:
    return lambda source: {name: decode(source) for name, decode in fields}


def _array(several: _Several) -> _Decode:
    def decode(source: _Source) -> Sequence[Any]:
        parts = [several(source, count) for count in _counts(source)]
        # Nearly always there is one, and to copy it would be waste.
        return parts[0] if len(parts) == 1 else list(chain.from_iterable(parts))

    return decode


def _map(values: _Decode) -> _Decode:
    def decode(source: _Source) -> dict[str, Any]:
        return {source.text(): values(source) for count in _counts(source) for _ in range(count)}

    return decode


def _counts(source: _Source) -> Iterator[int]:
    """How many items follow, again and again; they are to be taken before more is asked for."""
    while count := source.number():
        if count < 0:
            source.number()  # of bytes, for whoever skips them
        yield abs(count)
