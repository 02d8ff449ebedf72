"""Calls as rows of a batch: as what their providers take them, and their bodies."""

from typing import Any, cast

import msgspec

from halfrate.base.types import Capabilities, Endpoint
from halfrate.gateway.asking import Asked
from halfrate.gateway.errors import ApiError
from halfrate.gateway.targets import Target
from halfrate.providers.speaking import form_of, spoken
from halfrate.providers.translation import Untranslatable, responses
from halfrate.providers.translation.messages import to_chat

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def batched(target: Target, asked: Asked) -> Endpoint | None:
    """As what a provider takes such calls in batches; None where it does not."""
    facts = target.adapter.capabilities
    if not facts.batches:
        return None
    own = "anthropic" if asked.endpoint == "messages" else "openai"
    if facts.native_form == own and asked.endpoint in facts.endpoints:
        return asked.endpoint
    if spoken(facts, form_of(asked.endpoint)) is None:
        return None
    return "chat" if asked.endpoint == "responses" else asked.endpoint


def batch_body(asked: Asked, target: Target, endpoint: Endpoint) -> bytes:
    """The body as it is to stand in a batch, in one line. Raises ApiError for what its provider cannot be asked."""
    facts = target.adapter.capabilities
    fields = _fields(asked.body)
    for name in ("stream", "stream_options"):
        fields.pop(name, None)
    fields["model"] = msgspec.Raw(msgspec.json.encode(target.name))
    # Within a text a line break is always escaped: these stand between fields, where a space is as good.
    body = msgspec.json.encode(fields).replace(b"\n", b" ").replace(b"\r", b" ")
    own = "anthropic" if asked.endpoint == "messages" else "openai"
    try:
        if endpoint != asked.endpoint:
            body = msgspec.json.encode(responses.to_chat(msgspec.json.decode(body), target.name))
        if facts.native_form != own:
            chat: dict[str, Any] = msgspec.json.decode(body)
            chat = to_chat(chat, target.name) if endpoint == "messages" else chat
            form = form_of(endpoint)
            if form in facts.translates:
                target.adapter.from_openai(chat, target.name, form)
            _check_texts(chat, facts)
    except Untranslatable as fault:
        message = f"{fault.field}: cannot be asked of {target.title}: {fault.reason}"
        raise ApiError(400, message, code="invalid_value", param=fault.field) from None
    limit = facts.limits.row_bytes
    if len(body) > limit:
        message = f"{facts.title} takes {limit:,} bytes in a row of a batch, and this call has {len(body):,}."
        raise ApiError(413, message, code="request_too_large")
    return body


def _check_texts(body: dict[str, Any], facts: Capabilities) -> None:
    texts, most = body.get("input"), facts.limits.row_inputs
    if most is not None and isinstance(texts, list) and len(cast("list[Any]", texts)) > most:
        message = (
            f"Of what {facts.title} embeds in batches, {most} text stands in a row: a call that can wait has no more. "
            "Ask for each by itself, or at once without a deadline."
        )
        raise ApiError(400, message, code="invalid_value", param="input")
