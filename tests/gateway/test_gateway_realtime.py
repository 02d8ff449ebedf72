"""Calls in real time through the gateway: the official SDKs as clients, the emulator's meter as the witness."""

import asyncio
import json
import os
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import anthropic
import openai
import pytest

from halfrate.base.money import PICO

from ..service.providers import MODELS
from .house import PROVIDER_KEY, House

Open = Callable[..., House]
ASKED: list[Any] = [{"role": "user", "content": "What is a quick brown fox, and what does it do all day?"}]
REALTIME_ONLY = "openai-compatible/gpt-4.1-nano"
ALIKE = ["gpt-4.1-mini", "claude-haiku-4-5", REALTIME_ONLY]
# Two have embeddings alone.
CHATS = [model for name, model in MODELS.items() if name not in {"voyage", "cohere"}]


def spent(house: House, key: str, by: str = "team") -> dict[str, Any]:
    """What the gateway says was spent."""
    found: Any = house.client(key).get("/halfrate/cost", cast_to=object, options={"params": {"by": by}})
    return found


def billed(house: House) -> int:
    """Picodollars that the emulator has billed."""
    return house.meter()["picodollars"]


def agrees(house: House, key: str, rows: int, *, priced: bool = True) -> None:
    """Ledger and meter say the same, of so many rows."""
    total, meter = spent(house, key)["total"], house.meter()
    assert total["rows"] == meter["rows_billed"] + meter["realtime_billed"] == rows
    assert total["tokens"]["output"] == meter["tokens"]["output"]
    assert total["doubts"] == 0
    if priced:
        assert Decimal(total["cost_usd"]) * PICO == meter["picodollars"]
    else:
        # Nobody knows what it costs to run a model of one's own: unknown, not nothing.
        assert total["cost_usd"] is None


@pytest.fixture
def house(house: Open, monkeypatch: pytest.MonkeyPatch) -> Open:
    """With a model that has no batches at all."""

    def opened(*faults: str, **options: Any) -> House:
        found = house(*faults, **options)
        monkeypatch.setenv("OPENAI_COMPATIBLE_BASE_URL", os.environ["OPENAI_BASE_URL"])
        monkeypatch.setenv("OPENAI_COMPATIBLE_API_KEY", "key-1")
        return found

    return opened


def test_a_chat_is_answered_as_the_provider_answers_it(house: Open) -> None:
    home = house()
    _, key = home.key()
    raw = home.client(key).chat.completions.with_raw_response.create(model="gpt-4.1-mini", messages=ASKED)
    # OpenAI indents its replies: nobody has put this one together again.
    assert raw.content.startswith(b'{\n  "id"')
    assert raw.parse().choices[0].message.content
    assert raw.headers["x-halfrate-model"] == "openai/gpt-4.1-mini"
    assert raw.headers["x-halfrate-tier"] == "standard"
    assert Decimal(raw.headers["x-halfrate-cost-usd"]) * PICO == billed(home) > 0
    agrees(home, key, 1)


def test_a_stream_comes_through_as_it_is(house: Open) -> None:
    home = house()
    _, key = home.key()
    client = home.client(key)
    with client.chat.completions.create(model="gpt-4.1-mini", messages=ASKED, stream=True) as stream:
        chunks = list(stream)
    assert len(chunks) > 3
    # What makes the provider say what it used was the gateway's wish.
    assert all(chunk.choices for chunk in chunks)
    options: Any = {"include_usage": True}
    with client.chat.completions.create(
        model="gpt-4.1-mini", messages=ASKED, stream=True, stream_options=options
    ) as stream:
        *_, last = stream
    assert last.usage is not None
    assert last.choices == []
    agrees(home, key, 2)


def test_the_cost_of_a_stream_stands_in_a_comment_before_its_last_event(house: Open) -> None:
    home = house()
    _, key = home.key()
    with home.client(key).chat.completions.with_streaming_response.create(
        model="gpt-4.1-mini", messages=ASKED, stream=True
    ) as reply:
        lines = [line for line in reply.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    name, cost = lines[-2].removeprefix(": ").split(" ")
    assert name == "x-halfrate-cost-usd"
    assert Decimal(cost) * PICO == billed(home) > 0


def test_responses_and_embeddings_are_passed_on(house: Open) -> None:
    home = house()
    _, key = home.key()
    client = home.client(key)
    assert client.responses.create(model="gpt-4.1-mini", input="Say hello.").output_text
    found = client.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
    assert [one.index for one in found.data] == [0, 1]
    agrees(home, key, 2)


def test_a_message_is_answered_as_anthropic_answers_it(house: Open) -> None:
    home = house()
    _, key = home.key()
    client = home.messages(key)
    raw = client.messages.with_raw_response.create(model="claude-haiku-4-5", max_tokens=30, messages=ASKED)
    assert raw.parse().content
    assert raw.headers["x-halfrate-model"] == "anthropic/claude-haiku-4-5"
    assert raw.headers["request-id"].startswith("req_")
    with client.messages.stream(model="claude-haiku-4-5", max_tokens=30, messages=ASKED) as stream:
        words = list(stream.text_stream)
        message = stream.get_final_message()
    assert len(words) > 3
    assert message.usage.output_tokens > 3
    agrees(home, key, 2)


@pytest.mark.parametrize("model", CHATS)
def test_every_model_answers_on_both_surfaces(house: Open, model: str) -> None:
    home = house()
    _, key = home.key()
    openai_, anthropic_ = home.client(key), home.messages(key)
    chat = openai_.chat.completions.create(model=model, messages=ASKED, max_tokens=20)
    assert chat.choices[0].message.content
    assert chat.usage is not None
    with openai_.chat.completions.create(model=model, messages=ASKED, max_tokens=20, stream=True) as chunks:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text
    message = anthropic_.messages.create(model=model, messages=ASKED, max_tokens=20)
    assert message.content
    with anthropic_.messages.stream(model=model, messages=ASKED, max_tokens=20) as stream:
        final = stream.get_final_message()
    assert final.content
    assert final.usage.input_tokens == message.usage.input_tokens > 0
    agrees(home, key, 4)


def test_tools_come_back_on_either_surface(house: Open) -> None:
    home = house()
    _, key = home.key()
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tool: Any = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    needed: Any = {"type": "function", "function": {"name": "weather"}}
    for model in ALIKE:
        client = home.client(key)
        whole = client.chat.completions.create(
            model=model, messages=ASKED, tools=[tool], tool_choice=needed, max_tokens=50
        )
        (called,) = whole.choices[0].message.tool_calls or []
        assert called.type == "function"
        assert called.function.name == "weather"
        with client.chat.completions.stream(
            model=model, messages=ASKED, tools=[tool], tool_choice=needed, max_tokens=50
        ) as stream:
            last = stream.get_final_completion()
        (again,) = last.choices[0].message.tool_calls or []
        assert json.loads(again.function.arguments) == json.loads(called.function.arguments)
        messages = home.messages(key)
        own: Any = {"name": "weather", "input_schema": parameters}
        wanted: Any = {"type": "tool", "name": "weather"}
        with messages.messages.stream(
            model=model, messages=ASKED, tools=[own], tool_choice=wanted, max_tokens=50
        ) as spoken:
            (block,) = [one for one in spoken.get_final_message().content if one.type == "tool_use"]
        assert block.name == "weather"
        assert isinstance(block.input, dict)


@pytest.mark.parametrize("model", ALIKE)
def test_async_clients_ask_many_at_once(house: Open, model: str) -> None:
    home = house()
    _, key = home.key()

    async def main() -> None:
        async with (
            openai.AsyncOpenAI(base_url=f"{home.server.url}/v1", api_key=key, max_retries=0) as client,
            anthropic.AsyncAnthropic(base_url=home.server.url, api_key=key, max_retries=0) as messages,
        ):
            calls = [
                client.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": f"Row {number}"}], max_tokens=9
                )
                for number in range(20)
            ]
            said = [
                messages.messages.create(
                    model=model, messages=[{"role": "user", "content": f"Message {number}"}], max_tokens=9
                )
                for number in range(20)
            ]
            answers = await asyncio.gather(*calls, *said)
            assert len({answer.id for answer in answers}) == 40

    asyncio.run(main())
    agrees(home, key, 40, priced=model != REALTIME_ONLY)


def test_what_was_spent_is_told_by_team_and_by_tag(house: Open) -> None:
    home = house()
    _, search = home.key("search", team="search")
    _, ads = home.key("ads", team="ads", tags={"project": "spring"})
    _, boss = home.key("boss", surfaces=["admin"])
    home.client(search).chat.completions.create(model="gpt-4.1-mini", messages=ASKED)
    home.client(ads).chat.completions.create(
        model="gpt-4.1-mini", messages=ASKED, extra_headers={"halfrate-tags": "step=one, team=search"}
    )
    home.client(ads).chat.completions.create(model="gpt-4.1-mini", messages=ASKED, metadata={"step": "two"})
    every = spent(home, boss, "team")
    assert [(line["keys"]["team"], line["rows"]) for line in every["data"]] == [("ads", 2), ("search", 1)]
    assert Decimal(every["total"]["cost_usd"]) * PICO == billed(home)
    # A team sees its own, whatever it asks for; and nobody can spend in another's name.
    own = spent(home, ads, "step,project,team")
    assert own["team"] == "ads"
    assert [line["keys"] for line in own["data"]] == [
        {"step": "one", "project": "spring", "team": "ads"},
        {"step": "two", "project": "spring", "team": "ads"},
    ]
    assert spent(home, search)["total"]["rows"] == 1


def test_what_a_batch_cost_stands_beside_it(house: Open) -> None:
    from .house import chat, make, wait

    home = house()
    _, key = home.key()
    client = home.client(key)
    wait(client, make(client, chat("gpt-4.1-mini", 5)))
    client.chat.completions.create(model="gpt-4.1-mini", messages=ASKED)
    tiers = {line["keys"]["tier"]: line["rows"] for line in spent(home, key, "tier")["data"]}
    assert tiers == {"batch": 5, "standard": 1}
    agrees(home, key, 6)


def test_the_command_line_knows_them_and_lists_no_jobs_of_them(house: Open) -> None:
    home = house()
    _, key = home.key()
    home.client(key).chat.completions.create(model="gpt-4.1-mini", messages=ASKED)
    spent(home, key)
    assert home.service.jobs() == []
    (line,) = home.service.costs(by=("team", "model", "tier"))
    assert line.keys == ("default", "gpt-4.1-mini", "standard")
    assert line.cost == billed(home)
    assert line.rescue == 0


def test_keys_prompts_and_answers_are_in_no_log_and_no_file(house: Open) -> None:
    home = house()
    _, key = home.key()
    own = "sk-callers-own-4477aa"
    client = home.client(key)
    answer = client.chat.completions.create(
        model="gpt-4.1-mini", messages=[{"role": "user", "content": "a secret walrus"}]
    )
    client.chat.completions.create(
        model="gpt-4.1-mini", messages=ASKED, extra_headers={"x-halfrate-provider-key": own}
    )
    said = answer.choices[0].message.content or ""
    assert said
    spent(home, key)
    secret = key.split("_", 2)[2]
    kept = [path.read_bytes() for path in home.service.home.root.rglob("*") if path.is_file()]
    assert len(kept) > 2
    for text in [*kept, home.log.getvalue().encode()]:
        for forbidden in (secret, own, PROVIDER_KEY, "walrus", said):
            assert forbidden.encode() not in text


def test_a_key_may_ask_its_models_alone(house: Open) -> None:
    home = house()
    _, key = home.key(models=["openai/*"])
    _, other = home.key("other")
    with home.client(key) as client, home.messages(key) as messages, home.client(other) as free:
        with pytest.raises(openai.PermissionDeniedError, match="may not ask"):
            client.chat.completions.create(model="claude-haiku-4-5", messages=ASKED)
        with pytest.raises(anthropic.PermissionDeniedError):
            messages.messages.create(model="claude-haiku-4-5", messages=ASKED, max_tokens=9)
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(model="no-such-model", messages=ASKED)
        assert caught.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError) as refused:
            free.embeddings.create(model="claude-haiku-4-5", input="hi")
        assert refused.value.code == "unsupported_endpoint"
    assert home.meter()["realtime_received"] == 0
