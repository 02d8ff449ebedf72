"""OpenAI's Batch API at the gateway, through the official SDK alone; the emulator's meter is the witness."""

import asyncio
import http.client
import json
import os
import time
from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion

from halfrate.core.job import JobState
from halfrate.core.surface import BatchState
from halfrate.service.batches import Keeper
from halfrate.service.jobs import Service
from halfrate.service.shelf import Shelf
from halfrate.store.store import Fenced
from halfrate.store.surfaces import Held

from .house import (
    SLOW,
    ByHand,
    House,
    by_hand,
    chat,
    ledger_is_meter,
    lines_of,
    make,
    running,
    until_sent,
    upload,
    wait,
)

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize(
    "model", ["gpt-4.1-mini", "openai/gpt-4.1-mini", "claude-haiku-4-5", "gemini-2.5-flash"]
)
def test_a_batch_on_any_provider_comes_back_in_openais_form(house: Callable[..., House], model: str) -> None:
    at = house()
    client = at.client(at.key()[1])
    batch = make(client, chat(model, 12), metadata={"feature": "sums"})
    assert (batch.object, batch.status, batch.output_file_id) == ("batch", "validating", None)
    batch = wait(client, batch)
    assert batch.status == "completed"
    assert batch.errors is None
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed) == (12, 12)
    assert batch.metadata == {"feature": "sums"}
    assert batch.created_at <= (batch.in_progress_at or 0) <= (batch.finalizing_at or 0)
    found = lines_of(client, batch.output_file_id)
    assert sorted(line["custom_id"] for line in found) == sorted(f"row {n}" for n in range(12))
    assert len({line["id"] for line in found}) == 12
    for line in found:
        assert set(line) == {"id", "custom_id", "response", "error"}
        assert line["error"] is None
        answer = ChatCompletion.model_validate(line["response"]["body"], strict=True)
        assert answer.choices[0].message.content
        assert answer.usage is not None
    assert batch.usage is not None
    used = [line["response"]["body"]["usage"]["total_tokens"] for line in found]
    assert batch.usage.total_tokens == sum(used)
    assert batch.error_file_id is None
    ledger_is_meter(at)
    # At a deadline of its own a batch's rows would be run in real time; at 24h they never are.
    assert {line.keys for line in at.service.costs(by=("tier",))} == {("batch",)}


def test_rows_that_fail_are_in_the_error_file_in_openais_form(house: Callable[..., House]) -> None:
    for model in ("gpt-4.1-mini", "claude-haiku-4-5"):
        at = house("row-error:status=400,match=3")
        client = at.client(at.key(model)[1])
        batch = wait(client, make(client, chat(model, 12)))
        assert batch.status == "completed"
        assert batch.request_counts is not None
        failed = lines_of(client, batch.error_file_id)
        answered = lines_of(client, batch.output_file_id)
        assert batch.request_counts.failed == len(failed) > 0
        assert len(failed) + len(answered) == 12
        assert {line["custom_id"] for line in failed}.isdisjoint(line["custom_id"] for line in answered)
        for line in failed:
            assert line["response"]["status_code"] == 400
            assert line["response"]["body"]["error"]["type"] == "invalid_request_error"
            # What rows are called between here and the provider is nobody's business.
            assert "hr-" not in json.dumps(line)


def test_what_is_wrong_with_an_input_is_said_with_its_line(house: Callable[..., House]) -> None:
    at = house()
    client = at.client(at.key()[1])
    lines: list[Any] = chat("gpt-4.1-mini", 8)
    lines[1] = "{"
    lines[2]["custom_id"] = "row 0"
    lines[3]["url"] = "/v1/embeddings"
    lines[4]["method"] = "GET"
    lines[5]["body"]["model"] = "gtp-4.1-mimi"
    lines[6]["body"]["stream"] = True
    del lines[7]["body"]
    batch = wait(client, make(client, lines))
    assert batch.status == "failed"
    assert batch.failed_at is not None
    assert batch.errors is not None
    found = {(error.code, error.line) for error in batch.errors.data or ()}
    assert found == {
        ("invalid_json_line", 2),
        ("duplicate_custom_id", 3),
        ("url_mismatch", 4),
        ("invalid_method", 5),
        ("model_not_found", 6),
        ("invalid_request", 7),
        ("missing_required_parameter", 8),
    }
    assert batch.output_file_id is None
    assert at.meter()["rows_received"] == 0


def test_what_cannot_be_asked_of_a_provider_is_said_with_its_line(house: Callable[..., House]) -> None:
    at = house()
    client = at.client(at.key()[1])
    lines = [*chat("gpt-4.1-mini", 2), *chat("claude-haiku-4-5", 4)]
    for number, line in enumerate(lines):
        line["custom_id"] = str(number)
    lines[4]["body"]["logit_bias"] = {"50256": -100}
    batch = wait(client, make(client, lines))
    assert batch.status == "failed"
    assert batch.errors is not None
    (error,) = list(batch.errors.data or ())
    assert error.line == 5
    assert "logit_bias" in (error.message or "")
    assert at.meter()["rows_received"] == 0
    assert at.service.jobs() == []


def test_a_batch_may_ask_several_models(house: Callable[..., House]) -> None:
    at = house()
    client = at.client(at.key()[1])
    lines = [
        *chat("gpt-4.1-mini", 5),
        *chat("anthropic/claude-haiku-4-5", 7),
        *chat("openai/gpt-4.1-nano", 3),
    ]
    for number, line in enumerate(lines):
        line["custom_id"] = f"{number}: {line['body']['model']}"
    batch = wait(client, make(client, lines))
    assert batch.status == "completed"
    found = {
        line["custom_id"]: line["response"]["body"]["model"]
        for line in lines_of(client, batch.output_file_id)
    }
    assert len(found) == 15
    for name, model in found.items():
        assert model.startswith(name.partition(": ")[2].rpartition("/")[2])
    assert len(at.service.jobs()) == 3
    ledger_is_meter(at)


def test_a_cancelled_batch_delivers_what_was_finished(house: Callable[..., House]) -> None:
    at = house(pace=SLOW)
    client = at.client(at.key()[1])
    batch = make(client, chat("gpt-4.1-mini", 6))
    until_sent(at)
    assert client.batches.cancel(batch.id).status == "cancelling"
    assert client.batches.cancel(batch.id).status in {"cancelling", "cancelled"}
    batch = wait(client, batch)
    assert batch.status == "cancelled"
    assert batch.cancelling_at is not None
    assert batch.cancelled_at is not None
    lines = [*lines_of(client, batch.output_file_id), *lines_of(client, batch.error_file_id)]
    assert len(lines) == 6
    with pytest.raises(openai.ConflictError, match="cancelled"):
        client.batches.cancel(batch.id)
    assert not at.paid_twice()


def test_a_batch_that_is_cancelled_before_it_was_looked_at_sends_nothing(
    house: Callable[..., House],
) -> None:
    at = house()
    key, text = at.key()
    beside = ByHand(at.service)
    batch = beside.create(key, at.stored(key, text, chat("gpt-4.1-mini", 4)))
    beside.keeper.cancel(key.team, "openai", batch.id)
    assert wait(at.client(text), at.client(text).batches.retrieve(batch.id)).status == "cancelled"
    assert at.meter()["rows_received"] == 0


def test_an_input_can_be_deleted_while_its_batch_runs(house: Callable[..., House]) -> None:
    at = house()
    client = at.client(at.key()[1])
    batch = make(client, chat("gpt-4.1-mini", 5))
    assert client.files.delete(batch.input_file_id).deleted
    batch = wait(client, batch)
    assert batch.status == "completed"
    assert len(lines_of(client, batch.output_file_id)) == 5


def test_a_create_that_a_client_repeats_makes_one_batch(house: Callable[..., House]) -> None:
    at = house()
    client = at.client(at.key()[1])
    file_id = upload(client, chat("gpt-4.1-mini", 3))

    def create(retries: int) -> str:
        body = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        headers = {"x-stainless-retry-count": str(retries)}
        return client.post("/batches", cast_to=openai.types.Batch, body=body, options={"headers": headers}).id

    first = create(0)
    assert create(1) == first
    assert create(2) == first
    second = create(0)
    assert second != first
    for batch_id in (first, second):
        assert wait(client, client.batches.retrieve(batch_id)).status == "completed"
    assert at.meter()["creates_received"] == 2


def test_batches_are_listed_page_by_page_the_newest_first(house: Callable[..., House]) -> None:
    at = house()
    client = at.client(at.key()[1])
    made = [make(client, chat("gpt-4.1-mini", 1)).id for _ in range(5)]
    page = client.batches.list(limit=2)
    assert [batch.id for batch in page.data] == made[:2:-1]
    assert page.has_more
    assert [batch.id for batch in page] == made[::-1]
    with pytest.raises(openai.BadRequestError, match="after"):
        client.batches.list(after="batch_none")
    with pytest.raises(openai.BadRequestError, match="limit"):
        client.batches.list(limit=101)


@pytest.mark.parametrize("name", ["batch_none", "%00", "%E2%98%83", "..%2Fbatches", "a" * 3_000])
def test_ids_that_there_are_not_are_answered_as_such(house: Callable[..., House], name: str) -> None:
    at = house()
    client = at.client(at.key()[1])
    with pytest.raises(openai.NotFoundError):
        client.get(f"/batches/{name}", cast_to=openai.types.Batch)
    with pytest.raises(openai.NotFoundError):
        client.post(f"/batches/{name}/cancel", cast_to=openai.types.Batch)
    with pytest.raises(openai.BadRequestError):
        client.get(f"/batches?after={name}", cast_to=object)
    with pytest.raises(openai.BadRequestError, match="input_file_id"):
        client.batches.create(
            input_file_id="\0" + name, endpoint="/v1/chat/completions", completion_window="24h"
        )
    assert "defect" not in at.log.getvalue()


def test_what_is_one_teams_does_not_exist_for_another(house: Callable[..., House]) -> None:
    at = house()
    mine = at.client(at.key("mine", team="search")[1])
    colleague = at.client(at.key("colleague", team="search")[1])
    theirs = at.client(at.key("theirs", team="ads")[1])
    batch = wait(mine, make(mine, chat("gpt-4.1-mini", 2)))
    assert colleague.batches.retrieve(batch.id).id == batch.id
    for call in (theirs.batches.retrieve, theirs.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            call(batch.id)
    assert list(theirs.batches.list()) == []
    assert batch.output_file_id is not None
    with pytest.raises(openai.NotFoundError):
        theirs.files.content(batch.output_file_id)
    with pytest.raises(openai.BadRequestError, match="no file with id"):
        theirs.batches.create(
            input_file_id=batch.input_file_id, endpoint="/v1/chat/completions", completion_window="24h"
        )
    assert list(theirs.files.list()) == []


def test_what_a_key_may_not_ask_is_refused_and_costs_nothing(house: Callable[..., House]) -> None:
    at = house()
    client = at.client(at.key("small", models=["openai/gpt-4.1-*"])[1])
    assert wait(client, make(client, chat("gpt-4.1-mini", 1))).status == "completed"
    batch = wait(client, make(client, chat("claude-haiku-4-5", 1)))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert [error.code for error in batch.errors.data or ()] == ["model_not_allowed"]
    assert at.meter()["creates_received"] == 1
    assert {model.id for model in client.models.list()} >= {"gpt-4.1-mini"}
    assert all(model.id.startswith("gpt-4.1-") for model in client.models.list())


def test_costs_go_to_the_key_its_team_and_its_tags(house: Callable[..., House]) -> None:
    at = house()
    key, text = at.key("nightly", team="search", tags={"env": "prod"})
    client = at.client(text, default_headers={"halfrate-tags": "feature=ranking"})
    wait(client, make(client, chat("gpt-4.1-mini", 4), metadata={"team": "somebody else", "run": "7"}))
    for name, value in {
        "team": "search",
        "key": key.id,
        "env": "prod",
        "feature": "ranking",
        "run": "7",
    }.items():
        (line,) = at.service.costs(by=(name,))
        assert line.keys == (value,)
        assert line.cost == int(at.meter()["picodollars"])


def test_a_keys_budget_stops_a_batch_before_it_is_sent(house: Callable[..., House]) -> None:
    from halfrate.core.budgets import Budget

    at = house()
    key, text = at.key()
    at.service.set_budget(Budget(name="key", value=key.id, stop=1_000))
    client = at.client(text)
    batch = wait(client, make(client, chat("gpt-4.1-mini", 4)))
    assert batch.status == "failed"
    assert batch.errors is not None
    (error,) = list(batch.errors.data or ())
    assert error.code == "budget_exceeded"
    assert at.meter()["rows_received"] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"endpoint": "/v1/videos"}, "endpoint"),
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"metadata": {"k": "x" * 513}}, "metadata"),
        ({"metadata": {"k": 1}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 5}}, "output_expires_after"),
        ({"output_expires_after": {"anchor": "now", "seconds": 3600}}, "output_expires_after"),
    ],
)
def test_a_create_that_makes_no_sense_is_refused_with_the_field(
    house: Callable[..., House], change: dict[str, Any], said: str
) -> None:
    at = house()
    client = at.client(at.key()[1])
    body: dict[str, Any] = {"endpoint": "/v1/chat/completions", "completion_window": "24h", **change}
    if "input_file_id" not in body:
        body["input_file_id"] = upload(client, chat("gpt-4.1-mini", 1))
    with pytest.raises(openai.BadRequestError) as refused:
        client.post("/batches", cast_to=openai.types.Batch, body=body)
    assert said in (refused.value.param or "")
    assert list(client.batches.list()) == []


def test_results_are_files_with_a_life_of_their_own(house: Callable[..., House]) -> None:
    at = house()
    client = at.client(at.key()[1])
    batch = make(
        client,
        chat("gpt-4.1-mini", 2),
        output_expires_after={"anchor": "created_at", "seconds": 7_200},
    )
    batch = wait(client, batch)
    assert batch.output_file_id is not None
    file = client.files.retrieve(batch.output_file_id)
    assert file.purpose == "batch_output"
    assert file.expires_at == file.created_at + 7_200
    assert file.bytes == len(client.files.content(file.id).content)
    with pytest.raises(openai.BadRequestError, match="purpose"):
        client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")


def test_a_gateway_that_ends_is_gone_on_from_by_the_next(house: Callable[..., House]) -> None:
    at = house(pace=SLOW)
    _, text = at.key()
    client = at.client(text)
    batch = make(client, chat("gpt-4.1-mini", 6))
    until_sent(at)
    at.server.stop()
    at.clock.advance(86_000)
    with Service(at.service.home) as service, running(service) as (server, _):
        again = openai.OpenAI(base_url=f"{server.url}/v1", api_key=text, max_retries=0)
        found = wait(again, again.batches.retrieve(batch.id))
        assert found.status == "completed"
        assert len(lines_of(again, found.output_file_id)) == 6
    assert at.meter()["creates_received"] == 1
    assert not at.paid_twice()


def test_a_keeper_that_lost_its_batch_makes_no_job_of_it(house: Callable[..., House]) -> None:
    """Frozen between the draft and the job, while the caller cancels."""
    at = house()
    key, text = at.key()
    file = at.stored(key, text, chat("gpt-4.1-mini", 3))
    with by_hand(at) as hand:
        batch = hand.create(key, file)
        assert hand.step().parts
        held = hand.claim()
        hand.keeper.cancel(key.team, "openai", batch.id)
        hand.keeper.step(held)
        assert hand.service.jobs() == []
        assert list((hand.service.home.root / "jobs").iterdir()) == []
        assert hand.step().state is BatchState.CANCELLED
    assert at.meter()["rows_received"] == 0


def test_a_batch_whose_job_ended_just_before_a_kill_comes_to_its_end(house: Callable[..., House]) -> None:
    """Killed between the last row of a job and the record that the job is done."""
    at = house()
    key, text = at.key()
    file = at.stored(key, text, chat("gpt-4.1-mini", 3))
    with by_hand(at) as hand:
        batch = hand.create(key, file)
        while not hand.service.jobs():
            hand.step()
        (job,) = hand.service.jobs()
        asyncio.run(hand.service.run(job.id))
        assert hand.service.job(job.id).state is JobState.OPEN
        with running(hand.service) as (server, _):
            client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=text, max_retries=0)
            assert wait(client, client.batches.retrieve(batch.id), seconds=60).status == "completed"
    assert at.paid_twice() == 0


def test_a_step_that_is_done_twice_makes_one_job(house: Callable[..., House]) -> None:
    """Killed between the job and the record of it."""
    at = house()
    key, text = at.key()
    file = at.stored(key, text, chat("gpt-4.1-mini", 3))
    with by_hand(at) as hand:
        hand.create(key, file)
        hand.step()
        hand.keeper._submitted(hand.claim())
        (job,) = hand.service.jobs()
        # Its lease ends, and another takes it.
        hand.keeper._submitted(hand.claim(120, "other"))
        assert hand.service.jobs() == [job]


def test_a_keeper_that_lost_its_batch_touches_no_file_of_the_job_that_another_made(
    house: Callable[..., House],
) -> None:
    """Frozen between its draft and the job, while another makes the job and has it worked on."""
    at = house()
    key, text = at.key()
    file = at.stored(key, text, chat("gpt-4.1-mini", 3))
    with by_hand(at) as hand:
        service, keeper = hand.service, hand.keeper
        hand.create(key, file)
        hand.step()
        frozen = hand.claim()
        (part,) = frozen.batch.parts
        draft = service.draft(keeper._ask(frozen.batch, part, keeper._folder(frozen.batch) / "input.jsonl"))
        with Service(at.service.home) as second:
            ByHand(second).step(120)
        files = service.files(part.job_id).folder
        before = sorted((path.name, path.stat().st_ino) for path in files.iterdir())
        with pytest.raises(Fenced):
            service.submit(draft, held=frozen)
        assert sorted((path.name, path.stat().st_ino) for path in files.iterdir()) == before
        assert not draft.folder.exists()
        assert len(service.jobs()) == 1


def test_what_a_process_left_that_died_before_its_job_was_recorded_is_in_nobodys_way(
    house: Callable[..., House],
) -> None:
    at = house()
    key, text = at.key()
    file = at.stored(key, text, chat("gpt-4.1-mini", 3))
    with by_hand(at) as hand:
        service = hand.service
        hand.create(key, file)
        hand.step()
        held = hand.claim()
        folder = service.files(held.batch.parts[0].job_id).folder
        folder.mkdir(parents=True)
        (folder / "input.jsonl").write_text("half of it")
        hand.keeper.step(held)
        (job,) = service.jobs()
        assert job.rows == 3
        assert service.files(job.id).snapshot(job.input_format).read_text().count("\n") == 3


def test_a_batch_that_meets_a_defect_keeps_no_other_from_going_on(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = house()
    client = at.client(at.key()[1])
    step = Keeper.step

    def defective(keeper: Keeper, held: Held) -> None:
        if (held.batch.metadata or {}).get("luck") == "bad":
            raise ZeroDivisionError("a prompt: What is 1 plus 1?")
        step(keeper, held)

    monkeypatch.setattr(Keeper, "step", defective)
    unlucky = make(client, chat("gpt-4.1-mini", 2), metadata={"luck": "bad"})
    assert wait(client, make(client, chat("gpt-4.1-mini", 2))).status == "completed"
    assert client.batches.retrieve(unlucky.id).status == "validating"
    log = at.log.getvalue()
    assert "ZeroDivisionError" in log
    assert unlucky.id in log
    # What a defect says may repeat what was sent.
    assert "What is 1" not in log


def test_what_processes_left_that_died_is_swept_up_and_nothing_else(house: Callable[..., House]) -> None:
    at = house(pace=SLOW)
    client = at.client(at.key()[1])
    running = make(client, chat("gpt-4.1-mini", 2))
    gateway = at.service.home.root / "gateway"
    (gateway / "batches" / "batch_nobodys").mkdir()
    (gateway / "batches" / "batch_fresh").mkdir()
    (gateway / "files" / "file-nobodys").write_text("x")
    yesterday = time.time() - 100_000
    for path in (*(gateway / "files").iterdir(), *(gateway / "batches").iterdir()):
        if path.name != "batch_fresh":
            os.utime(path, (yesterday, yesterday))
    Shelf(at.service.home, at.service.surfaces, at.service.clock).sweep_orphans()
    assert {path.name for path in (gateway / "batches").iterdir()} == {running.id, "batch_fresh"}
    assert {path.name for path in (gateway / "files").iterdir()} == {running.input_file_id}


def test_many_callers_at_once_each_get_their_own(house: Callable[..., House]) -> None:
    at = house()
    client = openai.AsyncOpenAI(
        base_url=f"{at.server.url}/v1", api_key=at.key()[1], max_retries=0, timeout=30
    )

    async def one(number: int) -> tuple[int, set[str]]:
        lines = chat("gpt-4.1-mini", 3)
        for line in lines:
            line["custom_id"] = f"{number} {line['custom_id']}"
            line["body"]["messages"][0]["content"] += f" Caller {number}."
        text = "".join(json.dumps(line) + "\n" for line in lines).encode()
        file = await client.files.create(file=("rows.jsonl", text), purpose="batch")
        batch = await client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        while batch.status not in {"completed", "failed"}:
            await asyncio.sleep(0.2)
            batch = await client.batches.retrieve(batch.id)
        found = (await client.files.content(batch.output_file_id or "")).text
        return number, {json.loads(line)["custom_id"] for line in found.splitlines()}

    async def all_of_them() -> list[tuple[int, set[str]]]:
        async with client:
            return await asyncio.gather(*map(one, range(12)))

    for number, names in asyncio.run(all_of_them()):
        assert names == {f"{number} row {n}" for n in range(3)}
    ledger_is_meter(at)


def test_no_key_is_in_the_log_or_in_the_database(house: Callable[..., House]) -> None:
    from .house import PROVIDER_KEY

    at = house()
    _, text = at.key()
    client = at.client(text)
    wait(client, make(client, chat("gpt-4.1-mini", 2)))
    with pytest.raises(openai.AuthenticationError):
        at.client(text[:-1] + ("a" if text[-1] != "a" else "b")).batches.list()
    with pytest.raises(openai.NotFoundError):
        client.get(f"/nothing?key={text}", cast_to=object)
    log = at.log.getvalue()
    assert '"path":"/v1/batches"' in log
    assert '"status":401' in log
    secret = text.split("_", 2)[2]
    written = b"".join(path.read_bytes() for path in at.service.home.root.rglob("*") if path.is_file())
    for hidden in (secret, PROVIDER_KEY):
        assert hidden not in log
        assert hidden.encode() not in written
    # And the prompts are in neither.
    assert "What is 1 plus 1" not in log


def test_calls_without_a_key_are_turned_away_before_their_body_is_read(house: Callable[..., House]) -> None:
    at = house()
    at.key()
    connection = http.client.HTTPConnection("127.0.0.1", at.server.port, timeout=10)
    connection.putrequest("POST", "/v1/batches")
    connection.putheader("content-length", str(10**9))
    connection.endheaders()
    reply = connection.getresponse()
    assert reply.status == 401
    assert json.loads(reply.read())["error"]["code"] == "invalid_api_key"
    connection.close()


def test_a_revoked_key_opens_nothing_within_seconds(house: Callable[..., House]) -> None:
    at = house()
    key, text = at.key()
    client = at.client(text)
    client.batches.list()
    at.service.keys.revoke(key.id)
    deadline = time.monotonic() + 10
    while True:
        assert time.monotonic() < deadline
        try:
            client.batches.list()
        except openai.AuthenticationError:
            break
        time.sleep(0.2)


def test_a_keys_rate_is_kept(house: Callable[..., House]) -> None:
    at = house()
    client = at.client(at.key("slow", requests_per_minute=3)[1])
    for _ in range(3):
        client.batches.list()
    with pytest.raises(openai.RateLimitError) as refused:
        client.batches.list()
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 20


def test_readiness_and_unknown_calls_are_answered(house: Callable[..., House]) -> None:
    at = house()
    _, text = at.key()
    connection = http.client.HTTPConnection("127.0.0.1", at.server.port, timeout=10)

    def get(method: str, path: str, **headers: str) -> tuple[int, dict[str, Any]]:
        connection.request(method, path, headers=headers)
        reply = connection.getresponse()
        assert reply.headers["x-request-id" if "anthropic-version" not in headers else "request-id"]
        return reply.status, json.loads(reply.read())

    assert get("GET", "/healthz") == (200, {"status": "ok"})
    assert get("GET", "/readyz") == (200, {"status": "ok"})
    auth = {"authorization": f"Bearer {text}"}
    assert get("GET", "/v1/nothing", **auth)[1]["error"]["code"] == "unknown_url"
    assert get("PUT", "/v1/files", **auth)[0] == 405
    status, body = get("GET", "/v1/nothing", **auth, **{"anthropic-version": "2023-06-01"})
    assert (status, body["type"], body["error"]["type"]) == (404, "error", "not_found_error")
    connection.close()
