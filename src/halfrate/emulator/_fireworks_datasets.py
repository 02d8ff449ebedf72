"""Fireworks' datasets (API reference: datasets, 2026).

A dataset has an id that its client chooses, and one or several files. They come in through `:upload` (up to 150 MB)
or through signed URLs and `:validateUpload`, and leave through signed URLs, which here point at the emulator itself
and live for ten minutes, as the real ones do. `exampleCount` has to be declared, and nobody checks it.
"""

import re
from pathlib import Path
from typing import Any, Final

import msgspec

from halfrate.emulator._context import Context, rfc3339
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._shelf import Kept, Shelf, Tickets, file_response
from halfrate.emulator._wire import (
    ApiError,
    Document,
    Response,
    as_document,
    body_chunks,
    json_response,
    read_document,
    whole_number,
)

_ID: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_URL_SECONDS: Final = 600.0
_MOST: Final = 200


class Dataset(msgspec.Struct, kw_only=True):
    """A dataset; `files` are the names of those that have arrived."""

    account: str
    id: str
    project: str
    created_at: float
    display_name: str = ""
    example_count: int = 0
    uploaded: bool = True
    validated: bool = False
    files: list[str] = []

    @property
    def name(self) -> str:
        return f"accounts/{self.account}/datasets/{self.id}"


class Datasets:
    """The datasets of every key and account."""

    def __init__(self, context: Context, tickets: Tickets) -> None:
        self._context = context
        self._tickets = tickets
        self._shelf = Shelf(context, "fireworks")
        self._datasets: dict[tuple[str, str, str], Dataset] = {}

    def routes(self) -> list[Route]:
        root = "/v1/accounts/{}/datasets"
        return [
            Route("POST", root, "upload", self._create),
            Route("GET", root, "list", self._list),
            Route("GET", f"{root}/{{}}", "poll-file", self._retrieve),
            Route("DELETE", f"{root}/{{}}", "delete", self._delete),
            Route("POST", f"{root}/{{}}", "upload", self._act),
            Route("GET", "/signed/{}/{}/{}", "download", self._download),
            Route("PUT", "/signed/{}/{}/{}", "upload", self._put),
        ]

    def find(self, project: str, account: str, name: str) -> Dataset | None:
        """A dataset by its id or its whole name."""
        return self._datasets.get((project, account, name.rpartition("/")[2]))

    def ready(self, dataset: Dataset, now: float) -> bool:
        return dataset.validated and all(kept.ready_at <= now for kept in self.kept(dataset))

    def kept(self, dataset: Dataset) -> list[Kept]:
        """Its files."""
        found = (self._shelf.find(dataset.project, _file_id(dataset, name)) for name in dataset.files)
        return [kept for kept in found if kept is not None]

    def make(self, dataset: Dataset, *, replace: bool = False) -> Dataset:
        """Add a dataset. ApiError 409 where there is one of that id, unless it is to be replaced."""
        key = (dataset.project, dataset.account, dataset.id)
        if key in self._datasets and not replace:
            raise ApiError(409, f"dataset {dataset.name} already exists")
        self._datasets[key] = dataset
        return dataset

    def add_file(self, dataset: Dataset, name: str, path: Path, at: float) -> Kept:
        """Add a file that lies at `path`, or replace the one of that name."""
        if name not in dataset.files:
            dataset.files.append(name)
        return self._shelf.add(_file_id(dataset, name), dataset.project, name, path, at)

    def _get(self, call: Call, dataset_id: str | None = None) -> Dataset:
        found = self.find(call.project, call.arg, dataset_id or call.args[1])
        if found is None:
            raise ApiError(404, "resource not found")
        return found

    def _view(self, dataset: Dataset, now: float) -> Document:
        return {
            "name": dataset.name,
            "displayName": dataset.display_name,
            "createTime": rfc3339(dataset.created_at),
            "updateTime": rfc3339(dataset.created_at),
            "createdBy": "emulator@example.com",
            "state": "READY" if self.ready(dataset, now) else "UPLOADING",
            "status": {"code": "OK", "message": ""},
            "exampleCount": str(dataset.example_count),
            "format": "CHAT",
            **({"userUploaded": {}} if dataset.uploaded else {}),
        }

    async def _create(self, call: Call) -> Response:
        body = await read_document(call.request)
        dataset_id = body.get("datasetId", body.get("dataset_id"))
        about = as_document(body.get("dataset")) or {}
        count = about.get("exampleCount", about.get("example_count"))
        check_id(dataset_id, "dataset_id")
        if count is None:
            raise ApiError(400, "example_count is required for uploaded datasets")
        if not str(count).isdecimal():
            raise ApiError(400, f"invalid example_count: {count}")
        dataset = Dataset(
            account=call.arg,
            id=str(dataset_id),
            project=call.project,
            created_at=call.now,
            display_name=str(about.get("displayName", "")),
            example_count=int(count),
        )
        return json_response(self._view(self.make(dataset), call.now))

    async def _list(self, call: Call) -> Response:
        found = [
            dataset
            for (project, account, _), dataset in reversed(self._datasets.items())
            if (project, account) == (call.project, call.arg)
        ]
        page, token = page_of(found, call.request.params())
        data = [self._view(dataset, call.now) for dataset in page]
        return json_response({"datasets": data, "nextPageToken": token, "totalSize": len(found)})

    async def _retrieve(self, call: Call) -> Response:
        dataset_id, _, verb = call.args[1].partition(":")
        dataset = self._get(call, dataset_id)
        if not verb:
            return json_response(self._view(dataset, call.now))
        if verb != "getDownloadEndpoint":
            raise ApiError(404, "Not Found")
        urls = {f"dataset/{dataset.id}/{name}": self._sign(call, dataset, name) for name in dataset.files}
        return json_response({"filenameToSignedUrls": urls})

    async def _delete(self, call: Call) -> Response:
        dataset = self._get(call)
        for kept in self.kept(dataset):
            self._shelf.drop(kept.id)
        del self._datasets[dataset.project, dataset.account, dataset.id]
        return json_response({})

    async def _act(self, call: Call) -> Response:
        dataset_id, _, verb = call.args[1].partition(":")
        dataset = self._get(call, dataset_id)
        match verb:
            case "upload":
                return await self._upload(call, dataset)
            case "validateUpload":
                if not dataset.files:
                    raise ApiError(400, "no files have been uploaded")
                dataset.validated = True
                return json_response({})
            case "getUploadEndpoint":
                body = await read_document(call.request)
                sizes: Any = body.get("filenameToSize", body.get("filename_to_size"))
                names = as_document(sizes)
                if not names:
                    raise ApiError(400, "filename_to_size is required")
                urls = {name: self._sign(call, dataset, name) for name in names}
                return json_response({"filenameToSignedUrls": urls})
            case _:
                raise ApiError(404, "Not Found")

    async def _upload(self, call: Call, dataset: Dataset) -> Response:
        read = await self._shelf.upload(call, self._context.limits.fireworks_upload_bytes)
        if isinstance(read, Response):
            return read
        form, path = read
        name = form.filename.rpartition("/")[2] or "dataset.jsonl"
        self._shelf.delay(self.add_file(dataset, name, path, self._context.clock.now()))
        dataset.validated = True
        return json_response({})

    def _sign(self, call: Call, dataset: Dataset, name: str) -> str:
        path = f"/fireworks/signed/{dataset.account}/{dataset.id}/{name}"
        return self._tickets.sign(call, path, _URL_SECONDS)

    async def _download(self, call: Call) -> Response:
        file_id, missing = _file_id(self._get(call), call.args[2]), "The specified key does not exist."
        return file_response(self._shelf.get(call.project, file_id, missing))

    async def _put(self, call: Call) -> Response:
        dataset = self._get(call)
        limit = self._context.limits.fireworks_input_bytes
        too_big = f"the file is larger than {limit} bytes"
        path = await self._context.spool.write(body_chunks(call.request), limit, too_big)
        self._shelf.delay(self.add_file(dataset, call.args[2], path, self._context.clock.now()))
        return Response(200)


def _file_id(dataset: Dataset, name: str) -> str:
    return f"{dataset.project}/{dataset.name}/{name}"


def check_id(given: object, name: str) -> None:
    """Ids are short words of lower-case letters, digits and hyphens."""
    if not isinstance(given, str) or not _ID.fullmatch(given):
        raise ApiError(400, f"invalid {name}: {given}")


def page_of(found: list[Any], params: dict[str, str]) -> tuple[list[Any], str]:
    """A page, and the token of the next one ("" where there is none)."""
    size = whole_number(params.get("pageSize"), "pageSize", 50, 1, _MOST)
    start = whole_number(params.get("pageToken"), "pageToken", 0, 0, 1 << 40)
    return found[start : start + size], str(start + size) if start + size < len(found) else ""
