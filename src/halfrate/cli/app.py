"""The `halfrate` command: commands are imported when they are used, so that `--help` is quick."""

import atexit
import gc
import importlib
import sys
from typing import Final, NoReturn

import click

from halfrate.base.version import VERSION

EXIT_FAILED: Final = 1
EXIT_WRONG: Final = 2
EXIT_ROWS_FAILED: Final = 3
EXIT_DETACHED: Final = 130

# name -> (module, one line for --help). The lines stand here so that --help imports none of the modules.
_COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "run": ("run", "Run a prompt over every row of a file, at batch price."),
    "forecast": ("forecast", "Say what a job should cost, and send nothing."),
    "jobs": ("look", "List jobs."),
    "status": ("look", "Show how a job stands."),
    "attach": ("follow", "Go on with a job, and wait for it."),
    "results": ("follow", "Write a job's output file."),
    "retry": ("follow", "Send the rows again that did not succeed."),
    "pause": ("control", "Send nothing more of a job for now."),
    "resume": ("control", "Go on with a paused job."),
    "cancel": ("follow", "Stop a job, and keep what is finished."),
    "quota": ("control", "Show and set the limits of the providers' queues."),
    "budget": ("budget", "Show and set limits on what is spent."),
    "cost": ("cost", "Show what was paid, and what for."),
    "reconcile": ("reconcile", "Compare the providers' bills with the ledger."),
    "price": ("price", "Show what models cost, by tier."),
    "savings": ("savings", "Work out what waiting would save."),
    "audit": ("audit", "Find what could wait in a log of usage."),
    "providers": ("providers", "List the providers: limits, windows, discounts."),
    "keys": ("keys", "Make, list and revoke keys of the gateway."),
    "webhooks": ("webhooks", "Tell others when batches and jobs end."),
    "serve": ("serve", "Serve OpenAI's and Anthropic's batch APIs."),
    "worker": ("worker", "Work on all jobs, as long as it runs."),
    "emulate": ("emulate", "Start a stand-in for the providers on this machine."),
    "demo": ("demo", "Show it all in a minute: no key, no network, no cost."),
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"halfrate.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="halfrate")
def app() -> None:
    """Runs every LLM workload that can wait at about half the price.

    \b
    halfrate demo                          see it work, without a key
    halfrate run reviews.csv --model openai/gpt-4.1-mini --prompt 'Sentiment of: {review}'
    """


def main() -> NoReturn:
    """Run the command; every error of a user's ends in one message, not in a traceback."""
    from halfrate.base.errors import HalfrateError, UsageError

    # Rows are short-lived objects without cycles: looking for cycles among them every few hundred is waste.
    gc.set_threshold(100_000, 20, 20)
    # When the process ends its memory goes with it: looking through all of that for cycles first is waste as well.
    atexit.register(gc.freeze)
    try:
        code = app.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("Stopped. Nothing was sent.", err=True)
        sys.exit(EXIT_DETACHED)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_WRONG)
    except click.exceptions.Exit as leaving:
        sys.exit(leaving.exit_code)
    except UsageError as error:
        click.echo(f"halfrate: {error}", err=True)
        sys.exit(EXIT_WRONG)
    except HalfrateError as error:
        click.echo(f"halfrate: {error}", err=True)
        sys.exit(EXIT_FAILED)
    except BrokenPipeError:
        # Whoever read our output has gone; what was to be done is done.
        sys.stdout = None
        sys.exit(EXIT_FAILED)
    sys.exit(code if isinstance(code, int) else 0)
