"""What Bedrock is asked, and what is made of its answers: signatures, listings, states, refusals."""

import asyncio
import datetime
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import botocore.auth
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from halfrate.base.errors import HELD_UP, OutcomeUnknown, Refused, SettingsError
from halfrate.base.results import Kind, Tokens
from halfrate.providers.aws_signature import signed
from halfrate.providers.base import Account, Blame, Call, CallRefused, Intent
from halfrate.providers.bedrock import Bedrock
from halfrate.providers.bedrock_wire import fault_in, folder_of, region_of, runtime_url
from halfrate.providers.object_credentials import AwsKeys
from halfrate.providers.registry import account_of, decoder

from .wire import HANG_UP, RESET, Asked, reply, wire

ROLE = "arn:aws:iam::123456789012:role/batch"
ARN = "arn:aws:bedrock:us-east-1:123456789012:model-invocation-job/abcdefgh1234"
TAG = "hr-k3v9x2m4qp-0-1"
MODEL = "us.anthropic.claude-x-v1:0"
PREFIX = f"{TAG}-"
# The example of AWS's documentation of signature version 4.
KEY_ID, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
Answers = Callable[[Asked], bytes]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("AWS_", "HALFRATE_BEDROCK")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    path = tmp_path / "requests"
    body = {"anthropic_version": "bedrock-2023-05-31", "messages": []}
    path.write_text(json.dumps({"recordId": f"{PREFIX}0", "modelInput": body}) + "\n")
    return path


def bedrock(url: str, key: str = "", **more: str) -> Bedrock:
    settings = {"region": "us-east-1", "role": ROLE, "bucket": "s3://rows/in", "s3_url": f"{url}/s3", **more}
    return Bedrock(Account(provider="bedrock", base_url=url, key=key, settings=settings))


def intent(requests: Path, **more: Any) -> Intent:
    place = f"s3://rows/in/{TAG}.jsonl"
    given: dict[str, Any] = {
        "tag": TAG,
        "endpoint": "messages",
        "model": MODEL,
        "rows": 100,
        "file_id": place,
    }
    given |= {"requests": requests, "row_prefix": PREFIX, **more}
    return Intent(**given)


def document(body: Any, status: str = "200 OK", **headers: str) -> bytes:
    return reply(json.dumps(body).encode(), status, **headers)


def refused(name: str, message: str, status: str = "400 Bad Request", **more: str) -> bytes:
    kind = f"{name}:http://internal.amazon.com/coral/com.amazon.bedrock/"
    return document({"message": message}, status, x_amzn_errortype=kind, x_amzn_requestid="req-1", **more)


def run(answer: Answers, ask: Callable[[Bedrock], Any], **more: str) -> tuple[Any, list[Asked]]:
    """What came of it, an error too, and what was asked."""
    with wire(answer) as there:

        async def one() -> Any:
            adapter = bedrock(there.url, **more)
            try:
                return await ask(adapter)
            except (Refused, OutcomeUnknown) as error:
                return error
            finally:
                await adapter.close()

        return asyncio.run(one()), there.asked


# ---------------------------------------------------------------- signatures


def stopped_at(moment: datetime.datetime) -> Callable[..., datetime.datetime]:
    """A clock that stands still."""

    def now(*_: object, **__: object) -> datetime.datetime:
        return moment

    return now


def test_a_known_signature() -> None:
    """`get-vanilla` of the test suite of signature version 4, at the moment of that suite."""
    moment = datetime.datetime(2015, 8, 30, 12, 36, 0, tzinfo=datetime.UTC)
    keys = AwsKeys(KEY_ID, SECRET, None)
    url = "https://example.amazonaws.com/"
    headers = signed("GET", url, b"", keys, service="service", region="us-east-1", at=moment)
    assert headers["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        "SignedHeaders=host;x-amz-date, Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
    )
    assert headers["X-Amz-Date"] == "20150830T123600Z"


URLS = st.builds(
    "{}://{}{}{}{}".format,
    st.sampled_from(("http", "https")),
    st.sampled_from(("Bedrock.us-east-1.amazonaws.com", "127.0.0.1", "[::1]")),
    st.sampled_from(("", ":80", ":443", ":8000")),
    st.text("ab/.%2F~ü+:=", max_size=12).map(lambda path: f"/{path}" if path else ""),
    st.text("ab=&%2F~+-", max_size=12).map(lambda query: f"?{query}" if query else ""),
)


@given(
    method=st.sampled_from(("GET", "POST", "DELETE")),
    url=URLS,
    body=st.none() | st.binary(),
    keys=st.builds(
        AwsKeys, st.text("Ab0", min_size=1), st.text("Ab0/+ü", min_size=1), st.none() | st.text("a /+= ")
    ),
    at=st.integers(1_500_000_000, 4_000_000_000).map(
        lambda at: datetime.datetime.fromtimestamp(at, datetime.UTC)
    ),
)
def test_signatures_are_botocores(
    method: str, url: str, body: bytes | None, keys: AwsKeys, at: datetime.datetime
) -> None:
    theirs: Any = AWSRequest(method=method, url=url, data=body)
    auth: Any = SigV4Auth(Credentials(*keys), "bedrock", "eu-west-1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", stopped_at(at))
        auth.add_auth(theirs)
    ours = signed(method, url, body, keys, service="bedrock", region="eu-west-1", at=at)
    assert ours == dict(theirs.headers.items())


def test_what_is_sent_is_what_was_signed(requests: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signature of each call on the wire is the one that botocore makes of what came there."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token/1+2=")

    def answer(asked: Asked) -> bytes:
        if asked.head.startswith("POST /model/"):
            return document({"content": [], "usage": {}})
        return document({"jobArn": ARN, "invocationJobSummaries": []})

    async def ask(adapter: Bedrock) -> None:
        await adapter.create(intent(requests))
        await adapter.find(intent(requests), 1_800_000_000.0)
        await adapter.poll(ARN)
        await adapter.cancel(ARN)
        await adapter.call(
            Call(endpoint="messages", model=MODEL, row_id=f"{PREFIX}7", body=b'{"messages":[]}')
        )

    _, asked = run(answer, ask)
    assert len(asked) == 5
    for one in asked:
        method, path, _ = one.head.split("\r\n")[0].split(" ")
        headers = dict(line.split(": ", 1) for line in one.head.split("\r\n")[1:])
        assert headers["X-Amz-Security-Token"] == "token/1+2="
        at = datetime.datetime.strptime(headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
        monkeypatch.setattr(botocore.auth, "get_current_datetime", stopped_at(at))
        again = AWSRequest(method=method, url=f"http://{headers['Host']}{path}", data=one.body)
        auth: Any = SigV4Auth(Credentials(KEY_ID, SECRET, "token/1+2="), "bedrock", "us-east-1")
        auth.add_auth(again)
        assert headers["Authorization"] == again.headers["Authorization"]
        assert SECRET not in one.head
    paths = [one.head.split(" ")[1] for one in asked]
    quoted = ARN.replace(":", "%3A").replace("/", "%2F")
    assert paths[2:4] == [f"/model-invocation-job/{quoted}", f"/model-invocation-job/{quoted}/stop"]
    assert paths[4] == "/model/us.anthropic.claude-x-v1%3A0/converse"


def test_a_key_of_bedrocks_own_is_borne_and_masked(requests: Path) -> None:
    def answer(asked: Asked) -> bytes:
        return refused("AccessDeniedException", f"not with {asked.head.partition('Bearer ')[2][:21]}")

    error, asked = run(answer, lambda adapter: adapter.create(intent(requests)), key="bedrock-api-key-12345")
    assert "Authorization: Bearer bedrock-api-key-12345" in asked[0].head
    assert (error.credentials, error.code) == (True, "AccessDeniedException")
    assert "[key]" in str(error)
    assert "12345" not in str(error)


def test_without_credentials_nothing_leaves(requests: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    call = Call(endpoint="messages", model=MODEL, row_id=f"{PREFIX}7", body=b"{}")
    asks: tuple[Callable[[Bedrock], Any], ...] = (
        lambda adapter: adapter.create(intent(requests)),
        lambda adapter: adapter.call(call),
    )
    for ask in asks:
        error, asked = run(lambda _: document({}), ask)
        assert asked == []
        assert isinstance(error, Refused)
        assert error.credentials
        assert "no credentials for AWS" in str(error)


# ---------------------------------------------------------------- the create


def test_what_a_create_says(requests: Path) -> None:
    view, asked = run(
        lambda _: document({"jobArn": ARN}),
        lambda adapter: adapter.create(intent(requests, options={"window": "72h"})),
    )
    assert (view.batch_id, view.ended, view.accepted) == (ARN, False, False)
    assert json.loads(asked[0].body) == {
        "jobName": TAG,
        "clientRequestToken": TAG,
        "roleArn": ROLE,
        "modelId": MODEL,
        "modelInvocationType": "InvokeModel",
        "inputDataConfig": {
            "s3InputDataConfig": {"s3Uri": f"s3://rows/in/{TAG}.jsonl", "s3InputFormat": "JSONL"}
        },
        "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": f"s3://rows/in/{TAG}/"}},
        "timeoutDurationInHours": 72,
    }


def test_the_rows_say_how_they_are_run(requests: Path) -> None:
    requests.write_text('{"recordId":"a","modelInput":{"messages":[]}}\n')
    _, asked = run(lambda _: document({"jobArn": ARN}), lambda adapter: adapter.create(intent(requests)))
    assert json.loads(asked[0].body)["modelInvocationType"] == "Converse"
    assert json.loads(asked[0].body)["timeoutDurationInHours"] == 24


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (refused("ConflictException", "The job name is already in use"), "unknown"),
        (refused("InternalServerException", "oops", "500 Internal Server Error"), "unknown"),
        (document({"message": "gateway"}, "504 Gateway Timeout"), "unknown"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{x}", "unknown"),
        (HANG_UP, "unknown"),
        (RESET, "unknown"),
        (refused("ServiceQuotaExceededException", "too many jobs"), "full"),
        (refused("ThrottlingException", "slow", "429 Too Many Requests", Retry_After="7"), "passing"),
        (refused("ThrottlingException", "slow"), "passing"),
        (refused("ServiceUnavailableException", "busy", "503 Service Unavailable"), "unknown"),
        (refused("AccessDeniedException", "no", "403 Forbidden"), "credentials"),
        (refused("ExpiredTokenException", "old"), "credentials"),
        (refused("ValidationException", "retry with an inference profile"), "final"),
        (refused("ResourceNotFoundException", "no such model", "404 Not Found"), "final"),
    ],
)
def test_what_a_refused_create_means(requests: Path, answer: bytes, what: str) -> None:
    error, asked = run(lambda _: answer, lambda adapter: adapter.create(intent(requests)))
    assert len(asked) == 1
    if what == "unknown":
        assert isinstance(error, OutcomeUnknown)
        return
    assert isinstance(error, Refused)
    assert error.queue_full == (what == "full")
    assert error.credentials == (what == "credentials")
    assert error.passing == (what in {"full", "passing"})
    assert "(request req-1)" in str(error)
    # The life cycle takes a 400 that speaks of a file to be about the request file.
    assert not (error.status == 400 and "file" in str(error))


def test_a_create_that_was_held_up_is_not_sent(requests: Path) -> None:
    late = intent(requests, in_time=lambda: False)
    error, asked = run(lambda _: document({"jobArn": ARN}), lambda adapter: adapter.create(late))
    assert (error.code, asked) == (HELD_UP, [])


# ---------------------------------------------------------------- looking


def test_every_page_is_looked_through_for_the_name(requests: Path) -> None:
    def answer(asked: Asked) -> bytes:
        query = parse_qs(urlsplit(asked.head.split(" ")[1]).query)
        if "nextToken" not in query:
            others = [
                {"jobArn": "a1", "jobName": f"{TAG}0"},
                {"jobArn": "a2", "jobName": TAG, "status": "Failed"},
            ]
            return document({"invocationJobSummaries": others, "nextToken": "to/ken+1="})
        assert query["nextToken"] == ["to/ken+1="]
        return document(
            {"invocationJobSummaries": [{"jobArn": "a3", "jobName": TAG}, {"jobArn": "a4", "jobName": TAG}]}
        )

    look = intent(requests, made_at=1_800_000_000.0, past=("a4",))
    found, asked = run(answer, lambda adapter: adapter.find(look, 1_800_000_900.0))
    assert (found.found, found.held) == (("a3", "a2"), None)
    query = parse_qs(urlsplit(asked[0].head.split(" ")[1]).query)
    assert (query["nameContains"], query["submitTimeAfter"]) == ([TAG], ["2027-01-15T07:55:00Z"])


def test_a_look_that_fails_says_nothing(requests: Path) -> None:
    answer = refused("AccessDeniedException", "no listing", "403 Forbidden")
    error, _ = run(lambda _: answer, lambda adapter: adapter.find(intent(requests), 1.8e9))
    assert isinstance(error, Refused)


def job(status: str, **more: Any) -> dict[str, Any]:
    return {
        "jobArn": ARN,
        "jobName": TAG,
        "status": status,
        "inputDataConfig": {"s3InputDataConfig": {"s3Uri": f"s3://rows/in/{TAG}.jsonl"}},
        "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": f"s3://rows/in/{TAG}/"}},
        **more,
    }


FOLDER = f"in/{TAG}/abcdefgh1234"
RESULTS, MANIFEST = f"{FOLDER}/{TAG}.jsonl.out", f"{FOLDER}/manifest.json.out"


def store(found: dict[str, Any], *keys: str, manifest: bytes = b'{"processedRecordCount":9}') -> Answers:
    """A job, and what lies in the bucket."""

    def answer(asked: Asked) -> bytes:
        path = asked.head.split(" ")[1]
        if not path.startswith("/s3/"):
            return document(found)
        if "list-type" in path:
            assert f"prefix={FOLDER}".replace("/", "%2F") in path.replace("/", "%2F")
            rows = "".join(
                f"<Contents><Key>{key}</Key><LastModified>2026-11-20T10:00:00.000Z</LastModified><Size>3</Size>"
                '<ETag>"x"</ETag></Contents>'
                for key in keys
            )
            listing = f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
            return reply(listing.encode(), Content_Type="application/xml")
        assert path == f"/s3/rows/{MANIFEST}"
        when = "Wed, 21 Oct 2015 07:28:00 GMT"
        return reply(manifest, Last_Modified=when, ETag='"x"')

    return answer


@pytest.mark.parametrize(
    "status", ["Submitted", "Validating", "Scheduled", "InProgress", "Stopping", "Resting"]
)
def test_a_job_at_work(status: str) -> None:
    view, asked = run(lambda _: document(job(status, processedRecordCount=3)), lambda a: a.poll(ARN))
    assert (view.ended, view.status, view.rows_finished) == (False, status, 3)
    assert view.accepted == (status not in {"Submitted", "Validating"})
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("status", "absent"),
    [
        ("Completed", Kind.MISSING),
        ("PartiallyCompleted", Kind.EXPIRED),
        ("Failed", Kind.MISSING),
        ("Stopped", Kind.CANCELLED),
        ("Expired", Kind.EXPIRED),
    ],
)
def test_every_end_is_harvested(status: str, absent: Kind) -> None:
    done = job(status, message="oops", successRecordCount=3, errorRecordCount=1)
    view, _ = run(store(done, MANIFEST, RESULTS), lambda adapter: adapter.poll(ARN))
    assert (view.ended, view.accepted, view.absent, view.failure) == (True, True, absent, None)
    assert view.files == (f"s3://rows/{RESULTS}",)
    assert view.leftovers == (f"s3://rows/in/{TAG}.jsonl", f"s3://rows/{MANIFEST}", f"s3://rows/{RESULTS}")
    # What lies beside the results knows it best.
    assert view.rows_finished == 9


@pytest.mark.parametrize("manifest", [b"not json", b"{}", b'{"processedRecordCount":null}'])
def test_a_manifest_that_says_nothing(manifest: bytes) -> None:
    done = job("Completed", processedRecordCount=4)
    view, _ = run(store(done, MANIFEST, RESULTS, manifest=manifest), lambda adapter: adapter.poll(ARN))
    assert view.rows_finished == 4


@pytest.mark.parametrize(
    ("status", "counted", "files"),
    [
        ("Completed", None, 1),
        ("PartiallyCompleted", 0, 1),
        ("Stopped", 3, 1),
        ("Stopped", 0, 0),
        ("Expired", None, 0),
    ],
)
def test_results_that_are_gone_are_looked_for_and_not_paid_again(
    status: str, counted: int | None, files: int, tmp_path: Path
) -> None:
    view, _ = run(store(job(status, processedRecordCount=counted)), lambda adapter: adapter.poll(ARN))
    assert view.files == (f"s3://rows/{RESULTS}",) * files
    assert view.leftovers == (f"s3://rows/in/{TAG}.jsonl",)
    if files:
        gone = reply(b"<Error><Code>NoSuchKey</Code></Error>", "404 Not Found")
        error, _ = run(lambda _: gone, lambda adapter: adapter.fetch(view, lambda n: tmp_path / str(n)))
        # After a while the life cycle takes that for an answer, and leaves the rows failed.
        assert error.status == 404


@pytest.mark.parametrize(
    ("message", "hopeless"),
    [
        ("The job has 12 records. It has to have at least 100 of them.", True),
        ("Access denied when reading s3://rows", True),
        ("The role does not have permission to write", True),
        ("x.jsonl, line 3: the record is malformed.", True),
        ("The records are not in a supported format", True),
        ("Internal error. Please try again.", False),
        ("Internal failure; at least one worker was lost", False),
        ("more information follows", False),
        (None, False),
    ],
)
def test_a_failed_job(message: str | None, hopeless: bool) -> None:
    view, _ = run(store(job("Failed", message=message)), lambda adapter: adapter.poll(ARN))
    assert (view.ended, view.files, view.hopeless) == (True, (), hopeless)
    assert view.failure == ("failed", message or "Amazon Bedrock gave no reason")


def test_a_bucket_that_is_gone_is_not_a_job_that_is_unknown() -> None:
    def answer(asked: Asked) -> bytes:
        if asked.head.startswith("GET /s3/"):
            return reply(b"<Error><Code>NoSuchBucket</Code></Error>", "404 Not Found")
        return document(job("Completed"))

    view, _ = run(answer, lambda adapter: adapter.poll(ARN))
    assert view.files == (f"s3://rows/{RESULTS}",)
    missing = refused("ResourceNotFoundException", "no such job", "404 Not Found")
    error, _ = run(lambda _: missing, lambda adapter: adapter.poll(ARN))
    assert error.status == 404


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        (document({}), False),
        (refused("ConflictException", "its status is Completed"), False),
        (refused("ValidationException", "it has ended"), False),
        (refused("ResourceNotFoundException", "no such job", "404 Not Found"), False),
        (refused("AccessDeniedException", "no", "403 Forbidden"), True),
    ],
)
def test_a_cancel_of_what_has_ended_is_no_error(answer: bytes, raised: bool) -> None:
    error, asked = run(lambda _: answer, lambda adapter: adapter.cancel(ARN))
    assert asked[0].head.startswith("POST ")
    assert (error is not None) == raised


# ---------------------------------------------------------------- real time


CALL = Call(
    endpoint="messages", model=MODEL, row_id=f"{PREFIX}7", body=b'{"anthropic_version":"x","messages":[]}'
)


def test_a_call_is_a_result_line() -> None:
    body = {"model": "claude", "content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn"}
    done = reply(json.dumps({**body, "usage": {"input_tokens": 3, "output_tokens": 1}}, indent=1).encode())
    answered, asked = run(lambda _: done, lambda adapter: adapter.call(CALL))
    assert asked[0].head.startswith("POST /model/us.anthropic.claude-x-v1%3A0/invoke ")
    assert asked[0].body == CALL.body
    assert answered.tier == "standard"
    reader = decoder("bedrock").line_reader("messages", PREFIX)
    assert reader.plain is not None
    assert reader.plain([answered.line]).numbers == [7]
    row = reader.general(answered.line)
    assert (row.kind, row.tokens, row.answer) == (Kind.SUCCEEDED, Tokens(3, output=1), b'"a"')


@pytest.mark.parametrize(
    ("answer", "blame", "kind"),
    [
        (refused("ValidationException", "no"), Blame.ROW, Kind.FAILED),
        (refused("ThrottlingException", "slow", "429 Too Many Requests"), Blame.LOAD, Kind.FAILED_PASSING),
        (refused("ServiceQuotaExceededException", "slow"), Blame.LOAD, Kind.FAILED),
        (refused("ModelErrorException", "oops", "424 Failed Dependency"), Blame.FAULT, Kind.FAILED_PASSING),
        (refused("ModelNotReadyException", "wait", "429 Too Many Requests"), Blame.LOAD, Kind.FAILED_PASSING),
        (refused("ModelTimeoutException", "long", "408 Request Timeout"), Blame.FAULT, Kind.FAILED_PASSING),
        (refused("InternalServerException", "oops", "500 Oops"), Blame.FAULT, Kind.FAILED_PASSING),
        (refused("AccessDeniedException", "no", "403 Forbidden"), Blame.ACCOUNT, Kind.FAILED),
        (refused("ExpiredTokenException", "old"), Blame.ACCOUNT, Kind.FAILED),
    ],
)
def test_a_call_that_is_refused(answer: bytes, blame: Blame, kind: Kind) -> None:
    error, _ = run(lambda _: answer, lambda adapter: adapter.call(CALL))
    assert isinstance(error, CallRefused)
    assert error.blame is blame
    row = decoder("bedrock").line_reader("messages", PREFIX).general(error.line)
    assert (row.row, row.kind) == (7, kind)


@pytest.mark.parametrize(
    "answer",
    [
        reply(b"<html>", "502 Bad Gateway"),
        reply(b"<html>", "504 Gateway Timeout"),
        reply(b"[1]"),
        HANG_UP,
        RESET,
    ],
)
def test_a_call_of_which_nothing_is_known(answer: bytes) -> None:
    error, asked = run(lambda _: answer, lambda adapter: adapter.call(CALL))
    assert isinstance(error, OutcomeUnknown)
    assert len(asked) == 1


def test_a_stream_is_not_asked_for() -> None:
    call = Call(endpoint="messages", model=MODEL, row_id=f"{PREFIX}7", body=b'{"stream":true}')
    error, asked = run(lambda _: document({}), lambda adapter: adapter.call(call))
    assert (error.blame, asked) == (Blame.ROW, [])


# ---------------------------------------------------------------- accounts and places


def test_the_account_is_the_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("HALFRATE_BEDROCK_ROLE", ROLE)
    monkeypatch.setenv("HALFRATE_BEDROCK_BUCKET", "s3://rows")
    account = account_of("bedrock")
    assert (account.name, account.key) == ("bedrock@https://bedrock.eu-west-1.amazonaws.com", "")
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key-12345")
    assert account_of("bedrock").key == "bedrock-api-key-12345"
    for text in (repr(account_of("bedrock")), repr(Bedrock(account_of("bedrock")))):
        assert "12345" not in text
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK", "http://there/bedrock")
    assert account_of("bedrock").name == "bedrock@http://there/bedrock"


def test_places() -> None:
    for url, region, runtime in (
        (
            "https://bedrock.eu-west-1.amazonaws.com",
            "eu-west-1",
            "https://bedrock-runtime.eu-west-1.amazonaws.com",
        ),
        (
            "https://bedrock-fips.us-gov-west-1.amazonaws.com",
            "us-gov-west-1",
            "https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com",
        ),
        ("http://127.0.0.1:1/bedrock", "else", "http://127.0.0.1:1/bedrock"),
        ("https://vpce-1.bedrock.eu-west-1.vpce.amazonaws.com", "else", None),
    ):
        assert region_of(url, "else") == region
        assert runtime_url(url) == (runtime or url)
    assert folder_of("s3://rows/a/b/") == "s3://rows/a/b"
    assert folder_of("rows") == "s3://rows"
    for wrong in ("s3://", "gs://rows", "s3://rows/a b", "s3://rows/a//b", "s3://rows/ä"):
        with pytest.raises(SettingsError, match="is not a place"):
            folder_of(wrong)


@pytest.mark.parametrize(
    ("body", "header", "name", "message"),
    [
        (b'{"message":"m"}', "AException:http://x", "AException", "m"),
        (b'{"Message":"m"}', "com.amazon#AException", "AException", "m"),
        (b'{"message":"m","__type":"com.amazon.coral#AException"}', None, "AException", "m"),
        (b"", "AException", "AException", None),
        (b'{"message":"m"}', None, "", "m"),
    ],
)
def test_errors_have_a_name(body: bytes, header: str | None, name: str, message: str | None) -> None:
    fault = fault_in(body, header)
    assert fault is not None
    assert (fault.name, fault.message) == (name, message)


@pytest.mark.parametrize("body", [b"<html>", b"", b"{}", b'{"message":3}', b"[]"])
def test_what_is_not_awss(body: bytes) -> None:
    assert fault_in(body, None) is None


def test_no_key_is_in_a_query() -> None:
    _, asked = run(lambda _: document(job("InProgress")), lambda adapter: adapter.poll(ARN))
    assert not re.search("X-Amz-Signature", asked[0].head.split("\r\n")[0])
