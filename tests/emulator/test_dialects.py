"""The providers that speak OpenAI's dialect, each in its own accent, in virtual time."""

import hashlib
from typing import Any

import msgspec
import pytest
from genai_prices import Usage, calc_price

from halfrate.emulator import Limits, Pace, Response
from halfrate.emulator._dialect_prices import MODELS
from halfrate.emulator._dialects import (
    AZURE,
    DEEPINFRA,
    DOUBLEWORD,
    GROQ,
    MOONSHOT,
    NOVITA,
    QWEN,
    TOGETHER,
    VOYAGE,
    ZHIPU,
    Dialect,
)
from halfrate.emulator._models import find_model
from halfrate.emulator._openai_models import CHAT, EMBEDDINGS
from halfrate.emulator._prices import Model, Tokens, cost

from .conftest import Build
from .driver import BOUNDARY, OPENAI, Driver, jsonl, lines_of

MODEL = {
    "azure": "gpt-4.1-mini",
    "groq": "llama-3.3-70b-versatile",
    "together": "meta-llama/Llama-3.3-70B-Instruct-Turbo",
    "moonshot": "kimi-k2.5",
    "qwen": "qwen-plus",
    "zhipu": "glm-4.5-air",
    "deepinfra": "meta-llama/Llama-3.3-70B-Instruct-Turbo",
    "doubleword": "Qwen/Qwen3-VL-30B-A3B-Instruct-FP8",
    "novita": "deepseek/deepseek-r1-0528",
    "voyage": "voyage-3.5",
}
FAMILY = (AZURE, GROQ, TOGETHER, MOONSHOT, QWEN, ZHIPU, DEEPINFRA, DOUBLEWORD, NOVITA, VOYAGE)
FULL = tuple(dialect for dialect in FAMILY if dialect not in (TOGETHER, VOYAGE))
WINDOWS = {"moonshot": "12h", "novita": "48h", "voyage": "12h"}
SLOW = Pace(validate=1, queue=1, per_1000_rows=1000, finalize=1, cancel=1)

everyone = pytest.mark.parametrize("dialect", FAMILY, ids=lambda dialect: dialect.provider)


class Mount:
    """One provider's API at an emulator, as a client of its own would use it."""

    def __init__(self, driver: Driver, dialect: Dialect) -> None:
        self.driver = driver
        self.dialect = dialect
        self.base = f"/{dialect.provider}{dialect.prefixes[0]}"
        self.model = MODEL[dialect.provider]
        self.endpoint = next(iter(dialect.endpoints))

    def send(self, method: str, path: str, body: object = b"", **more: Any) -> Response:
        return self.driver.send(method, f"{self.base}{path}", body, **more)

    def json(self, method: str, path: str, body: object = b"", **more: Any) -> Any:
        response = self.send(method, path, body, **more)
        assert response.status == 200, response.read()
        return response.json()

    def row(self, number: int, **more: Any) -> dict[str, Any]:
        text = f"Where is order {number}?"
        if self.dialect.request_params:
            return {"custom_id": f"r-{number}", "body": {"input": [text], **more}}
        body: dict[str, Any] = {"model": self.model, **more}
        if self.dialect.endpoints[self.endpoint] == EMBEDDINGS:
            body["input"] = [text]
        else:
            body["messages"] = [{"role": "user", "content": text}]
        target = {"method": "POST", "url": self.endpoint} if self.dialect.row_targets else {}
        return {"custom_id": f"r-{number}", **target, "body": body}

    def rows(self, count: int) -> list[dict[str, Any]]:
        return [self.row(number) for number in range(count)]

    def form(self, path: str, file: bytes | None, **fields: str) -> Response:
        parts = [
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in fields.items()
        ]
        if file is not None:
            head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n'
            parts += [head.encode(), file, b"\r\n"]
        parts.append(f"--{BOUNDARY}--\r\n".encode())
        headers = {**OPENAI, "content-type": f"multipart/form-data; boundary={BOUNDARY}"}
        return self.send("POST", path, b"".join(parts), headers=headers)

    def announce(self, content: bytes) -> Response:
        """The first step of an upload at Together."""
        checksum = hashlib.sha256(content).hexdigest()
        fields = {"purpose": "batch-api", "file_name": "in.jsonl", "file_type": "jsonl"}
        return self.form("/files", None, checksum=checksum, **fields)

    def upload(self, content: bytes, **fields: str) -> Any:
        if self.dialect is not TOGETHER:
            response = self.form("/files", content, purpose="batch", **fields)
            assert response.status == 200, response.read()
            return response.json()
        announced = self.announce(content)
        assert announced.status == 302
        path = "/" + announced.headers["location"].split("/", 3)[3]
        assert self.driver.send("PUT", path, content, headers={}).status == 200
        return self.json("POST", f"/files/{announced.headers['x-together-file-id']}/preprocess")

    def create(self, file_id: str, **more: Any) -> Response:
        window = WINDOWS.get(self.dialect.provider, "24h")
        body: dict[str, Any] = {
            "input_file_id": file_id,
            "endpoint": self.endpoint,
            "completion_window": window,
        }
        if self.dialect.request_params:
            body["request_params"] = {"model": self.model, "output_dimension": 256}
        return self.send("POST", "/batches", {**body, **more})

    def batch(self, rows: list[dict[str, Any]], **more: Any) -> Any:
        uploaded = self.upload(jsonl(rows))
        if uploaded.get("status") == "pending":
            self.driver.clock.advance(self.driver.emulator.pace.validate)
        response = self.create(uploaded["id"], **more)
        assert response.status == 200, response.read()
        found = response.json()
        return found["job"] if self.dialect is TOGETHER else found

    def look(self, batch: Any) -> Any:
        return self.json("GET", f"/batches/{batch['id']}")

    def listed(self) -> list[Any]:
        found = self.json("GET", "/batches")
        return found if self.dialect is TOGETHER else found["data"]

    def content(self, file_id: str) -> list[Any]:
        response = self.send("GET", f"/files/{file_id}/content")
        assert response.status == 200
        return lines_of(response.read())

    def rates(self) -> Model:
        found = find_model(self.model, self.dialect.provider)
        assert found is not None
        return found


def spent(mount: Mount, lines: list[Any]) -> int:
    """What result lines cost, by their usage and the batch rates."""
    rates, total = mount.rates().batch, 0
    for line in lines:
        usage = line["response"]["body"]["usage"]
        read = usage.get("prompt_tokens", usage["total_tokens"])
        total += read * rates.input + usage.get("completion_tokens", 0) * rates.output
    return total


@everyone
def test_a_whole_life(driver: Driver, dialect: Dialect) -> None:
    mount = Mount(driver, dialect)
    batch = mount.batch(mount.rows(5))
    assert batch["status"] == dialect.word("validating")
    done = mount.look(batch)
    assert done["status"] == dialect.word("completed")
    lines = mount.content(done["output_file_id"])
    assert sorted(line["custom_id"] for line in lines) == [f"r-{n}" for n in range(5)]
    assert [one["id"] for one in mount.listed()] == [batch["id"]]
    meter = driver.meter()
    assert meter["picodollars_by_provider"] == {dialect.provider: spent(mount, lines)}
    assert meter["picodollars"] > 0
    assert set(meter["billed_by_custom_id"].values()) == {1}
    assert meter["batches_created_by_provider"] == {dialect.provider: 1}
    assert meter["batches_completed"] == 1
    assert list(meter["picodollars_by_model"]) == [mount.rates().snapshot]


@everyone
def test_a_cancelled_batch_delivers_what_is_done(build: Build, dialect: Dialect) -> None:
    mount = Mount(build(pace=SLOW), dialect)
    batch = mount.batch(mount.rows(4))
    mount.driver.clock.advance(4.5)
    cancelled = mount.json("POST", f"/batches/{batch['id']}/cancel")
    assert cancelled["status"] == dialect.word("cancelling")
    mount.driver.clock.advance(1)
    ended = mount.look(batch)
    assert ended["status"] == dialect.word("cancelled")
    done, absent = mount.content(ended["output_file_id"]), mount.content(ended["error_file_id"])
    assert (len(done), len(absent)) == (2, 2)
    assert {line["error"]["code"] for line in absent} == {"batch_cancelled"}
    assert mount.driver.meter()["picodollars"] == spent(mount, done)
    assert mount.send("POST", f"/batches/{batch['id']}/cancel").status == 409


@everyone
def test_a_lost_reply_leaves_a_batch(build: Build, dialect: Dialect) -> None:
    fault = f"create-lost:provider={dialect.provider}"
    mount = Mount(build(faults=[fault, "create-error:provider=openai"]), dialect)
    lost = mount.create(mount.upload(jsonl(mount.rows(1)))["id"])
    assert lost.delivery.drop
    assert len(mount.listed()) == 1
    assert mount.driver.meter()["batches_created_by_provider"] == {dialect.provider: 1}


@everyone
def test_a_full_queue_shows_late_or_at_once(build: Build, dialect: Dialect) -> None:
    faults = [f"queue-full:provider={dialect.provider},mode={mode}" for mode in ("create", "failed")]
    mount = Mount(build(faults=faults), dialect)
    file_id = mount.upload(jsonl(mount.rows(2)))["id"]
    refused = mount.create(file_id)
    assert refused.status == (400 if dialect is AZURE else 429)
    assert refused.json()["error"]["code"] == "token_limit_exceeded"
    created = mount.create(file_id)
    assert created.status == 200
    failed = mount.look(mount.listed()[0])
    assert failed["status"] == dialect.word("failed")
    said = failed.get("errors") or failed.get("error")
    assert "Enqueued token limit reached" in str(said)
    assert mount.driver.meter()["picodollars"] == 0


@everyone
def test_a_failed_validation_can_be_asked_for(build: Build, dialect: Dialect) -> None:
    mount = Mount(build(faults=[f"batch-fail:provider={dialect.provider}"]), dialect)
    assert mount.look(mount.batch(mount.rows(1)))["status"] == dialect.word("failed")
    assert mount.look(mount.batch(mount.rows(2)))["status"] == dialect.word("completed")


@everyone
def test_realtime_calls_are_billed_at_the_standard_rate(driver: Driver, dialect: Dialect) -> None:
    mount = Mount(driver, dialect)
    call = CHAT if CHAT in dialect.calls else EMBEDDINGS
    asked: dict[str, Any] = {"model": mount.model, "input": "hi", "service_tier": "flex"}
    if call == CHAT:
        asked = {"model": mount.model, "messages": [{"role": "user", "content": "hi"}]}
    answer = mount.json("POST", call.removeprefix("/v1"), asked)
    assert "service_tier" not in answer
    rates, usage = mount.rates().standard, answer["usage"]
    read = usage.get("prompt_tokens", usage["total_tokens"])
    expected = read * rates.input + usage.get("completion_tokens", 0) * rates.output
    assert driver.meter()["picodollars_by_provider"] == {dialect.provider: expected}
    assert mount.model in {one["id"] for one in mount.json("GET", "/models")["data"]}
    assert mount.json("GET", f"/models/{mount.model}")["id"] == mount.model
    assert mount.send("GET", "/models/a/b/c").status == 404
    wrong = mount.send("POST", call.removeprefix("/v1"), {**asked, "model": "gpt-5"})
    assert wrong.status == 404


@everyone
def test_keys(driver: Driver, dialect: Dialect) -> None:
    mount = Mount(driver, dialect)
    batch = mount.batch(mount.rows(1))
    for headers, status in (
        ({}, 401),
        ({"authorization": "Bearer bad-key"}, 401),
        ({"authorization": "Bearer other"}, 404),
        ({"api-key": "key-1"}, 200 if dialect is AZURE else 401),
    ):
        assert mount.send("GET", f"/batches/{batch['id']}", headers=headers).status == status


@pytest.mark.parametrize(
    ("dialect", "window", "hours"),
    [
        (GROQ, "7d", 168),
        (GROQ, "12h", None),
        (GROQ, "8d", None),
        (MOONSHOT, "12h", 12),
        (MOONSHOT, "7d", 168),
        (QWEN, "336h", 336),
        (QWEN, "12h", None),
        (DOUBLEWORD, "1h", 1),
        (DOUBLEWORD, "2h", None),
        (VOYAGE, "24h", None),
        (AZURE, "24h", 24),
        (AZURE, "48h", None),
        (NOVITA, "24h", 48),
        (NOVITA, None, 48),
        (ZHIPU, None, 24),
        (TOGETHER, None, 24),
        (DEEPINFRA, None, None),
    ],
)
def test_windows(driver: Driver, dialect: Dialect, window: str | None, hours: int | None) -> None:
    mount = Mount(driver, dialect)
    asked = mount.create(mount.upload(jsonl(mount.rows(1)))["id"], completion_window=window)
    assert asked.status == (400 if hours is None else 200)
    if hours is not None and not dialect.iso_times:
        batch = asked.json()
        assert batch["expires_at"] - batch["created_at"] == hours * 3600


@pytest.mark.parametrize("dialect", FULL, ids=lambda dialect: dialect.provider)
def test_metadata_come_back(driver: Driver, dialect: Dialect) -> None:
    mount = Mount(driver, dialect)
    mount.batch(mount.rows(1), metadata={"tag": "t-1"})
    assert mount.listed()[0]["metadata"] == {"tag": "t-1"}


def failure(mount: Mount, rows: list[dict[str, Any]], **more: Any) -> list[str]:
    """Why a batch failed, as codes; nothing where it did not."""
    errors = mount.look(mount.batch(rows, **more))["errors"]
    return [problem["code"] for problem in errors["data"]] if errors else []


def test_a_line_may_have_six_megabytes_at_qwen(driver: Driver) -> None:
    mount, size = Mount(driver, QWEN), 6 * 1024 * 1024
    spare = size - len(msgspec.json.encode(mount.row(0, user="")))
    assert failure(mount, [mount.row(0, user="x" * spare)]) == []
    assert failure(mount, [mount.row(1), mount.row(2, user="x" * (spare + 1))]) == ["line_too_large"]


def test_zhipu_takes_ten_thousand_embeddings_and_deletes_the_input(driver: Driver) -> None:
    mount = Mount(driver, ZHIPU)
    assert mount.endpoint == "/v4/chat/completions"
    mount.endpoint, mount.model = "/v4/embeddings", "embedding-3"
    assert failure(mount, mount.rows(10_001)) == ["too_many_tasks"]
    rows = [mount.row(0)]
    kept = mount.batch(rows, auto_delete_input_file=False)
    mount.look(kept)
    assert mount.send("GET", f"/files/{kept['input_file_id']}").status == 200
    gone = mount.batch(rows)
    assert mount.look(gone)["status"] == "completed"
    assert mount.send("GET", f"/files/{gone['input_file_id']}").status == 404


def test_a_limit_that_was_lowered_holds_for_every_dialect(build: Build) -> None:
    driver = build(limits=Limits(openai_rows=2))
    for dialect in (GROQ, QWEN, AZURE):
        mount = Mount(driver, dialect)
        assert failure(mount, mount.rows(3)) == ["too_many_tasks"]


def test_moonshot_keeps_a_thousand_files(driver: Driver) -> None:
    mount = Mount(driver, MOONSHOT)
    for _ in range(1_000):
        mount.upload(b"{}\n")
    assert mount.form("/files", b"{}\n", purpose="batch").status == 400


def test_novita_writes_times_errors_and_ids_in_its_own_way(driver: Driver) -> None:
    mount = Mount(driver, NOVITA)
    batch = mount.batch(mount.rows(1))
    assert (batch["output_file_id"], batch["error_file_id"]) == ("", "")
    assert batch["created_at"].endswith("Z")
    failed = mount.look(mount.batch([*mount.rows(1), *mount.rows(1)]))
    assert failed["status"] == "FAILED"
    assert "duplicate" in failed["errors"]


def test_voyage_says_the_model_once(driver: Driver) -> None:
    mount = Mount(driver, VOYAGE)
    missing = mount.create(mount.upload(jsonl(mount.rows(1)))["id"], request_params=None)
    assert missing.status == 400
    done = mount.look(mount.batch(mount.rows(2)))
    assert done["created_at"].endswith("Z")
    bodies = [line["response"]["body"] for line in mount.content(done["output_file_id"])]
    assert [len(body["data"][0]["embedding"]) for body in bodies] == [256, 256]
    assert all(list(body["usage"]) == ["total_tokens"] for body in bodies)
    assert mount.json("GET", f"/files/{done['input_file_id']}")["status"] is None
    other = {"model": "voyage-9"}
    assert failure(mount, mount.rows(1), request_params=other) == ["model_not_found"]


# ---------------------------------------------------------------- Azure


def test_azure_words_its_objects_in_its_own_way(build: Build) -> None:
    mount = Mount(build(faults=["row-error:times=1,status=500"]), AZURE)
    batch = mount.batch(mount.rows(2))
    assert (batch["output_file_id"], batch["error_file_id"]) == ("", "")
    done = mount.look(batch)
    (line,), (error,) = mount.content(done["output_file_id"]), mount.content(done["error_file_id"])
    assert "id" not in line
    assert "id" not in error
    body = line["response"]["body"]
    assert body["choices"][0]["content_filter_results"]["hate"] == {"filtered": False, "severity": "safe"}
    assert body["prompt_filter_results"][0]["prompt_index"] == 0
    done = mount.look(mount.batch(mount.rows(2)))
    assert mount.json("GET", f"/files/{done['error_file_id']}")["bytes"] == 0
    assert mount.content(done["error_file_id"]) == []


def test_azure_wants_a_version_under_its_old_path(driver: Driver) -> None:
    assert driver.send("GET", "/azure/openai/batches").status == 404
    assert driver.send("GET", "/azure/openai/batches", query="api-version=2025-04-01-preview").status == 200
    assert driver.send("GET", "/azure/openai/v1/batches").status == 200
    filtered = driver.send(
        "GET", "/azure/openai/v1/batches", query="$filter=status eq 'Completed'&$orderby=created_at asc"
    )
    assert filtered.status == 200


def test_azure_makes_no_batch_of_a_pending_file(build: Build) -> None:
    mount = Mount(build(pace=SLOW), AZURE)
    made = mount.upload(jsonl(mount.rows(1)))
    assert made["status"] == "pending"
    assert mount.create(made["id"]).status == 400
    mount.driver.clock.advance(1)
    assert mount.json("GET", f"/files/{made['id']}")["status"] == "processed"
    assert mount.create(made["id"]).status == 200


def test_azure_goes_on_after_its_window(build: Build) -> None:
    slow = Pace(validate=0, queue=0, per_1000_rows=1000 * 60_000, finalize=0, cancel=0)
    mount, other = Mount(build(pace=slow), AZURE), Mount(build(pace=slow), GROQ)
    for each, status in ((mount, "in_progress"), (other, "expired")):
        batch = each.batch(each.rows(2))
        each.driver.clock.advance(90_000)
        assert each.look(batch)["status"] == status
        each.driver.clock.advance(40_000)
        assert each.look(batch)["status"] == ("completed" if each is mount else "expired")
    expiring = Mount(build(pace=slow, faults=["batch-expire:at=window"]), AZURE)
    batch = expiring.batch(expiring.rows(2))
    expiring.driver.clock.advance(86_401)
    assert expiring.look(batch)["status"] == "expired"


def test_azure_names_models_by_deployment_and_endpoints_twice(driver: Driver) -> None:
    mount = Mount(driver, AZURE)
    mount.model = "gpt-4.1-mini-batch"
    done = mount.look(mount.batch(mount.rows(1), endpoint="/chat/completions"))
    assert (done["status"], done["endpoint"]) == ("completed", "/chat/completions")
    (line,) = mount.content(done["output_file_id"])
    assert line["response"]["body"]["model"] == "gpt-4.1-mini-2025-04-14"
    assert mount.json("GET", "/models/gpt-4.1-mini-batch")["id"] == "gpt-4.1-mini-batch"
    assert failure(mount, mount.rows(1), endpoint="/v1/responses") == ["url_mismatch"]
    assert mount.create(done["input_file_id"], endpoint="/v1/embeddings").status == 400


def test_azure_refuses_a_byte_order_mark(driver: Driver) -> None:
    mount = Mount(driver, AZURE)
    created = mount.create(mount.upload(b"\xef\xbb\xbf" + jsonl(mount.rows(1)))["id"])
    problems = mount.look(created.json())["errors"]["data"]
    assert [(problem["code"], problem["line"]) for problem in problems] == [("invalid_json_line", 1)]


def test_azure_keeps_few_files_unless_they_expire(driver: Driver) -> None:
    mount = Mount(driver, AZURE)
    for _ in range(500):
        mount.upload(b"{}\n")
    life = {"expires_after.anchor": "created_at", "expires_after.seconds": "1209600"}
    assert mount.form("/files", b"{}\n", purpose="batch").status == 400
    assert mount.form("/files", b"{}\n", purpose="batch", **life).status == 400
    driver.emulator.reset()
    for _ in range(501):
        assert mount.upload(b"{}\n", **life)["expires_at"] is not None
    short = {**life, "expires_after.seconds": "3600"}
    assert mount.form("/files", b"{}\n", purpose="batch", **short).status == 400


# ---------------------------------------------------------------- Together


def test_together_takes_a_file_in_three_steps(driver: Driver) -> None:
    mount = Mount(driver, TOGETHER)
    content = jsonl(mount.rows(1))
    announced = mount.announce(content)
    file_id = announced.headers["x-together-file-id"]
    path = "/" + announced.headers["location"].split("/", 3)[3]
    assert mount.create(file_id).status == 400
    assert mount.send("POST", f"/files/{file_id}/preprocess").status == 404
    assert driver.send("PUT", path, b"other bytes", headers={}).status == 400
    assert driver.send("PUT", path, content, headers={}).status == 200
    stored = mount.json("POST", f"/files/{file_id}/preprocess")
    assert (stored["purpose"], stored["FileType"], stored["bytes"]) == ("batch-api", "jsonl", len(content))
    assert driver.send("PUT", path, content, headers={}).status == 403
    again = mount.announce(content)
    assert (again.status, again.json()["file_id"]) == (409, file_id)
    stranger = {"authorization": "Bearer other"}
    assert mount.send("GET", f"/files/{file_id}", headers=stranger).status == 404
    assert mount.json("DELETE", f"/files/{file_id}") == {"id": file_id, "deleted": True}
    assert mount.announce(content).status == 302


def test_together_words_its_objects_in_its_own_way(build: Build) -> None:
    mount = Mount(build(faults=["row-error:times=1,status=500"], pace=SLOW), TOGETHER)
    content = jsonl(mount.rows(4))
    response = mount.create(mount.upload(content)["id"], metadata={"tag": "t"})
    assert set(response.json()) == {"job", "warning"}
    mount.driver.clock.advance(4.5)
    (job,) = mount.json("GET", "/batches")
    assert (job["status"], job["progress"], job["file_size_bytes"]) == ("IN_PROGRESS", 50.0, len(content))
    assert "metadata" not in job
    mount.driver.clock.advance(2.1)
    assert mount.look(job)["status"] == "IN_PROGRESS"
    mount.driver.clock.advance(1)
    job = mount.look(job)
    assert (job["status"], job["completed_at"][-1], job["error"]) == ("COMPLETED", "Z", None)
    for file_id in (job["output_file_id"], job["error_file_id"]):
        for line in mount.content(file_id):
            assert set(line) == {"custom_id", "response"}
            assert set(line["response"]) == {"status_code", "body"}


def test_together_gives_the_discount_on_some_models_only(driver: Driver) -> None:
    mount = Mount(driver, TOGETHER)
    mount.model = "deepseek-ai/DeepSeek-V3"
    done = mount.look(mount.batch(mount.rows(1)))
    lines = mount.content(done["output_file_id"])
    rates = mount.rates()
    assert driver.meter()["picodollars"] == spent(mount, lines)
    assert rates.batch == rates.standard


# ---------------------------------------------------------------- prices

_THEIRS = {
    "azure": "azure",
    "groq": "groq",
    "together": "together",
    "moonshot": "moonshotai",
    "zhipu": "zhipuai",
    "doubleword": "doubleword",
    "novita": "novita",
    "voyage": "voyageai",
}
_UNKNOWN = {("together", "deepseek-ai/DeepSeek-V3"), ("zhipu", "embedding-3")}
_FACTOR = {"deepinfra": 0.8, "voyage": 0.67}
_FULL_PRICE = {"deepseek-ai/DeepSeek-V3", "openai/gpt-oss-120b", "text-embedding-3-small"}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model.provider}-{model.name}")
def test_prices(model: Model) -> None:
    if model.provider in _THEIRS and (model.provider, model.name) not in _UNKNOWN:
        usage = Usage(input_tokens=1_000, cache_read_tokens=100, output_tokens=100)
        theirs = calc_price(usage, model.name, provider_id=_THEIRS[model.provider]).total_price
        assert cost(model, "standard", Tokens(900, 100, 0, 0, 100)) == int(theirs * 10**12)
    factor = _FACTOR.get(model.provider, 0.5)
    if model.provider in {"azure", "together"} and model.name in _FULL_PRICE:
        factor = 1.0
    for kind in ("input", "output"):
        assert getattr(model.batch, kind) == round(getattr(model.standard, kind) * factor)
    assert model.batch.cached <= max(model.batch.input, model.standard.cached)


@everyone
def test_the_variables_that_point_here(driver: Driver, dialect: Dialect) -> None:
    found = driver.emulator.environment("http://host:1/")[dialect.provider]
    address, key = sorted(found, key=lambda name: name.endswith("_KEY"))
    base = "" if dialect in (AZURE, GROQ, TOGETHER) else dialect.prefixes[0]
    assert found[address] == f"http://host:1/{dialect.provider}{base}"
    assert (key, found[key]) == (
        address.replace("_BASE_URL", "_API_KEY").replace("_ENDPOINT", "_API_KEY"),
        "emulator",
    )
