"""`halfrate webhooks`: who is told when batches and jobs end."""

import datetime
from typing import Any

import click

from halfrate.cli.amounts import Moment
from halfrate.cli.text import echo_json, echo_table
from halfrate.core.webhooks import EVENTS, NO_TEAM, Delivery, DeliveryState, Webhook
from halfrate.service.home import Home
from halfrate.service.jobs import Service

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")
_WEBHOOK = click.option(
    "--webhook", "webhook_id", default="", metavar="ID", help="Those of one webhook alone."
)


@click.group(short_help="Tell others when batches and jobs end.")
def webhooks() -> None:
    """Tell others when batches of the gateway and jobs end, by webhooks in the Standard Webhooks form.

    \b
    export HALFRATE_WEBHOOK_KEY=$(openssl rand -base64 32)     once, and keep it
    SECRET=$(halfrate webhooks add https://example.com/hooks --team search --event 'batch.*')
    halfrate webhooks deliveries
    halfrate webhooks replay --since 12h --state failed

    `halfrate serve` sends them, and needs the same HALFRATE_WEBHOOK_KEY.
    """


@webhooks.command(short_help="Have a URL told.")
@click.argument("url")
@click.option(
    "--team", default=NO_TEAM, show_default=True, metavar="TEAM", help="Whose batches and jobs it is told of."
)
@click.option(
    "--event",
    "events",
    multiple=True,
    metavar="PATTERN",
    help=f"Of what it is told, as in 'batch.*'; all unless told otherwise: {', '.join(EVENTS)}.",
)
@click.option("--allow-http", is_flag=True, help="Take a URL that begins with http://.")
@click.option(
    "--allow-private",
    "allowed",
    multiple=True,
    metavar="HOST|NETWORK",
    help="Take it although its address is not public, as in hooks.internal or 10.0.0.0/8.",
)
@_AS_JSON
def add(
    url: str, team: str, events: tuple[str, ...], allow_http: bool, allowed: tuple[str, ...], as_json: bool
) -> int:
    """Have URL told, and print the secret that it knows halfrate by: alone on stdout."""
    with Service(Home.from_environment()) as service:
        webhook, secret = service.webhooks.add(
            url, team=team, events=events, allow_http=allow_http, allowed=allowed
        )
    if as_json:
        echo_json({"secret": secret, **_object(webhook)})
        return 0
    what = ", ".join(webhook.events) or "all events"
    click.echo(
        f"Webhook {webhook.id} is told of {what} of team {webhook.team}, from now on, while `halfrate serve` runs. Its "
        "secret:",
        err=True,
    )
    click.echo(secret)
    return 0


@webhooks.command("list", short_help="List webhooks.")
@_AS_JSON
def list_(as_json: bool) -> int:
    """List webhooks, the oldest first."""
    with Service(Home.from_environment()) as service:
        found = service.webhooks.all()
    if as_json:
        echo_json(list(map(_object, found)))
    elif found:
        echo_table(("id", "team", "events", "url", "may be at", "added", ""), list(map(_row, found)))
    else:
        click.echo("There are no webhooks. `halfrate webhooks add URL` makes one.")
    return 0


@webhooks.command(short_help="Tell a URL nothing more.")
@click.argument("webhook")
def remove(webhook: str) -> int:
    """Tell WEBHOOK nothing more, and forget what it was told."""
    with Service(Home.from_environment()) as service:
        service.webhooks.remove(webhook)
    click.echo(f"Webhook {webhook} is removed; what was still on its way is not sent.", err=True)
    return 0


@webhooks.command(short_help="Tell a URL again that wanted nothing more.")
@click.argument("webhook")
def enable(webhook: str) -> int:
    """Tell WEBHOOK again, after it answered 410 and was disabled. What happened meanwhile is not told."""
    with Service(Home.from_environment()) as service:
        service.webhooks.enable(webhook)
    click.echo(
        f"Webhook {webhook} is told again. `halfrate webhooks replay --since WHEN --webhook {webhook} --state failed` "
        "sends what it did not take.",
        err=True,
    )
    return 0


@webhooks.command(short_help="Print a webhook's secret.")
@click.argument("webhook")
def secret(webhook: str) -> int:
    """Print the secret of WEBHOOK, alone on stdout: after HALFRATE_WEBHOOK_KEY was changed it is another one."""
    with Service(Home.from_environment()) as service:
        click.echo(service.webhooks.secret(webhook))
    return 0


@webhooks.command(short_help="Send events again.")
@click.argument("event", default="")
@click.option(
    "--since", type=Moment(), default=None, metavar="WHEN", help="All events since then, as in 12h."
)
@_WEBHOOK
@click.option(
    "--state", type=click.Choice([state.value for state in DeliveryState]), default=None, help="Only these."
)
def replay(event: str, since: float | None, webhook_id: str, state: str | None) -> int:
    """Send EVENT again, or all since a time, under the ids that they had."""
    with Service(Home.from_environment()) as service:
        count = service.webhooks.replay(
            event,
            since=since,
            webhook_id=webhook_id,
            state=DeliveryState(state) if state is not None else None,
        )
    what = "delivery goes" if count == 1 else "deliveries go"
    click.echo(f"{count:,} {what} out again, while `halfrate serve` runs.", err=True)
    return 0


@webhooks.command(short_help="Show what was sent, and what came of it.")
@click.option("-n", "limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many.")
@click.option("--since", type=Moment(), default=0.0, metavar="WHEN", help="Since then, as in 12h.")
@_WEBHOOK
@click.option(
    "--state", type=click.Choice([state.value for state in DeliveryState]), default=None, help="Only these."
)
@_AS_JSON
def deliveries(limit: int, since: float, webhook_id: str, state: str | None, as_json: bool) -> int:
    """Show what was sent and what came of it, the newest first. It is kept for 30 days."""
    with Service(Home.from_environment()) as service:
        found = service.webhooks.deliveries(
            since=since,
            webhook_id=webhook_id,
            state=DeliveryState(state) if state is not None else None,
            limit=limit,
        )
    if as_json:
        echo_json(list(map(_sent_object, found)))
    elif found:
        head = ("event", "type", "of", "webhook", "at", "state", "tries", "answer", "next")
        echo_table(head, list(map(_sent_row, found)), right=(6,))
    else:
        click.echo("Nothing was sent.")
    return 0


def _row(webhook: Webhook) -> tuple[str, ...]:
    return (
        webhook.id,
        webhook.team,
        ", ".join(webhook.events) or "all",
        webhook.url,
        ", ".join(webhook.allowed) or "public addresses",
        _minute(webhook.created_at),
        "disabled" if webhook.disabled_at is not None else "",
    )


def _object(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "team": webhook.team,
        "url": webhook.url,
        "events": webhook.events,
        "allowed": webhook.allowed,
        "created_at": webhook.created_at,
        "disabled_at": webhook.disabled_at,
    }


def _sent_row(delivery: Delivery) -> tuple[str, ...]:
    return (
        delivery.event_id,
        delivery.type,
        delivery.subject,
        delivery.webhook_id,
        _minute(delivery.created_at),
        delivery.state.value,
        str(delivery.tries),
        delivery.problem or str(delivery.status or ""),
        "" if delivery.next_at is None else _minute(delivery.next_at),
    )


def _sent_object(delivery: Delivery) -> dict[str, Any]:
    return {
        "event": delivery.event_id,
        "type": delivery.type,
        "of": delivery.subject,
        "webhook": delivery.webhook_id,
        "created_at": delivery.created_at,
        "state": delivery.state.value,
        "tries": delivery.tries,
        "tried_at": delivery.tried_at,
        "status": delivery.status,
        "problem": delivery.problem,
        "next_at": delivery.next_at,
    }


def _minute(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M")
