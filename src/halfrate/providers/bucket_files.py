"""A folder of a bucket for callers that wait in threads: what a depot is kept in."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from halfrate.base.errors import HalfrateError, Refused, StorageError
from halfrate.base.objects import Stored
from halfrate.providers.objects import Bucket

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_T = TypeVar("_T")
_PART: Final = 8 << 20
_CHUNK: Final = 4 << 20
_PARTS_AT_ONCE: Final = 4
_NO_BUCKET: Final = frozenset({"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted"})
"""How S3, Cloud Storage and Azure say that it is not the object alone that is not there."""


class BucketFiles:
    """See `Objects`: those under `prefix` of a bucket, named from there.

    Args:
        prefix: names of folders, without a slash at either end; "" for the whole bucket.
    """

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self.place = f"{bucket.place}/{prefix}" if prefix else bucket.place
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    def put_file(self, key: str, path: Path) -> None:
        """Store a file, in parts where it is large."""
        import obstore

        self._asked(
            key,
            lambda store, name: obstore.put(
                store, name, path, chunk_size=_PART, max_concurrency=_PARTS_AT_ONCE
            ),
        )

    def add(self, key: str, data: bytes) -> bool:
        """Store a small object, unless there is one of that key already; whether that was done."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        def put(store: "ObjectStore", name: str) -> bool:
            try:
                obstore.put(store, name, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
            return True

        return self._asked(key, put)

    def get_file(self, key: str, path: Path) -> bool:
        """Fetch an object into a new file, synced; whether there is one. OSError is of the file's disk."""
        import obstore

        found = self._found(key, obstore.get)
        if found is None:
            return False
        got = 0
        stream = iter(found.stream(min_chunk_size=_CHUNK))
        with path.open("xb") as file:
            while (chunk := self._asked(key, lambda _store, _name: next(stream, None))) is not None:
                got += file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if got != found.meta["size"]:
            raise StorageError(f"{self.place}/{key} broke off after {got:,} bytes.")
        return True

    def get(self, key: str) -> bytes | None:
        """An object's contents, None where there is none."""
        import obstore

        found = self._found(key, lambda store, name: obstore.get(store, name).bytes())
        return None if found is None else bytes(found)

    def size(self, key: str) -> int | None:
        """An object's bytes, None where there is none."""
        import obstore

        found = self._found(key, obstore.head)
        return None if found is None else found["size"]

    def list(self, prefix: str) -> Iterator[Stored]:
        """All objects in a folder and its folders. `prefix`: the folder, with a slash at its end."""
        import obstore

        def pages(store: "ObjectStore", name: str) -> Any:
            listed: Any = obstore.list(store, prefix=name)  # pyright: ignore[reportUnknownMemberType]
            return iter(listed)

        stream = self._asked(prefix, pages)
        while (page := self._asked(prefix, lambda _store, _name: next(stream, None))) is not None:
            for item in page:
                put_at = item["last_modified"].timestamp()
                yield Stored(item["path"].removeprefix(self._prefix), item["size"], put_at)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects. That one is gone already is no error."""
        import obstore

        every = list(keys)
        names = [self._prefix + key for key in every]
        # Some stores say of many that one of them was gone, and leave it open what became of the others.
        if every and self._found(every[0], lambda store, _: [obstore.delete(store, names)]) is None:
            for key in every:
                self._found(key, obstore.delete)

    # ------------------------------------------------------------ parts

    def _found(self, key: str, ask: "Callable[[ObjectStore, str], _T]") -> _T | None:
        """What is told of an object, None where there is none."""

        def tried(store: "ObjectStore", name: str) -> _T | None:
            try:
                return ask(store, name)
            except FileNotFoundError as error:
                meant = self._bucket.meaning(error, name)
                if isinstance(meant, Refused) and meant.code in _NO_BUCKET:
                    raise
                return None

        return self._asked(key, tried)

    def _asked(self, key: str, ask: "Callable[[ObjectStore, str], _T]") -> _T:
        from obstore.exceptions import BaseError

        name = self._prefix + key
        try:
            return ask(self._bucket.opened(), name)
        except HalfrateError as error:
            # Credentials that there are not, or not now: for a depot it is as if its disk were away.
            raise StorageError(f"{self.place} cannot be used: {error}") from error
        except (BaseError, OSError, ValueError) as error:
            raise StorageError(
                f"{self.place} cannot be used: {self._bucket.meaning(error, name)}."
            ) from error
