"""How Mistral words an error.

One object, `{"object": "error", message, type, param, code}`; a body that its validation refuses has status 422 and
`{"detail": [{type, loc, msg, input}]}` (mistralai 3.7: `HTTPValidationError`).
"""

from typing import Final

from halfrate.emulator._wire import ApiError, Document

_TYPES: Final = {
    401: "invalid_api_key",
    403: "forbidden",
    404: "not_found",
    409: "conflict",
    413: "request_too_large",
    429: "rate_limited",
    503: "service_unavailable",
}
_CODES: Final = {"rate_limited": "1300", "invalid_model": "1500"}


def error_document(error: ApiError) -> Document:
    """The body of an error response, or of a failed row."""
    if error.status == 401:
        return {"detail": "Unauthorized"}
    if error.status == 422:
        where = ["body", *(error.param or "").split(".")]
        return {"detail": [{"type": "value_error", "loc": where, "msg": error.message, "input": None}]}
    kind = error.kind or _TYPES.get(error.status)
    if kind is None:
        kind = "internal_server_error" if error.status >= 500 else "invalid_request_error"
    code = _CODES.get(kind, error.code)
    return {"object": "error", "message": error.message, "type": kind, "param": error.param, "code": code}


def refused(message: str, param: str) -> ApiError:
    """What validation says of a field."""
    return ApiError(422, message, param=param)
