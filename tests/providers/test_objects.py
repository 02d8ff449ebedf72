"""Object stores: S3 itself (moto), the emulator's S3 and Cloud Storage, folders; and stores that misbehave."""

import asyncio
import errno
import logging
import os
import re
import socket
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.credentials import EnvProvider
from botocore.exceptions import PartialCredentialsError
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from halfrate.base.errors import UNREACHABLE, OutcomeUnknown, Refused, SettingsError, StorageError
from halfrate.emulator import Emulator
from halfrate.providers import objects
from halfrate.providers.object_credentials import AwsChain, AwsKeys
from halfrate.providers.objects import Bucket, split

from .wire import Asked, reply, wire

SECRET = "very-secret-very-secret"
KEY_ID = "AKIAVERYPUBLIC"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "AZURE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    # Whoever misbehaves here does so again.
    monkeypatch.setattr(objects, "_RETRY", {"max_retries": 0})


@pytest.fixture
def moto() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture(params=["moto", "s3", "gcs", "file"])
def bucket(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bucket]:
    if request.param == "file":
        yield Bucket(f"file://{tmp_path / 'store'}")
        return
    if request.param == "moto":
        url = request.getfixturevalue("moto")
        session: Any = boto3
        session.client("s3", region_name="us-east-1", endpoint_url=url).create_bucket(Bucket="rows")
        yield Bucket("s3://rows", region="us-east-1", endpoint=url)
        return
    with Emulator() as emulator, emulator.running() as url:
        if request.param == "s3":
            yield Bucket("s3://rows", region="us-east-1", endpoint=f"{url}/s3")
        else:
            monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "emulator")
            yield Bucket("gs://rows", endpoint=f"{url}/gcs")


def test_a_whole_life(bucket: Bucket, tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b'{"n":1}\n')
    # Several parts, the last one short.
    content = os.urandom(1 << 20) * 21 + b"end"
    large.write_bytes(content)

    async def life() -> None:
        await bucket.put_file("in/hr-a-0-1.jsonl", small)
        await bucket.put_file("in/hr-a-0-1/large.out", large)
        await bucket.put_file("in/hr-a-0-10.jsonl", small)
        assert sorted(await bucket.list("in/hr-a-0-1/")) == [("in/hr-a-0-1/large.out", len(content))]
        assert len(await bucket.list("in")) == 3
        assert await bucket.list("nowhere") == []
        assert await bucket.size("in/hr-a-0-1.jsonl") == 8
        assert await bucket.size("in/hr-a-0-2.jsonl") is None
        assert await bucket.read("in/hr-a-0-1.jsonl") == b'{"n":1}\n'
        back = tmp_path / "back"
        await bucket.get_file("in/hr-a-0-1/large.out", back)
        assert back.read_bytes() == content
        with pytest.raises(OutcomeUnknown, match="larger than it should be"):
            await bucket.read("in/hr-a-0-1/large.out")
        for _ in range(2):
            await bucket.delete("in/hr-a-0-1.jsonl")
        for ask in (bucket.read("in/hr-a-0-1.jsonl"), bucket.get_file("in/hr-a-0-1.jsonl", tmp_path / "no")):
            with pytest.raises(Refused) as refused:
                await ask
            assert (refused.value.status, refused.value.credentials) == (404, False)
        assert not (tmp_path / "no").exists()
        with pytest.raises(StorageError, match="cannot be read"):
            await bucket.put_file("in/hr-a-0-3.jsonl", tmp_path / "gone")

    asyncio.run(life())


def test_a_file_is_moved_in_constant_memory(tmp_path: Path) -> None:
    """The process grows by a few parts, not by the file."""
    code = f"""
import asyncio, resource, sys
from pathlib import Path
from halfrate.providers.objects import Bucket
bucket = Bucket("file://{tmp_path}/store")
path = Path("{tmp_path}/large")
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
async def move():
    await bucket.size("x")
    before = peak()
    await bucket.put_file("a", path)
    await bucket.get_file("a", Path("{tmp_path}/back"))
    assert Path("{tmp_path}/back").stat().st_size == path.stat().st_size
    print(peak() - before)
asyncio.run(move())
"""
    import subprocess

    with (tmp_path / "large").open("wb") as file:
        file.truncate(300 << 20)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100 << 10


def server(status: str, body: bytes = b"", **headers: str) -> Callable[[Asked], bytes]:
    return lambda _: reply(body, status, **headers)


def fault(code: str, message: str = "No, not with that.") -> bytes:
    inside = f"<Code>{code}</Code><Message>{message}</Message><AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId>"
    return f"<Error>{inside}<SignatureProvided>{SECRET}</SignatureProvided></Error>".encode()


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (server("403 Forbidden", fault("AccessDenied")), 403, "AccessDenied: No, not with that"),
        (server("401 Unauthorized", fault("InvalidToken")), 403, "InvalidToken"),
        (server("404 Not Found", fault("NoSuchBucket")), 404, "NoSuchBucket"),
        (server("503 Slow Down", fault("SlowDown", "Reduce your rate")), 429, "Reduce your rate"),
        (server("429 Too Many Requests"), 429, "slow down"),
        (server("500 Oops", fault("InternalError")), 500, "InternalError"),
        (server("400 Bad Request", fault("InvalidRequest")), 400, "InvalidRequest"),
        (server("301 Moved Permanently"), 301, "another region than eu-west-1"),
    ],
)
def test_what_a_store_answers(
    answer: Callable[[Asked], bytes], status: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with wire(answer) as there:
        bucket = Bucket("s3://rows", region="eu-west-1", endpoint=there.url)
        with pytest.raises(Refused, match=words) as refused:
            asyncio.run(bucket.read("a"))
        assert refused.value.status == status
        assert refused.value.credentials == (status == 403)
        # The key's name is in the signature, and the key itself nowhere at all.
        assert f"Credential={KEY_ID}/" in there.asked[0].head
        assert SECRET not in there.asked[0].head
    for text in (str(refused.value), repr(bucket), caplog.text):
        assert SECRET not in text
        assert KEY_ID not in text


def test_a_store_that_cannot_be_reached() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Refused) as refused:
        asyncio.run(Bucket("s3://rows", region="eu-west-1", endpoint=f"http://127.0.0.1:{port}").read("a"))
    assert (refused.value.code, refused.value.passing) == (UNREACHABLE, True)


def test_a_body_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    head = 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\nETag: "x"\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n\r\n'
    with wire(lambda _: head.encode() + b"abc", idle=0.2) as there:
        bucket = Bucket("s3://rows", region="eu-west-1", endpoint=there.url)
        there_soon = tmp_path / "results"

        async def fetch() -> None:
            closing = asyncio.get_running_loop().call_later(0.5, there.hang_up)
            await bucket.get_file("a", there_soon)
            closing.cancel()

        with pytest.raises((OutcomeUnknown, Refused)) as broken:
            asyncio.run(fetch())
    assert isinstance(broken.value, OutcomeUnknown) or broken.value.passing
    assert not there_soon.exists()


def test_a_full_disk_is_not_the_stores_fault(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"rows")
    asyncio.run(bucket.put_file("a", path))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        asyncio.run(bucket.get_file("a", tmp_path / "results"))
    assert not (tmp_path / "results").exists()
    monkeypatch.undo()
    with pytest.raises(StorageError, match="No such file"):
        asyncio.run(bucket.get_file("a", tmp_path / "nowhere" / "results"))


def test_without_credentials_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    # Where obstore would look for them by itself.
    with wire(server("500 Oops")) as there:
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", there.url)
        with pytest.raises(SettingsError, match="no credentials for AWS"):
            asyncio.run(Bucket("s3://rows", region="eu-west-1", endpoint=there.url).read("a"))
        assert there.asked == []


def test_a_profile_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(SettingsError, match="nobody"):
        AwsChain().keys()


@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"),
            st.sampled_from(("", "a", "b")),
        ),
    ),
    st.sampled_from(("", "2099-01-01T00:00:00Z")),
)
def test_keys_of_the_environment_are_those_of_the_chain(variables: dict[str, str], ends: str) -> None:
    variables["AWS_CREDENTIAL_EXPIRATION"] = ends
    link: Any = EnvProvider(variables)
    try:
        found = link.load()
    except PartialCredentialsError as error:
        expected: Any = str(error)
    else:
        expected = (
            tuple(found.get_frozen_credentials()[:3]) if found is not None else "no credentials for AWS"
        )
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"):
            patch.delenv(name, raising=False)
        for name, value in variables.items():
            patch.setenv(name, value)
        if isinstance(expected, str):
            with pytest.raises(SettingsError, match=re.escape(expected)):
                AwsChain().keys()
        else:
            assert AwsChain().keys() == expected


def test_keys_of_the_environment_need_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes as long to import as many a job to run."""
    monkeypatch.setitem(sys.modules, "botocore", None)
    assert AwsChain().keys() == (KEY_ID, SECRET, None)


def test_keys_that_change_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = AwsChain()
    assert chain.keys() == (KEY_ID, SECRET, None)
    given = chain.for_obstore()
    assert given["expires_at"] is not None
    for text in (repr(chain), repr(chain.keys()), f"{[AwsKeys(KEY_ID, SECRET, None)]}"):
        assert SECRET not in text


@pytest.mark.parametrize(
    ("place", "module", "extra"),
    [
        ("s3://rows", "botocore.session", "aws"),
        ("s3://rows", "obstore", "aws"),
        ("gs://rows", "google.auth", "google"),
        ("az://account/rows", "azure.identity", "azure"),
    ],
)
def test_what_is_to_be_installed_is_said(
    monkeypatch: pytest.MonkeyPatch, place: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    if module.startswith("botocore"):
        # Of keys in the environment nothing but the environment has to be asked.
        monkeypatch.setenv("AWS_PROFILE", "batch")
    with pytest.raises(SettingsError, match=rf"halfrate\[{extra}\]"):
        asyncio.run(Bucket(place, region="eu-west-1", endpoint="http://127.0.0.1:9").read("a"))


def test_azure(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in for azure-identity: the token is fetched once, and borne by the call."""
    asked: list[str] = []

    class Credential:
        def get_token(self, scope: str) -> Any:
            asked.append(scope)
            return types.SimpleNamespace(token="token-1", expires_on=4_000_000_000)

    identity: Any = types.ModuleType("azure.identity")
    identity.DefaultAzureCredential = Credential
    core: Any = types.ModuleType("azure.core.exceptions")
    core.ClientAuthenticationError = PermissionError
    monkeypatch.setitem(sys.modules, "azure.identity", identity)
    monkeypatch.setitem(sys.modules, "azure.core.exceptions", core)
    answer = server("404 Not Found", b"<Error><Code>BlobNotFound</Code><Message>no</Message></Error>")
    with wire(answer) as there:
        assert asyncio.run(Bucket("az://account/rows", endpoint=there.url).size("a")) is None
        assert "Bearer token-1" in there.asked[0].head
    assert set(asked) == {"https://storage.azure.com/.default"}
    Credential.get_token = _refused  # type: ignore[method-assign]
    with pytest.raises(SettingsError, match="az login"):
        asyncio.run(Bucket("az://account/rows", endpoint="http://127.0.0.1:9").size("a"))


@pytest.mark.parametrize(
    ("variable", "value", "borne"),
    [
        ("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0LXNlY3JldA==", "authorization: SharedKey account:"),
        ("AZURE_STORAGE_KEY", "c2VjcmV0LXNlY3JldA==", "authorization: SharedKey account:"),
        ("AZURE_STORAGE_SAS_TOKEN", "?sv=2021-08-06&sig=c2VjcmV0", "sig=c2VjcmV0"),
    ],
)
def test_keys_and_signatures_of_azure_are_used_as_they_are(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, borne: str
) -> None:
    """Without azure-identity, which is for all other credentials."""
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    monkeypatch.setenv(variable, value)
    answer = server("403 Forbidden", fault("AuthenticationFailed"))
    with wire(answer) as there:
        bucket = Bucket("az://account/rows", endpoint=there.url)
        with pytest.raises(Refused) as refused:
            asyncio.run(bucket.read("a"))
        head = there.asked[0].head
    assert borne.lower() in head.lower()
    for text in (str(refused.value), repr(bucket)):
        assert value.strip("?") not in text


def _refused(*_: object) -> Any:
    raise PermissionError("nobody is signed in")


def test_places() -> None:
    assert split("s3://rows/a/b.jsonl") == ("s3://rows", "a/b.jsonl")
    assert split("s3://rows") == ("s3://rows", "")
    assert split("az://account/rows/a/b") == ("az://account/rows", "a/b")
    for wrong in ("rows/a", "s3://", "s3:///a"):
        with pytest.raises(SettingsError, match="is not a place"):
            split(wrong)
    for wrong in ("ftp://rows", "rows", "s3://"):
        with pytest.raises(SettingsError, match="is not a bucket"):
            Bucket(wrong)
