"""Gemini's Files API in virtual time: uploads in one piece and in several, and how long files live."""

import pytest

from halfrate.emulator import Limits

from .conftest import Build
from .driver import Driver, jsonl
from .gemini import Gemini, keyed

HOUR = 3_600.0


@pytest.fixture
def gemini(driver: Driver) -> Gemini:
    return Gemini(driver)


def test_files(gemini: Gemini) -> None:
    data = jsonl(keyed(1))
    stored = gemini.upload(data, display_name="tag-1", name="files/mine")
    assert (stored["name"], stored["displayName"], stored["sizeBytes"]) == (
        "files/mine",
        "tag-1",
        str(len(data)),
    )
    assert (stored["state"], stored["source"], stored["mimeType"]) == (
        "ACTIVE",
        "UPLOADED",
        "application/jsonl",
    )
    assert gemini.json("GET", "/v1beta/files/mine")["displayName"] == "tag-1"
    assert gemini.send("GET", "/v1beta/files/mine:download", query="alt=media").status == 400
    assert gemini.start(5, name="files/mine").status == 409
    names = {gemini.upload(data)["name"] for _ in range(3)}
    page = gemini.json("GET", "/v1beta/files", query="pageSize=3")
    assert {one["name"] for one in page["files"]} == names
    rest = gemini.json("GET", "/v1beta/files", query=f"pageToken={page['nextPageToken']}")
    assert [one["name"] for one in rest["files"]] == ["files/mine"]
    assert gemini.json("DELETE", "/v1beta/files/mine") == {}
    assert gemini.send("GET", "/v1beta/files/mine").status == 403
    gemini.clock.advance(49 * HOUR)
    assert gemini.json("GET", "/v1beta/files") == {}
    assert gemini.meter()["files_stored"] == 0


def test_results_end_after_48_hours(gemini: Gemini) -> None:
    made = gemini.look(gemini.batch(keyed(1)))
    gemini.clock.advance(49 * HOUR)
    name = made["response"]["responsesFile"]
    assert gemini.send("GET", f"/v1beta/{name}:download", query="alt=media").status == 404
    assert gemini.look(made)["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"


def test_an_upload_in_pieces(gemini: Gemini) -> None:
    data = jsonl(keyed(4))
    started = gemini.start(len(data))
    assert started.headers["x-goog-upload-url"].startswith("http://emulator.test/gemini/upload/v1beta/files?")
    query = started.headers["x-goog-upload-url"].partition("?")[2]
    half = len(data) // 2
    first = gemini.chunk(query, data[:half], 0, "upload")
    assert first.headers["x-goog-upload-status"] == "active"
    gemini.emulator.add_fault("upload-reset")
    assert gemini.chunk(query, data[half:], half).delivery.drop
    told = gemini.chunk(query, b"", 0, "query")
    assert told.headers["x-goog-upload-size-received"] == str(half)
    wrong = gemini.chunk(query, data[half:], half + 1)
    assert (wrong.status, wrong.headers["x-goog-upload-status"]) == (400, "final")
    last = gemini.chunk(query, data[half:], half)
    assert last.json()["file"]["sizeBytes"] == str(len(data))
    assert gemini.chunk(query, b"", len(data), "finalize").json() == last.json()
    assert gemini.chunk("upload_id=nobody", data).status == 403
    short = gemini.start(len(data) + 1).headers["x-goog-upload-url"].partition("?")[2]
    assert gemini.chunk(short, data).status == 400


def test_storage_is_capped(build: Build) -> None:
    gemini = Gemini(build(limits=Limits(gemini_storage_bytes=1_000, gemini_file_bytes=800)))
    assert gemini.start(801).status == 400
    first = gemini.upload(b"x" * 700)
    full = gemini.start(301)
    assert (full.status, full.json()["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
    gemini.json("DELETE", f"/v1beta/{first['name']}")
    gemini.upload(b"x" * 700)
