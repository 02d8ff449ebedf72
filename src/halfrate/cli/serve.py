"""`halfrate serve`: the gateway."""

import asyncio
import contextlib
import gc
from typing import TYPE_CHECKING

import click

from halfrate.base.errors import SettingsError
from halfrate.cli.app import EXIT_FAILED
from halfrate.cli.follow import signals
from halfrate.service.home import Home
from halfrate.service.jobs import Service

if TYPE_CHECKING:
    from halfrate.gateway.server import Server

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@click.command(short_help="Serve OpenAI's and Anthropic's APIs.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0: any free one."
)
@click.option("--quiet", is_flag=True, help="Log no calls.")
def serve(host: str, port: int, quiet: bool) -> int:
    """Serve OpenAI's and Anthropic's APIs in front of every provider, and work on all jobs.

    \b
    export OPENAI_API_KEY=$(halfrate keys create me)       once
    halfrate serve
    export OPENAI_BASE_URL=http://127.0.0.1:8080/v1        where the callers are

    Whatever speaks OpenAI's API, or Anthropic's, then runs its batches and its calls on any model: `gpt-4.1-mini`,
    `claude-haiku-4-5`, `bedrock/amazon.nova-lite-v1:0`. The providers' own keys stay in this process's environment. The
    log, one line of JSON a call, goes to stderr; nothing that was sent or answered is in it.
    """
    try:
        from halfrate.gateway.logs import Log
        from halfrate.gateway.server import Server, event_loop
    except ImportError as error:
        raise SettingsError(
            "The gateway needs a server: pip install 'halfrate[server]'. Nothing was started."
        ) from error
    with Service(Home.from_environment()) as service:
        if not service.keys.all():
            raise SettingsError(
                "Nobody has a key to this gateway yet. Make one first: halfrate keys create NAME. Nothing was started."
            )
        service.check_depot()
        log = Log(service.clock, quiet=quiet)
        server = Server(service, log, host=host, port=port)
        click.echo(f"The gateway is at {server.url}/v1. Ctrl-C ends it; what is under way is kept.", err=True)
        if host not in _LOOPBACK:
            click.echo(
                "Others can reach it, and keys and prompts travel in the clear: put TLS in front.", err=True
            )
        log.say("serving", url=server.url)
        _room_for_callers()
        with asyncio.Runner(loop_factory=event_loop) as runner:
            return runner.run(_run(server))


def _room_for_callers() -> None:
    """As many open connections as the system allows: callers may wait for hours, and each holds one."""
    try:
        import resource
    except ImportError:
        # Windows has no such limit.
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _run(server: "Server") -> int:
    # What is there now is there to the end, and calls leave little that has to be searched for: looking through all of
    # it for every few hundred objects is a tenth of a call's cost.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    with signals(server.stop):
        await server.run()
    return 0 if server.started else EXIT_FAILED
