"""Keys of the gateway, as somebody at a terminal makes and revokes them."""

import json
from typing import Any

import pytest

from halfrate.base.money import PICO
from halfrate.core.budgets import Budget
from halfrate.core.keys import parse_key
from halfrate.service.home import Home
from halfrate.service.jobs import Service

from .shell import Shell


def listed(shell: Shell, *words: str) -> list[dict[str, Any]]:
    return json.loads(shell("keys", "list", "--json", *words).out)


def held(shell: Shell) -> list[Budget]:
    with Service(Home.from_environment(shell.env)) as service:
        return [one.budget for one in service.budgets()]


def test_a_key_is_printed_alone_and_only_once(shell: Shell) -> None:
    made = shell("keys", "create", "nightly", "--team", "search")
    assert made.code == 0
    text = made.out.removesuffix("\n")
    key = parse_key(text)
    assert key is not None
    assert f"Key {key.id} (nightly) of team search. It is shown only now" in made.err
    assert "OPENAI_API_KEY, with OPENAI_BASE_URL=http://127.0.0.1:8080/v1\n" in made.err
    assert "ANTHROPIC_API_KEY, with ANTHROPIC_BASE_URL=http://127.0.0.1:8080\n" in made.err
    assert key.secret not in made.err
    later = [shell("keys", "list"), shell("keys", "list", "--json"), shell("keys", "revoke", "nightly")]
    assert all(key.secret not in ran.out + ran.err for ran in later)
    kept = b"".join(path.read_bytes() for path in shell.home.rglob("*") if path.is_file())
    assert key.id.encode() in kept
    assert key.secret.encode() not in kept


def test_what_is_printed_opens_the_gateway(shell: Shell) -> None:
    text = shell("keys", "create", "nightly").out.strip()
    with Service(Home.from_environment(shell.env)) as service:
        key = service.keys.authenticate_now(text)
    assert key is not None
    assert (key.name, key.team) == ("nightly", "default")


def test_every_option_is_part_of_the_key(shell: Shell) -> None:
    made = shell(
        "keys", "create", "reports", "--team", "search", "--model", "openai/*", "--model", "anthropic/claude-haiku-4-5",
        "--surface", "openai", "--tag", "env=prod", "--budget", "$50", "--every", "week",
        "--requests-per-minute", "1200", "--expires", "30d", "--json",
    ).object  # fmt: skip
    key = parse_key(made.pop("key"))
    assert key is not None
    assert (made.pop("budget_usd"), made.pop("every")) == ("50", "week")
    assert made.pop("expires_at") == made["created_at"] + 30 * 86_400
    created_at = made.pop("created_at")
    assert made == {
        "id": key.id,
        "name": "reports",
        "team": "search",
        "models": ["openai/*", "anthropic/claude-haiku-4-5"],
        "surfaces": ["openai"],
        "tags": {"env": "prod"},
        "requests_per_minute": 1200,
        "revoked_at": None,
    }
    assert listed(shell) == [{**made, "created_at": created_at, "expires_at": created_at + 30 * 86_400}]
    (line,) = shell("keys", "list").out.splitlines()[1:]
    for part in (key.id, "reports", "openai/*, anthropic/claude-haiku-4-5", "env=prod", "1,200"):
        assert part in line


def test_a_key_shows_only_the_clients_that_it_opens_anything_to(shell: Shell) -> None:
    made = shell("keys", "create", "x", "--surface", "anthropic", "--expires", "12h", "--budget", "2.50")
    assert "ANTHROPIC_API_KEY" in made.err
    assert "OPENAI_API_KEY" not in made.err
    assert "Good until 20" in made.err
    assert "At most $2.50 (key=" in made.err


def test_a_budget_of_a_key_is_a_budget_of_what_is_tagged_with_it(shell: Shell) -> None:
    key_id = shell("keys", "create", "nightly", "--budget", "0.000001", "--json").object["id"]
    assert held(shell) == [Budget(name="key", value=key_id, period="month", stop=PICO // 10**6)]
    refused = shell(
        "run", shell.table(), "--model", "openai/gpt-4.1-mini", "--prompt", "{q}", "--tag", f"key={key_id}"
    )
    assert refused.code == 2
    assert f"key={key_id}, a month" in refused.err
    assert shell.untouched()


def test_a_key_without_a_budget_has_none(shell: Shell) -> None:
    made = shell("keys", "create", "nightly", "--json").object
    assert (made["budget_usd"], made["every"]) == (None, None)
    assert held(shell) == []


def test_a_list_shows_revoked_keys_when_it_is_asked_for_all(shell: Shell) -> None:
    assert "There are no keys" in shell("keys", "list").out
    assert listed(shell) == []
    shell("keys", "create", "one")
    shell("keys", "create", "two")
    ran = shell("keys", "revoke", "one")
    assert (ran.code, ran.out) == (0, "")
    assert "(one) is revoked" in ran.err
    assert shell("keys", "revoke", "one").code == 0
    assert [key["name"] for key in listed(shell)] == ["two"]
    one, two = listed(shell, "--all")
    assert (one["name"], two["name"], two["revoked_at"]) == ("one", "two", None)
    assert one["revoked_at"] >= one["created_at"]
    assert "one" not in shell("keys", "list").out
    assert "revoked" in shell("keys", "list", "--all").out
    shell("keys", "revoke", two["id"])
    assert "All keys were revoked" in shell("keys", "list").out


def test_a_revoked_key_opens_nothing(shell: Shell) -> None:
    text = shell("keys", "create", "nightly").out.strip()
    assert shell("keys", "revoke", text).code == 0
    with Service(Home.from_environment(shell.env)) as service:
        assert service.keys.authenticate_now(text) is None


def test_an_expired_key_is_listed_as_one(shell: Shell) -> None:
    with Service(Home.from_environment(shell.env)) as service:
        service.keys.create("short", expires=1e-6)
    (line,) = shell("keys", "list").out.splitlines()[1:]
    assert line.endswith("  expired")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("create",), "NAME"),
        (("create", ""), "may not be empty"),
        (("create", "x", "--team", ""), "The team of a key may not be empty"),
        (("create", "x", "--model", "gpt-4.1-mini"), "names no model"),
        (("create", "x", "--surface", "gemini"), "'openai', 'anthropic', 'admin'"),
        (("create", "x", "--tag", "env"), "--tag takes NAME=VALUE"),
        (("create", "x", "--tag", "team=ads"), "use --team"),
        (("create", "x", "--tag", "key=ads"), "is set by the key itself"),
        (("create", "x", "--budget", "lots"), "not an amount in USD"),
        (("create", "x", "--every", "day"), "give both"),
        (("create", "x", "--requests-per-minute", "0"), "requests-per-minute"),
        (("create", "x", "--expires", "tomorrow"), "write it as 30d"),
        (("create", "x", "--expires", "0d"), "cannot expire in 0 s"),
        (("create", "x", "--expires", "999999w"), "ten years at most"),
        (("revoke", "x"), "There is no key 'x'"),
    ],
)
def test_what_is_no_key_is_refused(shell: Shell, words: tuple[str, ...], why: str) -> None:
    ran = shell("keys", *words)
    assert (ran.code, ran.out) == (2, "")
    assert why in ran.err
    assert listed(shell, "--all") == []
    assert held(shell) == []
