"""The gateway's own description: complete, true, and made into a page for people."""

import base64
import hashlib
import html
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from halfrate.emulator import Pace
from halfrate.gateway import openai_batches, openai_files, openai_uploads
from halfrate.gateway.app import Gateway, Limits
from halfrate.gateway.asking import PATHS
from halfrate.gateway.logs import Log
from halfrate.gateway.openapi import document

from .house import QUICK, House, chat, make, open_house, until, upload, wait
from .messages import make as make_messages
from .messages import request
from .messages import wait as wait_messages
from .office import Office

GPT = "gpt-4.1-mini"
DOCUMENT = document(Limits())
SHAPES: dict[str, dict[str, Any]] = DOCUMENT["components"]["schemas"]
OPERATIONS: dict[tuple[str, str], dict[str, Any]] = {
    (method.upper(), path): operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}


def parts(part: Any) -> Iterator[dict[str, Any]]:
    """Every object within a part of the description, and itself."""
    if isinstance(part, dict):
        yield part
    for one in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from parts(one)


def names_in(part: Any) -> set[str]:
    """The shapes that a part of the description refers to, and those that they do."""
    named = {one["$ref"].rpartition("/")[2] for one in parts(part) if "$ref" in one} & set(SHAPES)
    return named.union(*(names_in(SHAPES[name]) for name in named))


# ---------------------------------------------------------------- complete and sound


def test_every_call_has_a_description_and_every_description_a_call(office: Office) -> None:
    router = Gateway(office.service, Log(office.clock, office.log))._router()
    calls = {
        (method, route.path.replace(":path}", "}"))  # type: ignore[attr-defined]
        for route in router.routes
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
    }
    assert set(OPERATIONS) == calls | {("POST", path) for path in PATHS}


def test_the_description_is_sound() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names)
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    for (_, path), operation in OPERATIONS.items():
        assert set(operation["tags"]) <= tags
        in_path = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", path))
        for link in operation["responses"]["200"].get("links", {}).values():
            assert link["operationId"] in names
    assert tags == {tag for operation in OPERATIONS.values() for tag in operation["tags"]}
    for one in parts(DOCUMENT):
        if "$ref" in one:
            *_, kind, name = one["$ref"].split("/")
            assert name in DOCUMENT["components"][kind]
        schema = one.get("schema")
        if schema is not None:
            assert jsonschema_rs.meta.is_valid(schema)
            if "example" in one:
                whole = {**schema, "components": DOCUMENT["components"]}
                assert jsonschema_rs.Draft202012Validator(whole).is_valid(one["example"])
    assert names_in(list(OPERATIONS.values())) == set(SHAPES)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (openai_batches._Create, "CreateBatch"),
        (openai_uploads._NewUpload, "CreateUpload"),
        (openai_uploads._Completion, "CompleteUpload"),
    ],
)
def test_what_a_body_may_hold_is_what_is_read(kind: type[msgspec.Struct], name: str) -> None:
    assert set(SHAPES[name]["properties"]) == set(kind.__struct_fields__)
    for field in ("expires_after", "output_expires_after"):
        within = SHAPES[name]["properties"].get(field)
        if within is not None:
            fields = set(openai_files.ExpiresAfter.__struct_fields__)
            assert set(within["anyOf"][0]["properties"]) == fields


def test_it_is_served_to_everybody_with_the_limits_there_are(tmp_path: Path) -> None:
    with Office(tmp_path, file_bytes=1_234, part_bytes=567, messages_bytes=89) as office:
        answer = office.call("GET", "/openapi.json", key="")
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert answer.document == document(Limits(1_234, 567, 89))
        for path, limit in [("files", "1,234"), ("uploads/{id}/parts", "567"), ("messages/batches", "89")]:
            told = answer.document["paths"][f"/v1/{path}"]["post"]["responses"]["413"]["description"]
            assert f"than {limit} bytes" in told


# ---------------------------------------------------------------- the page


def test_the_page_shows_every_call_and_every_shape(office: Office) -> None:
    answer = office.call("GET", "/", key="")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    page = answer.body.decode()
    for (method, path), operation in OPERATIONS.items():
        assert f">{method}</span> <code>{html.escape(path)}</code>" in page
        assert f'id="{operation["operationId"]}"' in page
    for name in SHAPES:
        assert f'id="shape-{name.lower()}"' in page
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'href="#([^"]*)"', page)) <= set(ids)


def test_the_page_runs_nothing_and_asks_nobody_for_anything(office: Office) -> None:
    answer = office.call("GET", "/", key="")
    page = answer.body.decode()
    (style,) = re.findall("<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert (policy["default-src"], policy["style-src"]) == ("'none'", f"'sha256-{digest}'")
    assert policy["frame-ancestors"] == "'none'"
    assert not re.search(r"<(script|link|img|iframe|object)\b| (src|style|on\w+)=|url\(|@import", page)
    assert {link for link in re.findall(r'href="([^"]*)"', page) if not link.startswith("#")} == {
        "openapi.json"
    }


@pytest.mark.parametrize("host", ['"><script>', "evil.example/path", "a b.example", "user@host"])
def test_the_page_repeats_no_host_that_is_none(office: Office, host: str) -> None:
    answer = office.call("GET", "/", headers={"host": host}, key="")
    assert html.escape(host) not in answer.body.decode()
    assert host not in answer.body.decode()
    assert f"http://127.0.0.1:{office.port}/v1" in answer.body.decode()
    named = office.call("GET", "/", headers={"host": "gateway.example:81"}, key="")
    assert "http://gateway.example:81/v1" in named.body.decode()


@pytest.mark.timeout(120)
def test_the_pages_samples_run(office: Office, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in chat(GPT, 2)))
    page = office.call("GET", "/", key="").body.decode()
    said: list[str] = []
    for sample in re.findall("<pre>(.*?)</pre>", page, re.DOTALL):
        code = html.unescape(sample).replace("hr_...", office.key)
        run = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        said.append(run.stdout or run.stderr)
    assert said == ["validating\n", "in_progress\n"]


# ---------------------------------------------------------------- true

EXAMPLES = 5
SCENARIOS = 12
REALTIME = ("createChatCompletion", "createEmbedding", "createMessage", "createResponse")
# What no schema says: that an id is one there is, that a time is to come, how far a thing has come, what a provider
# takes, or that 1.0 is no whole number.
NOT_ALL_THAT_IS_WELL_FORMED = (
    "addUploadPart",
    "cancelMessageBatch",
    "cancelUpload",
    "completeUpload",
    "createBatch",
    "createMessageBatch",
    "createUpload",
    "deleteMessageBatch",
    "downloadMessageBatchResults",
    "listBatches",
    "listFiles",
    "listMessageBatches",
    "showCost",
    "takeGeminiEvent",
    "takeOpenAIEvent",
    *REALTIME,
)
# In OpenAI's form models have no limit, and one that makes no sense is passed over. What goes on to a provider is the
# provider's to refuse.
NOT_ALL_THAT_IS_ILL_FORMED = ("listModels", *REALTIME)
# What proves who an event is from cannot be guessed.
NEVER_FINE = {"takeGeminiEvent", "takeOpenAIEvent"}

# Half a second a row.
PACE = Pace(validate=0.0, queue=0.0, per_1000_rows=500.0, finalize=0.0, cancel=0.0)

Known = dict[str, dict[str, list[str]]]


def furnished(house: House, key: str) -> Known:
    """A gateway with something of everything in it: the ids, by operation and parameter."""
    client, messages = house.client(key), house.messages(key)
    files = [upload(client, chat(GPT, 2)) for _ in range(6)]
    batches = [make(client, chat(GPT, 2)), make(client, ["no row"])]
    claude = [make_messages(messages, [request(f"row-{n}")]) for n in range(4)]
    uploads = [
        client.uploads.create(filename="rows.jsonl", purpose="batch", bytes=3, mime_type="text/plain").id
        for _ in range(6)
    ]
    part = client.uploads.parts.create(uploads[0], data=b"abc").id
    client.uploads.cancel(uploads[5])
    # These take longer than the test.
    running = make(client, chat(GPT, 1_000)).id
    claudes = make_messages(messages, [request(f"row-{n}") for n in range(1_000)]).id
    done = [wait(client, batch).id for batch in batches]
    ended = [wait_messages(messages, batch).id for batch in claude]
    waiting = {"halfrate-deadline": "8h"}
    # Those that may not wait are run at once.
    over = [client.responses.create(model=GPT, input="Hello", background=True).id for _ in range(3)]
    responses = [
        client.responses.create(model=GPT, input="Hello", background=True, extra_headers=waiting).id
        for _ in range(6)
    ]
    calls = [
        client.chat.completions.with_raw_response.create(
            model=GPT,
            messages=[{"role": "user", "content": "Hello"}],
            extra_headers={**waiting, "halfrate-background": "true"},
        ).http_response.json()["id"]
        for _ in range(6)
    ]
    until(lambda: {client.responses.retrieve(name).status for name in over} == {"completed"})
    headers = {"header.halfrate-deadline": ["8h", "06:00"], "header.halfrate-tags": ["a=b, c=d"]}
    return {
        "retrieveFile": {"path.id": files[3:]},
        "downloadFile": {"path.id": files[3:]},
        "deleteFile": {"path.id": files[:3]},
        "listFiles": {"query.after": files[3:]},
        "addUploadPart": {"path.id": uploads[2:4]},
        "completeUpload": {"path.id": uploads[:1], "body.part_ids[*]": [part]},
        "cancelUpload": {"path.id": uploads[3:]},
        "createBatch": {"body.input_file_id": files[3:], "body.completion_window": ["24h", "2h"], **headers},
        "retrieveBatch": {"path.id": done},
        "cancelBatch": {"path.id": [*done, running]},
        "listBatches": {"query.after": done},
        "createMessageBatch": headers,
        "retrieveMessageBatch": {"path.id": ended[2:]},
        "cancelMessageBatch": {"path.id": [*ended[2:], claudes]},
        "downloadMessageBatchResults": {"path.id": ended[2:]},
        "deleteMessageBatch": {"path.id": ended[:2]},
        "listMessageBatches": {"query.after_id": ended[2:], "query.before_id": ended[2:]},
        "retrieveResponse": {"path.id": responses[3:]},
        "cancelResponse": {"path.id": responses[:3]},
        "deleteResponse": {"path.id": over},
        "retrieveCall": {"path.id": calls[3:]},
        "cancelCall": {"path.id": calls[:3]},
        "retrieveModel": {"path.id": [GPT, f"openai/{GPT}"]},
        "showCost": {"query.by": ["day,model", "feature"]},
        "takeOpenAIEvent": {"path.account": ["openai"]},
    }


def settings(key: str, known: Known) -> str:
    """What schemathesis is told."""
    lines = [
        "seed = 1",
        "continue-on-failure = true",
        f'headers = {{ Authorization = "Bearer {key}" }}',
        f"generation.max-examples = {EXAMPLES}",
        'generation.database = "none"',
        # A second key that is wrong would close every door.
        "generation.with-security-parameters = false",
        # What nobody knows is passed over.
        "generation.allow-extra-parameters = false",
        f"phases.stateful.generation.max-examples = {SCENARIOS}",
        # The answer is the same whichever it is.
        'phases.coverage.unexpected-methods = ["PUT"]',
    ]
    bound: dict[str, list[str]] = defaultdict(list)
    for name, values in known.items():
        for parameter, found in values.items():
            place = f"known-{len(lines)}"
            lines.append(f"dictionaries.{place}.values = {json.dumps(found)}")
            bound[name].append(f'"{parameter}" = {{ dictionary = "{place}", probability = 0.6 }}')

    def tell(name: str, what: str) -> None:
        lines.extend(["[[operations]]", f'include-operation-id = "{name}"', what])

    for name, parameters in bound.items():
        tell(name, f"parameters = {{ {', '.join(parameters)} }}")
    for name in NOT_ALL_THAT_IS_WELL_FORMED:
        tell(name, "checks.positive_data_acceptance.enabled = false")
    for name in NOT_ALL_THAT_IS_ILL_FORMED:
        tell(name, "checks.negative_data_rejection.enabled = false")
    for name in REALTIME:
        # Who waits for an instant is told that nobody knows what became of the call.
        tell(name, 'checks.not_a_server_error.expected-statuses = ["2xx", "4xx", "504"]')
    return "\n".join(lines)


def closed() -> dict[str, Any]:
    """The description, in which replies have no field beside those that are named."""
    found = json.loads(json.dumps(DOCUMENT))
    asked = names_in([operation.get("requestBody") for operation in OPERATIONS.values()])
    for name, schema in found["components"]["schemas"].items():
        for one in parts(schema) if name not in asked else ():
            if isinstance(one.get("properties"), dict) and "required" in one:
                one.setdefault("additionalProperties", False)
    return found


def schemathesis(
    folder: Path, url: str, described: dict[str, Any], told: str, *options: str
) -> "subprocess.CompletedProcess[str]":
    (folder / "schemathesis.toml").write_text(told)
    (folder / "described.json").write_text(json.dumps(described))
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", "described.json", "--url", url]
    return subprocess.run(
        [*command, "--no-color", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def answered(house: House) -> dict[str, set[int]]:
    """Statuses that each operation was answered with."""
    patterns = {
        (method, re.compile(re.sub(r"\{\w+\}", ".+" if "models" in path else "[^/]+", path))): operation
        for (method, path), operation in OPERATIONS.items()
    }
    found: dict[str, set[int]] = defaultdict(set)
    for line in map(json.loads, house.log.getvalue().splitlines()):
        for (method, pattern), operation in patterns.items():
            if line["event"] == "call" and line["method"] == method and pattern.fullmatch(line["path"]):
                found[operation["operationId"]].add(line["status"])
    return found


@pytest.mark.timeout(600)
def test_no_call_fails_the_gateway_and_none_is_answered_as_is_not_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_WEBHOOK_SECRET", "whsec_c2VjcmV0LW9mLXRoZS10ZXN0cw==")
    # Calls that wait are gathered for longer than the test takes, so that they can be cancelled.
    timing = msgspec.structs.replace(QUICK, gather=600.0)
    with open_house(tmp_path, monkeypatch, pace=PACE, timing=timing) as house:
        key = house.key()[1]
        known = furnished(house, key)
        run = schemathesis(tmp_path, house.server.url, closed(), settings(key, known))
        assert run.returncode == 0, run.stdout + run.stderr
        statuses = answered(house)
        lines = list(map(json.loads, house.log.getvalue().splitlines()))
    assert [line for line in lines if line["event"] == "defect"] == []
    # Whatever it tried, it has come past the door, and to what is behind.
    names = {operation["operationId"] for operation in OPERATIONS.values()}
    assert {name for name in names if 200 not in statuses[name]} == NEVER_FINE


@pytest.mark.timeout(300)
def test_a_description_that_is_not_true_is_found_out(office: Office, tmp_path: Path) -> None:
    described = closed()
    del described["paths"]["/v1/files/{id}"]["get"]["responses"]["404"]
    described["components"]["schemas"]["Health"]["properties"]["status"] = {"type": "integer"}
    del described["paths"]["/openapi.json"]["get"]["security"]
    url = office.base_url.removesuffix("/v1")
    paths = ("/v1/files/{id}", "/healthz", "/openapi.json")
    options = [option for path in paths for option in ("--include-path", path)]
    run = schemathesis(tmp_path, url, described, settings(office.key, {}), "--phases", "fuzzing", *options)
    assert run.returncode == 1
    for told in ("Undocumented status code", "Response violates schema", "without authentication"):
        assert told in run.stdout
