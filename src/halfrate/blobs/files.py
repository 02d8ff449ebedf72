"""The files of a job, on local disk.

    jobs/<job>/input.<ending>             the input as it was read, byte for byte
    jobs/<job>/requests-<n>.jsonl         shard n as sent in its first attempt
    jobs/<job>/requests-<n>.a<k>.jsonl    what was left of it, as sent in attempt k
    jobs/<job>/leaders-<n>                the rows of shard n that go first, to warm the provider's cache for the others
    jobs/<job>/results-<n>.a<k>.<i>       the provider's result files of attempt k, untouched
    jobs/<job>/marks-<n>.a<k>             calls of an attempt in real time, whose replies are results-<n>.a<k>.0
    jobs/<job>/outcomes-<n>.a<k>          what became of the rows of attempt k

A file under its own name is complete and synced: everything is written under another name and renamed. Where there is
a depot (`blobs.depot`), it holds all of them but the request files of later attempts, which are made from the first
one's.
"""

from collections.abc import Iterable
from pathlib import Path

from halfrate.base.errors import StorageError
from halfrate.base.types import InputFormat
from halfrate.blobs.depot import NO_DEPOT, AnyDepot


class JobFiles:
    """Names the files of one job. The folder is private to the user: prompts and answers are in it.

    Methods that give files to be read bring them from the depot, if there is one: call these in threads.
    """

    def __init__(self, folder: Path, depot: AnyDepot = NO_DEPOT) -> None:
        self.folder = folder
        self.depot = depot

    def create(self) -> None:
        try:
            self.folder.mkdir(parents=True, mode=0o700)
        except OSError as error:
            raise StorageError(
                f"{self.folder} cannot be made ({error.strerror}). Nothing was sent. Set HALFRATE_HOME to a "
                "folder that can be written to."
            ) from error

    def ready(self) -> None:
        """Have the folder here where the job may be of another machine."""
        if self.depot.afar:
            try:
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise StorageError(f"{self.folder} cannot be made ({error.strerror}).") from error

    def remove(self) -> None:
        # Here, because it brings all kinds of archives with it, and most jobs remove nothing.
        import shutil

        shutil.rmtree(self.folder, ignore_errors=True)

    def snapshot(self, form: InputFormat) -> Path:
        return self.folder / f"input.{form}"

    def requests(self, number: int, attempt: int = 1) -> Path:
        return self.folder / (
            f"requests-{number}.jsonl" if attempt == 1 else f"requests-{number}.a{attempt}.jsonl"
        )

    def leads(self) -> Path:
        """What is known of the rows' beginnings while a draft is made."""
        return self.folder / "leads.tmp"

    def leaders(self, number: int) -> Path:
        return self.folder / f"leaders-{number}"

    def results(self, number: int, attempt: int, index: int) -> Path:
        return self.folder / f"results-{number}.a{attempt}.{index}"

    def all_results(self, number: int, attempt: int) -> list[Path]:
        """Every result file of an attempt, as many as there are."""
        if self.depot.afar:
            index = 0
            while self.depot.bring_whole(self.results(number, attempt, index)):
                index += 1
        return sorted(
            path
            for path in self.folder.glob(f"results-{number}.a{attempt}.*")
            if not path.name.endswith(".tmp")
        )

    def marks(self, number: int, attempt: int) -> Path:
        """Which rows of an attempt were called in real time, beside its replies."""
        return self.folder / f"marks-{number}.a{attempt}"

    def outcomes(self, number: int, attempt: int) -> Path:
        return self.folder / f"outcomes-{number}.a{attempt}"

    def all_outcomes(self, number: int, attempt: int) -> list[Path]:
        """The outcome files of attempts up to `attempt`, the oldest first."""
        paths = [self.outcomes(number, k) for k in range(1, attempt + 1)]
        return [path for path in paths if self.depot.bring(path)]

    def called(self, number: int, attempt: int) -> bool:
        """Whether rows of an attempt were called in real time."""
        return self.depot.bring_whole(self.marks(number, attempt))

    def keep_collected(self, number: int, attempt: int, results: Iterable[Path]) -> None:
        """Put what was collected of an attempt into the depot. Outcomes come last: where they are, all is."""
        self.depot.put(*results, self.outcomes(number, attempt))

    def keep_journalled(self, number: int, attempt: int, results: Iterable[Path]) -> None:
        """The same for an attempt in real time, whose journal is kept whole from here on."""
        journal = [*results, self.marks(number, attempt)] if self.called(number, attempt) else list(results)
        self.keep_collected(number, attempt, journal)
        for path in journal:
            self.depot.drop_parts(path)


def temporary(path: Path) -> Path:
    """Where a file is written before it is complete."""
    return path.with_name(path.name + ".tmp")
