"""The batch APIs of OpenAI and Anthropic on this machine: for trying things out, and as a witness in tests.

    emulator = Emulator(faults=["row-error:rate=0.03,status=429"])
    with emulator.running() as url:
        client = openai.OpenAI(base_url=emulator.openai_base_url(url), api_key="test")

It shares no code with the rest of the package: a misreading of a protocol there is not repeated here.
"""

from typing import TYPE_CHECKING

from halfrate.emulator._clock import Clock, ManualClock, RealClock, ScaledClock
from halfrate.emulator._emulator import Emulator
from halfrate.emulator._fault_table import COMMON_KEYS, FAULTS, FaultKind
from halfrate.emulator._faults import Fault, FaultSpecError, parse_fault
from halfrate.emulator._meter import Meter, fingerprint
from halfrate.emulator._settings import CacheModel, Limits, Pace
from halfrate.emulator._webhooks import Webhook, WebhookTarget
from halfrate.emulator._wire import Delivery, Request, Response

if TYPE_CHECKING:
    from halfrate.emulator._serving import run_server

__all__ = [
    "COMMON_KEYS",
    "FAULTS",
    "CacheModel",
    "Clock",
    "Delivery",
    "Emulator",
    "Fault",
    "FaultKind",
    "FaultSpecError",
    "Limits",
    "ManualClock",
    "Meter",
    "Pace",
    "RealClock",
    "Request",
    "Response",
    "ScaledClock",
    "Webhook",
    "WebhookTarget",
    "fingerprint",
    "parse_fault",
    "run_server",
]


def __getattr__(name: str) -> object:
    # aiohttp's server takes a while to import; a world without sockets does not need it.
    if name == "run_server":
        from halfrate.emulator._serving import run_server

        return run_server
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
