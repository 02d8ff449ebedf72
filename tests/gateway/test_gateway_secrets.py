"""What settings, budgets and accounts say is for whoever runs the gateway: the log has it, and no caller reads it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from halfrate.base.errors import OverBudget
from halfrate.core.budgets import Budget
from halfrate.core.keys import Surface
from halfrate.service.batches import Keeper

from . import messages
from .house import House, chat, lines_of, make, wait

CLAUDE = messages.CLAUDE
pytestmark = pytest.mark.timeout(120)
both_surfaces = pytest.mark.parametrize("surface", ["openai", "anthropic"])


class Caller:
    """A caller of both surfaces. `replies`: the bodies of all that it was answered."""

    def __init__(self, at: House) -> None:
        self.at = at
        self.replies: list[str] = []
        text = at.key("caller", team="search")[1]
        self.openai = at.client(text)
        self.anthropic = at.messages(text)
        for client in (self.openai, self.anthropic):
            client._client.event_hooks["response"].append(self._keep)

    def _keep(self, response: Any) -> None:
        self.replies.append(response.read().decode())

    def refusals(self, surface: Surface, *models: str, rows: int = 4) -> list[tuple[str, str]]:
        """What is said of a batch of so many rows for each of the models: codes, or at Anthropic's types, and texts."""
        if surface == "openai":
            lines = [line for model in models for line in chat(model, rows)]
            for number, line in enumerate(lines):
                line["custom_id"] = str(number)
            batch = wait(self.openai, make(self.openai, lines))
            faults = batch.errors.data if batch.errors is not None else None
            failed = [line["error"] or {} for line in lines_of(self.openai, batch.error_file_id)]
            return [
                *((fault.code or "", fault.message or "") for fault in faults or ()),
                *((error["code"], error["message"]) for error in failed if error),
            ]
        asked = [model for model in models for _ in range(rows)]
        requests = [messages.request(f"row-{number}", model) for number, model in enumerate(asked)]
        batch = messages.wait(self.anthropic, messages.make(self.anthropic, requests))
        found = messages.results_of(self.anthropic, batch).values()
        return [(one.error.error.type, one.error.error.message) for one in found if one.type == "errored"]

    def logged(self, event: str) -> list[str]:
        """What the log says of such events."""
        lines = map(json.loads, self.at.log.getvalue().splitlines())
        return [line["why"] for line in lines if line["event"] == event]

    def never_read(self, *secrets: str) -> None:
        for secret in secrets:
            assert secret
            assert [reply for reply in self.replies if secret in reply] == []


@both_surfaces
def test_a_variable_of_the_server_that_is_not_set_is_named_in_the_log_alone(
    house: Callable[..., House], surface: Surface, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = Caller(house())
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    said = caller.refusals(surface, CLAUDE)
    assert {code for code, _ in said} == {"model_unavailable" if surface == "openai" else "api_error"}
    assert all("not set up" in text for _, text in said)
    (why,) = caller.logged("job refused")
    assert "ANTHROPIC_API_KEY" in why
    caller.never_read("ANTHROPIC_API_KEY", "halfrate emulate")


@both_surfaces
def test_where_the_settings_file_is_stands_in_the_log_alone(
    house: Callable[..., House], surface: Surface, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    caller = Caller(house())
    path = str(tmp_path / "operators-own.toml")
    monkeypatch.setenv("HALFRATE_SETTINGS", path)
    said = caller.refusals(surface, CLAUDE)
    assert {code for code, _ in said} == {"model_unavailable" if surface == "openai" else "api_error"}
    (why,) = caller.logged("model unavailable")
    assert path in why
    client, shape = (
        (caller.openai, {"type": "server_error", "code": "model_unavailable"})
        if surface == "openai"
        else (caller.anthropic, {"type": "api_error"})
    )
    for call in (client.models.list, lambda: client.models.retrieve(CLAUDE)):
        with pytest.raises((openai.InternalServerError, anthropic.InternalServerError)) as failed:
            call()
        body: Any = failed.value.response.json()
        assert shape.items() <= body["error"].items()
    assert all(path in why for why in caller.logged("unable"))
    assert len(caller.logged("unable")) == 2
    caller.never_read(path, "HALFRATE_SETTINGS", "operators-own")


@both_surfaces
@pytest.mark.parametrize(
    "budget",
    [
        Budget(stop=1_234_567),
        Budget(name="account", value="anthropic", period="day", stop=1_234_567),
        Budget(name="model", value=CLAUDE, period="ever", stop=1_234_567),
    ],
    ids=lambda budget: budget.scope,
)
def test_what_a_budget_is_and_how_it_stands_is_in_the_log_alone(
    house: Callable[..., House], surface: Surface, budget: Budget
) -> None:
    at = house()
    caller = Caller(at)
    at.service.set_budget(budget)
    said = caller.refusals(surface, CLAUDE)
    assert {code for code, _ in said} == {
        "budget_exceeded" if surface == "openai" else "invalid_request_error"
    }
    assert all("A budget that covers this call is spent, or too small for it" in text for _, text in said)
    (why,) = caller.logged("job refused")
    figures = re.findall(r"\$[0-9.]*[0-9]", why)
    assert len(figures) == 4
    assert budget.title in why
    caller.never_read(*figures, budget.title, "--over-budget")
    assert at.meter()["rows_received"] == 0


def test_an_error_file_has_no_figure_of_a_budget(house: Callable[..., House]) -> None:
    """The rows of another model are sent before it is found that these have no room."""
    at = house()
    caller = Caller(at)
    at.service.set_budget(Budget(name="model", value=CLAUDE, stop=1_234_567))
    said = caller.refusals("openai", "gpt-4.1-mini", CLAUDE)
    assert [code for code, _ in said] == ["budget_exceeded"] * 4
    (why,) = caller.logged("job refused")
    caller.never_read(*re.findall(r"\$[0-9.]*[0-9]", why), f"model={CLAUDE}", "--over-budget")
    assert at.meter()["rows_billed"] == 4


@both_surfaces
def test_a_model_without_a_price_gives_no_hint_for_the_command_line_away(
    house: Callable[..., House], surface: Surface
) -> None:
    at = house()
    caller = Caller(at)
    at.service.set_budget(Budget(stop=10**12))
    said = caller.refusals(surface, "openai/gpt-without-a-price")
    assert said
    (why,) = caller.logged("job refused")
    assert "halfrate price set" in why
    caller.never_read("halfrate price", *re.findall(r"\$[0-9.]*[0-9]", why))


@both_surfaces
def test_a_call_that_crosses_a_budget_is_answered_without_its_figures(
    house: Callable[..., House], surface: Surface, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = "This call should cost $0.31, and a budget stops it: $41.10 spent of $42.00 (team=ads, a month)."

    def over(*_args: Any, **_options: Any) -> None:
        raise OverBudget(why)

    caller = Caller(house())
    monkeypatch.setattr(Keeper, "page", over)
    batches = caller.openai.batches if surface == "openai" else caller.anthropic.messages.batches
    with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)) as refused:
        batches.list()
    assert refused.value.status_code == 402
    body: Any = refused.value.response.json()
    assert body["error"]["code" if surface == "openai" else "type"] == (
        "budget_exceeded" if surface == "openai" else "billing_error"
    )
    assert caller.logged("unable") == [why]
    caller.never_read("$", "team=ads")


@both_surfaces
def test_which_providers_there_are_besides_is_told_to_nobody(
    house: Callable[..., House], surface: Surface, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = tmp_path / "more.toml"
    settings.write_text(
        '[providers.inner-cluster]\nbase_url = "http://127.0.0.1:9/v1"\n\n'
        '[prices.gone-cluster.phi]\ninput = "1"\noutput = "1"\n'
    )
    caller = Caller(house())
    monkeypatch.setenv("HALFRATE_SETTINGS", str(settings))
    said = caller.refusals(surface, "gone-cluster/phi")
    assert all("gone-cluster/phi" in text for _, text in said)
    assert len(said) == (1 if surface == "openai" else 4)
    caller.never_read("inner-cluster")


@both_surfaces
def test_why_a_provider_refused_a_whole_batch_is_in_the_log_alone(
    house: Callable[..., House], surface: Surface
) -> None:
    """Of one batch a provider speaks with whoever has the account, and may name that, its buckets and its roles."""
    at = house("create-refused:status=400,provider=anthropic")
    caller = Caller(at)
    said = caller.refusals(surface, CLAUDE)
    assert [code for code, _ in said] == ["not_run" if surface == "openai" else "api_error"] * 4
    assert all("its provider refused a batch" in text for _, text in said)
    (why,) = caller.logged("job stopped")
    assert why.startswith("Anthropic answered 400: ")
    caller.never_read(why, "answered 400", why.partition(": ")[2])


def test_of_a_job_that_was_held_back_callers_read_that_most_rows_failed(house: Callable[..., House]) -> None:
    at = house("row-error:status=400,rate=1")
    caller = Caller(at)
    at.service.set_quota("openai/gpt-4.1-mini", "rows", 60)
    said = caller.refusals("openai", "gpt-4.1-mini", rows=80)
    # The first sixty have lines of their own.
    assert [code for code, _ in said] == ["not_run"] * 20
    assert all("most rows of a batch failed" in text for _, text in said)
    # An error of a row may repeat what was sent: it stays out of the log.
    assert caller.logged("job held back") == ["60 of the 60 rows of one batch failed"]
    assert at.meter()["rows_received"] == 60


def test_a_row_for_which_a_provider_gave_nothing_is_not_said_to_be_stopped(
    house: Callable[..., House],
) -> None:
    caller = Caller(house("row-missing:match=What is 3 plus"))
    (said,) = caller.refusals("openai", "gpt-4.1-mini")
    assert said[0] == "not_run"
    assert "its provider gave none" in said[1]
