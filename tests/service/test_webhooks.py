"""Who is told, by whom it can be trusted, and where nothing is sent."""

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from halfrate.base.errors import SettingsError, UsageError
from halfrate.core.job import JobState
from halfrate.core.lifecycle import State
from halfrate.core.webhooks import Answer, DeliveryState, tried
from halfrate.service.home import Home
from halfrate.service.jobs import Service
from halfrate.service.webhooks import KEY, OLD_KEY, Webhooks, signing_keys
from halfrate.store.store import Store

from ..store.records import a_job, shards

SIGNING = "k3y-" + "0123456789abcdefghijklmnopqrstuv"
URL = "https://hooks.example.com/halfrate"


class Stopped:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.time = 1_000.0

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


class Names:
    """What is known of hosts."""

    def __init__(self) -> None:
        self.known: dict[str, Sequence[str]] = {}

    def __call__(self, host: str) -> Sequence[str]:
        return self.known.get(host, ["93.184.216.34"])


@pytest.fixture
def clock() -> Stopped:
    return Stopped()


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(f"sqlite:///{tmp_path / 'halfrate.db'}")) as store:
        yield store


@pytest.fixture
def webhooks(store: Store, clock: Stopped, names: Names) -> Webhooks:
    return Webhooks(store.webhooks, clock, "w", environ={KEY: SIGNING}, resolve=names)


def happened(store: Store, *jobs: str, team: str = "default", at: float = 1_000.0) -> None:
    for job_id in jobs:
        job = a_job(job_id, tags={"team": team})
        store.add_job(job, shards(1, job_id))
        store.save_job(msgspec.structs.replace(job, state=JobState.DONE, finished_at=at), at)


# ---------------------------------------------------------------- adding


def test_a_webhook_has_what_it_was_added_with(webhooks: Webhooks) -> None:
    webhook, secret = webhooks.add(
        URL, team="search", events=["batch.*"], allowed=["Hooks.Internal", "10.0.0.0/8", "10.9.9.9"]
    )
    assert re.fullmatch("wh_[0-9a-hjkmnp-tv-z]{16}", webhook.id)
    assert (webhook.team, webhook.url, webhook.events) == ("search", URL, ("batch.*",))
    assert webhook.allowed == ("hooks.internal", "10.0.0.0/8", "10.9.9.9/32")
    assert (webhook.created_at, webhook.disabled_at) == (1_000.0, None)
    assert re.fullmatch("whsec_[A-Za-z0-9+/]{43}=", secret)
    assert webhooks.all() == [webhook]


def test_of_what_nothing_is_said_is_the_usual(webhooks: Webhooks) -> None:
    webhook, _ = webhooks.add(URL)
    assert (webhook.team, webhook.events, webhook.allowed) == ("default", (), ())


def test_no_two_have_the_same_secret_and_it_can_be_derived_again(webhooks: Webhooks) -> None:
    made = [webhooks.add(URL) for _ in range(5)]
    assert len({secret for _, secret in made}) == 5
    assert [webhooks.secret(webhook.id) for webhook, _ in made] == [secret for _, secret in made]


def test_another_key_makes_another_secret(webhooks: Webhooks, store: Store, clock: Stopped) -> None:
    webhook, secret = webhooks.add(URL)
    turned = Webhooks(store.webhooks, clock, "w", environ={KEY: SIGNING[::-1], OLD_KEY: SIGNING})
    assert turned.secret(webhook.id) != secret


def test_a_secret_is_nowhere_on_the_disk(webhooks: Webhooks, tmp_path: Path) -> None:
    webhook, secret = webhooks.add(URL)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert webhook.id.encode() in written
    for hidden in (secret, secret.removeprefix("whsec_"), SIGNING):
        assert hidden.encode() not in written


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com",
        "//hooks.example.com/x",
        "ftp://hooks.example.com/x",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://",
        "https:///path",
        "https://me@hooks.example.com/x",
        "https://me:secret@hooks.example.com/x",
        "https://127.0.0.1@hooks.example.com/x",
        "https://hooks.example.com:0/x",
        "https://hooks.example.com:99999/x",
        "https://hooks.example.com:port/x",
        "https://hooks.example.com/x#y",
        "https://hooks.example.com/a b",
        "https://hooks.example.com/\r\nx: y",
        "https://hooks.example.com\\@evil.example/x",
        "https://b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example/x",
        "https://\N{FULLWIDTH DIGIT ONE}27.0.0.1/x",
        "https://[::1/x",
        "https://[zz]/x",
        "https://127.1/x",
        "https://2130706433/x",
        "https://0x7f000001/x",
        "https://0177.0.0.1/x",
        "https://hooks..example.com/x",
        "https://hooks.example.com/" + "x" * 2_000,
    ],
)
def test_what_is_no_url_that_something_can_be_sent_to(webhooks: Webhooks, url: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be at this URL.*No webhook was added") as refused:
        webhooks.add(url)
    assert "secret" not in str(refused.value)
    assert webhooks.all() == []


def test_a_url_in_the_clear_has_to_be_allowed(webhooks: Webhooks) -> None:
    url = "http://hooks.example.com/x"
    with pytest.raises(UsageError, match="--allow-http"):
        webhooks.add(url)
    assert webhooks.add(url, allow_http=True)[0].url == url


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "0.0.0.0",  # noqa: S104
        "[::1]",
        "[::]",
        "[fd00::1]",
        "[fe80::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::a00:1]",
        "[2002:7f00:1::]",
        "LOCALHOST",
        "localhost.",
        "intranet.example",
        "half.example",
    ],
)
def test_who_is_not_public_is_refused_however_it_is_written(
    webhooks: Webhooks, names: Names, host: str
) -> None:
    names.known = {
        "localhost": ["127.0.0.1", "::1"],
        "localhost.": ["127.0.0.1"],
        "intranet.example": ["10.0.0.7"],
        # One of several is enough.
        "half.example": ["93.184.216.34", "169.254.169.254"],
    }
    with pytest.raises(UsageError, match=r"no public address.*--allow-private"):
        webhooks.add(f"https://{host}/x")
    assert webhooks.all() == []


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.0/8"),
        ("[::1]", "::1"),
        ("[::1]", "[::1]"),
        ("intranet.example", "intranet.example"),
        ("Intranet.Example", "INTRANET.example."),
        ("intranet.example", "10.0.0.0/24"),
        ("169.254.169.254", "169.254.169.254"),
    ],
)
def test_who_is_allowed_is_not_refused(webhooks: Webhooks, names: Names, host: str, allowed: str) -> None:
    names.known = {"intranet.example": ["10.0.0.7"]}
    assert webhooks.add(f"https://{host}/x", allowed=[allowed])[0].url == f"https://{host}/x"


def test_a_host_that_is_allowed_is_not_led_to_where_credentials_are(webhooks: Webhooks, names: Names) -> None:
    names.known = {"intranet.example": ["169.254.169.254"]}
    with pytest.raises(UsageError, match=r"at 169\.254\.169\.254, no public address"):
        webhooks.add("https://intranet.example/x", allowed=["intranet.example"])


def test_a_name_that_leads_nowhere_yet_is_taken(webhooks: Webhooks, names: Names) -> None:
    """It is looked up for every message."""
    names.known = {"hooks.example.com": []}
    assert webhooks.add(URL)[0].url == URL


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"team": ""}, "no team's name"),
        ({"team": " search"}, "no team's name"),
        ({"team": "x" * 65}, "no team's name"),
        ({"team": "a\nb"}, "no team's name"),
        ({"events": ["batch.done"]}, r"no event 'batch\.done'.*batch\.completed"),
        ({"events": ["batch.*", ""]}, "no event ''"),
        ({"allowed": ["10.0.0.1/8"]}, "no host, address or network"),
        ({"allowed": ["https://hooks.internal"]}, "no host, address or network"),
    ],
)
def test_what_makes_no_sense_is_refused(webhooks: Webhooks, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        webhooks.add(URL, **options)
    assert webhooks.all() == []


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize(
    "key", ["", "  ", "short", "x" * 64, "changeme" * 5, "0123456789abcdefghijklmnopqrstu"]
)
def test_a_key_that_is_not_there_or_can_be_guessed(
    webhooks: Webhooks, store: Store, clock: Stopped, key: str
) -> None:
    webhook, _ = webhooks.add(URL)
    poor = Webhooks(store.webhooks, clock, "w", environ={KEY: key} if key else {})
    for act in (lambda: poor.add(URL), lambda: poor.secret(webhook.id), poor.deliverer):
        with pytest.raises(SettingsError, match=r"HALFRATE_WEBHOOK_KEY.*openssl rand") as refused:
            act()
        assert not key.strip() or key not in str(refused.value)
    assert len(webhooks.all()) == 1


def test_keys_of_all_usual_forms_are_taken() -> None:
    for key in ("9f" * 8 + "0123456789abcdef" * 3, "q5xNdH2yS1Pz0bWkT8uVfLrJc7MgXaE4oIiYhU6tR3s=", SIGNING):
        assert signing_keys({KEY: f" {key}\n"}) == (key,)
    assert signing_keys({KEY: SIGNING, OLD_KEY: SIGNING[::-1]}) == (SIGNING, SIGNING[::-1])
    assert signing_keys({KEY: SIGNING, OLD_KEY: " "}) == (SIGNING,)
    with pytest.raises(SettingsError, match=OLD_KEY):
        signing_keys({KEY: SIGNING, OLD_KEY: "short"})


def test_who_is_to_tell_nobody_needs_no_key(store: Store, clock: Stopped) -> None:
    assert Webhooks(store.webhooks, clock, "w", environ={}).deliverer()


# ---------------------------------------------------------------- removing, looking, sending again


def test_what_is_not_there_is_named(webhooks: Webhooks) -> None:
    for act in (
        lambda: webhooks.remove("wh_x"),
        lambda: webhooks.enable("wh_x"),
        lambda: webhooks.secret("wh_x"),
        lambda: webhooks.deliveries(webhook_id="wh_x"),
        lambda: webhooks.replay(since=0.0, webhook_id="wh_x"),
    ):
        with pytest.raises(UsageError, match="no webhook 'wh_x'"):
            act()


def test_who_is_removed_is_told_nothing_more(webhooks: Webhooks, store: Store) -> None:
    webhook, _ = webhooks.add(URL)
    happened(store, "one")
    webhooks.remove(webhook.id)
    happened(store, "two")
    assert webhooks.all() == []
    assert webhooks.deliveries() == []


def test_who_wanted_nothing_more_can_be_told_again(webhooks: Webhooks, store: Store) -> None:
    webhook, _ = webhooks.add(URL)
    store.webhooks.change(webhook.id, lambda found: msgspec.structs.replace(found, disabled_at=5.0))
    happened(store, "one")
    assert webhooks.enable(webhook.id).disabled_at is None
    happened(store, "two")
    assert [one.subject for one in webhooks.deliveries()] == ["two"]


def deliver(store: Store, status: int) -> None:
    for webhook_id in store.webhooks.due_webhooks(1e12):
        for one in store.webhooks.claim("w", 1e12, 30.0, {webhook_id: 100}):
            store.webhooks.save(one, "w", tried(one.delivery, Answer(status=status), 2_000.0, 0.0))


def test_events_are_sent_again_as_asked(webhooks: Webhooks, store: Store, clock: Stopped) -> None:
    webhook, _ = webhooks.add(URL)
    happened(store, "one", at=1_000.0)
    happened(store, "two", at=2_000.0)
    deliver(store, 200)
    two, one = webhooks.deliveries()
    assert webhooks.replay(one.event_id) == 1
    assert [each.state for each in webhooks.deliveries()] == ["delivered", "waiting"]
    assert webhooks.replay(since=1_500.0, state=DeliveryState.FAILED) == 0
    clock.time = 3_000.0
    assert webhooks.replay(since=1_500.0, webhook_id=webhook.id) == 1
    assert (webhooks.deliveries()[0].event_id, webhooks.deliveries()[0].next_at) == (two.event_id, 3_000.0)
    for event_id, since in (("", None), ("evt", 1.0)):
        with pytest.raises(UsageError, match="Name an event, or a time"):
            webhooks.replay(event_id, since=since)
    with pytest.raises(UsageError, match="no event 'evt_x'"):
        webhooks.replay("evt_x")


def test_nothing_is_sent_again_to_who_is_disabled(webhooks: Webhooks, store: Store) -> None:
    webhook, _ = webhooks.add(URL)
    happened(store, "one")
    store.webhooks.change(webhook.id, lambda found: msgspec.structs.replace(found, disabled_at=5.0))
    with pytest.raises(UsageError, match=f"halfrate webhooks enable {webhook.id}"):
        webhooks.replay(since=0.0, webhook_id=webhook.id)


# ---------------------------------------------------------------- jobs


def test_a_job_that_the_service_concludes_is_told_of(tmp_path: Path, clock: Stopped) -> None:
    with Service(Home(root=tmp_path), clock) as service:
        own = Webhooks(service._store.webhooks, clock, service.owner, environ={KEY: SIGNING}, resolve=Names())
        own.add(URL)
        job = a_job("job", tags={})
        done = [msgspec.structs.replace(shard, state=State.DONE) for shard in shards(1)]
        service._store.add_job(job, done)
        for _ in range(3):
            assert service.conclude("job").state is JobState.DONE
        assert [(one.type, one.subject) for one in service.webhooks.deliveries()] == [("job.done", "job")]
