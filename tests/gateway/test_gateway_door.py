"""Who is let in to what, and what is said to those who are not."""

import asyncio
import io
import json

import httpx
import pytest

from halfrate.base.clock import SystemClock
from halfrate.base.errors import HalfrateError, StorageError, StoreBusy
from halfrate.core.keys import Key
from halfrate.gateway.app import Limits
from halfrate.gateway.door import Door, surface_of
from halfrate.gateway.logs import Log
from halfrate.gateway.openapi import operations

from .office import Office

CLAUDE = {"anthropic-version": "2023-06-01"}


@pytest.mark.parametrize("headers", [{}, CLAUDE])
def test_a_key_for_one_api_does_not_open_the_other_whatever_its_headers_say(
    office: Office, headers: dict[str, str]
) -> None:
    claude = office.service.keys.create("claude", surfaces=["anthropic"])[1]
    gpt = office.service.keys.create("gpt", surfaces=["openai"])[1]
    for path in ("/v1/files", "/v1/batches", "/v1/files/file-1", "/v1/batches/batch_1"):
        assert office.call("GET", path, headers=headers, key=claude).status == 403
        assert office.call("GET", path, headers=headers, key=gpt).status in {200, 404}
    for path in ("/v1/messages/batches", "/v1/messages/batches/msgbatch_1"):
        assert office.call("GET", path, headers=headers, key=gpt).status == 403
        assert office.call("GET", path, headers=headers, key=claude).status in {200, 404}


def test_every_call_is_of_the_api_that_its_description_names() -> None:
    for operation in operations(Limits()):
        surfaces = [surface_of(operation.path, headers) for headers in ({}, {b"anthropic-version": b"1"})]
        if operation.speaks in {"openai", "anthropic"}:
            assert surfaces == [operation.speaks, operation.speaks]
        elif operation.speaks == "both":
            assert surfaces == ["openai", "anthropic"]


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/files", {"GET", "HEAD", "POST"}),
        ("/v1/files/file-1", {"DELETE", "GET", "HEAD"}),
        ("/v1/batches", {"GET", "HEAD", "POST"}),
        ("/v1/uploads", {"POST"}),
        ("/v1/messages/batches/msgbatch_1", {"DELETE", "GET", "HEAD"}),
    ],
)
def test_who_calls_by_a_wrong_method_is_told_of_all_that_are_right(
    office: Office, path: str, methods: set[str]
) -> None:
    answer = office.call("PUT", path)
    assert answer.status == 405
    assert set(answer.headers["allow"].split(", ")) == methods
    assert office.call("HEAD", "/v1/files").status == 200


@pytest.mark.parametrize("name", ["nonsense", "nobody/model", "openai/no-such-model", "%00", "x" * 300])
def test_a_model_that_nobody_knows_is_not_found(office: Office, name: str) -> None:
    answer = office.call("GET", f"/v1/models/{name}")
    assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "model_not_found", "model")
    assert office.call("GET", f"/v1/models/{name}", headers=CLAUDE).error["type"] == "not_found_error"


@pytest.mark.parametrize("error", [StoreBusy("busy"), StorageError("no space on /srv/secret")])
def test_who_cannot_be_looked_up_is_told_to_come_again(error: HalfrateError) -> None:
    def authenticate(_text: str) -> Key | None:
        raise error

    text = io.StringIO()
    # Nobody comes past the door.
    door = Door(None, authenticate, Log(SystemClock(), text))  # type: ignore[arg-type]

    async def call() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(door), base_url="http://gateway"
        ) as client:
            return await client.get("/v1/files", headers={"x-api-key": "hr_any"})

    answer = asyncio.run(call())
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.json()["error"]["type"] == "server_error"
    assert "secret" not in answer.text
    assert str(error) in text.getvalue()


@pytest.mark.parametrize("path", ["\x85[31m", "\u2028x", "\r\n\x1b[2J", "\x9b31m", "plain"])
def test_a_path_that_steers_a_terminal_is_spelled_out_in_the_log(path: str) -> None:
    text = io.StringIO()
    log = Log(SystemClock(), text)
    log.call(method="GET", path=path, status=404, seconds=0.1, request_id="req_1", key="k", route=("a=200",))
    line = text.getvalue()
    assert line.isascii()
    assert line.removesuffix("\n").isprintable()
    assert json.loads(line) | {"at": 0} == {
        "at": 0,
        "event": "call",
        "method": "GET",
        "path": path,
        "status": 404,
        "ms": 100.0,
        "request_id": "req_1",
        "key": "k",
        "route": ["a=200"],
    }
