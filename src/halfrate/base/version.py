"""The version, where everything below the faces can read it."""

from typing import Final

VERSION: Final = "0.1.0.dev0"
