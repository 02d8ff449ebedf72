"""Bytes on disk: uploads and results live in a temporary directory, never in memory."""

import math
import shutil
import tempfile
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from halfrate.emulator._wire import ApiError


class Spool:
    """A directory of numbered files that goes away with the emulator."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="batch-emulator-"))
        self._serial = 0
        self._finalizer = weakref.finalize(self, shutil.rmtree, self._directory, ignore_errors=True)

    def new(self) -> Path:
        """A path nobody uses yet."""
        self._directory.mkdir(exist_ok=True)
        self._serial += 1
        return self._directory / f"{self._serial:08d}"

    async def write(
        self,
        chunks: AsyncIterator[bytes],
        limit: float = math.inf,
        too_big: str = "",
        also: Callable[[bytes], object] | None = None,
    ) -> Path:
        """Write what arrives to a new file, and hand it to `also`. ApiError 413 above `limit` bytes.

        Nothing stays behind where it is too big, or the client goes away.
        """
        path, size, done = self.new(), 0, False
        try:
            with path.open("wb") as target:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > limit:
                        raise ApiError(413, too_big)
                    if also is not None:
                        also(chunk)
                    target.write(chunk)
            done = True
        finally:
            if not done:
                self.drop(path)
        return path

    def drop(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def close(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)
