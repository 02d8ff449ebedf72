"""The command line."""

from halfrate.cli.app import main

__all__ = ["main"]
