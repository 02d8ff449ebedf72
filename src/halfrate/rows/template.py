"""Prompts with columns in them: `Classify this message: {text}`.

A placeholder is a column's name in braces. Braces around anything that cannot be a name (quotes, colons,
line breaks, nothing) are left alone, so a JSON example in a prompt needs no doubling; `{{` and `}}` are
literal braces for the rest.
"""

import re

import msgspec

from halfrate.base.errors import UsageError
from halfrate.base.types import Template

_GAP = re.compile(r"\s+")
_PIECE = re.compile(r"\{\{|\}\}|\{([^{}\"'\n\r:,\[\]]*[^{}\"'\n\r:,\[\]\s])\}")


def parse_template(text: str) -> Template:
    """The literals and columns of a prompt. Raises UsageError for a prompt that is blank."""
    if not text.strip():
        raise UsageError("The prompt is empty. Give one that names a column, as in --prompt '{text}'.")
    literals: list[str] = []
    columns: list[str] = []
    literal = ""
    end = 0
    for match in _PIECE.finditer(text):
        literal += text[end : match.start()]
        end = match.end()
        if match.group(1) is None:
            literal += match.group()[0]
            continue
        literals.append(literal)
        columns.append(match.group(1).strip())
        literal = ""
    literals.append(literal + text[end:])
    return Template(tuple(literals), tuple(columns))


def whole_words(text: str) -> str:
    """How a literal begins, up to its last gap between words.

    A word at least is left of it, so that what goes on after it is never blank.
    """
    body = text.rstrip()
    gaps = [match.end() for match in _GAP.finditer(body)]
    return text[: gaps[-1]] if gaps and body[: gaps[-1]].strip() else ""


def after_head(template: Template, head: str) -> Template:
    """The rest of a prompt that begins with `head`."""
    first, *others = template.literals
    return msgspec.structs.replace(template, literals=(first.removeprefix(head), *others))
