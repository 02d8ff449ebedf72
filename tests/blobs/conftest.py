"""Places for a depot: S3 itself (moto), and a folder."""

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
from halfrate.blobs.folder import Folder
from halfrate.providers import objects
from halfrate.providers.bucket_files import BucketFiles
from halfrate.providers.objects import Bucket

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


@pytest.fixture(params=["s3", "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        (tmp_path / "depot").mkdir()
        return Folder(tmp_path / "depot")
    request.getfixturevalue("moto")
    url = os.environ["AWS_ENDPOINT_URL_S3"]
    # moto's servers of one process share what they hold.
    return BucketFiles(Bucket("s3://depot", region="us-east-1", endpoint=url), f"a/{secrets.token_hex(8)}")
