"""Webhooks, as somebody at a terminal adds them and looks at what became of them."""

import json
from typing import Any

import msgspec
import pytest

from halfrate.core.job import JobState
from halfrate.core.webhooks import Answer, tried
from halfrate.service.home import Home
from halfrate.service.jobs import Service
from halfrate.service.webhooks import KEY

from ..store.records import a_job, shards
from .shell import Shell

SIGNING = "k3y-" + "0123456789abcdefghijklmnopqrstuv"
URL = "https://93.184.216.34/hooks"


@pytest.fixture
def signing(shell: Shell) -> Shell:
    shell.env[KEY] = SIGNING
    return shell


def listed(shell: Shell) -> list[dict[str, Any]]:
    return json.loads(shell("webhooks", "list", "--json").out)


def sent(shell: Shell, *words: str) -> list[dict[str, Any]]:
    found = shell("webhooks", "deliveries", "--json", *words).out
    return json.loads(found)


def happened(shell: Shell, *jobs: str, status: int | None = None) -> None:
    """Jobs that ended, of which one try each was answered with this status."""
    with Service(Home.from_environment(shell.env)) as service:
        store, now = service._store, service.clock.now()
        for job_id in jobs:
            job = a_job(job_id, tags={})
            store.add_job(job, shards(1, job_id))
            store.save_job(msgspec.structs.replace(job, state=JobState.DONE, finished_at=now), now)
        for webhook_id in store.webhooks.due_webhooks(now) if status is not None else ():
            for one in store.webhooks.claim("w", now, 30.0, {webhook_id: 100}):
                store.webhooks.save(one, "w", tried(one.delivery, Answer(status=status), now, 0.0))


def test_a_secret_is_printed_alone_and_can_be_asked_for_again(signing: Shell) -> None:
    made = signing("webhooks", "add", URL, "--team", "search", "--event", "batch.*")
    assert made.code == 0
    secret = made.out.removesuffix("\n")
    assert secret.startswith("whsec_")
    (webhook,) = listed(signing)
    assert f"Webhook {webhook['id']} is told of batch.* of team search" in made.err
    assert secret not in made.err
    assert signing("webhooks", "secret", webhook["id"]).out == made.out
    shown = [signing("webhooks", "list"), signing("webhooks", "list", "--json")]
    assert all(secret not in ran.out + ran.err for ran in shown)
    written = b"".join(path.read_bytes() for path in signing.home.rglob("*") if path.is_file())
    assert webhook["id"].encode() in written
    assert secret.removeprefix("whsec_").encode() not in written
    assert SIGNING.encode() not in written


def test_every_option_is_part_of_it(signing: Shell) -> None:
    made = signing(
        "webhooks", "add", "http://10.0.3.7:8080/hooks", "--team", "search", "--event", "batch.*",
        "--event", "job.stopped", "--allow-http", "--allow-private", "10.0.0.0/16",
        "--allow-private", "Hooks.Internal", "--json",
    ).object  # fmt: skip
    assert made.pop("secret").startswith("whsec_")
    assert listed(signing) == [made]
    assert made.pop("created_at") > 0
    assert made.pop("id").startswith("wh_")
    assert made == {
        "team": "search",
        "url": "http://10.0.3.7:8080/hooks",
        "events": ["batch.*", "job.stopped"],
        "allowed": ["10.0.0.0/16", "hooks.internal"],
        "disabled_at": None,
    }
    (line,) = signing("webhooks", "list").out.splitlines()[1:]
    for part in (
        "search",
        "batch.*, job.stopped",
        "http://10.0.3.7:8080/hooks",
        "10.0.0.0/16, hooks.internal",
    ):
        assert part in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["https://127.0.0.1/x"], "127.0.0.1 is no public address"),
        (["https://[::ffff:169.254.169.254]/x"], "no public address"),
        (["http://93.184.216.34/x"], "--allow-http"),
        (["https://me:pw@93.184.216.34/x"], "a user or a password"),
        ([URL, "--event", "batch.done"], "no event 'batch.done'"),
        ([URL, "--allow-private", "10.0.0.1/8"], "no host, address or network"),
    ],
)
def test_what_is_refused_is_said_and_nothing_is_added(signing: Shell, words: list[str], said: str) -> None:
    ran = signing("webhooks", "add", *words)
    assert ran.code == 2
    assert said in ran.err
    assert ran.out == ""
    assert listed(signing) == []


def test_without_a_key_nothing_is_added_and_it_says_what_to_do(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY, raising=False)
    ran = shell("webhooks", "add", URL)
    assert ran.code == 2
    assert KEY in ran.err
    assert "openssl rand -base64 32" in ran.err
    shell.env[KEY] = "x" * 40
    ran = shell("webhooks", "add", URL)
    assert ran.code == 2
    assert "too easy to guess" in ran.err
    assert listed(shell) == []
    # Looking needs none.
    assert shell("webhooks", "list").code == 0
    assert "There are no webhooks" in shell("webhooks", "list").out
    assert "Nothing was sent" in shell("webhooks", "deliveries").out


def test_what_was_sent_is_shown_and_sent_again(signing: Shell) -> None:
    webhook_id = signing("webhooks", "add", URL, "--json").object["id"]
    happened(signing, "one", status=200)
    happened(signing, "two", status=410)
    happened(signing, "three")
    newest = sent(signing)
    assert [(one["of"], one["state"], one["status"], one["tries"]) for one in newest] == [
        ("three", "waiting", None, 0),
        ("two", "failed", 410, 1),
        ("one", "delivered", 200, 1),
    ]
    assert {one["webhook"] for one in newest} == {webhook_id}
    assert {one["type"] for one in newest} == {"job.done"}
    assert [one["of"] for one in sent(signing, "-n", "1")] == ["three"]
    assert [
        one["of"] for one in sent(signing, "--state", "failed", "--since", "1h", "--webhook", webhook_id)
    ] == ["two"]
    lines = signing("webhooks", "deliveries").out.splitlines()
    assert len(lines) == 4
    assert "410" in lines[2]
    ran = signing("webhooks", "replay", "--since", "1h", "--state", "failed")
    assert (ran.code, ran.err) == (0, "1 delivery goes out again, while `halfrate serve` runs.\n")
    assert [one["of"] for one in sent(signing, "--state", "failed")] == []
    assert signing("webhooks", "replay", newest[2]["event"]).err.startswith("1 delivery goes")
    again = {one["of"]: (one["state"], one["tries"], one["event"]) for one in sent(signing)}
    assert again["one"] == ("waiting", 0, newest[2]["event"])
    assert signing("webhooks", "replay", "--since", "1h").err.startswith("3 deliveries go")
    for wrong, said in (
        (["replay"], "Name an event, or a time"),
        (["replay", "evt_x", "--since", "1h"], "Name an event, or a time"),
        (["replay", "evt_x"], "no event 'evt_x'"),
        (["replay", "--since", "1h", "--webhook", "wh_x"], "no webhook 'wh_x'"),
        (["deliveries", "--webhook", "wh_x"], "no webhook 'wh_x'"),
        (["remove", "wh_x"], "no webhook 'wh_x'"),
        (["enable", "wh_x"], "no webhook 'wh_x'"),
        (["secret", "wh_x"], "no webhook 'wh_x'"),
    ):
        ran = signing("webhooks", *wrong)
        assert ran.code == 2
        assert said in ran.err


def test_one_is_disabled_enabled_and_removed(signing: Shell) -> None:
    webhook_id = signing("webhooks", "add", URL, "--json").object["id"]
    with Service(Home.from_environment(signing.env)) as service:
        service._store.webhooks.change(
            webhook_id, lambda found: msgspec.structs.replace(found, disabled_at=1.0)
        )
    assert "disabled" in signing("webhooks", "list").out
    happened(signing, "one")
    ran = signing("webhooks", "enable", webhook_id)
    assert (ran.code, f"replay --since WHEN --webhook {webhook_id}" in ran.err) == (0, True)
    assert listed(signing)[0]["disabled_at"] is None
    happened(signing, "two")
    assert [one["of"] for one in sent(signing)] == ["two"]
    assert signing("webhooks", "remove", webhook_id).code == 0
    assert listed(signing) == []
    assert "Nothing was sent" in signing("webhooks", "deliveries").out


def test_a_job_that_a_command_runs_is_told_of(signing: Shell) -> None:
    """By whoever serves later."""
    signing("webhooks", "add", URL, "--event", "job.*")
    assert signing.run(signing.table()).code == 0
    (one,) = sent(signing)
    assert (one["type"], one["state"]) == ("job.done", "waiting")
    job_id = one["of"]
    # Its results are asked for again: that is no other end.
    assert signing("attach", job_id).code == 0
    assert len(sent(signing)) == 1
