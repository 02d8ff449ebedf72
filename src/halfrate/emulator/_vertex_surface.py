"""Vertex AI: generateContent, embeddings, batch prediction jobs.

The jobs' files are in the Cloud Storage at `/gcs`, their tables in the BigQuery at `/bigquery`.
"""

import re
from typing import ClassVar

from halfrate.emulator._context import Context
from halfrate.emulator._gemini_realtime import GeminiRealtime
from halfrate.emulator._gemini_wire import error_response
from halfrate.emulator._routes import Routes
from halfrate.emulator._surface import Surface, bearer, is_bad
from halfrate.emulator._vertex_jobs import BatchPredictionJobs
from halfrate.emulator._wire import ApiError, Request, Response

_VERSIONS = ("v1beta1", "v1")
_PROJECT = re.compile(r"/projects/([^/]+)/")


class VertexSurface(Surface):
    provider: ClassVar[str] = "vertex"

    def __init__(self, context: Context) -> None:
        jobs, realtime = BatchPredictionJobs(context), GeminiRealtime(context, "vertex")
        model = "publishers/google/models/{}"
        groups = [jobs.routes(version) for version in _VERSIONS]
        for version in _VERSIONS:
            groups.append(realtime.calls(f"/{version}/projects/{{}}/locations/{{}}/{model}"))
            groups.append(realtime.calls(f"/{version}/{model}"))
        super().__init__(Routes(*groups), (jobs,))

    def authenticated(self, request: Request) -> str:
        """The project in the path; without one, as in express mode, the key."""
        token = bearer(request) or request.header("x-goog-api-key")
        if not token or is_bad(token):
            message = "Request had invalid authentication credentials. Expected OAuth 2 access token."
            raise ApiError(401, message, param="ACCESS_TOKEN_TYPE_UNSUPPORTED" if token else None)
        match = _PROJECT.search(request.path)
        return token if match is None else match[1]

    def refused(self, error: ApiError, request_id: str) -> Response:
        return error_response(error)

    def unknown_path(self, request: Request) -> ApiError:
        return ApiError(404, f"The requested URL {request.path} was not found on this server.")

    def environment(self, url: str) -> dict[str, str]:
        """Where the API is, and a project and a place for those that look for them there.

        The SDK reads the URL when it is made with `vertexai=True`, `project` and `location`, and credentials with any
        token. In Vertex AI mode by GOOGLE_GENAI_USE_VERTEXAI it does not, and calls Google: so that is not set.
        """
        return {
            "GOOGLE_VERTEX_BASE_URL": url,
            "GOOGLE_CLOUD_PROJECT": "emulator",
            "GOOGLE_CLOUD_LOCATION": "us-central1",
            "HALFRATE_VERTEX_BUCKET": "gs://emulator/batches",
        }
