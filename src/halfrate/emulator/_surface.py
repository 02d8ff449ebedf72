"""A surface: one provider's API as its clients see it. The world has one for each provider."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Protocol

from halfrate.emulator._routes import Routes
from halfrate.emulator._wire import ApiError, Request, Response

_BAD_KEYS = ("bad-key", "sk-invalid")


class Ages(Protocol):
    """Something that changes as time passes."""

    def advance(self, now: float) -> None:
        """Let everything happen that is due by `now`."""
        ...


class Surface(ABC):
    """One provider's API.

    It is reached under `/{provider}`, which a request no longer has in its path when it comes here.

    Args:
        routes: paths as the provider has them.
        ageing: what changes as time passes, in the order in which it has to.
    """

    provider: ClassVar[str]
    request_id_header: ClassVar[str] = "x-request-id"

    def __init__(self, routes: Routes, ageing: Sequence[Ages]) -> None:
        self.routes = routes
        self._ageing = ageing

    def advance(self, now: float) -> None:
        for part in self._ageing:
            part.advance(now)

    @abstractmethod
    def authenticated(self, request: Request) -> str:
        """The key, which stands for a project or workspace. Any will do, but those that are bad by their name.
        Raises ApiError as the provider words it."""

    @abstractmethod
    def refused(self, error: ApiError, request_id: str) -> Response:
        """An error as the provider words it."""

    @abstractmethod
    def unknown_path(self, request: Request) -> ApiError:
        """What the provider says of a path that it does not have."""

    @abstractmethod
    def environment(self, url: str) -> dict[str, str]:
        """The variables by which the provider's official SDK, and halfrate, are pointed here. `url` is the
        emulator's, with this surface's mount."""


def bearer(request: Request) -> str:
    """The token in an Authorization header; "" where there is none."""
    scheme, _, token = request.header("authorization").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def is_bad(key: str) -> bool:
    """Whether a key stands for one that the provider does not know."""
    return key.startswith(_BAD_KEYS)
