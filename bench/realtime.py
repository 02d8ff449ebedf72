"""python -m bench.realtime: what `halfrate serve` costs a call in real time, beside nginx and the LiteLLM proxy.

Each server in turn stands before the same upstream, which answers at once with one chat completion (nginx, `return`),
and is pinned to one core; the upstream and the callers (wrk, 64 connections) share another. halfrate checks the key,
routes, and books each call: afterwards the ledger has to have every call that was answered, or the run does not count.
nginx only passes on (`proxy_pass`, kept connections). LiteLLM is measured where a Python that has it is named. Added
latency is the median of one connection through a server, less that without any.

Bars: a sixth of nginx's calls a second, forty times LiteLLM's, and 0.6 ms of added latency.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from . import servers

_HERE: Final = Path(__file__).resolve().parent
_CONNECTIONS: Final = 64
_OF_NGINX: Final = 1 / 6
_OF_LITELLM: Final = 40.0
_LATENCY: Final = 0.6
_ASKED: Final = {
    "model": "gpt-4.1-mini",
    "messages": [{"role": "user", "content": "word " * 200}],
    "max_tokens": 100,
}
_ANSWER: Final = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_750_000_000,
    "model": "gpt-4.1-mini-2025-04-14",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "answer " * 50}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 210, "completion_tokens": 52, "total_tokens": 262},
    "service_tier": "default",
}
_COMMON: Final = """
daemon off; master_process off; worker_processes 1; pid {folder}/{name}.pid; error_log {folder}/{name}.error;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}/{name}.b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
"""
_UPSTREAM: Final = (
    _COMMON
    + """server {{ listen 127.0.0.1:{port}; default_type application/json;
    location / {{ return 200 '{answer}'; }} }} }}"""
)
_PROXY: Final = (
    _COMMON
    + """upstream provider {{ server 127.0.0.1:{upstream}; keepalive 256; }}
  server {{ listen 127.0.0.1:{port};
    location / {{ proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://provider; }} }} }}"""
)
_LITELLM: Final = """
model_list:
  - model_name: gpt-4.1-mini
    litellm_params: {{model: openai/gpt-4.1-mini, api_base: "http://127.0.0.1:{upstream}/v1", api_key: sk-bench}}
general_settings: {{master_key: sk-bench}}
"""
_SCRIPT: Final = """
wrk.method = "POST"
wrk.path = "/v1/chat/completions"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer {key}"
wrk.body = [==[{body}]==]
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format('{{"calls":%d,"seconds":%f,"p50":%f,"wrong":%d,"lost":%d}}\\n', summary.requests,
    summary.duration / 1e6, latency:percentile(50) / 1e3, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
"""


class Load(NamedTuple):
    """What a server did: calls answered, how many a second, and the median of a call in milliseconds."""

    calls: int
    a_second: float
    median: float


@contextmanager
def _nginx(folder: Path, name: str, text: str, core: int, **fields: object) -> Generator[int]:
    port = servers.free_port()
    config = folder / f"{name}.conf"
    config.write_text(text.format(folder=folder, name=name, port=port, **fields))
    program = servers.nginx()
    if program is None:
        raise SystemExit("bench: this needs nginx (Debian's nginx-light)")
    command = [program, "-c", str(config)]
    with servers.running(command, os.environ, port, folder / f"{name}.log", core):
        yield port


@contextmanager
def _litellm(folder: Path, python: Path, upstream: int, core: int) -> Generator[int]:
    port = servers.free_port()
    config = folder / "litellm.yaml"
    config.write_text(_LITELLM.format(upstream=upstream))
    command = [
        str(python.with_name("litellm")),
        "--config",
        str(config),
        "--port",
        str(port),
        "--num_workers",
        "1",
    ]
    environment = {**os.environ, "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with servers.running(command, environment, port, folder / "litellm.log", core):
        yield port


def _load(folder: Path, port: int, key: str, connections: int, seconds: int, core: int) -> Load:
    script = folder / "load.lua"
    script.write_text(_SCRIPT.format(key=key, body=json.dumps(_ASKED)))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script)]
    ran = subprocess.run(
        [*servers.pinned(core), *command, f"http://127.0.0.1:{port}/"],
        check=True,
        capture_output=True,
        text=True,
    )
    found = re.search(r"^\{.*\}$", ran.stdout, re.MULTILINE)
    if found is None:
        raise SystemExit(f"bench: wrk said nothing: {ran.stdout}{ran.stderr}")
    told = json.loads(found[0])
    if told["wrong"] or told["lost"] or not told["calls"]:
        raise SystemExit(f"bench: not every call was answered: {told}")
    return Load(told["calls"], told["calls"] / told["seconds"], told["p50"])


def _once(port: int, key: str) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(_ASKED).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {key}"},
    )
    with urllib.request.urlopen(request, timeout=120) as reply:  # noqa: S310
        reply.read()


def _booked(port: int, key: str) -> int:
    """Calls in the gateway's ledger."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/halfrate/cost", headers={"authorization": f"Bearer {key}"}
    )
    with urllib.request.urlopen(request, timeout=120) as reply:  # noqa: S310
        total = json.load(reply)["total"]
    if total["cost_usd"] is None or total["doubts"]:
        raise SystemExit(f"bench: the ledger does not know what calls cost: {total}")
    return total["rows"]


class _Bench:
    """One run: the upstream, and how it is loaded."""

    def __init__(self, folder: Path, upstream: int, seconds: int) -> None:
        self.folder = folder
        self.upstream = upstream
        self.seconds = seconds
        self.sent = 0

    def load(self, port: int, key: str, connections: int) -> Load:
        done = _load(self.folder, port, key, connections, self.seconds, core=1)
        self.sent += done.calls
        return done

    def measured(self, port: int, key: str = "") -> tuple[Load, Load]:
        """With many connections, and with one."""
        # What is loaded and compiled at the first call is not what a call costs.
        _once(port, key)
        self.sent += 1
        self.load(port, key, 4)
        return self.load(port, key, _CONNECTIONS), self.load(port, key, 1)

    def halfrate(self) -> tuple[Load, Load]:
        home = self.folder / "gateway"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        provider = {"OPENAI_API_KEY": "sk-bench", "OPENAI_BASE_URL": f"http://127.0.0.1:{self.upstream}/v1"}
        with servers.gateway(home, provider, core=0) as (_, port, key):
            self.sent = 0
            found = self.measured(port, key)
            booked = _booked(port, key)
        # What was under way when wrk left was answered as well.
        if not self.sent <= booked <= self.sent + 3 * _CONNECTIONS:
            raise SystemExit(f"bench: {self.sent} calls were answered, and {booked} are in the ledger")
        return found

    def nginx(self) -> tuple[Load, Load]:
        with _nginx(self.folder, "proxy", _PROXY, 0, upstream=self.upstream) as port:
            return self.measured(port)

    def litellm(self, python: Path) -> tuple[Load, Load]:
        with _litellm(self.folder, python, self.upstream, 0) as port:
            return self.measured(port, "sk-bench")


def main(given: Sequence[str]) -> int:
    """0 when every bar is cleared, 1 when not."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.realtime", description="Measure calls in real time."
    )
    parser.add_argument("--seconds", type=int, default=8, help="of each load")
    parser.add_argument("--rounds", type=int, default=3, help="of all servers in turn; the median counts")
    parser.add_argument("--litellm", type=Path, help="a Python that has litellm[proxy]")
    parser.add_argument("--work", type=Path, default=_HERE / ".work", help="where to keep the files")
    arguments = parser.parse_args(given)
    if shutil.which("wrk") is None:
        raise SystemExit("bench: this needs wrk")
    folder: Path = arguments.work.resolve() / "realtime"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    found: dict[str, list[tuple[Load, Load]]] = {}
    direct: list[Load] = []
    answer = json.dumps(_ANSWER)
    try:
        with _nginx(folder, "upstream", _UPSTREAM, 1, answer=answer) as upstream:
            bench = _Bench(folder, upstream, arguments.seconds)
            for _ in range(arguments.rounds):
                direct.append(bench.load(upstream, "", 1))
                found.setdefault("nginx", []).append(bench.nginx())
                found.setdefault("halfrate serve", []).append(bench.halfrate())
                if arguments.litellm is not None:
                    found.setdefault("LiteLLM proxy", []).append(bench.litellm(arguments.litellm))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _report(found, median(one.median for one in direct))


def _report(found: dict[str, list[tuple[Load, Load]]], direct: float) -> int:
    print("one core, one model         calls/s (64)   added ms (1)   p50 ms (64)")
    rates: dict[str, float] = {}
    added: dict[str, float] = {}
    for name, rounds in found.items():
        rates[name] = median(many.a_second for many, _ in rounds)
        added[name] = median(one.median for _, one in rounds) - direct
        many = median(many.median for many, _ in rounds)
        print(f"{name:<26}{rates[name]:14,.0f}{added[name]:15.3f}{many:14.2f}")
    ours = rates["halfrate serve"]
    bars = [
        (
            ours >= _OF_NGINX * rates["nginx"],
            f"{ours / rates['nginx']:.2f} of nginx, at least {_OF_NGINX:.2f}",
        ),
        (
            added["halfrate serve"] <= _LATENCY,
            f"{added['halfrate serve']:.2f} ms added, at most {_LATENCY:g}",
        ),
    ]
    other = rates.get("LiteLLM proxy")
    if other is not None:
        bars.append(
            (ours >= _OF_LITELLM * other, f"{ours / other:.0f} times LiteLLM, at least {_OF_LITELLM:.0f}")
        )
    for passed, what in bars:
        print(f"{'PASS' if passed else 'FAIL'}  {what}")
    return 0 if all(passed for passed, _ in bars) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
