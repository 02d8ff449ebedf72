"""How Fireworks words an error.

The control plane answers as a gRPC gateway does, `{"code", "message", "details"}` with a gRPC code; inference, and a
key that is not known, as OpenAI does (API reference, 2026).
"""

from typing import Final

from halfrate.emulator._wire import ApiError, Document

_CODES: Final = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 412: 9, 413: 3, 429: 8, 500: 13, 503: 14, 504: 4}
_TYPES: Final = {404: "not_found", 429: "rate_limit_exceeded", 503: "service_unavailable"}
INFERENCE: Final = "inference"
"""The kind of an error that inference has raised."""


def error_document(error: ApiError) -> Document:
    """The body of an error response."""
    if error.status in {401, 403}:
        return {"error": {"message": error.message, "code": "UNAUTHORIZED", "type": "authentication_error"}}
    if error.kind == INFERENCE:
        kind = "server_error" if error.status >= 500 else "invalid_request_error"
        kind = _TYPES.get(error.status, kind)
        return {"error": {"object": "error", "type": kind, "code": kind, "message": error.message}}
    default = 13 if error.status >= 500 else 3
    return {"code": _CODES.get(error.status, default), "message": error.message, "details": []}
