"""`halfrate providers`: what each provider can do, from the records that the engine works by."""

from typing import Any, Final

import click

from halfrate.base.types import Capabilities
from halfrate.cli.text import echo_json, echo_table
from halfrate.providers.registry import adapter_class, provider_names

_ADOPTION: Final = {
    "metadata": "our tag in its metadata",
    "name": "our tag as its name",
    "id": "the id we chose",
    "file": "its request file",
    "count": "its time and size",
}
_STACKS: Final = {True: "yes", False: "no", None: "by model"}


@click.command(short_help="List the providers: limits, windows, discounts.")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def providers(name: str | None, as_json: bool) -> int:
    """List what can stand before a model; with NAME, all that is known of one.

    Providers of installed packages and of the settings file are among them.
    """
    names = [name] if name is not None else provider_names()
    known = [adapter_class(one).capabilities for one in names]
    if as_json:
        echo_json([_object(facts) for facts in known])
        return 0
    if name is not None:
        _show(known[0])
        return 0
    head = ("provider", "endpoints", "rows", "MB", "within", "off", "cached too", "key")
    echo_table(head, [_line(facts) for facts in known], right=(2, 3))
    click.echo(
        "\n`halfrate providers NAME` says more. What a model costs stands in the price book, never in a rule."
    )
    return 0


def _line(facts: Capabilities) -> tuple[str, ...]:
    key = facts.key_variables[0] if facts.key_variables else "none"
    if facts.key_variables and not facts.needs_key:
        key = f"({key})"
    if not facts.batches:
        return (facts.provider, " ".join(facts.endpoints), "", "", "real time", "", "", key)
    return (
        facts.provider,
        " ".join(facts.endpoints),
        f"{facts.limits.rows:,}",
        f"{facts.limits.bytes // 1_000_000:,}",
        _windows(facts),
        facts.discount,
        _STACKS[facts.cache_stacks],
        key,
    )


def _windows(facts: Capabilities) -> str:
    first, rest = facts.windows[0], facts.windows[1:]
    return f"{first} … {rest[-1]}" if rest else first


def _show(facts: Capabilities) -> None:
    limits = facts.limits
    lines = [
        ("provider", f"{facts.provider} ({facts.title})"),
        ("endpoints", ", ".join(facts.endpoints)),
        ("key", " or ".join(facts.key_variables) or "none"),
        ("base URL", "  ".join(filter(None, (facts.default_url, facts.url_variable)))),
    ]
    lines += [
        (setting.name, _setting(setting.help, setting.variables, setting.default))
        for setting in facts.settings
    ]
    if facts.batches:
        lines += [
            (
                "rows a batch",
                f"{limits.rows:,}" + (f", at least {facts.least_rows}" if facts.least_rows > 1 else ""),
            ),
            ("bytes a batch", f"{limits.bytes:,}"),
            ("bytes a row", f"{limits.row_bytes:,}"),
            ("within", ", ".join(facts.windows)),
            ("off real time", facts.discount),
            ("cached tokens too", _STACKS[facts.cache_stacks]),
            ("results kept", facts.kept or "not said"),
            ("found again by", _ADOPTION[facts.adoption]),
            ("creates an hour", f"{facts.creates_per_hour:,}" if facts.creates_per_hour else "not said"),
            ("own batch files", f"{facts.native_form} lines, untouched" if facts.native_form else "none"),
            (
                "real time near a deadline",
                "yes" if facts.rescues else "no: its batch models serve batches alone",
            ),
        ]
    lines += [
        (f"--option {option.name}", ": ".join(filter(None, (option.help, ", ".join(option.choices)))))
        for option in facts.options
    ]
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        click.echo(f"{name:<{width}}  {value}")


def _setting(text: str, variables: tuple[str, ...], default: str | None) -> str:
    where = f" ({', '.join(variables)})" if variables else ""
    return f"{text}{where}" + (f", {default} unless told otherwise" if default else "")


def _object(facts: Capabilities) -> dict[str, Any]:
    limits = facts.limits
    return {
        "provider": facts.provider,
        "title": facts.title,
        "endpoints": list(facts.endpoints),
        "batches": facts.batches,
        "rows": limits.rows,
        "least_rows": facts.least_rows,
        "bytes": limits.bytes,
        "row_bytes": limits.row_bytes,
        "embedding_inputs": limits.embedding_inputs,
        "windows": list(facts.windows),
        "discount": facts.discount,
        "cache_stacks": facts.cache_stacks,
        "kept": facts.kept or None,
        "adoption": facts.adoption,
        "creates_per_hour": facts.creates_per_hour,
        "native_form": facts.native_form,
        "rescues": facts.rescues,
        "key_variables": list(facts.key_variables),
        "url_variable": facts.url_variable or None,
        "base_url": facts.default_url or None,
        "settings": [setting.name for setting in facts.settings],
        "options": {option.name: list(option.choices) for option in facts.options},
    }
