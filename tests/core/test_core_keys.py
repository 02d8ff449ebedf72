"""Keys of the gateway: how one is read, what it opens, and what never tells its secret."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfrate.core.keys import SURFACES, Key, Presented, digest_of, parse_key

SECRET = "s3cr_t-" * 6 + "x"
PRESENTED = Presented("k3v9x2m4qpab", SECRET)
KEY = Key(id=PRESENTED.id, digest=digest_of(SECRET), name="nightly", team="search", created_at=1.0)


def changed(**changes: object) -> Key:
    return msgspec.structs.replace(KEY, **changes)


def test_what_is_presented_is_read_as_it_was_given_out() -> None:
    assert PRESENTED.text == f"hr_k3v9x2m4qpab_{SECRET}"
    assert parse_key(PRESENTED.text) == PRESENTED


@given(st.from_regex(r"[0-9a-z]{12}", fullmatch=True), st.from_regex(r"[A-Za-z0-9_-]{43}", fullmatch=True))
def test_underscores_of_a_secret_belong_to_it(key_id: str, secret: str) -> None:
    assert parse_key(Presented(key_id, secret).text) == Presented(key_id, secret)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hr",
        "hr_",
        "sk-3f9a6c1e77d24b58",
        PRESENTED.text[:-1],
        PRESENTED.text + "x",
        PRESENTED.text.upper(),
        PRESENTED.text.replace("hr_", "rh_"),
        PRESENTED.text.replace("hr_", " hr_"),
        PRESENTED.text.replace("k3v9", "k3v"),
        PRESENTED.text.replace("k3v9", "k3v\N{LATIN SMALL LETTER E WITH ACUTE}"),
        PRESENTED.text.replace("k3v9", "k3v'"),
        PRESENTED.text[:-1] + "\n",
        PRESENTED.text[:-1] + "\0",
        PRESENTED.text[:-1] + "\N{SNOWMAN}",
    ],
)
def test_what_cannot_be_a_key_of_ours_is_none(text: str) -> None:
    assert parse_key(text) is None


@given(st.text(max_size=80))
def test_whatever_is_presented_nothing_is_raised(text: str) -> None:
    found = parse_key(text)
    assert found is None or found.text == text


def test_a_secret_fits_its_own_key_alone() -> None:
    assert KEY.fits(SECRET)
    assert not KEY.fits(SECRET[:-1] + "y")
    assert not KEY.fits("")
    assert not KEY.fits(KEY.digest)


def test_no_repr_tells_a_secret() -> None:
    assert repr(PRESENTED) == str(PRESENTED) == "Presented(k3v9x2m4qpab)"
    assert SECRET not in f"{KEY!r} {[PRESENTED]} {msgspec.json.encode(KEY)!r}"


def test_a_key_without_patterns_may_ask_every_model() -> None:
    assert KEY.allows("openai/gpt-4.1-mini")
    assert KEY.allows("deepinfra/maker/model")


def test_patterns_say_which_models_a_key_may_ask() -> None:
    key = changed(models=("openai/*", "anthropic/claude-haiku-4-5"))
    assert key.allows("openai/gpt-4.1-mini")
    assert key.allows("anthropic/claude-haiku-4-5")
    assert not key.allows("anthropic/claude-haiku-4-5-20251001")
    assert not key.allows("azure/gpt-4.1-mini")
    assert not key.allows("OpenAI/gpt-4.1-mini")
    assert not key.allows("gpt-4.1-mini")


def test_a_key_opens_the_surfaces_that_it_names() -> None:
    # What other teams have spent is shown to those keys alone that are made for it.
    assert [surface for surface in SURFACES if KEY.opens(surface)] == ["openai", "anthropic"]
    one = changed(surfaces=("anthropic",))
    assert [surface for surface in SURFACES if one.opens(surface)] == ["anthropic"]


def test_a_key_is_good_until_the_moment_when_it_expires_or_is_revoked() -> None:
    assert KEY.valid(1e12)
    late = changed(expires_at=10.0)
    assert late.valid(9.9)
    assert not late.valid(10.0)
    assert not changed(revoked_at=5.0).valid(4.0)


def test_no_tag_of_a_key_hides_whose_job_it_is() -> None:
    key = changed(tags={"env": "prod", "team": "ads", "key": "another"})
    assert key.all_tags == {"env": "prod", "team": "search", "key": "k3v9x2m4qpab"}
