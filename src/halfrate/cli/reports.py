"""What the commands that report have in common: a time to report on, and a place for the report."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from halfrate.base.errors import SettingsError
from halfrate.cli.amounts import Moment

_F = TypeVar("_F", bound=Callable[..., Any])


def period(function: _F) -> _F:
    """The options `--since` and `--until`: seconds since 1970, infinite where they are not given."""
    since = click.option(
        "--since", type=Moment(), default=-math.inf, metavar="WHEN", help="As 30d, 12h, or a date."
    )
    until = click.option("--until", type=Moment(), default=math.inf, metavar="WHEN", help="Up to that time.")
    return since(until(function))


def put(data: bytes, output: Path | None, kept: str) -> None:
    """Write a report to a file, or to standard output. `kept`: what to say of a file that cannot be written."""
    if output is not None:
        try:
            output.write_bytes(data)
        except OSError as error:
            raise SettingsError(f"{output} cannot be written ({error.strerror}). {kept}") from error
        return
    out = sys.stdout
    if hasattr(out, "buffer"):
        out.buffer.write(data)
        out.flush()
    else:
        click.echo(data.decode(), nl=False)
