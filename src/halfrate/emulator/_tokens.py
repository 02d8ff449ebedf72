"""Token counts from content. Not the providers' tokenisers: a fixed rule that anybody can check by hand.

Text counts one token for every four UTF-8 bytes, rounded up; every request has a small overhead; an image
counts the same whatever it shows; sound counts one token for every thousand characters of its base64, rounded up.
"""

from typing import Any

import msgspec

from halfrate.emulator._wire import as_document, as_list, documents

REQUEST_OVERHEAD = 7
IMAGE_TOKENS = 255
AUDIO_BYTES_PER_TOKEN = 1_000
BYTES_PER_TOKEN = 4


def text_tokens(size: int) -> int:
    """Tokens of a text with that many UTF-8 bytes."""
    return -(-size // BYTES_PER_TOKEN)


def content_text(content: Any) -> str:
    """The text of a message's content: a string, or the text parts of a list of blocks, joined."""
    if isinstance(content, str):
        return content
    block = as_document(content)
    if block is not None:
        for key in ("text", "content", "output", "arguments"):
            if key in block:
                return content_text(block[key])
        return msgspec.json.encode(block["input"]).decode() if "input" in block else ""
    return "\n".join(filter(None, (content_text(part) for part in as_list(content) or ())))


def images(content: Any) -> int:
    """How many image parts a content has."""
    return sum(1 for part in documents(content) if "image" in str(part.get("type")))


def encoded_size(value: object) -> int:
    """Bytes of a JSON value (tools, schemas): they are part of the prompt too."""
    return len(msgspec.json.encode(value)) if value else 0


def cut(text: str, tokens: int) -> str:
    """The text cut to that many tokens, at a character's edge."""
    return text.encode()[: tokens * BYTES_PER_TOKEN].decode(errors="ignore")
