"""Which depot an installation has, if it has one."""

from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from halfrate.base.errors import SettingsError
from halfrate.base.objects import Objects
from halfrate.blobs.depot import NO_DEPOT, AnyDepot, Depot

_ENDPOINTS: Final = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "gs": ("GOOGLE_BASE_URL", "STORAGE_EMULATOR_HOST"),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
"""Variables that say where a store answers, if not at its cloud."""


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
