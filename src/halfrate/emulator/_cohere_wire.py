"""How Cohere words an error: `{"id", "message"}`, with a status and nothing else to tell errors apart.

The official SDK (cohere 7.3) sends a call again by itself after 408, 409, 429 and 5xx.
"""

from halfrate.emulator._wire import ApiError, Document


def error_document(error: ApiError, error_id: str) -> Document:
    """The body of an error response."""
    return {"id": error_id, "message": error.message}


def refused(message: str) -> ApiError:
    """What is said of a request that is not as it should be."""
    return ApiError(400, f"invalid request: {message}")
