"""Anthropic's own: versions of its API, betas, a cached system prompt."""

import json
from collections.abc import Callable

import pytest

from halfrate.base.errors import UsageError
from halfrate.emulator import CacheModel, Request, Response
from halfrate.rows.requests import request_lines

from .office import Office

Offices = Callable[..., Office]


def watch(desk: Office, monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """Every request that the emulator answers from now on."""
    seen: list[Request] = []
    respond = desk.emulator.respond

    async def watching(request: Request) -> Response:
        seen.append(request)
        return await respond(request)

    monkeypatch.setattr(desk.emulator, "respond", watching)
    return seen


def test_betas_and_the_version_go_with_the_paid_calls(
    office: Offices, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = office("anthropic")
    seen = watch(desk, monkeypatch)
    options = {"version": "2026-10-21", "beta": "output-300k-2026-03-24, other-1"}
    desk.assert_sound(desk.run(desk.ask(10, max_tokens=300_000, options=options)))
    (create,) = (r for r in seen if r.method == "POST" and r.path == "/v1/messages/batches")
    assert create.header("anthropic-beta") == "output-300k-2026-03-24,other-1"
    assert create.header("anthropic-version") == "2026-10-21"


def test_a_beta_that_batches_alone_have_does_not_go_with_a_call(
    office: Offices, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = office("anthropic")
    seen = watch(desk, monkeypatch)
    options = {"beta": "output-300k-2026-03-24,other-1"}
    desk.assert_sound(desk.run(desk.ask(5, tier="standard", options=options)))
    assert {r.header("anthropic-beta") for r in seen if r.path == "/v1/messages"} == {"other-1"}


def test_the_newer_version_takes_no_sampling_parameters(office: Offices) -> None:
    desk = office("anthropic")
    with pytest.raises(UsageError, match="takes no temperature"):
        desk.submit(desk.ask(3, temperature=0.5, options={"version": "2026-10-21"}))
    with pytest.raises(UsageError, match="takes no top_p"):
        desk.submit(desk.ask(3, params={"top_p": 0.5}, options={"version": "2026-10-21"}))


def test_a_system_prompt_is_cached_for_an_hour(office: Offices) -> None:
    desk = office("anthropic", cache=CacheModel())
    system = "You answer sums. " * 400
    job = desk.submit(desk.ask(30, system=system, options={"cache": "1h"}))
    files = desk.home.files(job.id)
    from halfrate.providers.anthropic import Anthropic

    rows = [
        row for block in request_lines(files.requests(0), Anthropic.capabilities.framing) for row in block
    ]
    assert json.loads(rows[0])["params"]["system"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    report = desk.work(job)
    desk.assert_sound(report)
    assert report.usage.write_1h
    assert report.usage.cached
    with pytest.raises(UsageError, match="there is nothing"):
        desk.submit(desk.ask(3, options={"cache": "1h"}))
