"""Whatever a client sends to Google's surfaces, the answer is an answer: never a traceback."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfrate.emulator import CacheModel, Emulator, ManualClock, Pace

from .driver import Driver, jsonl
from .gemini import EMBEDDER, FLASH, Gemini
from .vertex import MODEL, PLACE, Vertex

WORDS = re.findall(
    r"\S+",
    """
    contents content parts text role inlineData inline_data functionCall functionResponse systemInstruction
    system_instruction tools toolConfig functionDeclarations parameters parametersJsonSchema name
    functionCallingConfig mode ANY allowedFunctionNames generationConfig generation_config maxOutputTokens
    candidateCount responseMimeType application/json text/x.enum responseSchema responseJsonSchema
    thinkingConfig thinkingBudget thinkingLevel includeThoughts type OBJECT STRING ARRAY INTEGER properties
    required items enum anyOf nullable minItems maxItems minLength labels cachedContent model user
    outputDimensionality taskType embedContentConfig requests request metadata key batch inputConfig fileName
    displayName priority instancesFormat jsonl gcsSource uris outputConfig predictionsFormat gcsDestination
    outputUriPrefix file mimeType
    """,
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(-3, 3),
    st.sampled_from(WORDS),
    st.text(max_size=5),
)


def holders(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5)


JSON = st.recursive(LEAVES, holders, max_leaves=20)
GOOD = [{"role": "user", "parts": [{"text": "hi"}]}]
CONTENT = st.fixed_dictionaries(
    {"parts": st.lists(st.fixed_dictionaries({"text": JSON}) | JSON, max_size=2) | JSON},
    optional={"role": JSON},
)
CONTENTS = st.just(GOOD) | st.lists(CONTENT, max_size=2) | JSON
TOOLS = st.fixed_dictionaries({"functionDeclarations": st.lists(st.fixed_dictionaries({"parameters": JSON}))})
CONFIG = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(WORDS[WORDS.index("maxOutputTokens") : WORDS.index("application/json")], JSON),
        **dict.fromkeys(("responseSchema", "responseJsonSchema", "thinkingConfig"), JSON),
        "responseMimeType": st.sampled_from(("application/json", "text/x.enum", ["list"], {})) | JSON,
    },
)
CALLING = st.fixed_dictionaries({"mode": st.just("ANY") | JSON}, optional={"allowedFunctionNames": JSON})
BODIES = st.fixed_dictionaries(
    {"contents": CONTENTS},
    optional={
        "generationConfig": CONFIG | JSON,
        "tools": st.lists(TOOLS, max_size=2) | JSON,
        "toolConfig": st.fixed_dictionaries({"functionCallingConfig": CALLING}) | JSON,
        "systemInstruction": JSON,
        "labels": JSON,
        "cachedContent": JSON,
    },
)


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    clock = ManualClock()
    with Emulator(clock=clock, pace=Pace.instant(), cache=CacheModel()) as emulator:
        yield Driver(emulator, clock)


@settings(max_examples=150, deadline=None)
@given(body=BODIES, plain=JSON)
def test_realtime(driver: Driver, body: dict[str, Any], plain: Any) -> None:
    gemini = Gemini(driver)
    for verb in ("generateContent", "streamGenerateContent", "countTokens"):
        response = gemini.send("POST", f"/v1beta/models/{FLASH}:{verb}", body)
        assert response.status in {200, 400, 403}
        response.read()
    for verb in ("embedContent", "batchEmbedContents"):
        for sent in (plain, {"content": plain}, {"requests": [{"content": plain}]}):
            assert gemini.send("POST", f"/v1beta/models/{EMBEDDER}:{verb}", sent).status in {200, 400}


@settings(max_examples=60, deadline=None)
@given(bodies=st.lists(BODIES, min_size=1, max_size=3), plain=JSON)
def test_batches(driver: Driver, bodies: list[dict[str, Any]], plain: Any) -> None:
    gemini = Gemini(driver)
    rows = [{"request": body, "metadata": plain} for body in bodies]
    for sent in ({"requests": {"requests": [*rows, plain]}}, {"requests": plain}, {"fileName": plain}, plain):
        made = gemini.create(sent)
        assert made.status in {200, 400, 404}
        if made.status == 200:
            assert gemini.look(made.json())["done"]
    keyed: list[dict[str, Any]] = [{"request": body, "key": plain} for body in bodies]
    assert gemini.results(gemini.batch(keyed))
    assert gemini.send("POST", f"/v1beta/models/{FLASH}:batchGenerateContent", plain).status == 400
    started = gemini.start(1)
    assert started.status == 200


@settings(max_examples=60, deadline=None)
@given(bodies=st.lists(BODIES, min_size=1, max_size=3), plain=JSON)
def test_jobs(driver: Driver, bodies: list[dict[str, Any]], plain: Any) -> None:
    vertex = Vertex(driver)
    made = vertex.job([{"request": body, "key": plain} for body in bodies])
    assert "endTime" in vertex.look(made)
    vertex.put("rows.jsonl", jsonl([{"request": plain}]))
    assert vertex.create().status == 200
    for field in ("labels", "inputConfig", "outputConfig", "model", "displayName"):
        assert vertex.create(**{field: plain}).status in {200, 400}
    assert vertex.send("POST", f"/vertex{PLACE}/{MODEL}:generateContent", plain).status == 400
    assert vertex.send("POST", "/bigquery/v2/projects/p/jobs", plain).status == 400
