"""Cohere's datasets (cohere 7.3: `client.datasets`; dataset guide; recorded exchanges of 2026-09).

    processing -> validated | failed

An uploaded dataset is a JSONL file until it is validated, and an Avro container from then on. The results of a batch
are a dataset too, in one or several parts. Parts are fetched from signed URLs, which here point at the emulator itself
and live for twelve hours, as the real ones do. A dataset goes away after thirty days.
"""

import re
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from halfrate.emulator._cohere_avro import INPUT_SCHEMA, AvroLines, installed
from halfrate.emulator._cohere_input import Checked, check_file
from halfrate.emulator._cohere_wire import refused
from halfrate.emulator._context import Context, rfc3339
from halfrate.emulator._jobs import Input
from halfrate.emulator._multipart import Form
from halfrate.emulator._routes import Call, Route
from halfrate.emulator._settings import DAY
from halfrate.emulator._shelf import Kept, Shelf, Tickets, file_response
from halfrate.emulator._wire import ApiError, Document, Response, json_response, whole_number

INPUT, OUTPUT = "batch-embed-v2-input", "batch-embed-v2-output"
_URL_SECONDS: Final = 43_199.0
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_UNSAFE: Final = re.compile(r"[^a-z0-9]+")


class Part(msgspec.Struct, kw_only=True):
    """A file of a dataset; `rows` and `samples` are known of Avro alone. `key` is its name in a URL."""

    id: str
    name: str
    key: str
    kept: Kept
    rows: int | None = None
    samples: list[str] = []


class Dataset(msgspec.Struct, kw_only=True):
    """A dataset: of an uploaded one, the file as it came, and what its validation has found."""

    id: str
    name: str
    project: str
    kind: str
    created_at: float
    validated_at: float
    parts: list[Part]
    original: Part | None = None
    keeps_original: bool = False
    checked: Checked | None = None
    error: str = ""
    warnings: list[str] = []

    def status(self, now: float) -> str:
        late = 0.0 if self.original is None else self.original.kept.ready_at
        if now < max(self.validated_at, late):
            return "processing"
        return "failed" if self.error else "validated"


class Datasets:
    """The datasets of every key."""

    def __init__(self, context: Context, tickets: Tickets) -> None:
        self._context = context
        self._tickets = tickets
        self._shelf = Shelf(context, "cohere")
        self._datasets: dict[str, Dataset] = {}

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/v1/datasets", "upload", self._create),
            Route("GET", "/v1/datasets", "list", self._list),
            Route("GET", "/v1/datasets/usage", "poll-file", self._usage),
            Route("GET", "/v1/datasets/{}", "poll-file", self._retrieve),
            Route("DELETE", "/v1/datasets/{}", "delete", self._delete),
            Route("GET", "/signed/{}/{}", "download", self._download),
        ]

    def advance(self, now: float) -> None:
        """Remove what has come of age."""
        oldest = now - self._context.limits.cohere_dataset_days * DAY
        for dataset in [one for one in self._datasets.values() if one.created_at <= oldest]:
            self._drop(dataset)

    def find(self, project: str, dataset_id: str) -> Dataset | None:
        found = self._datasets.get(dataset_id)
        return found if found is not None and found.project == project else None

    def rows(self, dataset: Dataset) -> Input:
        """A copy of the rows of an uploaded dataset, for a batch to read."""
        checked, original = dataset.checked, dataset.original
        if checked is None or original is None:
            raise refused(f"dataset {dataset.id} is not of type {INPUT}")
        path = self._context.spool.new()
        shutil.copyfile(original.kept.path, path)
        return Input(path, checked.offsets)

    def store(self, project: str, name: str, containers: list[AvroLines], at: float) -> str:
        """Keep what a batch has written; returns the dataset's id."""
        dataset_id = self._new_id(name)
        parts = [
            self._part(dataset_id, project, (number, f"{name}-{number}"), lines.path, at, lines.count)
            for number, lines in enumerate(containers)
        ]
        self._datasets[dataset_id] = Dataset(
            id=dataset_id,
            name=name,
            project=project,
            kind=OUTPUT,
            created_at=at,
            validated_at=at,
            parts=parts,
        )
        return dataset_id

    def _new_id(self, name: str) -> str:
        """An id as the service makes them: the name, and six letters or digits."""
        slug = _UNSAFE.sub("-", name.lower()).strip("-") or "dataset"
        return f"{slug}-{''.join(self._context.random.choices(_ALPHABET, k=6))}"

    def _part(
        self,
        dataset_id: str,
        project: str,
        place: tuple[int, str],
        path: Path,
        at: float,
        rows: int | None = None,
    ) -> Part:
        """Keep a file of a dataset; `place` is (number, name)."""
        number, name = place
        key = f"{number:03}_{name.replace('/', '-')}"
        kept = self._shelf.add(f"{dataset_id}/{key}", project, name, path, at)
        return Part(id=self._context.new_uuid(), name=name, key=key, kept=kept, rows=rows)

    def _drop(self, dataset: Dataset) -> None:
        for part in (*dataset.parts, *filter(None, [dataset.original])):
            self._shelf.drop(part.kept.id)
        del self._datasets[dataset.id]

    def _get(self, call: Call) -> Dataset:
        found = self.find(call.project, call.arg)
        if found is None:
            raise ApiError(404, f"dataset with id {call.arg} not found")
        return found

    async def _create(self, call: Call) -> Response:
        read = await self._shelf.upload(call, self._context.limits.cohere_dataset_bytes, "data")
        if isinstance(read, Response):
            return read
        form, path = read
        try:
            dataset = self._made(call, form, path)
        except ApiError:
            self._context.spool.drop(path)
            raise
        return json_response({"id": dataset.id})

    def _made(self, call: Call, form: Form, path: Path) -> Dataset:
        params, context = call.request.params(), self._context
        name, kind = params.get("name", ""), params.get("type", "")
        if not name:
            raise refused("name is required.")
        if kind != INPUT:
            raise refused(f"datasets of type '{kind}' cannot be created; this emulator serves {INPUT}.")
        if not installed():
            raise ApiError(501, "this emulator writes Avro by means of fastavro: install halfrate[cohere].")
        # The body may have taken a while to arrive: the dataset is as old as its last byte.
        now, dataset_id = context.clock.now(), self._new_id(name)
        target = context.spool.new()
        checked = check_file(path, target, context.random.randbytes(16))
        file_name = form.filename.rpartition("/")[2] or f"{name}.jsonl"
        avro_name = f"{file_name.rpartition('.')[0] or file_name}.avro"
        original = self._part(dataset_id, call.project, (0, file_name), path, now)
        self._shelf.delay(original.kept)
        avro = self._part(dataset_id, call.project, (1, avro_name), target, now, len(checked.offsets))
        avro.id, avro.samples = original.id, checked.samples
        tolerated = _flag(params, "skip_malformed_input") and len(checked.offsets) > 0
        dataset = Dataset(
            id=dataset_id,
            name=name,
            project=call.project,
            kind=kind,
            created_at=now,
            validated_at=now + context.pace.validate,
            parts=[avro],
            original=original,
            keeps_original=_flag(params, "keep_original_file"),
            checked=checked,
            error="" if tolerated else "; ".join(checked.problems),
            warnings=[f"{checked.bad} malformed rows were skipped"] if tolerated and checked.bad else [],
        )
        self._datasets[dataset_id] = dataset
        return dataset

    async def _list(self, call: Call) -> Response:
        params = call.request.params()
        before, after = _moment(params, "before"), _moment(params, "after")
        kind, status = params.get("datasetType"), params.get("validationStatus")
        found = [
            dataset
            for dataset in reversed(self._datasets.values())
            if dataset.project == call.project
            and kind in {None, dataset.kind}
            and status in {None, dataset.status(call.now)}
            and (before is None or dataset.created_at < before)
            and (after is None or dataset.created_at > after)
        ]
        offset, limit = _count(params, "offset", 0), _count(params, "limit", 100)
        page = found[offset : offset + limit]
        return json_response({"datasets": [self._view(call, dataset) for dataset in page]})

    async def _usage(self, call: Call) -> Response:
        return json_response({"organization_usage": sum(kept.size for kept in self._shelf.of(call.project))})

    async def _retrieve(self, call: Call) -> Response:
        return json_response({"dataset": self._view(call, self._get(call))})

    async def _delete(self, call: Call) -> Response:
        self._drop(self._get(call))
        return json_response({})

    async def _download(self, call: Call) -> Response:
        missing = "The specified key does not exist."
        return file_response(self._shelf.get(call.project, "/".join(call.args), missing))

    def _view(self, call: Call, dataset: Dataset) -> Document:
        """The dataset as the API shows it: what there is nothing to say of is left out."""
        status, original = dataset.status(call.now), dataset.original
        validated = status == "validated"
        shown: Document = {
            "id": dataset.id,
            "name": dataset.name,
            "created_at": rfc3339(dataset.created_at),
            "updated_at": rfc3339(dataset.created_at),
            "dataset_type": dataset.kind,
            "validation_status": status,
        }
        if status == "failed":
            shown["validation_error"] = dataset.error
        if validated and original is not None:
            shown["schema"] = msgspec.json.encode(INPUT_SCHEMA).decode()
        parts = dataset.parts if validated or original is None else [original]
        kept = original if dataset.keeps_original else None
        shown["dataset_parts"] = [
            self._part_view(call, dataset, part, index, kept) for index, part in enumerate(parts)
        ]
        if validated and dataset.warnings:
            shown["validation_warnings"] = dataset.warnings
        return shown

    def _part_view(
        self, call: Call, dataset: Dataset, part: Part, index: int, original: Part | None
    ) -> Document:
        shown: Document = {"id": part.id, "name": part.name, "url": self._sign(call, dataset, part)}
        if index:
            shown["index"] = index
        shown["size_bytes"] = part.kept.size
        if part.rows is not None:
            shown["num_rows"] = part.rows
        if original is not None:
            shown["original_url"] = self._sign(call, dataset, original)
        if part.samples:
            shown["samples"] = part.samples
        return shown

    def _sign(self, call: Call, dataset: Dataset, part: Part) -> str:
        return self._tickets.sign(call, f"/cohere/signed/{dataset.id}/{part.key}", _URL_SECONDS)


def _flag(params: dict[str, str], name: str) -> bool:
    return params.get(name, "").lower() == "true"


def _count(params: dict[str, str], name: str, default: int) -> int:
    """A whole number: the SDK's types say float, so that `10.0` may come."""
    return whole_number(params.get(name, "").removesuffix(".0"), name, default, 0, 1 << 40)


def _moment(params: dict[str, Any], name: str) -> float | None:
    given = params.get(name)
    if not given:
        return None
    try:
        return datetime.fromisoformat(given.replace(" ", "+")).timestamp()
    except ValueError:
        raise refused(f"{name} must be a date.") from None
