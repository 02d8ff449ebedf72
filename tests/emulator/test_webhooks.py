"""Webhooks: signed as the official SDK verifies them, and bent as the faults say."""

import asyncio
import time
from typing import Any

import aiohttp.web
import openai
import pytest

from halfrate.emulator import Emulator, ManualClock, Pace, Webhook, WebhookTarget

from .conftest import Build
from .driver import Driver, chat_rows, jsonl

SECRET = "whsec_c2VjcmV0LW9mLXRoZS1lbXVsYXRvcg=="
TARGET = WebhookTarget("http://127.0.0.1:9/hook", SECRET)


@pytest.fixture
def client() -> Any:
    with openai.OpenAI(api_key="k", webhook_secret=SECRET) as made:
        yield made


def events(build: Build, *faults: str, rows: int = 2) -> tuple[Driver, Any, list[Webhook]]:
    driver = build(faults=faults, webhooks=[TARGET])
    # The SDK compares timestamps with the wall clock.
    driver.clock.advance(time.time() - driver.clock.now())
    batch = driver.batch(chat_rows(rows))
    return driver, batch, driver.emulator.due_webhooks()


def test_the_sdk_unwraps_an_event(build: Build, client: openai.OpenAI) -> None:
    driver, batch, (event,) = events(build)
    unwrapped = client.webhooks.unwrap(event.body, event.headers)
    assert unwrapped.type == "batch.completed"
    assert unwrapped.data.id == batch["id"]
    assert event.url == TARGET.url
    assert driver.look(batch)["status"] == "completed"
    assert driver.emulator.due_webhooks() == []


@pytest.mark.parametrize(
    ("fault", "kind"), [("batch-expire", "batch.expired"), ("batch-fail", "batch.failed")]
)
def test_other_events(build: Build, client: openai.OpenAI, fault: str, kind: str) -> None:
    _, _, (event,) = events(build, fault)
    assert client.webhooks.unwrap(event.body, event.headers).type == kind


def test_cancelled_event(build: Build, client: openai.OpenAI) -> None:
    driver = build(webhooks=[TARGET], pace=Pace(validate=60, cancel=1))
    driver.clock.advance(time.time() - driver.clock.now())
    batch = driver.batch(chat_rows(1))
    driver.json("POST", f"/v1/batches/{batch['id']}/cancel")
    driver.clock.advance(1)
    (event,) = driver.emulator.due_webhooks()
    assert client.webhooks.unwrap(event.body, event.headers).type == "batch.cancelled"


def test_webhook_lost(build: Build) -> None:
    assert events(build, "webhook-lost")[2] == []


def test_webhook_duplicate(build: Build) -> None:
    first, second = events(build, "webhook-duplicate")[2]
    assert first == second


def test_webhook_bad_signature(build: Build, client: openai.OpenAI) -> None:
    _, _, (event,) = events(build, "webhook-bad-signature")
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(event.body, event.headers)


def test_webhook_replay(build: Build, client: openai.OpenAI) -> None:
    _, _, (good, old) = events(build, "webhook-replay:seconds=600")
    assert good.headers["webhook-id"] == old.headers["webhook-id"]
    assert client.webhooks.unwrap(good.body, good.headers)
    with pytest.raises(openai.InvalidWebhookSignatureError, match="too old"):
        client.webhooks.unwrap(old.body, old.headers)


def test_webhook_late(build: Build) -> None:
    driver, _, none_yet = events(build, "webhook-late:seconds=60")
    assert none_yet == []
    driver.clock.advance(60)
    assert len(driver.emulator.due_webhooks()) == 1


def test_webhook_early(build: Build) -> None:
    driver, batch, (_,) = events(build, "webhook-early:seconds=5")
    seen = driver.look(batch)
    assert (seen["status"], seen["output_file_id"], seen["completed_at"]) == ("finalizing", None, None)
    driver.clock.advance(5)
    assert driver.look(batch)["status"] == "completed"


async def _delivered() -> list[tuple[bytes, dict[str, str]]]:
    """A real endpoint that fails once, and a serving emulator that delivers to it."""
    got: list[tuple[bytes, dict[str, str]]] = []
    arrived = asyncio.Event()

    async def hook(request: aiohttp.web.Request) -> aiohttp.web.Response:
        got.append((await request.read(), {k.lower(): v for k, v in request.headers.items()}))
        if len(got) > 1:
            arrived.set()
        return aiohttp.web.Response(status=500 if len(got) == 1 else 204)

    app = aiohttp.web.Application()
    app.router.add_post("/hook", hook)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    with Emulator(pace=Pace.instant()) as emulator:
        async with emulator.serve() as url, aiohttp.ClientSession() as session:
            target = {"url": f"http://127.0.0.1:{port}/hook", "secret": SECRET}
            async with session.post(f"{url}/emulator/webhooks", json=target) as answer:
                assert answer.status == 200
            async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
                uploaded = await client.files.create(file=("in", jsonl(chat_rows(1))), purpose="batch")
                await client.batches.create(
                    input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
                )
                await asyncio.wait_for(arrived.wait(), 10)
    await runner.cleanup()
    return got


def test_a_serving_emulator_delivers_until_it_is_accepted(client: openai.OpenAI) -> None:
    first, second = asyncio.run(_delivered())
    assert first[0] == second[0]
    assert client.webhooks.unwrap(second[0], second[1]).type == "batch.completed"


def test_a_secret_that_is_not_base64_is_named() -> None:
    with Emulator(clock=ManualClock()) as emulator:
        driver = Driver(emulator, ManualClock())
        refused = driver.send("POST", "/emulator/webhooks", {"url": "http://x", "secret": "whsec_%"})
        assert (refused.status, "base64" in refused.json()["error"]["message"]) == (400, True)
