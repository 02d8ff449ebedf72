"""The command line."""

import gc

# Before anything else is loaded: what a command makes lives as long as the command, and looking through it again and
# again while its modules are loaded finds nothing.
gc.set_threshold(100_000, 20, 20)

from halfrate.cli.app import main  # noqa: E402

__all__ = ["main"]
