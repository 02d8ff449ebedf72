"""Bytes on disk: uploads and results live in a temporary directory, never in memory."""

import shutil
import tempfile
import weakref
from pathlib import Path


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

    def drop(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def close(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)
