"""python -m bench.gateway: what an upload costs `halfrate serve`, beside nginx writing the same body to disk.

A batch file of 200 MB comes as a form over loopback, once to each server in turn. CPU is that of the server's process
tree for the upload alone; memory the most anonymous memory that it held meanwhile. The file that the gateway keeps is
compared with what was sent, byte for byte, or the run does not count. Bars: less than 80 MB of memory, and three times
nginx's CPU at most. Without nginx (Debian's nginx-light) the gateway is measured alone.
"""

import argparse
import hashlib
import http.client
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from . import measure, servers

_HERE: Final = Path(__file__).resolve().parent
_MEGABYTES: Final = 200
_MEMORY: Final = 80 << 20
_TIMES: Final = 3.0
_BLOCK: Final = 1 << 16
_BOUNDARY: Final = "----bench"
_NGINX: Final = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; client_max_body_size 1g; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port};
    location /done {{ return 204; }}
    location / {{ client_body_in_file_only clean; proxy_pass_request_body off; proxy_set_header Content-Length 0;
      proxy_pass http://127.0.0.1:{port}/done; }} }}
}}
"""


class Upload(NamedTuple):
    """What one upload cost a server."""

    cpu: float
    wall: float
    anonymous: int
    answer: bytes


def _lines(size: int) -> Iterator[bytes]:
    """The body's file: lines of a batch, `size` bytes of them."""
    body = b'{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"%b"}]}' % (b"word " * 220)
    row = b'{"custom_id":"row-%09d","method":"POST","url":"/v1/chat/completions","body":%b}\n'
    left, number = size, 0
    while left > 0:
        block = b"".join(row % (number + n, body) for n in range(50))[:left]
        yield block
        left -= len(block)
        number += 50


def _form(size: int) -> tuple[int, Callable[[], Iterator[bytes]]]:
    """The whole form: its length, and its bytes."""
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="rows.jsonl"\r\n\r\n'
    ).encode()
    tail = f"\r\n--{_BOUNDARY}--\r\n".encode()

    def parts() -> Iterator[bytes]:
        yield head
        yield from _lines(size)
        yield tail

    return len(head) + size + len(tail), parts


def _cpu(pid: int) -> float:
    """Seconds that a process and its threads have worked so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _upload(pid: int, port: int, size: int, key: str) -> Upload:
    length, parts = _form(size)
    most = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.01):
            most = max(most, measure.anonymous(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    before, begun = _cpu(pid), time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.putrequest("POST", "/v1/files")
        connection.putheader("content-type", f"multipart/form-data; boundary={_BOUNDARY}")
        connection.putheader("content-length", str(length))
        connection.putheader("authorization", f"Bearer {key}")
        connection.endheaders()
        for part in parts():
            connection.send(part)
        reply = connection.getresponse()
        answer = reply.read()
        if reply.status not in {200, 204}:
            raise SystemExit(f"bench: the server answered {reply.status}: {answer[:200]!r}")
        return Upload(_cpu(pid) - before, time.monotonic() - begun, most, answer)
    finally:
        done.set()
        watcher.join()
        connection.close()


@contextmanager
def _nginx(folder: Path, program: str) -> Generator[tuple[int, int, str]]:
    port = servers.free_port()
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, port=port))
    command = [program, "-c", str(config)]
    with servers.running(command, dict(os.environ), port, folder / "nginx.log") as pid:
        yield pid, port, ""


def _as_sent(folder: Path, size: int) -> bool:
    """Whether what the gateway keeps is what was sent."""
    sent = hashlib.sha256()
    for block in _lines(size):
        sent.update(block)
    kept = list((folder / "home" / "gateway" / "files").iterdir())
    return all(hashlib.sha256(path.read_bytes()).digest() == sent.digest() for path in kept) and bool(kept)


def main(given: Sequence[str]) -> int:
    """0 when every bar is cleared, 1 when not."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateway", description="Measure halfrate serve.")
    parser.add_argument("--megabytes", type=int, default=_MEGABYTES)
    parser.add_argument("--rounds", type=int, default=3, help="uploads to each; the least CPU counts")
    parser.add_argument("--work", type=Path, default=_HERE / ".work", help="where to keep the files")
    arguments = parser.parse_args(given)
    size: int = arguments.megabytes << 20
    folder: Path = arguments.work.resolve() / "gateway"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    program = servers.nginx()
    try:
        with servers.gateway(folder) as (pid, port, key):
            ours = [_upload(pid, port, size, key) for _ in range(arguments.rounds)]
        if not _as_sent(folder, size):
            raise SystemExit("bench: what the gateway keeps is not what was sent")
        theirs: list[Upload] = []
        if program is not None:
            with _nginx(folder, program) as (pid, port, key):
                theirs = [_upload(pid, port, size, key) for _ in range(arguments.rounds)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _report(arguments.megabytes, ours, theirs)


def _report(megabytes: int, ours: Sequence[Upload], theirs: Sequence[Upload]) -> int:
    cpu, memory = min(one.cpu for one in ours), max(one.anonymous for one in ours)
    print(f"an upload of {megabytes} MB        CPU s   wall s   anon MB")
    bars = [(memory < _MEMORY, f"{memory / 2**20:.0f} MB of memory, below {_MEMORY >> 20}")]
    for name, uploads in (("halfrate serve", ours), ("nginx", theirs)):
        if uploads:
            print(
                f"{name:<24}{min(one.cpu for one in uploads):8.2f} {min(one.wall for one in uploads):8.2f}"
                f" {max(one.anonymous for one in uploads) / 2**20:9.0f}"
            )
    if theirs:
        least = min(one.cpu for one in theirs)
        bars.append((cpu <= _TIMES * least, f"{cpu / least:.1f} times nginx's CPU, at most {_TIMES:g}"))
    for passed, what in bars:
        print(f"{'PASS' if passed else 'FAIL'}  {what}")
    return 0 if all(passed for passed, _ in bars) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
