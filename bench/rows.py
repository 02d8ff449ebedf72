"""The input: N rows of about 1.2 kB of English-like text, the same for the same seed.

Rows carry what real exports carry, because each costs a decoder something: JSON escapes (`\\n`, `\\"`, `\\u2019`),
raw UTF-8, and fields that the job does not use. The token of every prompt (a checksum of its text after decoding)
is written beside the rows, so that an answer joined to the wrong row, or a prompt changed on its way to the
provider, shows in the output of any client.
"""

# ruff: noqa: RUF001 - typographic quotes and dashes are what real text holds

import random
import zlib
from array import array
from dataclasses import dataclass
from json.encoder import encode_basestring, encode_basestring_ascii
from pathlib import Path

SEED = 20_251_121
TEXT_BYTES = 1_030
TOKEN_MARK = b"ref-"
TOKEN_DIGITS = 8

_SUBJECTS = (
    "The customer", "A visitor from Zürich", "Our support team", "The second reviewer", "The supplier",
    "A regular at the café", "The night shift", "Nobody in the branch office", "The editor", "The new parser",
)  # fmt: skip
_VERBS = (
    "reported that", "could not explain why", "was told twice that", "wrote to say that", "doesn’t believe that",
    "noticed on Monday that", "asked whether", "recorded, in some detail, that", "was pleased to hear that",
)  # fmt: skip
_CLAUSES = (
    "the parcel arrived three days late and the box had been opened",
    'the sign on the door still read "closed until further notice"',
    "the invoice was paid in full – 1 250,00 € – before the end of the month",
    "it’s cheaper to replace the whole unit than to repair the hinge",
    "the figures in the annual report do not agree with those in the summary",
    "the naïve approach works for small files and fails for large ones",
    'the phrase "as soon as possible" means something else to everyone',
    "the battery lasts for about nine hours when the screen is dimmed",
    "the translation into 日本語 was finished before the original text",
    "the path C:\\data\\export was written into the contract by mistake",
    "there was no answer at the number given on the form",
    "the temperature in the store room had never been above 21 °C",
)
_ENDINGS = (
    ". ",
    ". ",
    ". ",
    "; so far without result. ",
    ".\n",
    ".\n\n",
    ", which nobody had expected. ",
    "!\n\t– ",
)
_SENTENCE_COUNT = 2_048


@dataclass(frozen=True)
class Input:
    """Where the rows and the tokens of their prompts (unsigned 32-bit, native order, one per row) were written."""

    rows: Path
    tokens: Path
    count: int


def token_of(prompt: bytes) -> int:
    """The number that stands for a prompt (UTF-8, decoded) in its answer."""
    return zlib.crc32(prompt)


def _sentences(rng: random.Random) -> list[tuple[bytes, bytes, bytes]]:
    """Sentences as (JSON in ASCII, JSON in raw UTF-8, plain UTF-8), the JSON without its quotes."""
    sentences: list[tuple[bytes, bytes, bytes]] = []
    for _ in range(_SENTENCE_COUNT):
        text = f"{rng.choice(_SUBJECTS)} {rng.choice(_VERBS)} {rng.choice(_CLAUSES)}{rng.choice(_ENDINGS)}"
        forms = (encode_basestring_ascii(text)[1:-1], encode_basestring(text)[1:-1], text)
        sentences.append((forms[0].encode(), forms[1].encode(), forms[2].encode()))
    return sentences


def _metadata(rng: random.Random) -> list[bytes]:
    return [
        b'{"source": "%b", "year": %d, "score": %.3f, "tags": ["%b", "text"]}'
        % (
            rng.choice((b"web", b"mail", b"scan")),
            rng.randrange(1990, 2026),
            rng.random(),
            rng.choice((b"a", b"b")),
        )
        for _ in range(256)
    ]


def generate(count: int, folder: Path, seed: int = SEED) -> Input:
    """Write `rows.jsonl` and `tokens.u32` into `folder`, in constant memory."""
    rng = random.Random(seed)
    sentences = _sentences(rng)
    metadata = _metadata(rng)
    per_row = round(TEXT_BYTES * len(sentences) / sum(len(plain) for _, _, plain in sentences))
    rows, tokens = folder / "rows.jsonl", folder / "tokens.u32"
    with rows.open("wb", buffering=1 << 20) as out, tokens.open("wb") as marks:
        for start in range(0, count, 10_000):
            block: array[int] = array("I")
            for row in range(start, min(start + 10_000, count)):
                picked = rng.choices(sentences, k=per_row + row % 3 - 1)
                # The number makes each prompt, and so each token, its own.
                head = b"Case %d. " % row
                # Most writers of JSON escape what is not ASCII, as Python's does; one row in four is raw UTF-8.
                form = 1 if row % 4 == 0 else 0
                escaped = head + b"".join([forms[form] for forms in picked])
                block.append(token_of(head + b"".join([forms[2] for forms in picked])))
                out.write(
                    b'{"id": "doc-%07d", "text": "%b", "meta": %b}\n' % (row, escaped, metadata[row & 255])
                )
            block.tofile(marks)
    return Input(rows, tokens, count)
