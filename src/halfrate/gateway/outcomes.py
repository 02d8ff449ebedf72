"""What a call that runs in real time comes to, be it an answer or an error."""

from collections.abc import Mapping

import msgspec

from halfrate.base.errors import HalfrateError
from halfrate.base.money import added
from halfrate.gateway.asking import Asked
from halfrate.gateway.attempts import Passed, Streamed, Whole, Why
from halfrate.gateway.errors import ApiError, as_api_error
from halfrate.gateway.router import Router, Unanswered

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


async def outcome(router: Router, asked: Asked, tier: str) -> tuple[int, str | None, int | None, bytes]:
    """Status, tier, cost and body of what a call comes to; the cost in picodollars, None where it is unknown.

    Flex that has no room is no reason to wait.
    """
    tiers = [tier] if tier == "standard" else [tier, "standard"]
    for one in tiers:
        put = asked if one == "standard" else _in_tier(asked, one)
        try:
            routed = await router.answer(put)
        except Unanswered as error:
            if one != tiers[-1] and error.failure.why in {Why.LOAD, Why.REQUEST}:
                continue
            refusal = error.failure.error
            if isinstance(refusal, Passed):
                return refusal.status, None, 0, refusal.document
            cost = None if error.failure.why is Why.LOST else 0
            return refusal.status, None, cost, _encoded(refusal, asked)
        except ApiError as error:
            return error.status, None, 0, _encoded(error, asked)
        except HalfrateError as error:
            told = as_api_error(error)
            return told.status, None, 0, _encoded(told, asked)
        if isinstance(routed.answer, Whole):
            used = routed.answer.used.tier
            return 200, used, added((routed.before, routed.attempt.cost)), routed.answer.body
        _let_go(routed.answer)
    raise AssertionError("a call that is asked whole is answered whole")


def _in_tier(asked: Asked, tier: str) -> Asked:
    """The same, to be served in a tier."""
    fields: Mapping[str, msgspec.Raw] = _fields(asked.body)
    body = msgspec.json.encode({**fields, "service_tier": msgspec.Raw(msgspec.json.encode(tier))})
    return msgspec.structs.replace(asked, body=body)


def _encoded(error: ApiError, asked: Asked) -> bytes:
    return msgspec.json.encode(error.body(asked.surface, asked.request_id))


def _let_go(answer: Streamed) -> None:
    answer.stream.close()
