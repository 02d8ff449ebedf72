"""Options as a person types them."""

from pathlib import Path
from typing import Any

import click
import msgspec

from halfrate.base.errors import SettingsError, UsageError


def pairs(values: tuple[str, ...], option: str) -> dict[str, str]:
    """`k=v` options as a mapping."""
    found: dict[str, str] = {}
    for text in values:
        key, sign, value = text.partition("=")
        if not sign or not key.strip():
            raise click.UsageError(f"{option} takes NAME=VALUE, not {text!r}.")
        found[key.strip()] = value
    return found


def parameters(values: tuple[str, ...]) -> dict[str, Any]:
    """`--param k=v`: a value that is JSON is taken as JSON, any other as text."""
    found: dict[str, Any] = {}
    for key, text in pairs(values, "--param").items():
        try:
            found[key] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            found[key] = text
    return found


def read_text(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{what} {path} cannot be read: {error.strerror}. Nothing was sent.") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{what} {path} is not UTF-8 text. Nothing was sent.") from None


def read_schema(path: Path) -> dict[str, Any]:
    """A JSON Schema from a file. Raises UsageError where it is none."""
    from halfrate.service.answers import check_schema

    try:
        value = msgspec.json.decode(read_text(path, "The schema"))
    except msgspec.DecodeError as error:
        raise UsageError(f"The schema {path} is not JSON: {error}. Nothing was sent.") from None
    try:
        return check_schema(value)
    except UsageError as error:
        raise UsageError(f"{path}: {error} Nothing was sent.") from None
