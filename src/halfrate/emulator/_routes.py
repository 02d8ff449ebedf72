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
    """`operation` is the word faults know the call by (upload, create, poll, list, download ...).

    A part of the pattern is a word, `{}` for any, or `{}:verb` for any that ends so (Google's custom methods).
    """

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
            pairs = list(zip(pattern, parts, strict=True))
            if all(_fits(want, have) for want, have in pairs):
                held = (have[: len(have) - len(want) + 2] for want, have in pairs if want.startswith("{}"))
                return route, tuple(held)
        return None


def _fits(want: str, have: str) -> bool:
    return want in {"{}", have} or (want.startswith("{}:") and have.endswith(want[2:]))
