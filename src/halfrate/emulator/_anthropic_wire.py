"""How Anthropic words an error: `{"type": "error", "error": {type, message}, "request_id"}` (errors page)."""

from halfrate.emulator._wire import ApiError, Document

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_document(error: ApiError, request_id: str) -> Document:
    """The body of an error response, or what an errored row holds."""
    kind = _TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    inner = {"type": error.kind or kind, "message": error.message}
    return {"type": "error", "error": inner, "request_id": request_id}
