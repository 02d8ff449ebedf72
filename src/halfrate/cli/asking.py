"""Options that say what is asked of each row: those of `run`, and of whatever looks at a job before it is one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from halfrate.cli import options
from halfrate.service.drafts import STDIN

_F = TypeVar("_F", bound=Callable[..., Any])

_OPTIONS = (
    click.argument("input", metavar="INPUT"),
    click.option("--model", metavar="PROVIDER/MODEL", help="As in openai/gpt-4.1-mini."),
    click.option("--prompt", help="What to ask of each row; {column} stands for a column's text."),
    click.option("--prompt-file", type=click.Path(path_type=Path), help="The same, from a file."),
    click.option("--system", help="A system prompt, the same for every row."),
    click.option("--max-tokens", type=click.IntRange(min=1), help="The most an answer may take."),
    click.option("--temperature", type=click.FloatRange(min=0, max=2)),
    click.option(
        "--schema", type=click.Path(path_type=Path), help="A JSON Schema that every answer must meet."
    ),
    click.option("--param", multiple=True, metavar="K=V", help="Any other field of the request body."),
    click.option(
        "--tier",
        type=click.Choice(["batch", "flex", "standard", "priority"]),
        help="How to serve the rows; a batch unless there are none at the provider.",
    ),
    click.option(
        "--option", multiple=True, metavar="K=V", help="A provider's own; see `halfrate providers`."
    ),
    click.option(
        "--endpoint", type=click.Choice(["chat", "responses", "embeddings", "messages", "generate"])
    ),
    click.option("--id", "id_column", metavar="COLUMN", help="The column that names a row in --raw results."),
    click.option("--allow-empty", is_flag=True, help="Send rows whose columns are empty."),
    click.option(
        "--count-tokens",
        is_flag=True,
        help="Count the prompts' tokens with the model's vocabulary, instead of estimating them.",
    ),
    click.option(
        "--cache",
        type=click.Choice(["auto", "off", "5m", "1h"]),
        default="off",
        help="Keep what rows share in the provider's cache, where the sum says that it pays.",
    ),
)


def asking(command: _F) -> _F:
    """Give a command INPUT and these options; `asked` makes fields of an Ask of what it is called with."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def asked(
    *,
    input: str,  # noqa: A002
    prompt: str | None,
    prompt_file: Path | None,
    schema: Path | None,
    param: tuple[str, ...],
    option: tuple[str, ...],
    **same: Any,
) -> dict[str, Any]:
    """Fields of an Ask. Raises UsageError, and SettingsError where a file cannot be read."""
    if prompt is not None and prompt_file is not None:
        raise click.UsageError("Give --prompt or --prompt-file, not both.")
    return {
        **same,
        "input": input if input == STDIN else Path(input),
        "prompt": options.read_text(prompt_file, "The prompt") if prompt_file is not None else prompt,
        "schema": options.read_schema(schema) if schema is not None else None,
        "params": options.parameters(param),
        "options": options.pairs(option, "--option"),
    }
