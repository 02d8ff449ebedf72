"""Where Bedrock's data lies: a bucket of the emulator's own S3, or of one that is reached over HTTP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from halfrate.emulator._context import Context
from halfrate.emulator._gcs_store import Buckets
from halfrate.emulator._wire import CHUNK_BYTES

_PAGE = 1_000


class BucketError(Exception):
    """The bucket, or what should be in it, cannot be reached; the message says what and why."""


class Bucket(Protocol):
    """What a Bedrock job needs of a bucket. Every call may raise BucketError."""

    def get(self, key: str) -> Iterator[bytes]:
        """An object's bytes."""
        ...

    def put(self, key: str, path: Path) -> None:
        """Store the file that lies at `path`; the bucket takes it over."""
        ...

    def list(self, prefix: str) -> list[tuple[str, int]]:
        """(key, size) of every object whose key begins so, in order."""
        ...


class LocalBucket:
    """A bucket of the emulator's own S3."""

    def __init__(self, context: Context, name: str) -> None:
        self._buckets: Buckets = context.s3_buckets
        self._context = context
        self._name = name

    def get(self, key: str) -> Iterator[bytes]:
        found = self._buckets.get(self._name, key)
        if found is None:
            raise BucketError(f"s3://{self._name}/{key} does not exist")
        return found.chunks(0, found.size)

    def put(self, key: str, path: Path) -> None:
        self._buckets.put(self._name, key, path, self._context.clock.now())

    def list(self, prefix: str) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        after = ""
        while True:
            page, _, after = self._buckets.page(self._name, prefix, "", after, _PAGE)
            found += [(stored.name, stored.size) for stored in page]
            if not after:
                return found


class RemoteBucket:
    """A bucket behind an S3 endpoint, by botocore, with the credentials of the environment or none that matter."""

    def __init__(self, context: Context, url: str, name: str) -> None:
        self._context = context
        self._url = url
        self._name = name
        self._made: Any = None

    @property
    def _client(self) -> Any:
        if self._made is None:
            from botocore.config import Config
            from botocore.session import Session

            session: Any = Session()
            if session.get_credentials() is None:
                session.set_credentials("emulator", "emulator")
            config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 3})
            region = session.get_config_variable("region") or "us-east-1"
            self._made = session.create_client(
                "s3", region_name=region, endpoint_url=self._url, config=config
            )
        return self._made

    def _call(self, name: str, **arguments: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self._client, name)(Bucket=self._name, **arguments)
        except (BotoCoreError, ClientError) as error:
            raise BucketError(f"s3://{self._name}: {error}") from error

    def get(self, key: str) -> Iterator[bytes]:
        return self._call("get_object", Key=key)["Body"].iter_chunks(CHUNK_BYTES)

    def put(self, key: str, path: Path) -> None:
        with path.open("rb") as source:
            self._call("put_object", Key=key, Body=source)
        self._context.spool.drop(path)

    def list(self, prefix: str) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        more: dict[str, str] = {}
        while True:
            page = self._call("list_objects_v2", Prefix=prefix, **more)
            found += [(one["Key"], one["Size"]) for one in page.get("Contents", ())]
            if not page.get("IsTruncated"):
                return found
            more = {"ContinuationToken": page["NextContinuationToken"]}


def bucket_of(context: Context, name: str) -> Bucket:
    """The bucket of that name, wherever the emulator's S3 is."""
    url = context.s3_url
    return LocalBucket(context, name) if url is None else RemoteBucket(context, url, name)
