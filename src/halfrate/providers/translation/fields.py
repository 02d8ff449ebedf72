"""A request taken apart field by field, so that nothing of it can be dropped without a word.

Whoever translates *takes* what it knows out of a `Fields`; `finish` refuses, by its path, whatever is left. A field
that is null says nothing, in OpenAI's form as in the others.
"""

from collections.abc import Mapping
from typing import Any, cast


class Untranslatable(ValueError):
    """A field of the request that the other family has no equivalent for, or that makes no sense.

    Attributes:
        field: where it stands, such as `messages[2].content[0].image_url.detail`.
        reason: what is the matter with it.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.field} {self.reason}"


class Fields:
    """One object of a request.

    Args:
        given: the object; not changed.
        taker: who is to take the request, for the messages.
        path: where the object stands in the request, "" for the request itself.
    """

    def __init__(self, given: Mapping[str, Any], taker: str, path: str = "") -> None:
        self.taker = taker
        self.path = path
        self._left = {name: value for name, value in given.items() if value is not None}

    def at(self, name: str) -> str:
        """The path of a field of this object."""
        return f"{self.path}.{name}" if self.path else name

    def refusal(self, name: str, reason: str) -> Untranslatable:
        """The error for a field of this object, for the caller to raise."""
        return Untranslatable(self.at(name), reason)

    def has(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str) -> Any:
        """The field, whatever it is; None where there is none."""
        return self._left.pop(name, None)

    def text(self, name: str) -> str | None:
        value = self.take(name)
        if value is not None and not isinstance(value, str):
            raise self.refusal(name, "is not a string")
        return value

    def needed_text(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise self.refusal(name, "is missing")
        return value

    def flag(self, name: str) -> bool:
        """The field, False where there is none."""
        value = self.take(name)
        if value is not None and not isinstance(value, bool):
            raise self.refusal(name, "is neither true nor false")
        return bool(value)

    def number(self, name: str, low: float, high: float) -> float | None:
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.refusal(
                name, f"is no number from {low:g} to {high:g}, which is what {self.taker} takes"
            )
        return value

    def whole(self, name: str, low: int, high: int) -> int | None:
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.refusal(
                name, f"is no whole number from {low} to {high}, which is what {self.taker} takes"
            )
        return value

    def inner(self, name: str) -> "Fields | None":
        """An object in this one."""
        value = self.mapping(name)
        return Fields(value, self.taker, self.at(name)) if value is not None else None

    def needed_inner(self, name: str) -> "Fields":
        inner = self.inner(name)
        if inner is None:
            raise self.refusal(name, "is missing")
        return inner

    def mapping(self, name: str) -> dict[str, Any] | None:
        """An object that goes over as it is, such as a JSON schema."""
        value = self.take(name)
        if value is not None and not isinstance(value, dict):
            raise self.refusal(name, "is not an object")
        return cast("dict[str, Any] | None", value)

    def each(self, name: str) -> "list[Fields]":
        """The objects of a list in this object."""
        inner: list[Fields] = []
        for index, value in enumerate(self.values(name)):
            path = f"{self.at(name)}[{index}]"
            if not isinstance(value, dict):
                raise Untranslatable(path, "is not an object")
            inner.append(Fields(cast("dict[str, Any]", value), self.taker, path))
        return inner

    def values(self, name: str) -> list[Any]:
        """A list in this object, empty where there is none."""
        value = self.take(name)
        if value is not None and not isinstance(value, list | tuple):
            raise self.refusal(name, "is not a list")
        return list(cast("list[Any]", value or ()))

    def finish(self) -> None:
        """Refuse what nobody has taken."""
        for name in self._left:
            raise self.refusal(name, f"has no equivalent with {self.taker}")
