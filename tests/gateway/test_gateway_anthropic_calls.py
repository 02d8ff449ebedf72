"""Whose Anthropic batches are, which there are, and how long they are kept: through the official SDK."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anthropic
import openai
import pytest

from halfrate.base.clock import SystemClock
from halfrate.service.jobs import Service

from .house import SLOW, House, running, until_sent
from .messages import counts, make, request, results_of, wait

pytestmark = pytest.mark.timeout(120)


def test_an_ended_batch_can_be_deleted_with_its_results(house: Callable[..., House]) -> None:
    at = house(pace=SLOW)
    _, key = at.key()
    client = at.messages(key)
    batch = make(client, [request("a")])
    with pytest.raises(anthropic.BadRequestError, match="ended"):
        client.messages.batches.delete(batch.id)
    with pytest.raises(anthropic.BadRequestError, match="ended"):
        client.get(f"/v1/messages/batches/{batch.id}/results", cast_to=object)
    client.messages.batches.cancel(batch.id)
    batch = wait(client, client.messages.batches.retrieve(batch.id))
    kept = list((at.service.home.root / "gateway" / "files").iterdir())
    assert len(kept) == 1
    # What OpenAI calls files has nothing of it.
    openai_client = at.client(key)
    assert list(openai_client.files.list()) == []
    for read in (openai_client.files.retrieve, openai_client.files.delete):
        with pytest.raises(openai.NotFoundError):
            read(kept[0].name)
    deleted = client.messages.batches.delete(batch.id)
    assert (deleted.id, deleted.type) == (batch.id, "message_batch_deleted")
    for call in (
        client.messages.batches.retrieve,
        client.messages.batches.cancel,
        client.messages.batches.delete,
        client.messages.batches.results,
    ):
        with pytest.raises(anthropic.NotFoundError):
            call(batch.id)
    assert not kept[0].exists()
    assert list(client.messages.batches.list()) == []


def test_batches_are_listed_page_by_page_both_ways(house: Callable[..., House]) -> None:
    at = house(pace=SLOW)
    client = at.messages(at.key()[1])
    made = [make(client, [request("a")]).id for _ in range(5)][::-1]
    assert [batch.id for batch in client.messages.batches.list(limit=2)] == made
    page = client.messages.batches.list(limit=2, after_id=made[1])
    assert [batch.id for batch in page.data] == made[2:4]
    assert (page.has_more, page.first_id, page.last_id) == (True, made[2], made[3])
    back = client.messages.batches.list(limit=2, before_id=made[3])
    assert [batch.id for batch in back.data] == made[1:3]
    assert back.has_more
    first = client.messages.batches.list(limit=2, before_id=made[1])
    assert ([batch.id for batch in first.data], first.has_more) == (made[:1], False)
    assert {batch.id for batch in client.messages.batches.list(limit=2, before_id=made[4])} == set(made[:4])
    wrongs: list[Any] = [{"after_id": "msgbatch_none"}, {"before_id": "\0"}, {"limit": 0}, {"limit": 1_001}]
    for wrong in wrongs:
        with pytest.raises(anthropic.BadRequestError):
            client.messages.batches.list(**wrong)
    assert len(client.messages.batches.list(limit=1_000).data) == 5


def test_what_is_one_teams_does_not_exist_for_another(house: Callable[..., House]) -> None:
    at = house()
    mine = at.messages(at.key("mine", team="search")[1])
    colleague = at.messages(at.key("colleague", team="search")[1])
    theirs = at.messages(at.key("theirs", team="ads")[1])
    batch = wait(mine, make(mine, [request("a")]))
    assert colleague.messages.batches.retrieve(batch.id).id == batch.id
    for call in (
        theirs.messages.batches.retrieve,
        theirs.messages.batches.cancel,
        theirs.messages.batches.delete,
    ):
        with pytest.raises(anthropic.NotFoundError) as missing:
            call(batch.id)
        body: Any = missing.value.body
        assert body["error"]["type"] == "not_found_error"
        assert missing.value.request_id == body["request_id"]
    assert missing.value.response.headers["request-id"]
    with pytest.raises(anthropic.NotFoundError):
        theirs.get(f"/v1/messages/batches/{batch.id}/results", cast_to=object)
    assert list(theirs.messages.batches.list()) == []
    with pytest.raises(anthropic.BadRequestError):
        theirs.messages.batches.list(after_id=batch.id)
    assert len(results_of(mine, batch)) == 1


def test_a_key_opens_the_surfaces_that_it_was_made_for(house: Callable[..., House]) -> None:
    at = house()
    _, only = at.key("only", surfaces=("anthropic",))
    client = at.messages(only)
    assert wait(client, make(client, [request("a")])).request_counts.succeeded == 1
    with pytest.raises(openai.PermissionDeniedError):
        at.client(only).batches.list()
    other = at.messages(at.key("other", surfaces=("openai",))[1])
    with pytest.raises(anthropic.PermissionDeniedError):
        make(other, [request("a")])
    with pytest.raises(anthropic.AuthenticationError):
        make(at.messages(only[:-1] + ("a" if only[-1] != "a" else "b")), [request("a")])


def test_costs_go_to_the_key_its_team_and_its_tags(house: Callable[..., House]) -> None:
    at = house()
    key, text = at.key("nightly", team="search", tags={"env": "prod"})
    client = at.messages(text, default_headers={"halfrate-tags": "feature=ranking, team=somebody"})
    wait(client, make(client, [request("a")]))
    for name, value in {"team": "search", "key": key.id, "env": "prod", "feature": "ranking"}.items():
        (line,) = at.service.costs(by=(name,))
        assert line.keys == (value,)
        assert line.cost == int(at.meter()["picodollars"])


def test_a_create_that_a_client_repeats_makes_one_batch(house: Callable[..., House]) -> None:
    at = house()
    client = at.messages(at.key("mine", team="search")[1])
    colleague = at.messages(at.key("colleague", team="search")[1])

    def create(retries: int, who: anthropic.Anthropic = client, name: str = "a") -> str:
        return make(who, [request(name)], extra_headers={"x-stainless-retry-count": str(retries)}).id

    first = create(0)
    assert create(1) == first
    assert create(2) == first
    assert create(1, name="b") != first
    assert create(1, colleague) != first
    second = create(0)
    assert second != first
    assert create(1) == second
    for batch in client.messages.batches.list():
        wait(client, batch)
    assert at.meter()["creates_received"] == 4


def test_a_gateway_that_ends_is_gone_on_from_by_the_next(house: Callable[..., House]) -> None:
    at = house(pace=SLOW)
    _, text = at.key()
    client = at.messages(text)
    batch = make(client, [*(request(f"row-{n}") for n in range(6)), request("bad", stream=True)])
    until_sent(at)
    at.server.stop()
    at.clock.advance(86_000)
    with Service(at.service.home) as service, running(service) as (server, _):
        again = anthropic.Anthropic(base_url=server.url, api_key=text, max_retries=0)
        found = wait(again, again.messages.batches.retrieve(batch.id))
        assert found.request_counts.model_dump() == counts(succeeded=6, errored=1)
        assert len(results_of(again, found)) == 7
    assert at.meter()["creates_received"] == 1
    assert not at.paid_twice()


def test_results_are_kept_for_29_days_from_the_creation(house: Callable[..., House]) -> None:
    class Later(SystemClock):
        def now(self) -> float:
            return super().now() + 29 * 86_400

    at = house()
    _, text = at.key()
    client = at.messages(text)
    batch = wait(client, make(client, [request("a")]))
    at.server.stop()
    with Service(at.service.home, Later()) as service, running(service) as (server, _):
        again = anthropic.Anthropic(base_url=server.url, api_key=text, max_retries=0)
        found = again.messages.batches.retrieve(batch.id)
        assert found.processing_status == "ended"
        assert found.results_url is None
        assert found.archived_at == found.created_at + timedelta(days=29)
        with pytest.raises(anthropic.NotFoundError):
            again.get(f"/v1/messages/batches/{batch.id}/results", cast_to=object)
