"""Which depot an installation has, if it has one."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from halfrate.base.errors import SettingsError
from halfrate.base.objects import Objects
from halfrate.blobs.depot import NO_DEPOT, AnyDepot, Depot
from halfrate.service.home import Home

if TYPE_CHECKING:
    from halfrate.store.processes import ProcessStore

_ENDPOINTS: Final = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "gs": ("GOOGLE_BASE_URL", "STORAGE_EMULATOR_HOST"),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
"""Variables that say where a store answers, if not at its cloud."""


def depot_of(home: Home, processes: "ProcessStore") -> AnyDepot:
    """The depot of an installation, which may be none.

    Raises SettingsError where a depot is named beside a database of this machine's own, and where the files of the
    database are in a depot that nobody named.
    """
    if home.depot is not None and home.database.startswith("sqlite:"):
        raise SettingsError(
            "HALFRATE_DEPOT is for machines that share a database, and there is none: set HALFRATE_DATABASE to a "
            "PostgreSQL server's too. Nothing was changed."
        )
    if home.depot is None and home.server is not None:
        known = processes.depot()
        if known is not None:
            raise SettingsError(
                f"The files of this database are in {known}, and without them jobs would seem to lack their "
                "answers. Set HALFRATE_DEPOT to that place, or to where they were moved. Nothing was changed."
            )
    return depot_at(home.depot, home.root, processes.own_id, processes.note_depot)


def depot_at(
    place: str | None, root: Path, owned_by: Callable[[], str], found: Callable[[str], None] = lambda _: None
) -> AnyDepot:
    """The depot at `s3://bucket/prefix`, `gs://bucket/prefix`, `az://account/container/prefix` or `file:///folder`, for
    a home at `root`. `owned_by` and `found`: see `Depot`.

    Nothing is asked of it yet. Raises SettingsError for what is no such place.
    """
    return NO_DEPOT if place is None else Depot(place_named(place), root, owned_by, found)


def place_named(place: str) -> Objects:
    """The same place by itself, for whatever database."""
    scheme, _, rest = place.partition("://")
    if scheme == "file":
        if not rest.startswith("/"):
            raise SettingsError(f"HALFRATE_DEPOT is {place!r}; a folder is named as in file:///srv/halfrate.")
        from halfrate.blobs.folder import Folder

        return Folder(Path(unquote(rest)))
    if scheme not in {"s3", "gs", "az"} or "@" in rest:
        raise SettingsError(
            "HALFRATE_DEPOT names no place: it is s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, "
            "az://ACCOUNT/CONTAINER/PREFIX or file:///FOLDER, without credentials."
        )
    from halfrate.providers.bucket_files import BucketFiles
    from halfrate.providers.object_credentials import first_of
    from halfrate.providers.objects import Bucket, split

    bucket, prefix = split(place)
    region = first_of(("AWS_REGION", "AWS_DEFAULT_REGION")) if scheme == "s3" else ""
    return BucketFiles(
        Bucket(bucket, region=region, endpoint=first_of(_ENDPOINTS[scheme])), prefix.strip("/")
    )
