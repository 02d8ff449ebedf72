"""Google's sign-in: tokens that are given, renewed when they end, and refused; and the calls that bear them."""

import asyncio
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import google.auth
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError

from halfrate.base.errors import UNREACHABLE, HalfrateError, Refused, SettingsError
from halfrate.providers.accounts import account_from
from halfrate.providers.base import Call, CallRefused, Intent
from halfrate.providers.object_credentials import GoogleChain
from halfrate.providers.vertex import Vertex

from .wire import Asked, Wire, reply, wire

PLACE = "/v1/projects/p-1/locations/global"


class Credentials:
    """As google-auth has them: a token that ends."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.token: str | None = None
        self.expiry: datetime | None = None
        self.valid = False
        self.quota_project_id: str | None = None
        self.renewals = 0
        self.fault = fault

    def refresh(self, _: Any) -> None:
        if self.fault is not None:
            raise self.fault
        self.renewals += 1
        self.token, self.valid = f"token-{self.renewals}", True
        self.expiry = datetime(2026, 11, 21, 12, tzinfo=UTC).replace(tzinfo=None)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Credentials:
    """What the chain finds."""
    credentials = Credentials()

    def default(*, scopes: list[str]) -> tuple[Credentials, str]:
        assert scopes == ["https://www.googleapis.com/auth/cloud-platform"]
        return credentials, "p-1"

    monkeypatch.delenv("GOOGLE_BEARER_TOKEN", raising=False)
    monkeypatch.setattr(google.auth, "default", default)
    return credentials


@contextmanager
def vertex(server: Wire, key: str = "") -> Generator[Vertex]:
    environ = {
        "GOOGLE_VERTEX_BASE_URL": server.url,
        "GOOGLE_CLOUD_PROJECT": "p-1",
        "GOOGLE_CLOUD_LOCATION": "global",
        "HALFRATE_VERTEX_BUCKET": "gs://rows",
        "GOOGLE_BEARER_TOKEN": key,
    }
    adapter = Vertex(account_from(Vertex.capabilities, environ))
    try:
        yield adapter
    finally:
        asyncio.run(adapter.close())


def bearers(server: Wire) -> list[str]:
    return [
        line.partition(": ")[2]
        for asked in server.asked
        for line in asked.head.split("\r\n")
        if line.lower().startswith("authorization")
    ]


def job(_: Asked) -> bytes:
    return reply(json.dumps({"name": "x/batchPredictionJobs/7", "state": "JOB_STATE_RUNNING"}).encode())


def test_a_token_that_is_given_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(**_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(google.auth, "default", never)
    with wire(job) as server, vertex(server, "given") as adapter:
        assert asyncio.run(adapter.poll("7")).status == "running"
        assert bearers(server) == ["Bearer given"]
        assert server.asked[0].head.startswith(f"GET {PLACE}/batchPredictionJobs/7 HTTP/1.1")
    assert GoogleChain("given").for_obstore() == {"token": "given", "expires_at": None}


def test_a_token_is_renewed_when_it_ends(found: Credentials) -> None:
    with wire(job) as server, vertex(server) as adapter:
        for ends in (False, True, False):
            asyncio.run(adapter.poll("7"))
            found.valid = not ends
        assert bearers(server) == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]


def test_many_threads_renew_once(found: Credentials) -> None:
    chain = GoogleChain()
    threads = [threading.Thread(target=chain.headers) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.renewals == 1


def test_what_a_store_is_told(found: Credentials) -> None:
    until = datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert GoogleChain().for_obstore() == {"token": "token-1", "expires_at": until}
    assert "token" not in repr(GoogleChain())


def test_a_project_for_the_quotas(found: Credentials) -> None:
    found.quota_project_id = "p-9"
    assert GoogleChain().headers() == {"Authorization": "Bearer token-1", "x-goog-user-project": "p-9"}


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        (DefaultCredentialsError("none"), SettingsError, ""),
        (RefreshError("invalid_grant"), SettingsError, ""),
        (TransportError("no route"), Refused, UNREACHABLE),
        (RefreshError("busy", retryable=True), Refused, ""),
    ],
)
def test_no_token(found: Credentials, fault: Exception, kind: type[HalfrateError], code: str) -> None:
    found.fault = fault
    with pytest.raises(kind) as raised:
        GoogleChain().headers()
    if isinstance(raised.value, Refused):
        assert (raised.value.code, raised.value.passing) == (code, True)


def test_nothing_paid_is_sent_without_credentials(found: Credentials, tmp_path: Path) -> None:
    found.fault = RefreshError("invalid_grant")
    intent = Intent(tag="t", endpoint="generate", model="m", requests=tmp_path, rows=1, file_id="gs://a/t")
    call = Call(endpoint="generate", model="m", row_id="r", body=b"{}")
    with wire(job) as server, vertex(server) as adapter:
        for paid in (adapter.create(intent), adapter.call(call)):
            with pytest.raises(Refused) as raised:
                asyncio.run(paid)
            assert raised.value.credentials
        assert server.asked == []


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-x", f"{PLACE}/publishers/google/models/gemini-x"),
        ("publishers/meta/models/llama@1", f"{PLACE}/publishers/meta/models/llama@1"),
        ("projects/p/locations/l/endpoints/5", "/v1/projects/p/locations/l/endpoints/5"),
    ],
)
def test_models_by_any_name(model: str, path: str) -> None:
    def refused(_: Asked) -> bytes:
        return reply(b'{"error":{"code":400,"message":"no"}}', "400 Bad Request")

    call = Call(endpoint="generate", model=model, row_id="hr-a-0-1-0", body=b'{"contents":[]}')
    with wire(refused) as server, vertex(server, "t") as adapter:
        with pytest.raises(CallRefused):
            asyncio.run(adapter.call(call))
        assert server.asked[0].head.startswith(f"POST {path}:generateContent HTTP/1.1")
        assert server.asked[0].body == b'{"contents":[]}'


def test_a_key_of_a_service_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole of google-auth, with a sign-in of this machine's own."""
    monkeypatch.delenv("GOOGLE_BEARER_TOKEN", raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

    def answer(asked: Asked) -> bytes:
        if asked.head.startswith("POST /token"):
            assert b"jwt-bearer" in asked.body
            return reply(b'{"access_token":"fresh","expires_in":3600}', Content_Type="application/json")
        return job(asked)

    with wire(answer) as server:
        about = {
            "type": "service_account",
            "client_email": "batch@p-1.iam.gserviceaccount.com",
            "private_key": key.decode(),
            "token_uri": f"{server.url}/token",
            "project_id": "p-1",
        }
        path = tmp_path / "key.json"
        path.write_text(json.dumps(about))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        with vertex(server) as adapter:
            asyncio.run(adapter.poll("7"))
            asyncio.run(adapter.poll("7"))
            until = adapter._chain.for_obstore()["expires_at"]
        assert bearers(server)[-2:] == ["Bearer fresh", "Bearer fresh"]
        assert len([asked for asked in server.asked if "/token" in asked.head]) == 1
        assert until is not None
        assert until - datetime.now(UTC) < timedelta(hours=1)
