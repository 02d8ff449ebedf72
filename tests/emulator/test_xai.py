"""xAI's batches in virtual time."""

from collections.abc import Callable
from typing import Any

import pytest

from halfrate.emulator import Limits, Pace, Response

from .driver import CHAT, Driver, chat_body, jsonl, row
from .mistral_driver import form

Build = Callable[..., Driver]
GROK = "grok-4.3"
BATCHES = "/xai/v1/batches"
SLOW = Pace(validate=10, queue=10, per_1000_rows=1_000, finalize=10, cancel=10)
ZERO = {"num_requests": 0, "num_pending": 0, "num_success": 0, "num_error": 0, "num_cancelled": 0}


def item(row_id: str, text: str = "hi", model: str = GROK) -> dict[str, Any]:
    return {"batch_request_id": row_id, "batch_request": {"chat_get_completion": chat_body(text, model)}}


def items(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [item(f"r-{n}", f"Where is order {n}?") for n in range(start, start + count)]


def rows(count: int, model: str = GROK) -> list[dict[str, Any]]:
    return [row(f"r-{n}", chat_body(f"Where is order {n}?", model)) for n in range(count)]


class Xai:
    """Every helper asserts the status it expects."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    def upload(self, content: bytes) -> Any:
        sent, headers = form(content, purpose="batch")
        return self.driver.json("POST", "/xai/v1/files", sent, headers=headers)

    def create(self, **body: Any) -> Response:
        return self.driver.send("POST", BATCHES, {"name": "hr-1", **body})

    def from_file(self, content: bytes) -> Any:
        response = self.create(input_file_id=self.upload(content)["id"])
        assert response.status == 200, response.read()
        return response.json()["batch_id"]

    def open(self, count: int) -> Any:
        batch_id = self.create().json()["batch_id"]
        self.add(batch_id, items(count))
        return batch_id

    def add(self, batch_id: str, given: list[dict[str, Any]]) -> None:
        self.driver.json("POST", f"{BATCHES}/{batch_id}/requests", {"batch_requests": given})

    def look(self, batch_id: str) -> Any:
        return self.driver.json("GET", f"{BATCHES}/{batch_id}")

    def results(self, batch_id: str, limit: int = 1_000) -> list[Any]:
        found: list[Any] = []
        query = f"limit={limit}"
        while True:
            page = self.driver.json("GET", f"{BATCHES}/{batch_id}/results", query=query)
            assert len(page["results"]) <= limit
            found += page["results"]
            if page["pagination_token"] is None:
                return found
            query = f"limit={limit}&pagination_token={page['pagination_token']}"


def completion(result: Any) -> Any:
    return result["batch_result"]["response"]["chat_get_completion"]


def test_an_open_batch(build: Build) -> None:
    driver = build(pace=SLOW)
    xai = Xai(driver)
    made = xai.create().json()
    assert made["state"] == ZERO
    assert (len(made["create_time"]), made["cancel_time"], made["input_file_id"]) == (10, None, None)
    batch_id = made["batch_id"]
    xai.add(batch_id, items(4))
    assert xai.look(batch_id)["state"] == {**ZERO, "num_requests": 4, "num_pending": 4}
    driver.clock.advance(22)
    assert xai.look(batch_id)["state"]["num_success"] == 2
    early = xai.results(batch_id)
    assert len(early) == 2  # readable while the batch runs
    xai.add(batch_id, items(3, 4))
    driver.clock.advance(100)
    done = xai.look(batch_id)
    assert done["state"] == {**ZERO, "num_requests": 7, "num_success": 7}
    found = xai.results(batch_id, limit=2)
    assert found[:2] == early
    assert {one["batch_request_id"] for one in found} == {f"r-{n}" for n in range(7)}
    ticks = [completion(one)["usage"]["cost_in_usd_ticks"] for one in found]
    assert done["cost_breakdown"] == {"total_cost_usd_ticks": sum(ticks)}
    meter = driver.meter()
    assert meter["picodollars"] == sum(ticks) * 100
    assert (meter["rows_billed"], meter["batches_created_by_provider"]) == (7, {"xai": 1})
    assert meter["batches_completed"] == 1
    assert list(meter["billed_by_batch"]) == [batch_id]


def test_batches_are_a_fifth_cheaper_for_one_model_alone(driver: Driver) -> None:
    for model, factor in ((GROK, 0.8), ("grok-3-mini", 1.0)):
        realtime = driver.json("POST", f"/xai{CHAT}", chat_body("hi", model))
        xai = Xai(driver)
        batch_id = xai.create().json()["batch_id"]
        xai.add(batch_id, [item("a", "hi", model)])
        (found,) = xai.results(batch_id)
        paid = completion(found)["usage"]["cost_in_usd_ticks"]
        assert paid == realtime["usage"]["cost_in_usd_ticks"] * factor


def test_a_batch_from_a_file_is_sealed(driver: Driver) -> None:
    xai = Xai(driver)
    batch_id = xai.from_file(jsonl(rows(5)).rstrip(b"\n"))
    done = xai.look(batch_id)
    assert (done["state"]["num_success"], done["input_file_id"] is None) == (5, False)
    assert {one["batch_request_id"] for one in xai.results(batch_id)} == {f"r-{n}" for n in range(5)}
    added = driver.send("POST", f"{BATCHES}/{batch_id}/requests", {"batch_requests": items(1, 9)})
    assert (added.status, set(added.json())) == (400, {"code", "error"})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"nonsense", "line 3: invalid JSON"),
        (jsonl([row("r-0", chat_body("again", GROK))]), "duplicate custom_id"),
        (jsonl([row("x", chat_body("hi", "grok-4.6"))]), "not supported for batch processing"),
        (jsonl([row("x", chat_body("hi", "gpt-4.1"))]), "does not exist"),
        (jsonl([row("x", {}, "/v1/ocr")]), "not supported"),
        (b'{"custom_id": "x", "url": "/v1/chat/completions"}', "no body"),
    ],
)
def test_one_bad_line_cancels_the_whole_batch(driver: Driver, line: bytes, words: str) -> None:
    xai = Xai(driver)
    done = xai.look(xai.from_file(jsonl(rows(2)) + line))
    assert done["state"] == ZERO
    assert words in done["cancel_by_xai_message"]
    assert done["cancel_time"]
    assert driver.meter()["rows_billed"] == 0


def test_what_is_refused(driver: Driver) -> None:
    xai = Xai(driver)
    batch_id = xai.open(1)
    path = f"{BATCHES}/{batch_id}/requests"
    for given in ([], [item("r-0")], [item("a"), item("a")], [item("a", model="grok-4.6")], [{"a": 1}]):
        assert driver.send("POST", path, {"batch_requests": given}).status == 400
    assert driver.send("POST", BATCHES, {}).status == 400
    driver.clock.advance(1)
    assert xai.create(input_file_id="nobody").status == 404
    assert driver.send("GET", f"{BATCHES}/nobody").status == 404
    assert driver.send("POST", f"{BATCHES}/{batch_id}:stop").status == 404
    assert driver.send("GET", f"{BATCHES}/{batch_id}/results", query="limit=1001").status == 400
    assert driver.send("GET", BATCHES, headers={}).status == 401
    assert driver.send("GET", BATCHES, headers={"authorization": "Bearer bad-key"}).status == 400
    assert driver.send("GET", f"{BATCHES}/{batch_id}", headers={"authorization": "Bearer k"}).status == 404
    assert xai.look(batch_id)["state"]["num_requests"] == 1


def test_calls_have_limits(build: Build) -> None:
    driver = build(limits=Limits(xai_adds_per_half_minute=1, xai_add_bytes=300))
    xai = Xai(driver)
    batch_id = xai.create().json()["batch_id"]
    assert xai.create().status == 200
    refused = xai.create()
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    driver.clock.advance(1)
    assert xai.create().status == 200
    path = f"{BATCHES}/{batch_id}/requests"
    assert driver.send("POST", path, {"batch_requests": items(1)}).status == 200
    assert driver.send("POST", path, {"batch_requests": items(1, 1)}).status == 429
    driver.clock.advance(30)
    assert driver.send("POST", path, {"batch_requests": items(9, 1)}).status == 413
    assert driver.send("POST", path, {"batch_requests": items(1, 1)}).status == 200


def test_cancelling(build: Build) -> None:
    driver = build(pace=SLOW)
    xai = Xai(driver)
    batch_id = xai.open(6)
    driver.clock.advance(22)
    assert driver.json("POST", f"{BATCHES}/{batch_id}:cancel")["cancel_time"]
    driver.clock.advance(10)
    done = xai.look(batch_id)
    assert done["state"] == {**ZERO, "num_requests": 6, "num_success": 2, "num_cancelled": 4}
    assert (done["cancel_by_xai_message"], len(xai.results(batch_id))) == (None, 2)
    states = driver.json("GET", f"{BATCHES}/{batch_id}/requests")["batch_request_metadata"]
    assert sorted(one["state"] for one in states) == ["cancelled"] * 4 + ["succeeded"] * 2
    assert (
        driver.send("POST", f"{BATCHES}/{batch_id}/requests", {"batch_requests": items(1, 9)}).status == 400
    )


def test_listing(driver: Driver) -> None:
    xai = Xai(driver)
    ids = []
    for n in range(3):
        ids.append(xai.create(name=f"hr-{n}").json()["batch_id"])
        driver.clock.advance(1)
    page = driver.json("GET", BATCHES, query="limit=2")
    assert [one["name"] for one in page["batches"]] == ["hr-2", "hr-1"]
    rest = driver.json("GET", BATCHES, query=f"pagination_token={page['pagination_token']}")
    assert ([one["batch_id"] for one in rest["batches"]], rest["pagination_token"]) == ([ids[0]], None)


FAULTS: dict[str, Callable[[Any, list[Any]], bool]] = {
    "row-error:rate=1,status=429": lambda state, found: (
        {one["batch_result"]["error"]["code"] for one in found} == {8}
    ),
    "row-malformed:match=order 1": lambda state, found: (
        sum(not one["batch_result"] for one in found) == 1 and state["num_success"] == 4
    ),
    "row-missing:match=order 1": lambda state, found: (len(found), state["num_error"]) == (3, 1),
    "row-duplicate:match=order 1": lambda state, found: len(found) == 5,
    "row-unknown:match=order 1": lambda state, found: len(found) == 5,
    "row-no-id:match=order 1": lambda state, found: sum("batch_request_id" not in one for one in found) == 1,
    "row-null-error:match=order 1": lambda state, found: (
        sum(one["batch_result"] == {"error": None} for one in found) == 1
    ),
    "row-status-zero:match=order 1": lambda state, found: (
        sum(one["batch_result"] == {"error": {}} for one in found) == 1
    ),
    "row-refusal:rate=1": lambda state, found: all(
        completion(one)["choices"][0]["message"]["refusal"] for one in found
    ),
    "row-truncated:rate=1": lambda state, found: all(
        completion(one)["choices"][0]["finish_reason"] == "length" for one in found
    ),
    "batch-expire:done=0.5": lambda state, found: (len(found), state["num_cancelled"]) == (2, 2),
    "completed-no-output": lambda state, found: not found and state["num_success"] == 4,
    "counts-wrong": lambda state, found: state["num_success"] == 0,
    "all-rows-fail": lambda state, found: state["num_error"] == 4,
    "batch-fail": lambda state, found: state == ZERO,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(build: Build, fault: str) -> None:
    driver = build(faults=[f"{fault}{',' if ':' in fault else ':'}provider=xai"])
    xai = Xai(driver)
    batch_id = xai.from_file(jsonl(rows(4)))
    assert FAULTS[fault](xai.look(batch_id)["state"], xai.results(batch_id))


def test_faults_around_the_calls(build: Build) -> None:
    driver = build()
    xai = Xai(driver)

    def with_fault(fault: str) -> None:
        driver.clock.advance(10)
        driver.emulator.clear_faults()
        driver.emulator.add_fault(f"{fault}{',' if ':' in fault else ':'}provider=xai")

    with_fault("create-lost")
    assert xai.create().delivery.drop
    with_fault("create-error:status=502")
    assert xai.create().status == 502
    with_fault("create-refused:status=503")
    assert xai.create().status == 503
    assert len(driver.json("GET", BATCHES)["batches"]) == driver.meter()["batches_created"] == 2
    with_fault("queue-full")
    assert xai.create().status == 429
    with_fault("list-stale:seconds=60")
    xai.create()
    assert len(driver.json("GET", BATCHES)["batches"]) == 2
    with_fault("not-found-after-create")
    assert driver.send("GET", f"{BATCHES}/{xai.create().json()['batch_id']}").status == 404
    with_fault("file-not-ready")
    assert xai.create(input_file_id=xai.upload(jsonl(rows(1)))["id"]).status == 404
    with_fault("upload-reset")
    sent, headers = form(b"x", purpose="batch")
    assert driver.send("POST", "/xai/v1/files", sent, headers=headers).delivery.drop
    batch_id = xai.open(2)
    with_fault("upload-reset")
    added = driver.send("POST", f"{BATCHES}/{batch_id}/requests", {"batch_requests": items(1, 5)})
    assert (added.delivery.drop, xai.look(batch_id)["state"]["num_requests"]) == (True, 2)
    with_fault("poll-error")
    assert driver.send("GET", f"{BATCHES}/{batch_id}").status == 500
    with_fault("download-truncated")
    assert driver.send("GET", f"{BATCHES}/{batch_id}/results").delivery.truncate_after
    with_fault("realtime-error")
    assert driver.send("POST", f"/xai{CHAT}", chat_body("hi", GROK)).status == 500
    slow = build(pace=SLOW, faults=["cancel-ignored:provider=xai"])
    batch_id = Xai(slow).open(3)
    assert slow.json("POST", f"{BATCHES}/{batch_id}:cancel")["cancel_time"] is None


def test_files_and_models(driver: Driver) -> None:
    xai = Xai(driver)
    made = [xai.upload(b"x" * n) for n in (1, 2, 3)]
    page = driver.json("GET", "/xai/v1/files", query="limit=2")
    assert [one["bytes"] for one in page["data"]] == [3, 2]
    path = f"/xai/v1/files/{made[0]['id']}"
    assert driver.send("GET", f"{path}/content").read() == b"x"
    assert driver.json("GET", path)["filename"] == "in.jsonl"
    assert driver.json("DELETE", path)["deleted"]
    assert driver.send("GET", path).status == 404
    assert {one["id"] for one in driver.json("GET", "/xai/v1/models")["data"]} >= {GROK}
    assert driver.json("GET", f"/xai/v1/models/{GROK}")["id"] == GROK
    assert driver.send("GET", "/xai/v1/models/grok-0").status == 404
    found = driver.emulator.environment("http://127.0.0.1:1/")["xai"]
    assert found == {"XAI_BASE_URL": "http://127.0.0.1:1/xai/v1", "XAI_API_KEY": "emulator"}
