"""Cloud Storage, as far as batch jobs need it: the JSON API at its own paths, the XML API at /{bucket}/{name}.

It takes any caller, with a token or without one, as a public bucket does.
"""

import re
from typing import ClassVar

from halfrate.emulator._context import Context
from halfrate.emulator._gcs_json import GcsJson
from halfrate.emulator._gcs_wire import error_document
from halfrate.emulator._gcs_xml import GcsXml, error_body
from halfrate.emulator._routes import Route, Routes
from halfrate.emulator._surface import Surface, bearer, is_bad
from halfrate.emulator._wire import ApiError, Request, Response, json_response


class ObjectRoutes(Routes):
    """Routes whose patterns are regular expressions over the whole path, each group an argument."""

    def __init__(self, *groups: list[Route]) -> None:
        super().__init__()
        self._matchers = [
            (re.compile(route.pattern, re.DOTALL), route) for group in groups for route in group
        ]

    def find(self, method: str, path: str) -> tuple[Route, tuple[str, ...]] | None:
        for matcher, route in self._matchers:
            if route.method == method and (match := matcher.fullmatch(path)):
                return route, match.groups()
        return None


class GcsSurface(Surface):
    provider: ClassVar[str] = "gcs"

    def __init__(self, context: Context) -> None:
        # A path of the JSON API is one of the XML API too, were there a bucket named "storage".
        super().__init__(ObjectRoutes(GcsJson(context).routes(), GcsXml(context).routes()), ())

    def authenticated(self, request: Request) -> str:
        token = bearer(request)
        if is_bad(token):
            raise ApiError(401, "Invalid Credentials")
        return token

    def refused(self, error: ApiError, request_id: str) -> Response:
        if error.kind is not None and error.kind[:1].isupper():
            return Response(
                error.status, error_body(error), {**error.headers, "content-type": "application/xml"}
            )
        return json_response(error_document(error), error.status, error.headers)

    def unknown_path(self, request: Request) -> ApiError:
        return ApiError(404, "Not Found")

    def environment(self, url: str) -> dict[str, str]:
        """For google-cloud-storage, and for object_store and what is built on it, which has to have a token."""
        return {"STORAGE_EMULATOR_HOST": url, "GOOGLE_BASE_URL": url, "GOOGLE_BEARER_TOKEN": "emulator"}
