"""How OpenAI words an error: one object, `{"error": {message, type, param, code}}` (error codes guide)."""

from halfrate.emulator._wire import ApiError, Document

_TYPES = {401: "invalid_request_error", 429: "rate_limit_error"}


def error_document(error: ApiError) -> Document:
    """The body of an error response, or of a failed row."""
    kind = error.kind or _TYPES.get(error.status)
    if kind is None:
        kind = "server_error" if error.status >= 500 else "invalid_request_error"
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}
