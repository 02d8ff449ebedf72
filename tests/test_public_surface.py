"""What others may build on: the names of the package, and nothing beside them."""

import ast
import importlib
import pkgutil
from pathlib import Path

import click
import pytest

import halfrate
from halfrate.base import errors
from halfrate.cli.app import app
from halfrate.providers.base import Account

SOURCES = Path(halfrate.__file__).parent


def test_the_names() -> None:
    assert halfrate.__all__ == [
        "HalfrateError",
        "InputError",
        "Job",
        "JobPaused",
        "OutcomeUnknown",
        "OverBudget",
        "ProviderError",
        "Refused",
        "Result",
        "Results",
        "SettingsError",
        "StorageError",
        "UsageError",
        "__version__",
        "arun",
        "asubmit",
        "job",
        "run",
        "submit",
    ]
    assert sorted(halfrate.__all__) == halfrate.__all__ == dir(halfrate)
    for name in halfrate.__all__:
        assert getattr(halfrate, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        getattr(halfrate, "nothing at all")


def test_every_public_name_says_what_it_is_for() -> None:
    for name in set(halfrate.__all__) - {"__version__"}:
        found = getattr(halfrate, name)
        assert found.__doc__, name
        assert found.__module__.startswith("halfrate."), name


def test_the_three_branches_of_errors() -> None:
    wrong = {errors.UsageError, errors.InputError, errors.SettingsError, errors.OverBudget}
    refused = {errors.ProviderError, errors.Refused, errors.OutcomeUnknown}
    for kind in wrong | refused | {errors.StorageError, errors.StoreBusy, errors.IllegalStep}:
        assert issubclass(kind, errors.HalfrateError)
        assert issubclass(kind, errors.UsageError) == (kind in wrong)
        assert issubclass(kind, errors.ProviderError) == (kind in refused)
    assert not issubclass(errors.OutcomeUnknown, errors.Refused)


SDKS = {"openai", "anthropic", "groq", "together", "mistralai", "boto3", "cohere"}


def test_it_is_typed() -> None:
    assert (SOURCES / "py.typed").exists()


def test_every_module_imports_and_none_imports_an_official_sdk() -> None:
    for module in pkgutil.walk_packages([str(SOURCES)], "halfrate."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named: list[str] = []
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                named = [node.module or ""]
            for name in named:
                assert name.partition(".")[0] not in SDKS, path


def test_the_paid_call_stands_on_one_line_of_each_adapter() -> None:
    paying: dict[str, int] = {}
    for path in sorted((SOURCES / "providers").glob("*.py")):
        source = path.read_text(encoding="utf-8")
        verbs = source.count("    async def create(") + source.count("    async def call(")
        if path.stem not in {"base", "http"}:
            assert source.count("PAID CALL") == verbs, path
            paying[path.stem] = verbs
    # One makes a batch, the other runs a row in real time.
    assert paying["openai_dialect"] == paying["anthropic"] == 2


def test_the_commands() -> None:
    context = click.Context(app)
    commands = app.list_commands(context)
    assert commands == [
        "run",
        "forecast",
        "jobs",
        "status",
        "attach",
        "results",
        "retry",
        "pause",
        "resume",
        "cancel",
        "quota",
        "budget",
        "cost",
        "reconcile",
        "price",
        "savings",
        "audit",
        "providers",
        "keys",
        "webhooks",
        "serve",
        "worker",
        "emulate",
        "demo",
    ]
    for name in set(commands) - {"emulate", "demo", "serve", "worker"}:
        command = app.get_command(context, name)
        assert command is not None
        assert command.name == name
        parts = [command, *(command.commands.values() if isinstance(command, click.Group) else ())]
        assert any("--json" in param.opts for part in parts for param in part.params), name
    assert app.get_command(context, "nothing") is None


def test_an_account_never_shows_its_key() -> None:
    account = Account(provider="openai", base_url="http://there/v1", key="sk-very-secret")
    for text in (repr(account), str(account), f"{account}", f"{[account]}", account.name):
        assert "very-secret" not in text
