"""Each fault does what its line in the table says."""

import json
from typing import Any

import pytest

from halfrate.emulator import FAULTS, Pace

from .conftest import Build
from .driver import ANTHROPIC, Driver, chat_body, chat_rows, claude_rows, jsonl, lines_of, row

SLOW = Pace(validate=1, queue=0, per_1000_rows=1000, finalize=1, cancel=5)


def run(driver: Driver, rows: list[dict[str, Any]] | None = None) -> tuple[Any, list[Any], list[Any]]:
    batch = driver.look(driver.batch(rows or chat_rows(10)))
    output, errors = driver.results(batch)
    return batch, output, errors


def run_messages(driver: Driver, count: int = 10) -> tuple[Any, list[Any]]:
    batch = driver.look_at_messages(driver.message_batch(claude_rows(count)))
    return batch, driver.message_results(batch)


def billed(driver: Driver) -> int:
    return driver.meter()["rows_billed"]


def test_row_error_at_a_rate(build: Build) -> None:
    driver = build(faults=["row-error:rate=0.2,status=429"])
    batch, output, errors = run(driver, chat_rows(500))
    assert len(output) + len(errors) == 500
    assert 60 < len(errors) < 140
    assert {line["response"]["status_code"] for line in errors} == {429}
    assert {line["error"] for line in errors} == {None}
    assert batch["request_counts"] == {"total": 500, "completed": len(output), "failed": len(errors)}
    assert billed(driver) == len(output)


def test_row_errors_are_drawn_anew_unless_sticky(build: Build) -> None:
    def failing(spec: str) -> list[set[str]]:
        driver = build(faults=[spec])
        found: list[set[str]] = []
        for attempt in ("x", "y"):
            rows = [row(f"{attempt}-{n}", chat_body(f"text {n}")) for n in range(100)]
            _, _, errors = run(driver, rows)
            found.append({line["custom_id"][2:] for line in errors})
        return found

    first, second = failing("row-error:rate=0.3")
    assert first != second
    first, second = failing("row-error:rate=0.3,sticky=true")
    assert first == second != set()


def test_row_error_by_text_and_by_count(build: Build) -> None:
    _, _, errors = run(build(faults=["row-error:match=order 7"]))
    assert [line["custom_id"] for line in errors] == ["r-7"]
    _, _, errors = run(build(faults=["row-error:times=3"]))
    assert len(errors) == 3
    _, results = run_messages(build(faults=["row-error:match=Hello 7,status=529"]))
    failed = [line for line in results if line["result"]["type"] == "errored"]
    assert [line["custom_id"] for line in failed] == ["a-7"]
    assert failed[0]["result"]["error"]["error"]["type"] == "overloaded_error"


def test_row_error_for_one_provider(build: Build) -> None:
    driver = build(faults=["row-error:rate=1,provider=anthropic"])
    assert len(run(driver)[1]) == 10
    assert {line["result"]["type"] for line in run_messages(driver)[1]} == {"errored"}


def test_row_malformed(build: Build) -> None:
    driver = build(faults=["row-malformed:times=2"])
    batch = driver.look(driver.batch(chat_rows(10)))
    bad = 0
    for line in driver.content(batch["output_file_id"]).split(b"\n")[:-1]:
        try:
            json.loads(line)
        except ValueError:
            bad += 1
    assert (bad, billed(driver)) == (2, 10)


def test_row_missing(build: Build) -> None:
    driver = build(faults=["row-missing:times=2"])
    _, output, errors = run(driver)
    assert (len(output), len(errors), billed(driver)) == (8, 0, 8)
    assert len(run_messages(build(faults=["row-missing:times=2"]))[1]) == 8


def test_row_duplicate_unknown_and_no_id(build: Build) -> None:
    for name, count, known in (("row-duplicate", 11, 10), ("row-unknown", 11, 10), ("row-no-id", 10, 9)):
        driver = build(faults=[name])
        _, output, _ = run(driver)
        assert len(output) == count
        assert len({line.get("custom_id") for line in output} & {f"r-{n}" for n in range(10)}) == known
        assert billed(driver) == 10
        assert len(run_messages(build(faults=[name]))[1]) == count


def test_row_in_both_files(build: Build) -> None:
    driver = build(faults=["row-both-files"])
    _, output, errors = run(driver)
    assert (len(output), len(errors), billed(driver)) == (10, 1, 10)
    assert errors[0]["custom_id"] in {line["custom_id"] for line in output}


def test_row_refusal_and_truncation(build: Build) -> None:
    driver = build(faults=["row-refusal:rate=1"])
    message = run(driver)[1][0]["response"]["body"]["choices"][0]["message"]
    assert message["content"] is None
    assert message["refusal"]
    result = run_messages(driver)[1][0]["result"]["message"]
    assert (result["stop_reason"], result["content"]) == ("refusal", [])
    driver = build(faults=["row-truncated:rate=1"])
    assert run(driver)[1][0]["response"]["body"]["choices"][0]["finish_reason"] == "length"
    assert run_messages(driver)[1][0]["result"]["message"]["stop_reason"] == "max_tokens"


def test_row_unicode_is_raw_and_lines_still_split_on_newlines_only(build: Build) -> None:
    driver = build(faults=["row-unicode:rate=1"])
    batch = driver.look(driver.batch(chat_rows(3)))
    raw = driver.content(batch["output_file_id"])
    assert "\u2028".encode() in raw
    assert "\u0085".encode() in raw
    assert len(lines_of(raw)) == 3
    assert len(raw.decode().splitlines()) > 3


def test_twisted_documents_still_conform(build: Build) -> None:
    schema = {"type": "object", "properties": {"note": {"type": "string"}}, "required": ["note"]}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    for spec, wanted in (("row-unicode:rate=1", "\u2028"), ("row-big:size=5000", "x" * 4_000)):
        _, (line,), _ = run(build(faults=[spec]), [row("a", chat_body("hi", response_format=form))])
        document = json.loads(line["response"]["body"]["choices"][0]["message"]["content"])
        assert list(document) == ["note"]
        assert wanted in document["note"]


def test_row_big(build: Build) -> None:
    output = run(build(faults=["row-big:size=1000000"]))[1]
    sizes = sorted(len(line["response"]["body"]["choices"][0]["message"]["content"]) for line in output)
    assert sizes[-1] > 990_000
    assert sizes[-2] < 1_000


def test_row_status_zero_and_null_error(build: Build) -> None:
    _, _, errors = run(build(faults=["row-status-zero"]))
    assert (errors[0]["response"]["status_code"], errors[0]["response"]["body"]) == (0, {})
    _, _, errors = run(build(faults=["row-null-error:status=404"]))
    assert (errors[0]["response"]["status_code"], errors[0]["response"]["body"]) == (404, {"error": None})
    assert {"type": "errored", "error": None} in [
        x["result"] for x in run_messages(build(faults=["row-null-error"]))[1]
    ]


def test_no_shuffle(build: Build) -> None:
    _, output, _ = run(build(faults=["no-shuffle"]))
    assert [line["custom_id"] for line in output] == [f"r-{n}" for n in range(10)]
    _, output, _ = run(build(faults=["no-shuffle", "shuffle"]))
    assert [line["custom_id"] for line in output] != [f"r-{n}" for n in range(10)]


@pytest.mark.parametrize(("spec", "whole"), [("last-line-cut", 10), ("last-line-cut:bytes=20", 9)])
def test_last_line_cut(build: Build, spec: str, whole: int) -> None:
    driver = build(faults=[spec])
    batch = driver.look(driver.batch(chat_rows(10)))
    raw = driver.content(batch["output_file_id"])
    assert not raw.endswith(b"\n")
    assert len(lines_of(b"\n".join(raw.split(b"\n")[:whole]))) == whole


def test_batch_expire(build: Build) -> None:
    driver = build(faults=["batch-expire:done=0.3,times=2"])
    batch, output, errors = run(driver)
    assert batch["status"] == "expired"
    assert (len(output), len(errors), billed(driver)) == (3, 7, 3)
    _, results = run_messages(driver)
    assert sorted(line["result"]["type"] for line in results) == ["expired"] * 7 + ["succeeded"] * 3
    assert run(driver)[0]["status"] == "completed"


def test_batch_expire_at_the_end_of_the_window(build: Build) -> None:
    driver = build(faults=["batch-expire:done=0.3,at=window"])
    batch = driver.batch(chat_rows(10))
    driver.clock.advance(86_399)
    assert driver.look(batch)["request_counts"]["completed"] == 3
    driver.clock.advance(1)
    assert driver.look(batch)["status"] == "expired"


def test_batches_without_files(build: Build) -> None:
    driver = build(faults=["batch-expire-no-files:done=0.3"])
    batch, _, _ = run(driver)
    assert (batch["status"], batch["output_file_id"], batch["error_file_id"]) == ("expired", None, None)
    assert billed(driver) == 3
    driver = build(faults=["completed-no-output"])
    batch, _, _ = run(driver)
    assert (batch["status"], batch["output_file_id"], billed(driver)) == ("completed", None, 10)
    driver = build(faults=["completed-no-output"])
    ended = driver.look_at_messages(driver.message_batch(claude_rows(2)))
    assert (ended["processing_status"], ended["results_url"]) == ("ended", None)


def test_batch_fail(build: Build) -> None:
    driver = build(faults=["batch-fail:code=invalid_json_line,line=17"])
    batch, _, _ = run(driver)
    assert batch["status"] == "failed"
    assert (batch["errors"]["data"][0]["code"], batch["errors"]["data"][0]["line"]) == (
        "invalid_json_line",
        17,
    )
    assert billed(driver) == 0


def test_queue_full(build: Build) -> None:
    batch, _, _ = run(build(faults=["queue-full"]))
    assert (batch["status"], batch["errors"]["data"][0]["code"]) == ("failed", "token_limit_exceeded")
    driver = build(faults=["queue-full:mode=create,retry_after=5"])
    refused = driver.create(driver.upload(jsonl(chat_rows(1)))["id"])
    assert (refused.status, refused.headers["retry-after"]) == (429, "5")
    assert refused.json()["error"]["code"] == "token_limit_exceeded"
    driver = build(faults=["queue-full"])
    assert driver.send("POST", "/v1/messages/batches", {"requests": claude_rows(1)}, ANTHROPIC).status == 429


def test_batch_stuck(build: Build) -> None:
    driver = build(faults=["batch-stuck:seconds=500"])
    batch = driver.batch(chat_rows(2))
    driver.clock.advance(499)
    assert driver.look(batch)["status"] == "in_progress"
    driver.clock.advance(1)
    assert driver.look(batch)["status"] == "completed"
    stuck_for_good = build(faults=["batch-stuck:seconds=100000"])
    batch = stuck_for_good.batch(chat_rows(2))
    stuck_for_good.clock.advance(86_400)
    assert stuck_for_good.look(batch)["status"] == "expired"


def cancel(driver: Driver, batch: Any) -> Any:
    return driver.json("POST", f"/v1/batches/{batch['id']}/cancel")


def cancel_messages(driver: Driver, batch: Any) -> Any:
    return driver.json("POST", f"/v1/messages/batches/{batch['id']}/cancel", headers=ANTHROPIC)


def test_cancel_ignored(build: Build) -> None:
    driver = build(faults=["cancel-ignored:times=2"], pace=SLOW)
    batch, messages = driver.batch(chat_rows(4)), driver.message_batch(claude_rows(4))
    driver.clock.advance(3)
    assert cancel(driver, batch)["status"] == "in_progress"
    assert cancel_messages(driver, messages)["processing_status"] == "in_progress"
    driver.clock.advance(10)
    assert driver.look(batch)["status"] == "completed"
    assert driver.look_at_messages(messages)["request_counts"]["succeeded"] == 4


def test_cancel_race(build: Build) -> None:
    driver = build(faults=["cancel-race:times=2"], pace=SLOW)
    batch, messages = driver.batch(chat_rows(4)), driver.message_batch(claude_rows(4))
    driver.clock.advance(3)
    assert cancel(driver, batch)["status"] == "cancelling"
    assert cancel_messages(driver, messages)["processing_status"] == "canceling"
    driver.clock.advance(5)
    assert driver.look(batch)["request_counts"]["completed"] == 4
    assert driver.look(batch)["status"] == "completed"
    assert driver.look_at_messages(messages)["request_counts"]["succeeded"] == 4
    assert billed(driver) == 8


def test_cancel_absent(build: Build) -> None:
    driver = build(faults=["cancel-absent"], pace=SLOW)
    batch = driver.batch(chat_rows(4))
    driver.clock.advance(3)
    cancel(driver, batch)
    driver.clock.advance(5)
    output, errors = driver.results(driver.look(batch))
    assert (len(output), len(errors)) == (2, 0)


def test_status_unknown_and_counts_wrong(build: Build) -> None:
    driver = build(faults=["status-unknown:seconds=5,times=2", "counts-wrong:times=2"])
    batch, messages = driver.batch(chat_rows(4)), driver.message_batch(claude_rows(4))
    assert driver.look(batch)["status"] == "paused"
    assert driver.look_at_messages(messages)["processing_status"] == "paused"
    driver.clock.advance(5)
    assert driver.look(batch)["status"] == "completed"
    assert driver.look(batch)["request_counts"] == {"total": 4, "completed": 0, "failed": 5}
    assert driver.look_at_messages(messages)["request_counts"]["succeeded"] == 0


def test_all_rows_fail(build: Build) -> None:
    driver = build(faults=["all-rows-fail:status=500,times=2"])
    batch, output, errors = run(driver)
    assert (batch["status"], batch["output_file_id"], len(output), len(errors)) == ("completed", None, 0, 10)
    assert run_messages(driver)[0]["request_counts"]["errored"] == 10
    assert billed(driver) == 0


def create_both(driver: Driver) -> list[Any]:
    file_id = driver.upload(jsonl(chat_rows(2)))["id"]
    return [
        driver.create(file_id),
        driver.send("POST", "/v1/messages/batches", {"requests": claude_rows(2)}, ANTHROPIC),
    ]


def listed(driver: Driver) -> list[int]:
    return [
        len(driver.json("GET", "/v1/batches")["data"]),
        len(driver.json("GET", "/v1/messages/batches", headers=ANTHROPIC)["data"]),
    ]


def test_create_lost(build: Build) -> None:
    driver = build(faults=["create-lost:times=2"])
    assert [made.delivery.drop for made in create_both(driver)] == [True, True]
    assert listed(driver) == [1, 1]


def test_create_error(build: Build) -> None:
    driver = build(faults=["create-error:status=503,times=2"])
    assert [made.status for made in create_both(driver)] == [503, 503]
    assert listed(driver) == [1, 1]


def test_create_refused(build: Build) -> None:
    driver = build(faults=["create-refused:status=429,retry_after=2,times=2"])
    made = create_both(driver)
    assert [(one.status, one.headers["retry-after"]) for one in made] == [(429, "2"), (429, "2")]
    assert listed(driver) == [0, 0]
    meter = driver.meter()
    assert (meter["creates_received"], meter["batches_created"]) == (2, 0)


def test_create_slow(build: Build) -> None:
    driver = build(faults=["create-slow:seconds=9,times=2"])
    assert [made.delivery.hold_seconds for made in create_both(driver)] == [9, 9]
    assert listed(driver) == [1, 1]


def test_poll_error_and_rate_limit(build: Build) -> None:
    driver = build(faults=["poll-error:status=502"])
    batch = driver.batch(chat_rows(1))
    path = f"/v1/batches/{batch['id']}"
    assert [driver.send("GET", path).status for _ in range(2)] == [502, 200]
    for operation, method, where in (
        ("poll", "GET", path),
        ("list", "GET", "/v1/batches"),
        ("download", "GET", f"/v1/files/{batch['input_file_id']}/content"),
        ("create", "POST", "/v1/batches"),
        ("upload", "POST", "/v1/files"),
    ):
        driver.emulator.add_fault(f"rate-limit:on={operation}")
        assert driver.send("GET", "/v1/models").status == 200
        assert driver.send(method, where).status == 429
    driver.emulator.add_fault("rate-limit")
    assert driver.send("GET", "/v1/models").status == 429
    driver.emulator.add_fault("realtime-error:status=503")
    assert driver.send("POST", "/v1/chat/completions", chat_body("x")).status == 503


def test_downloads(build: Build) -> None:
    driver = build(faults=["download-truncated:fraction=0.25", "download-slow:seconds=0.5"])
    file_id = driver.upload(b"x" * 400)["id"]
    first = driver.send("GET", f"/v1/files/{file_id}/content")
    assert (first.delivery.truncate_after, first.delivery.chunk_pause_seconds) == (100, 0.5)
    assert driver.send("GET", f"/v1/files/{file_id}/content").delivery.truncate_after is None


def test_upload_reset(build: Build) -> None:
    driver = build(faults=["upload-reset"])
    headers = {"authorization": "Bearer key-1", "content-type": "multipart/form-data; boundary=x"}
    assert driver.send("POST", "/v1/files", b"--x", headers).delivery.drop
    assert driver.json("GET", "/v1/files")["data"] == []


def test_list_stale_and_not_found_after_create(build: Build) -> None:
    driver = build(faults=["list-stale:seconds=5,times=2", "not-found-after-create:seconds=2,times=2"])
    batch, messages = driver.batch(chat_rows(1)), driver.message_batch(claude_rows(1))
    assert listed(driver) == [0, 0]
    assert driver.send("GET", f"/v1/batches/{batch['id']}").status == 404
    assert driver.send("GET", f"/v1/messages/batches/{messages['id']}", headers=ANTHROPIC).status == 404
    driver.clock.advance(2)
    assert driver.look(batch)["status"] == "completed"
    assert driver.look_at_messages(messages)["processing_status"] == "ended"
    assert listed(driver) == [0, 0]
    driver.clock.advance(3)
    assert listed(driver) == [1, 1]


def test_file_not_ready(build: Build) -> None:
    driver = build(faults=["file-not-ready:seconds=2"])
    file_id = driver.upload(jsonl(chat_rows(1)))["id"]
    refused = driver.create(file_id)
    assert (refused.status, refused.json()["error"]["param"]) == (400, "input_file_id")
    driver.clock.advance(2)
    assert driver.create(file_id).status == 200


def test_every_fault_has_a_test_of_its_own_name() -> None:
    """A new line in the table must be tried somewhere."""
    from pathlib import Path

    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [name for name in FAULTS if name not in text] == []
