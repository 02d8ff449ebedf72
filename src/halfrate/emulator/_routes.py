"""Routes as data: a method and a path pattern lead to an operation's handler."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec

from halfrate.emulator._wire import Request, Response


class Call(msgspec.Struct, frozen=True):
    """A request on its way to a handler: who asks, when, and what the path says."""

    request: Request
    project: str
    now: float
    args: tuple[str, ...] = ()

    @property
    def arg(self) -> str:
        """The id in the path."""
        return self.args[0]


Handler: TypeAlias = Callable[[Call], Awaitable[Response]]


class Route(msgspec.Struct, frozen=True):
    """`operation` is the word faults know the call by (upload, create, poll, list, download ...)."""

    method: str
    pattern: str
    operation: str
    handler: Handler


class Routes:
    """Finds the route of a request."""

    def __init__(self, *groups: list[Route]) -> None:
        self._routes = [(tuple(route.pattern.split("/")), route) for group in groups for route in group]

    def find(self, method: str, path: str) -> tuple[Route, tuple[str, ...]] | None:
        """The route and what its `{}` parts stand for; None when there is none."""
        parts = path.rstrip("/").split("/")
        for pattern, route in self._routes:
            if route.method != method or len(pattern) != len(parts):
                continue
            if all(want in {"{}", have} for want, have in zip(pattern, parts, strict=True)):
                held = (have for want, have in zip(pattern, parts, strict=True) if want == "{}")
                return route, tuple(held)
        return None
