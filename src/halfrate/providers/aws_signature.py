"""Signature version 4, by which AWS knows who calls ("Signing AWS API requests" in the IAM user guide).

Written out here because botocore's takes as long to import as ten thousand rows take to run. The tests hold it against
botocore's.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

from halfrate.providers.object_credentials import AwsKeys

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_PORTS: Final = {"http": 80, "https": 443}


def signed(
    method: str, url: str, body: bytes | None, keys: AwsKeys, *, service: str, region: str, at: datetime
) -> Mapping[str, str]:
    """The headers that make a call one of the keys' owner. `at`: now, in UTC."""
    place = urlsplit(url)
    moment = at.strftime("%Y%m%dT%H%M%SZ")
    headers = {"X-Amz-Date": moment}
    if keys.token:
        headers["X-Amz-Security-Token"] = keys.token
    borne = sorted({"host": _host(place), **{name.lower(): text for name, text in headers.items()}}.items())
    names = ";".join(name for name, _ in borne)
    request = (
        method,
        _path(place.path),
        _query(place.query),
        *(f"{name}:{' '.join(text.split())}" for name, text in borne),
        "",
        names,
        hashlib.sha256(body or b"").hexdigest(),
    )
    scope = (moment[:8], region, service, "aws4_request")
    told = (_ALGORITHM, moment, "/".join(scope), hashlib.sha256("\n".join(request).encode()).hexdigest())
    key = f"AWS4{keys.secret_key}".encode()
    for part in (*scope, "\n".join(told)):
        key = hmac.digest(key, part.encode(), "sha256")
    credential = "/".join((keys.access_key, *scope))
    headers["Authorization"] = (
        f"{_ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={key.hex()}"
    )
    return headers


def _host(place: SplitResult) -> str:
    host = place.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    return host if place.port in {None, _PORTS.get(place.scheme)} else f"{host}:{place.port}"


def _path(path: str) -> str:
    """Quoted once more than it is sent, in the plain form of RFC 3986 (5.2.4) and without empty parts."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    end = "/" if parts and path.endswith("/") else ""
    return quote(f"/{'/'.join(parts)}{end}", safe="/~")


def _query(query: str) -> str:
    pairs = sorted(pair.partition("=")[::2] for pair in query.split("&")) if query else []
    return "&".join(f"{name}={value}" for name, value in pairs)
