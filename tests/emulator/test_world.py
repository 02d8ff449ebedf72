"""The world in virtual time: life cycles, windows, retention, quotas."""

from typing import Any

import pytest

from halfrate.emulator import Limits, Pace

from .conftest import Build
from .driver import (
    ANTHROPIC,
    CLAUDE,
    GPT,
    OPENAI,
    Driver,
    chat_body,
    chat_rows,
    claude_params,
    claude_rows,
    jsonl,
    row,
)

DAY = 86_400
SLOW = Pace(validate=10, queue=20, per_1000_rows=100_000, finalize=30, cancel=40)


def states(driver: Driver, batch: Any, steps: list[float]) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for seconds in steps:
        driver.clock.advance(seconds)
        seen = driver.look(batch)
        found.append((seen["status"], seen["request_counts"]["completed"]))
    return found


def test_an_openai_batch_goes_through_its_states_on_time(build: Build) -> None:
    driver = build(pace=SLOW)
    batch = driver.batch(chat_rows(10))
    seen = states(driver, batch, [9, 1, 20, 100, 449, 451, 29, 1])
    assert seen == [
        ("validating", 0),
        ("in_progress", 0),
        ("in_progress", 0),
        ("in_progress", 1),
        ("in_progress", 5),
        ("finalizing", 10),
        ("finalizing", 10),
        ("completed", 10),
    ]
    done = driver.look(batch)
    start = batch["created_at"]
    times = {key: done[f"{key}_at"] - start for key in ("in_progress", "finalizing", "completed", "expires")}
    assert times == {"in_progress": 10, "finalizing": 1030, "completed": 1060, "expires": DAY}


def test_times_do_not_depend_on_how_often_somebody_looks(build: Build) -> None:
    seldom, often = build(pace=SLOW), build(pace=SLOW)
    one, other = seldom.batch(chat_rows(10)), often.batch(chat_rows(10))
    states(seldom, one, [5000])
    states(often, other, [50] * 100)
    assert seldom.look(one) == often.look(other)


def test_openai_window_keeps_what_has_finished(build: Build) -> None:
    driver = build(pace=Pace(validate=0, queue=0, per_1000_rows=DAY * 250))
    batch = driver.batch(chat_rows(10))
    assert states(driver, batch, [DAY - 1, 1]) == [("in_progress", 3), ("expired", 4)]
    done = driver.look(batch)
    output, errors = driver.results(done)
    assert len(output) == 4
    assert {line["error"]["code"] for line in errors} == {"batch_expired"}
    assert all(line["response"] is None for line in errors)
    assert {line["custom_id"] for line in output + errors} == {f"r-{n}" for n in range(10)}
    assert driver.meter()["rows_billed"] == 4


def test_openai_cancel_delivers_and_bills_what_has_finished(build: Build) -> None:
    driver = build(pace=SLOW)
    batch = driver.batch(chat_rows(10))
    states(driver, batch, [10 + 20 + 300])
    assert driver.json("POST", f"/v1/batches/{batch['id']}/cancel")["status"] == "cancelling"
    assert driver.json("POST", f"/v1/batches/{batch['id']}/cancel")["status"] == "cancelling"
    assert states(driver, batch, [39, 1]) == [("cancelling", 3), ("cancelled", 3)]
    output, errors = driver.results(driver.look(batch))
    assert (len(output), len(errors)) == (3, 7)
    assert driver.send("POST", f"/v1/batches/{batch['id']}/cancel").status == 409
    assert driver.meter()["batches_cancelled"] == 1


def test_openai_cancel_before_validation_has_no_files(build: Build) -> None:
    driver = build(pace=SLOW)
    batch = driver.batch(chat_rows(3))
    driver.json("POST", f"/v1/batches/{batch['id']}/cancel")
    assert states(driver, batch, [40]) == [("cancelled", 0)]
    done = driver.look(batch)
    assert (done["output_file_id"], done["error_file_id"]) == (None, None)


def test_deleting_the_input_does_not_stop_the_batch(build: Build) -> None:
    driver = build(pace=SLOW)
    batch = driver.batch(chat_rows(3))
    driver.json("DELETE", f"/v1/files/{batch['input_file_id']}")
    assert states(driver, batch, [5000]) == [("completed", 3)]


def test_openai_files_end_after_thirty_days(driver: Driver) -> None:
    batch = driver.batch(chat_rows(1))
    done = driver.look(batch)
    driver.clock.advance(30 * DAY - 1)
    assert driver.content(done["output_file_id"])
    driver.clock.advance(1)
    assert driver.send("GET", f"/v1/files/{done['output_file_id']}").status == 404
    assert driver.send("GET", f"/v1/files/{done['input_file_id']}").status == 404
    meter = driver.meter()
    assert (meter["files_stored"], meter["bytes_stored"]) == (0, 0)


def test_expires_after_is_honoured_and_checked(driver: Driver) -> None:
    fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    made = driver.upload(b"x", **fields)
    driver.clock.advance(3600)
    assert driver.send("GET", f"/v1/files/{made['id']}").status == 404
    fresh = driver.upload(jsonl(chat_rows(1)))
    short = driver.create(fresh["id"], output_expires_after={"anchor": "created_at", "seconds": 60})
    assert short.status == 400
    fine = driver.create(fresh["id"], output_expires_after={"anchor": "created_at", "seconds": 7200})
    output = driver.look(fine.json())["output_file_id"]
    shown = driver.json("GET", f"/v1/files/{output}")
    assert shown["expires_at"] - shown["created_at"] == 7200


def test_an_upload_dies_after_an_hour(driver: Driver) -> None:
    body = {"bytes": 5, "filename": "x", "mime_type": "text/plain", "purpose": "batch"}
    upload = driver.json("POST", "/v1/uploads", body)
    driver.clock.advance(3600)
    refused = driver.send("POST", f"/v1/uploads/{upload['id']}/complete", {"part_ids": []})
    assert refused.status == 400
    assert "expired" in refused.json()["error"]["message"]


def test_anthropic_counts_are_frozen_until_the_end(build: Build) -> None:
    driver = build(pace=SLOW)
    batch = driver.message_batch(claude_rows(10))
    for seconds in (500, 500):
        driver.clock.advance(seconds)
        seen = driver.look_at_messages(batch)
        assert seen["request_counts"]["processing"] == 10
        assert sum(seen["request_counts"].values()) == 10
        assert seen["results_url"] is None
    assert driver.send("GET", f"/v1/messages/batches/{batch['id']}/results", headers=ANTHROPIC).status == 400
    driver.clock.advance(60)
    assert driver.look_at_messages(batch)["request_counts"]["succeeded"] == 10


def test_anthropic_window_marks_rows_expired(build: Build) -> None:
    driver = build(pace=Pace(validate=0, queue=0, per_1000_rows=DAY * 250))
    batch = driver.message_batch(claude_rows(10))
    driver.clock.advance(DAY)
    assert driver.look_at_messages(batch)["request_counts"]["expired"] == 6
    results = driver.message_results(batch)
    assert sorted(line["result"]["type"] for line in results) == ["expired"] * 6 + ["succeeded"] * 4
    meter = driver.meter()
    assert (meter["rows_received"], meter["rows_billed"], meter["batches_expired"]) == (10, 4, 1)


def test_anthropic_cancel_keeps_what_has_finished(build: Build) -> None:
    driver = build(pace=SLOW)
    batch = driver.message_batch(claude_rows(10))
    driver.clock.advance(10 + 20 + 300)
    path = f"/v1/messages/batches/{batch['id']}/cancel"
    assert driver.json("POST", path, headers=ANTHROPIC)["processing_status"] == "canceling"
    driver.clock.advance(40)
    counts = driver.look_at_messages(batch)["request_counts"]
    assert (counts["succeeded"], counts["canceled"]) == (3, 7)
    assert driver.send("POST", path, headers=ANTHROPIC).status == 400


def test_anthropic_results_are_archived_after_29_days(build: Build) -> None:
    driver = build(pace=Pace.instant())
    batch = driver.message_batch(claude_rows(2))
    driver.clock.advance(29 * DAY - 1)
    assert len(driver.message_results(batch)) == 2
    driver.clock.advance(1)
    seen = driver.look_at_messages(batch)
    assert seen["archived_at"] is not None
    assert seen["results_url"] is None
    assert seen["processing_status"] == "ended"
    path = f"/v1/messages/batches/{batch['id']}/results"
    assert driver.send("GET", path, headers=ANTHROPIC).status == 404
    assert driver.json("GET", "/v1/messages/batches", headers=ANTHROPIC)["data"][0]["id"] == batch["id"]


def test_versions(build: Build) -> None:
    driver = build()
    for version, expected in (("2023-06-01", "succeeded"), ("2026-10-21", "errored")):
        headers = {**ANTHROPIC, "anthropic-version": version}
        rows = [{"custom_id": "a", "params": claude_params("hi", temperature=1)}]
        batch = driver.message_batch(rows, headers)
        assert driver.message_results(batch)[0]["result"]["type"] == expected
    for version in ("", "2020-01-01"):
        headers = {**ANTHROPIC, "anthropic-version": version}
        assert driver.send("GET", "/v1/messages/batches", headers=headers).status == 400


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"not json\n", "invalid_json_line"),
        (b"\xff\xfe\n", "invalid_json_line"),
        (b"[" * 100_000 + b"\n", "invalid_json_line"),
        (jsonl([row("a", chat_body("x"), "/v1/embeddings")]), "url_mismatch"),
        (jsonl([row("a", chat_body("x", "gpt-5"))]), "model_mismatch"),
        (jsonl([row("a", chat_body("x", "nobody"))]), "model_not_found"),
        (jsonl([row("r-0", chat_body("x"))]), "duplicate_custom_id"),
        (jsonl([row("x" * 65, chat_body("x"))]), "invalid_custom_id"),
        (jsonl([{**row("a", chat_body("x")), "method": "GET"}]), "invalid_method"),
        (jsonl([{"method": "POST", "url": "/v1/chat/completions"}]), "missing_required_parameter"),
    ],
)
def test_validation_names_the_line(driver: Driver, line: bytes, code: str) -> None:
    made = driver.create(driver.upload(jsonl(chat_rows(3)) + line)["id"])
    assert made.status == 200
    failed = driver.look(made.json())
    assert failed["status"] == "failed"
    first = failed["errors"]["data"][0]
    assert (first["code"], first["line"]) == (code, 4)
    assert failed["output_file_id"] is None
    meter = driver.meter()
    assert (meter["rows_received"], meter["rows_billed"], meter["batches_failed"]) == (0, 0, 1)


def test_an_empty_file_fails(driver: Driver) -> None:
    failed = driver.look(driver.create(driver.upload(b"\n")["id"]).json())
    assert failed["errors"]["data"][0]["code"] == "empty_file"


def test_a_last_line_without_newline_and_unicode_separators_are_fine(driver: Driver) -> None:
    rows = [row("a", chat_body("one\u2028two\u0085three")), row("b", chat_body("last"))]
    made = driver.create(driver.upload(jsonl(rows).rstrip(b"\n"))["id"]).json()
    assert driver.look(made)["request_counts"]["completed"] == 2


def test_limits_on_batches(build: Build) -> None:
    driver = build(limits=Limits(openai_rows=2, openai_batch_bytes=2_000, openai_embedding_inputs=3))
    many = driver.look(driver.batch(chat_rows(3)))
    assert many["errors"]["data"][0]["code"] == "too_many_tasks"
    big = driver.look(driver.batch([row("a", chat_body("x" * 2_000))]))
    assert big["errors"]["data"][0]["code"] == "file_too_large"
    body = {"model": "text-embedding-3-small", "input": ["a", "b"]}
    rows = [row(name, body, "/v1/embeddings") for name in "ab"]
    inputs = driver.look(driver.batch(rows, "/v1/embeddings"))
    assert inputs["errors"]["data"][0]["code"] == "too_many_tasks"


def test_limits_on_files_and_creates(build: Build) -> None:
    driver = build(limits=Limits(openai_file_bytes=500, openai_creates_per_hour=2))
    with pytest.raises(AssertionError, match="too large"):
        driver.upload(b"x" * 501)
    uploaded = driver.upload(jsonl(chat_rows(1)))
    assert [driver.create(uploaded["id"]).status for _ in range(3)] == [200, 200, 429]
    driver.clock.advance(3601)
    assert driver.create(uploaded["id"]).status == 200


def test_the_queue_counts_prompt_tokens_until_a_batch_ends(build: Build) -> None:
    driver = build(pace=SLOW, limits=Limits(openai_enqueued_tokens=200))
    first, second = driver.batch(chat_rows(10)), driver.batch(chat_rows(10))
    states(driver, first, [20])
    refused = driver.look(second)
    assert refused["status"] == "failed"
    problem = refused["errors"]["data"][0]
    assert problem["code"] == "token_limit_exceeded"
    assert GPT in problem["message"]
    other_model = driver.batch([row("a", chat_body("x", "gpt-5"))])
    states(driver, first, [5000])
    assert driver.look(other_model)["status"] == "completed"
    again = driver.create(second["input_file_id"]).json()
    assert states(driver, again, [20]) == [("in_progress", 0)]


def test_metadata_is_checked(driver: Driver) -> None:
    file_id = driver.upload(jsonl(chat_rows(1)))["id"]
    for bad in ({f"k{n}": "v" for n in range(17)}, {"k" * 65: "v"}, {"k": "v" * 513}, {"k": 1}, ["a"]):
        assert driver.create(file_id, metadata=bad).status == 400
    assert driver.create(file_id, metadata={f"k{n}": "v" * 512 for n in range(16)}).status == 200


def test_create_is_checked(driver: Driver) -> None:
    file_id = driver.upload(jsonl(chat_rows(1)))["id"]
    assert driver.create(file_id, "/v1/nothing").status == 400
    assert driver.create(file_id, completion_window="12h").status == 400
    assert driver.create("file-none").status == 400
    assert driver.create(driver.upload(b"x", "user_data")["id"]).status == 400
    assert driver.send("POST", "/v1/batches", {}).status == 400
    assert driver.send("POST", "/v1/batches", b"{").status == 400
    assert driver.send("POST", "/v1/batches", b"[]").status == 400


def test_limits_at_anthropic(build: Build) -> None:
    limits = Limits(anthropic_rows=3, anthropic_batch_bytes=2_000, anthropic_queue_rows=4)
    driver = build(pace=SLOW, limits=limits)

    def status(rows: list[dict[str, Any]]) -> tuple[int, str]:
        made = driver.send("POST", "/v1/messages/batches", {"requests": rows}, ANTHROPIC)
        return made.status, made.json().get("error", {}).get("type", "")

    assert status(claude_rows(4)) == (400, "invalid_request_error")
    big = [{"custom_id": "a", "params": claude_params("x" * 3_000)}]
    assert status(big) == (413, "request_too_large")
    assert status(claude_rows(3)) == (200, "")
    assert status(claude_rows(2)) == (429, "rate_limit_error")
    driver.clock.advance(5_000)
    assert status(claude_rows(2)) == (200, "")


def test_pretty_printed_anthropic_bodies_are_read(driver: Driver) -> None:
    body = (
        b'{\n "other": 1,\n "requests": [\n  {"custom_id": "a",\n   "params": {"model": "claude-haiku-4-5",\n'
        b'   "max_tokens": 9, "messages": [{"role": "user",\n "content": "hi"}]}}\n ]\n}'
    )
    made = driver.json("POST", "/v1/messages/batches", body, headers=ANTHROPIC)
    assert driver.message_results(made)[0]["result"]["type"] == "succeeded"


def test_the_shared_models_route_tells_the_providers_apart(driver: Driver) -> None:
    openai, anthropic = driver.json("GET", "/v1/models"), driver.json("GET", "/v1/models", headers=ANTHROPIC)
    assert openai["object"] == "list"
    assert anthropic["data"][0]["type"] == "model"
    assert driver.send("GET", "/v1/models", headers={}).status == 401


def test_unknown_routes_are_refused_in_each_shape(driver: Driver) -> None:
    assert "error" in driver.send("GET", "/v1/nothing").json()
    refused = driver.send("GET", "/v1/messages/nothing", headers=ANTHROPIC)
    assert (refused.status, refused.json()["type"]) == (404, "error")


def test_a_broken_upload_is_refused(driver: Driver) -> None:
    headers = {**OPENAI, "content-type": "multipart/form-data; boundary=x"}
    for body in (b"", b"--x\r\n", b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc'):
        assert driver.send("POST", "/v1/files", body, headers).status == 400
    assert driver.send("POST", "/v1/files", b"x").status == 400
    assert driver.meter()["files_stored"] == 0


def test_the_same_body_gets_the_same_answer_in_every_attempt(build: Build) -> None:
    texts: set[str] = set()
    for seed in (1, 2):
        driver = build(seed=seed)
        for custom_id in ("a", "b"):
            output, _ = driver.results(driver.look(driver.batch([row(custom_id, chat_body("Where is it?"))])))
            texts.add(output[0]["response"]["body"]["choices"][0]["message"]["content"])
    assert len(texts) == 1


def test_the_same_seed_gives_the_same_bytes(build: Build) -> None:
    def run() -> list[Any]:
        driver = build(seed=7, faults=["row-error:rate=0.3"])
        return [driver.results(driver.look(driver.batch(chat_rows(20))))]

    assert run() == run()


def test_results_come_in_another_order(driver: Driver) -> None:
    output, _ = driver.results(driver.look(driver.batch(chat_rows(50))))
    found = [line["custom_id"] for line in output]
    assert found != [f"r-{n}" for n in range(50)]
    assert sorted(found) == sorted(f"r-{n}" for n in range(50))


def test_bad_bodies_become_row_errors(driver: Driver) -> None:
    rows = [
        row("no-messages", {"model": GPT}),
        row("empty", {"model": GPT, "messages": []}),
        row("stream", chat_body("x", stream=True)),
        row("tokens", chat_body("x", max_tokens=0)),
        row("fine", chat_body("x")),
    ]
    output, errors = driver.results(driver.look(driver.batch(rows)))
    assert [line["custom_id"] for line in output] == ["fine"]
    assert {line["response"]["status_code"] for line in errors} == {400}
    assert all(line["error"] is None for line in errors)


def test_admin_routes(driver: Driver) -> None:
    before = driver.json("GET", "/emulator/clock")["now"]
    assert driver.json("POST", "/emulator/clock", {"advance": 60})["now"] == before + 60
    assert driver.send("POST", "/emulator/clock", {"advance": -1}).status == 400
    assert driver.send("POST", "/emulator/clock", {}).status == 400
    listed = driver.json("POST", "/emulator/faults", {"add": ["row-error:rate=0.5,status=429"]})["faults"]
    assert listed == ["row-error:rate=0.5,status=429,sticky=false"]
    wrong = driver.send("POST", "/emulator/faults", {"add": ["create-lost", "row-eror"]})
    assert "row-error" in wrong.json()["error"]["message"]
    assert driver.json("GET", "/emulator/faults")["faults"] == listed
    assert driver.json("DELETE", "/emulator/faults") == {"faults": []}
    driver.batch(chat_rows(2))
    assert driver.json("POST", "/emulator/reset") == {"reset": True}
    assert driver.json("GET", "/v1/batches")["data"] == []
    assert driver.meter()["creates_received"] == 0
    assert driver.send("POST", "/emulator/nothing").status == 404
    assert driver.send("POST", "/emulator/webhooks", {"url": "x", "secret": "whsec_!"}).status == 400


def test_models_have_aliases_with_dates(driver: Driver) -> None:
    for name in (GPT, f"{GPT}-2025-04-14"):
        body = chat_body("x", name)
        assert driver.json("POST", "/v1/chat/completions", body)["model"] == f"{GPT}-2025-04-14"
    params = claude_params("x") | {"model": f"{CLAUDE}-20251001"}
    assert driver.json("POST", "/v1/messages", params, headers=ANTHROPIC)["model"] == f"{CLAUDE}-20251001"
