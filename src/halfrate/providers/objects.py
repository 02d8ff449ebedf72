"""Object stores: where some providers read a batch's rows from, and write its results to.

One client for Amazon S3, Google Cloud Storage, Azure Blob Storage and folders of this machine, over obstore: it moves
whole files in constant memory and repeats what a broken connection cut off.
"""

import asyncio
import os
import re
from collections.abc import Awaitable
from datetime import timedelta
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from halfrate.base.errors import (
    UNREACHABLE,
    HalfrateError,
    OutcomeUnknown,
    Refused,
    SettingsError,
    StorageError,
)
from halfrate.providers.files import unwritten
from halfrate.providers.http import unreadable
from halfrate.providers.object_credentials import AwsChain, AzureStorageChain, GoogleChain, extra_missing

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

_T = TypeVar("_T")
_PART: Final = 8 << 20
_PARTS_AT_ONCE: Final = 4
_CHUNK: Final = 4 << 20
_SMALL: Final = 16 << 20
_EXTRAS: Final = {"s3": "aws", "gs": "google", "az": "azure", "file": "aws"}
_RETRY: Final["RetryConfig"] = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}
_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>([^<]{1,80})</Code>")
_WHY: Final = re.compile(r"<Message>([^<]{1,300})</Message>")
# How a cloud says that it is asked too much (S3 by a status of 503).
_TOO_MUCH: Final = frozenset({"SlowDown", "ServerBusy", "TooManyRequests", "RequestLimitExceeded"})


def split(uri: str) -> tuple[str, str]:
    """`s3://bucket/a/key` -> ("s3://bucket", "a/key"): a bucket, and the name of an object in it."""
    scheme, mark, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme == "az":
        container, _, key = key.partition("/")
        bucket = f"{bucket}/{container}"
    if not mark or not bucket.strip("/"):
        raise SettingsError(f"{uri!r} is not a place in an object store, as s3://bucket/folder is one.")
    return f"{scheme}://{bucket}", key


class Bucket:
    """A bucket, of which the objects are named from its root.

    Every method raises Refused, OutcomeUnknown, or SettingsError where there are no credentials; what goes wrong on
    this machine is StorageError.

    Args:
        place: `s3://bucket`, `gs://bucket`, `az://account/container` or `file:///folder`.
        region: where a bucket of S3 is.
        endpoint: where the store answers, if not at its cloud; names stand in the path there.
        chain: credentials for S3 that are in use already.
        google: the same for Google Cloud Storage.
    """

    def __init__(
        self,
        place: str,
        *,
        region: str = "",
        endpoint: str = "",
        chain: AwsChain | None = None,
        google: GoogleChain | None = None,
    ) -> None:
        self.place = place.rstrip("/") if not place.startswith("file://") else place
        self._scheme, _, self._name = self.place.partition("://")
        if self._scheme not in _EXTRAS or not self._name:
            raise SettingsError(f"{place!r} is not a bucket: it begins with s3://, gs://, az:// or file:///.")
        self._region = region
        self._endpoint = endpoint
        self._chain = chain or AwsChain()
        self._google = google or GoogleChain()
        self._made: ObjectStore | None = None

    def __repr__(self) -> str:
        return f"Bucket({self.place})"

    async def put_file(self, key: str, path: Path) -> None:
        """Store a file, in parts where it is large. What was there under the name is replaced."""
        store = await self._store()
        import obstore

        try:
            with await asyncio.to_thread(path.open, "rb"):
                pass
        except OSError as error:
            raise unreadable(path, error) from error
        put = obstore.put_async(store, key, path, chunk_size=_PART, max_concurrency=_PARTS_AT_ONCE)
        await self._asked(put, key)

    async def get_file(self, key: str, path: Path) -> None:
        """Fetch an object whole, synced to disk. A body shorter than announced is OutcomeUnknown, and no file."""
        store = await self._store()
        import obstore

        found = await self._asked(obstore.get_async(store, key), key)
        whole = False
        try:
            file = await asyncio.to_thread(path.open, "wb", buffering=0)
            with file:
                got = 0
                stream = found.stream(min_chunk_size=_CHUNK).__aiter__()
                while (chunk := await self._asked(_next(stream), key)) is not None:
                    got += len(chunk)
                    await asyncio.to_thread(_write, file, chunk, path, self.place)
                await asyncio.to_thread(_sync, file, path, self.place)
            if got != found.meta["size"]:
                raise OutcomeUnknown(f"{self.place}/{key} broke off after {got:,} bytes")
            whole = True
        except OSError as error:
            raise unwritten(path, self.place, error) from error
        finally:
            if not whole:
                await asyncio.to_thread(path.unlink, missing_ok=True)

    async def list(self, folder: str) -> list[tuple[str, int]]:
        """(name, size) of everything in a folder and its folders."""
        store = await self._store()
        import obstore

        listed: Any = obstore.list(store, prefix=folder.strip("/"))  # pyright: ignore[reportUnknownMemberType]
        pages = listed.__aiter__()
        found: list[tuple[str, int]] = []
        while (page := await self._asked(_next(pages), folder)) is not None:
            found += [(item["path"], item["size"]) for item in page]
        return found

    async def size(self, key: str) -> int | None:
        """How large an object is, None where there is none."""
        store = await self._store()
        import obstore

        try:
            return (await self._asked(obstore.head_async(store, key), key))["size"]
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise

    async def delete(self, key: str) -> None:
        """Delete an object. That it is gone already is no error."""
        store = await self._store()
        import obstore

        try:
            await self._asked(obstore.delete_async(store, key), key)
        except Refused as refusal:
            if refusal.status != 404:
                raise

    async def read(self, key: str) -> bytes:
        """A small object's contents."""
        store = await self._store()
        import obstore

        found = await self._asked(obstore.get_async(store, key), key)
        if found.meta["size"] > _SMALL:
            raise OutcomeUnknown(f"{self.place}/{key} is larger than it should be")
        return bytes(await self._asked(found.bytes_async(), key))

    # ------------------------------------------------------------ for those who wait

    def opened(self) -> "ObjectStore":
        """The store itself. Waits for credentials where they have to be fetched from somewhere."""
        if self._made is None:
            self._made = self._make()
        return self._made

    # ------------------------------------------------------------ parts

    async def _store(self) -> "ObjectStore":
        if self._made is None:
            # Credentials may have to be fetched from somewhere.
            self._made = await asyncio.to_thread(self._make)
        return self._made

    def _make(self) -> "ObjectStore":
        try:
            from obstore import store
        except ImportError:
            raise extra_missing(self.place, _EXTRAS[self._scheme]) from None
        # The time is for a whole body, which may be large.
        options: ClientConfig = {
            "timeout": timedelta(minutes=15),
            "connect_timeout": timedelta(seconds=15),
            "allow_http": self._endpoint.startswith("http://"),
        }
        more: Any = {"client_options": options, "retry_config": _RETRY}
        match self._scheme:
            case "s3":
                self._chain.keys()
                if self._endpoint:
                    more |= {"aws_endpoint_url_s3": self._endpoint, "virtual_hosted_style_request": False}
                if self._region:
                    more["region"] = self._region
                return store.S3Store(self._name, credential_provider=self._chain.for_obstore, **more)
            case "gs":
                if self._endpoint:
                    more["base_url"] = self._endpoint
                self._google.for_obstore()
                return store.GCSStore(self._name, credential_provider=self._google.for_obstore, **more)
            case "az":
                account, _, container = self._name.partition("/")
                if self._endpoint:
                    more["endpoint"] = self._endpoint
                chain = AzureStorageChain()
                chain.for_obstore()  # says here what is missing, if anything is
                return store.AzureStore(
                    container, account_name=account, credential_provider=chain.for_obstore, **more
                )
            case _:
                return store.LocalStore(self._name, mkdir=True)

    async def _asked(self, asked: Awaitable[_T], key: str) -> _T:
        from obstore.exceptions import BaseError

        try:
            return await asked
        except (BaseError, OSError, ValueError) as error:
            raise self.meaning(error, key) from error

    def meaning(self, error: Exception, key: str) -> HalfrateError:
        """An error of obstore's as one of ours. Its text repeats whole replies, and ours what is in them to be read."""
        from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

        text = str(error)
        where = f"{self.place}/{key}"
        if self._scheme == "file":
            if isinstance(error, FileNotFoundError):
                return Refused(f"{where} does not exist", status=404)
            return StorageError(f"{where}: {text.partition('Debug source')[0].strip()}")
        code = found[1] if (found := _CODE.search(text)) is not None else ""
        why = ": ".join(filter(None, (code, found[1] if (found := _WHY.search(text)) is not None else "")))
        named = _STATUS.search(text)
        status = int(named[1]) if named is not None else 0
        if isinstance(error, FileNotFoundError):
            return Refused(f"{where} does not exist ({why or 'status 404'})", status=404, code=code)
        if isinstance(error, PermissionDeniedError | UnauthenticatedError):
            return Refused(f"{where} is not ours to use: {why or 'access denied'}", status=403, code=code)
        if code in _TOO_MUCH or status == 429:
            return Refused(f"{self.place} is asked too much: {why or 'slow down'}", status=429, code=code)
        if "kind: Connect" in text:
            return Refused(f"{self.place} cannot be reached", code=UNREACHABLE)
        if "BareRedirect" in text or status in range(300, 400):
            return Refused(f"{self.place} is in another region than {self._region}", status=status or 301)
        if status:
            return Refused(f"{where}: the store answered {status}: {why or 'no reason given'}", status=status)
        return OutcomeUnknown(f"{self.place} did not answer as it should about {key}")


async def _next(items: Any) -> Any:
    """The next of several, or None after the last."""
    return await anext(items, None)


def _write(file: FileIO, chunk: Any, path: Path, title: str) -> None:
    part = memoryview(chunk)
    try:
        while part:
            part = part[file.write(part) or 0 :]
    except OSError as error:
        raise unwritten(path, title, error) from error


def _sync(file: FileIO, path: Path, title: str) -> None:
    try:
        os.fsync(file.fileno())
    except OSError as error:
        raise unwritten(path, title, error) from error
