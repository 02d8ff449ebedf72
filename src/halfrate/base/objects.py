"""What is asked of an object store by callers that wait."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol


class Stored(NamedTuple):
    """An object: its key, its bytes, and when it was put (seconds since 1970, by the store's own clock)."""

    key: str
    size: int
    put_at: float


class Objects(Protocol):
    """A folder of an object store. Its methods wait: call them in threads. Each raises StorageError where it cannot be
    known whether it was done, or what there is; that an object is absent is no error.

    `place`: what the folder is called, without credentials.
    """

    place: str

    def put_file(self, key: str, path: Path) -> None:
        """Store a file, whole or not at all."""
        ...

    def add(self, key: str, data: bytes) -> bool:
        """Store a small object, unless there is one of that key already; whether that was done."""
        ...

    def get_file(self, key: str, path: Path) -> bool:
        """Fetch an object into a new file, synced; whether there is one."""
        ...

    def get(self, key: str) -> bytes | None:
        """A small object's contents, None where there is none."""
        ...

    def size(self, key: str) -> int | None:
        """An object's bytes, None where there is none."""
        ...

    def list(self, prefix: str) -> Iterator[Stored]:
        """All objects in a folder and its folders, in any order. `prefix`: the folder, with a slash at its end."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects. That one is gone already is no error."""
        ...
