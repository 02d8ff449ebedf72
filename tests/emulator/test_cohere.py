"""Cohere's datasets and batches in virtual time."""

import io
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from genai_prices import Usage, calc_price

from halfrate.emulator import Limits, Pace
from halfrate.emulator._models import models_of
from halfrate.emulator._prices import Tokens, cost

from .cohere_driver import (
    BATCH_MODEL,
    BATCHES,
    DATASETS,
    EMBED,
    KIND,
    MODEL,
    CohereDriver,
    body,
    records,
    rows,
)
from .driver import Driver, jsonl

Build = Callable[..., Driver]
SLOW = Pace(validate=10, queue=10, per_1000_rows=1_000, finalize=10, cancel=10)


def test_a_batch_from_first_to_last(build: Build) -> None:
    driver = build(pace=SLOW)
    cohere = CohereDriver(driver)
    dataset_id = cohere.dataset(rows(10))
    assert dataset_id.startswith("my-orders-")
    assert cohere.create(dataset_id).status == 400  # not validated yet
    driver.clock.advance(10)
    made = cohere.create(dataset_id).json()["batch"]
    assert (made["status"], made["num_records"]) == ("BATCH_STATUS_QUEUED", 10)
    assert (made["output_dataset_id"], made["status_reason"], made["input_tokens"]) == ("", "", "0")
    seen, done = [made["status"]], made
    for _ in range(60):
        driver.clock.advance(1)
        done = cohere.look(made)
        seen.append(done["status"])
        if done["status"] == "BATCH_STATUS_IN_PROGRESS":
            assert done["output_dataset_id"] == ""
    assert [status.removeprefix("BATCH_STATUS_") for status in dict.fromkeys(seen)] == [
        "QUEUED",
        "IN_PROGRESS",
        "COMPLETED",
    ]
    assert (done["num_successful_records"], done["num_failed_records"]) == (10, 0)
    assert done["output_dataset_id"].startswith("my-job-output-")
    assert done["updated_at"] > done["created_at"]
    assert done["created_at"].endswith("Z")
    found = cohere.results(done)
    assert {one["custom_id"] for one in found} == {f"r-{n}" for n in range(10)}
    assert [one["custom_id"] for one in found] != sorted(one["custom_id"] for one in found)
    first = found[0]
    assert (first["error"], len(first["body"]["embeddings"]["float"][0])) == ("", 1536)
    assert first["body"]["embeddings"]["int8"] is None
    tokens = sum(one["body"]["meta"]["billed_units"]["input_tokens"] for one in found)
    assert done["input_tokens"] == str(tokens)
    meter = driver.meter()
    assert (meter["rows_billed"], meter["batches_created_by_provider"]) == (10, {"cohere": 1})
    price = {model.name: model.batch.input for model in models_of("cohere")}[BATCH_MODEL]
    assert meter["picodollars_by_provider"] == {"cohere": tokens * price}


def test_the_results_are_an_avro_container(driver: Driver) -> None:
    cohere = CohereDriver(driver)
    given = [*rows(250), {"custom_id": "bad", "body": {"input_type": "search_document"}}]
    done = cohere.look(cohere.batch(given))
    (content,) = cohere.parts(done)
    assert content[:4] == b"Obj\x01"
    container: Any = fastavro.block_reader(io.BytesIO(content))
    blocks = list(container)
    assert container.metadata["avro.codec"] == "null"
    sizes = [block.num_records for block in blocks]
    assert (sum(sizes), max(sizes) <= 100, len(sizes) > 1) == (251, True, True)
    schema = json.loads(container.metadata["avro.schema"])
    assert schema["name"] == "cohere.batch_embed_v2_output"
    assert [field["name"] for field in schema["fields"]] == ["custom_id", "body", "error"]
    (failed,) = [one for one in records(content) if one["body"] is None]
    assert failed["custom_id"] == "bad"
    assert failed["error"].startswith("invalid request: exactly one of texts")
    dataset = cohere.look_at_dataset(done["output_dataset_id"])
    assert (dataset["dataset_type"], dataset["validation_status"]) == ("batch-embed-v2-output", "validated")
    assert dataset["dataset_parts"][0]["num_rows"] == 251
    assert "schema" not in dataset
    assert (done["num_successful_records"], done["num_failed_records"]) == (250, 1)


def test_results_come_in_parts(build: Build) -> None:
    cohere = CohereDriver(build(limits=Limits(cohere_part_rows=4)))
    done = cohere.look(cohere.batch(rows(10)))
    assert [len(records(part)) for part in cohere.parts(done)] == [4, 4, 2]
    parts = cohere.look_at_dataset(done["output_dataset_id"])["dataset_parts"]
    assert [part.get("index") for part in parts] == [None, 1, 2]
    assert {one["custom_id"] for one in cohere.results(done)} == {f"r-{n}" for n in range(10)}


def test_what_a_dataset_says_of_itself(build: Build) -> None:
    driver = build(pace=SLOW)
    cohere = CohereDriver(driver)
    dataset_id = cohere.dataset(rows(7), f"name=in.jsonl&type={KIND}&keep_original_file=true")
    early = cohere.look_at_dataset(dataset_id)
    assert (early["validation_status"], "schema" in early) == ("processing", False)
    (part,) = early["dataset_parts"]
    assert (part["name"], part["url"].partition("?")[0]) == (
        "in.jsonl",
        part["original_url"].partition("?")[0],
    )
    assert cohere.open(part["url"]).read() == jsonl(rows(7))
    driver.clock.advance(10)
    dataset = cohere.look_at_dataset(dataset_id)
    assert dataset["validation_status"] == "validated"
    (part,) = dataset["dataset_parts"]
    assert (part["name"], part["num_rows"], len(part["samples"])) == ("in.avro", 7, 5)
    assert json.loads(part["samples"][0]) == rows(1)[0]
    assert cohere.open(part["original_url"]).read() == jsonl(rows(7))
    found = records(cohere.open(part["url"]).read())
    assert found[3]["custom_id"] == "r-3"
    assert found[3]["body"]["inputs"][0]["content"][0]["text"] == "Where is order 3?"
    assert found[3]["body"]["texts"] is None
    assert json.loads(dataset["schema"])["name"] == "cohere.batch_embed_v2_input"
    assert driver.json("GET", f"{DATASETS}/usage")["organization_usage"] > len(jsonl(rows(7)))


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense\n",
        b'{"custom_id": "a"}\n',
        b'{"custom_id": 5, "body": {"input_type": "search_document"}}\n',
        b'{"custom_id": "a", "body": {"texts": ["b"]}}\n',
        b'{"custom_id": "a", "body": {"input_type": "search_document", "texts": "b"}}\n',
        b'{"custom_id": "a", "body": {"input_type": "search_document", "max_tokens": 3000000000}}\n',
        (
            b'{"custom_id": "a", "body": {"input_type": "image", "inputs": [{"content": [{"type": "image_url", '
            b'"image_url": {"url": "data:"}}]}]}}\n'
        ),
        b'{"custom_id": "\\ud800", "body": {"input_type": "search_document"}}\n',
    ],
)
def test_a_bad_line_fails_the_dataset(driver: Driver, line: bytes) -> None:
    cohere = CohereDriver(driver)
    content = jsonl(rows(1)) + b"\n" + line
    dataset = cohere.look_at_dataset(cohere.send_dataset(content).json()["id"])
    assert dataset["validation_status"] == "failed"
    assert dataset["validation_error"].startswith("line 3: ")
    assert cohere.create(dataset["id"]).status == 400
    skipping = f"name=x&type={KIND}&skip_malformed_input=true"
    dataset = cohere.look_at_dataset(cohere.send_dataset(content, skipping).json()["id"])
    assert dataset["validation_status"] == "validated"
    assert dataset["validation_warnings"] == ["1 malformed rows were skipped"]
    assert cohere.create(dataset["id"]).json()["batch"]["num_records"] == 1


def test_a_dataset_without_rows_fails(driver: Driver) -> None:
    cohere = CohereDriver(driver)
    for query in (f"name=x&type={KIND}", f"name=x&type={KIND}&skip_malformed_input=true"):
        dataset = cohere.look_at_dataset(cohere.send_dataset(b"\n\n", query).json()["id"])
        assert (dataset["validation_status"], dataset["validation_error"]) == (
            "failed",
            "the dataset has no valid rows",
        )


def test_names_that_are_no_part_of_a_path(driver: Driver) -> None:
    cohere = CohereDriver(driver)
    response = cohere.send_dataset(
        jsonl(rows(2)), f"name=../../%C3%BC%3F&type={KIND}&keep_original_file=true"
    )
    (part,) = cohere.look_at_dataset(response.json()["id"])["dataset_parts"]
    assert len(records(cohere.open(part["url"]).read())) == 2
    done = cohere.look(cohere.create(response.json()["id"], name="a/b #1 100%").json()["batch"])
    assert done["output_dataset_id"].startswith("a-b-1-100-output-")
    (part,) = cohere.look_at_dataset(done["output_dataset_id"])["dataset_parts"]
    assert part["name"] == "a/b #1 100%-output-0"
    assert len(cohere.results(done)) == 2


def test_what_is_refused(driver: Driver, build: Build) -> None:
    cohere = CohereDriver(driver)
    assert cohere.send_dataset(b"x", f"type={KIND}").status == 400
    assert cohere.send_dataset(b"x", "name=x&type=embed-input").status == 400
    dataset_id = cohere.dataset(rows(1))
    assert cohere.create("nobody").status == 404
    assert cohere.create(dataset_id, model="embed-v9").status == 404
    assert cohere.create(dataset_id, name="").status == 400
    done = cohere.look(cohere.batch(rows(1)))
    assert cohere.create(done["output_dataset_id"]).status == 400
    small = CohereDriver(build(limits=Limits(cohere_dataset_bytes=10)))
    assert small.send_dataset(jsonl(rows(1))).status == 413
    assert small.driver.meter()["files_stored"] == 0


def test_listing_datasets(driver: Driver) -> None:
    cohere = CohereDriver(driver)
    ids = []
    for n in range(3):
        ids.append(cohere.dataset(rows(1), f"name=d{n}&type={KIND}"))
        driver.clock.advance(60)
    failed = cohere.send_dataset(b"nonsense", f"name=bad&type={KIND}").json()["id"]
    cohere.look(cohere.create(ids[0]).json()["batch"])

    def listed(query: str) -> list[str]:
        return [one["id"] for one in driver.json("GET", DATASETS, query=query)["datasets"]]

    assert listed(f"datasetType={KIND}") == [failed, *ids[::-1]]
    assert listed("validationStatus=failed") == [failed]
    assert listed("limit=2&offset=2.0") == [ids[2], ids[1]]
    assert len(listed("datasetType=batch-embed-v2-output")) == 1
    moment = cohere.look_at_dataset(ids[1])["created_at"]
    assert listed(f"before={moment}") == [ids[0]]
    assert listed(f"datasetType={KIND}&after={moment}") == [failed, ids[2]]
    assert driver.send("GET", DATASETS, query="before=soon").status == 400


def test_datasets_go_away(driver: Driver) -> None:
    cohere = CohereDriver(driver)
    one, other = cohere.dataset(rows(1)), cohere.dataset(rows(1))
    assert driver.json("DELETE", f"{DATASETS}/{one}") == {}
    assert driver.send("GET", f"{DATASETS}/{one}").status == 404
    driver.clock.advance(30 * 86_400 - 1)
    assert cohere.look_at_dataset(other)
    driver.clock.advance(1)
    assert driver.send("GET", f"{DATASETS}/{other}").status == 404
    assert driver.meter()["files_stored"] == 0


def test_a_batch_outlives_its_input(build: Build) -> None:
    driver = build(pace=Pace(validate=0, queue=60, per_1000_rows=0, finalize=0))
    cohere = CohereDriver(driver)
    made = cohere.batch(rows(3))
    driver.json("DELETE", f"{DATASETS}/{made['input_dataset_id']}")
    driver.clock.advance(61)
    assert len(cohere.results(cohere.look(made))) == 3


def test_cancelling(build: Build) -> None:
    driver = build(pace=SLOW)
    cohere = CohereDriver(driver)
    dataset_id = cohere.dataset(rows(10))
    driver.clock.advance(10)
    made = cohere.create(dataset_id).json()["batch"]
    driver.clock.advance(24)
    response = cohere.cancel(made)
    assert (response.status, response.json()) == (200, {})
    assert cohere.look(made)["status"] == "BATCH_STATUS_CANCELING"
    driver.clock.advance(10)
    done = cohere.look(made)
    assert (done["status"], done["num_successful_records"]) == ("BATCH_STATUS_CANCELED", 4)
    assert len(cohere.results(done)) == driver.meter()["rows_billed"] == 4
    assert cohere.cancel(made).status == 400
    early = cohere.create(dataset_id).json()["batch"]
    cohere.cancel(early)
    driver.clock.advance(10)
    assert cohere.look(early)["output_dataset_id"] == ""


def test_a_batch_that_is_late_has_failed_with_what_is_done(build: Build) -> None:
    driver = build(pace=Pace(validate=0, queue=0, per_1000_rows=24 * 3_600_000, finalize=0))
    cohere = CohereDriver(driver)
    made = cohere.batch(rows(3))
    driver.clock.advance(24 * 3_600)
    done = cohere.look(made)
    assert (done["status"], done["num_successful_records"]) == ("BATCH_STATUS_FAILED", 1)
    assert done["status_reason"] == "the batch did not finish in time"
    assert len(cohere.results(done)) == 1
    assert driver.meter()["batches_expired"] == 1


def test_listing_batches(build: Build) -> None:
    driver = build(pace=Pace(validate=0, queue=60, per_1000_rows=0, finalize=0, cancel=1))
    cohere = CohereDriver(driver)
    made = []
    for _ in range(3):
        made.append(cohere.batch(rows(1)))
        driver.clock.advance(10)
    cohere.cancel(made[0])
    ids = [one["id"] for one in made]

    def listed(query: str) -> list[str]:
        return [one["id"] for one in cohere.listed(query)["batches"]]

    assert listed("") == listed("order_by=created_at") == ids
    assert listed("order_by=created_at desc") == ids[::-1]
    assert listed("order_by=updated_at") == [ids[1], ids[2], ids[0]]
    page = cohere.listed("page_size=2")
    assert ([one["id"] for one in page["batches"]], page["next_page_token"]) == (ids[:2], "2")
    page = cohere.listed("page_size=2&page_token=2")
    assert ([one["id"] for one in page["batches"]], page["next_page_token"]) == (ids[2:], "")
    assert listed("page_size=5000") == ids
    assert driver.send("GET", BATCHES, query="order_by=size").status == 400


def ids_of(found: list[Any]) -> list[str]:
    return [one["custom_id"] for one in found]


FAULTS: dict[str, Callable[[Any, list[Any]], bool]] = {
    "row-error:rate=1": lambda batch, found: (
        batch["num_failed_records"] == 4 and all(one["error"] and one["body"] is None for one in found)
    ),
    "row-missing:match=order 1": lambda batch, found: (len(found), batch["num_failed_records"]) == (3, 1),
    "row-duplicate:match=order 1": lambda batch, found: ids_of(found).count("r-1") == 2,
    "row-unknown:match=order 1": lambda batch, found: any(
        one.startswith("stranger-") for one in ids_of(found)
    ),
    "row-no-id:match=order 1": lambda batch, found: ids_of(found).count("") == 1,
    "row-both-files:match=order 1": lambda batch, found: (
        {bool(one["error"]) for one in found if one["custom_id"] == "r-1"} == {True, False}
    ),
    "row-null-error:match=order 1": lambda batch, found: (
        [one["error"] for one in found if one["body"] is None] == [""]
    ),
    "row-status-zero:match=order 1": lambda batch, found: (
        [one["error"] for one in found if one["body"] is None] == [""]
    ),
    "batch-fail": lambda batch, found: (
        (batch["status"], batch["status_reason"]) == ("BATCH_STATUS_FAILED", "line 1: invalid_json_line")
    ),
    "batch-expire:done=0.5": lambda batch, found: (batch["status"], len(found)) == ("BATCH_STATUS_FAILED", 2),
    "batch-expire-no-files": lambda batch, found: batch["output_dataset_id"] == "",
    "completed-no-output": lambda batch, found: (
        (batch["status"], batch["output_dataset_id"]) == ("BATCH_STATUS_COMPLETED", "")
    ),
    "counts-wrong": lambda batch, found: batch["num_successful_records"] == 0,
    "all-rows-fail:status=429": lambda batch, found: (
        {one["error"] for one in found} == {"Rate limit reached. Please slow down and try again later."}
    ),
    "status-unknown": lambda batch, found: batch["status"] == "paused",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(build: Build, fault: str) -> None:
    driver = build(faults=[f"{fault}{',' if ':' in fault else ':'}provider=cohere"])
    cohere = CohereDriver(driver)
    done = cohere.look(cohere.batch(rows(4)))
    assert FAULTS[fault](done, cohere.results(done))
    assert driver.meter()["files_stored"] == 2 + bool(done["output_dataset_id"])


def test_a_record_that_is_broken_spoils_its_block_alone(build: Build) -> None:
    driver = build(faults=["row-malformed:match=order 1,provider=cohere"])
    cohere = CohereDriver(driver)
    done = cohere.look(cohere.batch(rows(4)))
    (content,) = cohere.parts(done)
    with pytest.raises(EOFError):
        records(content)
    sound: list[Any] = []
    for block in fastavro.block_reader(io.BytesIO(content)):
        try:
            sound += list(block)
        except EOFError:
            assert block.num_records == 1
    assert sorted(ids_of(sound)) == ["r-0", "r-2", "r-3"]
    assert driver.meter()["rows_billed"] == 4


def test_a_file_that_is_cut_off(build: Build) -> None:
    cohere = CohereDriver(build(faults=["last-line-cut:bytes=20,provider=cohere"]))
    (content,) = cohere.parts(cohere.look(cohere.batch(rows(4))))
    with pytest.raises((EOFError, ValueError)):
        records(content)


def test_a_batch_whose_rows_all_vanish_has_an_empty_container(build: Build) -> None:
    cohere = CohereDriver(build(faults=["row-missing:rate=1,provider=cohere"]))
    done = cohere.look(cohere.batch(rows(4)))
    assert (done["status"], done["num_failed_records"]) == ("BATCH_STATUS_COMPLETED", 4)
    (content,) = cohere.parts(done)
    assert records(content) == []


def test_faults_around_the_calls(build: Build) -> None:
    driver = build()
    cohere = CohereDriver(driver)
    dataset_id = cohere.dataset(rows(1))

    def with_fault(fault: str) -> None:
        driver.emulator.clear_faults()
        driver.emulator.add_fault(f"{fault}{',' if ':' in fault else ':'}provider=cohere")

    with_fault("create-lost")
    assert cohere.create(dataset_id).delivery.drop
    assert len(cohere.listed()["batches"]) == 1
    with_fault("create-error:status=502")
    assert cohere.create(dataset_id).status == 502
    with_fault("create-refused:status=503")
    assert cohere.create(dataset_id).status == 503
    assert driver.meter()["batches_created"] == 2
    with_fault("create-slow:seconds=9")
    assert cohere.create(dataset_id).delivery.hold_seconds == 9
    with_fault("queue-full:retry_after=3")
    refused = cohere.create(dataset_id)
    assert (refused.status, refused.headers["retry-after"]) == (429, "3")
    with_fault("list-stale")
    cohere.create(dataset_id)
    assert len(cohere.listed()["batches"]) == 3
    with_fault("not-found-after-create")
    made = cohere.create(dataset_id).json()["batch"]
    assert driver.send("GET", f"{BATCHES}/{made['id']}").status == 404
    with_fault("file-not-ready")
    late = cohere.dataset(rows(1))
    assert cohere.look_at_dataset(late)["validation_status"] == "processing"
    assert cohere.create(late).status == 400
    with_fault("upload-reset")
    assert cohere.send_dataset(jsonl(rows(1))).delivery.drop
    with_fault("poll-error")
    driver.clock.advance(60)
    assert driver.send("GET", f"{BATCHES}/{made['id']}").status == 500
    with_fault("rate-limit:on=list")
    assert driver.send("GET", BATCHES).status == 429
    done = cohere.look(made)
    with_fault("download-truncated")
    (part,) = cohere.look_at_dataset(done["output_dataset_id"])["dataset_parts"]
    assert cohere.open(part["url"]).delivery.truncate_after
    slow = build(pace=Pace(validate=0, queue=9, per_1000_rows=1_000), faults=["cancel-race:provider=cohere"])
    racing = CohereDriver(slow)
    made = racing.batch(rows(3))
    racing.cancel(made)
    slow.clock.advance(100)
    done = racing.look(made)
    assert (done["status"], done["num_successful_records"]) == ("BATCH_STATUS_COMPLETED", 3)


def test_realtime_is_billed_at_the_standard_price(driver: Driver) -> None:
    answer = driver.json("POST", EMBED, body("Ruby makes AI useful.", model=MODEL))
    assert len(answer["embeddings"]["float"]) == 1
    assert (answer["response_type"], "texts" in answer) == ("embeddings_by_type", False)
    assert answer["meta"]["billed_units"] == {"input_tokens": 6, "image_tokens": 0}
    meter = driver.meter()
    assert (meter["rows_by_tier"], meter["picodollars"]) == ({"standard": 1}, 6 * 120_000)
    driver.emulator.add_fault("realtime-error:provider=cohere,status=503")
    assert driver.send("POST", EMBED, body("hi", model=MODEL)).status == 503
    driver.emulator.add_fault("realtime-lost:provider=cohere")
    assert driver.send("POST", EMBED, body("hi", model=MODEL)).delivery.drop
    assert CohereDriver(driver).look(
        CohereDriver(driver).batch([{"custom_id": "r", "body": body("hi")}], model=MODEL)
    )
    assert driver.meter()["fingerprints_billed_again"] == 1  # the same text, in realtime and in a batch


def test_prices() -> None:
    theirs = calc_price(Usage(input_tokens=1_000), MODEL, provider_id="cohere")
    standard = {model.name: cost(model, "standard", Tokens(1_000)) for model in models_of("cohere")}
    assert Decimal(standard[MODEL]) / 10**12 == theirs.total_price
    for model in models_of("cohere"):  # nobody says what batches cost
        assert cost(model, "batch", Tokens(1_000)) == standard[MODEL]


def test_every_kind_of_embedding(driver: Driver) -> None:
    kinds = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    texts = ["one", "two"]
    asked = {"model": MODEL, "input_type": "search_query", "texts": texts, "embedding_types": kinds}
    answer = driver.json("POST", EMBED, {**asked, "output_dimension": 256})
    assert answer["texts"] == texts
    found = answer["embeddings"]
    assert {kind: len(found[kind]) for kind in kinds} == dict.fromkeys(kinds, 2)
    assert [len(found[kind][0]) for kind in kinds[:5]] == [256, 256, 256, 32, 32]
    assert [value + 128 for value in found["int8"][0]] == found["uint8"][0]
    assert [value + 128 for value in found["binary"][0]] == found["ubinary"][0]
    assert max(map(abs, found["int8"][0])) > 64
    cohere = CohereDriver(driver)
    row: Any = {"custom_id": "a", "body": {key: asked[key] for key in ("input_type", "texts")}}
    row["body"]["embedding_types"] = kinds[:5]
    base64 = {"custom_id": "b", "body": {**row["body"], "embedding_types": ["base64"]}}
    good, bad = sorted(
        cohere.results(cohere.look(cohere.batch([row, base64]))), key=lambda one: one["custom_id"]
    )
    assert good["body"]["texts"] == texts
    assert len(good["body"]["embeddings"]["ubinary"][1]) == 192
    assert "embedding_types" in bad["error"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_type": None},
        {"input_type": "document"},
        {"inputs": None},
        {"texts": ["b"]},
        {"inputs": None, "texts": []},
        {"inputs": None, "texts": ["x"] * 97},
        {"inputs": None, "texts": [5]},
        {"inputs": None, "images": ["https://example.com/a.png"]},
        {"inputs": [{"content": []}]},
        {"inputs": [{"content": [{"type": "audio"}]}]},
        {"embedding_types": ["float16"]},
        {"embedding_types": []},
        {"output_dimension": 100},
        {"truncate": "MIDDLE"},
        {"truncate": ["END"]},
        {"output_dimension": {}},
        {"embedding_types": [[]]},
        {"input_type": []},
        {"max_tokens": 0},
    ],
)
def test_calls_that_are_refused(driver: Driver, wrong: dict[str, Any]) -> None:
    response = driver.send("POST", EMBED, {**body("a", model=MODEL), **wrong})
    assert response.status == 400
    assert response.json()["message"].startswith("invalid request: ")
    assert driver.meter()["realtime_billed"] == 0


def test_images_and_long_texts(driver: Driver) -> None:
    image: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    asked = {"model": MODEL, "input_type": "search_document"}
    mixed = {**asked, "inputs": [{"content": [{"type": "text", "text": "a" * 40}, image]}]}
    answer = driver.json("POST", EMBED, mixed)
    assert answer["meta"]["billed_units"] == {"input_tokens": 10, "image_tokens": 255}
    assert len(answer["embeddings"]["float"]) == 1
    alone = driver.json("POST", EMBED, {**asked, "images": [image["image_url"]["url"]]})
    assert alone["meta"]["billed_units"] == {"input_tokens": 0, "image_tokens": 255}
    long = driver.json("POST", EMBED, {**asked, "texts": ["a" * 4_000], "max_tokens": 100})
    assert long["meta"]["billed_units"]["input_tokens"] == 100


def test_errors_and_keys(driver: Driver) -> None:
    for key in ("", "Bearer bad-key"):
        assert driver.send("GET", BATCHES, headers={"authorization": key}).status == 401
    error = driver.send("POST", EMBED, body("hi", model="gpt-4.1"))
    assert error.status == 404
    assert set(error.json()) == {"id", "message"}
    assert driver.send("POST", EMBED, body("hi", model=BATCH_MODEL)).status == 404
    assert driver.send("GET", "/cohere/v1/nowhere").status == 404
    made = CohereDriver(driver).batch(rows(1))
    other = {"authorization": "Bearer key-2"}
    assert driver.send("GET", f"{BATCHES}/{made['id']}", headers=other).status == 404
    assert driver.send("GET", f"{DATASETS}/{made['input_dataset_id']}", headers=other).status == 404
    assert driver.json("GET", BATCHES, headers=other)["batches"] == []


def test_signed_urls_open_without_a_key_for_a_while(driver: Driver) -> None:
    cohere = CohereDriver(driver)
    (part,) = cohere.look_at_dataset(cohere.dataset(rows(1)))["dataset_parts"]
    assert cohere.open(part["url"]).status == 200
    path, _, query = part["url"].removeprefix("http://localhost").partition("?")
    assert driver.send("GET", f"{path}x", headers={}, query=query).status == 403
    assert driver.send("GET", DATASETS, headers={}, query=query).status == 401
    driver.clock.advance(43_199)
    assert cohere.open(part["url"]).status == 403


def test_the_environment(driver: Driver) -> None:
    found = driver.emulator.environment("http://127.0.0.1:1")["cohere"]
    assert found == {"CO_API_URL": "http://127.0.0.1:1/cohere", "CO_API_KEY": "emulator"}


def test_without_fastavro_nothing_but_datasets_is_refused(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halfrate.emulator._cohere_datasets.installed", lambda: False)
    response = CohereDriver(driver).send_dataset(jsonl(rows(1)))
    assert (response.status, "halfrate[cohere]" in response.json()["message"]) == (501, True)
    assert driver.send("POST", EMBED, body("hi", model=MODEL)).status == 200
