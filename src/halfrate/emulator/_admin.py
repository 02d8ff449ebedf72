"""Routes of the emulator itself: the meter, bills, the clock, the faults, webhooks, a reset. They need no key."""

from typing import TYPE_CHECKING, Any, Protocol

from halfrate.emulator._exports_files import FILES
from halfrate.emulator._faults import Fault, parse_fault
from halfrate.emulator._webhooks import WebhookTarget, sign
from halfrate.emulator._wire import (
    ApiError,
    Document,
    Request,
    Response,
    as_list,
    json_response,
    read_document,
)

if TYPE_CHECKING:
    from halfrate.emulator._clock import Clock
    from halfrate.emulator._exports import Exports
    from halfrate.emulator._meter import Meter


class Administered(Protocol):
    """What these routes need of the emulator."""

    clock: "Clock"

    @property
    def meter(self) -> "Meter": ...
    @property
    def exports(self) -> "Exports": ...
    @property
    def faults(self) -> list[str]: ...
    def add_fault(self, fault: str | Fault) -> None: ...
    def clear_faults(self) -> None: ...
    def add_webhook(self, target: WebhookTarget) -> None: ...
    def advance(self) -> None: ...
    def reset(self) -> None: ...


class Admin:
    """Answers what is not the providers'."""

    def __init__(self, emulator: Administered) -> None:
        self._emulator = emulator

    async def respond(self, request: Request) -> Response | None:
        """The answer, or None when the path is not one of these."""
        if request.path not in {"/", "/meter"} and not request.path.startswith("/emulator/"):
            return None
        try:
            if request.path.startswith("/emulator/exports"):
                return await self._exports(request)
            return json_response(await self._document(request))
        except ValueError as error:
            return json_response({"error": {"message": str(error)}}, 400)
        except ApiError as error:
            return json_response({"error": {"message": error.message}}, error.status)

    async def _document(self, request: Request) -> Any:
        emulator = self._emulator
        found: Any
        match request.method, request.path:
            case "GET", "/":
                found = {"name": "batch API emulator", "openai": "/v1", "anthropic": "/", "meter": "/meter"}
            case "GET", "/meter":
                emulator.advance()
                found = emulator.meter.snapshot(ids=request.params().get("ids") == "1")
            case "GET", "/emulator/clock":
                found = {"now": emulator.clock.now()}
            case "POST", "/emulator/clock":
                found = self._move_clock(await read_document(request))
            case "GET", "/emulator/faults":
                found = {"faults": emulator.faults}
            case "POST", "/emulator/faults":
                found = self._add_faults(await read_document(request))
            case "DELETE", "/emulator/faults":
                emulator.clear_faults()
                found = {"faults": []}
            case "POST", "/emulator/webhooks":
                found = self._add_webhook(await read_document(request))
            case "POST", "/emulator/reset":
                emulator.reset()
                found = {"reset": True}
            case _:
                raise ApiError(404, f"There is no {request.method} {request.path} here.")
        return found

    def _move_clock(self, body: Document) -> Document:
        seconds = body.get("advance")
        move = getattr(self._emulator.clock, "advance", None)
        if not isinstance(seconds, int | float) or isinstance(seconds, bool):
            raise ApiError(400, 'send {"advance": seconds}')
        if move is None:
            raise ValueError("this emulator's clock cannot be moved")
        move(float(seconds))
        self._emulator.advance()
        return {"now": self._emulator.clock.now()}

    def _add_faults(self, body: Document) -> Document:
        # All are read before the first is added: a mistake in one adds none.
        faults = [parse_fault(str(spec)) for spec in as_list(body.get("add")) or ()]
        if not faults:
            raise ValueError('send {"add": ["name:key=value", ...]}')
        for fault in faults:
            self._emulator.add_fault(fault)
        return {"faults": self._emulator.faults}

    async def _exports(self, request: Request) -> Response:
        """The providers' bills as files, and mistakes planted in them."""
        emulator = self._emulator
        emulator.advance()
        name = request.path.removeprefix("/emulator/exports").removeprefix("/")
        match request.method, name:
            case "GET", "":
                return json_response({"files": list(FILES)})
            case "GET", "discrepancies":
                pass
            case "POST", "discrepancies":
                specs = [str(spec) for spec in as_list((await read_document(request)).get("plant")) or ()]
                if not specs:
                    raise ValueError('send {"plant": ["kind:key=value", ...]}')
                return json_response({"planted": emulator.exports.plant(specs)})
            case "DELETE", "discrepancies":
                emulator.exports.planted.clear()
            case "GET", _ if name in FILES:
                kind = "text/csv" if name.endswith(".csv") else "application/x-ndjson"
                return Response(
                    200, FILES[name](emulator.exports), {"content-type": f"{kind}; charset=utf-8"}
                )
            case _:
                raise ApiError(404, f"There is no {request.method} {request.path} here.")
        return json_response({"planted": emulator.exports.planted})

    def _add_webhook(self, body: Document) -> Document:
        url, secret = body.get("url"), body.get("secret")
        if not isinstance(url, str) or not isinstance(secret, str):
            raise ApiError(400, 'send {"url": "...", "secret": "whsec_..."}')
        sign(secret, "", 0, b"")
        self._emulator.add_webhook(WebhookTarget(url, secret))
        return {"url": url}
