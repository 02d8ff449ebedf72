"""`halfrate emulate`: the providers' batch APIs on this machine."""

import asyncio
import contextlib

import click

from halfrate.base.errors import StorageError


def _fault_help() -> str:
    from halfrate.emulator import FAULTS

    lines: list[str] = []
    group = ""
    for name, kind in FAULTS.items():
        if kind.group != group:
            group = kind.group
            lines.append(f"\n{group}")
        keys = "".join(f" {key}=" for key in kind.keys)
        lines.append(f"  {name + keys:<40} {kind.summary}")
    lines.append(
        "\nEvery fault also takes rate=0..1, times=N and provider=NAME; those of rows take match=TEXT."
    )
    return "\n".join(lines).lstrip("\n")


@click.command(short_help="Start a stand-in for the providers on this machine.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True)
@click.option("--fault", multiple=True, metavar="SPEC", help="Something to go wrong; see --faults.")
@click.option("--faults", "list_faults", is_flag=True, help="List what can go wrong.")
@click.option("--prompt-cache", is_flag=True, help="Cache prompts as the providers do, to try --cache with.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--speed", type=click.FloatRange(min=0.001), default=1.0, help="Seconds that pass in one.")
def emulate(
    host: str,
    port: int,
    fault: tuple[str, ...],
    list_faults: bool,
    prompt_cache: bool,
    seed: int,
    speed: float,
) -> int:
    """Start a stand-in for the providers: no key, no cost, and faults on request.

    \b
    halfrate emulate --fault row-error:rate=0.03,status=429 --fault create-lost:times=1
    """
    from halfrate.emulator import (
        CacheModel,
        Emulator,
        FaultSpecError,
        RealClock,
        ScaledClock,
        run_server,
    )

    if list_faults:
        click.echo(_fault_help())
        return 0
    try:
        emulator = Emulator(
            seed=seed,
            clock=RealClock() if speed == 1.0 else ScaledClock(speed),
            faults=list(fault),
            # Rows of one batch mostly do not see what others of it have written.
            cache=CacheModel(within_batch=False) if prompt_cache else None,
        )
    except FaultSpecError as error:
        raise click.UsageError(f"--fault: {error}") from None

    def ready(url: str) -> None:
        click.echo(f"The providers' stand-in is at {url}. Point halfrate, or an official SDK, at it:\n")
        for variables in emulator.environment(url).values():
            words = " ".join(f"{name}={value}" for name, value in variables.items())
            click.echo(f"  export {words}")
        click.echo(f"\nWhat it would have billed: {url}/meter    Ctrl-C ends it.")

    with emulator, contextlib.suppress(KeyboardInterrupt):
        try:
            asyncio.run(run_server(emulator, host, port, ready=ready))
        except OSError as error:
            raise StorageError(
                f"Port {port} at {host} cannot be had ({error.strerror}). Name another with --port."
            ) from error
    return 0
