"""The command as a process: signals, terminals, full disks, providers that are away, and what it imports."""

import json
import os
import pty
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from .shell import KEY, MODELS, Ran, Shell

Shells = Callable[..., Shell]
RUN = ("--model", MODELS["openai"], "--prompt", "{q}", "-o", "out.jsonl")


def wait_until(what: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "this took too long"
        time.sleep(0.01)


def read_until(stream: int, pattern: str, seconds: float = 20.0) -> str:
    """What a terminal shows, up to a pattern or to the end of its process."""
    seen = ""
    end = time.monotonic() + seconds
    while not re.search(pattern, seen):
        assert time.monotonic() < end, seen
        if not select.select([stream], [], [], 0.1)[0]:
            continue
        try:
            data = os.read(stream, 65536)
        except OSError:
            break
        if not data:
            break
        seen += data.decode("utf-8", "replace")
    return seen


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_detaches_and_cancels_nothing(shells: Shells, number: signal.Signals) -> None:
    shell = shells("batch-stuck:seconds=600")
    table = shell.table(5)
    process = shell.start("run", table, *RUN)
    wait_until(lambda: shell.meter()["batches_created"])
    time.sleep(0.1)
    process.send_signal(number)
    left = shell.finish(process)
    assert left.code == 130
    assert left.out == ""
    job = re.findall(r"halfrate attach (\w+)", left.err)[0]
    assert "may be at work at the provider, and cost money" in left.err
    assert f"halfrate cancel {job}" in left.err
    assert not (shell.folder / "out.jsonl").exists()
    meter = shell.meter()
    assert (meter["batches_created"], meter["batches_cancelled"]) == (1, 0)
    # The same command finds it, and pays for nothing again.
    shell.hurry()
    again = shell("run", table, *RUN, "--json")
    assert again.code == 0, again.err
    assert again.object["job"] == job
    meter = shell.meter()
    assert (meter["batches_created"], meter["rows_billed"], meter["fingerprints_billed_again"]) == (1, 5, 0)


def test_a_signal_with_json(shells: Shells) -> None:
    shell = shells("batch-stuck:seconds=600")
    process = shell.start("run", shell.table(5), *RUN, "--json")
    wait_until(lambda: shell.meter()["batches_created"])
    process.send_signal(signal.SIGINT)
    left = shell.finish(process)
    assert left.code == 130
    assert left.object["waiting"] == 5
    assert f"halfrate attach {left.object['job']}" in left.err


def test_a_signal_while_the_output_is_written(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from halfrate.service.jobs import Service

    def interrupted(*_: object, **__: object) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Service, "deliver", interrupted)
        left = shell("run", shell.table(3), *RUN)
    assert left.code == 130
    assert "Nothing was sent" not in left.err
    assert "All that was done is kept" in left.err
    assert "halfrate attach" in left.err


def test_a_provider_that_cannot_be_reached_is_waited_for(shell: Shell) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    process = shell.start("run", shell.table(3), *RUN, env={"OPENAI_BASE_URL": url})
    assert process.stderr is not None
    seen = read_until(process.stderr.fileno(), "cannot be reached")
    assert f"OpenAI cannot be reached at {url[7:-3]}" in seen
    process.send_signal(signal.SIGINT)
    left = shell.finish(process)
    assert left.code == 130
    assert "Nothing of job" in left.err
    assert "halfrate attach" in left.err
    assert shell.untouched()


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, shell: Shell, *words: str) -> None:
        self.shell = shell
        self.main, second = pty.openpty()
        env = {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
        self.process = shell.start(*words, env=env, stdin=second, stdout=second, stderr=second)
        os.close(second)
        self.seen = ""

    def expect(self, pattern: str) -> None:
        self.seen += read_until(self.main, pattern)
        assert re.search(pattern, self.seen), self.seen

    def say(self, text: str) -> None:
        os.write(self.main, text.encode())

    def end(self) -> Ran:
        self.seen += read_until(self.main, r"\Z.")
        try:
            self.process.wait(timeout=20)
        finally:
            self.process.kill()
            os.close(self.main)
        assert "Traceback" not in self.seen
        return Ran(self.process.returncode, self.seen, "")


def test_on_a_terminal_it_asks_and_obeys_no(shell: Shell) -> None:
    terminal = Terminal(shell, "run", shell.table(3), *RUN)
    terminal.expect("Send it")
    terminal.say("n\n")
    ran = terminal.end()
    assert "3 rows of rows.jsonl for openai/gpt-4.1-mini, in 1 batch" in ran.out
    assert "Nothing was sent" in ran.out
    assert ran.code == 130
    assert shell.untouched()
    assert list((shell.home / "jobs").iterdir()) == []


def test_on_a_terminal_it_draws_and_ends_cleanly(shells: Shells) -> None:
    shell = shells("batch-stuck:seconds=600")
    terminal = Terminal(shell, "run", shell.table(3), *RUN)
    terminal.expect("Send it")
    terminal.say("y\n")
    terminal.expect(r"of .*3 rows")
    wait_until(lambda: shell.meter()["batches_created"])
    shell.hurry()
    ran = terminal.end()
    assert ran.code == 0, ran.out
    assert "\x1b[?25l" in ran.out  # the cursor is hidden while it draws ...
    assert ran.out.rfind("\x1b[?25h") > ran.out.rfind("\x1b[?25l")  # ... and shown again
    assert "3 of 3 rows answered" in ran.out
    assert "Written to out.jsonl" in ran.out
    assert len(shell.rows("out.jsonl")) == 3


def test_on_a_terminal_ctrl_c_leaves_and_the_same_command_asks_whether_to_go_on(shells: Shells) -> None:
    shell = shells("batch-stuck:seconds=600")
    table = shell.table(3)
    first = Terminal(shell, "run", table, *RUN, "--yes")
    first.expect(r"of .*3 rows")
    wait_until(lambda: shell.meter()["batches_created"])
    first.process.send_signal(signal.SIGINT)
    left = first.end()
    assert left.code == 130
    assert "halfrate attach" in left.out
    shell.hurry()
    second = Terminal(shell, "run", table, *RUN)
    second.expect("is unfinished. Go on with it")
    second.say("\n")
    assert second.end().code == 0
    assert shell.meter()["batches_created"] == 1


def test_with_max_cost_or_yes_it_does_not_ask(shell: Shell) -> None:
    for words in (["--max-cost", "1"], ["--yes", "--new"]):
        terminal = Terminal(shell, "run", shell.table(3), *RUN, *words)
        ran = terminal.end()
        assert ran.code == 0, ran.out
        assert "Send it" not in ran.out


def limited(size: int) -> Callable[[], None]:
    """No file of the child's may grow past this: what a full disk looks like, on any file system."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def test_a_full_disk_while_planning(shell: Shell) -> None:
    shell("jobs")
    table = shell.file("rows.jsonl", json.dumps({"q": "x" * 3000}).encode() * 1 + b"\n")
    big = shell.file("big.jsonl", (json.dumps({"q": "x" * 3000}) + "\n") * 300)
    ran = shell.finish(shell.start("run", big, *RUN, preexec_fn=limited(500_000)))
    assert ran.code == 1
    for text in ("could not be taken in", "Nothing was sent", "Make room"):
        assert text in ran.err
    assert shell.untouched()
    assert list((shell.home / "jobs").iterdir()) == []
    assert shell("run", table, *RUN).code == 0


def test_a_full_disk_when_the_output_is_written(shell: Shell) -> None:
    # The output holds the input's columns and ours: it is what does not fit.
    table = shell.file(
        "rows.jsonl", "".join(json.dumps({"q": n, "pad": "w" * 20_000}) + "\n" for n in range(150))
    )
    fits = Path(table).stat().st_size + 10_000
    ran = shell.finish(shell.start("run", table, *RUN, "--json", preexec_fn=limited(fits)))
    assert ran.code == 1, ran.err
    for text in ("out.jsonl cannot be written", "disk is full", "answers are kept", "halfrate attach"):
        assert text in ran.err
    assert not (shell.folder / "out.jsonl").exists()
    assert list(shell.folder.glob(".*.tmp")) == []
    assert ran.object["succeeded"] == 150
    again = shell("run", table, *RUN, "--json")
    assert again.code == 0, again.err
    assert again.object["job"] == ran.object["job"]
    assert len(shell.rows("out.jsonl")) == 150
    meter = shell.meter()
    assert (meter["batches_created"], meter["rows_billed"]) == (1, 150)


def test_a_full_disk_when_results_are_fetched(shells: Shells) -> None:
    shell = shells("row-big:times=1,size=6000000")
    table = shell.table(4)
    ran = shell.finish(shell.start("run", table, *RUN, "--json", preexec_fn=limited(5_000_000)))
    assert ran.code == 1, ran.err
    for text in ("results could not be written", "still at OpenAI", "halfrate attach"):
        assert text in ran.err
    again = shell("attach", ran.object["job"], "--json")
    assert again.code == 0, again.err
    assert again.object["succeeded"] == 4
    meter = shell.meter()
    assert (meter["batches_created"], meter["rows_billed"], meter["files_stored"]) == (1, 4, 0)


def test_a_reader_that_hangs_up(shell: Shell) -> None:
    shell.run(shell.table(2))
    read, write = os.pipe()
    os.close(read)
    process = shell.start("jobs", "--json", stdout=write)
    os.close(write)
    assert shell.finish(process).code == 1


def imported(*words: str) -> set[str]:
    """Modules that a command imports."""
    code = (
        "import sys\nsys.argv = ['halfrate', *sys.argv[1:]]\n"
        "from halfrate.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *words]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(ran.stderr.split())


HEAVY = {
    "aiohttp",
    "http.client",
    "sqlite3",
    "rich",
    "pyarrow",
    "openai",
    "anthropic",
    "halfrate.service",
    "asyncio",
}


def test_help_imports_nothing_heavy() -> None:
    found = imported("--help")
    assert not found & HEAVY
    assert {name for name in found if name.startswith("halfrate.")} <= {
        "halfrate.base",
        "halfrate.base.errors",
        "halfrate.base.version",
        "halfrate.cli",
        "halfrate.cli.app",
    }


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, halfrate\nprint(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = set(ran.stdout.split())
    assert not found & (HEAVY | {"click", "msgspec"})
    assert {name for name in found if name.startswith("halfrate.")} <= {
        "halfrate.base",
        "halfrate.base.errors",
        "halfrate.base.version",
    }


def test_a_whole_run_imports_no_sdk_and_no_framework(shell: Shell) -> None:
    code = (
        "import sys\nsys.argv = ['halfrate', *sys.argv[1:]]\n"
        "from halfrate.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        "print(*sys.modules)"
    )
    command = [sys.executable, "-c", code, "run", shell.table(2), *RUN]
    ran = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, **shell.env}, cwd=shell.folder
    )
    assert not set(ran.stdout.split()) & {
        "openai",
        "anthropic",
        "aiohttp",
        "rich",
        "pyarrow",
        "pandas",
        "requests",
    }


def test_the_key_is_nowhere(shells: Shells) -> None:
    shell = shells(
        "row-error:match=What is 1,status=400,sticky=true", "poll-error:times=2", "create-lost:times=1"
    )
    texts: list[str] = []
    for provider in ("openai", "anthropic"):
        words = ("--model", MODELS[provider], "--prompt", "{q}")
        ran = shell.finish(shell.start("run", shell.table(3), *words, env={"PYTHONASYNCIODEBUG": "1"}))
        assert ran.code == 3, ran.err
        texts += [ran.out, ran.err]
        shell.env[f"{provider.upper()}_API_KEY"] = f"sk-invalid-{KEY}"
        ran = shell("run", shell.table(4), *words)
        texts += [ran.out, ran.err]
    for words in (["jobs"], ["jobs", "--json"], ["cost"]):
        ran = shell(*words)
        texts += [ran.out, ran.err]
    assert all(KEY not in text for text in texts)
    kept = [path for path in shell.home.rglob("*") if path.is_file()]
    assert any(path.name == "halfrate.db" for path in kept)
    for path in [*kept, *(path for path in shell.folder.iterdir() if path.is_file())]:
        assert KEY.encode() not in path.read_bytes(), path


class _Echo(BaseHTTPRequestHandler):
    """Answers everything with a 401 that repeats the key in full."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        key = self.headers.get("Authorization") or self.headers.get("x-api-key")
        body = json.dumps({"error": {"message": f"No such key: {key}", "code": "invalid_api_key"}}).encode()
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_provider_that_repeats_the_key_is_not_quoted(shell: Shell, provider: str) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        shell.env[f"{provider.upper()}_BASE_URL"] = f"http://127.0.0.1:{server.server_port}"
        ran = shell.run(shell.table(2), provider=provider)
        server.shutdown()
        thread.join()
    assert ran.code == 2
    assert "No such key: " in ran.err
    assert KEY not in ran.err
    assert all(KEY.encode() not in path.read_bytes() for path in shell.home.rglob("*") if path.is_file())


def test_a_stand_in_that_caches_prompts_shows_what_a_cache_saves(shell: Shell) -> None:
    stand_in = shell.start("emulate", "--port", "0", "--prompt-cache", "--speed", "50")
    try:
        assert stand_in.stdout is not None
        url = read_until(stand_in.stdout.fileno(), r"export ANTHROPIC_BASE_URL=(\S+)")
        found = re.search(r"export ANTHROPIC_BASE_URL=(\S+)", url)
        assert found is not None, url
        shell.env["ANTHROPIC_BASE_URL"] = found[1]
        rules = "".join(f"Rule {n}: be brief and polite in all that you say.\n" for n in range(200))
        words = (
            "--model",
            "anthropic/claude-sonnet-4-5",
            "--prompt",
            "{q}",
            "--system",
            rules,
            "--cache",
            "auto",
        )
        ran = shell("run", shell.table(100), *words, "--json").object
    finally:
        stand_in.kill()
        stand_in.communicate()
    assert ran["succeeded"] == 100
    assert ran["cached_tokens"] > 0.9 * ran["input_tokens"]
    assert float(ran["cache_saved_usd"]) > 2 * float(ran["cost_usd"])
