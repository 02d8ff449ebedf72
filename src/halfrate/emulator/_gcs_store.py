"""Buckets on disk: what the Cloud Storage API shows, and what Vertex AI and BigQuery read from and write to.

A bucket is there as soon as something is put into it, or it is made by its own call. Names are the world's: projects do
not keep theirs apart, and everybody may read and write everything.
"""

import bisect
from base64 import b64encode
from collections.abc import Iterator
from email.utils import formatdate
from hashlib import md5
from pathlib import Path

import msgspec

from halfrate.emulator._meter import Meter
from halfrate.emulator._spool import Spool
from halfrate.emulator._wire import CHUNK_BYTES, ApiError, file_chunks


class StoredObject(msgspec.Struct, frozen=True):
    """One object, and where its bytes lie."""

    bucket: str
    name: str
    path: Path
    size: int
    generation: int
    digest: bytes
    content_type: str
    created_at: float
    metadata: dict[str, str] = {}

    @property
    def etag(self) -> str:
        return f'"{self.digest.hex()}"'

    @property
    def md5(self) -> str:
        return b64encode(self.digest).decode()

    @property
    def headers(self) -> dict[str, str]:
        """What both stores say of an object in the headers of a reply."""
        return {
            "content-type": self.content_type,
            "etag": self.etag,
            "last-modified": formatdate(self.created_at, usegmt=True),
            "accept-ranges": "bytes",
        }

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` up to `stop`."""
        left = stop - start
        with self.path.open("rb") as source:
            source.seek(start)
            while left > 0 and (chunk := source.read(min(CHUNK_BYTES, left))):
                left -= len(chunk)
                yield chunk


class Buckets:
    """Every bucket and what is in it."""

    def __init__(self, spool: Spool, meter: Meter) -> None:
        self._spool = spool
        self._meter = meter
        self._buckets: dict[str, dict[str, StoredObject]] = {}
        self._names: dict[str, list[str]] = {}
        self._generation = 1_700_000_000_000_000

    def make(self, bucket: str) -> None:
        self._buckets.setdefault(bucket, {})
        self._names.setdefault(bucket, [])

    def has(self, bucket: str) -> bool:
        return bucket in self._buckets

    def get(self, bucket: str, name: str) -> StoredObject | None:
        return self._buckets.get(bucket, {}).get(name)

    def put(
        self,
        bucket: str,
        name: str,
        path: Path,
        at: float,
        content_type: str = "",
        metadata: dict[str, str] | None = None,
    ) -> StoredObject:
        """Keep the bytes that lie at `path` under a name; what was there is gone."""
        digest = md5(usedforsecurity=False)
        for chunk in file_chunks(path):
            digest.update(chunk)
        self.make(bucket)
        self.delete(bucket, name)
        self._generation += 1
        stored = StoredObject(
            bucket,
            name,
            path,
            path.stat().st_size,
            self._generation,
            digest.digest(),
            content_type or "application/octet-stream",
            at,
            metadata or {},
        )
        self._buckets[bucket][name] = stored
        bisect.insort(self._names[bucket], name)
        self._meter.files_stored += 1
        self._meter.bytes_stored += stored.size
        return stored

    def delete(self, bucket: str, name: str) -> bool:
        """Whether there was such an object."""
        stored = self._buckets.get(bucket, {}).pop(name, None)
        if stored is None:
            return False
        names = self._names[bucket]
        del names[bisect.bisect_left(names, name)]
        self._spool.drop(stored.path)
        self._meter.files_stored -= 1
        self._meter.bytes_stored -= stored.size
        return True

    def check_generation(self, bucket: str, name: str, wanted: str | None) -> None:
        """ApiError 412 unless the object is of that generation; 0 stands for no object."""
        stored = self.get(bucket, name)
        have = 0 if stored is None else stored.generation
        if wanted is not None and wanted != str(have):
            raise ApiError(412, "At least one of the pre-conditions you specified did not hold.")

    def page(
        self, bucket: str, prefix: str, delimiter: str, after: str, most: int
    ) -> tuple[list[StoredObject], list[str], str]:
        """(objects, common prefixes, where to go on) in the order of names; "" when there is no more."""
        found: list[StoredObject] = []
        prefixes: list[str] = []
        names = self._names.get(bucket, [])
        last = after
        for name in names[bisect.bisect_right(names, after) if after else 0 :]:
            if not name.startswith(prefix):
                continue
            head, cut, _ = name[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            folder = f"{prefix}{head}{cut}" if cut else ""
            if folder and (folder in prefixes or after.startswith(folder)):
                last = name
                continue
            if len(found) + len(prefixes) >= most:
                return found, prefixes, last
            if folder:
                prefixes.append(folder)
            else:
                found.append(self._buckets[bucket][name])
            last = name
        return found, prefixes, ""


def split_uri(uri: str) -> tuple[str, str]:
    """(bucket, name) of `gs://bucket/name`. ApiError 400 for anything else."""
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    if not uri.startswith("gs://") or not bucket:
        raise ApiError(400, f"Invalid Cloud Storage URI: {uri}")
    return bucket, name
