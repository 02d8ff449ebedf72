"""Places for a depot: S3 itself (moto), the emulator's Cloud Storage, Azurite where there is one, and a folder."""

import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from halfrate.base.objects import Objects
from halfrate.emulator import Emulator
from halfrate.providers import objects
from halfrate.service.depots import place_named

from .azurite import ACCOUNT, MISSING, Azurite, azurite, program

SECRET = "secret-4b1d77aa02"


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ThreadedMotoServer]:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTTESTTEST0001")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setattr(objects, "_RETRY", {"max_retries": 0})
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    session: Any = boto3
    url = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    session.client("s3", region_name="us-east-1", endpoint_url=url).create_bucket(Bucket="depot")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def cloud_storage() -> Iterator[str]:
    """Where the emulator's Cloud Storage answers."""
    with Emulator() as emulator, emulator.running() as url:
        yield f"{url}/gcs"


@pytest.fixture(scope="session")
def blob_storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    if program() is None:
        pytest.skip(MISSING)
    with azurite(tmp_path_factory.mktemp("azurite")) as made:
        made.make("depot")
        yield made


@pytest.fixture(params=["s3", "gs", "az", "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Objects:
    """A depot that is empty yet, by its name and the environment. Those of one server share what that holds."""
    prefix = f"a/{secrets.token_hex(8)}"
    match request.param:
        case "gs":
            storage_of(monkeypatch, {"STORAGE_EMULATOR_HOST": request.getfixturevalue("cloud_storage")})
            return place_named(f"gs://depot/{prefix}")
        case "az":
            storage_of(monkeypatch, request.getfixturevalue("blob_storage").environment)
            return place_named(f"az://{ACCOUNT}/depot/{prefix}")
        case "s3":
            request.getfixturevalue("moto")
            return place_named(f"s3://depot/{prefix}")
        case _:
            (tmp_path / "depot").mkdir()
            return place_named(f"file://{tmp_path}/depot")


def storage_of(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    """Have these variables, and no others, say where Google's and Azure's stores are."""
    for name in list(os.environ):
        if name.startswith(("AZURE_", "GOOGLE_", "STORAGE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", SECRET)
    monkeypatch.setattr(objects, "_RETRY", {"max_retries": 0})
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
