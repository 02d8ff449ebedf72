"""What the models say: short, readable, and the same whenever the same thing is asked."""

from hashlib import blake2b
from typing import Any

import msgspec

from halfrate.emulator._schema import SchemaAnswer

_OPENINGS = (
    "Thank you for getting in touch",
    "Thanks for writing to us",
    "We have read your message with care",
    "Here is what we can say",
)
_CLOSINGS = (
    "Our team will look into it today and reply with the next step.",
    "The most likely cause is a setting that can be changed in your account.",
    "This is known, and a fix is on its way.",
    "In short: yes, and no further action is needed from you.",
)

UNICODE_TRAP = "\u2028line\u2029paragraph\u0085next"
"""Legal inside a JSON string, yet some line readers break here."""


class Twist(msgspec.Struct, frozen=True):
    """What a row fault changes in an answer."""

    refusal: bool = False
    truncated: bool = False
    unicode: bool = False
    size: int = 0


PLAIN = Twist()


def write_text(prompt: str, twist: Twist = PLAIN) -> str:
    """A short answer to a prompt; it quotes the start of what was asked."""
    digest = blake2b(prompt.encode(errors="replace"), digest_size=4).digest()
    start = " ".join(prompt.split())[:80]
    opening, closing = _OPENINGS[digest[0] % len(_OPENINGS)], _CLOSINGS[digest[1] % len(_CLOSINGS)]
    return _bent(f"{opening} about “{start}”. {closing}" if start else f"{opening}. {closing}", twist)


def write_document(schema: dict[str, Any], prompt: str, twist: Twist = PLAIN) -> Any:
    """A value that conforms to a schema; a twist goes into a text of it, when it has a free one."""
    return SchemaAnswer(schema, prompt, _bent("", twist)).document()


def _bent(text: str, twist: Twist) -> str:
    if twist.unicode:
        text += UNICODE_TRAP
    if twist.size:
        text += "x" * max(0, twist.size - len(text.encode()))
    return text
