"""What Bedrock checks in a job's input: format and counts, never a body against its model (batch inference guide)."""

from array import array
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

import msgspec

from halfrate.emulator._context import Context
from halfrate.emulator._jobs import Input
from halfrate.emulator._s3_client import Bucket, BucketError

_LONGEST_LINE: Final = 64 * 1024 * 1024


class _Line(msgspec.Struct):
    recordId: str | None = None  # noqa: N815 - as it stands in the file
    modelInput: msgspec.Raw = msgspec.Raw(b"")  # noqa: N815


class RecordRow(msgspec.Struct):
    """A record as it is kept: the file it came from, its id, and what is asked of the model, as it was sent."""

    part: int
    id: str
    body: msgspec.Raw


class BedrockInput(Input):
    """Rows on disk, and the names of the files they came from."""

    names: list[str] = msgspec.field(default_factory=list)


_line = msgspec.json.Decoder(_Line)
_row = msgspec.json.Decoder(RecordRow)


def read_row(line: bytes) -> RecordRow:
    return _row.decode(line)


class InputReader:
    """Reads the input of one job: an object, or every `.jsonl` under a prefix."""

    def __init__(self, context: Context, bucket: Bucket, key: str) -> None:
        self._context = context
        self._bucket = bucket
        self._key = key
        self._found = BedrockInput(context.spool.new(), array("Q"))
        self._position = 0

    def read(self) -> BedrockInput:
        """What has been found. A bucket that cannot be read is a problem of the job."""
        found, limits = self._found, self._context.limits
        try:
            with found.path.open("wb") as target:
                self._read_files(target)
        except BucketError as error:
            found.problems.append(f"The input data cannot be read: {error}")
        rows = len(found.offsets)
        if not found.problems and rows < limits.bedrock_least_rows:
            found.problems.append(
                f"The job has {rows} records. It has to have at least {limits.bedrock_least_rows} of them."
            )
        if not found.problems and rows > limits.bedrock_rows:
            found.problems.append(f"The job has {rows} records. It may have {limits.bedrock_rows} at most.")
        return found

    def _files(self) -> list[tuple[str, int]]:
        """(key, size) of the input files."""
        listed = self._bucket.list(self._key)
        exact = [one for one in listed if one[0] == self._key]
        if exact and not self._key.endswith("/"):
            return exact
        folder = self._key if not self._key or self._key.endswith("/") else f"{self._key}/"
        return [one for one in listed if one[0].startswith(folder) and one[0].endswith(".jsonl")]

    def _read_files(self, target: BinaryIO) -> None:
        files, limits = self._files(), self._context.limits
        if not files:
            raise BucketError(f"there is no .jsonl object at {self._key}")
        if any(size > limits.bedrock_file_bytes for _, size in files):
            self._found.problems.append(f"A file is larger than {limits.bedrock_file_bytes} bytes.")
        elif sum(size for _, size in files) > limits.bedrock_job_bytes:
            self._found.problems.append(f"The files are larger than {limits.bedrock_job_bytes} bytes.")
        for part, (key, _) in enumerate(files):
            if self._found.problems:
                return
            name = key.rpartition("/")[2]
            self._found.names.append(name)
            for number, line in enumerate(_lines(self._bucket.get(key)), 1):
                if line.strip() and not self._add(target, part, line):
                    self._found.problems.append(f"{name}, line {number}: the record is malformed.")
                    return

    def _add(self, target: BinaryIO, part: int, line: bytes) -> bool:
        """Keep a record; False where it is none."""
        try:
            given = _line.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        body = bytes(given.modelInput)
        if not body.lstrip().startswith(b"{"):
            return False
        record_id = given.recordId or self._context.new_id("")[:11].upper()
        self._found.offsets.append(self._position)
        row = msgspec.json.encode(RecordRow(part, record_id, given.modelInput))
        self._position += target.write(row + b"\n")
        return True


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines, which end at newlines only."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        if len(rest) > _LONGEST_LINE:
            raise BucketError(f"a line is longer than {_LONGEST_LINE} bytes")
    if rest:
        yield rest
