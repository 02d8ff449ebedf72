"""How AWS is asked, and how it says no: signatures, exceptions by name, places in S3.

Facts are from botocore 1.44.5 (services `bedrock` and `bedrock-runtime`, both signed as `bedrock`; protocol restJson1).
"""

import http.client
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from halfrate.base.errors import Refused, SettingsError
from halfrate.providers.answers import retry_after
from halfrate.providers.aws_signature import signed
from halfrate.providers.calls import Fault
from halfrate.providers.http import Http, Sign
from halfrate.providers.object_credentials import AwsChain

TITLE: Final = "Amazon Bedrock"
ERROR_TYPE: Final = "x-amzn-errortype"
"""The header of an error's name."""
_ERROR_BODY: Final = 64 << 10
_SERVICE: Final = "bedrock"
_HOST: Final = re.compile(r"^https?://bedrock(?:-fips)?\.([a-z]{2}[a-z0-9-]+-\d)\.")
_KEY: Final = re.compile(r"[-!_*'().a-z0-9A-Z/]*")
# What these mean does not depend on the status that they come with.
_STATUSES: Final = {
    "ThrottlingException": 429,
    "TooManyRequestsException": 429,
    "AccessDeniedException": 403,
    "ExpiredTokenException": 403,
    "InvalidSignatureException": 403,
    "MissingAuthenticationTokenException": 403,
    "UnrecognizedClientException": 403,
}


class _Body(msgspec.Struct):
    message: str | None = None
    other: str | None = msgspec.field(name="Message", default=None)
    kind: str | None = msgspec.field(name="__type", default=None)


def fault_in(body: bytes, header: str | None) -> Fault | None:
    """AWS's own error in an answer: a message in the body, a name in a header or in the body. None where there is
    neither: something on the way answered."""
    try:
        found = msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _Body()
    # Both may stand in a name space, or before a URL.
    name = (header or found.kind or "").partition(":")[0].rpartition("#")[2].strip()
    message = found.message or found.other
    if not name and message is None:
        return None
    return Fault(message=message, code=name or None)


def status_of(status: int, fault: Fault | None) -> int:
    """The status that an error would have if all of AWS gave the same ones."""
    return _STATUSES.get(fault.name, status) if fault is not None else status


class AwsHttp(Http):
    """Calls to AWS."""

    def _refusal(self, response: http.client.HTTPResponse, secrets: Sequence[str]) -> Refused:
        fault = fault_in(response.read(_ERROR_BODY), response.getheader(ERROR_TYPE))
        message = (fault and fault.message) or response.reason or "no reason given"
        for secret in secrets:
            message = message.replace(secret, "[key]")
        name = response.getheader("x-amzn-requestid")
        where = f" (request {name})" if name else ""
        return Refused(
            f"{self._title} answered {response.status}: {message}{where}",
            status=status_of(response.status, fault),
            code=fault.name if fault is not None else "",
            retry_after=retry_after(response),
        )


def signer(region: str, chain: AwsChain) -> Sign:
    """Signs calls with the keys of the chain (signature version 4). The key itself goes nowhere."""

    def sign(method: str, url: str, body: bytes | None) -> Mapping[str, str]:
        return signed(method, url, body, chain.keys(), service=_SERVICE, region=region, at=datetime.now(UTC))

    return sign


def region_of(url: str, otherwise: str) -> str:
    """The region that a place is in, where its name says so: signatures name it."""
    found = _HOST.match(url)
    return found[1] if found is not None else otherwise


def runtime_url(url: str) -> str:
    """Where the models are called, from where the jobs are. A place that is not AWS's own serves both."""
    return re.sub(r"^(https?://bedrock)(-fips)?\.", r"\1-runtime\2.", url) if _HOST.match(url) else url


def folder_of(place: str) -> str:
    """A place in S3 as it is set, without a slash at its end. Raises SettingsError for what Bedrock would refuse."""
    bare = place.strip().removeprefix("s3://").strip("/")
    bucket, _, folder = bare.partition("/")
    if not bucket or "://" in bare or not _KEY.fullmatch(bare) or "//" in folder:
        raise SettingsError(
            f"{place!r} is not a place for the rows of Bedrock's batches. Write s3://BUCKET or s3://BUCKET/FOLDER, "
            "with letters, digits and -_.!*'() in it. Nothing was sent."
        )
    return f"s3://{bare}"
