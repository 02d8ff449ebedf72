"""Where halfrate keeps what it remembers, and the few settings that are read from the environment."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from halfrate.base.errors import SettingsError
from halfrate.base.types import Capabilities
from halfrate.blobs.depot import NO_DEPOT, AnyDepot
from halfrate.blobs.files import JobFiles
from halfrate.core.lifecycle import Policy, SmallTails


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Times that a test, a demonstration or an unusual provider may want otherwise. Seconds."""

    settle: float = 120.0
    poll_first: float = 2.0
    poll_most: float = 60.0
    backoff_first: float = 1.0
    quota_wait: float = 60.0
    missing_grace: float = 600.0
    gather: float = 120.0


class Home(msgspec.Struct, frozen=True, kw_only=True):
    """One installation: a folder with the files of its jobs, and a database, in that folder or on a server."""

    root: Path
    timing: Timing = Timing()
    server: str | None = None
    """URL of a database elsewhere, with its password: it is left out of every repr."""
    depot: str | None = None
    """Where every file is kept that must outlive this folder; see `service.depots`."""

    def __repr__(self) -> str:
        return f"Home({self.root})"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> "Home":
        """HALFRATE_HOME, else `$XDG_DATA_HOME/halfrate`, else `~/.local/share/halfrate`; HALFRATE_DATABASE and
        HALFRATE_DEPOT."""
        environ = os.environ if environ is None else environ
        named = environ.get("HALFRATE_HOME")
        if named:
            root = Path(named).expanduser().absolute()
        else:
            base = environ.get("XDG_DATA_HOME") or "~/.local/share"
            root = Path(base).expanduser() / "halfrate"
        return cls(
            root=root,
            timing=_timing(environ),
            server=environ.get("HALFRATE_DATABASE") or None,
            depot=environ.get("HALFRATE_DEPOT") or None,
        )

    @property
    def database(self) -> str:
        return self.server or f"sqlite:///{self.root / 'halfrate.db'}"

    @property
    def workers(self) -> Path:
        return self.root / "workers"

    def files(self, job_id: str, depot: AnyDepot = NO_DEPOT) -> JobFiles:
        return JobFiles(self.root / "jobs" / job_id, depot)

    def create(self) -> None:
        """Make the folder, private to the user: prompts and answers are kept in it."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise SettingsError(
                f"{self.root} cannot be made ({error.strerror}). Set HALFRATE_HOME to a folder that can be "
                "written to. Nothing was sent."
            ) from error

    def policy(
        self,
        facts: Capabilities,
        max_attempts: int,
        tier: str = "batch",
        small_tails: SmallTails = "fail",
        oversized: SmallTails = "fail",
    ) -> Policy:
        timing = self.timing
        return Policy(
            uploads_file=facts.uploads_file,
            create_timeout=facts.create_timeout,
            settle=timing.settle,
            poll_first=timing.poll_first,
            poll_most=timing.poll_most,
            backoff_first=timing.backoff_first,
            quota_wait=timing.quota_wait,
            missing_grace=timing.missing_grace,
            tier=tier,
            least_rows=facts.least_rows,
            small_tails=small_tails,
            oversized=oversized,
            max_attempts=max_attempts,
        )


def _timing(environ: Mapping[str, str]) -> Timing:
    values: dict[str, float] = {}
    for name in Timing.__struct_fields__:
        variable = f"HALFRATE_{name.upper()}"
        text = environ.get(variable)
        if text is None:
            continue
        try:
            values[name] = float(text)
        except ValueError:
            raise SettingsError(f"{variable} is {text!r}; it takes a number of seconds.") from None
        if not 0 <= values[name] < 86_400:
            raise SettingsError(f"{variable} is {text}; it takes seconds between 0 and a day.")
    return Timing(**values)
