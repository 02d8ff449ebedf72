"""How xAI words an error: `{"code", "error"}`, the code being the sentence of a gRPC status."""

from typing import Final

from halfrate.emulator._wire import ApiError, Document

_SENTENCES: Final = {
    400: "Client specified an invalid argument",
    401: "Unauthenticated",
    403: "The caller does not have permission to execute the specified operation",
    404: "Some requested entity was not found",
    409: "The operation was aborted",
    413: "Client specified an invalid argument",
    429: "Some resource has been exhausted",
    503: "The service is currently unavailable",
}
_NUMBERS: Final = {400: 3, 401: 16, 403: 7, 404: 5, 409: 10, 429: 8, 500: 13, 503: 14}


def error_document(error: ApiError) -> Document:
    """The body of an error response."""
    return {"code": _SENTENCES.get(error.status, "Internal error"), "error": error.message}


def row_error(error: ApiError) -> Document:
    """What a failed row holds: a gRPC status."""
    default = 13 if error.status >= 500 else 3
    return {"code": _NUMBERS.get(error.status, default), "message": error.message}
