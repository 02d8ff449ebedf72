"""`halfrate pause`, `resume`, `quota`: what is sent, and how much of it at a time."""

from pathlib import Path

import click

from halfrate.base.errors import UsageError
from halfrate.cli.follow import AS_JSON, OUTPUT, carry, check_form
from halfrate.cli.text import echo_json, report_object
from halfrate.core.admission import QuotaKind
from halfrate.providers.base import place_of
from halfrate.service.home import Home
from halfrate.service.jobs import Service

_KINDS = {
    "tokens": "tokens waiting in the queue",
    "rows": "rows waiting in the queue",
    "batches": "batches at a time",
    "creates": "batches an hour",
    "rpm": "requests a minute in real time",
    "tpm": "tokens a minute in real time",
    "itpm": "input tokens a minute in real time",
    "otpm": "output tokens a minute in real time",
}


@click.command(short_help="Send nothing more of a job for now.")
@click.argument("job")
@AS_JSON
def pause(job: str, as_json: bool) -> int:
    """Send nothing more of JOB until `halfrate resume`.

    What is with the provider already goes on there, and is fetched by `halfrate attach`. `halfrate cancel` stops
    that as well.
    """
    with Service(Home.from_environment()) as service:
        found = service.find(job)
        changed = service.pause(found.id)
        report = service.report(found.id)
        if as_json:
            echo_json(report_object(report, None))
        elif not changed:
            left = "it is paused already" if report.paused else "no row of it is waiting"
            click.echo(f"Job {found.id} has nothing to pause: {left}.", err=True)
        else:
            click.echo(f"Job {found.id} is paused. Go on with:  halfrate resume {found.id}", err=True)
    return 0


@click.command(short_help="Go on with a paused job.")
@click.argument("job")
@click.option("--keep-going", is_flag=True, help="Do not stop again because most rows of a batch fail.")
@OUTPUT
@AS_JSON
def resume(job: str, keep_going: bool, output: Path | None, as_json: bool) -> int:
    """Go on with JOB after a pause, and wait for it."""
    check_form(output, raw=False)
    with Service(Home.from_environment()) as service:
        found = service.find(job)
        service.resume(found.id, keep_going=keep_going)
        return carry(service, service.find(found.id), output=output, raw=False, as_json=as_json)


@click.command(short_help="Show and set the limits of the providers' queues.")
@click.argument("model", required=False, metavar="[PROVIDER/MODEL]")
@click.option("--tokens", metavar="N", help="Tokens that may wait in the model's queue.")
@click.option("--rows", metavar="N", help="Rows that may wait.")
@click.option("--batches", metavar="N", help="Batches at a time.")
@click.option("--creates", metavar="N", help="Batches an hour.")
@click.option("--rpm", metavar="N", help="Requests a minute in real time; no more are sent.")
@click.option("--tpm", metavar="N", help="Tokens a minute in real time, as OpenAI counts them.")
@click.option("--itpm", metavar="N", help="Input tokens a minute in real time.")
@click.option("--otpm", metavar="N", help="Output tokens a minute in real time.")
@AS_JSON
def quota(
    model: str | None,
    tokens: str | None,
    rows: str | None,
    batches: str | None,
    creates: str | None,
    rpm: str | None,
    tpm: str | None,
    itpm: str | None,
    otpm: str | None,
    as_json: bool,
) -> int:
    """Show what is known of the limits of the providers' queues and of real time, or set one.

    \b
    halfrate quota                                             what is known
    halfrate quota openai/gpt-4.1-mini --tokens 2000000        set a limit
    halfrate quota openai/gpt-4.1-mini --tokens forget         forget it, and what refusals have taught
    halfrate quota anthropic --rows 200000                     for all models of an account

    A limit need not be set: where a provider refuses a batch because its queue is full, halfrate learns from it,
    and what real time allows stands in the replies of calls. But the first deadline is planned better with it.
    """
    queues = {"tokens": tokens, "rows": rows, "batches": batches, "creates": creates}
    given = {**queues, "rpm": rpm, "tpm": tpm, "itpm": itpm, "otpm": otpm}
    with Service(Home.from_environment()) as service:
        if model is not None:
            asked = {kind: text for kind, text in given.items() if text is not None}
            if not asked:
                raise UsageError(f"Say which limit: {', '.join(f'--{kind}' for kind in given)}.")
            for kind, text in asked.items():
                service.set_quota(model, _kind(kind), _number(kind, text))
        elif any(text is not None for text in given.values()):
            raise UsageError("Say whose limit: PROVIDER/MODEL, or PROVIDER for all of its models.")
        known = service.quotas()
    if as_json:
        echo_json(
            [
                {
                    "account": item.account,
                    "model": item.model or None,
                    "limit": item.kind,
                    "most": item.most,
                    "source": source,
                }
                for item, source in known
            ]
        )
        return 0
    if not known:
        click.echo(
            "No limit is known. They are learned when a provider refuses a batch, or set with this command."
        )
    for item, source in known:
        provider = place_of(item.account).named
        name = f"{provider}/{item.model}" if item.model else f"{provider} (all models)"
        click.echo(f"{name:40} {item.most:>16,} {_KINDS[item.kind]:30} {source}")
    return 0


def _kind(text: str) -> QuotaKind:
    match text:
        case "tokens" | "rows" | "batches" | "creates" | "rpm" | "tpm" | "itpm" | "otpm":
            return text
        case _:
            raise UsageError(f"{text!r} is no kind of limit.")


def _number(kind: str, text: str) -> int | None:
    if text == "forget":
        return None
    digits = text.replace(",", "").replace("_", "")
    if not digits.isascii() or not digits.isdigit() or int(digits) == 0:
        raise UsageError(f"--{kind} is {text!r}; it takes a number from 1, or `forget`.")
    return int(digits)
