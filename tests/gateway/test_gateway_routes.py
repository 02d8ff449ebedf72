"""Routes over several models: each model is a place of its own that answers as the test says."""

import json
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from halfrate.core.budgets import Budget

from .office import Answer, Office, wait_for
from .place import Place, Script, Sent, reply, stream

CHAT = "/v1/chat/completions"
SETTINGS = """
[accounts.one]
provider = "openai"
key_variable = "KEY_ONE"
base_url = "{one}/v1"

[accounts.two]
provider = "openai"
key_variable = "KEY_TWO"
base_url = "{two}/v1"

[accounts.three]
provider = "anthropic"
key_variable = "KEY_THREE"
base_url = "{three}"

[routes.smart]
{route}
"""
ONE, TWO, THREE = "one/gpt-4.1-nano", "two/gpt-4.1-mini", "three/claude-haiku-4-5"


def chat(text: str, finish: str = "stop") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100}
    document = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return reply(200, json.dumps({**document, "usage": usage}).encode())


def message(text: str) -> bytes:
    document = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1_000, "output_tokens": 100},
    }
    return reply(200, json.dumps(document).encode())


def refusal(status: int, *headers: str) -> bytes:
    return reply(status, b'{"error":{"message":"no","type":"x","code":null}}', *headers)


def always(*pieces: bytes) -> Script:
    return lambda _sent: pieces


def silent(sent: Sent) -> Iterable[bytes]:
    wait_for(sent.gone)
    return ()


class Town:
    """A gateway, three places behind it, and the route `smart` over them."""

    def __init__(self, office: Office, places: dict[str, Place]) -> None:
        self.office = office
        self.one, self.two, self.three = places.values()

    def ask(self, model: str = "smart", **fields: Any) -> Answer:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100, **fields}
        return self.office.call("POST", CHAT, json.dumps(body).encode())

    def ledger(self, by: str = "model") -> dict[str, tuple[int, int]]:
        """Rows and doubts by model."""
        found = self.office.call("GET", f"/v1/halfrate/cost?by={by}").document["data"]
        return {line["keys"][by]: (line["rows"], line["doubts"]) for line in found}

    def calls(self) -> tuple[int, int, int]:
        return len(self.one.sent), len(self.two.sent), len(self.three.sent)


def text(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    return answer.document["choices"][0]["message"]["content"]


def path(answer: Answer) -> list[str]:
    return {name.lower(): value for name, value in answer.headers.items()}["x-halfrate-route"].split(", ")


Build = Callable[..., Town]


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Build]:
    with ExitStack() as stack:

        def build(route: str, one: Script, two: Script, three: Script = silent) -> Town:
            places = {
                name: stack.enter_context(Place(script))
                for name, script in (("one", one), ("two", two), ("three", three))
            }
            urls = {name: place.url for name, place in places.items()}
            settings = tmp_path / "settings.toml"
            settings.write_text(SETTINGS.format(route=route, **urls))
            monkeypatch.setenv("HALFRATE_SETTINGS", str(settings))
            for name in places:
                monkeypatch.setenv(f"KEY_{name.upper()}", f"sk-{name}-00000000")
            office = stack.enter_context(Office(tmp_path))
            # What the providers do here is no failure of the gateway's.
            stack.callback(office.forgive)
            return Town(office, places)

        yield build


FALLBACK = f'models = ["{ONE}", "{TWO}", "{THREE}"]\ncool_down = 60'


@pytest.mark.parametrize("status", [401, 429, 500, 503])
def test_the_next_is_asked_where_one_fails(town: Build, status: int) -> None:
    at = town(FALLBACK, always(refusal(status)), always(chat("two")))
    answer = at.ask()
    assert text(answer) == "two"
    assert path(answer) == [f"{ONE}={status}", f"{TWO}=200"]
    assert answer.headers["x-halfrate-model"] == TWO
    assert json.loads(at.two.sent[0].body)["model"] == "gpt-4.1-mini"
    # What has failed is left to recover.
    assert text(at.ask()) == "two"
    assert at.calls() == (1, 2, 0)
    assert at.ledger() == {"gpt-4.1-mini": (2, 0)}
    lines = [json.loads(line) for line in at.office.log.getvalue().splitlines()]
    assert [f"{ONE}={status}", f"{TWO}=200"] in [line.get("route") for line in lines]


def test_a_model_that_a_route_calls_by_its_bare_name_is_left_to_recover_as_well(
    town: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = town(f'models = ["gpt-4.1-nano", "{TWO}"]', always(refusal(500)), always(chat("two")))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-bare-00000000")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{at.one.url}/v1")
    assert path(at.ask()) == ["openai/gpt-4.1-nano=500", f"{TWO}=200"]
    assert path(at.ask()) == [f"{TWO}=200"]
    assert at.calls() == (1, 2, 0)


def test_a_model_of_another_form_is_asked_in_its_own(town: Build) -> None:
    at = town(FALLBACK, always(refusal(500)), always(refusal(500)), always(message("three")))
    answer = at.ask()
    assert text(answer) == "three"
    assert at.three.sent[0].path == "/v1/messages"
    at = at.office.client()
    with at.chat.completions.create(
        model="smart", messages=[{"role": "user", "content": "hi"}], stream=True, max_tokens=9
    ) as chunks:
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "three"


def test_what_lies_in_the_request_is_asked_of_nobody_else(town: Build) -> None:
    at = town(FALLBACK, always(refusal(400)), always(chat("two")))
    answer = at.ask()
    assert answer.status == 400
    assert path(answer) == [f"{ONE}=400"]
    assert at.calls() == (1, 0, 0)
    # A model that there is not, or that is too small for it, is no fault of the request's.
    at.one.script = always(refusal(404))
    assert text(at.ask()) == "two"


def test_the_last_failure_is_what_is_told(town: Build) -> None:
    at = town(FALLBACK, always(refusal(500)), always(refusal(503)), always(refusal(429, "retry-after: 9")))
    answer = at.ask()
    assert answer.status == 429
    assert answer.headers["retry-after"] == "9"
    assert path(answer) == [f"{ONE}=500", f"{TWO}=503", f"{THREE}=429"]
    assert at.ledger() == {}


def test_a_model_that_does_not_answer_in_time_is_left_for_the_next(town: Build) -> None:
    at = town(FALLBACK + "\ntimeout = 0.3", silent, always(chat("two")))
    began = time.monotonic()
    answer = at.ask()
    assert text(answer) == "two"
    assert time.monotonic() - began < 10
    assert path(answer) == [f"{ONE}=lost", f"{TWO}=200"]
    # Nobody knows whether it is billed.
    assert at.ledger() == {"gpt-4.1-nano": (0, 1), "gpt-4.1-mini": (1, 0)}


def test_a_model_that_says_when_to_come_back_is_asked_again(town: Build) -> None:
    told = iter([refusal(429, "retry-after: 0.2"), chat("one")])

    def busy(_sent: Sent) -> Iterable[bytes]:
        return [next(told)]

    at = town(FALLBACK + "\nretries = 2", busy, always(chat("two")))
    began = time.monotonic()
    answer = at.ask()
    assert text(answer) == "one"
    assert time.monotonic() - began >= 0.2
    assert path(answer) == [f"{ONE}=429", f"{ONE}=200"]
    # One that asks for longer than anybody waits is not.
    at.one.script = always(refusal(429, "retry-after: 3600"))
    assert text(at.ask()) == "two"


def test_a_stream_falls_back_before_it_has_begun(town: Build) -> None:
    events = [
        b'data: {"choices":[{"index":0,"delta":{"content":"two"}}]}\n\n',
        b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":2}}\n\n',
        b"data: [DONE]\n\n",
    ]
    at = town(FALLBACK, always(refusal(503)), always(*stream(*events)))
    with at.office.client().chat.completions.create(
        model="smart", messages=[{"role": "user", "content": "hi"}], stream=True
    ) as chunks:
        assert [chunk.choices[0].delta.content for chunk in chunks] == ["two"]
    assert at.ledger() == {"gpt-4.1-mini": (1, 0)}


RACE = f'models = ["{ONE}", "{TWO}"]\nhow = "race"'


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"])
def test_in_a_race_the_first_answer_counts_and_the_others_are_cancelled(town: Build, begun: bytes) -> None:
    gone = threading.Event()

    def slow(sent: Sent) -> Iterable[bytes]:
        yield begun
        wait_for(sent.gone)
        gone.set()

    at = town(RACE, slow, always(chat("two")))
    answer = at.ask()
    assert text(answer) == "two"
    assert gone.wait(10)
    assert sorted(path(answer)) == sorted([f"{ONE}=cancelled", f"{TWO}=200"])
    # What the loser cost nobody knows, and the reply does not pretend to.
    assert "x-halfrate-cost-usd" not in {name.lower() for name in answer.headers}
    assert at.ledger() == {"gpt-4.1-nano": (0, 1), "gpt-4.1-mini": (1, 0)}


def test_a_race_is_lost_only_when_all_have_failed(town: Build) -> None:
    def late(_sent: Sent) -> Iterable[bytes]:
        time.sleep(0.2)
        return [chat("two")]

    at = town(RACE, always(refusal(500)), late)
    answer = at.ask()
    assert text(answer) == "two"
    assert sorted(path(answer)) == sorted([f"{ONE}=500", f"{TWO}=200"])
    at.two.script = always(refusal(503))
    assert at.ask().status in {502, 503}


def test_the_cheapest_is_asked_first(town: Build) -> None:
    at = town(f'models = ["{THREE}", "{TWO}", "{ONE}"]\nhow = "cheapest"', always(chat("one")), silent)
    assert text(at.ask()) == "one"
    assert at.calls() == (1, 0, 0)


def test_the_quickest_is_asked_first(town: Build) -> None:
    def slow(_sent: Sent) -> Iterable[bytes]:
        time.sleep(0.3)
        return [chat("one")]

    at = town(f'models = ["{ONE}", "{TWO}"]\nhow = "fastest"', slow, always(chat("two")))
    assert {text(at.ask()), text(at.ask())} == {"one", "two"}
    assert [text(at.ask()) for _ in range(10)].count("two") > 5


def test_weights_share_calls_out(town: Build) -> None:
    at = town(
        f'models = ["{ONE}", "{TWO}"]\nhow = "weights"\nweights = [0, 1]',
        always(chat("one")),
        always(chat("two")),
    )
    assert [text(at.ask()) for _ in range(5)] == ["two"] * 5


ESCALATE = f'models = ["{ONE}", "{TWO}"]\nhow = "escalate"\n'


@pytest.mark.parametrize(
    ("check", "weak", "asked"),
    [
        ("finished", chat("half a", "length"), 1),
        ("finished", chat("whole"), 0),
        ("json", chat("no json"), 1),
        ("json", chat('{"a": 1}'), 0),
        ("matches:^YES", chat("well, no"), 1),
        ("matches:^YES", chat("YES indeed"), 0),
        ("tests.gateway.test_gateway_routes:long_enough", chat("no"), 1),
        ("tests.gateway.test_gateway_routes:long_enough", chat("a long answer"), 0),
    ],
)
def test_the_strong_one_is_asked_where_the_weak_ones_answer_does_not_pass(
    town: Build, check: str, weak: bytes, asked: int
) -> None:
    at = town(f"{ESCALATE}check = '{check}'", always(weak), always(chat("strong")))
    answer = at.ask()
    assert at.calls() == (1, asked, 0)
    assert (text(answer) == "strong") == bool(asked)
    nano, mini = 0.0001 + 0.00004, 0.0004 + 0.00016
    cost = answer.headers["x-halfrate-cost-usd"]
    assert float(cost) == pytest.approx(nano + mini * asked)
    if asked:
        assert path(answer) == [f"{ONE}=not {check.partition(':')[0]}", f"{TWO}=200"]


def long_enough(request: dict[str, Any], answer: dict[str, Any]) -> bool:
    """A check of somebody's own."""
    assert request["messages"]
    return len(answer["choices"][0]["message"]["content"]) > 5


def broken(_request: dict[str, Any], _answer: dict[str, Any]) -> bool:
    """A check of somebody's own that fails at what it is given."""
    raise KeyError("nothing of the kind")


def test_a_check_that_fails_loses_no_answer_and_buys_no_other(town: Build) -> None:
    check = "tests.gateway.test_gateway_routes:broken"
    at = town(f"{ESCALATE}check = '{check}'", always(chat("weak")), always(chat("strong")))
    assert text(at.ask()) == "weak"
    assert at.calls() == (1, 0, 0)
    assert "KeyError" in at.office.log.getvalue()


def test_the_cheap_one_stays_first_though_it_has_failed(town: Build) -> None:
    at = town(f'{ESCALATE}check = "json"', always(refusal(500)), always(chat("{}")))
    assert path(at.ask()) == [f"{ONE}=500", f"{TWO}=200"]
    at.one.script = always(chat("{}"))
    assert path(at.ask()) == [f"{ONE}=200"]


def test_an_answer_is_held_against_the_schema_that_was_asked_for(town: Build) -> None:
    at = town(f'{ESCALATE}check = "schema"', always(chat('{"age": "old"}')), always(chat('{"age": 3}')))
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert text(at.ask(response_format=form)) == '{"age": 3}'
    assert at.calls() == (1, 1, 0)


def test_an_escalated_answer_streams_as_well(town: Build) -> None:
    at = town(f'{ESCALATE}check = "json"', always(chat("no json")), always(chat('{"a": 1}')))
    with at.office.client().chat.completions.create(
        model="smart", messages=[{"role": "user", "content": "hi"}], stream=True
    ) as chunks:
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == '{"a": 1}'
    assert all("stream" not in json.loads(place.sent[0].body) for place in (at.one, at.two))
    with pytest.raises(openai.BadRequestError):
        at.office.client().responses.create(model="smart", input="hi", stream=True)


def test_the_weak_answer_is_better_than_none(town: Build) -> None:
    at = town(f'{ESCALATE}check = "json"', always(chat("no json")), always(refusal(503)))
    answer = at.ask()
    assert text(answer) == "no json"
    assert path(answer) == [f"{ONE}=not json", f"{TWO}=503"]


def test_a_check_that_there_is_not_is_told_to_who_runs_the_gateway(town: Build) -> None:
    at = town(f'{ESCALATE}check = "no.such.module:check"', always(chat("one")), always(chat("two")))
    answer = at.ask()
    assert answer.status == 503
    assert "no.such.module" not in answer.body.decode()
    assert "no.such.module" in at.office.log.getvalue()
    assert at.calls() == (0, 0, 0)


def test_a_key_goes_to_its_own_models_of_a_route_alone(town: Build) -> None:
    at = town(FALLBACK, always(chat("one")), always(chat("two")))
    _, key = at.office.service.keys.create("narrow", models=["two/*"])
    body = json.dumps({"model": "smart", "messages": []}).encode()
    answer = at.office.call("POST", CHAT, body, key=key)
    assert text(answer) == "two"
    _, closed = at.office.service.keys.create("closed", models=["four/*"])
    refused = at.office.call("POST", CHAT, body, key=closed)
    assert (refused.status, refused.error["code"]) == (403, "model_not_allowed")


def test_a_model_over_its_budget_is_passed_over(town: Build) -> None:
    at = town(FALLBACK, always(chat("one")), always(chat("two")))
    at.office.service.set_budget(Budget(name="account", value="one", stop=1))
    at.ledger()
    answer = at.ask()
    assert text(answer) == "two"
    assert path(answer)[0] == f"{ONE}=over_budget"
    at.office.service.set_budget(Budget(stop=1))
    at.ledger()
    assert at.ask().status == 402


def test_a_route_that_makes_no_sense_is_told_of(town: Build) -> None:
    at = town("models = []", always(chat("one")), always(chat("two")))
    assert at.ask().status == 503
    assert "names no models" in at.office.log.getvalue()


def test_a_route_is_listed_beside_the_models(town: Build) -> None:
    at = town(FALLBACK, always(chat("one")), always(chat("two")))
    client = at.office.client()
    assert {"smart", TWO} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("smart").owned_by == "halfrate"
    _, narrow = at.office.service.keys.create("narrow", models=["two/*"])
    assert at.office.client(narrow).models.retrieve("smart").id == "smart"
    _, closed = at.office.service.keys.create("closed", models=["four/*"])
    with pytest.raises(openai.NotFoundError):
        at.office.client(closed).models.retrieve("smart")
