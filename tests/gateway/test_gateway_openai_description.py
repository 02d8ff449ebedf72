"""What the gateway answers on OpenAI's API, held against OpenAI's own OpenAPI description and its SDK's types.

The description is not in this repository: `OPENAI_OPENAPI` names a copy of it (see CONTRIBUTING.md). The SDK's types
are always here, and a weaker judge: to them any field may be null that may be left out.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
import yaml
from openai import BaseModel
from openai.types import Batch, FileDeleted, FileObject, Model, Upload
from openai.types.responses import Response
from openai.types.shared import ErrorObject
from openai.types.uploads import UploadPart
from pydantic import TypeAdapter, ValidationError

from halfrate.base.types import Usage
from halfrate.core.deferral import Answer as DeferredAnswer
from halfrate.core.surface import (
    SHOWN,
    BatchCounts,
    BatchPart,
    BatchState,
    LineFault,
    StoredFile,
    SurfaceBatch,
)

from .house import chat, make, open_house, wait
from .office import Answer, Office, file_form, form, form_part

COPY = os.environ.get("OPENAI_OPENAPI", "")
ERROR = "error"
JSON = {"content-type": "application/json"}
ROWS = b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {}}\n'
# Shapes that calls answer with, by how their paths begin.
EXAMPLES = {
    "batches": "Batch",
    "files": "OpenAIFile",
    "models": "Model",
    "uploads": "Upload",
}
TYPES: dict[str, type[BaseModel]] = {
    "POST /files": FileObject,
    "GET /files": FileObject,
    "GET /files/{file_id}": FileObject,
    "DELETE /files/{file_id}": FileDeleted,
    "POST /uploads": Upload,
    "POST /uploads/{upload_id}/parts": UploadPart,
    "POST /uploads/{upload_id}/complete": Upload,
    "POST /uploads/{upload_id}/cancel": Upload,
    "POST /batches": Batch,
    "GET /batches": Batch,
    "GET /batches/{batch_id}": Batch,
    "POST /batches/{batch_id}/cancel": Batch,
    "GET /models": Model,
    "GET /models/{model}": Model,
    "POST /responses": Response,
    "GET /responses/{response_id}": Response,
    "POST /responses/{response_id}/cancel": Response,
    ERROR: ErrorObject,
}
WAYS: dict[BatchState, tuple[BatchState, ...]] = {
    BatchState.VALIDATING: (),
    BatchState.FAILED: (BatchState.FAILED,),
    BatchState.IN_PROGRESS: (BatchState.IN_PROGRESS,),
    BatchState.FINALIZING: (BatchState.IN_PROGRESS, BatchState.FINALIZING),
    BatchState.COMPLETED: (BatchState.IN_PROGRESS, BatchState.FINALIZING, BatchState.COMPLETED),
    BatchState.EXPIRED: (BatchState.IN_PROGRESS, BatchState.FINALIZING, BatchState.EXPIRED),
    BatchState.CANCELLING: (BatchState.IN_PROGRESS, BatchState.CANCELLING),
    BatchState.CANCELLED: (BatchState.IN_PROGRESS, BatchState.CANCELLING, BatchState.CANCELLED),
}


class Reply(msgspec.Struct, frozen=True):
    """A reply as it came. `of`: the call in the description's words, as in "POST /files", or ERROR."""

    name: str
    of: str
    body: bytes


# ---------------------------------------------------------------- replies


class Calls:
    """Calls a gateway and keeps what it answers."""

    def __init__(self, office: Office, replies: list[Reply]) -> None:
        self.office = office
        self.replies = replies

    def fine(self, of: str, *ids: str, body: Any = None, query: str = "", name: str = "") -> Any:
        """A call that is done; what came back."""
        method, _, path = of.partition(" ")
        for one in ids:
            path = re.sub(r"\{\w+\}", one, path, count=1)
        answer = self._called(method, f"/v1{path}{query}", body)
        assert answer.status == 200, answer
        self.replies.append(Reply(name or of, of, answer.body))
        return answer.document

    def refused(self, status: int, method: str, path: str, body: Any = None, **options: Any) -> None:
        """A call that is answered with an error."""
        answer = self._called(method, path, body, **options)
        assert answer.status == status, answer
        self.replies.append(Reply(f"{status} to {method} {path}", ERROR, answer.body))

    def _called(self, method: str, path: str, body: Any, **options: Any) -> Answer:
        if isinstance(body, bytes):
            return self.office.call(
                method, path, body, {"content-type": "multipart/form-data; boundary=line"}, **options
            )
        data = None if body is None else json.dumps(body).encode()
        return self.office.call(method, path, data, JSON, **options)


def files(calls: Calls) -> None:
    calls.fine("GET /files", name="no files")
    made = [calls.fine("POST /files", body=file_form(ROWS))["id"] for _ in range(3)]
    lasting = StoredFile(
        id="file-lasting",
        team="search",
        filename="a.jsonl",
        purpose="batch_output",
        bytes=3,
        created_at=time.time(),
    )
    calls.office.service.surfaces.add_file(lasting)
    calls.fine("GET /files", query="?limit=2", name="a page of files")
    calls.fine("GET /files", name="all files")
    calls.fine("GET /files/{file_id}", made[0])
    calls.fine("GET /files/{file_id}", lasting.id, name="a file that does not expire")
    calls.fine("DELETE /files/{file_id}", made[0])


def uploads(calls: Calls) -> None:
    asked = {"filename": "rows.jsonl", "purpose": "batch", "bytes": 3, "mime_type": "application/jsonl"}
    upload = calls.fine("POST /uploads", body=asked)["id"]
    part = calls.fine("POST /uploads/{upload_id}/parts", upload, body=form(form_part("data", b"abc")))["id"]
    calls.fine("POST /uploads/{upload_id}/complete", upload, body={"part_ids": [part]})
    calls.fine("POST /uploads/{upload_id}/cancel", calls.fine("POST /uploads", body=asked)["id"])


def batches(calls: Calls) -> None:
    calls.fine("GET /batches", name="no batches")
    file = calls.fine("POST /files", body=file_form(ROWS))["id"]
    asked = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    calls.fine("POST /batches", body=asked)
    made = calls.fine("POST /batches", body={**asked, "metadata": {"feature": "sums"}})["id"]
    calls.fine("POST /batches/{batch_id}/cancel", made)
    for state, way in WAYS.items():
        calls.office.service.surfaces.add_batch(stored(state, way, file))
        calls.fine("GET /batches/{batch_id}", f"batch_{state}", name=f"a batch that is {state}")
    calls.fine("GET /batches", name="all batches")
    calls.fine("GET /batches", query="?limit=2", name="a page of batches")


def stored(state: BatchState, way: tuple[BatchState, ...], file: str) -> SurfaceBatch:
    """A batch in a state, with all that one has there."""
    now = time.time()
    batch = SurfaceBatch(
        id=f"batch_{state}",
        team="search",
        key_id="",
        surface="openai",
        times={BatchState.VALIDATING.value: now},
        endpoint="chat",
        url="/v1/chat/completions",
        input_file=file,
        metadata={"feature": "sums"},
    )
    for step in way:
        match step:
            case BatchState.FAILED:
                faults = (
                    LineFault("invalid_json_line", "It is no JSON.", 2),
                    LineFault("empty_file", "It is empty.", param="a"),
                )
                batch = batch.moved(step, now, faults=faults)
            case BatchState.IN_PROGRESS:
                part = BatchPart("job-1", "openai/gpt-4.1-mini", "gpt-4.1-mini", 3)
                batch = batch.moved(step, now, parts=(part,), counts=BatchCounts(3))
            case BatchState.COMPLETED | BatchState.EXPIRED | BatchState.CANCELLED:
                batch = batch.moved(
                    step,
                    now,
                    counts=BatchCounts(3, 2, 1),
                    usage=Usage(input=9, cached=3, output=5, reasoning=1),
                    output_file="file-output",
                    error_file="file-errors",
                )
            case _:
                batch = batch.moved(step, now)
    return batch


def models(calls: Calls) -> None:
    found = calls.fine("GET /models")["data"]
    assert found
    calls.fine("GET /models/{model}", found[0]["id"])
    calls.fine("GET /models/{model}", "openai/gpt-4.1-mini", name="a model with its account")


def responses(calls: Calls) -> None:
    asked = {"model": "gpt-4.1-mini+8h", "input": "Say hello.", "background": True}
    told = {
        "instructions": "Be short.",
        "metadata": {"run": "7"},
        "temperature": 0.5,
        "max_output_tokens": 20,
    }
    calls.fine("POST /responses", body=asked)
    made = calls.fine("POST /responses", body={**asked, **told}, name="a response of which more is said")[
        "id"
    ]
    calls.fine("GET /responses/{response_id}", made)
    calls.fine("POST /responses/{response_id}/cancel", made)
    calls.fine("GET /responses/{response_id}", made, name="a response that was cancelled")
    failed = calls.fine("POST /responses", body={**asked, "input": "Fail."}, name="another response")["id"]
    places, store = calls.office.shelf.places, calls.office.service.deferred
    found = store.find("search", failed)
    assert found is not None
    file, ((at, size),) = places.add_answers(failed, [b'{"error":{"message":"No."}}'])
    store.end(
        [
            msgspec.structs.replace(
                found, ended_at=time.time(), answer=DeferredAnswer(429, None, 0, file, at, size)
            )
        ]
    )
    calls.fine("GET /responses/{response_id}", failed, name="a response that failed")


def errors(calls: Calls) -> None:
    calls.refused(400, "GET", "/v1/files?limit=0")
    calls.refused(400, "POST", "/v1/files", form(form_part("purpose", b"batch")))
    calls.refused(400, "POST", "/v1/batches", {})
    calls.refused(400, "POST", "/v1/uploads", {"bytes": "many"})
    calls.refused(401, "GET", "/v1/files", key="")
    calls.refused(401, "GET", "/v1/files", key="hr_wrong")
    calls.refused(
        403, "GET", "/v1/files", key=calls.office.service.keys.create("claude", surfaces=["anthropic"])[1]
    )
    for path in (
        "/v1/files/file-1",
        "/v1/files/file-1/content",
        "/v1/batches/batch_1",
        "/v1/models/none",
        "/v1/none",
    ):
        calls.refused(404, "GET", path)
    calls.refused(405, "PUT", "/v1/files")
    calls.refused(409, "POST", f"/v1/batches/batch_{BatchState.COMPLETED}/cancel")
    calls.refused(413, "POST", "/v1/files", file_form(b"x" * 2_000))
    slow = calls.office.service.keys.create("slow", requests_per_minute=1)[1]
    calls.office.call("GET", "/v1/files", key=slow)
    calls.refused(429, "GET", "/v1/files", key=slow)


def a_life(folder: Path, replies: list[Reply]) -> None:
    """Batches of a gateway that runs: one that comes to its end and one that fails, whenever they are looked at."""
    with pytest.MonkeyPatch.context() as patch, open_house(folder, patch) as house:
        client = house.client(house.key()[1])
        for lines in (chat("gpt-4.1-mini", 3), ["{"]):
            batch = make(client, lines)
            while True:
                raw = client.batches.with_raw_response.retrieve(batch.id)
                seen = raw.parse()
                replies.append(
                    Reply(
                        f"a batch that came to be {seen.status}",
                        "GET /batches/{batch_id}",
                        raw.http_response.content,
                    )
                )
                if seen.status in {"completed", "failed"}:
                    break
                time.sleep(0.02)
            assert wait(client, seen).status == ("completed" if len(lines) == 3 else "failed")
        response = client.responses.create(model="gpt-4.1-mini+8h", input="Say hello.", background=True)
        while response.status != "completed":
            raw = client.responses.with_raw_response.retrieve(response.id)
            response = raw.parse()
            if response.status != "completed":
                # What is completed is in the provider's own words.
                name = f"a response that came to be {response.status}"
                replies.append(Reply(name, "GET /responses/{response_id}", raw.http_response.content))
            time.sleep(0.02)


@pytest.fixture(scope="module")
def replies(tmp_path_factory: pytest.TempPathFactory) -> list[Reply]:
    """Everything that the gateway answers on OpenAI's API."""
    found: list[Reply] = []
    folder = tmp_path_factory.mktemp("office")
    (folder / "settings.toml").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HALFRATE_SETTINGS", str(folder / "settings.toml"))
        patch.setenv("OPENAI_API_KEY", "sk-nobody")
        with Office(folder, file_bytes=1_000) as office:
            calls = Calls(office, found)
            for ask in (files, uploads, batches, models, responses, errors):
                ask(calls)
    a_life(tmp_path_factory.mktemp("house"), found)
    return found


# ---------------------------------------------------------------- OpenAI's description


class Description:
    """OpenAI's OpenAPI document, which says what a reply has to be.

    It is taken at its word, and no field may be there that it does not name. Two things it says elsewhere than in its
    schemas: `nullable`, which they have from OpenAPI 3.0, and the nulls that its examples show.
    """

    def __init__(self, document: Any) -> None:
        self._paths = document["paths"]
        self._shapes = document["components"]["schemas"]
        self._validators: dict[str, jsonschema_rs.Draft202012Validator] = {}
        used = self._named({"$ref": "#/components/schemas/ErrorResponse"})
        # A response is put together from shapes of which each names some of its fields: none of them can be closed.
        put_together: set[str] = set()
        for of in set(TYPES) - {ERROR}:
            if "/responses" in of:
                put_together |= self._named(self._schema(of))
            else:
                used |= self._named(self._schema(of))
        # The rest is a thousand shapes more.
        self._shapes = {name: self._shapes[name] for name in used | put_together}
        for name, schema in self._shapes.items():
            at_its_word(schema, closed=name in used)
        for part, name in EXAMPLES.items():
            fields = self._shapes[name]["properties"]
            for field in self._nulls(part, name) & set(fields):
                fields[field] = {"anyOf": [fields[field], {"type": "null"}]}

    def faults(self, reply: Reply) -> list[str]:
        """What of a reply is otherwise than it says."""
        if reply.of not in self._validators:
            schema = {**self._schema(reply.of), "components": {"schemas": self._shapes}}
            self._validators[reply.of] = jsonschema_rs.Draft202012Validator(schema)
        return [
            f"{reply.name}: {'/'.join(map(str, error.instance_path))}: {error.message}"
            for error in self._validators[reply.of].iter_errors(json.loads(reply.body))
        ]

    def _schema(self, of: str) -> dict[str, Any]:
        if of == ERROR:
            return {"$ref": "#/components/schemas/ErrorResponse"}
        method, _, path = of.partition(" ")
        return self._paths[path][method.lower()]["responses"]["200"]["content"]["application/json"]["schema"]

    def _named(self, part: Any) -> set[str]:
        """The shapes that a part refers to, and those that they do."""
        found: set[str] = set()
        if isinstance(part, dict):
            name = str(part.get("$ref", "")).rpartition("/")[2]
            if name:
                found |= {name} | self._named(self._shapes[name])
            part = list(part.values())
        if isinstance(part, list):
            found = found.union(*map(self._named, part))
        return found

    def _nulls(self, part: str, name: str) -> set[str]:
        """Fields that are null in an example of a shape, or of calls that answer with it."""
        shown = [
            self._shapes[name],
            *(methods for path, methods in self._paths.items() if path.split("/")[1] == part),
        ]
        return set(re.findall(r'\\"(\w+)\\": null', json.dumps(shown)))


def at_its_word(schema: Any, *, closed: bool) -> None:
    """Let null be where a schema says `nullable`. `closed`: and no field that it does not name."""
    if isinstance(schema, list):
        for one in schema:
            at_its_word(one, closed=closed)
    elif isinstance(schema, dict):
        for one in schema.values():
            at_its_word(one, closed=closed)
        if closed and isinstance(schema.get("properties"), dict):
            schema.setdefault("additionalProperties", False)
        if any(isinstance(one, dict) and one.get("nullable") for one in schema.get("allOf", ())):
            schema["anyOf"] = [{"allOf": schema.pop("allOf")}, {"type": "null"}]


@pytest.fixture(scope="module")
def description() -> Description:
    if not COPY:
        pytest.skip(
            "OPENAI_OPENAPI names no copy of OpenAI's OpenAPI description; CONTRIBUTING.md says how to get one."
        )
    path = Path(COPY)
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".json":
        # What looks like a day is one to YAML.
        text = json.dumps(yaml.load(text, yaml.CSafeLoader), default=str)
    return Description(json.loads(text))


# ---------------------------------------------------------------- the SDK's types


def sdk_faults(reply: Reply) -> list[str]:
    """What of a reply the SDK's own types do not take, or do not know."""
    document = json.loads(reply.body)
    kind = TYPES[reply.of]
    values = [document]
    unknown: set[str] = set()
    if reply.of == ERROR:
        values, unknown = [document["error"]], set(document) - {"error"}
    elif document.get("object") == "list":
        values = document["data"]
        unknown = set(document) - {"object", "data", "first_id", "last_id", "has_more"}
    found = [f"{reply.name}: {name} is unknown" for name in unknown]
    for value in values:
        try:
            understood = TypeAdapter(kind).validate_python(value, strict=True)
        except ValidationError as error:
            found += [f"{reply.name}: {one['loc']}: {one['msg']}" for one in error.errors()]
        else:
            found += [f"{reply.name}: {name} is unknown" for name in extra(understood)]
    return found


def extra(value: Any) -> Iterator[str]:
    """Fields that a type of the SDK does not have."""
    if isinstance(value, BaseModel):
        yield from value.model_extra or ()
        for name in type(value).model_fields:
            yield from extra(getattr(value, name))
    elif isinstance(value, list):
        for one in value:
            yield from extra(one)


# ---------------------------------------------------------------- tests


def test_everything_that_can_be_answered_is_among_the_replies(replies: list[Reply]) -> None:
    assert {reply.of for reply in replies} == set(TYPES)
    shown = [json.loads(reply.body) for reply in replies if reply.of == "GET /batches/{batch_id}"]
    assert {one["status"] for one in shown} == set(SHOWN)


def test_openais_description_holds_for_every_reply(replies: list[Reply], description: Description) -> None:
    assert [fault for reply in replies for fault in description.faults(reply)] == []


def test_the_types_of_openais_sdk_hold_for_every_reply(replies: list[Reply]) -> None:
    assert [fault for reply in replies for fault in sdk_faults(reply)] == []


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("POST /files", {"purpose": "sums"}),
        ("POST /files", {"bytes": "3"}),
        ("GET /files/{file_id}", {"created_at": 1.5}),
        ("all files", {"more": True}),
        ("POST /uploads/{upload_id}/complete", {"file": {"id": "file-1"}}),
        ("POST /uploads/{upload_id}/cancel", {"status": "gone"}),
        ("POST /batches", {"input_file_id": None}),
        ("a batch that is completed", {"status": "done"}),
        ("a batch that is failed", {"errors": {"object": "list", "data": [{"line": "2"}]}}),
        ("a batch that is expired", {"usage": {"input_tokens": 1}}),
        ("a batch that is finalizing", {"finalising_at": None}),
        ("GET /models", {"data": [{"id": "a"}]}),
        ("401 to GET /v1/files", {"error": {"message": None, "type": "a", "code": None, "param": None}}),
    ],
)
def test_a_reply_that_is_wrong_is_told_by_both(
    replies: list[Reply], request: pytest.FixtureRequest, name: str, change: dict[str, Any]
) -> None:
    reply = next(reply for reply in replies if reply.name == name)
    wrong = msgspec.structs.replace(reply, body=json.dumps({**json.loads(reply.body), **change}).encode())
    assert sdk_faults(wrong)
    if COPY:
        assert request.getfixturevalue("description").faults(wrong)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("GET /files/{file_id}", {"expires_at": None}),
        ("all files", {"first_id": None}),
        ("a batch that is in_progress", {"request_counts": None}),
        ("a batch that is completed", {"model": None}),
    ],
)
def test_a_null_that_openai_never_sends_is_told(
    replies: list[Reply], description: Description, name: str, change: dict[str, Any]
) -> None:
    reply = next(reply for reply in replies if reply.name == name)
    wrong = msgspec.structs.replace(reply, body=json.dumps({**json.loads(reply.body), **change}).encode())
    assert description.faults(wrong)
