"""How Bedrock words an error: `{"message"}`, and the exception's name in a header (AWS restJson1 protocol)."""

from typing import Final

from halfrate.emulator._wire import ApiError, Response, json_response

_NAMES: Final = {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
}


def error_response(error: ApiError) -> Response:
    name = error.code if error.code and error.code.endswith("Exception") else None
    name = name or _NAMES.get(error.status)
    if name is None:
        name = "InternalServerException" if error.status >= 500 else "ValidationException"
    return json_response(
        {"message": error.message}, error.status, {"x-amzn-errortype": name, **error.headers}
    )


def conflict(message: str) -> ApiError:
    """Status 400, as the service model has it."""
    return ApiError(400, message, code="ConflictException")


def quota(message: str, headers: dict[str, str] | None = None) -> ApiError:
    return ApiError(400, message, code="ServiceQuotaExceededException", headers=headers)
