"""Whatever a client sends to Mistral, xAI, Fireworks or Bedrock, the answer is an answer."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfrate.emulator import CacheModel, Emulator, Limits, ManualClock, Pace

from .bedrock_driver import CLAUDE, LLAMA, MISTRAL, NOVA, SIGNED, TITAN, Bedrock, record, request
from .driver import Driver, jsonl
from .mistral_driver import MODEL, MistralDriver
from .test_any_body import BODIES, JSON, MESSAGES
from .test_fireworks import Fireworks
from .test_xai import GROK, Xai

NAMES = re.findall(
    r"\S+",
    """
    name input_file_id batch_requests requests input_files metadata agent_id timeout_hours datasetId dataset
    inputDatasetId outputDatasetId inferenceParameters continuedFromJobName displayName filenameToSize
    tags vpcConfig clientRequestToken timeoutDurationInHours inputDataConfig jobName roleArn modelId
    """,
)
FIELDS = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4)
ANSWERS = {200, 400, 404, 409, 413, 422, 429}


@pytest.fixture(scope="module")
def shared() -> Iterator[Driver]:
    clock = ManualClock()
    cache = CacheModel(openai_minimum=1, anthropic_minimum=1)
    limits = Limits(bedrock_least_rows=1)
    with Emulator(clock=clock, pace=Pace.instant(), cache=cache, limits=limits) as made:
        yield Driver(made, clock)


@settings(max_examples=100, deadline=None)
@given(body=BODIES, fields=FIELDS, messages=MESSAGES | JSON)
def test_any_body_gets_an_answer(
    shared: Driver, body: dict[str, Any], fields: dict[str, Any], messages: Any
) -> None:
    shared.clock.advance(10)
    chat = {"messages": messages, **body}
    account = "/fireworks/v1/accounts/acme"
    if shared.send("GET", f"{account}/datasets/in").status == 404:
        Fireworks(shared).upload("in", jsonl([{"custom_id": "a", "body": {"messages": []}}]))
    batch = Xai(shared).create().json()["batch_id"]
    bodies = {
        "/mistral/v1/chat/completions": {**chat, "model": MODEL},
        "/mistral/v1/embeddings": {**body, "input": messages, "model": "mistral-embed"},
        "/mistral/v1/batch/jobs": {
            "endpoint": "/v1/chat/completions",
            "requests": [{"body": chat}],
            **fields,
        },
        "/xai/v1/chat/completions": {**chat, "model": GROK},
        "/xai/v1/batches": fields,
        f"/xai/v1/batches/{batch}/requests": {"batch_requests": messages, **fields},
        "/fireworks/inference/v1/chat/completions": {
            **chat,
            "model": "accounts/fireworks/models/gpt-oss-120b",
        },
        f"{account}/datasets": fields,
        f"{account}/batchInferenceJobs": {
            "model": "accounts/fireworks/models/gpt-oss-120b",
            "inputDatasetId": "in",
            **fields,
        },
        "/bedrock/model-invocation-job": {**request("hr-1"), **fields},
        f"/bedrock/model/{CLAUDE}/invoke": {
            "anthropic_version": "bedrock-2023-05-31",
            "max_tokens": 9,
            **chat,
        },
        f"/bedrock/model/{NOVA}/invoke": chat,
        f"/bedrock/model/{NOVA}/converse": {"inferenceConfig": messages, **chat},
        f"/bedrock/model/{LLAMA}/invoke": {"prompt": messages, **body},
        f"/bedrock/model/{MISTRAL}/invoke": {"prompt": "hi", **body},
        f"/bedrock/model/{TITAN}/invoke": {"inputText": messages, **body},
    }
    for path, sent in bodies.items():
        response = shared.send("POST", path, sent, SIGNED if path.startswith("/bedrock") else None)
        assert response.status in ANSWERS, path
        assert response.read()


@settings(max_examples=40, deadline=None)
@given(body=BODIES, messages=MESSAGES | JSON)
def test_any_body_in_a_batch_ends_in_one_line(shared: Driver, body: dict[str, Any], messages: Any) -> None:
    chat = {"messages": messages, **body}
    shared.clock.advance(10)
    mistral = MistralDriver(shared)
    output, errors = mistral.results(mistral.look(mistral.job([{"custom_id": "a", "body": chat}])))
    assert len(output) + len(errors) == 1
    xai = Xai(shared)
    row = {"custom_id": "a", "url": "/v1/chat/completions", "body": {**chat, "model": GROK}}
    assert len(xai.results(xai.from_file(jsonl([row])))) == 1
    number = shared.emulator.meter.creates_received
    fireworks = Fireworks(shared)
    name = fireworks.job(f"hr-{number}", [{"custom_id": "a", "body": chat}])
    if fireworks.look(name)["state"] != "JOB_STATE_FAILED":
        output, errors = fireworks.results(name)
        assert len(output) + len(errors) == 1
    bedrock = Bedrock(shared)
    for model in (CLAUDE, NOVA, LLAMA, MISTRAL, TITAN):
        arn = bedrock.job(
            [record("a", chat)], name=f"hr-{number}-{model[-30:].replace(':', '-')}", modelId=model
        )
        assert bedrock.look(arn)["status"] == "Completed"
        assert len(bedrock.results(arn)) == 1
