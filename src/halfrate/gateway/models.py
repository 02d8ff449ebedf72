"""`/v1/models`: what a key may ask, in OpenAI's and in Anthropic's words."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from halfrate.base.errors import SettingsError, UsageError
from halfrate.gateway.calls import key_of, reply, whole_number
from halfrate.gateway.errors import ApiError
from halfrate.service.models import Offer, offers, resolve


class Models:
    """Models that have a price and an account that is set up, and routes over models; any other model that an account
    knows can be asked as well."""

    async def list(self, request: Request) -> Response:
        allowed = await self._allowed(request)
        if request.scope["halfrate.surface"] == "anthropic":
            limit = whole_number(request, "limit", 20, 1, 1_000)
            return reply(_anthropic_page(allowed, request.query_params.get("after_id"), limit))
        return reply({"object": "list", "data": [_openai(offer) for offer in allowed]})

    async def retrieve(self, request: Request) -> Response:
        name = request.path_params["id"]
        allowed = await self._allowed(request)
        route = next((offer for offer in allowed if offer.over and offer.name == name), None)
        if route is not None:
            return self._shown(request, route)
        try:
            wanted = await asyncio.to_thread(resolve, name)
        except SettingsError:
            # The model may well be there.
            raise
        except UsageError:
            raise _missing(name) from None
        found = next((offer for offer in allowed if offer.model == wanted), None)
        if found is None:
            raise _missing(name)
        return self._shown(request, Offer(found.model, name, found.provider))

    def _shown(self, request: Request, offer: Offer) -> Response:
        return reply(
            _anthropic(offer) if request.scope["halfrate.surface"] == "anthropic" else _openai(offer)
        )

    async def _allowed(self, request: Request) -> "list[Offer]":
        key = key_of(request)
        return [
            offer
            for offer in await asyncio.to_thread(offers)
            if any(map(key.allows, offer.over or (offer.model,)))
        ]


def _missing(name: str) -> ApiError:
    message = f"The model '{name}' does not exist, or this key may not ask it."
    return ApiError(404, message, code="model_not_found", param="model")


def _openai(offer: Offer) -> dict[str, object]:
    # Nobody here knows when a model was made; Anthropic's reference names the epoch for that.
    return {"id": offer.name, "object": "model", "created": 0, "owned_by": offer.provider}


def _anthropic(offer: Offer) -> dict[str, object]:
    return {
        "type": "model",
        "id": offer.name,
        "display_name": offer.name,
        "created_at": "1970-01-01T00:00:00Z",
    }


def _anthropic_page(allowed: list[Offer], after: str | None, limit: int) -> dict[str, object]:
    names = [offer.name for offer in allowed]
    start = names.index(after) + 1 if after in names else 0
    page = allowed[start : start + limit]
    return {
        "data": [_anthropic(offer) for offer in page],
        "has_more": len(allowed) > start + limit,
        "first_id": page[0].name if page else None,
        "last_id": page[-1].name if page else None,
    }
