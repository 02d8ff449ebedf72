"""Keys of the gateway: made once, presented often, revoked for good."""

import hmac
import re
import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from halfrate.base.errors import UsageError
from halfrate.core.keys import Key, Presented, parse_key
from halfrate.service.home import Home
from halfrate.service.jobs import Service
from halfrate.service.keys import Keys
from halfrate.store.store import Store


class Stopped:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.time = 1_000.0

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def clock() -> Stopped:
    return Stopped()


@pytest.fixture
def keys(tmp_path: Path, clock: Stopped) -> Iterator[Keys]:
    with closing(Store.open(f"sqlite:///{tmp_path / 'halfrate.db'}")) as store:
        yield Keys(store.surfaces, clock)


def presented(text: str) -> Presented:
    found = parse_key(text)
    assert found is not None
    return found


def test_a_key_has_what_it_was_made_with(keys: Keys) -> None:
    key, text = keys.create(
        "nightly",
        team="search",
        models=["openai/*"],
        surfaces=["anthropic", "openai"],
        tags={"env": "prod"},
        requests_per_minute=60,
        expires=500.0,
    )
    assert re.fullmatch("hr_[0-9a-hjkmnp-tv-z]{12}_[A-Za-z0-9_-]{43}", text)
    assert (key.name, key.team, key.models) == ("nightly", "search", ("openai/*",))
    assert (key.surfaces, key.tags) == (("openai", "anthropic"), {"env": "prod"})
    assert (key.created_at, key.expires_at, key.revoked_at) == (1_000.0, 1_500.0, None)
    assert key.requests_per_minute == 60
    assert key.id == presented(text).id
    assert keys.all() == [key]


def test_a_key_of_which_nothing_is_said_opens_everything_until_it_is_revoked(keys: Keys) -> None:
    key, _ = keys.create("nightly")
    assert (key.team, key.models, key.tags) == ("default", (), {})
    assert key.surfaces == ("openai", "anthropic")
    assert (key.requests_per_minute, key.expires_at) == (None, None)


def test_no_two_keys_are_alike(keys: Keys) -> None:
    made = [presented(keys.create("same")[1]) for _ in range(20)]
    assert len({one.id for one in made}) == len({one.secret for one in made}) == 20


def test_who_presents_a_key_is_told_whose_it_is(keys: Keys, clock: Stopped) -> None:
    key, text = keys.create("nightly")
    keys.create("other")
    assert keys.authenticate(text, clock.time) == key
    assert keys.authenticate_now(text) == key


def test_whoever_does_not_know_the_secret_is_nobody(keys: Keys) -> None:
    mine, other = (presented(keys.create(name)[1]) for name in ("mine", "other"))
    for wrong in (
        Presented(mine.id, other.secret),
        Presented(mine.id, secrets.token_urlsafe(32)),
        Presented("000000000000", mine.secret),
    ):
        assert keys.authenticate_now(wrong.text) is None
    for text in ("", mine.secret, mine.id, f"hr_{mine.id}_", mine.text + "x", "sk-proj-4f2", "\N{SNOWMAN}"):
        assert keys.authenticate_now(text) is None


def test_a_digest_that_was_read_from_the_database_opens_nothing(keys: Keys) -> None:
    key, _ = keys.create("nightly")
    assert keys.authenticate_now(f"hr_{key.id}_{key.digest[:43]}") is None
    assert keys.authenticate_now(f"hr_{key.id}_{key.digest}") is None


def test_a_key_opens_nothing_from_the_moment_on_when_it_expires(keys: Keys, clock: Stopped) -> None:
    key, text = keys.create("nightly", expires=10.0)
    assert keys.authenticate(text, 1_009.9) == key
    assert keys.authenticate(text, 1_010.0) is None
    clock.time = 1_010.0
    assert keys.authenticate_now(text) is None


def test_an_id_that_there_is_not_costs_the_same_comparison(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, text = keys.create("nightly")
    gone, gone_text = keys.create("gone")
    keys.revoke(gone.id)
    compare, seen = hmac.compare_digest, list[tuple[int, int]]()

    def watched(one: str, other: str) -> bool:
        seen.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    wrong = secrets.token_urlsafe(32)
    unknown = Presented("000000000000", wrong).text
    for each in (text, Presented(key.id, wrong).text, unknown, gone_text):
        keys.authenticate_now(each)
    assert seen == [(64, 64)] * 4


@pytest.mark.parametrize("by", ["id", "name", "text"])
def test_a_key_is_revoked_by_whatever_names_it(keys: Keys, clock: Stopped, by: str) -> None:
    key, text = keys.create("nightly")
    clock.time = 1_050.0
    other, other_text = keys.create("other")
    named = {"id": key.id, "name": "nightly", "text": text}[by]
    clock.time = 1_100.0
    revoked = keys.revoke(named)
    assert (revoked.id, revoked.revoked_at) == (key.id, 1_100.0)
    assert keys.authenticate_now(text) is None
    assert keys.authenticate_now(other_text) == other
    assert keys.all() == [revoked, other]
    # Twice does no harm, and does not change when it was.
    clock.time = 1_200.0
    assert keys.revoke(named) == revoked


def test_of_keys_with_one_name_the_one_that_is_still_good_is_revoked(keys: Keys, clock: Stopped) -> None:
    old, _ = keys.create("nightly")
    keys.revoke("nightly")
    clock.time = 1_100.0
    new, text = keys.create("nightly")
    assert keys.revoke("nightly").id == new.id
    assert keys.authenticate_now(text) is None
    assert [key.revoked_at for key in keys.all()] == [1_000.0, 1_100.0]
    assert old.id != new.id


def test_of_keys_with_one_name_it_is_the_older_one_if_that_is_the_one_still_good(
    keys: Keys, clock: Stopped
) -> None:
    old, text = keys.create("nightly")
    clock.time = 1_100.0
    new, _ = keys.create("nightly")
    keys.revoke(new.id)
    assert keys.authenticate_now(text) == old
    assert keys.revoke("nightly").id == old.id
    assert keys.authenticate_now(text) is None


def test_a_name_that_two_keys_have_revokes_neither(keys: Keys, clock: Stopped) -> None:
    one, _ = keys.create("nightly")
    clock.time = 1_100.0
    two, _ = keys.create("nightly")
    with pytest.raises(UsageError, match=f"2 keys have the name 'nightly'.*: {one.id}, {two.id}"):
        keys.revoke("nightly")
    assert all(key.revoked_at is None for key in keys.all())


def test_what_is_no_key_is_not_revoked_and_not_repeated_where_it_could_be_a_secret(keys: Keys) -> None:
    with pytest.raises(UsageError, match="There is no key 'nightly'; `halfrate keys list`"):
        keys.revoke("nightly")
    unknown = Presented("000000000000", secrets.token_urlsafe(32))
    with pytest.raises(UsageError, match="There is no key '000000000000'") as whole:
        keys.revoke(unknown.text)
    with pytest.raises(UsageError, match="There is no such key") as part:
        keys.revoke(unknown.text[:-5])
    assert unknown.secret[:8] not in f"{whole.value} {part.value}"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"name": ""}, "The name of a key may not be empty"),
        ({"name": "  "}, "The name of a key may not be empty"),
        ({"name": "night\nly"}, "cannot be seen"),
        ({"name": "n" * 65}, "65 characters, and 64 are the most"),
        ({"team": ""}, "The team of a key may not be empty"),
        ({"team": "search "}, "cannot be seen"),
        ({"team": "\x1b[31mads"}, "cannot be seen"),
        ({"team": "t" * 65}, "The team .* 64 are the most"),
        ({"models": ["openai"]}, r"'openai' names no model of a key; write openai/\*"),
        ({"models": ["openai/*", ""]}, "'' names no model"),
        ({"models": ["/gpt-4.1"]}, "names no model"),
        ({"models": ["openai/"]}, "names no model"),
        ({"models": ["openai/gpt 4"]}, "names no model"),
        ({"models": ["openai/*,anthropic/ *"]}, "names no model"),
        ({"surfaces": ["gemini"]}, "'gemini' is no surface"),
        ({"tags": {"team": "ads"}}, "'team' is set by the key itself; use --team"),
        ({"tags": {"key": "mine"}}, "'key' is set by the key itself; it is the key's id"),
        ({"tags": {"": "x"}}, "The tag of a key may not be empty"),
        ({"tags": {"env": "a\tb"}}, "'env' .* not all can be seen"),
        ({"requests_per_minute": 0}, "0 requests a minute"),
        ({"expires": 0.0}, "cannot expire in 0 s"),
        ({"expires": -5.0}, "cannot expire in -5 s"),
        ({"expires": float("nan")}, "cannot expire in nan s"),
        ({"expires": 1e12}, "ten years at most"),
    ],
)
def test_what_would_be_no_key_is_refused(keys: Keys, options: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why) as refused:
        keys.create(options.pop("name", "nightly"), **options)
    assert str(refused.value).endswith("No key was made.")
    assert keys.all() == []


def test_names_of_sixty_four_characters_and_of_any_script_are_names(keys: Keys) -> None:
    key, _ = keys.create("n" * 64, team="größer \N{SNOWMAN}", models=["deepinfra/maker/model", "*/gpt-4*"])
    assert keys.all() == [key]


def test_nothing_that_is_kept_holds_the_secret(tmp_path: Path) -> None:
    with Service(Home(root=tmp_path / "home")) as service:
        key, text = service.keys.create("nightly")
        kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        # What was written is among it, be it in the write-ahead log.
        assert key.id.encode() in kept
        assert key.digest.encode() in kept
        assert presented(text).secret.encode() not in kept
        assert service.keys.authenticate_now(text) == key
    with Service(Home(root=tmp_path / "home")) as service:
        assert service.keys.all() == [key]
        assert presented(text).secret not in repr(service.keys.all())
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert key.id.encode() in kept
    assert presented(text).secret.encode() not in kept


def test_a_key_that_an_older_release_saved_is_still_one(tmp_path: Path, clock: Stopped) -> None:
    with closing(Store.open(f"sqlite:///{tmp_path / 'halfrate.db'}")) as store:
        keys = Keys(store.surfaces, clock)
        bare = Key(id="k3v9x2m4qpab", digest="0" * 64, name="old", team="search", created_at=1.0)
        record = (
            f'{{"id":"{bare.id}","digest":"{bare.digest}","name":"old","team":"search","created_at":1.0}}'
        )
        with store._connector.writing() as transaction:
            transaction.execute(
                "INSERT INTO api_key (id, created_at, record) VALUES (:id, 1.0, :record)",
                {"id": bare.id, "record": record},
            )
        assert keys.all() == [bare]
