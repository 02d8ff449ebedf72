"""Which model a call goes to, and what is done where one does not answer."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from halfrate.base.errors import OverBudget, SettingsError
from halfrate.base.money import added
from halfrate.core.routing import Board, Route
from halfrate.gateway.asking import Asked
from halfrate.gateway.attempts import Failed, Streamed, Whole, Why, as_stream
from halfrate.gateway.booking import Attempt, Books, worst
from halfrate.gateway.checks import Check, check_named
from halfrate.gateway.errors import ApiError, invalid
from halfrate.gateway.targets import NoTarget, Target, Targets

_LONGEST_PAUSE: Final = 30.0
"""Seconds that are waited at most for a model that says when to come back."""
_ELSEWHERE: Final = frozenset({404, 413})
"""Refusals of a request that another model may take: it has no such model, or the request is too large for it."""
_STATUSES: Final = {"model_not_found": 404, "unsupported_endpoint": 400, "model_not_allowed": 403}
"""Of models that are not to be reached; else it is for whoever runs the gateway to mend."""
_NO_MODELS: Final = AssertionError("a route has models")


class Routed(msgspec.Struct, frozen=True):
    """A call that was answered. `path`: what was tried, and with what result, as in `openai/gpt-4.1-mini=200`.

    `before`: picodollars that attempts before this one have cost, None where nobody knows.
    """

    attempt: Attempt
    answer: Whole | Streamed
    path: tuple[str, ...] = ()
    before: int | None = 0


class Unanswered(Exception):
    """A call that nobody answered. `failure`: of the last that was asked."""

    def __init__(self, failure: Failed, target: Target, path: tuple[str, ...]) -> None:
        super().__init__(failure.told)
        self.failure = failure
        self.target = target
        self.path = path


class Router:
    """Finds where calls go, and goes through the models of a route."""

    def __init__(self, targets: Targets, books: Books, board: Board | None = None) -> None:
        self._targets = targets
        self._books = books
        self._board = board or Board()

    async def target(self, asked: Asked) -> Target:
        """Where a call goes that is not tried elsewhere; of a route the first of its models that can be asked. Raises
        ApiError."""
        try:
            route = await self._targets.route(asked.model)
            if route is None:
                return await self._target(asked, asked.model)
            _, found = await self._open(asked, route)
            return next(iter(found.values()))
        except NoTarget as error:
            raise self._nowhere(asked, error) from None

    async def answer(self, asked: Asked) -> Routed:
        """Raises Unanswered, ApiError or OverBudget."""
        try:
            target = None if asked.provider_key else self._targets.known(asked.model, asked.endpoint)
            route = None if target is not None else await self._targets.route(asked.model)
            if route is None:
                if target is None or not asked.key.allows(target.model):
                    target = await self._target(asked, asked.model)
                    self._note(asked, target)
                attempt = Attempt(self._books, asked, target)
                try:
                    return Routed(attempt, await attempt.ask(asked.seconds))
                except Failed as failure:
                    raise Unanswered(failure, attempt.target, ()) from None
            return await self._along(asked, route)
        except NoTarget as error:
            raise self._nowhere(asked, error) from None

    def _nowhere(self, asked: Asked, error: NoTarget) -> ApiError:
        if error.told:
            self._books.log.say("no way to a model", why=error.told, request_id=asked.request_id)
        return ApiError(_STATUSES.get(error.code, 503), str(error), code=error.code, param="model")

    def _note(self, asked: Asked, target: Target) -> None:
        if not target.callers_key:
            self._targets.note(asked.model, asked.endpoint, target)

    async def _target(self, asked: Asked, name: str) -> Target:
        """Raises NoTarget."""
        model = await self._targets.model(name)
        if not asked.key.allows(model):
            raise NoTarget("model_not_allowed", f"This key may not ask the model '{asked.model}'.")
        return await self._targets.find(model, asked.endpoint, asked.provider_key)

    async def _along(self, asked: Asked, route: Route) -> Routed:
        route, targets = await self._open(asked, route)
        now = time.monotonic()
        order = self._board.order(route, now, lambda model: worst(asked, targets[model]))
        order = [targets[model] for model in order]
        match route.how:
            case "race":
                return await self._race(asked, route, order)
            case "escalate":
                return await self._escalate(asked, route, order)
            case _:
                return await self._in_turn(asked, route, order)

    async def _open(self, asked: Asked, route: Route) -> tuple[Route, dict[str, Target]]:
        """The route over those of its models that this call can be put to, by their full names. Raises NoTarget where
        there is none."""
        weights = dict(zip(route.models, route.weights, strict=False))
        found: dict[str, Target] = {}
        shares: dict[str, float] = {}
        closed: NoTarget | None = None
        for name in route.models:
            try:
                target = await self._target(asked, name)
            except NoTarget as error:
                if error.told:
                    self._books.log.say("no way to a model", why=error.told, request_id=asked.request_id)
                closed = closed or error
                continue
            found[target.model] = target
            shares[target.model] = shares.get(target.model, 0.0) + weights.get(name, 0.0)
        if not found and closed is not None:
            raise NoTarget(closed.code, str(closed))
        # What callers call by one name is known on the board by another.
        reached = msgspec.structs.replace(route, models=tuple(found), weights=tuple(shares.values()))
        return reached, found

    # ------------------------------------------------------------ one after the other

    async def _in_turn(self, asked: Asked, route: Route, order: Sequence[Target]) -> Routed:
        path: list[str] = []
        ended: Unanswered | OverBudget | None = None
        for target in order:
            try:
                return await self._patiently(asked, route, target, path)
            except OverBudget as error:
                path.append(f"{target.model}=over_budget")
                ended = ended or error
            except Failed as failure:
                ended = Unanswered(failure, target, tuple(path))
                if not _may_go_elsewhere(failure):
                    break
        raise ended or _NO_MODELS

    async def _patiently(self, asked: Asked, route: Route, target: Target, path: list[str]) -> Routed:
        """Ask a model, and again where it says when to come back. Raises Failed."""
        for _ in range(route.retries):
            try:
                return await self._try(asked, route, target, path)
            except Failed as failure:
                pause = failure.retry_after
                if failure.why is not Why.LOAD or pause is None or pause > min(_LONGEST_PAUSE, asked.seconds):
                    raise
                await asyncio.sleep(pause)
        return await self._try(asked, route, target, path)

    async def _try(self, asked: Asked, route: Route, target: Target, path: list[str]) -> Routed:
        """One attempt, noted on the board and in the path. Raises Failed."""
        attempt = Attempt(self._books, asked, target)
        began = time.monotonic()
        try:
            answer = await attempt.ask(min(asked.seconds, route.timeout or asked.seconds))
        except Failed as failure:
            path.append(f"{target.model}={failure.status or failure.why.value}")
            if failure.why is not Why.REQUEST:
                self._board.failed(target.model, time.monotonic(), route.cool_down, failure.retry_after)
            raise
        self._board.answered(target.model, time.monotonic() - began)
        path.append(f"{target.model}=200")
        return Routed(attempt, answer, tuple(path))

    # ------------------------------------------------------------ all at once

    async def _race(self, asked: Asked, route: Route, order: Sequence[Target]) -> Routed:
        path: list[str] = []
        racers = {asyncio.create_task(self._try(asked, route, target, path)): target for target in order}
        waiting = set(racers)
        failure: tuple[Failed, Target] | None = None
        refusal: OverBudget | None = None
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    error = task.exception()
                    if error is None:
                        return await self._won(task, racers)
                    if isinstance(error, Failed):
                        failure = (error, racers[task])
                    elif isinstance(error, OverBudget):
                        refusal = error
                    else:
                        raise error
        finally:
            for task in racers:
                task.cancel()
        if failure is None:
            raise refusal or _NO_MODELS
        raise Unanswered(*failure, tuple(path))

    async def _won(
        self, winner: "asyncio.Task[Routed]", racers: "dict[asyncio.Task[Routed], Target]"
    ) -> Routed:
        """Cancel the others. What they cost until then is in the ledger, as far as anybody knows."""
        others = {task: target for task, target in racers.items() if task is not winner}
        for task in others:
            task.cancel()
        ended = await asyncio.gather(*others, return_exceptions=True)
        path: list[str] = []
        before: list[int | None] = []
        for target, end in zip(others.values(), ended, strict=True):
            if isinstance(end, Routed):
                # It was answered as well, in the same moment.
                if isinstance(end.answer, Streamed):
                    end.answer.stream.close()
                    end.attempt.doubt(end.answer.relay.told(), 200)
                path.append(f"{target.model}=200 too late")
                before.append(end.attempt.cost)
            elif isinstance(end, Failed):
                path.append(f"{target.model}={end.status or end.why.value}")
            else:
                path.append(f"{target.model}=cancelled")
                before.append(None)
        routed = winner.result()
        path.append(f"{routed.attempt.target.model}=200")
        return msgspec.structs.replace(routed, path=tuple(path), before=added(before))

    # ------------------------------------------------------------ the cheap one first

    async def _escalate(self, asked: Asked, route: Route, order: Sequence[Target]) -> Routed:
        """Answers that are judged have to be whole."""
        if asked.stream and asked.endpoint not in {"chat", "messages"}:
            raise invalid("A route that checks answers streams chats and messages alone.", "stream")
        whole = asked.whole() if asked.stream else asked
        try:
            check = check_named(route.check, asked.endpoint)
        except SettingsError as error:
            raise NoTarget(
                "model_unavailable", "The gateway is not set up for this now.", str(error)
            ) from None
        request = msgspec.json.decode(asked.body)
        path: list[str] = []
        before: list[int | None] = []
        best: Routed | None = None
        ended: Unanswered | OverBudget | None = None
        for target in order:
            try:
                found = await self._try(whole, route, target, path)
            except OverBudget as error:
                ended = error
                break
            except Failed as failure:
                ended = Unanswered(failure, target, tuple(path))
                if best is None and not _may_go_elsewhere(failure):
                    break
                continue
            if best is not None:
                before.append(best.attempt.cost)
            best = found
            if target is order[-1] or await self._passes(check, request, found.answer, asked.request_id):
                break
            path[-1] = f"{target.model}=not {route.check.partition(':')[0]}"
        if best is None:
            raise ended or _NO_MODELS
        # Where a stronger one could not be asked, the answer there is is better than none.
        answer = best.answer
        if asked.stream and isinstance(answer, Whole):
            answer = as_stream(asked, answer)
        return Routed(best.attempt, answer, tuple(path), added(before))

    async def _passes(
        self, check: Check, request: dict[str, Any], answer: Whole | Streamed, request_id: str
    ) -> bool:
        if not isinstance(answer, Whole):
            return True
        try:
            document = msgspec.json.decode(answer.body, type=dict[str, Any])
        except msgspec.DecodeError:
            return False
        try:
            # It may be a function of the user's own, which takes its time.
            return await asyncio.to_thread(check, request, document)
        except Exception as error:  # noqa: BLE001 - whatever a function of the user's own raises
            # The answer is paid for: it is not lost, and no other is bought, because a check is broken.
            self._books.log.failed(error, request_id)
            return True


def _may_go_elsewhere(failure: Failed) -> bool:
    """Whether another model may answer what this one did not."""
    return failure.why is not Why.REQUEST or failure.status in _ELSEWHERE or not failure.status
