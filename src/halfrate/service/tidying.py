"""What is left of jobs where machines share a depot.

    copies here            of jobs that have ended, which nobody has asked for in a while: the depot has them
    files without a job    of processes that died before they had recorded it, here and in the depot

What there is to look at may be seen from a listing; whether there is such a job, the database alone says. Whatever
cannot be asked ends the sweep, and nothing more is deleted by it.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from halfrate.base.errors import StorageError
from halfrate.base.ids import is_job_id
from halfrate.blobs.depot import UNRECORDED, Depot
from halfrate.blobs.files import JobFiles
from halfrate.core.job import JobState
from halfrate.service.home import Home
from halfrate.store.store import Store

_UNUSED: Final = 21_600.0
"""Seconds after which a copy goes that nobody has asked for."""
_ENDED: Final = frozenset({JobState.DONE, JobState.CANCELLED, JobState.STOPPED})
_LATER_REQUESTS: Final = re.compile(r"requests-\d+\.a\d+\.jsonl")


class Tidier:
    """Sweeps the jobs of a home, and of its depot."""

    def __init__(self, store: Store, home: Home, depot: Depot) -> None:
        self._store = store
        self._home = home
        self._depot = depot
        self._jobs = home.root / "jobs"

    def sweep(self, now: float) -> None:
        """Let go of what is nobody's. Raises StorageError and StoreBusy."""
        # A batch may be put off for days; its jobs have their names before they are made, and their files before they
        # are recorded. This is asked first: a batch that has ended since makes none any more.
        to_come = self._store.surfaces.parts_to_come()
        try:
            for folder in self._folders():
                self._sweep_here(folder, now, to_come)
        except OSError as error:
            raise StorageError(
                f"{self._jobs} cannot be looked through ({error.strerror or error})."
            ) from error
        self._sweep_afar(now)

    # ------------------------------------------------------------ here

    def _folders(self) -> Iterator[Path]:
        if self._jobs.is_dir():
            yield from (path for path in self._jobs.iterdir() if is_job_id(path.name))

    def _sweep_here(self, folder: Path, now: float, to_come: frozenset[str]) -> None:
        used = _used(folder)
        if used >= now - _UNUSED:
            return
        job = self._store.job(folder.name)
        if job is None:
            if used < now - UNRECORDED and folder.name not in to_come:
                JobFiles(folder).remove()
        elif job.state in _ENDED:
            self._drop_copies(JobFiles(folder), now - _UNUSED)

    def _drop_copies(self, files: JobFiles, before: float) -> None:
        """Let go of a job's files if each of them is in the depot too, or is never asked for again."""
        held = self._depot.held(files.folder)
        shards = self._store.shards(files.folder.name)
        # Of these the depot has let go itself.
        done = {files.requests(shard.number) for shard in shards if shard.counts.succeeded == shard.rows}
        paths = list(files.folder.iterdir())
        for path in paths:
            passing = path.suffix == ".tmp" or path in done or _LATER_REQUESTS.fullmatch(path.name)
            if not passing and held.get(path.name, -1) < path.stat().st_size:
                return
        for path in paths:
            with suppress(FileNotFoundError):
                # Somebody may have asked for it since.
                if path.stat().st_mtime < before:
                    path.unlink()
        with suppress(OSError):
            files.folder.rmdir()

    # ------------------------------------------------------------ in the depot

    def _sweep_afar(self, now: float) -> None:
        old = [name for name in self._depot.older(self._jobs, now - UNRECORDED) if is_job_id(name)]
        to_come = self._store.surfaces.parts_to_come()
        known = self._store.job_ids()
        for name in old:
            # Each once more: the list may be long, and it was made a while ago.
            if name not in to_come and name not in known and self._store.job(name) is None:
                self._depot.drop_folder(self._jobs / name)


def _used(folder: Path) -> float:
    """When something was last done with a folder, or asked for that is in it (seconds since 1970)."""
    times = [folder.stat().st_mtime]
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            times.append(path.stat().st_mtime)
    return max(times)
