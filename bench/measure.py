"""What a client costs: CPU of its whole process tree, and the most memory that was its own.

Memory is the anonymous part of the resident set (RssAnon), summed over the tree: pages of files that were just read or
mapped belong to the kernel's cache, which can take them back, and would hide what the client holds. The greatest
resident set is VmHWM, as the kernel keeps it for each process; ru_maxrss would start from the size of the harness.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_EVERY_SECONDS = 0.02
_PROC = Path("/proc")


@dataclass(frozen=True)
class Cost:
    """CPU and wall in seconds, memory in bytes. `exit_code` is the client's own."""

    cpu: float
    wall: float
    anonymous: int
    resident: int
    exit_code: int


def _tree(pid: int) -> list[int]:
    """The process and all that descend from it."""
    found = [pid]
    for parent in found:
        try:
            for thread in (_PROC / str(parent) / "task").iterdir():
                found += map(int, (thread / "children").read_text().split())
        except OSError:  # it ended while we looked
            continue
    return found


def _memory(pid: int) -> tuple[int, int]:
    """RssAnon and VmHWM of one process; zeros when it has gone."""
    try:
        status = (_PROC / str(pid) / "status").read_text()
    except OSError:
        return 0, 0
    values = {"RssAnon": 0, "VmHWM": 0}
    for line in status.splitlines():
        name, _, rest = line.partition(":")
        if name in values:
            values[name] = int(rest.split()[0]) * 1024
    return values["RssAnon"], values["VmHWM"]


def anonymous(pid: int) -> int:
    """Bytes of anonymous memory that a process and all that descend from it hold now."""
    return sum(_memory(process)[0] for process in _tree(pid))


def run(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, logs: Path, limit: float
) -> Cost:
    """Run a client in `folder` to its end, or kill it after `limit` seconds; `logs` gets stdout and stderr."""
    with (logs / "stdout").open("wb") as out, (logs / "stderr").open("wb") as err:
        begun = time.monotonic()
        client = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=out, stderr=err, start_new_session=True
        )
        try:
            return _watch(client, begun, limit)
        finally:
            # Whatever it left running, or the client itself when we are interrupted.
            with suppress(ProcessLookupError):
                os.killpg(client.pid, signal.SIGKILL)


def _watch(client: "subprocess.Popen[bytes]", begun: float, limit: float) -> Cost:
    anonymous = resident = 0
    while True:
        # wait4 and not Popen.wait: it gives the CPU of the client and of every child that it waited for.
        pid, status, usage = os.wait4(client.pid, os.WNOHANG)
        wall = time.monotonic() - begun
        if pid:
            break
        memory = [_memory(process) for process in _tree(client.pid)]
        anonymous = max(anonymous, sum(anon for anon, _ in memory))
        resident = max(resident, *(peak for _, peak in memory))
        if wall > limit:
            os.killpg(client.pid, signal.SIGKILL)
        time.sleep(_EVERY_SECONDS)
    client.returncode = os.waitstatus_to_exitcode(status)
    return Cost(usage.ru_utime + usage.ru_stime, wall, anonymous, resident, client.returncode)
