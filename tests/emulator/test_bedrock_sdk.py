"""boto3 and obstore through real sockets: Bedrock's control plane, with the data in the emulator's S3 or in moto's."""

import json
import socket
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import boto3
import obstore
import obstore.exceptions
import pytest
from botocore.client import Config
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer
from obstore.store import S3Store

from halfrate.emulator import Emulator, Pace

from .bedrock_driver import NOVA, converse, record, records, request
from .driver import jsonl

CONFIG = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
Client = Callable[[str, str], Any]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    """Makes boto3 clients: `client(service, url)`."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "emulator")

    def make(service: str, url: str) -> Any:
        session: Any = boto3
        return session.client(service, region_name="us-east-1", endpoint_url=url, config=CONFIG)

    return make


@pytest.fixture
def moto() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


def whole_life(bedrock: Any, s3: Any) -> None:
    s3.create_bucket(Bucket="data")
    s3.put_object(Bucket="data", Key="in/a.jsonl", Body=jsonl(records(100)))
    made = bedrock.create_model_invocation_job(
        **request("hr-1-s0-a1", clientRequestToken="hr-1-s0-a1", timeoutDurationInHours=24)
    )
    arn = made["jobArn"]
    again = bedrock.create_model_invocation_job(
        **request("hr-1-s0-a1", clientRequestToken="hr-1-s0-a1", timeoutDurationInHours=24)
    )
    assert again["jobArn"] == arn
    done = bedrock.get_model_invocation_job(jobIdentifier=arn)
    assert (done["status"], done["totalRecordCount"], done["successRecordCount"]) == ("Completed", 100, 100)
    assert done["submitTime"].year > 2000
    assert done["inputDataConfig"]["s3InputDataConfig"]["s3Uri"] == "s3://data/in/a.jsonl"
    assert bedrock.get_model_invocation_job(jobIdentifier=arn[-12:])["jobName"] == "hr-1-s0-a1"
    prefix = f"out/{arn[-12:]}/"
    listed = s3.list_objects_v2(Bucket="data", Prefix=prefix)["Contents"]
    assert [one["Key"] for one in listed] == [f"{prefix}a.jsonl.out", f"{prefix}manifest.json.out"]
    lines = s3.get_object(Bucket="data", Key=f"{prefix}a.jsonl.out")["Body"].read().split(b"\n")
    found = [json.loads(line) for line in lines if line]
    assert {line["recordId"] for line in found} == {f"r-{n}" for n in range(100)}
    pages = bedrock.get_paginator("list_model_invocation_jobs").paginate(
        nameContains="hr-1", submitTimeAfter=done["submitTime"].replace(year=2000), sortBy="CreationTime"
    )
    assert [one["jobArn"] for page in pages for one in page["invocationJobSummaries"]] == [arn]
    with pytest.raises(bedrock.exceptions.ConflictException):
        bedrock.create_model_invocation_job(**request("hr-1-s0-a1"))
    with pytest.raises(bedrock.exceptions.ConflictException):
        bedrock.stop_model_invocation_job(jobIdentifier=arn)
    with pytest.raises(bedrock.exceptions.ResourceNotFoundException):
        bedrock.get_model_invocation_job(jobIdentifier="abcdefghijkl")
    s3.put_object(Bucket="data", Key="in/b.jsonl", Body=jsonl(records(3)))
    few = bedrock.create_model_invocation_job(**request("hr-2", "s3://data/in/b.jsonl"))
    failed = bedrock.get_model_invocation_job(jobIdentifier=few["jobArn"])
    assert (failed["status"], "100" in failed["message"]) == ("Failed", True)


def test_a_whole_life_with_data_in_the_emulator(client: Client, emulator: Emulator, url: str) -> None:
    whole_life(client("bedrock", f"{url}/bedrock"), client("s3", f"{url}/s3"))
    assert emulator.meter.snapshot()["rows_billed"] == 100


def test_a_whole_life_with_data_in_another_s3(client: Client, moto: str) -> None:
    with Emulator(pace=Pace.instant(), s3=moto) as emulator, emulator.running() as url:
        whole_life(client("bedrock", f"{url}/bedrock"), client("s3", moto))
        assert emulator.meter.snapshot()["rows_billed"] == 100
        assert emulator.environment(url)["bedrock"]["AWS_ENDPOINT_URL_S3"] == moto
        none = client("bedrock", f"{url}/bedrock").create_model_invocation_job(
            **request("hr-3", "s3://nobody/a.jsonl")
        )
        failed = client("bedrock", f"{url}/bedrock").get_model_invocation_job(jobIdentifier=none["jobArn"])
        assert (failed["status"], "cannot be read" in failed["message"]) == ("Failed", True)


def test_stopping(client: Client) -> None:
    with Emulator(pace=Pace(queue=60)) as slow, slow.running() as url:
        bedrock, s3 = client("bedrock", f"{url}/bedrock"), client("s3", f"{url}/s3")
        s3.put_object(Bucket="data", Key="in/a.jsonl", Body=jsonl(records(100)))
        arn = bedrock.create_model_invocation_job(**request("hr-1"))["jobArn"]
        bedrock.stop_model_invocation_job(jobIdentifier=arn)
        assert bedrock.get_model_invocation_job(jobIdentifier=arn)["status"] in {"Stopping", "Stopped"}


def test_realtime(client: Client, url: str) -> None:
    runtime = client("bedrock-runtime", f"{url}/bedrock")
    answer = runtime.converse(modelId=NOVA, messages=converse("hi")["messages"])
    assert answer["usage"]["totalTokens"] == answer["usage"]["inputTokens"] + answer["usage"]["outputTokens"]
    assert answer["output"]["message"]["content"][0]["text"]
    invoked = runtime.invoke_model(modelId=NOVA, body=json.dumps(converse("hi")))
    assert json.loads(invoked["body"].read())["stopReason"] == "end_turn"
    with pytest.raises(runtime.exceptions.ValidationException):
        runtime.converse(modelId="amazon.none-v1:0", messages=converse("hi")["messages"])


def test_s3_through_boto3(client: Client, url: str) -> None:
    s3 = client("s3", f"{url}/s3")
    s3.create_bucket(Bucket="data")
    s3.head_bucket(Bucket="data")
    big = bytes(range(256)) * 4096 * 9  # 9 MiB: boto3 sends it in parts
    s3.upload_fileobj(BytesIO(big), "data", "dir/big & é.bin")
    head = s3.head_object(Bucket="data", Key="dir/big & é.bin")
    assert head["ContentLength"] == len(big)
    assert s3.get_object(Bucket="data", Key="dir/big & é.bin")["Body"].read() == big
    part = s3.get_object(Bucket="data", Key="dir/big & é.bin", Range="bytes=10-19")
    assert (part["Body"].read(), part["ContentRange"]) == (big[10:20], f"bytes 10-19/{len(big)}")
    for n in range(5):
        s3.put_object(Bucket="data", Key=f"many/{n}", Body=b"x" * n)
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket="data", Prefix="many/", PaginationConfig={"PageSize": 2}
    )
    assert [one["Size"] for page in pages for one in page["Contents"]] == [0, 1, 2, 3, 4]
    listed = s3.list_objects_v2(Bucket="data", Delimiter="/")
    assert [one["Prefix"] for one in listed["CommonPrefixes"]] == ["dir/", "many/"]
    s3.delete_objects(Bucket="data", Delete={"Objects": [{"Key": f"many/{n}"} for n in range(4)]})
    s3.delete_object(Bucket="data", Key="many/4")
    assert s3.list_objects_v2(Bucket="data", Prefix="many/")["KeyCount"] == 0
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket="data", Key="none")
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket="data", Key="none")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket="data", Key="dir/big & é.bin", Body=b"", IfNoneMatch="*")
    upload = s3.create_multipart_upload(Bucket="data", Key="left")["UploadId"]
    s3.upload_part(Bucket="data", Key="left", UploadId=upload, PartNumber=1, Body=b"x")
    s3.abort_multipart_upload(Bucket="data", Key="left", UploadId=upload)
    with pytest.raises(s3.exceptions.NoSuchUpload):
        s3.abort_multipart_upload(Bucket="data", Key="left", UploadId=upload)


@pytest.mark.parametrize("signed", [True, False])
def test_s3_through_obstore(url: str, signed: bool) -> None:
    keys: Any = {"access_key_id": "emulator", "secret_access_key": "emulator"}
    if not signed:
        keys = {"skip_signature": True}
    store = S3Store(
        "data",
        endpoint=f"{url}/s3",
        region="us-east-1",
        client_options={"allow_http": True},
        **keys,
    )
    big = bytes(range(256)) * 4096 * 12
    obstore.put(store, "dir/big.bin", big)  # in parts: more than 5 MiB
    assert obstore.get(store, "dir/big.bin").bytes() == big
    assert bytes(obstore.get_range(store, "dir/big.bin", start=5, end=15)) == big[5:15]
    assert obstore.head(store, "dir/big.bin")["size"] == len(big)
    obstore.put(store, "dir/a b.txt", b"hello")
    listed = [meta["path"] for page in obstore.list(store, prefix="dir") for meta in page]
    assert listed == ["dir/a b.txt", "dir/big.bin"]
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        obstore.put(store, "dir/a b.txt", b"again", mode="create")
    with obstore.open_writer(store, "written.bin") as writer:
        writer.write(big)
    assert obstore.head(store, "written.bin")["size"] == len(big)
    obstore.delete(store, ["dir/a b.txt", "dir/big.bin"])
    with pytest.raises(FileNotFoundError):
        obstore.head(store, "dir/big.bin")


def test_a_signed_chunked_body(url: str, emulator: Emulator) -> None:
    """As SDKs send a stream over plain HTTP when they sign each chunk."""
    import urllib.request

    body = b"5;chunk-signature=00\r\nhello\r\n6;chunk-signature=01\r\n world\r\n0;chunk-signature=02\r\n\r\n"
    sent = urllib.request.Request(f"{url}/s3/data/key", data=body, method="PUT")  # noqa: S310
    sent.add_header("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
    with urllib.request.urlopen(sent) as answer:  # noqa: S310
        assert answer.status == 200
    with urllib.request.urlopen(f"{url}/s3/data/key") as answer:  # noqa: S310
        assert answer.read() == b"hello world"
    assert emulator.meter.files_stored == 1


def test_a_record_with_any_id(client: Client, emulator: Emulator, url: str) -> None:
    s3, bedrock = client("s3", f"{url}/s3"), client("bedrock", f"{url}/bedrock")
    given = [record(f"hr-{n}-" + "x" * 50, converse(f"hi {n}")) for n in range(100)]
    s3.put_object(Bucket="data", Key="in/a.jsonl", Body=jsonl(given))
    made = bedrock.create_model_invocation_job(
        **request("hr-1", modelId=NOVA, modelInvocationType="Converse")
    )
    done = bedrock.get_model_invocation_job(jobIdentifier=made["jobArn"])
    assert (done["modelInvocationType"], done["successRecordCount"]) == ("Converse", 100)
    assert emulator.meter.snapshot()["batches_created_by_provider"] == {"bedrock": 1}
