"""Calls that ask for their answers piece by piece: what is put into their bodies and heads."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from halfrate.base.version import VERSION

USAGE: Final[Mapping[str, Any]] = {"stream": True, "stream_options": {"include_usage": True}}
"""What makes OpenAI stream, and say at the end what it used (API reference, "Streaming")."""

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def asking(body: bytes, more: Mapping[str, Any]) -> bytes:
    """A body with more fields. Nothing else in it changes."""
    fields = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in more.items()}
    return msgspec.json.encode(_fields(body) | fields)


def signed(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The head of a call that is signed for itself, as `Http` has it."""
    return (("User-Agent", f"halfrate/{VERSION}"), *headers.items())
