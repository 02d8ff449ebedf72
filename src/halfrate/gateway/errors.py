"""What the gateway answers when it cannot do as asked, in the shape of the API that was asked.

OpenAI (API reference, "Errors"): {"error": {"message", "type", "param", "code"}}. Anthropic (API reference, "Errors"):
{"type": "error", "error": {"type", "message"}, "request_id"}.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.responses import Response
from starlette.types import Scope

from halfrate.base.errors import HalfrateError, StorageError, StoreBusy, UsageError
from halfrate.core.keys import Surface
from halfrate.service.forms import for_callers

_OPENAI_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_OWN_FAULT: Final = 500
_STATUSES: Final = {"budget_exceeded": 402, "model_unavailable": 500}
"""By what callers are told of an error; else it lies in the call."""


class ApiError(Exception):
    """A call that is answered with an error. `str(error)` is for whoever wrote the call.

    `code` and `param` are OpenAI's: a word for programs, and the field at fault.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    def body(self, surface: Surface, request_id: str) -> dict[str, Any]:
        """The reply's body in the shape of a surface."""
        if surface == "anthropic":
            kind = _ANTHROPIC_TYPES.get(self.status, _plain_type(self.status, "api_error"))
            return {
                "type": "error",
                "error": {"type": kind, "message": str(self)},
                "request_id": request_id,
            }
        kind = _OPENAI_TYPES.get(self.status, _plain_type(self.status, "server_error"))
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def _plain_type(status: int, own_fault: str) -> str:
    return own_fault if status >= _OWN_FAULT else "invalid_request_error"


def missing(message: str, *, param: str | None = None) -> ApiError:
    """What does not exist, or does not for this team."""
    return ApiError(404, message, param=param)


def invalid(message: str, param: str | None = None, *, code: str | None = "invalid_value") -> ApiError:
    return ApiError(400, message, code=code, param=param)


def required(param: str) -> ApiError:
    return ApiError(
        400, f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param
    )


def error_response(error: ApiError, scope: Scope) -> Response:
    """The reply to a call that the door has named a surface and an id for."""
    document = error.body(scope["halfrate.surface"], scope["halfrate.request_id"])
    return Response(msgspec.json.encode(document), error.status, error.headers, media_type="application/json")


def as_api_error(error: HalfrateError) -> ApiError:
    """What went wrong here, for whoever called. Where that is not `str(error)`, the log alone has it."""
    match error:
        case UsageError():
            code, message = for_callers(error)
            return ApiError(_STATUSES.get(code, 400), message, code=code)
        case StoreBusy():
            return ApiError(503, "The gateway's database is busy. Try again.", headers={"retry-after": "2"})
        case StorageError():
            # What the disk is called is nobody's business; the log has it.
            message = (
                "The gateway cannot keep what it was sent: its disk is full or failing. Nothing was kept."
            )
            return ApiError(503, message, code="storage_full", headers={"retry-after": "60"})
        case _:
            return ApiError(500, "The gateway could not do that. Its log says why.")
