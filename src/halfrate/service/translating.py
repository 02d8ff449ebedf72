"""Whether a request in Anthropic's form can be put to a model of somebody else's."""

from collections.abc import Callable

import msgspec

from halfrate.providers.registry import adapter_class, decoder, split_model


def translation_fault(model: str) -> Callable[[bytes], str] | None:
    """Tells why a body in Anthropic's form cannot be asked of ACCOUNT/MODEL, "" where it can; None where such bodies go
    as they are. Raises UsageError for a model that there is not."""
    _, provider, name = split_model(model)
    facts = adapter_class(provider).capabilities
    if facts.native_form == "anthropic":
        return None
    from halfrate.providers.translation import Untranslatable
    from halfrate.providers.translation.messages import to_chat

    adapter = decoder(provider)

    def fault(body: bytes) -> str:
        try:
            adapter.from_openai(to_chat(msgspec.json.decode(body), name), name, "chat")
        except Untranslatable as error:
            return f"{error.field}: cannot be asked of {facts.title}: {error.reason}"
        return ""

    return fault
