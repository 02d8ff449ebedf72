"""Create calls of Anthropic's Message Batches API as their bytes are written, and what they take of the machine."""

import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from halfrate.store.connector import Params

from .office import Office, wait_for

URL = "/v1/messages/batches"
JSON = {"content-type": "application/json"}


def requests(count: int, padding: str = "") -> Iterator[bytes]:
    """The body of a create call, a request at a time."""
    for number in range(count):
        params = {
            "model": "claude-haiku-4-5",
            "max_tokens": 20,
            "messages": [{"role": "user", "content": f"{number}: {padding}"}],
        }
        element = json.dumps({"custom_id": f"row-{number}", "params": params}).encode()
        yield (b"," if number else b'{"requests":[') + element
    yield b"]}"


def folders(office: Office) -> list[Path]:
    return list((office.root / "gateway" / "batches").iterdir())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not valid JSON"),
        (b"[]", "should be a JSON object"),
        (b'{"requests":[{"custom_id":"a","params":{}}', "not valid JSON"),
        (b'{"requests":{}}', "should be a valid list"),
        (b'{"requests":[]}', "at least 1 item"),
        (b'{"requests":[{"custom_id":"a","params":{}},{"custom_id":"a","params":{}}]}', "not unique"),
    ],
)
def test_a_body_that_makes_no_sense_is_refused_in_anthropics_shape(
    office: Office, body: bytes, said: str
) -> None:
    answer = office.call("POST", URL, body, JSON)
    assert answer.status == 400
    document = answer.document
    assert (document["type"], document["error"]["type"]) == ("error", "invalid_request_error")
    assert said in document["error"]["message"]
    assert document["request_id"] == answer.headers["request-id"]
    assert (office.arriving(), folders(office)) == ([], [])
    assert office.call("GET", URL).document == {
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    }


def test_a_body_that_is_too_large_is_refused_before_the_rest_of_it_is_read(tmp_path: Path) -> None:
    with Office(tmp_path, messages_bytes=1_000) as office:
        body = b"".join(requests(20))
        for sent in (body, iter([body[:600], body[600:]])):
            answer = office.call("POST", URL, sent, JSON)
            assert answer.status == 413
            assert answer.document["error"]["type"] == "request_too_large"
        connection = office.begin_post(URL, 10**12)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 413")
        connection.close()
        assert office.call("POST", URL, b"".join(requests(3)), JSON).status == 200
        wait_for(lambda: not office.arriving())
        assert len(folders(office)) == 1


def test_a_connection_that_ends_early_leaves_nothing(office: Office) -> None:
    connection = office.begin_post(URL, 5 << 20)
    connection.sendall(b'{"requests":[' + b" " * (3 << 20))
    wait_for(lambda: any(path.stat().st_size for path in office.arriving()))
    connection.close()
    wait_for(lambda: not office.arriving())
    assert folders(office) == []


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("gateway.internal:8443", "gateway.internal:8443"),
        ("[::1]:8080", "[::1]:8080"),
        ("evil.example/path?", None),
        ("user@evil.example", None),
        ('evil.example"', None),
        ("evil.example:99999999", None),
        ("[::1", None),
        ("", None),
    ],
)
def test_results_are_where_the_caller_found_the_gateway(office: Office, host: str, found: str | None) -> None:
    made: dict[str, Any] = office.call("POST", URL, b"".join(requests(1)), JSON).document
    ended(office, made["id"])
    answer = office.call("GET", f"{URL}/{made['id']}", headers={"host": host})
    if answer.status == 200:
        expected = f"http://{found or f'127.0.0.1:{office.port}'}{URL}/{made['id']}/results"
        assert answer.document["results_url"] == expected
    else:
        # What is no header at all, the server refuses before anybody of ours sees it.
        assert (answer.status, found) == (400, None)


def ended(office: Office, batch_id: str) -> None:
    """Nothing works on batches in an office; this says that one has come to its end."""
    with office.service.surfaces._connector.writing() as transaction:
        found = transaction.fetch_one("SELECT record FROM surface_batch WHERE id = :id", {"id": batch_id})
        assert found is not None
        record = json.loads(found[0])
        record["state"] = "completed"
        record["times"]["completed"] = record["times"]["validating"]
        statement = "UPDATE surface_batch SET next_at = NULL, record = :record WHERE id = :id"
        params: Params = {"id": batch_id, "record": json.dumps(record)}
        assert transaction.execute(statement, params) == 1


def test_the_largest_number_of_requests_is_taken_and_one_more_is_not(office: Office) -> None:
    answer = office.call("POST", URL, b"".join(requests(100_000)), JSON)
    assert answer.status == 200
    assert answer.document["request_counts"]["processing"] == 100_000
    answer = office.call("POST", URL, b"".join(requests(100_001)), JSON)
    assert answer.status == 400
    assert "at most 100000 items" in answer.document["error"]["message"]
    assert len(folders(office)) == 1


def test_a_large_create_takes_little_memory_and_lets_other_calls_through(office: Office) -> None:
    padding = 'x "quoted" \\ \n' * 750
    length = sum(map(len, requests(5_000, padding)))
    assert length > 60_000_000
    seen: list[int] = []

    def body() -> Iterator[bytes]:
        for piece in requests(5_000, padding):
            seen.append(anonymous_bytes())
            yield piece

    # What a first call takes for good, such as threads, is not what a batch takes.
    assert office.call("POST", URL, b"".join(requests(3)), JSON).status == 200
    before = anonymous_bytes()
    waits: list[float] = []
    made: dict[str, Any] = {}

    def create() -> None:
        headers = {**JSON, "content-length": str(length)}
        made.update(office.call("POST", URL, body(), headers).document)

    thread = threading.Thread(target=create)
    thread.start()
    while thread.is_alive():
        started = time.monotonic()
        assert office.call("GET", "/healthz").status == 200
        waits.append(time.monotonic() - started)
        seen.append(anonymous_bytes())
        thread.join(0.01)
    assert made["request_counts"]["processing"] == 5_000
    assert max(seen) - before < 20 << 20
    assert max(waits) < 2.0
    (kept,) = (folder / "input.jsonl" for folder in folders(office) if folder.name == made["id"])
    assert kept.stat().st_size > 60_000_000


def test_the_sdk_repeats_a_create_whose_reply_was_lost_and_gets_the_first_batch(office: Office) -> None:
    """The reply is lost on the way back, between the gateway and its caller."""
    with anthropic.Anthropic(
        base_url=f"http://127.0.0.1:{office.port}", api_key=office.key, max_retries=2
    ) as client:
        client._client.event_hooks["response"].append(lost_once())
        given: Any = json.loads(b"".join(requests(2)))["requests"]
        batch = client.messages.batches.create(requests=given)
        assert [one.id for one in client.messages.batches.list()] == [batch.id]


def lost_once() -> Any:
    left = ["reply"]

    def hook(response: Any) -> None:
        if response.request.method == "POST" and left:
            left.pop()
            raise ConnectionResetError("the reply was lost")

    return hook


def anonymous_bytes() -> int:
    """RssAnon of this process."""
    found = re.search(r"^RssAnon:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10
